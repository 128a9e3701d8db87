"""Events and log lines: what happened, how loud, and nothing that must stay secret."""

import logging
from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from alphapo_async.core.comparison import Difference
from alphapo_async.core.events import Event
from alphapo_async.core.evidence import (
    Attempt,
    CalledBack,
    ControlFound,
    Evidence,
    LookedUp,
    Released,
    ReplyExcerpt,
    Requested,
    Revision,
)
from alphapo_async.core.models import CryptoAddress, Transaction, Withdrawal
from alphapo_async.core.replies import (
    Accepted,
    Duplicate,
    Found,
    InDoubt,
    KeyRefused,
    NoAnswer,
    NoneFound,
    NotSent,
    Rejected,
)
from alphapo_async.core.results import FlightResult
from alphapo_async.core.row import Row
from alphapo_async.engine.observer import Observer

SECRET = "bc1q-secret-address"
BODY = b'{"address":"bc1q-secret-address","amount":1}'
OPEN = Row(
    account="ops",
    foreign_id="payout-17",
    revision=Revision(BODY, None, kept_digest="d1"),
    key_fingerprint="fingerprint-0001",
    created_at=1.0,
    holder="worker",
)
PAID = Withdrawal(id=7, foreign_id="payout-17", source="reply")


def changed(row: Row, **fields: Any) -> Row:
    """Return the row with other fields."""
    return msgspec.structs.replace(row, **fields)


def attempt(proof: Any) -> Attempt:
    """Return an attempt with this proof."""
    return Attempt("worker", proof, 1.0, 2.0)


