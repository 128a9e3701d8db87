"""Paying a file, and every way in which that ends."""

from __future__ import annotations

import asyncio
import csv
import io
import os
import signal
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from alphapo_async.cli.batch.files import FileChanged, InputFile, read_lines
from alphapo_async.cli.batch.report import BatchReport, paid_before_lines
from alphapo_async.cli.batch.results import ResultsError, ResultsFile
from alphapo_async.cli.batch.run import BatchShutdown, Job, Orders, pay_file
from alphapo_async.cli.batch.survey import Sifter
from alphapo_async.cli.exit_codes import Exit
from alphapo_async.cli.options import Access
from alphapo_async.core.errors import (
    AlphapoError,
    AlphapoUnavailable,
    AuthenticationError,
    ConfigurationError,
    JournalError,
)
from alphapo_async.core.events import Event, EventName
from alphapo_async.core.models import Totals
from alphapo_async.core.retry_policy import RetryPolicy
from alphapo_async.core.row import Row
from alphapo_async.engine.clock import COMMIT_GRACE
from alphapo_async.journal import Journal
from alphapo_async.journal.sqlite.journal import SqliteJournal
from alphapo_async.sandbox import Dialect, Fault, OutagePlan, Sandbox, Script
from alphapo_async.sandbox.records import MAGIC_CANCELLED
from tests.support.indexes import new_index
from tests.support.wire import Durable

KEY, SECRET = "made-up-key", "made-up-secret"
HOST = "http://127.0.0.1:9"
HEADER = "foreign_id,currency,address,amount,end_user_reference\n"


def rows(number: int) -> str:
    """Return a file of so many payments."""
    return HEADER + "".join(f"p-{one},BTC,made-up-{one},0.5,user\n" for one in range(number))


class Desk:
    """A folder with a file, and what is needed to pay it."""

    def __init__(self, folder: Path, text: str) -> None:
        self.folder = folder
        self.path = folder / "payouts.csv"
        self.path.write_text(text, encoding="utf-8")
        self.results = folder / "results.csv"
        self.said = io.StringIO()
        self.job: Job

    async def pay(
        self,
        url: str,
        *,
        secret: str = SECRET,
        journal: Journal | None = None,
        kind: type[ResultsFile] = ResultsFile,
        **orders: Any,
    ) -> tuple[BatchReport, AlphapoError | None]:
        """Pay the file as the command does."""
        index, source = new_index(), InputFile(self.path, read_lines)
        sifter = Sifter(source, index, "number")
        self.job = Job("payouts.csv", sifter, sifter.survey(lambda _: None), index)
        access = Access({"ALPHAPO_KEY": KEY, "ALPHAPO_SECRET": secret}, base_url=url)
        opened = journal or SqliteJournal(self.folder / "journal.db")
        try:
            with kind(self.results, index.knows) as results:
                return await pay_file(
                    self.job,
                    results=results,
                    access=access,
                    journal=opened,
                    console=Console(file=self.said, width=200),
                    orders=Orders(**orders),
                )
        finally:
            await opened.aclose()
            index.close()

    def outcomes(self) -> Counter[str]:
        """Return how many lines of the results file have which outcome."""
        with self.results.open(encoding="utf-8", newline="") as file:
            return Counter(line["outcome"] for line in csv.DictReader(file))


async def test_every_row_has_one_line_and_every_payment_is_made_once(tmp_path: Path) -> None:
    """Those that say the same again, contradict an earlier row or are wrong included."""
    wrong = "p-1,BTC,made-up-1,0.50,user\np-2,BTC,made-up-2,9,user\n,BTC,x,1,user\nr,BTC,unsupported,1,user\n"
    desk = Desk(tmp_path, rows(30) + wrong)
    async with Sandbox(KEY, SECRET) as sandbox:
        report, failure = await desk.pay(sandbox.url)
        assert len(sandbox.ledger.all_accepted()) == 30
    assert failure is None
    assert desk.outcomes() == {"accepted": 31, "conflict": 1, "invalid": 1, "rejected": 1}
    assert report.outcomes == {"accepted": 30, "conflict": 1, "invalid": 1, "rejected": 1}
    assert (report.repeated, report.not_taken, report.totals_reconcile, report.code) == (1, 0, True, Exit.REFUSED)
    assert report.journal["BTC"].accepted == report.totals["BTC"].accepted == 15


