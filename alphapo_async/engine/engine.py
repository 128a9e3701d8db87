"""The engine: the parts behind one client, each of them made here and handed what it uses."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from alphapo_async.core.events import Event
from alphapo_async.engine.claims import Claims
from alphapo_async.engine.context import ClientContext, host_of
from alphapo_async.engine.flight import Flight, FlightParts
from alphapo_async.engine.inbox import Inbox
from alphapo_async.engine.lease import Lease
from alphapo_async.engine.lifecycle import Lifecycle, Step
from alphapo_async.engine.limiter import RequestLimiter
from alphapo_async.engine.observer import Observer
from alphapo_async.engine.questions import Questions
from alphapo_async.engine.recorder import Recorder
from alphapo_async.engine.refused_keys import RefusedKeys
from alphapo_async.engine.registry import Registry
from alphapo_async.journal import Journal, Supervised, is_shared
from alphapo_async.session import SessionManager
from alphapo_async.supervisor import Supervisor
from alphapo_async.timers import FixedDelayTimers

__all__ = ["Engine"]


class Engine:
    """The parts of one client.

    Args:
        context: account, keys, policy and runtime.
        journal: where rows are kept.
        session: sends requests.
        on_event: called with every event.
        max_rate: bodies per second, None for no limit.
        owns_journal: the journal is closed with the client.
        owns_session: the session is closed with the client.
    """

    def __init__(
        self,
        context: ClientContext,
        journal: Journal,
        session: SessionManager,
        on_event: Callable[[Event], None] | None,
        *,
        max_rate: float | None,
        owns_journal: bool,
        owns_session: bool,
    ) -> None:
        self.context, self.journal, self.session = context, journal, session
        self.owns_journal, self.owns_session = owns_journal, owns_session
        self.observer = observer = Observer(context.account, on_event, context.runtime.clock, context.base_url)
        self.supervisor = Supervisor(observer.on_task_failed, context.runtime.sleep)
        if isinstance(journal, Supervised):
            journal.supervise(self.supervisor)
        self.lease = self._make_lease()
        self.limiter = RequestLimiter(session.slots, context.policy, max_rate, observer.on_outage, self.supervisor)
        self.keys = RefusedKeys(
            context.signer.fingerprint,
            context.policy.wait_max,
            give_up=self.limiter.give_up,
            on_change=observer.key_changed,
        )
        self._flights: dict[str, Flight] = {}
        self.recorder = Recorder(
            context,
            journal=journal,
            lease=self.lease,
            observer=observer,
            supervisor=self.supervisor,
            flights=self._flights,
        )
        self.questions = self._make_questions()
        self.inbox = Inbox(
            context.account,
            journal,
            lambda: self.lease.worker,
            self.supervisor,
            now=context.now,
            sleep=context.runtime.sleep,
        )
        self.lifecycle = Lifecycle(
            bind=session.bind, leave_loop=self._leave_loop, drain=self._wait_for_work, steps=self._closing_steps
        )
        self.registry = Registry(self._flight_parts(), self.lifecycle.enter, self._flights)
        self.claims = Claims(
            context,
            journal=journal,
            lease=self.lease,
            registry=self.registry,
            recorder=self.recorder,
            supervisor=self.supervisor,
        )

    def _make_lease(self) -> Lease:
        context = self.context
        return Lease(
            self.journal,
            context.account,
            host_of(context.base_url),
            attempt_timeout=context.policy.attempt_timeout,
            clock=context.clock,
            sleep=context.runtime.sleep,
            supervisor=self.supervisor,
            margin=context.runtime.lease_margin,
        )

    def _make_questions(self) -> Questions:
        return Questions(
            self.context,
            session=self.session,
            limiter=self.limiter,
            keys=self.keys,
            lease=self.lease,
            journal=self.journal,
            recorder=self.recorder,
            observer=self.observer,
        )

    def _flight_parts(self) -> FlightParts:
        return FlightParts(
            self.context,
            self.journal,
            is_shared(self.journal),
            self.recorder,
            self.questions,
            self.session,
            self.limiter,
            self.keys,
            self.lease,
            self.observer,
            self.supervisor,
            FixedDelayTimers(self.context.policy.deadline, self.supervisor),
        )

    # ── closing ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _closing_steps(self) -> list[Step]:
        """Return what closing does once the grace is over, with the seconds by which each part has ended."""
        steps = [Step("end what is under way", 1.1, self._end_work), Step("end the inbox", 1.2, self.inbox.aclose)]
        if self.owns_session:
            steps.append(Step("close the session", 1.4, self.session.aclose))
        steps += [
            Step("write what lags", 1.7, self.recorder.flush),
            Step("give the lease back", 1.9, self.lease.release),
        ]
        if self.owns_journal:
            steps.append(Step("close the journal", 2.7, self.journal.aclose))
        return steps

    async def _end_work(self) -> None:
        returning = self.claims.leave(is_final=True)
        try:
            await self.registry.end(self._wait_for_work)
            self.limiter.close()
            await asyncio.wait({returning})
        finally:
            self.claims.stop()

    async def _wait_for_work(self, seconds: float) -> None:
        """Wait so long at most for flights, and for the blocks that handle callbacks."""
        under_way = {*self.registry.under_way, *self.inbox.under_way}
        if under_way:
            await asyncio.wait(under_way, timeout=seconds)

    def _leave_loop(self) -> None:
        """Forget what ended with an event loop that was closed."""
        self._flights.clear()
        self.claims.leave_loop()
        self.recorder.leave_loop()
