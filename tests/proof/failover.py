"""Failovers of a real PostgreSQL under real processes of ours: what callers were answered, compared with the sandbox's ledger.

In each round callers and workers pay at a local AlphaPo, the standby is held back, more is paid, refused and acknowledged, the primary is
lost, the standby is promoted, the clients' connections move, and work goes on. Rows that were open on the standby are then settled in four
ways: by a look-up, by a callback, by a repeated call, and by `alphapo journal unfreeze`.

`python -m tests.proof.failover [--asynchronous N] [--synchronous N] [--lossless N] [--pooled N] [--seed N]` runs so many rounds of each
mode and prints what came of them.
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
import time
from asyncio.subprocess import PIPE
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Sequence
from decimal import Decimal
from typing import Any, Final, Literal, NamedTuple, TypeAlias, get_args

import asyncpg
import msgspec

from alphapo_async.sandbox import Call, Fault, Sandbox
from alphapo_async.sandbox.callbacks import Mischief, plan
from tests.proof.failover_client import KEY, SECRET, Command, Report, Verb
from tests.proof.failover_judge import MOVED_BACK, Evidence, Verdict, judge
from tests.proof.relay import Relay
from tests.proof.replication import Cluster
from tests.support.pooler import Pooler

__all__ = ["Mode", "Result", "run"]

Mode: TypeAlias = Literal["asynchronous", "synchronous", "lossless", "pooled"]
"""`synchronous` and `lossless` have a synchronous standby, and only `lossless` says so in the journal's URL; `pooled` is asynchronous."""

WORKERS: Final = 2
CALLERS: Final = 2
OF_A_KIND: Final = 2
"""Rows of each story in a round."""
TRAFFIC: Final = 12
"""Payments besides, at random moments of a round."""
WAYS: Final = ("look-up", "callback", "again", "unfreeze")
"""How a frozen row settles; the first word of its foreign_id."""
_REFUSED: Final = ("again", "unfreeze", "left")
"""Stories that begin with a refusal: the merchant has no balance in that currency yet."""
_PATIENCE: Final = 30.0
"""Seconds within which a frozen row settles."""
_POLL: Final = 0.05
_PAUSE: Final = 0.5
"""Seconds between two payments of others while callers wait."""
_BLINK: Final = 0.4
"""Seconds between the moment the standby is held back and the loss of the primary, where callers wait for the standby."""


class _BlindForCallbacks:
    """Look-ups of rows that a callback is to settle are never answered."""

    def next(self, call: Call, /) -> Fault | None:
        """Return a fault for each of their look-ups."""
        is_blind = call.kind == "look-up" and "callback" in call.foreign_id
        return Fault.HTML_503_BEFORE if is_blind else None


# ── processes ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Process:
    """A process of ours, and all that it has reported."""

    def __init__(self, name: str, process: asyncio.subprocess.Process) -> None:
        self.name = name
        self.reports: list[Report] = []
        self._process = process
        self._numbers = itertools.count(1)
        self._waiting: dict[int, asyncio.Future[Report]] = {}
        self._reading = asyncio.create_task(self._read())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := await self._process.stdout.readline():
            report = msgspec.json.decode(line, type=Report)
            self.reports.append(report)
            if report.kind == "result" and report.number in self._waiting:
                self._waiting.pop(report.number).set_result(report)

    async def ask(self, verb: Verb, **arguments: Any) -> Report:
        """Have a command carried out, and return how it ended."""
        assert self._process.stdin is not None
        number = next(self._numbers)
        self._waiting[number] = asyncio.get_running_loop().create_future()
        command = Command(number=number, verb=verb, **arguments)
        self._process.stdin.write(msgspec.json.encode(command) + b"\n")
        return await self._waiting[number]

    def has_reported(self, event: str) -> bool:
        """Tell whether an event of this name came."""
        return any(report.kind == "event" and report.name == event for report in self.reports)

    async def end(self) -> None:
        """End the process."""
        self._process.kill()
        await self._process.wait()
        await self._reading


