"""Spans and metrics, as the SDK's in-memory exporters see them."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import aiohttp
import msgspec
import pytest
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from alphapo_async.client import AlphapoClient
from alphapo_async.contrib.opentelemetry import Telemetry
from alphapo_async.core.errors import AuthenticationError, JournalError, WithdrawalRejected
from alphapo_async.core.events import Event
from alphapo_async.journal.memory import MemoryJournal
from alphapo_async.sandbox import Sandbox
from tests.support.virtual import run
from tests.support.wire import BAD_KEY, HTML_502, INSUFFICIENT, LOST, NOT_FOUND, Wire, client, request


class Backend:
    """What a telemetry backend would have received."""

    def __init__(self) -> None:
        self.exported = InMemorySpanExporter()
        self.tracers = TracerProvider()
        self.tracers.add_span_processor(SimpleSpanProcessor(self.exported))
        self.reader = InMemoryMetricReader()
        self.telemetry = Telemetry(tracer_provider=self.tracers, meter_provider=MeterProvider([self.reader]))

    @property
    def spans(self) -> list[ReadableSpan]:
        return list(self.exported.get_finished_spans())

    def metrics(self) -> dict[str, list[tuple[dict[str, Any], Any]]]:
        """Return attributes and value of every data point, by metric; of a histogram its count."""
        data = self.reader.get_metrics_data()
        assert data is not None
        (scope,) = data.resource_metrics[0].scope_metrics
        assert scope.scope.name == "alphapo_async"
        return {
            metric.name: [
                (dict(point.attributes or {}), getattr(point, "value", getattr(point, "count", None)))
                for point in metric.data.data_points
            ]
            for metric in scope.metrics
        }

    def above_zero(self) -> dict[str, list[tuple[dict[str, Any], Any]]]:
        """Return the same without the points at 0."""
        return above_zero(self.metrics())


def above_zero(metrics: dict[str, list[tuple[dict[str, Any], Any]]]) -> dict[str, list[tuple[dict[str, Any], Any]]]:
    """Return the points that are not 0."""
    points = {name: [point for point in points if point[1]] for name, points in metrics.items()}
    return {name: above for name, above in points.items() if above}


SHOP = {"alphapo.account": "shop"}
LOCAL = {"server.address": "127.0.0.1", "server.port": 1}


def test_a_withdrawal_is_a_span_with_a_child_for_each_request() -> None:
    """Lost, not found, sent again, and accepted: whoever asked for it is the parent, and every time is that of the request."""
    backend = Backend()

    async def story() -> None:
        async with client(Wire([LOST], [NOT_FOUND]), on_event=backend.telemetry) as alphapo:
            with backend.tracers.get_tracer("shop").start_as_current_span("checkout"):
                await alphapo.withdraw(request("payout-17"))

    run(story())
    lost, asked, sent, withdrawal, checkout = backend.spans
    assert withdrawal.parent is not None
    assert withdrawal.parent.span_id == checkout.context.span_id
    assert {span.parent.span_id for span in (lost, asked, sent) if span.parent} == {withdrawal.context.span_id}
    names = ["POST /api/v2/withdrawal/crypto", "GET /api/v2/transactions/info", "POST /api/v2/withdrawal/crypto"]
    assert [span.name for span in (lost, asked, sent)] == names
    assert {span.kind for span in (lost, asked, sent)} == {SpanKind.CLIENT}
    assert withdrawal.attributes == {
        "alphapo.account": "default",
        "alphapo.foreign_id": "payout-17",
        "alphapo.outcome": "accepted",
        "alphapo.attempts": 2,
        "alphapo.look_ups": 1,
    }
    assert withdrawal.status.status_code is StatusCode.UNSET
    times = [(span.start_time or 0, span.end_time or 0) for span in (lost, asked, sent, withdrawal)]
    assert all(began < until for began, until in times)
    assert times[0][1] <= times[1][0] < times[1][1] <= times[2][0]
    assert times[3][0] <= times[0][0]
    assert times[3][1] >= times[2][1]


def test_a_request_has_the_attributes_of_the_conventions() -> None:
    """Method, address, port, status where there is one, and the kind of error where there is one."""
    backend = Backend()

    async def story() -> None:
        async with client(Wire([LOST, HTML_502], [NOT_FOUND]), on_event=backend.telemetry) as alphapo:
            await alphapo.withdraw(request("payout-17"))

    run(story())
    lost, asked, failed, again, accepted, _withdrawal = (dict(span.attributes or {}) for span in backend.spans)
    base = str(lost["url.full"]).removesuffix("/api/v2/withdrawal/crypto")
    common = {key: lost[key] for key in ("server.address", "server.port", "alphapo.account", "alphapo.foreign_id")}
    post = {"http.request.method": "POST", "url.full": f"{base}/api/v2/withdrawal/crypto", **common}
    get = {"http.request.method": "GET", "url.full": f"{base}/api/v2/transactions/info", **common}
    assert lost == {**post, "error.type": "in_doubt", "alphapo.proof": "in_doubt", "alphapo.reason": "connection lost"}
    assert asked == {
        **get,
        "http.response.status_code": 404,
        "alphapo.proof": "none",
    }
    assert (failed["http.response.status_code"], failed["error.type"]) == (502, "502")
    assert again == asked
    resent = {"http.request.resend_count": 2}
    assert accepted == {**post, "http.response.status_code": 201, "alphapo.proof": "accepted", **resent}
    assert failed["http.request.resend_count"] == 1
    statuses = [span.status.status_code for span in backend.spans]
    assert statuses == [StatusCode.ERROR, StatusCode.UNSET] * 2 + [StatusCode.UNSET] * 2


def test_what_is_sent_again_is_counted() -> None:
    """In a flight also what never left; without one, and in a later flight, what the row has seen."""
    backend = Backend()

    async def flight(*attempts: int) -> None:
        backend.telemetry(event("begun", foreign_id="a"))
        for number in attempts:
            backend.telemetry(
                event("attempt", foreign_id="a", proof="not_sent", reason="no connection", attempts=number)
            )
        backend.telemetry(event("ended", foreign_id="a", outcome="not_sent"))

    asyncio.run(flight(0, 0, 1))
    asyncio.run(flight(2))
    backend.telemetry(event("attempt", foreign_id="a", proof="accepted", http_status=201, attempts=3))
    for number in (1, 0):
        backend.telemetry(event("attempt", foreign_id="b", proof="accepted", http_status=201, attempts=number))
    sent = [span for span in backend.spans if span.kind is SpanKind.CLIENT]
    assert [(span.attributes or {}).get("http.request.resend_count") for span in sent] == [None, 1, 2, 1, 2, None, None]


def test_a_refusal_of_the_payment_is_an_answer_and_no_error() -> None:
    """Neither the request nor the withdrawal is an error: AlphaPo answered, and no money moved."""
    backend = Backend()

    async def story() -> None:
        async with client(Wire([INSUFFICIENT]), on_event=backend.telemetry) as alphapo:
            with pytest.raises(WithdrawalRejected):
                await alphapo.withdraw(request("payout-17"))

    run(story())
    (*_, withdrawal), sent = backend.spans, next(span for span in backend.spans if span.name.startswith("POST"))
    assert {span.status.status_code for span in backend.spans} == {StatusCode.UNSET}
    assert (sent.attributes or {})["alphapo.proof"] == "rejected"
    assert (withdrawal.attributes or {})["alphapo.outcome"] == "rejected"
    assert not {"error.type"} & {*(sent.attributes or {}), *(withdrawal.attributes or {})}


def test_a_refused_key_is_an_error() -> None:
    """Of the request, with its status, and of the withdrawal, with its outcome."""
    backend = Backend()

    async def story() -> None:
        async with client(Wire([BAD_KEY]), on_event=backend.telemetry) as alphapo:
            with pytest.raises(AuthenticationError):
                await alphapo.withdraw(request("payout-17"))

    run(story())
    sent, withdrawal = backend.spans
    assert [span.status.status_code for span in (sent, withdrawal)] == [StatusCode.ERROR] * 2
    assert [(span.attributes or {})["error.type"] for span in (sent, withdrawal)] == ["403", "key_refused"]
    [(about, refused)] = backend.metrics()["alphapo.key.refused"]
    assert (about["alphapo.account"], len(about["alphapo.key_fingerprint"]), refused) == ("default", 16, 1)


def test_counters_exist_at_zero_from_the_start() -> None:
    """With every value of their attribute, before anything has happened; an alert sees the first increase."""
    backend = Backend()

    async def story() -> None:
        async with client(Wire(), account="shop") as alphapo, backend.telemetry.watching(alphapo, every=5.0):
            await asyncio.sleep(1.0)

    run(story())
    seen = {name: {value for _, value in points} for name, points in backend.metrics().items()}
    counters = ("contradictions", "journal.failures", "journal.went_back", "task.failures", "callbacks")
    withdrawals = ("outcomes", "attempts", "look_ups", "active")
    zeros = [*counters, *(f"withdrawal.{name}" for name in withdrawals), "circuit_breaker.open"]
    assert {name: seen[f"alphapo.{name}"] for name in zeros} == {name: {0} for name in zeros}
    assert len(backend.metrics()["alphapo.withdrawal.outcomes"]) == 8


def test_what_happens_is_counted_and_timed() -> None:
    """Attempts and look-ups by what they prove, outcomes, durations, and nothing left active."""
    backend = Backend()

    async def story() -> None:
        wire = Wire([LOST], [NOT_FOUND])
        async with client(wire, account="shop", on_event=backend.telemetry) as alphapo:
            await asyncio.gather(*(alphapo.withdraw(request(f"payout-{number}")) for number in range(3)))

    run(story())
    result = backend.above_zero()
    assert backend.metrics()["alphapo.withdrawal.active"] == [(SHOP, 0)]
    assert result["alphapo.withdrawal.outcomes"] == [({**SHOP, "alphapo.outcome": "accepted"}, 3)]
    assert result["alphapo.withdrawal.duration"] == [({**SHOP, "alphapo.outcome": "accepted"}, 3)]
    assert result["alphapo.journal.duration"] == [(SHOP, 3)]
    attempts = {point["alphapo.proof"]: count for point, count in result["alphapo.withdrawal.attempts"]}
    assert attempts == {"in_doubt": 3, "accepted": 3}
    assert result["alphapo.withdrawal.look_ups"] == [({**SHOP, "alphapo.proof": "none"}, 3)]
    requests = result["http.client.request.duration"]
    assert sum(count for _, count in requests) == 9
    assert {point["http.request.method"] for point, _ in requests} == {"GET", "POST"}
    assert not any("foreign_id" in key or "url" in key for point, _ in requests for key in point)


def event(name: Any, **result: Any) -> Event:
    """Return an event as a client tells it."""
    return Event(name=name, at=10.0, account="shop", base_url="http://127.0.0.1:1", **result)


def test_what_happens_without_a_flight_is_counted_too() -> None:
    """Callbacks, contradictions, outages and a journal that fails; a look-up that nobody's flight made is a span of its own."""
    backend = Backend()
    for one in (
        event("callback", foreign_id="a", alphapo_status="confirmed"),
        event("contradiction", foreign_id="a", reason="accepted after a no"),
        event("settled", foreign_id="a", outcome="accepted"),
        event("recorded", foreign_id="a"),
        event("ended", foreign_id="a", outcome="accepted"),
        event("callback", foreign_id="a", alphapo_status="a status of a later release"),
        event("outage began"),
        event("journal went back", reason="3 rows are frozen."),
        event("task failed", task="work", reason="work: ValueError"),
        event("key refused", code="bad_header_key", key_fingerprint="old"),
        event("key refused", code="bad_header_key", key_fingerprint="new"),
        event("key accepted", key_fingerprint="new"),
        event("journal failed", reason="The disk is full."),
        event("look-up", foreign_id="a", proof="found", http_status=200),
        msgspec.structs.replace(event("attempt"), name="a name of a later release"),
    ):
        backend.telemetry(one)

    metrics = backend.metrics()  # once: older versions give the value of a gauge to one reading only
    result = above_zero(metrics)
    assert result["alphapo.callbacks"] == [({**SHOP, "alphapo.status": name}, 1) for name in ("confirmed", "other")]
    assert result["alphapo.journal.went_back"] == [(SHOP, 1)]
    assert result["alphapo.task.failures"] == [(SHOP, 1)]
    keys = [({**SHOP, "alphapo.key_fingerprint": name}, refused) for name, refused in (("old", 1), ("new", 0))]
    assert metrics["alphapo.key.refused"] == keys
    assert result["alphapo.contradictions"] == [(SHOP, 1)]
    assert result["alphapo.withdrawal.outcomes"] == [({**SHOP, "alphapo.outcome": "accepted"}, 1)]
    assert result["alphapo.circuit_breaker.open"] == [(SHOP, 1)]
    assert result["alphapo.journal.failures"] == [(SHOP, 1)]
    assert result["http.client.request.duration"] == [
        ({"http.request.method": "GET", "http.response.status_code": 200, **LOCAL}, 1)
    ]
    assert not result.keys() & {"alphapo.withdrawal.active", "alphapo.journal.duration", "alphapo.withdrawal.duration"}
    (span,) = backend.spans
    assert (span.parent, span.status.status_code) == (None, StatusCode.UNSET)


