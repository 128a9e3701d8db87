"""A client with a withdrawal, and AlphaPo's callbacks about it, for both mounts."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable

from alphapo_async.client import AlphapoClient
from alphapo_async.core.callbacks import LARGEST, Callback
from alphapo_async.core.signer import Signer

KEYS = Signer("made-up-key", "made-up-secret")
BODY = b'{"id":7,"foreign_id":"payout-17","type":"withdrawal","status":"confirmed"}'
DEPOSIT = BODY.replace(b'"withdrawal"', b'"deposit"').replace(b"7", b"8", 1)
FORGED = {**KEYS.headers(BODY), "X-Processing-Signature": "0" * 128}
LARGE = b"x" * (LARGEST + 1)
UNREADABLE = b"[]"

DELIVERIES: list[tuple[dict[str, str], bytes, int]] = [
    (KEYS.headers(BODY), BODY, 200),
    (KEYS.headers(BODY), BODY, 200),
    (KEYS.headers(DEPOSIT), DEPOSIT, 200),
    (FORGED, BODY, 403),
    ({}, BODY, 403),
    (KEYS.headers(UNREADABLE), UNREADABLE, 400),
    ({}, LARGE, 413),
]
"""Headers, body and the status that each is to be answered with, in turn; two of them are new."""


class Handling:
    """A handler that fails as often as it is told to."""

    def __init__(self, fails: int = 0) -> None:
        self.fails = fails
        self.seen: list[tuple[int | str, str | None]] = []

    async def __call__(self, callback: Callback) -> None:
        await asyncio.sleep(0.01)
        self.seen.append((callback.transaction.id, callback.transaction.status))
        if self.fails > 0:
            self.fails -= 1
            raise ValueError("the books are closed")


@contextlib.asynccontextmanager
async def client() -> AsyncIterator[AlphapoClient]:
    """An open client."""
    async with AlphapoClient(KEYS.key, "made-up-secret", base_url="http://127.0.0.1:9") as alphapo:
        yield alphapo


def late(alphapo: AlphapoClient) -> Callable[[], AlphapoClient]:
    """Return a function that returns the client."""
    return lambda: alphapo