@contextlib.asynccontextmanager
async def _processes() -> AsyncIterator[list[Process]]:
    names = [f"worker-{one}" for one in range(WORKERS)] + [f"caller-{one}" for one in range(CALLERS)]
    started: list[Process] = []
    try:
        for name in names:
            command = (sys.executable, "-m", "tests.proof.failover_client")
            started.append(Process(name, await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)))
        yield started
    finally:
        await asyncio.gather(*(process.end() for process in started))


# ── one round ────────────────────────────────────────────────────────────────────────────────────────────────────────


class Result(NamedTuple):
    """What one round came to."""

    mode: Mode
    seconds: float
    verdict: Verdict
    calls: Counter[str]
    """What callers were answered."""
    frozen: Counter[str]
    """Rows that were open on the new primary, by story."""
    lost: int
    """Rows and changes of rows that the new primary did not have."""
    accepted: int


class _Round:
    """One failover and everything around it.

    Args:
        number: of the round, in every foreign_id.
        mode: of the cluster and of the journal's URL.
        cluster: a primary and its standby.
        sandbox: AlphaPo.
        processes: workers and callers of ours, without a client yet.
        seed: of the moments at which things happen.
    """

    def __init__(
        self,
        number: int,
        mode: Mode,
        cluster: Cluster,
        sandbox: Sandbox,
        processes: list[Process],
        *,
        seed: int,
    ) -> None:
        self._prefix = f"r{number}"
        self._mode: Mode = mode
        self._cluster = cluster
        self._sandbox = sandbox
        self._processes = processes
        self._workers, self._callers = processes[:WORKERS], processes[WORKERS:]
        self._rng = random.Random(f"{seed} {number}")
        self._unfrozen: dict[str, float] = {}
        self._unannounced: list[str] = []
        self._failed_over_at = 0.0
        self._lost = 0
        self._frozen: frozenset[str] = frozenset()
        self._passing: asyncio.Task[Report] | None = None

    @property
    def _loses(self) -> bool:
        return self._mode in ("asynchronous", "pooled")

    @property
    def _abandoned(self) -> frozenset[str]:
        """Rows that nobody asks for after the failover; where the standby is synchronous, callers still wait for all of them."""
        return frozenset(self._named("left")) if self._loses else frozenset()

    async def run(self) -> Result:
        """Let it happen, and return what came of it."""
        began = time.monotonic()
        async with self._address() as (address, mover):
            await _all(self._open(process, address) for process in self._processes)
            traffic = asyncio.gather(*(self._pay_at_random(number) for number in range(TRAFFIC)))
            await self._before()
            await self._cluster.catch_up()
            self._cluster.hold_standby()
            await _all(worker.ask("work") for worker in self._workers)
            held = asyncio.gather(*self._while_held())
            await asyncio.wait({held}, timeout=None if self._loses else _BLINK)
            before = await self._rows()
            self._failed_over_at = time.monotonic()
            self._cluster.remove(await self._cluster.fail_over())
            after = await self._rows()
            self._frozen = frozenset(name for name, row in after.items() if row[0] == "open")
            self._lost = sum(name not in after or after[name][1] < turn for name, (_, turn) in before.items())
            await mover(self._cluster.primary.port)
            rebuilding = asyncio.create_task(self._cluster.add_standby())
            if self._loses:
                await held
            self._add("LTC", 100)  # the merchant tops up; where callers still wait, they are paid now
            await self._pay_others_until(held)
            await self._after()
            await traffic
            await rebuilding
            result = await self._judge(time.monotonic() - began)
            await _all(process.ask("close") for process in self._processes)
            return result

    # ── the clients' connections ─────────────────────────────────────────────────────────────────────────────────────

    @contextlib.asynccontextmanager
    async def _address(self) -> AsyncIterator[tuple[int, Callable[[int], Coroutine[Any, Any, None]]]]:
        """Yield a port that leads to the primary, and a function that has it lead to another one."""
        port = self._cluster.primary.port
        if self._mode == "pooled":
            async with Pooler(f"postgresql://127.0.0.1:{port}/postgres", connections=8) as pooler:
                yield int(pooler.url.rpartition(":")[2].partition("/")[0]), pooler.move
        else:
            async with Relay(port) as relay:
                yield relay.port, relay.move

    def _url(self, address: int, process: Process) -> str:
        """Return the journal's URL: half of the processes know both servers, the others one address that moves."""
        cluster = self._cluster
        assert cluster.standby is not None
        if self._mode != "pooled" and self._processes.index(process) % 2:
            hosts = f"127.0.0.1:{cluster.primary.port},127.0.0.1:{cluster.standby.port}"
            url = f"postgresql://postgres@{hosts}/postgres?target_session_attrs=read-write"
        else:
            url = f"postgresql://postgres@127.0.0.1:{address}/postgres"
        if self._mode != "lossless":
            return url
        return f"{url}{'&' if '?' in url else '?'}failover=lossless"

    async def _open(self, process: Process, address: int) -> None:
        opened = await process.ask("open", url=self._sandbox.url, journal=self._url(address, process))
        if opened.text:
            raise RuntimeError(f"{process.name} cannot open its journal: {opened.text}")

    # ── what is paid ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _named(self, *stories: str) -> list[str]:
        # A run of the command line takes longer than all else in a round, so that one row is unfrozen by it.
        return [
            f"{self._prefix}-{story}-{one}"
            for story in stories
            for one in range(1 if story == "unfreeze" else OF_A_KIND)
        ]

    async def _pay(self, foreign_id: str, *, resend_rejected: bool = False, verb: Verb = "withdraw") -> Report:
        """Have some caller ask for a payment, again until the answer is final."""
        currency = _currency_of(foreign_id)
        while True:
            caller = self._rng.choice(self._callers)
            result = await caller.ask(
                verb, foreign_id=foreign_id, currency=currency, resend_rejected=resend_rejected, deadline=3.0
            )
            if result.outcome not in ("unknown", "JournalError", "not_sent"):
                return result
            await asyncio.sleep(0.1)

    async def _pay_at_random(self, number: int) -> None:
        await asyncio.sleep(self._rng.uniform(0.0, 2.5))
        verb: Verb = "enqueue" if number % 3 == 2 else "withdraw"
        await self._pay(f"{self._prefix}-traffic-{number}", verb=verb)

    async def _pay_others_until(self, waited_for: asyncio.Future[Any]) -> None:
        """Pay others meanwhile: without a payment that AlphaPo accepts later, no refusal of a row in doubt is ever final."""
        for number in itertools.count():
            await asyncio.wait({waited_for}, timeout=_PAUSE)
            if waited_for.done():
                break
            await self._pay(f"{self._prefix}-other-{number}")
        await waited_for

    async def _before(self) -> None:
        """What the standby holds: rows to send, and refusals."""
        enqueued = self._named("look-up", "callback", *_REFUSED)
        await _all(self._pay(name, verb="enqueue") for name in enqueued)
        await _all(self._pay(name) for name in self._named("turned"))

    def _while_held(self) -> list[Coroutine[Any, Any, Report]]:
        """What is acknowledged while the standby receives nothing."""
        self._add("ETH", 100)
        again = [self._pay(name, resend_rejected=True) for name in self._named("turned")]
        return [*again, *(self._pay(name) for name in self._named("look-up", "callback", *_REFUSED, "gone"))]

    async def _after(self) -> None:
        """Settle what froze, each story in its way."""
        await _all(
            (
                self._call_back(),
                self._unfreeze(),
                *(self._pay(name) for name in self._named("again", "turned")),
                *(self._come_back(name) for name in self._named("gone")),
            )
        )
        await self._wait_for_settling()

    def _add(self, currency: str, amount: int) -> None:
        self._sandbox._state._balances[currency] = Decimal(amount)

    async def _call_back(self, *stories: str) -> None:
        await asyncio.sleep(0.3)  # the look-up of a worker comes first, and is not answered
        await _all(self._announce(name) for name in self._named("callback"))

    async def _announce(self, foreign_id: str) -> list[Report]:
        """Deliver AlphaPo's callbacks of a withdrawal to some process, until each is taken."""
        sandbox, result = self._sandbox, []
        for record in sandbox._state.named(foreign_id):
            for row in plan(record, sandbox.dialect, sandbox._signers[record.key], Mischief()):
                delivery = row[0].deliveries[0]
                process = self._rng.choice(self._processes)
                result.append(
                    await process.ask(
                        "callback", foreign_id=foreign_id, headers=dict(delivery.headers), body=delivery.body.decode()
                    )
                )
        return result

    async def _come_back(self, foreign_id: str) -> None:
        """AlphaPo tells of a row that is gone, then its caller asks again."""
        if foreign_id not in await self._rows():
            result = await self._announce(foreign_id)
            if any(report.outcome == "not in journal" for report in result) and not self._has_error_about(foreign_id):
                self._unannounced.append(foreign_id)
        await self._pay(foreign_id)

    def _has_error_about(self, foreign_id: str) -> bool:
        lines = (report for process in self._processes for report in process.reports if report.kind == "log")
        return any(foreign_id in line.text for line in lines)

    async def _unfreeze(self) -> None:
        """The operator has looked at AlphaPo's books, which do not have these rows; one pass or a worker sends them."""
        rows = await self._rows()
        frozen = [name for name in self._named("unfreeze") if name in self._frozen and rows[name][0] == "open"]
        for name in frozen:
            began = time.monotonic()  # a worker may send the row before the command has ended
            if await self._command(
                "journal", "unfreeze", name, "--anyway", "--by", "anna", "--because", "AlphaPo's books do not have it"
            ):
                self._unfrozen[name] = began
        self._passing = asyncio.create_task(self._workers[0].ask("resume"))

    async def _command(self, *arguments: str) -> bool:
        """Run `alphapo` and tell whether it ended well."""
        environment = os.environ | {"ALPHAPO_JOURNAL": self._cluster.primary.url}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "alphapo_async", *arguments, env=environment, stdout=PIPE, stderr=PIPE
        )
        await process.communicate()
        return process.returncode == 0

    async def _wait_for_settling(self) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                is_waiting = True
                while is_waiting:
                    rows = await self._rows()
                    is_waiting = any(rows[name][0] == "open" for name in self._frozen - self._unasked())
                    if self._mode != "lossless":  # a worker that only polls sees the new primary a moment later
                        is_waiting |= not all(process.has_reported(MOVED_BACK) for process in self._processes)
                    await asyncio.sleep(_POLL)

    def _unasked(self) -> frozenset[str]:
        """Return the frozen rows that nothing settles: enqueued ones that were never sent, above all."""
        asked = {call.foreign_id for call in self._calls() if call.ended > self._failed_over_at}
        return self._frozen - asked - self._accepted().keys() - self._unfrozen.keys()

    def _calls(self) -> list[Report]:
        reports = (report for process in self._processes for report in process.reports)
        return [report for report in reports if report.kind == "result" and report.name in ("withdraw", "enqueue")]

    # ── what came of it ──────────────────────────────────────────────────────────────────────────────────────────────

    async def _rows(self) -> dict[str, tuple[str, int]]:
        """Return state and version of each row of the primary."""
        connection = await asyncpg.connect(self._cluster.primary.url)
        try:
            found = await connection.fetch("select foreign_id, state, row_version from alphapo.withdrawals")
        finally:
            await connection.close()
        return {row["foreign_id"]: (row["state"], row["row_version"]) for row in found}

    async def _judge(self, seconds: float) -> Result:
        calls, accepted = self._calls(), self._accepted()
        results = [process.name for process in self._processes if process.has_reported(MOVED_BACK)]
        evidence = Evidence(
            calls=calls,
            accepted=accepted,
            states={name: row[0] for name, row in (await self._rows()).items()},
            frozen=self._frozen,
            abandoned=self._abandoned,
            unasked=self._unasked(),
            unfrozen=self._unfrozen,
            silent=[process.name for process in self._processes if process.name not in results],
            unannounced=self._unannounced,
            announced=results,
            loses=self._loses,
            freezes=self._mode != "lossless",
        )
        answers = Counter(report.outcome for report in calls)
        frozen = Counter(name.removeprefix(f"{self._prefix}-").rpartition("-")[0] for name in self._frozen)
        return Result(self._mode, seconds, judge(evidence), answers, frozen, self._lost, len(accepted))

    def _accepted(self) -> dict[str, list[float]]:
        accepted: dict[str, list[float]] = {}
        for one in self._sandbox.ledger.all_accepted():
            if one.moved_money:
                accepted.setdefault(one.foreign_id, []).append(one.at)
        return accepted


