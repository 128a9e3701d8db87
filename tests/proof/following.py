"""Pay and follow a file under the faults of the demo, with conversions, on and off the blockchain, and compare the results with the ledger.

`python -m tests.proof.following --rows 2000` runs `alphapo batch FILE --follow` as an operator does, again while it asks for another run.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

from alphapo_async.cli.exit_codes import Exit
from alphapo_async.sandbox import AcceptedWithdrawal, Dialect, Sandbox

KEY, SECRET = "made-up-key", "made-up-secret"
HEADER: Final = "foreign_id,currency,address,amount,amount_to,end_user_reference,convert_to\n"
_RUNS: Final = 5
"""Runs of the command at most."""
_SETTLES_AFTER: Final = 2.0
_RATE: Final = 400
_QUIET: Final = 1_860.0
"""Seconds after which AlphaPo accepts no body that was sent before."""
Parts = Literal["blockchain", "internal"]


class Followed(msgspec.Struct):
    """What came of a file."""

    rows: int
    runs: int
    code: int
    seconds: float
    statuses: Counter[str]
    wrong: list[str]
    """Lines that the ledger disproves, or that lack something."""
    waiting: int
    """Rows that AlphaPo has ended, and that are unknown until the quiet time is over."""
    doubled: int
    """Withdrawals that moved money twice."""


def text_of(count: int) -> str:
    """Return a file: of four rows one converts what it sends, one what the receiver gets; some are cancelled or declined later."""
    lines = []
    for number in range(count):
        address = {7: "12345", 13: "decline-me"}.get(number % 20, f"made-up-{number}")
        figures = ("EUR", "381.5", "", "BTC") if number % 4 == 1 else ("BTC", f"0.{number + 1:08d}", "", "")
        currency, amount, amount_to, target = ("EUR", "", "0.01", "BTC") if number % 4 == 2 else figures
        lines.append(f"row-{number},{currency},{address},{amount},{amount_to},user-{number},{target}\n")
    return HEADER + "".join(lines)


async def follow(
    folder: Path,
    count: int,
    parts: Parts,
    seed: int = 0,
    *,
    faults: str = "demo",
    settle_after: float = _SETTLES_AFTER,
    waits: float = 0.0,
) -> Followed:
    """Pay such a file, follow it, and compare each line of the results with the ledger.

    Where rows wait for the quiet time, run the command once more after so many seconds.
    """
    path, began = folder / f"{parts}.csv", time.monotonic()
    path.write_text(text_of(count), encoding="utf-8")
    sandbox = Sandbox(
        KEY, SECRET, faults=faults, seed=seed, settle_after=settle_after, dialect=Dialect(parts=parts, fees="outside")
    )
    async with sandbox:
        runs, code, wrong, waiting = 0, int(Exit.UNKNOWN), ["not run"], 0
        while code == Exit.UNKNOWN and (wrong or (waiting and waits)) and runs < _RUNS:
            if not wrong:
                await asyncio.sleep(waits)
            runs, code = runs + 1, await _run(path, sandbox.url)
            await sandbox.drain()
            lines, wrong, waiting = _judged(path, count, {one.foreign_id: one for one in sandbox.ledger.all_accepted()})
        doubled = len(sandbox.ledger.paid_more_than_once("foreign_id"))
    statuses = Counter(line["status"] for line in lines)
    return Followed(count, runs, code, time.monotonic() - began, statuses, wrong, waiting, doubled)


def _judged(
    path: Path, count: int, booked: Mapping[str, AcceptedWithdrawal]
) -> tuple[list[dict[str, str]], list[str], int]:
    """Return the lines of the results, why some are wrong, and how many wait for the quiet time by rule."""
    with path.with_name(f"{path.name}.results.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    waiting = [line for line in lines if _waits(line, booked.get(line["foreign_id"]))]
    judged = [line for line in lines if line not in waiting]
    wrong = [f"{line['foreign_id']}: {why}" for line in judged if (why := _wrong(line, booked.get(line["foreign_id"])))]
    if sorted(line["foreign_id"] for line in lines) != sorted(f"row-{number}" for number in range(count)):
        wrong.append("the lines are not the rows")
    return lines, wrong, len(waiting)


def _waits(line: dict[str, str], booked: AcceptedWithdrawal | None) -> bool:
    """Return whether a row is unknown because AlphaPo ended it, and an earlier attempt may arrive until the quiet time (30 min) is over."""
    return line["outcome"] == "unknown" and booked is not None and not booked.moved_money


async def _run(path: Path, url: str) -> int:
    command = [sys.executable, "-m", "alphapo_async", "batch", str(path), "--follow"]
    environment = {"ALPHAPO_KEY": KEY, "ALPHAPO_SECRET": SECRET, "ALPHAPO_BASE_URL": url, "PATH": os.environ["PATH"]}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
    process = await asyncio.create_subprocess_exec(
        *(*command, "--max-rate", str(_RATE), "--max-look-up-rate", str(_RATE), "--give-up-after", "90s"),
        env=environment,
        stdout=asyncio.subprocess.DEVNULL,
    )
    return await process.wait()


def _wrong(line: dict[str, str], booked: AcceptedWithdrawal | None) -> str | None:
    """Return why a line of the results is wrong, None if it is right: AlphaPo's final status, id, txid and fee, and the outcome for it."""
    if booked is None:
        return f"{line['outcome']}, and AlphaPo does not have it" if line["outcome"] != "rejected" else None
    outcome = "accepted" if booked.status == "confirmed" else "failed"
    expected = (outcome, str(booked.id), booked.status, f"{booked.id:064x}" if outcome == "accepted" else "")
    found = (line["outcome"], line["id"], line["status"], line["txids"])
    if found != expected:
        return f"{found}, and AlphaPo has {expected}"
    return "a fee is missing" if outcome == "accepted" and not line["fees"] else None


def main() -> None:
    """Follow a file on and off the blockchain."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--parts", choices=("blockchain", "internal"), action="append", help="both, if none is named")
    parser.add_argument(
        "--to-the-end", action="store_true", help="run again after the quiet time, for rows that wait for it"
    )
    given = parser.parse_args()
    bad = 0
    for parts in given.parts or ("blockchain", "internal"):
        with tempfile.TemporaryDirectory() as folder:
            outcome = asyncio.run(
                follow(Path(folder), given.rows, parts, given.seed, waits=_QUIET if given.to_the_end else 0.0)
            )
        print(
            f"{parts}: {outcome.rows:,} rows in {outcome.runs} runs and {outcome.seconds:.0f} s, "
            f"exit code {outcome.code}, {dict(outcome.statuses)}, "
            f"{outcome.waiting} wait for the quiet time, {len(outcome.wrong)} wrong, {outcome.doubled} doubled"
        )
        print("".join(f"  {why}\n" for why in outcome.wrong[:10]), end="")
        bad += len(outcome.wrong) + outcome.doubled
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
