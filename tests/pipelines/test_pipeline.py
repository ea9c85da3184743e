"""Pipelines: input checks, shared readers, failures, budgets."""

import asyncio
import time
from dataclasses import dataclass

import pytest

from ctxshaper import Context, EvidenceFilter, InvalidInputError, Passage, Pipeline, Reader, Rendering, StageError
from ctxshaper.stages import Log, Stage

QUERY = "Who designed the bridge?"


@dataclass(frozen=True, kw_only=True)
class Failing(Stage):
    """Fails."""

    def shape(self, context: Context, log: Log) -> Context:
        raise ZeroDivisionError("planned")


@dataclass(frozen=True, kw_only=True)
class Sleeping(Stage):
    """Takes its time."""

    def shape(self, context: Context, log: Log) -> Context:
        time.sleep(0.2)
        return context


def words(text: str) -> int:
    return len(text.split())


@pytest.mark.parametrize("query", ["", " \n\t", None, 3])
def test_an_empty_query_is_refused(reader, query):
    with pytest.raises(InvalidInputError, match="query"):
        Pipeline([EvidenceFilter()], reader=reader).shape(query, ["text"])


@pytest.mark.parametrize("passages", ["one text", b"bytes", [1], [None], [{"text": "x"}]])
def test_what_is_no_list_of_passages_is_refused(passages):
    with pytest.raises(InvalidInputError):
        Pipeline([], tokenizer=words).shape("q", passages)


def test_duplicate_ids_stay_apart(reader):
    twins = [Passage("The bridge was designed by Ada.", id="same"), Passage("Bananas are yellow.", id="same")]
    shaped = Pipeline([EvidenceFilter()], reader=reader).shape(QUERY, [*twins, twins[0]], "70%")
    assert {p.id for p in shaped.passages} == {"same"}
    assert [p.rank for p in shaped.passages] == [0, 2]


def test_a_failing_stage_raises_by_default_and_says_what_to_do():
    with pytest.raises(StageError, match=r"Failing failed: ZeroDivisionError: planned.*on_error='skip'") as caught:
        Pipeline([Failing()], tokenizer=words).shape("q", ["text"])
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_a_failing_stage_can_be_skipped_and_the_trace_says_so():
    shaped = Pipeline([Failing(), Sleeping()], tokenizer=words, on_error="skip").shape("q", ["kept text"])
    assert shaped.text == "kept text"
    assert "planned" in shaped.trace.stages[0].error
    assert shaped.trace.stages[1].error is None


def test_a_hard_budget_holds_whatever_the_stages_did():
    pipeline = Pipeline([Failing()], tokenizer=words, on_error="skip")
    shaped = pipeline.shape("q", ["One two three. Four five six.", "Seven eight."], 6)
    assert shaped.text == "One two three. Four five six."
    assert shaped.trace.stages[-1].stage == "FitBudget"


def test_async_does_not_block_the_loop():
    pipeline = Pipeline([Sleeping()], tokenizer=words)

    async def run():
        ticks = 0
        task = asyncio.create_task(pipeline.ashape("q", ["x"]))
        while not task.done():
            await asyncio.sleep(0.01)
            ticks += 1
        return ticks

    assert asyncio.run(run()) > 5


def test_five_megabytes_are_refused_clearly_or_passed_on(reader):
    big = ["a " * 2_500_000]
    with pytest.raises(InvalidInputError, match="5,000,000 characters"):
        Pipeline([EvidenceFilter()], reader=reader).shape(QUERY, big, 100)
    passed = Pipeline([EvidenceFilter()], reader=reader, tokenizer=len, on_error="skip").shape(QUERY, big)
    assert len(passed.text) >= 4_999_999


def test_stages_share_the_pipelines_reader(reader):
    pipeline = Pipeline([EvidenceFilter(), EvidenceFilter(unit="block")], reader=reader)
    assert {id(s.reader) for s in pipeline.stages} == {id(reader)}
    own = Reader()
    assert Pipeline([EvidenceFilter(reader=own)], reader=reader).stages[0].reader is own


def test_no_model_is_needed_where_no_stage_reads():
    assert Pipeline([Sleeping()], tokenizer=words).reader is None


def test_options_are_checked():
    with pytest.raises(InvalidInputError, match="takes stages"):
        Pipeline(["EvidenceFilter"])
    with pytest.raises(InvalidInputError, match="on_error"):
        Pipeline([], tokenizer=words, on_error="ignore")
    with pytest.raises(InvalidInputError, match="budget"):
        Pipeline([], tokenizer=words).shape("q", ["x"], "lots")


def test_tokens_are_counted_over_the_rendered_text():
    pipeline = Pipeline([], tokenizer=words, rendering=Rendering(label="number"))
    shaped = pipeline.shape("q", [Passage("one two", metadata={"title": "A title"})])
    assert shaped.text == "[1] A title\none two"
    assert shaped.tokens == 5


def test_the_recipe_of_the_readme(reader, passages):
    shaped = Pipeline.from_recipe("qa", reader=reader).shape("Who designed the bridge?", passages, budget="40%")
    assert "Ada Moreau" in shaped.text
    assert shaped.tokens <= 0.4 * shaped.tokens_in
    for passage in shaped.passages:
        assert all(passage.source[s.start : s.end] for s in passage.spans)
