"""The open file of a journal: what it remembers of rows, the changes that gather until they are written, commit and undo."""

from __future__ import annotations

import contextlib
import logging
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Final, TypeAlias

from alphapo_async.core.claims import Claim, ClaimedRows
from alphapo_async.core.evidence import Claimed
from alphapo_async.core.history import Change, Entry, is_stored
from alphapo_async.core.next_step import due_at
from alphapo_async.core.row import Epoch, Row
from alphapo_async.core.row_format import to_record
from alphapo_async.core.transitions import apply
from alphapo_async.journal.sqlite.busy import SLICE, BusyWait, is_busy
from alphapo_async.journal.sqlite.continuity import Continuity
from alphapo_async.journal.sqlite.faults import HeldByReader
from alphapo_async.journal.sqlite.file import APPLICATION, DRIVER_ERRORS, connect
from alphapo_async.journal.sqlite.rows import SqliteRows
from alphapo_async.journal.stored_rows import UnreadableRow

__all__ = ["FileConnection", "Name"]

logger = logging.getLogger("alphapo_async")

Name: TypeAlias = tuple[str, str]
"""Account and foreign_id of a row."""
_REMEMBERED: Final = 10_000  # rows that are not read again while no other process has written


class FileConnection:
    """The open file, which the journal's thread alone uses. Changes gather, and are written in one go for each kind.

    Args:
        path: the file; made where there is none.
        wait: waits for other processes that lock the file.
        continuity: what this process has seen of the file so far.
        reads_only: nothing will be written.
        any_filesystem: the operator says that its file system locks and flushes like a local disk.
        remembered: so many open rows are not read again while no other process has written.
    """

    def __init__(
        self,
        path: Path,
        wait: BusyWait,
        continuity: Continuity,
        *,
        reads_only: bool = False,
        any_filesystem: bool = False,
        remembered: int = _REMEMBERED,
    ) -> None:
        self.path = path
        self._continuity = continuity
        self.rows = SqliteRows(connect(path, wait, reads_only=reads_only, any_filesystem=any_filesystem))
        self._wait = wait
        self._remembered = remembered
        self._known: OrderedDict[Name, tuple[int, Row]] = OrderedDict()
        self._read: dict[Name, tuple[int, Row] | None] = {}
        """What was read ahead for the changes of this transaction."""
        self._new: list[tuple[int, Row]] = []
        self._changed: list[tuple[int, Row]] = []
        self._lines: list[tuple[int, Entry]] = []
        self._version = 0
        self.epoch = self._epoch_before = Epoch()
        """Read at the first transaction, and after another process has written."""

    def begin(self) -> None:
        """Begin a transaction; forget what was remembered if another process has written since."""
        self._epoch_before = self.epoch
        self._wait.run(partial(self.rows.connection.execute, "begin immediate"))
        version = self.rows.connection.execute("pragma data_version").fetchone()[0]
        if version != self._version:
            self._known.clear()
            has_gone_back = self._continuity.check_content(self.rows, APPLICATION)
            self.epoch = self.rows.epoch()
            if has_gone_back:
                logger.error(
                    "The journal %r lacks what this process recorded in it: it was replaced by an older one",
                    str(self.path),
                    extra={"foreign_id": None},
                )
            else:
                self._epoch_before = self.epoch
            self._version = version

    def read_ahead(self, names: Iterable[Name]) -> None:
        """Read the rows that the transaction will change: most are new, and one query for each takes half the time of writing them.

        Where this release cannot read one of them, each is read by itself, and its own call alone fails.
        """
        unknown = [name for name in names if name not in self._known]
        found = None
        if len(unknown) > 1:
            with contextlib.suppress(UnreadableRow):
                found = self.rows.find_all(unknown)
        self._read = {} if found is None else {name: found.get(name) for name in unknown}

    def drop(self, name: Name) -> None:
        """Forget what was read of a row that is changed in the file itself."""
        self._known.pop(name, None)
        self._read.pop(name, None)

    def write(self) -> None:
        """Write what has gathered; the commit is still to come."""
        if self._new:
            self.rows.insert(self._new)
        if self._changed:
            self.rows.update(self._changed)
        if self._lines:
            self.rows.add_history(self._lines)
        self._clear()

    def raise_epoch(self, number: int, now: float) -> Epoch:
        """Begin the epoch of this number, unless a later one has begun; return the epoch."""
        self.rows.raise_epoch(number, now)
        return self._read_epoch()

    def equate_epochs(self, line: Entry) -> int:
        """Count the rows of the epoch before to the present one, each with this line."""
        count = self.rows.equate_epochs(line)
        self._read_epoch()
        return count

    def retire(self) -> None:
        """Close the journal for good, and commit that."""
        self.rows.retire()
        self.commit()
        self._version = 0  # the next transaction reads the epoch, and fails

    def _read_epoch(self) -> Epoch:
        self._known.clear()
        self._read.clear()
        self.epoch = self.rows.epoch()
        return self.epoch

    def _clear(self) -> None:
        for gathered in (self._new, self._changed, self._lines):
            gathered.clear()

    def commit(self) -> None:
        """Commit: the transaction is on disk then.

        Raises:
            HeldByReader: with a rollback journal, another process has been reading for too long.
        """
        try:
            self._wait.run(partial(self.rows.connection.execute, "commit"))
        except DRIVER_ERRORS as error:
            raise HeldByReader(str(error)) if is_busy(error) else error from None
        self._continuity.committed(self.epoch)

    def undo(self) -> None:
        """Forget what was not committed."""
        self._continuity.undone()
        self._known.clear()
        self._version = 0
        self._clear()
        if self.rows.connection.in_transaction:
            self.rows.connection.execute("rollback")
        self.epoch = self._epoch_before

    def stands(self, name: Name, row: Row, entries: Sequence[Entry]) -> bool:
        """Return whether the file has exactly this row, with these lines; then write it once more: it may never have been flushed."""
        found = self.rows.find(*name)
        if found is None or to_record(found[1]) != to_record(row):
            return False
        written = {line.number: line for line in self.rows.history(*name)}
        if not all(is_stored(line, written.get(line.number)) for line in entries):
            return False
        self.rows.update([found])
        return True

    def change(self, name: Name, change: Change) -> tuple[Row, Sequence[Entry]]:
        """Gather the row and the history lines that `change` returns, and return them."""
        found = self._find(name)
        row, entries = change(None if found is None else found[1])
        place = self._next_place() if found is None else found[0]
        if found is None:
            self._new.append((place, row))
        elif row is not found[1]:
            self._replace(place, found[1], row)
        self._lines += [(place, entry) for entry in entries]
        if entries:
            self._continuity.recorded(*name, entries[-1].number)
        self._remember(name, place, row)
        return row, entries

    def claim(self, account: str, claim: Claim) -> ClaimedRows | None:
        """Have a worker take fresh rows, and gather their changes; None where its lease does not run."""
        if not self.rows.number_claim(claim):
            is_made = self.rows.number_again(
                claim.worker, claim.number
            )  # as in `stands`: it may never have been flushed
            return ClaimedRows(self.rows.claimed(claim.worker, claim.number), claim.after) if is_made else None
        found = self.rows.fresh(account, claim)
        claimed = Claimed(claim.worker, claim.number, claim.key)
        taken = [(place, apply(row, claimed, claim.now)) for place, row in found]
        self._changed += taken
        for place, row in taken:
            self._remember((account, row.foreign_id), place, row)
        last = max((due_at(row) or 0.0 for _, row in found), default=claim.after)
        return ClaimedRows([row for _, row in taken], last)

    def _find(self, name: Name) -> tuple[int, Row] | None:
        if name in self._known:
            return self._known[name]
        if name in self._read:
            return self._read.pop(name)  # once only: it does not show what this transaction has made of the row
        self.write()
        return self.rows.find(*name)

    def _next_place(self) -> int:
        return self._new[-1][0] + 1 if self._new else self.rows.next_place()

    def _replace(self, place: int, before: Row, after: Row) -> None:
        if after.revision.number != before.revision.number:
            self.write()  # the bytes of the revision before are kept as they stand in the file
            self.rows.correct(place, after.revision)
        self._changed.append((place, after))

    def _remember(self, name: Name, place: int, row: Row) -> None:
        self.drop(
            name
        )  # what was read ahead does not show what this transaction has made of the row, also where a claim took it
        if row.state == "open":
            self._known[name] = place, row
            if len(self._known) > self._remembered:
                self._known.popitem(last=False)

    def wipe(self) -> bool:
        """Empty the write-ahead log; return whether that was possible."""
        self.rows.connection.execute("pragma busy_timeout = 0")  # another process may read for long
        try:
            is_busy, _, _ = self.rows.connection.execute("pragma wal_checkpoint(truncate)").fetchone()
        finally:
            self.rows.connection.execute(f"pragma busy_timeout = {SLICE * 1_000:.0f}")
        return not is_busy

    def close(self) -> None:
        """Close the file."""
        self.rows.connection.close()
