"""The contenders: this library in its several forms, what one would write by hand, and clients of others.

Each is an async context manager that takes the server's URL and the number in flight, and gives a function that makes one payment.
"""

from __future__ import annotations

import hashlib
import hmac
import importlib.util
import json
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import aiohttp

from alphapo_async import AlphapoClient, WithdrawalRequest

KEY: Final = "benchmark-key"
SECRET: Final = "benchmark-secret"
PATH: Final = "/api/v2/withdrawal/crypto"

Pay = Callable[[int], Awaitable[Any]]
Contender = Callable[[str, int], AbstractAsyncContextManager[Pay]]


def fields(number: int) -> dict[str, Any]:
    """Return the fields of one withdrawal."""
    return {
        "currency": "BTC",
        "amount": "0.0015",
        "address": "bc1qxy2kgdygjrsqtzq2n0yrf2493p83kkfjhx0wlh",
        "foreign_id": f"payout-{number}",
        "end_user_reference": f"user-{number % 97}",
    }


def _signed(number: int) -> tuple[bytes, dict[str, str]]:
    """Return body and headers as one would write them in a hurry."""
    body = json.dumps(fields(number)).encode()
    signature = hmac.new(SECRET.encode(), body, hashlib.sha512).hexdigest()
    return body, {
        "Content-Type": "application/json",
        "X-Processing-Key": KEY,
        "X-Processing-Signature": signature,
    }


@asynccontextmanager
async def by_hand(url: str, in_flight: int) -> AsyncIterator[Pay]:
    """`json.dumps`, `hmac.new` and a POST: no retry, no journal, no deadline."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=in_flight)) as session:

        async def pay(number: int) -> Any:
            body, headers = _signed(number)
            async with session.post(f"{url}{PATH}", data=body, headers=headers) as reply:
                reply.raise_for_status()
                return (await reply.json())["data"]

        yield pay


@asynccontextmanager
async def with_aiohttp_retry(url: str, in_flight: int) -> AsyncIterator[Pay]:
    """By hand, with aiohttp-retry around it."""
    from aiohttp_retry import ExponentialRetry, RetryClient  # noqa: PLC0415 - an extra

    session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=in_flight))
    async with RetryClient(client_session=session, retry_options=ExponentialRetry(attempts=5)) as client:

        async def pay(number: int) -> Any:
            body, headers = _signed(number)
            async with client.post(f"{url}{PATH}", data=body, headers=headers) as reply:
                return (await reply.json())["data"]

        yield pay


@asynccontextmanager
async def with_httpx_and_tenacity(url: str, in_flight: int) -> AsyncIterator[Pay]:
    """By hand on httpx, with tenacity around it."""
    import httpx  # noqa: PLC0415 - an extra
    from tenacity import retry, stop_after_attempt, wait_random_exponential  # noqa: PLC0415

    limits = httpx.Limits(max_connections=in_flight, max_keepalive_connections=in_flight)
    async with httpx.AsyncClient(base_url=url, limits=limits) as client:

        @retry(stop=stop_after_attempt(5), wait=wait_random_exponential(max=20))
        async def pay(number: int) -> Any:
            body, headers = _signed(number)
            reply = await client.post(PATH, content=body, headers=headers)
            return reply.raise_for_status().json()["data"]

        yield pay


@asynccontextmanager
async def with_stripe(url: str, in_flight: int) -> AsyncIterator[Pay]:
    """Stripe's own client on aiohttp: its retries and its idempotency key."""
    import stripe  # noqa: PLC0415 - an extra

    transport: Any = stripe.AIOHTTPClient(connector=aiohttp.TCPConnector(limit=in_flight))
    client = stripe.StripeClient("sk_test_made_up", base_addresses={"api": url}, http_client=transport)

    async def pay(number: int) -> Any:
        return await client.v1.payouts.create_async({"amount": 15, "currency": "usd", "metadata": fields(number)})

    yield pay
    await transport.close_async()


@asynccontextmanager
async def with_modern_treasury(url: str, in_flight: int) -> AsyncIterator[Pay]:
    """Modern Treasury's own client on aiohttp: its retries, its models and its idempotency key."""
    import httpx  # noqa: PLC0415 - an extra
    from modern_treasury import AsyncModernTreasury, DefaultAioHttpClient  # noqa: PLC0415

    transport = DefaultAioHttpClient(limits=httpx.Limits(max_connections=in_flight))
    async with AsyncModernTreasury(
        organization_id="made-up", api_key="made-up", base_url=url, http_client=transport
    ) as client:

        async def pay(number: int) -> Any:
            return await client.payment_orders.create(
                amount=15,
                direction="credit",
                originating_account_id=f"payout-{number}",
                type="ach",
                metadata=fields(number),
            )

        yield pay


@asynccontextmanager
async def _ours(url: str, in_flight: int, journal: str) -> AsyncIterator[AlphapoClient]:
    async with AlphapoClient(KEY, SECRET, base_url=url, journal=journal, max_connections=in_flight) as client:
        yield client


@asynccontextmanager
async def in_memory(url: str, in_flight: int) -> AsyncIterator[Pay]:
    """`withdraw` with everything on, the journal in memory."""
    async with _ours(url, in_flight, "memory") as client:
        yield lambda number: client.withdraw(WithdrawalRequest(**fields(number)))


@asynccontextmanager
async def in_a_file(url: str, in_flight: int) -> AsyncIterator[Pay]:
    """`withdraw`, durable in SQLite before anything is sent."""
    with tempfile.TemporaryDirectory() as folder:
        async with _ours(url, in_flight, str(Path(folder) / "journal.db")) as client:
            yield lambda number: client.withdraw(WithdrawalRequest(**fields(number)))


def in_postgres(database: str) -> Contender:
    """Return `withdraw`, durable in this PostgreSQL before anything is sent."""

    @asynccontextmanager
    async def contender(url: str, in_flight: int) -> AsyncIterator[Pay]:
        async with _ours(url, in_flight, database) as client:
            runs = id(client)

            def named(number: int) -> dict[str, Any]:
                return {**fields(number), "foreign_id": f"{runs}-{number}"}

            yield lambda number: client.withdraw(WithdrawalRequest(**named(number)))

    return contender


def others() -> dict[str, Contender]:
    """Return the clients of others that are installed."""
    known: dict[str, tuple[str, Contender]] = {
        "aiohttp-retry": ("aiohttp_retry", with_aiohttp_retry),
        "stripe on aiohttp": ("stripe", with_stripe),
        "modern-treasury on aiohttp": ("modern_treasury", with_modern_treasury),
        "httpx + tenacity": ("httpx", with_httpx_and_tenacity),
    }
    return {name: made for name, (module, made) in known.items() if importlib.util.find_spec(module)}


__all__ = ["KEY", "SECRET", "Contender", "Pay", "by_hand", "fields", "in_a_file", "in_memory", "in_postgres", "others"]
