"""The callers of one flight, in virtual time: whose deadline runs when, and who hears what."""

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphapo_async.core.results import FlightResult
from alphapo_async.engine.waiters import Report, Waiters
from alphapo_async.timers import FixedDelayTimers
from tests.support.virtual import run

IN_FLIGHT = FlightResult("payout-17", why="in flight")
DONE = FlightResult("payout-17", retry_after=1.0)
DEADLINE = 10.0
MOMENT = 0.04
"""What the last caller of a queueing flight grants it for its own word."""


def now() -> float:
    """Return the virtual time."""
    return asyncio.get_running_loop().time()


class Flight:
    """The flight's side: it queues until it starts, and counts how often it was told that everybody's time is up."""

    def __init__(self, *, is_queueing: bool = False, on_last: Callable[[], None] = lambda: None) -> None:
        self.is_queueing = is_queueing
        self.lasts: list[float] = []
        self._then = on_last
        self.waiters = Waiters(asyncio.get_running_loop(), FixedDelayTimers(DEADLINE), self._on_last, lambda: IN_FLIGHT)

    def _on_last(self) -> bool:
        self.lasts.append(now())
        self._then()
        return self.is_queueing


async def events(future: asyncio.Future[FlightResult]) -> tuple[FlightResult, float]:
    """Return what a caller hears, and when."""
    return await future, now()


def test_a_caller_that_is_dismissed_gets_its_result_once_and_makes_the_flight_late_for_no_other() -> None:
    """The flight continues as if it had not joined."""

    async def story() -> None:
        waiters, results = Flight().waiters, list[FlightResult]()
        caller = waiters.join_with(results.append, fail_fast_in_outage=True)
        waiters.on_outage(has_begun=True)
        waiters.dismiss(caller, DONE)
        waiters.dismiss(caller, DONE)
        await asyncio.sleep(1.0)
        assert results == [DONE]
        assert not waiters.is_late(0.0)
        gone = waiters.join_with(results.append, fail_fast_in_outage=True)
        await asyncio.sleep(1.0)
        waiters.dismiss(gone, DONE)
        assert results == [DONE, IN_FLIGHT]

    run(story())


def test_a_flight_is_wanted_until_its_last_caller_has_left() -> None:
    """At the deadline, by cancelling, or by asking for nothing more; a flight whose first caller has yet to come is wanted."""

    async def story() -> None:
        waiters = Flight().waiters
        assert waiters.is_wanted()
        waiters.join(now() + 1.0)
        cancelled, leaving = waiters.join(now() + 9.0), waiters.join(now() + 9.0)
        await asyncio.sleep(2.0)
        cancelled.cancel()
        assert waiters.is_wanted()
        waiters.stop_waiting(leaving)
        assert not waiters.is_wanted()

    run(story())


def test_a_flight_knows_whether_a_caller_has_joined() -> None:
    """A claimed row that none waits for may be returned."""

    async def story() -> list[bool]:
        waiters = Waiters(asyncio.get_running_loop(), FixedDelayTimers(5.0), lambda: False, lambda: IN_FLIGHT)
        before = waiters.is_joined
        waiters.join(None)
        return [before, waiters.is_joined]

    assert run(story()) == [False, True]


def test_the_policys_deadline_runs_from_the_first_slot() -> None:
    """An hour in the queue counts for nothing; from the slot on it is the policy's deadline."""

    async def story() -> None:
        flight = Flight()
        waiting = flight.waiters.join(None)
        await asyncio.sleep(3600)
        assert not waiting.done()
        assert not flight.waiters.is_late(1e9)
        flight.waiters.start()
        assert flight.waiters.is_running
        assert await events(waiting) == (IN_FLIGHT, 3600 + DEADLINE)
        assert flight.lasts == [3600 + DEADLINE]

    run(story())


@pytest.mark.parametrize("starts_at", [None, 1.0])
def test_the_callers_own_deadline_runs_from_the_call(starts_at: float | None) -> None:
    """The queue is included, and a slot on the way changes nothing."""

    async def story() -> None:
        flight = Flight()
        waiting = flight.waiters.join(now() + 3)
        if starts_at is not None:
            asyncio.get_running_loop().call_later(starts_at, flight.waiters.start)
        assert await events(waiting) == (IN_FLIGHT, 3)

    run(story())


