"""The items of one chat message on their way through a pipeline: what it is asked, and what becomes of its answer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from ctxshaper.data import Budget, Context, Message, Passage, TokenCounter
from ctxshaper.data.formats import is_json
from ctxshaper.pipelines.chains import short_hash
from ctxshaper.pipelines.chats import ShapedItem
from ctxshaper.pipelines.history import understood
from ctxshaper.text.messages import Item, Path, role_of, said_by_assistant, said_by_user, texts_of

# Items of no more tokens are left at their length: there is nothing to gain. Stages that screen still see them.
_LEAST = 64
# A longer query is cut: of what somebody pastes, the end says most often what to do with it.
_LONGEST_QUERY = 4_000


class Ask(NamedTuple):
    """What a pipeline is asked to shape."""

    query: str
    passages: list[Passage]
    budget: Budget | None
    history: list[Message]


@dataclass
class Outcome:
    """What became of items: other texts in their places, and what is said about it."""

    texts: dict[Path, str | None] = field(default_factory=dict)
    items: list[ShapedItem] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def grouped(items: Sequence[Item]) -> list[list[Item]]:
    """The items of one message by what is shaped together: all that answer one call, or one question."""
    groups: dict[tuple[str, str], list[Item]] = {}
    for item in items:
        groups.setdefault((item.call, item.query), []).append(item)
    return list(groups.values())


def ask(
    group: Sequence[Item], messages: Sequence[Mapping[str, Any]], count: TokenCounter, budget: Budget | None
) -> Ask:
    """What the pipeline is asked about a group.

    Args:
        group: items of one message with one query.
        messages: the chat.
        count: of tokens.
        budget: of the group; None for the pipeline's own.
    """
    first = group[0]
    before = history(messages[: first.asked_in])
    query = first.query
    if role_of(messages[first.asked_in]) == "user":  # a tool's caller asks in full already
        query = understood(query, [said["content"] for said in before if said["role"] == "user"])
    passages = [passage for item in group for passage in item.passages]
    if count("\n\n".join(passage.source for passage in passages)) <= _LEAST:
        budget = Budget(tokens=_LEAST)
    return Ask(query[-_LONGEST_QUERY:], passages, budget, before)


def history(messages: Sequence[Mapping[str, Any]]) -> list[Message]:
    """What was said before: the users' questions without their passages, and the assistant's answers."""
    said: list[Message] = []
    for row in messages:
        if question := said_by_user(row):
            said.append(Message(role="user", content=question))
        elif answer := said_by_assistant(row):
            said.append(Message(role="assistant", content=answer))
    return said


def outcome(group: Sequence[Item], context: Context, count: TokenCounter, *, markers: bool) -> Outcome:
    """What becomes of a group once its passages are shaped.

    Args:
        group: what was asked about.
        context: the answer.
        count: of tokens.
        markers: whether what lost something says so.
    """
    made, place = Outcome(), f"message {group[0].message}"
    said = texts_of(context.passages, sum(len(item.passages) for item in group), context.rendering.ellipsis)
    nothing = all(text is None for text in said)
    new: list[tuple[Item, str | None]] = []
    for item in group:
        own, said = said[: len(item.passages)], said[len(item.passages) :]
        name = short_hash(item.text)
        if nothing and item is group[0]:
            text = item.noted(f"[nothing here is relevant; hash={name}]")
        else:
            whole = [passage.source for passage in item.passages]
            text = item.text if own == whole else item.written(own, f"[shortened; hash={name}]" if markers else "")
        slots = item.layout.slots
        if any(slot.kind == "json" and part and not is_json(part) for slot, part in zip(slots, own, strict=True)):
            made.warnings.append(f"{place}: what the stages left of its JSON is none, so it stays as it came")
            return made
        new.append((item, text if text.strip() else None))
    before = [count(item.text) for item in group]
    after = [0 if text is None else count(text) for _, text in new]
    if sum(after) >= sum(before) and not context.set_aside:
        return made  # it would cost more, by its marker or note
    made.warnings += [f"{place}: {warning}" for warning in context.warnings]
    if nothing:
        made.warnings.append(f"{place}: nothing in it is relevant to {context.query!r:.80}; a note stands in its place")
    for (item, written), was, now in zip(new, before, after, strict=True):
        if written != item.text:
            made.texts[item.path] = written
            made.items.append(ShapedItem(item.message, was, now, short_hash(item.text), context))
    return made
