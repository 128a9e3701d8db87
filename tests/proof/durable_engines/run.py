"""One engine: withdrawals are given to it, its worker is killed between sending and recording, and the judge of `chaos` judges the end."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Set as AbstractSet
from contextlib import AsyncExitStack
from math import inf
from pathlib import Path
from typing import Final, NamedTuple

from alphapo_async import AlphapoClient, derive_foreign_id
from alphapo_async.sandbox import Call, Fault, Sandbox
from tests.proof.chaos.judge import FINAL, Accepted, Evidence, Verdict, judge
from tests.proof.chaos.stage import row_states
from tests.proof.durable_engines.engines import Engine
from tests.proof.failover_client import KEY, SECRET, Report

__all__ = ["Plan", "Result", "StallOnDemand", "play"]

_POLL: Final = 0.02
_FOR_REFUSALS: Final = 5.0
"""Seconds for the other answers, after all that is paid has one."""
_SETTLING: Final = 30.0
"""Seconds for one pass over what is open; what is refused while in doubt takes longer, and waits for `quiet` anyway."""
_QUIET: Final = 1_800.0
"""As in the programs, which run with the usual policy."""


class Plan(NamedTuple):
    """How much happens."""

    withdrawals: int
    kills: int
    patience: float = 240.0
    """Seconds for a body to arrive after a kill, and for the next answer after the last one."""


class Result(NamedTuple):
    """What a run came to."""

    withdrawals: int
    kills: int
    seconds: float
    answers: Counter[str]
    verdict: Verdict


class StallOnDemand:
    """AlphaPo accepts the next new withdrawal, and is silent about it, each time this is asked for.

    Args:
        spared: foreign_ids that are left alone.
    """

    def __init__(self, spared: AbstractSet[str] = frozenset()) -> None:
        self._spared = spared
        self._is_asked = False
        self.stalled: str | None = None
        """The foreign_id that it was silent about."""

    def ask(self) -> None:
        """Have the next first body of a withdrawal stall."""
        self._is_asked, self.stalled = True, None

    def next(self, call: Call, /) -> Fault | None:
        """Stall if it was asked for; every eleventh other reply is lost. What AlphaPo refuses is left alone."""
        if call.kind != "withdrawal" or call.number > 1 or call.foreign_id in self._spared:
            return None
        if self._is_asked:
            self._is_asked, self.stalled = False, call.foreign_id
            return Fault.STALL_AFTER
        return Fault.RESET_AFTER if int(call.foreign_id, 16) % 11 == 0 else None


def _payment(number: int) -> dict[str, str]:
    """Return the payment of this number; AlphaPo refuses one in nineteen."""
    return {
        "currency": "BTC",
        "address": f"made-up-{number}",
        "amount": "0" if _is_refused(number) else "0.001",
        "end_user_reference": f"user-{number}",
    }


def _is_refused(number: int) -> bool:
    return number % 19 == 7


class _Run:
    """The withdrawals of one run, and what is reported about them."""

    def __init__(self, plan: Plan, engine: Engine, sandbox: Sandbox, stalls: StallOnDemand) -> None:
        self._plan = plan
        self._engine = engine
        self._sandbox = sandbox
        self._stalls = stalls
        self._asked: dict[str, float] = {}
        self._reports: list[Report] = []

    async def play(self) -> Result:
        """Give the engine everything, kill its worker, wait for all answers, and judge."""
        plan, began, kills = self._plan, time.monotonic(), 0
        for turn in range(plan.kills):
            self._stalls.ask()
            await self._submit(
                range(turn * plan.withdrawals // plan.kills, (turn + 1) * plan.withdrawals // plan.kills)
            )
            if not await self._has_stalled():
                break
            await self._engine.kill()
            kills += 1
        await self._wait_for_all()
        await self._settle()
        evidence = await self._evidence()
        answers = Counter(report.outcome for report in self._reports if report.kind == "result")
        answers["unknown until quiet"] = len(evidence.waiting)
        return Result(len(self._asked), kills, time.monotonic() - began, +answers, judge(evidence))

    async def _submit(self, numbers: range) -> None:
        for number in numbers:
            name = str(number)
            self._asked[name] = time.monotonic()
            self._reports.append(
                Report(kind="event", name="asked", number=number, foreign_id=_id(name), began=self._asked[name])
            )
            await self._engine.submit(name, _payment(number))

    async def _has_stalled(self) -> bool:
        """Wait until AlphaPo has accepted a withdrawal whose answer will not come; no if none arrives in time."""
        until = time.monotonic() + self._plan.patience
        while time.monotonic() < until:
            stalled = self._stalls.stalled
            if stalled and any(one.foreign_id == stalled for one in self._sandbox.ledger.all_accepted()):
                return True
            await asyncio.sleep(_POLL)
        return False

    async def _wait_for_all(self) -> None:
        """Wait for all answers. A refused withdrawal that was under way at a kill has none before `quiet` has passed, by rule."""
        paid = {asyncio.create_task(self._note_answer(name)) for name in self._asked if not _is_refused(int(name))}
        refused = {asyncio.create_task(self._note_answer(name)) for name in self._asked if _is_refused(int(name))}
        until = time.monotonic() + self._plan.patience
        try:
            done: set[asyncio.Task[None]] = set()
            while len(done) < len(paid) and time.monotonic() < until:
                await self._engine.idle()
                before = len(done)
                done, _ = await asyncio.wait(paid, timeout=1.0)
                if len(done) > before:
                    until = time.monotonic() + self._plan.patience
            await asyncio.wait(paid | refused, timeout=_FOR_REFUSALS)
        finally:
            for task in paid | refused:
                task.cancel()
            await asyncio.gather(*paid, *refused, return_exceptions=True)
        for task in paid | refused:
            if not task.cancelled():
                task.result()

    async def _settle(self) -> None:
        """End the worker, and settle once what no step asks for any more, as `alphapo worker` does beside an engine."""
        await self._engine.worker.end()
        client = AlphapoClient(KEY, SECRET, journal=self._engine.journal, base_url=self._sandbox.url)
        async with client:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SETTLING):
                    async for _ in client.resume():
                        pass

    async def _note_answer(self, name: str) -> None:
        answer = await self._engine.answer(name)
        self._reports.append(
            Report(
                kind="result",
                name="step",
                number=int(name),
                foreign_id=_id(name),
                outcome=answer.outcome,
                may_release=answer.outcome in FINAL - {"accepted", "conflict"} or answer.outcome == "not_sent",
                text=answer.text,
                began=self._asked[name],
                ended=time.monotonic(),
            )
        )

    async def _evidence(self) -> Evidence:
        accepted: dict[str, list[Accepted]] = {}
        for one in self._sandbox.ledger.all_accepted():
            if one.moved_money:
                accepted.setdefault(one.foreign_id, []).append(Accepted(str(one.id), one.at))
        names = {_id(name) for name in self._asked} | accepted.keys()
        states, in_doubt = await row_states(self._engine.journal, names, _QUIET)
        waiting = in_doubt - accepted.keys()  # what AlphaPo has, a look-up must have settled
        return Evidence({"engine": self._reports}, accepted, states, waiting, {}, inf, inf)


def _id(name: str) -> str:
    return derive_foreign_id(f"refund-{name}")


async def play(kind: type[Engine], plan: Plan, folder: Path) -> Result:
    """Run one engine in this folder."""
    stalls = StallOnDemand({_id(str(number)) for number in range(plan.withdrawals) if _is_refused(number)})
    sandbox = Sandbox(KEY, SECRET, clock=time.monotonic, latency=0.005, faults=stalls)
    async with sandbox, AsyncExitStack() as stack:
        environment = {"ALPHAPO_BASE_URL": sandbox.url, "ALPHAPO_KEY": KEY, "ALPHAPO_SECRET": SECRET}
        engine = kind(folder, environment, stack)
        await engine.start()
        return await _Run(plan, engine, sandbox, stalls).play()
