"""The door to asyncpg: what is tried again, what is not, and what is said when nothing helps."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import subprocess
import sys
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlsplit

import asyncpg
import pytest

from alphapo_async.core.errors import ConfigurationError, JournalError
from alphapo_async.journal.postgres import connection as module
from alphapo_async.journal.postgres.connection import PostgresConnection, is_transient
from alphapo_async.journal.postgres.journal import PostgresJournal
from alphapo_async.journal.postgres.rows import Fetch
from alphapo_async.journal.postgres.workers import LivenessLock
from alphapo_async.journal.schema_version import SCHEMA, THIS, SchemaVersion
from tests.support import postgres
from tests.support.driver_errors import ASYNCPG, OTHERS
from tests.support.pooler import Pooler
from tests.support.postgres_double import PLACES, FailingConnection, FailingPool
from tests.support.processes import started
from tests.support.virtual import run

NOWHERE = "postgresql://payer:hunter2@127.0.0.1:9/payouts?sslmode=disable"


def server(url: str | None = None, *, schema: str | None = None, pool: Any = None, **more: Any) -> PostgresConnection:
    """Return a server with a schema of its own."""
    return PostgresConnection(None if pool else url or postgres.url(), schema or postgres.schema(), pool, **more)


async def one(fetch: Fetch) -> Any:
    """Ask for the number one."""
    return (await fetch("select 1"))[0][0]


async def test_the_tables_are_made_at_first_use_by_one_of_many() -> None:
    """Whoever comes at the same time waits for it."""
    schema = postgres.schema()
    servers = [server(schema=schema) for _ in range(5)]
    assert await asyncio.gather(*(each.run(one) for each in servers)) == [1] * 5
    for each in servers:
        await each.aclose()


async def test_a_schema_that_is_there_is_used() -> None:
    """A user who may make tables in it need not be allowed to make schemas."""
    schema = postgres.schema()
    await postgres.execute(f"create schema {schema}")
    opened = server(schema=schema)
    assert await opened.run(one) == 1
    await opened.aclose()


NEEDS_NEWER = f"version = {SCHEMA + 2}, readable_from = {SCHEMA + 1}, needs_release = '0.2.0'"


@pytest.mark.parametrize(
    ("changed", "advice"),
    [
        (NEEDS_NEWER, "for alphapo-async 0.2.0 and newer.*Use that release"),
        (f"version = {SCHEMA - 1}", "journal migrate"),
    ],
)
async def test_a_journal_that_this_release_cannot_use_is_left_alone(changed: str, advice: str) -> None:
    """The message says what to do."""
    schema = postgres.schema()
    opened = server(schema=schema)
    await opened.run(one)
    await opened.aclose()
    await postgres.execute(f"update {schema}.journal set {changed}")
    opened = server(schema=schema)
    with pytest.raises(JournalError, match=advice) as caught:
        await opened.run(one)
    assert caught.value.recorded is None
    await opened.aclose()


async def test_a_journal_that_a_newer_release_only_added_to_is_used_with_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Processes of the release before start and migrate beside newer ones, and leave the newer version as it is."""
    schema = postgres.schema()
    opened = server(schema=schema)
    await opened.migrate()
    await opened.aclose()
    await postgres.execute(f"update {schema}.journal set version = {SCHEMA + 1}")
    opened = server(schema=schema)
    assert await opened.run(one) == 1
    assert f"its schema is {SCHEMA + 1}, this release knows {SCHEMA}" in caplog.text
    assert await opened.migrate() == (SCHEMA + 1, SCHEMA + 1)
    assert await opened.run(lambda fetch: fetch(f"select version from {schema}.journal")) == [(SCHEMA + 1,)]
    await opened.aclose()


async def test_migrating_makes_what_is_missing_and_moves_what_is_old() -> None:
    """And refuses what is newer; every step and the new version count together."""
    schema = postgres.schema()
    opened = server(schema=schema)
    assert await opened.migrate() == (0, SCHEMA)
    assert await opened.migrate() == (SCHEMA, SCHEMA)
    await opened.aclose()
    opened = server(schema=schema, migrations={0: "create table {s}.added (a int)"})
    await postgres.execute(f"update {schema}.journal set version = 0")
    assert await opened.migrate() == (0, SCHEMA)
    await postgres.execute(f"select * from {schema}.added; update {schema}.journal set {NEEDS_NEWER}")
    with pytest.raises(JournalError, match="Use that release"):
        await opened.migrate()
    await opened.aclose()


