"""What the journal already has of a file's rows, and what a run would pay now."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterable, Callable, Sequence
from typing import Final

import msgspec

from alphapo_async.cli.batch.survey import Survey
from alphapo_async.core.evidence import Revision
from alphapo_async.core.models import WithdrawalRequest
from alphapo_async.core.row import CORRECTABLE_STATES, NEGATIVE_STATES, STICKY_STATES, Row
from alphapo_async.journal import Journal

__all__ = ["InJournal", "take_stock"]

_AT_ONCE: Final = 500
_FIRST: Final = 10  # conflicts that are named
_STATES: Final = {"not_sent": "not sent", "key_refused": "not sent, key refused", "open": "not settled"}


class InJournal(msgspec.Struct):
    """The journal's state of a file's rows to pay; each `Survey` has the sums and counts of one group."""

    counts: Counter[str] = msgspec.field(default_factory=Counter)
    """Rows that the journal has, by state."""
    left: Survey = msgspec.field(default_factory=Survey)
    """Rows that a run would pay now."""
    accepted: Survey = msgspec.field(default_factory=Survey)
    """Rows that AlphaPo has already accepted."""
    unsettled: Survey = msgspec.field(default_factory=Survey)
    """What is looked up first, and sent again only if that is safe."""
    conflict: int = 0
    """Rows that ask for another payment than the one in the journal, and are not sent."""
    first_conflicts: list[str] = msgspec.field(default_factory=list)
    """The foreign_ids of the first of them."""

    def add(self, request: WithdrawalRequest, row: Row | None, *, retry_rejected: bool) -> bool:
        """Count one row of the file, compared with the journal's row of its foreign_id; return whether a run would pay it now."""
        if row is None:
            self.left.take(request)
            return True
        is_same = row.revision.is_same_payment(Revision(b"", request))
        is_corrected = not is_same and row.state in CORRECTABLE_STATES
        state = _state_of(row)
        self.counts[state if is_same else f"corrected (was {state})" if is_corrected else f"in conflict ({state})"] += 1
        is_sent_again = row.state in NEGATIVE_STATES and (row.state not in STICKY_STATES or retry_rejected)
        if is_corrected or (is_same and is_sent_again):
            self.left.take(request)
            return True
        if not is_same:
            self.conflict += 1
            self.first_conflicts += [request.foreign_id][: _FIRST - len(self.first_conflicts)]
        if is_same and row.state == "accepted":
            self.accepted.take(request)
        elif is_same and row.state == "open":
            self.unsettled.take(request)
        return False


def _state_of(row: Row) -> str:
    """Return the state of a row in words."""
    return _STATES.get(row.state, row.state)


async def take_stock(
    journal: Journal,
    account: str,
    requests: AsyncIterable[WithdrawalRequest],
    *,
    retry_rejected: bool,
    on_left: Callable[[WithdrawalRequest], None] = lambda _: None,
) -> InJournal:
    """Return what the journal has of these requests, and what is left.

    Args:
        journal: it is only read.
        account: of the journal's rows.
        requests: the rows to pay.
        retry_rejected: rows that AlphaPo rejected are sent again.
        on_left: called with each row that a run would pay now.
    """
    stock = InJournal()

    async def add(some: Sequence[WithdrawalRequest]) -> None:
        rows = await asyncio.gather(*(journal.find(account, request.foreign_id) for request in some))
        for request, row in zip(some, rows, strict=True):
            if stock.add(request, row, retry_rejected=retry_rejected):
                on_left(request)

    some: list[WithdrawalRequest] = []
    async for request in requests:
        some.append(request)
        if len(some) == _AT_ONCE:
            await add(some)
            some.clear()
    await add(some)
    return stock
