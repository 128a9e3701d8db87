"""A flight: the work on one withdrawal in one process, from the journal to AlphaPo and back.

`Flight.run` is the story of a withdrawal, from top to bottom. It runs in a task of its own, so that a caller who leaves ends nothing; the
callers of one payment share it. What to do next is decided by pure code: `core.replies`, `core.transitions`, `core.next_step` and
`core.retry_policy`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from math import inf
from typing import Final, Literal, NamedTuple

from msgspec.structs import replace

from alphapo_async.core.claims import ending_of
from alphapo_async.core.errors import JournalError
from alphapo_async.core.evidence import (
    Attempt,
    ControlFound,
    Evidence,
    LeaseExpired,
    LookedUp,
    Redated,
    Released,
    Reported,
    Requested,
    Returned,
    Revision,
)
from alphapo_async.core.history import excerpt_of
from alphapo_async.core.models import WithdrawalRequest
from alphapo_async.core.next_step import LookUp, Send, Step, Wait, may_send_again, next_step
from alphapo_async.core.rate_limit import Permit, Priority, is_outage, still_permits
from alphapo_async.core.replies import (
    INTERNAL_ERROR,
    Found,
    InDoubt,
    KeyRefused,
    NoAnswer,
    NoReply,
    NotSent,
    Proof,
    Reply,
    has_never_left,
    judge_reply,
)
from alphapo_async.core.results import FlightResult, Why, conflict_with
from alphapo_async.core.retry_policy import FlightCounts, backoff, is_worth_another_round, may_look_up
from alphapo_async.core.row import (
    NEGATIVE_STATES,
    Row,
    has_expired,
    is_frozen,
    is_new_since_rollback,
    is_stale_no,
    seen_in,
)
from alphapo_async.core.transitions import apply
from alphapo_async.engine.clock import COMMIT_GRACE
from alphapo_async.engine.context import ClientContext
from alphapo_async.engine.lease import Lease
from alphapo_async.engine.limiter import QueuedRequest, RequestLimiter
from alphapo_async.engine.observer import Observer
from alphapo_async.engine.questions import Answered, Questions
from alphapo_async.engine.recorder import Offer, Recorder
from alphapo_async.engine.refused_keys import RefusedKeys
from alphapo_async.engine.waiters import Caller, Waiters
from alphapo_async.journal import Journal
from alphapo_async.retrying import Retries
from alphapo_async.session import SessionManager
from alphapo_async.supervisor import Supervisor
from alphapo_async.timers import FixedDelayTimers

__all__ = ["Flight", "FlightParts"]

_HELD_POLL: Final = 0.05  # seconds between the first two looks at a row that another worker holds
_LONGEST_HELD_POLL: Final = 0.5
_OWED_PAUSE: Final = 1.0  # seconds before the journal is offered again what it would not take
_LONGEST_OWED_PAUSE: Final = 30.0
_REPORTED: Final = Reported(leaves_not_sent=True)
_STAMPS: Final = 3
"""How often a "no" that took long to be recorded is recorded again, to count from then on."""


class FlightParts(NamedTuple):
    """What every flight of a client uses."""

    context: ClientContext
    journal: Journal
    is_shared: bool
    """Whether other processes may use the journal."""
    recorder: Recorder
    questions: Questions
    session: SessionManager
    limiter: RequestLimiter
    keys: RefusedKeys
    lease: Lease
    observer: Observer
    supervisor: Supervisor
    deadlines: FixedDelayTimers
    """Timers of the policy's deadline."""


