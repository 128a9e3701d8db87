"""How evidence changes a row: `apply(row, evidence, now) -> row`. Pure; every change of a row is decided here.

A caller's flight, a worker, `resume`, a callback and the operator add their evidence here; `next_step.next_step(row, now)` returns what
would help next. The rules, in the order in which they bind:

1. Evidence that AlphaPo has the withdrawal is taken from any source, at any time, and beats an earlier "no"; that is then a
   contradiction. An open row is matched by its fields: nothing disagrees, and enough is given. An accepted or failed row is matched by
   AlphaPo's id, since AlphaPo gives no figures of a conversion that it cancelled
   (https://docs.cryptoprocessing.com/api-reference/endpoints/transactions-info). `confirmed` beats every other status.
   `cancelled` and `declined` settle the row only where no second attempt may still arrive, since AlphaPo may have freed the foreign_id.
   Otherwise nothing is sent, and a look-up that begins `quiet` seconds after the last byte must still show the withdrawal as ended.
2. A "no" is taken from the row's holder only, and settles the row only while no attempt is in doubt: after an attempt that may have
   arrived, a later refusal proves nothing about it. A holder that disappears may have sent until its lease ended: that is a doubt. An id
   that is new to a journal which may have forgotten it (one in memory, or one that went back) needs a look-up answered "none" as well.
3. Two things end a doubt: an acceptance, or the quiet exit. The quiet exit has five steps, in this order, and is closed where a reply
   ever blamed foreign_id or another key may have been used: no byte could leave for `quiet` seconds; the same bytes are refused; a control
   (a look-up with the same key) shows another withdrawal that AlphaPo accepted since; a look-up of the row is answered "none"; all that
   before AlphaPo may have freed the id (`resend_within`).
4. "Not found" alone proves nothing.
5. When the journal went back in time, an open row of an earlier epoch is frozen (looked up, and not sent until a caller asks again), a
   "no" of an earlier epoch counts again only after a look-up answered "none", and an id that is new to the journal is looked up first.
"""

from __future__ import annotations

from typing import Any, Final, assert_never

import msgspec
from msgspec.structs import replace

from alphapo_async.core.comparison import Comparison, Difference, compare, compare_reply
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
    Unfrozen,
)
from alphapo_async.core.models import ENDED, Money, Source, Transaction, Withdrawal, WithdrawalRequest, has_conversion
from alphapo_async.core.replies import (
    Accepted,
    Duplicate,
    Found,
    InDoubt,
    KeyRefused,
    Mismatched,
    NoAnswer,
    NoneFound,
    NotSent,
    Rejected,
)
from alphapo_async.core.row import (
    CORRECTABLE_STATES,
    MANY,
    NEGATIVE_STATES,
    QUIET,
    REFRESH_AFTER,
    STICKY_STATES,
    WENT_BACK,
    Assumptions,
    Epoch,
    Row,
    State,
    has_expired,
    is_by_hand,
    is_ended,
    is_fresh,
    is_frozen,
    is_in_doubt,
    is_new_since_rollback,
    is_refused_after,
    is_stale_no,
    may_have_forgotten,
    put_in_doubt,
    quiet_ends_at,
    seen_in,
    settle,
)

__all__ = [
    "SHOWS_ANOTHER",
    "TOO_LITTLE",
    "apply",
    "is_another",
    "is_older",
    "may_be_on_its_way",
    "new_row",
    "why_not_ours",
    "withdrawal_from",
]

SHOWS_ANOTHER: Final = "AlphaPo shows another withdrawal"
TOO_LITTLE: Final = "AlphaPo shows too little"
_LONGEST_WAIT: Final = 86_400.0
"""Seconds that a row waits at most when AlphaPo asks to wait: with a date in the next century no worker would come back to the row."""
_ASSUMPTIONS = Assumptions()
_FIRST_EPOCH = Epoch()


def apply(row: Row, evidence: Evidence, now: float, assumptions: Assumptions = _ASSUMPTIONS) -> Row:  # noqa: C901, PLR0911, PLR0912 - a table
    """Return the row with this evidence added; the same row where it adds nothing."""
    match evidence:
        case Attempt():
            return _apply_attempt(row, evidence, now, assumptions)
        case LookedUp():
            return _apply_look_up(row, evidence, now, assumptions)
        case CalledBack():
            return _apply_callback(row, evidence, now, assumptions)
        case Requested():
            return _apply_request(row, evidence, now)
        case Claimed():
            return _apply_claim(row, evidence, now) if is_fresh(row) else row
        case Returned(worker, claim):
            return _returned(row) if row.holder == worker and row.claim == claim > 0 else row
        case Released():
            return _apply_release(row, evidence, now)
        case LeaseExpired():
            return _apply_lease_expiry(row, evidence)
        case ControlFound():
            return _apply_control(row, evidence, now, assumptions)
        case OperatorDecision():
            return _apply_decision(row, evidence, now, assumptions)
        case Remembered():
            return _apply_remembered(row, evidence, now, assumptions)
        case Unfrozen():
            return _apply_unfrozen(row, now)
        case Redated():
            return replace(row, settled_at=now, settled_by=evidence.worker) if row.state in NEGATIVE_STATES else row
        case Reported():
            return replace(row, reported=True) if not row.reported and _is_about(evidence, row) else row
        case _:
            assert_never(evidence)


