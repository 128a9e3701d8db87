"""The local sandbox on a socket: the only file here that listens, answers, resets and waits."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Callable, Coroutine, Iterable, Mapping
from decimal import Decimal
from functools import partial
from types import TracebackType
from typing import Any, Self, TypeAlias

import aiohttp
from aiohttp import web
from aiohttp.web_protocol import RequestHandler

from alphapo_async.core.frames import hides_arguments
from alphapo_async.core.signer import Signer
from alphapo_async.sandbox.answers import HttpAnswer
from alphapo_async.sandbox.callbacks import Courier, Delivered, Mischief, signed_callback
from alphapo_async.sandbox.desk import Desk, Late, Question, Reaction
from alphapo_async.sandbox.dialects import Dialect
from alphapo_async.sandbox.edge import Way, half
from alphapo_async.sandbox.fault_sets import named_faults
from alphapo_async.sandbox.faults import FaultPlan
from alphapo_async.sandbox.ledger import Ledger
from alphapo_async.sandbox.records import SandboxWithdrawal
from alphapo_async.sandbox.rules import FIRST_ID, MerchantState

__all__ = ["Sandbox"]

_HOST = "127.0.0.1"
_LINGER = struct.pack("ii", 1, 0)
_STOP_SECONDS = 2.0
_BREATH = 0.005
_DELIVERY_TIMEOUT = aiohttp.ClientTimeout(total=10)


_Handler: TypeAlias = Callable[[web.BaseRequest], Coroutine[Any, Any, web.StreamResponse]]


class _Server(web.Server):
    """aiohttp's low-level server, with its connections at hand."""

    def __init__(self, handler: _Handler, ledger: Ledger) -> None:
        # The handler of a client that has left is cancelled: that is how stalls end. What is accepted, is so before any wait.
        super().__init__(handler, handler_cancellation=True, access_log=None)
        self._ledger = ledger
        self.is_open = False
        self._transports: dict[RequestHandler, asyncio.Transport] = {}

    def connection_made(self, handler: RequestHandler, transport: asyncio.Transport) -> None:
        """Count a connection."""
        super().connection_made(handler, transport)
        self._transports[handler] = transport
        self._ledger.connections += 1
        if not self.is_open:
            # It was on its way in when the door was closed.
            _reset(transport)

    def connection_lost(self, handler: RequestHandler, exc: BaseException | None = None) -> None:
        """Forget a connection."""
        super().connection_lost(handler, exc)
        self._transports.pop(handler, None)

    def reset_all(self) -> None:
        """Reset every connection, and those that are on their way in."""
        self.is_open = False
        for transport in list(self._transports.values()):
            _reset(transport)