def _currency_of(foreign_id: str) -> str:
    story = foreign_id.partition("-")[2].rpartition("-")[0]
    return "LTC" if story in _REFUSED else "ETH" if story == "turned" else "BTC"


async def _all(waited_for: Iterable[Coroutine[Any, Any, Any]]) -> None:
    await asyncio.gather(*waited_for)


# ── many rounds ──────────────────────────────────────────────────────────────────────────────────────────────────────


async def run(modes: Sequence[Mode], seed: int, show: Callable[[Result], None] = lambda _result: None) -> list[Result]:
    """Run a round of each of these modes, in this order, and return what came of them.

    Args:
        modes: one for each round.
        seed: of the moments at which things happen.
        show: is shown each result when it is there.
    """
    results = []
    async with _processes() as processes:
        for is_synchronous, numbered in itertools.groupby(enumerate(modes), lambda one: one[1] in _SYNCHRONOUS):
            async with Cluster(is_synchronous=is_synchronous) as cluster:
                for number, mode in numbered:
                    result = await _one(number, mode, cluster, processes, seed)
                    show(result)
                    results.append(result)
    return results


_SYNCHRONOUS: Final = ("synchronous", "lossless")


async def _one(number: int, mode: Mode, cluster: Cluster, processes: list[Process], seed: int) -> Result:
    for process in processes:
        process.reports.clear()
    sandbox = Sandbox(
        KEY,
        SECRET,
        latency=0.02,
        clock=time.monotonic,
        balances={"BTC": 1000, "LTC": 0, "ETH": 0},
        faults=_BlindForCallbacks(),
        settle_after=0.0,
    )
    async with sandbox:
        result = await _Round(number, mode, cluster, sandbox, processes, seed=seed).run()
    await cluster.primary.ask("drop schema alphapo cascade")
    return result


