"""Witnesses: evidence that AlphaPo has a withdrawal, taken from anybody at any time: replies, look-ups and callbacks alike.

An open row takes a withdrawal for its own if nothing disagrees and enough is given. An accepted or failed row is known by AlphaPo's id:
AlphaPo gives no figures of a conversion that it cancelled (https://docs.cryptoprocessing.com/api-reference/endpoints/transactions-info).
`confirmed` beats everything, a final status is never moved back, and an earlier "no" is contradicted.
`cancelled` and `declined` leave the row open where another attempt may still arrive, since they may free the foreign_id.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from msgspec.structs import replace

from alphapo_async.core.comparison import Comparison, Difference
from alphapo_async.core.models import ENDED, Money, Source, Transaction, Withdrawal, WithdrawalRequest
from alphapo_async.core.row import MANY, NEGATIVE_STATES, Assumptions, Row, State, is_ended, quiet_from, settle

__all__ = [
    "TOO_LITTLE",
    "Sight",
    "is_another",
    "is_known",
    "is_older",
    "merge_shown",
    "merge_withdrawal",
    "why_not_ours",
    "withdrawal_from",
]

TOO_LITTLE: Final = "AlphaPo shows too little"


class Sight(msgspec.Struct, frozen=True, gc=False):
    """When, and by which worker, AlphaPo's withdrawal was seen."""

    now: float
    """Seconds since the epoch."""
    assumptions: Assumptions
    worker: str | None = None
    """None for a callback and for an operator."""
    requested_at: float | None = None
    """When the look-up began; None if it was no look-up."""


# ── whose withdrawal it is ───────────────────────────────────────────────────────────────────────────────────────────


def is_known(row: Row) -> bool:
    """Return whether AlphaPo has given its id of this row's withdrawal; an id that an operator typed does not count."""
    known = row.withdrawal
    is_alphapos = known is not None and known.id is not None and known.source != "journal"
    return is_alphapos and (row.state in ("accepted", "failed") or is_ended(row))


def is_another(row: Row, shown: Withdrawal | Transaction) -> bool:
    """Return whether AlphaPo shows another id than the one it gave before under the same foreign_id.

    Its id is the engine's transaction id (https://docs.alphapo.net/api-reference/endpoints/withdrawal-crypto); whether look-ups and
    callbacks have the reply's id is not documented.
    """
    return is_known(row) and row.withdrawal is not None and str(row.withdrawal.id) != str(shown.id)


def why_not_ours(row: Row, shown: Withdrawal | Transaction, comparison: Comparison) -> str | None:
    """Return why the withdrawal that AlphaPo shows does not count for this row; None if it counts."""
    known = row.withdrawal
    if known is not None and known.status == "confirmed" and shown.status in ENDED:
        return f"{shown.status} after confirmed"
    if is_another(row, shown):
        return None if _does_another_count(row, shown, comparison) else f"another id, {shown.id}"
    if is_known(row):
        return None
    if comparison.differences:
        return "; ".join(map(str, comparison.differences))
    return None if comparison.is_ours(row.revision.payment, was_in_doubt=row.doubt_since is not None) else TOO_LITTLE


def _does_another_count(row: Row, shown: Withdrawal | Transaction, comparison: Comparison) -> bool:
    """The end of another withdrawal says nothing about ours; one that moves money may be ours, under an id that is counted apart."""
    if shown.status in ENDED or comparison.differences:
        return False
    if row.state == "failed" or is_ended(row):
        return True
    is_whole = comparison.agreeing.issuperset({"foreign_id", "address", "amount", "currency"})
    return is_whole and not is_older(shown.status, None if row.withdrawal is None else row.withdrawal.status)


# ── what the row becomes ─────────────────────────────────────────────────────────────────────────────────────────────


def merge_shown(
    row: Row, shown: Withdrawal, transaction: Transaction | None, comparison: Comparison, sight: Sight
) -> Row:
    """Return the row after AlphaPo has shown a withdrawal under its foreign_id.

    A withdrawal that is not proved to be an open row's own makes that row look-ups only. Another id is always a contradiction.
    """
    why = why_not_ours(row, shown, comparison)
    if is_another(row, shown):
        row = replace(row, contradiction=f"a {shown.source} shows another id, {shown.id}")
    elif why is None or is_known(row):
        return merge_withdrawal(row, shown, transaction, sight, comparison.differences)
    if why is None:
        return merge_withdrawal(row, shown, transaction, sight)
    if row.state == "conflict" and transaction is not None and (shown.source == "look-up" or _is_existing(row, shown)):
        return _in_conflict(row, transaction)
    if row.state != "open":
        return row
    return replace(
        row,
        transaction=transaction,
        id_taken=True,
        needs_look_up=True,
        differences=comparison.differences,
        reason="AlphaPo shows another withdrawal" if comparison.differences else TOO_LITTLE,
    )


def merge_withdrawal(
    row: Row,
    shown: Withdrawal,
    transaction: Transaction | None,
    sight: Sight,
    differences: tuple[Difference, ...] = (),
) -> Row:
    """Return the row with what AlphaPo shows of its withdrawal: `confirmed` beats everything, a final status is never moved back.

    Args:
        row: what is known.
        shown: the withdrawal that AlphaPo has; its status counts whatever the figures are.
        transaction: the same as a look-up or a callback shows it.
        sight: when and by which worker it was seen.
        differences: the fields in which it is not what was requested.
    """
    known, is_new = row.withdrawal, is_another(row, shown)
    differences = differences or (row.differences if is_known(row) else ())
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


def _with_attempt_under_way(row: Row, sight: Sight) -> Row:
    """Return the row with an attempt that another worker may be sending now: what that worker reports later is no more than this."""
    if row.state != "open" or row.holder is None or row.holder == sight.worker:
        return row
    until = max(row.may_send_until or 0.0, sight.now + sight.assumptions.attempt_timeout)
    return replace(row, arrivals=row.arrivals + 1, may_send_until=until)


def _may_another_arrive(row: Row, sight: Sight) -> bool:
    """Return whether an attempt may still arrive besides the one that AlphaPo shows ended; a callback may be older than it seems."""
    is_quiet = sight.requested_at is not None and sight.requested_at > quiet_from(row, sight.assumptions)
    return row.arrivals >= MANY and not is_quiet


def _ended(row: Row, sight: Sight, **learned: Any) -> Row:
    """Return the row open, for look-ups only, with the withdrawal that AlphaPo has ended.

    Where its holder may be sending the second attempt, the holder's own next evidence says whether there was one.
    """
    is_waiting = row.arrivals >= MANY
    return replace(
        row,
        state="open",
        settled_at=None,
        settled_by=None,
        id_taken=True,
        needs_look_up=False,
        not_before=max(row.not_before, quiet_from(row, sight.assumptions)) if is_waiting else row.not_before,
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
    if filled.get("amount", shown.amount) is None and request is not None and not request.has_conversion:
        filled["amount"] = request.amount
    if known is not None and known.source == "reply" and str(known.id) == str(shown.id):
        filled["source"] = (
            "reply"  # it stays a control: AlphaPo accepted it after the row was recorded, which a callback alone does not prove
        )
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
