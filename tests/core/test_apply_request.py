"""Holding: taken on, reopened, corrected, let go."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from alphapo_async.core.evidence import LeaseExpired, LookedUp, OperatorDecision, Released, Requested, Revision
from alphapo_async.core.models import Withdrawal
from alphapo_async.core.next_step import LookUp, Send, Wait, next_step
from alphapo_async.core.outcome import (
    Accepted,
    NoneFound,
    NotSent,
)
from alphapo_async.core.redaction import redacted
from alphapo_async.core.row import MANY, Epoch, Row, State, counted_as, is_by_hand, is_in_doubt
from alphapo_async.core.transitions import apply
from tests.support.rows import (
    ACCEPTED_ROW,
    ASKED,
    CONFLICT_ROW,
    CORRECTED,
    DOUBTED,
    FAILED_ROW,
    LOST,
    MISMATCHED,
    NOT_SENT_ROW,
    OURS,
    REFUSED_ROW,
    REJECTED,
    REJECTED_ROW,
    TAKEN,
    TOLD,
    asked_about,
    found,
    revision,
    row,
    sent,
)


def test_a_new_row_is_sent() -> None:
    """Nothing is known against it, and its worker holds it."""
    new = row(3.0)
    assert (new.state, new.holder, new.created_at, new.key) == ("open", "worker", 3.0, "key")
    assert next_step(new, 3.0) == Send()
    assert not is_in_doubt(new)
    assert counted_as(new) == "open"


def test_a_row_attempted_before_is_in_doubt_from_the_start() -> None:
    """Asked about before it is sent, then sent."""
    new = row(3.0, asked=replace(ASKED, attempted_before=True))
    assert is_in_doubt(new)
    assert next_step(new, 3.0) == LookUp()
    assert next_step(asked_about(new, NoneFound(), 3.0), 3.0) == Send()


def test_a_held_row_is_not_taken() -> None:
    """Whoever holds it works on it."""
    assert apply(row(), replace(ASKED, worker="another"), 1.0) == row()


def test_a_row_that_nobody_holds_is_taken_on() -> None:
    """In doubt it keeps the key that it was sent with, and is looked up first; without doubt it takes the new key."""
    asked = Requested("another", OURS, "new key")
    doubted = apply(apply(DOUBTED, Released("worker", ""), 1.0), asked, 2.0)
    assert (doubted.holder, doubted.key, next_step(doubted, 2.0)) == ("another", "key", LookUp())
    fresh = apply(row(holder=None), asked, 2.0)
    assert (fresh.holder, fresh.key, next_step(fresh, 2.0)) == ("another", "new key", Send())


def test_asking_again_forgets_an_old_pause() -> None:
    """A pause that AlphaPo asked for binds the flight that heard it; the client's pace remembers the rest."""
    throttled = replace(sent(row(), NotSent("throttled", retry_after=30.0)), holder=None)
    assert apply(throttled, ASKED, 1.0).not_before == 0.0


def test_another_payment_does_not_touch_an_open_row() -> None:
    """Same foreign_id, other amount: unchanged, and the caller is told of a conflict."""
    for before in (row(), DOUBTED):
        assert apply(before, Requested("worker", CORRECTED, "key"), 1.0) is before


@pytest.mark.parametrize("settled", [ACCEPTED_ROW, FAILED_ROW])
def test_what_alphapo_had_is_never_opened_again(settled: Row) -> None:
    """Neither for the same payment nor for another."""
    for asked in (ASKED, Requested("worker", CORRECTED, "key"), replace(ASKED, resend_rejected=True)):
        assert apply(settled, asked, 9.0) is settled


@pytest.mark.parametrize("settled", [REJECTED_ROW, CONFLICT_ROW])
def test_a_sticky_no_is_told_again_unless_asked_otherwise(settled: Row) -> None:
    """The same payment is sent again only with resend_rejected; what is told once more counts from then on."""
    asked = replace(ASKED, requested_by="teller")
    assert apply(settled, asked, 9.0) == replace(settled, settled_at=9.0, settled_by="teller")
    again = apply(settled, replace(ASKED, resend_rejected=True), 9.0)
    assert (again.state, again.holder, again.refusal, again.differences) == ("open", "worker", None, ())
    assert next_step(again, 9.0) == Send()


