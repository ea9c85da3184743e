"""KeyStore: what is computed once per passage, on disk, for all processes and restarts."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ctxshaper import tracing
from ctxshaper.data import deadline
from ctxshaper.errors import InvalidInputError, MissingDependencyError
from ctxshaper.reading.store.records import FILE, content_hash, namespace_of
from ctxshaper.reading.store.report import StoreCheck, StoreStat

if TYPE_CHECKING:
    from ctxshaper.reading.store.environment import Environment
    from ctxshaper.reading.store.records import Place
    from ctxshaper.reading.store.tables import Tables

T = TypeVar("T")

_log = logging.getLogger(__name__)

# Below this the pages that LMDB needs for a change would be most of the store.
LEAST_BYTES = 2**20
# Records between two looks at the request's deadline.
_STRIDE = 256

_said: set[tuple[str, str]] = set()


class KeyStore:
    """A store on disk for what is computed once per passage: its keys, embedding, token ids, segments.

    One folder, one LMDB file: many processes and threads read while one writes; a process killed in mid-write loses
    that write and nothing else. It is a cache: a record that is damaged, or was made by other weights, is absent, and
    a store that cannot be read or written (full disk, no permission) is a warning and then no store. The file stays
    under `max_bytes`; the blocks of records used least recently go first.

    Opening is cheap and happens at first use. The same folder opened twice in a process is one environment. It may be
    pickled (by its path) and used after a fork.

    Args:
        path: the store's folder; made if it is not there.
        max_bytes: the bound on the file, at least 1 MiB; None for the bound it was made with, or 16 GiB. Up to a
            quarter of it, and 256 MiB at most, is LMDB's room to work in.
        read_only: nothing is written, not even what was used last.

    Attributes:
        damaged: the records that this object found damaged.

    Raises:
        InvalidInputError: a folder that is not there and may not be made, a bound that is too small, or a store made
            by another version of ctxshaper (at first use).
        MissingDependencyError: lmdb is not installed.
    """

    def __init__(self, path: str | Path, *, max_bytes: int | None = None, read_only: bool = False) -> None:
        if max_bytes is not None and max_bytes < LEAST_BYTES:
            raise InvalidInputError(f"max_bytes must be at least {LEAST_BYTES} (1 MiB), but got {max_bytes}")
        self.path = Path(path)
        self.read_only = read_only
        self.damaged = 0
        self._max_bytes = max_bytes
        try:
            from ctxshaper.reading.store import sharing
            from ctxshaper.reading.store.writing import flush
        except ImportError as error:
            raise MissingDependencyError("a store on disk needs lmdb; pip install 'ctxshaper[store]'") from error
        folder = _folder(self.path, read_only)
        self._shared: Environment = sharing.acquire(folder, read_only=read_only, max_bytes=max_bytes)
        # Also at the end of the process, so that what was used is noted.
        self._release = weakref.finalize(self, sharing.release, self._shared, flush)

    def get_many(self, kind: str, fingerprint: bytes, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """The values of those keys that the store holds, whole and unchanged.

        Args:
            kind: of the records: "keys", "embedding", "tokens", "segments".
            fingerprint: of the weights and settings that made them; what others made is not found.
            keys: content keys, of any length.

        Raises:
            DeadlineError: the request's time is over.
        """
        with tracing.span("ctxshaper.store.get", store_kind=kind, keys=len(keys)) as span:
            found = self._found(kind, fingerprint, keys)
            span.set(hits=len(found), misses=len(keys) - len(found))
        return found

    def _found(self, kind: str, fingerprint: bytes, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        shared = self._environment()
        hashes = {key: content_hash(kind, fingerprint, key) for key in keys}
        damaged: dict[bytes, Place] = {}
        used: set[int] = set()

        def read(tables: Tables) -> dict[bytes, bytes]:
            # The work may be done again: it begins from nothing.
            damaged.clear()
            found: dict[bytes, bytes] = {}
            for number, (key, content) in enumerate(hashes.items()):
                if number % _STRIDE == 0:
                    deadline.check()
                place = tables.place(content)
                if place is None:
                    continue
                value = tables.value(content, place)
                if value is None:
                    damaged[content] = place
                else:
                    found[key] = value
                    used.add(place.block)
            return found

        nothing: dict[bytes, bytes] = {}
        found = self._softly(lambda: shared.run(read), nothing, "could not be read")
        shared.used |= used
        if damaged:
            self._drop(shared, damaged)
        return found

    def put_many(
        self, kind: str, fingerprint: bytes, items: Mapping[bytes, bytes] | Iterable[tuple[bytes, bytes]]
    ) -> int:
        """Keep values under their content keys; what is kept already is not written again.

        What is written when this returns survives the end of the process. A store that cannot take it (full disk,
        read-only folder) says so once in the log.

        Returns:
            How many of the items the store now holds; 0 where it was opened read-only.

        Raises:
            DeadlineError: the request's time is over; what was written so far stays.
        """
        self._environment()
        if self.read_only:
            return 0
        pairs = dict(items)
        with tracing.span("ctxshaper.store.put", store_kind=kind, keys=len(pairs)) as span:
            held = self._put(kind, fingerprint, pairs)
            span.set(held=held)
        return held

    def _put(self, kind: str, fingerprint: bytes, pairs: Mapping[bytes, bytes]) -> int:
        from ctxshaper.reading.store.writing import batches, put

        shared = self._environment()
        namespace = namespace_of(kind, fingerprint)
        records = [(content_hash(kind, fingerprint, key), value) for key, value in pairs.items()]
        held = 0

        def write() -> None:
            nonlocal held
            # Opened before its bound is asked for: the store may know its own.
            shared.run(lambda _: None)
            most = shared.bound // 8
            fit = [record for record in records if len(record[1]) <= most]
            for batch in batches(fit, shared.bound):
                deadline.check()
                put(shared, namespace, (kind, fingerprint), batch)
                held += len(batch)
            if len(fit) < len(records):
                self._say("large", f"takes no value above {most} bytes (an eighth of its bound): it is computed anew")

        self._softly(write, None, "could not be written: what is new is computed anew")
        return held

    @contextmanager
    def claimed(self, kind: str, fingerprint: bytes, keys: Iterable[bytes]) -> Iterator[set[bytes]]:
        """Say that records are being computed here, until the block ends, so that no other process or thread does.

        A process that ends, however, has claimed nothing any more.

        Yields:
            The keys that are the caller's to compute: all but those that somebody else has claimed at this moment. Look
            them up once more first: who had claimed one may just have written it. All, where the store is not written.
        """
        shared = self._environment()
        hashes = {content_hash(kind, fingerprint, key): key for key in keys}
        if self.read_only or not shared.writable:
            yield set(hashes.values())
            return
        with shared.claims.take(hashes) as free:
            yield {hashes[content] for content in free}

    def merge(self, source: KeyStore) -> int:
        """Take over what another store holds, such as one that another machine wrote; what is here already stays.

        Args:
            source: is not changed.

        Returns:
            How many records of the source are now here.

        Raises:
            InvalidInputError: the bound leaves no room for all, or one of the two cannot be read or written.
        """
        from ctxshaper.reading.store.merging import merge

        return merge(self._environment(), source._environment())

    def gc(self, max_bytes: int | None = None) -> int:
        """Drop what was used least recently until the bound holds, and give free pages back to the file system.

        Args:
            max_bytes: the bound on the file for this once; None for the store's own.

        Returns:
            How many bytes the file became smaller.
        """
        from ctxshaper.reading.store.writing import collect

        if max_bytes is not None and max_bytes < LEAST_BYTES:
            raise InvalidInputError(f"max_bytes must be at least {LEAST_BYTES} (1 MiB), but got {max_bytes}")
        shared = self._environment()
        if self.read_only:
            raise InvalidInputError("the store was opened read-only; open it without read_only to collect")
        return self._softly(lambda: collect(shared, max_bytes), 0, "could not be collected")

    def stat(self) -> StoreStat:
        """Its sizes, by kind and fingerprint."""
        from ctxshaper.reading.store.checking import stat

        shared = self._environment()
        return self._softly(lambda: stat(shared), StoreStat(self.path, 0, 0, (), ()), "could not be read")

    def verify(self, *, repair: bool = False) -> StoreCheck:
        """Read every record and check its place, its checksum and LMDB's own pages.

        Args:
            repair: drop what is damaged, and set a file aside whose structure is.
        """
        from ctxshaper.reading.store.checking import verify

        return verify(self._environment(), repair=repair and not self.read_only)

    def close(self) -> None:
        """Note what was used, and close the file if nobody else in this process has it open."""
        self._release()

    def __enter__(self) -> KeyStore:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        return _opened, (str(self.path), self._max_bytes, self.read_only)

    def __repr__(self) -> str:
        return f"KeyStore({str(self.path)!r})"

    def _environment(self) -> Environment:
        if not self._release.alive:
            raise InvalidInputError(f"the store {self.path} was closed; open it anew")
        return self._shared

    def _drop(self, shared: Environment, damaged: dict[bytes, Place]) -> None:
        from ctxshaper.reading.store.writing import drop

        self.damaged += len(damaged)
        self._say("damaged", "holds damaged records: they are dropped and their passages are read anew")
        if not self.read_only and shared.writable:
            self._softly(lambda: drop(shared, damaged), None, "could not drop damaged records")

    def _softly(self, work: Callable[[], T], otherwise: T, failed: str) -> T:
        import lmdb

        from ctxshaper.reading.store.opening import UnavailableError

        try:
            return work()
        except UnavailableError as error:
            self._say(failed, f"{failed}: {error}")
        except lmdb.MapFullError:
            self._say("full", f"has no room left under its bound of {self._shared.bound} bytes: nothing new is kept")
        return otherwise

    def _say(self, key: str, message: str) -> None:
        # Once per process and store: a warning per request would bury the log.
        if (str(self.path), key) not in _said:
            _said.add((str(self.path), key))
            _log.warning("the store %s %s", self.path, message)


def _opened(path: str, max_bytes: int | None, read_only: bool) -> KeyStore:
    return KeyStore(path, max_bytes=max_bytes, read_only=read_only)


def _folder(path: Path, read_only: bool) -> Path:
    if read_only:
        if not (path / FILE).is_file():
            raise InvalidInputError(f"there is no store at {path}: `ctxshaper index` makes one")
    else:
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InvalidInputError(f"the store's folder {path} cannot be made ({error}); take another") from error
    return path.resolve()
