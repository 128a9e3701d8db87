"""The journal in a file: what it acknowledged survives the death of the process and of the machine.

One thread holds the connection; calls that come at the same time share one transaction. Any number of processes on one machine may share
the file.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any, Final, Generic, TypeVar

from alphapo_async.core.claims import Claim, ClaimedRows
from alphapo_async.core.errors import JournalError
from alphapo_async.core.history import Change, Entry
from alphapo_async.core.models import Totals
from alphapo_async.core.row import Epoch, Row
from alphapo_async.core.row_format import to_record
from alphapo_async.journal.copying import Kept, Register
from alphapo_async.journal.group_commit import GroupCommit, PendingWrite
from alphapo_async.journal.host_binding import check_host
from alphapo_async.journal.messages import file_error
from alphapo_async.journal.sqlite.busy import BusyWait, is_busy
from alphapo_async.journal.sqlite.connection import FileConnection, Name
from alphapo_async.journal.sqlite.continuity import Continuity
from alphapo_async.journal.sqlite.faults import journal_error
from alphapo_async.journal.sqlite.file import DRIVER_ERRORS, copy_into, locks_of, lose
from alphapo_async.journal.sqlite.liveness import LivenessLocks
from alphapo_async.journal.sqlite.places import Place, place_of
from alphapo_async.journal.sqlite.rows import Leased
from alphapo_async.journal.sqlite.thread import JournalThread
from alphapo_async.supervisor import Supervisor

__all__ = ["SqliteJournal"]

logger = logging.getLogger("alphapo_async")

T = TypeVar("T")
_LINGER: Final = 0.002  # seconds that a group waits for company: less than a flush to the disk takes
_CLOSING: Final = 1.0  # seconds that closing gives to the calls that are left
_CLOSING_WAIT: Final = 0.25  # and to another process that locks the file; a slice of waiting may follow


class SqliteJournal:
    """Rows in an SQLite file.

    Args:
        path: the file; made, readable by its owner alone, at first use. Made absolute: a later change of folder changes nothing.
        reads_only: nothing will be written; a file that cannot be written, as on a read-only mount, is read then.
        any_filesystem: the operator says that its file system locks and flushes like a local disk.
        clock: seconds since the epoch of time.
    """

    is_shared = True
    """Other processes may use the same file."""

    def __init__(
        self,
        path: str | Path,
        *,
        reads_only: bool = False,
        any_filesystem: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        # Links are followed: two names of one file must mean one folder of workers.
        self.path = Path(os.path.realpath(path))
        self._workers = LivenessLocks(locks_of(self.path))
        self._busy_wait = BusyWait()
        self._continuity = Continuity(self.path, clock)
        self._epoch = Epoch()
        """Of the file that was open last."""
        self._thread = JournalThread(f"journal {self.path.name}", self._close, self._after_fork)
        self._commits: dict[asyncio.AbstractEventLoop, GroupCommit[_Call[Any]]] = {}
        """By the event loop of their callers: several may share the journal, and its thread."""
        self._supervisor = Supervisor()
        self._file: FileConnection | None = None
        self._reads_only = reads_only
        self.any_filesystem = any_filesystem
        self._place: Place | None = None
        self._is_closed = False
        self._close_within = _CLOSING
        self._linger = _LINGER

    def supervise(self, supervisor: Supervisor) -> None:
        """Let this supervisor report errors of the journal's thread from now on."""
        self._supervisor = supervisor
        for commits in self._commits.values():
            commits.supervisor = supervisor

    def __repr__(self) -> str:
        return f"SqliteJournal({str(getattr(self, 'path', 'not made: its path was refused'))!r})"

    @property
    def is_durable(self) -> bool:
        """What is written survives the machine: not so on a file system in memory."""
        if self._place is None:
            with contextlib.suppress(JournalError):
                return place_of(self.path, is_any=self.any_filesystem).is_durable
        return self._place is None or self._place.is_durable

    async def cautions(self) -> list[str]:
        """Return what an operator should know of the file's place."""
        caution = place_of(self.path, is_any=self.any_filesystem).caution
        return [] if caution is None else [caution]

    @property
    def epoch(self) -> Epoch:
        """The journal's epoch, as it was last read; a change that the journal calls sees the one of its transaction."""
        return self._epoch if self._file is None else self._file.epoch

    # ── verbs ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def time(self) -> None:
        """It goes by this machine's clock."""

    async def join(self, account: str, host: str, worker: str, until: float) -> None:
        """Open the file, bind the account to its host, and give the worker a lease until then.

        Raises:
            JournalError: the file cannot be used.
            ConfigurationError: the account belongs to another host.
        """

        def bind(file: FileConnection) -> str:
            return file.rows.bind(account, host)

        bound = await self._ask(bind, writes=True)
        check_host(account, bound, host)
        self._continuity.bound(account, host)
        try:
            lock_inode = self._workers.join(worker)
        except OSError as error:
            raise journal_error(self.path, error) from None

        def enlist(file: FileConnection) -> list[str]:
            file.rows.enlist(worker, until, lock_inode)
            return [leased.worker for leased in file.rows.leases()]

        try:
            listed = await self._ask(enlist, writes=True)
        except BaseException:
            self._workers.leave(worker)
            raise
        self._workers.remove_stale(listed)

    async def renew(self, worker: str, until: float, now: float) -> bool:
        """Prolong the worker's lease, unless it is over."""
        return await self._ask(lambda file: file.rows.renew(worker, until, now), writes=True)

    async def leave(self, worker: str, now: float) -> None:
        """End the worker's lease; other workers may take the rows that it still holds."""
        try:
            await self._ask(lambda file: file.rows.leave(worker, now), writes=True)
        except BaseException:
            self._workers.unlock(worker)
            raise
        self._workers.leave(worker)

    async def ended(self, worker: str, now: float) -> float | None:
        """Return until when the worker could send, if it has left, died or its lease is over; None while it is not."""
        leased = next((leased for leased in await self._leases(now) if leased.worker == worker), None)
        return now if leased is None else self._ended(leased, now)

    async def _leases(self, now: float) -> list[Leased]:
        """Return every worker on the list; a lease that is over by now is recorded as such before that is reported."""
        leases: list[Leased] = await self._ask(lambda file: file.rows.leases())
        if any(leased.until <= now and not leased.has_ended for leased in leases):
            leases = await self._ask(lambda file: file.rows.end_leases(now), writes=True)
        return leases

    def _ended(self, leased: Leased, now: float) -> float | None:
        if leased.has_ended or leased.until <= now:
            return leased.until
        return now if self._workers.is_gone(leased.worker, leased.lock_inode) else None

    async def find_dead(self, now: float) -> list[tuple[str, float]]:
        """Return workers that died or whose lease is over, and that have not left, and holders of rows that are on no list."""
        leases = await self._leases(now)
        unlisted: list[str] = await self._ask(lambda file: file.rows.unlisted())
        ends = [(leased.worker, self._ended(leased, now)) for leased in leases]
        return [(worker, until) for worker, until in ends if until is not None] + [(worker, now) for worker in unlisted]

    async def find_held(self, worker: str, limit: int) -> list[Row]:
        """Return rows that this worker holds."""
        return await self._ask(lambda file: file.rows.find_held(worker, limit))

    def update(self, account: str, foreign_id: str, change: Change, *, may_lag: bool = False) -> Awaitable[Row]:
        """Write the row and the history lines that `change` returns, and return the row once both are on disk."""
        return self._ask(_Write((account, foreign_id), change), writes=True, may_lag=may_lag)

    async def find(self, account: str, foreign_id: str) -> Row | None:
        """Return the row, None if the journal has none."""
        found = await self._ask(lambda file: file.rows.find(account, foreign_id))
        return None if found is None else found[1]

    async def find_control(self, account: str, key: str, after: float) -> Row | None:
        """Return a row of this key that AlphaPo accepted, and that did not exist yet at `after`; None if there is none."""
        return await self._ask(lambda file: file.rows.find_control(account, key, after))

    async def find_open(self, account: str, after: tuple[float, str] | None, limit: int) -> list[Row]:
        """Return open rows, oldest first, from behind (created_at, foreign_id) on."""
        return await self._ask(lambda file: file.rows.find_open(account, after, limit))

    async def claim(self, account: str, claim: Claim) -> ClaimedRows | None:
        """Have a worker take fresh rows that are due; None where its lease does not run."""
        return await self._ask(lambda file: file.claim(account, claim), writes=True)

    async def begun(self, worker: str) -> int | None:
        """Return the last claim of a worker whose rows may have begun; None of a worker that is not known."""
        claims: int | None = await self._ask(lambda file: file.rows.claims(worker))
        return None if claims is None else max(0, claims - 1)

    async def find_due(
        self, account: str, now: float, limit: int, refused: Collection[str] = (), *, expired: bool = False
    ) -> list[Row]:
        """Return rows that are due and not fresh: open rows first, and the longest overdue first."""
        return await self._ask(lambda file: file.rows.find_due(account, now, limit, refused, expired=expired))

    async def find_unreported(self, account: str, limit: int) -> list[Row]:
        """Return settled rows whose outcome was not handed out."""
        return await self._ask(lambda file: file.rows.find_unreported(account, limit))

    async def history(self, account: str, foreign_id: str) -> list[Entry]:
        """Return the lines of a withdrawal's history, in order."""
        return await self._ask(lambda file: file.rows.history(account, foreign_id))

    async def totals(self, account: str) -> dict[str, Totals]:
        """Return the sums of everything requested, by currency, exact to the last decimal."""
        return await self._ask(lambda file: file.rows.totals(account))

    async def raise_epoch(self, now: float) -> Epoch:
        """Begin another epoch: the file was restored from a backup, and everything open in it is frozen."""
        numbers: list[int] = []
        """Of the epoch that begins; a later one where the commit of the first one only seemed to fail."""

        def begin(file: FileConnection) -> Epoch:
            numbers.append(file.epoch.number + 1)
            return file.raise_epoch(numbers[0], now)

        return await self._ask(begin, writes=True)

    async def equate_epochs(self, line: Entry) -> int:
        """Declare that nothing was lost when the present epoch began; return how many rows that concerns, each with this line."""
        return await self._ask(lambda file: file.equate_epochs(line), writes=True)

    async def count_frozen(self, account: str) -> int:
        """Return how many open rows are of an earlier epoch."""
        return await self._ask(lambda file: file.rows.count_frozen(account))

    async def remember(self, account: str, name: str, text: str) -> None:
        """Keep this text under this name, instead of what was kept there before."""
        await self._ask(lambda file: file.rows.remember(account, name, text), writes=True)

    async def recall(self, account: str, name: str) -> str | None:
        """Return the text kept under this name; None if there is none."""
        return await self._ask(lambda file: file.rows.recall(account, name))

    async def swap(self, account: str, name: str, before: str | None, after: str) -> bool:
        """Keep `after` if `before` was kept until now; return whether it was, or whether `after` is there already."""

        def write(file: FileConnection) -> bool:
            known = file.rows.recall(account, name)
            if known == before:
                file.rows.remember(account, name, after)
            return known in (before, after)

        return await self._ask(write, writes=True)

    async def forget(
        self,
        account: str,
        foreign_id: str,
        change: Callable[[Row], tuple[Row, Sequence[Entry]]],
        *,
        keeps_history: bool,
    ) -> bool:
        """Remove a withdrawal's bytes and AlphaPo's words or its whole history; keep the row and add the lines that `change` returns."""
        made: list[Row] = []
        """The rows that were written, each in a transaction whose commit failed, or only seemed to."""

        def write(file: FileConnection) -> bool:
            found = file.rows.find(account, foreign_id)
            if found is None:
                return False
            if made and to_record(made[-1]).rest == to_record(found[1]).rest:
                file.rows.update([found])  # once more: it may never have been flushed
                return True
            after, entries = change(found[1])
            if after is found[1]:
                return False
            made.append(after)
            file.rows.forget(found[0], after, keeps_history=keeps_history)
            file.rows.add_history([(found[0], entry) for entry in entries])
            file.drop((account, foreign_id))
            return True

        return await self._ask(write, writes=True)

    async def wipe(self) -> bool:
        """Bring the file to where nothing of what was forgotten stands in it or in its log; False while another process reads it."""
        return await self._ask(_Apart(lambda file: file.wipe()))

    async def backup(self, target: str | Path) -> None:
        """Copy the whole journal into a new file, as it stands at one moment, while it is in use.

        Raises:
            JournalError: the target exists or cannot be written, or the journal cannot be read.
        """
        await self._ask(_Apart(lambda file: copy_into(file.rows.connection, Path(target).absolute(), self._busy_wait)))

    async def hosts(self) -> dict[str, str]:
        """Return the host of each account."""
        return await self._ask(lambda file: file.rows.hosts())

    async def register(self) -> Register:
        """Return accounts, workers, texts and epoch."""
        return await self._ask(lambda file: file.rows.register())

    async def find_living(self, now: float) -> list[str]:
        """Return the workers that may still send."""
        leases: list[Leased] = await self._ask(lambda file: file.rows.leases())
        return [leased.worker for leased in leases if self._ended(leased, now) is None]

    async def dump(self, after: int, limit: int, *, with_history: bool = True) -> list[Kept]:
        """Return withdrawals of all accounts, in order, from behind this place on, as `Dumpable` says."""
        return await self._ask(lambda file: file.rows.dump(after, limit, with_history=with_history))

    async def hold(self) -> None:
        """Lock the file: no other process writes to it until `release` or `retire`."""
        await self._ask(_Apart(lambda file: file.begin()))

    async def release(self) -> None:
        """Unlock the file, unchanged."""
        await self._ask(_Apart(lambda file: file.undo()))

    async def retire(self) -> None:
        """Close the held file for good: every later statement on a row fails, in every process."""
        await self._ask(_Apart(lambda file: file.retire()))

    async def aclose(self) -> None:
        """Record what is left and close the file, within 1 s also where another process locks the file or the disk hangs.

        Calls that are not served by then fail. The locks of this journal's workers are free from then on.
        """
        self._is_closed = True
        self._busy_wait.end_within(_CLOSING_WAIT)
        try:
            async with asyncio.timeout(self._close_within):
                await asyncio.gather(*(_settled(*each) for each in list(self._commits.items())))
                await self._thread.aclose()
        except TimeoutError:
            logger.warning("The journal %r was closed while it hung", str(self.path), extra={"foreign_id": None})
        finally:
            closed = JournalError(f"The journal {str(self.path)!r} was closed.", recorded=None)
            for loop, commits in self._commits.items():
                with contextlib.suppress(RuntimeError):  # the loop is closed
                    loop.call_soon_threadsafe(commits.abandon, closed)
            self._workers.forget()

    def _ask(
        self, run: Callable[[FileConnection], T], *, writes: bool = False, may_lag: bool = False
    ) -> asyncio.Future[T]:
        call = _Call(run, writes=writes)
        if self._is_closed:
            call.fail(JournalError(f"The journal {str(self.path)!r} is closed.", recorded=None))
        else:
            self._commits_here().add(call, may_lag=may_lag)
        return call.outcome()

    def _commits_here(self) -> GroupCommit[_Call[Any]]:
        """Return the group commit of the running event loop."""
        loop = asyncio.get_running_loop()
        commits = self._commits.get(loop)
        if commits is None:
            for ended in [one for one in self._commits if one.is_closed()]:
                self._commits.pop(ended, None)
            commits = self._commits[loop] = GroupCommit(self._store, self._linger)
            commits.supervisor = self._supervisor
        return commits

    def _store(self, group: list[_Call[Any]]) -> asyncio.Future[None]:
        """Have the thread serve a group, and then set what came of each call."""
        try:
            stored = self._thread.run(partial(self._serve, group))
        except RuntimeError as error:
            _fail(group, journal_error(self.path, error))
            stored = asyncio.get_running_loop().create_future()
            stored.set_result(None)
        stored.add_done_callback(partial(_settle, group))
        return stored

    # ── what its thread does ─────────────────────────────────────────────────────────────────────────────────────────

    def _serve(self, group: list[_Call[Any]]) -> None:
        """Serve a group in one transaction, one by one where that fails; then what has to be done outside of any."""
        try:
            file = self._opened()
        except (JournalError, *DRIVER_ERRORS) as error:
            _fail(group, error if isinstance(error, JournalError) else journal_error(self.path, error))
            return
        if self._busy_wait.has_ended:  # closing: no call waits for another process any more
            file.rows.connection.execute("pragma busy_timeout = 0")
        apart = group
        if any(call.writes for call in group):
            apart = [call for call in group if isinstance(call.run, _Apart)]
            self._serve_together(file, [call for call in group if not isinstance(call.run, _Apart)])
        for call in apart:
            self._read(file, call)

    def _serve_together(self, file: FileConnection, group: list[_Call[Any]]) -> None:
        """Serve calls in one transaction; one by one where that fails, unless it would fail for each of them."""
        failure = self._commit(file, group)
        if failure is None:
            return
        if is_busy(failure):  # each call alone would wait as long again
            _fail(group, journal_error(self.path, failure))
        elif isinstance(failure, JournalError):  # it is not this journal any more
            _fail(group, failure)
        else:
            for call in group:
                self._serve_alone(file, call)

    def _opened(self) -> FileConnection:
        if self._file is not None and not self._continuity.is_same_file():
            self._leave_replaced(self._file)
        if self._file is None:
            file = FileConnection(
                self.path,
                self._busy_wait,
                self._continuity,
                reads_only=self._reads_only,
                any_filesystem=self.any_filesystem,
            )
            try:
                self._continuity.opened(self._busy_wait.run(file.rows.hosts))
                file.epoch = self._busy_wait.run(file.rows.epoch)
            except (JournalError, *DRIVER_ERRORS) as error:
                file.close()
                raise error if isinstance(error, JournalError) else journal_error(self.path, error) from None
            self._file, self._place = file, place_of(self.path, is_any=self.any_filesystem)
        return self._file

    def _leave_replaced(self, file: FileConnection) -> None:
        """Close a file in whose place another one is: the other one is opened next.

        A write-ahead log belongs to a name: the new file would take the old one's for its own.
        """
        asked = partial(file.rows.connection.execute, "pragma journal_mode")
        if self._busy_wait.run(asked).fetchone()[0] == "wal":
            raise file_error(self.path, "replaced beside a log")
        self._close()

    def _read(self, file: FileConnection, call: _Call[Any]) -> None:
        try:
            self._busy_wait.run(partial(_run, file, call))
        except DRIVER_ERRORS as error:
            call.error = journal_error(self.path, error)

    def _commit(self, file: FileConnection, group: list[_Call[Any]]) -> Exception | None:
        """Serve a group in one transaction; return what went wrong."""
        changes = [call.run for call in group if isinstance(call.run, _Write)]
        for change in changes:
            change.is_missing = False
        is_committing = False
        try:
            file.begin()
            file.read_ahead(change.name for change in changes)
            for call in group:
                _run(file, call)
            file.write()
            is_committing = True
            file.commit()
        except Exception as error:  # noqa: BLE001 - the calls are tried again one by one
            self._undo(file)
            left = {change.name: change.made[0] for change in changes if change.made is not None}
            for change in changes:
                change.may_stand |= is_committing
                change.left = left.get(change.name) if is_committing else None
            return error
        return None

    def _serve_alone(self, file: FileConnection, call: _Call[Any]) -> None:
        """Serve one call again in its own transaction; after a commit that failed, now or before, it is not known whether it is stored."""
        call.result = call.error = None
        error = self._commit(file, [call])
        if isinstance(error, DRIVER_ERRORS):
            change = call.run
            is_known_missing = isinstance(change, _Write) and change.is_missing and not change.may_stand
            error = journal_error(self.path, error, recorded=False if is_known_missing else None)
        call.error = call.error or error

    def _undo(self, file: FileConnection) -> None:
        """Undo what was not committed; a file where that fails is opened again at the next call."""
        try:
            file.undo()
        except DRIVER_ERRORS:
            self._close()

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            self._epoch = file.epoch
            with contextlib.suppress(*DRIVER_ERRORS):  # the file is not used again
                file.close()

    def _after_fork(self, is_released: bool) -> None:  # noqa: FBT001 - the thread calls it
        """In a forked child: leave the parent's calls to the parent, and the file as it is if a transaction was under way."""
        self._commits.clear()
        if not is_released:
            file, self._file = self._file, None
            lose(self.path, None if file is None else file.rows.connection)


