"""Anthropic's `search_result` blocks: of a shaped context, into passages, and their citations back to the source."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ctxshaper.connectors.blocks.cutting import sentence_starts, text_ranges
from ctxshaper.connectors.blocks.fields import field, named
from ctxshaper.connectors.citations import Block, Citation, cite, context_blocks
from ctxshaper.data import Context, Passage, Span
from ctxshaper.errors import InvalidInputError

_TYPE, _LOCATION = "search_result", "search_result_location"


class SearchResults:
    """A shaped context as `search_result` blocks, one for each passage and one text block for each kept sentence.

    So citations are by sentence. The text blocks of a result, joined, are the passage's text as the context renders
    it; a mark of dropped text is a text block of its own, so that every block of a kept sentence is its source's own
    text, byte for byte (behind it at most the white space that joins it to the next). A piece that was written is one
    block.

    Args:
        shaped: the context that the generator is to read.
        first: how many search results stand before these in the request: the API counts them through all messages.
        given: the content of a tool result, where the passages were made of its search results by
            `search_result_passages`: these keep their other fields, and its other blocks their places.
        cache_control: put on the last block, where the provider's prompt cache is to reach.

    Attributes:
        blocks: for `content` of a message of the user or of a tool result; empty where nothing is kept.

    Raises:
        InvalidInputError: `given` is not what the context was made of.
    """

    def __init__(
        self,
        shaped: Context,
        *,
        first: int = 0,
        given: Sequence[Mapping[str, Any]] = (),
        cache_control: Mapping[str, Any] | None = None,
    ) -> None:
        if type(first) is not int or first < 0:
            raise InvalidInputError(f"first must be the number of search results before these, but got {first!r:.80}")
        self._first = first
        originals = _originals(given, shaped) if given else {}
        starts = sentence_starts(shaped)
        self._texts: list[tuple[Block, list[Span]]] = [
            (block, text_ranges(block, starts[block.passage])) for block in context_blocks(shaped)
        ]
        made = [
            {**_head(shaped.passages[block.passage], originals), "content": _content(block, ranges)}
            for block, ranges in self._texts
        ]
        self._sources = [block["source"] for block in made]
        kept_control = cache_control or _lost_control(originals, made)
        if made and kept_control:
            made[-1]["cache_control"] = dict(kept_control)
        self.blocks: list[dict[str, Any]] = _in_place(given, made)

    def cite(self, location: Any) -> Citation | None:
        """Where the source says what a citation of the answer points at.

        Args:
            location: a `search_result_location`, as a dict or as the SDK's object.

        Returns:
            The citation, whose `quotes` are the source's own words; None where it points at nothing but a mark of
            dropped text.

        Raises:
            InvalidInputError: it is malformed, or points at another request's blocks.
        """
        what = "a citation of a search result"
        if (kind := field(location, "type", str, what)) != _LOCATION:
            raise InvalidInputError(f"{what} has the type {_LOCATION!r}, but got {kind!r:.80}")
        counted = field(location, "search_result_index", int, what)
        index = counted - self._first
        if not 0 <= index < len(self._texts):
            raise InvalidInputError(
                f"{what} names result {counted}, but these are {self._first} to {self._first + len(self._texts) - 1}; "
                "first= says how many search results stand before these in the request"
            )
        block, ranges = self._texts[index]
        start, end = (field(location, name, int, what) for name in ("start_block_index", "end_block_index"))
        if not 0 <= start < end <= len(ranges):
            raise InvalidInputError(f"{what} names blocks {start} to {end}, but result {counted} has {len(ranges)}")
        if (source := field(location, "source", str, what)) != self._sources[index]:
            raise InvalidInputError(
                f"{what} is of the source {source!r:.80}, but result {counted} is {self._sources[index]!r:.80}: it "
                "belongs to another request, or first= is wrong"
            )
        at = Span(ranges[start].start, ranges[end - 1].end)
        cited = field(location, "cited_text", str, what)
        said = block.text[at.start : at.end]
        if _solid(cited) != _solid(said):  # the API joins the blocks, and does not say by what
            raise InvalidInputError(
                f"{what} cites {cited!r:.80}, but these blocks say {said!r:.80}: it belongs to another request"
            )
        return cite(block, at)


def search_result_passages(content: Sequence[Mapping[str, Any]]) -> list[Passage]:
    """The passages of the search results in a message's or tool result's content; other blocks are left out.

    Args:
        content: blocks. Each result's text blocks are joined into one source: by an empty line, or by nothing behind
            white space.

    Returns:
        A passage for each result, with its `source` as id and its title.

    Raises:
        InvalidInputError: content that is no list of blocks, or a search result without source, title or text blocks.
    """
    return [
        Passage(
            _source(block), id=field(block, "source", str, _TYPE), metadata={"title": field(block, "title", str, _TYPE)}
        )
        for block in _results(content)
    ]


def _results(content: Any) -> list[Mapping[str, Any]]:
    if isinstance(content, str) or not isinstance(content, Sequence):
        raise InvalidInputError(f"content must be a list of blocks, but got {type(content).__name__}")
    for block in content:
        if not isinstance(block, Mapping):
            raise InvalidInputError(f"a block must be a dict with a type, but got {block!r:.80}")
    return [block for block in content if block.get("type") == _TYPE]


def _source(block: Mapping[str, Any]) -> str:
    content = block.get("content")
    if isinstance(content, str) or not isinstance(content, Sequence):
        raise InvalidInputError(f"a search result's content is a list of text blocks, but got {content!r:.80}")
    parts: list[str] = []
    for part in content:
        if not isinstance(part, Mapping) or part.get("type") != "text":
            raise InvalidInputError(f"a search result's content is made of text blocks, but got {part!r:.80}")
        if text := field(part, "text", str, "a text block"):
            if parts and not parts[-1][-1].isspace():
                parts.append("\n\n")
            parts.append(text)
    return "".join(parts)


def _originals(given: Any, shaped: Context) -> dict[int, Mapping[str, Any]]:
    """The search results that passages were made of, by the passage's rank."""
    originals = dict(enumerate(_results(given)))
    for passage in shaped.passages:
        original = originals.get(passage.rank if passage.rank is not None else -1)
        if original is None or _source(original) != passage.source:
            raise InvalidInputError(
                f"passage {passage.rank} was not made of the given content; make the passages by "
                "search_result_passages(content) and shape those alone"
            )
    return originals


