"""Asking: what an answer by foreign_id adds to a row, and the quiet way out of doubt."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from alphapo_async.core.epochs import is_stale_no
from alphapo_async.core.evidence import ControlFound, Revision
from alphapo_async.core.models import CryptoAddress, Money
from alphapo_async.core.next_step import LookUp, Send, Wait, next_step
from alphapo_async.core.outcome import (
    Found,
    NoAnswer,
    NoneFound,
)
from alphapo_async.core.row import Epoch, Row
from alphapo_async.core.transitions import apply
from tests.support.rows import (
    ACCEPTED_ROW,
    ASKED,
    CONFLICT_ROW,
    DAY,
    DOUBTED,
    ERRORS,
    LOST,
    OURS,
    QUIET,
    REJECTED,
    REJECTED_ROW,
    TAKEN,
    asked_about,
    found,
    refused_in_doubt,
    revision,
    row,
    sent,
)


def test_ours_is_accepted_from_anybody() -> None:
    """Whoever asks: a withdrawal that agrees settles the row, with what AlphaPo shows."""
    after = asked_about(DOUBTED, found(), 4.0, worker="another")
    assert (after.state, after.settled_at, after.look_ups) == ("accepted", 4.0, 1)
    assert after.withdrawal is not None
    assert (after.withdrawal.source, after.withdrawal.sender_amount) == ("look-up", Decimal(1))
    assert after.transaction == found().transaction


@pytest.mark.parametrize("status", ["cancelled", "declined"])
def test_what_alphapo_ended_is_failed(status: str) -> None:
    """It had the withdrawal, and no money moved."""
    assert asked_about(DOUBTED, found(status)).state == "failed"


@pytest.mark.parametrize(
    ("given", "state"),
    [
        ({}, "accepted"),
        ({"currency_sent": None}, "accepted"),
        ({"crypto_address": None}, "accepted"),
        ({"crypto_address": None, "currency_sent": Money("BTC")}, "open"),
        ({"crypto_address": None, "currency_sent": None}, "open"),
        ({"foreign_id": None}, "open"),
        ({"foreign_id": "g"}, "open"),
    ],
)
def test_a_row_in_doubt_needs_the_address_or_the_figure(given: dict[str, Any], state: str) -> None:
    """The body was ours and may have arrived; nothing may disagree."""
    after = asked_about(DOUBTED, Found(replace(found().transaction, **given)))
    assert (after.state, after.id_taken) == (state, state == "open")


@pytest.mark.parametrize("before", [row(), sent(row(), TAKEN)], ids=["new", "taken"])
@pytest.mark.parametrize(
    ("given", "state"),
    [
        ({}, "accepted"),
        ({"currency_sent": None}, "open"),
        ({"currency_sent": Money(None, Decimal(1))}, "open"),
        ({"crypto_address": None}, "open"),
        ({"foreign_id": None}, "open"),
    ],
)
def test_a_row_that_was_never_in_doubt_needs_amount_currency_and_address(
    before: Row, given: dict[str, Any], state: str
) -> None:
    """It may be the payment of an earlier journal, or of another program."""
    after = asked_about(before, Found(replace(found().transaction, **given)))
    assert (after.state, after.id_taken) == (state, state == "open" or before.id_taken)
    assert after.reason == ("AlphaPo shows too little" if state == "open" else before.reason)


@pytest.mark.parametrize(
    ("place", "state", "fields"),
    [
        ({"tag": "7", "tag_is_told": True}, "accepted", []),
        ({}, "open", []),
        ({"tag": "8", "tag_is_told": True}, "open", ["tag"]),
        ({"tag": None, "tag_is_told": True}, "open", ["tag"]),
    ],
)
def test_a_tag_that_was_requested_is_needed_too(place: dict[str, Any], state: str, fields: list[str]) -> None:
    """An exchange has one address for all its customers."""
    tagged = row(asked=replace(ASKED, revision=revision(tag="7")))
    after = asked_about(tagged, Found(replace(found().transaction, crypto_address=CryptoAddress(address="a", **place))))
    assert (after.state, [one.field for one in after.differences]) == (state, fields)


def test_two_differences_without_doubt_are_a_conflict() -> None:
    """The id is another payment's, and ours was not and will not be paid under it."""
    assert (CONFLICT_ROW.state, [one.field for one in CONFLICT_ROW.differences]) == ("conflict", ["address", "amount"])
    assert CONFLICT_ROW.transaction is not None


