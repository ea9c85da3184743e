"""How uvicorn is to run the service."""

from __future__ import annotations

from typing import Any

import uvicorn

from ctxshaper.serving.settings import Settings

# The longest head of a request, in bytes: more is refused with 400.
_HEAD = 64 * 1024


def configured(app: Any, settings: Settings) -> uvicorn.Config:
    """The server of an app that `create_app` made.

    Args:
        app: the service.
        settings: its address and its time limit.
    """
    return uvicorn.Config(
        app,
        host=settings.host,
        port=settings.port,
        # The parser that bounds a head: httptools takes any.
        http="h11",
        h11_max_incomplete_event_size=_HEAD,
        ws="none",
        log_config=None,  # how to log is the process's matter
        access_log=False,
        server_header=False,
        # What was accepted is answered before the process ends.
        timeout_graceful_shutdown=int(settings.timeout) + 5,
    )
