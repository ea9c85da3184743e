"""LangChain: a retriever whose documents come shaped. Needs only langchain-core."""

from __future__ import annotations

from typing import Any

from langchain_core.callbacks import AsyncCallbackManagerForRetrieverRun, CallbackManagerForRetrieverRun
from langchain_core.documents import BaseDocumentCompressor, Document
from langchain_core.retrievers import BaseRetriever, RetrieverLike
from pydantic import ConfigDict, Field

from ctxshaper.connectors.langchain.compressor import ContextShaper


class ShapingRetriever(BaseRetriever):
    """A retriever whose documents come shaped: ContextualCompressionRetriever with an argument for how many to ask for.

    Attributes:
        base_retriever: any retriever.
        base_compressor: how its documents are shaped; a `ContextShaper()` by default.
        k: how many documents to take from the retriever, which is asked for so many; None for its own number. Also
            an argument of `invoke`.
    """

    base_retriever: RetrieverLike
    base_compressor: BaseDocumentCompressor = Field(default_factory=ContextShaper)
    k: int | None = Field(default=None, ge=1)

    # A name that is misspelled must not pass silently, as a retriever's own config lets it.
    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    def _get_relevant_documents(
        self, query: str, *, run_manager: CallbackManagerForRetrieverRun, k: int | None = None, **kwargs: Any
    ) -> list[Document]:
        callbacks, k = run_manager.get_child(), k or self.k
        asked = {**kwargs, "k": k} if k else kwargs
        documents = self.base_retriever.invoke(query, {"callbacks": callbacks}, **asked)
        return list(self.base_compressor.compress_documents(documents[:k], query, callbacks))

    async def _aget_relevant_documents(
        self, query: str, *, run_manager: AsyncCallbackManagerForRetrieverRun, k: int | None = None, **kwargs: Any
    ) -> list[Document]:
        callbacks, k = run_manager.get_child(), k or self.k
        asked = {**kwargs, "k": k} if k else kwargs
        documents = await self.base_retriever.ainvoke(query, {"callbacks": callbacks}, **asked)
        return list(await self.base_compressor.acompress_documents(documents[:k], query, callbacks))
