"""From a world that breaks a promise to a story of a few lines."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.proof.simulation.scenario import drawn
from tests.proof.simulation.shrinking import kind_of, minimal, shrunk
from tests.proof.simulation.simulation import simulated


@given(st.lists(st.integers(0, 99), unique=True, max_size=40), st.data())
def test_the_smallest_part_is_found(items: list[int], data: st.DataObject) -> None:
    """Where all of a few items are needed, exactly those are left, in their order."""
    needed = data.draw(st.sets(st.sampled_from(items), max_size=4)) if items else set[int]()

    def fails(some: Sequence[int]) -> bool:
        return needed <= set(some)

    assert list(minimal(items, fails)) == [item for item in items if item in needed]


@pytest.mark.parametrize(
    ("failure", "kind"),
    [
        (None, None),
        ("at 1.5 s: payout-3: reported after 12.3 s", "NAME: reported after # s"),
        ("at 20.0 s: Payout No 24-2: reported after 3 s", "NAME: reported after # s"),
        ("at 0.1 s: PAYOUT-8: reported after 3 s", "NAME: reported after # s"),
    ],
)
def test_a_violation_is_known_again_by_its_kind(failure: str | None, kind: str | None) -> None:
    """Whatever the payment's name, the time and the figures."""
    assert kind_of(failure) == kind


def test_a_failure_becomes_a_story_of_a_few_events() -> None:
    """Where AlphaPo accepts two simultaneous bodies of one foreign_id: one payment is left, and what made it be paid twice."""
    failing = ((drawn(seed, 8, "A1"), simulated(drawn(seed, 8, "A1")).failure) for seed in range(20))
    scenario, failure = next((world, failure) for world, failure in failing if failure and "paid twice" in failure)

    small = shrunk(scenario, failure, 120)

    assert "paid twice" in small.failure
    assert (small.payments, small.runs <= 120) == (1, True)
    assert small.events == len(small.story) <= 12
    assert small.story[-1].endswith(small.failure.partition(" s: ")[2])


def test_no_runs_leave_the_world_as_it_is() -> None:
    """The failure is shown, with everything that happened."""
    scenario = drawn(0, 4, "A1")
    small = shrunk(scenario, "at 1.0 s: something else", 0)
    assert (small.runs, small.payments) == (0, len(scenario.intents))
