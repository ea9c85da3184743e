"""LlamaIndex: a node postprocessor for engines and workflows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from llama_index.core.instrumentation.events.rerank import ReRankEndEvent, ReRankStartEvent
from llama_index.core.postprocessor.types import BaseNodePostprocessor
from llama_index.core.prompts import BasePromptTemplate, PromptTemplate
from llama_index.core.prompts.mixin import PromptMixin, PromptMixinType
from llama_index.core.schema import NodeWithScore, QueryBundle
from llama_index_instrumentation import get_dispatcher  # comes with llama-index-core
from pydantic import ConfigDict, Field, PrivateAttr, field_serializer

from ctxshaper.connectors.client import Client, Mode, OnError
from ctxshaper.connectors.llama_index.nodes import is_text, to_nodes, to_passages
from ctxshaper.errors import InvalidInputError

if TYPE_CHECKING:
    from ctxshaper.stages import S2A

dispatcher = get_dispatcher(__name__)


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
