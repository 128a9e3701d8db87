"""The results file: one line per row, whole lines only, written as rows finish.

Every run writes the file from the start: the journal has the outcomes of earlier runs, so that the file of a finished run is complete.
"""

from __future__ import annotations

import contextlib
import csv
import errno
import fcntl
import io
import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from alphapo_async.cli.messages import row_message
from alphapo_async.cli.output import clean, fees_text, txids_text
from alphapo_async.core.errors import AlphapoError, ConfigurationError, InvalidRequest, WithdrawalNotSent
from alphapo_async.core.models import Transaction
from alphapo_async.core.results import BatchResult

__all__ = ["COLUMNS", "NOT_TRIED", "ResultsError", "ResultsFile", "cells_of", "invalid_cells", "not_tried_cells"]

COLUMNS: Final = ("foreign_id", "outcome", "id", "status", "error", "line", "txids", "fees")
"""`txids` and `fees` are filled once AlphaPo shows them: in a run with --follow, or in a later one."""
NOT_TRIED: Final = "not_tried"
"""Stands in the column `outcome` of a row that a run which ended early did not reach."""
_LONGEST: Final = 2_000  # characters of what is wrong
_SHOWN: Final = 100  # characters of a foreign_id that may be anything


class ResultsError(AlphapoError):
    """The results file cannot be written any more. What was paid is in the journal."""


class ResultsFile:
    """A results file, locked by one process at a time. Its earlier content stays until `begin`.

    Args:
        path: of the file; created if it does not exist.
        is_ours: returns whether a foreign_id is one of this batch.

    Raises:
        ConfigurationError: the file belongs to another batch, is not a results file, is in use, or cannot be written.
    """

    def __init__(self, path: Path, is_ours: Callable[[str], bool]) -> None:
        self._path = path
        try:
            self._file, self._is_unused = _opened(path)
        except OSError as error:
            raise ConfigurationError(
                f"The results file {path} cannot be written: {error.strerror}. Nothing was sent."
            ) from None
        try:
            self._take(is_ours)
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
        with contextlib.suppress(OSError):
            # Made for a run that never began; another run may have written it before this one had the lock.
            if self._is_unused and not os.fstat(self._file).st_size:
                self._path.unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # `finish` has seen to it that all is on the disk
            os.close(self._file)

    def _take(self, is_ours: Callable[[str], bool]) -> None:
        if not stat.S_ISREG(os.fstat(self._file).st_mode):  # a pipe would be waited for, and a device has no end
            raise ConfigurationError(
                f"The results file {self._path} is not a regular file: name another one with --results. Nothing was sent."
            )
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise ConfigurationError(
                f"Another process is writing {self._path}: wait for it, or name another file with --results. Nothing was sent."
            ) from None
        self._check(is_ours)
        if not self._is_in_place():
            raise ConfigurationError(
                f"Another process has removed {self._path} meanwhile: run the same command again. Nothing was sent."
            )

    def _is_in_place(self) -> bool:
        """Return whether the path still leads to the locked file, and no run before this one has removed it."""
        try:
            return os.path.samestat(os.fstat(self._file), self._path.stat())
        except FileNotFoundError:
            return False

    def begin(self) -> None:
        """Write the file from the start.

        Raises:
            ConfigurationError: it cannot be written.
        """
        try:
            os.ftruncate(self._file, 0)
            os.lseek(self._file, 0, os.SEEK_SET)
            self._append(COLUMNS)
        except OSError as error:
            raise ConfigurationError(
                f"The results file {self._path} cannot be written: {error.strerror}. Nothing was sent."
            ) from None
        self._is_unused = False

    def _check(self, is_ours: Callable[[str], bool]) -> None:
        """Pass if the file is empty, or has results of this batch."""
        head = ",".join(COLUMNS).encode()
        if head.startswith(os.pread(self._file, len(head) + 1, 0)):
            return  # no more than a header, or what a crash left of one
        with open(self._file, encoding="utf-8", newline="", closefd=False, errors="replace") as stream:
            lines = csv.reader(stream)
            try:
                header = next(lines, None)
                if header != list(COLUMNS):
                    raise self._refused("is not a results file of `alphapo batch`")
                if (stranger := _stranger(lines, is_ours)) is not None:
                    raise self._refused(
                        f"holds the result of foreign_id {stranger[:_SHOWN]!r}, which the rows to be paid do not have",
                        "If that row was taken out of the input because its funds were released, leave it out, and move these results "
                        "away; if by mistake, put it back: what was paid is not paid again. If these results are another batch's, ",
                    )
            except csv.Error:
                raise self._refused("is not a results file of `alphapo batch`") from None

    def _refused(self, what: str, advice: str = "") -> ConfigurationError:
        begin = f"{self._path} {what}, and would be overwritten{'. ' if advice else ': '}"
        return ConfigurationError(f"{begin}{advice}name another file with --results. Nothing was sent.")

    def write(self, cells: Sequence[str]) -> None:
        """Write one whole line.

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
            f"The results file {self._path} cannot be written ({error.strerror}), so no more rows were taken. What was sent is in the "
            "journal: make the file writable, then run the same command again. It continues from there and pays nothing twice."
        )

    def finish(self) -> None:
        """Flush the file to the disk.

        Raises:
            ResultsError: it could not be flushed.
        """
        try:
            os.fsync(self._file)
        except OSError as error:
            raise self._failed(error) from None


def _opened(path: Path) -> tuple[int, bool]:
    """Return the descriptor of the file, and whether the file was made for it."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    try:
        return os.open(path, flags | os.O_EXCL, 0o600), True
    except FileExistsError:
        return os.open(path, flags, 0o600), False


