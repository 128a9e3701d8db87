"""A row and a line of its history as named values."""

from __future__ import annotations

from alphapo_async.cli.row_fields import FIELDS, fields_of, line_fields
from alphapo_async.core.history import Entry
from tests.support.rows import ACCEPTED_ROW, REJECTED_ROW


def test_a_row_has_every_field() -> None:
    """In the order of the export's columns."""
    for row in (ACCEPTED_ROW, REJECTED_ROW):
        assert tuple(fields_of(row)) == FIELDS


def test_a_line_has_no_reply() -> None:
    """Times are in UTC."""
    line = Entry(1.5, "attempt", "in_doubt: HTTP 502", "worker", 502, b"<html>", release="1.0")
    assert line_fields(line) == {
        "at": "1970-01-01T00:00:01.500Z",
        "kind": "attempt",
        "what": "in_doubt: HTTP 502",
        "http_status": 502,
        "worker": "worker",
        "release": "1.0",
        "count": 1,
    }
