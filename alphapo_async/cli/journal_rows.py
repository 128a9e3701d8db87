"""Rows and histories of the journal as names, values and tables, with times in UTC. Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Final

from alphapo_async.cli.output import clean, requested_text, txids_text
from alphapo_async.cli.row_fields import body_hash, outcome_of
from alphapo_async.core.history import Entry
from alphapo_async.core.row import Row, is_by_hand, is_ended, is_in_doubt, is_stale_no, own_transaction

__all__ = ["HISTORY_HEADS", "OPEN_HEADS", "asked", "history_rows", "moment", "money", "open_rows", "row_pairs", "why"]

OPEN_HEADS: Final = ("foreign_id", "outcome", "asked", "since (UTC)", "why", "held by", "key")
HISTORY_HEADS: Final = ("time (UTC)", "what", "HTTP", "worker", "release")
_ZONE: Final = " UTC"
_EXPLAINED: Final = {
    "mismatch": "mismatch, in doubt: the reply shows another withdrawal",
    "duplicate": "duplicate: AlphaPo knows this foreign_id already",
    "none": "none, which proves nothing",
}
"""What the console adds to the word of a judgement."""
_SECONDS: Final = re.compile(r"\b\d{9,}\.\d{3}\b")
_STALE: Final = (
    "unknown: the journal went back in time after it recorded this; keep it pending, do not refund it. The same payment requested again is "
    "looked up first"
)
"""What is known of a "no" from before the journal went back: it may have been paid in what the journal lost."""
_HAS_LAST_WORD: Final = ("open", "not_sent")
"""States that show the last reason; in the other states the outcome replaces it."""


def moment(seconds: float | None) -> str:
    """Return a time in UTC, to the millisecond; nothing for none."""
    if seconds is None:
        return ""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + _ZONE


def row_pairs(row: Row) -> list[tuple[str, str]]:
    """Return names and values of a row; empty values are left out."""
    payment, known = row.revision.payment, row.withdrawal
    whom = "removed" if payment is None else payment.address
    pairs = [
        ("foreign_id", row.foreign_id),
        ("account", row.account),
        ("state", f"{row.state}, in doubt" if is_in_doubt(row) else row.state),
        ("money", money(row)),
        ("asked", asked(row)),
        ("address", whom),
        ("tag", (payment and payment.tag) or ""),
        ("end_user_reference", "" if payment is None else payment.end_user_reference),
        ("revision", f"{row.revision.number}, {len(row.revision.body)} bytes"),
        ("digest", row.revision.digest),
        ("sha256", body_hash(row) or ""),
        ("key", f"fingerprint {row.key_fingerprint}"),
        ("created", moment(row.created_at)),
        ("settled", moment(row.settled_at)),
        ("in doubt since", moment(row.doubt_since)),
        ("may have been sent until", moment(row.could_leave_until)),
        ("held by", row.holder or ""),
        ("tried until", moment(row.expires_at) if row.state == "open" else ""),
        (
            "not sent before",
            moment(row.not_before) if row.state == "open" and row.not_before and not is_ended(row) else "",
        ),
        ("attempts", _attempts(row)),
        ("look-ups", str(row.look_ups)),
        ("AlphaPo's id", "" if known is None or known.id is None else str(known.id)),
        ("AlphaPo's status", "" if known is None else known.status or ""),
        *(("txid", txid) for txid in txids_text(own_transaction(row)).split()),
        ("existing withdrawal", existing(row)),
        ("error", _error(row)),
        ("refusal", refusal(row)),
        ("key refused", row.code or ""),
        ("differences", "; ".join(map(str, row.differences))),
        ("by hand", row.decision or ""),
        ("contradiction", row.contradiction or ""),
        ("last word", why(row) if row.state in _HAS_LAST_WORD else ""),
    ]
    return [(name, clean(value)) for name, value in pairs if value]


def asked(row: Row) -> str:
    """Return what a row asks for, with the other currency of a conversion while the payment is kept; nothing where it is not known."""
    figure, currency = row.revision.asked
    if row.revision.payment is not None:
        return requested_text(row.revision.payment)
    return f"{figure:f} {currency}" if currency else ""


def money(row: Row) -> str:
    """Return whether money moved, and whether it still can."""
    if is_stale_no(row):
        return _STALE
    match row.state:
        case "open":
            unsent = "none moved yet; a worker may send it"
            return (
                "unknown: keep it pending, do not refund it" if is_in_doubt(row) or row.holder is not None else unsent
            )
        case "accepted":
            is_paid = row.withdrawal is not None and row.withdrawal.status == "confirmed"
            return "moved: it is paid" if is_paid else "moves: AlphaPo has it, not final yet"
        case "conflict":
            return "none moved for this payment; the existing withdrawal has its own outcome"
        case _:
            whose = "by the operator's decision" if is_by_hand(row) else "and none will"
            return f"none moved, {whose}; the funds may be released"


def refusal(row: Row) -> str:
    """Return AlphaPo's texts about a refused payment, field by field."""
    return "; ".join(f"{field}: {' '.join(texts)}" for field, texts in (row.refusal or {}).items())


