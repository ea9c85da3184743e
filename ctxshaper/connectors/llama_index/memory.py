"""LlamaIndex: a memory whose chat comes shaped, each text once, for chat engines."""

from __future__ import annotations

from typing import Any

from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.memory import BaseMemory, Memory
from pydantic import ConfigDict, Field, field_validator

from ctxshaper.connectors.llama_index.chat import ashape, is_session, shape
from ctxshaper.errors import InvalidInputError


class ShapedMemory(BaseMemory):  # type: ignore[misc]  # its base is untyped
    """A memory that hands out the chat of another memory as a session shapes it; what is stored stays as it was put in.

    Results of tools and passages in users' messages are shaped when they are first handed out, and are the same bytes
    from then on, so that providers' prompt caches hold. Only what the memory holds is shaped: a `FunctionAgent` keeps
    the results of its present run elsewhere, so use a `ShapedFunctionAgent` for agents.

        session = Session(Pipeline.from_recipe("fast"), max_tokens=30_000)
        memory = ShapedMemory(memory=Memory.from_defaults(token_limit=1_000_000), session=session)
        SimpleChatEngine.from_defaults(memory=memory)

    Attributes:
        memory: holds the chat. Where its own limit drops old messages, the beginning of the chat changes and caches
            are lost: let the session's `max_tokens` decide, and set this one's `token_limit` high.
        session: shapes; may be shared. A copied or pickled one has the same options and remembers nothing.

    `to_dict` writes neither down: give both again, `ShapedMemory.from_dict(data, memory=memory, session=session)`.

    Raises:
        pydantic.ValidationError: a ValueError, as for every field of the framework: no session, or no memory.
    """

    memory: BaseMemory = Field(exclude=True, description="Holds the chat as it is.")
    session: Any = Field(default=None, exclude=True, validate_default=True, description="Shapes the chat.")

    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    @field_validator("session")
    @classmethod
    def _check(cls, session: Any) -> Any:
        return is_session(session)

    @classmethod
    def class_name(cls) -> str:
        """The name under which LlamaIndex writes this component down."""
        return "ShapedMemory"

    @classmethod
    def from_defaults(cls, session: Any = None, memory: BaseMemory | None = None, **kwargs: Any) -> ShapedMemory:
        """A memory over another one; without one, over `Memory.from_defaults(**kwargs)`."""
        if memory is not None and kwargs:
            raise InvalidInputError(f"give either a memory or the options of a new one, but got both: {sorted(kwargs)}")
        return cls(memory=memory or Memory.from_defaults(**kwargs), session=session)

    @property
    def tokenizer_fn(self) -> Any:
        """The inner memory's tokenizer: chat engines count with it what they put in front of the chat."""
        return self.memory.tokenizer_fn

    def get(self, input: str | None = None, **kwargs: Any) -> list[ChatMessage]:
        """The chat as it should be sent.

        Raises:
            StageError: a stage failed, and the pipeline's `on_error` is "raise".
        """
        return shape(self.session, self.memory.get(input=input, **kwargs))

    async def aget(self, input: str | None = None, **kwargs: Any) -> list[ChatMessage]:
        """The same without blocking the event loop."""
        return await ashape(self.session, await self.memory.aget(input=input, **kwargs))

    def get_all(self, **kwargs: Any) -> list[ChatMessage]:
        """The whole chat as it was put in."""
        return list(self.memory.get_all(**kwargs))

    async def aget_all(self, **kwargs: Any) -> list[ChatMessage]:
        """The same without blocking the event loop."""
        return list(await self.memory.aget_all(**kwargs))

    def put(self, message: ChatMessage) -> None:
        """Put a message behind the others."""
        self.memory.put(message)

    async def aput(self, message: ChatMessage) -> None:
        """The same without blocking the event loop."""
        await self.memory.aput(message)

    def put_messages(self, messages: list[ChatMessage]) -> None:
        """Put messages behind the others."""
        self.memory.put_messages(messages)

    async def aput_messages(self, messages: list[ChatMessage]) -> None:
        """The same without blocking the event loop."""
        await self.memory.aput_messages(messages)

    def set(self, messages: list[ChatMessage]) -> None:
        """Put messages in place of all others."""
        self.memory.set(messages)

    async def aset(self, messages: list[ChatMessage]) -> None:
        """The same without blocking the event loop."""
        await self.memory.aset(messages)

    def reset(self) -> None:
        """Forget the chat; the session keeps what it remembers."""
        self.memory.reset()

    async def areset(self) -> None:
        """The same without blocking the event loop."""
        await self.memory.areset()
