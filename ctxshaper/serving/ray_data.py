"""Ray Data: a corpus is read into a store, and a table of requests is shaped, by the actors of `map_batches`."""

from __future__ import annotations

import json
import logging
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray

from ctxshaper.data import Context, Passage
from ctxshaper.errors import CtxshaperError, InvalidInputError
from ctxshaper.pipelines import Pipeline, Recipe
from ctxshaper.pipelines.pipeline import BudgetLike
from ctxshaper.reading.reader import Reader
from ctxshaper.reading.store import KeyStore
from ctxshaper.reading.store.records import FILE
from ctxshaper.serving.tables import Columns, passages_of, requests_of, rows_of

if TYPE_CHECKING:
    from ctxshaper.serving.ray_store import ClusterStore

    Store = KeyStore | ClusterStore | str | Path

_log = logging.getLogger(__name__)

Table = dict[str, NDArray[Any]]


class IndexPassages:
    """Reads the passages of a table's batches into a store, as `ctxshaper index` does.

    For `Dataset.map_batches` with an actor pool, and for whatever else hands out columns (mapInPandas of Spark)::

        done = ray.data.read_json("passages.jsonl").map_batches(
            IndexPassages,
            fn_constructor_kwargs={"store": "/data/keys"},
            compute=ray.data.ActorPoolStrategy(size=2),
            num_cpus=0.5,
            batch_size=256,
        )
        done.to_pandas().sum()

    (Actors that take all cores leave none for reading the files, and the job stands still: hence `num_cpus=0.5`.)

    Rows are what lines of JSON are: `text`, and perhaps `id`, `title` and other fields. Every batch gives one row of
    counts, those of `Remembered`. What the store holds is not read again: a job that died is started again as it was.

    All actors of a machine share the folder. On several machines, a folder is each machine's own (a store is never
    shared through a network file system); `merge_shards` joins them, or `ClusterStore` keeps one for all.

    Args:
        store: where what is read is kept: a folder, a `KeyStore`, or a `ClusterStore`.
        recipe: a recipe whose stages' own work is done ahead too: for qa, sentence embeddings.
        model: the reader's model; the embedded one if None.

    Raises:
        InvalidInputError, RecipeError, ModelError: as `Reader` and `Pipeline.from_recipe`; no actor starts then.
    """

    def __init__(
        self, store: Store, recipe: str | Path | Recipe | None = None, model: str | Path | None = None
    ) -> None:
        # The store is the memory here: what is read is not kept in this process too.
        self._store = _store(store)
        reader = Reader(model, store=self._store, cache_bytes=0)
        # Without stages it is the reader's keys alone.
        self._pipeline = Pipeline.from_recipe(recipe, reader=reader) if recipe else Pipeline([], reader=reader)
        _ = reader.layout  # a model that cannot be loaded ends the job at once

    def __call__(self, batch: Columns) -> Table:
        """Read one batch; a row of counts.

        Raises:
            InvalidInputError: a row that is no passage, or a store that does not keep what was read.
        """
        passages = passages_of(batch)
        done = self._pipeline.remember(passages)
        # A store that cannot be written only warns; here that would be a night's work for nothing.
        if done.read_windows and self._pipeline.remember(passages).read_windows:
            raise InvalidInputError(
                f"what was read is not in the store {self._store!r}: it cannot be written, or its bound is too "
                "small for a batch; see the actor's log, and take another folder or a larger max_bytes"
            )
        return {name: np.array([count]) for name, count in asdict(done).items()}


