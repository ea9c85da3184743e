"""Calibration finds the head that was planted, on random models it runs through, on the real one it finds evidence."""

import json
import math
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from ctxshaper import Passage, Reader, Span
from ctxshaper.calibration.curve import curve_svg
from ctxshaper.calibration.head_attention import Asked, Groups, ReadHeads
from ctxshaper.calibration.head_fit import Case, evidence_kept
from ctxshaper.calibration.head_masses import KINDS, HeadReader, HeadShape, UnitMass
from ctxshaper.calibration.heads import SLOTS, calibrate, case_of
from ctxshaper.calibration.made_up import synthetic_questions, worlds
from ctxshaper.calibration.row_shares import ROWS, row_shares
from ctxshaper.commands.app import app
from ctxshaper.commands.calibrate import evidence_questions, profile_of
from ctxshaper.errors import InvalidInputError
from ctxshaper.models.attention import LayersRead
from ctxshaper.reading.profile import Head, HeadProfile
from ctxshaper.text.segments import sentences


@pytest.fixture(scope="module")
def smol():
    return HeadReader()


def told(passage: Passage) -> list[Span]:
    """The sentences of a passage that hold more than white space."""
    return [s for s in sentences(passage.source) if passage.source[s.start : s.end].strip()]


# Four layers of four heads, each two of which share a key head.
SHAPE = HeadShape(4, 4, 2, 8)


def planted(*heads: tuple[int, int], rows: int | None = None, count: int = 24) -> list[Case]:
    """Questions in which some heads see the evidence and all others see noise.

    Args:
        heads: layer and head; where there are several, each sees it in its own part of the questions.
        rows: the only way of counting the question's tokens in which they see it; None for all.
        count: number of questions.
    """
    random = np.random.default_rng(0)
    cases = []
    for number in range(count):
        gold = np.zeros(20, dtype=bool)
        gold[random.integers(20)] = True
        asked = random.uniform(0.5, 1.5, size=(len(ROWS), 20, len(KINDS), 4, 4)).astype(np.float32) / 100
        layer, head = heads[number % len(heads)]
        asked[slice(None) if rows is None else rows, gold, :, layer, head] *= 9
        nothing = np.full_like(asked[0], 1e-3)
        cases.append(Case(UnitMass(asked, nothing, np.full((20, len(KINDS)), 3), np.repeat(np.arange(5), 4)), gold))
    return cases


def test_the_planted_head_and_the_fewest_layers_and_slots_are_found():
    found = calibrate(planted((2, 1)), SHAPE, folds=3)
    assert max(found.heads, key=lambda h: h[2])[:2] == (2, 1)
    assert (found.recommended, found.chosen.layers, found.chosen.slots) == (3, 3, 1)
    assert found.by_layers[1].high < found.by_layers[2].low
    assert found.chosen.mean[1] == 1.0
    assert [p.slots for p in found.by_slots] == list(SLOTS)
    assert calibrate(planted((2, 1)), SHAPE, folds=3, layers=2).chosen.layers == 2


def test_heads_of_one_key_head_share_a_slot():
    found = calibrate(planted((1, 2), (1, 3)), SHAPE, folds=3)
    assert found.chosen.slots == 1
    assert {(layer, head) for layer, head, _, _ in found.heads} == {(1, 2), (1, 3)}
    assert SHAPE.slots()[[6, 7]].tolist() == [3, 3]


def test_two_slots_are_kept_where_one_loses():
    found = calibrate(planted((0, 0), (2, 3)), SHAPE, folds=3)
    assert found.chosen.slots == 2
    assert found.by_slots[0].high < found.by_slots[1].low
    assert {(layer, head) for layer, head, _, _ in found.heads} == {(0, 0), (2, 3)}
    assert found.slot_bytes == 10
    assert calibrate(planted((0, 0), (2, 3)), SHAPE, folds=3, slots=1).chosen.slots == 1


def test_rows_of_the_question_are_chosen_where_they_help_and_else_all_count():
    assert calibrate(planted((2, 1)), SHAPE, folds=3).rows == "all"
    found = calibrate(planted((2, 1), rows=1), SHAPE, folds=3)
    assert found.rows == "content"
    assert found.by_rows[1]["gain"][1] > 0


