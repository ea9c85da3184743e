"""Batches what concurrent requests want read: while one batch is read, the next one fills."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Generic, Protocol, TypeVar

from ctxshaper import tracing
from ctxshaper.data import deadline
from ctxshaper.data.deadline import Deadline
from ctxshaper.errors import DeadlineError
from ctxshaper.reading.locks import renew_after_fork

Handle = TypeVar("Handle")
Text = TypeVar("Text")

# Seconds between two looks at a waiting request's deadline: nothing wakes it when its caller cancels.
_SLICE = 0.05


class Memories(Protocol[Handle]):
    """Where what was read is remembered, by content. Thread-safe.

    What a request holds stays as it is until it is released, whatever is forgotten meanwhile.
    """

    def take(self, keys: Iterable[bytes]) -> dict[bytes, Handle]:
        """Those remembered of these keys, held for the caller."""
        ...

    def hold(self, handles: Iterable[Handle]) -> None:
        """Hold once more what somebody holds."""
        ...

    def release(self, handles: Iterable[Handle]) -> None:
        """Let go of what `take` or `hold` gave."""
        ...


@dataclass(eq=False)
class _Request(Generic[Text, Handle]):
    wanted: Mapping[bytes, Text]
    limit: Deadline | None
    handles: dict[bytes, Handle] = field(default_factory=dict)
    error: Exception | None = None
    done: bool = False
    gone: bool = False
    reader: tracing.Place | None = None


class RequestBatcher(Generic[Text, Handle]):
    """Reads what many threads want in shared batches: one of them reads for all that wait. Thread-safe.

    Each request keeps its own deadline. One that waits leaves when its time is over, and the others stay. The thread
    that reads does so under its own deadline: when that ends, what it has read so far is remembered, the others go
    back into the queue, and the next of them goes on.

    Args:
        memories: where what was read is remembered.
        read: reads texts, given their tokens by key, and returns their memories, held once.
    """

    def __init__(self, memories: Memories[Handle], read: Callable[[Mapping[bytes, Text]], dict[bytes, Handle]]) -> None:
        self._memories = memories
        self._read = read
        self.renew()
        renew_after_fork(self)

    def renew(self) -> None:
        """Nobody waits: the state of a forked child, in which the threads that waited do not exist."""
        self._waiting: list[_Request[Text, Handle]] = []
        self._busy = False
        self._turn = threading.Condition()

    def read(self, wanted: Mapping[bytes, Text]) -> dict[bytes, Handle]:
        """The memories of texts, given their tokens by key, held for the caller until it releases them.

        Raises:
            DeadlineError: the caller's deadline passed, or it was cancelled.
            Exception: whatever the reading of these texts raised; other requests' failures stay theirs.
        """
        if not wanted:
            return {}
        request: _Request[Text, Handle] = _Request(wanted, deadline.current())
        if self._waits(request):
            try:
                self._serve(request)
            finally:
                with self._turn:
                    self._busy = False
                    self._turn.notify_all()
        if request.error is not None:
            raise request.error
        return request.handles

    def _waits(self, request: _Request[Text, Handle]) -> bool:
        """Wait until somebody has read for this request (False), or nobody reads (True: the caller is to)."""
        with self._turn:
            self._waiting.append(request)
            try:
                if self._busy:
                    with tracing.span("ctxshaper.wait") as span:
                        self._wait(request)
                        span.link(request.reader)
            except BaseException:
                self._leave(request)
                raise
            if request.done:
                return False
            self._busy = True
            return True

    def _wait(self, request: _Request[Text, Handle]) -> None:
        while self._busy and not request.done:
            self._turn.wait(None if request.limit is None else _SLICE)
            if request.limit is not None and not request.done:
                request.limit.check()

    def _leave(self, request: _Request[Text, Handle]) -> None:
        request.gone = True
        if request in self._waiting:
            self._waiting.remove(request)
        if request.done:
            self._memories.release(request.handles.values())

    def _serve(self, own: _Request[Text, Handle]) -> None:
        """Read for a request and for all that wait beside it."""
        with self._turn:
            together, self._waiting = self._waiting, []
        try:
            self._read_for(together)
        except BaseException as error:
            # Whoever was not served by this thread is served by the next.
            with self._turn:
                self._waiting = [r for r in together if not (r.done or r.gone or r is own)] + self._waiting
            if not isinstance(error, DeadlineError):
                self._memories.release(own.handles.values())
                raise
            if not own.done:
                own.error, own.done = error, True

    def _read_for(self, requests: list[_Request[Text, Handle]]) -> None:
        deadline.check()
        requests = [request for request in requests if not request.gone]
        place = tracing.here()
        for request in requests:
            request.reader = place
        wanted = {key: ids for request in requests for key, ids in request.wanted.items()}
        # Somebody may have read it while these waited.
        handles = self._memories.take(wanted)
        try:
            handles |= self._read({key: ids for key, ids in wanted.items() if key not in handles})
        except DeadlineError:
            self._memories.release(handles.values())
            raise
        except Exception as error:  # noqa: BLE001  # handed to the one whose texts they are
            self._memories.release(handles.values())
            if len(requests) > 1:
                for request in requests:
                    self._read_for([request])
                return
            with self._turn:
                for request in requests:
                    request.error, request.done = error, True
            return
        with self._turn:
            for request in requests:
                if not request.gone:
                    request.handles = {key: handles[key] for key in request.wanted}
                    self._memories.hold(request.handles.values())
                    request.done = True
            self._turn.notify_all()
        self._memories.release(handles.values())
