"""Run many worlds, or one again: `python -m tests.proof.simulation --seeds 2000`, `python -m tests.proof.simulation --seed 17 --trace`."""

from __future__ import annotations

import argparse
import gc
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import Any

from tests.proof.simulation.scenario import ASSUMPTIONS, drawn
from tests.proof.simulation.simulation import Verdict, simulated

_SHARE = 10
"""Seeds that a process takes at once."""


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


def share_of(seeds: range, each: int, broken: Any) -> list[Verdict]:
    """Run some worlds, one after the other; what one leaves behind is collected at its end, not in the midst of it."""
    gc.disable()
    return [simulated(drawn(seed, each, broken)) for seed in seeds]


def verdicts(seeds: range, each: int, broken: Any, jobs: int) -> Iterator[Verdict]:
    """Run worlds in several processes, and yield what came of each as it comes."""
    shares = [seeds[first : first + _SHARE] for first in range(0, len(seeds), _SHARE)]
    with ProcessPoolExecutor(jobs) as pool:
        for done in as_completed([pool.submit(share_of, share, each, broken) for share in shares]):
            yield from done.result()


def _once(seed: int, each: int, broken: Any, *, is_traced: bool) -> int:
    verdict = simulated(drawn(seed, each, broken), is_traced=is_traced)
    for line in verdict.trace:
        print(line)
    print(f"seed {seed}: {verdict.failure or 'every promise kept'}")
    print(f"ledger {verdict.ledger}")
    return 1 if verdict.failure else 0


def _tell(whole: Sum, began: float, *, with_troubles: bool) -> None:
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
        print("\nTold: " + ", ".join(f"{number:,} {outcome}" for outcome, number in sorted(whole.told.items())))
        print(f"Still open at the end, each for a reason: {whole.open:,}")


def main() -> int:
    """Run what the command line asks for; 1 if a promise was broken."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.proof.simulation", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--seeds", type=int, default=200, help="how many worlds")
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seed", type=int, help="this world only")
    parser.add_argument("--trace", action="store_true", help="with --seed: show all that happens")
    parser.add_argument("--each", type=int, default=40, help="withdrawals in a world, about")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument(
        "--break", dest="broken", choices=ASSUMPTIONS, help="worlds in which this assumption does not hold"
    )
    wanted = parser.parse_args()
    if wanted.seed is not None:
        return _once(wanted.seed, wanted.each, wanted.broken, is_traced=wanted.trace)
    whole, began, shown = Sum(), time.perf_counter(), time.perf_counter()
    for verdict in verdicts(range(wanted.first, wanted.first + wanted.seeds), wanted.each, wanted.broken, wanted.jobs):
        whole.add(verdict)
        if verdict.failure is not None:
            again = f"python -m tests.proof.simulation --seed {verdict.seed} --each {wanted.each}"
            again += f" --break {wanted.broken}" if wanted.broken else ""
            print(f"seed {verdict.seed}: {verdict.failure}\n  again: {again} --trace", flush=True)
        if time.perf_counter() - shown > 30:
            shown = time.perf_counter()
            _tell(whole, began, with_troubles=False)
    _tell(whole, began, with_troubles=True)
    return 1 if whole.failed else 0


if __name__ == "__main__":
    sys.exit(main())
