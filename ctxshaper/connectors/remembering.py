"""Reading passages at ingestion: what the frameworks' transforms share."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ctxshaper.data import Passage
from ctxshaper.data.deadline import Deadline, under
from ctxshaper.errors import InvalidInputError
from ctxshaper.stages.parts import Parts

if TYPE_CHECKING:
    from ctxshaper.reading.reading import PassageReader
    from ctxshaper.reading.store import KeyStore


class Remembering:
    """Has passages read ahead of time. Thread-safe; the model is loaded at first use, and pickled as its description.

    Args:
        reader: reads, and remembers where it is made to.
        store: where the embedded model's reader keeps what it read.

    Raises:
        InvalidInputError: neither of the two, or both.
    """

    def __init__(self, reader: PassageReader | None, store: KeyStore | str | Path | None) -> None:
        if reader is None and store is None:
            raise InvalidInputError(
                "neither a store nor a reader was given, so nothing would find what is read: pass store='keys/', and "
                "the same to the pipeline that shapes, or that pipeline's reader"
            )
        self._parts = Parts(reader=reader, store=store)

    def remember(self, passages: Sequence[Passage]) -> None:
        """Read those that are not remembered."""
        self._parts.reader.remember(passages)

    async def aremember(self, passages: Sequence[Passage]) -> None:
        """The same in a thread; cancelled, the reading stops at its next layer, and what was read stays."""
        deadline = Deadline()
        try:
            with under(deadline):
                await asyncio.to_thread(self.remember, passages)
        except asyncio.CancelledError:
            deadline.cancel()
            raise
