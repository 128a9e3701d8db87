"""Alarms that all go off after the same time, on one timer of the event loop.

A timer of the loop costs a handle and its place in a heap, and nearly all of ours are cancelled. Alarms that run equally long go off in the
order in which they were set, so that one timer, the first one's, is enough for all of them.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable

from alphapo_async.supervisor import Supervisor

__all__ = ["FixedDelayTimers", "Timer"]


class Timer:
    """One of them. `cancel` it unless it has gone off."""

    __slots__ = ("_running", "callback", "due")

    def __init__(self, due: float, callback: Callable[[], None], running: OrderedDict[Timer, None]) -> None:
        self.due = due
        self.callback = callback
        self._running = running
        running[self] = None

    def cancel(self) -> None:
        """It does not go off any more."""
        self._running.pop(self, None)
        self.callback = _silent  # nor does it keep alive whoever set it


def _silent() -> None:
    """Do nothing."""


class FixedDelayTimers:
    """Alarms of one length.

    Args:
        seconds: how long they run.
        supervisor: reports an error of a callback; the other alarms go off all the same.
    """

    def __init__(self, seconds: float, supervisor: Supervisor | None = None) -> None:
        self.seconds = seconds
        self._supervisor = supervisor or Supervisor()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._running: OrderedDict[Timer, None] = OrderedDict()
        self._timer: asyncio.TimerHandle | None = None

    def __repr__(self) -> str:
        return f"FixedDelayTimers({self.seconds} s, {len(self._running)} running)"

    def start(self, loop: asyncio.AbstractEventLoop, callback: Callable[[], None]) -> Timer:
        """Call `callback` once so many seconds from now, unless the alarm is cancelled before."""
        if loop is not self._loop:
            self._begin(loop)
        timer = Timer(loop.time() + self.seconds, callback, self._running)
        if self._timer is None:
            self._wait_for(loop)
        return timer

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        """What ran in another loop ended with it."""
        self._loop, self._timer, self._running = loop, None, OrderedDict()

    def _wait_for(self, loop: asyncio.AbstractEventLoop) -> None:
        """Wait for the first of them, also where a callback sets another while the timer fires."""
        due = next(iter(self._running)).due
        self._timer = loop.call_at(due, self._fire, loop, due)

    def _fire(self, loop: asyncio.AbstractEventLoop, due: float) -> None:
        """Let all go off that are due, and wait for the first that is not; the one that was waited for may be cancelled."""
        self._timer = None
        now = max(loop.time(), due)  # timers may fire a tick early
        try:
            while self._running and (first := next(iter(self._running))).due <= now:
                callback = first.callback
                first.cancel()
                with self._supervisor.attempt("timers"):
                    callback()
        finally:
            if self._running and self._timer is None:
                self._wait_for(loop)
