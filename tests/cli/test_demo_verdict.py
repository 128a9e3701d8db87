"""What was told against what the ledger says."""

from __future__ import annotations

from decimal import Decimal

import pytest

from alphapo_async.cli.demo_verdict import OUTCOMES, DemoCounts, LedgerVerdict, ended_later, payment_of, reconcile
from alphapo_async.core.errors import WithdrawalError
from alphapo_async.core.events import Event
from alphapo_async.core.models import WithdrawalRequest
from alphapo_async.sandbox import AcceptedWithdrawal

REQUEST = WithdrawalRequest(
    currency="BTC",
    address="made-up",
    amount="0.50",
    foreign_id="demo-0001",
    end_user_reference="user",
    without_tag=True,
)


def accepted(foreign_id: str = "demo-0001", status: str = "confirmed", amount: str = "0.5") -> AcceptedWithdrawal:
    """Return an entry of the ledger."""
    return AcceptedWithdrawal(
        id=1,
        foreign_id=foreign_id,
        end_user_reference="user",
        currency="BTC",
        amount=Decimal(amount),
        amount_to=None,
        address="made-up",
        tag=None,
        convert_to=None,
        at=0.0,
        status=status,
    )


NOTHING: list[AcceptedWithdrawal] = []
ONCE = [accepted()]
CANCELLED = [accepted(status="cancelled")]
UNDER_ANOTHER_ID = [accepted("demo-0001-again")]


def test_a_row_and_its_entry_in_the_ledger_pay_the_same() -> None:
    """The two sides spell one payment alike, amounts as decimals."""
    assert payment_of(REQUEST) == accepted().payment


@pytest.mark.parametrize(
    ("outcome", "booked", "is_wrong"),
    [
        ("accepted", ONCE, False),
        ("accepted", CANCELLED, False),
        ("accepted", NOTHING, True),
        ("accepted", UNDER_ANOTHER_ID, True),
        ("accepted", [accepted(amount="0.6")], True),
        ("unknown", ONCE, False),
        ("unknown", NOTHING, False),
        *[(outcome, ONCE, True) for outcome in OUTCOMES if outcome not in ("accepted", "unknown")],
        *[(outcome, NOTHING, False) for outcome in OUTCOMES if outcome not in ("accepted", "unknown")],
        ("failed", CANCELLED, False),
        ("rejected", UNDER_ANOTHER_ID, True),
    ],
)
def test_what_is_wrong_to_tell(outcome: str, booked: list[AcceptedWithdrawal], *, is_wrong: bool) -> None:
    """Accepted wants an acceptance, a "no" wants that no money moved, and unknown claims nothing."""
    verdict = reconcile([REQUEST], {"demo-0001": outcome}, booked)
    assert verdict == LedgerVerdict(told_wrong=("demo-0001",) if is_wrong else ())
    assert verdict.is_clean is not is_wrong


@pytest.mark.parametrize(
    ("booked", "is_twice"),
    [
        (ONCE, False),
        ([*ONCE, *ONCE], True),
        ([*ONCE, *UNDER_ANOTHER_ID], True),
        ([*ONCE, *CANCELLED], False),
        ([*ONCE, accepted("demo-0001-again", status="processing")], True),
    ],
)
def test_paying_twice_is_counted_by_row(booked: list[AcceptedWithdrawal], *, is_twice: bool) -> None:
    """Twice is twice, under one foreign_id or under two; what AlphaPo ended moved nothing."""
    verdict = reconcile([REQUEST], {"demo-0001": "accepted"}, booked)
    assert verdict.paid_twice == (("demo-0001",) if is_twice else ())
    assert verdict.is_clean is not is_twice


def test_what_was_ended_later_is_counted() -> None:
    """Accepted and then cancelled is no lie, and worth a word."""
    assert ended_later({"demo-0001": "accepted"}, [*ONCE, *CANCELLED]) == 1
    assert ended_later({"demo-0001": "failed"}, CANCELLED) == 0


def test_every_outcome_of_the_errors_has_its_line() -> None:
    """A new outcome of the library cannot be forgotten in the table."""
    assert {kind.outcome for kind in WithdrawalError.__subclasses__()} <= set(OUTCOMES)


def test_the_tally_counts_retries_and_look_ups() -> None:
    """A row's first attempt is no retry."""
    tally = DemoCounts()
    for name, foreign_id in [
        ("attempt", "a"),
        ("attempt", "a"),
        ("attempt", "b"),
        ("look-up", "a"),
        ("settled", "a"),
        ("attempt", "a"),
    ]:
        tally.notice(Event(name=name, at=0.0, account="default", foreign_id=foreign_id))  # type: ignore[arg-type]
    assert (tally.retries, tally.look_ups) == (2, 1)
    assert repr(tally) == "DemoCounts(retries=2, look_ups=1)"
