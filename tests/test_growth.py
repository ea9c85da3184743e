"""All work on somebody's text is linear in its length, whatever the text.

Each function that handles text runs on texts made to be slow, of 10,000 and 100,000 characters (and a million where
that is quick). `exponents` gives the table: the power of the length by which the time grows, at worst.
"""

import contextlib
import gc
import json
import math
import random
import re
import time
from collections.abc import Callable
from functools import cache

import numpy as np
import pytest

from ctxshaper import FakeReader, InjectionScreen, Parts, Unit
from ctxshaper.connectors.matching import find_loosely, longest_run
from ctxshaper.connectors.triples import kept_triples, triples_as_passages
from ctxshaper.data import Attention, Budget, Context, Looked, Passage, Span, Written
from ctxshaper.data.formats import format_of
from ctxshaper.errors import CtxshaperError
from ctxshaper.generators.redaction import Redactor
from ctxshaper.pipelines.recipes import Recipe
from ctxshaper.ranking.links import title_links
from ctxshaper.ranking.walks import name_links
from ctxshaper.stages.attention_rag.hint import by_rule, read_hint
from ctxshaper.stages.injection_screen.windows import windows_of
from ctxshaper.stages.s2a.answers import Answer, join, parse, written
from ctxshaper.stages.s2a.support import Source, numbers
from ctxshaper.text.languages import guess
from ctxshaper.text.segments import blocks, sentences
from ctxshaper.text.structures import Structure
from ctxshaper.text.structures.code_tree import block_structure, python_structure
from ctxshaper.text.structures.fences import fenced_structure
from ctxshaper.text.structures.html_tree import html_structure, visible
from ctxshaper.text.structures.json_tree import json_structure
from ctxshaper.text.structures.mail_tree import mail_structure
from ctxshaper.text.terms import terms
from ctxshaper.text.tokenization import encodable

Make = Callable[[int], str]


class Words:
    """Cuts a text into words, as a tokenizer does."""

    def data(self, text: str) -> tuple[list[int], np.ndarray]:
        found = [match.span() for match in re.finditer(r"\w+|\W", text)]
        return [0] * len(found), np.array(found).reshape(-1, 2)


def screened(passage: Passage) -> Context:
    """All sentences cut that hold a word of orders, and all others too."""
    stage = InjectionScreen(action="cut", threshold=-1.0)
    return stage(Context("q", (passage, passage.ranked(1)), len), Parts(reader=FakeReader()))


SMALL, LARGE, LARGEST = 10_000, 100_000, 1_000_000
# Ten times the text may take thirty times as long: clocks and caches are not exact; squares would take a hundred.
MOST = 30
# Times below NOISE are not compared: what takes less for SMALL is tried on LARGEST too, unless it takes more than QUICK
# for LARGE and that is clearly not the square.
NOISE, QUICK, CLEAR = 0.004, 0.02, 20
# What takes more than SLOW for SMALL is measured well by four times the text: ten times would take the suite minutes.
SLOW, FOURFOLD = 0.03, 40_000


