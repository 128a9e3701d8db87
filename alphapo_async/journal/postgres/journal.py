"""The journal in PostgreSQL: any number of workers on any number of machines share it.

Changes that come at the same time are stored with one statement. A row is changed only from the version from which the change was computed:
no worker waits for another one, and a statement that is sent twice takes effect once.

What is used of PostgreSQL, which has to be version 13 or newer (`trim_scale`):

- `for update skip locked`: workers that claim at the same time take different rows, and none waits.
- A lock on the worker's own row in each claim: a claim and the end of its worker's lease come one after the other, so that what was begun
  is known when the lease has ended.
- Advisory locks, one for each process: a dead process is seen at once. Through a pooler there are none, and leases alone count.
- plpgsql: `identity()` catches what a managed database forbids; `enqueue()` runs as its owner, for callers without rights on the tables.
- Identity columns number the rows in the order in which they came; a foreign key binds earlier revisions to their row.
- Partial indexes: fresh rows, rows in doubt and rows to refresh have one each, so that settled rows cost a claim nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Collection, Sequence
from copy import copy
from typing import Any, Final, NamedTuple, TypeAlias, TypeVar

from alphapo_async.core.claims import Claim, ClaimedRows
from alphapo_async.core.errors import ConfigurationError, JournalError
from alphapo_async.core.evidence import Requested
from alphapo_async.core.frames import hides_arguments
from alphapo_async.core.history import Change, Entry, is_stored
from alphapo_async.core.models import Totals
from alphapo_async.core.row import Epoch, Row
from alphapo_async.core.row_format import to_record
from alphapo_async.journal.copying import Kept, Register
from alphapo_async.journal.group_commit import GroupCommit, PendingWrite
from alphapo_async.journal.host_binding import check_host
from alphapo_async.journal.postgres.connection import EVERY_ROW, PostgresConnection, driver, is_transient
from alphapo_async.journal.postgres.identity import Identity, epoch_of, stamp_of
from alphapo_async.journal.postgres.rows import Draft, Fetch, Name, PostgresRows, StoredRow, stored
from alphapo_async.journal.postgres.schema import queries
from alphapo_async.journal.postgres.workers import LivenessLock, PostgresWorkers
from alphapo_async.journal.stored_rows import longest_overdue
from alphapo_async.journal.urls import check_failover, check_url, one_schema, read_location
from alphapo_async.supervisor import Supervisor

__all__ = ["PostgresJournal"]

logger = logging.getLogger("alphapo_async")

T = TypeVar("T")
_CLOSING: Final = 2.0
"""Seconds that closing gives to what is left."""
_REMEMBERED: Final = 10_000
"""Rows that are not read again: the statement itself refuses a change from a version that is no longer the present one."""


class _Unanswered(NamedTuple):
    """A statement that was sent and not answered: it may have taken effect, or may do later."""

    draft: Draft
    made: Row
    """The row that this change made in it: other changes of the row may have followed in the same draft."""

    def stands(self, found: StoredRow, lines: Sequence[Entry]) -> bool:
        """Return whether the row, as it was read with these lines, is the one of the draft, or comes from it."""
        _, known, row, entries = self.draft
        ours, changes = stored(entries), found.version - (0 if known is None else known.version)
        if changes == 1:
            return to_record(found.row) == to_record(row) and _are_stored(ours, lines)
        # Other changes came since. Lines are only added, each under its own number; a count does not show which change counted.
        added = [line for line in ours if line.count == 1]
        return changes > 1 and bool(added) and _are_stored(added, lines)


class _Write(PendingWrite[Row]):
    """A change, which can be computed again."""

    __slots__ = ("attempts", "change", "name")

    def __init__(self, name: Name, change: Change) -> None:
        super().__init__()
        self.name = name
        self.change = change
        self.attempts: list[_Unanswered] = []


class _Found(NamedTuple):
    """What was read for a group."""

    stamp: str
    """Where the journal stood when this was read; changes of it are stored only there."""
    rows: dict[Name, StoredRow | None]
    lines: dict[int, list[Entry]]
    """Of rows that may have been stored before without an answer, by their numbers."""


_Sheet: TypeAlias = tuple[Draft, list[tuple[_Write, Row]]]
"""A draft of a row, and the changes in it, each with the row that it made."""


class PostgresJournal:
    """Rows in a PostgreSQL database.

    It belongs to the event loop in which it is first used.

    Args:
        url: `postgresql://USER@HOST:PORT/DATABASE`, as asyncpg takes it; None with a pool. A password is better kept in PGPASSWORD or
            in a passfile. `?schema=NAME` and `?failover=lossless` say what the arguments of these names say.
        schema: of the tables, which are made there at first use; None for the URL's, or `alphapo`.
        pool: an asyncpg pool to use instead of an own one; it stays the caller's to close, and one of its connections stays in use.
        failover: `lossless` says that failovers of this cluster lose nothing: none freezes a row.

    Raises:
        ConfigurationError: no such URL, schema or failover, two schemas, both a URL and a pool, or neither.
    """

    is_durable = True

    @hides_arguments
    def __init__(
        self, url: str | None = None, *, schema: str | None = None, pool: Any = None, failover: str | None = None
    ) -> None:
        if (url is None) == (pool is None):
            raise ConfigurationError("A journal in PostgreSQL needs a URL or a pool, and not both.")
        location = None if url is None else read_location(check_url(url))
        schema = one_schema(schema, location and location.schema)
        self._is_lossless = check_failover(failover) or (location is not None and location.is_lossless)
        self._server = PostgresConnection(location and location.url, schema, pool)
        self._sql = queries(schema)
        self._rows = PostgresRows(schema)
        self._workers = PostgresWorkers(schema)
        self._presence = LivenessLock(self._server.connect_for_lock, self._server.disconnect)
        self._changes: GroupCommit[_Write] = GroupCommit(self._store)
        self._known: OrderedDict[Name, StoredRow] = OrderedDict()
        self._remembered = _REMEMBERED
        self._is_closed = False
        self._close_within = _CLOSING
        self._epoch = Epoch()
        self._seen = Identity()
        self._stamp = ""
        """What a statement compares with the journal's row: it writes only where nothing has gone back since it was seen so."""

    def supervise(self, supervisor: Supervisor) -> None:
        """Let this supervisor report and restart the journal's background tasks from now on."""
        self._presence.supervisor = self._changes.supervisor = supervisor

    def __repr__(self) -> str:
        server = getattr(self, "_server", None)
        return f"PostgresJournal({'not made: a setting was refused' if server is None else repr(server.where)})"

    @property
    def epoch(self) -> Epoch:
        """The journal's epoch, as it was last seen; nothing that was made from it is written in another one."""
        return self._epoch

    # ── workers ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def time(self) -> float:
        """Return the database's time, in seconds since the epoch."""
        [[now]] = await self._ask(lambda fetch: fetch(self._sql["time"]))
        return float(now)

    async def join(self, account: str, host: str, worker: str, until: float) -> None:
        """Open the database, bind the account to its host, and give the worker a lease until then.

        Raises:
            JournalError: the database cannot be used.
            ConfigurationError: the account belongs to another host.
        """

        async def bind(fetch: Fetch) -> str:
            await fetch(self._sql["bind"], account, host)
            [bound] = await fetch(self._sql["host"], account)
            return str(bound[0])

        check_host(account, await self._ask(bind), host)

        async def enlist(fetch: Fetch) -> list[Any]:
            return await fetch(self._sql["enlist"], self._stamp, worker, until, await self._presence.show(worker))

        try:
            await self._guarded(enlist)
        except BaseException:
            self._presence.forget(worker)
            raise

    async def renew(self, worker: str, until: float, now: float) -> bool:
        """Prolong the worker's lease, unless it is over."""

        async def renew(fetch: Fetch) -> list[Any]:
            shown = await self._presence.show(worker)
            return await fetch(self._sql["renew"], self._stamp, worker, until, now, shown)

        return bool(await self._guarded(renew))

    async def leave(self, worker: str, now: float) -> None:
        """End the worker's lease; other workers may take the rows that it still holds."""

        async def leave(fetch: Fetch) -> None:
            await fetch(self._sql["leave"], worker, now)
            await fetch(self._sql["strike"], worker)

        self._presence.forget(worker)
        await self._ask(leave)
        await self._presence.hide(worker)

    async def ended(self, worker: str, now: float) -> float | None:
        """Return until when the worker can send, if its lease is over, or will not be renewed since its connection is gone; else None."""
        return await self._ask(lambda fetch: self._workers.ended(fetch, worker, now, self._presence.workers))

    async def find_dead(self, now: float) -> list[tuple[str, float]]:
        """Return workers whose lease is over or connection gone, and that have not left, and holders of rows that are on no list.

        The lease of a worker whose connection is gone may end later than now.
        """
        return await self._ask(lambda fetch: self._workers.find_dead(fetch, now, self._presence.workers))

    # ── rows ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def update(self, account: str, foreign_id: str, change: Change, *, may_lag: bool = False) -> Awaitable[Row]:
        """Write the row and the history lines that `change` returns, with one statement; return the row once the database keeps both."""
        pending = _Write((account, foreign_id), change)
        try:
            self._check_open()
        except JournalError as error:
            pending.fail(error)
        else:
            self._changes.add(pending, may_lag=may_lag)
        return pending.outcome()

    async def update_within(self, connection: Any, account: str, foreign_id: str, change: Change) -> Row:
        """Write the row and the history lines inside the transaction of the caller's connection: they count only if that commits.

        Raises:
            ConfigurationError: the connection is in no transaction.
            JournalError: the database refused it; the caller's transaction can only be rolled back.
        """
        self._check_open()
        name = account, foreign_id

        async def change_here(fetch: Fetch) -> Row:
            with driver():
                is_in_transaction = connection.is_in_transaction()
            if not is_in_transaction:
                raise ConfigurationError(
                    "The connection is in no transaction: call this inside `async with connection.transaction():`. Nothing was "
                    "recorded."
                )
            if not await fetch(self._sql["stay"], self._stamp):
                await self._server.run(self._look)  # outside of the caller's transaction, which may be rolled back
                if not await fetch(self._sql["stay"], self._stamp):
                    raise JournalError(
                        f"The journal at {self._server.where} went back while this was asked.", recorded=False
                    )
            return await self._change_one(fetch, name, change)

        return await self._server.run_within(connection, change_here)

    async def _change_one(self, fetch: Fetch, name: Name, change: Change) -> Row:
        while True:
            stamp = self._stamp
            known = (await self._rows.find_many(fetch, [name])).get(name)
            before = None if known is None else known.row
            row, entries = change(before)
            if row is before and not entries:
                return row
            if await self._rows.write(fetch, [Draft(name, known, row, tuple(entries))], stamp):
                return row
            await self._look(fetch)

    def enqueue_statement(
        self, account: str, asked: Requested, host: str, expires_in: float, resend_within: float
    ) -> str:
        """Return a statement that records what is asked for, for the workers, inside the transaction in which it runs."""
        times = {"expires_in": expires_in, "resend_within": resend_within}
        return self._rows.enqueue_statement(account, asked, host, times, failover_is_lossless=self._is_lossless)

    async def find(self, account: str, foreign_id: str) -> Row | None:
        """Return the row, None if the journal has none."""
        name = account, foreign_id
        found = await self._ask(lambda fetch: self._rows.find_many(fetch, [name]))
        return found[name].row if found else None

    async def find_held(self, worker: str, limit: int) -> list[Row]:
        """Return rows that this worker holds."""
        return await self._select("held", worker, limit=limit)

    async def find_control(self, account: str, key: str, after: float) -> Row | None:
        """Return a row of this key that AlphaPo accepted, and that did not exist yet at `after`; None if there is none."""
        return next(iter(await self._select("control", account, key, after, limit=1)), None)

    async def find_open(self, account: str, after: tuple[float, str] | None, limit: int) -> list[Row]:
        """Return open rows, oldest first, from behind (created_at, foreign_id) on."""
        created_at, foreign_id = after or (-1.0, "")
        return await self._select("open", account, created_at, foreign_id, limit=limit)

    async def claim(self, account: str, claim: Claim) -> ClaimedRows | None:
        """Have a worker take fresh rows that are due, with one statement; None where its lease does not run."""

        async def take(fetch: Fetch) -> tuple[list[StoredRow], float] | None:
            found = await self._compared(fetch, lambda fetch: self._rows.claim(fetch, account, claim, self._stamp))
            found = found or await self._rows.claimed(fetch, claim)
            return await self._rows.taken(fetch, found, claim) if found else None

        self._check_open()
        taken = await self._server.run(take)  # no change that waits is about a fresh row
        if taken is None:
            return None
        for known in taken[0]:
            self._remember((known.row.account, known.row.foreign_id), known)
        return ClaimedRows([known.row for known in taken[0]], taken[1])

    async def begun(self, worker: str) -> int | None:
        """Return the last claim of a worker whose rows may have begun; None of a worker that is not known."""
        found = await self._ask(lambda fetch: fetch(self._sql["begun"], worker))
        return int(found[0]["begun"]) if found else None

    async def find_due(
        self, account: str, now: float, limit: int, refused: Collection[str] = (), *, expired: bool = False
    ) -> list[Row]:
        """Return rows that are due and not fresh: open rows first, and the longest overdue first."""
        found = await self._select("fresh_and_expired", account, now, limit=limit) if expired else []
        asked, room = (account, now, sorted(refused)), limit - len(found)
        frozen = await self._select("frozen", *asked, limit=room)
        found += longest_overdue([*frozen, *await self._select("in_doubt", *asked, limit=room)], room)
        return [*found, *await self._select("to_refresh", *asked, limit=limit - len(found))]

    async def find_unreported(self, account: str, limit: int) -> list[Row]:
        """Return settled rows whose outcome was not handed out."""
        return await self._select("unreported", account, limit=limit)

    async def history(self, account: str, foreign_id: str) -> list[Entry]:
        """Return the lines of a withdrawal's history, in order."""
        return await self._ask(lambda fetch: self._rows.history_of(fetch, (account, foreign_id)))

    async def totals(self, account: str) -> dict[str, Totals]:
        """Return the sums of everything requested, by currency, exact to the last decimal."""
        return await self._ask(lambda fetch: self._rows.totals(fetch, account), within=EVERY_ROW)

    async def remember(self, account: str, name: str, text: str) -> None:
        """Keep this text under this name, instead of what was kept there before."""
        await self._guarded(lambda fetch: fetch(self._sql["remember"], self._stamp, account, name, text))

    async def recall(self, account: str, name: str) -> str | None:
        """Return the text kept under this name; None if there is none."""
        found: list[Any] = await self._ask(lambda fetch: fetch(self._sql["recall"], account, name))
        return found[0]["text"] if found else None

    async def swap(self, account: str, name: str, before: str | None, after: str) -> bool:
        """Keep `after` if `before` was kept until now; return whether it was, or whether `after` is there already."""
        return bool(
            await self._guarded(lambda fetch: fetch(self._sql["swap"], self._stamp, account, name, before, after))
        )

    async def forget(
        self,
        account: str,
        foreign_id: str,
        change: Callable[[Row], tuple[Row, Sequence[Entry]]],
        *,
        keeps_history: bool,
    ) -> bool:
        """Remove a withdrawal's bytes and AlphaPo's words or its whole history; keep the row and add the lines that `change` returns."""
        name = account, foreign_id
        sent: dict[int, Row] = {}
        """The row that was sent, by its version, where no answer came."""

        async def forget(fetch: Fetch) -> bool:
            while (known := (await self._rows.find_many(fetch, [name])).get(name)) is not None:
                before = sent.get(known.version - 1)
                if before is not None and to_record(before).rest == to_record(known.row).rest:
                    return True
                after, entries = change(known.row)
                if after is known.row:
                    return bool(sent)
                unsure = sent.get(known.version)
                sent[known.version] = after
                if await self._rows.forget(fetch, known, after, entries, self._stamp, keeps_history=keeps_history):
                    return True
                if unsure is None:
                    del sent[known.version]
                await self._look(fetch)
            return False

        self._known.pop(name, None)
        return await self._ask(forget)

    async def hosts(self) -> dict[str, str]:
        """Return the host of each account."""
        return {each[0]: each[1] for each in await self._ask(lambda fetch: fetch(self._sql["hosts"]))}

    async def register(self) -> Register:
        """Return accounts and workers."""
        return await self._ask(self._workers.register)

    async def dump(self, after: int, limit: int, *, with_history: bool = True) -> list[Kept]:
        """Return withdrawals of all accounts, in order, from behind this place on, as `Dumpable` says."""
        return await self._ask(lambda fetch: self._rows.all(fetch, after, limit, with_history=with_history))

    async def load(self, register: Register | None, kept: list[Kept]) -> None:
        """Record what another journal kept; its workers have ended. None: withdrawals alone."""

        async def load(fetch: Fetch) -> None:
            if register is not None:
                await self._workers.load(fetch, register)
            await self._look(fetch)
            await self._rows.load(fetch, kept, self._stamp)

        await self._ask(load)

    async def migrate(self) -> tuple[int, int]:
        """Bring the tables of an older release to this one's, making them where there are none; return both versions.

        Raises:
            JournalError: they are of a newer release, or the user may not.
        """
        return await self._server.migrate()

    async def aclose(self) -> None:
        """Record what is left and release the database, within 2 s also where it is silent; a pool that was handed in stays open.

        Changes that are not stored by then fail.
        """
        self._is_closed = True
        try:
            async with asyncio.timeout(self._close_within):
                await self._changes.settle()
                await self._presence.aclose()
                await self._server.aclose()
        except TimeoutError:
            logger.warning(
                "The journal at %s was closed while it did not answer", self._server.where, extra={"foreign_id": None}
            )
        except Exception:
            logger.exception(
                "The journal at %s was not closed in good order", self._server.where, extra={"foreign_id": None}
            )
        finally:
            self._changes.abandon(JournalError(f"The journal at {self._server.where} was closed.", recorded=None))
            self._presence.terminate()
            self._server.terminate()

    async def _select(self, query: str, *values: object, limit: int) -> list[Row]:
        found = await self._ask(lambda fetch: self._rows.select(fetch, query, *values, limit=limit))
        return [known.row for known in found]

    async def _ask(self, work: Callable[[Fetch], Awaitable[T]], *, within: float | None = None) -> T:
        """Do the work, after all changes that came before; `within` so many seconds for each statement, the usual ones where not given."""
        self._check_open()
        await self._changes.settle()
        return await self._server.run(work, within=within)

    def _check_open(self) -> None:
        if self._is_closed:
            raise JournalError(f"The journal at {self._server.where} is closed.", recorded=None)

    # ── where the journal stands ─────────────────────────────────────────────────────────────────────────────────────

    async def raise_epoch(self, now: float) -> Epoch:  # noqa: ARG002 - the database's clock dates it
        """Begin another epoch: the database was restored, or lost what a worker saw in it."""
        before: list[int] = []
        """The epoch's number, and what it is where the answer was lost."""

        async def begin(fetch: Fetch) -> Epoch:
            await self._look(fetch)
            before.append(self._epoch.number)
            if self._epoch.number == before[0]:
                await self._begin_epoch(fetch)
            return self._epoch

        return await self._ask(begin)

    async def equate_epochs(self, line: Entry) -> int:
        """Declare that nothing was lost when the present epoch began; return how many rows that concerns, each with this line."""

        async def equate(fetch: Fetch) -> int:
            await self._look(fetch)
            [found] = await fetch(self._sql["equate_epochs"], line.at, line.kind, line.what, line.release)
            self._known.clear()
            await self._look(fetch)
            return int(found["count"])

        return await self._ask(equate, within=EVERY_ROW)

    async def count_frozen(self, account: str) -> int:
        """Return how many open rows are of an earlier epoch."""
        [[count]] = await self._ask(lambda fetch: fetch(self._sql["count_frozen"], account))
        return int(count)

    async def cautions(self) -> list[str]:
        """Return what an operator should know of this database, a sentence each: what it may lose, and what it hides."""
        return await self._ask(self._server.cautions)

    async def _guarded(self, work: Callable[[Fetch], Awaitable[list[Any]]]) -> list[Any]:
        """Run a statement that compares the identity; once more where the journal has gone back since it was last seen."""
        return await self._ask(lambda fetch: self._compared(fetch, work))

    async def _compared(self, fetch: Fetch, work: Callable[[Fetch], Awaitable[list[Any]]]) -> list[Any]:
        found = await work(fetch)
        while not found and await self._look(fetch):
            found = await work(fetch)
        return found

    async def _look(self, fetch: Fetch) -> bool:
        """See where the journal stands; return whether that is another database or epoch than was seen before.

        Raises:
            JournalError: this is an old primary.
        """
        [found] = await fetch(self._sql["look"])
        seen = Identity.read(found["seen"])
        seen.check(self._seen, self._server.where)
        if found["seen"] != found["identity"]:
            await fetch(self._sql["see"], found["seen"], found["identity"], 0 if self._is_lossless else 1)
            [found] = await fetch(self._sql["look"])
        epoch, stamp = epoch_of(found), stamp_of(found["identity"], found["epoch_number"])
        is_news = (epoch, stamp) != (self._epoch, self._stamp)
        if is_news:
            self._known.clear()
        self._epoch, self._stamp, self._seen = epoch, stamp, seen
        return is_news

    async def _begin_epoch(self, fetch: Fetch) -> None:
        await fetch(self._sql["raise_epoch"], self._epoch.number)
        await self._look(fetch)

    # ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _store(self, group: list[_Write]) -> asyncio.Task[None]:
        return asyncio.get_running_loop().create_task(self._serve(group))

    async def _serve(self, group: list[_Write]) -> None:
        """Store a group with as few statements as possible; one by one where that fails, for any reason."""
        try:
            await self._server.run(lambda fetch: self._apply(fetch, group))
        except Exception as error:  # noqa: BLE001 - each caller gets the error of its own change
            for pending in [pending for pending in group if not pending.is_done]:
                self._known.pop(pending.name, None)
                if len(group) == 1 or self._server.is_known_down:
                    pending.fail(copy(error) if isinstance(error, JournalError) else error)
                else:
                    await self._serve([pending])

    async def _apply(self, fetch: Fetch, group: list[_Write]) -> None:
        """Compute the changes and store them; compute a change again from the row that another worker stored first."""
        left = [pending for pending in group if not pending.is_done]
        is_again = any(pending.attempts for pending in left)
        found = await self._read(fetch, left) if is_again else _Found(self._stamp, {}, {})
        while left:
            drafts = self._drafts(left, found).values()
            await self._write(fetch, [each for each in drafts if each[0].known is None], found.stamp)
            await self._write(fetch, [each for each in drafts if each[0].known is not None], found.stamp)
            left = [pending for pending in left if not pending.is_done]
            if left:
                await self._look(fetch)
                found = await self._read(fetch, left)

    async def _read(self, fetch: Fetch, pending_writes: list[_Write]) -> _Found:
        names, stamp = list({pending.name for pending in pending_writes}), self._stamp
        before = {name: self._known.get(name) for name in names}  # a claim may be answered while the rows are read
        rows = await self._rows.find_many(fetch, names)
        if any(_is_overtaken(before[name], rows.get(name)) for name in names):
            await self._begin_epoch(fetch)
            stamp = self._stamp
            rows = await self._rows.find_many(fetch, names)
        for name, known in rows.items():
            self._remember(name, known)
        unsure = [
            rows[name].id for name in {pending.name for pending in pending_writes if pending.attempts} if name in rows
        ]
        lines = await self._rows.histories(fetch, unsure) if unsure else {}
        return _Found(stamp, {name: rows.get(name) for name in names}, lines)

    async def _write(self, fetch: Fetch, drafts: list[_Sheet], stamp: str) -> None:
        """Store drafts and resolve their changes; keep an attempt for each draft that was sent and not answered."""
        if not drafts:
            return
        for draft, together in drafts:
            for pending, row in together:
                pending.attempts.append(_Unanswered(draft, row))
        done: dict[Name, StoredRow] | None = {}
        try:
            done = await self._rows.write(fetch, [draft for draft, _ in drafts], stamp)
        except BaseException as error:
            if not isinstance(error, Exception) or is_transient(error):
                done = None
            raise
        finally:
            if done is not None:
                self._resolve(drafts, done)

    def _resolve(self, drafts: list[_Sheet], done: dict[Name, StoredRow]) -> None:
        for name, each in done.items():
            self._remember(name, each)
        for draft, together in drafts:
            for pending, row in together:
                pending.attempts.pop()
                if draft.name in done:
                    pending.resolve(row)

    def _drafts(self, pending_writes: list[_Write], found: _Found) -> dict[Name, _Sheet]:
        """Compute what is to be stored, one draft for each row, in order; resolve changes that change nothing."""
        drafts: dict[Name, _Sheet] = {}
        late: set[Name] = set()
        for pending in pending_writes:
            if pending.name in late or not self._add(pending, found, drafts):
                late.add(pending.name)  # later changes of the row wait with it
        return drafts

    def _add(self, pending: _Write, found: _Found, drafts: dict[Name, _Sheet]) -> bool:
        """Compute one change; return whether it is done or drafted."""
        name, is_fresh = pending.name, pending.name in found.rows
        known = found.rows[name] if is_fresh else self._known.get(name)
        draft, together = drafts.get(name) or (None, [])
        row, lines = (draft.row, draft.entries) if draft else (known.row if known else None, ())
        # Where only the answer was lost the row is stored once more: it may be visible before it is on every disk that has to keep it.
        made = _made_before(pending, known, found.lines) if is_fresh else None
        if made is None or row is None:
            changed = _change(pending, row, is_alone=draft is None, is_fresh=is_fresh)
            if changed is None:
                return pending.is_done
            made = row = changed[0]
            lines = (*lines, *changed[1])
        drafts[name] = Draft(name, known, row, lines), [*together, (pending, made)]
        return True

    def _remember(self, name: Name, known: StoredRow) -> None:
        self._known.pop(name, None)
        self._known[name] = known
        if len(self._known) > self._remembered:
            self._known.popitem(last=False)


