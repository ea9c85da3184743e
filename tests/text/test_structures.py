"""Structured text is cut along its structure, and what is kept of it is still well formed."""

import ast
import json
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.structured import parses
from ctxshaper import EvidenceFilter, FakeReader, InvalidInputError, Passage, Pipeline, Span
from ctxshaper.text.structures import structure_of
from ctxshaper.text.structures.html_tree import runs, visible

JSON = json.dumps(
    {
        "service": {"name": "alpha", "port": 8080, "hosts": ["a.example", "b.example"], "notes": ["x" * 50] * 8},
        "users": [{"id": n, "name": f"user {n}", "bio": 'She said "hi"\nand left. ' * 20} for n in range(4)],
    },
    indent=2,
)
HTML = """<!doctype html><html><head><title>Bridges &amp; more</title><style>p{color:red}</style>
<script>var a = "<p>";</script></head><body><nav><a href="/x">Home</a></nav><div class="c"><h1>Bridges</h1>
<p>The bridge was designed by <b>Ada Moreau</b> in 1883. It is <a href="http://x">old</a>.</p><h2>Table</h2>
<table><tr><th>Name<th>Year</tr><tr><td>Pont</td><td>1883</td></tr><tr><td>Ponte</td><td>1900</td></tr></table>
<ul><li>one <i>two</i><li>three<ul><li>four</ul></ul><!-- hidden --></div></body></html>"""
PYTHON = '''"""Bridges."""
import os

LIMIT = 3  # of all


# What spans a river.
class Bridge:
    """A bridge."""

    def __init__(self, name):
        self.name = name

    @property
    def length(self):
        """Metres."""
        return 3


def build(a, b):
    """Builds."""
''' + "".join(f"    value{n} = a + {n}\n" for n in range(60))
MAIL = """From: Ada <ada@example.org>
To: Ben <ben@example.org>
Subject: The bridge
  and the river
Date: Mon, 2 Mar 2026 10:00:00 +0100

Hi Ben,

the bridge opens on Friday. Please come.

On Sunday Ben wrote:
> When does it open?
> I forgot.
"""
GO = """package main

import "fmt"

// greets
func hello() {
	fmt.Println("hi");
}

func bye() {
	fmt.Println("bye");
}
"""
FENCED = "# Doc\n\nProse about code.\n\n```python\n" + "\n\n".join(f"def f{n}():\n    return {n}" for n in range(30))
FENCED += "\n```\n\nMore prose. And more.\n"


def units(text):
    found = structure_of(Passage(text))
    return [text[unit.start : unit.end] for unit in found.units]


def shaped(text, question, budget):
    return Pipeline([EvidenceFilter()], reader=FakeReader()).shape(question, [text], budget)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (JSON, "json"),
        ('{"a": 1}\n{"a": 2}\n', "json"),
        ('{"a": 1', "prose"),
        ("[1] says so, and [2] too: {x}", "prose"),
        (HTML, "html"),
        ("<p>One.</p>", "html"),
        ("a < b and c > d", "prose"),
        ("<div> is a tag of HTML.", "prose"),
        (PYTHON, "python"),
        ("class of 1990:\nmany came from far.\nThey import goods and sell them.\n", "prose"),
        (GO, "code"),
        (MAIL, "mail"),
        ("Note: this is prose.\nSubject: to change.\n", "prose"),
        (FENCED, "prose"),
        ("a,b,c\n1,2,3\n4,5,6\n", "table"),
        ("2026-03-01 a\n2026-03-01 b\n2026-03-01 c\n", "log"),
        ("", "prose"),
    ],
)
def test_the_format_is_seen(text, expected):
    assert Passage(text).format == expected


def test_the_metadata_outranks_what_is_seen():
    assert Passage(PYTHON, metadata={"text_format": "prose"}).format == "prose"
    assert structure_of(Passage("{not JSON", metadata={"text_format": "json"})) is None
    assert Passage("x", metadata={"format": "pdf"}).format == "prose"
    with pytest.raises(InvalidInputError, match="text_format must be one of prose, log"):
        Passage("x y.", metadata={"text_format": "pdf"})


