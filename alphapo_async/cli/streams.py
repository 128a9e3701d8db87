"""Standard output and standard error whose writes never fail, for commands that move money or change the journal.

A closed pipe or a full disk while such a command reports must change neither an outcome nor the exit code. What cannot be written is
dropped. Other commands keep the usual streams: `alphapo journal export` must end where its output cannot be written.
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TextIO

import click

__all__ = ["survive_lost_output", "unfailing_output"]


def survive_lost_output() -> None:
    """Give the command that runs streams that never fail, until its errors have been shown, too."""
    click.get_current_context().find_root().with_resource(unfailing_output())


@contextlib.contextmanager
def unfailing_output() -> Iterator[None]:
    """Replace `sys.stdout` and `sys.stderr` while the block runs; standard error reports once that standard output is lost."""
    before = sys.stdout, sys.stderr
    sys.stdout = _unfailing(sys.stdout, lambda text: click.echo(text, err=True))
    sys.stderr = _unfailing(sys.stderr, lambda _: None)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def _unfailing(stream: TextIO, warn: Callable[[str], None]) -> TextIO:
    """Return the stream made unfailing; a stream without a descriptor, or none at all, is returned as it is."""
    try:
        descriptor = stream.fileno()
    except (AttributeError, OSError):
        return stream
    stream.flush()
    buffer = io.BufferedWriter(_Unfailing(descriptor, warn))
    return io.TextIOWrapper(buffer, encoding=stream.encoding, errors=stream.errors, line_buffering=True)


class _Unfailing(io.FileIO):
    """A descriptor that takes every write; after the first one that fails, all go nowhere."""

    def __init__(self, descriptor: int, warn: Callable[[str], None]) -> None:
        super().__init__(descriptor, "wb", closefd=False)
        self._warn = warn

    def write(self, data: Any, /) -> int:
        size = memoryview(data).nbytes
        try:
            written: int | None = super().write(data)
        except OSError as error:
            # The descriptor itself leads nowhere from now on: what the interpreter flushes at its end must not fail either.
            with contextlib.suppress(OSError), Path(os.devnull).open("wb") as nowhere:
                os.dup2(nowhere.fileno(), self.fileno())
            self._warn(f"Standard output cannot be written any more ({error.strerror}): continuing without it.")
            return size
        return size if written is None else written  # None: a terminal that is full and does not block
