"""The local sandbox: AlphaPo's side of the wire, for tests and demonstrations. No money moves.

Use `Sandbox` as an async context manager and point a client at its `url`; `Faults`, `Script`, `OutagePlan` and `AllFail` say what goes
wrong, `Mischief` what happens to callbacks on their way, `Dialect` how AlphaPo answers where its documents are silent, and `Ledger`
shows afterwards who was paid.
"""

from __future__ import annotations

from alphapo_async.sandbox.callbacks import Delivered, Mischief
from alphapo_async.sandbox.dialects import DIALECT_CHOICES, Dialect, covering_dialects
from alphapo_async.sandbox.fault_sets import FAULT_SETS
from alphapo_async.sandbox.faults import AllFail, Call, Fault, FaultPlan, Faults, OutagePlan, Script, Several
from alphapo_async.sandbox.http import Sandbox
from alphapo_async.sandbox.ledger import AcceptedWithdrawal, Ledger, PaidTwice, SeenBody

__all__ = [
    "DIALECT_CHOICES",
    "FAULT_SETS",
    "AcceptedWithdrawal",
    "AllFail",
    "Call",
    "Delivered",
    "Dialect",
    "Fault",
    "FaultPlan",
    "Faults",
    "Ledger",
    "Mischief",
    "OutagePlan",
    "PaidTwice",
    "Sandbox",
    "Script",
    "SeenBody",
    "Several",
    "covering_dialects",
]