class Sandbox:
    """A local AlphaPo that listens on the loopback interface only.

    Args:
        key: the merchant's public key; made up.
        secret: its secret; made up.
        port: where to listen; 0: anywhere.
        dialect: how it answers where AlphaPo's documents are silent.
        faults: what goes wrong: a name of `FAULT_SETS`, or a plan.
        seed: of the named faults.
        latency: seconds before every answer.
        balances: what the merchant owns; None: plenty of every usual currency.
        minimums: the least amount of a withdrawal or conversion, by currency; the others take any amount, XRP 0.001.
        callback_url: where status changes are reported.
        settle_after: seconds from acceptance to the end of a withdrawal.
        first_id: AlphaPo's id of the first withdrawal. A sandbox that takes the place of another must begin at a higher one: an id
            means one withdrawal for ever.
        extra_keys: other (key, secret) pairs of the same merchant.
        clock: seconds; None: the running loop's time.
        slow_seconds: seconds that a `SLOW` answer takes.
        late_seconds: seconds after which a `LATE` body is processed.
        throttle_seconds: the pause that a 429 asks for.
        callback_time_scale: what AlphaPo's waits before repeating a callback are multiplied with.
        mischief: what goes wrong with callbacks; None: nothing.

    Raises:
        ValueError: no faults have this name, or there is no such currency.
    """

    @hides_arguments
    def __init__(
        self,
        key: str = "sandbox-key",
        secret: str = "sandbox-secret",  # noqa: S107 - made up
        *,
        port: int = 0,
        dialect: Dialect | None = None,
        faults: str | FaultPlan = "none",
        seed: int = 0,
        latency: float = 0.0,
        balances: Mapping[str, Decimal | str | int] | None = None,
        minimums: Mapping[str, Decimal | str | int] | None = None,
        callback_url: str | None = None,
        settle_after: float = 1.0,
        first_id: int = FIRST_ID,
        extra_keys: Iterable[tuple[str, str]] = (),
        clock: Callable[[], float] | None = None,
        slow_seconds: float = 0.3,
        late_seconds: float = 0.5,
        throttle_seconds: float = 1.0,
        callback_time_scale: float = 1.0,
        mischief: Mischief | None = None,
    ) -> None:
        self.key = key
        self.secret = secret
        self.latency = latency
        self.slow_seconds = slow_seconds
        self.late_seconds = late_seconds
        self._port = port
        self._seed = seed
        self._clock = clock
        self._signers = {name: Signer(name, secret) for name, secret in [(key, secret), *extra_keys]}
        self._state = MerchantState(
            dialect, balances=balances, settle_after=settle_after, first_id=first_id, minimums=minimums
        )
        self.ledger = Ledger(self._state, self.now)
        self._desk = Desk(self._state, self.ledger, self._signers, self._plan(faults))
        self._desk.throttle_seconds = throttle_seconds
        self._callback_url = callback_url
        self._callback_time_scale = callback_time_scale
        self._mischief = mischief
        self.deliveries: list[Delivered] = []
        """Every callback that was delivered, forged ones too, in the order in which they were answered."""
        self._courier: Courier | None = None
        self._session: aiohttp.ClientSession | None = None
        self._server: _Server | None = None
        self._listener: socket.socket | None = None
        self._entering: set[asyncio.Task[Any]] = set()
        self._tasks: set[asyncio.Task[Any]] = set()
        self._late_tasks: set[asyncio.Task[Any]] = set()

    def __repr__(self) -> str:
        return f"Sandbox(url={self.url!r}, {self.ledger!r})" if hasattr(self, "_late_tasks") else "Sandbox(not made)"

    # ── settings ─────────────────────────────────────────────────────────────────────────────────────────────────────

    @property
    def url(self) -> str:
        """Where it listens, or will listen."""
        return f"http://{_HOST}:{self._port}"

    @property
    def faults(self) -> FaultPlan:
        """What goes wrong; may be replaced while running, by a plan or a name."""
        return self._desk.faults

    @faults.setter
    def faults(self, faults: str | FaultPlan) -> None:
        self._desk.faults = self._plan(faults)

    @property
    def dialect(self) -> Dialect:
        """How it answers where the documents are silent; may be replaced while running."""
        return self._state.dialect

    @dialect.setter
    def dialect(self, dialect: Dialect) -> None:
        self._state.dialect = dialect

    @property
    def throttle_seconds(self) -> float:
        """The pause that a 429 asks for."""
        return self._desk.throttle_seconds

    @throttle_seconds.setter
    def throttle_seconds(self, seconds: float) -> None:
        self._desk.throttle_seconds = seconds

    def callback(self, foreign_id: str | int, status: str = "confirmed") -> tuple[dict[str, str], bytes]:
        """Return headers and body of the callback that shows an accepted withdrawal in this status, which need not be its status here.

        Args:
            foreign_id: of a withdrawal that this sandbox has accepted.
            status: any text, also one that AlphaPo does not document.

        Raises:
            ValueError: nothing was accepted under this foreign_id.
        """
        records = self._state.named(str(foreign_id))
        if not records:
            raise ValueError(
                f"This sandbox has accepted no withdrawal {foreign_id!r}: call withdraw first, then callback."
            )
        record = records[-1]
        delivery = signed_callback(record, self.dialect, status, self._signers[record.key])
        return dict(delivery.headers), delivery.body

    def now(self) -> float:
        """Return the present moment on the sandbox's clock."""
        return (self._clock or time.monotonic)()

    def _plan(self, faults: str | FaultPlan) -> FaultPlan:
        return named_faults(faults, self._seed) if isinstance(faults, str) else faults

    # ── listening ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def __aenter__(self) -> Self:
        self._clock = self._clock or asyncio.get_running_loop().time
        self._server = _Server(self._handle, self.ledger)
        if self._callback_url is not None:
            self._session = aiohttp.ClientSession(timeout=_DELIVERY_TIMEOUT)
            deliver = partial(_deliver, self._session, self._callback_url)
            self._courier = Courier(
                self._signers,
                deliver,
                self.now,
                self._callback_time_scale,
                mischief=self._mischief,
                deliveries=self.deliveries,
            )
        try:
            await self.listen_again()
        except OSError:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def _close(self) -> None:
        await self.stop_listening()
        server, self._server = self._server, None
        tasks = self._tasks | self._late_tasks
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, *self._entering, return_exceptions=True)
        if self._session is not None:
            await self._session.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_STOP_SECONDS):
                # aiohttp does not report when the last handler of a lost connection has ended.
                while server is not None and server.connections:  # noqa: ASYNC110
                    await asyncio.sleep(_BREATH)

    async def listen_again(self) -> None:
        """Listen on the same port as before; nothing happens if it listens, or is closed."""
        if self._listener is None and self._server is not None:
            self._listener = socket.create_server((_HOST, self._port), backlog=1024)
            self._listener.setblocking(False)
            self._port = self._listener.getsockname()[1]
            self._server.is_open = True
            asyncio.get_running_loop().add_reader(self._listener, self._let_in, self._listener, self._server)

    async def stop_listening(self) -> None:
        """Refuse new connections and reset the open ones; nothing happens if it does so already."""
        listener, self._listener = self._listener, None
        if listener is not None:
            asyncio.get_running_loop().remove_reader(listener)
            listener.close()
        if self._server is not None:
            self._server.reset_all()

    def _let_in(self, listener: socket.socket, server: _Server) -> None:
        # asyncio's own server forgets, open, a connection that it has just accepted when it is closed: its client would wait
        # for ever. So connections are accepted here, and those that are still on their way in are reset by the server.
        loop = asyncio.get_running_loop()
        with contextlib.suppress(OSError):
            while True:
                connection, _ = listener.accept()
                connection.setblocking(False)
                self._start(loop.connect_accepted_socket(server, connection), self._entering)

    async def refuse(self, seconds: float) -> None:
        """Refuse connections for so long."""
        await self.stop_listening()
        await asyncio.sleep(seconds)
        await self.listen_again()

    async def drain(self) -> None:
        """Wait until no body is left that is to be processed late."""
        while self._late_tasks:
            await asyncio.wait(self._late_tasks)

    # ── requests ─────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _handle(self, request: web.BaseRequest) -> web.StreamResponse:
        body = await request.read()
        # From here to the first wait nothing can come between: what arrived is processed, whether or not the client stays.
        reaction = self._react(request, body)
        if reaction.late is not None:
            self._start(self._process_late(reaction.late), self._late_tasks)
        self._announce(reaction.record)
        if self.latency:
            await asyncio.sleep(self.latency)
        return await self._carry_out(request, reaction)

    def _react(self, request: web.BaseRequest, body: bytes) -> Reaction:
        headers = request.headers
        question = Question(
            body,
            headers.get("X-Processing-Key"),
            headers.get("X-Processing-Signature"),
            headers.get("Content-Type", ""),
        )
        return self._desk.react(request.method, request.path, question, self.now(), time.time())

    async def _carry_out(self, request: web.BaseRequest, reaction: Reaction) -> web.StreamResponse:
        way, transport = reaction.way, request.transport
        response = _response(reaction.answer)
        if way is Way.ANSWER or transport is None:
            return response
        if way is Way.SLOW:
            await asyncio.sleep(self.slow_seconds)
            return response
        if way is Way.CLOSE:
            await response.prepare(request)
            await response.write_eof()
            transport.close()
        elif way is Way.CUT:
            transport.write(half(reaction.answer))
            await asyncio.sleep(_BREATH)
        if way in {Way.CUT, Way.RESET}:
            _reset(transport)
        return await _until_the_client_leaves()

    async def _process_late(self, late: Late) -> None:
        await asyncio.sleep(self.late_seconds)
        self._announce(self._desk.process_late(late, self.now()))

    def _announce(self, record: SandboxWithdrawal | None) -> None:
        if record is not None and self._courier is not None:
            self._start(self._courier.announce(record, self.dialect), self._tasks)

    def _start(self, work: Coroutine[Any, Any, Any], tasks: set[asyncio.Task[Any]]) -> None:
        task = asyncio.create_task(work)
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def _deliver(session: aiohttp.ClientSession, url: str, body: bytes, headers: Mapping[str, str]) -> int | None:
    with contextlib.suppress(aiohttp.ClientError, TimeoutError, OSError):
        async with session.post(url, data=body, headers=headers) as answer:
            return answer.status
    return None


def _response(answer: HttpAnswer) -> web.Response:
    headers = {"Content-Type": answer.content_type, **answer.headers}
    return web.Response(body=answer.body, status=answer.status, headers=headers)


def _reset(transport: asyncio.Transport) -> None:
    """Close a connection with RST: lingering for no time at all throws away what is unsent."""
    sock: socket.socket = transport.get_extra_info("socket")
    # It may be closed already.
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _LINGER)
    transport.abort()


async def _until_the_client_leaves() -> web.StreamResponse:
    """Wait for ever: the server cancels the handler of a connection that is gone."""
    gone: asyncio.Future[web.StreamResponse] = asyncio.get_running_loop().create_future()
    return await gone
