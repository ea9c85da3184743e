"""Any endpoint that speaks OpenAI's chat completions: OpenAI, vLLM, llama.cpp, Ollama and many more."""

from __future__ import annotations

import asyncio
import email.utils
import os
import random
import time
from collections.abc import Generator as Flow
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from ctxshaper.errors import GeneratorError, InvalidInputError, MissingDependencyError
from ctxshaper.generators.adapters import text_of
from ctxshaper.generators.base import Generator, Prompt, as_messages

if TYPE_CHECKING:
    import httpx

_RETRIED = frozenset({408, 409, 429, 500, 502, 503, 504, 529})
# Waits double from the first; a server that asks for more than the longest is not waited for.
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 60.0


@dataclass(frozen=True, kw_only=True)
class OpenAIGenerator(Generator):
    """A model behind an HTTP endpoint.

    The key is read from the environment at each request, and is neither kept, logged nor shown in errors.

    Attributes:
        model: the model's name at the endpoint.
        base_url: up to and without `/chat/completions`.
        api_key_env: the environment variable that holds the key; a server without keys needs none.
        temperature: None leaves it to the server, as some models demand.
        max_new_tokens: the longest answer; None leaves it to the server.
        context_window: tokens that prompt and answer may take together.
        timeout: seconds to wait for a connection, and for each piece of the answer.
        retries: further attempts after a time-out, a lost connection, status 429 or a server's failure.

    Raises:
        InvalidInputError: an option out of range.
    """

    model: str
    base_url: str = "https://api.openai.com/v1"
    api_key_env: str = "OPENAI_API_KEY"
    temperature: float | None = 0.0
    max_new_tokens: int | None = 1024
    context_window: int = 8192
    timeout: float = 60.0
    retries: int = 3

    def __post_init__(self) -> None:
        if not self.base_url.startswith(("http://", "https://")):
            raise InvalidInputError(f"base_url must begin with http:// or https://, but got {self.base_url!r}")
        if self.timeout <= 0 or self.retries < 0:
            raise InvalidInputError(f"needs timeout > 0 and retries >= 0, but got {self.timeout} and {self.retries}")

    def generate(self, prompt: Prompt) -> str:
        """The model's answer.

        Raises:
            GeneratorError: no answer after all attempts, or one that is not in OpenAI's form.
            MissingDependencyError: httpx is not installed.
        """
        with _httpx().Client(timeout=self.timeout) as client:
            flow = self._talk(prompt)
            step = next(flow)
            while True:
                outcome: Any = None
                try:
                    if isinstance(step, float):
                        time.sleep(step)
                    else:
                        outcome = client.post(**step)
                except _httpx().HTTPError as error:
                    outcome = error
                try:
                    step = flow.send(outcome)
                except StopIteration as done:
                    return str(done.value)

    async def agenerate(self, prompt: Prompt) -> str:
        """The same over asynchronous connections."""
        async with _httpx().AsyncClient(timeout=self.timeout) as client:
            flow = self._talk(prompt)
            step = next(flow)
            while True:
                outcome: Any = None
                try:
                    if isinstance(step, float):
                        await asyncio.sleep(step)
                    else:
                        outcome = await client.post(**step)
                except _httpx().HTTPError as error:
                    outcome = error
                try:
                    step = flow.send(outcome)
                except StopIteration as done:
                    return str(done.value)

    def _talk(self, prompt: Prompt) -> Flow[dict[str, Any] | float, httpx.Response | Exception | None, str]:
        """All of the exchange but its waiting: yields requests to send and seconds to sleep, returns the answer.

        So both ways of waiting share one set of rules.
        """
        key = os.environ.get(self.api_key_env, "").strip()
        body: dict[str, Any] = {"model": self.model, "messages": as_messages(prompt)}
        if self.temperature is not None:
            body["temperature"] = self.temperature
        if self.max_new_tokens is not None:
            body["max_tokens"] = self.max_new_tokens
        request = {
            "url": f"{self.base_url.rstrip('/')}/chat/completions",
            "json": body,
            "headers": {"Authorization": f"Bearer {key}"} if key else {},
        }
        attempt = 0
        while True:
            outcome = yield request
            wait = _FIRST_WAIT * 2.0**attempt
            if isinstance(outcome, Exception):
                problem = f"{type(outcome).__name__}: {outcome}".rstrip(": ")
            elif outcome is None:
                raise TypeError("a request was answered by nothing")
            elif outcome.status_code == 200:
                return _answer(outcome)
            else:
                problem = f"status {outcome.status_code}: {outcome.text[:300]}"
                if outcome.status_code not in _RETRIED:
                    raise self._error(problem, key, 1 + attempt)
                wait = max(wait, _retry_after(outcome.headers.get("retry-after", "")))
            if attempt == self.retries or wait > _LONGEST_WAIT:
                raise self._error(problem, key, 1 + attempt)
            # Jitter keeps many clients from coming back at once; it never undercuts what the server asked for.
            yield wait * (1 + 0.25 * random.random())  # noqa: S311  # not for cryptography
            attempt += 1

    def _error(self, problem: str, key: str, attempts: int) -> GeneratorError:
        shown = problem.replace(key, "***") if key else problem
        hint = f"; put a valid key into the environment variable {self.api_key_env}" if "status 401" in shown else ""
        return GeneratorError(f"{self.model} at {self.base_url} gave no answer in {attempts} attempt(s): {shown}{hint}")


def _httpx() -> Any:
    try:
        import httpx
    except ImportError as error:
        raise MissingDependencyError("OpenAIGenerator needs httpx; pip install 'ctxshaper[api]'") from error
    return httpx


def _answer(response: httpx.Response) -> str:
    try:
        choice = response.json()["choices"][0]
        message = choice["message"]
        content, refusal = message.get("content"), message.get("refusal")
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise GeneratorError(
            f"the endpoint's answer is not a chat completion ({type(error).__name__}): {response.text[:200]!r}; "
            "check base_url"
        ) from error
    if refusal and not content:
        raise GeneratorError(f"the model refused: {refusal!s:.300}")
    return text_of(content)


def _retry_after(value: str) -> float:
    """Seconds that a Retry-After header asks for: a number or a date; 0 where it asks for nothing readable."""
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (email.utils.parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError):
        return 0.0
