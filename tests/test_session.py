"""The session at real sockets: whatever the network does comes out as a value that does not lie about what may have left."""

import asyncio
import contextlib
import gzip
import logging
import socket
import ssl
import subprocess
import threading
import time
import tracemalloc
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import aiohttp
import pytest
import uvloop
from aioresponses import aioresponses
from hypothesis import given, settings
from hypothesis import strategies as st

from alphapo_async.core.errors import ConfigurationError
from alphapo_async.core.rate_limit import Priority
from alphapo_async.core.replies import INTERNAL_ERROR, NoReply, NotSent, Reply, has_never_left
from alphapo_async.core.retry_policy import RetryPolicy
from alphapo_async.engine.limiter import RequestLimiter
from alphapo_async.session import LARGEST_REPLY, SessionManager, Slots, _no_reply
from alphapo_async.supervisor import Supervisor
from alphapo_async.wire import Exchange, probe
from tests.support.servers import Handler, Peer, answer, relay, serving

BODY = b'{"amount":0.0015}'
SIGNED = {"Content-Type": "application/json", "X-Processing-Key": "made-up", "X-Processing-Signature": "0f"}
METHODS = ["GET", "POST"]
_PROBES: dict[str, Callable[[aiohttp.ClientSession], str | None]] = {"pool": probe, "public": lambda _: "made up"}
both_paths = pytest.mark.parametrize("path", _PROBES, indirect=True)
"""The test holds on connections of the pool, and through aiohttp's public interface."""


@pytest.fixture(autouse=True)
def path(request: pytest.FixtureRequest) -> Iterator[str]:
    """Choose how requests leave: on connections of the pool, unless the test says otherwise."""
    chosen = getattr(request, "param", "pool")
    token = _path.set(chosen)
    yield chosen
    _path.reset(token)


_path: ContextVar[str] = ContextVar("_path", default="pool")


async def send(session: SessionManager, url: str, method: str = "POST", *, timeout: float = 3.0) -> Reply | NoReply:
    """Send one signed request."""
    return await session.exchange(method, url, body=BODY, headers=SIGNED, timeout=timeout)


@contextlib.asynccontextmanager
async def opened(**settings: Any) -> AsyncIterator[SessionManager]:
    """Open a session manager, and see afterwards that it left no task and no complaint behind."""
    loop = asyncio.get_running_loop()
    complaints: list[dict[str, Any]] = []
    loop.set_exception_handler(lambda _, context: complaints.append(context))
    before = asyncio.all_tasks()
    session = SessionManager(**settings, _probe=_PROBES[_path.get()])
    try:
        yield session
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert [task for task in asyncio.all_tasks() - before if _is_the_clients(task)] == []
        assert connections_in_use(session) == 0
        assert session.slots.free == session.max_connections
    finally:
        await session.aclose()
    assert complaints == []


def _is_the_clients(task: asyncio.Task[Any]) -> bool:
    code = getattr(task.get_coro(), "cr_code", None)
    return code is not None and ("aiohttp" in code.co_filename or "alphapo_async" in code.co_filename)


def connections_in_use(session: SessionManager) -> int:
    """Return how many connections are with a request."""
    pool = None if session._pool is None else session._pool.connector
    return 0 if pool is None else len(pool._acquired)


def answering(*replies: bytes) -> Handler:
    """Return a server that gives these replies on every connection, one a request, the last one for ever."""

    async def handler(peer: Peer) -> None:
        number = 0
        while True:
            await peer.request()
            await peer.send(replies[min(number, len(replies) - 1)])
            number += 1

    return handler


def ending(*told: bytes, end: str = "close", pause: float = 0.0) -> Handler:
    """Return a server that reads a request, sends something and ends the connection, or does not end it at all."""

    async def handler(peer: Peer) -> None:
        await peer.request()
        for one in told:
            await peer.send(one)
            await asyncio.sleep(pause)
        if end == "reset":
            peer.reset()
        elif end == "hang":
            await peer.fate()

    return handler


def head(*headers: str, status: str = "200 OK") -> bytes:
    """Return the head of a reply."""
    return "\r\n".join([f"HTTP/1.1 {status}", "Content-Type: application/json", *headers, "", ""]).encode()


# ── certificates ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], tuple[Path, Path]]:
    """Make certificates, each its own authority: certificate and key for a name."""
    folder = tmp_path_factory.mktemp("certificates")

    def make(name: str) -> tuple[Path, Path]:
        crt, key = folder / f"{len(name)}.crt", folder / f"{len(name)}.key"
        kind = [
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-days",
            "2",
            "-subj",
            "/CN=made-up",
        ]
        command = ["openssl", "req", "-x509", *kind]
        extensions = ["-addext", f"subjectAltName={name}", "-addext", "keyUsage=critical,digitalSignature,keyCertSign"]
        subprocess.run([*command, *extensions, "-keyout", str(key), "-out", str(crt)], check=True, capture_output=True)
        return crt, key

    return make


def server_side(crt: Path, key: Path) -> ssl.SSLContext:
    """Return the server's context."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(crt, key)
    return context


@pytest.fixture(scope="module")
def tls(certificate: Callable[[str], tuple[Path, Path]]) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the contexts of a server on 127.0.0.1 and of a client that trusts it."""
    crt, key = certificate("IP:127.0.0.1")
    return server_side(crt, key), ssl.create_default_context(cafile=str(crt))


# ── a whole reply ────────────────────────────────────────────────────────────────────────────────────────────────────


@both_paths
async def test_the_exact_bytes_are_sent_and_the_whole_reply_comes_back(path: str) -> None:
    """Path, body and headers leave as given, on a GET as well; status, body and the three headers come back."""
    reply = answer(
        b'{"data":1}',
        "Retry-After: 7",
        "Date: Tue, 01 Jan 2030 00:00:00 GMT",
        status="201 Created",
        kind="Application/JSON; Charset=UTF-8",
    )
    async with serving(answering(reply)) as far, opened() as session:
        for method in METHODS:
            result = await send(session, f"{far.url}/api/v2/x?y=1", method)
            assert result == Reply(
                201, b'{"data":1}', "application/json; charset=utf-8", "7", "Tue, 01 Jan 2030 00:00:00 GMT"
            )
    for method, request in zip(METHODS, far.requests, strict=True):
        lines = request.split(b"\r\n")
        assert lines[0] == f"{method} /api/v2/x?y=1 HTTP/1.1".encode()
        assert lines[-1] == BODY
        assert {b"X-Processing-Key: made-up", b"X-Processing-Signature: 0f", b"Accept-Encoding: identity"} < set(lines)
        assert {b"Accept: application/json", b"User-Agent: alphapo-async"} < set(lines)
    assert far.connections == (1 if path == "pool" else 2)


@both_paths
async def test_a_reply_without_headers_or_body_is_a_reply() -> None:
    """What is missing is empty or None."""
    async with serving(answering(b"HTTP/1.1 204 No Content\r\n\r\n")) as far, opened() as session:
        result = await session.exchange("GET", far.url, body=None, headers={}, timeout=3)

    assert result == Reply(204)


@both_paths
@pytest.mark.parametrize("first", ["100 Continue", "102 Processing", "103 Early Hints"])
async def test_what_comes_before_the_reply_is_not_the_reply(first: str) -> None:
    """The server says that it is at it; what it answers comes after that."""
    result = f"HTTP/1.1 {first}\r\n\r\n".encode(), head("Content-Length: 2", status="201 Created") + b"{}"
    async with serving(ending(*result, pause=0.01)) as far, opened() as session:
        reply = await send(session, far.url)

    assert reply == Reply(201, b"{}", "application/json")


