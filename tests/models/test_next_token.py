"""The next token of a model: under the names that old and new versions of transformers give to the cache."""

import warnings
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM
from transformers.utils import generic

from ctxshaper.models.next_token import _cache_name, log_next, next_attention

ROWS = [[1, 5, 9, 7], [1, 5, 9, 8, 3], [1, 5, 2]]


class Named:
    """A model that knows the cache by one name only."""

    def __init__(self, model, name):
        self.model, self.device, self.asked = model, model.device, 0

        def old(input_ids, past_key_values=None, **kwargs):
            return self._run(name, input_ids, past_key_values, kwargs)

        def new(input_ids, cache=None, **kwargs):
            return self._run(name, input_ids, cache, kwargs)

        self.forward = old if name == "past_key_values" else new

    def __call__(self, **kwargs):
        return self.forward(**kwargs)

    def _run(self, name, input_ids, cache, kwargs):
        assert not {"cache", "past_key_values"} & set(kwargs)
        self.asked += cache is not None
        installed = _cache_name(self.model)
        out = self.model(input_ids, **{installed: cache}, **kwargs)
        return SimpleNamespace(logits=out.logits, attentions=out.attentions, **{name: getattr(out, installed)})


@pytest.fixture
def model(tiny_model):
    return AutoModelForCausalLM.from_pretrained(tiny_model("llama"), attn_implementation="eager").eval()


def test_the_installed_version_does_not_warn(model, monkeypatch):
    said = []
    monkeypatch.setattr(generic.logger, "warning_once", said.append)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        log_next(model, ROWS, 4)
        next_attention(model, ROWS[1], lambda tokens: len(tokens) < 3)
    assert said == []


@pytest.mark.parametrize("name", ["cache", "past_key_values"])
def test_either_name_gives_what_whole_passes_give(model, name):
    named = Named(model, name)
    with torch.inference_mode():
        wanted = [float(model(torch.tensor([row])).logits[0, -1].log_softmax(-1)[4]) for row in ROWS]
    np.testing.assert_allclose(log_next(named, ROWS, 4), wanted, atol=1e-4)
    tokens, weights = next_attention(named, ROWS[1], lambda tokens: len(tokens) < 3)
    assert len(tokens) == 3
    assert weights.shape == (model.config.num_hidden_layers, len(ROWS[1]))
    assert named.asked == 4
