"""What the journal in a file costs: opening a large one, bytes for each settled row, group sizes and time for each row.

`python -m benchmarks.bench_journal [--settled N] [--open N] [--rows N]`
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from msgspec.structs import replace

from alphapo_async.core.codec import encode_body
from alphapo_async.core.evidence import Asked, Attempt, Revision, Seen
from alphapo_async.core.history import Entry, entry_of
from alphapo_async.core.learning import learn, new_row
from alphapo_async.core.models import Withdrawal, WithdrawalRequest
from alphapo_async.core.outcome import Accepted
from alphapo_async.core.record import to_record, written
from alphapo_async.core.row import Row
from alphapo_async.journal import sqlite_rows
from alphapo_async.journal.grouping import Request
from alphapo_async.journal.sqlite import SqliteJournal
from alphapo_async.journal.sqlite_file import connect

REPLY = (
    b'{"data":{"id":1,"foreign_id":"payout-1","status":"processing","sender_amount":"0.0015","sender_currency":"BTC"}}'
)


def asked(number: int) -> Asked:
    """Return a caller's word for a withdrawal."""
    payment = WithdrawalRequest(
        currency="BTC",
        address="bc1qmadeupmadeupmadeupmadeupmadeupmadeup",
        amount="0.0015",
        foreign_id=f"payout-{number}",
        end_user_reference=f"user-{number}",
    )
    return Asked("worker", Revision(encode_body(payment), payment), "fingerprint")


def accepted(number: int) -> Attempt:
    """Return its acceptance."""
    told = Withdrawal(id=number, foreign_id=f"payout-{number}", status="processing", source="reply")
    return Attempt("worker", Accepted(told), float(number), float(number), Seen(201, REPLY))


# ── a large journal ──────────────────────────────────────────────────────────────────────────────────────────────────


def fill(path: Path, settled: int, still_open: int) -> None:
    """Write so many rows, the open ones last."""
    with contextlib.closing(connect(path)) as connection:
        connection.execute("begin immediate")
        for first in range(0, settled + still_open, 10_000):
            numbers = range(first, min(first + 10_000, settled + still_open))
            rows = [_row(number, is_settled=number < settled) for number in numbers]
            connection.executemany(sqlite_rows.INSERT, [(*to_record(row), *written(row.revision)[1:]) for row in rows])
            connection.executemany(sqlite_rows.NOTE, _lines(numbers, settled))
        connection.execute("commit")


def _row(number: int, *, is_settled: bool) -> Row:
    row = new_row("default", f"payout-{number}", asked(number), float(number), is_durable=True)
    return learn(row, accepted(number), float(number)) if is_settled else replace(row, holder=None)


def _lines(numbers: range, settled: int) -> Iterator[tuple[object, ...]]:
    for number in numbers:
        entry = entry_of(accepted(number), float(number), "1.0")
        if number < settled and isinstance(entry, Entry):
            yield number + 1, entry.at, entry.kind, entry.what, entry.worker, entry.status, entry.reply, entry.release


async def first_open(path: Path) -> float:
    """Return the seconds that it takes to open the journal and find its oldest open row."""
    began = time.perf_counter()
    journal = SqliteJournal(path)
    found = await journal.find_open("default", None, 1)
    seconds = time.perf_counter() - began
    assert len(found) == 1
    await journal.aclose()
    return seconds


# ── groups ───────────────────────────────────────────────────────────────────────────────────────────────────────────


class Counting(SqliteJournal):
    """A journal that counts its groups."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.groups: Counter[int] = Counter()

    def _serve(self, group: list[Request]) -> None:  # type: ignore[type-arg]
        self.groups[len(group)] += 1
        super()._serve(group)


async def write(path: Path, rows: int, at_once: int) -> tuple[float, float, Counter[int]]:
    """Record and settle so many rows, some at once; return seconds, CPU seconds and the sizes of the groups."""
    journal = Counting(path)
    await journal.find("default", "nothing")
    journal.groups.clear()
    numbers = iter(range(rows))
    began, cpu = time.perf_counter(), time.process_time()

    settling: set[asyncio.Task[Row]] = set()

    async def one_after_the_other() -> None:
        for number in numbers:
            name, told = f"payout-{number}", accepted(number)
            row = new_row("default", name, asked(number), 0.0, is_durable=True)
            await journal.update("default", name, partial(_first, row))
            entry = entry_of(told, 0.0, "1.0")
            assert entry is not None
            # As a flight does it: the acceptance is told at once, and written down with the next record.
            task = asyncio.ensure_future(
                journal.update("default", name, partial(_then, row, told), entries=(entry,), may_lag=True)
            )
            settling.add(task)
            task.add_done_callback(settling.discard)

    await asyncio.gather(*(one_after_the_other() for _ in range(at_once)))
    await asyncio.gather(*settling)
    spent = time.perf_counter() - began, time.process_time() - cpu
    await journal.aclose()
    return *spent, journal.groups


def _first(row: Row, known: Row | None) -> Row:
    return known or row


def _then(row: Row, told: Attempt, known: Row | None) -> Row:
    return learn(known or row, told, 0.0)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bench_journal")
    parser.add_argument("--settled", type=int, default=1_000_000)
    parser.add_argument("--open", type=int, default=10_000)
    parser.add_argument("--rows", type=int, default=5_000)
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        large = Path(folder) / "large.db"
        fill(large, chosen.settled, chosen.open)
        size = large.stat().st_size / (chosen.settled + chosen.open)
        times = [asyncio.run(first_open(large)) for _ in range(5)]
        print(f"{chosen.settled:,} settled and {chosen.open:,} open rows: {size:.0f} bytes a row, history included")
        print(f"opened and first open row found: {max(times) * 1000:.1f} ms at worst of {len(times)}")
        for at_once in (1, 10, 100):
            path = Path(folder) / f"{at_once}.db"
            rows = chosen.rows if at_once > 1 else chosen.rows // 10
            seconds, cpu, groups = asyncio.run(write(path, rows, at_once))
            mean = sum(size * count for size, count in groups.items()) / groups.total()
            print(
                f"{at_once} at once: {rows / seconds:,.0f} rows/s, {cpu / rows * 1e6:.0f} us CPU a row, "
                f"{groups.total()} groups of {mean:.1f} writes, the largest {max(groups)}"
            )


if __name__ == "__main__":
    main()
