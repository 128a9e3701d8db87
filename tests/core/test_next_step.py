"""Steps: what would help next, and when."""

from __future__ import annotations

from msgspec.structs import replace

from alphapo_async.core.next_step import (
    Done,
    LookUp,
    Send,
    Wait,
    due_at,
    is_no_longer_refreshed,
    may_send_again,
    next_step,
)
from alphapo_async.core.replies import (
    NoneFound,
)
from alphapo_async.core.row import Assumptions
from tests.support.rows import (
    ACCEPTED_ROW,
    CONFLICT_ROW,
    DAY,
    DOUBTED,
    FAILED_ROW,
    HOUR,
    LOST,
    QUIET,
    TOLD,
    asked_about,
    found,
    refused_in_doubt,
    row,
    sent,
)


def test_a_refusal_before_the_quiet_time_is_over_waits_for_its_end() -> None:
    """The same bytes would prove nothing sooner; then they are sent again."""
    early = refused_in_doubt(10.0)
    assert next_step(early, 10.0) == Wait(QUIET)
    assert next_step(early, QUIET) == Send()


def test_a_row_whose_withdrawal_alphapo_ended_is_looked_up_after_the_quiet_time() -> None:
    """It is never sent, and look-ups wait until no earlier attempt can arrive; an owed one is made at once."""
    twice = sent(DOUBTED, LOST, 10.0)
    ended = asked_about(twice, found("cancelled"), 20.0)
    assert next_step(ended, 20.0) == Wait(QUIET + 10.0)
    assert next_step(ended, QUIET + 10.0) == Wait(QUIET + 10.0)
    assert next_step(ended, QUIET + 10.1) == LookUp()
    assert next_step(replace(ended, needs_look_up=True, not_before=0.0), 20.0) == LookUp()
    assert next_step(replace(ended, not_before=0.0), 20.0) == Wait(QUIET + 10.0)
    assert due_at(replace(ended, holder=None)) == QUIET + 10.0


def test_nobody_sends_while_a_worker_that_is_not_heard_of_still_may() -> None:
    """Not before its lease is over; then the same bytes."""
    cut_off = asked_about(replace(DOUBTED, could_leave_until=70.0), NoneFound())
    assert next_step(cut_off, 69.0) == Wait(70.0)
    assert next_step(cut_off, 70.0) == Send()


def test_an_old_doubt_is_only_looked_up() -> None:
    """No body leaves that could arrive when AlphaPo may have freed the id: a day, less the quiet time and one attempt."""
    doubted = asked_about(DOUBTED, NoneFound())
    last = DAY - QUIET - Assumptions().attempt_timeout
    assert next_step(doubted, last) == Send()
    assert next_step(doubted, last + 1) == LookUp()


def test_the_next_step_of_every_row() -> None:
    """Settled: none. Paused by AlphaPo: wait. An owed or blamed row: ask. A new one: send. After the quiet exit's refusal: a control."""
    assert next_step(ACCEPTED_ROW, 9.0) == Done()
    assert next_step(row(not_before=9.0), 8.0) == Wait(9.0)
    assert next_step(row(not_before=9.0), 9.0) == Send()
    assert next_step(DOUBTED, 8.0) == LookUp()
    assert next_step(replace(row(), look_ups_only=True), 8.0) == LookUp()
    assert next_step(row(), 8.0) == Send()
    assert next_step(refused_in_doubt(QUIET), QUIET) == LookUp(accepted_after=QUIET)
    assert next_step(replace(refused_in_doubt(QUIET), control_seen_at=QUIET), QUIET) == LookUp()


def test_a_control_is_asked_for_up_to_the_moment_at_which_the_id_may_be_free() -> None:
    """After it a "none" proves nothing, and the look-up is for the withdrawal alone."""
    refused = refused_in_doubt(QUIET)
    assert next_step(refused, DAY) == LookUp(accepted_after=QUIET)
    assert next_step(refused, DAY + 1) == LookUp()


def test_no_control_is_asked_for_where_it_would_prove_nothing() -> None:
    """Something may have been sent with another key, whose withdrawals this one does not see."""
    assert next_step(replace(refused_in_doubt(QUIET), other_key_possible=True), QUIET) == LookUp()


