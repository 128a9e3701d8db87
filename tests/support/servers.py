"""Far ends on 127.0.0.1: tiny servers that speak just enough HTTP to misbehave."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeAlias

__all__ = ["Far", "Handler", "Peer", "answer", "relay", "serving"]


def answer(body: bytes = b"{}", *headers: str, status: str = "200 OK", kind: str = "application/json") -> bytes:
    """Return a whole reply with its length."""
    lines = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


class Peer:
    """One connection, seen from the server."""

    def __init__(self, far: Far, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.far = far
        self.reader = reader
        self.writer = writer

    async def request(self) -> bytes:
        """Read one whole request, and count it."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        self.far.requests.append(head)
        for line in head.lower().split(b"\r\n"):
            if line.startswith(b"content-length:"):
                self.far.requests[-1] += await self.reader.readexactly(int(line.partition(b":")[2]))
        return self.far.requests[-1]

    async def send(self, content: bytes) -> None:
        """Send these bytes now."""
        self.writer.write(content)
        await self.writer.drain()

    def reset(self) -> None:
        """End the connection with a reset."""
        raw = self.writer.get_extra_info("socket")
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.writer.transport.abort()

    async def fate(self) -> str:
        """Wait for the end of the connection and return how the client ended it: `closed` or `reset`."""
        try:
            while await self.reader.read(65_536):
                pass
        except ConnectionResetError:
            return "reset"
        return "closed"


async def relay(peer: Peer, port: int) -> str:
    """Hand everything on between the client and a port of this machine; return how the client ended it: `closed` or `reset`."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    back = asyncio.ensure_future(_copy(reader, peer.writer))
    try:
        await _copy(peer.reader, writer)
    except ConnectionResetError:
        return "reset"
    finally:
        writer.close()
        await asyncio.gather(back, writer.wait_closed(), return_exceptions=True)
    return "closed"


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while text := await reader.read(65_536):
        writer.write(text)
        await writer.drain()
    writer.close()


Handler: TypeAlias = Callable[[Peer], Awaitable[None]]


class Far:
    """A server, and what has reached it."""

    def __init__(self, port: int, scheme: str) -> None:
        self.port = port
        self.url = f"{scheme}://127.0.0.1:{port}"
        self.connections = 0
        self.requests: list[bytes] = []
        self.server: asyncio.Server | None = None

    def stop_listening(self) -> None:
        """Refuse further connections; those that stand go on."""
        assert self.server is not None
        self.server.close()


@contextlib.asynccontextmanager
async def serving(handler: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[Far]:
    """Serve every connection with the handler; an end of the connection ends the handler, and leaving the block ends all."""
    tasks: set[asyncio.Task[None]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far.connections += 1
        try:
            await handler(Peer(far, reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            pass
        finally:
            writer.close()
            with contextlib.suppress(ConnectionError, ssl.SSLError, TimeoutError):
                async with asyncio.timeout(1):
                    await writer.wait_closed()

    def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=tls)
    far = Far(server.sockets[0].getsockname()[1], "http" if tls is None else "https")
    far.server = server
    try:
        yield far
    finally:
        server.close()
        left = list(tasks)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        await server.wait_closed()
