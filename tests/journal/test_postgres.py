"""The journal in PostgreSQL."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator

import asyncpg
import pytest

from alphapo_async.core.errors import ConfigurationError, JournalError
from alphapo_async.core.learning import learn, new_row
from alphapo_async.core.row import Row
from alphapo_async.journal.postgres import PostgresJournal
from tests import postgres
from tests.journal.suite import (
    ACCOUNT,
    LOST,
    ForgettingSuite,
    JournalSuite,
    MovingSuite,
    RememberingSuite,
    accepted,
    asked,
    hear,
    names,
    pay,
    same,
)
from tests.pooler import Pooler

FAR = 1e11
"""Seconds since the epoch: later than any database's clock."""


@pytest.fixture
async def journal() -> AsyncIterator[PostgresJournal]:
    """Yield a journal in a schema of its own."""
    opened = PostgresJournal(postgres.url(), schema=postgres.schema())
    yield opened
    await opened.aclose()


@pytest.fixture
async def empty() -> AsyncIterator[PostgresJournal]:
    """Yield another one."""
    opened = PostgresJournal(postgres.url(), schema=postgres.schema())
    yield opened
    await opened.aclose()


class TestPostgresJournal(JournalSuite, MovingSuite, RememberingSuite, ForgettingSuite):
    """The tests that every kind of journal passes, and those of what moves."""


# ── what only a database can do ──────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
async def between() -> AsyncIterator[Pooler]:
    """Yield what stands between and can lose things."""
    async with Pooler(postgres.url(), is_pooling=False) as pooler:
        yield pooler


def another(journal: PostgresJournal) -> PostgresJournal:
    """Return the same journal as another process would open it."""
    return PostgresJournal(postgres.url(), schema=journal._server.schema)


async def test_it_needs_a_url_or_a_pool() -> None:
    """And not both; anything else is not PostgreSQL."""
    for url, pool in ((None, None), ("postgresql://h", object()), ("payouts.db", None)):
        with pytest.raises(ConfigurationError, match="PostgreSQL"):
            PostgresJournal(url, pool=pool)


async def test_a_pool_of_the_users_own_is_used_and_stays_open() -> None:
    """One of its connections shows that this process is alive."""
    async with asyncpg.create_pool(postgres.url(), min_size=0, max_size=3) as pool:
        journal = PostgresJournal(pool=pool, schema=postgres.schema())
        assert "a pool of the caller" in repr(journal)
        await journal.join(ACCOUNT, "h", "w", FAR)
        await pay(journal, "a", "b")
        assert names(await journal.find_unreported(ACCOUNT, 9)) == []
        await journal.leave("w", 0.0)
        await journal.aclose()
        assert await pool.fetchval("select 1") == 1


async def test_what_is_lost_on_the_way_is_written_once(between: Pooler) -> None:
    """Whether the database had done it or not: one row, one turn, one line."""
    journal = PostgresJournal(between.url, schema=postgres.schema())
    await journal.find(ACCOUNT, "warm up")
    for foreign_id, lost in (("a", "lose_before"), ("b", "lose_reply_to")):
        setattr(between, lost, b"")
        row = await hear(journal, foreign_id, asked(foreign_id), LOST)
        setattr(between, lost, b"")
        row = await hear(journal, foreign_id, LOST)
        assert row.attempts == 2
        assert same(await journal.find(ACCOUNT, foreign_id), row)
        assert len(await journal.history(ACCOUNT, foreign_id)) == 2
    await journal.aclose()


async def test_changes_of_one_row_in_one_group_survive_a_lost_reply(between: Pooler) -> None:
    """None of them counts twice."""
    journal = PostgresJournal(between.url, schema=postgres.schema())
    await hear(journal, "f", asked("f"))
    between.lose_reply_to = b""
    rows = await asyncio.gather(*(hear(journal, "f", LOST) for _ in range(10)))
    assert [row.attempts for row in rows] == list(range(1, 11))
    found = await journal.find(ACCOUNT, "f")
    assert found is not None
    assert found.attempts == 10
    assert len(await journal.history(ACCOUNT, "f")) == 10
    await journal.aclose()


