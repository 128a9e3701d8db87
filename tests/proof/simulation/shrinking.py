"""Shrinking: from a world that breaks a promise to the smallest one found that breaks it in the same way, and its story.

A world is a list of parts: its payments and what is unusual about each of them, families of trouble, kinds of faults, outages, a second
process, what is unusual in AlphaPo's dialect. Parts are left out as long as the rest breaks the promise in the same way; then single things
that happened by chance are. Since each draw is about something, leaving one thing out does not change the others.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from itertools import chain
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
from msgspec import structs

from alphapo_async.sandbox.callbacks import Mischief
from alphapo_async.sandbox.dialects import Dialect
from tests.proof.simulation.scenario import Scenario
from tests.proof.simulation.simulation import Verdict, simulated

__all__ = ["MOST_RUNS", "Shrunk", "kind_of", "minimal", "shrunk", "story_of"]

T = TypeVar("T")
MOST_RUNS: Final = 400
"""Worlds that are run for one failure."""


class Shrunk(msgspec.Struct, frozen=True):
    """The smallest world that was found for a failure."""

    seed: int
    failure: str
    runs: int
    payments: int
    processes: int
    events: int
    """Lines of the story."""
    story: tuple[str, ...]


def kind_of(failure: str | None) -> str | None:
    """Return what was violated, without the time, the names and the figures; None if nothing was."""
    if failure is None:
        return None
    what = failure.partition(" s: ")[2]
    what = re.sub(r"payout (no )?\d+(-\d+)?|payout-\d+(-\d+)?", "NAME", what, flags=re.IGNORECASE)
    return re.sub(r"\d+(\.\d+)?", "#", what)[:60]


def minimal(items: Sequence[T], fails: Callable[[Sequence[T]], bool]) -> Sequence[T]:
    """Return a part of the items with which it still fails, and without any one of which it does not, as far as `fails` was asked.

    Delta debugging (Zeller and Hildebrandt, 2002, https://doi.org/10.1109/32.988498): it leaves out half of them, then quarters, and so on.
    """
    size = len(items)
    while size and items:
        size = (size + 1) // 2
        start, has_shrunk = 0, False
        while start < len(items):
            rest = [*items[:start], *items[start + size :]]
            if fails(rest):
                items, has_shrunk = rest, True
            else:
                start += size
        if size == 1 and not has_shrunk:
            break
    return items


class _Part(NamedTuple):
    """Something that a world can be without."""

    field: str
    """Of the scenario."""
    of: Any = None
    """Which member of it: a payment, a family, a fault, a name."""
    value: Any = None
    """What stands there without it."""


_PLAIN: Final[dict[str, Any]] = {
    "full": None,
    "balance": None,
    "mischief": Mischief(),
    "told_share": 0.0,
    "schedule": "in order",
    "is_one_machine": False,
    "is_left_alone": False,
    "max_connections": 100,
    "latency": 0.02,
    "rates_of_clients": (None,),
    "processes": 1,
}
"""How a plain world has it."""
_USUAL: Final[dict[str, Any]] = {
    "correction": None,
    "is_doubled": False,
    "confused": None,
    "is_urgent": False,
    "expires_in": None,
    "how": "withdraw",
}
"""How a usual payment has it."""
_MEMBERS: Final = ("families", "outages", "refusals", "failovers", "edge")


def _parts(scenario: Scenario) -> list[_Part]:
    """Return everything that the world can be without."""
    plain = (_Part(name, None, value) for name, value in _PLAIN.items() if getattr(scenario, name) != value)
    members = (_Part(name, one) for name in _MEMBERS for one in sorted(getattr(scenario, name), key=str))
    rates = (_Part("rates", name, 0.0) for name, rate in scenario.rates._asdict().items() if rate)
    usual = structs.asdict(Dialect())
    dialect = (
        _Part("dialect", name, usual[name])
        for name, value in structs.asdict(scenario.dialect).items()
        if value != usual[name]
    )
    unusual = (
        _Part("unusual", (intent.number, name), value)
        for intent in scenario.intents
        for name, value in _USUAL.items()
        if getattr(intent, name) != value
    )
    payments = (_Part("intents", intent.number) for intent in scenario.intents)
    return list(chain(payments, plain, members, rates, dialect, unusual))


def _without(scenario: Scenario, gone: Sequence[_Part]) -> Scenario:
    """Return the world without these parts."""
    out: dict[str, dict[Any, Any]] = {}
    for part in gone:
        out.setdefault(part.field, {})[part.of] = part.value
    changed: dict[str, Any] = {name: out[name][None] for name in _PLAIN if name in out}
    for name in ("outages", "refusals", "failovers"):
        changed[name] = tuple(one for one in getattr(scenario, name) if one not in out.get(name, ()))
    unusual = out.get("unusual", {})
    return scenario._replace(
        **changed,
        families=scenario.families - out.get("families", {}).keys(),
        edge={fault: share for fault, share in scenario.edge.items() if fault not in out.get("edge", ())},
        rates=scenario.rates._replace(**out.get("rates", {})),
        dialect=structs.replace(scenario.dialect, **out.get("dialect", {})),
        intents=tuple(
            intent._replace(**{name: value for (number, name), value in unusual.items() if number == intent.number})
            for intent in scenario.intents
            if intent.number not in out.get("intents", ())
        ),
    )


class _Search:
    """Tries smaller worlds, a bounded number of them."""

    def __init__(self, scenario: Scenario, failure: str, most: int) -> None:
        self.scenario = scenario
        self.allowed: frozenset[str] | None = None
        self.runs = 0
        self._kind = kind_of(failure)
        self._until = _time_of(failure)
        self._most = most

    def fails(self, scenario: Scenario, allowed: frozenset[str] | None) -> bool:
        """Return whether this world breaks the promise in the same way, and keep it if so."""
        if self.runs >= self._most:
            return False
        self.runs += 1
        verdict = simulated(scenario, allowed=allowed, until=self._until)
        if kind_of(verdict.failure) != self._kind:
            return False
        self.scenario, self.allowed = scenario, allowed
        self._until = min(self._until, _time_of(verdict.failure))
        return True

    def leave_out_parts(self) -> bool:
        """Leave out parts of the world; return whether some could be."""
        whole, parts = self.scenario, _parts(self.scenario)
        kept = minimal(
            parts,
            lambda some: self.fails(_without(whole, [part for part in parts if part not in some]), self.allowed),
        )
        return len(kept) < len(parts)

    def leave_out_chance(self) -> None:
        """Leave out what happened by chance, one by one."""
        happened = simulated(self.scenario, allowed=self.allowed, until=self._until).happened
        minimal(happened, lambda some: self.fails(self.scenario, frozenset(some)))


def _time_of(failure: str | None) -> float:
    return float((failure or "").removeprefix("at ").partition(" s: ")[0]) + _LATER


_LATER: Final = 60.0
"""Simulated seconds after the failure in which a smaller world may still show it."""


def shrunk(scenario: Scenario, failure: str, most: int = MOST_RUNS) -> Shrunk:
    """Return the smallest world found that fails as this one does.

    Args:
        scenario: the world.
        failure: how it fails.
        most: worlds to be run.
    """
    search = _Search(scenario, failure, most)
    while search.leave_out_parts():
        pass
    search.leave_out_chance()
    search.leave_out_parts()
    verdict = simulated(search.scenario, allowed=search.allowed, is_traced=True)
    story = story_of(verdict)
    return Shrunk(
        scenario.seed,
        verdict.failure or "",
        search.runs,
        len(search.scenario.intents),
        search.scenario.processes,
        len(story),
        story,
    )


_STORY: Final = re.compile(
    r"[\d.]+ (trouble: |outcome: |callback |AlphaPo |VIOLATION|the journal goes back|.*: (a body of|dies|is closed))"
)


def story_of(verdict: Verdict) -> tuple[str, ...]:
    """Return what happened between people, processes and AlphaPo, without the ways to the journal; what repeats itself stands once."""
    lines: dict[str, str] = {}
    for line in map(str.strip, verdict.trace):
        if _STORY.match(line):
            lines.setdefault(line.partition(" ")[2], line)
    return tuple(lines.values())
