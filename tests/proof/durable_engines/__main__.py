"""Run the guide's programs on their engines, kill the workers, and print a table: `python -m tests.proof.durable_engines --help`."""

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
from tests.proof.durable_engines.engines import ENGINES
from tests.proof.durable_engines.run import Plan, Result, play

_KINDS = ("doubled", "misreported", "lost", "stuck")


def _print(line: str) -> None:
    print(line, flush=True)


async def _run(names: Sequence[str], plan: Plan) -> list[Result]:
    """Run engines one after the other; files of one that went wrong are kept."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    results = []
    _print(f"| engine | withdrawals | kills | seconds | {' | '.join(_KINDS)} | answers |")
    _print(f"| --- |{' --- |' * (4 + len(_KINDS))}")
    for name in names:
        folder = Path(tempfile.mkdtemp(prefix=f"alphapo-engines-{name}-"))
        folder.chmod(0o755)  # servers run as another user
        result = await play(ENGINES[name], plan, folder)
        results.append(result)
        counts = [len(getattr(result.verdict, kind)) for kind in _KINDS]
        figures = " | ".join(
            f"{figure:,}" for figure in (result.withdrawals, result.kills, round(result.seconds), *counts)
        )
        _print(f"| {name} | {figures} | {_listed(result.answers)} |")
        _print_problems(result.verdict, folder)
        if _is_good(result, plan):
            shutil.rmtree(folder)
    return results


def _is_good(result: Result, plan: Plan) -> bool:
    return result.verdict.is_clean and result.kills == plan.kills


def _listed(answers: Counter[str]) -> str:
    return ", ".join(f"{count:,} {name}" for name, count in answers.most_common())


def _print_problems(verdict: Verdict, folder: Path) -> None:
    for kind, lines in msgspec.structs.asdict(verdict).items():
        for line in lines[:20]:
            _print(f"    {kind}: {line}")
    if not verdict.is_clean:
        _print(f"    files: {folder}")


def main(arguments: list[str]) -> int:
    """Run what this machine has everything for, and name what it lacks."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof.durable_engines")
    parser.add_argument("--engine", action="append", choices=list(ENGINES))
    parser.add_argument("--withdrawals", type=int, default=500, help="of each engine")
    parser.add_argument("--kills", type=int, default=100, help="of each engine's worker")
    parser.add_argument("--require-all", action="store_true", help="fail if anything was not run")
    chosen = parser.parse_args(arguments)
    wanted = chosen.engine or list(ENGINES)
    lacking = {name: missing for name in wanted if (missing := ENGINES[name].lacking())}
    plan = Plan(chosen.withdrawals, chosen.kills)
    try:
        results = asyncio.run(_run([name for name in wanted if name not in lacking], plan))
    except asyncio.CancelledError:
        _print("interrupted: servers and workers are ended")
        return 130
    lacks = "; ".join(f"{name} (needs {', '.join(missing)})" for name, missing in lacking.items())
    _print(f"not run: {len(lacking)}{': ' if lacks else ''}{lacks}")
    return 0 if all(_is_good(one, plan) for one in results) and not (lacking and chosen.require_all) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
