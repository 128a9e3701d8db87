"""Maps errors of a journal's file to the conditions in `journal.messages`."""

from __future__ import annotations

import errno
import os
import sqlite3
from pathlib import Path
from typing import Final

from alphapo_async.core.errors import JournalError
from alphapo_async.journal.messages import file_error
from alphapo_async.journal.sqlite.busy import BUSY

__all__ = ["HeldByReader", "OtherVersion", "condition_of", "is_mounted_read_only", "is_unwritable", "journal_error"]


class HeldByReader(sqlite3.OperationalError):
    """A commit waited too long: with a rollback journal nothing is written while another process reads."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.sqlite_errorcode = sqlite3.SQLITE_BUSY


class OtherVersion(sqlite3.OperationalError):
    """Another process has the file open with a write-ahead log, in which this process's SQLite may lose commits; says the version."""


_NUMBERS: Final = {
    errno.ENOSPC: "disk full",
    errno.EDQUOT: "disk full",
    errno.EROFS: "not writable",
    errno.EMFILE: "too many open files",
    errno.ENFILE: "too many open files",
    errno.EACCES: "not to be opened",
    errno.EPERM: "not to be opened",
    errno.EISDIR: "a folder",
}
_WORDS: Final = (
    ("no such table: journal", "copied"),
    ("full", "disk full"),
    ("readonly", "not writable"),
    ("not a database", "no database"),
    ("malformed", "damaged"),
    ("locked", "a writer hangs"),
    ("unable to open", "not to be opened"),
)


def condition_of(path: Path, error: Exception) -> str:
    """Return the condition; where the error does not show it, the file is looked at."""
    found = _shown(error)
    if found == "not writable" and is_mounted_read_only(path):
        return "read-only file system"
    return _seen(path) or found if found == "not to be opened" else found


def _shown(error: Exception) -> str:
    """Return the condition that the error itself shows."""
    if isinstance(error, HeldByReader):
        return "a reader holds it"
    if isinstance(error, OtherVersion):
        return "another SQLite"
    if isinstance(error, OSError):
        return _NUMBERS.get(error.errno or 0, "unknown")
    if getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_READONLY_DBMOVED:
        return "gone just now"
    return next((condition for words, condition in _WORDS if words in str(error)), "unknown")


def _seen(path: Path) -> str | None:
    """Return what keeps the file from being opened, as far as that can be seen.

    The file itself is not opened: closing it would end the locks that other connections of this process have on it.
    """
    if path.is_dir():
        return "a folder"
    try:
        os.close(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))
    except OSError as error:
        return _NUMBERS.get(error.errno or 0)
    return "read-only file system" if is_mounted_read_only(path) else None


def is_mounted_read_only(path: Path) -> bool:
    """Return whether the file system of the file's folder takes no changes."""
    try:
        return bool(os.statvfs(path.parent).f_flag & os.ST_RDONLY)
    except OSError:
        return False


def is_unwritable(path: Path, error: Exception) -> bool:
    """Return whether the file may still be read, though it cannot be written."""
    found = condition_of(path, error)
    return found in ("read-only file system", "not writable", "not to be opened") and os.access(path, os.R_OK)


def journal_error(path: Path, error: Exception, *, recorded: bool | None = None) -> JournalError:
    """Return the error that says which file, what is the matter, and what to do."""
    condition = condition_of(path, error)
    detail = f"{BUSY:.0f} s" if condition in _WAITED_FOR else str(error) or type(error).__name__
    return file_error(path, condition, detail, recorded=recorded)


_WAITED_FOR: Final = ("a writer hangs", "a reader holds it")
