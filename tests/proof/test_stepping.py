"""One withdrawal, killed between any two of its steps, on both journals that survive it."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from alphapo_async.sandbox.faults import Call, Fault
from tests.proof.background import running_sandbox
from tests.proof.killing import judge, settle_all
from tests.support import postgres
from tests.support.long import long_after

SERIES = {0: None, 10_000: Fault.RESET_AFTER, 20_000: Fault.RESET_BEFORE}
"""By the number of their first withdrawal, what happens to the first body of each."""


class FirstBody:
    """A plan that strikes the first body of every withdrawal, as its number says."""

    def next(self, call: Call, /) -> Fault | None:
        """Return the fault."""
        number = int(call.foreign_id.rpartition("-")[2])
        is_first = call.kind == "withdrawal" and call.number == 1
        return SERIES[number // 10_000 * 10_000] if is_first else None


@pytest.mark.parametrize("kind", long_after(1, ["file", "database"]))
async def test_no_step_is_one_too_many(tmp_path: Path, kind: str) -> None:
    """Wherever it is killed, the withdrawal is accepted exactly once or definitely refused, and the ledger agrees."""
    journal = str(tmp_path / "payouts.db")
    if kind == "database":
        name = postgres.schema()
        await postgres.execute(f"create database {name}")
        journal = postgres.database(name)
    result = tmp_path / "told.txt"
    result.touch()
    with running_sandbox(faults=FirstBody()) as sandbox:
        steps = await asyncio.gather(
            *(asyncio.to_thread(_killed_at_every_step, sandbox.url, journal, first) for first in SERIES)
        )
        await settle_all(sandbox.url, journal, result)
        verdict = await judge(sandbox, journal, result, is_blind=False)
    assert min(steps) > 10
    assert steps[1] > steps[0]
    assert verdict.is_clean, verdict
    assert verdict.stuck == []
    assert set(verdict.outcomes) == {"accepted", "rejected"}
    assert verdict.withdrawals > sum(steps) / 3


def _killed_at_every_step(url: str, journal: str, first: int) -> int:
    command = [sys.executable, "-m", "tests.proof.stepped", url, journal, str(first)]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    return int(ran.stdout)
