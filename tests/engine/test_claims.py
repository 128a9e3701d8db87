"""Rows that are claimed ahead: begun one by one, joined by calls, returned where they cannot leave, and free when their worker dies."""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
import time
from collections.abc import AsyncIterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from alphapo_async.client import AlphapoClient
from alphapo_async.core.claims import Claim, ClaimedRows
from alphapo_async.core.errors import JournalError, WithdrawalError, WithdrawalRejected, WithdrawalUnknown
from alphapo_async.core.models import Withdrawal
from alphapo_async.core.replies import NoReply, Reply
from alphapo_async.core.retry_policy import RetryPolicy
from alphapo_async.core.row import Row
from alphapo_async.engine.context import Runtime
from tests.support.virtual import run
from tests.support.wire import (
    BAD_KEY,
    HTML_502,
    INSUFFICIENT,
    LOST,
    NO_CONNECTION,
    Durable,
    Failing,
    Wire,
    client,
    real_world,
    reply,
    request,
)

POLICY = RetryPolicy(quiet=30.0, wait_initial=0.1, wait_max=1.0, attempts=3, deadline=5.0)


async def rows_of(journal: Durable, *names: str) -> list[Row]:
    """Return rows as they stand."""
    found = [await journal.find("default", name) for name in names]
    return [row for row in found if row is not None]


async def enqueue(alphapo: AlphapoClient, *names: str, **how: Any) -> None:
    """Leave withdrawals to the workers."""
    for name in names:
        await alphapo.enqueue(request(name), **how)


@contextlib.asynccontextmanager
async def working(alphapo: AlphapoClient, concurrency: int) -> AsyncIterator[None]:
    """Let a client work while the block runs."""
    task = asyncio.ensure_future(alphapo.work(concurrency=concurrency))
    await asyncio.sleep(0)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


class Watching(Wire):
    """Sees at each body whether the journal knows that its row may have begun."""

    def __init__(self, journal: Durable, **how: Any) -> None:
        super().__init__(**how)
        self.journal = journal
        self.early: list[str] = []

    async def _play(self, method: str, fields: dict[str, Any], body: bytes, timeout: float) -> Reply | NoReply:
        [row] = await rows_of(self.journal, str(fields["foreign_id"]))
        begun = await self.journal.begun(row.holder or "")
        if method == "POST" and row.claim > (begun or 0):
            self.early.append(row.foreign_id)
        return await super()._play(method, fields, body, timeout)


NAMES = tuple(f"r{number}" for number in range(40))


