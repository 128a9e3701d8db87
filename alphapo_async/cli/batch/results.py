"""The results file: one line a row, whole lines only, written as rows are told.

Every run writes it anew: what is settled is told by the journal, so that the file of a finished run is complete, whatever happened to
the runs before it.
"""

from __future__ import annotations

import csv
import errno
import fcntl
import io
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from alphapo_async.cli.showing import clean
from alphapo_async.core.errors import AlphapoError, ConfigurationError, InvalidRequest
from alphapo_async.core.results import BatchResult

__all__ = ["COLUMNS", "ResultsError", "ResultsFile", "cells_of", "invalid_cells"]

COLUMNS: Final = ("foreign_id", "outcome", "id", "status", "error")
_LONGEST: Final = 2_000  # characters of what is wrong


class ResultsError(AlphapoError):
    """The results file cannot be written any more; what was paid is in the journal."""


class ResultsFile:
    """A results file that is being written, by one process at a time.

    Args:
        path: where; made where there is none.
        is_ours: tells whether a foreign_id is one of this batch.

    Raises:
        ConfigurationError: it is another batch's results, or no results at all, or in use, or cannot be written.
    """

    def __init__(self, path: Path, is_ours: Callable[[str], bool]) -> None:
        self._path = path
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigurationError(
                f"The results file {path} cannot be written: {error.strerror}. Nothing was sent."
            ) from None
        try:
            self._take(is_ours)
        except OSError as error:
            os.close(self._file)
            raise ConfigurationError(
                f"The results file {path} cannot be written: {error.strerror}. Nothing was sent."
            ) from None
        except BaseException:
            os.close(self._file)
            raise

    def __repr__(self) -> str:
        return f"ResultsFile({str(self._path)!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.close(self._file)

    def _take(self, is_ours: Callable[[str], bool]) -> None:
        if not stat.S_ISREG(os.fstat(self._file).st_mode):  # a pipe would be waited for, and a device has no end
            raise ConfigurationError(
                f"The results file {self._path} is no ordinary file: name another one with --results. Nothing was sent."
            )
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
                f"Another process is writing {self._path}: wait for it, or name another file with --results. Nothing was sent."
            ) from None
        self._check(is_ours)
        os.ftruncate(self._file, 0)
        os.lseek(self._file, 0, os.SEEK_SET)
        self._append(COLUMNS)

    def _check(self, is_ours: Callable[[str], bool]) -> None:
        """Pass if there is nothing in the file yet, or this batch's results."""
        head = ",".join(COLUMNS).encode()
        if head.startswith(os.pread(self._file, len(head) + 1, 0)):
            return  # no more than a header, or what a crash left of one
        with open(self._file, encoding="utf-8", newline="", closefd=False, errors="replace") as stream:
            lines = csv.reader(stream)
            try:
                header = next(lines, None)
                if header != list(COLUMNS):
                    raise self._refused("is not a results file of `alphapo batch`")
                for line in lines:
                    # A row that was invalid may have had any foreign_id, or none; the last line may have been cut.
                    if len(line) == len(COLUMNS) and line[1] != "invalid" and not is_ours(line[0]):
                        raise self._refused(f"holds the results of another batch (such as {line[0]!r})")
            except csv.Error:
                raise self._refused("is not a results file of `alphapo batch`") from None

    def _refused(self, what: str) -> ConfigurationError:
        return ConfigurationError(
            f"{self._path} {what}, and would be overwritten: name another file with --results. Nothing was sent."
        )

    def write(self, cells: Sequence[str]) -> None:
        """Write one line, whole.

        Raises:
            ResultsError: it could not be written; the file ends with the line before.
        """
        try:
            self._append(cells)
        except OSError as error:
            raise self._failed(error) from None

    def _append(self, cells: Sequence[str]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow([clean(cell) for cell in cells])
        line = text.getvalue().encode()
        written = os.write(self._file, line)
        if written != len(line):
            os.ftruncate(self._file, os.lseek(self._file, -written, os.SEEK_CUR))
            raise OSError(errno.ENOSPC, "its disk is full")

    def _failed(self, error: OSError) -> ResultsError:
        return ResultsError(
            f"The results file {self._path} cannot be written ({error.strerror}), so nothing more was sent. What was sent is in the "
            "journal: once the file can be written, the same command goes on from there and pays nothing twice."
        )

    def finish(self) -> None:
        """Have it on the disk.

        Raises:
            ResultsError: the disk did not take all of it.
        """
        try:
            os.fsync(self._file)
        except OSError as error:
            raise self._failed(error) from None


def cells_of(result: BatchResult) -> list[str]:
    """Return the line of a row that was tried."""
    known = result.withdrawal
    identity, status = ("", "") if known is None else ("" if known.id is None else str(known.id), known.status or "")
    return [result.request.foreign_id, result.outcome, identity, status, _words(result.error)]


def _words(error: AlphapoError | None) -> str:
    if isinstance(error, InvalidRequest):
        return _listed(error.problems)
    return "" if error is None else str(error)


def invalid_cells(line: int, foreign_id: object, problems: Mapping[str, str]) -> list[str]:
    """Return the line of a row that was never tried: with the line on which it begins, and every problem."""
    return [_cut(str(foreign_id)), "invalid", "", "", f"line {line}: {_cut(_listed(problems))}"]


def _cut(text: str) -> str:
    """Return what a person can read: a wrong cell may hold anything, of any length."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _listed(problems: Mapping[str, str]) -> str:
    return " ".join(f"{field} {text}" for field, text in problems.items())
