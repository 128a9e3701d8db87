"""Many at once, a bounded number at a time."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator

import pytest

from alphapo_async.core.errors import JournalError
from alphapo_async.engine.streaming import as_finished
from tests.support.virtual import run


async def numbers(count: int, taken: list[int]) -> AsyncIterator[int]:
    """Yield numbers, and note which were taken."""
    for number in range(count):
        taken.append(number)
        yield number


def test_results_come_as_they_finish() -> None:
    """The quick before the slow."""

    async def job(number: int) -> int:
        await asyncio.sleep([9, 2, 1, 5, 1][number])
        return number

    async def story() -> list[int]:
        return [result async for result in as_finished(numbers(5, []), job, 3)]

    assert run(story()) == [2, 1, 4, 3, 0]


def test_no_more_run_at_once_than_allowed() -> None:
    """And no item is taken before there is room."""
    running, most, taken = [0], [0], list[int]()

    async def job(number: int) -> int:
        running[0] += 1
        most[0] = max(most[0], running[0])
        assert len(taken) - number <= 4
        await asyncio.sleep(1)
        running[0] -= 1
        return number

    async def story() -> int:
        return len([result async for result in as_finished(numbers(20, taken), job, 4)])

    assert run(story()) == 20
    assert most == [4]


def test_closing_early_waits_for_what_is_under_way() -> None:
    """And takes no more."""
    finished: list[int] = []
    taken: list[int] = []

    async def job(number: int) -> int:
        await asyncio.sleep(1 + number)
        finished.append(number)
        return number

    async def story() -> None:
        results = as_finished(numbers(20, taken), job, 3)
        await anext(results)
        await results.aclose()  # type: ignore[attr-defined]

    run(story())
    assert taken == [0, 1, 2]
    assert finished == [0, 1, 2]


def test_an_error_of_a_job_comes_out_after_the_others_ended() -> None:
    """Nothing is left running."""
    finished: list[int] = []

    async def job(number: int) -> int:
        await asyncio.sleep(1 + number)
        if number == 0:
            raise ZeroDivisionError
        finished.append(number)
        return number

    async def story() -> None:
        async for _ in as_finished(numbers(3, []), job, 3):
            pass

    with pytest.raises(ZeroDivisionError):
        run(story())
    assert finished == [1, 2]


def test_several_errors_are_all_heard() -> None:
    """One comes out; asyncio complains of none of the others."""
    complaints: list[object] = []

    async def job(number: int) -> int:
        await asyncio.sleep(1 + number // 2)
        raise ZeroDivisionError(number)

    async def story() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        async for _ in as_finished(numbers(4, []), job, 4):
            pass

    with pytest.raises(ZeroDivisionError):
        run(story())
    gc.collect()
    assert complaints == []


def test_a_caller_that_is_cancelled_leaves_at_once_and_its_jobs_continue(caplog: pytest.LogCaptureFixture) -> None:
    """They end by themselves; of their errors, those that are programming errors are logged."""
    finished: list[int] = []
    errors = {1: JournalError("The journal is closed."), 2: ZeroDivisionError()}

    async def job(number: int) -> int:
        await asyncio.sleep(5)
        finished.append(number)
        if number in errors:
            raise errors[number]
        if number == 3:
            raise asyncio.CancelledError
        return number

    async def story() -> tuple[float, int]:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                _ = [result async for result in as_finished(numbers(9, []), job, 4)]
        left, before = asyncio.get_running_loop().time(), len(finished)
        await asyncio.sleep(5)
        return left, before

    assert run(story()) == (1.0, 0)
    assert sorted(finished) == [0, 1, 2, 3]
    gc.collect()
    assert [record.message.partition("\n")[0] for record in caplog.records] == [
        "a job whose caller was cancelled: ZeroDivisionError"
    ]
