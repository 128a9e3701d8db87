"""The registry: at most one flight for each foreign_id in this process (single-flight), shared by all callers of one payment.

It starts flights, lets callers join them, holds another payment's call until the outcome is known, and waits for flights at closing.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final, cast

from alphapo_async.core.codec import encode_body
from alphapo_async.core.errors import AlphapoError, ConfigurationError, InvalidRequest, JournalError, WithdrawalError
from alphapo_async.core.evidence import Requested, Revision
from alphapo_async.core.models import Withdrawal, WithdrawalRequest
from alphapo_async.core.results import FlightResult, conflict_with, to_outcome
from alphapo_async.core.row import NEGATIVE_STATES, Row
from alphapo_async.engine.flight import Flight, FlightParts
from alphapo_async.engine.recorder import Reporting

__all__ = ["Registry"]

_CANCEL_GRACE: Final = 0.8  # seconds that cancelled flights get to record where they stand
_LAST_GRACE: Final = 0.1  # and those that could not, to end


class Registry:
    """The flights under way.

    Args:
        parts: what every flight uses.
        enter: returns the running loop; raises where the client must not be used.
        flights: the flights under way, by foreign_id.
    """

    def __init__(
        self,
        parts: FlightParts,
        enter: Callable[[], asyncio.AbstractEventLoop],
        flights: dict[str, Flight],
    ) -> None:
        self.begun: tuple[str, int] = ("", 0)
        """This client's worker, and its last claim whose rows may have begun (0 for none); `Claims` keeps it."""
        self.ended_since: set[str] | None = None
        """The foreign_ids whose flights ended since a claim was sent that is not answered; None where there is no such claim."""
        self.flights = flights
        self._parts = parts
        self._context = parts.context
        self._lease = parts.lease
        self._recorder = parts.recorder
        self._observer = parts.observer
        self._supervisor = parts.supervisor
        self._enter = enter

    # ── callers ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def withdraw(
        self, request: WithdrawalRequest, due: float | None, *, resend_rejected: bool, attempted_before: bool
    ) -> Withdrawal | WithdrawalError | JournalError:
        """Return the outcome of this payment's flight, which is started unless it is under way.

        Args:
            request: what to pay.
            due: until when the caller waits, on the loop's clock; None for the policy's deadline.
            resend_rejected: send again what AlphaPo has rejected before.
            attempted_before: it may have been sent before, from somewhere the journal knows nothing of.

        Raises:
            AlphapoError: no flight of this payment was started.
        """
        loop, ago = self._enter(), 0.0
        if not self._lease.is_running:
            ago = await self.open_journal(request, due)
        asked = self.encode(request, resend_rejected=resend_rejected, attempted_before=attempted_before, ago=ago)
        # Until the caller has it, which is a turn of the loop after the flight.
        with Reporting(self._recorder.reporting, request.foreign_id):
            flight = await self._flight_of(asked, request, loop, due)
            outcome = to_outcome(await flight.waiters.join(due))
            while attempted_before and not flight.asked.attempted_before and _is_no(outcome):
                # The flight that was shared did not know of it, and its "no" says nothing about what was sent before.
                self._enter_again(request.foreign_id)
                flight = await self._flight_of(asked, request, loop, due)
                outcome = to_outcome(await flight.waiters.join(due))
            return outcome

    async def pay_row(
        self,
        request: WithdrawalRequest,
        *,
        resend_rejected: bool,
        report: Callable[[Withdrawal | AlphapoError], None],
        rest: Callable[[float], Awaitable[None]],
        is_probe: bool,
        at_end: Callable[[Callable[[], None]], None],
    ) -> None:
        """Do for a row of a batch what `withdraw` does, and report what it returns or raises (`batch.Pay`).

        The flight runs in the task that calls this, unless one is under way: the batch cancels no row.
        """
        loop, ago = self._enter(), 0.0
        try:
            if not self._lease.is_running:
                ago = await self.open_journal(request, None)
            asked = self.encode(request, resend_rejected=resend_rejected, ago=ago)
            is_under_way = request.foreign_id in self.flights
            flight = (
                await self._flight_of(asked, request, loop, None)
                if is_under_way
                else self._new(asked, request, loop, rest=rest)
            )
        except (InvalidRequest, WithdrawalError, JournalError) as error:
            report(error)
            return
        caller = flight.waiters.join_with(lambda result: report(to_outcome(result)), fail_fast_in_outage=not is_probe)
        at_end(partial(flight.let_go, caller))
        if not is_under_way:  # a claimed row that may not begin yet has no task either
            flight.task = asyncio.current_task()
            await self._fly(flight, request.foreign_id)

    async def settle(
        self, row: Row, *, may_resend: bool, is_reported: bool = False
    ) -> tuple[WithdrawalRequest | None, Withdrawal | AlphapoError]:
        """Let one flight work on an open row, or share the one that does; return its payment then, and what is known of it.

        Args:
            row: as it was found.
            may_resend: send again what look-ups do not find.
            is_reported: the outcome counts as reported once it is recorded.
        """
        loop = self._enter()
        while (flight := self.flights.get(row.foreign_id)) is not None and not flight.is_for(row.revision):
            await flight.is_finished.wait()  # it corrects this payment, or ends without the row because of it
            row = await self._parts.journal.find(self._context.account, row.foreign_id) or row
        request = row.revision.payment
        if row.state != "open" or request is None:
            return request, to_outcome(FlightResult(row.foreign_id, row, is_from_journal=True))
        if flight is None:
            # What has been settled since it was found stays settled.
            asked = self._worked_on(row, self._lease.worker)
            flight = self._start(
                asked, request, loop, is_for_worker=True, may_resend=may_resend, is_reported=is_reported
            )
        self._hurry(flight)
        return request, to_outcome(await flight.waiters.join(None))

    def _worked_on(self, row: Row, worker: str) -> Requested:
        """Return what a worker asks for that takes on an open row by itself."""
        return Requested(
            worker,
            row.revision,
            self._context.signer.fingerprint,
            is_awaited=False,
            requested_at=0.0,
            is_request=False,
            begun=self._begun(worker),
        )

    def _begun(self, worker: str) -> int:
        claiming, last = self.begun
        return last if worker == claiming else 0

    # ── claimed rows ─────────────────────────────────────────────────────────────────────────────────────────────────

    def register(self, row: Row) -> Flight | None:
        """Register the flight of a claimed row, which begins later; None where a call works on the row already.

        A call for the same payment joins it from now on, instead of finding its own worker as the holder.
        """
        request = row.revision.payment
        if row.foreign_id in self.flights or request is None:
            return None
        asked, loop = self._worked_on(row, row.holder or ""), asyncio.get_running_loop()
        flight = Flight(self._parts, asked, request, loop, is_for_worker=True, is_reported=True, claimed=row)
        self.flights[row.foreign_id] = flight
        return flight

    def begin(self, flight: Flight) -> asyncio.Task[None]:
        """Begin the flight of a claimed row."""
        flight.task = asyncio.get_running_loop().create_task(self._fly(flight, flight.row.foreign_id))
        return flight.task

    def _hurry(self, flight: Flight) -> None:
        """Begin the flight of a claimed row for a caller, without waiting for its turn."""
        if flight.task is None and flight.may_begin:
            self.begin(flight)

    def forget(self, flight: Flight) -> None:
        """Forget the flight of a claimed row that did not begin; a caller that joined it gets what is known of the row."""
        del self.flights[flight.row.foreign_id]
        flight.is_finished.set()
        flight.waiters.resolve(FlightResult(flight.row.foreign_id, flight.row, "closing"))

    # ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def open_journal(self, request: WithdrawalRequest, due: float | None) -> float:
        """Open the journal in time, and return the seconds that this took.

        Raises:
            JournalError: it could not be opened, or not in time; nothing was sent.
            ConfigurationError: the client was closed meanwhile.
        """
        loop = asyncio.get_running_loop()
        began, wrong, recorded = loop.time(), "The journal could not be opened in time.", None
        try:
            async with asyncio.timeout_at(began + self._context.policy.deadline if due is None else due):
                await self._lease.acquire()
                self._enter()  # it may have been closed meanwhile
                return loop.time() - began
        except TimeoutError:
            pass
        except JournalError as error:
            wrong, recorded = error.detail, error.recorded
        name = request.foreign_id if isinstance(request, WithdrawalRequest) else None
        self._observer.on_journal_failed(wrong, name)
        raise JournalError(
            f"Withdrawal {name!r} was not sent by this call. {wrong}", recorded=recorded, foreign_id=name
        )

    def encode(
        self, request: WithdrawalRequest, *, resend_rejected: bool, attempted_before: bool = False, ago: float = 0.0
    ) -> Requested:
        """Encode the payment, once: these bytes are signed, recorded and sent.

        Args:
            request: what to pay.
            resend_rejected: send again what AlphaPo has rejected before.
            attempted_before: it may have been sent before.
            ago: seconds since the caller asked for it.

        Raises:
            InvalidRequest: the amount cannot be written exactly.
            ConfigurationError: it is no request.
        """
        if not isinstance(request, WithdrawalRequest):
            raise ConfigurationError(
                f"withdraw takes a WithdrawalRequest, not {type(request).__name__}; nothing was sent."
            )
        context, lease = self._context, self._lease
        # Where a "no" may be on its way to a caller of this client.
        is_reporting = request.foreign_id in self.flights or request.foreign_id in self._recorder.reporting
        return Requested(
            lease.worker,
            Revision(encode_body(request, context.amount_format), request),
            context.signer.fingerprint,
            resend_rejected,
            attempted_before,
            has_other_keys=len(context.signers) > 1,
            requested_at=context.now() - ago,
            requested_by=None if is_reporting else lease.worker,
            no_counts_later_by=lease.no_counts_later_by,
            begun=self._begun(lease.worker),
        )

    # ── flights ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _flight_of(
        self,
        asked: Requested,
        request: WithdrawalRequest,
        loop: asyncio.AbstractEventLoop,
        due: float | None,
        **how: Any,
    ) -> Flight:
        """Return the flight of this payment, the one under way or a new one.

        The flight of another payment is a conflict, unless it ends without the row.
        """
        while (flight := self.flights.get(request.foreign_id)) is not None:
            if flight.is_for(asked.revision):
                self._hurry(flight)
                return flight
            conflict = await self._conflict_with(flight, asked, request, due)
            if conflict is not None:
                raise cast("AlphapoError", to_outcome(conflict))
            self._enter_again(request.foreign_id)
        return self._start(asked, request, loop, **how)

    def _enter_again(self, foreign_id: str) -> None:
        """Pass if the client is still open: an earlier payment or attempt under the foreign_id may have arrived.

        Raises:
            WithdrawalUnknown: it was closed while the call waited for another flight.
        """
        try:
            self._enter()
        except ConfigurationError:
            raise cast("WithdrawalError", to_outcome(FlightResult(foreign_id, None, "closing"))) from None

    async def _conflict_with(
        self, flight: Flight, asked: Requested, request: WithdrawalRequest, due: float | None
    ) -> FlightResult | None:
        """Wait in time for what the journal says to another payment's flight; None once that is over and the way is free."""
        until = asyncio.get_running_loop().time() + self._context.policy.deadline if due is None else due
        try:
            async with asyncio.timeout_at(until):
                if not await flight.has_taken_on():
                    return None
                row = await self._recorder.find(request.foreign_id) or flight.row
                if not (row.state in NEGATIVE_STATES or asked.revision.is_same_payment(row.revision)):
                    return conflict_with(row, request)
                # That flight does not know yet that it is over, and another caller may work on the row.
                await flight.is_finished.wait()
                return None
        except TimeoutError:
            return FlightResult(request.foreign_id, None, "in flight")
        except JournalError as error:
            return FlightResult(request.foreign_id, None, "unrecorded", error.detail, recorded=error.recorded)

    def _start(
        self, asked: Requested, request: WithdrawalRequest, loop: asyncio.AbstractEventLoop, **how: Any
    ) -> Flight:
        """Begin the one flight of this foreign_id, in a task of its own that no caller can cancel."""
        flight = self._new(asked, request, loop, **how)
        flight.task = loop.create_task(self._fly(flight, request.foreign_id))
        return flight

    def _new(self, asked: Requested, request: WithdrawalRequest, loop: asyncio.AbstractEventLoop, **how: Any) -> Flight:
        self.flights[request.foreign_id] = flight = Flight(self._parts, asked, request, loop, **how)
        return flight

    async def _fly(self, flight: Flight, foreign_id: str) -> None:
        observer, is_cut_short = self._observer, False
        result = FlightResult(foreign_id, None, "internal error")
        try:
            if observer.is_listening:
                observer.on_begun(foreign_id)
            try:
                result = await flight.run()
            except Exception as error:  # noqa: BLE001 - no caller may wait for ever after any error
                observer.on_internal_error(foreign_id, error)
            except asyncio.CancelledError:  # again and again: at closing the journal did not take how it ended
                result, is_cut_short = FlightResult(foreign_id, None, "closing"), True
            if observer.is_listening or result.why:
                observer.on_ended(result)
        except Exception as error:  # noqa: BLE001 - a filter of the log raised, and no caller may wait for ever after that either
            _report_unlogged(foreign_id, error)
        if flight.owes_the_journal and not is_cut_short:
            flight.waiters.resolve(result)
            with contextlib.suppress(asyncio.CancelledError):  # at closing it is left as it stands
                await self._supervisor.until_done("late write", flight.write_what_is_left)
        # First removed, then reported: a caller that calls again after its outcome gets a new flight.
        del self.flights[foreign_id]
        if self.ended_since is not None:
            self.ended_since.add(foreign_id)
        flight.is_finished.set()
        flight.waiters.resolve(result)

    # ── closing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def under_way(self) -> list[asyncio.Task[None]]:
        """The tasks of all flights."""
        return [flight.task for flight in self.flights.values() if flight.task is not None]

    async def end(self, wait: Callable[[float], Awaitable[None]]) -> None:
        """Cancel the flights still under way, and wait until they have recorded where they stand.

        Args:
            wait: waits so many seconds at most for what is under way.
        """
        for grace in (_CANCEL_GRACE, _LAST_GRACE, _LAST_GRACE):
            for task in self.under_way:
                task.cancel()  # again where it waits for a journal that takes nothing: what it owes is left as it stands
            await wait(grace)


def _report_unlogged(foreign_id: str, error: Exception) -> None:
    what = f"withdrawal {foreign_id!r}: its end could not be logged: {type(error).__name__}"
    asyncio.get_running_loop().call_exception_handler({"message": what})


def _is_no(outcome: Withdrawal | WithdrawalError | JournalError) -> bool:
    return isinstance(outcome, WithdrawalError) and outcome.may_release_funds