class Heard:
    """An owner who writes down all events."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.observer = Observer("ops", self.events.append, lambda: 42.5)

    def learned(self, before: Row, after: Row, evidence: Evidence, *, is_written: bool = True) -> list[Any]:
        self.observer.on_evidence(before, after, evidence, is_written=is_written)
        return [
            (event.name, event.outcome, event.reason or event.alphapo_status or event.proof) for event in self.events
        ]


@pytest.mark.parametrize(
    ("evidence", "shown"),
    [
        (attempt(InDoubt("HTTP 502")), ("attempt", "in_doubt", "HTTP 502", None)),
        (attempt(NotSent("throttled")), ("attempt", "not_sent", "throttled", None)),
        (attempt(KeyRefused("bad_header_key")), ("attempt", "key_refused", "bad_header_key", "bad_header_key")),
        (attempt(Duplicate({"foreign_id": ["taken"]})), ("attempt", "duplicate", None, None)),
        (attempt(Rejected({"address": [SECRET]})), ("attempt", "rejected", None, None)),
        (attempt(Accepted(PAID)), ("attempt", "accepted", None, None)),
        (LookedUp("worker", NoneFound()), ("look-up", "none", None, None)),
        (LookedUp("worker", NoAnswer("HTTP 502")), ("look-up", "no_answer", "HTTP 502", None)),
        (LookedUp("worker", NoAnswer("HTTP 403", code="x")), ("look-up", "no_answer", "HTTP 403", "x")),
    ],
)
def test_attempts_and_look_ups_say_what_they_prove(evidence: Evidence, shown: tuple[str | None, ...]) -> None:
    """The judgement's word, its reason and AlphaPo's code, and never what stands in the errors."""
    seen = Heard()
    seen.learned(OPEN, OPEN, evidence)
    [event] = seen.events
    assert (event.name, event.proof, event.reason, event.code) == shown
    assert event.outcome is None


def test_other_events_have_what_they_name_in_fields_of_its_own() -> None:
    """No listener has to read the reason."""
    seen = Heard()
    seen.observer.key_changed("fingerprint", "bad_header_key")
    seen.observer.on_not_final(changed(OPEN, withdrawal=Withdrawal(id=7, status="processing")))
    seen.observer.callback_not_in_journal(Transaction(id=7, status="confirmed", foreign_id="payout-17"))
    seen.observer.on_task_failed("work", ValueError())
    shown = [(event.code, event.alphapo_status, event.task) for event in seen.events]
    assert shown == [
        ("bad_header_key", None, None),
        (None, "processing", None),
        (None, "confirmed", None),
        (None, None, "work"),
    ]


def test_an_exchange_is_told_with_its_times_and_status() -> None:
    """When it began and ended, what HTTP said, and where AlphaPo was asked."""
    events: list[Event] = []
    observer = Observer("ops", events.append, lambda: 42.5, "https://alphapo.example")
    observer.on_evidence(OPEN, OPEN, Attempt("worker", InDoubt("HTTP 502"), 1.0, 2.0, ReplyExcerpt(502, b"<html>")))
    observer.on_evidence(OPEN, OPEN, LookedUp("worker", NoneFound(), ReplyExcerpt(404), 3.0, 4.0))
    observer.on_evidence(OPEN, OPEN, LookedUp("worker", NoneFound()))
    results = [(event.began, event.until, event.http_status, event.at, event.base_url) for event in events]
    assert results == [
        (1.0, 2.0, 502, 42.5, "https://alphapo.example"),
        (3.0, 4.0, 404, 42.5, "https://alphapo.example"),
        (None, None, None, 42.5, "https://alphapo.example"),
    ]


def test_a_flight_is_told_from_its_beginning_to_its_end() -> None:
    """Begun, taken on by the journal, and over with what its callers are told."""
    received = Heard()
    tried = changed(OPEN, attempts=2, look_ups=1)
    received.observer.on_begun("payout-17")
    received.observer.on_recorded(OPEN)
    received.observer.on_ended(FlightResult("payout-17", changed(tried, state="accepted", withdrawal=PAID)))
    received.observer.on_ended(FlightResult("payout-17", tried, "in flight"))
    received.observer.on_ended(FlightResult("payout-17", None, "unrecorded", "The disk is full.", recorded=False))
    received.observer.on_ended(FlightResult("payout-17", OPEN, "journal", "queue"))
    received.observer.on_ended(FlightResult("payout-17", OPEN, "journal"))
    results = [(event.name, event.foreign_id, event.outcome, event.reason) for event in received.events]
    assert results == [
        ("begun", "payout-17", None, None),
        ("recorded", "payout-17", None, None),
        ("ended", "payout-17", "accepted", None),
        ("ended", "payout-17", "unknown", "in flight"),
        ("journal failed", "payout-17", None, "The disk is full."),
        ("ended", "payout-17", "not_sent", "unrecorded"),
        ("journal failed", "payout-17", None, "what came of it could not be recorded (queue)"),
        ("ended", "payout-17", "unknown", "journal"),
        ("journal failed", "payout-17", None, "what came of it could not be recorded"),
        ("ended", "payout-17", "unknown", "journal"),
    ]
    counts = [(event.attempts, event.look_ups) for event in received.events]
    assert counts == [(0, 0), (0, 0), (2, 1), (2, 1), *[(0, 0)] * 6]


def test_where_nobody_listens_a_flight_is_not_told(caplog: pytest.LogCaptureFixture) -> None:
    """The log has a line for the outcome, and one for each attempt; that is enough."""
    with caplog.at_level(logging.DEBUG, logger="alphapo_async"):
        observer = Observer("ops", None, lambda: 0.0)
        observer.on_begun("payout-17")
        observer.on_recorded(OPEN)
        observer.on_ended(FlightResult("payout-17", OPEN))
    assert caplog.records == []


def test_a_callback_is_told_with_its_status_and_loudly_if_it_does_not_fit() -> None:
    """What it says of whom stays in the history."""
    result = Transaction(id=7, status="confirmed")
    accepted = changed(OPEN, state="accepted", withdrawal=PAID)
    assert Heard().learned(OPEN, accepted, CalledBack(result)) == [
        ("callback", None, "confirmed"),
        ("settled", "accepted", None),
    ]
    assert Heard().learned(accepted, accepted, CalledBack(result, doubt=SECRET)) == [
        ("callback", None, "confirmed"),
        ("contradiction", None, "a callback does not fit; the history says why"),
    ]


def test_a_callback_that_does_not_fit_an_open_row_contradicts_nothing() -> None:
    """Nothing was reported yet: the row is looked up from now on."""
    unsure = changed(OPEN, look_ups_only=True)
    assert Heard().learned(OPEN, unsure, CalledBack(Transaction(id=7, status="declined"), doubt="too little")) == [
        ("callback", None, "declined")
    ]


def test_figures_that_differ_are_reported_once() -> None:
    """Of a withdrawal that is known by its id; an open row shows them where it is asked about."""
    differing = (Difference("amount", "1", "2"),)
    accepted = changed(OPEN, state="accepted", withdrawal=PAID)
    after = changed(accepted, differences=differing)
    found = LookedUp("worker", Found(Transaction(id=7)))
    reported = ("figures differ", None, "amount: asked '1', AlphaPo shows '2'")
    assert Heard().learned(accepted, after, found) == [("look-up", None, "found"), reported]
    assert Heard().learned(after, after, found) == [("look-up", None, "found")]
    assert Heard().learned(after, accepted, found) == [("look-up", None, "found")]
    assert Heard().learned(OPEN, changed(OPEN, differences=differing), found) == [("look-up", None, "found")]


def test_an_event_names_the_withdrawal_and_counts() -> None:
    """Time, account, foreign_id and the row's figures after the evidence are told."""
    seen = Heard()

    seen.learned(OPEN, changed(OPEN, attempts=3, look_ups=2), attempt(InDoubt("HTTP 502")))

    (event,) = seen.events
    assert (event.at, event.account, event.foreign_id) == (42.5, "ops", "payout-17")
    assert (event.attempts, event.look_ups) == (3, 2)


