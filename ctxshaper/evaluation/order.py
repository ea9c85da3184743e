"""In which order questions are asked: those over the same passages together, so that long documents are read once."""

from __future__ import annotations

from collections.abc import Sequence

from ctxshaper.evaluation.questions import Question

# Reading passages anew for every recipe is what takes the time; a mean over so many questions is sure enough.
_COLD, _SHARE = 8, 4


def in_order(questions: Sequence[Question]) -> list[tuple[Question, bool]]:
    """The questions in the order in which they are asked, and at which of them recipes forget all that they read.

    Time for new passages is measured at up to 8 questions, at most a quarter of those with other passages than the ones
    before (at least one), spread evenly over the data. They come first, with all others over the same passages: what
    is read later is never forgotten.
    """
    groups: dict[tuple[tuple[str, str], ...], list[Question]] = {}
    for question in questions:
        groups.setdefault(tuple((p.title, p.source) for p in question.passages), []).append(question)
    found = list(groups.values())
    count = min(_COLD, -(-len(found) // _SHARE))
    sample = dict.fromkeys(place * len(found) // count for place in range(count))
    ordered = [(question, not nth) for place in sample for nth, question in enumerate(found[place])]
    rest = [question for place, group in enumerate(found) if place not in sample for question in group]
    return [*ordered, *((question, False) for question in rest)]
