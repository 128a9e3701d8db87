"""How far it is."""

from __future__ import annotations

import asyncio
import io
from collections import Counter

from rich.console import Console

from alphapo_async.cli.progress import progress_line, show_progress


def test_a_line_tells_the_commonest_outcome_first() -> None:
    """So many of so many, and what was told."""
    assert progress_line(Counter(), 520) == "0 of 520 told"
    assert progress_line(Counter(not_sent=1, accepted=3), 520) == "4 of 520 told: 3 accepted, 1 not sent"


async def test_a_pipe_gets_lines_while_it_runs_and_one_at_the_end() -> None:
    """Plain lines, without a terminal's codes."""
    told = io.StringIO()
    async with show_progress(Console(file=told, width=100), 2, every=0.01) as advance:
        advance("accepted")
        await asyncio.sleep(0.1)
        advance("unknown")
    lines = told.getvalue().splitlines()
    assert lines.count("1 of 2 told: 1 accepted") >= 2
    assert lines[-1] == "2 of 2 told: 1 accepted, 1 unknown"
    assert "\x1b" not in told.getvalue()


async def test_a_terminal_gets_a_bar() -> None:
    """The bar ends full."""
    told = io.StringIO()
    async with show_progress(Console(file=told, force_terminal=True, width=100), 2) as advance:
        advance("accepted")
        advance("unknown")
    assert "2/2" in told.getvalue()
    assert "\x1b[" in told.getvalue()
