"""A reader whose passages lie on many machines: each scores its own, and the softmax over all is merged exactly."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any

import ray
from ray.exceptions import RayTaskError

from ctxshaper.data import Passage, deadline
from ctxshaper.data.deadline import Deadline, under
from ctxshaper.errors import CtxshaperError, InvalidInputError
from ctxshaper.reading.keys import QueryRows
from ctxshaper.reading.reader import Reader
from ctxshaper.reading.reading import Reading, Remembered
from ctxshaper.reading.scoring import Partial, merge

# Passages of a stream that are on their way to be remembered together.
_STREAM = 1024
# Seconds between two looks at a waiting request's deadline: nothing wakes it when its caller cancels.
_SLICE = 0.05
# Requests that a shard works on at once: its reader batches them.
_AT_ONCE = 16
# One whose machine died starts elsewhere, and reads its passages from the store, or anew.
_OPTIONS: Mapping[str, Any] = {"max_concurrency": _AT_ONCE, "max_restarts": -1, "max_task_retries": 2}


class ShardedReader:
    """Scores passages as one `Reader` would, by several in Ray actors: `Pipeline(..., reader=ShardedReader(r, 4))`.

    A passage belongs to one shard, by its text, and is read and remembered there alone; so the keys of a corpus may be
    as large as the memory of all machines. A query runs in one shard; each then gives the log-sum-exp of its own keys,
    and scores its passages under that of the whole. This merge is exact (Star Attention, arXiv 2411.17116, without its
    approximation): scores are those of a single reader up to the rounding of floats. (One difference: long passages are
    read in windows, and a window that two of them have word for word counts once in a reader, but twice where they lie
    in two shards.) A query costs three trips through Ray, some milliseconds; so it pays where keys do not fit one
    machine, or passages are many and new.

    `read_gem` needs all passages in sight: one shard reads them.

    Args:
        reader: what each shard is a copy of; give it a store, or its shards have to read anew when they start again.
        shards: how many.
        options: of Ray for each, such as `{"num_gpus": 1}`.

    Raises:
        InvalidInputError: fewer than one shard, or options that Ray does not know.
    """

    def __init__(self, reader: Reader, shards: int, options: Mapping[str, Any] | None = None) -> None:
        if shards < 1:
            raise InvalidInputError(f"a sharded reader needs at least one shard, but got {shards}")
        made: Any = ray.remote(_Shard)
        try:
            self._shards = [made.options(**{**_OPTIONS, **(options or {})}).remote(reader) for _ in range(shards)]
        except (ValueError, TypeError) as error:
            raise InvalidInputError(f"Ray does not take these options of a shard: {error}") from error
        # Counts tokens here, for which the weights are not loaded.
        self._reader = reader
        # What a pipeline asks of a reader beside scores: where the embedder and a language model find theirs.
        self.store, self.source, self.device, self.dtype = reader.store, reader.source, reader.device, reader.dtype

    def count_tokens(self, text: str) -> int:
        """See `Reader.count_tokens`."""
        return self._reader.count_tokens(text)

    def remember(self, passages: Iterable[Passage | str]) -> Remembered:
        """See `Reader.remember`; all shards read at once."""
        stream, done = map(Passage.of, passages), Remembered()
        while some := list(islice(stream, _STREAM)):
            parts = _parted(some, len(self._shards))
            done = sum(
                _got([self._shards[n].remember.remote([some[i] for i in own], _left()) for n, own in parts.items()]),
                done,
            )
        return done

    def read(self, query: str, passages: Sequence[Passage | str]) -> Reading:
        """See `Reader.read`; a text that stands twice is one passage to the softmax, as there."""
        started, made = time.perf_counter(), list(map(Passage.of, passages))
        parts = _parted(made, len(self._shards)) or {0: []}
        (data,) = _got([self._of(query).query_rows.remote(query, _left())])
        # Twice needed, sent once.
        own = [(self._shards[n], ray.put([made[i] for i in places])) for n, places in parts.items()]
        partials = _got([shard.partial.remote(data, part, _left()) for shard, part in own])
        whole = merge(QueryRows.from_bytes(data), partials)
        readings = _got([shard.read_rows.remote(data, part, whole, _left()) for shard, part in own])
        return _joined(query, parts, partials, readings, started)

    def read_gem(
        self, query: str, passages: Sequence[Passage | str], *, independent: bool = False, calibrated: bool = False
    ) -> Reading:
        """See `Reader.read_gem`."""
        call = self._of(query).read_gem.remote(query, list(passages), independent, calibrated, _left())
        (reading,) = _got([call])
        found: Reading = reading
        return found

    def _of(self, query: str) -> Any:
        """The shard that runs a query, and remembers its pass."""
        return self._shards[_place(query, len(self._shards))]


class _Shard:
    """One shard, in a process of its own; its calls run in threads, and each keeps its request's deadline."""

    def __init__(self, reader: Reader) -> None:
        self._reader = reader

    def remember(self, passages: list[Passage], seconds: float | None) -> Remembered:
        with under(Deadline(seconds)):
            return self._reader.remember(passages)

    def query_rows(self, query: str, seconds: float | None) -> bytes:
        with under(Deadline(seconds)):
            return self._reader.query_rows(query).to_bytes()

    def partial(self, rows: bytes, passages: list[Passage], seconds: float | None) -> Partial:
        with under(Deadline(seconds)):
            return self._reader.partial(QueryRows.from_bytes(rows), passages)

    def read_rows(self, rows: bytes, passages: list[Passage], whole: Partial, seconds: float | None) -> Reading:
        with under(Deadline(seconds)):
            return self._reader.read_rows(QueryRows.from_bytes(rows), passages, whole)

    def read_gem(
        self, query: str, passages: list[Passage], independent: bool, calibrated: bool, seconds: float | None
    ) -> Reading:
        with under(Deadline(seconds)):
            return self._reader.read_gem(query, passages, independent=independent, calibrated=calibrated)


