"""The request limiter: every request of a client gets its permit here, once the rules allow it and a slot is free.

The rules are in `core.rate_limit`; here are only the queue, the clock and the slots. A slot is held for one request, never during a wait.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from math import inf
from typing import Final, TypeAlias

from alphapo_async.core.rate_limit import (
    LimiterState,
    Permit,
    Priority,
    ReplyClass,
    classify,
    is_outage,
    may_leave_at,
    on_reply,
    on_sent,
)
from alphapo_async.core.replies import Answer, Proof
from alphapo_async.core.retry_policy import RetryPolicy
from alphapo_async.session import Slots
from alphapo_async.supervisor import Supervisor

__all__ = ["QueuedRequest", "RequestLimiter"]

_MAX_LATENESS: Final = 0.05
"""Seconds of a timer's lateness that are made up for at most."""
QueuedRequest: TypeAlias = "asyncio.Future[Permit | None]"
"""A place in the queue: resolved with a permit, or with None when it is given up."""


class RequestLimiter:
    """Lets requests leave: look-ups before retries, retries before first attempts.

    Args:
        slots: how many requests may be under way at once.
        policy: waits and limits.
        max_rate: bodies per second, None for no limit.
        on_outage: called with True when an outage begins and with False when it ends.
        supervisor: reports an error of the queue, and says when to try again.
    """

    def __init__(
        self,
        slots: Slots,
        policy: RetryPolicy,
        max_rate: float | None,
        on_outage: Callable[[bool], None],
        supervisor: Supervisor,
    ) -> None:
        self._slots = slots
        self._policy = policy
        self._max_rate = max_rate
        self._on_outage = on_outage
        self._supervisor = supervisor
        self._state = LimiterState()
        self._outage_ended = -inf
        self.outage_listeners: dict[Callable[[bool], None], None] = {}
        """Called like `on_outage`, too: for flights that have not had a slot yet."""
        self.is_silent = False
        """The latest request had no readable answer; an answer that asks to wait changes nothing."""
        self.recoveries = 0
        """How often a readable answer, to a body or a look-up, came after one that was none."""
        self._queues: dict[Priority, deque[QueuedRequest]] = {priority: deque() for priority in Priority}
        self._bodies = 0
        self._is_closed = False
        self._timer: asyncio.Handle | None = None
        self._timer_due = 0.0
        self._loop: asyncio.AbstractEventLoop | None = None
        slots.listen(self._admit_next)

    @property
    def state(self) -> LimiterState:
        """What is known of AlphaPo's willingness."""
        return self._state

    @property
    def outage_until(self) -> float:
        """When the latest outage ended, on the loop's clock: infinite while it lasts, minus infinite if there was none."""
        return inf if is_outage(self._state) else self._outage_ended

    def __repr__(self) -> str:
        waiting = sum(len(queue) for queue in self._queues.values())
        return f"RequestLimiter({self._bodies} bodies under way, {waiting} waiting, {self._state!r})"

    def try_acquire(self, priority: Priority, loop: asyncio.AbstractEventLoop) -> Permit | None:
        """Return a permit if the request may leave at once, overtaking no request of its kind."""
        self._loop = loop
        now = loop.time()
        if self._slots.free <= 0 or self._is_closed or any(self._queues.values()):
            return None
        if may_leave_at(self._state, priority, self._bodies, now) > now:
            return None
        return self._grant(priority, now, now)

    def queue(self, priority: Priority, loop: asyncio.AbstractEventLoop) -> QueuedRequest:
        """Return a place in the queue, to be awaited; a caller that no longer wants it calls `give_up`.

        After closing it is given up at once: a request that leaves then would open the session again, and nothing would close it.
        """
        self._loop = loop
        queued: QueuedRequest = loop.create_future()
        if self._is_closed:
            queued.set_result(None)
            return queued
        self._queues[priority].append(queued)
        self._admit_next()
        return queued

    async def wait_in(self, queued: QueuedRequest) -> Permit | None:
        """Wait in the queue; None if the place is given up. A permit that comes too late for a cancelled waiter is handed back."""
        try:
            return await queued
        except asyncio.CancelledError:
            if not queued.cancelled() and (permit := queued.result()) is not None:
                self.release(permit, None)
            raise

    async def wait(self, priority: Priority, loop: asyncio.AbstractEventLoop, seconds: float) -> Permit | None:
        """Wait in the queue for so many seconds at most; None if that was not enough."""
        queued = self.queue(priority, loop)
        timer = loop.call_later(seconds, self.give_up, queued)
        try:
            return await self.wait_in(queued)
        finally:
            timer.cancel()

    def give_up(self, queued: QueuedRequest) -> None:
        """Resolve the place with None; a ticket already given stays given."""
        if not queued.done():
            queued.set_result(None)

    def release(self, permit: Permit, judged: Proof | Answer | None) -> None:
        """Take the slot back, with what the reply proved; None if the request was cancelled."""
        assert self._loop is not None  # noqa: S101 - set when the slot was taken
        if permit.priority.is_body:
            self._bodies -= 1
        try:
            if judged is not None:
                self._on_reply(permit, judged, self._loop.time())
        finally:
            self._slots.give()

    def _on_reply(self, permit: Permit, judged: Proof | Answer, now: float) -> None:
        before, (what, retry_after) = self._state, classify(judged)
        if what is ReplyClass.NOTHING:
            self.is_silent = True
        elif what is ReplyClass.DEFINITE and self.is_silent:
            self.is_silent, self.recoveries = False, self.recoveries + 1
        self._state = on_reply(before, permit, what, now, self._policy, retry_after=retry_after)
        if self._state is not before and is_outage(self._state) is not is_outage(before):
            self._outage_ended = now
            try:
                self._on_outage(not is_outage(before))
            finally:  # a filter of the log may raise
                for listener in self.outage_listeners:
                    listener(not is_outage(before))

    def close(self) -> None:
        """Give up every place, let nothing leave any more, and listen to the slots no more."""
        self._is_closed = True
        self._slots.forget(self._admit_next)
        if self._timer is not None:
            self._timer.cancel()
        for queue in self._queues.values():
            while queue:
                self.give_up(queue.popleft())

    def _grant(self, priority: Priority, now: float, due: float) -> Permit:
        self._state, permit = on_sent(self._state, priority, now, self._policy, self._max_rate, due=due)
        self._slots.take()
        if priority.is_body:
            self._bodies += 1
        return permit

    def _admit_next(self) -> None:
        """Admit the requests that may leave now, and set a timer for the next one; after an unexpected error, after a pause."""
        if self._loop is None or not any(self._queues.values()):
            return
        try:
            self._admit(self._loop)
        except Exception as error:  # noqa: BLE001 - it is reported; without a timer the queue would stand still
            self._come_back_at(self._loop, self._loop.time() + self._supervisor.failed("limiter", error))
        else:
            self._supervisor.succeeded("limiter")

    def _come_back_at(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        # uvloop's handles do not show when they are due.
        self._timer_due = due
        self._timer = loop.call_at(due, self._admit_next)

    def _admit(self, loop: asyncio.AbstractEventLoop) -> None:
        now = loop.time()
        # Whoever waits for the clock does not lose what its timers are late, or a rate would never be reached.
        due = now if self._timer is None else min(now, max(self._timer_due, now - _MAX_LATENESS))
        soonest = inf
        for priority, queue in self._queues.items():
            soonest = min(soonest, self._admit_from(priority, queue, now, due))
        if soonest < inf and self._slots.free > 0:
            self._come_back_at(loop, soonest)
        elif self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _admit_from(self, priority: Priority, queue: deque[QueuedRequest], now: float, due: float) -> float:
        """Serve one queue; return when its first may leave, infinite if it is empty or waits for something else than time."""
        while queue:
            if queue[0].done():
                queue.popleft()
                continue
            when = may_leave_at(self._state, priority, self._bodies, now)
            if when > now or self._slots.free <= 0:
                return when
            queue.popleft().set_result(self._grant(priority, now, due))
        return inf
