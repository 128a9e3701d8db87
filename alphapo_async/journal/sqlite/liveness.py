"""Which workers are alive: each worker of a journal file locks a file of its own, which the system unlocks when its process dies.

`flock` belongs to the open file, not to the process: it distinguishes workers of one process, and a paused worker keeps its lock.
A free lock proves a death only in the very file that the worker locked; its inode is in the journal. A missing file, or another one of
that name (a journal mounted as a single file, a copied folder, a cleaned one), proves nothing: then the lease alone counts.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import weakref
from collections.abc import Collection
from pathlib import Path

__all__ = ["LivenessLocks"]

_ALL: weakref.WeakSet[LivenessLocks]


class LivenessLocks:
    """The workers of one journal file.

    Args:
        folder: where their files are; made when the first one joins.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mine: dict[str, int] = {}
        _ALL.add(self)

    def join(self, worker: str) -> int:
        """Lock a file for this worker, until it leaves or its process dies; return the file's inode, for the journal.

        Raises:
            OSError: the folder or the file cannot be made.
        """
        self._folder.mkdir(mode=0o700, exist_ok=True)
        try:
            while (inode := self._lock(worker)) is None:
                pass  # another process removed the file before it was locked
        except BaseException:
            self.leave(worker)
            raise
        return inode

    def _lock(self, worker: str) -> int | None:
        """Lock the worker's file and return its inode; None if the file was removed meanwhile."""
        place, is_kept = os.open(self._folder / worker, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), False
        try:
            fcntl.flock(place, fcntl.LOCK_EX)
            found = os.fstat(place)
            is_kept = found.st_nlink > 0
            if is_kept:
                self._mine[worker] = place
            return found.st_ino if is_kept else None
        finally:
            if not is_kept:
                os.close(place)

    def leave(self, worker: str) -> None:
        """Remove the file of a worker that left the journal, and unlock it if it is one of this process."""
        with contextlib.suppress(OSError):
            (self._folder / worker).unlink()
        self.unlock(worker)

    def unlock(self, worker: str) -> None:
        """Unlock the file of a worker of this process, and leave it there: other processes see that the worker is gone."""
        place = self._mine.pop(worker, None)
        if place is not None:
            os.close(place)

    def remove_stale(self, listed: Collection[str]) -> None:
        """Remove the unlocked files of workers that are not listed in the journal: their processes died before they were listed."""
        with contextlib.suppress(OSError):
            for file in list(self._folder.iterdir()):
                if file.name not in listed and file.name not in self._mine:
                    _remove_if_free(file)

    def is_gone(self, worker: str, inode: int | None) -> bool:
        """Return whether the lock of this worker is seen to be free in the file that it locked, the one with this inode.

        The file stays until the worker has left the journal: every other process sees the same.
        """
        try:
            place = os.open(self._folder / worker, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            if os.fstat(place).st_ino != inode:
                return False
            fcntl.flock(
                place, fcntl.LOCK_SH | fcntl.LOCK_NB
            )  # shared: two processes that look at once do not hinder each other
        except OSError:
            return False
        else:
            return True
        finally:
            os.close(place)

    def forget(self) -> None:
        """After a fork: the locks are the parent's, and must not outlive it in the child."""
        for place in self._mine.values():
            os.close(place)
        self._mine.clear()


def _remove_if_free(file: Path) -> None:
    with contextlib.suppress(OSError):  # also where it is locked: by a worker that is about to be listed
        place = os.open(file, os.O_RDWR | os.O_CLOEXEC)
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
            file.unlink()
        finally:
            os.close(place)


_ALL = weakref.WeakSet()


def _after_fork() -> None:
    for workers in _ALL:
        workers.forget()


os.register_at_fork(after_in_child=_after_fork)
