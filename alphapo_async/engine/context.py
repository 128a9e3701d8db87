"""The crew: what all flights of one client share, and how it puts a question to AlphaPo."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final
from urllib.parse import urlsplit

import msgspec

from alphapo_async.core.codec import encode_look_up
from alphapo_async.core.errors import JournalError
from alphapo_async.core.evidence import (
    CalledBack,
    Evidence,
    LeaseExpired,
    LookedUp,
    Reaffirmed,
    Remembered,
    ReplyExcerpt,
    Requested,
)
from alphapo_async.core.history import Change, Entry, entries_of, excerpt_of, noted, requested
from alphapo_async.core.models import Transaction
from alphapo_async.core.outcome import Answer, NoAnswer, NoneFound, NoReply, Reply, judge_look_up
from alphapo_async.core.rate_limit import Permit, Priority
from alphapo_async.core.retry_policy import RetryPolicy, backoff
from alphapo_async.core.row import NEGATIVE_STATES, Assumptions, Row, seen_in
from alphapo_async.core.signer import Signer
from alphapo_async.core.transitions import apply, new_row, why_not_ours
from alphapo_async.core.version import __version__
from alphapo_async.engine.clock import COMMIT_GRACE
from alphapo_async.engine.epoch_watch import EpochWatch
from alphapo_async.engine.keys import Keys
from alphapo_async.engine.lease import MARGIN, Lease
from alphapo_async.engine.limiter import RequestLimiter
from alphapo_async.engine.observer import Observer
from alphapo_async.engine.waiters import Waiters
from alphapo_async.journal import Journal, Outbox, Supervised, is_shared
from alphapo_async.session import SessionManager
from alphapo_async.supervisor import Supervisor
from alphapo_async.timers import FixedDelayTimers

__all__ = ["ACCOUNTS", "ClientContext", "Runtime", "host_of"]

ACCOUNTS: Final = "/api/v2/accounts/list"

_OK: Final = 200
_LATE_WRITE: Final = "late write"
_OWED_PAUSE: Final = 1.0  # seconds before the journal is offered again what it would not take
_LONGEST_OWED_PAUSE: Final = 30.0
_KEPT_ACCEPTANCES: Final = 10_000
_RECORDED_AGAIN_AT_ONCE: Final = 200
_READINGS: Final = 3
"""How often the journal is asked for what is long on its way: others may have added to it meanwhile."""


def _always() -> bool:
    return True


class Runtime(msgspec.Struct, frozen=True):
    """Time, chance, sleep and a lease's margin, handed in."""

    clock: Callable[[], float]
    """Seconds since the epoch."""
    chance: Callable[[], float]
    """A draw from 0 to 1."""
    sleep: Callable[[float], Awaitable[None]]
    lease_margin: float = MARGIN
    """Seconds that a lease must outlast an attempt: a worker that stalls for less loses no lease."""


