"""What a journal costs: opening a large one, bytes for each settled row, group sizes and time for each row.

`python -m benchmarks.bench_journal [--settled N] [--open N] [--rows N] [--postgres URL]`; without a URL only a file is measured.
A schema of its own is made in the database, and dropped in the end.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Final

import asyncpg
from msgspec.structs import replace

from alphapo_async.core.codec import encode_body
from alphapo_async.core.evidence import Asked, Attempt, Revision, Seen
from alphapo_async.core.history import Entry, entry_of
from alphapo_async.core.learning import learn, new_row
from alphapo_async.core.models import Withdrawal, WithdrawalRequest
from alphapo_async.core.outcome import Accepted
from alphapo_async.core.record import COLUMNS, to_record, written
from alphapo_async.core.row import Row
from alphapo_async.journal import sqlite_rows
from alphapo_async.journal.grouping import Request
from alphapo_async.journal.postgres import PostgresJournal
from alphapo_async.journal.sqlite import SqliteJournal
from alphapo_async.journal.sqlite_file import connect

AT_ONCE: Final = (1, 10, 100)
SCHEMA: Final = "alphapo_benchmark"
TABLES: Final = f"relnamespace = '{SCHEMA}'::regnamespace and relkind = 'r'"
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


async def first_open(opened: Callable[[], SqliteJournal | PostgresJournal]) -> float:
    """Return the seconds that it takes to open the journal and find its oldest open row."""
    began = time.perf_counter()
    journal = opened()
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


class CountingPostgres(PostgresJournal):
    """The same in a database."""

    def __init__(self, url: str) -> None:
        super().__init__(url, schema=SCHEMA)
        self.groups: Counter[int] = Counter()

    async def _serve(self, group: list[Any]) -> None:
        self.groups[len(group)] += 1
        await super()._serve(group)


async def write(
    opened: Callable[[], Counting | CountingPostgres], rows: int, at_once: int, prefix: str = "payout"
) -> tuple[float, float, Counter[int]]:
    """Record and settle so many rows, some at once; return seconds, CPU seconds and the sizes of the groups."""
    journal = opened()
    await journal.find("default", "nothing")
    journal.groups.clear()
    numbers = iter(range(rows))
    began, cpu = time.perf_counter(), time.process_time()

    settling: set[asyncio.Task[Row]] = set()

    async def one_after_the_other() -> None:
        for number in numbers:
            name, told = f"{prefix}-{number}", accepted(number)
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
    parser.add_argument("--postgres", help="a database to measure, too; its password goes into PGPASSWORD or ~/.pgpass")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        large = Path(folder) / "large.db"
        fill(large, chosen.settled, chosen.open)
        size = large.stat().st_size / (chosen.settled + chosen.open)
        times = [asyncio.run(first_open(partial(SqliteJournal, large))) for _ in range(5)]
        print(f"{chosen.settled:,} settled and {chosen.open:,} open rows: {size:.0f} bytes a row, history included")
        print(f"opened and first open row found: {max(times) * 1000:.1f} ms at worst of {len(times)}")
        for at_once in AT_ONCE:
            measure("file", partial(Counting, Path(folder) / f"{at_once}.db"), chosen.rows, at_once)
    if chosen.postgres:
        measure_postgres(chosen.postgres, chosen.settled, chosen.open, chosen.rows)


def measure(kind: str, opened: Callable[[], Counting | CountingPostgres], rows: int, at_once: int) -> None:
    """Write rows down, so many at once, and print what each cost."""
    rows = rows if at_once > 1 else rows // 10
    seconds, cpu, groups = asyncio.run(write(opened, rows, at_once, f"payout-{at_once}"))
    mean = sum(size * count for size, count in groups.items()) / groups.total()
    print(
        f"{kind}, {at_once} at once: {rows / seconds:,.0f} rows/s, {cpu / rows * 1e6:.0f} us CPU a row, "
        f"{groups.total()} groups of {mean:.1f} writes, the largest {max(groups)}"
    )


def measure_postgres(url: str, settled: int, still_open: int, rows: int) -> None:
    """The same in a database, in a schema that is new and dropped in the end."""
    try:
        asyncio.run(in_database(url, f"drop schema if exists {SCHEMA} cascade"))
        for at_once in AT_ONCE:
            measure("database", partial(CountingPostgres, url), rows, at_once)
        asyncio.run(in_database(url, *fill_postgres(settled, still_open)))
        [[size]] = asyncio.run(
            in_database(url, f"select sum(pg_total_relation_size(oid)) from pg_class where {TABLES}")
        )
        times = [asyncio.run(first_open(partial(PostgresJournal, url, schema=SCHEMA))) for _ in range(5)]
        print(
            f"database, {settled:,} settled and {still_open:,} open rows: {size / (settled + still_open):.0f} bytes a row"
        )
        print(f"database, opened and first open row found: {max(times) * 1000:.1f} ms at worst of {len(times)}")
    finally:
        asyncio.run(in_database(url, f"drop schema if exists {SCHEMA} cascade"))


async def in_database(url: str, *statements: str) -> list[Any]:
    """Have something done in the database, and return what the last statement found."""
    connection = await asyncpg.connect(url)
    try:
        found: list[Any] = []
        for statement in statements:
            found = await connection.fetch(statement, timeout=600)
        return found
    finally:
        await connection.close()


def fill_postgres(settled: int, still_open: int) -> list[str]:
    """Return the statements that make many rows, with a line of history each, out of one that is there."""
    columns = ", ".join((*COLUMNS, "body", "sha256", "digest"))
    likeness = columns.replace("foreign_id", "'many-' || n").replace("created_at", "n")
    opened = likeness.replace("state,", "'open',").replace("bucket,", "'open',").replace("due_at", "n")
    one = f"from {SCHEMA}.withdrawals where foreign_id = 'payout-100-0'"
    line = "at, kind, what, worker, status, reply, release"
    return [
        f"insert into {SCHEMA}.withdrawals ({columns}) select {likeness} from generate_series(1, {settled}) n, (select * {one}) one",
        (
            f"insert into {SCHEMA}.withdrawals ({columns}) select {opened} "
            f"from generate_series({settled + 1}, {settled + still_open}) n, (select * {one}) one"
        ),
        (
            f"insert into {SCHEMA}.history (withdrawal, {line}) select w.id, {line.replace('worker, status', 'h.worker, h.status')} "
            f"from {SCHEMA}.withdrawals w, (select h.* from {SCHEMA}.history h where withdrawal = (select id {one})) h "
            "where w.foreign_id like 'many-%' and w.state <> 'open'"
        ),
        f"vacuum analyze {SCHEMA}.withdrawals",
    ]


if __name__ == "__main__":
    main()
