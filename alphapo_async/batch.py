"""Many withdrawals, bounded and streamed: one call pays each row, and its result is yielded as soon as the row has one.

A `Batch` is handed what it calls: how to pay one row, and until when the latest outage lasted. `pay_many` makes it of a client's parts.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterable, Awaitable, Callable, Iterable, Mapping
from functools import partial
from math import inf
from typing import Any, Final, Protocol, TypeAlias

import msgspec

from alphapo_async.core.errors import (
    AlphapoError,
    AuthenticationError,
    ConfigurationError,
    InvalidRequest,
    JournalError,
    WithdrawalNotSent,
    WithdrawalUnknown,
)
from alphapo_async.core.models import Withdrawal, WithdrawalRequest, request_of
from alphapo_async.core.replies import INTERNAL_ERROR
from alphapo_async.core.results import BatchResult, key_refused, result_of
from alphapo_async.core.setting_checks import check_count
from alphapo_async.engine.engine import Engine
from alphapo_async.engine.recorder import Recorder
from alphapo_async.supervisor import log_error

__all__ = ["Batch", "LetGo", "Pay", "Requests", "Rest", "check_requests", "pay_many"]

_MOST_RESTING: Final = 256
"""Rows that may wait in a backoff or an outage, besides the rows at work. It bounds the memory."""
_IN_ONE_GO: Final = 64
"""Rows that are taken before other tasks get a turn: a source that never waits must not block the event loop."""
_PARTING: Final = 5.0
"""Seconds that the source of the rows has to end once no more rows are taken. After that the batch ends without it."""

WithdrawOutcome: TypeAlias = Withdrawal | AlphapoError
Requests: TypeAlias = (
    "Iterable[WithdrawalRequest | Mapping[str, Any]] | AsyncIterable[WithdrawalRequest | Mapping[str, Any]]"
)
Rest: TypeAlias = Callable[[float], Awaitable[None]]
"""Sleeps so many seconds, and lends the row's place to another row meanwhile."""
LetGo: TypeAlias = Callable[[], None]
"""Gives up a row that has not been sent yet, so that it ends as not sent."""


class Pay(Protocol):
    """Pays one row; an error is reported, not raised."""

    async def __call__(
        self,
        request: WithdrawalRequest,
        *,
        report: Callable[[WithdrawOutcome], None],
        rest: Rest,
        is_probe: bool,
        at_end: Callable[[LetGo], None],
    ) -> None:
        """Pay it.

        Args:
            request: what to pay.
            report: takes the outcome, once; where the row's time is up, before the payment has ended.
            rest: sleeps through a backoff.
            is_probe: wait for a probe's turn in an outage; otherwise return as soon as an outage prevents the sending.
            at_end: takes the function that gives up the row, which is called if the batch ends early.
        """
        ...


class _Row(msgspec.Struct, eq=False):
    """A row that was taken and has no result yet."""

    index: int
    request: WithdrawalRequest
    began: float = 0.0
    outcome: WithdrawOutcome | None = None
    let_go: LetGo = lambda: None


