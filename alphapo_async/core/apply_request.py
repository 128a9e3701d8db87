"""Holding: who works on a row, how it is taken on, reopened, corrected and let go.

One worker at a time holds a row; only the holder may send, and only its "no" counts.
"""

from __future__ import annotations

from msgspec.structs import replace

from alphapo_async.core.comparison import compare
from alphapo_async.core.epochs import is_stale_no, may_have_forgotten, seen_in, thaw
from alphapo_async.core.evidence import LeaseExpired, OperatorDecision, Released, Requested
from alphapo_async.core.merge_withdrawal import Sight, merge_withdrawal
from alphapo_async.core.models import Withdrawal
from alphapo_async.core.row import (
    CORRECTABLE_STATES,
    MANY,
    NEGATIVE_STATES,
    STICKY_STATES,
    Assumptions,
    Epoch,
    Row,
    State,
    has_expired,
    is_by_hand,
    is_in_doubt,
    put_in_doubt,
    settle,
)

__all__ = ["apply_decision", "apply_lease_expiry", "apply_release", "apply_request", "new_row"]


_ASSUMPTIONS = Assumptions()
_FIRST_EPOCH = Epoch()


def new_row(
    account: str,
    foreign_id: str,
    asked: Requested,
    now: float,
    *,
    is_durable: bool,
    epoch: Epoch = _FIRST_EPOCH,
    assumptions: Assumptions = _ASSUMPTIONS,
) -> Row:
    """Return the row of a withdrawal that is new to the journal; a journal that may have forgotten the id has it looked up first.

    Where no caller asks for it any more, such a row is frozen: another caller may have heard a "no" that the journal has forgotten.
    """
    is_forgetful = may_have_forgotten(epoch, now, assumptions)
    is_request = asked.is_request or not is_forgetful
    row = Row(
        account=account,
        foreign_id=foreign_id,
        revision=asked.revision,
        key=asked.key,
        created_at=now,
        expires_at=asked.expires_at,
        stays_open=asked.worker is None,
        reported=asked.is_heard,
        epoch=epoch.number if is_request else epoch.number - 1,
        new_to_volatile_journal=is_forgetful or not is_durable,
        needs_look_up=is_forgetful,
        arrivals=MANY if is_forgetful else 0,
        may_send_until=now if is_forgetful else None,
        holder=asked.worker,
        held_since=0.0 if asked.worker is None else now,
    )
    if asked.attempted_before:
        row = _attempted_before(row, asked, now)
    return row if is_request else seen_in(row, epoch)


def _held(row: Row, asked: Requested, now: float) -> Row:
    if asked.worker is None:
        return row
    return replace(row, holder=asked.worker, held_since=now)


def apply_request(row: Row, asked: Requested, now: float) -> Row:
    """Take the row on, reopened or corrected where that is allowed; unchanged where it is held, settled or another payment's."""
    is_same = row.revision.is_same_payment(asked.revision)
    if is_same and asked.is_request:
        row = thaw(row, has_other_keys=asked.has_other_keys)
    if is_same and asked.attempted_before and (row.new_to_volatile_journal or _was_new_to_the_journal(row, asked)):
        row = _attempted_before(row, asked, now)
    if is_same and row.holder is not None and row.holder == asked.worker:
        row = _lapsed(row, now)  # an earlier flight of this worker could not write down how it ended
    if row.state == "open":
        return _asked_while_open(row, asked, now) if is_same else row
    return _asked_again(row, asked, now) if row.holder is None and row.state in NEGATIVE_STATES else row


def _asked_again(row: Row, asked: Requested, now: float) -> Row:
    """Return the row after a request for a withdrawal whose last word is a "no"."""
    if not row.revision.is_same_payment(asked.revision):
        return _taken_over(row, asked, now)
    is_sticky = row.state in STICKY_STATES and not asked.resend_rejected
    if is_stale_no(row):
        return row if is_sticky or not asked.is_request else _reopened(row, asked, now)
    if is_sticky or _is_answered_by(row, asked):
        # It is told once more, and must stay true until it is heard: it answers whoever has asked until now.
        return replace(row, settled_at=now, settled_by=asked.requested_by)
    return _reopened(row, asked, now)


def _is_answered_by(row: Row, asked: Requested) -> bool:
    """The "no" came after this was asked, which took long to get here: it was told, and must stay true.

    Where another worker wrote it down, by another clock, one that came a moment earlier counts as later, too.
    """
    if asked.requested_at is None or row.settled_at is None:
        return False
    is_one_clock = asked.requested_by is not None and asked.requested_by == row.settled_by
    unsure = 0.0 if is_one_clock else asked.max_skew
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
    return replace(_corrected(row, asked, now), id_taken=True, needs_look_up=True, transaction=shown)


def _was_new_to_the_journal(row: Row, asked: Requested) -> bool:
    """Another call, which did not know of earlier attempts, wrote it down after this one was made."""
    return asked.requested_at is not None and row.created_at >= asked.requested_at - asked.max_skew


