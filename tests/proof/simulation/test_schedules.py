"""In which order an event loop runs what is ready."""

from __future__ import annotations

import asyncio

import pytest

from tests.proof.simulation.loop import SimulatedLoop
from tests.proof.simulation.scenario import drawn
from tests.proof.simulation.schedules import ORDERS, Schedule, arrangement
from tests.proof.simulation.simulation import simulated


def order_of(schedule: Schedule, seed: int, tasks: int = 4, steps: int = 3) -> list[int]:
    """Return which task ran when: each of them takes a few steps, and all are always ready."""
    loop, ran = SimulatedLoop(arrangement(schedule, seed)), list[int]()

    async def step(number: int) -> None:
        for _ in range(steps):
            ran.append(number)
            await asyncio.sleep(0)

    async def story() -> None:
        await asyncio.gather(*(step(number) for number in range(tasks)))

    loop.run_until_complete(story())
    loop.recover_dead_workers()
    loop.close()
    return ran


def test_in_order_is_as_an_event_loop_does_it() -> None:
    """Each round as the one before."""
    assert order_of("in order", 1) == [0, 1, 2, 3] * 3


@pytest.mark.parametrize("schedule", ORDERS)
def test_a_seed_is_one_order_and_every_task_has_its_turn(schedule: Schedule) -> None:
    """Every task runs in the end, at any priority."""
    assert order_of(schedule, 1) == order_of(schedule, 1)
    assert sorted(order_of(schedule, 1)) == sorted([0, 1, 2, 3] * 3)


def test_any_order_is_another_one_in_every_round_and_for_every_seed() -> None:
    """Twelve seeds hold more than six orders."""
    assert len({tuple(order_of("any order", seed)) for seed in range(12)}) > 6
    ran = order_of("any order", 3)
    assert len({tuple(ran[first : first + 4]) for first in (0, 4, 8)}) > 1


def test_a_priority_is_kept_until_it_is_lowered() -> None:
    """A task that is late is late again: in nearly all rounds the same one is last."""
    ran = order_of("priorities", 2, steps=40)
    last = ran[3::4]
    assert max(last.count(number) for number in range(4)) > 30
    many = order_of("priorities", 2, steps=800)
    assert len(set(many[3::4])) > 1


@pytest.mark.parametrize("schedule", ORDERS[1:])
def test_every_promise_is_kept_in_every_order(schedule: Schedule) -> None:
    """The same seed is the same world to the byte."""
    scenario = drawn(4, 6)._replace(schedule=schedule)
    first, second = (simulated(scenario, is_traced=True) for _ in range(2))
    assert (first.failure, first.trace) == (None, second.trace)


def test_half_of_the_worlds_are_in_order() -> None:
    """The seed decides, and each order comes up."""
    drawn_orders = [drawn(seed).schedule for seed in range(200)]
    assert 70 < drawn_orders.count("in order") < 130
    assert set(drawn_orders) == set(ORDERS)
