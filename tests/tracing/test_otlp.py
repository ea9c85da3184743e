"""Spans leave over OTLP as any backend takes them: a real exporter, and a collector of a few lines."""

import gzip
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from ctxshaper import EvidenceFilter, FakeReader, Pipeline, tracing


@pytest.fixture
def collector():
    """Its address, and the requests that arrived."""
    arrived = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["content-length"]))
            if self.headers.get("content-encoding") == "gzip":
                body = gzip.decompress(body)
            arrived.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/v1/traces", arrived
    server.shutdown()
    server.server_close()


def test_a_requests_spans_arrive_with_their_numbers_and_without_texts(collector, monkeypatch):
    address, arrived = collector
    provider = TracerProvider(resource=Resource.create({"service.name": "shop"}))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter(endpoint=address)))
    # The tests have a provider of their own for the whole process, and OpenTelemetry takes one only.
    monkeypatch.setattr(tracing.spans, "_tracer", lambda: provider.get_tracer("ctxshaper"))
    shaped = Pipeline([EvidenceFilter()], reader=FakeReader()).shape(
        "Who designed the bridge?", ["Ada designed the bridge. Plums are blue."], "50%"
    )
    assert provider.force_flush()
    provider.shutdown()
    (resources,) = [one for request in arrived for one in request.resource_spans]
    assert {one.key: one.value.string_value for one in resources.resource.attributes}["service.name"] == "shop"
    spans = {span.name: span for scope in resources.scope_spans for span in scope.spans}
    whole, stage = spans["ctxshaper.shape"], spans["ctxshaper.stage.EvidenceFilter"]
    assert stage.parent_span_id == whole.span_id
    numbers = {one.key: one.value.int_value for one in whole.attributes}
    assert numbers["ctxshaper.tokens_out"] == shaped.tokens
    assert b"plums" not in arrived[0].SerializeToString().lower()
