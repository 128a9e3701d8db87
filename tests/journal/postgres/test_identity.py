"""A journal in PostgreSQL that went back in time: seen by its identity, and by what a worker saw acknowledged before."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
from msgspec.structs import replace

from alphapo_async.core.claims import Claim
from alphapo_async.core.errors import JournalError
from alphapo_async.core.row import Row, is_frozen, is_stale_no
from alphapo_async.core.row_format import to_record
from alphapo_async.core.transitions import apply, new_row
from alphapo_async.journal.postgres.identity import Identity, stamp_of
from alphapo_async.journal.postgres.journal import PostgresJournal
from tests.support import postgres
from tests.support.journal_suite import ACCOUNT, asked, learn


class PostgresConnection:
    """A database whose identity a test chooses: what a promoted standby changes."""

    def __init__(self) -> None:
        self.schema = postgres.schema()

    def journal(self, setting: str = "") -> PostgresJournal:
        """Return a journal in it."""
        url = postgres.url()
        return PostgresJournal(f"{url}{'&' if '?' in url else '?'}{setting}" if setting else url, schema=self.schema)

    async def be(self, identity: str) -> None:
        """Take this identity."""
        await postgres.take_identity(self.schema, identity)


@pytest.fixture
def server() -> PostgresConnection:
    """Return a database."""
    return PostgresConnection()


@pytest.fixture
async def journal(server: PostgresConnection) -> AsyncIterator[PostgresJournal]:
    """Yield a journal in it that is open, with a row that is left to the workers."""
    opened = server.journal()
    await opened.join(ACCOUNT, "h", "worker", 1e11)
    await learn(opened, "left", asked("left", worker=None), now=5.0)
    yield opened
    await opened.aclose()


def keep(known: Row | None) -> Row:
    """Return the row that there is."""
    assert known is not None
    return known


def test_an_identity_is_a_system_and_a_timeline() -> None:
    """A database that hides its own has none; a timeline is compared within a system only."""
    assert Identity.read("7713/0000000A") == Identity("7713", 10)
    assert Identity.read("") == Identity()
    assert Identity("a", 1).is_before(Identity("a", 2))
    assert not Identity("b", 1).is_before(Identity("a", 2))
    assert stamp_of("a/00000001", 3) == "a/00000001 3"


async def test_a_database_tells_its_system_and_its_timeline(journal: PostgresJournal) -> None:
    """To an ordinary role too; standbys that no commit waits for are none here."""
    assert journal._seen.timeline >= 1
    assert journal._seen.system.isdigit()
    assert await journal.cautions() == []


async def test_the_first_sight_of_another_identity_begins_an_epoch(
    server: PostgresConnection, journal: PostgresJournal
) -> None:
    """What was open is frozen, for every worker; what is new is of the new epoch."""
    await server.be("x/00000002")
    new = asked("new", worker=None)
    await journal.update(
        ACCOUNT, "new", lambda _: (new_row(ACCOUNT, "new", new, 6.0, is_durable=True, epoch=journal.epoch), ())
    )
    assert journal.epoch.number == 1
    assert journal.epoch.since == pytest.approx(await journal.time(), abs=5)
    left, later = await journal.find_open(ACCOUNT, None, 9)
    assert [is_frozen(left), is_frozen(later), later.epoch] == [True, False, 1]
    assert await journal.count_frozen(ACCOUNT) == 1
    totals = await journal.totals(ACCOUNT)
    assert (totals["BTC"].unknown, totals["BTC"].requested) == (
        Decimal(2),
        Decimal(2),
    )  # the new one may be a forgotten one
    other = server.journal()
    await other.join(ACCOUNT, "h", "other", 1e11)
    assert other.epoch == journal.epoch
    await other.aclose()


async def test_a_lease_is_renewed_where_the_journal_went_back(
    server: PostgresConnection, journal: PostgresJournal
) -> None:
    """The renewal sees it first; a lock says nothing of workers that this primary has not seen."""
    await server.be("x/00000002")
    assert await journal.renew("worker", 2e11, 0.0)
    assert journal.epoch.number == 1
    assert not await journal.renew("nobody", 2e11, 0.0)


async def test_a_lock_says_nothing_after_a_failover(server: PostgresConnection, journal: PostgresJournal) -> None:
    """A promoted standby has none of them."""
    other = server.journal()
    await other.join(ACCOUNT, "h", "other", 1e11)
    await other._presence.aclose()
    await server.be("x/00000002")
    assert await journal.ended("other", 0.0) is None
    await other.aclose()


async def test_an_old_primary_takes_nothing(server: PostgresConnection, journal: PostgresJournal) -> None:
    """A worker that saw a higher timeline records nothing there, and holds no lease."""
    await server.be("x/00000003")
    await learn(journal, "new", asked("new"), now=6.0)
    await server.be("x/00000002")
    for attempt in (learn(journal, "late", asked("late")), journal.renew("worker", 2e11, 0.0)):
        with pytest.raises(
            JournalError, match=r"is an old primary, which writes timeline 2 \(this worker saw timeline 3\)"
        ):
            await attempt
    await server.be("x/00000003")
    await learn(journal, "late", asked("late"), now=7.0)
    assert journal.epoch.number == 1


async def test_nothing_freezes_where_failovers_lose_nothing(server: PostgresConnection) -> None:
    """As the operator has said in the URL."""
    journal = server.journal("failover=lossless")
    await journal.join(ACCOUNT, "h", "worker", 1e11)
    await learn(journal, "left", asked("left", worker=None), now=5.0)
    await server.be("x/00000002")
    await learn(journal, "new", asked("new"), now=6.0)
    assert journal.epoch.number == 0
    assert await journal.count_frozen(ACCOUNT) == 0
    await journal.aclose()


async def test_the_caller_of_a_pool_may_say_that_failovers_lose_nothing(server: PostgresConnection) -> None:
    """A pool has no URL."""
    async with asyncpg.create_pool(postgres.url(), min_size=1, max_size=3) as pool:
        journal = PostgresJournal(pool=pool, schema=server.schema, failover="lossless")
        await journal.join(ACCOUNT, "h", "worker", 1e11)
        await server.be("x/00000002")
        await learn(journal, "new", asked("new"), now=6.0)
        assert journal.epoch.number == 0
        await journal.aclose()


async def test_a_statement_enqueues_in_the_epoch_that_it_finds(
    server: PostgresConnection, journal: PostgresJournal
) -> None:
    """A new id is looked up first; a frozen row is recorded anew, in doubt from its first recording."""
    await server.be("x/00000002")
    for foreign_id in ("new", "left"):
        await postgres.execute(journal.enqueue_statement(ACCOUNT, asked(foreign_id), "h", 100.0, 100.0))
    new, left = await journal.find(ACCOUNT, "new"), await journal.find(ACCOUNT, "left")
    assert new is not None
    assert left is not None
    assert (new.epoch, new.needs_look_up, new.earlier_request_possible) == (1, True, True)
    assert (new.arrivals, new.could_leave_until) == (2, new.created_at)
    assert (await journal.totals(ACCOUNT))["BTC"].open == 0
    assert await journal.claim(ACCOUNT, Claim("worker", 1, "key", 1e10, 9)) == ([], 0.0)
    assert {row.foreign_id for row in await journal.find_due(ACCOUNT, 1e10, 9)} == {"new", "left"}
    assert (left.epoch, left.needs_look_up, left.doubt_since) == (1, True, 5.0)
    assert left.could_leave_until == pytest.approx(await journal.time(), abs=5)
    await postgres.execute(journal.enqueue_statement(ACCOUNT, asked("left"), "h", 100.0, 100.0))
    assert await journal.find(ACCOUNT, "left") == left


CONTROLLED = {
    "refusal": {"amount": ["no"]},
    "refused_at": 3.0,
    "control_seen_at": 4.0,
    "doubt_since": 1.0,
    "could_leave_until": 2.0,
    "needs_look_up": True,
    "arrivals": 1,
    "code": "bad_header_key",
    "reason": "refused",
}
"""A row of which the next "none" settles that it was refused."""


@pytest.mark.parametrize("has_other_keys", [False, True])
@pytest.mark.parametrize("went_back", [False, True])
@pytest.mark.parametrize(
    "known", [{}, {"holder": None}, {"expires_at": 7.0, "stays_open": True, "reported": False}, CONTROLLED], ids=str
)
async def test_a_statement_makes_of_an_open_row_what_enqueue_makes(
    server: PostgresConnection,
    journal: PostgresJournal,
    known: dict[str, Any],
    *,
    went_back: bool,
    has_other_keys: bool,
) -> None:
    """Nothing from before the journal went back settles it, and what a call recorded is left to the workers; a line says so."""
    await learn(journal, "f", asked("f"), now=1.0)
    await journal.update(ACCOUNT, "f", lambda row: (replace(keep(row), **known), ()))
    if went_back:
        await server.be("x/00000002")
        await learn(journal, "new", asked("new"), now=6.0)
    before = keep(await journal.find(ACCOUNT, "f"))
    wanted = asked("f", worker=None, is_awaited=False, has_other_keys=has_other_keys, expires_at=9.0)
    expected = apply(before, wanted, 6.0)
    await postgres.execute(journal.enqueue_statement(ACCOUNT, wanted, "h", 100.0, 100.0))
    made = keep(await journal.find(ACCOUNT, "f"))
    if known.get("expires_at") is None:
        assert made.expires_at == pytest.approx(await journal.time() + 100, abs=5)
    same = {name: getattr(made, name) for name in ("expires_at", "lines", "counted")}
    expected = replace(expected, **same, arrivals=min(expected.arrivals, 2))
    assert to_record(replace(made, arrivals=min(made.arrivals, 2)))._asdict() == to_record(expected)._asdict()
    is_news = went_back or "expires_at" not in known
    assert [(line.number, line.what) for line in await journal.history(ACCOUNT, "f")] == [(1, "open already")] * is_news
    assert made.lines == is_news


async def test_a_no_is_stale_in_the_next_epoch(server: PostgresConnection, journal: PostgresJournal) -> None:
    """As it is read, however it is read."""
    await journal.update(ACCOUNT, "left", lambda known: (_rejected(keep(known)), ()))
    await server.be("x/00000002")
    await learn(journal, "new", asked("new"), now=6.0)
    assert is_stale_no(keep(await journal.find(ACCOUNT, "left")))


def _rejected(row: Row) -> Row:
    return replace(row, state="rejected", settled_at=6.0)
