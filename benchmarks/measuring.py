"""Measuring: contenders in turn, several times over, so that whatever disturbs the machine disturbs them all.

What counts is the ratio to the baseline of the same round. Each command prints a table, writes its figures as JSON, and draws a plot where
matplotlib is installed.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib.util
import json
import os
import platform
import statistics
import sys
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple, TypeVar

__all__ = [
    "RESULTS",
    "Measure",
    "Round",
    "at_once",
    "enough",
    "loops",
    "machine",
    "measured",
    "parser",
    "report",
    "rounds",
    "run",
    "summary",
    "tabled",
]

RESULTS: Final = Path("benchmarks/results")

T = TypeVar("T")

Measure = Callable[[], float]
Round = dict[str, float]
"""What each contender needed in one round."""


class Summary(NamedTuple):
    """One contender over all rounds, in its unit and as a ratio to the baseline of the same round."""

    name: str
    lowest: float
    median: float
    highest: float
    spread: float
    """Highest less lowest, as a part of the median."""
    ratio: float
    ratio_lowest: float
    ratio_highest: float


def parser(doc: str | None, *, repeats: int = 5) -> argparse.ArgumentParser:
    """Return a parser with what every command takes."""
    made = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    made.add_argument("--repeats", type=int, default=repeats, help="rounds, each with every contender in turn")
    made.add_argument("--out", type=Path, default=RESULTS, help="where the JSON and the plot are written")
    return made


def run(story: Coroutine[Any, Any, T], loop: str = "asyncio") -> T:
    """Run on an event loop of asyncio's own or of uvloop."""
    if loop == "asyncio":
        return asyncio.run(story)
    import uvloop  # noqa: PLC0415 - only where it is asked for

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(story)


def loops() -> list[str]:
    """Return the loops that can be measured here."""
    return ["asyncio", *(["uvloop"] if importlib.util.find_spec("uvloop") else [])]


async def at_once(numbers: Iterable[int], in_flight: int, pay: Callable[[int], Awaitable[Any]]) -> None:
    """Keep so many withdrawals in flight until all are paid."""
    left = iter(numbers)

    async def worker() -> None:
        for one in left:
            await pay(one)

    await asyncio.gather(*(worker() for _ in range(in_flight)))


def enough(number: int, in_flight: int) -> int:
    """Return how many of so many rows a run takes: a tenth one by one, where each is waited for; else what keeps all places busy."""
    return max(number // 10 if in_flight == 1 else number, 4 * in_flight)


def rounds(contenders: Mapping[str, Callable[[], T]], repeats: int) -> list[dict[str, T]]:
    """Measure all contenders in turn, several times over; every other round the other way round."""
    result = []
    for number in range(repeats):
        names = list(contenders) if number % 2 == 0 else list(contenders)[::-1]
        one = {}
        for name in names:
            gc.collect()
            one[name] = contenders[name]()
        result.append(one)
    return result


def summary(measured: list[Round], baseline: str) -> list[Summary]:
    """Sum up: the contenders in the order in which the first round had them."""
    result = []
    for name in measured[0]:
        values = [one[name] for one in measured]
        ratios = [one[name] / one[baseline] for one in measured]
        median = statistics.median(values)
        spread = (max(values) - min(values)) / median
        ratio = statistics.median(ratios)
        result.append(Summary(name, min(values), median, max(values), spread, ratio, min(ratios), max(ratios)))
    return result


def measured(
    title: str, unit: str, contenders: Mapping[str, Measure], repeats: int, baseline: str | None = None
) -> dict[str, Any]:
    """Measure, print the table, and return the figures."""
    return tabled(title, unit, rounds(contenders, repeats), baseline)


def tabled(title: str, unit: str, result: list[Round], baseline: str | None = None) -> dict[str, Any]:
    """Print the table of what was measured, and return the figures; the ratio is to the first contender where no other is named."""
    baseline = baseline or next(iter(result[0]))
    lines = summary(result, baseline)
    print(f"\n{title} ({unit}; ratio to {baseline}, {len(result)} rounds)")
    print(f"{'':34} {'min':>9} {'median':>9} {'max':>9} {'spread':>7} {'ratio':>7} {'lowest':>7} {'highest':>7}")
    for one in lines:
        print(
            f"{one.name:34} {one.lowest:>9.2f} {one.median:>9.2f} {one.highest:>9.2f} {one.spread:>7.0%} "
            f"{one.ratio:>7.3f} {one.ratio_lowest:>7.3f} {one.ratio_highest:>7.3f}",
            flush=True,
        )
    return {
        "title": title,
        "unit": unit,
        "baseline": baseline,
        "rounds": result,
        "summary": [one._asdict() for one in lines],
    }


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    return {
        "python": sys.version.split()[0],
        "system": platform.platform(),
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
    }


def report(name: str, out: Path, tables: list[dict[str, Any]], about: Mapping[str, Any] | None = None) -> None:
    """Write the figures as JSON, with whatever there is to say about them, and the ratios as a picture."""
    out.mkdir(parents=True, exist_ok=True)
    file = out / f"{name}.json"
    result = {"machine": machine(), "about": about or {}, "tables": tables}
    file.write_text(json.dumps(result, indent=1), encoding="utf-8")
    print(f"\nFigures: {file}")
    if importlib.util.find_spec("matplotlib") is None:
        print("No plot: matplotlib is not installed (pip install 'alphapo-async[bench]').")
        return
    print(f"Plot: {_plotted(file.with_suffix('.svg'), tables)}")


def _plotted(file: Path, tables: list[dict[str, Any]]) -> Path:
    import matplotlib as mpl  # noqa: PLC0415 - slow to load, and an extra

    mpl.use("svg")
    from matplotlib import pyplot as plt  # noqa: PLC0415 - after the choice of what draws

    height = sum(len(table["summary"]) for table in tables) * 0.3 + len(tables) * 0.8
    heights = [len(table["summary"]) for table in tables]
    figure, places = plt.subplots(len(tables), 1, figsize=(9, height), squeeze=False, height_ratios=heights)
    for place, table in zip(places[:, 0], tables, strict=True):
        lines = [Summary(**one) for one in reversed(table["summary"])]
        errors = [[one.ratio - one.ratio_lowest for one in lines], [one.ratio_highest - one.ratio for one in lines]]
        colours = ["tab:blue" if "ours" in one.name else "tab:gray" for one in lines]
        place.barh([one.name for one in lines], [one.ratio for one in lines], xerr=errors, color=colours)
        place.axvline(1.0, color="black", linewidth=0.8)
        place.set_title(f"{table['title']}: ratio to {table['baseline']}", fontsize=9)
        place.tick_params(labelsize=8)
    figure.tight_layout()
    figure.savefig(file)
    return file
