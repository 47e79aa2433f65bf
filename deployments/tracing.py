"""Spans of our own in Serve's traces: where a request's time goes between its hops.

The rooms measure and know no OpenTelemetry; their shims hand over what was measured. Where Serve
does not trace a request (`tracing_config`), nothing is recorded.
"""

from collections.abc import Iterable

from opentelemetry import trace

from deployments.requests import Phase


def add_spans(phases: Iterable[Phase], begun_s: float, **attributes: str) -> None:
    """Children of the span under way, one for each phase, of which `begun_s` is the beginning.

    In Unix seconds.
    """
    # Serve starts no span for a request that it does not sample: ours would begin new traces.
    if not trace.get_current_span().is_recording():
        return
    tracer = trace.get_tracer(__name__)
    for phase in phases:
        span = tracer.start_span(
            phase.name, start_time=_ns(begun_s + phase.begun_s), attributes=attributes
        )
        span.end(_ns(begun_s + phase.ended_s))


def _ns(unix_s: float) -> int:
    return round(unix_s * 1e9)
