"""One process of ours in a scenario: it pays or works until all is paid or it is ended, and notes what it was answered.

`python -m tests.proof.chaos.payer ORDER` takes an `Order` in JSON, and appends each `Report` as a line to the order's file, so that what is
noted outlives a kill. It closes its client and ends at SIGTERM, and with its standard input.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import random
import resource
import signal
import sys
import time
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final, Literal, TypeAlias

import msgspec

from alphapo_async import AlphapoClient, AlphapoError, JournalError, RetryPolicy, WithdrawalRequest
from alphapo_async.core.events import Event
from tests.proof.chaos.judge import FINAL
from tests.proof.failover_client import KEY, SECRET, Report
from tests.proof.failover_judge import MOVED_BACK

__all__ = [
    "CLOSE_GRACE",
    "DEADLINE",
    "Order",
    "Verb",
    "open_descriptors",
    "paced",
    "policy",
    "read",
    "request_of",
]

Verb: TypeAlias = Literal["withdraw", "batch", "enqueue", "work"]
DEADLINE: Final = 8.0
CLOSE_GRACE: Final = 2.0
_AT_ONCE: Final = 64
_NUMBERS: Final = itertools.count(time.monotonic_ns())
"""Of calls: no two processes use the same."""


class Order(msgspec.Struct, frozen=True, kw_only=True):
    """What a process is to do."""

    verb: Verb
    url: str
    journal: str
    quiet: float
    notes: str
    """The file of its reports."""
    withdrawals: int = 0
    """All that callers pay together."""
    share: int = 0
    """Which of the callers this one is."""
    shares: int = 1
    starts_at: float = 0.0
    """When the first call is due, on the machine's steady clock."""
    seconds: float = 0.0
    """Over which the calls are spread, from then on."""
    gives_up_at: float = 0.0
    """When it stops to call again."""
    descriptors: int = 0
    """The most it may open; 0: as many as usual."""


def policy(quiet: float) -> RetryPolicy:
    """Return how ours retry: as usual, but sooner."""
    return RetryPolicy(
        attempts=4,
        deadline=DEADLINE,
        attempt_timeout=1.0,
        wait_initial=0.02,
        wait_max=0.5,
        quiet=quiet,
        resend_within=3_600.0,
    )


def request_of(number: int) -> WithdrawalRequest:
    """Return the withdrawal of this number; AlphaPo refuses one in nineteen, of every caller."""
    return WithdrawalRequest(
        currency="NOCOIN" if number % 19 == 7 else "BTC",
        address=f"made-up-{number}",
        amount="0.001",
        foreign_id=f"chaos-{number}",
        end_user_reference=f"user-{number}",
    )


