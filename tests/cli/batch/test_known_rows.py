"""What the journal has of a file's rows, and what is left."""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from alphapo_async.cli.batch.known_rows import InJournal, take_stock
from alphapo_async.cli.batch.survey import Survey
from alphapo_async.core.models import WithdrawalRequest, requested_figure
from alphapo_async.core.row import Row
from alphapo_async.journal import MemoryJournal
from tests.support.journal_suite import asked, pay
from tests.support.rows import ACCEPTED_ROW, DOUBTED, REJECTED_ROW, row

SAME = WithdrawalRequest(foreign_id="f", currency="BTC", address="a", amount="1", end_user_reference="u")
OTHER = replace(SAME, amount=Decimal(2))


def stock_of(known: Row | None, request: WithdrawalRequest = SAME, *, retry_rejected: bool = False) -> InJournal:
    """Return the stock of one row."""
    stock = InJournal()
    stock.add(request, known, retry_rejected=retry_rejected)
    return stock


@pytest.mark.parametrize(
    ("known", "request_", "retry", "state", "place"),
    [
        (None, SAME, False, None, "left"),
        (ACCEPTED_ROW, SAME, False, "accepted", "accepted"),
        (DOUBTED, SAME, False, "not settled", "unsettled"),
        (row(), SAME, False, "not settled", "unsettled"),
        (row(state="not_sent"), SAME, False, "not sent", "left"),
        (row(state="key_refused"), SAME, False, "not sent, key refused", "left"),
        (REJECTED_ROW, SAME, False, "rejected", None),
        (REJECTED_ROW, SAME, True, "rejected", "left"),
        (row(state="conflict"), SAME, False, "conflict", None),
        (row(state="failed"), SAME, True, "failed", None),
        (REJECTED_ROW, OTHER, False, "corrected (was rejected)", "left"),
        (ACCEPTED_ROW, OTHER, True, "in conflict (accepted)", None),
        (DOUBTED, OTHER, True, "in conflict (not settled)", None),
        (row(state="conflict"), OTHER, True, "in conflict (conflict)", None),
        (row(state="conflict"), SAME, True, "conflict", "left"),
    ],
)
def test_a_row_is_left_where_a_run_would_send_it(
    known: Row | None, request_: WithdrawalRequest, *, retry: bool, state: str | None, place: str | None
) -> None:
    """What is accepted is not paid again, what is in doubt is looked up first, and what was not sent is sent."""
    stock = stock_of(known, request_, retry_rejected=retry)
    assert stock.counts == ({} if state is None else {state: 1})
    is_conflict = str(state).startswith("in conflict ")
    assert (stock.conflict, stock.first_conflicts) == ((1, ["f"]) if is_conflict else (0, []))
    figures: dict[str, Any] = {name: getattr(stock, name).to_pay for name in ("left", "accepted", "unsettled")}
    assert figures == {
        name: {"BTC": requested_figure(request_)[0]} if name == place else {}
        for name in ("left", "accepted", "unsettled")
    }


async def _requests(number: int) -> AsyncIterator[WithdrawalRequest]:
    for each in range(number):
        yield replace(SAME, foreign_id=f"p-{each}")


async def test_many_are_asked_for_at_a_time() -> None:
    """However many they are, each is counted once."""
    journal = MemoryJournal()
    await pay(journal, "p-500")
    left: list[WithdrawalRequest] = []
    stock = await take_stock(journal, "default", _requests(501), retry_rejected=False, on_left=left.append)
    assert stock.counts == {"accepted": 1}
    assert [request.foreign_id for request in left] == [f"p-{number}" for number in range(500)]
    assert (stock.left.counts, stock.left.to_pay) == ({"BTC": 500}, {"BTC": Decimal(500)})
    assert stock.accepted == Survey(
        to_pay={"BTC": Decimal(1)}, to_debit={"BTC": Decimal(1)}, counts=stock.accepted.counts
    )
    assert asked("p-500").revision.payment == replace(SAME, foreign_id="p-500")
