"""Claims: how many fresh rows a worker takes ahead, what begins next, and which rows are free when a worker is gone. Pure.

A claim takes many fresh rows (open, nothing in doubt) with one statement. Two rules keep it as safe as taking each row by itself:

1. **A row begins only after a later claim of its worker.** The claims of a worker are numbered, and claim k + 1 records that rows up to
   claim k may have begun. When the worker dies, rows of its last claim were not begun and are free at once; the others are in doubt.
   Without it: every row that lay ready when a worker died is in doubt, and looked up for hours.
2. **A number is used once.** A claim whose answer was lost is sent again under its number, and then returns what it took before.
   Without it: what the lost claim took is held by a worker that knows nothing of it.
"""

from __future__ import annotations

from math import inf
from typing import NamedTuple

from alphapo_async.core.evidence import LeaseExpired, Returned
from alphapo_async.core.row import Row

_SHARE = 4
"""One slot in so many is for rows that are taken one by one, before fresh rows."""
_AHEAD = 4
"""One row for so many slots is claimed ahead."""

__all__ = ["Claim", "ClaimedRows", "ending_of", "is_jobs_turn", "rows_to_claim"]


class Claim(NamedTuple):
    """One claim of a worker. Times are seconds since the epoch."""

    worker: str
    number: int
    """From 1 on, each claim of a worker one more: rows of earlier claims may begin once this one is recorded."""
    key: str
    """Fingerprint of the key with which the rows will be signed."""
    now: float
    limit: int
    after: float = 0.0
    """Rows that were due before are left out: the journal does not pass again over what was claimed since."""


class ClaimedRows(NamedTuple):
    """What a claim took."""

    rows: list[Row]
    last_due_at: float
    """When the last of them was due: where the next claim begins to look."""


def ending_of(row: Row, worker: str, until: float, begun: int | None) -> Returned | LeaseExpired:
    """Return what the end of its holder means for a row.

    Args:
        row: as it is held.
        worker: the holder, which is gone.
        until: the time until when the worker could send.
        begun: the last claim whose rows may have begun; None where that is not known.
    """
    if row.claim > (inf if begun is None else begun):
        return Returned(worker, row.claim)
    return LeaseExpired(worker, until)


def rows_to_claim(slots: int, ready: int, waiting: int, concurrency: int) -> int:
    """Return how many rows to claim now; 0 while enough of them are ready.

    The claim is made while rows are left for the time that it takes: few, since what is ready when a worker dies is in doubt. It asks for
    at least one row, since it also lets the rows of the claim before begin.

    Args:
        slots: free ones.
        ready: rows that may begin.
        waiting: rows of the latest claim, which may begin after this one.
        concurrency: rows worked on at once.
    """
    ahead = max(1, concurrency // _AHEAD)
    if ready > ahead // 2:
        return 0
    return max(1, slots + ahead - ready - waiting)


def is_jobs_turn(running: int, concurrency: int, *, was_job: bool) -> bool:
    """Return whether the next free slot goes to a row that is taken one by one: these have up to a quarter of the slots before fresh rows.

    Args:
        running: rows of that kind that are worked on.
        concurrency: rows worked on at once.
        was_job: the last slot went to one; with fewer than four slots they take turns.
    """
    return running < max(1, concurrency // _SHARE) and (concurrency >= _SHARE or not was_job)
