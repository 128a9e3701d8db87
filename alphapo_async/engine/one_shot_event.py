"""A moment: something that comes once, and that somebody may wait for."""

from __future__ import annotations

import asyncio

__all__ = ["OneShotEvent"]


class OneShotEvent:
    """An event for which hardly ever anybody waits: until somebody does, it costs next to nothing."""

    _is_set = False
    _awaited: asyncio.Event | None = None

    def __repr__(self) -> str:
        return f"OneShotEvent({'past' if self._is_set else 'to come'})"

    def set(self) -> None:
        """It is here: whoever waits goes on, and nobody has to wait any more."""
        self._is_set = True
        if self._awaited is not None:
            self._awaited.set()

    async def wait(self) -> None:
        """Wait until it has come."""
        if self._is_set:
            return
        if self._awaited is None:
            self._awaited = asyncio.Event()
        await self._awaited.wait()
