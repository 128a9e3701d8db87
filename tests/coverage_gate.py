"""The coverage gate: every module is covered whole, branches included, by its own test file alone.

`python -m tests.coverage_gate` checks all modules, `python -m tests.coverage_gate core/row.py` those named.
A module without a test file fails.
The tests of a module run until they have covered it whole and no further: that all of them pass is what the test run shows.
"""

from __future__ import annotations

import ast
import contextlib
import importlib
import io
import os
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Final, NoReturn, Protocol

import pytest

ROOT: Final = Path(__file__).resolve().parent.parent
PACKAGE: Final = ROOT / "alphapo_async"
WHOLE: Final = 100.0
_LOOK_SHARE: Final = 0.05
"""The part of the time that may be spent on looking whether all is covered."""


def test_file(module: Path) -> Path:
    """Return where the tests of a module live: the mirror of its place."""
    place = module.relative_to(PACKAGE)
    if place.name == "__init__.py":
        name = f"test_{place.parent.name}.py" if place.parent.name else "test_init.py"
        return ROOT / "tests" / place.parent / name
    return ROOT / "tests" / place.parent / f"test_{place.stem.strip('_')}.py"


class Report(Protocol):
    """What the gate asks of `coverage.Coverage`."""

    def report(self, *, morfs: list[str], file: io.StringIO) -> float:
        """Write a report of these files, and return the percentage that is covered."""
        ...


class UntilCovered:
    """A pytest plugin that ends the run as soon as the module is covered whole.

    Args:
        measured: what is measured so far.
        module: the module.
    """

    def __init__(self, measured: Report, module: Path) -> None:
        self.share = 0.0
        """The percentage that was covered at the last look."""
        self.report = ""
        self._measured = measured
        self._module = module
        self._next_look = 0.0
        self._session: pytest.Session | None = None

    def pytest_sessionstart(self, session: pytest.Session) -> None:
        """Remember whom to stop."""
        self._session = session

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        """Begin with the first case of every test; what hypothesis plays, and then what is long, comes last."""
        cases: Counter[str] = Counter()
        ranks: dict[pytest.Item, tuple[bool, bool, int]] = {}
        for item in items:
            name = item.nodeid.partition("[")[0]
            cases[name] += 1
            is_played = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
            ranks[item] = (item.get_closest_marker("long") is not None, is_played, cases[name])
        items.sort(key=ranks.__getitem__)

    def pytest_runtest_logfinish(self) -> None:
        """Look after a test, but seldom where looking takes long."""
        began = time.monotonic()
        if began >= self._next_look:
            self.look()
            ended = time.monotonic()
            self._next_look = ended + (ended - began) / _LOOK_SHARE
        if self.share >= WHOLE and self._session is not None:
            self._session.shouldstop = "the module is covered whole"

    def look(self) -> None:
        """Ask for the report of the module."""
        from coverage.exceptions import NoDataError  # noqa: PLC0415 - only where something is measured

        written = io.StringIO()
        try:
            self.share = self._measured.report(morfs=[str(self._module)], file=written)
        except NoDataError:  # not even imported yet
            return
        self.report = written.getvalue()

    @property
    def has_failures(self) -> bool:
        """A test failed."""
        return self._session is None or self._session.testsfailed > 0


def _measure(module: Path) -> int:
    """Run the module's tests in this process, print its report, and return 0 if they passed as far as they ran."""
    from coverage import Coverage  # noqa: PLC0415 - the process that starts the others measures nothing

    measured = Coverage(data_file=None, branch=True, messages=False)
    # Of everything else no line is looked at.
    for option, value in (("source", None), ("include", [str(module)]), ("parallel", False)):
        measured.set_option(f"run:{option}", value)
    measured.set_option("run:disable_warnings", ["no-data-collected"])
    plugin = UntilCovered(measured, module)
    measured.start()
    try:
        arguments = ["-q", "-n", "0", "-m", "", "-p", "no:cacheprovider", str(test_file(module))]
        ended = pytest.main(arguments, plugins=[plugin])
    finally:
        measured.stop()
    plugin.look()
    sys.stderr.write(plugin.report)
    was_stopped = ended is pytest.ExitCode.INTERRUPTED and plugin.share >= WHOLE
    return int(plugin.has_failures or not (was_stopped or ended is pytest.ExitCode.OK))


