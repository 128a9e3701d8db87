"""OpenTelemetry: spans and metrics from a client's events (extra `otel`). A client without it pays nothing for it.

    telemetry = Telemetry()
    async with AlphapoClient(key, secret, on_event=telemetry) as client, telemetry.watching(client):
        await client.withdraw(...)

Spans: `withdrawal`, a child of the span that is current where it is requested; in it one span of kind client for each attempt and look-up.

| metric | kind, unit | what |
| --- | --- | --- |
| `alphapo.withdrawal.active` | up-down counter, {withdrawal} | being worked on now |
| `alphapo.withdrawal.duration` | histogram, s | from the request to its outcome, by `alphapo.outcome` |
| `alphapo.withdrawal.outcomes` | counter, {withdrawal} | settled, left unknown, or (`open`) waiting to be sent, by `alphapo.outcome` |
| `alphapo.withdrawal.attempts`, `.look_ups` | counters, {request} | by `alphapo.proof` |
| `alphapo.withdrawal.oldest_open.age`, `.oldest_doubt.age` | gauges, s | 0 if there is none |
| `alphapo.callbacks` | counter, {callback} | by `alphapo.status` |
| `alphapo.contradictions` | counter, {contradiction} | AlphaPo shows the opposite of what it showed before: an operator should look |
| `alphapo.key.refused` | gauge, {key} | 1 while AlphaPo does not accept the key, by `alphapo.key_fingerprint` |
| `alphapo.retry_budget.left` | gauge, {request} | retries and look-ups that may leave at once, from 0 to 100 |
| `alphapo.circuit_breaker.open` | gauge, {breaker} | 1 while AlphaPo gives no readable answers |
| `alphapo.journal.duration` | histogram, s | until a withdrawal was recorded |
| `alphapo.journal.failures` | counter, {failure} | the journal could not be used, by a worker in its loop or for a withdrawal |
| `alphapo.journal.went_back` | counter, {report} | the journal lost commits that it had acknowledged, or a callback shows it |
| `alphapo.journal.frozen` | gauge, {withdrawal} | open rows that no worker sends since then |
| `alphapo.task.failures` | counter, {failure} | a background task met an unexpected error, at most one a minute for each task |
| `http.client.request.duration` | histogram, s | one request, with the attributes of the semantic conventions |

Counters are at 0, with every value of their attribute, from the first event or `watching` on. The values stay within a major release:

- `alphapo.outcome`: `accepted`, `failed`, `rejected`, `not_sent`, `conflict`, `key_refused`, `unknown`, `open`.
- `alphapo.proof` of attempts: `accepted`, `rejected`, `duplicate`, `key_refused`, `not_sent`, `in_doubt`, `mismatch`; of look-ups:
  `found`, `none`, `no_answer`.
- `alphapo.status`: `processing`, `not_confirmed`, `pending`, `confirmed`, `cancelled`, `declined`; `other` for what is not documented.

A look-up that AlphaPo answers with "none" (404), and a refusal of the payment, are answers: their spans are no errors.

Source of the names: https://opentelemetry.io/docs/specs/semconv/http/ (1.36). `alphapo.` is this library's own prefix; every metric has
`alphapo.account`, every span `alphapo.foreign_id`, too. No key, signature, body or address is among them.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, Callable
from contextvars import ContextVar
from typing import Any, Final, get_args
from urllib.parse import urlsplit

import msgspec
from opentelemetry import context, metrics, trace
from opentelemetry.trace import Span, SpanKind, StatusCode

from alphapo_async.client import AlphapoClient
from alphapo_async.core.errors import ConfigurationError, JournalError
from alphapo_async.core.events import Event, EventName, EventOutcome
from alphapo_async.core.models import Health
from alphapo_async.core.replies import AnswerName, ProofName
from alphapo_async.core.version import __version__
from alphapo_async.supervisor import log_error

__all__ = ["Telemetry"]

logger = logging.getLogger("alphapo_async")

_SCHEMA: Final = "https://opentelemetry.io/schemas/1.36.0"
_ENDPOINTS: Final[dict[str, tuple[str, str]]] = {
    "attempt": ("POST", "/api/v2/withdrawal/crypto"),
    "look-up": ("GET", "/api/v2/transactions/info"),
}
_REQUEST_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10)
_WITHDRAWAL_SECONDS: Final = (*_REQUEST_SECONDS, 15, 30, 60, 120)
_ERRORS_FROM: Final = 400
_ANSWERS: Final = frozenset({"rejected", "duplicate", "none"})
"""Proofs whose status of HTTP is no error: AlphaPo answered the question."""
_CLEAR_OUTCOMES: Final = frozenset({"accepted", "failed", "rejected", "conflict", "open"})
"""Outcomes that are no error of the span `withdrawal`."""
_STATUSES: Final = ("processing", "not_confirmed", "pending", "confirmed", "cancelled", "declined", "other")
_PORTS: Final = {"http": 80, "https": 443}


class _Begun(msgspec.Struct, gc=False):
    """A flight that is under way here."""

    span: Span
    at: float
    attempts: int = 0


class Telemetry:
    """What a client's `on_event` can be: it turns events into spans and metrics. One can listen to several clients.

    Args:
        tracer_provider: the global one if None.
        meter_provider: the global one if None.
    """

    def __init__(
        self,
        *,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        self._tracer = trace.get_tracer("alphapo_async", __version__, tracer_provider, _SCHEMA)
        self._meters = _Meters(metrics.get_meter("alphapo_async", __version__, meter_provider, _SCHEMA))
        self._accounts: set[str] = set()
        """The accounts whose counters exist."""
        self._begun_here: ContextVar[_Begun | None] = ContextVar("withdrawal", default=None)
        self._handlers: dict[EventName, Callable[[Event], None]] = {
            "begun": self._begun,
            "recorded": self._recorded,
            "attempt": self._exchanged,
            "look-up": self._exchanged,
            "callback": self._called_back,
            "settled": self._settled,
            "unknown": self._settled,
            "waiting": self._settled,
            "ended": self._ended,
            "contradiction": self._contradicted,
            "outage began": self._outage,
            "outage ended": self._outage,
            "journal failed": self._journal_failed,
            "journal went back": self._journal_went_back,
            "key refused": self._key_changed,
            "key accepted": self._key_changed,
            "task failed": self._task_failed,
        }

    def __call__(self, event: Event) -> None:
        """Take one event; names that a later release may bring are left alone."""
        self._start(event.account)
        handler = self._handlers.get(event.name)
        if handler is not None:
            handler(event)

    def _start(self, account: str) -> None:
        if account not in self._accounts:
            self._accounts.add(account)
            self._meters.start({"alphapo.account": account})

    async def measure(self, client: AlphapoClient) -> Health:
        """Set the gauges once: ages of the oldest open withdrawal and doubt, budget and outage.

        Raises:
            JournalError: the journal cannot be read; the gauges stay as they are.
        """
        health = await client.health()
        self._meters.tell_health(health)
        return health

    @contextlib.asynccontextmanager
    async def watching(self, client: AlphapoClient, *, every: float = 30.0) -> AsyncGenerator[None, None]:
        """Measure every so many seconds while the block runs, until the client is closed; an error is logged."""
        self._start(client.account)
        task = asyncio.create_task(self._watch(client, every))
        try:
            yield
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def _watch(self, client: AlphapoClient, every: float) -> None:
        while True:
            try:
                await self.measure(client)
            except JournalError as error:
                logger.warning("not measured: %s", error.detail, extra={"foreign_id": None})
            except ConfigurationError as error:  # the client is closed
                logger.warning("no longer measured: %s", error, extra={"foreign_id": None})
                return
            except Exception as error:  # noqa: BLE001 - the gauges must not stand still without a word
                log_error("not measured", error)
            await asyncio.sleep(every)

    # ── events ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _begun(self, event: Event) -> None:
        """Open a span: the current one in the flight's own context, which ends with it, and is the parent of all spans there."""
        span = self._tracer.start_span("withdrawal", attributes=_about(event), start_time=_nanoseconds(event.at))
        self._begun_here.set(_Begun(span, event.at))
        context.attach(trace.set_span_in_context(span))
        self._meters.active.add(1, _of(event))

    def _recorded(self, event: Event) -> None:
        begun = self._begun_here.get()
        if begun is not None:
            self._meters.journal_duration.record(max(0.0, event.at - begun.at), _of(event))

    def _ended(self, event: Event) -> None:
        begun = self._begun_here.get()
        if begun is None:
            return
        span = begun.span
        span.set_attributes({"alphapo.outcome": event.outcome or "", "alphapo.attempts": event.attempts})
        span.set_attribute("alphapo.look_ups", event.look_ups)
        if event.outcome not in _CLEAR_OUTCOMES:
            span.set_attribute("error.type", event.outcome or "")
            span.set_status(StatusCode.ERROR, event.reason or event.outcome)
        span.end(_nanoseconds(event.at))
        self._meters.active.add(-1, _of(event))
        self._meters.duration.record(
            max(0.0, event.at - begun.at), {**_of(event), "alphapo.outcome": event.outcome or ""}
        )

    def _exchanged(self, event: Event) -> None:
        """One request: a span of its own, also where no flight began it."""
        proof = event.proof or ""
        http = _http(event, proof)
        counter = self._meters.attempts if event.name == "attempt" else self._meters.look_ups
        counter.add(1, {**_of(event), "alphapo.proof": proof})
        began, until = event.at if event.began is None else event.began, event.until or event.at
        self._meters.requests.record(max(0.0, until - began), {key: http[key] for key in http if key != "url.full"})
        if event.name == "attempt" and (resent := self._resent(event)):
            http["http.request.resend_count"] = resent
        span = self._tracer.start_span(
            " ".join(_ENDPOINTS[event.name]),
            kind=SpanKind.CLIENT,
            attributes={
                **_about(event),
                **http,
                "alphapo.proof": proof,
                **({"alphapo.reason": event.reason} if event.reason else {}),
            },
            start_time=_nanoseconds(began),
        )
        if "error.type" in http:
            span.set_status(StatusCode.ERROR, event.reason or proof)
        span.end(_nanoseconds(until))

    def _resent(self, event: Event) -> int:
        """Return how many attempts there were before: in this flight, whether or not they left, and of the row, as far as they did."""
        begun = self._begun_here.get()
        if begun is None:
            return max(event.attempts, 1) - 1
        begun.attempts += 1
        return max(begun.attempts, event.attempts) - 1

    def _settled(self, event: Event) -> None:
        self._meters.outcomes.add(1, {**_of(event), "alphapo.outcome": event.outcome or ""})

    def _called_back(self, event: Event) -> None:
        status = event.alphapo_status if event.alphapo_status in _STATUSES else "other"
        self._meters.callbacks.add(1, {**_of(event), "alphapo.status": status})

    def _contradicted(self, event: Event) -> None:
        self._meters.contradictions.add(1, _of(event))
        begun = self._begun_here.get()
        if begun is not None:
            begun.span.add_event("contradiction", {"alphapo.reason": event.reason or ""}, _nanoseconds(event.at))

    def _outage(self, event: Event) -> None:
        self._meters.breaker.set(1 if event.name == "outage began" else 0, _of(event))

    def _journal_failed(self, event: Event) -> None:
        self._meters.journal_failures.add(1, _of(event))

    def _journal_went_back(self, event: Event) -> None:
        self._meters.journal_went_back.add(1, _of(event))

    def _key_changed(self, event: Event) -> None:
        about = {**_of(event), "alphapo.key_fingerprint": event.key_fingerprint or ""}
        self._meters.key_refused.set(1 if event.name == "key refused" else 0, about)

    def _task_failed(self, event: Event) -> None:
        self._meters.task_failures.add(1, _of(event))


