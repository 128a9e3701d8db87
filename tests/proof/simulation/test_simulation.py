"""The simulator: ten worlds in every test run, a hundred in the long run, and whether it could find anything at all."""

from __future__ import annotations

import asyncio
import gc
import os
import shutil
import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest

from alphapo_async.core.evidence import Requested, Revision
from alphapo_async.core.history import Entry
from alphapo_async.core.row import Row
from alphapo_async.core.transitions import new_row
from tests.proof.simulation.chance import Chance
from tests.proof.simulation.loop import SimulatedLoop, Stuck
from tests.proof.simulation.scenario import ASSUMPTIONS, FAMILIES, Assumption, drawn
from tests.proof.simulation.simulation import Simulation, simulated
from tests.proof.simulation.storage import Disk
from tests.support.long import long_after
from tests.support.wire import request

EACH = 12
"""Withdrawals in a world of the tests, about."""


@pytest.mark.parametrize("first", long_after(1, range(0, 100, 10)))
def test_every_promise_is_kept_in_every_world(first: int) -> None:
    """Ten seeds at a time; a failure names the seed, and `python -m tests.proof.simulation --seed N --each 12 --trace` shows it again."""
    verdicts = [simulated(drawn(seed, EACH)) for seed in range(first, first + 10)]

    assert [(verdict.seed, verdict.failure) for verdict in verdicts if verdict.failure] == []
    assert any(verdict.accepted for verdict in verdicts)


def test_one_seed_is_one_world() -> None:
    """The same trace to the byte and the same ledger, in another process whose hashes and addresses are others."""
    program = (
        "from hashlib import sha256\n"
        "from tests.proof.simulation.scenario import drawn\n"
        "from tests.proof.simulation.simulation import simulated\n"
        "for seed in (2, 9):\n"
        f"    told = simulated(drawn(seed, {EACH}), is_traced=True)\n"
        "    print(sha256('\\n'.join(told.trace).encode()).hexdigest(), told.ledger)\n"
    )
    environment = {**os.environ, "PYTHONHASHSEED": "4711"}

    there = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)

    here = [simulated(drawn(seed, EACH), is_traced=True) for seed in (2, 9)]
    told = [f"{sha256(chr(10).join(one.trace).encode()).hexdigest()} {one.ledger}" for one in here]
    assert there.stdout.split("\n")[:2] == told


def test_a_world_that_breaks_is_a_seed_that_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in the simulator's own story names its place, and is told with the seed like any other failure."""

    async def breaks(_self: Simulation) -> None:
        raise ArithmeticError

    monkeypatch.setattr(Simulation, "_leave_one", breaks)

    verdict = simulated(drawn(3, 4))

    assert verdict.seed == 3
    assert "the world itself broke" in str(verdict.failure)
    assert "ArithmeticError" in str(verdict.failure)


def test_what_is_taken_apart_in_the_end_says_nothing() -> None:
    """A process that is buried runs its `finally`: no line of it stands in the trace, and it writes nothing that counts."""
    world = Simulation(drawn(3, 4), is_traced=True)
    verdict = world.run()

    world._trace("from the grave")
    world._note("from the grave")
    world._fail("from the grave")

    assert world.trace == list(verdict.trace)
    assert (world.failure, "from the grave" in world.troubles) == (None, False)


_IN_ORDER = tuple(seed for seed in range(60) if drawn(seed, EACH).schedule == "in order")[:3]
_LEDGERS = (
    "from tests.proof.simulation.scenario import drawn\n"
    "from tests.proof.simulation.simulation import simulated\n"
    f"print([simulated(drawn(seed, {EACH})).ledger for seed in {_IN_ORDER}])\n"
)


def _others() -> list[str]:
    """Return the other minor versions of Python on the path that can run the client."""
    names = (f"python3.{minor}" for minor in range(11, 16) if minor != sys.version_info.minor)
    found = [path for name in names if (path := shutil.which(name)) is not None]
    ready = ("-c", "import aiohttp, msgspec, tenacity")
    return [path for path in found if not subprocess.run([path, *ready], capture_output=True, check=False).returncode]


def test_one_seed_is_one_ledger_on_every_version_of_python() -> None:
    """The schedule inside asyncio differs from version to version; where a world keeps the order, what AlphaPo has seen does not."""
    others = _others()
    if not others:
        pytest.skip("no other version of Python here can import the client")
    folder = Path(__file__).resolve().parents[3]
    told = [
        subprocess.run([python, "-c", _LEDGERS], cwd=folder, capture_output=True, text=True, check=True).stdout
        for python in (sys.executable, *others)
    ]

    assert len(set(told)) == 1


BROKEN: dict[Assumption, tuple[str, ...]] = {
    "A1": ("paid twice",),
    "A2": ("paid twice",),
    "A3": ("accepted after rejected was written down",),
    "A4": ("not_sent is written down, and money has moved",),
    "A5": ("the bytes of one revision have changed", "a body leaves that no journal holds"),
}
"""What goes wrong without it, as the table of the README says."""


