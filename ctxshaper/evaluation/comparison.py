"""Runs recipes and baselines over questions under budgets; every result is written at once, so that a run can go on."""

from __future__ import annotations

import hashlib
import json
import random
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, get_args

from ctxshaper import __version__
from ctxshaper.data import Budget, Context, Rendering
from ctxshaper.data.json import parse_json
from ctxshaper.errors import InvalidInputError
from ctxshaper.evaluation import metrics
from ctxshaper.evaluation.baselines import baseline
from ctxshaper.evaluation.prompts import prompt
from ctxshaper.evaluation.questions import Question
from ctxshaper.generators import LocalGenerator
from ctxshaper.models.embedder import Embedder
from ctxshaper.pipelines import Pipeline, Recipe
from ctxshaper.reading.profile import HeadProfile
from ctxshaper.reading.reader import Reader
from ctxshaper.stages.distraction_filter.abstention import Abstention

# What is measured beside evidence, tokens and time, for those who ask: each costs passes of a language model.
Extra = Literal["likelihood", "answers", "distraction", "order"]
# Contexts that shaping is compared with where a generator is asked; no budget applies to them.
REFERENCES = ("full", "gold", "none")
# What stands in front of a baseline's name where a recipe is asked for.
BASELINE = "baseline:"
_SHUFFLES = 4
# Long answers are not what the data sets hold.
_ANSWER_TOKENS = 32