def test_units():
    assert units(JSON)[:3] == [
        '"name": "alpha"',
        '"port": 8080',
        '"hosts": [\n      "a.example",\n      "b.example"\n    ]',
    ]
    assert units(HTML)[:4] == [
        "Bridges &amp; more",
        '<a href="/x">Home</a>',
        "Bridges",
        'The bridge was designed by <b>Ada Moreau</b> in 1883. It is <a href="http://x">old</a>.',
    ]
    assert units(HTML)[5:] == [
        "<tr><th>Name<th>Year</tr>",
        "<tr><td>Pont</td><td>1883</td></tr>",
        "<tr><td>Ponte</td><td>1900</td></tr>",
        "one <i>two</i>",
        "three",
        "four",
    ]
    assert units(PYTHON)[:5] == [
        '"""Bridges."""',
        "import os",
        "LIMIT = 3  # of all",
        '    """A bridge."""',
        "    def __init__(self, name):\n        self.name = name",
    ]
    assert units(MAIL)[2] == "Subject: The bridge\n  and the river\n"
    assert units(MAIL)[-2:] == ["> When does it open?\n", "> I forgot.\n"]
    assert [unit.splitlines()[0] for unit in units(GO)] == ["package main", 'import "fmt"', "// greets", "func bye() {"]
    assert units(FENCED)[2] == "def f0():\n    return 0\n\n"


def test_a_unit_brings_what_it_stands_in():
    assert json.loads(shaped(JSON, "port", 25).text) == {"service": {"name": "alpha", "port": 8080}}
    assert shaped(PYTHON, "value33", 25).text.endswith("def build(a, b):\n# …\n    value33 = a + 33")
    fenced = shaped(FENCED, "f7", 30).text
    assert "\n```python\n" in fenced
    assert fenced.endswith("…\ndef f7():\n    return 7\n…\n```")
    assert "On Sunday Ben wrote:\n> I forgot." in shaped(MAIL, "forgot", 25).text.replace("…\n", "")
    row = shaped(HTML, "Ponte", 90).text
    assert "<th>Name<th>Year" in row
    assert "<td>Ponte</td>" in row
    assert "1883" not in row


def test_the_reader_sees_what_somebody_sees():
    assert visible("<p>a &amp; b&nbsp;c<script>no</script><!-- no --> <b>d</b></p>") == "\na & b c d\n"
    text, source = "", HTML
    for piece, start, end in runs(source):
        assert piece == source[start:end] or len(piece) <= 2
        text += piece
    assert "var a" not in text
    assert "Bridges & more" in text


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=400),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=12), inner, max_size=6),
    max_leaves=40,
).filter(lambda value: isinstance(value, (dict, list)))


def is_part(part, whole):
    """Whether a JSON value is what is left of another."""
    if isinstance(whole, dict):
        return isinstance(part, dict) and all(
            key in whole and is_part(value, whole[key]) for key, value in part.items()
        )
    if isinstance(whole, list):
        rest = iter(whole)
        return isinstance(part, list) and all(any(is_part(value, other) for other in rest) for value in part)
    if isinstance(whole, str):
        rest = " ".join(whole.split())
        return isinstance(part, str) and all(" ".join(piece.split()) in rest for piece in part.split(" … "))
    return part == whole


@settings(max_examples=300, deadline=None)
@given(values, st.sampled_from([None, 1, 4]), st.booleans(), st.integers(1, 80), st.randoms(use_true_random=False))
def test_what_is_left_of_json_is_json(value, indent, ascii_only, share, draw):
    text = json.dumps(value, indent=indent, ensure_ascii=ascii_only)
    structure = structure_of(Passage(text))
    if structure is None:
        return
    wanted = []
    for _ in range(draw.randrange(1, 6)):
        start = draw.randrange(len(text))
        wanted.append(Span(start, min(len(text), start + draw.randrange(1, 60))))
    for spans in (wanted, [unit for unit in structure.units if draw.randrange(100) < share]):
        kept = Passage(text).keep(structure.completed(spans))
        if kept.text:
            assert is_part(json.loads(kept.text), value), kept.text


