"""Traces go to an OpenTelemetry collector, by Serve's own tracing."""

import sys
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer
from queue import Queue

import pytest
from opentelemetry import trace
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from ray._common.utils import import_attr
from ray.serve._private.tracing_utils import _validate_tracing_exporter
from server.child import free_port
from server.client import HOST

from deployments.requests import Phase
from deployments.tracing import add_spans
from serve_app.strict import read_config_file
from serve_app.tracing import otlp
from tests.service import ROOT

EXPORTER = "opentelemetry.exporter.otlp.proto.http.trace_exporter"


def test_production_names_what_serve_takes() -> None:
    config = read_config_file(ROOT / "configs" / "production.yaml").tracing_config
    assert config is not None
    exporter = import_attr(config.exporter_import_path)
    assert exporter is otlp
    _validate_tracing_exporter(exporter)


def test_phases_become_children_of_the_span_under_way(monkeypatch: pytest.MonkeyPatch) -> None:
    provider, kept = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    phases = [Phase("queue", 0.0, 0.5), Phase("steps", 0.5, 2.0)]
    with provider.get_tracer("serve").start_as_current_span("request") as request:
        add_spans(phases, 1000.0, row_id="mine-0")
    queue, steps, _ = kept.get_finished_spans()
    for span in (queue, steps):
        assert span.parent == request.get_span_context()
        assert span.attributes == {"row_id": "mine-0"}
    assert (queue.name, queue.start_time, queue.end_time) == ("queue", 10**12, 10**12 + 5 * 10**8)
    assert (steps.name, steps.end_time) == ("steps", 10**12 + 2 * 10**9)


def test_a_request_that_is_not_traced_begins_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    provider, kept = TracerProvider(), InMemorySpanExporter()
    provider.add_span_processor(SimpleSpanProcessor(kept))
    monkeypatch.setattr(trace, "get_tracer", provider.get_tracer)
    add_spans([Phase("queue", 0.0, 0.5)], 1000.0)
    assert not kept.get_finished_spans()


def test_spans_reach_a_collector(monkeypatch: pytest.MonkeyPatch) -> None:
    received: Queue[tuple[str, bytes]] = Queue()

    class Collector(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.put((self.path, self.rfile.read(int(self.headers["content-length"]))))
            self.send_response(200)
            self.end_headers()

    port = free_port()
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", f"http://{HOST}:{port}")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "stepwise-test")
    with HTTPServer((HOST, port), Collector) as collector:
        threading.Thread(target=collector.serve_forever, daemon=True).start()
        provider = TracerProvider()
        for processor in otlp():
            provider.add_span_processor(processor)
        provider.get_tracer("test").start_span("steps").end()
        provider.shutdown()  # sends what waits
        collector.shutdown()
    path, body = received.get_nowait()
    [told] = ExportTraceServiceRequest.FromString(body).resource_spans
    assert path == "/v1/traces"
    assert [span.name for span in told.scope_spans[0].spans] == ["steps"]
    named = {each.key: each.value.string_value for each in told.resource.attributes}
    assert named["service.name"] == "stepwise-test"


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, EXPORTER, None)
    with pytest.raises(ImportError, match=r"pip install 'stepwise-serve\[tracing\]'"):
        otlp()
