"""Clocks that a test sets, and a journal with a clock of its own."""

from __future__ import annotations

import asyncio

from alphapo_async.journal.memory import MemoryJournal

__all__ = ["ClockedJournal", "WallClock"]


class ClockedJournal(MemoryJournal):
    """A journal that outlives its process, with a clock.

    Args:
        seconds: that each look at the clock takes, in turn; the last one stands for all that follow.
        ahead: seconds by which the clock is ahead of this machine's.
    """

    def __init__(self, *seconds: float, ahead: float = 1_000.0) -> None:
        super().__init__()
        self.is_durable = True
        self.looks = 0
        self._seconds = seconds
        self._ahead = ahead

    async def time(self) -> float:  # type: ignore[override]
        """Return the time as it is at the end of the look."""
        took = self._seconds[min(self.looks, len(self._seconds) - 1)]
        self.looks += 1
        await asyncio.sleep(took)
        return asyncio.get_running_loop().time() + self._ahead


class WallClock:
    """This machine's wall clock, which can be set."""

    def __init__(self) -> None:
        self.set_by = 0.0

    def __call__(self) -> float:
        """Return seconds since the epoch."""
        return asyncio.get_running_loop().time() + self.set_by
