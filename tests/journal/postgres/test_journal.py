"""The journal in PostgreSQL."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import asyncpg
import pytest
from msgspec.structs import replace

from alphapo_async.core import history
from alphapo_async.core.claims import Claim
from alphapo_async.core.errors import ConfigurationError, JournalError
from alphapo_async.core.evidence import LookedUp, OperatorDecision, Released
from alphapo_async.core.history import Entry
from alphapo_async.core.models import Transaction
from alphapo_async.core.redaction import redacted
from alphapo_async.core.replies import Found
from alphapo_async.core.row import Row, is_frozen
from alphapo_async.core.transitions import apply, new_row
from alphapo_async.journal.postgres import connection as postgres_server
from alphapo_async.journal.postgres.journal import PostgresJournal
from alphapo_async.supervisor import Supervisor
from tests.support import postgres
from tests.support.driver_errors import ASYNCPG, OTHERS, missing_verbs, verbs
from tests.support.journal_suite import (
    ACCOUNT,
    LOST,
    ForgettingSuite,
    JournalSuite,
    RememberingSuite,
    Rewrite,
    UpgradingSuite,
    accepted,
    asked,
    buried,
    learn,
    left,
    left_alone,
    names,
    pay,
    same,
)
from tests.support.pooler import Pooler
from tests.support.postgres_double import FailingConnection, FailingPool
from tests.support.virtual import run

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


@pytest.fixture
def rewrite(journal: PostgresJournal) -> Rewrite:
    """Have another process add a member to rows."""

    async def rewrite(begin: str) -> None:
        await postgres.execute(
            f"update {journal._server.schema}.withdrawals set row_version = row_version + 1, "
            f"""rest = (rest::jsonb || '{{"new_in_02": 1}}')::json where foreign_id like '{begin}%'"""
        )

    return rewrite


class TestPostgresJournal(JournalSuite, UpgradingSuite, RememberingSuite, ForgettingSuite):
    """The tests that every kind of journal passes, and those of what forgets."""


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
        with pytest.raises(ConfigurationError, match=r"(?i)postgresql"):
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
    """Whether the database had done it or not: one row, one line."""
    journal = PostgresJournal(between.url, schema=postgres.schema())
    await journal.find(ACCOUNT, "warm up")
    for foreign_id, lost in (("a", "lose_before"), ("b", "lose_reply_to")):
        setattr(between, lost, b"")
        row = await learn(journal, foreign_id, asked(foreign_id), LOST)
        setattr(between, lost, b"")
        row = await learn(journal, foreign_id, LOST)
        assert row.attempts == 2
        assert same(await journal.find(ACCOUNT, foreign_id), row)
        assert len(await journal.history(ACCOUNT, foreign_id)) == 2
    await journal.aclose()


@pytest.mark.parametrize("lost", ["lose_before", "lose_reply_to"])
async def test_a_claim_that_is_lost_on_the_way_is_made_once(between: Pooler, lost: str) -> None:
    """Whether the database had made it or not: its rows come back, and no others."""
    journal = PostgresJournal(between.url, schema=postgres.schema())
    await journal.join(ACCOUNT, "h", "w", FAR)
    for number, name in enumerate("abc", start=1):
        await left(journal, name, float(number))
    setattr(between, lost, b"")
    claimed = await journal.claim(ACCOUNT, Claim("w", 1, "key", 5.0, 2))
    assert claimed is not None
    assert names(claimed.rows) == ["a", "b"]
    assert len(await journal.find_held("w", 9)) == 2
    row = await learn(journal, "a", accepted("a"), now=6.0)
    assert (row.state, row.claim) == ("accepted", 0)
    await journal.aclose()


async def test_a_claim_that_arrives_late_takes_its_rows_once(between: Pooler) -> None:
    """A claim that is sent again waits for the first one, and returns what it took."""
    journal = PostgresJournal(between.url, schema=postgres.schema())
    await journal.join(ACCOUNT, "h", "w", FAR)
    for number, name in enumerate("abc", start=1):
        await left(journal, name, float(number))
    claimed = await late(journal, between, lambda: journal.claim(ACCOUNT, Claim("w", 1, "key", 5.0, 2)), "workers")
    assert claimed is not None
    assert names(claimed.rows) == ["a", "b"]
    assert len(await journal.find_held("w", 9)) == 2
    await journal.aclose()


async def test_a_row_with_a_nul_in_alphapos_words_is_claimed_and_expires_as_any_other(journal: PostgresJournal) -> None:
    """PostgreSQL's own functions refuse it: one such row kept all rows of the account from every worker."""
    await journal.join(ACCOUNT, "h", "worker", FAR)
    shown = Transaction(id="9", foreign_id="f", status="a\0b")
    no = OperatorDecision("me", "not in AlphaPo's books", False, None)
    await learn(journal, "f", asked("f"), LOST, LookedUp("worker", Found(shown)), Released("worker", "closed"))
    await learn(journal, "f", no, asked("f", "2", worker=None, expires_at=20.0), now=5.0)
    await left(journal, "g", 15.0)
    assert names(await journal.find_due(ACCOUNT, 20.0, 9, expired=True)) == ["f"]
    claimed = await journal.claim(ACCOUNT, Claim("worker", 1, "key", 20.0, 9))
    assert claimed is not None
    assert names(claimed.rows) == ["f", "g"]
    assert claimed.rows[0].transaction == shown


