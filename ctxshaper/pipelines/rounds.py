"""Sets old rounds of a chat aside where it grows too long: those that matter least to what is asked now.

After Round Attention (scores of whole rounds decide which are read), with a reader's scores in place of the generator's
own attention. A round is a user's row and all that follows up to the next one. Rounds go as a whole, never the present
one, and so many at once that it happens rarely: each time, the provider's cache of what follows is lost.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ctxshaper.data import Passage
from ctxshaper.errors import DeadlineError
from ctxshaper.pipelines.chains import SHORT
from ctxshaper.pipelines.chats import SetAsideRound
from ctxshaper.pipelines.history import understood
from ctxshaper.pipelines.memory import Memory
from ctxshaper.stages.parts import Parts
from ctxshaper.text.messages import answers_a_tool, read_by_model, role_of, said_by_user

# Once a chat is too long it is brought down to this share of the limit.
_DOWN_TO = 0.7
# Characters of a round that are read to score it: what was asked, what was answered, then what tools gave.
_LOOK = 4_000
_DECISIONS = 2**16


@dataclass(frozen=True, slots=True)
class Row:
    """One row of a chat.

    Attributes:
        given: as it came.
        shaped: as it goes out.
        chain: the name of the chat up to it.
        tokens: as it goes out.
        fixed: whether it must not be touched.
        aside: where it ends the marker of a round that was set aside before, that round.
    """

    given: Mapping[str, Any]
    shaped: dict[str, Any]
    chain: str
    tokens: int
    fixed: bool = False
    aside: SetAsideRound | None = None


@dataclass(frozen=True, slots=True)
class Swap:
    """A round, and what stands for it.

    Attributes:
        start: place of its first row.
        end: behind its last row.
        rows: what goes out instead: a marker for the user's row, one for the answer if there was one, system rows.
        tokens: of those.
        saved: so many tokens fewer than the round had.
        aside: what is said of it.
    """

    start: int
    end: int
    rows: list[dict[str, Any]]
    tokens: int
    saved: int
    aside: SetAsideRound


class RoundLimit:
    """Decides which rounds are set aside; what was decided for a request stands as long as it is remembered.

    Args:
        max_tokens: of a chat, counted as it goes out.
    """

    def __init__(self, max_tokens: int) -> None:
        self.max_tokens = max_tokens
        self._chosen: Memory[frozenset[str]] = Memory(_DECISIONS)

    def applied(self, rows: Sequence[Row], parts: Parts, *, skips: bool) -> tuple[list[Swap], list[str]]:
        """The rounds that are set aside, in order, and warnings about those that are so from now on.

        A decision falls behind each row that asks for an answer and depends on nothing behind it, so a chat that is
        sent again whole gets the same ones.

        Args:
            rows: the chat.
            parts: for the reader and the counter.
            skips: whether a reader that fails is a warning, and the oldest rounds go.
        """
        rounds = _rounds(rows)
        swaps: dict[int, Swap] = {}
        warnings: list[str] = []
        total = saved = number = 0
        for place, row in enumerate(rows):
            total += row.tokens
            while number < len(rounds) and place >= rounds[number].start:
                number += 1
            if not number or not _asks(rows, place):
                continue
            known = self._chosen.get(row.chain)
            if known is None:
                known = frozenset()
                if total - saved > self.max_tokens:
                    possible = {
                        n: swap
                        for n in range(number - 1)
                        if n not in swaps and (swap := _swap(rows, rounds[n], parts)) and swap.saved > 0
                    }
                    known = self._choice(rows, rounds, number - 1, possible, total - saved, parts, warnings, skips)
                known = self._chosen.first(row.chain, known, 1 + len(known))
            for n in range(number - 1) if known else ():
                goes = rows[rounds[n].stop - 1].chain in known and n not in swaps
                if goes and (swap := _swap(rows, rounds[n], parts)) is not None:
                    swaps[n] = swap
                    saved += swap.saved
            if place + 1 == len(rows) and total - saved > self.max_tokens:
                warnings.append(
                    f"the chat has {total - saved} tokens, more than {self.max_tokens}, and no further round of it can "
                    "be set aside"
                )
        return [swaps[n] for n in sorted(swaps)], warnings

    def _choice(
        self,
        rows: Sequence[Row],
        rounds: Sequence[range],
        number: int,
        possible: Mapping[int, Swap],
        tokens: int,
        parts: Parts,
        warnings: list[str],
        skips: bool,
    ) -> frozenset[str]:
        """The names of the rounds that go, the least relevant first."""
        order = list(possible)
        said = [said for n in range(number) if (said := said_by_user(rows[rounds[n].start].given))]
        asked = said_by_user(rows[rounds[number].start].given)
        if asked and order:
            try:
                texts = [Passage(_text(rows, rounds[n])) for n in order]
                # Of 12 rounds over HotpotQA, the one that a question is about was first by the mean and the maximum for
                # all 12 questions, by the sum for 11; the mean is also what a round is worth for the tokens it takes.
                scores = parts.reader.read(understood(asked, said), texts).passage_scores("mean")
                order = [n for _, n in sorted(zip(scores.tolist(), order, strict=True))]
            except DeadlineError:
                raise
            except Exception as error:
                if not skips:
                    raise
                warnings.append(
                    f"the reader failed, and the oldest rounds are set aside: {type(error).__name__}: {error}"
                )
        chosen = []
        for n in order:
            if tokens <= _DOWN_TO * self.max_tokens:
                break
            tokens -= possible[n].saved
            chosen.append(n)
        if chosen:
            first = possible[min(chosen)].start
            warnings.append(
                f"{len(chosen)} rounds were set aside to keep the chat under {self.max_tokens} tokens; from message "
                f"{first} on, the provider's cache of earlier requests does not fit any more"
            )
        return frozenset(rows[rounds[n].stop - 1].chain for n in chosen)


def _rounds(rows: Sequence[Row]) -> list[range]:
    starts = [place for place, row in enumerate(rows) if role_of(row.given) == "user" and not answers_a_tool(row.given)]
    ends = [*starts[1:], len(rows)] if starts else []
    return [range(start, end) for start, end in zip(starts, ends, strict=True)]


def _asks(rows: Sequence[Row], place: int) -> bool:
    """Whether a request goes out behind a row: it is a user's, or the last of the results that came together."""
    if role_of(rows[place].given) != "user" and not answers_a_tool(rows[place].given):
        return False
    return place + 1 == len(rows) or not answers_a_tool(rows[place + 1].given)


