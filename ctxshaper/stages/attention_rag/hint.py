"""How an answer to a question would begin: the hint prefix of AttentionRAG (arXiv 2503.10720, appendix B)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from ctxshaper.text.terms import terms

Method = Literal["generator", "rule", "generic"]

# For yes/no questions and for requests that no answer of one word completes.
GENERIC = "The keyword that matters most here is"
_NO_FORMAT = "NO FORMAT"
_TASK = (
    "Begin the answer to a question. Reuse the question's words, and stop right before the word that answers it. Do "
    f"not answer. For a yes/no question, or a request that one word cannot complete, write {_NO_FORMAT}.\n\n"
    "Question: Who painted the ceiling of the town hall of Arlen?\n"
    "Beginning: The ceiling of the town hall of Arlen was painted by\n\n"
    "Question: In which year did the first tram run through Osterby?\n"
    "Beginning: The first tram ran through Osterby in the year\n\n"
    "Question: Is the Morrow taller than the Kettle?\n"
    f"Beginning: {_NO_FORMAT}\n\n"
    "Question: What are the wings of a tern beetle made of?\n"
    "Beginning: The wings of a tern beetle are made of\n\n"
    f"Question: Sum up the minutes of the council.\nBeginning: {_NO_FORMAT}\n\n"
    "Question: "
)
# A hint is one line; of an endless answer no more than this is looked at.
_LOOKED_AT, _LONGEST = 2_000, 300

_BE = {"is", "are", "was", "were"}
_AUXILIARY = _BE | {"did", "does", "do", "has", "have", "had", "can", "will", "would", "could", "should"}
_DEGREE = {
    "old": "age", "long": "length", "tall": "height", "high": "height", "deep": "depth", "far": "distance",
    "fast": "speed", "big": "size", "large": "size", "often": "frequency", "much": "amount", "heavy": "weight",
}  # fmt: skip
_PLACE = {"when": "It was in the year", "where": "The place is", "why": "The reason is", "whose": "It belongs to"}
_PREPOSITIONS = "in|on|at|of|by|for|from|to|with|during|under|after|into|as"
_PARTICIPLE = re.compile(
    r"\w{2,}ed|born|built|made|written|founded|held|found|known|shot|set|sung|won|taken|spoken|sold|seen|led|drawn|"
    r"given|brought|begun|broken|cast|buried",
    re.IGNORECASE,
)
_ASKS_FIRST = re.compile(
    rf"(?:(?:{_PREPOSITIONS})\s+)?(who|whom|whose|what|which|when|where|why|how)\b\s*(.*)", re.IGNORECASE | re.DOTALL
)
# Inside a sentence "what" and "how many" ask, as do "by which" and a last "who"; a bare "who" or "which" relates.
_ASKS_LATER = re.compile(
    r"(?:what|how\s+(?:many|much|old|long)|(?<=\b(?:of|by|in|on|at|to)\s)(?:which|whom?)|which(?=\s+\w+$)|"
    r"(?:who|whom|where|when)(?=\W*$))\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Hint:
    """The beginning of an answer.

    Attributes:
        text: ends right before the word that would answer.
        method: what made it.
        problem: why the generator's own was not taken; empty if it was, or was not asked.
    """

    text: str
    method: Method
    problem: str = ""


def hint_prompt(query: str) -> str:
    """What a language model is asked in order to begin the answer: the task, a few examples, the question."""
    return _TASK + " ".join(query.split()) + "\nBeginning:"


def read_hint(query: str, answer: str) -> Hint:
    """The hint that a language model's answer to `hint_prompt` gives; that of the rule where it gives nothing usable.

    Args:
        query: the user's question or request.
        answer: any text.
    """
    line = _first_line(answer)
    if _NO_FORMAT.casefold() in line.casefold():
        return Hint(GENERIC, "generic")
    problem = _unusable(line, query)
    return by_rule(query, problem) if problem else Hint(line, "generator")


def _first_line(answer: str) -> str:
    """The first line that says something, without a label, quotes, dots or a gap to fill in."""
    lines = (re.sub(r"^\W*(?:beginning|hint|answer)\s*:", "", x, flags=re.IGNORECASE) for x in _lines(answer))
    return next((line for x in lines if (line := x.strip(" \t\"'`*“”").rstrip(" ._…-:"))), "")


def _lines(answer: str) -> list[str]:
    return answer[: _LOOKED_AT + 1].splitlines()


def _unusable(line: str, query: str) -> str:
    if not line:
        return "the generator wrote nothing"
    if len(line) > max(_LONGEST, 2 * len(query)):
        return f"the generator wrote {len(line)} characters or more where a few words were asked for"
    if line[-1] in "?？؟":
        return "the generator wrote a question"
    if not set(terms(line)) & set(terms(query)):
        return "the generator wrote something that shares no word with the question"
    return ""


def by_rule(query: str, problem: str = "") -> Hint:
    """The beginning of an answer without a language model; never empty.

    English questions for a person, a thing, a time, a place or a number are turned into a beginning; everything else
    takes the generic one.

    Args:
        query: the user's question or request.
        problem: why a language model's hint is not taken, if one was asked.
    """
    text = " ".join(query.split())
    # Of several sentences the last one that asks counts.
    if (mark := text.rfind("?")) >= 0:
        text = text[:mark].rstrip(" ?")
        text = text[max(map(text.rfind, ".!?")) + 1 :].lstrip()
    first = _ASKS_FIRST.match(text)
    begun = _begin(first[1].lower(), first[2].split()) if first else _cut(text)
    begun = " ".join(begun.split()).rstrip(" ,;:")
    return Hint(begun[0].upper() + begun[1:], "rule", problem) if begun else Hint(GENERIC, "generic", problem)


def _cut(text: str) -> str:
    """A statement with the question word at its end or inside: all that stands before it."""
    second_word = text.find(" ") + 1
    last = 0
    for match in _ASKS_LATER.finditer(text):
        last = match.start()
    return text[:last] if 0 < second_word < last else ""


def _begin(asked: str, rest: list[str]) -> str:
    """A beginning from the question word and what follows it."""
    if not rest:
        return ""
    verb, body = rest[0].lower(), rest[1:]
    if asked == "how":
        if verb == "many":
            return f"The number of {' '.join(_noun(body))} is" if body else ""
        return f"The {_DEGREE[verb]} is" if verb in _DEGREE else ""
    if asked in ("when", "where") and verb in _BE and body:
        place = next((i for i, word in enumerate(body) if i and _PARTICIPLE.fullmatch(word)), len(body))
        return " ".join([*body[:place], verb, *body[place:], "in"])
    if asked == "when" and verb in ("do", "does", "will", "can"):
        return "The time is"
    if asked in _PLACE:
        return _PLACE[asked]
    if asked in ("who", "whom", "what") and verb in _BE and body:
        # Known for, called, named after: at the end it belongs to the verb, elsewhere to the noun.
        place = next((i for i in range(max(1, len(body) - 2), len(body)) if _PARTICIPLE.fullmatch(body[i])), len(body))
        return " ".join([*body[:place], verb, *body[place:]])
    if asked in ("who", "whom"):
        return "The person is" if verb in _AUXILIARY else f"The person who {' '.join(rest)} is"
    if verb in _AUXILIARY:
        return "It is"
    noun = _noun(rest)
    following = rest[len(noun) :]
    if following and following[0].lower() in _BE | {"has", "had", "have"}:
        return f"The {' '.join(noun)} that {' '.join(following)} is"
    return f"The {' '.join(noun)} is"


def _noun(words: list[str]) -> list[str]:
    """The noun that a question word belongs to: up to a verb that is seen to be one, else the first word."""
    for index, word in enumerate(words[:5]):
        if index and word.lower() in _AUXILIARY:
            return words[:index]
    return words[:1]
