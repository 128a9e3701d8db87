"""Latency at 70 % of saturation, with arrivals that wait for nobody: `python -m benchmarks.bench_latency`.

Each client is first driven as fast as it goes, then fed at 70 % of that rate, at moments drawn from an exponential distribution. The
time of a payment counts from when it was to start, so that a client that falls behind hides nothing (no coordinated omission).
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Coroutine, Mapping
from functools import partial
from typing import Any, Final, TypeVar

from benchmarks.contenders import Contender, by_hand, in_memory
from benchmarks.measuring import Round, at_once, measured, parser, report, rounds, run, tabled
from benchmarks.server import serving

IN_FLIGHT: Final = 100
SHARE: Final = 0.7
"""Of what a client can do, that it is fed."""
PERCENTILES: Final = (50.0, 90.0, 99.0, 99.9)

T = TypeVar("T")


async def _saturated(contender: Contender, url: str, number: int) -> float:
    """Return the microseconds for each payment, as fast as it goes."""
    async with contender(url, IN_FLIGHT) as pay:
        await at_once(range(-3 * IN_FLIGHT, 0), IN_FLIGHT, pay)
        began = time.perf_counter()
        await at_once(range(number), IN_FLIGHT, pay)
        return (time.perf_counter() - began) / number * 1e6


async def _latencies(contender: Contender, url: str, rate: float, number: int, chance: random.Random) -> list[float]:
    """Return the milliseconds of each payment, counted from when it was to start."""
    loop = asyncio.get_running_loop()
    took: list[float] = []
    async with contender(url, IN_FLIGHT) as pay:
        await at_once(range(-3 * IN_FLIGHT, 0), IN_FLIGHT, pay)

        async def one(number: int, due: float) -> None:
            await pay(number)
            took.append((loop.time() - due) * 1e3)

        due, paying = loop.time(), []
        for count in range(number):
            due += chance.expovariate(rate)
            if due > loop.time():
                await asyncio.sleep(due - loop.time())
            paying.append(asyncio.ensure_future(one(count, due)))
        await asyncio.gather(*paying)
    return sorted(took)


def _percentile(values: list[float], percent: float) -> float:
    return values[min(len(values) - 1, int(len(values) * percent / 100))]


def _percentiles(fed: list[dict[str, list[float]]], percent: float) -> list[Round]:
    return [{name: _percentile(took, percent) for name, took in one.items()} for one in fed]


def _rates(saturated: Mapping[str, Any]) -> dict[str, float]:
    """Return how many payments a second each client is fed, by the median of what it took as fast as it goes."""
    return {one["name"]: SHARE * 1e6 / one["median"] for one in saturated["summary"]}


def _once(story: Callable[..., Coroutine[Any, Any, T]], *given: Any) -> T:
    return run(story(*given))


def main() -> None:
    """Measure, print the tables, and write the figures."""
    made = parser(__doc__)
    made.add_argument("--number", type=int, default=10_000, help="payments in each round of a client")
    made.add_argument("--seed", type=int, default=1)
    wanted = made.parse_args()
    clients: dict[str, Contender] = {"hand-written aiohttp": by_hand, "ours: withdraw, in memory": in_memory}
    chance = random.Random(wanted.seed)  # noqa: S311 - arrivals
    with serving() as url:
        fast = {name: partial(_once, _saturated, one, url, wanted.number) for name, one in clients.items()}
        saturated = measured(f"As fast as it goes, {IN_FLIGHT} in flight", "µs a payment", fast, wanted.repeats)
        rates = _rates(saturated)
        print(f"\nFed a second: {', '.join(f'{name} {rate:,.0f}' for name, rate in rates.items())}", flush=True)
        slower = {
            name: partial(_once, _latencies, one, url, rates[name], wanted.number, chance)
            for name, one in clients.items()
        }
        fed = rounds(slower, wanted.repeats)
    tables = [
        tabled(f"Latency at {SHARE * 100:.0f} % of saturation, p{percent:g}", "ms", _percentiles(fed, percent))
        for percent in PERCENTILES
    ]
    report("bench_latency", wanted.out, [saturated, *tables], {"fed_a_second": rates})


if __name__ == "__main__":
    main()
