"""A temporary database on disk, so that the memory of a command does not grow with its input."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from typing import Any, Final

from alphapo_async.core.errors import AlphapoError

__all__ = ["Scratch", "ScratchError"]

_CACHE: Final = "pragma cache_size = -16384"  # KiB of memory, however many rows there are


class ScratchError(AlphapoError):
    """The temporary database cannot be used any more: its disk is full, for example."""


@contextlib.contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except sqlite3.DatabaseError as error:
        if type(error) not in (sqlite3.OperationalError, sqlite3.DatabaseError):
            raise  # a programming error
        raise ScratchError(
            f"A temporary file cannot be used ({error}): make room for temporary files, or name another folder in SQLITE_TMPDIR, then run "
            "the same command again. What was sent is in the journal."
        ) from None


class Scratch:
    """A nameless database that is removed when it is closed.

    Args:
        tables: statements that make its tables, each ended by `;` and a line end.
    """

    def __init__(self, tables: str) -> None:
        self._connection = sqlite3.connect("", isolation_level=None)
        for statement in ("pragma journal_mode = off", "pragma synchronous = off", _CACHE, *tables.split(";\n")):
            self._connection.execute(statement)
        self._connection.execute("begin")

    def __repr__(self) -> str:
        return "Scratch()"

    def run(self, statement: str, *values: object) -> int:
        """Run a statement; return how many rows it changed.

        Raises:
            ScratchError: it cannot be run.
        """
        with _explained():
            return self._connection.execute(statement, values).rowcount

    def first(self, statement: str, *values: object) -> Any:
        """Return the first row of a query; None if there is none.

        Raises:
            ScratchError: it cannot be run.
        """
        with _explained():
            return self._connection.execute(statement, values).fetchone()

    def each(self, statement: str, *values: object) -> Iterator[Any]:
        """Yield the rows of a query, read one by one.

        Raises:
            ScratchError: it cannot be run.
        """
        with _explained():
            yield from self._connection.execute(statement, values)

    def close(self) -> None:
        """Close the database; its file is removed."""
        self._connection.close()
