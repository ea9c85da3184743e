"""What a stage may ask of a language model that writes."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Protocol, cast, get_args, runtime_checkable

from ctxshaper.data import Message, Role
from ctxshaper.errors import InvalidInputError

Prompt = str | Sequence[Message]
# Calls of one batch that are under way together: an endpoint answers them side by side.
_AT_ONCE = 8


@runtime_checkable
class Generator(Protocol):
    """A language model that writes. Derive from it and write `generate`; the rest has defaults.

    Attributes:
        context_window: tokens that prompt and answer may take together.
        max_new_tokens: tokens that an answer may take; None where only the window bounds it.
    """

    context_window: int = 8192
    max_new_tokens: int | None = None

    def generate(self, prompt: Prompt) -> str:
        """The model's answer.

        Args:
            prompt: text, taken as one turn of the user, or messages.

        Raises:
            GeneratorError: there is no answer; the message says why.
        """
        ...

    async def agenerate(self, prompt: Prompt) -> str:
        """The same without blocking the event loop; by default in a thread."""
        return await asyncio.to_thread(self.generate, prompt)

    def generate_batch(self, prompts: Sequence[Prompt]) -> list[str]:
        """Answers to many prompts, in their order; by default by `generate` in a few threads.

        Raises:
            GeneratorError: one of them has no answer; what was not begun by then is not asked.
        """
        # Tracing of the frameworks hangs on context variables, and threads do not inherit those.
        calls = [(copy_context(), prompt) for prompt in prompts]
        with ThreadPoolExecutor(_AT_ONCE, thread_name_prefix="ctxshaper-generate") as threads:
            return list(threads.map(lambda call: call[0].run(self.generate, call[1]), calls))

    async def agenerate_batch(self, prompts: Sequence[Prompt]) -> list[str]:
        """The same without blocking the event loop; by default a few `agenerate` at a time.

        Raises:
            GeneratorError: one of them has no answer; the others are cancelled.
        """
        room = asyncio.Semaphore(_AT_ONCE)

        async def one(prompt: Prompt) -> str:
            async with room:
                return await self.agenerate(prompt)

        tasks = [asyncio.create_task(one(prompt)) for prompt in prompts]
        try:
            return await asyncio.gather(*tasks)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def count_tokens(self, text: str) -> int:
        """Tokens of a text; where the tokenizer is out of reach, an estimate that is rather too high."""
        # About 4 bytes of English, and 3 bytes (one character) of Chinese, make a token.
        return len(text.encode("utf-8", "replace")) // 3 + 1


@runtime_checkable
class ScoringGenerator(Generator, Protocol):
    """A generator that also tells how likely it finds a given continuation."""

    def logprobs(self, prompt: Prompt, continuation: str) -> list[float]:
        """Natural log-probability of each token of a continuation, given the prompt and the tokens before.

        Args:
            prompt: what the answer follows.
            continuation: how the answer begins; its special tokens count as plain characters.
        """
        ...

    def logprobs_batch(self, pairs: Sequence[tuple[Prompt, str]]) -> list[list[float]]:
        """The same for many pairs of prompt and continuation, in their order."""
        ...


def as_messages(prompt: Prompt) -> list[Message]:
    """A prompt as messages, checked.

    Raises:
        InvalidInputError: it is neither text nor a sequence of messages with a role and a content.
    """
    if isinstance(prompt, str):
        return [{"role": "user", "content": prompt}]
    if not isinstance(prompt, Sequence) or not prompt:
        raise InvalidInputError(f"a prompt must be a str or at least one message, but got {prompt!r:.80}")
    messages = list(cast("Sequence[Message]", prompt))
    for message in messages:
        if (
            not isinstance(message, Mapping)
            or message.get("role") not in get_args(Role)
            or not isinstance(message.get("content"), str)
        ):
            raise InvalidInputError(
                f"a message is {{'role': {' | '.join(get_args(Role))}, 'content': str}}, but got {message!r:.80}"
            )
    return messages


def as_text(prompt: Prompt) -> str:
    """A prompt as plain text, without its roles."""
    return prompt if isinstance(prompt, str) else "\n\n".join(message["content"] for message in as_messages(prompt))
