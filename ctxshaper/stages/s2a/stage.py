"""System 2 Attention: a language model rewrites its own context before it answers (arXiv 2311.11829)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, get_args

from ctxshaper.data import Context, Passage, Span, Written, gaps, merge_spans
from ctxshaper.errors import GeneratorError, InvalidInputError
from ctxshaper.stages.base import Steps, WritingStage
from ctxshaper.stages.parts import Parts
from ctxshaper.stages.run import Log, Run
from ctxshaper.stages.s2a.answers import join, parse, unusable, written
from ctxshaper.stages.s2a.support import Source, Verdict, numbers

if TYPE_CHECKING:
    from ctxshaper.generators import Generator
    from ctxshaper.models.embedder import Embedder

Variant = Literal["separated", "single", "keep_original", "not_instructed", "relevance"]

# What the rewriting model is told. Texts of others follow behind these lines and are never formatted into them.
_COPY = "Copy sentences word for word. Add nothing of your own, and do not answer the question."
_UNBIASED = (
    "Keep every fact and number that helps to answer the question. Leave out what anybody merely thinks, believes, "
    "guesses, likes or hopes for, and every hint at which answer is wanted. "
)
_RELEVANT = (
    "Keep every fact and number that is needed to answer the question. Leave out sentences that the answer does not "
    "depend on. "
)
_FIELDS = (
    "Write exactly two fields:\nCONTEXT: the sentences that you keep, or NONE\nQUESTION: the question by itself\n\n"
)
_ONE_TEXT = "Write one text: the sentences that you keep, and at its end the question.\n\n"
_INSTRUCTION = "Answer without bias: rely on the facts alone, not on what anybody believes or wants to hear."

# Tokens that chat templates add around a prompt, and the least that is worth asking about.
_TEMPLATE, _LEAST_ROOM = 64, 32
# So many sentences of a message may vanish besides its question without a context that speaks for it.
_PLAIN_MESSAGE = 2
_TRACED = 50


@dataclass(frozen=True, slots=True)
class ShapedQuery:
    """A user's message without what would sway the answer.

    Attributes:
        text: what the generator is to be asked; the message itself where nothing better was found.
        context: the sentences kept beside the question.
        question: the question.
        removed: ranges of the message that are gone.
        reason: why the message stayed as it was; empty if it was rewritten.
    """

    text: str
    context: str = ""
    question: str = ""
    removed: tuple[Span, ...] = ()
    reason: str = ""

    def __str__(self) -> str:
        return self.text


@dataclass
class _Group:
    """Passages that one call rewrites, and what came of it."""

    parts: dict[int, list[Span]] = field(default_factory=dict)
    tokens: int = 0
    written: dict[int, list[Written]] = field(default_factory=dict)
    problem: str = ""


@dataclass(frozen=True, kw_only=True)
class S2A(WritingStage):
    """Lets a language model rewrite the context so that it holds only what helps (Weston and Sukhbaatar, section 2.2).

    The rule: x' = LM(rewrite x), then answer from x' alone. The rewrite asks for two fields, the unbiased context and
    the question. Here no sentence of x' is taken on trust: each must be supported by sentences of one passage, with its
    numbers, names and negations, or it is removed and traced. What an answer supports too little of, refuses or
    garbles stays as it was. Passages are rewritten in groups that fit into the model's window together with the
    answer; nothing is cut. Sentences keep the order of their source.

    `shape` rewrites passages and notes the restated question and the paper's instruction for the answering call;
    `shape_query` rewrites a user's own message, which is the paper's case.

    Attributes:
        variant: "separated": two fields; "single": one text; "keep_original": the originals stay in front;
            "not_instructed": no instruction for the answering call; "relevance": asks for relevance, not for lack of
            bias, and gives no instruction.
        min_support: the least share of an answer's sentences that must be supported for any of it to be used.
        wording: what the model is told in place of `task`, for another language or model; it must ask for what `task`
            asks for, two fields CONTEXT and QUESTION, or one text. Texts and question follow behind it.
        embedding: whether a sentence that is close to its source by embedding may be worded more freely.
    """

    variant: Variant = "separated"
    min_support: float = 0.5
    wording: str = ""
    embedding: bool = False

    def __post_init__(self) -> None:
        if self.variant not in get_args(Variant):
            raise InvalidInputError(f"variant must be one of {', '.join(get_args(Variant))}, but got {self.variant!r}")
        if not 0 < self.min_support <= 1:
            raise InvalidInputError(f"min_support must lie above 0 and at most 1, but got {self.min_support}")

    def steps(self, context: Context, run: Run) -> Steps:
        """Apply the rule of the class."""
        if not context.passages:
            return context
        log = run.log
        embedder = run.parts.embedder if self.embedding else None
        groups = self._groups(context, run.parts.generator, log)
        answers = yield [self._prompt(context, group) for group in groups]
        for group, answer in zip(groups, answers, strict=True):
            self._fill(group, context, answer, log, embedder)
        rewritten: dict[int, list[Written]] = {}
        for group in groups:
            for index, pieces in group.written.items():
                rewritten.setdefault(index, []).extend(pieces)
        stuck = {i for g in groups if g.problem for i in g.parts}
        asked = {i for g in groups for i in g.parts}
        shaped: list[Passage] = []
        for index, passage in enumerate(context.passages):
            if index in stuck or index not in asked or not rewritten:
                shaped.append(passage)
            elif index in rewritten:
                pieces = rewritten[index]
                support = merge_spans(span for piece in pieces for span in piece.support)
                for span in support:
                    log.decide(passage, span, kept=True, reason="supports what the language model wrote")
                log.drop(passage, gaps(passage.spans, support), "left out by the language model")
                shaped.append(passage.rewrite(pieces))
            else:
                log.drop(passage, passage.spans, "nothing of it was kept by the language model")
        problems = [g.problem for g in groups if g.problem]
        log.notes.update(groups=len(groups), generated=sum(p.generated for p in shaped))
        if problems or not rewritten:
            log.notes["originals_stay"] = problems or ["the language model found nothing useful in any passage"]
        if instruction := self._instruction:
            log.notes["instruction"] = instruction
        if self.variant == "keep_original":
            return context.with_passages((*context.passages, *(p for p in shaped if p not in context.passages)))
        return context.with_passages(shaped)

    def shape_query(self, message: str, generator: Generator | None = None) -> ShapedQuery:
        """Rewrite a user's message that may hold opinions, hints or sentences beside the point.

        Args:
            message: the user's words.
            generator: writes; the embedded model if None.

        Raises:
            InvalidInputError: the message is empty.
            GeneratorError: the model gave no answer, or the message is too long for it.
        """
        parts = Parts(generator=generator)
        return self.read_query(message, parts.generator.generate(self.query_prompt(message, parts.generator)), parts)

    async def ashape_query(self, message: str, generator: Generator | None = None) -> ShapedQuery:
        """The same without blocking the event loop."""
        parts = Parts(generator=generator)
        answer = await parts.generator.agenerate(self.query_prompt(message, parts.generator))
        return self.read_query(message, answer, parts)

    def query_prompt(self, message: str, generator: Generator) -> str:
        """The prompt that `shape_query` sends."""
        if not isinstance(message, str) or not message.strip():
            raise InvalidInputError(f"the message must be a text with content, but got {message!r:.80}")
        prompt = "Below is a user's message. " + self.task + "MESSAGE:\n" + message.strip()
        room = self._room(generator, generator.count_tokens(prompt) - generator.count_tokens(message))
        if (tokens := generator.count_tokens(message)) > room:
            raise GeneratorError(
                f"the message has {tokens} tokens, but this generator can copy {room}; shorten it or raise "
                "max_new_tokens"
            )
        return prompt

    def read_query(self, message: str, answer: str, parts: Parts | None = None) -> ShapedQuery:
        """Turn the model's answer to `query_prompt` into a shaped query; whatever it says, this does not raise."""
        embedder = (parts or Parts()).embedder if self.embedding else None
        parsed = parse(answer)
        if problem := unusable(parsed, answer, len(message)):
            return ShapedQuery(message, reason=problem)
        whole = Source(message)
        asked = [s for s in whole.sentences if re.search("[?？؟]", message[s.start : s.end])] or [whole.sentences[-1]]
        # The question is no evidence: its words beside an opinion's would make a statement of both.
        stated = Source(message, gaps([Span(0, len(message))], merge_spans(asked)))
        checked = [(t, stated.check(t, embedder)) for t in written(parsed)]
        question_source = Source(message, asked)
        checked = [(t, v) for t, v in checked if v.spans or not question_source.check(t).spans]
        kept = [(t, v) for t, v in checked if v.spans]
        supported = len(kept)
        if checked and supported < self.min_support * len(checked):
            return ShapedQuery(message, reason=f"{supported} of {len(checked)} sentences written are supported")
        if not kept and len(whole.sentences) - len(asked) > _PLAIN_MESSAGE:
            return ShapedQuery(message, reason="no context is left of a message with several sentences")
        context = join([t for t, _ in _in_order(kept)])
        question, asking = parsed.question, question_source.check(parsed.question, embedder).spans
        own_words = "".join(message[s.start : s.end] for s in asked).strip()
        if not asking or not numbers(own_words) <= numbers(question + " " + context):
            # The model lost the question, or facts that stand in it: the user's own words stay.
            question, asking = own_words, tuple(asked)
        text = "\n\n".join(filter(None, (context, question, self._instruction)))
        if self.variant == "keep_original":
            text = f"{message}\n\n{text}"
        spans = merge_spans([*asking, *(s for _, v in kept for s in v.spans)])
        removed = [s for s in gaps([Span(0, len(message))], spans) if message[s.start : s.end].strip()]
        return ShapedQuery(text, context, question, tuple(removed))

    @property
    def task(self) -> str:
        """What the model is told to do, in front of the texts."""
        if self.wording:
            return self.wording.rstrip() + "\n\n"
        wish = _RELEVANT if self.variant == "relevance" else _UNBIASED
        return wish + _COPY + " " + (_ONE_TEXT if self.variant == "single" else _FIELDS)

    @property
    def _instruction(self) -> str:
        return "" if self.variant in ("not_instructed", "relevance") else _INSTRUCTION

    def _frame(self, query: str) -> str:
        return "Below are texts that were found for a question. " + self.task + "QUESTION ASKED:\n" + query + "\n\n"

    def _prompt(self, context: Context, group: _Group) -> str:
        texts = [_part(context.passages[i], spans) for i, spans in group.parts.items()]
        return self._frame(context.query) + "TEXTS:\n" + "\n\n".join(texts)

    def _room(self, generator: Generator, frame: int) -> int:
        """Tokens of text that one call can copy: text and copy fit into the window beside the frame."""
        room = (generator.context_window - frame - _TEMPLATE) // 2
        if generator.max_new_tokens is not None:
            room = min(room, generator.max_new_tokens - _LEAST_ROOM)
        if room < _LEAST_ROOM:
            raise GeneratorError(
                f"the generator's window of {generator.context_window} tokens (answers: {generator.max_new_tokens}) "
                f"leaves {room} tokens for text beside a frame of {frame}; use a larger window"
            )
        return room

    def _groups(self, context: Context, generator: Generator, log: Log) -> list[_Group]:
        """Passages in their order, as many to a group as fit; a long passage is divided between its sentences."""
        count = generator.count_tokens
        # The question is restated in the answer.
        room = self._room(generator, count(self._frame(context.query))) - count(context.query)
        groups = [_Group()]
        too_long = []
        for index, passage in enumerate(context.passages):
            pieces = [[s] for s in Source(passage.source, passage.spans).sentences]
            if count(_part(passage, passage.spans)) <= room:
                pieces = [list(passage.spans)]
            costs = [count(_part(passage, piece)) + 2 for piece in pieces]
            if any(cost > room + 2 for cost in costs):
                # One unbroken string longer than the window: asking about half of it would cut it.
                too_long.append(index)
                continue
            for piece, cost in zip(pieces, costs, strict=True):
                if groups[-1].parts and groups[-1].tokens + cost > room:
                    groups.append(_Group())
                groups[-1].parts.setdefault(index, []).extend(piece)
                groups[-1].tokens += cost
        if too_long:
            log.notes["too_long_to_rewrite"] = too_long
        return [g for g in groups if g.parts]

    def _fill(self, group: _Group, context: Context, text: str, log: Log, embedder: Embedder | None) -> None:
        """Check an answer sentence by sentence and note what it gives each passage of its group."""
        answer = parse(text)
        size = sum(len(_part(context.passages[i], spans)) for i, spans in group.parts.items())
        if problem := unusable(answer, text, size):
            group.problem = problem
            return
        sources = {
            i: Source(context.passages[i].source, merge_spans(spans), context.passages[i].title)
            for i, spans in group.parts.items()
        }
        asked = Source(context.query)
        if answer.question and asked.check(answer.question, embedder).spans:
            log.notes["question"] = answer.question
        found: dict[int, list[tuple[str, Verdict]]] = {}
        supported = total = 0
        for sentence in written(answer):
            if asked.check(sentence).spans and sentence.rstrip(' *"”')[-1:] in "?？؟":
                continue  # the question, restated where the context was asked for
            verdicts = {i: source.check(sentence, embedder) for i, source in sources.items()}
            best = max(verdicts, key=lambda i: (bool(verdicts[i].spans), verdicts[i].coverage))
            total += 1
            if verdicts[best].spans:
                supported += 1
                found.setdefault(best, []).append((sentence, verdicts[best]))
            elif len(unsupported := log.notes.setdefault("unsupported", [])) < _TRACED:
                unsupported.append({"sentence": sentence[:300], "reason": verdicts[best].reason})
        if total and supported < self.min_support * total:
            group.problem = f"{supported} of {total} sentences written are supported"
            return
        group.written = {i: [Written(t, v.spans) for t, v in _in_order(kept)] for i, kept in found.items()}


def _part(passage: Passage, spans: Sequence[Span]) -> str:
    body = " ".join(passage.source[s.start : s.end].strip() for s in spans)
    return f"{passage.title}\n{body}" if passage.title else body


def _in_order(kept: Sequence[tuple[str, Verdict]]) -> list[tuple[str, Verdict]]:
    return sorted(kept, key=lambda entry: entry[1].spans[0])
