"""A pooler in front of PostgreSQL, as PgBouncer is in transaction mode: whoever is in no transaction has no connection of its own.

Connections to the database are handed out in turn, so that whatever is left behind on one is missed at once. It can also lose things:
the reply to a statement, or the connection before the statement.
"""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs, urlsplit

_EVER = 1_000.0
_SSL, _CANCEL = 80877103, 80877102
_IN_TRANSACTION = b"Z\0\0\0\5T"
_STARTUP = struct.pack("!i", 196608) + b"user\0postgres\0database\0postgres\0\0"


class _Side:
    """One end of a conversation in PostgreSQL's protocol."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def read(self) -> bytes:
        """Return one message."""
        head = await self.reader.readexactly(5)
        return head + await self.reader.readexactly(struct.unpack("!i", head[1:])[0] - 4)

    def write(self, message: bytes) -> None:
        """Hand a message over."""
        self.writer.write(message)


def _fatal(state: bytes, text: bytes) -> bytes:
    """Return an error after which the connection ends. PgBouncer gives the state 08P01, whatever is the matter."""
    fields = b"SFATAL\0VFATAL\0C" + state + b"\0M" + text + b"\0\0"
    return b"E" + struct.pack("!i", len(fields) + 4) + fields


class Pooler:
    """Listens on loopback in front of the database at `url`.

    Args:
        url: of a PostgreSQL on this machine that asks for no password.
        connections: to the database.
        is_pooling: whether it hands out connections for one transaction at a time; else it merely passes on.
    """

    def __init__(self, url: str, *, connections: int = 2, is_pooling: bool = True) -> None:
        self._url = url
        self._count = connections
        self._is_pooling = is_pooling
        self._idle: asyncio.Queue[_Side | None] = asyncio.Queue()
        """None where a connection was lost: the next client opens it anew."""
        self._greeting = b""
        self._clients: set[asyncio.Task[None]] = set()
        self._writers: set[asyncio.StreamWriter] = set()
        self._clients_writers: set[asyncio.StreamWriter] = set()
        self.transactions = 0
        self.lose_reply_to: bytes | None = None
        """Cut the client off after the database has done a statement that holds this, and before it hears so."""
        self.lose_before: bytes | None = None
        """Cut the client off before the database sees a statement that holds this."""
        self._is_lost = False
        self.refuses: bytes | None = None
        """Refuse a client whose start-up message has this setting."""
        self.is_in_statement_mode = False
        """Refuse a client that begins a transaction."""
        self.is_silent = False
        """Take everything and answer nothing."""
        self.url = ""

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._on_client, "127.0.0.1", 0)
        self.url = f"postgresql://postgres@127.0.0.1:{self._server.sockets[0].getsockname()[1]}/postgres"
        for _ in range(self._count):
            self._idle.put_nowait(await self._connect())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._server.close()
        for task in self._clients:
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        for writer in self._writers:
            writer.close()
        await self._server.wait_closed()

    async def move(self, port: int) -> None:
        """Cut every client off; later transactions run in the database on this port of 127.0.0.1."""
        self._url = f"postgresql://127.0.0.1:{port}"
        await self.cut_all()
        while not self._idle.empty():
            side = self._idle.get_nowait()
            if side is not None:
                side.writer.transport.abort()
        for _ in range(self._count):
            self._idle.put_nowait(None)

    async def end_all(self, gap: float = 0.05) -> None:
        """Tell every client that its connection is ended, as a server that is shut down does, and close it so many seconds later."""
        for writer in self._clients_writers:
            writer.write(_fatal(b"57P01", b"terminating connection due to administrator command"))
            asyncio.get_running_loop().call_later(gap, writer.transport.abort)
        await asyncio.sleep(gap / 5)

    async def cut_all(self) -> None:
        """Cut every client off."""
        for task in list(self._clients):
            task.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)

    async def _connect(self) -> _Side:
        folder = parse_qs(urlsplit(self._url).query).get("host")
        if folder:
            side = _Side(*await asyncio.open_unix_connection(str(Path(folder[0]) / ".s.PGSQL.5432")))
        else:
            parts = urlsplit(self._url)
            side = _Side(*await asyncio.open_connection(parts.hostname, parts.port or 5432))
        self._writers.add(side.writer)
        side.write(struct.pack("!i", len(_STARTUP) + 4) + _STARTUP)
        greeting = b""
        while not (message := await side.read()).startswith(b"Z"):
            # A pooler's own key, not the database's: the process number in it is nobody's.
            is_shown = message[:1] != b"K" or not self._is_pooling
            greeting += message if is_shown else b"K" + struct.pack("!iii", 12, 1, 2)
        self._greeting = greeting + message
        return side

    async def _on_client(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._clients.add(task)
        task.add_done_callback(self._clients.discard)
        self._clients_writers.add(writer)
        try:
            with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
                own = None if self._is_pooling else await self._connect()
                if await self._greet(_Side(reader, writer)):
                    await self._serve(_Side(reader, writer), own)
        finally:
            self._clients_writers.discard(writer)
            writer.transport.abort()

    async def _greet(self, client: _Side) -> bool:
        while True:
            [length] = struct.unpack("!i", await client.reader.readexactly(4))
            result = await client.reader.readexactly(length - 4)
            [code] = struct.unpack("!i", result[:4])
            if code == _CANCEL:
                return False
            if code != _SSL:
                break
            client.writer.write(b"N")
        if self.refuses is not None and self.refuses in result:
            client.write(_fatal(b"08P01", b"unsupported startup parameter: " + self.refuses))
            client.writer.close()
            await client.writer.wait_closed()
            return False
        client.write(self._greeting)
        return True

    async def _serve(self, client: _Side, own: _Side | None) -> None:
        while (message := await client.read())[:1] != b"X":
            if self._is_pooling:
                self.transactions += 1
            async with self._lent(own) as server:
                while True:
                    events = await self._exchange(client, server, message)
                    if events == b"I" and self._is_pooling:
                        break
                    message = await client.read()
                    if message[:1] == b"X":
                        return

    async def _exchange(self, client: _Side, server: _Side, message: bytes) -> bytes:
        """Pass messages on until the database is ready for the next statement; return whether it is in a transaction."""
        events = b""
        answering = asyncio.create_task(self._answer(client, server))
        try:
            while True:
                events += message
                if self.lose_before is not None and self.lose_before in events:
                    self.lose_before = None
                    raise ConnectionResetError
                self._is_lost = self.lose_reply_to is not None and self.lose_reply_to in events
                if self.is_silent:
                    await asyncio.sleep(_EVER)
                server.write(message)
                if message[:1] in b"SQ":
                    return await answering
                message = await client.read()
        finally:
            answering.cancel()
            await asyncio.gather(answering, return_exceptions=True)

    @contextlib.asynccontextmanager
    async def _lent(self, own: _Side | None) -> AsyncIterator[_Side]:
        if own is not None:
            yield own
            return
        side = await self._idle.get()
        is_whole = False
        try:
            side = side or await self._connect()
            yield side
            is_whole = True
        finally:
            if side is not None and not is_whole:
                side.writer.transport.abort()
            self._idle.put_nowait(side if is_whole else None)

    async def _answer(self, client: _Side, server: _Side) -> bytes:
        while True:
            message = await server.read()
            if message[:1] == b"Z" and self._is_lost:
                self.lose_reply_to = None
                raise ConnectionResetError
            if message == _IN_TRANSACTION and self.is_in_statement_mode:
                client.write(_fatal(b"08P01", b"transaction blocks not allowed in statement pooling mode"))
                client.writer.close()
                await client.writer.wait_closed()
                raise ConnectionResetError
            client.write(message)
            if message[:1] == b"Z":
                return message[5:]
