"""Instructions per withdrawal, layer by layer: `python -m benchmarks.bench_instructions`.

On a shared machine time says little about a change of a few hundredths; instructions repeat to a hundredth whatever else runs. Valgrind's
callgrind counts those of the client's process, its threads included and the kernel left out, in two runs of different length; the
difference is what the payments cost. What an import costs is counted against a Python that imports nothing. It needs valgrind
(`apt install valgrind`), and takes about six minutes.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.bench_import import STATEMENTS
from benchmarks.bench_profile import over_the_session, with_request_and_reply
from benchmarks.bench_withdraw import WARM_UP
from benchmarks.contenders import Contender, by_hand, in_a_file, in_memory
from benchmarks.measuring import RESULTS, at_once, report, tabled
from benchmarks.server import serving

FAILING = "ours: in memory, 1 % failing"
"""The first attempts of these end in doubt; they are looked up and sent again."""
LAYERS: dict[str, Contender] = {
    "hand-written aiohttp": by_hand,
    "our session alone": over_the_session,
    "+ request, signature, judgement": with_request_and_reply,
    "ours: withdraw, in memory": in_memory,
    FAILING: in_memory,
    "ours: withdraw, SQLite": in_a_file,
}
VALGRIND = shutil.which("valgrind")
SHORT = 100  # payments of the shorter run
_COLLECTED = re.compile(r"Collected : (\d+)")


async def _pay(contender: Contender, url: str, number: int, in_flight: int) -> None:
    async with contender(url, in_flight) as pay:
        await at_once(range(-WARM_UP * in_flight, 0), in_flight, pay)
        await at_once(range(number), in_flight, pay)


def _instructions(*arguments: str) -> int:
    """Return the instructions of a whole Python process."""
    command = (VALGRIND or "valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", sys.executable)
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    output = subprocess.run(
        [*command, "-W", "ignore", *arguments],
        env=environment | {"PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = _COLLECTED.search(output.stderr)
    assert found is not None, output.stderr[-500:]
    return int(found[1])


def _paying(name: str, number: int, in_flight: int) -> int:
    """Return those of a process that makes so many payments, to a server that has seen none of them."""
    with serving(kind="failing" if name == FAILING else "accepting") as url:
        payments = ("--one", name, "--url", url, "--number", str(number), "--in-flight", str(in_flight))
        return _instructions("-m", "benchmarks.bench_instructions", *payments)


def _paid(number: int, in_flight: int, pool: ThreadPoolExecutor) -> dict[str, float]:
    """Return thousands of instructions for each payment."""
    long = {name: pool.submit(_paying, name, number, in_flight) for name in LAYERS}
    short = {name: pool.submit(_paying, name, SHORT, in_flight) for name in LAYERS}
    return {name: (long[name].result() - short[name].result()) / (number - SHORT) / 1e3 for name in LAYERS}


def _imported(pool: ThreadPoolExecutor) -> dict[str, float]:
    """Return thousands of instructions for each import."""
    for statement in STATEMENTS.values():
        _instructions("-c", statement)  # compiled now
    runs = {name: pool.submit(_instructions, "-c", statement) for name, statement in STATEMENTS.items()}
    nothing = _instructions("-c", "pass")
    return {name: (one.result() - nothing) / 1e3 for name, one in runs.items()}


def main() -> None:
    """Count, print the tables, and write the figures."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--number", type=int, default=600, help="payments of the longer run")
    made.add_argument("--in-flight", type=int, default=100)
    made.add_argument("--out", type=Path, default=RESULTS, help="where the JSON and the plot are written")
    made.add_argument("--one", choices=LAYERS, help=argparse.SUPPRESS)
    made.add_argument("--url", help=argparse.SUPPRESS)
    wanted = made.parse_args()
    if wanted.one is not None:
        asyncio.run(_pay(LAYERS[wanted.one], wanted.url, wanted.number, wanted.in_flight))
        return
    if VALGRIND is None:
        sys.exit("This needs valgrind: apt install valgrind")
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        paid, imported = _paid(wanted.number, wanted.in_flight, pool), _imported(pool)
    tables: list[dict[str, Any]] = [
        tabled(f"Instructions per payment, {wanted.in_flight} in flight, asyncio", "thousands", [paid]),
        tabled("Instructions of an import", "thousands", [imported]),
    ]
    report("bench_instructions", wanted.out, tables)


if __name__ == "__main__":
    main()