async def test_another_protocol_is_a_reply_that_says_nothing() -> None:
    """After "101 Switching Protocols" no other reply comes; it is told as it came, and at once."""
    switching = head("Connection: upgrade", "Upgrade: h2c", status="101 Switching Protocols")
    async with serving(ending(switching, end="hang")) as far, opened() as session:
        reply = await send(session, far.url)

    assert isinstance(reply, Reply)
    assert reply.status == 101


async def test_a_reply_that_ends_with_the_connection_is_whole() -> None:
    """Without a length the end of the connection is the end of the reply."""
    async with serving(ending(b'HTTP/1.1 200 OK\r\n\r\n{"a"', b":1}")) as far, opened() as session:
        result = await send(session, far.url)

    assert result == Reply(200, b'{"a":1}')


@both_paths
async def test_cookies_are_not_kept() -> None:
    """One exchange leaves nothing that the next one would send."""
    async with serving(answering(answer(b"{}", "Set-Cookie: session=1; Path=/"))) as far, opened() as session:
        await send(session, far.url)
        await send(session, far.url)

    assert len(far.requests) == 2
    assert b"cookie" not in far.requests[1].lower()


@both_paths
@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("method", METHODS)
async def test_redirects_are_never_followed(status: int, method: str) -> None:
    """A redirect is the reply, and no signed body goes where it points."""
    async with serving(answering(answer())) as elsewhere:
        reply = answer(b"", f"Location: {elsewhere.url}/", status=f"{status} Moved")
        async with serving(answering(reply)) as far, opened() as session:
            result = await send(session, far.url, method)

    assert isinstance(result, Reply)
    assert result.status == status
    assert (len(far.requests), elsewhere.connections) == (1, 0)


@pytest.mark.parametrize(("status", "payload"), [(201, {"data": {"id": 7}}), (429, {"error": "slow down"})])
async def test_scripted_replies_come_through_as_they_are(status: int, payload: dict[str, Any]) -> None:
    """Users who test with aioresponses see the same replies as from a socket."""

    class Response(aiohttp.ClientResponse):
        def __init__(self, *args: Any, **result: Any) -> None:
            super().__init__(*args, stream_writer=SimpleNamespace(output_size=0), **result)  # type: ignore[arg-type]

    session = SessionManager()
    with aioresponses() as scripted:
        scripted.post(
            "http://127.0.0.1:9/x",
            status=status,
            payload=payload,
            headers={"Retry-After": "3"},
            response_class=Response,
        )
        result = await send(session, "http://127.0.0.1:9/x")
    await session.aclose()

    assert isinstance(result, Reply)
    assert (result.status, result.content_type, result.retry_after) == (status, "application/json", "3")
    assert result.body.startswith(b"{")


async def test_a_scripted_failure_to_connect_left_nothing() -> None:
    """It says by its kind that there was no connection."""
    session = SessionManager()
    with aioresponses() as scripted:
        scripted.post("http://127.0.0.1:9/x", exception=aiohttp.ConnectionTimeoutError())
        result = await send(session, "http://127.0.0.1:9/x")
    await session.aclose()

    assert result == NoReply("no connection: connect time-out", may_have_left=False)


async def test_a_scripted_time_out_is_no_reply() -> None:
    """A time-out that comes from nowhere may have had a connection."""
    session = SessionManager()
    with aioresponses() as scripted:
        scripted.post("http://127.0.0.1:9/x", timeout=True)
        result = await send(session, "http://127.0.0.1:9/x")
    await session.aclose()

    assert result == NoReply("no answer in time", may_have_left=True)


# ── something may have left ──────────────────────────────────────────────────────────────────────────────────────────

HANDED_OVER: list[Any] = [
    pytest.param(ending(end="reset"), "connection lost", id="reset"),
    pytest.param(ending(), "connection closed without an answer", id="closed"),
    pytest.param(ending(end="hang"), "no answer in time", id="silent"),
    pytest.param(ending(b"HTTP/1.1 200"), "connection closed without an answer", id="cut in the status line"),
    pytest.param(ending(b"HTTP/1.1 200 OK\r\nConte"), "connection closed without an answer", id="cut in the headers"),
    pytest.param(ending(head("Content-Length: 99"), b"{"), "answer cut short", id="cut body"),
    pytest.param(
        ending(head("Content-Length: 99"), b"{", end="reset", pause=0.05), "answer cut short", id="reset body"
    ),
    pytest.param(ending(head("Transfer-Encoding: chunked"), b"9\r\n{"), "answer cut short", id="cut chunk"),
    pytest.param(ending(head("Transfer-Encoding: chunked"), b"1\r\n{\r\n"), "answer cut short", id="no last chunk"),
    pytest.param(ending(head("Transfer-Encoding: chunked"), b"x\r\n{"), None, id="bad chunk"),
    pytest.param(ending(head("Content-Length: 9"), b"{", end="hang"), "no answer in time", id="stalled body"),
    pytest.param(
        ending(head("Content-Length: 999"), *[b" "] * 40, pause=0.02), "no answer in time", id="dribbled body"
    ),
    pytest.param(ending(b"H", *[b"T"] * 40, pause=0.02), None, id="dribbled head"),
    pytest.param(ending(head(), *[b" "] * 40, pause=0.02), "no answer in time", id="dribbled without length"),
    pytest.param(ending(b"SSH-2.0-OpenSSH_9\r\n\r\n", end="hang"), None, id="no HTTP"),
    pytest.param(ending(head(f"X: {'y' * 70_000}"), end="hang"), None, id="endless header"),
    pytest.param(ending(head("Content-Length: -1"), b"{}", end="hang"), None, id="impossible length"),
    pytest.param(ending(head("Content-Encoding: gzip", "Content-Length: 2"), b"{}", end="hang"), None, id="not gzip"),
    pytest.param(
        ending(head("Content-Encoding: gzip", "Content-Length: 15"), gzip.compress(b"{" * 99)[:15], end="hang"),
        None,
        id="cut gzip",
    ),
    pytest.param(
        ending(head("Content-Encoding: br", "Content-Length: 2"), b"{}", end="hang"), None, id="unknown coding"
    ),
    pytest.param(ending(*[b"HTTP/1.1 100 Continue\r\n\r\n"] * 40, pause=0.02), "no answer in time", id="only 100s"),
]


@pytest.mark.parametrize(("handler", "reason"), HANDED_OVER)
def test_on_uvloop_it_is_the_same(handler: Handler, reason: str | None) -> None:
    """Its transports and sockets raise other things where they are gone; whoever asked gets a value all the same."""

    async def story() -> Reply | NoReply:
        async with serving(handler) as far, opened() as session:
            return await send(session, far.url, timeout=0.4)

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        outcome = runner.run(story())

    if isinstance(outcome, NoReply):
        assert outcome.may_have_left
    assert reason in (None, getattr(outcome, "reason", ""))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(("handler", "reason"), HANDED_OVER)
async def test_once_a_connection_was_handed_over_something_may_have_left(
    handler: Handler, reason: str | None, method: str
) -> None:
    """However the exchange fails from then on: the server saw exactly one request, and no reply says "never left"."""
    async with serving(handler) as far, opened() as session:
        began = time.monotonic()
        result = await send(session, far.url, method, timeout=0.4)
        lasted = time.monotonic() - began

    if isinstance(result, NoReply):
        assert result.may_have_left
        # A repetition refused on a GET hides what came before it.
        assert reason is None or result.reason in (reason, "connection lost" if method == "GET" else reason)
    else:
        assert reason is None, result
        assert result.status == 200
    assert len(far.requests) == 1
    assert lasted < 1.5


