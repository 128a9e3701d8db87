"""Workers that are killed while they drain an outbox: `python -m benchmarks.bench_takeover --rows 1000000 --kill-every 10`.

Workers share one PostgreSQL. Every few seconds one of them gets SIGKILL, and another is started in its place. For each kill it prints how
many answers were due on its connections, how many rows were put in doubt (these, what was answered and not recorded yet, and what was about
to begin), how many of them had never left, and after how long the others had settled the rest. AlphaPo is a server that accepts each
foreign_id once, or with `--faults NAME` the sandbox with those faults. At the end its ledger is compared with the journal: nothing may be
paid twice, lost, or reported wrong.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator
from math import inf
from statistics import median, quantiles
from typing import Any, NamedTuple

import asyncpg

from alphapo_async import AlphapoClient, RetryPolicy, WithdrawalRequest
from alphapo_async.contrib.pytest_plugin import RunningSandbox
from alphapo_async.sandbox.fault_sets import FAULT_SETS
from benchmarks.bench_scale import counts_of, opened
from benchmarks.contenders import KEY, SECRET, fields
from benchmarks.measuring import parser, run
from benchmarks.server import serving

_PAGE = 5_000
_QUIET = 60.0
"""Seconds after which what look-ups do not find is sent again, so that a run comes to an end."""


_FREED = """
select h.at, coalesce(w.settled_at, 'infinity') as settled_at
from alphapo.history h join alphapo.withdrawals w on w.id = h.withdrawal_id where h.kind = 'lease_expired'
"""


class _FarEnd(NamedTuple):
    """Who accepts: its URL, and what it has counted (`accepted`, `twice`, `cut`)."""

    url: str
    counts: Callable[[], dict[str, int]]


class _Kill(NamedTuple):
    """One worker that was killed: when (seconds since the epoch), and how many answers were due on its connections."""

    at: float
    cut: int


@contextlib.contextmanager
def _far_end(faults: str | None, latency: float) -> Iterator[_FarEnd]:
    if faults is None:
        with serving("benchmarks.server", "slow", str(latency)) as url:
            yield _FarEnd(url, lambda: {"twice": 0, **counts_of(url)})
        return
    with RunningSandbox(key=KEY, secret=SECRET, faults=FAULT_SETS[faults](1)) as sandbox:

        def counts() -> dict[str, int]:
            names = [one.foreign_id for one in sandbox.ledger.all_accepted()]
            return {"accepted": len(set(names)), "twice": len(names) - len(set(names)), "cut": 0}

        yield _FarEnd(sandbox.url, counts)


def _client(url: str, journal: str, **more: Any) -> AlphapoClient:
    return AlphapoClient(KEY, SECRET, base_url=url, journal=journal, policy=RetryPolicy(quiet=_QUIET), **more)


async def _work(url: str, journal: str, concurrency: int) -> None:
    async with _client(url, journal, max_connections=concurrency) as client:
        await client.work(concurrency=concurrency)


def _started(url: str, journal: str, at_once: int) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "benchmarks.bench_takeover", "be-a-worker", url, journal, str(at_once)]
    return subprocess.Popen(command, stderr=subprocess.DEVNULL)


async def _enqueue(url: str, journal: str, rows: int) -> float:
    """Leave so many rows to the workers, through two connections, and return how many a second."""
    began = time.perf_counter()
    async with _client(url, journal) as client:
        await client.enqueue(WithdrawalRequest(**fields(0)))

        async def enqueue(pages: Iterator[int]) -> None:
            connection = await asyncpg.connect(journal)
            try:
                for first in pages:
                    page = range(first, min(first + _PAGE, rows))
                    statements = [client.enqueue_statement(WithdrawalRequest(**fields(one)))[0] for one in page]
                    await connection.execute("; ".join(statements))
            finally:
                await connection.close()

        pages = iter(range(1, rows, _PAGE))
        await asyncio.gather(enqueue(pages), enqueue(pages))
    return rows / (time.perf_counter() - began)


@contextlib.asynccontextmanager
async def _working(url: str, journal: str, workers: int, at_once: int) -> AsyncIterator[list[subprocess.Popen[bytes]]]:
    processes = [_started(url, journal, at_once) for _ in range(workers)]
    try:
        yield processes
    finally:
        for one in processes:
            one.kill()
            one.wait()


async def _drain(far_end: _FarEnd, journal: str, chosen: Any) -> tuple[list[_Kill], float]:
    """Drain the outbox, with kills; return these, and the rate."""
    kills: list[_Kill] = []
    began, next_kill, middle = time.perf_counter(), time.perf_counter() + chosen.kill_every, []
    async with _working(far_end.url, journal, chosen.workers, chosen.at_once) as processes:
        while (accepted := (await asyncio.to_thread(far_end.counts))["accepted"]) < chosen.rows:
            if chosen.rows * 0.05 <= accepted <= chosen.rows * 0.95:
                middle.append((time.perf_counter(), accepted))
            if time.perf_counter() >= next_kill and accepted <= chosen.rows * 0.95:
                kills.append(await _kill(far_end, processes, len(kills) % chosen.workers, journal, chosen.at_once))
                next_kill += chosen.kill_every
            if time.perf_counter() - began > chosen.give_up_after:
                break
            await asyncio.sleep(0.2)
        await _settle(journal)
    (since, first), (until, last) = middle[0], middle[-1]
    return kills, (last - first) / (until - since)


async def _kill(
    far_end: _FarEnd, processes: list[subprocess.Popen[bytes]], number: int, journal: str, at_once: int
) -> _Kill:
    before = (await asyncio.to_thread(far_end.counts))["cut"]
    at = time.time()
    processes[number].send_signal(signal.SIGKILL)
    processes[number].wait()
    processes[number] = _started(far_end.url, journal, at_once)
    await asyncio.sleep(1.0)
    return _Kill(at, (await asyncio.to_thread(far_end.counts))["cut"] - before)


async def _settle(journal: str) -> None:
    """Wait until the journal has an outcome of every row, which was handed out; at most the quiet time and a look-up more."""
    connection = await asyncpg.connect(journal)
    try:
        for _ in range(int(_QUIET * 3)):
            if not await connection.fetchval(
                "select 1 from alphapo.withdrawals where state = 'open' or not reported limit 1"
            ):
                return
            await asyncio.sleep(1.0)
    finally:
        await connection.close()


async def _report(journal: str, far_end: _FarEnd, kills: list[_Kill], rows: int) -> bool:
    """Print what became of the rows; return whether all is well."""
    connection = await asyncpg.connect(journal)
    try:
        states = dict(await connection.fetch("select state, count(*) from alphapo.withdrawals group by state"))
        lines = await connection.fetch(_FREED)
    finally:
        await connection.close()
    print(f"{'kill':>5} {'on the wire':>11} {'in doubt':>8} {'not sent':>8} {'settled after: p50':>18} {'p99':>7}")
    ends = [kill.at for kill in kills[1:]] + [inf]
    its = [[line for line in lines if kill.at <= line["at"] < end] for kill, end in zip(kills, ends, strict=True)]
    seconds = [[line["settled_at"] - kill.at for line in each] for kill, each in zip(kills, its, strict=True)]
    for number, kill in enumerate(kills):
        _print(str(number + 1), kill.cut, seconds[number])
    _print("all", sum(kill.cut for kill in kills), [one for each in seconds for one in each])
    counts = far_end.counts()
    lost = rows - sum(states.values())
    wrong = abs(states.get("accepted", 0) - counts["accepted"])
    print(f"AlphaPo accepted {counts['accepted']:,} of {rows:,}; the journal says {states}")
    print(f"doubled {counts['twice']}, lost {lost}, reported wrong {wrong}")
    return not (counts["twice"] or lost or wrong)


def _print(name: str, cut: int, seconds: list[float]) -> None:
    soon = [one for one in seconds if one < _QUIET]
    p50 = median(soon) if soon else 0.0
    p99 = quantiles(soon, n=100)[98] if len(soon) > 1 else p50
    print(f"{name:>5} {cut:>11} {len(seconds):>8} {len(seconds) - len(soon):>8} {p50:>16.2f} s {p99:>5.2f} s")


async def _measured(chosen: Any) -> bool:
    with _far_end(chosen.faults, chosen.latency) as far_end:
        async with opened("postgres") as journal:
            print(
                f"{chosen.rows:,} rows enqueued, {await _enqueue(far_end.url, journal.url, chosen.rows):,.0f} a second",
                flush=True,
            )
            kills, rate = await _drain(far_end, journal.url, chosen)
            print(
                f"{chosen.workers} workers, {chosen.at_once} at once in each: {rate:,.0f} rows a second, {len(kills)} kills"
            )
            return await _report(journal.url, far_end, kills, chosen.rows)


def main() -> None:
    """Measure, and print; end with 1 if anything was paid twice, lost, or reported wrong."""
    made = parser(__doc__)
    made.add_argument("--rows", type=int, default=20_000)
    made.add_argument("--workers", type=int, default=4)
    made.add_argument("--at-once", type=int, default=64, help="rows that each worker works on at once")
    made.add_argument(
        "--latency", type=float, default=0.1, help="seconds after which AlphaPo answers; the sandbox answers at once"
    )
    made.add_argument("--kill-every", type=float, default=5.0, help="seconds between two kills")
    made.add_argument("--faults", choices=sorted(FAULT_SETS), help="the sandbox with these faults")
    made.add_argument("--give-up-after", type=float, default=3_600.0)
    sys.exit(0 if run(_measured(made.parse_args())) else 1)


if __name__ == "__main__":
    if sys.argv[1:2] == ["be-a-worker"]:
        run(_work(sys.argv[2], sys.argv[3], int(sys.argv[4])))
    else:
        main()
