"""A batch against a plain loop of `withdraw`, and its memory: `python -m benchmarks.bench_batch`, about half an hour for a million rows.

Each figure is measured in a process of its own that pays through the local sandbox in another one, with the journal in an SQLite
file. Memory is the process's highest resident size. Throughput is compared in turn, several times over: the machine may be busy
with other things.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from alphapo_async import AlphapoClient, WithdrawalRequest
from alphapo_async.sandbox import Sandbox
from benchmarks.server import serving

KEY, SECRET = "benchmark-key", "benchmark-secret"


def _requests(number: int) -> Iterator[WithdrawalRequest]:
    for one in range(number):
        yield WithdrawalRequest(
            currency="BTC",
            amount="0.0015",
            address="bc1qxy2kgdygjrsqtzq2n0yrf2493p83kkfjhx0wlh",
            foreign_id=f"payout-{one}",
            end_user_reference=f"user-{one % 97}",
        )


async def by_batch(client: AlphapoClient, number: int, concurrency: int) -> Counter[str]:
    """Pay with `batch`."""
    outcomes: Counter[str] = Counter()
    async for result in client.batch(_requests(number), concurrency):
        outcomes[result.outcome] += 1
    return outcomes


async def by_loop(client: AlphapoClient, number: int, concurrency: int) -> Counter[str]:
    """Pay with so many plain loops of `withdraw` beside each other."""
    requests, paid = _requests(number), Counter[str]()

    async def loop() -> None:
        for request in requests:
            await client.withdraw(request)
            paid["accepted"] += 1

    await asyncio.gather(*(loop() for _ in range(concurrency)))
    return paid


async def _measure(how: str, url: str, number: int, concurrency: int) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as folder:
        journal = str(Path(folder) / "payouts.db")
        async with AlphapoClient(KEY, SECRET, base_url=url, journal=journal) as client:
            began = time.perf_counter()
            outcomes = await (by_batch if how == "batch" else by_loop)(client, number, concurrency)
            seconds = time.perf_counter() - began
    assert outcomes == {"accepted": number}, outcomes
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return {"seconds": seconds, "rate": number / seconds, "peak_mib": peak}


def _in_a_process(how: str, url: str, number: int, concurrency: int) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.bench_batch", "--child", how, url, str(number), str(concurrency)]
    told: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return told


async def _sandbox() -> None:
    async with Sandbox(KEY, SECRET) as sandbox:
        print(sandbox.url, flush=True)
        await asyncio.to_thread(sys.stdin.read)


def memory(number: int, concurrency: int) -> None:
    """Pay few and many rows, each with a sandbox of its own."""
    few = 10_000
    with serving("benchmarks.bench_batch", "--sandbox") as url:
        small = _in_a_process("batch", url, few, concurrency)
    with serving("benchmarks.bench_batch", "--sandbox") as url:
        large = _in_a_process("batch", url, number, concurrency)
    print(
        f"{few} rows: peak {small['peak_mib']:.1f} MiB; {number} rows: peak {large['peak_mib']:.1f} MiB, "
        f"{large['peak_mib'] / small['peak_mib']:.3f} times as much; {large['rate']:.0f} rows/s, {large['seconds']:.0f} s"
    )


def throughput(number: int, concurrency: int, repeats: int) -> None:
    """Compare in turn: through the local sandbox, and against a server that costs next to nothing."""
    for name, server in (
        ("local sandbox", ("benchmarks.bench_batch", "--sandbox")),
        ("bare server", ("benchmarks.server", "accepting")),
    ):
        ratios, rates = [], []
        for _ in range(repeats):
            with serving(*server) as url:
                loop = _in_a_process("loop", url, number, concurrency)
            with serving(*server) as url:
                batch = _in_a_process("batch", url, number, concurrency)
            ratios.append(batch["rate"] / loop["rate"])
            rates.append(batch["rate"])
        print(
            f"{name}: batch at {statistics.median(rates):.0f} rows/s, {statistics.median(ratios):.3f} times the plain loop "
            f"({min(ratios):.3f} to {max(ratios):.3f})"
        )


def main() -> None:
    """Measure memory, then throughput."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--number", type=int, default=1_000_000, help="rows of the large batch; 0 leaves memory out")
    parser.add_argument("--compared", type=int, default=10_000, help="rows of each compared run")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--sandbox", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--child", nargs=4, help=argparse.SUPPRESS)
    wanted = parser.parse_args()
    if wanted.sandbox:
        asyncio.run(_sandbox())
    elif wanted.child:
        how, url, number, concurrency = wanted.child
        print(json.dumps(asyncio.run(_measure(how, url, int(number), int(concurrency)))))
    else:
        throughput(wanted.compared, wanted.concurrency, wanted.repeats)
        if wanted.number:
            memory(wanted.number, wanted.concurrency)


if __name__ == "__main__":
    main()
