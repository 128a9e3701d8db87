"""The outbox: withdrawals recorded for a worker to send, by this client or in a transaction of the caller's own."""

from __future__ import annotations

import asyncio
from typing import Any, cast

from msgspec.structs import replace

from alphapo_async.core.errors import ConfigurationError, JournalError, WithdrawalError
from alphapo_async.core.evidence import Requested
from alphapo_async.core.models import WithdrawalRequest
from alphapo_async.core.rate_limit import Priority
from alphapo_async.core.results import FlightResult, conflict_with, to_outcome
from alphapo_async.core.row import NEGATIVE_STATES, Row, is_stale_no
from alphapo_async.core.setting_checks import check_seconds
from alphapo_async.engine.context import host_of
from alphapo_async.engine.engine import Engine
from alphapo_async.engine.recorder import Reporting
from alphapo_async.journal import Outbox

__all__ = ["OutboxWriter"]


class OutboxWriter:
    """Records withdrawals that are left to workers.

    Args:
        engine: the client's parts.
    """

    def __init__(self, engine: Engine) -> None:
        self._context = engine.context
        self._journal = engine.journal
        self._lease = engine.lease
        self._registry = engine.registry
        self._recorder = engine.recorder
        self._questions = engine.questions

    async def enqueue(self, request: WithdrawalRequest, connection: Any, expires_in: float) -> None:
        """Record a withdrawal for workers (`AlphapoClient.enqueue`).

        Raises:
            AlphapoError: it was not enqueued; says why.
        """
        loop = asyncio.get_running_loop()
        began = loop.time()
        if not self._journal.is_durable:
            raise ConfigurationError(
                "enqueue needs a journal that outlives the process and the machine: a file on a disk, or PostgreSQL. Nothing was recorded."
            )
        if connection is not None:
            self._outbox()
        if not self._lease.is_running:
            await self._registry.open_journal(request, None)
        expires_at = self._context.now() + check_seconds("expires_in", expires_in)
        asked = self._left_to_workers(request, expires_at, ago=loop.time() - began)
        with Reporting(self._recorder.reporting, request.foreign_id):
            await self._record_or_raise(connection, request, asked)

    async def _record_or_raise(self, connection: Any, request: WithdrawalRequest, asked: Requested) -> None:
        row = await self._record(connection, request.foreign_id, asked)
        is_stale = is_stale_no(row)
        if is_stale:
            await self._questions.refresh(row, Priority.QUESTION)
        if is_stale or (connection is not None and row.state in NEGATIVE_STATES):
            row = await self._recorder.find_to_report(row.foreign_id) or row
            if row.state == "open":
                raise JournalError(
                    f"Withdrawal {request.foreign_id!r} was not enqueued by this call: another call has asked for it again meanwhile.",
                    recorded=True,
                    foreign_id=request.foreign_id,
                )
        if not row.revision.is_same_payment(asked.revision):
            raise cast("WithdrawalError", to_outcome(conflict_with(row, request)))
        if row.state in NEGATIVE_STATES or row.state == "failed":
            raise cast("WithdrawalError", to_outcome(FlightResult(request.foreign_id, row, is_from_journal=True)))

    async def _record(self, connection: Any, foreign_id: str, asked: Requested) -> Row:
        if connection is None:
            return await self._recorder.record(foreign_id, asked)
        return await self._recorder.record_within(connection, foreign_id, asked)

    def statement(self, request: WithdrawalRequest, expires_in: float) -> str:
        """Return what `enqueue` does as an SQL statement (`AlphapoClient.enqueue_statement`).

        Raises:
            InvalidRequest: the amount cannot be written exactly.
            ConfigurationError: the journal is not PostgreSQL.
        """
        asked, context = self._left_to_workers(request, None), self._context
        host, seconds = host_of(context.base_url), check_seconds("expires_in", expires_in)
        return self._outbox().enqueue_statement(context.account, asked, host, seconds, context.policy.resend_within)

    def _outbox(self) -> Outbox:
        if isinstance(self._journal, Outbox):
            return self._journal
        raise ConfigurationError(
            "Only a journal in PostgreSQL can be written in a transaction of yours: name one with postgresql://… Nothing was recorded."
        )

    def _left_to_workers(self, request: WithdrawalRequest, expires_at: float | None, *, ago: float = 0.0) -> Requested:
        asked = self._registry.encode(request, resend_rejected=False, ago=ago)
        return replace(asked, worker=None, expires_at=expires_at, is_awaited=False)
