"""SessionManager: the pooled HTTP connections, and the only door to aiohttp's client.

Whatever happens on the wire comes out as a value: a whole `Reply`, or a `NoReply` that knows whether a byte of the
request may have left. For that the request is written here, in one piece and at one place (`_Exchange.write`), on a connection of aiohttp's
pool; aiohttp connects, speaks TLS, talks to proxies and reads the reply.
"""

from __future__ import annotations

import asyncio
import contextlib
import select
import socket
import ssl as tls
import struct
from collections import deque
from collections.abc import Callable, Mapping
from math import inf
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast
from weakref import WeakKeyDictionary

import aiohttp
from aiohttp import hdrs
from yarl import URL

from alphapo_async.core.errors import ConfigurationError
from alphapo_async.core.frames import hides_arguments
from alphapo_async.core.outcome import NoReply, Reply
from alphapo_async.core.setting_checks import check_count, check_seconds
from alphapo_async.proxies import check_proxy, proxies_of_environment, proxy_for
from alphapo_async.timers import FixedDelayTimers

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection
    from aiohttp.streams import StreamReader

__all__ = ["SessionManager", "Slots"]

LARGEST_REPLY: Final = 1024 * 1024
"""Bytes of a reply that are read; a larger one is no reply."""


class _UnaskedAnswer(aiohttp.ServerDisconnectedError):
    """Something arrived on the connection before the request left, or it is gone; the request does not leave on it.

    It would be taken for the answer: an old 429 would say that this body never arrived.
    """


# No connection was handed over when these are raised: the name, the network, TLS or the proxy said no.
_BEFORE_HANDOVER: Final = (
    _UnaskedAnswer,
    aiohttp.ClientConnectorError,
    aiohttp.ClientConnectorCertificateError,
    aiohttp.ClientHttpProxyError,
    aiohttp.ConnectionTimeoutError,
)
# Before a connection was handed over only the answer to CONNECT is read: a proxy closed the connection, or answered with something else.
_BROKEN_OFF: Final = (
    aiohttp.ServerDisconnectedError,
    aiohttp.ClientResponseError,
    aiohttp.ClientPayloadError,
    aiohttp.ClientOSError,
)
_REASONS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (_UnaskedAnswer, "no connection: the pooled one was spoilt"),
    (aiohttp.ClientConnectorDNSError, "no connection: name not found"),
    (aiohttp.ClientConnectorCertificateError, "no connection: certificate not trusted"),
    (aiohttp.ClientSSLError, "no connection: TLS failed"),
    (aiohttp.ClientProxyConnectionError, "no connection: proxy not reached"),
    (aiohttp.ClientHttpProxyError, "no connection: proxy refused"),
    (aiohttp.ClientConnectorError, "no connection"),
    (aiohttp.ConnectionTimeoutError, "no connection: connect time-out"),
    (TimeoutError, "no answer in time"),
    (aiohttp.ServerDisconnectedError, "connection closed without an answer"),
    (aiohttp.ClientPayloadError, "answer cut short"),
    (OSError, "connection lost"),
)
_BARRED: Final = "no connection"
_GONE: Final = (OSError, AttributeError, ValueError)
"""What a socket raises that is closed already, asyncio's and uvloop's."""
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER on, zero seconds: closing sends a reset and drops what is unsent


