"""AlphapoClient: pays withdrawals, each of them once, and knows whether money moved."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable, Iterator
from decimal import Decimal
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self, cast

import msgspec

from alphapo_async.batch import Batch, LetGo, Requests, Rest, check_requests
from alphapo_async.core.callbacks import Callback, CallbackKind, Headers, is_withdrawal, read_callback
from alphapo_async.core.codec import AMOUNT_FORMATS, AmountFormat, encode_body
from alphapo_async.core.errors import (
    AlphapoError,
    CallbackBusy,
    ConfigurationError,
    InvalidRequest,
    JournalError,
    WithdrawalError,
)
from alphapo_async.core.events import Event
from alphapo_async.core.evidence import LookedUp, ReplyExcerpt, Requested, Revision
from alphapo_async.core.frames import hides_arguments
from alphapo_async.core.history import KEPT_CALLBACK, noted, requested
from alphapo_async.core.models import Health, Totals, Transaction, Withdrawal, WithdrawalRequest, foreign_id_text
from alphapo_async.core.next_step import is_no_longer_refreshed
from alphapo_async.core.outcome import Found, NoneFound
from alphapo_async.core.rate_limit import Priority, budget_left, is_outage
from alphapo_async.core.reference_data import Currency, Quote, quote_request
from alphapo_async.core.results import BatchResult, FlightResult, clash, result_of, to_outcome
from alphapo_async.core.retry_policy import RetryPolicy
from alphapo_async.core.row import NEGATIVE_STATES, Row, is_stale_no, may_have_forgotten
from alphapo_async.core.setting_checks import check_count, check_seconds
from alphapo_async.core.signer import Signer
from alphapo_async.core.transitions import TOO_LITTLE, may_be_on_its_way, new_row, why_not_ours
from alphapo_async.core.version import __version__
from alphapo_async.engine.closing import Closing, Step
from alphapo_async.engine.context import ClientContext, Runtime, host_of
from alphapo_async.engine.flight import Flight
from alphapo_async.engine.inbox import ActiveBlocks, Inbox
from alphapo_async.engine.observer import Observer
from alphapo_async.engine.reference_data import ReferenceData, unavailable
from alphapo_async.engine.work_loop import WorkLoop
from alphapo_async.journal import Journal, Outbox
from alphapo_async.session import SessionManager
from alphapo_async.settings import (
    PRODUCTION,
    all_signers,
    by_fingerprint,
    check_account,
    check_base_url,
    check_hook,
    check_rate,
    from_environment,
    the_journal,
)

__all__ = ["AlphapoClient"]

_DAY = 86_400.0
_REFRESH_WAIT = 2.0  # seconds that a refresh waits for its turn
_LOOKED_THROUGH = 1_000  # open rows, for the oldest doubt
_CANCEL_GRACE = 0.8  # seconds that cancelled flights get to record where they stand
_LAST_GRACE = 0.1  # and those that could not, to end


class AlphapoClient:
    """Sends crypto withdrawals to AlphaPo, each of them once.

    Making one does no I/O and needs no running loop; it opens at `async with` or at first use, and belongs to that event loop from then on.

    Args:
        key: public API key.
        secret: secret key; it stays in memory.
        journal: what is promised and what came of it: a file, `postgresql://…`, `"memory"`, or a `Journal`. May be left out only for a
            loopback `base_url`.
        base_url: AlphaPo's host; https, except for loopback.
        account: your name for the merchant account; the journal knows a withdrawal by account and foreign_id.
        retired_keys: (key, secret) pairs under which rows still in doubt were sent.
        policy: how long and how often one withdrawal is tried.
        max_connections: requests under way at once; the session's, if one is given.
        max_rate: withdrawals sent per second, evenly, those included that are sent again; None for no limit.
        session: a `SessionManager` of your own, for a proxy, a certificate authority or a pool shared by clients; you close it.
        amount_format: `"number"`, as AlphaPo's schema has it, or `"string"`, as its samples do.
        on_event: an ordinary function, called with every `Event`; what it raises is logged and goes no further.
        close_grace: seconds that closing gives to what is under way; closing ends within 3 s after that, whatever hangs.
        _runtime: clock, randomness and sleep, for tests.

    Raises:
        ConfigurationError: a setting is missing or wrong; nothing was sent.
    """

    @hides_arguments
    def __init__(
        self,
        key: str,
        secret: str,
        *,
        journal: Journal | str | Path | None = None,
        base_url: str = PRODUCTION,
        account: str = "default",
        retired_keys: Iterable[tuple[str, str]] = (),
        policy: RetryPolicy | None = None,
        max_connections: int = 100,
        max_rate: float | None = None,
        session: SessionManager | None = None,
        amount_format: AmountFormat = "number",
        on_event: Callable[[Event], None] | None = None,
        close_grace: float = 5.0,
        _runtime: Runtime | None = None,
    ) -> None:
        signer = Signer(key, secret)
        if amount_format not in AMOUNT_FORMATS:
            raise ConfigurationError(f'amount_format must be "number" or "string", not {amount_format!r}.')
        check_account(account)
        if policy is not None and not isinstance(policy, RetryPolicy):
            raise ConfigurationError(f"policy must be a RetryPolicy, not {type(policy).__name__}.")
        if session is not None and not isinstance(session, SessionManager):
            raise ConfigurationError(f"session must be a SessionManager, not {type(session).__name__}.")
        if on_event is not None:
            check_hook("on_event", on_event, is_async=False, arguments=1)
        signers = all_signers(signer, retired_keys)
        self._base_url = check_base_url(base_url)
        self._signer = signer
        self._amount_format: AmountFormat = amount_format
        self._close_grace = check_seconds("close_grace", close_grace)
        self._owns_journal = journal is None or isinstance(journal, str | Path)
        self._owns_session = session is None
        runtime = _runtime or Runtime(time.time, random.random, asyncio.sleep)
        observer = Observer(account, on_event, runtime.clock, self._base_url)
        self._context = ClientContext(
            account=account,
            signers=by_fingerprint(signers),
            journal=the_journal(journal, self._base_url),
            session=session or SessionManager(max_connections=max_connections),
            policy=policy or RetryPolicy(),
            max_rate=check_rate(max_rate),
            base_url=self._base_url,
            runtime=runtime,
            observer=observer,
        )
        self._verifiers = signers
        self._flights: dict[str, Flight] = self._context.flights
        self._blocks = ActiveBlocks()
        context = self._context
        self._reference_data = ReferenceData(context, signer)
        self._inbox = Inbox(account, context.journal, lambda: context.lease.worker, context.runtime, context.supervisor)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = os.getpid()
        """Where it was opened: connections do not survive a fork."""
        self._closing: Closing | None = None

    @classmethod
    @hides_arguments
    def from_env(cls, **settings: Any) -> Self:
        """Make a client from the environment.

        It reads `ALPHAPO_KEY`, `ALPHAPO_SECRET` or `ALPHAPO_SECRET_FILE`, `ALPHAPO_RETIRED_KEYS_FILE` (one pair a line: key, blank,
        secret), `ALPHAPO_BASE_URL`, `ALPHAPO_JOURNAL` and `ALPHAPO_ACCOUNT`.

        Args:
            settings: further arguments of `AlphapoClient`; they win over the environment.

        Raises:
            ConfigurationError: a setting is missing or wrong.
        """
        return cls(**from_environment(os.environ, settings))

    def __repr__(self) -> str:
        if not hasattr(self, "_closing"):
            return "AlphapoClient(not made: a setting was refused)"
        state = "closed" if self._closing else "open" if self._loop else "not opened"
        return f"AlphapoClient({self._base_url!r}, account={self._context.account!r}, {state}, {len(self._flights)} in flight)"

    async def __aenter__(self) -> Self:
        self._enter()
        try:
            await self._context.lease.acquire()
        except BaseException:
            await self.aclose(0.0)  # no block follows that would close it
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    # ── withdrawals ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def withdraw(
        self,
        request: WithdrawalRequest,
        *,
        deadline: float | None = None,
        resend_rejected: bool = False,
        attempted_before: bool = False,
    ) -> Withdrawal:
        """Pay, once, and return what AlphaPo has; calling again with the same request never pays again.

        Args:
            request: what to pay.
            deadline: seconds from now after which you want to be told, instead of the policy's; the work goes on in the background while
                an attempt is under way.
            resend_rejected: send again what AlphaPo has rejected before.
            attempted_before: this may have been sent under the same foreign_id before, less than `resend_within` ago, from somewhere the
                journal knows nothing of. It is looked up before anything leaves. For what may be older use `look_up`.

        Raises:
            InvalidRequest: the amount cannot be written exactly in the client's `amount_format`.
            WithdrawalRejected: AlphaPo refused. No money moved.
            WithdrawalFailed: AlphaPo had it and ended it. No money moved.
            WithdrawalNotSent: it never arrived. No money moved.
            WithdrawalUnknown: nobody can say yet. Keep it pending.
            ForeignIdConflict: the foreign_id was already used for another payment, which stands: `existing`. This one was not sent.
            AuthenticationError: AlphaPo does not accept the key or the signature.
            JournalError: nothing was sent, since it could not be written down.
            ConfigurationError: the client is closed or belongs to another event loop; this call sent nothing.
        """
        loop = self._enter()
        began = loop.time()
        due = None if deadline is None else began + check_seconds("deadline", deadline)
        ago = 0.0
        if not self._context.lease.is_running:
            await self._open_journal(request, due)
            self._enter()  # it may have been closed meanwhile
            ago = loop.time() - began
        asked = self._asked(request, resend_rejected=resend_rejected, attempted_before=attempted_before, ago=ago)
        flight = await self._flight_of(asked, request, loop, due)
        outcome = to_outcome(await flight.waiters.join(due))
        while asked.attempted_before and not flight.asked.attempted_before and _is_no(outcome):
            # The flight that was shared did not know of it, and its "no" says nothing about what was sent before.
            self._enter()
            flight = await self._flight_of(asked, request, loop, due)
            outcome = to_outcome(await flight.waiters.join(due))
        if isinstance(outcome, Withdrawal):
            return outcome
        raise outcome

    async def batch(
        self,
        requests: Requests,
        concurrency: int = 64,
        *,
        resend_rejected: bool = False,
        stop: asyncio.Event | None = None,
    ) -> AsyncGenerator[BatchResult, None]:
        """Pay many, a bounded number at a time and in constant memory, and yield their results as they finish.

        A row in backoff lends its place to another. An outage of AlphaPo is waited through: nothing new is taken meanwhile, and one row
        after another probes. No row's error is raised: it is in the row's result. Leaving the loop early (`contextlib.aclosing` sees to it
        at once) waits for what is under way, and closes an async generator of rows. What was taken and has not left by then ends as not
        sent.

        Args:
            requests: an iterable or async iterable of requests, or of mappings of their fields; a wrong one is `invalid` in its result.
            concurrency: rows worked on at once.
            resend_rejected: send again what AlphaPo has rejected before.
            stop: once set, nothing more is taken or waited for, and what has not left yet ends as not sent; the results of what is under
                way still come.

        Raises:
            AuthenticationError: AlphaPo does not accept the key or the signature. Nothing more was taken; the results of all that was taken
                have been yielded. So it is with the next ones.
            JournalError: the journal failed.
            ConfigurationError: the client is closed, or belongs to another event loop.
            Exception: whatever `requests` raises.
        """
        loop = self._enter()
        check_requests(requests)
        if stop is not None and not isinstance(stop, asyncio.Event):
            raise ConfigurationError(f"stop must be an asyncio.Event, not {type(stop).__name__}; nothing was sent.")
        batch = Batch(
            partial(self._pay_row, resend_rejected),
            concurrency=check_count("concurrency", concurrency),
            outage_until=lambda: self._context.limiter.outage_until,
            now=loop.time,
            sleep=self._context.runtime.sleep,
            between_probes=self._context.policy.wait_max,
            key_code=lambda: self._context.keys.code_of(self._signer.fingerprint),
        )
        await self._context.lease.acquire()
        async with contextlib.aclosing(batch.results(requests, stop)) as results:
            async for result in results:
                try:
                    known = await self._as_far_as_known(result)
                except asyncio.CancelledError as cancelled:
                    known = await results.athrow(cancelled)  # raises it there: rows at work are not waited for
                yield known

    async def _as_far_as_known(self, result: BatchResult) -> BatchResult:
        """Return the result as it stands; where the journal cannot say, as unknown."""
        try:
            return await self._as_it_stands(result)
        except JournalError as error:
            unsure = JournalError(error.detail, recorded=None, foreign_id=result.request.foreign_id)
            return result_of(result.index, result.request, unsure)

    async def _as_it_stands(self, result: BatchResult) -> BatchResult:
        """A "no" that had to wait until it was taken may have been undone by a call meanwhile: then what is known now is told.

        Raises:
            JournalError: nobody can say now whether it stands.
        """
        request = result.request
        if result.outcome not in NEGATIVE_STATES or not isinstance(request, WithdrawalRequest):
            return result
        row = await self._context.stands(request.foreign_id)
        if row is None or not row.revision.is_same_payment(Revision(b"", request)):
            return result
        if row.state == result.outcome and not is_stale_no(row):
            return result
        return result_of(result.index, request, to_outcome(FlightResult(row.foreign_id, row, is_from_journal=True)))

    async def _pay_row(
        self,
        resend_rejected: bool,  # noqa: FBT001 - bound once
        request: WithdrawalRequest,
        *,
        rest: Rest,
        is_probe: bool,
        at_end: Callable[[LetGo], None],
    ) -> Withdrawal | AlphapoError:
        """Do for a row of a batch what `withdraw` does, and return what it raises."""
        loop = self._enter()
        try:
            asked = self._asked(request, resend_rejected=resend_rejected, attempted_before=False)
            flight = await self._flight_of(asked, request, loop, None, rest=rest)
        except (InvalidRequest, WithdrawalError, JournalError) as error:
            return error
        caller = flight.waiters.join(None, fail_fast_in_outage=not is_probe)
        at_end(partial(flight.let_go, caller))
        return to_outcome(await caller)

    async def _open_journal(self, request: WithdrawalRequest, due: float | None) -> None:
        """Open it in time, or say that nothing was sent."""
        wrong, recorded = "it could not be opened in time", None
        until = asyncio.get_running_loop().time() + self._context.policy.deadline if due is None else due
        try:
            async with asyncio.timeout_at(until):
                return await self._context.lease.acquire()
        except TimeoutError:
            pass
        except JournalError as error:
            wrong, recorded = error.detail, error.recorded
        name = request.foreign_id if isinstance(request, WithdrawalRequest) else None
        self._context.observer.on_journal_failed(wrong, name)
        raise JournalError(
            f"Withdrawal {name!r} was not sent by this call: {wrong}", recorded=recorded, foreign_id=name
        )

    def _asked(
        self, request: WithdrawalRequest, *, resend_rejected: bool, attempted_before: bool, ago: float = 0.0
    ) -> Requested:
        """Encode once: these bytes are signed, written down and sent. It was asked for so many seconds ago."""
        if not isinstance(request, WithdrawalRequest):
            raise ConfigurationError(
                f"withdraw takes a WithdrawalRequest, not {type(request).__name__}; nothing was sent."
            )
        lease = self._context.lease
        return Requested(
            lease.worker,
            Revision(encode_body(request, self._amount_format), request),
            self._signer.fingerprint,
            resend_rejected,
            attempted_before,
            has_other_keys=len(self._context.signers) > 1,
            requested_at=lease.clock.earliest() - ago,
            requested_by=lease.worker,
            max_skew=lease.max_skew,
        )

    def _start(
        self, asked: Requested, request: WithdrawalRequest, loop: asyncio.AbstractEventLoop, **how: Any
    ) -> Flight:
        """Begin the one flight of this foreign_id, in a task of its own that no caller can cancel."""
        flight = self._flights[request.foreign_id] = Flight(self._context, asked, request, loop, **how)
        flight.task = loop.create_task(self._fly(flight, request.foreign_id))
        return flight

    async def _fly(self, flight: Flight, foreign_id: str) -> None:
        observer = self._context.observer
        observer.on_begun(foreign_id)
        is_cut_short = False
        try:
            told = await flight.run()
        except Exception as error:  # noqa: BLE001 - nobody may wait for ever, whatever went wrong
            observer.on_internal_error(foreign_id, error)
            told = FlightResult(foreign_id, None, "internal error")
        except asyncio.CancelledError:  # again and again: at closing the journal did not take how it ended
            told, is_cut_short = FlightResult(foreign_id, None, "closing"), True
        observer.on_ended(told)
        if flight.owes_the_journal and not is_cut_short:
            flight.waiters.resolve(told)
            with contextlib.suppress(asyncio.CancelledError):  # at closing it is left as it stands
                await self._context.supervisor.until_done("late write", flight.write_what_is_left)
        # First forgotten, then told: whoever calls again after hearing the outcome gets a new flight.
        del self._flights[foreign_id]
        flight.is_finished.set()
        flight.waiters.resolve(told)

    async def _flight_of(
        self,
        asked: Requested,
        request: WithdrawalRequest,
        loop: asyncio.AbstractEventLoop,
        due: float | None,
        **how: Any,
    ) -> Flight:
        """Return the flight of this payment: the one under way, or a new one; another payment's is a conflict, unless it is turned away."""
        while (flight := self._flights.get(request.foreign_id)) is not None:
            if flight.is_for(asked.revision):
                return flight
            told = await self._clash_with(flight, asked, request, due)
            if told is not None:
                raise cast("AlphapoError", to_outcome(told))
            self._enter()
        return self._start(asked, request, loop, **how)

    async def _clash_with(
        self, flight: Flight, asked: Requested, request: WithdrawalRequest, due: float | None
    ) -> FlightResult | None:
        """Wait in time for what the journal says to another payment's flight; None once that is over and the way is free."""
        until = asyncio.get_running_loop().time() + self._context.policy.deadline if due is None else due
        try:
            async with asyncio.timeout_at(until):
                if not await flight.has_taken_on():
                    return None
                row = await self._context.find(request.foreign_id) or flight.row
                if not (row.state in NEGATIVE_STATES or asked.revision.is_same_payment(row.revision)):
                    return clash(row, request)
                # That flight has not heard yet that it is over, and somebody else may have gone on with the row.
                await flight.is_finished.wait()
                return None
        except TimeoutError:
            return FlightResult(request.foreign_id, None, "in flight")
        except JournalError as error:
            return FlightResult(request.foreign_id, None, "unrecorded", error.detail, recorded=error.recorded)

    # ── without a caller ─────────────────────────────────────────────────────────────────────────────────────────────

    async def enqueue(self, request: WithdrawalRequest, connection: Any = None, *, expires_in: float = _DAY) -> None:
        """Write a withdrawal down for `work` to pay, here or in any process that shares the journal.

        Calling again with the same request changes nothing. A row that never arrives is tried until it expires, and then reported.

        Args:
            request: what to pay.
            connection: an asyncpg connection to the journal's own database, in a transaction: it is sent only if that commits.
            expires_in: seconds from now after which it is not sent any more.

        Raises:
            InvalidRequest: the amount cannot be written exactly in the client's `amount_format`.
            ForeignIdConflict: the foreign_id was already used for another payment, which stands: `existing`. Nothing was enqueued.
            WithdrawalNotSent, AuthenticationError: another call was told so while this one waited for the journal. Nothing was enqueued:
                call again.
            WithdrawalRejected, WithdrawalFailed: AlphaPo has refused it before, or ended it. Nothing was enqueued.
            JournalError: it could not be written down.
            ConfigurationError: the journal ends with its process, or with a connection: it is not PostgreSQL, or there is no transaction;
                the client is closed or belongs to another event loop.
        """
        loop, context = self._enter(), self._context
        began = loop.time()
        if not context.journal.is_durable:
            raise ConfigurationError(
                "enqueue needs a journal that outlives the process and the machine: a file on a disk, or PostgreSQL. Nothing was recorded."
            )
        if connection is not None:
            self._outbox()
        if not context.lease.is_running:
            await self._open_journal(request, None)
        expires_at = context.runtime.clock() + check_seconds("expires_in", expires_in)
        asked = self._left_to_workers(request, expires_at, ago=loop.time() - began)
        row = await context.record(request.foreign_id, asked, within=connection)
        if not row.revision.is_same_payment(asked.revision):
            raise cast("WithdrawalError", to_outcome(clash(row, request)))
        if is_stale_no(row):
            await self._refresh(row, Priority.QUESTION)
            row = await context.journal.find(context.account, row.foreign_id) or row
        if row.state in NEGATIVE_STATES or row.state == "failed":
            raise cast("WithdrawalError", to_outcome(FlightResult(request.foreign_id, row, is_from_journal=True)))

    def enqueue_statement(self, request: WithdrawalRequest, *, expires_in: float = _DAY) -> tuple[str, dict[str, Any]]:
        """Return what `enqueue` does as an SQL statement, for a transaction of SQLAlchemy, psycopg or Django in the journal's database.

        It is sent only if that transaction commits. The tables must be there: open the client once, or run `alphapo journal migrate`.
        The statement refuses another payment under the same foreign_id (SQLSTATE 23505), an account of another host (23514), and a journal
        that has moved (55000). It returns whether the withdrawal was new. It makes no use of parameters, so that it suits every driver.

        Args:
            request: what to pay.
            expires_in: seconds, from when it is run, after which it is not sent any more.

        Raises:
            InvalidRequest: the amount cannot be written exactly in the client's `amount_format`.
            ConfigurationError: the journal is not PostgreSQL.
        """
        asked = self._left_to_workers(request, None)
        row = new_row(self._context.account, request.foreign_id, asked, 0.0, is_durable=True)
        row, [line] = noted(row, filter(None, [requested(asked, None, row, 0.0, __version__)]))
        host = host_of(self._base_url)
        seconds, resend_within = check_seconds("expires_in", expires_in), self._context.policy.resend_within
        return self._outbox().enqueue_statement(row, line, host, seconds, resend_within), {}

    def _outbox(self) -> Outbox:
        if isinstance(self._context.journal, Outbox):
            return self._context.journal
        raise ConfigurationError(
            "Only a journal in PostgreSQL can be written in a transaction of yours: name one with postgresql://… Nothing was written down."
        )

    def _left_to_workers(self, request: WithdrawalRequest, expires_at: float | None, *, ago: float = 0.0) -> Requested:
        asked = self._asked(request, resend_rejected=False, attempted_before=False, ago=ago)
        return msgspec.structs.replace(asked, worker=None, expires_at=expires_at, is_heard=False)

    async def resume(
        self, *, resend: bool = True, restored: bool = False, concurrency: int = 64
    ) -> AsyncGenerator[BatchResult, None]:
        """Make one pass over what is open, oldest first, and hand out every outcome that nobody heard of yet.

        Each row is looked up before it is sent again, and sent again at most once in the quiet time, and never after `resend_within`.
        An outcome counts as handed out once the next one is asked for.

        Args:
            resend: send again what look-ups do not find; if False, only ask.
            restored: the journal came back from a backup, or lost commits in another way: what is open in it is frozen, looked up and
                not sent until a caller asks for it again or the operator unfreezes it.
            concurrency: rows worked on at once.

        Raises:
            JournalError: the journal cannot be used.
            ConfigurationError: the client is closed or belongs to another event loop.
        """
        self._enter()
        await self._context.lease.acquire()
        counted = itertools.count()
        settle = partial(self._settle, counted, resend, self._context.keys.refusals)
        rounds = WorkLoop(self._context, settle, self._refresh, check_count("concurrency", concurrency))
        passing = rounds.run_once(lambda row: self._result(next(counted), row), restored=restored)
        async with contextlib.aclosing(passing):
            async for result in passing:
                yield await self._as_it_stands(result)

    async def work(self, *, concurrency: int = 64) -> None:
        """Until cancelled: send what was enqueued, settle what is open, refresh what is accepted and not final.

        Safe in every process that shares the journal at once. Outcomes are told as events. A journal that fails later on is told as an
        event, and tried again.

        Args:
            concurrency: rows worked on at once.

        Raises:
            JournalError: the journal cannot be opened.
            ConfigurationError: the client is closed or belongs to another event loop.
        """
        self._enter()
        await self._context.lease.acquire()
        settle = partial(self._settle, itertools.count(), True, None)
        await WorkLoop(self._context, settle, self._refresh, check_count("concurrency", concurrency)).run()

    async def _settle(
        self,
        counted: Iterator[int],
        resend: bool,  # noqa: FBT001 - bound once
        refusals: int | None,
        row: Row,
    ) -> BatchResult:
        """Let one flight work on an open row, or share the one that does.

        Args:
            counted: numbers the results.
            resend: send again what look-ups do not find.
            refusals: how many bodies had been refused for their key when the pass began: what a key refused since then would sign is left
                alone. None for a worker, which claims no such row.
            row: as it was found.
        """
        loop, context = self._enter(), self._context
        if refusals is not None and context.keys.is_refused_since(context.keys.key_for(row), refusals):
            return self._left_alone(next(counted), row)
        while (flight := self._flights.get(row.foreign_id)) is not None and not flight.is_for(row.revision):
            await flight.is_finished.wait()  # it corrects this payment, or is turned away because of it
            row = await context.journal.find(context.account, row.foreign_id) or row
        request = row.revision.payment
        if row.state != "open" or request is None:
            return self._result(next(counted), row)
        if flight is None:
            # What has been settled since it was found stays settled.
            asked = Requested(
                context.lease.worker,
                row.revision,
                self._signer.fingerprint,
                is_heard=False,
                requested_at=0.0,
                is_request=False,
            )
            flight = self._start(asked, request, loop, is_patient=True, may_resend=resend)
        outcome = to_outcome(await flight.waiters.join(None))
        return result_of(next(counted), request, outcome)

    def _result(self, index: int, row: Row) -> BatchResult:
        """What a settled row says, for whoever has not heard it."""
        outcome = to_outcome(FlightResult(row.foreign_id, row, is_from_journal=True))
        return result_of(index, row.revision.payment, outcome)

    def _left_alone(self, index: int, row: Row) -> BatchResult:
        """Return what an open row says of which nothing is sent, for its key is refused."""
        code = self._context.keys.code_of(self._context.keys.key_for(row))
        told = FlightResult(row.foreign_id, msgspec.structs.replace(row, code=code), detail="key refused")
        return result_of(index, row.revision.payment, to_outcome(told))

    async def _refresh(self, row: Row, priority: Priority = Priority.REFRESH) -> None:
        """Ask how an accepted row stands now; a refresh that nobody waits for is left out where it cannot leave soon."""
        signer, loop, context = self._context.signers.get(row.key, self._signer), self._enter(), self._context
        seconds = _REFRESH_WAIT if priority is Priority.REFRESH else context.policy.deadline
        place = partial(context.limiter.wait, loop=loop, seconds=seconds)
        answered = await context.look_up(row.foreign_id, signer, priority, place)
        if answered is not None:
            evidence = LookedUp(self._context.lease.worker, *answered)
            learned = await self._context.apply(row, evidence)
            self._context.observer.on_evidence(row, learned, evidence)
            if is_no_longer_refreshed(learned):
                self._context.observer.on_not_final(learned)

    # ── callbacks ────────────────────────────────────────────────────────────────────────────────────────────────────

    @hides_arguments
    def receive_callback(self, headers: Headers, body: bytes) -> contextlib.AbstractAsyncContextManager[Callback]:
        """Take one delivery of a callback: is it AlphaPo's, what does it say, and was it handled before?

        It counts as handled once the block has ended cleanly: after an exception, a cancel or a crash its next delivery is new again.
        So it is handled at least once, and deliveries for one id one after the other, in whatever process that shares the journal. What
        it says of a withdrawal of ours is in the journal before the block begins. `contrib` has mounts for ASGI and aiohttp.web.

        Signature and headers: https://docs.alphapo.net/integration-guide/get-callbacks

        Args:
            headers: of the delivery, a mapping or pairs; names in any case.
            body: its raw bytes.

        Raises:
            CallbackError: it is not signed with one of the client's keys, or cannot be read.
            CallbackBusy: another delivery of it has been handled for more than 10 s, or it tells too little of a withdrawal that is being
                sent just now: answer 503.
            JournalError: the journal cannot be used: answer 503.
            ConfigurationError: the body is not bytes; the client is closed or belongs to another event loop.
        """
        self._enter()
        told = read_callback(headers, body, self._verifiers)
        return self._callback_block(told, ReplyExcerpt(None, bytes(body[:KEPT_CALLBACK])))

    @contextlib.asynccontextmanager
    async def _callback_block(self, told: Transaction, seen: ReplyExcerpt) -> AsyncIterator[Callback]:
        """Handle one delivery; what the block raises passes through a frame that has neither headers nor body."""
        await self._context.lease.acquire()
        with self._blocks.one():
            async with self._inbox.claim(told) as claim:
                kind = await self._hear(told, seen, is_repeated=claim.is_repeated)
                await self._inbox.confirm(claim)
                yield Callback(told, kind, claim.is_new)

    def replay_callback(
        self, foreign_id: str | int | uuid.UUID, status: str | None = None
    ) -> contextlib.AbstractAsyncContextManager[Callback]:
        """Hand out a callback once more that the journal keeps, for a handler that was wrong; its `is_new` is False.

        `async with client.replay_callback("payout-17") as callback: await on_callback(callback)`. Deliveries of the same id wait meanwhile.
        The row stays as it is, and so does what counts as handled; the history gets a line `replayed`.

        Args:
            foreign_id: of the withdrawal.
            status: of the callback; None for the one that was delivered last.

        Raises:
            CallbackError: the journal keeps no such callback.
            CallbackBusy: a delivery of it has been handled for more than 10 s.
            InvalidRequest: no withdrawal can have this foreign_id.
            JournalError: the journal cannot be used.
            ConfigurationError: the client is closed or belongs to another event loop.
        """
        self._enter()
        return self._replay_block(foreign_id_text(foreign_id), status)

    @contextlib.asynccontextmanager
    async def _replay_block(self, foreign_id: str, status: str | None) -> AsyncIterator[Callback]:
        await self._context.lease.acquire()
        with self._blocks.one():
            async with self._inbox.replay(foreign_id, status) as callback:
                yield callback

    async def _hear(self, told: Transaction, seen: ReplyExcerpt, *, is_repeated: bool) -> CallbackKind:
        """Add a callback to what is known of its withdrawal, where that is one of ours."""
        if not is_withdrawal(told):
            return "not a withdrawal"
        row = await self._find(told.foreign_id)
        if row is None or row.revision.payment is None:
            context = self._context
            if row is None and may_have_forgotten(context.journal.epoch, context.runtime.clock(), context.assumptions):
                context.observer.callback_not_in_journal(told)
            return "not in journal"
        if may_be_on_its_way(row) and why_not_ours(row, told) == TOO_LITTLE:
            raise CallbackBusy(
                "The withdrawal of this callback is being sent just now, and the reply will say more; nothing was handled. "
                "Answer 503, and AlphaPo sends it again."
            )
        before, after, evidence, is_news = await self._context.heard(row, told, seen)
        if is_news or not is_repeated:
            self._context.observer.on_evidence(before, after, evidence)
        if (flight := self._flights.get(row.foreign_id)) is not None:
            flight.hear(after)
        return "ours" if evidence.doubt is None else "contradicts"

    async def _find(self, foreign_id: str | None) -> Row | None:
        try:
            name = foreign_id_text(foreign_id)
        except InvalidRequest:
            return None  # no withdrawal of ours can have it
        return await self._context.journal.find(self._context.account, name)

    # ── questions ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def look_up(self, foreign_id: str | int | uuid.UUID) -> Transaction | None:
        """Ask AlphaPo for the withdrawal with this foreign_id, once.

        Returns:
            What AlphaPo shows; or None if it answered "none", which proves nothing: the withdrawal may be another key's,
            or not visible yet.

        Raises:
            AlphapoUnavailable: AlphaPo gave no usable answer.
            InvalidRequest: no withdrawal can have this foreign_id.
            ConfigurationError: the client is closed or belongs to another event loop.
        """
        loop, context, name = self._enter(), self._context, foreign_id_text(foreign_id)
        row = None
        with contextlib.suppress(JournalError):
            row = await context.journal.find(context.account, name)
        signer = context.signers.get(row.key, self._signer) if row else self._signer
        answered = await context.look_up(name, signer, Priority.QUESTION, partial(context.wait_for_slot, loop))
        answer = None if answered is None else answered[0]
        if row is not None and answered is not None:
            # Nobody's "no": its holder may be sending it just now.
            await self._bear_witness(row, LookedUp("", *answered))
        if isinstance(answer, Found):
            return answer.transaction
        if isinstance(answer, NoneFound):
            return None
        raise unavailable("the look-up", answer)

    async def _bear_witness(self, row: Row, evidence: LookedUp) -> None:
        """Whatever shows that AlphaPo has a withdrawal belongs to what is known of it; the rest is nobody's, and proves nothing."""
        with contextlib.suppress(JournalError):
            if isinstance(evidence.answer, Found):
                self._context.observer.on_evidence(row, await self._context.apply(row, evidence), evidence)
            else:
                await self._context.note(row, evidence)

    async def ping(self) -> None:
        """Return if AlphaPo is reachable; that says nothing about the key (https://docs.alphapo.net/api-reference/authentication).

        Raises:
            AlphapoUnavailable: it is not.
        """
        await self._reference_data.ping(self._enter())

    async def balances(self) -> dict[str, Decimal]:
        """Return the balance of every currency, those at zero included (`/accounts/list`).

        Raises:
            AlphapoUnavailable: AlphaPo gave no usable answer; `code` says so if it refused the key.
        """
        return await self._reference_data.balances(self._enter())

    async def currencies(self) -> dict[str, Currency]:
        """Return what can be paid, by code: AlphaPo's list for this account (`/currencies/list`, and `/currencies/rates` for conversions).

        `withdraw` does not compare with it: the list may be old by then.

        Raises:
            AlphapoUnavailable: AlphaPo gave no usable answer; `code` says so if it refused the key.
        """
        return await self._reference_data.currencies(self._enter())

    async def quote(
        self,
        currency: str,
        convert_to: str,
        *,
        amount: Decimal | str | int | None = None,
        amount_to: Decimal | str | int | None = None,
    ) -> Quote:
        """Return AlphaPo's present figures for a conversion (`/exchange/calculate`), for information only: a withdrawal has its own rate.

        AlphaPo answers 30 of these questions a minute, so do not ask for each row. Then it answers 429: `AlphapoUnavailable`, with
        `retry_after` where AlphaPo gives it; withdrawals are not held back by that.

        Args:
            currency: the balance that would be debited.
            convert_to: the currency that would be paid out.
            amount: in `currency`. Exactly one of `amount` and `amount_to`.
            amount_to: in `convert_to`.

        Raises:
            ConfigurationError: a code or an amount is missing or wrong (nothing was asked), or AlphaPo refuses the pair or the amount.
            InvalidRequest: the amount cannot be written exactly in the client's `amount_format`.
            AlphapoUnavailable: AlphaPo gave no usable answer.
        """
        asked = quote_request(currency, convert_to, amount, amount_to)
        return await self._reference_data.quote(self._enter(), asked, self._amount_format)

    async def totals(self) -> dict[str, Totals]:
        """Return what became of everything asked for under this account, by asked currency, to the last decimal.

        Raises:
            JournalError: the journal cannot be read.
        """
        return await self._context.journal.totals(self._context.account)

    async def health(self) -> Health:
        """Return how this client is doing, and what is open under its account; AlphaPo is not asked.

        Raises:
            JournalError: the journal cannot be read.
        """
        context, loop = self._context, self._enter()
        rows = await context.journal.find_open(context.account, None, _LOOKED_THROUGH)
        return Health(
            account=context.account,
            at=context.runtime.clock(),
            in_flight=len(self._flights),
            budget_left=budget_left(context.limiter.state, loop.time()),
            is_outage=is_outage(context.limiter.state),
            oldest_open=rows[0].created_at if rows else None,
            oldest_doubt=min((row.doubt_since for row in rows if row.doubt_since is not None), default=None),
            frozen=await context.journal.count_frozen(context.account),
            failing=context.supervisor.failing,
        )

    # ── opening and closing ──────────────────────────────────────────────────────────────────────────────────────────

    def _enter(self) -> asyncio.AbstractEventLoop:
        """Return the running loop, which is the client's from the first use on."""
        loop = asyncio.get_running_loop()
        if self._closing is not None:
            raise ConfigurationError(
                "The client is closed; this call sent nothing, and says nothing about earlier ones."
            )
        if self._process != os.getpid() and self._loop is not None:
            raise ConfigurationError(
                "The client was opened before this process was forked, and belongs to the parent; this call sent nothing. "
                "Open one in each process."
            )
        if self._loop is not loop:
            if self._loop is not None:
                raise ConfigurationError(
                    "The client belongs to another event loop, in which it was first used; this call sent nothing. "
                    "Make one client for each loop, and let them share a journal."
                )
            self._context.session.bind(loop)
            self._loop, self._process = loop, os.getpid()
        return loop

    async def aclose(self, grace: float | None = None) -> None:
        """Refuse new calls, let what is under way end, cancel what does not, and let go of everything.

        Closing ends within the grace and 3 s more, also where the journal hangs. A caller that is cancelled leaves at once and closing goes
        on; every later call waits for its end. Callers who still wait then hear `WithdrawalUnknown(reason="closing")`, or
        `WithdrawalNotSent(reason="closed")` where nothing left.

        Args:
            grace: seconds for what is under way; None for the client's `close_grace`.

        Raises:
            ConfigurationError: the client belongs to another event loop, which is not closed; nothing was closed.
        """
        grace = self._close_grace if grace is None else check_seconds("grace", grace)
        self._loop = self._loop_for_closing()
        if self._closing is None or self._closing.is_lost:
            self._closing = Closing(partial(self._wait_for_flights, grace), self._closing_steps())
        await self._closing.wait()

    def _loop_for_closing(self) -> asyncio.AbstractEventLoop:
        """Return the running loop, if the client belongs to it, or to one that is closed and has taken its tasks with it."""
        loop = asyncio.get_running_loop()
        if self._loop not in (None, loop):
            if not self._loop.is_closed():
                raise ConfigurationError(
                    "The client belongs to another event loop, in which it was first used: close it there. Nothing was closed."
                )
            self._flights.clear()
            self._context.leave_loop()
        return loop

    def _closing_steps(self) -> list[Step]:
        """Return what closing does once the grace is over, with the seconds by which each part has ended."""
        context = self._context
        steps = [Step("end what is under way", 1.1, self._end_flights), Step("end the inbox", 1.2, self._inbox.aclose)]
        if self._owns_session:
            steps.append(Step("close the session", 1.4, context.session.aclose))
        steps += [Step("write what lags", 1.7, context.flush), Step("give the lease back", 1.9, context.lease.release)]
        if self._owns_journal:
            steps.append(Step("close the journal", 2.7, context.journal.aclose))
        return steps

    async def _end_flights(self) -> None:
        """Cancel what is still under way, and wait until it has recorded where it stands."""
        for grace in (_CANCEL_GRACE, _LAST_GRACE, _LAST_GRACE):
            for task in self._flying():
                task.cancel()  # again where it waits for a journal that takes nothing: what it owes is left as it stands
            await self._wait_for_flights(grace)
        self._context.limiter.close()

    async def _wait_for_flights(self, grace: float) -> None:
        """Wait for them, and for the blocks that handle callbacks, as long as that."""
        under_way = {*self._flying(), *self._blocks.under_way}
        if under_way:
            await asyncio.wait(under_way, timeout=grace)

    def _flying(self) -> list[asyncio.Task[None]]:
        return [flight.task for flight in self._flights.values() if flight.task is not None]


def _is_no(outcome: Withdrawal | WithdrawalError | JournalError) -> bool:
    return isinstance(outcome, WithdrawalError) and outcome.may_release_funds
