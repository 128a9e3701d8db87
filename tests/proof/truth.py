"""Is what a caller was told the truth? Read from the local sandbox's ledger, after everything late has happened."""

from __future__ import annotations

from alphapo_async.core.errors import AlphapoError, WithdrawalError, WithdrawalUnknown
from alphapo_async.core.models import Withdrawal
from alphapo_async.sandbox import Ledger

FlightResult = Withdrawal | AlphapoError


def outcome_of(content: FlightResult) -> str:
    """Return the outcome's name."""
    if isinstance(content, Withdrawal):
        return "accepted"
    return content.outcome if isinstance(content, WithdrawalError) else type(content).__name__


def lies(foreign_id: str, content: FlightResult, ledger: Ledger) -> list[str]:
    """Return what is wrong: a payment that moved money twice, bytes that changed, or an outcome that the ledger contradicts."""
    accepted = ledger.accepted(foreign_id)
    moved = [one for one in accepted if one.moved_money]
    bodies = {seen.body for seen in ledger.requests(foreign_id)}
    found = []
    if len(moved) > 1:
        found.append(f"{foreign_id}: paid {len(moved)} times")
    if len(bodies) > 1:
        found.append(f"{foreign_id}: {len(bodies)} different bodies")
    if isinstance(content, Withdrawal) and not accepted:
        found.append(f"{foreign_id}: told accepted, and nothing was")
    if isinstance(content, WithdrawalError) and not isinstance(content, WithdrawalUnknown) and moved:
        found.append(f"{foreign_id}: told {content.outcome}, and money moved")
    return found
