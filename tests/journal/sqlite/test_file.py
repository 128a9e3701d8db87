"""The journal's file: made well, and refused in a sentence where it cannot be trusted."""

from __future__ import annotations

import contextlib
import gc
import logging
import os
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import TypeVar

import pytest

from alphapo_async.core.errors import JournalError
from alphapo_async.journal.schema_version import SCHEMA
from alphapo_async.journal.sqlite import file as sqlite_file
from alphapo_async.journal.sqlite.busy import BusyWait
from alphapo_async.journal.sqlite.faults import journal_error
from alphapo_async.journal.sqlite.file import (
    APPLICATION,
    connect,
    copy_into,
    is_wal_safe,
    lose,
)
from tests.support.mounts import make_read_only, mounted
from tests.support.processes import die_in_a_commit

T = TypeVar("T")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give the place of a file that is not there yet."""
    return tmp_path / "payouts.db"


def test_a_new_file_is_made_and_marked(path: Path) -> None:
    """Its owner's alone, with the mark and the schema's number, which stay what they are in every file there is."""
    assert (APPLICATION.to_bytes(4, "big"), SCHEMA) == (b"ALPA", 1)
    with contextlib.closing(connect(path)) as connection:
        assert connection.execute("pragma application_id").fetchone() == (APPLICATION,)
        assert connection.execute("pragma user_version").fetchone() == (SCHEMA,)
        assert connection.execute("pragma temp_store").fetchone() == (2,)  # in memory: no body in a stray file
    assert path.stat().st_mode & 0o777 == 0o600


def test_an_existing_journal_is_opened_as_it_is(path: Path) -> None:
    """Tables and rows stay."""
    first = connect(path)
    first.execute("insert into accounts values ('a', 'h')")
    first.close()
    again = connect(path)
    assert again.execute("select * from accounts").fetchall() == [("a", "h")]
    again.close()


def test_an_empty_file_becomes_a_journal(path: Path) -> None:
    """As `mktemp` makes it."""
    path.touch()
    connect(path).close()
    assert path.stat().st_size > 0


def test_commits_reach_the_disk(path: Path) -> None:
    """A write-ahead log only where SQLite's bug is mended; a rollback journal otherwise, whose end is flushed too."""
    connection = connect(path)
    mode = connection.execute("pragma journal_mode").fetchone()[0]
    synchronous = connection.execute("pragma synchronous").fetchone()[0]
    assert (mode, synchronous) == ("wal" if is_wal_safe(sqlite3.sqlite_version_info) else "truncate", 2)
    connection.close()


@pytest.mark.parametrize(
    ("version", "is_safe"),
    [
        ((3, 40, 1), False),
        ((3, 44, 5), False),
        ((3, 44, 6), True),
        ((3, 45, 0), False),
        ((3, 50, 6), False),
        ((3, 50, 7), True),
        ((3, 51, 0), False),
        ((3, 51, 2), False),
        ((3, 51, 3), True),
        ((3, 52, 0), True),
    ],
)
def test_the_bug_is_known_by_the_version(version: tuple[int, int, int], *, is_safe: bool) -> None:
    """Fixed in 3.51.3, and in two older lines."""
    assert is_wal_safe(version) is is_safe


# ── two versions of SQLite on one file, as in a rolling change of images ──────────────────────────────────────────────

OLD, NEW = (3, 40, 1), (3, 51, 3)


def opened_by(path: Path, version: tuple[int, ...]) -> sqlite3.Connection:
    """Open the file as a process with this SQLite does."""
    connection = sqlite3.connect(path, timeout=0, isolation_level=None)
    try:
        sqlite_file._set_up(connection, BusyWait(0.0), version)
    except sqlite3.Error:
        connection.close()
        raise
    return connection


def mode_of(connection: sqlite3.Connection) -> str:
    """Return the journal mode in which a connection writes now."""
    connection.execute("insert or replace into accounts values ('a', 'h')")
    return str(connection.execute("pragma journal_mode").fetchone()[0])


