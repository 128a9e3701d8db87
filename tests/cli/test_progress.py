"""The progress of a command."""

from __future__ import annotations

import asyncio
import io
import re
from collections import Counter

import pyte
import pytest
from rich.console import Console

from alphapo_async.cli.progress import duration, moving_line, progress_line, show_progress


def test_a_line_tells_the_commonest_outcome_first() -> None:
    """So many of so many, and what was told."""
    assert progress_line(Counter(), 520) == "0 of 520 finished"
    assert progress_line(Counter(not_sent=1, accepted=3), 5_200) == "4 of 5,200 finished: 3 accepted, 1 not sent"


def test_a_line_tells_how_fast_it_goes_and_how_long_it_will_take() -> None:
    """As far as that can be said."""
    assert moving_line(Counter(), 520, 0.0) == "0 of 520 finished"
    assert moving_line(Counter(accepted=20), 520, 0.5) == "20 of 520 finished, 0.5/s, 0:16:40 left: 20 accepted"
    assert moving_line(Counter(accepted=520), 520, 1_234.5) == "520 of 520 finished, 1,234/s: 520 accepted"


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.4, "0.4 s"),
        (3, "3 s"),
        (59.6, "1 min"),
        (1_000, "16 min 40 s"),
        (3_661, "1 h 1 min"),
        (7_200, "2 h"),
        (1e7, "2,777 h 46 min"),
    ],
)
def test_a_duration_has_its_two_largest_units(seconds: float, words: str) -> None:
    """However long it is."""
    assert duration(seconds) == words


async def test_a_pipe_gets_lines_while_it_runs_and_one_at_the_end() -> None:
    """Plain lines, without a terminal's codes, and each of them once: what has not moved is not said again."""
    result = io.StringIO()
    async with show_progress(Console(file=result, width=100), 2, every=0.01) as advance:
        advance("accepted")
        await asyncio.sleep(0.3)
        advance("unknown")
        await asyncio.sleep(0.3)
    lines = result.getvalue().splitlines()
    assert [re.split("[,:]", line)[0] for line in lines] == ["1 of 2 finished", "2 of 2 finished"]
    assert re.fullmatch(r"2 of 2 finished(, [\d.]+/s)?: 1 accepted, 1 unknown", lines[-1])
    assert "\x1b" not in result.getvalue()


async def test_the_speed_is_that_of_the_rows_that_were_sent() -> None:
    """Rows that were stopped, paid before or invalid have their outcomes at once, and would make it any speed."""
    shown = io.StringIO()
    async with show_progress(Console(file=shown, width=100), 1_010, every=0.05) as advance:
        for _ in range(10):
            advance("accepted")
            await asyncio.sleep(0.05)
        for _ in range(1_000):
            advance("not_sent", is_sent=False)
    last = shown.getvalue().splitlines()[-1]
    speed = re.fullmatch(r"1,010 of 1,010 finished, ([\d.]+)/s: 1,000 not sent, 10 accepted", last)
    assert speed is not None
    assert float(speed[1]) < 50


async def test_no_time_is_left_while_it_stops() -> None:
    """Nothing more is sent, and the rows that are left are not waited for: the speed says nothing about the end."""
    shown, is_stopping = io.StringIO(), asyncio.Event()
    console = Console(file=shown, width=100)
    async with show_progress(console, 1_000, every=0.01, is_stopping=is_stopping.is_set) as advance:
        for _ in range(2):
            for _ in range(5):
                advance("accepted")
                await asyncio.sleep(0.02)
            is_stopping.set()
    lines = shown.getvalue().splitlines()
    assert any(line.endswith(" left: 3 accepted") for line in lines)
    assert re.fullmatch(r"10 of 1,000 finished, [\d.]+/s: 10 accepted", lines[-1])


class Screen(io.StringIO):
    """A terminal: what is written is drawn, and every picture that a person could see is kept."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self._screen = pyte.Screen(width, 20)
        self._stream = pyte.Stream(self._screen)
        self.pictures: list[list[str]] = []

    def write(self, text: str) -> int:
        self._stream.feed(text.replace("\n", "\r\n"))
        self.pictures.append([line.rstrip() for line in self._screen.display if line.strip()])
        return len(text)


@pytest.mark.parametrize("width", [40, 80, 120])
async def test_a_terminal_gets_a_bar_and_the_outcomes_each_on_one_line(width: int) -> None:
    """Never more than two lines, whatever the width: nothing wraps, and nothing else appears or is left behind."""
    screen = Screen(width)
    outcomes = ["accepted"] * 60 + ["rejected", "not_sent", "unknown", "failed", "conflict", "invalid"] * 10
    async with show_progress(Console(file=screen, force_terminal=True, width=width), 1_000_120, every=0.005) as advance:
        for outcome in outcomes:
            advance(outcome)
            await asyncio.sleep(0.001)
    seen = [picture for picture in screen.pictures if picture]
    assert len(seen) > 5
    assert max(map(len, seen)) == 2
    bar, result = seen[-1]
    assert bar.startswith("paying")
    assert "120/1,000,120" in bar
    assert result.startswith("60 accepted, 10 rejected")
    assert result.endswith("…") is (width <= 80)


class Broken(Console):
    """A console that cannot draw."""

    def print(self, *_objects: object, **_how: object) -> None:
        """Fail."""
        raise RuntimeError


async def test_a_picture_that_cannot_be_drawn_ends_nothing() -> None:
    """What it shows may be payments."""
    async with show_progress(Broken(file=io.StringIO()), 2, every=0.001) as advance:
        advance("accepted")
        await asyncio.sleep(0.01)
        advance("accepted")
