"""Signed callbacks: what is told, when, and how often."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp
from aiohttp import web

from alphapo_async.sandbox.callbacks import REPEATED_AFTER, Courier, announcements, repetitions
from alphapo_async.sandbox.dialects import Dialect
from alphapo_async.sandbox.rules import World
from tests.sandbox.helpers import OTHER, SIGNER, accepted

SIGNERS = {SIGNER.key: SIGNER, OTHER.key: OTHER}


class Receiver:
    """A merchant that listens, and answers with the given statuses, the last one again and again."""

    def __init__(self, *statuses: int) -> None:
        self.statuses = list(statuses)
        self.heard: list[dict[str, Any]] = []
        self.keys: list[str] = []

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        signer = SIGNERS[request.headers["X-Processing-Key"]]
        assert signer.is_genuine(body, request.headers["X-Processing-Signature"])
        assert request.headers["Content-Type"] == "application/json"
        self.keys.append(signer.key)
        self.heard.append(json.loads(body))
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        return web.Response(status=status)


@asynccontextmanager
async def listening(receiver: Receiver) -> AsyncIterator[str]:
    """Listen on the loopback interface."""
    runner = web.ServerRunner(web.Server(receiver.handle, access_log=None))
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def courier(url: str) -> AsyncIterator[Courier]:
    """Deliver over a real connection, with next to no waits."""
    async with aiohttp.ClientSession() as session:

        async def post(body: bytes, headers: Mapping[str, str]) -> int | None:
            async with session.post(url, data=body, headers=headers) as answer:
                return answer.status

        yield Courier(SIGNERS, post, lambda: 0.99, 1e-7)


def test_what_is_told_of_each_end() -> None:
    """One callback for what is paid or cancelled, two for what a person declines."""
    world = World()
    told = [announcements(accepted(world, foreign_id=name, address=name)) for name in ("a", "12345", "decline")]
    assert told == [((1.0, "confirmed"),), ((1.0, "cancelled"),), ((0.0, "pending"), (1.0, "declined"))]


def test_the_documented_repetitions() -> None:
    """Twelve, over a day and a little."""
    assert len(REPEATED_AFTER) == 12
    assert sum(REPEATED_AFTER) == 1461
    assert repetitions(0.5)[:2] == (30.0, 150.0)


async def test_a_callback_is_signed_with_the_key_of_its_withdrawal() -> None:
    """It is the object of a look-up, posted as JSON, heard once."""
    receiver = Receiver(200)
    async with listening(receiver) as url, courier(url) as sender:
        await sender.announce(accepted(World(), key=OTHER.key), Dialect())
    assert [(told["foreign_id"], told["status"]) for told in receiver.heard] == [("payout-17", "confirmed")]
    assert receiver.keys == [OTHER.key]


async def test_a_callback_is_repeated_until_it_is_heard() -> None:
    """Only 200 ends it."""
    receiver = Receiver(500, 201, 200)
    async with listening(receiver) as url, courier(url) as sender:
        await sender.announce(accepted(World()), Dialect())
    assert len(receiver.heard) == 3


async def test_a_callback_is_given_up_after_its_repetitions() -> None:
    """The first delivery and twelve more, each status on its own."""
    receiver = Receiver(404)
    async with listening(receiver) as url, courier(url) as sender:
        await sender.announce(accepted(World(), address="decline"), Dialect())
    statuses = [told["status"] for told in receiver.heard]
    assert (statuses.count("pending"), statuses.count("declined")) == (13, 13)
