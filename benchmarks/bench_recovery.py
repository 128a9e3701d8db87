"""What failures cost: `python -m benchmarks.bench_recovery`.

First the client's CPU per withdrawal where 1 % of the first attempts end in doubt, against none: each of them is looked up and sent again.
Then a worker's pass over rows that a process left open when it died: CPU for each row that is looked up, sent again and settled.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

from alphapo_async import AlphapoClient, WithdrawalRequest
from benchmarks.bench_withdraw import cpu
from benchmarks.contenders import KEY, SECRET, fields, in_memory
from benchmarks.measuring import measured, parser, report, run
from benchmarks.server import serving

IN_FLIGHT = 100


async def _left_open(journal: str, url: str, number: int) -> None:
    """Leave so many withdrawals to whoever works next."""
    async with AlphapoClient(KEY, SECRET, base_url=url, journal=journal) as client:
        for one in range(number):
            await client.enqueue(WithdrawalRequest(**fields(one)))


async def _resumed(url: str, number: int) -> float:
    """Return microseconds of CPU for each row of a worker's pass."""
    with tempfile.TemporaryDirectory() as folder:
        journal = str(Path(folder) / "journal.db")
        await _left_open(journal, url, number)
        async with AlphapoClient(KEY, SECRET, base_url=url, journal=journal) as client:
            began = time.process_time()
            settled = [result.outcome async for result in client.resume()]
            assert settled == ["accepted"] * number
            return (time.process_time() - began) / number * 1e6


async def _withdrawn(url: str, number: int) -> float:
    """Return the same for `withdraw` with the same kind of journal, one after the other in batches of the same width."""
    with tempfile.TemporaryDirectory() as folder:
        async with AlphapoClient(KEY, SECRET, base_url=url, journal=str(Path(folder) / "journal.db")) as client:
            requests = [WithdrawalRequest(**fields(one)) for one in range(number)]
            began = time.process_time()
            settled = [result.outcome async for result in client.batch(requests)]
            assert settled == ["accepted"] * number
            return (time.process_time() - began) / number * 1e6


def main() -> None:
    """Measure, print the tables, and write the figures."""
    made = parser(__doc__)
    made.add_argument("--number", type=int, default=10_000, help="withdrawals in each round")
    made.add_argument("--open", type=int, default=2_000, help="rows left open")
    wanted = made.parse_args()
    with serving() as sound:
        some = {
            "ours: none failing": lambda: run(cpu(in_memory, sound, wanted.number, IN_FLIGHT)),
            "ours: 1 % failing": lambda: _restarted(wanted.number),
        }
        rows = {
            "ours: batch": lambda: run(_withdrawn(sound, wanted.open)),
            "ours: resume": lambda: run(_resumed(sound, wanted.open)),
        }
        tables = [
            measured("CPU per withdrawal, 100 in flight", "µs", some, wanted.repeats),
            measured("CPU per row, journal in SQLite", "µs", rows, wanted.repeats),
        ]
    report("bench_recovery", wanted.out, tables)


def _restarted(number: int) -> float:
    """Measure against a server that has not failed yet: it fails each foreign_id once."""
    with serving(kind="failing") as url:
        return run(cpu(in_memory, url, number, IN_FLIGHT))


if __name__ == "__main__":
    main()
