"""How evidence changes a row."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from alphapo_async.core.codec import encode_body
from alphapo_async.core.errors import WithdrawalRejected, WithdrawalUnknown
from alphapo_async.core.evidence import (
    Attempt,
    CalledBack,
    Claimed,
    ControlFound,
    Evidence,
    LeaseExpired,
    LookedUp,
    OperatorDecision,
    Redated,
    Released,
    Remembered,
    Reported,
    Requested,
    Returned,
    Revision,
    Unfrozen,
)
from alphapo_async.core.models import CryptoAddress, Money, Transaction, Withdrawal, WithdrawalRequest
from alphapo_async.core.next_step import Done, LookUp, Send, Wait, due_at, next_step
from alphapo_async.core.redaction import redacted
from alphapo_async.core.replies import (
    Accepted,
    Found,
    InDoubt,
    KeyRefused,
    Mismatched,
    NoAnswer,
    NoneFound,
    NotSent,
    Proof,
)
from alphapo_async.core.results import FlightResult, to_outcome
from alphapo_async.core.row import (
    MANY,
    NEGATIVE_STATES,
    WENT_BACK,
    Assumptions,
    Epoch,
    Row,
    State,
    counted_as,
    is_by_hand,
    is_ended,
    is_frozen,
    is_in_doubt,
    is_stale_no,
    may_have_forgotten,
    seen_in,
)
from alphapo_async.core.transitions import (
    TOO_LITTLE,
    apply,
    is_another,
    is_older,
    may_be_on_its_way,
    new_row,
    why_not_ours,
    withdrawal_from,
)
from tests.support.rows import (
    ACCEPTED_ROW,
    ASKED,
    CONFLICT_ROW,
    CORRECTED,
    DAY,
    DOUBTED,
    ERRORS,
    FAILED_ROW,
    LOST,
    MISMATCHED,
    NOT_SENT_ROW,
    OURS,
    QUIET,
    REFUSED_ROW,
    REJECTED,
    REJECTED_ROW,
    TAKEN,
    TOLD,
    asked_about,
    found,
    refused_in_doubt,
    revision,
    row,
    sent,
)

workers = st.sampled_from(["worker", "another"])
times = st.sampled_from([0.0, 1.0, QUIET, QUIET + 1, DAY, DAY + QUIET])
proofs = st.sampled_from(
    [Accepted(TOLD), LOST, MISMATCHED, REJECTED, TAKEN, KeyRefused("bad_header_key"), NotSent("no connection")]
)
looked = st.sampled_from(
    [
        *(found(status) for status in ("processing", "confirmed", "cancelled")),
        found(amount="9", address="z"),
        NoneFound(),
    ]
)
anything: st.SearchStrategy[Evidence] = st.one_of(
    st.builds(Requested, workers, st.sampled_from([OURS, CORRECTED]), st.just("key"), st.booleans()),
    st.builds(Attempt, workers, proofs, times, times),
    st.builds(LookedUp, workers, looked),
    st.builds(lambda answer: CalledBack(answer.transaction), looked.filter(lambda answer: isinstance(answer, Found))),
    st.builds(ControlFound, workers, times),
    st.builds(Released, workers, st.just("queue")),
    st.builds(LeaseExpired, workers, times),
    st.builds(Claimed, workers, st.integers(1, 2), st.just("key")),
    st.builds(Returned, workers, st.integers(0, 2)),
    st.builds(OperatorDecision, st.just("anna"), st.just("because"), st.booleans()),
    st.builds(Remembered, workers, st.sampled_from([OURS, CORRECTED]), st.just(TOLD)),
    st.builds(Unfrozen, st.just("anna"), st.just("because")),
    st.builds(Reported),
)


@given(st.lists(st.tuples(anything, times), max_size=12), st.booleans())
def test_whatever_is_heard_in_whatever_order_the_row_stays_sound(
    story: list[tuple[Evidence, float]],
    is_durable: bool,  # noqa: FBT001 - drawn
) -> None:
    """Even evidence that no honest AlphaPo gives: what is proved is never lost, and no "no" comes out of doubt by itself."""
    known = row(is_durable=is_durable)
    for evidence, now in story:
        before, known = known, apply(known, evidence, now)
        next_step(known, now)
        assert known.holder is None or known.state == "open"
        if before.state in ("accepted", "failed"):
            assert known.state in ("accepted", "failed") or (before.state == "accepted" and is_ended(known))
        if before.withdrawal is not None and before.withdrawal.status == "confirmed":
            assert known.withdrawal is not None
            # Who told it last may change, and nothing else.
            assert replace(known.withdrawal, source="reply") == replace(before.withdrawal, source="reply")
        if before.doubt_since is not None and before.state == "open" and known.state in NEGATIVE_STATES:
            assert isinstance(evidence, OperatorDecision) or (
                isinstance(evidence, LookedUp) and before.control_seen_at is not None
            )
        if known.revision is not before.revision:
            assert before.state in NEGATIVE_STATES
            assert known.revision.number > before.revision.number


def test_what_was_reported_is_not_reported_again() -> None:
    """Once is enough."""
    settled = replace(ACCEPTED_ROW, reported=False)
    assert apply(settled, Reported(), 9.0).reported
    assert apply(ACCEPTED_ROW, Reported(), 9.0) is ACCEPTED_ROW


def test_a_no_that_stands_counts_from_now() -> None:
    """Whatever else a row is stays as old as it was."""
    assert apply(REJECTED_ROW, Redated("w"), 9.0) == replace(REJECTED_ROW, settled_at=9.0, settled_by="w")
    assert apply(ACCEPTED_ROW, Redated("w"), 9.0) is ACCEPTED_ROW
    open_row = row()
    assert apply(open_row, Redated("w"), 9.0) is open_row


@pytest.mark.parametrize(
    ("about", "counts"),
    [
        (Reported("rejected", 1), True),
        (Reported("not_sent", 1), False),
        (Reported("rejected", 2), False),
        (Reported("rejected", 1, 60.0), False),
    ],
)
def test_only_the_outcome_that_was_handed_out_counts_as_reported(about: Reported, *, counts: bool) -> None:
    """Whoever heard it may have asked for the payment anew, and nobody has heard what came of that."""
    unheard = replace(REJECTED_ROW, reported=False)
    assert apply(unheard, about, 9.0).reported is counts


# ── requests ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_new_row_is_sent() -> None:
    """Nothing is known against it, and its worker holds it."""
    new = row(3.0)
    assert (new.state, new.holder, new.created_at, new.key_fingerprint) == ("open", "worker", 3.0, "key")
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
    assert (doubted.holder, doubted.key_fingerprint, next_step(doubted, 2.0)) == ("another", "key", LookUp())
    fresh = apply(row(holder=None), asked, 2.0)
    assert (fresh.holder, fresh.key_fingerprint, next_step(fresh, 2.0)) == ("another", "new key", Send())


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
    assert (again.state, again.key_fingerprint, again.code, again.settled_at) == ("open", "new key", None, None)
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
    asked = replace(ASKED, requested_by=requested_by, no_counts_later_by=0.5)

    assert apply(settled, replace(asked, requested_at=10.4), 20.0) == replace(
        settled, settled_at=20.0, settled_by=requested_by
    )
    assert apply(settled, replace(asked, requested_at=10.5), 20.0).state == "open"
    assert apply(settled, replace(asked, requested_at=10.0, no_counts_later_by=0.0), 20.0).state == "open"
    assert (
        apply(
            settled,
            Requested("worker", CORRECTED, "key", requested_at=10.0, requested_by=requested_by, no_counts_later_by=0.5),
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
    "could_leave_until": 2.0,
    "look_ups_only": True,
    "needs_look_up": True,
    "refusal": {"amount": ["no"]},
    "refused_at": 3.0,
    "control_seen_at": 4.0,
    "not_before": 5.0,
    "reason": "queue",
    "code": "bad_header_key",
    "differences": MISMATCHED.differences,
    "decision": "rejected by anna: not there",
    "expires_at": 6.0,
    "reported": True,
}
KEPT: dict[str, Any] = {"attempts": 2, "look_ups": 3, "contradiction": "in doubt after rejected", "checked_at": 7.0}
TODAY = Requested("another", OURS, "new key", resend_rejected=True, expires_at=900.0, is_awaited=False)


@pytest.mark.parametrize("state", ["rejected", "not_sent", "conflict", "key_refused"])
def test_a_row_opened_again_is_as_if_new(state: State) -> None:
    """But for what it has seen: its counts, its contradiction and when it was last checked."""
    settled = row(3.0, state=state, settled_at=8.0, holder=None, **MARKED, **KEPT)
    expected = row(
        3.0, holder="another", held_since=9.0, key_fingerprint="new key", expires_at=900.0, reported=False, **KEPT
    )
    assert apply(settled, TODAY, 9.0) == expected


def test_a_correction_opens_the_row_as_if_new() -> None:
    """With the next revision, and the earlier ones in their order."""
    settled = row(state="rejected", settled_at=8.0, holder=None, earlier=(OURS,), **MARKED)
    after = apply(settled, replace(TODAY, revision=CORRECTED), 9.0)
    assert (after.earlier, after.revision) == ((OURS, settled.revision), replace(CORRECTED, number=2))
    assert (after.refusal, after.reason, after.holder) == (None, "", "another")


def test_an_open_row_taken_on_keeps_its_doubt_and_forgets_its_key_s_refusal() -> None:
    """The look-up comes first, the pause is over, and whoever asks now hears of it or does not."""
    free = row(3.0, holder=None, **{name: MARKED[name] for name in ("doubt_since", "could_leave_until", "code")})
    taken = apply(replace(free, not_before=50.0, reported=True), TODAY, 9.0)
    expected = replace(
        free, holder="another", held_since=9.0, code=None, needs_look_up=True, reported=False, stays_open=True
    )
    assert taken == expected


@pytest.mark.parametrize(
    ("known", "owes"), [({"needs_look_up": True}, True), ({"look_ups_only": True}, True), ({}, False)]
)
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
    assert (lapsed.holder, lapsed.doubt_since, lapsed.could_leave_until) == (None, 10.0, 70.0)
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
    assert (lapsed.holder, lapsed.doubt_since, lapsed.could_leave_until) == (None, 10.0, 70.0)
    assert next_step(lapsed, 500.0) == LookUp()


def test_a_row_that_its_own_worker_never_let_go_of_is_in_doubt() -> None:
    """An earlier flight of the same worker ended without writing down how."""
    again = apply(HELD, ASKED, 30.0)
    assert (again.holder, again.held_since, again.doubt_since, again.could_leave_until) == ("worker", 30.0, 10.0, 30.0)


FRESH = row(3.0, holder=None)


def test_a_claim_takes_a_fresh_row() -> None:
    """What held it back before is over; it is left to workers, and its outcome is not reported yet."""
    known = replace(FRESH, code="bad_header_key", reason="outage", not_before=50.0, checked_at=7.0)
    claimed = apply(known, Claimed("another", 4, "new key"), 9.0)
    expected = replace(
        FRESH,
        holder="another",
        held_since=9.0,
        claim=4,
        key_fingerprint="new key",
        stays_open=True,
        reported=False,
        checked_at=7.0,
    )
    assert claimed == expected
    for known in (
        HELD,
        replace(FRESH, doubt_since=1.0),
        ACCEPTED_ROW,
        replace(FRESH, journal_epoch=Epoch(1), look_ups_only=True),
    ):
        assert apply(known, Claimed("another", 4, "new key"), 9.0) is known


def test_a_claimed_row_that_did_not_begin_is_free_again() -> None:
    """By its holder and its claim: a row that was taken again since is another's."""
    claimed = apply(FRESH, Claimed("worker", 4, "key"), 9.0)
    returned = apply(claimed, Returned("worker", 4), 10.0)
    assert returned == replace(claimed, holder=None, claim=0)
    for evidence in (Returned("another", 4), Returned("worker", 3)):
        assert apply(claimed, evidence, 10.0) is claimed
    assert apply(HELD, Returned("worker", 0), 10.0) is HELD


