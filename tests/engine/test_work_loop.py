"""The rounds: dead workers' rows freed, open rows settled, accepted ones refreshed, outcomes handed out."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Collection, Sequence
from typing import Any

import pytest
from msgspec.structs import replace

from alphapo_async.client import AlphapoClient
from alphapo_async.core.claims import Claim, ClaimedRows
from alphapo_async.core.codec import encode_body
from alphapo_async.core.errors import (
    AuthenticationError,
    ConfigurationError,
    JournalError,
    WithdrawalError,
    WithdrawalUnknown,
)
from alphapo_async.core.events import Event
from alphapo_async.core.evidence import Requested, Revision
from alphapo_async.core.replies import NoReply, Reply
from alphapo_async.core.results import BatchResult
from alphapo_async.core.retry_policy import RetryPolicy
from alphapo_async.core.row import Row
from alphapo_async.core.signer import Signer
from alphapo_async.core.transitions import new_row
from alphapo_async.engine.context import Runtime
from tests.support.virtual import run
from tests.support.wire import (
    BAD_KEY,
    EPOCH,
    HTML_502,
    INSUFFICIENT,
    LOST,
    NO_CONNECTION,
    Durable,
    Failing,
    Wire,
    client,
    reply,
    request,
)

THROTTLED = reply(429, {})
SIGNER = Signer("made-up-key", "made-up-secret")
DECLINED = b'{"id":7,"foreign_id":"a","type":"withdrawal","status":"declined"}'
POLICY = RetryPolicy(quiet=30.0, wait_initial=0.1, wait_max=1.0, attempts=3, deadline=5.0)


async def leave_open(journal: Durable, wire: Wire, *foreign_ids: str) -> None:
    """Lose every reply, so that the rows stay open, and close the client."""
    wire.always = LOST
    async with client(wire, journal=journal, policy=RetryPolicy.none()) as alphapo:
        for foreign_id in foreign_ids:
            with contextlib.suppress(WithdrawalError):
                await alphapo.withdraw(request(foreign_id))
            await asyncio.sleep(1)
    wire.always = None


async def passed(alphapo: AlphapoClient, **how: bool) -> list[tuple[str, str]]:
    """Make one pass and return what it told, by foreign_id."""
    return [(result.request.foreign_id, result.outcome) async for result in alphapo.resume(concurrency=1, **how)]


def test_a_pass_finds_what_arrived_oldest_first() -> None:
    """Looked up, never sent again."""
    wire = Wire()
    journal = Durable()

    async def story() -> list[tuple[str, str]]:
        await leave_open(journal, wire, "a", "b", "c")
        for name in "abc":
            wire._accept(name, {"currency": "BTC", "amount": "0.0015", "address": "bc1qmadeup"})
        async with client(wire, journal=journal, policy=POLICY) as alphapo:
            return await passed(alphapo)

    assert run(story()) == [("a", "accepted"), ("b", "accepted"), ("c", "accepted")]
    assert wire.posts == 3


def test_what_did_not_arrive_is_sent_again_once_in_the_quiet_time() -> None:
    """Not before it is over, and not twice; with resend=False never."""
    wire = Wire([LOST, LOST])
    journal = Durable()

    async def story() -> list[int]:
        await leave_open(journal, wire, "a")
        bodies = []
        async with client(wire, journal=journal, policy=POLICY) as alphapo:
            assert await passed(alphapo) == [("a", "unknown")]
            bodies.append(len(wire.bodies["a"]))
            await asyncio.sleep(31)
            assert await passed(alphapo, resend=False) == [("a", "unknown")]
            bodies.append(len(wire.bodies["a"]))
            assert await passed(alphapo) == [("a", "unknown")]
            assert await passed(alphapo) == [("a", "unknown")]
            bodies.append(len(wire.bodies["a"]))
            await asyncio.sleep(31)
            assert await passed(alphapo) == [("a", "accepted")]
            assert await passed(alphapo) == []
        return bodies

    assert run(story()) == [1, 1, 2]
    assert len(set(wire.bodies["a"])) == 1


@pytest.mark.parametrize(
    ("key", "outcome"),
    [(Signer("made-up-key", "made-up-secret").fingerprint, "accepted"), ("of a key that is gone", "unknown")],
)
def test_what_a_dead_worker_held_is_freed_and_settled(key: str, outcome: str) -> None:
    """Its lease ends, its rows are in doubt as of then, looked up and found; without their key they stay open."""
    wire = Wire()
    journal = Durable()

    async def story() -> list[list[tuple[str, str]]]:
        await journal.join("default", "loopback", "ghost", EPOCH + 60)
        payment = request("a")
        asked = Requested("ghost", Revision(encode_body(payment), payment), key)
        await journal.update("default", "a", lambda _: (new_row("default", "a", asked, EPOCH, is_durable=True), ()))
        wire._accept("a", {"currency": "BTC", "amount": "0.0015", "address": "bc1qmadeup"})
        async with client(wire, journal=journal, policy=POLICY) as alphapo:
            results = [await passed(alphapo)]
            await asyncio.sleep(61)
            results.append(await passed(alphapo))
            row = await journal.find("default", "a")
            assert row is not None
            assert row.could_leave_until == EPOCH + 60
        return results

    first, second = run(story())
    assert first == [("a", "unknown")]
    assert second == [("a", outcome)]
    assert wire.posts == 0


def test_a_row_that_another_client_holds_is_waited_for() -> None:
    """It is told as unknown if that takes too long, and not touched."""
    wire = Wire(["silent"])
    journal = Durable()

    async def story() -> list[tuple[str, str]]:
        policy = RetryPolicy(attempt_timeout=100.0, deadline=200.0)
        async with client(wire, journal=journal, policy=policy, close_grace=0.0) as busy:
            flight = asyncio.ensure_future(busy.withdraw(request("a")))
            await asyncio.sleep(1)
            async with client(wire, journal=journal, policy=POLICY) as alphapo:
                result = await passed(alphapo)
            flight.cancel()
            return result

    assert run(story()) == [("a", "unknown")]
    assert wire.posts == 1


def test_every_outcome_is_handed_out_at_least_once() -> None:
    """What was not taken is handed out again; what was taken is not."""
    wire = Wire()
    journal = Durable()

    async def story() -> list[list[tuple[str, str]]]:
        results: list[list[tuple[str, str]]] = []
        async with client(wire, journal=journal, policy=POLICY) as alphapo:
            for name in "abc":
                await alphapo.enqueue(request(name))
            first: AsyncIterator[BatchResult] = alphapo.resume(concurrency=1)
            one = await anext(first)
            results.append([(one.request.foreign_id, one.outcome)])
            await first.aclose()  # type: ignore[attr-defined]
            results.append(await passed(alphapo))
            results.append(await passed(alphapo))
        return results

    first, second, third = run(story())
    assert first == [("a", "accepted")]
    assert second == [("a", "accepted"), ("b", "accepted"), ("c", "accepted")]
    assert third == []
    assert wire.posts == 3


def test_a_restored_journal_doubts_whatever_is_open() -> None:
    """A row that was never sent when the backup was made may have been sent since: it is looked up first."""
    wire = Wire()
    journal = Durable()

    async def story() -> list[tuple[str, str]]:
        async with client(wire, journal=journal, policy=POLICY) as alphapo:
            await alphapo.enqueue(request("a"))
            return await passed(alphapo, restored=True)

    assert run(story()) == [("a", "unknown")]
    assert (wire.posts, wire.look_ups) == (0, 1)


def test_work_pays_what_is_enqueued_and_settles_what_is_open() -> None:
    """Until cancelled; a refused one is settled too, and all are marked as told."""
    wire = Wire()
    journal = Durable()

    async def story() -> dict[str, str]:
        await leave_open(journal, wire, "old")
        wire.scripts["POST"] = []
        async with client(wire, journal=journal, policy=POLICY) as alphapo:
            working = asyncio.ensure_future(alphapo.work())
            await alphapo.enqueue(request("new"))
            await asyncio.sleep(3)
            wire.always = INSUFFICIENT
            await alphapo.enqueue(request("poor"))
            await asyncio.sleep(3)
            wire.always = None
            await asyncio.sleep(60)
            working.cancel()
            rows = [await journal.find("default", name) for name in ("old", "new", "poor")]
            assert await journal.find_unreported("default", 9) == []
            return {row.foreign_id: row.state for row in rows if row is not None}

    assert run(story()) == {"old": "accepted", "new": "accepted", "poor": "rejected"}


def test_work_refreshes_what_is_accepted_until_it_is_final() -> None:
    """After ten minutes, then each time after twice as long."""
    wire = Wire()
    journal = Durable()

    async def story() -> list[float]:
        loop = asyncio.get_running_loop()
        async with client(wire, journal=journal, policy=POLICY) as alphapo:
            await alphapo.withdraw(request("a"))
            working = asyncio.ensure_future(alphapo.work())
            await asyncio.sleep(3 * 3_600)
            working.cancel()
            assert loop.time() > 0
        return [round(when / 3_600, 1) for when, method in wire.times if method == "GET"]

    assert run(story()) == [0.2, 0.5, 1.2, 2.5]


def test_payments_go_before_refreshes_and_refreshes_ten_a_second() -> None:
    """With more overdue refreshes than a page holds, what is enqueued is paid at once."""
    wire, journal = Wire(), Durable()

    async def story() -> tuple[list[str], list[float]]:
        loop = asyncio.get_running_loop()
        async with client(wire, journal=journal, policy=POLICY) as alphapo:
            await asyncio.gather(*(alphapo.withdraw(request(f"old-{number}")) for number in range(120)))
            await asyncio.sleep(7_200)
            working, began = asyncio.ensure_future(alphapo.work()), loop.time()
            await alphapo.enqueue(request("new"))
            await asyncio.sleep(2)
            paid = [str(row) for row in wire.accepted if str(row) == "new"]
            await asyncio.sleep(30)
            working.cancel()
        return paid, [when - began for when, method in wire.times if method == "GET"]

    paid, refreshed = run(story())

    assert paid == ["new"]
    assert len(refreshed) == 120
    assert all(sum(second <= when < second + 1 for when in refreshed) <= 11 for second in range(32))


def test_what_cannot_be_sent_is_tried_until_it_expires_and_then_told() -> None:
    """It never arrived."""
    wire = Wire()
    wire.always = "no connection"
    journal = Durable()

    async def story() -> list[tuple[str, str]]:
        async with client(_Unreachable(), journal=journal, policy=POLICY) as alphapo:
            await alphapo.enqueue(request("a"), expires_in=100.0)
            working = asyncio.ensure_future(alphapo.work())
            await asyncio.sleep(99)
            row = await journal.find("default", "a")
            assert row is not None
            assert row.state == "open"
            await asyncio.sleep(30)
            working.cancel()
            row = await journal.find("default", "a")
            assert row is not None
            assert (row.state, row.reason) == ("not_sent", "expired")
            return await passed(alphapo)

    assert run(story()) == [("a", "not_sent")]


class _Unreachable(Wire):
    """Nothing ever gets through."""

    async def exchange(self, *what: object, **told: object) -> NoReply:
        """Say so."""
        await asyncio.sleep(0.01)
        return NO_CONNECTION


def test_many_open_rows_are_read_page_by_page() -> None:
    """More than a page of open and of unreported ones."""
    wire = Wire()
    journal = Durable()

    async def story() -> tuple[int, int]:
        async with client(wire, journal=journal, policy=POLICY) as alphapo:
            for number in range(250):
                await alphapo.enqueue(request(f"f-{number:03}"))
            working = asyncio.ensure_future(alphapo.work(concurrency=32))
            await asyncio.sleep(20)
            working.cancel()
            return len(await journal.find_open("default", None, 999)), wire.posts

    assert run(story()) == (0, 250)


def test_a_pass_goes_through_more_than_a_page_of_open_rows_once() -> None:
    """Also where they stay open."""
    wire, journal = Wire(), Durable()
    names = [f"f-{number:03}" for number in range(120)]

    async def story() -> list[tuple[str, str]]:
        await leave_open(journal, wire, *names)
        wire.always = LOST
        async with client(wire, journal=journal, policy=RetryPolicy.none()) as alphapo:
            return await passed(alphapo, resend=False)

    assert run(story()) == [(name, "unknown") for name in names]


def test_work_frees_what_a_dead_worker_held() -> None:
    """On its rounds, without being asked to."""
    wire, journal = Wire(), Durable()

    async def story() -> str:
        await journal.join("default", "loopback", "ghost", EPOCH + 5)
        payment = request("a")
        key = Signer("made-up-key", "made-up-secret").fingerprint
        asked = Requested("ghost", Revision(encode_body(payment), payment), key)
        await journal.update("default", "a", lambda _: (new_row("default", "a", asked, EPOCH, is_durable=True), ()))
        wire._accept("a", {"currency": "BTC", "amount": "0.0015", "address": "bc1qmadeup"})
        async with client(wire, journal=journal, policy=POLICY) as alphapo:
            working = asyncio.ensure_future(alphapo.work())
            await asyncio.sleep(60)
            assert await journal.find_dead(EPOCH + 60) == []  # no later round goes through its rows again
            working.cancel()
        row = await journal.find("default", "a")
        assert row is not None
        return row.state

    assert run(story()) == "accepted"
    assert wire.posts == 0


class Disconnected(Durable):
    """A journal that sees at once that the connection of the worker "ghost" is gone, which may be a failover."""

    async def find_dead(self, now: float) -> list[tuple[str, float]]:
        """Return it with the lease that it has."""
        self._over.add("ghost")
        return [(worker, until) for worker, until in self._workers.items() if worker in self._over or until <= now]


def test_what_a_worker_without_connection_holds_is_looked_up_at_once_and_sent_after_its_lease() -> None:
    """It may live and send until then, and take on more rows, which no other worker sends before that either."""
    wire, journal = Wire(), Disconnected()

    async def story() -> list[tuple[int, int]]:
        await journal.join("default", "loopback", "ghost", EPOCH + 60)
        key, result = Signer("made-up-key", "made-up-secret").fingerprint, []

        async def take_on(name: str) -> None:
            payment = request(name)
            asked = Requested("ghost", Revision(encode_body(payment), payment), key)
            await journal.update(
                "default", name, lambda _: (new_row("default", name, asked, EPOCH, is_durable=True), ())
            )

        await take_on("a")
        async with client(wire, journal=journal, policy=RetryPolicy(quiet=0.1)) as alphapo:
            working = asyncio.ensure_future(alphapo.work())
            await asyncio.sleep(2)
            await take_on("late")
            for seconds in (3, 54, 120):
                await asyncio.sleep(seconds)
                result.append((min(wire.look_ups, 2), wire.posts))
            working.cancel()
        return result

    assert run(story()) == [(2, 0), (2, 0), (2, 2)]
    assert {len(set(bodies)) for bodies in wire.bodies.values()} == {1}


class Late(Durable):
    """A journal that refuses the first change that it is asked for, and takes it on later all the same."""

    is_first = True

    async def update(self, *what: Any, **how: Any) -> Row:
        """Write it down, but for the first change: that is written down half a minute later."""
        if not self.is_first:
            return await super().update(*what, **how)
        self.is_first = False
        self.writing = asyncio.ensure_future(self._write_late(*what, **how))
        await asyncio.sleep(10)
        raise JournalError("It does not answer in time.", recorded=None)

    async def _write_late(self, *what: Any, **how: Any) -> None:
        await asyncio.sleep(30)
        await super().update(*what, **how)


@pytest.mark.parametrize("has_left", [False, True])
def test_what_the_journal_takes_on_after_it_refused_it_is_freed_and_settled(*, has_left: bool) -> None:
    """Nobody works on it, whether whoever asked for it lives on, and works, or has left: then another comes to it."""
    wire, journal = Wire(), Late()

    async def story() -> str | None:
        async with client(wire, journal=journal, policy=POLICY) as first:
            with pytest.raises(JournalError):
                await first.withdraw(request("a"))
            if not has_left:
                working = asyncio.ensure_future(first.work())
                await asyncio.sleep(600)
                working.cancel()
        if has_left:
            async with client(wire, journal=journal, policy=POLICY) as second:
                working = asyncio.ensure_future(second.work())
                await asyncio.sleep(600)
                working.cancel()
        row = await journal.find("default", "a")
        assert row is not None
        assert (
            next(line.kind for line in await journal.history("default", "a") if line.kind != "request")
            == "lease_expired"
        )
        return row.state

    assert run(story()) == "accepted"
    assert wire.posts == 1


@pytest.mark.parametrize(("is_own", "set_back_at"), [(False, 29.0), (True, 89.9)])
def test_what_is_freed_may_have_left_until_then_by_the_later_clock(*, is_own: bool, set_back_at: float) -> None:
    """Found at once, or by the second look: a clock set back, and set right again, would make the quiet time too short."""
    journal = Durable()

    async def story() -> float:
        loop = asyncio.get_running_loop()
        clock = lambda: EPOCH + loop.time() - (2.0 if loop.time() > set_back_at else 0.0)  # noqa: E731
        runtime = Runtime(clock, lambda: 0.5, asyncio.sleep)
        async with client(Wire(), journal=journal, policy=POLICY, _runtime=runtime) as alphapo:
            await asyncio.sleep(30)
            worker = alphapo._engine.lease.worker if is_own else "ghost"
            payment = request("lost")
            asked = Requested(
                worker, Revision(encode_body(payment), payment), Signer("made-up-key", "made-up-secret").fingerprint
            )
            await journal.update(
                "default", "lost", lambda _: (new_row("default", "lost", asked, EPOCH, is_durable=True), ())
            )
            working = asyncio.ensure_future(alphapo.work())
            await asyncio.sleep(200)
            working.cancel()
        line = next(line for line in await journal.history("default", "lost") if line.kind == "lease_expired")
        return float(line.what.rpartition(" ")[2]) - line.at

    assert run(story()) == pytest.approx(2.0, abs=0.01)


def test_what_a_flight_of_this_client_works_on_is_not_freed() -> None:
    """Not even where many are under way; one that nobody works on is found among them."""
    wire, journal = Wire(["silent"]), Durable()
    names = [f"f-{number:03}" for number in range(150)]

    async def story() -> tuple[list[str], str | None]:
        async with client(wire, journal=journal, policy=RetryPolicy(attempt_timeout=300.0), close_grace=0.0) as alphapo:
            flying = [asyncio.ensure_future(alphapo.withdraw(request(name))) for name in names]
            await asyncio.sleep(1)
            worker, payment = alphapo._engine.lease.worker, request("lost")
            asked = Requested(worker, Revision(encode_body(payment), payment), "key")
            await journal.update(
                "default", "lost", lambda _: (new_row("default", "lost", asked, EPOCH, is_durable=True), ())
            )
            working = asyncio.ensure_future(alphapo.work())
            await asyncio.sleep(50)
            assert (
                len(await journal.find_held(worker, 999)) == 151
            )  # what is told ahead may only be on its way to the journal
            await asyncio.sleep(100)
            held = [row.foreign_id for row in await journal.find_held(worker, 999)]
            lost = await journal.find("default", "lost")
            assert lost is not None
            assert lost.doubt_since == EPOCH
            working.cancel()
            for flight in flying:
                flight.cancel()
            return held, lost.holder

    assert run(story()) == (names, None)


def test_what_a_flight_takes_on_while_it_is_to_be_freed_stays_its_own() -> None:
    """It was found while nobody worked on it; when the journal comes to the change a flight does."""

    class Slow(Durable):
        """A journal on whose way one change can be overtaken."""

        is_coming: asyncio.Event | None = None

        async def update(self, *what: Any, **how: Any) -> Row:
            """Write it down; what is slow after what comes next."""
            is_coming, self.is_coming = self.is_coming, None
            if is_coming is not None:
                is_coming.set()
                await asyncio.sleep(1)
            return await super().update(*what, **how)

    wire, journal = Wire(["silent"]), Slow()

    async def story() -> list[str]:
        async with client(wire, journal=journal, close_grace=0.0) as alphapo:
            worker, payment = alphapo._engine.lease.worker, request("a")
            asked = Requested(
                worker, Revision(encode_body(payment), payment), Signer("made-up-key", "made-up-secret").fingerprint
            )
            await journal.update("default", "a", lambda _: (new_row("default", "a", asked, EPOCH, is_durable=True), ()))
            journal.is_coming = is_coming = asyncio.Event()
            working = asyncio.ensure_future(alphapo.work())
            await is_coming.wait()
            flight = asyncio.ensure_future(alphapo.withdraw(payment))
            await asyncio.sleep(5)
            row = await journal.find("default", "a")
            assert row is not None
            assert row.holder == worker
            working.cancel()
            flight.cancel()
            return [line.kind for line in await journal.history("default", "a")]

    assert run(story()) == ["request", "look-up"]


def test_what_a_caller_hears_is_not_handed_out_again() -> None:
    """A pass that shares a caller's flight tells its outcome, and leaves nothing to report."""
    wire, journal = Wire(["silent"]), Durable()

    async def story() -> list[list[tuple[str, str]]]:
        async with client(wire, journal=journal) as alphapo:
            flight = asyncio.ensure_future(alphapo.withdraw(request("a")))
            await asyncio.sleep(1)
            results = [await passed(alphapo), await passed(alphapo)]
            await flight
            return results

    assert run(story()) == [[("a", "accepted")], []]


