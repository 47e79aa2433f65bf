"""Where traces go: functions for the `exporter_import_path` of Serve's `tracing_config`."""

from opentelemetry.sdk.trace import SpanProcessor
from opentelemetry.sdk.trace.export import BatchSpanProcessor


def otlp() -> list[SpanProcessor]:
    """To an OpenTelemetry collector, over HTTP and off the threads that serve.

    The standard variables say where, `OTEL_EXPORTER_OTLP_ENDPOINT`, and as what,
    `OTEL_SERVICE_NAME`. Raises ImportError without the extra `tracing`.
    """
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    except ModuleNotFoundError as error:
        raise ImportError(
            "tracing_config: serve_app.tracing:otlp needs a package that is not installed; "
            "pip install 'stepwise-serve[tracing]', or leave exporter_import_path out: then spans "
            "are written to files beside Serve's logs"
        ) from error
    return [BatchSpanProcessor(OTLPSpanExporter())]
