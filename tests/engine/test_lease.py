"""The tenure: a lease taken, prolonged in time, lost when it ended, and given back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest

from alphapo_async.core.errors import ConfigurationError, JournalError
from alphapo_async.engine.clock import BoundedClock
from alphapo_async.engine.lease import Lease
from alphapo_async.journal import Journal, MemoryJournal, is_shared
from alphapo_async.journal.sqlite.journal import SqliteJournal
from alphapo_async.supervisor import Supervisor
from tests.support.clocks import ClockedJournal, WallClock
from tests.support.virtual import run


class Leases(MemoryJournal):
    """A journal that outlives its process, as far as leases know; some of its answers fail."""

    is_durable = True

    def __init__(self) -> None:
        super().__init__()
        self.broken = 0

    async def renew(self, worker: str, until: float, now: float) -> bool:
        """Prolong the lease, unless it is broken."""
        self._fail()
        return await super().renew(worker, until, now)

    async def join(self, account: str, host: str, worker: str, until: float) -> None:
        """Give a lease, unless it is broken."""
        self._fail()
        await super().join(account, host, worker, until)

    async def leave(self, worker: str, now: float) -> None:
        """End a lease, unless it is broken."""
        self._fail()
        await super().leave(worker, now)

    def _fail(self) -> None:
        if self.broken > 0:
            self.broken -= 1
            raise JournalError("The disk is gone.")


def lease(journal: Journal, host: str = "h", clock: Callable[[], float] | None = None) -> Lease:
    """Return a lease of 60 s, for attempts of 15 s, in virtual time."""
    loop = asyncio.get_running_loop()
    return Lease(
        journal,
        "default",
        host,
        attempt_timeout=15.0,
        clock=BoundedClock(clock or loop.time, is_shared=is_shared(journal)),
        sleep=asyncio.sleep,
        supervisor=Supervisor(),
    )


def story(content: Coroutine[Any, Any, None]) -> None:
    """Run it in virtual time."""
    run(content)


def test_a_lease_is_prolonged_for_as_long_as_it_is_needed() -> None:
    """Under one name, without a gap."""

    async def result() -> None:
        kept = lease(Leases())
        assert not kept.is_running
        await kept.acquire()
        assert kept.clock.max_skew == 0.0  # everybody goes by this machine's
        worker = kept.worker
        for _ in range(1_000):
            await asyncio.sleep(7)
            assert kept.may_send(worker)
        await kept.release()

    story(result())


def test_the_clock_is_the_storages() -> None:
    """Where it has one: leases end when everybody thinks so, whatever this machine's clock shows."""

    async def result() -> None:
        journal = ClockedJournal(0.5)
        kept = lease(journal)
        await kept.acquire()
        ahead = kept.clock.earliest() - asyncio.get_running_loop().time()
        assert kept.clock.max_skew == 1.0  # another's may be off by what its own answer took
        assert ahead == pytest.approx(1_000.5)  # early by what the answer took: a lease is never thought too long
        assert journal._workers[kept.worker] == pytest.approx(kept.clock.earliest() + 60)
        await asyncio.sleep(300)
        assert kept.may_send(kept.worker)
        await kept.release()

    story(result())


def test_a_clock_that_is_set_makes_no_lease_longer_and_nobody_elses_shorter() -> None:
    """Back or forward, between two looks at the storage's clock: the one that says less counts."""

    async def result(by: float) -> tuple[float, bool, bool]:
        wall = WallClock()
        kept = lease(ClockedJournal(0.0, ahead=0.0), clock=wall)
        await kept.acquire()
        kept._heartbeat_task.cancel()  # type: ignore[union-attr]
        await asyncio.sleep(30)
        wall.set_by = by
        seen = kept.clock.earliest(), kept.is_running
        await asyncio.sleep(30)
        return *seen, kept.is_running

    assert run(result(-45.0)) == (-15.0, True, False)
    assert run(result(45.0)) == (30.0, False, False)


def test_a_clock_that_is_set_while_the_storage_is_asked_makes_no_lease_longer() -> None:
    """Set back by 20 s between the question and its answer: 60 s are written down from an earlier moment, and end with it."""

    async def result() -> tuple[float, list[bool]]:
        wall = WallClock()

        class Setting(ClockedJournal):
            """A journal during whose answer this machine's clock is set."""

            async def time(self) -> float:  # type: ignore[override]
                wall.set_by = -20.0
                return await super().time()

        journal = Setting(0.0, ahead=0.0)
        kept = lease(journal, clock=wall)
        await kept.acquire()
        kept._heartbeat_task.cancel()  # type: ignore[union-attr]
        seen = []
        for _ in range(2):
            await asyncio.sleep(25)
            seen.append(kept.is_running)
        return journal._workers[kept.worker], seen

    assert run(result()) == (40.0, [True, False])


