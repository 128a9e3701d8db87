"""Run many worlds, or one again: `python -m tests.proof.simulation --seeds 2000`, `python -m tests.proof.simulation --seed 17 --trace`.

`--hours 5` runs new seeds until the time is over, and continues where the last such run stopped.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from pathlib import Path
from typing import Any, Final

import msgspec

from tests.proof.simulation.scenario import ASSUMPTIONS, Scenario, drawn
from tests.proof.simulation.schedules import ORDERS, Schedule
from tests.proof.simulation.shrinking import shrunk
from tests.proof.simulation.simulation import Verdict, simulated

__all__ = ["Progress", "Sum", "Worlds", "main", "verdicts"]

_SHARE: Final = 10
"""Seeds that a process takes at once."""
_SHOWN_EVERY: Final = 30.0
_MINUTE: Final = 60.0
_HOUR: Final = 3_600.0


class Worlds(msgspec.Struct, frozen=True):
    """How the world of a seed is made."""

    each: int = 40
    """Withdrawals in a world, about."""
    broken: Any = None
    """An assumption that does not hold."""
    schedule: Schedule | None = None
    """In which order what is ready at the same time runs; None: the seed decides."""

    def of(self, seed: int) -> Scenario:
        """Return the world of a seed."""
        scenario = drawn(seed, self.each, self.broken)
        return scenario if self.schedule is None else scenario._replace(schedule=self.schedule)

    def again(self, seed: int) -> str:
        """Return the command that runs the world of a seed again."""
        words = [f"--seed {seed}", f"--each {self.each}"]
        words += [f"--break {self.broken}"] if self.broken else []
        words += [f"--schedule '{self.schedule}'"] if self.schedule else []
        return f"python -m tests.proof.simulation {' '.join(words)}"


class Sum:
    """What came of many worlds."""

    def __init__(self) -> None:
        self.worlds = self.withdrawals = self.accepted = self.open = 0
        self.seconds = 0.0
        self.told: Counter[str] = Counter()
        self.troubles: Counter[str] = Counter()
        self.failed: list[tuple[int, str]] = []

    def add(self, verdict: Verdict) -> None:
        """Add one."""
        self.worlds += 1
        self.withdrawals += verdict.withdrawals
        self.accepted += verdict.accepted
        self.open += verdict.open_at_the_end
        self.seconds += verdict.seconds
        self.told.update(verdict.told)
        self.troubles.update(verdict.troubles)
        if verdict.failure is not None:
            self.failed.append((verdict.seed, verdict.failure))


def share_of(seeds: range, worlds: Worlds) -> list[Verdict]:
    """Run some worlds, one after the other; what one leaves behind is collected at its end, not in the midst of it."""
    gc.disable()
    return [msgspec.structs.replace(simulated(worlds.of(seed)), happened=()) for seed in seeds]


def verdicts(shares: Iterable[range], worlds: Worlds, jobs: int) -> Iterator[tuple[range, list[Verdict]]]:
    """Run worlds in several processes; yield what came of each share of seeds. Shares are asked for as processes come free."""
    left = iter(shares)
    with ProcessPoolExecutor(jobs) as pool:
        running: dict[Future[list[Verdict]], range] = {}
        while True:
            for share in itertools.islice(left, jobs + 1 - len(running)):
                running[pool.submit(share_of, share, worlds)] = share
            if not running:
                return
            for done in wait(running, return_when=FIRST_COMPLETED).done:
                yield running.pop(done), done.result()


class Progress:
    """How far a long run has come, kept in a file.

    Args:
        file: where it is kept; a file that is not there begins with seed 0.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        kept = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        self.next = int(kept.get("next", 0))
        """The first seed that has not ended."""
        self.withdrawals = int(kept.get("withdrawals", 0))
        self._ended: set[int] = set()

    def shares(self, until: float) -> Iterator[range]:
        """Return shares of seeds, from the first one that has not ended, until this moment of the monotonic clock."""
        for first in itertools.count(self.next, _SHARE):
            if time.monotonic() >= until:
                return
            yield range(first, first + _SHARE)

    def ended(self, share: range, withdrawals: int) -> None:
        """Keep that these have ended."""
        self._ended.add(share.start)
        self.withdrawals += withdrawals
        while self.next in self._ended:
            self._ended.remove(self.next)
            self.next += _SHARE
        self._file.write_text(json.dumps({"next": self.next, "withdrawals": self.withdrawals}) + "\n", encoding="utf-8")


