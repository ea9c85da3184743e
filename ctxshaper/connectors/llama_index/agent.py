"""LlamaIndex: an agent whose model is sent the chat shaped, each text once."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from llama_index.core.agent.workflow import AgentOutput, FunctionAgent
from llama_index.core.agent.workflow.agent_context import AgentContext
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.memory import BaseMemory
from llama_index.core.tools import AsyncBaseTool
from pydantic import Field, field_validator

from ctxshaper.connectors.llama_index.chat import ashape, is_session
from ctxshaper.connectors.llama_index.memory import ShapedMemory
from ctxshaper.errors import InvalidInputError


class ShapedFunctionAgent(FunctionAgent):  # type: ignore[misc]  # its base is untyped
    """A `FunctionAgent` whose model is sent the chat as a session shapes it; the agent's memory stays as it is.

    Results of tools and passages in users' messages are shaped when they enter the chat, and are the same bytes in each
    further call, within a run and in later ones. With the session's `max_tokens`, old rounds are set aside.

        ShapedFunctionAgent(tools=[search], llm=llm, session=Session(Pipeline.from_recipe("fast")))

    Attributes:
        session: shapes; may be shared between agents.

    Raises:
        pydantic.ValidationError: a ValueError, as for every field of the framework: no session.
    """

    session: Any = Field(default=None, exclude=True, validate_default=True, description="Shapes the chat.")

    @field_validator("session")
    @classmethod
    def _check(cls, session: Any) -> Any:
        return is_session(session)

    async def take_step(
        self, ctx: AgentContext, llm_input: list[ChatMessage], tools: Sequence[AsyncBaseTool], memory: BaseMemory
    ) -> AgentOutput:
        """Shape the chat and what this run has added to it, and take the agent's step with that.

        Raises:
            InvalidInputError: a memory that shapes already.
            StageError: a stage failed, and the pipeline's `on_error` is "raise".
        """
        if isinstance(memory, ShapedMemory):
            raise InvalidInputError(
                "a ShapedFunctionAgent shapes by itself; give it the memory inside the ShapedMemory"
            )
        added = await ctx.store.get(self.scratchpad_key, default=[])
        shaped = await ashape(self.session, [*llm_input, *added])
        # The base sends its scratchpad behind the chat: all of it is in the chat now, and comes back when it was sent.
        await ctx.store.set(self.scratchpad_key, [])
        try:
            return await super().take_step(ctx, shaped, tools, memory)
        finally:
            answered = await ctx.store.get(self.scratchpad_key, default=[])
            await ctx.store.set(self.scratchpad_key, [*added, *answered])