async def test_the_same_again_pays_nothing_again_and_writes_the_same_results(tmp_path: Path) -> None:
    """What is settled is read from the journal."""
    desk = Desk(tmp_path, rows(20))
    async with Sandbox(KEY, SECRET) as sandbox:
        await desk.pay(sandbox.url)
        first = desk.results.read_text(encoding="utf-8")
        posts = sandbox.ledger.posts
        report, _ = await desk.pay(sandbox.url)
        assert sandbox.ledger.posts == posts
    assert report.code is Exit.ALL_ACCEPTED
    assert sorted(desk.results.read_text(encoding="utf-8").splitlines()) == sorted(first.splitlines())


async def test_what_was_rejected_is_sent_again_if_that_is_asked_for(tmp_path: Path) -> None:
    """And only then."""
    desk = Desk(tmp_path, HEADER + "r,BTC,unsupported,1,user\n")
    async with Sandbox(KEY, SECRET) as sandbox:
        posts = []
        for again in (False, False, True):
            await asyncio.sleep(COMMIT_GRACE)  # a "no" that is younger than that answers whoever asks
            await desk.pay(sandbox.url, retry_rejected=again)
            posts.append(sandbox.ledger.posts)
    assert posts == [1, 1, 2]


async def test_a_refused_key_ends_it_and_leaves_the_rest_untried(tmp_path: Path) -> None:
    """Which is said."""
    desk = Desk(tmp_path, rows(500))
    async with Sandbox(KEY, SECRET) as sandbox:
        report, failure = await desk.pay(sandbox.url, secret="another", concurrency=4)
    assert isinstance(failure, AuthenticationError)
    assert report.not_taken > 400
    assert "bad_header_signature" in (report.ended_early or "")
    assert report.totals_reconcile
    assert report.code is Exit.KEY_REFUSED
    assert desk.outcomes() == {**report.outcomes, "not_tried": report.not_taken}


class Full(ResultsFile):
    """A results file on a disk that is full after a few lines."""

    lines = 0

    def write(self, cells: Sequence[str]) -> None:
        """Write a line, or fail."""
        if self.lines == 4:
            raise ResultsError("its disk is full")
        self.lines += 1
        super().write(cells)


async def test_results_that_cannot_be_written_end_it(tmp_path: Path) -> None:
    """Nothing more is taken; what was sent is in the journal."""
    desk = Desk(tmp_path, rows(500))
    async with Sandbox(KEY, SECRET) as sandbox:
        report, failure = await desk.pay(sandbox.url, kind=Full, concurrency=4)
        assert len(sandbox.ledger.all_accepted()) < 50
        accepted = len(sandbox.ledger.all_accepted())
    assert isinstance(failure, ResultsError)
    assert desk.outcomes() == {"accepted": 4}
    assert report.ended_early == "its disk is full"
    assert report.outcomes["accepted"] == accepted
    assert accepted <= 4 + report.results_missing  # rows that were taken and not sent have no line either
    assert (report.totals_reconcile, report.code) == (True, Exit.UNKNOWN)


class NeverOnDisk(ResultsFile):
    """A results file whose last lines do not reach the disk."""

    def finish(self) -> None:
        """Fail."""
        raise ResultsError("its disk has failed")


async def test_results_that_do_not_reach_the_disk_are_told(tmp_path: Path) -> None:
    """All of them were paid, and the next run writes them again."""
    desk = Desk(tmp_path, rows(3))
    async with Sandbox(KEY, SECRET) as sandbox:
        report, failure = await desk.pay(sandbox.url, kind=NeverOnDisk)
    assert isinstance(failure, ResultsError)
    assert (report.outcomes, report.results_missing, report.code) == ({"accepted": 3}, 0, Exit.UNKNOWN)


