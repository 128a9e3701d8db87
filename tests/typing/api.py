"""Users' code as type checkers see it: mypy (strict) reads this file with the rest, and nothing in it runs.

Attributes are typed as what they hold, though the constructor takes more; outcomes can be matched exhaustively.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from decimal import Decimal
from typing import Any, Literal, assert_never, assert_type
from uuid import UUID

from alphapo_async import (
    AlphapoClient,
    AuthenticationError,
    BatchResult,
    Currency,
    Event,
    ForeignIdConflict,
    JournalError,
    Quote,
    RetryPolicy,
    SessionManager,
    Signer,
    Totals,
    Transaction,
    Withdrawal,
    WithdrawalError,
    WithdrawalFailed,
    WithdrawalNotSent,
    WithdrawalRejected,
    WithdrawalRequest,
    WithdrawalUnknown,
    derive_foreign_id,
)
from alphapo_async.core.errors import NotSentReason, Outcome, Status, UnknownReason


def requests(identity: UUID) -> list[WithdrawalRequest]:
    """Ask with text, whole numbers, decimals and UUIDs; never with a float."""
    usual: dict[str, Any] = {"currency": "BTC", "address": "bc1q", "end_user_reference": "user-42"}
    request = WithdrawalRequest(foreign_id=identity, amount=Decimal("0.1"), **usual)
    assert_type(request.amount, Decimal | None)
    assert_type(request.amount_to, Decimal | None)
    assert_type(request.foreign_id, str)
    assert_type(request.tag, str | None)
    assert_type(derive_foreign_id("refund", 17, identity), str)
    return [request, WithdrawalRequest(foreign_id=17, amount="0.1", **usual)]


def refused() -> WithdrawalRequest:
    """A float is an error to the type checker before it is one to us."""
    return WithdrawalRequest(
        foreign_id="a",
        currency="BTC",
        address="bc1q",
        end_user_reference="b",
        amount=0.1,  # type: ignore[arg-type]
    )


async def one(client: AlphapoClient, request: WithdrawalRequest) -> None:
    """Every error of a withdrawal is one of six, or the journal's."""
    try:
        withdrawal = await client.withdraw(request, deadline=5.0)
    except WithdrawalRejected as error:
        assert_type(error.errors, dict[str, list[str]])
    except WithdrawalFailed as error:
        assert_type(error.outcome, Outcome)
        assert_type(error.transaction, Transaction | Withdrawal | None)
    except AuthenticationError as error:
        assert_type(error.foreign_id, str | None)
    except ForeignIdConflict as error:
        assert_type(error.existing.payment, WithdrawalRequest | None)
        assert_type(error.existing.transaction, Transaction | None)
    except (WithdrawalNotSent, WithdrawalUnknown) as error:
        assert_type(error.foreign_id, str)
        assert_type(error.retry_after, float | None)
        assert_type(error.may_release_funds, bool)
    except JournalError as error:
        assert_type(error.recorded, bool | None)
    else:
        assert_type(withdrawal, Withdrawal)
        assert_type(withdrawal.sender_amount, Decimal | None)
        assert_type(withdrawal.is_final, bool)
        assert_type(withdrawal.status, Status | None)


def why(error: WithdrawalNotSent | WithdrawalUnknown) -> None:
    """A reason is one of our own words; AlphaPo's statuses may be others than those that it documents."""
    assert_type(error.reason, NotSentReason | UnknownReason)
    if isinstance(error, WithdrawalNotSent) and error.reason == "outage":
        assert_type(error.reason, Literal["outage"])


async def many(client: AlphapoClient, rows: AsyncIterator[dict[str, Any]]) -> None:
    """Results can be matched to the last outcome."""
    async for result in client.batch(rows, concurrency=8):
        assert_type(result, BatchResult)
        match result.outcome:
            case "accepted":
                assert_type(result.withdrawal, Withdrawal | None)
            case "rejected" | "failed" | "not_sent" | "conflict" | "key_refused" | "invalid":
                pass
            case "unknown":
                pass
            case _:
                assert_never(result.outcome)


async def questions(client: AlphapoClient) -> None:
    """What can be asked besides."""
    assert_type(await client.look_up("payout-17"), Transaction | None)
    assert_type(await client.balances(), dict[str, Decimal])
    assert_type(await client.currencies(), dict[str, Currency])
    assert_type(await client.quote("EUR", "BTC", amount="1"), Quote)
    assert_type(await client.totals(), dict[str, Totals])


def made(on_event: list[Event]) -> AlphapoClient:
    """Make a client with everything handed in."""
    session = SessionManager(max_connections=10)
    client = AlphapoClient(
        "key",
        "secret",
        journal="payouts.db",
        policy=RetryPolicy(attempts=3),
        session=session,
        on_event=on_event.append,
    )
    assert_type(client, AlphapoClient)
    assert_type(Signer("key", "secret").sign(b"{}"), str)
    return client


def output(error: WithdrawalError) -> str:
    """Outcomes are texts of the class, too."""
    return f"{error.outcome}: {error.next_step}"
