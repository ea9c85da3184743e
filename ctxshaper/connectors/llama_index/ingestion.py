"""LlamaIndex: reading at ingestion, so that shaping finds nodes read."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.schema import BaseNode, NodeWithScore, TransformComponent
from pydantic import ConfigDict, Field, PrivateAttr, field_serializer

from ctxshaper.connectors.llama_index.nodes import is_text, to_passages
from ctxshaper.connectors.remembering import Remembering
from ctxshaper.data import Passage
from ctxshaper.pipelines import Pipeline


class RememberNodes(TransformComponent):  # type: ignore[misc]  # its base is untyped
    """Reads nodes when they are ingested, so that shaping finds them read; they come out unchanged.

    Put it last but for the embedding, behind what splits nodes or writes their titles: text and title are what is read.
    Images and other media are passed over.

        pipeline = Pipeline.from_recipe("qa", store="keys/")
        IngestionPipeline(transformations=[SentenceSplitter(), RememberNodes(pipeline=pipeline), embedding])
        ContextShaperPostprocessor(pipeline=pipeline)  # here, or in another process

    Attributes:
        store: a folder, or a `KeyStore`, where the embedded model's reader keeps what it read.
        reader: instead of a store, the reader that shaping uses, with a store of its own or in this process. Only a
            store's path survives `to_dict` and `from_dict`.
        pipeline: instead of both, the pipeline that shapes: what its stages compute of nodes beside the reader's keys,
            such as sentence embeddings, is remembered too.

    Raises:
        pydantic.ValidationError: a ValueError: none of the three, or more than one.
    """

    store: Any = Field(default=None, description="The store's folder, or a KeyStore.")
    reader: Any = Field(default=None, description="A reader, instead of a store.")
    pipeline: Any = Field(default=None, description="The pipeline that shapes, instead of both.")

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    _remembering: Remembering = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Check the arguments; the model is loaded at first use."""
        super().model_post_init(context)
        self._remembering = Remembering(self.reader, self.store, self.pipeline)

    @classmethod
    def class_name(cls) -> str:
        """The name under which LlamaIndex writes this component down."""
        return "RememberNodes"

    @field_serializer("store", "reader", "pipeline")
    def _write(self, value: Any) -> str | None:
        # An ingestion pipeline dumps its components to find cached results. Pipelines of the same stages may have
        # different stores: no other's results are ours.
        if isinstance(value, Pipeline):
            return object.__repr__(value)
        return None if value is None else str(getattr(value, "path", value))

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:  # noqa: ARG002  # the base's signature
        """Read the nodes that are text, and return all."""
        self._remembering.remember(_texts(nodes))
        return nodes

    async def acall(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:  # noqa: ARG002  # likewise
        """The same without blocking the event loop."""
        await self._remembering.aremember(_texts(nodes))
        return nodes


def _texts(nodes: Sequence[BaseNode]) -> list[Passage]:
    # As the postprocessor will ask for them.
    return to_passages([NodeWithScore(node=node) for node in nodes if is_text(node)])
