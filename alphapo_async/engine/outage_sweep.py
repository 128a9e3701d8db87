"""After an outage: which rows in doubt are looked up as soon as AlphaPo answers again, without waiting until they are due."""

from __future__ import annotations

import asyncio
from math import inf
from typing import Final

from alphapo_async.core.next_step import Wait, next_step
from alphapo_async.core.rate_limit import is_outage
from alphapo_async.core.row import Row, is_in_doubt
from alphapo_async.engine.context import ClientContext
from alphapo_async.engine.limiter import RequestLimiter
from alphapo_async.engine.refused_keys import RefusedKeys
from alphapo_async.journal import Journal

__all__ = ["PER_SECOND", "OutageSweep"]

PER_SECOND: Final = 10
"""Rows in doubt that one client claims in a second, besides those that are due."""
_PAGE: Final = 100
_PAGES: Final = 10
"""Pages of open rows that are read in one second; a sweep continues where it stopped."""


class OutageSweep:
    """A sweep over the rows in doubt, oldest first, after each answer that ends a silence; and one look-up at a time in an outage.

    A sweep takes each row once. It passes over rows that were looked up within the last `wait_max` and comes back to them.

    Args:
        context: account, policy and clock.
        journal: where open rows are found.
        limiter: whether AlphaPo answers.
        keys: under which nothing is claimed.
        page: rows that are read at once.
    """

    def __init__(
        self, context: ClientContext, journal: Journal, limiter: RequestLimiter, keys: RefusedKeys, page: int = _PAGE
    ) -> None:
        self._context = context
        self._journal = journal
        self._limiter = limiter
        self._keys = keys
        self._size = page
        self._seen = limiter.recoveries
        self._since: float | None = None
        """When the answer came that began the sweep, by the wall clock; None: there is no sweep."""
        self._has_passed_over = False
        self._after: tuple[float, str] | None = None
        self._next_at = -inf
        self._probe_at = -inf

    async def claimable(self) -> list[Row]:
        """Return the rows to look up in this second; none before it is over.

        Raises:
            JournalError: the journal cannot be read.
        """
        limiter, now = self._limiter, asyncio.get_running_loop().time()
        if now < self._next_at:
            return []
        self._next_at = now + 1.0
        if limiter.is_silent:
            self._since = None
            return await self._longest_ago(now) if is_outage(limiter.state) else []
        if limiter.recoveries != self._seen:
            self._seen, self._since = limiter.recoveries, self._context.now()
            self._after, self._has_passed_over = None, False
        return [] if self._since is None else await self._next_rows(self._since)

    async def _next_rows(self, since: float) -> list[Row]:
        """Go on with the sweep; after the last page it is over, or begins again for what it passed over."""
        found: list[Row] = []
        for _ in range(_PAGES):
            page = await self._page()
            for row in page:
                if len(found) == PER_SECOND:
                    return found
                self._after = (row.created_at, row.foreign_id)
                if (row.checked_at or 0.0) < since and self._helps(row):
                    found += [row] if self._is_rested(row) else []
                    self._has_passed_over |= not self._is_rested(row)
            if len(page) < self._size:
                self._since = since if self._has_passed_over else None
                self._after, self._has_passed_over = None, False
                break
        return found

    async def _longest_ago(self, now: float) -> list[Row]:
        """Return the row that was looked up longest ago, once in `wait_max`: its answer shows that AlphaPo is back."""
        if now < self._probe_at:
            return []
        self._after = None
        # Whether they are due or not; a queue of fresh rows may stand before them in `find_open`.
        unsettled = await self._journal.find_due(self._context.account, inf, self._size, self._keys.held_back)
        rows = [row for row in unsettled if self._helps(row)]
        if rows:
            self._probe_at = now + self._context.policy.wait_max
        return sorted(rows, key=lambda row: row.checked_at or 0.0)[:1]

    async def _page(self) -> list[Row]:
        return await self._journal.find_open(self._context.account, self._after, self._size)

    def _helps(self, row: Row) -> bool:
        """Return whether a look-up of the row may help now."""
        context, now = self._context, self._context.now()
        if row.holder is not None or not is_in_doubt(row) or row.key_fingerprint in self._keys.held_back:
            return False
        # The flight looks up whatever is in doubt.
        return not isinstance(next_step(row, now, context.assumptions), Wait)

    def _is_rested(self, row: Row) -> bool:
        """Return whether the row was not looked up within the last `wait_max`."""
        return (row.checked_at or 0.0) <= self._context.now() - self._context.policy.wait_max
