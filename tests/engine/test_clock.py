"""The clock by which workers agree, and how it dates what others compare against."""

from __future__ import annotations

import asyncio

import pytest

from alphapo_async.core.row import Row, settle
from alphapo_async.engine.clock import BoundedClock
from alphapo_async.journal.memory import MemoryJournal
from tests.support.clocks import ClockedJournal, WallClock
from tests.support.rows import row
from tests.support.virtual import run


class Unclocked(MemoryJournal):
    """A journal that outlives its process and has no clock."""

    is_durable = True

    async def time(self) -> float | None:  # type: ignore[override]
        """Return nothing."""
        return None


async def clock_of(journal: MemoryJournal, wall: WallClock) -> BoundedClock:
    """Return a clock that has been synchronized once."""
    clock = BoundedClock(wall)
    await clock.synchronize(journal)
    return clock


def ahead(clock: BoundedClock) -> tuple[float, float]:
    """Return by how much both readings are ahead of the event loop's time."""
    now = asyncio.get_running_loop().time()
    return round(clock.earliest() - now, 6), round(clock.latest() - now, 6)


def test_without_a_storages_clock_the_wall_clock_counts() -> None:
    """All workers of a file share it, so that nothing is allowed for."""

    async def story() -> None:
        wall = WallClock()
        for journal in (MemoryJournal(), Unclocked()):
            clock = await clock_of(journal, wall)
            wall.set_by = 7.0
            assert (*ahead(clock), clock.max_skew) == (7.0, 7.0, 0.0)
            wall.set_by = 0.0

    run(story())


def test_the_storages_clock_counts_and_its_answer_is_the_bound() -> None:
    """An answer within a second is asked for once."""

    async def story() -> None:
        journal = ClockedJournal(0.5)
        clock = await clock_of(journal, WallClock())
        assert (*ahead(clock), clock.max_skew, journal.looks) == (1_000.5, 1_000.5, 1.0, 1)

    run(story())


@pytest.mark.parametrize(
    ("seconds", "looks", "earliest", "latest"),
    [
        pytest.param((2.0, 0.2), 2, 1_000.2, 1_000.2, id="the quickest answer counts"),
        pytest.param((3.0, 2.0, 4.0), 3, 1_001.0, 1_002.0, id="what it took beyond the bound is taken off"),
    ],
)
def test_a_late_answer_is_asked_for_again(
    seconds: tuple[float, ...], looks: int, earliest: float, latest: float
) -> None:
    """For as long as a lease allows."""

    async def story() -> None:
        journal = ClockedJournal(*seconds)
        clock = await clock_of(journal, WallClock())
        assert (*ahead(clock), journal.looks) == (earliest, latest, looks)

    run(story())


@pytest.mark.parametrize(("by", "earliest", "latest"), [(-60.0, 940.0, 1_000.0), (60.0, 1_000.0, 1_060.0)])
def test_of_two_clocks_each_question_takes_the_safe_one(by: float, earliest: float, latest: float) -> None:
    """The wall clock is set between two looks at the storage's clock."""

    async def story() -> None:
        wall = WallClock()
        clock = await clock_of(ClockedJournal(0.0), wall)
        wall.set_by = by
        assert ahead(clock) == (earliest, latest)

    run(story())


def test_readings_that_nothing_has_set_are_one() -> None:
    """Two clocks are read one after the other."""

    async def story() -> None:
        wall = WallClock()
        clock = await clock_of(ClockedJournal(0.0), wall)
        for by in (-0.0005, 0.0005):
            wall.set_by = by
            assert clock.earliest() == clock.latest()

    run(story())


def test_what_others_compare_against_is_dated_by_the_higher_reading() -> None:
    """An outcome, and the last moment at which a byte could leave; nothing that was dated earlier, and nothing where both agree."""

    async def story() -> tuple[float, list[Row], list[Row]]:
        wall = WallClock()
        clock = await clock_of(ClockedJournal(0.0), wall)
        now = clock.earliest()
        unchanged = [row(1.0), settle(row(1.0), "rejected", now)]
        assert [clock.date(one, now) for one in unchanged] == unchanged
        wall.set_by = -60.0
        now = clock.earliest()
        settled = settle(row(1.0), "rejected", now)
        sent = row(1.0, could_leave_until=now)
        old = settle(row(1.0), "rejected", now - 1.0)
        return clock.latest(), [old], [clock.date(one, now) for one in (settled, sent, old)]

    latest, [old], [settled, sent, dated] = run(story())
    assert (settled.settled_at, settled.could_leave_until) == (latest, None)
    assert (sent.settled_at, sent.could_leave_until) == (None, latest)
    assert dated is old


async def test_a_worker_that_was_found_dead_could_send_until_now_by_the_later_clock() -> None:
    """A clock that was set back, and is set right again, would make the quiet time too short; the end of a lease is what it is."""
    wall = WallClock()
    clock = await clock_of(Unclocked(), wall)
    true = clock.earliest()
    wall.set_by = -5.0
    now = clock.earliest()
    assert true - now == pytest.approx(5.0, abs=0.5)
    assert clock.end_of(now, now) == pytest.approx(true, abs=0.5)
    assert clock.end_of(now - 0.5, now) == now - 0.5
    assert clock.end_of(now + 60.0, now) == now + 60.0


def test_where_no_process_shares_the_journal_there_is_one_clock() -> None:
    """This machine's, which nothing is compared with."""
    clock = BoundedClock(lambda: 7.0, is_shared=False)
    assert (clock.earliest(), clock.latest(), clock.max_skew) == (7.0, 7.0, 0.0)
