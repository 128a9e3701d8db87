"""Named plans of faults, for the command line and for tests."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from alphapo_async.sandbox.faults import AllFail, Fault, FaultPlan, Faults, OutagePlan, Script, Several

__all__ = ["FAULT_SETS", "named_faults"]

_NONE = Script({})
# Of these no call comes to another end, however often it tries.
_NOT_SENT = Script({"*": {"withdrawal": [Fault.THROTTLE]}}, then="repeat last")
_UNKNOWN = Script({"*": {"withdrawal": [Fault.RESET_AFTER], "look-up": [Fault.HTML_502_BEFORE]}}, then="repeat last")
_DEMO = {
    Fault.RESET_AFTER: 0.04,
    Fault.RESET_BEFORE: 0.03,
    Fault.HTML_502_AFTER: 0.03,
    Fault.HTML_503_BEFORE: 0.03,
    Fault.CUT_BODY: 0.03,
    Fault.ERROR_500_AFTER: 0.02,
    Fault.SLOW: 0.03,
    Fault.CLOSE_KEEPALIVE: 0.02,
    Fault.THROTTLE: 0.01,
    Fault.STALL_AFTER: 0.005,
    Fault.LATE: 0.005,
}
_DEMO_LOOK_UPS = {Fault.HTML_502_BEFORE: 0.02, Fault.RESET_BEFORE: 0.01, Fault.SLOW: 0.01}
# Everything but the faults that end a whole batch (the key) or that only an operator can settle.
_HEAVY: dict[Fault, float] = dict.fromkeys(
    [fault for fault in Fault if fault not in {Fault.KEY_REFUSED, Fault.OTHER_FOREIGN_ID, Fault.INSUFFICIENT}], 0.02
)
_HEAVY_LOOK_UPS = {
    Fault.HTML_502_BEFORE: 0.1,
    Fault.RESET_BEFORE: 0.1,
    Fault.GARBAGE: 0.05,
    Fault.THROTTLE: 0.05,
    Fault.STALL_BEFORE: 0.01,
}


def _demo(seed: int) -> FaultPlan:
    return Several(Faults(_DEMO, seed, later=0.3), Faults(_DEMO_LOOK_UPS, seed, ("look-up",)))


def _heavy(seed: int) -> FaultPlan:
    return Several(Faults(_HEAVY, seed, later=0.5), Faults(_HEAVY_LOOK_UPS, seed, ("look-up",)))


def _single(fault: Fault) -> Callable[[int], FaultPlan]:
    return lambda _seed: Script({"*": {"withdrawal": [fault]}})


FAULT_SETS: Mapping[str, Callable[[int], FaultPlan]] = MappingProxyType(
    {
        "none": lambda _seed: _NONE,
        "demo": _demo,
        "heavy": _heavy,
        "not_sent": lambda _seed: _NOT_SENT,
        "failed": lambda _seed: AllFail(),
        "unknown": lambda _seed: _UNKNOWN,
        "outage": lambda _seed: OutagePlan(5.0, 3.0, every=15.0),
        **{fault.value: _single(fault) for fault in Fault},
    }
)
"""Named plans, each made from a seed. `not_sent`, `failed` and `unknown` are named after how every withdrawal ends; a single fault's name
strikes the first body of every withdrawal with it."""


def named_faults(name: str, seed: int = 0) -> FaultPlan:
    """Return the named plan.

    Raises:
        ValueError: no plan has this name.
    """
    if name not in FAULT_SETS:
        raise ValueError(f"There are no faults named {name!r}. Known: {', '.join(FAULT_SETS)}.")
    return FAULT_SETS[name](seed)
