"""Which rows in doubt are looked up once AlphaPo answers again."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from alphapo_async.client import AlphapoClient
from alphapo_async.core.codec import encode_body
from alphapo_async.core.errors import WithdrawalError
from alphapo_async.core.evidence import Requested, Revision
from alphapo_async.core.rate_limit import LimiterState
from alphapo_async.core.replies import NoReply, Reply
from alphapo_async.core.retry_policy import RetryPolicy
from alphapo_async.core.row import Assumptions, Row
from alphapo_async.core.transitions import new_row
from alphapo_async.engine.outage_sweep import PER_SECOND, OutageSweep
from tests.support.virtual import run
from tests.support.wire import HTML_502, LOST, NO_CONNECTION, Durable, Wire, client, reply, request

WAIT_MAX = 20.0
POLICY = RetryPolicy(attempts=1, deadline=1.0, wait_max=WAIT_MAX)


class Away(Wire):
    """An AlphaPo that gives no answer while it is away, and has accepted what it was sent."""

    gone: NoReply | Reply | None = LOST

    async def exchange(
        self, method: str, url: str, *, body: bytes | None, headers: Mapping[str, str], timeout: float
    ) -> Reply | NoReply:
        result = await super().exchange(method, url, body=body, headers=headers, timeout=timeout)
        return result if self.gone is None else self.gone


@contextlib.asynccontextmanager
async def working(wire: Away, count: int, policy: RetryPolicy = POLICY) -> AsyncIterator[AlphapoClient]:
    """Have a worker run, and put so many rows in doubt."""
    async with client(wire, journal=Durable(), policy=policy) as alphapo:
        work = asyncio.ensure_future(alphapo.work())
        calls = (alphapo.withdraw(request(f"payout-{number:03}")) for number in range(count))
        for result in await asyncio.gather(*calls, return_exceptions=True):
            assert isinstance(result, WithdrawalError)
        yield alphapo
        work.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await work


def settled_after(outage: float, count: int) -> tuple[float, list[float]]:
    """Return the seconds from AlphaPo's return until no row is open, and when look-ups were made after it."""

    async def story() -> tuple[float, list[float]]:
        wire, loop = Away(), asyncio.get_running_loop()
        async with working(wire, count) as alphapo:
            await asyncio.sleep(outage)
            wire.gone, back = None, loop.time()
            while (await alphapo.totals())["BTC"].unknown:  # noqa: ASYNC110 - in virtual time
                await asyncio.sleep(0.1)
            lasted = loop.time() - back
        return lasted, [when - back for when, kind in wire.times if kind == "GET" and when >= back]

    return run(story())


@pytest.mark.parametrize("outage", [30.0, 150.0, 1_500.0])
def test_after_an_outage_nothing_waits_as_long_again(outage: float) -> None:
    """Within `wait_max` a look-up finds that AlphaPo is back, and then all rows come up, at the latest after `wait_max` again."""
    lasted, _ = settled_after(outage, 40)

    assert lasted < 2 * WAIT_MAX + 40 / PER_SECOND + 5


def test_no_more_rows_come_up_in_a_second_than_may() -> None:
    """Besides those that are due."""
    _, times = settled_after(300.0, 40)

    busiest = max(sum(when <= other < when + 1.0 for other in times) for when in times)
    assert busiest <= 2 * PER_SECOND  # those of two seconds that follow each other


def test_in_an_outage_one_row_is_looked_up_at_a_time() -> None:
    """Once in `wait_max`, the one that was looked up longest ago, besides those that are due."""

    async def story() -> list[float]:
        wire = Away()
        async with working(wire, 25):
            await asyncio.sleep(1_000)  # all of them were looked up after 640 s, and are due again after 1,280 s
            began = asyncio.get_running_loop().time()
            await asyncio.sleep(200)
        return [when for when, kind in wire.times if kind == "GET" and when >= began]

    assert 9 <= len(run(story())) <= 11


