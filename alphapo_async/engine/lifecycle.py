"""The life of a client: it opens in one event loop of one process, is used there, and closes there.

Closing takes its steps in order in a task of their own, and ends within a bound also where a step hangs.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from alphapo_async.core.errors import ConfigurationError
from alphapo_async.supervisor import log_error

__all__ = ["BOUND", "Closing", "Lifecycle", "Step"]

logger = logging.getLogger("alphapo_async")

BOUND: Final = 3.0
"""Seconds that closing takes at most after its grace."""
_CANCEL_GRACE: Final = 0.05
"""Seconds that a step gets to end after it was cancelled."""
_UNDER_WAY: Final[set[asyncio.Task[None]]] = set()
"""An event loop keeps no task alive, and the client may be gone before its closing has ended."""


class Step(NamedTuple):
    """A part of closing."""

    name: str
    ends_after: float
    """Seconds after the end of the grace at which the step is cancelled; earlier steps that are quick leave it more time."""
    run: Callable[[], Awaitable[None]]


class Closing:
    """Closes a client, however many callers wait for that and leave.

    An error of a step is logged, and the next step follows. If the event loop's owner cancels the task because the loop ends, the grace
    ends and the steps follow all the same.

    Args:
        drain: waits for what is under way, as long as the grace is.
        steps: what follows, in order.
    """

    def __init__(self, drain: Callable[[], Awaitable[None]], steps: Sequence[Step]) -> None:
        self._drain = drain
        self._steps = steps
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._run())
        _UNDER_WAY.add(self._task)
        self._task.add_done_callback(_UNDER_WAY.discard)

    @property
    def is_lost(self) -> bool:
        """Its event loop was closed before it ended."""
        return not self._task.done() and self._loop.is_closed()

    async def wait(self) -> None:
        """Wait for the end; a caller that is cancelled leaves at once, and closing continues."""
        if not self._task.done():
            await asyncio.shield(self._task)

    async def _run(self) -> None:
        with contextlib.suppress(asyncio.CancelledError):  # the loop ends: no time is left for grace
            await self._drain()
        end = self._loop.time()
        for step in self._steps:
            # A process that stood still meanwhile takes every step all the same.
            await self._take(step, max(end + step.ends_after, self._loop.time() + _CANCEL_GRACE))

    async def _take(self, step: Step, until: float) -> None:
        task = await self._start(step, until)
        if task.cancelled():  # by the loop's owner, with all other tasks
            task = await self._start(step, until)
        if not task.done():
            task.cancel()
            await self._wait_for(task, self._loop.time() + _CANCEL_GRACE)
        if task.cancelled() or not task.done():
            with contextlib.suppress(
                Exception
            ):  # a filter of the log may raise, and the next steps follow all the same
                logger.warning("closing: could not %s in time", step.name, extra={"foreign_id": None})
        elif (error := task.exception()) is not None:
            log_error(f"closing: could not {step.name}", error)

    async def _start(self, step: Step, until: float) -> asyncio.Task[None]:
        """Return the task of a step, which is done, or late."""

        async def run() -> None:
            await step.run()

        task = self._loop.create_task(run())
        await self._wait_for(task, until)
        return task

    async def _wait_for(self, task: asyncio.Task[None], until: float) -> None:
        """Wait for a task until then, also where this task is cancelled meanwhile."""
        while not task.done() and (left := until - self._loop.time()) > 0:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({task}, timeout=left)


class Lifecycle:
    """Says whether a client may be used here and now, and closes it.

    Args:
        bind: binds the client's session to the event loop of its first use.
        leave_loop: forgets what ended with an event loop that was closed.
        drain: waits so many seconds at most for what is under way.
        steps: returns what closing does after that, in order.
    """

    def __init__(
        self,
        *,
        bind: Callable[[asyncio.AbstractEventLoop], None],
        leave_loop: Callable[[], None],
        drain: Callable[[float], Awaitable[None]],
        steps: Callable[[], Sequence[Step]],
    ) -> None:
        self._bind = bind
        self._leave_loop = leave_loop
        self._drain = drain
        self._steps = steps
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = os.getpid()
        """Where it was opened: connections do not survive a fork."""
        self._closing: Closing | None = None

    @property
    def state(self) -> str:
        """One of `not opened`, `open` and `closed`."""
        return "closed" if self._closing else "open" if self._loop else "not opened"

    def enter(self) -> asyncio.AbstractEventLoop:
        """Return the running loop, which is the client's from the first use on.

        Raises:
            ConfigurationError: the client is closed, or belongs to another event loop or process.
        """
        loop = asyncio.get_running_loop()
        if self._closing is not None:
            raise ConfigurationError(
                "The client is closed; this call sent nothing, and says nothing about earlier ones."
            )
        if self._process != os.getpid() and self._loop is not None:
            raise ConfigurationError(
                "The client was opened before this process was forked, and belongs to the parent; this call sent nothing. "
                "Open one in each process."
            )
        if self._loop is not loop:
            if self._loop is not None:
                raise ConfigurationError(
                    "The client belongs to another event loop, in which it was first used; this call sent nothing. "
                    "Make one client for each loop, and let them share a journal."
                )
            self._bind(loop)
            self._loop, self._process = loop, os.getpid()
        return loop

    async def close(self, grace: float) -> None:
        """Refuse new calls, wait so long for what is under way, and take the steps; every call waits for the end.

        Raises:
            ConfigurationError: the client belongs to another event loop, which is not closed; nothing was closed.
        """
        self._loop = self._loop_for_closing()
        if self._closing is None or self._closing.is_lost:
            self._closing = Closing(lambda: self._drain(grace), self._steps())
        await self._closing.wait()

    def _loop_for_closing(self) -> asyncio.AbstractEventLoop:
        """Return the running loop, if the client belongs to it, or to one that is closed and has taken its tasks with it."""
        loop = asyncio.get_running_loop()
        if self._loop not in (None, loop):
            if not self._loop.is_closed():
                raise ConfigurationError(
                    "The client belongs to another event loop, in which it was first used: close it there. Nothing was closed."
                )
            self._leave_loop()
        return loop
