"""The one switch for texts: whether queries, passages and answers may stand in spans and logs. Off by default."""

from __future__ import annotations

import logging
import os
from functools import cache

VARIABLE = "CTXSHAPER_TRACE_CONTENT"

_log = logging.getLogger(__name__)
_chosen: bool | None = None


def record_content(on: bool | None = True) -> None:
    """Let texts into spans and logs of this process, or keep them out.

    Args:
        on: outranks the environment variable CTXSHAPER_TRACE_CONTENT; None leaves it to that again.
    """
    global _chosen
    _chosen = on


def content_recorded() -> bool:
    """Whether texts may be recorded: what `record_content` said last, else CTXSHAPER_TRACE_CONTENT=true."""
    return _asked(os.environ.get(VARIABLE, "")) if _chosen is None else _chosen


def described(error: BaseException) -> str:
    """An error for a log or a span: its type, and its message, which may quote a text, where texts may be recorded."""
    name = type(error).__name__
    return f"{name}: {error}" if content_recorded() else name


@cache
def _asked(value: str) -> bool:
    if value.lower() not in ("", "true", "false"):
        _log.warning("%s must be true or false, but is %.20r: no content is recorded", VARIABLE, value)
    return value.lower() == "true"
