"""Parts: the models that the stages of one pipeline share, each made when it is first asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from ctxshaper.errors import InvalidInputError
from ctxshaper.extras import missing_extra

if TYPE_CHECKING:
    from ctxshaper.data import TokenCounter
    from ctxshaper.generators import Generator
    from ctxshaper.models.embedder import Embedder
    from ctxshaper.models.language_model import LanguageModel
    from ctxshaper.reading.reading import PassageReader
    from ctxshaper.reading.store import KeyStore

_T = TypeVar("_T")


class Parts:
    """What stages need beside the context. Thread-safe; a part that no stage asks for is never made.

    Pickled or copied it carries what it was given, not what it made: that is made anew from its description.

    Args:
        reader: scores passages by attention; the embedded model's if None.
        embedder: embeds sentences; the embedded model if None.
        generator: writes; the language model below if None.
        language_model: a whole model for what needs passages in sight; if None the reader's model, or the embedded one.
        tokenizer: the generator's own, to count tokens with; the reader's if None.
        store: where the embedded models keep on disk what they computed of passages, keys and sentence embeddings: a
            folder, or a `KeyStore`; None for the store of the reader, if it has one.

    Raises:
        InvalidInputError: a store beside a reader, which has its own, or something that is no store.
    """

    def __init__(
        self,
        *,
        reader: PassageReader | None = None,
        embedder: Embedder | None = None,
        generator: Generator | None = None,
        language_model: LanguageModel | None = None,
        tokenizer: Any = None,
        store: KeyStore | str | Path | None = None,
    ) -> None:
        if store is not None and reader is not None:
            raise InvalidInputError(
                "both reader and store were given, but a store belongs to its reader: pass the store to the reader, "
                "as in Reader(store=...), or leave the reader out"
            )
        if not (store is None or isinstance(store, (str, Path)) or hasattr(store, "get_many")) or store == "":
            raise InvalidInputError(f"store must be a folder's path or a KeyStore, but got {store!r:.80}")
        self._given: dict[str, Any] = {
            "reader": reader,
            "embedder": embedder,
            "generator": generator,
            "language_model": language_model,
            "tokenizer": tokenizer,
            "store": store,
        }
        self._lock = threading.RLock()

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (self._given,)

    @cached_property
    def reader(self) -> PassageReader:
        """Scores passages by attention."""
        return self._part("reader", self._embedded_reader)

    def _embedded_reader(self) -> PassageReader:
        from ctxshaper.reading.reader import Reader

        return Reader(store=self._given["store"])

    @cached_property
    def embedder(self) -> Embedder:
        """Embeds sentences."""
        return self._part("embedder", self._embedded_embedder)

    def _embedded_embedder(self) -> Embedder:
        from ctxshaper.models.embedder import Embedder

        store = self._given["store"] or getattr(self._given["reader"], "store", None)
        if isinstance(store, (str, Path)):
            from ctxshaper.reading.store import KeyStore

            store = KeyStore(store)
        return Embedder(store=store)

    @cached_property
    def language_model(self) -> LanguageModel:
        """A whole language model."""
        return self._part("language_model", self._readers_model)

    def _readers_model(self) -> LanguageModel:
        """The model that the reader given reads with, which shares its layers; the embedded one without any."""
        from ctxshaper.models.language_model import LanguageModel

        reader = self._given["reader"]
        if not hasattr(reader, "source"):
            return LanguageModel()
        return LanguageModel(reader.source.name, device=reader.device, dtype=reader.dtype)

    @cached_property
    def generator(self) -> Generator:
        """Writes."""
        from ctxshaper.generators import LocalGenerator

        return self._part("generator", lambda: LocalGenerator(self.language_model))

    @cached_property
    def count(self) -> TokenCounter:
        """The generator's tokens in a text."""
        if self._given["tokenizer"] is None:
            count: TokenCounter = self.reader.count_tokens
            return count
        from ctxshaper.text.tokenization import token_counter

        return token_counter(self._given["tokenizer"])

    def _part(self, name: str, make: Callable[[], _T]) -> _T:
        """What was given, or what the first thread that asks makes."""
        given: _T | None = self._given[name]
        if given is not None:
            return given
        with self._lock:
            if name not in self.__dict__:
                try:
                    self.__dict__[name] = make()
                except ImportError as error:
                    raise missing_extra(name, error) from error
            made: _T = self.__dict__[name]
            return made


def _rebuilt(given: dict[str, Any]) -> Parts:
    return Parts(**given)
