"""Rows for tests, and the evidence that makes them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from msgspec.structs import replace

from alphapo_async.core.codec import encode_body
from alphapo_async.core.comparison import Difference
from alphapo_async.core.evidence import Attempt, LookedUp, Released, Requested, Revision
from alphapo_async.core.models import CryptoAddress, Money, Transaction, Withdrawal, WithdrawalRequest
from alphapo_async.core.replies import (
    Accepted,
    Answer,
    Duplicate,
    Found,
    InDoubt,
    KeyRefused,
    Mismatched,
    NoneFound,
    Proof,
    Rejected,
)
from alphapo_async.core.row import Assumptions, Row
from alphapo_async.core.transitions import apply, new_row

HOUR, DAY = 3_600.0, 86_400.0
QUIET = Assumptions().quiet


def revision(amount: str = "1", **fields: str) -> Revision:
    """Return the revision of a request with these changes."""
    asked = {"currency": "BTC", "address": "a", "foreign_id": "f", "end_user_reference": "u"} | fields
    payment = WithdrawalRequest(amount=amount, **asked)  # type: ignore[arg-type]
    return Revision(encode_body(payment), payment)


OURS, CORRECTED = revision(), revision("2")
ASKED = Requested("worker", OURS, "key")
TOLD = Withdrawal(id=7, foreign_id="f", status="processing")
ERRORS = {"amount": ["Not enough amount"]}
REJECTED = Rejected(ERRORS)
TAKEN = Duplicate({"foreign_id": ["has already been taken"]})
MISMATCHED = Mismatched(Withdrawal(id=8), (Difference("foreign_id", "f", None),))


def row(now: float = 0.0, *, is_durable: bool = True, asked: Requested = ASKED, **changes: Any) -> Row:
    """Return a new row with these changes."""
    return replace(new_row("default", "f", asked, now, is_durable=is_durable), **changes)


def sent(before: Row, proof: Proof, now: float = 0.0, worker: str = "worker") -> Row:
    """Return the row after a body that left and came home at once."""
    return apply(before, Attempt(worker, proof, now, now), now)


def asked_about(before: Row, answer: Answer, now: float = 0.0, worker: str = "worker") -> Row:
    """Return the row after a look-up."""
    return apply(before, LookedUp(worker, answer), now)


def found(status: str = "processing", *, amount: str | None = "1", currency: str = "BTC", address: str = "a") -> Found:
    """Return the answer that shows such a withdrawal; without an amount it shows neither figure nor address."""
    sent_money = None if amount is None else Money(currency=currency, amount=Decimal(amount))
    place = None if amount is None else CryptoAddress(address=address)
    return Found(Transaction(id=7, foreign_id="f", status=status, crypto_address=place, currency_sent=sent_money))


LOST = InDoubt("connection lost")
DOUBTED = sent(row(), LOST)
REJECTED_ROW = sent(row(), REJECTED, 5.0)
NOT_SENT_ROW = apply(row(), Released("worker", "queue"), 5.0)
CONFLICT_ROW = asked_about(row(), found(amount="9", address="z"))
REFUSED_ROW = sent(row(), KeyRefused("bad_header_key"))
ACCEPTED_ROW = sent(row(), Accepted(TOLD), 5.0)
FAILED_ROW = asked_about(DOUBTED, found("cancelled"))


def refused_in_doubt(at: float) -> Row:
    """Return a row whose first body was lost at 0, whose second was refused then, and whose look-up said none."""
    return asked_about(sent(asked_about(DOUBTED, NoneFound()), REJECTED, at), NoneFound(), at)
