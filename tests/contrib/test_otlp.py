"""Export by OTLP over HTTP to a collector on loopback."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.support.virtual import run
from tests.support.wire import Wire, client, request

pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs the extra otlp")

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from alphapo_async.contrib.otlp import otlp_telemetry


class Collector(ThreadingHTTPServer):
    """A collector that keeps what it receives, or does not answer."""

    daemon_threads = True

    def __init__(self, *, hangs: bool = False) -> None:
        self.received: dict[str, list[bytes]] = {}
        self.hangs = hangs
        super().__init__(("127.0.0.1", 0), _Collecting)

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"


class _Collecting(BaseHTTPRequestHandler):
    server: Collector

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.server.hangs:
            time.sleep(2.0)
        self.server.received.setdefault(self.path, []).append(body)
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def collector() -> Iterator[Collector]:
    """A collector that runs."""
    with Collector() as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


def pay_one() -> None:
    """Pay one withdrawal while spans and metrics are exported."""
    with otlp_telemetry() as telemetry:

        async def story() -> None:
            async with client(Wire(), account="shop", on_event=telemetry) as alphapo:
                await alphapo.withdraw(request("payout-17"))

        run(story())


@pytest.mark.parametrize("name", [None, "payouts"])
def test_spans_and_metrics_arrive_under_the_service_s_name(
    collector: Collector, monkeypatch: pytest.MonkeyPatch, name: str | None
) -> None:
    """Everything that is left is sent at the end; the environment's name wins."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
    if name is not None:
        monkeypatch.setenv("OTEL_SERVICE_NAME", name)
    pay_one()
    spans = ExportTraceServiceRequest.FromString(collector.received["/v1/traces"][-1]).resource_spans[0]
    metrics = ExportMetricsServiceRequest.FromString(collector.received["/v1/metrics"][-1]).resource_metrics[0]
    assert {span.name for span in spans.scope_spans[0].spans} >= {"withdrawal", "POST /api/v2/withdrawal/crypto"}
    assert "alphapo.withdrawal.outcomes" in {metric.name for metric in metrics.scope_metrics[0].metrics}
    named = {one.key: one.value.string_value for one in metrics.resource.attributes}
    assert named["service.name"] == (name or "alphapo-worker")


def test_a_collector_that_does_not_answer_holds_the_end_up_for_half_a_second_at_most(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The process ends with what was not exported."""
    with Collector(hangs=True) as silent:
        threading.Thread(target=silent.serve_forever, args=(0.01,), daemon=True).start()
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", silent.url)
        began = time.monotonic()
        pay_one()
        assert time.monotonic() - began < 1.5
        silent.shutdown()