def _is_overtaken(before: StoredRow | None, found: StoredRow | None) -> bool:
    """Return whether this worker saw a newer version of the row acknowledged than the database now has: it lost commits."""
    return before is not None and (found is None or found.version < before.version)


def _change(
    pending: _Write, before: Row | None, *, is_alone: bool, is_fresh: bool
) -> tuple[Row, Sequence[Entry]] | None:
    """Compute a change; return None where nothing is to be stored. A result comes only from a row that was just read.

    Args:
        pending: the change.
        before: the row, or the row of the draft.
        is_alone: there is no draft of the row yet.
        is_fresh: the row was just read.
    """
    try:
        row, entries = pending.change(before)
    except BaseException as error:  # noqa: BLE001 - the caller that handed in the function gets it
        if is_fresh and is_alone:
            pending.fail(error)
        return None
    if is_alone and row is before and not entries:
        if is_fresh:
            pending.resolve(row)
        return None
    return row, entries


def _made_before(pending: _Write, known: StoredRow | None, lines: dict[int, list[Entry]]) -> Row | None:
    """Return the row that the change made, if it is stored already."""
    if known is None:
        return None
    return next((one.made for one in pending.attempts if one.stands(known, lines.get(known.id, []))), None)


def _are_stored(ours: Sequence[Entry], lines: Sequence[Entry]) -> bool:
    found = {line.number: line for line in lines}
    return all(is_stored(line, found.get(line.number)) for line in ours)
