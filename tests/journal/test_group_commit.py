"""Group commit in the event loop."""

from __future__ import annotations

import asyncio

import pytest

from alphapo_async.core.errors import JournalError
from alphapo_async.journal.group_commit import LAG, LARGEST, GroupCommit, PendingWrite
from alphapo_async.supervisor import Supervisor
from tests.support.virtual import run


class _Wish(PendingWrite[int]):
    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class _Store:
    """Takes a second for each group."""

    def __init__(self) -> None:
        self.groups: list[list[int]] = []
        self.gathering: GroupCommit[_Wish] = GroupCommit(lambda group: asyncio.ensure_future(self._serve(group)))

    async def _serve(self, group: list[_Wish]) -> None:
        self.groups.append([pending.number for pending in group])
        await asyncio.sleep(1)
        for pending in group:
            if pending.number < 0:
                pending.fail(ValueError(pending.number))
            pending.resolve(2 * pending.number)

    async def ask(self, number: int, *, may_lag: bool = False) -> int:
        """Have a number doubled."""
        pending = _Wish(number)
        self.gathering.add(pending, may_lag=may_lag)
        return await pending.outcome()


def test_what_is_asked_for_at_once_is_served_together() -> None:
    """And what comes while a group is served makes up the next one."""

    async def story() -> None:
        store = _Store()
        first = asyncio.gather(*(store.ask(number) for number in range(3)))
        await asyncio.sleep(0.5)
        second = asyncio.gather(*(store.ask(number, may_lag=number > 3) for number in (3, 4)))
        assert await first == [0, 2, 4]
        assert await second == [6, 8]
        assert store.groups == [[0, 1, 2], [3, 4]]
        assert await store.ask(5) == 10

    run(story())


def test_what_is_abandoned_fails_and_nobody_waits_for_it() -> None:
    """What is served, what waits for its turn, and what waits for company."""

    async def story() -> None:
        store = _Store()
        first = [asyncio.ensure_future(store.ask(number)) for number in (1, 2)]
        await asyncio.sleep(0.5)
        second = asyncio.ensure_future(store.ask(3))
        await asyncio.sleep(0)
        settling = asyncio.ensure_future(store.gathering.settle())
        await asyncio.sleep(0)
        store.gathering.abandon(ValueError("closed"))
        outcomes = await asyncio.gather(*first, second, return_exceptions=True)
        assert [str(one) for one in outcomes] == ["closed"] * 3
        await settling
        assert len(asyncio.all_tasks()) == 1
        lagging = asyncio.ensure_future(store.ask(4, may_lag=True))
        await asyncio.sleep(0)
        store.gathering.abandon(ValueError("closed"))
        with pytest.raises(ValueError, match="closed"):
            await lagging
        assert await store.ask(5) == 10

    run(story())


def test_what_may_lag_waits_for_company_but_not_long() -> None:
    """It rides on the next group, or goes by itself."""

    async def story() -> None:
        loop, store = asyncio.get_running_loop(), _Store()
        began = loop.time()
        assert await asyncio.gather(*(store.ask(number, may_lag=True) for number in (1, 2))) == [2, 4]
        assert loop.time() - began == pytest.approx(LAG + 1)
        lagging = asyncio.ensure_future(store.ask(3, may_lag=True))
        await asyncio.sleep(LAG / 2)
        assert await store.ask(4) == 8
        assert await lagging == 6
        assert store.groups == [[1, 2], [3, 4]]

    run(story())


def test_nobody_waits_for_company_longer_than_a_moment() -> None:
    """What may lag is told all the same, and seen by others only then."""
    assert 0.0 < LAG < 0.1


def test_a_write_that_may_lag_and_comes_during_a_group_begins_none_behind_it() -> None:
    """It waits as long as any other, and a write that may not lag takes it along."""

    async def story() -> None:
        loop, store = asyncio.get_running_loop(), _Store()
        first = asyncio.ensure_future(store.ask(1))
        await asyncio.sleep(0.5)
        lagging = asyncio.ensure_future(store.ask(2, may_lag=True))
        await first
        await lagging
        assert loop.time() == pytest.approx(2 + LAG)
        assert store.groups == [[1], [2]]

    run(story())


def test_no_group_begins_while_another_one_is_stored() -> None:
    """Writes that may lag came one after the other; an urgent one took them along, and nothing of their plans is left."""

    async def story() -> None:
        loop, store = asyncio.get_running_loop(), _Store()
        asking = []
        for number in (1, 2):
            asking.append(asyncio.ensure_future(store.ask(number, may_lag=True)))
            await asyncio.sleep(LAG / 4)
        asking.append(asyncio.ensure_future(store.ask(3)))
        await asyncio.sleep(LAG / 4)
        asking.append(asyncio.ensure_future(store.ask(4)))
        await asyncio.gather(*asking)
        assert store.groups == [[1, 2, 3], [4]]
        assert loop.time() == pytest.approx(LAG / 2 + 2)

    run(story())


def test_an_error_that_no_future_takes_comes_as_another_one() -> None:
    """A change that a caller hands in may raise anything."""

    async def story() -> None:
        pending = _Wish(1)
        pending.fail(StopIteration("mine"))
        with pytest.raises(RuntimeError, match=r"StopIteration\('mine'\) was raised"):
            await pending.outcome()

    run(story())


