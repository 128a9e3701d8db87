"""A far end that serves AlphaPo's desk over a real socket, plain or TLS, until a fault strikes one withdrawal's request.

What is accepted is the desk's alone, so that its ledger is the truth.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable, Iterator
from http import HTTPStatus
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

import msgspec

from alphapo_async.core.signer import Signer
from alphapo_async.sandbox import Fault as Twist
from alphapo_async.sandbox import Ledger, Script
from alphapo_async.sandbox.answers import HttpAnswer
from alphapo_async.sandbox.desk import Desk, Question
from alphapo_async.sandbox.rules import MerchantState
from tests.proof.simulation.sockets.certificates import Identity, server_side
from tests.proof.simulation.sockets.loop import IdlingLoop, Names

__all__ = ["KEY", "SECRET", "FarEnd", "Fault", "Line", "Request", "page", "spelt"]

KEY: Final = "made-up-key"
SECRET: Final = "made-up-secret"

POST: Final = "POST"
LATE: Final = 0.4
"""Seconds after which a body is processed late: when the attempt that brought it is over."""
_HOST: Final = "127.0.0.1"
_LINGER: Final = struct.pack("ii", 1, 0)
_BACKLOG: Final = 16
_SMALL_SEGMENT: Final = 1_448
_SMALL_BUFFER: Final = 32_768
_NO_TWIST: Final = Script({})


class Request(msgspec.Struct, frozen=True):
    """A whole request."""

    method: str
    path: str
    question: Question


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One way in which one request goes wrong; what is not told goes well."""

    names: Names | None = None
    """How the name is looked up."""
    door: str | None = None
    """`shut`: nobody listens; `full`: the queue of connections is full."""
    on_socket: Callable[[socket.socket], Awaitable[None]] | None = None
    """What happens to a new connection before a word is said."""
    identity: Identity | None = None
    """With whose certificate hands are shaken."""
    on_idle: Callable[[Line], None] | None = None
    """What happens on the standing connection before the request."""
    is_seen: bool = True
    """The client has the time to notice that."""
    on_line: Callable[[Line], Awaitable[bool]] | None = None
    """What happens once the request begins to arrive; True: the connection goes on."""
    is_large: bool = False
    """The body is larger than all buffers on its way."""