def test_a_dead_worker_of_another_account_is_freed_under_its_own() -> None:
    """Two accounts share a journal: whoever makes rounds frees the other's rows too, and touches none of its own by their names."""
    journal = Durable()

    async def story() -> None:
        await journal.join("theirs", "loopback", "ghost", EPOCH + 5)
        payment = request("a")
        asked = Requested("ghost", Revision(encode_body(payment), payment), "key")
        await journal.update("theirs", "a", lambda _: (new_row("theirs", "a", asked, EPOCH, is_durable=True), ()))
        async with client(Wire(), journal=journal, policy=POLICY) as alphapo:
            await asyncio.sleep(6)
            assert await passed(alphapo) == []
        freed = await journal.find("theirs", "a")
        assert freed is not None
        assert (freed.holder, freed.could_leave_until) == (None, EPOCH + 5)
        assert await journal.find("default", "a") is None

    run(story())


def test_rounds_go_on_when_the_journal_is_back() -> None:
    """While it fails nothing is sent, it is tried ever more rarely, and somebody is told each time."""
    wire = Wire()
    heard: list[Event] = []

    class Failing(Durable):
        """A journal that can be lost."""

        until = 0.0
        looks = 0

        async def find_due(
            self, account: str, now: float, limit: int, refused: Collection[str] = (), *, expired: bool = False
        ) -> list[Row]:
            """Return what is due, if it can be read."""
            self.looks += 1
            if now < self.until:
                raise JournalError("The journal is lost.", recorded=False)
            return await super().find_due(account, now, limit, refused, expired=expired)

    journal = Failing()

    async def story() -> None:
        async with client(wire, journal=journal, policy=POLICY, on_event=heard.append) as alphapo:
            await alphapo.enqueue(request("a"))
            journal.until = EPOCH + 100
            working = asyncio.ensure_future(alphapo.work())
            await asyncio.sleep(100)
            assert wire.posts == 0
            await asyncio.sleep(31)
            working.cancel()

    run(story())
    assert wire.posts == 1
    assert [event.reason for event in heard if event.name == "journal failed"] == ["The journal is lost."] * 7
    assert journal.looks > 7


