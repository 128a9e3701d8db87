"""The named plans."""

from __future__ import annotations

import pytest

from alphapo_async.sandbox.fault_sets import FAULT_SETS, named_faults
from alphapo_async.sandbox.faults import Call, Fault


def share(name: str, number: int, kind: str = "withdrawal") -> float:
    """Return how many of a thousand calls a named plan strikes."""
    plan = named_faults(name, 1)
    calls = [Call(kind, f"payout-{place}", number, 0.0) for place in range(1000)]  # type: ignore[arg-type]
    return sum(plan.next(call) is not None for call in calls) / 1000


def test_the_demo_is_lively() -> None:
    """A quarter of the first bodies are struck, fewer of the later ones, and a few look-ups."""
    assert 0.2 < share("demo", 1) < 0.3
    assert 0.03 < share("demo", 2) < 0.15
    assert 0.01 < share("demo", 1, "look-up") < 0.08


def test_heavy_is_heavier() -> None:
    """Half of everything is struck."""
    assert share("heavy", 1) > 0.45
    assert share("heavy", 1, "look-up") > 0.2
    assert share("none", 1) == 0


@pytest.mark.parametrize("fault", list(Fault))
def test_every_fault_has_its_name(fault: Fault) -> None:
    """A single fault strikes the first body of every withdrawal, and then lets go."""
    plan = named_faults(fault.value)
    assert [plan.next(Call("withdrawal", "a", number, 0.0)) for number in (1, 2)] == [fault, None]


@pytest.mark.parametrize(
    ("name", "body", "look_up"),
    [
        ("not_sent", Fault.THROTTLE, None),
        ("failed", None, None),
        ("unknown", Fault.RESET_AFTER, Fault.HTML_502_BEFORE),
    ],
)
def test_a_plan_named_after_an_outcome_never_lets_go(name: str, body: Fault | None, look_up: Fault | None) -> None:
    """However often a call tries."""
    plan = named_faults(name)
    for number in (1, 9):
        assert plan.next(Call("withdrawal", "a", number, 0.0)) is body
        assert plan.next(Call("look-up", "a", number, 0.0)) is look_up


def test_the_outage_comes_and_goes() -> None:
    """There are times with and times without."""
    plan = named_faults("outage")
    struck = {plan.next(Call("ping", "", 1, at / 2)) for at in range(60)}
    assert struck == {None, Fault.HTML_503_BEFORE}


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    """The message says what there is."""
    with pytest.raises(ValueError, match="Known: none, demo, heavy, not_sent, failed, unknown, outage, reset_before"):
        named_faults("everything")
    named = {"none", "demo", "heavy", "not_sent", "failed", "unknown", "outage"}
    assert set(FAULT_SETS) == {*named, *(fault.value for fault in Fault)}
