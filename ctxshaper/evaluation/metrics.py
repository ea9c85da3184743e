"""What a shaped context is judged by. Each measure names its source; all are higher-is-better unless they say not."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from ctxshaper.data import Context, Passage, Span, intersect, merge_spans
from ctxshaper.errors import InvalidInputError
from ctxshaper.evaluation.prompts import prompt
from ctxshaper.evaluation.questions import Question
from ctxshaper.generators import ScoringGenerator
from ctxshaper.stages.distraction_filter.abstention import Abstention

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = str.maketrans("", "", string.punctuation)


def plain(text: str) -> str:
    """A text for comparing: case folded, white space joined."""
    return " ".join(text.casefold().split())


def held(passages: Sequence[Passage]) -> dict[int | None, tuple[Span, ...]]:
    """What is kept of each passage, by its rank; of a generated text, what supports it."""
    spans: dict[int | None, list[Span]] = {}
    for passage in passages:
        spans.setdefault(passage.rank, []).extend(passage.spans)
    return {rank: merge_spans(kept) for rank, kept in spans.items()}


def sentence_recall(question: Question, shaped: Context) -> float | None:
    """Share of the supporting sentences that are kept whole; None where none is marked.

    Supporting facts are HotpotQA's (Yang et al., arXiv 1809.09600, section 2); whether a span is kept is this project's
    span overlap: every character of it.
    """
    kept = held(shaped.passages)
    hits = [any(s.start <= g.start and g.end <= s.end for s in kept.get(rank, ())) for rank, g in question.evidence]
    return float(np.mean(hits)) if hits else None


def character_recall(question: Question, shaped: Context) -> float | None:
    """Share of the supporting sentences' characters that are kept, mean over sentences; None where none is marked.

    Fair to methods that drop words inside sentences, which `sentence_recall` counts as lost. This project's own.
    """
    kept = held(shaped.passages)
    shares = [_characters(intersect([span], kept.get(rank, ()))) / len(span) for rank, span in question.evidence]
    return float(np.mean(shares)) if shares else None


def precision(question: Question, shaped: Context) -> float | None:
    """Share of what is kept, in characters, that supporting sentences hold; None where none is marked, or none is kept.

    Low by nature at a budget above the evidence's own length: at 30% of the text, whatever stands beside the evidence
    counts against it.
    """
    counts = _evidence_kept(question, shaped)
    return counts[0] / counts[1] if counts and counts[1] else None


def f2(question: Question, shaped: Context) -> float | None:
    """Precision and recall of what is kept, in characters, as one figure; None where no evidence is marked.

    F with beta 2, 5PR / (4P + R) (van Rijsbergen, Information Retrieval, 1979, chapter 7): recall weighs double, for
    what is lost costs an answer, and what is too much only tokens.
    """
    counts = _evidence_kept(question, shaped)
    if counts is None:
        return None
    hits, kept, marked = counts
    return 5 * hits / (kept + 4 * marked)


def _evidence_kept(question: Question, shaped: Context) -> tuple[int, int, int] | None:
    """Characters: of the evidence, kept; of all that is kept; of the evidence. None where no evidence is marked."""
    marked: dict[int, list[Span]] = {}
    for rank, span in question.evidence:
        marked.setdefault(rank, []).append(span)
    if not marked:
        return None
    kept, evidence = held(shaped.passages), {rank: merge_spans(spans) for rank, spans in marked.items()}
    hits = sum(_characters(intersect(spans, kept.get(rank, ()))) for rank, spans in evidence.items())
    return hits, sum(map(_characters, kept.values())), sum(map(_characters, evidence.values()))


def abstained(shaped: Context, threshold: float | None) -> float:
    """1 if nothing is kept, or `Context.answerable` lies below the threshold; else 0.

    Args:
        shaped: what a recipe made.
        threshold: `abstain` of the recipe's `EvidenceFilter`; None for a recipe without one. It counts here under fixed
            budgets too, where the recipe says what it thinks and keeps the budget's worth all the same.
    """
    doubted = threshold is not None and shaped.answerable is not None and shaped.answerable < threshold
    return float(doubted or not shaped.passages)


def passage_recall(question: Question, shaped: Context) -> float | None:
    """Share of the gold passages of which anything is kept; None where none is marked.

    Recall of relevant passages as in BEIR (Thakur et al., arXiv 2104.08663, section 3), with no cut-off but the budget.
    Where supporting sentences are marked, something of these must be kept: span overlap.
    """
    kept = held(shaped.passages)
    if question.evidence:
        marked: dict[int, list[Span]] = {}
        for rank, span in question.evidence:
            marked.setdefault(rank, []).append(span)
        hits = [any(s.overlaps(g) for s in kept.get(rank, ()) for g in spans) for rank, spans in marked.items()]
    else:
        hits = [bool(kept.get(rank)) for rank in question.gold]
    return float(np.mean(hits)) if hits else None


def answer_in_context(question: Question, shaped: Context) -> float | None:
    """1 if an accepted answer stands in the rendered text, else 0; None where no answer is known.

    Has-answer recall as in open-domain retrieval (Karpukhin et al., arXiv 2004.04906, section 4), by substring.
    """
    if not question.answers:
        return None
    text = plain(shaped.text)
    return float(any(plain(answer) in text for answer in question.answers))


def tokens_kept(shaped: Context) -> float:
    """Tokens of the shaped text as a share of those of the input, both by the generator's tokenizer; lower is cheaper.

    The compression ratio 1/tau of LLMLingua (Jiang et al., arXiv 2310.05736, section 3), over the rendered text.
    """
    return shaped.tokens / max(1, shaped.tokens_in)


def normalized(text: str) -> str:
    """A text as SQuAD compares answers: lower case, without punctuation and articles, white space joined."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(answer: str, accepted: Sequence[str]) -> float:
    """1 if a generated answer is an accepted one, else 0 (SQuAD, Rajpurkar et al., arXiv 1606.05250, section 6.1)."""
    return float(any(normalized(answer) == normalized(one) for one in accepted))