async def test_a_database_that_cannot_be_reached_is_named_without_the_password() -> None:
    """It is tried for a while; from then on everybody hears at once, until it is back."""
    opened = server(NOWHERE, retry_for=0.5)
    with pytest.raises(
        JournalError, match=r"at postgresql://127\.0\.0\.1:9/payouts, schema .*cannot be reached"
    ) as caught:
        await opened.run(one)
    assert caught.value.recorded is None
    assert "hunter2" not in str(caught.value)
    assert "payer" not in str(caught.value)
    loop = asyncio.get_running_loop()
    began = loop.time()
    with pytest.raises(JournalError):
        await opened.run(one)
    assert loop.time() - began < 1
    with pytest.raises(JournalError, match="cannot be reached"):
        await opened.migrate()
    await opened.aclose()


async def test_what_was_interrupted_is_done_again() -> None:
    """On a new connection; nobody hears of it."""
    async with Pooler(postgres.url(), is_pooling=False) as between:
        opened = server(between.url)
        await opened.run(one)
        between.lose_before = b""
        assert await opened.run(one) == 1
        between.lose_reply_to = b""
        assert await opened.run(one) == 1
        await opened.aclose()


async def test_what_cannot_be_done_again_in_time_may_have_been_done() -> None:
    """Nobody can say, so nobody does."""
    async with Pooler(postgres.url(), is_pooling=False) as between:
        opened = server(between.url, retry_for=0.0)
        await opened.run(one)
        between.lose_reply_to = b""
        with pytest.raises(JournalError) as caught:
            await opened.run(one)
        assert caught.value.recorded is None
        states = [opened.is_known_down, await opened.run(one), opened.is_known_down]
        assert states == [True, 1, False]
        await opened.aclose()


async def test_a_database_that_takes_everything_and_answers_nothing_is_given_up() -> None:
    """Whoever waits hears in time."""
    async with Pooler(postgres.url(), is_pooling=False) as between:
        opened = server(between.url, retry_for=0.0, timeout=0.3)
        await opened.run(one)
        between.is_silent = True
        with pytest.raises(JournalError, match="does not answer in time"):
            await opened.run(one)
        await opened.aclose()


async def test_closing_waits_for_nobody_for_long() -> None:
    """Neither for a connection that is in use, nor for one that says nothing any more."""
    async with Pooler(postgres.url(), is_pooling=False) as between:
        opened = server(between.url)
        await opened.run(one)
        lock = await opened.connect_for_lock()
        between.is_silent = True
        await opened.disconnect(lock)
        await opened._pool.acquire()
        await opened.aclose()
    await server().aclose()


async def test_a_connection_that_cannot_be_given_back_hides_nothing() -> None:
    """What it was used for is reported."""
    opened = server()

    assert await opened.run(one) == 1
    await opened._release("not one of its connections")
    await opened.aclose()


async def test_it_is_ended_without_a_word() -> None:
    """A pool of the caller's own stays open."""
    opened = server()
    opened.terminate()
    await opened.run(one)
    own = opened._pool
    opened.terminate()
    assert own.is_closing()
    async with asyncpg.create_pool(postgres.url(), min_size=0, max_size=1) as pool:
        shared = server(pool=pool)
        assert await shared.run(one) == 1
        shared.terminate()
        assert await pool.fetchval("select 1") == 1


async def test_what_the_database_refuses_is_not_tried_again() -> None:
    """Neither a statement nor a value."""
    opened = server()

    async def wrong_statement(fetch: Fetch) -> Any:
        return await fetch("select nothing_of_that_name")

    async def wrong_value(fetch: Fetch) -> Any:
        return await fetch("select $1::int4", "one")

    async def half_a_character(fetch: Fetch) -> Any:
        return await fetch("select $1::bytea", "\ud800".encode())

    for work, result in ((wrong_statement, "42703"), (wrong_value, "22000"), (half_a_character, "UnicodeEncodeError")):
        with pytest.raises(JournalError, match=result):
            await opened.run(work)
    await opened.aclose()


async def test_through_a_pooler_each_statement_is_a_transaction() -> None:
    """And nothing is named that another connection would not know."""
    async with Pooler(postgres.url()) as between:
        opened = server(between.url)
        assert await asyncio.gather(*(opened.run(one) for _ in range(20))) == [1] * 20
        assert between.transactions >= 20
        assert await opened.connect_for_lock() is None
        await opened.aclose()