@pytest.mark.parametrize("state", ["accepted", "failed", "rejected", "conflict", "key_refused"])
def test_a_row_that_settles_is_told_once(state: str) -> None:
    """When the state changes, and not again while it stays."""
    settled = changed(OPEN, state=state)
    evidence = attempt(InDoubt("x"))

    assert Heard().learned(OPEN, settled, evidence)[1:] == [("settled", state, None)]
    assert Heard().learned(settled, settled, evidence)[1:] == []


def test_what_is_not_written_down_is_not_told_as_settled() -> None:
    """Only an acceptance needs no journal to be true."""
    refused, accepted = changed(OPEN, state="rejected"), changed(OPEN, state="accepted")

    assert Heard().learned(OPEN, refused, attempt(InDoubt("x")), is_written=False)[1:] == []
    assert Heard().learned(OPEN, accepted, attempt(InDoubt("x")), is_written=False)[1:] == [
        ("settled", "accepted", None)
    ]


def test_an_acceptance_that_was_told_ahead_is_not_told_again_by_whoever_writes_it_down() -> None:
    """A callback may come before the lagging write; once that is written, the next one is news again."""
    received, accepted = Heard(), changed(OPEN, state="accepted")
    evidence = attempt(InDoubt("x"))

    received.observer.on_reported_early(OPEN.foreign_id)
    assert received.learned(OPEN, accepted, evidence)[1:] == []
    assert received.learned(OPEN, changed(OPEN, state="failed"), evidence)[2:] == [("settled", "failed", None)]
    received.observer.on_written(OPEN.foreign_id)
    assert received.learned(OPEN, accepted, evidence)[-1] == ("settled", "accepted", None)


def test_not_sent_is_settled_too() -> None:
    """A flight that gave up without doubt has settled its row, and is not told as unknown."""
    assert Heard().learned(OPEN, changed(OPEN, state="not_sent"), Released("worker", "outage")) == [
        ("settled", "not_sent", None)
    ]


