"""The history: one line for each thing heard."""

from __future__ import annotations

from decimal import Decimal

import pytest

from alphapo_async.core.evidence import (
    Asked,
    Attempt,
    CalledBack,
    Control,
    Evidence,
    GivenUp,
    Lapsed,
    LookedUp,
    Reported,
    Restored,
    Seen,
    Word,
)
from alphapo_async.core.history import EXCERPT, Entry, entry_of, named, seen_of
from alphapo_async.core.models import Fee, Transaction, TransactionPart
from alphapo_async.core.outcome import InDoubt, NoAnswer, NoneFound, NoReply, Refused, Reply
from tests.core.rows import OURS

FULL = Transaction(
    id=7,
    status="confirmed",
    transactions=(TransactionPart(txid="t1"), TransactionPart(txid="t2")),
    fees=(Fee("mining", "BTC", Decimal("0.1")), Fee("service", "EUR", Decimal(2))),
    error="e",
)


@pytest.mark.parametrize(
    ("evidence", "kind", "what", "worker"),
    [
        (Attempt("w", InDoubt("HTTP 502"), 1.0, 2.0), "attempt", "InDoubt: HTTP 502", "w"),
        (LookedUp("w", NoneFound()), "look-up", "NoneFound", "w"),
        (CalledBack(FULL), "callback", "confirmed; txid t1, t2; fees 0.1 BTC mining, 2 EUR service; error e", None),
        (CalledBack(Transaction(id=7, status="pending")), "callback", "pending", None),
        (CalledBack(FULL, doubt="amount"), "callback", "does not fit: amount", None),
        (Control("w", 5.0), "control", "another withdrawal, accepted at 5.000, is shown", "w"),
        (GivenUp("w", "queue"), "given up", "queue", "w"),
        (Lapsed("w", 5.0), "lapsed", "its worker let go of it without a word, and could send until 5.000", "w"),
        (Restored(), "restored", "from a backup", None),
        (Word("anna", "seen there", is_accepted=True), "operator", "accepted by anna: seen there", None),
        (Word("anna", "seen", is_accepted=True, id="5"), "operator", "accepted with id 5 by anna: seen", None),
        (Word("anna", "not there", is_accepted=False), "operator", "rejected by anna: not there", None),
    ],
)
def test_every_evidence_has_its_line(evidence: Evidence, kind: str, what: str, worker: str | None) -> None:
    """With time, worker and release."""
    assert entry_of(evidence, 9.0, "1.0") == Entry(9.0, kind, what, worker, release="1.0")


@pytest.mark.parametrize("evidence", [Asked("w", OURS, "key"), Reported()])
def test_what_says_nothing_of_the_withdrawal_has_none(evidence: Evidence) -> None:
    """The row itself tells who asked, and when."""
    assert entry_of(evidence, 9.0, "1.0") is None


def test_a_reply_is_kept_in_part() -> None:
    """Status and the first KiB; nothing of a reply that never came."""
    assert EXCERPT == 1024
    seen = seen_of(Reply(502, b"x" * 5_000))
    assert seen == Seen(502, b"x" * EXCERPT)
    assert seen_of(NoReply("lost", may_have_left=True)) == Seen()
    entry = entry_of(Attempt("w", InDoubt("HTTP 502"), 1.0, 2.0, seen), 9.0, "1.0")
    assert entry is not None
    assert (entry.status, len(entry.reply)) == (502, EXCERPT)
    assert repr(entry) == "Entry(9.0, 'attempt', 'InDoubt: HTTP 502', status=502, reply=<1024 bytes>)"


def test_a_line_that_names_no_release_has_none() -> None:
    """It was written by one that did not say."""
    assert (Entry(9.0, "attempt", "NoneFound").release, Entry(9.0, "attempt", "NoneFound").reply) == ("", b"")


def test_a_judgement_is_named_with_its_reason() -> None:
    """Or its code, or nothing."""
    assert named(NoAnswer("HTTP 403", 403, "bad_header_key")) == "NoAnswer: HTTP 403"
    assert named(Refused("bad_header_key")) == "Refused: bad_header_key"
    assert named(NoneFound()) == "NoneFound"
