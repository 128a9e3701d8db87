"""What knows aiohttp's inside: when bytes leave, what a stale connection means, and whether the installed aiohttp works that way."""

import asyncio
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
import trustme
from aioresponses import aioresponses

from alphapo_async.core.replies import NoReply, Reply
from alphapo_async.wire import (
    LARGEST_REPLY,
    Exchange,
    Order,
    PooledWire,
    ProbeConnector,
    ProbeTransport,
    StaleConnection,
    WriteBatch,
    abort_socket,
    is_genuine,
    probe,
    watch_by_poll,
    watch_by_select,
)
from tests.support.servers import Peer, answer, serving

OF_CONNECTING = aiohttp.ClientTimeout(total=None, connect=3.0)


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """Open a session of aiohttp."""
    async with aiohttp.ClientSession() as opened:
        yield opened


def new_exchange() -> Exchange:
    """Return an exchange of the running task."""
    task = asyncio.current_task()
    assert task is not None
    return Exchange(task)


def order(url: str, body: bytes | None = b"{}", **headers: str) -> Order:
    """Return an order for one POST."""
    return Order("POST", url, headers, body, OF_CONNECTING)


async def repeating(peer: Peer) -> None:
    """Answer every request."""
    while True:
        await peer.request()
        await peer.send(answer())


# ── when a request leaves ────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_connection_that_fails_as_one_leaves_keeps_no_other_back() -> None:
    """Those that leave with it leave; what waits on it gets the error itself, which may be a programming error."""
    results: list[str] = []

    class Leaving:
        def __init__(self, name: str) -> None:
            self._name = name

        def write(self, _now: float) -> None:
            results.append(f"{self._name} leaves")
            if self._name == "first":
                raise TypeError

        def break_off(self, error: Exception) -> None:
            results.append(f"{self._name} is broken off by {type(error).__name__}")

    loop, batch = asyncio.get_running_loop(), WriteBatch()
    for name in ("first", "second"):
        batch.add(loop, Leaving(name))  # type: ignore[arg-type]
    await asyncio.sleep(0)

    assert results == ["first leaves", "first is broken off by TypeError", "second leaves"]


async def test_what_is_broken_off_hears_why() -> None:
    """It waits for its answer; one that has no connection waits for none."""
    events: list[Exception] = []
    exchange, error = new_exchange(), TypeError("made up")
    exchange.break_off(error)
    transport = SimpleNamespace(get_extra_info=lambda _name: None)
    protocol = _Protocol(transport, events)
    exchange.attach(SimpleNamespace(protocol=protocol))  # type: ignore[arg-type]
    exchange.break_off(error)

    assert events == [error]


class _Protocol:
    """The part of aiohttp's protocol that an exchange knows."""

    def __init__(self, transport: Any, events: list[Exception]) -> None:
        self.transport = transport
        self.should_close = False
        self.set_exception = events.append


@pytest.mark.parametrize("is_spoilt", [False, True])
async def test_a_connection_that_is_gone_or_spoilt_is_not_taken(*, is_spoilt: bool) -> None:
    """The request needs another one."""
    protocol = _Protocol(SimpleNamespace(), [])
    protocol.should_close = is_spoilt
    connection = SimpleNamespace(protocol=protocol if is_spoilt else None)

    with pytest.raises(StaleConnection):
        new_exchange().attach(connection)  # type: ignore[arg-type]


async def test_a_header_that_holds_the_end_of_a_line_is_not_sent(session: aiohttp.ClientSession) -> None:
    """It would be another header, or another request: nothing leaves."""
    async with serving(repeating) as far:
        exchange = new_exchange()
        assert session.connector is not None
        with pytest.raises(ValueError, match="end of a line"):
            await PooledWire(session, session.connector).send(exchange, order(far.url, X="a\r\nb: c"))
        exchange.reset()

    assert not exchange.has_left
    assert far.requests == []


