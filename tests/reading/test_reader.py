"""The reader against a direct implementation: one dense pass of the model's own eager attention with a block mask."""

import threading

import numpy as np
import pytest
import torch
from torch.nn import functional
from transformers import AutoModel

from ctxshaper import HeadProfile, InvalidInputError, Passage, Reader
from ctxshaper.reading.gem import _prompt_scores
from ctxshaper.reading.profile import Head
from tests.conftest import FAMILIES

QUERY = "Who designed the bridge?"
TEXTS = ["The bridge was designed by Ada Moreau.", "Bananas are rich in potassium. They grow.", "x"]
PROFILE = HeadProfile("tiny", (Head(1, 2, 0.5), Head(3, 0, 2.0), Head(3, 3, 1.0)), filter_layer=2)


_ENCODERS = {}


def tiny_reader(folder, **options) -> Reader:
    reader = Reader(folder, profile=options.pop("profile", PROFILE), dtype="float32", **options)
    # Parsing the tokenizer's 49,152 words is most of what a tiny reader costs.
    reader._model.__dict__["encoder"] = _ENCODERS.setdefault(folder, None) or reader.encoder
    _ENCODERS[folder] = reader.encoder
    return reader


def dense(folder, reader: Reader, query: str, texts: list[str], layer: int):
    """Attention weights [H, S, S] of a layer in an ordinary pass, whose each token is, and the tokens of the query.

    Below the layer the query sees the prefix and itself, at the layer also all passages.
    """
    model = AutoModel.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager").eval()
    prefix, encoder, end = reader.layout.prefix, reader.encoder, reader.layout.end
    pieces = [encoder.data(text)[0] for text in texts]
    before = encoder.markup(reader.profile.before_query)
    own = encoder.data(query)[0]
    asked = before + own + encoder.markup(reader.profile.after_query)
    ids, places, block = list(prefix), list(range(len(prefix))), [0] * len(prefix)
    for number, piece in enumerate(pieces, start=1):
        ids += piece
        places += range(end - len(piece), end)
        block += [number] * len(piece)
    ids, places, block = ids + asked, places + list(range(end, end + len(asked))), block + [-1] * len(asked)
    owner = torch.tensor(block)
    causal = torch.ones(len(ids), len(ids), dtype=torch.bool).tril()
    alone = (owner[None] == 0) | (owner[None] == owner[:, None])

    def masked(seen):
        return torch.where(seen & causal, 0.0, torch.finfo().min)[None, None]

    def look_at_passages(module, args, kwargs):
        return args, kwargs | {"attention_mask": masked(alone | (owner[:, None] == -1))}

    model.layers[layer].self_attn.register_forward_pre_hook(look_at_passages, with_kwargs=True)
    masks = dict.fromkeys(("full_attention", "sliding_attention"), masked(alone))
    keyed = bool(getattr(model.config, "layer_types", None)) and model.config.model_type.startswith(("gemma", "qwen"))
    with torch.inference_mode():
        weights = model(
            input_ids=torch.tensor([ids]),
            position_ids=torch.tensor([places]),
            attention_mask=masks if keyed else masks["full_attention"],
            output_attentions=True,
            use_cache=False,
        ).attentions
    rows = slice(len(ids) - len(asked) + len(before), len(ids) - len(asked) + len(before) + len(own))
    return weights[layer][0], owner, rows


@pytest.mark.parametrize("family", FAMILIES)
def test_a_query_read_alone_is_a_dense_pass_with_a_block_mask(tiny_model, family):
    folder = tiny_model(family)
    reader = tiny_reader(folder, keys="bfloat16")
    expected = 0
    for head in PROFILE.heads:
        weights, owner, rows = dense(folder, reader, QUERY, TEXTS, head.layer)
        expected = expected + head.weight * weights[head.head, rows].mean(0)
    reading = reader.read(QUERY, TEXTS)
    got = np.concatenate([read.scores for read in reading.passages])
    wanted = torch.cat([expected[owner == number] for number in (1, 2, 3)]).numpy()
    assert got.shape == wanted.shape
    # bfloat16 keys; the rest is float32.
    assert np.linalg.norm(got - wanted) < 0.02 * np.linalg.norm(wanted)
    rounded = np.concatenate([read.scores for read in tiny_reader(folder).read(QUERY, TEXTS).passages])
    assert np.linalg.norm(rounded - wanted) < 0.08 * np.linalg.norm(wanted)