def _is_about(reported: Reported, row: Row) -> bool:
    """Return whether the row still has the reported outcome: no caller has requested the payment again since."""
    if row.state == "open" or (row.state == "not_sent" and reported.leaves_not_sent):
        return False
    was_reported = (reported.state, reported.revision, reported.expires_at)
    return reported.state is None or was_reported == (row.state, row.revision.number, row.expires_at)


# ── requests: who works on a row, how it is taken on, reopened, corrected and released ─────────────────────────────────


def new_row(
    account: str,
    foreign_id: str,
    asked: Requested,
    now: float,
    *,
    is_durable: bool,
    epoch: Epoch = _FIRST_EPOCH,
    assumptions: Assumptions = _ASSUMPTIONS,
    lines: int = 0,
) -> Row:
    """Return the row of a withdrawal that is new to the journal, with so many lines in its history.

    A journal that may have forgotten the id has it looked up first. If no caller waits for it any more, such a row is frozen: another
    caller may have received a "no" that the journal has forgotten.
    """
    row = Row(
        account=account,
        foreign_id=foreign_id,
        revision=asked.revision,
        key_fingerprint=asked.key,
        created_at=now,
        expires_at=asked.expires_at,
        stays_open=asked.worker is None,
        reported=asked.is_awaited,
        epoch=epoch.number,
        earlier_request_possible=not is_durable,
        holder=asked.worker,
        held_since=0.0 if asked.worker is None else now,
        lines=lines,
    )
    if assumptions.quiet != QUIET:
        row = replace(row, quiet=assumptions.quiet)
    if assumptions.refresh_after != REFRESH_AFTER:
        row = replace(row, refresh_after=assumptions.refresh_after)
    is_forgetful = epoch.since is not None and may_have_forgotten(epoch, now, assumptions)
    if is_forgetful:
        row = replace(row, earlier_request_possible=True, needs_look_up=True, arrivals=MANY, could_leave_until=now)
    if asked.attempted_before:
        row = _attempted_before(row, asked, now)
    if is_forgetful and not asked.is_request:
        row = seen_in(replace(row, epoch=epoch.number - 1), epoch)
    return row


def _held(row: Row, asked: Requested, now: float) -> Row:
    if asked.worker is None:
        return row
    return replace(row, holder=asked.worker, held_since=now, claim=0)


def _apply_request(row: Row, asked: Requested, now: float) -> Row:
    """Return the row held by the worker that asks, reopened or corrected where that is allowed.

    Unchanged where another worker holds it, where it is settled, and where the request is for another payment.
    """
    is_same = row.revision.is_same_payment(asked.revision)
    if is_same and asked.is_request:
        row = _thaw(row, has_other_keys=asked.has_other_keys)
    if is_same and asked.attempted_before and (row.earlier_request_possible or _was_new_to_the_journal(row, asked)):
        row = _attempted_before(row, asked, now)
    if is_same and row.holder is not None and row.holder == asked.worker:
        # A claim whose answer is on its way took it, or an earlier flight of this worker could not record its end.
        row = _returned(row) if row.claim > asked.begun else _lapsed(row, now)
    if row.state == "open":
        return _asked_while_open(row, asked, now) if is_same else row
    return _asked_again(row, asked, now) if row.holder is None and row.state in NEGATIVE_STATES else row


def _asked_again(row: Row, asked: Requested, now: float) -> Row:
    """Return the row after a request for a withdrawal whose last word is a "no"."""
    if not row.revision.is_same_payment(asked.revision):
        return _taken_over(row, asked, now)
    is_sticky = row.state in STICKY_STATES and not asked.resend_rejected
    if is_stale_no(row):
        # A request from before the "no" may reach the journal in a later epoch: the caller of that "no" relies on it all the same.
        return row if is_sticky or not asked.is_request or _is_answered_by(row, asked) else _reopened(row, asked, now)
    if is_sticky or _is_answered_by(row, asked):
        # It is reported once more, and must stay true until the caller has it: it answers every request made before now.
        return replace(row, settled_at=now, settled_by=asked.requested_by)
    return _reopened(row, asked, now)


