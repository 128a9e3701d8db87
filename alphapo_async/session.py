"""SessionManager: the pooled HTTP connections, and the only door to aiohttp's client.

Whatever happens on the wire comes out as a value: a whole `Reply`, or a `NoReply` that knows whether a byte of the request may have left.
Requests go out on connections of aiohttp's pool (`wire`), or, where aiohttp's inside is not as that needs it, through aiohttp's public
interface.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl as tls
import traceback
from collections import deque
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from functools import partial
from typing import Any, Final, NamedTuple, cast

import aiohttp

from alphapo_async.core.errors import ConfigurationError
from alphapo_async.core.frames import hides_arguments
from alphapo_async.core.replies import INTERNAL_ERROR, NoReply, Reply, mark_never_left
from alphapo_async.core.setting_checks import check_count, check_seconds
from alphapo_async.descriptors import affordable, free_descriptors
from alphapo_async.proxies import check_proxy, proxies_of_environment, proxy_for
from alphapo_async.timers import FixedDelayTimers
from alphapo_async.wire import (
    ALWAYS,
    LARGEST_REPLY,
    UNREADABLE,
    Exchange,
    Order,
    PooledWire,
    StaleConnection,
    is_genuine,
    probe,
    read_reply,
)

__all__ = ["LARGEST_REPLY", "SessionManager", "Slots"]

logger = logging.getLogger("alphapo_async")

# No connection was handed over when these are raised: the name, the network, TLS or the proxy said no.
_BEFORE_HANDOVER: Final = (
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
_OF_THE_NETWORK: Final = (OSError, EOFError, aiohttp.ClientError, UNREADABLE)
"""What a network may raise; anything else is a programming error."""
_REASONS: Final[tuple[tuple[type[Exception], str], ...]] = (
    (StaleConnection, "no connection: the pooled one was spoilt"),
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


class Slots:
    """How many requests may be under way at once; shared by all clients of one session manager."""

    __slots__ = ("_listeners", "free", "number")

    def __init__(self, number: int) -> None:
        self.free = self.number = number
        self._listeners: deque[Callable[[], None]] = deque()

    @property
    def busy(self) -> int:
        """Requests that are under way."""
        return self.number - self.free

    def take(self) -> None:
        """Take one; the caller has seen that one is free."""
        self.free -= 1

    def give(self) -> None:
        """Give one back, and notify every loop that may be waiting for it, each time another one first."""
        self.free += 1
        self._listeners.rotate(-1)
        for listener in self._listeners:
            listener()

    def limit_to(self, number: int) -> None:
        """Have at most so many requests under way from now on; those that are under way continue."""
        self.free += number - self.number
        self.number = number

    def listen(self, listener: Callable[[], None]) -> None:
        """Call `listener` whenever a slot comes free."""
        self._listeners.append(listener)

    def forget(self, listener: Callable[[], None]) -> None:
        """Call `listener` no more; nothing happens where it is forgotten already: closing may be begun twice."""
        with contextlib.suppress(ValueError):
            self._listeners.remove(listener)


class _Pool:
    """The connections of one event loop.

    Args:
        max_connections: at once.
        ssl: whom to trust; None for the system's authorities.
        proxies: the proxies that requests go through.
    """

    def __init__(self, max_connections: int, ssl: tls.SSLContext | None, proxies: Mapping[str, str]) -> None:
        self._settings: dict[str, Any] = {"limit": max_connections, "ssl": True if ssl is None else ssl}
        self._proxy_of = partial(proxy_for, proxies=proxies)
        self.connector = aiohttp.TCPConnector(**self._settings)
        self.session = aiohttp.ClientSession(connector=self.connector, cookie_jar=aiohttp.DummyCookieJar())
        self.wire: PooledWire | None = None
        """How requests leave; None: the public way."""
        self._public: _PublicWire | None = None

    def use_pool(self) -> None:
        """Have requests leave on connections of the pool."""
        self.wire = PooledWire(self.session, self.connector, self._proxy_of)

    async def send(self, exchange: Exchange, order: Order) -> Reply | NoReply:
        """Send one request, and return its reply."""
        is_stand_in = not is_genuine()
        if self.wire is not None and not is_stand_in:
            return await self.wire.send(exchange, order)
        if self._public is None:
            self._public = _PublicWire(self._settings, self._proxy_of)
        if not is_stand_in:
            return await self._public.send(exchange, order)
        exchange.has_left = True  # nothing shows whether the stand-in hands over a connection
        try:
            return await self._public.send(exchange, order)
        except Exception as error:
            if isinstance(error, _BEFORE_HANDOVER):
                exchange.has_left = False
            _log_stand_in(error, order)
            raise

    async def aclose(self) -> None:
        """Close all connections."""
        await self.session.close()
        if self._public is not None:
            await self._public.session.close()


_sockets: ContextVar[list[socket.socket]] = ContextVar("_sockets")
"""Where the sockets go that are made for a request."""


def _make_socket(address: tuple[Any, ...]) -> socket.socket:
    made = socket.socket(*address[:3])
    _sockets.get().append(made)
    return made


class _Ended(aiohttp.ClientError):
    """A connection ended after it was handed over; by its own name aiohttp would send a GET again."""


async def _once(
    exchange: Exchange, request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType
) -> aiohttp.ClientResponse:
    """Send a request, and see to it that aiohttp does not send it again."""
    try:
        return await send(request)
    except (aiohttp.ClientOSError, aiohttp.ServerDisconnectedError) as error:
        if exchange.has_left:
            raise _Ended from error
        raise


async def _hand_over(_session: aiohttp.ClientSession, context: Any, _params: Any) -> None:
    exchange = context.trace_request_ctx
    exchange.is_attached = exchange.has_left = True


class _PublicWire:
    """Sends requests through aiohttp's public interface alone.

    Once a connection is handed over its bytes may have left. Each connection carries one request and is reset afterwards: on one that has
    served before, what lies unread could not be seen, and would be taken for the answer.
    """

    def __init__(self, settings: Mapping[str, Any], proxy_of: Callable[[str], str | None]) -> None:
        traces = aiohttp.TraceConfig()
        traces.on_connection_create_end.append(_hand_over)
        traces.on_connection_reuseconn.append(_hand_over)
        self._proxy_of = proxy_of
        self.session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(**settings, force_close=True, socket_factory=_make_socket),
            cookie_jar=aiohttp.DummyCookieJar(),
            trace_configs=[traces],
            headers=ALWAYS,
        )

    async def send(self, exchange: Exchange, order: Order) -> Reply | NoReply:
        """Send one request, and return its reply."""
        token = _sockets.set(exchange.sockets)
        try:
            response = await self.session.request(
                order.method,
                order.url,
                data=order.body,
                headers=order.headers,
                allow_redirects=False,
                proxy=self._proxy_of(order.url),
                timeout=order.of_connecting,
                trace_request_ctx=exchange,
                middlewares=(partial(_once, exchange),),
            )
        except _Ended as ended:
            raise cast("Exception", ended.__cause__) from None
        finally:
            _sockets.reset(token)
        try:
            return await read_reply(response.status, response.headers, response.content)
        finally:
            response.close()
            exchange.reset()


class _Limit(NamedTuple):
    """How long an exchange may take: as a whole, and until it has a connection."""

    alarms: FixedDelayTimers
    of_connecting: aiohttp.ClientTimeout


class SessionManager:
    """One pooled HTTP session with its limits and time-outs. It opens at first use and belongs to that event loop until it is closed.

    A program makes it, hands it to clients, and closes it with `aclose`; its other methods are for the client, and may change.

    Args:
        max_connections: requests under way at once, and so connections; 1 or more.
        connect_timeout: seconds for name, connection and TLS together; a request that fails here never left.
        proxy: URL of an HTTP proxy, `http://HOST:PORT`, or `https://HOST:PORT` where the proxy itself is reached over TLS.
        ssl: an `ssl.SSLContext` that trusts your own certificate authority; certificates are always verified.
        trust_env: without `proxy`, take it from the environment as it is now: `HTTPS_PROXY`, `HTTP_PROXY`, `ALL_PROXY`, `NO_PROXY`.
        _probe: decides whether requests leave on connections of the pool, for tests.
        _free_descriptors: how many files the process can still open, for tests.

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
        _probe: Callable[[aiohttp.ClientSession], str | None] = probe,
        _free_descriptors: Callable[[], int | None] = free_descriptors,
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
        self._probe = _probe
        self._free_descriptors = _free_descriptors
        self._has_warned = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pool: _Pool | None = None
        self._limits: dict[float, _Limit] = {}

    def __repr__(self) -> str:
        if not hasattr(self, "_limits"):
            return "SessionManager(not made: a setting was refused)"
        state = "closed" if self._pool is None else "open"
        return f"SessionManager({state}, {self.slots.busy} of {self.slots.number} busy)"

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Make the session this event loop's, until it is closed.

        Raises:
            ConfigurationError: it belongs to another one; nothing was sent.
        """
        if self._loop is None:
            self._loop = loop
        elif self._loop is not loop:
            raise ConfigurationError(
                "The SessionManager belongs to another event loop, in which it was first used; nothing was sent. Make one for each loop, "
                "inside the coroutine that uses it; a client without session= makes its own."
            )

    async def exchange(
        self, method: str, url: str, *, body: bytes | None, headers: Mapping[str, str], timeout: float
    ) -> Reply | NoReply:
        """Send one request and return what came of it; never an exception of the network.

        Redirects are not followed, nothing is sent twice, and a reply larger than 1 MiB counts as none. A request that is cancelled or that
        fails leaves no connection behind on which its bytes could still travel; a cancellation says whether none of them has left.

        Args:
            method: `GET` or `POST`; AlphaPo's look-up is a GET with a body.
            url: the whole URL.
            body: the exact bytes to send.
            headers: what to send beside them.
            timeout: seconds for the exchange as a whole.

        Raises:
            ConfigurationError: the session belongs to another event loop; nothing was sent.
        """
        self.bind(asyncio.get_running_loop())
        limit = self._limits.get(timeout) or self._limit(timeout)
        exchange = Exchange(cast("asyncio.Task[Any]", asyncio.current_task()))
        alarm = limit.alarms.start(asyncio.get_running_loop(), exchange.time_is_up)
        exchange.due = alarm.due
        try:
            return await self._opened().send(exchange, Order(method, url, headers, body, limit.of_connecting))
        except asyncio.CancelledError as cancellation:
            exchange.reset()
            if exchange.is_cancelled:
                if not exchange.has_left:
                    mark_never_left(cancellation)
                raise
            if exchange.is_late:
                return _no_reply(TimeoutError(), exchange)
            # No caller cancelled this: the session was closed while a name was being looked up.
            return NoReply("no connection: closed", may_have_left=exchange.has_left)
        except Exception as error:  # noqa: BLE001 - whatever fails out there is a value in here
            exchange.reset()
            if isinstance(error, _OF_THE_NETWORK):
                return _no_reply(error, exchange)
            return _internal_error(error, exchange)
        finally:
            exchange.finish()
            alarm.cancel()

    async def aclose(self) -> None:
        """Close the session and its connections; it opens again at the next use, in any event loop.

        Raises:
            ConfigurationError: it belongs to another event loop, which is not closed; nothing was closed.
        """
        has_lost_its_loop = self._loop is not None and self._loop.is_closed()
        if self._loop is not None and not has_lost_its_loop:
            self.bind(asyncio.get_running_loop())
        pool, self._pool, self._loop = self._pool, None, None
        if pool is not None:
            # The transports of a closed loop cannot be closed any more; their sockets end with them.
            with contextlib.suppress(*([RuntimeError] if has_lost_its_loop else [])):
                await pool.aclose()

    def _opened(self) -> _Pool:
        """Return the pool; at opening, find out whether requests can leave on its connections."""
        if self._pool is not None:
            return self._pool
        self._limit_connections()
        self._pool = pool = _Pool(self.max_connections, self._ssl, self._proxies)
        obstacle = self._probe(pool.session)
        if obstacle is None:
            pool.use_pool()
        elif not self._has_warned:
            self._has_warned = True
            logger.warning(
                "aiohttp %s does not work inside as it did (%s): every request makes a connection of its own. Payments are as safe as "
                "before, and slower; install another version of aiohttp, or of this library.",
                aiohttp.__version__,
                obstacle,
                extra={"foreign_id": None},
            )
        return pool

    def _limit_connections(self) -> None:
        """Leave descriptors to the journal: without one it can record nothing of what was sent."""
        free = self._free_descriptors()
        number = affordable(self.max_connections, free)
        self.slots.limit_to(number)
        if number < self.max_connections:
            logger.warning(
                "%d requests at once instead of %d: this process can open only %d more files. Raise the limit (ulimit -n).",
                number,
                self.max_connections,
                free,
                extra={"foreign_id": None},
            )

    def _limit(self, seconds: float) -> _Limit:
        """Connecting ends a little before the whole, so that the two time-outs can be distinguished."""
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


def _no_reply(error: Exception, exchange: Exchange) -> NoReply:
    """Return what an error of the network means."""
    reason = next((text for kind, text in _REASONS if isinstance(error, kind)), "connection lost")
    if exchange.has_left:
        return NoReply(reason, may_have_left=True)
    # The bytes are written in one place only: before that nothing has left, whatever the error.
    if not reason.startswith(_BARRED):
        reason = _BARRED if exchange.is_attached else _while_connecting(error)
    return NoReply(reason, may_have_left=False)


def _while_connecting(error: Exception) -> str:
    """Return why there is no connection, after an error that does not say so itself."""
    if isinstance(error, TimeoutError):
        return "no connection: connect time-out"
    return "no connection: proxy broke off" if isinstance(error, _BROKEN_OFF) else _BARRED


def _log_stand_in(error: Exception, order: Order) -> None:
    """Log at DEBUG why a stand-in for aiohttp's request failed, unless its error repeats a key, a signature or the body."""
    text = str(error)
    hidden = (*(value for name, value in order.headers.items() if name.startswith("X-")), (order.body or b"").decode())
    shown = "its text repeats the request" if any(part and part in text for part in hidden) else text
    logger.debug(
        "a stand-in for aiohttp's request failed: %s: %s", type(error).__name__, shown, extra={"foreign_id": None}
    )


def _internal_error(error: Exception, exchange: Exchange) -> NoReply:
    """Log a programming error, without its text, which may hold anything, and return that no reply came."""
    where = "".join(traceback.format_tb(error.__traceback__))
    logger.error(
        "internal error while a request was sent: %s\n%s", type(error).__name__, where, extra={"foreign_id": None}
    )
    return NoReply(INTERNAL_ERROR, may_have_left=exchange.has_left)
