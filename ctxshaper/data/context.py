"""The data that flows from stage to stage: passages, spans, budgets, and the context they form. No torch here."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any, Literal

from ctxshaper.data.trace import Trace
from ctxshaper.errors import InvalidInputError

TokenCounter = Callable[[str], int]
Label = Literal["none", "title", "number"]


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """A half-open range of characters, `[start, end)`, of a passage's own source text.

    Raises:
        InvalidInputError: if the range is negative or runs backwards.
    """

    start: int
    end: int

    def __post_init__(self) -> None:
        if not 0 <= self.start <= self.end:
            raise InvalidInputError(f"a span needs 0 <= start <= end, but got start={self.start}, end={self.end}")

    def __len__(self) -> int:
        return self.end - self.start

    def overlaps(self, other: Span) -> bool:
        """Whether the two ranges share at least one character."""
        return self.start < other.end and other.start < self.end


def merge_spans(spans: Iterable[Span]) -> tuple[Span, ...]:
    """Sort spans and join those that touch or overlap; empty ones vanish."""
    merged: list[Span] = []
    for span in sorted(s for s in spans if len(s)):
        if merged and span.start <= merged[-1].end:
            merged[-1] = Span(merged[-1].start, max(merged[-1].end, span.end))
        else:
            merged.append(span)
    return tuple(merged)


@dataclass(frozen=True)
class Passage:
    """One retrieved passage, and what is kept of it. Immutable.

    `Passage("...")` is a passage as a retriever gives it: all of it is kept. Stages make shorter ones with
    `keep`; `source[span.start:span.end]` of every span is then what was kept, byte for byte.

    Attributes:
        text: what the passage now says: the kept pieces of the source, joined by `…` where text is missing,
            or, where `generated` is true, what a language model wrote instead.
        id: the retriever's name for it, if any; need not be unique.
        score: the retriever's score, if any; its scale is the retriever's own. Not a number counts as none.
        metadata: anything else; `title` is used as a heading. Read-only.
        source: the whole original text.
        spans: what is kept of `source`, sorted and disjoint; of a generated text, what supports it.
        generated: whether `text` was written by a language model.
        rank: its place in the retriever's list, counted from 0; a pipeline fills it in.

    Raises:
        InvalidInputError: if a field has the wrong type or a span lies outside the source.
    """

    text: str
    id: str | None = None
    score: float | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    source: str = None  # type: ignore[assignment]  # filled in from `text`
    spans: tuple[Span, ...] = None  # type: ignore[assignment]  # filled in: all of `source`
    generated: bool = False
    rank: int | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.text, str):
            raise InvalidInputError(f"a passage's text must be a str, but got {type(self.text).__name__}")
        if self.id is not None and not isinstance(self.id, str):
            raise InvalidInputError(f"a passage's id must be a str or None, but got {self.id!r}: pass str(id)")
        if not isinstance(self.metadata, Mapping):
            raise InvalidInputError(f"a passage's metadata must be a mapping, but got {type(self.metadata).__name__}")
        object.__setattr__(self, "metadata", MappingProxyType(dict(self.metadata)))
        if self.score is not None:
            score = float(self.score)
            object.__setattr__(self, "score", None if math.isnan(score) else score)
        if self.source is None:
            object.__setattr__(self, "source", self.text)
        if self.spans is None:
            object.__setattr__(self, "spans", merge_spans([Span(0, len(self.source))]))
        if self.spans and self.spans[-1].end > len(self.source):
            raise InvalidInputError(f"span {self.spans[-1]} lies outside a source of {len(self.source)} characters")

    @classmethod
    def of(cls, value: Passage | str) -> Passage:
        """A passage from a passage or plain text."""
        if isinstance(value, Passage):
            return value
        if isinstance(value, str):
            return cls(value)
        raise InvalidInputError(
            f"a passage must be a str or a ctxshaper.Passage, but got {type(value).__name__}; "
            "for Documents or Nodes use ctxshaper.connectors"
        )

    @property
    def title(self) -> str:
        """The heading of the passage, from its metadata; empty if it has none."""
        title = self.metadata.get("title")
        return title.strip() if isinstance(title, str) else ""

    @property
    def complete(self) -> bool:
        """Whether nothing of the source was dropped or rewritten."""
        return not self.generated and sum(map(len, self.spans)) == len(self.source)

    def keep(self, spans: Iterable[Span]) -> Passage:
        """The same passage with only these ranges of its source.

        Args:
            spans: in any order; ranges that touch or overlap are joined.
        """
        kept = merge_spans(spans)
        if kept and kept[-1].end > len(self.source):
            raise InvalidInputError(f"span {kept[-1]} lies outside a source of {len(self.source)} characters")
        return replace(self, text=join_kept(self.source, kept, ELLIPSIS), spans=kept, generated=False)

    def rewrite(self, text: str, support: Iterable[Span]) -> Passage:
        """The same passage with text that a language model wrote, and the ranges of the source that support it."""
        return replace(self, text=text, spans=merge_spans(support), generated=True)

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON; values of the metadata that JSON cannot hold become strings."""
        return {
            "text": self.text,
            "id": self.id,
            "score": self.score,
            "metadata": json_safe(dict(self.metadata)),
            "source": self.source,
            "spans": [[s.start, s.end] for s in self.spans],
            "generated": self.generated,
            "rank": self.rank,
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Passage:
        """The passage that `to_dict` described."""
        return cls(**{**data, "spans": tuple(Span(*s) for s in data["spans"])})


ELLIPSIS = " … "


def join_kept(source: str, spans: Iterable[Span], ellipsis: str) -> str:
    """The kept pieces of a source as one text: `ellipsis` stands where text between two pieces is missing."""
    return ellipsis.join(source[s.start : s.end] for s in shown(source, spans))


def shown(source: str, spans: Iterable[Span]) -> list[Span]:
    """The kept ranges as they show in the joined text: without the white space beside text that is missing."""
    pieces = list(spans)
    last = len(pieces) - 1
    for index, span in enumerate(pieces if last else ()):
        text = source[span.start : span.end]
        start = span.start + (len(text) - len(text.lstrip()) if index else 0)
        end = span.end - (len(text) - len(text.rstrip()) if index < last else 0)
        if (start, end) != (span.start, span.end):
            pieces[index] = Span(start, max(start, end))
    return pieces


def json_safe(value: Any) -> Any:
    """The same value in what JSON can hold: NaN becomes null, unknown objects become strings."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, Mapping):
        return {str(k): json_safe(v) for k, v in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [json_safe(v) for v in value]
    return str(value)


@dataclass(frozen=True, slots=True)
class Rendering:
    """How a context becomes the text that the generator reads.

    Attributes:
        separator: between passages.
        label: what stands above each passage: nothing, its title, or its number (`[1] Title`).
        ellipsis: what marks dropped text between two kept pieces of a passage; `" "` marks nothing.
    """

    separator: str = "\n\n"
    label: Label = "title"
    ellipsis: str = ELLIPSIS

    def __post_init__(self) -> None:
        if self.label not in ("none", "title", "number"):
            raise InvalidInputError(f"label must be 'none', 'title' or 'number', but got {self.label!r}")

    def render(self, passages: Iterable[Passage]) -> str:
        """The text of these passages; passages of which nothing is kept leave no trace in it."""
        return self.separator.join(head + body for _, head, _, body in self.parts(passages))

    def parts(self, passages: Iterable[Passage]) -> Iterator[tuple[int, str, int, str]]:
        """Of each passage that shows: its place, its heading, how many characters its body lost in front, its body."""
        for index, passage in enumerate(passages):
            body = passage.text if passage.generated else join_kept(passage.source, passage.spans, self.ellipsis)
            if body.strip():
                title = passage.title
                head = {"none": "", "title": title, "number": f"[{index + 1}] {title}".rstrip()}[self.label]
                rest = body.lstrip("\n")
                yield index, head + "\n" if head else "", len(body) - len(rest), rest.rstrip()


@dataclass(frozen=True, slots=True)
class Budget:
    """How much context the generator may read, counted in its own tokens over the rendered text.

    Attributes:
        tokens: at most so many tokens.
        share: at most this share of the tokens of the input, in (0, 1].
        adaptive: keep while it pays: each stage that chooses text decides by its scores.

    Where several are given, the tightest holds. None of them: no limit.
    """

    tokens: int | None = None
    share: float | None = None
    adaptive: bool = False

    def __post_init__(self) -> None:
        if self.tokens is not None and (isinstance(self.tokens, bool) or self.tokens < 1):
            raise InvalidInputError(f"a budget in tokens must be at least 1, but got {self.tokens}")
        if self.share is not None and not 0 < self.share <= 1:
            raise InvalidInputError(f"a budget as a share must lie above 0 and at most 1 (100%), but got {self.share}")

    @classmethod
    def parse(cls, value: Budget | str | int | float | None) -> Budget:
        """Read a budget: `500` or `"500"` tokens, `0.3` or `"30%"` of the input, `"auto"`, None for no limit.

        Raises:
            InvalidInputError: for anything else.
        """
        if isinstance(value, Budget):
            return value
        if value is None:
            return cls()
        if isinstance(value, bool):
            raise InvalidInputError(f"a budget cannot be {value}")
        if isinstance(value, int):
            return cls(tokens=value)
        if isinstance(value, float):
            return cls(share=value)
        text = value.strip().lower()
        if text == "auto":
            return cls(adaptive=True)
        if re.fullmatch(r"\d+", text):
            return cls(tokens=int(text))
        if match := re.fullmatch(r"(\d+(?:\.\d+)?)\s*%", text):
            return cls(share=float(match[1]) / 100)
        raise InvalidInputError(f"cannot read the budget {value!r}; use tokens (500), a share (30%) or auto")

    def limit(self, tokens_in: int) -> int | None:
        """The most tokens that may be kept of so many, or None where there is no hard limit."""
        limits = []
        if self.tokens is not None:
            limits.append(self.tokens)
        if self.share is not None:
            # A share of a small input still allows one token; the epsilon keeps 30% of 10 at 3.
            limits.append(max(1, math.floor(self.share * tokens_in + 1e-9)))
        return min(limits) if limits else None


@dataclass(frozen=True)
class Context:
    """A query, its passages, and how they will be rendered and counted: what stages take and return. Immutable.

    Attributes:
        query: the user's question.
        passages: in the order in which the generator reads them.
        budget: what the shaped context may cost.
        count: the generator's tokens in a text.
        rendering: how the passages become text.
        tokens_in: tokens of the context as it came from the retriever.
        trace: what happened so far.
    """

    query: str
    passages: tuple[Passage, ...]
    count: TokenCounter = field(repr=False, compare=False)
    budget: Budget = field(default_factory=Budget)
    rendering: Rendering = field(default_factory=Rendering)
    trace: Trace = field(default_factory=Trace)
    tokens_in: int = -1

    def __post_init__(self) -> None:
        if not isinstance(self.query, str):
            raise InvalidInputError(f"the query must be a str, but got {type(self.query).__name__}")
        object.__setattr__(self, "passages", tuple(map(Passage.of, self.passages)))
        if self.tokens_in < 0:
            object.__setattr__(self, "tokens_in", self.tokens)

    @cached_property
    def text(self) -> str:
        """What the generator reads."""
        return self.rendering.render(self.passages)

    @cached_property
    def tokens(self) -> int:
        """Tokens of `text` as the generator counts them."""
        return self.count(self.text) if self.text else 0

    @property
    def limit(self) -> int | None:
        """The most tokens that `text` may have, or None."""
        return self.budget.limit(self.tokens_in)

    def with_passages(self, passages: Iterable[Passage]) -> Context:
        """The same context with other passages."""
        return replace(self, passages=tuple(passages))

    def to_json(self) -> str:
        """The context with its rendered text and trace as JSON."""
        return json.dumps(
            {
                "query": self.query,
                "text": self.text,
                "tokens": self.tokens,
                "tokens_in": self.tokens_in,
                "budget": asdict(self.budget),
                "rendering": asdict(self.rendering),
                "passages": [p.to_dict() for p in self.passages],
                "trace": self.trace.to_dict(),
            },
            # ASCII escapes keep lone surrogates, which UTF-8 cannot hold.
            ensure_ascii=True,
        )

    @classmethod
    def from_json(cls, data: str, count: TokenCounter) -> Context:
        """The context that `to_json` wrote; `count` counts the generator's tokens again.

        Raises:
            InvalidInputError: if the JSON is not such a context.
        """
        try:
            raw = json.loads(data)
            return cls(
                query=raw["query"],
                passages=tuple(Passage.from_dict(p) for p in raw["passages"]),
                count=count,
                budget=Budget(**raw["budget"]),
                rendering=Rendering(**raw["rendering"]),
                trace=Trace.from_dict(raw["trace"]),
                tokens_in=raw["tokens_in"],
            )
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInputError(f"this is not a context written by Context.to_json: {error!r}") from error
