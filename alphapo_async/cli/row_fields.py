"""A row of the journal as named values, for CSV and JSON. Pure."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import Any, Final

from alphapo_async.cli.output import fees_text, txids_text
from alphapo_async.core.codec import plain
from alphapo_async.core.history import Entry
from alphapo_async.core.row import Row, counted_as

__all__ = ["FIELDS", "fields_of", "line_fields", "outcome_of"]

FIELDS: Final = (
    "foreign_id",
    "account",
    "outcome",
    "currency",
    "amount",
    "address",
    "tag",
    "end_user_reference",
    "created_at",
    "settled_at",
    "alphapo_id",
    "status",
    "witness",
    "txids",
    "attempts",
    "look_ups",
    "revision",
    "sha256",
    "reason",
    "fees",
)
"""The columns, in their order; new ones come at the end."""


def outcome_of(row: Row) -> str:
    """Return the outcome of a row; the totals count `key_refused` as not sent."""
    return row.state if row.state == "key_refused" else counted_as(row)


def fields_of(row: Row) -> dict[str, Any]:
    """Return what a row says, field by field; None for what it does not know."""
    payment, known, transaction = row.revision.payment, row.withdrawal, row.transaction
    figure, currency = row.revision.asked
    return {
        "foreign_id": row.foreign_id,
        "account": row.account,
        "outcome": outcome_of(row),
        "currency": currency or None,
        "amount": plain(figure) if currency else None,
        "address": None if payment is None else payment.address,
        "tag": None if payment is None else payment.tag,
        "end_user_reference": None if payment is None else payment.end_user_reference,
        "created_at": _moment(row.created_at),
        "settled_at": None if row.settled_at is None else _moment(row.settled_at),
        "alphapo_id": None if known is None or known.id is None else str(known.id),
        "status": None if known is None else known.status,
        "witness": None if known is None else known.source,
        "txids": txids_text(transaction) or None,
        "attempts": row.attempts,
        "look_ups": row.look_ups,
        "revision": row.revision.number,
        "sha256": hashlib.sha256(row.revision.body).hexdigest() if row.revision.body else None,
        "reason": row.word or row.contradiction or row.reason or None,
        "fees": fees_text(transaction) or None,
    }


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def line_fields(line: Entry) -> dict[str, Any]:
    """Return what a line of the history says, field by field; the reply is left out."""
    return {
        "at": _moment(line.at),
        "kind": line.kind,
        "what": line.what,
        "http_status": line.status,
        "worker": line.worker,
        "release": line.release,
        "count": line.count,
    }
