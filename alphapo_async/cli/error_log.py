"""Errors of the library's log on standard error, since a command has no other log."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from alphapo_async.cli.output import echo

__all__ = ["ErrorHandler", "errors_shown"]


class ErrorHandler(logging.Handler):
    """Prints records on standard error, line by line."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Return whether the record is shown: a refused key is reported by the command itself."""
        return getattr(record, "event", None) != "key refused"

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        for line in self.format(record).splitlines():
            echo(line, err=True)


@contextlib.contextmanager
def errors_shown() -> Iterator[None]:
    """Print what the library logs as an error while the block runs."""
    logger, handler = logging.getLogger("alphapo_async"), ErrorHandler(logging.ERROR)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
