"""The row: what it is told as."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest
from msgspec.structs import replace

from alphapo_async.core.comparison import Difference
from alphapo_async.core.models import Transaction, Withdrawal
from alphapo_async.core.row import (
    CORRECTABLE_STATES,
    MANY,
    NEGATIVE_STATES,
    STICKY_STATES,
    WENT_BACK,
    Assumptions,
    Epoch,
    Row,
    State,
    counted_as,
    has_expired,
    is_by_hand,
    is_ended,
    is_fresh,
    is_frozen,
    is_in_doubt,
    is_refused_after,
    is_stale_no,
    may_have_forgotten,
    own_transaction,
    put_in_doubt,
    quiet_ends_at,
    seen_in,
    settle,
    withdrawal_of,
)
from tests.support.rows import (
    ACCEPTED_ROW,
    CONFLICT_ROW,
    DOUBTED,
    FAILED_ROW,
    NOT_SENT_ROW,
    OURS,
    REFUSED_ROW,
    REJECTED_ROW,
    TOLD,
    row,
)


def test_a_row_of_which_nothing_is_known_claims_nothing() -> None:
    """Open, held by nobody, without doubt, debt, count or word."""
    bare = Row(account="default", foreign_id="f", revision=OURS, key_fingerprint="key", created_at=3.0)
    untold = {name: value for name, value in msgspec.structs.asdict(bare).items() if value is not None}
    assert untold == {
        "account": "default",
        "foreign_id": "f",
        "revision": OURS,
        "key_fingerprint": "key",
        "created_at": 3.0,
        "earlier": (),
        "state": "open",
        "held_since": 0.0,
        "claim": 0,
        "stays_open": False,
        "reported": True,
        "earlier_request_possible": False,
        "look_ups_only": False,
        "needs_look_up": False,
        "other_key_possible": False,
        "epoch": 0,
        "reaffirmed_in": 0,
        "journal_epoch": Epoch(),
        "counted": (),
        "lines": 0,
        "attempts": 0,
        "arrivals": 0,
        "look_ups": 0,
        "not_before": 0.0,
        "reason": "",
        "differences": (),
    }


def test_what_is_assumed_of_alphapo() -> None:
    """An id is not freed for a day, a body is accepted half an hour late at most, and leaves within fifteen seconds."""
    assumptions = Assumptions()
    assert (assumptions.resend_within, assumptions.quiet, assumptions.attempt_timeout) == (86_400.0, 1_800.0, 15.0)


def test_every_no_and_which_of_them_stick() -> None:
    """AlphaPo's own words are told again without a request; what never arrived or was signed wrongly may be sent again."""
    assert frozenset({"rejected", "not_sent", "conflict", "key_refused"}) == NEGATIVE_STATES
    assert frozenset({"rejected", "conflict"}) == STICKY_STATES
    assert frozenset({"rejected", "not_sent", "key_refused"}) == CORRECTABLE_STATES


@pytest.mark.parametrize(
    ("known", "name"),
    [
        (ACCEPTED_ROW, "accepted"),
        (FAILED_ROW, "failed"),
        (REJECTED_ROW, "rejected"),
        (NOT_SENT_ROW, "not_sent"),
        (REFUSED_ROW, "not_sent"),
        (CONFLICT_ROW, "conflict"),
    ],
)
def test_a_settled_row_counts_in_the_sum_of_its_outcome(known: Row, name: str) -> None:
    """A refused key counts with what was not sent."""
    assert counted_as(known) == name
    assert not is_in_doubt(known)


def test_the_witness_is_named() -> None:
    """The same withdrawal, as told by whoever tells it now; none where none is known."""
    result = withdrawal_of(ACCEPTED_ROW, "journal")
    assert result == replace(TOLD, amount=Decimal(1), source="journal")
    assert withdrawal_of(row(), "journal") is None