def _is_answered_by(row: Row, asked: Requested) -> bool:
    """Return whether the "no" was recorded after this request was made: then it may have been reported, and must stay true.

    If another worker recorded it, by another clock, a "no" from up to `no_counts_later_by` earlier counts as later, too.
    """
    if asked.requested_at is None or row.settled_at is None:
        return False
    is_one_clock = asked.requested_by is not None and asked.requested_by == row.settled_by
    unsure = 0.0 if is_one_clock else asked.no_counts_later_by
    return asked.requested_at < row.settled_at + unsure


def _taken_over(row: Row, asked: Requested, now: float) -> Row:
    """Return the row with another payment as its next revision; unchanged where that is a conflict.

    A "no" that is recorded while the call waits does not answer it: it is about another payment. But where the row held the asked payment
    in an earlier revision, that revision's own "no" was reported, and a call from before the latest "no" must not undo it.
    """
    if row.state not in CORRECTABLE_STATES:
        return _adopted(row, asked, now)
    was_held_before = any(earlier.is_same_payment(asked.revision) for earlier in row.earlier)
    is_older = asked.requested_at is not None and row.settled_at is not None and asked.requested_at < row.settled_at
    return row if was_held_before and is_older else _corrected(row, asked, now)


def _adopted(row: Row, asked: Requested, now: float) -> Row:
    """Return the row with the payment that AlphaPo shows under its foreign_id: only look-ups follow. Any other payment is a conflict."""
    shown, payment = row.transaction, asked.revision.payment
    if shown is None or payment is None or not compare(payment, shown).is_ours(payment, was_in_doubt=False):
        return row
    return replace(_corrected(row, asked, now), look_ups_only=True, needs_look_up=True, transaction=shown)


def _was_new_to_the_journal(row: Row, asked: Requested) -> bool:
    """Return whether a call that did not know of earlier attempts recorded the row after this request was made."""
    return asked.requested_at is not None and row.created_at >= asked.requested_at - asked.no_counts_later_by


def _attempted_before(row: Row, asked: Requested, now: float) -> Row:
    """Return the row in doubt: an earlier process may have sent it, which a journal that ends with its process cannot know."""
    if row.doubt_since is not None and row.state == "open":
        return row
    return replace(
        put_in_doubt(row, now, now, "attempted before"),
        earlier_request_possible=False,
        other_key_possible=asked.has_other_keys,
    )


def _asked_while_open(row: Row, asked: Requested, now: float) -> Row:
    if asked.worker is None:
        return _left_to_workers(row, asked)
    return row if row.holder is not None else _taken_on(row, asked, now)


def _left_to_workers(row: Row, asked: Requested) -> Row:
    """Return an open row enqueued: a call that holds it does not settle it without AlphaPo's answer. A second time changes nothing."""
    if row.expires_at is not None:
        return row
    return replace(row, expires_at=asked.expires_at, stays_open=True, reported=asked.is_awaited)


def _apply_claim(row: Row, claimed: Claimed, now: float) -> Row:
    """Return a fresh row held by the worker that claimed it. Whether it has expired is looked at when it begins."""
    return replace(
        row,
        holder=claimed.worker,
        held_since=now,
        claim=claimed.number,
        key_fingerprint=claimed.key,
        code=None,
        reason="",
        stays_open=True,
        reported=False,
        not_before=0.0,
    )


def _returned(row: Row) -> Row:
    """Return a claimed row free again: nothing of it was sent."""
    return replace(row, holder=None, claim=0)


def _taken_on(row: Row, asked: Requested, now: float) -> Row:
    if has_expired(row, now):
        return settle(replace(row, reason="expired"), "not_sent", now)
    return replace(
        _held(row, asked, now),
        key_fingerprint=row.key_fingerprint if row.doubt_since is not None else asked.key,
        code=None,
        stays_open=True,
        needs_look_up=row.needs_look_up or is_in_doubt(row),
        reported=asked.is_awaited,
        not_before=0.0,
    )


def _reopened(row: Row, asked: Requested, now: float) -> Row:
    """Return the row open again and not in doubt, as its "no" has proved.

    A stale "no" proves nothing: the row is then treated like an id that is new to the journal.
    """
    is_stale = is_stale_no(row)
    revision, earlier = row.revision, row.earlier
    if revision.payment is None:
        # Its bytes were pruned. They were definitely refused: new bytes of the same payment may follow.
        revision, earlier = replace(asked.revision, number=revision.number + 1), (*earlier, revision)
    opened = replace(
        row,
        revision=revision,
        earlier=earlier,
        state="open",
        epoch=max(row.epoch, row.journal_epoch.number),
        earlier_request_possible=row.earlier_request_possible or is_stale,
        settled_at=None,
        settled_by=None,
        key_fingerprint=asked.key,
        expires_at=asked.expires_at,
        stays_open=asked.worker is None,
        reported=asked.is_awaited,
        doubt_since=None,
        could_leave_until=now if is_stale else None,
        arrivals=MANY if is_stale else 0,
        look_ups_only=False,
        needs_look_up=is_stale,
        other_key_possible=False,
        refusal=None,
        refused_at=None,
        control_seen_at=None,
        not_before=0.0,
        reason="",
        code=None,
        differences=(),
        decision=None,
    )
    return _held(opened, asked, now)


