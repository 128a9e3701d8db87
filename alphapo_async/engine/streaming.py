"""Many at once, a bounded number at a time, handed on as they finish."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import Any, Final, TypeVar

from alphapo_async.core.errors import AlphapoError
from alphapo_async.supervisor import log_error

__all__ = ["as_finished"]

T = TypeVar("T")
R = TypeVar("R")

_LEFT: Final[set[asyncio.Task[Any]]] = set()
"""Jobs of callers that were cancelled: an event loop alone keeps no task alive."""


async def as_finished(items: AsyncIterable[T], job: Callable[[T], Awaitable[R]], concurrency: int) -> AsyncIterator[R]:
    """Yield the results of a job over items, in the order in which they finish.

    Closing early, or an error, takes no more items and waits for the jobs that are under way. A caller that is cancelled leaves at once,
    and these jobs continue.

    Args:
        items: what to work on; asked for the next one only when there is room.
        job: works on one item, and raises nothing that is to be survived.
        concurrency: how many jobs run at once.
    """
    running: set[asyncio.Task[R]] = set()
    done: set[asyncio.Task[R]] = set()
    try:
        async for item in items:
            running.add(asyncio.ensure_future(job(item)))
            if len(running) >= concurrency:
                done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
                for task in done:
                    yield task.result()
        while running:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                yield task.result()
    except asyncio.CancelledError:
        for task in running:
            _LEFT.add(task)
            task.add_done_callback(_ended_alone)
        running = set()
        raise
    finally:
        # One error is raised already; the others are retrieved as well, or asyncio would warn of them.
        await asyncio.gather(*running, *done, return_exceptions=True)


def _ended_alone(task: asyncio.Task[Any]) -> None:
    """Forget a job whose caller was cancelled; log its error, since no caller receives it."""
    _LEFT.discard(task)
    error = None if task.cancelled() else task.exception()
    if error is not None and not isinstance(error, AlphapoError):
        log_error("a job whose caller was cancelled", error)
