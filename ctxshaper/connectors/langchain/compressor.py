"""LangChain: a document compressor that is a Runnable too. Needs only langchain-core."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

from langchain_core.callbacks import (
    AsyncCallbackManagerForChainRun,
    BaseCallbackManager,
    CallbackManagerForChainRun,
    Callbacks,
    adispatch_custom_event,
    dispatch_custom_event,
)
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.runnables import RunnableConfig, RunnableSerializable
from pydantic import ConfigDict, PrivateAttr

from ctxshaper.connectors.client import Client, Mode, OnError, Outcome
from ctxshaper.connectors.langchain.documents import to_documents, to_history, to_passages
from ctxshaper.connectors.records import KEY
from ctxshaper.data import Message
from ctxshaper.errors import InvalidInputError

# How chains name what a ContextShaper takes; of several that are there, the first counts.
_QUERY = ("query", "question", "input")
_DOCUMENTS = ("documents", "context")
_HISTORY = ("chat_history", "messages")


class ContextShaper(BaseDocumentCompressor, RunnableSerializable[dict[str, Any], list[Document]]):
    """Shapes retrieved documents: a document compressor, and a Runnable over a query and its documents.

    As a Runnable it takes a dict with the query as `query`, `question` or `input`, and the documents as `documents` or
    `context`, as chains name them. A list of messages as `chat_history` or `messages` is the chat before the query, for
    the stage `ContextualizeQuery`.

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
        """Shape the documents of `{"query": str, "documents": [Document]}`, or as chains name them.

        Raises:
            InvalidInputError: other keys, an empty query, or something that is no list of documents.
            StageError: a stage failed, and the policy is to raise.
        """
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
        query, documents, history = _request(input)
        if not documents:
            return [], Outcome(None)
        passages = to_passages(documents)
        outcome = self._client.shape(query, passages, history)
        if _heard(config):
            dispatch_custom_event(KEY, outcome.report(), config=config)
        return to_documents(documents, passages, outcome), outcome

    async def ashape(
        self, input: dict[str, Any], config: RunnableConfig | None = None
    ) -> tuple[list[Document], Outcome]:
        """The same without blocking the event loop."""
        query, documents, history = _request(input)
        if not documents:
            return [], Outcome(None)
        passages = to_passages(documents)
        outcome = await self._client.ashape(query, passages, history)
        if _heard(config):
            await adispatch_custom_event(KEY, outcome.report(), config=config)
        return to_documents(documents, passages, outcome), outcome


def _request(given: dict[str, Any]) -> tuple[str, list[Document], list[Message]]:
    """Query, documents and chat history of a Runnable's input."""
    keys = set(given) if isinstance(given, dict) else set()
    query = next((key for key in _QUERY if key in keys), None)
    documents = next((key for key in _DOCUMENTS if key in keys), None)
    if query is None or documents is None:
        got = sorted(map(repr, keys))[:10] if isinstance(given, dict) else type(given).__name__
        raise InvalidInputError(
            f"a ContextShaper takes a dict with the user's question as {' or '.join(_QUERY)} and a list of Documents "
            f"as {' or '.join(_DOCUMENTS)}, but got {', '.join(got) if isinstance(got, list) else got}"
        )
    found = given[documents]
    if not isinstance(found, (list, tuple)):
        raise InvalidInputError(
            f"{documents!r} must be a list of Documents, but got {type(found).__name__}; shape them before they are "
            "joined to a text"
        )
    history = next((given[key] for key in _HISTORY if given.get(key)), None)
    return given[query], list(found), to_history(history, str(given[query]))


def _config(callbacks: Callbacks) -> RunnableConfig | None:
    return cast("RunnableConfig", {"callbacks": callbacks}) if callbacks else None


def _heard(config: RunnableConfig | None) -> bool:
    """Whether somebody listens: an event outside of a run would raise, and a report costs time."""
    callbacks = config.get("callbacks") if config else None
    return isinstance(callbacks, BaseCallbackManager) and bool(callbacks.parent_run_id) and bool(callbacks.handlers)
