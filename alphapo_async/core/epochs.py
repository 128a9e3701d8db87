"""What follows when a journal went back in time: which rows are frozen, which recorded "no" is stale, which ids may be forgotten ones.

A failover to a lagging standby, or a restored backup, takes the last commits back. What such a journal says about an open row, or about a
"no", may have been overtaken; what it does not know may have been sent. A row is compared by epoch alone, and never by time.
"""

from __future__ import annotations

from typing import Final

from msgspec.structs import replace

from alphapo_async.core.evidence import Remembered
from alphapo_async.core.merge_withdrawal import Sight, merge_withdrawal
from alphapo_async.core.row import MANY, NEGATIVE_STATES, Assumptions, Epoch, Row, is_ended, put_in_doubt

__all__ = [
    "WENT_BACK",
    "apply_remembered",
    "apply_unfrozen",
    "is_frozen",
    "is_stale_no",
    "may_have_forgotten",
    "seen_in",
    "thaw",
]

WENT_BACK: Final = "journal went back"


def seen_in(row: Row, epoch: Epoch) -> Row:
    """Return the row as it counts in this epoch of its journal: an open row of an earlier one is in doubt since this one was first seen."""
    if row.epoch >= epoch.number or row.journal_epoch == epoch:
        return row
    seen = replace(row, journal_epoch=epoch)
    if row.state != "open":
        return seen
    since = row.created_at if epoch.since is None else epoch.since
    return put_in_doubt(seen, since, since, WENT_BACK)


def is_frozen(row: Row) -> bool:
    """Return whether the row was open when the journal went back: it is looked up, and never sent before a caller asks again."""
    return row.state == "open" and row.epoch < row.journal_epoch.number


def is_stale_no(row: Row) -> bool:
    """Return whether the row's "no" is of an earlier epoch: it is reported again only after AlphaPo has confirmed it."""
    return row.state in NEGATIVE_STATES and max(row.epoch, row.reaffirmed_in) < row.journal_epoch.number


def may_have_forgotten(epoch: Epoch, now: float, assumptions: Assumptions) -> bool:
    """Return whether an id that is new to the journal may have been sent before the journal went back."""
    return epoch.since is not None and now < epoch.since + assumptions.resend_within


def thaw(row: Row, *, has_other_keys: bool) -> Row:
    """Return a frozen row recorded anew for a caller: looked up first, and sent again within `resend_within` of its first recording."""
    if not is_frozen(row):
        return row
    since = row.created_at if row.journal_epoch.since is None else row.journal_epoch.since
    doubtful = put_in_doubt(row, row.created_at, since, WENT_BACK)
    return replace(
        doubtful, epoch=row.journal_epoch.number, other_key_possible=row.other_key_possible or has_other_keys
    )


def apply_remembered(row: Row, remembered: Remembered, now: float, assumptions: Assumptions) -> Row:
    """Return the row with the acceptance that a worker saw before the journal went back."""
    if not row.revision.is_same_payment(remembered.revision):
        return row
    return merge_withdrawal(row, remembered.withdrawal, remembered.transaction, Sight(now, assumptions))


def apply_unfrozen(row: Row, now: float) -> Row:
    """Return a frozen row open again with nothing in doubt; unchanged where a worker holds it or may still send it, or AlphaPo showed it.

    A late body of the time before may still arrive, so that a refusal settles the row only after a look-up answered "none".
    """
    is_worked_on = row.holder is not None or (row.may_send_until is not None and now < row.may_send_until)
    if is_worked_on or is_ended(row) or not is_frozen(row):
        return row
    return replace(
        row,
        epoch=row.journal_epoch.number,
        new_to_volatile_journal=True,
        doubt_since=None,
        arrivals=MANY,
        id_taken=False,
        needs_look_up=False,
        other_key_possible=False,
        refusal=None,
        refused_at=None,
        control_seen_at=None,
        reason="",
        code=None,
        differences=(),
    )
