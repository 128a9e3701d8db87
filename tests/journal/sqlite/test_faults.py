"""Every condition of the table of messages for a journal's file: brought about on a real file system, and told with what to do."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from alphapo_async.core.errors import JournalError
from alphapo_async.journal.messages import FILE, sentence
from alphapo_async.journal.schema_version import SCHEMA
from alphapo_async.journal.sqlite.busy import BUSY, BusyWait
from alphapo_async.journal.sqlite.connection import FileConnection
from alphapo_async.journal.sqlite.continuity import Continuity
from alphapo_async.journal.sqlite.faults import HeldByReader, OtherVersion, condition_of, is_unwritable, journal_error
from alphapo_async.journal.sqlite.file import _set_up, connect, lose
from alphapo_async.journal.sqlite.journal import SqliteJournal
from alphapo_async.journal.sqlite.places import place_of
from tests.journal.sqlite.test_places import listed
from tests.support.descriptors import none_left
from tests.support.mounts import make_read_only, mounted
from tests.support.processes import as_nobody, die_in_a_commit

SECONDS: Final = f"{BUSY:.0f} s"


def refusal(path: Path, *, reads_only: bool = False) -> str:
    """Return what is said when the journal is opened."""
    with pytest.raises(JournalError) as caught:
        connect(path, wait=BusyWait(0.0), reads_only=reads_only).close()
    assert caught.value.recorded is None
    return caught.value.detail


def made(path: Path) -> Path:
    """Make a journal."""
    connect(path).close()
    return path


def on_a_full_disk(folder: Path) -> str:
    """Open a journal where the file system holds nothing more."""
    with mounted(folder):
        path = made(folder / "payouts.db")
        with contextlib.suppress(OSError), (folder / "ballast").open("wb", buffering=0) as ballast:
            while True:
                ballast.write(b"x" * 65_536)
        return refusal(path)


def on_a_read_only_mount(folder: Path) -> str:
    """Open a journal where nothing can be written."""
    with mounted(folder):
        path = made(folder / "payouts.db")
        make_read_only(folder)
        return refusal(path)


def as_another_user(folder: Path, mode: int) -> str:
    """Open it as a user who has no rights but those that everybody has."""
    with tempfile.TemporaryDirectory() as other:
        Path(other).chmod(0o755)
        path = made(Path(other) / "payouts.db")
        path.chmod(mode)
        return as_nobody(lambda: refusal(path)).replace(other, str(folder))


def as_a_folder(folder: Path) -> str:
    """Open a folder."""
    (folder / "payouts.db").mkdir()
    return refusal(folder / "payouts.db")


def without_descriptors(folder: Path) -> str:
    """Open it when this process has no file to spare."""
    path = made(folder / "payouts.db")
    with none_left():
        return refusal(path)


def a_text(folder: Path) -> str:
    """Open a text."""
    (folder / "payouts.db").write_text("foreign_id,amount\n" * 100)
    return refusal(folder / "payouts.db")


def with_garbage(folder: Path) -> str:
    """Open a journal whose first page is garbage after its header."""
    path = made(folder / "payouts.db")
    whole = path.read_bytes()
    path.write_bytes(whole[:100] + b"\xfe" * 3_996 + whole[4_096:])
    return refusal(path)


def beside_a_writer(folder: Path) -> str:
    """Open it while another process does not end its transaction."""
    path = made(folder / "payouts.db")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("begin exclusive")
        return refusal(path)


def beside_a_reader(folder: Path) -> str:
    """Commit, with a rollback journal, while another process does not end its reading."""
    path = made(folder / "payouts.db")
    file = FileConnection(path, BusyWait(0.0), Continuity(path, time.time))
    file.rows.connection.execute("pragma journal_mode = truncate")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("begin")
        other.execute("select * from accounts").fetchall()
        file.begin()
        file.rows.connection.execute("insert into accounts values ('a', 'h')")
        with pytest.raises(HeldByReader) as caught:
            file.commit()
    file.undo()
    file.close()
    return journal_error(path, caught.value).detail


def beside_a_newer_sqlite(folder: Path) -> str:
    """Open it with an older SQLite, as in a rolling change of images."""
    path = folder / "payouts.db"
    connections = [sqlite3.connect(path, timeout=0, isolation_level=None) for _ in range(2)]
    try:
        _set_up(connections[0], BusyWait(0.0), (3, 51, 3))
        with pytest.raises(OtherVersion) as caught:
            _set_up(connections[1], BusyWait(0.0), (3, 40, 1))
    finally:
        for connection in connections:
            connection.close()
    return journal_error(path, caught.value).detail


def cut_off(folder: Path) -> str:
    """Read a journal whose writer died in a commit, where that cannot be undone."""
    with mounted(folder):
        path = made(folder / "payouts.db")
        die_in_a_commit(path)
        make_read_only(folder)
        return refusal(path, reads_only=True)


def forked(folder: Path) -> str:
    """Use a file that the parent of this process was writing when it was forked."""
    path = made(folder / "payouts.db")
    lose(path, None)
    return refusal(path)


def copied(folder: Path) -> str:
    """Use a file that was copied to PostgreSQL."""
    path = made(folder / "payouts.db")
    file = FileConnection(path, BusyWait(0.0), Continuity(path, time.time))
    file.begin()
    file.retire()
    with contextlib.closing(file), pytest.raises(sqlite3.OperationalError) as caught:
        file.begin()
    return journal_error(folder / "payouts.db", caught.value).detail


def in_use(folder: Path, harm: Callable[[Path], object], *, mode: str = "truncate") -> str:
    """Use a journal to whose file something has been done meanwhile."""

    async def story() -> str:
        journal = SqliteJournal(folder / "payouts.db")
        await journal._ask(lambda file: file.rows.connection.execute(f"pragma journal_mode = {mode}").fetchone())
        harm(journal.path)
        with pytest.raises(JournalError) as caught:
            await journal.hosts()
        await journal.aclose()
        return caught.value.detail

    return asyncio.run(story())


def replaced(path: Path) -> None:
    """Put another journal in the place of one."""
    made(path.with_name("other.db")).replace(path)


def emptied(path: Path) -> None:
    """Put an empty file in the place of a journal."""
    path.unlink()
    path.touch()


def where_nothing_shows(folder: Path) -> str:
    """Miss a journal's file where the system does not show which files a process has open."""
    path = made(folder / "payouts.db")
    continuity = Continuity(path, time.time, folder / "nowhere")
    continuity.opened({})
    path.unlink()
    with pytest.raises(JournalError) as caught:
        continuity.is_same_file()
    return caught.value.detail


