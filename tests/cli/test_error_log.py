"""Errors of the library's log, where a command is typed."""

from __future__ import annotations

import logging

import pytest

from alphapo_async.cli.error_log import errors_shown

logger = logging.getLogger("alphapo_async")


def test_errors_are_said_and_nothing_less(capsys: pytest.CaptureFixture[str]) -> None:
    """Line by line, with nothing in them that could steer a terminal."""
    with errors_shown():
        logger.warning("an outage began")
        logger.error("error %s\n%s", "payout-17", "  File \x1b[2J")
    assert capsys.readouterr().err == "error payout-17\n  File \\x1b[2J\n"


def test_a_refused_key_is_left_to_the_command(capsys: pytest.CaptureFixture[str]) -> None:
    """The command reports it with what to do; the log's line would repeat that."""
    with errors_shown():
        logger.error("key refused", extra={"event": "key refused"})
        logger.error("contradiction", extra={"event": "contradiction"})
    assert capsys.readouterr().err == "contradiction\n"


def test_afterwards_nothing_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    """The handler goes with the command, also where that fails."""
    before = list(logger.handlers)
    with pytest.raises(ZeroDivisionError), errors_shown():
        raise ZeroDivisionError
    logger.error("too late")
    assert logger.handlers == before
    assert capsys.readouterr().err == ""
