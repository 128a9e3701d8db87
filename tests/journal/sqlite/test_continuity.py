"""A journal's file that is moved, deleted, replaced or overwritten while it is in use: the error says which."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from alphapo_async.core.errors import JournalError
from alphapo_async.core.row import is_frozen
from alphapo_async.journal.sqlite.busy import BusyWait
from alphapo_async.journal.sqlite.continuity import Continuity, FileId, place_of
from alphapo_async.journal.sqlite.file import APPLICATION, connect
from alphapo_async.journal.sqlite.journal import SqliteJournal
from alphapo_async.journal.sqlite.rows import SqliteRows
from tests.support.journal_suite import ACCOUNT, asked, learn, pay

FAR = 1e10


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give the place of the journal."""
    return tmp_path / "payouts.db"


@pytest.fixture
async def journal(path: Path) -> AsyncIterator[SqliteJournal]:
    """Give a journal in use: a worker has joined, and a withdrawal is recorded."""
    opened = SqliteJournal(path, clock=lambda: 77.0)
    await opened.join(ACCOUNT, "host", "worker", FAR)
    await pay(opened, "before")
    yield opened
    await opened.aclose()


async def another(path: Path, account: str = ACCOUNT) -> Path:
    """Make another journal, with a withdrawal of its own."""
    other = SqliteJournal(path)
    await other.join(account, "host", "another worker", FAR)
    await pay(other, "theirs")
    await other.leave("another worker", 5.0)
    await other.aclose()
    return path


async def error_of(journal: SqliteJournal) -> str:
    """Return what a call that writes and one that reads are told, which is the same."""
    with pytest.raises(JournalError) as writing:
        await learn(journal, "after", asked("after"))
    with pytest.raises(JournalError) as reading:
        await journal.find(ACCOUNT, "before")
    assert str(writing.value) == str(reading.value)
    assert writing.value.recorded is None
    return str(writing.value)


async def test_a_file_that_was_moved_is_named(journal: SqliteJournal, path: Path, tmp_path: Path) -> None:
    """Nothing is written under either name; once it is back, the journal works."""
    path.rename(tmp_path / "elsewhere.db")
    assert f"was moved to '{tmp_path / 'elsewhere.db'}' while it was in use, and nothing was written" in await error_of(
        journal
    )
    assert not path.exists()
    (tmp_path / "elsewhere.db").rename(path)
    await learn(journal, "after", asked("after"))
    assert await journal.find(ACCOUNT, "before") is not None
    assert journal.epoch.number == 0


async def test_a_folder_that_was_moved_is_named(tmp_path: Path) -> None:
    """As the file itself."""
    (tmp_path / "data").mkdir()
    journal = SqliteJournal(tmp_path / "data" / "payouts.db")
    await pay(journal, "before")
    (tmp_path / "data").rename(tmp_path / "other")
    assert f"was moved to '{tmp_path / 'other' / 'payouts.db'}'" in await error_of(journal)
    await journal.aclose()


async def test_a_file_that_was_deleted_can_still_be_copied(journal: SqliteJournal, path: Path, tmp_path: Path) -> None:
    """The error says from where; put in its place, the copy is the journal, and nothing was lost."""
    path.unlink()
    result = await error_of(journal)
    assert "was deleted while it was in use" in result
    assert f"process {os.getpid()} still holds its content" in result
    for each in Path("/proc/self/fd").iterdir():
        if each.is_symlink() and str(each.readlink()).startswith(f"{path} "):
            (tmp_path / "copy").write_bytes(each.read_bytes())
    (tmp_path / "copy").rename(path)
    await learn(journal, "after", asked("after"))
    assert await journal.find(ACCOUNT, "before") is not None
    assert journal.epoch.number == 0


