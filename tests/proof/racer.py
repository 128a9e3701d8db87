"""One of many that race for the same withdrawals: `python -m tests.proof.racer URL JOURNAL INDEX COUNT TOLD`.

Every fourth withdrawal is another payment for racers of odd index: one of the two is paid, and the other's payers hear of a conflict.
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from pathlib import Path

from msgspec.structs import replace

from alphapo_async import AlphapoClient, RetryPolicy, WithdrawalError, WithdrawalRequest
from alphapo_async.core.errors import JournalError
from alphapo_async.engine.context import Runtime
from tests.proof.killed import KEY, POLICY, SECRET, note, request_of

AT_ONCE = 100
PATIENT: RetryPolicy = replace(POLICY, deadline=11.0)
MARGIN = 1.0
"""Seconds that a racer's lease outlasts an attempt: short, so that a pause that outlasts the lease is short, too."""


def is_contested(number: int) -> bool:
    """Tell whether racers want two payments of this withdrawal."""
    return number % 4 == 1


def wanted(number: int, index: int) -> WithdrawalRequest:
    """Return what this racer wants."""
    usual = request_of(number)
    if not (is_contested(number) and index % 2):
        return usual
    return WithdrawalRequest(
        currency=usual.currency,
        address=usual.address,
        amount="0.003",
        foreign_id=usual.foreign_id,
        end_user_reference=usual.end_user_reference,
    )


async def race(url: str, journal: str, index: int, count: int, content: Path) -> None:
    """Want all of them, in an order of one's own."""
    numbers = list(range(count))
    random.Random(index).shuffle(numbers)
    turn = asyncio.Semaphore(AT_ONCE)
    runtime = Runtime(time.time, random.random, asyncio.sleep, MARGIN)
    async with AlphapoClient(KEY, SECRET, journal=journal, base_url=url, policy=PATIENT, _runtime=runtime) as client:
        print("ready", flush=True)  # noqa: T201 - its word to the starter
        await asyncio.to_thread(sys.stdin.readline)
        working = asyncio.create_task(client.work(concurrency=8))
        await asyncio.gather(*(_want(client, number, index, turn, content) for number in numbers))
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


async def _want(client: AlphapoClient, number: int, index: int, turn: asyncio.Semaphore, content: Path) -> None:
    """Pay a withdrawal; some racers leave some of them to the workers, which claim them while others pay."""
    request = wanted(number, index)
    async with turn:
        try:
            if number % 4 == 2 and index % 2:
                await client.enqueue(request)
                return
            await client.withdraw(request)
            outcome = "accepted"
        except (WithdrawalError, JournalError) as error:
            outcome = error.outcome
        note(content, request.foreign_id, outcome)


if __name__ == "__main__":
    asyncio.run(race(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]), Path(sys.argv[5])))