def _print(line: str) -> None:
    print(line, flush=True)  # noqa: T201 - a command prints


def _show(result: Result) -> None:
    answers = ", ".join(f"{number} {outcome}" for outcome, number in sorted(result.calls.items()))
    frozen = ", ".join(f"{number} {story}" for story, number in sorted(result.frozen.items())) or "none"
    _print(
        f"{result.mode}: {result.seconds:.1f} s, {result.lost} changes lost, {result.accepted} accepted; "
        f"open on the new primary: {frozen}; answers: {answers}"
    )
    for kind, lines in msgspec.structs.asdict(result.verdict).items():
        for line in lines:
            _print(f"    {kind}: {line}")


async def _until_signaled(rounds: Coroutine[Any, Any, list[Result]]) -> list[Result]:
    """End at SIGINT and SIGTERM by being cancelled, so that servers are stopped and their files removed."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):  # an exception raised by a handler could hit any line of the loop
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    return await rounds


def main(arguments: list[str]) -> int:
    """Run the rounds and print what came of them."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof.failover", description=(__doc__ or "").splitlines()[0])
    for mode in get_args(Mode):
        parser.add_argument(f"--{mode}", type=int, default=0, metavar="ROUNDS")
    parser.add_argument("--seed", type=int, default=1)
    chosen = vars(parser.parse_args(arguments))
    modes = [mode for mode in get_args(Mode) for _ in range(chosen[mode])]
    try:
        results = asyncio.run(_until_signaled(run(modes, chosen["seed"], _show)))
    except asyncio.CancelledError:
        return 130
    whole = Verdict()
    for result in results:
        whole += result.verdict
    counts = ", ".join(f"{kind} {len(lines)}" for kind, lines in msgspec.structs.asdict(whole).items())
    _print(f"{len(results)} rounds: {counts}")
    return 0 if whole.is_clean else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
