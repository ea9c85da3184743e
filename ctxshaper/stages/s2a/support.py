"""Whether a sentence that a language model wrote is supported by a source, and by which spans of it."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from heapq import nsmallest
from itertools import pairwise
from typing import TYPE_CHECKING

from ctxshaper.data import Span, merge_spans
from ctxshaper.stages.s2a.alignment import Run, aligned_runs
from ctxshaper.text.segments import sentences

if TYPE_CHECKING:
    from ctxshaper.models.embedder import Embedder

# Words with their apostrophes, numbers with their points and commas, characters of scripts without spaces.
_TOKEN = re.compile(
    r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[$€£¥]?\d+(?:[.,:/]\d+)*%?|[^\W\d_]+(?:['’.-][^\W\d_]+)*|[^\W_]+"
)
_CLAUSE = re.compile(r"[,;:()—–。，；：]|\s-\s")


def _set(words: str) -> frozenset[str]:
    return frozenset(words.split())


_FUNCTION = _set(
    "a an the of and or to in on at by for with from as is are was were be been being it its this that these those he "
    "she they his her their them him i you we who which what when where whose do does did has have had will would can "
    "also then there so if but into than about after before over under between during up out more most one such der "
    "die das und ist im in zu den le la les et est une un du el los las y es una"
)
_CONNECTIVES = _set(
    "additionally however moreover furthermore therefore thus finally firstly first second overall meanwhile today "
    "later because while although since according both each every all some many his her our your my"
)
# What turns a statement over, or makes it a mere claim: to drop it changes as much as to add it.
_POLARITY = _set(
    "not no never none nobody nothing neither nor without cannot hardly few unlikely false untrue incorrect deny "
    "denies denied except unless think thinks thought believe believes believed guess suspect suspects suspected "
    "suppose assume assumed seem seems maybe apparently may might could should allegedly reportedly supposedly perhaps "
    "possibly probably claimed claims rumored rumoured "
    "nicht kein keine keinen nie ohne ne pas jamais sans nunca sin 不 没 沒 無 无 非 未"
)
_NUMBER_WORDS = _set(
    "zero two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety hundred thousand million billion dozen "
    "half third quarter twice double triple once"
)
# Small words that turn a comparison or an order of time around.
_COMPARING = _set("before after more less fewer most least above below over under first last only")
# The numbers below are set by hand, fitted to nothing: a copy with small slips passes, another statement does not.
# Share of a sentence's content words, and of its word pairs, that must be found in the source in their order;
# with an embedder, a close sentence may be worded more freely.
_CONTENT, _PAIRS = 0.8, 0.35
_FREE_CONTENT, _FREE_PAIRS, _CLOSE = 0.6, 0.25, 0.85
# Sentences of the source that are aligned, and of these how many may support a sentence together.
_CANDIDATES, _FUSED = 5, 3
# Sentences may be strung together, but only whole: halves of two make a statement that nobody made.
_WHOLE = 0.7
# Bounds on the work, beyond any prose: a longer unit of the source (code) is aligned in pieces, and a word that stands
# in more sentences of it does not say which of them is meant.
_LONGEST_UNIT, _MOST_SENTENCES = 1_000, 1_000


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the check found.

    Attributes:
        spans: sentences of the source that support the text; empty if none do.
        coverage: share of its content words that were found there, in order.
        reason: why it is not supported; empty if it is.
    """

    spans: tuple[Span, ...]
    coverage: float
    reason: str = ""


@dataclass(frozen=True, slots=True)
class _Words:
    words: tuple[str, ...]
    raw: tuple[str, ...]
    starts: tuple[int, ...]

    @classmethod
    def of(cls, text: str) -> _Words:
        found = list(_TOKEN.finditer(text))
        return cls(tuple(_norm(m[0]) for m in found), tuple(m[0] for m in found), tuple(m.start() for m in found))

    def pairs(self) -> Iterator[tuple[str, str]]:
        return pairwise(self.words)