def test_an_outcome_that_nobody_can_vouch_for_is_handed_out_again() -> None:
    """The journal could not be read just then: the pass ends, and the next one begins with it."""

    class Unreadable(Durable):
        """A journal of which every second reading of a row fails, for a while."""

        def __init__(self) -> None:
            super().__init__()
            self.readings = 0
            self.is_moody = False

        async def find(self, account: str, foreign_id: str) -> Row | None:
            """Read it, or fail."""
            self.readings += 1
            if self.is_moody and self.readings % 2 == 0:
                raise JournalError("down", foreign_id=foreign_id)
            return await super().find(account, foreign_id)

    journal = Unreadable()

    async def story() -> list[list[tuple[str, str]]]:
        async with client(_Unreachable(), journal=journal, policy=POLICY) as alphapo:
            await alphapo.enqueue(request("a"), expires_in=1.0)
            working = asyncio.ensure_future(alphapo.work())
            await asyncio.sleep(60)
            working.cancel()
        async with client(Wire(), journal=journal, policy=POLICY) as alphapo:
            journal.is_moody = True
            with pytest.raises(JournalError, match="down"):
                await passed(alphapo)
            journal.is_moody = False
            return [await passed(alphapo), await passed(alphapo)]

    assert run(story()) == [[("a", "not_sent")], []]


