"""The hunt, run over a planted copy: seed after seed until a promise is broken, or the search of the row's model."""

from __future__ import annotations

import gc
import logging
import sys
from pathlib import Path
from typing import Final

import msgspec

import alphapo_async
from tests.core.test_row_model import EYES, explore
from tests.simulation.bugs.catalogue import FoundBy
from tests.simulation.scenario import drawn
from tests.simulation.simulation import simulated

__all__ = ["Find", "by_model_check", "by_simulation", "main"]

_SEARCHES: Final[tuple[tuple[tuple[str, ...], int], ...]] = ((), 5), (("lapses", "late words"), 4), ((), 8)
"""Families of troubles, and how deep each is searched."""


class Find(msgspec.Struct, frozen=True):
    """What a hunt brought home."""

    violation: str | None
    tries: int
    """Worlds that were run, or searches that were made."""


def by_simulation(most: int, each: int) -> Find:
    """Run the worlds of one seed after another until a promise is broken."""
    for seed in range(most):
        verdict = simulated(drawn(seed, each))
        if verdict.failure is not None:
            return Find(verdict.failure, seed + 1)
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


def main(found_by: FoundBy, most: int, each: int) -> None:
    """Hunt in the copy that stands in the working folder, and print what was found."""
    home = Path(alphapo_async.__file__).parent.parent
    assert home == Path.cwd(), f"the package of {home} is hunted in, not the copy"
    logging.disable()
    gc.disable()
    found = by_simulation(most, each) if found_by == "simulation" else by_model_check()
    print(msgspec.json.encode(found).decode())


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))  # type: ignore[arg-type]