class Source:
    """A text whose sentences may support others.

    Args:
        text: the source.
        spans: which parts of it count; all if None.
        known: a text whose names and words may be used too, such as a heading.
    """

    def __init__(self, text: str, spans: Sequence[Span] | None = None, known: str = "") -> None:
        self.text = text
        self.spans = tuple(spans) if spans is not None else (Span(0, len(text)),)
        self.known = frozenset(_Words.of(known).words)

    @cached_property
    def sentences(self) -> tuple[Span, ...]:
        """The sentences of what counts; code of very many words in pieces."""
        found = sentences(self.text)
        ends = [s.end for s in found]
        cut: list[Span] = []
        for k in self.spans:
            for i in range(bisect_right(ends, k.start), len(found)):
                if found[i].start >= k.end:
                    break
                cut += self._pieces(max(found[i].start, k.start), min(found[i].end, k.end))
        return tuple(s for s in cut if self.text[s.start : s.end].strip())

    def _pieces(self, start: int, end: int) -> list[Span]:
        words = [m.start() for m in _TOKEN.finditer(self.text, start, end)]
        cuts = [start, *words[_LONGEST_UNIT::_LONGEST_UNIT], end]
        return [Span(a, b) for a, b in pairwise(cuts)]

    @cached_property
    def _words(self) -> list[_Words]:
        return [_Words.of(self.text[s.start : s.end]) for s in self.sentences]

    @cached_property
    def _places(self) -> dict[str, list[int]]:
        """The sentences that each word stands in."""
        places: dict[str, list[int]] = {}
        for index, words in enumerate(self._words):
            for word in frozenset(words.words):
                places.setdefault(word, []).append(index)
        return places

    def _most_like(self, wanted: set[str]) -> list[int]:
        """The sentences that hold most of the wanted words, most first; earlier ones first among equals."""
        lists = sorted((self._places[word] for word in wanted if word in self._places), key=len)
        # Words that stand everywhere count only where no other does.
        telling = [places for places in lists if len(places) <= _MOST_SENTENCES] or [x[:_MOST_SENTENCES] for x in lists]
        shared = Counter(index for places in telling for index in places)
        return nsmallest(_CANDIDATES, shared, key=lambda index: (-shared[index], index))

    def check(self, sentence: str, embedder: Embedder | None = None) -> Verdict:
        """Whether this source supports a sentence.

        The sentence's words are aligned, in order, with those of up to three sentences of the source. It is supported
        where enough of its content words and word pairs are found, all its numbers (with their units), names and
        number words stand in the aligned sentences, and negations and hedges agree with those of the aligned clauses.

        Args:
            sentence: what a language model wrote.
            embedder: where given, a sentence whose embedding is close to its source may be worded more freely.
        """
        words = _Words.of(sentence)
        content = [i for i, w in enumerate(words.words) if w not in _FUNCTION]
        if not content:
            return Verdict((), 0.0, "says nothing")
        best = self._align(words, content)
        if not best:
            return Verdict((), 0.0, "not in the source")
        covered: set[int] = set()
        pairs: set[int] = set()
        for _, blocks in best:
            covered |= {i for a, _, n in blocks for i in range(a, a + n)}
            pairs |= {i for a, _, n in blocks for i in range(a, a + n - 1)}
        # The heading stands above the passage: it may take the place of a pronoun.
        covered |= {i for i in content if words.words[i] in self.known}
        share = sum(i in covered for i in content) / len(content)
        paired = len(pairs) / max(1, len(words.words) - 1) if len(words.words) > 1 else 1.0
        spans = merge_spans(self._trimmed(s) for s, _ in best)
        if not (share >= _CONTENT and paired >= _PAIRS):
            free = embedder is not None and share >= _FREE_CONTENT and paired >= _FREE_PAIRS
            if not free or embedder is None or self._closeness(sentence, spans, embedder) < _CLOSE:
                return Verdict((), share, "not in the source")
        if problem := self._contradiction(words, best):
            return Verdict((), share, problem)
        return Verdict(spans, share)

    def _align(self, words: _Words, content: Sequence[int]) -> list[tuple[int, list[Run]]]:
        """The sentences of the source that together hold most of the words: index, matching blocks (a, b, length)."""
        wanted = {words.words[i] for i in content}
        matches = [(index, aligned_runs(words.words, self._words[index].words)) for index in self._most_like(wanted)]
        chosen: list[tuple[int, list[Run]]] = []
        missing = set(content)

        def gain(match: tuple[int, list[Run]]) -> int:
            return sum(i in missing for a, _, n in match[1] for i in range(a, a + n))

        while matches and missing and len(chosen) < _FUSED:
            best = max(matches, key=gain)
            # A second sentence must bring more than one stray word.
            if gain(best) < (2 if chosen else 1):
                break
            chosen.append(best)
            matches.remove(best)
            missing -= {i for a, _, n in best[1] for i in range(a, a + n)}
        if len(chosen) > 1 and any(self._share_of(index, blocks) < _WHOLE for index, blocks in chosen):
            return chosen[:1]
        return chosen

    def _share_of(self, index: int, blocks: Sequence[Run]) -> float:
        """Share of a source sentence's content words that are matched."""
        words = self._words[index].words
        matched = {i for _, b, n in blocks for i in range(b, b + n)}
        content = [i for i, word in enumerate(words) if word not in _FUNCTION]
        return sum(i in matched for i in content) / max(1, len(content))

    def _contradiction(self, words: _Words, aligned: Sequence[tuple[int, list[Run]]]) -> str:
        """What the sentence says that the aligned sentences do not, or leaves out that turns them over."""
        matched = {i for _, blocks in aligned for a, _, n in blocks for i in range(a, a + n)}
        pairs = {pair for s, _ in aligned for pair in self._words[s].pairs()}
        for i, (word, raw) in enumerate(zip(words.words, words.raw, strict=True)):
            number = _is_number(word)
            # In order: that all the names stand somewhere does not say who beat whom.
            if i in matched or (word in self.known and not number):
                if number and not _same_unit(words, i, pairs):
                    return f"the number {raw!r} has another unit in the source"
            elif number:
                return f"the number {raw!r} is not there in the source"
            elif word in _COMPARING:
                return f"{raw!r} is not there in the source"
            elif raw[0].isupper() and word not in (_FUNCTION if i else _FUNCTION | _CONNECTIVES):
                return f"the name {raw!r} is not there in the source"
        said = sum(map(_turns, words.words))
        meant = sum(self._turns_in_clauses(s, blocks) for s, blocks in aligned)
        return "" if said == meant else f"{said} negations or hedges, but {meant} in the source"

    def _turns_in_clauses(self, index: int, blocks: Sequence[Run]) -> int:
        """Negations and hedges in the clauses of a sentence that hold matched words, and in those between them."""
        words, span = self._words[index], self.sentences[index]
        text = self.text[span.start : span.end]
        cuts = [m.start() for m in _CLAUSE.finditer(text)]
        clause = [bisect_left(cuts, start) for start in words.starts]
        # A lone function word that happens to match says nothing about its clause.
        held = {clause[b + i] for _, b, n in blocks for i in range(n) if words.words[b + i] not in _FUNCTION}
        if not held:
            return 0
        inside = range(min(held), max(held) + 1)
        return sum(_turns(w) for w, c in zip(words.words, clause, strict=True) if c in inside)

    def _trimmed(self, index: int) -> Span:
        span = self.sentences[index]
        text = self.text[span.start : span.end]
        start = span.start + len(text) - len(text.lstrip())
        return Span(start, max(start, span.start + len(text.rstrip())))

    def _closeness(self, sentence: str, spans: Sequence[Span], embedder: Embedder) -> float:
        text = " ".join(self.text[s.start : s.end] for s in spans)
        return float(embedder.similarity(sentence, [text])[0])


def _same_unit(words: _Words, place: int, pairs: set[tuple[str, str]]) -> bool:
    """Whether a short word right behind a number, likely its unit, stands behind that number in the source too."""
    after = words.words[place + 1] if place + 1 < len(words.words) else ""
    long = len(after) > 3 and after not in _NUMBER_WORDS
    return not after.isalpha() or long or after in _FUNCTION or (words.words[place], after) in pairs


def numbers(text: str) -> frozenset[str]:
    """The numbers of a text, in digits or words."""
    return frozenset(word for word in _Words.of(text).words if _is_number(word))


def _norm(raw: str) -> str:
    word = unicodedata.normalize("NFKC", raw).casefold().replace("’", "'")
    if _is_number(word):
        return word.replace(",", "")
    return "not" if word in ("n't", "dont") else word.removesuffix("'s")


def _is_number(word: str) -> bool:
    return any(c.isdigit() for c in word) or word in _NUMBER_WORDS


def _turns(word: str) -> bool:
    return word in _POLARITY or word.endswith("n't")