class Batch:
    """One batch.

    At most `concurrency` rows are at work at once. A row in backoff lends its place to another row. A row that an outage stops is parked
    and continues afterwards; while the outage lasts no row is taken, and one parked row after another probes.

    Args:
        pay: pays one row.
        concurrency: rows at work at once.
        outage_until: returns the end of the latest outage: infinite while it lasts, negative if there was none.
        now: the clock of that time.
        sleep: sleeps so many seconds.
        between_probes: minimum seconds between the starts of two probing rows.
        key_code: returns AlphaPo's code if it refuses the key for new rows; None if it does not.
    """

    def __init__(
        self,
        pay: Pay,
        *,
        concurrency: int,
        outage_until: Callable[[], float],
        now: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
        between_probes: float,
        key_code: Callable[[], str | None] = lambda: None,
    ) -> None:
        self._pay = pay
        self._concurrency = concurrency
        self._outage_until = outage_until
        self._now = now
        self._sleep = sleep
        self._between_probes = between_probes
        self._key_code = key_code
        self._paying: dict[_Row, asyncio.Task[None]] = {}
        """The rows at work without an outcome yet, each with the task that pays it."""
        self._resting = 0
        self._returning: deque[asyncio.Future[None]] = deque()
        self._parked: deque[_Row] = deque()
        self._finished: deque[BatchResult] = deque()
        self._room = asyncio.Event()
        self._news = asyncio.Event()
        self._next_probe = -inf
        self._timer: asyncio.TimerHandle | None = None
        self._parting: asyncio.TimerHandle | None = None
        self._is_ending = False
        self._lets_go = False
        self._has_parted = False
        self._feeder: asyncio.Task[None]
        self._failure: BaseException | None = None

    def __repr__(self) -> str:
        return f"Batch({len(self._paying)} under way, {self._resting} in backoff, {len(self._parked)} parked)"

    async def results(self, requests: Requests, stop: asyncio.Event | None = None) -> AsyncGenerator[BatchResult, None]:
        """Yield the result of every row as it finishes; closing early waits for rows at work.

        Args:
            requests: the rows; the next one is taken only when there is room for it. An async generator is closed.
            stop: once set, no row is taken and no outage waited for; rows that were not sent end as not sent, and the batch ends with the
                rows at work.

        Raises:
            AuthenticationError: AlphaPo refused the key; no more rows were taken, and each row that was taken has its result. The error is
                about no single row.
            JournalError: the journal failed; likewise.
            Exception: what `requests` raised; likewise.
        """
        self._feeder = asyncio.get_running_loop().create_task(self._feed(requests))
        self._feeder.add_done_callback(self._fed)
        stopper = asyncio.ensure_future(self._end_at(stop))
        self._step()
        try:
            while await self._has_more():
                yield self._finished.popleft()
                self._step()
        except GeneratorExit:
            self._end(lets_go=True)
            await self._under_way_has_ended()
            raise
        finally:
            # A cancelled caller does not wait: rows at work continue in tasks of their own.
            self._end(lets_go=True)
            stopper.cancel()
        if self._failure is not None:
            raise self._failure

    async def _has_more(self) -> bool:
        """Wait for the next result; return False if there are no more."""
        while not self._finished:
            if self._has_parted and not self._paying and not self._parked:
                return False
            self._news.clear()
            await self._news.wait()
        return True

    async def _under_way_has_ended(self) -> None:
        while self._paying or not self._has_parted:
            self._news.clear()
            await self._news.wait()

    # ── taking rows ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _feed(self, requests: Requests) -> None:
        """Take one row after another, as there is room."""
        index = 0
        await self._room.wait()
        async with contextlib.aclosing(_each(requests)) as items:
            async for item in items:
                if self._is_ending:
                    return  # the source was cancelled, and yielded another row
                self._take(index, item)
                index += 1
                if index % _IN_ONE_GO == 0:
                    await asyncio.sleep(0)
                await self._room.wait()

    def _take(self, index: int, item: Any) -> None:
        try:
            request = request_of(item)
        except InvalidRequest as error:
            self._finish(BatchResult(index=index, request=item, withdrawal=None, error=error))
        else:
            self._start(_Row(index, request))
        self._step()

    def _fed(self, feeder: asyncio.Future[None]) -> None:
        if self._has_parted:
            _ = feeder.cancelled() or feeder.exception()  # retrieved, and too late to count
            return
        if feeder.cancelled():
            if not self._is_ending:  # the source itself was cancelled, so rows may be missing
                self._fail(asyncio.CancelledError("the rows' source was cancelled"))
        elif (error := feeder.exception()) is not None:
            self._fail(error)
        self._part()

    def _leave_source(self) -> None:
        """Wait no longer for a source that was cancelled and did not end; cancel it once more."""
        self._part()
        self._feeder.cancel()

    def _part(self) -> None:
        """Expect no more rows of the source."""
        if self._parting is not None:
            self._parting.cancel()
        self._has_parted = True
        self._news.set()

    async def _end_at(self, stop: asyncio.Event | None) -> None:
        if stop is not None:
            await stop.wait()
            self._end(lets_go=True)

    def _end(self, *, lets_go: bool = False) -> None:
        """Take no more rows, and wait for no outage.

        Args:
            lets_go: also give up rows that were taken and not sent.
        """
        if not self._is_ending:
            self._is_ending = True
            self._feeder.cancel()
            if not self._has_parted:
                self._parting = asyncio.get_running_loop().call_later(_PARTING, self._leave_source)
        if self._timer is not None:
            self._timer.cancel()
        if lets_go and not self._lets_go:
            self._lets_go = True
            for row in list(self._paying):
                row.let_go()
        self._step()

    # ── working on rows ──────────────────────────────────────────────────────────────────────────────────────────────

    def _start(self, row: _Row, *, is_probe: bool = False) -> None:
        row.began, row.outcome = self._now(), None
        self._paying[row] = asyncio.ensure_future(self._work_on(row, is_probe=is_probe))

    async def _work_on(self, row: _Row, *, is_probe: bool) -> None:
        report, at_end = partial(self._conclude, row), partial(self._at_end, row)
        try:
            if self._at_work > self._concurrency:  # the source was slow, and the row's place is taken
                await self._rest(0.0)
            await self._pay(row.request, report=report, rest=self._rest, is_probe=is_probe, at_end=at_end)
        except ConfigurationError as error:  # the client was closed
            if not self._is_ending:
                self._fail(error)
            report(_closed(row.request))
        except Exception as error:  # noqa: BLE001 - without an outcome of each row the batch would never end
            log_error("internal error in a row of a batch", error)
            if self._paying.get(row) is asyncio.current_task():
                report(_failed(row.request))

    def _at_end(self, row: _Row, let_go: LetGo) -> None:
        if self._lets_go:
            let_go()
        else:
            row.let_go = let_go

    def _conclude(self, row: _Row, outcome: WithdrawOutcome) -> None:
        """Take the row's outcome: report it, or park the row where an outage stopped it."""
        del self._paying[row]
        row.outcome = outcome
        if self._is_kept_by_outage(row, outcome):
            self._parked.append(row)
        else:
            self._report(row, outcome)
        self._step()
        self._news.set()

    def _is_kept_by_outage(self, row: _Row, outcome: WithdrawOutcome) -> bool:
        """Return whether an outage stopped the row, so that another try may help."""
        is_loose = isinstance(outcome, WithdrawalNotSent | WithdrawalUnknown) and outcome.reason not in _ENDED
        return is_loose and not self._is_ending and self._outage_until() >= row.began

    async def _rest(self, seconds: float) -> None:
        """Sleep, and lend the place meanwhile; the row gets a place again before any new row."""
        self._resting += 1
        self._step()
        try:
            await self._sleep(seconds)
            while self._at_work >= self._concurrency:
                place: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                self._returning.append(place)
                await place
        finally:
            self._resting -= 1

    def _report(self, row: _Row, outcome: WithdrawOutcome) -> None:
        if isinstance(outcome, JournalError):
            self._fail(outcome, lets_go=True)
        elif (code := self._refused_code(outcome)) is not None:
            self._fail(_key_refused(code), lets_go=True)
        self._finish(result_of(row.index, row.request, outcome))

    def _refused_code(self, outcome: WithdrawOutcome) -> str | None:
        """Return AlphaPo's code if this row shows that AlphaPo would refuse the key of new rows.

        A row that stays open may have been signed with another key, whose refusal proves nothing about new rows.
        """
        if isinstance(outcome, AuthenticationError):
            return outcome.code
        return self._key_code() if isinstance(outcome, WithdrawalUnknown) and outcome.reason == "key refused" else None

    def _finish(self, result: BatchResult) -> None:
        self._finished.append(result)
        self._news.set()

    def _fail(self, error: BaseException, *, lets_go: bool = False) -> None:
        self._failure = self._failure or error
        self._end(lets_go=lets_go)

    # ── free places ──────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def _at_work(self) -> int:
        return len(self._paying) - self._resting

    @property
    def _has_room(self) -> bool:
        """Return whether one more row may be taken; its result needs room, too."""
        if self._is_ending or self._parked or self._at_work + len(self._finished) >= self._concurrency:
            return False
        if self._is_outage:
            return not self._paying
        return len(self._paying) < self._concurrency + _MOST_RESTING

    @property
    def _is_outage(self) -> bool:
        return self._outage_until() == inf

    def _step(self) -> None:
        """Give free places to rows back from a backoff, then to parked rows, then to new ones."""
        if self._at_work < self._concurrency:
            self._let_one_return()
        if self._parked:
            self._unpark()
        if self._has_room:
            self._room.set()
        else:
            self._room.clear()

    def _let_one_return(self) -> None:
        while self._returning:
            place = self._returning.popleft()
            if not place.done():  # a cancelled row does not wait any more
                place.set_result(None)
                return

    def _unpark(self) -> None:
        if self._is_ending:
            while self._parked:
                row = self._parked.popleft()
                assert row.outcome is not None  # noqa: S101 - parked with its outcome
                self._report(row, row.outcome)
        elif not self._is_outage:
            while self._parked and self._at_work < self._concurrency:
                self._start(self._parked.popleft())
        elif not self._paying:
            self._probe()

    def _probe(self) -> None:
        """In an outage, work on one parked row: one that is in doubt if there is one, so that no other row gets into doubt."""
        now = self._now()
        if now < self._next_probe:
            self._timer = self._timer or asyncio.get_running_loop().call_later(self._next_probe - now, self._on_timer)
            return
        self._next_probe = now + self._between_probes
        row = next((row for row in self._parked if isinstance(row.outcome, WithdrawalUnknown)), self._parked[0])
        self._parked.remove(row)
        self._start(row, is_probe=True)

    def _on_timer(self) -> None:
        self._timer = None
        self._step()


