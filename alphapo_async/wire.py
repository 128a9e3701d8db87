"""Requests on connections of aiohttp's pool: the only module that knows aiohttp's inside.

Each request is written here, in one piece and at one place (`Exchange.write`), so that it is known whether a byte of it may have left.
aiohttp connects, speaks TLS, talks to proxies and reads the reply. None of that is aiohttp's public interface: `probe` finds out whether
the installed version works that way, and `session` goes the public way where it does not.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import select
import socket
import struct
from collections.abc import Callable, Coroutine, Mapping
from math import inf
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast
from weakref import WeakKeyDictionary

import aiohttp
from aiohttp import hdrs, http
from yarl import URL

from alphapo_async.core.replies import NoReply, Reply

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection
    from aiohttp.streams import StreamReader

__all__ = [
    "ALWAYS",
    "LARGEST_REPLY",
    "UNREADABLE",
    "Exchange",
    "Order",
    "PooledWire",
    "ProbeConnector",
    "ProbeTransport",
    "StaleConnection",
    "WriteBatch",
    "abort_socket",
    "is_genuine",
    "probe",
    "read_reply",
    "watch_by_poll",
    "watch_by_select",
]

logger = logging.getLogger("alphapo_async")

LARGEST_REPLY: Final = 1024 * 1024
"""Bytes of a reply that are read; a larger one is no reply."""
ALWAYS: Final[Mapping[str, str]] = {
    "Accept": "application/json",
    "Accept-Encoding": "identity",
    "User-Agent": "alphapo-async",
}
"""Headers of every request."""
_TOO_LARGE: Final = NoReply("answer too large", may_have_left=True)
UNREADABLE: Final[type[Exception]] = getattr(http, "HttpProcessingError", aiohttp.ClientError)
"""Raised where a reply cannot be read."""
_INTERIM: Final = frozenset(range(100, 200)) - {101}  # "100 Continue" and the like: the reply is still to come
_GONE: Final = (OSError, AttributeError, ValueError)
"""What a socket raises that is closed already, asyncio's and uvloop's."""
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds: closing sends a reset and drops what is unsent


class StaleConnection(aiohttp.ServerDisconnectedError):
    """Something arrived on the connection before the request left, or the connection is gone; the request does not leave on it.

    What arrived would be taken for the answer: an old 429 would say that this body never arrived.
    """


# ── one request ──────────────────────────────────────────────────────────────────────────────────────────────────────


class Exchange:
    """One request: which connection was handed over to it, and whether its bytes may have left."""

    __slots__ = (
        "_bytes",
        "_cancellations",
        "_connection",
        "_socket",
        "_task",
        "_transport",
        "due",
        "has_left",
        "is_attached",
        "is_late",
        "is_reused",
        "sockets",
    )

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self._task = task
        self._cancellations = task.cancelling()
        """Requests to cancel the task from before: a caller may ask in its cleanup, and those do not end this exchange."""
        self._connection: Connection | None = None
        self._transport: asyncio.Transport | None = None
        self._socket: Any = None
        self._bytes = b""
        self.has_left = False
        """Bytes may have left: they were written, or, on the public way, a connection was handed over."""
        self.is_late = False
        """Its time was up, and it was cancelled for that."""
        self.due = inf
        """When its time is up, on the loop's clock."""
        self.is_reused = False
        """Its connection has served before."""
        self.is_attached = False
        """A connection was handed over to it."""
        self.sockets: list[socket.socket] = []
        """On the public way: every socket that was made for it."""

    def time_is_up(self) -> None:
        """End the exchange, wherever it is."""
        self.is_late = True
        self._task.cancel()

    @property
    def is_cancelled(self) -> bool:
        """The caller's side cancelled it, too."""
        return self._task.cancelling() > self._cancellations + self.is_late

    def finish(self) -> None:
        """Undo our own cancellation; keep any other."""
        if self.is_late:
            self._task.uncancel()

    def attach(self, connection: Connection) -> ResponseHandler:
        """Take the connection, to leave on it; return what reads the reply.

        Raises:
            StaleConnection: something has arrived on it, or it is gone.
        """
        self._connection, self.is_attached = connection, True
        protocol = connection.protocol
        self.is_reused = protocol in _have_served
        if protocol is None or protocol.transport is None or protocol.should_close:
            raise StaleConnection
        self._transport = protocol.transport
        self._socket = self._transport.get_extra_info("socket")  # as long as the transport knows it
        return protocol

    def prepare(self, request: bytes) -> None:
        """Leave with these bytes."""
        self._bytes = request

    def write(self, now: float) -> None:
        """Write the bytes, unless the time is up, the connection is gone, or something has arrived on it since it was last used."""
        protocol = self._connection and self._connection.protocol
        if self.has_left or protocol is None or self._transport is None or self._transport.is_closing():
            return  # what waits for the answer gets that
        if now >= self.due:
            return  # the process stood still, and the alarm goes off next: nothing has left
        # It came since the handover: the loop has read it, or will read it after us.
        if protocol.should_close or _is_unread(protocol, self._socket):
            protocol.set_exception(StaleConnection())
            return
        self.has_left = True
        self._transport.write(self._bytes)

    def break_off(self, error: Exception) -> None:
        """End the wait for the answer with this error."""
        if self._connection is not None and self._connection.protocol is not None:
            self._connection.protocol.set_exception(error)

    def release(self) -> None:
        """Give the connection back to the pool: the whole reply was read."""
        assert self._connection is not None  # noqa: S101 - on which it was read
        assert self._transport is not None  # noqa: S101 - likewise
        if self._transport.get_write_buffer_size():
            self.reset()  # the answer came before the whole request was read
        else:
            self._connection.release()

    def reset(self) -> None:
        """Abort the connection with a reset, so that bytes still unsent cannot linger and arrive later, or never leave.

        Called where an exchange has failed: an error here must not take the place of what is known of it.
        """
        connection, self._connection = self._connection, None
        transport, self._transport = self._transport, None
        try:
            if transport is not None:
                self._abort(transport)
            if connection is not None:
                connection.close()
        except Exception:
            logger.exception("a connection could not be aborted", extra={"foreign_id": None})
        while self.sockets:
            abort_socket(self.sockets.pop())

    def _abort(self, transport: asyncio.Transport) -> None:
        with contextlib.suppress(*_GONE):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        try:
            transport.get_extra_info("socket")
            transport.abort()
        except AttributeError:  # pragma: no cover - as the versions of asyncio have it
            # Where it cannot read the answer aiohttp closes the connection itself. asyncio's TLS transport may then know its connection no
            # more: it cannot abort it, and would continue to flush. The end of the socket reaches it all the same.
            with contextlib.suppress(*_GONE):
                self._socket.shutdown(socket.SHUT_RDWR)


