"""The people and programs that use the client: what they want paid, and what they do with what they are told.

They do what the documentation says, and no more: whoever hears that nobody can say yet asks again with the same request; whoever hears
that no money moved may give the funds back, or pay under a new foreign_id. So every wrong "no" ends in a payment that was made twice.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from alphapo_async.core.errors import JournalError, WithdrawalError
from alphapo_async.core.models import Withdrawal, WithdrawalRequest, request_of
from tests.proof.simulation.chance import Chance
from tests.proof.simulation.process import Process
from tests.proof.simulation.scenario import Intent

__all__ = ["Order", "decided"]

_MOST_NAMES = 3


class Order:
    """One intended payment, in the books of whoever wants it made."""

    def __init__(self, intent: Intent) -> None:
        self.intent = intent
        self.request: WithdrawalRequest = intent.request
        self.state: Literal["to come", "wanted", "paid", "released"] = "to come"
        self.process: Process | None = None
        """Where somebody waits for an answer."""
        self.not_before = 0.0
        self.tries = 0
        self.names = 1
        self.is_corrected = False
        self.is_doubled = intent.is_doubled
        """It is asked for in two processes."""

    def __repr__(self) -> str:
        return f"Order({self.request.foreign_id!r}, {self.state})"

    @property
    def is_free(self) -> bool:
        """Nobody waits for it: nobody asked yet, or the one who did is dead."""
        return self.process is None or self.process.owner.is_dead

    @property
    def is_shared(self) -> bool:
        """Others may send it, too: a "not sent" says nothing about what they do."""
        return self.is_doubled or self.intent.how == "enqueue"


def decided(order: Order, told: Withdrawal | WithdrawalError | JournalError, chance: Chance) -> None:
    """Do what an outcome allows."""
    if isinstance(told, Withdrawal):
        order.state = "paid"
    elif isinstance(told, WithdrawalError) and told.may_release_funds:
        _after_a_no(order, told.outcome, chance)


def _after_a_no(order: Order, outcome: str, chance: Chance) -> None:
    point = chance.draw("after", order.request.foreign_id, order.tries)
    if outcome in ("not_sent", "key_refused"):
        if not order.is_shared and point < 0.4:
            _release_or_rename(order, point < 0.2)
    elif outcome == "rejected" and order.intent.correction is not None and not order.is_corrected:
        order.is_corrected = True
        order.request = _renamed(order.intent.correction, order.request.foreign_id)
    elif (
        outcome != "conflict" or not order.is_shared
    ):  # whoever asks later may still pay it: the other payment may be refused
        _release_or_rename(order, point < 0.3)


def _release_or_rename(order: Order, releases: bool) -> None:  # noqa: FBT001 - a bare fact
    if releases or order.names >= _MOST_NAMES:
        order.state = "released"
        return
    order.names += 1
    order.request = _renamed(order.request, f"{order.intent.request.foreign_id}-{order.names}")


def _renamed(request: WithdrawalRequest, foreign_id: str) -> WithdrawalRequest:
    fields = {name: getattr(request, name) for name in msgspec.structs.asdict(request)}
    return request_of(
        {**{name: value for name, value in fields.items() if value is not None}, "foreign_id": foreign_id}
    )
