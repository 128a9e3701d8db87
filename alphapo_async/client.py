"""AlphapoClient: pays withdrawals, each of them once, and knows whether money moved."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import time
import uuid
from collections.abc import AsyncGenerator, Callable, Iterable
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from alphapo_async.batch import Requests, pay_many
from alphapo_async.core.callbacks import Callback, Headers, read_callback
from alphapo_async.core.codec import AmountFormat
from alphapo_async.core.events import Event
from alphapo_async.core.evidence import ReplyExcerpt
from alphapo_async.core.frames import hides_arguments
from alphapo_async.core.history import KEPT_CALLBACK
from alphapo_async.core.models import Health, Totals, Transaction, Withdrawal, WithdrawalRequest, foreign_id_text
from alphapo_async.core.rate_limit import is_outage, retry_budget_left
from alphapo_async.core.reference_data import Currency, Quote, quote_request
from alphapo_async.core.results import BatchResult
from alphapo_async.core.retry_policy import RetryPolicy
from alphapo_async.core.setting_checks import check_count, check_seconds
from alphapo_async.core.signer import Signer
from alphapo_async.engine.callbacks import Callbacks
from alphapo_async.engine.clock import BoundedClock
from alphapo_async.engine.context import ClientContext, Runtime
from alphapo_async.engine.engine import Engine
from alphapo_async.engine.outbox import OutboxWriter
from alphapo_async.engine.reference_data import ReferenceData
from alphapo_async.engine.work_loop import WorkLoop
from alphapo_async.journal import Journal, is_shared
from alphapo_async.session import SessionManager
from alphapo_async.settings import (
    PRODUCTION,
    all_signers,
    by_fingerprint,
    check_base_url,
    check_client_settings,
    check_rate,
    from_environment,
    the_journal,
)

__all__ = ["AlphapoClient"]

_DAY = 86_400.0
_LOOKED_THROUGH = 1_000  # open rows, for the oldest doubt


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
        check_client_settings(account, policy, session, amount_format, on_event)
        self._verifiers = all_signers(signer, retired_keys)
        base_url = check_base_url(base_url)
        self._close_grace = check_seconds("close_grace", close_grace)
        runtime = _runtime or Runtime(time.time, random.random, asyncio.sleep)
        opened = the_journal(journal, base_url)
        self._engine = engine = Engine(
            ClientContext(
                account=account,
                base_url=base_url,
                signers=by_fingerprint(self._verifiers),
                policy=policy or RetryPolicy(),
                runtime=runtime,
                clock=BoundedClock(runtime.clock, is_shared=is_shared(opened)),
                amount_format=amount_format,
            ),
            opened,
            session or SessionManager(max_connections=max_connections),
            on_event,
            max_rate=check_rate(max_rate),
            owns_journal=journal is None or isinstance(journal, str | Path),
            owns_session=session is None,
        )
        self._lifecycle = engine.lifecycle
        self._registry = engine.registry
        self._questions = engine.questions
        self._outbox = OutboxWriter(engine)
        self._callbacks = Callbacks(engine)
        self._reference_data = ReferenceData(engine.context, engine.questions)

    @classmethod
    @hides_arguments
    def from_env(cls, **settings: Any) -> Self:
        """Make a client from the environment.

        It reads `ALPHAPO_KEY`, `ALPHAPO_SECRET` or `ALPHAPO_SECRET_FILE`, `ALPHAPO_RETIRED_KEYS_FILE` (one pair a line: key, blank,
        secret), `ALPHAPO_BASE_URL`, `ALPHAPO_JOURNAL` and `ALPHAPO_ACCOUNT`.

        Args:
            settings: further arguments of `AlphapoClient`; they win over the environment.

        Raises:
            ConfigurationError: a setting is missing or wrong, or a variable is set and empty.
        """
        return cls(**from_environment(os.environ, settings))

    def __repr__(self) -> str:
        if not hasattr(self, "_registry"):
            return "AlphapoClient(not made: a setting was refused)"
        context, flights = self._engine.context, len(self._registry.flights)
        return f"AlphapoClient({context.base_url!r}, account={context.account!r}, {self._lifecycle.state}, {flights} in flight)"

    async def __aenter__(self) -> Self:
        self._lifecycle.enter()
        try:
            await self._engine.lease.acquire()
        except BaseException:
            await self.aclose(grace=0.0)  # no block follows that would close it
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
            deadline: seconds from now after which you want an answer, instead of the policy's; the work continues in the background while
                an attempt is under way.
            resend_rejected: send again what AlphaPo has rejected before.
            attempted_before: this may have been sent under the same foreign_id before, less than `resend_within` ago, from somewhere the
                journal knows nothing of. It is looked up before anything leaves. For what may be older use `look_up`.

        Raises:
            InvalidRequest: the amount cannot be written exactly in the client's `amount_format`.
            WithdrawalRejected: AlphaPo refused. No money moved.
            WithdrawalFailed: AlphaPo had it and ended it. No money moved.
            WithdrawalNotSent: it never arrived. No money moved.
            WithdrawalUnknown: it is not known yet. Keep it pending: no refund, no new foreign_id.
            ForeignIdConflict: the foreign_id was already used for another payment, which stands: `existing`. This one was not sent.
            AuthenticationError: AlphaPo does not accept the key or the signature.
            JournalError: the journal failed, and this call sent nothing. An earlier call may have sent it: keep it pending unless
                `recorded` is False.
            ConfigurationError: the client is closed or belongs to another event loop; this call sent nothing.
        """
        due = None
        if deadline is not None:
            due = self._lifecycle.enter().time() + check_seconds("deadline", deadline)
        outcome = await self._registry.withdraw(
            request, due, resend_rejected=resend_rejected, attempted_before=attempted_before
        )
        if isinstance(outcome, Withdrawal):
            return outcome
        raise outcome

    def batch(
        self,
        requests: Requests,
        *,
        concurrency: int = 64,
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
            JournalError: the journal failed. Nothing more was taken, and the results of all that was taken have been yielded: each of them
                says whether its row must be kept pending.
            ConfigurationError: the client is closed, or belongs to another event loop.
            Exception: whatever `requests` raises.
        """
        return pay_many(self._engine, requests, concurrency, resend_rejected=resend_rejected, stop=stop)

    # ── without a caller ─────────────────────────────────────────────────────────────────────────────────────────────

    async def enqueue(self, request: WithdrawalRequest, *, connection: Any = None, expires_in: float = _DAY) -> None:
        """Write a withdrawal down for `work` to pay, here or in any process that shares the journal.

        Calling again with the same request changes nothing. A row that never arrives is tried until it expires, and then reported.

        Args:
            request: what to pay.
            connection: an asyncpg connection to the journal's own database, in a transaction: it is sent only if that commits.
            expires_in: seconds from now after which it is not sent any more.

        Raises:
            InvalidRequest: the amount cannot be written exactly in the client's `amount_format`.
            ForeignIdConflict: the foreign_id was already used for another payment, which stands: `existing`. Nothing was enqueued.
            WithdrawalNotSent, AuthenticationError: another call got it while this one waited for the journal. Nothing was enqueued:
                call again.
            WithdrawalRejected, WithdrawalFailed: AlphaPo has refused it before, or ended it. Nothing was enqueued.
            JournalError: it may not be recorded, and this call sent nothing. An earlier call may have recorded it, and a worker may have
                sent it: keep it pending unless `recorded` is False.
            ConfigurationError: the journal ends with its process, or with a connection: it is not PostgreSQL, or there is no transaction;
                the client is closed or belongs to another event loop.
        """
        self._lifecycle.enter()
        await self._outbox.enqueue(request, connection, expires_in)

    def enqueue_statement(self, request: WithdrawalRequest, *, expires_in: float = _DAY) -> tuple[str, dict[str, Any]]:
        """Return what `enqueue` does as an SQL statement, for a transaction of SQLAlchemy, psycopg or Django in the journal's database.

        It is sent only if that transaction commits. The tables must be there: open the client once, or run `alphapo journal migrate`.
        The statement refuses another payment under the same foreign_id, and a withdrawal that has ended without being paid (SQLSTATE 23505
        for both), and an account of another host (23514). It returns whether the withdrawal was new. It makes no use of parameters, so that
        it suits every driver.

        Args:
            request: what to pay.
            expires_in: seconds, from when it is run, after which it is not sent any more.

        Raises:
            InvalidRequest: the amount cannot be written exactly in the client's `amount_format`.
            ConfigurationError: the journal is not PostgreSQL.
        """
        return self._outbox.statement(request, expires_in), {}

    async def resume(
        self, *, resend: bool = True, restored: bool = False, concurrency: int = 64
    ) -> AsyncGenerator[BatchResult, None]:
        """Make one pass over what is open, oldest first, and hand out every outcome that no caller got yet.

        Each row is looked up before it is sent again, and sent again at most once in the quiet time, and never after `resend_within`.
        An outcome counts as handed out once the next one is asked for.

        Args:
            resend: send again what look-ups do not find; if False, only ask.
            restored: the journal came back from a backup, or lost commits in another way: what is open in it is frozen, looked up and
                not sent until a caller asks for it again or the operator unfreezes it.
            concurrency: rows worked on at once.

        Raises:
            JournalError: the journal cannot be used. Rows whose results were not handed out are as they were: keep them pending.
            ConfigurationError: the client is closed or belongs to another event loop.
        """
        self._lifecycle.enter()
        await self._engine.lease.acquire()
        rounds = WorkLoop(self._engine, check_count("concurrency", concurrency), resend=resend)
        async with contextlib.aclosing(rounds.run_once(restored=restored)) as results:
            async for result in results:
                yield result

    async def work(self, *, concurrency: int = 64) -> None:
        """Until cancelled: send what was enqueued, settle what is open, refresh what is accepted and not final.

        Safe in every process that shares the journal at once. Outcomes are reported as events. A journal that fails later is reported as an
        event, and tried again.

        Args:
            concurrency: rows worked on at once.

        Raises:
            JournalError: the journal cannot be opened.
            ConfigurationError: the client is closed or belongs to another event loop.
        """
        self._lifecycle.enter()
        await self._engine.lease.acquire()
        await WorkLoop(self._engine, check_count("concurrency", concurrency)).run()

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
            CallbackBusy: another delivery of it has been handled for more than 10 s, or it gives too little of a withdrawal that is being
                sent just now: answer 503.
            JournalError: the journal cannot be used: answer 503.
            ConfigurationError: the body is not bytes; the client is closed or belongs to another event loop.
        """
        self._lifecycle.enter()
        transaction = read_callback(headers, body, self._verifiers)
        return self._callbacks.handle(transaction, ReplyExcerpt(None, bytes(body[:KEPT_CALLBACK])))

    def replay_callback(
        self, foreign_id: str | int | uuid.UUID, *, status: str | None = None
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
        self._lifecycle.enter()
        return self._callbacks.replay(foreign_id_text(foreign_id), status)

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
        self._lifecycle.enter()
        return await self._questions.transaction(foreign_id_text(foreign_id))

    async def ping(self) -> None:
        """Return if AlphaPo is reachable; that says nothing about the key (https://docs.alphapo.net/api-reference/authentication).

        Raises:
            AlphapoUnavailable: it is not.
        """
        self._lifecycle.enter()
        await self._reference_data.ping()

    async def balances(self) -> dict[str, Decimal]:
        """Return the balance of every currency, those at zero included (`/accounts/list`).

        Raises:
            AlphapoUnavailable: AlphaPo gave no usable answer; `code` says so if it refused the key.
        """
        self._lifecycle.enter()
        return await self._reference_data.balances()

    async def currencies(self) -> dict[str, Currency]:
        """Return what can be paid, by code: AlphaPo's list for this account (`/currencies/list`, and `/currencies/rates` for conversions).

        `withdraw` does not compare with it: the list may be old by then.

        Raises:
            AlphapoUnavailable: AlphaPo gave no usable answer; `code` says so if it refused the key.
        """
        self._lifecycle.enter()
        return await self._reference_data.currencies()

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
        self._lifecycle.enter()
        return await self._reference_data.quote(quote_request(currency, convert_to, amount, amount_to))

    async def totals(self) -> dict[str, Totals]:
        """Return what became of everything asked for under this account, by asked currency, to the last decimal.

        Raises:
            JournalError: the journal cannot be read.
        """
        return await self._engine.journal.totals(self._engine.context.account)

    async def health(self) -> Health:
        """Return how this client is doing, and what is open under its account; AlphaPo is not asked.

        Raises:
            JournalError: the journal cannot be read.
        """
        loop, engine = self._lifecycle.enter(), self._engine
        journal, account = engine.journal, engine.context.account
        rows = await journal.find_open(account, None, _LOOKED_THROUGH)
        return Health(
            account=account,
            at=engine.context.now(),
            in_flight=len(self._registry.flights),
            retry_budget_left=retry_budget_left(engine.limiter.state, loop.time()),
            is_outage=is_outage(engine.limiter.state),
            oldest_open_at=rows[0].created_at if rows else None,
            oldest_doubt_at=min((row.doubt_since for row in rows if row.doubt_since is not None), default=None),
            frozen=await journal.count_frozen(account),
            has_lease=engine.lease.is_running,
            failing=self.failing,
        )

    @property
    def account(self) -> str:
        """The account whose withdrawals the client sends."""
        return self._engine.context.account

    @property
    def failing(self) -> tuple[str, ...]:
        """The background tasks that have failed 10 times in a row or more; neither AlphaPo nor the journal is asked."""
        return self._engine.supervisor.failing

    # ── closing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def aclose(self, *, grace: float | None = None) -> None:
        """Refuse new calls, let what is under way end, cancel what does not, and let go of everything.

        Closing ends within the grace and 3 s more, also where the journal hangs. A caller that is cancelled leaves at once and closing goes
        on; every later call waits for its end. Callers who still wait then get `WithdrawalUnknown(reason="closing")`, or
        `WithdrawalNotSent(reason="closed")` where nothing left.

        Args:
            grace: seconds for what is under way; None for the client's `close_grace`.

        Raises:
            ConfigurationError: the client belongs to another event loop, which is not closed; nothing was closed.
        """
        await self._lifecycle.close(self._close_grace if grace is None else check_seconds("grace", grace))
