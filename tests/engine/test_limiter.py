"""The gate in virtual time: who leaves when, and that no slot is ever lost."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from math import inf
from typing import Any

import pytest
import uvloop
from hypothesis import given, settings
from hypothesis import strategies as st

from alphapo_async.core.rate_limit import STREAK, Permit, Priority
from alphapo_async.core.replies import InDoubt, NoAnswer, NoneFound, NotSent, Rejected
from alphapo_async.core.retry_policy import RetryPolicy
from alphapo_async.engine.limiter import RequestLimiter
from alphapo_async.session import Slots
from alphapo_async.supervisor import Supervisor
from tests.support.virtual import run

NO = Rejected({})
SILENT = InDoubt("no answer in time")
POLICY = RetryPolicy()
KINDS = st.sampled_from(list(Priority))


def now() -> float:
    """Return the virtual time."""
    return asyncio.get_running_loop().time()


class Yard:
    """A gate, and what has left through it."""

    def __init__(self, slots: int | Slots = 1, *, max_rate: float | None = None, policy: RetryPolicy = POLICY) -> None:
        self.slots = Slots(slots) if isinstance(slots, int) else slots
        self.outages: list[tuple[float, bool]] = []
        on_outage = lambda begun: self.outages.append((now(), begun))  # noqa: E731
        self.supervisor = Supervisor()
        self.limiter = RequestLimiter(self.slots, policy, max_rate, on_outage, self.supervisor)
        self.log: list[tuple[Any, float]] = []
        self.under_way = 0
        self.most = 0

    async def enter(self, priority: Priority) -> Permit:
        """Wait for a ticket as long as it takes."""
        loop = asyncio.get_running_loop()
        permit = self.limiter.try_acquire(priority, loop) or await self.limiter.wait_in(
            self.limiter.queue(priority, loop)
        )
        assert permit is not None
        return permit

    async def send(self, priority: Priority, judged: Any = NO, *, name: Any = None, seconds: float = 0.0) -> None:
        """One request from the queue to its answer."""
        permit = await self.enter(priority)
        self.log.append((priority if name is None else name, now()))
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            judged = None
            raise
        finally:
            self.under_way -= 1
            self.limiter.release(permit, judged)

    async def fall(self) -> None:
        """Twenty bodies in a row without a readable answer."""
        for _ in range(20):
            await self.send(Priority.FIRST, SILENT)


# ── order ────────────────────────────────────────────────────────────────────────────────────────────────────────────


@settings(derandomize=True, max_examples=60, deadline=None)
@given(st.lists(KINDS, max_size=20), st.integers(1, 3))
def test_look_ups_leave_before_questions_before_retries_before_first_attempts(
    kinds: list[Priority], slots: int
) -> None:
    """Whatever the order in which they come, they leave by kind, and within a kind in the order in which they came."""

    async def story() -> list[Any]:
        yard = Yard(slots)
        async with asyncio.TaskGroup() as group:
            for _ in range(slots):
                group.create_task(yard.send(Priority.FIRST, name="earlier", seconds=1))
            await asyncio.sleep(0)
            for number, priority in enumerate(kinds):
                group.create_task(yard.send(priority, name=(priority, number), seconds=1))
        assert yard.slots.free == slots
        assert yard.most <= slots
        return [name for name, _ in yard.log[slots:]]

    assert run(story()) == sorted((priority, number) for number, priority in enumerate(kinds))


def test_a_free_slot_is_taken_at_once() -> None:
    """Nobody waits who need not: as many enter as there are slots, and the next one waits."""

    async def story() -> None:
        yard, loop = Yard(2), asyncio.get_running_loop()
        tickets = [yard.limiter.try_acquire(Priority.FIRST, loop) for _ in range(3)]
        assert [permit is not None for permit in tickets] == [True, True, False]
        assert yard.slots.free == 0

    run(story())


def test_nobody_is_overtaken_by_a_newcomer() -> None:
    """Where others queue for time, even a look-up goes through the queue, which lets it pass by its kind."""

    async def story() -> None:
        yard, loop = Yard(5, max_rate=1), asyncio.get_running_loop()
        await yard.send(Priority.FIRST)
        waiting = yard.limiter.queue(Priority.FIRST, loop)
        assert not waiting.done()
        assert yard.limiter.try_acquire(Priority.LOOK_UP, loop) is None
        assert yard.limiter.queue(Priority.LOOK_UP, loop).done()
        await waiting
        assert now() == 1

    run(story())


def test_a_slot_is_held_for_one_request_only() -> None:
    """With one slot two withdrawals take turns: while one waits between its requests the other sends."""

    async def story() -> list[Any]:
        yard = Yard(1)

        async def twice(name: str) -> None:
            for priority in (Priority.FIRST, Priority.RETRY):
                await yard.send(priority, name=name, seconds=1)
                await asyncio.sleep(0.5)

        await asyncio.gather(twice("a"), twice("b"))
        return yard.log

    assert run(story()) == [("a", 0), ("b", 1), ("a", 2), ("b", 3)]


# ── rate ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@settings(derandomize=True, max_examples=30, deadline=None)
@given(st.floats(0.2, 500), st.integers(2, 40), st.floats(0, 100))
def test_the_rate_is_smooth_from_the_first_second(rate: float, number: int, idle: float) -> None:
    """First attempts are evenly spaced from the first on, and an idle time is not made up for with a burst."""

    async def story() -> list[float]:
        yard = Yard(100, max_rate=rate)
        await asyncio.sleep(idle)
        await asyncio.gather(*(yard.send(Priority.FIRST) for _ in range(number)))
        return [when for _, when in yard.log]

    times = run(story())

    assert times == pytest.approx([idle + n / rate for n in range(number)], abs=1e-6)


@pytest.mark.parametrize(("late", "last"), [(0.004, 0.99), (0.02, 0.99), (0.5, 9.45)])
def test_a_rate_is_reached_though_the_clock_is_late(late: float, last: float) -> None:
    """What a timer is late the next ones are not; but for what cannot be made up without a burst."""

    async def story() -> list[float]:
        yard = Yard(100, max_rate=100.0)
        loop = asyncio.get_running_loop()

        def be_busy() -> None:
            loop._jumping.now += late  # type: ignore[attr-defined]
            loop.call_later(0.001, be_busy)

        loop.call_soon(be_busy)
        await asyncio.gather(*(yard.send(Priority.FIRST) for _ in range(100)))
        return [when for _, when in yard.log]

    times = run(story())
    assert times[-1] == pytest.approx(last, abs=2 * late + 0.01)
    assert all(sum(when <= each < when + 0.1 for each in times) <= 10 + 100 * min(late, 0.05) + 1 for when in times)


def test_the_rate_counts_every_body() -> None:
    """What is sent again has its turn before what was not sent yet; look-ups and questions leave between them."""

    async def story() -> tuple[list[float], list[float]]:
        yard = Yard(100, max_rate=0.1)
        await yard.send(Priority.FIRST)
        late = asyncio.ensure_future(yard.send(Priority.FIRST))
        await asyncio.sleep(0)
        again = asyncio.ensure_future(yard.send(Priority.RETRY, name="again"))
        await asyncio.sleep(0)
        for priority in (Priority.LOOK_UP, Priority.QUESTION):
            await yard.send(priority)
        await asyncio.gather(late, again)
        return [when for _, when in yard.log], [when for name, when in yard.log if name == "again"]

    assert run(story()) == ([0, 0, 0, 10, 20], [10])


# ── throttling ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("asked", "held"), [(7.0, 7.0), (None, POLICY.wait_initial), (86_400.0, 60.0), (0.0, 0.0)])
@pytest.mark.parametrize("judged", [NotSent, NoAnswer])
def test_throttling_holds_everything_back(judged: Any, asked: float | None, held: float) -> None:
    """A 429 to anything holds back every kind for as long as it asks, at most a minute; without a word for `wait_initial`."""

    async def story() -> list[float]:
        yard = Yard(100)
        await yard.send(Priority.QUESTION, judged("throttled", retry_after=asked))
        await asyncio.gather(*(yard.send(priority) for priority in Priority))
        return [when for _, when in yard.log[1:]]

    assert run(story()) == [held] * len(Priority)


def test_after_throttling_sending_opens_gradually() -> None:
    """Two bodies at once, then twice as many with every round trip; look-ups do not count."""

    async def story() -> tuple[list[int], int]:
        yard = Yard(100)
        await yard.send(Priority.FIRST, NotSent("throttled", retry_after=1))
        async with asyncio.TaskGroup() as group:
            for _ in range(14):
                group.create_task(yard.send(Priority.FIRST, seconds=1))
            group.create_task(yard.send(Priority.QUESTION))
        left = [when for name, when in yard.log[1:] if name is Priority.FIRST]
        return [left.count(second) for second in (1, 2, 3)], yard.slots.free

    assert run(story()) == ([2, 4, 8], 100)


# ── outages ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_in_an_outage_bodies_leave_as_probes_alone() -> None:
    """After twenty silent bodies: the first probe after `wait_initial`, each next after twice as long, up to `wait_max`."""

    async def story() -> tuple[list[float], list[Any], float]:
        yard = Yard(100, policy=RetryPolicy(wait_initial=1.0, wait_max=5.0))
        await yard.fall()
        await asyncio.gather(*(yard.send(Priority.FIRST, SILENT) for _ in range(5)))
        return [when for _, when in yard.log[20:]], yard.outages, yard.limiter.state.tokens

    assert run(story()) == ([1, 3, 7, 12, 17], [(0, True)], 100)


def test_a_retry_probes_before_a_first_attempt_and_look_ups_go_on() -> None:
    """Look-ups leave at once during an outage; of the bodies the waiting retry goes first."""

    async def story() -> list[Any]:
        yard = Yard(100, policy=RetryPolicy(wait_initial=1.0))
        await yard.fall()
        async with asyncio.TaskGroup() as group:
            for priority in (Priority.FIRST, Priority.RETRY, Priority.QUESTION, Priority.LOOK_UP):
                group.create_task(yard.send(priority, NoAnswer("HTTP 502") if priority < Priority.RETRY else SILENT))
        return yard.log[20:]

    assert run(story()) == [(Priority.QUESTION, 0), (Priority.LOOK_UP, 0), (Priority.RETRY, 1), (Priority.FIRST, 3)]


def test_a_readable_answer_ends_the_outage_and_sending_ramps_up() -> None:
    """The probe that is answered opens the window to two bodies, then four, then eight."""

    async def story() -> tuple[list[int], list[Any]]:
        yard = Yard(100, policy=RetryPolicy(wait_initial=1.0))
        await yard.fall()
        async with asyncio.TaskGroup() as group:
            for _ in range(15):
                group.create_task(yard.send(Priority.FIRST, seconds=0.5))
        left = [when for _, when in yard.log[20:]]
        return [left.count(when) for when in (1, 1.5, 2, 2.5)], yard.outages

    assert run(story()) == ([1, 2, 4, 8], [(0, True), (1.5, False)])


def test_the_gate_knows_until_when_the_latest_outage_lasted() -> None:
    """Never, still, and since when it is over."""

    async def story() -> list[float]:
        yard = Yard(100, policy=RetryPolicy(wait_initial=1.0))
        until = [yard.limiter.outage_until]
        await yard.fall()
        until.append(yard.limiter.outage_until)
        await yard.send(Priority.FIRST, seconds=0.5)
        await asyncio.sleep(5)
        return [*until, yard.limiter.outage_until]

    assert run(story()) == [-inf, inf, 1.5]


def test_look_ups_say_nothing_about_an_outage() -> None:
    """Twenty silent look-ups are no outage, a look-up that is answered ends none, and neither does a cancelled body."""

    async def story() -> tuple[list[Any], list[Any]]:
        yard = Yard(100)
        for _ in range(25):
            await yard.send(Priority.QUESTION, NoAnswer("HTTP 502"))
        before = list(yard.outages)
        await yard.fall()
        await yard.send(Priority.QUESTION, NoneFound())
        yard.limiter.release(await yard.enter(Priority.FIRST), None)
        return before, yard.outages

    before, outages = run(story())

    assert before == []
    assert outages == [(0, True)]


# ── the budget ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_empty_budget_makes_retries_and_look_ups_wait_and_nobody_else() -> None:
    """A hundred unanswered look-ups empty it; then one leaves every two seconds, and first requests of a call are free."""

    async def story() -> list[Any]:
        yard = Yard(500)
        for _ in range(100):
            await yard.send(Priority.LOOK_UP, NoAnswer("HTTP 502"))
        async with asyncio.TaskGroup() as group:
            for priority in (Priority.LOOK_UP, Priority.LOOK_UP, Priority.RETRY, Priority.QUESTION, Priority.FIRST):
                group.create_task(yard.send(priority, NoAnswer("HTTP 502"), seconds=9))
        return yard.log[100:]

    assert run(story()) == [
        (Priority.QUESTION, 0),
        (Priority.FIRST, 0),
        (Priority.LOOK_UP, 2),
        (Priority.LOOK_UP, 4),
        (Priority.RETRY, 6),
    ]


def test_definite_replies_give_their_tokens_back() -> None:
    """A thousand look-ups answered "none" never wait."""

    async def story() -> float:
        yard = Yard(10)
        for _ in range(1000):
            await yard.send(Priority.LOOK_UP, NoneFound())
        return now()

    assert run(story()) == 0


# ── giving up, cancelling, closing ───────────────────────────────────────────────────────────────────────────────────


def test_waiting_ends_with_a_ticket_or_when_the_time_is_up() -> None:
    """`wait` gives None after its seconds; the place is no longer in anybody's way, and the timer does not linger."""

    async def story() -> None:
        yard, loop = Yard(1), asyncio.get_running_loop()
        permit = await yard.enter(Priority.FIRST)
        assert await yard.limiter.wait(Priority.QUESTION, loop, 3) is None
        assert now() == 3
        waiting = asyncio.ensure_future(yard.limiter.wait(Priority.QUESTION, loop, 3))
        await asyncio.sleep(1)
        yard.limiter.release(permit, NO)
        second = await waiting
        assert second is not None
        assert now() == 4
        await asyncio.sleep(10)
        yard.limiter.release(second, NoneFound())
        assert yard.slots.free == 1
        assert yard.limiter.try_acquire(Priority.FIRST, loop) is not None

    run(story())


