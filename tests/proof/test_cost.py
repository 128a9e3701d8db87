"""What a withdrawal costs where nothing goes wrong, counted and not timed: a slow path cannot creep back unseen.

What is counted are the calls of this library's own Python functions, and the objects that the garbage collector has to look at while a
withdrawal waits. The figures are those of today with little room; whoever makes them smaller takes the room away.
"""

import asyncio
import gc
import sys
import threading
from pathlib import Path
from types import FrameType

import alphapo_async
from alphapo_async.client import AlphapoClient
from alphapo_async.journal import Journal, open_journal
from tests.support.virtual import run
from tests.support.wire import Durable, Wire, client, request

OURS = str(Path(alphapo_async.__file__).parent)
AT_ONCE = 20
EACH = 10


class Calls:
    """Counts the calls of our functions, in every thread that begins after this and in this one."""

    def __init__(self) -> None:
        self.counted: dict[int, int] = {}
        threading.setprofile(self._count)
        sys.setprofile(self._count)

    def _count(self, frame: FrameType, event: str, _argument: object) -> None:
        if event == "call" and frame.f_code.co_filename.startswith(OURS):
            thread = threading.get_ident()  # a figure of its own for each: they count at the same time
            self.counted[thread] = self.counted.get(thread, 0) + 1

    def end(self) -> int:
        """Count no more, and return how many there were."""
        sys.setprofile(None)
        threading.setprofile(None)
        return sum(self.counted.values())


async def calls_for_each(journal: Journal | None = None) -> float:
    """Return how many of our functions are called for each of some withdrawals, those of a journal's thread included."""

    async def worker(alphapo: AlphapoClient, number: int) -> None:
        for one in range(EACH):
            await alphapo.withdraw(request(f"{number}-{one}"))

    calls = Calls()
    try:
        async with client(Wire(), journal=journal) as alphapo:
            await alphapo.withdraw(request("first"))
            await asyncio.sleep(0.2)
            before = sum(calls.counted.values())
            await asyncio.gather(*(worker(alphapo, number) for number in range(AT_ONCE)))
    finally:
        counted = calls.end()
    return (counted - before) / AT_ONCE / EACH


def test_a_withdrawal_calls_few_functions_with_the_journal_in_memory() -> None:
    """Check, encode, sign, write down, send, judge, write down, tell."""
    assert run(calls_for_each()) < 172


def test_a_withdrawal_calls_few_functions_with_a_journal_that_lasts() -> None:
    """The acceptance is told first and written down a moment later."""
    assert run(calls_for_each(Durable())) < 174


def test_a_withdrawal_calls_few_functions_with_the_journal_in_a_file(tmp_path: Path) -> None:
    """Rows that are written down together share a commit, and what they need is read and written in one go."""
    assert asyncio.run(calls_for_each(open_journal(str(tmp_path / "journal.db")))) < 227


def test_a_withdrawal_that_waits_keeps_few_objects() -> None:
    """Each of them is one more for the garbage collector to look at."""

    async def story() -> float:
        async with client(Wire(["silent"] * 9), max_connections=400) as alphapo:
            gc.collect()
            before = len(gc.get_objects())
            waiting = [asyncio.ensure_future(alphapo.withdraw(request(f"waits-{one}"))) for one in range(200)]
            await asyncio.sleep(1)
            gc.collect()
            kept = (len(gc.get_objects()) - before) / len(waiting)
            for one in waiting:
                one.cancel()
            await asyncio.gather(*waiting, return_exceptions=True)
            return kept

    assert run(story()) < 40


def test_a_withdrawal_that_is_over_leaves_nothing_to_the_garbage_collector() -> None:
    """Flights, callers and clocks are freed at once: nothing refers back to itself."""

    async def story() -> int:
        async with client(Wire()) as alphapo:
            await alphapo.withdraw(request("first"))
            gc.collect()
            gc.disable()
            try:
                for one in range(100):
                    await alphapo.withdraw(request(f"next-{one}"))
                return gc.collect()
            finally:
                gc.enable()

    assert run(story()) == 0
