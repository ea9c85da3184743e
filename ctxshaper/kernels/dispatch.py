"""One decision for every operation: the Triton kernel or the torch reference.

An argument outranks the environment variable ``CTXSHAPER_KERNELS``, which outranks ``"auto"``. Under ``"auto"`` a
CUDA tensor takes the kernel where the kernel supports it; where it does not, the reason is logged once and the
reference runs. A backend asked for by name is never replaced by another: what it cannot do is an error.
"""

import logging
import os
from functools import cache
from importlib.util import find_spec
from typing import Literal, cast

import torch

from ctxshaper.errors import InvalidInputError, MissingDependencyError

Backend = Literal["auto", "torch", "triton"]

VARIABLE = "CTXSHAPER_KERNELS"
_ALLOWED = ("auto", "torch", "triton")
_HALF = (torch.bfloat16, torch.float16)
_log = logging.getLogger(__name__)


@cache
def _triton_installed() -> bool:
    return find_spec("triton") is not None


@cache
def _warn_once(operation: str, reason: str) -> None:
    # Cached, so that a fall-back inside a loop over layers is reported once and not once a layer.
    _log.warning("%s runs as the torch reference: %s", operation, reason)


def _interpreting() -> bool:
    return os.environ.get("TRITON_INTERPRET", "0") not in ("", "0")


def requested_backend(backend: Backend = "auto") -> Backend:
    """Settle what the caller asked for: the argument, else the environment variable, else ``"auto"``.

    Args:
        backend: ``"auto"``, ``"torch"`` or ``"triton"``.

    Returns:
        One of the three; ``"auto"`` when neither argument nor variable names a backend.

    Raises:
        InvalidInputError: a name that is none of the three, from either place.
    """
    name, origin = str(backend), "backend"
    if name == "auto":
        name, origin = os.environ.get(VARIABLE, "") or "auto", f"environment variable {VARIABLE}"
    if name not in _ALLOWED:
        raise InvalidInputError(f"{origin} is {name!r}; allowed are {', '.join(map(repr, _ALLOWED))}.")
    return cast(Backend, name)


def use_triton(operation: str, backend: Backend, reason_against: str | None, tensor: torch.Tensor) -> bool:
    """Decide whether an operation runs as its Triton kernel.

    Args:
        operation: name of the operation, for messages.
        backend: the caller's argument.
        reason_against: why the kernel cannot take these inputs, or None when it can.
        tensor: any input; its device decides under ``"auto"``.

    Returns:
        True for the Triton kernel, False for the torch reference.

    Raises:
        InvalidInputError: the kernel was asked for by name and cannot take these inputs.
        MissingDependencyError: the kernel was asked for by name and triton is not installed.
    """
    wanted = requested_backend(backend)
    if wanted == "torch" or (wanted == "auto" and not tensor.is_cuda):
        return False
    if not _triton_installed():
        message = "triton is not installed; pip install 'ctxshaper[gpu]'"
        if wanted == "triton":
            raise MissingDependencyError(f"{operation} was asked for as a Triton kernel, but {message}.")
        _warn_once(operation, message)
        return False
    if wanted == "triton" and not tensor.is_cuda and not _interpreting():
        raise InvalidInputError(
            f"{operation} was asked for as a Triton kernel with tensors on {tensor.device}; the kernel takes CUDA "
            f"tensors (or any under TRITON_INTERPRET=1). Move the tensors, or use backend='auto'."
        )
    if reason_against is None:
        return True
    if wanted == "triton":
        raise InvalidInputError(
            f"{operation} was asked for as a Triton kernel, but {reason_against}. Use backend='auto' or 'torch'."
        )
    _warn_once(operation, reason_against)
    return False


def half_precision_reason(*tensors: torch.Tensor) -> str | None:
    """Say why tensors do not suit the matrix unit, or None: one 16-bit float type and one device throughout."""
    first = tensors[0]
    for tensor in tensors:
        if tensor.dtype not in _HALF:
            return f"a tensor is {tensor.dtype} (the kernel takes bfloat16 or float16)"
        if tensor.dtype != first.dtype:
            return f"types differ ({first.dtype} and {tensor.dtype})"
        if tensor.device != first.device:
            return f"devices differ ({first.device} and {tensor.device})"
    if first.dtype == torch.bfloat16 and not first.is_cuda and _interpreting():
        return "Triton's interpreter multiplies bfloat16 bit patterns as integers; float16 works there"
    return None


def head_dim_reason(head_dim: int) -> str | None:
    """Say why a head dimension is not supported by the kernels, or None: a multiple of 16 up to 256."""
    if head_dim % 16 or not 16 <= head_dim <= 256:
        return f"head_dim is {head_dim} (the kernel takes multiples of 16 from 16 to 256)"
    return None
