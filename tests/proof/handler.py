"""A process that is handling a callback when it is killed: `python -m tests.proof.handler JOURNAL`; it says `in` once it is."""

from __future__ import annotations

import asyncio
import random
import sys
import time
from typing import Final

from alphapo_async import AlphapoClient, RetryPolicy
from alphapo_async.core.signer import Signer
from alphapo_async.engine.context import Runtime

KEY, SECRET = "made-up-key", "made-up-secret"
BODY = b'{"id": 7, "foreign_id": "payout-17", "type": "withdrawal", "status": "confirmed"}'

SHORT_LEASE: Final = Runtime(time.time, random.random, asyncio.sleep, lease_margin=0.5)
"""With attempts of half a second: a lease of three. In PostgreSQL a claim ends with its worker's lease, not with its connection."""


async def main(journal: str) -> None:
    """Handle a callback for ever."""
    async with (
        AlphapoClient(
            KEY,
            SECRET,
            base_url="http://127.0.0.1:9",
            journal=journal,
            policy=RetryPolicy(attempt_timeout=0.5),
            _runtime=SHORT_LEASE,
        ) as client,
        client.receive_callback(Signer(KEY, SECRET).headers(BODY), BODY) as callback,
    ):
        sys.stdout.write(f"in, new: {callback.is_new}\n")
        sys.stdout.flush()
        await asyncio.sleep(3_600)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
