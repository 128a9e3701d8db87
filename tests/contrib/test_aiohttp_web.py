"""The handler for aiohttp.web, over real sockets."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from alphapo_async.contrib.aiohttp_web import callbacks
from alphapo_async.core.callbacks import LARGEST
from tests.support.deliveries import DELIVERIES, Handling, client


@pytest.fixture
async def served() -> AsyncIterator[tuple[str, Handling]]:
    """A running server, and what its handler has seen."""
    handling = Handling()
    async with client() as alphapo:
        app = web.Application()
        app.router.add_post("/alphapo", callbacks(alphapo, handling))
        runner = web.AppRunner(app, shutdown_timeout=0.2)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/alphapo", handling
        await runner.cleanup()


async def test_every_delivery_has_its_answer(served: tuple[str, Handling]) -> None:
    """With an empty body, whatever it is."""
    url, handling = served
    async with aiohttp.ClientSession() as http:
        for headers, body, status in DELIVERIES:
            async with http.post(url, headers=headers, data=body) as answer:
                assert (answer.status, await answer.read()) == (status, b"")
        async with http.get(url) as answer:
            assert answer.status == 405
    assert len(handling.seen) == 2


async def test_a_body_without_end_is_not_read_to_its_end(served: tuple[str, Handling]) -> None:
    """Refused once it is too large."""
    sent = 0

    async def endless() -> AsyncIterator[bytes]:
        nonlocal sent
        while sent < 100 * LARGEST:
            sent += LARGEST // 4
            yield b"x" * (LARGEST // 4)

    async with aiohttp.ClientSession() as http:
        try:
            async with http.post(served[0], data=endless()) as answer:
                assert answer.status == 413
        except aiohttp.ClientError:
            pass  # the server hung up while the rest was being sent
    assert sent < 100 * LARGEST
    assert served[1].seen == []


async def test_a_body_that_cannot_be_unpacked_is_refused(served: tuple[str, Handling]) -> None:
    """As one that cannot be read: it is no fault of the server."""
    async with aiohttp.ClientSession() as http:
        packed = {"Content-Encoding": "gzip", "Content-Type": "application/json"}
        async with http.post(served[0], headers=packed, data=b"not gzip") as answer:
            assert (answer.status, await answer.read()) == (400, b"")
    assert served[1].seen == []


async def test_a_body_that_breaks_off_is_no_error(
    served: tuple[str, Handling], caplog: pytest.LogCaptureFixture
) -> None:
    """AlphaPo sends it again; a traceback would ask for help."""
    port = int(served[0].split(":")[2].split("/")[0])
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST /alphapo HTTP/1.1\r\nHost: x\r\nContent-Length: 50\r\n\r\nhello")
    await writer.drain()
    await asyncio.sleep(0.05)
    writer.close()
    await writer.wait_closed()
    await asyncio.sleep(0.05)
    assert served[1].seen == []
    assert [one.getMessage() for one in caplog.records if one.levelno >= logging.ERROR] == []
