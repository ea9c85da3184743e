"""Context structurization: headings over what sentences say together (arXiv 2407.16434), the extractive variant."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Generator as Flow
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Literal

from ctxshaper.data import Context, Kept, Passage, Piece, Span, Written, intersect
from ctxshaper.errors import InvalidInputError
from ctxshaper.generators.base import Prompt
from ctxshaper.stages.base import Steps, WritingStage
from ctxshaper.stages.run import Run
from ctxshaper.stages.structurize.keywords import keywords
from ctxshaper.stages.structurize.outline import Topic, outline_prompt, read_outline
from ctxshaper.text.segments import blocks, sentences

# Tokens for the answer to one passage, and those that chat templates add.
_ANSWER, _TEMPLATE = 400, 128


@dataclass(frozen=True, kw_only=True)
class Structurize(WritingStage):
    """Puts headings above the sentences of long passages, so that a generator sees what each part is about.

    The rule (Liu et al., arXiv 2407.16434; the variant of the authors' code that keeps sentences verbatim): a language
    model divides numbered sentences into topics with a heading each; the text is then rendered anew by a fixed
    template, each heading over its sentences. Here every sentence stays where it was, byte for byte, as a `Kept`
    piece, and only headings are written: `heading:` on a line of its own, supported by the sentences below it. An
    outline that leaves a sentence out, or a heading that says what its sentences do not, is not used, and the passage
    stays as it was; so does a context that would then no longer fit the budget.

    Attributes:
        headings: "generator" asks the pipeline's generator for an outline; "text" takes the words by which each
            paragraph differs from the others, asks nobody, and needs paragraphs.
        least: passages with fewer sentences stay as they are.
    """

    headings: Literal["generator", "text"] = "generator"
    least: int = 4

    def __post_init__(self) -> None:
        if self.headings not in ("generator", "text"):
            raise InvalidInputError(f"headings must be generator or text, but got {self.headings!r:.80}")
        if self.least < 2:
            raise InvalidInputError(f"least must be at least 2 sentences, but got {self.least}")

    def steps(self, context: Context, run: Run) -> Steps:
        """Apply the rule of the class."""
        if self.headings == "text":
            pieces = self._by_text(context)
        else:
            pieces = yield from self._by_generator(context, run)
        run.log.notes["structured"] = len(pieces)
        if not pieces:
            return context
        shaped = context.with_passages(
            passage.rewrite(pieces[place]) if place in pieces else passage
            for place, passage in enumerate(context.passages)
        )
        if context.limit is not None and context.tokens <= context.limit < shaped.tokens:
            run.log.warnings.append(
                f"no headings: with them the context has {shaped.tokens} tokens, and {context.limit} are allowed"
            )
            return context
        return shaped

    def _by_text(self, context: Context) -> dict[int, list[Piece]]:
        found: dict[int, list[Piece]] = {}
        for place, passage in enumerate(context.passages):
            if not _plain(passage) or len(_units(passage)) < self.least:
                continue
            groups = _paragraphs(passage)
            if len(groups) > 1:
                marked = zip(keywords(passage.source, groups), groups, strict=True)
                found[place] = [piece for words, group in marked for piece in _keyworded(passage, words, group)]
        return found

    def _by_generator(self, context: Context, run: Run) -> Flow[Sequence[Prompt], list[str], dict[int, list[Piece]]]:
        asked: dict[int, list[Span]] = {}
        generator = run.parts.generator
        room = generator.context_window - _ANSWER - _TEMPLATE
        for place, passage in enumerate(context.passages):
            units = _units(passage) if _plain(passage) else []
            if len(units) < self.least:
                continue
            if generator.count_tokens(outline_prompt(_texts(passage, units))) > room:
                run.log.warnings.append(f"passage {passage.rank} stays as it was: too long for the generator's window")
                continue
            asked[place] = units
        if not asked:
            return {}
        answers = yield [outline_prompt(_texts(context.passages[place], units)) for place, units in asked.items()]
        found: dict[int, list[Piece]] = {}
        problems: dict[str, int] = {}
        for (place, units), answer in zip(asked.items(), answers, strict=True):
            passage = context.passages[place]
            topics, problem = read_outline(answer, _texts(passage, units), passage.title)
            if problem:
                problems[problem] = problems.get(problem, 0) + 1
            else:
                found[place] = _outlined(units, topics)
        for problem, count in problems.items():
            run.log.warnings.append(f"{count} passages stay as they were: {problem}")
        return found


def _plain(passage: Passage) -> bool:
    """Prose that nobody has rewritten: other text has a structure of its own."""
    return passage.format == "prose" and not passage.generated


def _cut(passage: Passage, segments: Sequence[Span]) -> tuple[Span, ...]:
    return intersect(segments, passage.spans)


def _says(passage: Passage, span: Span) -> bool:
    return bool(passage.source[span.start : span.end].strip())


def _units(passage: Passage) -> list[Span]:
    return [span for span in _cut(passage, sentences(passage.source)) if _says(passage, span)]


def _paragraphs(passage: Passage) -> list[list[Span]]:
    """Of each paragraph what is left of it: what was cut out of the middle of one makes no two of it."""
    whole = blocks(passage.source)
    starts = [block.start for block in whole]
    left = [span for span in _cut(passage, whole) if _says(passage, span)]
    return [list(own) for _, own in groupby(left, lambda span: bisect_right(starts, span.start))]


def _texts(passage: Passage, units: Sequence[Span]) -> list[str]:
    return [passage.source[unit.start : unit.end].strip() for unit in units]


def _outlined(units: Sequence[Span], topics: Sequence[Topic]) -> list[Piece]:
    pieces: list[Piece] = []
    for topic in topics:
        own = units[topic.first : topic.last + 1]
        pieces += [Written(_heading(topic.heading, first=not pieces), tuple(own)), *map(Kept, own)]
    return pieces


def _keyworded(passage: Passage, words: Sequence[Span], group: Sequence[Span]) -> list[Piece]:
    told = ", ".join(passage.source[word.start : word.end] for word in words)
    first = group[0].start == passage.spans[0].start
    return [*([Written(_heading(told, first=first), tuple(words))] if told else []), *map(Kept, group)]


def _heading(text: str, *, first: bool) -> str:
    """The template: the heading on a line of its own, a blank line before all but the first."""
    return f"{'' if first else chr(10) * 2}{text}:\n"