@pytest.mark.parametrize("settled", [NOT_SENT_ROW, REFUSED_ROW])
def test_what_never_arrived_is_sent_again(settled: Row) -> None:
    """The same bytes, under the key of today."""
    again = apply(settled, replace(ASKED, key="new key"), 9.0)
    assert (again.state, again.key, again.code, again.settled_at) == ("open", "new key", None, None)
    assert again.revision is settled.revision
    assert next_step(again, 9.0) == Send()


def test_a_no_that_is_younger_than_the_question_answers_it() -> None:
    """Whoever heard that "no" relies on it: a call that was slow to reach the journal does not send after it."""
    settled = replace(NOT_SENT_ROW, settled_at=10.0, settled_by="worker")
    asked = replace(ASKED, requested_by="worker")

    assert apply(settled, replace(asked, requested_at=9.9), 20.0) == replace(settled, settled_at=20.0)
    assert apply(settled, replace(asked, requested_at=10.0), 20.0).state == "open"


@pytest.mark.parametrize(("requested_by", "settled_by"), [("worker", "another"), ("worker", None), (None, None)])
def test_a_no_of_another_worker_also_answers_what_its_clock_says_came_a_moment_later(
    requested_by: str | None, settled_by: str | None
) -> None:
    """Two clocks are never quite the same, and whoever heard the "no" relies on it; but a correction has heard it."""
    settled = replace(NOT_SENT_ROW, settled_at=10.0, settled_by=settled_by)
    asked = replace(ASKED, requested_by=requested_by, max_skew=0.5)

    assert apply(settled, replace(asked, requested_at=10.4), 20.0) == replace(
        settled, settled_at=20.0, settled_by=requested_by
    )
    assert apply(settled, replace(asked, requested_at=10.5), 20.0).state == "open"
    assert apply(settled, replace(asked, requested_at=10.0, max_skew=0.0), 20.0).state == "open"
    assert (
        apply(
            settled,
            Requested("worker", CORRECTED, "key", requested_at=10.0, requested_by=requested_by, max_skew=0.5),
            20.0,
        ).state
        == "open"
    )


@pytest.mark.parametrize(("requested_at", "state"), [(9.5, "not_sent"), (10.5, "open")])
def test_clocks_of_which_nothing_is_said_agree(requested_at: float, state: State) -> None:
    """Also those of two workers."""
    settled = replace(NOT_SENT_ROW, settled_at=10.0, settled_by="another")
    assert apply(settled, replace(ASKED, requested_by="worker", requested_at=requested_at), 20.0).state == state


def test_a_row_whose_bytes_are_forgotten_opens_with_new_ones() -> None:
    """What it had before is kept among the earlier revisions, by its digest."""
    forgotten = redacted(replace(NOT_SENT_ROW, earlier=(CORRECTED,)))
    after = apply(forgotten, ASKED, 9.0)
    assert (after.state, after.revision) == ("open", replace(ASKED.revision, number=forgotten.revision.number + 1))
    assert after.earlier == (*forgotten.earlier, forgotten.revision)


def test_a_settled_row_names_the_worker_that_held_it() -> None:
    """By its clock `settled_at` was read; whoever reopens the row forgets both."""
    settled = apply(row(1.0), Released("worker", "outage"), 5.0)
    assert (settled.state, settled.settled_at, settled.settled_by) == ("not_sent", 5.0, "worker")
    again = apply(settled, ASKED, 9.0)
    assert (again.settled_at, again.settled_by) == (None, None)


@pytest.mark.parametrize("requested_at", [None, 4.0, 9.0])
@pytest.mark.parametrize("settled", [REJECTED_ROW, NOT_SENT_ROW, REFUSED_ROW])
def test_another_payment_after_a_no_is_the_next_revision(settled: Row, requested_at: float | None) -> None:
    """The earlier one is kept; also where that "no" was recorded while the call waited, since it is about another payment."""
    after = apply(settled, Requested("worker", CORRECTED, "key", requested_at=requested_at, requested_by="worker"), 9.0)
    assert (after.state, after.revision.body, after.revision.number) == ("open", CORRECTED.body, 2)
    assert after.earlier == (settled.revision,)


