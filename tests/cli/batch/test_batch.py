"""The promise of `alphapo batch`, kept by real processes that are killed."""

from __future__ import annotations

import asyncio
import csv
import random
import signal
from collections import Counter
from pathlib import Path

from alphapo_async.sandbox import Sandbox
from tests.cli.batch.forked import FORKS, run_command
from tests.cli.conftest import clean_environment
from tests.support.long import LONG

KEY, SECRET = "made-up-key", "made-up-secret"
ROWS, KILLS, SEED = 800, 20, 4
A_MOMENT = 0.05
"""Seconds, at most, from the last payment that is waited for to the kill: a moment counts payments, since machines differ in speed."""


def _lines(path: Path) -> list[dict[str, str]]:
    """Return the lines of a results file; every one of them is whole."""
    with path.open(encoding="utf-8", newline="") as file:
        text = file.read()
    assert text == "" or text.endswith("\n")
    lines = list(csv.DictReader(text.splitlines(), strict=True))
    assert all(None not in line and None not in line.values() for line in lines)
    return lines


@LONG
async def test_a_batch_killed_at_twenty_moments_is_finished_by_the_same_command(tmp_path: Path) -> None:
    """The results are whole lines at every moment and complete at the end, and every payment was made exactly once."""
    path, results = tmp_path / "payouts.csv", tmp_path / "payouts.csv.results.csv"
    rows = "".join(f"p-{one},BTC,made-up-{one},0.5,user\n" for one in range(ROWS))
    again = "p-7,BTC,made-up-7,0.50,user\nwrong,BTC,made-up,-1,user\np-8,BTC,made-up-8,9,user\n"
    path.write_text(f"foreign_id,currency,address,amount,end_user_reference\n{rows}{again}", encoding="utf-8")
    chance, killed = random.Random(SEED), 0
    async with Sandbox(KEY, SECRET, latency=0.02) as sandbox:
        environment = clean_environment(ALPHAPO_KEY=KEY, ALPHAPO_SECRET=SECRET, ALPHAPO_BASE_URL=sandbox.url)

        async def run(paid: int | None) -> int | None:
            """Run the command, until it has paid so many more rows and a moment longer."""
            command, begun = ["batch", str(path), "--concurrency", "8"], len(sandbox.ledger.all_accepted())
            process = FORKS.Process(target=run_command, args=(command, environment))
            process.start()
            if paid is not None:
                while process.is_alive() and len(sandbox.ledger.all_accepted()) < begun + paid:  # noqa: ASYNC110 - it happens in another process
                    await asyncio.sleep(0.002)
                await asyncio.sleep(chance.uniform(0.0, A_MOMENT))
                process.kill()
            await asyncio.to_thread(process.join)
            return process.exitcode

        for number in range(KILLS):
            killed += await run(3 * number) == -signal.SIGKILL
            if results.exists():
                _lines(results)
        assert await run(None) == 1
        await sandbox.drain()
        accepted = Counter(entry.foreign_id for entry in sandbox.ledger.all_accepted())
    assert killed == KILLS
    assert accepted == {f"p-{one}": 1 for one in range(ROWS)}
    result = Counter((line["foreign_id"], line["outcome"]) for line in _lines(results))
    assert result == {
        **{(f"p-{one}", "accepted"): 1 for one in range(ROWS)},
        ("p-7", "accepted"): 2,
        ("wrong", "invalid"): 1,
        ("p-8", "conflict"): 1,
    }