def test_a_request_takes_over_what_its_worker_has_claimed_and_not_begun() -> None:
    """Without a doubt; what may have begun is in doubt, as of when it was claimed."""
    claimed = apply(FRESH, Claimed("worker", 4, "key"), 9.0)
    taken = apply(claimed, replace(ASKED, begun=3), 10.0)
    assert (taken.holder, taken.claim, taken.doubt_since, taken.held_since) == ("worker", 0, None, 10.0)
    for begun in (4, ASKED.begun):
        taken = apply(claimed, replace(ASKED, begun=begun), 10.0)
        assert (taken.holder, taken.claim, taken.doubt_since, taken.could_leave_until) == ("worker", 0, 9.0, 10.0)


def test_a_worker_leaves_not_sent_to_be_handed_out() -> None:
    """Every other outcome counts as reported with the change that records it; an open row has none."""
    reported = Reported(leaves_not_sent=True)
    unsent = replace(NOT_SENT_ROW, reported=False)
    assert apply(unsent, reported, 9.0) is unsent
    assert apply(unsent, Reported(), 9.0).reported
    assert apply(replace(ACCEPTED_ROW, reported=False), reported, 9.0).reported
    known = row(reported=False)
    assert apply(known, reported, 9.0) is known


def test_a_stale_holder_is_not_believed() -> None:
    """Another holds the row now: the old one's refusal and its letting go are nobody's, its doubt and its acceptance count."""
    taken = apply(apply(HELD, LeaseExpired("worker", until=70.0), 80.0), replace(ASKED, worker="another"), 80.0)
    assert apply(taken, Released("worker", "queue"), 81.0) is taken
    assert sent(taken, REJECTED, 81.0).refusal is None
    assert sent(taken, LOST, 81.0).could_leave_until == 81.0
    assert sent(taken, Accepted(TOLD), 81.0).state == "accepted"


