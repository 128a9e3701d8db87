"""An event loop over real sockets that has names of its own, and whose time passes only while nothing happens on any of them.

All ends of all connections live in one process. So where no socket has had anything to say for a moment, nothing will happen until the
next timer: the clock is moved on to it. A machine under load makes such a program slower, and never changes what happens in it.
"""

from __future__ import annotations

import asyncio
import selectors
import socket
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeAlias, TypeVar

__all__ = ["IdlingLoop", "Names", "run"]

T = TypeVar("T")

Names: TypeAlias = Callable[[], Awaitable[list[str]]]
"""Looks a name up: its addresses."""

_QUIET: Final = 0.06
"""Seconds without a word on any socket after which it is left to the clock to go on: longer than TCP delays an acknowledgement."""


class _Idling(selectors.DefaultSelector):
    """A selector that waits a moment at most, and moves the clock on if that brought nothing."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready."""
        if timeout is None:
            return super().select()
        ready = super().select(min(timeout, _QUIET))
        if not ready:
            self.now += max(timeout, 0.0)
        return ready


class IdlingLoop(asyncio.SelectorEventLoop):
    """An event loop for real sockets in one process; its clock starts at 0."""

    def __init__(self) -> None:
        self._idling = _Idling()
        super().__init__(self._idling)
        self.names: dict[int, Names] = {}
        """Who looks names up, by the port that is asked for with them; for any other port no name is found."""

    def time(self) -> float:
        """Return the seconds in which nothing happened."""
        return self._idling.now

    async def getaddrinfo(  # type: ignore[override]
        self,
        host: str,
        port: int,
        *,
        family: int = 0,
        type: int = 0,  # noqa: A002 - asyncio's name
        proto: int = 0,
        flags: int = 0,
    ) -> list[tuple[Any, ...]]:
        """Look a name up; nobody outside is ever asked."""
        names = self.names.get(port)
        if names is None:
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return [(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", (one, port)) for one in await names()]


def run(story: Coroutine[Any, Any, T]) -> T:
    """Run a program on such a loop and return its result."""
    with asyncio.Runner(loop_factory=IdlingLoop) as runner:
        return runner.run(story)