def while_it_is_written(folder: Path) -> str:
    """Move a journal's file just before SQLite writes: it calls the file read-only."""
    path = folder / "payouts.db"
    with contextlib.closing(connect(path, wait=BusyWait())) as connection:
        connection.execute("pragma journal_mode = truncate")
        path.rename(folder / "elsewhere.db")
        with pytest.raises(sqlite3.OperationalError, match="readonly") as caught:
            connection.execute("pragma user_version = 7")
    return journal_error(path, caught.value).detail


def with_something_new(folder: Path) -> str:
    """Have SQLite say what nobody has thought of."""
    return journal_error(folder / "payouts.db", sqlite3.OperationalError("something new")).detail


def without_a_folder(folder: Path) -> str:
    """Open a journal in a folder that is missing."""
    return refusal(folder / "nowhere" / "payouts.db").replace("nowhere/", "")


def on(folder: Path, kind: str, place: Path | None = None) -> str:
    """Look at the place of a journal in a file system of this kind, mounted there."""
    with pytest.raises(JournalError) as caught:
        place_of(folder / "payouts.db", listed(folder, kind, place))
    return caught.value.detail


def under_two_names(folder: Path) -> str:
    """Open a journal that has a hard link."""
    (folder / "link.db").hardlink_to(made(folder / "payouts.db"))
    return refusal(folder / "payouts.db")


def with_other_marks(folder: Path, **marks: int) -> str:
    """Open a database that says of itself what another program or release writes."""
    path = made(folder / "payouts.db")
    with contextlib.closing(sqlite3.connect(path)) as other:
        for name, value in marks.items():
            other.execute(f"pragma {name} = {value}")
    return refusal(path)


def of_a_newer_release(folder: Path) -> str:
    """Open a journal whose tables this release cannot use."""
    with contextlib.closing(sqlite3.connect(made(folder / "payouts.db"))) as other, other:
        other.execute(f"update journal set readable_from = {SCHEMA + 1}, needs_release = '0.2.0'")
    return with_other_marks(folder, user_version=SCHEMA + 2)