async def test_a_frozen_row_with_a_nul_in_alphapos_words_is_enqueued_anew(journal: PostgresJournal) -> None:
    """The statement broke off the caller's own transaction."""
    await journal.join(ACCOUNT, "h", "worker", FAR)
    shown = Transaction(id="9", foreign_id="f", status="a\0b")
    await learn(journal, "f", asked("f"), LOST, LookedUp("worker", Found(shown)))
    await journal.raise_epoch(5.0)
    await postgres.execute(journal.enqueue_statement(ACCOUNT, asked("f", worker=None), "h", 100.0, 100.0))
    row = await journal.find(ACCOUNT, "f")
    assert row is not None
    assert (row.epoch, row.doubt_since, row.needs_look_up) == (1, 0.0, True)
    assert row.transaction == replace(shown, status="a\ufffdb")


async def test_a_claim_that_is_answered_while_its_row_is_read_is_no_lost_commit(journal: PostgresJournal) -> None:
    """The reading came first and shows the row as it was: nothing has gone back, and nothing is frozen."""
    is_read, may_answer = asyncio.Event(), asyncio.Event()

    class Late(asyncpg.Connection):  # type: ignore[misc]
        """A connection on which the answer to a reading of rows takes long."""

        async def fetch(self, query: str, *values: Any, **how: Any) -> Any:
            found = await super().fetch(query, *values, **how)
            if "unnest" in query:
                is_read.set()
                await may_answer.wait()
            return found

    await left(journal, "f", 1.0)
    async with asyncpg.create_pool(postgres.url(), min_size=0, max_size=4, connection_class=Late) as pool:
        worker = PostgresJournal(pool=pool, schema=journal._server.schema)
        await worker.join(ACCOUNT, "h", "w", FAR)
        change = asyncio.ensure_future(learn(worker, "f", asked("f", worker="w"), now=6.0))
        await is_read.wait()
        claimed = await worker.claim(ACCOUNT, Claim("w", 1, "key", 5.0, 2))
        assert claimed is not None
        assert names(claimed.rows) == ["f"]
        may_answer.set()
        row = await change
        await worker.aclose()
    assert (row.claim, worker.epoch.number) == (0, 0)


async def test_a_claim_that_is_made_again_is_stored_once_more(journal: PostgresJournal) -> None:
    """It may be visible before a standby has it: the rows of the claim before must not begin where a failover would not know of that."""
    await journal.join(ACCOUNT, "h", "w", FAR)
    connection, writers = await asyncpg.connect(postgres.url()), []
    for _ in range(2):
        assert await journal.claim(ACCOUNT, Claim("w", 1, "key", 5.0, 2)) == ([], 0.0)
        writers += await connection.fetch(f"select xmin::text from {journal._server.schema}.workers")
    await connection.close()
    assert writers[0] != writers[1]


async def test_workers_that_claim_at_the_same_time_take_different_rows(journal: PostgresJournal) -> None:
    """None of them waits for another, and every row is taken once."""
    for name in ("one", "two", "three"):
        await journal.join(ACCOUNT, "h", name, FAR)
    await asyncio.gather(*(left(journal, f"f{number}", 1.0) for number in range(60)))
    taken: list[str] = []

    async def work(worker: str) -> None:
        for number in range(1, 11):
            claimed = await journal.claim(ACCOUNT, Claim(worker, number, "key", 5.0, 5))
            assert claimed is not None
            taken.extend(names(claimed.rows))

    await asyncio.gather(*(work(name) for name in ("one", "two", "three")))
    assert sorted(taken) == sorted(f"f{number}" for number in range(60))


async def test_a_worker_whose_end_is_recorded_makes_no_claim_on_its_way(journal: PostgresJournal) -> None:
    """Of the two statements one comes first: either the claim counts for what may have begun, or it is not made."""
    await left(journal, "f", 1.0)
    outcomes = []
    for number in range(8):
        worker, until = f"w{number}", time.time() + 0.1
        await journal.join(ACCOUNT, "h", worker, until)
        if await journal.claim(ACCOUNT, Claim(worker, 1, "key", 5.0, 0)) is None:
            continue  # the machine was so busy that the lease was over
        await asyncio.sleep(until - time.time() + 0.001 - number / 1_000)
        claimed, dead = await asyncio.gather(
            journal.claim(ACCOUNT, Claim(worker, 2, "key", 5.0, 0)), journal.find_dead(time.time() + 1)
        )
        begun = await journal.begun(worker)
        if worker in dict(dead):
            assert begun == (0 if claimed is None else 1)
            assert await journal.claim(ACCOUNT, Claim(worker, 3, "key", 5.0, 0)) is None
            assert await journal.begun(worker) == begun
        outcomes.append(claimed is None)
    assert outcomes


