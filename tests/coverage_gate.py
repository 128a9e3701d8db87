"""The coverage gate: every module is covered whole, branches included, by its own test file alone.

`python -m tests.coverage_gate` checks all modules, `python -m tests.coverage_gate core/row.py` those named.
A module without a test file fails.
What a module shows only together with others (a real socket, a terminal) is listed below with the reason and the floor that holds instead.
"""

from __future__ import annotations

import ast
import os
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "alphapo_async"
WHOLE = 100.0
FLOORS: dict[str, float] = {}
"""Modules for which less than the whole is asked, each with its reason beside it."""


def test_file(module: Path) -> Path:
    """Return where the tests of a module live: the mirror of its place."""
    place = module.relative_to(PACKAGE)
    if place.name == "__init__.py":
        name = f"test_{place.parent.name}.py" if place.parent.name else "test_init.py"
        return ROOT / "tests" / place.parent / name
    return ROOT / "tests" / place.parent / f"test_{place.stem.strip('_')}.py"


def covered(module: Path) -> tuple[float, str]:
    """Return the percentage that the module's own tests cover, and what they leave out."""
    tests = test_file(module)
    if not tests.exists():
        return 0.0, f"no {tests.relative_to(ROOT)}"
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "COVERAGE_FILE": str(Path(folder) / "data")}
        command = [sys.executable, "-m", "coverage"]
        run = [*command, "run", "-p", "-m", "pytest", "-q", "-n", "0", "-p", "no:cacheprovider", str(tests)]
        ran = subprocess.run(run, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
        if ran.returncode:
            return 0.0, ran.stdout[-1500:]
        for step in (["combine", "-q"], ["report", "-m", "--skip-empty", f"--include={module}"]):
            told = subprocess.run(
                [*command, *step], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
            )
            if told.returncode:  # no data at all is not the same as nothing missing
                return 0.0, f"{told.stdout}{told.stderr}".strip()
    return _read(told.stdout)


def _has_code(module: Path) -> bool:
    """Say whether there is anything to run: a folder's docstring alone is not."""
    return any(not isinstance(part, ast.Expr) for part in ast.parse(module.read_text()).body)


def _read(report: str) -> tuple[float, str]:
    lines = [line for line in report.splitlines() if line.startswith(("alphapo_async", "TOTAL"))]
    if not lines:
        return 0.0, "nothing was measured"
    words = lines[0].split()
    place = next(at for at, word in enumerate(words) if word.endswith("%"))
    return float(words[place].rstrip("%")), " ".join(words[place + 1 :])


def main(names: list[str]) -> int:
    """Check the modules, print a line for each, and return the exit code."""
    modules = [PACKAGE / name for name in names] or sorted(PACKAGE.rglob("*.py"))
    modules = [module for module in modules if _has_code(module)]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        results = list(pool.map(covered, modules))
    failed = 0
    for module, (share, missing) in zip(modules, results, strict=True):
        name = str(module.relative_to(PACKAGE))
        is_enough = share >= FLOORS.get(name, WHOLE)
        failed += not is_enough
        print(f"{'ok  ' if is_enough else 'FAIL'} {share:6.1f} % {name} {missing}")  # noqa: T201 - a command prints
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