def test_a_call_from_before_a_correction_does_not_undo_the_no_of_its_own_payment() -> None:
    """The earlier revision was refused and corrected, and that correction never arrived: what was reported of the first one stays true."""
    corrected = apply(REJECTED_ROW, Requested("worker", CORRECTED, "key"), 6.0)
    not_sent = apply(corrected, Released("worker", "queue"), 7.0)
    assert apply(not_sent, replace(ASKED, requested_at=6.9), 9.0) is not_sent
    for asked in (replace(ASKED, requested_at=7.0), ASKED):
        assert apply(not_sent, asked, 9.0).revision == replace(OURS, number=3)


def test_a_conflict_with_what_alphapo_shows_stands_for_every_other_payment() -> None:
    """The foreign_id is used: another payment is not sent under it either, and changes nothing."""
    third = Requested("worker", revision("3"), "key")
    for settled in (CONFLICT_ROW, replace(CONFLICT_ROW, transaction=None), redacted(CONFLICT_ROW)):
        assert apply(settled, third, 9.0) is settled


def test_the_payment_that_alphapo_shows_is_adopted_and_never_sent() -> None:
    """A lost journal is asked for the right payment after a wrong one: AlphaPo has that, and look-ups settle it."""
    shown = Requested("worker", revision("9", address="z"), "key")
    after = apply(CONFLICT_ROW, shown, 9.0)
    assert (after.state, after.revision, after.earlier) == ("open", replace(shown.revision, number=2), (OURS,))
    assert next_step(after, 9.0) == LookUp()
    assert next_step(asked_about(after, NoneFound(), 9.0), 9.0) == LookUp()
    assert asked_about(after, found(amount="9", address="z"), 10.0).state == "accepted"


def test_a_forgotten_body_is_written_anew_under_a_new_number() -> None:
    """It was definitely refused, and only its digest is on record."""
    old = replace(NOT_SENT_ROW, revision=Revision(b"", None, 3, OURS.digest))
    after = apply(old, ASKED, 9.0)
    assert (after.revision.body, after.revision.number) == (OURS.body, 4)


def test_giving_up_without_doubt_is_not_sent() -> None:
    """With the reason."""
    assert (NOT_SENT_ROW.state, NOT_SENT_ROW.reason, NOT_SENT_ROW.holder) == ("not_sent", "queue", None)


@pytest.mark.parametrize("before", [DOUBTED, sent(row(), TAKEN), sent(row(is_durable=False), REJECTED)])
def test_giving_up_in_doubt_leaves_the_row_open_to_anybody(before: Row) -> None:
    """Nothing is said that is not known."""
    after = apply(before, Released("worker", "queue"), 9.0)
    assert (after.state, after.holder, counted_as(after)) == ("open", None, "unknown")


def test_what_nobody_was_told_of_stays_open() -> None:
    """Let go of without a "not sent": whoever resumes goes on."""
    let_go = apply(row(), Released("worker", "journal", stays_open=True), 5.0)

    assert (let_go.state, let_go.holder, let_go.checked_at, is_in_doubt(let_go)) == ("open", None, 5.0, False)


def test_only_the_holder_can_let_go() -> None:
    """Anybody else's word changes nothing."""
    before = row()
    assert apply(before, Released("another", "queue"), 9.0) is before
    assert apply(ACCEPTED_ROW, Released("worker", "queue"), 9.0) is ACCEPTED_ROW


# ── nothing is carried over ──────────────────────────────────────────────────────────────────────────────────────────

MARKED: dict[str, Any] = {
    "doubt_since": 1.0,
    "may_send_until": 2.0,
    "id_taken": True,
    "needs_look_up": True,
    "refusal": {"amount": ["no"]},
    "refused_at": 3.0,
    "control_seen_at": 4.0,
    "not_before": 5.0,
    "reason": "queue",
    "code": "bad_header_key",
    "differences": MISMATCHED.differences,
    "word": "rejected by anna: not there",
    "expires_at": 6.0,
    "reported": True,
}
KEPT: dict[str, Any] = {"attempts": 2, "look_ups": 3, "contradiction": "in doubt after rejected", "checked_at": 7.0}
TODAY = Requested("another", OURS, "new key", resend_rejected=True, expires_at=900.0, is_heard=False)