def existing(row: Row) -> str:
    """Return what AlphaPo shows under the foreign_id of a row that is in conflict with it; nothing for every other row."""
    if row.state != "conflict" or row.transaction is None:
        return ""
    return f"id {row.transaction.id}, {row.transaction.status or 'status not known'}"


def why(row: Row) -> str:
    """Return the reason of a row's state, from AlphaPo, an operator or the network."""
    words = {
        "open": _why_ended(row) if is_ended(row) else row.reason,
        "not_sent": row.reason,
        "rejected": refusal(row) or "AlphaPo refused it; its reason is no longer kept",
        "failed": _error(row),
        "conflict": f"the foreign_id was already used for another payment: {existing(row) or 'it is no longer kept'}",
        "key_refused": f"key refused: AlphaPo does not accept the key or the signature ({row.code or 'its code is no longer kept'})",
    }
    return f"settled by hand: {row.decision}" if is_by_hand(row) else words.get(row.state, "")


def _why_ended(row: Row) -> str:
    """Return why a row is open whose withdrawal AlphaPo has ended, and what settles it."""
    status, until = row.withdrawal and row.withdrawal.status, moment(row.not_before or None) or "the quiet time is over"
    return (
        f"AlphaPo shows it {status}; it stays pending until {until} and until a look-up after that still shows it {status}, "
        "because an earlier attempt may still arrive"
    )


def _error(row: Row) -> str:
    """Return why AlphaPo ended a withdrawal, in its words."""
    return (row.transaction.error or "") if row.transaction else ""


def _attempts(row: Row) -> str:
    """Return the number of known attempts: an attempt is recorded when it has ended, so never if its worker dies."""
    if row.state == "open" and row.holder is not None:
        return f"{row.attempts} known; being worked on since {moment(row.held_since)}, may have been sent"
    was_sent = is_in_doubt(row) or row.state in ("accepted", "failed")
    return "none known" if was_sent and not row.attempts else str(row.attempts)


def history_rows(history: list[Entry]) -> list[tuple[str, ...]]:
    """Return the lines of a history for a table."""
    return [
        (
            moment(line.at).removesuffix(_ZONE),
            clean(f"{line.kind.replace('_', ' ')}: {_what(line)}{_how_often(line)}"),
            "" if line.http_status is None else str(line.http_status),
            clean((line.worker or "")[:8]),
            line.release,
        )
        for line in history
    ]


def _what(line: Entry) -> str:
    """Return the text of a line, with outcomes and times in plain words."""
    if line.kind in ("attempt", "look-up"):
        name, colon, reason = line.what.partition(": ")
        return f"{_EXPLAINED.get(name, name.replace('_', ' '))}{colon}{reason}"
    if line.kind in ("lease_expired", "control"):
        return _SECONDS.sub(lambda found: moment(float(found[0])), line.what)
    return line.what


def _how_often(line: Entry) -> str:
    return "" if line.last_at is None else f" ({line.count} times, last at {moment(line.last_at)})"


def open_rows(rows: list[Row]) -> list[tuple[str, ...]]:
    """Return open rows for a table with the heads `OPEN_HEADS`."""
    return [
        (
            clean(row.foreign_id),
            outcome_of(row).replace("_", " "),
            clean(asked(row)),
            moment(row.created_at).partition(".")[0],
            clean(why(row)),
            clean((row.holder or "")[:8]),
            row.key_fingerprint,
        )
        for row in rows
    ]
