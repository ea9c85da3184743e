"""Every stage keeps the promises of all stages, however it is run."""

import asyncio
import copy
import pickle

import pytest

from ctxshaper import FakeGenerator, FakeReader, LanguageModel, Passage, Pipeline, Span, Written
from ctxshaper.data import gaps, intersect
from tests.stages.configured import ANSWER, CONFIGURED

QUERY = "Who designed the bridge?"
every_stage = pytest.mark.parametrize("stage", CONFIGURED, ids=repr)


@pytest.fixture(scope="module")
def language_model(tiny_model):
    return LanguageModel(tiny_model("llama"), device="cpu", dtype="float32")


@pytest.fixture
def pipeline(stage, embedder, language_model):
    return Pipeline(
        [stage],
        reader=FakeReader(),
        embedder=embedder,
        language_model=language_model,
        generator=FakeGenerator(ANSWER),
    )


def facts(context):
    return [(p.rank, p.text, p.spans) for p in context.passages], context.tokens


@every_stage
def test_spans_are_exact_and_all_that_is_gone_is_traced(pipeline, passages):
    shaped = pipeline.shape(QUERY, passages, budget="60%")
    assert 0 < shaped.tokens <= 0.6 * shaped.tokens_in
    for passage in shaped.passages:
        original = passages[passage.rank]
        assert passage.source == original.source
        assert (passage.id, passage.score, passage.metadata) == (original.id, original.score, original.metadata)
    dropped = [d for stage in shaped.trace.stages for d in stage.dropped]
    kept = {p.rank: p.spans for p in shaped.passages}
    for rank, original in enumerate(passages):
        missing = {i for g in gaps(original.spans, kept.get(rank, ())) for i in range(g.start, g.end)}
        said = {i for d in dropped if d.passage == rank for i in range(d.span.start, d.span.end)}
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
def test_nothing_that_was_dropped_comes_back(pipeline, passages):
    kept = [passages[0].keep([Span(0, 12), Span(34, 40)]), passages[1].keep([Span(3, 20)])]
    for budget in (None, "70%", "auto"):
        shaped = pipeline.shape(QUERY, kept, budget)
        for passage in shaped.passages:
            if not passage.generated:
                assert intersect(passage.spans, kept[passage.rank].spans) == passage.spans


@every_stage
def test_written_pieces_are_kept_or_dropped_whole(pipeline):
    source = "The bridge was designed by Ada Moreau. It is 3.5 km long. It was opened in 1931."
    written = [Written("Ada Moreau designed it.", (Span(0, 38),)), Written("It opened in 1931.", (Span(58, 80),))]
    given = [Passage(source).rewrite(written), "Bananas are rich in potassium."]
    shaped = pipeline.shape(QUERY, given, "80%")
    for passage in shaped.passages:
        if passage.rank == 0 and type(pipeline.stages[0]).__name__ not in ("S2A", "GemFilter"):
            assert set(passage.pieces) <= set(written)


@every_stage
def test_a_stage_and_its_pipeline_pickle_and_copy(pipeline, passages):
    wanted = facts(pipeline.shape(QUERY, passages, "60%"))
    for twin in (pickle.loads(pickle.dumps(pipeline)), copy.deepcopy(pipeline)):
        assert twin.stages == pipeline.stages
        assert facts(twin.shape(QUERY, passages, "60%")) == wanted


@every_stage
def test_the_callers_passages_are_never_changed(pipeline, passages):
    before = [p.to_dict() for p in passages]
    pipeline.shape(QUERY, passages, "30%")
    assert [p.to_dict() for p in passages] == before
