"""What each fault does on the wire."""

from __future__ import annotations

import json
from email.utils import parsedate_to_datetime

import pytest

from alphapo_async.sandbox.answers import HttpAnswer
from alphapo_async.sandbox.dialects import Dialect
from alphapo_async.sandbox.edge import PLAIN, Way, behaviour, half, throttled
from alphapo_async.sandbox.faults import Fault


def test_no_fault_is_plain() -> None:
    """The body is processed and the right answer given."""
    assert behaviour(None, Dialect(), 1.0, 0.0) is PLAIN


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault not in {Fault.LATE, Fault.OTHER_FOREIGN_ID}])
def test_what_a_fault_says_of_itself_is_done(fault: Fault) -> None:
    """The body is processed unless the fault says that it is not."""
    acting = behaviour(fault, Dialect(), 1.0, 0.0)
    assert acting.processed is (fault.accepts is not False)
    # What is not processed has something to say instead, or says nothing at all.
    assert acting.processed or acting.instead or acting.way in {Way.RESET, Way.STALL}


def test_the_server_itself_handles_late_bodies_and_lies() -> None:
    """Neither is processed when it arrives."""
    for fault, way in ((Fault.LATE, Way.STALL), (Fault.OTHER_FOREIGN_ID, Way.ANSWER)):
        acting = behaviour(fault, Dialect(), 1.0, 0.0)
        assert (acting.processed, acting.way, acting.instead) == (False, way, None)


@pytest.mark.parametrize(
    ("fault", "status", "content_type"),
    [
        (Fault.HTML_200_AFTER, 200, "text/html; charset=UTF-8"),
        (Fault.HTML_520_BEFORE, 520, "text/html; charset=UTF-8"),
        (Fault.GARBAGE, 200, "application/json"),
        (Fault.EMPTY_200_AFTER, 200, "application/json"),
        (Fault.UNAUTHORIZED, 401, "application/json"),
        (Fault.REDIRECT_307, 307, "text/html; charset=UTF-8"),
        (Fault.INSUFFICIENT, 422, "application/json"),
        (Fault.THROTTLE, 429, "text/plain"),
    ],
)
def test_answers_from_the_edge(fault: Fault, status: int, content_type: str) -> None:
    """Pages are pages, JSON is JSON."""
    instead = behaviour(fault, Dialect(), 1.0, 0.0).instead
    assert instead is not None
    assert (instead.status, instead.content_type) == (status, content_type)


def test_throttling_asks_for_a_pause_in_its_dialect() -> None:
    """As seconds, as a date, or not at all; in JSON or not."""
    assert throttled(Dialect(throttling="bare"), 1.0, 0.0).headers == {}
    assert throttled(Dialect(throttling="seconds"), 0.2, 0.0).headers == {"Retry-After": "1"}
    assert throttled(Dialect(throttling="seconds"), 0.0, 0.0).headers == {"Retry-After": "0"}
    date = throttled(Dialect(throttling="date"), 30.0, 1_000_000.0).headers["Retry-After"]
    assert parsedate_to_datetime(date).timestamp() == 1_000_030
    assert json.loads(throttled(Dialect(throttle_body="json"), 1.0, 0.0).body)["code"] == "too_many_requests"
    with pytest.raises(ValueError, match="delimiter"):
        json.loads(throttled(Dialect(), 1.0, 0.0).body)


def test_half_an_answer_breaks_off() -> None:
    """The headers promise more than comes."""
    assert half(HttpAnswer(201, b"12345678")) == (
        b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 8\r\n\r\n1234"
    )
