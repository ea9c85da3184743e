"""Requests that arrive together are read together: while one batch is read, what others want is gathered."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from ctxshaper.reading.memory import Memories

Handle = TypeVar("Handle")
Wanted = Mapping[bytes, tuple[int, ...]]


@dataclass(eq=False)
class _Request(Generic[Handle]):
    wanted: Wanted
    handles: dict[bytes, Handle] = field(default_factory=dict)
    error: Exception | None = None
    done: bool = False


class Gathering(Generic[Handle]):
    """Lets many threads ask for passages to be read; one of them reads for all that wait.

    Args:
        memories: where what was read is remembered.
        read: reads passages, given their tokens by key, and returns their memories, held once.
    """

    def __init__(self, memories: Memories[Handle], read: Callable[[Wanted], dict[bytes, Handle]]) -> None:
        self._memories = memories
        self._read = read
        self._waiting: list[_Request[Handle]] = []
        self._reading, self._queue = threading.Lock(), threading.Lock()

    def read(self, wanted: Wanted) -> dict[bytes, Handle]:
        """The memories of passages, held for the caller until it releases them.

        Raises:
            Exception: whatever the reading of these passages raised; other requests' failures stay theirs.
        """
        if not wanted:
            return {}
        request: _Request[Handle] = _Request(wanted)
        with self._queue:
            self._waiting.append(request)
        with self._reading:
            if not request.done:
                with self._queue:
                    together, self._waiting = self._waiting, []
                # A reader that was interrupted took this request off the queue without serving it.
                self._serve(together if request in together else [*together, request])
        if request.error is not None:
            raise request.error
        return request.handles

    def _serve(self, requests: list[_Request[Handle]]) -> None:
        wanted = {key: ids for request in requests for key, ids in request.wanted.items()}
        # Somebody may have read it while this request waited.
        handles = self._memories.take(wanted)
        try:
            handles |= self._read({key: ids for key, ids in wanted.items() if key not in handles})
        except Exception as error:  # noqa: BLE001  # handed to the one whose passages they are
            self._memories.release(handles.values())
            if len(requests) == 1:
                requests[0].error, requests[0].done = error, True
                return
            for request in requests:
                self._serve([request])
            return
        for request in requests:
            request.handles = {key: handles[key] for key in request.wanted}
            self._memories.hold(request.handles.values())
            request.done = True
        self._memories.release(handles.values())
