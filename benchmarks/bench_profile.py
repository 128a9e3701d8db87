"""Where the time of one withdrawal goes: `python -m benchmarks.bench_profile`.

While withdrawals are made, a timer that counts the process's own CPU time looks a thousand times a second at which function runs; C code
counts for the function that called it. The share of the samples times the CPU per withdrawal is what the table shows. Beside that, in the
same rounds: the same requests over the session alone, with nothing around them, and withdrawals with the garbage collector off.
"""

from __future__ import annotations

import gc
import itertools
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import alphapo_async
from alphapo_async import WithdrawalRequest
from alphapo_async.core.codec import encode_body
from alphapo_async.core.replies import Accepted, Reply, judge_reply
from alphapo_async.core.signer import Signer
from alphapo_async.session import SessionManager
from benchmarks.bench_withdraw import WARM_UP, cpu
from benchmarks.contenders import KEY, PATH, SECRET, Contender, Pay, by_hand, fields, in_a_file, in_memory
from benchmarks.measuring import Measure, at_once, measured, parser, report, run
from benchmarks.server import serving

OURS = Path(alphapo_async.__file__).parent
EVERY = 0.001  # seconds of the process's own CPU time
TIMEOUT = 15.0


@asynccontextmanager
async def over_the_session(url: str, in_flight: int) -> AsyncIterator[Pay]:
    """The same bytes over our session: what no client on aiohttp can do without."""
    body = encode_body(WithdrawalRequest(**fields(0)), "number")
    headers = Signer(KEY, SECRET).headers(body)
    async with aclosing(SessionManager(max_connections=in_flight)) as session:

        async def pay(_: int) -> Any:
            return await session.exchange("POST", f"{url}{PATH}", body=body, headers=headers, timeout=TIMEOUT)

        yield pay


@asynccontextmanager
async def with_request_and_reply(url: str, in_flight: int) -> AsyncIterator[Pay]:
    """The same, with the request checked, encoded and signed, and the reply judged."""
    signer = Signer(KEY, SECRET)
    async with aclosing(SessionManager(max_connections=in_flight)) as session:

        async def pay(number: int) -> Any:
            request = WithdrawalRequest(**fields(number))
            body = encode_body(request, "number")
            reply = await session.exchange(
                "POST", f"{url}{PATH}", body=body, headers=signer.headers(body), timeout=TIMEOUT
            )
            assert isinstance(reply, Reply)
            proof = judge_reply(reply, request, time.time())
            assert isinstance(proof, Accepted)
            return proof

        yield pay


def without_garbage_collection(contender: Contender) -> Contender:
    """Return the contender with the garbage collector off."""

    @asynccontextmanager
    async def contending(url: str, in_flight: int) -> AsyncIterator[Pay]:
        gc.disable()
        try:
            async with contender(url, in_flight) as pay:
                yield pay
        finally:
            gc.enable()

    return contending


def _place(frame: FrameType | None) -> str:
    if frame is None:
        return "?"
    file = Path(frame.f_code.co_filename)
    if file.is_relative_to(OURS):
        return f"ours: {file.relative_to(OURS).with_suffix('')}"
    parts = [part for part in file.parts if part != "site-packages"]
    return next((part for part in parts if part in ("asyncio", "aiohttp", "yarl", "multidict")), "other")


async def _sampled(contender: Contender, url: str, number: int, in_flight: int) -> tuple[float, Counter[str]]:
    """Return microseconds of CPU per withdrawal, and how often which place was seen."""
    seen: Counter[str] = Counter()
    async with contender(url, in_flight) as pay:
        await at_once(range(-WARM_UP * in_flight, 0), in_flight, pay)
        signal.signal(signal.SIGPROF, lambda _, frame: seen.update((_place(frame),)))
        began = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, EVERY, EVERY)
        await at_once(range(number), in_flight, pay)
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        return (time.process_time() - began) / number * 1e6, seen


def _profile(title: str, contender: Contender, url: str, number: int, in_flight: int) -> dict[str, Any]:
    result: list[tuple[float, Counter[str]]] = []

    async def story() -> float:
        result.append(await _sampled(contender, url, number, in_flight))
        return 0.0

    run(story())
    microseconds, seen = result[0]
    print(f"\n{title}: {microseconds:.0f} µs, from {seen.total():,} samples")
    places = {place: count / seen.total() * microseconds for place, count in seen.most_common()}
    for place, each in itertools.islice(places.items(), 24):
        print(f"{place:34} {each:>7.1f} µs {each / microseconds:>6.0%}")
    return {"microseconds": microseconds, "places": places}


def main() -> None:
    """Measure, print the tables, and write the figures."""
    made = parser(__doc__)
    made.add_argument("--number", type=int, default=4_000, help="withdrawals in each round of a contender")
    made.add_argument("--in-flight", type=int, default=100)
    wanted = made.parse_args()
    named: dict[str, Contender] = {
        "hand-written aiohttp": by_hand,
        "hand-written, no collector": without_garbage_collection(by_hand),
        "our session alone": over_the_session,
        "+ request, signature, judgement": with_request_and_reply,
        "ours: withdraw, in memory": in_memory,
        "ours, no collector": without_garbage_collection(in_memory),
        "ours: withdraw, SQLite": in_a_file,
    }
    with serving() as url:
        contenders: dict[str, Measure] = {
            name: partial(_once, one, url, wanted.number, wanted.in_flight) for name, one in named.items()
        }
        title = f"CPU per withdrawal, {wanted.in_flight} in flight, layer by layer"
        table = measured(title, "µs", contenders, wanted.repeats)
        profiles = {
            name: _profile(name, named[name], url, 5 * wanted.number, wanted.in_flight)
            for name in ("hand-written aiohttp", "ours: withdraw, in memory", "ours: withdraw, SQLite")
        }
    report("bench_profile", wanted.out, [table | {"profiles": profiles}])


def _once(contender: Contender, url: str, number: int, in_flight: int) -> float:
    return run(cpu(contender, url, number, in_flight))


if __name__ == "__main__":
    main()
