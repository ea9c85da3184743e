"""One store for a whole Ray cluster: an actor keeps it on one machine's disk, and the others ask over the network."""

from __future__ import annotations

import logging
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import ray
from ray.exceptions import RayActorError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ctxshaper.reading.store import KeyStore, StoreStat

_log = logging.getLogger(__name__)

T = TypeVar("T")

# Seconds after which a claim is void: its process may have died.
_CLAIM = 120.0
# Calls that the keeper answers at once.
_THREADS = 8


class ClusterStore:
    """Looks like a `KeyStore` to readers and embedders, on any machine of a Ray cluster; passages are read once in all.

    The folder lies on the machine where this is made; an actor owns it and lives as long as this object. It pickles by
    the actor's name, for processes of the same job. As with a `KeyStore`, one that cannot be reached is a warning and
    then no store.

    Args:
        path: the store's folder, on this machine.
        max_bytes: the bound on its file; None for its own, or 16 GiB.

    Raises:
        InvalidInputError: as `KeyStore`.
    """

    def __init__(self, path: str | Path, *, max_bytes: int | None = None) -> None:
        here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
        options = {"num_cpus": 0, "max_concurrency": _THREADS, "max_restarts": -1, "max_task_retries": 3}
        KeyStore(path, max_bytes=max_bytes).close()  # a mistake is said here, and not in an actor's log
        keeper: Any = ray.remote(_Keeper)
        self.path, self._name = Path(path).resolve(), f"ctxshaper-store-{uuid.uuid4().hex}"
        self._keeper = keeper.options(name=self._name, scheduling_strategy=here, **options).remote(
            str(self.path), max_bytes
        )

    def get_many(self, kind: str, fingerprint: bytes, keys: Sequence[bytes]) -> dict[bytes, bytes]:
        """See `KeyStore.get_many`."""
        nothing: dict[bytes, bytes] = {}
        return self._asked(lambda: self._keeper.get_many.remote(kind, fingerprint, list(keys)), nothing)

    def put_many(
        self, kind: str, fingerprint: bytes, items: Mapping[bytes, bytes] | Iterable[tuple[bytes, bytes]]
    ) -> int:
        """See `KeyStore.put_many`."""
        records = dict(items)
        return self._asked(lambda: self._keeper.put_many.remote(kind, fingerprint, records), 0)

    @contextmanager
    def claimed(self, kind: str, fingerprint: bytes, keys: Iterable[bytes]) -> Iterator[set[bytes]]:
        """See `KeyStore.claimed`; who dies with a claim loses it after two minutes."""
        wanted = list(keys)
        own = self._asked(lambda: self._keeper.claim.remote(kind, fingerprint, wanted), set(wanted))
        try:
            yield own
        finally:
            self._asked(lambda: self._keeper.let_go.remote(kind, fingerprint, own), None)

    def stat(self) -> StoreStat:
        """See `KeyStore.stat`."""
        return self._asked(self._keeper.stat.remote, StoreStat(self.path, 0, 0, (), ()))

    def __reduce__(self) -> tuple[Any, ...]:
        # Not as a handle: Ray would not start an actor again whose arguments hold one.
        return _found, (self.path, self._name)

    def __repr__(self) -> str:
        return f"ClusterStore({str(self.path)!r})"

    def _asked(self, call: Callable[[], Any], otherwise: T) -> T:
        try:
            answer: T = ray.get(call())
            return answer
        except RayActorError as error:
            _log.warning("the store %s cannot be reached: what is new is computed anew (%s)", self.path, error)
            return otherwise


def _found(path: Path, name: str) -> ClusterStore:
    store = ClusterStore.__new__(ClusterStore)
    store.path, store._name, store._keeper = path, name, ray.get_actor(name)
    return store


class _Keeper:
    """The actor that has the store open; its calls run in threads."""

    def __init__(self, path: str, max_bytes: int | None) -> None:
        self._store = KeyStore(path, max_bytes=max_bytes)
        self._claims: dict[tuple[str, bytes, bytes], float] = {}
        self._lock = threading.Lock()

    def get_many(self, kind: str, fingerprint: bytes, keys: list[bytes]) -> dict[bytes, bytes]:
        return self._store.get_many(kind, fingerprint, keys)

    def put_many(self, kind: str, fingerprint: bytes, items: dict[bytes, bytes]) -> int:
        return self._store.put_many(kind, fingerprint, items)

    def stat(self) -> StoreStat:
        return self._store.stat()

    def claim(self, kind: str, fingerprint: bytes, keys: list[bytes]) -> set[bytes]:
        now = time.monotonic()
        with self._lock:
            free = {key for key in keys if self._claims.get((kind, fingerprint, key), 0.0) <= now}
            self._claims |= {(kind, fingerprint, key): now + _CLAIM for key in free}
        return free

    def let_go(self, kind: str, fingerprint: bytes, keys: set[bytes]) -> None:
        with self._lock:
            for key in keys:
                self._claims.pop((kind, fingerprint, key), None)
