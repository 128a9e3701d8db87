"""The texts of journals' errors: one table of conditions, each with what is wrong and what to do about it. Pure."""

from __future__ import annotations

from pathlib import Path
from typing import Final, NamedTuple

from alphapo_async.core.errors import JournalError

__all__ = ["DATABASE", "FILE", "Message", "database_error", "file_error", "sentence"]


class Message(NamedTuple):
    """The text under one condition; `{detail}` stands for a value that was found."""

    text: str
    advice: str
    is_passing: bool = False
    """The same call may succeed later; all other conditions are for the operator to change."""


_DISK_FULL: Final = Message("its disk is full", "make room, then call again", is_passing=True)
_TOO_MANY_FILES: Final = Message(
    "this process has too many open files",
    "raise its limit (ulimit -n, LimitNOFILE), or look for what it does not close",
    is_passing=True,
)
_NEWER_RELEASE: Final = Message(
    "it was written by a newer release (its schema is {detail})", "use that release. Nothing in it was changed"
)

FILE: Final = {
    "disk full": _DISK_FULL,
    "read-only file system": Message(
        "its file system is mounted read-only",
        "mount it with write access, and look into the system's log where it was; `alphapo journal list`, `show`, `totals` and `export` "
        "read it as it is",
    ),
    "not writable": Message("it cannot be written", "check its owner and mode"),
    "not to be opened": Message("it cannot be opened", "check its folder, owner and mode"),
    "a folder": Message("it is a folder", "name a file in it"),
    "too many open files": _TOO_MANY_FILES,
    "no database": Message("it is not a SQLite database", "name another file; nothing in it was changed"),
    "damaged": Message(
        "it is damaged", "keep a copy of it as it is, then restore a backup; nothing in it was overwritten"
    ),
    "a writer hangs": Message(
        "another process has been writing to it for {detail}", "look for one that hangs", is_passing=True
    ),
    "a reader holds it": Message(
        "another process has been reading it for {detail}, and nothing can be written meanwhile",
        "end what reads it (a sqlite3 shell, a backup program); `alphapo journal backup` copies it without that",
        is_passing=True,
    ),
    "another SQLite": Message(
        "another process uses it with a write-ahead log, in which the SQLite of this process ({detail}) may lose commits",
        "end the other process first, or run all of them with the same SQLite, such as from one image",
        is_passing=True,
    ),
    "cut off": Message(
        "its last transaction was cut off, and only a process that may write to it can undo that",
        "open it once with write access, or copy it with the file beside it whose name ends with -journal or -wal",
    ),
    "forked": Message(
        "this process was forked while the journal was being written, which leaves the file locked in it",
        "fork before the journal is used, or start processes anew (multiprocessing's start method spawn)",
    ),
    "copied": Message(
        "it was copied to PostgreSQL (`alphapo journal copy`) and closed for good", "use the journal in PostgreSQL"
    ),
    "moved": Message(
        "it was moved to {detail} while it was in use, and nothing was written",
        "move it back, and this process continues; or stop this process, and name the new place",
    ),
    "deleted": Message(
        "it was deleted while it was in use, and nothing was written; process {detail} still holds its content",
        "copy that from /proc/PROCESS/fd before you stop the process, then put the copy, or a backup, in its place",
    ),
    "moved or deleted": Message(
        "it was moved or deleted while it was in use, and nothing was written",
        "put it back, and this process continues; or stop this process, and name the new place",
    ),
    "another file": Message(
        "it was {detail} while it was in use, and nothing was written",
        "stop every process that uses it, then put the right file, or a backup, in its place",
    ),
    "replaced beside a log": Message(
        "it was replaced while it was in use, and nothing was written",
        "stop every process that uses it, remove the files beside it whose names end with -wal and -shm, then start the processes again",
    ),
    "gone just now": Message(
        "it was moved, deleted or replaced just now, and nothing was written",
        "call again, and the error says which",
        is_passing=True,
    ),
    "no folder": Message("its folder does not exist", "make it, or name another file"),
    "unknown file system": Message(
        "it is on a file system {detail}, whose locks and flushes are not known to hold",
        "put it on a local disk (ext4, xfs, btrfs, zfs, apfs), or use PostgreSQL; if the file system locks and flushes like a local disk, "
        "say so: sqlite:///PATH?filesystem=any. Nothing in it was changed",
    ),
    "mounted alone": Message(
        "it is a mount point by itself, and processes that use it by another name do not see each other's locks",
        "mount the folder it is in instead of the file. Nothing in it was changed",
    ),
    "several links": Message(
        "it has {detail} hard links, and processes that use it by another name do not see each other's locks",
        "keep one of them, and mount or link the folder instead. Nothing in it was changed",
    ),
    "no journal": Message("it is not a journal of this library", "name another file. Nothing in it was changed"),
    "newer release": _NEWER_RELEASE,
    "unknown": Message("it cannot be used ({detail})", ""),
}
"""Conditions of a journal in a file."""