async def test_a_file_that_was_replaced_is_opened_and_has_gone_back(
    journal: SqliteJournal, path: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Another journal of the same account lacks what this process has recorded: what is open in it is frozen."""
    other = SqliteJournal(tmp_path / "other.db")
    await other.join(ACCOUNT, "host", "another worker", FAR)
    await learn(other, "theirs", asked("theirs"))
    await other.aclose()
    (tmp_path / "other.db").replace(path)
    assert await journal.find(ACCOUNT, "before") is None
    await learn(journal, "after", asked("after"))
    assert (journal.epoch.number, journal.epoch.since) == (1, 77.0)
    theirs = await journal.find(ACCOUNT, "theirs")
    assert theirs is not None
    assert is_frozen(theirs)
    assert not await journal.renew("worker", FAR, 5.0)
    assert "lacks what this process recorded in it" in caplog.text


async def test_of_two_processes_one_begins_the_epoch(journal: SqliteJournal, path: Path, tmp_path: Path) -> None:
    """Whoever comes second sees that it has begun."""
    second = SqliteJournal(path)
    await pay(second, "second")
    await journal.raise_epoch(1.0)
    await pay(second, "second again")
    shutil.copyfile(await another(tmp_path / "other.db"), tmp_path / "new.db")
    (tmp_path / "new.db").replace(path)
    await learn(journal, "after", asked("after"))
    await learn(second, "after, too", asked("after, too"))
    assert journal.epoch == second.epoch
    assert journal.epoch.number == 2
    await second.aclose()


async def test_a_file_that_was_replaced_by_another_accounts_is_refused(
    journal: SqliteJournal, path: Path, tmp_path: Path
) -> None:
    """Until the right one is in its place."""
    path.rename(tmp_path / "kept.db")
    (await another(tmp_path / "other.db", "another account")).rename(path)
    assert "was replaced by the journal of another account (this process works for" in await error_of(journal)
    assert "was replaced by the journal of another account" in await error_of(journal)
    (tmp_path / "kept.db").replace(path)
    await learn(journal, "after", asked("after"))
    assert await journal.find(ACCOUNT, "before") is not None


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "was replaced by an empty file"), (b"hello" * 100, "it is not a SQLite database")]
)
async def test_a_file_that_was_replaced_by_none_is_refused(
    journal: SqliteJournal, path: Path, content: bytes, message: str
) -> None:
    """And left as it is."""
    path.unlink()
    path.write_bytes(content)
    assert message in await error_of(journal)
    assert path.read_bytes() == content


async def test_a_replaced_file_is_not_opened_beside_a_write_ahead_log(
    journal: SqliteJournal, path: Path, tmp_path: Path
) -> None:
    """The log belongs to the name, and the new file would take it for its own."""
    await journal._ask(lambda file: file.rows.connection.execute("pragma journal_mode = wal").fetchone())
    (await another(tmp_path / "other.db")).replace(path)
    assert "whose names end with -wal and -shm" in await error_of(journal)


async def test_a_backup_copied_over_a_file_in_use_is_noticed(
    journal: SqliteJournal, path: Path, tmp_path: Path
) -> None:
    """The same file under the same name, with less in it: another epoch begins."""
    await journal.backup(tmp_path / "backup.db")
    await pay(journal, "lost")
    shutil.copyfile(tmp_path / "backup.db", path)
    await learn(journal, "after", asked("after"))
    assert journal.epoch.number == 1
    assert await journal.find(ACCOUNT, "lost") is None


async def test_another_content_in_the_same_file_is_refused(journal: SqliteJournal, path: Path, tmp_path: Path) -> None:
    """Another account's journal, or a database that is none."""
    shutil.copyfile(await another(tmp_path / "other.db", "another account"), path)
    with pytest.raises(JournalError, match="was overwritten in place by the journal of another account"):
        await learn(journal, "after", asked("after"))
    with contextlib.closing(sqlite3.connect(tmp_path / "none.db")) as none:
        for number in range(30):
            none.execute(f"create table t{number} (a)")
        none.commit()
    shutil.copyfile(tmp_path / "none.db", path)
    with pytest.raises(JournalError, match="was overwritten in place by a database that is not a journal"):
        await learn(journal, "after", asked("after"))


def test_what_was_undone_is_no_witness(path: Path) -> None:
    """Only what was committed must be there."""
    continuity = Continuity(path, lambda: 77.0)
    with contextlib.closing(connect(path, wait=BusyWait())) as connection:
        rows = SqliteRows(connection)
        continuity.opened({})
        continuity.recorded("shop", "f", 1)
        continuity.undone()
        continuity.committed(rows.epoch())
        assert not continuity.check_content(rows, APPLICATION)
        continuity.recorded("shop", "f", 1)
        continuity.committed(rows.epoch())
        assert continuity.check_content(rows, APPLICATION)


def test_where_the_system_does_not_show_open_files_both_are_possible(path: Path, tmp_path: Path) -> None:
    """Moved or deleted."""
    continuity = Continuity(path, lambda: 77.0, tmp_path / "no such folder")
    assert continuity.is_same_file()
    connect(path, wait=BusyWait()).close()
    continuity.opened({})
    path.unlink()
    with pytest.raises(JournalError, match="was moved or deleted while it was in use"):
        continuity.is_same_file()
    assert place_of(FileId(0, 0)) is None
