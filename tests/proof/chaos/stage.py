"""One scenario: processes of ours on a setting of real infrastructure, faults one after the other, calm until all is settled, a verdict."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import random
import signal
import sys
import time
from asyncio.subprocess import DEVNULL, PIPE
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final, NamedTuple, TypeAlias

import msgspec

from alphapo_async import AlphapoClient, AlphapoError, WithdrawalRequest, open_journal
from alphapo_async.core.row import Assumptions, is_in_doubt, quiet_ends_at
from alphapo_async.journal import Journal
from alphapo_async.sandbox import Sandbox
from alphapo_async.sandbox.fault_sets import named_faults
from tests.proof.chaos.judge import BUSY, Accepted, Evidence, Verdict, judge
from tests.proof.chaos.payer import CLOSE_GRACE, DEADLINE, Order, Verb, policy, read
from tests.proof.failover_client import KEY, SECRET, Report
from tests.proof.killing import UntilCalm

__all__ = ["Fault", "Plan", "Result", "Scenario", "Setting", "Stage", "play", "row_states"]

Fault: TypeAlias = Callable[[], Awaitable[None]]
"""Something that goes wrong, and is repaired before it returns."""

_CLOSING: Final = CLOSE_GRACE + 3.0
"""Seconds within which a client closes."""
_EACH: Final = 1.3
"""Seconds that a fault takes with the pause after it, about."""
_CONTROL: Final = "control-"


class Plan(NamedTuple):
    """How much happens."""

    withdrawals: int
    faults: int
    seed: int
    quiet: float = 4.0
    patience: float = 60.0
    """Seconds that processes have to settle everything after the last fault."""
    verbs: Sequence[Verb] = ("work", "work", "withdraw", "withdraw", "batch", "enqueue")
    """A process of ours for each."""


class Setting(NamedTuple):
    """What a scenario has set up."""

    journal: str
    url: str
    """Of AlphaPo, as ours see it."""
    faults: Mapping[str, Fault]
    descriptors: int = 0
    """The most that each of them may open."""
    pay: Callable[[Sequence[int], float], Awaitable[None]] | None = None
    """Has processes of others pay the numbers, spread over so many seconds; they report to the stage."""


class Scenario(NamedTuple):
    """A setting by name."""

    name: str
    needs: tuple[str, ...]
    set_up: Callable[[Stage], Awaitable[Setting]]
    share: float = 1.0
    """Of the withdrawals, compared with the other scenarios."""


class Result(NamedTuple):
    """What a scenario came to."""

    withdrawals: int
    faults: Counter[str]
    seconds: float
    answers: Counter[str]
    verdict: Verdict


class _Process:
    """A process of ours: it is ended in several ways, and started again with the same order."""

    def __init__(self, name: str, order: Order) -> None:
        self.name = name
        self.order = order
        self.pauses: list[tuple[float, float]] = []
        self.problems: list[Report] = []
        self._log = Path(order.notes).with_suffix(".log")

    @property
    def is_running(self) -> bool:
        return self._process.returncode is None

    async def start(self) -> None:
        command = (sys.executable, "-m", "tests.proof.chaos.payer", msgspec.json.encode(self.order).decode())
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command, stdin=PIPE, stdout=DEVNULL, stderr=log, start_new_session=True
            )

    async def kill(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        await self._process.wait()

    async def pause(self, seconds: float) -> None:
        began = time.monotonic()
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(seconds)
            self._process.send_signal(signal.SIGCONT)
        self.pauses.append((began, time.monotonic()))

    async def end(self) -> None:
        """Have it close its client and end."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()
        await self.wait(_CLOSING + 2 * BUSY)

    async def wait(self, patience: float) -> None:
        """Wait for its end, and report it if it does not come or is not well."""
        try:
            code = await asyncio.wait_for(self._process.wait(), patience)
        except TimeoutError:
            self._complain("not ended", f"still there after {patience:.0f} s")
            await self.kill()
        else:
            if code not in (0, -signal.SIGTERM):  # the latter while it was starting
                self._complain("ended", f"exit code {code}, see {self._log}")

    def _complain(self, name: str, text: str) -> None:
        self.problems.append(Report(kind="event", name=name, text=text, ended=time.monotonic()))


