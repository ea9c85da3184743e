"""Where a query looked: of each passage, its tokens and what each of them got of the attention."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple


class Looked(NamedTuple):
    """What one token got.

    Attributes:
        start: its first character in the passage's source.
        end: behind its last.
        share: of the attention, at least 0; comparable within one `Attention`.
    """

    start: int
    end: int
    share: float


@dataclass(frozen=True, slots=True)
class Attention:
    """What one head of a reader's model, or all that count together, looked at for a query.

    Attributes:
        name: "all heads", or such as "layer 15, head 6".
        passages: for each passage as the retriever gave it, its tokens in order.
    """

    name: str
    passages: tuple[tuple[Looked, ...], ...]
