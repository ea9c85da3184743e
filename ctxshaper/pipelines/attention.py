"""What a query looked at in the passages of a shaped context, for its page."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ctxshaper.data import Attention, Context, Looked
from ctxshaper.errors import InvalidInputError

if TYPE_CHECKING:
    from ctxshaper.reading.reading import PassageReader, Reading


def attention_of(reader: PassageReader, shaped: Context) -> list[Attention]:
    """See `Pipeline.attention`."""
    given = shaped.given or ()
    if [passage.rank for passage in given] != list(range(len(given))):
        raise InvalidInputError(
            "this context no longer holds all the passages that it was shaped from, as one read from JSON does not; "
            "pass what Pipeline.shape returned"
        )
    looks = {"all heads": reader.read(shaped.query, given)}
    # A reader of one's own need not know heads.
    if hasattr(reader, "read_heads"):
        looks |= reader.read_heads(shaped.query, given)
    return [Attention(name, tuple(_tokens(reading))) for name, reading in looks.items()]


def _tokens(reading: Reading) -> list[tuple[Looked, ...]]:
    rows = [zip(one.offsets.tolist(), one.scores.tolist(), strict=True) for one in reading.passages]
    return [tuple(Looked(start, end, score) for (start, end), score in row) for row in rows]
