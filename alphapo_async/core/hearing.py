"""Hearing: what a callback adds to a row. It is a witness, or it does not fit, and then it changes nothing."""

from __future__ import annotations

from typing import Final

from alphapo_async.core.comparison import compare
from alphapo_async.core.evidence import CalledBack
from alphapo_async.core.models import ENDED, Transaction
from alphapo_async.core.row import Row, needed_of_witness
from alphapo_async.core.witnesses import is_another, shown_in_conflict, withdrawal_from, witnessed

__all__ = ["TOO_LITTLE", "learn_callback", "may_be_on_its_way", "why_not_ours"]

TOO_LITTLE: Final = "it tells too little to be sure"


def learn_callback(row: Row, called_back: CalledBack, now: float) -> Row:
    """Return the row after a callback: AlphaPo has it, or nothing was learned."""
    told = called_back.transaction
    if row.revision.payment is None:
        return row  # settled long ago, and only its digest is remembered
    if why_not_ours(row, told) is not None:
        is_existing = (
            row.state == "conflict" and row.transaction is not None and str(row.transaction.id) == str(told.id)
        )
        return shown_in_conflict(row, told) if is_existing else row
    return witnessed(row, withdrawal_from(told, "callback"), told, now)


def why_not_ours(row: Row, told: Transaction) -> str | None:
    """Return why a callback cannot be taken for this row's withdrawal; None if it can."""
    if row.withdrawal is not None and row.withdrawal.status == "confirmed" and told.status in ENDED:
        return f"{told.status} after confirmed"
    if is_another(row, told):
        return f"another id, {told.id}"
    if row.revision.payment is None:
        return None if row.withdrawal is not None else "only a digest of the payment is remembered"
    comparison = compare(row.revision.payment, told)
    if comparison.differences:
        return "; ".join(map(str, comparison.differences))
    needed = () if row.state in ("accepted", "failed") else needed_of_witness(row)
    return None if comparison.is_ours(*needed) else TOO_LITTLE


def may_be_on_its_way(row: Row) -> bool:
    """A worker may be sending it in this very moment: what a callback leaves untold, the reply will tell."""
    return row.state == "open" and row.holder is not None