def _attempted_before(row: Row, asked: Requested, now: float) -> Row:
    """A journal that ends with its process hears late that an earlier process may have sent it: no "no" so far is one."""
    if row.doubt_since is not None and row.state == "open":
        return row
    return replace(
        put_in_doubt(row, now, now, "attempted before"),
        new_to_volatile_journal=False,
        other_key_possible=asked.has_other_keys,
    )


def _asked_while_open(row: Row, asked: Requested, now: float) -> Row:
    if asked.worker is None:
        return _left_to_workers(row, asked)
    return row if row.holder is not None else _taken_on(row, asked, now)


def _left_to_workers(row: Row, asked: Requested) -> Row:
    """Return an open row enqueued: the call that may hold it does not settle it without an answer of AlphaPo. Twice changes nothing."""
    if row.expires_at is not None:
        return row
    return replace(row, expires_at=asked.expires_at, stays_open=True, reported=asked.is_heard)


def _taken_on(row: Row, asked: Requested, now: float) -> Row:
    if has_expired(row, now):
        return settle(replace(row, reason="expired"), "not_sent", now)
    return replace(
        _held(row, asked, now),
        key=row.key if row.doubt_since is not None else asked.key,
        code=None,
        stays_open=True,
        needs_look_up=row.needs_look_up or is_in_doubt(row),
        reported=asked.is_heard,
        not_before=0.0,
    )


def _reopened(row: Row, asked: Requested, now: float) -> Row:
    """Open again, as a row without doubt: that is what its "no" has proved; a stale "no" proves nothing, and the id is as a new one."""
    is_stale = is_stale_no(row)
    revision, earlier = row.revision, row.earlier
    if revision.payment is None:
        # Its bytes are forgotten. They were definitely refused, so that new bytes of the same payment may follow.
        revision, earlier = replace(asked.revision, number=revision.number + 1), (*earlier, revision)
    opened = replace(
        row,
        revision=revision,
        earlier=earlier,
        state="open",
        epoch=max(row.epoch, row.journal_epoch.number),
        new_to_volatile_journal=row.new_to_volatile_journal or is_stale,
        settled_at=None,
        settled_by=None,
        key=asked.key,
        expires_at=asked.expires_at,
        stays_open=asked.worker is None,
        reported=asked.is_heard,
        doubt_since=None,
        may_send_until=now if is_stale else None,
        arrivals=MANY if is_stale else 0,
        id_taken=False,
        needs_look_up=is_stale,
        other_key_possible=False,
        refusal=None,
        refused_at=None,
        control_seen_at=None,
        not_before=0.0,
        reason="",
        code=None,
        differences=(),
        word=None,
    )
    return _held(opened, asked, now)


def _corrected(row: Row, asked: Requested, now: float) -> Row:
    """Another payload after a definite "no": the next revision, with the earlier one kept."""
    revision = replace(asked.revision, number=row.revision.number + 1)
    return replace(_reopened(row, asked, now), revision=revision, earlier=(*row.earlier, row.revision))


def apply_lease_expiry(row: Row, lapsed: LeaseExpired) -> Row:
    """Return the row let go of for a worker that is gone without a word; until its lease ends it may still send, unheard."""
    return _lapsed(row, lapsed.until) if row.holder == lapsed.worker else row


def _lapsed(row: Row, until: float) -> Row:
    """Whoever held the row may have sent until then, and nobody will ever say."""
    return replace(put_in_doubt(row, row.held_since, until, "its worker is gone"), holder=None)


def apply_release(row: Row, given_up: Released, now: float) -> Row:
    """Return the row let go of: open if it is in doubt, or if a worker may still send it; otherwise it was not sent."""
    if row.holder != given_up.worker:
        return row
    is_sent_later = given_up.stays_open or (row.stays_open and not has_expired(row, now))
    if row.state != "open" or is_in_doubt(row) or is_sent_later:
        return replace(row, holder=None, checked_at=now)
    return settle(replace(row, reason=given_up.reason), "not_sent", now)


def apply_decision(row: Row, word: OperatorDecision, now: float, assumptions: Assumptions) -> Row:
    """Settle by hand a row that is open and that no worker works on, or amend an earlier decision; a later witness beats both, loudly."""
    is_worked_on = row.holder is not None or (row.may_send_until is not None and now < row.may_send_until)
    is_due = is_by_hand(row) if word.is_correction else row.state == "open"
    if is_worked_on or not is_due:
        return row
    state: State = "accepted" if word.is_accepted else "rejected"
    said = replace(row, word=word.text, withdrawal=None)
    if word.is_correction and state != row.state:
        # Whoever relied on the earlier decision has to learn of this one.
        said = replace(said, reported=False, contradiction=f"{state} after {row.state}")
    if not word.is_accepted:
        return settle(said, state, now, reaffirmed_in=row.journal_epoch.number)
    typed = Withdrawal(id=word.id, foreign_id=row.foreign_id, source="journal")
    return merge_withdrawal(said, typed, None, Sight(now, assumptions))
