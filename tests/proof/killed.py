"""The worker that is killed: it pays a batch of withdrawals, settles what earlier workers left open, and says what it told its callers.

`python -m tests.proof.killed` reads orders from its standard input, a JSON line each, and forks a worker for every one, so that none has to
import anything; it answers with the worker's process id, and the worker says when its client is open.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Final

import msgspec

from alphapo_async import AlphapoClient, RetryPolicy, WithdrawalError, WithdrawalRequest
from alphapo_async.core.errors import JournalError

KEY, SECRET = "proof-key", "proof-secret"
QUIET: Final = 2.0
POLICY: Final = RetryPolicy(
    attempts=4, deadline=8.0, attempt_timeout=0.6, wait_initial=0.02, wait_max=0.3, quiet=QUIET, resend_within=3_600.0
)


class Order(msgspec.Struct, frozen=True):
    """What a worker is to do."""

    url: str
    journal: str
    first: int
    count: int
    told: str
    """The file in which it notes what it told."""


def request_of(number: int) -> WithdrawalRequest:
    """Return the withdrawal of this number; one in twenty is one that AlphaPo refuses."""
    return WithdrawalRequest(
        currency="NOCOIN" if number % 20 == 7 else "BTC",
        address=f"made-up-{number}",
        amount="0.001",
        foreign_id=f"kill-{number}",
        end_user_reference=f"user-{number}",
    )


def control_of(number: int) -> WithdrawalRequest:
    """Return a withdrawal that shows that look-ups see."""
    return WithdrawalRequest(
        currency="BTC", address="made-up", amount="0.002", foreign_id=f"control-{number}", end_user_reference="u"
    )


async def work(order: Order) -> None:
    """Pay and settle until all is told, or until killed."""
    async with AlphapoClient(KEY, SECRET, journal=order.journal, base_url=order.url, policy=POLICY) as client:
        os.write(1, b"ready\n")
        settling = asyncio.create_task(settle(client, Path(order.told)))
        working = asyncio.create_task(client.work(concurrency=4))
        requests = [request_of(number) for number in range(order.first, order.first + order.count)]
        await asyncio.gather(*(_pay(client, request, Path(order.told)) for request in requests))
        settling.cancel()
        working.cancel()
        await asyncio.gather(settling, working, return_exceptions=True)


async def _pay(client: AlphapoClient, request: WithdrawalRequest, content: Path) -> None:
    try:
        if request.foreign_id.endswith(("1", "4", "7")):
            await client.enqueue(request)  # claimed by whichever worker comes first, and left to it
            return
        await client.withdraw(request)
        outcome = "accepted"
    except (WithdrawalError, JournalError) as error:
        outcome = error.outcome
    note(content, request.foreign_id, outcome)


def note(content: Path, foreign_id: str, outcome: str) -> None:
    """Write down what a caller was told, before he could do anything about it."""
    with content.open("a", encoding="utf-8") as file:
        file.write(f"{foreign_id} {outcome}\n")


async def settle(client: AlphapoClient, content: Path) -> None:
    """Settle what is open, pass after pass, until cancelled."""
    while True:
        async for result in client.resume():
            note(content, result.request.foreign_id, result.outcome)
        await asyncio.sleep(0.2)


def main() -> None:
    """Fork a worker for every order."""
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    for line in sys.stdin:
        worker = os.fork()
        if worker == 0:
            asyncio.run(work(msgspec.json.decode(line, type=Order)))
            os._exit(0)
        os.write(1, f"{worker}\n".encode())


if __name__ == "__main__":
    main()