def test_an_outcome_that_was_asked_for_anew_is_handed_out_again() -> None:
    """Whoever hears "not sent" enqueues it once more before he takes the next result: what comes of that, nobody has heard."""
    journal = Durable()

    async def expire(alphapo: AlphapoClient) -> None:
        working = asyncio.ensure_future(alphapo.work())
        await asyncio.sleep(100)
        working.cancel()

    async def story() -> list[list[tuple[str, str]]]:
        async with client(_Unreachable(), journal=journal, policy=POLICY) as alphapo:
            await alphapo.enqueue(request("a"), expires_in=1.0)
            await expire(alphapo)
            passes = [list[tuple[str, str]]()]
            async for result in alphapo.resume():
                passes[0].append((result.request.foreign_id, result.outcome))
                await asyncio.sleep(5)
                await alphapo.enqueue(request("a"), expires_in=2.0)
            await expire(alphapo)
            return [*passes, await passed(alphapo), await passed(alphapo)]

    assert run(story()) == [[("a", "not_sent"), ("a", "unknown")], [("a", "not_sent")], []]


def test_what_somebody_paid_while_the_outcomes_were_taken_is_not_told_as_it_was() -> None:
    """A page of outcomes was read, and whoever takes them takes long: a "no" that a call has undone meanwhile is not handed out."""
    wire, journal = Wire(), Durable()

    async def story() -> tuple[list[tuple[str, str]], str | None]:
        async with client(_Unreachable(), journal=journal, policy=POLICY) as alphapo:
            for name in "abc":
                await alphapo.enqueue(request(name), expires_in=1.0)
            working = asyncio.ensure_future(alphapo.work())
            await asyncio.sleep(60)
            working.cancel()
        answer, status = list[tuple[str, str]](), None
        async with client(wire, journal=journal, policy=POLICY) as alphapo:
            async for result in alphapo.resume():
                answer.append((result.request.foreign_id, result.outcome))
                if result.request.foreign_id == "a":
                    status = (await alphapo.withdraw(request("b"))).status
        return answer, status

    assert run(story()) == ([("a", "not_sent"), ("c", "not_sent")], "processing")


