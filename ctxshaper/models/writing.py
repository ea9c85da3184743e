"""Batches of a language model that writes, and that tells how likely it finds a text."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from ctxshaper.data import deadline
from ctxshaper.models.steered import Batch, Steering, steering_by

# A prompt's tokens, and which of them are marked.
Prompted = tuple[list[int], list[bool]]
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
    model: Any,
    rows: Sequence[Prompted],
    pad: int,
    max_new_tokens: int,
    drawing: dict[str, float],
    steering: Steering | None = None,
) -> list[list[int]]:
    """Tokens that a model writes behind the rows of one batch; stops at the request's deadline.

    Args:
        model: of transformers, with its head.
        rows: prompts, and which of their tokens are marked.
        pad: the token that fills up.
        max_new_tokens: the longest answer.
        drawing: temperature and top_p; empty for the likeliest tokens.
        steering: what changes the attention of a model that is `LoadedModel.steered`.

    Raises:
        DeadlineError: between two tokens.
    """
    ids, mask = _padded(model, [row for row, _ in rows], pad)
    copies = steering.copies if steering else 1

    def mix(_: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        # All copies of a row go on with the same token.
        by_copy = scores.float().log_softmax(-1).view(copies, len(rows), -1)
        return steering.mixed(by_copy).repeat(copies, 1) if steering else scores

    with _steered(steering, [(marks, 0) for _, marks in rows], model.device):
        answers = model.generate(
            ids.repeat(copies, 1),
            attention_mask=mask.repeat(copies, 1),
            max_new_tokens=max_new_tokens,
            do_sample=bool(drawing),
            pad_token_id=pad,
            stopping_criteria=[_at_deadline],
            **({"logits_processor": [mix]} if copies > 1 else {}),
            **drawing,
        )
    found: list[list[int]] = answers[: len(rows), ids.shape[1] :].tolist()
    return found


@torch.inference_mode()
def score(
    model: Any, rows: Sequence[tuple[Prompted, list[int]]], pad: int, steering: Steering | None = None
) -> list[list[float]]:
    """[len(rows)][tokens of the continuation] natural log-probabilities of the rows of one batch.

    Args:
        model: of transformers, with its head.
        rows: prompts, which of their tokens are marked, and their continuations.
        pad: the token that fills up.
        steering: what changes the attention of a model that is `LoadedModel.steered`.
    """
    longest = max(len(tail) for _, tail in rows)
    if not longest:
        return [[] for _ in rows]
    # The continuations of all rows end in the last column.
    ids, mask = _padded(model, [head + tail for (head, _), tail in rows], pad)
    copies = steering.copies if steering else 1
    seen = mask.repeat(copies, 1)
    with _steered(steering, [(marks, len(tail)) for (_, marks), tail in rows], model.device):
        logits: torch.Tensor = model(
            input_ids=ids.repeat(copies, 1),
            attention_mask=seen,
            position_ids=(seen.cumsum(1) - 1).clamp(min=0),
            logits_to_keep=longest + 1,
            use_cache=False,
        ).logits
    # The logits of a place tell of the next one.
    likely = logits[:, :-1].float().log_softmax(-1)
    if steering and copies > 1:
        likely = steering.mixed(likely.view(copies, len(rows), *likely.shape[1:]))
    known = likely.gather(2, ids[:, -longest:, None])[..., 0]
    return [row[longest - len(tail) :] for row, (_, tail) in zip(known.tolist(), rows, strict=True)]


def _steered(
    steering: Steering | None, rows: Sequence[tuple[Sequence[bool], int]], device: torch.device
) -> AbstractContextManager[None]:
    """What steers the passes within; nothing without a steering."""
    return steering_by(steering, Batch.of(rows, device).repeated(steering.copies)) if steering else nullcontext()


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
