"""A generator without a model: chains and failures can be tested in microseconds."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ctxshaper import tracing
from ctxshaper.errors import GeneratorError
from ctxshaper.generators.base import Prompt, ScoringGenerator, as_text

Answer = str | BaseException
Script = Answer | Sequence[Answer] | Mapping[str, Answer] | Callable[[str], Answer]


class FakeGenerator(ScoringGenerator):
    """Answers by a script. Thread-safe.

    Log-probabilities are made up by the words: one that stands in the prompt is likely (-1), any other is not (-5).

    Args:
        script: one answer for all prompts; a list, taken in order; a mapping, of which the first key that stands
            in the prompt decides; or a function of the prompt's text. An answer that is an exception is raised.
        delay: seconds that each answer takes.

    Attributes:
        prompts: the text of every prompt so far.
    """

    def __init__(self, script: Script, *, delay: float = 0.0) -> None:
        self.delay = delay
        self.prompts: list[str] = []
        self._script = script
        self._lock = threading.Lock()

    def generate(self, prompt: Prompt) -> str:
        """The script's answer.

        Raises:
            GeneratorError: the script has none for this prompt.
        """
        with tracing.chat("fake", [prompt]) as span:
            time.sleep(self.delay)
            return self._answer(prompt, span)

    def generate_batch(self, prompts: Sequence[Prompt]) -> list[str]:
        """The script's answers, one after the other: a list of them goes by the prompts' order."""
        return [self.generate(prompt) for prompt in prompts]

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in self.__dict__.items() if name != "_lock"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._lock = threading.Lock()

    async def agenerate(self, prompt: Prompt) -> str:
        """The same; its delay does not block the event loop."""
        with tracing.chat("fake", [prompt]) as span:
            await asyncio.sleep(self.delay)
            return self._answer(prompt, span)

    async def agenerate_batch(self, prompts: Sequence[Prompt]) -> list[str]:
        """The script's answers, one after the other, as `generate_batch` gives them."""
        return [await self.agenerate(prompt) for prompt in prompts]

    def logprobs(self, prompt: Prompt, continuation: str) -> list[float]:
        """A made-up log-probability for each word of a continuation; takes no answer from a list.

        Raises:
            BaseException: the script is an exception.
        """
        time.sleep(self.delay)
        if isinstance(self._script, BaseException):
            raise self._script
        known = set(as_text(prompt).split())
        return [-1.0 if word in known else -5.0 for word in continuation.split()]

    def logprobs_batch(self, pairs: Sequence[tuple[Prompt, str]]) -> list[list[float]]:
        """The same for many pairs, in their order."""
        return [self.logprobs(prompt, continuation) for prompt, continuation in pairs]

    def _answer(self, prompt: Prompt, span: tracing.TraceSpan) -> str:
        text = as_text(prompt)
        with self._lock:
            turn = len(self.prompts)
            self.prompts.append(text)
        answer = self._look_up(text, turn)
        if isinstance(answer, BaseException):
            raise answer
        tracing.answered(span, [answer], self.count_tokens(text), self.count_tokens(answer))
        return answer

    def _look_up(self, text: str, turn: int) -> Answer:
        script = self._script
        if isinstance(script, (str, BaseException)):
            return script
        if isinstance(script, Mapping):
            for key, answer in script.items():
                if key in text:
                    return answer
            raise GeneratorError(f"none of the script's {len(script)} keys stands in the prompt {text!r:.80}")
        if callable(script):
            return script(text)
        if turn >= len(script):
            raise GeneratorError(f"the script holds {len(script)} answers, but was asked for one more")
        return script[turn]
