"""Pipelines: input checks, shared parts, failures, deadlines, budgets, copies."""

import asyncio
import copy
import pickle
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import pytest

from ctxshaper import (
    Context,
    DeadlineError,
    EvidenceFilter,
    FakeGenerator,
    FakeReader,
    InvalidInputError,
    Passage,
    Pipeline,
    Rendering,
    Run,
    StageError,
)
from ctxshaper.data import deadline
from ctxshaper.stages import Stage, WritingStage

QUERY = "Who designed the bridge?"


@dataclass(frozen=True, kw_only=True)
class Failing(Stage):
    """Fails."""

    def shape(self, context: Context, run: Run) -> Context:
        raise ZeroDivisionError("planned")


@dataclass(frozen=True, kw_only=True)
class Sleeping(Stage):
    """Takes its time."""

    def shape(self, context: Context, run: Run) -> Context:
        time.sleep(0.2)
        return context


@dataclass(frozen=True, kw_only=True)
class Working(Stage):
    """Works in steps of a hundredth of a second, asking between them."""

    steps_taken = 0

    def shape(self, context: Context, run: Run) -> Context:
        for _ in range(1000):
            deadline.check()
            time.sleep(0.01)
            type(self).steps_taken += 1
        return context


@dataclass(frozen=True, kw_only=True)
class Asking(WritingStage):
    """Puts what a language model says about each passage in its place."""

    def steps(self, context: Context, run: Run):
        first = yield [f"1 {p.text}" for p in context.passages]
        second = yield [f"2 {answer}" for answer in first]
        run.log.notes["answers"] = [first, second]
        return context.with_passages([Passage(answer, rank=i) for i, answer in enumerate(second)])


class Awaited(FakeGenerator):
    """Notes in which thread it was asked, and how."""

    def __init__(self, script):
        super().__init__(script)
        self.seen: list[tuple[str, str]] = []

    def generate_batch(self, prompts: Sequence) -> list[str]:
        self.seen.append(("blocking", threading.current_thread().name))
        return super().generate_batch(prompts)

    async def agenerate(self, prompt) -> str:
        self.seen.append(("awaited", threading.current_thread().name))
        return await super().agenerate(prompt)


def words(text: str) -> int:
    return len(text.split())


@pytest.mark.parametrize("query", ["", " \n\t", None, 3])
def test_an_empty_query_is_refused(query):
    with pytest.raises(InvalidInputError, match="query"):
        Pipeline([EvidenceFilter()], reader=FakeReader()).shape(query, ["text"])


@pytest.mark.parametrize("passages", ["one text", b"bytes", [1], [None], [{"text": "x"}], None, 3])
def test_what_is_no_list_of_passages_is_refused(passages):
    with pytest.raises(InvalidInputError):
        Pipeline([], tokenizer=words).shape("q", passages)


def test_duplicate_ids_stay_apart():
    twins = [Passage("The bridge was designed by Ada.", id="same"), Passage("Bananas are yellow.", id="same")]
    third = Passage("Ada designed the bridge alone.", id="same")
    shaped = Pipeline([EvidenceFilter()], reader=FakeReader()).shape(QUERY, [*twins, third], "80%")
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
    assert shaped.warnings == ("Failing failed and was skipped: StageError: " + shaped.trace.stages[0].error[12:],)


def test_a_hard_budget_holds_whatever_the_stages_did():
    pipeline = Pipeline([Failing()], tokenizer=words, on_error="skip")
    shaped = pipeline.shape("q", ["One two three. Four five six.", "Seven eight."], 6)
    assert shaped.text == "One two three. Four five six."
    assert shaped.trace.stages[-1].stage == "FitBudget"


async def test_async_does_not_block_the_loop(waiting):
    stage, release = waiting
    shaped, _ = await asyncio.gather(Pipeline([stage], tokenizer=words).ashape("q", ["x"]), release())
    assert shaped.text == "x"


def test_five_megabytes_are_refused_clearly_or_passed_on(reader):
    big = ["a " * 2_500_000]
    with pytest.raises(InvalidInputError, match="5,000,000 characters"):
        Pipeline([EvidenceFilter()], reader=reader, tokenizer=len).shape(QUERY, big, 100)
    passed = Pipeline([EvidenceFilter()], reader=reader, tokenizer=len, on_error="skip").shape(QUERY, big)
    assert len(passed.text) >= 4_999_999