@pytest.mark.parametrize("state", ["rejected", "not_sent", "conflict", "key_refused"])
def test_a_row_opened_again_is_as_if_new(state: State) -> None:
    """But for what it has seen: its counts, its contradiction and when it was last checked."""
    settled = row(3.0, state=state, settled_at=8.0, holder=None, **MARKED, **KEPT)
    expected = row(3.0, holder="another", held_since=9.0, key="new key", expires_at=900.0, reported=False, **KEPT)
    assert apply(settled, TODAY, 9.0) == expected


def test_a_correction_opens_the_row_as_if_new() -> None:
    """With the next revision, and the earlier ones in their order."""
    settled = row(state="rejected", settled_at=8.0, holder=None, earlier=(OURS,), **MARKED)
    after = apply(settled, replace(TODAY, revision=CORRECTED), 9.0)
    assert (after.earlier, after.revision) == ((OURS, settled.revision), replace(CORRECTED, number=2))
    assert (after.refusal, after.reason, after.holder) == (None, "", "another")


def test_an_open_row_taken_on_keeps_its_doubt_and_forgets_its_key_s_refusal() -> None:
    """The look-up comes first, the pause is over, and whoever asks now hears of it or does not."""
    free = row(3.0, holder=None, **{name: MARKED[name] for name in ("doubt_since", "may_send_until", "code")})
    taken = apply(replace(free, not_before=50.0, reported=True), TODAY, 9.0)
    expected = replace(
        free, holder="another", held_since=9.0, code=None, needs_look_up=True, reported=False, stays_open=True
    )
    assert taken == expected


@pytest.mark.parametrize(("known", "owes"), [({"needs_look_up": True}, True), ({"id_taken": True}, True), ({}, False)])
def test_a_row_taken_on_owes_what_it_owed_and_what_its_doubt_asks(known: dict[str, Any], owes: bool) -> None:  # noqa: FBT001 - a column
    """One of both is enough."""
    assert apply(row(holder=None, **known), TODAY, 9.0).needs_look_up is owes


# ── lapses ───────────────────────────────────────────────────────────────────────────────────────────────────────────

HELD = row(10.0)


def test_a_row_is_held_from_when_it_is_taken() -> None:
    """By whoever took it; what is left to others is held by nobody."""
    assert (HELD.holder, HELD.held_since) == ("worker", 10.0)
    assert (LEFT.holder, LEFT.held_since) == (None, 0.0)


def test_nobody_lets_go_for_another() -> None:
    """Only the holder's own end frees its row."""
    assert apply(HELD, LeaseExpired("another", until=70.0), 100.0) is HELD


def test_a_worker_that_is_not_heard_of_may_still_send_until_its_lease_ends() -> None:
    """Until then its row is looked up, and neither sent by another nor settled by hand."""
    lapsed = apply(HELD, LeaseExpired("worker", until=70.0), 30.0)
    assert (lapsed.holder, lapsed.doubt_since, lapsed.may_send_until) == (None, 10.0, 70.0)
    assert next_step(lapsed, 30.0) == LookUp()
    taken = apply(lapsed, replace(ASKED, worker="another"), 31.0)
    asked = apply(taken, LookedUp("another", NoneFound()), 32.0)
    assert next_step(asked, 32.0) == Wait(70.0)
    assert next_step(asked, 70.0) == Send()
    assert apply(lapsed, OperatorDecision("anna", "not there", is_accepted=False), 69.9) is lapsed
    assert apply(lapsed, OperatorDecision("anna", "not there", is_accepted=False), 70.0).state == "rejected"


