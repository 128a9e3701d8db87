"""The row: what each piece of evidence adds to it, and what would help next."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from alphapo_async.core.codec import encode_body
from alphapo_async.core.comparison import Difference
from alphapo_async.core.evidence import Asked, Attempt, Control, Evidence, GivenUp, LookedUp, Revision
from alphapo_async.core.learning import learn, new_row
from alphapo_async.core.models import CryptoAddress, Money, Transaction, Withdrawal, WithdrawalRequest
from alphapo_async.core.outcome import (
    Accepted,
    Answer,
    Duplicate,
    Found,
    InDoubt,
    Mismatched,
    NoAnswer,
    NoneFound,
    NotSent,
    Proof,
    Refused,
    Rejected,
)
from alphapo_async.core.row import NO, Assumed, Row, bucket, is_in_doubt, withdrawal_of
from alphapo_async.core.steps import Done, LookUp, Send, Wait, next_step

HOUR, DAY = 3_600.0, 86_400.0
QUIET = Assumed().quiet


def revision(amount: str = "1", **fields: str) -> Revision:
    """Return the revision of a request with these changes."""
    asked = {"currency": "BTC", "address": "a", "foreign_id": "f", "end_user_reference": "u"} | fields
    payment = WithdrawalRequest(amount=amount, **asked)  # type: ignore[arg-type]
    return Revision(encode_body(payment), payment)


OURS, CORRECTED = revision(), revision("2")
ASKED = Asked("worker", OURS, "key")
TOLD = Withdrawal(id=7, foreign_id="f", status="processing")
ERRORS = {"amount": ["Not enough amount"]}
REJECTED = Rejected(ERRORS)
TAKEN = Duplicate({"foreign_id": ["has already been taken"]})
MISMATCHED = Mismatched(Withdrawal(id=8), (Difference("foreign_id", "f", None),))


def row(now: float = 0.0, *, is_durable: bool = True, asked: Asked = ASKED, **changes: Any) -> Row:
    """Return a new row with these changes."""
    return replace(new_row("default", "f", asked, now, is_durable=is_durable), **changes)


def sent(before: Row, proof: Proof, now: float = 0.0, worker: str = "worker") -> Row:
    """Return the row after a body that left and came home at once."""
    return learn(before, Attempt(worker, proof, now, now), now)


def asked_about(before: Row, answer: Answer, now: float = 0.0, worker: str = "worker") -> Row:
    """Return the row after a look-up."""
    return learn(before, LookedUp(worker, answer), now)


def found(status: str = "processing", *, amount: str | None = "1", currency: str = "BTC", address: str = "a") -> Found:
    """Return the answer that shows such a withdrawal; without an amount it shows neither figure nor address."""
    sent_money = None if amount is None else Money(currency, Decimal(amount))
    place = None if amount is None else CryptoAddress(address=address)
    return Found(Transaction(id=7, foreign_id="f", status=status, crypto_address=place, currency_sent=sent_money))


LOST = InDoubt("connection lost")
DOUBTED = sent(row(), LOST)
REJECTED_ROW = sent(row(), REJECTED, 5.0)
NOT_SENT_ROW = learn(row(), GivenUp("worker", "queue"), 5.0)
CONFLICT_ROW = asked_about(row(), found(amount="9", address="z"))
REFUSED_ROW = sent(row(), Refused("bad_header_key"))
ACCEPTED_ROW = sent(row(), Accepted(TOLD), 5.0)
FAILED_ROW = asked_about(DOUBTED, found("cancelled"))


# ── a new row ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_new_row_is_sent() -> None:
    """Nothing is known against it, and its worker holds it."""
    new = row(3.0)
    assert (new.state, new.holder, new.created_at, new.key) == ("open", "worker", 3.0, "key")
    assert next_step(new, 3.0) == Send()
    assert not is_in_doubt(new)
    assert bucket(new) == "open"


def test_a_row_attempted_before_is_in_doubt_from_the_start() -> None:
    """Asked about before it is sent, then sent."""
    new = row(3.0, asked=replace(ASKED, attempted_before=True))
    assert is_in_doubt(new)
    assert next_step(new, 3.0) == LookUp()
    assert next_step(asked_about(new, NoneFound(), 3.0), 3.0) == Send()


# ── what a reply to a body adds ──────────────────────────────────────────────────────────────────────────────────────


def test_an_acceptance_settles() -> None:
    """The withdrawal of the reply is kept, and nobody holds the row any more."""
    assert (ACCEPTED_ROW.state, ACCEPTED_ROW.settled_at, ACCEPTED_ROW.holder) == ("accepted", 5.0, None)
    assert ACCEPTED_ROW.withdrawal == TOLD
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
    assert (REFUSED_ROW.state, REFUSED_ROW.code, bucket(REFUSED_ROW)) == (
        "authentication",
        "bad_header_key",
        "not_sent",
    )


def test_a_lost_reply_leaves_the_row_in_doubt_and_owes_a_look_up() -> None:
    """Looked up first, then the same bytes."""
    doubted = learn(row(), Attempt("worker", LOST, 1.0, 4.0), 4.0)
    assert (doubted.doubt_since, doubted.may_send_until, doubted.reason) == (1.0, 4.0, "connection lost")
    assert bucket(doubted) == "unknown"
    assert next_step(doubted, 4.0) == LookUp()
    assert next_step(asked_about(doubted, NoneFound(), 4.0), 4.0) == Send()


def test_doubt_is_as_old_as_the_first_attempt_and_as_young_as_the_last() -> None:
    """Attempts that are heard of in any order leave the same times."""
    early, late = Attempt("worker", LOST, 1.0, 2.0), Attempt("worker", LOST, 5.0, 6.0)
    one = learn(learn(row(), early, 6.0), late, 6.0)
    other = learn(learn(row(), late, 6.0), early, 6.0)
    assert (one.doubt_since, one.may_send_until) == (other.doubt_since, other.may_send_until) == (1.0, 6.0)


def test_a_refusal_after_a_lost_reply_proves_nothing() -> None:
    """Nor does a refused key: the row stays in doubt, with what was heard."""
    for proof in (REJECTED, Refused("bad_header_key")):
        after = sent(DOUBTED, proof, 1.0)
        assert (after.state, after.doubt_since) == ("open", 0.0)
    assert sent(DOUBTED, REJECTED, 1.0).refusal == ERRORS
    assert sent(DOUBTED, Refused("bad_header_key"), 1.0).code == "bad_header_key"


def test_a_refused_key_after_a_blamed_foreign_id_leaves_the_row_open() -> None:
    """AlphaPo has something under the id; whose it is, a key cannot say."""
    assert sent(sent(row(), TAKEN), Refused("bad_header_key")).state == "open"


def test_a_blamed_foreign_id_is_never_followed_by_a_body() -> None:
    """Only look-ups follow, whatever they answer."""
    blamed = sent(row(), TAKEN)
    assert is_in_doubt(blamed)
    for answer in (NoneFound(), NoAnswer("HTTP 502")):
        assert next_step(asked_about(blamed, answer), 1.0) == LookUp()


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


@pytest.mark.parametrize("proof", [NotSent("no connection"), REJECTED, TAKEN, Refused("bad_header_key")])
def test_a_settled_row_does_not_hear_a_no(proof: Proof) -> None:
    """Neither an accepted one nor one that was refused before."""
    for settled in (ACCEPTED_ROW, REJECTED_ROW):
        assert sent(settled, proof).state == settled.state


@pytest.mark.parametrize("proof", [REJECTED, TAKEN, Refused("bad_header_key")])
def test_a_no_counts_from_the_holder_only(proof: Proof) -> None:
    """Another worker's refusal says nothing about what the holder sends."""
    after = sent(row(), proof, worker="another")
    assert (after.state, after.refusal, after.blamed, after.code) == ("open", None, False, None)


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


