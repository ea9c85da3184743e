"""Requests as traces: what one request's spans are, in every way of running it."""

import asyncio
import contextlib
import json
import logging

import pytest
from opentelemetry.trace import StatusCode

from ctxshaper import (
    S2A,
    AttentionRAG,
    DeadlineError,
    EvidenceFilter,
    FakeGenerator,
    FakeReader,
    GemFilter,
    Generator,
    Pipeline,
    StageError,
    tracing,
)
from ctxshaper.generators import LangChainGenerator, LlamaIndexGenerator, LocalGenerator
from ctxshaper.stages import Stage
from tests.reading.test_reader import tiny_reader
from tests.stages.configured import ANSWER
from tests.tracing.trees import finished, only, outline, own

QUERY = "Who designed the bridge?"


@pytest.fixture(autouse=True)
def content_off(monkeypatch):
    monkeypatch.delenv("CTXSHAPER_TRACE_CONTENT", raising=False)
    yield
    tracing.record_content(None)


class Broken(Stage):
    def shape(self, context, run):
        raise RuntimeError(f"out of order at {context.passages[0].text}")


def qa(**parts):
    return Pipeline.from_recipe("qa", **{"reader": FakeReader(), "budget": 20, **parts})


def test_a_request_with_the_fakes(spans, passages):
    shaped = Pipeline([EvidenceFilter(), S2A()], reader=FakeReader(), generator=FakeGenerator(ANSWER), budget=20).shape(
        QUERY, passages
    )
    assert outline(spans) == [
        "shape",
        ". stage.EvidenceFilter",
        ". . read",
        ". stage.S2A",
        ". . generate",
        ". . . chat fake",
        ". stage.FitBudget",
    ]
    request = own(only(spans, "ctxshaper.shape"))
    assert request == {
        "stages": ("EvidenceFilter", "S2A"),
        "passages": 3,
        "tokens_in": shaped.tokens_in,
        "budget": "20 tokens",
        "kept": len(shaped.passages),
        "tokens_out": shaped.tokens,
        "warnings": len(shaped.warnings),
        "set_aside": 0,
    }
    kinds = {span.name: span.attributes["openinference.span.kind"] for span in finished(spans)}
    assert kinds == {
        "ctxshaper.shape": "CHAIN",
        "ctxshaper.stage.EvidenceFilter": "RERANKER",
        "ctxshaper.read": "CHAIN",
        "ctxshaper.stage.S2A": "CHAIN",
        "ctxshaper.generate": "CHAIN",
        "chat fake": "LLM",
        "ctxshaper.stage.FitBudget": "CHAIN",
    }


def test_the_same_request_awaited_is_the_same_trace(spans, passages):
    pipeline = Pipeline([EvidenceFilter(), S2A()], reader=FakeReader(), generator=FakeGenerator(ANSWER), budget=20)
    pipeline.shape(QUERY, passages)
    blocking = outline(spans)
    spans.clear()

    async def ask():
        with tracing.span("caller"):
            return await pipeline.ashape(QUERY, passages)

    asyncio.run(ask())
    assert outline(spans) == ["caller", *(f". {line}" for line in blocking)]


def test_a_stage_lists_its_documents(spans, passages):
    shaped = qa(reader=FakeReader(), embedder=Words()).shape(QUERY, passages)
    span = only(spans, "ctxshaper.stage.EvidenceFilter")
    found = span.attributes
    assert found["reranker.input_documents.1.document.id"] == "b"
    assert found["reranker.input_documents.1.document.score"] == 0.7
    assert "reranker.input_documents.0.document.score" not in found
    ids = [found[f"reranker.output_documents.{n}.document.id"] for n in range(len(shaped.passages))]
    assert ids == [p.id for p in shaped.passages]
    best = max(d.score for d in shaped.trace.stages[0].decisions if d.kept and d.passage == shaped.passages[0].rank)
    assert found["reranker.output_documents.0.document.score"] == best
    decisions = shaped.trace.stages[0].decisions
    assert own(span)["units_kept"] == sum(d.kept for d in decisions)
    assert own(only(spans, "ctxshaper.shape"))["recipe"] == "qa"


class Words:
    """Embeds by length; what is nearest does not matter here."""

    def embed(self, texts):
        import numpy as np

        return np.array([[1.0, len(text) / 100] for text in texts], dtype=np.float32)

    def embed_query(self, text):
        return self.embed([text])[0]

    def similarity(self, query, texts):
        return (self.embed(texts) @ self.embed_query(query)).astype(float)


@pytest.mark.parametrize("on", [False, True])
def test_texts_stand_in_spans_only_where_they_are_asked_for(spans, passages, on):
    tracing.record_content(on)
    pipeline = Pipeline([EvidenceFilter(), S2A()], reader=FakeReader(), generator=FakeGenerator(ANSWER), budget=20)
    shaped = pipeline.shape(QUERY, passages)
    everything = " ".join(span.to_json() for span in finished(spans))
    for text in ("designed the bridge", "Ada Moreau", "potassium"):
        assert (text in everything) is on
    request = only(spans, "ctxshaper.shape").attributes
    assert request.get("input.value") == (QUERY if on else None)
    assert request.get("output.value") == (shaped.text if on else None)
    stage = only(spans, "ctxshaper.stage.EvidenceFilter").attributes
    assert stage.get("reranker.query") == (QUERY if on else None)
    assert stage.get("reranker.input_documents.2.document.content") == (passages[2].text if on else None)


