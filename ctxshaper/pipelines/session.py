"""A session: shapes a chat as it grows, so that what was sent once is sent again byte for byte.

Providers bill what is sent again unchanged at a tenth. So each text that holds passages is shaped once, for what is
asked when it enters the chat, and then stays. How it is shaped depends on the messages up to its own and on nothing
behind it; what was done is remembered by a hash of those messages.
"""

from __future__ import annotations

import asyncio
import copy
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Any

from ctxshaper.data import Budget, Context
from ctxshaper.data.deadline import Deadline, under
from ctxshaper.errors import DeadlineError, InvalidInputError
from ctxshaper.pipelines.chains import START, chained, checked
from ctxshaper.pipelines.chats import SetAsideRound, ShapedChat, ShapedItem
from ctxshaper.pipelines.items import Ask, Outcome, ask, grouped, outcome
from ctxshaper.pipelines.memory import Memory
from ctxshaper.pipelines.pipeline import BudgetLike, Pipeline
from ctxshaper.pipelines.rounds import RoundLimit, Row, Swap
from ctxshaper.text.messages import Item, Path, find, is_protected, read_by_model, rewritten

# Characters of originals that are remembered, and four times as many of what was made of them.
_REMEMBERED = 2**26
# What remembering one row costs at least, in characters.
_ROW = 200
# Rows whose tokens are remembered.
_COUNTS = 2**16


@dataclass(frozen=True, slots=True)
class _Known:
    """What was made of a row: the chat's name up to it, and other texts in its places."""

    chain: str
    texts: Mapping[Path, str | None] = field(default_factory=dict)
    items: tuple[ShapedItem, ...] = ()
    aside: SetAsideRound | None = None


@dataclass
class _Chat:
    """A chat on its way: by row what is known of it, its own name, and the name of the chat up to it."""

    messages: list[Any]
    given: list[Mapping[str, Any]]
    frozen: int
    known: list[_Known] = field(default_factory=list)
    names: list[str] = field(default_factory=list)
    chains: list[str] = field(default_factory=lambda: [START])
    warnings: list[str] = field(default_factory=list)


_Steps = Generator[Ask, Context, ShapedChat]