class Stage:
    """Where a scenario is played: AlphaPo, a folder, and all that is reported.

    Args:
        plan: how much happens.
        folder: of files.
        sandbox: AlphaPo; it runs.
        stack: what is entered in it ends with the scenario.
    """

    def __init__(self, plan: Plan, folder: Path, sandbox: Sandbox, stack: AsyncExitStack) -> None:
        self.plan = plan
        self.folder = folder
        self.sandbox = sandbox
        self.stack = stack
        self.rng = random.Random(plan.seed)
        self.reports: list[Report] = []
        """Of callers that are no processes of ours."""
        self._processes: list[_Process] = []
        self._struck: Counter[str] = Counter()

    async def play(self, setting: Setting) -> Result:
        """Have everything happen, and judge it."""
        plan, began = self.plan, time.monotonic()
        numbers, seconds = range(plan.withdrawals), plan.faults * _EACH
        client = AlphapoClient(KEY, SECRET, journal=setting.journal, base_url=setting.url, policy=policy(plan.quiet))
        async with client:
            controls = asyncio.create_task(_pay_controls(client))
            try:
                if setting.pay is None:
                    await self._start(setting, seconds)
                    await self._strike(setting.faults, plan.faults)
                    await self._end_callers()
                else:
                    async with asyncio.TaskGroup() as tasks:
                        tasks.create_task(_bounded(setting.pay(numbers, seconds), seconds * 2 + plan.patience))
                        tasks.create_task(self._strike(setting.faults, plan.faults))
                await self._settle(client, setting)
                workers = [process for process in self._processes if process.order.verb == "work"]
                await asyncio.gather(*(worker.end() for worker in workers))
            finally:
                controls.cancel()
                await asyncio.gather(controls, *(process.kill() for process in self._processes), return_exceptions=True)
        evidence = await self._evidence(setting)
        calls = (report for reports in evidence.reports.values() for report in reports if report.kind == "result")
        answers = Counter(report.outcome for report in calls)
        asked = {report.foreign_id for reports in evidence.reports.values() for report in reports if report.foreign_id}
        return Result(len(asked), self._struck, time.monotonic() - began, answers, judge(evidence))

    # ── processes of ours ────────────────────────────────────────────────────────────────────────────────────────────

    async def _start(self, setting: Setting, seconds: float) -> None:
        now, callers = time.monotonic(), [verb for verb in self.plan.verbs if verb != "work"]
        shares = iter(range(len(callers)))
        for index, verb in enumerate(self.plan.verbs):
            order = Order(
                verb=verb,
                url=setting.url,
                journal=setting.journal,
                quiet=self.plan.quiet,
                notes=str(self.folder / f"{index}-{verb}.notes"),
                withdrawals=self.plan.withdrawals,
                share=0 if verb == "work" else next(shares),
                shares=len(callers),
                starts_at=now + 1.0,
                seconds=seconds,
                gives_up_at=now + 1.0 + 2 * seconds + self.plan.patience,
                descriptors=setting.descriptors,
            )
            process = _Process(f"{index}-{verb}", order)
            await process.start()
            self._processes.append(process)

    async def _end_callers(self) -> None:
        callers = [process for process in self._processes if process.order.verb != "work"]
        until = max((process.order.gives_up_at for process in callers), default=0.0) + DEADLINE + _CLOSING
        await asyncio.gather(*(process.wait(max(1.0, until - time.monotonic())) for process in callers))

    # ── faults ───────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _strike(self, faults: Mapping[str, Fault], count: int) -> None:
        """Have so many faults happen, each kind as often as any other; then AlphaPo fails no more, either."""
        kinds = {**faults, "kill": self._kill, "stop": self._stop, "pause": self._pause} if self._processes else faults
        order = [name for _ in range(count // len(kinds) + 1) for name in self.rng.sample([*kinds], len(kinds))]
        await asyncio.sleep(1.0)
        for name in order[:count]:
            await kinds[name]()
            self._struck[name] += 1
            await asyncio.sleep(self.rng.uniform(0.1, 0.9))
        plan = self.sandbox.faults
        assert isinstance(plan, UntilCalm)
        plan.is_calm = True

    def _any(self) -> _Process | None:
        running = [process for process in self._processes if process.is_running]
        return self.rng.choice(running) if running else None

    async def _kill(self) -> None:
        process = self._any()
        if process is not None:
            await process.kill()
            await process.start()

    async def _stop(self) -> None:
        process = self._any()
        if process is not None:
            await process.end()
            await process.start()

    async def _pause(self) -> None:
        process = self._any()
        if process is not None:
            await process.pause(self.rng.uniform(0.2, 2.0))

    # ── the end ──────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _settle(self, client: AlphapoClient, setting: Setting) -> None:
        """Wait until nothing is open."""
        until = time.monotonic() + self.plan.patience
        async with _opened(setting.journal) as journal:
            working = asyncio.create_task(client.work())
            while await journal.find_open("default", None, 1) and time.monotonic() < until:  # noqa: ASYNC110 - of many processes
                await asyncio.sleep(0.2)
            working.cancel()
            await asyncio.gather(working, return_exceptions=True)

    async def _evidence(self, setting: Setting) -> Evidence:
        reports: dict[str, list[Report]] = {"others": self.reports}
        for process in self._processes:
            reports[process.name] = [*read(process.order.notes), *process.problems]
        accepted: dict[str, list[Accepted]] = {}
        for one in self.sandbox.ledger.all_accepted():
            if one.moved_money and not one.foreign_id.startswith(_CONTROL):
                accepted.setdefault(one.foreign_id, []).append(Accepted(str(one.id), one.at))
        named = {report.foreign_id for each in reports.values() for report in each if report.foreign_id}
        states, waiting = await row_states(setting.journal, named | accepted.keys(), self.plan.quiet)
        pauses = {process.name: process.pauses for process in self._processes}
        return Evidence(reports, accepted, states, waiting, pauses, DEADLINE, _CLOSING)


async def row_states(journal: str, names: Iterable[str], quiet: float) -> tuple[dict[str, str], frozenset[str]]:
    """Return the states of rows, and which of them wait for `quiet`."""
    assumptions = Assumptions(quiet=quiet)
    states: dict[str, str] = {}
    waiting: set[str] = set()
    async with _opened(journal) as opened:
        for name in names:
            row = await opened.find("default", name)
            if row is not None:
                states[name] = row.state
                if is_in_doubt(row) and time.time() < quiet_ends_at(row, assumptions):
                    waiting.add(name)
    return states, frozenset(waiting)


@contextlib.asynccontextmanager
async def _opened(journal: str) -> AsyncIterator[Journal]:
    opened = open_journal(journal)
    try:
        yield opened
    finally:
        await opened.aclose()


async def _pay_controls(client: AlphapoClient) -> None:
    """Pay others all the time: some rows in doubt wait until look-ups are seen to find what AlphaPo accepted later."""
    for number in itertools.count():
        with contextlib.suppress(AlphapoError):
            await client.withdraw(
                WithdrawalRequest(
                    currency="BTC",
                    address="made-up",
                    amount="0.002",
                    foreign_id=f"{_CONTROL}{number}",
                    end_user_reference="u",
                )
            )
        await asyncio.sleep(0.4)


async def _bounded(job: Awaitable[None], seconds: float) -> None:
    async with asyncio.timeout(seconds):
        await job


async def play(scenario: Scenario, plan: Plan, folder: Path) -> Result:
    """Play a scenario in this folder."""
    if os.geteuid() == 0:
        folder.chmod(0o755)  # servers run as another user
    sandbox = Sandbox(
        KEY,
        SECRET,
        clock=time.monotonic,
        latency=0.005,
        faults=UntilCalm(named_faults("demo", plan.seed)),
        seed=plan.seed,
        slow_seconds=0.2,
        late_seconds=0.3,
        throttle_seconds=0.2,
    )
    async with sandbox, AsyncExitStack() as stack:
        stage = Stage(plan, folder, sandbox, stack)
        return await stage.play(await scenario.set_up(stage))
