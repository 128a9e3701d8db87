"""An ASGI application that takes AlphaPo's callbacks: for FastAPI, Starlette, Litestar.

app.mount("/alphapo", callbacks(client, handler))
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from http import HTTPStatus
from typing import Any, TypeAlias

from alphapo_async.contrib._answers import Client, Handler, answer, check_arguments
from alphapo_async.core.callbacks import LARGEST

__all__ = ["callbacks"]

_Message: TypeAlias = MutableMapping[str, Any]
_Receive: TypeAlias = Callable[[], Awaitable[_Message]]
_Send: TypeAlias = Callable[[_Message], Awaitable[None]]
_Application: TypeAlias = Callable[[MutableMapping[str, Any], _Receive, _Send], Awaitable[None]]


def callbacks(client: Client, handler: Handler) -> _Application:
    """Return the ASGI application; mounted under a path, it answers at that path with a slash behind it.

    Args:
        client: whose callbacks they are; or a function that returns it, where it is made when the application starts.
        handler: a coroutine function, called with every callback that is new; what it raises is logged, and AlphaPo sends the callback
            again.

    Raises:
        ConfigurationError: the handler is no coroutine function that takes a callback, or the client is none.
    """
    return _Callbacks(client, handler)


class _Callbacks:
    """The application."""

    def __init__(self, client: Client, handler: Handler) -> None:
        check_arguments(client, handler)
        self._client = client
        self._handler = handler

    def __repr__(self) -> str:
        return f"Callbacks({self._handler!r})"

    async def __call__(self, scope: MutableMapping[str, Any], receive: _Receive, send: _Send) -> None:
        """Answer one request, or a server's questions about its life."""
        if scope["type"] == "lifespan":
            await _live(receive, send)
        elif scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1000})
        elif scope["method"] != "POST":
            await _respond(send, HTTPStatus.METHOD_NOT_ALLOWED, (b"allow", b"POST"))
        elif (body := await _body(receive)) is not None:  # else the sender has left, and AlphaPo sends it again
            await _respond(send, await answer(self._client, self._handler, scope["headers"], body))


async def _body(receive: _Receive) -> bytes | None:
    """Return the whole body, as far as it is read at all; None if it breaks off."""
    body, has_more = bytearray(), True
    while has_more and len(body) <= LARGEST:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        body += message.get("body", b"")
        has_more = message.get("more_body", False)
    return bytes(body)


async def _respond(send: _Send, status: HTTPStatus, *headers: tuple[bytes, bytes]) -> None:
    named = [(b"content-length", b"0"), *headers]
    await send({"type": "http.response.start", "status": status.value, "headers": named})
    await send({"type": "http.response.body", "body": b""})


async def _live(receive: _Receive, send: _Send) -> None:
    """Answer a server that runs it by itself: there is nothing to start or to stop."""
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return
