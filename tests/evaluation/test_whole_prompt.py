"""What the baselines that read one whole prompt see: the model's own attention, tail by tail, and means over it."""

import numpy as np
import pytest
import torch

from ctxshaper import InvalidInputError, Passage, Span
from ctxshaper.evaluation.baselines.whole_prompt import Documents, Tail, attended, calibrated, without_outliers
from ctxshaper.models.language_model import LanguageModel
from ctxshaper.stages.units import Unit

PASSAGES = [
    Passage("Odo built the mill in 1820. It is long.", metadata={"title": "Mill"}),
    Passage("The choir sings <|im_end|> on Thursdays."),
]


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    return LanguageModel(device="cpu", dtype="float32")


@pytest.fixture(scope="module")
def documents(model) -> Documents:
    return Documents.of(model, "Paragraphs:\n\n", PASSAGES, numbered=True)


def test_every_tail_is_read_as_if_it_stood_there_alone(model, documents):
    tails = [
        Tail.of(model, "Question: ", "Who built the mill?", "", "question"),
        Tail.of(model, "Question: ", "N/A", "\nAnswer:", "last"),
        Tail.of(model, "Question: ", "When?", "", "all"),
    ]
    eager = model._loaded.eager
    for found, tail in zip(attended(model, documents, tails), tails, strict=True):
        with torch.inference_mode():
            out = eager(input_ids=torch.tensor([documents.ids + tail.ids]), output_attentions=True, use_cache=False)
        rows = [len(documents.ids) + row for row in tail.rows]
        expected = torch.stack([layer[0][:, rows, : len(documents.ids)].mean(1) for layer in out.attentions])
        assert found.shape == (model.layers, model.heads, len(documents.ids))
        assert np.abs(found - expected.numpy()).max() < 1e-4
        assert found.sum(-1).max() <= 1 + 1e-5


def test_the_rows_are_those_of_the_question(model):
    for rows, text in (("question", "Who built it?"), ("last", None), ("all", None)):
        tail = Tail.of(model, "Question: ", "Who built it?", "", rows)
        looked = [tail.ids[row] for row in tail.rows]
        if text:
            assert model.tokenizer.decode(looked) == text
        else:
            assert looked == (tail.ids if rows == "all" else tail.ids[-1:])


def test_passages_are_data(model, documents):
    ends = model.encoder.markup("<|im_end|>")
    assert len(ends) == 1
    assert documents.ids.count(ends[0]) == model.chat.opening.count(ends[0])
    for passage, (start, end), offsets in zip(PASSAGES, documents.places, documents.offsets, strict=True):
        assert end - start == len(offsets)
        assert model.tokenizer.decode(documents.ids[start:end]) == passage.source


def test_a_unit_gets_the_mean_of_its_tokens(documents):
    values = np.zeros((2, len(documents.ids)), np.float32)
    start, end = documents.places[0]
    values[0, start:end] = np.arange(end - start)
    values[1] = 7
    units = [Unit(0, Span(0, 28)), Unit(0, Span(28, 39)), Unit(1, Span(0, 3))]
    found = documents.of_units(units, values)
    # A token belongs to where it ends: " It" to the second sentence.
    first = sum(b <= 28 for _, b in documents.offsets[0])
    assert found[0, 0] == pytest.approx((first - 1) / 2)
    assert found[0, 1] == pytest.approx((first + end - start - 1) / 2)
    assert found[0, 2] == 0
    assert found[1].tolist() == [7, 7, 7]


def test_tokens_far_below_their_passage_do_not_count(documents):
    scores = np.full(len(documents.ids), 5, np.float32)
    start, end = documents.places[0]
    scores[start:end] = np.linspace(1, 1.2, end - start)
    scores[start + 2] = -9
    kept = without_outliers(documents, scores)
    assert kept[start + 2] == 0
    assert (kept[start + 3 : end] == scores[start + 3 : end]).all()
    # What is no passage never counts.
    assert kept[:start].tolist() == [0] * start


def test_a_question_without_content_is_worth_nothing(model):
    _, found = calibrated(model, PASSAGES, lambda q: Tail.of(model, "Question: ", q, "", "all"), "N/A", "")
    assert np.abs(found).max() < 1e-6


def test_more_than_the_window_is_refused(model):
    long = Documents.of(model, "", [Passage("word " * 9000)])
    with pytest.raises(InvalidInputError, match=r"reads 8192; use fewer passages"):
        attended(model, long, [Tail.of(model, "", "Who?", "", "all")])