def test_a_contradiction_during_a_flight_stands_in_its_span() -> None:
    """Whoever reads the trace sees it where it happened."""
    backend = Backend()

    async def flight() -> None:
        backend.telemetry(event("begun", foreign_id="a"))
        backend.telemetry(event("contradiction", foreign_id="a", reason="accepted after a no"))
        backend.telemetry(event("ended", foreign_id="a", outcome="unknown", reason="internal error"))

    asyncio.run(flight())
    (span,) = backend.spans
    assert [(one.name, dict(one.attributes or {})) for one in span.events] == [
        ("contradiction", {"alphapo.reason": "accepted after a no"})
    ]
    assert span.status.description == "internal error"


def test_the_gauges_follow_while_a_client_is_watched() -> None:
    """Oldest open withdrawal, oldest doubt, budget left and outage, measured again and again."""
    backend = Backend()

    async def story() -> list[Any]:
        seen: list[list[Any]] = []
        names = (
            "alphapo.withdrawal.oldest_open.age",
            "alphapo.withdrawal.oldest_doubt.age",
            "alphapo.retry_budget.left",
        )
        async with client(Wire([LOST] * 9, [HTML_502] * 99), account="shop", on_event=backend.telemetry) as alphapo:
            async with backend.telemetry.watching(alphapo, every=5.0):
                await asyncio.sleep(1.0)
                seen.append([result[name] for result in [backend.metrics()] for name in names])
                waiting = asyncio.ensure_future(alphapo.withdraw(request("payout-17")))
                await asyncio.sleep(10.0)
                seen.append([result[name] for result in [backend.metrics()] for name in names])
            waiting.cancel()
        return seen

    (before, after) = run(story())
    assert before == [[(SHOP, 0.0)], [(SHOP, 0.0)], [(SHOP, 100.0)]]
    (((_, open_age),), ((_, doubt_age),), ((_, budget),)) = after
    assert 0 < doubt_age <= open_age < 10
    assert 90 < budget < 100