# ── left to the workers ──────────────────────────────────────────────────────────────────────────────────────────────

LEFT = row(10.0, asked=replace(ASKED, worker=None, expires_at=100.0, is_awaited=False))


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
    enqueued = apply(row(holder=holder), replace(ASKED, worker=None, expires_at=500.0, is_awaited=False), 20.0)
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
    taken = apply(LEFT, replace(ASKED, is_awaited=False), 20.0)
    let_go = apply(taken, Released("worker", "no connection"), 30.0)
    assert (let_go.state, let_go.holder, let_go.checked_at) == ("open", None, 30.0)
    assert apply(taken, Released("worker", "no connection"), 100.0).state == "not_sent"


def test_what_has_expired_is_not_taken_on() -> None:
    """It never arrived, unless it may have."""
    taken_late = apply(LEFT, replace(ASKED, is_awaited=False), 100.0)
    assert (taken_late.state, taken_late.reason, taken_late.reported) == ("not_sent", "expired", False)
    doubted = apply(sent(apply(LEFT, ASKED, 20.0), LOST, 20.0), Released("worker", ""), 30.0)
    assert apply(doubted, ASKED, 100.0).holder == "worker"


def test_what_never_arrived_can_be_left_to_the_workers_again() -> None:
    """Opened again without a holder, with a time of its own."""
    again = apply(NOT_SENT_ROW, replace(ASKED, worker=None, expires_at=900.0, is_awaited=False), 20.0)
    assert (again.state, again.holder, again.expires_at, again.reported) == ("open", None, 900.0, False)


# ── the operator ─────────────────────────────────────────────────────────────────────────────────────────────────────

FREE_DOUBT = replace(DOUBTED, holder=None)


def test_the_operator_settles_what_nobody_works_on() -> None:
    """With name and reason on record; accepted with AlphaPo's id where it is known."""
    rejected = apply(FREE_DOUBT, OperatorDecision("anna", "not in the dashboard", is_accepted=False), 9.0)
    assert (rejected.state, rejected.decision) == ("rejected", "rejected by anna: not in the dashboard")
    accepted = apply(FREE_DOUBT, OperatorDecision("anna", "seen there", is_accepted=True, id="55"), 9.0)
    assert (accepted.state, accepted.decision) == ("accepted", "accepted with id 55 by anna: seen there")
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
    assert corrected.decision is not None
    assert "who corrects an earlier decision" in corrected.decision


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
    assert (doubtful.reason, doubtful.earlier_request_possible) == ("attempted before", False)
    assert next_step(doubtful, 9.0) == LookUp()
    free = apply(doubtful, Released("worker", ""), 10.0)
    assert apply(free, FLAGGED, 20.0).could_leave_until == 9.0


def test_a_durable_journal_knows_better() -> None:
    """Whatever was attempted before is in it; but for what another call wrote down only after this one was made."""
    early = replace(FLAGGED, requested_at=REJECTED_ROW.created_at + 0.1)
    assert apply(REJECTED_ROW, early, 9.0).state == "rejected"
    for late in (replace(FLAGGED, requested_at=REJECTED_ROW.created_at), replace(early, no_counts_later_by=0.1)):
        doubted = apply(REJECTED_ROW, late, 9.0)
        assert (doubted.state, doubted.doubt_since, doubted.contradiction) == ("open", 9.0, "in doubt after rejected")


def test_a_row_in_doubt_already_is_not_doubted_twice() -> None:
    """The quiet time goes on."""
    free = apply(sent(row(is_durable=False), LOST, 1.0), Released("worker", ""), 2.0)
    assert apply(free, FLAGGED, 9.0).could_leave_until == 1.0


def test_what_was_attempted_before_may_have_been_with_another_key() -> None:
    """Where the client knows several; a "no" that opens the row again is of a key that is known."""
    assert not row(asked=FLAGGED).other_key_possible
    unsure = row(asked=replace(FLAGGED, has_other_keys=True))
    assert unsure.other_key_possible
    settled = apply(replace(unsure, doubt_since=None, needs_look_up=False), Released("worker", "outage"), 5.0)
    assert not apply(settled, ASKED, 9.0).other_key_possible


def test_a_stale_no_answers_a_request_that_was_made_before_it() -> None:
    """The journal went back while the request was on its way: the caller of that "no" may have released the funds."""
    stale = replace(NOT_SENT_ROW, journal_epoch=Epoch(1, 9.0))
    settled_at = stale.settled_at or 0.0
    assert apply(stale, replace(ASKED, requested_at=settled_at - 0.5), 10.0) is stale
    assert apply(stale, replace(ASKED, requested_at=settled_at + 0.5), 10.0).state == "open"


def test_a_stale_no_is_opened_again_by_a_request_alone() -> None:
    """As an id that is new to the journal: looked up first, and earlier attempts may still arrive. A rejection stays until then."""
    stale = replace(NOT_SENT_ROW, journal_epoch=Epoch(1, 9.0))
    opened = apply(stale, ASKED, 10.0)
    assert (opened.state, opened.needs_look_up, opened.earlier_request_possible) == ("open", True, True)
    assert (opened.arrivals, opened.could_leave_until) == (MANY, 10.0)
    assert apply(stale, replace(ASKED, is_awaited=False, is_request=False), 10.0) is stale
    rejected = replace(REJECTED_ROW, journal_epoch=Epoch(1, 9.0))
    assert apply(rejected, ASKED, 10.0) is rejected


# ── attempts ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_acceptance_settles() -> None:
    """The withdrawal of the reply is kept, and nobody holds the row any more."""
    assert (ACCEPTED_ROW.state, ACCEPTED_ROW.settled_at, ACCEPTED_ROW.holder) == ("accepted", 5.0, None)
    assert ACCEPTED_ROW.withdrawal == replace(TOLD, amount=Decimal(1))
    assert ACCEPTED_ROW.attempts == 1
    assert next_step(ACCEPTED_ROW, 5.0) == Done()


def test_an_acceptance_that_was_ended_at_once_is_failed() -> None:
    """A reply that tells a cancelled withdrawal is no acceptance to build on."""
    assert sent(row(), Accepted(replace(TOLD, status="declined"))).state == "failed"


def test_a_refusal_without_doubt_settles() -> None:
    """The errors are kept for whoever asks again."""
    assert (REJECTED_ROW.state, REJECTED_ROW.refusal, REJECTED_ROW.settled_at) == ("rejected", ERRORS, 5.0)


def test_a_refused_key_settles_as_authentication() -> None:
    """It counts as not sent."""
    assert (REFUSED_ROW.state, REFUSED_ROW.code, counted_as(REFUSED_ROW)) == (
        "key_refused",
        "bad_header_key",
        "not_sent",
    )


