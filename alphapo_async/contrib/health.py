"""Probes of a process with a client, for Kubernetes and load balancers: `/livez` and `/readyz`.

    app.router.add_routes(health_routes(client))    # in an application of aiohttp.web
    async with health_server(client, port=8080):    # or on a port of its own
        await client.work()

`/livez` answers 200 while the event loop runs and no background task has failed ten times in a row. It asks neither AlphaPo nor the
journal: an outage of either must not restart every process. `/readyz` answers 200 while the journal can be read and the lease runs.
Otherwise both answer 503 and the reason.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from http import HTTPStatus
from typing import Final

from aiohttp import web

from alphapo_async.client import AlphapoClient
from alphapo_async.core.errors import AlphapoError, ConfigurationError

__all__ = ["health_routes", "health_server"]

_JOURNAL_SECONDS: Final = 5.0
"""The journal counts as not readable after so long."""
_CLOSE_SECONDS: Final = 0.2
"""Probes under way at the end get so long."""


def health_routes(client: AlphapoClient, *, within: float = _JOURNAL_SECONDS) -> list[web.RouteDef]:
    """Return the routes `/livez` and `/readyz` for an application of `aiohttp.web`.

    Args:
        client: the client that is asked.
        within: seconds in which the journal must answer.
    """

    async def live(_request: web.Request) -> web.Response:
        return _answer([f"task {task} fails again and again" for task in client.failing])

    async def ready(_request: web.Request) -> web.Response:
        return _answer(await _not_ready(client, within))

    return [web.get("/livez", live), web.get("/readyz", ready)]


@contextlib.asynccontextmanager
async def health_server(client: AlphapoClient, *, host: str = "127.0.0.1", port: int) -> AsyncGenerator[int, None]:
    """Serve the probes while the block runs, and yield the port.

    Args:
        client: the client that is asked.
        host: the address to listen on.
        port: 0 for any free port.

    Raises:
        ConfigurationError: the address cannot be used.
    """
    app = web.Application()
    app.router.add_routes(health_routes(client))
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=_CLOSE_SECONDS)
    await runner.setup()
    try:
        try:
            await web.TCPSite(runner, host, port).start()
        except OSError as error:
            raise ConfigurationError(
                f"The probes cannot listen on {host}:{port} ({error.strerror}): choose another port. Nothing was sent."
            ) from None
        yield int(runner.addresses[0][1])
    finally:
        await runner.cleanup()


async def _not_ready(client: AlphapoClient, within: float) -> list[str]:
    """Return the reasons why the client is not ready, without words of the journal, which may name hosts."""
    try:
        async with asyncio.timeout(within):
            health = await client.health()
    except TimeoutError:
        return ["the journal does not answer"]
    except ConfigurationError:
        return ["the client is closed"]
    except AlphapoError:
        return ["the journal cannot be read"]
    return [] if health.has_lease else ["no lease"]


def _answer(problems: list[str]) -> web.Response:
    status = HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK
    return web.Response(status=status, text="; ".join(problems) or "ok")
