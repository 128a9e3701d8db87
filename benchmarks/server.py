"""A server that costs as little as it can: it accepts every withdrawal at once, and never limits what is measured.

It runs in a process of its own (`with serving() as url`), speaks just enough HTTP/1.1 with keep-alive, and checks nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import ClassVar, Final

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
    """Answers after a fixed time, accepts each foreign_id once, refuses it afterwards, shows it to look-ups, and counts."""

    latency = 0.0
    counts: ClassVar = {"bodies": 0, "accepted": 0, "cut": 0}
    """Bodies that came, foreign_ids that were accepted, and answers that were due when their connection was cut."""
    _due = 0

    def answer(self, body: bytes) -> None:
        """Say the counts, or judge a body at once and answer it later."""
        found = _FOREIGN_ID.search(body)
        if found is None:
            self._say(b"200 OK", json.dumps(self.counts).encode())
            return
        self._due += 1
        asyncio.get_running_loop().call_later(self.latency, self._answer, found[1], body, self._judge(found[1], body))

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's name
        """Count the answers that come too late."""
        self.counts["cut"] += self._due
        self._due = 0

    def _judge(self, name: bytes, body: bytes) -> Callable[[bytes], None]:
        if _CURRENCY.search(body) is None:
            return self._show if name in _SEEN else self._find_nothing
        self.counts["bodies"] += 1
        if name in _SEEN:
            return self._refuse
        _SEEN[name] = body
        self.counts["accepted"] += 1
        return super().answer

    def _answer(self, name: bytes, body: bytes, say: Callable[[bytes], None]) -> None:
        if self._due:
            self._due -= 1
            say(_SEEN[name] if say == self._show else body)

    def _show(self, body: bytes) -> None:
        fields = json.loads(body)
        figure = {"currency": fields["currency"], "amount": str(fields["amount"])}
        shown = {
            "id": 134702815,
            "foreign_id": fields["foreign_id"],
            "type": "withdrawal",
            "status": "processing",
            "crypto_address": {"id": 1, "currency": fields["currency"], "address": fields["address"]},
            "currency_sent": figure,
            "currency_received": figure,
            "transactions": [],
            "fees": [],
            "error": "",
        }
        self._say(b"200 OK", json.dumps(shown).encode())

    def _find_nothing(self, _body: bytes) -> None:
        self._say(b"404 Not Found", b'{"error":"Transaction not found","code":"not_found"}')

    def _refuse(self, _body: bytes) -> None:
        self._say(b"422 Unprocessable Entity", b'{"errors":{"foreign_id":"The foreign id has already been taken."}}')


_SEEN: Final[dict[bytes, bytes]] = {}


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
