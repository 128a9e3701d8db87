"""Pay a file: run its rows through one batch, write each outcome into the results file, and stop in order when asked to."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from functools import partial
from itertools import takewhile
from typing import Any, Final, Literal, TypeAlias, cast

import msgspec
from rich.console import Console

from alphapo_async.cli.batch.files import FileChanged
from alphapo_async.cli.batch.index import Index
from alphapo_async.cli.batch.report import LISTED, BatchReport, OutcomeCounts, needs_person
from alphapo_async.cli.batch.results import COLUMNS, ResultsError, ResultsFile, cells_of
from alphapo_async.cli.batch.survey import Sifter, Survey
from alphapo_async.cli.exit_codes import Exit, explain, nothing_sent
from alphapo_async.cli.following import GIVE_UP_AFTER, Following, is_followed
from alphapo_async.cli.messages import row_fact
from alphapo_async.cli.options import Access
from alphapo_async.cli.output import counted, say
from alphapo_async.cli.progress import Advance, duration, show_progress
from alphapo_async.client import AlphapoClient
from alphapo_async.core.codec import decode_body, encode_body
from alphapo_async.core.errors import AlphapoError, AlphapoUnavailable, AuthenticationError, JournalError
from alphapo_async.core.events import Event
from alphapo_async.core.models import Totals, WithdrawalRequest
from alphapo_async.core.results import FlightResult, result_of, to_outcome
from alphapo_async.core.row import Row, own_transaction
from alphapo_async.journal import Journal

__all__ = ["BatchShutdown", "Job", "Orders", "pay_file"]

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)
_CONNECTIONS: Final = 100
_FAILURES: Final = (AuthenticationError, AlphapoUnavailable, JournalError, FileChanged)
_MINUTE: Final = 60.0
_IN_ONE_GO: Final = 100
"""Rows that are reported without being tried before other tasks get a turn."""
_OPEN_ENDED: Final = ("accepted", "unknown")
_NO_MORE_THAN: Final = "nothing more is sent, and requests under way get one minute"
_NOT_ACCEPTED: Final = "nothing accepts the connection (is the host right, and is it running?)"
_NO_ANSWER_YET: Final = "a request without an answer stays unknown until the same command looks it up"


class Orders(msgspec.Struct, frozen=True):
    """The settings of a run."""

    concurrency: int = 64
    retry_rejected: bool = False
    give_up_after: float | None = None
    """Seconds of an outage after which the run ends, and seconds for which rows are followed."""
    follow: bool = False
    """Look up what is accepted until it is final."""
    look_up_rate: float | None = None
    """Look-ups a second for that; None for as many as a worker makes."""
    client: dict[str, Any] = {}
    """More settings of the client."""


class Job(msgspec.Struct, frozen=True):
    """A file that has been surveyed."""

    name: str
    sifter: Sifter
    survey: Survey
    index: Index


class BatchShutdown:
    """Ends a batch early: Ctrl-C once or twice, SIGTERM, or an outage that lasts too long.

    Args:
        say: prints a sentence.
        host: AlphaPo's.
        give_up_after: seconds of an outage after which the batch ends; None for never.
        minute: seconds that requests under way get.
    """

    def __init__(
        self, say: Callable[[str], None], host: str, give_up_after: float | None, minute: float = _MINUTE
    ) -> None:
        self.stop = asyncio.Event()
        self.why: str | None = None
        self.say = say
        self._host = host
        self._is_to_be_told = False
        self._give_up_after = give_up_after
        self._minute = minute
        self._timer: asyncio.TimerHandle | None = None
        self._last: asyncio.TimerHandle | None = None
        self._client: AlphapoClient | None = None
        self._closing: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"BatchShutdown({self.why!r})"

    @property
    def is_at_once(self) -> bool:
        """Return whether requests under way are not waited for any more."""
        return self._closing is not None

    def hear(self, event: Event) -> None:
        """Follow outages: print the problem with the next attempt after one began, since that attempt has the reason."""
        if event.name == "attempt":
            self._hear_attempt(event.reason or "")
        elif event.name == "outage began":
            self._is_to_be_told = True
            if self._give_up_after is not None:
                self._timer = asyncio.get_running_loop().call_later(self._give_up_after, self._give_up)
        elif event.name == "outage ended":
            if not self._is_to_be_told:
                self.say(f"{self._host} answers again.")
            self._is_to_be_told = False
            self._forget_timer()

    def _hear_attempt(self, why: str) -> None:
        if self._is_to_be_told and why:
            self._is_to_be_told = False
            self.say(f"{_what_came(self._host, why)}. Sending nothing new, and probing until it answers.")

    def _give_up(self) -> None:
        why = f"AlphaPo has given no readable answer for {duration(self._give_up_after or 0)}"
        self.say(f"Giving up: {why}. {_NO_MORE_THAN[0].upper()}{_NO_MORE_THAN[1:]}.")
        self.end(why)

    def _forget_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def end(self, why: str) -> None:
        """Send nothing more, and end at once after a minute."""
        if self.why is None:
            self.why = why
            self.stop.set()
            sentence = f"The minute has passed: {_NO_ANSWER_YET}."
            self._last = asyncio.get_running_loop().call_later(self._minute, self._end_at_once, sentence)

    def _end_at_once(self, sentence: str) -> None:
        if self._closing is None and self._client is not None:
            self.say(sentence)
            self._closing = asyncio.ensure_future(self._client.aclose(grace=0))

    @contextlib.asynccontextmanager
    async def listening(self, client: AlphapoClient) -> AsyncIterator[None]:
        """End the batch on Ctrl-C and SIGTERM while the block runs: in order the first time, at once the second time."""
        self._client = client
        loop = asyncio.get_running_loop()
        for number in _SIGNALS:
            loop.add_signal_handler(number, self.interrupt)
        try:
            yield
        finally:
            for number in _SIGNALS:
                loop.remove_signal_handler(number)
            self._forget_timer()
            if self._last is not None:
                self._last.cancel()
            if self._closing is not None:
                await self._closing

    def interrupt(self) -> None:
        """Let requests under way end the first time; end at once the second time."""
        if self.why is None:
            self.say(f"Stopping: {_NO_MORE_THAN}. Ctrl-C again stops at once.")
            self.end("it was interrupted")
        else:
            self._end_at_once(f"Stopping at once: {_NO_ANSWER_YET}.")


def _what_came(host: str, why: str) -> str:
    """Return why AlphaPo gives no readable answer."""
    if why.startswith("no connection"):
        return f"{host} cannot be reached: {why.partition(': ')[2] or _NOT_ACCEPTED}"
    return f"{host} gives no readable answer: {why}"


class _Book:
    """Counts outcomes, and writes them as long as the results file can be written."""

    def __init__(self, results: ResultsFile, ending: BatchShutdown, advance: Advance) -> None:
        self.tally = OutcomeCounts()
        self.repeated = 0
        self.results_missing = 0
        self.not_final = 0
        self.paid_before = 0
        """Accepted rows that the journal had before this run."""
        self.found_at_alphapo = 0
        """Accepted rows that AlphaPo had, although no attempt recorded in the journal can have arrived."""
        self.attention: list[str] = []
        self.to_attend = 0
        """The first rows that were refused, failed, invalid or conflicting, as they are listed."""
        self.failure: ResultsError | None = None
        self.reached = 0
        """The last line with an outcome; every row before it has one, too, or repeats a row that has."""
        self._results = results
        self._ending = ending
        self._advance = advance

    def tell(
        self,
        outcome: str,
        cells: list[str],
        request: WithdrawalRequest | None,
        fact: str | None = None,
        *,
        is_sent: bool = False,
    ) -> None:
        """Count and write the outcome of a row; a list of rows that need attention has the fact: what to do stands below it."""
        self.reached = max(self.reached, int(cells[_LINE]))
        self.tally.add(outcome, request)
        why = cells[_ERROR] if fact is None else fact
        if needs_person(outcome, why):
            self.to_attend += 1
            named = f"line {cells[_LINE]}, {cells[0] or 'no foreign_id'}: {outcome}"
            self.attention += [f"{named}: {why}" if why else named] if len(self.attention) < LISTED else []
        self._write(cells, is_sent=is_sent)

    def tell_same(self, cells: list[str]) -> None:
        """Write the outcome of an earlier row with the same payment."""
        self.repeated += 1
        self._write(cells, is_sent=False)

    def write_not_tried(self, cells: list[str]) -> None:
        """Write that a row was not reached."""
        self._try(lambda: self._results.write(cells))

    def _write(self, cells: list[str], *, is_sent: bool) -> None:
        self._advance(cells[1], is_sent=is_sent)
        self._try(lambda: self._results.write(cells))
        self.results_missing += self.failure is not None

    def finish(self) -> None:
        """Flush the results to the disk."""
        self._try(self._results.finish)

    def _try(self, use: Callable[[], None]) -> None:
        """Use the file; after the first failure, end the batch and use it no more."""
        if self.failure is None:
            try:
                use()
            except ResultsError as error:
                self.failure = error
                self._ending.end(str(error))


async def pay_file(
    job: Job,
    *,
    results: ResultsFile,
    access: Access,
    journal: Journal,
    console: Console,
    orders: Orders,
) -> tuple[BatchReport, AlphapoError | None]:
    """Pay the file; return the report, and the error that ended the run early, None if none did.

    Args:
        job: the file.
        results: the file for outcomes; overwritten only after the journal has taken the account.
        access: which AlphaPo, as whom.
        journal: of this run.
        console: shows the progress.
        orders: the settings of the run.
    """
    began = time.monotonic()
    ending = BatchShutdown(partial(say, console), access.host, orders.give_up_after)
    async with contextlib.AsyncExitStack() as stack:
        with nothing_sent():
            client = await stack.enter_async_context(access.open_client(journal, **_settings(orders, ending)))
            await stack.enter_async_context(ending.listening(client))
        results.begin()
        following = stack.enter_context(
            contextlib.closing(Following(client, journal, access.account, ending.stop, **_following(orders)))
        )
        async with show_progress(console, job.survey.rows, is_stopping=ending.stop.is_set) as advance:
            book = _Book(results, ending, advance)
            running = _Run(job, book, orders, ending, client=client, following=following)
            failure = await running.finish(partial(journal.find, access.account)) or book.failure
    journaled = await _totals(journal, access.account)
    seconds = time.monotonic() - began
    return _report(job, book, failure, ending.why, journal=journaled, seconds=seconds), failure


class _Run:
    """One run over the rows of a file: they are paid, and then followed where that is wanted."""

    def __init__(
        self,
        job: Job,
        book: _Book,
        orders: Orders,
        ending: BatchShutdown,
        *,
        client: AlphapoClient,
        following: Following,
    ) -> None:
        self._job = job
        self._book = book
        self._orders = orders
        self._ending = ending
        self._client = client
        self._following = following

    async def finish(self, find: Callable[[str], Awaitable[Row | None]]) -> AlphapoError | None:
        """Give every row its outcome; return the error that ended the run early, None if none did.

        Args:
            find: returns the journal's row of a foreign_id.
        """
        failure: AlphapoError | None = None
        try:
            await self._pay(find)
            if self._following:
                await self._follow()
        except _FAILURES as error:
            failure = cast("AlphapoError", error)
        self._tell_rest()
        await _each(self._job.sifter.same_again(), self._book.tell_same)
        if failure is not None or self._ending.why is not None:
            await self._write_not_tried()
        self._book.finish()
        return failure

    async def _write_not_tried(self) -> None:
        """Write a line for each row that the run did not reach; a second Ctrl-C ends that, too."""
        with contextlib.suppress(FileChanged):  # which rows it had is no longer known
            left = self._job.sifter.not_tried(self._book.reached)
            await _each(takewhile(lambda _: not self._ending.is_at_once, left), self._book.write_not_tried)

    async def _pay(self, find: Callable[[str], Awaitable[Row | None]]) -> None:
        rows, orders = self._job.sifter.to_pay(self._book.tell), self._orders
        paying = self._client.batch(
            rows, concurrency=orders.concurrency, resend_rejected=orders.retry_rejected, stop=self._ending.stop
        )
        async with contextlib.aclosing(paying):
            async for result in paying:
                source = None if result.withdrawal is None else result.withdrawal.source
                is_looked_up = source == "look-up"
                has_ended = result.outcome == "failed" or (result.withdrawal is not None and result.withdrawal.is_final)
                row = await _read(find, result.request.foreign_id) if has_ended or is_looked_up else None
                was_found = is_looked_up and row is not None and not row.arrivals
                origin: _Origin = "journal" if source == "journal" else "AlphaPo" if was_found else "run"
                line = self._job.index.line_of(result.request.foreign_id)
                shown = None if row is None else own_transaction(row)
                cells = cells_of(result, line, shown, is_stopped=self._ending.why is not None)
                if orders.follow and (result.outcome in _OPEN_ENDED if row is None else is_followed(row)):
                    self._following.add(result.request.foreign_id, _kept(result.outcome, cells, result.request, origin))
                else:
                    self._tell(result.outcome, cells, result.request, origin, row_fact(result.error))

    async def _follow(self) -> None:
        """Look up what is not final, and report each row once nothing more is to be found out about it."""
        limit = duration(self._orders.give_up_after or GIVE_UP_AFTER)
        self._ending.say(
            f"Following {counted(len(self._following), 'row')} until final, for {limit} at most. Ctrl-C ends it."
        )
        async with contextlib.aclosing(self._following.rows()) as found:
            async for row, _, is_done, kept in found:
                _, cells, request, origin = _read_kept(kept)
                result = result_of(0, request, to_outcome(FlightResult(row.foreign_id, row, is_from_journal=True)))
                cells = cells_of(result, int(cells[_LINE]), own_transaction(row))
                if is_done:
                    self._tell(result.outcome, cells, request, origin, row_fact(result.error))
                else:
                    self._following.keep(row.foreign_id, _kept(result.outcome, cells, request, origin))

    def _tell_rest(self) -> None:
        """Report what is still followed as it was last seen."""
        for _, kept in self._following.left():
            outcome, cells, request, origin = _read_kept(kept)
            self._book.not_final += outcome == "accepted"
            self._tell(outcome, cells, request, origin)

    def _tell(
        self, outcome: str, cells: list[str], request: WithdrawalRequest, origin: _Origin, fact: str | None = None
    ) -> None:
        # Counted here, with the row's last outcome: a row that the journal had as accepted may have failed since.
        self._book.paid_before += outcome == "accepted" and origin == "journal"
        self._book.found_at_alphapo += outcome == "accepted" and origin == "AlphaPo"
        self._book.tell(outcome, cells, request, fact, is_sent=origin == "run" and outcome != "not_sent")
        if self._job.survey.repeated:
            self._job.index.tell(cells[0], cells)


async def _read(find: Callable[[str], Awaitable[Row | None]], foreign_id: str) -> Row | None:
    """Return the journal's row; None where it cannot be read: the results of the rows under way are still to come."""
    try:
        return await find(foreign_id)
    except JournalError:
        return None


