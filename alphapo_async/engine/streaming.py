"""Many at once, a bounded number at a time, handed on as they finish."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable
from typing import TypeVar

__all__ = ["as_finished"]

T = TypeVar("T")
R = TypeVar("R")


async def as_finished(items: AsyncIterable[T], job: Callable[[T], Awaitable[R]], concurrency: int) -> AsyncIterator[R]:
    """Yield the results of a job over items, in the order in which they finish.

    Closing early, or an error, takes no more items and waits for the jobs that are under way.

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
    finally:
        # One error is raised already; the others are heard as well, or asyncio would complain of them.
        await asyncio.gather(*running, *done, return_exceptions=True)