def abort_socket(connected: socket.socket) -> None:
    """Have the end of a connection be a reset, and reach its transport: what the transport still holds never leaves."""
    with contextlib.suppress(*_GONE):
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        connected.shutdown(socket.SHUT_RDWR)


# ── what lies unread in a socket ─────────────────────────────────────────────────────────────────────────────────────


def watch_by_poll(connected: Any) -> Callable[[], bool]:
    """Return a function that returns whether bytes, or the connection's end, lie unread in the socket."""
    look = select.poll()
    look.register(connected, select.POLLIN)
    return lambda: bool(look.poll(0))


def watch_by_select(connected: Any) -> Callable[[], bool]:
    """Do as `watch_by_poll`, where a system has no `poll`; a descriptor that `select` cannot take counts as unread."""
    number = connected.fileno()

    def is_unread() -> bool:
        try:
            return bool(select.select([number], [], [], 0)[0])
        except ValueError:
            return True

    return is_unread


_watch: Final = watch_by_poll if hasattr(select, "poll") else watch_by_select
_have_served: Final[WeakKeyDictionary[Any, Callable[[], bool] | None]] = WeakKeyDictionary()
"""The protocols of connections on which a request has left before, and what looks into their sockets; None: nothing can."""


def _is_unread(protocol: ResponseHandler, connected: Any) -> bool:
    """Return whether bytes, or the connection's end, lie unread in the socket of a connection that has served before.

    A new connection is not asked: over TLS the server's session tickets may lie there.
    """
    if protocol not in _have_served:
        _have_served[protocol] = None if connected is None else _watch(connected)
        return False
    look = _have_served[protocol]
    return look is None or look()


# ── the pool ─────────────────────────────────────────────────────────────────────────────────────────────────────────


class WriteBatch:
    """Requests that leave when the loop comes round: many writes leave in one burst, at half the cost."""

    def __init__(self) -> None:
        self._waiting: list[Exchange] = []

    def add(self, loop: asyncio.AbstractEventLoop, exchange: Exchange) -> None:
        """Have this one leave with the others."""
        if not self._waiting:
            loop.call_soon(self._leave)
        self._waiting.append(exchange)

    def _leave(self) -> None:
        waiting, self._waiting = self._waiting, []
        time = asyncio.get_running_loop().time
        for exchange in waiting:
            try:
                exchange.write(time())
            except Exception as error:  # noqa: BLE001 - whatever its connection does, the others leave
                exchange.break_off(error)


class _Route(NamedTuple):
    """Where requests go, and how each of them begins."""

    to: aiohttp.ClientRequest
    """What the pool asks for the host, the port, TLS and the proxy."""
    head: str
    """The request line, and the headers that are always the same."""