class Running:
    """The tests of a module, in a process that was forked from this one.

    Args:
        measure: runs them in the new process, and returns 0 if they passed; the report is the last that it writes.
    """

    def __init__(self, measure: Callable[[], int]) -> None:
        self._written = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by `result`
        self.process = os.fork()
        if self.process == 0:
            self._measure(measure)

    def _measure(self, measure: Callable[[], int]) -> NoReturn:
        code, sys.stdout, sys.stderr = 1, self._written, self._written
        for stream in (1, 2):
            os.dup2(self._written.fileno(), stream)
        try:
            code = measure()
        except BaseException:  # noqa: BLE001 - this process ends after any error
            traceback.print_exc()
        finally:
            self._written.flush()
            os._exit(code)

    def result(self, status: int) -> tuple[float, str]:
        """Return the percentage that the tests cover, and what they leave out, once the process has ended with this status."""
        with self._written as written:
            written.seek(0)
            text = written.read()
        return (0.0, text[-1500:]) if status else _read(text)


def _load() -> None:
    """Load pytest with its plugins, and the libraries, once for all processes; nothing of what is measured."""
    conftest = str(ROOT / "tests" / "conftest.py")
    with contextlib.redirect_stdout(io.StringIO()):
        pytest.main(["-n", "0", "-p", "no:cacheprovider", "-p", "no:alphapo", "--collect-only", conftest])
    for name in ("aiohttp", "aioresponses", "asyncpg", "click", "msgspec", "rich", "tenacity"):
        importlib.import_module(name)


def covered(modules: Iterable[Path], at_once: int) -> Iterator[tuple[Path, float, str]]:
    """Yield each module, the percentage that its own tests cover, and what they leave out."""
    running: dict[int, tuple[Path, Running]] = {}

    def ended() -> tuple[Path, float, str]:
        process, status = os.wait()
        module, run = running.pop(process)
        return module, *run.result(status)

    for module in modules:
        tests = test_file(module)
        if not tests.exists():
            yield module, 0.0, f"no {tests.relative_to(ROOT)}"
            continue
        if len(running) >= at_once:
            yield ended()
        run = Running(partial(_measure, module))
        running[run.process] = module, run
    while running:
        yield ended()


def _has_code(module: Path) -> bool:
    """Say whether there is anything to run: a folder's docstring alone is not."""
    return any(not isinstance(part, ast.Expr) for part in ast.parse(module.read_text()).body)


def _read(report: str) -> tuple[float, str]:
    *_, report = report.rpartition("\nName ")  # before it stands what the tests printed
    lines = [line for line in report.splitlines() if line.startswith(("alphapo_async", "TOTAL"))]
    if not lines:
        return 0.0, "nothing was measured"
    words = lines[0].split()
    place = next(at for at, word in enumerate(words) if word.endswith("%"))
    return float(words[place].rstrip("%")), " ".join(words[place + 1 :])


def main(names: list[str]) -> int:
    """Check the modules, print a line for each, and return the exit code."""
    modules = [PACKAGE / name for name in names] or sorted(PACKAGE.rglob("*.py"))
    # What has the largest tests comes first, so that no long one is left over at the end.
    modules = sorted(filter(_has_code, modules), key=_size_of_tests, reverse=True)
    _load()
    results = list(covered(modules, (os.cpu_count() or 1) + 1))  # some tests wait while others compute
    failed = 0
    for module, share, missing in sorted(results):
        failed += share < WHOLE
        name = module.relative_to(PACKAGE)
        print(f"{'ok  ' if share >= WHOLE else 'FAIL'} {share:6.1f} % {name} {missing}")  # noqa: T201 - a command prints
    return 1 if failed else 0


def _size_of_tests(module: Path) -> int:
    tests = test_file(module)
    return tests.stat().st_size if tests.exists() else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
