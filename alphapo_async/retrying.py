"""Retries -> AsyncRetrying: the only door to tenacity.

It is entered only after a first round has failed; every withdrawal gets an `AsyncRetrying` of its own. It is loaded with the client, before
anything is sent: when the first round has failed there may be no descriptor left to load it with, or another version in its place.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Generic, TypeVar

from tenacity import AsyncRetrying, AttemptManager, RetryCallState, retry_if_result

__all__ = ["Retries"]

T = TypeVar("T")


class Retries(Generic[T]):
    """Decides after each round whether another one follows, and waits before it.

    Args:
        is_worth: whether a result calls for another round.
        wait: the seconds before that round, from the result and the number of rounds so far.
        is_late: whether a wait of so many seconds would end too late; then it is not begun.
        sleep: waits.
    """

    def __init__(
        self,
        *,
        is_worth: Callable[[T], bool],
        wait: Callable[[T, int], float],
        is_late: Callable[[float], bool],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        def seconds(state: RetryCallState) -> float:
            assert state.outcome is not None  # noqa: S101 - tenacity asks after a round
            return wait(state.outcome.result(), state.attempt_number)

        self._attempts: AsyncIterator[AttemptManager] = aiter(
            AsyncRetrying(
                retry=retry_if_result(is_worth),
                wait=seconds,
                stop=lambda state: is_late(state.upcoming_sleep),
                sleep=sleep,
                retry_error_callback=lambda _: None,
            )
        )
        self._round: AttemptManager | None = None

    async def wait_for_next(self, result: T) -> bool:
        """Wait before the next round; return False where none follows.

        Args:
            result: of the latest round.
        """
        if self._round is None:  # the first round has happened already
            self._round = await anext(self._attempts)
        self._round.retry_state.set_result(result)
        self._round = await anext(self._attempts, None)
        return self._round is not None
