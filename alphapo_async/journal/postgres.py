"""The journal in PostgreSQL: any number of workers on any number of machines share it.

Whatever is asked for at the same time is written down with one statement. A row is changed only from the turn that the change was worked
out from, so that nobody waits for anybody, and a statement that was sent twice is done once.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Sequence
from copy import copy
from typing import Any, Final

from alphapo_async.core.errors import ConfigurationError, JournalError
from alphapo_async.core.history import Entry
from alphapo_async.core.models import Totals
from alphapo_async.core.record import to_record
from alphapo_async.core.row import Row
from alphapo_async.journal.gathering import Gathering, Wish
from alphapo_async.journal.hosts import check_host
from alphapo_async.journal.moving import Kept, Register
from alphapo_async.journal.names import check_schema, check_url
from alphapo_async.journal.postgres_rows import Draft, Fetch, Known, Name, PostgresRows
from alphapo_async.journal.postgres_server import Server
from alphapo_async.journal.postgres_workers import PostgresWorkers, Presence

__all__ = ["PostgresJournal"]

_REMEMBERED: Final = 10_000
"""Rows that need not be read again: a change of one that others have changed finds that out by itself."""


class _Change(Wish[Row]):
    """A change that somebody waits for; it can be worked out again."""

    __slots__ = ("change", "entries", "made", "name", "sent")

    def __init__(self, name: Name, change: Callable[[Row | None], Row], entries: Sequence[Entry]) -> None:
        super().__init__()
        self.name = name
        self.change = change
        self.entries = entries
        self.made: Row | None = None
        """What it came to when it was last sent,"""
        self.sent: Row | None = None
        """and what was written down with it: others' changes of the row may have followed in the same group."""


