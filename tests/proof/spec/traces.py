"""Traces of the simulator as a module of TLA+: worlds that the specification describes, and their withdrawals step by step."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Final, NamedTuple

from tests.proof.simulation.scenario import Scenario, drawn
from tests.proof.spec.mapping import MOST_WORKERS, NO_ROW, OutOfScope, SpecRow, Step, steps_of
from tests.proof.spec.recording import RecordedSimulation

__all__ = ["NEVER", "Trace", "accepted_in", "broken", "configuration", "is_described", "module_of", "traces"]

NEVER: Final = 1_000_000_000
"""Ticks after which a look-up shows what it never shows; a number that TLC can add to a time."""
_EACH: Final = 12
_DAY: Final = 86_400.0


class Trace(NamedTuple):
    """What happened to one withdrawal."""

    seed: int
    foreign_id: str
    late: int
    """Milliseconds after which a look-up shows what AlphaPo accepted."""
    steps: tuple[Step, ...]


def is_described(scenario: Scenario) -> bool:
    """Return whether the specification describes worlds like this one: one clock, one key, one journal that outlives its processes."""
    dialect = scenario.dialect
    has_one_clock = not scenario.has("clocks")
    return (
        scenario.is_durable
        and has_one_clock
        and not scenario.has("rotation")
        and dialect.ids == "same"
        and scenario.resend_within == _DAY
        and (scenario.is_lossless or len(scenario.failovers) <= 1)
    )


def lateness(scenario: Scenario) -> int:
    """Return after how many milliseconds look-ups show what AlphaPo accepted."""
    dialect = scenario.dialect
    if dialect.visibility == "never" or dialect.look_up_transport == "dropped":
        return NEVER
    return round(dialect.visibility_delay * 1000) if dialect.visibility == "delayed" else 0


def traces(seeds: Iterable[int], left_out: Counter[str], each: int = _EACH) -> Iterator[Trace]:
    """Yield the traces of these seeds' worlds; what the specification does not describe is counted by its reason."""
    for seed in seeds:
        scenario = drawn(seed, each)
        if not is_described(scenario):
            left_out["worlds with several clocks, keys or journals"] += 1
            continue
        world = RecordedSimulation(scenario)
        verdict = world.run()
        if verdict.failure is not None:
            raise AssertionError(f"seed {seed}: {verdict.failure}")
        for foreign_id, events in world.events.items():
            try:
                steps = tuple(steps_of(events))
            except OutOfScope as reason:
                left_out[str(reason)] += 1
                continue
            yield Trace(seed, foreign_id, lateness(scenario), steps)


# ── TLA+ ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def _literal(value: object) -> str:
    if isinstance(value, bool):
        return "TRUE" if value else "FALSE"
    return f'"{value}"' if isinstance(value, str) else str(value)


def _row(row: SpecRow) -> str:
    return "NoRow" if row == NO_ROW else f"R({', '.join(map(_literal, row))})"


def _step(step: Step) -> str:
    arguments = ", ".join(map(_literal, step[:5]))
    return f"S({arguments})" if step.row is None else f"C({arguments}, {_row(step.row)})"


def module_of(found: Iterable[Trace]) -> str:
    """Return the module `Traces`: a tuple of traces, each a tuple of steps, and when look-ups show what was accepted in each."""
    kept = list(found)
    fields = ", ".join(SpecRow._fields)
    record = ", ".join(f"{name} |-> {name}" for name in SpecRow._fields)
    lines = [
        "---- MODULE Traces ----",
        "EXTENDS Withdrawal, Sequences",
        f"R({fields}) == [{record}]",
        "S(at, act, w, x, n) == [at |-> at, act |-> act, w |-> w, x |-> x, n |-> n, isChecked |-> FALSE, row |-> NoRow]",
        "C(at, act, w, x, n, r) == [S(at, act, w, x, n) EXCEPT !.isChecked = TRUE, !.row = r]",
    ]
    lines += [f"T{place} == <<{', '.join(map(_step, trace.steps))}>>" for place, trace in enumerate(kept, 1)]
    names = ", ".join(f"T{place}" for place in range(1, len(kept) + 1))
    lateness_of = ", ".join(str(trace.late) for trace in kept)
    return "\n".join([*lines, f"Logs == <<{names}>>", f"LateOf == <<{lateness_of}>>", "====", ""])


def configuration() -> str:
    """Return TLC's configuration for traces: AlphaPo's and the client's times in milliseconds, and no bounds."""
    workers = ", ".join(f'"w{number}"' for number in range(1, MOST_WORKERS + 1))
    faults = ("lapse", "cancel", "key", "operator", "callback", "throttle", "blame", "others", "back")
    times = {"Quiet": 1_800_000, "Lease": 60_000, "Keep": 86_400_000, "Attempt": 15_000, "MaxTime": 2_000_000_000}
    many = dict.fromkeys(("MaxBodies", "MaxRevisions", "MaxAccepted", "MaxDepth"), 1_000_000)
    lines = ["SPECIFICATION TraceSpec", "CONSTANTS", f" Workers = {{{workers}}}", " LateTimes = {0}", ' Mistake = ""']
    lines.append(f" Faults = {{{', '.join(map(_literal, faults))}}}")
    lines += [f" {name} = {value}" for name, value in (times | many).items()]
    return "\n".join([*lines, "INVARIANTS P1 P2 P4", "PROPERTIES P2Step P5 FrozenStays", ""])


_ACCEPTED: Final = re.compile(r'"accepted", (\d+)')


def accepted_in(printed: str) -> set[int]:
    """Return the numbers of the traces that TLC accepted, counted from 1."""
    return set(map(int, _ACCEPTED.findall(printed)))


def broken(found: Sequence[Trace]) -> Trace:
    """Return the first trace in which an attempt leaves a doubt, with that doubt taken out of the row: a planted mistake.

    Raises:
        ValueError: no trace has a doubt.
    """
    for trace in found:
        for place, step in enumerate(trace.steps):
            if step.action == "record" and step.row is not None and step.row.doubt:
                wrong = step._replace(row=step.row._replace(doubt=0))
                return trace._replace(steps=(*trace.steps[:place], wrong, *trace.steps[place + 1 :]))
    raise ValueError("no trace has a doubt")
