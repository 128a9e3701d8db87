"""Waiting for other processes that lock the journal's file: in short slices, which closing ends."""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Callable
from math import inf
from typing import Final, TypeVar

__all__ = ["BUSY", "SLICE", "BusyWait", "is_busy"]

BUSY: Final = 30.0
"""Seconds to wait for another process that writes."""
SLICE: Final = 0.25
"""Seconds that one statement waits inside SQLite, where nothing can interrupt it."""

T = TypeVar("T")


class BusyWait:
    """Runs statements again while another process locks the file.

    Args:
        seconds: how long one statement may wait.
        time: seconds by a clock that is never set.
    """

    def __init__(self, seconds: float = BUSY, time: Callable[[], float] = time.monotonic) -> None:
        self._seconds = seconds
        self._time = time
        self._ends_at = inf

    def end_within(self, seconds: float) -> None:
        """End every wait after so many seconds, those included that begin later; called from any thread."""
        self._ends_at = min(self._ends_at, self._time() + seconds)

    @property
    def has_ended(self) -> bool:
        """Every wait is over: statements that come later do not wait at all."""
        return self._time() >= self._ends_at

    def run(self, work: Callable[[], T]) -> T:
        """Return what `work` returns; while the file is locked it is run again from its beginning.

        Raises:
            sqlite3.Error: it failed for another reason, or the file stayed locked.
        """
        until = self._time() + self._seconds
        while True:
            try:
                return work()
            except sqlite3.Error as error:
                if not is_busy(error) or self._is_over(until):
                    raise

    def copy(self, source: sqlite3.Connection, target: sqlite3.Connection) -> None:
        """Copy a database; a copy waits inside sqlite3 for as long as the source is locked, and is interrupted here.

        Raises:
            sqlite3.Error: it failed, or the source stayed locked.
        """
        until = self._time() + self._seconds

        def check(status: int, _remaining: int, _pages: int) -> None:
            if status == sqlite3.SQLITE_BUSY and self._is_over(until):
                raise sqlite3.OperationalError("database is locked")

        source.backup(target, progress=check, sleep=SLICE)

    def _is_over(self, until: float) -> bool:
        return self._time() >= min(until, self._ends_at)


def is_busy(error: Exception) -> bool:
    """Return whether another process locks the file."""
    code: int = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_OK)
    return code & 0xFF == sqlite3.SQLITE_BUSY
