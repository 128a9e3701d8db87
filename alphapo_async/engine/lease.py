"""The tenure: a client's right to send, as a worker with a lease in its journal.

The lease is prolonged in the background, long before it ends. One that has ended never runs again, and its worker's rows are free for
others; the client then goes on as another worker. A journal that ends with its process needs no leases.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable
from math import inf
from typing import Final, NamedTuple

from alphapo_async.core.errors import AlphapoError, ConfigurationError, JournalError
from alphapo_async.journal import Journal
from alphapo_async.supervisor import Supervisor

__all__ = ["COMMIT_GRACE", "MARGIN", "BoundedClock", "Lease"]

MARGIN: Final = 5.0
"""Seconds that a lease must outlast an attempt, by default."""
_RENEWALS: Final = 3
"""How often a lease is prolonged in its own length."""
COMMIT_GRACE: Final = 0.5
"""Seconds that may pass from when a "no" is worked out until it is seen to be written down; whoever asked until then is answered by it."""
_TICK: Final = 0.001
"""Seconds by which two clocks may differ that nobody has set: they are read one after the other, and rounded."""
_MAX_SKEW: Final = 1.0
"""Seconds, as a bound: our clock is ahead of the storage's by what its answer took to come, and never by more than this."""


class _Reading(NamedTuple):
    """What one question about the time took, and how far it is ahead of this machine's two clocks, at the most."""

    took: float
    ahead: float
    steady_ahead: float
    is_the_storages: bool


class BoundedClock:
    """Seconds since the epoch, as whoever shares the journal counts them.

    Between two looks at the storage's clock it goes by this machine's two clocks, whichever says less: one of them is set now and then,
    the other stands still while the machine sleeps. So nobody's lease is thought over before it is, nor any quiet time.
    What ends, and what others are to count from, is dated by whichever says more: `latest`.

    Args:
        local: this machine's clock.
    """

    def __init__(self, local: Callable[[], float]) -> None:
        self._local = local
        self._steady = local
        self._ahead = 0.0
        self._steady_ahead = 0.0
        self._is_the_storages = False
        self._excess = 0.0
        """Seconds that the storage's answer took beyond what others allow for."""

    def earliest(self) -> float:
        """Return the time; where the storage has no clock, by the one that all go by."""
        if not self._is_the_storages:
            return self._local()
        wall, steady = self._local() + self._ahead, self._steady() + self._steady_ahead
        return (steady if wall - steady > _TICK else wall) - self._excess

    @property
    def max_skew(self) -> float:
        """Seconds by which the clocks of two that go by the same storage's may differ; none where all go by this machine's."""
        return _MAX_SKEW if self._is_the_storages else 0.0

    def latest(self) -> float:
        """Return the time by whichever clock says more: what was to end by it has ended, whatever was set meanwhile."""
        wall, steady = self._local() + self._ahead, self._steady() + self._steady_ahead
        return steady if steady - wall > _TICK else wall

    async def synchronize(self, journal: Journal) -> None:
        """Go by the storage's clock, where it has one; early by what the answer takes, so that a lease is never thought too long.

        A clock that answers late is asked again, as long as a lease has time for that, and its quickest answer counts.
        """
        if not journal.is_durable:
            return  # it is nobody else's, and would not be looked at again
        steady = asyncio.get_running_loop().time
        began, quickest = steady(), await self._look(journal, steady)
        while quickest.took > _MAX_SKEW and steady() - began <= MARGIN:
            quickest = min(quickest, await self._look(journal, steady))
        self._steady, self._excess = steady, max(quickest.took - _MAX_SKEW, 0.0)
        _, self._ahead, self._steady_ahead, self._is_the_storages = quickest

    async def _look(self, journal: Journal, steady: Callable[[], float]) -> _Reading:
        before, steady_before = self._local(), steady()
        told = await journal.time()
        if told is None:
            return _Reading(0.0, 0.0, before - steady_before, is_the_storages=False)
        return _Reading(steady() - steady_before, told - before, told - steady_before, is_the_storages=True)