def test_a_flight_that_ends_without_knowing_is_told_as_unknown() -> None:
    """Given up while open: the sum in which the row counts, and the last word."""
    doubtful = changed(OPEN, doubt_since=1.0, reason="HTTP 502")

    assert Heard().learned(doubtful, doubtful, Released("worker", "")) == [("unknown", "unknown", "HTTP 502")]


def test_a_flight_that_ends_before_anything_left_is_told_as_open() -> None:
    """A worker sends it yet: neither in doubt, nor not sent for good."""
    assert Heard().learned(OPEN, OPEN, Released("worker", "outage", stays_open=True)) == [("waiting", "open", "outage")]


def test_a_row_that_waits_is_reported_once_in_an_outage() -> None:
    """A worker tries it every few seconds; after the outage it is news again, and a doubt is news each time."""
    watched, waits = Heard(), changed(OPEN, reason="no connection: refused")
    released = Released("worker", "no connection: refused", stays_open=True)
    for _ in range(3):
        watched.observer.on_evidence(waits, waits, released)
    watched.observer.on_outage(has_begun=True)
    watched.observer.on_evidence(waits, waits, released)
    watched.observer.on_outage(has_begun=False)
    watched.observer.on_evidence(waits, waits, released)
    doubtful = changed(waits, doubt_since=1.0)
    watched.observer.on_evidence(doubtful, doubtful, released)
    watched.observer.on_evidence(doubtful, doubtful, released)
    names = [event.name for event in watched.events]
    assert names == ["waiting", "outage began", "outage ended", "waiting", "unknown", "unknown"]


def test_rows_that_wait_take_no_more_memory_with_every_row() -> None:
    """So many are remembered; beyond them a row may be reported again."""
    events: list[Event] = []
    observer = Observer("ops", events.append, lambda: 0.0)
    for number in (*range(10_001), 0):
        row = changed(OPEN, foreign_id=str(number))
        observer.on_evidence(row, row, Released("worker", "outage", stays_open=True))
    assert [event.foreign_id for event in events][-2:] == ["10000", "0"]


@pytest.mark.parametrize("why", ["", "closing"])
def test_what_was_not_sent_ends_as_open(why: Any) -> None:
    """Unknown means that it may have arrived."""
    events: list[Event] = []
    observer = Observer("ops", events.append, lambda: 0.0)
    observer.on_ended(FlightResult("payout-17", OPEN, why))
    observer.on_ended(FlightResult("payout-17", changed(OPEN, doubt_since=1.0), why))
    assert [event.outcome for event in events] == ["open", "unknown"]


def test_a_row_opened_again_is_no_news() -> None:
    """Asked for once more, a settled row opens: nothing is settled and nothing is unknown."""
    asked = Requested("worker", OPEN.revision, OPEN.key_fingerprint)

    assert Heard().learned(changed(OPEN, state="not_sent"), OPEN, asked) == []
    assert Heard().learned(OPEN, OPEN, ControlFound("worker", 1.0)) == []


def test_a_contradiction_is_told_once_and_beside_the_new_outcome() -> None:
    """AlphaPo now says otherwise: the contradiction, then the outcome; the same one again is no news."""
    before = changed(OPEN, state="rejected")
    after = changed(OPEN, state="accepted", contradiction="accepted after rejected")
    other = changed(after, contradiction="declined after confirmed")
    evidence = LookedUp("worker", NoneFound())

    assert Heard().learned(before, after, evidence)[1:] == [
        ("contradiction", None, "accepted after rejected"),
        ("settled", "accepted", None),
    ]
    assert Heard().learned(after, after, evidence)[1:] == []
    assert Heard().learned(after, other, evidence)[1:] == [("contradiction", None, "declined after confirmed")]


def test_an_outage_begins_and_ends() -> None:
    """Both are events of the client, of no withdrawal."""
    received = Heard()

    received.observer.on_outage(has_begun=True)
    received.observer.on_outage(has_begun=False)

    assert [(one.name, one.foreign_id, one.account, one.at) for one in received.events] == [
        ("outage began", None, "ops", 42.5),
        ("outage ended", None, "ops", 42.5),
    ]


