"""Follow accepted withdrawals until AlphaPo says that they are final: `resume --refresh` and `batch --follow`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from math import inf
from typing import Any, Final, NamedTuple

from alphapo_async.cli.scratch import Scratch
from alphapo_async.client import AlphapoClient
from alphapo_async.core.errors import AlphapoUnavailable, JournalError
from alphapo_async.core.rate_limit import REFRESHES
from alphapo_async.core.retry_policy import backoff
from alphapo_async.core.row import REFRESH_AFTER, Row, is_in_doubt
from alphapo_async.journal import Journal

__all__ = ["GIVE_UP_AFTER", "Following", "News", "is_final", "is_followed"]

GIVE_UP_AFTER: Final = 3_600.0
"""Seconds, unless another time is given, after which following ends although some rows are not final."""
_FIRST_PAUSE: Final = 1.0
"""Seconds after a look-up that found nothing new; then twice as long each time, up to a worker's first pause."""
_AT_ONCE: Final = 64
_BURST: Final = 0.1
"""Seconds of look-ups that may leave together, because a timer fires late."""
_TABLES: Final = """
create table followed (foreign_id text primary key, due real not null default 0, fruitless integer not null default 0,
    kept blob not null);
create index followed_by_due on followed (due)"""


def is_followed(row: Row) -> bool:
    """Return whether a look-up may bring news: AlphaPo has it and it is not final, its txid was never shown, or AlphaPo may have it."""
    is_shown = row.transaction is not None and is_final(row)
    return is_in_doubt(row) or (row.state == "accepted" and not is_shown)


def is_final(row: Row) -> bool:
    """Return whether AlphaPo says that nothing more will happen to the withdrawal."""
    return row.withdrawal is not None and row.withdrawal.is_final


class News(NamedTuple):
    """What became known of a withdrawal that is followed."""

    row: Row
    has_changed: bool
    is_done: bool
    """Nothing more is to be found out: it is not followed any more."""
    kept: bytes = b""
    """What was kept with it."""


