"""Which words two sentences share in the same order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher

# Words first[a : a + n] are second[b : b + n].
Run = tuple[int, int, int]
# What `SequenceMatcher` may do at worst, in steps (some milliseconds). It is cubic in words that repeat.
_MOST_STEPS = 50_000


def aligned_runs(first: Sequence[str], second: Sequence[str]) -> list[Run]:
    """Align two sentences by their words: the longest shared run, then those on either side of it.

    (Ratcliff and Obershelp, as in difflib.) Where the words repeat so much that this would take long, a longest common
    subsequence is aligned instead, in time proportional to the length of `first` if that of `second` is bounded.

    Args:
        first: words.
        second: words.

    Returns:
        Runs of equal words (place in the first, place in the second, length), in order, not overlapping.
    """
    ours, theirs = Counter(first), Counter(second)
    pairs = sum(count * theirs[word] for word, count in ours.items())
    if pairs * min(len(first), len(second)) <= _MOST_STEPS:
        matcher = SequenceMatcher(None, first, second, autojunk=False)
        return [(block.a, block.b, block.size) for block in matcher.get_matching_blocks() if block.size]
    return _longest_common_subsequence(first, second)


def _longest_common_subsequence(first: Sequence[str], second: Sequence[str]) -> list[Run]:
    """Bit-parallel (Hyyro, 2004): bit j of a row is 0 where second[: j + 1] holds one match more than second[:j]."""
    full = (1 << len(second)) - 1
    where: dict[str, int] = {}
    for place, word in enumerate(second):
        where[word] = where.get(word, 0) | 1 << place
    rows = [full]
    for word in first:
        hits = rows[-1] & where.get(word, 0)
        rows.append(((rows[-1] + hits) | (rows[-1] - hits)) & full)
    runs: list[Run] = []
    a, b = len(first), len(second)
    while a and b:
        if rows[a] >> (b - 1) & 1:  # second[b - 1] adds nothing
            b -= 1
        elif not rows[a - 1] >> (b - 1) & 1:  # it is matched without first[a - 1] too
            a -= 1
        else:
            a, b = a - 1, b - 1
            if runs and runs[-1][:2] == (a + 1, b + 1):
                runs[-1] = a, b, runs[-1][2] + 1
            else:
                runs.append((a, b, 1))
    return runs[::-1]
