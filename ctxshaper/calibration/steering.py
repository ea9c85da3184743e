"""Finds the heads that look at passages which answer, and fits where to push their queries (arXiv 2503.23306)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ctxshaper.calibration.focus_fit import Looking, fit_directions, gold_mass
from ctxshaper.calibration.made_up import EvidenceQuestion, synthetic_questions
from ctxshaper.data import Context, Marked, Span
from ctxshaper.data.marked import kept_marks
from ctxshaper.errors import InvalidInputError
from ctxshaper.evaluation.prompts import framed
from ctxshaper.generators.steering import ContextualHead, SteeringProfile
from ctxshaper.models.attention import causal
from ctxshaper.models.language_model import LanguageModel

_ANSWER_TOKENS = 24
# A profile is a small file.
_DIGITS = 4


@dataclass
class AnswerRows:
    """Reads a prompt with its answer, and keeps what the answer's tokens attend to.

    Attributes:
        gold: [T] which tokens lie in passages that answer.
        other: [T] which lie in the other passages.
        first: the first row of the answer: that of the token in front of it, which predicts it.
        heads: the (layer, head) whose queries and keys are kept.
        score: by layer, [H] share of the attention on gold, less that on as much other text, mean over the answer's
            rows; filled by the reading.
        kept: of the `heads`, queries [R, D] and keys [T, D], both float32; filled by the reading. Queries carry what
            the model's scale is more than the root of the width.
    """

    gold: Tensor
    other: Tensor
    first: int
    heads: Sequence[tuple[int, int]] = ()
    score: list[Tensor] = field(default_factory=list)
    kept: dict[tuple[int, int], tuple[Tensor, Tensor]] = field(default_factory=dict)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float, softcap: float | None) -> Tensor:
        """See `AttentionCall`."""
        group = q.shape[0] // k.shape[0]
        asked, keys = q[:, self.first :].float(), k.float().repeat_interleave(group, 0)
        on_gold, on_other = (gold_mass(asked, keys, tokens, scale, softcap) for tokens in (self.gold, self.other))
        self.score.append(on_gold - on_other * self.gold.sum() / self.other.sum().clamp(min=1))
        for head in (head for of, head in self.heads if of == layer):
            self.kept[layer, head] = asked[head] * (scale * q.shape[2] ** 0.5), keys[head]
        return causal(q, k, v, scale, softcap)


def calibrate_heads(
    model: LanguageModel,
    questions: Sequence[EvidenceQuestion] | None = None,
    *,
    keep: int = 40,
    directions: int = 20,
    progress: Callable[[Iterable[int]], Iterable[int]] = iter,
) -> SteeringProfile:
    """Find a model's contextual heads, and fit focus directions for the best.

    A head's contextual score is the share of the attention of the tokens of the model's own greedy answer that lies on
    the passages that answer, less that on as much text of the others, mean over tokens and questions (Focus Directions,
    arXiv 2503.23306; it has 20 passages and subtracts nothing, but of few passages a head that looks everywhere would
    seem to look at those that answer). A direction is what, added to all queries of a head after rotary, raises the
    share on passages that answer most; each head's is fitted alone.

    Args:
        model: whose heads.
        questions: with known evidence; None for 60 made-up ones in English.
        keep: so many heads, the best, are kept.
        directions: for so many of them a direction is fitted; 0 for none.
        progress: wraps the loops over questions, for a progress bar.

    Raises:
        InvalidInputError: no questions, or none with evidence.
        UnsupportedModelError: an attention that cannot be read.
        GeneratorError: a question does not fit into the model's window.
    """
    asked = [q for q in questions or synthetic_questions(60, languages=["en"]) if any(q.gold)]
    if not asked:
        raise InvalidInputError("contextual heads are found by questions with known evidence, but got none")
    prompts = [_prompt(question, answers=True) for question in asked]
    answers = model.generate_batch(prompts, max_new_tokens=_ANSWER_TOKENS)
    read = [_tokens(model, question, answer) for question, answer in zip(asked, answers, strict=True)]
    longest, limit = max(len(one.ids) for one in read), model.decoder().max_context
    if limit is not None and longest > limit:
        raise InvalidInputError(
            f"a prompt has {longest} tokens, but {model.name} sees {limit} at once; use questions with shorter passages"
        )
    found = [torch.stack(_read(model, read[i]).score).cpu().numpy() for i in progress(range(len(read)))]
    score: NDArray[np.float64] = np.mean(found, axis=0)
    order = np.argsort(-score, axis=None)[:keep]
    best = [(int(i) // score.shape[1], int(i) % score.shape[1]) for i in order]
    fitted, gain = _directions(model, read, best[:directions], progress)
    heads = tuple(
        ContextualHead(layer, head, round(float(score[layer, head]), _DIGITS), fitted.get((layer, head), ()))
        for layer, head in best
    )
    told = {
        "questions": len(asked),
        "made_up": questions is None,
        "score_of_all_heads": round(float(score.mean()), _DIGITS),
        "above_0.1": int((score > 0.1).sum()),
        "above_0.2": int((score > 0.2).sum()),
        "gold_mass_with_directions": gain,
    }
    return SteeringProfile(model.name, heads, told)


@dataclass(frozen=True, eq=False)
class _Read:
    ids: list[int]
    gold: Tensor
    other: Tensor
    first: int


def _prompt(question: EvidenceQuestion, *, answers: bool) -> Marked:
    """The prompt with the passages that answer marked, or the others."""
    passages = [passage.ranked(rank) for rank, passage in enumerate(question.passages)]
    wanted = {
        p.rank: [Span(0, len(p.source))] for p, g in zip(passages, question.gold, strict=True) if bool(g) == answers
    }
    context = Context(question.query, tuple(passages), len)
    return framed(question.query, Marked(context.text, kept_marks(context.rendering, passages, wanted)))


def _tokens(model: LanguageModel, question: EvidenceQuestion, answer: str) -> _Read:
    (ids, gold), (_, other) = (model.chat.encode_marked(_prompt(question, answers=which)) for which in (True, False))
    tail = model.encoder.data(answer)[0] or ids[-1:]
    on_gold, on_other = (torch.tensor([*marks, *[False] * len(tail)], device=model.device) for marks in (gold, other))
    return _Read(ids + tail, on_gold, on_other, len(ids) - 1)


def _read(model: LanguageModel, one: _Read, heads: Sequence[tuple[int, int]] = ()) -> AnswerRows:
    call = AnswerRows(one.gold, one.other, one.first, heads)
    model.run(one.ids, range(len(one.ids)), call)
    return call


def _directions(
    model: LanguageModel,
    read: Sequence[_Read],
    heads: Sequence[tuple[int, int]],
    progress: Callable[[Iterable[int]], Iterable[int]],
) -> tuple[dict[tuple[int, int], tuple[float, ...]], list[float]]:
    """A direction for each head, and the gold mass of all without and with them, on the questions of the fit."""
    if not heads:
        return {}, []
    cases = []
    for number in progress(range(len(read))):
        kept = _read(model, read[number], heads).kept
        q, k = (torch.stack([kept[head][i] for head in heads]) for i in (0, 1))
        cases.append(Looking(q, k, read[number].gold))
    found, gain = fit_directions(cases)
    rounded = (tuple(round(value, _DIGITS) for value in row) for row in found.tolist())
    return dict(zip(heads, rounded, strict=True)), [round(value, _DIGITS) for value in gain]