def test_what_ends_otherwise_while_its_outcome_is_taken_is_handed_out_again() -> None:
    """The consumer gets "accepted", and AlphaPo declines the withdrawal before the consumer takes the next outcome."""
    journal, events = Durable(), list[Event]()

    async def story() -> list[list[tuple[str, str]]]:
        async with client(Wire(), journal=journal, on_event=events.append) as alphapo:
            await alphapo.enqueue(request("a"))
            passes = [list[tuple[str, str]]()]
            async for result in alphapo.resume():
                passes[0].append((result.request.foreign_id, result.outcome))
                async with alphapo.receive_callback(SIGNER.headers(DECLINED), DECLINED):
                    pass
            return [*passes, await passed(alphapo), await passed(alphapo)]

    assert run(story()) == [[("a", "accepted")], [("a", "failed")], []]


# ── claimed rows ─────────────────────────────────────────────────────────────────────────────────────────────────────


def test_work_that_is_cancelled_still_pays_the_claimed_rows_that_callers_wait_for() -> None:
    """Only the worker ends: the client is open, and a caller that joined a claimed row gets its outcome."""
    wire, names = Wire(seconds=1.0), "abcdef"

    async def story() -> list[Any]:
        async with client(wire, journal=Durable()) as alphapo:
            for name in names:
                await alphapo.enqueue(request(name))
            working = asyncio.ensure_future(alphapo.work(concurrency=1))
            await asyncio.sleep(0.1)
            calls = [asyncio.ensure_future(alphapo.withdraw(request(name))) for name in names]
            await asyncio.sleep(0.1)
            working.cancel()
            return await asyncio.gather(*calls, return_exceptions=True)

    assert [getattr(outcome, "status", outcome) for outcome in run(story())] == ["processing"] * len(names)
    assert wire.posts == len(names)


def test_a_worker_that_cannot_reach_alphapo_leaves_fresh_rows_to_others() -> None:
    """It returns in an outage what it has claimed ahead, and takes one row for each probe: a worker whose network works pays them all."""
    journal, wire = Durable(), Wire()

    async def story() -> None:
        async with client(_Unreachable(), journal=journal, policy=POLICY) as cut_off:
            for number in range(200):
                await cut_off.enqueue(request(f"f-{number}"))
            trying = asyncio.ensure_future(cut_off.work(concurrency=8))
            await asyncio.sleep(10)
            async with client(wire, journal=journal, policy=POLICY) as alphapo:
                working = asyncio.ensure_future(alphapo.work())
                await asyncio.sleep(100)
                working.cancel()
            trying.cancel()

    run(story())
    assert wire.posts == 200


@pytest.mark.parametrize("answer", [NO_CONNECTION, HTML_502])
@pytest.mark.parametrize("concurrency", [1, 8])
def test_a_worker_finds_out_by_itself_that_an_outage_is_over(concurrency: int, answer: Reply | NoReply) -> None:
    """Also where no caller's body is under way: one fresh row at a time is a probe, and no more of them leave than probes may."""
    journal, wire, names = Durable(), Wire(), [f"f-{number}" for number in range(100)]
    probes = 0

    async def story() -> set[str | None]:
        nonlocal probes
        async with client(wire, journal=journal, policy=RetryPolicy()) as alphapo:
            for name in names:
                await alphapo.enqueue(request(name))
            wire.always = answer
            working = asyncio.ensure_future(alphapo.work(concurrency=concurrency))
            await asyncio.sleep(10)
            before = wire.posts
            await asyncio.sleep(290)
            probes = wire.posts - before
            wire.always = None
            await asyncio.sleep(60)
            working.cancel()
        found = [await journal.find("default", name) for name in names]
        return {row.state for row in found if row is not None and row.doubt_since is None}

    assert run(story()) == {"accepted"}
    assert 10 <= probes <= 290 / 20 + 2


def test_no_claim_after_another_is_made_while_the_lease_does_not_run() -> None:
    """Rows wait for the next claim, and the journal is asked once in a round all the same."""

    class Counting(Durable):
        """A journal that counts claims."""

        claims = 0

        async def claim(self, account: str, claim: Claim) -> ClaimedRows | None:
            """Count it."""
            self.claims += 1
            await asyncio.sleep(0.001)
            return await super().claim(account, claim)

    journal = Counting()

    async def story() -> int:
        async with client(Wire(seconds=2.0), journal=journal) as alphapo:
            for number in range(50):
                await alphapo.enqueue(request(f"f-{number}"))
            working = asyncio.ensure_future(alphapo.work(concurrency=8))
            await asyncio.sleep(1)
            assert alphapo._engine.claims.waiting
            journal._over.add(alphapo._engine.lease.worker)
            before = journal.claims
            await asyncio.sleep(10)
            working.cancel()
            return journal.claims - before

    assert run(story()) <= 12


