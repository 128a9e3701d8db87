"""Many processes race for the same withdrawals on one journal, and some are paused for longer than their lease.

`python -m tests.proof.racing [--processes N] [--withdrawals N] [--paused N] [--journal URL] [--seed N]` runs it and prints what came of it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from subprocess import PIPE
from typing import Final, NamedTuple

import msgspec

from alphapo_async import open_journal
from alphapo_async.journal import Journal
from alphapo_async.sandbox import Sandbox
from alphapo_async.sandbox.fault_sets import named_faults
from tests.proof.background import running_sandbox
from tests.proof.killed import POLICY, request_of
from tests.proof.killing import heard_in, settle_all
from tests.proof.racer import MARGIN, is_contested, wanted

LEASE: Final = 3 * (POLICY.attempt_timeout + MARGIN)
PAUSE: Final = LEASE + 2.0
"""Seconds that a paused process sleeps."""


class Race(NamedTuple):
    """What a race came to."""

    withdrawals: int
    told: dict[str, int]
    """Outcomes that racers heard."""
    twice: list[str]
    two_payments: list[str]
    """Withdrawals of which two different bodies were sent."""
    told_wrong: list[str]
    stuck: list[str]
    stale: list[str]
    """Settled by one that did not hold it."""
    shared: list[str]
    """Sent by more than one worker, one after the other or inside a pause."""

    @property
    def is_clean(self) -> bool:
        """Nothing that must not be."""
        return not (self.twice or self.two_payments or self.told_wrong or self.stuck or self.stale)


def race(processes: int, count: int, paused: int, folder: Path, *, seed: int = 1, journal: str | None = None) -> Race:
    """Let them race, pause some in the midst of it, settle what is left, and return what came of it."""
    rng = random.Random(seed)
    journal = journal or str(folder / "payouts.db")
    results = [folder / f"told-{index}.txt" for index in range(processes)]
    for file in results:
        file.touch()
    with running_sandbox(
        faults=named_faults("heavy", seed),
        seed=seed,
        latency=0.03,
        slow_seconds=0.2,
        late_seconds=0.3,
        throttle_seconds=0.2,
    ) as sandbox:
        with _racers(sandbox.url, journal, count, results) as racers:
            for racer in racers:
                assert racer.stdin is not None
                racer.stdin.write(b"go\n")
                racer.stdin.flush()
            time.sleep(0.3)
            _pause(rng.sample(racers, paused))
            for racer in racers:
                assert racer.wait(120) == 0
        after = folder / "told-after.txt"
        after.touch()
        asyncio.run(settle_all(sandbox.url, journal, after))
        return asyncio.run(_judge(sandbox, journal, count, results))


@contextlib.contextmanager
def _racers(url: str, journal: str, count: int, content: list[Path]) -> Iterator[list[subprocess.Popen[bytes]]]:
    command = [sys.executable, "-m", "tests.proof.racer", url, journal]
    racers: list[subprocess.Popen[bytes]] = []
    try:
        for index, file in enumerate(content):
            whole = [*command, str(index), str(count), str(file)]
            racers.append(subprocess.Popen(whole, stdin=PIPE, stdout=PIPE))
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == b"ready\n"
        yield racers
    finally:
        for racer in racers:
            racer.kill()
            racer.communicate()


def _pause(racers: list[subprocess.Popen[bytes]]) -> None:
    for racer in racers:
        os.kill(racer.pid, signal.SIGSTOP)
    if racers:
        time.sleep(PAUSE)
    for racer in racers:
        os.kill(racer.pid, signal.SIGCONT)


async def _judge(sandbox: Sandbox, journal: str, count: int, content: list[Path]) -> Race:
    opened = open_journal(journal)
    heard = [heard_in(file) for file in content]
    race = Race(
        count,
        dict(Counter(word for each in heard for words in each.values() for word in words)),
        *([] for _ in range(6)),
    )
    for number in range(count):
        await _judge_one(sandbox, opened, number, heard, race)
    await opened.aclose()
    return race


async def _judge_one(
    sandbox: Sandbox, opened: Journal, number: int, heard: list[dict[str, list[str]]], race: Race
) -> None:
    name = request_of(number).foreign_id
    row = await opened.find("default", name)
    moved = [one for one in sandbox.ledger.accepted(name) if one.moved_money]
    bodies = {seen.body for seen in sandbox.ledger.requests(name)}
    if len(moved) > 1:
        race.twice.append(name)
    if len(bodies) > 1:
        race.two_payments.append(name)
    if row is None or row.state == "open":
        race.stuck.append(name)
        return
    amounts = {str(msgspec.json.decode(body)["amount"]) for body in bodies}
    for index, words in enumerate(heard):
        is_mine = not is_contested(number) or str(wanted(number, index).amount) in amounts
        result = set(words.get(name, ()))
        right = {"unknown", row.state if is_mine else "conflict"}
        race.told_wrong.extend(f"{name}: racer {index} heard {word}" for word in result - right)
    lines = await opened.history("default", name)
    senders = {line.worker for line in lines if line.kind == "attempt"}
    if len(senders) > 1:
        race.shared.append(name)
    if row.contradiction is not None:
        race.stale.append(f"{name}: {row.contradiction}")


def main(arguments: list[str]) -> int:
    """Run it and print what came of it."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof.racing")
    parser.add_argument("--processes", type=int, default=16)
    parser.add_argument("--withdrawals", type=int, default=400)
    parser.add_argument("--paused", type=int, default=3)
    parser.add_argument("--journal", help="a journal of your own instead of a file in a temporary folder")
    parser.add_argument("--seed", type=int, default=1)
    chosen = parser.parse_args(arguments)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        found = race(
            chosen.processes,
            chosen.withdrawals,
            chosen.paused,
            Path(folder),
            seed=chosen.seed,
            journal=chosen.journal,
        )
    print(  # noqa: T201 - a command prints
        f"{chosen.processes} processes, {chosen.paused} of them paused for {PAUSE:.0f} s (a lease is {LEASE:.0f} s), "
        f"{found.withdrawals} withdrawals, {time.monotonic() - began:.0f} s, seed {chosen.seed}\n"
        f"heard: {found.told}\n"
        f"paid twice {len(found.twice)}, two payments sent {len(found.two_payments)}, told wrong {len(found.told_wrong)}, "
        f"stuck {len(found.stuck)}, settled by a stale holder {len(found.stale)}, sent by more than one worker {len(found.shared)}"
    )
    for line in (*found.twice, *found.two_payments, *found.told_wrong, *found.stuck, *found.stale):
        print(line)  # noqa: T201
    return 0 if found.is_clean else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
