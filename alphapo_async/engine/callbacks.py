"""Callbacks: each delivery adds what AlphaPo says to the withdrawal's row, before the caller's block handles it."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from alphapo_async.core.callbacks import Callback, CallbackKind, is_withdrawal
from alphapo_async.core.errors import CallbackBusy
from alphapo_async.core.evidence import ReplyExcerpt
from alphapo_async.core.models import Transaction
from alphapo_async.core.row import Row, may_have_forgotten
from alphapo_async.core.transitions import TOO_LITTLE, may_be_on_its_way, why_not_ours
from alphapo_async.engine.engine import Engine

__all__ = ["Callbacks"]


class Callbacks:
    """Takes deliveries for one client.

    Args:
        engine: the client's parts.
    """

    def __init__(self, engine: Engine) -> None:
        self._context = engine.context
        self._journal = engine.journal
        self._lease = engine.lease
        self._recorder = engine.recorder
        self._registry = engine.registry
        self._inbox = engine.inbox
        self._observer = engine.observer

    @contextlib.asynccontextmanager
    async def handle(self, transaction: Transaction, seen: ReplyExcerpt) -> AsyncIterator[Callback]:
        """Handle one delivery; what the block raises passes through a frame that has neither headers nor body."""
        await self._lease.acquire()
        with self._inbox.block():
            async with self._inbox.claim(transaction) as claim:
                kind = await self._add(transaction, seen, is_repeated=claim.is_repeated)
                await self._inbox.confirm(claim)
                yield Callback(transaction=transaction, kind=kind, is_new=claim.is_new)

    @contextlib.asynccontextmanager
    async def replay(self, foreign_id: str, status: str | None) -> AsyncIterator[Callback]:
        """Hand out a callback again that the journal keeps (`AlphapoClient.replay_callback`)."""
        await self._lease.acquire()
        with self._inbox.block():
            async with self._inbox.replay(foreign_id, status) as callback:
                yield callback

    async def _add(self, transaction: Transaction, seen: ReplyExcerpt, *, is_repeated: bool) -> CallbackKind:
        """Add a callback to what is known of its withdrawal, where that is one of ours."""
        if not is_withdrawal(transaction):
            return "not a withdrawal"
        row = await self._find(transaction.foreign_id)
        if row is None:
            now, assumptions = self._context.now(), self._context.assumptions
            if may_have_forgotten(self._journal.epoch, now, assumptions):
                self._observer.callback_not_in_journal(transaction)
        if row is None or row.revision.payment is None:
            return "not in journal"
        await self._check_not_on_its_way(row, transaction)
        before, after, evidence, is_news = await self._recorder.apply_callback(row, transaction, seen)
        if is_news or not is_repeated:
            self._observer.on_evidence(before, after, evidence)
        if (flight := self._registry.flights.get(row.foreign_id)) is not None:
            flight.take_over(after)
        return "ours" if evidence.doubt is None else "contradicts"

    async def _find(self, foreign_id: str | None) -> Row | None:
        """Return the row with this foreign_id, also where it was recorded under other rules for ids than this process has."""
        if not foreign_id or "\0" in foreign_id:
            return None  # no journal has it, and PostgreSQL cannot even be asked
        return await self._journal.find(self._context.account, foreign_id)

    async def _check_not_on_its_way(self, row: Row, transaction: Transaction) -> None:
        """Pass unless the reply to a body that is being sent will say more than this callback; a worker that is gone gets no reply.

        Raises:
            CallbackBusy: it will.
        """
        if not may_be_on_its_way(row) or why_not_ours(row, transaction) != TOO_LITTLE:
            return
        now = self._context.now()
        until = await self._journal.ended(row.holder or "", now)
        if until is None or until > now:
            raise CallbackBusy(
                "The withdrawal of this callback is being sent just now, and the reply will say more; nothing was handled. "
                "Answer 503, and AlphaPo sends it again."
            )