def test_work_that_is_cancelled_begins_nothing_more() -> None:
    """Neither what it has read ahead of rows in doubt, nor a claimed row of the work that follows."""
    journal, wire, names = Durable(), Wire(seconds=0.5), [f"f-{number}" for number in range(60)]

    async def story() -> tuple[int, int]:
        async with client(wire, journal=journal, policy=RetryPolicy.none()) as alphapo:
            wire.always = LOST
            await asyncio.gather(*(alphapo.withdraw(request(name)) for name in names[:19]), return_exceptions=True)
            wire.always = None
            await asyncio.sleep(3_600)
            working = asyncio.ensure_future(alphapo.work(concurrency=4))
            await asyncio.sleep(0.1)
            working.cancel()
            await asyncio.sleep(1.5)
            begun = len(wire.times)
            await asyncio.sleep(30)
            begun = len(wire.times) - begun
            for name in names[19:]:
                await alphapo.enqueue(request(name))
            for _ in range(2):
                working = asyncio.ensure_future(alphapo.work(concurrency=4))
                await asyncio.sleep(3)
                wire.most_under_way = 0
                await asyncio.sleep(1)
                working.cancel()
            return begun, wire.most_under_way

    assert run(story()) == (0, 4)


def test_a_full_page_is_followed_by_the_next_one_once_its_rows_have_begun() -> None:
    """Rows in doubt beyond one page wait for no round, and no round is made for each row of the page."""
    wire, names = Wire(), [f"f-{number:03}" for number in range(130)]

    class Counting(Durable):
        """A journal that counts how often it is asked for what is due."""

        looks = 0

        async def find_due(self, *what: Any, **how: Any) -> list[Row]:
            """Count it."""
            self.looks += 1
            return await super().find_due(*what, **how)

    journal = Counting()

    async def story() -> None:
        async with client(wire, journal=journal, policy=RetryPolicy.none()) as alphapo:
            wire.always = LOST
            for name in names:
                with contextlib.suppress(WithdrawalError):
                    await alphapo.withdraw(request(name))
            wire.always = None
            await asyncio.sleep(700)
            wire.seen.clear()
            working = asyncio.ensure_future(alphapo.work(concurrency=16))
            await asyncio.sleep(0.9)
            working.cancel()

    run(story())
    assert len({name for method, name in wire.seen if method == "GET"}) == 130
    assert journal.looks == 2


# ── a refused key ────────────────────────────────────────────────────────────────────────────────────────────────────


class Worked:
    """A journal with enqueued rows, and a worker whose key is refused at first."""

    def __init__(self, names: Sequence[str], **wire: Any) -> None:
        self.wire, self.journal, self.names = Wire(**wire), Durable(), names
        self.wire.always = self.wire.accounts = BAD_KEY
        self.events: list[Event] = []

    @contextlib.asynccontextmanager
    async def working(self, **settings: Any) -> AsyncIterator[AlphapoClient]:
        """Enqueue the rows, and let a worker run while the block does."""
        usual: dict[str, Any] = {"policy": POLICY, "on_event": self.events.append}
        async with client(self.wire, journal=self.journal, **{**usual, **settings}) as alphapo:
            for name in self.names:
                await alphapo.enqueue(request(name), expires_in=10_000.0)
            working = asyncio.ensure_future(alphapo.work())
            try:
                yield alphapo
            finally:
                working.cancel()

    async def states(self) -> list[str]:
        """Return the states of the rows."""
        rows = [await self.journal.find("default", name) for name in self.names]
        return [row.state for row in rows if row is not None]

    def told(self, *names: str) -> list[tuple[str, str | None]]:
        """Return the events of these names, and their reasons."""
        return [(event.name, event.reason) for event in self.events if event.name in names]


def test_a_worker_with_a_wrong_secret_keeps_the_outbox() -> None:
    """It lets go of its rows, reports it once, and sends no body more until `accounts/list` lets it in."""
    worked = Worked("abcde")

    async def story() -> None:
        async with worked.working():
            await asyncio.sleep(60)
            assert await worked.states() == ["open"] * 5
            assert worked.wire.posts <= 5
            posts = worked.wire.posts
            assert 50 <= worked.wire.questions <= 61  # every wait_max
            worked.wire.accounts = None
            await asyncio.sleep(60)
            assert await worked.states() == ["open"] * 5
            assert posts + 10 <= worked.wire.posts <= posts + 60  # one for each answer
            worked.wire.always = None
            await asyncio.sleep(30)
            assert await worked.states() == ["accepted"] * 5

    run(story())
    assert worked.told("key refused", "key accepted") == [
        ("key refused", "bad_header_signature"),
        ("key accepted", None),
    ]
    assert worked.told("unknown") == []
    assert [event.key_fingerprint for event in worked.events if event.name == "key refused"] == [
        Signer("made-up-key", "made-up-secret").fingerprint
    ]


def test_rows_that_expire_while_nothing_can_leave_are_settled_now_and_then() -> None:
    """All of them, page by page, though each look may pass over the whole outbox: it is made twice a minute."""
    worked = Worked("a")

    class Counting(Durable):
        looks = 0

        async def find_due(self, *args: Any, expired: bool = False, **how: Any) -> list[Row]:
            self.looks += expired
            return await super().find_due(*args, expired=expired, **how)

    worked.journal = Counting()

    async def story() -> None:
        async with worked.working() as alphapo:
            await asyncio.sleep(2)
            worked.names = [f"soon {number}" for number in range(250)]
            for name in worked.names:
                await alphapo.enqueue(request(name), expires_in=20.0)
            await asyncio.sleep(60)
            assert await worked.states() == ["not_sent"] * 250

    run(story())
    assert worked.wire.posts == 1
    assert worked.journal.looks <= 7


def test_bodies_that_queue_are_not_sent_under_a_refused_key() -> None:
    """They give up their places at once, and the rows stay open."""
    worked = Worked("abcde", max_connections=1)

    async def story() -> None:
        async with worked.working():
            await asyncio.sleep(0.5)
            assert worked.wire.posts == 1
            assert await worked.states() == ["open"] * 5
            rows = [await worked.journal.find("default", name) for name in "abcde"]
            assert [row.holder for row in rows if row is not None] == [None] * 5

    run(story())


