"""A withdrawal that AlphaPo accepted, and what becomes of it."""

from __future__ import annotations

from decimal import Decimal

import pytest

from alphapo_async.sandbox.records import SandboxWithdrawal, ending, figures, txid
from tests.support.questions import asked


@pytest.mark.parametrize(
    ("address", "first", "last", "moves"),
    [
        ("bc1q", "processing", "confirmed", True),
        ("12345", "processing", "cancelled", False),
        ("decline-me", "pending", "declined", False),
    ],
)
def test_the_address_says_what_becomes_of_it(address: str, first: str, last: str, moves: bool) -> None:  # noqa: FBT001
    """Two magic addresses end badly, with a reason; the others are paid."""
    becomes = ending(address)
    assert (becomes.first, becomes.last, becomes.moves_money) == (first, last, moves)
    assert bool(becomes.error) is not moves


def test_the_status_follows_the_clock() -> None:
    """The life of a withdrawal needs no timer: its status is computed from the moment."""
    record = SandboxWithdrawal(
        id=9,
        asked=asked(),
        key="k",
        at=0.0,
        settles_at=1.0,
        ending=ending("bc1q"),
        sent=Decimal(1),
        received=Decimal(1),
        debit=Decimal(1),
    )
    assert [record.status(now) for now in (0.0, 0.99, 1.0, 50.0)] == [
        "processing",
        "processing",
        "confirmed",
        "confirmed",
    ]
    assert txid(record) == "9".zfill(64)


def test_both_sides_of_a_payment() -> None:
    """Without conversion both sides are equal; with it, the side that was given is exact."""
    assert figures(asked(amount=Decimal("0.1"))) == (Decimal("0.1"), Decimal("0.1"))
    assert figures(asked(amount=Decimal("0.1"), convert_to="BTC")) == (Decimal("0.1"), Decimal("0.1"))
    assert figures(asked(amount=Decimal(1), convert_to="ETH")) == (Decimal(1), Decimal(20))
    assert figures(asked(amount=None, amount_to=Decimal(40), convert_to="ETH")) == (Decimal(2), Decimal(40))