async def test_a_lock_has_a_connection_of_its_own() -> None:
    """Directly, nothing else uses it; of a pool that was handed in one is kept, if there is one to spare."""
    opened = server()
    await opened.run(one)
    connection: Any = await opened.connect_for_lock()
    assert await connection.fetchval("select 1") == 1
    await opened.disconnect(connection)
    assert connection.is_closed()
    await opened.aclose()
    for size in (1, 2):
        async with asyncpg.create_pool(postgres.url(), min_size=0, max_size=size) as pool:
            opened = server(pool=pool)
            assert await opened.run(one) == 1
            assert await opened.migrate() == (SCHEMA, SCHEMA)
            connection = await opened.connect_for_lock()
            assert (connection is None) is (size == 1)
            if connection is not None:
                await opened.disconnect(connection)
            await opened.aclose()
            assert await pool.fetchval("select 1") == 1


async def test_inside_a_transaction_of_the_callers_a_refusal_is_told_once() -> None:
    """It cannot be done again there."""
    opened = server()
    await opened.run(one)
    connection = await asyncpg.connect(postgres.url())
    async with connection.transaction():
        assert await opened.run_within(connection, one) == 1
    with pytest.raises(JournalError, match="its tables are gone"):
        await opened.run_within(connection, lambda fetch: fetch("select * from no_such_table"))
    await connection.close()
    await opened.aclose()


def test_it_belongs_to_one_event_loop() -> None:
    """Another is told so, in a sentence."""
    opened = server()

    async def use() -> Any:
        return await opened.run(one)

    async def use_and_close() -> None:
        await use()
        await opened.aclose()

    asyncio.run(use_and_close())
    with pytest.raises(ConfigurationError, match="another event loop"):
        asyncio.run(use())


async def test_a_database_that_does_not_flush_is_warned_of(caplog: pytest.LogCaptureFixture) -> None:
    """What it acknowledges may be lost with its machine (A5)."""

    class FlightResult:
        """A connection to such a database."""

        def transaction(self) -> Any:
            return asyncio.timeout(None)

        async def fetch(self, _: str) -> list[Any]:
            standbys = {"standbys": 2, "names": "", "identity": ""}
            return [{"pid": 7, "fsync": "off", "version": "18", **standbys}]

        async def fetchval(self, _statement: str, *_: object) -> bool:
            return True

        async def fetchrow(self, _statement: str) -> SchemaVersion:
            return THIS

        def get_server_pid(self) -> int:
            return 7

    opened = server()
    with caplog.at_level(logging.INFO, "alphapo_async"):
        await opened._learn_about(FlightResult())
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO", "WARNING", "WARNING"]
    assert "2 standbys follow, and commits wait for none of them" in caplog.records[2].getMessage()
    assert "hides its timeline" in caplog.records[3].getMessage()
    warned = "PostgreSQL runs with fsync off: what it acknowledges may be lost with its machine"
    assert caplog.records[0].getMessage() == warned


def test_only_what_may_be_over_in_a_moment_is_tried_again() -> None:
    """A deadlock, a restart, a lost connection; not a wrong value or a missing right."""
    for error in (asyncpg.DeadlockDetectedError("x"), asyncpg.AdminShutdownError("x"), OSError(), TimeoutError()):
        assert is_transient(error)
    for wrong in (asyncpg.DataError("x"), asyncpg.InsufficientPrivilegeError("x"), asyncpg.DiskFullError("x")):
        assert not is_transient(wrong)


@pytest.mark.parametrize("place", [*PLACES, "terminate"])
def test_whatever_the_driver_raises_is_a_journal_error_or_tried_again(place: str) -> None:
    """Every class of its exceptions, and some that it raises by mistake, wherever it is called; the connection is ended before a retry."""

    async def story() -> None:
        pool = FailingPool()
        opened = server(pool=pool)
        locks = LivenessLock(opened.connect_for_lock, opened.disconnect)

        async def locked(fetch: Fetch) -> Any:
            await locks.show("w")
            return await fetch("select 1")

        await opened.run(one_line)
        for kind in (*ASYNCPG, *OTHERS):
            pool.error, pool.failing, pool.times, pool.terminated = kind("made up"), (place,), 1, 0
            if place == "terminate":
                pool.failing, pool.times = ("fetch", "terminate"), 2
            locks = LivenessLock(opened.connect_for_lock, opened.disconnect)
            try:
                assert len(await opened.run(locked)) == 1
            except JournalError:
                assert not is_transient(pool.error)
            assert pool.times == 0 or place == "terminate"  # which only a transient error calls for

    run(story())


