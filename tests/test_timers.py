"""Alarms that run equally long, in virtual time."""

import asyncio
from functools import partial

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphapo_async.supervisor import Supervisor
from alphapo_async.timers import FixedDelayTimers
from tests.support.virtual import run


def test_each_goes_off_when_its_time_is_up() -> None:
    """Not a moment earlier or later, and in the order in which they were set; one that is cancelled does not."""

    async def story() -> tuple[list[tuple[str, float]], str]:
        loop, events, timers = asyncio.get_running_loop(), list[tuple[str, float]](), FixedDelayTimers(3.0)
        first = timers.start(loop, lambda: events.append(("first", loop.time())))
        await asyncio.sleep(1)
        timers.start(loop, lambda: events.append(("second", loop.time())))
        await asyncio.sleep(1)
        timers.start(loop, lambda: events.append(("third", loop.time())))
        first.cancel()
        shown = repr(timers)
        await asyncio.sleep(9)
        return events, shown

    assert run(story()) == ([("second", 4.0), ("third", 5.0)], "FixedDelayTimers(3.0 s, 2 running)")


def test_cancelled_or_over_it_is_cancelled_without_harm() -> None:
    """Whoever cancels need not know."""

    async def story() -> int:
        loop, events, timers = asyncio.get_running_loop(), list[None](), FixedDelayTimers(1.0)
        alarm = timers.start(loop, lambda: events.append(None))
        await asyncio.sleep(2)
        alarm.cancel()
        alarm.cancel()
        other = timers.start(loop, lambda: events.append(None))
        other.cancel()
        other.callback()
        await asyncio.sleep(2)
        return len(events)

    assert run(story()) == 1


def test_one_that_raises_does_not_keep_the_others_from_going_off() -> None:
    """The supervisor reports the error, and whoever comes after is called all the same."""

    async def story() -> tuple[list[float], int]:
        loop, events, complaints = asyncio.get_running_loop(), list[float](), list[object]()
        timers = FixedDelayTimers(1.0, Supervisor(lambda *result: complaints.append(result)))
        timers.start(loop, lambda: events.append(1 / 0))
        timers.start(loop, lambda: events.append(loop.time()))
        await asyncio.sleep(0.5)
        timers.start(loop, lambda: events.append(loop.time()))
        await asyncio.sleep(5)
        return events, len(complaints)

    assert run(story()) == ([1.0, 1.5], 1)


def test_one_that_sets_the_next_is_followed_by_it() -> None:
    """Also where nothing else runs, and where others do."""

    async def story() -> list[float]:
        loop, events, timers = asyncio.get_running_loop(), list[float](), FixedDelayTimers(1.0)

        def again() -> None:
            events.append(loop.time())
            if len(events) < 3:
                timers.start(loop, again)

        timers.start(loop, again)
        await asyncio.sleep(10)
        return events

    assert run(story()) == [1.0, 2.0, 3.0]


def test_one_that_sets_another_does_not_delay_earlier_ones() -> None:
    """They go off when their own time is up."""

    async def story() -> list[tuple[str, float]]:
        loop, events, timers = asyncio.get_running_loop(), list[tuple[str, float]](), FixedDelayTimers(3.0)

        def note(name: str, following: str | None = None) -> None:
            events.append((name, loop.time()))
            if following is not None:
                timers.start(loop, partial(note, following))

        timers.start(loop, partial(note, "first", "third"))
        await asyncio.sleep(1)
        timers.start(loop, partial(note, "second"))
        await asyncio.sleep(9)
        return events

    assert run(story()) == [("first", 3.0), ("second", 4.0), ("third", 6.0)]


def test_in_another_loop_it_begins_anew() -> None:
    """What was set in a loop that is gone never goes off, and does not keep what is set now from going off."""
    timers, events = FixedDelayTimers(1.0), list[str]()

    async def story(name: str, seconds: float) -> None:
        timers.start(asyncio.get_running_loop(), partial(events.append, name))
        await asyncio.sleep(seconds)

    run(story("gone", 0.5))
    run(story("here", 2))

    assert events == ["here"]


@settings(derandomize=True, max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 5), st.none() | st.integers(0, 20)), max_size=30))
def test_they_are_as_punctual_as_timers_of_the_loop(steps: list[tuple[int, int | None]]) -> None:
    """After any pauses, with any of them cancelled at any time, each goes off when a timer would."""

    async def story() -> tuple[list[tuple[int, float]], list[tuple[int, float]]]:
        loop, timers = asyncio.get_running_loop(), FixedDelayTimers(7.0)
        events, wanted = list[tuple[int, float]](), list[tuple[int, float]]()

        def note(where: list[tuple[int, float]], number: int) -> None:
            where.append((number, loop.time()))

        for number, (pause, cancelled_after) in enumerate(steps):
            await asyncio.sleep(pause + 0.25)
            alarm = timers.start(loop, partial(note, events, number))
            timer = loop.call_later(7.0, note, wanted, number)
            if cancelled_after is not None:
                loop.call_later(cancelled_after + 0.125, alarm.cancel)
                loop.call_later(cancelled_after + 0.125, timer.cancel)
        await asyncio.sleep(30)
        return events, wanted

    events, wanted = run(story())

    assert [number for number, _ in events] == [number for number, _ in wanted]
    assert [when for _, when in events] == pytest.approx([when for _, when in wanted])