def test_a_body_without_an_answer_finds_out_nothing() -> None:
    """The question comes first again, and one body after it."""
    worked = Worked("a")
    worked.wire.scripts["POST"] = [BAD_KEY, NO_CONNECTION]
    worked.wire.accounts = None

    async def story() -> None:
        async with worked.working():
            await asyncio.sleep(60)
            assert await worked.states() == ["open"]
            worked.wire.always = None
            await asyncio.sleep(30)
            assert await worked.states() == ["accepted"]
            assert worked.wire.questions >= 2

    run(story())


def test_what_expires_under_a_refused_key_is_not_sent() -> None:
    """It ends, without a body, and is reported."""
    worked = Worked("")

    async def story() -> list[tuple[str, str]]:
        async with worked.working() as alphapo:
            await alphapo.enqueue(request("a"), expires_in=10.0)
            await alphapo.enqueue(request("b"), expires_in=1_000.0)
            await asyncio.sleep(60)
            rows = [await worked.journal.find("default", name) for name in "ab"]
            assert [(row.state, row.reason) for row in rows if row is not None] == [
                ("not_sent", "expired"),
                ("open", "key refused"),
            ]
            return await passed(alphapo)

    assert ("a", "not_sent") in run(story())
    assert worked.wire.posts == 3  # the two of the worker, and that of the pass


def test_rows_under_other_keys_go_on() -> None:
    """A row in doubt under a retired key is looked up and settled while the current key is refused."""
    wire, journal = Wire(), Durable()

    async def story() -> str:
        await leave_open(journal, wire, "old")
        wire.accounts, wire.always = BAD_KEY, BAD_KEY
        settings: dict[str, Any] = {
            "journal": journal,
            "policy": POLICY,
            "session": wire,
            "base_url": "http://127.0.0.1:9",
        }
        loop = asyncio.get_running_loop()
        runtime = Runtime(lambda: EPOCH + loop.time(), lambda: 0.5, asyncio.sleep)
        retired = [("made-up-key", "made-up-secret")]
        async with AlphapoClient(
            "new-key", "new-secret", _runtime=runtime, retired_keys=retired, **settings
        ) as alphapo:
            await alphapo.enqueue(request("new"))
            working = asyncio.ensure_future(alphapo.work())
            await asyncio.sleep(5)
            wire._accept("old", {"currency": "BTC", "amount": "0.0015", "address": "bc1qmadeup"})
            await asyncio.sleep(60)
            working.cancel()
        rows = [await journal.find("default", name) for name in ("old", "new")]
        return " ".join(row.state for row in rows if row is not None)

    assert run(story()) == "accepted open"


def test_a_pass_leaves_alone_what_a_refused_key_would_sign() -> None:
    """One body is refused; each row is reported as open, and the next pass tries again."""
    worked = Worked("abc")

    async def story() -> list[tuple[str, str, bool]]:
        async with client(worked.wire, journal=worked.journal, policy=POLICY) as alphapo:
            for name in "abc":
                await alphapo.enqueue(request(name))
            results = [result async for result in alphapo.resume(concurrency=1)]
            assert worked.wire.posts == 1
            assert all("(bad_header_signature)" in str(result.error) for result in results)
            worked.wire.always = None
            assert await passed(alphapo) == [("a", "accepted"), ("b", "accepted"), ("c", "accepted")]
            return [
                (result.outcome, result.error.reason, result.error.may_release_funds)
                for result in results
                if isinstance(result.error, WithdrawalUnknown)
            ]

    assert run(story()) == [("unknown", "key refused", False)] * 3


def test_a_direct_call_still_sends_and_shows_that_the_key_is_accepted() -> None:
    """What it recorded itself settles as key refused; the worker goes on once a call has got through."""
    worked = Worked("ab")

    async def story() -> None:
        async with worked.working() as alphapo:
            await asyncio.sleep(5)
            with pytest.raises(AuthenticationError) as refused:
                await alphapo.withdraw(request("direct"))
            assert (refused.value.may_release_funds, refused.value.code) == (True, "bad_header_signature")
            worked.wire.always = None
            assert (await alphapo.withdraw(request("direct"))).foreign_id == "direct"
            await asyncio.sleep(15)
            assert await worked.states() == ["accepted", "accepted"]
            assert worked.wire.questions < 10

    run(story())


@pytest.mark.parametrize("is_at_work", [False, True])
def test_a_direct_call_of_an_enqueued_row_keeps_it_open(*, is_at_work: bool) -> None:
    """Alone, or joined with the worker's own flight: a worker may still send it, so that nothing is released."""
    worked = Worked("a", seconds=0.1)

    async def story() -> None:
        async with worked.working() as alphapo:
            await asyncio.sleep(0.05 if is_at_work else 5)
            with pytest.raises(WithdrawalUnknown) as result:
                await alphapo.withdraw(request("a"))
            assert (result.value.reason, result.value.may_release_funds) == ("key refused", False)
            assert await worked.states() == ["open"]
            assert worked.wire.posts == (1 if is_at_work else 2)

    run(story())


@pytest.mark.parametrize(("always", "reason"), [(NO_CONNECTION, "no connection"), (THROTTLED, "throttled")])
def test_a_direct_call_that_could_not_send_an_enqueued_row_releases_nothing(
    always: Reply | NoReply, reason: str
) -> None:
    """What was not sent follows the same rule as a refused key."""
    worked = Worked("")
    worked.wire.always = always

    async def story() -> None:
        async with client(worked.wire, journal=worked.journal, policy=POLICY) as alphapo:
            await alphapo.enqueue(request("a"))
            with pytest.raises(WithdrawalUnknown) as result:
                await alphapo.withdraw(request("a"))
            assert (result.value.reason, result.value.may_release_funds) == (reason, False)
            worked.wire.always = None
            assert await passed(alphapo) == [("a", "accepted")]

    run(story())


def test_a_row_that_is_enqueued_while_a_call_sends_it_stays_open() -> None:
    """The call hears that a worker may still send it."""
    worked = Worked("", seconds=0.1)

    async def story() -> None:
        async with client(worked.wire, journal=worked.journal, policy=POLICY) as alphapo:
            direct = asyncio.ensure_future(alphapo.withdraw(request("a")))
            await asyncio.sleep(0.05)
            await alphapo.enqueue(request("a"))
            with pytest.raises(WithdrawalUnknown) as result:
                await direct
            assert (result.value.reason, result.value.may_release_funds) == ("key refused", False)
            worked.wire.always = None
            assert await passed(alphapo) == [("a", "accepted")]

    run(story())


