"""Asking: what an answer by foreign_id adds to a row. Not found proves nothing by itself."""

from __future__ import annotations

from typing import assert_never

from msgspec.structs import replace

from alphapo_async.core.comparison import compare
from alphapo_async.core.epochs import is_stale_no
from alphapo_async.core.evidence import ControlFound, LookedUp
from alphapo_async.core.merge_withdrawal import Sight, merge_shown, withdrawal_from
from alphapo_async.core.models import Transaction
from alphapo_async.core.outcome import Found, NoAnswer, NoneFound
from alphapo_async.core.row import Assumptions, Row, is_refused_after, may_be_forgotten, quiet_from, settle

__all__ = ["apply_control", "apply_look_up"]


def apply_look_up(row: Row, looked_up: LookedUp, now: float, assumptions: Assumptions) -> Row:
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
        row = _reaffirmed(row)
    comparison = compare(payment, transaction)
    if comparison.is_other and row.state == "open" and row.doubt_since is None and row.holder == looked_up.worker:
        other = replace(row, transaction=transaction, differences=comparison.differences)
        return settle(other, "conflict", now)
    sight = Sight(now, assumptions, looked_up.worker, requested_at=now if looked_up.began is None else looked_up.began)
    return merge_shown(row, withdrawal_from(transaction, "look-up"), transaction, comparison, sight)


def _apply_none_found(row: Row, worker: str, now: float, assumptions: Assumptions) -> Row:
    """Proves nothing by itself: the last word only where a refusal waits for it, and in doubt only after a control, in time."""
    if is_stale_no(row):
        return _reaffirmed(row)
    if row.state != "open":
        return row
    is_new = row.new_to_volatile_journal and not may_be_forgotten(row)
    answered = replace(row, needs_look_up=False, new_to_volatile_journal=is_new, reason=row.reason or "not found")
    if row.refusal is None or row.id_taken or row.holder != worker:
        return answered
    if row.doubt_since is None:
        return settle(answered, "rejected", now)
    is_last_word = row.control_seen_at is not None and now <= row.doubt_since + assumptions.resend_within
    return settle(answered, "rejected", now) if is_last_word else answered


def _reaffirmed(row: Row) -> Row:
    """AlphaPo confirms a "no" that was recorded before the journal went back."""
    return replace(row, reaffirmed_in=row.journal_epoch.number) if is_stale_no(row) else row


def _apply_no_answer(row: Row, answer: NoAnswer, now: float) -> Row:
    """Unanswered: a body may follow all the same, since it is the same bytes; a "no" still waits for its answer."""
    if row.state != "open":
        return row
    is_needed = row.refusal is not None or row.id_taken
    not_before = max(row.not_before, now + (answer.retry_after or 0.0))
    return replace(row, needs_look_up=is_needed, not_before=not_before)


def apply_control(row: Row, control: ControlFound, now: float, assumptions: Assumptions) -> Row:
    """Look-ups with this key see what was accepted later than anything of ours could be: the next "none" is the last word.

    They need not say anything of what another key has sent: AlphaPo documents that only what was authorised with a key can be asked for
    with it (https://docs.alphapo.net/api-reference/transactions/fetch-transaction-metadata).
    """
    quiet = quiet_from(row, assumptions)
    is_due = row.state == "open" and not row.id_taken and not row.other_key_possible and row.holder == control.worker
    if not is_due or not is_refused_after(row, quiet) or control.accepted_at <= quiet:
        return row
    return replace(row, control_seen_at=now, needs_look_up=True)
