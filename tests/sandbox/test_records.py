"""A withdrawal that AlphaPo accepted, and what becomes of it."""

from __future__ import annotations

from decimal import Decimal

import pytest

from alphapo_async.sandbox.dialects import Dialect
from alphapo_async.sandbox.records import SandboxWithdrawal, ending, figures, shown_id, txid
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


def record_of(number: int) -> SandboxWithdrawal:
    """Return a withdrawal with this id that is confirmed after a second."""
    return SandboxWithdrawal(
        id=number,
        asked=asked(),
        key="k",
        at=0.0,
        settles_at=1.0,
        ending=ending("bc1q"),
        sent=Decimal(1),
        received=Decimal(1),
        debit=Decimal(1),
    )


def test_the_status_follows_the_clock() -> None:
    """The life of a withdrawal needs no timer: its status is computed from the moment."""
    record = record_of(9)
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


def test_a_look_up_gives_the_id_of_the_reply_or_one_counted_apart() -> None:
    """Counted apart, no id of a look-up is that of another withdrawal's reply."""
    first, second = record_of(9), record_of(10)
    assert shown_id(first, Dialect(ids="same")) == 9
    apart = Dialect(ids="apart")
    assert shown_id(second, apart) - shown_id(first, apart) == 1
    assert shown_id(first, apart) > 1_000_000 + second.id
