"""The record: a row as a journal stores it, in columns that an auditor can read and another release can finish."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from decimal import Decimal
from operator import attrgetter
from typing import Any, Final, NamedTuple

import msgspec

from alphapo_async.core.codec import decode_body, plain
from alphapo_async.core.comparison import Difference
from alphapo_async.core.evidence import Revision
from alphapo_async.core.models import Transaction, Withdrawal
from alphapo_async.core.next_step import due_at
from alphapo_async.core.row import CountedLine, Row, State, counted_as

__all__ = [
    "CHANGING",
    "COLUMNS",
    "REST",
    "Record",
    "Written",
    "changing",
    "read_record",
    "read_revision",
    "to_record",
    "written",
]


class Record(NamedTuple):
    """One row. Times are seconds since the epoch; what an index or an auditor asks for stands in a column, the rest in `rest`."""

    account: str
    foreign_id: str
    state: State
    counted_as: str
    """Which of the sums it counts in."""
    requested_currency: str
    requested_amount: str
    """A plain decimal: of `amount`, or of `amount_to`, whose currency is `convert_to`."""
    created_at: float
    settled_at: float | None
    due_at: float | None
    """When a worker on its rounds should come."""
    reported: int
    holder: str | None
    held_since: float
    claim_number: int
    """The number of the claim by which its holder took it; 0 without one."""
    key_fingerprint: str
    """Fingerprint of the key; never the key."""
    source: str | None
    """The witness of what AlphaPo has."""
    alphapo_id: str | None
    alphapo_status: str | None
    revision: int
    epoch: int
    """The journal's epoch when the payment was last requested."""
    rest: bytes
    """JSON."""


class Written(NamedTuple):
    """One revision: the exact bytes, and what they amount to."""

    number: int
    body: bytes
    """Empty once it is forgotten."""
    sha256: str
    digest: str
    """Versioned; equal for equal payments however they were written."""


COLUMNS: Final = Record._fields
CHANGING: Final = tuple(name for name in COLUMNS if name not in {"account", "foreign_id", "created_at"})
"""What may become another in the life of a row: what an index finds it by is not touched without need."""
changing: Final = attrgetter(*CHANGING)
"""Return these columns of a record."""


class _Rest(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True):
    """What no column is needed for.

    A member that this release does not know makes the row unreadable: it may be a reason not to send, and the next change would drop it.
    """

    expires_at: float | None = None
    stays_open: bool = False
    earlier_request_possible: bool = False
    doubt_since: float | None = None
    could_leave_until: float | None = None
    look_ups_only: bool = False
    needs_look_up: bool = False
    other_key_possible: bool = False
    refusal: dict[str, list[str]] | None = None
    refused_at: float | None = None
    control_seen_at: float | None = None
    attempts: int = 0
    arrivals: int = 0
    look_ups: int = 0
    not_before: float = 0.0
    reason: str = ""
    code: str | None = None
    withdrawal: Withdrawal | None = None
    transaction: Transaction | None = None
    differences: tuple[Difference, ...] = ()
    contradiction: str | None = None
    decision: str | None = None
    checked_at: float | None = None
    quiet: float | None = None
    refresh_after: float | None = None
    settled_by: str | None = None
    lines: int = 0
    counted: tuple[CountedLine, ...] = ()
    reaffirmed_in: int = 0


REST: Final = _Rest.__struct_fields__
"""The members of `rest`."""
_rest_of: Final = attrgetter(*REST)
_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(_Rest).decode


def to_record(row: Row) -> Record:
    """Return the columns of a row."""
    known, (figure, currency) = row.withdrawal, row.revision.asked
    return Record(
        row.account,
        row.foreign_id,
        row.state,
        counted_as(row),
        currency,
        plain(figure),
        row.created_at,
        row.settled_at,
        due_at(row),
        int(row.reported),
        row.holder,
        row.held_since,
        row.claim,
        row.key_fingerprint,
        None if known is None else known.source,
        None if known is None or known.id is None else str(known.id),
        None if known is None else known.status,
        row.revision.number,
        row.epoch,
        _encode(_Rest(*_rest_of(row))),
    )


def written(revision: Revision) -> Written:
    """Return a revision as it is stored."""
    body = revision.body
    return Written(revision.number, body, hashlib.sha256(body).hexdigest() if body else "", revision.digest)


def read_revision(number: int, body: bytes, digest: str, asked: tuple[str, str] | None = None) -> Revision:
    """Return the revision that these bytes were; where they are forgotten, one that is known by digest and asked figure."""
    if body:
        return Revision(body, decode_body(body), number)
    return Revision(b"", None, number, digest, None if asked is None else (Decimal(asked[0]), asked[1]))


def read_record(columns: Sequence[Any], revision: Revision, earlier: tuple[Revision, ...] = ()) -> Row:
    """Return the row, from its columns and its revisions.

    Raises:
        msgspec.ValidationError: a newer release wrote it in a form that this release does not know.
    """
    record = Record(*columns)
    rest = _decode(record.rest)
    return Row(
        account=record.account,
        foreign_id=record.foreign_id,
        revision=revision,
        key_fingerprint=record.key_fingerprint,
        created_at=record.created_at,
        earlier=earlier,
        state=record.state,
        settled_at=record.settled_at,
        holder=record.holder,
        held_since=record.held_since,
        claim=record.claim_number,
        reported=bool(record.reported),
        epoch=record.epoch,
        **{name: getattr(rest, name) for name in REST},
    )
