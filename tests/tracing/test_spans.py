"""A span by itself: nothing without OpenTelemetry, attributes, errors, the switch for content."""

import asyncio
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context

import pytest
from opentelemetry import trace
from opentelemetry.trace import StatusCode

from ctxshaper import tracing
from ctxshaper.tracing.content import VARIABLE
from tests.tracing.trees import only, outline

TEXT = "the secret of the passage"


@pytest.fixture(autouse=True)
def content_off(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    yield
    tracing.record_content(None)


def run(code):
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


SHAPE = (
    "from ctxshaper import *\n"
    "from ctxshaper import tracing\n"
    "import sys\n"
    "shaped = Pipeline([EvidenceFilter()], reader=FakeReader()).shape('Who?', ['Odo built it. Rain fell.'], 4)\n"
    "with tracing.span('x', passages=1) as span:\n"
    "    span.set(kept=1); span.put({'a': 1}); span.say({'b': 'c'}); span.link(tracing.here())\n"
    "    assert not span.recording\n"
)


def test_without_the_package_all_works():
    block = "import sys\nfor name in ('opentelemetry', 'opentelemetry.trace'): sys.modules[name] = None\n"
    assert run(block + SHAPE + "print(shaped.text)") == "Odo built it."


def test_opentelemetry_is_never_imported_here():
    assert run(SHAPE + "print([name for name in sys.modules if name.startswith('opentelemetry')])") == "[]"


def test_without_a_provider_no_span_is_made():
    assert run("import opentelemetry.trace\n" + SHAPE + "print(tracing.span('x') is tracing.span('y'))") == "True"


def test_a_provider_that_is_set_later_is_found():
    code = SHAPE + (
        "from opentelemetry import trace\n"
        "from opentelemetry.sdk.trace import TracerProvider\n"
        "trace.set_tracer_provider(TracerProvider())\n"
        "with tracing.span('x') as span: print(span.recording)"
    )
    assert run(code) == "True"


def test_attributes_and_their_names(spans):
    with tracing.span("work", "EMBEDDING", passages=3, left_out=None) as span:
        span.set(kept=2, stages=["a", "b"], nothing=None)
        span.put({"reranker.top_k": 4})
    found = only(spans, "work")
    assert dict(found.attributes) == {
        "openinference.span.kind": "EMBEDDING",
        "ctxshaper.passages": 3,
        "ctxshaper.kept": 2,
        "ctxshaper.stages": ("a", "b"),
        "reranker.top_k": 4,
    }
    assert found.instrumentation_scope.name == "ctxshaper"
    assert found.status.status_code is StatusCode.UNSET


def test_what_is_not_sampled_is_not_recorded_but_stays_the_parent(collected):
    switch, exporter = collected
    exporter.clear()
    assert not switch.on
    with tracing.span("work") as span:
        assert not span.recording
        span.set(kept=1)
        span.say({"input.value": TEXT})
        assert trace.get_current_span().get_span_context().is_valid
    assert exporter.get_finished_spans() == ()


def fail(spans):
    with pytest.raises(ValueError, match="secret"), tracing.span("work"):
        raise ValueError(TEXT)
    found = only(spans, "work")
    (event,) = found.events
    assert found.status.status_code is StatusCode.ERROR
    assert event.name == "exception"
    assert event.attributes["exception.type"] == "ValueError"
    assert "test_spans.py" in event.attributes["exception.stacktrace"]
    return found, event


def test_an_error_without_content(spans):
    found, event = fail(spans)
    assert found.status.description == "ValueError"
    assert "secret of" not in found.to_json()
    assert "exception.message" not in event.attributes


def test_an_error_with_content(spans):
    tracing.record_content()
    found, event = fail(spans)
    assert found.status.description == f"ValueError: {TEXT}"
    assert event.attributes["exception.message"] == TEXT


@pytest.mark.parametrize(
    ("variable", "said", "recorded"),
    [
        (None, None, False),
        ("true", None, True),
        ("TRUE", None, True),
        ("false", None, False),
        ("true", False, False),
        ("false", True, True),
    ],
)
def test_the_switch_for_content(spans, monkeypatch, variable, said, recorded):
    if variable:
        monkeypatch.setenv(VARIABLE, variable)
    tracing.record_content(said)
    with tracing.span("work") as span:
        span.say({"input.value": TEXT})
        span.put(tracing.documents("input", [("a", 0.5, TEXT), ("b", None, TEXT)]))
    found = only(spans, "work").attributes
    assert ("input.value" in found) is recorded
    assert ("reranker.input_documents.1.document.content" in found) is recorded
    assert found["reranker.input_documents.0.document.score"] == 0.5
    assert found["reranker.input_documents.1.document.id"] == "b"
    assert "reranker.input_documents.1.document.score" not in found


def test_another_word_for_true_is_said_to_be_none(monkeypatch, caplog):
    monkeypatch.setenv(VARIABLE, "yes, please")
    assert [tracing.content_recorded() for _ in range(2)] == [False, False]
    assert caplog.text.count(f"{VARIABLE} must be true or false") == 1


def test_documents_never_push_out_other_attributes(spans):
    tracing.record_content()
    rows = [(f"id {n}", 0.5, "text") for n in range(200)]
    with tracing.span("work", "RERANKER", passages=200) as span:
        span.put(tracing.documents("input", rows))
        span.put(tracing.documents("output", rows))
    found = only(spans, "work")
    assert found.dropped_attributes == 0
    assert found.attributes["openinference.span.kind"] == "RERANKER"
    assert found.attributes["reranker.output_documents.15.document.id"] == "id 15"


def test_a_lone_surrogate_can_be_exported(spans):
    tracing.record_content()
    with pytest.raises(ValueError, match="bad"), tracing.span("work", title="\ud800x", list=["é", "\udfff"]):
        raise ValueError("bad \ud800")
    only(spans, "work").to_json().encode("utf-8")
    values = only(spans, "work").attributes
    assert values["ctxshaper.list"] == ("é", "?")


def test_a_thread_that_takes_the_context_along_works_for_the_caller(spans):
    def work():
        with tracing.span("child"):
            pass

    with tracing.span("caller"), ThreadPoolExecutor(1) as threads:
        threads.submit(copy_context().run, work).result()
    assert outline(spans) == ["caller", ". child"]


def test_a_link_leads_to_another_thread(spans):
    places, ready, done = [], threading.Event(), threading.Event()

    def read():
        with tracing.span("reading"):
            places.append(tracing.here())
            ready.set()
            assert done.wait(10)

    thread = threading.Thread(target=read)
    thread.start()
    assert ready.wait(10)
    with tracing.span("waiting") as span:
        span.link(places[0])
        span.link(None)
    done.set()
    thread.join()
    (link,) = only(spans, "waiting").links
    assert link.context.span_id == only(spans, "reading").context.span_id
    assert only(spans, "waiting").context.trace_id != only(spans, "reading").context.trace_id


def test_nowhere_is_no_place(spans):
    assert tracing.here() is None


def test_one_call_of_a_language_model(spans):
    tracing.record_content()
    with tracing.chat(
        "m", [[{"role": "user", "content": "Wer?"}]], provider="openai", max_tokens=7, remote=True
    ) as span:
        tracing.answered(span, ["Ödön"], 11, 3)
    found = only(spans, "chat m")
    assert found.kind is trace.SpanKind.CLIENT
    assert dict(found.attributes) == {
        "openinference.span.kind": "LLM",
        "ctxshaper.prompts": 1,
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "m",
        "gen_ai.request.max_tokens": 7,
        "llm.provider": "openai",
        "llm.model_name": "m",
        "input.value": '[[{"role": "user", "content": "Wer?"}]]',
        "input.mime_type": "application/json",
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 3,
        "llm.token_count.prompt": 11,
        "llm.token_count.completion": 3,
        "llm.token_count.total": 14,
        "output.value": '["Ödön"]',
        "output.mime_type": "application/json",
    }


def test_what_is_not_known_of_a_call_is_left_out(spans):
    with tracing.chat(None, ["Who?"]) as span:
        tracing.answered(span, ["Odo"], 5)
    found = only(spans, "chat").attributes
    assert found["gen_ai.usage.input_tokens"] == 5
    assert not {"gen_ai.request.model", "llm.token_count.total", "input.value", "output.value"} & set(found)


def test_tasks_beside_each_other_are_not_mixed_up(spans):
    async def one(name):
        with tracing.span(name):
            await asyncio.sleep(0.01)
            with tracing.span(f"in {name}"):
                await asyncio.sleep(0.01)

    async def both():
        with tracing.span("caller"):
            await asyncio.gather(one("a"), one("b"))

    asyncio.run(both())
    parents = {name: only(spans, f"in {name}").parent.span_id for name in "ab"}
    assert parents == {name: only(spans, name).context.span_id for name in "ab"}
