"""Reading passages at ingestion: what the frameworks' transforms share."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ctxshaper.data import Passage
from ctxshaper.data.deadline import Deadline, under
from ctxshaper.errors import InvalidInputError
from ctxshaper.pipelines import Pipeline

if TYPE_CHECKING:
    from ctxshaper.reading.reading import PassageReader
    from ctxshaper.reading.store import KeyStore


class Remembering:
    """Has passages read ahead of time. Thread-safe; the model is loaded at first use, and pickled as its description.

    Args:
        reader: reads, and remembers where it is made to.
        store: where the embedded model's reader keeps what it read.
        pipeline: computes all that its stages need of passages, embeddings too, and remembers where it is made to.

    Raises:
        InvalidInputError: none of the three, or more than one.
    """

    def __init__(
        self,
        reader: PassageReader | None,
        store: KeyStore | str | Path | None,
        pipeline: Pipeline | None = None,
    ) -> None:
        if pipeline is not None and (reader is not None or store is not None):
            raise InvalidInputError(
                "a pipeline was given beside a reader or a store, but it has its own: pass the pipeline alone"
            )
        if pipeline is not None and not isinstance(pipeline, Pipeline):
            raise InvalidInputError(f"pipeline must be a ctxshaper.Pipeline, but got {pipeline!r:.80}")
        if pipeline is None and reader is None and store is None:
            raise InvalidInputError(
                "neither a store nor a reader nor a pipeline was given, so nothing would find what is read: pass "
                "pipeline=, the one that shapes, or store='keys/', and the same to that pipeline"
            )
        self._pipeline = pipeline or Pipeline([], reader=reader, store=store)

    def remember(self, passages: Sequence[Passage]) -> None:
        """Read those that are not remembered."""
        self._pipeline.remember(passages)

    async def aremember(self, passages: Sequence[Passage]) -> None:
        """The same in a thread; cancelled, the reading stops at its next layer, and what was read stays."""
        deadline = Deadline()
        try:
            with under(deadline):
                await asyncio.to_thread(self.remember, passages)
        except asyncio.CancelledError:
            deadline.cancel()
            raise
