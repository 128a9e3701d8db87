"""Everything that may go wrong with one request, by its phase: what the far end reads, makes of it and says, and how it ends."""

from __future__ import annotations

import asyncio
import gzip
import socket
import struct
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, Literal, TypeAlias

from alphapo_async.sandbox import Fault as Twist
from alphapo_async.sandbox.answers import HttpAnswer, textual
from tests.proof.simulation.sockets.far_end import Fault, Line, page, spelt

__all__ = ["FAULTS", "Phase"]

Phase: TypeAlias = Literal[
    "name",
    "connect",
    "TLS",
    "idle connection",
    "request's head",
    "request's body",
    "wait",
    "reply's head",
    "reply's body",
    "reply",
    "reply without a word, not paid",
    "reply without a word, paid",
]
"""Where in an exchange it goes wrong."""

End: TypeAlias = Literal["keep", "close", "half-close", "reset", "stall"]
"""What becomes of the connection. A half-close is the end of what is said, over TLS without its goodbye; what comes is still read."""

Makes: TypeAlias = Literal["nothing", "a payment", "a payment later"]
"""What AlphaPo makes of the body."""

Says: TypeAlias = Callable[[bytes], bytes]
"""Makes of the right reply (empty, if nothing was made of the body) what is said instead."""

Reads: TypeAlias = Literal["nothing", "the head", "a part of the body", "all"]
"""What is read of the request."""

SILENCE: Final = b""


def _silent(_: bytes) -> bytes:
    return SILENCE


def _says(told: bytes) -> Says:
    return lambda _: told


def strike(
    *, reads: Reads = "all", makes: Makes = "nothing", says: Says = _silent, end: End, twist: Twist | None = None
) -> Fault:
    """Return the fault of a far end that reads so much, makes that of it, says this, and ends like that."""

    async def on_line(line: Line) -> bool:
        reply = b""
        if reads == "the head":
            await line.head()
            line.stop_reading()
        elif reads == "a part of the body":
            await line.part_of_body()
        elif reads == "all":
            request = await line.request()
            if makes == "a payment":
                reply = line.far.process(request, twist, closes=end == "close")
            elif makes == "a payment later":
                line.far.process_late(request)
        line.say(says(reply))
        return await _end(line, end)

    return Fault(on_line=on_line, is_large=reads in ("the head", "a part of the body"))


async def _end(line: Line, end: End) -> bool:
    await _is_sent(line)
    if end == "reset":
        line.reset()
    elif end == "half-close":
        line.half_close()
    if end in ("half-close", "stall"):
        await line.end()
    return end == "keep"


async def _is_sent(line: Line) -> None:
    await line.writer.drain()
    # What was said has to be read before a reset takes it back: the client is in this process, and has its turn.
    for _ in range(6):
        await asyncio.sleep(0)


# ── before a connection stands ───────────────────────────────────────────────────────────────────────────────────────


async def _never() -> list[str]:
    found: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
    return await found


def _fails(code: int) -> Callable[[], Awaitable[list[str]]]:
    async def names() -> list[str]:
        raise socket.gaierror(code, "made up")

    return names


def _found(*addresses: str) -> Callable[[], Awaitable[list[str]]]:
    async def names() -> list[str]:
        return list(addresses)

    return names


_DEAD: Final = "127.0.0.2"
"""An address of this machine on which nobody listens."""

_NAME: dict[str, Fault] = {
    "not found": Fault(names=_fails(socket.EAI_NONAME)),
    "server failure": Fault(names=_fails(socket.EAI_FAIL)),
    "no answer": Fault(names=_never),
    "dead address": Fault(names=_found(_DEAD)),
    "dead address first": Fault(names=_found(_DEAD, "127.0.0.1")),
    "dead addresses only": Fault(names=_found(_DEAD, "127.0.0.3", "127.0.0.4")),
}

_RESET: Final = struct.pack("ii", 1, 0)


async def _hello(raw: socket.socket) -> None:
    """Read what the client says first: the beginning of a handshake."""
    await asyncio.get_running_loop().sock_recv(raw, 4_096)