async def test_what_is_told_without_being_tried_is_counted_too_where_it_cannot_be_written(tmp_path: Path) -> None:
    """Wrong rows, and those that say the same again."""
    wrong = "p-1,BTC,made-up-1,0.5,user\n" * 150 + "w,BTC,made-up,-1,user\n" * 50
    desk = Desk(tmp_path, rows(2) + wrong)
    async with Sandbox(KEY, SECRET) as sandbox:
        report, _ = await desk.pay(sandbox.url, kind=Full)
    assert report.outcomes.total() + report.repeated + report.not_taken == 202
    assert report.results_missing == report.outcomes.total() + report.repeated - 4


async def test_nothing_is_written_over_before_the_journal_has_taken_the_account(tmp_path: Path) -> None:
    """The results of the run before stay as they are."""
    desk = Desk(tmp_path, rows(3))
    journal = SqliteJournal(tmp_path / "journal.db")
    await journal.join("default", "app.alphapo.net", "worker", 0.0)
    await journal.aclose()
    desk.results.write_text(
        "foreign_id,outcome,id,status,error,line,txids,fees\np-1,accepted,7,,,2,,\n", encoding="utf-8"
    )
    before = desk.results.read_bytes()
    async with Sandbox(KEY, SECRET) as sandbox:
        with pytest.raises(ConfigurationError, match=r"belongs to 'app\.alphapo\.net'"):
            await desk.pay(sandbox.url)
        assert desk.results.read_bytes() == before
        await desk.pay(sandbox.url, journal=SqliteJournal(tmp_path / "another.db"))
    assert desk.outcomes() == {"accepted": 3}


class Spoiling(ResultsFile):
    """A results file whose owner changes the input as soon as the first rows are paid."""

    lines = 0

    def write(self, cells: Sequence[str]) -> None:
        """Write a line, and spoil the file."""
        super().write(cells)
        self.lines += 1
        if self.lines == 5:
            (Path(self._path).parent / "payouts.csv").write_text(rows(7), encoding="utf-8")


async def test_a_file_that_changes_meanwhile_ends_it(tmp_path: Path) -> None:
    """What was taken has its result."""
    desk = Desk(tmp_path, rows(5_000))
    async with Sandbox(KEY, SECRET) as sandbox:
        report, failure = await desk.pay(sandbox.url, kind=Spoiling, concurrency=4)
    assert isinstance(failure, FileChanged)
    assert report.code is Exit.WRONG
    assert desk.outcomes() == report.outcomes
    assert report.not_taken > 3_000


class Redactable(Durable):
    """A journal that cannot be read for its totals."""

    async def totals(self, account: str) -> dict[str, Totals]:
        raise JournalError("it is gone.")


async def test_a_report_comes_also_where_the_journal_cannot_be_asked(tmp_path: Path) -> None:
    """Of the file alone."""
    desk = Desk(tmp_path, rows(3))
    async with Sandbox(KEY, SECRET) as sandbox:
        report, _ = await desk.pay(sandbox.url, journal=Redactable())
    assert (report.journal, report.outcomes) == ({}, {"accepted": 3})


async def interrupt(number: int, *pauses: float) -> float:
    """Send a signal after each pause, the first one once the batch handles it; return when the last one was sent."""
    before = signal.getsignal(number)
    while signal.getsignal(number) is before:  # noqa: ASYNC110 - the batch reports this nowhere
        await asyncio.sleep(0.01)
    for pause in pauses:
        await asyncio.sleep(pause)
        os.kill(os.getpid(), number)
    return asyncio.get_running_loop().time()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_ends_it_in_order(tmp_path: Path, number: int) -> None:
    """What is under way ends with its result, the rest is left for the next run."""
    desk = Desk(tmp_path, rows(400))
    async with Sandbox(KEY, SECRET, latency=0.05) as sandbox:
        interrupting = asyncio.ensure_future(interrupt(number, 0.5))
        report, failure = await desk.pay(sandbox.url, concurrency=4)
        await interrupting
        assert failure is None
        assert 0 < report.outcomes["accepted"] == len(sandbox.ledger.all_accepted()) < 400
        assert set(report.outcomes) <= {"accepted", "not_sent"}
        assert report.ended_early == "it was interrupted"
        assert report.code is Exit.UNKNOWN
        assert "Stopping: nothing more is sent" in desk.said.getvalue()
        await asyncio.sleep(COMMIT_GRACE)
        report, _ = await desk.pay(sandbox.url)
        assert report.outcomes == {"accepted": 400}
        assert sandbox.ledger.posts == 400