@pytest.mark.parametrize("has_begun", [True, False])
def test_an_own_deadline_knows_no_outage(has_begun: bool) -> None:  # noqa: FBT001 - a parameter
    """An outage moves the policy's deadline, never the caller's own."""

    async def story() -> None:
        flight = Flight()
        waiting = flight.waiters.join(3)
        flight.waiters.on_outage(has_begun)
        assert await events(waiting) == (IN_FLIGHT, 3)

    run(story())


def test_time_in_an_outage_counts_before_the_first_slot() -> None:
    """Kept from a slot from the fifth second on: the policy's deadline is over ten seconds later."""

    async def story() -> None:
        flight = Flight()
        waiting = flight.waiters.join(None)
        await asyncio.sleep(5)
        flight.waiters.on_outage(has_begun=True)
        await asyncio.sleep(1)
        flight.waiters.on_outage(has_begun=True)
        assert await events(waiting) == (IN_FLIGHT, 5 + DEADLINE)

    run(story())


def test_outages_add_up_and_queueing_between_them_does_not_count() -> None:
    """Three seconds of outage, a day in the queue, two more seconds of outage and a slot: five seconds are left."""

    async def story() -> None:
        flight = Flight()
        waiting = flight.waiters.join(None)
        flight.waiters.on_outage(has_begun=True)
        await asyncio.sleep(3)
        flight.waiters.on_outage(has_begun=False)
        flight.waiters.on_outage(has_begun=False)
        await asyncio.sleep(86_400)
        assert not waiting.done()
        flight.waiters.on_outage(has_begun=True)
        await asyncio.sleep(2)
        flight.waiters.start()
        began = now()
        assert await events(waiting) == (IN_FLIGHT, began + DEADLINE - 5)

    run(story())


PHASES = st.lists(st.tuples(st.booleans(), st.integers(1, 4)), max_size=6)


@settings(derandomize=True, max_examples=80, deadline=None)
@given(PHASES)
def test_the_deadline_is_the_sum_of_outages_and_flight(phases: list[tuple[bool, int]]) -> None:
    """Whatever the phases before the slot: outage plus flight is the policy's deadline, to the tick."""

    async def story() -> tuple[float, FlightResult]:
        flight = Flight()
        waiting = flight.waiters.join(None)
        task = asyncio.ensure_future(events(waiting))
        for is_outage, seconds in phases:
            flight.waiters.on_outage(is_outage)
            await asyncio.sleep(seconds)
        flight.waiters.start()
        result, when = await task
        return when, result

    when, result = run(story())

    spent, expected = 0.0, 0.0
    for is_outage, seconds in phases:
        left = DEADLINE - spent
        if is_outage and seconds >= left:
            expected += left
            break
        spent += seconds if is_outage else 0
        expected += seconds
    else:
        expected += DEADLINE - spent
    assert result == IN_FLIGHT
    assert when == pytest.approx(expected)


# ── joining ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("joins_later", [False, True])
def test_whoever_waits_for_no_outage_leaves_with_it(joins_later: bool) -> None:  # noqa: FBT001 - a parameter
    """At once, whether it begins while he waits or before he comes; another caller's patience is his own."""

    async def story() -> None:
        waiters, reports = Flight().waiters, list[tuple[FlightResult, float]]()

        def join() -> Report:
            return waiters.join_with(lambda result: reports.append((result, now())), fail_fast_in_outage=True)

        waiting = None if joins_later else join()
        await asyncio.sleep(100)
        waiters.on_outage(has_begun=True)
        waiting = waiting or join()
        assert await events(waiters.join(None)) == (IN_FLIGHT, 100 + DEADLINE)
        assert waiting.done()
        assert reports == [(IN_FLIGHT, 100)]

    run(story())


