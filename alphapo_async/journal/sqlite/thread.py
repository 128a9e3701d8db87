"""The thread that works on a journal's file, and that uses nothing of it while this process is forked."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Final, NamedTuple
from weakref import WeakSet

__all__ = ["JournalThread"]

_LET_GO: Final = 1.0
"""Seconds for which a fork waits for a thread that is in a transaction."""


class _Work(NamedTuple):
    """What the thread has to do, and the future of its end."""

    run: Callable[[], None]
    loop: asyncio.AbstractEventLoop
    done: asyncio.Future[None]


class JournalThread:
    """A daemon thread that does one thing after another: a program that forgets to close its journal can end all the same.

    Args:
        name: of the thread.
        release: closes all that the work uses. The journal's thread calls it at its end, the thread that forks before a fork.
        after_fork: called in a forked child with whether all was released in time.
    """

    def __init__(self, name: str, release: Callable[[], None], after_fork: Callable[[bool], None]) -> None:
        self._name = name
        self._release = release
        self._after_fork = after_fork
        self._is_closing = False
        self._begin()
        _ALL.add(self)

    def _begin(self) -> None:
        """Have no thread and no work."""
        self._lock = threading.Lock()
        self._work: SimpleQueue[_Work | None] = SimpleQueue()
        self._in_use = threading.Lock()
        """Held while work is done, and during a fork."""
        self._thread: threading.Thread | None = None
        self._has_ended = False
        self._ends: list[_Work] = []
        """Calls of `aclose` that wait for the thread's end."""
        self._is_held = False

    def run(self, work: Callable[[], None]) -> asyncio.Future[None]:
        """Have work done by the thread, and return the future of its end, or of the error that it raised.

        Raises:
            RuntimeError: the thread is closed, or the system refuses one.
        """
        loop = asyncio.get_running_loop()
        wanted = _Work(work, loop, loop.create_future())
        with self._lock:
            if self._is_closing:
                raise RuntimeError("The journal is closed.")
            if self._thread is None:
                thread = threading.Thread(target=self._serve, name=self._name, daemon=True)
                thread.start()
                self._thread = thread
            self._work.put(wanted)
        return wanted.done

    async def aclose(self) -> None:
        """Do what is left, release everything and end the thread; a caller that does not wait for that leaves the thread behind."""
        loop = asyncio.get_running_loop()
        with self._lock:
            self._is_closing = True
            if self._thread is None or self._has_ended:
                return
            self._work.put(None)
            self._ends.append(end := _Work(self._release, loop, loop.create_future()))
        await end.done
        self._thread.join()  # it has nothing left to do

    def _serve(self) -> None:
        while (wanted := self._work.get()) is not None:
            self._do(wanted)
        with self._lock:
            self._has_ended = True
        for end in self._ends:
            self._do(end)

    def _do(self, wanted: _Work) -> None:
        error: BaseException | None = None
        with self._in_use:
            try:
                wanted.run()
            except BaseException as raised:  # noqa: BLE001 - the loop that asked for it gets the error
                error = raised
        with contextlib.suppress(RuntimeError):  # the loop is closed
            wanted.loop.call_soon_threadsafe(_finish, wanted.done, error)

    # ── forks ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def let_go(self, seconds: float = _LET_GO) -> None:
        """Before a fork: release everything, unless the thread is in the middle of its work for so many seconds."""
        if self._thread is not None and self._in_use.acquire(timeout=seconds):
            self._is_held = True
            self._release()

    def resume(self) -> None:
        """In the parent: have the thread work again."""
        if self._is_held:
            self._is_held = False
            self._in_use.release()

    def begin_anew(self) -> None:
        """In the child, which has no such thread: start one with the next work. What the parent asked for is done by the parent."""
        is_released = self._thread is None or self._is_held
        self._begin()
        self._after_fork(is_released)


def _finish(done: asyncio.Future[None], error: BaseException | None) -> None:
    if done.done():
        return
    if error is None:
        done.set_result(None)
    else:
        done.set_exception(error)


_ALL: WeakSet[JournalThread] = WeakSet()
_FORKING = threading.RLock()
"""Held while this process is forked: two forks at once come one after the other."""


def _before_fork() -> None:
    _FORKING.acquire()
    for one in list(_ALL):
        one.let_go()


def _after_fork_in_parent() -> None:
    for one in list(_ALL):
        one.resume()
    _FORKING.release()


def _after_fork_in_child() -> None:
    global _FORKING  # noqa: PLW0603 - the parent's may never be released in the child
    _FORKING = threading.RLock()
    for one in list(_ALL):
        one.begin_anew()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