def _corrected(row: Row, asked: Requested, now: float) -> Row:
    """Return the row with the requested payment as its next revision; the earlier one is kept."""
    revision = replace(asked.revision, number=row.revision.number + 1)
    return replace(_reopened(row, asked, now), revision=revision, earlier=(*row.earlier, row.revision))


def _apply_lease_expiry(row: Row, lapsed: LeaseExpired) -> Row:
    """Return the row released for a worker that disappeared; until its lease ends that worker may still send."""
    return _lapsed(row, lapsed.until) if row.holder == lapsed.worker else row


def _lapsed(row: Row, until: float) -> Row:
    """Return the row released and in doubt: its holder may have sent until then, and will not report it."""
    return replace(put_in_doubt(row, row.held_since, until, "its worker is gone"), holder=None, claim=0)


def _apply_release(row: Row, given_up: Released, now: float) -> Row:
    """Return the row released: open if it is in doubt, or if a worker may still send it; otherwise settled as not sent."""
    if row.holder != given_up.worker:
        return row
    is_sent_later = given_up.stays_open or (row.stays_open and not has_expired(row, now))
    if row.state != "open" or is_in_doubt(row) or is_sent_later:
        return replace(row, holder=None, claim=0, checked_at=now)
    return settle(replace(row, reason=given_up.reason), "not_sent", now)


def _apply_decision(row: Row, decision: OperatorDecision, now: float, assumptions: Assumptions) -> Row:
    """Return the row settled by an operator, if it is open and no worker works on it; or with an earlier decision amended.

    Later evidence from AlphaPo beats both, as a contradiction.
    """
    is_worked_on = row.holder is not None or (row.could_leave_until is not None and now < row.could_leave_until)
    is_due = is_by_hand(row) if decision.is_correction else row.state == "open"
    if is_worked_on or not is_due:
        return row
    state: State = "accepted" if decision.is_accepted else "rejected"
    decided = replace(row, decision=decision.text, withdrawal=None)
    if decision.is_correction and state != row.state:
        # A caller may have relied on the earlier decision: `resume` reports this one.
        decided = replace(decided, reported=False, contradiction=f"{state} after {row.state}")
    if not decision.is_accepted:
        return settle(decided, state, now, reaffirmed_in=row.journal_epoch.number)
    typed = Withdrawal(id=decision.id, foreign_id=row.foreign_id, source="journal")
    return _merge_withdrawal(decided, typed, None, _Sight(now, assumptions))


# ── attempts: what the reply to a body adds ────────────────────────────────────────────────────────────────────────────


def _apply_attempt(row: Row, attempt: Attempt, now: float, assumptions: Assumptions) -> Row:
    """Return the row after a body that was sent, or should have been."""
    proof, sight = attempt.proof, _Sight(now, assumptions, attempt.worker)
    match proof:
        case Accepted():
            return _replied(_arrived(row, attempt), proof.withdrawal, sight)
        case InDoubt():
            return _doubted(row, attempt, proof.reason)
        case Mismatched() if _is_known(row):
            return _replied(_arrived(row, attempt), proof.withdrawal, sight)
        case Mismatched():
            return _mismatched(_doubted(row, attempt, SHOWS_ANOTHER), proof)
        case NotSent():
            return _not_sent(row, proof, now)
        case Rejected() | Duplicate() | KeyRefused():
            return _refused(_counted(row), attempt, proof, now)
        case _:
            assert_never(proof)


def _doubted(row: Row, attempt: Attempt, reason: str) -> Row:
    """Return the row after an attempt that may have arrived.

    A caller may rely on a "no" that was recorded meanwhile, so that the row is never sent again by itself. An attempt that ended within the
    doubt which that "no" has ended is no news. Any other attempt opens the row again, for look-ups only.
    """
    if row.state in NEGATIVE_STATES and row.could_leave_until is not None and attempt.until <= row.could_leave_until:
        return _counted(row)
    doubtful = put_in_doubt(_counted(row), attempt.began, attempt.until, reason, 1)
    return replace(doubtful, look_ups_only=True) if row.state in NEGATIVE_STATES else doubtful


def _counted(row: Row) -> Row:
    return replace(row, attempts=row.attempts + 1)


def _arrived(row: Row, attempt: Attempt) -> Row:
    """Return the row with an attempt that arrived; one of a settled row was counted when AlphaPo's evidence settled it."""
    if row.state in ("accepted", "failed"):
        return _counted(row)
    until = max(row.could_leave_until or 0.0, attempt.until)
    return replace(row, attempts=row.attempts + 1, arrivals=row.arrivals + 1, could_leave_until=until)