def test_a_worker_on_its_rounds_sends_what_is_in_doubt_once_each_quiet_time() -> None:
    """What was never sent it sends at once."""
    assert may_send_again(row(), 0.0)
    assert not may_send_again(DOUBTED, QUIET - 1)
    assert may_send_again(DOUBTED, QUIET)


# ── when to come back ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_new_row_is_due_at_once_and_a_held_one_is_its_holder_s() -> None:
    """Unless AlphaPo asked for a pause."""
    assert due_at(row(5.0, holder=None)) == 5.0
    assert due_at(row(5.0, holder=None, not_before=9.0)) == 9.0
    assert due_at(row(5.0)) is None


def test_a_row_without_doubt_that_was_let_go_is_due_again_soon() -> None:
    """It is left to the workers and waits for a connection."""
    assert due_at(row(holder=None, checked_at=30.0)) == 40.0


def test_a_row_in_doubt_is_visited_ever_more_rarely() -> None:
    """From every ten seconds to once an hour, counted from when it came to be in doubt: it may have waited for long before that."""
    free = replace(DOUBTED, holder=None)
    visits = [due_at(replace(free, checked_at=at)) for at in (0.0, 10.0, 600.0, 86_400.0)]
    assert visits == [10.0, 20.0, 1_200.0, 86_400.0 + HOUR]
    assert due_at(replace(free, doubt_since=100.0, checked_at=120.0)) == 140.0
    assert due_at(replace(free, created_at=-3_600.0, checked_at=20.0)) == 40.0
    assert due_at(row(100.0, holder=None, look_ups_only=True, checked_at=120.0)) == 140.0


def test_a_row_in_doubt_is_visited_when_its_quiet_time_ends() -> None:
    """The body may be sent again then: a row that never arrived does not wait for the next of its ever rarer look-ups."""
    free = replace(DOUBTED, holder=None, could_leave_until=20.0)
    visits = [due_at(replace(free, checked_at=at)) for at in (800.0, 1_000.0, QUIET + 20.0)]
    assert visits == [1_600.0, QUIET + 20.0, 2 * (QUIET + 20.0)]
    assert due_at(replace(free, quiet=2_700.0, checked_at=1_600.0)) == 2_720.0


def test_what_is_accepted_is_refreshed_until_it_is_final() -> None:
    """After ten minutes, then each time after twice as long, up to once a day."""
    assert due_at(ACCEPTED_ROW) == 605.0
    checks = [due_at(replace(ACCEPTED_ROW, checked_at=at)) for at in (605.0, 1_805.0, 5.0 + 10 * DAY)]
    assert checks == [1_805.0, 4_205.0, 5.0 + 11 * DAY]
    assert due_at(replace(ACCEPTED_ROW, refresh_after=60.0)) == 65.0
    assert due_at(asked_about(DOUBTED, found("confirmed"))) is None
    assert due_at(FAILED_ROW) is None
    assert due_at(row(state="accepted", holder=None, settled_at=7.0, withdrawal=TOLD)) == 607.0
    assert due_at(row(state="accepted", holder=None, settled_at=0.0, withdrawal=TOLD)) == 600.0


def test_what_is_not_final_after_thirty_days_is_refreshed_no_more() -> None:
    """It is left to a callback, and to a look-up that somebody asks for; a final row, and one in conflict, is no such row."""
    old = replace(ACCEPTED_ROW, checked_at=5.0 + 30 * DAY)
    assert (due_at(old), is_no_longer_refreshed(old)) == (None, True)
    assert not is_no_longer_refreshed(replace(ACCEPTED_ROW, checked_at=4.0 + 30 * DAY))
    assert not is_no_longer_refreshed(asked_about(old, found("confirmed")))
    assert not is_no_longer_refreshed(replace(CONFLICT_ROW, checked_at=60 * DAY))


def test_what_a_row_is_in_conflict_with_is_looked_up_until_it_is_final() -> None:
    """Like an accepted row: funds may be released once AlphaPo shows it cancelled or declined."""
    assert due_at(CONFLICT_ROW) == 600.0
    assert due_at(asked_about(CONFLICT_ROW, found("pending", amount="9", address="z"), 600.0)) == 1_800.0
    assert due_at(asked_about(CONFLICT_ROW, found("declined", amount="9", address="z"), 2 * HOUR)) is None
    assert due_at(replace(CONFLICT_ROW, transaction=None)) is None
