"""A short run of the killing: workers die at random moments, and nothing is lost, paid twice or told wrong."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.proof.killing import kill_and_resume
from tests.support import postgres
from tests.support.long import LONG, long_after


@pytest.mark.parametrize("seed", long_after(1, [11, 12]))
def test_killed_workers_lose_nothing(tmp_path: Path, seed: int) -> None:
    """Every withdrawal is accepted exactly once or definitely refused, and everybody was told the truth."""
    verdict = kill_and_resume(8, 12, seed, tmp_path)
    assert verdict.is_clean, verdict
    assert verdict.stuck == []
    assert verdict.withdrawals > 40
    assert set(verdict.outcomes) == {"accepted", "rejected"}


def test_killed_workers_with_blind_look_ups_tell_nothing_wrong(tmp_path: Path) -> None:
    """What nobody can know stays unknown."""
    verdict = kill_and_resume(6, 12, 13, tmp_path, is_blind=True)
    assert verdict.is_clean, verdict
    assert verdict.outcomes["open"] > 0


@LONG
async def test_killed_workers_lose_nothing_in_a_database(tmp_path: Path) -> None:
    """Their connections end with them, and the next worker goes on."""
    name = postgres.schema()
    await postgres.execute(f"create database {name}")
    verdict = await asyncio.to_thread(kill_and_resume, 6, 12, 14, tmp_path, journal=postgres.database(name))
    assert verdict.is_clean, verdict
    assert verdict.stuck == []
    assert verdict.withdrawals > 30
    assert set(verdict.outcomes) == {"accepted", "rejected"}
