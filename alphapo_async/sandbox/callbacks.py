"""AlphaPo's signed callbacks: which status changes are told, and how often one is repeated until it is heard.

Signature and headers: https://docs.alphapo.net/integration-guide/get-callbacks. The repetitions:
https://docs.cryptoprocessing.com/api-reference/callbacks/callbacks-overview; AlphaPo's own schedule is not published.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import TypeAlias

import msgspec

from alphapo_async.core.signer import Signer
from alphapo_async.sandbox.answers import transaction
from alphapo_async.sandbox.dialects import Dialect
from alphapo_async.sandbox.records import Record

__all__ = ["REPEATED_AFTER", "Courier", "Post", "announcements", "repetitions"]

REPEATED_AFTER = (1, 5, 15, 30, 60, 90, 120, 180, 240, 240, 240, 240)
"""Minutes from one delivery that was not answered with 200 to the next."""

HEARD = 200

Post: TypeAlias = Callable[[bytes, Mapping[str, str]], Awaitable[int | None]]
"""Delivers a body with its headers and returns the status of the answer; None: there was none."""


def announcements(record: Record) -> tuple[tuple[float, str], ...]:
    """Return when which status of a withdrawal is told.

    There is no callback for "processing": https://docs.cryptoprocessing.com/api-reference/callbacks/withdrawal-callbacks.
    """
    last = (record.settles_at, record.ending.last)
    return ((record.at, "pending"), last) if record.ending.first == "pending" else (last,)


def repetitions(time_scale: float) -> tuple[float, ...]:
    """Return the seconds to wait before each repetition."""
    return tuple(minutes * 60 * time_scale for minutes in REPEATED_AFTER)


class Courier:
    """Tells the merchant about withdrawals.

    Args:
        signers: the merchant's keys; a callback is signed with the key that made the withdrawal.
        post: delivers one body.
        clock: the present moment.
        time_scale: what the waits before repetitions are multiplied with.
    """

    def __init__(
        self, signers: Mapping[str, Signer], post: Post, clock: Callable[[], float], time_scale: float = 1.0
    ) -> None:
        self._signers = signers
        self._post = post
        self._clock = clock
        self._waits = repetitions(time_scale)

    async def announce(self, record: Record, dialect: Dialect) -> None:
        """Tell every change of a withdrawal when it comes, each until it is heard or the repetitions are used up."""
        # Each on its own: an unheard "pending" must not hold back what came of it.
        async with asyncio.TaskGroup() as group:
            for due, status in announcements(record):
                group.create_task(self._tell(record, dialect, due, status))

    async def _tell(self, record: Record, dialect: Dialect, due: float, status: str) -> None:
        await asyncio.sleep(max(0.0, due - self._clock()))
        body = msgspec.json.encode(transaction(record, dialect, status))
        headers = self._signers[record.key].headers(body)
        for wait in (0.0, *self._waits):
            await asyncio.sleep(wait)
            if await self._post(body, headers) == HEARD:
                return
