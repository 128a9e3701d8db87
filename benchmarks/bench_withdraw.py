"""Client CPU per withdrawal, as a ratio to hand-written aiohttp: `python -m benchmarks.bench_withdraw`.

Both pay the same withdrawals to the same server in another process, over the same number of kept-alive connections, in
turn, several times over; only this process's own CPU time is counted. The hand-written client is what one would write in a
hurry: `json.dumps`, `hmac.new`, no retry, no journal, no deadline.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import hashlib
import hmac
import json
import statistics
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp

from alphapo_async import AlphapoClient, WithdrawalRequest
from benchmarks.server import serving

KEY, SECRET = "benchmark-key", "benchmark-secret"


def _fields(number: int) -> dict[str, Any]:
    return {
        "currency": "BTC",
        "amount": "0.0015",
        "address": "bc1qxy2kgdygjrsqtzq2n0yrf2493p83kkfjhx0wlh",
        "foreign_id": f"payout-{number}",
        "end_user_reference": f"user-{number % 97}",
    }


async def _at_once(number: int, concurrency: int, pay: Callable[[int], Awaitable[Any]]) -> None:
    """Keep so many withdrawals in flight until all are paid."""
    numbers = iter(range(number))

    async def worker() -> None:
        for one in numbers:
            await pay(one)

    await asyncio.gather(*(worker() for _ in range(concurrency)))


async def _measured(number: int, concurrency: int, pay: Callable[[int], Awaitable[Any]]) -> float:
    """Return microseconds of CPU per withdrawal."""
    gc.collect()
    began = time.process_time()
    await _at_once(number, concurrency, pay)
    return (time.process_time() - began) / number * 1e6


async def by_hand(url: str, number: int, concurrency: int) -> float:
    """Measure what one would write in a hurry."""
    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def pay(one: int) -> Any:
            body = json.dumps(_fields(one)).encode()
            signature = hmac.new(SECRET.encode(), body, hashlib.sha512).hexdigest()
            headers = {
                "Content-Type": "application/json",
                "X-Processing-Key": KEY,
                "X-Processing-Signature": signature,
            }
            async with session.post(f"{url}/api/v2/withdrawal/crypto", data=body, headers=headers) as reply:
                reply.raise_for_status()
                return (await reply.json())["data"]

        await _at_once(concurrency * 2, concurrency, pay)
        return await _measured(number, concurrency, pay)


async def by_library(url: str, number: int, concurrency: int) -> float:
    """Measure `withdraw` with everything on and the journal in memory."""
    client = AlphapoClient(KEY, SECRET, base_url=url, journal="memory", max_connections=concurrency)
    async with client:

        async def pay(one: int) -> Any:
            return await client.withdraw(WithdrawalRequest(**_fields(one)))

        async def warm(one: int) -> Any:
            return await pay(-1 - one)

        await _at_once(concurrency * 2, concurrency, warm)
        return await _measured(number, concurrency, pay)


def main() -> None:
    """Measure, print a table, and write the figures as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--number", type=int, default=4_000, help="withdrawals in each repeat")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--in-flight", type=int, nargs="*", default=[1, 10, 100])
    parser.add_argument("--json", type=Path, help="write the figures there")
    wanted = parser.parse_args()
    figures = []
    print(f"{'in flight':>9} {'by hand µs':>12} {'library µs':>12} {'ratio: median':>14} {'min':>6} {'max':>6}")
    with serving() as url:
        for concurrency in wanted.in_flight:
            pairs = []
            for _ in range(wanted.repeats):
                hand = asyncio.run(by_hand(url, wanted.number, concurrency))
                pairs.append((hand, asyncio.run(by_library(url, wanted.number, concurrency))))
            ratios = [ours / hand for hand, ours in pairs]
            hands, ours = (statistics.median(side) for side in zip(*pairs, strict=True))
            median = statistics.median(ratios)
            print(
                f"{concurrency:>9} {hands:>12.1f} {ours:>12.1f} {median:>14.3f} {min(ratios):>6.3f} {max(ratios):>6.3f}"
            )
            figures.append({"in_flight": concurrency, "pairs_us": pairs, "ratio_median": median})
    if wanted.json:
        wanted.json.write_text(json.dumps(figures, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