@both_paths
@pytest.mark.parametrize("method", METHODS)
async def test_a_server_that_hangs_up_on_accepting_may_have_read_something(method: str) -> None:
    """The connection stood, so nobody can say."""

    async def handler(peer: Peer) -> None:
        peer.reset()

    async with serving(handler) as far, opened() as session:
        result = await send(session, far.url, method)

    assert isinstance(result, NoReply)
    assert result.may_have_left


def drops_the_second(end: str, *, stops: bool = False) -> Handler:
    """Return a server that answers the first request, and on the second one drops the connection."""

    async def handler(peer: Peer) -> None:
        await peer.request()
        if len(peer.far.requests) > 1:
            await peer.send(answer(b"repeated"))
            return
        await peer.send(answer())
        await peer.request()
        if stops:
            peer.far.stop_listening()
        if end == "reset":
            peer.reset()

    return handler


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("stops", [False, True])
async def test_a_dropped_keep_alive_connection_is_doubt_and_no_request_is_repeated(
    method: str, end: str, *, stops: bool
) -> None:
    """The HTTP library would repeat a GET by itself: the server counts one request an exchange.

    Not even when that repetition would meet a closed port does the exchange say that nothing left.
    """
    async with serving(drops_the_second(end, stops=stops)) as far, opened() as session:
        first = await send(session, far.url, method)
        second = await send(session, far.url, method)

    assert isinstance(first, Reply)
    assert isinstance(second, NoReply)
    assert second.may_have_left
    assert len(far.requests) == 2


# ── what was not asked for is no answer ──────────────────────────────────────────────────────────────────────────────

UNASKED = answer(b'{"errors":{"amount":"old"}}', status="429 Too Many Requests")


def answers_twice(pause: float) -> Handler:
    """Return a server whose first reply is followed by another one that nobody asked for."""

    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer(b"1") + (b"" if pause else UNASKED))
        if len(peer.far.requests) == 1 and pause:
            await asyncio.sleep(pause)
            await peer.send(UNASKED)
        await peer.request()
        await peer.send(answer(b"same connection"))

    return handler


@pytest.mark.parametrize("end", [b"", b"HTTP/1.1 4"])
async def test_a_reply_that_nobody_asked_for_is_never_taken_for_the_answer(end: bytes) -> None:
    """An old 429 on an idle connection would say "not sent" of the next body: that leaves on a fresh connection."""

    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer())
        await asyncio.sleep(0.05)
        await peer.send(end or UNASKED)
        await peer.request()

    async def fresh(peer: Peer) -> None:
        await (handler if far.connections == 1 else answering(answer(b"fresh")))(peer)

    async with serving(fresh) as far, opened() as session:
        assert isinstance(await send(session, far.url), Reply)
        await asyncio.sleep(0.15)
        result = await send(session, far.url, timeout=0.3)

    if end:  # half a reply is nothing that the library shows us; what follows it must not complete it
        assert isinstance(result, NoReply)
        assert result.may_have_left
    else:
        assert isinstance(result, Reply)
        assert (result.body, len(far.requests), far.connections) == (b"fresh", 2, 2)


@both_paths
@pytest.mark.parametrize("is_tls", [False, True])
async def test_a_reply_that_nobody_asked_for_is_seen_before_it_is_read(
    tls: tuple[ssl.SSLContext, ssl.SSLContext], *, is_tls: bool
) -> None:
    """It lies in the socket and the loop had no time to read it: the body leaves on a fresh connection, once."""
    server, client = tls if is_tls else (None, None)
    peers: list[Peer] = []

    async def handler(peer: Peer) -> None:
        peers.append(peer)
        while True:
            await peer.request()
            await peer.send(answer())

    async with serving(handler, server) as far, opened(ssl=client) as session:
        assert isinstance(await send(session, far.url), Reply)
        peers[0].writer.write(UNASKED)
        result = await send(session, far.url)

    assert isinstance(result, Reply)
    assert result.status == 200

    assert (len(far.requests), far.connections) == (2, 2)


@pytest.mark.parametrize("is_tls", [False, True])
async def test_a_reply_that_comes_in_the_moment_before_the_request_leaves_is_not_the_answer(
    tls: tuple[ssl.SSLContext, ssl.SSLContext], *, is_tls: bool
) -> None:
    """A request leaves when the loop comes round; what came since it got its connection is seen then, and it takes another one."""
    server, client = tls if is_tls else (None, None)
    peers: list[Peer] = []

    async def handler(peer: Peer) -> None:
        peers.append(peer)
        while True:
            await peer.request()
            await peer.send(answer())

    async with serving(handler, server) as far, opened(ssl=client) as session:
        await send(session, far.url)
        sending = asyncio.ensure_future(send(session, far.url))
        asyncio.get_running_loop().call_soon(peers[0].writer.write, UNASKED)
        result = await sending

    assert isinstance(result, Reply)
    assert result.status == 200

    assert (len(far.requests), far.connections) == (2, 2)


async def test_what_has_not_left_when_its_connection_closes_is_not_sent() -> None:
    """The connection goes down in the same moment: nothing is in doubt."""

    async def handler(peer: Peer) -> None:
        while True:
            await peer.request()
            await peer.send(answer())

    async with serving(handler) as far, opened() as session:
        await send(session, far.url)
        pool = session._opened().connector
        assert isinstance(pool, aiohttp.TCPConnector)
        sending = asyncio.ensure_future(send(session, far.url))
        asyncio.get_running_loop().call_soon(pool._close)
        result = await sending
        assert result == NoReply("no connection", may_have_left=False)
        await asyncio.sleep(0.05)

    assert len(far.requests) == 1


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_what_has_not_left_when_its_time_is_up_never_does(new_loop: Callable[[], asyncio.AbstractEventLoop]) -> None:
    """The process stands still just before the loop comes round: what is late stays here, and is told as not sent."""

    async def story() -> tuple[Reply | NoReply, int]:
        async with serving(answering(answer())) as far, opened() as session:
            await send(session, far.url)
            sending = asyncio.ensure_future(send(session, far.url, timeout=0.2))
            asyncio.get_running_loop().call_soon(time.sleep, 0.3)
            result = await sending
            await asyncio.sleep(0.05)
            return result, len(far.requests)

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(story()) == (NoReply("no connection", may_have_left=False), 1)


@pytest.mark.parametrize("size", [1, 16 * 1024, 16 * 1024 + 1, 300_000])
async def test_a_body_arrives_whole_whatever_its_size(size: int) -> None:
    """A small one leaves with its head, a large one as the connection has room."""

    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer())

    async with serving(handler) as far, opened() as session:
        result = await session.exchange("POST", far.url, body=b"x" * size, headers=SIGNED, timeout=5.0)

    assert isinstance(result, Reply)
    assert [request.partition(b"\r\n\r\n")[2] for request in far.requests] == [b"x" * size]


async def test_a_question_goes_to_a_fresh_connection_instead() -> None:
    """A GET that has not left yet leaves once, on a connection that nobody has spoilt."""
    async with serving(answers_twice(0.05)) as far, opened() as session:
        await send(session, far.url, "GET")
        await asyncio.sleep(0.15)
        result = await send(session, far.url, "GET")

    assert isinstance(result, Reply)
    assert (result.status, result.body) == (200, b"1")
    assert (len(far.requests), far.connections) == (2, 2)


