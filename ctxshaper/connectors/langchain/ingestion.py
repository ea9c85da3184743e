"""LangChain: reads documents when they are ingested. Needs only langchain-core."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.documents import BaseDocumentTransformer, Document
from pydantic import BaseModel, ConfigDict, PrivateAttr

from ctxshaper.connectors.langchain.documents import to_passages
from ctxshaper.connectors.remembering import Remembering


class RememberDocuments(BaseDocumentTransformer, BaseModel):
    """Reads documents when they are ingested, so that shaping finds them read; they come out unchanged.

    Put it behind what splits documents or writes their titles: text and title are what is read.

        pipeline = Pipeline.from_recipe("qa", store="keys/")
        documents = RememberDocuments(pipeline=pipeline).transform_documents(splitter.split_documents(loaded))
        ContextShaper(pipeline=pipeline)  # here, or in another process

    Attributes:
        store: a folder, or a `KeyStore`, where the embedded model's reader keeps what it read.
        reader: instead of a store, the reader that shaping uses, with a store of its own or in this process.
        pipeline: instead of both, the pipeline that shapes: what its stages compute of documents beside the reader's
            keys, such as sentence embeddings, is remembered too.

    Raises:
        pydantic.ValidationError: a ValueError: none of the three, or more than one.
    """

    store: Any = None
    reader: Any = None
    pipeline: Any = None

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    _remembering: Remembering = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Check the arguments; the model is loaded at first use."""
        super().model_post_init(context)
        self._remembering = Remembering(self.reader, self.store, self.pipeline)

    def transform_documents(self, documents: Sequence[Document], **kwargs: Any) -> Sequence[Document]:  # noqa: ARG002  # the base's signature
        """Read the documents, and return them.

        Raises:
            InvalidInputError: something that is no document, or far too long a one.
        """
        self._remembering.remember(to_passages(documents))
        return documents

    async def atransform_documents(self, documents: Sequence[Document], **kwargs: Any) -> Sequence[Document]:  # noqa: ARG002  # likewise
        """The same without blocking the event loop."""
        await self._remembering.aremember(to_passages(documents))
        return documents
