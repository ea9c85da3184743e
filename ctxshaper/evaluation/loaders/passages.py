"""Formats whose questions come with passages: HotpotQA, 2WikiMultihopQA, MuSiQue, Lost in the Middle, RGB, our own."""

from __future__ import annotations

import random
from typing import Any

from ctxshaper.data import Passage, Span
from ctxshaper.data.files import passage_from_json
from ctxshaper.evaluation.loaders.files import Entry, list_of, text_of, texts_of
from ctxshaper.evaluation.questions import Evidence, Question


def passage_of(value: Any, rank: int, *, text: str = "text") -> Passage:
    """A passage from a text or an object with a text and perhaps `title`, `id`, `score`.

    Raises:
        ValueError: neither.
    """
    if isinstance(value, str):
        return Passage(value, rank=rank)
    if not isinstance(value, dict) or not isinstance(value.get(text), str):
        raise ValueError(f"passage {rank} must be a text or an object with {text!r}, but got {value!r:.60}")
    name, score, title = value.get("id"), value.get("score"), value.get("title")
    return Passage(
        value[text],
        id=None if name is None else str(name),
        score=score if isinstance(score, (int, float)) else None,
        metadata={"title": title} if isinstance(title, str) and title else {},
        rank=rank,
    )


def hotpotqa(entry: Entry) -> Question:
    """HotpotQA's distractor setting (Yang et al., arXiv 1809.09600), and 2WikiMultihopQA (arXiv 2011.01060).

    `context` is a list of [title, sentences], `supporting_facts` one of [title, index of a sentence]; both may also be
    objects of columns, as the hub has them.
    """
    context = _rows(entry, "context", ("title", "sentences"))
    facts = {(title, int(index)) for title, index in _rows(entry, "supporting_facts", ("title", "sent_id"))}
    passages, evidence = [], []
    for rank, (title, sentences) in enumerate(context):
        text = ""
        for index, sentence in enumerate(sentences):
            # HotpotQA's sentences bring their space along, those of 2WikiMultihopQA do not.
            joint = " " if text and not text[-1].isspace() and sentence[:1].strip() else ""
            if (title, index) in facts and sentence.strip():
                start = len(text) + len(joint) + len(sentence) - len(sentence.lstrip())
                evidence.append((rank, Span(start, start + len(sentence.strip()))))
            text += joint + sentence
        passages.append(Passage(text, metadata={"title": title}, rank=rank))
    named = {title for title, _ in facts}
    gold = frozenset(rank for rank, (title, _) in enumerate(context) if title in named)
    name = str(entry.get("_id", entry.get("id", "")))
    answers = texts_of(entry["answer"])
    return Question(text_of(entry, "question"), answers, tuple(passages), gold, tuple(evidence), name)


def _rows(entry: Entry, name: str, columns: tuple[str, str]) -> list[tuple[Any, Any]]:
    value = entry.get(name)
    if isinstance(value, dict):
        return list(zip(value[columns[0]], value[columns[1]], strict=True))
    return [(first, second) for first, second in list_of(entry, name)]


def musique(entry: Entry) -> Question:
    """MuSiQue (Trivedi et al., arXiv 2108.00573): `paragraphs` with `title`, `paragraph_text`, `is_supporting`."""
    paragraphs = list_of(entry, "paragraphs")
    passages = tuple(passage_of(p, rank, text="paragraph_text") for rank, p in enumerate(paragraphs))
    gold = frozenset(rank for rank, p in enumerate(paragraphs) if p["is_supporting"])
    answers = texts_of([entry["answer"], entry.get("answer_aliases")])
    return Question(text_of(entry, "question"), answers, passages, gold, id=str(entry.get("id", "")))


def lost_in_the_middle(entry: Entry) -> Question:
    """Natural Questions as Lost in the Middle has them (Liu et al., arXiv 2307.03172): `ctxs` with `isgold`."""
    ctxs = list_of(entry, "ctxs")
    gold = frozenset(rank for rank, c in enumerate(ctxs) if c["isgold"])
    passages = tuple(passage_of(c, rank) for rank, c in enumerate(ctxs))
    return Question(text_of(entry, "question"), texts_of(entry["answers"]), passages, gold, id=str(entry.get("id", "")))


def rgb(entry: Entry) -> Question:
    """RGB (Chen et al., arXiv 2309.01431): `positive` passages answer, `positive_wrong` hold a false fact.

    Its passages have no order of their own: they are shuffled, always alike for the same question. Where an answer has
    several parts, each spelling of each part is an accepted answer.
    """
    query = text_of(entry, "query")
    kinds = [
        (text, kind == "positive")
        for kind in ("positive", "positive_wrong", "negative")
        for text in texts_of(entry.get(kind))
    ]
    random.Random(query).shuffle(kinds)  # noqa: S311  # shuffling, not secrets
    gold = frozenset(rank for rank, (_, right) in enumerate(kinds) if right)
    passages = tuple(Passage(text, rank=rank) for rank, (text, _) in enumerate(kinds))
    return Question(query, texts_of(entry["answer"]), passages, gold, id=str(entry.get("id", "")))


def own(entry: Entry) -> Question:
    """A user's own: `query` (or `question`), `passages`, and if known `answers`, `evidence`, `id`.

    A passage is a text or an object with `text`, as the command line takes it. A piece of evidence names its
    passage, counted from 0, and the text that stands there or the characters `start` and `end`; without either, the
    whole passage is meant. An empty list of evidence says that none of the passages answers; none says nothing.
    """
    passages = tuple(passage_from_json(p, f"passage {rank}", rank) for rank, p in enumerate(list_of(entry, "passages")))
    gold: set[int] = set()
    evidence: list[Evidence] = []
    for piece in entry.get("evidence") or []:
        index = piece["passage"] if isinstance(piece, dict) else None
        if isinstance(index, bool) or not isinstance(index, int) or not 0 <= index < len(passages):
            raise ValueError(f"evidence needs a passage from 0 to {len(passages) - 1}, but got {piece!r:.60}")
        source = passages[index].source
        gold.add(index)
        if "text" in piece:
            start = source.find(text_of(piece, "text"))
            if start < 0:
                raise ValueError(f"passage {index} does not hold the evidence {piece['text']!r:.60}")
            evidence.append((index, Span(start, start + len(piece["text"]))))
        elif "start" in piece:
            span = Span(piece["start"], piece["end"])
            if not len(span) or span.end > len(source):
                raise ValueError(f"evidence {piece!r:.60} lies outside passage {index} of {len(source)} characters")
            evidence.append((index, span))
    query, name = text_of(entry, "query", "question"), str(entry.get("id", ""))
    unanswerable = entry.get("evidence") == []
    answers = texts_of(entry.get("answers"))
    return Question(query, answers, passages, frozenset(gold), tuple(evidence), name, unanswerable)
