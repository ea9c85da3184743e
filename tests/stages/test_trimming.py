"""A unit that is too long is cut to fit, around what tells most: a context is not emptied, nor filled with junk."""

import json
import random
from dataclasses import dataclass

import pytest

from ctxshaper import Context, EvidenceFilter, FakeReader, Passage, Pipeline
from ctxshaper.stages import ScoringStage
from ctxshaper.stages.trimming import _between, _clauses, _lines, _words
from ctxshaper.stages.units import text_of

QUESTION = "Who designed the Ember Bridge?"
LONG = (
    "The Ember Bridge, which crosses the Varn at its narrowest point and took eleven years to build, was designed by "
    "Ada Moreau, an engineer from Lyon, although for many years the city's guides gave the honour to somebody else"
)


def words(text):
    return len(text.split())


@dataclass(frozen=True, kw_only=True)
class Shared(ScoringStage):
    """Counts the words of the query that a unit holds; the answer counts most."""

    def score(self, context, units, run):
        asked = {*context.query.lower().rstrip("?").split()}
        texts = [text_of(context, unit).lower() for unit in units]
        return [sum(word in asked for word in text.split()) + 10 * ("moreau" in text) for text in texts]


def shape(passages, budget, stages=None, query=QUESTION):
    return Pipeline(stages or [Shared()], tokenizer=words).shape(query, passages, budget)


def test_the_best_sentence_is_cut_and_not_passed_over_for_worse_ones():
    shaped = shape([LONG + ".", "It rained. Guides talk."], 8)
    assert "designed by Ada Moreau," in shaped.text
    assert "rained" not in shaped.text
    assert shaped.tokens <= 8
    assert any("cut to fit" in warning for warning in shaped.warnings)
    decisions = shaped.trace.stages[0].decisions
    assert any("cut to fit" in one.reason for one in decisions)
    assert any(one.kept for one in decisions)
    assert "ranks behind what does not fit" in {one.reason for one in decisions}


def test_with_a_reader_the_part_that_the_question_looks_at_is_kept():
    pipeline = Pipeline([EvidenceFilter()], reader=FakeReader(), tokenizer=words)
    shaped = pipeline.shape("Who is Ada Moreau?", [LONG + "."], 5)
    assert "Ada Moreau" in shaped.text
    assert 0 < shaped.tokens <= 5


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(f"step {n} of the run took {n} ms" for n in range(200)),
        "{" + ", ".join(f'"key{n}": "value {n}"' for n in range(200)) + "}",
        "<html><body>" + "".join(f"<p>paragraph {n}</p>" for n in range(200)) + "</body></html>",
        "word " * 400,
        "字" * 3_000,
        "x" * 5_000,
    ],
    ids=["lines", "JSON", "HTML", "no punctuation", "no spaces", "unbroken"],
)
def test_a_text_that_is_one_unit_is_not_emptied(text):
    shaped = Pipeline([Shared()], tokenizer=lambda text: -(-len(text) // 4)).shape(QUESTION, [text], 60)
    assert 0 < shaped.tokens <= 60
    # What is left of JSON has no sign for what is missing: it parses.
    assert shaped.text in text or "…" in shaped.text or json.loads(shaped.text)
    (passage,) = shaped.passages
    assert all(passage.source[span.start : span.end].strip() for span in passage.spans)


def test_a_passage_as_a_whole_is_cut_at_its_sentences():
    shaped = shape(["It rained. The Ember Bridge was designed by Ada. It rained again."], 7, [Shared(unit="passage")])
    assert shaped.text.strip(" …") == "The Ember Bridge was designed by Ada."


def test_where_nothing_fits_a_warning_says_so():
    shaped = shape([Passage(LONG, metadata={"title": "a title of many more words than fit"})], 3)
    assert shaped.text == ""
    assert any("nothing is kept" in warning for warning in shaped.warnings)


def test_a_budgets_last_word_keeps_the_beginning():
    class Everything(ScoringStage):
        def score(self, context, units, run):
            return [0.0] * len(units)

        def shape(self, context, run):
            return context

    shaped = shape([LONG], 4, [Everything()])
    assert shaped.text.startswith("The Ember Bridge,")
    assert 0 < shaped.tokens <= 4


def test_it_holds_for_any_text():
    draw = random.Random(3)
    signs = ["a", "b. ", "é", "\n", " ", ", ", "字", "\u0301", "👩\u200d👧", "\ud800", "{", '"', "<p>"]
    for _ in range(300):
        texts = ["".join(draw.choices(signs, k=draw.randrange(1, 300))) for _ in range(draw.randrange(1, 4))]
        limit = draw.randrange(1, 40)
        shaped = Pipeline([Shared()], tokenizer=len).shape("a b", texts, limit)
        assert shaped.tokens == len(shaped.text) <= limit
        for passage in shaped.passages:
            assert passage.source in texts
        if any(text.strip() for text in texts) and limit >= 30:
            assert shaped.text
        assert Context.from_json(shaped.to_json(), count=len).text == shaped.text
        assert Pipeline([Shared()], tokenizer=len).shape("a b", texts, limit).text == shaped.text


HEADED = (
    "# Bridges of Lyon\n\nIntro text that says little.\n\n## Who designed the Ember Bridge\n\n"
    "Ada Moreau drew the plans of it in 1931 after a long contest in the town.\n\n## Other things\n\nBoats pass there."
)


@pytest.mark.parametrize("limit", [25, 40, 60])
def test_of_a_heading_that_ranks_best_the_text_under_it_is_kept(limit):
    class Headings(ScoringStage):
        def score(self, context, units, run):
            return [float("designed" in text_of(context, unit)) for unit in units]

    shaped = Pipeline([Headings()], tokenizer=len).shape("Who designed it?", [HEADED], limit)
    assert shaped.text.strip()
    assert "#" not in shaped.text
    assert shaped.text.strip() in "Ada Moreau drew the plans of it in 1931 after a long contest in the town."


@pytest.mark.parametrize("text", ["one two\n\n", "\n\n one two", "one\n\ntwo\n", "\n", " one, two; \n three \n "])
def test_white_space_is_no_piece_of_its_own(text):
    for cut in (_lines, _clauses, _words):
        spans = _between(text, 5, cut)
        assert [5, *(span.end for span in spans)] == [*(span.start for span in spans), 5 + len(text)]
        assert all(text[span.start - 5 : span.end - 5].strip() for span in spans) or not text.strip()
