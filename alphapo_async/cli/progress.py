"""The progress of a command: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterable
from typing import Final, Protocol

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

__all__ = ["Advance", "duration", "moving_line", "progress_line", "show_progress"]

_LINE_EVERY: Final = 2.0  # seconds
_FRAME_EVERY: Final = 0.1  # seconds
_WHOLE: Final = 10
"""From so many rows a second the speed is shown without decimals."""


class Advance(Protocol):
    """Called with the outcome of every row that has one."""

    def __call__(self, outcome: str, *, is_sent: bool = True) -> None:
        """Count a row; the speed is that of the rows that were sent."""


@contextlib.asynccontextmanager
async def show_progress(
    console: Console, total: int, every: float | None = None, is_stopping: Callable[[], bool] = bool
) -> AsyncIterator[Advance]:
    """Show how many rows have their outcome while the block runs.

    Args:
        console: a terminal shows a bar, anything else lines.
        total: rows.
        every: seconds between two pictures or lines.
        is_stopping: whether nothing more is sent: then no time is left to be shown.
    """
    done: Counter[str] = Counter()
    sent = 0
    view = (_Bar if console.is_terminal else _Lines)(console, total, is_stopping)

    def show_now() -> None:
        with contextlib.suppress(Exception):  # a picture that cannot be drawn must not end the payments that it shows
            view.show(done, sent)

    def advance(outcome: str, *, is_sent: bool = True) -> None:
        nonlocal sent
        done[outcome] += 1
        sent += is_sent

    view.start()
    showing = asyncio.create_task(_again(show_now, every or (_FRAME_EVERY if console.is_terminal else _LINE_EVERY)))
    try:
        yield advance
    finally:
        showing.cancel()
        show_now()
        with contextlib.suppress(Exception):
            view.stop()


async def _again(show: Callable[[], None], pause: float) -> None:
    while True:
        show()
        await asyncio.sleep(pause)


class _Bar(Progress):
    """A bar with the speed and the time left, and below it a line with the outcomes; neither is ever wrapped."""

    def __init__(self, console: Console, total: int, is_stopping: Callable[[], bool]) -> None:
        self._outcomes = ""
        self._total = total
        self._is_stopping = is_stopping
        super().__init__(
            TextColumn("paying"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[figures]}"),
            console=console,
            auto_refresh=False,
            expand=True,
        )
        self._task = self.add_task("paying", total=total, figures="")
        self._sending = self.add_task("sending", total=total, figures="", visible=False)

    def measure(self, sent: int) -> float:
        """Take note of how many rows were sent; return rich's estimate of the rows a second over the last half minute."""
        self.update(self._sending, completed=sent)
        return self.tasks[1].speed or 0.0

    def show(self, done: Counter[str], sent: int) -> None:
        """Draw the bar and the outcomes."""
        rate = _rate(done, self._total, self.measure(sent), is_stopping=self._is_stopping())
        self._outcomes = _outcomes(done)
        self.update(self._task, completed=done.total(), figures=f"{done.total():,}/{self._total:,}  {rate}".rstrip())
        self.refresh()

    def get_renderables(self) -> Iterable[RenderableType]:
        """Return what is drawn."""
        yield self.make_tasks_table(self.tasks)
        yield Text(self._outcomes, no_wrap=True, overflow="ellipsis")


class _Lines(_Bar):
    """A line whenever rows have been added; it draws no bar."""

    _shown: Counter[str] | None = None

    def start(self) -> None:
        """Draw nothing."""

    stop = start

    def show(self, done: Counter[str], sent: int) -> None:
        """Print a line, unless it would repeat the one before."""
        rate = self.measure(sent)
        if done != self._shown:
            self._shown = done.copy()
            self.console.print(moving_line(done, self._total, rate, is_stopping=self._is_stopping()))


def progress_line(done: Counter[str], total: int) -> str:
    """Return the progress in a line."""
    outcomes = _outcomes(done)
    return f"{done.total():,} of {total:,} finished{': ' if outcomes else ''}{outcomes}"


def moving_line(done: Counter[str], total: int, rate: float, *, is_stopping: bool = False) -> str:
    """Return the progress, the speed and, unless it is stopping, the time left, in a line."""
    head, colon, outcomes = progress_line(done, total).partition(": ")
    speed = _rate(done, total, rate, is_stopping=is_stopping)
    return f"{head}{', ' if speed else ''}{speed}{colon}{outcomes}"


def _rate(done: Counter[str], total: int, rate: float, *, is_stopping: bool) -> str:
    """Return the speed and the time left as text; empty where the speed is not known yet."""
    left = total - done.total()
    if rate <= 0:
        return ""
    speed = f"{rate:,.0f}/s" if rate >= _WHOLE else f"{rate:.1f}/s"
    return speed if left <= 0 or is_stopping else f"{speed}, {_clock(left / rate)} left"


def _clock(seconds: float) -> str:
    """Return hours, minutes and seconds, short enough for a bar."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def duration(seconds: float) -> str:
    """Return a time in words, in its two largest units: `0.4 s`, `3 s`, `16 min 40 s`, `2 h`."""
    if seconds < 1:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours:,} h {minutes} min" if minutes else f"{hours:,} h"
    return (f"{minutes} min {rest} s" if rest else f"{minutes} min") if minutes else f"{rest} s"


def _outcomes(done: Counter[str]) -> str:
    return ", ".join(f"{number:,} {outcome.replace('_', ' ')}" for outcome, number in done.most_common())
