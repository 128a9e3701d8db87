"""Questions that are about no withdrawal, asked of a real sandbox, and of one that answers strangely."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from alphapo_async.client import AlphapoClient
from alphapo_async.core.errors import AlphapoUnavailable, ConfigurationError, WithdrawalRejected
from alphapo_async.core.models import Money, WithdrawalRequest
from alphapo_async.core.reference_data import Currency, Quote
from alphapo_async.core.replies import NoReply, Reply
from alphapo_async.core.retry_policy import RetryPolicy
from alphapo_async.engine.questions import unavailable
from alphapo_async.sandbox import Call, Dialect, Fault, Sandbox, Script
from alphapo_async.session import SessionManager

QUESTIONS: list[Callable[[AlphapoClient], Awaitable[Any]]] = [
    AlphapoClient.ping,
    AlphapoClient.balances,
    AlphapoClient.currencies,
    lambda client: client.quote("EUR", "BTC", amount=1),
]


def client_of(sandbox: Sandbox, **settings: Any) -> AlphapoClient:
    """Return a client of it."""
    return AlphapoClient(sandbox.key, sandbox.secret, base_url=sandbox.url, journal="memory", **settings)


def always(fault: Fault, *kinds: str) -> Script:
    """Return a plan that strikes these kinds of questions always."""
    return Script({"*": {kind: [fault] for kind in kinds}}, then="repeat last")


async def test_each_question_has_its_answer() -> None:
    """Balances, currencies with both minimums, and a quote by either amount."""
    async with (
        Sandbox(balances={"BTC": "1.5"}, minimums={"BTC": "0.0002"}) as sandbox,
        client_of(sandbox) as client,
    ):
        await client.ping()
        assert await client.balances() == {"BTC": Decimal("1.5")}
        assert (await client.currencies())["BTC"] == Currency(
            code="BTC",
            type="crypto",
            precision=8,
            minimum_withdrawal=Decimal("0.0002"),
            withdrawal_fee_percent=Decimal(0),
            minimum_exchange=Decimal("0.0002"),
        )
        quote = Quote(
            currency="EUR",
            convert_to="BTC",
            amount=Decimal(25_000),
            amount_to=Decimal("0.5"),
            rate=Decimal("0.00002"),
            fee=Money(currency="EUR", amount=Decimal(0)),
        )
        assert await client.quote("EUR", "BTC", amount="25000") == quote
        assert await client.quote("EUR", "BTC", amount_to="0.5") == quote


async def test_without_rates_the_minimum_of_conversions_is_not_given() -> None:
    """The list counts by itself; without the list there is no answer."""
    async with Sandbox(faults=always(Fault.HTML_503_BEFORE, "rates")) as sandbox, client_of(sandbox) as client:
        btc = (await client.currencies())["BTC"]
        assert (btc.precision, btc.minimum_exchange) == (8, None)
        sandbox.faults = always(Fault.GARBAGE, "currencies")
        with pytest.raises(AlphapoUnavailable, match="did not answer the currencies"):
            await client.currencies()


async def test_a_refused_key_is_named() -> None:
    """By code and in words; another code is not taken for one."""
    async with Sandbox() as sandbox:
        async with AlphapoClient(sandbox.key, "wrong", base_url=sandbox.url, journal="memory") as client:
            for ask in QUESTIONS[1:]:
                with pytest.raises(AlphapoUnavailable, match="does not accept the key or the signature") as caught:
                    await ask(client)
                assert (caught.value.code, caught.value.is_key_refused) == ("bad_header_signature", True)
        sandbox.faults = always(Fault.ERROR_500_BEFORE, "accounts")
        async with client_of(sandbox) as client:
            with pytest.raises(AlphapoUnavailable, match=r"the balances: HTTP 500\.$") as caught:
                await client.balances()
            assert (caught.value.code, caught.value.is_key_refused) == ("internal_error", False)


@pytest.mark.parametrize("ask", QUESTIONS)
@pytest.mark.parametrize("reply", [NoReply("no connection", may_have_left=False), Reply(502, b"<html>")])
async def test_no_usable_answer_is_reported(ask: Callable[[AlphapoClient], Awaitable[Any]], reply: Reply) -> None:
    """For any request."""

    class Always(SessionManager):
        async def exchange(self, method: str, url: str, **how: Any) -> Reply | NoReply:
            return reply

    async with AlphapoClient("k", "s", journal="memory", session=Always(), base_url="http://127.0.0.1:9") as client:
        with pytest.raises(AlphapoUnavailable, match="AlphaPo did not answer the"):
            await ask(client)


async def test_an_answer_without_what_was_asked_for_is_no_answer() -> None:
    """A 200 with another JSON."""

    class Odd(SessionManager):
        async def exchange(self, method: str, url: str, **how: Any) -> Reply | NoReply:
            return Reply(200, b"{}")

    async with AlphapoClient("k", "s", journal="memory", session=Odd(), base_url="http://127.0.0.1:9") as client:
        for ask in QUESTIONS[1:]:
            with pytest.raises(AlphapoUnavailable, match=r"unexpected reply\."):
                await ask(client)


@pytest.mark.parametrize("ask", QUESTIONS)
@pytest.mark.parametrize(("status", "code"), [(403, "ip_not_allowed"), (404, None)])
async def test_the_status_of_a_refusal_is_reported(
    ask: Callable[[AlphapoClient], Awaitable[Any]], status: int, code: str | None
) -> None:
    """To a look-up these would say "none"; to any other question they are no answer, and the operator needs status and code."""
    body = msgspec.json.encode({"code": code, "error": "No"})

    class Refusing(SessionManager):
        async def exchange(self, method: str, url: str, **how: Any) -> Reply | NoReply:
            return Reply(status, body, "application/json")

    settings: dict[str, Any] = {"journal": "memory", "session": Refusing(), "base_url": "http://127.0.0.1:9"}
    async with AlphapoClient("k", "s", **settings) as client:
        with pytest.raises(AlphapoUnavailable, match=f": HTTP {status}\\.$") as caught:
            await ask(client)
    assert (caught.value.http_status, caught.value.code) == (status, code)


async def test_what_alphapo_refuses_is_the_callers_to_change() -> None:
    """A pair that does not exist, or too little: with AlphaPo's words."""
    async with Sandbox(minimums={"EUR": 5}) as sandbox, client_of(sandbox) as client:
        with pytest.raises(
            ConfigurationError, match=r"from EUR to BTX: Exchange is unavailable for given currencies\. "
        ):
            await client.quote("EUR", "BTX", amount=5)
        with pytest.raises(ConfigurationError, match=r"must be at least 5\. .*No money moved\.$"):
            await client.quote("EUR", "BTC", amount=4)


