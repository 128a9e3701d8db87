"""Following accepted withdrawals until they are final, at the real sandbox; in seconds that pass at once where that is told."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from msgspec.structs import replace

from alphapo_async import AlphapoClient, RetryPolicy, WithdrawalRequest
from alphapo_async.cli import following as module
from alphapo_async.cli.following import Following, is_followed
from alphapo_async.core.errors import AlphapoUnavailable, JournalError
from alphapo_async.core.models import Transaction, Withdrawal
from alphapo_async.core.row import Row
from alphapo_async.journal import MemoryJournal
from alphapo_async.sandbox import Dialect, Fault, Sandbox, Script
from tests.support.rows import ACCEPTED_ROW, REJECTED_ROW

KEY, SECRET = "made-up-key", "made-up-secret"
LOOK_UP = "look-up"
CONFIRMED = Withdrawal(id=7, status="confirmed")


def request(foreign_id: str, address: str = "made-up") -> WithdrawalRequest:
    """Return a request."""
    return WithdrawalRequest(
        currency="BTC", address=address, amount="0.5", foreign_id=foreign_id, end_user_reference="user"
    )


@contextlib.asynccontextmanager
async def paid(*requests: WithdrawalRequest, **sandbox: Any) -> AsyncIterator[tuple[Sandbox, AlphapoClient, Following]]:
    """Yield a sandbox, a client that has paid these, and what follows them."""
    journal, stop = MemoryJournal(), asyncio.Event()
    async with Sandbox(KEY, SECRET, **sandbox) as server:
        policy = RetryPolicy(attempts=1, attempt_timeout=2.0)
        async with AlphapoClient(KEY, SECRET, base_url=server.url, journal=journal, policy=policy) as client:
            with contextlib.closing(
                Following(client, journal, "default", stop, rate=1_000.0, give_up_after=5.0)
            ) as following:
                async for result in client.batch(requests):
                    following.add(result.request.foreign_id, result.outcome.encode())
                yield server, client, following


async def statuses(following: Following) -> list[tuple[str, str | None, bytes]]:
    """Follow to the end, and return what came."""
    found = [news async for news in following.rows()]
    done = [news.row.foreign_id for news in found if news.is_done]
    assert len(done) == len(set(done))
    return [
        (one.row.foreign_id, None if one.row.withdrawal is None else one.row.withdrawal.status, one.kept)
        for one in found
    ]


async def test_each_row_is_yielded_when_it_changes_and_last_when_it_is_final() -> None:
    """Confirmed, cancelled and declined alike; nothing is left, and the journal has the txids."""
    payments = [request("a"), request("b", "12345"), request("c", "decline")]
    async with paid(*payments, settle_after=0.2) as (_, client, following):
        await asyncio.sleep(0.2)
        found = await statuses(following)
        row = await client._engine.journal.find("default", "a")
    assert sorted(found) == [
        (one, status, b"accepted") for one, status in (("a", "confirmed"), ("b", "cancelled"), ("c", "declined"))
    ]
    assert (len(following), row is not None and row.transaction is not None and len(row.transaction.txids)) == (0, 1)


async def test_what_is_not_final_is_looked_up_again_after_growing_pauses() -> None:
    """At once, and after one second; a change of the status is yielded, and the look-ups are few."""
    async with paid(request("a"), settle_after=0.5) as (server, _, following):
        began = time.monotonic()
        found = await statuses(following)
        assert [status for _, status, _ in found] == ["not_confirmed", "confirmed"]
        assert time.monotonic() - began < 2.5
        assert server.ledger.look_ups <= 3


async def test_an_unknown_row_is_settled_by_a_look_up() -> None:
    """Its reply was lost; AlphaPo shows it."""
    plan = Script({"a": {"withdrawal": [Fault.RESET_AFTER], LOOK_UP: [Fault.HTML_502_BEFORE, Fault.HTML_502_BEFORE]}})
    async with paid(request("a"), settle_after=0.0, faults=plan) as (_, _, following):
        assert [kept for _, kept in following.left()] == [b"unknown"]
        found = await statuses(following)
    assert found == [("a", "confirmed", b"unknown")]


async def test_it_ends_at_the_stop_with_what_is_left() -> None:
    """Before a look-up, and while it waits; what was kept last is given back."""
    async with paid(request("a"), settle_after=60.0) as (_, _, following):
        assert repr(following) == "Following(1 left)"
        rows = following.rows()
        news = await anext(rows)
        assert (news.is_done, news.kept) == (False, b"accepted")
        following.keep("a", b"seen")
        asyncio.get_running_loop().call_later(0.05, following._stop.set)
        assert [one async for one in rows] == []
        assert [one async for one in following.rows()] == []
        assert list(following.left()) == [("a", b"seen")]


async def test_a_look_up_under_way_is_given_up_at_the_stop() -> None:
    """Its answer may never come."""
    plan = Script({"a": {LOOK_UP: [Fault.STALL_BEFORE]}})
    async with paid(request("a"), faults=plan) as (_, _, following):
        asyncio.get_running_loop().call_later(0.05, following._stop.set)
        assert await statuses(following) == []
        assert len(following) == 1


async def test_it_gives_up_in_time() -> None:
    """Although nothing is final; its own limit is an hour."""
    async with paid(request("a"), settle_after=60.0) as (_, client, following):
        following._give_up_after = 0.1
        await statuses(following)
        assert len(following) == 1
        other = Following(client, MemoryJournal(), "default", asyncio.Event())
        assert (other._give_up_after, other._spacing) == (module.GIVE_UP_AFTER, 0.1)
        other.close()


async def test_look_ups_leave_at_the_rate() -> None:
    """However many are due."""
    async with paid(*(request(f"p-{one}") for one in range(20)), settle_after=0.0) as (_, _, following):
        following._spacing = 0.01
        began = time.monotonic()
        assert len(await statuses(following)) == 20
        assert time.monotonic() - began > 0.05


async def test_a_throttled_look_up_holds_back_all() -> None:
    """For as long as AlphaPo asks."""
    plan = Script({"a": {LOOK_UP: [Fault.THROTTLE]}})
    async with paid(request("a"), settle_after=0.0, faults=plan, throttle_seconds=1.0) as (_, _, following):
        began = time.monotonic()
        assert len(await statuses(following)) == 1
        assert time.monotonic() - began > 0.9


async def test_what_a_reply_already_shows_final_is_looked_up_once_for_its_txid() -> None:
    """Also where AlphaPo does not show it."""
    for visibility, parts in (("at once", 1), ("never", 0)):
        dialect = Dialect(visibility=visibility)  # type: ignore[arg-type]
        async with paid(request("a"), settle_after=0.0, dialect=dialect) as (server, client, following):
            assert await statuses(following) == [("a", "confirmed", b"accepted")]
            row = await client._engine.journal.find("default", "a")
            assert row is not None
            assert len(row.transaction.txids if row.transaction else ()) == parts
            assert server.ledger.look_ups == 1


async def test_what_others_have_settled_is_not_looked_up() -> None:
    """A callback, say."""
    async with paid(request("a"), settle_after=0.0) as (server, client, following):
        await client.look_up("a")
        assert await statuses(following) == [("a", "confirmed", b"accepted")]
        assert server.ledger.look_ups == 1


async def test_an_error_code_that_is_about_no_key_ends_nothing() -> None:
    """AlphaPo's own failure is over a moment later."""
    plan = Script({"a": {LOOK_UP: [Fault.UNAUTHORIZED]}})
    async with paid(request("a"), settle_after=0.0, faults=plan) as (_, _, following):
        assert await statuses(following) == [("a", "confirmed", b"accepted")]


