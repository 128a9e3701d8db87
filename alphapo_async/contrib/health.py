"""Probes of a process with a client, for Kubernetes and load balancers: `/livez`, `/readyz`, and `/metrics`.

    app.router.add_routes(health_routes(client))    # in an application of aiohttp.web
    async with health_server(client, port=8080):    # or on a port of its own
        await client.work()

`/livez` answers 200 while the event loop runs and no background task has failed ten times in a row. It asks neither AlphaPo nor the
journal: an outage of either must not restart every process. `/readyz` answers 200 while the journal can be read and `Health.is_ready`
holds: the lease runs, and `/livez` answers 200.
Otherwise both answer 503 and the reason. `/metrics` shows what `metrics` returns, such as `metrics_page` of `contrib.prometheus`; without
it, it answers 501 and a sentence.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable, Iterable
from http import HTTPStatus
from typing import Final, TypeAlias

from aiohttp import web

from alphapo_async.client import AlphapoClient
from alphapo_async.core.errors import AlphapoError, ConfigurationError

__all__ = ["MetricsPage", "health_routes", "health_server"]

_JOURNAL_SECONDS: Final = 5.0
"""The journal counts as not readable after so long."""
_NO_METRICS: Final = (
    "No metrics: `alphapo worker` needs the extra prometheus (pip install 'alphapo-async[prometheus]'); a program passes "
    "metrics=metrics_page of alphapo_async.contrib.prometheus."
)
MetricsPage: TypeAlias = Callable[[], tuple[bytes, str]]
_CLOSE_SECONDS: Final = 0.2
"""Probes under way at the end get so long."""


def health_routes(
    client: AlphapoClient, *, within: float = _JOURNAL_SECONDS, metrics: MetricsPage | None = None
) -> list[web.RouteDef]:
    """Return the routes `/livez`, `/readyz` and `/metrics` for an application of `aiohttp.web`.

    Args:
        client: the client that is asked.
        within: seconds in which the journal must answer.
        metrics: returns the page of metrics and its content type; None if there is none.
    """

    async def live(_request: web.Request) -> web.Response:
        return _answer(_failing(client.failing))

    async def ready(_request: web.Request) -> web.Response:
        return _answer(await _not_ready(client, within))

    async def scrape(_request: web.Request) -> web.Response:
        if metrics is None:
            return web.Response(status=HTTPStatus.NOT_IMPLEMENTED, text=_NO_METRICS)
        page, content_type = metrics()
        return web.Response(body=page, headers={"Content-Type": content_type})

    return [web.get("/livez", live), web.get("/readyz", ready), web.get("/metrics", scrape)]


@contextlib.asynccontextmanager
async def health_server(
    client: AlphapoClient,
    *,
    host: str = "127.0.0.1",
    port: int,
    within: float = _JOURNAL_SECONDS,
    metrics: MetricsPage | None = None,
) -> AsyncGenerator[int, None]:
    """Serve the probes while the block runs, and yield the port.

    Args:
        client: the client that is asked.
        host: the address to listen on.
        port: 0 for any free port.
        within: seconds in which the journal must answer.
        metrics: returns the page of metrics and its content type; None if there is none.

    Raises:
        ConfigurationError: the address cannot be used.
    """
    app = web.Application()
    app.router.add_routes(health_routes(client, within=within, metrics=metrics))
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
    return [*([] if health.has_lease else ["no lease"]), *_failing(health.failing)]


def _failing(tasks: Iterable[str]) -> list[str]:
    return [f"task {task} fails again and again" for task in tasks]


def _answer(problems: list[str]) -> web.Response:
    status = HTTPStatus.SERVICE_UNAVAILABLE if problems else HTTPStatus.OK
    return web.Response(status=status, text="; ".join(problems) or "ok")