def _replied(row: Row, withdrawal: Withdrawal, sight: _Sight) -> Row:
    """Return the row after a reply with a withdrawal: its foreign_id is enough, unless AlphaPo gave the withdrawal's id before."""
    payment = row.revision.payment
    if payment is None or row.withdrawal is None or not _is_known(row):
        return _merge_withdrawal(row, withdrawal, None, sight)
    return _merge_shown(row, withdrawal, None, compare_reply(payment, withdrawal), sight)


def _mismatched(row: Row, proof: Mismatched) -> Row:
    return replace(row, look_ups_only=True, differences=proof.differences) if row.state == "open" else row


def _not_sent(row: Row, proof: NotSent, now: float) -> Row:
    if row.state != "open":
        return row
    attempts = row.attempts + proof.is_throttled
    reason = proof.reason if row.doubt_since is None else row.reason
    return replace(row, attempts=attempts, not_before=_waits_until(row, proof.retry_after, now), reason=reason)


def _waits_until(row: Row, retry_after: float | None, now: float) -> float:
    """Return until when nothing is sent or asked, after AlphaPo has asked to wait for so many seconds."""
    wait = min(retry_after or 0.0, _LONGEST_WAIT)
    return max(row.not_before, now + wait)


def _refused(row: Row, attempt: Attempt, proof: Rejected | Duplicate | KeyRefused, now: float) -> Row:
    """Return the row after a "no": it counts from the holder only, and only about what was sent before it."""
    if row.state != "open" or row.holder != attempt.worker:
        return row
    match proof:
        case Duplicate():
            return replace(
                row,
                look_ups_only=True,
                needs_look_up=True,
                refusal=None,
                control_seen_at=None,
                reason="foreign_id is taken",
            )
        case KeyRefused():
            refused = replace(row, code=proof.code, reason="key refused")
            stays_open = (
                row.doubt_since is not None or row.look_ups_only or row.stays_open or is_new_since_rollback(row)
            )
            return refused if stays_open else settle(refused, "key_refused", now)
        case Rejected():
            return _rejected(row, attempt, proof, now)
        case _:
            assert_never(proof)


def _rejected(row: Row, attempt: Attempt, proof: Rejected, now: float) -> Row:
    refused = replace(row, refusal=proof.errors, refused_at=attempt.began, control_seen_at=None, reason="refused")
    if row.doubt_since is None and not row.look_ups_only and not row.earlier_request_possible:
        return settle(refused, "rejected", now)
    return replace(refused, needs_look_up=True)


# ── look-ups: what an answer by foreign_id adds ────────────────────────────────────────────────────────────────────────


def _apply_look_up(row: Row, looked_up: LookedUp, now: float, assumptions: Assumptions) -> Row:
    """Return the row after an answer, or the lack of one."""
    answer = looked_up.answer
    counted = replace(row, look_ups=row.look_ups + 1, checked_at=now)
    match answer:
        case Found():
            return _apply_found(counted, looked_up, answer.transaction, now, assumptions)
        case NoneFound():
            return _apply_none_found(counted, looked_up.worker, now, assumptions)
        case NoAnswer():
            return _apply_no_answer(counted, answer, now)
        case _:
            assert_never(answer)


def _apply_found(row: Row, looked_up: LookedUp, transaction: Transaction, now: float, assumptions: Assumptions) -> Row:
    payment = row.revision.payment
    if payment is None:
        return row  # settled long ago; only its digest is kept
    if row.state == "conflict":
        row = _reaffirmed(row, looked_up.worker, now)
    comparison = compare(payment, transaction)
    # What a journal that went back may have forgotten can be ours, shown in another form.
    is_clean = not (row.doubt_since is not None or _is_known(row) or is_new_since_rollback(row))
    if row.state == "open" and comparison.is_other and is_clean and row.holder == looked_up.worker:
        other = replace(row, transaction=transaction, differences=comparison.differences)
        return settle(other, "conflict", now)
    sight = _Sight(now, assumptions, looked_up.worker, requested_at=now if looked_up.began is None else looked_up.began)
    return _merge_shown(row, withdrawal_from(transaction, "look-up"), transaction, comparison, sight)


def _apply_none_found(row: Row, worker: str, now: float, assumptions: Assumptions) -> Row:
    """Return the row after a look-up answered "none".

    That settles the row only after a refusal; and a row in doubt only after a control, and before AlphaPo may have freed the id.
    """
    if is_stale_no(row):
        return _reaffirmed(row, worker, now)
    if row.state != "open":
        return row
    is_new = row.earlier_request_possible and not is_new_since_rollback(row)
    answered = replace(row, needs_look_up=False, earlier_request_possible=is_new, reason=row.reason or "not found")
    if row.refusal is None or row.look_ups_only or row.holder != worker:
        return answered
    if row.doubt_since is None:
        return settle(answered, "rejected", now)
    is_last_word = row.control_seen_at is not None and now <= row.doubt_since + assumptions.resend_within
    return settle(answered, "rejected", now) if is_last_word else answered


