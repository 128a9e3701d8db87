"""In which order an event loop runs what is ready: as it came, in any order, or by priorities.

An event loop promises to run callbacks in the order in which they became ready. Which of them becomes ready first is decided by sockets,
threads and the system: `any order` stands for all of that. `priorities` is probabilistic concurrency testing (Burckhardt and others, 2010,
https://www.microsoft.com/en-us/research/publication/a-randomized-scheduler-with-probabilistic-guarantees-of-finding-bugs/). Each task has
a random priority, and a few times in a run the task that is about to run gets the lowest one. It finds what only a task that is late
again and again shows.
"""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any, Final, Literal, TypeAlias

__all__ = ["ORDERS", "Arrange", "Schedule", "arrangement"]

Schedule: TypeAlias = Literal["in order", "any order", "priorities"]
ORDERS: Final[tuple[Schedule, ...]] = ("in order", "any order", "priorities")
Arrange: TypeAlias = Callable[[list[Any]], None]
"""Puts handles, or processes, into the order in which they run."""

_CHANGES: Final = 5
"""How often a task's priority is lowered in a run, at most."""
_STEPS: Final = 2_000
"""Handles within which that happens."""


def arrangement(schedule: Schedule, seed: int) -> Arrange | None:
    """Return what arranges the handles of a world; None where they run as they came."""
    if schedule == "in order":
        return None
    chance = Random(f"schedule of {seed}")
    return chance.shuffle if schedule == "any order" else _Priorities(chance)


class _Priorities:
    """Runs the handles of one task before those of another, whichever became ready first."""

    def __init__(self, chance: Random) -> None:
        self._chance = chance
        self._priorities: dict[int, float] = {}
        self._steps = 0
        self._changes = {chance.randrange(_STEPS) for _ in range(_CHANGES)}
        self._lowest = 1.0

    def __call__(self, handles: list[Any]) -> None:
        handles.sort(key=self._priority)
        for handle in handles:
            self._steps += 1
            if self._steps in self._changes:
                self._lowest += 1.0
                self._priorities[_task_of(handle)] = self._lowest

    def _priority(self, handle: Any) -> float:
        task = _task_of(handle)
        priority = self._priorities.get(task)
        if priority is None:
            priority = self._priorities[task] = self._chance.random()
        return priority


def _task_of(handle: Any) -> int:
    """Return the number of the task that the handle continues; 0 for any other handle, and for a process."""
    task = getattr(getattr(handle, "_callback", None), "__self__", None)
    return int(getattr(task, "number", 0))