class Odd(Durable):
    """A journal that raises when a row that is looked up again is to be recorded, so many times."""

    def __init__(self, error: Exception) -> None:
        super().__init__()
        self.error = error
        self.times = 0

    async def update(self, account: str, foreign_id: str, *what: Any, **how: Any) -> Row:
        """Raise, of the row "old"."""
        if foreign_id == "old" and self.times:
            self.times -= 1
            raise self.error
        return await super().update(account, foreign_id, *what, **how)


async def work_beside_an_odd_row(journal: Odd, wire: Wire, events: list[Event]) -> None:
    """Pay many rows while an accepted one is due, whose look-up cannot be recorded."""
    async with client(wire, journal=journal, policy=POLICY, on_event=events.append) as alphapo:
        await alphapo.withdraw(request("old"))
        await asyncio.sleep(601)
        journal.times = 2
        for number in range(200):
            await alphapo.enqueue(request(f"r{number}"))
        working = asyncio.ensure_future(alphapo.work(concurrency=4))
        await asyncio.sleep(20)
        working.cancel()


def test_a_row_that_meets_an_unexpected_error_keeps_no_other_from_being_paid() -> None:
    """The worker's step fails, and is repeated after a pause."""
    wire, events = Wire(), list[Event]()
    run(work_beside_an_odd_row(Odd(ZeroDivisionError()), wire, events))
    assert wire.posts == 201
    assert [event.reason for event in events if event.name == "task failed"] == ["work: ZeroDivisionError"]


def test_a_journal_that_fails_for_one_row_ends_the_round() -> None:
    """Each failure is an event; the next round continues."""
    wire, events = Wire(), list[Event]()
    run(work_beside_an_odd_row(Odd(JournalError("The journal is lost.")), wire, events))
    assert wire.posts == 201
    assert [event.reason for event in events if event.name == "journal failed"] == ["The journal is lost."] * 2


def test_work_ends_once_the_client_is_closed() -> None:
    """Also where no row is due; a journal that the client has closed is no failing journal."""

    async def story() -> list[Event]:
        events: list[Event] = []
        alphapo = client(Wire(), on_event=events.append)
        await alphapo.withdraw(request("paid"))
        working = asyncio.ensure_future(alphapo.work())
        await asyncio.sleep(0.1)
        await alphapo.aclose()
        with pytest.raises(ConfigurationError, match="closed"):
            await working
        return events

    assert not any(event.name == "journal failed" for event in run(story()))


@pytest.mark.parametrize("is_answered", [True, False])
def test_a_pass_hands_out_a_no_of_before_the_journal_went_back_once_alphapo_confirms_it(*, is_answered: bool) -> None:
    """What no look-up answers is kept for a later pass."""
    wire = Wire([INSUFFICIENT], [] if is_answered else [HTML_502] * 9)

    async def story() -> list[str]:
        journal = Durable()
        async with client(wire, journal=journal, policy=RetryPolicy.none()) as alphapo:
            await alphapo.enqueue(request("payout-17"))
            working = asyncio.ensure_future(alphapo.work())
            await asyncio.sleep(1.0)
            working.cancel()
            await journal.update("default", "payout-17", _unreport)
            await journal.raise_epoch(EPOCH + asyncio.get_running_loop().time())
            return [result.outcome async for result in alphapo.resume()]

    assert run(story()) == (["rejected"] if is_answered else [])


def _unreport(row: Row | None) -> tuple[Row, tuple[()]]:
    assert row is not None
    return replace(row, reported=False), ()


def test_a_pass_leaves_alone_what_a_key_refused_since_would_sign() -> None:
    """Each row is handed out as unknown, and nothing more is sent."""
    wire, journal = Wire(), Durable()
    wire.always = reply(403, {"error": "no", "code": "bad_header_key"})

    async def story() -> list[tuple[str, str | None]]:
        async with client(wire, journal=journal) as alphapo:
            for name in "abc":
                await alphapo.enqueue(request(name), expires_in=1_000.0)
            passing = alphapo.resume(concurrency=1)
            return [(result.outcome, getattr(result.error, "reason", None)) async for result in passing]

    assert run(story()) == [("unknown", "key refused")] * 3
    assert wire.posts == 1


@pytest.mark.parametrize("seconds", [0.01, 1.5])
def test_many_rows_in_doubt_are_read_page_by_page_without_a_pause(seconds: float) -> None:
    """What waits or runs is not taken twice, and accepted rows are refreshed once a second at most."""
    wire, journal = Wire(), Durable()
    names = [f"f-{number:03}" for number in range(130)]

    async def story() -> int:
        async with client(wire, journal=journal, policy=RetryPolicy.none()) as alphapo:
            await alphapo.withdraw(request("old"))
            wire.always = LOST
            for name in names:
                with contextlib.suppress(WithdrawalError):
                    await alphapo.withdraw(request(name))
            wire.always, wire.seconds = None, seconds
            await asyncio.sleep(700)
            working = asyncio.ensure_future(alphapo.work(concurrency=64))
            await asyncio.sleep(120)
            working.cancel()
            return len({name for method, name in wire.seen if method == "GET"})

    assert run(story()) == 131


def test_a_row_whose_key_is_refused_while_it_waits_is_left_alone() -> None:
    """One body found it out; the next row in doubt is not taken on."""
    wire, journal = Wire(), Durable()

    async def story() -> int:
        await leave_open(journal, wire, "a", "b")
        wire.always = BAD_KEY
        wire.accounts = BAD_KEY
        async with client(wire, journal=journal, policy=POLICY) as alphapo:
            await asyncio.sleep(40)
            working = asyncio.ensure_future(alphapo.work(concurrency=1))
            await asyncio.sleep(10)
            working.cancel()
        return wire.posts

    assert run(story()) == 3


def test_an_error_of_a_row_is_logged_also_where_the_work_has_ended(caplog: pytest.LogCaptureFixture) -> None:
    """Each one is in the log, though none of them is raised."""
    journal = Failing()

    async def story() -> None:
        wire = Wire()
        async with client(wire, journal=journal, policy=RetryPolicy(refresh_after=1.0)) as alphapo:
            for name in ("a", "b", "c"):
                await alphapo.withdraw(request(name))
            wire.seconds = 5.0
            working = asyncio.ensure_future(alphapo.work())
            await asyncio.sleep(3.5)
            working.cancel()
            journal.fails_with = LookupError("made-up")
            await asyncio.sleep(10)
            journal.fails_with = None

    run(story())
    assert caplog.text.count("work: LookupError") == 3
