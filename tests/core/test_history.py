"""The history: one line for each thing heard."""

from __future__ import annotations

from decimal import Decimal

import pytest
from msgspec.structs import replace

from alphapo_async.core.evidence import (
    Attempt,
    CalledBack,
    ControlFound,
    Evidence,
    LeaseExpired,
    LookedUp,
    OperatorDecision,
    Released,
    Remembered,
    ReplyExcerpt,
    Reported,
    Requested,
    Unfrozen,
)
from alphapo_async.core.history import (
    EXCERPT,
    Entry,
    entries_of,
    entry_of,
    excerpt_of,
    is_stored,
    merged,
    named,
    noted,
    recorded,
    requested,
)
from alphapo_async.core.models import Fee, Transaction, TransactionPart, Withdrawal
from alphapo_async.core.replies import InDoubt, KeyRefused, NoAnswer, NoneFound, NoReply, Reply
from alphapo_async.core.row import Row
from tests.support.rows import ACCEPTED_ROW, CORRECTED, NOT_SENT_ROW, OURS, row

FULL = Transaction(
    id=7,
    status="confirmed",
    transactions=(TransactionPart(txid="t1"), TransactionPart(txid="t2")),
    fees=(
        Fee(type="mining", currency="BTC", amount=Decimal("0.1")),
        Fee(type="service", currency="EUR", amount=Decimal(2)),
    ),
    error="e",
)


@pytest.mark.parametrize(
    ("evidence", "kind", "what", "worker"),
    [
        (Attempt("w", InDoubt("HTTP 502"), 1.0, 2.0), "attempt", "in_doubt: HTTP 502", "w"),
        (LookedUp("w", NoneFound()), "look-up", "none", "w"),
        (CalledBack(FULL), "callback", "confirmed; txid t1, t2; fees 0.1 BTC mining, 2 EUR service; error e", None),
        (CalledBack(Transaction(id=7, status="pending")), "callback", "pending", None),
        (CalledBack(FULL, doubt="amount"), "callback", "does not fit: amount", None),
        (ControlFound("w", 5.0), "control", "another withdrawal, accepted at 5.000, is shown", "w"),
        (Released("w", "queue"), "released", "queue", "w"),
        (
            LeaseExpired("w", 5.0),
            "lease_expired",
            "its worker let go of it without a word, and could send until 5.000",
            "w",
        ),
        (
            Remembered("w", OURS, Withdrawal(id=7)),
            "remembered",
            "accepted before the journal went back, as this worker saw it",
            "w",
        ),
        (
            Unfrozen("anna", "not in the export"),
            "unfrozen",
            "AlphaPo's books do not have it, by anna: not in the export",
            None,
        ),
        (OperatorDecision("anna", "seen there", is_accepted=True), "operator", "accepted by anna: seen there", None),
        (
            OperatorDecision("anna", "seen", is_accepted=True, id="5"),
            "operator",
            "accepted with id 5 by anna: seen",
            None,
        ),
        (OperatorDecision("anna", "not there", is_accepted=False), "operator", "rejected by anna: not there", None),
    ],
)
def test_every_evidence_has_its_line(evidence: Evidence, kind: str, what: str, worker: str | None) -> None:
    """With time, worker and release."""
    assert entry_of(evidence, 9.0, "1.0") == Entry(9.0, kind, what, worker, release="1.0")


@pytest.mark.parametrize("evidence", [Requested("w", OURS, "key"), Reported()])
def test_what_says_nothing_of_the_withdrawal_has_none(evidence: Evidence) -> None:
    """The line of a request says what it made of the row: `requested` returns it."""
    assert entry_of(evidence, 9.0, "1.0") is None
    unfrozen = Entry(9.0, "unfrozen", "AlphaPo's books do not have it, by anna: why", release="1.0")
    assert entries_of([evidence, Unfrozen("anna", "why")], 9.0, "1.0") == (unfrozen,)


def test_a_reply_is_kept_in_part() -> None:
    """Status and the first KiB; nothing of a reply that never came."""
    assert EXCERPT == 1024
    seen = excerpt_of(Reply(502, b"x" * 5_000))
    assert seen == ReplyExcerpt(502, b"x" * EXCERPT)
    assert excerpt_of(NoReply("lost", may_have_left=True)) == ReplyExcerpt()
    entry = entry_of(Attempt("w", InDoubt("HTTP 502"), 1.0, 2.0, seen), 9.0, "1.0")
    assert entry is not None
    assert (entry.http_status, len(entry.reply)) == (502, EXCERPT)
    assert repr(entry) == "Entry(9.0, 'attempt', 'in_doubt: HTTP 502', http_status=502, reply=<1024 bytes>)"


def test_a_line_that_names_no_release_has_none() -> None:
    """It was written by one that did not say."""
    assert (Entry(9.0, "attempt", "none").release, Entry(9.0, "attempt", "none").reply) == ("", b"")


def test_a_judgement_is_named_with_its_reason() -> None:
    """Or its code, or nothing."""
    assert named(NoAnswer("HTTP 403", 403, "bad_header_key")) == "no_answer: HTTP 403"
    assert named(KeyRefused("bad_header_key")) == "key_refused: bad_header_key"
    assert named(NoneFound()) == "none"


ASKED = Requested("worker", OURS, "key")