def _stranger(lines: Iterable[Sequence[str]], is_ours: Callable[[str], bool]) -> str | None:
    """Return a foreign_id that shows that the lines belong to another batch; None if no line does."""
    invalid: str | None = None
    has_ours = False
    for line in lines:
        if len(line) != len(COLUMNS):  # the last one may have been cut
            continue
        if is_ours(line[0]):
            has_ours = True
        elif line[1] not in ("invalid", NOT_TRIED):
            return line[0]
        else:
            # A row that was invalid, or not tried, may have had any foreign_id, or none, and another one since; but not all of them.
            invalid = invalid or line[0]
    return None if has_ours else invalid or None


def cells_of(
    result: BatchResult, line: int, shown: Transaction | None = None, *, is_stopped: bool = False
) -> list[str]:
    """Return the cells of a row that was tried and begins on this line of the input.

    Args:
        result: of the row.
        line: its number.
        shown: what a look-up or a callback has shown of the withdrawal; None where nothing is known.
        is_stopped: the run was ending when the row finished, and the report gives the reason.
    """
    known = result.withdrawal or getattr(result.error, "transaction", None)
    identity, status = ("", "") if known is None else ("" if known.id is None else str(known.id), known.status or "")
    return [
        result.request.foreign_id,
        result.outcome,
        identity,
        status,
        _STOPPED if is_stopped and _ends_with_run(result.error) else _words(result.error),
        str(line),
        txids_text(shown),
        fees_text(shown),
    ]


_STOPPED: Final = (
    "Stopped before it was sent. No money moved. Run the same command again to pay it, or release the funds."
)
_RUN_ENDS: Final = ("closed", "no connection", "outage", "queue", "throttled")
"""Reasons why a row is not sent that are those of the whole run."""


def _ends_with_run(error: AlphapoError | None) -> bool:
    return isinstance(error, WithdrawalNotSent) and error.reason in _RUN_ENDS


def not_tried_cells(line: int, foreign_id: object) -> list[str]:
    """Return the cells of a row that the run did not reach."""
    text = "Not tried: the run ended before this row. Run the same command again. An earlier run may have paid it."
    return [_named(foreign_id), NOT_TRIED, "", "", text, str(line), "", ""]


def _words(error: AlphapoError | None) -> str:
    if isinstance(error, InvalidRequest):
        return _listed(error.problems)
    return "" if error is None else row_message(error)


def invalid_cells(line: int, foreign_id: object, problems: Mapping[str, str]) -> list[str]:
    """Return the cells of a row that was never tried, with every problem."""
    return [_named(foreign_id), "invalid", "", "", _cut(_listed(problems)), str(line), "", ""]


def _named(foreign_id: object) -> str:
    """Return the foreign_id of a row as text; JSON's null is an absent one."""
    return "" if foreign_id is None else _cut(str(foreign_id))


def _cut(text: str) -> str:
    """Return the text, shortened: a wrong cell may have any length."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"


def _listed(problems: Mapping[str, str]) -> str:
    return " ".join(f"{field} {text}" for field, text in problems.items())