def test_whoever_waits_for_no_outage_has_the_policys_deadline_otherwise() -> None:
    """From the first slot on."""

    async def story() -> None:
        waiters, reports = Flight().waiters, list[tuple[FlightResult, float]]()
        waiters.join_with(lambda result: reports.append((result, now())), fail_fast_in_outage=True)
        waiters.start()
        await asyncio.sleep(2 * DEADLINE)
        waiters.resolve(IN_FLIGHT)
        assert reports == [(IN_FLIGHT, DEADLINE)]

    run(story())


def test_a_joining_caller_extends_the_flight_and_each_has_his_own_time() -> None:
    """Joined at the fourth second of a flight: the first hears at ten, the second at fourteen, the flight lives till then."""

    async def story() -> None:
        flight = Flight()
        first = flight.waiters.join(None)
        flight.waiters.start()
        await asyncio.sleep(4)
        second = flight.waiters.join(None)
        impatient = flight.waiters.join(now() + 1)
        assert not flight.waiters.is_late(9)
        assert flight.waiters.is_late(10)
        assert await events(impatient) == (IN_FLIGHT, 5)
        assert await events(first) == (IN_FLIGHT, DEADLINE)
        assert flight.lasts == []
        assert not flight.waiters.is_late(3)
        assert await events(second) == (IN_FLIGHT, 4 + DEADLINE)
        assert flight.lasts == [4 + DEADLINE]

    run(story())


def test_whoever_joins_during_an_outage_shares_the_time_it_has_cost() -> None:
    """The outage keeps the flight from its slot, not the caller: the deadline is the flight's."""

    async def story() -> None:
        flight = Flight()
        flight.waiters.on_outage(has_begun=True)
        await asyncio.sleep(2)
        flight.waiters.on_outage(has_begun=False)
        await asyncio.sleep(50)
        flight.waiters.on_outage(has_begun=True)
        await asyncio.sleep(3)
        assert await events(flight.waiters.join(None)) == (IN_FLIGHT, 52 + DEADLINE - 2)

    run(story())


def test_a_caller_without_end_in_the_queue_keeps_the_flight_alive() -> None:
    """One caller's own deadline ends his wait only, while another still queues on the policy's."""

    async def story() -> None:
        flight = Flight(is_queueing=True)
        queueing = flight.waiters.join(None)
        assert await events(flight.waiters.join(1)) == (IN_FLIGHT, 1)
        assert flight.lasts == []
        assert not queueing.done()

    run(story())


# ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_flight_with_no_caller_is_never_late() -> None:
    """Nobody's time is up where nobody waits."""

    async def story() -> None:
        assert not Flight().waiters.is_late(1e9)

    run(story())


def test_late_is_from_the_tick_of_the_latest_deadline_on() -> None:
    """A wait that ends exactly at the deadline is too long, a shorter one is not."""

    async def story() -> None:
        flight = Flight()
        flight.waiters.join(3)
        flight.waiters.join(5)
        assert not flight.waiters.is_late(4.999)
        assert flight.waiters.is_late(5)
        await asyncio.sleep(2)
        assert flight.waiters.is_late(3)

    run(story())


def test_everybody_is_told_once_and_the_clocks_stop() -> None:
    """All hear the flight's word, also those without a clock; nothing happens later, and a second word is not heard."""

    async def story() -> None:
        flight = Flight()
        waiting = [flight.waiters.join(None), flight.waiters.join(5), flight.waiters.join(None)]
        flight.waiters.resolve(DONE)
        flight.waiters.resolve(IN_FLIGHT)
        assert await asyncio.gather(*waiting) == [DONE] * 3
        await asyncio.sleep(100)
        assert flight.lasts == []

    run(story())


def test_who_left_at_his_deadline_hears_nothing_more() -> None:
    """The flight ends later: only those who still wait are told."""

    async def story() -> None:
        flight = Flight()
        short, long = flight.waiters.join(1), flight.waiters.join(9)
        await asyncio.sleep(2)
        flight.waiters.resolve(DONE)
        assert (await short, await long) == (IN_FLIGHT, DONE)

    run(story())