async def _reset(raw: socket.socket) -> None:
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)


async def _hello_reset(raw: socket.socket) -> None:
    await _hello(raw)
    await _reset(raw)


async def _until_left(raw: socket.socket) -> None:
    while await asyncio.get_running_loop().sock_recv(raw, 4_096):
        pass


def _hello_say(told: bytes) -> Callable[[socket.socket], Awaitable[None]]:
    async def on_socket(raw: socket.socket) -> None:
        await _hello(raw)
        await asyncio.get_running_loop().sock_sendall(raw, told)
        raw.shutdown(socket.SHUT_WR)
        await _until_left(raw)

    return on_socket


async def _hello_half_record(raw: socket.socket) -> None:
    """Begin a record of the handshake and never end it."""
    await _hello(raw)
    await asyncio.get_running_loop().sock_sendall(raw, bytes.fromhex("1603030200"))
    await _until_left(raw)


_CONNECT: dict[str, Fault] = {
    "refused": Fault(door="shut"),
    "time-out": Fault(door="full"),
    "reset on accepting": Fault(on_socket=_reset),
}

THROTTLED: Final = spelt(textual(429, "Too many requests", "too_many_requests"), "Retry-After: 0")
_ALERT_PROTOCOL_VERSION: Final = bytes.fromhex("15030300020246")
_ALERT_INTERNAL_ERROR: Final = bytes.fromhex("15030300020250")

_TLS: dict[str, Fault] = {
    "another host": Fault(identity="another host"),
    "expired": Fault(identity="expired"),
    "unknown authority": Fault(identity="unknown authority"),
    "protocol too old": Fault(identity="too old"),
    "asks for a certificate": Fault(identity="asks for a certificate"),
    "stall": Fault(on_socket=_until_left),
    "stall in a record": Fault(on_socket=_hello_half_record),
    "reset": Fault(on_socket=_hello_reset),
    "close": Fault(on_socket=_hello),
    "alert: protocol version": Fault(on_socket=_hello_say(_ALERT_PROTOCOL_VERSION)),
    "alert: internal error": Fault(on_socket=_hello_say(_ALERT_INTERNAL_ERROR)),
    "plain 400": Fault(on_socket=_hello_say(spelt(page(400), closes=True))),
    "plain 429": Fault(on_socket=_hello_say(THROTTLED)),
}

# ── before the request ───────────────────────────────────────────────────────────────────────────────────────────────


_ANOTHERS: Final = spelt(HttpAnswer(201, b'{"data":{"id":7,"foreign_id":"another","status":"processing"}}'))


def _idle(does: Callable[[Line], None], *, is_seen: bool = True) -> Fault:
    return Fault(on_idle=does, is_seen=is_seen)


def _says_unasked(told: bytes) -> Callable[[Line], None]:
    return lambda line: line.say(told)


def _closes(line: Line) -> None:
    line.writer.close()


def _resets(line: Line) -> None:
    line.reset()


def _says_and_closes(line: Line) -> None:
    line.say(spelt(page(408), closes=True))
    line.writer.close()


async def _completes(line: Line) -> bool:
    """Pay, and say the second half of a 429 whose first half was said before."""
    line.far.process(await line.request())
    line.say(THROTTLED[10:])
    return await _end(line, "stall")


_IDLE: dict[str, Fault] = {
    "closed": _idle(_closes),
    "closed, unread": _idle(Line.half_close, is_seen=False),
    "closed as it leaves": _idle(_closes, is_seen=False),
    "reset": _idle(_resets),
    "reset as it leaves": _idle(_resets, is_seen=False),
    "408 and closed": _idle(_says_and_closes),
    "408 and closed, unread": _idle(_says_and_closes, is_seen=False),
    "429": _idle(_says_unasked(THROTTLED)),
    "429, unread": _idle(_says_unasked(THROTTLED), is_seen=False),
    "201 of another, unread": _idle(_says_unasked(_ANOTHERS), is_seen=False),
    "100": _idle(_says_unasked(b"HTTP/1.1 100 Continue\r\n\r\n")),
    "garbage": _idle(_says_unasked(b"\x00\x01\x02\r\n\r\n")),
    "half a 429, unread": _idle(_says_unasked(THROTTLED[:10]), is_seen=False),
    "half a 429": Fault(on_idle=_says_unasked(THROTTLED[:10]), on_line=_completes),
}

