"""A user's models of LangChain or LlamaIndex as generators; neither framework is imported before use."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

from ctxshaper import tracing
from ctxshaper.data import Message
from ctxshaper.errors import CtxshaperError, GeneratorError, InvalidInputError, MissingDependencyError
from ctxshaper.generators.base import Generator, Prompt, as_messages


class LangChainGenerator(Generator):
    """A chat model of LangChain, or anything else with its `invoke` and `ainvoke`.

    Args:
        model: takes messages and returns a message or text.
        context_window: tokens that prompt and answer may take together.

    Raises:
        InvalidInputError: the object has no such methods.
    """

    def __init__(self, model: Any, *, context_window: int = 8192) -> None:
        _require(model, "invoke", "ainvoke", "a LangChain chat model")
        self.model = model
        self.context_window = context_window

    def generate(self, prompt: Prompt) -> str:
        """The model's answer; anything that goes wrong inside is a GeneratorError."""
        messages = as_messages(prompt)
        with _call(self.model, messages) as span:
            return _said(span, getattr(reply := self.model.invoke(messages), "content", reply))

    async def agenerate(self, prompt: Prompt) -> str:
        """The same, by the model's own async method."""
        messages = as_messages(prompt)
        with _call(self.model, messages) as span:
            return _said(span, getattr(reply := await self.model.ainvoke(messages), "content", reply))


class LlamaIndexGenerator(Generator):
    """An LLM of LlamaIndex, or anything else with its `chat` and `achat`.

    Args:
        model: takes chat messages and returns a chat response.

    Raises:
        InvalidInputError: the object has no such methods.
    """

    def __init__(self, model: Any) -> None:
        _require(model, "chat", "achat", "a LlamaIndex LLM")
        self.model = model
        window = getattr(getattr(model, "metadata", None), "context_window", None)
        if isinstance(window, int) and window > 0:
            self.context_window = window

    def generate(self, prompt: Prompt) -> str:
        """The model's answer; anything that goes wrong inside is a GeneratorError."""
        messages = _chat_messages(prompt)
        with _call(self.model, as_messages(prompt)) as span:
            return _said(span, self.model.chat(messages).message.content)

    async def agenerate(self, prompt: Prompt) -> str:
        """The same, by the model's own async method."""
        messages = _chat_messages(prompt)
        with _call(self.model, as_messages(prompt)) as span:
            return _said(span, (await self.model.achat(messages)).message.content)


def text_of(content: Any) -> str:
    """The text of a reply: a string, or content blocks, of which those with text count.

    Raises:
        GeneratorError: for anything else.
    """
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if isinstance(content, list):
        texts = [b if isinstance(b, str) else b.get("text", "") for b in content if isinstance(b, (str, dict))]
        return "".join(t for t in texts if isinstance(t, str))
    raise GeneratorError(f"the model replied with {type(content).__name__}; a text or content blocks are needed")


def _chat_messages(prompt: Prompt) -> list[Any]:
    try:
        from llama_index.core.llms import ChatMessage
    except ImportError as error:
        raise MissingDependencyError("this generator needs pip install llama-index-core") from error
    return [ChatMessage(role=message["role"], content=message["content"]) for message in as_messages(prompt)]


def _require(model: Any, sync: str, other: str, what: str) -> None:
    if not callable(getattr(model, sync, None)) or not callable(getattr(model, other, None)):
        raise InvalidInputError(f"expected {what}, with {sync} and {other}, but got {type(model).__name__}")


def _said(span: tracing.TraceSpan, content: Any) -> str:
    text = text_of(content)
    # Without usage: the framework's own instrumentation counts these tokens, and a viewer would add both.
    tracing.answered(span, [text])
    return text


def _name(model: Any) -> str | None:
    """What the framework's model calls the one behind it."""
    named = (model, "model_name"), (model, "model"), (getattr(model, "metadata", None), "model_name")
    return next((name for one, key in named if isinstance(name := getattr(one, key, None), str)), None)


@contextlib.contextmanager
def _call(model: Any, messages: Sequence[Message]) -> Iterator[tracing.TraceSpan]:
    # Each framework and vendor raises errors of its own; callers need one kind to catch.
    try:
        with tracing.chat(_name(model), [messages]) as span:
            yield span
    except CtxshaperError:
        raise
    except Exception as error:
        raise GeneratorError(f"{type(model).__name__} failed: {type(error).__name__}: {error}") from error