class Following:
    """Look-ups of withdrawals, evenly spaced, until each is final.

    A look-up that finds nothing new is followed by a pause that is twice as long each time. A row that a callback or a worker has settled
    meanwhile is not looked up.

    Args:
        client: makes the look-ups, and records what they show.
        journal: the client's.
        account: the client's.
        stop: ends it once it is set.
        rate: look-ups a second; None for as many as a worker makes.
        give_up_after: seconds after which it ends.
    """

    def __init__(
        self,
        client: AlphapoClient,
        journal: Journal,
        account: str,
        stop: asyncio.Event,
        *,
        rate: float | None = None,
        give_up_after: float | None = None,
    ) -> None:
        self._client = client
        self._journal = journal
        self._account = account
        self._stop = stop
        self._spacing = 1.0 / (rate or REFRESHES)
        self._give_up_after = give_up_after or GIVE_UP_AFTER
        self._scratch = Scratch(_TABLES)
        self._left = 0
        self._next_at = 0.0
        """When the next look-up may leave, by the loop's clock."""

    def __repr__(self) -> str:
        return f"Following({self._left} left)"

    def __len__(self) -> int:
        return self._left

    def add(self, foreign_id: str, kept: bytes = b"") -> None:
        """Follow one more withdrawal, and keep these bytes with it."""
        self._left += self._scratch.run(
            "insert or ignore into followed (foreign_id, kept) values (?, ?)", foreign_id, kept
        )

    def keep(self, foreign_id: str, kept: bytes) -> None:
        """Keep other bytes with a withdrawal that is followed."""
        self._scratch.run("update followed set kept = ? where foreign_id = ?", kept, foreign_id)

    def left(self) -> Iterator[tuple[str, bytes]]:
        """Yield the withdrawals that are still followed, and what is kept with each."""
        yield from self._scratch.each("select foreign_id, kept from followed order by rowid")

    def close(self) -> None:
        """Forget everything."""
        self._scratch.close()

    async def rows(self) -> AsyncGenerator[News, None]:
        """Yield what has changed; of each withdrawal `is_done` comes once, and last.

        It ends when nothing is left to follow, at `stop`, and at `give_up_after`.

        Raises:
            AlphapoUnavailable: AlphaPo does not accept the key.
            JournalError: the journal cannot be used.
        """
        loop = asyncio.get_running_loop()
        until, stopping = loop.time() + self._give_up_after, asyncio.ensure_future(self._stop.wait())
        running: set[asyncio.Future[News]] = set()
        try:
            while self._left and not self._stop.is_set() and (now := loop.time()) < until:
                while len(running) < _AT_ONCE and (foreign_id := self._take(now)) is not None:
                    running.add(asyncio.ensure_future(self._look_up(foreign_id)))
                pause = min(self._due_in(now) if len(running) < _AT_ONCE else inf, until - now)
                waited: set[asyncio.Future[Any]] = {*running, stopping}
                await asyncio.wait(waited, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                for looked_up in [one for one in running if one.done()]:
                    running.discard(looked_up)
                    news = looked_up.result()
                    kept = self._schedule(news, loop.time())
                    if news.has_changed:
                        yield news._replace(kept=kept)
        finally:
            stopping.cancel()
            for looking in running:
                looking.cancel()
            await asyncio.gather(*running, return_exceptions=True)
            await asyncio.gather(stopping, return_exceptions=True)

    def _take(self, now: float) -> str | None:
        """Return a withdrawal whose look-up leaves now; None if none is due, or the rate does not allow it."""
        if now < self._next_at:
            return None
        found = self._scratch.first("select foreign_id from followed where due <= ? order by due limit 1", now)
        if found is None:
            return None
        self._next_at = max(self._next_at, now - _BURST) + self._spacing
        self._scratch.run("update followed set due = 1e999 where foreign_id = ?", found[0])
        return str(found[0])

    def _due_in(self, now: float) -> float:
        """Return the seconds until the next look-up may leave."""
        [due] = self._scratch.first("select min(due) from followed")
        return max(float(due), self._next_at, now) - now

    async def _look_up(self, foreign_id: str) -> News:
        """Look a withdrawal up, where that may help."""
        before, has_answer = await self._find(foreign_id), False
        if not is_followed(before):
            return News(before, has_changed=True, is_done=True)
        try:
            await self._client.look_up(foreign_id)
            has_answer = True
        except AlphapoUnavailable as error:
            if error.is_key_refused:
                raise
            self._next_at = max(self._next_at, asyncio.get_running_loop().time() + (error.retry_after or 0.0))
        after = await self._find(foreign_id)
        is_done = not is_followed(after) or (is_final(after) and has_answer)
        return News(after, has_changed=is_done or _standing(after) != _standing(before), is_done=is_done)

    async def _find(self, foreign_id: str) -> Row:
        """Return the journal's row.

        Raises:
            JournalError: the journal cannot be read, or has lost the row.
        """
        row = await self._journal.find(self._account, foreign_id)
        if row is None:
            raise JournalError(
                f"Withdrawal {foreign_id!r} is no longer in the journal, which went back in time: stop payouts (alphapo runbook failover).",
                recorded=None,
            )
        return row

    def _schedule(self, news: News, now: float) -> bytes:
        """Set when the row is looked up next, or stop following it; return what is kept with it."""
        foreign_id = news.row.foreign_id
        fruitless, kept = self._scratch.first("select fruitless, kept from followed where foreign_id = ?", foreign_id)
        if news.is_done:
            self._left -= self._scratch.run("delete from followed where foreign_id = ?", foreign_id)
        else:
            fruitless = 0 if news.has_changed else fruitless + 1
            due = now + backoff(max(fruitless, 1), _FIRST_PAUSE, REFRESH_AFTER)
            statement = "update followed set due = ?, fruitless = ? where foreign_id = ?"
            self._scratch.run(statement, due, fruitless, foreign_id)
        return bytes(kept)


def _standing(row: Row) -> tuple[str, str | None]:
    """Return what a look-up may change."""
    return row.state, None if row.withdrawal is None else row.withdrawal.status
