"""Measures positions and orders by a generator's answers: whether putting passages in another order pays."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, Literal, Protocol

import numpy as np

from ctxshaper.calibration.positions import check_questions
from ctxshaper.data import Passage, Rendering
from ctxshaper.errors import InvalidInputError
from ctxshaper.evaluation.metrics import plain
from ctxshaper.evaluation.paired import paired_gain
from ctxshaper.evaluation.prompts import prompt
from ctxshaper.evaluation.questions import Question
from ctxshaper.ranking.lexical import bm25
from ctxshaper.stages.attnrank.profile import Gain, PositionProfile, order_of
from ctxshaper.stages.attnrank.stage import PRESETS, arrange

Ranker = Callable[[str, Sequence[Passage]], Sequence[float]]
Scorer = Callable[[str, Sequence[str]], float]
Measure = Literal["log-likelihood", "accuracy"]


class Answerer(Protocol):
    """A generator; for the measure "log-likelihood" it also has `logprobs(prompt, continuation)`."""

    def generate(self, prompt: str) -> str:
        """The answer to a prompt."""
        ...


def accuracy_profile(
    score: Scorer,
    questions: Sequence[Question],
    slots: int,
    *,
    generator: str,
    measure: Measure = "accuracy",
    seed: int = 0,
    rendering: Rendering | None = None,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> PositionProfile:
    """Profile a generator whose attention cannot be seen: how well it answers with the evidence in each slot.

    Each question is asked K times, its first gold passage in each slot once, among the same K - 1 other passages.

    Args:
        score: see `scorer`.
        questions: each with at least one gold passage and K - 1 others.
        slots: K.
        generator: its name.
        measure: what `score` gives; shares are of its mean, for log-likelihoods of its exponential.
        seed: of the choice of the other passages.
        rendering: how the generator is given its passages.
        progress: wraps the loop over questions.

    Raises:
        InvalidInputError: questions without evidence or with too few passages.
    """
    source = random.Random(seed)  # noqa: S311
    check_questions(questions, slots, 1)
    scores = np.zeros((len(questions), slots))
    for number in progress(range(len(questions))):
        question = questions[number]
        others = [i for i in range(len(question.passages)) if i not in question.gold]
        if not question.gold or len(others) < slots - 1:
            raise InvalidInputError(
                f"measuring {slots} slots needs a gold passage and {slots - 1} others per question, but question "
                f"{number + 1} has {len(question.gold)} gold of {len(question.passages)}; use fewer slots"
            )
        others = source.sample(others, slots - 1)
        for slot in range(slots):
            order = [*others[:slot], min(question.gold), *others[slot:]]
            text = prompt(question.text, [question.passages[i] for i in order], rendering)
            scores[number, slot] = score(text, question.answers)
    means = scores.mean(0)
    useful = np.exp(means - means.max()) if measure == "log-likelihood" else means
    shares = useful / useful.sum() if useful.sum() > 0 else np.full(slots, 1 / slots)
    provenance = {"method": measure, "questions": len(questions), "seed": seed, "mean_by_slot": means.tolist()}
    return PositionProfile(generator, tuple(map(float, shares)), None, measure, provenance=provenance)


def with_gains(
    profile: PositionProfile,
    score: Scorer,
    questions: Sequence[Question],
    *,
    measure: Measure = "log-likelihood",
    rank: Ranker | None = None,
    seed: int = 0,
    rendering: Rendering | None = None,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> PositionProfile:
    """The profile with what its order gains over unchanged, best-first and best-last, paired by question.

    Args:
        profile: whose order is tried.
        score: see `scorer`.
        questions: not those that the profile was made from.
        measure: what `score` gives.
        rank: a relevance per passage, higher is better; BM25 if None.
        seed: of the choice of passages (the evidence and others) and of the test.
        rendering: how the generator is given its passages.
        progress: wraps the loop over questions.

    Raises:
        InvalidInputError: fewer than 2 questions, or questions with fewer passages than slots.
    """
    check_questions(questions, profile.slots, 1)
    source = random.Random(seed)  # noqa: S311
    results: dict[str, list[float]] = {"profile": [], "unchanged": [], "best_first": [], "best_last": []}
    for number in progress(range(len(questions))):
        question = questions[number]
        gold = sorted(question.gold)[: profile.slots]
        others = [i for i in range(len(question.passages)) if i not in question.gold]
        chosen = sorted([*gold, *source.sample(others, min(len(others), profile.slots - len(gold)))])
        passages = [question.passages[i] for i in chosen]
        relevance = (rank or _bm25)(question.text, passages)
        ranked = [passages[i] for i in sorted(range(len(passages)), key=lambda i: -relevance[i])]
        orders = {
            "profile": arrange(ranked, order_of(profile.for_slots(len(ranked)))),
            "unchanged": passages,
            "best_first": ranked,
            "best_last": arrange(ranked, PRESETS["best_last"](len(ranked))),
        }
        # Two orders that happen to be the same are asked once.
        known: dict[str, float] = {}
        for name, order in orders.items():
            text = prompt(question.text, order, rendering)
            if text not in known:
                known[text] = score(text, question.answers)
            results[name].append(known[text])
    gains: dict[str, Gain] = {
        name: paired_gain(results["profile"], theirs, seed=seed)
        for name, theirs in results.items()
        if name != "profile"
    }
    means = {name: float(np.mean(values)) for name, values in results.items()}
    provenance = {**profile.provenance, "gain_questions": len(questions), "mean_by_order": means}
    return replace(profile, measure=measure, gains=gains, provenance=provenance)


def scorer(generator: Answerer, measure: Measure) -> Scorer:
    """How well a generator does with a prompt.

    Args:
        generator: with `generate`, or for log-likelihoods with `logprobs(prompt, continuation)`.
        measure: "accuracy": 1 if an accepted answer stands in what it generates, else 0. "log-likelihood": mean
            natural log-probability per token of the first accepted answer.

    Raises:
        InvalidInputError: the generator gives no log-probabilities.
    """
    if measure == "accuracy":

        def contains(text: str, answers: Sequence[str]) -> float:
            answer = plain(generator.generate(text))
            return float(any(plain(accepted) in answer for accepted in answers))

        return contains
    logprobs: Any = getattr(generator, "logprobs", None)
    if logprobs is None:
        raise InvalidInputError(
            f"{type(generator).__name__} gives no log-probabilities; measure by accuracy, or pass a generator with "
            "logprobs(prompt, continuation)"
        )
    return lambda text, answers: float(np.mean(logprobs(text, answers[0])))


def _bm25(question: str, passages: Sequence[Passage]) -> Sequence[float]:
    scores: list[float] = bm25(question, [f"{p.title} {p.text}" for p in passages]).tolist()
    return scores
