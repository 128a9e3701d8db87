"""Sending: what the reply to a body adds to a row."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from alphapo_async.core.evidence import Attempt
from alphapo_async.core.models import Withdrawal
from alphapo_async.core.next_step import Done, LookUp, Send, Wait, next_step
from alphapo_async.core.outcome import (
    Accepted,
    KeyRefused,
    Mismatched,
    NoAnswer,
    NoneFound,
    NotSent,
    Proof,
)
from alphapo_async.core.row import Row, counted_as, is_in_doubt
from alphapo_async.core.transitions import apply
from tests.support.rows import (
    ACCEPTED_ROW,
    CONFLICT_ROW,
    DOUBTED,
    ERRORS,
    FAILED_ROW,
    LOST,
    MISMATCHED,
    NOT_SENT_ROW,
    REFUSED_ROW,
    REJECTED,
    REJECTED_ROW,
    TAKEN,
    TOLD,
    asked_about,
    row,
    sent,
)


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


@pytest.mark.parametrize("known", [{"stays_open": True}, {"doubt_since": 1.0}, {"id_taken": True}])
def test_a_refused_key_settles_neither_doubt_nor_what_a_worker_may_send(known: dict[str, Any]) -> None:
    """An enqueued row, one that was open before the call, and one in doubt stay open; the code is kept for whoever asks."""
    refused = sent(row(**known), KeyRefused("bad_header_key"))
    assert refused == row(**known, attempts=1, code="bad_header_key", reason="key refused")


def test_a_lost_reply_leaves_the_row_in_doubt_and_owes_a_look_up() -> None:
    """Looked up first, then the same bytes."""
    doubted = apply(row(), Attempt("worker", LOST, 1.0, 4.0), 4.0)
    assert (doubted.doubt_since, doubted.may_send_until, doubted.reason) == (1.0, 4.0, "connection lost")
    assert counted_as(doubted) == "unknown"
    assert next_step(doubted, 4.0) == LookUp()
    assert next_step(asked_about(doubted, NoneFound(), 4.0), 4.0) == Send()


def test_doubt_is_as_old_as_the_first_attempt_and_as_young_as_the_last() -> None:
    """Attempts that are heard of in any order leave the same times."""
    early, late = Attempt("worker", LOST, 1.0, 2.0), Attempt("worker", LOST, 5.0, 6.0)
    one = apply(apply(row(), early, 6.0), late, 6.0)
    other = apply(apply(row(), late, 6.0), early, 6.0)
    assert (one.doubt_since, one.may_send_until) == (other.doubt_since, other.may_send_until) == (1.0, 6.0)


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
    id_taken = sent(row(), TAKEN)
    assert is_in_doubt(id_taken)
    for answer in (NoneFound(), NoAnswer("HTTP 502")):
        assert next_step(asked_about(id_taken, answer), 1.0) == LookUp()


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
    assert (after.state, after.refusal, after.id_taken, after.code) == ("open", None, False, None)


@pytest.mark.parametrize("settled", [REJECTED_ROW, NOT_SENT_ROW, CONFLICT_ROW, REFUSED_ROW])
def test_a_late_doubt_opens_a_no_again(settled: Row) -> None:
    """Somebody else's body may have arrived: no "no" survives that, and it is said aloud."""
    after = sent(settled, LOST, 9.0, worker="another")
    assert (after.state, after.settled_at, after.doubt_since) == ("open", None, 9.0)
    assert after.contradiction == f"in doubt after {settled.state}"


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
            {"refusal": None, "refused_at": None, "control_seen_at": None, "may_send_until": 9.0, "arrivals": 2},
        ),
        (HEARD, REJECTED, {"refusal": ERRORS, "refused_at": 9.0, "control_seen_at": None, "reason": "refused"}),
        (HEARD, TAKEN, {"refusal": None, "control_seen_at": None, "id_taken": True, "reason": "foreign_id is taken"}),
        (
            HEARD,
            KeyRefused("bad_header_key"),
            {"code": "bad_header_key", "reason": "key refused", "needs_look_up": False},
        ),
        (
            CALM,
            MISMATCHED,
            {
                "id_taken": True,
                "differences": MISMATCHED.differences,
                "reason": "AlphaPo shows another withdrawal",
                "doubt_since": 9.0,
                "may_send_until": 9.0,
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
    id_taken = sent(row(), TAKEN)
    assert (sent(id_taken, REJECTED, 9.0).state, sent(id_taken, REJECTED, 9.0).refusal) == ("open", ERRORS)


def test_a_refusal_dates_from_when_its_body_began_to_leave() -> None:
    """Not from when its last byte could have left, nor from when it was heard."""
    assert apply(DOUBTED, Attempt("worker", REJECTED, 3.0, 5.0), 9.0).refused_at == 3.0