async def test_changes_of_one_row_in_one_group_survive_a_lost_reply(between: Pooler) -> None:
    """None of them counts twice."""
    journal = PostgresJournal(between.url, schema=postgres.schema())
    await learn(journal, "f", asked("f"))
    between.lose_reply_to = b""
    rows = await asyncio.gather(*(learn(journal, "f", LOST) for _ in range(10)))
    assert [row.attempts for row in rows] == list(range(1, 11))
    found = await journal.find(ACCOUNT, "f")
    assert found is not None
    assert found.attempts == 10
    assert len(await journal.history(ACCOUNT, "f")) == 10
    await journal.aclose()


BEGUN = Entry(0.0, "request", "enqueued: 1 BTC", release="1.0", number=1)
LINE = Entry(5.0, "callback", "con\0firmed", release="1.0")
"""What adds nothing to a row but a line of its history; text in PostgreSQL holds no NUL."""


def noted(line: Entry, row: Row | None) -> tuple[Row, Sequence[Entry]]:
    """Leave the row as it is, and add a line."""
    assert row is not None
    return history.noted(row, [line])


async def story(journal: PostgresJournal) -> tuple[int, list[float]]:
    """Return how many attempts a row has had, and the times of the lines of its history."""
    return await _attempts(journal), [line.at for line in await journal.history(ACCOUNT, "f")]


@pytest.mark.parametrize("lost", ["lose_before", "lose_reply_to"])
async def test_a_line_for_a_row_that_stays_as_it_is_is_added_once(between: Pooler, lost: str) -> None:
    """That the row is as it was does not say whether the line was written."""
    journal = PostgresJournal(between.url, schema=postgres.schema())
    await learn(journal, "f", asked("f"))
    setattr(between, lost, b"")
    await journal.update(ACCOUNT, "f", partial(noted, LINE))
    assert await story(journal) == (0, [5.0])
    await journal.aclose()


async def test_a_line_for_a_row_that_stays_as_it_is_outlasts_a_companion_that_fails(journal: PostgresJournal) -> None:
    """What was refused together is written one by one."""
    await learn(journal, "f", asked("f"))
    outcomes = await asyncio.gather(
        learn(journal, "f", LOST, now=1.0),
        learn(journal, "f", LOST, now=2.0),
        hear_a_line(journal),
        learn(journal, "b\0", asked("b")),
        return_exceptions=True,
    )
    assert isinstance(outcomes[-1], JournalError)
    assert await story(journal) == (2, [1.0, 2.0, 5.0])


async def hear_a_line(journal: PostgresJournal) -> Row:
    """Ask for it in the turn of those that hear evidence."""
    return await journal.update(ACCOUNT, "f", partial(noted, LINE))


