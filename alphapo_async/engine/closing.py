"""Closing a client: its steps run in order in a task of their own, and end within a bound also where a step hangs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, NamedTuple

from alphapo_async.supervisor import log_error

__all__ = ["BOUND", "Closing", "Step"]

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
        """Wait for the end; a caller that is cancelled leaves at once, and closing goes on."""
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
        async def run() -> None:
            await step.run()

        for _ in range(2):  # once more where the loop's owner cancelled it with all other tasks
            task = self._loop.create_task(run())
            await self._wait_for(task, until)
            if not task.cancelled():
                break
        if not task.done():
            task.cancel()
            await self._wait_for(task, self._loop.time() + _CANCEL_GRACE)
        if task.cancelled() or not task.done():
            logger.warning("closing: could not %s in time", step.name, extra={"foreign_id": None})
        elif (error := task.exception()) is not None:
            log_error(f"closing: could not {step.name}", error)

    async def _wait_for(self, task: asyncio.Task[None], until: float) -> None:
        """Wait for a task until then, also where this task is cancelled meanwhile."""
        while not task.done() and (left := until - self._loop.time()) > 0:
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.wait({task}, timeout=left)