async def _each(lines: Iterable[list[str]], report: Callable[[list[str]], None]) -> None:
    """Report the lines, and give other tasks and signals a turn now and then."""
    for place, cells in enumerate(lines):
        report(cells)
        if place % _IN_ONE_GO == 0:
            await asyncio.sleep(0)


_LINE: Final = COLUMNS.index("line")
_ERROR: Final = COLUMNS.index("error")


_Origin: TypeAlias = Literal["run", "journal", "AlphaPo"]
"""Where an acceptance comes from: this run, or the journal or AlphaPo, which had it before the run."""


def _kept(outcome: str, cells: list[str], request: WithdrawalRequest, origin: _Origin) -> bytes:
    """Return what is needed to report a row later."""
    return msgspec.msgpack.encode((outcome, cells, encode_body(request, "string"), origin))


def _read_kept(kept: bytes) -> tuple[str, list[str], WithdrawalRequest, _Origin]:
    outcome, cells, body, origin = msgspec.msgpack.decode(kept)
    return outcome, cells, decode_body(body), origin


def _report(
    job: Job,
    book: _Book,
    failure: AlphapoError | None,
    why: str | None,
    *,
    journal: dict[str, Totals],
    seconds: float,
) -> BatchReport:
    rest = job.survey.rows - book.tally.outcomes.total() - book.repeated
    report = BatchReport(
        file=job.name,
        survey=job.survey,
        outcomes=book.tally.outcomes,
        repeated=book.repeated,
        totals=book.tally.totals(job.survey.requested, is_complete=not rest),
        journal=journal,
        seconds=seconds,
        ended_early=why if failure is None else str(failure),
        results_missing=book.results_missing,
        not_final=book.not_final,
        paid_before=book.paid_before,
        found_at_alphapo=book.found_at_alphapo,
        attention=tuple(book.attention),
        to_attend=book.to_attend,
        failed=None if failure is None else explain(failure)[1],
    )
    is_settled = report.code in (Exit.ALL_ACCEPTED, Exit.REFUSED)
    return msgspec.structs.replace(report, ended_early=None) if is_settled else report


def _following(orders: Orders) -> dict[str, Any]:
    return {"rate": orders.look_up_rate, "give_up_after": orders.give_up_after}


def _settings(orders: Orders, ending: BatchShutdown) -> dict[str, Any]:
    return {"on_event": ending.hear, "max_connections": max(_CONNECTIONS, orders.concurrency), **orders.client}


async def _totals(journal: Journal, account: str) -> dict[str, Totals]:
    try:
        return await journal.totals(account)
    except JournalError:
        return {}
