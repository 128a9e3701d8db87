"""What is done without a caller: rows of dead workers are freed, open rows settled, accepted ones refreshed, outcomes handed out."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from functools import partial
from math import inf
from typing import Final, NamedTuple

from msgspec.structs import replace

from alphapo_async.core.claims import is_jobs_turn, rows_to_claim
from alphapo_async.core.errors import AlphapoError, ConfigurationError, JournalError
from alphapo_async.core.evidence import Reported
from alphapo_async.core.rate_limit import REFRESHES, is_outage
from alphapo_async.core.results import BatchResult, FlightResult, result_of, to_outcome
from alphapo_async.core.retry_policy import backoff
from alphapo_async.core.row import Row, has_expired, is_stale_no
from alphapo_async.engine.engine import Engine
from alphapo_async.engine.outage_sweep import OutageSweep
from alphapo_async.engine.streaming import as_finished
from alphapo_async.supervisor import log_error

__all__ = ["WorkLoop"]

_PAGE: Final = 100
"""Rows read at once."""
_IDLE: Final = 1.0
"""Seconds between two rounds, and between two claims when there is nothing to claim."""
_LONGEST_PAUSE: Final = 30.0
"""Seconds between two rounds at most while the journal cannot be used."""
_BETWEEN_LOOKS: Final = 60.0
"""Seconds between two looks at what this worker itself holds; what it reports early is in the journal long before the next one."""
_BETWEEN_EXPIRIES: Final = 30.0
"""Seconds between two looks at what has expired while nothing can leave: each one may pass over every row that is due."""
_HELD: Final = 1_000
"""Rows read at such a look, besides those that are worked on."""


class _Job(NamedTuple):
    """Work on a row that is taken by itself, or a question; its name prevents doing it twice at a time."""

    name: str
    run: Callable[[], Awaitable[None]]


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
        self._claims = engine.claims
        self._lifecycle = engine.lifecycle
        self._concurrency = concurrency
        self._resend = resend
        self._index = itertools.count()
        """Numbers the results."""
        self._outage_sweep = OutageSweep(self._context, self._journal, self._limiter, self._keys)
        self._next_refresh = -inf
        self._next_look = 0.0
        self._next_expiries = -inf
        self._next_round = -inf
        self._next_claim = -inf
        self._failures = 0
        """Rounds in a row in which the journal could not be used."""
        self._idle: set[tuple[str, float]] = set()
        """What this worker held at the last look although no flight worked on it, and since when."""
        self._jobs: deque[_Job] = deque()
        """What waits for a slot, besides claimed rows."""
        self._names: set[str] = set()
        """Of the jobs that wait or run."""
        self._running: set[asyncio.Task[None]] = set()
        """Jobs that run."""
        self._flying = 0
        """Slots in use."""
        self._was_job = False
        self._is_page_full = False
        """The journal may have more jobs than were read."""
        self._error: BaseException | None = None
        """Of a job."""
        self._wake = asyncio.Event()
        self._has_ended = False
        """Nothing begins any more: what is under way ends without it."""

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

        Fresh rows are claimed ahead, and the next one begins whenever a slot is free. Once a second a round looks for everything else.

        Raises:
            ConfigurationError: the client was closed.
        """
        self._claims.at_work += 1
        try:
            while True:
                await self._rest(await self._supervisor.until_done("work", self._try_step))
        finally:
            self._has_ended = True
            _log_unexpected(self._error)
            self._claims.at_work -= 1
            if not self._is_closed():
                self._claims.leave(is_final=False)

    async def _rest(self, seconds: float) -> None:
        """Wait so long, or until a slot is free and nothing is ready for it; as long as it takes while the journal fails."""
        if self._failures:
            await self._context.runtime.sleep(seconds)
            return
        timer = asyncio.get_running_loop().call_later(seconds, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            timer.cancel()

    async def _try_step(self) -> float:
        """Do what is due now; return for how many seconds to rest."""
        if self._is_closed():
            raise ConfigurationError("The client was closed; nothing more is sent.")
        self._wake.clear()
        try:
            self._raise_errors()
            rest = await self._step()
        except JournalError as error:
            self._observer.on_journal_failed(error.detail)
            self._forget_jobs()
            self._failures += 1
            self._next_round = -inf
            return backoff(self._failures + 1, _IDLE, _LONGEST_PAUSE)
        except Exception:
            self._forget_jobs()
            raise
        return rest

    def _is_closed(self) -> bool:
        return self._lifecycle.state == "closed"

    def _raise_errors(self) -> None:
        """Raise the first error of a job, once."""
        error, self._error = self._error, None
        if error is not None:
            raise error

    def _forget_jobs(self) -> None:
        """Begin no job that was read before an error: the next round reads anew. Claimed rows begin later, too."""
        self._claims.start_clocks()
        self._names.difference_update(job.name for job in self._jobs)
        self._jobs.clear()
        self._next_round = -inf

    async def _step(self) -> float:
        """Make a round if it is time, claim what is missing, and begin; return for how many seconds to rest.

        Raises:
            JournalError: the journal cannot be used.
        """
        time = asyncio.get_running_loop().time
        if time() >= self._next_round:
            self._observer.on_round()
            await self._round()
            self._next_round = time() + _IDLE
        if self._is_held_up():
            await self._claims.give_back()
        elif self._is_claim_due():
            await self._claim()
        self._failures = 0
        self._begin()
        if self._is_claim_due():
            return 0.0
        is_waiting = bool(self._missing()) and not self._is_held_up()
        until = min(self._next_round, self._next_claim) if is_waiting else self._next_round
        return max(0.0, until - time())

    async def _round(self) -> None:
        """Free what dead workers held, and find what is due and not fresh.

        Raises:
            JournalError: the journal cannot be used.
        """
        await self._recorder.epochs.look()
        await self.recover_dead_workers()
        await self._claims.record_returns()
        await self._free_idle_rows()
        self._claims.look_at_all()
        self._next_claim = -inf
        context, keys = self._context, self._keys
        due = await self._journal.find_due(
            context.account, context.now(), _PAGE, keys.held_back, expired=self._is_time_for_expiries()
        )
        to_settle = [row for row in due if row.state == "open"]
        self._is_page_full = len(to_settle) == _PAGE
        if self._is_page_full:
            self._next_expiries = -inf
        for key in keys.to_ask(asyncio.get_running_loop().time()):
            self._add_job(f"key {key}", partial(self._questions.ask_about_key, key))
        for row in [*to_settle, *await self._outage_sweep.claimable(), *self._to_refresh(due)]:
            self._add_job(f"row {row.foreign_id}", partial(self._process, row))

    def _is_time_for_expiries(self) -> bool:
        """Return whether to look for rows that expired while nothing can leave; what is claimed is judged when it begins."""
        now = asyncio.get_running_loop().time()
        is_time = self._is_held_up() and now >= self._next_expiries
        if is_time:
            self._next_expiries = now + _BETWEEN_EXPIRIES
        return is_time

    def _add_job(self, name: str, run: Callable[[], Awaitable[None]]) -> None:
        """Have it done, unless it waits or runs already."""
        if name not in self._names:
            self._names.add(name)
            self._jobs.append(_Job(name, run))

    # ── claimed rows ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _is_held_up(self) -> bool:
        """Return whether fresh rows could not leave now: throttled, under a refused key, and in an outage unless a probe is due."""
        state, now = self._limiter.state, asyncio.get_running_loop().time()
        are_under_way = self._flying > len(self._running)  # each claimed row that was begun before is a probe
        is_probe_due = state.probe_at <= now and not are_under_way
        is_throttled = state.held_until > now
        return (is_outage(state) and not is_probe_due) or is_throttled or self._keys.current in self._keys.held_back

    def _is_finding_out(self) -> bool:
        """Return whether one fresh row finds out if AlphaPo answers again, or accepts a key that was refused."""
        return is_outage(self._limiter.state) or self._keys.current in self._keys.refused

    def _missing(self) -> int:
        """Return how many rows to claim now."""
        claims = self._claims
        if self._is_finding_out():
            return int(not claims.ready)
        return rows_to_claim(self._concurrency - self._flying, claims.ready, claims.waiting, self._concurrency)

    def _is_claim_due(self) -> bool:
        """Return whether to claim now: rows are missing, and the journal may have some, or rows wait for the next claim to begin."""
        is_time = asyncio.get_running_loop().time() >= self._next_claim
        return is_time and bool(self._missing()) and not self._is_held_up()

    async def _claim(self) -> None:
        missing = self._missing()
        found = await self._claims.refill(0 if self._is_finding_out() and self._claims.waiting else missing)
        # What came begins after the next claim. Where nothing is due, or the lease does not run, the next one has time.
        self._next_claim = -inf if found else self._next_round

    def _begin(self) -> None:
        """Begin what waits, in free slots; nothing while the journal fails, and nothing once the work has ended."""
        while self._flying < self._concurrency and not (self._failures or self._has_ended or self._is_closed()):
            is_first = is_jobs_turn(len(self._running), self._concurrency, was_job=self._was_job)
            if not ((is_first and self._begin_job()) or self._begin_claimed() or self._begin_job()):
                return

    def _begin_claimed(self) -> bool:
        if self._is_held_up():
            return False
        finding_out = contextlib.ExitStack()
        if self._keys.current in self._keys.refused:
            finding_out.enter_context(self._keys.claimed(self._keys.current))
        task = self._claims.begin_next()
        if task is None:
            finding_out.close()
            return False
        self._flying += 1
        self._was_job = False
        task.add_done_callback(partial(self._on_landed, finding_out))
        return True

    def _on_landed(self, finding_out: contextlib.ExitStack, _task: asyncio.Task[None]) -> None:
        finding_out.close()
        self._flying -= 1
        self._begin()
        if self._missing():
            self._wake.set()

    # ── jobs ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def _begin_job(self) -> bool:
        if not self._jobs:
            return False
        job = self._jobs.popleft()
        if not self._jobs and self._is_page_full:
            self._next_round = -inf
        task = asyncio.ensure_future(self._run_job(job))
        self._running.add(task)
        self._flying += 1
        self._was_job = True
        task.add_done_callback(partial(self._on_job_done, job.name))
        return True

    async def _run_job(self, job: _Job) -> None:
        await job.run()

    def _on_job_done(self, name: str, task: asyncio.Task[None]) -> None:
        self._running.discard(task)
        self._names.discard(name)
        self._flying -= 1
        error = None if task.cancelled() else task.exception()
        if self._error is None and not self._has_ended:
            self._error = error  # the first one is raised
        else:
            _log_unexpected(error)
        self._begin()
        self._wake.set()

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
            begun = await self._journal.begun(worker)
            while held := await self._journal.find_held(worker, _PAGE):
                end = self._context.clock.end_of(until, now)
                await asyncio.gather(*(self._recorder.end_holding(row, worker, end, begun) for row in held))
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
        await self._registry.settle(row, may_resend=self._resend, is_reported=True)

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
        if row is not None and row.state == result.outcome:
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


def _log_unexpected(error: BaseException | None) -> None:
    """Log the error of a job that is not raised any more; what AlphaPo or the journal lacked is tried again in any case."""
    if error is not None and not isinstance(error, AlphapoError):
        log_error("work", error)


def _reported(row: Row) -> Reported:
    return Reported(row.state, row.revision.number, row.expires_at)
