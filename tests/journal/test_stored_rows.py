"""What a database keeps of rows: read as it was written."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from decimal import Decimal
from functools import partial

import pytest
from msgspec.structs import replace

from alphapo_async.core.models import Totals
from alphapo_async.core.row import Epoch, Row, is_frozen
from alphapo_async.core.row_format import to_record, written
from alphapo_async.journal.stored_rows import STORED, Readable, UnreadableRow, longest_overdue, sums, unpack
from tests.support.rows import CORRECTED, OURS, row


def read_back(stored: Row, epoch: Epoch | None = None) -> Row:
    """Return the row that a database finds in the place of this one."""
    _, body, _, digest = written(stored.revision)
    revisions = [(one.number, one.body, one.digest) for one in (*stored.earlier, stored.revision)]
    number, since = (0, None) if epoch is None else (epoch.number, epoch.since)
    return unpack([body, digest, number, since, *to_record(stored)], lambda: revisions)


def test_a_row_is_read_as_it_was_written() -> None:
    """With its earlier revisions, and none that another process has stored since."""
    corrected = row(revision=replace(CORRECTED, number=2), earlier=(OURS,))
    for stored in (row(), corrected):
        assert to_record(read_back(stored)) == to_record(stored)
        assert [one.body for one in read_back(stored).earlier] == [one.body for one in stored.earlier]
    assert len(STORED) == len(to_record(row())) + len(written(OURS)[1:])


def test_an_open_row_of_an_earlier_epoch_is_read_as_frozen() -> None:
    """The epoch is read with each row."""
    assert is_frozen(read_back(row(), Epoch(1, 50.0)))
    assert not is_frozen(read_back(row()))


def unreadable(foreign_id: str) -> Row:
    """Read a row to which a newer release added a member."""
    record = to_record(row(foreign_id=foreign_id))
    rest = record.rest[:-1] + b',"new_in_02":1}'
    return unpack([b"", "", 0, None, *record._replace(rest=rest)], list)


def test_a_row_that_only_a_newer_release_can_read_is_refused() -> None:
    """By a member of the rest, or by a field of the body; the error survives being copied and pickled."""
    with pytest.raises(
        UnreadableRow, match="Withdrawal 'f' of account 'default' was written by a newer release"
    ) as caught:
        unreadable("f")
    for other in (copy.copy(caught.value), pickle.loads(pickle.dumps(caught.value))):  # noqa: S301 - our own
        assert (type(other), str(other), other.foreign_id) == (UnreadableRow, str(caught.value), "f")
    with pytest.raises(UnreadableRow):
        unpack([b'{"new_in_02": 1}', "", 0, None, *to_record(row())], list)


def test_unreadable_rows_are_left_out_with_one_warning_each(caplog: pytest.LogCaptureFixture) -> None:
    """As long as few enough are remembered."""
    readable = Readable()
    readers: list[Callable[[], Row]] = [
        partial(unreadable, "f"),
        row,
        partial(unreadable, "g"),
        partial(unreadable, "f"),
    ]
    assert readable.among(readers) == [row()]
    assert [record.__dict__["foreign_id"] for record in caplog.records] == ["f", "g"]
    caplog.clear()
    assert readable.among([partial(unreadable, str(number)) for number in range(1_000)]) == []
    assert readable.among([partial(unreadable, "f")]) == []
    assert [record.__dict__["foreign_id"] for record in caplog.records][-2:] == ["999", "f"]


def test_the_longest_overdue_rows_come_first() -> None:
    """Whichever query found them, and no more of them than are asked for."""
    first, second, third = (row(at, holder=None) for at in (1.0, 2.0, 3.0))
    assert longest_overdue([second, third, first], 2) == [first, second]


def test_sums_are_exact() -> None:
    """Figures of any size, as text or as numbers, by currency."""
    large, small = "1" + "0" * 60, "0.00000000000000000001"
    figures: list[tuple[str, str, Decimal | str]] = [
        ("XRP", "open", Decimal(1)),
        ("BTC", "open", large),
        ("BTC", "accepted", small),
        ("BTC", "open", "2"),
    ]
    assert sums(figures) == {
        "BTC": Totals(
            requested=Decimal("1" + "0" * 59 + "2.00000000000000000001"),
            open=Decimal("1" + "0" * 59 + "2"),
            accepted=Decimal(small),
        ),
        "XRP": Totals(requested=Decimal(1), open=Decimal(1)),
    }
    assert list(sums(figures)) == ["BTC", "XRP"]
    assert sums([]) == {}