@pytest.mark.parametrize("assumption", ASSUMPTIONS)
def test_every_assumption_is_needed(assumption: Assumption) -> None:
    """Where one does not hold, some world breaks the promise that rests on it: nothing is assumed for nothing."""
    first = 36 if assumption == "A3" else 12  # its worlds last for hours, and most of them end well
    verdicts = (simulated(drawn(seed, 40, assumption)) for seed in range(first, 40))

    shown = (
        verdict.failure for verdict in verdicts if any(kind in (verdict.failure or "") for kind in BROKEN[assumption])
    )
    assert next(shown, None) is not None


def test_every_family_of_trouble_comes_up() -> None:
    """In some worlds, and not in others."""
    worlds = [drawn(seed, EACH) for seed in range(40)]

    for family in FAMILIES:
        assert 0 < sum(world.has(family) for world in worlds) < 40, family


def test_chance_does_not_depend_on_order() -> None:
    """Every draw is about something, and the same for the same thing."""
    one, two = Chance(7), Chance(7)
    late = one.draw("late", "payout-1", 1)
    one.draw("something else")

    assert (
        two.draw("late", "payout-1", 1)
        == one.draw("late", "payout-1", 1)
        == late
        != Chance(8).draw("late", "payout-1", 1)
    )
    assert {Chance(7).whole(1, 3, one) for one in range(50)} == {1, 2, 3}
    assert {Chance(7).pick("ab", one) for one in range(50)} == {"a", "b"}
    assert not one.happens(0.0, "never")
    stream = one.stream("jitter")
    assert stream() != stream()


def test_a_process_that_dies_does_nothing_any_more() -> None:
    """Not even what stands in its `finally`, and its timers never ring."""
    loop, told = SimulatedLoop(), []

    async def work() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            told.append("finally")

    async def story() -> None:
        owner = loop.add_owner("one")
        loop.create_task(work(), context=loop.context_of(owner))
        await asyncio.sleep(5)
        assert len(loop.tasks_of(owner)) == 1
        loop.kill(owner)
        await asyncio.sleep(10)
        assert told == []

    loop.run_until_complete(story())
    loop.recover_dead_workers()
    loop.close()
    assert loop.complaints == []


@pytest.mark.parametrize("is_cut_off", [False, True], ids=["in order", "in the midst"])
def test_what_a_process_left_unheard_is_told_unless_it_was_cut_off(is_cut_off: bool) -> None:  # noqa: FBT001 - drawn
    """Of an error that nobody heard, somebody may still have been about to hear."""
    loop = SimulatedLoop()

    async def fail() -> None:
        raise ValueError

    async def story() -> None:
        owner = loop.add_owner("one")
        context = loop.context_of(owner)
        failing = loop.create_task(fail(), context=context)
        waiting = loop.create_task(asyncio.sleep(10 if is_cut_off else 1), context=context)
        await asyncio.sleep(5)
        loop.kill(owner)
        del failing, waiting

    loop.run_until_complete(story())
    gc.collect()
    loop.recover_dead_workers()
    loop.close()
    assert loop.complaints == ([] if is_cut_off else ["NumberedTask exception was never retrieved: ValueError()"])


def test_a_process_that_stands_still_does_late_what_was_due() -> None:
    """As after SIGSTOP and SIGCONT: the clock went on, and everything that was due happens at once."""
    loop, told = SimulatedLoop(), []

    async def work() -> None:
        for _ in range(2):
            await asyncio.sleep(1)
            told.append(loop.time())

    async def story() -> None:
        owner = loop.add_owner("one")
        loop.create_task(work(), context=loop.context_of(owner))
        await asyncio.sleep(0.5)
        owner.is_stopped = True
        await asyncio.sleep(9.5)
        owner.is_stopped = False
        await asyncio.sleep(5)

    loop.run_until_complete(story())
    loop.recover_dead_workers()
    loop.close()
    assert told == [10.0, 11.0]


@pytest.mark.parametrize("is_running", [False, True], ids=["nothing left", "in circles"])
def test_a_world_that_is_stuck_is_told(is_running: bool) -> None:  # noqa: FBT001 - drawn
    """Somebody waits for ever, or the same moment never ends."""
    loop = SimulatedLoop()
    loop.MOST_IN_A_MOMENT = 1_000

    async def circle() -> None:
        if is_running:
            loop.call_soon(again)
        await loop.create_future()

    def again() -> None:
        loop.call_soon(again)

    with pytest.raises(Stuck):
        loop.run_until_complete(circle())
    loop.recover_dead_workers()
    loop.close()


def _taken_on(name: str, known: Row | None) -> tuple[Row, Sequence[Entry]]:
    asked = Requested("worker", Revision(b"{}", request(name)), "key")
    return known or new_row("default", name, asked, 0.0, is_durable=True), ()


def test_a_disk_that_breaks_its_word_forgets_the_last_it_took() -> None:
    """What was acknowledged a moment ago is gone; what is older stays."""
    now = [0.0]
    disk = Disk(is_durable=True, is_file=False, watch=lambda _before, _after: None, clock=lambda: now[0])
    disk.keeps_its_word = False

    async def story() -> list[str]:
        for name in ("old", "new"):
            await disk.update("default", name, partial(_taken_on, name))
            now[0] += 6.0
        now[0] = 7.0
        disk.forget_the_last()
        return [row.foreign_id for row in disk.rows()]

    assert asyncio.run(story()) == ["old"]
