"""The row: what the journal knows of one withdrawal, and what its fields mean together.

`transitions.apply` changes a row, `next_step.next_step` returns what would help next.
"""

from __future__ import annotations

from typing import Any, Final, Literal

import msgspec
from msgspec.structs import replace

from alphapo_async.core.comparison import Difference
from alphapo_async.core.evidence import Revision
from alphapo_async.core.models import ENDED, Source, Transaction, Withdrawal

__all__ = [
    "CORRECTABLE_STATES",
    "NEGATIVE_STATES",
    "REFRESH_AFTER",
    "STICKY_STATES",
    "WENT_BACK",
    "Assumptions",
    "CountedLine",
    "Epoch",
    "Row",
    "State",
    "counted_as",
    "has_expired",
    "is_by_hand",
    "is_ended",
    "is_fresh",
    "is_frozen",
    "is_in_doubt",
    "is_new_since_rollback",
    "is_refused_after",
    "is_stale_no",
    "may_have_forgotten",
    "own_transaction",
    "put_in_doubt",
    "quiet_ends_at",
    "seen_in",
    "settle",
    "withdrawal_of",
]

State = Literal["open", "accepted", "failed", "rejected", "not_sent", "conflict", "key_refused"]
"""`open` until settled. A row in doubt is open."""

NEGATIVE_STATES: Final = frozenset({"rejected", "not_sent", "conflict", "key_refused"})
"""Settled, and AlphaPo does not have it: a later acceptance contradicts these."""
CORRECTABLE_STATES: Final = NEGATIVE_STATES - {"conflict"}
"""Another payment under the same foreign_id becomes the row's next revision."""
STICKY_STATES: Final = frozenset({"rejected", "conflict"})
"""When the same payment is requested again, these are reported again without a request to AlphaPo."""


QUIET: Final = 1_800.0
"""Seconds, by default, after the last byte within which AlphaPo may still accept a body."""
REFRESH_AFTER: Final = 600.0
"""Seconds, by default, after which an accepted row that is not final is looked up."""
WENT_BACK: Final = "journal went back"
"""The reason of a frozen row."""

MANY: Final = 2
"""Attempts that are counted where a worker, a process or a backup leaves no record of how many there were."""