class ClientContext:
    """What all flights of one client share."""

    def __init__(
        self,
        *,
        account: str,
        signers: Mapping[str, Signer],
        journal: Journal,
        session: SessionManager,
        policy: RetryPolicy,
        max_rate: float | None,
        base_url: str,
        runtime: Runtime,
        observer: Observer,
    ) -> None:
        self.account = account
        self.signers = signers
        self.journal = journal
        self.session = session
        self.policy = policy
        self.assumptions = Assumptions(policy.resend_within, policy.quiet, policy.attempt_timeout, policy.refresh_after)
        self.supervisor = Supervisor(observer.on_task_failed, runtime.sleep)
        if isinstance(journal, Supervised):
            journal.supervise(self.supervisor)
        self.deadlines = FixedDelayTimers(policy.deadline, self.supervisor)
        self._base_url = base_url
        self.withdrawal_url = f"{base_url}/api/v2/withdrawal/crypto"
        self.look_up_url = f"{base_url}/api/v2/transactions/info"
        self.observer = observer
        self.lease = Lease(
            journal,
            account,
            host_of(base_url),
            attempt_timeout=policy.attempt_timeout,
            clock=runtime.clock,
            sleep=runtime.sleep,
            supervisor=self.supervisor,
            margin=runtime.lease_margin,
        )
        self.runtime = msgspec.structs.replace(runtime, clock=self.lease.clock.earliest)
        self.limiter = RequestLimiter(session.slots, policy, max_rate, self._on_outage, self.supervisor)
        self.keys = Keys(
            next(iter(signers)), policy.wait_max, give_up=self.limiter.give_up, on_change=observer.key_changed
        )
        self._lagging: set[asyncio.Future[Row]] = set()
        self._owed: dict[asyncio.TimerHandle, Callable[[], None]] = {}
        self._is_ending = False
        self._acceptances: OrderedDict[tuple[str, str], Row] = OrderedDict()
        """The newest ones that were recorded: a journal that went back may have lost them."""
        self.epochs = EpochWatch(
            journal=journal,
            account=account,
            observer=observer,
            clock=self.runtime.clock,
            assumptions=self.assumptions,
            confirm_lease=self.lease.confirm,
            record_again=self._record_again,
        )
        self.flights: dict[str, Any] = {}
        """The flights under way, by foreign_id."""
        self.queueing: dict[Waiters, None] = {}
        """The callers of flights that have not had a slot yet."""

    def _on_outage(self, has_begun: bool) -> None:  # noqa: FBT001 - called by the gate with a bare fact
        self.observer.on_outage(has_begun)
        for waiters in self.queueing:
            waiters.on_outage(has_begun)

    async def look_up(
        self, foreign_id: str, signer: Signer, priority: Priority, place: Callable[[Priority], Awaitable[Permit | None]]
    ) -> tuple[Answer, ReplyExcerpt, float, float] | None:
        """Make one look-up, and return its answer, what is kept of it, and when it began and ended; None if it could not leave in time."""
        body = encode_look_up(foreign_id)
        permit = await place(priority)
        if permit is None:
            return None
        began, heard = self.runtime.clock(), None
        try:
            reply = await self.send_signed("GET", self.look_up_url, body, signer)
            heard = answer = judge_look_up(reply, self.runtime.clock())
        finally:
            self.limiter.release(permit, heard)
        return answer, excerpt_of(reply), began, self.runtime.clock()

    async def record(
        self,
        foreign_id: str,
        asked: Requested,
        *lapses: LeaseExpired,
        is_repeated: bool = False,
        within: Any = None,
        is_wanted: Callable[[], bool] = _always,
    ) -> Row:
        """Ask the journal to take a withdrawal on, and return what it knew or now knows.

        Args:
            foreign_id: of the withdrawal.
            asked: what is to be paid.
            lapses: what became of a worker that held it.
            is_repeated: the same request was made before, and waits: it has a line in the history only where it changes the row.
            within: a database connection of the caller's, in whose transaction it is written down.
            is_wanted: whether a caller still waits. It is asked each time the change is worked out: a journal may retry the statement in a
                later epoch, where a request whose callers have left must end no freeze.

        Raises:
            JournalError: it could not be written down; or its "no" is too long on its way to be relied on.
        """
        time = asyncio.get_running_loop().time
        read_at = 0.0

        def change(known: Row | None, *, is_repeated: bool) -> tuple[Row, Sequence[Entry]]:
            # A journal may take its time: what this settles is settled now, and not when it was asked for.
            nonlocal read_at
            now, read_at = self.runtime.clock(), time()
            requesting = asked if is_wanted() else msgspec.structs.replace(asked, is_request=False)
            if known is None:
                before, after = None, self._new_row(foreign_id, requesting, now)
            else:
                before = known
                for lapse in lapses:
                    before = apply(before, lapse, now, self.assumptions)
                after = apply(before, requesting, now, self.assumptions)
            is_silent = is_repeated and after is before
            line = None if is_silent else requested(asked, before, after, now, __version__)
            lapsed = entries_of(lapses, now, __version__) if lapses and known is not None else ()
            is_to_be_dated = known is not None or after.may_send_until is not None
            return noted(
                self.lease.clock.date(after, now) if is_to_be_dated else after,
                lapsed if line is None else (*lapsed, line),
            )

        if within is not None:
            assert isinstance(self.journal, Outbox)  # noqa: S101 - checked by whoever takes connections
            return await self.journal.update_within(
                within, self.account, foreign_id, partial(change, is_repeated=is_repeated)
            )
        for number in range(_READINGS):
            again = partial(change, is_repeated=is_repeated or number > 0)
            row = await self.journal.update(self.account, foreign_id, again)
            if self.epochs.number != self.journal.epoch.number:
                await self.watch_epoch()
            is_good = row.state not in NEGATIVE_STATES and row.revision.is_same_payment(asked.revision)
            if is_good or time() - read_at <= COMMIT_GRACE:
                return row
        raise _too_slow(foreign_id, recorded=True)

    def _new_row(self, foreign_id: str, asked: Requested, now: float) -> Row:
        is_durable, epoch = self.journal.is_durable, self.journal.epoch
        return new_row(
            self.account, foreign_id, asked, now, is_durable=is_durable, epoch=epoch, assumptions=self.assumptions
        )

    async def find(self, foreign_id: str) -> Row | None:
        """Return what the journal knows of a withdrawal now, and not what it knew when it was asked.

        Raises:
            JournalError: the journal cannot be read; or what it says is too long on its way to be relied on.
        """
        time = asyncio.get_running_loop().time
        for _ in range(_READINGS):
            requested_at = time()
            row = await self.journal.find(self.account, foreign_id)
            if time() - requested_at <= COMMIT_GRACE:
                return row
        raise _too_slow(foreign_id, recorded=None)

    async def stands(self, foreign_id: str) -> Row | None:
        """Return what the journal knows of a withdrawal; a "no" stands until it is told: no call that was made before can undo it.

        Raises:
            JournalError: the journal cannot be used; or it is too slow for anybody to say.
        """
        time = asyncio.get_running_loop().time
        row = await self.journal.find(self.account, foreign_id)
        if row is None or row.state not in NEGATIVE_STATES or self._has_just_settled(row):
            return row
        for _ in range(_READINGS):
            requested_at = time()
            row = await self.apply(row, Reaffirmed(self.lease.worker))
            if row.state not in NEGATIVE_STATES or time() - requested_at <= COMMIT_GRACE:
                return row
        raise _too_slow(foreign_id, recorded=True)

    def _has_just_settled(self, row: Row) -> bool:
        """This worker dated it, by a clock that is its own, and not long ago whichever of its clocks is right."""
        age = self.lease.clock.latest() - (row.settled_at or 0.0)
        return row.settled_by == self.lease.worker and age <= COMMIT_GRACE

    async def apply(self, row: Row, *evidence: Evidence) -> Row:
        """Add evidence to a row in the journal and to its history, and return what the journal then knows.

        Raises:
            JournalError: it could not be written down.
        """
        return (await self.apply_and_compare(row, *evidence))[1]

    async def apply_and_compare(self, row: Row, *evidence: Evidence) -> tuple[Row, Row, float]:
        """Do as `apply`, and return what the journal knew before, too: somebody else may have added to it; and when it was worked out.

        That is told by the loop's clock, which nobody sets.
        """
        change = _Application(self, row, evidence)
        after = await self.journal.update(row.account, row.foreign_id, change)
        self._keep_acceptance(after)
        return change.before, after, change.worked_out_at

    def end_of(self, until: float, requested_at: float) -> float:
        """Return until when a worker can send of which it was asked then, and that has ended.

        One that was found dead just now may have sent until now: by the later clock. A lease that will not be renewed may still run.
        """
        return until if until < requested_at else max(until, self.lease.clock.latest())

    async def note(self, row: Row, evidence: LookedUp) -> None:
        """Add a look-up to the history that proves nothing about the row.

        Raises:
            JournalError: it could not be written down.
        """
        lines = entries_of((evidence,), self.runtime.clock(), __version__)
        await self.journal.update(row.account, row.foreign_id, lambda known: noted(known or row, lines))

    async def heard(self, row: Row, told: Transaction, seen: ReplyExcerpt) -> tuple[Row, Row, CalledBack, bool]:
        """Add a callback to a row; whether it fits is judged on the row as it stands when that is written down.

        Returns:
            The row before and after, the evidence, and whether that changed more than the history.
        """
        now, before, evidence, is_news = self.runtime.clock(), row, CalledBack(told, seen), False

        def change(known: Row | None) -> tuple[Row, Sequence[Entry]]:
            nonlocal before, evidence, is_news
            before = row if known is None else known
            evidence = CalledBack(told, seen, why_not_ours(before, told))
            learned = apply(before, evidence, now, self.assumptions)
            is_news = learned != before
            return noted(learned, entries_of((evidence,), now, __version__))

        after = await self.journal.update(row.account, row.foreign_id, change)
        self._keep_acceptance(after)
        return before, after, evidence, is_news

    def apply_later(self, row: Row, learned: Row, evidence: Evidence, number: int = 1) -> None:
        """Have it written down in the background, a moment late; every later question to the journal finds it.

        What the journal would not take is offered again after a pause, each time after twice as long.

        Args:
            row: what was known.
            learned: what the evidence made of it; of a row that has become another meanwhile it is worked out anew.
            evidence: what was heard.
            number: how often it is offered by now.
        """
        self.observer.on_reported_early(row.foreign_id)
        change = _Application(self, row, (evidence,), learned)
        on_done = partial(self._on_applied_late, row, learned, evidence, number)
        try:
            update = self.journal.update(row.account, row.foreign_id, change, may_lag=True)
        except Exception as error:  # noqa: BLE001 - as if the journal had not taken it
            update = asyncio.get_running_loop().create_future()
            update.set_exception(error)
        writing = asyncio.ensure_future(update)
        self._lagging.add(writing)
        writing.add_done_callback(on_done)

    def _on_applied_late(
        self, row: Row, learned: Row, evidence: Evidence, number: int, writing: asyncio.Future[Row]
    ) -> None:
        self._lagging.discard(writing)
        if writing.cancelled():
            return  # the loop is ending
        error = writing.exception()
        if error is None:
            self._keep_acceptance(writing.result())
            self.observer.on_written(row.foreign_id)
            self.supervisor.succeeded(_LATE_WRITE)
            return
        if not isinstance(error, JournalError):
            self.supervisor.failed(_LATE_WRITE, error)
        self.observer.on_not_written(
            row.foreign_id, error.detail if isinstance(error, JournalError) else type(error).__name__
        )
        if not self._is_ending:
            again = partial(self.apply_later, row, learned, evidence, number + 1)
            self._owe(backoff(number, _OWED_PAUSE, _LONGEST_OWED_PAUSE), again)

    async def watch_epoch(self) -> None:
        """Confirm the lease in a journal that was just seen to have gone back, and report it; without that nothing is sent."""
        with self.supervisor.attempt("epoch watch"), contextlib.suppress(JournalError):
            await self.epochs.look()

    def _keep_acceptance(self, row: Row) -> None:
        """Keep an acceptance in memory; nothing of a journal that ends with its process can be lost before that."""
        if row.state not in ("accepted", "failed") or not is_shared(self.journal):
            return
        self._acceptances[row.account, row.foreign_id] = row
        if len(self._acceptances) > _KEPT_ACCEPTANCES:
            self._acceptances.popitem(last=False)

    async def _record_again(self) -> None:
        """Record the acceptances in memory again, where the journal has lost them: many in one commit."""
        rows = list(self._acceptances.values())
        for first in range(0, len(rows), _RECORDED_AGAIN_AT_ONCE):
            some = rows[first : first + _RECORDED_AGAIN_AT_ONCE]
            await asyncio.gather(
                *(self.journal.update(row.account, row.foreign_id, _remembering(self, row)) for row in some)
            )
        # A release may be lost, too: the journal then names this worker as the holder, and it does nothing for the row.
        for row in await self.journal.find_held(self.lease.worker, _RECORDED_AGAIN_AT_ONCE):
            if row.foreign_id not in self.flights:
                await self.free(row)

    async def free(self, found: Row) -> None:
        """Free a row that this worker holds, unless a flight works on it when the journal makes the change; it is in doubt as of now.

        Raises:
            JournalError: it could not be recorded.
        """
        worker = self.lease.worker

        def change(known: Row | None) -> tuple[Row, Sequence[Entry]]:
            row, now = known or found, self.runtime.clock()
            lapsed = LeaseExpired(worker, self.lease.clock.latest())
            freed = row if row.foreign_id in self.flights else apply(row, lapsed, now, self.assumptions)
            return noted(freed, () if freed is row else entries_of((lapsed,), now, __version__))

        await self.journal.update(found.account, found.foreign_id, change)

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

    def send_signed(self, method: str, url: str, body: bytes, signer: Signer) -> Awaitable[Reply | NoReply]:
        """Send one signed request, once it is awaited."""
        headers = signer.headers(body)
        return self.session.exchange(method, url, body=body, headers=headers, timeout=self.policy.attempt_timeout)

    async def send_plain(
        self,
        loop: asyncio.AbstractEventLoop,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        *,
        is_throttled_apart: bool = False,
    ) -> Reply | NoReply:
        """Put one question that is about no withdrawal; a 429 to one that has a limit of its own holds back nothing else."""
        permit = await self.wait_for_slot(loop, Priority.QUESTION)
        if permit is None:
            return NoReply("no slot in time", may_have_left=False)
        answer: Answer | None = None
        try:
            reply = await self.session.exchange(
                method, self._base_url + path, body=body, headers=headers, timeout=self.policy.attempt_timeout
            )
            is_answer = isinstance(reply, Reply) and reply.status == _OK
            answer = NoneFound() if is_answer else judge_look_up(reply, self.runtime.clock())
            if is_throttled_apart and isinstance(answer, NoAnswer) and answer.is_throttled:
                answer = None
        finally:
            self.limiter.release(permit, answer)
        return reply

    async def ask_about_key(self, key: str) -> None:
        """Ask `accounts/list` with a refused key, which moves no money and shows whether AlphaPo lets it in."""
        loop, body = asyncio.get_running_loop(), b"{}"
        reply = await self.send_plain(loop, "POST", ACCOUNTS, body, self.signers[key].headers(body))
        self.keys.answered(key, reply, loop.time())

    async def wait_for_slot(self, loop: asyncio.AbstractEventLoop, priority: Priority) -> Permit | None:
        """Wait for a slot as long as the policy's deadline allows."""
        return self.limiter.try_acquire(priority, loop) or await self.limiter.wait(priority, loop, self.policy.deadline)


