"""The probes over real sockets: what makes a process not alive, and what only not ready."""

from __future__ import annotations

import asyncio
import socket
from typing import Any

import aiohttp
import pytest

from alphapo_async.client import AlphapoClient
from alphapo_async.contrib.health import health_routes, health_server
from alphapo_async.core.errors import ConfigurationError, JournalError
from alphapo_async.journal.memory import MemoryJournal
from tests.support.wire import Wire, client


class Unreadable(MemoryJournal):
    """A journal that fails, or hangs, at each question about open rows."""

    def __init__(self, *, hangs: bool = False) -> None:
        super().__init__()
        self._hangs = hangs

    async def find_open(self, *args: Any) -> Any:
        if self._hangs:
            await asyncio.sleep(60)
        raise JournalError("postgresql://db.example is away.")


async def fetched(port: int, path: str) -> tuple[int, str]:
    """Return status and text of a path."""
    async with aiohttp.ClientSession() as http, http.get(f"http://127.0.0.1:{port}/{path}") as answer:
        return answer.status, await answer.text()


async def answers(port: int) -> list[tuple[int, str]]:
    """Return status and text of both probes."""
    return [await fetched(port, path) for path in ("livez", "readyz")]


async def probed(alphapo: AlphapoClient) -> list[tuple[int, str]]:
    """Return what the probes answer about a client."""
    async with health_server(alphapo, port=0) as port:
        return await answers(port)


async def test_a_client_that_is_open_is_alive_and_ready() -> None:
    """Before it is open it has no lease; after it is closed it is not ready, either."""
    alphapo = client(Wire())
    async with health_server(alphapo, port=0) as port:
        assert await answers(port) == [(200, "ok"), (503, "no lease")]
        assert not (await alphapo.health()).is_ready
        async with alphapo:
            assert (await alphapo.health()).is_ready
            assert await answers(port) == [(200, "ok"), (200, "ok")]
        assert await answers(port) == [(200, "ok"), (503, "the client is closed")]


async def test_a_journal_that_fails_makes_a_process_not_ready_and_leaves_it_alive() -> None:
    """The answer has no word of the journal's error, which may name hosts."""
    async with client(Wire(), journal=Unreadable()) as alphapo:
        assert await probed(alphapo) == [(200, "ok"), (503, "the journal cannot be read")]


async def test_a_journal_that_hangs_makes_a_process_not_ready() -> None:
    """The probe does not hang with it."""
    async with client(Wire(), journal=Unreadable(hangs=True)) as alphapo:
        ready = health_routes(alphapo, within=0.01)[1].handler
        answer: Any = await ready(None)  # type: ignore[arg-type]
        assert (answer.status, answer.text) == (503, "the journal does not answer")
        async with health_server(alphapo, port=0, within=0.01) as port:
            assert await answers(port) == [(200, "ok"), (503, "the journal does not answer")]


async def test_a_task_that_fails_again_and_again_makes_a_process_not_alive() -> None:
    """Kubernetes restarts it; a single failure changes nothing."""
    async with client(Wire()) as alphapo:
        supervisor = alphapo._engine.supervisor
        supervisor.failed("work", ValueError())
        assert (await probed(alphapo))[0] == (200, "ok")
        for _ in range(9):
            supervisor.failed("work", ValueError())
        assert await probed(alphapo) == [(503, "task work fails again and again")] * 2


async def test_a_port_in_use_is_refused_with_its_number() -> None:
    """Nothing was sent, and what to do now."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigurationError, match=rf"cannot listen on 127\.0\.0\.1:{port} .*another port"):
            async with health_server(client(Wire()), port=port):
                pass


async def test_metrics_need_the_extra() -> None:
    """Without them the path answers with a sentence, and with them with their page."""
    async with client(Wire()) as alphapo:
        async with health_server(alphapo, port=0) as port:
            status, text = await fetched(port, "metrics")
        assert (status, "pip install 'alphapo-async[prometheus]'" in text) == (501, True)
        async with health_server(alphapo, port=0, metrics=lambda: (b"alphapo 1", "text/plain")) as port:
            assert await fetched(port, "metrics") == (200, "alphapo 1")
