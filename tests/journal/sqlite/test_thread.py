"""The thread that works on a journal's file."""

from __future__ import annotations

import asyncio
import threading
import time
from functools import partial

import pytest

from alphapo_async.journal.sqlite import thread as module
from alphapo_async.journal.sqlite.thread import JournalThread


class Desk:
    """Counts what the thread does."""

    def __init__(self) -> None:
        self.done: list[str] = []
        self.released = 0
        self.forks: list[bool] = []
        self.thread = JournalThread("desk", self.release, self.forks.append)

    def release(self) -> None:
        """Count the times that all is released."""
        self.released += 1

    def name(self) -> None:
        """Keep the thread's name."""
        self.done.append(threading.current_thread().name)


async def test_work_is_done_in_another_thread_in_order() -> None:
    """One thing after another; the end releases everything."""
    desk = Desk()
    work = [desk.thread.run(desk.name), *(desk.thread.run(partial(desk.done.append, f"{one}")) for one in range(9))]
    await asyncio.gather(*work)
    assert desk.done == ["desk", *"012345678"]
    await desk.thread.aclose()
    assert desk.released == 1
    assert "desk" not in [one.name for one in threading.enumerate()]


async def test_an_error_is_the_callers_alone() -> None:
    """The thread does what comes behind it."""
    desk = Desk()
    failed = desk.thread.run(lambda: desk.done.append(1 / 0))  # type: ignore[arg-type]
    await desk.thread.run(desk.name)
    with pytest.raises(ZeroDivisionError):
        await failed
    assert desk.done == ["desk"]
    await desk.thread.aclose()


async def test_closing_does_what_is_left_first() -> None:
    """And refuses what comes later."""
    desk = Desk()
    left = [desk.thread.run(desk.name) for _ in range(3)]
    await desk.thread.aclose()
    assert [one.done() for one in left] == [True] * 3
    with pytest.raises(RuntimeError, match="closed"):
        desk.thread.run(desk.name)
    await desk.thread.aclose()
    assert desk.released == 1


async def test_closing_what_was_never_used_does_nothing() -> None:
    """There is no thread."""
    desk = Desk()
    await desk.thread.aclose()
    assert desk.released == 0


async def test_a_thread_that_hangs_is_left_behind_and_can_be_waited_for_later() -> None:
    """It ends when it comes back; a future that its caller has cancelled stays cancelled."""
    desk, may_go = Desk(), threading.Event()
    hanging = desk.thread.run(lambda: desk.done.append(f"{may_go.wait(10)}"))
    cancelled = desk.thread.run(desk.name)
    cancelled.cancel()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.02):
            await desk.thread.aclose()
    assert not hanging.done()
    may_go.set()
    await desk.thread.aclose()
    await hanging
    assert desk.done == ["True", "desk"]
    assert cancelled.cancelled()


async def test_a_loop_that_has_ended_is_passed_over() -> None:
    """Several loops may share a thread."""
    desk, may_go = Desk(), threading.Event()

    async def leave() -> None:
        desk.thread.run(lambda: desk.done.append(f"{may_go.wait(10)}"))

    await asyncio.to_thread(asyncio.run, leave())
    may_go.set()
    await desk.thread.run(desk.name)
    assert desk.done == ["True", "desk"]
    await desk.thread.aclose()


async def test_a_fork_waits_until_everything_is_released() -> None:
    """The parent's thread then works on; what is asked meanwhile is done afterwards."""
    desk = Desk()
    await desk.thread.run(desk.name)
    module._before_fork()
    assert desk.released == 1
    wanted = desk.thread.run(desk.name)
    await asyncio.sleep(0.02)
    assert not wanted.done()
    module._after_fork_in_parent()
    await wanted
    await desk.thread.aclose()
    module._before_fork()
    module._after_fork_in_parent()


async def test_a_fork_does_not_wait_for_a_thread_for_ever() -> None:
    """The thread hangs in a transaction, and nothing is taken from it."""
    desk, busy, may_go = Desk(), threading.Event(), threading.Event()

    def hang() -> None:
        busy.set()
        may_go.wait(10)

    hanging = desk.thread.run(hang)
    busy.wait(10)
    began = time.monotonic()
    desk.thread.let_go(0.05)
    assert 0.05 <= time.monotonic() - began < 1.0
    assert desk.released == 0
    desk.thread.resume()
    may_go.set()
    await hanging
    await desk.thread.aclose()


async def test_in_a_forked_child_another_thread_begins() -> None:
    """The child hears whether all was released in time; before any use there was nothing to release."""
    desk = Desk()
    desk.thread.begin_anew()
    await desk.thread.run(desk.name)
    first = desk.thread._thread
    desk.thread.let_go()
    desk.thread.begin_anew()
    await desk.thread.run(desk.name)
    assert desk.thread._thread is not first
    desk.thread.begin_anew()
    assert desk.forks == [True, True, False]
    module._after_fork_in_child()
    module._FORKING.acquire()
    module._FORKING.release()


async def test_a_thread_that_the_system_refuses_is_asked_for_again() -> None:
    """The next work is done."""
    desk = Desk()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            desk.thread.run(desk.name)
    await desk.thread.run(desk.name)
    await desk.thread.aclose()


def refuse(_thread: threading.Thread) -> None:
    """Do what the system does when it has no thread left."""
    raise RuntimeError("can't start new thread")
