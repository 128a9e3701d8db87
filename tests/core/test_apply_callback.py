"""Hearing: what a callback adds to a row, and what it does not."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from alphapo_async.core.apply_callback import TOO_LITTLE, apply_callback, may_be_on_its_way, why_not_ours
from alphapo_async.core.evidence import CalledBack
from alphapo_async.core.models import Transaction, Withdrawal
from alphapo_async.core.outcome import Accepted, InDoubt
from alphapo_async.core.row import Assumptions, Row
from alphapo_async.core.transitions import apply
from tests.support.rows import (
    ACCEPTED_ROW,
    CONFLICT_ROW,
    DOUBTED,
    FAILED_ROW,
    NOT_SENT_ROW,
    REFUSED_ROW,
    REJECTED_ROW,
    TAKEN,
    TOLD,
    asked_about,
    found,
    row,
    sent,
)

TYPED = Withdrawal(id="typed", foreign_id="f", source="journal")


def told(status: str = "confirmed", **how: str) -> Transaction:
    """Return what a callback says."""
    return found(status, **how).transaction


def cut(status: str = "confirmed", **changes: object) -> Transaction:
    """Return what a callback says that tells neither figure nor address."""
    return replace(found(status, amount=None).transaction, **changes)


def heard(before: Row, transaction: Transaction) -> Row:
    """Return the row after a callback, through the one judge."""
    return apply(before, CalledBack(transaction), 9.0)


@pytest.mark.parametrize(
    ("status", "state"),
    [
        ("pending", "accepted"),
        ("not_confirmed", "accepted"),
        ("confirmed", "accepted"),
        ("cancelled", "failed"),
        ("declined", "failed"),
        ("thawed", "accepted"),
    ],
)
@pytest.mark.parametrize("before", [row(), replace(DOUBTED, holder=None), sent(row(), TAKEN)])
def test_a_callback_settles_what_is_open(before: Row, status: str, state: str) -> None:
    """Unknown or under way: AlphaPo has it, or had it; an unknown status is not final."""
    after = heard(before, told(status))
    assert (after.state, after.settled_at, after.holder) == (state, 9.0, None)
    assert after.withdrawal is not None
    assert (after.withdrawal.source, after.withdrawal.status) == ("callback", status)
    assert after.withdrawal.is_final is (status in ("confirmed", "cancelled", "declined"))
    assert after.transaction == told(status)


@pytest.mark.parametrize("settled", [REJECTED_ROW, NOT_SENT_ROW, REFUSED_ROW, CONFLICT_ROW])
def test_a_callback_beats_every_no_loudly(settled: Row) -> None:
    """As every witness does."""
    after = heard(settled, told())
    assert (after.state, after.contradiction) == ("accepted", f"accepted after {settled.state}")


def test_a_callback_before_the_reply_and_the_reply_after_it_are_one() -> None:
    """Whatever the reply says, or if none comes: what is known stays known."""
    called_first = heard(row(), told())
    for proof in (Accepted(TOLD), InDoubt("connection lost"), TAKEN):
        after = sent(called_first, proof, 10.0)
        assert (after.state, after.settled_at) == ("accepted", 9.0)
        assert after.withdrawal is not None
        assert after.withdrawal.status == "confirmed"


def test_a_late_or_repeated_callback_moves_nothing_back() -> None:
    """Neither a final status nor what it told."""
    final = heard(DOUBTED, told())
    for late in ("pending", "not_confirmed", "confirmed"):
        after = heard(final, told(late))
        assert (after.state, after.withdrawal and after.withdrawal.status) == ("accepted", "confirmed")
        assert after.contradiction is None


def test_confirmed_beats_cancelled_and_cancelled_after_it_changes_nothing() -> None:
    """The first is a contradiction of what was told; the second does not fit."""
    after = heard(FAILED_ROW, told())
    assert (after.state, after.contradiction) == ("accepted", "accepted after failed")
    for ended in ("cancelled", "declined"):
        assert why_not_ours(after, told(ended)) == f"{ended} after confirmed"
        assert heard(after, told(ended)) == replace(after, contradiction=f"{ended} after confirmed")


@pytest.mark.parametrize(
    ("before", "transaction", "why"),
    [
        (DOUBTED, told(amount="9"), "amount"),
        (DOUBTED, told(amount="9", address="z"), "address"),
        (row(), told(amount="9", address="z"), "address"),
        (row(), cut(), "too little"),
        (DOUBTED, cut(), "too little"),
    ],
)
def test_what_does_not_fit_an_open_row_makes_it_look_ups_only(before: Row, transaction: Transaction, why: str) -> None:
    """The row shows the figures; a callback settles no conflict, since a conflict needs the row's holder."""
    after = heard(before, transaction)
    assert why in (why_not_ours(before, transaction) or "")
    assert (after.state, after.id_taken, after.needs_look_up, after.holder) == ("open", True, True, before.holder)
    assert after.transaction is transaction
    assert bool(after.differences) is (why != "too little")


