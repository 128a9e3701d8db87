"""The row: what it is told as."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from alphapo_async.core.row import (
    Assumed,
    Row,
    bucket,
    doubted,
    is_in_doubt,
    is_refused_after,
    quiet_from,
    settled,
    withdrawal_of,
)
from tests.core.rows import (
    ACCEPTED_ROW,
    CONFLICT_ROW,
    DOUBTED,
    FAILED_ROW,
    NOT_SENT_ROW,
    REFUSED_ROW,
    REJECTED_ROW,
    TOLD,
    row,
)


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
    assert bucket(known) == name
    assert not is_in_doubt(known)


def test_the_witness_is_named() -> None:
    """The same withdrawal, as told by whoever tells it now; none where none is known."""
    told = withdrawal_of(ACCEPTED_ROW, "journal")
    assert told == replace(TOLD, source="journal")
    assert withdrawal_of(row(), "journal") is None


def test_doubt_is_open_and_may_have_arrived() -> None:
    """An attempt in doubt, a blamed foreign_id, or a refusal that could not settle."""
    assert not is_in_doubt(row())
    assert is_in_doubt(DOUBTED)
    assert is_in_doubt(row(blamed=True))
    assert is_in_doubt(row(refusal={"amount": ["no"]}))
    assert (bucket(row()), bucket(DOUBTED)) == ("open", "unknown")


def test_the_quiet_time_counts_from_the_last_byte() -> None:
    """And a refusal counts only when its body left after that."""
    assert quiet_from(replace(DOUBTED, may_send_until=5.0), Assumed(quiet=10.0)) == 15.0
    assert quiet_from(row(), Assumed(quiet=10.0)) == 10.0
    assert [is_refused_after(row(refusal={}, refused_at=at), 15.0) for at in (14.0, 15.0)] == [False, True]
    assert not is_refused_after(row(), 15.0)


def test_settling_frees_the_row_and_keeps_the_first_time() -> None:
    """Held by nobody, owing nothing."""
    once = settled(row(owes_look_up=True), "accepted", 5.0)
    assert (once.state, once.settled_at, once.holder, once.owes_look_up) == (
        "accepted",
        5.0,
        None,
        False,
    )
    assert settled(once, "accepted", 8.0).settled_at == 5.0
    assert settled(once, "failed", 8.0).settled_at == 8.0


def test_doubt_grows_to_both_sides_and_forgets_refusals() -> None:
    """What is known to be with AlphaPo is not doubted; a "no" is, and says so."""
    assert (doubted(DOUBTED, -1.0, 9.0, "x").doubt_since, doubted(DOUBTED, 3.0, 9.0, "x").doubt_since) == (-1.0, 0.0)
    assert doubted(DOUBTED, -1.0, -1.0, "x").may_send_until == 0.0
    assert doubted(ACCEPTED_ROW, 0.0, 1.0, "x") is ACCEPTED_ROW
    again = doubted(REJECTED_ROW, 0.0, 1.0, "x")
    assert (again.state, again.refusal, again.contradiction) == ("open", None, "in doubt after rejected")