def _once(worlds: Worlds, seed: int, *, is_traced: bool, runs: int) -> int:
    verdict = simulated(worlds.of(seed), is_traced=is_traced)
    for line in verdict.trace:
        print(line)
    print(f"seed {seed}: {verdict.failure or 'every promise kept'}")
    print(f"ledger {verdict.ledger}")
    if verdict.failure is not None and runs:
        _shrink(worlds, seed, verdict.failure, runs)
    return 1 if verdict.failure else 0


def _shrink(worlds: Worlds, seed: int, failure: str, runs: int) -> None:
    small = shrunk(worlds.of(seed), failure, runs)
    print(f"seed {seed}, shrunk in {small.runs} runs to {small.payments} payments and {small.events} events:")
    print("\n".join(f"  {line}" for line in small.story), flush=True)


def _show(whole: Sum, began: float, *, with_troubles: bool) -> None:
    took = time.perf_counter() - began
    print(
        f"{whole.worlds:,} worlds in {took:.1f} s, {whole.worlds / took:.1f} a second: {whole.withdrawals:,} withdrawals, "
        f"{whole.withdrawals / took:,.0f} a second, {whole.accepted:,} acceptances; {whole.seconds / 3600:,.0f} simulated hours, "
        f"{whole.seconds / took:,.0f} times as fast as the clock; "
        f"{len(whole.failed)} violations",
        flush=True,
    )
    if with_troubles:
        print(f"\n{len(whole.troubles)} kinds of trouble, and how often each came:")
        for kind, number in sorted(whole.troubles.items(), key=lambda one: -one[1]):
            print(f"  {number:>12,}  {kind}")
        print("\nOutcomes: " + ", ".join(f"{number:,} {outcome}" for outcome, number in sorted(whole.told.items())))
        print(f"Still open at the end, each for a reason: {whole.open:,}")


def _many(worlds: Worlds, shares: Iterable[range], jobs: int, progress: Progress | None, runs: int) -> int:
    """Run worlds and show what comes of them, now and then and in the end; shrink the first that fails."""
    whole, began = Sum(), time.perf_counter()
    shown, every = began, _SHOWN_EVERY if progress is None else _MINUTE
    for share, ended in verdicts(shares, worlds, jobs):
        for verdict in ended:
            whole.add(verdict)
            if verdict.failure is not None:
                print(
                    f"seed {verdict.seed}: {verdict.failure}\n  again: {worlds.again(verdict.seed)} --trace", flush=True
                )
        if progress is not None:
            progress.ended(share, sum(verdict.withdrawals for verdict in ended))
        if time.perf_counter() - shown > every:
            shown = time.perf_counter()
            _show(whole, began, with_troubles=False)
    _show(whole, began, with_troubles=True)
    if progress is not None:
        print(f"All runs so far: {progress.withdrawals:,} withdrawals; the next seed is {progress.next}.")
    if whole.failed and runs:
        _shrink(worlds, *whole.failed[0], runs)
    return 1 if whole.failed else 0


def main(words: list[str] | None = None) -> int:
    """Run what the command line asks for; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.proof.simulation", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--seeds", type=int, default=200, help="how many worlds")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="this world only")
    parser.add_argument("--hours", type=float, help="new seeds for so long, instead of --seeds")
    parser.add_argument(
        "--progress", type=Path, default=Path(".simulated"), help="with --hours: the file that says where to continue"
    )
    parser.add_argument("--trace", action="store_true", help="with --seed: show all that happens")
    parser.add_argument(
        "--shrink", type=int, default=300, metavar="RUNS", help="runs in which the first failure is shrunk"
    )
    parser.add_argument("--each", type=int, default=40, help="withdrawals in a world, about")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--schedule", choices=ORDERS, help="the order in which what is ready at the same time runs")
    parser.add_argument(
        "--break", dest="broken", choices=ASSUMPTIONS, help="worlds in which this assumption does not hold"
    )
    wanted = parser.parse_args(words)
    worlds = Worlds(wanted.each, wanted.broken, wanted.schedule)
    if wanted.seed is not None:
        return _once(worlds, wanted.seed, is_traced=wanted.trace, runs=wanted.shrink)
    if wanted.hours is not None:
        progress = Progress(wanted.progress)
        until = time.monotonic() + wanted.hours * _HOUR
        return _many(worlds, progress.shares(until), wanted.jobs, progress, wanted.shrink)
    seeds = range(wanted.first, wanted.first + wanted.seeds)
    shares = (seeds[first : first + _SHARE] for first in range(0, len(seeds), _SHARE))
    return _many(worlds, shares, wanted.jobs, None, wanted.shrink)


if __name__ == "__main__":
    sys.exit(main())