class Order(NamedTuple):
    """What is to be sent where, and how long connecting may take."""

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None
    of_connecting: aiohttp.ClientTimeout


def _directly(_url: str) -> None:
    """Return no proxy."""


class PooledWire:
    """Sends requests on connections of a pool.

    Args:
        session: aiohttp's session.
        connector: the pool.
        proxy_of: returns the proxy through which a URL is reached; None: reached directly.
        batch: when requests leave.
    """

    def __init__(
        self,
        session: aiohttp.ClientSession,
        connector: aiohttp.BaseConnector,
        proxy_of: Callable[[str], str | None] = _directly,
        batch: WriteBatch | None = None,
    ) -> None:
        self._session = session
        self._connector = connector
        self._proxy_of = proxy_of
        self._batch = batch or WriteBatch()
        self._routes: dict[tuple[str, str], _Route] = {}

    async def send(self, exchange: Exchange, order: Order) -> Reply | NoReply:
        """Send one request and read its reply; where a pooled connection turns out to be stale, on a fresh one."""
        route = self._routes.get((order.method, order.url)) or self._new_route(order.method, order.url)
        try:
            return await self._carry(exchange, route, order)
        except (aiohttp.ClientError, OSError) as error:
            is_stale = exchange.is_reused or isinstance(error, StaleConnection)
            if exchange.has_left or not is_stale or self._connector.closed:
                raise
        exchange.reset()  # nothing has left, and it may on another connection
        return await self._carry(exchange, route, order, is_fresh=True)

    async def _connect(
        self, to: aiohttp.ClientRequest, of_connecting: aiohttp.ClientTimeout, *, is_fresh: bool
    ) -> Connection:
        """Return a connection of the pool, or a new one; where a new one is wanted, close those that have served before."""
        while True:
            try:
                connection = await self._connector.connect(to, [], of_connecting)
            except TimeoutError as error:
                raise aiohttp.ConnectionTimeoutError from error
            if not (is_fresh and connection.protocol in _have_served):
                return connection
            connection.close()

    async def _carry(
        self, exchange: Exchange, route: _Route, order: Order, *, is_fresh: bool = False
    ) -> Reply | NoReply:
        """Get a connection, have the request leave on it, and read the reply."""
        protocol = exchange.attach(await self._connect(route.to, order.of_connecting, is_fresh=is_fresh))
        exchange.prepare(_request(route, order))  # connecting fills in what the proxy asks for
        protocol.set_response_params(read_until_eof=True)
        self._batch.add(asyncio.get_running_loop(), exchange)
        message, content = await protocol.read()
        while message.code in _INTERIM:
            message, content = await protocol.read()
        if not exchange.has_left:  # pragma: no cover - a reply before the request: seen at writing, and never taken
            raise StaleConnection
        reply = await read_reply(message.code, message.headers, content)
        if isinstance(reply, Reply):
            exchange.release()
        else:
            exchange.reset()
        return reply

    def _new_route(self, method: str, address: str) -> _Route:
        """Compute once what is the same for all requests."""
        url, found = URL(address), self._proxy_of(address)
        proxy = None if found is None else URL(found)
        to = aiohttp.ClientRequest(method, url, loop=asyncio.get_running_loop(), session=self._session, proxy=proxy)
        target = str(url) if proxy is not None and not to.is_ssl() else url.raw_path_qs
        always = (f"{name}: {value}" for name, value in ALWAYS.items())
        lines = f"{method} {target} HTTP/1.1", f"Host: {to.headers[hdrs.HOST]}", *always
        route = self._routes[method, address] = _Route(to, "\r\n".join(lines))
        return route


def _request(route: _Route, order: Order) -> bytes:
    """Return head and body as they leave.

    Raises:
        ValueError: a header holds the end of a line.
    """
    lines = [route.head, *[f"{name}: {value}" for name, value in order.headers.items()]]
    if (word := route.to.headers.get(hdrs.PROXY_AUTHORIZATION)) is not None:
        lines.append(f"{hdrs.PROXY_AUTHORIZATION}: {word}")
    if order.body is not None:
        lines.append(f"Content-Length: {len(order.body)}")
    head = "\r\n".join(lines)
    if head.count("\n") != route.head.count("\n") + len(lines) - 1 or head.count("\r") != head.count("\n"):
        raise ValueError("A header holds the end of a line.")
    return f"{head}\r\n\r\n".encode() + (order.body or b"")


