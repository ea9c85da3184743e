"""A unit brings what it cannot be read without, and is charged for it."""

from dataclasses import dataclass

import pytest

from ctxshaper import Pipeline
from ctxshaper.stages import ScoringStage
from ctxshaper.stages.units import text_of


def words(text):
    return len(text.split())


@dataclass(frozen=True, kw_only=True)
class Wanted(ScoringStage):
    """Scores by how often the query's word stands in a unit."""

    def score(self, context, units, run):
        return [float(text_of(context, unit).count(context.query)) for unit in units]


class Likely(Wanted):
    def likely(self, units, scores, log):
        return [place for place, score in enumerate(scores) if score > 0]


def shape(word, text, budget):
    return Pipeline([Wanted()], tokenizer=words).shape(word, [text], budget)


MANUAL = """# Pump

It is heavy.

## Safety

Wear gloves. Never run it dry.

## Parts

| part | number | price |
|------|--------|-------|
| seal | 17 | 3 |
| valve | 18 | 9 |

It needs these tools:

- a wrench
- a hammer

Store it cool.
"""


def test_a_sentence_brings_the_headings_above_it():
    shaped = shape("gloves", MANUAL, 8)
    assert shaped.text.split("\n")[0] == "# Pump"
    assert "## Safety" in shaped.text
    assert "Wear gloves." in shaped.text
    assert "heavy" not in shaped.text
    decisions = {MANUAL[d.span.start : d.span.end].strip(): d for d in shaped.trace.stages[0].decisions}
    assert decisions["## Safety"].kept
    assert decisions["# Pump"].kept


def test_the_trace_says_what_was_brought_along():
    shaped = shape("gloves", "# A\n\nWear gloves, now.\n\nIt is a pump.\n", "auto")
    decisions = {d.span.start: d.reason for d in shaped.trace.stages[0].decisions}
    assert set(decisions.values()) == {"among the best that fit"}
    ruled = Pipeline([Likely()], tokenizer=words).shape(
        "gloves", ["# A\n\nWear gloves, now.\n\nIt is a pump.\n"], "auto"
    )
    assert ruled.text == "# A\n\nWear gloves, now."
    assert ruled.trace.stages[0].decisions[0].reason == "brought along by what stands under it"


def test_a_row_brings_its_tables_header():
    shaped = shape("valve", MANUAL, 26)
    assert "| part | number | price |\n|------|--------|-------|" in shaped.text
    assert "| valve | 18 | 9 |" in shaped.text
    assert "seal" not in shaped.text
    assert shaped.tokens <= 26


def test_an_item_brings_what_introduces_its_list():
    shaped = shape("hammer", MANUAL, 15)
    assert "It needs these tools:" in shaped.text
    assert "- a hammer" in shaped.text
    assert "wrench" not in shaped.text


def test_a_heading_alone_is_not_evidence():
    shaped = shape("Safety", MANUAL, 8)
    assert "## Safety" in shaped.text
    assert "Wear gloves." in shaped.text


def test_what_is_brought_along_counts_and_goes_where_there_is_no_room():
    shaped = shape("gloves", MANUAL, 3)
    assert shaped.text.strip() == "Wear gloves."


@pytest.mark.parametrize("delimiter", [",", "\t", ";"])
def test_a_row_of_values_brings_the_first_row(delimiter):
    text = "name,city,born\nAda,Lyon,1931\nBen,Lagos,1950\nLi,Chengdu,1962\n".replace(",", delimiter)
    shaped = Pipeline([Wanted()], tokenizer=len).shape("Lagos", [text], 40)
    assert shaped.text.split("\n")[0] == f"name{delimiter}city{delimiter}born"
    assert f"Ben{delimiter}Lagos{delimiter}1950" in shaped.text
    assert "Ada" not in shaped.text


def test_prose_brings_nothing():
    shaped = shape("cool", "It rained: a lot. It was cool. It is over.", 3)
    assert shaped.text == "It was cool."
