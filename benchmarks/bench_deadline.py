"""How punctual a deadline is against a server that says nothing: `python -m benchmarks.bench_deadline`."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import time

from alphapo_async import AlphapoClient, WithdrawalRequest, WithdrawalUnknown
from benchmarks.server import serving


async def _one(client: AlphapoClient, number: int, deadline: float) -> float:
    request = WithdrawalRequest(
        currency="BTC", amount="0.0015", address="bc1qmadeup", foreign_id=f"late-{number}", end_user_reference="user-1"
    )
    began = time.perf_counter()
    with contextlib.suppress(WithdrawalUnknown):
        await client.withdraw(request, deadline=deadline)
    return time.perf_counter() - began


async def _all(url: str, number: int, deadline: float) -> list[float]:
    client = AlphapoClient("benchmark-key", "benchmark-secret", base_url=url, close_grace=0.0)
    async with client:
        return sorted(await asyncio.gather(*(_one(client, one, deadline) for one in range(number))))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--number", type=int, default=100, help="withdrawals at once")
    parser.add_argument("--deadline", type=float, default=1.0)
    wanted = parser.parse_args()
    with serving(kind="silent") as url:
        times = asyncio.run(_all(url, wanted.number, wanted.deadline))
    print(
        f"deadline {wanted.deadline:.3f} s, {wanted.number} at once: first {times[0]:.4f} s, "
        f"median {times[len(times) // 2]:.4f} s, last {times[-1]:.4f} s"
    )


if __name__ == "__main__":
    main()
