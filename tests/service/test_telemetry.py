"""OpenTelemetry: told to a collector where one is named."""

import gzip
import json
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import httpx
import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"


@pytest.fixture
def collector():
    """A server that keeps what is exported."""
    found: list[ExportTraceServiceRequest] = []

    class Keeper(BaseHTTPRequestHandler):
        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            if self.path == "/v1/traces":
                found.append(ExportTraceServiceRequest.FromString(body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    with HTTPServer(("127.0.0.1", 0), Keeper) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}", found
        server.shutdown()
        thread.join()


def test_spans_of_a_request_reach_a_collector(start_server, stay, collector, monkeypatch):
    url, found = collector
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    monkeypatch.setenv("OTEL_SERVICE_NAME", "lanistr-test")
    with start_server("--log-format", "json") as server:
        answer = httpx.post(
            f"{server.url}/predict/mortality?explain=true&coverage=0.7",
            json=stay,
            headers={"traceparent": f"00-{TRACE}-00f067aa0ba902b7-01"},
        )
        assert answer.status_code == 200
        assert server.says(TRACE)
        lines = [json.loads(line) for line in server.log().splitlines()]
    spans = [
        span
        for export in found
        for resource in export.resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    named = {span.name: span for span in spans if span.trace_id.hex() == TRACE}
    assert set(named) == {"POST /predict/{task}", "preprocess", "queue", "inference"}
    whole = named["POST /predict/{task}"]
    assert whole.parent_span_id.hex() == "00f067aa0ba902b7"
    assert answer.headers["traceparent"] == f"00-{TRACE}-{whole.span_id.hex()}-01"
    for name in ("preprocess", "queue", "inference"):
        assert named[name].parent_span_id == whole.span_id
        assert whole.start_time_unix_nano <= named[name].start_time_unix_nano
    assert not any("coverage" in str(span) for span in spans)
    assert any(line.get("trace") == TRACE for line in lines)
    assert not any("/readyz" in str(span) for span in spans)
