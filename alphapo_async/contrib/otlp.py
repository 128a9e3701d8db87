"""Spans and metrics sent by OTLP over HTTP (extra `otlp`), as `alphapo worker --otel` does.

OpenTelemetry's own names in the environment apply: `OTEL_EXPORTER_OTLP_ENDPOINT` (`http://localhost:4318` without it),
`OTEL_EXPORTER_OTLP_HEADERS`, `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_METRIC_EXPORT_INTERVAL` (ms) and the others of the SDK.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Final

from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import MetricReader, PeriodicExportingMetricReader
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from alphapo_async.contrib.opentelemetry import Telemetry

__all__ = ["otlp_telemetry"]

_LAST_SECONDS: Final = 0.5
"""What was not exported yet gets so long at the end, also where the collector does not answer."""


@contextlib.contextmanager
def otlp_telemetry(*, service: str = "alphapo-worker", readers: Iterable[MetricReader] = ()) -> Iterator[Telemetry]:
    """Yield a `Telemetry` whose spans and metrics are exported while the block runs; the end takes half a second at most.

    Args:
        service: the service's name where the environment gives none.
        readers: further readers of the metrics, such as Prometheus' one.
    """
    is_named = "OTEL_SERVICE_NAME" in os.environ or "service.name=" in os.environ.get("OTEL_RESOURCE_ATTRIBUTES", "")
    resource = Resource.create({} if is_named else {"service.name": service})
    tracers = TracerProvider(resource=resource, shutdown_on_exit=False)
    tracers.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    exporter = PeriodicExportingMetricReader(OTLPMetricExporter())
    meters = MeterProvider([exporter, *readers], resource=resource, shutdown_on_exit=False)
    try:
        yield Telemetry(tracer_provider=tracers, meter_provider=meters)
    finally:
        ends = [threading.Thread(target=end, daemon=True) for end in (meters.shutdown, tracers.shutdown)]
        for end in ends:
            end.start()
        until = time.monotonic() + _LAST_SECONDS
        for end in ends:
            end.join(max(0.0, until - time.monotonic()))
