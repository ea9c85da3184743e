"""How many threads torch computes with: as many as a container may use, not as many as its host has cores."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ctxshaper.errors import InvalidInputError

VARIABLE = "CTXSHAPER_THREADS"
# Whoever sets one of these has chosen.
_OTHERS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")

_lock = threading.Lock()
_fitted = False


@dataclass(frozen=True)
class Threads:
    """A choice of threads.

    Attributes:
        number: how many; None for what torch has.
        reason: why, for people.
    """

    number: int | None
    reason: str


def fit_threads() -> None:
    """Give torch as many threads as `chosen_threads` says. Acts once a process, when its first model is loaded.

    So a later `torch.set_num_threads` of the caller stays.

    Raises:
        InvalidInputError: CTXSHAPER_THREADS is not a number of at least 1.
    """
    global _fitted
    with _lock:
        if not _fitted:
            import torch

            choice = chosen_threads()
            if choice.number is not None:
                torch.set_num_threads(choice.number)
            _fitted = True


def chosen_threads() -> Threads:
    """The variable CTXSHAPER_THREADS; else what the user chose for torch; else the container's quota, if it is less.

    Raises:
        InvalidInputError: CTXSHAPER_THREADS is not a number of at least 1.
    """
    import torch

    wanted = os.environ.get(VARIABLE, "").strip()
    if wanted:
        if not (wanted.isascii() and wanted.isdigit() and int(wanted) >= 1):
            raise InvalidInputError(f"{VARIABLE} must be a number of at least 1, but is {wanted!r:.40}")
        return Threads(int(wanted), f"{VARIABLE} says so")
    for name in _OTHERS:
        if os.environ.get(name):
            return Threads(None, f"{name} says so")
    present = torch.get_num_threads()
    cores = {os.cpu_count() or 1, _usable_cores()}
    # torch starts with all cores, or with one thread for each two where cores are shared by two (hyperthreads).
    if present not in cores | {count // 2 for count in cores}:
        return Threads(None, "torch.set_num_threads was called")
    quota = cpu_quota()
    if quota is None:
        return Threads(None, f"torch's own choice, no quota of a container; {VARIABLE} sets it")
    # Rounded down: a container that runs more threads than its quota is stopped for the rest of each period.
    allowed = max(1, int(quota))
    reason = f"the container's quota is {quota:g} CPUs; {VARIABLE} sets another number"
    return Threads(allowed if allowed < present else None, reason)


def cpu_quota(root: Path = Path("/sys/fs/cgroup"), membership: Path = Path("/proc/self/cgroup")) -> float | None:
    """How many CPUs the control groups of this process allow, versions 1 and 2; None for no limit.

    Args:
        root: where the groups are mounted.
        membership: the file that names this process's groups.
    """
    found = [quota for folder in _groups(root, membership) if (quota := _quota_of(folder)) is not None]
    return min(found, default=None)


def _groups(root: Path, membership: Path) -> Iterator[Path]:
    """The folders of this process's groups and of those around them: each of them may set a limit."""
    for line in (_text(membership) or "0::/").splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if controllers and "cpu" not in controllers.split(","):
            continue
        # Version 2 has one tree for all; in version 1 the folder has the name of the controllers or of one of them.
        for tree in dict.fromkeys([root / controllers, root / "cpu"] if controllers else [root, root / "unified"]):
            # Within a container the path may be the host's and not be there; then the tree's root is the container's.
            parts = [part for part in path.split("/") if part not in ("", "..")]
            for length in range(len(parts), -1, -1):
                yield tree.joinpath(*parts[:length])


def _quota_of(folder: Path) -> float | None:
    text = _text(folder / "cpu.max")
    if text is None:
        text = f"{_text(folder / 'cpu.cfs_quota_us') or ''} {_text(folder / 'cpu.cfs_period_us') or ''}"
    try:
        quota, period = map(int, text.split())
    except ValueError:
        return None  # "max", or no such file
    return quota / period if quota > 0 and period > 0 else None


def _text(path: Path) -> str | None:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, ValueError):
        return None


def _usable_cores() -> int:
    # Not on macOS and Windows.
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
