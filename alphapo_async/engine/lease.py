"""The lease: a client's right to send, as a worker of its journal.

A heartbeat renews the lease in the background, long before it ends. A lease that has ended never runs again, and its worker's rows are free
for other workers; the client then continues as another worker. A journal that ends with its process needs no leases.
"""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Awaitable, Callable
from math import inf
from typing import Final

from alphapo_async.core.errors import AlphapoError, ConfigurationError, JournalError
from alphapo_async.engine.clock import COMMIT_GRACE, BoundedClock
from alphapo_async.journal import Journal, is_shared
from alphapo_async.supervisor import Supervisor

__all__ = ["MARGIN", "Lease"]

MARGIN: Final = 5.0
"""Seconds that a lease must outlast an attempt, by default."""
_RENEWALS: Final = 3
"""How often a lease is prolonged in its own length."""


class Lease:
    """A client's lease.

    Args:
        journal: where the lease stands.
        account: whose rows are worked on.
        host: the host that the account belongs to.
        attempt_timeout: seconds that one attempt may take.
        clock: the clock that all workers of the journal agree on.
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
        clock: BoundedClock,
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
        self.clock = clock
        self._sleep = sleep
        self._supervisor = supervisor
        self.no_counts_later_by = 0.0
        """Seconds that are added to the date of another worker's "no" (`engine.clock`, rule 3)."""
        self._until = 0.0
        self._steady_until = 0.0
        """The same moment on the loop's clock, which is never set: a wall clock set back makes no lease longer."""
        self._opening = asyncio.Lock()
        self._heartbeat_task: asyncio.Task[None] | None = None
        self._is_over = False
        self._granted = 0.0
        """Until when the journal granted the lease, also where it counts as ended before that."""
        self._former: dict[str, float] = {}
        """Earlier workers of this client that have not left the journal yet, and until when their leases were granted."""

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
            until = self.clock.earliest() + self._duration if is_shared(self._journal) else inf
            await self._journal.join(self._account, self._host, worker, until)
            if self._is_over:
                with contextlib.suppress(JournalError):
                    await self._journal.leave(worker, self.clock.latest())
                raise ConfigurationError("The client was closed meanwhile; this call sent nothing.")
            if self.worker:
                self._former[self.worker] = self._granted
            self.worker = worker
            self._set_end(until, began)
            self._start_heartbeat()

    def _start_heartbeat(self) -> None:
        if self._heartbeat_task is None and self._until < inf:
            self._heartbeat_task = asyncio.get_running_loop().create_task(self._heartbeat())

    def _set_end(self, until: float, began: float) -> None:
        """The lease runs until then, and is counted from when it was asked for."""
        self.no_counts_later_by = COMMIT_GRACE + self.clock.max_skew if until < inf else 0.0
        self._until = self._granted = until
        self._steady_until = began + self._duration if until < inf else inf

    @property
    def is_released(self) -> bool:
        """Return whether the lease was given back for good: the client is closed."""
        return self._is_over

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
        with contextlib.suppress(JournalError):  # then they end by themselves
            await self._leave_former()
            if self.worker:
                await self._journal.leave(self.worker, self.clock.latest())

    async def _leave_former(self) -> None:
        """Have earlier workers leave whose leases have ended, which lets go of their locks."""
        now = self.clock.earliest()
        for worker in [worker for worker, until in self._former.items() if until <= now]:
            await self._journal.leave(worker, self.clock.latest())
            del self._former[worker]

    async def _heartbeat(self) -> None:
        while True:
            await self._sleep(self._duration / _RENEWALS)
            await self._supervisor.until_done("heartbeat", self._beat)

    async def _beat(self) -> None:
        with contextlib.suppress(AlphapoError):  # nothing is sent without a lease; the next beat tries again
            await self._renew()
            await self._leave_former()

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
        until = max(now + self._duration, self._granted)  # what is under way counts on what was granted
        is_renewed = await self._journal.renew(worker, until, now)
        if worker != self.worker:
            return  # a call took a new lease meanwhile: what came of the old one says nothing of that
        if is_renewed and self.clock.latest() < self._granted:
            self._set_end(until, began)
            return
        # Where it had ended before the answer came, others may have freed this worker's rows before the journal renewed it. It stays ended,
        # also where no new lease can be taken now: later renewals find the same end.
        self._until = 0.0
        await self.acquire()