@pytest.mark.parametrize("status", ["confirmed", "cancelled", "declined", "pending"])
def test_a_conflict_follows_what_alphapo_shows(status: str) -> None:
    """It stays a conflict, and its caller learns how the existing withdrawal stands; an older status changes nothing."""
    after = asked_about(CONFLICT_ROW, found(status, amount="9", address="z"), 9.0, "another")
    assert (after.state, after.settled_at) == ("conflict", CONFLICT_ROW.settled_at)
    assert after.transaction == found(status, amount="9", address="z").transaction
    again = asked_about(after, found(amount="9", address="z"), 10.0)
    assert again.transaction == (after.transaction if status != "pending" else CONFLICT_ROW.transaction)
    newer = Found(replace(found(amount="9", address="z").transaction, id=8))
    assert asked_about(after, newer, 10.0).transaction == newer.transaction


def test_two_differences_in_doubt_stay_in_doubt() -> None:
    """Ours may have arrived: whoever decides sees the differences."""
    after = asked_about(DOUBTED, found(amount="9", address="z"))
    assert (after.state, after.id_taken, len(after.differences)) == ("open", True, 2)
    assert after.reason == "AlphaPo shows another withdrawal"


def test_a_conflict_is_said_to_the_holder_only() -> None:
    """A conflict is a "no": from another worker it only blames the id."""
    after = asked_about(row(), found(amount="9", address="z"), worker="another")
    assert (after.state, after.id_taken) == ("open", True)


def test_one_difference_is_neither_ours_nor_a_conflict() -> None:
    """A figure that is off may be a fee that nobody named."""
    assert asked_about(row(), found(amount="9")).state == "open"


def test_another_withdrawal_adds_nothing_to_a_settled_row() -> None:
    """What is settled is not unsettled by somebody else's payment."""
    after = asked_about(REJECTED_ROW, found(amount="9", address="z"))
    assert (after.state, after.transaction) == ("rejected", None)


def test_none_after_a_refusal_settles_a_row_that_an_earlier_process_may_have_sent() -> None:
    """Where the journal does not outlive its process, a refusal waits for one look-up, and one that is answered."""
    refused = sent(row(is_durable=False), REJECTED)
    assert (refused.state, next_step(refused, 0.0)) == ("open", LookUp())
    unanswered = asked_about(refused, NoAnswer("HTTP 502"))
    assert next_step(unanswered, 0.0) == LookUp()
    assert asked_about(unanswered, NoneFound()).state == "rejected"


def test_none_from_another_worker_settles_nothing() -> None:
    """It is a "no"."""
    assert asked_about(sent(row(is_durable=False), REJECTED), NoneFound(), worker="another").state == "open"


def test_none_adds_nothing_to_a_settled_row() -> None:
    """Not even to one that AlphaPo accepted: not found proves nothing."""
    for settled in (ACCEPTED_ROW, REJECTED_ROW):
        assert asked_about(settled, NoneFound()) == replace(settled, look_ups=1, checked_at=0.0)


def test_no_answer_lets_the_same_bytes_follow() -> None:
    """A look-up that fails must not stop a retry, and asks for its own pause."""
    after = asked_about(DOUBTED, NoAnswer("throttled", 429, retry_after=10.0), 1.0)
    assert next_step(after, 5.0) == Wait(11.0)
    assert next_step(after, 11.0) == Send()


def test_no_answer_adds_nothing_to_a_settled_row() -> None:
    """Only the count."""
    assert asked_about(ACCEPTED_ROW, NoAnswer("HTTP 502")) == replace(ACCEPTED_ROW, look_ups=1, checked_at=0.0)


def test_a_row_of_which_only_the_digest_is_kept_learns_nothing_from_a_look_up() -> None:
    """There is nothing to compare with, and the row was settled long ago."""
    old = row(revision=Revision(b"", None, kept_digest=OURS.digest), state="accepted", holder=None)
    assert asked_about(old, found("cancelled")) == replace(old, look_ups=1, checked_at=0.0)


def test_the_quiet_exit() -> None:
    """Quiet, refused, none, a control newer than all that, none again: rejected, and only then."""
    refused = refused_in_doubt(QUIET)
    assert next_step(refused, QUIET) == LookUp(accepted_after=QUIET)
    seen = apply(refused, ControlFound("worker", QUIET + 1), QUIET + 2)
    assert next_step(seen, QUIET + 2) == LookUp()
    settled = asked_about(seen, NoneFound(), QUIET + 3)
    assert (settled.state, settled.settled_at, settled.refusal) == ("rejected", QUIET + 3, ERRORS)


def test_without_a_control_a_none_is_not_the_last_word() -> None:
    """However often it is said."""
    refused = refused_in_doubt(QUIET)
    for _ in range(3):
        refused = asked_about(refused, NoneFound(), QUIET + 5)
    assert refused.state == "open"