class Unreadable(MemoryJournal):
    """A journal that cannot be read for a while."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.asked = 0
        self.error = error

    async def find_open(self, *args: Any) -> Any:
        self.asked += 1
        if self.asked == 1:
            raise self.error
        return await super().find_open(*args)


@pytest.mark.parametrize(
    ("error", "logged"),
    [
        (JournalError("The disk is away."), "not measured: The disk is away."),
        (RuntimeError("anything"), "not measured: RuntimeError\n"),
    ],
)
def test_a_journal_that_cannot_be_read_is_asked_again(
    error: Exception, logged: str, caplog: pytest.LogCaptureFixture
) -> None:
    """The log has the error, also an unexpected one, and the gauges come back by themselves."""
    backend, journal = Backend(), Unreadable(error)

    async def story() -> None:
        async with (
            client(Wire(), account="shop", journal=journal) as alphapo,
            backend.telemetry.watching(alphapo, every=5.0),
        ):
            await asyncio.sleep(6.0)

    with caplog.at_level(logging.WARNING, logger="alphapo_async"):
        run(story())
    assert journal.asked == 2
    [message] = [record.getMessage() for record in caplog.records]
    assert message.startswith(logged)
    assert backend.metrics()["alphapo.circuit_breaker.open"] == [(SHOP, 0)]


def test_a_client_that_is_closed_while_it_is_watched_is_measured_no_more(caplog: pytest.LogCaptureFixture) -> None:
    """The block ends without an error of its own."""
    backend = Backend()

    async def story() -> None:
        async with client(Wire(), account="shop") as alphapo, backend.telemetry.watching(alphapo, every=5.0):
            await alphapo.aclose()
            await asyncio.sleep(12.0)

    with caplog.at_level(logging.WARNING, logger="alphapo_async"):
        run(story())
    [message] = [record.getMessage() for record in caplog.records]
    assert message.startswith("no longer measured: The client is closed")


async def test_aiohttps_own_traces_do_not_double_the_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    """What watches every session, as aiohttp's instrumentation does, sees none of our requests."""
    seen: list[str] = []
    init = aiohttp.ClientSession.__init__

    async def begun(_session: object, _context: object, result: aiohttp.TraceRequestStartParams) -> None:
        seen.append(result.url.path)

    def watched(self: aiohttp.ClientSession, **settings: Any) -> None:
        traces = aiohttp.TraceConfig()
        traces.on_request_start.append(begun)
        init(self, **settings, trace_configs=[traces])

    monkeypatch.setattr(aiohttp.ClientSession, "__init__", watched)
    async with Sandbox() as sandbox:
        async with AlphapoClient(sandbox.key, sandbox.secret, base_url=sandbox.url, journal="memory") as alphapo:
            await alphapo.withdraw(request("payout-17"))
        async with aiohttp.ClientSession() as another, another.get(f"{sandbox.url}/api/v2/ping"):
            pass
    assert seen == ["/api/v2/ping"]


def test_without_providers_of_its_own_the_global_ones_are_used() -> None:
    """And without an SDK nothing happens, and nothing goes wrong."""

    async def story() -> int | str | None:
        async with client(Wire(), on_event=Telemetry()) as alphapo:
            return (await alphapo.withdraw(request("payout-17"))).id

    assert run(story()) is not None