class Line:
    """One connection on which words can be said."""

    def __init__(self, far: FarEnd, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.far = far
        self.reader = reader
        self.writer = writer
        self.raw: socket.socket = writer.get_extra_info("socket")
        self.served = 0
        self._ahead = b""
        self._length = 0
        self._below: asyncio.Transport | None = None

    async def begun(self) -> None:
        """Wait for the first byte of a request."""
        self._ahead = self._ahead or await self.reader.readexactly(1)

    async def head(self) -> bytes:
        """Read the head of a request."""
        ahead, self._ahead = self._ahead, b""
        head = ahead + await self.reader.readuntil(b"\r\n\r\n")
        self._length = int(_headers(head).get("content-length", "0"))
        return head

    async def part_of_body(self) -> None:
        """Read the head of a request and a twentieth of its body, and no more."""
        await self.head()
        await self.reader.readexactly(self._length // 20)
        self.stop_reading()

    def stop_reading(self) -> None:
        """Read nothing more: buffers fill up."""
        transport: Any = self.writer.transport
        transport.pause_reading()
        if "_ssl_protocol" in vars(transport):
            # asyncio's TLS would go on reading ahead, and half of the body would be on its side.
            self._below = transport._ssl_protocol._transport
            self._below.pause_reading()

    def close(self) -> None:
        """End the connection."""
        self.writer.close()
        if self._below is not None:
            # Reading nothing more, TLS would wait in vain for the client's goodbye.
            self._below.close()

    async def request(self) -> Request:
        """Read a whole request."""
        head = await self.head()
        method, path, _ = head.split(b"\r\n", 1)[0].decode().split(" ")
        body = await self.reader.readexactly(self._length)
        told = _headers(head)
        key, signature = told.get("x-processing-key"), told.get("x-processing-signature")
        return Request(method, path, Question(body, key, signature, told.get("content-type", "")))

    def say(self, told: bytes) -> None:
        """Send these bytes."""
        self.writer.write(told)

    def reset(self) -> None:
        """End the connection with a reset; nothing happens if it has ended."""
        # A TLS transport that has been closed twice knows its connection no more.
        with contextlib.suppress(OSError, AttributeError):
            self.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
            self.writer.transport.abort()

    def half_close(self) -> None:
        """End what is said, over TLS without its goodbye."""
        self.raw.shutdown(socket.SHUT_WR)

    async def end(self) -> None:
        """Wait until the client has left."""
        with contextlib.suppress(ConnectionError, ssl.SSLError):
            if self.reader.at_eof() or not self.writer.transport.is_reading():  # type: ignore[attr-defined]
                await asyncio.get_running_loop().create_future()
            while await self.reader.read(65_536):
                pass


Act: TypeAlias = Callable[[Line], Awaitable[bool]]


class FarEnd:
    """AlphaPo at the far end of the wire.

    Args:
        fault: what strikes, once.
        is_tls: whether it speaks TLS.
        closes: whether it closes every connection after one answer.
        is_named: whether it is called by a name instead of an address.
    """

    def __init__(self, fault: Fault, *, is_tls: bool, closes: bool, is_named: bool) -> None:
        self.fault = fault
        self.closes = closes
        self._is_tls = is_tls
        self._is_named = is_named
        world = MerchantState()
        self.ledger = Ledger(world, self.now)
        self.desk = Desk(world, self.ledger, {KEY: Signer(KEY, SECRET)}, _NO_TWIST)
        self.desk.throttle_seconds = 0
        self.strikes: list[int] = []
        """For each connection that was struck: how many requests it had served before."""
        self.turns_away = 0
        """So many withdrawals are first answered with a 503, unprocessed."""
        self._is_striking = False
        self._loop = _running()
        self._tasks: set[asyncio.Task[None]] = set()
        self._lines: set[Line] = set()
        self._pending: set[asyncio.Task[None]] = set()
        self._accepting: asyncio.Task[None] | None = None
        self._held = self._bound()
        self._port: int = self._held.getsockname()[1]
        self._listener: socket.socket | None = None
        self._fillers: list[socket.socket] = []

    def now(self) -> float:
        """Return the present moment."""
        return self._loop.time()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"{'https' if self._is_tls else 'http'}://{'localhost' if self._is_named else _HOST}:{self._port}"

    # ── the door ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def __aenter__(self) -> Self:
        self._loop.names[self._port] = _ours
        self._listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._shut()
        del self._loop.names[self._port]
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        self._held.close()

    def _bound(self) -> socket.socket:
        """Bind a socket; one that is bound and never listens keeps the port while the door is shut."""
        bound = _unnagled()
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if self.fault.is_large:
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _SMALL_BUFFER)
            bound.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, _SMALL_SEGMENT)
        bound.setblocking(False)
        bound.bind((_HOST, getattr(self, "_port", 0)))
        return bound

    def _listen(self) -> None:
        self._listener = self._bound()
        self._listener.listen(_BACKLOG)
        self._accepting = asyncio.ensure_future(self._accept(self._listener))

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            raw, _ = await self._loop.sock_accept(listener)
            raw.setblocking(False)
            self._start(self._take(raw))

    async def _shut(self) -> None:
        if self._accepting is not None:
            self._accepting.cancel()
            await asyncio.gather(self._accepting, return_exceptions=True)
        for one in (self._listener, *self._fillers):
            if one is not None:
                one.close()
        self._accepting, self._listener, self._fillers = None, None, []

    async def _fill(self) -> None:
        """Listen, let nobody in, and fill the queue."""
        await self._shut()
        self._listener = self._bound()
        self._listener.listen(0)
        for _ in range(8):
            filler = _unnagled()
            filler.setblocking(False)
            filler.connect_ex((_HOST, self._port))
            self._fillers.append(filler)

    def _start(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # ── the strike ───────────────────────────────────────────────────────────────────────────────────────────────────

    async def begin_strike(self) -> None:
        """The next request is the one that is struck."""
        self._is_striking = True
        if self.fault.names is not None:
            self._loop.names[self._port] = self.fault.names
        if self.fault.door == "shut":
            await self._shut()
        elif self.fault.door == "full":
            await self._fill()
        if self.fault.on_idle is not None:
            (line,) = self._lines
            self.fault.on_idle(line)
            if self.fault.is_seen:
                # Both ends of the loopback are in this process: the bytes are there, and the client has to look.
                await asyncio.sleep(0.01)

    def hide(self) -> None:
        """Until the strike, the name is not found for now."""
        self._loop.names[self._port] = _not_now

    async def end_strike(self, *, is_gone: bool) -> None:
        """The request is over; from now on all goes well, or nobody is there any more."""
        self._is_striking = False
        self._loop.names[self._port] = _ours
        if is_gone:
            await self._shut()
            for line in list(self._lines):
                line.reset()
        elif self.fault.door is not None:
            await self._shut()
            self._listen()

    def has_struck_as_meant(self) -> bool:
        """Say whether the fault has struck a connection once, or none if it is a fault of none."""
        return len(self.strikes) == (self.fault.on_line is not None or self.fault.on_socket is not None)

    def truth(self, foreign_id: str) -> str:
        """Say what has become of a withdrawal so far."""
        return "accepted" if self.ledger.accepted(foreign_id) else "later" if self._pending else "no"

    async def settle(self) -> None:
        """Wait until nothing is left that is processed late."""
        while self._pending:
            await asyncio.wait(self._pending)

    # ── connections ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def _take(self, raw: socket.socket) -> None:
        fault = self.fault if self._is_striking else Fault()
        if fault.on_socket is not None:
            self.strikes.append(0)
            with contextlib.closing(raw), contextlib.suppress(ConnectionError):
                await fault.on_socket(raw)
            return
        context = server_side(fault.identity or "good") if self._is_tls else None
        reader = asyncio.StreamReader(limit=_SMALL_BUFFER)
        protocol = asyncio.StreamReaderProtocol(reader)
        try:
            transport, _ = await self._loop.connect_accepted_socket(lambda: protocol, raw, ssl=context)
        except (OSError, ssl.SSLError):
            return
        line = Line(self, reader, asyncio.StreamWriter(transport, protocol, reader, self._loop))
        with self._kept(line), contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError):
            while await self._serve(line):
                line.served += 1

    @contextlib.contextmanager
    def _kept(self, line: Line) -> Iterator[None]:
        self._lines.add(line)
        try:
            yield
        finally:
            self._lines.discard(line)
            line.close()

    async def _serve(self, line: Line) -> bool:
        await line.begun()
        if self._is_striking and self.fault.on_line is not None:
            self.strikes.append(line.served)
            return await self.fault.on_line(line)
        request = await line.request()
        if request.method == POST and self.turns_away > 0:
            self.turns_away -= 1
            reply = spelt(page(503), closes=self.closes)
        else:
            reply = self.process(request)
        line.say(reply)
        await line.writer.drain()
        return not self.closes

    # ── the desk ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def process(self, request: Request, twist: Twist | None = None, *, closes: bool | None = None) -> bytes:
        """Let the desk process a request and return its reply, whole."""
        self.desk.faults = _NO_TWIST if twist is None else Script({"*": {"withdrawal": [twist]}}, then="repeat last")
        reaction = self.desk.react(request.method, request.path, request.question, self.now(), 0.0)
        return spelt(reaction.answer, closes=self.closes if closes is None else closes)

    def process_late(self, request: Request) -> None:
        """Let the desk process a request when the attempt that brought it is over."""
        task = asyncio.ensure_future(self._process_late(request))
        self._pending.add(task)
        task.add_done_callback(self._pending.discard)

    async def _process_late(self, request: Request) -> None:
        await asyncio.sleep(LATE)
        self.process(request)


def _unnagled() -> socket.socket:
    """Return a socket of a kind whose small pieces asyncio lets go at once: of those that name TCP."""
    return socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)


async def _not_now() -> list[str]:
    raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")


async def _ours() -> list[str]:
    return [_HOST]


def _running() -> IdlingLoop:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, IdlingLoop)
    return loop


def _headers(head: bytes) -> dict[str, str]:
    lines = head.decode().split("\r\n")[1:]
    return {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}


def page(status: int) -> HttpAnswer:
    """Return a page from the edge."""
    return HttpAnswer(status, b"<html><body>Just a moment...</body></html>", "text/html; charset=UTF-8")


def spelt(answer: HttpAnswer, *headers: str, closes: bool = False) -> bytes:
    """Return the bytes of a whole reply."""
    lines = [
        f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}",
        f"Content-Type: {answer.content_type}",
        f"Content-Length: {len(answer.body)}",
        *(f"{name}: {value}" for name, value in answer.headers.items()),
        *headers,
        *(["Connection: close"] if closes else []),
    ]
    return "\r\n".join([*lines, "", ""]).encode() + answer.body