@pytest.mark.parametrize("concurrency", [1, 3, 16])
def test_every_row_begins_after_a_later_claim_and_all_are_paid_once(concurrency: int) -> None:
    """In few claims, never more at once than wanted, and without a round for each row."""
    journal = Durable()
    wire = Watching(journal, seconds=0.1)

    async def story() -> int:
        async with client(wire, journal=journal, policy=POLICY) as alphapo:
            await enqueue(alphapo, *NAMES)
            async with working(alphapo, concurrency):
                await asyncio.sleep(0.1 * len(NAMES) / concurrency + 2)
            claims = max(journal._claims.values())
            rows = await rows_of(journal, *NAMES)
            assert {(row.state, row.reported, row.holder, row.claim) for row in rows} == {("accepted", True, None, 0)}
            return claims

    claims = run(story())
    assert [len(wire.bodies[name]) for name in NAMES] == [1] * len(NAMES)
    assert wire.early == []
    assert wire.most_under_way == concurrency
    assert claims <= 60 / max(1, concurrency // 4) + 5


def test_what_a_dead_worker_had_claimed_and_not_begun_is_free_at_once() -> None:
    """What it had sent is in doubt, and the rows that slots were about to be free for: a quarter as many."""
    journal, wire = Durable(), Wire(["silent"])

    async def story() -> tuple[list[Row], list[str]]:
        async with client(wire, journal=journal, policy=POLICY, close_grace=0.0) as alphapo:
            await enqueue(alphapo, *NAMES)
            async with working(alphapo, 8):
                await asyncio.sleep(0.5)
                sent = [name for name in NAMES if wire.bodies[name]]
                left = deepcopy(journal)  # the worker is dead, as far as this copy knows
        async with client(Wire(), journal=left, policy=POLICY) as heir:
            await asyncio.sleep(100)
            async with working(heir, 1):
                await asyncio.sleep(0.001)
            return await rows_of(left, *NAMES), sent

    rows, sent = run(story())
    assert len(sent) == 8
    in_doubt = {row.foreign_id for row in rows if row.doubt_since is not None}
    assert in_doubt >= set(sent)
    assert len(in_doubt) <= len(sent) + 2


def test_a_call_joins_the_row_that_its_own_worker_has_claimed() -> None:
    """It is begun for the call at once, sent once, and never in doubt; a call for another payment is a conflict."""
    journal, wire = Durable(), Wire(seconds=5.0)

    async def story() -> list[float]:
        loop = asyncio.get_running_loop()
        async with client(wire, journal=journal, policy=replace(POLICY, deadline=60.0)) as alphapo:
            await enqueue(alphapo, *NAMES[:6])
            async with working(alphapo, 1):
                await asyncio.sleep(0.5)
                held = [row.foreign_id for row in await rows_of(journal, *NAMES[:6]) if row.holder is not None]
                assert len(held) > 1
                times = []
                for name in held[1:]:
                    began = loop.time()
                    await alphapo.withdraw(request(name))
                    times.append(loop.time() - began)
                with pytest.raises(WithdrawalError):
                    await alphapo.withdraw(request(held[0], amount="77"))
            rows = await rows_of(journal, *held)
            assert {row.arrivals for row in rows} == {1}
            return times

    assert max(run(story())) < 12.0
    assert wire.look_ups == 0
    assert {len(bodies) for bodies in wire.bodies.values()} == {1}


def test_a_row_that_expires_while_it_lies_ready_is_not_sent() -> None:
    """It is settled as not sent, and left for `resume` to hand out."""
    journal, wire = Durable(), Wire(seconds=5.0)

    async def story() -> list[tuple[str, str, bool]]:
        async with client(wire, journal=journal, policy=POLICY) as alphapo:
            await enqueue(alphapo, *NAMES[:4], expires_in=3.0)
            async with working(alphapo, 1):
                await asyncio.sleep(30)
            return [(row.state, row.reason, row.reported) for row in await rows_of(journal, *NAMES[1:4])]

    assert run(story()) == [("not_sent", "expired", False)] * 3
    assert wire.posts == 1


class Losing(Durable):
    """A journal that makes claims and loses some answers."""

    def __init__(self, *lost: int) -> None:
        super().__init__()
        self.lost = list(lost)
        self.asked = 0

    async def claim(self, account: str, claim: Claim) -> ClaimedRows | None:
        """Make it, and lose the answer by turns."""
        self.asked += 1
        made = await super().claim(account, claim)
        if self.asked in self.lost:
            raise JournalError("The answer was lost.", recorded=None)
        return made


def test_a_claim_whose_answer_was_lost_is_made_again_under_its_number() -> None:
    """What it took is paid, and nothing is left with a worker that does not know of it."""
    journal, wire = Losing(1, 3, 4), Wire()

    async def story() -> list[Row]:
        async with client(wire, journal=journal, policy=POLICY) as alphapo:
            await enqueue(alphapo, *NAMES)
            async with working(alphapo, 4):
                await asyncio.sleep(20)
            return await rows_of(journal, *NAMES)

    assert {(row.state, row.holder) for row in run(story())} == {("accepted", None)}
    assert {len(bodies) for bodies in wire.bodies.values()} == {1}
    assert wire.look_ups == 0


def test_what_a_lost_claim_took_is_returned_when_nothing_can_leave() -> None:
    """The same claim is made again first, for no more rows."""
    journal = Losing(2)

    async def story() -> set[str | None]:
        async with client(Wire(), journal=journal, policy=POLICY) as alphapo:
            await enqueue(alphapo, *NAMES[:9])
            claims = alphapo._engine.claims
            await claims.refill(3)
            with pytest.raises(JournalError):
                await claims.refill(3)
            assert len(await journal.find_held(alphapo._engine.lease.worker, 9)) == 6
            await claims.give_back()
            assert (claims.ready, claims.waiting) == (0, 0)
            rows = await rows_of(journal, *NAMES[:9])
            assert {row.doubt_since for row in rows} == {None}
            return {row.holder for row in rows}

    assert run(story()) == {None}


def test_a_row_in_doubt_waits_for_no_empty_outbox() -> None:
    """It is looked up while hundreds of fresh rows wait."""
    journal, wire = Durable(), Wire([LOST], seconds=0.5)

    async def story() -> tuple[float, int]:
        async with client(wire, journal=journal, policy=RetryPolicy.none()) as alphapo:
            with contextlib.suppress(WithdrawalError):
                await alphapo.withdraw(request("doubtful"))
            wire.scripts["POST"] = []
            await enqueue(alphapo, *(f"f{number}" for number in range(300)))
            await asyncio.sleep(15)
            began, asked = asyncio.get_running_loop().time(), wire.look_ups
            async with working(alphapo, 4):
                await asyncio.sleep(3)
            looked_up = [when for when, method in wire.times if method == "GET"][asked:]
            return looked_up[0] - began, 300 - wire.posts

    waited, left = run(story())
    assert waited < 1.0
    assert left > 200


@pytest.mark.parametrize("answer", [reply(429, {}, retry_after="3"), HTML_502, BAD_KEY])
def test_while_nothing_can_leave_nothing_lies_ready(answer: Reply) -> None:
    """Throttled, in an outage, and under a refused key rows are returned, not in doubt, and none is claimed."""
    journal, wire = Durable(), Wire()
    wire.always, wire.accounts = answer, BAD_KEY
    names = [f"f{number}" for number in range(80)]

    async def story() -> tuple[int, int]:
        async with client(wire, journal=journal, policy=POLICY) as alphapo:
            await enqueue(alphapo, *names)
            async with working(alphapo, 8):
                await asyncio.sleep(6)
                rows = await rows_of(journal, *names)
                held = [row for row in rows if row.holder is not None]
                assert (alphapo._engine.claims.ready, alphapo._engine.claims.waiting) == (0, 0)
            return len(held), sum(row.doubt_since is not None for row in rows if not wire.bodies[row.foreign_id])

    held, in_doubt = run(story())
    assert held <= 8
    assert in_doubt == 0


@pytest.mark.parametrize("ends", ["closed", "cancelled"])
def test_what_lies_ready_is_returned_at_the_end(ends: str) -> None:
    """When the client is closed, and when `work` is cancelled: free at once, and not in doubt."""
    journal, wire = Durable(), Wire(seconds=3.0)

    async def story() -> list[Row]:
        alphapo = client(wire, journal=journal, policy=POLICY)
        async with alphapo:
            await enqueue(alphapo, *NAMES)
            task = asyncio.ensure_future(alphapo.work(concurrency=8))
            await asyncio.sleep(0.5)
            assert alphapo._engine.claims.ready + alphapo._engine.claims.waiting > 0
            if ends == "cancelled":
                task.cancel()
                await asyncio.sleep(0.1)
                assert alphapo._engine.claims.ready + alphapo._engine.claims.waiting == 0
        await asyncio.gather(task, return_exceptions=True)
        return await rows_of(journal, *NAMES)

    rows = run(story())
    assert {row.holder for row in rows} == {None}
    assert {row.doubt_since for row in rows if not wire.bodies[row.foreign_id]} == {None}
    assert sum(row.state == "accepted" for row in rows) == 8


async def joined_call(alphapo: AlphapoClient) -> asyncio.Future[Withdrawal]:
    """Return a call that has joined a claimed row, which has not begun."""
    await enqueue(alphapo, "a")
    await alphapo._engine.claims.refill(1)
    waiting = asyncio.ensure_future(alphapo.withdraw(request("a")))
    await asyncio.sleep(0.1)
    return waiting


def test_a_caller_that_joined_a_row_gets_an_answer_at_closing() -> None:
    """Its row may not have begun: no caller waits for ever."""
    journal = Durable()

    async def story() -> str:
        async with client(Wire(), journal=journal, policy=POLICY, close_grace=0.0) as alphapo:
            waiting = await joined_call(alphapo)
            assert not waiting.done()
        with pytest.raises(WithdrawalError) as raised:
            await waiting
        [row] = await rows_of(journal, "a")
        assert (row.state, row.holder, row.doubt_since) == ("open", None, None)
        return raised.value.outcome

    assert run(story()) == "unknown"


def test_closing_leaves_nothing_at_work_where_the_journal_takes_no_return() -> None:
    """The rows are free once the lease has ended."""

    class Hanging(Durable):
        hangs = False

        async def update(self, *args: Any, **how: Any) -> Row:
            await asyncio.sleep(1e6 if self.hangs else 0.0)
            return await super().update(*args, **how)

    journal = Hanging()

    async def story() -> int:
        async with client(Wire(), journal=journal, policy=POLICY, close_grace=0.0) as alphapo:
            await enqueue(alphapo, "a")
            await alphapo._engine.claims.refill(1)
            journal.hangs = True
        await asyncio.sleep(0)
        return len(asyncio.all_tasks())

    assert run(story()) == 1


def test_a_row_for_which_a_caller_waits_is_not_returned() -> None:
    """It begins instead, after another claim where it must not begin yet."""
    journal, wire = Durable(), Wire()

    async def story() -> list[str | None]:
        async with client(wire, journal=journal, policy=POLICY) as alphapo:
            await enqueue(alphapo, "a", "b", "c")
            claims = alphapo._engine.claims
            await claims.refill(1)
            await claims.refill(2)
            calls = [asyncio.ensure_future(alphapo.withdraw(request(name))) for name in ("a", "b")]
            await asyncio.sleep(0.1)
            assert [call.done() for call in calls] == [True, False]
            await claims.give_back()
            await asyncio.gather(*calls)
            return [row.state for row in await rows_of(journal, "a", "b", "c")]

    assert run(story()) == ["accepted", "accepted", "open"]
    assert wire.posts == 2


def test_a_call_that_meets_a_claim_on_its_way_takes_the_row_over() -> None:
    """The claim is recorded and not answered: nothing of the row was sent, and the claim leaves it to the call."""
    journal, wire = Durable(), Wire()

    async def story() -> tuple[list[Row], int]:
        async with client(wire, journal=journal, policy=POLICY) as alphapo:
            await enqueue(alphapo, "a")
            claims = alphapo._engine.claims
            inner = journal.claim
            calls: list[asyncio.Future[Any]] = []

            async def slow(account: str, claim: Claim) -> ClaimedRows | None:
                made = await inner(account, claim)
                calls.append(asyncio.ensure_future(alphapo.withdraw(request("a"))))
                await asyncio.sleep(0.005)
                return made

            journal.claim = slow  # type: ignore[method-assign]
            await claims.refill(1)
            assert claims.waiting == 0
            await calls[0]
            await claims.give_back()
            return await rows_of(journal, "a"), wire.look_ups

    [row], look_ups = run(story())
    assert (row.state, row.arrivals, look_ups) == ("accepted", 1, 0)


def test_a_row_that_a_call_took_over_and_released_before_the_answer_does_not_begin() -> None:
    """The claim's answer shows it as it was: meanwhile another worker may hold it."""
    journal, wire = Durable(), Wire([NO_CONNECTION] * 9)

    async def story() -> tuple[str | None, int, int]:
        async with client(wire, journal=journal, policy=POLICY) as alphapo:
            await enqueue(alphapo, "a")
            claims, inner = alphapo._engine.claims, journal.claim

            async def slow(account: str, claim: Claim) -> ClaimedRows | None:
                made = await inner(account, claim)
                with pytest.raises(WithdrawalError):
                    await alphapo.withdraw(request("a"))
                return made

            journal.claim = slow  # type: ignore[method-assign]
            await claims.refill(1)
            [row] = await rows_of(journal, "a")
            return row.holder, claims.waiting, claims.ready

    assert run(story()) == (None, 0, 0)


def test_a_call_that_began_before_the_claim_and_ends_before_its_answer_is_not_paid_afterwards() -> None:
    """Its caller received "rejected" and may have paid otherwise; the claim's late answer still shows the row as fresh."""

    class Slow(Durable):
        """A journal whose answers take their time: a claim's longer than a change's."""

        change = answer = 0.0

        async def update(self, *what: Any, **how: Any) -> Row:
            await asyncio.sleep(self.change)
            return await super().update(*what, **how)

        async def claim(self, account: str, claim: Claim) -> ClaimedRows | None:
            made = await super().claim(account, claim)
            await asyncio.sleep(self.answer)
            return made

    journal, wire = Slow(), Wire([INSUFFICIENT])

    async def story() -> str:
        async with client(wire, journal=journal, policy=POLICY) as alphapo:
            await enqueue(alphapo, "a")
            journal.change, journal.answer = 0.1, 2.0
            call = asyncio.ensure_future(alphapo.withdraw(request("a")))
            await asyncio.sleep(0.05)
            async with working(alphapo, 1):
                with pytest.raises(WithdrawalRejected):
                    await call
                await asyncio.sleep(20)
            [row] = await rows_of(journal, "a")
            return row.state

    assert run(story()) == "rejected"
    assert wire.posts == 1


def test_what_calls_took_over_is_kept_for_no_longer_than_a_round() -> None:
    """In a worker that runs for months, and never meets an outage, nothing else would let go of it."""

    class Slow(Durable):
        """A journal whose claims are answered late."""

        async def claim(self, account: str, claim: Claim) -> ClaimedRows | None:
            made = await super().claim(account, claim)
            await asyncio.sleep(0.05)
            return made

    journal = Slow()

    async def story() -> tuple[int, int]:
        async with client(Wire(), journal=journal, policy=POLICY) as alphapo:
            claims, most = alphapo._engine.claims, 0
            async with working(alphapo, 8):
                for number in range(60):
                    await enqueue(alphapo, f"r{number}")
                    await asyncio.sleep(number % 20 * 0.05)
                    await alphapo.withdraw(request(f"r{number}"))
                    most = max(most, len(claims._to_return))
                await asyncio.sleep(2)
                return min(most, 1), len(claims._to_return)

    assert run(story()) == (1, 0)


def test_under_a_new_lease_claims_are_counted_anew() -> None:
    """What was claimed under the one before is returned; without a lease nothing is claimed."""
    journal, wire = Durable(), Wire()

    async def story() -> list[int | None]:
        async with client(wire, journal=journal, policy=POLICY) as alphapo:
            await enqueue(alphapo, "a", "b")
            claims, lease = alphapo._engine.claims, alphapo._engine.lease
            registry = alphapo._engine.registry
            found = [await claims.refill(1)]
            assert registry.begun == (lease.worker, 0)
            journal._over.add(lease.worker)
            found.append(await claims.refill(1))
            await lease._renew()
            found.append(await claims.refill(1))
            await claims.give_back()
            assert registry.begun == (lease.worker, 0)
            assert {row.holder for row in await rows_of(journal, "a", "b")} == {None}
            return found

    assert run(story()) == [1, None, 1]


def test_claims_of_a_loop_that_is_closed_are_forgotten() -> None:
    """Closing the client in another loop touches no flight of the first one."""

    async def begin() -> AlphapoClient:
        alphapo = client(Wire(), journal=Durable(), policy=POLICY)
        await enqueue(alphapo, "a", "b")
        await alphapo._engine.claims.refill(1)
        await alphapo._engine.claims.refill(1)
        return alphapo

    alphapo = run(begin())
    run(alphapo.aclose())
    assert (alphapo._engine.claims.ready, alphapo._engine.claims.waiting) == (0, 0)


def test_a_return_that_is_not_recorded_is_tried_again() -> None:
    """The rows stay this worker's until then."""
    journal = Failing()

    async def story() -> list[str | None]:
        async with client(Wire(), journal=journal, policy=POLICY) as alphapo:
            await enqueue(alphapo, "a")
            claims = alphapo._engine.claims
            await claims.refill(1)
            journal.fails_with = JournalError("The journal is lost.")
            with pytest.raises(JournalError):
                await claims.give_back()
            [held] = await rows_of(journal, "a")
            journal.fails_with = None
            await claims.give_back()
            [row] = await rows_of(journal, "a")
            return [held.holder and "held", row.holder]

    assert run(story()) == ["held", None]


def test_a_row_for_which_a_caller_waits_is_kept_where_no_claim_can_be_made() -> None:
    """Without a lease it may not begin, and its caller still waits for it."""
    journal = Durable()

    async def story() -> tuple[int, bool]:
        async with client(Wire(), journal=journal, policy=POLICY, close_grace=0.0) as alphapo:
            await enqueue(alphapo, "a")
            claims = alphapo._engine.claims
            await claims.refill(1)
            call = asyncio.ensure_future(alphapo.withdraw(request("a")))
            await asyncio.sleep(0.1)
            journal._over.add(alphapo._engine.lease.worker)
            await claims.give_back()
            found = claims.waiting, call.done()
        await asyncio.gather(call, return_exceptions=True)
        return found

    assert run(story()) == (1, False)


def test_a_batch_joins_a_claimed_row_and_does_not_begin_it_early() -> None:
    """Its row begins after a later claim, as for any other caller."""
    journal = Durable()
    wire = Watching(journal)

    async def story() -> list[str]:
        async with client(wire, journal=journal, policy=POLICY) as alphapo:
            await enqueue(alphapo, "a")
            await alphapo._engine.claims.refill(1)

            async def pay() -> list[str]:
                return [result.outcome async for result in alphapo.batch([request("a")])]

            paying = asyncio.ensure_future(pay())
            await asyncio.sleep(1)
            assert wire.posts == 0
            await alphapo._engine.claims.refill(0)
            return await paying

    assert run(story()) == ["accepted"]
    assert (wire.posts, wire.early) == (1, [])


def test_a_batch_that_is_stopped_does_not_wait_for_a_claimed_row_to_begin() -> None:
    """It waits for no other row that has not left; the worker sends it in its turn."""
    wire = Wire()

    async def story() -> tuple[list[tuple[str, str]], int, float]:
        loop, stop = asyncio.get_running_loop(), asyncio.Event()
        async with client(wire, journal=Durable(), policy=POLICY) as alphapo:
            await enqueue(alphapo, "a")
            claims = alphapo._engine.claims
            await claims.refill(1)
            loop.call_later(1.0, stop.set)
            async with asyncio.timeout(60.0):
                results = [result async for result in alphapo.batch([request("a")], stop=stop)]
            ended = loop.time()
            await claims.refill(0)
            task = claims.begin_next()
            assert task is not None
            await task
            errors = [result.error for result in results]
            reasons = [error.reason for error in errors if isinstance(error, WithdrawalUnknown)]
            return list(zip([result.outcome for result in results], reasons, strict=True)), wire.posts, ended

    assert run(story()) == ([("unknown", "queue")], 1, 1.0)


class Deaf(Durable):
    """A journal that can be out of reach, and answers no claim then."""

    is_down = False

    async def claim(self, account: str, claim: Claim) -> ClaimedRows | None:
        """Take a claim that is not answered, while it is out of reach."""
        if self.is_down:
            raise JournalError("The journal is lost.")
        return await super().claim(account, claim)

    async def update(self, *what: Any, **how: Any) -> Row:
        """Take nothing, while it is out of reach."""
        if self.is_down:
            raise JournalError("The journal is lost.")
        return await super().update(*what, **how)


def test_a_caller_that_joined_a_row_gets_an_answer_at_closing_though_the_journal_fails() -> None:
    """No claim can be made any more, so that the row never begins."""
    journal = Deaf()

    async def story() -> str:
        async with client(Wire(), journal=journal, policy=POLICY, close_grace=0.0) as alphapo:
            waiting = await joined_call(alphapo)
            journal.is_down = True
            with pytest.raises(JournalError):
                await alphapo._engine.claims.refill(1)
        with pytest.raises(WithdrawalError) as raised:
            await asyncio.wait_for(waiting, 60.0)
        return raised.value.outcome

    assert run(story()) == "unknown"


def test_what_did_not_begin_is_returned_once_the_journal_works_again_though_the_work_has_ended() -> None:
    """A caller that waits for such a row gets its outcome, and other workers may take the others."""
    journal, wire = Deaf(), Wire(seconds=1.0)

    async def story() -> tuple[str | None, list[str | None]]:
        async with client(wire, journal=journal, policy=POLICY) as alphapo:
            await enqueue(alphapo, *NAMES[:6])
            async with working(alphapo, 2):
                await asyncio.sleep(0.5)
                joined = alphapo._engine.claims._waiting[0].row.foreign_id
                waiting = asyncio.ensure_future(alphapo.withdraw(request(joined)))
                await asyncio.sleep(0.1)
                journal.is_down = True
            await asyncio.sleep(2)
            journal.is_down = False
            withdrawal = await asyncio.wait_for(waiting, 60.0)
            await asyncio.sleep(60)
            return withdrawal.foreign_id and "paid", [row.holder for row in await rows_of(journal, *NAMES[:6])]

    assert run(story()) == ("paid", [None] * 6)
    assert {len(bodies) for bodies in wire.bodies.values()} <= {0, 1}


@pytest.mark.parametrize("ends", ["works", "has ended", "has no lease"])
def test_a_caller_that_joined_a_row_waits_for_no_longer_than_its_deadline_while_the_journal_fails(ends: str) -> None:
    """Without a deadline of its own, too: the policy's counts from when the row cannot begin, and the row begins as soon as it can."""
    journal, wire = Deaf(), Wire(seconds=1.0)

    async def story() -> tuple[str, float, list[str]]:
        loop = asyncio.get_running_loop()
        async with client(wire, journal=journal, policy=POLICY) as alphapo:
            await enqueue(alphapo, *NAMES[:6])
            task = asyncio.ensure_future(alphapo.work(concurrency=2))
            await asyncio.sleep(0.5)
            joined = alphapo._engine.claims._waiting[0].row.foreign_id
            journal.is_down = ends != "has no lease"
            if ends == "has no lease":
                journal._over.add(alphapo._engine.lease.worker)
            if ends == "has ended":
                task.cancel()
            began = loop.time()
            with pytest.raises(WithdrawalUnknown) as raised:
                await asyncio.wait_for(alphapo.withdraw(request(joined)), 3_600)
            waited, journal.is_down = loop.time() - began, False
            if ends == "has no lease":
                await alphapo._engine.lease._renew()
            await asyncio.sleep(60)
            task.cancel()
            await alphapo.withdraw(request(joined))
            return raised.value.reason, waited, [row.state for row in await rows_of(journal, joined)]

    reason, waited, states = run(story())
    assert (reason, states) == ("in flight", ["accepted"])
    assert waited < POLICY.deadline + 30
    assert {len(bodies) for bodies in wire.bodies.values()} <= {0, 1}


@pytest.mark.parametrize("how", ["again", "twice"])
def test_a_work_that_ends_returns_nothing_of_another_one_that_runs(how: str) -> None:
    """Where `work` is cancelled and begun again, and where it ran twice: the return continued in the background while rows came."""

    class Returning(Durable):
        """Counts what is returned."""

        returned = 0

        async def update(self, account: str, foreign_id: str, *what: Any, **how: Any) -> Row:
            before = await self.find(account, foreign_id)
            row = await super().update(account, foreign_id, *what, **how)
            self.returned += before is not None and bool(before.claim) and (row.state, row.holder) == ("open", None)
            return row

    journal, wire = Returning(), Wire(seconds=1.0)

    async def story() -> tuple[int, int, set[str]]:
        async with client(wire, journal=journal, policy=POLICY) as alphapo:
            names = [f"n{number}" for number in range(300)]
            await enqueue(alphapo, *names)
            ending = asyncio.ensure_future(alphapo.work(concurrency=16))
            await asyncio.sleep(2.5)
            if how == "again":
                ending.cancel()
            async with working(alphapo, 16):
                await asyncio.sleep(1)
                ending.cancel()
                await asyncio.sleep(25)
                found = journal.returned, len(alphapo._engine.claims._leaving)
                return *found, {row.state for row in await rows_of(journal, *names)}

    assert run(story()) == (0, 0, {"accepted"})
    assert {len(bodies) for bodies in wire.bodies.values()} == {1}


def test_what_did_not_begin_is_returned_also_after_an_unexpected_error() -> None:
    """The rows were held as long as the client was open, and a caller that had joined one waited for ever."""

    class Odd(Durable):
        """A journal that has a bug once."""

        fails = False

        async def update(self, *what: Any, **how: Any) -> Row:
            if self.fails:
                self.fails = False
                raise LookupError("a bug")
            return await super().update(*what, **how)

    journal = Odd()

    async def story() -> tuple[set[str | None], int]:
        async with client(Wire(seconds=1.0), journal=journal, policy=POLICY) as alphapo:
            await enqueue(alphapo, *NAMES[:9])
            async with working(alphapo, 2):
                await asyncio.sleep(0.5)
                journal.fails = True
            await asyncio.sleep(10)
            claims = alphapo._engine.claims
            return {row.holder for row in await rows_of(journal, *NAMES[:9])}, len(claims._leaving)

    assert run(story()) == ({None}, 0)


async def test_a_row_that_was_paid_while_the_wall_clock_was_set_forward_does_not_begin_when_it_is_set_back(
    tmp_path: Path,
) -> None:
    """Another process saw the lease as over, took the row over, and reported "rejected"; the journal lets that lease run no more."""
    path, ahead, wires = tmp_path / "journal.db", [0.0], (Wire(), Wire([INSUFFICIENT]))
    runtime = Runtime(lambda: time.time() + ahead[0], real_world().chance, asyncio.sleep)
    first, second = (client(wire, journal=path, policy=POLICY, _runtime=runtime) for wire in wires)
    async with first, second:
        await enqueue(first, "a")
        claims = first._engine.claims
        assert await claims.refill(1) == 1
        ahead[0] = 3_600.0
        with pytest.raises(WithdrawalRejected):
            await second.withdraw(request("a"))
        ahead[0] = 0.0
        assert await claims.refill(1) is None
        assert claims.begin_next() is None
        await first._engine.lease._renew()
        await claims.refill(1)
        assert claims.begin_next() is None
    assert wires[0].posts == 0


async def test_a_row_that_only_a_newer_release_can_read_is_not_returned_for_ever(tmp_path: Path) -> None:
    """The newer release takes it over once this worker has ended; meanwhile this worker pays the other rows."""
    path, wire = tmp_path / "journal.db", Wire()
    async with client(wire, journal=path, policy=POLICY, _runtime=real_world()) as alphapo:
        await enqueue(alphapo, "a")
        claims = alphapo._engine.claims
        assert await claims.refill(1) == 1
        with contextlib.closing(sqlite3.connect(path)) as newer:
            newer.execute("update withdrawals set rest = json_set(cast(rest as text), '$.hold_until', 1.0)")
            newer.commit()
        await claims.give_back()
        await enqueue(alphapo, "b")
        async with working(alphapo, 1):
            await asyncio.sleep(0.3)
    assert set(wire.bodies) == {"b"}
