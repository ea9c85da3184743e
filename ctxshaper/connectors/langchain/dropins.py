"""LangChain: the same calls as two classes of langchain-community, which is being wound down. Needs langchain-core."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from langchain_core.documents import BaseDocumentTransformer, Document
from pydantic import BaseModel, model_validator

from ctxshaper.connectors.langchain.compressor import ContextShaper
from ctxshaper.errors import InvalidInputError


class LongContextReorder(BaseDocumentTransformer, BaseModel):
    """Drop-in for langchain-community's: the best documents to both ends (Liu et al., arXiv 2307.03172).

    Takes documents best first and gives exactly the original's order: the best stands last where their number is
    even, first where it is odd. It needs no query and no model; `ctxshaper` pipelines can choose an order by
    relevance instead.
    """

    def transform_documents(self, documents: Sequence[Document], **kwargs: Any) -> list[Document]:  # noqa: ARG002  # the base's signature
        """Copies of the documents in their new order."""
        odd = len(documents) % 2
        ordered = [*documents[1 - odd :: 2], *reversed(documents[odd::2])]
        return [document.model_copy(update={"metadata": dict(document.metadata)}) for document in ordered]

    async def atransform_documents(self, documents: Sequence[Document], **kwargs: Any) -> list[Document]:
        """The same; nothing in it blocks."""
        return self.transform_documents(documents, **kwargs)


class LLMLinguaCompressor(ContextShaper):
    """Drop-in for langchain-community's: the same call, this project's stages, whole sentences instead of tokens.

    Attributes:
        target_token: the most tokens of all documents together; a limit here, not an aim.
        model_name: the model that reads; None for the embedded one.
        device_map: where it reads: "auto", or a torch device.
    """

    target_token: int = 300
    model_name: str | None = None
    device_map: str = "auto"

    @model_validator(mode="before")
    @classmethod
    def _known(cls, values: Any) -> Any:
        foreign = sorted(set(values) - set(cls.model_fields)) if isinstance(values, dict) else []
        if foreign:
            raise InvalidInputError(
                f"this LLMLinguaCompressor takes {', '.join(sorted(cls.model_fields))}, but got {', '.join(foreign)}: "
                "they steer LLMLingua's own method; leave them out"
            )
        return values

    def model_post_init(self, context: Any, /) -> None:
        """Take the budget from `target_token`."""
        self.budget = self.target_token
        super().model_post_init(context)

    def _source(self) -> Any:
        if self.model_name is None and self.device_map == "auto":
            return self.pipeline
        from ctxshaper import Pipeline, Reader

        return Pipeline.from_recipe(self.pipeline, reader=Reader(self.model_name, device=self.device_map))
