"""Choose a kernel's launch configuration once per kind of input, by timing a short list of candidates."""

import os
from collections import OrderedDict
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass

import torch

_LIMIT = 256
_chosen: "OrderedDict[Hashable, Launch]" = OrderedDict()


@dataclass(frozen=True)
class Launch:
    """How a kernel is launched.

    Attributes:
        block: keys (tokens) of one tile.
        warps: warps of one program.
        stages: depth of the software pipeline.
        per_sm: programs that should share one multiprocessor; sets how far the keys are split.
        bulk: keys come through the bulk tensor copy engine (where the device has one) instead of per-thread copies.
        rows: most query rows of one tile.
    """

    block: int
    warps: int
    stages: int
    per_sm: int = 1
    bulk: bool = False
    rows: int = 128

    @property
    def options(self) -> dict[str, int]:
        """Keyword arguments that Triton takes at a launch."""
        return {"num_warps": self.warps, "num_stages": self.stages}


def choose(key: Hashable, candidates: Sequence[Launch], run: Callable[[Launch], object]) -> Launch:
    """Return the fastest candidate for `key`; remembered for this process, at most 256 keys.

    Times only on a GPU and outside of graph capture; elsewhere, or with ``CTXSHAPER_TUNE=0``, the first candidate is
    taken. A candidate that the device cannot launch (too much shared memory) is passed over.

    Args:
        key: what the choice depends on: operation, shapes (rounded), type.
        candidates: the best guess first.
        run: launches the kernel as the candidate says; must be repeatable.

    Returns:
        The chosen candidate.
    """
    if key in _chosen:
        _chosen.move_to_end(key)
        return _chosen[key]
    timed = torch.cuda.is_available() and not torch.cuda.is_current_stream_capturing()
    if len(candidates) == 1 or not timed or os.environ.get("CTXSHAPER_TUNE", "1") == "0":
        return candidates[0]
    best, best_time = candidates[0], float("inf")
    for candidate in candidates:
        time = _milliseconds(candidate, run)
        if time < best_time:
            best, best_time = candidate, time
    _chosen[key] = best
    while len(_chosen) > _LIMIT:
        _chosen.popitem(last=False)
    return best


def forget() -> None:
    """Forget every choice, so that the next call of each kind times its candidates again."""
    _chosen.clear()


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def _milliseconds(candidate: Launch, run: Callable[[Launch], object]) -> float:
    from triton.compiler.errors import CompilationError
    from triton.runtime.errors import OutOfResources

    try:
        run(candidate)  # compiles
        filler = torch.empty(1 << 28, dtype=torch.uint8, device="cuda")
        times = []
        for _ in range(5):
            start, end = _event(), _event()
            # Work of about a millisecond ahead of the launch, or the host's time to launch would be measured too. It
            # also clears what the last run left in L2.
            for _ in range(16):
                filler.zero_()
            start.record()
            run(candidate)
            end.record()
            end.synchronize()
            times.append(start.elapsed_time(end))
    except (OutOfResources, CompilationError):
        return float("inf")
    return sorted(times)[len(times) // 2]


def multiprocessors(device: torch.device) -> int:
    """Count the multiprocessors of a CUDA device; 4 for a CPU under Triton's interpreter."""
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else 4


def next_power_of_2(number: int) -> int:
    """Round up to a power of two, at least 1."""
    return 1 << max(0, number - 1).bit_length()


def tiled(pages: torch.Tensor, rows: int, columns: int) -> object:
    """Describe contiguous pages [N, KV, S, D] as [N * KV * S, D] to the copy engine, in tiles of rows by columns."""
    from triton.tools.tensor_descriptor import TensorDescriptor

    return TensorDescriptor.from_tensor(pages.view(-1, pages.shape[-1]), [rows, columns])
