"""Spans: begun by `span`, children of whichever span is current, current themselves while their block runs.

OpenTelemetry is never imported here. An application that collects spans has imported it; where it has not, or has set
no tracer provider, `span` gives one object that does nothing.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, TypeAlias

from ctxshaper.tracing.content import content_recorded, described

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext, Tracer

Place: TypeAlias = "SpanContext"
# Of OpenInference (github.com/Arize-ai/openinference, spec/semantic_conventions.md), by which viewers draw a span.
Kind = Literal["CHAIN", "RERANKER", "EMBEDDING", "LLM"]
Value = str | bool | int | float | Sequence[str] | None

_known: tuple[object, Tracer] | None = None


class TraceSpan:
    """A span that nobody records: the base of those that somebody does.

    Attributes:
        recording: whether somebody records it, so that attributes are worth computing.
    """

    recording = False

    def set(self, **own: Value) -> None:
        """Set attributes of this project, each under `ctxshaper.`; None is left out."""

    def put(self, attributes: Mapping[str, Value]) -> None:
        """Set attributes by their full names; None is left out."""

    def say(self, content: Mapping[str, Value]) -> None:
        """The same with texts of users, which are recorded only where the switch for content is on."""

    def link(self, place: Place | None) -> None:
        """Point to another span, which may belong to another trace; None to nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        """End it; an error is recorded and goes on."""


_NOTHING = TraceSpan()


class _Recorded(TraceSpan):
    """A span of OpenTelemetry, begun and made current by `with`.

    Args:
        tracer: makes it.
        name: of the span.
        attributes: that it begins with, by their full names.
        remote: whether it is a call to another machine.
    """

    def __init__(self, tracer: Tracer, name: str, attributes: Mapping[str, Value], remote: bool) -> None:
        self._tracer, self._name, self._attributes, self._remote = tracer, name, attributes, remote

    def __enter__(self) -> Self:
        from opentelemetry import context, trace

        kind = trace.SpanKind.CLIENT if self._remote else trace.SpanKind.INTERNAL
        self._span = self._tracer.start_span(self._name, kind=kind)
        self.recording = self._span.is_recording()
        self.put(self._attributes)
        self._token = context.attach(trace.set_span_in_context(self._span))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        from opentelemetry import context

        if error is not None and self.recording:
            self._fail(error, at)
        self._span.end()
        context.detach(self._token)

    def set(self, **own: Value) -> None:
        self.put({f"ctxshaper.{name}": value for name, value in own.items()})

    def put(self, attributes: Mapping[str, Value]) -> None:
        if self.recording:
            given = {name: _sendable(value) for name, value in attributes.items() if value is not None}
            self._span.set_attributes(given)

    def say(self, content: Mapping[str, Value]) -> None:
        if self.recording and content_recorded():
            self.put(content)

    def link(self, place: Place | None) -> None:
        if place is not None and self.recording:
            self._span.add_link(place)

    def _fail(self, error: BaseException, at: TracebackType | None) -> None:
        from opentelemetry.trace import Status, StatusCode

        # A coroutine's or generator's end from outside: its caller was cancelled, or ran out of time.
        what = "ended by its caller" if isinstance(error, GeneratorExit) else described(error)
        event = {"exception.type": type(error).__name__}
        # Frames alone: what stands below them in a whole traceback are the messages.
        event["exception.stacktrace"] = "".join(traceback.format_tb(at))
        if content_recorded():
            event["exception.message"] = str(error)
        self._span.add_event("exception", {name: _sendable(text) for name, text in event.items()})
        self._span.set_status(Status(StatusCode.ERROR, _sendable(what)))


def span(name: str, kind: Kind = "CHAIN", *, remote: bool = False, **own: Value) -> TraceSpan:
    """A span for a block of code.

        with tracing.span("ctxshaper.prefill", passages=20) as reading:
            reading.set(tokens_read=read())

    It is a child of the current span of the thread or task, and current while the block runs. Where it is entered in
    one context (`contextvars`) it has to be left in that one.

    Args:
        name: one of few; what differs from request to request belongs into attributes.
        kind: of OpenInference.
        remote: whether the block is a call to another machine.
        **own: attributes of this project, set under `ctxshaper.`.
    """
    tracer = _tracer()
    if tracer is None:
        return _NOTHING
    attributes: dict[str, Value] = {"openinference.span.kind": kind}
    attributes.update((f"ctxshaper.{key}", value) for key, value in own.items())
    return _Recorded(tracer, name, attributes, remote)


def here() -> Place | None:
    """The current span's address, for links from other threads' spans; None where there is none."""
    if _tracer() is None:
        return None
    from opentelemetry.trace import get_current_span

    place = get_current_span().get_span_context()
    return place if place.is_valid else None


def _tracer() -> Tracer | None:
    global _known
    api: Any = sys.modules.get("opentelemetry.trace")
    if api is None:
        return None
    # Another thread may be about to import it: it is there then, but holds nothing yet.
    find, unset = getattr(api, "get_tracer_provider", None), getattr(api, "ProxyTracerProvider", None)
    if find is None or unset is None:
        return None
    provider = find()
    if isinstance(provider, unset):
        return None
    if _known is None or _known[0] is not provider:
        version = getattr(sys.modules.get("ctxshaper"), "__version__", None)
        _known = provider, provider.get_tracer("ctxshaper", version)
    return _known[1]


def _sendable(value: Any) -> Any:
    """A value as exporters can write it: a lone surrogate has no UTF-8, and would cost all spans sent with it."""
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "replace").decode("utf-8")
    if isinstance(value, (list, tuple)):
        return [_sendable(one) for one in value]
    return value
