"""A withdrawal that AlphaPo accepted, and what becomes of it.

The life of a withdrawal: https://docs.alphapo.net/withdrawals/statuses.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec

from alphapo_async.sandbox import catalogue
from alphapo_async.sandbox.checks import WithdrawalFields
from alphapo_async.sandbox.dialects import Dialect

__all__ = [
    "CANCELLED",
    "FEE_SHARE",
    "MAGIC_CANCELLED",
    "MAGIC_DECLINED",
    "NO_MONEY",
    "FinalState",
    "SandboxWithdrawal",
    "ending",
    "figures",
    "shown_id",
    "txid",
]

FEE_SHARE = Decimal("0.001")
"""The share that a fee takes where the dialect knows fees. A made-up figure."""

MAGIC_CANCELLED = "12345"
"""The address that AlphaPo's engine shows cancelled in its sample callback (https://github.com/coinspaid/docs, callbacks.md)."""
MAGIC_DECLINED = "decline"
"""Addresses that begin so wait for a person, who declines them. Made up: the sandbox has no persons."""

_CANCELLED_TEXT = "Invalid params: expected a hex-encoded hash with 0x prefix."
_NO_MONEY_TEXT = "Not enough money on balance"
_DECLINED_TEXT = "Declined by a team member."


class FinalState(msgspec.Struct, frozen=True):
    """How a withdrawal begins, how it ends, and why."""

    first: Literal["processing", "pending"]
    last: Literal["confirmed", "cancelled", "declined"]
    error: str = ""

    @property
    def moves_money(self) -> bool:
        """Whether it ends with the money sent."""
        return self.last == "confirmed"


_CONFIRMED = FinalState("processing", "confirmed")
CANCELLED = FinalState("processing", "cancelled", _CANCELLED_TEXT)
_DECLINED = FinalState("pending", "declined", _DECLINED_TEXT)
NO_MONEY = FinalState("processing", "cancelled", _NO_MONEY_TEXT)


class SandboxWithdrawal(msgspec.Struct, frozen=True, kw_only=True):
    """A withdrawal that AlphaPo accepted."""

    id: int
    asked: WithdrawalFields
    key: str
    at: float
    settles_at: float
    ending: FinalState
    sent: Decimal
    """What leaves the balance, without a fee."""
    received: Decimal
    """What reaches the receiver, without a fee."""
    debit: Decimal

    def status(self, now: float) -> str:
        """Return AlphaPo's own status at a moment."""
        return self.ending.last if now >= self.settles_at else self.ending.first


def figures(asked: WithdrawalFields) -> tuple[Decimal, Decimal]:
    """Return what the sender pays and what the receiver gets."""
    target = asked.receiver_currency
    if asked.amount is not None:
        same = target == asked.currency
        return asked.amount, asked.amount if same else catalogue.convert(asked.amount, asked.currency, target)
    wanted = asked.amount_to or Decimal(0)
    return catalogue.units_needed(wanted, target, asked.currency), wanted


def ending(address: str) -> FinalState:
    """Return what becomes of a withdrawal to this address."""
    if address == MAGIC_CANCELLED:
        return CANCELLED
    return _DECLINED if address.startswith(MAGIC_DECLINED) else _CONFIRMED


def txid(record: SandboxWithdrawal) -> str:
    """Return the made-up name of a withdrawal on its blockchain."""
    return f"{record.id:064x}"


_COUNTED_FROM = 250_000_000
"""How far the ids of look-ups and callbacks are from those of replies, where they are counted apart."""


def shown_id(record: SandboxWithdrawal, dialect: Dialect) -> int:
    """Return the id that look-ups and callbacks give of a withdrawal."""
    return record.id + (_COUNTED_FROM if dialect.ids == "apart" else 0)
