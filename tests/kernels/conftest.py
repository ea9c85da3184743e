"""Kernel tests: on a GPU where there is one, else in Triton's interpreter on the CPU."""

import os
from collections.abc import Iterator

import pytest
import torch

if not torch.cuda.is_available():
    # Before the first import of a kernel: Triton reads it when a kernel is defined.
    os.environ.setdefault("TRITON_INTERPRET", "1")


@pytest.fixture
def device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.fixture(params=["float16", "bfloat16"])
def dtype(request: pytest.FixtureRequest) -> torch.dtype:
    if request.param == "bfloat16" and not torch.cuda.is_available():
        pytest.skip("Triton's interpreter multiplies bfloat16 wrongly; it is tested on a GPU")
    return getattr(torch, request.param)


@pytest.fixture
def triton_kernels() -> None:
    pytest.importorskip("triton", reason="triton is not installed: pip install 'ctxshaper[gpu]'")


@pytest.fixture(autouse=True)
def _inference() -> Iterator[None]:
    with torch.inference_mode():
        yield


@pytest.fixture(autouse=True)
def _nan_scratch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Fill fresh memory with NaN, so that whatever is read before it is written shows."""

    def poison(make):
        def made(*args, **kwargs):
            tensor = make(*args, **kwargs)
            return tensor.fill_(float("nan")) if tensor.is_floating_point() else tensor

        return made

    monkeypatch.setattr(torch, "empty", poison(torch.empty))
    monkeypatch.setattr(torch, "empty_like", poison(torch.empty_like))