class Flight:
    """The work on one withdrawal.

    Args:
        parts: what all flights use.
        asked: the payment, its bytes and what the caller said about it.
        request: the payment.
        loop: where it runs.
        is_for_worker: one round without waiting, and nothing in doubt is sent twice within the quiet time.
        may_resend: whether what is in doubt may be sent again at all.
        is_reported: the outcome counts as reported with the change that records it, since no caller waits for it; not so "not sent".
        claimed: the row, where a claim took it; None to record the request first.
        rest: waits out a backoff; None for the runtime's sleep.
    """

    task: asyncio.Task[None] | None = None
    """Runs the flight; the registry's. None while a claimed row waits for its turn."""
    may_begin = True
    """Of a claimed row: a later claim has recorded that it may have begun."""
    _row: Row | None = None
    _has_journal_answered = False
    _worked_out_at = -inf
    """When what was last recorded was worked out, by the loop's clock: the wall clock may be set meanwhile."""
    _may_stand_unheard = False
    _offer: Offer | None = None
    """Of what is not recorded yet."""
    _has_failed = False
    """A programming error ended one of its requests: it makes no other."""
    _counts = FlightCounts()
    _retries: Retries[Row] | None = None
    _resting: asyncio.Future[None] | None = None

    def __init__(
        self,
        parts: FlightParts,
        asked: Requested,
        request: WithdrawalRequest,
        loop: asyncio.AbstractEventLoop,
        *,
        is_for_worker: bool = False,
        may_resend: bool = True,
        is_reported: bool = False,
        claimed: Row | None = None,
        rest: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        self._row = self._claimed = claimed
        self._is_reported = is_reported
        # No copy of each part, and nothing that many set later only: instances share the names of few attributes, set early.
        self._parts = parts
        self._queued: QueuedRequest | None = None
        self._context = parts.context
        self._recorder = parts.recorder
        self._limiter = parts.limiter
        self._keys = parts.keys
        self._observer = parts.observer
        self.asked = asked
        self._worker = asked.worker or ""
        self._request = request
        self._foreign_id = request.foreign_id
        self._loop = loop
        self._is_for_worker = is_for_worker
        self._may_resend = may_resend
        self._rest = rest or parts.context.runtime.sleep
        self._refusals = parts.keys.refusals
        """How many bodies of the client had been refused for their key when this flight began."""
        self._is_known = asyncio.Event()
        if claimed is not None:
            self.may_begin = False
            self._has_journal_answered = True
            self._is_known.set()
        self.is_finished = asyncio.Event()
        """Set by the registry, once another flight of this foreign_id may begin."""
        self._unwritten: list[Evidence] = []
        self._leaving: list[Caller] = []
        self.waiters = Waiters(loop, parts.deadlines, self._on_last_time_up, self._in_flight)

    # ── the story ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> FlightResult:
        """Pay the withdrawal, once, and return what its callers get: the whole story, step by step.

        The bytes were encoded with the request (`Registry.encode`). They are recorded before any of them leaves, and every attempt sends
        the same. If the flight ends early, what was sent is recorded and the row stays resolvable.
        """
        try:
            known = await self._record()
            if known is not None:
                return known
            while True:
                row, step = await self._look_up_if_in_doubt(self.row)
                row, permit = await self._permit_to_send(row, step)
                if permit is not None:
                    attempt = await self._sign_send_and_judge(row, permit)
                    row = await self._apply(attempt)
                    if row.state != "open":
                        break
                row = await self._look_up_if_refused(row)
                if not await self._wait_for_next_round(row):
                    break
            detail = self._why_open(row)
            row = await self._release(row, detail)
            return self._result(row, self._why_unknown(row), detail)
        except asyncio.CancelledError:
            return await self._abandon("closing")
        except Exception as error:  # noqa: BLE001 - a programming error: the row must not stay held for it
            try:
                return await self._abandon(INTERNAL_ERROR)
            finally:  # a filter of the log may raise
                self._observer.on_internal_error(self._foreign_id, error)
        finally:
            self._leave_queue()
            self._is_known.set()

    # ── record ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _record(self) -> FlightResult | None:
        """Record the withdrawal before anything leaves; return what its callers get at once if the journal knows the answer."""
        if self._claimed is not None:
            return self._begin_claimed()
        try:
            row = await self._take_on()
            self._has_journal_answered = True
            number = 0
            while self._is_held_elsewhere(row):
                number += 1
                pause = backoff(number, _HELD_POLL, _LONGEST_HELD_POLL)
                self.start_clock()
                if self.waiters.is_late(pause):
                    return self._result(row, "held")
                row = await self._wait_for_holder(row, pause)
        except JournalError as error:
            self._may_stand_unheard = error.recorded is not False
            return FlightResult(self._foreign_id, None, "unrecorded", error.detail, recorded=error.recorded)
        except Exception:
            self._may_stand_unheard = True
            raise
        self._row = row
        if not self.is_for(row.revision):
            return self._result(row)
        if self._observer.is_listening:
            self._observer.on_recorded(row)
        self._is_known.set()
        if row.state == "open":
            return None
        why: Why = ""
        if is_stale_no(row):
            row = await self._redate(await self._look_up(row))
            why = self._why_unknown(row)
        return None if row.state == "open" else replace(self._result(row, why), is_from_journal=True)

    def _begin_claimed(self) -> FlightResult | None:
        """Begin with a row that a claim recorded; a callback may have settled it since, and the journal may have gone back."""
        self._row = row = seen_in(self.row, self._parts.journal.epoch)
        if self._observer.is_listening:
            self._observer.on_recorded(row)
        return None if row.state == "open" else replace(self._result(row), is_from_journal=True)

    def _take_on(self, *lapses: LeaseExpired | Returned, is_repeated: bool = False) -> Awaitable[Row]:
        """Record the payment; it counts as requested only if a caller still waits when the journal writes it."""
        return self._recorder.record(
            self._foreign_id, self.asked, *lapses, is_repeated=is_repeated, is_wanted=self.waiters.is_wanted
        )

    def _is_held_elsewhere(self, row: Row) -> bool:
        return row.state == "open" and row.holder != self._worker and self.is_for(row.revision)

    async def _wait_for_holder(self, row: Row, pause: float) -> Row:
        """Wait a moment for the worker that holds the row; take it over if that worker is gone."""
        holder, now = row.holder or "", self._context.now()
        until = await self._parts.journal.ended(holder, now)
        if until is not None:
            begun = await self._parts.journal.begun(holder)
            lapse = ending_of(row, holder, self._context.clock.end_of(until, now), begun)
            return await self._take_on(lapse, is_repeated=True)
        await self._context.runtime.sleep(pause)
        return await self._take_on(is_repeated=True)

    def is_for(self, revision: Revision) -> bool:
        """Return whether it pays exactly this payment."""
        asked = self.asked.revision
        return asked is revision or asked.is_same_payment(revision)

    async def has_taken_on(self) -> bool:
        """Wait until it is known whether the journal gave this flight the row; False once the flight has ended without it."""
        await self._is_known.wait()
        if self._row is not None and self.is_for(self._row.revision):
            return True
        await self.is_finished.wait()
        return False

    # ── sign, send and judge ─────────────────────────────────────────────────────────────────────────────────────────

    async def _permit_to_send(self, row: Row, step: Step) -> tuple[Row, Permit | None]:
        """Return the row as it stands, and a permit if its bytes help now, a caller waits for that and the lease lasts long enough."""
        if not self._would_send(row, step) or self._is_used_up(row):
            return row, None
        priority = self._priority_of(row)
        permit = self._permit_at_once(priority)
        is_wanted = permit is not None and not self._has_asked
        if permit is None and (permit := await self._queue(priority)) is None:
            return row, None
        if not is_wanted:
            # It queued, or was sent or looked up before: its body may be too old, or another worker may hold or have settled the row.
            try:
                row, is_wanted = await self._check_again(row, permit)
            except BaseException:
                self._limiter.release(permit, None)
                raise
        if is_wanted and self._is_held_for_long_enough(row):
            return row, permit
        self._limiter.release(permit, None)
        return row, None

    def _is_used_up(self, row: Row) -> bool:
        """Return whether no body may follow: all attempts are made, its key is not ours, or no caller waits any more."""
        context = self._context
        is_last = self._counts.sent >= context.policy.attempts
        return is_last or row.key_fingerprint not in context.signers or self.waiters.is_late(0.0)

    async def _check_again(self, row: Row, permit: Permit) -> tuple[Row, bool]:
        """Return the row as it stands, and whether its bytes may leave now and would help.

        A retry asks the journal first, since others may have added to it; and while it did, AlphaPo may have asked to wait, or gone away.
        """
        if self._has_asked and self._parts.is_shared:
            try:
                await self._read_again(row)
            except JournalError:
                return row, False
        # A row with evidence that is not recorded yet was computed in the previous epoch of the journal.
        self._row = row = seen_in(self.row, self._parts.journal.epoch)
        is_let = still_permits(self._limiter.state, permit, self._loop.time())
        is_late = self.waiters.is_late(0.0)
        return row, is_let and not is_late and self._would_send(row, self._next_step(row))

    async def _read_again(self, row: Row) -> None:
        """Take over what the journal knows of the row now.

        Raises:
            JournalError: the journal cannot be used.
        """
        known = await self._recorder.find(self._foreign_id)
        if known is None:
            # The journal went back and has forgotten the row: it is recorded again, as one of before, and frozen.
            known = await self._write_again()
        # What is not recorded yet, or came while the journal was read, is newer than an open row.
        is_news = self._row is row and not self._unwritten
        if is_news or known.state != "open" or known.holder != self._worker:
            self._row = known

    async def _sign_send_and_judge(self, row: Row, permit: Permit) -> Attempt:
        """Sign and send the recorded bytes, once; return what the reply proves, and between which times bytes could leave."""
        latest, began = self._context.clock.latest, self._context.now()
        try:
            reply = await self._send(row)
            until = latest()
            attempt = Attempt(self._worker, judge_reply(reply, self._request, until), began, until, excerpt_of(reply))
        except BaseException as error:
            interrupted = NotSent("closed") if has_never_left(error) else InDoubt("interrupted")
            try:
                await self._apply(Attempt(self._worker, interrupted, began, latest()))
            finally:
                self._limiter.release(permit, None)
            raise
        try:
            self._limiter.release(permit, attempt.proof)
            self._count_body(row.key_fingerprint, attempt.proof)
        except BaseException:  # a filter of the log that raises, or a mistake of ours, must not hide the reply
            await self._apply(attempt)
            raise
        return attempt

    def _send(self, row: Row) -> Awaitable[Reply | NoReply]:
        """Send the row's bytes, once the result is awaited. It is the one place where a withdrawal leaves."""
        context, body = self._context, row.revision.body
        headers = context.signers[row.key_fingerprint].headers(body)
        timeout = context.policy.attempt_timeout
        return self._parts.session.exchange("POST", context.withdrawal_url, body=body, headers=headers, timeout=timeout)

    def _count_body(self, key: str, proof: Proof) -> None:
        """Count the body that was sent, and note what its reply says about the key."""
        if self._keys.refused or isinstance(proof, KeyRefused):
            self._keys.judged(key, proof, self._loop.time())
        self._has_failed |= getattr(proof, "reason", None) == INTERNAL_ERROR
        self._counts = FlightCounts(self._counts.sent + 1, self._counts.look_ups, self._counts.look_ups_since_taken)

    def _would_send(self, row: Row, step: Step) -> bool:
        """Return whether the same bytes would help, and the caller allows them."""
        if not isinstance(step, Send) or self._has_failed:
            return False
        if self._is_for_worker and not self._may_work_on(row):
            return False
        return self._may_resend or row.doubt_since is None

    def _may_work_on(self, row: Row) -> bool:
        """Return whether a worker may send the row: its key is not refused, it has not expired, and one in doubt once each quiet time."""
        now = self._context.now()
        is_useless = self._is_key_refused(row) or has_expired(row, now)
        return not is_useless and may_send_again(row, now, self._context.assumptions)

    def _is_key_refused(self, row: Row) -> bool:
        """Return whether AlphaPo has refused the row's key since this flight began, to this body or another."""
        return row.code is not None or self._keys.is_refused_since(row.key_fingerprint, self._refusals)

    def _is_held_for_long_enough(self, row: Row) -> bool:
        """Return whether the row is this worker's, and its lease outlasts the attempt."""
        return row.holder == self._worker and self._parts.lease.may_send(self._worker)

    def _priority_of(self, row: Row) -> Priority:
        """Return the body's priority: the first one where nothing was sent or asked.

        The look-up before the first body of an id that the journal may have forgotten does not make that body a retry.
        """
        counts = self._counts
        has_only_first_look_up = row.earlier_request_possible and row.doubt_since is None and counts.look_ups <= 1
        is_first = counts.sent == 0 and (has_only_first_look_up or counts.look_ups == 0)
        return Priority.FIRST if is_first else Priority.RETRY

    @property
    def _has_asked(self) -> bool:
        return self._counts.sent > 0 or self._counts.look_ups > 0

    # ── look up ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _look_up_if_in_doubt(self, row: Row) -> tuple[Row, Step]:
        """Look the row up before a body, where an answer is owed; return it, and what would help next.

        A frozen row is first recorded anew for the caller that waits.
        """
        step = self._next_step(row)
        if isinstance(step, Send):
            return row, step
        if not self._is_for_worker and is_frozen(row):
            with contextlib.suppress(JournalError):
                self._row = row = await self._take_on()
            step = self._next_step(row)
        if isinstance(step, LookUp):
            row = await self._look_up_owed(row, step)
            step = self._next_step(row)
        return row, step

    async def _look_up_if_refused(self, row: Row) -> Row:
        """Look the row up after a refusal that settles it only together with an answer."""
        if row.refusal is not None and isinstance(step := self._next_step(row), LookUp):
            row = await self._look_up_owed(row, step)
        return row

    async def _look_up_owed(self, row: Row, step: Step) -> Row:
        """Look it up; where a control is missing, that, and the row once more."""
        if isinstance(step, LookUp) and step.accepted_after is None:
            row = await self._look_up(row)
            step = self._next_step(row)
        if isinstance(step, LookUp) and step.accepted_after is not None:
            row = await self._look_up_control(row, step.accepted_after)
        return row

    async def _look_up(self, row: Row) -> Row:
        answered = await self._ask(row, row.foreign_id)
        return row if answered is None else await self._apply(LookedUp(self._worker, *answered))

    async def _look_up_control(self, row: Row, after: float) -> Row:
        """Look up another withdrawal of the same key, accepted since; if it is shown, what is not shown now is not there."""
        try:
            other = await self._parts.journal.find_control(self._context.account, row.key_fingerprint, after)
        except JournalError:
            return row
        answered = None if other is None else await self._ask(row, other.foreign_id)
        if other is None or answered is None:
            return row
        with contextlib.suppress(JournalError):
            await self._recorder.note(other, LookedUp(self._worker, *answered))
        answer = answered.answer
        if not isinstance(answer, Found) or answer.transaction.foreign_id != other.foreign_id:
            return row
        return await self._look_up(await self._apply(ControlFound(self._worker, other.created_at)))

    async def _ask(self, row: Row, foreign_id: str) -> Answered | None:
        signer = self._context.signers.get(row.key_fingerprint)
        if signer is None or not may_look_up(self._counts, self._context.policy) or self.waiters.is_late(0.0):
            return None
        priority = Priority.LOOK_UP if self._has_asked else Priority.QUESTION
        questions, permit = self._parts.questions, self._permit
        may_be_lost = is_stale_no(row) or is_new_since_rollback(row)
        answered = await (
            questions.look_up_with_all_keys(row, priority, permit)
            if may_be_lost and foreign_id == row.foreign_id
            else questions.look_up(foreign_id, signer, priority, permit)
        )
        if answered is None:
            return None
        self._has_failed |= isinstance(answered.answer, NoAnswer) and answered.answer.reason == INTERNAL_ERROR
        self._counts = FlightCounts(
            self._counts.sent,
            self._counts.look_ups + 1,
            self._counts.look_ups_since_taken + (1 if row.look_ups_only else 0),
        )
        return answered

    # ── wait: for a permit, and between two rounds ───────────────────────────────────────────────────────────────────

    async def _permit(self, priority: Priority) -> Permit | None:
        """Wait for a slot; None if the time is up first."""
        return self._permit_at_once(priority) or await self._queue(priority)

    def _permit_at_once(self, priority: Priority) -> Permit | None:
        """Take a slot that is free; None if there is none."""
        permit = self._limiter.try_acquire(priority, self._loop)
        if permit is not None:
            self.start_clock()
        return permit

    async def _queue(self, priority: Priority) -> Permit | None:
        limiter = self._limiter
        self._queued = queued = limiter.queue(priority, self._loop)
        if self._is_for_worker and priority.is_body:
            self._keys.queued[queued] = self.row.key_fingerprint
        self._release_whoever_leaves()
        if not self.waiters.is_running:
            limiter.outage_listeners[self.waiters.on_outage] = None
            self.waiters.on_outage(is_outage(limiter.state))
        try:
            permit = await limiter.wait_in(queued)
        finally:
            self._queued = None
            self._keys.queued.pop(queued, None)
        if permit is not None:
            self.start_clock()
        return permit

    def start_clock(self) -> None:
        """Start the policy's deadline, which runs from the first slot on, or from when the journal lets the row not begin."""
        if not self.waiters.is_running:
            self._leave_queue()
            self.waiters.start()

    def _leave_queue(self) -> None:
        """Count an outage no more; once the first slot was had, nothing is counted."""
        if not self.waiters.is_running:
            self._limiter.outage_listeners.pop(self.waiters.on_outage, None)

    async def _wait_for_next_round(self, row: Row) -> bool:
        """Wait before the same bytes or a look-up are tried again; False where that does not help, or no caller waits that long."""
        if row.state != "open" or self._is_for_worker:
            return False
        if self._retries is None:
            self._retries = Retries(
                is_worth=self._is_worth_another_round,
                wait=self._seconds_before,
                is_late=self.waiters.is_late,
                sleep=self._pause,
            )
        return await self._retries.wait_for_next(row)

    def _is_worth_another_round(self, row: Row) -> bool:
        is_ours = row.holder == self._worker or is_frozen(row)  # frozen: the caller that waits asks anew
        is_possible = (
            not self._has_failed
            and row.key_fingerprint in self._context.signers
            and is_ours
            and self._worker == self._parts.lease.worker
        )
        return is_possible and is_worth_another_round(row, self._counts, self._context.policy)

    def _seconds_before(self, row: Row, number: int) -> float:
        """Return the backoff with full jitter before the next round, or more where nothing helps earlier."""
        policy, runtime = self._context.policy, self._context.runtime
        jitter = backoff(number, policy.wait_initial, policy.wait_max) * runtime.chance()
        step = self._next_step(row)
        return max(jitter, step.until - self._context.now()) if isinstance(step, Wait) else jitter

    async def _pause(self, seconds: float) -> None:
        """Wait out a backoff; cut short where no caller wants more."""
        self._resting = asyncio.ensure_future(self._rest(seconds))
        try:
            self._release_whoever_leaves()
            await asyncio.wait({self._resting})
            if not self._resting.cancelled():
                self._resting.result()  # what is handed in to wait may fail
        finally:
            self._resting.cancel()
            self._resting = None

    def let_go(self, caller: Caller) -> None:
        """Begin nothing more for this caller; where something of it may have arrived, it waits for that as before."""
        if self._claimed is not None and self.task is None:
            self.waiters.dismiss(caller, self._result(self.row, detail="queue"))  # the row waits for its turn as before
            return
        self._leaving.append(caller)
        is_between = self._row is None or self._resting is not None or self._queued is not None
        if is_between or not self.waiters.is_running:
            self._release_whoever_leaves()

    def _release_whoever_leaves(self) -> None:
        """Between two requests: wait no longer for callers that leave, unless something may have arrived."""
        if self._row is not None and self._row.doubt_since is not None:
            return
        while self._leaving:
            self.waiters.stop_waiting(self._leaving.pop())
        if self._resting is not None and self.waiters.is_late(0.0):
            self._resting.cancel()

    def _on_last_time_up(self) -> bool:
        """End a flight that only queues, since no caller waits any longer; return whether it will end."""
        if self._queued is None:
            return False
        self._limiter.give_up(self._queued)
        return True

    # ── apply ────────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def row(self) -> Row:
        """What was last known of the withdrawal."""
        assert self._row is not None  # noqa: S101 - a flight records before all else
        return self._row

    def take_over(self, row: Row) -> None:
        """Take over the row that a callback has changed; an open one only where nothing but look-ups may follow."""
        if self._row is not None and (row.state != "open" or row.look_ups_only):
            self._row = row

    async def _apply(self, evidence: Evidence) -> Row:
        """Add evidence to the row. An acceptance is reported at once and recorded after it; everything else is recorded first.

        What the journal would not take is kept and offered again.
        """
        before = self.row
        if self._parts.is_shared and not self._unwritten:
            learned = self._learned(before, evidence)
            if learned.state == "accepted":
                try:
                    self._on_learned(before, learned, evidence)
                finally:  # a filter of the log may raise
                    self._recorder.apply_later(before, learned, evidence, *self._report)
                return learned
        self._unwritten.append(evidence)
        try:
            return await self._write(evidence)
        except JournalError:
            return self._on_learned(before, self._learned(before, evidence), evidence, is_written=False)

    @property
    def _report(self) -> tuple[Reported, ...]:
        """What records an outcome as reported, in the same change."""
        return (_REPORTED,) if self._is_reported else ()

    def _learned(self, row: Row, evidence: Evidence) -> Row:
        now, assumptions = self._context.now(), self._context.assumptions
        learned = apply(row, evidence, now, assumptions)
        return apply(learned, _REPORTED, now, assumptions) if self._is_reported else learned

    async def _write(self, evidence: Evidence) -> Row:
        before, learned = await self._store()
        return self._on_learned(before, learned, evidence)

    async def _store(self) -> tuple[Row, Row]:
        """Record what is not recorded yet, once, though an earlier try was cancelled or not answered; return the row before and after."""
        self._offer = offer = self._offer or Offer()
        before, row, self._worked_out_at = await self._recorder.apply_and_compare(
            self.row, *self._unwritten, report=self._report, offer=offer
        )
        self._unwritten.clear()
        self._offer = None
        return before, row

    def _on_learned(self, before: Row, learned: Row, evidence: Evidence, *, is_written: bool = True) -> Row:
        self._row = learned
        self._observer.on_evidence(before, learned, evidence, is_written=is_written)
        return learned

    async def _write_again(self) -> Row:
        """Record what this flight knows of the row in a journal that has forgotten it."""
        return (await self._store())[1]

    @property
    def owes_the_journal(self) -> bool:
        """The journal would not take all of it, and may hold the row for a flight that is over."""
        return bool(self._unwritten) or self._may_stand_unheard

    async def write_what_is_left(self) -> None:
        """Offer it to the journal again until it takes it; without that, no worker could continue with the row."""
        number = 0
        while self.owes_the_journal:
            number += 1
            await self._context.runtime.sleep(backoff(number, _OWED_PAUSE, _LONGEST_OWED_PAUSE))
            with contextlib.suppress(JournalError):
                if self._unwritten:
                    await self._write(self._unwritten[-1])
                else:
                    await self._let_go_unheard()

    async def _let_go_unheard(self) -> None:
        """Release a row that the journal may have taken on without an answer: then nothing was sent, and others may continue."""
        row = await self._parts.journal.find(self._context.account, self._foreign_id)
        if row is not None and row.holder == self._worker:
            await self._recorder.apply(row, Released(self._worker, "journal", stays_open=True))
        self._may_stand_unheard = False

    def _next_step(self, row: Row) -> Step:
        step = next_step(row, self._context.now(), self._context.assumptions)
        if row.doubt_since is None or not isinstance(step, Send):
            return step
        # Whether AlphaPo may have freed the id is for the later clock to say.
        return next_step(row, self._context.clock.latest(), self._context.assumptions)

    # ── release and return ───────────────────────────────────────────────────────────────────────────────────────────

    async def _release(self, row: Row, detail: str) -> Row:
        """Let go of the row, and return it as the journal then holds it."""
        if row.state == "open":
            row = await self._apply(Released(self._worker, detail))
        return await self._redate(row)

    async def _redate(self, row: Row) -> Row:
        """Record a "no" whose write took too long again, with a new date; return the row, which another call may have opened meanwhile."""
        for _ in range(_STAMPS):
            if self._unwritten or not self._is_slow(row):
                break
            row = await self._apply(Redated(self._worker))
        return row

    async def _abandon(self, why: Literal["closing", "internal error"]) -> FlightResult:
        """Let go of the row in the midst of the work: what was on the wire is recorded as in doubt, and the row stays resolvable."""
        detail = "closed" if why == "closing" else why
        if self._row is None:
            return FlightResult(self._foreign_id, None, why)
        row = await self._release(self._row, detail)
        if self._unwritten or self._is_slow(row):
            return self._result(row, "journal")
        return self._result(row, why if row.state == "open" else "", detail)

    def _is_slow(self, row: Row) -> bool:
        """Return whether it is a "no", and more time has passed since it was worked out than others allow for."""
        if not self._parts.is_shared or row.state not in NEGATIVE_STATES:
            return False
        return self._loop.time() - self._worked_out_at > COMMIT_GRACE

    def _why_unknown(self, row: Row) -> Why:
        """Return why the caller gets less than the row shows: what is not recorded yet, or another worker that has opened it again."""
        if self._unwritten or self._is_slow(row):
            return "journal"
        is_reopened = row.state == "open" and row.doubt_since is None and row.holder not in (None, self._worker)
        return "held" if is_reopened else ""

    def _why_open(self, row: Row) -> str:
        """Return why the row is open, for its history and its callers; nothing for a settled row."""
        if row.state != "open":
            return ""
        if self._is_for_worker and has_expired(row, self._context.now()):
            return "expired"
        if row.key_fingerprint not in self._context.signers:
            return (
                f"key: it was signed with the key of fingerprint {row.key_fingerprint}, which is not among this client's keys: name "
                "that key and its secret in the file of ALPHAPO_RETIRED_KEYS_FILE, or in retired_keys"
            )
        return self._why_unsent(row)

    def _why_unsent(self, row: Row) -> str:
        state = self._limiter.state
        if self._has_failed:
            return INTERNAL_ERROR
        if self._is_key_refused(row):
            return "key refused"
        if is_outage(state):
            return "outage"
        return row.reason or ("throttled" if state.held_until > self._loop.time() else "queue")

    def _in_flight(self) -> FlightResult:
        """Return what a caller gets whose time is up."""
        if not self._has_journal_answered:
            return FlightResult(
                self._foreign_id, None, "unrecorded", "The journal has not answered in time.", recorded=None
            )
        return FlightResult(self._foreign_id, self._row, "in flight" if self._row is not None else "held")

    def _result(self, row: Row, why: Why = "", detail: str = "") -> FlightResult:
        if not self.is_for(row.revision):
            return conflict_with(row, self._request)
        if row.state == "accepted":
            return FlightResult(self._foreign_id, row, why, detail)
        step = self._next_step(row)
        retry_after = (step.until if isinstance(step, Wait) else row.not_before) - self._context.now()
        return FlightResult(self._foreign_id, row, why, detail, retry_after if retry_after > 0 else None)