@pytest.mark.parametrize("known", [{"stays_open": True}, {"doubt_since": 1.0}, {"look_ups_only": True}])
def test_a_refused_key_settles_neither_doubt_nor_what_a_worker_may_send(known: dict[str, Any]) -> None:
    """An enqueued row, one that was open before the call, and one in doubt stay open; the code is kept for whoever asks."""
    refused = sent(row(**known), KeyRefused("bad_header_key"))
    assert refused == row(**known, attempts=1, code="bad_header_key", reason="key refused")


def test_a_lost_reply_leaves_the_row_in_doubt_and_owes_a_look_up() -> None:
    """Looked up first, then the same bytes."""
    doubted = apply(row(), Attempt("worker", LOST, 1.0, 4.0), 4.0)
    assert (doubted.doubt_since, doubted.could_leave_until, doubted.reason) == (1.0, 4.0, "connection lost")
    assert counted_as(doubted) == "unknown"
    assert next_step(doubted, 4.0) == LookUp()
    assert next_step(asked_about(doubted, NoneFound(), 4.0), 4.0) == Send()


def test_doubt_is_as_old_as_the_first_attempt_and_as_young_as_the_last() -> None:
    """Attempts that are heard of in any order leave the same times."""
    early, late = Attempt("worker", LOST, 1.0, 2.0), Attempt("worker", LOST, 5.0, 6.0)
    one = apply(apply(row(), early, 6.0), late, 6.0)
    other = apply(apply(row(), late, 6.0), early, 6.0)
    assert (one.doubt_since, one.could_leave_until) == (other.doubt_since, other.could_leave_until) == (1.0, 6.0)


def test_a_refusal_after_a_lost_reply_proves_nothing() -> None:
    """Nor does a refused key: the row stays in doubt, with what was heard."""
    for proof in (REJECTED, KeyRefused("bad_header_key")):
        after = sent(DOUBTED, proof, 1.0)
        assert (after.state, after.doubt_since) == ("open", 0.0)
    assert sent(DOUBTED, REJECTED, 1.0).refusal == ERRORS
    assert sent(DOUBTED, KeyRefused("bad_header_key"), 1.0).code == "bad_header_key"


def test_a_refused_key_after_a_blamed_foreign_id_leaves_the_row_open() -> None:
    """AlphaPo has something under the id; whose it is, a key cannot say."""
    assert sent(sent(row(), TAKEN), KeyRefused("bad_header_key")).state == "open"


def test_a_blamed_foreign_id_is_never_followed_by_a_body() -> None:
    """Only look-ups follow, whatever they answer."""
    look_ups_only = sent(row(), TAKEN)
    assert is_in_doubt(look_ups_only)
    for answer in (NoneFound(), NoAnswer("HTTP 502")):
        assert next_step(asked_about(look_ups_only, answer), 1.0) == LookUp()


def test_a_reply_that_shows_another_withdrawal_is_never_followed_by_a_body() -> None:
    """In doubt, with the differences, and looked up only."""
    mismatched = sent(row(), MISMATCHED)
    assert mismatched.differences == MISMATCHED.differences
    assert mismatched.doubt_since == 0.0
    assert next_step(asked_about(mismatched, NoneFound()), 1.0) == LookUp()


def test_a_mismatch_adds_nothing_to_an_accepted_row() -> None:
    """What is accepted stays accepted, without differences."""
    after = sent(ACCEPTED_ROW, MISMATCHED)
    assert (after.state, after.differences, after.doubt_since) == ("accepted", (), None)


def test_a_throttled_body_waits_as_long_as_it_is_asked_to() -> None:
    """It counts as an attempt; one that never left does not."""
    throttled = sent(row(), NotSent("throttled", retry_after=30.0), 5.0)
    assert (throttled.attempts, throttled.not_before) == (1, 35.0)
    assert next_step(throttled, 34.9) == Wait(35.0)
    assert next_step(throttled, 35.0) == Send()
    assert sent(row(), NotSent("no connection")).attempts == 0


def test_a_row_waits_for_a_day_at_most_whatever_it_is_asked_to() -> None:
    """A worker comes back to it: a Retry-After that names the year 9999 would leave it alone until then."""
    century = 3.2e9
    throttled = apply(sent(row(), NotSent("throttled", retry_after=century), 5.0), Released("worker", "", True), 5.0)
    asked = apply(
        asked_about(DOUBTED, NoAnswer("throttled", 429, retry_after=century), 5.0), Released("worker", ""), 5.0
    )
    assert [due_at(each) for each in (throttled, asked)] == [86_405.0, 86_405.0]


def test_what_did_not_leave_does_not_hide_the_doubt() -> None:
    """The reason of the doubt is kept, and the doubt with it."""
    after = sent(DOUBTED, NotSent("no connection"), 1.0)
    assert (after.reason, after.doubt_since) == ("connection lost", 0.0)


@pytest.mark.parametrize("proof", [NotSent("no connection"), REJECTED, TAKEN, KeyRefused("bad_header_key")])
def test_a_settled_row_does_not_hear_a_no(proof: Proof) -> None:
    """Neither an accepted one nor one that was refused before."""
    for settled in (ACCEPTED_ROW, REJECTED_ROW):
        assert sent(settled, proof).state == settled.state


@pytest.mark.parametrize("proof", [REJECTED, TAKEN, KeyRefused("bad_header_key")])
def test_a_no_counts_from_the_holder_only(proof: Proof) -> None:
    """Another worker's refusal says nothing about what the holder sends."""
    after = sent(row(), proof, worker="another")
    assert (after.state, after.refusal, after.look_ups_only, after.code) == ("open", None, False, None)


@pytest.mark.parametrize("settled", [REJECTED_ROW, NOT_SENT_ROW, CONFLICT_ROW, REFUSED_ROW])
def test_a_late_doubt_opens_a_no_again(settled: Row) -> None:
    """Somebody else's body may have arrived: no "no" survives that, and it is said aloud."""
    after = sent(settled, LOST, 9.0, worker="another")
    assert (after.state, after.settled_at, after.doubt_since) == ("open", None, 9.0)
    assert after.contradiction == f"in doubt after {settled.state}"
    assert next_step(after, 10.0) == LookUp()


@pytest.mark.parametrize("proof", [LOST, MISMATCHED])
def test_a_row_whose_no_is_opened_by_a_late_doubt_is_never_sent_again(proof: Proof) -> None:
    """A caller may have released the funds: after the look-ups no body follows, however much time passes."""
    opened = sent(replace(REJECTED_ROW, could_leave_until=8.0), proof, 9.0, worker="another")
    for now in (10.0, 2_000.0, 100_000.0):
        assert next_step(opened, now) == LookUp()
        opened = apply(opened, LookedUp("another", NoneFound()), now)


