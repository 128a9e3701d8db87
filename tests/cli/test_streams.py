"""Standard output and standard error that never fail."""

from __future__ import annotations

import io
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

import click
import pytest
from click.testing import CliRunner

from alphapo_async.cli.streams import survive_lost_output, unfailing_output


@contextmanager
def broken_pipe() -> Iterator[TextIO]:
    """Give a stream whose other end is closed."""
    end, start = os.pipe()
    os.close(end)
    with open(start, "w", encoding="ascii", errors="backslashreplace") as stream:  # noqa: PTH123 - a number, no path
        yield stream


def test_what_can_be_written_arrives_in_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also what was buffered before, in the stream's encoding; afterwards the streams are the old ones."""
    with (tmp_path / "out").open("w", encoding="ascii", errors="backslashreplace") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        stream.write("one ")
        with unfailing_output():
            assert sys.stdout is not stream
            assert (sys.stdout.encoding, sys.stdout.isatty(), sys.stdout.fileno()) == ("ascii", False, stream.fileno())
            print("two \u00e9")  # noqa: T201 - as any library may
        assert sys.stdout is stream
        stream.write("three")
    assert (tmp_path / "out").read_text(encoding="ascii") == "one two \\xe9\nthree"


def test_a_lost_output_is_reported_once_and_everything_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the process flushes at its end goes nowhere, so that it ends as it would have."""
    with broken_pipe() as stream, (tmp_path / "err").open("w", encoding="utf-8") as errors:
        monkeypatch.setattr(sys, "stdout", stream)
        monkeypatch.setattr(sys, "stderr", errors)
        with unfailing_output():
            for _ in range(3):
                click.echo("paid")
        stream.write("left in the buffer")
        stream.flush()
    said = (tmp_path / "err").read_text(encoding="utf-8")
    assert said == "Standard output cannot be written any more (Broken pipe): continuing without it.\n"


def test_a_full_disk_and_a_lost_standard_error_end_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing is left to report to."""
    with open("/dev/full", "w", encoding="utf-8") as full, broken_pipe() as errors:  # noqa: PTH123 - a device
        monkeypatch.setattr(sys, "stdout", full)
        monkeypatch.setattr(sys, "stderr", errors)
        with unfailing_output():
            click.echo("paid")
            click.echo("paid", err=True)


def test_a_terminal_that_does_not_block_loses_what_it_cannot_take(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program may have set it so."""
    end, start = os.pipe()
    os.set_blocking(start, False)
    with open(start, "w", encoding="utf-8") as stream:  # noqa: PTH123 - a number, no path
        monkeypatch.setattr(sys, "stdout", stream)
        with unfailing_output():
            for _ in range(3):
                click.echo("x" * 100_000)
    os.close(end)


@pytest.mark.parametrize("stream", [None, io.StringIO()])
def test_a_stream_without_a_descriptor_stays(monkeypatch: pytest.MonkeyPatch, stream: TextIO | None) -> None:
    """A process may have been started without standard output; a test replaces it."""
    monkeypatch.setattr(sys, "stdout", stream)
    with unfailing_output():
        assert sys.stdout is stream
        click.echo("paid")


def test_a_command_keeps_its_streams_until_its_errors_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The group that shows them runs around the command."""
    seen: list[bool] = []

    class Group(click.Group):
        def invoke(self, ctx: click.Context) -> None:
            super().invoke(ctx)
            seen.append(sys.stdout is stream)

    @click.group(cls=Group)
    def group() -> None:
        """Hold the command."""

    @group.command()
    def pay() -> None:
        survive_lost_output()
        seen.append(sys.stdout is stream)

    with (tmp_path / "out").open("w", encoding="utf-8") as stream:
        monkeypatch.setattr(sys, "stdout", stream)
        group.main(["pay"], standalone_mode=False)
        assert (seen, sys.stdout is stream) == ([False, False], True)
    assert CliRunner().invoke(group, ["pay"]).exit_code == 0
