"""A relay on loopback: it passes bytes on to a port, can be held, can end connections in three ways, and can be pointed at another port.

Between a primary and its standby it holds back the write-ahead log; between a client and its database it is the address that moves, or
the network that fails.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from types import TracebackType
from typing import Self

_CHUNK = 65_536
_LINGER = struct.pack("ii", 1, 0)


class Relay:
    """Listens on a port of its own from the start of the block to its end.

    Args:
        target: port on 127.0.0.1 that connections lead to.
    """

    def __init__(self, target: int) -> None:
        self.port = 0
        self._target = target
        self._flows = asyncio.Event()
        self._flows.set()
        self._connections: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        """To the client of each connection."""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._connect, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        await self.cut()
        await self._server.wait_closed()

    def hold(self) -> None:
        """Pass nothing on from the target any more, until `release` or `move`."""
        self._flows.clear()

    def release(self) -> None:
        """Pass on again, and what was held first."""
        self._flows.set()

    async def reset(self) -> None:
        """End every connection with a reset; the target sees an ordinary end."""
        for writer in self._writers:
            raw = writer.get_extra_info("socket")
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
        await self.cut()

    def half_close(self) -> None:
        """Show every client the end of what its target sends; what the client sends still arrives, until the target answers."""
        for writer in self._writers:
            with contextlib.suppress(OSError):  # it has ended
                writer.write_eof()

    async def cut(self) -> None:
        """End every connection."""
        connections = list(self._connections)
        for one in connections:
            one.cancel()
        await asyncio.gather(*connections, return_exceptions=True)

    async def move(self, target: int) -> None:
        """End every connection; later ones lead to this port, and nothing is held any more."""
        self._target = target
        await self.cut()
        self._flows.set()

    async def _connect(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._connections.add(task)
        task.add_done_callback(self._connections.discard)
        self._writers.add(writer)
        with contextlib.suppress(OSError, asyncio.CancelledError):
            await self._relay(reader, writer)
        self._writers.discard(writer)
        writer.transport.abort()

    async def _relay(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self._target)
        ways = [
            asyncio.ensure_future(self._copy(reader, far_writer)),
            asyncio.ensure_future(self._copy(far_reader, writer, self._flows)),
        ]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
            far_writer.transport.abort()

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, flows: asyncio.Event | None = None
    ) -> None:
        while chunk := await reader.read(_CHUNK):
            if flows is not None:
                await flows.wait()
            writer.write(chunk)
            await writer.drain()