@pytest.mark.parametrize("independent", [False, True])
def test_gem_scores_follow_the_rule_in_a_few_lines(tiny_model, independent):
    folder = tiny_model("llama")
    reader = tiny_reader(folder)
    encoder, prefix = reader.encoder, reader.layout.prefix
    model = AutoModel.from_pretrained(folder, dtype=torch.float32).eval()
    caught = {}

    def hook(module, args, kwargs, output):
        caught["hidden"], caught["positions"] = kwargs["hidden_states"], kwargs["position_embeddings"]

    layer = model.layers[PROFILE.filter_layer].self_attn
    layer.register_forward_hook(hook, with_kwargs=True)
    asked = reader.layout.query(QUERY)[0]

    def rotated(ids, places):
        from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

        with torch.inference_mode():
            model(input_ids=torch.tensor([ids]), position_ids=torch.tensor([places]))
            hidden = caught["hidden"]
            q = layer.q_proj(hidden).view(1, len(ids), -1, layer.head_dim).transpose(1, 2)
            k = layer.k_proj(hidden).view(1, len(ids), -1, layer.head_dim).transpose(1, 2)
            q, k = apply_rotary_pos_emb(q, k, *caught["positions"])
        return q[0], k[0].repeat_interleave(2, 0)

    def rule(q, k):
        raw = (q[:, -1:] @ k.transpose(1, 2)).sum(0)
        return functional.avg_pool1d(raw[None], 5, stride=1, padding=2)[0, 0].numpy()

    if independent:
        ids = encoder.data(TEXTS[0])[0]
        k = rotated([*prefix, *ids], [*range(len(prefix)), *range(reader.layout.end - len(ids), reader.layout.end)])[1]
        places = [*range(len(prefix)), *range(reader.layout.end, reader.layout.end + len(asked))]
        q = rotated([*prefix, *asked], places)[0]
        expected = [rule(q, k[:, len(prefix) :])]
        reading = reader.read_gem(QUERY, TEXTS[:1], independent=True)
        assert "not remembered" in reading.notes["read_anew"]
        both = tiny_reader(folder, sets=["evidence", "gem"])
        for hits in (0, 1):
            kept = both.read_gem(QUERY, TEXTS[:1], independent=True)
            assert kept.notes["cache_hits"] == hits
            assert "read_anew" not in kept.notes
            assert np.array_equal(kept.passages[0].scores, reading.passages[0].scores)
    else:
        ids, borders = list(prefix), []
        for text in TEXTS:
            start = len(ids)
            ids += encoder.data(text)[0]
            borders.append((start, len(ids)))
            ids += encoder.markup("\n\n")
        ids += asked
        scores = rule(*rotated(ids, range(len(ids))))
        expected = [scores[a:b] for a, b in borders]
        reading = reader.read_gem(QUERY, TEXTS)
    for read, wanted in zip(reading.passages, expected, strict=True):
        # Independently read keys are rounded to 8 bits.
        assert np.linalg.norm(read.scores - wanted) < (0.02 if independent else 1e-4) * np.linalg.norm(wanted)


def test_calibration_takes_off_what_a_dummy_gets_in_a_passages_place(tiny_model):
    reader = tiny_reader(tiny_model("llama"))
    passages = [Passage(text, metadata={"title": "T" * n}) for n, text in enumerate(TEXTS)]
    plain, calibrated = (reader.read_gem(QUERY, passages, calibrated=c).passages for c in (False, True))
    dummy = reader.encoder.data(" N/A")[0]
    ids, ranges, tokens = reader.layout.prompt(QUERY, passages)
    blank, start = [], 0
    for (a, b), one in zip(ranges, tokens, strict=True):
        length = b - a + one.heading
        blank += ids[start : a - one.heading] + (dummy * length)[:length]
        start = b
    scores = _prompt_scores(reader._model, blank + ids[start:])
    for before, after, (a, b) in zip(plain, calibrated, ranges, strict=True):
        np.testing.assert_allclose(before.scores - after.scores, scores[a:b].mean(), rtol=1e-4, atol=1e-4)
    # Where nothing but dummies is read, nothing is left of the places' own pull.
    empty = reader.read_gem(QUERY, [" N/A" * 30] * 3, calibrated=True)
    np.testing.assert_allclose([p.scores.mean() for p in empty.passages], 0, atol=1e-4)


def test_scores_do_not_depend_on_the_order_of_passages(reader, passages):
    forward = reader.read(QUERY, passages)
    backward = reader.read(QUERY, passages[::-1])
    for one, other in zip(forward.passages, backward.passages[::-1], strict=True):
        assert np.array_equal(one.scores, other.scores)


def test_fresh_readers_agree_bit_for_bit_whatever_the_order(tiny_model):
    folder = tiny_model("llama")
    one = tiny_reader(folder).read(QUERY, TEXTS)
    other = tiny_reader(folder).read(QUERY, TEXTS[::-1])
    for a, b in zip(one.passages, other.passages[::-1], strict=True):
        assert np.array_equal(a.scores, b.scores)


def test_the_second_query_finds_the_passages_remembered(tiny_model, passages):
    reader = tiny_reader(tiny_model("llama"))
    reader.remember(passages)
    notes = reader.read(QUERY, passages).notes
    assert (notes["cache_hits"], notes["cache_misses"]) == (3, 0)
    tokens = sum(len(ids) for passage in passages for ids in reader.layout.passage(passage).ids)
    assert reader.cache.nbytes == reader.cache.token_bytes * tokens


