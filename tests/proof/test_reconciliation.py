"""A short run of the planted differences: `python -m tests.proof.reconciliation` is the long one."""

from __future__ import annotations

from pathlib import Path

from tests.proof.reconciliation import KINDS, make, reconciled


def test_every_planted_difference_is_found_and_nothing_else(tmp_path: Path) -> None:
    """Of each kind as many as were planted, in constant memory."""
    planted = make(tmp_path, 1_000, 90)
    assert set(planted) == set(KINDS)
    found, summary, peak, _ = reconciled(tmp_path)
    assert found == planted
    assert (summary["matched"], summary["exit_code"]) == (1_000 - 70, 1)
    assert peak < 100 * 1_024