class Session:
    """Shapes chats as they grow: the results of tools and the passages in users' rows. Thread-safe.

    One session serves any number of chats. A client may send its whole original chat each time, or the shaped rows
    that it got back. System and assistant rows, rows with a `cache_control`, failed results of tools, and what is not
    recognised go out as they came; so does, from then on, a row that was first sent so.

        session = Session(Pipeline.from_recipe("fast"), max_tokens=30_000)
        shaped = session.shape(messages)
        client.chat.completions.create(model=..., messages=shaped.messages)

    Args:
        pipeline: shapes each item.
        budget: of each item, outranks the pipeline's own: tokens, a share, "auto".
        max_tokens: where a chat has more, the rounds before the present one that matter least to what is asked now are
            set aside, down to 70% of this; None for no limit.
        markers: whether a text that lost something ends with `[shortened; hash=...]`.
        remembered: characters of originals that are remembered, and about four times as many of what was made of them.

    Raises:
        InvalidInputError: an option that is not allowed.
    """

    def __init__(
        self,
        pipeline: Pipeline,
        *,
        budget: BudgetLike = None,
        max_tokens: int | None = None,
        markers: bool = False,
        remembered: int = _REMEMBERED,
    ) -> None:
        if not isinstance(pipeline, Pipeline):
            raise InvalidInputError(f"a session takes a ctxshaper.Pipeline, but got {pipeline!r:.80}")
        for name, value in (("max_tokens", max_tokens), ("remembered", remembered)):
            if value is not None and (type(value) is not int or value < 1):
                raise InvalidInputError(f"{name} must be an int from 1, but got {value!r:.80}")
        self.pipeline = pipeline
        self.budget = None if budget is None else Budget.parse(budget)
        self.markers, self.remembered = markers, remembered
        self._limit = None if max_tokens is None else RoundLimit(max_tokens)
        self._rows: Memory[_Known] = Memory(4 * remembered)
        self._originals: Memory[str | list[Any]] = Memory(remembered)
        self._counts: Memory[int] = Memory(_COUNTS)

    def __reduce__(self) -> tuple[Any, ...]:
        # What it remembers stays behind: it would be the texts of chats, and is found again from whole chats.
        limit = None if self._limit is None else self._limit.max_tokens
        own = {"budget": self.budget, "max_tokens": limit, "markers": self.markers, "remembered": self.remembered}
        return partial(type(self), **own), (self.pipeline,)  # type: ignore[arg-type]

    def shape(
        self, messages: Sequence[Mapping[str, Any]], *, frozen: int = 0, timeout: float | None = None
    ) -> ShapedChat:
        """Shape a chat for its next request.

        Args:
            messages: the whole chat in OpenAI's or Anthropic's form; never changed.
            frozen: so many messages at the begin go out exactly as they came.
            timeout: seconds after which the work stops; what was done until then is remembered. None for no limit.

        Raises:
            InvalidInputError: messages of another form, or a `frozen` that is no number from 0.
            DeadlineError: it took longer than `timeout`.
            StageError: a stage failed, and the pipeline's `on_error` is "raise".
        """
        limit = Deadline(timeout)
        steps = self._steps(messages, frozen)
        resume: Callable[[], Ask] = partial(next, steps)
        with under(limit):
            while isinstance(reached := _advanced(resume), Ask):
                try:
                    context = self.pipeline.shape(*reached[:3], history=reached.history, timeout=_left(limit))
                except Exception as error:  # noqa: BLE001  # the steps know what becomes of it
                    resume = partial(steps.throw, error)
                else:
                    resume = partial(steps.send, context)
        return reached

    async def ashape(
        self, messages: Sequence[Mapping[str, Any]], *, frozen: int = 0, timeout: float | None = None
    ) -> ShapedChat:
        """The same as `shape`, without blocking the event loop; cancelled, its work stops as it does at `timeout`."""
        limit = Deadline(timeout)
        steps = self._steps(messages, frozen)
        resume: Callable[[], Ask] = partial(next, steps)
        try:
            with under(limit):
                while isinstance(reached := await asyncio.to_thread(_advanced, resume), Ask):
                    try:
                        asked = self.pipeline.ashape(*reached[:3], history=reached.history, timeout=_left(limit))
                        context = await asked
                    except Exception as error:  # noqa: BLE001  # the steps know what becomes of it
                        resume = partial(steps.throw, error)
                    else:
                        resume = partial(steps.send, context)
        except asyncio.CancelledError:
            limit.cancel()
            raise
        return reached

    def original(self, name: str) -> str | list[dict[str, Any]] | None:
        """What stood in a chat before it was shaped.

        Args:
            name: the `hash` of a shaped item, of a marker in a text, or of a round that was set aside.

        Returns:
            The text of an item, or the rows of a round; None where it is not remembered (any more).
        """
        return copy.deepcopy(self._originals.get(name))

    def _steps(self, messages: Sequence[Mapping[str, Any]], frozen: int) -> _Steps:
        """Shape a chat, yielding what the pipeline is to shape and taking its answers."""
        if type(frozen) is not int or frozen < 0:
            raise InvalidInputError(f"frozen must be a number of messages from 0, but got {frozen!r:.80}")
        rows, given = checked(messages)
        chat = _Chat(rows, given, frozen)
        fresh = set()
        for place, message in enumerate(given):
            name = chained(chat.chains[-1], message)
            known = self._rows.get(name)
            chat.names.append(name)
            chat.known.append(known or _Known(name))
            chat.chains.append(chat.known[-1].chain)
            if known is None:
                fresh.add(place)
        found = {
            place: list(items)
            for place, items in groupby(find(given, {p for p in fresh if p >= frozen}), attrgetter("message"))
        }
        # A row that goes out as it came the first time does so later too: all are remembered.
        for place in sorted(fresh):
            made = Outcome()
            yield from self._row(found.get(place, []), given, made)
            chat.known[place] = self._remember(chat.chains[place], chat.names[place], given[place], made)
            chat.warnings += made.warnings
        return self._finished(chat)

    def _row(self, items: list[Item], given: list[Mapping[str, Any]], made: Outcome) -> Generator[Ask, Context, None]:
        """Shape the items of one message."""
        count = self.pipeline.parts.count
        for group in grouped(items):
            try:
                context = yield ask(group, given, count, self.budget)
            except DeadlineError:
                raise
            except Exception as error:
                if self.pipeline.on_error == "raise":
                    raise
                problem = f"{type(error).__name__}: {error}"
                made.warnings.append(f"message {group[0].message} could not be shaped and stays as it came: {problem}")
                continue
            one = outcome(group, context, count, markers=self.markers)
            made.texts.update(one.texts)
            made.items += one.items
            made.warnings += one.warnings
            for item in group:
                if item.path in one.texts:
                    self._originals.first(one.items[0].hash, item.text, len(item.text))

    def _remember(self, before: str, name: str, given: Mapping[str, Any], made: Outcome) -> _Known:
        """What stands for a row, and also for what a client has in its place that sends back what it got."""
        sources = {id(item.context): item.context.passages for item in made.items}.values()
        cost = _ROW + 4 * sum(len(passage.source) for passages in sources for passage in passages)
        known = self._rows.first(name, _Known(name, made.texts, tuple(made.items)), cost)
        if known.texts:
            self._rows.first(chained(before, rewritten(given, known.texts)), replace(known, texts={}), cost)
        return known

    def _finished(self, chat: _Chat) -> ShapedChat:
        """The chat as it goes out: with shaped rows, and without the rounds that are set aside."""
        rows, items = [], []
        before = 0
        for place, (given, known) in enumerate(zip(chat.given, chat.known, strict=True)):
            frozen, name = place < chat.frozen, chat.names[place]
            changed = bool(known.texts) and not frozen
            shaped = rewritten(given, known.texts) if changed else chat.messages[place]
            tokens = self._tokens(name, given)
            before += tokens
            if changed:
                tokens = self._tokens(f"{name} shaped", shaped)
            if changed or not known.texts:
                items += [replace(item, message=place) for item in known.items]
            fixed = frozen or is_protected(given)
            rows.append(Row(given, shaped, chat.chains[place + 1], tokens, fixed, known.aside))
        for item in items:  # what the chat still holds is remembered longest
            self._originals.get(item.hash)
        swaps: list[Swap] = []
        warnings = chat.warnings
        if self._limit is not None:
            skips = self.pipeline.on_error == "skip"
            swaps, more = self._limit.applied(rows, self.pipeline.parts, skips=skips)
            warnings = warnings + more
        messages: list[dict[str, Any]] = []
        set_aside = {row.aside.hash: row.aside for row in rows if row.aside is not None}
        after, reached = 0, 0
        for swap in swaps:
            self._swapped(swap, chat)
            set_aside[swap.aside.hash] = swap.aside
            messages += [*(row.shaped for row in rows[reached : swap.start]), *swap.rows]
            after += sum(row.tokens for row in rows[reached : swap.start]) + swap.tokens
            reached = swap.end
        messages += [row.shaped for row in rows[reached:]]
        after += sum(row.tokens for row in rows[reached:])
        return ShapedChat(messages, before, after, tuple(items), tuple(set_aside.values()), tuple(warnings))

    def _swapped(self, swap: Swap, chat: _Chat) -> None:
        """Remember the rows of a round, and how the chat looks to a client that sends back the marker."""
        if self._originals.get(swap.aside.hash) is None:
            rows = copy.deepcopy([dict(row) for row in chat.given[swap.start : swap.end]])
            cost = sum(len(text) for row in rows for text in read_by_model(row))
            self._originals.first(swap.aside.hash, rows, _ROW + cost)
        chain = chat.chains[swap.start]
        for row in swap.rows[:-1]:
            chain = chained(chain, row)
        self._rows.first(chained(chain, swap.rows[-1]), _Known(chat.chains[swap.end], aside=swap.aside), _ROW)

    def _tokens(self, name: str, message: Mapping[str, Any]) -> int:
        known = self._counts.get(name)
        if known is not None:
            return known
        return self._counts.first(name, sum(map(self.pipeline.parts.count, read_by_model(message))), 1)


def _advanced(resume: Callable[[], Ask]) -> ShapedChat | Ask:
    """What is asked next, or the chat where the steps are over: a thread cannot hand over StopIteration."""
    try:
        return resume()
    except StopIteration as done:
        chat: ShapedChat = done.value
        return chat


def _left(limit: Deadline) -> float | None:
    limit.check()
    return None if limit.left is None else max(limit.left, 1e-3)
