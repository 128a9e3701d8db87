"""The relay's ways to fail are what its callers see."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable

import pytest

from tests.proof.relay import Relay


@pytest.fixture
async def relay() -> AsyncIterator[Relay]:
    """A relay to a server that answers each line with the same line."""

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            writer.write(line)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, Relay(server.sockets[0].getsockname()[1]) as running:
        yield running


async def _connect(relay: Relay) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection("127.0.0.1", relay.port)
    await _send(writer, [b"one\n"])
    assert await reader.readline() == b"one\n"
    return reader, writer


async def _send(writer: asyncio.StreamWriter, lines: Iterable[bytes]) -> None:
    writer.writelines(lines)
    await writer.drain()


async def test_what_is_held_arrives_when_it_is_released(relay: Relay) -> None:
    """Nothing is lost."""
    reader, writer = await _connect(relay)
    relay.hold()
    await _send(writer, [b"two\n"])
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(reader.readline(), 0.05)
    relay.release()
    assert await reader.readline() == b"two\n"
    writer.close()


async def test_cut_and_reset_differ(relay: Relay) -> None:
    """One is an end, the other an error."""
    reader, writer = await _connect(relay)
    await relay.cut()
    assert await reader.read() == b""
    writer.close()
    reader, writer = await _connect(relay)
    await relay.reset()
    with pytest.raises(ConnectionResetError):
        await reader.read()
    writer.close()


async def test_half_closed_the_other_way_is_open(relay: Relay) -> None:
    """The client sees the end of the answers, and its bytes still arrive."""
    reader, writer = await _connect(relay)
    relay.half_close()
    assert await reader.read() == b""
    await _send(writer, [b"two\n"])
    writer.close()
