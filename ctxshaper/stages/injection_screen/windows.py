"""Windows of sentences, for detectors that read a stretch of text at once."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ctxshaper.data import Passage, Written
from ctxshaper.stages.units import Unit
from ctxshaper.text.tokenization import Encoder


@dataclass(frozen=True)
class Window:
    """A stretch of one passage.

    Attributes:
        units: places of the units that it holds or cuts.
        text: what it says.
    """

    units: tuple[int, ...]
    text: str


def windows_of(passages: Sequence[Passage], units: Sequence[Unit], encoder: Encoder, most: int) -> list[Window]:
    """Windows over neighbouring units of at most so many tokens; two neighbours share a unit where one fits twice.

    A unit with more tokens is cut into windows that overlap by half. Linear in the text.
    """
    found: list[Window] = []
    own: list[tuple[int, str, int]] = []
    for place, unit in enumerate(units):
        if own and units[own[-1][0]].passage != unit.passage:
            found += _joined(own, most)
            own = []
        text = _text(passages[unit.passage], unit)
        _, offsets = encoder.data(text)
        if len(offsets) <= most:
            own.append((place, text, len(offsets)))
            continue
        found += _joined(own, most)
        own = []
        for start in range(0, len(offsets) - most // 2, max(1, most // 2)):
            last = min(len(offsets), start + most) - 1
            found.append(Window((place,), text[int(offsets[start, 0]) : int(offsets[last, 1])]))
    return [*found, *_joined(own, most)]


def highest(windows: Sequence[Window], scores: Iterable[float], units: int) -> NDArray[np.float64]:
    """[units] the highest score of the windows that hold each unit."""
    result = np.full(units, -np.inf)
    for window, score in zip(windows, scores, strict=True):
        places = list(window.units)
        result[places] = np.maximum(result[places], score)
    return result


def _joined(own: Sequence[tuple[int, str, int]], most: int) -> Iterator[Window]:
    start = 0
    while start < len(own):
        end, tokens = start, 0
        while end < len(own) and tokens + own[end][2] <= most:
            tokens += own[end][2]
            end += 1
        yield Window(tuple(place for place, _, _ in own[start:end]), "".join(text for _, text, _ in own[start:end]))
        if end == len(own):
            return
        # The last unit again, so that what goes over a border stands together once.
        start = max(start + 1, end - 1)


def _text(passage: Passage, unit: Unit) -> str:
    if unit.written is not None:
        piece = passage.pieces[unit.written]
        return f"{piece.text} " if isinstance(piece, Written) else ""
    text = passage.source[unit.span.start : unit.span.end]
    return text if text[-1:].isspace() else f"{text} "
