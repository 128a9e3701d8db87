"""What callers got against what the sandbox's ledger shows, row by row. Pure.

Rows are compared by what is paid (end user, currency, amounts, address, tag, target), never by foreign_id alone: a client that paid
one row twice under two ids would otherwise look innocent.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, TypeAlias

import msgspec

from alphapo_async.core.events import Event
from alphapo_async.core.models import WithdrawalRequest
from alphapo_async.sandbox import AcceptedWithdrawal

__all__ = ["OUTCOMES", "DemoCounts", "LedgerVerdict", "ended_later", "payment_of", "reconcile"]

OUTCOMES = ("accepted", "failed", "rejected", "not_sent", "conflict", "invalid", "key_refused", "unknown")
"""What a caller can get for a row."""

_Payment: TypeAlias = tuple[Any, ...]


class LedgerVerdict(msgspec.Struct, frozen=True):
    """The foreign_ids of the rows for which the promise was broken."""

    paid_twice: tuple[str, ...] = ()
    """Rows that moved money more than once."""
    told_wrong: tuple[str, ...] = ()
    """Rows whose caller got `accepted` although nothing was accepted, or got that no money moved although it did."""

    @property
    def is_clean(self) -> bool:
        """Nothing was broken."""
        return not self.paid_twice and not self.told_wrong


def payment_of(request: WithdrawalRequest) -> _Payment:
    """Return what a row pays, in the order of the ledger's `Accepted.payment`."""
    return (
        request.end_user_reference,
        request.currency,
        request.amount,
        request.amount_to,
        request.address,
        request.tag or None,
        request.convert_to,
    )


def reconcile(
    requests: Iterable[WithdrawalRequest], reported: Mapping[str, str], accepted: Iterable[AcceptedWithdrawal]
) -> LedgerVerdict:
    """Compare what was reported with what AlphaPo's books show.

    Args:
        requests: the rows, no two of them with the same payment.
        reported: the outcome of each row by foreign_id.
        accepted: all that the ledger holds.
    """
    booked = list(accepted)
    moved = Counter(entry.payment for entry in booked if entry.moved_money)
    known = {(entry.foreign_id, entry.payment) for entry in booked}
    rows = [(request.foreign_id, payment_of(request)) for request in requests]
    return LedgerVerdict(
        tuple(name for name, payment in rows if moved[payment] > 1),
        tuple(name for name, payment in rows if _is_wrong(reported[name], (name, payment) in known, moved[payment])),
    )


def _is_wrong(outcome: str, is_accepted: bool, moved: int) -> bool:  # noqa: FBT001 - a bare fact
    if outcome == "accepted":
        return not is_accepted
    return outcome != "unknown" and moved > 0  # "unknown" claims nothing, so it is never wrong


def ended_later(reported: Mapping[str, str], accepted: Iterable[AcceptedWithdrawal]) -> int:
    """Return how many rows were reported accepted, and cancelled or declined by AlphaPo afterwards."""
    return sum(reported.get(entry.foreign_id) == "accepted" and not entry.moved_money for entry in accepted)


class DemoCounts:
    """Counts what a client did, from its events."""

    def __init__(self) -> None:
        self._attempts: Counter[str | None] = Counter()
        self.look_ups = 0

    def __repr__(self) -> str:
        return f"DemoCounts(retries={self.retries}, look_ups={self.look_ups})"

    def notice(self, event: Event) -> None:
        """Count one event."""
        if event.name == "attempt":
            self._attempts[event.foreign_id] += 1
        elif event.name == "look-up":
            self.look_ups += 1

    @property
    def retries(self) -> int:
        """Every attempt for a row after its first."""
        return self._attempts.total() - len(self._attempts)
