"""Attributes under the names that viewers know.

OpenInference's (github.com/Arize-ai/openinference, spec/semantic_conventions.md) and those that OpenTelemetry defines
for generative AI (opentelemetry.io/docs/specs/semconv/gen-ai). They are plain strings: no package is needed for them.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Literal

from ctxshaper.tracing.content import content_recorded
from ctxshaper.tracing.spans import TraceSpan, Value, span

# SDKs keep 128 attributes of a span and drop the oldest, its kind among them: 16 documents in and 16 out, with 3
# attributes each, leave room for the others.
MOST_DOCUMENTS = 16


def documents(
    side: Literal["input", "output"], rows: Iterable[tuple[str, float | None, str | None]]
) -> dict[str, Value]:
    """Attributes of what a reranker was given or gives.

    Args:
        side: which of both.
        rows: id, score and text of each; the first 16 are recorded, and texts only where content may be.
    """
    found: dict[str, Value] = {}
    for place, (name, score, text) in zip(range(MOST_DOCUMENTS), rows, strict=False):
        prefix = f"reranker.{side}_documents.{place}.document."
        found[f"{prefix}id"] = name
        found[f"{prefix}score"] = score
        found[f"{prefix}content"] = text if content_recorded() else None
    return found


@contextmanager
def chat(
    model: str | None,
    prompts: Sequence[str | Sequence[Mapping[str, object]]],
    *,
    provider: str | None = None,
    max_tokens: int | None = None,
    temperature: float | None = None,
    remote: bool = False,
) -> Iterator[TraceSpan]:
    """A span around one call of a language model that writes.

    Args:
        model: its name, where it is known.
        prompts: what it is asked in this call: texts or messages.
        provider: whose API it is, by OpenTelemetry's list.
        max_tokens: the longest answer that is allowed.
        temperature: of the drawing.
        remote: whether it runs on another machine.
    """
    with span(f"chat {model}" if model else "chat", "LLM", remote=remote, prompts=len(prompts)) as asking:
        if asking.recording:
            asking.put(
                {
                    "gen_ai.operation.name": "chat",
                    "gen_ai.provider.name": provider,
                    "gen_ai.request.model": model,
                    "gen_ai.request.max_tokens": max_tokens,
                    "gen_ai.request.temperature": temperature,
                    "llm.provider": provider,
                    "llm.model_name": model,
                }
            )
            if content_recorded():
                asking.say({"input.value": _json(prompts), "input.mime_type": "application/json"})
        yield asking


def answered(
    asking: TraceSpan, answers: Sequence[str], input_tokens: int | None = None, output_tokens: int | None = None
) -> None:
    """Set what a language model's call gave.

    Args:
        asking: the call's span.
        answers: one for each prompt.
        input_tokens: of all prompts together, where it is known.
        output_tokens: of all answers together, likewise.
    """
    if not asking.recording:
        return
    known = [tokens for tokens in (input_tokens, output_tokens) if tokens is not None]
    asking.put(
        {
            "gen_ai.usage.input_tokens": input_tokens,
            "gen_ai.usage.output_tokens": output_tokens,
            "llm.token_count.prompt": input_tokens,
            "llm.token_count.completion": output_tokens,
            "llm.token_count.total": sum(known) if len(known) == 2 else None,
        }
    )
    if content_recorded():
        asking.say({"output.value": _json(answers), "output.mime_type": "application/json"})


def _json(texts: Sequence[str | Sequence[Mapping[str, object]]]) -> str:
    plain = [text if isinstance(text, str) else [dict(message) for message in text] for text in texts]
    return json.dumps(plain, ensure_ascii=False)
