"""Witnesses: what shows that AlphaPo has a withdrawal, and what happens when they disagree."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from alphapo_async.core.codec import encode_body
from alphapo_async.core.evidence import (
    Attempt,
    CalledBack,
    ControlFound,
    Evidence,
    LeaseExpired,
    LookedUp,
    OperatorDecision,
    Released,
    Revision,
)
from alphapo_async.core.merge_withdrawal import is_another, is_older, withdrawal_from
from alphapo_async.core.models import CryptoAddress, Money, Transaction, Withdrawal, WithdrawalRequest
from alphapo_async.core.next_step import LookUp, Wait, next_step
from alphapo_async.core.outcome import (
    Accepted,
    Found,
    InDoubt,
    KeyRefused,
    NoneFound,
)
from alphapo_async.core.row import Assumptions, Row, counted_as, is_ended
from alphapo_async.core.transitions import apply
from tests.support.rows import (
    ACCEPTED_ROW,
    ASKED,
    CONFLICT_ROW,
    DOUBTED,
    FAILED_ROW,
    LOST,
    MISMATCHED,
    NOT_SENT_ROW,
    QUIET,
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


@pytest.mark.parametrize(("number", "witness"), [(7, "reply"), (8, "look-up")])
def test_a_reply_stays_the_witness_of_an_acceptance(number: int, witness: str) -> None:
    """Only such a row can be a control for other rows: a later status of the same withdrawal does not end that."""
    accepted = sent(row(), Accepted(TOLD))
    after = asked_about(
        accepted, replace(found("confirmed"), transaction=replace(found("confirmed").transaction, id=number)), 60.0
    )
    assert after.withdrawal is not None
    assert (after.withdrawal.status, after.withdrawal.source) == ("confirmed", witness)


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


# ── an end that an earlier attempt may outlive ───────────────────────────────────────────────────────────────────────

TWICE = sent(DOUBTED, LOST, 10.0)
"""Two attempts may have arrived, the second one at 10 s."""
BETWEEN = replace(TWICE, holder=None)


def called_back(before: Row, status: str, now: float = 20.0, **changes: Any) -> Row:
    """Return the row after a callback."""
    return apply(before, CalledBack(replace(found(status).transaction, **changes)), now)


ENDED_ROW = called_back(BETWEEN, "cancelled")
AFTER_QUIET = QUIET + 10.1


@pytest.mark.parametrize("status", ["cancelled", "declined"])
@pytest.mark.parametrize(
    ("before", "arrivals"),
    [
        (row(), 1),
        (replace(DOUBTED, holder=None), 1),
        (sent(row(), Accepted(TOLD)), 1),
        (sent(row(), KeyRefused("x")), 0),
    ],
)
def test_the_end_of_the_only_attempt_settles_the_row_at_once(before: Row, arrivals: int, status: str) -> None:
    """From a reply, a look-up or a callback alike: nothing of it can still arrive."""
    after = called_back(before, status)
    assert (after.state, after.arrivals, after.id_taken) == ("failed", arrivals, False)
    assert asked_about(before, found(status)).state == "failed"


def test_a_reply_that_shows_the_end_settles_a_first_attempt() -> None:
    """And not a second one."""
    cancelled = Accepted(replace(TOLD, status="cancelled"))
    assert sent(row(), cancelled).state == "failed"
    assert is_ended(sent(DOUBTED, cancelled))


@pytest.mark.parametrize("status", ["cancelled", "declined"])
@pytest.mark.parametrize(
    "before",
    [
        TWICE,
        BETWEEN,
        sent(DOUBTED, Accepted(TOLD)),
        apply(row(), LeaseExpired("worker", 10.0), 10.0),
        row(10.0, asked=replace(ASKED, attempted_before=True)),
        apply(sent(DOUBTED, LOST, 9.0), ControlFound("worker", 9.0), 9.0),
    ],
)
def test_an_end_that_an_earlier_attempt_may_outlive_leaves_the_row_unknown(before: Row, status: str) -> None:
    """A cancelled withdrawal may free its foreign_id: the row keeps what AlphaPo shows, and nothing is sent."""
    after = called_back(before, status)
    assert (after.state, counted_as(after), is_ended(after), after.id_taken) == ("open", "unknown", True, True)
    assert (after.settled_at, after.contradiction, after.holder) == (None, None, before.holder)
    assert after.not_before >= QUIET
    assert after.reason == "AlphaPo ended it, and an earlier attempt may still arrive"


def test_a_look_up_after_the_quiet_time_settles_an_ended_row() -> None:
    """Only one that begins then, and only where it still shows that withdrawal ended; a callback may be older than it seems."""
    assert is_ended(asked_about(ENDED_ROW, found("cancelled"), QUIET + 10.0))
    assert is_ended(apply(ENDED_ROW, LookedUp("worker", found("cancelled"), began=QUIET), AFTER_QUIET))
    assert is_ended(called_back(ENDED_ROW, "cancelled", AFTER_QUIET))
    assert is_ended(asked_about(ENDED_ROW, NoneFound(), AFTER_QUIET))
    settled = asked_about(ENDED_ROW, found("cancelled"), AFTER_QUIET)
    assert (settled.state, settled.settled_at, settled.contradiction) == ("failed", AFTER_QUIET, None)
    assert asked_about(TWICE, found("declined"), AFTER_QUIET).state == "failed"


def test_the_quiet_time_begins_anew_with_a_later_attempt() -> None:
    """What another worker may still have sent is waited for."""
    later = apply(replace(ENDED_ROW, holder="another"), LeaseExpired("another", 99.0), 99.0)
    assert (is_ended(later), later.needs_look_up) == (True, True)
    assert is_ended(asked_about(later, found("cancelled"), AFTER_QUIET))
    assert asked_about(later, found("cancelled"), QUIET + 99.1).state == "failed"


def test_confirmed_beats_the_end_of_an_ended_row() -> None:
    """With a contradiction; an older status changes nothing."""
    after = called_back(ENDED_ROW, "confirmed")
    assert (after.state, after.contradiction) == ("accepted", "confirmed after cancelled")
    assert is_ended(called_back(ENDED_ROW, "processing"))


def test_another_withdrawal_under_a_freed_foreign_id_is_ours() -> None:
    """A late body has arrived: it is accepted, and its id is a contradiction; the end of another one does not count."""
    after = called_back(ENDED_ROW, "processing", id=8)
    assert (after.state, after.contradiction) == ("accepted", "a callback shows another id, 8")
    assert after.withdrawal is not None
    assert after.withdrawal.id == 8
    other = asked_about(ENDED_ROW, Found(replace(found("cancelled").transaction, id=8)), AFTER_QUIET)
    assert (is_ended(other), other.contradiction) == (True, "a look-up shows another id, 8")


def test_an_attempt_under_way_is_counted_once() -> None:
    """A callback came before the reply: then what the reply adds is known, and its attempt may have left until its time-out."""
    first = called_back(row(), "processing")
    assert (first.state, first.arrivals, first.may_send_until) == ("accepted", 1, 20.0 + Assumptions().attempt_timeout)
    assert called_back(sent(first, Accepted(TOLD), 30.0), "cancelled").state == "failed"
    second = called_back(DOUBTED, "processing")
    assert (second.arrivals, is_ended(called_back(second, "cancelled"))) == (2, True)


def test_a_callback_waits_for_what_the_holder_knows() -> None:
    """It may be sending the second attempt: its look-up says that there is none, its lost attempt that there is one."""
    ended = called_back(DOUBTED, "cancelled")
    assert (is_ended(ended), ended.arrivals, ended.holder) == (True, 1, "worker")
    assert next_step(ended, 20.0) == LookUp()
    assert is_ended(asked_about(ended, found("cancelled"), 21.0, worker="another"))
    assert asked_about(ended, found("cancelled"), 21.0).state == "failed"
    second = asked_about(sent(ended, LOST, 21.0), found("cancelled"), 22.0)
    assert (is_ended(second), next_step(second, 22.0)) == (True, Wait(QUIET + 21.0))


def test_a_failed_row_stays_failed() -> None:
    """What its own attempt reports later was counted."""
    failed = called_back(row(), "cancelled")
    assert apply(failed, Attempt("worker", InDoubt("connection lost"), 0.0, 25.0), 25.0) == replace(failed, attempts=1)
    assert called_back(replace(failed, arrivals=2), "declined").state == "failed"


def test_an_end_after_a_no_says_so() -> None:
    """A person settled it as rejected, and AlphaPo had it."""
    rejected = apply(
        replace(BETWEEN, may_send_until=5.0), OperatorDecision("anna", "not there", is_accepted=False), 15.0
    )
    after = called_back(rejected, "cancelled")
    assert (is_ended(after), after.contradiction) == (True, "failed after rejected")


@pytest.mark.parametrize("evidence", [Released("worker", "queue"), ControlFound("worker", QUIET * 2)])
def test_an_ended_row_leaves_doubt_by_nothing_else(evidence: Evidence) -> None:
    """Neither a release nor a control says anything about the earlier attempt."""
    held = called_back(TWICE, "cancelled")
    assert is_ended(asked_about(apply(sent(held, MISMATCHED), evidence, AFTER_QUIET), NoneFound(), AFTER_QUIET))


def test_a_withdrawal_that_is_not_proved_to_be_an_open_row_s_makes_it_look_ups_only() -> None:
    """With the fields that disagree, or because too little is shown."""
    other = called_back(row(), "processing", crypto_address=CryptoAddress(address="z"))
    assert (other.state, other.id_taken, other.reason) == ("open", True, "AlphaPo shows another withdrawal")
    assert [difference.field for difference in other.differences] == ["address"]
    cut = called_back(row(), "processing", crypto_address=None)
    assert (cut.state, cut.id_taken, cut.reason) == ("open", True, "AlphaPo shows too little")


def test_a_row_in_conflict_follows_the_existing_withdrawal() -> None:
    """By a look-up, and by a callback with its id; an older status and another withdrawal change nothing, nor do they of any other "no"."""
    existing: dict[str, Any] = {"crypto_address": CryptoAddress(address="z"), "currency_sent": Money("BTC", Decimal(9))}
    ended = called_back(CONFLICT_ROW, "cancelled", **existing)
    assert ended.transaction is not None
    assert (ended.state, ended.transaction.status) == ("conflict", "cancelled")
    assert asked_about(ended, found(amount="9", address="z")).transaction == ended.transaction
    assert called_back(ended, "confirmed", **existing, id=8) is ended
    assert called_back(REJECTED_ROW, "processing", **existing) is REJECTED_ROW
