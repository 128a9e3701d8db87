"""What a journal costs for each row, in memory, in a file and in a database: `python -m benchmarks.bench_journal [--postgres URL]`.

Rows are recorded and settled as flights do it, so many at once: this process's CPU, threads included and a database left out, the time that
passes, and how many writes are committed together. Each run begins with an empty journal. Then what a row of a large one weighs, and how
soon it is open and its oldest open row found. In the database there is a schema for all that, which is dropped in the end.
"""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeAlias

import asyncpg
from msgspec.structs import replace

from alphapo_async.core.codec import encode_body
from alphapo_async.core.evidence import Attempt, ReplyExcerpt, Requested, Revision
from alphapo_async.core.history import Entry, entries_of, entry_of, noted
from alphapo_async.core.models import Withdrawal, WithdrawalRequest
from alphapo_async.core.replies import Accepted
from alphapo_async.core.row import Row
from alphapo_async.core.transitions import apply, new_row
from alphapo_async.journal import Journal, MemoryJournal
from alphapo_async.journal.postgres.journal import PostgresJournal
from alphapo_async.journal.sqlite.file import connect
from alphapo_async.journal.sqlite.journal import SqliteJournal
from alphapo_async.journal.sqlite.rows import SqliteRows
from alphapo_async.journal.stored_rows import STORED
from benchmarks.measuring import Measure, at_once, enough, measured, parser, report, rounds, run, tabled

IN_MEMORY: Final = "ours: in memory"
IN_A_FILE: Final = "ours: in a file"
IN_POSTGRES: Final = "ours: in PostgreSQL"
SCHEMA: Final = "alphapo_benchmark"
DROP: Final = f"drop schema if exists {SCHEMA} cascade"
SIZE: Final = f"select sum(pg_total_relation_size(oid)) from pg_class where relnamespace = '{SCHEMA}'::regnamespace and relkind = 'r'"
REPLY = (
    b'{"data":{"id":1,"foreign_id":"payout-1","status":"processing","sender_amount":"0.0015","sender_currency":"BTC"}}'
)


def asked(number: int) -> Requested:
    """Return a caller's word for a withdrawal."""
    payment = WithdrawalRequest(
        currency="BTC",
        address="bc1qmadeupmadeupmadeupmadeupmadeupmadeup",
        amount="0.0015",
        foreign_id=f"payout-{number}",
        end_user_reference=f"user-{number}",
    )
    return Requested("worker", Revision(encode_body(payment), payment), "fingerprint")


def accepted(number: int) -> Attempt:
    """Return its acceptance."""
    result = Withdrawal(id=number, foreign_id=f"payout-{number}", status="processing", source="reply")
    return Attempt("worker", Accepted(result), float(number), float(number), ReplyExcerpt(201, REPLY))


class Taken(NamedTuple):
    """What a run took."""

    cpu: float
    """Microseconds for each row, of this process,"""
    wall: float
    """and those that passed."""
    groups: Counter[int]
    """How many had so many writes."""


Opened: TypeAlias = Callable[[Counter[int]], Journal]
"""Opens a journal that counts its groups."""


class Counting(SqliteJournal):
    """A journal that counts the writes of each group."""

    def __init__(self, path: Path, groups: Counter[int]) -> None:
        super().__init__(path)
        self._counted = groups

    def _serve(self, group: list[Any]) -> None:
        writes = sum(request.writes for request in group)
        self._counted.update([writes] if writes else [])
        super()._serve(group)


class CountingPostgres(PostgresJournal):
    """The same in a database."""

    def __init__(self, url: str, groups: Counter[int]) -> None:
        super().__init__(url, schema=SCHEMA)
        self._counted = groups

    async def _serve(self, group: list[Any]) -> None:
        self._counted[len(group)] += 1
        await super()._serve(group)