@pytest.mark.parametrize("settled", [REJECTED_ROW, NOT_SENT_ROW, CONFLICT_ROW, REFUSED_ROW])
def test_a_late_doubt_within_the_doubt_that_a_no_has_ended_is_no_news(settled: Row) -> None:
    """A worker was paused with an attempt that its lapse covered, and reports it after the quiet exit or the operator's decision."""
    ended = replace(settled, doubt_since=1.0, could_leave_until=9.0)
    after = sent(ended, LOST, 9.0, worker="another")
    assert after == replace(ended, attempts=ended.attempts + 1)


@pytest.mark.parametrize("settled", [ACCEPTED_ROW, FAILED_ROW])
def test_a_late_doubt_adds_nothing_to_what_alphapo_is_known_to_have(settled: Row) -> None:
    """Accepted and failed are proved."""
    after = sent(settled, LOST, 9.0, worker="another")
    assert (after.state, after.contradiction) == (settled.state, None)


# ── nothing else changes ─────────────────────────────────────────────────────────────────────────────────────────────

HEARD = replace(
    DOUBTED,
    refusal={"tag": ["no"]},
    refused_at=1.0,
    control_seen_at=2.0,
    not_before=50.0,
    attempts=3,
    needs_look_up=False,
)
CALM = row(attempts=3, reason="no connection", control_seen_at=2.0)


@pytest.mark.parametrize(
    ("before", "proof", "changes"),
    [
        (
            HEARD,
            LOST,
            {"refusal": None, "refused_at": None, "control_seen_at": None, "could_leave_until": 9.0, "arrivals": 2},
        ),
        (HEARD, REJECTED, {"refusal": ERRORS, "refused_at": 9.0, "control_seen_at": None, "reason": "refused"}),
        (
            HEARD,
            TAKEN,
            {"refusal": None, "control_seen_at": None, "look_ups_only": True, "reason": "foreign_id is taken"},
        ),
        (
            HEARD,
            KeyRefused("bad_header_key"),
            {"code": "bad_header_key", "reason": "key refused", "needs_look_up": False},
        ),
        (
            CALM,
            MISMATCHED,
            {
                "look_ups_only": True,
                "differences": MISMATCHED.differences,
                "reason": "AlphaPo shows another withdrawal",
                "doubt_since": 9.0,
                "could_leave_until": 9.0,
                "arrivals": 1,
                "control_seen_at": None,
            },
        ),
        (
            CALM,
            REJECTED,
            {
                "state": "rejected",
                "settled_at": 9.0,
                "holder": None,
                "settled_by": CALM.holder,
                "refusal": ERRORS,
                "refused_at": 9.0,
                "control_seen_at": None,
                "reason": "refused",
                "needs_look_up": False,
            },
        ),
        (
            CALM,
            KeyRefused("bad_header_key"),
            {
                "state": "key_refused",
                "settled_at": 9.0,
                "holder": None,
                "settled_by": CALM.holder,
                "code": "bad_header_key",
                "reason": "key refused",
                "needs_look_up": False,
            },
        ),
    ],
)
def test_a_reply_adds_what_it_says_and_nothing_else(before: Row, proof: Proof, changes: dict[str, Any]) -> None:
    """One more attempt, a look-up owed unless it settles, and the fields that this reply speaks of."""
    assert sent(before, proof, 9.0) == replace(before, **{"attempts": 4, "needs_look_up": True} | changes)


@pytest.mark.parametrize(
    ("before", "proof", "changes"),
    [
        (HEARD, NotSent("no connection"), {}),
        (HEARD, NotSent("throttled"), {"attempts": 4}),
        (HEARD, NotSent("throttled", retry_after=60.0), {"attempts": 4, "not_before": 69.0}),
        (HEARD, NotSent("throttled", retry_after=30.0), {"attempts": 4}),
        (CALM, NotSent("throttled"), {"attempts": 4, "not_before": 9.0, "reason": "throttled"}),
    ],
)
def test_a_body_that_was_not_processed_adds_its_pause(before: Row, proof: NotSent, changes: dict[str, Any]) -> None:
    """The longer pause holds, a throttled body counts, and only a row without doubt takes its reason."""
    assert sent(before, proof, 9.0) == replace(before, **changes)


def test_a_reply_on_an_accepted_row_is_known_by_its_id() -> None:
    """Another id is a contradiction and no more; under the same id the status counts, and what differs is kept."""
    other = sent(ACCEPTED_ROW, MISMATCHED, 9.0)
    assert other == replace(ACCEPTED_ROW, attempts=2, contradiction="a reply shows another id, 8")
    late = sent(ACCEPTED_ROW, Accepted(replace(TOLD, id=8, sender_amount=Decimal(1), sender_currency="BTC")), 9.0)
    assert late == other  # a reply gives no address
    differing = Mismatched(replace(TOLD, status="confirmed", sender_amount=Decimal(9)), MISMATCHED.differences)
    after = sent(ACCEPTED_ROW, differing, 9.0)
    assert after.withdrawal is not None
    assert (after.withdrawal.status, [one.field for one in after.differences]) == ("confirmed", ["amount"])
    assert (after.state, after.doubt_since, after.contradiction) == ("accepted", None, None)


def test_a_reply_on_a_failed_row_with_another_id_is_a_new_withdrawal() -> None:
    """AlphaPo may have freed the foreign_id: what moves money beats what was ended."""
    after = sent(FAILED_ROW, Accepted(replace(TOLD, id=8)), 9.0)
    assert (after.state, after.contradiction) == ("accepted", "accepted after failed")
    assert after.withdrawal is not None
    assert (after.withdrawal.id, after.withdrawal.status) == (8, "processing")


def test_a_reply_settles_what_only_an_operator_knew_or_what_is_forgotten() -> None:
    """An id that an operator typed does not count, and without the payment nothing can be compared."""
    typed = replace(ACCEPTED_ROW, withdrawal=Withdrawal(id="typed", foreign_id="f", source="journal"))
    after = sent(typed, Accepted(TOLD), 9.0)
    assert (after.withdrawal and after.withdrawal.id, after.contradiction) == (7, None)
    mismatched = sent(typed, MISMATCHED, 9.0)
    assert mismatched == replace(typed, attempts=2)
    old = replace(ACCEPTED_ROW, revision=replace(ACCEPTED_ROW.revision, body=b"", payment=None, kept_digest="1:x"))
    assert sent(old, Accepted(replace(TOLD, status="confirmed")), 9.0).withdrawal == replace(
        TOLD, amount=Decimal(1), status="confirmed"
    )


def test_a_volatile_row_asks_before_it_believes_a_refusal() -> None:
    """An earlier life may have sent it: the "no" is kept, and a look-up comes first."""
    volatile = row(is_durable=False)
    expected = replace(volatile, attempts=1, refusal=ERRORS, refused_at=9.0, reason="refused", needs_look_up=True)
    assert sent(volatile, REJECTED, 9.0) == expected


