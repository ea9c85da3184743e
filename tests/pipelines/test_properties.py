"""What holds for every stage and recipe over any text: exact spans, budgets, tiling, JSON, the same result each time.

`CTXSHAPER_CASES=10000` tries so many cases instead of 100.
"""

import json
import os
import random

import pytest

from ctxshaper import (
    AttnRank,
    Context,
    DistractionFilter,
    FakeGenerator,
    FakeReader,
    LanguageModel,
    Passage,
    Pipeline,
    Span,
)
from ctxshaper.data import gaps, intersect, merge_spans
from tests.stages.configured import ANSWER, CONFIGURED

CASES = int(os.environ.get("CTXSHAPER_CASES", "100"))
RECIPES = ["fast", "qa", "gemfilter", "attention_rag", "careful"]
WORDS = [
    "bridge",
    "Ada",
    "Moreau",
    "designed",
    "river.",
    "Nobody knew!",
    "3.5",
    "Dr.",
    "日本の橋。",
    "мост",
    "naïve",
    "👩‍👩‍👧",
    "e\u0315",
]
SIGNS = "[]()!*_`\"'“”.,;:?<>|-#\n \t\\{}&=/\x00\u2028\ud800\u3000\r\x85"


def prose(draw):
    return " ".join(draw.choice(WORDS) for _ in range(draw.randrange(1, 60)))


def soup(draw):
    return "".join(draw.choice([*WORDS, *SIGNS]) for _ in range(draw.randrange(1, 80)))


def hostile(draw):
    pieces = ["<div>", "[a](b)", "> ", "|-|", "“He. ", "```\n", "<!--", "a\u0300", "- a\n", '{"a":[', *SIGNS]
    return draw.choice(pieces) * draw.randrange(1, 300)


def document(draw):
    return json.dumps(
        [{"id": n, "name": draw.choice(WORDS), "text": prose(draw), "list": [draw.random(), None, {"a": soup(draw)}]}
         for n in range(draw.randrange(1, 8))],
        indent=draw.choice([None, 2]), ensure_ascii=draw.random() < 0.5,
    )  # fmt: skip


def page(draw):
    rows = "".join(f"<tr><td>{prose(draw)[:30]}</td><td>{n}</td></tr>" for n in range(draw.randrange(4)))
    items = "".join(f"<li>{prose(draw)}" for _ in range(draw.randrange(4)))
    words = f"<h1>{prose(draw)[:40]}</h1><p>{prose(draw)} <b>{soup(draw)}</b></p>"
    return f"<html><body>{words}<table>{rows}</table><ul>{items}</ul>"


def table(draw):
    sign = draw.choice(",\t;")
    return "".join(f"{n}{sign}{draw.choice(WORDS)}{sign}{draw.randrange(99)}\n" for n in range(draw.randrange(2, 30)))


def log(draw):
    lines = (f"2026-03-01 10:00:{n:02d} INFO {prose(draw)[:80]}\n" for n in range(draw.randrange(3, 30)))
    return "".join(line + draw.choice(["", "", "  at f(x)\n"]) for line in lines)


def markdown(draw):
    code = "\n\n".join(f"def f{n}():\n    return {n}" for n in range(draw.randrange(1, 30)))
    rest = f"- {prose(draw)}\n- {soup(draw)}\n\n| a | b |\n|---|---|\n| c | d |\n"
    return f"# {prose(draw)[:40]}\n\n{prose(draw)}\n\n```python\n{code}\n```\n\n{rest}"


def module(draw):
    body = "\n".join(f"    def m{n}(self):\n        return {n}\n" for n in range(draw.randrange(1, 30)))
    return f'import os\n\n# {draw.choice(WORDS)}\nclass Bridge:\n    """Doc."""\n\n{body}\n\ndef f(x):\n    return x\n'


def mail(draw):
    quoted = "".join(f"> {prose(draw)}\n" for _ in range(draw.randrange(4)))
    header = f"From: a@b.example\nSubject: {draw.choice(WORDS)}\nDate: Mon, 2 Mar 2026"
    return f"{header}\n\n{prose(draw)}\n\nAda wrote:\n{quoted}"