def test_a_ticket_already_given_stays_given() -> None:
    """Giving up a place that has its ticket changes nothing; the slot is in use until it is left."""

    async def story() -> None:
        yard, loop = Yard(1), asyncio.get_running_loop()
        queued = yard.limiter.queue(Priority.FIRST, loop)
        yard.limiter.give_up(queued)
        permit = await yard.limiter.wait_in(queued)
        assert permit is not None
        assert yard.slots.free == 0
        yard.limiter.release(permit, NO)
        assert yard.slots.free == 1

    run(story())


def test_a_ticket_that_comes_too_late_for_a_cancelled_waiter_goes_to_the_next() -> None:
    """Slot given and waiter cancelled in the same moment: the slot is handed on, not lost."""

    async def story() -> None:
        yard, loop = Yard(1), asyncio.get_running_loop()
        permit = await yard.enter(Priority.FIRST)
        doomed = asyncio.ensure_future(yard.limiter.wait_in(yard.limiter.queue(Priority.FIRST, loop)))
        next_one = yard.limiter.queue(Priority.FIRST, loop)
        await asyncio.sleep(0)
        yard.limiter.release(permit, NO)
        doomed.cancel()
        with pytest.raises(asyncio.CancelledError):
            await doomed
        assert await yard.limiter.wait_in(next_one) is not None
        assert yard.slots.free == 0

    run(story())


