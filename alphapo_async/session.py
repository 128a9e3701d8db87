"""SessionManager: the pooled HTTP session, and the only door to aiohttp's client.

Whatever happens on the wire comes out as a value: a whole `Reply`, or a `NoReply` that knows whether a byte of the
request may have left. That turns on one fact, noted at the one place where it happens: was a connection handed over to
the request, a reused one included?
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
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit
from weakref import WeakSet

import aiohttp

from alphapo_async.core.errors import ConfigurationError
from alphapo_async.core.outcome import NoReply, Reply

if TYPE_CHECKING:
    from aiohttp.connector import Connection

__all__ = ["SessionManager", "Slots"]

LARGEST_REPLY: Final = 1024 * 1024
"""Bytes of a reply that are read; a larger one is no reply."""


class _UnaskedAnswer(aiohttp.ServerDisconnectedError):
    """Something arrived on the connection before the request left, or it is gone; the request does not leave on it."""


# No connection was handed over when these are raised: the name, the network, TLS or the proxy said no.
_BEFORE_HANDOVER: Final = (
    _UnaskedAnswer,
    aiohttp.ClientConnectorError,
    aiohttp.ClientConnectorCertificateError,
    aiohttp.ClientHttpProxyError,
    aiohttp.ConnectionTimeoutError,
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


class _Handover:
    """Notes that a connection was handed over to the request of one exchange, and which."""

    __slots__ = ("_socket", "transport")

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self._socket: Any = None

    def note(self, transport: asyncio.Transport | None) -> None:
        """Note the connection, and its socket as long as the transport knows it."""
        self.transport = transport
        self._socket = None if transport is None else transport.get_extra_info("socket")

    def reset(self) -> None:
        """Abort the connection with a reset, so that bytes still unsent cannot linger and arrive later."""
        if self.transport is None:
            return
        with contextlib.suppress(OSError, AttributeError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        try:
            self.transport.get_extra_info("socket")
            self.transport.abort()
        except AttributeError:
            # aiohttp closes twice where it cannot read the answer. asyncio's TLS transport then knows its connection no more: it cannot
            # abort it, and would go on flushing. The end of the socket reaches it all the same.
            with contextlib.suppress(OSError, AttributeError):
                self._socket.shutdown(socket.SHUT_RDWR)


_handover: ContextVar[_Handover] = ContextVar("alphapo_async_handover")


_have_served: Final[WeakSet[Any]] = WeakSet()
"""The protocols of connections that were handed over to a request before."""


def _has_more_to_say(conn: Connection) -> bool:
    """Tell whether bytes, or the connection's end, lie unread in the socket of a connection that has served before.

    A new connection is not asked: over TLS the server's session tickets may lie there.
    """
    if conn.protocol not in _have_served:
        _have_served.add(conn.protocol)
        return False
    assert conn.transport is not None  # noqa: S101 - the pool hands out connections that stand
    unread = select.poll()
    unread.register(conn.transport.get_extra_info("socket"), select.POLLIN)
    return bool(unread.poll(0))


class _RepeatRefused(aiohttp.ClientConnectionError):
    """The connection was dropped, and the library's own silent repeat of the request did not happen."""


class _Request(aiohttp.ClientRequest):
    """A request that notes when a connection is handed over to it, and refuses a second one."""

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        handover = _handover.get()
        if handover.transport is not None:
            # aiohttp repeats a GET on a fresh connection when a reused one was dropped; that would be an uncounted look-up.
            raise _RepeatRefused
        if conn.protocol is None or conn.protocol.should_close or _has_more_to_say(conn):
            # What came unasked would be taken for the answer to this request: an old 429 would say that this body never arrived.
            raise _UnaskedAnswer
        handover.note(conn.transport)
        return await super().send(conn)


