"""Who is let in: so many requests at once, so many waiting, and the others told when to come again."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from ctxshaper.errors import DeadlineError

# How much the newest request counts in the mean time of one.
_NEWEST = 0.1


class QueueFullError(Exception):
    """No room to wait in.

    Attributes:
        retry_after: whole seconds after which there should be some.
    """

    def __init__(self, retry_after: int) -> None:
        super().__init__(f"as many requests wait as may; come again in {retry_after} s")
        self.retry_after = retry_after


class Admission:
    """Lets so many requests work at once; of one event loop.

    Args:
        concurrency: most requests at work.
        queue: most requests that wait for their turn.
    """

    def __init__(self, concurrency: int, queue: int) -> None:
        self._concurrency, self._queue = concurrency, queue
        self._turns = asyncio.Semaphore(concurrency)
        self.waiting = self.working = 0
        self._mean = 0.1

    @asynccontextmanager
    async def turn(self, seconds: float) -> AsyncIterator[float]:
        """A turn to work in; gives the seconds that are left of those the request has.

        Raises:
            QueueFullError: too many wait already.
            DeadlineError: the request's time was over before its turn came.
        """
        if self._turns.locked() and self.waiting >= self._queue:
            raise QueueFullError(max(1, math.ceil(self._mean * (1 + self.waiting) / self._concurrency)))
        arrived = time.perf_counter()
        self.waiting += 1
        try:
            await asyncio.wait_for(self._turns.acquire(), seconds)
        except TimeoutError:
            raise DeadlineError(f"the request waited {seconds:g} s for its turn: all the time it has") from None
        finally:
            self.waiting -= 1
        self.working += 1
        began = time.perf_counter()
        try:
            yield max(seconds - (began - arrived), 0.001)
        finally:
            self.working -= 1
            self._turns.release()
            self._mean += _NEWEST * (time.perf_counter() - began - self._mean)
