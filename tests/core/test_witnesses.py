"""Witnesses: what shows that AlphaPo has a withdrawal, and what happens when they disagree."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from alphapo_async.core.outcome import (
    Accepted,
)
from alphapo_async.core.row import Row
from tests.core.rows import (
    ACCEPTED_ROW,
    DOUBTED,
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