DATABASE: Final = {
    "statement mode": Message(
        "a pooler in statement mode stands between, which allows no transactions",
        "set pool_mode = transaction for this database in the pooler",
    ),
    "startup parameter": Message(
        "the pooler does not take the setting {detail!r} of its URL",
        "leave it out, or name it in the pooler's ignore_startup_parameters",
    ),
    "unknown setting": Message(
        "the server does not take the setting {detail!r} of its URL", "leave it out, or correct its value"
    ),
    "wrong setting": Message(
        "its URL has a setting that cannot work",
        "check sslmode, sslrootcert (or ~/.postgresql/root.crt) and target_session_attrs",
    ),
    "missing file": Message("a file that its URL names cannot be read: {detail}", "put it there, or correct the URL"),
    "certificate": Message(
        "its certificate is not trusted, or TLS fails ({detail})",
        "check sslrootcert, the host name in the URL and the server's certificate",
    ),
    "privilege": Message("the user lacks {detail}", "grant it, or run `alphapo journal migrate` as a user who has it"),
    "login": Message("it does not accept the user or the password", "check both, and the server's pg_hba.conf"),
    "no such database": Message("the database does not exist", "make it, or name another"),
    "disk full": _DISK_FULL,
    "no primary": Message("none of its hosts takes writes", "name the primary", is_passing=True),
    "standby": Message("it is a standby, which only reads", "name the primary"),
    "too many connections": Message(
        "it has no connection to spare", "raise max_connections, or use fewer processes", is_passing=True
    ),
    "tables gone": Message("its tables are gone", "keep everything as it is, and find out what dropped them"),
    "server upgraded": Message(
        "the server misses a file of its own (58P01), as after an upgrade of its packages while it ran",
        "restart the database server",
        is_passing=True,
    ),
    "too many open files": _TOO_MANY_FILES,
    "no answer": Message(
        "it does not answer in time", "check host, port and network, and what it is busy with", is_passing=True
    ),
    "not reached": Message(
        "it cannot be reached", "check host, port and network, and whether it runs", is_passing=True
    ),
    "lost": Message("its connection was lost", "check whether it runs", is_passing=True),
    "going down": Message("it is being shut down or started", "call again when it runs", is_passing=True),
    "old primary": Message(
        "it is an old primary, which writes timeline {detail}",
        "stop that server, and point the journal at the new primary. Nothing is recorded or sent there",
    ),
    "newer release": _NEWER_RELEASE,
    "older release": Message(
        "it is of an older release (its schema is {detail})",
        "stop what uses it, then run `alphapo journal migrate`. Nothing in it was changed",
    ),
    "unknown": Message("it refused a statement ({detail})", ""),
}
"""Conditions of a journal in PostgreSQL."""


def sentence(message: Message, detail: str = "") -> str:
    """Return text and advice of a message, with what was found filled in; without the last period."""
    text, advice = message.text.format(detail=detail), message.advice
    return f"{text}. {advice[0].upper()}{advice[1:]}" if advice else text


def file_error(path: Path, condition: str, detail: str = "", *, recorded: bool | None = None) -> JournalError:
    """Return the error of a journal in a file: which file, what is the matter, and what to do."""
    return JournalError(f"The journal {str(path)!r}: {sentence(FILE[condition], detail)}.", recorded=recorded)


def database_error(where: str, condition: str, detail: str = "") -> JournalError:
    """Return the error of a journal in PostgreSQL: which database, what is the matter, and what to do."""
    return JournalError(f"The journal at {where}: {sentence(DATABASE[condition], detail)}.", recorded=None)