# ── while the request is on its way ──────────────────────────────────────────────────────────────────────────────────

_BLAMED: Final = spelt(HttpAnswer(400, b'{"errors":{"amount":"Not enough amount"}}'), closes=True)

_HEADERS: dict[str, Fault] = {
    **{f"nothing read, {end}": strike(reads="nothing", end=end) for end in ("close", "reset", "stall")},
    "nothing read, 429 and close": strike(reads="nothing", says=_says(THROTTLED), end="close"),
    "nothing read, 503 and close": strike(reads="nothing", says=_says(spelt(page(503), closes=True)), end="close"),
    "nothing read, half-close": strike(reads="nothing", end="half-close"),
    "head read, 431 and close": strike(reads="the head", says=_says(spelt(page(431), closes=True)), end="stall"),
    "head read, 100 and stall": strike(reads="the head", says=_says(b"HTTP/1.1 100 Continue\r\n\r\n"), end="stall"),
}
_HEADERS |= {f"head read, {end}": strike(reads="the head", end=end) for end in ("close", "reset", "stall")}

_EARLY: Final[Mapping[str, bytes]] = {
    "413": spelt(page(413), closes=True),
    "400 blaming a field": _BLAMED,
    "429": THROTTLED,
    "502": spelt(page(502), closes=True),
}

_BODY: dict[str, Fault] = {
    **{f"a part read, {end}": strike(reads="a part of the body", end=end) for end in ("close", "reset", "stall")},
    **{
        f"early {name}, then nothing": strike(reads="a part of the body", says=_says(told), end="stall")
        for name, told in _EARLY.items()
    },
    **{
        f"early {name}, then a reset": strike(reads="a part of the body", says=_says(told), end="reset")
        for name, told in _EARLY.items()
    },
}

_WAIT: dict[str, Fault] = {
    **{f"{end}, paid": strike(makes="a payment", end=end) for end in ("close", "reset", "stall", "half-close")},
    **{f"{end}, not paid": strike(end=end) for end in ("close", "reset", "stall", "half-close")},
    **{f"{end}, paid later": strike(makes="a payment later", end=end) for end in ("close", "reset", "stall")},
}

# ── the reply's head ─────────────────────────────────────────────────────────────────────────────────────────────────


def _head(*lines: str, body: str = "{}") -> Says:
    return _says("\r\n".join([*lines, "", body]).encode())


def _first(number: int) -> Says:
    return lambda reply: reply[:number]


def _instead_of(old: bytes, new: bytes) -> Says:
    return lambda reply: reply.replace(old, new, 1)


def _after(told: bytes) -> Says:
    return lambda reply: told + reply


def _with(*headers: bytes) -> Says:
    return _instead_of(b"\r\n", b"\r\n" + b"\r\n".join([*headers, b""]))


_STATUS_LINE: Final = b"HTTP/1.1 201 Created"


def paid(says: Says, end: End = "stall") -> Fault:
    """Return the fault of a far end that pays, and answers this."""
    return strike(makes="a payment", says=says, end=end)