async def one_line(fetch: Fetch) -> Any:
    """Ask for a line."""
    return await fetch("select 1")


def test_whatever_the_driver_raises_for_good_is_told_as_a_journal_error() -> None:
    """While it is opened, migrated, used within a caller's transaction, and closed."""

    async def story() -> None:
        for kind in (*ASYNCPG, *OTHERS):
            pool = FailingPool()
            pool.error, pool.failing = kind("made up"), ("acquire", "fetch")
            opened = server(pool=pool, retry_for=0.0)
            connection = FailingConnection(pool)
            for result in (opened.run(one_line), opened.migrate(), opened.run_within(connection, one_line)):
                with pytest.raises(JournalError) as caught:
                    await result
                assert caught.value.recorded is None
                assert "made up" not in str(caught.value)
            await opened.aclose()

    run(story())


async def test_a_missing_privilege_is_named_when_the_journal_is_opened() -> None:
    """On a schema, to a user who may not use it."""
    name = postgres.schema()
    await postgres.execute(f"create role {name} login; create schema {name}")
    parts = urlsplit(postgres.url())
    opened = server(parts._replace(netloc=f"{name}@{parts.netloc.rpartition('@')[2]}").geturl(), schema=name)
    with pytest.raises(JournalError, match=f"the user lacks USAGE on schema {name}. Grant it"):
        await opened.run(one)
    await opened.aclose()
    await postgres.execute(f"drop role {name}")


async def test_what_was_opened_before_a_fork_is_refused_in_the_child() -> None:
    """At once, and also in the parent's own event loop."""
    opened = server()
    await opened.run(one)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "getpid", lambda: -1)
        with pytest.raises(ConfigurationError, match="before this process was forked"):
            await opened.run(one)
    await opened.aclose()


@pytest.mark.parametrize("is_own", [True, False])
async def test_a_forked_child_lets_go_of_the_sockets(is_own: bool) -> None:  # noqa: FBT001 - both ways
    """Without a word to the database, which frees the locks once the parent has let go, too."""
    pool = await asyncpg.create_pool(postgres.url(), min_size=0, max_size=2)
    opened = server() if is_own else server(pool=pool)
    await opened.run(one)
    lock = await opened.connect_for_lock()
    assert lock is not None
    await lock.fetchval("select pg_advisory_lock(17, 4)")
    connection = await asyncpg.connect(postgres.url())
    assert not await connection.fetchval("select pg_try_advisory_lock(17, 4)")
    module._after_fork()
    module._after_fork()
    async with asyncio.timeout(10):
        while not await connection.fetchval("select pg_try_advisory_lock(17, 4)"):  # noqa: ASYNC110 - in the database
            await asyncio.sleep(0.01)
    lock.terminate()
    await connection.close()
    await opened.aclose()
    pool.terminate()


FORKING = """
import asyncio, os, signal, sys, time
from alphapo_async.journal.postgres.journal import PostgresJournal

async def story():
    journal = PostgresJournal(sys.argv[1], schema=sys.argv[2])
    await journal.join("default", "h", "w", 1e11)
    if os.fork() == 0:
        sys.stdin.read()  # it lives on
        os._exit(0)
    print("forked", flush=True)
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(story())
"""


async def test_a_lock_of_the_parent_does_not_live_on_in_its_child() -> None:
    """The parent is killed, and its worker is seen to be gone though the child lives."""
    schema = postgres.schema()
    journal = PostgresJournal(postgres.url(), schema=schema)
    await journal.join("default", "h", "other", 1e11)
    with started(
        [sys.executable, "-c", FORKING, postgres.url(), schema], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as forker:
        assert forker.stdout is not None
        assert forker.stdout.readline() == b"forked\n"
        async with asyncio.timeout(10):
            while "w" not in dict(await journal.find_dead(0.0)):  # noqa: ASYNC110 - it happens in the database
                await asyncio.sleep(0.02)
    await journal.aclose()


def test_a_connection_without_a_socket_leaves_nothing_to_replace() -> None:
    """As after a connection that broke off before the fork, or one of another release of the driver."""
    with socket.socket() as gone:
        gone.close()
        transport = SimpleNamespace(get_extra_info=lambda _name: gone)
        for connection in (SimpleNamespace(), SimpleNamespace(_transport=None), SimpleNamespace(_transport=transport)):
            module._replace_socket(connection)
    assert gone.fileno() == -1
