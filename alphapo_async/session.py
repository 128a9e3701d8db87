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
from collections.abc import Callable, Iterable, Mapping
from contextvars import ContextVar
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast
from urllib.parse import urlsplit
from weakref import WeakKeyDictionary

import aiohttp
from aiohttp import hdrs
from aiohttp.http import StreamWriter

from alphapo_async.alarms import Alarms
from alphapo_async.core.errors import ConfigurationError
from alphapo_async.core.outcome import NoReply, Reply

if TYPE_CHECKING:
    from aiohttp.client_proto import ResponseHandler
    from aiohttp.connector import Connection
    from aiohttp.typedefs import LooseCookies, LooseHeaders
    from multidict import CIMultiDict
    from yarl import URL

__all__ = ["SessionManager", "Slots"]

LARGEST_REPLY: Final = 1024 * 1024
"""Bytes of a reply that are read; a larger one is no reply."""

_ONE_PIECE: Final = 16 * 1024
"""Bytes of a body that leaves with its head; the buffers of a connection that is free take them at once."""


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


class _Handover:
    """Notes that a connection was handed over to the request of one exchange, and which."""

    __slots__ = ("_departing", "_socket", "is_late", "task", "transport")

    def __init__(self, task: asyncio.Task[Any]) -> None:
        self.task = task
        self.is_late = False
        """Its time was up, and it was cancelled for that."""
        self.transport: asyncio.Transport | None = None
        self._socket: Any = None
        self._departing: asyncio.Handle | None = None

    def time_is_up(self) -> None:
        """End the exchange, wherever it is."""
        self.is_late = True
        self.task.cancel()

    @property
    def is_cancelled(self) -> bool:
        """Somebody else cancelled it, too."""
        return self.task.cancelling() > self.is_late

    def note(self, transport: asyncio.Transport | None) -> None:
        """Note the connection, and its socket as long as the transport knows it."""
        self.transport = transport
        self._socket = None if transport is None else transport.get_extra_info("socket")

    def depart(
        self,
        loop: asyncio.AbstractEventLoop,
        protocol: ResponseHandler,
        writer: StreamWriter,
        body: bytes,
        unread: select.poll | None,
    ) -> None:
        """Have the head and this body leave when the loop comes round: what many requests write leaves in one burst, at half the cost."""
        self._departing = loop.call_soon(self._leave, protocol, writer, body, unread)

    def _leave(self, protocol: ResponseHandler, writer: StreamWriter, body: bytes, unread: select.poll | None) -> None:
        if protocol.transport is None or protocol.transport.is_closing():
            return  # whoever waits for the answer hears of that
        if unread is not None and unread.poll(0):  # it came since the handover, and the loop reads it after us
            protocol.set_exception(_UnaskedAnswer())
            return
        self._departing = None
        writing = writer.write_eof(body)
        with contextlib.suppress(StopIteration):
            writing.send(None)  # it writes at once; all that it would wait for is room for more
        writing.close()
        protocol.start_timeout()

    @property
    def is_departing(self) -> bool:
        """No byte has left yet."""
        return self._departing is not None

    @property
    def may_have_left(self) -> bool:
        """A connection was handed over, and bytes may have left on it."""
        return self.transport is not None and self._departing is None

    def reset(self) -> None:
        """Abort the connection with a reset, so that bytes still unsent cannot linger and arrive later, or never leave."""
        if self.transport is None:
            return
        if self._departing is not None:
            self._departing.cancel()
        with contextlib.suppress(*_GONE):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        try:
            self.transport.get_extra_info("socket")
            self.transport.abort()
        except AttributeError:
            # aiohttp closes twice where it cannot read the answer. asyncio's TLS transport then knows its connection no more: it cannot
            # abort it, and would go on flushing. The end of the socket reaches it all the same.
            with contextlib.suppress(*_GONE):
                self._socket.shutdown(socket.SHUT_RDWR)


_handover: ContextVar[_Handover] = ContextVar("alphapo_async_handover")


_have_served: Final[WeakKeyDictionary[Any, select.poll]] = WeakKeyDictionary()
"""The protocols of connections that were handed over to a request before, and what looks into their sockets."""


def _unread(protocol: ResponseHandler) -> select.poll | None:
    """Return what tells whether bytes, or the connection's end, lie unread in the socket; None for a connection that has not served yet.

    A new connection is not asked: over TLS the server's session tickets may lie there.
    """
    known = _have_served.get(protocol)
    if known is None:
        assert protocol.transport is not None  # noqa: S101 - the pool hands out connections that stand
        _have_served[protocol] = look = select.poll()
        look.register(protocol.transport.get_extra_info("socket"), select.POLLIN)
    return known


class _RepeatRefused(aiohttp.ClientConnectionError):
    """The connection was dropped, and the library's own silent repeat of the request did not happen."""


