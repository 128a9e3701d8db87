"""Play the scenarios and print a table: `python -m tests.proof.chaos [--withdrawals N] [--faults N] [--seed N] [--only NAME]`."""

from __future__ import annotations

import argparse
import asyncio
import shutil
import signal
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import msgspec

from tests.proof.chaos.judge import Verdict
from tests.proof.chaos.scenarios import SCENARIOS, lacking
from tests.proof.chaos.stage import Plan, Result, Scenario, play

_KINDS = Verdict.__struct_fields__


def _print(line: str) -> None:
    print(line, flush=True)


async def _run(scenarios: Sequence[Scenario], withdrawals: int, faults: int, seed: int) -> list[Result]:
    """Play scenarios, each with its share of what all would have; files of one that went wrong are kept."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    shares = sum(scenario.share for scenario in SCENARIOS)
    results = []
    _print(f"| scenario | withdrawals | faults | seconds | {' | '.join(_KINDS)} |")
    _print(f"| --- |{' --- |' * (3 + len(_KINDS))}")
    for scenario in scenarios:
        folder = Path(tempfile.mkdtemp(prefix=f"alphapo-chaos-{scenario.name}-"))
        is_clean = False
        try:
            plan = Plan(round(withdrawals * scenario.share / shares), round(faults / len(SCENARIOS)), seed)
            result = await play(scenario, plan, folder)
            results.append(result)
            is_clean = result.verdict.is_clean
            _print(_row(scenario.name, [result]))
            _print_problems(result.verdict, folder)
        except asyncio.CancelledError:
            is_clean = True  # nothing is known to be wrong
            raise
        finally:
            if is_clean:
                shutil.rmtree(folder)
    return results


def _row(name: str, results: Sequence[Result]) -> str:
    counts = [sum(len(getattr(result.verdict, kind)) for result in results) for kind in _KINDS]
    figures = [
        sum(result.withdrawals for result in results),
        sum(result.faults.total() for result in results),
        round(sum(result.seconds for result in results)),
        *counts,
    ]
    return f"| {name} | {' | '.join(f'{figure:,}' for figure in figures)} |"


def _print_problems(verdict: Verdict, folder: Path) -> None:
    for kind, lines in msgspec.structs.asdict(verdict).items():
        for line in lines[:20]:
            _print(f"    {kind}: {line}")
    if not verdict.is_clean:
        _print(f"    files: {folder}")


def main(arguments: list[str]) -> int:
    """Play what this machine has everything for, and name what it lacks."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof.chaos")
    parser.add_argument(
        "--withdrawals", type=int, default=50_500, help="of all scenarios together, also of those not played"
    )
    parser.add_argument("--faults", type=int, default=520, help="likewise")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", action="append", choices=[scenario.name for scenario in SCENARIOS])
    parser.add_argument("--require-all", action="store_true", help="fail if anything was not run")
    chosen = parser.parse_args(arguments)
    wanted = [scenario for scenario in SCENARIOS if not chosen.only or scenario.name in chosen.only]
    possible = [scenario for scenario in wanted if not lacking(scenario)]
    try:
        results = asyncio.run(_run(possible, chosen.withdrawals, chosen.faults, chosen.seed))
    except asyncio.CancelledError:
        _print("interrupted: servers and processes are ended")
        return 130
    _print(_row("all", results))
    faults: Counter[str] = sum((result.faults for result in results), Counter())
    answers: Counter[str] = sum((result.answers for result in results), Counter())
    _print("faults: " + ", ".join(f"{count} {name}" for name, count in faults.most_common()))
    _print("answers: " + ", ".join(f"{count:,} {name}" for name, count in answers.most_common()))
    lacks = [f"{one.name} (needs {', '.join(lacking(one))})" for one in wanted if lacking(one)]
    _print(f"not run: {len(lacks)}{': ' if lacks else ''}{'; '.join(lacks)}")
    is_clean = all(result.verdict.is_clean for result in results)
    return 0 if is_clean and not (lacks and chosen.require_all) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
