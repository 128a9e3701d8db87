"""Witnesses: what shows that AlphaPo has a withdrawal, and what happens when they disagree."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from alphapo_async.core.codec import encode_body
from alphapo_async.core.evidence import CalledBack, LookedUp, Revision
from alphapo_async.core.merge_withdrawal import is_another, is_older, withdrawal_from
from alphapo_async.core.models import Money, Transaction, Withdrawal, WithdrawalRequest
from alphapo_async.core.outcome import (
    Accepted,
    Found,
)
from alphapo_async.core.row import Row
from alphapo_async.core.transitions import apply
from tests.support.rows import (
    ACCEPTED_ROW,
    ASKED,
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

CONFIRMED_ROW = asked_about(ACCEPTED_ROW, found("confirmed"), 6.0)
TYPED_ROW = replace(ACCEPTED_ROW, withdrawal=Withdrawal(id="typed", foreign_id="f", source="journal"))


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
    ("known", "number", "is_one"),
    [
        pytest.param(ACCEPTED_ROW, 7, False, id="the same"),
        pytest.param(ACCEPTED_ROW, "7", False, id="the same, as text"),
        pytest.param(ACCEPTED_ROW, 8, True, id="another"),
        pytest.param(FAILED_ROW, 8, True, id="another than the one that was ended"),
        pytest.param(DOUBTED, 8, False, id="none is known yet"),
        pytest.param(TYPED_ROW, 8, False, id="an operator typed it"),
        pytest.param(replace(ACCEPTED_ROW, withdrawal=replace(TOLD, id=None)), 8, False, id="it has none"),
    ],
)
def test_another_id_is_another_withdrawal(known: Row, number: int | str, is_one: bool) -> None:  # noqa: FBT001 - a column
    """Only AlphaPo's own id counts."""
    assert is_another(known, replace(found().transaction, id=number)) is is_one


@pytest.mark.parametrize(
    ("known", "changes", "expected"),
    [
        # an accepted row: another end says nothing; another status counts if it is given whole
        (ACCEPTED_ROW, {"status": "cancelled"}, ("accepted", "processing", 7)),
        (ACCEPTED_ROW, {"status": "declined"}, ("accepted", "processing", 7)),
        (ACCEPTED_ROW, {"status": "confirmed"}, ("accepted", "confirmed", 8)),
        (ACCEPTED_ROW, {"status": "confirmed", "foreign_id": None}, ("accepted", "processing", 7)),
        (ACCEPTED_ROW, {"status": "confirmed", "crypto_address": None}, ("accepted", "processing", 7)),
        (ACCEPTED_ROW, {"status": "confirmed", "currency_sent": Money("BTC")}, ("accepted", "processing", 7)),
        (
            ACCEPTED_ROW,
            {"status": "confirmed", "currency_sent": Money("BTC", Decimal(9))},
            ("accepted", "processing", 7),
        ),
        (CONFIRMED_ROW, {"status": "processing"}, ("accepted", "confirmed", 7)),
        (CONFIRMED_ROW, {"status": "confirmed"}, ("accepted", "confirmed", 8)),
        (CONFIRMED_ROW, {"status": "cancelled"}, ("accepted", "confirmed", 7)),
        # a failed row: what moves money counts if nothing disagrees
        (FAILED_ROW, {"status": "cancelled"}, ("failed", "cancelled", 7)),
        (FAILED_ROW, {"status": "processing"}, ("accepted", "processing", 8)),
        (
            FAILED_ROW,
            {"status": "confirmed", "crypto_address": None, "currency_sent": None},
            ("accepted", "confirmed", 8),
        ),
        (FAILED_ROW, {"status": "confirmed", "currency_sent": Money("BTC", Decimal(9))}, ("failed", "cancelled", 7)),
    ],
)
@pytest.mark.parametrize("source", ["look-up", "callback"])
def test_what_another_id_may_change(
    known: Row, changes: dict[str, Any], expected: tuple[str, str, int], source: str
) -> None:
    """A look-up and a callback do the same; each of them is a contradiction."""
    transaction = replace(found().transaction, id=8, **changes)
    evidence = CalledBack(transaction) if source == "callback" else LookedUp("worker", Found(transaction))
    after = apply(known, evidence, 9.0)
    if source == "callback" and transaction.foreign_id is None:
        assert after is known  # a callback that names nobody reaches no row
        return
    assert after.withdrawal is not None
    assert (after.state, after.withdrawal.status, after.withdrawal.id) == expected
    reopened = known is FAILED_ROW and after.state == "accepted"
    assert after.contradiction == ("accepted after failed" if reopened else f"a {source} shows another id, 8")


def test_figures_that_disagree_are_kept_beside_the_status() -> None:
    """Under the same id; a later witness without figures does not wipe them out, and the first acceptance does."""
    differing = asked_about(ACCEPTED_ROW, found("confirmed", amount="9"), 9.0)
    assert [one.field for one in differing.differences] == ["amount"]
    assert differing.withdrawal is not None
    assert (differing.state, differing.withdrawal.status) == ("accepted", "confirmed")
    assert asked_about(differing, found("confirmed", amount=None), 10.0).differences == differing.differences
    late = asked_about(CONFIRMED_ROW, found("processing", amount="9"), 9.0)
    assert (late.withdrawal, len(late.differences)) == (CONFIRMED_ROW.withdrawal, 1)


@pytest.mark.parametrize(
    ("fields", "shown", "amount"),
    [
        ({}, {}, Decimal(1)),
        ({"convert_to": "BTC"}, {}, Decimal(1)),
        ({}, {"amount": Decimal("1.0")}, Decimal("1.0")),
        ({"convert_to": "ETH"}, {}, None),
        ({"convert_to": "ETH"}, {"amount": Decimal(5)}, Decimal(5)),
        ({"convert_to": "ETH", "amount": None, "amount_to": "2"}, {}, None),
    ],
)
def test_the_amount_is_filled_from_the_request_without_a_conversion(
    fields: dict[str, Any], shown: dict[str, Any], amount: Decimal | None
) -> None:
    """With a conversion nobody knows whose amount it is; the figures of the two sides are AlphaPo's alone."""
    asked = {"currency": "BTC", "address": "a", "foreign_id": "f", "end_user_reference": "u", "amount": "1"} | fields
    payment = WithdrawalRequest(**asked)
    before = row(asked=replace(ASKED, revision=Revision(encode_body(payment), payment)))
    after = sent(before, Accepted(replace(TOLD, **shown)))
    assert after.withdrawal is not None
    assert after.withdrawal.amount == amount
    assert (after.withdrawal.sender_amount, after.withdrawal.receiver_amount) == (None, None)


def test_an_amount_that_a_reply_gave_is_kept_after_a_look_up() -> None:
    """A look-up has no `amount` of its own."""
    replied = sent(row(), Accepted(replace(TOLD, amount=Decimal("1.00"))))
    after = asked_about(replied, found("confirmed"), 9.0)
    assert str(after.withdrawal and after.withdrawal.amount) == "1.00"


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
