"""What a database keeps of rows and of their histories: the columns in order, and how what was stored is read."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from decimal import Context, Decimal
from typing import Any, Final

from alphapo_async.core.evidence import Revision
from alphapo_async.core.history import Entry
from alphapo_async.core.models import Totals
from alphapo_async.core.row import Epoch, Row, seen_in
from alphapo_async.core.row_format import COLUMNS, Record, read_record, read_revision

__all__ = ["COLUMNS", "EXACT", "LINE", "STORED", "sums", "unpack"]

STORED: Final = (*COLUMNS, "body", "sha256", "digest")
"""The columns of a withdrawal, in the order in which they are written."""
LINE: Final = Entry.__struct_fields__
"""The columns of a line of history."""
EXACT: Final = Context(prec=1_000)
"""Adds figures of any size to the last decimal."""


def unpack(found: Sequence[Any], earlier: Callable[[], Iterable[tuple[int, bytes, str]]]) -> Row:
    """Return a row.

    Args:
        found: body, digest, number and beginning of the journal's epoch, then `COLUMNS`.
        earlier: returns number, body and digest of each revision before the row's, if there are any; what is not before it is left out.
    """
    body, digest, number, since, *columns = found
    record = Record(*columns)
    before: tuple[Revision, ...] = ()
    if record.revision > 1:
        before = tuple(read_revision(*revision) for revision in earlier() if revision[0] < record.revision)
    revision = read_revision(record.revision, body, digest, (record.amount, record.currency))
    return seen_in(read_record(record, revision, before), Epoch(number, since))


def sums(figures: Iterable[tuple[str, str, Decimal | str]]) -> dict[str, Totals]:
    """Return the exact sums, by currency, of figures that each come with their currency and the sum that they count in."""
    found: dict[str, dict[str, Decimal]] = {}
    for currency, counted_as, figure in figures:
        counted = found.setdefault(currency, {})
        for name in ("requested", counted_as):
            counted[name] = EXACT.add(counted.get(name, Decimal(0)), Decimal(figure))
    return {currency: Totals(**found[currency]) for currency in sorted(found)}
