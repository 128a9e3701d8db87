"""Instructions per withdrawal, layer by layer: `python -m benchmarks.bench_instructions`.

On a shared machine time says little about a change of a few hundredths; instructions repeat to a hundredth whatever else runs. Valgrind's
callgrind counts those of the client's process, its threads included and the kernel left out, in two runs of different length; the
difference is what the payments cost. It needs valgrind (`apt install valgrind`), and takes about four minutes.
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

from benchmarks.bench_profile import over_the_session, with_request_and_reply
from benchmarks.bench_withdraw import WARM_UP
from benchmarks.contenders import Contender, by_hand, in_a_file, in_memory
from benchmarks.measuring import at_once
from benchmarks.server import serving

LAYERS: dict[str, Contender] = {
    "hand-written aiohttp": by_hand,
    "our session alone": over_the_session,
    "+ request, signature, judgement": with_request_and_reply,
    "ours: withdraw, in memory": in_memory,
    "ours: withdraw, SQLite": in_a_file,
}
VALGRIND = shutil.which("valgrind")
SHORT = 100  # payments of the shorter run
_COLLECTED = re.compile(r"Collected : (\d+)")


async def _pay(contender: Contender, url: str, number: int, in_flight: int) -> None:
    async with contender(url, in_flight) as pay:
        await at_once(range(-WARM_UP * in_flight, 0), in_flight, pay)
        await at_once(range(number), in_flight, pay)


def _counted(name: str, url: str, number: int, in_flight: int) -> int:
    """Return the instructions of a whole process that makes so many payments."""
    told = subprocess.run(
        [
            VALGRIND or "valgrind",
            "--tool=callgrind",
            "--callgrind-out-file=/dev/null",
            *(sys.executable, "-W", "ignore", "-m", "benchmarks.bench_instructions", "--one", name),
            *("--url", url, "--number", str(number), "--in-flight", str(in_flight)),
        ],
        env={**os.environ, "PYTHONHASHSEED": "0"},
        capture_output=True,
        text=True,
        check=True,
    )
    found = _COLLECTED.search(told.stderr)
    assert found is not None, told.stderr[-500:]
    return int(found[1])


def main() -> None:
    """Count, and print the table."""
    made = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument("--number", type=int, default=600, help="payments of the longer run")
    made.add_argument("--in-flight", type=int, default=100)
    made.add_argument("--one", choices=LAYERS, help=argparse.SUPPRESS)
    made.add_argument("--url", help=argparse.SUPPRESS)
    wanted = made.parse_args()
    if wanted.one is not None:
        asyncio.run(_pay(LAYERS[wanted.one], wanted.url, wanted.number, wanted.in_flight))
        return
    if VALGRIND is None:
        sys.exit("This needs valgrind: apt install valgrind")
    with serving() as url, ThreadPoolExecutor(os.cpu_count()) as pool:
        runs = {
            (name, number): pool.submit(_counted, name, url, number, wanted.in_flight)
            for name in LAYERS
            for number in (SHORT, wanted.number)
        }
        each = {
            name: (runs[name, wanted.number].result() - runs[name, SHORT].result()) / (wanted.number - SHORT)
            for name in LAYERS
        }
    by = next(iter(each.values()))
    print(f"Thousands of instructions per payment, {wanted.in_flight} in flight, asyncio")
    for name, count in each.items():
        print(f"{name:34} {count / 1000:>9.1f} {count / by:>7.3f}")


if __name__ == "__main__":
    main()