def _reaffirmed(row: Row, worker: str, now: float) -> Row:
    """Return the row with its stale "no" confirmed by AlphaPo: dated anew, it answers every request made before now."""
    if not is_stale_no(row):
        return row
    return replace(row, reaffirmed_in=row.journal_epoch.number, settled_at=now, settled_by=worker)


def _apply_no_answer(row: Row, answer: NoAnswer, now: float) -> Row:
    """Return the row after a look-up without an answer: the same bytes may follow all the same; a "no" still needs its look-up."""
    if row.state != "open":
        return row
    is_needed = row.refusal is not None or row.look_ups_only
    return replace(row, needs_look_up=is_needed, not_before=_waits_until(row, answer.retry_after, now))


def _apply_control(row: Row, control: ControlFound, now: float, assumptions: Assumptions) -> Row:
    """Return the row with proof that look-ups with its key show later acceptances: the next "none" settles the row.

    A look-up with one key need not show what another key has sent: AlphaPo documents that only what was authorised with a key can be
    asked for with it (https://docs.alphapo.net/api-reference/transactions/fetch-transaction-metadata).
    """
    quiet = quiet_ends_at(row, assumptions)
    is_due = (
        row.state == "open" and not row.look_ups_only and not row.other_key_possible and row.holder == control.worker
    )
    if not is_due or not is_refused_after(row, quiet) or control.accepted_at <= quiet:
        return row
    return replace(row, control_seen_at=now, needs_look_up=True)


# ── callbacks: a witness like a look-up ────────────────────────────────────────────────────────────────────────────────


def _apply_callback(row: Row, called_back: CalledBack, now: float, assumptions: Assumptions) -> Row:
    """Return the row after a callback; the same row where the callback adds nothing."""
    transaction, payment = called_back.transaction, row.revision.payment
    if payment is None or transaction.foreign_id != row.foreign_id:
        return row  # or settled long ago, and only its digest is kept
    shown = withdrawal_from(transaction, "callback")
    learned = _merge_shown(row, shown, transaction, compare(payment, transaction), _Sight(now, assumptions))
    # A callback saves the look-up; a repeated one changes nothing.
    return replace(learned, checked_at=now) if learned != row and learned.state == "accepted" else learned


def why_not_ours(row: Row, transaction: Transaction) -> str | None:
    """Return why a callback does not count for this row's withdrawal; None if it counts."""
    payment = row.revision.payment
    comparison = Comparison(frozenset(), ()) if payment is None else compare(payment, transaction)
    return _why_not_counted(row, transaction, comparison)


def may_be_on_its_way(row: Row) -> bool:
    """Return whether a worker may be sending the row now: what the callback does not give, the reply will."""
    return row.state == "open" and row.holder is not None


# ── a journal that went back in time ───────────────────────────────────────────────────────────────────────────────────


def _thaw(row: Row, *, has_other_keys: bool) -> Row:
    """Return a frozen row recorded anew for a caller: looked up first, and sent again within `resend_within` of its first recording."""
    if not is_frozen(row):
        return row
    since = row.created_at if row.journal_epoch.since is None else row.journal_epoch.since
    doubtful = put_in_doubt(row, row.created_at, since, WENT_BACK)
    return replace(
        doubtful, epoch=row.journal_epoch.number, other_key_possible=row.other_key_possible or has_other_keys
    )


def _apply_remembered(row: Row, remembered: Remembered, now: float, assumptions: Assumptions) -> Row:
    """Return the row with the acceptance that a worker saw before the journal went back."""
    if not row.revision.is_same_payment(remembered.revision):
        return row
    if is_another(row, remembered.withdrawal):
        return row  # AlphaPo has shown the withdrawal since, under an id that is counted apart: what is remembered is older
    return _merge_withdrawal(row, remembered.withdrawal, remembered.transaction, _Sight(now, assumptions))


def _apply_unfrozen(row: Row, now: float) -> Row:
    """Return a frozen row open again with nothing in doubt; unchanged where a worker holds it or may still send it, or AlphaPo showed it.

    A late body of the time before may still arrive, so that a refusal settles the row only after a look-up answered "none".
    """
    is_worked_on = row.holder is not None or (row.could_leave_until is not None and now < row.could_leave_until)
    if is_worked_on or is_ended(row) or not is_frozen(row):
        return row
    return replace(
        row,
        epoch=row.journal_epoch.number,
        earlier_request_possible=True,
        doubt_since=None,
        arrivals=MANY,
        look_ups_only=False,
        needs_look_up=False,
        other_key_possible=False,
        refusal=None,
        refused_at=None,
        control_seen_at=None,
        reason="",
        code=None,
        differences=(),
    )


