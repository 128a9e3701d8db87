"""A row and a line of its history as named values."""

from __future__ import annotations

from decimal import Decimal

import pytest
from msgspec.structs import replace

from alphapo_async.cli.row_fields import FIELDS, fields_of, line_fields
from alphapo_async.core.codec import decode_body, encode_body
from alphapo_async.core.evidence import Revision
from alphapo_async.core.history import Entry
from alphapo_async.core.models import request_of
from tests.support.rows import ACCEPTED_ROW, REJECTED_ROW


def test_a_row_has_every_field() -> None:
    """In the order of the export's columns."""
    for row in (ACCEPTED_ROW, REJECTED_ROW):
        assert tuple(fields_of(row)) == FIELDS


@pytest.mark.parametrize(
    ("fields", "without_tag"),
    [
        ({"currency": "BTC"}, None),
        ({"currency": "XRP", "without_tag": True}, True),
        ({"currency": "XRP", "tag": "7"}, None),
    ],
)
def test_a_flag_is_exported_only_where_the_same_payment_needs_it(
    fields: dict[str, object], without_tag: object
) -> None:
    """A recorded body without a tag reads back with `without_tag`, whatever its currency is."""
    about = {"address": "a", "amount": "1", "foreign_id": "f", "end_user_reference": "u"}
    payment = decode_body(encode_body(request_of({**about, **fields})))
    exported = fields_of(replace(ACCEPTED_ROW, revision=Revision(encode_body(payment), payment)))
    assert (exported["without_tag"], exported["allow_personal_reference"]) == (without_tag, None)


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


def test_a_row_without_its_payment_keeps_what_was_requested() -> None:
    """The figure is kept for the books; the request's fields are gone."""
    kept = Revision(b"", None, 1, "1:0", (Decimal("0.5"), "BTC"))
    fields = fields_of(replace(ACCEPTED_ROW, revision=kept))
    assert tuple(fields) == FIELDS
    assert (fields["requested_amount"], fields["requested_currency"]) == ("0.5", "BTC")
    assert (fields["amount"], fields["currency"]) == (None, None)