# ── stale connections ────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("is_seen", [False, True])
@pytest.mark.parametrize("count", [1, 2, 40])
async def test_however_many_pooled_connections_are_stale_every_request_leaves_once(
    session: aiohttp.ClientSession, count: int, *, is_seen: bool
) -> None:
    """The server closed all of them while they were idle: each second try makes a connection of its own."""
    peers: list[Peer] = []

    async def handler(peer: Peer) -> None:
        peers.append(peer)
        await repeating(peer)

    async with serving(handler) as far:
        assert session.connector is not None
        wire = PooledWire(session, session.connector)

        async def one() -> Reply | NoReply:
            return await wire.send(new_exchange(), order(far.url))

        assert all(isinstance(reply, Reply) for reply in await asyncio.gather(*(one() for _ in range(40))))
        for peer in peers:
            peer.writer.close() if is_seen else peer.writer.write(b"HTTP/1.1 408 Request Timeout\r\n\r\n")
        if is_seen:
            await asyncio.sleep(0.01)
        replies = await asyncio.gather(*(one() for _ in range(count)))

    assert [reply.status for reply in replies if isinstance(reply, Reply)] == [200] * count
    assert len(far.requests) == 40 + count


async def test_a_new_connection_that_ends_before_the_request_leaves_is_tried_once_more(
    session: aiohttp.ClientSession,
) -> None:
    """Both had no time to carry anything: the request has not left, and that counts as a failed attempt."""
    made: list[ProbeTransport] = []

    class Ending(ProbeConnector):
        async def _create_connection(self, *_: Any) -> Any:
            protocol = await super()._create_connection(*_)
            made.append(self.made)
            asyncio.get_running_loop().call_soon(protocol.set_exception, StaleConnection())
            return protocol

    exchange, pool = new_exchange(), Ending()
    with pytest.raises(StaleConnection):
        await PooledWire(session, pool).send(exchange, order("http://made-up.invalid"))
    exchange.reset()
    await pool.close()

    assert not exchange.has_left
    assert [transport.written for transport in made] == [b"", b""]


async def test_without_a_socket_to_look_into_no_connection_is_used_twice(session: aiohttp.ClientSession) -> None:
    """What lies unread on it could not be seen."""
    pool = ProbeConnector()
    wire = PooledWire(session, pool)
    first = new_exchange()
    assert await wire.send(first, order("http://made-up.invalid")) == Reply(201, b"{}", "application/json")
    before = pool.made
    assert isinstance(await wire.send(new_exchange(), order("http://made-up.invalid")), Reply)

    assert pool.made is not before
    assert before.is_over
    before.abort()  # a second time, as aiohttp does
    await pool.close()


@pytest.mark.parametrize("watch", [watch_by_poll, watch_by_select])
def test_what_lies_unread_in_a_socket_is_seen(watch: Callable[[Any], Callable[[], bool]]) -> None:
    """Nothing, then bytes, then the end; with `select` where a system has no `poll`."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        is_unread = watch(ours)
        assert not is_unread()
        theirs.send(b"x")
        assert is_unread()
        ours.recv(1)
        assert not is_unread()
        theirs.close()
        assert is_unread()


@pytest.mark.parametrize("watch", [watch_by_poll, watch_by_select])
def test_looking_into_a_socket_does_not_wait(watch: Callable[[Any], Callable[[], bool]]) -> None:
    """Each request on a pooled connection looks once, and a millisecond of waiting would stop the event loop for as long."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        is_unread, seconds = watch(ours), list[float]()
        for _ in range(50):
            began = time.perf_counter()
            assert not is_unread()
            seconds.append(time.perf_counter() - began)
        assert min(seconds) < 0.0005


def test_a_descriptor_that_select_cannot_take_counts_as_unread() -> None:
    """The request leaves on a fresh connection instead."""
    assert watch_by_select(SimpleNamespace(fileno=lambda: 1_000_000))()


