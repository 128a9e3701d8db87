"""Errors of the library's log on standard error, since a command has no other log."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

import click

from alphapo_async.cli.output import clean

__all__ = ["complaints_heard"]


class _Complaints(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        for line in self.format(record).splitlines():
            click.echo(clean(line), err=True)


@contextlib.contextmanager
def complaints_heard() -> Iterator[None]:
    """Print what the library logs as an error while the block runs."""
    logger, handler = logging.getLogger("alphapo_async"), _Complaints(logging.ERROR)
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)
