"""Processes race for the same withdrawals, and one is paused for longer than its lease: a short run on both shared journals."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from tests.proof.racing import race
from tests.support import postgres
from tests.support.long import long_after


@pytest.mark.parametrize("kind", long_after(1, ["file", "database"]))
async def test_whoever_wins_each_is_paid_once_and_everybody_hears_the_truth(tmp_path: Path, kind: str) -> None:
    """Of two payments under one foreign_id one is sent; a paused holder settles nothing that is not its own."""
    journal = None
    if kind == "database":
        name = postgres.schema()
        await postgres.execute(f"create database {name}")
        journal = postgres.database(name)
    found = await asyncio.to_thread(race, 3, 60, 1, tmp_path, seed=5, journal=journal)
    assert found.is_clean, found
    assert found.told["accepted"] > 60
    assert found.told["conflict"] >= 15
