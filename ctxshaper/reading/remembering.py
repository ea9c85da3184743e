"""Reading ahead: a stream of passages of any length, group by group, in the memory of one group."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from ctxshaper.data import Passage
from ctxshaper.reading.layout import Layout
from ctxshaper.reading.passage_tokens import Tokens
from ctxshaper.reading.reader_model import ReaderModel
from ctxshaper.reading.reading import Remembered

# Passages of a stream that are tokenised, and looked up, together.
_STREAM = 256
# Tokens of a group: one forward pass on a GPU, four on a CPU, so that passes are full and progress is seen.
_GROUP = 8192


def remember(model: ReaderModel, passages: Iterable[Passage | str]) -> Iterator[Remembered]:
    """See `Reader.remember_stream`."""
    for group, characters in _groups(model.layout, passages):
        own = {key: ids for one in group for key, ids in zip(one.keys, one.ids, strict=True)}
        with model.shelf.take(own, {key: len(own[key]) for key in sorted(own)}) as taken:
            absent = taken.absent
        new = {one.keys for one in group if not absent.isdisjoint(one.keys)}
        yield Remembered(
            passages=len(group),
            known=len(group) - len(new),
            characters=characters,
            tokens=sum(len(ids) for one in group for ids in one.ids),
            read_tokens=sum(len(own[key]) for key in absent),
            read_windows=len(absent),
        )


def _groups(layout: Layout, passages: Iterable[Passage | str]) -> Iterator[tuple[list[Tokens], int]]:
    """Passages in groups that a request takes, with the characters of each group."""
    stream, most = map(Passage.of, passages), min(_GROUP, layout.max_tokens)
    group, size, characters = list[Tokens](), 0, 0
    while some := list(islice(stream, _STREAM)):
        for passage, tokens in zip(some, layout.passages(some), strict=True):
            own = sum(map(len, tokens.ids))
            if not len(tokens.offsets):
                continue
            if group and size + own > most:
                yield group, characters
                group, size, characters = [], 0, 0
            group.append(tokens)
            size += own
            characters += len(passage.source)
    if group:
        yield group, characters
