"""Group commit: many requests, few groups, everybody told."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable

import pytest

from alphapo_async.journal.sqlite import commit_thread as module
from alphapo_async.journal.sqlite.commit_thread import LAG, LINGER, CommitThread, ThreadCall
from alphapo_async.supervisor import Supervisor

LEFT = ValueError("left")


class Desk:
    """Serves groups and remembers their sizes; slow enough that company gathers."""

    def __init__(self, seconds: float = 0.0) -> None:
        self.sizes: list[int] = []
        self.ended = 0
        self.seconds = seconds
        self.group: CommitThread[Desk] = CommitThread("desk", self.serve, self.end)

    def serve(self, group: list[ThreadCall[Desk]]) -> None:
        """Run each request."""
        self.sizes.append(len(group))
        time.sleep(self.seconds)
        for request in group:
            request.result = request.run(self)

    def end(self) -> None:
        """Count the ends."""
        self.ended += 1


async def test_what_is_asked_is_done_in_another_thread() -> None:
    """And its result comes back."""
    desk = Desk()
    assert await desk.group.ask(lambda _desk: threading.current_thread().name) == "desk"
    await desk.group.aclose(10.0, LEFT)
    assert desk.ended == 1


async def test_what_is_asked_while_one_is_served_shares_the_next_group() -> None:
    """A hundred at once are a few groups, and every one has its own result, in order."""
    desk = Desk(0.01)

    def tell(number: int) -> Callable[[Desk], int]:
        return lambda _desk: number

    told = await asyncio.gather(*(desk.group.ask(tell(number)) for number in range(100)))
    assert told == list(range(100))
    assert len(desk.sizes) <= 5
    await desk.group.aclose(10.0, LEFT)


async def test_what_no_future_takes_is_told_as_another_error() -> None:
    """And those that are told after it still hear."""
    desk = Desk()

    def serve(group: list[ThreadCall[Desk]]) -> None:
        time.sleep(0.01)
        for request in group:
            request.error = request.run(desk)

    desk.group._serve = serve
    first = desk.group.ask(lambda _: None)
    together = [desk.group.ask(lambda _: StopIteration()), desk.group.ask(lambda _: KeyError("mine"))]
    told = await asyncio.wait_for(asyncio.gather(first, *together, return_exceptions=True), 10)
    assert [type(one) for one in told] == [type(None), RuntimeError, KeyError]
    assert "StopIteration" in str(told[1])
    await desk.group.aclose(10.0, LEFT)


async def test_what_may_lag_rides_on_the_next_group() -> None:
    """It begins none by itself, until it has waited long enough."""
    desk = Desk()
    await desk.group.ask(lambda _desk: None)
    began = time.monotonic()
    lagging = asyncio.ensure_future(desk.group.ask(lambda _desk: "late", may_lag=True))
    await asyncio.sleep(0)
    assert await desk.group.ask(lambda _desk: "urgent") == "urgent"
    assert await lagging == "late"
    assert desk.sizes == [1, 2]
    assert await desk.group.ask(lambda _desk: "alone", may_lag=True) == "alone"
    assert time.monotonic() - began >= LAG
    await desk.group.aclose(10.0, LEFT)


def test_nobody_waits_for_company_longer_than_a_flush_takes() -> None:
    """A few milliseconds where there is company, and a moment more for what may lag."""
    assert 0.0 < LINGER < LAG < 0.1


class Growing(list[ThreadCall[Desk]]):
    """Requests of which more have come whenever somebody looks; a hundred looks at most."""

    def __init__(self) -> None:
        super().__init__()
        self.looks = 0

    def __len__(self) -> int:
        self.looks = min(self.looks + 1, 100)
        return self.looks


def test_company_that_keeps_coming_is_not_waited_for() -> None:
    """A group is written a moment later, however many still come."""
    desk, waiting = Desk(), Growing()
    desk.group._waiting = waiting
    with desk.group._news:
        desk.group._gather()
    assert waiting.looks < 100


async def test_closing_serves_what_is_left_first() -> None:
    """Also what may lag."""
    desk = Desk()
    left = [asyncio.ensure_future(desk.group.ask(lambda _desk: "done", may_lag=True)) for _ in range(3)]
    await asyncio.sleep(0)
    await desk.group.aclose(10.0, LEFT)
    assert await asyncio.gather(*left) == ["done"] * 3
    with pytest.raises(RuntimeError, match="closed"):
        await desk.group.ask(lambda _desk: None)


async def test_closing_what_was_never_used_does_nothing() -> None:
    """There is no thread."""
    desk = Desk()
    await desk.group.aclose(10.0, LEFT)
    assert desk.ended == 0


async def test_closing_leaves_a_thread_behind_that_hangs() -> None:
    """Each call that is not served by then fails; the thread ends by itself when it comes back, and is not waited for again."""
    desk, may_go = Desk(), threading.Event()
    hanging = desk.group.ask(lambda _desk: may_go.wait(10))
    await asyncio.sleep(0.02)
    waiting = desk.group.ask(lambda _desk: None)
    gone = desk.group.ask(lambda _desk: None)
    gone.cancel()
    began = time.monotonic()
    await desk.group.aclose(0.05, LEFT)
    assert time.monotonic() - began < 1.0
    for told in await asyncio.gather(hanging, waiting, return_exceptions=True):
        assert isinstance(told, ValueError)
        assert str(told) == "left"
    may_go.set()
    await desk.group.aclose(10.0, LEFT)
    assert desk.ended == 1
    await desk.group.aclose(10.0, LEFT)


async def test_a_call_of_a_loop_that_has_ended_is_left_too() -> None:
    """Nobody waits in it."""
    desk, may_go = Desk(), threading.Event()

    async def ask() -> None:
        desk.group.ask(lambda _desk: may_go.wait(10))

    await asyncio.to_thread(asyncio.run, ask())
    await desk.group.aclose(0.02, LEFT)
    may_go.set()
    await desk.group.aclose(10.0, LEFT)


async def test_a_call_that_is_served_while_it_is_left_keeps_its_result() -> None:
    """The thread was quicker."""
    desk = Desk()
    call: ThreadCall[Desk] = ThreadCall(lambda _: None, writes=False, lag=0.0)
    call.fail(LEFT)
    call.tell()
    assert await call.future is None
    call.fail(LEFT)
    await asyncio.sleep(0)
    assert call.future.result() is None
    assert desk.ended == 0


async def test_a_fault_of_the_server_itself_is_told_to_all() -> None:
    """Nobody waits for ever, and the thread goes on."""
    desk = Desk()
    told = await asyncio.gather(desk.group.ask(lambda _desk: 1 / 0), return_exceptions=True)
    assert isinstance(told[0], ZeroDivisionError)
    assert await desk.group.ask(lambda _desk: "fine") == "fine"
    await desk.group.aclose(10.0, LEFT)


async def test_an_error_of_the_thread_itself_is_reported_and_does_not_end_it() -> None:
    """Of a group, which hears of it, or between two groups."""
    desk, reported = Desk(), list[str]()
    desk.group = CommitThread("desk", desk.serve, desk.end, pause=0.01)
    desk.group.supervisor = Supervisor(lambda task, error: reported.append(f"{task} {type(error).__name__}"))
    await asyncio.gather(desk.group.ask(lambda _desk: 1 / 0), return_exceptions=True)
    await asyncio.sleep(0.01)
    with desk.group._lock:  # what it cannot go through
        desk.group._waiting = None  # type: ignore[assignment]
        desk.group._due = 0.0
        desk.group._news.notify()
    await asyncio.sleep(0.005)
    desk.group._waiting, desk.group.supervisor = [], Supervisor(lambda task, _: reported.append(task))
    assert await desk.group.ask(lambda _desk: "fine") == "fine"
    await desk.group.aclose(9.0, LEFT)
    assert reported[0] == "journal thread ZeroDivisionError"


def test_an_error_of_the_thread_that_no_loop_can_hear_of_does_not_end_it() -> None:
    """Before the first request, and after the loop of the last one has closed."""
    desk = Desk()
    desk.group._report(ValueError())

    async def use() -> None:
        await desk.group.ask(lambda _desk: None)

    asyncio.run(use())
    desk.group._report(ValueError())
    asyncio.run(desk.group.aclose(9.0, LEFT))


async def test_whoever_left_is_not_told() -> None:
    """A cancelled caller; the work is done all the same."""
    desk = Desk(0.02)
    asking = asyncio.ensure_future(desk.group.ask(lambda one: one.sizes.append(-1)))
    await asyncio.sleep(0.005)
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    await desk.group.aclose(10.0, LEFT)
    assert -1 in desk.sizes


def test_a_loop_that_has_ended_is_passed_over() -> None:
    """Several loops may share a group; one that closed meanwhile does not disturb the others."""
    desk = Desk(0.05)

    async def leave() -> None:
        asyncio.ensure_future(desk.group.ask(lambda _desk: "nobody waits")).cancel()
        waiting = asyncio.ensure_future(desk.group.ask(lambda _desk: "nobody waits"))
        await asyncio.sleep(0.001)
        waiting.cancel()

    async def stay() -> str:
        told = await desk.group.ask(lambda _desk: "told")
        await desk.group.aclose(10.0, LEFT)
        return str(told)

    asyncio.run(leave())
    assert asyncio.run(stay()) == "told"


async def test_a_thread_lets_go_before_a_fork_and_goes_on_after_it() -> None:
    """In the parent; what is asked meanwhile is served afterwards."""
    desk = Desk()
    await desk.group.ask(lambda _desk: None)
    module._before_fork()
    assert (desk.ended, desk.group._stands_still) == (1, True)
    asked = desk.group.ask(lambda _desk: "served")
    await asyncio.sleep(0.02)
    assert not asked.done()
    module._after_fork_in_parent()
    assert await asked == "served"
    await desk.group.aclose(10.0, LEFT)
    module._before_fork()
    module._after_fork_in_parent()
    assert desk.ended == 2  # a thread that has ended holds nothing


async def test_a_fork_does_not_wait_for_a_thread_for_ever() -> None:
    """It hangs in a transaction, or another thread of the program keeps it locked."""
    desk = Desk()
    busy, goes_on = threading.Event(), threading.Event()

    def hang(_desk: Desk) -> None:
        busy.set()
        goes_on.wait(10)

    hanging = desk.group.ask(hang)
    busy.wait(10)
    began = time.monotonic()
    desk.group.let_go(0.05)
    with desk.group._lock:
        desk.group.let_go(0.05)
    assert 0.1 <= time.monotonic() - began < 1.0
    assert not desk.group._stands_still
    goes_on.set()
    desk.group.go_on()
    await hanging
    await desk.group.aclose(10.0, LEFT)


async def test_in_a_forked_child_another_thread_begins() -> None:
    """With nothing that the parent asked for; what the parent's thread did not let go of is lost."""
    lost: list[str] = []
    for is_in_time in (True, False):
        desk = Desk()
        desk.group = CommitThread("desk", desk.serve, desk.end, lost=lambda: lost.append("lost"))
        await desk.group.ask(lambda _desk: None)
        thread = desk.group._thread
        if is_in_time:
            desk.group.let_go(10.0)
        desk.group.begin_anew()
        assert await desk.group.ask(lambda _desk: "anew") == "anew"
        assert desk.group._thread is not thread
        await desk.group.aclose(10.0, LEFT)
    assert lost == ["lost"]
    module._after_fork_in_child()


async def test_a_thread_that_the_system_refuses_is_asked_for_again() -> None:
    """The next request works."""
    desk = Desk()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            desk.group.ask(lambda _desk: None)
    assert await desk.group.ask(lambda _desk: "fine") == "fine"
    await desk.group.aclose(10.0, LEFT)


def refuse(_thread: threading.Thread) -> None:
    """Do what the system does when it has no thread left."""
    raise RuntimeError("can't start new thread")