class _Call(PendingWrite[T]):
    """What the thread has to do in a group, and what came of it."""

    __slots__ = ("error", "result", "run", "writes")

    def __init__(self, run: Callable[[FileConnection], T], *, writes: bool) -> None:
        super().__init__()
        self.run = run
        self.writes = writes
        self.result: Any = None
        self.error: BaseException | None = None


class _Apart(Generic[T]):
    """Work outside of any transaction: a copy would wait for the end of one without limit, and a log in use is not emptied."""

    __slots__ = ("_run",)

    def __init__(self, run: Callable[[FileConnection], T]) -> None:
        self._run = run

    def __call__(self, file: FileConnection) -> T:
        return self._run(file)


class _Write:
    """A change that can be run again after a commit that failed, or only seemed to."""

    __slots__ = ("_change", "is_missing", "left", "made", "may_stand", "name")

    def __init__(self, name: Name, change: Change) -> None:
        self.name = name
        self._change = change
        self.made: tuple[Row, Sequence[Entry]] | None = None
        """The row and the lines of the latest call."""
        self.left: Row | None = None
        """The row as a transaction left it whose commit failed, or only seemed to."""
        self.is_missing = False
        """The journal was read in this transaction, and did not know the row."""
        self.may_stand = False
        """A commit of it was tried, and failed or only seemed to."""

    def __call__(self, file: FileConnection) -> Row:
        if self.made is None or self.left is None or not file.stands(self.name, self.left, self.made[1]):
            self.made = file.change(self.name, self._noting)
        return self.made[0]

    def _noting(self, known: Row | None) -> tuple[Row, Sequence[Entry]]:
        self.is_missing = known is None
        return self._change(known)


def _run(file: FileConnection, call: _Call[Any]) -> None:
    """Run a call; what a caller's own function raises is the error of this call alone."""
    if not isinstance(call.run, _Write):
        file.write()  # the call may read rows whose changes have gathered
    try:
        call.result = call.run(file)
    except DRIVER_ERRORS:
        raise
    except BaseException as error:  # noqa: BLE001 - the caller that handed in the function gets it
        call.error = error


def _settle(group: list[_Call[Any]], stored: asyncio.Future[None]) -> None:
    """Set the results of a group that was served; the group commit fails the calls of any other."""
    if stored.cancelled() or stored.exception() is not None:
        return
    for call in group:
        if call.error is None:
            call.resolve(call.result)
        else:
            call.fail(call.error)


async def _settled(loop: asyncio.AbstractEventLoop, commits: GroupCommit[_Call[Any]]) -> None:
    """Wait until all calls of a loop are served, be it this one or another; one that stands still is not waited for."""
    if loop is asyncio.get_running_loop():
        await commits.settle()
    elif loop.is_running() and not commits.is_idle:
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(commits.settle(), loop))


def _fail(group: list[_Call[Any]], error: JournalError) -> None:
    for call in group:
        call.error = copy(error)
