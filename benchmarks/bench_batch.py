"""A batch against plain loops of `withdraw`, and its memory: `python -m benchmarks.bench_batch`, about half an hour for a million rows.

Each figure is measured in a process of its own, with the journal in an SQLite file. The server is another process, which has seen no row
yet: one that costs next to nothing, or the local sandbox. Memory is the paying process's highest resident size.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any, Final

from alphapo_async import AlphapoClient, WithdrawalRequest
from alphapo_async.sandbox import Sandbox
from benchmarks.contenders import KEY, SECRET, fields
from benchmarks.measuring import Measure, at_once, enough, measured, parser, report
from benchmarks.server import serving

BARE: Final = ("benchmarks.server", "accepting")
SANDBOX: Final = ("benchmarks.bench_batch", "--sandbox")
IN_FLIGHT: Final = 100
"""Through the local sandbox."""
FEW: Final = 10_000
"""Rows to whose memory that of many is compared."""


def _request(number: int) -> WithdrawalRequest:
    return WithdrawalRequest(**fields(number))


async def by_batch(client: AlphapoClient, number: int, in_flight: int) -> None:
    """Pay with `batch`."""
    outcomes: Counter[str] = Counter()
    async for result in client.batch(map(_request, range(number)), concurrency=in_flight):
        outcomes[result.outcome] += 1
    assert outcomes == {"accepted": number}, outcomes


async def by_loop(client: AlphapoClient, number: int, in_flight: int) -> None:
    """Pay with so many plain loops of `withdraw` beside each other, which raise where a row is not accepted."""
    await at_once(range(number), in_flight, lambda one: client.withdraw(_request(one)))


async def _measure(how: str, url: str, number: int, in_flight: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        journal = str(Path(folder) / "payouts.db")
        async with AlphapoClient(KEY, SECRET, base_url=url, journal=journal, max_connections=in_flight) as client:
            began = time.perf_counter()
            await (by_batch if how == "batch" else by_loop)(client, number, in_flight)
            seconds = time.perf_counter() - began
    return {"rows": number, "seconds": seconds, "peak_mib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}


def _in_a_process(how: str, server: tuple[str, str], number: int, in_flight: int) -> dict[str, float]:
    with serving(*server) as url:
        command = [sys.executable, "-m", "benchmarks.bench_batch", "--child", how, url, str(number), str(in_flight)]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    output: dict[str, float] = json.loads(done.stdout)
    return output


async def _sandbox() -> None:
    async with Sandbox(KEY, SECRET) as sandbox:
        print(sandbox.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


def memory(number: int) -> dict[str, Any]:
    """Pay few and many rows through the local sandbox, and print what memory that took."""
    few, many = (_in_a_process("batch", SANDBOX, rows, IN_FLIGHT) for rows in (FEW, number))
    ratio = many["peak_mib"] / few["peak_mib"]
    print(f"\nMemory of a batch, {IN_FLIGHT} in flight, local sandbox")
    print(f"{'rows':>9} {'peak MiB':>9} {'rows/s':>9} {'s':>9}")
    for one in (few, many):
        print(
            f"{one['rows']:>9,} {one['peak_mib']:>9.1f} {one['rows'] / one['seconds']:>9,.0f} {one['seconds']:>9,.0f}"
        )
    print(f"Peak of many as a ratio to that of few: {ratio:.3f}", flush=True)
    return {"in_flight": IN_FLIGHT, "few": few, "many": many, "ratio": ratio}


def throughput(number: int, in_flight: Iterable[int], repeats: int) -> list[dict[str, Any]]:
    """Compare in turn: against a server that costs next to nothing, and through the local sandbox."""
    places = [("bare server", BARE, one) for one in in_flight] + [("local sandbox", SANDBOX, IN_FLIGHT)]
    return [_table(name, server, enough(number, one), one, repeats) for name, server, one in places]


def _table(name: str, server: tuple[str, str], number: int, in_flight: int, repeats: int) -> dict[str, Any]:
    contenders: dict[str, Measure] = {
        "plain loops of withdraw": partial(_each, "loop", server, number, in_flight),
        "ours: batch": partial(_each, "batch", server, number, in_flight),
    }
    return measured(f"Time per row, {in_flight:,} in flight, {name}", "µs", contenders, repeats)


def _each(how: str, server: tuple[str, str], number: int, in_flight: int) -> float:
    """Return the microseconds that pass for each row."""
    return _in_a_process(how, server, number, in_flight)["seconds"] / number * 1e6


def main() -> None:
    """Measure throughput, then memory; print the tables, and write the figures."""
    made = parser(__doc__)
    made.add_argument("--number", type=int, default=1_000_000, help="rows of the large batch; 0 leaves memory out")
    made.add_argument(
        "--compared", type=int, default=10_000, help="rows of each compared run; a tenth with 1 in flight"
    )
    made.add_argument(
        "--in-flight",
        type=int,
        nargs="*",
        default=[1, 10, 100, 1_000],
        help=f"against the bare server; through the sandbox it is {IN_FLIGHT}",
    )
    made.add_argument("--sandbox", action="store_true", help=argparse.SUPPRESS)
    made.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    wanted = made.parse_args()
    if wanted.sandbox:
        asyncio.run(_sandbox())
    elif wanted.child:
        how, url, number, in_flight = wanted.child
        print(json.dumps(asyncio.run(_measure(how, url, int(number), int(in_flight)))))
    else:
        tables = throughput(wanted.compared, wanted.in_flight, wanted.repeats)
        about = {"memory": memory(wanted.number)} if wanted.number else {}
        report("bench_batch", wanted.out, tables, about)


if __name__ == "__main__":
    main()