PIECES = ["<p>", "</p>", "<b>", "</b>", "<ul>", "<li>", "</ul>", "<div a='>'>", "</div>", "<table>", "<tr>", "<td>x",
          "</td>", "</tr>", "</table>", "<br>", "<!-- c -->", "<script>x<y</script>", "word ", "Ada. ", "&amp;", " < ",
          "<h2>", "</h2>", "<a href=\"x\">", "</a>", "<", ">", "\"", "<img/>", "\n", "</body>"]  # fmt: skip


@settings(max_examples=400, deadline=None)
@given(st.lists(st.sampled_from(PIECES), max_size=60).map("".join), st.randoms(use_true_random=False))
def test_any_html_is_read(text, draw):
    structure = structure_of(Passage(text, metadata={"text_format": "html"}))
    assert "".join(piece for piece, _, _ in runs(text)) == visible(text)
    if structure is None:
        return
    ends = [0, *(unit.end for unit in structure.units)]
    assert all(unit.start >= end and len(unit) > 0 for unit, end in zip(structure.units, ends, strict=False))
    chosen = [unit for unit in structure.units if draw.random() < 0.4]
    completed = structure.completed(chosen)
    assert structure.completed(completed) == completed
    # Every text that was chosen is kept, but for a sign that would open a tag in front of what is kept next.
    kept = "".join(text[span.start : span.end] for span in completed)
    for unit in chosen:
        for word in visible(text[unit.start : unit.end]).replace("<", " ").split():
            assert word in visible(kept)


def test_a_sign_that_opens_no_tag_opens_none_in_what_is_kept():
    for text in ("<p>1 < <div></div>Ada. </p>", "<p>1 <<div></div>Ada. </p>"):
        structure = structure_of(Passage(text, metadata={"text_format": "html"}))
        kept = "".join(text[span.start : span.end] for span in structure.completed(structure.units))
        assert visible(kept).replace("<", " ").split() == ["1", "Ada."]


def element(draw, depth):
    name = draw.choice(["div", "p", "ul", "table", "section", "b", "h2"])
    words = " ".join(draw.choice(["Ada", "bridge.", "river", "&lt;", "one. Two"]) for _ in range(draw.randrange(1, 40)))
    if name == "ul":
        return "<ul>" + "".join(f"<li>{element(draw, 0)}</li>" for _ in range(3)) + "</ul>"
    if name == "table":
        cells = "".join(f"<tr><td>{words[:20]}</td><td>{n}</td></tr>" for n in range(4))
        return f"<table><tbody>{cells}</tbody></table>"
    if name in ("div", "section") and depth:
        return f"<{name}>" + "".join(element(draw, depth - 1) for _ in range(4)) + f"</{name}>"
    if name == "b":
        return words
    return f"<{name}>{words} <i>{words[:9]}</i></{name}>"


@pytest.mark.parametrize("seed", range(40))
def test_what_is_left_of_a_sound_page_is_sound(seed):
    draw = random.Random(seed)
    text = "<html><body><div>" + "".join(element(draw, 3) for _ in range(4)) + "</div></body></html>"
    assert parses("HTML", text)
    structure = structure_of(Passage(text))
    spans = [Span(start, min(len(text), start + 40)) for start in (draw.randrange(len(text)) for _ in range(4))]
    for wanted in (spans, [unit for unit in structure.units if draw.random() < 0.3]):
        left = Passage(text).keep(structure.completed(wanted)).text
        assert not left or parses("HTML", left), left


@pytest.mark.parametrize("seed", range(30))
def test_what_is_left_of_a_module_is_a_module(seed):
    import inspect

    draw = random.Random(seed)
    text = inspect.getsource([random, json.decoder, ast][seed % 3])
    structure = structure_of(Passage(text))
    left = Passage(text).keep(structure.completed(u for u in structure.units if draw.random() < 0.2)).text
    ast.parse(left)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.sampled_from([*MAIL.splitlines(True), *PYTHON.splitlines(True)[:20], "> a\n", "\n", "é"]), max_size=40)
)
def test_any_lines_have_units_in_order(lines):
    text = "".join(lines)
    for name in ("mail", "python", "code", "prose"):
        structure = structure_of(Passage(text, metadata={"text_format": name}))
        if structure is not None:
            end = 0
            for unit in structure.units:
                assert end <= unit.start < unit.end <= len(text)
                end = unit.end
            assert structure.completed(structure.units)