def test_stages_that_ask_the_same_question_cost_one_reading():
    reader = FakeReader()
    asked = []
    read = reader.read
    reader.read = lambda *args, **options: asked.append(args) or read(*args, **options)
    texts = ["The bridge was designed by Ada. It rained.", "Bananas are yellow."]
    Pipeline([EvidenceFilter(), EvidenceFilter(unit="passage", bm25=True)], reader=reader).shape(QUERY, texts, "auto")
    assert len(asked) <= 2  # the second stage asks of fewer passages, where the first dropped one
    asked.clear()
    Pipeline([EvidenceFilter(confidence=1), EvidenceFilter(confidence=1)], reader=reader).shape(QUERY, texts, "auto")
    assert len(asked) == 1


def test_no_model_is_made_where_no_stage_asks():
    pipeline = Pipeline([Sleeping()], tokenizer=words)
    pipeline.shape("q", ["x"])
    assert not {"reader", "embedder", "generator", "language_model"} & set(pipeline.parts.__dict__)


def test_a_deadline_stops_the_work():
    Working.steps_taken = 0
    pipeline = Pipeline([Working()], tokenizer=words, on_error="skip")
    with pytest.raises(DeadlineError, match=r"0\.1 seconds"):
        pipeline.shape("q", ["x"], timeout=0.1)
    taken = Working.steps_taken
    time.sleep(0.1)
    assert taken == Working.steps_taken < 30
    with pytest.raises(InvalidInputError, match="timeout"):
        pipeline.shape("q", ["x"], timeout=0)


def test_a_deadline_ends_an_awaited_answer():
    generator = FakeGenerator("late", delay=5.0)
    pipeline = Pipeline([Asking()], tokenizer=words, generator=generator)
    started = time.perf_counter()
    with pytest.raises(DeadlineError):
        asyncio.run(pipeline.ashape("q", ["x"], timeout=0.2))
    assert time.perf_counter() - started < 2


def test_a_caller_that_goes_away_stops_the_work():
    Working.steps_taken = 0
    pipeline = Pipeline([Working()], tokenizer=words)
    started = time.perf_counter()

    async def run():
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(pipeline.ashape("q", ["x"]), 0.1)

    asyncio.run(run())  # the loop's exit waits for its threads
    assert time.perf_counter() - started < 2
    assert Working.steps_taken < 100


def test_writing_stages_are_awaited_and_say_the_same():
    texts = ["alpha", "beta"]
    generator = Awaited(lambda prompt: prompt.upper())
    pipeline = Pipeline([Asking()], tokenizer=words, generator=generator)
    blocking = pipeline.shape("q", texts)
    assert blocking.text == "2 1 ALPHA\n\n2 1 BETA"
    assert {how for how, _ in generator.seen} == {"blocking"}
    generator.seen.clear()
    awaited = asyncio.run(pipeline.ashape("q", texts))
    assert awaited.text == blocking.text
    assert {how for how, _ in generator.seen} == {"awaited"}
    assert {thread for _, thread in generator.seen} == {"MainThread"}


def test_a_generators_failure_reaches_the_stage_in_both_ways():
    pipeline = Pipeline([Asking()], tokenizer=words, generator=FakeGenerator(OSError("down")))
    with pytest.raises(StageError, match="down"):
        pipeline.shape("q", ["x"])
    with pytest.raises(StageError, match="down"):
        asyncio.run(pipeline.ashape("q", ["x"]))


def shape_there(pipeline, texts):
    return pipeline.shape(QUERY, texts, "60%")


def test_pipelines_pickle_copy_and_work_in_other_processes():
    texts = ["The bridge was designed by Ada. It rained.", "Bananas are yellow."]
    pipeline = Pipeline([EvidenceFilter()], reader=FakeReader(), budget="50%")
    wanted = pipeline.shape(QUERY, texts, "60%")
    for twin in (copy.deepcopy(pipeline), pickle.loads(pickle.dumps(pipeline))):
        assert twin.shape(QUERY, texts, "60%").passages == wanted.passages
    with ProcessPoolExecutor(1) as pool:
        there = pool.submit(shape_there, pipeline, texts).result()
    assert there.passages == wanted.passages
    assert there.tokens == wanted.tokens


def test_history_reaches_the_context():
    turn = {"role": "user", "content": "Which bridge?"}
    assert Pipeline([], tokenizer=words).shape("q", ["x"], history=[turn]).history == (turn,)


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