def test_a_group_waits_for_company_where_the_one_before_it_had_some() -> None:
    """For a moment only; a write that comes alone waits for none."""

    async def story() -> None:
        loop, store = asyncio.get_running_loop(), _Store()
        store.gathering = GroupCommit(lambda group: asyncio.ensure_future(store._serve(group)), linger=0.25)
        await store.ask(1)
        assert loop.time() == pytest.approx(1)
        await asyncio.gather(store.ask(2), store.ask(3))
        assert loop.time() == pytest.approx(2)
        fourth = asyncio.ensure_future(store.ask(4))
        await asyncio.sleep(0.2)
        await asyncio.gather(fourth, store.ask(5))
        assert loop.time() == pytest.approx(3.25)
        assert store.groups == [[1], [2, 3], [4, 5]]

    run(story())


def test_settling_waits_for_all_that_was_asked_for() -> None:
    """What lags is not waited for but served; with nothing to do it returns at once."""

    async def story() -> None:
        loop, store = asyncio.get_running_loop(), _Store()
        await store.gathering.settle()
        lagging = asyncio.ensure_future(store.ask(1, may_lag=True))
        await asyncio.sleep(0)
        began = loop.time()
        await store.gathering.settle()
        assert loop.time() - began == pytest.approx(1)
        assert lagging.done()

    run(story())


def test_settling_waits_for_nothing_that_is_asked_for_later() -> None:
    """However many go on asking: for the group under way, and for what waits behind it, also where that has been given up."""

    async def story() -> None:
        loop, store = asyncio.get_running_loop(), _Store()

        async def go_on() -> None:
            while True:
                await store.ask(1)

        callers = []
        for _ in range(3):
            callers.append(asyncio.ensure_future(go_on()))
            await asyncio.sleep(0.3)
        given_up = asyncio.ensure_future(store.ask(2))
        await asyncio.sleep(0)
        given_up.cancel()
        began = loop.time()
        async with asyncio.timeout(10):
            await asyncio.gather(*(store.gathering.settle() for _ in range(2)))
        assert loop.time() - began == pytest.approx(1.1)
        assert [2 in group for group in store.groups].index(True) == 1
        for caller in callers:
            caller.cancel()

    run(story())


def test_settling_waits_for_every_group_of_what_was_asked_for() -> None:
    """More than one makes up."""

    async def story() -> None:
        loop, store = asyncio.get_running_loop(), _Store()
        asked = asyncio.gather(*(store.ask(number) for number in range(2 * LARGEST + 1)))
        await asyncio.sleep(0)
        await store.gathering.settle()
        assert loop.time() == pytest.approx(3)
        assert [len(group) for group in store.groups] == [LARGEST, LARGEST, 1]
        assert (await asked)[-1] == 4 * LARGEST

    run(story())


def test_a_group_that_is_broken_off_leaves_no_caller_waiting() -> None:
    """Its writes fail, without a word of whether they are stored; the writes behind it are stored."""

    async def story() -> None:
        store = _Store()
        broken = asyncio.ensure_future(store.ask(1))
        await asyncio.sleep(0.5)
        behind = asyncio.ensure_future(store.ask(2))
        settling = asyncio.ensure_future(store.gathering.settle())
        await asyncio.sleep(0)
        assert store.gathering._stored is not None
        store.gathering._stored.cancel()
        await settling
        assert store.gathering.is_idle
        failed, stored = await asyncio.gather(broken, behind, return_exceptions=True)
        assert isinstance(failed, JournalError)
        assert (failed.recorded, stored) == (None, 4)

    run(story())


def test_an_unexpected_error_is_reported_and_leaves_nobody_waiting() -> None:
    """Its group hears that the journal failed; what waits behind it is served, and whoever settles goes on."""

    async def story() -> None:
        reported: list[object] = []

        async def serve(group: list[_Wish]) -> None:
            await asyncio.sleep(1)
            if group[0].number == 1:
                raise ZeroDivisionError
            for pending in group:
                pending.resolve(pending.number)

        store = _Store()
        store.gathering = GroupCommit(lambda group: asyncio.ensure_future(serve(group)))
        store.gathering.supervisor = Supervisor(lambda *result: reported.append(result[0]))
        broken = asyncio.gather(store.ask(1), store.ask(2), return_exceptions=True)
        await asyncio.sleep(0.5)
        behind = asyncio.ensure_future(store.ask(3))
        await asyncio.sleep(0)
        await store.gathering.settle()
        assert [type(one) for one in await broken] == [JournalError] * 2
        assert behind.done()
        assert reported == ["journal writes"]

    run(story())


def test_a_store_that_does_not_even_begin_leaves_no_caller_waiting() -> None:
    """The error is reported; the writes fail."""

    async def story() -> None:
        reported: list[str] = []

        def refuse(_: list[_Wish]) -> asyncio.Future[None]:
            raise ZeroDivisionError

        store = _Store()
        store.gathering = GroupCommit(refuse)
        store.gathering.supervisor = Supervisor(lambda task, _: reported.append(task))
        with pytest.raises(JournalError, match="internal error"):
            await store.ask(1)
        assert reported == ["journal writes"]

    run(story())


def test_a_failure_is_told_to_the_one_it_concerns() -> None:
    """And whoever has left disturbs nobody."""

    async def story() -> None:
        store = _Store()
        outcomes = asyncio.gather(store.ask(-1), store.ask(1), return_exceptions=True)
        left = asyncio.ensure_future(store.ask(-2))
        await asyncio.sleep(0.5)
        left.cancel()
        failed, doubled = await outcomes
        assert isinstance(failed, ValueError)
        assert doubled == 2
        pending = _Wish(1)
        assert not pending.is_done
        pending.resolve(1)
        assert pending.is_done

    run(story())
