"""Replay a short chain of kernels as one CUDA graph.

A warm query is some hundred launches of a few microseconds each; launched one by one, the host is slower than the GPU.
"""

from collections.abc import Callable
from typing import Generic, TypeVar

import torch
from torch import Tensor

from ctxshaper.errors import InvalidInputError

Output = TypeVar("Output")


class GraphedCall(Generic[Output]):
    """A function of tensors, captured once on a GPU and replayed at each call; called directly on a CPU.

    The captured function must not wait for the device, must not depend on tensor values on the host, and must read and
    write the same memory every time. What it returns is overwritten by the next call. It runs a few times before the
    capture (compilation and the choice of launch configurations happen there), so running it twice must do no harm.

    Attributes:
        captured: whether calls replay a graph.
    """

    def __init__(self, function: Callable[..., Output], *example: Tensor, warmups: int = 3) -> None:
        """Capture `function`.

        Args:
            function: takes tensors shaped like `example`; called in inference mode.
            example: one tensor for each argument; calls must pass the same shapes, types and device.
            warmups: calls before the capture.
        """
        self._function = function
        self._inputs = [tensor.clone() for tensor in example]
        self.captured = bool(example) and example[0].is_cuda
        if not self.captured:
            return
        self._graph = torch.cuda.CUDAGraph()
        with torch.inference_mode():
            side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(warmups):
                    function(*self._inputs)
            torch.cuda.current_stream().wait_stream(side)
            with torch.cuda.graph(self._graph):
                self._output = function(*self._inputs)

    def __call__(self, *inputs: Tensor) -> Output:
        """Run on new inputs.

        Args:
            inputs: as many tensors as the example, of the same shapes and types.

        Returns:
            What the function returns; on a GPU the same tensors at each call, with new contents.

        Raises:
            InvalidInputError: a shape or type that differs from the example's.
        """
        got = [(tuple(t.shape), t.dtype) for t in inputs]
        allowed = [(tuple(t.shape), t.dtype) for t in self._inputs]
        if got != allowed:
            raise InvalidInputError(f"inputs are {got}; this graph was captured for {allowed}. Capture another.")
        if not self.captured:
            with torch.inference_mode():
                return self._function(*inputs)
        with torch.inference_mode():
            for held, new in zip(self._inputs, inputs, strict=True):
                held.copy_(new, non_blocking=True)
            self._graph.replay()
        return self._output
