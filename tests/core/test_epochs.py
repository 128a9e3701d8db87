"""What follows when a journal went back in time."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from alphapo_async.core.epochs import WENT_BACK, is_frozen, is_stale_no, may_have_forgotten, seen_in, thaw
from alphapo_async.core.errors import WithdrawalRejected, WithdrawalUnknown
from alphapo_async.core.evidence import LookedUp, OperatorDecision, Released, Remembered, Unfrozen
from alphapo_async.core.flight_result import FlightResult, to_outcome
from alphapo_async.core.next_step import LookUp, Send, next_step
from alphapo_async.core.outcome import KeyRefused, NoAnswer, NoneFound
from alphapo_async.core.row import Assumptions, Epoch, is_in_doubt
from alphapo_async.core.transitions import apply, new_row
from tests.support.rows import (
    ACCEPTED_ROW,
    ASKED,
    CONFLICT_ROW,
    CORRECTED,
    DOUBTED,
    NOT_SENT_ROW,
    OURS,
    REJECTED_ROW,
    TOLD,
    row,
    sent,
)

HELD = row()
BACK = Epoch(1, 50.0)
ASSUMED = Assumptions(resend_within=100.0)
FREE = row(3.0, asked=replace(ASKED, worker=None))
ROUND = replace(ASKED, is_heard=False, requested_at=0.0, is_request=False)
NONE = LookedUp("worker", NoneFound())


def test_a_row_of_the_present_epoch_is_as_it_was() -> None:
    """The very same row, so that nothing is written without need."""
    assert seen_in(FREE, Epoch()) is FREE
    assert seen_in(replace(FREE, epoch=1), BACK).journal_epoch == Epoch()
    frozen = seen_in(FREE, BACK)
    assert seen_in(frozen, BACK) is frozen


def test_an_open_row_of_an_earlier_epoch_is_frozen() -> None:
    """It is in doubt since the first sight, looked up, and never expired."""
    frozen = seen_in(replace(FREE, expires_at=10.0), BACK)
    assert is_frozen(frozen)
    assert (frozen.doubt_since, frozen.may_send_until, frozen.reason) == (50.0, 50.0, WENT_BACK)
    assert is_in_doubt(frozen)
    taken = apply(frozen, ROUND, 60.0)
    assert (taken.state, taken.holder, is_frozen(taken)) == ("open", "worker", True)
    for when in (60.0, 1e9):
        assert next_step(apply(taken, NONE, when), when, ASSUMED) == LookUp()
    assert apply(apply(taken, NONE, 61.0), Released("worker", "queue"), 62.0).state == "open"
    assert not is_frozen(seen_in(ACCEPTED_ROW, BACK))


def test_an_epoch_that_lost_nothing_has_no_first_sight() -> None:
    """A row that is older still is then in doubt since it was recorded."""
    frozen = seen_in(FREE, Epoch(2))
    assert frozen.doubt_since == 3.0
    assert thaw(frozen, has_other_keys=False).may_send_until == 3.0


@pytest.mark.parametrize("has_other_keys", [False, True])
def test_a_caller_that_asks_again_ends_the_freeze(has_other_keys: bool) -> None:  # noqa: FBT001 - both ways
    """A look-up, then the same bytes, within `resend_within` of the first recording; another payment is turned away."""
    asked = replace(ASKED, has_other_keys=has_other_keys)
    thawed = apply(seen_in(FREE, BACK), asked, 60.0)
    assert (thawed.epoch, thawed.holder, thawed.other_key_possible) == (1, "worker", has_other_keys)
    assert next_step(thawed, 60.0, ASSUMED) == LookUp()
    looked = apply(thawed, NONE, 60.0)
    assert next_step(looked, 60.0, replace(ASSUMED, quiet=10.0)) == Send()
    assert next_step(looked, 103.1, ASSUMED) == LookUp()
    frozen = seen_in(FREE, BACK)
    assert apply(frozen, replace(ASKED, revision=CORRECTED), 60.0) is frozen


def test_a_row_is_enqueued_anew_also_while_a_worker_holds_it() -> None:
    """The holder may be gone; the row is its until its lease ends."""
    thawed = apply(seen_in(HELD, BACK), replace(ASKED, worker=None), 60.0)
    assert (thawed.epoch, thawed.holder) == (1, "worker")
    assert not is_frozen(thawed)


@pytest.mark.parametrize("no", [REJECTED_ROW, CONFLICT_ROW])
def test_a_no_of_an_earlier_epoch_is_reported_again_only_after_a_look_up(no: object) -> None:
    """Unanswered it is unknown; what AlphaPo shows beats it, loudly."""
    stale = seen_in(no, BACK)  # type: ignore[arg-type]
    assert is_stale_no(stale)
    assert apply(stale, ASKED, 60.0) is stale
    told = to_outcome(FlightResult("f", stale))
    assert isinstance(told, WithdrawalUnknown)
    assert (told.reason, told.may_release_funds) == (WENT_BACK, False)
    assert is_stale_no(apply(stale, LookedUp("w", NoAnswer("HTTP 502", 502)), 60.0))
    again = apply(stale, NONE, 60.0)
    assert not is_stale_no(again)
    assert not is_stale_no(seen_in(replace(again, journal_epoch=Epoch()), BACK))
    assert is_stale_no(seen_in(again, Epoch(2, 70.0)))


def test_a_no_that_alphapo_confirmed_is_told_as_it_was() -> None:
    """With AlphaPo's words."""
    told = to_outcome(FlightResult("f", apply(seen_in(REJECTED_ROW, BACK), NONE, 60.0)))
    assert isinstance(told, WithdrawalRejected)


