"""What the tests of the local sandbox share: a payment, signed questions, and books with a clock set by hand."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from alphapo_async.core.signer import Signer
from alphapo_async.sandbox.checks import WithdrawalFields
from alphapo_async.sandbox.desk import Desk, Question
from alphapo_async.sandbox.dialects import Dialect
from alphapo_async.sandbox.fault_sets import named_faults
from alphapo_async.sandbox.faults import FaultPlan
from alphapo_async.sandbox.ledger import Ledger
from alphapo_async.sandbox.records import SandboxWithdrawal
from alphapo_async.sandbox.rules import MerchantState

SIGNER = Signer("sandbox-key", "sandbox-secret")
OTHER = Signer("other-key", "other-secret")


def fields(**changes: Any) -> dict[str, Any]:
    """Return the fields of a valid withdrawal, changed; None takes a field out."""
    plain = {
        "currency": "BTC",
        "address": "bc1qSomebody",
        "amount": "0.0015",
        "foreign_id": "payout-17",
        "end_user_reference": "user-42",
    }
    return {name: value for name, value in (plain | changes).items() if value is not None}


def question(body: Any, signer: Signer = SIGNER, content_type: str = "application/json") -> Question:
    """Return a signed question; a body of bytes is taken as it is."""
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    return Question(raw, signer.key, signer.sign(raw), content_type)


def accepted(state: MerchantState, now: float = 0.0, key: str = SIGNER.key, **changes: Any) -> SandboxWithdrawal:
    """Let a world accept a withdrawal."""
    verdict = state.withdraw(fields(**changes), key, now)
    assert isinstance(verdict, SandboxWithdrawal), verdict
    return verdict


def asked(**changes: Any) -> WithdrawalFields:
    """Return a withdrawal that passed its checks."""
    plain: dict[str, Any] = {
        "foreign_id": "payout-17",
        "currency": "BTC",
        "address": "bc1qSomebody",
        "end_user_reference": "user-42",
        "amount": Decimal("0.0015"),
        "amount_to": None,
        "convert_to": None,
        "tag": None,
    }
    return WithdrawalFields(**(plain | changes))


class Counter:
    """A desk with a clock that is set by hand."""

    def __init__(self, dialect: Dialect | None = None, faults: FaultPlan | str = "none", **settings: Any) -> None:
        self.time = 0.0
        self.state = MerchantState(dialect, **settings)
        self.ledger = Ledger(self.state, lambda: self.time)
        plan = named_faults(faults) if isinstance(faults, str) else faults
        self.desk = Desk(self.state, self.ledger, {signer.key: signer for signer in (SIGNER, OTHER)}, plan)
