"""What is kept of a passage (`PassageKeys`) and of a query (`QueryRows`): all that a score needs of either."""

from __future__ import annotations

import struct
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor

from ctxshaper.errors import InvalidInputError
from ctxshaper.kernels.key_ranges import KeyRanges
from ctxshaper.kernels.key_scores import key_lse, key_mass, key_scores

_DTYPES = {1: torch.int8, 2: torch.bfloat16, 3: torch.float16, 4: torch.float32}
_CODES = {dtype: code for code, dtype in _DTYPES.items()}
_VERSION = 1
# An entry that also holds the injection probe's scores of its tokens.
_MARKED = 2
# Magic, version, type; slots, dimension, tokens.
_KEYS_HEADER = struct.Struct("<2sBBHHI")
# Magic, version, type; pairs, rows, dimension; scale, soft cap (NaN for none).
_ROWS_HEADER = struct.Struct("<2sBBHHHdd")


class KeyArena(NamedTuple):
    """Keys of many passages in one tensor, for `ctxshaper.kernels.key_scores`.

    Attributes:
        keys: [slots, capacity, D] int8 or bfloat16.
        scales: [slots, capacity] bfloat16, or None where keys are bfloat16.
    """

    keys: Tensor
    scales: Tensor | None


@dataclass(frozen=True, eq=False)
class PassageKeys:
    """The keys of one passage, or of one window of a long one, at the heads that count.

    A slot is a distinct (layer, KV head). With int8 keys a token takes slots * (D + 2) bytes.

    Attributes:
        keys: [slots, n, D] after rotary embedding: int8, or bfloat16.
        scales: [slots, n] bfloat16 factors of int8 keys; None for bfloat16 keys.
        marks: [n] float16, the injection probe's scores of the tokens; None where the head profile has no probe.

    Raises:
        InvalidInputError: shapes or types that do not fit together.
    """

    keys: Tensor
    scales: Tensor | None
    marks: Tensor | None = None

    def __post_init__(self) -> None:
        rounded = self.keys.dtype == torch.int8
        if self.keys.dim() != 3 or self.keys.dtype not in (torch.int8, torch.bfloat16):
            raise InvalidInputError(
                f"keys are {self.keys.dtype} {list(self.keys.shape)}; needed is [slots, n, D], int8 or bfloat16."
            )
        got = None if self.scales is None else (self.scales.dtype, self.scales.shape)
        if got != ((torch.bfloat16, self.keys.shape[:2]) if rounded else None):
            raise InvalidInputError(
                f"scales are {got}; int8 keys need bfloat16 {list(self.keys.shape[:2])}, bfloat16 keys have none."
            )
        marks = self.marks
        if marks is not None and (marks.dtype != torch.float16 or marks.shape != self.keys.shape[1:2]):
            raise InvalidInputError(
                f"marks are {marks.dtype} {list(marks.shape)}; needed is float16 {list(self.keys.shape[1:2])}."
            )

    @property
    def tokens(self) -> int:
        """Number of tokens, n."""
        return self.keys.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes of keys, scales and marks."""
        return sum(map(_nbytes, (self.keys, self.scales, self.marks)))

    def to_bytes(self) -> bytes:
        """The keys as bytes, with a header of 12."""
        slots, tokens, dim = self.keys.shape
        version = _VERSION if self.marks is None else _MARKED
        header = _KEYS_HEADER.pack(b"PK", version, _CODES[self.keys.dtype], slots, dim, tokens)
        return b"".join((header, *(_raw(part) for part in (self.keys, self.scales, self.marks) if part is not None)))

    @classmethod
    def from_bytes(cls, data: bytes | memoryview) -> PassageKeys:
        """What `to_bytes` wrote; the tensors own a copy. Flipped bits are for a checksum to find.

        Raises:
            InvalidInputError: another version, or not exactly as long as the header says.
        """
        version, code, (slots, dim, tokens) = _opened(data, _KEYS_HEADER, b"PK", (_VERSION, _MARKED))
        dtype, rounded, marked = _DTYPES[code], _DTYPES[code] == torch.int8, version == _MARKED
        sizes = [slots * tokens * dim * dtype.itemsize, 2 * slots * tokens * rounded, 2 * tokens * marked]
        keys, scales, marks = _cut(data, _KEYS_HEADER.size, sizes)
        return cls(
            keys.view(dtype).view(slots, tokens, dim),
            scales.view(torch.bfloat16).view(slots, tokens) if rounded else None,
            marks.view(torch.float16) if marked else None,
        )


def quantise(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Round keys to 8 bits, symmetrically, with one scale for each token and slot.

    Scales are rounded up to bfloat16 before the keys are divided by them, so that the two bytes of a scale cost no
    accuracy and no key is cut off. A token of zeros has scale 0.

    Args:
        keys: [slots, n, D] of any float type.

    Returns:
        int8 [slots, n, D] and bfloat16 [slots, n]; their product is within half a scale of the keys.

    Raises:
        InvalidInputError: keys that are not finite numbers.
    """
    wide = keys.float()
    largest = wide.abs().amax(-1) if keys.shape[-1] and keys.numel() else wide.new_zeros(keys.shape[:2])
    if not bool(largest.isfinite().all()):
        raise InvalidInputError("keys hold NaN or infinity and cannot be rounded; read the passage in float32.")
    exact = largest / 127
    # The next bfloat16 upwards: all its low 16 bits added, then cut off.
    scales = ((exact.view(torch.int32) + 0xFFFF) >> 16).to(torch.int16).view(torch.bfloat16)
    steps = scales.float()
    steps = torch.where(steps > 0, steps, torch.ones_like(steps))
    return (wide / steps[..., None]).round_().clamp_(-127, 127).to(torch.int8), scales


