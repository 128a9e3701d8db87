"""Workers killed at random moments: what a journal in a file is for.

A worker pays a batch of withdrawals and settles what earlier workers left open, at a local AlphaPo that fails on purpose; it is killed
(SIGKILL) at a random moment, and the next one goes on. At the end one worker is left alone until nothing is open, and the ledger is
compared with the journal and with everything that callers were told.

`python -m tests.proof.killing [KILLS] [--each N] [--seed N] [--blind] [--journal URL]` runs it and prints what came of it.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import os
import random
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import PIPE
from typing import Final, NamedTuple

import msgspec

from alphapo_async import AlphapoClient, WithdrawalError, open_journal
from alphapo_async.core.row import Row
from alphapo_async.sandbox import Dialect, Sandbox
from alphapo_async.sandbox.fault_sets import named_faults
from alphapo_async.sandbox.faults import Call, Fault, FaultPlan
from tests.proof.background import running_sandbox
from tests.proof.killed import KEY, POLICY, SECRET, Order, control_of, note, settle
from tests.support.processes import started

LONGEST_LIFE: Final = 0.35
"""Seconds after its first step at which a worker is killed at the latest."""
LONGEST_END: Final = 120.0
"""Seconds that the last worker has to settle all that is left."""


class Verdict(NamedTuple):
    """What a run came to."""

    withdrawals: int
    outcomes: dict[str, int]
    """Rows by what the journal says of them."""
    twice: list[str]
    lost: list[str]
    """Asked for, and not in the journal although it was told something of them; or accepted and not known."""
    stuck: list[str]
    """Still open at the end."""
    told_wrong: list[str]
    changed_bytes: list[str]

    @property
    def is_clean(self) -> bool:
        """Nobody was paid twice, nothing was lost, and nobody told wrong."""
        return not (self.twice or self.lost or self.told_wrong or self.changed_bytes)


# ── the killer ───────────────────────────────────────────────────────────────────────────────────────────────────────


def kill_and_resume(
    kills: int, each: int, seed: int, folder: Path, *, journal: str | None = None, is_blind: bool = False
) -> Verdict:
    """Kill so many workers, let the last one finish, and return the verdict."""
    rng = random.Random(seed)
    journal = journal or str(folder / "payouts.db")
    result = folder / "told.txt"
    result.touch()
    faults = UntilCalm(named_faults("heavy", seed))
    dialect = Dialect(visibility="never") if is_blind else Dialect()
    with running_sandbox(
        faults=faults,
        seed=seed,
        latency=0.005,
        slow_seconds=0.1,
        late_seconds=0.3,
        throttle_seconds=0.2,
        dialect=dialect,
    ) as sandbox:
        with _forker() as (order, hear):
            for turn in range(kills):
                order(Order(sandbox.url, journal, turn * each, each, str(result)))
                worker, is_ready = int(hear()), hear()
                assert is_ready == "ready\n"
                time.sleep(rng.uniform(0, LONGEST_LIFE))
                with contextlib.suppress(ProcessLookupError):  # it had done all it was to do
                    os.kill(worker, signal.SIGKILL)
        faults.is_calm = True
        asyncio.run((_one_pass if is_blind else settle_all)(sandbox.url, journal, result))
        return asyncio.run(judge(sandbox, journal, result, is_blind=is_blind))


class UntilCalm:
    """Faults until AlphaPo has recovered: what is left over is settled then, and not against a budget made for worse times."""

    def __init__(self, plan: FaultPlan) -> None:
        self._plan = plan
        self.is_calm = False

    def next(self, call: Call, /) -> Fault | None:
        """Return the plan's fault, none in calm times."""
        return None if self.is_calm else self._plan.next(call)


@contextlib.contextmanager
def _forker() -> Iterator[tuple[Callable[[Order], None], Callable[[], str]]]:
    """Give two functions: one orders a worker, one reads a line of what is answered."""
    with started([sys.executable, "-m", "tests.proof.killed"], stdin=PIPE, stdout=PIPE) as forker:
        assert forker.stdin is not None
        assert forker.stdout is not None
        orders, answers = forker.stdin, forker.stdout

        def order(one: Order) -> None:
            orders.write(msgspec.json.encode(one) + b"\n")
            orders.flush()

        yield order, lambda: answers.readline().decode()
        orders.close()


