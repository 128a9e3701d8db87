"""The hunt, run over a planted copy: seed after seed until a promise is broken, or the search of the row's model."""

from __future__ import annotations

import gc
import logging
import subprocess
import sys
from pathlib import Path
from typing import Final

import msgspec
import pytest

import alphapo_async
from tests.proof.simulation.bugs.catalogue import FoundBy
from tests.proof.simulation.bugs.planting import ROOT
from tests.proof.simulation.scenario import drawn
from tests.proof.simulation.shrinking import Shrunk, shrunk
from tests.proof.simulation.simulation import simulated
from tests.proof.test_row_model import EYES, explore

__all__ = ["Find", "by_model_check", "by_simulation", "by_test", "main"]

_SEARCHES: Final[tuple[tuple[tuple[str, ...], int], ...]] = (
    ((), 5),
    (("rounds",), 3),
    (("lapses", "late words"), 4),
    ((), 8),
)
"""Families of troubles, and how deep each is searched."""


class Find(msgspec.Struct, frozen=True):
    """What a hunt brought home."""

    violation: str | None
    tries: int
    """Worlds that were run, or searches that were made."""
    shrunk: Shrunk | None = None
    """The smallest world found in which it is violated, where the simulation found it."""


def by_simulation(most: int, each: int, runs: int = 0) -> Find:
    """Run the worlds of one seed after another until a promise is broken; then shrink that world in so many runs."""
    for seed in range(most):
        scenario = drawn(seed, each)
        verdict = simulated(scenario)
        if verdict.failure is not None:
            return Find(verdict.failure, seed + 1, shrunk(scenario, verdict.failure, runs) if runs else None)
    return Find(None, most)


def by_model_check() -> Find:
    """Search the row's states, the calm ones first, until a promise is broken."""
    tries = 0
    for troubles, depth in _SEARCHES:
        for eyes in EYES:
            tries += 1
            broken = explore(eyes, depth, troubles=troubles).broken
            if broken is not None:
                return Find(broken, tries)
    return Find(None, tries)


def by_test(test: str) -> Find:
    """Run one test of the suite."""
    settings = ["-c", str(ROOT / "pyproject.toml"), "-n0", "-m", "", "-p", "no:cacheprovider"]
    done = subprocess.run([sys.executable, "-m", "pytest", *settings, test], stdout=subprocess.DEVNULL, check=False)
    return Find(f"{test.rpartition('::')[2]} fails" if done.returncode == pytest.ExitCode.TESTS_FAILED else None, 1)


def main(found_by: FoundBy, most: int, each: int, runs: int, test: str = "") -> None:
    """Hunt in the copy that stands in the working folder, and print what was found."""
    home = Path(alphapo_async.__file__).parent.parent
    assert home == Path.cwd(), f"the package of {home} is hunted in, not the copy"
    logging.disable()
    gc.disable()
    match found_by:
        case "simulation":
            found = by_simulation(most, each, runs)
        case "model check":
            found = by_model_check()
        case "test":
            found = by_test(test)
    print(msgspec.json.encode(found).decode())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]), *sys.argv[5:])  # type: ignore[arg-type]
