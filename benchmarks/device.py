"""Timing on one NVIDIA GPU, and the ceilings that this run's floors come from."""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Ceilings:
    """What this GPU reached just now.

    Attributes:
        copy: bytes per millisecond of a large copy, read and written.
        product: operations per millisecond of a large bfloat16 matrix product, in a burst.
        sustained: the same over 1.5 s without a pause: long enough to reach the power limit, as a prefill does.
    """

    copy: float
    product: float
    sustained: float

    def __str__(self) -> str:
        return (
            f"{torch.cuda.get_device_name()}, torch {torch.__version__}: copy {self.copy / 1e9:.2f} TB/s, bf16 "
            f"products {self.product / 1e9:.0f} TFLOP/s in a burst, {self.sustained / 1e9:.0f} over 1.5 s."
        )


def needed() -> None:
    """End the process with one line where no GPU is there."""
    if not torch.cuda.is_available():
        sys.exit("this benchmark needs an NVIDIA GPU; `python -m benchmarks reading` measures a CPU")


def ceilings() -> Ceilings:
    """Measure the rates of a large copy and of large matrix products."""
    copy = _copy_rate()
    torch.cuda.empty_cache()
    a, b = torch.randn(2, 8192, 8192, device="cuda", dtype=torch.bfloat16)
    operations = 2 * 8192**3
    product = operations / events(lambda: a @ b)
    started, count = time.perf_counter(), 0
    while time.perf_counter() - started < 1.5:
        for _ in range(50):
            a @ b
        torch.cuda.synchronize()
        count += 50
    return Ceilings(copy, product, operations * count / (time.perf_counter() - started) / 1e3)


def _copy_rate() -> float:
    source = torch.randn(1 << 31, device="cuda", dtype=torch.bfloat16)
    target = torch.empty_like(source)
    return 2 * source.nbytes / events(lambda: target.copy_(source))


def events(call: Callable[[], object], repeats: int = 15, warmups: int = 3) -> float:
    """Median milliseconds of a call, by CUDA events."""
    times = []
    for i in range(warmups + repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        call()
        end.record()
        end.synchronize()
        if i >= warmups:
            times.append(start.elapsed_time(end))
    return statistics.median(times)


def in_graph(call: Callable[[], object], inner: int = 10) -> float:
    """Milliseconds of a call inside a CUDA graph of several: gaps between the host's launches do not count."""
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(inner):
            call()
    return events(graph.replay) / inner


def busy(call: Callable[[], object], times: int = 5) -> float:
    """Milliseconds that the GPU works for one call, without the gaps in which it waits for the host."""
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CUDA]) as found:
        for _ in range(times):
            call()
        torch.cuda.synchronize()
    return float(sum(event.self_device_time_total for event in found.key_averages())) / 1e3 / times


def relative(got: Tensor, expected: Tensor) -> float:
    """‖got - expected‖ / ‖expected‖; infinite for NaN."""
    value = ((got.double() - expected.double()).norm() / expected.double().norm()).item()
    return math.inf if math.isnan(value) else value