def test_a_real_reader_cold_and_warm(spans, tiny_model, passages, tmp_path):
    reader = tiny_reader(tiny_model("llama"), store=tmp_path / "keys")
    pipeline = Pipeline([EvidenceFilter()], reader=reader, budget=20)
    reader.remember(["so that the model is loaded"])
    reader.query_rows("likewise")
    spans.clear()
    cold = pipeline.shape(QUERY, passages)
    assert outline(spans) == [
        "shape",
        ". stage.EvidenceFilter",
        ". . read",
        ". . . query_pass",
        ". . . store.get",
        ". . . store.put",
        ". . . store.get",
        ". . . store.get",  # once more behind the claim: another process may have read them meanwhile
        ". . . prefill",
        ". . . . store.put",
        ". stage.FitBudget",
    ]
    lengths = [len(reader.layout.passage(passage).ids[0]) for passage in passages]
    assert own(only(spans, "ctxshaper.prefill")) == {"passages": 3, "tokens_read": sum(lengths)}
    assert own(only(spans, "ctxshaper.query_pass"))["queries"] == 1
    tokens, keys, again = map(own, finished(spans, "ctxshaper.store.get"))
    assert tokens == {"store_kind": "tokens", "keys": 3, "hits": 0, "misses": 3}
    assert keys == again == {"store_kind": "keys", "keys": 3, "hits": 0, "misses": 3}
    assert [own(span)["held"] for span in finished(spans, "ctxshaper.store.put")] == [3, 3]
    assert own(only(spans, "ctxshaper.read")) == {"passages": 3, "cache_hits": 0, "cache_misses": 3, "from_store": 0}
    notes = cold.trace.stages[0].notes["readings"][0]
    assert 0 < notes["query_milliseconds"] < notes["milliseconds"]
    assert 0 < notes["prefill_milliseconds"] < notes["milliseconds"]

    spans.clear()
    warm = pipeline.shape(QUERY, passages)
    assert outline(spans) == ["shape", ". stage.EvidenceFilter", ". . read", ". stage.FitBudget"]
    assert own(only(spans, "ctxshaper.read"))["cache_hits"] == 3
    assert warm.trace.stages[0].notes["readings"][0]["prefill_milliseconds"] == 0

    spans.clear()
    restarted = tiny_reader(tiny_model("llama"), store=tmp_path / "keys")
    Pipeline([EvidenceFilter()], reader=restarted, budget=20).shape(QUERY, passages)
    gets = [own(span) for span in finished(spans, "ctxshaper.store.get")]
    assert [(get["store_kind"], get["hits"], get["misses"]) for get in gets] == [("tokens", 3, 0), ("keys", 3, 0)]
    assert not finished(spans, "ctxshaper.prefill")
    assert finished(spans, "ctxshaper.load")


def test_embeddings(spans, embedder, passages):
    embedder.forget()
    embedder.embed_query("so that the model is loaded")
    spans.clear()
    embedder.embed(["one text", "another"])
    embedder.embed(["one text", "a third"])
    first, second = finished(spans, "ctxshaper.embed")
    assert own(first) == {"texts": 2, "embedded": 2, "known": 0}
    assert own(second) == {"texts": 2, "embedded": 1, "known": 1}
    assert first.attributes["openinference.span.kind"] == "EMBEDDING"
    assert first.attributes["embedding.model_name"] == embedder.source.name


@pytest.mark.parametrize("stage", [EvidenceFilter(), GemFilter(unit="sentence"), AttentionRAG()])
def test_every_stage_notes_what_its_reading_took(passages, stage):
    shaped = Pipeline([stage], reader=FakeReader(), budget=20).shape(QUERY, passages)
    (reading,) = shaped.trace.stages[0].notes["readings"]
    assert reading["cache_misses"] == 3
    assert reading["milliseconds"] > 0


def test_an_error_stands_on_every_span_above_it_and_quotes_nothing(spans, passages, caplog):
    with pytest.raises(StageError):
        Pipeline([Broken()], reader=FakeReader()).shape(QUERY, passages)
    for span in finished(spans):
        assert span.status.status_code is StatusCode.ERROR
        assert span.events[0].attributes["exception.type"] == "StageError"
        assert "lighthouse" not in span.to_json()
    assert outline(spans) == ["shape", ". stage.Broken"]


def test_a_stage_that_is_skipped_failed_and_the_request_did_not(spans, passages, caplog):
    shaped = Pipeline([Broken()], reader=FakeReader(), on_error="skip").shape(QUERY, passages)
    assert only(spans, "ctxshaper.stage.Broken").status.status_code is StatusCode.ERROR
    assert only(spans, "ctxshaper.shape").status.status_code is StatusCode.UNSET
    assert "lighthouse" in shaped.warnings[0]
    assert [record.getMessage() for record in caplog.records] == ["Broken failed and was skipped: StageError"]