async def test_whoever_comes_second_works_it_out_again(journal: PostgresJournal) -> None:
    """Two processes that remember the same row: neither overwrites what the other wrote."""
    other = another(journal)
    await hear(journal, "f", asked("f"))
    await other.find(ACCOUNT, "f")
    for turn in range(3):
        for each in (journal, other):
            await hear(each, "f", LOST)
        assert [await _attempts(each) for each in (journal, other)] == [2 * turn + 2] * 2
    await asyncio.gather(*(hear(each, "f", LOST) for each in (journal, other) for _ in range(20)))
    assert await _attempts(journal) == 46
    assert len(await journal.history(ACCOUNT, "f")) == 46
    await other.aclose()


async def _attempts(journal: PostgresJournal) -> int:
    row = await journal.find(ACCOUNT, "f")
    assert row is not None
    return row.attempts


async def test_what_is_remembered_is_never_told_for_what_others_wrote(journal: PostgresJournal) -> None:
    """A change that comes to nothing is worked out from what is on record now."""
    other = another(journal)
    await hear(journal, "f", asked("f"))
    await hear(other, "f", accepted("f"))
    assert (await hear(journal, "f", asked("f"))).state == "accepted"
    assert (await hear(journal, "f", asked("f"))).state == "accepted"
    await other.aclose()


async def test_what_is_wrong_with_one_is_not_told_to_all(journal: PostgresJournal) -> None:
    """A row that the database does not take fails alone."""
    told = await asyncio.gather(
        hear(journal, "a", asked("a")),
        hear(journal, "b\0", asked("b")),
        hear(journal, "c", asked("c")),
        return_exceptions=True,
    )
    assert isinstance(told[0], Row)
    assert isinstance(told[1], JournalError)
    assert isinstance(told[2], Row)


async def test_what_the_database_never_saw_is_told_to_all_at_once() -> None:
    """Nobody waits for another's patience."""
    journal = PostgresJournal("postgresql://127.0.0.1:9/payouts?sslmode=disable")
    journal._server._patience = 0.2
    began = asyncio.get_running_loop().time()
    told = await asyncio.gather(*(hear(journal, f"{n}", asked(f"{n}")) for n in range(100)), return_exceptions=True)
    assert asyncio.get_running_loop().time() - began < 3
    assert {type(one) for one in told} == {JournalError}
    assert {one.recorded for one in told if isinstance(one, JournalError)} == {None}
    await journal.aclose()
    with pytest.raises(JournalError, match="is closed"):
        await journal.find(ACCOUNT, "f")


async def test_an_error_that_nobody_thought_of_reaches_everybody(journal: PostgresJournal) -> None:
    """Nobody waits for ever."""
    await journal.find(ACCOUNT, "warm up")
    pool, journal._server._pool = journal._server._pool, None
    with pytest.raises(AttributeError):
        await hear(journal, "f", asked("f"))
    journal._server._pool = pool


async def test_nothing_is_written_to_a_journal_that_has_moved(journal: PostgresJournal) -> None:
    """Whoever still uses it is told where to look; what is in it can be read."""
    other = another(journal)
    await hear(journal, "f", asked("f"))
    await postgres.execute(f"update {journal._server.schema}.journal set moved_to = 'payouts.db'")
    changes = (journal.join(ACCOUNT, "h", "w", FAR), hear(journal, "f", LOST), hear(other, "g", asked("g")))
    for told in await asyncio.gather(*changes, return_exceptions=True):
        assert isinstance(told, JournalError)
        assert "moved to payouts.db" in str(told)
    assert names(await other.find_open(ACCOUNT, None, 9)) == ["f"]
    await other.aclose()


async def test_only_a_few_rows_are_remembered(journal: PostgresJournal) -> None:
    """The others are read again when they are needed."""
    journal._remembered = 2
    for number in range(4):
        await hear(journal, f"{number}", asked(f"{number}"))
    assert len(journal._known) == 2
    assert (await hear(journal, "0", LOST)).attempts == 1


