"""The first layers of a language model, loaded, checked, and run through this project's attention."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch
from torch import Tensor

from ctxshaper.errors import UnsupportedModelError
from ctxshaper.models.attention import KEYWORD, NAME, AttentionCall, LayersRead, causal, install
from ctxshaper.models.finding import ModelSource
from ctxshaper.models.loading import load_lm
from ctxshaper.models.placing import pick_device, pick_dtype

__all__ = ["Decoder", "pick_device", "pick_dtype"]

_LAYER_TYPES = {"full_attention", "sliding_attention"}


class Decoder:
    """Embedding and first layers of a decoder with grouped-query attention and rotary positions.

    Layers that this process holds already, for a `LanguageModel` or another decoder, are not held twice.

    Args:
        source: where the model is.
        layers: how many layers to keep.
        device: where to run.
        dtype: the type of weights and memories.
        compiled: run the layers through torch.compile.

    Attributes:
        max_context: how many positions a token can see, or None for any number: what a sliding window holds, where
            there is one, so that full attention within it is exactly right.

    Raises:
        UnsupportedModelError: an attention that would be read wrongly.
        ModelError: the model cannot be loaded, or has fewer layers.
    """

    def __init__(
        self, source: ModelSource, layers: int, device: torch.device, dtype: torch.dtype, compiled: bool = False
    ) -> None:
        model = load_lm(source, dtype=dtype, layers=layers, device=device)
        self.model: Any = getattr(model, "language_model", model)
        self.config: Any = self.model.config
        self.device, self.dtype, self.layers = device, dtype, layers
        self.max_positions: int = int(getattr(self.config, "max_position_embeddings", 0) or 0)
        window = self._sliding_window()
        self.max_context = min((x for x in (self.max_positions, window) if x), default=None)
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
            # attention.
            with self._in_float32():
                error, allowed = self._attention_error(), 1e-3
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

    @contextmanager
    def _in_float32(self) -> Iterator[None]:
        # What is stored is shared with other models, so it is set aside and not written. Parameters only: buffers
        # hold what was float32 all along.
        stored = [(parameter, parameter.data) for parameter in self.model.parameters()]
        try:
            for parameter, data in stored:
                parameter.data = data.float()
            yield
        finally:
            for parameter, data in stored:
                parameter.data = data


class _Plain:
    """Ordinary causal attention, for the check."""

    def attend(self, _: int, q: Tensor, k: Tensor, v: Tensor, scale: float, softcap: float | None) -> Tensor:
        return causal(q, k, v, scale, softcap)