def test_a_new_file_gets_the_mode_that_its_sqlite_can_be_trusted_with(tmp_path: Path) -> None:
    """A write-ahead log is faster."""
    for version, mode in ((OLD, "truncate"), (NEW, "wal")):
        with contextlib.closing(opened_by(tmp_path / mode, version)) as connection:
            assert mode_of(connection) == mode


def test_a_newer_sqlite_leaves_the_mode_of_a_file_as_it_is(path: Path) -> None:
    """An older one may have it open, and would write a log that it may lose."""
    with contextlib.closing(opened_by(path, OLD)) as old, contextlib.closing(opened_by(path, NEW)) as new:
        assert [mode_of(one) for one in (old, new, old)] == ["truncate"] * 3


def test_an_older_sqlite_is_refused_beside_a_log_that_it_may_lose(path: Path) -> None:
    """With the cause; once it is alone it takes the file over, for all that follow."""
    with contextlib.closing(opened_by(path, NEW)) as new:
        with pytest.raises(sqlite3.OperationalError) as caught:
            opened_by(path, OLD)
        said = journal_error(path, caught.value).detail
        assert mode_of(new) == "wal"
    assert "the SQLite of this process (3.40.1) may lose commits. End the other process first" in said
    with contextlib.closing(opened_by(path, OLD)) as old, contextlib.closing(opened_by(path, NEW)) as new:
        assert [mode_of(one) for one in (old, new)] == ["truncate"] * 2


def test_a_file_that_is_locked_for_another_reason_is_busy(path: Path) -> None:
    """Not every lock is another version."""
    connect(path).close()
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("pragma journal_mode = truncate")
        other.execute("begin exclusive")
        with pytest.raises(sqlite3.OperationalError, match="database is locked"):
            opened_by(path, OLD)


class LockedOtherwise(BusyWait):
    """Has another process lock the file at all times but while something waits for it."""

    def __init__(self, other: sqlite3.Connection) -> None:
        super().__init__()
        self._other = other
        self._lock()

    def run(self, work: Callable[[], T]) -> T:
        """Let the work have the file."""
        if self._other.in_transaction:
            self._other.execute("rollback")
        try:
            return super().run(work)
        finally:
            self._lock()

    def _lock(self) -> None:
        with contextlib.suppress(sqlite3.OperationalError):  # within a transaction of the journal's own
            self._other.execute("begin exclusive")


def test_all_that_opening_reads_waits_for_other_processes(path: Path) -> None:
    """Many that open one file at once get in each other's way for longer than one wait of SQLite's own."""
    connect(path).close()
    with contextlib.closing(sqlite3.connect(path, timeout=0.0, isolation_level=None)) as other:
        other.execute("pragma journal_mode = truncate")
        wait = LockedOtherwise(other)
        with contextlib.closing(connect(path, wait)) as opened:
            other.execute("rollback")
            assert mode_of(opened) == "truncate"


def test_a_place_that_does_not_keep_a_journal_is_warned_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """At each opening."""
    with mounted(tmp_path):
        for _ in range(2):
            connect(tmp_path / "payouts.db").close()
        connect(tmp_path / "payouts.db", any_filesystem=True).close()
    assert [record.levelname for record in caplog.records if record.levelno >= logging.WARNING] == ["WARNING"] * 2
    assert "is on a file system in memory (tmpfs)" in caplog.text


def test_tables_are_made_all_or_none(path: Path) -> None:
    """What stops half way leaves an empty file, which the next opening makes a journal of."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.set_authorizer(lambda action, *_: 1 if action == sqlite3.SQLITE_CREATE_INDEX else 0)
    with pytest.raises(sqlite3.DatabaseError):
        sqlite_file._set_up(connection, BusyWait())
    assert not connection.in_transaction
    connection.close()
    connect(path).close()


# ── what is no journal ───────────────────────────────────────────────────────────────────────────────────────────────


def refused(path: Path) -> str:
    """Return the words with which a file is refused; not a byte of it is changed."""
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(JournalError) as caught:
        connect(path)
    assert (path.read_bytes() if path.is_file() else b"") == before
    assert str(path) in str(caught.value) or str(path.parent) in str(caught.value)
    assert caught.value.recorded is None
    return str(caught.value)


def test_a_folder_that_is_missing_is_told(tmp_path: Path) -> None:
    """It is not made: a wrong name must not begin a new journal."""
    folder = tmp_path / "nowhere"
    assert "its folder does not exist. Make it, or name another file. " in refused(folder / "payouts.db")


def test_many_processes_may_open_a_journal_that_none_of_them_has_made_yet(tmp_path: Path) -> None:
    """Each opens the same journal: none takes a file in the making for another program's."""

    def open_at_once(path: Path) -> None:
        start.wait()
        connect(path).close()

    start = Barrier(4)
    with ThreadPoolExecutor(4) as threads:
        for number in range(15):
            list(threads.map(open_at_once, [tmp_path / f"{number}.db"] * 4))


