"""Batches of a language model that writes, and that tells how likely it finds a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch

from ctxshaper.data import deadline

# Tokens of one batch of log-probabilities, padding included: bounds the memory, not the result.
_BATCH_TOKENS = 8192


def batches(lengths: Sequence[int], whole: int | None = None) -> Iterator[list[int]]:
    """Indices of rows, by falling length, so that little of a batch is padding.

    A row longer than `whole` stands alone: beside others it would be given their room, not its own.
    """
    batch: list[int] = []
    for index in sorted(range(len(lengths)), key=lambda i: -lengths[i]):
        full = batch and lengths[batch[0]] * (len(batch) + 1) > _BATCH_TOKENS
        if full or (batch and whole is not None and lengths[batch[0]] > whole):
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


@torch.inference_mode()
def write(
    model: Any, rows: Sequence[list[int]], pad: int, max_new_tokens: int, drawing: dict[str, float]
) -> list[list[int]]:
    """Tokens that a model writes behind the rows of one batch; stops at the request's deadline.

    Args:
        model: of transformers, with its head.
        rows: prompts.
        pad: the token that fills up.
        max_new_tokens: the longest answer.
        drawing: temperature and top_p; empty for the likeliest tokens.

    Raises:
        DeadlineError: between two tokens.
    """
    ids, mask = _padded(model, rows, pad)
    answers = model.generate(
        ids,
        attention_mask=mask,
        max_new_tokens=max_new_tokens,
        do_sample=bool(drawing),
        pad_token_id=pad,
        stopping_criteria=[_at_deadline],
        **drawing,
    )
    found: list[list[int]] = answers[:, ids.shape[1] :].tolist()
    return found


@torch.inference_mode()
def score(model: Any, rows: Sequence[tuple[list[int], list[int]]], pad: int) -> list[list[float]]:
    """[len(rows)][tokens of the continuation] natural log-probabilities of the rows of one batch.

    Args:
        model: of transformers, with its head.
        rows: prompts and their continuations.
        pad: the token that fills up.
    """
    longest = max(len(tail) for _, tail in rows)
    if not longest:
        return [[] for _ in rows]
    # The continuations of all rows end in the last column.
    ids, mask = _padded(model, [head + tail for head, tail in rows], pad)
    logits: torch.Tensor = model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=(mask.cumsum(1) - 1).clamp(min=0),
        logits_to_keep=longest + 1,
        use_cache=False,
    ).logits
    # The logits of a place tell of the next one.
    known = logits[:, :-1].float().log_softmax(-1).gather(2, ids[:, -longest:, None])[..., 0]
    return [row[longest - len(tail) :] for row, (_, tail) in zip(known.tolist(), rows, strict=True)]


def _at_deadline(ids: torch.Tensor, _scores: Any, **_: Any) -> torch.Tensor:
    """A stopping criterion of transformers, asked after every token: never done, but perhaps too late."""
    deadline.check()
    return torch.zeros(len(ids), dtype=torch.bool, device=ids.device)


def _padded(model: Any, rows: Sequence[list[int]], pad: int) -> tuple[torch.Tensor, torch.Tensor]:
    """[len(rows), longest] tokens, padded on the left, and the mask of what is no padding; on the device."""
    width = max(map(len, rows))
    ids = torch.tensor([[pad] * (width - len(row)) + row for row in rows], device=model.device)
    mask = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows], device=model.device)
    return ids, mask
