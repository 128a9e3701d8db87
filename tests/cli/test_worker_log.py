"""The worker's log: one line for each record, with time, level and the event's fields."""

from __future__ import annotations

import json
import logging
import re

import pytest

from alphapo_async.cli.error_log import errors_shown
from alphapo_async.cli.worker_log import worker_log
from alphapo_async.engine.observer import Observer

TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z"


def test_text_has_time_level_and_one_fact_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """Errors are not printed a second time on standard error; a line end in a message is escaped."""
    observer = Observer("shop", None, lambda: 42.5, "https://alphapo.example")
    with errors_shown(), worker_log("text"):
        observer.on_outage(has_begun=False)
        observer.on_journal_failed("The disk\nis gone.")
        logging.getLogger("alphapo_async").debug("not shown")
        logging.getLogger("other").info("not shown")
        logging.getLogger("other").warning("shown")
    shown = capsys.readouterr()
    lines = [re.sub(f"^{TIME} ", "", line) for line in shown.out.splitlines()]
    assert lines == [
        "INFO outage ended https://alphapo.example answers again",
        "ERROR journal failed The disk\\nis gone.",
        "WARNING shown",
    ]
    assert all(re.match(TIME, line) for line in shown.out.splitlines())
    assert shown.err == ""


def test_json_has_the_fields_of_the_event(capsys: pytest.CaptureFixture[str]) -> None:
    """Fields without a value are left out; a record without an event has its message."""
    observer = Observer("shop", None, lambda: 42.5, "https://alphapo.example")
    with worker_log("json"):
        observer.key_changed("fingerprint-0001", "bad_header_key")
        logging.getLogger("asyncio").warning("slow")
    refused, slow = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert re.fullmatch(TIME, refused.pop("time"))
    assert refused.pop("message").startswith("key refused bad_header_key AlphaPo does not accept the key")
    assert refused == {
        "level": "ERROR",
        "logger": "alphapo_async",
        "event": "key refused",
        "account": "shop",
        "code": "bad_header_key",
        "reason": "bad_header_key",
        "attempts": 0,
        "look_ups": 0,
        "base_url": "https://alphapo.example",
        "key_fingerprint": "fingerprint-0001",
    }
    assert (slow["level"], slow["logger"], slow["message"]) == ("WARNING", "asyncio", "slow")


def test_rows_of_a_refused_key_have_no_lines(capsys: pytest.CaptureFixture[str]) -> None:
    """The event `key refused` reports the key once for all of them."""
    logger = logging.getLogger("alphapo_async")
    with worker_log("text"):
        logger.warning("unknown payout-17", extra={"event": "unknown", "reason": "key refused"})
        logger.warning("unknown payout-18", extra={"event": "unknown", "reason": "HTTP 502"})
    assert "payout-17" not in (shown := capsys.readouterr().out)
    assert "payout-18" in shown


def test_afterwards_the_loggers_are_as_before() -> None:
    """Also where the block fails."""
    root, library = logging.getLogger(), logging.getLogger("alphapo_async")
    with errors_shown():
        before = list(root.handlers), list(library.handlers), library.level
        with pytest.raises(ZeroDivisionError), worker_log("text"):
            raise ZeroDivisionError
        assert (root.handlers, library.handlers, library.level) == before
