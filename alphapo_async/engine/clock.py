"""The clock by which workers agree, and the theory of the date of a "no".

A "no" is one of the states rejected, not sent, key refused and conflict (`row.NEGATIVE_STATES`). A caller that receives "rejected" or "not
sent" may release the funds. Therefore no request that was made before the caller had that answer may pay the withdrawal afterwards.
Requests and outcomes meet in the journal, may wait on the way there, and are compared by their times. These rules make the comparison
safe; each follows from a sequence of events that broke an earlier version. ("Failed" needs no date: nothing is ever sent again under its
foreign_id.)

1. **A "no" is dated inside the write that records it**, not when it was decided, and it answers every request that was made before
   that date (`transitions.apply`, on a `Requested`).
   Without it: A decides "no" at 0.9 and B asks at 1.0. The write of A ends at 2.0 with the date 0.9, B's request arrives after it, looks
   newer than the "no", and pays what A's caller has released.
2. **A "no" is reported only if its write ended within `COMMIT_GRACE` of its date.** Otherwise it is recorded again with a new date, and the
   journal's answer to that is reported (`Flight._release`, `Recorder.find_to_report`).
   Without it: a "no" is dated 2.0 and its commit stalls until 5.0. B asks at 4.0, cannot see it, and is queued behind the commit. B's
   request is newer than 2.0 and pays; A's caller gets "no" at 5.0.
3. **Another worker's "no" counts as later than its date**, by `COMMIT_GRACE` and what two clocks may differ by
   (`Requested.no_counts_later_by`, set by `Lease`). A request of the same worker is compared with the date itself, as one clock gave both,
   unless a "no" is on its way to a caller of this client when the request is made (`Recorder.reporting`).
   Without it: A dates a "no" 2.0 by a clock that is 0.3 s behind B's, B asks at 2.1 by its own clock, before A's caller gets the "no".
4. **A row that took longer than `COMMIT_GRACE` to be read is read again**: what it says may have been undone meanwhile.
   Without it: a process is stopped between reading "rejected" and reporting it, and another worker pays in between.
5. **A recorded "no" that is reported once more gets a new date first**, so that it also answers the requests made since it was recorded.
   Without it: B asks at 3.0 with `resend_rejected`, A's caller gets the old "no" of 2.0 at 3.1, and B's body leaves at 3.2.
6. **Of two clocks that disagree, each question takes the safe one.** `earliest()` judges what has ended: another worker's lease, the quiet
   time. `latest()` judges what still runs: the own lease, the time in which AlphaPo keeps an id. It also dates what others count from: an
   outcome, and the last moment at which a byte could leave (`date`).
   Without it: an administrator sets the wall clock back by a minute, and a lease that has ended runs for a minute more.

A journal with a clock of its own (PostgreSQL) is asked for its time at every renewal of the lease; between two answers this machine's two
clocks run on, the wall clock and the steady one. A file is shared by the workers of one machine, which all go by its wall clock.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Final, NamedTuple

from msgspec.structs import replace

from alphapo_async.core.row import Row
from alphapo_async.journal import Journal, is_shared

__all__ = ["COMMIT_GRACE", "BoundedClock"]

COMMIT_GRACE: Final = 0.5
"""Seconds that the write of a "no" may take to end after its date; a "no" whose write takes longer is dated anew (rule 2)."""
_TICK: Final = 0.001
"""Seconds by which two clocks that nothing has set may seem to differ: they are read one after the other, and rounded."""
_MAX_SKEW: Final = 1.0
"""Seconds by which two workers' readings of the storage's clock may differ: as long as its answer may take."""
_LONGEST_LOOK: Final = 5.0
"""Seconds for which a storage that answers late is asked for its time again."""


class _Reading(NamedTuple):
    """How long the storage took to say the time, and how far it is ahead of this machine's two clocks at most."""

    took: float
    ahead: float
    steady_ahead: float
    is_the_storages: bool


class BoundedClock:
    """Seconds since the epoch, as all workers of a journal count them, with an error bound.

    Between two looks at the storage's clock, time is read from this machine's two clocks: the wall clock may be set, the steady clock
    stands still while the machine sleeps. `earliest` returns the lower reading, `latest` the higher one (rule 6).

    Args:
        local: this machine's clock.
        is_shared: whether other processes share the journal; if not, this machine's clock is all there is.
    """

    def __init__(self, local: Callable[[], float], *, is_shared: bool = True) -> None:
        self._local = local
        self.earliest: Callable[[], float] = self._earliest if is_shared else local
        """Returns the lower reading; where the storage has no clock, the wall clock that all its workers share."""
        self.latest: Callable[[], float] = self._latest if is_shared else local
        """Returns the higher reading."""
        self._steady = local
        self._ahead = 0.0
        self._steady_ahead = 0.0
        self._is_the_storages = False
        self._excess = 0.0
        """Seconds that the storage's answer took beyond `_MAX_SKEW`."""

    def _earliest(self) -> float:
        if not self._is_the_storages:
            return self._local()
        wall, steady = self._local() + self._ahead, self._steady() + self._steady_ahead
        return (steady if wall - steady > _TICK else wall) - self._excess

    @property
    def max_skew(self) -> float:
        """Seconds by which two workers' readings may differ; 0 where all workers share this machine's wall clock."""
        return _MAX_SKEW if self._is_the_storages else 0.0

    def _latest(self) -> float:
        wall, steady = self._local() + self._ahead, self._steady() + self._steady_ahead
        return steady if steady - wall > _TICK else wall

    def date(self, row: Row, now: float) -> Row:
        """Return the row; the times that other workers compare against are `latest()` where this write has just set them (rule 6).

        Args:
            row: as changed at `now`.
            now: `earliest()`, by which the change was decided: a time that equals it was set by this write.
        """
        has_ended = row.could_leave_until == now
        if row.settled_at != now and not has_ended:
            return row
        latest = self.latest()
        if latest == now:
            return row
        return replace(
            row,
            settled_at=latest if row.settled_at == now else row.settled_at,
            could_leave_until=latest if has_ended else row.could_leave_until,
        )

    def end_of(self, until: float, requested_at: float) -> float:
        """Return until when a worker can send, where the journal was asked for that at `requested_at` and says that its lease has ended.

        An end before that question stands. Otherwise the worker may have sent until now, by the later clock, or may send until its end.
        """
        return until if until < requested_at else max(until, self.latest())

    async def synchronize(self, journal: Journal) -> None:
        """Ask the storage for its time, where it has a clock; the time its answer took is the error bound.

        A storage that answers late is asked again, for as long as a lease allows, and its quickest answer counts.
        """
        if not is_shared(journal):
            return  # no other process shares it
        steady = asyncio.get_running_loop().time
        began, quickest = steady(), await self._look(journal, steady)
        while quickest.took > _MAX_SKEW and steady() - began <= _LONGEST_LOOK:
            quickest = min(quickest, await self._look(journal, steady))
        self._steady, self._excess = steady, max(quickest.took - _MAX_SKEW, 0.0)
        _, self._ahead, self._steady_ahead, self._is_the_storages = quickest

    async def _look(self, journal: Journal, steady: Callable[[], float]) -> _Reading:
        before, steady_before = self._local(), steady()
        time = await journal.time()
        if time is None:
            return _Reading(0.0, 0.0, before - steady_before, is_the_storages=False)
        return _Reading(steady() - steady_before, time - before, time - steady_before, is_the_storages=True)