@dataclass(frozen=True, eq=False)
class QueryRows:
    """A query after its pass over the prompt's prefix and itself: what is held against the keys of passages.

    A pair is one query head that counts, with the slot that holds its keys; P pairs, R rows of the query each.

    Attributes:
        rows: [P, R, D] after rotary embedding; float32, bfloat16 or float16.
        slots: [P] slot of each pair, not decreasing.
        rest: [P, R] float32, log-sum-exp of what the prefix's keys and the query's own (causally) take of the softmax.
        prefix: [P, R] float32, that of the prefix's keys alone.
        weights: [P, R] float32, weight of the row times that of the head.
        scale: factor of the logits.
        softcap: soft cap of the logits, or None.

    Raises:
        InvalidInputError: shapes or types that do not fit together. Numbers that are not finite are not looked for:
            they show as NaN in the scores.
    """

    rows: Tensor
    slots: tuple[int, ...]
    rest: Tensor
    prefix: Tensor
    weights: Tensor
    scale: float
    softcap: float | None = None

    def __post_init__(self) -> None:
        if self.rows.dim() != 3 or 0 in self.rows.shape or self.rows.dtype not in list(_DTYPES.values())[1:]:
            raise InvalidInputError(
                f"rows are {self.rows.dtype} {list(self.rows.shape)}; needed is [P, R, D] of a float type, none 0."
            )
        if list(self.slots) != sorted(self.slots) or len(self.slots) != len(self.rows) or self.slots[0] < 0:
            raise InvalidInputError(
                f"slots are {self.slots} for {len(self.rows)} pairs; needed is one each, not decreasing."
            )
        for name, side in (("rest", self.rest), ("prefix", self.prefix), ("weights", self.weights)):
            if side.shape != self.rows.shape[:2] or side.dtype != torch.float32:
                raise InvalidInputError(
                    f"{name} is {side.dtype} {list(side.shape)}; needed is float32 {list(self.rows.shape[:2])}."
                )

    def scores(self, arena: KeyArena, ranges: KeyRanges) -> tuple[Tensor, Tensor]:
        """Mass [ranges.tokens] float32 and lse [P, R] float64: see `ctxshaper.kernels.key_scores`."""
        return key_scores(
            self.rows, self.slots, *arena, ranges, self.rest, self.weights, scale=self.scale, softcap=self.softcap
        )

    def lse(self, arena: KeyArena, ranges: KeyRanges) -> Tensor:
        """[P, R] float64 of a shard's keys alone; `merge_lse([rows.rest, *parts])` is that of the whole."""
        return key_lse(self.rows, self.slots, *arena, ranges, self.rest, scale=self.scale, softcap=self.softcap)

    def mass(self, arena: KeyArena, ranges: KeyRanges, lse: Tensor) -> Tensor:
        """[ranges.tokens] float32 of a shard's tokens under the lse of the whole."""
        return key_mass(
            self.rows, self.slots, *arena, ranges, lse, self.weights, scale=self.scale, softcap=self.softcap
        )

    def of_pair(self, place: int) -> QueryRows:
        """The rows of one query head alone."""
        own = slice(place, place + 1)
        return replace(
            self,
            rows=self.rows[own],
            slots=self.slots[own],
            rest=self.rest[own],
            prefix=self.prefix[own],
            weights=self.weights[own],
        )

    def to_bytes(self) -> bytes:
        """The rows as bytes, for another process or machine."""
        cap = float("nan") if self.softcap is None else self.softcap
        header = _ROWS_HEADER.pack(b"QR", _VERSION, _CODES[self.rows.dtype], *self.rows.shape, self.scale, cap)
        slots = struct.pack(f"<{len(self.slots)}H", *self.slots)
        return b"".join((header, slots, *map(_raw, (self.rows, self.rest, self.prefix, self.weights))))

    @classmethod
    def from_bytes(cls, data: bytes | memoryview) -> QueryRows:
        """What `to_bytes` wrote.

        Raises:
            InvalidInputError: another version, or not exactly as long as the header says.
        """
        _, code, (pairs, rows, dim, scale, cap) = _opened(data, _ROWS_HEADER, b"QR", (_VERSION,))
        dtype, side = _DTYPES[code], 4 * pairs * rows
        sizes = [2 * pairs, pairs * rows * dim * dtype.itemsize, side, side, side]
        slots, own, *sides = _cut(data, _ROWS_HEADER.size, sizes)
        rest, prefix, weights = (s.view(torch.float32).view(pairs, rows) for s in sides)
        return cls(
            own.view(dtype).view(pairs, rows, dim), struct.unpack(f"<{pairs}H", slots.numpy().tobytes()), rest, prefix,
            weights, scale, None if cap != cap else cap,
        )  # fmt: skip