async def settle_all(url: str, journal: str, content: Path) -> None:
    """Go on until nothing is open; new withdrawals show meanwhile that look-ups see, which some rows have to wait for."""
    until, controls = time.monotonic() + LONGEST_END, itertools.count()
    async with AlphapoClient(KEY, SECRET, journal=journal, base_url=url, policy=POLICY) as client:
        settling = asyncio.create_task(settle(client, content))
        shared = open_journal(journal)
        while await shared.find_open("default", None, 1) and time.monotonic() < until:
            with contextlib.suppress(WithdrawalError):
                await client.withdraw(control_of(next(controls)))
            await asyncio.sleep(0.3)
        settling.cancel()
        await asyncio.gather(settling, return_exceptions=True)
        await shared.aclose()


async def _one_pass(url: str, journal: str, content: Path) -> None:
    async with AlphapoClient(KEY, SECRET, journal=journal, base_url=url, policy=POLICY) as client:
        async for result in client.resume():
            note(content, result.request.foreign_id, result.outcome)


async def judge(sandbox: Sandbox, journal: str, content: Path, *, is_blind: bool) -> Verdict:
    """Compare journal and callers with the ledger."""
    opened = open_journal(journal)
    ledger, heard = sandbox.ledger, heard_in(content)
    twice: list[str] = []
    lost: list[str] = []
    stuck: list[str] = []
    wrong: list[str] = []
    changed: list[str] = []
    outcomes: Counter[str] = Counter()
    names = {name for name in (*ledger.foreign_ids(), *heard) if name.startswith("kill-")}
    for name in sorted(names):
        row = await opened.find("default", name)
        moved = [one for one in ledger.accepted(name) if one.moved_money]
        outcomes["none" if row is None else row.state] += 1
        if len(moved) > 1:
            twice.append(name)
        if len({seen.body for seen in ledger.requests(name)}) > 1:
            changed.append(name)
        if row is None or (row.state == "open" and not is_blind):
            (lost if row is None else stuck).append(name)
        wrong += _lies(name, row, heard.get(name, []), is_paid=bool(moved))
    await opened.aclose()
    return Verdict(len(names), dict(outcomes), twice, lost, stuck, wrong, changed)


def heard_in(content: Path) -> dict[str, list[str]]:
    """Return what callers were told, by foreign_id."""
    heard: dict[str, list[str]] = {}
    for line in content.read_text(encoding="utf-8").splitlines():
        name, _, outcome = line.partition(" ")
        heard.setdefault(name, []).append(outcome)
    return heard


def _lies(name: str, row: Row | None, heard: list[str], *, is_paid: bool) -> list[str]:
    said = {*heard, row.state if row is not None else "unknown"}
    lies = [f"{name}: said {outcome}, and it was paid" for outcome in said & _NO if is_paid]
    return lies + [f"{name}: said accepted, and it was not" for outcome in said & {"accepted"} if not is_paid]


_NO: Final = frozenset({"rejected", "failed", "not_sent", "conflict", "key_refused"})


def main(arguments: list[str]) -> int:
    """Run it and print the verdict."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof.killing")
    parser.add_argument("kills", type=int, nargs="?", default=1_000)
    parser.add_argument("--each", type=int, default=20, help="withdrawals that each worker is to pay")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--blind", action="store_true", help="look-ups show nothing")
    parser.add_argument("--journal", help="a journal of your own instead of a file in a temporary folder")
    chosen = parser.parse_args(arguments)
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        verdict = kill_and_resume(
            chosen.kills, chosen.each, chosen.seed, Path(folder), journal=chosen.journal, is_blind=chosen.blind
        )
    text = (
        f"{chosen.kills} kills, {verdict.withdrawals} withdrawals of {chosen.kills * chosen.each} got as far as the journal, "
        f"{time.monotonic() - began:.0f} s, seed {chosen.seed}\n"
        f"outcomes: {verdict.outcomes}\n"
        f"paid twice {len(verdict.twice)}, lost {len(verdict.lost)}, stuck {len(verdict.stuck)}, "
        f"told wrong {len(verdict.told_wrong)}, changed bytes {len(verdict.changed_bytes)}\n"
    )
    print(text + "\n".join([*verdict.twice, *verdict.lost, *verdict.stuck[:20], *verdict.told_wrong]))  # noqa: T201
    return 0 if verdict.is_clean and not verdict.stuck else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
