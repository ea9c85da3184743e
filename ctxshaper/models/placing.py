"""Where a model runs, and in which type of numbers."""

from __future__ import annotations

import torch

from ctxshaper.errors import InvalidInputError

_NAMES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}


def pick_device(device: str | torch.device) -> torch.device:
    """The device named, or for "auto" CUDA, MPS or the CPU, in this order.

    Raises:
        InvalidInputError: torch knows no such device.
    """
    if device != "auto":
        try:
            return torch.device(device)
        except (RuntimeError, TypeError) as error:
            raise InvalidInputError(f"device must be auto, cpu, cuda, cuda:0 or mps, but got {device!r}") from error
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def pick_dtype(dtype: str | torch.dtype, device: torch.device) -> torch.dtype:
    """The type named, or for "auto" bf16 where the hardware multiplies it natively, else fp32 (fp16 on MPS).

    Raises:
        InvalidInputError: another type.
    """
    if isinstance(dtype, torch.dtype) and dtype in _NAMES.values():
        return dtype
    if isinstance(dtype, str) and dtype in _NAMES:
        return _NAMES[dtype]
    if dtype != "auto":
        raise InvalidInputError(f"dtype must be auto, {', '.join(_NAMES)} or torch's type of one, but got {dtype!r}")
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if device.type == "mps":
        return torch.float16
    # Emulated bf16 on a CPU is slower than fp32, native bf16 ran 3 to 4 times as fast.
    native = any(getattr(torch.cpu, f"_is_{unit}_supported", bool)() for unit in ("avx512_bf16", "amx_tile"))
    return torch.bfloat16 if native else torch.float32
