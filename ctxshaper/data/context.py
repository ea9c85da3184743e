"""The context: a query, its passages, and how they will be rendered and counted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from itertools import count as counting
from typing import Any

from ctxshaper.data.attention import Attention
from ctxshaper.data.budget import Budget
from ctxshaper.data.json import parse_json
from ctxshaper.data.marked import Marked, kept_marks
from ctxshaper.data.messages import Message
from ctxshaper.data.passages import Passage
from ctxshaper.data.plain import shortened
from ctxshaper.data.rendering import Rendering
from ctxshaper.data.spans import Span, merge_spans
from ctxshaper.data.trace import Trace
from ctxshaper.errors import InvalidInputError

TokenCounter = Callable[[str], int]


@dataclass(frozen=True, slots=True)
class SetAside:
    """A passage that a stage took out of the context visibly, such as one that carries instructions.

    Attributes:
        passage: as it was.
        reason: why.
        stage: which stage did it.
        score: what decided, if a score did.
        spans: what of its source decided, sorted; empty where that is not known.
    """

    passage: Passage
    reason: str
    stage: str
    score: float | None = None
    spans: tuple[Span, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """As plain data for JSON."""
        return {
            "passage": self.passage.to_dict(),
            "reason": self.reason,
            "stage": self.stage,
            "score": self.score,
            "spans": [[span.start, span.end] for span in self.spans],
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> SetAside:
        """What `to_dict` described."""
        spans = tuple(Span(start, end) for start, end in data.get("spans", ()))
        return cls(Passage.from_dict(data["passage"]), data["reason"], data["stage"], data["score"], spans)


@dataclass(frozen=True, repr=False)
class Context:
    """A query, its passages, and how they will be rendered and counted: what stages take and return. Immutable.

    It pickles as long as `count` does (a reader's does, a lambda does not).

    Attributes:
        query: the user's question.
        passages: in the order in which the generator reads them; each has its rank in the retriever's list.
        count: the generator's tokens in a text.
        budget: what the shaped context may cost.
        rendering: how the passages become text.
        trace: what happened so far.
        tokens_in: tokens of the context as it came from the retriever.
        history: the chat before this query.
        set_aside: passages that stages took out visibly.
        tokens_aside: how many of `tokens_in` these took: a budget's share is a share of the rest.
        warnings: what the user should know about the result, in plain sentences.
        answerable: the probability that the passages answer the query, where half of all contexts do; None if no
            stage knows.
        given: the passages as they came from the retriever; filled in. `to_html` shows what is gone from them.

    Raises:
        InvalidInputError: a query that is no text, or something that is no passage.
    """

    query: str
    passages: tuple[Passage, ...]
    count: TokenCounter = field(repr=False, compare=False)
    budget: Budget = field(default_factory=Budget)
    rendering: Rendering = field(default_factory=Rendering)
    trace: Trace = field(default_factory=Trace, hash=False)
    tokens_in: int = -1
    history: tuple[Message, ...] = field(default=(), hash=False)
    set_aside: tuple[SetAside, ...] = ()
    warnings: tuple[str, ...] = ()
    answerable: float | None = None
    given: tuple[Passage, ...] | None = field(default=None, repr=False, compare=False)
    tokens_aside: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.query, str):
            raise InvalidInputError(f"the query must be a str, but got {type(self.query).__name__}")
        if self.answerable is not None and not 0 <= self.answerable <= 1:
            raise InvalidInputError(f"answerable must be a probability or None, but got {self.answerable!r:.80}")
        object.__setattr__(self, "passages", _ranked(self.passages))
        if self.given is None:
            object.__setattr__(self, "given", self.passages)
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
        return self.budget.limit(max(0, self.tokens_in - self.tokens_aside))

    def marked(self, *, whole: bool = False) -> Marked:
        """The text with all that was kept marked, for a generator that steers its attention to what is marked.

        Headings, and what stands where text is missing, are not marked.

        Args:
            whole: the text of all passages as they came (`given`), with what is left of them marked; of a passage that
                was rewritten, what supports it.
        """
        kept: dict[int | None, list[Span]] = {}
        for passage in self.passages:
            kept.setdefault(passage.rank, []).extend(passage.spans)
        shown = (self.given or ()) if whole else self.passages
        marks = kept_marks(self.rendering, shown, {rank: merge_spans(spans) for rank, spans in kept.items()})
        return Marked(self.rendering.render(shown) if whole else self.text, marks)

    def with_passages(self, passages: Iterable[Passage]) -> Context:
        """The same context with other passages."""
        return replace(self, passages=tuple(passages))

    def to_json(self) -> str:
        """The context with its rendered text and trace as JSON."""
        data = {
            "query": self.query,
            "text": self.text,
            "tokens": self.tokens,
            "tokens_in": self.tokens_in,
            "budget": asdict(self.budget),
            "rendering": asdict(self.rendering),
            "passages": [p.to_dict() for p in self.passages],
            "history": [dict(message) for message in self.history],
            "set_aside": [one.to_dict() for one in self.set_aside],
            "tokens_aside": self.tokens_aside,
            "warnings": list(self.warnings),
            "answerable": self.answerable,
            "trace": self.trace.to_dict(),
        }
        # ASCII escapes keep lone surrogates, which UTF-8 cannot hold.
        return json.dumps(data, ensure_ascii=True, allow_nan=False)

    def to_html(self, attention: Sequence[Attention] = ()) -> str:
        """The context as a page for people: what is kept, what is gone and why, what each stage took.

        One file without network or script, in which all text is escaped. What `from_json` read has no text of the
        passages that were dropped whole.

        Args:
            attention: what the query looked at, from `Pipeline.attention`: shown as a heat behind the text, head by
                head (the first nine).
        """
        from ctxshaper.data.page import document

        return document(self, attention)

    def __repr__(self) -> str:
        # Nothing is counted for it: a debugger asks often.
        counted = f", {self.tokens} of {self.tokens_in} tokens" if "tokens" in self.__dict__ else ""
        warned = f", {len(self.warnings)} warnings" if self.warnings else ""
        told = f"{len(self.passages)} of {len(self.given or ())} passages{counted}{warned}"
        return f"<Context {shortened(self.query)}: {told}>"

    def _repr_html_(self) -> str:
        """The same in a frame, which notebooks show."""
        from ctxshaper.data.page import framed

        return framed(self)

    @classmethod
    def from_json(cls, data: str | bytes, count: TokenCounter) -> Context:
        """The context that `to_json` wrote; `count` counts the generator's tokens again.

        Raises:
            InvalidInputError: if the JSON is not such a context, or its text is not what its passages say.
        """
        raw = parse_json(data, "this context")
        try:
            context = cls(
                query=raw["query"],
                passages=tuple(map(Passage.from_dict, raw["passages"])),
                count=count,
                budget=Budget(**raw["budget"]),
                rendering=Rendering(**raw["rendering"]),
                trace=Trace.from_dict(raw["trace"]),
                tokens_in=raw["tokens_in"],
                history=tuple(Message(role=m["role"], content=m["content"]) for m in raw["history"]),
                set_aside=tuple(map(SetAside.from_dict, raw["set_aside"])),
                tokens_aside=raw.get("tokens_aside", 0),
                warnings=tuple(raw["warnings"]),
                answerable=raw.get("answerable"),
            )
            text = raw["text"]
        except (KeyError, TypeError, ValueError) as error:
            raise InvalidInputError(f"this is not a context written by Context.to_json: {error!r:.200}") from error
        if text != context.text:
            raise InvalidInputError("the text is not what the passages say; write the context anew by to_json")
        return context


def _ranked(passages: Any) -> tuple[Passage, ...]:
    """Passages with a rank each: those without one take the numbers that are free."""
    if isinstance(passages, (str, bytes, Mapping)) or not isinstance(passages, Iterable):
        raise InvalidInputError(
            f"passages must be a list of passages or texts, but got {type(passages).__name__}; for one pass [text]"
        )
    made = tuple(map(Passage.of, passages))
    if all(passage.rank is not None for passage in made):
        return made
    taken = {passage.rank for passage in made}
    free = (rank for rank in counting() if rank not in taken)
    return tuple(p.ranked(next(free)) if p.rank is None else p for p in made)