@pytest.mark.parametrize(
    ("asked", "before", "after", "what"),
    [
        (ASKED, row(holder=None), row(), "taken on"),
        (ASKED, row(holder="other"), row(holder="other"), "open already"),
        (replace(ASKED, worker=None), row(holder=None), row(holder=None), "open already"),
        (ASKED, NOT_SENT_ROW, row(), "to be sent again"),
        (ASKED, ACCEPTED_ROW, ACCEPTED_ROW, "answered, accepted"),
        (ASKED, NOT_SENT_ROW, row(revision=replace(OURS, number=2)), "revision 2, 1 BTC"),
        (replace(ASKED, revision=CORRECTED), row(), row(), "another payment, 2 BTC, not taken"),
    ],
)
def test_a_request_has_a_line_that_says_what_it_made_of_the_row(
    asked: Requested, before: Row, after: Row, what: str
) -> None:
    """With the amount that it asks for, where that may be another."""
    assert requested(asked, before, after, 9.0, "1.0") == Entry(9.0, "request", what, asked.worker, release="1.0")


def test_a_new_row_has_a_line_that_says_who_is_to_pay_it() -> None:
    """A call, or a worker; it is the first line."""
    line = Entry(9.0, "request", "recorded", "worker", release="1.0", number=1)
    assert recorded(ASKED, 9.0, "1.0") == line
    assert recorded(replace(ASKED, worker=None), 9.0, "1.0") == replace(line, what="enqueued", worker=None)


def test_the_round_of_a_worker_is_no_request() -> None:
    """It has a line only where it ends the row: it came too late for it."""
    round_, free = replace(ASKED, is_awaited=False), row(holder=None)
    assert requested(round_, free, row(), 9.0, "1.0") is None
    expired = replace(NOT_SENT_ROW, reason="expired")
    assert requested(round_, free, expired, 9.0, "1.0") == Entry(9.0, "released", "expired", "worker", release="1.0")


LOOK_UP = Entry(1.0, "look-up", "none", "w", 404, b"none", "1.0")
CALLBACK = Entry(2.0, "callback", "confirmed", None, None, b"body", "1.0")
ATTEMPT = Entry(3.0, "attempt", "in_doubt: lost", "w", release="1.0")


def counts(*lines: Entry) -> list[tuple[str, int, int]]:
    """Return kind, number and count of each line of the history that these lines come to, whether noted at once or one by one."""
    known, stored = row(), list[Entry]()
    for line in lines:
        known, added = noted(known, [line])
        stored += added
    assert noted(row(), lines)[0] == known
    assert merged(noted(row(), lines)[1]) == merged(stored)
    return [(line.kind, line.number, line.count) for line in merged(stored)]


def test_equal_answers_in_a_row_are_one_line_with_a_count() -> None:
    """Whoever asked; another answer, and an attempt between them, begin a new line."""
    other = replace(LOOK_UP, what="no_answer: HTTP 502", http_status=502)
    assert counts(LOOK_UP, replace(LOOK_UP, worker="v", at=2.0), LOOK_UP) == [("look-up", 1, 3)]
    assert counts(LOOK_UP, other, LOOK_UP) == [("look-up", 1, 1), ("look-up", 2, 1), ("look-up", 3, 1)]
    assert counts(LOOK_UP, ATTEMPT, ATTEMPT, LOOK_UP) == [
        ("look-up", 1, 1),
        ("attempt", 2, 1),
        ("attempt", 3, 1),
        ("look-up", 4, 1),
    ]


def test_a_repeated_callback_is_counted_also_after_others() -> None:
    """AlphaPo repeats each of them until it is answered; only the last few are remembered."""
    later = replace(CALLBACK, reply=b"another body")
    assert counts(CALLBACK, LOOK_UP, later, CALLBACK, later, CALLBACK) == [
        ("callback", 1, 3),
        ("look-up", 2, 1),
        ("callback", 3, 2),
    ]
    long = replace(CALLBACK, kind="request", what="x" * 81, reply=b"")
    assert counts(LOOK_UP, long, replace(long, what="x" * 82), long)[-1] == ("request", 4, 1)
    many = [replace(CALLBACK, reply=b"%d" % number) for number in range(9)]
    assert counts(*many, many[0], many[8])[-2:] == [("callback", 9, 2), ("callback", 10, 1)]


def test_a_counted_line_has_its_first_time_and_its_last() -> None:
    """And stays what it was when it came first."""
    stored = noted(row(), [CALLBACK, replace(CALLBACK, at=5.0, release="2.0")])[1]
    assert merged(stored) == (replace(CALLBACK, number=1, count=2, last_at=5.0),)
    assert noted(row(), []) == (row(), [])


def test_a_line_is_known_again_whatever_was_counted_since() -> None:
    """Under its number, with what it says; of a count only that it is as high."""
    [line] = noted(row(), [CALLBACK])[1]
    [_, again] = noted(row(), [CALLBACK, replace(CALLBACK, at=5.0)])[1]
    found = replace(line, count=2, last_at=5.0)
    assert is_stored(line, found)
    assert is_stored(again, found)
    assert not is_stored(again, line)
    assert not is_stored(line, replace(found, at=7.0))
    assert not is_stored(line, None)


def test_long_lines_are_counted_by_a_digest_of_what_they_say() -> None:
    """Status and reply count, and not the worker or the time."""
    line = Entry(1.0, "look-up", "no_answer: HTTP 502", "one", 502, b"x" * EXCERPT)
    known, _ = noted(row(), [line])
    _, (again,) = noted(known, [replace(line, at=2.0, worker="two")])
    _, (other,) = noted(known, [replace(line, http_status=503)])
    assert (again.number, again.count, other.number, other.count) == (1, 2, 2, 1)


def test_short_lines_are_counted_by_what_they_say() -> None:
    """Without a status and a reply the words are the mark."""
    known, _ = noted(row(), [Entry(1.0, "released", "queue")])
    _, (again,) = noted(known, [Entry(2.0, "released", "queue")])
    assert (known.counted[0].mark, again.number, again.count) == ("queue", 1, 2)