# ── what a look-up adds ──────────────────────────────────────────────────────────────────────────────────────────────


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


def test_in_doubt_too_little_told_is_ours() -> None:
    """Nothing disagrees, and we know that we sent it."""
    assert asked_about(DOUBTED, found(amount=None)).state == "accepted"


def test_never_in_doubt_too_little_told_proves_nothing() -> None:
    """A row that never sent anything needs amount and currency before it takes a withdrawal for its own."""
    after = asked_about(row(), found(amount=None))
    assert (after.state, after.blamed, after.reason) == ("open", True, "AlphaPo shows too little")


def test_after_a_blamed_foreign_id_the_address_is_needed_too() -> None:
    """Amount and currency alone may be another's."""
    without_address = Found(replace(found().transaction, crypto_address=None))
    assert asked_about(sent(row(), TAKEN), without_address).state == "open"
    assert asked_about(row(), without_address).state == "accepted"
    assert asked_about(sent(row(), TAKEN), found()).state == "accepted"


def test_two_differences_without_doubt_are_a_conflict() -> None:
    """The id is another payment's, and ours was not and will not be paid under it."""
    assert (CONFLICT_ROW.state, [one.field for one in CONFLICT_ROW.differences]) == ("conflict", ["address", "amount"])
    assert CONFLICT_ROW.transaction is not None