async def test_rows_that_have_not_left_end_with_the_first_signal(tmp_path: Path) -> None:
    """However slow the rate at which they would have left; the next run pays them."""
    desk = Desk(tmp_path, rows(60))
    async with Sandbox(KEY, SECRET) as sandbox:
        loop = asyncio.get_running_loop()

        async def interrupt() -> float:
            while not sandbox.ledger.posts:  # noqa: ASYNC110 - the sandbox tells nobody
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.3)
            os.kill(os.getpid(), signal.SIGINT)
            return loop.time()

        interrupting = asyncio.ensure_future(interrupt())
        report, _ = await desk.pay(sandbox.url, concurrency=20, client={"max_rate": 0.5})
        assert loop.time() - await interrupting < 1.0
        left = report.outcomes["not_sent"]
        assert left in (19, 20)  # whether a row has come in the place of the first by then
        assert report.outcomes == {"accepted": 1, "not_sent": left}
        assert desk.outcomes() == {**report.outcomes, "not_tried": 59 - left}
        errors = Counter(line["error"].partition(".")[0] for line in lines(desk).values())
        stopped, not_tried = "Stopped before it was sent", "Not tried: the run ended before this row"
        assert errors == {"": 1, stopped: left, not_tried: 59 - left}
        assert sandbox.ledger.posts == 1
        assert report.journal["BTC"].not_sent == left / 2
        assert (report.totals_reconcile, report.code, report.ended_early) == (True, Exit.UNKNOWN, "it was interrupted")
        await asyncio.sleep(COMMIT_GRACE)
        report, _ = await desk.pay(sandbox.url)
        assert report.outcomes == {"accepted": 60}
        assert sandbox.ledger.posts == 60


async def test_each_row_has_one_line_where_the_run_ends_early(tmp_path: Path) -> None:
    """Also a row that repeats an earlier one, and one that is invalid: with its result, or not tried."""
    more = "p-0,BTC,made-up-0,0.5,user\np-39,BTC,made-up-39,0.5,user\nw,BTC,made-up,-1,user\n"
    desk = Desk(tmp_path, rows(40) + more)
    plan = OutagePlan(0.0, 1e9, mode="503")
    async with Sandbox(KEY, SECRET, faults=plan) as sandbox:
        client = {"policy": RetryPolicy(deadline=3.0)}
        report, _ = await desk.pay(sandbox.url, concurrency=4, give_up_after=0.3, client=client)
    with desk.results.open(encoding="utf-8", newline="") as file:
        found = sorted(int(line["line"]) for line in csv.DictReader(file))
    assert found == list(range(2, 45))
    assert report.not_taken == desk.outcomes()["not_tried"] > 0


async def test_a_second_signal_ends_it_at_once(tmp_path: Path) -> None:
    """What is under way is unknown, and the next run finds out."""
    desk = Desk(tmp_path, rows(100))
    async with Sandbox(KEY, SECRET, latency=2.0) as sandbox:
        interrupting = asyncio.ensure_future(interrupt(signal.SIGINT, 0.5, 0.1))
        report, failure = await desk.pay(sandbox.url, concurrency=8)
        assert asyncio.get_running_loop().time() - await interrupting < 1.3
        assert failure is None
        assert report.outcomes == {"unknown": 8}
        assert desk.outcomes()["unknown"] == 8
        assert report.totals_reconcile
        await sandbox.drain()
        sandbox.latency = 0.0
        report, _ = await desk.pay(sandbox.url)
        assert report.outcomes == {"accepted": 100}
        assert not sandbox.ledger.paid_more_than_once()


