"""Witnesses: evidence that AlphaPo has a withdrawal, taken from anybody at any time.

`confirmed` beats everything, a final status is never moved back, and an earlier "no" is contradicted.
"""

from __future__ import annotations

from msgspec.structs import replace

from alphapo_async.core.models import ENDED, Money, Source, Transaction, Withdrawal
from alphapo_async.core.row import NO, Row, State, settled

__all__ = ["is_another", "is_older", "shown_in_conflict", "withdrawal_from", "witnessed"]


def witnessed(row: Row, told: Withdrawal, transaction: Transaction | None, now: float) -> Row:
    """AlphaPo has it. `confirmed` beats everything; a final status is never moved back; a "no" is contradicted."""
    known = row.withdrawal
    if known is not None and is_older(told.status, known.status):
        if told.status in ENDED and known.status == "confirmed":
            return replace(row, contradiction=f"{told.status} after confirmed")
        return row
    state: State = "failed" if told.status in ENDED else "accepted"
    return settled(
        row,
        state,
        now,
        withdrawal=_merged(known, told),
        transaction=transaction or row.transaction,
        contradiction=_contradicted(row, state) or row.contradiction,
        differences=(),
    )


def is_another(row: Row, told: Transaction) -> bool:
    """AlphaPo speaks of another withdrawal than the one it has told us of, under the same foreign_id.

    Its id is the engine's transaction id, in replies, look-ups and callbacks alike
    (https://docs.alphapo.net/api-reference/endpoints/withdrawal-crypto). One that moves money beats one that was ended.
    """
    known = row.withdrawal
    if known is None or known.id is None or known.source == "journal" or str(known.id) == str(told.id):
        return False  # an id that an operator typed is not AlphaPo's word
    return told.status in ENDED or row.state != "failed"


def shown_in_conflict(row: Row, shown: Transaction) -> Row:
    """Return a row in conflict with what AlphaPo shows now of the withdrawal that has its foreign_id."""
    known = row.transaction
    if known is not None and str(known.id) == str(shown.id) and is_older(shown.status, known.status):
        return row
    return replace(row, transaction=shown)


def is_older(told: str | None, known: str | None) -> bool:
    """`confirmed` is never older than anything else; `cancelled` and `declined` are older only than `confirmed`."""
    return _rank(told) < _rank(known)


def _rank(status: str | None) -> int:
    if status == "confirmed":
        return 2
    return 1 if status in ENDED else 0


def _contradicted(row: Row, state: State) -> str | None:
    if row.state in NO or (row.state == "failed" and state == "accepted"):
        return f"{state} after {row.state}"
    return None


def _merged(known: Withdrawal | None, told: Withdrawal) -> Withdrawal:
    """The newer witness, with what it leaves untold taken from the earlier one."""
    if known is None:
        return told
    untold = {name: getattr(known, name) for name in told.__struct_fields__ if getattr(told, name) is None}
    return replace(told, **untold)


def withdrawal_from(found: Transaction, source: Source) -> Withdrawal:
    """Return the withdrawal that a transaction shows."""
    sent, received = found.currency_sent or Money(), found.currency_received or Money()
    return Withdrawal(
        id=found.id,
        foreign_id=found.foreign_id,
        end_user_reference=found.end_user_reference,
        type=found.type,
        status=found.status,
        sender_amount=sent.amount,
        sender_currency=sent.currency,
        receiver_amount=received.amount,
        receiver_currency=received.currency,
        source=source,
    )