def test_a_refused_key_is_reported_with_its_fingerprint_and_so_is_its_return(caplog: pytest.LogCaptureFixture) -> None:
    """The event names the key and AlphaPo's code, the error line says that no money moved, and the return is one quiet line."""
    received = Heard()

    with caplog.at_level(logging.INFO, logger="alphapo_async"):
        received.observer.key_changed("fingerprint-0001", "bad_header_key")
        received.observer.key_changed("fingerprint-0001", None)

    assert [(event.name, event.key_fingerprint, event.reason, event.foreign_id) for event in received.events] == [
        ("key refused", "fingerprint-0001", "bad_header_key", None),
        ("key accepted", "fingerprint-0001", None, None),
    ]
    refused, accepted = caplog.records
    assert (refused.levelno, accepted.levelno) == (logging.ERROR, logging.INFO)
    assert "does not accept the key of fingerprint fingerprint-0001" in refused.getMessage()
    assert refused.getMessage().endswith("(alphapo runbook key-refused)")
    assert "No money moved" in refused.getMessage()
    assert accepted.getMessage() == "key accepted key of fingerprint fingerprint-0001: workers continue with its rows"


def test_a_journal_that_went_back_is_reported_with_its_frozen_rows_and_the_runbook() -> None:
    """The event belongs to no withdrawal, counts the frozen rows, and names the page of the runbook."""
    received = Heard()

    received.observer.journal_went_back(3)

    (event,) = received.events
    assert (event.name, event.foreign_id) == ("journal went back", None)
    assert (event.reason or "").startswith("3 rows are frozen. ")
    assert (event.reason or "").endswith("(alphapo runbook failover)")


def test_a_callback_of_a_withdrawal_that_the_journal_may_have_lost_is_reported() -> None:
    """The event names the withdrawal, AlphaPo's id and the status, and nothing else of the callback."""
    received = Heard()

    received.observer.callback_not_in_journal(
        Transaction(id=7, foreign_id="payout-17", status="confirmed", crypto_address=CryptoAddress(address=SECRET))
    )

    (event,) = received.events
    assert (event.name, event.foreign_id) == ("journal went back", "payout-17")
    assert "not in the journal (AlphaPo's id 7, confirmed)" in (event.reason or "")
    assert SECRET not in repr(event)


# ── the log ──────────────────────────────────────────────────────────────────────────────────────────────────────────

DOUBTFUL = changed(OPEN, doubt_since=1.0, reason="HTTP 502")
LOUDNESS: list[tuple[Callable[[Observer], None], int, str]] = [
    (
        lambda n: n.on_evidence(OPEN, OPEN, attempt(InDoubt("HTTP 502"))),
        logging.DEBUG,
        "attempt payout-17 in_doubt: HTTP 502",
    ),
    (lambda n: n.on_evidence(OPEN, OPEN, LookedUp("w", NoneFound())), logging.DEBUG, "look-up payout-17 none"),
    (
        lambda n: n.on_evidence(OPEN, changed(OPEN, state="accepted"), ControlFound("w", 1.0)),
        logging.INFO,
        "settled payout-17 accepted",
    ),
    (
        lambda n: n.on_evidence(DOUBTFUL, DOUBTFUL, Released("w", "")),
        logging.WARNING,
        "unknown payout-17 unknown HTTP 502",
    ),
    (
        lambda n: n.on_evidence(OPEN, OPEN, Released("w", "no connection", stays_open=True)),
        logging.INFO,
        "waiting payout-17 open no connection (nothing was sent yet; a worker sends it later)",
    ),
    (
        lambda n: n.on_evidence(OPEN, changed(OPEN, contradiction="x after y"), ControlFound("w", 1.0)),
        logging.ERROR,
        "contradiction payout-17 x after y (alphapo runbook unknown)",
    ),
    (
        lambda n: n.on_outage(has_begun=True),
        logging.WARNING,
        "outage began AlphaPo gives no readable answer: sending nothing new, and probing",
    ),
    (lambda n: n.on_outage(has_begun=False), logging.INFO, "outage ended AlphaPo answers again"),
    (lambda n: n.on_journal_failed("The disk is gone."), logging.ERROR, "journal failed The disk is gone."),
    (
        lambda n: n.on_not_final(changed(OPEN, withdrawal=Withdrawal(id=7, status="processing"))),
        logging.WARNING,
        "not final payout-17 processing",
    ),
]


