"""Further rounds after a first one that failed: the part of tenacity, of which nothing is seen outside."""

import asyncio
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphapo_async.retrying import Retries
from tests.support.virtual import run


class Rounds:
    """Plays results one after the other, and writes down what is asked of it and when."""

    def __init__(self, *results: Any, worth: tuple[Any, ...] = ("again",), late_from: float = float("inf")) -> None:
        self.results = list(results)
        self.worth = worth
        self.late_from = late_from
        self.story: list[Any] = []

    async def another(self, latest: Any) -> Any:
        self.story.append(("round after", latest))
        result = self.results.pop(0)
        if isinstance(result, BaseException):
            raise result
        return result

    def is_worth(self, result: Any) -> bool:
        return result in self.worth

    def wait(self, result: Any, number: int) -> float:
        self.story.append(("wait after", result, number))
        return float(number)

    def is_late(self, seconds: float) -> bool:
        self.story.append(("late?", seconds))
        return seconds >= self.late_from

    async def sleep(self, seconds: float) -> None:
        self.story.append(("sleep", seconds))
        await asyncio.sleep(seconds)

    async def after(self, first: Any) -> Any:
        """Play rounds until none follows, and return the last result."""
        retries, result = self.retries(), first
        while await retries.wait_for_next(result):
            result = await self.another(result)
        return result

    def retries(self) -> Retries[Any]:
        return Retries(is_worth=self.is_worth, wait=self.wait, is_late=self.is_late, sleep=self.sleep)


def test_the_first_result_is_not_made_again() -> None:
    """A first result that calls for no other round comes back as it is, without a round, a wait or a question."""
    rounds = Rounds()

    assert run(rounds.after("done")) == "done"
    assert rounds.story == []


def test_each_wait_is_handed_the_result_and_the_number_of_rounds() -> None:
    """Wait, ask whether it is too late, sleep, then the next round from the latest result."""
    rounds = Rounds("again", "more", "done", worth=("first", "again", "more"))

    assert run(rounds.after("first")) == "done"
    assert rounds.story == [
        ("wait after", "first", 1),
        ("late?", 1.0),
        ("sleep", 1.0),
        ("round after", "first"),
        ("wait after", "again", 2),
        ("late?", 2.0),
        ("sleep", 2.0),
        ("round after", "again"),
        ("wait after", "more", 3),
        ("late?", 3.0),
        ("sleep", 3.0),
        ("round after", "more"),
    ]


def test_a_wait_that_would_end_too_late_is_not_begun() -> None:
    """The latest result comes back at once, and no `RetryError` with it."""
    rounds = Rounds("again", "again", "never", late_from=3.0)

    async def story() -> tuple[Any, float]:
        return await rounds.after("again"), asyncio.get_running_loop().time()

    assert run(story()) == ("again", 3.0)
    assert rounds.results == ["never"]
    assert rounds.story[-1] == ("late?", 3.0)


def test_too_late_from_the_start_is_the_first_result() -> None:
    """Nothing is made and nothing is slept."""
    rounds = Rounds("never", late_from=0.0)

    assert run(rounds.after("again")) == "again"
    assert rounds.story == [("wait after", "again", 1), ("late?", 1.0)]


@pytest.mark.parametrize("error", [RuntimeError("no"), TimeoutError(), StopAsyncIteration()])
def test_an_exception_passes_through_as_it_is(error: Exception) -> None:
    """It is not retried, and it comes out as the very object."""
    rounds = Rounds(error, "never")

    with pytest.raises(type(error)) as caught:
        run(rounds.after("again"))

    assert caught.value is error
    assert caught.value.__cause__ is None
    assert rounds.results == ["never"]


@pytest.mark.parametrize("when", [0.5, 1.5])
def test_a_cancellation_passes_through(when: float) -> None:
    """While it sleeps or in the midst of a round: what is cancelled ends, and makes no other round."""
    ended: list[str] = []

    async def rounds() -> None:
        retries = Retries[str](
            is_worth=lambda _: True, wait=lambda *_: 1.0, is_late=lambda _: False, sleep=asyncio.sleep
        )
        while await retries.wait_for_next("again"):
            try:
                await asyncio.sleep(10)
            finally:
                ended.append("round")

    async def story() -> float:
        task = asyncio.ensure_future(rounds())
        await asyncio.sleep(when)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return asyncio.get_running_loop().time()

    assert run(story()) == when
    assert ended == ([] if when < 1 else ["round"])


@settings(derandomize=True, max_examples=50)
@given(st.lists(st.booleans(), max_size=12), st.integers(0, 15))
def test_rounds_follow_exactly_while_they_are_worth_it_and_in_time(worth: list[bool], in_time: int) -> None:
    """The n-th result is the last if it is the first not worth another round, or the first whose wait is too long."""
    values = list(range(len(worth) + 1))
    rounds = Rounds(
        *values[1:], worth=tuple(n for n, is_worth in enumerate(worth) if is_worth), late_from=in_time + 1.0
    )
    first_unworthy = next((n for n in values if n >= len(worth) or not worth[n]), len(worth))

    assert run(rounds.after(0)) == min(first_unworthy, in_time)


def test_a_result_of_none_is_a_result() -> None:
    """None and other empty values are handed on like any other."""
    rounds = Rounds(0, "done", worth=(None, 0))

    assert run(rounds.after(None)) == "done"
    assert [one for one in rounds.story if one[0] == "round after"] == [("round after", None), ("round after", 0)]