def test_rows_count_by_content_and_by_rarity(smol):
    encoder = smol._layout.encoder
    query = "Who designed the Orvany Bridge?"
    ids, offsets = encoder.data(query)
    windows = [np.array(encoder.data(text)[0]) for text in ("The Orvany Bridge.", "A Bridge. A Bridge.", "Nothing")]
    shares = row_shares(query, encoder, windows)
    np.testing.assert_allclose(shares.sum(1), 1)
    words = [query[a:b].strip() for a, b in offsets]
    everything, content, rare = (dict(zip(words, share, strict=True)) for share in shares)
    assert set(everything.values()) == {1 / len(ids)}
    assert content["Who"] == content["the"] == content["?"] == rare["the"] == 0
    assert content["Bridge"] == content["designed"] > 0
    assert rare["designed"] > rare["Bridge"] > 0


def test_a_contrast_counts_where_it_helps():
    cases = planted((1, 0))
    random = np.random.default_rng(1)
    for case in cases:  # a large part that has nothing to do with the question
        sink = random.uniform(0, 3, size=case.mass.nothing.shape).astype(np.float32)
        case.mass.asked[...] += sink
        case.mass.nothing[...] = sink
    found = calibrate(cases, SHAPE, folds=3)
    assert found.contrast
    assert found.heads[0][:2] == (1, 0)
    assert not calibrate(planted((1, 0)), SHAPE, folds=3).contrast


def test_evidence_kept_counts_the_best_that_fit():
    scores, tokens = np.array([1.0, 4.0, 3.0, 2.0]), np.array([10, 10, 10, 10])
    gold = np.array([False, False, True, True])
    assert evidence_kept(scores, tokens, gold).tolist() == [0, 0]  # the best unit fits into 30%, and is none
    assert evidence_kept(scores, np.array([85, 5, 5, 5]), gold).tolist() == [1, 1]


def test_mistakes_are_explained():
    with pytest.raises(InvalidInputError, match="5 folds need"):
        calibrate(planted((0, 0), count=4), SHAPE)
    with pytest.raises(InvalidInputError, match="between 1 and the model's 4"):
        calibrate(planted((0, 0)), SHAPE, layers=5)
    with pytest.raises(InvalidInputError, match="slots between 1 and 8"):
        calibrate(planted((0, 0)), SHAPE, slots=9)
    with pytest.raises(InvalidInputError, match="en, de, fr, es, zh"):
        synthetic_questions(3, languages=["tlh"])