class CountedLine(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """A line of the history that an equal one counts up instead of adding another."""

    number: int
    kind: str
    mark: str
    """Its text, or a digest of it."""
    count: int = 1


class Epoch(msgspec.Struct, frozen=True, gc=False):
    """A journal's epoch: a number that rises each time the journal is first seen to have gone back in time."""

    number: int = 0
    since: float | None = None
    """When this epoch was first seen; None if nothing was lost when it began."""


class Row(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What the journal knows of one withdrawal. Times are seconds since the epoch."""

    account: str
    foreign_id: str
    revision: Revision
    key_fingerprint: str
    """Fingerprint of the key that this revision is signed with."""
    created_at: float
    epoch: int = 0
    """The journal's epoch when the payment was last requested or unfrozen; no other evidence changes it."""
    reaffirmed_in: int = 0
    """The journal's epoch in which AlphaPo last confirmed a recorded "no"."""
    journal_epoch: Epoch = Epoch()
    """The journal's epoch when the row was read; never stored."""
    earlier: tuple[Revision, ...] = ()
    state: State = "open"
    settled_at: float | None = None
    settled_by: str | None = None
    """The worker whose clock gave `settled_at`: it held the row then, or dated the "no" anew to report it once more."""
    holder: str | None = None
    """The worker that may send, and whose "no" counts."""
    held_since: float = 0.0
    claim: int = 0
    """The number of the claim by which the holder took it, among other rows; 0 where the holder took it by itself."""
    expires_at: float | None = None
    """Left to the workers, who try until then."""
    stays_open: bool = False
    """It was enqueued, or open before the call that holds it: only AlphaPo's answer or `expires_at` settles it."""
    reported: bool = True
    """A caller got the outcome, or waits for it."""

    earlier_request_possible: bool = False
    """The journal may have forgotten an earlier request: the id was new to it, and it is in memory or went back. A look-up comes first."""
    doubt_since: float | None = None
    """When the first attempt began that may have arrived without proof."""
    could_leave_until: float | None = None
    """The last moment at which a byte of a doubtful attempt could have left."""
    look_ups_only: bool = False
    """No body follows any more: a reply blamed foreign_id, or AlphaPo showed a withdrawal under it that is not proved to be ours."""
    needs_look_up: bool = False
    """A look-up comes before the next body."""
    other_key_possible: bool = False
    """What this journal knows nothing of may have been sent with another key, whose withdrawals this one's look-ups need not show."""

    refusal: dict[str, list[str]] | None = None
    """AlphaPo's latest "no" that could not settle the row by itself."""
    refused_at: float | None = None
    """When the body of that "no" left."""
    control_seen_at: float | None = None
    """When a look-up was seen to show another withdrawal, accepted after the quiet time and that "no": a "none" now counts."""

    attempts: int = 0
    """Bodies that left or may have left."""
    arrivals: int = 0
    """Attempts that may have arrived, without those that AlphaPo refused; `MANY` where their number is not known."""
    look_ups: int = 0
    not_before: float = 0.0
    """Nothing is sent or asked before: AlphaPo asked to wait, or the quiet time is not over."""
    reason: str = ""
    """The last word that did not settle the row."""
    code: str | None = None
    """The authentication code of the last refusal of the key."""
    withdrawal: Withdrawal | None = None
    transaction: Transaction | None = None
    differences: tuple[Difference, ...] = ()
    contradiction: str | None = None
    """What was reported before and is now known to be wrong."""
    decision: str | None = None
    """Who settled it by hand, and why."""
    checked_at: float | None = None
    """When AlphaPo was last asked about it or called back, or a worker last released it."""
    quiet: float | None = None
    """The quiet time, in seconds, of the policy under which it was recorded; None for `QUIET`."""
    refresh_after: float | None = None
    """Seconds after which a worker looks it up, once it is accepted and not final; None for `REFRESH_AFTER`."""

    lines: int = 0
    """How many lines its history has."""
    counted: tuple[CountedLine, ...] = ()
    """Those of its lines that an equal one counts up."""


class Assumptions(msgspec.Struct, frozen=True, gc=False):
    """What is assumed of AlphaPo, and known of ourselves, in seconds."""

    resend_within: float = 86_400.0
    """How long AlphaPo does not free an id."""
    quiet: float = QUIET
    """How late a body may still be accepted."""
    attempt_timeout: float = 15.0
    """How long the bytes of one body may take to leave."""
    refresh_after: float = REFRESH_AFTER
    """How long an accepted withdrawal that is not final is left alone at first."""


def is_in_doubt(row: Row) -> bool:
    """AlphaPo may have it: an attempt may have arrived, AlphaPo knows the id, or the journal may have forgotten an earlier request."""
    is_known = row.doubt_since is not None or row.look_ups_only or row.refusal is not None
    return row.state == "open" and (is_known or is_new_since_rollback(row))


def own_transaction(row: Row) -> Transaction | None:
    """Return what AlphaPo shows of the row's payment; None where it shows nothing, or another withdrawal in its place."""
    is_another = row.state == "conflict" or (row.state == "open" and bool(row.differences))
    return None if is_another else row.transaction


def is_new_since_rollback(row: Row) -> bool:
    """Return whether the id was new to a journal that had gone back in time, and no look-up has answered "none" yet."""
    return row.earlier_request_possible and row.epoch > 0


def is_ended(row: Row) -> bool:
    """Return whether AlphaPo shows that it ended the withdrawal of an open row, of which an earlier attempt may still arrive."""
    return row.state == "open" and row.withdrawal is not None and row.withdrawal.status in ENDED


def has_expired(row: Row, now: float) -> bool:
    """The row was left to the workers until now, and nothing of it is in doubt: it is no longer sent."""
    is_over = row.expires_at is not None and now >= row.expires_at
    return row.state == "open" and is_over and not is_in_doubt(row)


def counted_as(row: Row) -> str:
    """Return which of the sums of `Totals` the row counts in."""
    if row.state == "open":
        return "unknown" if is_in_doubt(row) else "open"
    return "not_sent" if row.state == "key_refused" else row.state


def is_fresh(row: Row) -> bool:
    """Return whether a worker may claim the row among others: open, held by no worker, and nothing of it in doubt."""
    return row.holder is None and counted_as(row) == "open"


def is_by_hand(row: Row) -> bool:
    """Return whether a person's decision is in force: AlphaPo itself has given no outcome of the withdrawal."""
    if row.decision is None:
        return False
    return row.state == "rejected" or (
        row.state == "accepted" and row.withdrawal is not None and row.withdrawal.source == "journal"
    )


def is_refused_after(row: Row, when: float) -> bool:
    """The last reply to the body was a "no", and no body sent before it can still be accepted."""
    return row.refusal is not None and row.refused_at is not None and row.refused_at >= when


def quiet_ends_at(row: Row, assumptions: Assumptions | None = None) -> float:
    """Return the time from which no body sent so far can still be accepted, without assumptions by the policy that recorded the row."""
    return (row.could_leave_until or 0.0) + (assumptions.quiet if assumptions else row.quiet or QUIET)


def withdrawal_of(row: Row, source: Source) -> Withdrawal | None:
    """Return the withdrawal that the row knows, as this source showed it."""
    return row.withdrawal and replace(row.withdrawal, source=source)


def settle(row: Row, state: State, now: float, **learned: Any) -> Row:
    """Return the row settled: without a holder, owing nothing, with these further changes."""
    since, by = (row.settled_at, row.settled_by) if row.state == state else (now, row.holder)
    return replace(
        row, state=state, settled_at=since, settled_by=by, holder=None, claim=0, needs_look_up=False, **learned
    )


def put_in_doubt(row: Row, began: float, until: float, reason: str, arrivals: int = MANY) -> Row:
    """What was sent between these times may have arrived: `doubt_since` is the earliest start, `could_leave_until` the latest end.

    `arrivals` is the number of attempts in that time.

    A settled "no" that a late attempt of another worker puts in doubt is open again: its holder was not alone.
    """
    if row.state in ("accepted", "failed"):
        return row
    reopened = (
        {}
        if row.state == "open"
        else {"state": "open", "settled_at": None, "contradiction": f"in doubt after {row.state}"}
    )
    return replace(
        row,
        **reopened,
        doubt_since=began if row.doubt_since is None else min(row.doubt_since, began),
        could_leave_until=until if row.could_leave_until is None else max(row.could_leave_until, until),
        arrivals=row.arrivals + arrivals,
        needs_look_up=True,
        refusal=None,
        refused_at=None,
        control_seen_at=None,
        code=None,
        reason=reason,
    )


# ── a journal that went back in time: rows are compared by epoch alone, and never by time ──────────────────────────────


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
