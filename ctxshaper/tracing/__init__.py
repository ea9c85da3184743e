"""Spans through OpenTelemetry, where the application has set it up; next to nothing elsewhere."""

from ctxshaper.tracing.content import content_recorded, described, record_content
from ctxshaper.tracing.conventions import answered, chat, documents
from ctxshaper.tracing.spans import Place, TraceSpan, here, span

__all__ = [
    "Place",
    "TraceSpan",
    "answered",
    "chat",
    "content_recorded",
    "described",
    "documents",
    "here",
    "record_content",
    "span",
]
