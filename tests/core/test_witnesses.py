"""Witnesses: what shows that AlphaPo has a withdrawal, and what happens when they disagree."""

from __future__ import annotations

from decimal import Decimal

import pytest
from msgspec.structs import replace

from alphapo_async.core.models import Money, Transaction, Withdrawal
from alphapo_async.core.outcome import (
    Accepted,
)
from alphapo_async.core.row import Row
from alphapo_async.core.witnesses import is_another, is_older, withdrawal_from
from tests.core.rows import (
    ACCEPTED_ROW,
    DOUBTED,
    FAILED_ROW,
    MISMATCHED,
    NOT_SENT_ROW,
    REFUSED_ROW,
    REJECTED_ROW,
    TOLD,
    asked_about,
    found,
    row,
    sent,
)


@pytest.mark.parametrize("settled", [REJECTED_ROW, NOT_SENT_ROW, REFUSED_ROW])
def test_an_acceptance_contradicts_every_no(settled: Row) -> None:
    """It wins, and what was said before is called wrong."""
    after = asked_about(settled, found(), worker="another")
    assert (after.state, after.contradiction) == ("accepted", f"accepted after {settled.state}")


def test_confirmed_beats_cancelled_whichever_came_first() -> None:
    """And both orders raise a contradiction."""
    cancelled_first = asked_about(asked_about(DOUBTED, found("cancelled")), found("confirmed"))
    confirmed_first = asked_about(asked_about(DOUBTED, found("confirmed")), found("cancelled"))
    assert (cancelled_first.state, cancelled_first.contradiction) == ("accepted", "accepted after failed")
    assert (confirmed_first.state, confirmed_first.contradiction) == ("accepted", "cancelled after confirmed")


def test_an_older_status_does_not_replace_a_final_one() -> None:
    """A slow witness says what was true before; that is no contradiction."""
    for final in ("confirmed", "cancelled"):
        settled = asked_about(DOUBTED, found(final))
        after = asked_about(settled, found("processing"))
        assert (after.withdrawal, after.contradiction) == (settled.withdrawal, None)


def test_a_later_status_is_taken_and_the_time_of_settling_kept() -> None:
    """Accepted once, confirmed later."""
    after = asked_about(ACCEPTED_ROW, found("confirmed"), 60.0)
    assert after.withdrawal is not None
    assert (after.withdrawal.status, after.settled_at) == ("confirmed", 5.0)


def test_what_a_later_witness_leaves_untold_is_taken_from_the_earlier_one() -> None:
    """A look-up that does not name the user does not wipe out the name in the reply."""
    told = sent(row(), Accepted(replace(TOLD, end_user_reference="u")))
    after = asked_about(told, found("confirmed"), 60.0)
    assert after.withdrawal is not None
    assert (after.withdrawal.status, after.withdrawal.end_user_reference) == ("confirmed", "u")


@pytest.mark.parametrize(
    ("known", "status", "number", "is_one"),
    [
        pytest.param(ACCEPTED_ROW, "cancelled", 7, False, id="the same"),
        pytest.param(ACCEPTED_ROW, "cancelled", "7", False, id="the same, as text"),
        pytest.param(ACCEPTED_ROW, "cancelled", 8, True, id="another was cancelled"),
        pytest.param(ACCEPTED_ROW, "confirmed", 8, True, id="another was paid as well"),
        pytest.param(FAILED_ROW, "cancelled", 8, True, id="another was cancelled, too"),
        pytest.param(FAILED_ROW, "confirmed", 8, False, id="what moves money beats what was ended"),
        pytest.param(DOUBTED, "cancelled", 8, False, id="none is known yet"),
        pytest.param(
            replace(ACCEPTED_ROW, withdrawal=replace(TOLD, id=None)), "cancelled", 8, False, id="its id is not"
        ),
        pytest.param(
            replace(ACCEPTED_ROW, withdrawal=replace(TOLD, source="journal")),
            "cancelled",
            8,
            False,
            id="an operator typed it",
        ),
    ],
)
def test_another_id_is_another_withdrawal(known: Row, status: str, number: int | str, is_one: bool) -> None:  # noqa: FBT001 - a column
    """Whatever its status: it says nothing about the one that AlphaPo told us of."""
    assert is_another(known, replace(found(status).transaction, id=number)) is is_one


def test_a_look_up_that_shows_another_id_changes_nothing_loudly() -> None:
    """The row stays as it was told."""
    other = found("cancelled")
    after = asked_about(ACCEPTED_ROW, replace(other, transaction=replace(other.transaction, id=999)))
    assert (after.state, after.contradiction) == ("accepted", "a look-up shows another id, 999")


@pytest.mark.parametrize(
    ("told", "known", "expected"),
    [
        ("processing", "processing", False),
        ("processing", None, False),
        (None, "processing", False),
        ("processing", "cancelled", True),
        ("cancelled", "processing", False),
        ("cancelled", "declined", False),
        ("cancelled", "confirmed", True),
        ("confirmed", "cancelled", False),
        ("confirmed", "confirmed", False),
        (None, "declined", True),
    ],
)
def test_what_is_final_is_younger_than_what_is_not(told: str | None, known: str | None, expected: bool) -> None:  # noqa: FBT001 - a column
    """And `confirmed` younger than any other end; of two equals the later witness is heard."""
    assert is_older(told, known) is expected


def test_a_witness_of_the_same_status_is_heard() -> None:
    """It may tell more than the first: its transaction is kept."""
    shown = found("processing")
    assert asked_about(ACCEPTED_ROW, shown, 9.0).transaction is shown.transaction


def test_a_witness_wipes_out_differences_and_no_transaction() -> None:
    """What is ours does not differ; a reply shows no transaction, and takes none away."""
    shown = asked_about(replace(DOUBTED, differences=MISMATCHED.differences), found())
    assert (shown.differences, shown.transaction) == ((), found().transaction)
    assert sent(shown, Accepted(TOLD), 9.0).transaction == found().transaction


def test_a_withdrawal_takes_both_sides_of_a_transaction() -> None:
    """What left and what arrived, each with its currency; a side that is not told stays untold."""
    transaction = Transaction(
        id=7,
        foreign_id="f",
        end_user_reference="u",
        type="withdrawal",
        status="confirmed",
        currency_sent=Money("EUR", Decimal(20)),
        currency_received=Money("BTC", Decimal("0.1")),
    )
    expected = Withdrawal(
        id=7,
        foreign_id="f",
        end_user_reference="u",
        type="withdrawal",
        status="confirmed",
        sender_amount=Decimal(20),
        sender_currency="EUR",
        receiver_amount=Decimal("0.1"),
        receiver_currency="BTC",
        source="callback",
    )
    assert withdrawal_from(transaction, "callback") == expected
    bare = withdrawal_from(Transaction(id=7), "look-up")
    assert bare == Withdrawal(id=7, source="look-up")
