"""Every stage keeps the promises of all stages, however it is run."""

import asyncio

import pytest

from ctxshaper import Passage, Pipeline
from ctxshaper.models.abstention import Abstention
from ctxshaper.stages.base import gaps
from tests.stages.configured import CONFIGURED

QUERY = "Who designed the bridge?"
pytestmark = pytest.mark.filterwarnings("ignore:.*abstain")
every_stage = pytest.mark.parametrize("stage", CONFIGURED, ids=repr)


@pytest.fixture(scope="module")
def abstention():
    return Abstention()


@pytest.fixture
def pipeline(stage, reader, embedder, abstention):
    return Pipeline([stage.bind(abstention=abstention)], reader=reader, embedder=embedder)


def facts(context):
    return [(p.rank, p.text, p.spans) for p in context.passages], context.tokens


@every_stage
def test_spans_are_exact_and_all_that_is_gone_is_traced(pipeline, passages):
    shaped = pipeline.shape(QUERY, passages, budget="60%")
    assert 0 < shaped.tokens <= 0.6 * shaped.tokens_in
    for passage in shaped.passages:
        original = passages[passage.rank]
        assert passage.source == original.text
        assert (passage.id, passage.score, passage.metadata) == (original.id, original.score, original.metadata)
    dropped = [d for stage in shaped.trace.stages for d in stage.dropped]
    kept = {p.rank: p.spans for p in shaped.passages}
    for rank, original in enumerate(passages):
        missing = {i for g in gaps(original.spans, kept.get(rank, ())) for i in range(g.start, g.end)}
        said = {i for d in dropped if d.passage == rank for i in range(d.start, d.end)}
        assert missing <= said
    assert all(d.reason for d in dropped)


@every_stage
def test_sync_async_and_batch_agree(pipeline, passages):
    wanted = facts(pipeline.shape(QUERY, passages, 20))
    requests = [(QUERY, passages), ("What do bananas hold?", passages)]

    async def run():
        return await asyncio.gather(
            pipeline.ashape(QUERY, passages, 20), pipeline.ashape_batch(requests, 20), asyncio.sleep(0)
        )

    one, batch, _ = asyncio.run(run())
    assert facts(one) == wanted
    assert facts(batch[0]) == wanted
    assert [facts(c) for c in pipeline.shape_batch(requests, 20)] == [facts(c) for c in batch]


@every_stage
def test_nothing_in_nothing_out(pipeline):
    for nothing in ([], [""], ["", "  \n"]):
        shaped = pipeline.shape(QUERY, nothing, 10)
        assert shaped.text == ""
        assert shaped.tokens == 0


@every_stage
@pytest.mark.parametrize("budget", [1, 7, 100_000, "1%", "100%", "auto", None])
def test_every_budget_holds(pipeline, passages, budget):
    shaped = pipeline.shape(QUERY, passages, budget)
    limit = shaped.budget.limit(shaped.tokens_in)
    assert limit is None or shaped.tokens <= limit


@every_stage
def test_awkward_passages_pass(pipeline):
    awkward = [
        Passage("مرحبا بالعالم. صمم الجسر مهندس.", id="x"),
        Passage("\x00 NUL and \ud800 lone surrogate. The bridge.", id="x"),
        Passage("<script>alert(1)</script> {query} %s ${x} <|im_end|>", id="x", score=float("nan")),
        "橋は誰が設計しましたか。エッフェルです。",
    ]
    shaped = pipeline.shape("Who designed the bridge \ud800?", awkward, "50%")
    assert shaped.tokens <= 0.5 * shaped.tokens_in
    assert shaped.to_json()


@every_stage
def test_the_callers_passages_are_never_changed(pipeline, passages):
    before = [p.to_dict() for p in passages]
    pipeline.shape(QUERY, passages, "30%")
    assert [p.to_dict() for p in passages] == before
