"""Hearing: what a callback adds to a row. It is a witness like any look-up."""

from __future__ import annotations

from alphapo_async.core import merge_withdrawal as witnesses
from alphapo_async.core.comparison import Comparison, compare
from alphapo_async.core.evidence import CalledBack
from alphapo_async.core.merge_withdrawal import TOO_LITTLE, Sight, merge_shown, withdrawal_from
from alphapo_async.core.models import Transaction
from alphapo_async.core.row import Assumptions, Row

__all__ = ["TOO_LITTLE", "apply_callback", "may_be_on_its_way", "why_not_ours"]


def apply_callback(row: Row, called_back: CalledBack, now: float, assumptions: Assumptions) -> Row:
    """Return the row after a callback; the same row where the callback adds nothing."""
    transaction, payment = called_back.transaction, row.revision.payment
    if payment is None or transaction.foreign_id != row.foreign_id:
        return row  # or settled long ago, and only its digest is kept
    shown = withdrawal_from(transaction, "callback")
    return merge_shown(row, shown, transaction, compare(payment, transaction), Sight(now, assumptions))


def why_not_ours(row: Row, transaction: Transaction) -> str | None:
    """Return why a callback does not count for this row's withdrawal; None if it counts."""
    payment = row.revision.payment
    comparison = Comparison(frozenset(), ()) if payment is None else compare(payment, transaction)
    return witnesses.why_not_ours(row, transaction, comparison)


def may_be_on_its_way(row: Row) -> bool:
    """A worker may be sending it in this very moment: what a callback leaves untold, the reply will tell."""
    return row.state == "open" and row.holder is not None