def test_a_row_let_go_without_a_word_is_in_doubt_as_of_then() -> None:
    """Whoever held it may have sent until its lease ended, or until it was found dead."""
    lapsed = apply(HELD, LeaseExpired("worker", until=70.0), 500.0)
    assert lapsed.reason == "its worker is gone"
    assert (lapsed.holder, lapsed.doubt_since, lapsed.may_send_until) == (None, 10.0, 70.0)
    assert next_step(lapsed, 500.0) == LookUp()


def test_a_row_that_its_own_worker_never_let_go_of_is_in_doubt() -> None:
    """An earlier flight of the same worker ended without writing down how."""
    again = apply(HELD, ASKED, 30.0)
    assert (again.holder, again.held_since, again.doubt_since, again.may_send_until) == ("worker", 30.0, 10.0, 30.0)


def test_a_stale_holder_is_not_believed() -> None:
    """Another holds the row now: the old one's refusal and its letting go are nobody's, its doubt and its acceptance count."""
    taken = apply(apply(HELD, LeaseExpired("worker", until=70.0), 80.0), replace(ASKED, worker="another"), 80.0)
    assert apply(taken, Released("worker", "queue"), 81.0) is taken
    assert sent(taken, REJECTED, 81.0).refusal is None
    assert sent(taken, LOST, 81.0).may_send_until == 81.0
    assert sent(taken, Accepted(TOLD), 81.0).state == "accepted"


# ── left to the workers ──────────────────────────────────────────────────────────────────────────────────────────────

LEFT = row(10.0, asked=replace(ASKED, worker=None, expires_at=100.0, is_heard=False))


def test_what_is_left_to_the_workers_is_held_by_nobody() -> None:
    """Open, to be sent, and to be reported."""
    assert (LEFT.state, LEFT.holder, LEFT.expires_at, LEFT.reported) == ("open", None, 100.0, False)
    assert next_step(LEFT, 10.0) == Send()


def test_leaving_it_to_the_workers_again_changes_nothing() -> None:
    """Its own time to expire stays as well."""
    assert apply(LEFT, replace(ASKED, worker=None, expires_at=500.0), 20.0) is LEFT


@pytest.mark.parametrize("holder", ["worker", None])
def test_an_open_row_that_is_enqueued_stays_open_for_the_workers(holder: str | None) -> None:
    """The call that holds it no longer settles it as not sent; its outcome is to be reported."""
    enqueued = apply(row(holder=holder), replace(ASKED, worker=None, expires_at=500.0, is_heard=False), 20.0)
    assert enqueued == row(holder=holder, expires_at=500.0, stays_open=True, reported=False)


@pytest.mark.parametrize(
    ("before", "stays_open"),
    [
        (row(), False),
        (LEFT, True),
        (apply(LEFT, ASKED, 20.0), True),
        (apply(row(holder=None), ASKED, 20.0), True),
        (apply(REJECTED_ROW, replace(ASKED, resend_rejected=True), 20.0), False),
        (apply(REJECTED_ROW, replace(ASKED, revision=CORRECTED), 20.0), False),
        (apply(NOT_SENT_ROW, replace(ASKED, worker=None), 20.0), True),
        (apply(apply(LEFT, ASKED, 20.0), Released("worker", "queue"), 200.0), True),
    ],
)
def test_what_was_enqueued_or_open_before_the_call_stays_open(before: Row, stays_open: bool) -> None:  # noqa: FBT001 - a column
    """A row that the call itself recorded, or opened again, is the call's to settle."""
    assert before.stays_open is stays_open


def test_a_row_that_was_open_before_the_call_is_never_not_sent() -> None:
    """Without a time to expire it stays open for good."""
    taken = apply(row(holder=None), ASKED, 20.0)
    let_go = apply(taken, Released("worker", "outage"), 30.0)
    assert (let_go.state, let_go.holder, let_go.checked_at) == ("open", None, 30.0)


def test_a_worker_that_could_not_send_it_leaves_it_to_the_next() -> None:
    """Until it expires; then it never arrived."""
    taken = apply(LEFT, replace(ASKED, is_heard=False), 20.0)
    let_go = apply(taken, Released("worker", "no connection"), 30.0)
    assert (let_go.state, let_go.holder, let_go.checked_at) == ("open", None, 30.0)
    assert apply(taken, Released("worker", "no connection"), 100.0).state == "not_sent"