def test_two_differences_in_doubt_stay_in_doubt() -> None:
    """Ours may have arrived: whoever decides sees the differences."""
    after = asked_about(DOUBTED, found(amount="9", address="z"))
    assert (after.state, after.blamed, len(after.differences)) == ("open", True, 2)
    assert after.reason == "AlphaPo shows another withdrawal"


def test_a_conflict_is_said_to_the_holder_only() -> None:
    """A conflict is a "no": from another worker it only blames the id."""
    after = asked_about(row(), found(amount="9", address="z"), worker="another")
    assert (after.state, after.blamed) == ("open", True)


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
        assert asked_about(settled, NoneFound()) == replace(settled, look_ups=1)


def test_no_answer_lets_the_same_bytes_follow() -> None:
    """A look-up that fails must not stop a retry, and asks for its own pause."""
    after = asked_about(DOUBTED, NoAnswer("throttled", 429, retry_after=10.0), 1.0)
    assert next_step(after, 5.0) == Wait(11.0)
    assert next_step(after, 11.0) == Send()


def test_no_answer_adds_nothing_to_a_settled_row() -> None:
    """Only the count."""
    assert asked_about(ACCEPTED_ROW, NoAnswer("HTTP 502")) == replace(ACCEPTED_ROW, look_ups=1)


def test_a_row_of_which_only_the_digest_is_kept_learns_nothing_from_a_look_up() -> None:
    """There is nothing to compare with, and the row was settled long ago."""
    old = row(revision=Revision(b"", None, kept_digest=OURS.digest), state="accepted", holder=None)
    assert asked_about(old, found("cancelled")) == replace(old, look_ups=1)


# ── two witnesses ────────────────────────────────────────────────────────────────────────────────────────────────────


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


# ── the quiet exit ───────────────────────────────────────────────────────────────────────────────────────────────────


def refused_in_doubt(at: float) -> Row:
    """Return a row whose first body was lost at 0, whose second was refused then, and whose look-up said none."""
    return asked_about(sent(asked_about(DOUBTED, NoneFound()), REJECTED, at), NoneFound(), at)


def test_a_refusal_before_the_quiet_time_is_over_waits_for_its_end() -> None:
    """The same bytes would prove nothing sooner; then they are sent again."""
    early = refused_in_doubt(10.0)
    assert next_step(early, 10.0) == Wait(QUIET)
    assert next_step(early, QUIET) == Send()


def test_the_quiet_exit() -> None:
    """Quiet, refused, none, a control newer than all that, none again: rejected, and only then."""
    refused = refused_in_doubt(QUIET)
    assert next_step(refused, QUIET) == LookUp(accepted_after=QUIET)
    seen = learn(refused, Control("worker", QUIET + 1), QUIET + 2)
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
        (refused_in_doubt(QUIET), Control("worker", QUIET)),  # not newer than what may have been accepted late
        (refused_in_doubt(QUIET), Control("another", QUIET + 1)),  # not the holder
        (refused_in_doubt(10.0), Control("worker", QUIET + 1)),  # refused too early
        (DOUBTED, Control("worker", QUIET + 1)),  # never refused
        (replace(refused_in_doubt(QUIET), blamed=True), Control("worker", QUIET + 1)),  # AlphaPo knows the id
        (ACCEPTED_ROW, Control("worker", QUIET + 1)),  # settled
    ],
)
def test_a_control_that_proves_nothing_adds_nothing(before: Row, control: Control) -> None:
    """Each condition of the quiet exit is needed."""
    assert learn(before, control, QUIET + 2) is before


def test_a_new_doubt_ends_the_way_out() -> None:
    """Another lost body after the refusal, and it all starts again."""
    seen = learn(refused_in_doubt(QUIET), Control("worker", QUIET + 1), QUIET + 2)
    again = sent(seen, LOST, QUIET + 3)
    assert (again.refusal, again.refused_at, again.control_at) == (None, None, None)
    assert asked_about(again, NoneFound(), QUIET + 4).state == "open"


