"""Steering of the local generator: how likely the right answer becomes, and what a written token costs.

Every question is asked behind its whole context, with what the recipe `qa` keeps at 30% marked, and behind that shaped
context alone, all of it marked. The likelihood is the embedded generator's mean log-probability per token of the first
accepted answer; each steering is compared question by question with no steering (95% bootstrap interval, sign-flip
test). "made up" are the questions of `calibrate_heads`, answered by the sentence that holds the evidence, other ones
than those of the fit: strengths are chosen by them, so that they and the rows of the other sets tell different things.

A token's time is that of a written token after the first, one prompt at a time; "reading" is the first token's, prompt
included.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch

from benchmarks.questions import DATA, HOTPOT, NATURAL, context_of, load
from benchmarks.table import Table
from ctxshaper import Context, LanguageModel, LocalGenerator, Pipeline
from ctxshaper.calibration.made_up import synthetic_questions
from ctxshaper.calibration.steering import calibrate_heads
from ctxshaper.data import Marked
from ctxshaper.evaluation.paired import paired_gain
from ctxshaper.evaluation.prompts import framed
from ctxshaper.evaluation.questions import Question
from ctxshaper.generators.steering import (
    ACT,
    PASTA,
    AttentionBuckets,
    FocusDirections,
    HeadSteering,
    Steering,
    SteeringProfile,
    ZeroTuning,
)

MADE_UP = "made up"
# The fit takes the seed 0.
_SEED, _MADE_UP_QUESTIONS = 1, 60
_WRITTEN = 33


def options(parser: argparse.ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of the labelled questions")
    parser.add_argument("--sets", nargs="+", choices=(MADE_UP, HOTPOT, NATURAL), default=(MADE_UP, HOTPOT, NATURAL))
    parser.add_argument("--limit", type=int, default=100, help="questions of each set")
    parser.add_argument("--only", default="", help="methods whose name contains this")
    parser.add_argument("--timed", type=int, default=5, help="questions whose answers are timed; 0 for none")
    parser.add_argument("--contexts", type=Path, default=Path("steering.jsonl"), help="shaped contexts, one a line")
    parser.add_argument("--shape-only", action="store_true", help="shape what that file lacks, and measure nothing")
    parser.add_argument(
        "--calibrate", type=Path, metavar="FILE", help="fit the heads first, write them there, use them"
    )


def methods(profile: SteeringProfile) -> dict[str, Steering]:
    """What is compared: each method at the strength of its paper, and at others."""
    heads = list(profile.heads)
    known = {(head.layer, head.head) for head in heads}
    # As many heads of the same layers that are no contextual ones.
    others = random.Random(0).sample([(h.layer, n) for h in heads for n in range(9) if (h.layer, n) not in known], 20)
    control = replace(profile, heads=tuple(replace(heads[0], layer=i, head=n) for i, n in dict.fromkeys(others)))
    found: dict[str, Steering] = {f"PASTA alpha={a}": PASTA(profile=profile, alpha=a) for a in (0.01, 0.1, 0.3, 0.6)}
    found |= {f"PASTA alpha={a}, 5 heads": PASTA(profile=profile, alpha=a, top=5) for a in (0.01, 0.1)}
    found["PASTA alpha=0.1, 40 heads"] = PASTA(profile=profile, alpha=0.1, top=40)
    found["PASTA alpha=0.1, other heads"] = PASTA(profile=control, alpha=0.1)
    found |= {f"FocusDirections {f}": FocusDirections(profile=profile, factor=f) for f in (0.2, 0.5, 1.0, 2.0)}
    found |= {f"ZeroTuning {r}": ZeroTuning(profile=profile, rate=r) for r in (0.3, 0.5, 0.8, 1.2, 1.5)}
    found |= {f"ACT beta={b}": ACT(profile=profile, beta=b) for b in (0.0, 0.4, 0.7)}
    found |= {f"AttentionBuckets {n}": AttentionBuckets(copies=n) for n in (2, 3)}
    return found


def run(arguments: argparse.Namespace) -> list[Table]:
    """A table for each set, and one of times."""
    asked = {name: questions_of(name, arguments) for name in arguments.sets}
    shaped = {name: contexts_of(name, questions, arguments.contexts) for name, questions in asked.items()}
    if arguments.shape_only:
        return []
    model = LanguageModel(dtype="float32")
    profile = SteeringProfile.shipped(model.name) if arguments.calibrate is None else calibrate_heads(model)
    if arguments.calibrate is not None:
        profile.save(arguments.calibrate)
    chosen: dict[str, Steering | None] = {"no steering": None}
    chosen |= {name: one for name, one in methods(profile).items() if arguments.only in name}
    generators = {name: LocalGenerator(model, max_new_tokens=_WRITTEN, steering=one) for name, one in chosen.items()}
    check(model, profile, next(iter(shaped.values()))[0])
    timed = [pair for name in asked if name != MADE_UP for pair in zip(asked[name], shaped[name], strict=True)]
    tables = []
    if arguments.timed and timed:
        tables.append(times(timed[: arguments.timed], generators))
        print(f"\n{tables[-1]}", flush=True)
    for name, questions in asked.items():
        tables.append(likelihoods(name, questions, shaped[name], generators))
        print(f"\n{tables[-1]}", flush=True)  # a run that is cut off keeps what it found
    return tables


def neutral(profile: SteeringProfile) -> list[HeadSteering]:
    """Each method at the strength that changes nothing."""
    return [
        PASTA(profile=profile, alpha=1.0),
        FocusDirections(profile=profile, factor=0.0),
        ZeroTuning(profile=profile, rate=1.0),
        ACT(profile=profile, beta=1.0),
    ]


def check(model: LanguageModel, profile: SteeringProfile, context: Context) -> None:
    """End here if a strength that should change nothing changes something, or one that should changes nothing."""
    pair = (framed(context.query, context.marked()), "It is so.")
    (plain,) = model.logprobs_batch([pair])
    for steering in neutral(profile):
        found = LocalGenerator(model, steering=steering).logprobs(*pair)
        assert max(abs(a - b) for a, b in zip(found, plain, strict=True)) < 1e-2, (steering, found, plain)
    assert LocalGenerator(model, steering=PASTA(profile=profile)).logprobs(*pair) != plain


def questions_of(name: str, arguments: argparse.Namespace) -> list[Question]:
    """The first questions of a set."""
    every = made_up_questions() if name == MADE_UP else load(arguments.data, [name])[name]
    return every[: arguments.limit]


def contexts_of(name: str, questions: Sequence[Question], file: Path) -> list[Context]:
    """Their contexts at 30%, as the recipe `qa` shapes them; those that the file lacks are shaped and added to it."""
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    known = {(line["set"], line["question"]): line["context"] for line in map(json.loads, lines)}
    pipeline: Pipeline | None = None
    found = []
    for number, question in enumerate(questions):
        given = context_of(question, len).passages
        if (name, number) not in known:
            pipeline = pipeline or Pipeline.from_recipe("qa")
            known[name, number] = json.loads(pipeline.shape(question.text, given, "30%").to_json())
            with file.open("a", encoding="utf-8") as out:
                out.write(json.dumps({"set": name, "question": number, "context": known[name, number]}) + "\n")
        # The tokens were counted when it was shaped; what was given does not stand in the file.
        found.append(replace(Context.from_json(json.dumps(known[name, number]), len), given=given))
    return found


def made_up_questions() -> list[Question]:
    """Questions that the fit did not see, each answered by the first sentence of its evidence."""
    found = []
    for one in synthetic_questions(_MADE_UP_QUESTIONS, languages=["en"], seed=_SEED):
        places = [(rank, span) for rank, spans in enumerate(one.gold) for span in spans]
        rank, span = places[0]
        answer = one.passages[rank].source[span.start : span.end]
        found.append(Question(one.query, (answer,), one.passages, frozenset(rank for rank, _ in places), tuple(places)))
    return found


def prompts(question: Question, context: Context) -> tuple[Marked, Marked]:
    """The whole context with what is kept marked, and what is kept alone."""
    return framed(question.text, context.marked(whole=True)), framed(question.text, context.marked())


def likelihoods(
    name: str, questions: Sequence[Question], contexts: Sequence[Context], generators: dict[str, LocalGenerator]
) -> Table:
    """Mean log-likelihood of the right answer, and the paired gain over no steering."""
    rows: dict[str, dict[str, float]] = {}
    plain: dict[str, list[float]] = {}
    both = [prompts(question, context) for question, context in zip(questions, contexts, strict=True)]
    for method, generator in generators.items():
        figures: dict[str, float] = {}
        for place, context_kind in enumerate(("whole", "shaped")):
            pairs = [(two[place], question.answers[0]) for two, question in zip(both, questions, strict=True)]
            found = [statistics.mean(row) for row in generator.logprobs_batch(pairs)]
            figures[context_kind] = statistics.mean(found)
            if generator.steering is not None:
                gain = paired_gain(found, plain[context_kind])
                figures |= {
                    f"gain, {context_kind}": gain.gain,
                    f"{context_kind}, from": gain.low,
                    f"{context_kind}, to": gain.high,
                    f"{context_kind}, p": gain.p,
                }
            else:
                plain[context_kind] = found
        rows[method] = figures
    count = next(iter(generators.values())).count_tokens
    share = statistics.mean(count(context.text) / context.tokens_in for context in contexts)
    return Table(f"{name}, {len(questions)} questions", rows, (f"Tokens kept by `qa`: {share:.1%}.",))


def times(asked: Sequence[tuple[Question, Context]], generators: dict[str, LocalGenerator]) -> Table:
    """Milliseconds of reading a prompt and of each written token behind it, medians over prompts."""
    rows: dict[str, dict[str, float]] = {}
    for method, generator in generators.items():
        one = LocalGenerator(generator.language_model, max_new_tokens=1, steering=generator.steering)
        figures: dict[str, float] = {}
        for place, context_kind in enumerate(("whole", "shaped")):
            # What is asked for takes more tokens than are written.
            texts = [prompts(q, c)[place] + "\n\nCount from one to two hundred in words." for q, c in asked]
            one.generate(texts[0])
            reading, token = [], []
            for text in texts:
                (first, _), (whole, answer) = answered(one, text), answered(generator, text)
                written = generator.count_tokens(answer) - 1
                reading.append(first * 1000)
                if written > 8:
                    token.append((whole - first) * 1000 / written)
            figures[f"{context_kind}, reading ms"] = statistics.median(reading)
            if token:
                figures[f"{context_kind}, ms a token"] = statistics.median(token)
        rows[method] = figures
    device = next(iter(generators.values())).language_model.device
    where = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{torch.get_num_threads()} CPU threads"
    return Table("time", rows, (f"{len(asked)} prompts, float32, {where}.",))


def answered(generator: LocalGenerator, text: str) -> tuple[float, str]:
    """Seconds that an answer took, and the answer."""
    started = time.perf_counter()
    answer = generator.generate(text)
    return time.perf_counter() - started, answer
