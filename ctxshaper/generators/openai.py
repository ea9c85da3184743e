"""Any endpoint that speaks OpenAI's chat completions: OpenAI, vLLM, llama.cpp, Ollama and many more."""

from __future__ import annotations

import asyncio
import base64
import email.utils
import json
import math
import os
import random
from collections.abc import Sequence
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from typing import Any
from urllib.parse import unquote, urlsplit

from ctxshaper import tracing
from ctxshaper.errors import GeneratorError, InvalidInputError
from ctxshaper.generators.adapters import text_of
from ctxshaper.generators.base import Generator, Prompt, as_messages
from ctxshaper.generators.redaction import Redactor
from ctxshaper.generators.transfer import EncodingError, Reply, client, load_httpx, post
from ctxshaper.generators.waiting import blocking, until_deadline
from ctxshaper.text.tokenization import encodable

_RETRIED = frozenset({408, 409, 429, 500, 502, 503, 504, 529})
# Waits double from the first; a server that asks for more than the longest is not waited for.
_FIRST_WAIT, _LONGEST_WAIT = 0.5, 60.0
# The longest answers of today's models take well under one MiB.
_MOST_BYTES = 8 * 2**20
_SHOWN = 300


@dataclass(frozen=True, kw_only=True, repr=False)
class OpenAIGenerator(Generator):
    """A model behind an HTTP endpoint.

    The key is read from the environment at each request, and is neither kept, logged nor shown in errors. At most 8 MiB
    of an answer are read.

    Attributes:
        model: the model's name at the endpoint.
        base_url: up to and without `/chat/completions`. A user name and password in it are sent in place of a key, and
            never shown.
        api_key_env: the environment variable that holds the key; a server without keys needs none.
        temperature: None leaves it to the server, as some models demand.
        max_new_tokens: the longest answer; None leaves it to the server.
        context_window: tokens that prompt and answer may take together.
        timeout: seconds for one attempt as a whole, from connecting to the last byte of the answer.
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
        _check_url(self.base_url)
        if not (self.timeout > 0 and math.isfinite(self.timeout)) or self.retries < 0:
            raise InvalidInputError(f"needs timeout > 0 and retries >= 0, but got {self.timeout} and {self.retries}")

    def __repr__(self) -> str:
        shown = {f.name: getattr(self, f.name) for f in fields(self)} | {"base_url": self._shown_url}
        return f"OpenAIGenerator({', '.join(f'{name}={value!r}' for name, value in shown.items())})"

    def generate(self, prompt: Prompt) -> str:
        """The model's answer.

        Raises:
            GeneratorError: no answer after all attempts, or one that is not in OpenAI's form.
            DeadlineError: the request's time is over, or it was cancelled.
            MissingDependencyError: httpx is not installed.
        """
        return blocking(lambda: self.agenerate(prompt))

    async def agenerate(self, prompt: Prompt) -> str:
        """The same without blocking the event loop, and without a thread."""
        return await until_deadline(self._ask(prompt))

    def generate_batch(self, prompts: Sequence[Prompt]) -> list[str]:
        """Answers to many prompts, in their order, a few requests at a time."""
        return blocking(lambda: self.agenerate_batch(prompts))

    async def _ask(self, prompt: Prompt) -> str:
        with tracing.chat(
            self.model,
            [prompt],
            provider="openai",
            max_tokens=self.max_new_tokens,
            temperature=self.temperature,
            remote=True,
        ) as span:
            span.put({"server.address": urlsplit(self.base_url).hostname})
            text, usage = await self._asked(prompt)
            tracing.answered(span, [text], *usage)
        return text

    async def _asked(self, prompt: Prompt) -> tuple[str, tuple[int | None, int | None]]:
        key = self._key()
        login = _login(self.base_url)
        hide = Redactor([key, login, login.partition(":")[2] or login, urlsplit(self.base_url).password or ""])
        # Without the login: httpx writes the URL into its log.
        url = f"{self._shown_url.rstrip('/')}/chat/completions"
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        if login:
            headers = {"Authorization": f"Basic {base64.b64encode(login.encode()).decode()}"}
        content = self._body(prompt)
        attempt = 0
        async with client(self.timeout) as http:
            while True:
                wait = _FIRST_WAIT * 2.0**attempt
                problem = ""
                reply: Reply | None = None
                try:
                    async with asyncio.timeout(self.timeout):
                        reply = await post(http, url, content, headers, _MOST_BYTES)
                except TimeoutError:
                    problem = f"TimeoutError: no whole answer within {self.timeout} seconds"
                except (load_httpx().HTTPError, load_httpx().InvalidURL, OSError, EncodingError) as error:
                    problem = f"{type(error).__name__}: {error}".rstrip(": ")
                if reply is not None and reply.status == 200:
                    return _answer(reply, hide), _usage(reply)
                if reply is not None:
                    problem = f"status {reply.status}: {_beginning(reply, hide)}"
                    wait = max(wait, _retry_after(reply.headers.get("retry-after", "")))
                final = reply is not None and reply.status not in _RETRIED
                if final or attempt == self.retries or wait > _LONGEST_WAIT:
                    break
                # Jitter keeps many clients from coming back at once; it never undercuts what the server asked for.
                await asyncio.sleep(wait * (1 + 0.25 * random.random()))  # noqa: S311  # not for cryptography
                attempt += 1
        # Outside of any `except`: the errors of HTTP libraries may quote the request, and tracebacks show causes.
        hint = f"; put a valid key into the environment variable {self.api_key_env}" if "status 401" in problem else ""
        raise GeneratorError(
            f"{self.model} at {self._shown_url} gave no answer in {attempt + 1} attempt(s): {hide(problem)}{hint}"
        )

    def _key(self) -> str:
        key = os.environ.get(self.api_key_env, "").strip()
        if not all("!" <= sign <= "~" for sign in key):
            raise GeneratorError(
                f"the key in the environment variable {self.api_key_env} holds a line break, a space or a character "
                "outside of ASCII, and none of them can be sent; set the variable to the key alone"
            )
        return key

    def _body(self, prompt: Prompt) -> bytes:
        body: dict[str, Any] = {"model": self.model, "messages": as_messages(prompt)}
        if self.temperature is not None:
            body["temperature"] = self.temperature
        if self.max_new_tokens is not None:
            body["max_tokens"] = self.max_new_tokens
        try:
            return encodable(json.dumps(body, ensure_ascii=False, allow_nan=False)).encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise InvalidInputError(f"the prompt or an option cannot be written as JSON: {error}") from error

    @property
    def _shown_url(self) -> str:
        parts = urlsplit(self.base_url)
        return parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def _check_url(url: str) -> None:
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and url.isprintable()
        _ = parts.port
    except ValueError:
        usable = False
    if not usable:
        # What stands before an @ may be a password, and what follows a question mark a key.
        shown = "one that is not shown, as it may hold a password" if {"@", "?"} & set(url) else repr(url)
        raise InvalidInputError(f"base_url must begin with http:// or https:// and a host, but got {shown}")
    if parts.query or parts.fragment:
        raise InvalidInputError(
            "base_url ends before /chat/completions, without ? or #; a key belongs into the variable api_key_env"
        )


def _login(url: str) -> str:
    """The user name and password of a URL, as `user:password`; empty where it has none."""
    parts = urlsplit(url)
    return f"{unquote(parts.username or '')}:{unquote(parts.password or '')}" if "@" in parts.netloc else ""


def _beginning(reply: Reply, hide: Redactor) -> str:
    """The beginning of a body, for an error; secrets are hidden before it is cut, so that no half of one is left."""
    return hide(reply.body.decode("utf-8", "replace"))[:_SHOWN]


def _answer(reply: Reply, hide: Redactor) -> str:
    if not reply.whole:
        raise GeneratorError(f"the endpoint's answer is longer than {_MOST_BYTES:,} bytes; check base_url")
    problem = ""
    try:
        message = json.loads(reply.body)["choices"][0]["message"]
        content, refusal = message.get("content"), message.get("refusal")
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        problem = type(error).__name__
    if problem:
        raise GeneratorError(
            f"the endpoint's answer is not a chat completion ({problem}): {_beginning(reply, hide)!r}; check base_url"
        )
    if refusal and not content:
        raise GeneratorError(f"the model refused: {hide(str(refusal))[:_SHOWN]}")
    return text_of(content)


def _usage(reply: Reply) -> tuple[int | None, int | None]:
    """The tokens of prompt and answer as the endpoint counted them; None where it says nothing that can be read."""
    try:
        told = json.loads(reply.body)["usage"]
        counts = [told.get(name) for name in ("prompt_tokens", "completion_tokens")]
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return None, None
    read, written = (count if type(count) is int and 0 <= count < 2**63 else None for count in counts)
    return read, written


def _retry_after(value: str) -> float:
    """Seconds that a Retry-After header asks for: a number or a date; 0 where it asks for nothing readable."""
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, (email.utils.parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return 0.0
