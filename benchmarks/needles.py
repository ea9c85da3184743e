"""Where words do not help, and where text is long: needles that share no word with the question, long documents.

Needles (the idea of NoLiMa, arXiv 2502.05167; these are made up here): 40 sentences, each about another person, are
strewn over some 10,000 tokens of made-up passages; of each a question is asked that shares no word of content with it.
Kept is the share of needles that still stand in the text. Everything is about somebody, so only knowledge tells the
needle from the others.

A long document (the form of LooGLE, arXiv 2311.04939): HotpotQA's passages, shuffled, one behind the other under their
titles, until 100,000 tokens are full; it is cut as `ctxshaper eval` cuts a document, read once, and asked 10 questions.
Kept is the share of the supporting sentences that are kept whole.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import yaml

from benchmarks.questions import DATA, HOTPOT, evidence_kept, load
from benchmarks.table import Table
from ctxshaper import Context, Embedder, Passage, Pipeline, Reader, Span
from ctxshaper.calibration.made_up import synthetic_questions, worlds
from ctxshaper.evaluation.baselines import baseline
from ctxshaper.evaluation.loaders import load_questions
from ctxshaper.evaluation.paired import interval
from ctxshaper.evaluation.questions import Question

METHODS = ("fast", "qa", "bm25", "minilm")
SHARES = ("1%", "3%", "5%", "15%")
_FILE = Path(__file__).parent / "data" / "needles.yaml"


def options(parser: argparse.ArgumentParser) -> None:
    """What can be asked for."""
    parser.add_argument("--data", type=Path, default=DATA, help="the folder of the labelled questions")
    parser.add_argument("--tokens", type=int, default=100_000, help="of the long document")
    parser.add_argument("--questions", type=int, default=10, help="asked of the long document")
    parser.add_argument("--seeds", type=int, default=3, help="so many haystacks")


def run(arguments: argparse.Namespace) -> list[Table]:
    """Two tables, with 95% intervals, and what a question takes once the text is known."""
    reader, embedder = Reader(), Embedder()
    haystacks = [haystack(seed) for seed in range(arguments.seeds)]
    tables = [compared("needles without a shared word", haystacks, reader, embedder)]
    if (arguments.data / "hotpotqa_100.json").is_file():
        questions = load(arguments.data, [HOTPOT])[HOTPOT]
        asked = long_document(questions, arguments.tokens, arguments.questions, reader)
        tables.append(compared(f"a document of {arguments.tokens:,} tokens", [asked], reader, embedder))
    return tables


def needles() -> list[dict[str, str]]:
    """The needles as they are written down: `needle`, with a place for a name, and `ask`."""
    found: list[dict[str, str]] = yaml.safe_load(_FILE.read_text(encoding="utf-8"))
    return found


def haystack(seed: int) -> list[Question]:
    """All needles' questions over the same passages, in which each needle stands once."""
    draw = random.Random(seed)  # no secret
    world = worlds()["en"]
    written = needles()
    names = draw.sample([f"{g} {f}" for g in world["given"] for f in world["family"]], len(written))
    hay = [p for q in synthetic_questions(12, languages=["en"], seed=seed) for p in q.passages]
    draw.shuffle(hay)
    texts = [passage.source for passage in hay]
    places = {}
    for number, (place, (one, name)) in enumerate(
        zip(draw.sample(range(len(texts)), len(written)), zip(written, names, strict=True), strict=True)
    ):
        said = one["needle"].format(name=name)
        start = texts[place].index(". ") + 2
        texts[place] = f"{texts[place][:start]}{said} {texts[place][start:]}"
        places[number] = place, Span(start, start + len(said))
    passages = tuple(Passage(text, metadata=p.metadata) for text, p in zip(texts, hay, strict=True))
    return [
        Question(one["ask"], (), passages, frozenset([places[n][0]]), (places[n],), f"{seed}, {n}")
        for n, one in enumerate(written)
    ]


def long_document(questions: Sequence[Question], tokens: int, count: int, reader: Reader) -> list[Question]:
    """The first questions, asked of one document that holds their passages and those of others."""
    draw = random.Random(0)  # no secret
    parts = [(p, q in questions[:count]) for q in questions for p in q.passages]
    needed = [p for p, own in parts if own]
    others = [p for p, own in parts if not own]
    draw.shuffle(others)
    chosen, held = list(needed), sum(reader.count_tokens(p.source) for p in needed)
    for passage in others:
        if held >= tokens:
            break
        chosen.append(passage)
        held += reader.count_tokens(passage.source)
    draw.shuffle(chosen)
    document = {
        "title": "A document",
        "input": "\n\n".join(f"{p.title}\n\n{p.source}" for p in chosen),
        "qa_pairs": [
            {
                "Q": q.text,
                "A": q.answers[0],
                "S": [q.passages[rank].source[span.start : span.end] for rank, span in q.evidence],
            }
            for q in questions[:count]
        ],
    }
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "long.jsonl"
        file.write_text(json.dumps(document), encoding="utf-8")
        return load_questions(file)


def compared(title: str, sets: Sequence[Sequence[Question]], reader: Reader, embedder: Embedder) -> Table:
    """Evidence kept by method and share; seconds of the first question, milliseconds of a further one."""
    rows: dict[str, dict[str, float]] = {}
    notes = []
    for name in METHODS:
        parts = {"reader": reader, "embedder": embedder}
        made = Pipeline.from_recipe(name, **parts) if name in ("fast", "qa") else Pipeline([baseline(name)], **parts)
        reader.cache.clear()
        embedder.forget()
        kept: dict[str, list[float]] = {share: [] for share in SHARES}
        first, further = [], []
        for questions in sets:
            for place, question in enumerate(questions):
                for share in SHARES:
                    started = time.perf_counter()
                    shaped: Context = made.shape(question.text, question.passages, share)
                    taken = time.perf_counter() - started
                    kept[share].append(evidence_kept(question, shaped))
                    if share == SHARES[0]:
                        (further if place else first).append(taken)
        rows[name] = {share: statistics.mean(values) for share, values in kept.items()}
        rows[name] |= {"first, s": statistics.median(first), "further, ms": 1e3 * statistics.median(further)}
        bounds = ", ".join("{} [{:.2f}, {:.2f}]".format(share, *interval(values)) for share, values in kept.items())
        notes.append(f"{name}: {bounds}.")
    return Table(f"{title}, {sum(map(len, sets))} questions", rows, ["95% intervals. " + " ".join(notes)])
