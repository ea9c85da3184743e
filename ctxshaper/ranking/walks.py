"""Walks between passages: evidence for a later hop stands where evidence for an earlier one leads, by shared names."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ctxshaper.text.remembered import Lately
from ctxshaper.text.terms import terms

Numbers = NDArray[np.float64]

# Words of letters, and apart from them runs of characters of scripts without spaces between words.
_UNSPACED = r"\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff"
# (Vowel signs of Indian scripts are no letters to Python.)
_WORDS = re.compile(rf"([{_UNSPACED}]+)|((?:[^\W\d_{_UNSPACED}]|[\u0900-\u0dff])+)")
# Shorter words ("Al", "II") are shared by chance.
_SHORTEST = 3
# A name that more passages hold than this tells none of them apart. Two to five gave the same evidence.
_MOST_HOLDERS = 3
# The share of the probability that walks on at each step, and how often. Shares of .2 to .4 and one step or three gave
# the same on HotpotQA and nq20_hard, and .69 to .74 of MuSiQue's gold passages (.65 without a walk).
_WALKING, _STEPS = 0.2, 3
_TINY = 1e-300
# Characters of texts whose names are kept for the next request.
_KNOWN: Lately[str, frozenset[str]] = Lately(2**24)


@dataclass(frozen=True)
class NameLinks:
    """Which unit shares a rare name with which other passage; each pair once, however many names they share.

    Attributes:
        units: [number of links].
        passages: [number of links] one that holds the name, and is not the unit's own.
        weights: [number of links] each unit's sum to 1.
    """

    units: NDArray[np.int64]
    passages: NDArray[np.int64]
    weights: Numbers


def name_links(
    query: str, titles: Sequence[str], sources: Sequence[str], texts: Sequence[str], owners: NDArray[np.int64]
) -> NameLinks:
    """Links a unit to the passages that hold a name which it mentions, where few passages do.

    A name is a word that begins with a capital letter; in writing without capitals every word, or pair of characters
    of Chinese and Japanese, may be one, and rarity alone decides. Names in the question lead nowhere new and are left
    out. (Words that also stand in small letters left out, numbers and rare words of any kind put in, and up to five
    passages instead of three changed nothing beyond noise.)

    Args:
        query: the question.
        titles: by passage; they count as its text.
        sources: by passage.
        texts: by unit.
        owners: [number of units] the passage of each unit.
    """
    asked = _names(query).union(terms(query))
    holders: dict[str, list[int]] = {}
    for passage, (title, source) in enumerate(zip(titles, sources, strict=True)):
        for name in (_names(title) | _names(source)) - asked:
            holders.setdefault(name, []).append(passage)
    rare = {name: some for name, some in holders.items() if 2 <= len(some) <= _MOST_HOLDERS}
    rows: list[tuple[int, int, float]] = []
    for unit, (owner, text) in enumerate(zip(owners.tolist(), texts, strict=True)):
        led: dict[int, float] = {}
        for name in _names(text) & rare.keys():
            others = [passage for passage in rare[name] if passage != owner]
            for passage in others:
                led[passage] = max(led.get(passage, 0.0), 1 / len(others))
        whole = sum(led.values())
        rows += [(unit, passage, weight / whole) for passage, weight in led.items()]
    table = np.array(rows, dtype=np.float64).reshape(-1, 3)
    return NameLinks(table[:, 0].astype(np.int64), table[:, 1].astype(np.int64), table[:, 2])


def walked(links: NameLinks, owners: NDArray[np.int64], scores: Numbers) -> Numbers:
    """[n] log-probabilities of the units after a walk along the links, which begins at each as likely as its score.

    At each step a part of the probability moves from a unit to the passages it is linked with, and there to their units
    in proportion to their own odds; the rest, and what is linked to nothing, begins again (personalised PageRank over
    names and passages, HippoRAG, arXiv 2405.14831, section 2.2).

    Args:
        links: what `name_links` gives.
        owners: [n] the passage of each unit.
        scores: [n] log-odds, up to a constant.
    """
    odds = np.exp(scores - scores.max())
    begun = odds / odds.sum()
    # A passage far behind has odds of 0 altogether: its units share evenly what comes to it.
    odds = np.maximum(odds, _TINY)
    inside = odds / np.bincount(owners, weights=odds)[owners]
    passages = int(owners.max()) + 1
    stays = np.ones(len(scores))
    stays[links.units] = 0
    here = begun
    for _ in range(_STEPS):
        led = np.bincount(links.passages, weights=here[links.units] * links.weights, minlength=passages)
        here = (1 - _WALKING) * begun + _WALKING * (led[owners] * inside + (here @ stays) * begun)
    result: Numbers = np.log(np.maximum(here, _TINY))
    return result


def _names(text: str) -> frozenset[str]:
    """What may be a name in a text, casefolded."""
    known = _KNOWN.get(text, len(text))
    if known is None:
        names: set[str] = set()
        for run, word in _WORDS.findall(text):
            names.update(map("".join, pairwise(run)))
            if len(word) >= _SHORTEST and not word[0].islower():
                names.add(word.casefold())
        known = frozenset(names)
        _KNOWN.put(text, known, len(text))
    return known
