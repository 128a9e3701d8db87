"""The record: everything a row knows, in columns, and back."""

from __future__ import annotations

import hashlib
from decimal import Decimal

import msgspec
import pytest
from msgspec.structs import replace

from alphapo_async.core.evidence import Revision
from alphapo_async.core.models import Money, Transaction, TransactionPart, Withdrawal
from alphapo_async.core.next_step import due_at
from alphapo_async.core.row import Row
from alphapo_async.core.row_format import CHANGING, COLUMNS, changing, read_record, read_revision, to_record, written
from tests.support.rows import (
    ACCEPTED_ROW,
    CONFLICT_ROW,
    CORRECTED,
    DOUBTED,
    FAILED_ROW,
    NOT_SENT_ROW,
    OURS,
    REFUSED_ROW,
    REJECTED_ROW,
    row,
)

FULL = replace(
    DOUBTED,
    transaction=Transaction(
        id="x-7",
        foreign_id="f",
        currency_sent=Money(currency="BTC", amount=Decimal("1.00000000"), amount_minus_fee=Decimal("0.9")),
        transactions=(TransactionPart(txid="abc", amount=Decimal("1E-8")),),
    ),
    withdrawal=Withdrawal(id=None, source="journal"),
    expires_at=5.5,
    decision="accepted by anna: seen",
    checked_at=1_800_000_000.123456,
    refusal={"amount": ["no", "never"]},
)


@pytest.mark.parametrize(
    "known",
    [row(), DOUBTED, ACCEPTED_ROW, FAILED_ROW, REJECTED_ROW, NOT_SENT_ROW, CONFLICT_ROW, REFUSED_ROW, FULL],
)
def test_a_row_comes_back_as_it_was(known: Row) -> None:
    """Every field, figures and times exact."""
    assert read_record(to_record(known), known.revision, known.earlier) == known


def test_what_a_record_does_not_say_is_not_so() -> None:
    """Another release may have left it out, and this one writes no "no", no empty text and no count of nothing."""
    bare = Row(account="default", foreign_id="f", revision=OURS, key_fingerprint="key", created_at=3.0)
    assert set(msgspec.json.decode(to_record(bare).rest)) <= {"held_since", "not_before"}
    assert read_record(to_record(bare)._replace(rest=b"{}"), OURS) == bare


def test_the_columns_are_what_an_auditor_asks_for() -> None:
    """Plain values under plain names."""
    result = to_record(replace(ACCEPTED_ROW, withdrawal=Withdrawal(id=7, status="processing"), reported=False))
    assert result._fields == COLUMNS
    assert (result.state, result.counted_as, result.requested_currency, result.requested_amount) == (
        "accepted",
        "accepted",
        "BTC",
        "1",
    )
    assert (result.alphapo_id, result.alphapo_status, result.source, result.reported) == ("7", "processing", "reply", 0)
    assert result.due_at == due_at(ACCEPTED_ROW)
    assert (result.revision, result.key_fingerprint, result.holder) == (1, "key", None)


def test_what_a_row_is_found_by_never_changes() -> None:
    """All else may become another, each column in its place."""
    assert set(COLUMNS) - set(CHANGING) == {"account", "foreign_id", "created_at"}
    result = to_record(ACCEPTED_ROW)
    assert changing(result) == tuple(getattr(result, name) for name in COLUMNS if name in CHANGING)


def test_a_row_without_its_payment_has_no_figure() -> None:
    """It stands as zero in no currency."""
    result = to_record(row(revision=Revision(b"", None)))
    assert (result.requested_currency, result.requested_amount) == ("", "0")


def test_a_revision_is_its_exact_bytes() -> None:
    """With the hash of the bytes and the versioned digest of the payment."""
    kept = written(CORRECTED)
    assert (kept.number, kept.body, kept.digest) == (1, CORRECTED.body, CORRECTED.digest)
    assert kept.sha256 == hashlib.sha256(CORRECTED.body).hexdigest()
    assert read_revision(3, OURS.body, OURS.digest).is_same_payment(OURS)
    assert read_revision(3, OURS.body, OURS.digest).number == 3


def test_what_is_forgotten_is_known_by_its_digest() -> None:
    """And by the figure, so that the sums stay what they are; there is no digest of bytes that are gone."""
    left = read_revision(3, b"", OURS.digest, ("1.50", "BTC"))
    assert left == Revision(b"", None, 3, OURS.digest, (Decimal("1.50"), "BTC"))
    assert left.is_same_payment(OURS)
    assert written(left) == (3, b"", "", OURS.digest)
    record = to_record(row(revision=left))
    assert (record.requested_amount, record.requested_currency) == ("1.50", "BTC")
    assert read_revision(3, b"", OURS.digest).asked == (Decimal(0), "")


def test_a_member_that_is_not_known_here_makes_a_row_unreadable() -> None:
    """A newer release wrote it: it may be a reason not to send, and would be lost with the next change."""
    record = to_record(row())
    newer = record._replace(rest=record.rest[:-1] + b',"new_in_02":1}')
    with pytest.raises(msgspec.ValidationError, match="new_in_02"):
        read_record(newer, OURS)
