"""The rows that this client has claimed and that have not begun (`core.claims` says what a claim is)."""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from typing import Final

from alphapo_async.core.claims import Claim
from alphapo_async.core.errors import JournalError
from alphapo_async.core.evidence import Returned
from alphapo_async.core.retry_policy import backoff
from alphapo_async.core.row import Row
from alphapo_async.engine.context import ClientContext
from alphapo_async.engine.flight import Flight
from alphapo_async.engine.lease import Lease
from alphapo_async.engine.recorder import Recorder
from alphapo_async.engine.registry import Registry
from alphapo_async.journal import Journal
from alphapo_async.journal.stored_rows import UnreadableRow
from alphapo_async.supervisor import Supervisor

__all__ = ["Claims"]

_PAUSE: Final = 1.0
"""Seconds before rows are returned again that the journal would not take; then twice as long each time."""
_LONGEST_PAUSE: Final = 30.0


class Claims:
    """Claims of one client.

    Args:
        context: account, key and clock.
        journal: where rows are claimed.
        lease: the worker that claims.
        registry: holds the flights of claimed rows.
        recorder: records what is returned.
        supervisor: reports an unexpected error of that.
    """

    def __init__(
        self,
        context: ClientContext,
        *,
        journal: Journal,
        lease: Lease,
        registry: Registry,
        recorder: Recorder,
        supervisor: Supervisor,
    ) -> None:
        self._context = context
        self._journal = journal
        self._lease = lease
        self._registry = registry
        self._recorder = recorder
        self._supervisor = supervisor
        self.at_work = 0
        """Work loops that use these claims: a client's `work` may run twice, or begin again while the one before ends."""
        self._worker = ""
        self._made = 0
        """The worker's last claim that was answered."""
        self._is_unanswered = False
        """A claim was made whose answer was lost: it is made again under its number."""
        self._after = 0.0
        self._ready: deque[Flight] = deque()
        """Rows that may begin."""
        self._waiting: list[Flight] = []
        """Rows of the latest claim, which may begin after the next one."""
        self._to_return: dict[str, Row] = {}
        """Rows that did not begin and whose return is not recorded."""
        self._turn = asyncio.Lock()
        self._leaving: set[asyncio.Task[None]] = set()

    @property
    def ready(self) -> int:
        """How many rows may begin."""
        return len(self._ready)

    @property
    def waiting(self) -> int:
        """How many rows may begin after the next claim."""
        return len(self._waiting)

    def look_at_all(self) -> None:
        """Have the next claim look at every row that is due, also at rows that it has passed: they were returned, or recorded late."""
        self._after = 0.0

    async def refill(self, limit: int) -> int | None:
        """Claim rows, and let those of the claim before begin; return how many came, None where the lease does not run.

        Raises:
            JournalError: no answer came; the same claim is made again next.
        """
        async with self._turn:
            self._check_worker()
            key, now = self._context.signer.fingerprint, self._context.now()
            claim = Claim(self._worker, self._made + 1, key, now, limit, self._after)
            if self._registry.ended_since is None:
                self._registry.ended_since = set()
            self._is_unanswered = True
            claimed = await self._journal.claim(self._context.account, claim)
            self._is_unanswered = False
            taken_over, self._registry.ended_since = self._registry.ended_since, None
            if claimed is None:
                self.start_clocks()
                return None
            self._count(claim.number)
            self._after = claimed.last_due_at
            self._let_begin()
            self._take(claimed.rows, taken_over)
            return len(claimed.rows)

    def start_clocks(self) -> None:
        """No row may begin now, perhaps for long: callers that wait for one wait no longer than the policy's deadline."""
        for flight in self._waiting:
            if flight.waiters.is_joined:
                flight.start_clock()

    def _check_worker(self) -> None:
        """Count anew under a new lease; what was claimed under the one before is returned."""
        if self._lease.worker != self._worker:
            self._set_aside([*self._ready, *self._waiting], is_final=False)
            self._worker = self._lease.worker
            self._count(0)

    def _count(self, made: int) -> None:
        """This worker has made so many claims: rows of the last one have not begun."""
        self._made = made
        self._registry.begun = self._worker, max(0, made - 1)

    def _let_begin(self) -> None:
        for flight in self._waiting:
            flight.may_begin = True
            if flight.waiters.is_joined:
                self._registry.begin(flight)
        self._ready.extend(self._waiting)
        self._waiting = []

    def _take(self, rows: list[Row], taken_over: set[str]) -> None:
        """Register the flights of rows; return a row on which a call works, or has worked since the claim was sent: it took it over."""
        for row in rows:
            flight = None if row.foreign_id in taken_over else self._registry.register(row)
            if flight is None:
                self._to_return[row.foreign_id] = row
            else:
                self._waiting.append(flight)

    def begin_next(self) -> asyncio.Task[None] | None:
        """Begin the next row that may; None if there is none."""
        while self._ready:
            flight = self._ready.popleft()
            if flight.task is None:
                return self._registry.begin(flight)
        return None

    # ── what is returned ─────────────────────────────────────────────────────────────────────────────────────────────

    async def give_back(self, *, is_final: bool = False) -> None:
        """Return what has not begun, in one change of the journal, free and not in doubt; a row that a caller waits for begins.

        Args:
            is_final: no row begins any more: a caller that waits for one gets what is known of it.

        Raises:
            JournalError: the return could not be recorded; the next one tries again.
        """
        try:
            if self._is_unanswered or (not is_final and any(flight.waiters.is_joined for flight in self._waiting)):
                await self.refill(0)
        finally:  # at closing no caller may wait for a row that never begins, also where the journal fails
            self._set_aside([*self._ready, *self._waiting], is_final=is_final)
        await self.record_returns()

    async def record_returns(self) -> None:
        """Record the return of rows that did not begin: calls took some over, and the journal would not take others before.

        Raises:
            JournalError: it could not be recorded; the next time tries again.
        """
        rows, self._to_return = self._to_return, {}
        try:
            await asyncio.gather(*map(self._return, rows.values()))
        except BaseException:
            self._to_return = rows | self._to_return
            raise

    async def _return(self, row: Row) -> None:
        """Return a row. One that only a newer release can read by now is left to that release, for when this worker has ended."""
        with contextlib.suppress(UnreadableRow):
            await self._recorder.apply(row, Returned(row.holder or "", row.claim))

    def _set_aside(self, flights: list[Flight], *, is_final: bool) -> None:
        self._ready.clear()
        self._waiting = []
        for flight in [flight for flight in flights if flight.task is None]:
            if flight.waiters.is_joined and not is_final:
                self._waiting.append(flight)  # it begins as soon as it may
            else:
                self._registry.forget(flight)
                self._to_return[flight.row.foreign_id] = flight.row

    def leave(self, *, is_final: bool) -> asyncio.Task[None]:
        """Return in the background what has not begun; nothing at the end of a work loop while another one is at work.

        A journal that does not take that is asked again until it does: the lease continues, and frees nothing. At closing it is asked once,
        for the rows are free once the lease has ended.
        """
        task = asyncio.get_running_loop().create_task(self._leave(is_final=is_final))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)
        return task

    async def _leave(self, *, is_final: bool) -> None:
        number = 0
        while not await self._has_left(is_final=is_final):
            number += 1
            await self._context.runtime.sleep(backoff(number, _PAUSE, _LONGEST_PAUSE))

    async def _has_left(self, *, is_final: bool) -> bool:
        """Return what has not begun, and whether nothing of it is left to be returned, or to begin for a caller."""
        if self.at_work and not is_final:
            return True  # another work loop does that, or works on it
        with self._supervisor.attempt("claims"), contextlib.suppress(JournalError):
            await self.give_back(is_final=is_final)
        self.start_clocks()
        return is_final or not (self._is_unanswered or self._waiting or self._to_return)

    def stop(self) -> None:
        """End what is at work: a journal that takes nothing takes no return either."""
        for task in self._leaving:
            task.cancel()

    def leave_loop(self) -> None:
        """Forget the flights of an event loop that is closed."""
        self._ready.clear()
        self._waiting.clear()
