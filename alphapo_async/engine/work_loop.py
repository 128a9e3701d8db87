"""What is done without a caller: rows of dead workers are freed, open rows settled, accepted ones refreshed, outcomes handed out."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from functools import partial
from math import inf
from typing import Final, TypeAlias

from msgspec.structs import replace

from alphapo_async.core.errors import ConfigurationError, JournalError
from alphapo_async.core.evidence import LeaseExpired, Reported
from alphapo_async.core.rate_limit import REFRESHES, is_outage
from alphapo_async.core.results import BatchResult, FlightResult, result_of, to_outcome
from alphapo_async.core.retry_policy import backoff
from alphapo_async.core.row import Row, has_expired, is_stale_no
from alphapo_async.engine.engine import Engine
from alphapo_async.engine.outage_sweep import OutageSweep
from alphapo_async.engine.streaming import as_finished

__all__ = ["WorkLoop"]

_PAGE: Final = 100
"""Rows read at once."""
_IDLE: Final = 1.0
"""Seconds between two looks at the journal when there is nothing to do."""
_LONGEST_PAUSE: Final = 30.0
"""and when it cannot be used."""
_BETWEEN_LOOKS: Final = 60.0
"""Seconds between two looks at what this worker itself holds; what it reports early is in the journal long before the next one."""
_HELD: Final = 1_000
"""Rows read at such a look, besides those that are worked on."""

Job: TypeAlias = Callable[[], Awaitable[None]]


class WorkLoop:
    """The rounds of one client.

    Args:
        engine: the client's parts.
        concurrency: rows worked on at once.
        resend: send again what look-ups do not find.
    """

    def __init__(self, engine: Engine, concurrency: int, *, resend: bool = True) -> None:
        self._enter = engine.lifecycle.enter
        self._context = engine.context
        self._journal = engine.journal
        self._recorder = engine.recorder
        self._registry = engine.registry
        self._questions = engine.questions
        self._limiter = engine.limiter
        self._keys = engine.keys
        self._lease = engine.lease
        self._observer = engine.observer
        self._supervisor = engine.supervisor
        self._concurrency = concurrency
        self._resend = resend
        self._index = itertools.count()
        """Numbers the results."""
        self._outage_sweep = OutageSweep(self._context, self._journal, self._limiter, self._keys)
        self._next_refresh = -inf
        self._next_look = 0.0
        self._pause = _IDLE
        self._failures = 0
        """Rounds in a row in which the journal could not be used."""
        self._idle: set[tuple[str, float]] = set()
        """What this worker held at the last look although no flight worked on it, and since when."""

    async def run_once(self, *, restored: bool) -> AsyncGenerator[BatchResult, None]:
        """Hand out outcomes that no caller received, then settle what is open, oldest first; each outcome is marked once it was taken.

        Raises:
            JournalError: the journal cannot be used.
        """
        refusals = self._keys.refusals
        if restored:
            await self._journal.raise_epoch(self._context.now())
        await self._recorder.epochs.look()
        await self.recover_dead_workers()
        async for row in self._unreported():
            yield await self._recorder.recheck(self._result(row))
            await self._recorder.apply(row, _reported(row))
        settle = partial(self._settle_unless_refused, refusals)
        async for result in as_finished(self._open(), settle, self._concurrency):
            yield await self._recorder.recheck(result)
            if result.outcome not in ("unknown", "not_sent"):
                await self._mark(result)

    async def run(self) -> None:
        """Do whatever is due, again and again; while the journal cannot be used, try again ever more rarely.

        Raises:
            ConfigurationError: the client was closed.
        """
        while True:
            if await self._supervisor.until_done("work", self._try_round):
                await self._context.runtime.sleep(self._pause)

    async def _try_round(self) -> bool:
        """Do what is due now; return whether to rest before the next round, and set for how long."""
        if self._lease.is_released:
            raise ConfigurationError("The client was closed; nothing more is sent.")
        self._observer.on_round()
        try:
            is_all = await self._round()
        except JournalError as error:
            self._observer.on_journal_failed(error.detail)
            self._failures += 1
            self._pause = backoff(self._failures + 1, _IDLE, _LONGEST_PAUSE)
            return True
        self._failures, self._pause = 0, _IDLE
        return is_all

    async def _round(self) -> bool:
        """Do a page of what is due now; return whether that was all.

        Raises:
            JournalError: the journal cannot be used; jobs that have not begun wait for the next round.
            Exception: the first unexpected error of a job, after the other jobs.
        """
        await self._recorder.epochs.look()
        await self.recover_dead_workers()
        await self._free_idle_rows()
        context, keys = self._context, self._keys
        due = await self._journal.find_due(context.account, context.now(), _PAGE, keys.held_back)
        to_settle = [row for row in due if row.state == "open"]
        are_due = {row.foreign_id for row in due}
        recovered = [row for row in await self._outage_sweep.claimable() if row.foreign_id not in are_due]
        asking = [partial(self._questions.ask_about_key, key) for key in keys.to_ask(asyncio.get_running_loop().time())]
        jobs: list[Job] = [
            *asking,
            *(partial(self._process, row) for row in [*to_settle, *recovered, *self._to_refresh(due)]),
        ]
        errors = [error async for error in as_finished(_each(jobs), _run, self._concurrency) if error is not None]
        if errors:
            raise errors[0]
        return len(to_settle) < _PAGE

    def _to_refresh(self, due: list[Row]) -> list[Row]:
        """Return the accepted rows of a page to look up again in this second; none in an outage, or before the second is over."""
        now = asyncio.get_running_loop().time()
        if now < self._next_refresh or is_outage(self._limiter.state):
            return []
        self._next_refresh = now + 1.0
        return [row for row in due if row.state != "open"][: int(REFRESHES)]

    async def recover_dead_workers(self) -> None:
        """Free the rows of workers that died, left, or whose lease ended: they are in doubt as of then."""
        now = self._context.now()
        for worker, until in await self._journal.find_dead(now):
            while held := await self._journal.find_held(worker, _PAGE):
                for row in held:
                    await self._recorder.apply(row, LeaseExpired(worker, self._context.clock.end_of(until, now)))
            # While its lease runs it stays on the list: it may take on more rows, whose doubt is as long.
            if until <= now:
                await self._journal.leave(worker, now)

    async def _free_idle_rows(self) -> None:
        """Free the rows that this worker has held from one look to the next without a flight: the journal took them on late."""
        flights, worker, now = self._registry.flights, self._lease.worker, self._context.now()
        if now < self._next_look:
            return
        held = await self._journal.find_held(worker, _HELD + len(flights))
        idle = {(row.foreign_id, row.held_since): row for row in held if row.foreign_id not in flights}
        for name, row in idle.items():
            if name in self._idle:
                await self._recorder.free(row)
        self._idle = set(idle)
        self._next_look = now + _BETWEEN_LOOKS

    async def _process(self, row: Row) -> None:
        """Work on a due row: under a refused key on one at a time, to find out whether it is accepted, and on those that have expired."""
        keys = self._keys
        with keys.claimed(keys.key_for(row)) as is_claimed:
            if is_claimed or has_expired(row, self._context.now()):
                await self._work_on(row)

    async def _work_on(self, row: Row) -> None:
        if row.state != "open":
            await self._questions.refresh(row)
            return
        result = await self._settle(row)
        if result.outcome not in ("unknown", "not_sent"):
            await self._mark(result)

    async def _settle_unless_refused(self, refusals: int, row: Row) -> BatchResult:
        """Settle a row, unless a body was refused for its key after `refusals` was at this mark: then nothing is sent."""
        self._enter()
        key = self._keys.key_for(row)
        if not self._keys.is_refused_since(key, refusals):
            return await self._settle(row)
        refused = replace(row, code=self._keys.code_of(key))
        return self._result(refused, FlightResult(row.foreign_id, refused, detail="key refused"))

    async def _settle(self, row: Row) -> BatchResult:
        """Have a flight settle an open row, and return what is known of the row afterwards."""
        request, outcome = await self._registry.settle(row, may_resend=self._resend)
        return result_of(next(self._index), request, outcome)

    def _result(self, row: Row, said: FlightResult | None = None) -> BatchResult:
        """Return what a row says, for a caller that has not received it."""
        said = said or FlightResult(row.foreign_id, row, is_from_journal=True)
        return result_of(next(self._index), row.revision.payment, to_outcome(said))

    async def _mark(self, result: BatchResult) -> None:
        row = await self._journal.find(self._context.account, result.request.foreign_id)
        if row is not None and not row.reported and row.state == result.outcome:
            await self._recorder.apply(row, _reported(row))

    async def _open(self) -> AsyncIterator[Row]:
        after = None
        while page := await self._journal.find_open(self._context.account, after, _PAGE):
            for row in page:
                yield row
            after = (page[-1].created_at, page[-1].foreign_id)

    async def _unreported(self) -> AsyncIterator[Row]:
        kept_back: set[str] = set()
        while page := await self._unreported_page(kept_back):
            for found in page:
                # Whoever takes them may take long, and a call may have paid one meanwhile.
                row = await self._journal.find(found.account, found.foreign_id)
                if row is not None and is_stale_no(row):
                    await self._questions.refresh(row)
                    row = await self._journal.find(found.account, found.foreign_id)
                if row is not None and is_stale_no(row):
                    kept_back.add(row.foreign_id)  # AlphaPo has not confirmed it: a later pass asks again
                elif row is not None and row.state != "open" and not row.reported:
                    yield row

    async def _unreported_page(self, kept_back: set[str]) -> list[Row]:
        found = await self._journal.find_unreported(self._context.account, _PAGE + len(kept_back))
        return [row for row in found if row.foreign_id not in kept_back]


async def _each(jobs: list[Job]) -> AsyncIterator[Job]:
    for job in jobs:
        yield job


async def _run(job: Job) -> Exception | None:
    """Do a job; return an unexpected error, which concerns one row only."""
    try:
        await job()
    except JournalError:
        raise
    except Exception as error:  # noqa: BLE001 - raised after the other jobs
        return error
    return None


def _reported(row: Row) -> Reported:
    return Reported(row.state, row.revision.number, row.expires_at)