def test_a_renewal_never_makes_a_lease_shorter() -> None:
    """What is under way may need the lease that was granted: others must not see an earlier end, however little is known of the time."""

    async def result() -> tuple[float, float, bool]:
        wall = WallClock()
        journal = ClockedJournal(0.0, 4.0, ahead=0.0)
        kept = lease(journal, clock=wall)
        await kept.acquire()
        kept._heartbeat_task.cancel()  # type: ignore[union-attr]
        await asyncio.sleep(10)
        beat = asyncio.ensure_future(kept._beat())
        await asyncio.sleep(1)
        wall.set_by = -45.0  # while the storage is slow to say the time
        await beat
        return journal._workers[kept.worker], kept._granted, kept.is_running

    assert run(result()) == (60.0, 60.0, True)


def _asked_for(*seconds: float) -> tuple[int, float, float, float]:
    """Return how often the storage's clock was asked, how far ahead of it ours is, early and late, and how long the lease is taken for."""

    async def result() -> tuple[int, float, float, float]:
        journal = ClockedJournal(*seconds)
        kept = lease(journal)
        await kept.acquire()
        now = asyncio.get_running_loop().time() + 1_000
        assert journal._workers[kept.worker] == pytest.approx(kept.clock.earliest() + 60)
        left = kept._remaining()
        kept._heartbeat_task.cancel()  # type: ignore[union-attr]
        return journal.looks, kept.clock.earliest() - now, kept.clock.latest() - now, left

    return run(result())


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        pytest.param((1.0,), (1, 1.0, 1.0, 60.0), id="soon enough"),
        pytest.param((4.0, 0.5), (2, 0.5, 0.5, 60.0), id="once slow"),
        pytest.param((3.0, 2.0, 9.0), (3, 1.0, 2.0, 59.0), id="always slow, and the quickest counts"),
        pytest.param((6.0,), (1, 1.0, 6.0, 55.0), id="too slow to be asked again"),
    ],
)
def test_the_storages_clock_is_asked_again_where_it_took_long(
    seconds: tuple[float, ...], expected: tuple[int, float, float, float]
) -> None:
    """Ours is never ahead of it by more than others allow for, and no lease is thought longer than it is."""
    assert _asked_for(*seconds) == pytest.approx(expected)


def _set_back(journal: MemoryJournal, by: float) -> list[tuple[float, float]]:
    """Return the time, and what it is at the latest, once this machine's clock was set, and again a round of the lease later."""

    async def result() -> list[tuple[float, float]]:
        wall = WallClock()
        kept = lease(journal, clock=wall)
        await kept.acquire()
        wall.set_by = by
        seen = []
        for _ in range(2):
            await asyncio.sleep(15)
            seen.append((kept.clock.earliest(), kept.clock.latest()))
        await kept.release()
        return seen

    return run(result())


def test_what_ends_is_dated_by_the_later_clock_where_the_wall_clock_was_set_back() -> None:
    """For a round of the lease; where it is still wrong then, it is the one that all go by. What ends with its process has no other."""
    assert _set_back(Leases(), -5.0) == [(10.0, 15.0), (25.0, 25.0)]
    assert _set_back(Leases(), 5.0) == [(20.0, 20.0), (35.0, 35.0)]
    assert _set_back(MemoryJournal(), -5.0) == [(10.0, 10.0), (25.0, 25.0)]


def test_clocks_that_differ_by_less_than_any_is_set_are_one() -> None:
    """Read one after the other they differ by a little: who asks just after a "no" has not asked before it."""
    for journal in (Leases(), ClockedJournal(0.0, ahead=0.0)):
        for by in (-0.0009, 0.0009):
            (now, latest), _ = _set_back(journal, by)
            assert now == latest


def test_a_lease_that_is_given_back_ends_by_the_later_clock() -> None:
    """What its worker still holds may have left until then, also where its clock was set back for a moment."""

    class Heard(Leases):
        """A journal that keeps when a worker left."""

        async def leave(self, worker: str, now: float) -> None:
            self.left = now

    journal = Heard()
    _set_back(journal, 0.0)
    assert journal.left == 30.0

    async def result() -> None:
        loop, step = asyncio.get_running_loop(), [0.0]
        kept = Lease(
            journal,
            "default",
            "h",
            attempt_timeout=15.0,
            clock=BoundedClock(lambda: loop.time() + step[0]),
            sleep=asyncio.sleep,
            supervisor=Supervisor(),
        )
        await kept.acquire()
        step[0] = -3_600.0
        await kept.release()

    run(result())
    assert journal.left == 0.0