class ShapeRequests:
    """Shapes the requests of a table's batches. For `map_batches`, as `IndexPassages`.

    Rows have `query` and `passages` (a list of texts, or of objects with `text`); other columns are passed on. Instead
    of `passages` a row gets `text`, `tokens`, `spans` (JSON: for each passage that is left, in the order of the text,
    its place in the list, its id, what is kept of its source, and whether a language model wrote of it), `warnings`
    (JSON: a list of texts) and `error`: empty, or why this row could not be shaped; the others are.

    Args:
        recipe: a name or a file.
        budget: tokens, a share or "auto"; the recipe's own if None.
        store: where passages are looked for and kept, as in `IndexPassages`; None for none.
        model: the reader's model; the embedded one if None.

    Raises:
        InvalidInputError, RecipeError, ModelError: as `Reader` and `Pipeline.from_recipe`; no actor starts then.
    """

    def __init__(
        self,
        recipe: str | Path | Recipe,
        budget: BudgetLike = None,
        store: Store | None = None,
        model: str | Path | None = None,
    ) -> None:
        reader = Reader(model, store=None if store is None else _store(store))
        self._pipeline = Pipeline.from_recipe(recipe, reader=reader, **({} if budget is None else {"budget": budget}))

    def __call__(self, batch: Columns) -> Table:
        """Shape one batch.

        Raises:
            InvalidInputError: a row that is no request.
        """
        shaped = self._shaped(requests_of(batch))
        kept = [name for name in map(str, batch) if name != "passages"]
        passed = {name: _column([row.get(name) for row in rows_of(batch)]) for name in kept}
        contexts = [one if isinstance(one, Context) else None for one in shaped]
        return passed | {
            "text": _column([one.text if one else "" for one in contexts]),
            "tokens": np.array([one.tokens if one else 0 for one in contexts], dtype=np.int64),
            "spans": _column([_spans(one) if one else "[]" for one in contexts]),
            "warnings": _column([json.dumps(one.warnings if one else ()) for one in contexts]),
            "error": _column(["" if isinstance(one, Context) else str(one) for one in shaped]),
        }

    def _shaped(self, requests: list[tuple[str, list[Passage]]]) -> list[Context | CtxshaperError]:
        try:
            return list(self._pipeline.shape_batch(requests))
        except CtxshaperError:
            # One of them ended all: each for itself tells which.
            return [self._alone(query, passages) for query, passages in requests]

    def _alone(self, query: str, passages: list[Passage]) -> Context | CtxshaperError:
        try:
            return self._pipeline.shape(query, passages)
        except CtxshaperError as error:
            _log.warning("a request was not shaped: %s", error)
            return error


def merge_shards(parent: str | Path, into: KeyStore | str | Path) -> int:
    """Join the stores that lie in the folders of one folder, such as one from each machine, into one.

    Args:
        parent: holds the shards, each in a folder of its own; they are not changed.
        into: a folder, or a `KeyStore` with a bound of its own. What it holds already stays.

    Returns:
        How many records of the shards it now holds; one that lies in several shards counts in each.

    Raises:
        InvalidInputError: there are none, or what they hold does not fit under the bound.
    """
    shards = sorted(file.parent for file in Path(parent).glob(f"*/{FILE}"))
    whole = into if isinstance(into, KeyStore) else KeyStore(into)
    shards = [shard for shard in shards if shard.resolve() != whole.path.resolve()]
    if not shards:
        raise InvalidInputError(f"there are no stores in the folders of {parent}; name the folder that holds them")
    merged = 0
    for shard in shards:
        with KeyStore(shard, read_only=True) as source:
            merged += whole.merge(source)
    return merged


def _store(store: Store) -> KeyStore:
    # A ClusterStore does what a reader asks of a store; the reader's type names the one class that it mostly is.
    return KeyStore(store) if isinstance(store, (str, Path)) else cast("KeyStore", store)


def _column(values: list[Any]) -> NDArray[Any]:
    # Made empty first: numpy would make one array of many lists.
    column = np.empty(len(values), dtype=object)
    column[:] = values
    return column


def _spans(context: Context) -> str:
    return json.dumps(
        [
            {
                "passage": passage.rank,
                "id": passage.id,
                "spans": [[span.start, span.end] for span in passage.spans],
                "generated": passage.generated,
            }
            for passage in context.passages
        ]
    )