# ── evidence that AlphaPo has a withdrawal ─────────────────────────────────────────────────────────────────────────────


class _Sight(msgspec.Struct, frozen=True, gc=False):
    """When, and by which worker, AlphaPo's withdrawal was seen."""

    now: float
    """Seconds since the epoch."""
    assumptions: Assumptions
    worker: str | None = None
    """None for a callback and for an operator."""
    requested_at: float | None = None
    """When the look-up began; None if it was no look-up."""


# ── whose withdrawal it is ───────────────────────────────────────────────────────────────────────────────────────────


def _is_known(row: Row) -> bool:
    """Return whether AlphaPo has given its id of this row's withdrawal; an id that an operator typed does not count."""
    known = row.withdrawal
    is_alphapos = known is not None and known.id is not None and known.source != "journal"
    return is_alphapos and (row.state in ("accepted", "failed") or is_ended(row))


def is_another(row: Row, shown: Withdrawal | Transaction) -> bool:
    """Return whether AlphaPo shows another id than the one it gave before under the same foreign_id.

    Its id is the engine's transaction id (https://docs.alphapo.net/api-reference/endpoints/withdrawal-crypto); whether look-ups and
    callbacks have the reply's id is not documented.
    """
    return _is_known(row) and row.withdrawal is not None and str(row.withdrawal.id) != str(shown.id)


def _why_not_counted(row: Row, shown: Withdrawal | Transaction, comparison: Comparison) -> str | None:
    """Return why the withdrawal that AlphaPo shows does not count for this row; None if it counts."""
    known = row.withdrawal
    if known is not None and known.status == "confirmed" and shown.status in ENDED:
        return f"{shown.status} after confirmed"
    if is_another(row, shown):
        return None if _does_another_count(row, shown, comparison) else f"another id, {shown.id}"
    if _is_known(row):
        return None
    if comparison.differences:
        return "; ".join(map(str, comparison.differences))
    return None if comparison.is_ours(row.revision.payment, was_in_doubt=row.doubt_since is not None) else TOO_LITTLE


def _does_another_count(row: Row, shown: Withdrawal | Transaction, comparison: Comparison) -> bool:
    """Return whether a withdrawal with another id counts as ours.

    The end of another withdrawal proves nothing about ours. One that moves money may be ours: ids of look-ups may be counted apart.
    """
    if shown.status in ENDED or comparison.differences:
        return False
    if row.state == "failed" or is_ended(row):
        return True
    is_whole = comparison.agreeing.issuperset({"foreign_id", "address", "amount", "currency"})
    return is_whole and not is_older(shown.status, None if row.withdrawal is None else row.withdrawal.status)


# ── what the row becomes ─────────────────────────────────────────────────────────────────────────────────────────────


def _merge_shown(
    row: Row, shown: Withdrawal, transaction: Transaction | None, comparison: Comparison, sight: _Sight
) -> Row:
    """Return the row after AlphaPo has shown a withdrawal under its foreign_id.

    A withdrawal that is not proved to be an open row's own makes that row look-ups only. Another id is always a contradiction.
    """
    why = _why_not_counted(row, shown, comparison)
    if is_another(row, shown):
        row = replace(row, contradiction=f"a {shown.source} shows another id, {shown.id}")
    elif why is None or _is_known(row):
        return _merge_withdrawal(row, shown, transaction, sight, comparison.differences)
    if why is None:
        return _merge_withdrawal(row, shown, transaction, sight)
    if row.state == "conflict" and transaction is not None and (shown.source == "look-up" or _is_existing(row, shown)):
        return _in_conflict(row, transaction)
    if row.state != "open":
        return row
    return replace(
        row,
        transaction=transaction,
        look_ups_only=True,
        needs_look_up=True,
        differences=comparison.differences,
        reason=SHOWS_ANOTHER if comparison.differences else TOO_LITTLE,
    )


def _merge_withdrawal(
    row: Row,
    shown: Withdrawal,
    transaction: Transaction | None,
    sight: _Sight,
    differences: tuple[Difference, ...] = (),
) -> Row:
    """Return the row with what AlphaPo shows of its withdrawal: `confirmed` beats everything, a final status is never moved back.

    Args:
        row: what is known.
        shown: the withdrawal that AlphaPo has; its status counts also where its figures differ.
        transaction: the same as a look-up or a callback shows it.
        sight: when and by which worker it was seen.
        differences: the fields in which it is not what was requested.
    """
    known = row.withdrawal
    is_new = known is not None and is_another(row, shown)
    if known is not None and not differences and _is_known(row):
        differences = row.differences
    if known is not None and is_older(shown.status, known.status) and not is_new:
        is_denied = shown.status in ENDED and known.status == "confirmed"
        contradiction = f"{shown.status} after confirmed" if is_denied else row.contradiction
        return replace(row, contradiction=contradiction, differences=differences)
    under_way = _with_attempt_under_way(row, sight)
    learned = {
        "withdrawal": _merged(None if is_new else known, shown, row.revision.payment),
        "transaction": transaction or row.transaction,
        "contradiction": _contradicted(row, shown) or row.contradiction,
        "differences": differences,
    }
    if shown.status not in ENDED:
        return settle(under_way, "accepted", sight.now, **learned)
    if row.state != "failed" and _may_another_arrive(under_way, sight):
        return _ended(row, sight, **learned)
    return settle(under_way, "failed", sight.now, **learned)


