"""The event loop of the command line: uvloop's where it is installed (extra `uvloop`), else asyncio's own; and Ctrl-C."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, TypeVar

from alphapo_async.cli.exit_codes import Exit
from alphapo_async.cli.output import echo

__all__ = ["interruptible", "loop_factory", "run"]

T = TypeVar("T")


def run(story: Coroutine[Any, Any, T]) -> T:
    """Run a command's story to its end, as `asyncio.run` does."""
    with asyncio.Runner(loop_factory=loop_factory()) as runner:
        return runner.run(story)


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return what makes the loop; None for asyncio's own."""
    try:
        import uvloop  # noqa: PLC0415 - an extra
    except ModuleNotFoundError:
        return None
    return uvloop.new_event_loop


@contextlib.contextmanager
def interruptible(sentence: str) -> Iterator[None]:
    """End with this sentence on a Ctrl-C that no other code handles."""
    try:
        yield
    except KeyboardInterrupt:
        echo(sentence, err=True)
        sys.exit(Exit.UNKNOWN)
