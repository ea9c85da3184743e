"""Waiting for what is asynchronous: from code that is not, and no longer than the request lasts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any, TypeVar

from ctxshaper.data import deadline

T = TypeVar("T")
# A request can be cancelled from another thread, which nothing announces to the event loop.
_LOOK = 0.1


def blocking(call: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Run a coroutine to its end from code that is not asynchronous, also where an event loop runs around it.

    Args:
        call: makes the coroutine.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return _run(call)
    # A running loop cannot run another one in its thread.
    with ThreadPoolExecutor(1, thread_name_prefix="ctxshaper-wait") as thread:
        return thread.submit(copy_context().run, _run, call).result()


async def until_deadline(work: Awaitable[T]) -> T:
    """Await something; stop it when the current request's time is over, or the request is cancelled.

    Raises:
        DeadlineError: it was stopped.
    """
    request = deadline.current()
    if request is None:
        return await work
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            request.check()
            left = request.left
            await asyncio.wait({task}, timeout=_LOOK if left is None else min(_LOOK, left))
        return task.result()
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)


def _run(call: Callable[[], Coroutine[Any, Any, T]]) -> T:
    # With a factory, the loop is not set as the thread's own, and so is not unset at the end either.
    with asyncio.Runner(loop_factory=asyncio.new_event_loop) as runner:
        return runner.run(call())