async def test_what_was_made_for_an_exchange_is_aborted_with_it() -> None:
    """Each socket once."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        exchange = new_exchange()
        exchange.sockets.append(ours)
        exchange.reset()
        assert theirs.recv(1) == b""
    assert exchange.sockets == []


def test_a_socket_that_is_closed_already_is_aborted_without_a_word() -> None:
    """Its transport was faster."""
    ours, theirs = socket.socketpair()
    ours.close()
    theirs.close()
    abort_socket(ours)


# ── does aiohttp work that way ───────────────────────────────────────────────────────────────────────────────────────


async def test_the_installed_aiohttp_passes_the_probe(session: aiohttp.ClientSession) -> None:
    """It takes no descriptor, starts no task, and leaves nothing behind."""
    before = asyncio.all_tasks()
    assert probe(session) is None
    assert asyncio.all_tasks() == before


class _OtherSignature(ProbeConnector):
    async def connect(self, request: Any) -> Any:  # type: ignore[override]
        raise AssertionError


class _Waiting(ProbeConnector):
    async def _create_connection(self, *_: Any) -> Any:
        await asyncio.sleep(60)


class _Silent(ProbeConnector):
    async def _create_connection(self, *_: Any) -> Any:
        protocol: Any = await super()._create_connection(*_)
        protocol.data_received = lambda _: None
        return protocol


class _NoParameters(ProbeConnector):
    async def _create_connection(self, *_: Any) -> Any:
        protocol: Any = await super()._create_connection(*_)
        protocol.set_response_params = None
        return protocol


class _KeepsNothing(ProbeConnector):
    def __init__(self) -> None:
        super().__init__(force_close=True)


class _OtherReply(ProbeConnector):
    async def _create_connection(self, *_: Any) -> Any:
        protocol: Any = await super()._create_connection(*_)
        take = protocol.data_received
        protocol.data_received = lambda data: take(data.replace(b"201 Created", b"200 OK"))
        return protocol


@pytest.mark.parametrize(
    ("pool", "obstacle"),
    [
        (_OtherSignature, "TypeError"),
        (_Waiting, "had to wait"),
        (_Silent, "had to wait"),
        (_NoParameters, "TypeError"),
        (_KeepsNothing, "first connection"),
        (_OtherReply, "the reply is"),
    ],
)
async def test_an_aiohttp_that_works_otherwise_does_not_pass(
    session: aiohttp.ClientSession, pool: type[ProbeConnector], obstacle: str
) -> None:
    """Another signature, a part that is missing, a wait, another answer, a pool that keeps nothing."""
    assert obstacle in (probe(session, pool) or "")


def test_a_stand_in_for_the_request_of_aiohttp_is_recognized() -> None:
    """It is asked instead of a connection."""
    assert is_genuine()
    with aioresponses():
        assert not is_genuine()


# ── replies ──────────────────────────────────────────────────────────────────────────────────────────────────────────


async def test_a_proxy_hears_the_whole_address_and_its_credentials(session: aiohttp.ClientSession) -> None:
    """Those of its URL, as the header that is meant for it; without a body there is no length."""
    async with serving(repeating) as proxy:
        url = proxy.url.replace("//", "//user:hunter2@")
        assert session.connector is not None
        wire = PooledWire(session, session.connector, lambda _: url)
        assert isinstance(await wire.send(new_exchange(), order("http://127.0.0.1:9/x", None)), Reply)

    (request,) = proxy.requests
    assert request.startswith(b"POST http://127.0.0.1:9/x HTTP/1.1\r\n")
    assert b"Proxy-Authorization: Basic" in request
    assert b"Content-Length" not in request


async def test_a_reply_that_is_too_large_ends_its_connection(session: aiohttp.ClientSession) -> None:
    """One byte more than is read; what comes before the reply is passed over."""

    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n" + answer(b" " * (LARGEST_REPLY + 1)))
        await peer.fate()

    async with serving(handler) as far:
        assert session.connector is not None
        reply = await PooledWire(session, session.connector).send(new_exchange(), order(far.url))

    assert reply == NoReply("answer too large", may_have_left=True)


async def test_the_end_of_a_proxys_wait_is_a_connect_time_out(session: aiohttp.ClientSession) -> None:
    """What aiohttp raises there is a bare time-out."""

    class Slow(ProbeConnector):
        async def _create_connection(self, *_: Any) -> Any:
            raise TimeoutError

    pool = Slow()
    with pytest.raises(aiohttp.ConnectionTimeoutError):
        await PooledWire(session, pool).send(new_exchange(), order("http://made-up.invalid"))
    await pool.close()


# ── the time of an exchange ──────────────────────────────────────────────────────────────────────────────────────────


async def test_an_exchange_whose_time_is_up_writes_nothing() -> None:
    """The process stood still; and once written, nothing is written again."""
    written: list[bytes] = []
    transport = SimpleNamespace(
        get_extra_info=lambda _name: None, is_closing=lambda: False, write=written.append, abort=lambda: None
    )
    exchange = new_exchange()
    exchange.write(0.0)
    exchange.attach(SimpleNamespace(protocol=_Protocol(transport, []), close=lambda: None))  # type: ignore[arg-type]
    assert exchange.is_attached
    exchange.prepare(b"x")
    exchange.due = 1.0
    exchange.write(1.0)
    assert not exchange.has_left
    exchange.write(0.5)
    exchange.write(0.5)
    exchange.reset()
    exchange.reset()

    has_left: bool = exchange.has_left
    assert has_left
    assert written == [b"x"]


async def test_what_answers_before_everything_was_read_is_reset() -> None:
    """Bytes that still wait to leave never do."""
    results: list[str] = []
    transport = SimpleNamespace(
        get_extra_info=lambda _name: None, get_write_buffer_size=lambda: 7, abort=lambda: results.append("aborted")
    )
    exchange = new_exchange()
    connection = SimpleNamespace(protocol=_Protocol(transport, []), close=lambda: results.append("closed"))
    exchange.attach(connection)  # type: ignore[arg-type]
    exchange.release()

    assert results == ["aborted", "closed"]


async def test_an_exchange_that_is_late_cancels_its_task_and_no_more() -> None:
    """Its own cancellation is undone; that of another stays."""

    async def late(*, is_cancelled: bool) -> tuple[bool, int]:
        task = asyncio.current_task()
        assert task is not None
        exchange = Exchange(task)
        exchange.time_is_up()
        if is_cancelled:
            task.cancel()
        try:
            await asyncio.sleep(0)
        except asyncio.CancelledError:
            seen = exchange.is_cancelled
            exchange.finish()
            return seen, task.cancelling()
        raise AssertionError

    new_exchange().finish()
    assert await asyncio.ensure_future(late(is_cancelled=False)) == (False, 0)
    assert await asyncio.ensure_future(late(is_cancelled=True)) == (True, 1)


async def test_over_tls_a_request_is_the_same(session: aiohttp.ClientSession) -> None:
    """Twice on one connection."""
    authority = trustme.CA()
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    async with serving(repeating, server) as far:
        pool = aiohttp.TCPConnector(ssl=client)
        wire = PooledWire(session, pool)
        for _ in range(2):
            assert isinstance(await wire.send(new_exchange(), order(f"{far.url}/x")), Reply)
        await pool.close()

    assert [request.split(b"\r\n")[0] for request in far.requests] == [b"POST /x HTTP/1.1"] * 2
    assert far.connections == 1


async def test_an_error_while_a_connection_is_aborted_hides_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """What is known of the request is reported, and the log has the error."""

    class Broken:
        def get_extra_info(self, _: str) -> None:
            return None

        def abort(self) -> None:
            raise RuntimeError("Event loop is closed")

    exchange = Exchange(asyncio.current_task())  # type: ignore[arg-type]
    exchange._transport = Broken()  # type: ignore[assignment]
    exchange.reset()
    assert "could not be aborted" in caplog.text
