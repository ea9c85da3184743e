"""Links between the passages of one request: which unit of text names which other passage's title."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ctxshaper.text.terms import terms

# "Sulli (singer)" is called Sulli by everybody else.
_DISAMBIGUATION = re.compile(r"\s*\([^()]*\)\s*$")
# Shorter titles ("It", "X") are words before they are names.
_SHORTEST = 3
# The probability below which a link says nothing: it keeps unlikely sentences from dragging in what they name.
_FLOOR = 0.05


def title_links(titles: Sequence[str], texts: Sequence[str], owners: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which unit names the title of which other passage, word for word, whatever the case and punctuation.

    Args:
        titles: by passage; empty where there is none. Pieces of one document have the same title and do not link to
            each other.
        texts: by unit.
        owners: [number of units] the passage of each unit.

    Returns:
        [number of units, number of passages]
    """
    links = np.zeros((len(texts), len(titles)), dtype=np.bool_)
    names = [_spaced(_DISAMBIGUATION.sub("", title) or title) for title in titles]
    spaced = [_spaced(text) for text in texts] if any(names) else []
    for passage, name in enumerate(names):
        if len(name.strip()) >= _SHORTEST:
            links[:, passage] = [
                names[owner] != name and name in text for owner, text in zip(owners, spaced, strict=True)
            ]
    return links


def link_features(
    links: NDArray[np.bool_], owners: NDArray[np.int64], scores: NDArray[np.float64]
) -> NDArray[np.float64]:
    """What the links say of each unit, given how likely each unit is by itself.

    Args:
        links: what `title_links` gives.
        owners: [number of units] the passage of each unit.
        scores: [number of units] log-odds, up to a constant.

    Returns:
        [number of units, 2], each the logarithm of a probability over a floor, 0 where nothing is linked: that the
        evidence names the unit's passage, and that the evidence lies in a passage that the unit names.
    """
    likely = np.exp(scores - scores.max())
    likely /= likely.sum()
    by_passage = np.bincount(owners, weights=likely, minlength=links.shape[1])
    named, names = (likely @ links)[owners], links @ by_passage
    result: NDArray[np.float64] = np.log1p(np.stack([named, names], axis=1) / _FLOOR)
    return result


def _spaced(text: str) -> str:
    words = terms(text)
    return f" {' '.join(words)} " if words else ""