def _with_attempt_under_way(row: Row, sight: _Sight) -> Row:
    """Return the row with an attempt that another worker may be sending now: what that worker reports later is no more than this."""
    if row.state != "open" or row.holder is None or row.holder == sight.worker:
        return row
    until = max(row.could_leave_until or 0.0, sight.now + sight.assumptions.attempt_timeout)
    return replace(row, arrivals=row.arrivals + 1, could_leave_until=until)


def _may_another_arrive(row: Row, sight: _Sight) -> bool:
    """Return whether an attempt may still arrive besides the one that AlphaPo shows ended; a callback may be older than it seems."""
    is_quiet = sight.requested_at is not None and sight.requested_at > quiet_ends_at(row, sight.assumptions)
    return row.arrivals >= MANY and not is_quiet


def _ended(row: Row, sight: _Sight, **learned: Any) -> Row:
    """Return the row open, for look-ups only, with the withdrawal that AlphaPo has ended.

    Where its holder may be sending the second attempt, the holder's own next evidence shows whether there was one.
    """
    is_waiting = row.arrivals >= MANY
    return replace(
        row,
        state="open",
        settled_at=None,
        settled_by=None,
        look_ups_only=True,
        needs_look_up=False,
        not_before=max(row.not_before, quiet_ends_at(row, sight.assumptions)) if is_waiting else row.not_before,
        reason="AlphaPo ended it, and an earlier attempt may still arrive",
        **learned,
    )


def _is_existing(row: Row, shown: Withdrawal) -> bool:
    """Return whether a callback shows the withdrawal with which a row is in conflict."""
    return row.transaction is not None and str(row.transaction.id) == str(shown.id)


def _in_conflict(row: Row, shown: Transaction) -> Row:
    """Return a row in conflict with what AlphaPo shows now of the withdrawal that has its foreign_id."""
    known = row.transaction
    if known is not None and str(known.id) == str(shown.id) and is_older(shown.status, known.status):
        return row
    return replace(row, transaction=shown)


def is_older(status: str | None, known: str | None) -> bool:
    """`confirmed` is never older than anything else; `cancelled` and `declined` are older only than `confirmed`."""
    return _rank(status) < _rank(known)


def _rank(status: str | None) -> int:
    if status == "confirmed":
        return 2
    return 1 if status in ENDED else 0


def _contradicted(row: Row, shown: Withdrawal) -> str | None:
    """Return what was reported or shown before and is not so; None if it may be."""
    state: State = "failed" if shown.status in ENDED else "accepted"
    if row.state in NEGATIVE_STATES or (row.state == "failed" and state == "accepted"):
        return f"{state} after {row.state}"
    if is_ended(row) and state == "accepted" and not is_another(row, shown):
        return f"{shown.status} after {row.withdrawal and row.withdrawal.status}"
    return None


def _merged(known: Withdrawal | None, shown: Withdrawal, request: WithdrawalRequest | None) -> Withdrawal:
    """Return the newer witness, with what it does not give taken from the earlier one, and `amount` from the request.

    With a conversion AlphaPo does not document whose amount a reply repeats, so that ours is not put in its place.
    """
    filled: dict[str, Any] = {}
    if known is not None:
        filled = {name: getattr(known, name) for name in shown.__struct_fields__ if getattr(shown, name) is None}
    if filled.get("amount", shown.amount) is None and request is not None and not has_conversion(request):
        filled["amount"] = request.amount
    if known is not None and known.source == "reply" and str(known.id) == str(shown.id):
        # It stays a control: AlphaPo accepted it after the row was recorded, which a callback alone does not prove.
        filled["source"] = "reply"
    return replace(shown, **filled) if filled else shown


def withdrawal_from(transaction: Transaction, source: Source) -> Withdrawal:
    """Return the withdrawal that a transaction shows."""
    sent, received = transaction.currency_sent or Money(), transaction.currency_received or Money()
    return Withdrawal(
        id=transaction.id,
        foreign_id=transaction.foreign_id,
        end_user_reference=transaction.end_user_reference,
        type=transaction.type,
        status=transaction.status,
        sender_amount=sent.amount,
        sender_currency=sent.currency,
        receiver_amount=received.amount,
        receiver_currency=received.currency,
        has_numbers=transaction.has_numbers,
        source=source,
    )