def test_a_call_that_may_send_a_stale_no_looks_it_up_first() -> None:
    """As a new id; a worker by itself does not."""
    stale = seen_in(NOT_SENT_ROW, BACK)
    assert apply(stale, ROUND, 60.0) is stale
    opened = apply(stale, ASKED, 1e9)
    assert (opened.state, opened.epoch, opened.needs_look_up, opened.new_to_volatile_journal) == ("open", 1, True, True)
    assert apply(opened, Released("worker", "queue"), 1e9).state == "open"
    assert apply(apply(opened, NONE, 1e9), Released("worker", "queue"), 1e9).state == "not_sent"


def test_an_id_that_is_new_to_a_journal_that_went_back_is_looked_up_first() -> None:
    """For `resend_within` after the first sight; without an answer it is sent all the same, and then no "no" settles it."""
    assert not may_have_forgotten(Epoch(), 0.0, ASSUMED)
    assert may_have_forgotten(BACK, 149.9, ASSUMED)
    assert not may_have_forgotten(BACK, 150.0, ASSUMED)
    new = new_row("default", "f", ASKED, 60.0, is_durable=True, epoch=BACK, assumptions=ASSUMED)
    assert next_step(new, 60.0, ASSUMED) == LookUp()
    unanswered = apply(new, LookedUp("worker", NoAnswer("HTTP 502", 502)), 60.0)
    assert next_step(unanswered, 60.0, ASSUMED) == Send()
    assert sent(unanswered, KeyRefused("bad_header_key"), 61.0).state == "open"
    assert apply(unanswered, Released("worker", "queue"), 61.0).state == "open"
    later = new_row("default", "f", ASKED, 150.0, is_durable=True, epoch=BACK, assumptions=ASSUMED)
    assert (later.epoch, later.new_to_volatile_journal, later.needs_look_up) == (1, False, False)


def test_an_id_that_the_journal_has_forgotten_is_frozen_where_no_caller_waits() -> None:
    """Another caller may have heard a "no" that the journal has forgotten; a later call ends the freeze."""
    late = replace(ASKED, is_request=False)
    new = new_row("default", "f", late, 60.0, is_durable=True, epoch=BACK, assumptions=ASSUMED)
    assert (new.epoch, new.holder, is_frozen(new)) == (0, "worker", True)
    released = apply(apply(new, NONE, 61.0), Released("worker", "queue"), 62.0)
    assert (released.state, next_step(released, 63.0, ASSUMED)) == ("open", LookUp())
    assert not is_frozen(apply(released, ASKED, 64.0))
    later = new_row("default", "f", late, 150.0, is_durable=True, epoch=BACK, assumptions=ASSUMED)
    assert (later.epoch, is_frozen(later)) == (1, False)


def test_an_acceptance_that_a_worker_remembers_counts() -> None:
    """Of the same payment; another revision was not accepted."""
    remembered = Remembered("w", OURS, TOLD)
    assert apply(seen_in(FREE, BACK), remembered, 60.0).state == "accepted"
    assert apply(seen_in(REJECTED_ROW, BACK), remembered, 60.0).contradiction == "accepted after rejected"
    frozen = seen_in(FREE, BACK)
    assert apply(frozen, replace(remembered, revision=CORRECTED), 60.0) is frozen


def test_an_operator_unfreezes_a_row() -> None:
    """It is open with nothing in doubt; a refusal then settles it only after a "none"."""
    frozen = seen_in(DOUBTED, BACK)
    unfrozen = apply(replace(frozen, holder=None), Unfrozen("anna", "not in the export"), 60.0)
    assert (unfrozen.epoch, is_in_doubt(replace(unfrozen, new_to_volatile_journal=False))) == (1, False)
    assert next_step(unfrozen, 60.0, ASSUMED) == Send()


def test_only_a_frozen_row_that_no_worker_may_send_is_unfrozen() -> None:
    """Neither one that is held, nor one that a worker may still send, nor any other."""
    unfrozen = Unfrozen("anna", "not in the export")
    held = seen_in(HELD, BACK)
    lingering = replace(seen_in(FREE, BACK), may_send_until=70.0)
    for each in (held, lingering, FREE, REJECTED_ROW):
        assert apply(each, unfrozen, 60.0) is each


def test_an_operator_s_decision_about_a_frozen_row_holds() -> None:
    """It was made after the journal went back."""
    word = OperatorDecision("anna", "not in the books", is_accepted=False)
    decided = apply(seen_in(FREE, BACK), word, 60.0)
    assert (decided.state, is_stale_no(decided)) == ("rejected", False)


def test_a_frozen_row_is_unknown_for_this_reason() -> None:
    """A look-up that shows it settles it."""
    told = to_outcome(FlightResult("f", seen_in(FREE, BACK)))
    assert isinstance(told, WithdrawalUnknown)
    assert told.reason == WENT_BACK
