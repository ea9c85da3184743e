"""BM25 over the sentences of one request."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ctxshaper.errors import MissingDependencyError
from ctxshaper.text.terms import terms


def _bm25s() -> Any:
    # bm25s runs JAX where it finds it as soon as it is imported, for a top-k that nothing here asks for, and JAX then
    # takes three quarters of the GPU's memory (seen on an H200). None in sys.modules makes that one import fail.
    hidden = "bm25s" not in sys.modules and "jax" not in sys.modules
    if hidden:
        sys.modules["jax"] = None  # type: ignore[assignment]
    try:
        import bm25s
    except ImportError as error:
        raise MissingDependencyError("BM25 needs pip install 'ctxshaper[retrieval]'") from error
    finally:
        if hidden:
            del sys.modules["jax"]
    return bm25s


class LexicalIndex:
    """BM25 over texts that several queries search.

    Args:
        texts: the texts.

    Raises:
        MissingDependencyError: bm25s is not installed.
    """

    def __init__(self, texts: Sequence[str]) -> None:
        bm25s = _bm25s()
        corpus = [terms(text) for text in texts]
        self._size = len(texts)
        self._known = {term for words in corpus for term in words}
        self._index: Any = bm25s.BM25()
        if self._known:
            self._index.index(corpus, show_progress=False)

    def scores(self, query: str) -> NDArray[np.float64]:
        """[number of texts] BM25 score of each text for the query; 0 where they share no term."""
        from bm25s.stopwords import STOPWORDS_EN

        asked = sorted(set(terms(query)) - set(STOPWORDS_EN)) or sorted(set(terms(query)))
        asked = [term for term in asked if term in self._known]
        if not asked:
            return np.zeros(self._size)
        scores: NDArray[np.float64] = np.asarray(self._index.get_scores(asked), dtype=np.float64)
        return scores


def bm25(query: str, texts: Sequence[str]) -> NDArray[np.float64]:
    """[len(texts)] BM25 score of each text for the query; 0 where they share no term.

    Raises:
        MissingDependencyError: bm25s is not installed.
    """
    return LexicalIndex(texts).scores(query)
