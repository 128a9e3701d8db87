"""What a batch says, where perhaps nobody listens any more: that must not end it, nor change how it ends."""

from __future__ import annotations

import contextlib
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TextIO

import click

from alphapo_async.cli.output import clean

__all__ = ["Outlet", "aside", "echo"]


def echo(text: str, *, err: bool = False) -> None:
    """Print a line; a stream that is read no more, or cannot write it, changes neither what happened nor the exit code."""
    stream = sys.stderr if err else sys.stdout
    try:
        click.echo(clean(text), err=err)
    except (OSError, ValueError):  # closed, full, or another encoding
        _divert(stream)


def aside(text: str) -> None:
    """Print a line on standard error, as `echo` does."""
    echo(text, err=True)


class Outlet:
    """A stream that takes everything, also after its other end has gone.

    Args:
        stream: where it goes; None if there is none.
        warn: called once with a sentence when the stream takes no more.
    """

    def __init__(self, stream: TextIO | None, warn: Callable[[str], None] = aside) -> None:
        self._stream = stream
        self._warn = warn

    def __repr__(self) -> str:
        return f"Outlet({self._stream!r})"

    @property
    def encoding(self) -> str:
        """The stream's."""
        return "utf-8" if self._stream is None else self._stream.encoding

    def isatty(self) -> bool:
        """Tell whether it is a terminal."""
        return self._stream is not None and self._stream.isatty()

    def fileno(self) -> int:
        """Return the stream's number.

        Raises:
            OSError: it has none.
        """
        if self._stream is None:
            raise io.UnsupportedOperation
        return self._stream.fileno()

    def write(self, text: str) -> int:
        """Write it, as long as anybody reads it."""
        self._try(lambda stream: stream.write(text))
        return len(text)

    def flush(self) -> None:
        """Have it on its way."""
        self._try(lambda stream: stream.flush())

    def _try(self, use: Callable[[TextIO], object]) -> None:
        if self._stream is None:
            return
        try:
            use(self._stream)
        except (OSError, ValueError) as error:  # closed, full, or another encoding
            stream, self._stream = self._stream, None
            _divert(stream)
            why = error.strerror if isinstance(error, OSError) else type(error).__name__
            self._warn(f"The output is read no more ({why}): going on without it.")


def _divert(stream: TextIO) -> None:
    """Let what is still buffered go nowhere: at the end of the process it would fail again, and change the exit code."""
    with contextlib.suppress(OSError, ValueError), Path(os.devnull).open("wb") as nowhere:
        os.dup2(nowhere.fileno(), stream.fileno())