TEXTS = (prose, soup, hostile, document, page, table, log, markdown, module, mail)


@pytest.fixture(scope="module")
def pipelines(embedder, tiny_model):
    parts = {
        "reader": FakeReader(),
        "embedder": embedder,
        "language_model": LanguageModel(tiny_model("llama"), device="cpu", dtype="float32"),
        "generator": FakeGenerator(ANSWER),
    }
    every = [Pipeline([stage], **parts) for stage in CONFIGURED]
    every += [Pipeline.from_recipe(recipe, **parts, on_error="skip") for recipe in RECIPES]
    # What embeds sentences or runs a model behind every chunk takes a hundred times as long, and comes up less often.
    slow = [p for p in every if any(getattr(s, "embedding", False) is True or _by_chunks(s) for s in p.stages)]
    return [p for p in every if p not in slow], slow


def _by_chunks(stage):
    return getattr(stage, "reading", "") == "chunks"


def passages_of(draw):
    found = []
    for _ in range(draw.randrange(1, 5)):
        text = draw.choice(TEXTS)(draw)
        title = {"title": draw.choice(WORDS)} if draw.random() < 0.3 else {}
        passage = Passage(text, metadata=title)
        if text and draw.random() < 0.25:  # as an earlier stage left it
            starts = sorted(draw.sample(range(len(text) + 1), min(len(text) + 1, 4)))
            passage = passage.keep(Span(a, b) for a, b in zip(starts[::2], starts[1::2], strict=False))
        found.append(passage)
    return found


def facts(context):
    return context.text, context.tokens, [(p.rank, p.pieces) for p in context.passages], context.warnings


def check(pipeline, draw):
    given = passages_of(draw)
    budget = draw.choice([1, 5, 20, 60, 200, "15%", "30%", "50%", "auto", None])
    query = draw.choice(["Who designed the bridge?", "m7 f3 id", "мост", "橋は誰が", soup(draw) + "?"])
    shaped = pipeline.shape(query, given, budget)
    limit = shaped.budget.limit(shaped.tokens_in)
    assert limit is None or shaped.tokens <= limit
    assert shaped.tokens == (shaped.count(shaped.text) if shaped.text else 0)
    for passage in shaped.passages:
        original = given[passage.rank]
        assert passage.source == original.source
        assert intersect(passage.spans, original.spans) == passage.spans, "text came back"
    written = any(passage.generated for passage in shaped.passages)
    if not written:
        kept = {passage.rank: passage.spans for passage in shaped.passages}
        gone: dict[int, list[Span]] = {}
        for stage in shaped.trace.stages:
            for decision in stage.dropped:
                gone.setdefault(decision.passage, []).append(decision.span)
        for rank, original in enumerate(given):
            told = merge_spans([*kept.get(rank, ()), *gone.get(rank, [])])
            assert not gaps(original.spans, told), "something is gone without a word"
    if not shaped.text.strip() and any(passage.text.strip() for passage in given):
        assert shaped.warnings, "emptied without a word"
    assert facts(Context.from_json(shaped.to_json(), shaped.count)) == facts(shaped)
    assert facts(pipeline.shape(query, given, budget)) == facts(shaped)
    # What shapes by a rule of its own, whatever the budget, shapes what is left of it again: so many tokens, an order,
    # what misleads.
    by_budget = not any(getattr(s, "k", None) or isinstance(s, (AttnRank, DistractionFilter)) for s in pipeline.stages)
    if limit is not None and shaped.passages and by_budget:
        again = pipeline.shape(query, shaped.passages, limit)
        assert again.text == shaped.text


def test_promises_hold_over_any_text(pipelines):
    quick, slow = pipelines
    for seed in range(CASES):
        draw = random.Random(seed)
        pipeline = slow[seed // 20 % len(slow)] if seed % 20 == 0 else quick[seed % len(quick)]
        try:
            check(pipeline, draw)
        except Exception as error:
            raise AssertionError(f"case {seed}, {pipeline!r}: {type(error).__name__}: {error}") from error
