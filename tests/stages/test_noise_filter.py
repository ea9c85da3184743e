"""NoiseFilter: gradients are gradients, chunks and passages keep their places, nothing stays behind in the model."""

import numpy as np
import pytest
import torch

from ctxshaper import Budget, Context, DeadlineError, InvalidInputError, LanguageModel, Parts, Passage
from ctxshaper.data.deadline import Deadline, under
from ctxshaper.models.gradients import embedding_gradients
from ctxshaper.stages import NoiseFilter

PASSAGES = ("The bridge was designed by Ada Moreau. It is red.", "Bananas are rich in potassium. They grow in bunches.")


@pytest.fixture(scope="module")
def tiny(tiny_model):
    return LanguageModel(tiny_model("llama"), device="cpu", dtype="float32")


def context(budget=None, title=""):
    passages = tuple(Passage(text, metadata={"title": title} if title else {}) for text in PASSAGES)
    return Context("Who designed it?", passages, lambda text: len(text.split()), Budget.parse(budget))


def test_a_gradients_length_is_how_fast_the_loss_rises_along_it(tiny):
    ids, answer = tiny.encoder.data("The bridge was designed")[0], tiny.encoder.data(" by Ada")[0]
    found = embedding_gradients(tiny.model, ids, answer)
    assert found.shape == (len(ids),)
    tokens = torch.tensor([[*ids, *answer]])
    embedded = tiny.model.get_input_embeddings()(tokens).detach()

    def loss(place, step, direction):
        moved = embedded.clone()
        moved[0, place] += step * direction
        with torch.no_grad():
            logits = tiny.model(inputs_embeds=moved).logits[0, len(ids) - 1 : -1]
        return float(torch.nn.functional.cross_entropy(logits.double(), tokens[0, len(ids) :]))

    for place in (0, len(ids) - 1):
        leaf = embedded.clone().requires_grad_()
        logits = tiny.model(inputs_embeds=leaf).logits[0, len(ids) - 1 : -1]
        torch.nn.functional.cross_entropy(logits, tokens[0, len(ids) :]).backward()
        direction = torch.nn.functional.normalize(leaf.grad[0, place], dim=0)
        rise = (loss(place, 1e-2, direction) - loss(place, -1e-2, direction)) / 2e-2
        assert found[place] == pytest.approx(rise, rel=0.02)
    tiny.model.zero_grad(set_to_none=True)
    embedding_gradients(tiny.model, ids, answer)
    assert all(weight.grad is None for weight in tiny.model.parameters())


def test_tokens_keep_their_places_and_a_chunks_mean_is_one(tiny):
    given = context(title="A title")
    for chunk in (16, 2048):
        readings = NoiseFilter(chunk=chunk)._read(given, tiny)
        for passage, reading in zip(given.passages, readings, strict=True):
            own, offsets = tiny.encoder.data(passage.source)
            assert len(reading.scores) == len(own)
            assert np.array_equal(reading.offsets, offsets)
            assert (reading.scores >= 0).all()
    every = np.concatenate([reading.scores for reading in readings])
    assert 0.3 < every.mean() < 3  # titles and line breaks belong to the chunk too


def test_with_an_adaptive_budget_what_lies_below_the_mean_goes(tiny):
    found = NoiseFilter()(context("auto"), Parts(language_model=tiny))
    scores = {d.span: d.score for d in found.trace.stages[0].decisions if d.passage == 0}
    assert all(d.kept == (d.score >= 0) for d in found.trace.stages[0].decisions)
    assert scores
    assert all(np.isfinite(score) for score in scores.values())
    assert NoiseFilter()(context(8), Parts(language_model=tiny)).tokens <= 8


def test_it_stops_at_the_deadline(tiny):
    with under(Deadline(1e-9)), pytest.raises(DeadlineError):
        NoiseFilter()(context(8), Parts(language_model=tiny))


@pytest.mark.parametrize("options", [{"chunk": 1}, {"answer": 0}, {"unit": "word"}])
def test_options_are_checked(options):
    with pytest.raises(InvalidInputError):
        NoiseFilter(**options)


def test_a_chunk_that_the_model_cannot_read_is_refused(tiny):
    long = Context("q " * tiny.context_window, (Passage(PASSAGES[0]),), len, Budget(tokens=5))
    with pytest.raises(InvalidInputError, match="smaller chunks or a shorter question"):
        NoiseFilter()(long, Parts(language_model=tiny))
