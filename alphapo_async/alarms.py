"""Alarms that all go off after the same time, on one timer of the event loop.

A timer of the loop costs a handle and its place in a heap, and nearly all of ours are cancelled. Alarms that run equally long go off in the
order in which they were set, so that one timer, the first one's, is enough for all of them.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

__all__ = ["Alarm", "Alarms"]


class Alarm:
    """One of them. `cancel` it unless it has gone off."""

    __slots__ = ("_running", "due", "ring")

    def __init__(self, due: float, ring: Callable[[], None], running: OrderedDict[Alarm, None]) -> None:
        self.due = due
        self.ring = ring
        self._running = running
        running[self] = None

    def cancel(self) -> None:
        """It does not go off any more."""
        self._running.pop(self, None)
        self.ring = _silent  # nor does it keep alive whoever set it


def _silent() -> None:
    """Do nothing."""


class Alarms:
    """Alarms of one length.

    Args:
        seconds: how long they run.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: OrderedDict[Alarm, None] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"Alarms({self.seconds} s, {len(self._running)} running)"

    def set(self, loop: asyncio.AbstractEventLoop, ring: Callable[[], None]) -> Alarm:
        """Call `ring` once so many seconds from now, unless the alarm is cancelled before."""
        if loop is not self._loop:
            self._begin(loop)
        alarm = Alarm(loop.time() + self.seconds, ring, self._running)
        if self._timer is None:
            self._wait_for(loop, alarm.due)
        return alarm

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """What ran in another loop ended with it."""
        self._loop, self._timer, self._running = loop, None, OrderedDict()

    def _wait_for(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        self._timer = loop.call_at(due, self._go_off, loop, due)

    def _go_off(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        """Let all go off that are due, and wait for the first that is not; the one that was waited for may be cancelled."""
        self._timer = None
        now = max(loop.time(), due)  # timers may fire a tick early
        try:
            while self._running and (first := next(iter(self._running))).due <= now:
                ring = first.ring
                first.cancel()
                ring()
        finally:
            if self._running and self._timer is None:
                self._wait_for(loop, next(iter(self._running)).due)