@pytest.mark.parametrize(
    ("before", "transaction", "why"),
    [
        (REJECTED_ROW, cut(), "too little"),
        (REJECTED_ROW, told(amount="9"), "amount"),
        (DOUBTED, cut(foreign_id="g"), "foreign_id"),
        (DOUBTED, cut(foreign_id=None), "too little"),
        (replace(ACCEPTED_ROW, withdrawal=TYPED), told(amount="9"), "amount"),
        (replace(ACCEPTED_ROW, withdrawal=TYPED), cut(), "too little"),
    ],
)
def test_what_does_not_fit_changes_nothing_else(before: Row, transaction: Transaction, why: str) -> None:
    """A settled row stays as it is, and so does a row that the callback does not name."""
    assert why in (why_not_ours(before, transaction) or "")
    assert heard(before, transaction) is before


@pytest.mark.parametrize("before", [ACCEPTED_ROW, FAILED_ROW, sent(row(), Accepted(replace(TOLD, status="declined")))])
@pytest.mark.parametrize("transaction", [cut("declined"), told("declined", amount="9", address="z")])
def test_an_accepted_row_is_known_by_the_id(before: Row, transaction: Transaction) -> None:
    """A conversion that was cancelled has no figures, and figures that disagree do not hide how it ended."""
    after = heard(before, transaction)
    assert why_not_ours(before, transaction) is None
    assert (after.state, after.withdrawal and after.withdrawal.status) == ("failed", "declined")
    assert len(after.differences) == (2 if transaction.currency_sent else 0)


def test_an_id_that_an_operator_typed_does_not_count() -> None:
    """AlphaPo's own id takes its place without a contradiction, once nothing disagrees and enough is given."""
    after = heard(replace(DOUBTED, state="accepted", withdrawal=TYPED), told("cancelled"))
    assert (after.state, after.contradiction) == ("failed", None)
    assert after.withdrawal is not None
    assert after.withdrawal.id == 7


def test_why_it_does_not_fit_is_said_in_words() -> None:
    """For the history, which keeps them."""
    assert why_not_ours(row(), cut()) == "AlphaPo shows too little"
    two = "address: asked 'a', AlphaPo tells 'z'; amount: asked '1', AlphaPo tells '9'"
    assert why_not_ours(DOUBTED, told(amount="9", address="z")) == two


def test_of_an_old_row_the_id_is_compared() -> None:
    """Its payment is forgotten, so that it is taken for ours or not, and learns nothing."""
    old = replace(ACCEPTED_ROW, revision=replace(ACCEPTED_ROW.revision, body=b"", payment=None, kept_digest="1:x"))
    assert why_not_ours(old, told()) is None
    assert why_not_ours(old, replace(told(), id=8)) == "another id, 8"
    assert why_not_ours(replace(old, withdrawal=None), told()) == TOO_LITTLE
    assert apply_callback(old, CalledBack(told()), 9.0, Assumptions()) is old


def test_the_three_witnesses_agree_in_every_order() -> None:
    """Reply, look-up and callback: one state, one status."""
    ways = {
        "reply": lambda before: sent(before, Accepted(TOLD), 5.0),
        "look-up": lambda before: asked_about(before, found("not_confirmed"), 6.0),
        "callback": lambda before: heard(before, told("cancelled")),
    }
    orders = [[a, b, c] for a in ways for b in ways for c in ways if len({a, b, c}) == 3]
    for order in orders:
        after = row()
        for way in order:
            after = ways[way](after)
        assert after.state == "failed", order
        assert after.withdrawal is not None
        assert after.withdrawal.status == "cancelled", order


def test_only_what_a_worker_may_be_sending_is_on_its_way() -> None:
    """Then too little is told for now: the reply says more in a moment."""
    assert may_be_on_its_way(row())
    assert why_not_ours(row(), cut()) == TOO_LITTLE
    assert not may_be_on_its_way(replace(row(), holder=None))
    assert not may_be_on_its_way(ACCEPTED_ROW)


def test_a_conflict_follows_the_callbacks_of_the_existing_withdrawal() -> None:
    """They do not fit the row's payment, and say how that withdrawal stands; any other callback changes nothing."""
    existing = told("cancelled", amount="9", address="z")
    after = heard(CONFLICT_ROW, existing)
    assert (after.state, after.transaction) == ("conflict", existing)
    assert heard(CONFLICT_ROW, replace(existing, id=8)) is CONFLICT_ROW
    unknown = replace(CONFLICT_ROW, transaction=None)
    assert heard(unknown, existing) is unknown
