"""The journal in a file: what it acknowledged is there afterwards, whatever dies, and whatever is wrong is told in a sentence."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from alphapo_async.core.errors import JournalError
from alphapo_async.core.evidence import Attempt, CalledBack, ReplyExcerpt
from alphapo_async.core.history import Entry, noted
from alphapo_async.core.models import Transaction
from alphapo_async.core.redaction import redacted
from alphapo_async.core.replies import InDoubt
from alphapo_async.core.row import Row
from alphapo_async.core.transitions import new_row
from alphapo_async.journal.sqlite.busy import SLICE, BusyWait
from alphapo_async.journal.sqlite.connection import FileConnection
from alphapo_async.journal.sqlite.journal import SqliteJournal
from alphapo_async.journal.sqlite.rows import QUERIES
from alphapo_async.supervisor import Supervisor
from tests.journal.sqlite.test_thread import refuse
from tests.support.driver_errors import SQLITE, missing_verbs, verbs
from tests.support.journal_suite import (
    ACCOUNT,
    LOST,
    ForgettingSuite,
    JournalSuite,
    RememberingSuite,
    Rewrite,
    UpgradingSuite,
    accepted,
    asked,
    buried,
    learn,
    pay,
)
from tests.support.mounts import mounted


class TestSqlite(JournalSuite, UpgradingSuite, RememberingSuite, ForgettingSuite):
    """The journal in a file is a journal."""

    @pytest.fixture
    async def journal(self, tmp_path: Path) -> AsyncIterator[SqliteJournal]:
        """Give an empty one."""
        opened = SqliteJournal(tmp_path / "payouts.db")
        yield opened
        await opened.aclose()

    @pytest.fixture
    def rewrite(self, tmp_path: Path) -> Rewrite:
        """Have another process add a member to rows."""

        async def rewrite(begin: str) -> None:
            with contextlib.closing(sqlite3.connect(tmp_path / "payouts.db")) as other, other:
                other.execute(
                    "update withdrawals set rest = json_set(cast(rest as text), '$.new_in_02', 1) where foreign_id like ?",
                    [f"{begin}%"],
                )

        return rewrite

    @pytest.fixture
    async def empty(self, tmp_path: Path) -> AsyncIterator[SqliteJournal]:
        """Give another one."""
        opened = SqliteJournal(tmp_path / "empty.db")
        yield opened
        await opened.aclose()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give the place of a file that is not there yet."""
    return tmp_path / "payouts.db"


async def test_what_is_acknowledged_is_in_the_file(path: Path) -> None:
    """Read by another connection, without the journal being closed."""
    journal = SqliteJournal(path)
    await pay(journal, "f")
    with sqlite3.connect(path) as other:
        found = other.execute(
            "select state, counted_as, requested_amount, alphapo_id, length(sha256), digest from withdrawals"
        ).fetchall()
    other.close()
    assert [row[:5] for row in found] == [("accepted", "accepted", "1", "id of f", 64)]
    assert found[0][5].startswith("1:")
    await journal.aclose()


async def test_a_second_journal_on_the_file_sees_and_changes_the_same_rows(path: Path) -> None:
    """What one remembers is forgotten when the other has written."""
    one, other = SqliteJournal(path), SqliteJournal(path)
    await learn(one, "f", asked("f"))
    await learn(other, "f", LOST)
    row = await learn(one, "f", LOST)
    assert row.attempts == 2
    await asyncio.gather(*(learn(journal, "f", LOST) for journal in (one, other) * 20))
    found = await one.find(ACCOUNT, "f")
    assert found is not None
    assert found.attempts == 42
    await one.aclose()
    await other.aclose()


async def test_the_file_is_its_owner_s_alone(path: Path) -> None:
    """And so is the folder of the workers' locks."""
    journal = SqliteJournal(path)
    await journal.join(ACCOUNT, "h", "worker", 50.0)
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.with_name("payouts.db.workers").stat().st_mode & 0o777 == 0o700
    await journal.leave("worker", 1.0)
    await journal.aclose()


