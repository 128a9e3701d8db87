"""Change the source and see that a test fails.

`python -m tests.proof.mutation core`, `python -m tests.proof.mutation sample --seed 1 --count 200`.
"""

from __future__ import annotations

import argparse
import ast
import random
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.coverage_gate import PACKAGE, ROOT, test_file
from tests.proof.mutation.changes import changes, told
from tests.proof.mutation.running import Job, Mutant, Ran, prepare, run_all

CORE = tuple(sorted((PACKAGE / "core").glob("*.py")))
SHELL = tuple(
    path
    for path in sorted((*PACKAGE.glob("*.py"), *(PACKAGE / "engine").glob("*.py"), *(PACKAGE / "journal").glob("*.py")))
    if path.name not in ("__init__.py", "__main__.py")
)
_TOO_SLOW = "test_row_model.py"
"""Walks through every state of the row: minutes for each mutant."""


def mutants_of(modules: Sequence[Path]) -> list[Mutant]:
    """Return every mutant of these modules."""
    return [
        Mutant(module, number) for module in modules for number, _ in enumerate(changes(ast.parse(module.read_text())))
    ]


def own_tests(module: Path) -> tuple[str, ...]:
    """Return the module's own test file."""
    return (str(test_file(module).relative_to(ROOT)),)


def neighbours_tests(module: Path) -> tuple[str, ...]:
    """Return the test files beside the module's own, the short ones first."""
    own = test_file(module)
    beside = sorted(own.parent.glob("test_*.py"), key=lambda file: file.stat().st_size)
    return tuple(str(file.relative_to(ROOT)) for file in beside if file != own and file.name != _TOO_SLOW)


def usual_seconds(modules: Sequence[Path], workers: int) -> dict[Path, float]:
    """Return what each module's tests take without any change; stop if they fail: they would kill whatever is asked of them."""
    unchanged = list(run_all([Job(Mutant(module, -1), own_tests(module)) for module in modules], workers))
    failing = [str(ran.mutant.module.relative_to(PACKAGE)) for ran in unchanged if ran.is_killed]
    if failing:
        sys.exit(f"fails unchanged: {', '.join(failing)}")
    return {ran.mutant.module: ran.seconds for ran in unchanged}


def tested(mutants: Sequence[Mutant], workers: int, *, with_neighbours: bool) -> Iterator[Ran]:
    """Run each mutant against its own tests, and what survives against those beside them where that is asked."""
    usual = usual_seconds(sorted({mutant.module for mutant in mutants}), workers)
    survivors = []
    jobs = (Job(mutant, own_tests(mutant.module), 5 + int(3 * usual[mutant.module])) for mutant in mutants)
    for ran in run_all(jobs, workers):
        if ran.is_killed or not with_neighbours:
            yield ran
        else:
            survivors.append(ran.mutant)
    yield from run_all((Job(mutant, neighbours_tests(mutant.module)) for mutant in survivors), workers)


def show(results: Sequence[Ran]) -> None:
    """Print what was killed of each module, and each survivor."""
    of_module: dict[Path, list[Ran]] = defaultdict(list)
    for ran in results:
        of_module[ran.mutant.module].append(ran)
    for module, those in sorted(of_module.items()):
        print(f"{_share(those)}  {module.relative_to(PACKAGE)}")
    for mutant in sorted(ran.mutant for ran in results if not ran.is_killed):
        print(_survivor(mutant))
    print(f"{_share(results)}  in all")


def _survivor(mutant: Mutant) -> str:
    source = mutant.module.read_text()
    line, before, after = told(source, mutant.number)
    place = f"{mutant.module.relative_to(PACKAGE)}:{line} ({mutant.number})"
    return f"{place}: {before} -> {after}    | {source.splitlines()[line - 1].strip()}"


def _share(results: Sequence[Ran]) -> str:
    killed = sum(ran.is_killed for ran in results)
    return f"{killed:5} of {len(results):5} killed {100 * killed / max(1, len(results)):6.1f} %"


def _with_progress(results: Iterator[Ran], total: int) -> list[Ran]:
    since = time.monotonic()
    seen = []
    for ran in results:
        seen.append(ran)
        if not ran.is_killed:
            print(_survivor(ran.mutant), file=sys.stderr, flush=True)
        if len(seen) % 50 == 0:
            print(f"{len(seen)} of {total} after {time.monotonic() - since:.0f} s", file=sys.stderr, flush=True)
    return seen


def _asked(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.proof.mutation", description=__doc__)
    parser.add_argument("what", choices=["core", "sample"], help="every mutant of core/, or some of the shell's")
    parser.add_argument("modules", nargs="*", help="only these, such as core/row.py")
    parser.add_argument("--seed", type=int, default=1, help="which of the shell's")
    parser.add_argument("--count", type=int, default=200, help="how many of the shell's")
    parser.add_argument("--workers", type=int, default=2, help="how many at once")
    parser.add_argument("--own", action="store_true", help="only the module's own tests, not those beside them")
    return parser.parse_intermixed_args(words)


def main(words: Sequence[str]) -> int:
    """Run what was asked for, and return the exit code: 1 for a core of which less than 95 % is killed."""
    asked = _asked(words)
    is_core = asked.what == "core"
    modules = [PACKAGE / name for name in asked.modules] or list(CORE if is_core else SHELL)
    mutants = mutants_of(modules)
    if not is_core:
        mutants = sorted(random.Random(asked.seed).sample(mutants, min(asked.count, len(mutants))))
    prepare()
    with_neighbours = is_core and not asked.own
    results = _with_progress(tested(mutants, asked.workers, with_neighbours=with_neighbours), len(mutants))
    show(results)
    return 1 if is_core and sum(ran.is_killed for ran in results) < 0.95 * len(results) else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
