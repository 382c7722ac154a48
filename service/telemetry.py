"""Spans of a request's stages for OpenTelemetry, where the operator has asked for them.

FastAPI makes the span of the exchange and sets up the export if `OTEL_EXPORTER_OTLP_ENDPOINT` or
one of its kin is set and the extra `otel` is installed; otherwise no SDK is imported.
"""

from collections.abc import Mapping
from time import time_ns
from typing import Any

from fastapi.telemetry import TelemetryConfig
from opentelemetry import trace

_UNTOLD = frozenset({"/healthz", "/readyz", "/metrics"})

CONFIG = TelemetryConfig(
    auto_configure=True,
    logs=False,  # they would hold the messages of exceptions, which may quote a payload
    operation_spans=False,
    exclude=lambda scope: scope.get("path") in _UNTOLD,
)

_tracer = trace.get_tracer("lanistr")


def tell_stages(milliseconds: Mapping[str, float], **attributes: Any) -> None:
    """Make a span of each stage of the current request, one after another, the last ending now."""
    if not trace.get_current_span().is_recording():
        return
    start = time_ns() - int(1e6 * sum(milliseconds.values()))
    for stage, spent in milliseconds.items():
        span = _tracer.start_span(stage, start_time=start, attributes=attributes)
        start += int(1e6 * spent)
        span.end(start)


def hide_query() -> None:
    """Take the query out of the exchange's span: it may be about a patient."""
    span = trace.get_current_span()
    if span.is_recording():
        span.set_attribute("url.query", "")
