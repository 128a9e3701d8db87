"""What the journal has of a file's rows already, and what is left that a run would pay now."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Callable, Sequence
from typing import Final, TypeVar

import msgspec

from alphapo_async.cli.batch.survey import Survey
from alphapo_async.core.evidence import Revision
from alphapo_async.core.models import WithdrawalRequest
from alphapo_async.core.row import CORRECTABLE_STATES, NEGATIVE_STATES, STICKY_STATES, Row
from alphapo_async.journal import Journal

__all__ = ["InJournal", "found", "state_of", "take_stock"]

_AT_ONCE: Final = 500
_STATES: Final = {"not_sent": "not sent", "key_refused": "not sent, key refused", "open": "not settled"}

T = TypeVar("T")


class InJournal(msgspec.Struct):
    """What the journal has of a file's rows to be paid; in each `Survey` figures and counts of what is to be paid say how much it is."""

    counts: Counter[str] = msgspec.field(default_factory=Counter)
    """Rows that it has, by what they are there."""
    left: Survey = msgspec.field(default_factory=Survey)
    """What a run would pay now."""
    accepted: Survey = msgspec.field(default_factory=Survey)
    """What AlphaPo has accepted already."""
    unsettled: Survey = msgspec.field(default_factory=Survey)
    """What is looked up first, and sent again only where that is safe."""

    def add(self, request: WithdrawalRequest, row: Row | None, *, retry_rejected: bool) -> None:
        """Count one row of the file, beside what the journal has under its foreign_id."""
        if row is None:
            self.left.take(request)
            return
        is_same = row.revision.is_same_payment(Revision(b"", request))
        self.counts[state_of(row) if is_same else f"another payment, {state_of(row)}"] += 1
        is_sent_again = row.state in NEGATIVE_STATES and (row.state not in STICKY_STATES or retry_rejected)
        if is_sent_again if is_same else row.state in CORRECTABLE_STATES:
            self.left.take(request)
        elif is_same and row.state == "accepted":
            self.accepted.take(request)
        elif is_same and row.state == "open":
            self.unsettled.take(request)


def state_of(row: Row) -> str:
    """Return what a row is in the journal, in words."""
    return _STATES.get(row.state, row.state)


async def take_stock(
    journal: Journal, account: str, requests: AsyncIterable[WithdrawalRequest], *, retry_rejected: bool
) -> InJournal:
    """Return what the journal has of these, and what is left.

    Args:
        journal: what was promised, and what came of it.
        account: whose.
        requests: the rows to be paid.
        retry_rejected: what AlphaPo has rejected before is sent again.
    """
    stock = InJournal()
    async for request, row in found(journal, account, requests, lambda request: request.foreign_id):
        stock.add(request, row, retry_rejected=retry_rejected)
    return stock


async def found(
    journal: Journal, account: str, items: AsyncIterable[T], name_of: Callable[[T], str]
) -> AsyncIterator[tuple[T, Row | None]]:
    """Yield each item with the row that the journal has under its name; asked for many at a time."""
    some: list[T] = []
    async for item in items:
        some.append(item)
        if len(some) == _AT_ONCE:
            for pair in await _some_found(journal, account, some, name_of):
                yield pair
            some.clear()
    for pair in await _some_found(journal, account, some, name_of):
        yield pair


async def _some_found(
    journal: Journal, account: str, items: Sequence[T], name_of: Callable[[T], str]
) -> list[tuple[T, Row | None]]:
    rows = await asyncio.gather(*(journal.find(account, name_of(item)) for item in items))
    return list(zip(items, rows, strict=True))
