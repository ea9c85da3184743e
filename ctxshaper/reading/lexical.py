"""BM25 over the sentences of one request."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ctxshaper.errors import MissingDependencyError

# Scripts without spaces between words are matched by character; everything else by word.
_TERMS = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\W_]+")


def terms(text: str) -> list[str]:
    """The terms that BM25 compares: lower-cased words, single characters of Chinese and Japanese."""
    return _TERMS.findall(text.casefold())


def bm25(query: str, texts: Sequence[str]) -> NDArray[np.float64]:
    """[len(texts)] BM25 score of each text for the query; 0 where they share no term.

    Raises:
        MissingDependencyError: bm25s is not installed.
    """
    try:
        import bm25s
        from bm25s.stopwords import STOPWORDS_EN
    except ImportError as error:
        raise MissingDependencyError("BM25 needs pip install 'ctxshaper[retrieval]'") from error
    corpus = [terms(text) for text in texts]
    asked = sorted(set(terms(query)) - set(STOPWORDS_EN)) or sorted(set(terms(query)))
    known = {term for words in corpus for term in words}
    asked = [term for term in asked if term in known]
    if not asked:
        return np.zeros(len(texts))
    index = bm25s.BM25()
    index.index(corpus, show_progress=False)
    scores: NDArray[np.float64] = np.asarray(index.get_scores(asked), dtype=np.float64)
    return scores
