"""A flight: the work on one withdrawal in one process, from the journal to the wire and back.

It runs in a task of its own, so that a caller who leaves takes nothing with him; callers of one foreign_id share it.
What to do next is decided by `core.row` and `core.pacing`; a flight carries it out and writes down what came of it.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from math import inf
from typing import Final, Literal

import msgspec

from alphapo_async.core.errors import JournalError
from alphapo_async.core.evidence import (
    Attempt,
    ControlFound,
    Evidence,
    LeaseExpired,
    LookedUp,
    Reaffirmed,
    Released,
    ReplyExcerpt,
    Requested,
    Revision,
)
from alphapo_async.core.history import excerpt_of
from alphapo_async.core.models import WithdrawalRequest
from alphapo_async.core.next_step import LookUp, Send, Step, Wait, may_send_again, next_step
from alphapo_async.core.outcome import (
    INTERNAL_ERROR,
    Answer,
    Found,
    InDoubt,
    NoAnswer,
    NotSent,
    Proof,
    has_never_left,
    judge_reply,
)
from alphapo_async.core.rate_limit import Permit, Priority, is_outage, still_permits
from alphapo_async.core.results import FlightResult, clash
from alphapo_async.core.retry_policy import FlightCounts, backoff, is_worth_another_round, may_look_up
from alphapo_async.core.row import NEGATIVE_STATES, Row, is_frozen, is_stale_no, seen_in
from alphapo_async.core.transitions import apply
from alphapo_async.engine.clock import COMMIT_GRACE
from alphapo_async.engine.context import ClientContext
from alphapo_async.engine.limiter import QueuedRequest
from alphapo_async.engine.waiters import Waiters
from alphapo_async.journal import is_shared
from alphapo_async.retrying import rounds_after

__all__ = ["Flight"]

_HELD_POLL: Final = 0.05  # seconds between the first two looks at a row that another worker holds
_LONGEST_HELD_POLL: Final = 0.5
_OWED_PAUSE: Final = 1.0  # seconds before the journal is offered again what it would not take
_LONGEST_OWED_PAUSE: Final = 30.0
_STAMPS: Final = 3
"""How often a "no" that took long to be written down is written again, to count from then on."""


class Flight:
    """The work on one withdrawal.

    Args:
        crew: what all flights share.
        asked: the payment, its bytes and what the caller said about it.
        request: the payment.
        loop: where it runs.
        is_patient: on a worker's rounds: one round, and nothing in doubt is sent twice within the quiet time.
        may_resend: whether what is in doubt may be sent again at all.
        rest: waits out a backoff; None for the crew's sleep.
    """

    def __init__(
        self,
        context: ClientContext,
        asked: Requested,
        request: WithdrawalRequest,
        loop: asyncio.AbstractEventLoop,
        *,
        is_patient: bool = False,
        may_resend: bool = True,
        rest: Callable[[float], Awaitable[None]] | None = None,
    ) -> None:
        self.asked = asked
        self._worker = asked.worker or ""
        self._context = context
        self._request = request
        self._foreign_id = request.foreign_id
        self._loop = loop
        self._row: Row | None = None
        self._has_journal_answered = False
        self._is_known = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        """Whoever flies it."""
        self.is_finished = asyncio.Event()
        """Comes by whoever flies it, once another flight of this foreign_id may begin."""
        self._unwritten: list[Evidence] = []
        self._worked_out_at = -inf
        """When what was last written down was worked out, by the loop's clock: the wall clock may be set meanwhile."""
        self._may_stand_unheard = False
        self._has_failed = False
        """A programming error ended one of its requests: it makes no other."""
        self._counts = FlightCounts()
        self._queued: QueuedRequest | None = None
        self._is_patient = is_patient
        self._refusals = context.keys.refusals
        """How many bodies of the client had been refused for their key when this flight began."""
        self._may_resend = may_resend
        self._resting: asyncio.Future[None] | None = None
        self._leaving: list[asyncio.Future[FlightResult]] = []
        self._rest = rest or context.runtime.sleep
        self.waiters = Waiters(loop, context.deadlines, self._on_last_time_up, self._in_flight)

    # ── the story ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self) -> FlightResult:
        """Write it down, send it, and send the same bytes again or ask by foreign_id while that helps; write down how it ended."""
        try:
            told = await self._write_down()
            if told is not None:
                return told
            row = await self._round(self.row)
            if row.state == "open" and not self._is_patient:
                row = await self._more_rounds(row)
            return await self._end(row)
        except asyncio.CancelledError:
            return await self._abandon("closing")
        except Exception as error:  # noqa: BLE001 - a programming error: the row must not stay held for it
            self._context.observer.on_internal_error(self._foreign_id, error)
            return await self._abandon(INTERNAL_ERROR)
        finally:
            self._context.queueing.pop(self.waiters, None)
            self._is_known.set()

    async def _write_down(self) -> FlightResult | None:
        """Record the withdrawal before anything leaves; return what is told at once if the journal knows the answer."""
        try:
            row = await self._record()
            self._has_journal_answered = True
            number = 0
            while self._is_held_elsewhere(row):
                number += 1
                pause = backoff(number, _HELD_POLL, _LONGEST_HELD_POLL)
                self._start_clock()
                if self.waiters.is_late(pause):
                    return self._result(row, "held")
                row = await self._wait_for(row.holder or "", pause)
        except JournalError as error:
            self._may_stand_unheard = error.recorded is not False
            return FlightResult(self._foreign_id, None, "unrecorded", error.detail, recorded=error.recorded)
        except Exception:
            self._may_stand_unheard = True
            raise
        self._row = row
        if not self.is_for(row.revision):
            return self._result(row)
        self._context.observer.on_recorded(row)
        self._is_known.set()
        if is_stale_no(row):
            row = await self._look_up(row)
        return None if row.state == "open" else msgspec.structs.replace(self._result(row), is_from_journal=True)

    def _is_held_elsewhere(self, row: Row) -> bool:
        is_ours_to_pay = self.is_for(row.revision)
        return row.state == "open" and is_ours_to_pay and row.holder != self._worker

    async def _wait_for(self, holder: str, pause: float) -> Row:
        """Wait a moment for the worker that holds the row; take it over if that worker is gone."""
        now = self._context.runtime.clock()
        until = await self._context.journal.ended(holder, now)
        if until is not None:
            lapsed = LeaseExpired(holder, self._context.end_of(until, now))
            return await self._record(lapsed, is_repeated=True)
        await self._context.runtime.sleep(pause)
        return await self._record(is_repeated=True)

    def _record(self, *lapses: LeaseExpired, is_repeated: bool = False) -> Awaitable[Row]:
        """Record the payment; it counts as requested only if a caller still waits when the journal writes it."""
        return self._context.record(
            self._foreign_id, self.asked, *lapses, is_repeated=is_repeated, is_wanted=self.waiters.is_wanted
        )

    def is_for(self, revision: Revision) -> bool:
        """It pays exactly this payment."""
        return self.asked.revision.is_same_payment(revision)

    def hear(self, row: Row) -> None:
        """Take over what a callback has made of the row; of an open row the flight knows more, unless only look-ups may follow."""
        if self._row is not None and (row.state != "open" or row.id_taken):
            self._row = row

    async def has_taken_on(self) -> bool:
        """Wait until it is known whether the journal gave this flight the row; False once the flight has ended without it."""
        await self._is_known.wait()
        if self._row is not None and self.is_for(self._row.revision):
            return True
        await self.is_finished.wait()
        return False

    async def _round(self, _before: Row) -> Row:
        """Ask where an answer is owed, send where that helps, and ask again where only an answer settles a refusal."""
        row = self.row
        if is_frozen(row) and not self._is_patient:
            row = await self._asked_anew(row)
        step = self._next_step(row)
        if isinstance(step, LookUp):
            row = await self._ask_owed(row, step)
            step = self._next_step(row)
        if self._would_send(row, step) and self._counts.sent < self._context.policy.attempts:
            row = await self._send(row)
        if row.refusal is not None and isinstance(step := self._next_step(row), LookUp):
            row = await self._ask_owed(row, step)
        return row

    async def _asked_anew(self, row: Row) -> Row:
        """Record the payment anew for the caller that still waits, where the journal went back meanwhile: that ends the freeze."""
        with contextlib.suppress(JournalError):
            self._row = row = await self._record()
        return row

    async def _more_rounds(self, row: Row) -> Row:
        return await rounds_after(
            row,
            self._round,
            is_worth=self._is_worth_another_round,
            wait=self._wait_before,
            is_late=self.waiters.is_late,
            sleep=self._pause,
        )

    async def _pause(self, seconds: float) -> None:
        """Wait out a backoff; cut short where nobody wants more."""
        self._resting = asyncio.ensure_future(self._rest(seconds))
        try:
            self._release_whoever_leaves()
            await asyncio.wait({self._resting})
            if not self._resting.cancelled():
                self._resting.result()  # what is handed in to wait may fail
        finally:
            self._resting.cancel()
            self._resting = None

    async def _end(self, row: Row) -> FlightResult:
        """Let go of the row, and say what is known of it."""
        detail = "" if row.state != "open" else self._why_not_sent(row)
        if row.state == "open" and row.key not in self._context.signers:
            detail = (
                f"key: it was signed with the key of fingerprint {row.key}, which is not among this client's keys: name that key and its "
                "secret in the file of ALPHAPO_RETIRED_KEYS_FILE, or in retired_keys"
            )
        if row.state == "open":
            row = await self._apply(Released(self._worker, detail))
        row = await self._standing(row)
        return self._result(row, "journal" if self._unwritten or self._is_slow(row) else "", detail)

    async def _abandon(self, why: Literal["closing", "internal error"]) -> FlightResult:
        """Let go of the row in the midst of the work: what was on the wire is recorded as in doubt, and the row stays resolvable."""
        detail = "closed" if why == "closing" else why
        if self._row is None:
            return FlightResult(self._foreign_id, None, why)
        row = self._row if self._row.state != "open" else await self._apply(Released(self._worker, detail))
        row = await self._standing(row)
        if self._unwritten or self._is_slow(row):
            return self._result(row, "journal")
        return self._result(row, why if row.state == "open" else "", detail)

    async def _standing(self, row: Row) -> Row:
        """Return the row as it stands: a "no" that was long on its way to the disk may have been undone by a call that could not see it."""
        for _ in range(_STAMPS):
            if self._unwritten or not self._is_slow(row):
                break
            row = await self._apply(Reaffirmed(self._worker))
        return row

    def _is_slow(self, row: Row) -> bool:
        """It is a "no", and more time has passed since it was worked out than others allow for."""
        if row.state not in NEGATIVE_STATES or not is_shared(self._context.journal):
            return False
        return self._loop.time() - self._worked_out_at > COMMIT_GRACE

    # ── what is sent and asked ───────────────────────────────────────────────────────────────────────────────────────

    async def _send(self, row: Row) -> Row:
        """Send the recorded bytes once, say what the reply proves, and add it to what was known."""
        context, signer = self._context, self._context.signers.get(row.key)
        if signer is None or self.waiters.is_late(0.0):
            return row
        kind = Priority.FIRST if self._is_first_body(row) else Priority.RETRY
        permit = self._enter_at_once(kind)
        is_wanted = permit is not None and not self._has_sent
        if permit is None and (permit := await self._queue(kind)) is None:
            return row
        if not is_wanted:
            # It queued, or was sent or looked up before: its body may be too old, or another worker may hold or have settled the row.
            try:
                row, is_wanted = await self._is_still_wanted(row, permit)
            except BaseException:
                context.limiter.release(permit, None)
                raise
        if not (is_wanted and self._is_held_for_long_enough(row)):
            context.limiter.release(permit, None)
            return row
        began = context.runtime.clock()
        heard: Proof | None = None
        try:
            reply = await context.send_signed("POST", context.withdrawal_url, row.revision.body, signer)
            until = context.lease.clock.latest()
            heard = proof = judge_reply(reply, self._request, until)
        except BaseException as error:
            broken_off = NotSent("closed") if has_never_left(error) else InDoubt("broken off here")
            await self._apply(Attempt(self._worker, broken_off, began, context.lease.clock.latest()))
            raise
        finally:
            context.limiter.release(permit, heard)
        context.keys.judged(row.key, proof, self._loop.time())
        self._has_failed |= isinstance(proof, InDoubt | NotSent) and proof.reason == INTERNAL_ERROR
        self._counts = FlightCounts(self._counts.sent + 1, self._counts.look_ups, self._counts.look_ups_since_taken)
        return await self._apply(Attempt(self._worker, proof, began, until, excerpt_of(reply)))

    async def _is_still_wanted(self, row: Row, permit: Permit) -> tuple[Row, bool]:
        """Return the row as it stands, and whether its bytes may leave now and would help.

        A retry asks the journal first, since others may have heard of it; and while it did, AlphaPo may have asked to wait, or gone away.
        """
        if self._has_sent and is_shared(self._context.journal):
            try:
                known = await self._context.find(self._foreign_id)
                if known is None:
                    # The journal went back and has forgotten the row: it is recorded again, as one of before, and frozen.
                    known = await self._write_again()
            except JournalError:
                return row, False
            if self._context.epochs.number != self._context.journal.epoch.number:
                await self._context.watch_epoch()
            # What is not written down yet, or came while the journal was read, is newer than an open row.
            is_news = self._row is row and not self._unwritten
            if known is not None and (is_news or known.state != "open" or known.holder != self._worker):
                self._row = known
        # What is not written yet was worked out in the epoch of before.
        self._row = row = seen_in(self.row, self._context.journal.epoch)
        is_let = still_permits(self._context.limiter.state, permit, self._loop.time())
        is_late = self.waiters.is_late(0.0)
        return row, is_let and not is_late and self._would_send(row, self._next_step(row))

    def _is_held_for_long_enough(self, row: Row) -> bool:
        """The row is this worker's, and its lease outlasts the attempt."""
        return row.holder == self._worker and self._context.lease.may_send(self._worker)

    def _would_send(self, row: Row, step: Step) -> bool:
        """The same bytes would help, and whoever asked allows them."""
        if not isinstance(step, Send) or self._has_failed:
            return False
        if self._is_patient and not self._may_work_on(row):
            return False
        return self._may_resend or row.doubt_since is None

    def _may_work_on(self, row: Row) -> bool:
        """Return whether a worker may send the row: not one whose key was refused meanwhile, and one in doubt once each quiet time."""
        return not self._is_key_refused(row) and may_send_again(
            row, self._context.runtime.clock(), self._context.assumptions
        )

    def _is_key_refused(self, row: Row) -> bool:
        """Return whether AlphaPo has refused the row's key since this flight began, to this body or another."""
        return row.code is not None or self._context.keys.is_refused_since(row.key, self._refusals)

    async def _ask_owed(self, row: Row, step: Step) -> Row:
        """Look it up; where a control is missing, that, and the row once more."""
        if isinstance(step, LookUp) and step.accepted_after is None:
            row = await self._look_up(row)
            step = self._next_step(row)
        if isinstance(step, LookUp) and step.accepted_after is not None:
            row = await self._control(row, step.accepted_after)
        return row

    async def _look_up(self, row: Row) -> Row:
        answered = await self._ask(row, row.foreign_id)
        return row if answered is None else await self._apply(LookedUp(self._worker, *answered))

    async def _control(self, row: Row, after: float) -> Row:
        """Look up another withdrawal of the same key, accepted since; if it is seen, what is not seen now is not there."""
        context = self._context
        try:
            other = await context.journal.find_control(context.account, row.key, after)
        except JournalError:
            return row
        answered = None if other is None else await self._ask(row, other.foreign_id)
        if other is None or answered is None:
            return row
        with contextlib.suppress(JournalError):
            await context.note(other, LookedUp(self._worker, *answered))
        answer = answered[0]
        if not isinstance(answer, Found) or answer.transaction.foreign_id != other.foreign_id:
            return row
        return await self._look_up(await self._apply(ControlFound(self._worker, other.created_at)))

    async def _ask(self, row: Row, foreign_id: str) -> tuple[Answer, ReplyExcerpt, float, float] | None:
        signer = self._context.signers.get(row.key)
        if signer is None or not may_look_up(self._counts, self._context.policy) or self.waiters.is_late(0.0):
            return None
        kind = Priority.LOOK_UP if self._has_sent else Priority.QUESTION
        answered = await self._context.look_up(foreign_id, signer, kind, self._enter)
        if answered is None:
            return None
        self._has_failed |= isinstance(answered[0], NoAnswer) and answered[0].reason == INTERNAL_ERROR
        self._counts = FlightCounts(
            self._counts.sent, self._counts.look_ups + 1, self._counts.look_ups_since_taken + (1 if row.id_taken else 0)
        )
        return answered

    def _is_first_body(self, row: Row) -> bool:
        """Nothing was sent or asked for it; the look-up of an id that the journal may have forgotten counts for nothing."""
        is_only_vouched = row.new_to_volatile_journal and row.doubt_since is None and self._counts.look_ups <= 1
        return self._counts.sent == 0 and (is_only_vouched or self._counts.look_ups == 0)

    @property
    def _has_sent(self) -> bool:
        return self._counts.sent > 0 or self._counts.look_ups > 0

    async def _enter(self, kind: Priority) -> Permit | None:
        """Wait for a slot; None if the time is up first."""
        return self._enter_at_once(kind) or await self._queue(kind)

    def _enter_at_once(self, kind: Priority) -> Permit | None:
        """Take a slot that is free; None if there is none."""
        permit = self._context.limiter.try_acquire(kind, self._loop)
        if permit is not None:
            self._start_clock()
        return permit

    def _start_clock(self) -> None:
        """The policy's deadline runs from the first slot on."""
        if not self.waiters.is_running:
            self._context.queueing.pop(self.waiters, None)
            self.waiters.start()

    def let_go(self, caller: asyncio.Future[FlightResult]) -> None:
        """This caller does not want it begun any more; where something of it may have arrived, he waits for it as before."""
        self._leaving.append(caller)
        is_between = self._row is None or self._resting is not None or self._queued is not None
        if is_between or not self.waiters.is_running:
            self._release_whoever_leaves()

    def _release_whoever_leaves(self) -> None:
        """Between two requests: whoever leaves is not waited for, unless something may have arrived."""
        if self._row is not None and self._row.doubt_since is not None:
            return
        while self._leaving:
            self.waiters.stop_waiting(self._leaving.pop())
        if self._resting is not None and self.waiters.is_late(0.0):
            self._resting.cancel()

    def _on_last_time_up(self) -> bool:
        """Nobody waits any longer: a flight that only queues ends now. Tell whether it will."""
        if self._queued is None:
            return False
        self._context.limiter.give_up(self._queued)
        return True

    async def _queue(self, kind: Priority) -> Permit | None:
        limiter = self._context.limiter
        self._queued = place = limiter.queue(kind, self._loop)
        if self._is_patient and kind.is_body:
            self._context.keys.queued[place] = self.row.key
        self._release_whoever_leaves()
        if not self.waiters.is_running:
            self._context.queueing[self.waiters] = None
            self.waiters.on_outage(is_outage(limiter.state))
        try:
            permit = await limiter.wait_in(place)
        finally:
            self._queued = None
            self._context.keys.queued.pop(place, None)
        if permit is not None:
            self._start_clock()
        return permit

    # ── what is written down ─────────────────────────────────────────────────────────────────────────────────────────

    @property
    def row(self) -> Row:
        """What was last known of the withdrawal."""
        assert self._row is not None  # noqa: S101 - a flight writes down before all else
        return self._row

    async def _apply(self, evidence: Evidence) -> Row:
        """Add to what was known, in the journal first; what it would not take is kept and offered again."""
        context, before = self._context, self.row
        if not self._unwritten and is_shared(context.journal):
            learned = apply(before, evidence, context.runtime.clock(), context.assumptions)
            if learned.state == "accepted":
                self._noticed(before, learned, evidence)
                context.apply_later(before, learned, evidence)
                return learned
        self._unwritten.append(evidence)
        try:
            return await self._write(evidence)
        except JournalError:
            learned = apply(before, evidence, context.runtime.clock(), context.assumptions)
            return self._noticed(before, learned, evidence, is_written=False)

    async def _write(self, evidence: Evidence) -> Row:
        before, learned, self._worked_out_at = await self._context.apply_and_compare(self.row, *self._unwritten)
        self._unwritten.clear()
        return self._noticed(before, learned, evidence)

    def _noticed(self, before: Row, learned: Row, evidence: Evidence, *, is_written: bool = True) -> Row:
        self._row = learned
        self._context.observer.on_evidence(before, learned, evidence, is_written=is_written)
        return learned

    async def _write_again(self) -> Row:
        """Record what this flight knows of the row in a journal that has forgotten it."""
        _, row, self._worked_out_at = await self._context.apply_and_compare(self.row, *self._unwritten)
        self._unwritten.clear()
        return row

    @property
    def owes_the_journal(self) -> bool:
        """The journal would not take all of it, and may hold the row for a flight that is over."""
        return bool(self._unwritten) or self._may_stand_unheard

    async def write_what_is_left(self) -> None:
        """Offer it to the journal again until it takes it; without that, nobody could go on with the row."""
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
        """The journal may have taken the row on without having said so: then nothing was sent, and others may go on."""
        row = await self._context.journal.find(self._context.account, self._foreign_id)
        if row is not None and row.holder == self._worker:
            await self._context.apply(row, Released(self._worker, "journal", stays_open=True))
        self._may_stand_unheard = False

    def _next_step(self, row: Row) -> Step:
        step = next_step(row, self._context.runtime.clock(), self._context.assumptions)
        if row.doubt_since is None or not isinstance(step, Send):
            return step
        # Whether AlphaPo may have freed the id is for the later clock to say.
        return next_step(row, self._context.lease.clock.latest(), self._context.assumptions)

    def _is_worth_another_round(self, row: Row) -> bool:
        is_ours = row.holder == self._worker or is_frozen(row)  # frozen: the caller that waits asks anew
        is_possible = (
            not self._has_failed
            and row.key in self._context.signers
            and is_ours
            and self._worker == self._context.lease.worker
        )
        return is_possible and is_worth_another_round(row, self._counts, self._context.policy)

    def _wait_before(self, row: Row, number: int) -> float:
        policy = self._context.policy
        jitter = backoff(number, policy.wait_initial, policy.wait_max) * self._context.runtime.chance()
        step = self._next_step(row)
        return max(jitter, step.until - self._context.runtime.clock()) if isinstance(step, Wait) else jitter

    def _why_not_sent(self, row: Row) -> str:
        """Return why nothing arrived, for a row of which nothing is in doubt."""
        state = self._context.limiter.state
        if self._has_failed:
            return INTERNAL_ERROR
        if self._is_key_refused(row):
            return "key refused"
        if is_outage(state):
            return "outage"
        return row.reason or ("throttled" if state.held_until > self._loop.time() else "queue")

    def _in_flight(self) -> FlightResult:
        """What a caller is told whose time is up."""
        if not self._has_journal_answered:
            return FlightResult(
                self._foreign_id, None, "unrecorded", "the journal has not answered in time.", recorded=None
            )
        return FlightResult(self._foreign_id, self._row, "in flight" if self._row is not None else "held")

    def _result(self, row: Row, why: str = "", detail: str = "") -> FlightResult:
        if not self.is_for(row.revision):
            return clash(row, self._request)
        if row.state == "accepted":
            return FlightResult(self._foreign_id, row, why, detail)  # type: ignore[arg-type]
        step = self._next_step(row)
        retry_after = (step.until if isinstance(step, Wait) else row.not_before) - self._context.runtime.clock()
        return FlightResult(self._foreign_id, row, why, detail, retry_after if retry_after > 0 else None)  # type: ignore[arg-type]