@pytest.mark.parametrize(
    ("state", "differences", "is_own"),
    [
        ("open", (), True),
        ("open", (Difference("amount", "1", "2"),), False),
        ("accepted", (Difference("amount", "1", "2"),), True),
        ("conflict", (), False),
    ],
)
def test_what_alphapo_shows_of_another_withdrawal_is_not_the_row_s(
    state: State, differences: tuple[Difference, ...], *, is_own: bool
) -> None:
    """Its txids in a report would be booked for a payment that they do not belong to."""
    shown = Transaction(id=7)
    known = replace(row(), state=state, differences=differences, transaction=shown)
    assert own_transaction(known) == (shown if is_own else None)


def test_doubt_is_open_and_may_have_arrived() -> None:
    """An attempt in doubt, a blamed foreign_id, or a refusal that could not settle."""
    assert not is_in_doubt(row())
    assert is_in_doubt(DOUBTED)
    assert is_in_doubt(row(look_ups_only=True))
    assert is_in_doubt(row(refusal={"amount": ["no"]}))
    assert (counted_as(row()), counted_as(DOUBTED)) == ("open", "unknown")


def test_the_quiet_time_counts_from_the_last_byte() -> None:
    """And a refusal counts only when its body left after that."""
    assert quiet_ends_at(replace(DOUBTED, could_leave_until=5.0), Assumptions(quiet=10.0)) == 15.0
    assert quiet_ends_at(row(), Assumptions(quiet=10.0)) == 10.0
    assert [is_refused_after(row(refusal={}, refused_at=at), 15.0) for at in (14.0, 15.0)] == [False, True]
    assert not is_refused_after(row(), 15.0)


def test_settling_frees_the_row_and_keeps_the_first_time() -> None:
    """Held by nobody, owing nothing."""
    once = settle(row(needs_look_up=True), "accepted", 5.0)
    assert (once.state, once.settled_at, once.holder, once.needs_look_up) == (
        "accepted",
        5.0,
        None,
        False,
    )
    assert settle(once, "accepted", 8.0).settled_at == 5.0
    assert settle(once, "failed", 8.0).settled_at == 8.0


def test_doubt_grows_to_both_sides_and_forgets_refusals() -> None:
    """What is known to be with AlphaPo is not doubted; a "no" is, and says so."""
    assert (put_in_doubt(DOUBTED, -1.0, 9.0, "x").doubt_since, put_in_doubt(DOUBTED, 3.0, 9.0, "x").doubt_since) == (
        -1.0,
        0.0,
    )
    assert put_in_doubt(DOUBTED, -1.0, -1.0, "x").could_leave_until == 0.0
    assert put_in_doubt(DOUBTED, 0.0, 9.0, "x").could_leave_until == 9.0
    assert put_in_doubt(ACCEPTED_ROW, 0.0, 1.0, "x") is ACCEPTED_ROW
    assert put_in_doubt(FAILED_ROW, 0.0, 1.0, "x") is FAILED_ROW
    again = put_in_doubt(REJECTED_ROW, 0.0, 1.0, "x")
    assert (again.state, again.refusal, again.contradiction) == ("open", None, "in doubt after rejected")


def test_doubt_asks_first_and_starts_the_way_out_anew() -> None:
    """Whatever was heard of refusals, controls and keys was heard before it; who holds the row and what else it knows stays."""
    known = row(
        refusal={"amount": ["no"]}, refused_at=1.0, control_seen_at=2.0, code="bad_header_key", reason="refused"
    )
    expected = row(doubt_since=3.0, could_leave_until=4.0, arrivals=1, needs_look_up=True, reason="connection lost")
    assert put_in_doubt(known, 3.0, 4.0, "connection lost", 1) == expected


def test_attempts_that_nobody_counted_are_many() -> None:
    """A dead worker, an earlier process and a backup leave no number."""
    assert (put_in_doubt(row(), 3.0, 4.0, "x").arrivals, put_in_doubt(DOUBTED, 3.0, 4.0, "x", 1).arrivals) == (MANY, 2)


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (row(), False),
        (row(withdrawal=TOLD), False),
        (row(withdrawal=replace(TOLD, status="declined")), True),
        (FAILED_ROW, False),
    ],
)
def test_an_open_row_is_ended_where_alphapo_shows_its_end(known: Row, *, expected: bool) -> None:
    """A failed one is settled."""
    assert is_ended(known) is expected


