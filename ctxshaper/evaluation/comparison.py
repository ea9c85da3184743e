"""Runs recipes and baselines over questions under budgets; every result is written at once, so that a run can go on."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Literal, get_args

from ctxshaper import __version__
from ctxshaper.data import Budget, Context, Rendering
from ctxshaper.errors import InvalidInputError
from ctxshaper.evaluation import metrics
from ctxshaper.evaluation.asking import Asked, ask, generators_of
from ctxshaper.evaluation.baselines import baseline
from ctxshaper.evaluation.order import in_order
from ctxshaper.evaluation.questions import Question
from ctxshaper.evaluation.results import ASKED, Results, Row, column, hashed, identity
from ctxshaper.generators import Generator
from ctxshaper.models.embedder import Embedder
from ctxshaper.pipelines import Pipeline, Recipe
from ctxshaper.reading.profile import HeadProfile
from ctxshaper.reading.reader import Reader
from ctxshaper.reading.reading import PassageReader
from ctxshaper.stages import EvidenceFilter

# A recipe and a budget.
Task = tuple[str, str]
# What is measured beside evidence, tokens and time, for those who ask: each costs passes of a language model.
Extra = Literal["likelihood", "answers", "distraction", "order"]
# Contexts that shaping is compared with where a generator is asked; no budget applies to them.
REFERENCES = ("full", "gold", "none")
# What stands in front of a baseline's name where a recipe is asked for.
BASELINE = "baseline:"
_SHUFFLES = 4


@dataclass
class Comparison:
    """What is compared, and by which measures.

    Attributes:
        recipes: names or paths of recipes, or `baseline:NAME` for another tool.
        budgets: as `Budget.parse` reads them.
        measures: what is measured beside evidence, tokens and time.
        seed: of the shuffles.
        generators: that `likelihood`, `answers` and `distraction` ask: names (`embedded`, a folder, a hub name,
            `MODEL@URL` for an endpoint), or generators of your own by a name; the embedded one if empty.
        model: the reader's; None for the embedded one.
        reader: one that is there already; give its results a file of their own.
        profile: the reader's heads; None for the model's own.

    Raises:
        InvalidInputError: an unknown recipe, budget or measure, or a measure that a generator does not allow.
    """

    recipes: Sequence[str]
    budgets: Sequence[str]
    measures: Sequence[Extra] = ()
    seed: int = 0
    generators: Sequence[str] | Mapping[str, Generator] = ()
    model: str | None = None
    reader: PassageReader | None = None
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
        self._thresholds = {
            name: next((stage.abstain for stage in loaded.stages if isinstance(stage, EvidenceFilter)), None)
            for name, loaded in self._loaded.items()
        }
        self._generators = generators_of(self.generators, self.measures)

    def run(
        self,
        questions: Sequence[Question],
        file: Path,
        *,
        progress: Callable[[Sequence[tuple[Question, bool]]], Iterable[tuple[Question, bool]]] = iter,
    ) -> list[Row]:
        """Measure every question with every recipe under every budget; what `file` already holds is not done again.

        Args:
            questions: labelled.
            file: JSON lines; results are appended as they come, in the order of `in_order`.
            progress: wraps the loop over questions.

        Returns:
            One result per question, recipe and budget, in the order of the questions: `question`, `identity`, `recipe`,
            `budget`, `tokens_in`, `tokens`, and by name what was measured.

        Raises:
            InvalidInputError: the file holds something else.
        """
        results = Results(file)
        for question, cold in progress(in_order(questions)):
            self._measure(question, cold, results)
        return [self._row(question, task, results) for question in questions for task in self.tasks()]

    @property
    def asked(self) -> list[str]:
        """The names of the generators that are asked; none where no measure needs one."""
        return list(self._generators)

    def tasks(self) -> list[Task]:
        """Every recipe with every budget, and the references where a generator is asked."""
        asked = {"likelihood", "answers"} & set(self.measures)
        return [
            *((recipe, budget) for recipe in self.recipes for budget in self.budgets),
            *((name, "") for name in REFERENCES if asked),
        ]

    def key(self, known: str, task: Task, asked: Sequence[str] = ()) -> str:
        """What a result is known by: a hash over everything that it depends on.

        Args:
            known: the question's `identity`.
            task: recipe and budget.
            asked: for a generator's result, its measure and name.
        """
        settings = ("order" in self.measures and not asked, self.seed, self.model, repr(self.profile), __version__)
        return hashed((known, repr(self._loaded.get(task[0], task[0])), task[1], asked, settings))

    def _measure(self, question: Question, cold: bool, results: Results) -> None:
        """Everything about one question that is not known yet."""
        known = identity(question)
        asked = [
            (measure, name)
            for name in self._generators
            for measure in get_args(Asked)
            if measure in self.measures and (question.answers or measure == "distraction")
        ]
        missing = [
            task for task in self.tasks() if any(self.key(known, task, one) not in results for one in ((), *asked))
        ]
        contexts: dict[Task, Context] = {}
        for recipe, tasks in groupby(missing, key=itemgetter(0)):
            for nth, task in enumerate(tasks):
                key = self.key(known, task)
                new = key not in results
                contexts[task], times = self._shaped(question, task, first=new and not nth, cold=cold)
                if new:
                    row = {"key": key, "identity": known, **_named(question, task), **times}
                    results.add(row | self._kept(question, recipe, task[1], contexts[task]))
        for measure, name in asked:
            left = [task for task in contexts if self.key(known, task, (measure, name)) not in results]
            values = ask(measure, self._generators[name], question, [contexts[task] for task in left]) if left else []
            for task, found in zip(left, values, strict=True):
                key = self.key(known, task, (measure, name))
                results.add({"key": key, "identity": known, **_named(question, task), "generator": name, **found})

    def _row(self, question: Question, task: Task, results: Results) -> Row:
        """All that is known of one question, recipe and budget."""
        known, names = identity(question), list(self._generators)
        row = dict(results[self.key(known, task)])
        for name in names:
            for measure in get_args(Asked):
                key = self.key(known, task, (measure, name))
                found = results[key] if measure in self.measures and key in results else {}
                row |= {column(one, name, names): found[one] for one in ASKED if one in found}
        return row

    def _kept(self, question: Question, recipe: str, budget: str, shaped: Context) -> Row:
        """What a shaped context is judged by without asking a generator."""
        row: Row = {"tokens_in": shaped.tokens_in, "tokens": shaped.tokens, "tokens_kept": metrics.tokens_kept(shaped)}
        for name, measure in (
            ("sentences", metrics.sentence_recall),
            ("characters", metrics.character_recall),
            ("passages", metrics.passage_recall),
            ("answer", metrics.answer_in_context),
            ("precision", metrics.precision),
            ("f2", metrics.f2),
        ):
            row[name] = measure(question, shaped)
        if recipe in REFERENCES:
            return row
        if question.unanswerable or question.gold:
            name = "abstained_rightly" if question.unanswerable else "abstained_wrongly"
            row[name] = metrics.abstained(shaped, self._thresholds[recipe])
        if "order" in self.measures:
            row |= self._orders(question, recipe, budget, shaped)
        return row

    def _shaped(self, question: Question, task: Task, *, first: bool, cold: bool) -> tuple[Context, Row]:
        """The shaped context, and the milliseconds that it took.

        The first budget that a recipe meets a question with pays for what is not read yet, so it is shaped twice; where
        `cold` is asked for, all that was read is forgotten before.
        """
        recipe, budget = task
        if recipe in REFERENCES:
            return self._reference(question, recipe), {}
        pipeline, cold = self._pipeline(recipe), first and cold
        if cold:
            if isinstance(self._reader, Reader):
                self._reader.cache.clear()
            self._embedder.forget()
        times = []
        for _ in range(1 + first):
            started = time.perf_counter()
            shaped = pipeline.shape(question.text, question.passages, budget)
            times.append(1e3 * (time.perf_counter() - started))
        return shaped, {"cold_ms": times[0] if cold else None, "warm_ms": times[-1]}

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
    def _reader(self) -> PassageReader:
        return self.reader or Reader(self.model, profile=self.profile)

    @cached_property
    def _embedder(self) -> Embedder:
        return Embedder()


def _named(question: Question, task: Task) -> Row:
    return {"question": question.id or question.text, "recipe": task[0], "budget": task[1]}


def _load(name: str) -> Recipe:
    if name in REFERENCES:
        raise InvalidInputError(f"{name!r} is what recipes are compared with; it is there where a generator is asked")
    if name.startswith(BASELINE):
        return Recipe((baseline(name.removeprefix(BASELINE)),), rendering=Rendering())
    return Recipe.load(name)