async def pay_many(
    engine: Engine, requests: Requests, concurrency: int, *, resend_rejected: bool, stop: asyncio.Event | None
) -> AsyncGenerator[BatchResult, None]:
    """Pay many with the parts of one client, and yield their results as they finish (`AlphapoClient.batch`)."""
    loop, context, keys, recorder = engine.lifecycle.enter(), engine.context, engine.keys, engine.recorder
    check_requests(requests)
    if stop is not None and not isinstance(stop, asyncio.Event):
        raise ConfigurationError(f"stop must be an asyncio.Event, not {type(stop).__name__}; nothing was sent.")
    batch = Batch(
        partial(engine.registry.pay_row, resend_rejected=resend_rejected),
        concurrency=check_count("concurrency", concurrency),
        outage_until=lambda: engine.limiter.outage_until,
        now=loop.time,
        sleep=context.runtime.sleep,
        between_probes=context.policy.wait_max,
        key_code=lambda: keys.code_of(keys.current),
    )
    await engine.lease.acquire()
    async with contextlib.aclosing(batch.results(requests, stop)) as results:
        async for result in results:
            if result.error is None:
                yield result
                continue
            try:
                known = await _recheck(recorder, result)
            except asyncio.CancelledError as cancelled:
                known = await results.athrow(cancelled)  # raises it there: rows at work are not waited for
            yield known


