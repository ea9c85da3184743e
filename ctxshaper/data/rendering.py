"""Rendering: how passages become the text that a generator reads."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from ctxshaper.data.passages import ELLIPSIS, Passage
from ctxshaper.errors import InvalidInputError

Label = Literal["none", "title", "number"]


class Part(NamedTuple):
    """What shows of one passage.

    Attributes:
        place: the passage's place in the context.
        heading: stands above the body, with its line end; empty where there is none.
        lost: characters of the passage's text in front of the body that do not show.
        body: the passage's text as it shows.
    """

    place: int
    heading: str
    lost: int
    body: str


@dataclass(frozen=True, slots=True)
class Rendering:
    """How a context becomes the text that the generator reads.

    Attributes:
        separator: between passages.
        label: what stands above each passage: nothing, its title, or its number (`[1] Title`).
        ellipsis: what marks dropped text between two kept pieces of a passage; `" "` marks nothing.

    Raises:
        InvalidInputError: an option that is not allowed.
    """

    separator: str = "\n\n"
    label: Label = "title"
    ellipsis: str = ELLIPSIS

    def __post_init__(self) -> None:
        if self.label not in ("none", "title", "number"):
            raise InvalidInputError(f"label must be 'none', 'title' or 'number', but got {self.label!r:.80}")
        for name in ("separator", "ellipsis"):
            if not isinstance(getattr(self, name), str):
                raise InvalidInputError(f"{name} must be a str, but got {getattr(self, name)!r:.80}")

    def render(self, passages: Iterable[Passage]) -> str:
        """The text of these passages; passages of which nothing is kept leave no trace in it."""
        return self.separator.join(part.heading + part.body for part in self.parts(passages))

    def parts(self, passages: Iterable[Passage]) -> Iterator[Part]:
        """What shows of each passage that does show, in order."""
        for index, passage in enumerate(passages):
            body = passage.joined(self.ellipsis)
            if body.strip():
                title = passage.title
                head = {"none": "", "title": title, "number": f"[{index + 1}] {title}".rstrip()}[self.label]
                rest = body.lstrip("\n")
                yield Part(index, head + "\n" if head else "", len(body) - len(rest), rest.rstrip("\r\n "))