async def test_a_refused_key_ends_it() -> None:
    """No other look-up would say more."""
    plan = Script({"a": {LOOK_UP: [Fault.KEY_REFUSED]}})
    async with paid(request("a"), faults=plan) as (_, _, following):
        with pytest.raises(AlphapoUnavailable) as refused:
            await statuses(following)
        assert refused.value.code is not None


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        (ACCEPTED_ROW, True),
        (replace(ACCEPTED_ROW, withdrawal=CONFIRMED), True),
        (replace(ACCEPTED_ROW, withdrawal=CONFIRMED, transaction=Transaction(id=7)), False),
        (REJECTED_ROW, False),
        (replace(REJECTED_ROW, state="open", refusal=None), False),
        (replace(REJECTED_ROW, state="open", doubt_since=1.0), True),
    ],
)
def test_what_may_still_bring_news_is_followed(row: Row, expected: bool) -> None:  # noqa: FBT001 - a table
    """What AlphaPo has and has not ended, and what it may have."""
    assert is_followed(row) is expected


async def test_a_row_that_the_journal_has_lost_ends_it() -> None:
    """A PostgreSQL journal went back to a standby that does not have the row."""
    async with paid(request("a"), settle_after=60.0) as (_, client, following):
        client._engine.journal._settled.clear()  # type: ignore[attr-defined]
        with pytest.raises(JournalError, match="'a' is no longer in the journal, which went back in time"):
            await statuses(following)
