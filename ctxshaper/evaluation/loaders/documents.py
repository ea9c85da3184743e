"""Formats that ask about one long text: LongBench, LooGLE, BABILong, NoLiMa. The text is cut as a retriever's index is.

Passages are runs of whole sentences of up to 1,000 characters, verbatim, in the text's order.
"""

from __future__ import annotations

import ast
import random
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ctxshaper.data import Passage, Span
from ctxshaper.errors import InvalidInputError
from ctxshaper.evaluation.loaders.files import Entry, entries, list_of, read_text, text_of, texts_of
from ctxshaper.evaluation.questions import Evidence, Question
from ctxshaper.text.segments import sentences

_PASSAGE = 1000
# NoLiMa's needle stands somewhere in so many characters of the book: about 8,000 tokens.
_HAYSTACK = 32_000


def cut(text: str, title: str = "") -> tuple[list[Passage], list[Span]]:
    """Passages of a text, and where in it each lies."""
    places: list[Span] = []
    for sentence in sentences(text):
        if places and sentence.end - places[-1].start <= _PASSAGE:
            places[-1] = Span(places[-1].start, sentence.end)
        else:
            places.append(sentence)
    places = [p for p in places if text[p.start : p.end].strip()]
    metadata = {"title": title} if title else {}
    return [Passage(text[p.start : p.end], metadata=metadata, rank=rank) for rank, p in enumerate(places)], places


def locate(span: Span, places: Sequence[Span]) -> Iterator[Evidence]:
    """The parts of a range of the text by passage."""
    for index, place in enumerate(places):
        if place.overlaps(span):
            start, end = max(span.start, place.start), min(span.end, place.end)
            yield index, Span(start - place.start, end - place.start)


def _question(
    entry: Entry, query: str, answers: Any, text: str, quoted: Sequence[str] = (), title: str = ""
) -> Question:
    passages, places = cut(text, title)
    evidence = []
    for quote in quoted:
        start = text.find(quote)
        if start >= 0:
            evidence += list(locate(Span(start, start + len(quote)), places))
    gold = frozenset(index for index, _ in evidence)
    name = str(entry.get("_id", entry.get("id", "")))
    return Question(query, texts_of(answers), tuple(passages), gold, tuple(evidence), name)


def longbench(entry: Entry) -> Question:
    """LongBench (Bai et al., arXiv 2308.14508): `input`, `context`, `answers`. Evidence is not marked."""
    return _question(entry, text_of(entry, "input"), list_of(entry, "answers"), text_of(entry, "context"))


def babilong(entry: Entry) -> Question:
    """BABILong (Kuratov et al., arXiv 2406.10149): `input` (the text), `question`, `target`. Evidence is not marked."""
    return _question(entry, text_of(entry, "question"), text_of(entry, "target"), text_of(entry, "input"))


def loogle(entry: Entry) -> Iterator[Question]:
    """LooGLE (Li et al., arXiv 2311.04939): a text with `qa_pairs` (`Q`, `A`, evidence `S`), or one question an entry.

    Evidence that does not stand in the text word for word is left out. Entries without questions (summaries) give none.
    """
    title = str(entry.get("title") or "")
    if "question" in entry:
        text, quoted = text_of(entry, "context", "input"), texts_of(entry.get("evidence"))
        yield _question(entry, text_of(entry, "question"), entry["answer"], text, quoted, title)
        return
    pairs: Any = entry["qa_pairs"]
    if isinstance(pairs, str):
        # The hub holds the list as Python spells it; a literal is data, nothing in it is run.
        pairs = [] if pairs.strip() in ("", "none") else ast.literal_eval(pairs)
    for pair in pairs:
        answer = list(pair["A"].values()) if isinstance(pair["A"], dict) else pair["A"]
        text, quoted = text_of(entry, "input", "context"), texts_of(pair.get("S"))
        yield _question(entry, text_of(pair, "Q"), answer, text, quoted, title)


def nolima(path: Path) -> list[Question]:
    """NoLiMa (Modarressi et al., arXiv 2502.05167): a needle set, with the books of the haystack in folders beside it.

    Each test and kind of question of each needle is one question: a random name of the set's, a random book and place;
    the same file always gives the same questions.

    Args:
        path: the needle set; the books are the .txt files anywhere below its folder or the folder above.

    Raises:
        InvalidInputError: no books there, or another format.
    """
    books = sorted(path.parent.rglob("*.txt")) or sorted(path.parent.parent.glob("*/**/*.txt"))
    if not books:
        raise InvalidInputError(
            f"{path}: NoLiMa's needles need a haystack; put its books (.txt) into a folder beside it"
        )
    draw = random.Random(0)  # noqa: S311  # choosing, not secrets
    questions = []
    for where, entry in entries(path):
        try:
            for test, values in sorted(entry["tests"].items()):
                for hop, template in sorted(entry["questions"].items()):
                    name, book = draw.choice(list_of(entry, "character_set")), read_text(draw.choice(books))
                    filled = {"{CHAR}": name} | {
                        f"{{{i}}}": str(v) for i, v in enumerate(list_of(values, "input_args"), start=1)
                    }
                    needle, query = _filled(text_of(entry, "needle"), filled), _filled(template, filled)
                    hay = _window(book, draw)
                    ends = [s.end for s in sentences(hay)]
                    at = draw.choice([0, *ends])
                    text = f"{hay[:at].rstrip()} {needle} {hay[at:].lstrip()}".strip()
                    made = _question(entry, query, name, text, [needle])
                    label = f"{made.id}-{test}-{hop}"
                    questions.append(Question(made.text, made.answers, made.passages, made.gold, made.evidence, label))
        except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            raise InvalidInputError(
                f"{where}: not a needle of NoLiMa (needle, questions, character_set, tests): {error}"
            ) from error
    return questions


def _filled(template: str, values: dict[str, str]) -> str:
    # Not str.format: it would let a template reach into objects.
    for mark, value in values.items():
        template = template.replace(mark, value)
    return template


def _window(book: str, draw: random.Random) -> str:
    start = draw.randrange(max(1, len(book) - _HAYSTACK))
    return book[start : start + _HAYSTACK]