@pytest.mark.parametrize("threshold", [logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR])
@pytest.mark.parametrize(("happening", "level", "line"), LOUDNESS)
@pytest.mark.parametrize("has_owner", [True, False])
def test_each_event_has_its_level(
    caplog: pytest.LogCaptureFixture,
    happening: Callable[[Observer], None],
    level: int,
    line: str,
    threshold: int,
    *,
    has_owner: bool,
) -> None:
    """Whoever logs from a level on hears everything from that level on, whether or not events are asked for."""
    with caplog.at_level(threshold, logger="alphapo_async"):
        happening(Observer("ops", (lambda _: None) if has_owner else None, lambda: 0.0))

    received = [(record.name, record.levelno, record.getMessage()) for record in caplog.records]
    assert received == ([("alphapo_async", level, line)] if level >= threshold else [])


def test_a_log_record_has_every_field_of_its_event(caplog: pytest.LogCaptureFixture) -> None:
    """Under the field's name; the event's own name is `event`, because a record has a `name`."""
    events: list[Event] = []
    observer = Observer("ops", events.append, lambda: 42.5, "https://alphapo.example")
    with caplog.at_level(logging.DEBUG, logger="alphapo_async"):
        observer.on_evidence(OPEN, OPEN, Attempt("worker", InDoubt("HTTP 502"), 1.0, 2.0, ReplyExcerpt(502)))
    (record,), (event,) = caplog.records, events
    fields = msgspec.structs.asdict(event)
    assert record.__dict__["event"] == fields.pop("name")
    assert fields == {name: record.__dict__[name] for name in fields}


def test_a_failing_journal_is_logged_once_in_a_worker_s_round(caplog: pytest.LogCaptureFixture) -> None:
    """The rest is at DEBUG, and every event is delivered; without rounds each call has a line of its own."""
    events: list[Event] = []
    observer = Observer("ops", events.append, lambda: 42.5)
    with caplog.at_level(logging.INFO, logger="alphapo_async"):
        observer.on_journal_failed("The disk is gone.", "payout-17")
        observer.on_journal_failed("The disk is gone.", "payout-18")
        for _ in range(2):
            observer.on_round()
            observer.on_journal_failed("The disk is gone.", "payout-17")
            observer.on_not_written("payout-18", "The disk is gone.")
            observer.on_journal_failed("The disk is gone.")
    assert [record.getMessage() for record in caplog.records] == [
        "journal failed payout-17 The disk is gone.",
        "journal failed payout-18 The disk is gone.",
        *["journal failed payout-17 The disk is gone."] * 2,
    ]
    assert len(events) == 6


def test_a_log_line_carries_the_foreign_id_as_a_field(caplog: pytest.LogCaptureFixture) -> None:
    """Structured logs find it without reading the text."""
    with caplog.at_level(logging.DEBUG, logger="alphapo_async"):
        Observer("ops", None, lambda: 0.0).on_evidence(OPEN, OPEN, attempt(InDoubt("x")))

    assert caplog.records[0].__dict__["foreign_id"] == "payout-17"


