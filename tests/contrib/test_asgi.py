"""The ASGI application: under uvicorn and Starlette, and message by message."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
import uvicorn
from fastapi import FastAPI

from alphapo_async.contrib.asgi import callbacks
from alphapo_async.core.callbacks import LARGEST
from tests.support.deliveries import BODY, DELIVERIES, KEYS, Handling, client


@pytest.fixture
async def served() -> AsyncIterator[tuple[str, Handling]]:
    """A running server with the application mounted, and what its handler has seen."""
    handling = Handling()
    async with client() as alphapo:
        app = FastAPI()
        app.mount("/alphapo", callbacks(alphapo, handling))
        server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="error", lifespan="off"))
        serving = asyncio.ensure_future(server.serve())
        while not server.started:  # noqa: ASYNC110 - it has no event for it
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        yield f"http://127.0.0.1:{port}/alphapo/", handling
        server.should_exit = True
        await serving


async def test_every_delivery_has_its_answer(served: tuple[str, Handling]) -> None:
    """With an empty body, whatever it is."""
    url, handling = served
    async with aiohttp.ClientSession() as http:
        for headers, body, status in DELIVERIES:
            async with http.post(url, headers=headers, data=body) as answer:
                assert (answer.status, await answer.read()) == (status, b"")
        async with http.get(url) as answer:
            assert (answer.status, answer.headers["Allow"]) == (405, "POST")
    assert len(handling.seen) == 2


async def spoken(scope: dict[str, Any], *messages: dict[str, Any]) -> tuple[list[dict[str, Any]], int]:
    """Have the application run with these messages; return what it sent, and how many messages it took."""
    sent: list[dict[str, Any]] = []
    left = list(messages)

    async def receive() -> dict[str, Any]:
        return left.pop(0)

    async def send(message: Any) -> None:
        sent.append(message)

    async with client() as alphapo:
        app = callbacks(lambda: alphapo, Handling())
        assert repr(app).startswith("Callbacks(")
        await app(scope, receive, send)
    return sent, len(messages) - len(left)


def delivery(**changed: Any) -> dict[str, Any]:
    """Return the scope of a delivery."""
    headers = [(name.lower().encode(), value.encode()) for name, value in KEYS.headers(BODY).items()]
    return {"type": "http", "method": "POST", "headers": headers, **changed}


async def test_a_body_comes_in_parts() -> None:
    """Empty ones included."""
    parts = [{"type": "http.request", "body": BODY[:9], "more_body": True}, {"type": "http.request", "more_body": True}]
    sent, _ = await spoken(delivery(), *parts, {"type": "http.request", "body": BODY[9:]})
    assert sent[0]["status"] == 200


async def test_a_body_without_end_is_not_read_to_its_end() -> None:
    """Refused once it is too large."""
    part = {"type": "http.request", "body": b"x" * (LARGEST // 2), "more_body": True}
    sent, taken = await spoken(delivery(), *[part] * 100)
    assert (sent[0]["status"], taken) == (413, 3)


async def test_whoever_leaves_early_is_answered_nothing() -> None:
    """And nothing is handled: AlphaPo sends it again."""
    part = {"type": "http.request", "body": BODY[:9], "more_body": True}
    assert await spoken(delivery(), part, {"type": "http.disconnect"}) == ([], 2)


async def test_it_runs_by_itself_too() -> None:
    """There is nothing to start or to stop; a websocket is refused."""
    sent, _ = await spoken({"type": "lifespan"}, {"type": "lifespan.startup"}, {"type": "lifespan.shutdown"})
    assert [message["type"] for message in sent] == ["lifespan.startup.complete", "lifespan.shutdown.complete"]
    sent, _ = await spoken({"type": "websocket"})
    assert sent[0]["type"] == "websocket.close"
