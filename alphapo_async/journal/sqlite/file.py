"""The journal's file: opened only where it can be trusted; where it cannot, the error says why."""

from __future__ import annotations

import contextlib
import ctypes
import logging
import os
import sqlite3
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from alphapo_async.core.errors import JournalError
from alphapo_async.journal.messages import file_error
from alphapo_async.journal.schema_version import SCHEMA, THIS, SchemaVersion, newer_caution, problem_of
from alphapo_async.journal.sqlite.busy import SLICE, BusyWait, is_busy
from alphapo_async.journal.sqlite.faults import OtherVersion, is_unwritable, journal_error
from alphapo_async.journal.sqlite.places import place_of
from alphapo_async.journal.statements import load

__all__ = [
    "APPLICATION",
    "DRIVER_ERRORS",
    "connect",
    "copy_into",
    "is_wal_safe",
    "locks_of",
    "lose",
]

logger = logging.getLogger("alphapo_async")

APPLICATION: Final = 0x414C5041
"""What marks the file as a journal of this library ("ALPA")."""
DRIVER_ERRORS: Final = (sqlite3.Error, sqlite3.Warning, OSError, MemoryError, OverflowError, UnicodeEncodeError)
"""All that a call of sqlite3 raises, and of the system where a file is opened."""
_LOST: Final[set[Path]] = set()
"""Files that a parent of this process was writing when it was forked."""

_TABLES: Final = load(
    Path(__file__).with_name("schema.sql"), readable_from=str(THIS.readable_from), needs_release=THIS.needs_release
)["tables"]


def is_wal_safe(version: tuple[int, ...]) -> bool:
    """Return whether this SQLite is free of the bug by which a checkpoint of one connection can lose commits of another.

    Source: https://www.sqlite.org/wal.html (the WAL-reset bug, 3.7.0 to 3.51.2; fixed in 3.51.3, and in 3.50.7 and 3.44.6 of older lines).
    """
    return version >= (3, 51, 3) or (3, 50, 7) <= version < (3, 51) or (3, 44, 6) <= version < (3, 45)


def lose(path: Path, connection: sqlite3.Connection | None) -> None:
    """In a forked child: open this file no more, and keep a connection of the parent as it is.

    SQLite takes the parent's locks on the file for this process's own. Closing the connection, which its end would do as well, could roll
    back in the file what the parent is writing: it is kept beyond the end of the interpreter.
    """
    _LOST.add(path)
    if connection is not None:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(connection))


def connect(
    path: Path, wait: BusyWait | None = None, *, reads_only: bool = False, any_filesystem: bool = False
) -> sqlite3.Connection:
    """Open the journal, making it where there is none.

    Args:
        path: the file.
        wait: for other processes that lock the file.
        reads_only: nothing will be written: a file that cannot be written is opened as well.
        any_filesystem: the operator says that the file system is like a local disk.

    Raises:
        JournalError: it is no journal, of a newer release, read-only, damaged, or in a place that cannot keep it.
    """
    wait = wait or BusyWait()
    if path in _LOST:
        raise file_error(path, "forked")
    try:
        if caution := place_of(path, is_any=any_filesystem).caution:
            logger.warning("SQLite: %s", caution, extra={"foreign_id": None})
        is_new = _make(path)
        locks = locks_of(path)
        if is_new and locks.is_dir():
            logger.warning(
                "The journal %r is new, and beside it is the folder of locks of one that was there before (%s): was that moved or "
                "deleted? What it holds is not known to this one",
                str(path),
                locks.name,
                extra={"foreign_id": None},
            )
        connection = sqlite3.connect(path, timeout=SLICE, isolation_level=None, check_same_thread=False)
        try:
            wait.run(partial(_check_kind, connection, path, may_be_empty=True))
            _set_up(connection, wait)
        except BaseException:
            connection.close()
            raise
    except DRIVER_ERRORS as error:
        if not reads_only or not is_unwritable(path, error):
            raise journal_error(path, error) from None
    else:
        return connection
    return _connect_to_read(path, wait)


def _connect_to_read(path: Path, wait: BusyWait) -> sqlite3.Connection:
    """Open a journal that cannot be written: with locks; without them only where no other process can have it open for writing.

    SQLite cannot lock a file with a write-ahead log where it cannot make the files beside it. Where there is no log, no process writes.

    Raises:
        JournalError: its last transaction was cut off, and undoing that would write.
    """
    beside = [path.with_name(f"{path.name}{end}") for end in ("-wal", "-journal")]
    ways = ["mode=ro"] if any(one.exists() and one.stat().st_size for one in beside) else ["mode=ro", "immutable=1"]
    for way in ways:
        with contextlib.suppress(sqlite3.Error), contextlib.ExitStack() as undo:
            connection = sqlite3.connect(
                f"file:{quote(bytes(path))}?{way}",
                timeout=SLICE,
                isolation_level=None,
                check_same_thread=False,
                uri=True,
            )
            undo.callback(connection.close)
            wait.run(partial(_check_kind, connection, path, may_be_empty=False))
            undo.pop_all()
            return connection
    raise file_error(path, "cut off")


