"""A batch through an outage of hours, in virtual time: `python -m tests.proof.outage`.

Everything fails for a while: replies are HTML with 502, connections are refused, or nothing answers at all. Told are the requests that
were sent meanwhile, how many rows were ever in doubt, and what became of all of them.
"""

from __future__ import annotations

import argparse
import asyncio
from collections import Counter
from typing import Any, NamedTuple

from alphapo_async.core.replies import NoReply
from tests.support.virtual import run
from tests.support.wire import HTML_502, NO_CONNECTION, Durable, Wire, client, request

KINDS: dict[str, Any] = {"502": HTML_502, "refused": NO_CONNECTION, "silent": "silent"}
_UNANSWERED = [NoReply("no connection", may_have_left=False)] * 100_000


class Outage(NamedTuple):
    """What one batch brought about."""

    outcomes: Counter[str]
    attempts: int
    """Bodies sent while it lasted."""
    look_ups: int
    in_doubt: int
    """Rows of which more than one body was sent."""
    paid_twice: int
    changed_bytes: int


async def through(kind: str, rows: int, hours: float, concurrency: int) -> Outage:
    """Pay so many rows; after a second AlphaPo is out for so many hours."""
    wire, loop = Wire(), asyncio.get_running_loop()
    attempts, look_ups = [0, 0], [0, 0]

    def fail() -> None:
        wire.always, wire.scripts["GET"] = KINDS[kind], _UNANSWERED
        attempts[0], look_ups[0] = wire.posts, wire.look_ups

    def recover() -> None:
        wire.always, wire.scripts["GET"] = None, []
        attempts[1], look_ups[1] = wire.posts, wire.look_ups

    loop.call_later(1.0, fail)
    loop.call_later(1.0 + hours * 3_600, recover)
    outcomes: Counter[str] = Counter()
    async with client(wire, journal=Durable()) as alphapo:
        async for result in alphapo.batch((request(f"payout-{one}") for one in range(rows)), concurrency=concurrency):
            outcomes[result.outcome] += 1
    return Outage(
        outcomes,
        attempts[1] - attempts[0],
        look_ups[1] - look_ups[0],
        sum(len(bodies) > 1 for bodies in wire.bodies.values()),
        sum(len(paid) > 1 for paid in wire.accepted.values()),
        sum(len(set(bodies)) > 1 for bodies in wire.bodies.values()),
    )


def main() -> None:
    """Show each kind of outage."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rows", type=int, default=30_000)
    parser.add_argument("--hours", type=float, default=6.0)
    parser.add_argument("--concurrency", type=int, default=64)
    wanted = parser.parse_args()
    for kind in KINDS:
        outcome = run(through(kind, wanted.rows, wanted.hours, wanted.concurrency))
        print(  # noqa: T201 - this is a command
            f"{kind}: {wanted.rows} rows, {wanted.hours:g} h out: {outcome.attempts} attempts and {outcome.look_ups} look-ups meanwhile; "
            f"sent more than once: {outcome.in_doubt} rows (at most {20 + wanted.concurrency}); at the end {dict(outcome.outcomes)}; "
            f"paid twice: {outcome.paid_twice}, changed bytes: {outcome.changed_bytes}"
        )


if __name__ == "__main__":
    main()
