"""The recorder: every write of a row and its history, and every reading that has to be true when it is reported.

A change is worked out inside the write, on the row that the journal holds then, and a "no" is dated there (`engine.clock`, rule 1). One
thing is reported before it is recorded: an acceptance in a journal that others share (`apply_later`). No later fact makes it untrue.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeAlias

import msgspec
from msgspec.structs import replace

from alphapo_async.core.claims import ending_of
from alphapo_async.core.errors import JournalError
from alphapo_async.core.evidence import (
    CalledBack,
    Evidence,
    LeaseExpired,
    LookedUp,
    Redated,
    Remembered,
    ReplyExcerpt,
    Reported,
    Requested,
    Returned,
    Revision,
)
from alphapo_async.core.history import Change, Entry, entries_of, noted, recorded, requested
from alphapo_async.core.models import Transaction, WithdrawalRequest
from alphapo_async.core.results import BatchResult, FlightResult, result_of, to_outcome
from alphapo_async.core.retry_policy import backoff
from alphapo_async.core.row import NEGATIVE_STATES, Row, is_stale_no, seen_in
from alphapo_async.core.row_format import to_record
from alphapo_async.core.transitions import apply, new_row, why_not_ours
from alphapo_async.core.version import __version__
from alphapo_async.engine.clock import COMMIT_GRACE
from alphapo_async.engine.context import ClientContext
from alphapo_async.engine.epoch_watch import EpochWatch
from alphapo_async.engine.lease import Lease
from alphapo_async.engine.observer import Observer
from alphapo_async.journal import Journal, Outbox, is_shared
from alphapo_async.journal.stored_rows import UnreadableRow
from alphapo_async.supervisor import Supervisor

__all__ = ["Offer", "Recorder", "Reporting"]

_LATE_WRITE: Final = "late write"
_OWED_PAUSE: Final = 1.0  # seconds before the journal is offered again what it would not take
_LONGEST_OWED_PAUSE: Final = 30.0
_KEPT_ACCEPTANCES: Final = 10_000
_RECORDED_AGAIN_AT_ONCE: Final = 200
_READINGS: Final = 3
"""How often the journal is asked for what is long on its way: others may have added to it meanwhile."""


_Changed: TypeAlias = tuple[Row, Sequence[Entry]]
"""A row as a change makes it, and the lines that this adds to its history."""


def _always() -> bool:
    return True


class Offer(msgspec.Struct, eq=False):
    """Evidence on its way to the journal. Offered again, it is not added twice where the journal took it and the answer was lost."""

    before: Row | None = None
    made: Row | None = None
    """The row that the journal was last handed."""
    count: int = 0
    """Pieces of evidence in it."""
    worked_out_at: float = 0.0

    def stands(self, known: Row | None) -> bool:
        """Return whether the journal has exactly the row that it was handed."""
        return self.made is not None and known is not None and to_record(known) == to_record(self.made)


class Reporting(msgspec.Struct, gc=False):
    """In a block with it a "no" of this withdrawal is read or recorded that a caller will get: others count it in `counts`."""

    counts: dict[str, int]
    foreign_id: str

    def __enter__(self) -> None:
        self.counts[self.foreign_id] = self.counts.get(self.foreign_id, 0) + 1

    def __exit__(self, *_: object) -> None:
        left = self.counts.pop(self.foreign_id) - 1
        if left:
            self.counts[self.foreign_id] = left


class Recorder:
    """Writes rows and their history for one client.

    Args:
        context: account, assumptions and clock.
        journal: where they are written.
        lease: the worker that writes, and its clock with a bounded error.
        observer: reports what is written late, and a journal that went back.
        supervisor: reports unexpected errors of late writes.
        flights: the flights under way, by foreign_id: their rows are not freed.
    """

    def __init__(
        self,
        context: ClientContext,
        *,
        journal: Journal,
        lease: Lease,
        observer: Observer,
        supervisor: Supervisor,
        flights: Mapping[str, object],
    ) -> None:
        self._account = context.account
        self._assumptions = context.assumptions
        self._now = context.now
        self._journal = journal
        self._is_shared = is_shared(journal)
        self._lease = lease
        self._clock = context.clock
        self._observer = observer
        self._supervisor = supervisor
        self._flights = flights
        self.reporting: dict[str, int] = {}
        """To how many callers, without a flight, a "no" of a withdrawal may be on its way."""
        self._lagging: set[asyncio.Future[Row]] = set()
        self._owed: dict[asyncio.TimerHandle, Callable[[], None]] = {}
        self._is_ending = False
        self._acceptances: OrderedDict[tuple[str, str], Row] = OrderedDict()
        """The newest ones that were recorded: a journal that went back may have lost them."""
        self.epochs = EpochWatch(
            journal=journal,
            account=context.account,
            observer=observer,
            clock=self._now,
            assumptions=context.assumptions,
            confirm_lease=lease.confirm,
            record_again=self._record_again,
        )

    # ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def record(
        self,
        foreign_id: str,
        asked: Requested,
        *lapses: LeaseExpired | Returned,
        is_repeated: bool = False,
        is_wanted: Callable[[], bool] = _always,
    ) -> Row:
        """Have the journal take a withdrawal on, and return what it knew or now knows.

        Args:
            foreign_id: of the withdrawal.
            asked: what is to be paid.
            lapses: what became of a worker that held it.
            is_repeated: the same request was made before, and waits: it has a line in the history only where it changes the row.
            is_wanted: whether a caller still waits. It is asked each time the change is worked out: a journal may retry the statement in a
                later epoch, where a request whose callers have left must end no freeze.

        Raises:
            JournalError: it could not be recorded; or its "no" is too long on its way to be relied on.
        """
        time = asyncio.get_running_loop().time
        read_at = 0.0

        def change(known: Row | None) -> _Changed:
            nonlocal read_at
            read_at = time()
            asking = asked if is_wanted() else replace(asked, is_request=False)
            return self._taken_on(known, foreign_id, asking, lapses, is_repeated=is_repeated)

        for _ in range(_READINGS):
            row = await self._journal.update(self._account, foreign_id, change)
            if self.epochs.number != self._journal.epoch.number:
                await self._watch_epoch()
            # The journal may have gone back while its answer was on its way.
            row = seen_in(row, self._journal.epoch)
            # A "no", and a conflict with another payment, may have been undone while they were on their way.
            is_same = row.revision is asked.revision or row.revision.is_same_payment(asked.revision)
            is_lasting = is_same and row.state not in NEGATIVE_STATES
            if is_lasting or time() - read_at <= COMMIT_GRACE:
                return row
            is_repeated = True
        raise _too_slow(foreign_id, recorded=True)

    async def record_within(self, connection: Any, foreign_id: str, asked: Requested) -> Row:
        """Do as `record`, within the transaction of a database connection of the caller's; a "no" stays as it is, with its date.

        Its new date would go with the transaction, which most callers roll back then; until that no other connection could give it one.

        Raises:
            JournalError: it could not be recorded.
        """
        assert isinstance(self._journal, Outbox)  # noqa: S101 - checked where connections are taken

        def change(known: Row | None) -> _Changed:
            changed = self._taken_on(known, foreign_id, asked, (), is_repeated=False)
            return changed if known is None or changed[0].state not in NEGATIVE_STATES else (known, ())

        return await self._journal.update_within(connection, self._account, foreign_id, change)

    def _taken_on(
        self,
        known: Row | None,
        foreign_id: str,
        asked: Requested,
        lapses: tuple[LeaseExpired | Returned, ...],
        *,
        is_repeated: bool,
    ) -> _Changed:
        """Return the row after the request, dated now, and its lines: a new row, or the one on record."""
        now = self._now()
        if known is None:
            row = new_row(
                self._account,
                foreign_id,
                asked,
                now,
                is_durable=self._journal.is_durable,
                epoch=self._journal.epoch,
                assumptions=self._assumptions,
                lines=1,
            )
            row = row if row.could_leave_until is None else self._clock.date(row, now)
            return row, (recorded(asked, now, __version__),)
        before = known
        for lapse in lapses:
            before = apply(before, lapse, now, self._assumptions)
        after = apply(before, asked, now, self._assumptions)
        line = None if is_repeated and after is before else requested(asked, before, after, now, __version__)
        lines = entries_of(lapses, now, __version__)
        return noted(self._clock.date(after, now), lines if line is None else (*lines, line))

    # ── readings that are true when they are reported ────────────────────────────────────────────────────────────────

    async def find(self, foreign_id: str) -> Row | None:
        """Return what the journal knows of a withdrawal now, and not what it knew when it was asked.

        Raises:
            JournalError: the journal cannot be read; or what it says is too long on its way to be relied on.
        """
        time = asyncio.get_running_loop().time
        for _ in range(_READINGS):
            requested_at = time()
            row = await self._journal.find(self._account, foreign_id)
            if time() - requested_at <= COMMIT_GRACE:
                return row
        raise _too_slow(foreign_id, recorded=None)

    async def find_to_report(self, foreign_id: str) -> Row | None:
        """Return what the journal knows of a withdrawal; a "no" gets a new date first, so that no call made before now can undo it.

        Raises:
            JournalError: the journal cannot be used; or it is too slow for the "no" to be relied on.
        """
        with Reporting(self.reporting, foreign_id):
            return await self._find_to_report(foreign_id)

    async def _find_to_report(self, foreign_id: str) -> Row | None:
        time = asyncio.get_running_loop().time
        row = await self._journal.find(self._account, foreign_id)
        if row is None or row.state not in NEGATIVE_STATES:
            return row
        if self._has_just_settled(row) and foreign_id not in self._flights:  # a call may not have reached the journal
            return row
        for _ in range(_READINGS):
            requested_at = time()
            row = await self.apply(row, Redated(self._lease.worker))
            if row.state not in NEGATIVE_STATES or time() - requested_at <= COMMIT_GRACE:
                return row
        raise _too_slow(foreign_id, recorded=True)

    def _has_just_settled(self, row: Row) -> bool:
        """Return whether this worker dated it, by its own clock, and not long ago whichever of its clocks is right."""
        age = self._clock.latest() - (row.settled_at or 0.0)
        return row.settled_by == self._lease.worker and age <= COMMIT_GRACE

    async def recheck(self, result: BatchResult) -> BatchResult:
        """Return the result as the journal holds it now: a call may have undone a "no" that waited in the batch.

        Raises:
            JournalError: the journal cannot say now whether it stands.
        """
        request = result.request
        if result.outcome not in NEGATIVE_STATES or not isinstance(request, WithdrawalRequest):
            return result
        row = await self.find_to_report(request.foreign_id)
        if row is None or not row.revision.is_same_payment(Revision(b"", request)):
            return result
        if row.state == result.outcome and not is_stale_no(row):
            return result
        return result_of(result.index, request, to_outcome(FlightResult(row.foreign_id, row, is_from_journal=True)))

    # ── evidence ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def apply(self, row: Row, *evidence: Evidence) -> Row:
        """Add evidence to a row in the journal and to its history, and return what the journal then knows.

        Raises:
            JournalError: it could not be recorded.
        """
        return (await self.apply_and_compare(row, *evidence))[1]

    async def apply_and_compare(
        self, row: Row, *evidence: Evidence, report: tuple[Reported, ...] = (), offer: Offer | None = None
    ) -> tuple[Row, Row, float]:
        """Do as `apply`; return the row before, the row after, and when the change was worked out, by the loop's clock.

        The row before is the journal's: others may have added to it.

        Args:
            row: what is known.
            evidence: what was learned; more of it, where it was offered before.
            report: added with it.
            offer: the same one where this was offered before without an answer, or cancelled.
        """
        time, offered = asyncio.get_running_loop().time, offer or Offer()

        def change(known: Row | None) -> _Changed:
            # A row that the journal has forgotten is of the epoch in which it was recorded.
            found, new = seen_in(row, self._journal.epoch) if known is None else known, evidence
            if offered.made is not None and offered.stands(known):
                # A copy is stored once more: it may never have been flushed.
                found, new = replace(found), evidence[offered.count :]
            else:
                offered.before = found
            if new or offered.made is None:
                offered.worked_out_at = time()
            changed = self._changed(found, (*new, *report))
            offered.made, offered.count = changed[0], len(evidence)
            return changed

        after = await self._journal.update(row.account, row.foreign_id, change)
        if self._is_shared:
            self._keep_acceptance(after)
        return offered.before or row, after, offered.worked_out_at

    def _changed(self, row: Row, evidence: Sequence[Evidence]) -> _Changed:
        """Return the row with this evidence, dated now, and the evidence's lines."""
        now = self._now()
        for one in evidence:
            # Whether AlphaPo may have freed the id, so that its "none" proves nothing, is for the later clock to say.
            when = self._clock.latest() if isinstance(one, LookedUp) else now
            row = apply(row, one, when, self._assumptions)
        if self._is_shared:
            row = self._clock.date(row, now)
        return noted(row, entries_of(evidence, now, __version__))

    async def apply_callback(
        self, row: Row, transaction: Transaction, excerpt: ReplyExcerpt
    ) -> tuple[Row, Row, CalledBack, bool]:
        """Add a callback to a row; whether it fits is judged on the row as it stands when that is recorded.

        Returns:
            The row before and after, the evidence, and whether that changed more than the history.
        """
        before, evidence, is_news = row, CalledBack(transaction, excerpt), False

        def change(known: Row | None) -> _Changed:
            nonlocal before, evidence, is_news
            now, before = self._now(), row if known is None else known
            evidence = CalledBack(transaction, excerpt, why_not_ours(before, transaction))
            learned = apply(before, evidence, now, self._assumptions)
            is_news = learned != before
            return noted(learned, entries_of((evidence,), now, __version__))

        after = await self._journal.update(row.account, row.foreign_id, change)
        if self._is_shared:
            self._keep_acceptance(after)
        return before, after, evidence, is_news

    async def note(self, row: Row, evidence: LookedUp) -> None:
        """Add a look-up to the history that proves nothing about the row.

        Raises:
            JournalError: it could not be recorded.
        """
        lines = entries_of((evidence,), self._now(), __version__)
        await self._journal.update(row.account, row.foreign_id, lambda known: noted(known or row, lines))

    async def end_holding(self, row: Row, worker: str, until: float, begun: int | None) -> None:
        """Free a row of a worker that is gone: in doubt as of `until`, unless it was claimed and did not begin.

        Raises:
            JournalError: it could not be recorded.
        """
        await self._end_holding(row, lambda known: ending_of(known, worker, until, begun))

    async def free(self, found: Row) -> None:
        """Free a row that this worker holds, unless a flight works on it when the journal makes the change; it is in doubt as of now.

        Raises:
            JournalError: it could not be recorded.
        """

        def ending(row: Row) -> Evidence | None:
            return None if row.foreign_id in self._flights else LeaseExpired(self._lease.worker, self._clock.latest())

        await self._end_holding(found, ending)

    async def _end_holding(self, found: Row, ending: Callable[[Row], Evidence | None]) -> None:
        """Record the end; nothing, where another worker has recorded it, as several may find the same worker dead."""

        def change(known: Row | None) -> _Changed:
            row, now = known or seen_in(found, self._journal.epoch), self._now()
            ended = ending(row)
            freed = row if ended is None else apply(row, ended, now, self._assumptions)
            return noted(freed, () if freed is row or ended is None else entries_of((ended,), now, __version__))

        await self._journal.update(found.account, found.foreign_id, change)

    # ── late writes ──────────────────────────────────────────────────────────────────────────────────────────────────

    def apply_later(
        self, row: Row, learned: Row, *evidence: Evidence, number: int = 1, offer: Offer | None = None
    ) -> None:
        """Have it recorded in the background, a moment late; every later question to the journal finds it.

        What the journal would not take is offered again after a pause, each time after twice as long.

        Args:
            row: what was known.
            learned: what the evidence made of it; of a row that has become another meanwhile it is worked out anew.
            evidence: what was learned.
            number: how often it is offered by now.
            offer: the same one where it was offered before.
        """
        self._observer.on_reported_early(row.foreign_id)
        offered = offer or Offer()

        def change(known: Row | None) -> _Changed:
            if offered.made is not None and known is not None and offered.stands(known):
                return replace(known), ()  # a copy is stored once more: it may never have been flushed
            if known is row:
                # What settles the row is dated as the row is: when it was learned, and not when it is written.
                at = self._now() if learned.settled_at in (None, row.settled_at) else learned.settled_at
                changed = noted(learned, entries_of(evidence, at, __version__))
            else:
                changed = self._changed(seen_in(row, self._journal.epoch) if known is None else known, evidence)
            offered.made = changed[0]
            return changed

        again = partial(self.apply_later, row, learned, *evidence, number=number + 1, offer=offered)
        on_done = partial(self._on_applied_late, row, number, again)
        try:
            update = self._journal.update(row.account, row.foreign_id, change, may_lag=True)
        except Exception as error:  # noqa: BLE001 - as if the journal had not taken it
            update = asyncio.get_running_loop().create_future()
            update.set_exception(error)
        writing = asyncio.ensure_future(update)
        self._lagging.add(writing)
        writing.add_done_callback(on_done)

    def _on_applied_late(self, row: Row, number: int, again: Callable[[], None], writing: asyncio.Future[Row]) -> None:
        self._lagging.discard(writing)
        if writing.cancelled():
            return  # the loop is ending
        error = writing.exception()
        if error is None:
            self._keep_acceptance(writing.result())
            self._observer.on_written(row.foreign_id)
            self._supervisor.succeeded(_LATE_WRITE)
            return
        if not self._is_ending:
            self._owe(backoff(number, _OWED_PAUSE, _LONGEST_OWED_PAUSE), again)
        if not isinstance(error, JournalError):
            self._supervisor.failed(_LATE_WRITE, error)
        detail = error.detail if isinstance(error, JournalError) else type(error).__name__
        self._observer.on_not_written(row.foreign_id, detail)

    def _owe(self, pause: float, again: Callable[[], None]) -> None:
        def try_again() -> None:
            del self._owed[timer]
            again()

        timer = asyncio.get_running_loop().call_later(pause, try_again)
        self._owed[timer] = again

    def leave_loop(self) -> None:
        """Forget what was to be written late in an event loop that is closed: nothing of it comes back there."""
        self._lagging.clear()
        self._owed.clear()

    async def flush(self) -> None:
        """Wait until all that lags is written; what was not taken before is offered for the last time.

        Cancelled, it leaves what is not written: those rows stay open, and are looked up when they come up again.
        """
        self._is_ending = True
        for timer, again in self._owed.items():
            timer.cancel()
            again()
        self._owed.clear()
        try:
            while self._lagging:
                await asyncio.wait(self._lagging)
        finally:
            for writing in self._lagging:
                writing.cancel()

    # ── a journal that went back in time ─────────────────────────────────────────────────────────────────────────────

    async def _watch_epoch(self) -> None:
        """Confirm the lease in a journal that was just seen to have gone back, and report it; without that nothing is sent."""
        with self._supervisor.attempt("epoch watch"), contextlib.suppress(JournalError):
            await self.epochs.look()

    def _keep_acceptance(self, row: Row) -> None:
        """Keep an acceptance in memory; nothing of a journal that ends with its process can be lost before that."""
        if row.state not in ("accepted", "failed"):
            return
        self._acceptances[row.account, row.foreign_id] = row
        if len(self._acceptances) > _KEPT_ACCEPTANCES:
            self._acceptances.popitem(last=False)

    async def _record_again(self) -> None:
        """Record the acceptances in memory again, where the journal has lost them: many in one commit."""
        rows = list(self._acceptances.values())
        for first in range(0, len(rows), _RECORDED_AGAIN_AT_ONCE):
            some = rows[first : first + _RECORDED_AGAIN_AT_ONCE]
            await asyncio.gather(*map(self._remember, some))
        # A release may be lost, too: the journal then names this worker as the holder, and it does nothing for the row.
        for row in await self._journal.find_held(self._lease.worker, _RECORDED_AGAIN_AT_ONCE):
            if row.foreign_id not in self._flights:
                await self.free(row)

    async def _remember(self, row: Row) -> None:
        """Record an acceptance again; a row that only a newer release can read by now is left to that release."""
        with contextlib.suppress(UnreadableRow):
            await self._journal.update(row.account, row.foreign_id, self._remembering(row))

    def _remembering(self, row: Row) -> Change:
        """Return the change that adds a remembered acceptance, and nothing where the journal knows it."""
        assert row.withdrawal is not None  # noqa: S101 - accepted on a witness, which is kept
        evidence = Remembered(self._lease.worker, row.revision, row.withdrawal, row.transaction)

        def change(known: Row | None) -> _Changed:
            now, before = self._now(), row if known is None else known
            after = apply(before, evidence, now, self._assumptions)
            is_known = known is not None and after == before
            return (before, ()) if is_known else noted(after, entries_of((evidence,), now, __version__))

        return change


def _too_slow(foreign_id: str, *, recorded: bool | None) -> JournalError:
    return JournalError(
        f"The journal takes more than {COMMIT_GRACE:g} s to answer, and what it says may not be so any more.",
        recorded=recorded,
        foreign_id=foreign_id,
    )
