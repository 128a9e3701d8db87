"""A row of the journal as named values, for CSV and JSON. Pure."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from alphapo_async.cli.output import fees_text
from alphapo_async.core.codec import plain
from alphapo_async.core.history import Entry
from alphapo_async.core.models import WithdrawalRequest, is_on_xrp_ledger
from alphapo_async.core.row import Row, counted_as, own_transaction

__all__ = ["FIELDS", "OUTCOME_FIELDS", "body_hash", "fields_of", "iso_moment", "line_fields", "outcome_of"]

_REQUEST_FIELDS: Final = WithdrawalRequest.__struct_fields__
OUTCOME_FIELDS: Final = (
    "account",
    "outcome",
    "requested_amount",
    "requested_currency",
    "created_at",
    "settled_at",
    "alphapo_id",
    "status",
    "source",
    "txids",
    "attempts",
    "look_ups",
    "revision",
    "sha256",
    "reason",
    "fees",
)
"""The columns about a row that are no fields of a request; `alphapo batch` leaves them out. New ones come at the end."""
FIELDS: Final = ("foreign_id", *(name for name in _REQUEST_FIELDS if name != "foreign_id"), *OUTCOME_FIELDS)
"""The columns, in their order: the request's fields as requested, then what became of it."""


def outcome_of(row: Row) -> str:
    """Return the outcome of a row; the totals count `key_refused` as not sent."""
    return row.state if row.state == "key_refused" else counted_as(row)


def body_hash(row: Row) -> str | None:
    """Return the SHA-256 of the body's bytes; None where they are no longer kept."""
    return hashlib.sha256(row.revision.body).hexdigest() if row.revision.body else None


def fields_of(row: Row) -> dict[str, Any]:
    """Return what a row says, field by field; None for what it does not know."""
    known, transaction = row.withdrawal, own_transaction(row)
    figure, currency = row.revision.asked
    return {
        **dict.fromkeys(FIELDS),
        **_request_fields(row.revision.payment),
        "foreign_id": row.foreign_id,
        "account": row.account,
        "outcome": outcome_of(row),
        "requested_amount": plain(figure) if currency else None,
        "requested_currency": currency or None,
        "created_at": iso_moment(row.created_at),
        "settled_at": None if row.settled_at is None else iso_moment(row.settled_at),
        "alphapo_id": None if known is None or known.id is None else str(known.id),
        "status": None if known is None else known.status,
        "source": None if known is None else known.source,
        "txids": [] if transaction is None else list(transaction.txids),
        "attempts": row.attempts,
        "look_ups": row.look_ups,
        "revision": row.revision.number,
        "sha256": body_hash(row),
        "reason": row.decision or row.contradiction or row.reason or None,
        "fees": fees_text(transaction) or None,
    }


def _request_fields(payment: WithdrawalRequest | None) -> dict[str, Any]:
    """Return the fields of a request as a batch reads them, so that they make the same payment again."""
    if payment is None:
        return {}
    fields = {name: getattr(payment, name) for name in _REQUEST_FIELDS}
    texts = {name: plain(value) for name, value in fields.items() if isinstance(value, Decimal)}
    # A recorded body has neither flag: each is set where the same payment needs it, and empty elsewhere.
    flags = {
        "without_tag": (is_on_xrp_ledger(payment) and payment.tag is None) or None,
        "allow_personal_reference": "@" in payment.end_user_reference or None,
    }
    return {**fields, **texts, **flags}


def iso_moment(seconds: float) -> str:
    """Return a time as every JSON and CSV has it: ISO 8601 in UTC, to the millisecond."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def line_fields(line: Entry) -> dict[str, Any]:
    """Return what a line of the history says, field by field; the reply is left out."""
    return {
        "at": iso_moment(line.at),
        "kind": line.kind,
        "what": line.what,
        "http_status": line.http_status,
        "worker": line.worker,
        "release": line.release,
        "count": line.count,
    }