def f1(answer: str, accepted: Sequence[str]) -> float:
    """F1 of a generated answer's words, best over the accepted ones (SQuAD, arXiv 1606.05250, section 6.1)."""
    return max((_f1(normalized(answer).split(), normalized(one).split()) for one in accepted), default=0.0)


def _f1(ours: list[str], theirs: list[str]) -> float:
    if not ours or not theirs:
        return float(ours == theirs)
    shared = sum((Counter(ours) & Counter(theirs)).values())
    return 2 * shared / (len(ours) + len(theirs))


def answer_log_likelihood(generator: ScoringGenerator, question: Question, contexts: Sequence[Context]) -> list[float]:
    """Mean natural log-probability per token of the first accepted answer, given each of these contexts; at most 0.

    How likely the answer becomes with a context is RePlug's measure of that context (Shi et al., arXiv 2301.12652,
    section 4.1). The prompt is the one that position profiles are measured with. All contexts are asked as one batch,
    equal ones once.

    Raises:
        InvalidInputError: no answer is known.
        GeneratorError: the prompt does not fit into the generator's window.
    """
    if not question.answers:
        raise InvalidInputError(f"no answer is known to the question {question.text!r:.60}")
    prompts = [prompt(question.text, context.passages, context.rendering) for context in contexts]
    different = list(dict.fromkeys(prompts))
    values = generator.logprobs_batch([(one, question.answers[0]) for one in different])
    found = {one: float(np.mean(value)) for one, value in zip(different, values, strict=True)}
    return [found[one] for one in prompts]


def distraction(abstention: Abstention, question: Question, contexts: Sequence[Context]) -> list[float | None]:
    """Mean distracting effect of what is left of the passages, in [0, 1], lower is better; None where nothing is left.

    DE = 1 - P(abstain | query, passage) (Amiraz et al., arXiv 2505.06914, section 3). Passages that answer have a high
    effect too, so compare recipes at the same recall. What several contexts have in common is read once.
    """
    different = {(p.title, p.text): p for context in contexts for p in context.passages}
    effects = abstention.distracting(question.text, list(different.values()))
    found = dict(zip(different, effects.tolist(), strict=True))
    shares = [[found[p.title, p.text] for p in context.passages] for context in contexts]
    return [float(np.mean(effects)) if effects else None for effects in shares]


def disagreement(shaped: Sequence[Context]) -> float:
    """How much what is kept depends on the order of the passages; 0 is best.

    Args:
        shaped: the same question and budget, its passages in different orders; their `rank` says which they are.

    Returns:
        The Jaccard distance of the kept characters, mean over pairs, in [0, 1]. Lost in the Middle (Liu et al., arXiv
        2307.03172) measures order by answers; this measures it by what the generator gets to read.
    """
    kept = [held(context.passages) for context in shaped]
    distances = [_distance(a, b) for a, b in combinations(kept, 2)]
    return float(np.mean(distances)) if distances else 0.0


def _distance(ours: dict[int | None, tuple[Span, ...]], theirs: dict[int | None, tuple[Span, ...]]) -> float:
    shared = sum(_characters(intersect(spans, theirs.get(rank, ()))) for rank, spans in ours.items())
    total = sum(map(_characters, (*ours.values(), *theirs.values()))) - shared
    return 1 - shared / total if total else 0.0


def _characters(spans: Sequence[Span]) -> int:
    return sum(map(len, spans))


@dataclass(frozen=True, slots=True)
class BreakEven:
    """Where shaping begins to pay.

    Attributes:
        speed: a generator that reads fewer tokens per second than this answers sooner with shaping.
        price: a generator that costs more than this, in dollars per million tokens read, is cheaper with shaping.
    """

    speed: float
    price: float


def break_even(saved: float, seconds: float, machine_price: float) -> BreakEven:
    """At which speed and price of a generator shaping pays. Plain arithmetic: what is saved against what it takes.

    Args:
        saved: tokens that the generator need not read.
        seconds: that shaping takes.
        machine_price: dollars per hour of the machine that shapes.

    Raises:
        InvalidInputError: nothing is saved, or seconds or price are not positive.
    """
    if saved <= 0 or seconds <= 0 or machine_price <= 0:
        raise InvalidInputError(
            f"a break-even needs tokens saved, seconds and a price above 0, but got {saved}, {seconds}, {machine_price}"
        )
    return BreakEven(saved / seconds, seconds * machine_price / 3600 / saved * 1e6)
