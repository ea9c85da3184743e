"""LangChain: documents to passages and back, citations, the chat before a query. Pure; needs only langchain-core."""

from __future__ import annotations

import math
from collections.abc import Sequence
from numbers import Real
from typing import Any

from langchain_core.documents import Document
from langchain_core.messages import AIMessage, HumanMessage, ToolMessage, convert_to_messages

from ctxshaper.connectors import citations
from ctxshaper.connectors.client import Outcome
from ctxshaper.connectors.records import KEY, read, results
from ctxshaper.data import Message, Passage
from ctxshaper.errors import InvalidInputError

SCORE = "relevance_score"


def to_passages(documents: Sequence[Document]) -> list[Passage]:
    """Passages of documents: text, id, metadata, and `metadata["relevance_score"]` as the score.

    A score that is not finite counts as none; metadata whose keys are not text stays with the document.

    Raises:
        InvalidInputError: something that is no document.
    """
    made = []
    for document in documents:
        if not isinstance(document, Document):
            raise InvalidInputError(f"documents must be LangChain Documents, but got {type(document).__name__}")
        made.append(
            Passage(
                document.page_content,
                id=None if document.id is None else str(document.id),
                score=_score(document.metadata.get(SCORE)),
                metadata={k: v for k, v in document.metadata.items() if isinstance(k, str) and k != KEY},
            )
        )
    return made


def to_documents(documents: Sequence[Document], passages: Sequence[Passage], outcome: Outcome) -> list[Document]:
    """Copies of the documents that say what the passages say; the originals are not touched.

    Args:
        documents: as retrieved.
        passages: what `to_passages` made of them.
        outcome: of shaping them.
    """
    shaped = []
    for result in results(passages, outcome, [read(d.metadata.get(KEY), d.page_content) for d in documents]):
        original = documents[result.rank]
        metadata = {**original.metadata, KEY: result.record}
        if result.score is not None:
            metadata[SCORE] = result.score
        shaped.append(original.model_copy(update={"page_content": result.text, "metadata": metadata}))
    return shaped


def to_history(messages: Any, query: str) -> list[Message]:
    """What user and assistant said before a query; calls, results of tools and system messages are left out.

    Args:
        messages: a list of messages, in any form that LangChain reads; anything else, such as a text, holds none.
        query: what the user asks now. Where the last human message asks just this, what was said ends before it.

    Raises:
        InvalidInputError: a list that holds something else than messages.
    """
    if not isinstance(messages, (list, tuple)):
        return []
    try:
        given = convert_to_messages(messages)
    except (ValueError, NotImplementedError) as error:
        raise InvalidInputError(f"the chat history must be a list of LangChain messages, but: {error}") from error
    human = [place for place, message in enumerate(given) if isinstance(message, HumanMessage)]
    end = human[-1] if human and given[human[-1]].text.strip() == query.strip() else len(given)
    return [
        Message(role="user" if isinstance(message, HumanMessage) else "assistant", content=message.text)
        for message in given[:end]
        if isinstance(message, (HumanMessage, AIMessage)) and message.text.strip()
    ]


def map_citation(documents: Sequence[Document | ToolMessage], answer_span: str) -> citations.Citation | None:
    """Find the source of an answer's words in shaped documents, or in a shaped tool message.

    Args:
        documents: what the generator was given.
        answer_span: words of the answer; found as `ctxshaper.connectors.citations.map_citation` finds them.

    Returns:
        The citation, whose spans count in the original `page_content`; None where no document says this.
    """
    blocks = []
    for index, document in enumerate(documents):
        if isinstance(document, ToolMessage):
            text, name = str(document.text), None
            record = read(document.additional_kwargs.get(KEY), text)
        else:
            text, name = document.page_content, document.id
            record = read(document.metadata.get(KEY), text)
        blocks.append(citations.Block(text, record.origins, name, index, record.rank))
    return citations.find(blocks, answer_span)


def _score(score: Any) -> float | None:
    if isinstance(score, bool) or not isinstance(score, Real):
        return None
    try:
        number = float(score)
    except OverflowError:  # an int beyond all floats
        return None
    return number if math.isfinite(number) else None