def test_a_file_in_the_making_is_not_taken_for_another_program_s(path: Path) -> None:
    """SQLite writes a first page when a file is given a write-ahead log, before the tables are made."""
    with contextlib.closing(sqlite3.connect(path)) as made:
        made.execute("pragma journal_mode = wal")
        assert path.stat().st_size > 0
        connect(path).close()


def test_another_kind_of_file_is_refused(path: Path) -> None:
    """A text, and a database of somebody else."""
    path.write_text("foreign_id,amount\n" * 100)
    assert "not a SQLite database" in refused(path)
    path.unlink()
    other = sqlite3.connect(path)
    other.execute("create table customers (name)")
    other.commit()
    other.close()
    assert "is not a journal of this library" in refused(path)


def test_a_database_of_somebody_else_that_holds_nothing_yet_is_refused(path: Path) -> None:
    """It is somebody's, though it has no tables."""
    other = sqlite3.connect(path)
    other.execute("pragma user_version = 7")
    other.close()
    before = path.read_bytes()
    text = "is not a journal of this library. Name another file. Nothing in it was changed."
    assert refused(path).startswith(f"The journal {str(path)!r}: it {text}")
    assert path.read_bytes() == before != b""


def test_what_is_written_over_leaves_nothing_behind(path: Path) -> None:
    """However SQLite was built: a withdrawal that is forgotten is not found in the file."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("pragma secure_delete = off")
    sqlite_file._set_up(connection, BusyWait())
    assert connection.execute("pragma secure_delete").fetchone() == (1,)
    connection.close()


def test_a_newer_schema_is_refused_where_this_release_cannot_use_it(path: Path) -> None:
    """By number and release, with what to do."""
    with contextlib.closing(connect(path)) as connection:
        connection.execute(f"pragma user_version = {SCHEMA + 2}")
        connection.execute(f"update journal set readable_from = {SCHEMA + 1}, needs_release = '0.2.0'")
    text = "its schema is 3, for alphapo-async 0.2.0 and newer; this release knows 1). Use that release. Nothing in it was changed. "
    assert refused(path).startswith(f"The journal {str(path)!r}: it was written by a newer release ({text}")


def test_a_newer_schema_that_was_only_added_to_is_used_with_a_warning(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The file keeps the newer number."""
    with contextlib.closing(connect(path)) as connection:
        connection.execute(f"pragma user_version = {SCHEMA + 1}")
    with contextlib.closing(connect(path)) as connection:
        assert connection.execute("pragma user_version").fetchone() == (SCHEMA + 1,)
    assert f"its schema is {SCHEMA + 1}, this release knows {SCHEMA}" in caplog.text


def test_a_damaged_header_is_refused(path: Path) -> None:
    """The first bytes are gone."""
    connect(path).close()
    path.write_bytes(b"\0" * 100 + path.read_bytes()[100:])
    assert "not a SQLite database" in refused(path)


def test_a_damaged_schema_is_refused(path: Path) -> None:
    """The first page is garbage after its header."""
    connect(path).close()
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + b"\xfe" * 3_996 + whole[4_096:])
    assert "is damaged" in refused(path)


def written(path: Path, mode: str) -> None:
    """Make a journal with an account in it, in this journal mode."""
    with contextlib.closing(connect(path)) as connection:
        connection.execute(f"pragma journal_mode = {mode}")
        connection.execute("insert into accounts values ('a', 'h')")


