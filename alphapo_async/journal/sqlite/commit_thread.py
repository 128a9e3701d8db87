"""Group commit: one thread that writes down what many ask for at the same time, in one transaction.

While a group is written the next one gathers, so that the more is asked for at once, the less each costs.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import time
from collections.abc import Callable
from copy import copy
from math import inf
from typing import Any, Final, Generic, TypeVar
from weakref import WeakSet

from alphapo_async.supervisor import Supervisor

__all__ = ["CommitThread", "ThreadCall"]

LINGER: Final = 0.002
"""Seconds that a group waits for company at most, where the one before it had some."""
LARGEST: Final = 500
"""Requests in a group: what it writes is seen by others only at its end."""
LAG: Final = 0.05
"""Seconds that a request which may lag waits for a group to ride on."""
_PAUSE: Final = 1.0
"""Seconds after which the thread goes on where it failed between two groups."""

_LET_GO: Final = 1.0
"""Seconds that a fork waits for a thread that is in a transaction."""

C = TypeVar("C")


def _nothing() -> None:
    """Do nothing."""


class ThreadCall(Generic[C]):
    """Something to be done by the thread, and who waits for it."""

    __slots__ = ("due", "error", "future", "loop", "result", "run", "writes")

    def __init__(self, run: Callable[[C], Any], *, writes: bool, lag: float) -> None:
        self.run = run
        self.writes = writes
        self.loop = asyncio.get_running_loop()
        self.future: asyncio.Future[Any] = self.loop.create_future()
        self.due = time.monotonic() + lag
        self.result: Any = None
        self.error: BaseException | None = None

    def fail(self, error: Exception) -> None:
        """Report an error while the thread may still work on the call; called in any loop."""
        if not self.future.done():
            with contextlib.suppress(RuntimeError):  # its loop is closed
                self.loop.call_soon_threadsafe(_set_error, self.future, error)

    def tell(self) -> None:
        """Tell whoever waits; in his loop."""
        if self.future.done():
            return
        if isinstance(self.error, StopIteration):
            self.future.set_exception(
                RuntimeError(f"{self.error!r} was raised")
            )  # a future takes any error but this one
        elif self.error is not None:
            self.future.set_exception(self.error)
        else:
            self.future.set_result(self.result)


class CommitThread(Generic[C]):
    """A thread that serves requests group by group.

    Args:
        name: of the thread.
        serve: called in the thread with each group; sets `result` or `error` of every request and raises nothing.
        end: called in the thread at its end, and before this process is forked: lets go of all that it uses.
        lost: called in a forked child where the thread did not let go of it in time.
        pause: seconds after which the thread goes on where it failed between two groups.
    """

    def __init__(
        self,
        name: str,
        serve: Callable[[list[ThreadCall[C]]], None],
        end: Callable[[], None],
        *,
        lost: Callable[[], None] = _nothing,
        pause: float = _PAUSE,
    ) -> None:
        self._name = name
        self._serve = serve
        self._end = end
        self._lost = lost
        self._pause = pause
        self.supervisor = Supervisor()
        """Reports an error of the thread that is not one of a request's own."""
        self._loop: asyncio.AbstractEventLoop | None = None
        """Where the latest request came from: the thread's errors are reported there."""
        self._is_closing = False
        self._begin()
        _ALL.add(self)

    def _begin(self) -> None:
        """Have no thread and no request."""
        self._waiting: list[ThreadCall[C]] = []
        self._due = inf
        """When the first of them wants to be served."""
        self._lock = threading.Lock()
        self._news = threading.Condition(self._lock)
        self._has_ended = False
        self._ends: list[ThreadCall[C]] = []
        """Calls of `aclose` that wait for the thread's end."""
        self._serving: list[ThreadCall[C]] = []
        self._had_company = False
        self._is_to_stand_still = False
        self._stands_still = False
        self._thread: threading.Thread | None = None

    def ask(self, run: Callable[[C], Any], *, writes: bool = False, may_lag: bool = False) -> asyncio.Future[Any]:
        """Have it done by the thread, and return the future of its result.

        Args:
            run: what to do.
            writes: it changes something.
            may_lag: it need not begin a group; it rides on the next one, or goes by itself a moment later.

        Raises:
            RuntimeError: it is closed, or the system refuses a thread.
        """
        request = ThreadCall(run, writes=writes, lag=LAG if may_lag else 0.0)
        with self._lock:  # itself, not by way of the condition: at every request
            if self._is_closing:
                raise RuntimeError("The journal is closed.")
            if self._thread is None:
                # A daemon, so that a program that forgets to close the journal can end all the same.
                thread = threading.Thread(target=self._work, name=self._name, daemon=True)
                thread.start()
                self._thread = thread
            self._loop = request.loop
            self._waiting.append(request)
            if request.due < self._due:
                # Only what changes when the thread should wake up wakes it: each time costs more than a row.
                self._due = request.due
                self._news.notify()
        return request.future

    async def aclose(self, seconds: float, left: Exception) -> None:
        """Serve what is left and end the thread; a thread that hangs is left behind, and keeps no program from ending.

        Args:
            seconds: how long to wait for that.
            left: the error of every call that was not served by then.
        """
        with self._news:
            self._is_closing = True
            self._news.notify()
            if self._thread is None or self._has_ended:
                return
            end: ThreadCall[C] = ThreadCall(lambda _: None, writes=False, lag=0.0)
            self._ends.append(end)
        try:
            await asyncio.wait({end.future}, timeout=seconds)
        finally:
            if end.future.done():
                self._thread.join()  # it has nothing left to do
            else:
                self._leave_behind(left)

    def _leave_behind(self, left: Exception) -> None:
        """Fail every call that is not served yet; the thread ends when it comes back."""
        with self._lock:
            unserved, self._waiting = [*self._serving, *self._waiting], []
        for call in unserved:
            call.fail(copy(left))

    def _work(self) -> None:
        """Serve groups until closed; nothing but that ends the thread."""
        while not self._has_ended:
            try:
                self._serve_next()
            except BaseException as error:  # noqa: BLE001 - it is reported, and the thread goes on
                self._report(error)
                time.sleep(self._pause)
        _tell(self._ends)

    def _serve_next(self) -> None:
        """Serve a group; where there is none left, end."""
        group = self._next_group()
        if not group:
            self._finish()
            return
        self._had_company = len(group) > 1
        try:
            self._serve(group)
        except BaseException as error:  # noqa: BLE001 - each request fails with it, and it is reported
            for request in group:
                request.error = request.error or error
            self._report(error)
        _tell(group)

    def _finish(self) -> None:
        try:
            self._end()
        finally:
            with self._news:
                self._has_ended = True
                self._news.notify_all()

    def _report(self, error: BaseException) -> None:
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self.supervisor.failed, "journal thread", error)

    def _next_group(self) -> list[ThreadCall[C]]:
        """Wait for requests; none when the group is closed and nothing is left."""
        with self._news:
            while not self._is_closing:
                left = self._due - time.monotonic()
                if self._is_to_stand_still:
                    self._stand_still()
                elif left <= 0:
                    break
                else:
                    self._news.wait(None if left == inf else left)
            if self._had_company and not self._is_closing:
                self._gather()
            group, self._waiting = self._waiting[:LARGEST], self._waiting[LARGEST:]
            self._serving = group
            self._due = min((request.due for request in self._waiting), default=inf)
            return group

    # ── forks ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def let_go(self, seconds: float) -> None:
        """Have the thread let go of all that it uses and stand still; wait so many seconds for that at most."""
        if self._thread is None or not self._lock.acquire(timeout=seconds):
            return
        try:
            self._is_to_stand_still = True
            self._news.notify_all()
            self._news.wait_for(lambda: self._stands_still or self._has_ended, seconds)
        finally:
            self._lock.release()

    def go_on(self) -> None:
        """In the parent: have the thread serve requests again."""
        with self._news:
            self._is_to_stand_still = False
            self._news.notify_all()

    def begin_anew(self) -> None:
        """In the child, which has no such thread: start one with the next request. Requests of the parent are the parent's."""
        if self._thread is not None and not (self._stands_still or self._has_ended):
            self._lost()
        self._begin()

    def _stand_still(self) -> None:
        self._end()
        self._stands_still = True
        self._news.notify_all()
        while self._is_to_stand_still:
            self._news.wait()
        self._stands_still = False

    def _gather(self) -> None:
        """Wait for company, a moment at most, as long as some comes."""
        until = time.monotonic() + LINGER
        known = 0
        while len(self._waiting) > known and (left := until - time.monotonic()) > 0:
            known = len(self._waiting)
            self._news.wait(min(left, LINGER / 4))


def _set_error(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)


def _tell(group: list[ThreadCall[Any]]) -> None:
    """Tell each loop once, whatever it waits for."""
    loops: dict[asyncio.AbstractEventLoop, list[ThreadCall[Any]]] = {}
    for request in group:
        loops.setdefault(request.loop, []).append(request)
    for loop, requests in loops.items():
        try:
            loop.call_soon_threadsafe(_tell_all, requests)
        except RuntimeError:
            continue  # the loop is closed, and nobody waits in it any more


def _tell_all(requests: list[ThreadCall[Any]]) -> None:
    for request in requests:
        request.tell()


_ALL: WeakSet[CommitThread[Any]] = WeakSet()
_FORKING = threading.RLock()
"""Held while this process is forked: two forks at once would let go and go on in turns."""


def _before_fork() -> None:
    _FORKING.acquire()
    for one in list(_ALL):
        one.let_go(_LET_GO)


def _after_fork_in_parent() -> None:
    for one in list(_ALL):
        one.go_on()
    _FORKING.release()


def _after_fork_in_child() -> None:
    global _FORKING  # noqa: PLW0603 - the parent's may be held for ever
    _FORKING = threading.RLock()
    for one in list(_ALL):
        one.begin_anew()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
