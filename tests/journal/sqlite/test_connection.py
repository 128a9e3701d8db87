"""The open file: what it remembers of rows, what gathers until it is written, commit and undo."""

from __future__ import annotations

import contextlib
import shutil
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from alphapo_async.core.claims import Claim
from alphapo_async.core.evidence import CalledBack, Evidence, Released, ReplyExcerpt
from alphapo_async.core.history import Entry
from alphapo_async.core.models import Transaction
from alphapo_async.core.row import Row
from alphapo_async.core.transitions import new_row
from alphapo_async.journal.sqlite.busy import BusyWait
from alphapo_async.journal.sqlite.connection import FileConnection
from alphapo_async.journal.sqlite.continuity import Continuity
from alphapo_async.journal.sqlite.faults import HeldByReader
from alphapo_async.journal.stored_rows import UnreadableRow
from tests.support.journal_suite import (
    ACCOUNT,
    FAR,
    LOST,
    REFUSED,
    accepted,
    asked,
    buried,
    learning,
    left_alone,
    names,
    same,
)

Open = Callable[..., FileConnection]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give the place of a file that is not there yet."""
    return tmp_path / "payouts.db"


@pytest.fixture
def open_file(path: Path) -> Iterator[Open]:
    """Return a function that opens the file once more, as another process would; all are closed at the end."""
    with contextlib.ExitStack() as stack:

        def open_once(at: Path = path, **how: Any) -> FileConnection:
            file = FileConnection(at, BusyWait(0.0), how.pop("continuity", Continuity(at, lambda: 77.0)), **how)
            stack.callback(file.close)
            return file

        yield open_once


@pytest.fixture
def file(open_file: Open) -> FileConnection:
    """Return the file, open and empty."""
    return open_file()


@contextlib.contextmanager
def transaction(file: FileConnection, *read_ahead: str) -> Iterator[None]:
    """Begin a transaction, read these rows ahead, and commit at the end of the block."""
    file.begin()
    file.read_ahead((ACCOUNT, foreign_id) for foreign_id in read_ahead)
    yield
    file.write()
    file.commit()


def learn(file: FileConnection, foreign_id: str, *evidence: Evidence) -> Row:
    """Gather a change of a row within a transaction, and return the row."""
    row, _ = file.change((ACCOUNT, foreign_id), learning(foreign_id, *evidence))
    return row


def record(file: FileConnection, foreign_id: str, *evidence: Evidence) -> Row:
    """Change a row in a transaction of its own."""
    with transaction(file, foreign_id):
        return learn(file, foreign_id, *evidence)


def found(file: FileConnection, foreign_id: str) -> Row | None:
    """Return the row as the file has it."""
    placed = file.rows.find(ACCOUNT, foreign_id)
    return None if placed is None else placed[1]


@contextlib.contextmanager
def traced(file: FileConnection) -> Iterator[list[str]]:
    """Give the list of the statements that run on the connection within the block."""
    seen: list[str] = []
    file.rows.connection.set_trace_callback(seen.append)
    yield seen
    file.rows.connection.set_trace_callback(None)


def count(statements: list[str], begin: str) -> int:
    """Return how many statements begin like this."""
    return sum(statement.lstrip().startswith(begin) for statement in statements)


# ── changes gather ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_changes_gather_until_they_are_written(file: FileConnection, open_file: Open) -> None:
    """Other connections to the file see the rows only after the commit."""
    other = open_file()
    file.begin()
    file.read_ahead((ACCOUNT, name) for name in "abc")
    for name in "abc":
        assert learn(file, name, asked(name)).foreign_id == name
    assert found(file, "a") is None
    file.write()
    assert found(file, "a") is not None
    assert found(other, "a") is None
    file.commit()
    assert [found(other, name) is not None for name in "abc"] == [True] * 3
    with traced(file) as seen:
        file.write()
    assert seen == []


def test_undo_forgets_what_was_not_committed(file: FileConnection) -> None:
    """The changes that had gathered, the written ones, and the epoch; it may be called outside of any transaction."""
    record(file, "old", asked("old"))
    file.begin()
    file.raise_epoch(1, 5.0)
    learn(file, "written", asked("written"))
    file.write()
    learn(file, "gathered", asked("gathered"))
    learn(file, "old", LOST)
    assert file.epoch.number == 1
    file.undo()
    file.undo()
    assert file.epoch.number == 0
    with transaction(file):
        assert learn(file, "old", LOST).attempts == 1
    assert found(file, "written") is None
    assert found(file, "gathered") is None


@pytest.mark.parametrize(
    "story",
    [
        [[asked("a")], [REFUSED], [asked("a", "2", worker="other")], [LOST]],
        [[asked("a")], [Released("worker", "queue"), asked("a", "2", worker="other")], [LOST]],  # open all the time
    ],
)
def test_what_happens_to_a_row_in_one_transaction_happens_in_order(
    file: FileConnection, open_file: Open, story: list[list[Evidence]]
) -> None:
    """A row that is new, given back, corrected and in doubt in one commit equals a row that took one commit for each."""
    with transaction(file, "a", "b"):
        learn(file, "b", asked("b"), accepted("b"))
        for evidence in story:
            learn(file, "a", *evidence)
        learn(file, "b", asked("b"))
    row, paid = found(file, "a"), found(file, "b")
    assert row is not None
    assert paid is not None
    assert ([one.number for one in row.earlier], row.revision.number, row.state) == ([1], 2, "open")
    assert (row.earlier[0].body, row.revision.body) == (asked("a").revision.body, asked("a", "2").revision.body)
    assert (paid.state, paid.withdrawal and paid.withdrawal.id) == ("accepted", "id of b")
    one_by_one = open_file(file.path.with_name("one by one.db"))
    for evidence in story:
        record(one_by_one, "a", *evidence)
    assert file.rows.history(ACCOUNT, "a") == one_by_one.rows.history(ACCOUNT, "a")
    assert same(row, found(one_by_one, "a"))


def test_a_row_that_stays_as_it_is_is_not_written(file: FileConnection) -> None:
    """A change that returns the row it was given, and no line, costs a look."""
    row = record(file, "f", asked("f"))
    with traced(file) as seen, transaction(file, "f"):
        assert file.change((ACCOUNT, "f"), left_alone)[0] is row
    assert (count(seen, "update"), count(seen, "insert"), count(seen, "commit")) == (0, 0, 1)


# ── what is remembered, and what is read ahead ───────────────────────────────────────────────────────────────────────


def test_an_open_row_is_not_read_again(file: FileConnection) -> None:
    """A settled row is: it rarely changes any more."""
    record(file, "open", asked("open"))
    record(file, "settled", asked("settled"), accepted("settled"))
    with traced(file) as seen, transaction(file, "open"):
        learn(file, "open", LOST)
        assert count(seen, "select id, body") == 0
        learn(file, "settled", LOST)
        assert count(seen, "select id, body") == 1


def test_what_is_remembered_is_forgotten_when_another_process_has_written(
    file: FileConnection, open_file: Open
) -> None:
    """Both change the same row, and no attempt is lost."""
    other = open_file()
    record(file, "f", asked("f"))
    for attempts, one in enumerate((other, file, file, other), start=1):
        assert record(one, "f", LOST).attempts == attempts


def test_no_more_rows_are_remembered_than_the_bound(open_file: Open) -> None:
    """The row whose change is longest ago is read again."""
    file = open_file(remembered=2)
    for name in "abc":
        record(file, name, asked(name))
    with traced(file) as seen, transaction(file):
        for name in "cb":
            learn(file, name, LOST)
        assert count(seen, "select id, body") == 0
        assert learn(file, "a", LOST).attempts == 1
        assert count(seen, "select id, body") == 1


def test_rows_that_others_wrote_are_read_in_one_go(file: FileConnection, open_file: Open) -> None:
    """One query returns all of them, and each is changed in its place, beside new ones."""
    other = open_file()
    for name in "abc":
        record(other, name, asked(name))
    with traced(file) as seen, transaction(file, *"abcd"):
        assert [learn(file, name, asked(name), LOST).attempts for name in "abcd"] == [1] * 4
    assert count(seen, "select id, body") == 1
    assert file.rows.totals(ACCOUNT)["BTC"].requested == 4


def test_where_one_row_cannot_be_read_each_is_read_by_itself(file: FileConnection, open_file: Open) -> None:
    """The change of that row alone fails."""
    other = open_file()
    for name in ("newer", "old"):
        record(other, name, asked(name))
    with contextlib.closing(sqlite3.connect(file.path)) as newer, newer:
        newer.execute(
            "update withdrawals set rest = json_set(cast(rest as text), '$.new_in_02', 1) where foreign_id = 'newer'"
        )
    with transaction(file, "newer", "old"):
        with pytest.raises(UnreadableRow):
            learn(file, "newer", LOST)
        assert learn(file, "old", LOST).attempts == 1


def test_what_is_dropped_is_read_from_the_file_again(file: FileConnection, open_file: Open) -> None:
    """A row that was forgotten in the file is not brought back by what was remembered or read ahead of it."""
    result = Transaction(id="id of f", foreign_id="f", status="confirmed", error="to bc1q-made-up")
    record(open_file(), "f", asked("f"), accepted("f"), CalledBack(result, ReplyExcerpt()))
    again = CalledBack(Transaction(id="id of f", foreign_id="f", status="confirmed"), ReplyExcerpt())
    with transaction(file, "f", "g"):
        placed = file.rows.find(ACCOUNT, "f")
        assert placed is not None
        file.rows.forget(placed[0], buried(placed[1])[0], keeps_history=False)
        file.drop((ACCOUNT, "f"))
        learn(file, "f", again)
    row = found(file, "f")
    assert row is not None
    assert row.attempts == 0
    assert (row.transaction and row.transaction.error) is None


def test_a_remembered_row_that_is_dropped_is_read_from_the_file_again(file: FileConnection) -> None:
    """A statement has changed it there."""
    row = record(file, "f", asked("f"))
    with transaction(file):
        file.rows.update([(1, replace(row, attempts=5))])
        file.drop((ACCOUNT, "f"))
        assert learn(file, "f", LOST).attempts == 6


def test_only_what_was_asked_for_is_read_ahead(file: FileConnection) -> None:
    """SQLite ends a JSON text at a NUL: the row that it names then is another one, and was read too early."""
    record(file, "f", asked("f"), REFUSED)  # settled: not remembered

    def begin(known: Row | None) -> tuple[Row, Sequence[Entry]]:
        return known or new_row(ACCOUNT, "f\0", asked("f"), 0.0, is_durable=True), ()

    with transaction(file, "f\0", "g"):
        assert file.change((ACCOUNT, "f\0"), begin)[0].foreign_id == "f\0"
        learn(file, "f", asked("f"), LOST)
        assert learn(file, "f", LOST).attempts == 3


# ── claims ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_claim_takes_fresh_rows_and_can_be_made_again(file: FileConnection) -> None:
    """The next change of a claimed row begins with the claim; the same claim returns the same rows."""
    claim = Claim("worker", 1, "key", 5.0, 9)
    with transaction(file):
        file.rows.enlist("worker", FAR, None)
        for number, name in enumerate("ab", start=1):
            file.change((ACCOUNT, name), learning(name, asked(name, worker=None), now=float(number)))
        file.write()
        claimed = file.claim(ACCOUNT, claim)
        assert claimed is not None
        assert (names(claimed.rows), claimed.last_due_at) == (["a", "b"], 2.0)
        assert learn(file, "a", LOST).claim == 1
    assert names(file.rows.find_held("worker", 9)) == ["a", "b"]
    with transaction(file):
        changes = file.rows.connection.total_changes
        again = file.claim(ACCOUNT, claim)
        assert file.rows.connection.total_changes == changes + 1  # stored once more: it may never have been flushed
        assert again is not None
        assert (names(again.rows), again.last_due_at) == (["a", "b"], claim.after)
        assert file.claim(ACCOUNT, Claim("worker", 2, "key", 5.0, 9, after=3.0)) == ([], 3.0)


def test_what_was_read_ahead_does_not_come_back_after_a_claim(file: FileConnection, open_file: Open) -> None:
    """A row that was read ahead, claimed and settled in one transaction is settled for the change after that."""
    with transaction(file):
        file.rows.enlist("worker", FAR, None)
        for name in "ab":
            learn(file, name, asked(name, worker=None))
    other = open_file()
    with transaction(other, "a", "b"):
        assert other.claim(ACCOUNT, Claim("worker", 1, "key", 5.0, 9)) is not None
        assert learn(other, "a", accepted("a")).state == "accepted"
        assert learn(other, "a", LOST).state == "accepted"
    settled = found(file, "a")
    assert settled is not None
    assert settled.state == "accepted"


def test_a_claim_needs_a_lease_that_runs(file: FileConnection) -> None:
    """A worker that is not on the list takes nothing."""
    with transaction(file):
        assert file.claim(ACCOUNT, Claim("stranger", 1, "key", 5.0, 9)) is None


# ── commits ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_commit_waits_for_readers_and_names_them(file: FileConnection) -> None:
    """With a rollback journal, a reader that stays is an error of its own; any other error is raised as it is."""
    file.rows.connection.execute("pragma journal_mode = truncate")
    with contextlib.closing(sqlite3.connect(file.path, isolation_level=None)) as reader:
        reader.execute("begin")
        reader.execute("select * from accounts").fetchall()
        file.begin()
        learn(file, "f", asked("f"))
        file.write()
        with pytest.raises(HeldByReader):
            file.commit()
    file.undo()
    with pytest.raises(sqlite3.OperationalError, match="no transaction is active") as caught:
        file.commit()
    assert type(caught.value) is sqlite3.OperationalError


def test_a_row_stands_only_with_all_of_its_lines(file: FileConnection, open_file: Open) -> None:
    """The file has the row as it was committed, and each of its lines; it is written once more then."""
    file.begin()
    row, lines = file.change((ACCOUNT, "f"), learning("f", asked("f"), LOST))
    name = (ACCOUNT, "f")
    assert not file.stands(name, row, lines)
    file.write()
    file.commit()
    file.begin()
    with traced(file) as seen:
        assert not file.stands(name, replace(row, attempts=2), lines)
        assert not file.stands(name, row, [replace(lines[0], what="sent by another")])
        assert not file.stands(name, row, [*lines, replace(lines[0], number=9)])
        assert count(seen, "update") == 0
        assert file.stands(name, row, lines)
        assert count(seen, "update") == 1
    file.commit()
    assert same(found(open_file(), "f"), row)


# ── epochs ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_an_epoch_is_raised_and_declared_equal(file: FileConnection, open_file: Open) -> None:
    """The connection has the epoch at once, and rows that it remembered are of the epoch to which they were counted."""
    record(file, "f", asked("f"))
    with transaction(file):
        assert file.raise_epoch(1, 5.0).number == 1
    with transaction(file):
        assert learn(file, "f", LOST).epoch == 0
        file.write()
        assert file.rows.count_frozen(ACCOUNT) == 1
        assert file.equate_epochs(Entry(60.0, "unfrozen", "nothing was lost")) == 1
        assert learn(file, "f", LOST).epoch == 1
    assert file.rows.count_frozen(ACCOUNT) == 0


def test_an_epoch_that_another_process_began_is_read_with_its_writes(file: FileConnection, open_file: Open) -> None:
    """It holds also where this transaction is undone."""
    other = open_file()
    record(other, "f", asked("f"))
    with transaction(file):
        raised = file.raise_epoch(1, 5.0)
    assert other.epoch.number == 0
    other.begin()
    assert other.epoch == raised
    other.undo()
    assert other.epoch == raised


def test_a_line_that_was_undone_is_not_missed(file: FileConnection, open_file: Open) -> None:
    """Only the absence of a line that was committed shows that the file was replaced by an older one."""
    other = open_file()
    file.begin()
    learn(file, "f", asked("f"), LOST)
    file.undo()
    for one in (file, other, file):
        record(one, "f", asked("f"))
    assert file.epoch.number == 0


def test_an_older_copy_begins_another_epoch(
    path: Path, tmp_path: Path, open_file: Open, caplog: pytest.LogCaptureFixture
) -> None:
    """Copied over the file in use; the epoch is gone again if that transaction is undone, and the log says why it began."""
    file = open_file()
    record(file, "kept", asked("kept"), LOST)
    shutil.copyfile(path, tmp_path / "backup.db")
    record(file, "lost", asked("lost"), LOST)
    shutil.copyfile(tmp_path / "backup.db", path)
    file.begin()
    assert file.epoch.number == 1
    file.undo()
    assert file.epoch.number == 0
    with transaction(file):
        assert (file.epoch.number, file.epoch.since) == (1, 77.0)
        assert learn(file, "lost", asked("lost"), LOST).attempts == 1
    assert f"The journal {str(path)!r} lacks what this process recorded in it" in caplog.text


def test_a_retired_file_begins_no_transaction(file: FileConnection) -> None:
    """It was closed for good, and every later transaction fails."""
    record(file, "f", asked("f"))
    file.begin()
    file.retire()
    with pytest.raises(sqlite3.OperationalError):
        file.begin()


# ── the log ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_the_log_is_emptied_unless_another_process_reads_it(file: FileConnection, path: Path) -> None:
    """A reader, who may take long, is not waited for; later writers wait for each other as before."""
    file.rows.connection.execute("pragma journal_mode = wal")
    record(file, "f", asked("f"))
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("begin")
        reader.execute("select count(*) from withdrawals").fetchone()
        record(file, "g", asked("g"))
        assert not file.wipe()
    assert file.wipe()
    assert path.with_name("payouts.db-wal").stat().st_size == 0
    assert file.rows.connection.execute("pragma busy_timeout").fetchone() == (250,)