async def test_an_outage_is_given_up_after_the_time_that_was_said(tmp_path: Path) -> None:
    """Rows that were kept by it are not sent, or unknown; the next run goes on."""
    desk = Desk(tmp_path, rows(200))
    async with Sandbox(KEY, SECRET, faults=OutagePlan(0.0, 1e9, mode="503")) as sandbox:
        client = {"policy": RetryPolicy(deadline=3.0)}
        report, failure = await desk.pay(sandbox.url, concurrency=30, give_up_after=1.0, client=client)
        assert failure is None
        assert report.ended_early == "AlphaPo has given no readable answer for 1 s"
        assert "Giving up: AlphaPo has given no readable answer for 1 s. Nothing more is sent" in desk.said.getvalue()
        assert report.code is Exit.UNKNOWN
        assert set(report.outcomes) == {"unknown"}
        sandbox.faults = "none"
        report, _ = await desk.pay(sandbox.url)
        assert report.outcomes == {"accepted": 200}


class Closing:
    """A client that takes a while to close."""

    def __init__(self) -> None:
        self.graces: list[float] = []

    async def aclose(self, grace: float) -> None:
        """Close, slowly."""
        self.graces.append(grace)
        await asyncio.sleep(0.01)


async def test_what_is_under_way_gets_a_minute_and_no_more() -> None:
    """Then it ends as if somebody had stopped it at once; a batch that ends in time closes nobody."""
    for seconds in (0.2, 0.0):
        said: list[str] = []
        ending, client = BatchShutdown(said.append, HOST, None, minute=0.05), Closing()
        async with ending.listening(client):  # type: ignore[arg-type]
            ending.end("it was told to")
            ending.end("it was told again")
            await asyncio.sleep(seconds)
        assert ending.why == "it was told to"
        assert client.graces == ([0] if seconds else [])
        assert len(said) == bool(seconds)
        await asyncio.sleep(0.1)
        assert len(said) == bool(seconds)


async def test_an_end_without_a_client_closes_nothing() -> None:
    """There is nothing yet that could be under way."""
    said: list[str] = []
    ending = BatchShutdown(said.append, HOST, None, minute=0.01)
    ending.end("it was told to")
    await asyncio.sleep(0.05)
    assert said == []


async def test_whoever_interrupts_again_and_again_closes_it_once() -> None:
    """The first time in order, the second time at once, and then never mind."""
    said: list[str] = []
    ending, client = BatchShutdown(said.append, HOST, None), Closing()
    async with ending.listening(client):  # type: ignore[arg-type]
        for _ in range(4):
            ending.interrupt()
    assert client.graces == [0]
    assert len(said) == 2
    assert "get one minute" in said[0]
    assert ending.stop.is_set()


def event(name: EventName, reason: str | None = None) -> Event:
    """Return an event of this name."""
    return Event(name=name, at=1.0, account="default", reason=reason)


@pytest.mark.parametrize(
    ("reasons", "words"),
    [
        ((None, "HTTP 502", "no connection"), f"{HOST} gives no readable answer: HTTP 502."),
        (
            ("no connection",),
            f"{HOST} cannot be reached: nothing accepts the connection (is the host right, and is it running?).",
        ),
        (
            ("no connection: name not found",),
            f"{HOST} cannot be reached: name not found.",
        ),
    ],
)
def test_an_outage_is_told_with_the_host_and_what_came_instead(reasons: tuple[str | None, ...], words: str) -> None:
    """Whoever mistyped the host sees it. What came earlier is no reason, and an outage that ends before a word is not told."""
    said: list[str] = []
    ending = BatchShutdown(said.append, HOST, None)
    ending.hear(event("attempt", "HTTP 500"))
    ending.hear(event("outage began"))
    for reason in reasons:
        ending.hear(event("attempt", reason))
    assert said == [f"{words} Sending nothing new, and probing until it answers."]
    ending.hear(event("outage ended"))
    assert said[1:] == [f"{HOST} answers again."]
    for name in ("outage began", "outage ended"):
        ending.hear(event(name))
    assert len(said) == 2


