"""The public names of the local sandbox."""

from __future__ import annotations

from alphapo_async import sandbox


def test_every_public_name_is_there() -> None:
    """What is promised can be imported."""
    assert all(hasattr(sandbox, name) for name in sandbox.__all__)
    wanted = "Sandbox Dialect Fault Faults Script Ledger OutagePlan Call SeenBody AcceptedWithdrawal DIALECT_CHOICES covering_dialects"
    assert {*wanted.split(), "FAULT_SETS", "Mischief", "Delivered"} <= set(sandbox.__all__)
