"""trimwise 0.7 (pip install trimwise): fragments of all passages under one limit, by BM25 and embeddings together."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from ctxshaper.data import Context, Span
from ctxshaper.errors import MissingDependencyError
from ctxshaper.stages import Run, Stage
from ctxshaper.text.tokenization import Encoder

_ENCODING, _TRIES = "ctxshaper", 8


@dataclass(frozen=True, kw_only=True)
class Trimwise(Stage):
    """trimwise's `trim_context`, strategy "hybrid", with this project's embedder, token counter and separator.

    For BM25 it counts subwords by tiktoken's o200k_base, whose file comes from the network; here those of the language
    model stand in. Its marks of what is left out are longer or shorter than those rendered here, so that its limit is
    lowered until the rendered text fits, at most eight times.
    """

    def shape(self, context: Context, run: Run) -> Context:
        """Apply the rule of the class."""
        if context.limit is None or context.tokens <= context.limit:
            return context
        try:
            from tiktoken import registry
            from trimwise import ContextSource, TrimConfig, Trimmer
        except ImportError as error:
            raise MissingDependencyError("the baseline trimwise needs pip install trimwise") from error
        embedder = run.parts.embedder

        def embedded(query: str, texts: Sequence[str]) -> tuple[Any, Any]:
            return embedder.embed_query(query), embedder.embed(texts)

        # What tiktoken has under a name it does not download.
        registry.ENCODINGS[_ENCODING] = _Subwords(run.parts.language_model.encoder)  # type: ignore[assignment]
        trimmer = Trimmer(TrimConfig(token_encoding=_ENCODING, omission_marker="…"), embedding_callback=embedded)
        sources = [ContextSource(p.source, prefix=f"{p.title}\n" if p.title else "") for p in context.passages]
        limit, shaped = context.limit, context
        for _ in range(_TRIES):
            found = trimmer.trim_context(
                sources,
                limit,
                strategy="hybrid",
                query=context.query,
                token_counter=context.count,
                separator=context.rendering.separator,
            )
            spans = [[Span(span.start, span.end) for span in one.spans] for one in found.sources]
            shaped = context.with_passages([p.keep(s) for p, s in zip(context.passages, spans, strict=True)])
            if shaped.tokens <= context.limit:
                break
            limit -= shaped.tokens - context.limit
            if limit < 1:
                break
        run.log.notes["limit"] = limit
        return shaped if shaped.tokens <= context.limit else replace(shaped, passages=())


@dataclass(frozen=True)
class _Subwords:
    """What trimwise asks of an encoding of tiktoken."""

    encoder: Encoder

    def encode(self, text: str, **_: Any) -> list[int]:
        """The subwords of a text."""
        return self.encoder.data(text)[0]