def test_the_quiet_exit_is_closed_once_alphapo_may_have_freed_the_id() -> None:
    """Then a "none" may be said of what was paid: only an acceptance, a callback or a person can end the doubt."""
    refused = refused_in_doubt(DAY - 10)
    seen = learn(refused, Control("worker", DAY - 5), DAY - 5)
    assert asked_about(seen, NoneFound(), DAY).state == "rejected"
    assert asked_about(seen, NoneFound(), DAY + 1).state == "open"
    assert next_step(refused, DAY + 1) == LookUp()


def test_an_old_doubt_is_only_looked_up() -> None:
    """No body leaves that could arrive when AlphaPo may have freed the id: a day, less the quiet time and one attempt."""
    doubted = asked_about(DOUBTED, NoneFound())
    last = DAY - QUIET - Assumed().attempt_timeout
    assert next_step(doubted, last) == Send()
    assert next_step(doubted, last + 1) == LookUp()


# ── a caller asks ────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_held_row_is_not_taken() -> None:
    """Whoever holds it works on it."""
    assert learn(row(), replace(ASKED, worker="another"), 1.0) == row()


def test_a_row_that_nobody_holds_is_taken_on() -> None:
    """In doubt it keeps the key that it was sent with, and is looked up first; without doubt it takes the new key."""
    asked = Asked("another", OURS, "new key")
    doubted = learn(learn(DOUBTED, GivenUp("worker", ""), 1.0), asked, 2.0)
    assert (doubted.holder, doubted.key, next_step(doubted, 2.0)) == ("another", "key", LookUp())
    fresh = learn(row(holder=None), asked, 2.0)
    assert (fresh.holder, fresh.key, next_step(fresh, 2.0)) == ("another", "new key", Send())


def test_asking_again_forgets_an_old_pause() -> None:
    """A pause that AlphaPo asked for binds the flight that heard it; the client's pace remembers the rest."""
    throttled = sent(row(), NotSent("throttled", retry_after=30.0))
    assert learn(throttled, ASKED, 1.0).not_before == 0.0


def test_another_payment_does_not_touch_an_open_row() -> None:
    """Same foreign_id, other amount: unchanged, and the caller is told of a conflict."""
    for before in (row(), DOUBTED):
        assert learn(before, Asked("worker", CORRECTED, "key"), 1.0) is before


@pytest.mark.parametrize("settled", [ACCEPTED_ROW, FAILED_ROW])
def test_what_alphapo_had_is_never_opened_again(settled: Row) -> None:
    """Neither for the same payment nor for another."""
    for asked in (ASKED, Asked("worker", CORRECTED, "key"), replace(ASKED, resend_rejected=True)):
        assert learn(settled, asked, 9.0) is settled


@pytest.mark.parametrize("settled", [REJECTED_ROW, CONFLICT_ROW])
def test_a_sticky_no_is_told_again_unless_asked_otherwise(settled: Row) -> None:
    """The same payment is sent again only with resend_rejected."""
    assert learn(settled, ASKED, 9.0) is settled
    again = learn(settled, replace(ASKED, resend_rejected=True), 9.0)
    assert (again.state, again.holder, again.refusal, again.differences) == ("open", "worker", None, ())
    assert next_step(again, 9.0) == Send()


@pytest.mark.parametrize("settled", [NOT_SENT_ROW, REFUSED_ROW])
def test_what_never_arrived_is_sent_again(settled: Row) -> None:
    """The same bytes, under the key of today."""
    again = learn(settled, replace(ASKED, key="new key"), 9.0)
    assert (again.state, again.key, again.code, again.settled_at) == ("open", "new key", None, None)
    assert again.revision is settled.revision
    assert next_step(again, 9.0) == Send()


@pytest.mark.parametrize("settled", [REJECTED_ROW, NOT_SENT_ROW, CONFLICT_ROW, REFUSED_ROW])
def test_another_payment_after_a_no_is_the_next_revision(settled: Row) -> None:
    """The earlier one is kept."""
    after = learn(settled, Asked("worker", CORRECTED, "key"), 9.0)
    assert (after.state, after.revision.body, after.revision.number) == ("open", CORRECTED.body, 2)
    assert after.earlier == (settled.revision,)


