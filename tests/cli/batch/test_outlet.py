"""What a batch says when nobody listens any more."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TextIO

import pytest

from alphapo_async.cli.batch.outlet import Outlet, aside, echo


@contextmanager
def broken_pipe() -> Iterator[TextIO]:
    """Give a stream whose other end is closed."""
    end, start = os.pipe()
    os.close(end)
    with open(start, "w", encoding="latin-1") as stream:  # noqa: PTH123 - a number, no path
        yield stream


def test_as_long_as_somebody_reads_it_is_the_stream() -> None:
    """It is asked for what kind it is, and takes what is written."""
    taken = io.BytesIO()
    stream = io.TextIOWrapper(taken, encoding="ascii")
    outlet = Outlet(stream)
    assert outlet.write("told") == 4
    outlet.flush()
    assert taken.getvalue() == b"told"
    assert (outlet.encoding, outlet.isatty()) == ("ascii", False)
    assert repr(outlet).startswith("Outlet(<_io.TextIOWrapper")
    with broken_pipe() as pipe:
        assert Outlet(pipe).fileno() == pipe.fileno()


def test_once_nobody_reads_that_is_said_once_and_everything_is_taken() -> None:
    """What was buffered goes nowhere, so that the process ends as it would have."""
    said: list[str] = []
    with broken_pipe() as stream:
        outlet = Outlet(stream, said.append)
        for _ in range(3):
            assert outlet.write("told") == 4
            outlet.flush()
        stream.flush()
    assert said == ["The output is read no more (Broken pipe): going on without it."]
    assert (outlet.encoding, outlet.isatty()) == ("utf-8", False)
    with pytest.raises(io.UnsupportedOperation):
        outlet.fileno()


def test_a_process_without_standard_output_says_nothing_and_goes_on() -> None:
    """It may have been started so."""
    outlet = Outlet(None)
    assert outlet.write("told") == 4
    outlet.flush()


def test_what_is_said_aside_may_be_heard_or_not(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On standard error, without characters that could steer a terminal."""
    aside("told\x1b")
    assert capsys.readouterr().err == "told\\x1b\n"
    with broken_pipe() as stream:
        monkeypatch.setattr(sys, "stderr", stream)
        aside("told")
        os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@pytest.mark.parametrize("err", [False, True])
def test_a_line_that_cannot_be_printed_ends_nothing(monkeypatch: pytest.MonkeyPatch, *, err: bool) -> None:
    """The pipe may be closed, or the stream; what happened before has happened, and the exit code says it."""
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, io.StringIO())
    with broken_pipe() as stream:
        monkeypatch.setattr(sys, "stderr" if err else "stdout", stream)
        echo("paid", err=err)
        stream.flush()
    echo("paid", err=err)


def test_a_text_that_the_stream_cannot_write_ends_nothing() -> None:
    """A strict encoding has no letter for it."""
    said: list[str] = []
    outlet = Outlet(io.TextIOWrapper(io.BytesIO(), encoding="ascii"), said.append)
    assert outlet.write("pay\u00e9") == 4
    assert said == ["The output is read no more (UnicodeEncodeError): going on without it."]
