"""Who is alive: each worker of a journal file locks a file of its own, which the system unlocks when its process dies.

`flock` belongs to the open file, not to the process, so that workers of one process are told apart, and a paused worker keeps its lock.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import weakref
from pathlib import Path

__all__ = ["Workers"]

_ALL: weakref.WeakSet[Workers]


class Workers:
    """The workers of one journal file.

    Args:
        folder: where their files are; made when the first one joins.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mine: dict[str, int] = {}
        _ALL.add(self)

    def join(self, worker: str) -> None:
        """Count this worker as alive, until it leaves or its process dies.

        Raises:
            OSError: the folder or the file cannot be made.
        """
        self._folder.mkdir(mode=0o700, exist_ok=True)
        place = os.open(self._folder / worker, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(place, fcntl.LOCK_EX)
        self._mine[worker] = place

    def leave(self, worker: str) -> None:
        """Let go of this worker's file."""
        place = self._mine.pop(worker, None)
        if place is not None:
            with contextlib.suppress(OSError):
                (self._folder / worker).unlink()
            os.close(place)

    def is_gone(self, worker: str) -> bool:
        """Tell whether this worker is dead or has left; its file is cleared away if so."""
        try:
            place = os.open(self._folder / worker, os.O_RDWR | os.O_CLOEXEC)
        except FileNotFoundError:
            return True
        except OSError:
            return False
        try:
            fcntl.flock(place, fcntl.LOCK_EX | fcntl.LOCK_NB)
            (self._folder / worker).unlink(missing_ok=True)
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