def test_a_forgotten_body_is_written_anew_under_a_new_number() -> None:
    """It was definitely refused, and only its digest is on record."""
    old = replace(NOT_SENT_ROW, revision=Revision(b"", None, 3, OURS.digest))
    after = learn(old, ASKED, 9.0)
    assert (after.revision.body, after.revision.number) == (OURS.body, 4)


# ── letting go ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_giving_up_without_doubt_is_not_sent() -> None:
    """With the reason."""
    assert (NOT_SENT_ROW.state, NOT_SENT_ROW.reason, NOT_SENT_ROW.holder) == ("not_sent", "queue", None)


@pytest.mark.parametrize("before", [DOUBTED, sent(row(), TAKEN), sent(row(is_durable=False), REJECTED)])
def test_giving_up_in_doubt_leaves_the_row_open_to_anybody(before: Row) -> None:
    """Nothing is said that is not known."""
    after = learn(before, GivenUp("worker", "queue"), 9.0)
    assert (after.state, after.holder, bucket(after)) == ("open", None, "unknown")


def test_only_the_holder_can_let_go() -> None:
    """Anybody else's word changes nothing."""
    before = row()
    assert learn(before, GivenUp("another", "queue"), 9.0) is before
    assert learn(ACCEPTED_ROW, GivenUp("worker", "queue"), 9.0) is ACCEPTED_ROW


# ── what it is told as ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("settled", "name"),
    [
        (ACCEPTED_ROW, "accepted"),
        (FAILED_ROW, "failed"),
        (REJECTED_ROW, "rejected"),
        (NOT_SENT_ROW, "not_sent"),
        (REFUSED_ROW, "not_sent"),
        (CONFLICT_ROW, "conflict"),
    ],
)
def test_a_settled_row_counts_in_the_sum_of_its_outcome(settled: Row, name: str) -> None:
    """A refused key counts with what was not sent."""
    assert bucket(settled) == name
    assert not is_in_doubt(settled)


def test_the_witness_is_named() -> None:
    """The same withdrawal, as told by whoever tells it now; none where none is known."""
    told = withdrawal_of(ACCEPTED_ROW, "journal")
    assert told == replace(TOLD, source="journal")
    assert withdrawal_of(row(), "journal") is None


# ── anything, in any order ───────────────────────────────────────────────────────────────────────────────────────────

workers = st.sampled_from(["worker", "another"])
times = st.sampled_from([0.0, 1.0, QUIET, QUIET + 1, DAY, DAY + QUIET])
proofs = st.sampled_from(
    [Accepted(TOLD), LOST, MISMATCHED, REJECTED, TAKEN, Refused("bad_header_key"), NotSent("no connection")]
)
looked = st.sampled_from(
    [
        *(found(status) for status in ("processing", "confirmed", "cancelled")),
        found(amount="9", address="z"),
        NoneFound(),
    ]
)
anything: st.SearchStrategy[Evidence] = st.one_of(
    st.builds(Asked, workers, st.sampled_from([OURS, CORRECTED]), st.just("key"), st.booleans()),
    st.builds(Attempt, workers, proofs, times, times),
    st.builds(LookedUp, workers, looked),
    st.builds(Control, workers, times),
    st.builds(GivenUp, workers, st.just("queue")),
)


@given(st.lists(st.tuples(anything, times), max_size=12), st.booleans())
def test_whatever_is_heard_in_whatever_order_the_row_stays_sound(
    story: list[tuple[Evidence, float]],
    is_durable: bool,  # noqa: FBT001 - drawn
) -> None:
    """Even evidence that no honest AlphaPo gives: what is proved is never lost, and no "no" comes out of doubt by itself."""
    known = row(is_durable=is_durable)
    for evidence, now in story:
        before, known = known, learn(known, evidence, now)
        next_step(known, now)
        assert known.holder is None or known.state == "open"
        if before.state in ("accepted", "failed"):
            assert known.state in ("accepted", "failed")
        if before.withdrawal is not None and before.withdrawal.status == "confirmed":
            assert known.withdrawal == before.withdrawal
        if before.doubt_since is not None and before.state == "open" and known.state in NO:
            assert isinstance(evidence, LookedUp)
            assert before.control_at is not None
        if known.revision is not before.revision:
            assert before.state in NO
            assert known.revision.number > before.revision.number
