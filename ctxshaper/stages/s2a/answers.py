"""Reading what a language model answered when it was asked for two labelled fields. Nothing here raises."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ctxshaper.text.segments import sentences

# A label at the start of a line, with whatever decoration and hints models put around it.
_LABEL = re.compile(
    r"^[ \t>#*_`~|\d.)(\[-]{0,12}"
    r"(?:(?P<context>(?:[a-z]{1,12} ){0,2}?(?:context|text|facts|passages?))|(?P<question>(?:[a-z]{1,12} ){0,2}?"
    r"(?:question|query|request)))"
    r"[ \t]{0,3}(?:\([^()\n]{0,200}\))?[*_`~\]\"' \t]{0,6}[:：][*_`~ \t]{0,6}",
    re.IGNORECASE | re.MULTILINE,
)
_FENCE = re.compile(r"^[ \t]*(?:```|~~~)[\w-]*[ \t]*$", re.MULTILINE)
_NOTHING = re.compile(
    r"(?:none|n/a|nothing|empty|null|no (?:relevant |useful |unbiased |additional )?"
    r"(?:context|information|facts?|text)(?: (?:is |was )?(?:given|found|provided|needed|available))?)?",
    re.IGNORECASE,
)
_REFUSAL = re.compile(
    r"\W*+(?:(?:i(?:'|’)?m|i am) (?:sorry|afraid|unable|not able)|sorry\b|(?:i )?(?:cannot|can(?:'|’)t|won(?:'|’)t) "
    r"(?:help|assist|answer|provide|comply|do|fulfil|process)|as an ai\b|my apologies|i apologi[sz]e)",
    re.IGNORECASE,
)
_PREFACE = re.compile(
    r"\W*+(?:sure|certainly|of course|okay|ok|absolutely|here(?:'s|’s| is| are)|below is|the (?:rewritten|cleaned))\b",
    re.IGNORECASE,
)
_STOPS = frozenset(".!?。！？…।؟|")
# Longer than any way of saying that there is nothing.
_LONGEST_NOTHING = 100

_LIST_MARK = re.compile(r"^\s*(?:[-*•>]+|\[?\d{1,2}[.)\]])\s+")
# An answer much longer than what was to be copied is a model that has run away.
_RUNAWAY = (4, 2000)


@dataclass(frozen=True, slots=True)
class Answer:
    """What an answer says.

    Attributes:
        context: the text of the context field, or all of the text where no field was found; stripped.
        question: the restated question; empty where there is none.
        labelled: whether the context field was found; only then an empty context means "nothing is useful".
        finished: whether something follows the context, so that its last sentence is whole.
        refused: whether the model declined instead of answering.
    """

    context: str
    question: str = ""
    labelled: bool = False
    finished: bool = False
    refused: bool = False


def parse(text: str) -> Answer:
    """Read an answer: chatty, in Markdown, in JSON, with fields missing, doubled or in another order.

    Args:
        text: any string.
    """
    text = _FENCE.sub("", text.replace("\r\n", "\n")).strip()
    if (found := _json_fields(text)) is not None:
        return found
    fields = list(_LABEL.finditer(text))
    context = [_field(text, fields, i) for i, f in enumerate(fields) if f["context"]]
    questions = [_field(text, fields, i) for i, f in enumerate(fields) if f["question"]]
    if not fields:
        bare = _without_preface(text)
        refused = _REFUSAL.match(bare) is not None
        return Answer("" if refused or _says_nothing(bare) else bare, refused=refused)
    if not context:
        # Only a question was labelled: what stands before it may be the context.
        before = _without_preface(text[: fields[0].start()])
        context = [before] if before else []
    joined = "\n".join(c for c in context if not _says_nothing(c))
    if _REFUSAL.match(joined):
        return Answer("", refused=True)
    # What follows the question behind an empty line is the model talking.
    question = re.split(r"\n[ \t]*+\n", questions[0], maxsplit=1)[0].strip() if questions else ""
    last = fields[-1]["question"] is not None
    return Answer(
        joined,
        "" if _says_nothing(question) else question,
        labelled=any(f["context"] for f in fields),
        finished=last and bool(question),
    )


def unusable(answer: Answer, text: str, size: int) -> str:
    """Why an answer cannot be used at all; empty if it can.

    Args:
        answer: what `parse` made of the text.
        text: the answer itself.
        size: characters of what was to be copied.
    """
    factor, slack = _RUNAWAY
    if not text.strip():
        return "the language model's answer is empty"
    if answer.refused:
        return "the language model refused"
    if len(text) > factor * size + slack:
        return f"the answer has {len(text)} characters, for a text of {size}"
    if not answer.context and not answer.labelled and not answer.question:
        return "the language model's answer holds no context"
    return ""


def written(answer: Answer) -> list[str]:
    """The sentences of an answer's context: no list marks, each once, the last only if it is whole."""
    texts = [_LIST_MARK.sub("", answer.context[s.start : s.end]).strip() for s in sentences(answer.context)]
    texts = list(dict.fromkeys(t for t in texts if re.search(r"\w", t)))
    # An answer that ran into its limit breaks off, perhaps within a number.
    if len(texts) > 1 and not answer.finished and _STOPS.isdisjoint(texts[-1][_edges(texts[-1])[1] :]):
        texts.pop()
    return texts


def join(texts: Sequence[str]) -> str:
    """Sentences as one text."""
    parts: list[str] = []
    for text in filter(None, texts):
        # Scripts without spaces between sentences keep none.
        if parts and parts[-1][-1] not in "。！？":
            parts.append(" ")
        parts.append(text)
    return "".join(parts)


def _edges(text: str) -> tuple[int, int]:
    """Where the first letter or digit of a text stands, and where the last one ends; (length, length) without any."""
    start = next((i for i, sign in enumerate(text) if sign.isalnum()), len(text))
    end = len(text)
    while end > start and not text[end - 1].isalnum():
        end -= 1
    return start, end


def _says_nothing(text: str) -> bool:
    start, end = _edges(text)
    return end - start <= _LONGEST_NOTHING and _NOTHING.fullmatch(text, start, end) is not None


def _without_preface(text: str) -> str:
    """The text without a first line such as "Sure, here it is:"."""
    if opening := _PREFACE.match(text):
        end = text.find("\n", opening.end())
        if end >= 0 and text[opening.end() : end].rstrip(" \t*").endswith(":"):
            return text[end:].strip()
    return text.strip()


def _field(text: str, fields: list[re.Match[str]], index: int) -> str:
    end = fields[index + 1].start() if index + 1 < len(fields) else len(text)
    return text[fields[index].end() : end].strip()


def _json_fields(text: str) -> Answer | None:
    start, end = text.find("{"), text.rfind("}")
    # JSON is taken only where it is all of the answer but a few words: passages may hold braces too.
    if start < 0 or end < start or start + len(text) - end > 200:
        return None
    try:
        data = json.loads(text[start : end + 1], strict=False)
    except (ValueError, RecursionError):
        return None
    if not isinstance(data, dict):
        return None
    named: dict[str, Any] = {str(k).casefold().strip(): v for k, v in data.items()}
    if "context" not in named:
        return None
    context, question = _plain(named["context"]), _plain(named.get("question"))
    context = "" if _says_nothing(context) else context
    return Answer(context, question, labelled=True, finished=True)


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return "\n".join(v.strip() for v in value if isinstance(v, str))
    return value.strip() if isinstance(value, str) else ""