class Slots:
    """How many requests may be under way at once; shared by all clients of one session manager."""

    __slots__ = ("_listeners", "free")

    def __init__(self, number: int) -> None:
        self.free = number
        self._listeners: deque[Callable[[], None]] = deque()

    def take(self) -> None:
        """Take one; the caller has seen that one is free."""
        self.free -= 1

    def give(self) -> None:
        """Give one back, and tell everyone who may be waiting for it, each time another one first."""
        self.free += 1
        self._listeners.rotate(-1)
        for listener in self._listeners:
            listener()

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever a slot comes free."""
        self._listeners.append(listener)

    def forget(self, listener: Callable[[], None]) -> None:
        """Call `listener` no more."""
        self._listeners.remove(listener)


class _Exchange:
    """One request on its way: which connection was handed over to it, and whether its bytes have left on it."""

    __slots__ = ("_bytes", "_connection", "_socket", "_task", "_transport", "due", "has_left", "is_late")

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self._task = task
        self._connection: Connection | None = None
        self._transport: asyncio.Transport | None = None
        self._socket: Any = None
        self._bytes = b""
        self.has_left = False
        """The bytes were written to the connection: any of them may have left."""
        self.is_late = False
        """Its time was up, and it was cancelled for that."""
        self.due = inf
        """When its time is up, on the loop's clock."""

    def time_is_up(self) -> None:
        """End the exchange, wherever it is."""
        self.is_late = True
        self._task.cancel()

    @property
    def is_cancelled(self) -> bool:
        """Somebody else cancelled it, too."""
        return self._task.cancelling() > self.is_late

    def be_over(self) -> None:
        """Nobody but whoever cancelled it besides is to hear of that."""
        if self.is_late:
            self._task.uncancel()

    @property
    def is_attached(self) -> bool:
        """A connection was handed over to it."""
        return self._transport is not None

    def attach(self, connection: Connection) -> ResponseHandler:
        """Take the connection, to leave on it; return what hears the reply.

        Raises:
            _UnaskedAnswer: something has arrived on it.
        """
        self._connection = connection
        protocol = connection.protocol
        if protocol is None or protocol.transport is None or protocol.should_close:
            raise _UnaskedAnswer
        self._transport = protocol.transport
        self._socket = self._transport.get_extra_info("socket")  # as long as the transport knows it
        return protocol

    def prepare(self, request: bytes) -> None:
        """Leave with these bytes."""
        self._bytes = request

    def write(self, now: float) -> None:
        """Write the bytes, unless its time is up, the connection is gone, or somebody has said something on it since it was last used."""
        protocol = self._connection and self._connection.protocol
        if self.has_left or protocol is None or self._transport is None or self._transport.is_closing():
            return  # whoever waits for the answer hears of that
        if now >= self.due:
            return  # the process stood still, and the alarm goes off next: nothing has left
        # It came since the handover: the loop has read it, or will read it after us.
        if protocol.should_close or _is_unread(protocol, self._socket):
            protocol.set_exception(_UnaskedAnswer())
            return
        self.has_left = True
        self._transport.write(self._bytes)

    def break_off(self) -> None:
        """Whoever waits for the answer hears that there is none."""
        if self._connection is not None and self._connection.protocol is not None:
            self._connection.protocol.set_exception(aiohttp.ClientOSError())

    def release(self) -> None:
        """Give the connection back to the pool: the whole reply was read."""
        assert self._connection is not None  # noqa: S101 - on which it was read
        assert self._transport is not None  # noqa: S101 - likewise
        if self._transport.get_write_buffer_size():
            self.reset()  # it answered before it had heard everything
        else:
            self._connection.release()

    def reset(self) -> None:
        """Abort the connection with a reset, so that bytes still unsent cannot linger and arrive later, or never leave."""
        connection, self._connection = self._connection, None
        if self._transport is not None:
            self._abort(self._transport)
        if connection is not None:
            connection.close()

    def _abort(self, transport: asyncio.Transport) -> None:
        with contextlib.suppress(*_GONE):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        try:
            transport.get_extra_info("socket")
            transport.abort()
        except AttributeError:  # pragma: no cover - as the versions of asyncio have it
            # Where it cannot read the answer aiohttp closes the connection itself. asyncio's TLS transport may then know its connection no
            # more: it cannot abort it, and would go on flushing. The end of the socket reaches it all the same.
            with contextlib.suppress(*_GONE):
                self._socket.shutdown(socket.SHUT_RDWR)


_have_served: Final[WeakKeyDictionary[Any, select.poll]] = WeakKeyDictionary()
"""The protocols of connections on which a request has left before, and what looks into their sockets."""