def repeated(piece: str, before: str = "", after: str = "") -> Make:
    return lambda n: before + (piece * (n // len(piece) + 1))[:n] + after


def mixed(n: int) -> str:
    signs = "[]()!*_`\"'“”‘’.,;:?<>|-#\n \t\\0aZé字。「」~{}&=/+%@"
    return "".join(random.Random(n).choices(signs, k=n))


TEXTS: dict[str, Make] = (
    {
        "[ [a](b) [a](b)": repeated("[a](b)", before="["),
        "a    b": repeated(" ", "a", "b"),
        "- a, - a": repeated("- a\n"),
        "- a, - b below": repeated("- a\n  - b\n"),
        "> > >": repeated("\n> "),
        ".[1].[1]": repeated(".[1]"),
        ".***": repeated("*" * 18 + "a.", "."),
        "none !!!": repeated("!", "none", "x"),
        "sure sure": repeated("sure: "),
        "sure    :": repeated(" ", "sure", ":"),
        "Dr. Dr.": repeated("Dr. "),
        "1:1:1": repeated("1:"),
        "what what": repeated("what "),
        "who ???": repeated("?", "who is "),
        "a?a?": repeated("a?"),
        "of which , , ,": repeated(", ", "it is of which "),
        "“He. ”": repeated("“He. ” "),
        "。“": repeated("。“"),
        "a. 字。": repeated("a. 字。"),
        "code": repeated("x = f(a, 3)\n", "```\n", "\n```\n"),
        "a code fence that does not close": repeated("a\n", "```\n"),
        "<div>": repeated("<div>\n"),
        "a: b": repeated("a: b\n", "---\n"),
        '{"context": [[[': repeated("[", '{"context": ', "}"),
        '{"context": "\\"\\"': repeated('\\"', '{"context": "', '"}'),
        "&a *a": repeated("*a, ", "a: [&a b, ", "]"),
        "CONTEXT: QUESTION:": repeated("CONTEXT: a\nQUESTION: b\n"),
        "word word": repeated("word "),
        "3 a 3 a": repeated("3 a "),
        "prose": repeated("Ada Moreau designed the bridge, which is not old, in 1883. "),
        "marks on a letter": repeated("\u0315\u0300", "e"),
        "lone surrogates": repeated("\ud800"),
        "a,b,c": repeated("a,b,c\n"),
        'a,b,"': repeated("\n", 'a,b,"', ""),
        "log lines": repeated("2026-03-01 12:00:05 INFO a\n  at b\n"),
        "<div><p>": repeated("<div><p>"),
        "</p>": repeated("</p>"),
        "<a '": repeated("<a '"),
        '<a "x': repeated('"><a '),
        "<!--": repeated("<!--"),
        "<table><tr>": repeated("<table><tr><td>a"),
        "<b><i></b>": repeated("<b><i></b>"),
        "&amp;": repeated("&amp;"),
        "def f(x):": repeated("def f(x):\n    return x\n"),
        "if a:": repeated("if a:\n"),
        "> a": repeated("> a\n"),
        "a: b headers": repeated("a: b\n"),
        "mixed": mixed,
    }
    | {sign * 3: repeated(sign) for sign in "!(]“\"'`<|\\.-= \n字a1"}
    | {"|-|": repeated("|-|"), "![": repeated("![")}
)

FACT = "The cat sat on 3 mats, not here."


def refusing(function: Callable[[str], object]) -> Callable[[str], object]:
    """The function, of which a refusal is an answer too."""

    def call(text: str) -> object:
        with contextlib.suppress(CtxshaperError):
            return function(text)
        return None

    return call


FUNCTIONS: dict[str, Callable[[str], object]] = {
    "blocks": blocks,
    "sentences": sentences,
    "guess": guess,
    "terms": terms,
    "encodable": encodable,
    "answers.parse": parse,
    "answers.parse, labelled": lambda text: parse(f"CONTEXT: {text}\nQUESTION: {text}"),
    "answers.written": lambda text: written(Answer(text)),
    "answers.join": lambda text: join(text.split(" ")),
    "hint.by_rule": by_rule,
    "hint.read_hint": lambda text: read_hint("Who sat?", text),
    "triples": lambda text: kept_triples(triples_as_passages([("a", "b", word) for word in text.split() or "c"])),
    "support: source": lambda text: Source(text).check(FACT),
    "support: sentence": lambda text: Source(FACT).check(text),
    "support: both": lambda text: Source(text).check(text),
    "support: spans": lambda text: Source(text, [Span(i, i + 1) for i in range(0, len(text), 50)]).sentences,
    "support: numbers": numbers,
    "links: names": lambda text: name_links("q", ["", text], [text, text], [text, text], np.array([0, 1])),
    "links: titles": lambda text: title_links([text, f"{text} ({text})"], ["b", text], np.array([0, 1])),
    "citations: find_loosely": lambda text: find_loosely([text], text[len(text) // 2 :] + "z"),
    "citations: longest_run": lambda text: longest_run([text], text[len(text) // 2 :] + "z"),
    "redaction": Redactor(["sk-a!a(a.a-a"]),
    "format_of": lambda text: format_of(text, {}),
    "structures: JSON": lambda text: chosen(json_structure(json.dumps({"a": [text, {"b": text.split("a")}]}))),
    "structures: HTML": lambda text: chosen(html_structure(text)),
    "structures: what is seen of HTML": visible,
    "structures: Python": lambda text: chosen(python_structure(text)),
    "structures: code": lambda text: chosen(block_structure(text)),
    "structures: e-mail": lambda text: chosen(mail_structure(f"From: a\nSubject: b\n\n{text}")),
    "structures: fences": lambda text: fenced_structure(f"```\n{text}\n```\n"),
    "screening": lambda text: screened(Passage(text)),
    "screening: HTML": lambda text: screened(Passage(f"<p>{text}", metadata={"text_format": "html"})),
    "screening: windows": lambda text: windows_of([Passage(text)], [Unit(0, Span(0, len(text)))], Words(), 32),
    "page": lambda text: Context(
        "q", (Passage(text).rewrite([Written("a", (Span(0, 1),))]), Passage(text)), len
    ).to_html(),
    "page: heat": lambda text: Context("q", (Passage(text),), len).to_html(
        [Attention("all heads", (tuple(Looked(at, at + 4, at % 7) for at in range(0, len(text) - 4, 4)),))]
    ),
    "Budget.parse": refusing(Budget.parse),
    "Recipe.parse": refusing(Recipe.parse),
    "Recipe.parse, a value": refusing(lambda text: Recipe.parse(f"stages:\n  - GemFilter: {{unit: {text}}}")),
}


def chosen(structure: Structure) -> object:
    """Every other unit, completed."""
    return structure.completed(structure.units[::2])


def seconds(function: Callable[[str], object], text: str) -> float:
    # The garbage collector walks all objects of the process, those of other tests too, whenever many were made.
    gc.disable()
    started = time.process_time()
    try:
        function(text)
        return time.process_time() - started
    finally:
        gc.enable()


@cache
def made(make: Make, size: int) -> str:
    return make(size)


def growth(function: Callable[[str], object], make: Make) -> tuple[float, float]:
    """How many times as long ten times the text takes, and what the larger one took in seconds."""
    small = seconds(function, made(make, SMALL))
    if small > SLOW:
        large = seconds(function, made(make, FOURFOLD))
        if as_tenfold(large / small) > MOST:
            small, large = seconds(function, made(make, SMALL)), min(large, seconds(function, made(make, FOURFOLD)))
        return as_tenfold(large / small), large * LARGE / FOURFOLD
    large = seconds(function, made(make, LARGE))
    if large > MOST * max(small, NOISE):
        # What was measured beside other work may be too long, never too short.
        small, large = seconds(function, made(make, SMALL)), min(large, seconds(function, made(make, LARGE)))
    if small > NOISE or large > MOST * NOISE or CLEAR * small > large > QUICK:
        return large / max(small, NOISE / CLEAR), large
    largest = seconds(function, made(make, LARGEST))
    # Ten times as many objects leave the processor's cache, which costs up to twice as much for each.
    floor = max(large, 2 * NOISE)
    if largest > MOST * floor:
        largest = min(largest, seconds(function, made(make, LARGEST)))
    return largest / floor, largest


def texts_for(name: str) -> dict[str, Make]:
    """The texts that a function is tried on: of what screens HTML, tags; its parts are tried on all by themselves."""
    return {text: make for text, make in TEXTS.items() if "<" in text} if name == "screening: HTML" else TEXTS


def as_tenfold(ratio: float) -> float:
    """The ratio of times for ten times the text, of that for four times: by the same power of the length."""
    return 10 ** math.log(ratio, FOURFOLD / SMALL)


def exponents(names: list[str] | None = None) -> dict[str, tuple[float, str, float]]:
    """By function: the worst exponent, the text that it arises on, and seconds that the slowest text took."""
    table = {}
    for name in names or FUNCTIONS:
        rows = []
        for text, make in texts_for(name).items():
            ratio, took = growth(FUNCTIONS[name], make)
            rows.append((math.log10(max(ratio, 1e-9)), text, took))
        table[name] = (*max(rows)[:2], max(row[2] for row in rows))
    return table


@pytest.mark.parametrize("name", FUNCTIONS)
def test_time_grows_with_the_length_and_not_with_its_square(name):
    slow = {}
    for text, make in texts_for(name).items():
        ratio, took = growth(FUNCTIONS[name], make)
        if ratio > MOST or took > 10:
            slow[text] = f"{ratio:.0f} times as long, {took:.2f} s"
    assert not slow


def test_titles_of_many_passages_are_sought_in_one_pass():
    def seek(n: int) -> float:
        titles, texts = [f"Title {i}" for i in range(n)], [f"See title {n - 1 - i}, and so on." for i in range(n)]
        found = []
        took = seconds(lambda _: found.append(title_links(titles, texts, np.arange(n))), "")
        assert (found[0] == np.stack((np.arange(n), np.arange(n)[::-1]), 1)).all()
        return took

    # Of several, the quickest: what was measured beside other work may be too long, never too short.
    assert min(seek(4_000) for _ in range(3)) < MOST * max(seek(400), NOISE)


def test_a_check_that_measures_squares_would_fail():
    def growing(cost: int) -> float:
        ratio, _ = growth(lambda text: sum(1 for _ in range(len(text) ** 2 // cost)), repeated("ab"))
        return ratio

    # A million steps for SMALL, which FOURFOLD tells; ten million for LARGE; a quarter of one, which LARGEST tells.
    assert min(growing(100), growing(1_000), growing(40_000)) > MOST
