"""Group commit in the event loop: while one group is written down the next one gathers.

The more is asked for at once, the less each costs. It is for storages that are spoken to without blocking; a file has `grouping`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from copy import copy
from typing import Any, Final, Generic, TypeVar

from alphapo_async.core.errors import JournalError
from alphapo_async.supervisor import Supervisor

__all__ = ["LAG", "GroupCommit", "PendingWrite"]

LARGEST: Final = 500
"""Wishes in a group: what it writes is seen by others only at its end."""
LAG: Final = 0.05
"""Seconds that a wish which may lag waits for a group to ride on."""

R = TypeVar("R")


class PendingWrite(Generic[R]):
    """Something to be written down, and who waits for what it comes to."""

    __slots__ = ("_future",)

    def __init__(self) -> None:
        self._future: asyncio.Future[R] = asyncio.get_running_loop().create_future()

    @property
    def is_done(self) -> bool:
        """It was fulfilled or has failed, or nobody waits any more."""
        return self._future.done()

    def resolve(self, result: R) -> None:
        """Tell the result, if anybody still waits."""
        if not self._future.done():
            self._future.set_result(result)

    def fail(self, error: BaseException) -> None:
        """Tell what went wrong, if anybody still waits."""
        if not self._future.done():
            self._future.set_exception(error)

    def outcome(self) -> asyncio.Future[R]:
        """Return the future of the result."""
        return self._future


W = TypeVar("W", bound=PendingWrite[Any])


class GroupCommit(Generic[W]):
    """Serves wishes group by group, in the order in which they came.

    Args:
        serve: is called with each group; it tells every wish its outcome and raises nothing.
    """

    def __init__(self, serve: Callable[[list[W]], Awaitable[None]]) -> None:
        self._serve = serve
        self.supervisor = Supervisor()
        """Reports a group that could not be served."""
        self._waiting: list[W] = []
        self._group: list[W] = []
        self._asked = self._done = 0
        """How many wishes came, and how many of them have been served."""
        self._group_is_over = asyncio.Event()
        """Comes with the end of the group under way, or of the next one."""
        self._serving: asyncio.Task[None] | None = None
        self._later: asyncio.TimerHandle | None = None

    def add(self, pending: W, *, may_lag: bool = False) -> None:
        """Have it served with the next group; what may lag does not begin one by itself, for a moment."""
        self._waiting.append(pending)
        self._asked += 1
        if not may_lag:
            self._start()
        elif self._serving is None and self._later is None:
            self._later = asyncio.get_running_loop().call_later(LAG, self._start)

    async def settle(self) -> None:
        """Wait until all that was asked for so far is served, and for nothing that is asked for later."""
        last = self._asked
        while self._done < last:
            self._start()
            await self._group_is_over.wait()

    def abandon(self, error: Exception) -> None:
        """Fail all that is not served yet, and end the work on it."""
        left, self._waiting = self._waiting, []
        for pending in (*self._group, *left):
            pending.fail(copy(error))
        self._end(left)
        if self._later is not None:
            self._later.cancel()
        if self._serving is not None:
            self._serving.cancel()

    def _start(self) -> None:
        if self._later is not None:
            self._later.cancel()
            self._later = None
        if self._serving is None and self._waiting:
            self._serving = asyncio.get_running_loop().create_task(self._serve_all())

    async def _serve_all(self) -> None:
        try:
            while self._waiting:
                group, self._waiting = self._waiting[:LARGEST], self._waiting[LARGEST:]
                self._group = group
                try:
                    await self._serve(group)
                except Exception as error:  # noqa: BLE001 - it is reported, and the next group is served
                    self._fail(group, error)
                finally:
                    self._end(group)
        finally:
            self._serving = None

    def _fail(self, group: list[W], error: Exception) -> None:
        self.supervisor.failed("journal writes", error)
        for pending in group:
            pending.fail(JournalError("The journal failed with an internal error; see the log.", recorded=None))

    def _end(self, group: list[W]) -> None:
        """Count it as served, also where it was broken off, and let whoever waited for it look again."""
        self._done += len(group)
        self._group = []
        is_over, self._group_is_over = self._group_is_over, asyncio.Event()
        is_over.set()
