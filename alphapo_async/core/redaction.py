"""Forgetting: what a journal may drop once a withdrawal has ended, and what it keeps for ever.

The id stays known, with the digest of its payment, its outcome and AlphaPo's id: no payment is made twice under it, and the sums stay
exact.
"""

from __future__ import annotations

from msgspec.structs import replace

from alphapo_async.core.evidence import Revision
from alphapo_async.core.models import Transaction, Withdrawal
from alphapo_async.core.row import Row

__all__ = ["is_about", "is_finished", "redacted", "tombstone"]


def is_finished(row: Row) -> bool:
    """Nothing more will happen to it, nor to what it is in conflict with, and its outcome was reported."""
    if row.state == "open" or row.holder is not None or not row.reported:
        return False
    if row.state == "conflict":
        return row.transaction is None or row.transaction.is_final
    return row.state != "accepted" or (row.withdrawal is not None and row.withdrawal.is_final)


def is_about(row: Row, end_user_reference: str) -> bool:
    """It was asked for, in any of its revisions, for this end user."""
    payments = [revision.payment for revision in (row.revision, *row.earlier)]
    return any(payment is not None and payment.end_user_reference == end_user_reference for payment in payments)


def redacted(row: Row) -> Row:
    """Return the row without what shows its recipient: bodies, address, reference and AlphaPo's texts."""
    known = row.withdrawal
    return replace(
        row,
        revision=_forgotten(row.revision),
        earlier=tuple(map(_forgotten, row.earlier)),
        withdrawal=None if known is None else replace(known, end_user_reference=None),
        transaction=_existing(row),
        differences=(),
        refusal=None,
        counted=(),
    )


def tombstone(row: Row) -> Row:
    """Return only what keeps the id known."""
    known = row.withdrawal
    kept = None
    if known is not None:
        kept = Withdrawal(id=known.id, foreign_id=known.foreign_id, status=known.status, source=known.source)
    return Row(
        account=row.account,
        foreign_id=row.foreign_id,
        revision=_forgotten(row.revision),
        key_fingerprint=row.key_fingerprint,
        created_at=row.created_at,
        epoch=row.epoch,
        held_since=row.held_since,
        reaffirmed_in=row.reaffirmed_in,
        journal_epoch=row.journal_epoch,
        state=row.state,
        settled_at=row.settled_at,
        withdrawal=kept,
        transaction=_existing(row),
        contradiction=row.contradiction,
        lines=row.lines,
    )


def _existing(row: Row) -> Transaction | None:
    """Return what stays known of the withdrawal that a row is in conflict with: AlphaPo's id and status; None for every other row."""
    shown = row.transaction
    if row.state != "conflict" or shown is None:
        return None
    return Transaction(id=shown.id, foreign_id=shown.foreign_id, status=shown.status)


def _forgotten(revision: Revision) -> Revision:
    asked = revision.asked if revision.asked[1] else None
    return Revision(b"", None, revision.number, revision.digest, asked)