@pytest.mark.parametrize(
    ("before", "control"),
    [
        (refused_in_doubt(QUIET), ControlFound("worker", QUIET)),  # not newer than what may have been accepted late
        (refused_in_doubt(QUIET), ControlFound("another", QUIET + 1)),  # not the holder
        (refused_in_doubt(10.0), ControlFound("worker", QUIET + 1)),  # refused too early
        (DOUBTED, ControlFound("worker", QUIET + 1)),  # never refused
        (replace(refused_in_doubt(QUIET), id_taken=True), ControlFound("worker", QUIET + 1)),  # AlphaPo knows the id
        (
            replace(refused_in_doubt(QUIET), other_key_possible=True),
            ControlFound("worker", QUIET + 1),
        ),  # perhaps another key's
        (ACCEPTED_ROW, ControlFound("worker", QUIET + 1)),  # settled
    ],
)
def test_a_control_that_proves_nothing_adds_nothing(before: Row, control: ControlFound) -> None:
    """Each condition of the quiet exit is needed."""
    assert apply(before, control, QUIET + 2) is before


def test_a_new_doubt_ends_the_way_out() -> None:
    """Another lost body after the refusal, and it all starts again."""
    seen = apply(refused_in_doubt(QUIET), ControlFound("worker", QUIET + 1), QUIET + 2)
    again = sent(seen, LOST, QUIET + 3)
    assert (again.refusal, again.refused_at, again.control_seen_at) == (None, None, None)
    assert asked_about(again, NoneFound(), QUIET + 4).state == "open"


def test_the_quiet_exit_is_closed_once_alphapo_may_have_freed_the_id() -> None:
    """Then a "none" may be said of what was paid: only an acceptance, a callback or a person can end the doubt."""
    refused = refused_in_doubt(DAY - 10)
    seen = apply(refused, ControlFound("worker", DAY - 5), DAY - 5)
    assert asked_about(seen, NoneFound(), DAY).state == "rejected"
    assert asked_about(seen, NoneFound(), DAY + 1).state == "open"
    assert next_step(refused, DAY + 1) == LookUp()


def test_another_withdrawal_than_the_known_one_is_no_witness() -> None:
    """Its id is another than the one AlphaPo told us of."""
    other = found("cancelled")
    after = asked_about(ACCEPTED_ROW, replace(other, transaction=replace(other.transaction, id=999)))
    assert (after.state, after.contradiction) == ("accepted", "a look-up shows another id, 999")


# ── nothing else changes ─────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("shown", "reason"),
    [(found(amount="9"), "AlphaPo shows another withdrawal"), (found(amount=None), "AlphaPo shows too little")],
)
def test_a_withdrawal_that_is_not_proved_ours_is_kept_and_blamed(shown: Found, reason: str) -> None:
    """With its differences, if any; the id is asked about from now on, and nothing else is said."""
    before = row(attempts=2, refusal=ERRORS)
    after = asked_about(before, shown, 9.0)
    counted = replace(before, look_ups=1, checked_at=9.0, transaction=shown.transaction)
    assert after == replace(counted, id_taken=True, needs_look_up=True, differences=after.differences, reason=reason)
    assert bool(after.differences) is (reason == "AlphaPo shows another withdrawal")


@pytest.mark.parametrize(("known", "told"), [("", "not found"), ("connection lost", "connection lost")])
def test_none_pays_the_look_up_and_hides_no_earlier_word(known: str, told: str) -> None:
    """It is the reason only where there was none."""
    before = replace(DOUBTED, reason=known)
    expected = replace(before, look_ups=1, checked_at=9.0, needs_look_up=False, reason=told)
    assert asked_about(before, NoneFound(), 9.0) == expected


@pytest.mark.parametrize(
    ("known", "owes"),
    [({}, False), ({"refusal": ERRORS}, True), ({"id_taken": True}, True)],
    ids=["", "refused", "id_taken"],
)
def test_a_question_without_an_answer_is_still_owed_where_a_no_waits_for_it(
    known: dict[str, Any],
    owes: bool,  # noqa: FBT001 - a column
) -> None:
    """And it makes no pause that AlphaPo did not ask for, nor shortens one."""
    before = replace(DOUBTED, not_before=4.0, **known)
    after = asked_about(before, NoAnswer("HTTP 502"), 3.0)
    assert after == replace(before, look_ups=1, checked_at=3.0, needs_look_up=owes)
    assert asked_about(before, NoAnswer("HTTP 502"), 9.0).not_before == 9.0


def test_a_control_is_dated_and_asks_once_more() -> None:
    """Nothing else about the row changes."""
    refused = refused_in_doubt(QUIET)
    seen = apply(refused, ControlFound("worker", QUIET + 1), QUIET + 2)
    assert seen == replace(refused, control_seen_at=QUIET + 2, needs_look_up=True)


def test_a_stale_no_is_confirmed_by_a_none() -> None:
    """After the journal went back, the "no" of before counts again from then on."""
    stale = replace(REJECTED_ROW, journal_epoch=Epoch(1, 9.0))
    assert is_stale_no(stale)
    assert not is_stale_no(asked_about(stale, NoneFound(), 10.0))
