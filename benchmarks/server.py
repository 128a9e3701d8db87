"""A server that costs as little as it can: it accepts every withdrawal at once, and never limits what is measured.

It runs in a process of its own (`with serving() as url`), speaks just enough HTTP/1.1 with keep-alive, and checks nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from typing import Final

_LENGTH: Final = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)
_FOREIGN_ID: Final = re.compile(rb'"foreign_id": *"([^"]*)"')
_AMOUNT: Final = re.compile(rb'"amount": *"?([0-9.]+)')
_CURRENCY: Final = re.compile(rb'"currency": *"([^"]*)"')


class _Accepting(asyncio.Protocol):
    """Answers every request that ends in this connection's buffer."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        self._buffer = b""

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while (head := self._buffer.find(b"\r\n\r\n")) >= 0:
            found = _LENGTH.search(self._buffer, 0, head)
            end = head + 4 + (int(found[1]) if found else 0)
            if len(self._buffer) < end:
                return
            is_about_itself = self._buffer.startswith(b"GET /cpu ")
            body, self._buffer = self._buffer[head + 4 : end], self._buffer[end:]
            if is_about_itself:
                self._say(b"200 OK", b"%f" % time.process_time())
            else:
                self.answer(body)

    def answer(self, body: bytes) -> None:
        foreign_id, amount, currency = _FOREIGN_ID.search(body), _AMOUNT.search(body), _CURRENCY.search(body)
        if foreign_id is None or amount is None or currency is None:
            data = b"{}"
        else:
            data = (
                b'{"data":{"id":134702815,"foreign_id":"%b","end_user_reference":"user-42","type":"withdrawal",'
                b'"status":"processing","amount":"%b","sender_amount":"%b","sender_currency":"%b",'
                b'"receiver_currency":"%b","receiver_amount":"%b"}}'
            ) % (foreign_id[1], amount[1], amount[1], currency[1], currency[1], amount[1])
        self._say(b"201 Created", data)

    def _say(self, status: bytes, data: bytes) -> None:
        self._transport.write(
            b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (status, len(data), data)
        )


class _Failing(_Accepting):
    """Answers the first body of every hundredth foreign_id with an error that leaves it in doubt; look-ups find nothing."""

    def answer(self, body: bytes) -> None:
        """Fail, find nothing, or accept."""
        found = _FOREIGN_ID.search(body)
        name = found[1] if found else b""
        if _CURRENCY.search(body) is None:
            self._say(b"404 Not Found", b'{"error":"Not found","code":"not_found"}')
        elif name.endswith(b"00") and name not in _FAILED:
            _FAILED.add(name)
            self._say(b"502 Bad Gateway", b'{"error":"Bad gateway"}')
        else:
            super().answer(body)


_FAILED: Final[set[bytes]] = set()


class _Silent(_Accepting):
    """Takes every request and answers none."""

    def answer(self, body: bytes) -> None:
        """Say nothing."""


class _Slow(_Accepting):
    """Answers after a fixed time, accepts each foreign_id once, and counts bodies."""

    latency = 0.0
    bodies = 0

    def answer(self, body: bytes) -> None:
        """Count a body, and answer it later; a question without a body is how many came, and for how many foreign_ids."""
        found = _FOREIGN_ID.search(body)
        if found is None:
            self._say(b"200 OK", b'{"bodies":%d,"accepted":%d}' % (_Slow.bodies, len(_SEEN)))
            return
        _Slow.bodies += 1
        _SEEN.add(found[1])
        asyncio.get_running_loop().call_later(self.latency, super().answer, body)


_SEEN: Final[set[bytes]] = set()


async def _serve(kind: type[_Accepting]) -> None:
    server = await asyncio.get_running_loop().create_server(kind, "127.0.0.1", 0, backlog=2048)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    async with server:
        # It ends when whoever started it closes its standard input, or dies.
        await asyncio.to_thread(sys.stdin.read)


@contextlib.contextmanager
def serving(module: str = "benchmarks.server", kind: str = "accepting", *more: str) -> Iterator[str]:
    """Run a server in a process of its own, and give the URL that it says first."""
    process = subprocess.Popen(
        [sys.executable, "-m", module, kind, *more], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait(10)
        process.stdout.close()


def cpu_of(url: str) -> float:
    """Return the seconds of CPU that the server has needed so far."""
    with urllib.request.urlopen(f"{url}/cpu") as reply:  # noqa: S310 - our own, on loopback
        return float(reply.read())


if __name__ == "__main__":
    _Slow.latency = float(sys.argv[2]) if len(sys.argv) > 2 else 0.0
    kinds = {"accepting": _Accepting, "failing": _Failing, "silent": _Silent, "slow": _Slow}
    asyncio.run(_serve(kinds[sys.argv[1]]))
