"""From a query's rows and passages' keys to a score for every token."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ctxshaper.errors import InvalidInputError, ModelError
from ctxshaper.kernels import gem_key_scores
from ctxshaper.kernels.key_scores import merge_lse
from ctxshaper.reading.head_sets import Slot
from ctxshaper.reading.keys import QueryRows
from ctxshaper.reading.row_weights import rarity
from ctxshaper.reading.shelf import Taken


class Scores(Mapping[bytes, NDArray[np.float32]]):
    """Scores of tokens by content key, cut out when they are asked for.

    Args:
        numbers: [T] of all tokens.
        places: by content key, where a passage's are.
        on_prefix: the share of the attention that stayed on the prompt's prefix, if that is known.
    """

    def __init__(
        self, numbers: NDArray[np.float32], places: Mapping[bytes, slice], on_prefix: float | None = None
    ) -> None:
        self._numbers, self._places, self.on_prefix = numbers, places, on_prefix

    def __getitem__(self, key: bytes) -> NDArray[np.float32]:
        return self._numbers[self._places[key]]

    def __iter__(self) -> Iterator[bytes]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


_NOTHING = Scores(np.zeros(0, dtype=np.float32), {})


def evidence_scores(
    rows: QueryRows, slots: Sequence[Slot], taken: Taken, names: Iterable[bytes], whole: Partial | None = None
) -> Scores:
    """The attention that each token of passages gets from a query's rows, by content key.

    Args:
        rows: the query's; slots counted within `slots`.
        slots: of the rows' head set.
        taken: keys, these passages' among them.
        names: the content keys that share the softmax.
        whole: of which these passages are a part; None: they are the whole.

    Raises:
        ModelError: scores that are not numbers.
    """
    held = taken.held
    ranges, places = held.part(names)
    if not places:
        return _NOTHING
    own = placed(rows, slots, taken.slots)
    if whole is None:
        mass, lse = own.scores(held.arena, ranges)
    else:
        lse = torch.tensor(whole.lse, device=own.rows.device)
        mass = own.mass(held.arena, ranges, lse)
    numbers = checked(mass)
    return Scores(numbers, places, _on_prefix(own, lse))


def _on_prefix(rows: QueryRows, lse: Tensor) -> float:
    weights = rows.weights.clamp(min=0).double()  # below 0 count the rows of a question without content
    return float((weights * torch.exp(rows.prefix.double() - lse)).sum() / weights.sum())


def gem_token_scores(rows: QueryRows, slots: Sequence[Slot], taken: Taken) -> Scores:
    """GemFilter's scores of the passages' tokens, by content key; arguments as in `evidence_scores`."""
    own, held = placed(rows, slots, taken.slots), taken.held
    if not held.slices:
        return _NOTHING
    lengths = [place.stop - place.start for place in held.slices.values()]
    scores = gem_key_scores(own.rows[:, -1], sorted(set(own.slots)), *held.arena, held.ranges, lengths)
    return Scores(checked(scores), held.slices)


def placed(rows: QueryRows, slots: Sequence[Slot], kept: Sequence[Slot]) -> QueryRows:
    """The rows with their slots counted among those that an arena keeps.

    Raises:
        InvalidInputError: rows of a head whose keys are not kept.
    """
    if max(rows.slots) >= len(slots) or not set(slots) <= set(kept):
        raise InvalidInputError(
            f"the query's rows ask {max(rows.slots) + 1} slots of {list(slots)}, and keys are kept of {list(kept)}; "
            "use rows of a reader with the same model and profile"
        )
    where = [list(kept).index(slot) for slot in slots]
    return replace(rows, slots=tuple(where[slot] for slot in rows.slots))


def by_rarity(rows: QueryRows, asked: Sequence[int], windows: Sequence[NDArray[np.int32]]) -> QueryRows:
    """The rows weighted by how rare their tokens are in the passages; the sum of the weights stays.

    Args:
        rows: the query's, and behind them those of a question without content, whose weights stay as they are.
        asked: [R] the query's tokens.
        windows: tokens of the passages.
    """
    known = np.unique(np.asarray(asked, dtype=np.int64))
    flat = np.concatenate(windows).astype(np.int64)
    owner = np.repeat(np.arange(len(windows)), [len(window) for window in windows])
    at = np.minimum(np.searchsorted(known, flat), len(known) - 1)
    same = known[at] == flat
    once = np.unique(owner[same] * len(known) + at[same])
    holding = np.bincount(once % len(known), minlength=len(known))
    factors = rarity(holding[np.searchsorted(known, asked)], len(windows))
    weights = rows.weights.clone()
    own = weights[:, : len(asked)]
    raised = own * torch.from_numpy(factors).to(own)
    weights[:, : len(asked)] = raised * (own.sum(1, keepdim=True) / raised.sum(1, keepdim=True))
    return replace(rows, weights=weights)


@dataclass(frozen=True, eq=False)
class Partial:
    """What one shard's passages take of a query's softmax.

    Attributes:
        lse: [P, R] float64 log-sum-exp of the shard's keys alone; -inf without passages.
        notes: what it took, as in a `Reading`; empty where it was merged.
    """

    lse: NDArray[np.float64]
    notes: Mapping[str, Any] = field(default_factory=dict)


def merge(rows: QueryRows, parts: Sequence[Partial]) -> Partial:
    """The whole of a query's softmax from its shards, exactly: prefix, query and all passages.

    (The merge by log-sum-exp of Star Attention, arXiv 2411.17116, without its approximation.)

    Args:
        rows: the query's.
        parts: one from each shard.
    """
    rest = rows.rest.double().cpu()
    # Copied: what came from another process may not be written, which torch minds.
    return Partial(merge_lse([rest, *(torch.tensor(part.lse) for part in parts)]).numpy())


def checked(scores: Tensor) -> NDArray[np.float32]:
    """Scores on the host.

    Raises:
        ModelError: scores that are not numbers.
    """
    scores = scores.float()
    # The sum is a number if all are, and takes a third of the time of asking each.
    total = scores.sum()
    if scores.is_cuda:
        # Through pinned memory: ten times as fast, and only one block of it is held at a time.
        staged = torch.empty(scores.shape, pin_memory=True)
        scores = staged.copy_(scores).clone()
    numbers: NDArray[np.float32] = scores.numpy()
    if not math.isfinite(total):
        raise ModelError("the model gave scores that are not numbers; use dtype='float32'")
    return numbers
