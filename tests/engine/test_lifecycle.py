"""Closing: every step in order, within a bound, whoever waits for it or cancels it."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from alphapo_async.client import AlphapoClient
from alphapo_async.core.errors import (
    ConfigurationError,
)
from alphapo_async.engine.lifecycle import BOUND, Closing, Step
from tests.support.logs import raising_at
from tests.support.virtual import VirtualLoop, run
from tests.support.wire import (
    Durable,
    Wire,
    client,
    request,
)


class Closed:
    """Parts of something, and when each of them was closed."""

    def __init__(self) -> None:
        self.at: list[tuple[str, float]] = []

    def drain(self, seconds: float) -> Callable[[], Awaitable[None]]:
        """Return a drain that takes so long."""

        async def drain() -> None:
            await asyncio.sleep(seconds)

        return drain

    def step(self, name: str, ends_after: float, seconds: float = 0.0, *, ignores_cancel: bool = False) -> Step:
        """Return a step that takes so long."""

        async def work() -> None:
            try:
                await asyncio.sleep(seconds)
            except asyncio.CancelledError:
                if not ignores_cancel:
                    raise
                await asyncio.sleep(seconds)
            self.at.append((name, asyncio.get_running_loop().time()))

        return Step(name, ends_after, work)


def test_the_steps_follow_the_grace_in_order() -> None:
    """And whoever waits hears when all is done, also afterwards."""
    closed = Closed()

    async def story() -> float:
        closing = Closing(closed.drain(2.0), [closed.step("one", 1.0, 0.5), closed.step("two", 1.5, 0.5)])
        await asyncio.gather(closing.wait(), closing.wait())
        await closing.wait()
        return asyncio.get_running_loop().time()

    assert run(story()) == 3.0
    assert closed.at == [("one", 2.5), ("two", 3.0)]


def test_a_process_that_stood_still_takes_every_step() -> None:
    """Also where the time of all steps is over; a step that is quick has ended."""
    closed = Closed()

    async def story() -> None:
        steps = [closed.step("one", 1.0), closed.step("two", -5.0, 0.04), closed.step("three", -5.0, 1.0)]
        await Closing(closed.drain(0.0), steps).wait()

    run(story())
    assert [name for name, _ in closed.at] == ["one", "two"]


def test_a_step_that_hangs_is_left(caplog: pytest.LogCaptureFixture) -> None:
    """Also one that does not heed its cancellation; the next one has its time all the same, and the log says what was left."""
    closed = Closed()

    async def story() -> float:
        steps = [
            closed.step("hang", 1.0, 1e3),
            closed.step("resist", 2.0, 100.0, ignores_cancel=True),
            closed.step("last", BOUND),
        ]
        await Closing(closed.drain(0.0), steps).wait()
        return asyncio.get_running_loop().time()

    assert run(story()) == 2.05
    assert [name for name, _ in closed.at] == ["last"]
    assert [record.getMessage() for record in caplog.records] == [
        "closing: could not hang in time",
        "closing: could not resist in time",
    ]


def test_an_error_of_a_step_is_logged_and_the_next_one_follows(caplog: pytest.LogCaptureFixture) -> None:
    """With its traceback and without its text, which may hold anything; the caller that closes hears nothing of it."""
    closed = Closed()

    async def fail() -> None:
        raise OSError("gone")

    run(_close(closed.drain(0.0), [Step("fail", 1.0, fail), closed.step("last", 2.0)]))

    assert [name for name, _ in closed.at] == ["last"]
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage().startswith("closing: could not fail: OSError\n")
    assert "in fail" in record.getMessage()


def test_a_log_that_raises_leaves_no_step_out(caplog: pytest.LogCaptureFixture) -> None:
    """The journal and the session are closed behind a step that hung, or failed."""
    closed = Closed()

    async def fail() -> None:
        raise OSError("gone")

    steps = [closed.step("hang", 1.0, 1e3), Step("fail", 1.5, fail), closed.step("last", 2.0)]
    with raising_at(caplog):
        run(_close(closed.drain(0.0), steps))

    assert [name for name, _ in closed.at] == ["last"]


async def _close(drain: Callable[[], Awaitable[None]], steps: list[Step]) -> Closing:
    closing = Closing(drain, steps)
    await closing.wait()
    return closing


def test_a_caller_that_is_cancelled_leaves_and_closing_goes_on() -> None:
    """The next one waits for its end."""
    closed = Closed()

    async def story() -> tuple[float, float]:
        time = asyncio.get_running_loop().time
        closing = Closing(closed.drain(2.0), [closed.step("last", 1.0)])
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await closing.wait()
        left = time()
        await closing.wait()
        return left, time()

    assert run(story()) == (0.5, 2.0)


@pytest.mark.parametrize("begun", [False, True])
def test_a_loop_that_ends_cuts_the_grace_short(begun: bool) -> None:  # noqa: FBT001 - parametrized
    """Its owner cancels every task: the steps follow all the same, and the one that was under way is taken again."""
    closed = Closed()

    async def story() -> None:
        Closing(closed.drain(0.0 if begun else 60.0), [closed.step("first", 1.0, 0.5), closed.step("last", 2.0, 0.5)])
        await asyncio.sleep(0.1)

    run(story())

    assert closed.at == [("first", 0.6), ("last", 1.1)]


def test_a_step_that_others_cancel_is_taken_once_more_and_no_oftener() -> None:
    """The task that closes is cancelled first, and waits for its step again."""
    closed = Closed()

    async def story() -> float:
        closing = Closing(closed.drain(0.0), [closed.step("first", 2.0, 0.5), closed.step("last", 3.0, 0.5)])
        for _ in range(2):
            await asyncio.sleep(0.1)
            [step] = asyncio.all_tasks() - {asyncio.current_task(), closing._task}
            closing._task.cancel()
            step.cancel()
        await closing.wait()
        return asyncio.get_running_loop().time()

    assert run(story()) == pytest.approx(0.7)
    assert [name for name, _ in closed.at] == ["last"]


def test_a_loop_that_was_closed_takes_the_closing_with_it() -> None:
    """Then it is to be begun again, in another loop."""
    closed, loop = Closed(), VirtualLoop()

    async def begin() -> Closing:
        return Closing(closed.drain(60.0), [])

    closing = loop.run_until_complete(begin())
    results = [closing.is_lost]
    loop.close()
    results.append(closing.is_lost)
    assert results == [False, True]
    closing._task._log_destroy_pending = False  # type: ignore[attr-defined]


def test_a_closed_client_says_so() -> None:
    """After closing, every call is refused with a sentence; closing twice is harmless."""

    async def story() -> None:
        alphapo = client(Wire())
        async with alphapo:
            await alphapo.withdraw(request())
        await alphapo.aclose()
        for call in (alphapo.withdraw(request()), alphapo.ping(), alphapo.look_up("x"), alphapo.balances()):
            with pytest.raises(ConfigurationError, match="closed"):
                await call

    run(story())


def test_a_client_belongs_to_one_loop() -> None:
    """Used from another event loop a client refuses with a clear error."""
    made: list[AlphapoClient] = []

    async def first() -> None:
        made.append(client(Wire()))
        await made[0].withdraw(request())

    async def second() -> None:
        with pytest.raises(
            ConfigurationError, match=r"^The client belongs to another event loop, .* nothing\. Make one .* journal\.$"
        ):
            await made[0].withdraw(request())

    run(first())
    run(second())


def test_a_closing_that_its_loop_took_with_it_is_begun_again() -> None:
    """The next loop ends it."""
    made: list[AlphapoClient] = []
    under_way: list[asyncio.Future[Any]] = []

    async def begin() -> None:
        made.append(client(Wire(), journal=Durable()))
        await made[0].withdraw(request())
        under_way.append(asyncio.ensure_future(made[0].aclose()))
        await asyncio.sleep(0)

    loop = VirtualLoop()
    loop.run_until_complete(begin())
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    run(made[0].aclose())
    assert made[0]._lifecycle._closing is not None
    assert made[0]._lifecycle._closing._task.done()


def test_whoever_closes_second_waits_for_the_first() -> None:
    """When closing returns, it is closed."""
    wire = Wire(seconds=5.0)

    async def story() -> tuple[float, float]:
        loop = asyncio.get_running_loop()
        alphapo = client(wire)
        flight = asyncio.ensure_future(alphapo.withdraw(request()))
        await asyncio.sleep(1)
        first = asyncio.ensure_future(alphapo.aclose())
        await asyncio.sleep(0)
        await alphapo.aclose()
        second = loop.time()
        await first
        await flight
        return second, loop.time()

    second, both = run(story())
    assert second == both == pytest.approx(5.0)


def test_a_client_that_was_opened_before_a_fork_is_refused_in_the_child() -> None:
    """Also in the parent's own event loop; one that was only made is opened there."""

    async def story() -> None:
        opened, made = client(Wire()), client(Wire())
        async with opened:
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(os, "getpid", lambda: -1)
                with pytest.raises(ConfigurationError, match="before this process was forked"):
                    await opened.withdraw(request())
                async with made:
                    assert (await made.withdraw(request())).status == "processing"

    run(story())


def test_a_client_says_whether_it_is_open() -> None:
    """Not before its first use, and not after closing; from another loop it is not closed."""
    made: list[AlphapoClient] = []

    async def story() -> list[str]:
        alphapo = client(Wire())
        made.append(alphapo)
        states = [alphapo._lifecycle.state]
        async with alphapo:
            states.append(alphapo._lifecycle.state)
        return [*states, alphapo._lifecycle.state]

    async def close() -> None:
        await made[0].aclose()

    assert run(story()) == ["not opened", "open", "closed"]
    loop = VirtualLoop()
    made[0]._lifecycle._loop = loop
    with pytest.raises(ConfigurationError, match="close it there"):
        run(close())
    loop.close()
    run(close())