_HEAD: dict[str, Fault] = {
    **{f"cut in the status line, {end}": paid(_first(10), end) for end in ("close", "reset", "stall")},
    **{f"cut in the headers, {end}": paid(_first(40), end) for end in ("close", "reset", "stall")},
    "cut before the empty line": paid(lambda reply: reply.partition(b"\r\n\r\n")[0] + b"\r\n", "close"),
    "no HTTP": paid(_says(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")),
    "binary": paid(_says(bytes(range(256)))),
    "empty lines only": paid(_says(b"\r\n\r\n\r\n")),
    "status of letters": paid(_instead_of(b"201", b"abc")),
    "status of two digits": paid(_instead_of(b"201", b"20")),
    "status 999": paid(_instead_of(b"201 Created", b"999 What")),
    "status line of a request": paid(_instead_of(_STATUS_LINE, b"POST / HTTP/1.1")),
    "HTTP/0.9": paid(lambda reply: reply.partition(b"\r\n\r\n")[2], "close"),
    "HTTP/1.0": paid(_instead_of(b"HTTP/1.1", b"HTTP/1.0"), "close"),
    "HTTP/2.0": paid(_instead_of(b"HTTP/1.1", b"HTTP/2.0")),
    "HTTP/3.7": paid(_instead_of(b"HTTP/1.1", b"HTTP/3.7")),
    "frames of HTTP/2": paid(_says(bytes.fromhex("000000040000000000") * 3)),
    "100 before it": paid(_after(b"HTTP/1.1 100 Continue\r\n\r\n"), "keep"),
    "many 100s before it": paid(_after(b"HTTP/1.1 100 Continue\r\n\r\n" * 30), "keep"),
    "103 before it": paid(_after(b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"), "keep"),
    **{f"100 only, {end}": paid(_says(b"HTTP/1.1 100 Continue\r\n\r\n"), end) for end in ("close", "reset", "stall")},
    "102 only": paid(_says(b"HTTP/1.1 102 Processing\r\n\r\n" * 3)),
    "101": paid(_head("HTTP/1.1 101 Switching Protocols", "Upgrade: h2c", "Connection: upgrade")),
    "204": paid(_says(b"HTTP/1.1 204 No Content\r\n\r\n"), "keep"),
    "304": paid(_says(b"HTTP/1.1 304 Not Modified\r\n\r\n"), "keep"),
    "twice": paid(lambda reply: reply + reply, "keep"),
    "followed by a 429": paid(lambda reply: reply + THROTTLED, "keep"),
    "header of 70 000 bytes": paid(_with(b"X-Long: " + b"y" * 70_000)),
    "a thousand headers": paid(_with(*[b"X-%d: y" % number for number in range(1_000)])),
    "header without a colon": paid(_with(b"no colon here")),
    "header without a name": paid(_with(b": nobody")),
    "NUL in a header": paid(_with(b"X-Bad: a\x00b")),
    "bytes of no alphabet in a header": paid(_with(b"X-Bad: \xff\xfe\x80"), "keep"),
    "status line in a header": paid(_with(b"X-Bad: a\nHTTP/1.1 429 Too Many Requests")),
    "folded header": paid(_with(b"X-Folded: a", b" b")),
    "two lengths": paid(_with(b"Content-Length: 3")),
    "length of letters": paid(_instead_of(b"Content-Length: ", b"Content-Length: x")),
    "negative length": paid(_instead_of(b"Content-Length: ", b"Content-Length: -")),
    "length and chunks": paid(_with(b"Transfer-Encoding: chunked")),
    "unknown transfer encoding": paid(_with(b"Transfer-Encoding: sideways")),
}

# ── the reply's body ─────────────────────────────────────────────────────────────────────────────────────────────────

_EMPTY_LINE: Final = b"\r\n\r\n"


def _rebuilt(*headers: bytes, makes: Callable[[bytes], bytes]) -> Says:
    """Replace the body, and the headers that tell its length."""

    def says(reply: bytes) -> bytes:
        body = makes(reply.partition(_EMPTY_LINE)[2])
        return b"\r\n".join([_STATUS_LINE, b"Content-Type: application/json", *headers, b"", body])

    return says


def _sized(makes: Callable[[bytes], bytes], *headers: bytes) -> Says:
    def says(reply: bytes) -> bytes:
        body = makes(reply.partition(_EMPTY_LINE)[2])
        return b"\r\n".join([_STATUS_LINE, *headers, b"Content-Length: %d" % len(body), b"", body])

    return says


def _chunk(told: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(told), told)


def _chunked(makes: Callable[[bytes], bytes]) -> Says:
    return _rebuilt(b"Transfer-Encoding: chunked", makes=makes)


_LAST: Final = b"0\r\n\r\n"


def _status(status: int, body: bytes = b"", kind: str = "application/json") -> Says:
    return _says(spelt(HttpAnswer(status, body, kind)))


def _longer(reply: bytes) -> bytes:
    """Tell one byte more than there is."""
    head, _, body = reply.partition(_EMPTY_LINE)
    return head.replace(b"%d" % len(body), b"%d" % (len(body) + 1)) + _EMPTY_LINE + body


def _shorter(reply: bytes) -> bytes:
    """Tell one byte less than there is."""
    head, _, body = reply.partition(_EMPTY_LINE)
    return head.replace(b"%d" % len(body), b"%d" % (len(body) - 1)) + _EMPTY_LINE + body


def _half(body: bytes) -> bytes:
    return body[: len(body) // 2]


_MEBIBYTE: Final = 1024 * 1024

_REPLYS_BODY: dict[str, Fault] = {
    **{f"length too long, {end}": paid(_longer, end) for end in ("close", "half-close", "reset", "stall")},
    "length too short": paid(_shorter, "keep"),
    "no length, whole, close": paid(_rebuilt(makes=bytes), "close"),
    "no length, whole, half-close": paid(_rebuilt(makes=bytes), "half-close"),
    "no length, half, close": paid(_rebuilt(makes=_half), "close"),
    "no length, half, half-close": paid(_rebuilt(makes=_half), "half-close"),
    "no length, whole, reset": paid(_rebuilt(makes=bytes), "reset"),
    "no length, half, reset": paid(_rebuilt(makes=_half), "reset"),
    "no length, stall": paid(_rebuilt(makes=bytes)),
    "chunks, whole": paid(_chunked(lambda body: _chunk(body) + _LAST), "keep"),
    "chunks of one byte": paid(_chunked(lambda body: b"".join(_chunk(bytes([one])) for one in body) + _LAST), "keep"),
    "chunks, cut in a chunk": paid(_chunked(lambda body: _chunk(body)[:-9]), "close"),
    "chunks, cut before the last, close": paid(_chunked(_chunk), "close"),
    "chunks, cut before the last, half-close": paid(_chunked(_chunk), "half-close"),
    "chunks, cut before the last, stall": paid(_chunked(_chunk)),
    "chunks, cut before the last, reset": paid(_chunked(_chunk), "reset"),
    "chunk of no size": paid(_chunked(lambda body: b"\r\n" + body + b"\r\n" + _LAST)),
    "chunk of a wrong size": paid(_chunked(lambda body: _chunk(body).replace(b"\r\n", b"1\r\n", 1) + _LAST)),
    "chunk size of letters": paid(_chunked(lambda body: b"zz\r\n" + body + b"\r\n" + _LAST)),
    "chunk size beyond all bounds": paid(_chunked(lambda body: b"f" * 40 + b"\r\n" + body)),
    "half a body, stall": paid(lambda reply: reply[:-20]),
    "half a body, reset": paid(lambda reply: reply[:-20], "reset"),
    "gzip": paid(_sized(gzip.compress, b"Content-Encoding: gzip"), "keep"),
    "gzip, cut": paid(_sized(lambda body: gzip.compress(body)[:-12], b"Content-Encoding: gzip")),
    "gzip that is none": paid(_sized(bytes, b"Content-Encoding: gzip")),
    "unknown coding": paid(_sized(gzip.compress, b"Content-Encoding: zip-drive"), "keep"),
    "1 MiB and a byte": paid(_sized(lambda body: body + b" " * (_MEBIBYTE + 1 - len(body))), "keep"),
    "1 MiB": paid(_sized(lambda body: body + b" " * (_MEBIBYTE - len(body))), "keep"),
}

# ── whole replies ────────────────────────────────────────────────────────────────────────────────────────────────────


def _duplicate(end: End) -> Fault:
    async def on_line(line: Line) -> bool:
        # Somebody has sent these bytes before, and has died before anybody heard of it.
        request = await line.request()
        line.far.process(request)
        line.say(line.far.process(request, closes=end == "close"))
        return await _end(line, end)

    return Fault(on_line=on_line)


async def _byte_by_byte(line: Line) -> bool:
    reply = line.far.process(await line.request())
    for one in reply:
        line.say(bytes([one]))
        await _is_sent(line)
    return not line.far.closes


_ENDS: Final[tuple[End, ...]] = ("keep", "close")


def _answered(says: Says, makes: Makes) -> Fault:
    return strike(makes=makes, says=says, end="keep")


_HTML: Final = "text/html; charset=UTF-8"
_WITHOUT_A_WORD: Final[Mapping[str, Says]] = {
    "page with 200": _says(spelt(page(200))),
    "page with 403": _says(spelt(page(403))),
    "page with 404": _says(spelt(page(404))),
    "page with 408": _says(spelt(page(408))),
    "page with 502": _says(spelt(page(502))),
    "page with 503": _says(spelt(page(503))),
    "page with 504": _says(spelt(page(504))),
    "empty 200": _status(200),
    "empty 202": _status(202),
    "empty 400": _status(400),
    "empty 500": _status(500),
    "200 that is no UTF-8": _status(200, b'{"data":{"id":"\xff\xfe"}}'),
    "200 with null": _status(200, b"null"),
    "200 with a list": _status(200, b'[{"data":{}}]'),
    "200 of depth 100 000": _status(200, b"[" * 100_000),
    "200 cut by its own length": _status(200, b'{"data":{"id":7,"for'),
    "200 that refuses": _status(200, b'{"errors":{"amount":"Not enough amount"}}'),
    "401": _says(spelt(textual(401, "Unauthorized", "unauthorized"))),
    "403 with an unknown code": _says(spelt(textual(403, "Something else", "something_else"))),
    "404": _says(spelt(textual(404, "Not found", "not_found"))),
    "400 with an unknown code": _says(spelt(textual(400, "Something else", "something_else"))),
    "400 with errors of no field": _status(400, b'{"errors":{}}'),
    "400 as a page with errors": _status(400, b'{"errors":{"amount":"Not enough amount"}}', _HTML),
    "500": _says(spelt(textual(500, "Internal server error", "internal_error"))),
    "500 with errors": _status(500, b'{"errors":{"amount":"Not enough amount"}}'),
    **{
        f"redirect {status}": _says(spelt(HttpAnswer(status, b"", _HTML, {"Location": "/api/v2/withdrawal/crypto"})))
        for status in (301, 302, 303, 307, 308)
    },
}

_REPLY: dict[str, Fault] = {
    **{f"accepted, {end}": strike(makes="a payment", says=bytes, end=end) for end in _ENDS},
    **{f"duplicate, {end}": _duplicate(end) for end in _ENDS},
    **{
        f"{name}, {end}": strike(makes="a payment", says=bytes, end=end, twist=twist)
        for name, twist in (
            ("rejected", Twist.INSUFFICIENT),
            ("refused key", Twist.KEY_REFUSED),
            ("throttled", Twist.THROTTLE),
            ("another foreign_id", Twist.OTHER_FOREIGN_ID),
            ("another amount", Twist.OTHER_AMOUNT),
        )
        for end in _ENDS
    },
    "accepted, byte by byte": Fault(on_line=_byte_by_byte),
    "rejected, cut": strike(makes="a payment", says=lambda reply: reply[:-5], end="close", twist=Twist.INSUFFICIENT),
    "throttled, cut": strike(makes="a payment", says=lambda reply: reply[:-5], end="close", twist=Twist.THROTTLE),
    "throttled, a page": strike(says=_says(spelt(page(429))), end="keep"),
}


FAULTS: Mapping[Phase, Mapping[str, Fault]] = {
    "name": _NAME,
    "connect": _CONNECT,
    "TLS": _TLS,
    "idle connection": _IDLE,
    "request's head": _HEADERS,
    "request's body": _BODY,
    "wait": _WAIT,
    "reply's head": _HEAD,
    "reply's body": _REPLYS_BODY,
    "reply": _REPLY,
    "reply without a word, not paid": {name: _answered(says, "nothing") for name, says in _WITHOUT_A_WORD.items()},
    "reply without a word, paid": {name: _answered(says, "a payment") for name, says in _WITHOUT_A_WORD.items()},
}
"""Every fault, by its phase and its name."""
