"""What a language model would say next behind many prompts, and what its next token attends to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import signature
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ctxshaper.data import deadline

# Tokens of one forward pass, padding included.
_BATCH = {"cpu": 2048, "cuda": 32768}


@torch.inference_mode()
def log_next(model: Any, rows: Sequence[Sequence[int]], token: int) -> NDArray[np.float64]:
    """[len(rows)] natural logarithm of P(token) behind each row; what all rows begin with is computed once.

    Args:
        model: of transformers, with its head.
        rows: of at least two tokens each.
        token: whose probability is asked.
    """
    from transformers import DynamicCache

    device, name = model.device, _cache_name(model)
    shared = _common_prefix(rows)
    # Rows that share nothing begin without a cache.
    layers = []
    if shared:
        prefix = torch.tensor([rows[0][:shared]], device=device)
        kept = getattr(model(input_ids=prefix, use_cache=True, logits_to_keep=1), name)
        layers = [(layer.keys, layer.values) for layer in kept.layers]
    order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
    result = np.zeros(len(rows))
    while order:
        deadline.check()
        batch = [order.pop()]
        longest = len(rows[batch[0]]) - shared
        while order and (len(batch) + 1) * longest <= _BATCH.get(device.type, 2048):
            batch.append(order.pop())
        cache = DynamicCache()
        for index, (keys, values) in enumerate(layers):
            cache.update(keys.expand(len(batch), -1, -1, -1), values.expand(len(batch), -1, -1, -1), index)
        # Padded at the end, where no row that is read can look: attention is causal.
        ids = torch.zeros(len(batch), longest, dtype=torch.long)
        for place, index in enumerate(batch):
            own = torch.tensor(rows[index][shared:])
            ids[place, : len(own)] = own
        last = torch.tensor([len(rows[i]) - shared - 1 for i in batch], device=device)
        logits = _last_logits(model, ids.to(device), cache, last)
        result[batch] = torch.log_softmax(logits.float(), -1)[:, token].double().cpu().numpy()
    return result


@torch.inference_mode()
def next_attention(
    model: Any, ids: Sequence[int], more: Callable[[list[int]], bool]
) -> tuple[list[int], NDArray[np.float32]]:
    """The likeliest next token behind a prompt, and what it attends to there.

    Args:
        model: of transformers, with its head and its plain ("eager") attention, which alone gives weights.
        ids: [T] the prompt.
        more: told the tokens written so far, says whether to write one more (their attention is not looked at).

    Returns:
        The tokens written, at least one; and [layers, T] the first one's attention, mean over heads.
    """
    deadline.check()
    name = _cache_name(model)
    out = model(input_ids=torch.tensor([ids], device=model.device), use_cache=True, logits_to_keep=1)
    # A token has a row of attention only once it is read itself.
    token = out.logits[:, -1].argmax(-1, keepdim=True)
    out = model(input_ids=token, use_cache=True, output_attentions=True, **{name: getattr(out, name)})
    # A sliding layer's cache may have let go of the oldest tokens: they receive nothing.
    weights = torch.zeros(len(out.attentions), len(ids), device=model.device)
    for layer, attention in enumerate(out.attentions):
        row = attention[0, :, 0, :-1].float().mean(0)[-len(ids) :]
        weights[layer, len(ids) - len(row) :] = row
    tokens = [int(token)]
    while more(tokens):
        deadline.check()
        token = out.logits[:, -1].argmax(-1, keepdim=True)
        tokens.append(int(token))
        out = model(input_ids=token, use_cache=True, **{name: getattr(out, name)})
    return tokens, weights.cpu().numpy()


def _last_logits(model: Any, ids: torch.Tensor, cache: Any, last: torch.Tensor) -> torch.Tensor:
    """[B, vocabulary] logits at one place of each row: only these few positions go through the large head."""
    kept, where = torch.unique(last, return_inverse=True)
    logits = model(input_ids=ids, use_cache=True, logits_to_keep=kept, **{_cache_name(model): cache}).logits
    found: torch.Tensor = logits[torch.arange(len(ids), device=ids.device), where]
    return found


def _cache_name(model: Any) -> str:
    """What the model calls the keys and values of earlier tokens: transformers renames it from model to model."""
    return "cache" if "cache" in signature(model.forward).parameters else "past_key_values"


def _common_prefix(rows: Sequence[Sequence[int]]) -> int:
    """How many first tokens all rows share; at least one token of each row is left over."""
    shortest = min(map(len, rows)) - 1
    first = rows[0]
    return next((i for i in range(shortest) if any(row[i] != first[i] for row in rows)), shortest)
