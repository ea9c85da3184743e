"""What a chat with tools costs: tokens sent and billed, with shaping once, shaping anew each turn, and none.

Question i of HotpotQA is asked in turn i, and its passages are what the tool finds; each turn is two requests. Prices
are in thousands of tokens at the full price, by two rules that providers publish: "steps" bills what a request has in
common with an earlier one at a tenth, from 1,024 tokens on and in steps of 128; "writes" bills what an earlier request
had as a whole at a tenth, and all else at 1.25. "anew" shapes all results for the newest question each time.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks.questions import DATA, HOTPOT, evidence_kept, load
from benchmarks.table import Table
from ctxshaper import Pipeline
from ctxshaper.evaluation.questions import Question
from ctxshaper.pipelines import Session
from ctxshaper.text.messages import find, replaced, texts_of

Messages = list[dict[str, Any]]
_LEAST, _STEP, _READ, _WRITE = 1_024, 128, 0.1, 1.25


def options(parser: argparse.ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--limit", type=int, default=10, help="passages that the tool finds")
    parser.add_argument("--recipe", default="fast")
    parser.add_argument("--budget", help="of each result; the recipe's own if left out")
    parser.add_argument("--max-tokens", type=int, default=4_000, help="of the session that sets rounds aside")
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of the labelled questions")


def run(arguments: argparse.Namespace) -> list[Table]:
    """Tokens and prices of one chat in two forms."""
    questions = load(arguments.data, [HOTPOT])[HOTPOT][: arguments.turns]
    pipeline = Pipeline.from_recipe(arguments.recipe)
    count = pipeline.parts.count
    known: dict[Any, list[str | None]] = {}
    tables = []
    for form, turn_of in (("OpenAI", openai), ("Anthropic", anthropic)):
        whole = [turn_of(number, question, arguments.limit) for number, question in enumerate(questions)]
        plain = Session(pipeline, budget=arguments.budget)
        limited = Session(pipeline, budget=arguments.budget, max_tokens=arguments.max_tokens)
        ways: dict[str, Callable[[Messages], Messages]] = {
            "none": lambda messages: messages,
            "anew": lambda messages: anew(pipeline, arguments.budget, messages, known),
            "session": lambda messages, session=plain: session.shape(messages).messages,  # type: ignore[misc]
            f"session, {arguments.max_tokens:,} tokens": lambda messages, session=limited: (
                session.shape(messages).messages
            ),  # type: ignore[misc]
        }
        rows = {name: priced([way(messages) for messages in requests(whole)], count) for name, way in ways.items()}
        for figures in rows.values():
            for rule in ("steps", "writes"):
                figures[f"{rule}, x of none"] = figures[rule] / rows["none"][rule]
        items = plain.shape([row for turn in whole for row in turn]).items
        contexts = {item.message: item.context for item in items}
        asked = [question for question in questions if any(c.query == question.text for c in contexts.values())]
        by_query = {context.query: context for context in contexts.values()}
        kept = mean(evidence_kept(question, by_query[question.text]) for question in asked)
        note = f"{len(questions)} turns, recipe {arguments.recipe}; the session keeps {kept:.3f} of the evidence."
        tables.append(Table(f"chat, {form}'s form: thousands of tokens", rows, [note]))
    return tables


def openai(number: int, question: Question, limit: int) -> Messages:
    """A turn in OpenAI's form: the tool gives a list in JSON."""
    arguments = json.dumps({"query": question.text})
    call = {"id": f"c{number}", "type": "function", "function": {"name": "search", "arguments": arguments}}
    found = [{"title": passage.title, "text": passage.source} for passage in question.passages[:limit]]
    return [
        {"role": "user", "content": question.text},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": f"c{number}", "content": json.dumps({"results": found})},
        {"role": "assistant", "content": ", ".join(question.answers)},
    ]


def anthropic(number: int, question: Question, limit: int) -> Messages:
    """A turn in Anthropic's form: the tool gives blocks of search results."""
    call = {"type": "tool_use", "id": f"t{number}", "name": "search", "input": {"query": question.text}}
    found = [
        {
            "type": "search_result",
            "source": str(place),
            "title": passage.title,
            "content": [{"type": "text", "text": passage.source}],
        }
        for place, passage in enumerate(question.passages[:limit])
    ]
    return [
        {"role": "user", "content": question.text},
        {"role": "assistant", "content": [call]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": f"t{number}", "content": found}]},
        {"role": "assistant", "content": ", ".join(question.answers)},
    ]


def requests(turns: Sequence[Messages]) -> Iterator[Messages]:
    """What is sent one after the other: behind each question, and behind each result."""
    for number, turn in enumerate(turns):
        before = [row for earlier in turns[:number] for row in earlier]
        yield before + turn[:1]
        yield before + turn[:3]


def anew(pipeline: Pipeline, budget: Any, messages: Messages, known: dict[Any, list[str | None]]) -> Messages:
    """The messages with every result shaped for the newest question; both requests of a turn ask the same."""
    asked = next(r["content"] for r in reversed(messages) if r["role"] == "user" and isinstance(r["content"], str))
    groups: dict[int, list[Any]] = {}
    for item in find(messages):
        groups.setdefault(item.message, []).append(item)
    new = {}
    for items in groups.values():
        passages = [passage for item in items for passage in item.passages]
        name = (asked, tuple(passage.source for passage in passages))
        if name not in known:
            shaped = pipeline.shape(asked, passages, budget)
            known[name] = texts_of(shaped.passages, len(passages), shaped.rendering.ellipsis)
        said = known[name]
        for item in items:
            own, said = said[: len(item.passages)], said[len(item.passages) :]
            new[item] = item.written(own) or None
    return replaced(messages, new)


def priced(sent: Sequence[Messages], count: Callable[[str], int]) -> dict[str, float]:
    """Tokens of all requests, and what they cost by both rules."""
    tokens = steps = writes = 0.0
    earlier: list[str] = []
    sizes: dict[str, int] = {}
    for messages in sent:
        text = _text(messages)
        sizes[text] = size = count(text)
        common = count(text[: max((_common(text, other) for other in earlier), default=0)])
        cached = common // _STEP * _STEP if common >= _LEAST else 0
        whole = max((sizes[other] for other in earlier if text.startswith(other)), default=0)
        whole = whole if whole >= _LEAST else 0
        tokens += size
        steps += size - cached + _READ * cached
        writes += _WRITE * (size - whole) + _READ * whole
        earlier.append(text)
    return {"sent": tokens / 1e3, "steps": steps / 1e3, "writes": writes / 1e3}


def _common(text: str, other: str) -> int:
    """How many characters two texts begin with in common."""
    low, high = 0, min(len(text), len(other))
    while low < high:
        middle = (low + high + 1) // 2
        if text[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _text(messages: Sequence[Mapping[str, Any]]) -> str:
    return "".join(json.dumps(message) + "\n" for message in messages)