async def _recheck(recorder: Recorder, result: BatchResult) -> BatchResult:
    """Return the result as it stands; where the journal cannot say, as unknown."""
    try:
        return await recorder.recheck(result)
    except JournalError as error:
        unsure = JournalError(error.detail, recorded=None, foreign_id=result.request.foreign_id)
        return result_of(result.index, result.request, unsure)


_ENDED: Final = ("closing", "closed", "journal", INTERNAL_ERROR)
"""Reasons that another try does not change."""


async def _each(requests: Requests) -> AsyncGenerator[Any, None]:
    if isinstance(requests, AsyncGenerator):
        # A batch that ends early must not leave the generator, and what it holds open, to the garbage collector.
        async with contextlib.aclosing(requests):
            async for item in requests:
                yield item
    elif isinstance(requests, AsyncIterable):
        async for item in requests:
            yield item
    else:
        for item in requests:
            yield item


def check_requests(requests: object) -> None:
    """Pass if the argument can be iterated, row by row.

    Raises:
        ConfigurationError: it is a single request, a text, or not iterable.
    """
    is_one = isinstance(requests, WithdrawalRequest | Mapping | str | bytes)
    if is_one or not isinstance(requests, Iterable | AsyncIterable):
        raise ConfigurationError(
            f"batch takes an iterable or async iterable of requests, not {type(requests).__name__}; nothing was sent."
        )


def _closed(request: WithdrawalRequest) -> WithdrawalUnknown:
    return WithdrawalUnknown(
        f"Withdrawal {request.foreign_id!r} was not sent by this call, for the client was closed; earlier ones may have sent it.",
        foreign_id=request.foreign_id,
        reason="closing",
    )


def _failed(request: WithdrawalRequest) -> WithdrawalUnknown:
    return WithdrawalUnknown(
        f"Withdrawal {request.foreign_id!r} failed with an internal error; see the log.",
        foreign_id=request.foreign_id,
        reason=INTERNAL_ERROR,
    )


def _key_refused(code: str) -> AuthenticationError:
    return AuthenticationError(
        f"The batch took no more rows: {key_refused(code)}. Each row that it took has its result.", code=code
    )
