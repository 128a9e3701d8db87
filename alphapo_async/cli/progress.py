"""How far a command is: a bar on a terminal, a line every few seconds elsewhere."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter, deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Final, TypeAlias

from rich.console import Console, RenderableType
from rich.progress import BarColumn, Progress, TextColumn
from rich.text import Text

__all__ = ["Advance", "Speed", "duration", "moving_line", "progress_line", "show_progress"]

_EVERY: Final = 2.0  # seconds between two lines
_EVERY_FRAME: Final = 0.1
_WINDOW: Final = 30.0  # seconds over which the speed is measured

Advance: TypeAlias = Callable[[str], None]
"""Called with the outcome of every row that has one."""


class Speed:
    """How many rows a second there were lately.

    Args:
        clock: seconds, from wherever.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._seen: deque[tuple[float, int]] = deque([(clock(), 0)])

    def __repr__(self) -> str:
        return f"Speed({len(self._seen)} moments)"

    def measure(self, done: int) -> float:
        """Return the rows a second over the last half minute, now that so many are done."""
        now = self._clock()
        self._seen.append((now, done))
        while len(self._seen) > 2 and now - self._seen[1][0] >= _WINDOW:  # noqa: PLR2004 - a stretch has two ends
            self._seen.popleft()
        since, before = self._seen[0]
        return (done - before) / (now - since) if now > since else 0.0


@contextlib.asynccontextmanager
async def show_progress(
    console: Console, total: int, every: float | None = None, speed: Speed | None = None
) -> AsyncIterator[Advance]:
    """Show how many rows have their outcome while the block runs.

    Args:
        console: a terminal shows a bar, anything else lines.
        total: rows.
        every: seconds between two looks.
        speed: measures how fast it goes.
    """
    done: Counter[str] = Counter()
    speed = speed or Speed()
    view = _bar if console.is_terminal else _lines
    drawing = contextlib.ExitStack()
    show = drawing.enter_context(view(console, total))

    def show_now() -> None:
        with contextlib.suppress(Exception):  # a picture that cannot be drawn must not end what it shows
            show(done, speed.measure(done.total()))

    showing = asyncio.create_task(_again(show_now, every, console))
    try:
        yield lambda outcome: done.update((outcome,))
    finally:
        showing.cancel()
        show_now()
        with contextlib.suppress(Exception):
            drawing.close()


_Show: TypeAlias = Callable[[Counter[str], float], None]


async def _again(show: Callable[[], None], every: float | None, console: Console) -> None:
    pause = every or (_EVERY_FRAME if console.is_terminal else _EVERY)
    while True:
        show()
        await asyncio.sleep(pause)


@contextlib.contextmanager
def _lines(console: Console, total: int) -> Iterator[_Show]:
    said: Counter[str] | None = None

    def show(done: Counter[str], rate: float) -> None:
        nonlocal said
        if done != said:  # what has not moved is not said again
            said = done.copy()
            console.print(moving_line(done, total, rate))

    yield show


@contextlib.contextmanager
def _bar(console: Console, total: int) -> Iterator[_Show]:
    with _Bar(console, total) as bar:
        yield bar.show


class _Bar(Progress):
    """A bar with the speed and the time left, and below it a line with the outcomes; neither is ever wrapped."""

    def __init__(self, console: Console, total: int) -> None:
        self._outcomes = ""
        super().__init__(
            TextColumn("paying"),
            BarColumn(bar_width=None),
            TextColumn("{task.fields[told]}"),
            console=console,
            auto_refresh=False,
            expand=True,
        )
        self._task = self.add_task("paying", total=total, told="")

    def show(self, done: Counter[str], rate: float) -> None:
        """Show how far it is."""
        total = int(self.tasks[0].total or 0)
        self._outcomes = _outcomes(done)
        told = f"{done.total():,}/{total:,}  {_rate(done, total, rate)}"
        self.update(self._task, completed=done.total(), told=told)
        self.refresh()

    def get_renderables(self) -> Iterable[RenderableType]:
        """Return what is drawn."""
        yield self.make_tasks_table(self.tasks)
        yield Text(self._outcomes, no_wrap=True, overflow="ellipsis")


def progress_line(done: Counter[str], total: int) -> str:
    """Return how far it is, in a line."""
    outcomes = _outcomes(done)
    return f"{done.total():,} of {total:,} told{': ' if outcomes else ''}{outcomes}"


def moving_line(done: Counter[str], total: int, rate: float) -> str:
    """Return how far it is, how fast it goes and how long it will take."""
    head, colon, outcomes = progress_line(done, total).partition(": ")
    return f"{head}, {_rate(done, total, rate)}{colon}{outcomes}"


def _rate(done: Counter[str], total: int, rate: float) -> str:
    left = total - done.total()
    if left <= 0 or rate <= 0:
        return f"{rate:,.0f}/s"
    return f"{rate:,.0f}/s, {duration(left / rate)} left"


def duration(seconds: float) -> str:
    """Return hours, minutes and seconds."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def _outcomes(done: Counter[str]) -> str:
    return ", ".join(f"{number:,} {outcome.replace('_', ' ')}" for outcome, number in done.most_common())