def _is_unread(protocol: ResponseHandler, connected: Any) -> bool:
    """Tell whether bytes, or the connection's end, lie unread in the socket of a connection that has served before.

    A new connection is not asked: over TLS the server's session tickets may lie there.
    """
    look = _have_served.get(protocol)
    if look is not None:
        return bool(look.poll(0))
    _have_served[protocol] = look = select.poll()
    look.register(connected, select.POLLIN)
    return False


class _WriteBatch:
    """Requests that leave when the loop comes round: what many write leaves in one burst, at half the cost."""

    def __init__(self) -> None:
        self._waiting: list[_Exchange] = []

    def add(self, loop: asyncio.AbstractEventLoop, exchange: _Exchange) -> None:
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
            except Exception:  # noqa: BLE001 - whatever its connection does, the others leave
                exchange.break_off()


class _Route(NamedTuple):
    """Where requests go, and how each of them begins."""

    to: aiohttp.ClientRequest
    """What the pool asks for the host, the port, TLS and the proxy."""
    head: str
    """The request line, and the headers that are always the same."""


class _Order(NamedTuple):
    """What is to be sent, and how long connecting may take."""

    route: _Route
    headers: Mapping[str, str]
    body: bytes | None
    of_connecting: aiohttp.ClientTimeout


class _Pool:
    """The connections of one event loop."""

    def __init__(self, max_connections: int, ssl: tls.SSLContext | None) -> None:
        self.connector = aiohttp.TCPConnector(limit=max_connections, ssl=True if ssl is None else ssl)
        self.session = aiohttp.ClientSession(connector=self.connector, cookie_jar=aiohttp.DummyCookieJar())
        self.departures = _WriteBatch()
        self.routes: dict[tuple[str, str], _Route] = {}


class _Limit(NamedTuple):
    """How long an exchange may take: as a whole, and until it has a connection."""

    alarms: FixedDelayTimers
    of_connecting: aiohttp.ClientTimeout


