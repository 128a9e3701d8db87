"""Watches for a journal that went back in time: reports it, every day while rows are frozen, and has lost acceptances recorded again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from alphapo_async.core.row import Assumptions, may_have_forgotten
from alphapo_async.engine.observer import Observer
from alphapo_async.journal import Journal

__all__ = ["EpochWatch"]

_DAY: Final = 86_400.0


class EpochWatch:
    """What one client has seen of its journal's epoch.

    Args:
        journal: whose epoch is watched.
        account: whose frozen rows are counted.
        observer: reports it.
        clock: seconds since the epoch of time.
        assumptions: how long an id that is new to the journal may be a forgotten one.
        confirm_lease: renews the lease, which the journal may have forgotten, or takes another.
        record_again: records the acceptances that this client has in memory again.
    """

    def __init__(
        self,
        *,
        journal: Journal,
        account: str,
        observer: Observer,
        clock: Callable[[], float],
        assumptions: Assumptions,
        confirm_lease: Callable[[], Awaitable[None]],
        record_again: Callable[[], Awaitable[None]],
    ) -> None:
        self.number = 0
        """Of the epoch that was reported last."""
        self._journal = journal
        self._account = account
        self._observer = observer
        self._clock = clock
        self._assumptions = assumptions
        self._confirm_lease = confirm_lease
        self._record_again = record_again
        self._next_report = 0.0
        self._confirmed = 0
        """The number of the epoch in which the lease was confirmed last."""
        self._confirming = asyncio.Lock()
        self._is_reporting = False

    async def look(self) -> None:
        """Report an epoch that is new to this client, and once a day an older one in which rows are still frozen.

        Raises:
            JournalError: the journal cannot be used; the next look tries again.
        """
        await self._confirm()
        if not self._is_reporting:
            self._is_reporting = True
            try:
                await self._report()
            finally:
                self._is_reporting = False

    async def _confirm(self) -> None:
        """Have the lease confirmed in an epoch that is new to this client; every flight that recorded a row in it waits for that."""
        async with self._confirming:
            number = self._journal.epoch.number
            if number == self._confirmed:
                return
            await self._confirm_lease()
            self._confirmed = number

    async def _report(self) -> None:
        epoch, now = self._journal.epoch, self._clock()
        is_new = epoch.number != self.number
        if not is_new and (epoch.number == 0 or now < self._next_report):
            return
        if is_new:
            await self._record_again()
        frozen = await self._journal.count_frozen(self._account)
        if frozen or (is_new and may_have_forgotten(epoch, now, self._assumptions)):
            self._observer.journal_went_back(frozen)
        self.number, self._next_report = epoch.number, now + _DAY