def test_a_waiter_cancelled_after_his_place_was_given_up_takes_no_slot_back() -> None:
    """No ticket was given, so none is handed back: there are never more slots than at first."""

    async def story() -> None:
        yard, loop = Yard(1), asyncio.get_running_loop()
        await yard.enter(Priority.FIRST)
        queued = yard.limiter.queue(Priority.FIRST, loop)
        doomed = asyncio.ensure_future(yard.limiter.wait_in(queued))
        await asyncio.sleep(0)
        yard.limiter.give_up(queued)
        doomed.cancel()
        with pytest.raises(asyncio.CancelledError):
            await doomed
        assert yard.slots.free == 0

    run(story())


STEPS = st.lists(
    st.tuples(KINDS, st.integers(0, 6), st.one_of(st.none(), st.integers(0, 12)), st.integers(0, 5)), max_size=25
)


@settings(derandomize=True, max_examples=100, deadline=None)
@given(STEPS, st.integers(1, 3))
def test_whoever_is_cancelled_no_slot_is_lost(steps: list[tuple[Priority, int, int | None, int]], slots: int) -> None:
    """Requests come, wait, take their time and are cancelled at any moment: the others all leave, and every slot comes back."""

    async def story() -> None:
        yard = Yard(slots)
        loop = asyncio.get_running_loop()

        async def come(number: int, priority: Priority, at: int, seconds: int) -> int:
            await asyncio.sleep(at)
            await yard.send(priority, name=number, seconds=seconds)
            return number

        tasks = []
        for number, (priority, at, cancelled_at, seconds) in enumerate(steps):
            task = asyncio.ensure_future(come(number, priority, at, seconds))
            tasks.append(task)
            if cancelled_at is not None:
                loop.call_later(cancelled_at, task.cancel)
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)

        for number, (result, step) in enumerate(zip(outcomes, steps, strict=True)):
            if step[2] is None:
                assert result == number
            else:
                assert result == number or isinstance(result, asyncio.CancelledError)
        assert yard.slots.free == slots
        assert yard.most <= slots
        assert (
            yard.limiter.try_acquire(Priority.FIRST, loop) is not None
            or yard.limiter.queue(Priority.FIRST, loop).done()
        )
        assert "1 bodies under way, 0 waiting" in repr(yard.limiter)

    run(story())