def _parted(passages: Sequence[Passage], shards: int) -> dict[int, list[int]]:
    """By shard, the places of its passages in the list."""
    parts: dict[int, list[int]] = {}
    for place, passage in enumerate(passages):
        parts.setdefault(_place(f"{passage.title}\0{passage.source}", shards), []).append(place)
    return dict(sorted(parts.items()))


def _place(text: str, shards: int) -> int:
    digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") % shards


def _joined(
    query: str,
    parts: Mapping[int, Sequence[int]],
    partials: Sequence[Partial],
    readings: Sequence[Reading],
    started: float,
) -> Reading:
    """One reading in the order of the passages."""
    placed = {
        place: one
        for places, reading in zip(parts.values(), readings, strict=True)
        for place, one in zip(places, reading.passages, strict=True)
    }
    # The first phase finds or reads the keys that the second scores.
    counts = ("cache_hits", "cache_misses", "from_store")
    notes: dict[str, Any] = {name: sum(part.notes[name] for part in partials) for name in counts}
    notes |= {"shards": len(readings), "milliseconds": 1e3 * (time.perf_counter() - started)}
    passages = tuple(placed[place] for place in range(len(placed)))
    return replace(readings[0], query=query, passages=passages, notes=notes)


def _left() -> float | None:
    """Seconds that the current request has, for a shard.

    Raises:
        DeadlineError: none.
    """
    deadline.check()
    limit = deadline.current()
    left = None if limit is None else limit.left
    return None if left is None else max(left, 1e-3)


def _got(calls: Sequence[Any]) -> list[Any]:
    """What shards answer; their errors are ours."""
    try:
        if deadline.current() is not None:
            while ray.wait(list(calls), num_returns=len(calls), timeout=_SLICE)[1]:
                deadline.check()
        return list(ray.get(list(calls)))
    except RayTaskError as error:
        if isinstance(error.cause, CtxshaperError):
            raise error.cause from None
        raise
