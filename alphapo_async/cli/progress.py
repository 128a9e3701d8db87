"""How far the demo is: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from typing import TypeAlias

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

__all__ = ["Advance", "progress_line", "show_progress"]

_EVERY = 2.0  # seconds between two lines

Advance: TypeAlias = Callable[[str], None]
"""Called with the outcome of every row that has one."""


@contextlib.asynccontextmanager
async def show_progress(console: Console, total: int, every: float = _EVERY) -> AsyncIterator[Advance]:
    """Show how many rows have their outcome while the block runs.

    Args:
        console: a terminal shows a bar, anything else lines.
        total: rows.
        every: seconds between two lines.
    """
    done: Counter[str] = Counter()
    if console.is_terminal:
        with _bar(console, total) as advance:
            yield advance
        return
    lines = asyncio.create_task(_lines(console, done, total, every))
    try:
        yield lambda outcome: done.update([outcome])
    finally:
        lines.cancel()
        console.print(progress_line(done, total))


def progress_line(done: Counter[str], total: int) -> str:
    """Return how far it is, in a line."""
    outcomes = ", ".join(f"{number} {outcome.replace('_', ' ')}" for outcome, number in done.most_common())
    return f"{done.total()} of {total} told{': ' if outcomes else ''}{outcomes}"


async def _lines(console: Console, done: Counter[str], total: int, every: float) -> None:
    while True:
        console.print(progress_line(done, total))
        await asyncio.sleep(every)


@contextlib.contextmanager
def _bar(console: Console, total: int) -> Iterator[Advance]:
    columns = (TextColumn("paying"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("paying", total=total)
        yield lambda _outcome: progress.advance(task)