def test_closing_gives_up_every_place_and_lets_go_of_the_slots() -> None:
    """Everybody who waits hears None, whether for a slot or for time, and a slot that comes free wakes nobody."""

    async def story() -> None:
        yard, loop = Yard(1, max_rate=0.01), asyncio.get_running_loop()
        await yard.send(Priority.FIRST)
        for_time = yard.limiter.queue(Priority.FIRST, loop)
        permit = await yard.enter(Priority.QUESTION)
        for_a_slot = [yard.limiter.queue(priority, loop) for priority in Priority]
        yard.limiter.close()
        assert [await yard.limiter.wait_in(queued) for queued in (for_time, *for_a_slot)] == [None] * 6
        yard.limiter.release(permit, NO)
        assert yard.slots.free == 1
        await asyncio.sleep(1000)
        assert yard.slots.free == 1

    run(story())


def test_closing_stops_the_timer() -> None:
    """A gate whose waiters waited for time leaves nothing behind on the loop."""

    async def story() -> None:
        yard, loop = Yard(9, max_rate=0.01), asyncio.get_running_loop()
        await yard.send(Priority.FIRST)
        queued = yard.limiter.queue(Priority.FIRST, loop)
        assert yard.limiter._timer is not None
        yard.limiter.close()
        assert await queued is None
        assert yard.limiter._timer.cancelled()

    run(story())