class _Request(aiohttp.ClientRequest):
    """A request whose headers are complete and whose body is small: both leave in one piece, without a task that writes them.

    It notes when a connection is handed over to it, and refuses a second one.
    """

    _whole: bytes | None = None

    def update_headers(self, headers: LooseHeaders | None) -> None:
        """Take them as the session has made them, for this request alone; the host's place among them is the first."""
        self.headers = cast("CIMultiDict[str]", headers)
        self.headers[hdrs.HOST] = self.url.host_port_subcomponent or ""

    def update_auto_headers(self, skip_auto_headers: Iterable[str] | None) -> None:
        """Add none: the session has given them all."""

    def update_cookies(self, cookies: LooseCookies | None) -> None:
        """Send none."""

    def update_body_from_data(self, body: Any, _stacklevel: int = 3) -> None:
        """Take the bytes as they are; whatever else is aiohttp's to make bytes of."""
        if type(body) is not bytes or len(body) > _ONE_PIECE:
            super().update_body_from_data(body, _stacklevel + 1)
            return
        self._whole = body
        if self.method != hdrs.METH_POST:
            self._body = aiohttp.BytesPayload(body)  # aiohttp makes another request of it, if it repeats this one
        self.headers[hdrs.CONTENT_LENGTH] = str(len(body))

    async def send(self, conn: Connection) -> aiohttp.ClientResponse:
        handover = _handover.get()
        if handover.may_have_left:
            # aiohttp repeats a GET on a fresh connection when a reused one was dropped; that would be an uncounted look-up.
            raise _RepeatRefused
        protocol = conn.protocol
        if protocol is None or protocol.should_close:
            raise _UnaskedAnswer
        unread = _unread(protocol)
        if unread is not None and unread.poll(0):
            raise _UnaskedAnswer
        handover.note(conn.transport)
        if self._whole is None or self.proxy is not None or protocol.writing_paused:
            if self._whole is not None:
                self._body = aiohttp.BytesPayload(self._whole)
            return await super().send(conn)
        writer = StreamWriter(protocol, self.loop)
        await writer.write_headers(f"{self.method} {self.url.raw_path_qs} HTTP/1.1", self.headers)
        handover.depart(self.loop, protocol, writer, self._whole, unread)
        return self.response_class(
            self.method,
            self.original_url,
            writer=None,
            continue100=None,
            timer=self._timer,
            request_info=self.request_info,
            traces=self._traces,
            loop=self.loop,
            session=self._session,
            stream_writer=writer,
        )


_NONE: Final[SimpleCookie] = SimpleCookie()


class _NoCookies(aiohttp.DummyCookieJar):
    """Keeps none, and makes no new jar of none for each request."""

    def filter_cookies(self, request_url: URL) -> SimpleCookie:  # noqa: ARG002 - for whatever URL
        """Return none."""
        return _NONE


class _Limit(NamedTuple):
    """How long an exchange may take: as a whole, and until it has a connection."""

    alarms: Alarms
    of_connecting: aiohttp.ClientTimeout


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
        self._limits: dict[float, _Limit] = {}

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
        limit = self._limits.get(timeout) or self._limit(timeout)
        handover = _Handover(cast("asyncio.Task[Any]", asyncio.current_task()))
        _handover.set(handover)
        alarm = limit.alarms.set(asyncio.get_running_loop(), handover.time_is_up)
        try:
            response = await self._opened().request(
                method,
                url,
                data=body,
                headers=headers,
                timeout=limit.of_connecting,
                allow_redirects=False,
                proxy=self._proxy,
            )
            try:
                return await _read(response)
            finally:
                response.release()
        except asyncio.CancelledError:
            handover.reset()
            if handover.is_cancelled:
                raise
            if handover.is_late:
                return _told(TimeoutError(), handover)
            # Nobody cancelled us: the session was closed while a name was being looked up.
            return NoReply("no connection: closed", may_have_left=handover.may_have_left)
        except Exception as error:  # noqa: BLE001 - whatever fails out there is a value in here
            handover.reset()
            return _told(error, handover)
        finally:
            alarm.cancel()
            if handover.is_late:
                handover.task.uncancel()

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
                cookie_jar=_NoCookies(),
                headers={
                    "Host": "",
                    "Accept": "application/json",
                    "Accept-Encoding": "identity",
                    "User-Agent": "alphapo-async",
                },
                request_class=_Request,
                trust_env=self._trust_env,
            )
        return self._session

    def _limit(self, seconds: float) -> _Limit:
        """Connecting ends a little before the whole, so that the two time-outs are told apart."""
        connect = min(self._connect_timeout, seconds * 0.9)
        of_connecting = aiohttp.ClientTimeout(total=None, connect=connect, ceil_threshold=float("inf"))
        limit = self._limits[seconds] = _Limit(Alarms(seconds), of_connecting)
        return limit


def _is_proxy(url: object) -> bool:
    try:
        parts = urlsplit(url) if isinstance(url, str) else None
        return parts is not None and parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        return False


def _verifies(context: object) -> bool:
    return isinstance(context, tls.SSLContext) and context.verify_mode is tls.CERT_REQUIRED and context.check_hostname


async def _read(response: aiohttp.ClientResponse) -> Reply | NoReply:
    content = response.content
    body = await content.readany()
    while len(body) <= LARGEST_REPLY and not content.at_eof():
        body += await content.readany()
    if len(body) > LARGEST_REPLY:
        response.close()
        return NoReply("answer too large", may_have_left=True)
    headers = response.headers
    return Reply(
        response.status,
        body,
        headers.get("Content-Type", "").lower(),
        headers.get("Retry-After"),
        headers.get("Date"),
    )


def _told(error: Exception, handover: _Handover) -> NoReply:
    reason = next((text for kind, text in _REASONS if isinstance(error, kind)), "connection lost")
    if handover.is_departing:
        return NoReply(reason if reason.startswith(_BARRED) else _BARRED, may_have_left=False)
    return NoReply(reason, may_have_left=handover.may_have_left or not isinstance(error, _BEFORE_HANDOVER))
