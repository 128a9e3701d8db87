"""The callers of one flight, and how long each of them waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from math import inf
from typing import Final, TypeAlias

from alphapo_async.core.results import FlightResult
from alphapo_async.timers import FixedDelayTimers, Timer

__all__ = ["Caller", "Report", "Waiters"]

_LAST_WORD: Final = 0.04
"""Seconds that a flight at its deadline has to end by itself before its callers get "in flight"."""


class Report:
    """Calls a function with the flight's result, once: the future of a caller that needs none."""

    __slots__ = ("_is_done", "_report")

    def __init__(self, report: Callable[[FlightResult], None]) -> None:
        self._report = report
        self._is_done = False

    def done(self) -> bool:
        """Return whether the function was called."""
        return self._is_done

    def set_result(self, result: FlightResult) -> None:
        """Call the function."""
        self._is_done = True
        self._report(result)


Caller: TypeAlias = asyncio.Future[FlightResult] | Report


class _Waiter:
    """A caller that waits, until `due` on the loop's clock; infinite while the policy's deadline does not run yet."""

    __slots__ = ("due", "future", "has_own", "outage_patience", "timer")

    def __init__(self, future: Caller, due: float | None, patience: float) -> None:
        self.future = future
        self.due = inf if due is None else due
        self.has_own = due is not None
        self.outage_patience = patience
        self.timer: Timer | asyncio.TimerHandle | None = None


class Waiters:
    """The callers of one flight, each with a deadline of its own or the policy's.

    The policy's deadline runs from the flight's first slot. Before that, only the time counts in which an outage prevents the slot, and not
    the time in the queue.

    Args:
        loop: whose clock counts.
        deadlines: timers of the policy's deadline.
        on_last: called when the last deadline has passed; returns whether the flight will end by itself at once.
        in_flight: what a caller gets that leaves before the end.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        deadlines: FixedDelayTimers,
        on_last: Callable[[], bool],
        in_flight: Callable[[], FlightResult],
    ) -> None:
        self._in_flight = in_flight
        self._loop = loop
        self._deadlines = deadlines
        self._deadline = deadlines.seconds
        self._on_last = on_last
        self._all: list[_Waiter] = []
        self._result: FlightResult | None = None
        self._outage_seconds = 0.0
        self._outage_since: float | None = None
        self.is_running = False
        """The flight has had a slot."""

    @property
    def is_joined(self) -> bool:
        """A caller has joined; that it has left since is not looked at."""
        return bool(self._all)

    def join(self, due: float | None) -> asyncio.Future[FlightResult]:
        """Return a future of the flight's end, resolved earlier when this caller's time is up.

        Args:
            due: until when the caller waits; None for the policy's deadline.
        """
        future: asyncio.Future[FlightResult] = self._loop.create_future()
        self._add(_Waiter(future, due, self._deadline), due)
        return future

    def join_with(self, report: Callable[[FlightResult], None], *, fail_fast_in_outage: bool) -> Report:
        """Do as `join` for a caller with the policy's deadline; `report` is called with the result.

        Args:
            report: takes the result; it must not raise.
            fail_fast_in_outage: of an outage that keeps the flight from its slot, wait for nothing.
        """
        caller = Report(report)
        self._add(_Waiter(caller, None, 0.0 if fail_fast_in_outage else self._deadline), None)
        return caller

    def _add(self, waiter: _Waiter, due: float | None) -> None:
        if self._result is not None:  # the flight ended before its first caller came: it never had to wait
            waiter.future.set_result(self._result)
            return
        self._all.append(waiter)
        if due is not None:
            self._arm(waiter, due)
        elif self.is_running:
            self._arm(waiter, self._loop.time() + self._deadline)
        elif self._outage_since is not None:
            self._arm(waiter, self._outage_since + waiter.outage_patience - self._outage_seconds)

    def start(self) -> None:
        """The flight has its first slot: the policy's deadline runs."""
        if self._outage_since is not None:
            self.on_outage(has_begun=False)
        self.is_running = True
        if self._outage_seconds:
            due = self._loop.time() + self._deadline - self._outage_seconds
            self._arm_all(lambda _: due)
            return
        for waiter in self._all:
            if not waiter.has_own:
                timer = self._deadlines.start(self._loop, partial(self._on_time_up, waiter))
                waiter.timer, waiter.due = timer, timer.due

    def on_outage(self, has_begun: bool) -> None:  # noqa: FBT001 - a bare fact
        """An outage begins to keep the flight from its slot, or no longer does."""
        now = self._loop.time()
        if has_begun and self._outage_since is None:
            self._outage_since = now
            self._arm_all(lambda waiter: now + waiter.outage_patience - self._outage_seconds)
        elif not has_begun and self._outage_since is not None:
            self._outage_seconds += now - self._outage_since
            self._outage_since = None
            self._arm_all(lambda _: inf)

    def stop_waiting(self, future: Caller) -> None:
        """Expire this caller's deadline now, but let it receive the flight's result; nothing new is started on its behalf."""
        for waiter in self._all:
            if waiter.future is future:
                waiter.has_own = True  # no timer that starts later gives it more time
                self._arm(waiter, inf)
                waiter.due = self._loop.time()
        if self.is_late(0.0):
            self._on_last()

    def dismiss(self, future: Caller, result: FlightResult) -> None:
        """Hand this result to a caller now; the flight continues as if it had not joined."""
        for waiter in [waiter for waiter in self._all if waiter.future is future]:
            self._arm(waiter, inf)
            self._all.remove(waiter)
            if not future.done():
                future.set_result(result)

    def is_late(self, seconds: float) -> bool:
        """Return whether every caller's deadline will have passed in so many seconds."""
        then = self._loop.time() + seconds
        for waiter in self._all:
            if waiter.due > then:
                return False
        return bool(self._all)

    def is_wanted(self) -> bool:
        """Return whether a caller still waits whose time is not up; also before the first one has joined."""
        now = self._loop.time()
        for waiter in self._all:  # no generator: every withdrawal comes through here
            if waiter.due > now and not waiter.future.done():
                return True
        return not self._all

    def resolve(self, result: FlightResult) -> None:
        """Hand the result to every caller that still waits or comes later; stop the timers."""
        self._result = result
        for waiter in self._all:
            if waiter.timer is not None:
                waiter.timer.cancel()
            if not waiter.future.done():
                waiter.future.set_result(result)
        # No caller is left, and no reference keeps the ended flight alive until the next garbage collection.
        self._all.clear()
        self._on_last, self._in_flight = lambda: False, lambda: result

    def _arm_all(self, due: Callable[[_Waiter], float]) -> None:
        for waiter in self._all:
            if not waiter.has_own:
                self._arm(waiter, due(waiter))

    def _arm(self, waiter: _Waiter, due: float) -> None:
        if waiter.timer is not None:
            waiter.timer.cancel()
        waiter.due = due
        waiter.timer = None if due == inf else self._loop.call_at(due, self._on_time_up, waiter)

    def _on_time_up(self, waiter: _Waiter) -> None:
        """Answer this caller with "in flight"; a flight that only queues for its last caller ends, and that caller gets its result."""
        waiter.due = min(waiter.due, self._loop.time())  # timers may fire a tick early
        if self.is_late(0.0) and self._on_last():
            waiter.timer = self._loop.call_later(_LAST_WORD, self._leave, waiter)
        else:
            self._leave(waiter)

    def _leave(self, waiter: _Waiter) -> None:
        if not waiter.future.done():
            waiter.future.set_result(self._in_flight())