class _Meters:
    """The instruments."""

    def __init__(self, meter: metrics.Meter) -> None:
        count, measure, level = meter.create_counter, meter.create_histogram, meter.create_gauge
        name = "alphapo.withdrawal."
        self.active = meter.create_up_down_counter(f"{name}active", "{withdrawal}", "Being worked on now")
        self.duration = measure(
            f"{name}duration",
            "s",
            "From the request to its outcome",
            explicit_bucket_boundaries_advisory=_WITHDRAWAL_SECONDS,
        )
        self.outcomes = count(f"{name}outcomes", "{withdrawal}", "Settled, left unknown, or waiting to be sent")
        self.attempts = count(f"{name}attempts", "{request}", "Bodies sent")
        self.look_ups = count(f"{name}look_ups", "{request}", "Questions by foreign_id")
        self.callbacks = count("alphapo.callbacks", "{callback}", "Callbacks received")
        self.contradictions = count(
            "alphapo.contradictions", "{contradiction}", "AlphaPo shows the opposite of what it showed before"
        )
        self.journal_failures = count("alphapo.journal.failures", "{failure}", "The journal could not be used")
        self.journal_went_back = count("alphapo.journal.went_back", "{report}", "The journal lost commits")
        self.task_failures = count("alphapo.task.failures", "{failure}", "A background task met an unexpected error")
        self.journal_duration = measure(
            "alphapo.journal.duration",
            "s",
            "Until a withdrawal was recorded",
            explicit_bucket_boundaries_advisory=_REQUEST_SECONDS,
        )
        self.requests = measure(
            "http.client.request.duration",
            "s",
            "Duration of HTTP client requests.",
            explicit_bucket_boundaries_advisory=_REQUEST_SECONDS,
        )
        self.oldest_open = level(f"{name}oldest_open.age", "s", "Age of the oldest withdrawal that is not settled")
        self.oldest_doubt = level(f"{name}oldest_doubt.age", "s", "Age of the oldest doubt")
        self.budget = level("alphapo.retry_budget.left", "{request}", "Retries and look-ups that may leave at once")
        self.breaker = level("alphapo.circuit_breaker.open", "{breaker}", "1 while AlphaPo gives no readable answers")
        self.frozen = level("alphapo.journal.frozen", "{withdrawal}", "Open rows that no worker sends")
        self.key_refused = level("alphapo.key.refused", "{key}", "1 while AlphaPo does not accept the key")

    def start(self, about: dict[str, str]) -> None:
        """Have every counter of an account exist: an alert on its increase misses the first one otherwise."""
        for counter in (self.contradictions, self.journal_failures, self.journal_went_back, self.task_failures):
            counter.add(0, about)
        self.active.add(0, about)
        for counter, name, values in (
            (self.outcomes, "outcome", get_args(EventOutcome)),
            (self.attempts, "proof", get_args(ProofName)),
            (self.look_ups, "proof", get_args(AnswerName)),
            (self.callbacks, "status", _STATUSES),
        ):
            for value in values:
                counter.add(0, {**about, f"alphapo.{name}": value})

    def tell_health(self, health: Health) -> None:
        about = {"alphapo.account": health.account}
        self.oldest_open.set(_age(health.oldest_open_at, health.at), about)
        self.oldest_doubt.set(_age(health.oldest_doubt_at, health.at), about)
        self.budget.set(health.retry_budget_left, about)
        self.breaker.set(int(health.is_outage), about)
        self.frozen.set(health.frozen, about)