class _Application:
    """A change: adds evidence to the row as it stands when it is written, and its lines to the history."""

    __slots__ = ("_context", "_evidence", "_learned", "_row", "_time", "before", "worked_out_at")

    def __init__(
        self, context: ClientContext, row: Row, evidence: tuple[Evidence, ...], learned: Row | None = None
    ) -> None:
        self._context = context
        self._evidence = evidence
        self._row = row
        self._learned = learned
        """What the evidence made of this very row, where that is known already."""
        self.before = row
        """What the journal knew before."""
        self._time = asyncio.get_running_loop().time
        self.worked_out_at = 0.0
        """When, by the loop's clock."""

    def __call__(self, known: Row | None) -> tuple[Row, Sequence[Entry]]:
        # A journal may take its time: what is settled is settled when it is written, and whoever asked until then is answered by it.
        now, self.worked_out_at = self._context.runtime.clock(), self._time()
        lines = entries_of(self._evidence, now, __version__)
        if self._learned is not None and known is self._row:
            return noted(self._learned, lines)
        # A row that the journal has forgotten is of the epoch in which it was recorded.
        learned = self.before = seen_in(self.before, self._context.journal.epoch) if known is None else known
        for one in self._evidence:
            # Whether AlphaPo may have freed the id, so that its "none" proves nothing, is for the later clock to say.
            when = self._context.lease.clock.latest() if isinstance(one, LookedUp) else now
            learned = apply(learned, one, when, self._context.assumptions)
        return noted(self._context.lease.clock.date(learned, now), lines)


def _remembering(context: ClientContext, row: Row) -> Change:
    """Return the change that adds a remembered acceptance, and nothing where the journal knows it."""
    assert row.withdrawal is not None  # noqa: S101 - accepted on a witness, which is kept
    evidence = Remembered(context.lease.worker, row.revision, row.withdrawal, row.transaction)

    def change(known: Row | None) -> tuple[Row, Sequence[Entry]]:
        now, before = context.runtime.clock(), row if known is None else known
        after = apply(before, evidence, now, context.assumptions)
        is_known = known is not None and after == before
        return (before, ()) if is_known else noted(after, entries_of((evidence,), now, __version__))

    return change


def host_of(base_url: str) -> str:
    """Return what an account is bound to: the host's name; all of this machine's own are one."""
    host = urlsplit(base_url).hostname or ""
    try:
        is_local = ipaddress.ip_address(host).is_loopback
    except ValueError:
        is_local = host == "localhost"
    return "loopback" if is_local else host


def _too_slow(foreign_id: str, *, recorded: bool | None) -> JournalError:
    return JournalError(
        f"The journal takes more than {COMMIT_GRACE:g} s to answer, and what it says may not be so any more.",
        recorded=recorded,
        foreign_id=foreign_id,
    )