def locks_of(path: Path) -> Path:
    """Return the folder in which the workers of a journal lock their files."""
    return path.with_name(f"{path.name}.workers")


def _make(path: Path) -> bool:
    """Make an empty file that only its owner can read; return whether there was none."""
    try:
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        return path.stat().st_size == 0
    return True


def _check_kind(connection: sqlite3.Connection, path: Path, *, may_be_empty: bool) -> None:
    connection.execute("begin")  # one snapshot: another process may be making the tables at this moment
    try:
        application, schema, tables = (
            connection.execute(query).fetchone()[0]
            for query in ("pragma application_id", "pragma user_version", "select count(*) from sqlite_schema")
        )
        if application == APPLICATION and schema > SCHEMA:
            found = connection.execute("select readable_from, needs_release from journal").fetchone()
            _check_version(path, SchemaVersion(schema, *found))
    finally:
        connection.execute("rollback")
    is_empty = not (application or schema or tables)
    if application != APPLICATION and not (is_empty and may_be_empty):
        raise file_error(path, "no journal")


def _check_version(path: Path, version: SchemaVersion) -> None:
    problem = problem_of(version)
    if problem is not None:
        raise file_error(path, *problem)
    logger.warning(newer_caution(repr(str(path)), version), extra={"foreign_id": None})


def _set_up(
    connection: sqlite3.Connection, wait: BusyWait, version: tuple[int, ...] = sqlite3.sqlite_version_info
) -> str:
    """Choose how commits reach the disk, and make the tables where there are none; return the journal mode.

    A rollback journal is emptied at each commit, and that is flushed (https://www.sqlite.org/pragma.html#pragma_journal_mode): as
    durable as one that is deleted, whose folder has to be flushed, too, at a third of the time.
    """
    mode = _choose_mode(connection, wait, version)
    connection.execute("pragma synchronous = full")
    connection.execute("pragma temp_store = memory")
    # Overwritten bytes leave nothing behind in their page: a withdrawal that is forgotten is gone from its earlier places, too.
    connection.execute("pragma secure_delete = on")
    text = ".".join(map(str, version))
    logger.info("SQLite %s: journal mode %s, synchronous full", text, mode, extra={"foreign_id": None})
    wait.run(partial(connection.execute, "begin immediate"))
    try:
        if connection.execute("pragma application_id").fetchone()[0] != APPLICATION:
            for statement in _TABLES.split(";\n"):
                connection.execute(statement)
            connection.execute(f"pragma application_id = {APPLICATION}")
        # Always written: a file that can only be read is found out now, not at the first withdrawal. A newer release's number stays.
        newest = max(SCHEMA, connection.execute("pragma user_version").fetchone()[0])
        connection.execute(f"pragma user_version = {newest}")
        wait.run(partial(connection.execute, "commit"))
    finally:
        if connection.in_transaction:
            connection.execute("rollback")
    return mode


def _choose_mode(connection: sqlite3.Connection, wait: BusyWait, version: tuple[int, ...]) -> str:
    """Return the journal mode, which a file keeps: another process, with another SQLite, may have it open.

    A SQLite that may lose commits in a write-ahead log leaves that mode if no other process has the file open.

    Raises:
        OtherVersion: another process has.
    """

    def read(name: str) -> Any:
        return wait.run(lambda: connection.execute(f"pragma {name}").fetchone()[0])

    is_new, is_wal = read("application_id") != APPLICATION, read("journal_mode") == "wal"
    mode = "wal" if is_wal_safe(version) and (is_new or is_wal) else "truncate"
    try:
        wait.run(partial(connection.execute, f"pragma journal_mode = {mode}"))
    except sqlite3.OperationalError as error:
        is_other = is_wal and is_busy(error)
        raise OtherVersion(".".join(map(str, version))) if is_other else error from None
    return mode


def copy_into(connection: sqlite3.Connection, target: Path, wait: BusyWait) -> None:
    """Copy a journal into a new file, which only its owner can read.

    Raises:
        JournalError: the file exists, or cannot be made.
    """
    try:
        is_new = _make(target)
    except OSError as error:
        raise journal_error(target, error) from None
    if not is_new or target.stat().st_size:
        raise JournalError(
            f"{str(target)!r} exists: name a file that does not. Nothing in it was changed.", recorded=None
        )
    try:
        with contextlib.closing(sqlite3.connect(target, isolation_level=None)) as copy:
            wait.copy(connection, copy)
    except BaseException:
        target.unlink()  # the same call may succeed when there is room
        raise