def test_nothing_leaves_after_closing() -> None:
    """Neither at once nor from the queue, although slots are free."""

    async def story() -> None:
        yard, loop = Yard(9), asyncio.get_running_loop()
        yard.limiter.close()
        for priority in Priority:
            assert yard.limiter.try_acquire(priority, loop) is None
            assert await yard.limiter.wait(priority, loop, 100.0) is None
        assert (now(), yard.slots.free) == (0.0, 9)

    run(story())


def test_closing_a_second_time_changes_nothing() -> None:
    """The loop's owner cancelled the first closing half way, and the step is taken again."""

    async def story() -> None:
        yard = Yard(1)
        yard.limiter.close()
        yard.limiter.close()

    run(story())


# ── two gates ────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_two_gates_share_the_slots_in_turn() -> None:
    """Clients of one session never have more under way than it has slots, and a busy one does not starve the other."""

    async def story() -> list[Any]:
        slots = Slots(1)
        busy, other = Yard(slots), Yard(slots)
        async with asyncio.TaskGroup() as group:
            for _ in range(6):
                group.create_task(busy.send(Priority.FIRST, name="busy", seconds=1))
            for _ in range(2):
                group.create_task(other.send(Priority.FIRST, name="other", seconds=1))
        assert slots.free == 1
        return [name for name, _ in sorted(busy.log + other.log, key=lambda entry: entry[1])]

    left = run(story())

    assert left.count("busy") == 6
    assert {"busy", "other"} == set(left[:3])
    assert set(left[:5]) == {"busy", "other"}
    assert left[:5].count("other") == 2