@pytest.mark.parametrize("mode", ["truncate", "wal"])
def test_a_file_on_a_read_only_mount_can_be_read(tmp_path: Path, mode: str) -> None:
    """By a connection that says it will write nothing; in both journal modes, and under a name that a URL has to escape, byte by byte."""
    with mounted(tmp_path):
        path = tmp_path / os.fsdecode(b"pay?outs #1 M\xe4rz.db")
        written(path, mode)
        make_read_only(tmp_path)
        with contextlib.closing(connect(path, reads_only=True)) as connection:
            assert connection.execute("select * from accounts").fetchall() == [("a", "h")]
            with pytest.raises(sqlite3.OperationalError, match="readonly"):
                connection.execute("insert into accounts values ('b', 'h')")
        with pytest.raises(JournalError, match="mounted read-only"):
            connect(path)


def test_a_file_that_was_cut_off_is_not_read_where_that_cannot_be_undone(tmp_path: Path) -> None:
    """Half a transaction stands in it."""
    with mounted(tmp_path):
        path = tmp_path / "payouts.db"
        written(path, "delete")
        die_in_a_commit(path)
        make_read_only(tmp_path)
        with pytest.raises(JournalError, match="its last transaction was cut off"):
            connect(path, reads_only=True)


def test_a_file_that_is_no_journal_is_none_on_a_read_only_mount_either(tmp_path: Path) -> None:
    """Whoever only reads is told, too."""
    with mounted(tmp_path):
        with contextlib.closing(sqlite3.connect(tmp_path / "other.db")) as other:
            other.execute("create table customers (name)")
        make_read_only(tmp_path)
        with pytest.raises(JournalError, match="is not a journal of this library"):
            connect(tmp_path / "other.db", reads_only=True)


def test_a_folder_in_its_place_is_refused(path: Path) -> None:
    """It cannot be opened."""
    path.mkdir()
    assert "it is a folder. Name a file in it" in refused(path)


def test_a_copy_is_whole_and_its_owner_s_alone(path: Path, tmp_path: Path) -> None:
    """Into a new file, or an empty one; never over another."""
    target = tmp_path / "copy.db"
    with contextlib.closing(connect(path)) as connection:
        connection.execute("insert into accounts values ('a', 'h')")
        copy_into(connection, target, BusyWait())
        with pytest.raises(JournalError, match="exists"):
            copy_into(connection, target, BusyWait())
        with pytest.raises(JournalError, match="cannot be"):
            copy_into(connection, tmp_path / "nowhere" / "copy.db", BusyWait())
    with contextlib.closing(connect(target)) as copied:
        assert copied.execute("select * from accounts").fetchall() == [("a", "h")]
    assert target.stat().st_mode & 0o777 == 0o600


def test_a_copy_that_breaks_off_leaves_no_file(tmp_path: Path) -> None:
    """So that the same copy can be made once the trouble is over."""
    connection = sqlite3.connect(tmp_path / "payouts.db")
    connection.close()
    with pytest.raises(sqlite3.ProgrammingError):
        copy_into(connection, tmp_path / "copy", BusyWait())
    assert not (tmp_path / "copy").exists()


def test_a_new_journal_beside_the_locks_of_another_one_is_warned_of(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The one that was there before may have been moved or deleted; opened again, it is new no more."""
    path.with_name("payouts.db.workers").mkdir()
    connect(path).close()
    connect(path).close()
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "(payouts.db.workers): was that moved or deleted?" in caplog.text


def test_a_file_that_the_parent_was_writing_is_not_opened_in_its_child(tmp_path: Path) -> None:
    """A connection of the parent stays as it is, also when nothing knows it any more."""
    path = tmp_path / "payouts.db"
    connection = connect(path)
    connection.execute("begin immediate")
    lose(path, connection)
    del connection
    gc.collect()
    other = sqlite3.connect(path, timeout=0.0, isolation_level=None)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        other.execute("begin immediate")
    other.close()
    lose(tmp_path / "unopened.db", None)
    for lost in (path, tmp_path / "unopened.db"):
        with pytest.raises(JournalError, match="forked while the journal was being written"):
            connect(lost)