async def test_two_replies_at_once_are_one() -> None:
    """The second one is dropped with its connection."""
    async with serving(answers_twice(0)) as far, opened() as session:
        results = [await send(session, far.url) for _ in range(2)]

    assert [isinstance(one, Reply) and one.body for one in results] == [b"1", b"1"]
    assert far.connections == 2


async def test_a_connection_that_was_closed_while_idle_is_not_used() -> None:
    """The server hung up between two exchanges: the second one leaves on a fresh connection and is answered."""
    async with serving(ending(answer())) as far, opened() as session:
        assert isinstance(await send(session, far.url), Reply)
        await asyncio.sleep(0.05)
        assert isinstance(await send(session, far.url), Reply)

    assert (len(far.requests), far.connections) == (2, 2)


# ── nothing has left ─────────────────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def closed_port() -> Iterator[int]:
    """Give a port on which nobody listens, and which nobody else gets meanwhile."""
    with socket.socket() as held:
        held.bind(("127.0.0.1", 0))
        yield held.getsockname()[1]


@both_paths
@pytest.mark.parametrize("method", METHODS)
async def test_a_refused_connection_left_nothing(method: str) -> None:
    """Nobody listens."""
    with closed_port() as port:
        async with opened() as session:
            result = await send(session, f"http://127.0.0.1:{port}", method)

    assert result == NoReply("no connection", may_have_left=False)


@both_paths
@pytest.mark.parametrize("method", METHODS)
async def test_a_name_that_is_not_found_left_nothing(method: str) -> None:
    """The name ends in .invalid, which never exists."""
    async with opened() as session:
        result = await send(session, "https://nowhere.invalid", method)

    assert result == NoReply("no connection: name not found", may_have_left=False)


@contextlib.contextmanager
def full_backlog() -> Iterator[int]:
    """Give a port that listens, and whose queue of connections is full."""
    with contextlib.ExitStack() as stack:
        listening = stack.enter_context(socket.socket())
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for _ in range(8):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield listening.getsockname()[1]


@both_paths
@pytest.mark.parametrize(("connect_timeout", "timeout"), [(0.2, 5.0), (10.0, 0.3)])
async def test_a_connect_time_out_left_nothing(connect_timeout: float, timeout: float) -> None:
    """Nobody takes the connection: told apart from a missing answer, also where the attempt is shorter than connecting."""
    with full_backlog() as port:
        async with opened(connect_timeout=connect_timeout) as session:
            began = time.monotonic()
            result = await send(session, f"http://127.0.0.1:{port}", timeout=timeout)
            lasted = time.monotonic() - began

    assert result == NoReply("no connection: connect time-out", may_have_left=False)
    assert lasted < 1


async def silent(peer: Peer) -> None:
    """Take the connection and say nothing."""
    await peer.fate()


async def plain(peer: Peer) -> None:
    """Speak plain HTTP to a TLS client."""
    await peer.reader.read(100)
    await peer.send(answer(status="400 Bad Request"))


async def hang_up(peer: Peer) -> None:
    """Close at the first bytes."""
    await peer.reader.read(100)


@both_paths
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (silent, "no connection: connect time-out"),
        (plain, "no connection: TLS failed"),
        (hang_up, "no connection"),
    ],
)
async def test_a_handshake_that_does_not_succeed_left_nothing(handler: Handler, reason: str, method: str) -> None:
    """A connection stands, but TLS does not: no byte of the request leaves before it does."""
    async with serving(handler) as far, opened(connect_timeout=0.3) as session:
        result = await send(session, far.url.replace("http", "https"), method)

    assert result == NoReply(reason, may_have_left=False)


