"""Sentence embeddings, remembered by text: in memory, and on disk if there is a store."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctxshaper import tracing
from ctxshaper.data import deadline
from ctxshaper.errors import InvalidInputError, MissingDependencyError
from ctxshaper.models.finding import resolve_embedder
from ctxshaper.models.guard import loading
from ctxshaper.models.hashing import content
from ctxshaper.models.hub import reachable
from ctxshaper.models.threads import fit_threads
from ctxshaper.models.vector_store import Records, VectorStore, restored, rounded
from ctxshaper.text.tokenization import encodable

# Texts of one forward pass; they come by their length. In float32: on a CPU with AVX512-BF16, bfloat16 took MiniLM 1.15
# to 1.35 times the processor time.
_BATCH = 64
# What decides a vector beside the text: weights, how they are pooled, and the tokenizer.
_DECISIVE = {".safetensors", ".json", ".txt", ".model"}


class Embedder:
    """An embedding model of sentence-transformers, loaded at first use; what it embedded is remembered. Thread-safe.

    Vectors are rounded to 8 bits, with a store and without, so that what comes from disk is what was computed: for
    MiniLM a cosine similarity moves by some .001.

    Copying or pickling carries the description (model, device, size, store) and nothing that was loaded or remembered.

    Args:
        model: None for the embedded all-MiniLM-L6-v2, a folder, or a hub name.
        device: "auto", or a torch device.
        max_remembered: how many texts to remember in memory (1.5 kB each for MiniLM).
        store: a `KeyStore`, which keeps the passages' vectors for other processes and restarts; None for none.

    Raises:
        InvalidInputError: something that is no store.
        MissingDependencyError: sentence-transformers or the embedded model is not installed.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        device: str = "auto",
        max_remembered: int = 50_000,
        store: Records | None = None,
    ) -> None:
        if store is not None and not hasattr(store, "get_many"):
            raise InvalidInputError(f"an embedder's store must be a KeyStore, but got {store!r:.80}: KeyStore(path)")
        self._description = (model, device, max_remembered, store)
        self.store = store
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

    @cached_property
    def _vectors(self) -> VectorStore | None:
        if self.store is None:
            return None
        folder = Path(self.source.on_disk().location)
        with loading(self.source):
            files = content(sorted(path for path in folder.rglob("*") if path.suffix in _DECISIVE))
        dtype = next(self.model.parameters()).dtype
        fingerprint = hashlib.blake2b(f"{files} {dtype}".encode(), digest_size=16).digest()
        # Its name before sentence-transformers 5.
        size = getattr(self.model, "get_embedding_dimension", None) or self.model.get_sentence_embedding_dimension
        return VectorStore(self.store, fingerprint, int(size()))

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Embed texts of passages; those that are not in memory are looked for in the store, and kept there.

        Returns:
            [len(texts), dim], each of length 1.

        Raises:
            DeadlineError: the request's time is over; what was embedded stays in the store.
        """
        return self._embed(texts, stored=True)

    def embed_query(self, text: str) -> NDArray[np.float32]:
        """[dim] a query's vector, of length 1. It is remembered in memory alone: queries do not belong on disk."""
        row: NDArray[np.float32] = self._embed([text], stored=False)[0]
        return row

    def _embed(self, texts: Sequence[str], *, stored: bool) -> NDArray[np.float32]:
        if not texts:
            return np.zeros((0, 1), dtype=np.float32)
        with tracing.span("ctxshaper.embed", "EMBEDDING", texts=len(texts)) as span, self._lock:
            if span.recording:
                name = self.source.name
                span.put({"embedding.model_name": name, "gen_ai.request.model": name})
                span.put({"gen_ai.operation.name": "embeddings"})
            rows = {text: self._known[text] for text in texts if text in self._known}
            store = self._vectors if stored and len(rows) < len(set(texts)) else None
            if store is not None:
                rows |= store.get_many([text for text in dict.fromkeys(texts) if text not in rows])
            new = sorted({text for text in texts if text not in rows}, key=len)
            for start in range(0, len(new), _BATCH):
                deadline.check()
                batch = new[start : start + _BATCH]
                made = self.model.encode(
                    [encodable(text) for text in batch],
                    normalize_embeddings=True,
                    show_progress_bar=False,
                    batch_size=_BATCH,
                )
                vectors = rounded(np.asarray(made, dtype=np.float32))
                if store is not None:
                    store.put_many(batch, vectors)
                rows |= zip(batch, restored(vectors), strict=True)
            span.set(embedded=len(new), known=len(rows) - len(new))
            for text in texts:
                self._known[text] = rows[text]
                self._known.move_to_end(text)
            while len(self._known) > self.max_remembered:
                self._known.popitem(last=False)
            return np.stack([rows[text] for text in texts])

    def forget(self) -> None:
        """Forget what was embedded; the model stays loaded."""
        with self._lock:
            self._known.clear()

    def similarity(self, query: str, texts: Sequence[str]) -> NDArray[np.float64]:
        """[len(texts)] cosine similarity of each text of a passage to the query."""
        if not texts:
            return np.zeros(0)
        similarity: NDArray[np.float64] = (self.embed(texts) @ self.embed_query(query)).astype(np.float64)
        return similarity


def _made(model: str | Path | None, device: str, max_remembered: int, store: Records | None) -> Embedder:
    return Embedder(model, device=device, max_remembered=max_remembered, store=store)
