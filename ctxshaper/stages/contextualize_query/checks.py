"""Whether a question that a language model wrote says what was asked, and nothing that was not in the chat."""

from __future__ import annotations

import re

from ctxshaper.reading.function_words import content_ranges
from ctxshaper.stages.s2a.answers import parse
from ctxshaper.stages.s2a.support import numbers
from ctxshaper.text.terms import terms

# A rewritten question is this much longer than what was asked at most, in characters: names replace a few words.
_LONGER, _SLACK = 2, 300
# The least share of the asked question's content words that stay, and of the rewritten one's that the chat holds.
_STAYS, _KNOWN = 0.5, 0.7
# Words are the same up to what is inflected at their end.
_STEM = 5
_QUOTES = "\"'“”„«»`*_ \t"
_ASKS = ("?", "？", "؟")
_NAME = re.compile(r"(?<=[\w,;:] )[A-ZÀ-ÖØ-Þ]\w+")


def read_question(answer: str, asked: str, history: str) -> tuple[str, str]:
    """The question that a language model's answer holds, or why it holds none that can be used. Never raises.

    Args:
        answer: any string.
        asked: what the user asked.
        history: the messages that the model saw.

    Returns:
        The question, and an empty text; or an empty text, and the reason.
    """
    if not answer.strip():
        return "", "the answer is empty"
    parsed = parse(answer)
    if parsed.refused:
        return "", "the language model refused"
    lines = [line.strip(_QUOTES) for line in (parsed.question or parsed.context).split("\n")]
    question = next(filter(None, lines), "")
    if not question:
        return "", "the answer holds no question"
    if len(question) > _LONGER * len(asked) + _SLACK:
        return "", f"the answer has {len(question)} characters, for a question of {len(asked)}"
    if asked.rstrip().endswith(_ASKS) and not question.endswith(_ASKS):
        return "", "the answer is no question"
    return (question, "") if not (problem := _strays(question, asked, history)) else ("", problem)


def _strays(question: str, asked: str, history: str) -> str:
    """What a question lost of the one that was asked, or brings that the chat does not say; empty if neither."""
    wanted, said = _content(asked), _content(question)
    if wanted and len(wanted & said) < _STAYS * len(wanted):
        return "the answer asks something else"
    chat = asked + "\n" + history
    known = _stems(chat)
    if new := numbers(question) - numbers(chat):
        return f"the number {min(new)!r} is not in the chat"
    if names := sorted(name for name in _NAME.findall(question) if not _stems(name) <= known):
        return f"the name {names[0]!r:.80} is not in the chat"
    if said and len(said & known) < _KNOWN * len(said):
        return "the answer holds words that nobody said"
    return ""


def _content(text: str) -> frozenset[str]:
    return frozenset().union(*(_stems(text[start:end]) for start, end in content_ranges(text)))


def _stems(text: str) -> frozenset[str]:
    return frozenset(term[:_STEM] for term in terms(text))
