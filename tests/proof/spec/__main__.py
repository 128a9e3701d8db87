"""Check the specification: `python -m tests.proof.spec [--only safety|liveness|mistakes|traces] [--traces N]`."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable
from itertools import islice
from time import perf_counter
from typing import Final

from tests.proof.spec.checking import Bounds, Outcome, check, lacking, run
from tests.proof.spec.mistakes import COVERED, MISTAKES, Mistake
from tests.proof.spec.traces import Trace, accepted_in, broken, configuration, module_of, traces

EVERYTHING: Final = ("lapse", "cancel", "key", "operator", "callback", "throttle", "blame", "free", "others", "back")
SAFETY: Final = Bounds(EVERYTHING, workers=2, late_times=(0, 1, 1_000_000), revisions=2, depth=12)
LIVENESS: Final = Bounds(("stop",), keep=3, lease=1, max_time=5, bodies=1)
TRACES: Final = 1_000
SEEDS: Final = range(4_000)


def _print(line: str) -> None:
    print(line, flush=True)


def _said(outcome: Outcome) -> str:
    found = f"{outcome.violated or outcome.error or 'holds'}"
    speed = outcome.states / outcome.seconds
    return f"{found}: {outcome.states:,} distinct states in {outcome.seconds:.0f} s, {speed:,.0f} a second"


def safety() -> bool:
    """Check that nothing wrong happens in behaviors of up to a number of steps, with everything that may go wrong."""
    outcome = check(SAFETY)
    _print(f"safety, every behavior of up to {SAFETY.depth} steps: {_said(outcome)}")
    return not outcome.violated and not outcome.error


def liveness() -> bool:
    """Check that every row settles, or is listed with its reason, once faults have stopped."""
    outcome = check(LIVENESS, is_live=True)
    _print(f"liveness: {_said(outcome)}")
    return not outcome.violated and not outcome.error


def _planted(mistake: Mistake) -> Outcome:
    outcome = check(mistake.bounds, mistake.name)
    steps = f"{len(outcome.story)} steps" if outcome.violated else outcome.error or "every state"
    _print(f"| {mistake.name} | {outcome.violated or '-'} | {steps} | {outcome.states:,} | {outcome.seconds:.0f} |")
    return outcome


def mistakes() -> bool:
    """Plant each mistake and print which property finds it, and how."""
    _print("| planted mistake | found by | after | distinct states | seconds |\n| --- | --- | --- | --- | --- |")
    found = [bool(_planted(mistake).violated) for mistake in MISTAKES]
    unseen = [_planted(mistake) for mistake in COVERED]
    covered = [not outcome.violated and not outcome.error for outcome in unseen]
    _print(f"{sum(found)} of {len(found)} mistakes found; {sum(covered)} of {len(covered)} are covered by other rules")
    return all(found) and all(covered)


def _check_traces(found: list[Trace]) -> tuple[set[int], str]:
    printed = run("TraceCheck", configuration(), [("Traces.tla", module_of(found))])
    return accepted_in(printed), next((line for line in printed.splitlines() if "violated" in line), "")


def check_traces(number: int) -> bool:
    """Check that TLC accepts the simulator's traces, and one with a planted mistake it does not."""
    left_out: Counter[str] = Counter()
    began = perf_counter()
    found = list(islice(traces(SEEDS, left_out), number))
    _print(f"{len(found):,} traces of seeds 0 to {found[-1].seed} in {perf_counter() - began:.0f} s; left out:")
    for reason, count in left_out.most_common():
        _print(f"  {count:>6,}  {reason}")
    began = perf_counter()
    accepted, violated = _check_traces([*found, broken(found)])
    steps = sum(len(trace.steps) for trace in found)
    are_all = accepted == set(range(1, len(found) + 1))
    is_fooled = len(found) + 1 in accepted
    _print(
        f"{len(accepted) - is_fooled:,} of {len(found):,} traces accepted, {steps:,} steps, in {perf_counter() - began:.0f} s; "
        f"the one with a planted mistake {'was accepted' if is_fooled else 'was not'}; {violated or 'no property violated'}"
    )
    for place, trace in enumerate(found, 1):
        if place not in accepted:
            _print(f"  not accepted: seed {trace.seed}, {trace.foreign_id}")
    return are_all and not violated


def main() -> int:
    """Run what the command line asks for; 1 if something does not hold."""
    parts: dict[str, Callable[[], bool]] = {"safety": safety, "liveness": liveness, "mistakes": mistakes}
    parser = argparse.ArgumentParser(prog="python -m tests.proof.spec", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--only", choices=(*parts, "traces"), help="one part of it")
    parser.add_argument("--traces", type=int, default=TRACES, help="how many traces of the simulator")
    wanted = parser.parse_args()
    if why := lacking():
        _print(why)
        return 1
    parts["traces"] = lambda: check_traces(wanted.traces)
    results = [part() for name, part in parts.items() if wanted.only in (None, name)]
    return 0 if all(results) else 1


if __name__ == "__main__":
    sys.exit(main())