def test_beginning_again_changes_nothing() -> None:
    """Many at once take one lease."""

    async def result() -> None:
        journal = Leases()
        kept = lease(journal)
        await asyncio.gather(*(kept.acquire() for _ in range(10)))
        assert len(journal._workers) == 1
        await kept.release()
        assert journal._workers == {}
        assert not kept.is_running

    story(result())


def test_nothing_leaves_that_could_outlast_the_lease() -> None:
    """An attempt and five seconds have to fit in; and only under the name that holds the row."""

    async def result() -> None:
        journal = Leases()
        kept = lease(journal)
        await kept.acquire()
        journal.broken = 2
        await asyncio.sleep(39)
        assert kept.may_send(kept.worker)
        assert not kept.may_send("another")
        await asyncio.sleep(1.5)
        assert not kept.may_send(kept.worker)
        assert kept.is_running
        await kept.release()

    story(result())


def test_a_lease_that_ended_is_followed_by_another_under_a_new_name() -> None:
    """A worker that comes back too late is somebody else; failures in between are waited out."""

    async def result() -> None:
        journal = Leases()
        kept = lease(journal)
        await kept.acquire()
        first = kept.worker
        journal.broken = 3
        await asyncio.sleep(81)
        assert kept.worker != first
        assert kept.may_send(kept.worker)
        assert not kept.may_send(first)
        assert await journal.find_dead(asyncio.get_running_loop().time()) == []
        assert kept.may_send(kept.worker)
        await kept.release()

    story(result())


def test_what_fails_at_the_beginning_is_told() -> None:
    """A broken journal, and an account of another host; the next call tries again."""

    async def result() -> None:
        journal = Leases()
        journal.broken = 1
        kept = lease(journal)
        with pytest.raises(JournalError):
            await kept.acquire()
        await kept.acquire()
        with pytest.raises(ConfigurationError):
            await lease(journal, "another").acquire()
        await kept.release()

    story(result())


def test_a_lease_that_cannot_be_given_back_ends_by_itself() -> None:
    """Closing does not fail over it; and ending what never began does nothing."""

    async def result() -> None:
        journal = Leases()
        await lease(journal).release()
        kept = lease(journal)
        await kept.acquire()
        journal.broken = 1
        await kept.release()
        assert await journal.find_dead(60.0) == [(kept.worker, 60.0)]

    story(result())


def test_no_lease_is_taken_after_the_end() -> None:
    """A call that was opening the journal while the client was closed gives back what it got, and nothing keeps it."""

    class Slow(Leases):
        async def join(self, account: str, host: str, worker: str, until: float) -> None:
            await asyncio.sleep(1)
            await super().join(account, host, worker, until)

    async def result() -> None:
        journal = Slow()
        kept = lease(journal)
        beginning = asyncio.ensure_future(kept.acquire())
        await asyncio.sleep(0.5)
        was_released = kept.is_released
        await kept.release()
        assert (was_released, kept.is_released) == (False, True)
        with pytest.raises(ConfigurationError, match="closed meanwhile"):
            await beginning
        assert len(asyncio.all_tasks()) == 1
        assert await journal.find_dead(1_000.0) == []

    story(result())


def test_a_journal_that_ends_with_its_process_needs_no_lease() -> None:
    """It never runs out, and no task keeps it."""

    async def result() -> None:
        kept = lease(MemoryJournal())
        await kept.acquire()
        assert len(asyncio.all_tasks()) == 1
        await asyncio.sleep(10_000)
        assert kept.may_send(kept.worker)
        await kept.release()

    story(result())


class LateRenewal(Leases):
    """A journal that renews a lease at once, and says so a minute later."""

    async def renew(self, worker: str, until: float, now: float) -> bool:
        """Renew, and say so late, the first time."""
        renewed = await super().renew(worker, until, now)
        await asyncio.sleep(70 if not self.late else 0)
        self.late.append(renewed)
        return renewed and self.answer

    def __init__(self, *, answer: bool = True) -> None:
        super().__init__()
        self.answer = answer
        self.late: list[bool] = []