class PostgresJournal:
    """Rows in a PostgreSQL database.

    It belongs to the event loop in which it is first used.

    Args:
        url: `postgresql://USER@HOST:PORT/DATABASE`, as asyncpg takes it; None with a pool. A password is better kept in PGPASSWORD or
            in a passfile.
        schema: of the tables, which are made there at first use.
        pool: an asyncpg pool to use instead of an own one; it stays the caller's to close, and one of its connections stays in use.

    Raises:
        ConfigurationError: no such URL or schema, or both a URL and a pool, or neither.
    """

    is_durable = True

    def __init__(self, url: str | None = None, *, schema: str = "alphapo", pool: Any = None) -> None:
        if (url is None) == (pool is None):
            raise ConfigurationError("A journal in PostgreSQL needs a URL or a pool, and not both.")
        self._server = Server(None if url is None else check_url(url), check_schema(schema), pool)
        self._rows = PostgresRows(schema)
        self._workers = PostgresWorkers(schema)
        self._presence = Presence(self._server.connect_for_lock, self._server.disconnect)
        self._changes: Gathering[_Change] = Gathering(self._serve)
        self._known: OrderedDict[Name, Known] = OrderedDict()
        self._remembered = _REMEMBERED
        self._is_closed = False

    def __repr__(self) -> str:
        return f"PostgresJournal({self._server.where!r})"

    # ── workers ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def time(self) -> float:
        """Return the database's time, in seconds since the epoch."""
        [told] = await self._ask(lambda fetch: fetch(self._workers.time))
        now: float = told[0]
        return now

    async def join(self, account: str, host: str, worker: str, until: float) -> None:
        """Open the database, bind the account to its host, and give the worker a lease until then.

        Raises:
            JournalError: the database cannot be used.
            ConfigurationError: the account belongs to another host.
        """

        async def bind(fetch: Fetch) -> str:
            await fetch(self._workers.bind, account, host)
            [bound] = await fetch(self._workers.host, account)
            return str(bound[0])

        check_host(account, await self._ask(bind), host)

        async def enlist(fetch: Fetch) -> list[Any]:
            return await fetch(self._workers.enlist, worker, until, await self._presence.show(worker))

        if not await self._ask(enlist):
            await self._ask(self._check_place)

    async def renew(self, worker: str, until: float, now: float) -> bool:
        """Prolong the worker's lease, unless it is over."""

        async def renew(fetch: Fetch) -> list[Any]:
            return await fetch(self._workers.renew, worker, until, now, await self._presence.show(worker))

        return bool(await self._ask(renew))

    async def leave(self, worker: str, now: float) -> None:
        """End the worker's lease; what it still holds is free for others."""

        async def leave(fetch: Fetch) -> None:
            await fetch(self._workers.leave, worker, now)
            await fetch(self._workers.strike, worker)

        await self._ask(leave)
        await self._presence.hide(worker)

    async def ended(self, worker: str, now: float) -> float | None:
        """Return until when the worker could send, if its lease is over or its connection gone; None while it is not."""
        until: float | None = await self._ask(
            lambda fetch: self._workers.ended(fetch, worker, now, self._presence.workers)
        )
        return until

    async def find_dead(self, now: float) -> list[tuple[str, float]]:
        """Return those whose lease is over or connection gone, and that have not left, and those on no list that hold something."""
        found: list[tuple[str, float]] = await self._ask(
            lambda fetch: self._workers.find_dead(fetch, now, self._presence.workers)
        )
        return found

    # ── rows ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def update(
        self,
        account: str,
        foreign_id: str,
        change: Callable[[Row | None], Row],
        *,
        entries: Sequence[Entry] = (),
        may_lag: bool = False,
    ) -> Awaitable[Row]:
        """Replace the row by what `change` makes of it, add to its history, and return the new row once the database keeps it."""
        wish = _Change((account, foreign_id), change, entries)
        try:
            self._check_open()
        except JournalError as error:
            wish.fail(error)
        else:
            self._changes.add(wish, may_lag=may_lag)
        return wish.outcome()

    async def update_within(
        self, connection: Any, account: str, foreign_id: str, change: Callable[[Row | None], Row]
    ) -> Row:
        """Replace the row inside the transaction of the caller's connection: it counts only if that commits.

        Raises:
            ConfigurationError: the connection is in no transaction.
            JournalError: the database refused it; the caller's transaction can only be rolled back.
        """
        self._check_open()
        if not connection.is_in_transaction():
            raise ConfigurationError(
                "The connection is in no transaction: call this inside `async with connection.transaction():`. Nothing was written down."
            )
        name = account, foreign_id
        return await self._server.run_within(connection, lambda fetch: self._change_one(fetch, name, change))

    async def _change_one(self, fetch: Fetch, name: Name, change: Callable[[Row | None], Row]) -> Row:
        while True:
            known = (await self._rows.find_many(fetch, [name])).get(name)
            before = None if known is None else known.row
            row = change(before)
            if row is before:
                return row
            write = self._rows.add if known is None else self._rows.change
            if await write(fetch, [Draft(name, known, row, ())]):
                return row
            await self._check_place(fetch)

    def enqueue_statement(self, row: Row, host: str, expires_in: float) -> str:
        """Return a statement that writes this row down for the workers, inside whatever transaction it is run in."""
        return self._rows.enqueue_statement(row, host, expires_in)

    async def find(self, account: str, foreign_id: str) -> Row | None:
        """Return the row, None if the journal has none."""
        name = account, foreign_id
        found = await self._ask(lambda fetch: self._rows.find_many(fetch, [name]))
        return found[name].row if found else None

    async def find_held(self, worker: str, limit: int) -> list[Row]:
        """Return rows that this worker holds."""
        return await self._select(self._rows.held, worker, limit)

    async def find_control(self, account: str, key: str, after: float) -> Row | None:
        """Return a row of this key that AlphaPo accepted, and that did not exist yet at `after`; None if there is none."""
        return next(iter(await self._select(self._rows.control, account, key, after)), None)

    async def find_open(self, account: str, after: tuple[float, str] | None, limit: int) -> list[Row]:
        """Return open rows, oldest first, from behind (created_at, foreign_id) on."""
        created_at, foreign_id = after or (-1.0, "")
        return await self._select(self._rows.open, account, created_at, foreign_id, limit)

    async def find_due(self, account: str, now: float, limit: int) -> list[Row]:
        """Return rows that a worker should come to by now, the longest overdue first."""
        return await self._select(self._rows.due, account, now, limit)

    async def find_unreported(self, account: str, limit: int) -> list[Row]:
        """Return settled rows whose outcome was not handed out."""
        return await self._select(self._rows.unreported, account, limit)

    async def history(self, account: str, foreign_id: str) -> list[Entry]:
        """Return all that was heard of a withdrawal, in order."""
        found: list[Entry] = await self._ask(lambda fetch: self._rows.history_of(fetch, (account, foreign_id)))
        return found

    async def totals(self, account: str) -> dict[str, Totals]:
        """Return what became of everything asked for, by currency, exact to the last decimal."""
        found: dict[str, Totals] = await self._ask(lambda fetch: self._rows.totals(fetch, account))
        return found

    async def remember(self, account: str, name: str, text: str) -> None:
        """Keep this text under this name, instead of what was kept there before."""
        if not await self._ask(lambda fetch: fetch(self._workers.remember, account, name, text)):
            await self._ask(self._check_place)

    async def recall(self, account: str, name: str) -> str | None:
        """Return the text kept under this name; None if there is none."""
        found: list[Any] = await self._ask(lambda fetch: fetch(self._workers.recall, account, name))
        return found[0]["text"] if found else None

    async def swap(self, account: str, name: str, before: str | None, after: str) -> bool:
        """Keep this text if that one was kept until now; tell whether it was, or whether it is there already."""
        if await self._ask(lambda fetch: fetch(self._workers.swap, account, name, before, after)):
            return True
        await self._ask(self._check_place)
        return False

    async def forget(
        self,
        account: str,
        foreign_id: str,
        change: Callable[[Row], Row],
        *,
        keeps_history: bool,
        entries: Sequence[Entry] = (),
    ) -> bool:
        """Let go of a withdrawal's bytes, and of AlphaPo's words or its whole history, and keep what `change` leaves of it."""
        name = account, foreign_id

        async def forget(fetch: Fetch) -> bool:
            while (known := (await self._rows.find_many(fetch, [name])).get(name)) is not None:
                after = change(known.row)
                if after is known.row:
                    return False
                if await self._rows.forget_one(fetch, known, after, entries, keeps_history=keeps_history):
                    return True
                await self._check_place(fetch)
            return False

        self._known.pop(name, None)
        return bool(await self._ask(forget))

    async def hosts(self) -> dict[str, str]:
        """Return the host of each account."""
        return {each[0]: each[1] for each in await self._ask(lambda fetch: fetch(self._workers.hosts))}

    async def register(self) -> Register:
        """Return accounts and workers."""
        found: Register = await self._ask(self._workers.register)
        return found

    async def find_living(self, now: float) -> list[str]:
        """Return the workers that may still send."""
        return [each[0] for each in await self._ask(lambda fetch: fetch(self._workers.living, now, []))]

    async def dump(self, after: int, limit: int) -> list[Kept]:
        """Return withdrawals of all accounts, in order, from behind this place on."""
        found: list[Kept] = await self._ask(lambda fetch: self._rows.all(fetch, after, limit))
        return found

    async def load(self, register: Register, kept: list[Kept]) -> None:
        """Write down what another journal kept; its workers have ended."""

        async def load(fetch: Fetch) -> None:
            await self._workers.load(fetch, register)
            await self._rows.load(fetch, kept)

        await self._ask(load)

    async def move_to(self, name: str | None) -> None:
        """Mark the journal as moved: nothing is written in it any more. None takes the mark back."""
        if not await self._ask(lambda fetch: fetch(self._rows.mark, name)):
            await self._ask(self._check_place)

    async def migrate(self) -> tuple[int, int]:
        """Bring the tables of an older release to this one's, making them where there are none; return both versions.

        Raises:
            JournalError: they are of a newer release, or the user may not.
        """
        return await self._server.migrate()

    async def aclose(self) -> None:
        """Write down what is left and let go of the database; a pool that was handed in stays open."""
        self._is_closed = True
        await self._changes.settle()
        await self._presence.aclose()
        await self._server.aclose()

    async def _select(self, statement: str, *values: object) -> list[Row]:
        return [known.row for known in await self._ask(lambda fetch: self._rows.select(fetch, statement, *values))]

    async def _ask(self, work: Callable[[Fetch], Any]) -> Any:
        """Have it done, after all that was asked for before."""
        self._check_open()
        await self._changes.settle()
        return await self._server.run(work)

    def _check_open(self) -> None:
        if self._is_closed:
            raise JournalError(f"The journal at {self._server.where} is closed.", recorded=None)

    async def _check_place(self, fetch: Fetch) -> None:
        [[moved_to]] = await fetch(self._rows.moved_to)
        if moved_to is not None:
            raise JournalError(f"The journal at {self._server.where} has moved to {moved_to}: use that.", recorded=None)

    # ── writing down ─────────────────────────────────────────────────────────────────────────────────────────────────

    async def _serve(self, group: list[_Change]) -> None:
        """Write a group down with as few statements as it takes; one by one where that fails."""
        try:
            await self._server.run(lambda fetch: self._apply(fetch, group))
        except JournalError as error:
            left = [wish for wish in group if not wish.is_told]
            for wish in left:
                self._known.pop(wish.name, None)
                if len(group) == 1 or self._server.is_known_down:
                    wish.fail(copy(error))
                else:
                    await self._serve([wish])
        except Exception as error:  # noqa: BLE001 - nobody may wait for ever, whatever went wrong
            for wish in group:
                wish.fail(error)

    async def _apply(self, fetch: Fetch, group: list[_Change]) -> None:
        """Work the changes out and write them down; those that others were quicker at, again from what these wrote."""
        left = [wish for wish in group if not wish.is_told]
        is_again = any(wish.sent is not None for wish in left)
        found = await self._read(fetch, left) if is_again else {}
        while left:
            drafts = self._drafts(left, found)
            new = [draft for draft, _ in drafts if draft.known is None]
            known = [draft for draft, _ in drafts if draft.known is not None]
            done = {} if not new else await self._rows.add(fetch, new)
            if known:
                done |= await self._rows.change(fetch, known)
            for name, each in done.items():
                self._remember(name, each)
            for draft, wishes in drafts:
                if draft.name in done:
                    for wish in wishes:
                        assert wish.made is not None  # noqa: S101 - it is in the draft
                        wish.fulfil(wish.made)
            left = [wish for wish in left if not wish.is_told]
            for wish in left:
                wish.sent = (
                    None  # somebody else was quicker, or it was worked out from what was remembered: it was not written
                )
            if left:
                await self._check_place(fetch)
                found = await self._read(fetch, left)

    async def _read(self, fetch: Fetch, wishes: list[_Change]) -> dict[Name, Known | None]:
        names = list({wish.name for wish in wishes})
        found = await self._rows.find_many(fetch, names)
        for name, known in found.items():
            self._remember(name, known)
        return {name: found.get(name) for name in names}

    def _drafts(self, wishes: list[_Change], found: dict[Name, Known | None]) -> list[tuple[Draft, list[_Change]]]:
        """Work out what is to be written, one draft for each row, in order; what needs no writing is told."""
        drafts: dict[Name, tuple[Draft, list[_Change]]] = {}
        for wish in wishes:
            self._add(wish, found, drafts)
        for draft, together in drafts.values():
            for wish in together:
                wish.sent = draft.row
        return list(drafts.values())

    def _add(
        self, wish: _Change, found: dict[Name, Known | None], drafts: dict[Name, tuple[Draft, list[_Change]]]
    ) -> None:
        name = wish.name
        is_fresh = name in found
        known = found.get(name) if is_fresh else self._known.get(name)
        draft, wishes = drafts.get(name) or (None, [])
        before = draft.row if draft is not None else None if known is None else known.row
        if is_fresh and before is not None and _is_written(wish, before):
            assert wish.made is not None  # noqa: S101 - made before it was sent
            wish.fulfil(wish.made)
            return
        try:
            row = wish.change(before)
        except Exception as error:  # noqa: BLE001 - told to whoever handed in the function
            if is_fresh:
                wish.fail(error)
            return
        if row is before and not wish.entries and draft is None:
            if is_fresh:
                wish.fulfil(row)
            return
        wish.made = row
        entries = (*(draft.entries if draft else ()), *wish.entries)
        drafts[name] = Draft(name, known, row, entries), [*wishes, wish]

    def _remember(self, name: Name, known: Known) -> None:
        self._known.pop(name, None)
        self._known[name] = known
        if len(self._known) > self._remembered:
            self._known.popitem(last=False)


def _is_written(wish: _Change, found: Row) -> bool:
    """It was written down before, and only the word of it was lost."""
    return wish.sent is not None and to_record(found) == to_record(wish.sent)
