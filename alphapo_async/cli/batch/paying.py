"""Paying a file: its rows through one batch, each outcome into the results file, and an orderly end whatever comes between."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Callable
from functools import partial
from typing import Any, Final, cast

import msgspec
from rich.console import Console

from alphapo_async.cli.batch.files import FileChanged
from alphapo_async.cli.batch.index import Index
from alphapo_async.cli.batch.report import Report, Tally
from alphapo_async.cli.batch.results import ResultsError, ResultsFile, cells_of
from alphapo_async.cli.batch.sifting import Sifter, Survey
from alphapo_async.cli.options import Access
from alphapo_async.cli.progress import duration, show_progress
from alphapo_async.cli.showing import say
from alphapo_async.client import AlphapoClient
from alphapo_async.core.errors import AlphapoError, AuthenticationError, JournalError
from alphapo_async.core.events import Event
from alphapo_async.core.models import Totals, WithdrawalRequest
from alphapo_async.journal import Journal

__all__ = ["Ending", "Job", "Orders", "pay_file"]

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_CONNECTIONS: Final = 100
_FAILURES: Final = (AuthenticationError, JournalError, FileChanged, ResultsError)


class Orders(msgspec.Struct, frozen=True):
    """How a file is to be paid."""

    concurrency: int = 64
    retry_rejected: bool = False
    give_up_after: float | None = None
    """Seconds of an outage after which nothing more is waited for."""
    client: dict[str, Any] = {}
    """Further settings of the client."""


class Job(msgspec.Struct, frozen=True):
    """A file that has been surveyed."""

    name: str
    sifter: Sifter
    survey: Survey
    index: Index


class Ending:
    """What ends a batch before its rows do: a person, once or twice, or an outage that lasts too long.

    Args:
        say: tells a person.
        give_up_after: seconds of an outage.
    """

    def __init__(self, say: Callable[[str], None], give_up_after: float | None) -> None:
        self.stop = asyncio.Event()
        self.why: str | None = None
        self._say = say
        self._give_up_after = give_up_after
        self._timer: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"Ending({self.why!r})"

    def hear(self, event: Event) -> None:
        """Take note of an outage."""
        if event.name == "outage began":
            self._say("AlphaPo gives no readable answer: sending nothing new, and probing until it does.")
            if self._give_up_after is not None:
                self._timer = asyncio.get_running_loop().call_later(self._give_up_after, self._give_up)
        elif event.name == "outage ended":
            self._say("AlphaPo answers again.")
            self._forget_timer()

    def _give_up(self) -> None:
        self._end(f"AlphaPo has given no readable answer for {duration(self._give_up_after or 0)}")

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _end(self, why: str) -> None:
        self.why = self.why or why
        self.stop.set()

    @contextlib.asynccontextmanager
    async def listening(self, client: AlphapoClient) -> AsyncIterator[None]:
        """Have Ctrl-C and SIGTERM end the batch while the block runs: once in order, twice at once."""
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self.interrupt, client)
        try:
            yield
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)
            self._forget_timer()
            if self._closing is not None:
                await self._closing

    def interrupt(self, client: AlphapoClient) -> None:
        """The first time let what is under way end, the second time end at once."""
        if self.why is None:
            self._say("Stopping: what is under way gets a minute to end. Ctrl-C again stops at once.")
            self._end("it was interrupted")
        elif self._closing is None:
            self._say("Stopping at once: what is under way stays in the journal as unknown.")
            self._closing = asyncio.ensure_future(client.aclose(0))


async def pay_file(
    job: Job, *, results: ResultsFile, access: Access, journal: Journal, console: Console, orders: Orders
) -> tuple[Report, AlphapoError | None]:
    """Pay what is to be paid, and return what became of it, and what ended it before its end."""
    tally, began, same = Tally(), time.monotonic(), 0
    ending, failure = Ending(partial(say, console), orders.give_up_after), None
    async with (
        access.open_client(journal, **_settings(orders, ending)) as client,
        ending.listening(client),
        show_progress(console, job.survey.rows) as advance,
    ):

        def tell(outcome: str, cells: list[str], request: WithdrawalRequest | None) -> None:
            results.write(cells)
            tally.add(outcome, request)
            advance(outcome)

        rows = job.sifter.to_pay(tell)
        paying = client.batch(rows, orders.concurrency, resend_rejected=orders.retry_rejected, stop=ending.stop)
        try:
            async with contextlib.aclosing(paying):
                async for result in paying:
                    cells = cells_of(result)
                    tell(result.outcome, cells, result.request)
                    if job.survey.same:
                        job.index.tell(result.request.foreign_id, cells)
            for cells in job.sifter.same_again():
                results.write(cells)
                advance(cells[1])
                same += 1
            results.finish()
        except _FAILURES as error:
            failure = cast("AlphapoError", error)
    rest = job.survey.rows - tally.outcomes.total() - same
    report = Report(
        file=job.name,
        survey=job.survey,
        outcomes=tally.outcomes,
        same=same,
        totals=tally.totals(job.survey.requested, is_complete=not rest),
        journal=await _totals(journal, access.account),
        seconds=time.monotonic() - began,
        cut_short=(_why(failure) or ending.why) if rest else None,
    )
    return report, failure


def _settings(orders: Orders, ending: Ending) -> dict[str, Any]:
    return {"on_event": ending.hear, "max_connections": max(_CONNECTIONS, orders.concurrency), **orders.client}


def _why(failure: AlphapoError | None) -> str | None:
    return None if failure is None else str(failure)


async def _totals(journal: Journal, account: str) -> dict[str, Totals]:
    try:
        return await journal.totals(account)
    except JournalError:
        return {}