@both_paths
async def test_a_certificate_that_is_not_trusted_left_nothing(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """Without the authority the server is a stranger; with it the exchange succeeds."""
    server, client = tls
    async with serving(answering(answer()), server) as far:
        async with opened() as session:
            stranger = await send(session, far.url)
        assert far.requests == []
        async with opened(ssl=client) as session:
            known = await send(session, far.url)

    assert stranger == NoReply("no connection: certificate not trusted", may_have_left=False)
    assert isinstance(known, Reply)


async def test_a_certificate_for_another_host_left_nothing(certificate: Callable[[str], tuple[Path, Path]]) -> None:
    """The authority is trusted, the name is another's."""
    crt, key = certificate("DNS:another.example")
    client = ssl.create_default_context(cafile=str(crt))
    async with serving(answering(answer()), server_side(crt, key)) as far, opened(ssl=client) as session:
        result = await send(session, far.url)

    assert result == NoReply("no connection: certificate not trusted", may_have_left=False)
    assert far.requests == []


@both_paths
async def test_a_tls_connection_reset_after_the_handshake_is_doubt(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """The handshake was the server's last friendly act: the request may have been read."""
    server, client = tls

    async def handler(peer: Peer) -> None:
        peer.reset()

    async with serving(handler, server) as far, opened(ssl=client) as session:
        result = await send(session, far.url)

    assert isinstance(result, NoReply)
    assert result.may_have_left


@both_paths
async def test_an_address_that_is_none_left_nothing() -> None:
    """Without a host there is no connection."""
    async with opened() as session:
        result = await send(session, "http://")

    assert result == NoReply("no connection", may_have_left=False)


async def test_a_programming_error_is_no_outcome_of_the_network(caplog: pytest.LogCaptureFixture) -> None:
    """Before the request leaves nothing is in doubt; the log shows where, and not the text, which may hold anything."""
    async with serving(answering(answer())) as far, opened() as session:
        result = await session.exchange("POST", far.url, body=b"{}", headers={"X": "hush\r\nb: c"}, timeout=5.0)

    assert result == NoReply(INTERNAL_ERROR, may_have_left=False)
    assert far.requests == []
    (record,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert "ValueError" in record.message
    assert "wire.py" in record.message
    assert "hush" not in caplog.text


async def test_a_programming_error_behind_a_stand_in_is_doubt() -> None:
    """Where something answers in place of aiohttp, nothing shows whether a connection was handed over."""
    session = SessionManager()
    with aioresponses() as scripted:
        scripted.post("http://127.0.0.1:9/x", exception=TypeError("made up"))
        result = await send(session, "http://127.0.0.1:9/x")
    await session.aclose()

    assert result == NoReply(INTERNAL_ERROR, may_have_left=True)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("no answer is scripted", "TypeError: no answer is scripted"),
        ("POST with hush", "TypeError: its text repeats the request"),
        ('POST {"amount": 1}', "TypeError: its text repeats the request"),
    ],
)
async def test_the_log_shows_why_a_stand_in_failed(text: str, shown: str, caplog: pytest.LogCaptureFixture) -> None:
    """At DEBUG, and without the signature and the body that the text may repeat."""
    session = SessionManager()
    headers = {"X-Processing-Signature": "hush", "Content-Type": "application/json"}
    with aioresponses() as scripted, caplog.at_level(logging.DEBUG, "alphapo_async"):
        scripted.post("http://127.0.0.1:9/x", exception=TypeError(text))
        await session.exchange("POST", "http://127.0.0.1:9/x", body=b'{"amount": 1}', headers=headers, timeout=5.0)
    await session.aclose()

    assert f"a stand-in for aiohttp's request failed: {shown}" in caplog.messages
    assert ("hush" in caplog.text, "amount" in caplog.text) == (False, False)


@pytest.mark.parametrize("error", [aiohttp.ClientConnectionError("made up"), aiohttp.ServerDisconnectedError()])
async def test_an_unknown_error_of_a_stand_in_is_doubt(error: Exception) -> None:
    """Only an error that names connecting says that nothing left."""
    session = SessionManager()
    with aioresponses() as scripted:
        scripted.post("http://127.0.0.1:9/x", exception=error)
        result = await send(session, "http://127.0.0.1:9/x")
    await session.aclose()

    assert isinstance(result, NoReply)
    assert result.may_have_left


# ── through aiohttp's public interface ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", ["public"], indirect=True)
async def test_the_public_path_is_reported_once(caplog: pytest.LogCaptureFixture) -> None:
    """With the version of aiohttp and the reason, also where the session is opened again."""
    async with serving(answering(answer())) as far, opened() as session:
        for _ in range(2):
            assert isinstance(await send(session, far.url), Reply)
            await session.aclose()

    (warning,) = [record.message for record in caplog.records if record.levelname == "WARNING"]
    assert aiohttp.__version__ in warning
    assert "(made up)" in warning


@pytest.mark.parametrize("path", ["public"], indirect=True)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("end", ["close", "reset"])
async def test_the_public_path_sends_nothing_twice(method: str, end: str) -> None:
    """A GET whose connection ended without a reply would be sent again by aiohttp itself."""
    async with serving(ending(end=end)) as far, opened() as session:
        result = await send(session, far.url, method)

    assert isinstance(result, NoReply)
    assert result.may_have_left
    assert len(far.requests) == 1


@pytest.mark.parametrize("path", ["public"], indirect=True)
async def test_the_public_path_uses_each_connection_once() -> None:
    """An old 429 that lies unread on a connection cannot be seen there: it must not be taken for the answer."""

    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.send(answer(b"1") + UNASKED)
        await peer.fate()

    async with serving(handler) as far, opened() as session:
        results = [await send(session, far.url) for _ in range(2)]

    assert [isinstance(one, Reply) and one.body for one in results] == [b"1", b"1"]
    assert far.connections == 2


CUTS = st.integers(0, len(answer(b'{"data":{"id":7}}')) - 1)


@settings(derandomize=True, max_examples=25, deadline=None)
@given(CUTS, st.sampled_from(["close", "reset"]), st.sampled_from(METHODS))
def test_a_reply_cut_anywhere_is_doubt(at: int, end: str, method: str) -> None:
    """At whatever byte the reply ends: no reply, and something may have left."""

    async def story() -> Reply | NoReply:
        handler = ending(answer(b'{"data":{"id":7}}')[:at], end=end)
        async with serving(handler) as far, opened() as session:
            result = await send(session, far.url, method)
        assert len(far.requests) == 1
        return result

    result = asyncio.run(story())

    assert isinstance(result, NoReply), result
    assert result.may_have_left


# ── size ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


@both_paths
async def test_a_reply_of_one_mebibyte_is_read_and_one_byte_more_is_not() -> None:
    """The cap is exact."""
    for size, is_read in ((LARGEST_REPLY, True), (LARGEST_REPLY + 1, False)):
        async with serving(answering(answer(b" " * size))) as far, opened() as session:
            result = await send(session, far.url)
        if is_read:
            assert isinstance(result, Reply)
            assert len(result.body) == size
        else:
            assert result == NoReply("answer too large", may_have_left=True)


@pytest.mark.parametrize("headers", [("Transfer-Encoding: chunked",), ()])
async def test_an_endless_reply_is_given_up_at_the_cap(headers: tuple[str, ...]) -> None:
    """No length is told and bytes come for ever: reading stops soon after the cap, and the connection is closed."""
    sent = 0

    async def handler(peer: Peer) -> None:
        nonlocal sent
        await peer.request()
        await peer.send(head(*headers))
        while True:
            await peer.send(b"10000\r\n" + b" " * 65_536 + b"\r\n" if headers else b" " * 65_536)
            sent += 65_536

    async with serving(handler) as far, opened() as session:
        result = await send(session, far.url)
        await asyncio.sleep(0.05)

    assert result == NoReply("answer too large", may_have_left=True)
    assert sent < 16 * LARGEST_REPLY


async def test_a_reply_that_is_packed_against_our_wish_is_read() -> None:
    """We ask for none of it; a rude server's gzip is unpacked all the same."""
    packed = answer(gzip.compress(b'{"data":{"id":7}}'), "Content-Encoding: gzip")
    async with serving(answering(packed)) as far, opened() as session:
        result = await send(session, far.url)

    assert isinstance(result, Reply)
    assert result.body == b'{"data":{"id":7}}'


@both_paths
async def test_a_packed_bomb_does_not_go_off() -> None:
    """256 MiB of blanks in 256 KiB: no reply, and never much more than the cap in memory."""
    bomb = answer(gzip.compress(bytes(1024 * 1024), 9) * 256, "Content-Encoding: gzip")
    async with serving(answering(bomb)) as far, opened() as session:
        await send(session, far.url, timeout=0.2)
        tracemalloc.start()
        try:
            result = await send(session, far.url)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()

    assert result == NoReply("answer too large", may_have_left=True)
    assert peak < 16 * LARGEST_REPLY


# ── cancelling ───────────────────────────────────────────────────────────────────────────────────────────────────────


def chain(error: BaseException) -> list[BaseException]:
    """Return everything that an exception leads to."""
    found: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is not None and one not in found:
            found.append(one)
            waiting += [one.__cause__, one.__context__]
    return found


class Fates:
    """A server that reads a request, writes down how the client ends the connection, and answers what it is told to."""

    def __init__(self, *told: bytes, reads: bool = True) -> None:
        self.told = told
        self.reads = reads
        self.fate: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.arrived = asyncio.Event()
        self.go_on = asyncio.Event()

    async def __call__(self, peer: Peer) -> None:
        if self.reads:
            await peer.request()
        for one in self.told:
            await peer.send(one)
        self.arrived.set()
        if not self.reads:
            peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
            await self.go_on.wait()
            peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
        self.fate.set_result(await peer.fate())


@pytest.mark.parametrize("expected", [(), (head("Content-Length: 99"), b"{")])
async def test_a_cancelled_exchange_resets_its_connection(expected: tuple[bytes, ...]) -> None:
    """The server sees a reset, and no exception of the HTTP library clings to the cancellation."""
    fates = Fates(*expected)
    async with serving(fates) as far, opened() as session:
        task = asyncio.ensure_future(send(session, far.url))
        await fates.arrived.wait()
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
        assert await asyncio.wait_for(fates.fate, 2) == "reset"
    assert not [one for one in chain(caught.value) if isinstance(one, aiohttp.ClientError)]


async def test_a_cancelled_exchange_resets_its_tls_connection(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """Seen on the wire below TLS: a reset, not a polite goodbye alone."""
    server, client = tls
    fates = Fates()
    below: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async with serving(fates, server) as far, opened(ssl=client) as session:

        async def between(peer: Peer) -> None:
            below.set_result(await relay(peer, far.port))

        async with serving(between) as near:
            task = asyncio.ensure_future(send(session, near.url.replace("http", "https")))
            await fates.arrived.wait()
            await asyncio.sleep(0.02)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert await asyncio.wait_for(below, 2) == "reset"


async def test_a_failed_exchange_resets_its_connection() -> None:
    """After a time-out too, nothing that is still unsent can arrive later."""
    fates = Fates()
    async with serving(fates) as far, opened() as session:
        result = await send(session, far.url, timeout=0.1)
        assert await asyncio.wait_for(fates.fate, 2) == "reset"

    assert result == NoReply("no answer in time", may_have_left=True)


async def test_an_unreadable_answer_over_tls_is_a_value_and_ends_its_connection(
    tls: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    """A TLS transport that was closed twice knows its connection no more: nothing is raised, and nothing stays open."""
    server, client = tls
    fates = Fates(head("Transfer-Encoding: chunked") + b"x\r\n{")
    below: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    async with serving(fates, server) as far, opened(ssl=client) as session:

        async def between(peer: Peer) -> None:
            below.set_result(await relay(peer, far.port))

        async with serving(between) as near:
            result = await send(session, near.url.replace("http", "https"))
            await asyncio.wait_for(below, 2)

    assert isinstance(result, NoReply)
    assert result.may_have_left


@both_paths
@pytest.mark.filterwarnings("ignore:Sending a large body")
@pytest.mark.parametrize("way", ["cancel", "time-out"])
async def test_bytes_that_had_not_left_yet_never_arrive(way: str) -> None:
    """A body larger than all buffers, to a server that does not read: what lingers here is dropped with the connection."""
    fates = Fates(reads=False)
    body = bytes(64 * 1024 * 1024)
    async with serving(fates) as far, opened() as session:
        task = asyncio.ensure_future(
            session.exchange("POST", far.url, body=body, headers=SIGNED, timeout=2.0 if way == "time-out" else 9.0)
        )
        await fates.arrived.wait()
        await asyncio.sleep(0.1)
        if way == "cancel":
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            assert await task == NoReply("no answer in time", may_have_left=True)
        fates.go_on.set()
        assert await asyncio.wait_for(fates.fate, 2) == "reset"


@both_paths
@pytest.mark.parametrize("has_connection", [False, True])
async def test_a_cancellation_says_whether_anything_may_have_left(*, has_connection: bool) -> None:
    """Cut off while it connects, nothing of the request has left."""
    fates = Fates()
    with full_backlog() as port:
        async with serving(fates) as far, opened() as session:
            url = far.url if has_connection else f"http://127.0.0.1:{port}"
            task = asyncio.ensure_future(send(session, url))
            await (fates.arrived.wait() if has_connection else asyncio.sleep(0.05))
            task.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                await task

    assert has_never_left(caught.value) is not has_connection


@both_paths
async def test_cancelled_before_a_connection_stands_nothing_is_left_behind() -> None:
    """While connecting: the cancellation comes through and neither connection nor task remains."""
    with full_backlog() as port:
        async with opened() as session:
            task = asyncio.ensure_future(send(session, f"http://127.0.0.1:{port}"))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


@both_paths
async def test_a_callers_time_out_is_a_cancellation() -> None:
    """`asyncio.timeout` around an exchange works as everywhere: it is not mistaken for the attempt's own."""
    async with serving(ending(end="hang")) as far, opened() as session:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await send(session, far.url)


@both_paths
async def test_a_time_out_in_the_cleanup_of_a_cancelled_task_is_no_second_cancellation() -> None:
    """The cleanup continues: the task was cancelled before the exchange, and not during it."""
    results: list[Reply | NoReply] = []

    async def work(session: SessionManager, url: str) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            results.append(await send(session, url, timeout=0.1))

    async with serving(ending(end="hang")) as far, opened() as session:
        task = asyncio.ensure_future(work(session, far.url))
        await asyncio.sleep(0)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    assert results == [NoReply("no answer in time", may_have_left=True)]
    assert task.cancelled()


@both_paths
async def test_a_failed_exchange_clings_to_nothing() -> None:
    """What is raised after it has no exception of the HTTP library as cause or context."""
    with closed_port() as port:
        async with opened() as session:
            result = await send(session, f"http://127.0.0.1:{port}")
            with pytest.raises(RuntimeError) as caught:
                raise RuntimeError(result)

    assert chain(caught.value) == [caught.value]
    assert not [value for value in (result.reason, result.may_have_left) if isinstance(value, BaseException)]  # type: ignore[union-attr]


# ── slots and time ───────────────────────────────────────────────────────────────────────────────────────────────────


async def test_queueing_for_a_slot_spends_no_attempt() -> None:
    """Five requests over one connection, each answered well within its time, all together far beyond it."""

    async def handler(peer: Peer) -> None:
        while True:
            await peer.request()
            await asyncio.sleep(0.1)
            await peer.send(answer())

    loop = asyncio.get_running_loop()
    async with serving(handler) as far, opened(max_connections=1) as session:
        gates = [RequestLimiter(session.slots, RetryPolicy(), None, lambda _: None, Supervisor()) for _ in range(2)]

        async def through(limiter: RequestLimiter) -> Reply | NoReply:
            ticket = await limiter.wait_in(limiter.queue(Priority.FIRST, loop))
            assert ticket is not None
            try:
                return await send(session, far.url, timeout=0.3)
            finally:
                limiter.release(ticket, NotSent("no connection"))

        outcomes = await asyncio.gather(*(through(gates[one % 2]) for one in range(5)))

    assert all(isinstance(one, Reply) for one in outcomes)
    assert far.connections == 1


@pytest.mark.parametrize("end", ["reset", "hang", "cancel", "large"])
async def test_a_failed_exchange_frees_its_connection_at_once(end: str) -> None:
    """With a single connection the next exchange does not wait for the last one's remains."""

    async def handler(peer: Peer) -> None:
        await peer.request()
        if len(peer.far.requests) > 1:
            await peer.send(answer())
        elif end == "reset":
            peer.reset()
        elif end == "large":
            await peer.send(answer(bytes(3 * LARGEST_REPLY)))
        await peer.fate()

    async with serving(handler) as far, opened(max_connections=1) as session:
        task = asyncio.ensure_future(send(session, far.url, timeout=0.2 if end == "hang" else 5.0))
        if end == "cancel":
            await asyncio.sleep(0.05)
            task.cancel()
        await asyncio.wait([task])
        began = time.monotonic()
        assert isinstance(await send(session, far.url), Reply)
        assert time.monotonic() - began < 0.1


@both_paths
async def test_many_exchanges_at_once_do_not_mix() -> None:
    """A hundred over ten connections each, some of them failing: each hears its own answer."""

    async def handler(peer: Peer) -> None:
        while True:
            request = await peer.request()
            number = int(request.split(b"/", 1)[1].split(b" ")[0])
            if number % 10 == 3:
                peer.reset()
                return
            await peer.send(answer(str(number).encode()))

    async with serving(handler) as far, opened(max_connections=10) as session:
        limit = asyncio.Semaphore(10)

        async def one(number: int) -> Reply | NoReply:
            async with limit:
                return await send(session, f"{far.url}/{number}")

        outcomes = await asyncio.gather(*(one(number) for number in range(100)))

    for number, reply in enumerate(outcomes):
        if number % 10 == 3:
            assert reply == NoReply("connection lost", may_have_left=True)
        else:
            assert isinstance(reply, Reply)
            assert reply.body == str(number).encode()
    assert len(far.requests) == 100


def test_slots_can_be_limited_while_some_are_taken() -> None:
    """Those that are taken go on, and no other is free until enough have come back."""
    slots = Slots(5)
    for _ in range(3):
        slots.take()
    slots.limit_to(2)
    assert (slots.free, slots.busy, slots.number) == (-1, 3, 2)
    slots.give()
    slots.give()
    assert (slots.free, slots.busy) == (1, 1)
    slots.limit_to(5)
    assert (slots.free, slots.busy) == (4, 1)


async def test_a_process_that_can_open_few_files_sends_few_requests_at_once(caplog: pytest.LogCaptureFixture) -> None:
    """Descriptors are left to the journal, and a warning says what to raise."""
    async with serving(answering(answer())) as far:
        session = SessionManager(max_connections=50, _free_descriptors=lambda: 12)
        assert isinstance(await send(session, far.url), Reply)
        assert repr(session) == "SessionManager(open, 0 of 4 busy)"
        await session.aclose()

    assert "4 requests at once instead of 50: this process can open only 12 more files" in caplog.text


def test_slots_are_counted_and_tell_each_listener_in_turn() -> None:
    """Every listener hears of a free slot, each time another one first, until it no longer listens."""
    slots, heard = Slots(2), []

    def first() -> None:
        heard.append("first")

    def second() -> None:
        heard.append("second")

    slots.listen(first)
    slots.listen(second)
    for _ in range(2):
        slots.take()
    assert slots.free == 0
    for _ in range(2):
        slots.give()
    slots.forget(second)
    slots.take()
    slots.give()

    assert slots.free == 2
    assert heard[:4] in (["first", "second", "second", "first"], ["second", "first", "first", "second"])
    assert heard[4:] == ["first"]


# ── proxies ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@both_paths
async def test_a_proxy_is_used() -> None:
    """It hears the whole URL; the host itself is not spoken to."""
    async with (
        serving(answering(answer(b"from the proxy"))) as proxy,
        serving(answering(answer())) as far,
        opened(proxy=proxy.url) as session,
    ):
        result = await send(session, f"{far.url}/x")

    assert isinstance(result, Reply)
    assert result.body == b"from the proxy"
    assert proxy.requests[0].startswith(f"POST {far.url}/x HTTP/1.1\r\n".encode())
    assert far.connections == 0


@both_paths
@pytest.mark.parametrize("trusts", [True, False])
async def test_a_proxy_from_the_environment_is_used_if_trusted(
    monkeypatch: pytest.MonkeyPatch, *, trusts: bool
) -> None:
    """Only whoever says `trust_env` gets the environment's proxy."""
    async with serving(answering(answer(b"proxy"))) as proxy, serving(answering(answer(b"host"))) as far:
        for name in ("no_proxy", "NO_PROXY", "HTTP_PROXY"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv("http_proxy", proxy.url)
        async with opened(trust_env=trusts) as session:
            result = await send(session, far.url)

    assert isinstance(result, Reply)
    assert result.body == (b"proxy" if trusts else b"host")


@both_paths
@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_is_not_reached_left_nothing(scheme: str) -> None:
    """Nobody listens where the proxy should be."""
    with closed_port() as port:
        async with opened(proxy=f"http://127.0.0.1:{port}") as session:
            result = await send(session, f"{scheme}://127.0.0.1:9")

    assert result == NoReply("no connection: proxy not reached", may_have_left=False)


@both_paths
@pytest.mark.parametrize("status", [403, 407, 502])
@pytest.mark.parametrize("method", METHODS)
async def test_a_proxy_that_refuses_the_tunnel_hears_no_secret(status: int, method: str) -> None:
    """The tunnel is asked for without key, signature or body; refused, nothing has left."""
    async with (
        serving(answering(answer(status=f"{status} No"))) as proxy,
        opened(proxy=proxy.url) as session,
    ):
        result = await send(session, "https://127.0.0.1:9", method)

    assert result == NoReply("no connection: proxy refused", may_have_left=False)
    assert proxy.requests[0].startswith(b"CONNECT 127.0.0.1:9 ")
    assert b"made-up" not in proxy.requests[0]
    assert b"x-processing" not in proxy.requests[0].lower()


@both_paths
@pytest.mark.parametrize("is_reset", [False, True])
@pytest.mark.parametrize(
    "expected",
    [
        b"",
        b"SSH-2.0-made-up\r\n",
        b"HTTP/1.1 2",
        b"HTTP/1.1 200 OK\r\nCont",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nin plain text",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
    ],
)
async def test_a_proxy_that_hangs_up_on_connect_left_nothing(expected: bytes, *, is_reset: bool) -> None:
    """Before the tunnel stands the body is not written, whatever the proxy says and however it ends the connection."""
    async with (
        serving(ending(expected, end="reset" if is_reset else "close")) as proxy,
        opened(proxy=proxy.url) as session,
    ):
        reply = await send(session, "https://127.0.0.1:9")

    assert isinstance(reply, NoReply)
    assert not reply.may_have_left
    assert reply.reason in ("no connection: proxy broke off", "no connection: proxy refused", "no connection")
    assert BODY not in b"".join(proxy.requests)


@both_paths
@pytest.mark.parametrize("is_from_environment", [False, True])
@pytest.mark.parametrize("has_tls", [False, True])
async def test_a_proxy_is_reached_over_tls(
    monkeypatch: pytest.MonkeyPatch,
    tls: tuple[ssl.SSLContext, ssl.SSLContext],
    *,
    has_tls: bool,
    is_from_environment: bool,
) -> None:
    """A proxy whose URL is https:// is used, from the environment, too, for hosts with and without TLS of their own."""
    server, client = tls

    async def tunnel(peer: Peer) -> None:
        target = (await peer.request()).split(b" ")[1].decode().rpartition(":")
        await peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await relay(peer, int(target[2]))

    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    async with (
        serving(answering(answer(b"far")), server if has_tls else None) as far,
        serving(tunnel if has_tls else answering(answer(b"proxy")), server) as proxy,
    ):
        for name in ("https_proxy", "http_proxy"):
            monkeypatch.setenv(name, proxy.url)
        settings: dict[str, Any] = {"trust_env": True} if is_from_environment else {"proxy": proxy.url}
        async with opened(ssl=client, **settings) as session:
            result = await send(session, far.url)

    assert isinstance(result, Reply)
    assert result.body == (b"far" if has_tls else b"proxy")
    assert proxy.connections == 1
    assert proxy.requests[0].startswith(b"CONNECT " if has_tls else b"POST http://")


async def test_time_that_is_up_before_a_connection_was_handed_over_left_nothing() -> None:
    """The whole exchange may end while it still waits for a connection: another request has the only one."""
    fates = Fates()
    async with serving(fates) as far:
        session = SessionManager(max_connections=1, connect_timeout=60.0)
        first = asyncio.ensure_future(send(session, far.url))
        await fates.arrived.wait()
        exchange = asyncio.ensure_future(send(session, far.url, timeout=0.05))
        result = await exchange
        first.cancel()
        await asyncio.gather(first, return_exceptions=True)
        await session.aclose()

    assert isinstance(result, NoReply)
    assert not result.may_have_left


@both_paths
async def test_a_tunnel_without_tls_behind_it_left_nothing() -> None:
    """The proxy opens the tunnel, and nobody answers the handshake in it."""

    async def handler(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await peer.fate()

    async with serving(handler) as proxy, opened(proxy=proxy.url, connect_timeout=0.3) as session:
        result = await send(session, "https://127.0.0.1:9")

    assert result == NoReply("no connection: connect time-out", may_have_left=False)


@both_paths
async def test_a_request_through_a_tunnel_is_doubt_once_it_left(tls: tuple[ssl.SSLContext, ssl.SSLContext]) -> None:
    """Tunnel and handshake succeed, then the connection is lost: the request may have arrived, and once only."""
    server, client = tls

    async def tunnel(peer: Peer) -> None:
        target = (await peer.request()).split(b" ")[1].decode().rpartition(":")
        await peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        await relay(peer, int(target[2]))

    async with (
        serving(ending(), server) as far,
        serving(tunnel) as proxy,
        opened(proxy=proxy.url, ssl=client) as session,
    ):
        result = await send(session, far.url)

    assert isinstance(result, NoReply)
    assert result.may_have_left
    assert len(far.requests) == 1


# ── opening and closing ──────────────────────────────────────────────────────────────────────────────────────────────


async def test_it_opens_at_first_use_and_again_after_closing() -> None:
    """Closing twice is no harm, and the state is shown without a secret."""
    async with serving(answering(answer())) as far:
        session = SessionManager(max_connections=3, proxy=None)
        await session.aclose()
        assert repr(session) == "SessionManager(closed, 0 of 3 busy)"
        assert isinstance(await send(session, far.url), Reply)
        session.slots.take()
        assert repr(session) == "SessionManager(open, 1 of 3 busy)"
        await session.aclose()
        assert isinstance(await send(session, far.url), Reply)
        await session.aclose()
        await session.aclose()


def test_a_proxys_password_is_not_shown() -> None:
    """Credentials in the proxy's URL stay out of the repr and of a refusal."""
    assert "hunter2" not in repr(SessionManager(proxy="http://user:hunter2@proxy.example:3128"))
    with pytest.raises(ConfigurationError) as caught:
        SessionManager(proxy="socks5://user:hunter2@proxy.example")
    assert "hunter2" not in str(caught.value)


async def test_closed_in_the_midst_of_an_exchange_it_is_a_value_too() -> None:
    """Somebody else closes the session: nobody was cancelled, so no cancellation is raised; the request may have left."""
    fates = Fates()
    async with serving(fates) as far:
        session = SessionManager()
        task = asyncio.ensure_future(send(session, far.url))
        await fates.arrived.wait()
        await session.aclose()
        result = await task

    assert isinstance(result, NoReply)
    assert result.may_have_left


@pytest.mark.parametrize("is_cancelled", [False, True])
async def test_closed_while_a_name_is_looked_up_nothing_has_left(*, is_cancelled: bool) -> None:
    """The library cancels its own waiting, which is no cancellation of ours; one of ours comes through."""
    loop = asyncio.get_running_loop()
    executor, release = ThreadPoolExecutor(1), threading.Event()
    loop.set_default_executor(executor)
    executor.submit(release.wait)
    session = SessionManager()
    tasks = [asyncio.ensure_future(send(session, "http://localhost:9")) for _ in range(2)]
    await asyncio.sleep(0.05)
    if is_cancelled:
        for task in tasks:
            task.cancel()
    await session.aclose()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    release.set()
    await loop.shutdown_default_executor()

    if is_cancelled:
        assert [type(one) for one in outcomes] == [asyncio.CancelledError] * 2
    else:
        assert outcomes == [NoReply("no connection: closed", may_have_left=False)] * 2


# ── event loops ──────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_session_belongs_to_one_event_loop_until_it_is_closed() -> None:
    """In another one nothing is sent, and nothing is closed as long as the first one runs."""

    async def twice(session: SessionManager) -> None:
        async with serving(answering(answer(b"{}"))) as far:
            await send(session, far.url)
            await asyncio.to_thread(asyncio.run, refused(session, far.url))
            assert far.connections == 1
            await session.aclose()
            await asyncio.to_thread(asyncio.run, send_and_close(session, far.url))

    async def refused(session: SessionManager, url: str) -> None:
        for call in (send(session, url), session.aclose()):
            with pytest.raises(ConfigurationError, match=r"belongs to another event loop, .*; nothing was sent\."):
                await call

    async def send_and_close(session: SessionManager, url: str) -> None:
        assert isinstance(await send(session, url), Reply)
        await session.aclose()

    asyncio.run(twice(SessionManager()))


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
def test_a_session_whose_loop_has_ended_is_closed_from_any_other() -> None:
    """Its connections ended with the loop."""
    session = SessionManager()

    async def leave() -> None:
        async with serving(answering(answer(b"{}"))) as far:
            await send(session, far.url)

    asyncio.run(leave())
    asyncio.run(session.aclose())
    asyncio.run(leave())
    asyncio.run(session.aclose())


# ── settings ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _context(verify: ssl.VerifyMode) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = verify
    return context


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        *(({"max_connections": value}, "max_connections") for value in (0, -1, True, 1.5, "10", None)),
        *(
            ({"connect_timeout": value}, "connect_timeout")
            for value in (0, -1.0, True, "10", None, float("nan"), 10**400)
        ),
        *(({"ssl": value}, "ssl") for value in (False, True, "no", object())),
        *(({"ssl": _context(mode)}, "ssl") for mode in (ssl.CERT_NONE, ssl.CERT_OPTIONAL, ssl.CERT_REQUIRED)),
    ],
)
def test_a_wrong_setting_is_refused_by_name(settings: dict[str, Any], named: str) -> None:
    """At construction, and never at the first withdrawal; a context that does not verify chain and host name is one."""
    with pytest.raises(ConfigurationError, match=f"{named} must be"):
        SessionManager(**settings)


@pytest.mark.parametrize("value", ["", "proxy.example:3128", "socks5://x", "http://x:y", " http://x", 7])
def test_a_proxy_that_cannot_work_is_refused_at_construction(monkeypatch: pytest.MonkeyPatch, value: Any) -> None:
    """As an argument or, where it is trusted, from the environment; an argument goes before the environment."""
    with pytest.raises(ConfigurationError, match=r"^proxy "):
        SessionManager(proxy=value)
    monkeypatch.setenv("https_proxy", str(value) or "http://")
    with pytest.raises(ConfigurationError, match=r"^HTTPS_PROXY "):
        SessionManager(trust_env=True)
    SessionManager(proxy="http://proxy.example", trust_env=True)
    SessionManager()


def test_right_settings_are_taken() -> None:
    """The smallest figures, and a context that verifies."""
    session = SessionManager(
        max_connections=1, connect_timeout=0.1, proxy="https://proxy.example", ssl=ssl.create_default_context()
    )

    assert session.max_connections == session.slots.free == 1


@both_paths
async def test_a_proxy_hears_its_credentials() -> None:
    """Those of its URL, as the header that is meant for it."""
    async with serving(answering(answer(b"from the proxy"))) as proxy:
        url = proxy.url.replace("http://", "http://user:hunter2@")
        async with opened(proxy=url) as session:
            result = await send(session, "http://127.0.0.1:9/x")

    assert isinstance(result, Reply)
    assert b"\r\nProxy-Authorization: Basic dXNlcjpodW50ZXIy\r\n" in proxy.requests[0]


async def test_an_answer_before_the_whole_body_was_heard_ends_the_connection() -> None:
    """It is the answer; what had not left never does."""

    async def hasty(peer: Peer) -> None:
        await peer.reader.readuntil(b"\r\n\r\n")
        await peer.send(answer(status="413 Too Large"))
        await asyncio.sleep(0.3)

    async with serving(hasty) as far, opened() as session:
        result = await session.exchange("POST", far.url, body=b"x" * 30_000_000, headers=SIGNED, timeout=5.0)

    assert isinstance(result, Reply)
    assert result.status == 413


def test_a_session_whose_settings_were_refused_has_a_repr() -> None:
    """An error reporter may ask for it."""
    assert repr(SessionManager.__new__(SessionManager)) == "SessionManager(not made: a setting was refused)"


async def test_a_time_out_of_the_attempt_while_connecting_is_one_of_the_connection() -> None:
    """Whichever of the two time-outs comes first."""
    task = asyncio.current_task()
    assert task is not None
    result = _no_reply(TimeoutError(), Exchange(task))
    assert result == NoReply("no connection: connect time-out", may_have_left=False)