async def test_a_wrong_question_is_not_asked() -> None:
    """Nothing arrives."""
    async with Sandbox() as sandbox, client_of(sandbox) as client:
        with pytest.raises(ConfigurationError, match="exactly one of"):
            await client.quote("EUR", "BTC")
        assert sandbox.ledger.connections == 0


@pytest.mark.parametrize("throttling", ["none", "seconds"])
async def test_too_many_quotes_hold_no_withdrawal_back(throttling: Any) -> None:
    """The 31st in a minute: 429 with a body that is not JSON is read, and a withdrawal leaves at once."""
    dialect = Dialect(throttling=throttling)
    request = WithdrawalRequest(currency="BTC", address="x", amount=1, foreign_id="f", end_user_reference="u")
    async with (
        Sandbox(dialect=dialect, throttle_seconds=60, clock=lambda: 0.0) as sandbox,
        client_of(sandbox, policy=RetryPolicy(deadline=5.0)) as client,
    ):
        for _ in range(30):
            await client.quote("EUR", "BTC", amount=1)
        with pytest.raises(AlphapoUnavailable) as caught:
            await client.quote("EUR", "BTC", amount=1)
        assert (caught.value.http_status, caught.value.retry_after) == (429, 60.0 if throttling == "seconds" else None)
        async with asyncio.timeout(5):
            await client.withdraw(request)


def test_a_question_that_found_no_slot_says_so() -> None:
    """There was no answer at all."""
    assert str(unavailable("the look-up", None)) == "AlphaPo did not answer the look-up: no slot in time."


async def test_a_withdrawal_asks_nothing_of_this() -> None:
    """Not even for a code that the list does not have: the list may be old, and AlphaPo decides."""
    calls: list[str] = []

    class Noting:
        def next(self, call: Call, /) -> Fault | None:
            calls.append(call.kind)
            return None

    async with Sandbox(faults=Noting()) as sandbox, client_of(sandbox) as client:
        usual: dict[str, Any] = {"address": "made-up", "amount": "0.123456789", "end_user_reference": "u"}
        await client.withdraw(WithdrawalRequest(currency="BTC", foreign_id="a", **usual))
        with pytest.raises(WithdrawalRejected):
            await client.withdraw(WithdrawalRequest(currency="USDT", foreign_id="b", **usual))
    assert calls == ["withdrawal", "withdrawal", "look-up"]  # the refusal is looked up: the journal is in memory
