"""A callback whose handler is killed is handled by somebody else, with real processes and journals."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from alphapo_async import AlphapoClient
from alphapo_async.core.signer import Signer
from tests.proof.handler import BODY, KEY, SECRET
from tests.support import postgres

HEADERS = Signer(KEY, SECRET).headers(BODY)


@pytest.fixture(params=["file", "database"])
async def journal(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """A journal of each kind that processes share."""
    if request.param == "file":
        return str(tmp_path / "journal.db")
    name = postgres.schema()
    await postgres.execute(f"create database {name}")
    return postgres.database(name)


async def _handling(journal: str) -> asyncio.subprocess.Process:
    """Start a process, and return once it is in its handler."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.proof.handler", journal, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    assert await process.stdout.readline() == b"in, new: True\n"
    return process


async def test_a_handler_that_is_killed_leaves_its_callback_new(journal: str) -> None:
    """While it lives others wait; once it is dead the next delivery is new, and then no more."""
    process = await _handling(journal)
    async with AlphapoClient(KEY, SECRET, base_url="http://127.0.0.1:9", journal=journal) as client:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5), client.receive_callback(HEADERS, BODY):
                raise AssertionError
        process.kill()
        await process.wait()
        seen = []
        for _ in range(2):
            async with asyncio.timeout(8), client.receive_callback(HEADERS, BODY) as callback:
                seen.append(callback.is_new)
        assert seen == [True, False]


async def test_sixty_four_deliveries_to_two_processes_are_handled_once(journal: str) -> None:
    """Two clients share the journal; of all that come at the same moment one is new."""
    handled: list[bool] = []

    async def deliver(client: AlphapoClient) -> None:
        async with client.receive_callback(HEADERS, BODY) as callback:
            await asyncio.sleep(0.005)
            handled.append(callback.is_new)

    settings = {"base_url": "http://127.0.0.1:9", "journal": journal}
    async with AlphapoClient(KEY, SECRET, **settings) as one, AlphapoClient(KEY, SECRET, **settings) as two:  # type: ignore[arg-type]
        await asyncio.gather(*(deliver(one if number % 2 else two) for number in range(64)))
    assert sum(handled) == 1
    assert len(handled) == 64