def test_an_owner_who_raises_is_logged_and_goes_no_further(caplog: pytest.LogCaptureFixture) -> None:
    """The work on the money goes on, and later events are told as well."""
    results: list[str] = []

    def raising(event: Event) -> None:
        results.append(event.name)
        raise ZeroDivisionError("the owner's own mistake")

    observer = Observer("ops", raising, lambda: 0.0)
    with caplog.at_level(logging.ERROR, logger="alphapo_async"):
        observer.on_evidence(OPEN, changed(OPEN, state="accepted"), attempt(Accepted(PAID)))

    assert results == ["attempt", "settled"]
    assert [record.getMessage() for record in caplog.records] == [
        "on_event raised at attempt",
        "on_event raised at settled",
    ]
    assert all(record.exc_info and record.exc_info[0] is ZeroDivisionError for record in caplog.records)


def test_an_owner_may_stop_the_program() -> None:
    """What is no `Exception`, such as Ctrl-C, is not swallowed."""

    def stopping(event: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Observer("ops", stopping, lambda: 0.0).on_outage(has_begun=True)


def test_neither_body_nor_key_is_told(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever the evidence, no event and no line holds the body, the address or the key's fingerprint."""
    received = Heard()
    settled = changed(OPEN, state="rejected", refusal={"address": [SECRET]})
    evidences: list[Evidence] = [
        Requested("worker", OPEN.revision, OPEN.key_fingerprint),
        attempt(Rejected({"address": [SECRET]})),
        attempt(Duplicate({"foreign_id": [SECRET]})),
        LookedUp("worker", NoneFound()),
        Released("worker", ""),
    ]

    with caplog.at_level(logging.DEBUG, logger="alphapo_async"):
        for evidence in evidences:
            received.learned(OPEN, settled, evidence)

    shown = f"{received.events!r} {caplog.text} {[record.__dict__ for record in caplog.records]!r}"
    assert SECRET not in shown
    assert "amount" not in shown
    assert OPEN.key_fingerprint not in shown
    assert "payout-17" in shown


def test_an_error_that_should_not_be_is_logged_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    """The kind of error and the place where it came from; what it says may hold anything."""
    words = ("hidden", "in the error")

    def fail() -> None:
        raise ZeroDivisionError(" ".join(words))

    try:
        fail()
    except ZeroDivisionError as error:
        Observer("ops", None, lambda: 0.0).on_internal_error("payout-17", error)

    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.__dict__["foreign_id"] == "payout-17"
    assert "payout-17 ZeroDivisionError" in caplog.text
    assert "engine/test_observer.py" in caplog.text
    assert "hidden in the error" not in caplog.text


def test_an_acceptance_that_was_not_written_down_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """With the foreign_id, so that somebody can look."""
    Observer("shop", None, lambda: 0.0).on_not_written("payout-17", "The disk is full.")
    assert "payout-17" in caplog.text
    assert "The disk is full." in caplog.text


def test_a_failed_task_is_told_without_the_text_of_its_error() -> None:
    """Which task, and the kind of error."""
    received = Heard()
    received.observer.on_task_failed("heartbeat", ZeroDivisionError("hidden"))
    [event] = received.events
    assert (event.name, event.reason, event.foreign_id) == ("task failed", "heartbeat: ZeroDivisionError", None)


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO, logging.WARNING])
def test_an_acceptance_is_logged_only_where_it_is_wanted(level: int, caplog: pytest.LogCaptureFixture) -> None:
    """Without a listener nothing else is done for it; figures that differ are a warning all the same."""
    quiet = Observer("ops", None, lambda: 42.5)
    paid = changed(OPEN, state="accepted", withdrawal=PAID)
    differing = changed(paid, differences=(Difference("amount", "1", "2"),))
    with caplog.at_level(level, logger="alphapo_async"):
        quiet.on_evidence(OPEN, paid, attempt(Accepted(PAID)))
        quiet.on_evidence(OPEN, differing, attempt(Accepted(PAID)))
    names = {record.getMessage().split(" payout")[0] for record in caplog.records}
    assert (
        names
        == {
            logging.DEBUG: {"attempt", "settled", "figures differ"},
            logging.INFO: {"settled", "figures differ"},
            logging.WARNING: {"figures differ"},
        }[level]
    )