class SessionManager:
    """One pooled HTTP session with its limits and time-outs. It opens at first use and belongs to that event loop.

    Args:
        max_connections: requests under way at once, and so connections; 1 or more.
        connect_timeout: seconds for name, connection and TLS together; a request that fails here never left.
        proxy: URL of an HTTP proxy, `http://HOST:PORT`, or `https://HOST:PORT` where the proxy itself is reached over TLS.
        ssl: an `ssl.SSLContext` that trusts your own certificate authority; certificates are always verified.
        trust_env: without `proxy`, take it from the environment as it is now: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`.

    Raises:
        ConfigurationError: a figure is out of range, a proxy is no URL of one, or `ssl` would switch verification off.
    """

    @hides_arguments
    def __init__(
        self,
        *,
        max_connections: int = 100,
        connect_timeout: float = 10.0,
        proxy: str | None = None,
        ssl: tls.SSLContext | None = None,
        trust_env: bool = False,
    ) -> None:
        if ssl is not None and not _verifies(ssl):
            raise ConfigurationError(
                "ssl must be an ssl.SSLContext that verifies certificates and host names; to trust your own certificate authority, "
                "pass ssl.create_default_context(cafile=...)."
            )
        self.max_connections = check_count("max_connections", max_connections)
        self.slots = Slots(max_connections)
        self._connect_timeout = check_seconds("connect_timeout", connect_timeout, may_be_zero=False)
        self._proxies = _proxies(proxy, trust_env=trust_env)
        self._ssl = ssl
        self._pool: _Pool | None = None
        self._limits: dict[float, _Limit] = {}

    def __repr__(self) -> str:
        if not hasattr(self, "_limits"):
            return "SessionManager(not made: a setting was refused)"
        state = "closed" if self._pool is None else "open"
        return f"SessionManager({state}, {self.max_connections - self.slots.free} of {self.max_connections} busy)"

    async def exchange(
        self, method: str, url: str, *, body: bytes | None, headers: Mapping[str, str], timeout: float
    ) -> Reply | NoReply:
        """Send one request and return what came of it; never an exception of the network.

        Redirects are not followed, nothing is sent twice, and a reply larger than 1 MiB counts as none. A request that is cancelled or that
        fails leaves no connection behind on which its bytes could still travel.

        Args:
            method: `GET` or `POST`; AlphaPo's look-up is a GET with a body.
            url: the whole URL.
            body: the exact bytes to send.
            headers: what to send beside them.
            timeout: seconds for the exchange as a whole.
        """
        limit = self._limits.get(timeout) or self._limit(timeout)
        exchange = _Exchange(cast("asyncio.Task[Any]", asyncio.current_task()))
        alarm = limit.alarms.start(asyncio.get_running_loop(), exchange.time_is_up)
        exchange.due = alarm.due
        try:
            if not _is_genuine():
                return await self._ask_stand_in(exchange, method, url, body, headers)
            order = _Order(self._route(method, url), headers, body, limit.of_connecting)
            try:
                return await self._carry(exchange, order)
            except _UnaskedAnswer:
                exchange.reset()  # nothing has left, and it may on another connection
                return await self._carry(exchange, order)
        except asyncio.CancelledError:
            exchange.reset()
            if exchange.is_cancelled:
                raise
            if exchange.is_late:
                return _told(TimeoutError(), exchange)
            # Nobody cancelled us: the session was closed while a name was being looked up.
            return NoReply("no connection: closed", may_have_left=exchange.has_left)
        except Exception as error:  # noqa: BLE001 - whatever fails out there is a value in here
            exchange.reset()
            return _told(error, exchange)
        finally:
            alarm.cancel()
            exchange.be_over()

    async def _carry(self, exchange: _Exchange, order: _Order) -> Reply | NoReply:
        """Get a connection, have the request leave on it, and read the reply."""
        pool = self._opened()
        try:
            connection = await pool.connector.connect(order.route.to, [], order.of_connecting)
        except TimeoutError as error:
            raise aiohttp.ConnectionTimeoutError from error
        protocol = exchange.attach(connection)
        exchange.prepare(_written(order))
        protocol.set_response_params(read_until_eof=True)
        pool.departures.add(asyncio.get_running_loop(), exchange)
        message, content = await protocol.read()
        while message.code in _INTERIM:
            message, content = await protocol.read()
        if not exchange.has_left:  # pragma: no cover - an answer before the question: seen to before, and never taken
            raise _UnaskedAnswer
        told = await _read(content)
        if told is None:
            exchange.reset()
            return _TOO_LARGE
        exchange.release()
        return _reply(message.code, told, message.headers)

    async def _ask_stand_in(
        self, exchange: _Exchange, method: str, url: str, body: bytes | None, headers: Mapping[str, str]
    ) -> Reply | NoReply:
        """Somebody has taken the place of aiohttp's own request, as aioresponses does in tests: he answers, and no connection is made."""
        proxy = proxy_for(url, self._proxies)
        exchange.has_left = True  # nobody sees whether it does
        try:
            response = await self._opened().session.request(
                method, url, data=body, headers=headers, allow_redirects=False, proxy=proxy
            )
        except _BEFORE_HANDOVER:
            exchange.has_left = False
            raise
        try:
            told = await _read(response.content)
            return _TOO_LARGE if told is None else _reply(response.status, told, response.headers)
        finally:
            response.release()

    async def aclose(self) -> None:
        """Close the session and its connections; it opens again at the next use."""
        pool, self._pool = self._pool, None
        if pool is not None:
            await pool.session.close()

    def _opened(self) -> _Pool:
        if self._pool is None:
            self._pool = _Pool(self.max_connections, self._ssl)
        return self._pool

    def _route(self, method: str, url: str) -> _Route:
        routes = self._opened().routes
        return routes.get((method, url)) or routes.setdefault((method, url), self._new_route(method, URL(url)))

    def _new_route(self, method: str, url: URL) -> _Route:
        """Work out once what is the same for all requests."""
        found = proxy_for(str(url), self._proxies)
        proxy = None if found is None else URL(found)
        session = self._opened().session
        to = aiohttp.ClientRequest(method, url, loop=asyncio.get_running_loop(), session=session, proxy=proxy)
        target = str(url) if proxy is not None and not to.is_ssl() else url.raw_path_qs
        lines = f"{method} {target} HTTP/1.1", f"Host: {to.headers[hdrs.HOST]}", *_ALWAYS
        return _Route(to, "\r\n".join(lines))

    def _limit(self, seconds: float) -> _Limit:
        """Connecting ends a little before the whole, so that the two time-outs are told apart."""
        connect = min(self._connect_timeout, seconds * 0.9)
        of_connecting = aiohttp.ClientTimeout(total=None, connect=connect, ceil_threshold=float("inf"))
        limit = self._limits[seconds] = _Limit(FixedDelayTimers(seconds), of_connecting)
        return limit


