"""Group commit: while one group of writes is stored, the next one gathers.

The more writes come at once, the less each one costs. A group commit belongs to one event loop; what stores a group may be a task of that
loop or a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from copy import copy
from functools import partial
from typing import Any, Final, Generic, TypeVar

from alphapo_async.core.errors import JournalError
from alphapo_async.supervisor import Supervisor

__all__ = ["LAG", "LARGEST", "GroupCommit", "PendingWrite"]

LARGEST: Final = 500
"""Writes in a group: others see what it stores only at its end."""
LAG: Final = 0.05
"""Seconds for which a write that may lag waits for a group."""

R = TypeVar("R")


class PendingWrite(Generic[R]):
    """A write and the future of its result."""

    __slots__ = ("_future",)

    def __init__(self) -> None:
        self._future: asyncio.Future[R] = asyncio.get_running_loop().create_future()

    @property
    def is_done(self) -> bool:
        """The write has a result or an error, or its caller has left."""
        return self._future.done()

    def resolve(self, result: R) -> None:
        """Set the result, unless the write is done."""
        if not self._future.done():
            self._future.set_result(result)

    def fail(self, error: BaseException) -> None:
        """Set the error, unless the write is done; a future takes any error but `StopIteration`."""
        if not self._future.done():
            is_refused = isinstance(error, StopIteration)
            self._future.set_exception(RuntimeError(f"{error!r} was raised") if is_refused else error)

    def outcome(self) -> asyncio.Future[R]:
        """Return the future of the result."""
        return self._future


W = TypeVar("W", bound=PendingWrite[Any])


class GroupCommit(Generic[W]):
    """Stores writes group by group, in the order in which they came.

    Args:
        store: begins to store a group, and returns a future of the end. By then every write has a result or an error.
        linger: seconds for which a group waits for more writes, where the group before it had more than one.
    """

    def __init__(self, store: Callable[[list[W]], asyncio.Future[None]], linger: float = 0.0) -> None:
        self._store = store
        self._linger = linger
        self._had_company = False
        self.supervisor = Supervisor()
        """Reports a group that could not be stored."""
        self._waiting: list[W] = []
        self._is_urgent = False
        """One of the waiting writes may not lag."""
        self._group: list[W] = []
        self._stored: asyncio.Future[None] | None = None
        self._asked = self._done = 0
        """How many writes came, and how many of them are done."""
        self._group_has_ended = asyncio.Event()
        """Comes with the end of the present group, or of the next one."""
        self._soon: asyncio.Handle | None = None
        self._later: asyncio.Handle | None = None

    @property
    def is_idle(self) -> bool:
        """No write waits, and no group is being stored."""
        return self._done == self._asked

    def add(self, pending: W, *, may_lag: bool = False) -> None:
        """Store a write with the next group; one that may lag waits a moment for a group, before it begins one."""
        self._waiting.append(pending)
        self._asked += 1
        self._is_urgent = self._is_urgent or not may_lag
        if not self._group:
            self._plan()

    async def settle(self) -> None:
        """Wait until all writes that came so far are done, and for none that comes later."""
        last = self._asked
        while self._done < last:
            self._is_urgent = True
            if not self._group:
                self._plan()
            await self._group_has_ended.wait()

    def abandon(self, error: Exception) -> None:
        """Fail all writes that are not done, and end the work on them."""
        left, self._waiting = [*self._group, *self._waiting], []
        for pending in left:
            pending.fail(copy(error))
        if self._stored is not None:
            self._stored.cancel()
        self._cancel_plans()
        self._end(left)

    def _plan(self) -> None:
        """Begin a group in the next turn of the loop, or a moment later if all that waits may lag."""
        loop = asyncio.get_running_loop()
        if self._is_urgent and self._soon is None:
            wait = self._linger if self._had_company else 0.0
            self._soon = loop.call_later(wait, self._begin) if wait else loop.call_soon(self._begin)
        elif not self._is_urgent and self._later is None:
            self._later = loop.call_later(LAG, self._begin)

    def _cancel_plans(self) -> None:
        for handle in (self._soon, self._later):
            if handle is not None:
                handle.cancel()
        self._soon = self._later = None

    def _begin(self) -> None:
        self._cancel_plans()
        self._group, self._waiting = self._waiting[:LARGEST], self._waiting[LARGEST:]
        self._is_urgent, self._had_company = bool(self._waiting), len(self._group) > 1
        try:
            self._stored = self._store(self._group)
        except Exception as error:  # noqa: BLE001 - `_check` reports it
            self._stored = asyncio.get_running_loop().create_future()
            self._stored.set_exception(error)
        self._stored.add_done_callback(partial(self._check, self._group))

    def _check(self, group: list[W], stored: asyncio.Future[None]) -> None:
        """End a group; fail the writes that it left without a result, as where its task was cancelled."""
        error = None if stored.cancelled() else stored.exception()
        if error is not None:
            self.supervisor.failed("journal writes", error)
        for pending in group:
            if not pending.is_done:
                pending.fail(JournalError("The journal failed with an internal error; see the log.", recorded=None))
        if group is self._group:
            self._end(group)
            if self._waiting:
                self._plan()

    def _end(self, group: list[W]) -> None:
        """Count writes as done, and let `settle` look again."""
        self._done += len(group)
        self._group, self._stored = [], None
        has_ended, self._group_has_ended = self._group_has_ended, asyncio.Event()
        has_ended.set()
