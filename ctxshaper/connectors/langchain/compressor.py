"""LangChain: a document compressor that is a Runnable too, and a retriever. Needs only langchain-core."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

try:
    from langchain_core.callbacks import (
        AsyncCallbackManagerForChainRun,
        AsyncCallbackManagerForRetrieverRun,
        BaseCallbackManager,
        CallbackManagerForChainRun,
        CallbackManagerForRetrieverRun,
        Callbacks,
        adispatch_custom_event,
        dispatch_custom_event,
    )
    from langchain_core.documents import BaseDocumentCompressor, Document
    from langchain_core.messages import ToolMessage
    from langchain_core.retrievers import BaseRetriever, RetrieverLike
    from langchain_core.runnables import RunnableConfig, RunnableSerializable
except ImportError as missing:
    from ctxshaper.errors import MissingDependencyError

    raise MissingDependencyError(
        "ctxshaper.connectors.langchain needs langchain-core; pip install 'ctxshaper[langchain]'"
    ) from missing
from pydantic import ConfigDict, Field, PrivateAttr

from ctxshaper.connectors import citations
from ctxshaper.connectors.records import KEY, Client, Mode, OnError, Outcome, own, results
from ctxshaper.data import Passage
from ctxshaper.errors import InvalidInputError

SCORE = "relevance_score"


def to_passages(documents: Sequence[Document]) -> list[Passage]:
    """Passages of documents: id, metadata, and `metadata["relevance_score"]` as the score. A pure function."""
    made = []
    for document in documents:
        if not isinstance(document, Document):
            raise InvalidInputError(f"documents must be LangChain Documents, but got {type(document).__name__}")
        metadata = {k: v for k, v in document.metadata.items() if k != KEY}
        score = metadata.get(SCORE)
        made.append(
            Passage(
                document.page_content,
                id=None if document.id is None else str(document.id),
                score=float(score) if isinstance(score, (int, float)) else None,
                metadata=metadata,
            )
        )
    return made


def to_documents(documents: Sequence[Document], passages: Sequence[Passage], outcome: Outcome) -> list[Document]:
    """Copies of the documents that say what the passages say; the originals are not touched. A pure function.

    Args:
        documents: as retrieved.
        passages: what `to_passages` made of them.
        outcome: of shaping them.
    """
    shaped = []
    for result in results(passages, outcome, [own(d.metadata) for d in documents]):
        original = documents[result.rank]
        metadata = {**original.metadata, KEY: result.record}
        if result.score is not None and math.isfinite(result.score):
            metadata[SCORE] = result.score
        shaped.append(original.model_copy(update={"page_content": result.text, "metadata": metadata}))
    return shaped


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
        tool = isinstance(document, ToolMessage)
        text = document.text if isinstance(document, ToolMessage) else document.page_content
        record = own(document.additional_kwargs if isinstance(document, ToolMessage) else document.metadata)
        whole = {"spans": [[0, len(text)]], "ellipsis": ""}
        blocks.append(citations.Block(text, record or whole, None if tool else document.id, index))
    return citations.find(blocks, answer_span)


class ContextShaper(BaseDocumentCompressor, RunnableSerializable[dict[str, Any], list[Document]]):
    """Shapes retrieved documents: a document compressor, and a Runnable over `{"query", "documents"}`.

    Documents are copied, never changed; `id` and metadata stay. What was kept and dropped, and why, stands under
    `metadata["ctxshaper"]` (JSON-safe). Each call is a run, nested in the caller's, with one custom event
    `ctxshaper` that holds the trace.

        ContextShaper(pipeline="qa", budget="30%").compress_documents(documents, query)
        {"query": RunnablePassthrough(), "documents": retriever} | ContextShaper() | prompt | model

    Attributes:
        pipeline: a `ctxshaper.Pipeline`, or the name or path of a recipe; models load at first use.
        budget: tokens (500), a share ("30%", 0.3) or "auto"; None for the pipeline's own.
        mode: "shape", or "shadow": record what would be done, and return the documents as they are.
        on_error: "raise", or "skip": return the documents as they are, and record the error.

    Raises:
        pydantic.ValidationError: a ValueError, as for every field of the framework: an unknown recipe, a budget that
            cannot be read, a field that does not exist. The message is this project's.
    """

    pipeline: Any = "qa"
    budget: int | float | str | None = None
    mode: Mode = "shape"
    on_error: OnError = "raise"

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    _client: Client = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Check the recipe; models are loaded at first use."""
        super().model_post_init(context)
        self._client = Client(self._source(), self.budget, self.mode, self.on_error)

    def _source(self) -> Any:
        return self.pipeline

    def invoke(self, input: dict[str, Any], config: RunnableConfig | None = None, **kwargs: Any) -> list[Document]:
        """Shape `{"query": str, "documents": [Document]}`."""
        return self._call_with_config(self._invoke, input, config, **kwargs)

    async def ainvoke(
        self, input: dict[str, Any], config: RunnableConfig | None = None, **kwargs: Any
    ) -> list[Document]:
        """The same without blocking the event loop."""
        return await self._acall_with_config(self._ainvoke, input, config, **kwargs)

    def compress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """Shape documents for a query.

        Raises:
            InvalidInputError: an empty query, or something that is no document.
            StageError: a stage failed, and the policy is to raise.
        """
        return self.invoke({"query": query, "documents": documents}, _config(callbacks))

    async def acompress_documents(
        self, documents: Sequence[Document], query: str, callbacks: Callbacks | None = None
    ) -> list[Document]:
        """The same without blocking the event loop."""
        return await self.ainvoke({"query": query, "documents": documents}, _config(callbacks))

    def _invoke(
        self,
        input: dict[str, Any],
        run_manager: CallbackManagerForChainRun,  # noqa: ARG002  # the config holds it
        config: RunnableConfig,
    ) -> list[Document]:
        return self.shape(input, config)[0]

    async def _ainvoke(
        self,
        input: dict[str, Any],
        run_manager: AsyncCallbackManagerForChainRun,  # noqa: ARG002  # the config holds it
        config: RunnableConfig,
    ) -> list[Document]:
        return (await self.ashape(input, config))[0]

    def shape(self, input: dict[str, Any], config: RunnableConfig | None = None) -> tuple[list[Document], Outcome]:
        """As `invoke`, together with the shaped context; reports to the callbacks of a run, but starts none."""
        query, documents = _request(input)
        if not documents:
            return [], Outcome(None)
        passages = to_passages(documents)
        outcome = self._client.shape(query, passages)
        if _heard(config):
            dispatch_custom_event(KEY, outcome.report(), config=config)
        return to_documents(documents, passages, outcome), outcome

    async def ashape(
        self, input: dict[str, Any], config: RunnableConfig | None = None
    ) -> tuple[list[Document], Outcome]:
        """The same without blocking the event loop."""
        query, documents = _request(input)
        if not documents:
            return [], Outcome(None)
        passages = to_passages(documents)
        outcome = await self._client.ashape(query, passages)
        if _heard(config):
            await adispatch_custom_event(KEY, outcome.report(), config=config)
        return to_documents(documents, passages, outcome), outcome


