"""The first layers of a language model, loaded, checked, and run through this project's attention."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor

from ctxshaper.errors import InvalidInputError, UnsupportedModelError
from ctxshaper.models.attention import KEYWORD, NAME, AttentionCall, LayersRead, causal, install
from ctxshaper.models.loading import ModelSource, load_lm

_LAYER_TYPES = {"full_attention", "sliding_attention"}


def pick_device(device: str) -> torch.device:
    """The device named, or for "auto" CUDA, MPS or the CPU, in this order."""
    if device != "auto":
        return torch.device(device)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def pick_dtype(dtype: str, device: torch.device) -> torch.dtype:
    """The type named, or for "auto" bf16 where the hardware multiplies it natively, else fp32 (fp16 on MPS).

    Raises:
        InvalidInputError: an unknown name.
    """
    names = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
    if dtype in names:
        return names[dtype]
    if dtype != "auto":
        raise InvalidInputError(f"dtype must be auto, {', '.join(names)}, but got {dtype!r}")
    if device.type == "cuda":
        return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16
    if device.type == "mps":
        return torch.float16
    # Emulated bf16 on a CPU is slower than fp32, native bf16 ran 3 to 4 times as fast.
    native = any(getattr(torch.cpu, f"_is_{unit}_supported", bool)() for unit in ("avx512_bf16", "amx_tile"))
    return torch.bfloat16 if native else torch.float32


class Decoder:
    """Embedding and first layers of a decoder with grouped-query attention and rotary positions.

    Args:
        source: where the model is.
        layers: how many layers to keep.
        device: where to run.
        dtype: the type of weights and memories.
        compiled: run the layers through torch.compile.

    Attributes:
        reach: how many positions a token can see, or None for any number: what a sliding window holds, where there is
            one, so that full attention within it is exactly right.

    Raises:
        UnsupportedModelError: an attention that would be read wrongly.
        ModelError: the model cannot be loaded.
    """

    def __init__(
        self, source: ModelSource, layers: int, device: torch.device, dtype: torch.dtype, compiled: bool = False
    ) -> None:
        model = load_lm(source, dtype=dtype, layers=layers)
        self.model: Any = getattr(model, "language_model", model).to(device)
        self.config: Any = self.model.config
        self.device, self.dtype, self.layers = device, dtype, layers
        self.max_positions: int = int(getattr(self.config, "max_position_embeddings", 0) or 0)
        window = self._sliding_window()
        self.reach = min((x for x in (self.max_positions, window) if x), default=None)
        install()
        self._check_attention()
        if compiled:
            for layer in self.model.layers:
                layer.compile(dynamic=True)

    def _sliding_window(self) -> int | None:
        types = getattr(self.config, "layer_types", None) or []
        unknown = sorted(set(types[: self.layers]) - _LAYER_TYPES)
        if unknown:
            raise UnsupportedModelError(
                f"{self.config.model_type} has layers of the kinds {unknown}; this reader takes full and "
                "sliding-window attention only"
            )
        window = getattr(self.config, "sliding_window", None)
        slides = "sliding_attention" in types[: self.layers] if types else True
        return int(window) if window and slides and getattr(self.config, "use_sliding_window", True) else None

    def run(self, ids: Sequence[int], positions: Sequence[int], call: AttentionCall) -> None:
        """One forward pass over a row of tokens; the call keeps what it wants.

        Args:
            ids: [T] tokens.
            positions: [T] positions.
            call: stands in for the attention.
        """
        self.forward(torch.tensor([ids], device=self.device), torch.tensor([positions], device=self.device), call)

    def forward(self, ids: Tensor, positions: Tensor, call: AttentionCall) -> None:
        """The same of tensors [1, T] on the model's device, without waiting for it."""
        with torch.inference_mode(), suppress(LayersRead):
            self.model(input_ids=ids, position_ids=positions, use_cache=False, **{KEYWORD: call})

    def _check_attention(self) -> None:
        # Names and configs do not tell every variant of attention; the outputs do. Sixteen tokens through both ways.
        error, allowed = self._attention_error(), 1e-3 if self.dtype == torch.float32 else 0.1
        if self.dtype != torch.float32 and not error < allowed:
            # Roundings add up over many layers (0.13 over SmolLM2's 30 in bf16): float32 tells them from a wrong
            # attention. Parameters only: buffers hold what was float32 all along.
            self._cast(torch.float32)
            error, allowed = self._attention_error(), 1e-3
            self._cast(self.dtype)
        if not error < allowed or math.isnan(error):
            raise UnsupportedModelError(
                f"{self.config.model_type} uses an attention that this reader does not reproduce (relative error "
                f"{error:.3g} on 16 tokens); use a Llama, Qwen, Mistral, Phi-3 or Gemma type of decoder"
            )

    @torch.inference_mode()
    def _attention_error(self) -> float:
        ids = torch.arange(16, device=self.device)[None] % self.config.vocab_size
        self.model.set_attn_implementation("eager")
        expected = self.model(input_ids=ids, use_cache=False).last_hidden_state.float()
        self.model.set_attn_implementation(NAME)
        got = self.model(input_ids=ids, use_cache=False, **{KEYWORD: _Plain()}).last_hidden_state.float()
        return float(((got - expected).norm() / expected.norm()).item())

    def _cast(self, dtype: torch.dtype) -> None:
        for parameter in self.model.parameters():
            parameter.data = parameter.data.to(dtype)


class _Plain:
    """Ordinary causal attention, for the check."""

    def attend(self, _: int, q: Tensor, k: Tensor, v: Tensor, scale: float, softcap: float | None) -> Tensor:
        return causal(q, k, v, scale, softcap)