def test_a_refusal_after_a_blamed_id_is_kept_but_settles_nothing() -> None:
    """AlphaPo has something under the id."""
    look_ups_only = sent(row(), TAKEN)
    assert (sent(look_ups_only, REJECTED, 9.0).state, sent(look_ups_only, REJECTED, 9.0).refusal) == ("open", ERRORS)


def test_a_refusal_dates_from_when_its_body_began_to_leave() -> None:
    """Not from when its last byte could have left, nor from when it was heard."""
    assert apply(DOUBTED, Attempt("worker", REJECTED, 3.0, 5.0), 9.0).refused_at == 3.0


# ── look-ups ───────────────────────────────────────────────────────────────────────────────────────────────────────────


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
        ({"crypto_address": None, "currency_sent": Money(currency="BTC")}, "open"),
        ({"crypto_address": None, "currency_sent": None}, "open"),
        ({"foreign_id": None}, "open"),
        ({"foreign_id": "g"}, "open"),
    ],
)
def test_a_row_in_doubt_needs_the_address_or_the_figure(given: dict[str, Any], state: str) -> None:
    """The body was ours and may have arrived; nothing may disagree."""
    after = asked_about(DOUBTED, Found(replace(found().transaction, **given)))
    assert (after.state, after.look_ups_only) == (state, state == "open")


@pytest.mark.parametrize("before", [row(), sent(row(), TAKEN)], ids=["new", "taken"])
@pytest.mark.parametrize(
    ("given", "state"),
    [
        ({}, "accepted"),
        ({"currency_sent": None}, "open"),
        ({"currency_sent": Money(currency=None, amount=Decimal(1))}, "open"),
        ({"crypto_address": None}, "open"),
        ({"foreign_id": None}, "open"),
    ],
)
def test_a_row_that_was_never_in_doubt_needs_amount_currency_and_address(
    before: Row, given: dict[str, Any], state: str
) -> None:
    """It may be the payment of an earlier journal, or of another program."""
    after = asked_about(before, Found(replace(found().transaction, **given)))
    assert (after.state, after.look_ups_only) == (state, state == "open" or before.look_ups_only)
    assert after.reason == ("AlphaPo shows too little" if state == "open" else before.reason)


