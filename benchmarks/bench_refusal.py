"""The time to refuse a forged callback, by where its signature differs: `python -m benchmarks.bench_refusal`, half a minute.

The places are measured in turn, so that whatever else the machine does falls on all of them alike. What counts is the ratio of each place's
median to that of the first.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time

from alphapo_async.core.callbacks import read_callback
from alphapo_async.core.errors import CallbackError
from alphapo_async.core.signer import Signer

_BODY = b'{"id": 7, "foreign_id": "payout-17", "type": "withdrawal", "status": "confirmed", "error": ""}'


def _refusal(signer: Signer, headers: dict[str, str]) -> int:
    """Return the nanoseconds of one refusal."""
    began = time.perf_counter_ns()
    try:
        read_callback(headers, _BODY, [signer])
    except CallbackError:
        return time.perf_counter_ns() - began
    raise AssertionError


def main() -> None:
    """Measure, and print a line for each place."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--number", type=int, default=100_000, help="refusals for each place")
    wanted = parser.parse_args()
    signer = Signer("benchmark-key", "benchmark-secret")
    genuine = signer.headers(_BODY)
    places = (0, 1, 32, 64, 96, 126, 127)
    forged = {}
    for place in places:
        signature = list(genuine["X-Processing-Signature"])
        signature[place] = "0" if signature[place] != "0" else "1"
        forged[place] = {**genuine, "X-Processing-Signature": "".join(signature)}
    times: dict[int, list[int]] = {place: [] for place in places}
    order, chance = list(places), random.Random(1)  # noqa: S311 - an order that can be repeated
    for _ in range(wanted.number):
        chance.shuffle(order)
        for place in order:
            times[place].append(_refusal(signer, forged[place]))
    first = statistics.median(times[places[0]])
    for place in places:
        median = statistics.median(times[place])
        print(f"differs at digit {place:>3}: median {median / 1000:.2f} µs, {median / first:.4f} times that of digit 0")


if __name__ == "__main__":
    main()
