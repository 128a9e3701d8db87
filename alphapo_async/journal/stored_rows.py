"""What a database keeps of rows and of their histories: the columns in order, and how what was stored is read."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from decimal import Context, Decimal
from typing import Any, Final, TypeVar

import msgspec

from alphapo_async.core.errors import JournalError
from alphapo_async.core.evidence import Revision
from alphapo_async.core.history import Entry
from alphapo_async.core.models import Totals
from alphapo_async.core.next_step import due_at
from alphapo_async.core.row import Epoch, Row, seen_in
from alphapo_async.core.row_format import COLUMNS, Record, read_record, read_revision
from alphapo_async.core.version import __version__

__all__ = ["COLUMNS", "EXACT", "LINE", "STORED", "Readable", "UnreadableRow", "longest_overdue", "sums", "unpack"]

logger = logging.getLogger("alphapo_async")

T = TypeVar("T")
STORED: Final = (*COLUMNS, "body", "sha256", "digest")
"""The columns of a withdrawal, in the order in which they are written."""
LINE: Final = Entry.__struct_fields__
"""The columns of a line of history."""
_WARNED: Final = 1_000
EXACT: Final = Context(prec=1_000)
"""Adds figures of any size to the last decimal."""


class UnreadableRow(JournalError):
    """A newer release wrote the row in a form that this one does not know. This process never changes nor sends it."""


class Readable:
    """Reads rows for a page: it leaves out rows that this release cannot read, with a warning, once for each."""

    def __init__(self) -> None:
        self._warned: set[str] = set()

    def among(self, rows: Iterable[Callable[[], T]]) -> list[T]:
        """Return what these functions return; where one raises `UnreadableRow`, its row is left out."""
        found = list[T]()
        for read in rows:
            try:
                found.append(read())
            except UnreadableRow as error:
                self._warn(error)
        return found

    def _warn(self, error: UnreadableRow) -> None:
        if error.detail not in self._warned:
            if len(self._warned) == _WARNED:
                self._warned.clear()
            self._warned.add(error.detail)
            logger.warning("%s", error.detail, extra={"foreign_id": error.foreign_id})


def unpack(found: Sequence[Any], earlier: Callable[[], Iterable[tuple[int, bytes, str]]]) -> Row:
    """Return a row.

    Args:
        found: body, digest, number and beginning of the journal's epoch, then `COLUMNS`.
        earlier: returns number, body and digest of each revision before the row's, if there are any; what is not before it is left out.

    Raises:
        UnreadableRow: only a newer release can read it.
    """
    body, digest, number, since, *columns = found
    record = Record(*columns)
    before: tuple[Revision, ...] = ()
    try:
        if record.revision > 1:
            before = tuple(read_revision(*revision) for revision in earlier() if revision[0] < record.revision)
        revision = read_revision(record.revision, body, digest, (record.requested_amount, record.requested_currency))
        return seen_in(read_record(record, revision, before), Epoch(number, since))
    except (msgspec.ValidationError, AttributeError):  # a member, or a field of a body, that is not known here
        raise UnreadableRow(
            f"Withdrawal {record.foreign_id!r} of account {record.account!r} was written by a newer release, in a form that this one "
            f"({__version__}) cannot read: this process leaves it alone and moved no money. Upgrade this process.",
            foreign_id=record.foreign_id,
            recorded=None,
        ) from None


def longest_overdue(rows: Iterable[Row], limit: int) -> list[Row]:
    """Return so many of the rows that are due, the longest overdue first."""
    return sorted(rows, key=lambda row: due_at(row) or 0.0)[:limit]


def sums(figures: Iterable[tuple[str, str, Decimal | str]]) -> dict[str, Totals]:
    """Return the exact sums, by currency, of figures that each come with their currency and the sum that they count in."""
    found: dict[str, dict[str, Decimal]] = {}
    for currency, counted_as, figure in figures:
        counted = found.setdefault(currency, {})
        for name in ("requested", counted_as):
            counted[name] = EXACT.add(counted.get(name, Decimal(0)), Decimal(figure))
    return {currency: Totals(**found[currency]) for currency in sorted(found)}