CONDITIONS: Final[dict[str, tuple[Callable[[Path], str], str]]] = {
    "disk full": (on_a_full_disk, ""),
    "read-only file system": (on_a_read_only_mount, ""),
    "not writable": (lambda folder: as_another_user(folder, 0o444), ""),
    "not to be opened": (lambda folder: as_another_user(folder, 0o000), ""),
    "a folder": (as_a_folder, ""),
    "too many open files": (without_descriptors, ""),
    "no database": (a_text, ""),
    "damaged": (with_garbage, ""),
    "a writer hangs": (beside_a_writer, SECONDS),
    "a reader holds it": (beside_a_reader, SECONDS),
    "another SQLite": (beside_a_newer_sqlite, "3.40.1"),
    "cut off": (cut_off, ""),
    "forked": (forked, ""),
    "copied": (copied, ""),
    "moved": (
        lambda folder: in_use(folder, lambda path: path.rename(folder / "kept.db")).replace(str(folder), ""),
        "'/kept.db'",
    ),
    "deleted": (lambda folder: in_use(folder, Path.unlink), f"{os.getpid()}"),
    "moved or deleted": (where_nothing_shows, ""),
    "another file": (lambda folder: in_use(folder, emptied), "replaced by an empty file"),
    "replaced beside a log": (lambda folder: in_use(folder, replaced, mode="wal"), ""),
    "gone just now": (while_it_is_written, ""),
    "no folder": (without_a_folder, ""),
    "unknown file system": (lambda folder: on(folder, "nfs4"), "(nfs4)"),
    "mounted alone": (lambda folder: on(folder, "ext4", (folder / "payouts.db").resolve()), ""),
    "several links": (under_two_names, "2"),
    "no journal": (lambda folder: with_other_marks(folder, application_id=7), ""),
    "newer release": (
        of_a_newer_release,
        f"{SCHEMA + 2}, for alphapo-async 0.2.0 and newer; this release knows {SCHEMA}",
    ),
    "unknown": (with_something_new, "something new"),
}


@pytest.mark.parametrize("condition", FILE)
def test_every_condition_is_told_with_what_to_do(tmp_path: Path, condition: str) -> None:
    """As the table has it, with the file's name."""
    provoke, detail = CONDITIONS[condition]
    said = provoke(tmp_path)
    assert said.replace("'/payouts.db'", repr(str(tmp_path / "payouts.db"))) == (
        f"The journal {str(tmp_path / 'payouts.db')!r}: {sentence(FILE[condition], detail)}."
    )


@pytest.mark.parametrize(
    ("error", "condition"),
    [
        (OSError(errno.ENOSPC, "No space left on device"), "disk full"),
        (OSError(errno.EMFILE, "Too many open files"), "too many open files"),
        (OSError(errno.EROFS, "Read-only file system"), "not writable"),
        (OSError(errno.EIO, "Input/output error"), "unknown"),
        (PermissionError(errno.EACCES, "Permission denied"), "not to be opened"),
        (sqlite3.OperationalError("unable to open database file"), "not to be opened"),
        (MemoryError(), "unknown"),
    ],
)
def test_an_error_has_its_condition(tmp_path: Path, error: Exception, condition: str) -> None:
    """By the system's number, or by SQLite's words; where neither shows it, the file can be opened and written."""
    path = made(tmp_path / "payouts.db")
    assert condition_of(path, error) == condition
    assert condition_of(tmp_path / "nowhere" / "payouts.db", error) == condition
    assert is_unwritable(path, error) is (condition in ("not writable", "not to be opened"))


def test_sqlite_does_not_say_that_there_are_too_many_open_files(tmp_path: Path) -> None:
    """It says that it cannot open its file, and the system says why."""
    with none_left():
        found = condition_of(tmp_path / "payouts.db", sqlite3.OperationalError("unable to open database file"))
    assert found == "too many open files"


def test_an_error_without_words_is_named_by_its_kind(tmp_path: Path) -> None:
    """Nothing is left empty."""
    assert journal_error(tmp_path / "payouts.db", MemoryError()).detail.endswith("it cannot be used (MemoryError).")


def test_a_file_that_cannot_be_opened_on_a_read_only_mount_is_on_one(tmp_path: Path) -> None:
    """SQLite only says that it cannot open the file beside it."""
    with mounted(tmp_path):
        path = made(tmp_path / "payouts.db")
        make_read_only(tmp_path)
        assert condition_of(path, sqlite3.OperationalError("unable to open database file")) == "read-only file system"


def test_looking_at_a_file_ends_no_lock_of_this_process(tmp_path: Path) -> None:
    """A lock on a file ends when the process closes it, whatever opened it: the other connection would be alone no more."""
    path = made(tmp_path / "payouts.db")
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("begin exclusive")
        condition_of(path, sqlite3.OperationalError("unable to open database file"))
        program = f"import sqlite3; sqlite3.connect({str(path)!r}, timeout=0).execute('begin immediate')"
        outcome = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, text=True)
    assert "database is locked" in outcome.stderr
