"""Who is alive, as far as a database can tell."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import asyncpg
import pytest

from alphapo_async.journal.copying import Register
from alphapo_async.journal.postgres.schema import tables
from alphapo_async.journal.postgres.workers import LivenessLock, PostgresWorkers
from tests.journal.postgres.test_rows import HERE, STAMP
from tests.support import postgres
from tests.support.postgres_double import FailingConnection, FailingPool

FAR = 1e11
"""Seconds since the epoch: later than any database's clock."""


@pytest.fixture
async def connection() -> AsyncIterator[Any]:
    """Yield a connection."""
    opened = await asyncpg.connect(postgres.url())
    yield opened
    await opened.close()


@pytest.fixture
async def workers(connection: Any) -> PostgresWorkers:
    """Return the statements for new tables."""
    schema = postgres.schema()
    await connection.execute(f"create schema {schema}")
    await connection.execute(tables(schema))
    await connection.execute(HERE.replace("s.", f"{schema}."))
    return PostgresWorkers(schema)


async def connect() -> Any:
    """Open another connection."""
    return await asyncpg.connect(postgres.url())


async def close(connection: Any) -> None:
    """Close it."""
    await connection.close()


async def until(holds: Any) -> None:
    """Wait until it holds."""
    async with asyncio.timeout(10):
        while not await holds():  # noqa: ASYNC110 - what is waited for happens in the database
            await asyncio.sleep(0.02)


async def test_a_worker_whose_connection_is_gone_has_ended(workers: PostgresWorkers, connection: Any) -> None:
    """At once, with the lease that it had, until which it may still send; the process itself knows better of its own."""
    presence = LivenessLock(connect, close)
    await connection.fetch(workers._sql["enlist"], STAMP, "w", FAR, await presence.show("w"))
    assert await workers.ended(connection.fetch, "w", FAR / 2, []) is None
    await presence.aclose()

    async def is_noticed() -> bool:
        return await workers.ended(connection.fetch, "w", FAR / 2, []) == FAR

    assert await workers.ended(connection.fetch, "w", FAR / 2, ["w"]) is None
    await until(is_noticed)
    assert await connection.fetch(workers._sql["renew"], STAMP, "w", 2 * FAR, 0.0, None) == []


async def test_a_lock_says_nothing_of_whom_this_start_of_the_server_has_not_seen(
    workers: PostgresWorkers, connection: Any
) -> None:
    """After a restart every lock is gone, and nobody need be dead."""
    await connection.fetch(workers._sql["enlist"], STAMP, "w", FAR, 7)
    schema = workers._sql["renew"].split(".")[0].removeprefix("update ")
    await connection.execute(
        f"update {schema}.workers set seen_at = extract(epoch from pg_postmaster_start_time()) - 1"
    )
    assert await workers.ended(connection.fetch, "w", 0.0, []) is None
    await connection.fetch(workers._sql["renew"], STAMP, "w", FAR, 0.0, 7)
    assert await workers.ended(connection.fetch, "w", 0.0, []) == FAR


async def test_a_clock_that_is_fast_ends_nobodys_lease(workers: PostgresWorkers, connection: Any) -> None:
    """It is over by the database's clock, too."""
    [now] = await connection.fetch(workers._sql["time"])
    await connection.fetch(workers._sql["enlist"], STAMP, "w", now[0] + 60, None)
    assert await workers.ended(connection.fetch, "w", FAR, []) is None
    assert await connection.fetch(workers._sql["end_all"], FAR, []) == []


async def test_nobody_is_known_to_have_ended_of_whom_nothing_is_known() -> None:
    """A worker that is on no list could send until now at the latest."""
    workers = PostgresWorkers("s")

    async def fetch(*_: object) -> list[Any]:
        return [{"lease_until": None, "is_listed": False}]

    assert await workers.ended(fetch, "w", 5.0, []) == 5.0