@dataclass
class Comparison:
    """What is compared, and by which measures.

    Attributes:
        recipes: names or paths of recipes, or `baseline:NAME` for another tool.
        budgets: as `Budget.parse` reads them.
        measures: what is measured beside evidence, tokens and time.
        seed: of the shuffles.
        generator: that `likelihood` and `answers` ask; None for the embedded model.
        model: the reader's; None for the embedded one.
        profile: the reader's heads; None for the model's own.

    Raises:
        InvalidInputError: an unknown recipe, budget or measure.
    """

    recipes: Sequence[str]
    budgets: Sequence[str]
    measures: Sequence[Extra] = ()
    seed: int = 0
    generator: str | None = None
    model: str | None = None
    profile: HeadProfile | None = None
    _pipelines: dict[str, Pipeline] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        for budget in self.budgets:
            Budget.parse(budget)
        unknown = sorted(set(self.measures) - set(get_args(Extra)))
        if unknown or not self.recipes or not self.budgets:
            raise InvalidInputError(
                f"a comparison needs recipes, budgets and measures out of {', '.join(get_args(Extra))}, but got "
                f"{list(self.recipes)}, {list(self.budgets)} and {list(self.measures)}"
            )
        self.recipes, self.budgets = list(dict.fromkeys(self.recipes)), list(dict.fromkeys(self.budgets))
        self._loaded = {name: _load(name) for name in self.recipes}

    def run(
        self,
        questions: Sequence[Question],
        file: Path,
        *,
        progress: Callable[[Sequence[Question]], Iterable[Question]] = iter,
    ) -> list[dict[str, Any]]:
        """Measure every question with every recipe under every budget; what `file` already holds is not done again.

        Args:
            questions: labelled.
            file: JSON lines; results are appended as they come.
            progress: wraps the loop over questions.

        Returns:
            One result per question, recipe and budget; see `_measured`.

        Raises:
            InvalidInputError: the file holds something else.
        """
        known = dict(_known(file))
        results, last = [], ("", "")
        file.parent.mkdir(parents=True, exist_ok=True)
        with file.open("a", encoding="utf-8") as out:
            for question in progress(questions):
                for recipe, budget in self.tasks():
                    key = self.key(question, recipe, budget)
                    if key not in known:
                        # The first budget that a recipe meets a question with pays for the reading.
                        cold, last = last != (question.text, recipe), (question.text, recipe)
                        known[key] = {"key": key, **self._measured(question, recipe, budget, cold)}
                        out.write(json.dumps(known[key]) + "\n")
                        out.flush()
                    results.append(known[key])
        return results

    def tasks(self) -> list[tuple[str, str]]:
        """Every recipe with every budget, and the references where a generator is asked."""
        asked = {"likelihood", "answers"} & set(self.measures)
        return [
            *((recipe, budget) for recipe in self.recipes for budget in self.budgets),
            *((name, "") for name in REFERENCES if asked),
        ]

    def key(self, question: Question, recipe: str, budget: str) -> str:
        """What a result is known by: a hash over everything that it depends on."""
        parts = (
            question.text,
            question.answers,
            [(p.title, p.source) for p in question.passages],
            sorted(question.gold),
            [(rank, span.start, span.end) for rank, span in question.evidence],
            repr(self._loaded.get(recipe, recipe)),
            budget,
            (sorted(self.measures), self.seed, self.generator, self.model, repr(self.profile), __version__),
        )
        return hashlib.blake2b(json.dumps(parts).encode(), digest_size=12).hexdigest()

    def _measured(self, question: Question, recipe: str, budget: str, cold: bool) -> dict[str, Any]:
        """One result: `question`, `recipe`, `budget`, `tokens_in`, `tokens`, and by name what was measured."""
        row: dict[str, Any] = {"question": question.id or question.text, "recipe": recipe, "budget": budget}
        if recipe in REFERENCES:
            shaped = self._reference(question, recipe)
        else:
            shaped, row["cold_ms"], row["warm_ms"] = self._timed(question, recipe, budget, cold)
        row |= {"tokens_in": shaped.tokens_in, "tokens": shaped.tokens, "tokens_kept": metrics.tokens_kept(shaped)}
        for name, measure in (
            ("sentences", metrics.sentence_recall),
            ("characters", metrics.character_recall),
            ("passages", metrics.passage_recall),
            ("answer", metrics.answer_in_context),
        ):
            row[name] = measure(question, shaped)
        if "likelihood" in self.measures and question.answers:
            row["likelihood"] = metrics.answer_log_likelihood(
                self._generator, question, shaped.passages, shaped.rendering
            )
        if "answers" in self.measures and question.answers:
            answer = self._generator.generate(prompt(question.text, shaped.passages, shaped.rendering))
            row["em"], row["f1"] = (m(answer, question.answers) for m in (metrics.exact_match, metrics.f1))
        if "distraction" in self.measures:
            row["distraction"] = metrics.distraction(self._abstention, shaped)
        if "order" in self.measures and recipe not in REFERENCES:
            row |= self._orders(question, recipe, budget, shaped)
        return row

    def _timed(self, question: Question, recipe: str, budget: str, cold: bool) -> tuple[Context, float | None, float]:
        """The shaped context, and the milliseconds of the first time (where asked for) and of a further one."""
        pipeline = self._pipeline(recipe)
        if cold:
            self._reader.cache.clear()
            self._embedder.forget()
        times = []
        for _ in range(1 + cold):
            started = time.perf_counter()
            shaped = pipeline.shape(question.text, question.passages, budget)
            times.append(1e3 * (time.perf_counter() - started))
        return shaped, times[0] if cold else None, times[-1]

    def _reference(self, question: Question, name: str) -> Context:
        ranked = tuple(replace(p, rank=rank) for rank, p in enumerate(question.passages))
        whole = Context(question.text, ranked, self._reader.count_tokens)
        if name == "full":
            return whole
        return whole.with_passages([p for p in ranked if name == "gold" and p.rank in question.gold])

    def _orders(self, question: Question, recipe: str, budget: str, shaped: Context) -> dict[str, float]:
        """How what is kept, and the share of the evidence in it, changes when the passages come in other orders."""
        draw = random.Random(f"{self.seed} {question.text}")  # noqa: S311  # shuffling, not secrets
        contexts = [shaped]
        for _ in range(_SHUFFLES):
            order = draw.sample(range(len(question.passages)), len(question.passages))
            other = self._pipeline(recipe).shape(question.text, [question.passages[i] for i in order], budget)
            # The pipeline counts ranks by the order that it was given; the metrics know the data's.
            contexts.append(other.with_passages([replace(p, rank=order[p.rank or 0]) for p in other.passages]))
        measure = metrics.sentence_recall if question.evidence else metrics.passage_recall
        recalls = [value for c in contexts if (value := measure(question, c)) is not None]
        spread = {"order_spread": max(recalls) - min(recalls)} if recalls else {}
        return {"order": metrics.disagreement(contexts), **spread}

    def _pipeline(self, recipe: str) -> Pipeline:
        if recipe not in self._pipelines:
            loaded = self._loaded[recipe]
            self._pipelines[recipe] = Pipeline.from_recipe(loaded, reader=self._reader, embedder=self._embedder)
            # What is loaded once for a whole process is not part of the first question's time.
            self._pipelines[recipe].shape("Who opened the bridge?", ["The bridge was opened by Ada.", "It rained."], 9)
        return self._pipelines[recipe]

    @cached_property
    def _reader(self) -> Reader:
        return Reader(self.model, profile=self.profile)

    @cached_property
    def _embedder(self) -> Embedder:
        return Embedder()

    @cached_property
    def _generator(self) -> LocalGenerator:
        return LocalGenerator(self.generator, max_new_tokens=_ANSWER_TOKENS)

    @cached_property
    def _abstention(self) -> Abstention:
        return Abstention(self.generator)


def _load(name: str) -> Recipe:
    if name in REFERENCES:
        raise InvalidInputError(f"{name!r} is what recipes are compared with; it is there where a generator is asked")
    if name.startswith(BASELINE):
        return Recipe((baseline(name.removeprefix(BASELINE)),), rendering=Rendering())
    return Recipe.load(name)


def _known(file: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Results that a file holds, by key; a last line that was cut off half way is removed."""
    if not file.exists():
        return
    good = 0
    with file.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.endswith(b"\n"):
                break
            row = parse_json(line, f"{file}, line {number}")
            if not isinstance(row, dict) or not isinstance(row.get("key"), str):
                raise InvalidInputError(f"{file}, line {number}: not a result of this command; choose another folder")
            yield row["key"], row
            good += len(line)
    with file.open("r+b") as lines:
        lines.truncate(good)
