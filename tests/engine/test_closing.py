"""Closing: every step in order, within a bound, whoever waits for it or cancels it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

import pytest

from alphapo_async.engine.closing import BOUND, Closing, Step
from tests.support.virtual import VirtualLoop, run


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
    told = [closing.is_lost]
    loop.close()
    told.append(closing.is_lost)
    assert told == [False, True]
    closing._task._log_destroy_pending = False  # type: ignore[attr-defined]