def test_what_has_expired_is_not_taken_on() -> None:
    """It never arrived, unless it may have."""
    taken_late = apply(LEFT, replace(ASKED, is_heard=False), 100.0)
    assert (taken_late.state, taken_late.reason, taken_late.reported) == ("not_sent", "expired", False)
    doubted = apply(sent(apply(LEFT, ASKED, 20.0), LOST, 20.0), Released("worker", ""), 30.0)
    assert apply(doubted, ASKED, 100.0).holder == "worker"


def test_what_never_arrived_can_be_left_to_the_workers_again() -> None:
    """Opened again without a holder, with a time of its own."""
    again = apply(NOT_SENT_ROW, replace(ASKED, worker=None, expires_at=900.0, is_heard=False), 20.0)
    assert (again.state, again.holder, again.expires_at, again.reported) == ("open", None, 900.0, False)


# ── the operator ─────────────────────────────────────────────────────────────────────────────────────────────────────

FREE_DOUBT = replace(DOUBTED, holder=None)


def test_the_operator_settles_what_nobody_works_on() -> None:
    """With name and reason on record; accepted with AlphaPo's id where it is known."""
    rejected = apply(FREE_DOUBT, OperatorDecision("anna", "not in the dashboard", is_accepted=False), 9.0)
    assert (rejected.state, rejected.word) == ("rejected", "rejected by anna: not in the dashboard")
    accepted = apply(FREE_DOUBT, OperatorDecision("anna", "seen there", is_accepted=True, id="55"), 9.0)
    assert (accepted.state, accepted.word) == ("accepted", "accepted with id 55 by anna: seen there")
    assert accepted.withdrawal == Withdrawal(id="55", foreign_id="f", amount=Decimal(1), source="journal")


@pytest.mark.parametrize("before", [DOUBTED, ACCEPTED_ROW, REJECTED_ROW])
def test_the_operator_cannot_settle_what_is_held_or_settled(before: Row) -> None:
    """Somebody works on it, or AlphaPo itself has spoken."""
    assert apply(before, OperatorDecision("anna", "because", is_accepted=True), 9.0) is before


SEEN = OperatorDecision("anna", "seen there", is_accepted=True, id="55")
GONE = OperatorDecision("bo", "not there", is_accepted=False)


@pytest.mark.parametrize(("first", "second"), [(SEEN, GONE), (GONE, SEEN)])
def test_the_operator_amends_an_earlier_decision(first: OperatorDecision, second: OperatorDecision) -> None:
    """Only as a correction; the outcome that was reported is contradicted and has to be reported anew."""
    decided = replace(apply(FREE_DOUBT, first, 9.0), reported=True)
    assert apply(decided, second, 10.0) is decided
    corrected = apply(decided, replace(second, is_correction=True), 10.0)
    straight = apply(FREE_DOUBT, second, 10.0)
    assert (corrected.state, corrected.withdrawal) == (straight.state, straight.withdrawal)
    assert (corrected.settled_at, corrected.reported) == (10.0, False)
    assert corrected.contradiction == f"{corrected.state} after {decided.state}"
    assert corrected.word is not None
    assert "who corrects an earlier decision" in corrected.word


def test_the_operator_corrects_an_id() -> None:
    """The outcome is the same, so that nobody has to learn of it anew."""
    decided = replace(apply(FREE_DOUBT, SEEN, 9.0), reported=True)
    corrected = apply(decided, replace(SEEN, id="56", is_correction=True), 10.0)
    assert corrected.withdrawal == Withdrawal(id="56", foreign_id="f", amount=Decimal(1), source="journal")
    assert (corrected.settled_at, corrected.reported, corrected.contradiction) == (9.0, True, None)


@pytest.mark.parametrize("before", [FREE_DOUBT, ACCEPTED_ROW, REJECTED_ROW, FAILED_ROW, NOT_SENT_ROW])
def test_what_no_operator_decided_is_not_corrected(before: Row) -> None:
    """What is open is decided first, and what AlphaPo has said stands."""
    assert apply(before, replace(SEEN, is_correction=True), 9.0) is before


