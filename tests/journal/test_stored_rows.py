"""What a database keeps of rows: read as it was written."""

from __future__ import annotations

from decimal import Decimal

from msgspec.structs import replace

from alphapo_async.core.models import Totals
from alphapo_async.core.row import Epoch, Row, is_frozen
from alphapo_async.core.row_format import to_record, written
from alphapo_async.journal.stored_rows import STORED, sums, unpack
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
