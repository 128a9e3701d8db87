"""What each fault does on the wire: whether the body is processed, how the connection continues, and what is answered instead."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from email.utils import formatdate
from http import HTTPStatus
from types import MappingProxyType

import msgspec

from alphapo_async.sandbox.answers import HttpAnswer, not_let_in, refused, textual
from alphapo_async.sandbox.checks import BAD_KEY
from alphapo_async.sandbox.dialects import Dialect
from alphapo_async.sandbox.faults import Fault
from alphapo_async.sandbox.rules import insufficient_refusal

__all__ = ["PLAIN", "Behaviour", "Way", "behaviour", "half", "throttled"]


class Way(enum.Enum):
    """How the connection continues after the request."""

    ANSWER = "answer"
    SLOW = "slow"
    RESET = "reset"
    STALL = "stall"
    CUT = "cut"
    CLOSE = "close"


class Behaviour(msgspec.Struct, frozen=True):
    """What a fault makes of one request."""

    processed: bool
    way: Way
    instead: HttpAnswer | None = None
    """What is answered in place of what the rules say."""


PLAIN = Behaviour(processed=True, way=Way.ANSWER)
"""No fault."""

_HTML = "text/html; charset=UTF-8"


def _page(status: int, title: str) -> HttpAnswer:
    body = f"<!DOCTYPE html><html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>"
    return HttpAnswer(status, body.encode(), _HTML)


def _redirect(status: int) -> HttpAnswer:
    # To the same path: a client that follows it posts again, and the ledger shows it.
    return HttpAnswer(status, b"", _HTML, {"Location": "/api/v2/withdrawal/crypto"})


_SERVER_ERROR = textual(500, "Internal server error", "internal_error")

_WAYS = {
    Fault.RESET_BEFORE: Way.RESET,
    Fault.RESET_AFTER: Way.RESET,
    Fault.STALL_BEFORE: Way.STALL,
    Fault.STALL_AFTER: Way.STALL,
    Fault.LATE: Way.STALL,
    Fault.SLOW: Way.SLOW,
    Fault.CUT_BODY: Way.CUT,
    Fault.CLOSE_KEEPALIVE: Way.CLOSE,
}
_INSTEAD = {
    Fault.GARBAGE: HttpAnswer(200, b"\x00\x8f<<not json>>{", "application/json"),
    Fault.HTML_200_BEFORE: _page(200, "Just a moment..."),
    Fault.HTML_200_AFTER: _page(200, "Just a moment..."),
    Fault.HTML_502_BEFORE: _page(502, "502 Bad Gateway"),
    Fault.HTML_502_AFTER: _page(502, "502 Bad Gateway"),
    Fault.HTML_503_BEFORE: _page(503, "503 Service Temporarily Unavailable"),
    Fault.HTML_520_BEFORE: _page(520, "520: Web server is returning an unknown error"),
    Fault.EMPTY_200_AFTER: HttpAnswer(200, b""),
    Fault.ERROR_500_BEFORE: _SERVER_ERROR,
    Fault.ERROR_500_AFTER: _SERVER_ERROR,
    Fault.REDIRECT_302: _redirect(302),
    Fault.REDIRECT_307: _redirect(307),
    Fault.FORBIDDEN_HTML: _page(403, "Access denied"),
    Fault.UNAUTHORIZED: textual(401, "Unauthorized", "unauthorized"),
    Fault.NOT_FOUND_HTML: _page(404, "404 Not Found"),
    Fault.TIMEOUT_408: _page(408, "408 Request Time-out"),
    Fault.KEY_REFUSED: not_let_in(BAD_KEY),
    Fault.UNKNOWN_CODE: textual(403, "Something else", "something_else"),
}

# The processing of a late body, and the two replies that need to know what was asked, are the server's.
_OF_THE_SERVER = {Fault.LATE, Fault.OTHER_FOREIGN_ID}


def _behaviour(fault: Fault) -> Behaviour:
    processed = fault.accepts is not False and fault not in _OF_THE_SERVER
    return Behaviour(processed, _WAYS.get(fault, Way.ANSWER), _INSTEAD.get(fault))


_BEHAVIOURS: Mapping[Fault, Behaviour] = MappingProxyType({fault: _behaviour(fault) for fault in Fault})


def behaviour(fault: Fault | None, dialect: Dialect, throttle_seconds: float, now: float) -> Behaviour:
    """Return what a fault, or none, makes of a request.

    Args:
        fault: what strikes.
        dialect: how AlphaPo would say it.
        throttle_seconds: the pause that a 429 asks for.
        now: seconds since the epoch, for a Retry-After that is a date.
    """
    if fault is None:
        return PLAIN
    if fault is Fault.THROTTLE:
        return Behaviour(processed=False, way=Way.ANSWER, instead=throttled(dialect, throttle_seconds, now))
    if fault is Fault.INSUFFICIENT:
        return Behaviour(processed=False, way=Way.ANSWER, instead=refused(insufficient_refusal(), dialect))
    return _BEHAVIOURS[fault]


def throttled(dialect: Dialect, seconds: float, now: float) -> HttpAnswer:
    """Return a 429: its form is documented for one other endpoint only, without headers (exchange/calculate, code 1015)."""
    headers: dict[str, str] = {}
    if dialect.throttling == "seconds":
        headers["Retry-After"] = f"{max(1, round(seconds))}" if seconds else "0"
    elif dialect.throttling == "date":
        headers["Retry-After"] = formatdate(now + seconds, usegmt=True)
    if dialect.throttle_body == "json":
        answer = textual(429, "Too many requests", "too_many_requests")
        return HttpAnswer(429, answer.body, headers=headers)
    return HttpAnswer(429, b'{"errors": {"error code: 1015"}}', "text/plain", headers)


def half(answer: HttpAnswer) -> bytes:
    """Return the bytes of a reply that breaks off in the middle of its body."""
    lines = [
        f"HTTP/1.1 {answer.status} {HTTPStatus(answer.status).phrase}",
        f"Content-Type: {answer.content_type}",
        f"Content-Length: {len(answer.body)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + answer.body[: len(answer.body) // 2]
