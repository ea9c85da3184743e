"""The sessions of a service: chats that arrive as messages, by how they are to be shaped."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ctxshaper.data import Budget
from ctxshaper.errors import InvalidInputError
from ctxshaper.pipelines.chats import ShapedChat
from ctxshaper.pipelines.session import Session
from ctxshaper.serving.service import BudgetLike, Service

# Ways of shaping that are remembered; clients have few. Each remembers chats within bounds of its own.
_SESSIONS = 16
# Characters of originals that each remembers.
_REMEMBERED = 2**24
# Of each text, where nobody says what it may cost. A recipe's "auto" may keep nothing of what a tool found, which an
# agent asked for; half of the tokens hold nearly all of the evidence (docs/service.md).
_BUDGET = Budget(share=0.5)


class Way(NamedTuple):
    """How a chat is to be shaped: what is remembered of one way says nothing about another."""

    model: str | None = None
    budget: BudgetLike = None
    max_tokens: int | None = None
    markers: bool = False


class Chats:
    """Shapes chats in their turn. Of one event loop.

    Args:
        service: whose pipelines and limits hold.
    """

    def __init__(self, service: Service) -> None:
        self._service = service
        self._sessions: OrderedDict[Way, Session] = OrderedDict()

    async def shape(
        self, messages: Sequence[Mapping[str, Any]], way: Way, *, frozen: int = 0, timeout: float | None = None
    ) -> ShapedChat:
        """Shape a chat for its next request.

        Raises:
            QueueFullError: too many requests wait.
            InvalidInputError: messages of another form, or more than a request may hold.
            DeadlineError: it took longer than it may.
        """
        service, most = self._service, self._service.settings.max_passages
        if len(messages) > most:
            raise InvalidInputError(f"a request may hold {most:,} messages, but got {len(messages):,}; send fewer")
        session = self._session(way)
        async with service.admission.turn(service.seconds(timeout)) as left:
            shaped = await session.ashape(messages, frozen=frozen, timeout=left)
        service.metrics.count_chat(shaped)
        return shaped

    def original(self, name: str) -> str | list[dict[str, Any]] | None:
        """What stood in a chat before it was shaped, by the hash of a marker; None where it is not remembered."""
        for session in self._sessions.values():
            if (found := session.original(name)) is not None:
                return found
        return None

    def _session(self, way: Way) -> Session:
        settings = self._service.settings
        given = way.budget if way.budget is not None else settings.budget
        budget = _BUDGET if given is None else Budget.parse(given)
        way = way._replace(model=way.model or settings.recipe, budget=budget)
        if way not in self._sessions:
            pipeline = self._service.pipeline(way.model)
            self._sessions[way] = Session(
                pipeline,
                budget=budget,
                max_tokens=way.max_tokens,
                markers=way.markers,
                remembered=_REMEMBERED,
            )
            if len(self._sessions) > _SESSIONS:
                self._sessions.popitem(last=False)
        self._sessions.move_to_end(way)
        return self._sessions[way]
