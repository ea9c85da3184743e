"""LlamaIndex: a node postprocessor for engines and workflows, and reading at ingestion. Needs llama-index-core."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

try:
    from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
    from llama_index.core.postprocessor.types import BaseNodePostprocessor
    from llama_index.core.prompts import BasePromptTemplate, PromptTemplate
    from llama_index.core.prompts.mixin import PromptMixin, PromptMixinType
    from llama_index.core.schema import (
        BaseNode,
        ImageNode,
        MetadataMode,
        Node,
        NodeWithScore,
        QueryBundle,
        TextNode,
        TransformComponent,
    )
except ImportError as missing:
    from ctxshaper.errors import MissingDependencyError
    from ctxshaper.extras import install_line

    raise MissingDependencyError(
        f"ctxshaper.connectors.llama_index needs llama-index-core; {install_line('llama-index')}"
    ) from missing
from llama_index_instrumentation import get_dispatcher  # comes with llama-index-core
from pydantic import ConfigDict, Field, PrivateAttr, field_serializer

from ctxshaper.connectors import citations
from ctxshaper.connectors.client import Client, Mode, OnError, Outcome
from ctxshaper.connectors.matching import find_loosely
from ctxshaper.connectors.origins import within
from ctxshaper.connectors.records import KEY, Record, read, results
from ctxshaper.connectors.remembering import Remembering
from ctxshaper.data import Passage
from ctxshaper.errors import InvalidInputError
from ctxshaper.pipelines import Pipeline

if TYPE_CHECKING:
    from ctxshaper.stages import S2A

__all__ = ["ContextShaperPostprocessor", "RememberNodes", "map_citation"]

dispatcher = get_dispatcher(__name__)


def is_text(node: BaseNode) -> bool:
    """Whether a node is text and nothing else; images and other media are not for a text reader."""
    if isinstance(node, TextNode):
        return not isinstance(node, ImageNode)
    if not isinstance(node, Node):
        return False
    return node.text_resource is not None and not (node.image_resource or node.audio_resource or node.video_resource)


def to_passages(nodes: Sequence[NodeWithScore]) -> list[Passage]:
    """Passages of text nodes: content without metadata, id, score, metadata. A pure function.

    A score that is not finite counts as none; metadata whose keys are not text stays with the node.
    """
    return [
        Passage(
            _text(item.node),
            id=item.node.node_id,
            score=item.score if item.score is not None and math.isfinite(item.score) else None,
            metadata={k: v for k, v in item.node.metadata.items() if isinstance(k, str) and k != KEY},
        )
        for item in nodes
    ]


def to_nodes(nodes: Sequence[NodeWithScore], passages: Sequence[Passage], outcome: Outcome) -> list[NodeWithScore]:
    """Copies of the text nodes that say what the passages say; the originals are not touched. A pure function.

    Args:
        nodes: as retrieved, all of them text.
        passages: what `to_passages` made of them.
        outcome: of shaping them.
    """
    shaped = []
    for result in results(passages, outcome, [read(item.node.metadata.get(KEY), _text(item.node)) for item in nodes]):
        original = nodes[result.rank]
        node = original.node
        copied = node.model_copy(
            update={
                # A citation engine cuts nodes anew and prints numbers into them: the record keeps the text it is about.
                "metadata": {**node.metadata, KEY: {**result.record, "text": result.text}},
                "excluded_llm_metadata_keys": [*{**dict.fromkeys(node.excluded_llm_metadata_keys), KEY: None}],
                "excluded_embed_metadata_keys": [*{**dict.fromkeys(node.excluded_embed_metadata_keys), KEY: None}],
                "relationships": dict(node.relationships),
            }
        )
        copied.set_content(result.text)
        shaped.append(original.model_copy(update={"node": copied, "score": result.score}))
    return shaped


def map_citation(nodes: Sequence[NodeWithScore | BaseNode], answer_span: str) -> citations.Citation | None:
    """Find the source of an answer's words in shaped nodes, such as `response.source_nodes`.

    Args:
        nodes: what the generator was given; a `CitationQueryEngine` may have cut and numbered them since.
        answer_span: words of the answer; found as `ctxshaper.connectors.citations.map_citation` finds them.

    Returns:
        The citation, whose spans count in the original node's text; None where no node says this.
    """
    blocks = []
    for index, item in enumerate(nodes):
        node = item.node if isinstance(item, NodeWithScore) else item
        if is_text(node):
            text, record = _recorded(node)
            blocks.append(citations.Block(text, record.origins, node.node_id, index, record.rank))
    return citations.find(blocks, answer_span)


def _text(node: BaseNode) -> str:
    content: str = node.get_content(metadata_mode=MetadataMode.NONE)
    return content


def _recorded(node: BaseNode) -> tuple[str, Record]:
    """What a node says, with its record: its own text, or that part of a longer one which a citation engine cut out."""
    text, data = _text(node), node.metadata.get(KEY)
    longer = data.get("text") if isinstance(data, dict) else None
    if isinstance(longer, str) and longer != text:
        # The engine numbers what it cuts in a first line ("Source 1:").
        for cut in (text, text.partition("\n")[2]):
            if cut.strip() and (found := find_loosely([longer], cut)):
                record, at = read(data, longer), found[1]
                moved = (
                    o._replace(start=o.start - at.start, end=o.end - at.start)
                    for o in within(record.origins, at.start, at.end)
                )
                return longer[at.start : at.end], replace(record, origins=tuple(moved))
    return text, read(data, text)


class ContextShaperPostprocessor(PromptMixin, BaseNodePostprocessor):  # type: ignore[misc]  # its base is untyped
    """Shapes retrieved nodes, in any place that takes node postprocessors.

    Nodes are copied, never changed; ids, relationships and metadata stay. What was kept and dropped, and why, stands
    under `metadata["ctxshaper"]`, hidden from the LM and the embedding. Images and other media keep their places.
    Without a query, nodes pass untouched.

        index.as_query_engine(node_postprocessors=[ContextShaperPostprocessor(pipeline="qa", budget="30%")])

    Attributes:
        pipeline: the name or path of a recipe, or a `ctxshaper.Pipeline`; models load at first use. Only a recipe
            survives `to_dict` and `from_dict`.
        budget: tokens (500), a share ("30%", 0.3) or "auto"; None for the pipeline's own.
        mode: "shape", or "shadow": record what would be done, and return the nodes as they are.
        on_error: "raise", or "skip": return the nodes as they are, and record the error.

    Raises:
        pydantic.ValidationError: a ValueError, as for every field of the framework: an unknown recipe, a budget that
            cannot be read, a field that does not exist. The message is this project's.
    """

    pipeline: Any = Field(default="qa", description="Recipe name, recipe path, or a ctxshaper.Pipeline.")
    budget: int | float | str | None = Field(default=None, description="Tokens, a share, or 'auto'.")
    mode: Mode = Field(default="shape", description="'shape', or 'shadow' to record only.")
    on_error: OnError = Field(default="raise", description="'raise', or 'skip' to return the nodes as they are.")

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)
    _client: Client = PrivateAttr()

    def model_post_init(self, context: Any, /) -> None:
        """Check the recipe; models are loaded at first use."""
        super().model_post_init(context)
        self._client = Client(self.pipeline, self.budget, self.mode, self.on_error)

    @classmethod
    def class_name(cls) -> str:
        """The name under which LlamaIndex writes this component down."""
        return "ContextShaperPostprocessor"

    @field_serializer("pipeline")
    def _write(self, pipeline: Any) -> str:
        # Instrumentation dumps components: a pipeline must not fail there. `from_dict` then refuses its name.
        return str(pipeline)

    def _writing(self) -> Iterator[tuple[str, int, S2A]]:
        """The stages whose prompt is a user's to change: name, place, stage."""
        from ctxshaper.stages import S2A

        for place, stage in enumerate(self._client.pipeline().stages):
            if isinstance(stage, S2A):
                yield f"s2a_{place}", place, stage

    def _get_prompts(self) -> dict[str, BasePromptTemplate]:
        return {name: PromptTemplate(stage.task) for name, _, stage in self._writing()}

    def _get_prompt_modules(self) -> PromptMixinType:
        return {}

    def _update_prompts(self, prompts: dict[str, BasePromptTemplate]) -> None:
        pipeline = self._client.pipeline()
        stages, known = list(pipeline.stages), {name: (place, stage) for name, place, stage in self._writing()}
        for name, prompt in prompts.items():
            if name not in known:
                raise InvalidInputError(f"there is no prompt {name!r}; this pipeline has {sorted(known) or 'none'}")
            place, stage = known[name]
            stages[place] = replace(stage, wording=prompt.get_template())
        pipeline.stages = tuple(stages)

    def _postprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        texts = [item for item in nodes if is_text(item.node)]
        if query_bundle is None or not texts:
            return list(nodes)
        self._start(nodes, query_bundle)
        passages = to_passages(texts)
        return self._end(nodes, to_nodes(texts, passages, self._client.shape(query_bundle.query_str, passages)))

    @dispatcher.span  # the framework traces the sync method by itself, and only that
    async def _apostprocess_nodes(
        self, nodes: list[NodeWithScore], query_bundle: QueryBundle | None = None
    ) -> list[NodeWithScore]:
        texts = [item for item in nodes if is_text(item.node)]
        if query_bundle is None or not texts:
            return list(nodes)
        self._start(nodes, query_bundle)
        passages = to_passages(texts)
        outcome = await self._client.ashape(query_bundle.query_str, passages)
        return self._end(nodes, to_nodes(texts, passages, outcome))

    def _start(self, nodes: list[NodeWithScore], query: QueryBundle) -> None:
        name = str(self.pipeline)
        dispatcher.event(ReRankStartEvent(query=query, nodes=nodes, top_n=len(nodes), model_name=name))

    def _end(self, nodes: list[NodeWithScore], shaped: list[NodeWithScore]) -> list[NodeWithScore]:
        """Shaped text in the places of text; other nodes where they stood."""
        texts = iter(shaped)
        merged = [item if not is_text(item.node) else next(texts, None) for item in nodes]
        result = [item for item in merged if item is not None] + list(texts)
        dispatcher.event(ReRankEndEvent(nodes=result))
        return result


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