async def test_whoever_holds_something_and_is_on_no_list_is_among_the_dead() -> None:
    """It has left, and could send until now at the latest."""
    workers = PostgresWorkers("s")

    async def fetch(query: str, *_: object) -> list[Any]:
        return [{"worker": "gone", "lease_until": 3.0}] if query == workers._sql["end_all"] else [{"holder": "ghost"}]

    assert await workers.find_dead(fetch, 5.0, []) == [("gone", 3.0), ("ghost", 5.0)]


async def test_a_lock_is_taken_again_as_soon_as_its_connection_is_lost(connection: Any) -> None:
    """For all workers of the process; one that left is shown no more."""
    presence = LivenessLock(connect, close)
    numbers = [await presence.show(worker) for worker in ("a", "b", "b")]
    assert numbers[1] == numbers[2]
    await presence.hide("a")
    await presence.hide("a")
    assert presence.workers == ["b"]

    async def holders() -> list[int]:
        found = await connection.fetch(
            "select pid from pg_locks where locktype = 'advisory' and (classid::int8 << 32 | objid::int8) = $1",
            numbers[1],
        )
        return [each[0] for each in found]

    [before] = await holders()
    await connection.fetchval("select pg_terminate_backend($1)", before)

    async def is_back() -> bool:
        return await holders() not in ([], [before])

    await until(is_back)
    await presence.aclose()
    await presence.aclose()


class Cut:
    """A connection that can be cut; what it executes is counted."""

    def __init__(self, tries: list[str]) -> None:
        self.is_cut = False
        self._tries = tries

    def is_closed(self) -> bool:
        return self.is_cut

    def add_termination_listener(self, listener: Any) -> None:
        self.listener = listener

    async def fetchval(self, statement: str) -> bool:
        self._tries.append(statement)
        return True

    def terminate(self) -> None:
        self.is_cut = True

    def remove_termination_listener(self, _: Any) -> None:
        """There is none."""


async def nothing(_: Any) -> None:
    """Leave it."""


async def test_whoever_cannot_come_back_at_once_tries_on() -> None:
    """Until it can, or is closed."""
    tries: list[str] = []
    made: list[Cut] = []

    async def cut_connect() -> Any:
        if made and len(tries) < 3:
            tries.append("in vain")
            raise OSError
        made.append(Cut(tries))
        return made[-1]

    presence = LivenessLock(cut_connect, nothing)
    await presence.show("w")
    made[0].is_cut = True
    for _ in range(2):
        made[0].listener(made[0])

    async def is_back() -> bool:
        return len(made) == 2

    await until(is_back)
    made[1].is_cut = True
    tries.clear()
    made[1].listener(made[1])
    await asyncio.sleep(0.02)
    await presence.hide("w")
    await asyncio.sleep(0.1)
    await presence.aclose()
    made[0].listener(made[0])


async def test_a_lock_is_let_go_of_without_a_word() -> None:
    """The database is not asked, and nothing comes back."""

    class Silent:
        listener: Any = None
        is_terminated = False

        def add_termination_listener(self, listener: Any) -> None:
            self.listener = listener

        async def fetchval(self, _: str) -> bool:
            return True

        def is_closed(self) -> bool:
            return False

        def terminate(self) -> None:
            self.is_terminated = True
            self.listener(self)

    made: list[Silent] = []

    async def connect_silent() -> Silent:
        if made:
            await asyncio.sleep(1_000)
        made.append(Silent())
        return made[0]

    presence = LivenessLock(connect_silent, close)
    presence.terminate()
    await presence.show("w")
    made[0].listener(made[0])
    presence.terminate()
    assert made[0].is_terminated
    await asyncio.sleep(0)
    assert len(asyncio.all_tasks()) == 1
    await presence.aclose()


async def test_through_a_pooler_nobody_is_shown() -> None:
    """Its lease alone counts."""

    async def nowhere() -> None:
        return None

    presence = LivenessLock(nowhere, close)
    assert await presence.show("w") is None
    await presence.hide("w")
    await presence.aclose()


