"""The callers of one flight, and how long each of them waits."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from math import inf
from typing import Final

from alphapo_async.alarms import Alarm, Alarms
from alphapo_async.core.telling import FlightResult

__all__ = ["Callers"]

_LAST_WORD: Final = 0.04
"""Seconds that a flight at its deadline has to end by itself before its callers are told that it is in flight."""


class _Caller:
    """One who waits, until `due` on the loop's clock; infinite while the policy's deadline does not run yet."""

    __slots__ = ("due", "future", "has_own", "patience", "timer")

    def __init__(self, future: asyncio.Future[FlightResult], due: float | None, patience: float) -> None:
        self.future = future
        self.due = inf if due is None else due
        self.has_own = due is not None
        self.patience = patience
        self.timer: Alarm | asyncio.TimerHandle | None = None


class Callers:
    """Everybody who waits for one flight, each with a deadline of his own or the policy's.

    The policy's deadline runs from the flight's first slot. Before that, time for which an outage keeps the flight from its slot counts as
    well, and time spent queueing behind others does not.

    Args:
        loop: whose clock counts.
        deadlines: alarms that go off after the policy's deadline.
        on_last: called when the last deadline is over; tells whether the flight will end by itself at once.
        in_flight: what a caller is told who leaves before the end.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        deadlines: Alarms,
        on_last: Callable[[], bool],
        in_flight: Callable[[], FlightResult],
    ) -> None:
        self._in_flight = in_flight
        self._loop = loop
        self._deadlines = deadlines
        self._deadline = deadlines.seconds
        self._on_last = on_last
        self._all: list[_Caller] = []
        self._result: FlightResult | None = None
        self._kept = 0.0
        self._kept_since: float | None = None
        self.is_running = False
        """The flight has had a slot."""

    def join(self, due: float | None, *, leaves_in_outage: bool = False) -> asyncio.Future[FlightResult]:
        """Return a future of the flight's end, resolved earlier when this caller's time is up.

        Args:
            due: until when the caller waits; None for the policy's deadline.
            leaves_in_outage: of an outage that keeps the flight from its slot, wait for nothing.
        """
        caller = _Caller(self._loop.create_future(), due, 0.0 if leaves_in_outage else self._deadline)
        if self._result is not None:  # the flight ended before its first caller came: it never had to wait
            caller.future.set_result(self._result)
            return caller.future
        self._all.append(caller)
        if due is not None:
            self._arm(caller, due)
        elif self.is_running:
            self._arm(caller, self._loop.time() + self._deadline)
        elif self._kept_since is not None:
            self._arm(caller, self._kept_since + caller.patience - self._kept)
        return caller.future

    def start(self) -> None:
        """The flight has its first slot: the policy's deadline runs."""
        if self._kept_since is not None:
            self.on_outage(has_begun=False)
        self.is_running = True
        if self._kept:
            due = self._loop.time() + self._deadline - self._kept
            self._arm_all(lambda _: due)
            return
        for caller in self._all:
            if not caller.has_own:
                alarm = self._deadlines.set(self._loop, partial(self._on_time_up, caller))
                caller.timer, caller.due = alarm, alarm.due

    def on_outage(self, has_begun: bool) -> None:  # noqa: FBT001 - a bare fact
        """An outage begins to keep the flight from its slot, or no longer does."""
        now = self._loop.time()
        if has_begun and self._kept_since is None:
            self._kept_since = now
            self._arm_all(lambda caller: now + caller.patience - self._kept)
        elif not has_begun and self._kept_since is not None:
            self._kept += now - self._kept_since
            self._kept_since = None
            self._arm_all(lambda _: inf)

    def release(self, future: asyncio.Future[FlightResult]) -> None:
        """This caller's time is up, but he stays to hear the flight's own word; for him alone nothing more is begun."""
        for caller in self._all:
            if caller.future is future:
                caller.has_own = True  # no clock that starts later gives him more time
                self._arm(caller, inf)
                caller.due = self._loop.time()
        if self.is_late(0.0):
            self._on_last()

    def is_late(self, seconds: float) -> bool:
        """Tell whether so many seconds from now everybody's time is up."""
        then = self._loop.time() + seconds
        for caller in self._all:
            if caller.due > then:
                return False
        return bool(self._all)

    def resolve(self, told: FlightResult) -> None:
        """Tell everybody who still waits, and whoever comes later; stop the clocks."""
        self._result = told
        for caller in self._all:
            if caller.timer is not None:
                caller.timer.cancel()
            if not caller.future.done():
                caller.future.set_result(told)
        # Nobody is left to leave. Nor is a flight that is over kept until the garbage collector comes.
        self._all.clear()
        self._on_last, self._in_flight = lambda: False, lambda: told

    def _arm_all(self, due: Callable[[_Caller], float]) -> None:
        for caller in self._all:
            if not caller.has_own:
                self._arm(caller, due(caller))

    def _arm(self, caller: _Caller, due: float) -> None:
        if caller.timer is not None:
            caller.timer.cancel()
        caller.due = due
        caller.timer = None if due == inf else self._loop.call_at(due, self._on_time_up, caller)

    def _on_time_up(self, caller: _Caller) -> None:
        """Let this caller go; the last one takes a flight that merely queues with him, and waits a moment for its word."""
        caller.due = min(caller.due, self._loop.time())  # timers may fire a tick early
        if self.is_late(0.0) and self._on_last():
            caller.timer = self._loop.call_later(_LAST_WORD, self._leave, caller)
        else:
            self._leave(caller)

    def _leave(self, caller: _Caller) -> None:
        if not caller.future.done():
            caller.future.set_result(self._in_flight())