def test_a_no_that_is_doubted_is_open_again_and_without_its_time() -> None:
    """It was told at a time that is no longer true."""
    again = put_in_doubt(REJECTED_ROW, 7.0, 8.0, "x")
    assert (again.state, again.settled_at, again.doubt_since, again.could_leave_until) == ("open", None, 7.0, 8.0)


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (row(state="rejected", decision="rejected by anna: not there"), True),
        (row(state="rejected"), False),
        (row(state="accepted", decision="w", withdrawal=Withdrawal(id="5", source="journal")), True),
        (row(state="accepted", decision="w", withdrawal=Withdrawal(id="5", source="look-up")), False),
        (row(state="accepted", decision="w"), False),
        (row(state="open", decision="w"), False),
    ],
)
def test_a_decision_is_in_force_until_alphapo_gives_an_outcome(one: Row, expected: bool) -> None:  # noqa: FBT001 - a column
    """From then on the decision is only remembered."""
    assert is_by_hand(one) is expected


@pytest.mark.parametrize(("now", "expected"), [(8.9, False), (9.0, True)])
def test_an_enqueued_row_expires_at_its_time(now: float, *, expected: bool) -> None:
    """And never while it is in doubt, or without such a time."""
    assert has_expired(row(expires_at=9.0), now) is expected
    assert not has_expired(row(), now)
    assert not has_expired(replace(DOUBTED, expires_at=9.0), now)
    assert not has_expired(replace(ACCEPTED_ROW, expires_at=9.0), now)


def test_only_an_open_row_of_an_earlier_epoch_is_frozen() -> None:
    """In doubt since the new epoch was first seen, or since the row was recorded where that is not known."""
    known = row(3.0)
    assert seen_in(known, Epoch()) is known
    frozen = seen_in(known, Epoch(1, 50.0))
    assert (is_frozen(frozen), frozen.doubt_since, frozen.reason) == (True, 50.0, WENT_BACK)
    assert seen_in(frozen, Epoch(1, 50.0)) is frozen
    assert seen_in(known, Epoch(1)).doubt_since == 3.0
    settled = seen_in(settle(known, "accepted", 4.0), Epoch(1, 50.0))
    assert (is_frozen(settled), settled.doubt_since) == (False, None)


def test_a_no_of_an_earlier_epoch_is_stale_until_alphapo_confirms_it() -> None:
    """And nothing else is."""
    refused = settle(row(3.0), "rejected", 4.0)
    assert not is_stale_no(refused)
    assert is_stale_no(seen_in(refused, Epoch(1, 50.0)))
    assert not is_stale_no(seen_in(replace(refused, reaffirmed_in=1), Epoch(1, 50.0)))
    assert not is_stale_no(seen_in(settle(row(3.0), "accepted", 4.0), Epoch(1, 50.0)))


@pytest.mark.parametrize(("epoch", "is_so"), [(Epoch(), False), (Epoch(1, 50.0), True), (Epoch(1, 39.0), False)])
def test_an_id_earlier_request_possible_for_as_long_as_alphapo_frees_none(epoch: Epoch, is_so: bool) -> None:  # noqa: FBT001 - a column
    """From the first sight of the new epoch."""
    assert may_have_forgotten(epoch, 60.0, Assumptions(resend_within=20.0)) is is_so


def test_a_row_is_fresh_while_no_worker_holds_it_and_nothing_is_in_doubt() -> None:
    """What a claim takes."""
    free = row(holder=None)
    assert is_fresh(free)
    assert not is_fresh(row())
    assert not is_fresh(replace(free, doubt_since=1.0))
    assert not is_fresh(replace(free, state="accepted"))