def test_a_path_is_made_absolute(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A later change of folder changes nothing; making one touches no file."""
    monkeypatch.chdir(path.parent)
    journal = SqliteJournal("payouts.db")
    monkeypatch.chdir("/")
    assert journal.path == path
    assert repr(journal) == f"SqliteJournal({str(path)!r})"
    assert not path.exists()


async def test_a_hundred_at_once_share_a_few_commits(path: Path) -> None:
    """Counted by the statements that the connection sees."""
    journal = SqliteJournal(path)
    await learn(journal, "first", asked("first"))
    seen: list[str] = []
    await journal._ask(lambda file: file.rows.connection.set_trace_callback(seen.append))
    await asyncio.gather(*(pay(journal, f"f-{number}") for number in range(100)))
    assert 1 <= seen.count("commit") <= 5
    await journal.aclose()


async def test_a_closed_journal_says_so(path: Path) -> None:
    """And nothing is recorded."""
    journal = SqliteJournal(path)
    await journal.aclose()
    with pytest.raises(JournalError, match="is closed") as caught:
        await journal.find(ACCOUNT, "f")
    assert caught.value.recorded is None


async def test_a_held_journal_is_read_whole_and_closed_for_good(path: Path) -> None:
    """Nothing is written meanwhile; what was released can be used as before."""
    journal = SqliteJournal(path)
    await journal.join(ACCOUNT, "h", "worker", 50.0)
    await pay(journal, "f", "g")
    await journal.remember(ACCOUNT, "callback 7", "text")
    await journal.hold()
    assert await journal.find_living(49.0) == ["worker"]
    assert await journal.find_living(50.0) == []
    assert await journal.hosts() == {ACCOUNT: "h"}
    register = await journal.register()
    assert (register.hosts, register.leases) == ({ACCOUNT: "h"}, {"worker": 50.0})
    assert register.texts == {(ACCOUNT, "callback 7"): "text"}
    [first] = await journal.dump(0, 1)
    [second] = await journal.dump(first.place, 9)
    assert (first.row.foreign_id, second.row.foreign_id) == ("f", "g")
    await journal.release()
    await pay(journal, "h")
    await journal.hold()
    await journal.retire()
    with pytest.raises(JournalError, match="closed for good"):
        await journal.remember(ACCOUNT, "callback 7", "another")
    await journal.aclose()


async def test_a_closed_journal_has_let_go_of_its_file(path: Path) -> None:
    """What was asked for is served, and its thread has ended, when closing returns."""
    journal = SqliteJournal(path)
    asked_last = asyncio.ensure_future(journal.remember(ACCOUNT, "name", "text"))
    await asyncio.sleep(0)
    await journal.aclose()
    assert f"journal {path.name}" not in [thread.name for thread in threading.enumerate()]
    await asked_last


async def test_a_worker_that_leaves_lets_go_of_its_lock(path: Path) -> None:
    """Nothing of it stays beside the journal."""
    journal = SqliteJournal(path)
    await journal.join(ACCOUNT, "host", "worker", 50.0)
    lock = path.with_name(f"{path.name}.workers") / "worker"
    assert lock.exists()
    await journal.leave("worker", 10.0)
    assert not lock.exists()
    await journal.aclose()


async def test_a_file_that_cannot_be_opened_is_told_to_everybody_who_asks(path: Path) -> None:
    """And opened once it can be."""
    path.mkdir()
    journal = SqliteJournal(path)
    outcomes = await asyncio.gather(*(journal.find(ACCOUNT, name) for name in "ab"), return_exceptions=True)
    assert all(isinstance(one, JournalError) for one in outcomes)
    assert outcomes[0] is not outcomes[1]
    path.rmdir()
    assert await journal.find(ACCOUNT, "a") is None
    await journal.aclose()


async def test_a_folder_of_locks_that_cannot_be_made_is_told(path: Path) -> None:
    """A worker that cannot show that it lives takes no row."""
    path.with_name("payouts.db.workers").write_text("in the way")
    journal = SqliteJournal(path)
    with pytest.raises(JournalError, match=r"payouts\.db"):
        await journal.join(ACCOUNT, "h", "worker", 50.0)
    await journal.aclose()


# ── what the disk does ───────────────────────────────────────────────────────────────────────────────────────────────


class Failing:
    """A connection that fails at chosen statements, and is one otherwise."""

    def __init__(self, real: Any, script: dict[str, list[str | None]]) -> None:
        self._real = real
        self._script = script

    def execute(self, statement: str, *values: Any) -> Any:
        """Fail if the script says so; "after:" lets the statement happen first."""
        return self._run(self._real.execute, statement, *values)

    def executemany(self, statement: str, values: list[Any]) -> Any:
        """Likewise, if there is anything to do."""
        return self._run(self._real.executemany, statement, values) if values else None

    def _run(self, execute: Callable[..., Any], statement: str, *values: Any) -> Any:
        result = self._script.get(statement, [])
        error = result.pop(0) if result else None
        if error is None:
            return execute(statement, *values)
        if error.startswith("after:"):
            execute(statement, *values)
        raise sqlite3.OperationalError(error.removeprefix("after:"))

    @property
    def in_transaction(self) -> bool:
        """As the real one says."""
        return bool(self._real.in_transaction)

    def close(self) -> None:
        """Close the real one."""
        self._real.close()


async def failing(path: Path, script: dict[str, list[str | None]]) -> SqliteJournal:
    """Return an opened journal with one row, whose connection follows the script from here on."""
    journal = SqliteJournal(path)
    await learn(journal, "old", asked("old"))
    assert journal._file is not None
    journal._file.rows.connection = Failing(journal._file.rows.connection, script)  # type: ignore[assignment]
    return journal


async def in_one_group(journal: SqliteJournal, *asking: Callable[[], Awaitable[Any]]) -> list[Any]:
    """Ask for all of it while the journal is busy with something else, so that it is served in one transaction."""
    goes_on = threading.Event()
    busy = asyncio.ensure_future(journal._ask(lambda _: goes_on.wait(10)))
    await asyncio.sleep(0.05)
    asked_for = [asyncio.ensure_future(ask()) for ask in asking]
    await asyncio.sleep(0.05)
    goes_on.set()
    await busy
    return await asyncio.gather(*asked_for, return_exceptions=True)


async def note(journal: SqliteJournal, line: Entry) -> Row:
    """Add a line to the history of a row that stays as it is."""

    def add(row: Row | None) -> tuple[Row, Sequence[Entry]]:
        assert row is not None
        return noted(row, [line])

    return await journal.update(ACCOUNT, "old", add)


async def test_a_commit_that_fails_is_tried_again_row_by_row(path: Path) -> None:
    """A passing fault costs nobody anything."""
    journal = await failing(path, {"commit": ["disk I/O error"]})
    rows = await asyncio.gather(*(learn(journal, name, asked(name)) for name in "abc"))
    assert [row.foreign_id for row in rows] == ["a", "b", "c"]
    assert (await journal.totals(ACCOUNT))["BTC"].requested == 4
    await journal.aclose()


async def test_a_commit_that_only_seemed_to_fail_is_read_back(path: Path) -> None:
    """The change is not applied twice: no attempt is counted double, no history line written again."""
    journal = await failing(path, {"commit": ["after:disk I/O error"]})
    await asyncio.gather(learn(journal, "old", LOST), learn(journal, "new", asked("new"), accepted("new")))
    old = await journal.find(ACCOUNT, "old")
    assert old is not None
    assert old.attempts == 1
    assert len(await journal.history(ACCOUNT, "old")) == len(await journal.history(ACCOUNT, "new")) == 1
    await journal.aclose()


@pytest.mark.parametrize("commit", ["disk I/O error", "after:disk I/O error"])
async def test_what_is_forgotten_has_one_line_whatever_the_commit_did(path: Path, commit: str) -> None:
    """The same answer, and the same history, as where the commit did not seem to fail."""
    journal = await failing(path, {"commit": [commit]})
    line = Entry(9.0, "redacted", "bodies", release="1.0")
    is_done = await journal.forget(ACCOUNT, "old", lambda row: noted(redacted(row), [line]), keeps_history=True)
    assert is_done
    assert [one.kind for one in await journal.history(ACCOUNT, "old")] == ["redacted"]
    row = await journal.find(ACCOUNT, "old")
    assert row is not None
    assert (row.revision.body, row.lines) == (b"", 1)
    await journal.aclose()


@pytest.mark.parametrize("commit", ["disk I/O error", "after:disk I/O error"])
async def test_a_worker_joins_whatever_the_commit_did(path: Path, commit: str) -> None:
    """It is listed already where the commit only seemed to fail, and that is no error."""
    journal = await failing(path, {"commit": [None, commit]})
    await journal.join(ACCOUNT, "h", "another", 1e11)
    assert await journal.renew("another", 1e11, 0.0)
    await journal.aclose()


@pytest.mark.parametrize("commit", ["disk I/O error", "after:disk I/O error"])
async def test_an_epoch_begins_once_whatever_the_commit_did(path: Path, commit: str) -> None:
    """With two, `unfreeze --nothing-lost` would leave frozen what was open before the first one."""
    journal = await failing(path, {"commit": [commit]})
    assert (await journal.raise_epoch(9.0)).number == 1
    assert (await journal.raise_epoch(9.0)).number == 2
    await journal.aclose()


async def test_what_is_read_back_is_written_once_more(path: Path) -> None:
    """The commit may have failed at its last flush: what is acknowledged is flushed, and told as unsure where that fails."""
    journal = await failing(path, {"commit": ["after:disk I/O error"], QUERIES["update"]: [None, "disk I/O error"]})
    with pytest.raises(JournalError) as caught:
        await learn(journal, "old", LOST)
    assert caught.value.recorded is None
    row = await journal.find(ACCOUNT, "old")
    assert row is not None
    assert row.attempts == 1
    await journal.aclose()


@pytest.mark.parametrize("script", [{"commit": ["disk I/O error"]}, {"commit": ["after:disk I/O error"]}, {}])
async def test_several_changes_of_a_row_are_made_once_each_whatever_the_commit_did(
    path: Path, script: dict[str, list[str | None]]
) -> None:
    """Also one that adds a line and leaves the row as it is."""
    journal = await failing(path, script)
    line = Entry(5.0, "callback", "confirmed", release="1.0")
    result = await in_one_group(
        journal,
        lambda: learn(journal, "old", LOST, now=1.0),
        lambda: learn(journal, "old", LOST, now=2.0),
        lambda: note(journal, line),
    )
    assert [row.attempts for row in result] == [1, 2, 2]
    row = await journal.find(ACCOUNT, "old")
    assert row is not None
    assert row.attempts == 2
    assert [entry.at for entry in await journal.history(ACCOUNT, "old")] == [1.0, 2.0, 5.0]
    await journal.aclose()


async def test_a_line_for_a_row_that_stays_as_it_is_outlasts_a_companion_that_fails(path: Path) -> None:
    """That the row is as it was does not say that the line was written."""
    journal = await failing(path, {QUERIES["insert"]: ["disk I/O error"]})
    line = Entry(5.0, "callback", "confirmed", release="1.0")
    await in_one_group(
        journal,
        lambda: note(journal, line),
        lambda: learn(journal, "new", asked("new")),
    )
    assert await journal.history(ACCOUNT, "old") == [replace(line, number=1)]
    assert await journal.find(ACCOUNT, "new") is not None
    await journal.aclose()


class Meanwhile(Failing):
    """A connection before whose second transaction another process does something."""

    def __init__(self, real: Any, script: dict[str, list[str | None]], act: Callable[[], object]) -> None:
        super().__init__(real, script)
        self._act = act
        self._begun = 0

    def execute(self, statement: str, *values: Any) -> Any:
        """Wait for the other one, where its turn is."""
        self._begun += statement == "begin immediate"
        if statement == "begin immediate" and self._begun == 2:
            self._act()
        return super().execute(statement, *values)


async def test_a_line_that_another_wrote_in_its_place_is_not_taken_for_it(path: Path) -> None:
    """A row with as many lines as the commit that failed had made is no proof of it."""
    journal, other = await failing(path, {}), SqliteJournal(path)
    await other.find(ACCOUNT, "old")
    ours, theirs = (Entry(at, "operator", what, release="1.0") for at, what in ((5.0, "confirmed"), (6.0, "sent")))
    loop = asyncio.get_running_loop()

    def write_theirs() -> None:
        asyncio.run_coroutine_threadsafe(note(other, theirs), loop).result(10)

    assert journal._file is not None
    script: dict[str, list[str | None]] = {"commit": ["disk I/O error"]}
    journal._file.rows.connection = Meanwhile(journal._file.rows.connection, script, write_theirs)  # type: ignore[assignment]
    await note(journal, ours)
    assert [(line.at, line.what) for line in await journal.history(ACCOUNT, "old")] == [
        (6.0, "sent"),
        (5.0, "confirmed"),
    ]
    await journal.aclose()
    await other.aclose()


async def test_a_commit_that_keeps_failing_leaves_nobody_sure(path: Path) -> None:
    """`recorded` is None, with the file and what to do; the journal works again when the disk does."""
    journal = await failing(path, {"commit": ["database or disk is full"] * 2})
    with pytest.raises(JournalError, match=r"its disk is full\. Make room") as caught:
        await learn(journal, "a", asked("a"))
    assert caught.value.recorded is None
    assert await journal.find(ACCOUNT, "a") is None
    await learn(journal, "a", asked("a"))
    await journal.aclose()


async def test_whoever_asks_in_the_same_transaction_hears_what_was_changed_before(path: Path) -> None:
    """Changes gather until somebody asks, or the transaction ends."""
    journal = SqliteJournal(path)
    _, found, totals, _ = await in_one_group(
        journal,
        lambda: learn(journal, "a", asked("a")),
        lambda: journal.find(ACCOUNT, "a"),
        lambda: journal.totals(ACCOUNT),
        lambda: learn(journal, "b", asked("b")),
    )
    assert found.foreign_id == "a"
    assert totals["BTC"].requested == 1
    await journal.aclose()


async def test_what_is_forgotten_in_a_transaction_is_not_brought_back_by_what_was_read_ahead(path: Path) -> None:
    """What comes later in it is added to what is left."""
    journal = SqliteJournal(path)
    result = Transaction(id="id of f", foreign_id="f", status="confirmed", error="to bc1q-made-up")
    await learn(journal, "f", asked("f"), accepted("f"), CalledBack(result, ReplyExcerpt()))
    again = CalledBack(Transaction(id="id of f", foreign_id="f", status="confirmed"), ReplyExcerpt())
    await in_one_group(
        journal,
        lambda: journal.forget(ACCOUNT, "f", buried, keeps_history=False),
        lambda: learn(journal, "f", again),
        lambda: learn(journal, "g", asked("g")),
    )
    row = await journal.find(ACCOUNT, "f")
    assert row is not None
    assert row.attempts == 0
    assert (row.transaction and row.transaction.error) is None
    await journal.aclose()


async def test_a_copy_is_made_beside_changes_asked_for_at_the_same_time(path: Path) -> None:
    """After their transaction, in which SQLite would wait for its end for ever; the log is emptied then, too."""
    journal, target = SqliteJournal(path), path.with_name("backup.db")
    asking = in_one_group(
        journal,
        lambda: journal.backup(target),
        journal.wipe,
        lambda: learn(journal, "f", asked("f")),
    )
    copied, is_wiped, row = await asyncio.wait_for(asking, 10)
    assert (copied, is_wiped, row.foreign_id) == (None, True, "f")
    copy = SqliteJournal(target)
    assert await copy.find(ACCOUNT, "f") is not None
    await copy.aclose()
    await journal.aclose()


async def test_what_breaks_off_a_change_is_its_own_affair(path: Path) -> None:
    """Whatever is raised: its companions are written, and no transaction is left open."""
    journal = SqliteJournal(path)

    def break_off(known: Row | None) -> tuple[Row, Sequence[Entry]]:
        raise asyncio.CancelledError

    _, result = await in_one_group(
        journal, lambda: learn(journal, "a", asked("a")), partial(journal.update, ACCOUNT, "b", break_off)
    )
    assert isinstance(result, asyncio.CancelledError)
    with sqlite3.connect(path) as other:
        assert other.execute("select foreign_id from withdrawals").fetchall() == [("a",)]
    other.close()
    await journal.aclose()


async def test_what_cannot_be_written_at_all_fails_alone(path: Path) -> None:
    """A text that no database takes: its companions are written, and the journal goes on without it."""
    journal = SqliteJournal(path)
    strange = Attempt("worker", InDoubt("\ud800"), 1.0, 2.0)
    _, error, _ = await in_one_group(
        journal,
        lambda: learn(journal, "a", asked("a")),
        lambda: learn(journal, "b", asked("b"), strange),
        lambda: learn(journal, "c", asked("c")),
    )
    assert isinstance(error, JournalError)
    assert error.recorded is False
    assert await journal.find(ACCOUNT, "b") is None
    await learn(journal, "d", asked("d"))
    assert (await journal.totals(ACCOUNT))["BTC"].requested == 3
    await journal.aclose()


async def test_a_row_that_cannot_be_written_is_not_recorded(path: Path) -> None:
    """Its companions are."""
    journal = await failing(path, {QUERIES["insert"]: ["disk I/O error"] * 2})
    outcomes = await asyncio.gather(*(learn(journal, name, asked(name)) for name in "ab"), return_exceptions=True)
    assert [type(one).__name__ for one in outcomes] == ["JournalError", "Row"]
    assert isinstance(outcomes[0], JournalError)
    assert outcomes[0].recorded is False
    await journal.aclose()


@pytest.mark.parametrize(
    "script",
    [
        {"commit": ["after:disk I/O error"], "begin immediate": [None, "disk I/O error"]},
        {"commit": ["database or disk is full"], "begin immediate": [None, "database is locked"]},
        {QUERIES["insert"]: ["disk I/O error"], "begin immediate": [None, "database is locked"]},
        {"commit": ["database or disk is full"], QUERIES["insert"]: [None, "disk I/O error"]},
    ],
)
async def test_what_a_commit_may_have_written_is_never_said_to_be_missing(
    path: Path, script: dict[str, list[str | None]]
) -> None:
    """Nor is what others may have written since it was read: `recorded` is None."""
    journal = await failing(path, script)
    with pytest.raises(JournalError) as caught:
        await learn(journal, "a", asked("a"))
    assert caught.value.recorded is None
    await journal.aclose()


def descriptors() -> int:
    """Return how many files this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


@contextlib.contextmanager
def locked(path: Path) -> Iterator[sqlite3.Connection]:
    """Give a connection that holds the file's write lock, as a hung backup does."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as holder:
        holder.execute("begin exclusive")
        yield holder


async def test_a_lock_that_stays_is_waited_for_once_for_all(path: Path) -> None:
    """Not once for each call of a group; when it goes, the journal works, and is in its epoch."""
    journal = SqliteJournal(path)
    journal._busy_wait = BusyWait(0.05)
    await pay(journal, "before")
    raised = await journal.raise_epoch(1.0)
    with locked(path) as holder:
        began = time.monotonic()
        outcomes = await asyncio.gather(
            *(learn(journal, f"{n}", asked(f"{n}")) for n in range(20)), return_exceptions=True
        )
        assert time.monotonic() - began < 4 * SLICE
        assert {type(one) for one in outcomes} == {JournalError}
        assert "another process has been writing to it" in str(outcomes[0])
        assert journal.epoch == raised
        holder.execute("rollback")
    await pay(journal, "after")
    assert journal.epoch == raised
    await journal.aclose()


async def test_closing_is_bounded_while_another_process_locks_the_file(path: Path) -> None:
    """What was asked for fails, its thread and descriptors are gone, and so are the locks of its workers."""
    journal, before = SqliteJournal(path), (threading.active_count(), descriptors())
    await journal.join(ACCOUNT, "host", "worker", 1e10)
    with locked(path):
        asking: list[asyncio.Future[Any]] = [
            *(asyncio.ensure_future(learn(journal, f"{n}", asked(f"{n}"))) for n in range(20)),
            asyncio.ensure_future(journal.find(ACCOUNT, "a")),
        ]
        await asyncio.sleep(0.01)
        asking += [asyncio.ensure_future(journal.find(ACCOUNT, f"{n}")) for n in range(5)]  # another group
        await asyncio.sleep(0)
        began = time.monotonic()
        await journal.aclose()
        assert time.monotonic() - began < 1.0
        outcomes = await asyncio.gather(*asking, return_exceptions=True)
        assert {type(one) for one in outcomes} == {JournalError}
    assert (threading.active_count(), descriptors()) == before
    again = SqliteJournal(path)
    assert await again.ended("worker", 5.0) == 5.0
    await again.aclose()


@pytest.mark.parametrize("is_cancelled", [True, False])
async def test_closing_is_bounded_where_the_disk_hangs(path: Path, *, is_cancelled: bool) -> None:
    """The thread is left behind, and every call fails; also where the caller of `aclose` leaves."""
    journal, may_go = SqliteJournal(path), threading.Event()
    await pay(journal, "before")

    def hang(_: Row | None) -> tuple[Row, Sequence[Entry]]:
        may_go.wait(10)
        raise ValueError

    asking = [asyncio.ensure_future(journal.update(ACCOUNT, name, hang)) for name in "ab"]
    await asyncio.sleep(0.01)
    if is_cancelled:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.05):
                await journal.aclose()
    else:
        journal._close_within = 0.05
        await journal.aclose()
    for result in await asyncio.gather(*asking, return_exceptions=True):
        assert isinstance(result, JournalError)
        assert "was closed" in str(result)
    may_go.set()
    await journal.aclose()


async def test_an_older_copy_in_the_journals_place_is_opened_and_has_gone_back(
    path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What is open in it is frozen, and the log says why; beside a write-ahead log it is not opened."""
    journal = SqliteJournal(path)
    await journal.join(ACCOUNT, "host", "worker", 1e10)
    await journal.backup(tmp_path / "backup.db")
    await pay(journal, "lost")
    (tmp_path / "backup.db").replace(path)
    await pay(journal, "after")
    assert journal.epoch.number == 1
    assert "it was replaced by an older one" in caplog.text
    await journal._ask(lambda file: file.rows.connection.execute("pragma journal_mode = wal").fetchone())
    await journal.backup(tmp_path / "backup.db")
    (tmp_path / "backup.db").replace(path)
    with pytest.raises(JournalError, match="whose names end with -wal and -shm"):
        await pay(journal, "beside a log")
    await journal.aclose()


async def test_another_accounts_journal_is_not_used_instead(path: Path, tmp_path: Path) -> None:
    """Neither in the file's place nor in the file itself."""
    made = SqliteJournal(tmp_path / "other.db")
    await made.join("another account", "host", "worker", 1e10)
    await made.aclose()
    journal = SqliteJournal(path)
    await journal.join(ACCOUNT, "host", "worker", 1e10)
    await pay(journal, "before")
    shutil.copyfile(tmp_path / "other.db", path)
    with pytest.raises(JournalError, match="overwritten in place by the journal of another account"):
        await pay(journal, "f")
    (tmp_path / "other.db").replace(path)
    with pytest.raises(JournalError, match="by the journal of another account"):
        await pay(journal, "f")
    await journal.aclose()


async def test_of_what_could_not_even_begin_nobody_knows(path: Path) -> None:
    """An earlier call may have written it down: `recorded` is None."""
    journal = await failing(path, {"begin immediate": ["database is locked"] * 2})
    with pytest.raises(JournalError, match="another process has been writing") as caught:
        await learn(journal, "a", asked("a"))
    assert caught.value.recorded is None
    await journal.aclose()


async def test_a_connection_that_cannot_even_roll_back_is_opened_anew(path: Path) -> None:
    """The next request finds the file as it is."""
    journal = await failing(path, {"commit": ["disk I/O error"] * 2, "rollback": ["disk I/O error"] * 2})
    with pytest.raises(JournalError):
        await learn(journal, "a", asked("a"))
    assert await journal.find(ACCOUNT, "a") is None
    assert await journal.find(ACCOUNT, "old") is not None
    await journal.aclose()


async def test_a_page_that_is_damaged_is_told_when_it_is_met(path: Path) -> None:
    """With the file's name; nothing is overwritten."""
    journal = SqliteJournal(path)
    await pay(journal, *(f"f-{number}" for number in range(200)))
    await journal.aclose()
    whole = path.read_bytes()
    path.write_bytes(whole[:8192] + b"\xff" * (len(whole) - 8192))
    journal = SqliteJournal(path)
    with pytest.raises(JournalError, match="it is damaged"):
        await journal.totals(ACCOUNT)
    assert path.read_bytes()[8192:] == b"\xff" * (len(whole) - 8192)
    await journal.aclose()


async def test_a_backup_is_a_journal(path: Path, tmp_path: Path) -> None:
    """As it stood, readable by its owner alone; an existing file is not touched."""
    journal, target = SqliteJournal(path), tmp_path / "backup.db"
    await pay(journal, "f")
    await journal.backup(target)
    await pay(journal, "g")
    with pytest.raises(JournalError, match="exists") as caught:
        await journal.backup(target)
    assert caught.value.recorded is None
    copy = SqliteJournal(target)
    assert await copy.find(ACCOUNT, "f") is not None
    assert await copy.find(ACCOUNT, "g") is None
    assert target.stat().st_mode & 0o777 == 0o600
    await copy.aclose()
    await journal.aclose()


async def test_a_backup_that_cannot_be_made_is_told(path: Path, tmp_path: Path) -> None:
    """The journal itself goes on."""
    journal = SqliteJournal(path)
    with pytest.raises(JournalError):
        await journal.backup(tmp_path / "nowhere" / "backup.db")
    await pay(journal, "f")
    await journal.aclose()


# ── the machine dies ─────────────────────────────────────────────────────────────────────────────────────────────────


async def test_what_was_acknowledged_survives_a_death_in_the_midst_of_a_transaction(path: Path, tmp_path: Path) -> None:
    """The files as they are on disk while a transaction has written pages: what was acknowledged is there, the rest is not."""
    journal = SqliteJournal(path)
    await pay(journal, *(f"kept-{number}" for number in range(50)))
    await journal.aclose()
    half_way = sqlite3.connect(path, isolation_level=None)
    half_way.execute("pragma cache_size = 1")  # so that pages reach the disk before the commit
    half_way.execute("begin immediate")
    half_way.execute("update withdrawals set state = 'open', rest = zeroblob(3000)")
    for file in path.parent.glob("payouts.db*"):
        if file.is_file():
            shutil.copy(file, tmp_path / file.name.replace("payouts", "dead"))
    half_way.execute("rollback")
    half_way.close()
    assert (tmp_path / "dead.db-journal").exists() or (tmp_path / "dead.db-wal").exists()
    found = SqliteJournal(tmp_path / "dead.db")
    assert (await found.totals(ACCOUNT))["BTC"].accepted == 50
    row = await found.find(ACCOUNT, "kept-49")
    assert row is not None
    assert row.state == "accepted"
    await found.aclose()


async def test_a_file_that_grew_beyond_its_last_commit_loses_nothing(path: Path) -> None:
    """Whatever a dying machine left behind the end, and wherever it is cut, every acknowledged row is read."""
    journal = SqliteJournal(path)
    await pay(journal, *(f"kept-{number}" for number in range(20)))
    await journal.aclose()
    whole = path.read_bytes()
    for more in (1, 511, 4_095, 4_096, 10_000):
        path.write_bytes(whole + b"\xaa" * more)
        journal = SqliteJournal(path)
        assert (await journal.totals(ACCOUNT))["BTC"].accepted == 20
        await pay(journal, f"after-{more}")
        assert await journal.find(ACCOUNT, f"after-{more}") is not None
        await journal.aclose()


class Raising:
    """A connection of which every statement raises an error of this class."""

    in_transaction = False

    def __init__(self, error: Exception) -> None:
        self.error = error

    def execute(self, _statement: str, *_values: Any) -> Any:
        """Raise it."""
        raise self.error

    executemany = cursor = execute

    def backup(self, _target: Any, **_how: Any) -> None:
        """Raise it."""
        raise self.error

    def close(self) -> None:
        """Raise it, too."""
        raise self.error


async def test_no_verb_raises_what_sqlite_raises(path: Path) -> None:
    """But `JournalError`, for every class of its exceptions; the next call finds the file as it is."""
    journal = SqliteJournal(path)
    await learn(journal, "old", asked("old"))
    calls = {**verbs(journal), "wipe": journal.wipe, "backup": lambda: journal.backup(path.with_name("copy"))}
    del calls["time"]  # this machine's clock
    file = journal._file
    assert file is not None
    real = file.rows.connection
    for kind in (*SQLITE, OSError, MemoryError, OverflowError):
        for verb, call in calls.items():
            assert await journal.find(ACCOUNT, "old") is not None
            file.rows.connection = Raising(kind("made up"))  # type: ignore[assignment]
            (result,) = await asyncio.gather(call(), return_exceptions=True)  # type: ignore[no-untyped-call]
            assert isinstance(result, JournalError), (verb, kind, result)
            path.with_name("copy").unlink(missing_ok=True)
            journal._file, file.rows.connection = file, real  # it was let go of where even closing failed
            await journal._ask(FileConnection.undo)
    assert missing_verbs(journal) == set()
    await journal.aclose()


async def test_what_goes_wrong_in_the_thread_is_reported(path: Path) -> None:
    """To the supervisor that is handed in; whoever asked hears of it, too."""
    reported: list[str] = []
    journal = SqliteJournal(path)
    await pay(journal, "f")
    journal.supervise(Supervisor(lambda task, _: reported.append(task)))
    journal._opened = None  # type: ignore[assignment,method-assign]
    with pytest.raises(JournalError, match="internal error"):
        await journal.find(ACCOUNT, "f")
    await asyncio.sleep(0)
    assert reported == ["journal writes"]
    await journal.aclose()


def held_by_us(path: Path) -> tuple[int, int]:
    """Return how many descriptors this process has open, and how many workers have a file."""
    workers = path.with_name("payouts.db.workers")
    return len(list(Path("/dev/fd").iterdir())), len(list(workers.iterdir())) if workers.is_dir() else 0


async def test_a_worker_that_cannot_be_recorded_leaves_nothing_behind(path: Path) -> None:
    """Neither a descriptor nor a lock file, however often it is tried: the disk is full, or the caller gives up."""
    journal = await failing(path, {QUERIES["enlist"]: ["database or disk is full"] * 60})
    before = held_by_us(path)
    for number in range(30):
        with pytest.raises(JournalError, match="disk is full"):
            await journal.join(ACCOUNT, "h", f"w{number}", 1e12)
    assert held_by_us(path) == before
    goes_on = threading.Event()
    for number in range(3):
        joining = asyncio.create_task(journal.join(ACCOUNT, "h", f"x{number}", 1e12))
        while held_by_us(path) == before:  # noqa: ASYNC110 - its file is made in the task itself
            await asyncio.sleep(0)
        busy = asyncio.ensure_future(journal._ask(lambda _: goes_on.wait(0.02)))
        joining.cancel()
        await asyncio.gather(joining, busy, return_exceptions=True)
        assert held_by_us(path) == before
    await journal.join(ACCOUNT, "h", "last", 1e12)
    await journal.aclose()


async def test_a_worker_that_leaves_a_journal_in_trouble_is_seen_to_be_gone(path: Path) -> None:
    """Its lock is free, in the very file that stands in the journal, and the file goes with the worker."""
    journal = await failing(path, {QUERIES["leave"]: ["database or disk is full"] * 2})
    await journal.join(ACCOUNT, "h", "w", 1e12)
    with pytest.raises(JournalError, match="disk is full"):
        await journal.leave("w", 5.0)
    assert ("w", 6.0) in await journal.find_dead(6.0)
    await journal.leave("w", 6.0)
    assert held_by_us(path)[1] == 0
    await journal.aclose()


async def test_lock_files_of_workers_that_were_never_recorded_are_removed(path: Path) -> None:
    """At the next opening: their processes died in between."""
    journal = SqliteJournal(path)
    await journal.join(ACCOUNT, "h", "w", 1e12)
    stale = path.with_name("payouts.db.workers") / "stale"
    stale.touch()
    await journal.join(ACCOUNT, "h", "v", 1e12)
    assert not stale.exists()
    assert held_by_us(path)[1] == 2
    await journal.aclose()


async def test_a_backup_that_breaks_off_leaves_no_file(path: Path) -> None:
    """So that the same call succeeds once the trouble is over."""
    journal = SqliteJournal(path)
    await learn(journal, "f", asked("f"))
    file = journal._file
    assert file is not None
    real, file.rows.connection = file.rows.connection, Raising(sqlite3.OperationalError("database or disk is full"))  # type: ignore[assignment]
    with pytest.raises(JournalError, match="disk is full"):
        await journal.backup(path.with_name("copy"))
    file.rows.connection = real
    await journal.backup(path.with_name("copy"))
    await journal.aclose()


FORKING = """
import asyncio, os, sys, threading, time
from pathlib import Path
from alphapo_async.core.errors import JournalError
from alphapo_async.journal.sqlite.journal import SqliteJournal
from tests.support.journal_suite import LOST, asked, learn

path, seconds = sys.argv[1], float(sys.argv[2])
used, unused = SqliteJournal(path), SqliteJournal(path)

async def in_child():
    told = []
    for journal in (used, unused, SqliteJournal(path)):
        began = time.monotonic()
        try:
            told.append((await learn(journal, "f", LOST)).attempts)
        except JournalError as error:
            told.append("locked" if "forked while" in str(error) else str(error))
        await journal.aclose()
        if time.monotonic() - began > 1:
            told.append("late")
    return told

async def in_parent():
    await learn(used, "f", asked("f"))
    await used.join("default", "h", "w", 1e12)
    in_transaction = threading.Event()
    def slow(known):
        in_transaction.set()
        time.sleep(seconds)
        return known, ()
    writing = asyncio.ensure_future(used.update("default", "f", slow))
    await asyncio.to_thread(in_transaction.wait, 10)
    child = os.fork()
    if child:
        os.waitpid(child, 0)
        await writing
        print("parent", (await learn(used, "f", LOST)).attempts, flush=True)
        print("alive", "w" not in dict(await unused.find_dead(0.0)), flush=True)
        await used.aclose()
    return child

loop = asyncio.new_event_loop()
child = loop.run_until_complete(in_parent())
if not child:
    asyncio._set_running_loop(None)
    print("child", asyncio.run(in_child()), flush=True)
    os._exit(0)
"""


@pytest.mark.parametrize(
    ("seconds", "child", "attempts"), [(0.1, "[1, 2, 3]", 4), (1.3, "['locked', 'locked', 'locked']", 1)]
)
def test_after_a_fork_every_journal_works_or_raises_at_once(
    path: Path, seconds: float, child: str, attempts: int
) -> None:
    """Used before or not, and also where the parent was in mid-transaction; in the parent it goes on, and its worker is alive."""
    done = subprocess.run(
        [sys.executable, "-c", FORKING, str(path), str(seconds)],
        capture_output=True,
        text=True,
        timeout=30,
        check=True,
        cwd=Path(__file__).parents[3],
    )
    assert done.stdout.splitlines() == [f"child {child}", f"parent {attempts}", "alive True"], done.stderr


async def test_several_event_loops_share_a_journal(path: Path) -> None:
    """Each caller gets its result in its own loop; what ends with its loop is forgotten, and closing serves the other loops' calls."""
    journal, waits, ends = SqliteJournal(path), threading.Event(), threading.Event()
    await pay(journal, "f")
    for name in "gh":
        assert (await asyncio.to_thread(asyncio.run, learn(journal, name, asked(name)))).foreign_id == name
    assert len(journal._commits) == 2

    def slow(known: Row | None) -> tuple[Row, Sequence[Entry]]:
        waits.set()
        ends.wait(10)
        assert known is not None
        return known, ()

    async def elsewhere() -> tuple[Row, Row]:
        first = asyncio.ensure_future(journal.update(ACCOUNT, "f", slow))
        await asyncio.to_thread(waits.wait, 10)
        second = learn(journal, "g", LOST)
        asyncio.get_running_loop().call_later(0.02, ends.set)
        return await asyncio.gather(first, second)

    other = asyncio.ensure_future(asyncio.to_thread(asyncio.run, elsewhere()))
    await asyncio.to_thread(waits.wait, 10)
    await asyncio.sleep(0.01)
    await journal.aclose()
    assert [row.foreign_id for row in await other] == ["f", "g"]


async def test_closing_does_not_wait_for_an_event_loop_that_stands_still(path: Path) -> None:
    """Its calls are not served; closing stays bounded."""
    journal, loop = SqliteJournal(path), asyncio.new_event_loop()
    await pay(journal, "f")

    async def ask() -> None:
        journal.update(
            ACCOUNT, "g", lambda known: (known or new_row(ACCOUNT, "g", asked("g"), 0.0, is_durable=True), ())
        )

    await asyncio.to_thread(loop.run_until_complete, ask())
    began = time.monotonic()
    await journal.aclose()
    assert time.monotonic() - began < 2
    loop.close()


async def test_a_thread_that_the_system_refuses_is_a_journal_error(path: Path) -> None:
    """The next call works, and closing closes."""
    journal = SqliteJournal(path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(threading.Thread, "start", refuse)
        with pytest.raises(JournalError, match="can't start new thread"):
            await journal.find(ACCOUNT, "f")
    assert await journal.find(ACCOUNT, "f") is None
    await journal.aclose()


async def test_what_a_child_cannot_use_is_left_as_it_is(path: Path) -> None:
    """Whether the file was open or not when the process was forked."""
    journal = SqliteJournal(path)
    await learn(journal, "f", asked("f"))
    journal._after_fork(is_released=True)
    assert await journal.find(ACCOUNT, "f") is not None
    for _ in range(2):
        journal._after_fork(is_released=False)
        with pytest.raises(JournalError, match="forked while"):
            await journal.find(ACCOUNT, "f")
    await journal.aclose()


async def test_a_file_in_memory_is_used_and_is_not_durable(tmp_path: Path) -> None:
    """Before it is opened, and after; the operator is told why."""
    with mounted(tmp_path):
        journal = SqliteJournal(tmp_path / "payouts.db")
        assert not journal.is_durable
        await journal.totals(ACCOUNT)
        assert not journal.is_durable
        assert "is on a file system in memory (tmpfs)" in (await journal.cautions())[0]
        await journal.aclose()
    missing = SqliteJournal(tmp_path / "nowhere" / "payouts.db")
    assert missing.is_durable
    disk = SqliteJournal(tmp_path / "payouts.db")
    await disk.totals(ACCOUNT)
    assert disk.is_durable
    assert await disk.cautions() == []
    await disk.aclose()
