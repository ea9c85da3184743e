"""Sentence embeddings, remembered by text."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctxshaper.data import deadline
from ctxshaper.errors import MissingDependencyError
from ctxshaper.models.finding import resolve_embedder
from ctxshaper.models.guard import loading
from ctxshaper.models.hub import reachable
from ctxshaper.models.threads import fit_threads
from ctxshaper.text.tokenization import encodable

# Texts of one forward pass; they come by their length. In float32: on a CPU with AVX512-BF16, bfloat16 took MiniLM 1.15
# to 1.35 times the processor time.
_BATCH = 64


class Embedder:
    """An embedding model of sentence-transformers, loaded at first use; what it embedded is remembered. Thread-safe.

    Copying or pickling carries the description (model, device, size) and nothing that was loaded or remembered.

    Args:
        model: None for the embedded all-MiniLM-L6-v2, a folder, or a hub name.
        device: "auto", or a torch device.
        max_remembered: how many texts to remember (1.5 kB each for MiniLM).

    Raises:
        MissingDependencyError: sentence-transformers or the embedded model is not installed.
    """

    def __init__(self, model: str | Path | None = None, *, device: str = "auto", max_remembered: int = 50_000) -> None:
        self._description = (model, device, max_remembered)
        self.source = resolve_embedder(model)
        self.max_remembered = max_remembered
        self._device = None if device == "auto" else device
        self._lock = threading.RLock()
        self._known: OrderedDict[str, NDArray[np.float32]] = OrderedDict()

    def __reduce__(self) -> tuple[Any, ...]:
        # The description alone: another process loads for itself, and what was embedded stays here.
        return _made, self._description

    @cached_property
    def model(self) -> Any:
        """The model of sentence-transformers."""
        try:
            from sentence_transformers import SentenceTransformer
        except ImportError as error:
            raise MissingDependencyError("embeddings need pip install 'ctxshaper[retrieval]'") from error
        with self._lock:
            if "model" not in self.__dict__:
                here = self.source.local or not reachable(self.source.location)
                fit_threads()
                with loading(self.source):
                    self.__dict__["model"] = SentenceTransformer(
                        self.source.location,
                        device=self._device,
                        local_files_only=here,
                        trust_remote_code=False,
                        model_kwargs={"use_safetensors": True},
                    )
            return self.__dict__["model"]

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """[len(texts), dim] float32, each of length 1."""
        with self._lock:
            new = sorted({t for t in texts if t not in self._known}, key=len)
            rows: dict[str, NDArray[np.float32]] = {}
            if new:
                for start in range(0, len(new), _BATCH):
                    deadline.check()
                    batch = new[start : start + _BATCH]
                    made = self.model.encode(
                        [encodable(t) for t in batch],
                        normalize_embeddings=True,
                        show_progress_bar=False,
                        batch_size=_BATCH,
                    )
                    rows |= zip(batch, np.asarray(made, dtype=np.float32), strict=True)
            result = np.stack([rows[t] if t in rows else self._known[t] for t in texts]) if texts else np.zeros((0, 1))
            for text in texts:
                self._known[text] = rows.get(text, self._known.get(text))  # type: ignore[assignment]
                self._known.move_to_end(text)
            while len(self._known) > self.max_remembered:
                self._known.popitem(last=False)
            return result.astype(np.float32)

    def forget(self) -> None:
        """Forget what was embedded; the model stays loaded."""
        with self._lock:
            self._known.clear()

    def similarity(self, query: str, texts: Sequence[str]) -> NDArray[np.float64]:
        """[len(texts)] cosine similarity of each text to the query."""
        if not texts:
            return np.zeros(0)
        similarity: NDArray[np.float64] = (self.embed(texts) @ self.embed([query])[0]).astype(np.float64)
        return similarity


def _made(model: str | Path | None, device: str, max_remembered: int) -> Embedder:
    return Embedder(model, device=device, max_remembered=max_remembered)