async def test_the_time_is_the_databases(journal: PostgresJournal) -> None:
    """In seconds since the epoch."""
    assert await journal.time() == pytest.approx(time.time(), abs=60)


async def test_its_tables_can_be_made_beforehand(journal: PostgresJournal) -> None:
    """By one who may."""
    assert (await journal.migrate())[0] == 0
    await pay(journal, "f")


async def test_a_lease_lives_as_long_as_its_connection(journal: PostgresJournal) -> None:
    """Others see a dead process at once, with the lease that it had; then it cannot come back."""
    now = await journal.time()
    other = another(journal)
    await other.join(ACCOUNT, "h", "w", now + 60)
    assert await journal.ended("w", now) is None
    await other._presence.aclose()
    async with asyncio.timeout(10):
        until = None
        while until is None:
            await asyncio.sleep(0.02)
            until = await journal.ended("w", now)
    assert until == now + 60
    assert await journal.find_dead(now) == [("w", now + 60)]
    assert not await other.renew("w", now + 120, now)
    await other.aclose()


# ── inside the caller's transaction ──────────────────────────────────────────────────────────────────────────────────


async def test_what_is_written_within_a_transaction_counts_if_that_commits(journal: PostgresJournal) -> None:
    """And only then; of the same payment a second time nothing changes."""
    await journal.find(ACCOUNT, "f")
    connection = await asyncpg.connect(postgres.url())
    fresh = asked("f", worker=None)

    def change(known: Row | None) -> Row:
        return known or new_row(ACCOUNT, "f", fresh, 5.0, is_durable=True)

    with pytest.raises(ConfigurationError, match="in no transaction"):
        await journal.update_within(connection, ACCOUNT, "f", change)
    for commits in (False, True):
        transaction = connection.transaction()
        await transaction.start()
        await journal.update_within(connection, ACCOUNT, "f", change)
        await journal.update_within(connection, ACCOUNT, "f", change)
        assert await journal.find(ACCOUNT, "f") is None
        await (transaction.commit() if commits else transaction.rollback())
        assert (await journal.find(ACCOUNT, "f") is not None) is commits
    await connection.close()


async def test_a_transaction_that_comes_second_works_it_out_again(journal: PostgresJournal) -> None:
    """What another committed meanwhile is not overwritten."""
    await hear(journal, "f", asked("f"))
    connection = await asyncpg.connect(postgres.url())
    turns: list[int] = []

    def change(known: Row | None) -> Row:
        assert known is not None
        turns.append(known.attempts)
        return learn(known, LOST, 9.0)

    async with connection.transaction():
        statement = connection.fetch

        async def slow_fetch(asked_for: str, *values: object) -> list[object]:
            if len(turns) == 1 and asked_for.lstrip().startswith("with"):
                await hear(journal, "f", LOST)
            return await statement(asked_for, *values)  # type: ignore[no-any-return]

        await journal._change_one(slow_fetch, (ACCOUNT, "f"), change)
    assert turns == [0, 1]
    assert await _attempts(journal) == 2
    await connection.close()


async def test_a_statement_for_the_workers_names_the_journals_own_tables(journal: PostgresJournal) -> None:
    """Wherever it is run."""
    statement = journal.enqueue_statement(new_row(ACCOUNT, "f", asked("f"), 0.0, is_durable=True), "h", 100.0)
    await journal.find(ACCOUNT, "f")
    await postgres.execute(statement)
    assert names(await journal.find_open(ACCOUNT, None, 9)) == ["f"]


async def test_nothing_is_written_once_it_is_closed(journal: PostgresJournal) -> None:
    """Whoever asks hears so, and not only when he waits for it."""
    await journal.aclose()
    with pytest.raises(JournalError):
        await journal.update("shop", "late", lambda known: known)  # type: ignore[arg-type,return-value]