class Lease:
    """A client's lease.

    Args:
        journal: where the lease stands.
        account: whose rows are worked on.
        host: the host that the account belongs to.
        attempt_timeout: seconds that one attempt may take.
        clock: seconds since the epoch, by this machine.
        sleep: waits.
        supervisor: restarts the heartbeat.
        margin: seconds that the lease must outlast an attempt.
    """

    def __init__(
        self,
        journal: Journal,
        account: str,
        host: str,
        *,
        attempt_timeout: float,
        clock: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        supervisor: Supervisor,
        margin: float = MARGIN,
    ) -> None:
        self.worker = ""
        """The name under which rows are held; empty until the journal is open."""
        self._journal = journal
        self._account = account
        self._host = host
        self._needed = attempt_timeout + margin
        self._duration = _RENEWALS * self._needed
        self.clock = BoundedClock(clock)
        self._sleep = sleep
        self._supervisor = supervisor
        self.max_skew = 0.0
        """Seconds after which a "no" of another worker is surely older than a call: it may take long to be written down."""
        self._until = 0.0
        self._steady_until = 0.0
        """The same moment on the loop's clock, which nobody sets: a wall clock set back makes no lease longer."""
        self._opening = asyncio.Lock()
        self._heartbeat_task: asyncio.Task[None] | None = None
        self._is_over = False

    async def acquire(self) -> None:
        """Open the journal and take a lease, if there is none that runs.

        Raises:
            JournalError: the journal cannot be used.
            ConfigurationError: the account belongs to another host, or the client was closed meanwhile.
        """
        async with self._opening:
            if self.is_running:
                return
            await self.clock.synchronize(self._journal)
            worker, began = uuid.uuid4().hex, asyncio.get_running_loop().time()
            until = self.clock.earliest() + self._duration if self._journal.is_durable else inf
            await self._journal.join(self._account, self._host, worker, until)
            if self._is_over:
                await self._give_back(worker)
                raise ConfigurationError("The client was closed meanwhile; this call sent nothing.")
            self.worker = worker
            self._set_end(until, began)
            self._start_heartbeat()

    def _start_heartbeat(self) -> None:
        if self._heartbeat_task is None and self._until < inf:
            self._heartbeat_task = asyncio.get_running_loop().create_task(self._heartbeat())

    def _set_end(self, until: float, began: float) -> None:
        """The lease runs until then, and is counted from when it was asked for."""
        self.max_skew = COMMIT_GRACE + self.clock.max_skew if until < inf else 0.0
        self._until = until
        self._steady_until = began + self._duration if until < inf else inf

    @property
    def is_running(self) -> bool:
        """There is a lease, and it has not ended."""
        return self._remaining() > 0

    def may_send(self, worker: str) -> bool:
        """Tell whether a body may leave under this worker's name: its lease outlasts the attempt."""
        return worker == self.worker and self._remaining() >= self._needed

    def _remaining(self) -> float:
        """Return the seconds for which the lease runs, by whichever clock says less."""
        if self._until == inf:
            return inf
        return min(self._until - self.clock.latest(), self._steady_until - asyncio.get_running_loop().time())

    async def release(self) -> None:
        """Give the lease back, and take none any more."""
        self._is_over = True
        if self._heartbeat_task is not None and not self._heartbeat_task.done():
            self._heartbeat_task.cancel()
            await asyncio.gather(self._heartbeat_task, return_exceptions=True)
        self._until = 0.0
        if self.worker:
            await self._give_back(self.worker)

    async def _give_back(self, worker: str) -> None:
        with contextlib.suppress(JournalError):  # then it ends by itself
            await self._journal.leave(worker, self.clock.latest())

    async def _heartbeat(self) -> None:
        while True:
            await self._sleep(self._duration / _RENEWALS)
            await self._supervisor.until_done("heartbeat", self._beat)

    async def _beat(self) -> None:
        with contextlib.suppress(AlphapoError):  # nothing is sent without a lease; the next beat tries again
            await self._renew()

    async def confirm(self) -> None:
        """Renew the lease in a journal that went back, and may have forgotten it; another is taken where it has.

        Raises:
            JournalError: the journal cannot be used: the lease counts as ended until it is renewed.
        """
        try:
            await self._renew()
        except AlphapoError:
            self._until = 0.0
            raise

    async def _renew(self) -> None:
        await self.clock.synchronize(self._journal)
        worker, now, began = self.worker, self.clock.earliest(), asyncio.get_running_loop().time()
        until = now + self._duration
        is_renewed = await self._journal.renew(worker, until, now)
        if worker != self.worker:
            return  # a call took a new lease meanwhile: what came of the old one says nothing of that
        if is_renewed:
            self._set_end(until, began)
        else:
            self._until = 0.0
            await self.acquire()