def _swap(rows: Sequence[Row], places: range, parts: Parts) -> Swap | None:
    """What stands for a round; None where it must not be touched, or is a marker itself."""
    own = [rows[place] for place in places]
    if any(row.fixed or row.aside for row in own):
        return None
    spoken = [row for row in own if role_of(row.given) not in ("system", "developer")]
    tokens = sum(row.tokens for row in spoken)
    aside = SetAsideRound(len(spoken), tokens, own[-1].chain[:SHORT])
    said = [f"[{aside.messages} earlier messages of {tokens} tokens are set aside; hash={aside.hash}]"]
    roles = ["user"]
    if any(role_of(row.given) == "assistant" for row in spoken):
        said.append("[set aside]")
        roles.append("assistant")
    kept = [row for row in own if row not in spoken]
    cost = sum(map(parts.count, said)) + sum(row.tokens for row in kept)
    saved = sum(row.tokens for row in own) - cost
    markers = [{"role": role, "content": text} for role, text in zip(roles, said, strict=True)]
    return Swap(places.start, places.stop, [*markers, *(row.shaped for row in kept)], cost, saved, aside)


def _text(rows: Sequence[Row], places: range) -> str:
    by_role: dict[str, list[str]] = {"user": [], "assistant": [], "": []}
    for place in places:
        row = rows[place]
        role = "" if answers_a_tool(row.given) else role_of(row.given)
        by_role.get(role, by_role[""]).extend(read_by_model(row.shaped))
    return "\n".join(text for texts in by_role.values() for text in texts)[:_LOOK] or " "