@pytest.mark.parametrize(
    ("place", "state", "fields"),
    [
        ({"tag": "7", "tag_is_given": True}, "accepted", []),
        ({}, "open", []),
        ({"tag": "8", "tag_is_given": True}, "open", ["tag"]),
        ({"tag": None, "tag_is_given": True}, "open", ["tag"]),
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
    assert (after.state, after.look_ups_only, len(after.differences)) == ("open", True, 2)
    assert after.reason == "AlphaPo shows another withdrawal"


def test_a_conflict_is_said_to_the_holder_only() -> None:
    """A conflict is a "no": from another worker it only blames the id."""
    after = asked_about(row(), found(amount="9", address="z"), worker="another")
    assert (after.state, after.look_ups_only) == ("open", True)


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
        (
            replace(refused_in_doubt(QUIET), look_ups_only=True),
            ControlFound("worker", QUIET + 1),
        ),  # AlphaPo knows the id
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
    assert after == replace(
        counted, look_ups_only=True, needs_look_up=True, differences=after.differences, reason=reason
    )
    assert bool(after.differences) is (reason == "AlphaPo shows another withdrawal")


@pytest.mark.parametrize(("known", "answer"), [("", "not found"), ("connection lost", "connection lost")])
def test_none_pays_the_look_up_and_hides_no_earlier_word(known: str, answer: str) -> None:
    """It is the reason only where there was none."""
    before = replace(DOUBTED, reason=known)
    expected = replace(before, look_ups=1, checked_at=9.0, needs_look_up=False, reason=answer)
    assert asked_about(before, NoneFound(), 9.0) == expected


@pytest.mark.parametrize(
    ("known", "owes"),
    [({}, False), ({"refusal": ERRORS}, True), ({"look_ups_only": True}, True)],
    ids=["", "refused", "look_ups_only"],
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


# ── callbacks ──────────────────────────────────────────────────────────────────────────────────────────────────────────


TYPED = Withdrawal(id="typed", foreign_id="f", source="journal")


def output(status: str = "confirmed", **how: str) -> Transaction:
    """Return what a callback says."""
    return found(status, **how).transaction


def cut(status: str = "confirmed", **changes: object) -> Transaction:
    """Return what a callback says that tells neither figure nor address."""
    return replace(found(status, amount=None).transaction, **changes)


def events(before: Row, transaction: Transaction) -> Row:
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
    after = events(before, output(status))
    assert (after.state, after.settled_at, after.holder) == (state, 9.0, None)
    assert after.withdrawal is not None
    assert (after.withdrawal.source, after.withdrawal.status) == ("callback", status)
    assert after.withdrawal.is_final is (status in ("confirmed", "cancelled", "declined"))
    assert after.transaction == output(status)


@pytest.mark.parametrize("settled", [REJECTED_ROW, NOT_SENT_ROW, REFUSED_ROW, CONFLICT_ROW])
def test_a_callback_beats_every_no_loudly(settled: Row) -> None:
    """As every witness does."""
    after = events(settled, output())
    assert (after.state, after.contradiction) == ("accepted", f"accepted after {settled.state}")


def test_a_callback_before_the_reply_and_the_reply_after_it_are_one() -> None:
    """Whatever the reply says, or if none comes: what is known stays known."""
    called_first = events(row(), output())
    for proof in (Accepted(TOLD), InDoubt("connection lost"), TAKEN):
        after = sent(called_first, proof, 10.0)
        assert (after.state, after.settled_at) == ("accepted", 9.0)
        assert after.withdrawal is not None
        assert after.withdrawal.status == "confirmed"


def test_a_late_or_repeated_callback_moves_nothing_back() -> None:
    """Neither a final status nor what it told."""
    final = events(DOUBTED, output())
    for late in ("pending", "not_confirmed", "confirmed"):
        after = events(final, output(late))
        assert (after.state, after.withdrawal and after.withdrawal.status) == ("accepted", "confirmed")
        assert after.contradiction is None


def test_confirmed_beats_cancelled_and_cancelled_after_it_changes_nothing() -> None:
    """The first is a contradiction of what was told; the second does not fit."""
    after = events(FAILED_ROW, output())
    assert (after.state, after.contradiction) == ("accepted", "accepted after failed")
    for ended in ("cancelled", "declined"):
        assert why_not_ours(after, output(ended)) == f"{ended} after confirmed"
        assert events(after, output(ended)) == replace(after, contradiction=f"{ended} after confirmed")


@pytest.mark.parametrize(
    ("before", "transaction", "why"),
    [
        (DOUBTED, output(amount="9"), "amount"),
        (DOUBTED, output(amount="9", address="z"), "address"),
        (row(), output(amount="9", address="z"), "address"),
        (row(), cut(), "too little"),
        (DOUBTED, cut(), "too little"),
    ],
)
def test_what_does_not_fit_an_open_row_makes_it_look_ups_only(before: Row, transaction: Transaction, why: str) -> None:
    """The row shows the figures; a callback settles no conflict, since a conflict needs the row's holder."""
    after = events(before, transaction)
    assert why in (why_not_ours(before, transaction) or "")
    assert (after.state, after.look_ups_only, after.needs_look_up, after.holder) == ("open", True, True, before.holder)
    assert after.transaction is transaction
    assert bool(after.differences) is (why != "too little")


@pytest.mark.parametrize(
    ("before", "transaction", "why"),
    [
        (REJECTED_ROW, cut(), "too little"),
        (REJECTED_ROW, output(amount="9"), "amount"),
        (DOUBTED, cut(foreign_id="g"), "foreign_id"),
        (DOUBTED, cut(foreign_id=None), "too little"),
        (replace(ACCEPTED_ROW, withdrawal=TYPED), output(amount="9"), "amount"),
        (replace(ACCEPTED_ROW, withdrawal=TYPED), cut(), "too little"),
    ],
)
def test_what_does_not_fit_changes_nothing_else(before: Row, transaction: Transaction, why: str) -> None:
    """A settled row stays as it is, and so does a row that the callback does not name."""
    assert why in (why_not_ours(before, transaction) or "")
    assert events(before, transaction) is before


@pytest.mark.parametrize("before", [ACCEPTED_ROW, FAILED_ROW, sent(row(), Accepted(replace(TOLD, status="declined")))])
@pytest.mark.parametrize("transaction", [cut("declined"), output("declined", amount="9", address="z")])
def test_an_accepted_row_is_known_by_the_id(before: Row, transaction: Transaction) -> None:
    """A conversion that was cancelled has no figures, and figures that disagree do not hide how it ended."""
    after = events(before, transaction)
    assert why_not_ours(before, transaction) is None
    assert (after.state, after.withdrawal and after.withdrawal.status) == ("failed", "declined")
    assert len(after.differences) == (2 if transaction.currency_sent else 0)


def test_an_id_that_an_operator_typed_does_not_count() -> None:
    """AlphaPo's own id takes its place without a contradiction, once nothing disagrees and enough is given."""
    after = events(replace(DOUBTED, state="accepted", withdrawal=TYPED), output("cancelled"))
    assert (after.state, after.contradiction) == ("failed", None)
    assert after.withdrawal is not None
    assert after.withdrawal.id == 7


def test_why_it_does_not_fit_is_said_in_words() -> None:
    """For the history, which keeps them."""
    assert why_not_ours(row(), cut()) == "AlphaPo shows too little"
    two = "address: asked 'a', AlphaPo shows 'z'; amount: asked '1', AlphaPo shows '9'"
    assert why_not_ours(DOUBTED, output(amount="9", address="z")) == two


def test_of_an_old_row_the_id_is_compared() -> None:
    """Its payment is forgotten, so that it is taken for ours or not, and learns nothing."""
    old = replace(ACCEPTED_ROW, revision=replace(ACCEPTED_ROW.revision, body=b"", payment=None, kept_digest="1:x"))
    assert why_not_ours(old, output()) is None
    assert why_not_ours(old, replace(output(), id=8)) == "another id, 8"
    assert why_not_ours(replace(old, withdrawal=None), output()) == TOO_LITTLE
    assert apply(old, CalledBack(output()), 9.0) is old


def test_the_three_witnesses_agree_in_every_order() -> None:
    """Reply, look-up and callback: one state, one status."""
    ways = {
        "reply": lambda before: sent(before, Accepted(TOLD), 5.0),
        "look-up": lambda before: asked_about(before, found("not_confirmed"), 6.0),
        "callback": lambda before: events(before, output("cancelled")),
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
    existing = output("cancelled", amount="9", address="z")
    after = events(CONFLICT_ROW, existing)
    assert (after.state, after.transaction) == ("conflict", existing)
    assert events(CONFLICT_ROW, replace(existing, id=8)) is CONFLICT_ROW
    unknown = replace(CONFLICT_ROW, transaction=None)
    assert events(unknown, existing) is unknown


# ── a journal that went back in time ───────────────────────────────────────────────────────────────────────────────────


HELD_EPOCHS = row()
BACK = Epoch(1, 50.0)
ASSUMED = Assumptions(resend_within=100.0)
FREE = row(3.0, asked=replace(ASKED, worker=None))
ROUND = replace(ASKED, is_awaited=False, requested_at=0.0, is_request=False)
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
    assert (frozen.doubt_since, frozen.could_leave_until, frozen.reason) == (50.0, 50.0, WENT_BACK)
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
    assert apply(frozen, ASKED, 60.0).could_leave_until == 3.0


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
    thawed = apply(seen_in(HELD_EPOCHS, BACK), replace(ASKED, worker=None), 60.0)
    assert (thawed.epoch, thawed.holder) == (1, "worker")
    assert not is_frozen(thawed)


@pytest.mark.parametrize("no", [REJECTED_ROW, CONFLICT_ROW])
def test_a_no_of_an_earlier_epoch_is_reported_again_only_after_a_look_up(no: object) -> None:
    """Unanswered it is unknown; what AlphaPo shows beats it, loudly."""
    stale = seen_in(no, BACK)  # type: ignore[arg-type]
    assert is_stale_no(stale)
    assert apply(stale, ASKED, 60.0) is stale
    outcome = to_outcome(FlightResult("f", stale))
    assert isinstance(outcome, WithdrawalUnknown)
    assert (outcome.reason, outcome.may_release_funds) == (WENT_BACK, False)
    assert is_stale_no(apply(stale, LookedUp("w", NoAnswer("HTTP 502", 502)), 60.0))
    again = apply(stale, NONE, 60.0)
    assert not is_stale_no(again)
    assert not is_stale_no(seen_in(replace(again, journal_epoch=Epoch()), BACK))
    assert is_stale_no(seen_in(again, Epoch(2, 70.0)))


def test_a_no_that_alphapo_confirmed_is_told_as_it_was() -> None:
    """With AlphaPo's words."""
    outcome = to_outcome(FlightResult("f", apply(seen_in(REJECTED_ROW, BACK), NONE, 60.0)))
    assert isinstance(outcome, WithdrawalRejected)


def test_a_call_that_may_send_a_stale_no_looks_it_up_first() -> None:
    """As a new id; a worker by itself does not."""
    stale = seen_in(NOT_SENT_ROW, BACK)
    assert apply(stale, ROUND, 60.0) is stale
    opened = apply(stale, ASKED, 1e9)
    assert (opened.state, opened.epoch, opened.needs_look_up, opened.earlier_request_possible) == (
        "open",
        1,
        True,
        True,
    )
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
    assert (later.epoch, later.earlier_request_possible, later.needs_look_up) == (1, False, False)


def test_another_withdrawal_under_an_id_that_the_journal_may_have_forgotten_is_no_conflict() -> None:
    """It may be ours, with the address in another form and the tag that AlphaPo writes for none: only look-ups follow."""
    new = new_row("default", "f", ASKED, 60.0, is_durable=True, epoch=BACK, assumptions=ASSUMED)
    shown = asked_about(new, found(address="z", amount="9"), 61.0, "worker")
    assert (shown.state, shown.look_ups_only, shown.reason) == ("open", True, "AlphaPo shows another withdrawal")


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
    assert (unfrozen.epoch, is_in_doubt(replace(unfrozen, earlier_request_possible=False))) == (1, False)
    assert next_step(unfrozen, 60.0, ASSUMED) == Send()


def test_only_a_frozen_row_that_no_worker_may_send_is_unfrozen() -> None:
    """Neither one that is held, nor one that a worker may still send, nor any other."""
    unfrozen = Unfrozen("anna", "not in the export")
    held = seen_in(HELD_EPOCHS, BACK)
    lingering = replace(seen_in(FREE, BACK), could_leave_until=70.0)
    for each in (held, lingering, FREE, REJECTED_ROW):
        assert apply(each, unfrozen, 60.0) is each


def test_an_operator_s_decision_about_a_frozen_row_holds() -> None:
    """It was made after the journal went back."""
    word = OperatorDecision("anna", "not in the books", is_accepted=False)
    decided = apply(seen_in(FREE, BACK), word, 60.0)
    assert (decided.state, is_stale_no(decided)) == ("rejected", False)


def test_a_frozen_row_is_unknown_for_this_reason() -> None:
    """A look-up that shows it settles it."""
    outcome = to_outcome(FlightResult("f", seen_in(FREE, BACK)))
    assert isinstance(outcome, WithdrawalUnknown)
    assert outcome.reason == WENT_BACK


# ── evidence that AlphaPo has a withdrawal ─────────────────────────────────────────────────────────────────────────────


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
    result = sent(row(), Accepted(replace(TOLD, end_user_reference="u")))
    after = asked_about(result, found("confirmed"), 60.0)
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
        (ACCEPTED_ROW, {"status": "confirmed", "currency_sent": Money(currency="BTC")}, ("accepted", "processing", 7)),
        (
            ACCEPTED_ROW,
            {"status": "confirmed", "currency_sent": Money(currency="BTC", amount=Decimal(9))},
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
        (
            FAILED_ROW,
            {"status": "confirmed", "currency_sent": Money(currency="BTC", amount=Decimal(9))},
            ("failed", "cancelled", 7),
        ),
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
    ("answer", "known", "expected"),
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
def test_what_is_final_is_younger_than_what_is_not(answer: str | None, known: str | None, expected: bool) -> None:  # noqa: FBT001 - a column
    """And `confirmed` younger than any other end; of two equals the later witness is heard."""
    assert is_older(answer, known) is expected


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
        currency_sent=Money(currency="EUR", amount=Decimal(20)),
        currency_received=Money(currency="BTC", amount=Decimal("0.1")),
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
    assert (after.state, after.arrivals, after.look_ups_only) == ("failed", arrivals, False)
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
    assert (after.state, counted_as(after), is_ended(after), after.look_ups_only) == ("open", "unknown", True, True)
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


def test_an_ended_row_is_known_by_alphapo_s_id_whatever_its_figures_are() -> None:
    """A look-up that shows the same id with another address and amount shows this withdrawal, and no conflict."""
    new_here = replace(row(), earlier_request_possible=True, epoch=1, arrivals=MANY)
    ended = replace(called_back(sent(new_here, Accepted(TOLD)), "cancelled"), holder="worker")
    assert (is_ended(ended), ended.doubt_since) == (True, None)
    other = {"crypto_address": CryptoAddress(address="z"), "currency_sent": Money(currency="BTC", amount=Decimal(9))}
    shown = Found(replace(found("cancelled").transaction, **other))

    after = asked_about(ended, shown, AFTER_QUIET)

    assert (after.state, len(after.differences)) == ("failed", 2)


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
    assert (first.state, first.arrivals, first.could_leave_until) == (
        "accepted",
        1,
        20.0 + Assumptions().attempt_timeout,
    )
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
        replace(BETWEEN, could_leave_until=5.0), OperatorDecision("anna", "not there", is_accepted=False), 15.0
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
    assert (other.state, other.look_ups_only, other.reason) == ("open", True, "AlphaPo shows another withdrawal")
    assert [difference.field for difference in other.differences] == ["address"]
    cut = called_back(row(), "processing", crypto_address=None)
    assert (cut.state, cut.look_ups_only, cut.reason) == ("open", True, "AlphaPo shows too little")


def test_a_row_in_conflict_follows_the_existing_withdrawal() -> None:
    """By a look-up, and by a callback with its id; an older status and another withdrawal change nothing, nor do they of any other "no"."""
    existing: dict[str, Any] = {
        "crypto_address": CryptoAddress(address="z"),
        "currency_sent": Money(currency="BTC", amount=Decimal(9)),
    }
    ended = called_back(CONFLICT_ROW, "cancelled", **existing)
    assert ended.transaction is not None
    assert (ended.state, ended.transaction.status) == ("conflict", "cancelled")
    assert asked_about(ended, found(amount="9", address="z")).transaction == ended.transaction
    assert called_back(ended, "confirmed", **existing, id=8) is ended
    assert called_back(REJECTED_ROW, "processing", **existing) is REJECTED_ROW


def test_a_remembered_acceptance_adds_nothing_to_what_alphapo_has_shown_since() -> None:
    """Under an id that is counted apart: what is remembered is older, and a final status stays."""
    known = replace(ACCEPTED_ROW, withdrawal=replace(TOLD, id=350, status="confirmed", source="callback"))
    assert apply(known, Remembered("worker", OURS, replace(TOLD, id=7, status="processing"), None), 60.0) is known


def test_a_callback_saves_the_look_up_of_an_accepted_row() -> None:
    """The next look-up counts from it; a repeated callback changes nothing."""
    pending = replace(ACCEPTED_ROW, withdrawal=replace(TOLD, status="pending"))
    learned = apply(pending, CalledBack(output("processing")), 300.0)
    assert (learned.checked_at, due_at(learned)) == (300.0, 300.0 + 295.0 + 600.0)
    assert apply(learned, CalledBack(output("processing")), 400.0) == learned


def test_a_row_keeps_the_times_of_the_policy_it_was_recorded_under() -> None:
    """Rows that are already recorded do not follow a changed policy; the usual times are not kept."""
    chosen = Assumptions(quiet=3_600.0, refresh_after=60.0)
    recorded = new_row("a", "f", ASKED, 1.0, is_durable=True, assumptions=chosen)
    assert (recorded.quiet, recorded.refresh_after) == (3_600.0, 60.0)
    usual = new_row("a", "f", ASKED, 1.0, is_durable=True)
    assert (usual.quiet, usual.refresh_after) == (None, None)