def test_a_full_cache_forgets_the_least_recently_used_and_changes_no_result(tiny_model, passages):
    wanted = tiny_reader(tiny_model("llama")).read(QUERY, passages)
    small = tiny_reader(tiny_model("llama"), cache_bytes=2_000)
    misses = 0
    for _ in range(2):
        got = small.read(QUERY, passages)
        misses += got.notes["cache_misses"]
        for a, b in zip(got.passages, wanted.passages, strict=True):
            np.testing.assert_allclose(a.scores, b.scores, rtol=1e-3, atol=1e-6)
    assert small.cache.nbytes <= 2_000
    assert misses > 3


def test_a_long_passage_is_read_in_windows_and_every_token_has_a_score(tiny_model):
    reader = tiny_reader(tiny_model("gemma3_text"))  # sees 256 positions of passages
    text = " ".join(f"word{i} is number {i}." for i in range(400))
    read = reader.read(QUERY, [text]).passages[0]
    assert len(reader.layout.passage(Passage(text)).windows) > 3
    assert read.offsets[0, 0] == 0
    assert read.offsets[-1, 1] == len(text)
    assert (read.scores > 0).all()


def test_a_long_passage_is_found_by_its_needle(reader):
    filler = "The committee met again on Tuesday and discussed the minutes of the last meeting. " * 100  # two windows
    needle = "The secret code of the vault is 7391. "
    text = filler + needle + filler
    read = reader.read("What is the secret code of the vault?", [text]).passages[0]
    best = int(np.argmax(read.scores))
    assert len(filler) <= read.offsets[best, 0] < len(filler) + len(needle)


def test_special_tokens_in_a_passage_are_plain_text(reader):
    ids, offsets = reader.encoder.data("a <|im_end|> b")
    assert reader.encoder.markup("<|im_end|>")[0] not in ids
    assert offsets[-1, 1] == len("a <|im_end|> b")


@pytest.mark.parametrize(
    "text", ["", " \n", "\x00\x00", "\ud800 lone", "مرحبا بالعالم. كيف الحال؟", "🦊" * 50, "\x1b[31m"]
)
def test_any_text_can_be_read(reader, text):
    read = reader.read("What is this?", [text, "Some other text."]).passages[0]
    assert np.isfinite(read.scores).all()
    assert all(0 <= a <= b <= len(text) for a, b in read.offsets)


def test_too_much_text_is_refused_clearly(tiny_model):
    reader = tiny_reader(tiny_model("llama"))
    with pytest.raises(InvalidInputError, match="5,000,000 characters"):
        reader.read("What?", ["a " * 2_500_000])
    small = tiny_reader(tiny_model("llama"), max_tokens=20)
    with pytest.raises(InvalidInputError, match="at most 20"):
        small.read("What?", ["one two three four five six seven eight"] * 3 + ["and this is another long one " * 3])


def test_too_long_a_query_is_refused_clearly(tiny_model):
    reader = tiny_reader(tiny_model("gemma3_text"))
    with pytest.raises(InvalidInputError, match="takes at most"):
        reader.read("why " * 400, TEXTS)
    with pytest.raises(InvalidInputError, match="empty"):
        reader.read("  ", TEXTS)


def test_threads_share_one_reader(tiny_model, passages):
    reader, results, errors = tiny_reader(tiny_model("llama")), [None] * 16, []

    def work(i):
        try:
            results[i] = reader.read(QUERY, passages).passage_scores()
        except Exception as error:  # noqa: BLE001  # whatever it is, it fails the test below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert all(np.allclose(r, results[0], rtol=1e-4) for r in results)


def test_a_model_without_profile_warns_and_names_the_command(tiny_model):
    reader = Reader(tiny_model("qwen2"), dtype="float32")
    with pytest.warns(UserWarning, match="ctxshaper calibrate"):
        reading = reader.read(QUERY, TEXTS)
    assert reader.profile.contrast
    assert all(np.isfinite(p.scores).all() for p in reading.passages)


def test_only_the_layers_that_are_read_are_loaded(tiny_model):
    reader = tiny_reader(tiny_model("llama"), profile=HeadProfile("tiny", (Head(0, 0),), filter_layer=1))
    assert len(reader.decoder.model.layers) == 2


def test_an_attention_that_differs_is_refused(tiny_model, monkeypatch):
    from ctxshaper import UnsupportedModelError
    from ctxshaper.models import decoder

    original = decoder._Plain.attend
    monkeypatch.setattr(decoder._Plain, "attend", lambda *a: original(*a) * 1.5)
    with pytest.raises(UnsupportedModelError, match="does not reproduce"):
        tiny_reader(tiny_model("llama")).read(QUERY, TEXTS)


def test_causal_reading_beyond_the_window_is_refused(tiny_model):
    reader = tiny_reader(tiny_model("gemma3_text"))
    with pytest.raises(InvalidInputError, match="independent reading"):
        reader.read_gem(QUERY, ["some words " * 600])
