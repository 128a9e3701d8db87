"""Ten thousand withdrawals gathered at once: `python -m benchmarks.bench_gather`, about five minutes.

First over 50 connections against a local sandbox that takes a second for every answer: all must be accepted. Then against
one that fails every request, and recovers after a while: how many requests it gets meanwhile, and how soon everything is
normal again.
"""

from __future__ import annotations

import argparse
import asyncio
import time
from collections import Counter

from alphapo_async import AlphapoClient, RetryPolicy, WithdrawalError, WithdrawalRequest
from alphapo_async.sandbox import OutagePlan, Sandbox


def _request(number: int) -> WithdrawalRequest:
    return WithdrawalRequest(
        currency="BTC",
        amount="0.0015",
        address=f"bc1qmadeup{number}",
        foreign_id=f"gathered-{number}",
        end_user_reference="user-1",
    )


async def _gathered(client: AlphapoClient, number: int) -> Counter[str]:
    told = await asyncio.gather(*(client.withdraw(_request(one)) for one in range(number)), return_exceptions=True)
    return Counter(_outcome(one) for one in told)


def _outcome(told: object) -> str:
    return told.outcome if isinstance(told, WithdrawalError) else type(told).__name__


async def slow_answers(number: int, connections: int, latency: float) -> None:
    """Every answer takes a while, so that most withdrawals queue for minutes."""
    async with Sandbox("benchmark-key", "benchmark-secret", latency=latency) as sandbox:
        client = AlphapoClient("benchmark-key", "benchmark-secret", base_url=sandbox.url, max_connections=connections)
        began = time.perf_counter()
        async with client:
            told = await _gathered(client, number)
        seconds = time.perf_counter() - began
        accepted = len(sandbox.ledger.all_accepted())
        print(
            f"{number} over {connections} connections, {latency:.1f} s an answer: {dict(told)} in {seconds:.1f} s; "
            f"accepted in the ledger: {accepted}; paid more than once: {len(sandbox.ledger.paid_more_than_once())}"
        )


async def failing(number: int, outage: float) -> None:
    """Every request fails for a while."""
    async with Sandbox("benchmark-key", "benchmark-secret", faults=OutagePlan(0.0, 1e9, mode="503")) as sandbox:
        policy = RetryPolicy(wait_max=1.0)
        async with AlphapoClient("benchmark-key", "benchmark-secret", base_url=sandbox.url, policy=policy) as client:
            paying = asyncio.ensure_future(_gathered(client, number))
            await asyncio.sleep(outage)
            requests = sandbox.ledger.posts + sandbox.ledger.look_ups
            sandbox.faults = "none"
            began = time.perf_counter()
            told = await paying
            seconds = time.perf_counter() - began
        print(
            f"{number} with everything failing for {outage:.0f} s: {requests} requests, {requests / number:.4f} each; "
            f"after its end {dict(told)} in {seconds:.1f} s"
        )


async def dead(number: int) -> None:
    """Every request fails to the end, under the default policy."""
    async with Sandbox("benchmark-key", "benchmark-secret", faults=OutagePlan(0.0, 1e9, mode="503")) as sandbox:
        async with AlphapoClient("benchmark-key", "benchmark-secret", base_url=sandbox.url) as client:
            told = await _gathered(client, number)
        requests = sandbox.ledger.posts + sandbox.ledger.look_ups
        print(
            f"{number} with everything failing to the end: {dict(told)}; {requests} requests, {requests / number:.4f} each"
        )


def main() -> None:
    """Run the three."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--number", type=int, default=10_000)
    parser.add_argument("--connections", type=int, default=50)
    parser.add_argument("--latency", type=float, default=1.0)
    parser.add_argument("--outage", type=float, default=15.0)
    wanted = parser.parse_args()
    asyncio.run(slow_answers(wanted.number, wanted.connections, wanted.latency))
    asyncio.run(failing(wanted.number, wanted.outage))
    asyncio.run(dead(wanted.number))


if __name__ == "__main__":
    main()