def test_a_queue_of_fresh_rows_hides_no_row_in_doubt_in_an_outage() -> None:
    """They were enqueued before it, and wait until the outage is over."""

    async def story() -> int:
        wire = Away()
        async with client(wire, journal=Durable(), policy=POLICY) as alphapo:
            for number in range(150):
                await alphapo.enqueue(request(f"fresh-{number}"))
            calls = (alphapo.withdraw(request(f"f-{number}"), deadline=3.0) for number in range(25))
            await asyncio.gather(*calls, return_exceptions=True)
            engine, found = alphapo._engine, 0
            sweep = OutageSweep(engine.context, engine.journal, engine.limiter, engine.keys)
            for _ in range(60):
                found += len(await sweep.claimable())
                await asyncio.sleep(1)
        return found

    assert run(story()) >= 3


@pytest.mark.parametrize("gone", [HTML_502, reply(429, {})])
def test_an_answer_that_says_nothing_ends_no_silence(gone: Reply) -> None:
    """A page of the edge, or a wish to wait, brings no row up."""

    async def story() -> int:
        wire = Away()
        async with working(wire, 25):
            await asyncio.sleep(100)
            wire.gone, before = gone, wire.look_ups
            await asyncio.sleep(15)
        return wire.look_ups - before

    assert run(story()) <= 1


def test_without_rows_in_doubt_there_is_nothing_to_look_up() -> None:
    """An outage that kept everything from leaving."""

    async def story() -> int:
        wire = Away()
        wire.gone = NO_CONNECTION
        async with working(wire, 25):
            await asyncio.sleep(60)
            wire.gone = None
            await asyncio.sleep(60)
        return wire.look_ups

    assert run(story()) == 0


class Rows:
    """A journal that has these open rows, oldest first."""

    def __init__(self, rows: list[Row]) -> None:
        self.rows = rows

    async def find_open(self, _account: str, after: tuple[float, str] | None, limit: int) -> list[Row]:
        later = [row for row in self.rows if after is None or (row.created_at, row.foreign_id) > after]
        return later[:limit]

    async def find_due(self, _account: str, _now: float, limit: int, _refused: frozenset[str]) -> list[Row]:
        return self.rows[:limit]


def _in_doubt(name: str, created_at: float, checked_at: float) -> Row:
    asked = Requested(None, Revision(encode_body(request(name)), request(name)), "k")
    row = new_row("default", name, asked, created_at, is_durable=True)
    return msgspec.structs.replace(row, doubt_since=created_at, checked_at=checked_at)


async def test_a_sweep_goes_page_by_page_and_comes_back_to_what_it_passed_over() -> None:
    """No more than ten pages in a second; a row that was looked up since the answer does not come up again."""
    loop = asyncio.get_running_loop()
    now = [1_000.0]
    rows = [_in_doubt(f"{number:02}", float(number), 0.0) for number in range(25)]
    rows += [_in_doubt("fresh", 30.0, 995.0), _in_doubt("seen", 31.0, 1_000.0)]
    rows.append(msgspec.structs.replace(_in_doubt("worked on", 32.0, 0.0), holder="another worker"))
    limiter: Any = SimpleNamespace(recoveries=0, is_silent=False, state=LimiterState())
    context: Any = SimpleNamespace(
        account="default",
        policy=POLICY,
        now=lambda: now[0],
        assumptions=Assumptions(),
    )
    journal: Any = Rows(rows)
    keys: Any = SimpleNamespace(held_back=frozenset())
    sweep = OutageSweep(context, journal, limiter, keys, page=1)

    async def names() -> list[str]:
        sweep._next_at = loop.time()
        return [row.foreign_id for row in await sweep.claimable()]

    assert await names() == []
    limiter.recoveries = 1
    assert await names() == [f"{number:02}" for number in range(10)]
    assert await sweep.claimable() == []  # the second is not over
    assert await names() == [f"{number:02}" for number in range(10, 20)]
    assert await names() == [f"{number:02}" for number in range(20, 25)]
    rows[:25] = []
    now[0] += 15.0
    assert await names() == ["fresh"]
    rows[:1] = []
    assert await names() == []
    limiter.is_silent = True
    assert await names() == []
    limiter.state = LimiterState(outage_since=0.0)
    assert await names() == ["seen"]
    assert await names() == []  # wait_max is not over
