"""Latency at 70 % of saturation, with arrivals that wait for nobody: `python -m benchmarks.bench_latency`.

Each client is first driven as fast as it goes, then fed at 70 % of that rate, at moments drawn from an exponential distribution. The
time of a payment counts from when it was to start, so that a client that falls behind hides nothing (no coordinated omission).
"""

from __future__ import annotations

import asyncio
import gc
import json
import random
import time
from typing import Any, Final

from benchmarks.contenders import Contender, by_hand, in_memory
from benchmarks.measuring import at_once, machine, parser
from benchmarks.server import serving

IN_FLIGHT: Final = 100
PERCENTILES: Final = (50.0, 90.0, 99.0, 99.9)


async def _saturation(contender: Contender, url: str, number: int) -> float:
    """Return payments a second, as fast as it goes."""
    async with contender(url, IN_FLIGHT) as pay:
        await at_once(range(-3 * IN_FLIGHT, 0), IN_FLIGHT, pay)
        began = time.perf_counter()
        await at_once(range(number), IN_FLIGHT, pay)
        return number / (time.perf_counter() - began)


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


def main() -> None:
    """Measure, print the table, and write the figures."""
    made = parser(__doc__)
    made.add_argument("--number", type=int, default=10_000, help="payments in each round of a client")
    made.add_argument("--seed", type=int, default=1)
    wanted = made.parse_args()
    clients: dict[str, Contender] = {"hand-written aiohttp": by_hand, "ours: withdraw, in memory": in_memory}
    chance = random.Random(wanted.seed)  # noqa: S311 - arrivals
    all_took: dict[str, list[list[float]]] = {name: [] for name in clients}
    with serving() as url:
        rates = {name: asyncio.run(_saturation(made, url, wanted.number)) for name, made in clients.items()}
        for _ in range(wanted.repeats):
            for name, contender in clients.items():
                gc.collect()
                took = asyncio.run(_latencies(contender, url, 0.7 * rates[name], wanted.number, chance))
                all_took[name].append(took)
    figures: dict[str, Any] = {}
    print(f"Latency at 70 % of saturation (ms; median of {wanted.repeats} rounds)")
    print(f"{'':30} {'a second':>9}" + "".join(f"{f'p{percent:g}':>9}" for percent in PERCENTILES))
    for name, took_in in all_took.items():
        told = {
            f"p{percent:g}": sorted(_percentile(took, percent) for took in took_in)[len(took_in) // 2]
            for percent in PERCENTILES
        }
        figures[name] = {"rate": 0.7 * rates[name], **told}
        print(f"{name:30} {0.7 * rates[name]:>9,.0f}" + "".join(f"{value:>9.2f}" for value in told.values()))
    wanted.out.mkdir(parents=True, exist_ok=True)
    file = wanted.out / "bench_latency.json"
    file.write_text(json.dumps({"machine": machine(), "clients": figures}, indent=1), encoding="utf-8")
    print(f"\nFigures: {file}")


if __name__ == "__main__":
    main()