def test_a_bad_request_is_an_error_of_its_span(spans):
    with pytest.raises(ValueError, match="query"):
        Pipeline([], reader=FakeReader()).shape("  ", ["x"])
    assert only(spans, "ctxshaper.shape").status.description == "InvalidInputError"


@pytest.mark.parametrize("way", ["threads", "tasks"])
def test_a_batch_is_one_subtree_for_each_request(spans, passages, way):
    pipeline = Pipeline([EvidenceFilter(), S2A()], reader=FakeReader(), generator=FakeGenerator(ANSWER), budget=20)
    requests = [(f"{QUERY} {number}", passages) for number in range(5)]

    async def tasks():
        with tracing.span("caller"):
            await pipeline.ashape_batch(requests)

    if way == "tasks":
        asyncio.run(tasks())
    else:
        with tracing.span("caller"):
            pipeline.shape_batch(requests)
    caller = only(spans, "caller")
    shapes = finished(spans, "ctxshaper.shape")
    assert [span.parent.span_id for span in shapes] == [caller.context.span_id] * 5
    for name in ("ctxshaper.stage.S2A", "ctxshaper.stage.EvidenceFilter"):
        parents = [span.parent.span_id for span in finished(spans, name)]
        assert sorted(parents) == sorted(span.context.span_id for span in shapes)
    stages = {span.context.span_id for span in finished(spans, "ctxshaper.stage.S2A")}
    assert {span.parent.span_id for span in finished(spans, "ctxshaper.generate")} == stages
    assert len(finished(spans, "chat fake")) == 5


class Slow(Generator):
    """Never answers in time."""

    def generate(self, prompt):
        raise AssertionError("it is asked asynchronously")

    async def agenerate(self, prompt):
        await asyncio.sleep(30)


@pytest.mark.parametrize("end", ["cancelled", "out of time"])
def test_a_request_that_ends_while_it_waits_ends_its_spans(spans, passages, caplog, end):
    pipeline = Pipeline([S2A()], reader=FakeReader(), generator=Slow())

    async def ask():
        task = asyncio.create_task(pipeline.ashape(QUERY, passages, timeout=0.5 if end == "out of time" else None))
        if end == "cancelled":
            await asyncio.sleep(0.5)
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError, DeadlineError):
            await task
        assert tracing.here() is None

    with caplog.at_level(logging.ERROR):
        asyncio.run(ask())
    assert outline(spans) == ["shape", ". stage.S2A", ". . generate"]
    for span in finished(spans):
        assert span.status.status_code is StatusCode.ERROR
    assert only(spans, "ctxshaper.shape").status.description == "ended by its caller"
    assert not caplog.records  # OpenTelemetry logs a context that is left elsewhere than it was entered


def test_a_generator_that_cannot_be_made_is_skipped_awaited_or_not(passages, tmp_path):
    pipeline = Pipeline([S2A()], reader=FakeReader(), language_model=str(tmp_path), on_error="skip")
    blocking, awaited = pipeline.shape(QUERY, passages), asyncio.run(pipeline.ashape(QUERY, passages))
    assert blocking.trace.stages[0].error
    assert awaited.trace.stages[0].error == blocking.trace.stages[0].error


def test_the_embedded_kind_of_model_counts_its_tokens(spans, tiny_model):
    model = LocalGenerator(tiny_model("llama"), max_new_tokens=4, device="cpu", dtype="float32")
    model.generate("so that it is loaded")
    spans.clear()
    answers = model.generate_batch(["Who?", "Where is it?"])
    (span,) = finished(spans)
    rows = [model.language_model.chat.encode(prompt) for prompt in ("Who?", "Where is it?")]
    assert span.name == f"chat {model.source.name}"
    assert span.attributes["gen_ai.usage.input_tokens"] == sum(map(len, rows))
    assert 0 < span.attributes["gen_ai.usage.output_tokens"] <= 8
    assert span.attributes["ctxshaper.prompts"] == 2
    assert len(answers) == 2


def test_models_of_the_frameworks(spans):
    from langchain_core.language_models import FakeListChatModel
    from llama_index.core.llms import MockLLM

    tracing.record_content()
    assert LangChainGenerator(FakeListChatModel(responses=["Odo"])).generate("Who?") == "Odo"
    asyncio.run(LlamaIndexGenerator(MockLLM(max_tokens=2)).agenerate("Who?"))
    first, second = finished(spans)
    assert json.loads(first.attributes["output.value"]) == ["Odo"]
    assert second.attributes["gen_ai.request.model"] == MockLLM().metadata.model_name
    for span in (first, second):
        assert span.attributes["openinference.span.kind"] == "LLM"
        # A viewer would add them to those of the framework's own instrumentation.
        assert not [name for name in span.attributes if "token" in name]