async def write(opened: Opened, rows: int, in_flight: int) -> Taken:
    """Record and settle so many rows, some at once."""
    groups: Counter[int] = Counter()
    journal = opened(groups)
    await journal.find("default", "nothing")  # it is opened at first use
    settling: set[asyncio.Future[Row]] = set()

    async def flight(number: int) -> None:
        name, result = f"payout-{number}", accepted(number)
        row = new_row("default", name, asked(number), 0.0, is_durable=True)
        await journal.update("default", name, partial(_first, row))
        # Here a flight waits for its answer, and others have their turn also where the journal is in memory.
        await asyncio.sleep(0)
        # As a flight does it: the acceptance is told at once, and written down with the next record.
        task = asyncio.ensure_future(journal.update("default", name, partial(_then, row, result), may_lag=True))
        settling.add(task)
        task.add_done_callback(settling.discard)

    began, cpu = time.perf_counter(), time.process_time()
    await at_once(range(rows), in_flight, flight)
    # Whoever reads has the last ones written down at once: that they may lag is no part of what a row costs.
    await asyncio.gather(journal.find("default", "nothing"), *settling)
    wall, cpu = time.perf_counter() - began, time.process_time() - cpu
    await journal.aclose()
    return Taken(cpu / rows * 1e6, wall / rows * 1e6, groups)


def _first(row: Row, known: Row | None) -> tuple[Row, Sequence[Entry]]:
    return known or row, ()


def _then(row: Row, result: Attempt, known: Row | None) -> tuple[Row, Sequence[Entry]]:
    return noted(apply(known or row, result, 0.0), entries_of((result,), 0.0, "1.0"))


# ── so many at once ──────────────────────────────────────────────────────────────────────────────────────────────────


def in_memory(rows: int, in_flight: int) -> Taken:
    """Write in memory."""
    return run(write(lambda _: MemoryJournal(), rows, in_flight))


def in_a_file(rows: int, in_flight: int) -> Taken:
    """Write in a new file."""
    with tempfile.TemporaryDirectory() as folder:
        return run(write(partial(Counting, Path(folder) / "journal.db"), rows, in_flight))


def in_postgres(url: str, rows: int, in_flight: int) -> Taken:
    """Write in tables that are new."""
    run(in_database(url, DROP))
    return run(write(partial(CountingPostgres, url), rows, in_flight))


def contenders(postgres: str | None) -> dict[str, Callable[[int, int], Taken]]:
    """Return those that can be measured, each to be called with the rows and how many of them at once."""
    return {
        IN_MEMORY: in_memory,
        IN_A_FILE: in_a_file,
        **({IN_POSTGRES: partial(in_postgres, postgres)} if postgres else {}),
    }


def compared(
    journals: Mapping[str, Callable[[int, int], Taken]], rows: int, in_flight: int, repeats: int
) -> list[dict[str, Any]]:
    """Measure all in turn, and print a table of CPU, one of time, and the sizes of the groups; return the figures."""
    runs = rounds({name: partial(one, rows, in_flight) for name, one in journals.items()}, repeats)
    where = f"a row, {in_flight:,} at once"
    cpu = tabled(f"CPU {where}", "µs", [{name: one.cpu for name, one in each.items()} for each in runs])
    wall = tabled(f"Time {where}", "µs", [{name: one.wall for name, one in each.items()} for each in runs])
    groups = {name: sizes([each[name].groups for each in runs]) for name in journals if name != IN_MEMORY}
    for name, result in groups.items():
        print(f"{name:34} {result['groups']:,} groups of {result['mean']:.1f} writes, the largest {result['largest']}")
    return [cpu, wall | {"groups": groups}]


def sizes(counted: list[Counter[int]]) -> dict[str, float]:
    """Sum up the groups of several runs."""
    groups = sum(counted, Counter[int]())
    writes = sum(size * count for size, count in groups.items())
    return {"groups": groups.total(), "mean": writes / groups.total(), "largest": max(groups)}


# ── a large journal ──────────────────────────────────────────────────────────────────────────────────────────────────


