"""RetryPolicy -> AsyncRetrying: the only door to tenacity.

It is entered only after a first round has failed; every withdrawal gets an `AsyncRetrying` of its own. It is loaded with the client, before
anything is sent: when the first round has failed there may be no descriptor left to load it with, or another version in its place.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from tenacity import AsyncRetrying, RetryCallState, retry_if_result

__all__ = ["rounds_after"]

T = TypeVar("T")


async def rounds_after(
    first: T,
    another: Callable[[T], Awaitable[T]],
    *,
    is_worth: Callable[[T], bool],
    wait: Callable[[T, int], float],
    is_late: Callable[[float], bool],
    sleep: Callable[[float], Awaitable[None]],
) -> T:
    """Go on from the result of a first round, and return the last one.

    Args:
        first: the result that is already there.
        another: makes the next result from the latest.
        is_worth: whether a result calls for another round.
        wait: the seconds before that round, from the result and the number of rounds so far.
        is_late: whether a wait of so many seconds would end too late; then it is not begun.
        sleep: waits.
    """
    results: list[T] = []

    async def one_more() -> T:
        # What tenacity takes for its first attempt has happened already.
        results.append(await another(results[-1]) if results else first)
        return results[-1]

    def waits(state: RetryCallState) -> float:
        return wait(results[-1], state.attempt_number)

    def stops(state: RetryCallState) -> bool:
        return is_late(state.upcoming_sleep)

    retrying = AsyncRetrying(
        retry=retry_if_result(is_worth),
        wait=waits,
        stop=stops,
        sleep=sleep,
        retry_error_callback=lambda _: results[-1],
    )
    return await retrying(one_more)