@pytest.mark.parametrize("answer", [True, False])
def test_what_came_of_an_old_lease_says_nothing_of_a_new_one(answer: bool) -> None:  # noqa: FBT001
    """A lease that was prolonged too late for its calls is followed by another; the late answer makes that neither longer nor shorter."""

    async def result() -> None:
        journal = LateRenewal(answer=answer)
        kept = lease(journal)
        await kept.acquire()
        old = kept.worker
        await asyncio.sleep(61)
        await kept.acquire()
        new = kept.worker
        assert new != old
        await asyncio.sleep(35)
        assert journal.late == [True]
        assert kept.worker == new
        assert kept.may_send(new)
        await asyncio.sleep(6)
        assert not kept.may_send(new)  # it ends a minute after it was taken
        await kept.release()

    story(result())


def test_a_lease_that_the_journal_has_forgotten_is_taken_anew() -> None:
    """A journal that went back may not know the lease: then it runs under another name, and what the old one holds is not sent."""

    async def result() -> None:
        journal = Leases()
        kept = lease(journal)
        await kept.acquire()
        known = kept.worker
        await kept.confirm()
        assert kept.may_send(known)
        del journal._workers[known]

        await kept.confirm()

        assert not kept.may_send(known)
        assert kept.may_send(kept.worker)
        await kept.release()

    story(result())


def test_nothing_is_sent_before_a_lease_is_confirmed() -> None:
    """A journal that cannot be asked has confirmed nothing; the heartbeat asks again."""

    async def result() -> None:
        journal = Leases()
        kept = lease(journal)
        await kept.acquire()
        worker, journal.broken = kept.worker, 1

        with pytest.raises(JournalError):
            await kept.confirm()

        assert not kept.may_send(worker)
        await asyncio.sleep(21)
        assert kept.may_send(worker)
        await kept.release()

    story(result())


def test_a_worker_that_was_replaced_leaves_the_journal_once_its_lease_has_ended() -> None:
    """Not before: an attempt of it may still be under way. A journal that does not take that is asked again at the next beat."""

    async def result() -> None:
        journal = Leases()
        kept = lease(journal)
        await kept.acquire()
        first, left = kept.worker, list[tuple[str, float]]()

        async def leave(worker: str, now: float) -> None:
            left.append((worker, asyncio.get_running_loop().time()))
            if len(left) == 1:
                raise JournalError("The disk is full.")
            await Leases.leave(journal, worker, now)

        journal.leave = leave  # type: ignore[method-assign]
        journal.broken = 1
        with pytest.raises(JournalError):
            await kept.confirm()  # it counts as ended, and was granted for a minute
        await kept.acquire()
        await asyncio.sleep(99)
        assert left == [(first, 60.0), (first, 80.0)]
        await kept.release()
        assert left[2:] == [(kept.worker, 99.0)]

    story(result())


def test_a_lease_that_ended_while_the_journal_renewed_it_runs_no_more(tmp_path: Path) -> None:
    """The question waits while another process locks the file, and names a moment before the end."""

    async def result() -> None:
        wall, journal = [1_000.0], SqliteJournal(tmp_path / "journal.db")
        kept = lease(journal, clock=lambda: wall[0])
        await kept.acquire()
        worker, end = kept.worker, kept._until
        other = SqliteJournal(tmp_path / "journal.db")
        await other.hold()
        wall[0] = end - 1
        beat = asyncio.ensure_future(kept._renew())
        await asyncio.sleep(0.05)
        wall[0] = end + 1
        await other.release()
        await beat
        assert kept.is_running
        assert not kept.may_send(worker)
        assert kept.worker != worker
        await kept.release()
        await asyncio.gather(journal.aclose(), other.aclose())

    asyncio.run(result())


def test_a_lease_that_ended_while_it_was_renewed_does_not_run_again_at_the_next_beat() -> None:
    """The new worker could not be recorded at first; the journal still renews the old one, whose rows others may have freed."""

    class Late(Leases):
        """A journal whose first renewal is not answered, and whose second one is answered when the lease has ended."""

        renewals = 0

        async def renew(self, worker: str, until: float, now: float) -> bool:
            made = await super().renew(worker, until, now)
            self.renewals += 1
            if self.renewals == 1:
                raise JournalError("The answer was lost.")
            await asyncio.sleep(21.0 if self.renewals == 2 else 0.0)
            return made

    async def result() -> None:
        journal = Late()
        kept = lease(journal)
        await kept.acquire()
        worker = kept.worker
        await asyncio.sleep(60.5)
        journal.broken = 1
        await asyncio.sleep(1)
        assert (journal.renewals, journal.broken, kept.is_running) == (2, 0, False)
        await asyncio.sleep(20)
        assert kept.is_running
        assert not kept.may_send(worker)
        await kept.release()

    story(result())