def large(settled: int, still_open: int, postgres: str | None, repeats: int) -> dict[str, Any]:
    """Fill journals, and print what a row weighs and how soon the oldest open one is found; return the figures."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "large.db"
        fill(file, settled, still_open)
        weights = {IN_A_FILE: file.stat().st_size / (settled + still_open)}
        opening: dict[str, Measure] = {IN_A_FILE: partial(_opening, partial(SqliteJournal, file))}
        if postgres:
            weights[IN_POSTGRES] = fill_postgres(postgres, settled, still_open) / (settled + still_open)
            opening[IN_POSTGRES] = partial(_opening, partial(PostgresJournal, postgres, schema=SCHEMA))
        title = f"Opened, oldest open row found: {settled:,} settled and {still_open:,} open rows"
        table = measured(title, "ms", opening, repeats)
    for name, weight in weights.items():
        print(f"{name:34} {weight:,.0f} bytes a row, history included")
    return table | {"settled": settled, "open": still_open, "bytes_a_row": weights}


def _opening(opened: Callable[[], Journal]) -> float:
    return run(first_open(opened)) * 1e3


async def first_open(opened: Callable[[], Journal]) -> float:
    """Return the seconds that it takes to open the journal and find its oldest open row."""
    began = time.perf_counter()
    journal = opened()
    found = await journal.find_open("default", None, 1)
    seconds = time.perf_counter() - began
    assert len(found) == 1
    await journal.aclose()
    return seconds


def fill(path: Path, settled: int, still_open: int) -> None:
    """Write so many rows, the open ones last."""
    with contextlib.closing(connect(path)) as connection:
        connection.execute("begin immediate")
        for first in range(0, settled + still_open, 10_000):
            numbers = range(first, min(first + 10_000, settled + still_open))
            rows = ((number + 1, _row(number, is_settled=number < settled)) for number in numbers)
            stored = SqliteRows(connection)
            stored.insert(rows)
            stored.add_history(_lines(numbers, settled))
        connection.execute("commit")


def _row(number: int, *, is_settled: bool) -> Row:
    row = new_row("default", f"payout-{number}", asked(number), float(number), is_durable=True)
    return apply(row, accepted(number), float(number)) if is_settled else replace(row, holder=None)


def _lines(numbers: range, settled: int) -> Iterator[tuple[int, Entry]]:
    for number in numbers:
        entry = entry_of(accepted(number), float(number), "1.0")
        if number < settled and isinstance(entry, Entry):
            yield number + 1, entry


def fill_postgres(url: str, settled: int, still_open: int) -> int:
    """Write so many rows in tables that are new, and return the bytes that they take."""
    in_postgres(url, 1, 1)
    run(in_database(url, *copying(settled, still_open)))
    [[size]] = run(in_database(url, SIZE))
    return int(size)


def copying(settled: int, still_open: int) -> list[str]:
    """Return the statements that make many rows, with a line of history each, out of the one that is there."""
    columns = ", ".join(STORED)
    likeness = columns.replace("foreign_id", "'many-' || n").replace("created_at", "n")
    opened = likeness.replace("state,", "'open',").replace("bucket,", "'open',").replace("due_at", "n")
    one = f"from {SCHEMA}.withdrawals where foreign_id = 'payout-0'"
    line = "at, kind, what, worker, status, reply, release"
    return [
        f"insert into {SCHEMA}.withdrawals ({columns}) select {likeness} from generate_series(1, {settled}) n, (select * {one}) one",
        (
            f"insert into {SCHEMA}.withdrawals ({columns}) select {opened} "
            f"from generate_series({settled + 1}, {settled + still_open}) n, (select * {one}) one"
        ),
        (
            f"insert into {SCHEMA}.history (withdrawal_id, {line}) "
            f"select w.id, {line.replace('worker, http_status', 'h.worker, h.http_status')} "
            f"from {SCHEMA}.withdrawals w, (select h.* from {SCHEMA}.history h where withdrawal_id = (select id {one})) h "
            "where w.foreign_id like 'many-%' and w.state <> 'open'"
        ),
        f"vacuum analyze {SCHEMA}.withdrawals",
    ]


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


def main() -> None:
    """Measure, print the tables, and write the figures."""
    made = parser(__doc__)
    made.add_argument("--at-once", type=int, nargs="*", default=[1, 10, 100, 1_000])
    made.add_argument("--rows", type=int, default=5_000, help="rows of each run; a tenth where they come one by one")
    made.add_argument("--settled", type=int, default=1_000_000, help="of the large journal; 0 leaves it out")
    made.add_argument("--open", type=int, default=10_000, help="rows of the large journal that are not settled")
    made.add_argument("--postgres", help="a database to measure, too; its password goes into PGPASSWORD or ~/.pgpass")
    wanted = made.parse_args()
    journals = contenders(wanted.postgres)
    try:
        tables = [
            table
            for number in wanted.at_once
            for table in compared(journals, enough(wanted.rows, number), number, wanted.repeats)
        ]
        if wanted.settled:
            tables.append(large(wanted.settled, wanted.open, wanted.postgres, wanted.repeats))
    finally:
        if wanted.postgres:
            run(in_database(wanted.postgres, DROP))
    report("bench_journal", wanted.out, tables)


if __name__ == "__main__":
    main()
