"""The planner: which step would help a row next, and when (`transitions.apply` changes the row, this reads it)."""

from __future__ import annotations

from typing import Final, TypeAlias

import msgspec

from alphapo_async.core.models import FINAL
from alphapo_async.core.row import (
    MANY,
    REFRESH_AFTER,
    Assumptions,
    Row,
    is_ended,
    is_frozen,
    is_in_doubt,
    is_refused_after,
    quiet_ends_at,
)

__all__ = ["Done", "LookUp", "Send", "Step", "Wait", "due_at", "is_no_longer_refreshed", "may_send_again", "next_step"]

HOUR: Final = 3_600.0
DAY: Final = 86_400.0
LOOKED_UP_FOR: Final = 30 * DAY
"""Seconds after which an accepted row that is still not final is left to a callback, or to a look-up that a caller asks for."""
SOON: Final = 10.0
"""Seconds after which a worker comes back to a row in doubt at the earliest."""


class Send(msgspec.Struct, frozen=True, gc=False):
    """Send the body."""


class LookUp(msgspec.Struct, frozen=True, gc=False):
    """Ask by foreign_id; as a control, ask for another withdrawal accepted after `accepted_after`."""

    accepted_after: float | None = None


class Wait(msgspec.Struct, frozen=True, gc=False):
    """Nothing helps before this time."""

    until: float


class Done(msgspec.Struct, frozen=True, gc=False):
    """The row is settled."""


Step: TypeAlias = Send | LookUp | Wait | Done

SEND, LOOK_UP, DONE = Send(), LookUp(), Done()
_ASSUMPTIONS = Assumptions()


def next_step(row: Row, now: float, assumptions: Assumptions = _ASSUMPTIONS) -> Step:
    """Return what would help next."""
    if row.state != "open":
        return DONE
    if now < row.not_before:
        return Wait(row.not_before)
    if row.arrivals >= MANY and is_ended(row) and not row.needs_look_up and now <= quiet_ends_at(row, assumptions):
        return Wait(quiet_ends_at(row, assumptions))
    if row.needs_look_up or row.look_ups_only or is_frozen(row):
        return LOOK_UP
    if row.doubt_since is None:
        return SEND
    return _next_step_in_doubt(row, now, row.doubt_since, assumptions)


def _next_step_in_doubt(row: Row, now: float, doubt_since: float, assumptions: Assumptions) -> Step:
    quiet = quiet_ends_at(row, assumptions)
    if row.could_leave_until is not None and now < row.could_leave_until:
        # A silent worker has a lease until then: no two workers send at the same time.
        return Wait(row.could_leave_until)
    if row.refusal is not None and now < quiet:
        # Refused once while in doubt: the same bytes prove nothing more before the quiet time is over.
        return Wait(quiet)
    # After `resend_within` AlphaPo may have freed the id: nothing is sent any more, and a "none" proves nothing.
    freed_from = doubt_since + assumptions.resend_within
    if is_refused_after(row, quiet):
        control_is_useless = row.control_seen_at is not None or row.other_key_possible or now > freed_from
        return LOOK_UP if control_is_useless else LookUp(accepted_after=quiet)
    arrives_by = now + assumptions.attempt_timeout + assumptions.quiet
    return SEND if arrives_by <= freed_from else LOOK_UP


def may_send_again(row: Row, now: float, assumptions: Assumptions = _ASSUMPTIONS) -> bool:
    """Return whether a worker in its loop may send: a row in doubt only once each quiet time."""
    return row.doubt_since is None or now >= quiet_ends_at(row, assumptions)


def due_at(row: Row) -> float | None:
    """Return when a worker on its rounds should come to the row; None if another holds it, or nothing is left to do.

    A row in doubt is looked up ever more rarely, up to once an hour, and when its quiet time ends. An accepted row that is not final is
    looked up after its `refresh_after`, then each time after twice as long, up to once a day, for 30 days; so is the withdrawal that a row
    is in conflict with.
    """
    if row.state == "open":
        return None if row.holder is not None else _due_while_open(row)
    if not _is_refreshed(row):
        return None
    settled_at = row.settled_at or row.created_at
    checked_at = max(row.checked_at or 0.0, settled_at)
    if checked_at - settled_at >= LOOKED_UP_FOR:
        return None
    return checked_at + min(checked_at - settled_at + (row.refresh_after or REFRESH_AFTER), DAY)


def _is_refreshed(row: Row) -> bool:
    """Return whether AlphaPo may still show another status of the withdrawal that the row has, or is in conflict with."""
    shown = row.transaction if row.state == "conflict" else row.withdrawal if row.state == "accepted" else None
    return shown is not None and shown.status not in FINAL


def is_no_longer_refreshed(row: Row) -> bool:
    """Return whether an accepted row that is not final is no longer looked up by workers."""
    return row.state == "accepted" and _is_refreshed(row) and due_at(row) is None


def _due_while_open(row: Row) -> float:
    if row.checked_at is None:
        return max(row.created_at, row.not_before)
    since = (
        row.created_at if row.doubt_since is None else row.doubt_since
    )  # it may have waited for long before it was sent
    pause = min(max(row.checked_at - since, SOON), HOUR) if is_in_doubt(row) else SOON
    due = row.checked_at + pause
    quiet = quiet_ends_at(row)
    if row.checked_at < quiet < due:  # the body may be sent again from then on
        due = quiet
    return max(due, row.not_before)