async def test_an_outage_that_ends_in_time_ends_nothing() -> None:
    """Nor does one for which no time was said; other events say nothing."""
    for seconds in (0.05, None):
        said: list[str] = []
        ending = BatchShutdown(said.append, HOST, seconds)
        for name in ("begun", "outage began", "attempt", "outage ended"):
            ending.hear(event(name))
        await asyncio.sleep(0.1)
        assert (ending.why, ending.stop.is_set(), said) == (None, False, [])
    assert repr(ending) == "BatchShutdown(None)"


# ── followed to the end ──────────────────────────────────────────────────────────────────────────────────────────────


def lines(desk: Desk) -> dict[str, dict[str, str]]:
    """Return the results by foreign_id; no row has two lines."""
    with desk.results.open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    assert len({line["foreign_id"] for line in found}) == len(found)
    return {line["foreign_id"]: line for line in found}


async def test_a_followed_batch_ends_with_every_status_txid_and_fee(tmp_path: Path) -> None:
    """A row that AlphaPo cancels later is failed, one that says the same again has the same txid, and no fee is lost."""
    ended = "cancelled,BTC,12345,0.5,user\nrefused,BTC,unsupported,1,user\n"
    desk = Desk(tmp_path, rows(5) + ended + "p-1,BTC,made-up-1,0.5,user\n")
    async with Sandbox(KEY, SECRET, settle_after=0.3, dialect=Dialect(fees="outside")) as sandbox:
        report, failure = await desk.pay(sandbox.url, follow=True, look_up_rate=500.0)
        booked = {one.foreign_id: one for one in sandbox.ledger.all_accepted()}
    assert (failure, report.code, report.not_final, report.totals_reconcile) == (None, Exit.REFUSED, 0, True)
    assert report.outcomes == {"accepted": 5, "failed": 1, "rejected": 1}
    assert "Following 6 rows until final, for 1 h at most" in desk.said.getvalue()
    with desk.results.open(encoding="utf-8", newline="") as file:
        found = [(line["foreign_id"], line["status"], line["txids"], line["fees"]) for line in csv.DictReader(file)]
    for number in (*range(5), 1):
        txid = f"{booked[f'p-{number}'].id:064x}"
        assert (f"p-{number}", "confirmed", txid, "0.00050000 BTC mining") in found
    assert len(found) == 8
    assert ("cancelled", "cancelled", "", "") in found


async def test_a_row_that_was_accepted_before_and_has_failed_since_was_not_paid_before(tmp_path: Path) -> None:
    """Otherwise the report had more rows paid before than rows accepted, and a negative number paid now."""
    desk = Desk(tmp_path, f"{rows(1)}p-1,BTC,{MAGIC_CANCELLED},0.5,user\n")
    async with Sandbox(KEY, SECRET, settle_after=0.2) as sandbox:
        await desk.pay(sandbox.url)
        report, _ = await desk.pay(sandbox.url, follow=True, look_up_rate=500.0)
    assert report.outcomes == {"accepted": 1, "failed": 1}
    assert report.paid_before == 1
    assert paid_before_lines(report) == ["0 paid now, 1 was paid before."]


async def test_a_batch_is_followed_no_longer_than_it_is_told(tmp_path: Path) -> None:
    """Every row has its line, as it was last seen, and the exit code asks for another run; that one goes on."""
    desk = Desk(tmp_path, rows(3))
    async with Sandbox(KEY, SECRET, settle_after=0.8) as sandbox:
        report, _ = await desk.pay(sandbox.url, follow=True, give_up_after=0.1, look_up_rate=500.0)
        assert (report.code, report.not_final, report.outcomes) == (Exit.UNKNOWN, 3, {"accepted": 3})
        assert {line["status"] for line in lines(desk).values()} <= {"processing", "not_confirmed"}
        await asyncio.sleep(0.8)
        report, _ = await desk.pay(sandbox.url, follow=True, look_up_rate=500.0)
    assert (report.code, report.not_final) == (Exit.ALL_ACCEPTED, 0)
    assert all(line["status"] == "confirmed" and line["txids"] for line in lines(desk).values())


