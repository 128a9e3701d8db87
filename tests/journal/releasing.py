"""Journals as releases wrote them: kept, so that every later release proves that it can finish them.

`python -m tests.journal.releasing` writes the journal of this release, once; a journal that was released is never written again.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path

from alphapo_async import AlphapoClient, RetryPolicy, WithdrawalError, WithdrawalRequest, __version__
from alphapo_async.sandbox import Dialect, Fault, Sandbox, Script

RELEASES = Path(__file__).parent / "releases"
KEY, SECRET = "made-up-key", "made-up-secret"
PAID, REFUSED, CORRECTED, DOUBTED, LEFT = "paid", "refused", "corrected", "doubted", "left"


def request(foreign_id: str, amount: str = "0.0015", currency: str = "BTC") -> WithdrawalRequest:
    """Return the withdrawal of this name."""
    return WithdrawalRequest(
        currency=currency, address="made-up", amount=amount, foreign_id=foreign_id, end_user_reference="user-42"
    )


async def write(path: Path) -> None:
    """Write a journal with a row of every kind that a later release has to read or finish."""
    faults = Script({DOUBTED: {"withdrawal": [Fault.RESET_AFTER]}})
    async with Sandbox(KEY, SECRET, faults=faults, dialect=Dialect(visibility="never")) as sandbox:
        policy = RetryPolicy.none()
        async with AlphapoClient(KEY, SECRET, base_url=sandbox.url, journal=path, policy=policy) as client:
            await client.withdraw(request(PAID))
            for call in (request(REFUSED, currency="NOCOIN"), request(CORRECTED, currency="NOCOIN"), request(DOUBTED)):
                with contextlib.suppress(WithdrawalError):
                    await client.withdraw(call)
            await client.withdraw(request(CORRECTED, "0.002"))
            await client.enqueue(request(LEFT), expires_in=100 * 365 * 86_400.0)


if __name__ == "__main__":
    asyncio.run(write(RELEASES / f"journal-{__version__}.db"))