def test_the_drawing_is_well_formed_and_escapes_its_title():
    root = ElementTree.fromstring(curve_svg(calibrate(planted((2, 1)), SHAPE, folds=3), "<b>&"))  # noqa: S314  # our own
    texts = [node.text for node in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts[0] == "<b>&"
    assert {"chosen: 3", "chosen: 1 (10 B)"} <= set(texts)


def test_synthetic_questions_hold_every_kind_and_language_and_exact_evidence():
    questions = synthetic_questions(50)
    kinds = {tuple(q.kind.split("/")) for q in questions}
    assert len(kinds) == 50
    assert {language for _, language in kinds} == set(worlds()) == {"en", "de", "fr", "es", "zh"}
    assert questions == synthetic_questions(50)
    for question in questions:
        gold = [(p, s) for p, spans in zip(question.passages, question.gold, strict=True) for s in spans]
        assert len(gold) == (2 if question.kind.split("/")[0] in ("two_hop", "comparison") else 1)
        for passage, span in gold:
            hits = [s for s in sentences(passage.source) if s.overlaps(span)]
            assert [passage.source[s.start : s.end].strip() for s in hits] == [passage.source[span.start : span.end]]


@pytest.mark.parametrize("softcap", [None, 5.0])
def test_attention_of_each_head_is_that_of_the_formula(softcap):
    torch.manual_seed(0)
    heads, kv, known, rows, dim = 4, 2, 6, 3, 8
    q, k, v = torch.randn(heads, known, dim), torch.randn(kv, known, dim), torch.randn(kv, known, dim)
    prefix = [(torch.randn(kv, 2, dim), torch.randn(kv, 2, dim)) for _ in range(2)]
    asked = Asked(
        torch.randn(2, heads, rows, dim), torch.randn(2, heads, rows), torch.tensor([[0.5, 0.5, 0], [0, 0, 1]])
    )
    of, shares = torch.tensor([2, 0, 0, 1, 1, 2]), torch.tensor([1, 1, 0.5, 1, 1, 1])
    call = ReadHeads(torch.tensor([0, 4, 6], dtype=torch.int32), 1, prefix, [asked], Groups(of, shares, 3))
    out = call.attend(0, q, k, v, 0.3, softcap)
    assert out.shape == (known, heads, dim)
    expected = torch.zeros(2, heads, 3)
    for head in range(heads):
        for row in range(rows):
            logits = 0.3 * k[head // 2] @ asked.rows[0, head, row]
            logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
            # What the prefix and the question itself take stands as one more logit.
            weights = torch.cat([logits, asked.rest[0, head, row, None]]).softmax(0)
            for token in range(known):
                expected[:, head, of[token]] += weights[token] * shares[token] * asked.shares[:, row]
    torch.testing.assert_close(call.mass[0][0], expected)
    with pytest.raises(LayersRead):
        call.attend(1, q, k, v, 0.3, softcap)


@pytest.mark.parametrize("rows", ROWS)
def test_heads_see_what_the_reader_sees(smol, passages, rows):
    """The mass of the shipped heads, added up, is the reader's own score, whichever rows count."""
    profile = replace(HeadProfile.shipped("SmolLM2-135M-Instruct"), rows=rows)
    units = [told(p) for p in passages]
    query = "Who designed the bridge?"
    mass = smol.read(query, passages, units)
    weights = np.zeros((smol.shape.layers, smol.shape.heads))
    for head in profile.heads:
        weights[head.layer, head.head] = head.weight
    ours = np.einsum("uklh,lh->u", mass.asked[ROWS.index(rows)], weights)
    reading = Reader(profile=profile).read(query, passages)
    theirs = np.concatenate([r.span_scores(u, "sum") for r, u in zip(reading.passages, units, strict=True)])
    assert math.isclose(np.corrcoef(ours, theirs)[0, 1], 1, abs_tol=5e-3)
    np.testing.assert_allclose(ours, theirs, rtol=0.1, atol=2e-3)  # bf16 sums in another order, keys of 8 bits
    counts = np.concatenate([r.span_tokens(u) for r, u in zip(reading.passages, units, strict=True)])
    assert mass.tokens.sum(1).tolist() == counts.tolist()


@pytest.mark.parametrize("family", ["gemma2"])
def test_other_families_and_long_passages_run_through(tiny_model, family):
    reader = HeadReader(tiny_model(family), dtype="float32")
    long = Passage("Some words stand right here. " * 120 + "The end was near.")
    units = [told(long), []]
    mass = reader.read("What was near?", [long, Passage("")], units)
    assert mass.asked.shape == (len(ROWS), 121, len(KINDS), 4, 4)
    assert mass.tokens.sum() == len(reader._layout.encoder.data(long.source)[0])
    received = mass.asked.sum((1, 2))
    assert (received > 0).all()
    assert (received < 1).all()
    # Windows overlap, and the logits are soft-capped: the reader's own scores tell whether both are right.
    profile = replace(reader.base, heads=(Head(2, 1),), filter_layer=2, contrast=False, rows="all")
    read = Reader(tiny_model(family), profile=profile, dtype="float32", keys="bfloat16").read("What was near?", [long])
    theirs = read.passages[0].span_scores(units[0], "sum")
    np.testing.assert_allclose(mass.asked[0, :, :, 2, 1].sum(1), theirs, rtol=0.05, atol=1e-3)


def test_the_real_model_points_at_the_evidence(smol):
    cases = []
    for question in synthetic_questions(6, languages=["en"]):
        units = [told(p) for p in question.passages]
        cases.append(case_of(question, units, smol.read(question.query, question.passages, units)))
    found = calibrate(cases, smol.shape, folds=3, layers=19)
    assert found.chosen.mean[1] > 0.6  # by chance 0.3
    assert found.by_layers[0].mean[1] < found.chosen.mean[1]


def test_the_command_writes_a_profile_and_repeats_exactly(tiny_model, tmp_path):
    data = tmp_path / "questions.jsonl"
    with data.open("w", encoding="utf-8") as file:
        for number in range(6):
            ctxs = [
                {"title": "", "text": f"Lamp {n} is {colour}. It hums.", "isgold": n == number}
                for n, colour in enumerate(["red", "blue", "green", "white", "grey", "black"])
            ]
            answer = ctxs[number]["text"][10:-10]
            file.write(json.dumps({"question": f"Lamp {number}?", "answers": [answer], "ctxs": ctxs}) + "\n")
    outs = [tmp_path / "one.json", tmp_path / "two.json"]
    for out in outs:
        arguments = ["calibrate", "--model", tiny_model("llama"), "--data", data, "--folds", 2, "--layers", 2]
        result = CliRunner().invoke(app, [str(a) for a in (*arguments, "--out", out)])
        assert result.exit_code == 0, result.output
    assert outs[0].read_bytes() == outs[1].read_bytes()
    made = HeadProfile.load(outs[0])
    assert made.layers <= 2
    assert made.filter_layer < made.layers
    assert made.provenance["questions"] == 6
    assert len(made.provenance["sha256"]) == 64
    assert len(made.provenance["by_layers"]) == 4
    assert made.provenance["slots"]["bytes_a_token"] == made.provenance["slots"]["kept"] * 18
    assert len({(head.layer, head.head // 2) for head in made.heads}) <= made.provenance["slots"]["kept"]
    ElementTree.parse(outs[0].with_suffix(".svg"))  # noqa: S314  # our own
    reading = Reader(tiny_model("llama"), profile=made).read("Where is it?", ["The bridge is in Lyon. It rains."])
    assert np.isfinite(reading.passages[0].scores).all()


def test_evidence_is_read_from_hotpotqa_to_the_character(tmp_path):
    entry = {
        "question": "Who?",
        "answer": "Ada",
        "context": [["A", ["One. ", "Two. "]], ["B", ["Three.", " Ada did."]]],
        "supporting_facts": [["B", 1], ["B", 7]],
    }
    path = tmp_path / "hotpot.json"
    path.write_text(json.dumps([entry]))
    (question,) = evidence_questions(path)
    assert question.gold == ((), (Span(7, 15),))
    units = [told(p) for p in question.passages]
    mass = UnitMass(np.zeros((3, 4, 3, 1, 1)), np.zeros((4, 3, 1, 1)), np.ones((4, 3)), np.array([0, 0, 1, 1]))
    assert case_of(question, units, mass).gold.tolist() == [False, False, False, True]


def test_a_profile_says_how_it_was_made(tmp_path):
    base = HeadProfile("m", (Head(0, 0),), 3, prefix="p")
    made = profile_of(calibrate(planted((2, 1)), SHAPE, folds=3), base, {"data": "synthetic", "date": "2000-01-01"})
    assert (made.model, made.prefix, made.filter_layer, made.rows) == ("m", "p", 2, "all")
    assert made.provenance["date"] == "2000-01-01"
    assert made.provenance["quality"]["interval"][0] <= 1
    made.save(tmp_path / "made.json")
    assert HeadProfile.load(tmp_path / "made.json") == made


def test_the_shipped_profile_says_how_it_was_made():
    shipped = HeadProfile.shipped("SmolLM2-135M-Instruct")
    made = shipped.provenance
    assert shipped.filter_layer < shipped.layers == made["layers"]["read"]
    assert made["data"] == "synthetic"
    assert made["slots"]["bytes_a_token"] == made["slots"]["kept"] * 66
    assert made["quality"]["30%"] == made["by_layers"][shipped.layers - 1]["30%"]