async def test_a_run_without_following_writes_the_txids_that_the_journal_has(tmp_path: Path) -> None:
    """Found by a worker, a callback or an earlier run."""
    desk = Desk(tmp_path, rows(2))
    async with Sandbox(KEY, SECRET, settle_after=0.0) as sandbox:
        await desk.pay(sandbox.url, follow=True, look_up_rate=500.0)
        look_ups = sandbox.ledger.look_ups
        await desk.pay(sandbox.url)
        assert sandbox.ledger.look_ups == look_ups
    assert all(line["txids"] for line in lines(desk).values())


class Unreadable(SqliteJournal):
    """A journal that takes rows, and gives none back that is asked for alone."""

    async def find(self, account: str, foreign_id: str) -> Row | None:
        raise JournalError("it cannot be read.")


async def test_what_was_sent_has_its_line_also_where_the_journal_cannot_be_read_for_a_txid(tmp_path: Path) -> None:
    """A row that this run paid is not reported as not tried, and no row that was under way is left out."""
    desk = Desk(tmp_path, rows(1))
    async with Sandbox(KEY, SECRET, settle_after=0.0) as sandbox:
        await desk.pay(sandbox.url, follow=True, look_up_rate=500.0)
        desk.path.write_text(rows(30), encoding="utf-8")
        await desk.pay(sandbox.url, journal=Unreadable(tmp_path / "journal.db"), concurrency=4)
        paid = {one.foreign_id for one in sandbox.ledger.all_accepted()}
    found = lines(desk)
    assert {found[name]["outcome"] for name in paid} == {"accepted"}
    assert len(found) == 30


class Forgetting(SqliteJournal):
    """A journal that has gone back in time, and does not know a row that it took."""

    async def find(self, account: str, foreign_id: str) -> Row | None:
        return None


async def test_each_followed_row_has_its_line_where_the_journal_went_back_meanwhile(tmp_path: Path) -> None:
    """As it was last seen, and the report names the reason."""
    desk = Desk(tmp_path, rows(3))
    async with Sandbox(KEY, SECRET, settle_after=60.0) as sandbox:
        report, failure = await desk.pay(sandbox.url, journal=Forgetting(tmp_path / "journal.db"), follow=True)
    assert isinstance(failure, JournalError)
    assert "went back in time" in str(failure)
    assert (report.outcomes, len(lines(desk))) == ({"accepted": 3}, 3)


async def test_following_ends_in_order_when_it_is_interrupted(tmp_path: Path) -> None:
    """Ctrl-C loses no line."""
    desk = Desk(tmp_path, rows(3))
    async with Sandbox(KEY, SECRET, settle_after=60.0) as sandbox:
        paying = asyncio.create_task(desk.pay(sandbox.url, follow=True, look_up_rate=500.0))
        asyncio.get_running_loop().call_later(0.6, os.kill, os.getpid(), signal.SIGINT)
        report, _ = await paying
    assert (report.code, report.not_final, len(lines(desk))) == (Exit.UNKNOWN, 3, 3)


async def test_a_key_that_is_refused_while_rows_are_followed_ends_the_run(tmp_path: Path) -> None:
    """Every line is written, and the exit code names the key."""
    desk = Desk(tmp_path, rows(2))
    plan = Script({"*": {"look-up": [Fault.KEY_REFUSED]}})
    async with Sandbox(KEY, SECRET, settle_after=60.0, faults=plan) as sandbox:
        report, failure = await desk.pay(sandbox.url, follow=True)
    assert isinstance(failure, AlphapoUnavailable)
    assert (report.code, report.outcomes, len(lines(desk))) == (Exit.KEY_REFUSED, {"accepted": 2}, 2)
