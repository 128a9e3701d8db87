"""Metrics that Prometheus scrapes (extra `prometheus`), as `alphapo worker --health-port` serves them at `/metrics`.

    with prometheus_telemetry() as telemetry:
        async with AlphapoClient(key, secret, on_event=telemetry) as client, telemetry.watching(client):
            async with health_server(client, port=8080, metrics=metrics_page):
                await client.work()

The names are those of `contrib.opentelemetry` in Prometheus' form, such as `alphapo_withdrawal_outcomes_total`; the alert rules in
`contrib/monitoring` are written for them.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from opentelemetry.exporter.prometheus import PrometheusMetricReader
from opentelemetry.sdk.metrics import MeterProvider
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from alphapo_async.contrib.opentelemetry import Telemetry

__all__ = ["metrics_page", "prometheus_telemetry"]


@contextlib.contextmanager
def prometheus_telemetry() -> Iterator[Telemetry]:
    """Yield a `Telemetry` whose metrics `metrics_page` shows while the block runs. It makes no spans."""
    meters = MeterProvider([PrometheusMetricReader()], shutdown_on_exit=False)
    try:
        yield Telemetry(meter_provider=meters)
    finally:
        meters.shutdown()


def metrics_page() -> tuple[bytes, str]:
    """Return all metrics of this process as Prometheus reads them, and their content type."""
    return generate_latest(), CONTENT_TYPE_LATEST
