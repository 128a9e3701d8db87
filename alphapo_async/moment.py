"""A moment: something that comes once, and that somebody may wait for."""

from __future__ import annotations

import asyncio

__all__ = ["Moment"]


class Moment:
    """An event for which hardly ever anybody waits: until somebody does, it costs next to nothing."""

    _has_come = False
    _awaited: asyncio.Event | None = None

    def __repr__(self) -> str:
        return f"Moment({'past' if self._has_come else 'to come'})"

    def come(self) -> None:
        """It is here: whoever waits goes on, and nobody has to wait any more."""
        self._has_come = True
        if self._awaited is not None:
            self._awaited.set()

    async def wait(self) -> None:
        """Wait until it has come."""
        if self._has_come:
            return
        if self._awaited is None:
            self._awaited = asyncio.Event()
        await self._awaited.wait()