def test_a_cancelled_caller_does_not_matter() -> None:
    """His future is cancelled: neither the flight's word nor his own timer stumbles over it, and the others hear theirs."""

    async def story() -> None:
        flight = Flight()
        gone, also_gone, there = flight.waiters.join(1), flight.waiters.join(50), flight.waiters.join(20)
        gone.cancel()
        also_gone.cancel()
        await asyncio.sleep(2)
        flight.waiters.resolve(DONE)
        assert await events(there) == (DONE, 2)
        assert gone.cancelled()
        assert also_gone.cancelled()

    run(story())


def test_a_cancelled_callers_flight_goes_on_until_his_deadline() -> None:
    """He loses nothing by leaving: the flight is not late before his time would have been up."""

    async def story() -> None:
        flight = Flight()
        flight.waiters.join(8).cancel()
        await asyncio.sleep(1)
        assert not flight.waiters.is_late(6)
        await asyncio.sleep(20)
        assert flight.lasts == [8]

    run(story())


def test_the_last_caller_ends_a_flight_that_only_queues_and_hears_its_word() -> None:
    """The flight is told, ends by itself in a moment, and its own word is what the caller hears."""

    async def story() -> None:
        flight = Flight(
            is_queueing=True,
            on_last=lambda: (asyncio.get_running_loop().call_later(MOMENT / 2, flight.waiters.resolve, DONE), None)[1],
        )
        first, last = flight.waiters.join(1), flight.waiters.join(3)
        assert await events(first) == (IN_FLIGHT, 1)
        assert await events(last) == (DONE, 3 + MOMENT / 2)
        assert flight.lasts == [3]
        await asyncio.sleep(1)

    run(story())


def test_the_last_caller_does_not_wait_for_ever_for_that_word() -> None:
    """A flight that was to end and does not: a moment after his deadline the caller hears that it is in flight."""

    async def story() -> None:
        flight = Flight(is_queueing=True)
        result, now = await events(flight.waiters.join(3))
        assert result == IN_FLIGHT
        assert now == pytest.approx(3 + MOMENT)

    run(story())


def test_callers_with_one_deadline_all_hear_the_queueing_flights_word() -> None:
    """Whose timer fires first makes no difference to what is heard."""

    async def story() -> None:
        flight = Flight(is_queueing=True)
        waiting = [flight.waiters.join(3), flight.waiters.join(3)]
        await asyncio.sleep(3 + MOMENT / 2)
        flight.waiters.resolve(DONE)
        assert await asyncio.gather(*waiting) == [DONE, DONE]

    run(story())


def test_a_timer_that_fires_a_tick_early_is_on_time() -> None:
    """Event loops round: at his timer a caller's time is up, so the last one is known for the last."""

    async def story() -> None:
        flight = Flight()
        waiting = flight.waiters.join(3)
        await asyncio.sleep(2.9999)
        flight.waiters._on_time_up(flight.waiters._all[0])
        assert (await waiting, len(flight.lasts)) == (IN_FLIGHT, 1)

    run(story())


def test_whoever_comes_after_the_end_is_told_at_once() -> None:
    """A flight may end before its first caller has come."""

    async def story() -> tuple[FlightResult, float]:
        flight = Flight()
        flight.waiters.resolve(DONE)
        return await events(flight.waiters.join(None))

    assert run(story()) == (DONE, 0.0)


@pytest.mark.parametrize("is_alone", [True, False])
def test_whoever_is_released_hears_the_flights_own_word(is_alone: bool) -> None:  # noqa: FBT001 - a parameter
    """His time is up at once, which ends a flight that queues for him alone; he stays until it has ended, however long that takes."""

    async def story() -> None:
        flight = Flight(is_queueing=True)
        released = flight.waiters.join(None)
        others = [] if is_alone else [flight.waiters.join(None)]
        flight.waiters.stop_waiting(released)
        assert flight.waiters.is_late(0.0) is is_alone
        assert len(flight.lasts) == is_alone
        flight.waiters.on_outage(has_begun=True)
        flight.waiters.start()
        assert flight.waiters.is_late(0.0) is is_alone
        await asyncio.sleep(5.0)
        flight.waiters.resolve(DONE)
        for each in (released, *others):
            assert await events(each) == (DONE, 5.0)

    run(story())
