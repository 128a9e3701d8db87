"""An event loop with virtual time: it jumps to the next timer whenever nothing else is to be done."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class _Jumping(selectors.SelectSelector):
    """A selector that never waits: instead of sleeping it moves the clock on."""

    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready; move the clock on by the time that nobody has to wait for."""
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("Nothing is left to happen: the program waits for ever.")
        if not ready and timeout:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock starts at 0 and knows no waiting; for programs without sockets."""

    def __init__(self) -> None:
        self._jumping = _Jumping()
        super().__init__(self._jumping)
        self.set_debug(
            False
        )  # a stack for every callback would make hours of virtual days, and nothing here blocks for real

    def time(self) -> float:
        """Return virtual seconds."""
        return self._jumping.now


def run(story: Coroutine[Any, Any, T]) -> T:
    """Run a program in virtual time and return its result."""
    with asyncio.Runner(loop_factory=VirtualLoop) as runner:
        return runner.run(story)