def test_an_id_that_an_operator_typed_does_not_count_as_alphapos() -> None:
    """AlphaPo shows the withdrawal under its own id: that one is kept, and nothing is contradicted."""
    for status, state in (("confirmed", "accepted"), ("cancelled", "failed")):
        after = asked_about(apply(FREE_DOUBT, SEEN, 9.0), found(status), 10.0)
        assert after.withdrawal is not None
        assert (after.state, after.withdrawal.id, after.contradiction) == (state, 7, None)
        assert not is_by_hand(after)


def test_a_later_witness_beats_the_operator() -> None:
    """Loudly."""
    rejected = apply(FREE_DOUBT, OperatorDecision("anna", "because", is_accepted=False), 9.0)
    after = asked_about(rejected, found(), 10.0)
    assert (after.state, after.contradiction) == ("accepted", "accepted after rejected")


# ── an earlier attempt is heard of late ──────────────────────────────────────────────────────────────────────────────

FLAGGED = replace(ASKED, attempted_before=True)


def test_a_journal_that_ends_with_its_process_is_told_of_earlier_attempts() -> None:
    """Once: then it knows of the doubt, and the word adds nothing more."""
    volatile = row(is_durable=False)
    refused = asked_about(sent(volatile, REJECTED), NoneFound())
    assert refused.state == "rejected"
    doubtful = apply(refused, FLAGGED, 9.0)
    assert (doubtful.state, doubtful.doubt_since, doubtful.holder) == ("open", 9.0, "worker")
    assert (doubtful.reason, doubtful.new_to_volatile_journal) == ("attempted before", False)
    assert next_step(doubtful, 9.0) == LookUp()
    free = apply(doubtful, Released("worker", ""), 10.0)
    assert apply(free, FLAGGED, 20.0).may_send_until == 9.0


def test_a_durable_journal_knows_better() -> None:
    """Whatever was attempted before is in it; but for what another call wrote down only after this one was made."""
    early = replace(FLAGGED, requested_at=REJECTED_ROW.created_at + 0.1)
    assert apply(REJECTED_ROW, early, 9.0).state == "rejected"
    for late in (replace(FLAGGED, requested_at=REJECTED_ROW.created_at), replace(early, max_skew=0.1)):
        doubted = apply(REJECTED_ROW, late, 9.0)
        assert (doubted.state, doubted.doubt_since, doubted.contradiction) == ("open", 9.0, "in doubt after rejected")


def test_a_row_in_doubt_already_is_not_doubted_twice() -> None:
    """The quiet time goes on."""
    free = apply(sent(row(is_durable=False), LOST, 1.0), Released("worker", ""), 2.0)
    assert apply(free, FLAGGED, 9.0).may_send_until == 1.0


def test_what_was_attempted_before_may_have_been_with_another_key() -> None:
    """Where the client knows several; a "no" that opens the row again is of a key that is known."""
    assert not row(asked=FLAGGED).other_key_possible
    unsure = row(asked=replace(FLAGGED, has_other_keys=True))
    assert unsure.other_key_possible
    settled = apply(replace(unsure, doubt_since=None, needs_look_up=False), Released("worker", "outage"), 5.0)
    assert not apply(settled, ASKED, 9.0).other_key_possible


def test_a_stale_no_is_opened_again_by_a_request_alone() -> None:
    """As an id that is new to the journal: looked up first, and earlier attempts may still arrive. A rejection stays until then."""
    stale = replace(NOT_SENT_ROW, journal_epoch=Epoch(1, 9.0))
    opened = apply(stale, ASKED, 10.0)
    assert (opened.state, opened.needs_look_up, opened.new_to_volatile_journal) == ("open", True, True)
    assert (opened.arrivals, opened.may_send_until) == (MANY, 10.0)
    assert apply(stale, replace(ASKED, is_heard=False, is_request=False), 10.0) is stale
    rejected = replace(REJECTED_ROW, journal_epoch=Epoch(1, 9.0))
    assert apply(rejected, ASKED, 10.0) is rejected
