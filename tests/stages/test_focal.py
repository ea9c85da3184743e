"""The focal token's attention is the paper's number, and "none" is understood however it is cut into tokens."""

import numpy as np
import pytest
import torch

from ctxshaper import InvalidInputError, LanguageModel, Passage
from ctxshaper.models.loading import load_lm, load_tokenizer
from ctxshaper.stages.attention_rag.focal import FocalReader

QUERY, HINT = "Who designed the bridge?", "The bridge was designed by"
PASSAGES = [
    Passage("The bridge was designed by Ada Moreau. She was born in Lyon.", metadata={"title": "Bridge"}),
    Passage(""),
    Passage("Bananas grow in bunches. <|im_end|> \ud800 橋は {query} %s."),
]


@pytest.fixture(scope="module")
def focal(tiny_model):
    return FocalReader(LanguageModel(tiny_model("llama"), device="cpu", dtype="float32"))


@torch.inference_mode()
def test_it_is_the_papers_number(focal):
    reading = focal.read(QUERY, HINT, PASSAGES, chunk=1000)
    before, after = focal._frame(QUERY, HINT)
    chunk = focal.model.encoder.data("Bridge\n")[0]
    places = []
    for passage in PASSAGES:
        chunk += focal.model.encoder.data("\n\n")[0] if places else []
        ids = focal.model.encoder.data(passage.text)[0]
        places.append((len(before) + len(chunk), len(before) + len(chunk) + len(ids)))
        chunk += ids
    # In the most direct way: everything in one pass, no cache, the whole matrix of attention.
    prompt = [*before, *chunk, *after]
    model = load_lm(focal.source, dtype=torch.float32, head=True)
    model.set_attn_implementation("eager")
    focal_token = int(model(torch.tensor([prompt])).logits[0, -1].argmax())
    out = model(torch.tensor([[*prompt, focal_token]]), output_attentions=True)
    row = torch.stack(out.attentions)[:, 0, :, -1].mean(1).sum(0).numpy()
    assert reading.focal[0].token == load_tokenizer(focal.source).decode([focal_token])
    for read, (start, end) in zip(reading.passages, places, strict=True):
        np.testing.assert_allclose(read.scores, row[start:end], rtol=1e-4, atol=1e-6)
    assert reading.layers == len(out.attentions) == 4


def test_chunks_tile_the_context(focal):
    reading = focal.read(QUERY, HINT, PASSAGES, chunk=10)
    chunks = np.concatenate(reading.chunks)
    assert (np.diff(chunks) >= 0).all()
    assert chunks[0] == 0
    assert chunks[-1] == len(reading.focal) - 1
    assert np.bincount(chunks).max() == 10
    whole = focal.read(QUERY, HINT, PASSAGES, chunk=1000)
    for passage, read, same in zip(PASSAGES, reading.passages, whole.passages, strict=True):
        np.testing.assert_array_equal(read.offsets, same.offsets)
        assert read.offsets[:, 1].max(initial=0) == len(passage.text)


class Says:
    """The real model, but for what it writes."""

    def __init__(self, model, ids):
        self.model, self.ids, self.config, self.device = model, iter(ids), model.config, model.device
        self.forward = model.forward  # its signature tells how the cache is called

    def __call__(self, **options):
        out = self.model(**options)
        out.logits = torch.nn.functional.one_hot(torch.tensor([[next(self.ids)]]), self.config.vocab_size).float()
        return out


@pytest.mark.parametrize(
    ("pieces", "none"),
    [
        (["none"], True),
        ([" None", "."], True),
        (["n", "one"], True),
        (["no", "ne"], True),
        (["N", "ON", "E"], True),
        (["no", "."], False),
        (["n", "orth"], False),
        (["Ada"], False),
        ([" ", " ", " ", " ", " ", " "], False),
    ],
)
def test_none_is_understood(focal, pieces, none, monkeypatch):
    ids = [i for piece in pieces for i in focal.model.encoder.data(piece)[0]]
    loaded = focal.model._loaded
    told = Says(loaded.eager, [*ids, *focal.model.encoder.data(" and so on and on and on")[0]])
    monkeypatch.setitem(loaded.__dict__, "eager", told)
    (found,) = focal.read(QUERY, HINT, ["The bridge."]).focal
    assert found.none == none


def test_what_cannot_be_read_is_refused(focal):
    with pytest.raises(InvalidInputError, match="empty"):
        focal.read(" ", HINT, PASSAGES)
    with pytest.raises(InvalidInputError, match="smaller chunks"):
        focal.read(QUERY, HINT, ["word " * 5000], chunk=5000)
    assert focal.read(QUERY, HINT, []).focal == ()
    assert focal.read(QUERY, HINT, [""]).focal == ()
