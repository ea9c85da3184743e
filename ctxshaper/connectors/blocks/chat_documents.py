"""`documents` of a chat request (Cohere's v2 API, chat templates), and Cohere's citations back to the source."""

from __future__ import annotations

from typing import Any

from ctxshaper.connectors.blocks.fields import field, named
from ctxshaper.connectors.citations import Block, Citation, cite, context_blocks, find
from ctxshaper.data import Context, Span
from ctxshaper.errors import InvalidInputError


class ChatDocuments:
    """A shaped context as the `documents` of a chat request, one for each passage.

    Args:
        shaped: the context that the generator is to read.

    Attributes:
        documents: for Cohere's v2 chat: `{"id", "data": {"title", "snippet"}}`, ids unique; no title where there is
            none.
        template_documents: for `documents` of chat templates and of servers that fill them (vLLM): `{"title", "text"}`.
    """

    def __init__(self, shaped: Context) -> None:
        self._blocks: dict[str, Block] = {}
        self.documents: list[dict[str, Any]] = []
        self.template_documents: list[dict[str, str]] = []
        for block in context_blocks(shaped):
            title = shaped.passages[block.passage].title
            name = _free_name(named(block.id) or f"passage-{block.rank}", self._blocks)
            self._blocks[name] = block
            heading = {"title": title} if title else {}
            self.documents.append({"id": name, "data": {**heading, "snippet": block.text}})
            # Templates name both without asking whether they are there.
            self.template_documents.append({"title": title, "text": block.text})

    def cite(self, citation: Any) -> list[Citation]:
        """Where the sources say what a citation of the answer says.

        The API names documents and not places in them: the cited words of the answer are looked for in each document,
        as `map_citation` does. Where a document does not repeat them, all of it is cited and `exact` is false.

        Args:
            citation: with `text` and `sources`, as a dict or as the SDK's object.

        Returns:
            A citation for each source, in their order.

        Raises:
            InvalidInputError: it is malformed, or names a document that is not one of these.
        """
        words = field(citation, "text", str, "a citation")
        found = []
        for source in field(citation, "sources", list, "a citation"):
            name = field(source, "id", str, "a citation's source")
            if name not in self._blocks:
                raise InvalidInputError(
                    f"a citation names the document {name!r:.80}, but the documents are "
                    f"{', '.join(map(repr, self._blocks))!s:.200}"
                )
            found.append(cite_within(self._blocks[name], words))
        return [citation for citation in found if citation]


def cite_within(block: Block, words: str) -> Citation | None:
    """Where one text says some words; all of it, and not exact, where it does not repeat them."""
    found = find([block], words) if words.strip() else None
    return found or cite(block, Span(0, len(block.text)), exact=False)


def _free_name(name: str, taken: dict[str, Block]) -> str:
    """The name, or the name with the first number that is free."""
    number, free = len(taken), name
    while free in taken:
        free, number = f"{name}#{number}", number + 1
    return free