def rest_of(
    rows: Tensor, at: Tensor, prefix: Tensor, own: Tensor, scale: float, softcap: float | None
) -> tuple[Tensor, Tensor]:
    """What the prefix and the query itself take of each row's softmax.

    Args:
        rows: [P, R, D] rows of the query at the heads that count.
        at: [R] int64, which of the query's T tokens each row is.
        prefix: [P, C, D] keys of the prompt's prefix, at each pair's KV head.
        own: [P, T, D] keys of the query; a row sees those up to itself.
        scale: factor of the logits.
        softcap: soft cap of the logits, or None.

    Returns:
        rest [P, R] and prefix [P, R] of `QueryRows`, float32; the latter is -inf where there is no prefix.
    """
    seen = torch.arange(own.shape[1], device=own.device) <= at[:, None]
    parts = []
    for keys, mask in ((prefix, None), (own, seen)):
        x = rows.float() @ keys.float().transpose(1, 2) * scale
        x = x if softcap is None else softcap * torch.tanh(x / softcap)
        x = x if mask is None else x.masked_fill(~mask, -torch.inf)
        parts.append(torch.logsumexp(x, -1))
    return torch.logaddexp(*parts), parts[0]


def _nbytes(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.nbytes


def _raw(tensor: Tensor) -> bytes:
    # Through int8: numpy knows no bfloat16.
    return tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def _opened(
    data: bytes | memoryview, header: struct.Struct, magic: bytes, versions: tuple[int, ...]
) -> tuple[int, int, tuple[int, ...]]:
    """The version, the type's code and the sizes in a header."""
    if len(data) < header.size:
        raise InvalidInputError(f"{len(data)} bytes are too few for a header of {header.size}; the entry is damaged.")
    mark, version, code, *sizes = header.unpack_from(data)
    if mark != magic or version not in versions or code not in _DTYPES:
        raise InvalidInputError(
            f"bytes begin with {mark!r}, version {version}, type {code}; allowed are {magic!r}, version "
            f"{' or '.join(map(str, versions))} and types 1 to {len(_DTYPES)}. Read the text anew."
        )
    return version, code, tuple(sizes)


def _cut(data: bytes | memoryview, start: int, sizes: list[int]) -> list[Tensor]:
    """Bytes behind a header as uint8 tensors of these sizes, copied."""
    if len(data) - start != sum(sizes):
        raise InvalidInputError(
            f"{len(data) - start} bytes follow the header, which says {sum(sizes)}; the entry is damaged: read the "
            f"text anew."
        )
    # Each in memory of its own: a part may begin where wider numbers must not.
    body, parts = memoryview(data)[start:], []
    for size in sizes:
        own = bytearray(body[:size])
        parts.append(torch.frombuffer(own, dtype=torch.uint8) if size else torch.zeros(0, dtype=torch.uint8))
        body = body[size:]
    return parts