def test_a_gate_that_was_never_used_minds_no_slot() -> None:
    """A slot given back tells all gates, also one that does not know its loop yet, or whose slots are gone elsewhere."""

    async def story() -> None:
        slots = Slots(1)
        yard = Yard(slots)
        Yard(slots)
        other = Yard(slots)
        waiting = [asyncio.ensure_future(one.send(Priority.FIRST, seconds=1)) for one in (yard, yard, other)]
        await asyncio.gather(*waiting)
        assert slots.free == 1
        assert now() == 3

    run(story())


async def _refused(entering: Awaitable[Any]) -> bool:
    try:
        async with asyncio.timeout(5):
            await entering
    except TimeoutError:
        return True
    return False


def test_one_gates_throttling_is_its_own() -> None:
    """Two clients share connections, not AlphaPo's patience: another account is not held back."""

    async def story() -> None:
        slots = Slots(3)
        throttled, other = Yard(slots), Yard(slots)
        await throttled.send(Priority.FIRST, NotSent("throttled", retry_after=30))
        await other.send(Priority.FIRST)
        assert now() == 0
        assert await _refused(throttled.send(Priority.FIRST))
        assert slots.free == 3

    run(story())


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_rate_is_kept_in_real_time_on_both_loops(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """Waits of less than a millisecond, too, which uvloop does not make a timer of."""

    async def story() -> float:
        yard = Yard(2, max_rate=2_000)
        began = now()
        async with asyncio.timeout(20), asyncio.TaskGroup() as group:
            for _ in range(400):
                group.create_task(yard.send(Priority.FIRST))
        return now() - began

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(story()) > 0.19


def test_the_repr_says_what_goes_on() -> None:
    """Bodies under way and how many wait."""

    async def story() -> str:
        yard = Yard(1)
        await yard.enter(Priority.FIRST)
        yard.limiter.queue(Priority.RETRY, asyncio.get_running_loop())
        return repr(yard.limiter)

    assert run(story()).startswith("RequestLimiter(1 bodies under way, 1 waiting, LimiterState(")


def test_an_error_of_the_queue_does_not_stop_it() -> None:
    """It is reported, and the queue goes on after a pause; the timer that was set before is not kept besides."""

    async def story() -> tuple[list[str], float]:
        yard, loop, reported = Yard(1), asyncio.get_running_loop(), list[str]()
        yard.limiter._supervisor = Supervisor(lambda task, _: reported.append(task))
        held = await yard.enter(Priority.FIRST)
        slots, yard.limiter._slots = yard.limiter._slots, None  # type: ignore[assignment]
        places = [yard.limiter.queue(Priority.FIRST, loop) for _ in range(2)]
        yard.limiter._slots = slots
        yard.limiter.release(held, NO)
        for place in places:
            permit = await yard.limiter.wait_in(place)
            assert permit is not None
            yard.limiter.release(permit, NO)
        return reported, loop.time()

    assert run(story()) == (["limiter"], 0.0)


def test_a_queue_that_works_again_is_not_shown_as_failing() -> None:
    """Ten failures, each followed by a success, raise no alert: only failures in a row count."""

    async def story() -> tuple[str, ...]:
        yard, loop = Yard(1), asyncio.get_running_loop()
        for _ in range(10):
            held = await yard.enter(Priority.FIRST)
            slots, yard.limiter._slots = yard.limiter._slots, None  # type: ignore[assignment]
            place = yard.limiter.queue(Priority.FIRST, loop)
            yard.limiter._slots = slots
            yard.limiter.release(held, NO)
            permit = await yard.limiter.wait_in(place)
            assert permit is not None
            yard.limiter.release(permit, NO)
        return yard.supervisor.failing

    assert run(story()) == ()


def test_a_slot_is_given_back_whatever_is_wrong_with_the_reply() -> None:
    """Else the queue would stand still after a hundred errors."""

    async def story() -> int:
        yard = Yard(1)
        permit = await yard.enter(Priority.FIRST)
        yard.limiter._on_reply = lambda *_: 1 / 0  # type: ignore[assignment, method-assign]
        with pytest.raises(ZeroDivisionError):
            yard.limiter.release(permit, NO)
        return yard.slots.free

    assert run(story()) == 1


def test_flights_that_queue_hear_of_an_outage() -> None:
    """After the client itself, and until they have had a slot."""

    async def story() -> list[tuple[str, bool]]:
        events: list[tuple[str, bool]] = []
        slots = Slots(1)
        limiter = RequestLimiter(
            slots, RetryPolicy(), None, lambda begun: events.append(("client", begun)), Supervisor()
        )

        def listener(begun: bool) -> None:  # noqa: FBT001 - a bare fact
            events.append(("flight", begun))

        limiter.outage_listeners[listener] = None
        loop = asyncio.get_running_loop()
        for judged in [InDoubt("silent")] * STREAK:
            permit = limiter.try_acquire(Priority.FIRST, loop)
            assert permit is not None
            limiter.release(permit, judged)
        del limiter.outage_listeners[listener]
        await asyncio.sleep(1)
        permit = limiter.try_acquire(Priority.FIRST, loop)
        assert permit is not None
        limiter.release(permit, Rejected({}))
        return events

    assert run(story()) == [("client", True), ("flight", True), ("client", False)]


def test_flights_that_queue_learn_of_an_outage_that_cannot_be_reported() -> None:
    """A filter of the log raises: without a word of the outage their deadline would not run, and they would wait as long as it lasts."""
    begun: list[bool] = []

    def on_outage(_begun: bool) -> None:  # noqa: FBT001 - a bare fact
        raise KeyError

    async def story() -> int:
        slots, loop = Slots(1), asyncio.get_running_loop()
        limiter = RequestLimiter(slots, RetryPolicy(), None, on_outage, Supervisor())
        limiter.outage_listeners[begun.append] = None
        for _ in range(STREAK):
            permit = limiter.try_acquire(Priority.FIRST, loop)
            assert permit is not None
            with contextlib.suppress(KeyError):
                limiter.release(permit, InDoubt("silent"))
        return slots.free

    assert (run(story()), begun) == (1, [True])
