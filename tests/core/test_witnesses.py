"""Witnesses: what shows that AlphaPo has a withdrawal, and what happens when they disagree."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from alphapo_async.core.outcome import (
    Accepted,
)
from alphapo_async.core.row import Row
from alphapo_async.core.witnesses import is_another
from tests.core.rows import (
    ACCEPTED_ROW,
    DOUBTED,
    FAILED_ROW,
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
