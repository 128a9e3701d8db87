"""Sending: what the reply to a body adds to a row."""

from __future__ import annotations

from typing import assert_never

from msgspec.structs import replace

from alphapo_async.core.comparison import compare_reply
from alphapo_async.core.evidence import Attempt
from alphapo_async.core.merge_withdrawal import Sight, is_known, merge_shown, merge_withdrawal
from alphapo_async.core.models import Withdrawal
from alphapo_async.core.outcome import Accepted, Duplicate, InDoubt, KeyRefused, Mismatched, NotSent, Rejected
from alphapo_async.core.row import Assumptions, Row, may_be_forgotten, put_in_doubt, settle

__all__ = ["apply_attempt"]


def apply_attempt(row: Row, attempt: Attempt, now: float, assumptions: Assumptions) -> Row:
    """Return the row after a body that was sent, or should have been."""
    proof, sight = attempt.proof, Sight(now, assumptions, attempt.worker)
    match proof:
        case Accepted():
            return _replied(_arrived(row, attempt), proof.withdrawal, sight)
        case InDoubt():
            return put_in_doubt(_counted(row), attempt.began, attempt.until, proof.reason, 1)
        case Mismatched() if is_known(row):
            return _replied(_arrived(row, attempt), proof.withdrawal, sight)
        case Mismatched():
            unsure = put_in_doubt(_counted(row), attempt.began, attempt.until, "AlphaPo shows another withdrawal", 1)
            return _mismatched(unsure, proof)
        case NotSent():
            return _not_sent(row, proof, now)
        case Rejected() | Duplicate() | KeyRefused():
            return _refused(_counted(row), attempt, proof, now)
        case _:
            assert_never(proof)


def _counted(row: Row) -> Row:
    return replace(row, attempts=row.attempts + 1)


def _arrived(row: Row, attempt: Attempt) -> Row:
    """Return the row with an attempt that arrived; one of a settled row was counted when AlphaPo's evidence settled it."""
    if row.state in ("accepted", "failed"):
        return _counted(row)
    until = max(row.may_send_until or 0.0, attempt.until)
    return replace(row, attempts=row.attempts + 1, arrivals=row.arrivals + 1, may_send_until=until)


def _replied(row: Row, withdrawal: Withdrawal, sight: Sight) -> Row:
    """A reply to our own body needs no more than its foreign_id, unless AlphaPo has given the id of the withdrawal before."""
    payment = row.revision.payment
    if payment is None or not is_known(row):
        return merge_withdrawal(row, withdrawal, None, sight)
    return merge_shown(row, withdrawal, None, compare_reply(payment, withdrawal), sight)


def _mismatched(row: Row, proof: Mismatched) -> Row:
    return replace(row, id_taken=True, differences=proof.differences) if row.state == "open" else row


def _not_sent(row: Row, proof: NotSent, now: float) -> Row:
    if row.state != "open":
        return row
    wait = proof.retry_after or 0.0
    attempts = row.attempts + proof.is_throttled
    reason = proof.reason if row.doubt_since is None else row.reason
    return replace(row, attempts=attempts, not_before=max(row.not_before, now + wait), reason=reason)


def _refused(row: Row, attempt: Attempt, proof: Rejected | Duplicate | KeyRefused, now: float) -> Row:
    """A "no": heard from the holder only, and only about what was sent before it."""
    if row.state != "open" or row.holder != attempt.worker:
        return row
    match proof:
        case Duplicate():
            return replace(
                row, id_taken=True, needs_look_up=True, refusal=None, control_seen_at=None, reason="foreign_id is taken"
            )
        case KeyRefused():
            refused = replace(row, code=proof.code, reason="key refused")
            stays_open = row.doubt_since is not None or row.id_taken or row.stays_open or may_be_forgotten(row)
            return refused if stays_open else settle(refused, "key_refused", now)
        case Rejected():
            return _rejected(row, attempt, proof, now)
        case _:
            assert_never(proof)


def _rejected(row: Row, attempt: Attempt, proof: Rejected, now: float) -> Row:
    told = replace(row, refusal=proof.errors, refused_at=attempt.began, control_seen_at=None, reason="refused")
    if row.doubt_since is None and not row.id_taken and not row.new_to_volatile_journal:
        return settle(told, "rejected", now)
    return replace(told, needs_look_up=True)