# ── attributes ───────────────────────────────────────────────────────────────────────────────────────────────────────


def _of(event: Event) -> dict[str, str]:
    """What every measurement has: few values, so that no backend drowns in them."""
    return {"alphapo.account": event.account}


def _about(event: Event) -> dict[str, str]:
    return {"alphapo.account": event.account, "alphapo.foreign_id": event.foreign_id or ""}


def _http(event: Event, proof: str) -> dict[str, Any]:
    """Return what the semantic conventions ask of a client's HTTP request; an answer of AlphaPo is no error, under any status."""
    method, path = _ENDPOINTS[event.name]
    url = urlsplit(event.base_url)
    attributes: dict[str, Any] = {
        "http.request.method": method,
        "server.address": url.hostname or "",
        "server.port": url.port or _PORTS.get(url.scheme, 0),
        "url.full": event.base_url + path,
    }
    if event.http_status is not None:
        attributes["http.response.status_code"] = event.http_status
    if event.http_status is None:
        attributes["error.type"] = proof
    elif event.http_status >= _ERRORS_FROM and proof not in _ANSWERS:
        attributes["error.type"] = str(event.http_status)
    return attributes


def _age(since: float | None, now: float) -> float:
    return 0.0 if since is None else max(0.0, now - since)


def _nanoseconds(seconds: float) -> int:
    return round(seconds * 1e9)