async def read_reply(status: int, headers: Mapping[str, str], content: StreamReader) -> Reply | NoReply:
    """Read a reply's body and return the whole reply; no reply if the body is too large."""
    body = await content.readany()
    while len(body) <= LARGEST_REPLY and not content.at_eof():
        body += await content.readany()
    if len(body) > LARGEST_REPLY:
        return _TOO_LARGE
    return Reply(status, body, headers.get("Content-Type", "").lower(), headers.get("Retry-After"), headers.get("Date"))


# ── does aiohttp work that way ───────────────────────────────────────────────────────────────────────────────────────

_CLIENT: Final = vars(aiohttp.client)


def is_genuine() -> bool:
    """Return whether aiohttp's own request is in its place, and no stand-in such as that of aioresponses."""
    request = getattr(aiohttp.ClientSession, "_request", None)
    return getattr(request, "__globals__", None) is _CLIENT


_PROBE_REPLY: Final = b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
_PROBED: Final = Reply(201, b"{}", "application/json")
_PROBE_REQUEST: Final = b"POST /probe HTTP/1.1\r\nHost: probe.invalid\r\n"


class ProbeTransport(asyncio.Transport):
    """A connection without a socket: it is answered in the moment in which it is written to."""

    def __init__(self, protocol: Any) -> None:
        super().__init__()
        self.written = b""
        self.is_over = False
        self._protocol = protocol
        protocol.connection_made(self)

    def write(self, data: Any) -> None:
        """Take a request and hand over its reply."""
        self.written += data
        self._protocol.data_received(_PROBE_REPLY)

    def get_write_buffer_size(self) -> int:
        """Return that nothing waits to leave."""
        return 0

    def is_closing(self) -> bool:
        """Return whether the connection is over."""
        return self.is_over

    def abort(self) -> None:
        """End the connection."""
        if not self.is_over:
            self.is_over = True
            self._protocol.connection_lost(None)

    close = abort


class ProbeConnector(aiohttp.BaseConnector):
    """A pool whose connections have no socket."""

    made: ProbeTransport

    async def _create_connection(self, *_: Any, **__: Any) -> ResponseHandler:
        protocol: ResponseHandler = self._factory()
        self.made = ProbeTransport(protocol)
        return protocol


class _AtOnce(WriteBatch):
    """Has each request leave in the moment in which it is added."""

    def add(self, loop: asyncio.AbstractEventLoop, exchange: Exchange) -> None:
        exchange.write(loop.time())


def probe(session: aiohttp.ClientSession, pool: Callable[[], ProbeConnector] = ProbeConnector) -> str | None:
    """Return why requests cannot be written on connections of this aiohttp's pool; None if they can.

    It sends one request on a connection without a socket, and sees what becomes of it. Nothing waits and nothing leaves.

    Args:
        session: what the requests belong to.
        pool: makes the pool.
    """
    try:
        connector = pool()
        try:
            _run_without_waiting(_probe(session, connector))
        finally:
            _run_without_waiting(_close(connector))
    except Exception as error:  # noqa: BLE001 - whatever it is, the public way is left
        return f"{type(error).__name__}: {error}"
    return None


def _run_without_waiting(steps: Coroutine[Any, Any, None]) -> None:
    """Run a coroutine that waits for nothing.

    Raises:
        LookupError: it had to wait.
    """
    try:
        while steps.send(None) is None:
            pass  # it only lets others run, which nothing here needs
    except StopIteration:
        return
    finally:
        steps.close()
    raise LookupError("it had to wait")


async def _close(connector: ProbeConnector) -> None:
    await connector.close()


async def _probe(session: aiohttp.ClientSession, connector: ProbeConnector) -> None:
    """Send two requests.

    Without a socket that could be looked into, the second one finds the first one's connection and leaves on a fresh one.

    Raises:
        LookupError: what became of them is not as it should be.
    """
    order = Order("POST", "http://probe.invalid/probe", {}, b"{}", aiohttp.ClientTimeout(total=None))
    wire = PooledWire(session, connector, batch=_AtOnce())
    _expect("the reply", await _send(wire, order), _PROBED)
    first = connector.made
    _expect("the request", (first.written[: len(_PROBE_REQUEST)], first.written[-2:]), (_PROBE_REQUEST, b"{}"))
    _expect("the end of the first connection", first.is_over, wanted=False)
    _expect("the second reply", await _send(wire, order), _PROBED)
    _expect("the end of the first connection", first.is_over, wanted=True)


async def _send(wire: PooledWire, order: Order) -> Reply | NoReply:
    exchange = Exchange(cast("asyncio.Task[Any]", asyncio.current_task()))
    try:
        return await wire.send(exchange, order)
    except BaseException:
        exchange.reset()
        raise


def _expect(what: str, seen: object, wanted: object) -> None:
    if seen != wanted:
        raise LookupError(f"{what} is {seen!r}")
