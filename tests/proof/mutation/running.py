"""One mutant, one forked process: the module is compiled from its changed tree, and its tests run until the first fails.

What the package depends on is imported before the forks, so a mutant costs little more than its tests.
"""

from __future__ import annotations

import importlib
import os
import resource
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from importlib.machinery import ModuleSpec, SourceFileLoader
from importlib.util import spec_from_file_location
from pathlib import Path
from types import CodeType
from typing import Any, NamedTuple

import hypothesis
import pytest

from tests.coverage_gate import ROOT
from tests.proof.mutation.changes import changed

__all__ = ["Job", "Mutant", "Ran", "prepare", "run_all"]

_OPTIONS = (
    *("-x", "-q", "--tb=no", "-o", "addopts=", "--hypothesis-seed=20261123"),
    *("-p", "no:cacheprovider", "-p", "no:xdist"),
    "--assert=plain",  # pytest would load the package, which brings a plugin, in the place of the changed module
)
_WAITING = 10.0  # seconds that a mutant may be kept waiting beside those of its work
_MEMORY = 4 * 2**30
_IMPORTED_FIRST = ("aiohttp", "asyncpg", "click", "rich", "tenacity", "msgspec", "pytest_asyncio.plugin")


class Mutant(NamedTuple):
    """A module, and which of its changes; a negative number is none at all."""

    module: Path
    number: int


class Job(NamedTuple):
    """A mutant, the tests that it must not survive, and the seconds that they may take."""

    mutant: Mutant
    tests: tuple[str, ...]
    seconds: int = 60


class Ran(NamedTuple):
    """A mutant and whether a test failed, or ran for too long."""

    mutant: Mutant
    is_killed: bool
    seconds: float


def prepare() -> None:
    """Import what does not change, and let a failed property be told without looking for its smallest example."""
    for name in _IMPORTED_FIRST:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    hypothesis.settings.register_profile(
        "mutation",
        database=None,
        deadline=None,
        phases=[hypothesis.Phase.explicit, hypothesis.Phase.generate],
        suppress_health_check=list(hypothesis.HealthCheck),
    )
    hypothesis.settings.load_profile("mutation")


def run_all(jobs: Iterable[Job], workers: int) -> Iterator[Ran]:
    """Run jobs, so many at once, and yield each as it ends."""
    running: dict[int, tuple[Job, float]] = {}
    for job in jobs:
        if len(running) >= workers:
            yield _next_end(running)
        running[_forked(job)] = (job, time.monotonic())
    while running:
        yield _next_end(running)


def _next_end(running: dict[int, tuple[Job, float]]) -> Ran:
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if pid:
            job, since = running.pop(pid)
            _end(pid)
            return Ran(job.mutant, status != 0, time.monotonic() - since)
        for late in [pid for pid, (job, since) in running.items() if time.monotonic() - since > job.seconds + _WAITING]:
            _end(late)
        time.sleep(0.01)


def _end(pid: int) -> None:
    """End what a mutant runs, and what it started and left behind."""
    try:
        os.killpg(pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def _forked(job: Job) -> int:
    pid = os.fork()
    if not pid:
        _alone(lambda: _tested(job), job.seconds)
    return pid


def _alone(work: Callable[[], int], seconds: int) -> None:
    """Work in a session of its own, unheard and bounded, and never return."""
    code = 1
    try:
        os.setsid()
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
        unheard = os.open(os.devnull, os.O_RDWR)
        for stream in (0, 1, 2):
            os.dup2(unheard, stream)
        code = work()
    finally:
        os._exit(code)


def _tested(job: Job) -> int:
    os.chdir(ROOT)
    if job.mutant.number >= 0:
        sys.meta_path.insert(0, _Finder(job.mutant))
    return int(pytest.main([*_OPTIONS, *job.tests]))


# ── the changed module in the place of its own ───────────────────────────────────────────────────────────────────────


class _Finder:
    """Finds one module, changed."""

    def __init__(self, mutant: Mutant) -> None:
        self._mutant = mutant
        parts = mutant.module.relative_to(ROOT).with_suffix("").parts
        self._is_package = parts[-1] == "__init__"
        self._name = ".".join(parts[:-1] if self._is_package else parts)

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != self._name:
            return None
        places = [str(self._mutant.module.parent)] if self._is_package else None
        loader = _Loader(name, self._mutant)
        return spec_from_file_location(name, self._mutant.module, loader=loader, submodule_search_locations=places)


class _Loader(SourceFileLoader):
    """Compiles the changed tree, and keeps nothing of it."""

    def __init__(self, name: str, mutant: Mutant) -> None:
        super().__init__(name, str(mutant.module))
        self._mutant = mutant

    def get_code(self, fullname: str) -> CodeType:
        tree = changed(self._mutant.module.read_text(), self._mutant.number)
        return compile(tree, str(self._mutant.module), "exec", dont_inherit=True)