def _numbers(order: Order) -> list[int]:
    """Return what a caller pays: its share, and a fifth of another's, nearly in order."""
    everything, chance = range(order.withdrawals), random.Random(order.share)
    own = {number for number in everything if number % order.shares == order.share}
    both = {number for number in everything if number % 5 == 0 and (number + 1) % order.shares == order.share}
    return sorted(own | both, key=lambda number: (number // 50, chance.random()))


def read(notes: str) -> list[Report]:
    """Return all reports of a file; a kill may have cut a line."""
    reports, path = [], Path(notes)
    for line in path.read_bytes().splitlines() if path.exists() else ():
        with contextlib.suppress(msgspec.DecodeError):
            reports.append(msgspec.json.decode(line, type=Report))
    return reports


async def paced(numbers: Sequence[int], starts_at: float, seconds: float) -> AsyncIterator[int]:
    """Yield the numbers, spread over so many seconds; those that are overdue at once."""
    for index, number in enumerate(numbers):
        await asyncio.sleep(starts_at + seconds * index / len(numbers) - time.monotonic())
        yield number


def open_descriptors() -> int:
    """Return how many descriptors this process has open; 0 where the system does not show them."""
    shown = Path("/proc/self/fd")
    return len([*shown.iterdir()]) if shown.is_dir() else 0


class _Payer:
    """The calls of one client, and the file of its reports, which is open from the start."""

    def __init__(self, order: Order) -> None:
        self._order = order
        done = {one.foreign_id for one in read(order.notes) if one.kind == "result" and one.outcome in FINAL}
        self._numbers = _numbers(order)
        self._left = {number for number in self._numbers if request_of(number).foreign_id not in done}
        self._file = os.open(order.notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._turn = asyncio.Semaphore(_AT_ONCE)
        self._asked: dict[str, Report] = {}
        """Calls of which no result is noted yet, by foreign_id."""

    def note(self, name: str, *, number: int = 0, text: str = "", began: float = 0.0) -> None:
        """Note something that is not the result of a call."""
        self._write(Report(kind="event", name=name, number=number, text=text, began=began, ended=time.monotonic()))

    def _write(self, report: Report) -> None:
        os.write(self._file, msgspec.json.encode(report) + b"\n")

    async def run(self) -> None:
        """Do what is ordered, then close the client."""
        order, held = self._order, open_descriptors()
        client = AlphapoClient(
            KEY,
            SECRET,
            journal=order.journal,
            base_url=order.url,
            policy=policy(order.quiet),
            on_event=self._on_event,
            close_grace=CLOSE_GRACE,
        )
        verb = asyncio.ensure_future(getattr(self, f"_{order.verb}")(client))
        try:
            while not verb.done():
                held = max(held, open_descriptors())
                await asyncio.wait({verb}, timeout=0.5)
            await verb
        finally:
            began = time.monotonic()
            verb.cancel()
            await asyncio.gather(verb, return_exceptions=True)
            await client.aclose()
            self.note("closed", began=began)
            self.note("held", number=held)

    def _on_event(self, event: Event) -> None:
        if event.name == "task failed":
            self.note("ended", text=event.reason or "")
        elif event.name == MOVED_BACK:
            self.note(event.name)

    # ── verbs ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _work(self, client: AlphapoClient) -> None:
        while True:
            text = "work returned"
            try:
                await client.work()
            except Exception as error:  # noqa: BLE001 - the judge is shown it
                is_open = bool(client._engine.lease.worker)  # until then it may raise that the journal cannot be opened
                text = f"work raised {error!r}" if is_open or not isinstance(error, JournalError) else ""
            if text:
                self.note("ended", text=text)
            await asyncio.sleep(0.5)

    async def _withdraw(self, client: AlphapoClient) -> None:
        async with asyncio.TaskGroup() as tasks:
            async for request in self._requests():
                await self._turn.acquire()
                tasks.create_task(self._until_final(client, request))

    _enqueue = _withdraw

    async def _until_final(self, client: AlphapoClient, request: WithdrawalRequest) -> None:
        try:
            is_final = await self._call(client, request)
            while not is_final and time.monotonic() < self._order.gives_up_at:
                await asyncio.sleep(random.uniform(0.2, 0.6))
                is_final = await self._call(client, request)
        finally:
            self._turn.release()

    async def _call(self, client: AlphapoClient, request: WithdrawalRequest) -> bool:
        """Call once, note the answer, and return whether it is final."""
        self._ask(request)
        error: BaseException | None = None
        outcome, text = "enqueued", ""
        try:
            if self._order.verb == "enqueue":
                await client.enqueue(request)
            else:
                outcome, text = "accepted", str((await client.withdraw(request, deadline=DEADLINE)).id)
        except Exception as problem:  # noqa: BLE001 - the judge is shown it
            error = problem
        return self._answer(request, outcome, text, error)

    async def _batch(self, client: AlphapoClient) -> None:
        while self._left and time.monotonic() < self._order.gives_up_at:
            with contextlib.suppress(
                JournalError
            ):  # as it says: the rows that it has not returned may be asked for again
                async for result in client.batch(self._asked_for(), concurrency=_AT_ONCE):
                    text = "" if result.withdrawal is None else str(result.withdrawal.id)
                    self._answer(result.request, result.outcome, text, result.error)
            await asyncio.sleep(random.uniform(0.2, 0.6))

    async def _requests(self) -> AsyncIterator[WithdrawalRequest]:
        """Yield what is not final yet, each when it is due."""
        order = self._order
        async for number in paced(self._numbers, order.starts_at, order.seconds):
            if number in self._left:
                yield request_of(number)

    async def _asked_for(self) -> AsyncIterator[WithdrawalRequest]:
        async for request in self._requests():
            self._ask(request)
            yield request

    def _ask(self, request: WithdrawalRequest) -> None:
        asked = Report(
            kind="event",
            name="asked",
            number=next(_NUMBERS),
            foreign_id=request.foreign_id,
            began=time.monotonic(),
        )
        self._asked[request.foreign_id] = asked
        self._write(asked)

    def _answer(self, request: WithdrawalRequest, outcome: str, text: str, error: BaseException | None) -> bool:
        if error is not None:
            outcome = str(getattr(error, "outcome", "internal error"))
            text = str(error)
        if error is not None and not isinstance(error, AlphapoError):
            self.note("ended", text=f"{self._order.verb} raised {error!r}")
        asked = self._asked.pop(request.foreign_id)
        self._write(
            msgspec.structs.replace(
                asked,
                kind="result",
                name=self._order.verb,
                outcome=outcome,
                may_release=bool(getattr(error, "may_release_funds", False)),
                text=text,
                ended=time.monotonic(),
            )
        )
        is_final = outcome in FINAL
        if is_final:
            self._left.discard(int(request.foreign_id.rpartition("-")[2]))
        return is_final


async def _main(payer: _Payer) -> None:
    loop, running = asyncio.get_running_loop(), asyncio.ensure_future(payer.run())
    loop.add_signal_handler(signal.SIGTERM, running.cancel)
    loop.add_reader(0, running.cancel)  # nothing is ever written there: it ends with the process that started this one
    with contextlib.suppress(asyncio.CancelledError):
        await running
    loop.remove_reader(0)


def main() -> None:
    """Do what is ordered, and note the descriptors that are left."""
    logging.basicConfig(format="%(asctime)s %(levelname)s %(message)s")
    order = msgspec.json.decode(sys.argv[1], type=Order)
    payer = _Payer(order)
    if order.descriptors:
        resource.setrlimit(resource.RLIMIT_NOFILE, (order.descriptors, order.descriptors))
    before = open_descriptors()
    asyncio.run(_main(payer))
    payer.note("left", number=open_descriptors() - before)


if __name__ == "__main__":
    main()