class SessionManager:
    """One pooled HTTP session with its limits and time-outs. It opens at first use and belongs to that event loop.

    Args:
        max_connections: requests under way at once, and so connections; 1 or more.
        connect_timeout: seconds for name, connection and TLS together; a request that fails here never left.
        proxy: URL of an HTTP proxy.
        ssl: an `ssl.SSLContext` that trusts your own certificate authority; certificates are always verified.
        trust_env: take the proxy from the environment (`HTTPS_PROXY` and its kin).

    Raises:
        ConfigurationError: a figure is out of range, `proxy` is no URL, or `ssl` would switch verification off.
    """

    def __init__(
        self,
        *,
        max_connections: int = 100,
        connect_timeout: float = 10.0,
        proxy: str | None = None,
        ssl: tls.SSLContext | None = None,
        trust_env: bool = False,
    ) -> None:
        if isinstance(max_connections, bool) or not isinstance(max_connections, int) or max_connections < 1:
            raise ConfigurationError(f"max_connections must be a whole number from 1, not {max_connections!r}.")
        if isinstance(connect_timeout, bool) or not isinstance(connect_timeout, int | float) or not connect_timeout > 0:
            raise ConfigurationError(f"connect_timeout must be seconds, more than 0, not {connect_timeout!r}.")
        if proxy is not None and not _is_proxy(proxy):
            raise ConfigurationError(
                "proxy must be the URL of an HTTP proxy, such as 'http://proxy.example:3128'; this is none."
            )
        if ssl is not None and not _verifies(ssl):
            raise ConfigurationError(
                "ssl must be an ssl.SSLContext that verifies certificates and host names; to trust your own certificate authority, "
                "pass ssl.create_default_context(cafile=...)."
            )
        self.max_connections = max_connections
        self.slots = Slots(max_connections)
        self._connect_timeout = connect_timeout
        self._proxy = proxy
        self._ssl = ssl
        self._trust_env = trust_env
        self._session: aiohttp.ClientSession | None = None
        self._timeouts: dict[float, aiohttp.ClientTimeout] = {}

    def __repr__(self) -> str:
        state = "closed" if self._session is None else "open"
        return f"SessionManager({state}, {self.max_connections - self.slots.free} of {self.max_connections} busy)"

    async def exchange(
        self, method: str, url: str, *, body: bytes | None, headers: Mapping[str, str], timeout: float
    ) -> Reply | NoReply:
        """Send one request and return what came of it; never an exception of the network.

        Redirects are not followed, and a reply larger than 1 MiB counts as none. A request that is cancelled or that fails leaves no
        connection behind on which its bytes could still travel.

        Args:
            method: `GET` or `POST`; AlphaPo's look-up is a GET with a body.
            url: the whole URL.
            body: the exact bytes to send.
            headers: what to send beside them.
            timeout: seconds for the exchange as a whole.
        """
        handover = _Handover()
        _handover.set(handover)
        try:
            async with self._opened().request(
                method,
                url,
                data=body,
                headers=headers,
                timeout=self._timeout(timeout),
                allow_redirects=False,
                proxy=self._proxy,
            ) as response:
                return await _read(response)
        except asyncio.CancelledError:
            handover.reset()
            task = asyncio.current_task()
            if task is None or task.cancelling():
                raise
            # Nobody cancelled us: the session was closed while a name was being looked up.
            return NoReply("no connection: closed", may_have_left=handover.transport is not None)
        except Exception as error:  # noqa: BLE001 - whatever fails out there is a value in here
            handover.reset()
            return _told(error, is_handed_over=handover.transport is not None)

    async def aclose(self) -> None:
        """Close the session and its connections; it opens again at the next use."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(
                    limit=self.max_connections, ssl=True if self._ssl is None else self._ssl
                ),
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"Accept": "application/json", "Accept-Encoding": "identity", "User-Agent": "alphapo-async"},
                request_class=_Request,
                trust_env=self._trust_env,
            )
        return self._session

    def _timeout(self, seconds: float) -> aiohttp.ClientTimeout:
        """Connecting ends a little before the whole, so that the two time-outs are told apart."""
        known = self._timeouts.get(seconds)
        if known is None:
            connect = min(self._connect_timeout, seconds * 0.9)
            known = aiohttp.ClientTimeout(total=seconds, connect=connect, ceil_threshold=float("inf"))
            self._timeouts[seconds] = known
        return known


def _is_proxy(url: object) -> bool:
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
        return parts is not None and parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _verifies(context: object) -> bool:
    return isinstance(context, tls.SSLContext) and context.verify_mode is tls.CERT_REQUIRED and context.check_hostname


async def _read(response: aiohttp.ClientResponse) -> Reply | NoReply:
    chunks, size = [], 0
    async for chunk in response.content.iter_any():
        size += len(chunk)
        if size > LARGEST_REPLY:
            response.close()
            return NoReply("answer too large", may_have_left=True)
        chunks.append(chunk)
    headers = response.headers
    return Reply(
        response.status,
        b"".join(chunks),
        headers.get("Content-Type", "").lower(),
        headers.get("Retry-After"),
        headers.get("Date"),
    )


def _told(error: Exception, *, is_handed_over: bool) -> NoReply:
    reason = next((text for kind, text in _REASONS if isinstance(error, kind)), "connection lost")
    return NoReply(reason, may_have_left=is_handed_over or not isinstance(error, _BEFORE_HANDOVER))