def _proxies(proxy: str | None, *, trust_env: bool) -> Mapping[str, str]:
    """Return the proxies that requests go through, by the scheme of their URLs."""
    if proxy is not None:
        return dict.fromkeys(("http", "https"), check_proxy("proxy", proxy))
    return proxies_of_environment() if trust_env else {}


def _verifies(context: object) -> bool:
    return isinstance(context, tls.SSLContext) and context.verify_mode is tls.CERT_REQUIRED and context.check_hostname


_ALWAYS: Final = "Accept: application/json", "Accept-Encoding: identity", "User-Agent: alphapo-async"
_INTERIM: Final = frozenset(range(100, 200)) - {101}  # "100 Continue" and its kin: the reply is still to come
_TOO_LARGE: Final = NoReply("answer too large", may_have_left=True)
_CLIENT: Final = vars(aiohttp.client)


def _is_genuine() -> bool:
    """Tell whether aiohttp's own request is in its place."""
    return getattr(aiohttp.ClientSession._request, "__globals__", None) is _CLIENT  # noqa: SLF001 - what stand-ins replace


def _written(order: _Order) -> bytes:
    """Return head and body as they leave.

    Raises:
        ValueError: a header holds the end of a line.
    """
    route, headers, body, _ = order
    lines = [route.head, *[f"{name}: {value}" for name, value in headers.items()]]
    if (word := route.to.headers.get(hdrs.PROXY_AUTHORIZATION)) is not None:
        lines.append(f"{hdrs.PROXY_AUTHORIZATION}: {word}")
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    head = "\r\n".join(lines)
    if head.count("\n") != route.head.count("\n") + len(lines) - 1 or head.count("\r") != head.count("\n"):
        raise ValueError("A header holds the end of a line.")
    return f"{head}\r\n\r\n".encode() + (body or b"")


async def _read(content: StreamReader) -> bytes | None:
    """Return the body, None if it is too large."""
    body = await content.readany()
    while len(body) <= LARGEST_REPLY and not content.at_eof():
        body += await content.readany()
    return body if len(body) <= LARGEST_REPLY else None


def _reply(status: int, body: bytes, headers: Mapping[str, str]) -> Reply:
    return Reply(status, body, headers.get("Content-Type", "").lower(), headers.get("Retry-After"), headers.get("Date"))


def _told(error: Exception, exchange: _Exchange) -> NoReply:
    reason = next((text for kind, text in _REASONS if isinstance(error, kind)), "connection lost")
    if exchange.has_left:
        return NoReply(reason, may_have_left=True)
    # The bytes are written in one place only: before that nothing has left, whatever the error.
    if not reason.startswith(_BARRED):
        is_proxy = not exchange.is_attached and isinstance(error, _BROKEN_OFF)
        reason = "no connection: proxy broke off" if is_proxy else _BARRED
    return NoReply(reason, may_have_left=False)
