"""Errors of the library's log on standard error, since a command has no other log."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import click

from alphapo_async.cli.output import clean

__all__ = ["ErrorHandler", "errors_shown"]


class ErrorHandler(logging.Handler):
    """Prints records on standard error, line by line."""

    def emit(self, record: logging.LogRecord) -> None:
        """Print a record."""
        for line in self.format(record).splitlines():
            click.echo(clean(line), err=True)


@contextlib.contextmanager
def errors_shown() -> Iterator[None]:
    """Print what the library logs as an error while the block runs."""
    logger, handler = logging.getLogger("alphapo_async"), ErrorHandler(logging.ERROR)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
