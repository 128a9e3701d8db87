"""A handler for aiohttp.web that takes AlphaPo's callbacks.

app.router.add_post("/alphapo", callbacks(client, handler))
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus

from aiohttp import web

from alphapo_async.contrib._answers import Client, Handler, answer, check_arguments
from alphapo_async.core.callbacks import LARGEST

__all__ = ["callbacks"]


def callbacks(client: Client, handler: Handler) -> Callable[[web.Request], Awaitable[web.Response]]:
    """Return the handler of the route.

    Args:
        client: whose callbacks they are; or a function that returns it, where it is made when the application starts.
        handler: a coroutine function, called with every callback that is new; what it raises is logged, and AlphaPo sends the callback
            again.

    Raises:
        ConfigurationError: the handler is no coroutine function that takes a callback, or the client is none.
    """
    check_arguments(client, handler)

    async def take(http: web.Request) -> web.Response:
        body = b""
        try:
            while len(body) <= LARGEST and (part := await http.content.readany()):
                body += part
        except (ConnectionError, web.RequestPayloadError):  # it broke off or cannot be unpacked; AlphaPo sends it again
            return web.Response(status=HTTPStatus.BAD_REQUEST)
        return web.Response(status=await answer(client, handler, list(http.headers.items()), body))

    return take