async def test_what_is_not_answered_is_not_done_twice_though_others_wrote_meanwhile(
    between: Pooler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lines say that it stands; a line that another wrote does not."""
    monkeypatch.setattr(postgres_server, "_FIRST_WAIT", 1.0)
    journal = PostgresJournal(between.url, schema=postgres.schema())
    await learn(journal, "f", asked("f"))
    other = another(journal)
    for turn, lost in enumerate(("lose_reply_to", "lose_before")):
        await other.find(ACCOUNT, "f")
        setattr(between, lost, b"")
        asking = asyncio.ensure_future(learn(journal, "f", LOST, now=turn + 0.25))
        await asyncio.sleep(0.2)
        for each in (0.5, 0.75):
            await learn(other, "f", LOST, now=turn + each)
        assert (await asking).attempts == (1, 6)[turn]
    assert await story(journal) == (6, [0.25, 0.5, 0.75, 1.5, 1.75, 1.25])
    await journal.aclose()
    await other.aclose()


async def late(
    journal: PostgresJournal, between: Pooler, asking: Callable[[], Awaitable[Any]], table: str = "withdrawals"
) -> Any:
    """Have a statement come to its row only when it is sent again: the database has not noticed that nobody waits for its answer."""
    connection = await asyncpg.connect(postgres.url())
    async with connection.transaction():
        await connection.execute(f"select from {journal._server.schema}.{table} for update")
        asked_for = asyncio.ensure_future(asking())
        for count in (1, 2):
            waiting = 0
            async with asyncio.timeout(10):
                while waiting < count:
                    await asyncio.sleep(0.01)
                    waiting = await connection.fetchval("select count(*) from pg_locks where not granted")
            if count == 1:
                await between.cut_all()
    await connection.close()
    return await asked_for


async def test_what_arrives_late_is_not_done_twice(between: Pooler) -> None:
    """The second statement finds the turn taken: by the first one."""
    journal = PostgresJournal(between.url, schema=postgres.schema())
    await learn(journal, "f", asked("f"))
    row = await late(journal, between, lambda: learn(journal, "f", LOST, now=1.0))
    assert row.attempts == 1
    assert await story(journal) == (1, [1.0])
    forget = partial(journal.forget, ACCOUNT, "f", lambda row: history.noted(redacted(row), [LINE]), keeps_history=True)
    assert await late(journal, between, forget)
    assert await story(journal) == (1, [1.0, 5.0])
    await journal.aclose()


async def test_workers_do_not_wait_for_a_transaction_that_saw_a_failover_first(journal: PostgresJournal) -> None:
    """A statement recorded the new identity in it: until its end no lease was prolonged, and it waited ten seconds for its own lock."""
    await journal.join(ACCOUNT, "h", "worker", FAR)
    await postgres.take_identity(journal._server.schema, "x/00000002")
    journal._server._retry_for = 0.2

    def enqueued(_known: Row | None) -> tuple[Row, Sequence[Entry]]:
        return new_row(ACCOUNT, "b", asked("b", worker=None), 1.0, is_durable=True, epoch=journal.epoch), ()

    connection = await asyncpg.connect(postgres.url())
    async with asyncio.timeout(2), connection.transaction():
        await connection.fetch(journal.enqueue_statement(ACCOUNT, asked("a", worker=None), "h", 100.0, 86_400.0))
        assert await journal.renew("worker", FAR + 1, 1.0)
        await journal.update_within(connection, ACCOUNT, "b", enqueued)
    await connection.close()
    assert journal.epoch.number == 1
    for foreign_id in ("a", "b"):
        found = await journal.find(ACCOUNT, foreign_id)
        assert found is not None
        assert (found.epoch, is_frozen(found)) == (1, False)


async def test_a_lock_that_a_role_does_not_wait_for_is_tried_again() -> None:
    """A `lock_timeout` of the role ends the statement sooner than ours: another program's transaction may be over in a moment."""
    limited = f"{postgres.url()}{'&' if '?' in postgres.url() else '?'}options=-clock_timeout%3D20"
    journal = PostgresJournal(limited, schema=postgres.schema())
    await learn(journal, "f", asked("f"))
    connection = await asyncpg.connect(postgres.url())
    async with connection.transaction():
        await connection.execute(f"select from {journal._server.schema}.withdrawals for update")
        learning = asyncio.ensure_future(learn(journal, "f", LOST, now=1.0))
        await asyncio.sleep(0.1)
    await connection.close()
    assert (await learning).attempts == 1
    await journal.aclose()


async def test_what_is_read_back_is_written_once_more(between: Pooler) -> None:
    """A standby may still be without it: whoever no longer waits for a standby lets others see what only this machine has."""
    journal = PostgresJournal(between.url, schema=postgres.schema())
    await learn(journal, "f", asked("f"))
    between.lose_reply_to = b""
    assert (await learn(journal, "f", LOST)).attempts == 1
    assert journal._known[ACCOUNT, "f"].version == 3
    await journal.aclose()


async def test_what_breaks_off_a_change_is_its_own_affair(journal: PostgresJournal) -> None:
    """Whatever is raised: its companions are written, and told so."""

    def break_off(_known: Row | None) -> tuple[Row, Sequence[Entry]]:
        raise asyncio.CancelledError

    async with asyncio.timeout(10):
        outcomes = await asyncio.gather(
            learn(journal, "a", asked("a")),
            journal.update(ACCOUNT, "b", break_off),
            learn(journal, "c", asked("c")),
            return_exceptions=True,
        )
    assert [type(one) for one in outcomes] == [Row, asyncio.CancelledError, Row]


async def test_a_text_that_no_database_takes_fails_alone(journal: PostgresJournal) -> None:
    """Half a character: its companions are written, new ones and others."""
    await learn(journal, "f", asked("f"))
    outcomes = await asyncio.gather(
        learn(journal, "a", asked("a")),
        learn(journal, "f", LOST),
        journal.update(ACCOUNT, "f", partial(noted, replace(LINE, what="\ud800"))),
        learn(journal, "f", LOST),
        return_exceptions=True,
    )
    assert [type(one) for one in outcomes] == [Row, Row, JournalError, Row]
    assert await _attempts(journal) == 2


async def test_changes_of_a_row_are_made_in_the_order_in_which_they_were_asked_for(journal: PostgresJournal) -> None:
    """Also where the first comes to nothing on what is remembered, or raises on what another has still to write."""
    await learn(journal, "f", asked("f"))
    seen: list[tuple[str, int]] = []

    def made(name: str, make: Callable[[Row], Row], row: Row | None) -> tuple[Row, Sequence[Entry]]:
        assert row is not None
        seen.append((name, row.attempts))
        return make(row), ()

    def refuse(_row: Row) -> Row:
        raise ZeroDivisionError

    asking = [
        journal.update(ACCOUNT, "f", partial(made, name, make))
        for name, make in (("look", lambda row: row), ("try", _tried), ("refuse", refuse), ("again", _tried))
    ]
    outcomes = await asyncio.gather(*asking, return_exceptions=True)
    assert [one.attempts if isinstance(one, Row) else type(one) for one in outcomes] == [0, 1, ZeroDivisionError, 2]
    assert list(dict.fromkeys(seen)) == [("look", 0), ("try", 0), ("refuse", 1), ("again", 1)]


def _tried(row: Row) -> Row:
    return replace(row, attempts=row.attempts + 1)


async def test_a_row_that_is_corrected_twice_in_a_group_keeps_the_bytes_between(journal: PostgresJournal) -> None:
    """As if each had been written by itself; also of a row that is new."""
    await learn(journal, "f", asked("f"))
    left = Released("worker", "queue")
    await asyncio.gather(
        learn(journal, "f", left, asked("f", "2")),
        learn(journal, "f", left, asked("f", "3")),
        learn(journal, "g", asked("g", "1"), left, asked("g", "2")),
    )
    for foreign_id, last in (("f", 3), ("g", 2)):
        found = await journal.find(ACCOUNT, foreign_id)
        assert same(found, journal._known[ACCOUNT, foreign_id].row)
        assert found is not None
        results = [(one.number, one.body) for one in (*found.earlier, found.revision)]
        assert results == [(each, asked(foreign_id, f"{each}").revision.body) for each in range(1, last + 1)]


async def test_what_is_forgotten_is_told_as_forgotten_though_the_answer_was_lost(
    between: Pooler, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once; also where another has changed it since."""
    monkeypatch.setattr(postgres_server, "_FIRST_WAIT", 1.0)
    for changes in (False, True):
        journal = PostgresJournal(between.url, schema=postgres.schema())
        await pay(journal, "f")
        other = another(journal)

        def change(row: Row) -> tuple[Row, Sequence[Entry]]:
            between.lose_reply_to = b"con"
            return history.noted(redacted(row), [LINE]) if row.revision.body else (row, ())

        asking = asyncio.ensure_future(journal.forget(ACCOUNT, "f", change, keeps_history=True))
        if changes:
            await asyncio.sleep(0.2)
            await learn(other, "f", LOST, now=6.0)
        assert await asking
        assert (await story(journal))[1] == [0.0, 5.0, *([6.0] if changes else [])]
        between.lose_reply_to = None
        await journal.aclose()
        await other.aclose()


async def test_whoever_comes_second_works_it_out_again(journal: PostgresJournal) -> None:
    """Two processes that remember the same row: neither overwrites what the other wrote."""
    other = another(journal)
    await learn(journal, "f", asked("f"))
    await other.find(ACCOUNT, "f")
    for turn in range(3):
        for each in (journal, other):
            await learn(each, "f", LOST)
        assert [await _attempts(each) for each in (journal, other)] == [2 * turn + 2] * 2
    await asyncio.gather(*(learn(each, "f", LOST) for each in (journal, other) for _ in range(20)))
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
    await learn(journal, "f", asked("f"))
    await learn(other, "f", accepted("f"))
    assert (await learn(journal, "f", asked("f"))).state == "accepted"
    assert (await learn(journal, "f", asked("f"))).state == "accepted"
    await other.aclose()


async def test_what_is_wrong_with_one_is_not_told_to_all(journal: PostgresJournal) -> None:
    """A row that the database does not take fails alone."""
    outcomes = await asyncio.gather(
        learn(journal, "a", asked("a")),
        learn(journal, "b\0", asked("b")),
        learn(journal, "c", asked("c")),
        return_exceptions=True,
    )
    assert isinstance(outcomes[0], Row)
    assert isinstance(outcomes[1], JournalError)
    assert isinstance(outcomes[2], Row)


async def test_what_the_database_never_saw_is_told_to_all_at_once() -> None:
    """Nobody waits for another's patience."""
    journal = PostgresJournal("postgresql://127.0.0.1:9/payouts?sslmode=disable")
    journal._server._retry_for = 0.2
    began = asyncio.get_running_loop().time()
    outcomes = await asyncio.gather(
        *(learn(journal, f"{n}", asked(f"{n}")) for n in range(100)), return_exceptions=True
    )
    assert asyncio.get_running_loop().time() - began < 3
    assert {type(one) for one in outcomes} == {JournalError}
    assert {one.recorded for one in outcomes if isinstance(one, JournalError)} == {None}
    await journal.aclose()
    with pytest.raises(JournalError, match="is closed"):
        await journal.find(ACCOUNT, "f")


async def test_closing_at_a_silent_database_is_bounded(caplog: pytest.LogCaptureFixture) -> None:
    """What was asked for fails, and no connection and no task is left; whoever cancels closing ends it at once."""
    async with Pooler(postgres.url(), is_pooling=False) as between:
        for seconds in (None, 0.1):
            journal = PostgresJournal(between.url, schema=postgres.schema())
            journal._close_within = 0.3
            await journal.join("shop", "host", "w", 1e10)
            between.is_silent = True
            asking = asyncio.ensure_future(learn(journal, "f", asked("f")))
            await asyncio.sleep(0)
            began = asyncio.get_running_loop().time()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds):
                    await journal.aclose()
            assert asyncio.get_running_loop().time() - began < (seconds or 0.3) + 0.2
            with pytest.raises(JournalError, match="was closed"):
                await asking
            between.is_silent = False
            await journal.aclose()
    assert "was closed while it did not answer" in caplog.text


async def test_closing_raises_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """It is called where something else has failed; its own error is in the log."""
    journal = PostgresJournal(postgres.url(), schema=postgres.schema())
    await journal.find(ACCOUNT, "warm up")

    async def fail() -> None:
        raise ValueError("no word is left")

    journal._presence._disconnect = lambda _: fail()
    await journal.join("shop", "host", "w", 1e10)
    await journal.aclose()
    assert "was not closed in good order" in caplog.text


async def test_an_error_that_nobody_thought_of_reaches_everybody(journal: PostgresJournal) -> None:
    """Nobody waits for ever."""
    await journal.find(ACCOUNT, "warm up")
    statements, journal._rows = journal._rows, None  # type: ignore[assignment]
    with pytest.raises(AttributeError):
        await learn(journal, "f", asked("f"))
    journal._rows = statements


async def test_what_another_journal_kept_is_loaded_whole(journal: PostgresJournal, empty: PostgresJournal) -> None:
    """Rows in order with their bytes and histories, tombstones, accounts, texts, workers, who have ended, and the epoch."""
    await journal.join(ACCOUNT, "h", "worker", 50.0)
    await learn(journal, "f", asked("f", "2"), Released("worker", "queue"), now=1.0)
    await learn(journal, "f", asked("f", "1"), LOST, now=2.0)
    await pay(journal, "g", "h")
    await journal.forget(ACCOUNT, "h", buried, keeps_history=False)
    await journal.remember(ACCOUNT, "callback 7", "text")
    raised = await journal.raise_epoch(40.0)
    [first] = await journal.dump(0, 1)
    rest = await journal.dump(first.place, 9)
    assert await journal.hosts() == {ACCOUNT: "h"}
    register = await journal.register()
    assert (register.hosts, register.leases, register.epoch) == ({ACCOUNT: "h"}, {"worker": 50.0}, raised)
    await empty.load(register, [first])
    await empty.load(None, rest)
    assert empty.epoch == raised
    assert await empty.register() == register
    assert await empty.count_frozen(ACCOUNT) == 1
    assert await empty.totals(ACCOUNT) == await journal.totals(ACCOUNT)
    for before in (first, *rest):
        found = await empty.find(ACCOUNT, before.row.foreign_id)
        assert found is not None
        assert same(replace(found, arrivals=0), replace(before.row, arrivals=0))
        assert found.revision.is_same_payment(before.row.revision)
        assert tuple(await empty.history(ACCOUNT, before.row.foreign_id)) == before.entries
    assert [one.number for one in (await empty.dump(0, 1))[0].row.earlier] == [1]
    assert await empty.recall(ACCOUNT, "callback 7") == "text"
    assert await empty.find_dead(60.0) == [("worker", 50.0)]


@pytest.mark.parametrize("table", ["accounts", "workers", "named_texts", "withdrawals"])
async def test_what_another_journal_kept_is_loaded_once_though_an_answer_was_lost(
    journal: PostgresJournal, between: Pooler, table: str
) -> None:
    """One lost connection ended a whole copy with an internal error, or with a statement that was refused."""
    await journal.join(ACCOUNT, "h", "worker", 50.0)
    await journal.remember(ACCOUNT, "callback 7", "text")
    await pay(journal, "g", "h")
    register, kept = await journal.register(), await journal.dump(0, 9)
    copy = PostgresJournal(between.url, schema=postgres.schema())
    await copy.find(ACCOUNT, "warm up")
    between.lose_reply_to = f"insert into {copy._server.schema}.{table}".encode()
    await copy.load(register, kept)
    assert await copy.register() == register
    assert [(one.row.foreign_id, one.entries) for one in await copy.dump(0, 9)] == [
        (one.row.foreign_id, one.entries) for one in kept
    ]
    await copy.aclose()


async def test_an_epoch_begins_once_though_the_answer_was_lost(journal: PostgresJournal, between: Pooler) -> None:
    """With two, `unfreeze --nothing-lost` would leave frozen what was open before the first one."""
    await learn(journal, "left", asked("left", worker=None))
    restored = PostgresJournal(between.url, schema=journal._server.schema)
    await restored.find(ACCOUNT, "warm up")
    between.lose_reply_to = f"update {journal._server.schema}.journal set epoch_number".encode()
    assert (await restored.raise_epoch(0.0)).number == 1
    assert (await restored.raise_epoch(0.0)).number == 2
    await restored.aclose()


async def test_only_a_few_rows_are_remembered(journal: PostgresJournal) -> None:
    """The others are read again when they are needed."""
    journal._remembered = 2
    for number in range(4):
        await learn(journal, f"{number}", asked(f"{number}"))
    assert len(journal._known) == 2
    assert (await learn(journal, "0", LOST)).attempts == 1


async def _equate(journal: PostgresJournal) -> int:
    return await journal.equate_epochs(Entry(1.0, "unfrozen", "nothing was lost"))


@pytest.mark.parametrize("ask", [partial(PostgresJournal.totals, account=ACCOUNT), _equate])
async def test_what_reads_every_row_may_take_longer_than_other_statements(
    journal: PostgresJournal, ask: Callable[[PostgresJournal], Awaitable[object]]
) -> None:
    """In a journal of a million rows the sums, and `unfreeze --nothing-lost`, took longer than any statement may, each time."""
    await pay(journal, "a")
    slow, schema = another(journal), journal._server.schema
    slow._server = postgres_server.PostgresConnection(postgres.url(), schema, timeout=0.2, retry_for=0.0)
    await slow.find(ACCOUNT, "warm up")
    holder = await asyncpg.connect(postgres.url())
    async with holder.transaction():
        await holder.execute(f"lock table {schema}.withdrawals")
        asking = asyncio.ensure_future(ask(slow))
        await asyncio.sleep(0.3)
    await asking
    await holder.close()
    await slow.aclose()


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

    def change(known: Row | None) -> tuple[Row, Sequence[Entry]]:
        return (known, ()) if known else history.noted(new_row(ACCOUNT, "f", fresh, 5.0, is_durable=True), [LINE])

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
        assert [line.at for line in await journal.history(ACCOUNT, "f")] == ([5.0] if commits else [])
    await connection.close()


async def test_a_transaction_that_comes_second_works_it_out_again(journal: PostgresJournal) -> None:
    """What another committed meanwhile is not overwritten."""
    await learn(journal, "f", asked("f"))
    connection = await asyncpg.connect(postgres.url())
    turns: list[int] = []

    def change(known: Row | None) -> tuple[Row, Sequence[Entry]]:
        assert known is not None
        turns.append(known.attempts)
        return history.noted(apply(known, LOST, 9.0), history.entries_of((LOST,), 9.0, "1.0"))

    async with connection.transaction():
        statement = connection.fetch

        async def slow_fetch(asked_for: str, *values: object) -> list[object]:
            if len(turns) == 1 and asked_for.lstrip().startswith("with"):
                await learn(journal, "f", LOST)
            return await statement(asked_for, *values)  # type: ignore[no-any-return]

        await journal._change_one(slow_fetch, (ACCOUNT, "f"), change)
    assert turns == [0, 1]
    assert await story(journal) == (2, [0.0, 9.0])
    await connection.close()


async def test_a_transaction_sees_that_the_journal_went_back(journal: PostgresJournal) -> None:
    """By a connection of its own, whatever becomes of the transaction; one that cannot see it is refused."""
    await learn(journal, "f", asked("f"))
    connection, schema = await asyncpg.connect(postgres.url()), journal._server.schema
    await postgres.take_identity(schema, "x/00000002")
    async with connection.transaction():
        assert is_frozen(await journal.update_within(connection, ACCOUNT, "f", left_alone))
    await postgres.take_identity(schema, "x/00000003")
    transaction = connection.transaction(isolation="repeatable_read")
    await transaction.start()
    await connection.fetch("select 1 from pg_class limit 1")
    with pytest.raises(JournalError, match="went back while this was asked") as caught:
        await journal.update_within(connection, ACCOUNT, "f", left_alone)
    assert caught.value.recorded is False
    await transaction.rollback()
    await connection.close()
    assert journal.epoch.number == 2


async def test_a_worker_that_saw_more_than_the_database_has_begins_an_epoch(journal: PostgresJournal) -> None:
    """A row is older than the turn that was acknowledged, or gone, and the database's identity shows nothing of that."""
    await learn(journal, "f", asked("f", worker=None))
    await learn(journal, "f", LOST)
    await postgres.execute(f"update {journal._server.schema}.withdrawals set row_version = 1")
    await learn(journal, "f", LOST)
    assert journal.epoch.number == 1
    assert await journal.count_frozen(ACCOUNT) == 1
    await pay(journal, "paid")
    for table in ("history", "withdrawals"):
        await postgres.execute(
            f"delete from {journal._server.schema}.{table}" + " where foreign_id = 'paid'" * (table == "withdrawals")
        )
    row = new_row(ACCOUNT, "paid", asked("paid"), 8.0, is_durable=True)
    await journal.update(ACCOUNT, "paid", lambda known: (known or row, ()))
    assert journal.epoch.number == 2


async def test_a_row_is_forgotten_after_the_failover_has_been_seen(journal: PostgresJournal) -> None:
    """The first statement finds another identity and changes nothing; the second one runs in the new epoch."""
    await pay(journal, "f")
    await postgres.take_identity(journal._server.schema, "x/00000002")
    assert await journal.forget(ACCOUNT, "f", buried, keeps_history=False)
    assert journal.epoch.number == 1
    assert await journal.history(ACCOUNT, "f") == []


async def test_a_failover_that_was_not_seen_before_begins_one_epoch(journal: PostgresJournal) -> None:
    """A worker that comes second finds the epoch of the first, and begins none."""
    await learn(journal, "f", asked("f"))
    other = another(journal)
    await other.find(ACCOUNT, "f")
    await postgres.take_identity(journal._server.schema, "x/00000002")
    for each in (journal, other):
        await learn(each, "f", LOST)
    assert [each.epoch for each in (journal, other)] == [journal.epoch] * 2
    assert journal.epoch.number == 1
    await other.aclose()


async def test_a_database_that_hides_its_identity_is_a_caution(journal: PostgresJournal) -> None:
    """The operator has to tell of a failover then; a database that shows it and has no standby is none."""
    assert await journal.cautions() == []
    await postgres.take_identity(journal._server.schema, "")
    [caution] = await journal.cautions()
    assert "hides its timeline" in caution


async def test_a_statement_for_the_workers_names_the_journals_own_tables(journal: PostgresJournal) -> None:
    """Wherever it is run."""
    statement = journal.enqueue_statement(ACCOUNT, asked("f"), "h", 100.0, 100.0)
    await journal.find(ACCOUNT, "f")
    await postgres.execute(statement)
    assert names(await journal.find_open(ACCOUNT, None, 9)) == ["f"]


async def test_nothing_is_written_once_it_is_closed(journal: PostgresJournal) -> None:
    """Whoever asks hears so, and not only when he waits for it."""
    await journal.aclose()
    with pytest.raises(JournalError):
        await journal.update("shop", "late", left_alone)


def test_no_verb_raises_what_the_driver_raises() -> None:
    """But `JournalError`, for every class of the driver's exceptions; a transient one is tried again for a while at the first call."""

    async def story() -> None:
        pool = FailingPool()
        journal = PostgresJournal(pool=pool)
        await journal._server.run(lambda fetch: fetch("select 1"))
        pool.failing = ("fetch", "lock")
        connection = FailingConnection(pool)
        within: Any = partial(journal.update_within, connection, ACCOUNT, "f", left_alone)
        for kind in (*ASYNCPG, *OTHERS):
            for verb, call in {**verbs(journal), "update_within": within}.items():
                pool.error = kind("made up")
                result: object
                (result,) = await asyncio.gather(call(), return_exceptions=True)
                assert isinstance(result, JournalError), (verb, kind, result)
        assert missing_verbs(journal) == set()

    run(story())


async def test_a_connection_that_the_server_ended_and_has_not_closed_yet_is_replaced(between: Pooler) -> None:
    """FATAL on an idle connection, and the close a moment later: in between, whatever is asked of it is an internal error of asyncpg."""
    journal = PostgresJournal(between.url, schema=postgres.schema())
    await journal.join(ACCOUNT, "h", "w", FAR)
    await learn(journal, "f", asked("f"))
    await between.end_all()
    await learn(journal, "f", LOST)
    await between.end_all()
    assert await journal.renew("w", FAR, 0.0)
    await between.end_all()
    assert (await journal.totals(ACCOUNT))["BTC"].unknown == 1
    await between.end_all()
    await journal.leave("w", 0.0)
    await journal.aclose()


async def test_what_goes_wrong_in_the_background_is_reported(journal: PostgresJournal) -> None:
    """To the supervisor that is handed in."""
    reported: list[str] = []
    journal.supervise(Supervisor(lambda task, _: reported.append(task)))
    await journal.find(ACCOUNT, "warm up")
    journal._changes._store = None  # type: ignore[assignment]
    with pytest.raises(JournalError, match="internal error"):
        await learn(journal, "f", asked("f"))
    assert reported == ["journal writes"]


async def test_a_worker_that_cannot_be_recorded_keeps_no_lock(journal: PostgresJournal) -> None:
    """It is let go of with the next statement about a lock."""
    await journal.join(ACCOUNT, "h", "first", FAR)
    schema = journal._server.schema
    await postgres.execute(f"alter table {schema}.workers rename to elsewhere")
    for number in range(3):
        with pytest.raises(JournalError):
            await journal.join(ACCOUNT, "h", f"w{number}", FAR)
    assert journal._presence.workers == ["first"]
    await postgres.execute(f"alter table {schema}.elsewhere rename to workers")
    assert await journal.renew("first", FAR, 0.0)
    assert len(journal._presence._held) == 1
