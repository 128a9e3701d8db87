"""Whether the file under the journal's name still is the journal that this process uses, or was moved, deleted, replaced or overwritten."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final, NamedTuple

from alphapo_async.core.errors import JournalError
from alphapo_async.core.row import Epoch
from alphapo_async.journal.messages import file_error
from alphapo_async.journal.sqlite.rows import SqliteRows

__all__ = ["Continuity", "FileId", "place_of"]

_DESCRIPTORS: Final = Path("/proc/self/fd")
_DELETED: Final = " (deleted)"


class FileId(NamedTuple):
    """What distinguishes a file from another one of its name."""

    device: int
    inode: int


class _Witness(NamedTuple):
    """The newest line of history that this process has recorded."""

    account: str
    foreign_id: str
    number: int


class Continuity:
    """What this process has seen of its journal's file.

    Args:
        path: the file's name.
        clock: seconds since the epoch of time.
        descriptors: where the system shows which files this process has open.
    """

    def __init__(self, path: Path, clock: Callable[[], float], descriptors: Path = _DESCRIPTORS) -> None:
        self._path = path
        self._clock = clock
        self._descriptors = descriptors
        self._file: FileId | None = None
        self._accounts: dict[str, str] = {}
        self._witness: _Witness | None = None
        self._latest: _Witness | None = None
        self._epoch = 0
        self._is_replaced = False

    def opened(self, accounts: Mapping[str, str]) -> None:
        """The file was opened, and binds these accounts to these hosts.

        Raises:
            JournalError: the journal that was used before binds others.
        """
        self._check_accounts(accounts, "replaced")
        self._file = _identify(self._path)

    def bound(self, account: str, host: str) -> None:
        """This process works for this account."""
        self._accounts = {**self._accounts, account: host}  # the journal's thread may be reading them

    def is_same_file(self) -> bool:
        """Return whether the file that was opened is still under its name; False where a file that may be opened instead is there.

        Raises:
            JournalError: no file is there, or an empty one.
        """
        found = _identify(self._path)
        if self._file is None or found == self._file:
            return True
        if found is None:
            raise self._missing(self._file)
        if self._path.stat().st_size == 0:
            raise self._error("another file", "replaced by an empty file")
        self._is_replaced = True
        return False

    def check_content(self, rows: SqliteRows, application: int) -> bool:
        """Pass if the content is this journal's, and begin another epoch if it lacks what was recorded; called within a transaction.

        Returns:
            Whether another epoch has begun.

        Raises:
            JournalError: it is another journal's, or none's.
        """
        how = "replaced" if self._is_replaced else "overwritten in place"
        if rows.application() != application:
            raise self._error("another file", f"{how} by a database that is not a journal")
        self._check_accounts(rows.hosts(), how)
        is_whole = not self._is_replaced if self._witness is None else rows.has_line(*self._witness)
        before = rows.epoch().number
        # Another process that saw the same has raised the number already.
        is_behind = not is_whole and before <= self._epoch
        if is_behind:
            rows.raise_epoch(self._epoch + 1, self._clock())
        return is_behind

    def recorded(self, account: str, foreign_id: str, number: int) -> None:
        """A line of history of this number is about to be committed."""
        self._latest = _Witness(account, foreign_id, number)

    def committed(self, epoch: Epoch) -> None:
        """The transaction was committed in this epoch."""
        self._witness, self._epoch, self._is_replaced = self._latest, epoch.number, False

    def undone(self) -> None:
        """The transaction was not committed."""
        self._latest = self._witness

    def _check_accounts(self, accounts: Mapping[str, str], how: str) -> None:
        if not self._accounts.items() <= accounts.items():
            names = ", ".join(sorted(self._accounts))
            raise self._error(
                "another file", f"{how} by the journal of another account (this process works for {names})"
            )

    def _missing(self, file: FileId) -> JournalError:
        place = place_of(file, self._descriptors)
        if place is None:
            return self._error("moved or deleted")
        if place.name.endswith(_DELETED):
            return self._error("deleted", f"{os.getpid()}")
        return self._error("moved", repr(str(place)))

    def _error(self, condition: str, detail: str = "") -> JournalError:
        return file_error(self._path, condition, detail)


def place_of(file: FileId, descriptors: Path = _DESCRIPTORS) -> Path | None:
    """Return where a file is now that this process has open, as Linux shows it; None where the system does not show it.

    No descriptor is opened for that: closing one would free all locks that SQLite holds on the file.
    """
    try:
        return next((entry.readlink() for entry in descriptors.iterdir() if _identify(entry) == file), None)
    except OSError:
        return None


def _identify(path: Path) -> FileId | None:
    try:
        found = os.stat(path)  # noqa: PTH116 - once for each group of writes
    except (FileNotFoundError, NotADirectoryError):
        return None
    return FileId(found.st_dev, found.st_ino)