def _head(passage: Passage, originals: Mapping[int, Mapping[str, Any]]) -> dict[str, Any]:
    """All of a block but its content."""
    if original := originals.get(passage.rank or 0):
        return dict(original)
    metadata = passage.metadata
    source = named(passage.id, metadata.get("source"), metadata.get("url")) or f"passage-{passage.rank}"
    title = named(passage.title) or source
    return {"type": _TYPE, "source": source, "title": title, "citations": {"enabled": True}}


def _content(block: Block, ranges: Sequence[Span]) -> list[dict[str, str]]:
    return [{"type": "text", "text": block.text[at.start : at.end]} for at in ranges]


def _lost_control(originals: Mapping[int, Mapping[str, Any]], made: Sequence[Mapping[str, Any]]) -> Any:
    """The cache breakpoint of a block that is gone, where no other is left."""
    if any(block.get("cache_control") for block in made):
        return None
    return next((block["cache_control"] for block in originals.values() if block.get("cache_control")), None)


def _in_place(given: Sequence[Mapping[str, Any]], made: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The new results where the first of the old ones stood, among the other blocks."""
    if not given:
        return list(made)
    place = next((i for i, block in enumerate(given) if block.get("type") == _TYPE), len(given))
    others = [[dict(b) for b in part if b.get("type") != _TYPE] for part in (given[:place], given[place:])]
    return [*others[0], *made, *others[1]]


def _solid(text: str) -> str:
    return "".join(text.split())
