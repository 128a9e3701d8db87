"""Who is alive: each worker of a journal file locks a file of its own, which the system unlocks when its process dies.

`flock` belongs to the open file, not to the process: it tells workers of one process apart, and a paused worker keeps its lock.
A free lock proves a death only in the very file that the worker locked; its inode is in the journal. A missing file, or another one of
that name (a journal mounted as a single file, a copied folder, a cleaned one), proves nothing: then the lease alone counts.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import weakref
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
        place = os.open(self._folder / worker, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(place, fcntl.LOCK_EX)
        self._mine[worker] = place
        return os.fstat(place).st_ino

    def leave(self, worker: str) -> None:
        """Remove the file of a worker that left the journal, and unlock it if it is one of this process."""
        place = self._mine.pop(worker, None)
        with contextlib.suppress(OSError):
            (self._folder / worker).unlink()
        if place is not None:
            os.close(place)

    def is_gone(self, worker: str, inode: int | None) -> bool:
        """Tell whether the lock of this worker is seen to be free in the file with this inode, the one that it locked.

        The file stays until the worker has left the journal, so that every other process sees the same.
        """
        try:
            place = os.open(self._folder / worker, os.O_RDWR | os.O_CLOEXEC)
        except OSError:
            return False
        try:
            if os.fstat(place).st_ino != inode:
                return False
            fcntl.flock(place, fcntl.LOCK_SH | fcntl.LOCK_NB)  # shared: two that look at once do not hinder each other
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


_ALL = weakref.WeakSet()


def _after_fork() -> None:
    for workers in _ALL:
        workers.forget()


os.register_at_fork(after_in_child=_after_fork)