async def test_whoever_holds_a_row_and_is_on_no_list_is_found_by_a_few_looks_at_the_index(
    workers: PostgresWorkers, connection: Any
) -> None:
    """However many rows the others hold: a worker asks every second."""
    await connection.fetch(workers._sql["enlist"], STAMP, "w", FAR, None)
    schema = workers._sql["renew"].split(".")[0].removeprefix("update ")
    held = (
        f"insert into {schema}.withdrawals (account, foreign_id, state, counted_as, requested_currency, requested_amount, created_at, "
        "reported, holder, held_since, claim_number, key_fingerprint, revision, epoch, rest, body, sha256, digest) "
        "select 'a', $1 || number, 'open', 'open', 'BTC', 1, 0, true, $1, 0, 0, '', 1, 0, '{}', '', '', '' "
        "from generate_series(1, $2) number"
    )
    for holder, many in (("w", 10_000), ("a ghost", 2), ("z ghost", 1)):
        await connection.execute(held, holder, many)
    await connection.execute(f"analyze {schema}.withdrawals")
    assert sorted(each[0] for each in await connection.fetch(workers._sql["unlisted"])) == ["a ghost", "z ghost"]
    plan = "\n".join(each[0] for each in await connection.fetch(f"explain {workers._sql['unlisted']}"))
    assert "using withdrawals_held" in plan
    assert "on withdrawals_held" not in plan
    assert "Seq Scan on withdrawals" not in plan


async def test_a_text_is_swapped_only_for_the_one_that_is_kept(workers: PostgresWorkers, connection: Any) -> None:
    """Or where it is there already."""

    async def swap(before: str | None, after: str) -> bool:
        return bool(await connection.fetch(workers._sql["swap"], STAMP, "a", "turn", before, after))

    results = [
        await swap(*texts) for texts in (("x", "1"), (None, "1"), (None, "2"), ("1", "2"), ("1", "2"), ("1", "3"))
    ]
    assert results == [False, True, False, True, True, False]
    assert [each[0] for each in await connection.fetch(workers._sql["recall"], "a", "turn")] == ["2"]


async def test_another_journals_workers_are_taken_as_ended(workers: PostgresWorkers, connection: Any) -> None:
    """And its accounts as they are bound."""
    await workers.load(connection.fetch, Register({"a": "h"}, {"w": FAR}, {("a", "sheet"): "text"}))
    assert await workers.register(connection.fetch) == Register({"a": "h"}, {"w": FAR}, {("a", "sheet"): "text"})
    assert await workers.ended(connection.fetch, "w", 5.0, []) == FAR


async def test_a_lock_that_an_earlier_connection_still_holds_is_taken_as_soon_as_it_is_free(connection: Any) -> None:
    """The database has not noticed that the connection is gone: nobody waits for that, and the worker is shown as alive meanwhile."""
    made: list[Any] = []

    async def keep() -> Any:
        made.append(await connect())
        return made[-1]

    presence = LivenessLock(keep, close)
    number = await presence.show("w")
    presence._on_loss(made[0])  # it is gone, as far as this side knows
    presence._connection = None
    async with asyncio.timeout(2):
        assert await presence.show("w") == number
    assert presence._held == set()
    await made[0].close()

    async def is_held() -> bool:
        return presence._held == {number}

    await until(is_held)
    await presence.aclose()


async def test_a_lock_whose_connection_fails_is_let_go_of_with_it() -> None:
    """A worker that leaves is not kept from it; of the others another connection takes the locks."""
    pool = FailingPool()
    made: list[FailingConnection] = []

    async def make() -> Any:
        made.append(FailingConnection(pool))
        return made[-1]

    presence = LivenessLock(make, nothing)
    await presence.show("w")
    pool.failing, pool.times = ("lock",), 1
    await presence.hide("w")
    assert made[0].is_closed()
    await presence.show("v")
    assert len(made) == 2
    await presence.aclose()