class ShapingRetriever(BaseRetriever):
    """A retriever whose documents come shaped. Needs only langchain-core.

    Attributes:
        retriever: any retriever.
        shaper: how its documents are shaped.
        k: how many documents to take from the retriever, which is asked for so many; None for its own number. Also
            an argument of `invoke`.
    """

    retriever: RetrieverLike
    shaper: ContextShaper = Field(default_factory=ContextShaper)
    k: int | None = Field(default=None, ge=1)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None, **kwargs: Any
    ) -> list[Document]:
        callbacks, k = run_manager.get_child(), k or self.k
        asked = {**kwargs, "k": k} if k else kwargs
        documents = self.retriever.invoke(query, {"callbacks": callbacks}, **asked)
        return self.shaper.compress_documents(documents[:k], query, callbacks)

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, k: int | None = None, **kwargs: Any
    ) -> list[Document]:
        callbacks, k = run_manager.get_child(), k or self.k
        asked = {**kwargs, "k": k} if k else kwargs
        documents = await self.retriever.ainvoke(query, {"callbacks": callbacks}, **asked)
        return await self.shaper.acompress_documents(documents[:k], query, callbacks)


def _request(input: dict[str, Any]) -> tuple[str, list[Document]]:
    if not isinstance(input, dict) or not {"query", "documents"} <= set(input):
        got = sorted(input) if isinstance(input, dict) else type(input).__name__
        raise InvalidInputError(f"a ContextShaper takes {{'query': str, 'documents': [Document]}}, but got {got}")
    return input["query"], list(input["documents"])


def _config(callbacks: Callbacks) -> RunnableConfig | None:
    return cast("RunnableConfig", {"callbacks": callbacks}) if callbacks else None


def _heard(config: RunnableConfig | None) -> bool:
    """Whether somebody listens: an event outside of a run would raise, and a report costs time."""
    callbacks = config.get("callbacks") if config else None
    return isinstance(callbacks, BaseCallbackManager) and bool(callbacks.parent_run_id) and bool(callbacks.handlers)
