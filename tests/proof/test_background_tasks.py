"""No background task ends silently: a journal raises every exception class of its drivers, in every verb that such a task awaits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import pytest

from alphapo_async.core.codec import encode_body
from alphapo_async.core.errors import ConfigurationError, WithdrawalError
from alphapo_async.core.events import Event
from alphapo_async.core.evidence import Requested, Revision
from alphapo_async.core.history import Change
from alphapo_async.core.retry_policy import RetryPolicy
from alphapo_async.core.row import Row
from alphapo_async.core.transitions import new_row
from alphapo_async.journal import VERBS
from tests.support.driver_errors import ASYNCPG, SQLITE
from tests.support.virtual import run
from tests.support.wire import EPOCH, INSUFFICIENT, LOST, Durable, Wire, client, request

ERRORS: Final = (*ASYNCPG, *SQLITE)
POLICY: Final = RetryPolicy(quiet=30.0, wait_initial=0.1, wait_max=1.0, attempts=3, deadline=5.0)


class Raising(Durable):
    """A journal in memory that raises what the script of a verb says, one error a call."""

    def __init__(self) -> None:
        super().__init__()
        self.script: dict[str, list[type[Exception]]] = {}
        self.is_failing = True

    def fail(self, verb: str) -> None:
        """Raise the next error of this verb."""
        errors = self.script.get(verb)
        if errors and self.is_failing:
            raise errors.pop()("made up")

    @contextlib.contextmanager
    def working(self) -> Any:
        """Fail nobody within the block."""
        self.is_failing = False
        yield
        self.is_failing = True

    def update(self, account: str, foreign_id: str, change: Change, *, may_lag: bool = False) -> Awaitable[Row]:  # type: ignore[override]
        """Raise at once, or return what is to be awaited."""
        self.fail("update, late" if may_lag else "update")
        return super().update(account, foreign_id, change, may_lag=may_lag)


def _failing(verb: str) -> Callable[..., Any]:
    async def call(self: Raising, *values: Any, **more: Any) -> Any:
        self.fail(verb)
        return await getattr(super(Raising, self), verb)(*values, **more)

    return call


for _verb in {*VERBS, "recall", "swap", "remember"} - {"update"}:
    setattr(Raising, _verb, _failing(_verb))


def _become(row: Row, _before: Row | None) -> tuple[Row, tuple[()]]:
    return row, ()


class Watched:
    """A client with a worker, in virtual time, and what it reports."""

    def __init__(self, wire: Wire | None = None) -> None:
        self.journal = Raising()
        self.events: list[Event] = []
        self.wire = wire or Wire()
        self.client = client(self.wire, journal=self.journal, policy=POLICY, on_event=self.events.append)

    @property
    def reported(self) -> set[str]:
        """The tasks of which a failure was reported."""
        return {event.task or "" for event in self.events if event.name == "task failed"}

    async def give_work(self, number: int) -> None:
        """Enqueue a withdrawal, and leave one behind as a worker that died."""
        ghost = f"ghost {number}"
        with self.journal.working():
            now = EPOCH + asyncio.get_running_loop().time()
            for name, worker in ((f"enqueued {number}", None), (f"held {number}", ghost)):
                asked = Requested(
                    worker,
                    Revision(encode_body(request(name)), request(name)),
                    self.client._engine.context.signer.fingerprint,
                )
                row = new_row("default", name, asked, now, is_durable=True, epoch=self.journal.epoch)
                await self.journal.update("default", name, partial(_become, row))
            await self.journal.join("default", "loopback", ghost, now + 1)

    async def has_paid_all(self) -> bool:
        """Return whether nothing is left open."""
        with self.journal.working():
            return not await self.journal.find_open("default", None, 1)


@pytest.mark.parametrize(
    ("verb", "task"),
    [
        ("find_dead", "work"),
        ("find_due", "work"),
        ("find_held", "work"),
        ("claim", "work"),
        ("begun", "work"),
        ("update", "work"),
        ("leave", "work"),
        ("count_frozen", "work"),
        ("time", "heartbeat"),
        ("renew", "heartbeat"),
        ("join", "heartbeat"),
    ],
)
def test_work_and_its_lease_outlive_whatever_the_journal_raises(verb: str, task: str) -> None:
    """The failures are reported; in the end everything is paid and the lease runs."""

    async def story() -> None:
        watched = Watched()
        async with watched.client as alphapo:
            working = asyncio.create_task(alphapo.work() if task == "work" else asyncio.sleep(0))
            if verb == "count_frozen":
                await watched.journal.raise_epoch(EPOCH)
            if verb == "join":
                watched.journal._workers.clear()  # the lease is lost, and another is to be taken
            watched.journal.script[verb] = list(ERRORS)
            for number in range(4 * len(ERRORS)):
                if verb in ("begun", "update", "leave"):  # which only a row calls for
                    await watched.give_work(number)
                await asyncio.sleep(61)
                if not watched.journal.script[verb]:
                    break
            assert watched.journal.script[verb] == []
            if task != "work":
                working = asyncio.create_task(alphapo.work())
            await watched.give_work(-1)
            for _ in range(
                50
            ):  # a row whose flight met an internal error is free after two minutes, and in doubt for a while
                if await watched.has_paid_all():
                    break
                await asyncio.sleep(100)
            assert await watched.has_paid_all()
            assert not working.done()
            assert alphapo._engine.lease.may_send(alphapo._engine.lease.worker)
            assert task in watched.reported
            assert (await alphapo.health()).is_ready
            working.cancel()
        assert alphapo._engine.lease._heartbeat_task is not None
        assert alphapo._engine.lease._heartbeat_task.cancelled()

    run(story())


def test_a_late_acceptance_is_written_whatever_the_journal_raises() -> None:
    """It is offered again until the journal takes it."""

    async def story() -> None:
        watched = Watched()
        async with watched.client as alphapo:
            watched.journal.script["update, late"] = list(ERRORS)
            assert (await alphapo.withdraw(request("a"))).status == "processing"
            await asyncio.sleep(31 * len(ERRORS))
            row = await watched.journal.find("default", "a")
            assert row is not None
            assert row.state == "accepted"
            assert watched.reported == {"late write"}
            assert (await alphapo.health()).is_ready

    run(story())


def test_what_a_flight_owes_the_journal_is_written_whatever_it_raises() -> None:
    """A refusal that could not be recorded, and a request of which nobody knows whether it was: then another flight may begin."""

    async def story(verb: str) -> None:
        watched = Watched(Wire([INSUFFICIENT]))
        async with watched.client as alphapo:
            if verb == "find":
                watched.journal.script["update"] = [OSError]
            paying = asyncio.create_task(alphapo.withdraw(request("a")))
            # The refusal is what cannot be written, not the request.
            while verb == "update" and not watched.wire.posts:  # noqa: ASYNC110 - its own loop
                await asyncio.sleep(0)
            watched.journal.script[verb] = list(ERRORS)
            with pytest.raises(WithdrawalError):
                await paying
            await asyncio.sleep(31 * len(ERRORS))
            assert watched.journal.script[verb] == []
            assert watched.reported == {"late write"}
            assert alphapo._registry.flights == {}
            assert (await alphapo.health()).is_ready

    run(story("update"))
    run(story("find"))


def test_the_claim_of_a_callback_is_released_whatever_the_journal_raises() -> None:
    """The next delivery has its turn."""

    async def story() -> None:
        watched = Watched()
        async with watched.client as alphapo:
            body = b'{"id": 7, "foreign_id": "a", "type": "withdrawal", "status": "confirmed"}'
            headers = alphapo._engine.context.signer.headers(body)
            with pytest.raises(ZeroDivisionError):  # noqa: PT012 - what the block raises
                async with alphapo.receive_callback(headers, body):
                    watched.journal.script["swap"] = list(ERRORS)
                    raise ZeroDivisionError
            await asyncio.sleep(31 * len(ERRORS))
            assert watched.journal.script["swap"] == []
            assert watched.reported == {"release of a callback"}
            async with alphapo.receive_callback(headers, body) as callback:
                assert callback.is_new
            assert (await alphapo.health()).is_ready

    run(story())


def test_a_client_that_is_closed_ends_its_worker() -> None:
    """No restart helps against that."""

    async def story() -> None:
        watched = Watched(Wire([LOST]))
        working = None
        async with watched.client as alphapo:
            working = asyncio.create_task(alphapo.work())
            await asyncio.sleep(5)
            await watched.give_work(1)
        with pytest.raises(ConfigurationError):
            await working
        assert watched.reported == set()

    run(story())


def test_a_task_that_keeps_failing_makes_the_client_not_ready() -> None:
    """It is reported once a minute, with the error's type and without its text."""

    async def story() -> None:
        watched = Watched()
        async with watched.client as alphapo:
            watched.journal.script["find_due"] = [ERRORS[0]] * 1_000
            working = asyncio.create_task(alphapo.work())
            await asyncio.sleep(600)
            health = await alphapo.health()
            assert (health.is_ready, health.failing) == (False, ("work",))
            failed = [event for event in watched.events if event.name == "task failed"]
            assert {event.reason for event in failed} == {f"work: {ERRORS[0].__name__}"}
            assert len(failed) == 10  # in 10 minutes
            working.cancel()

    run(story())
