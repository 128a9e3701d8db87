"""The report's file: it replaces only an earlier report, and is replaced as a whole."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path
from typing import Final

from alphapo_async.cli.batch.report import is_report
from alphapo_async.core.errors import ConfigurationError

__all__ = ["ReportFile"]

_LARGEST: Final = 10_000_000  # bytes: no report comes near it


class ReportFile:
    """Where a report will be written.

    Args:
        path: of the file; an existing file must be an earlier report.

    Raises:
        ConfigurationError: another file exists there, or none can be created.
    """

    def __init__(self, path: Path) -> None:
        self._name = path
        self._path = Path(os.path.realpath(path))  # a link stays, and its target is replaced
        self._part = self._path.with_name(f".{self._path.name}.{os.getpid()}")
        try:
            is_free = self._is_free()
            os.close(self._open())
            self._part.unlink()
        except OSError as error:
            raise ConfigurationError(
                f"The report {path} cannot be written: {error.strerror}. Nothing was sent."
            ) from None
        if not is_free:
            raise ConfigurationError(
                f"{path} is not a report of `alphapo batch`, and would be overwritten: name another file with --report. Nothing was sent."
            )

    def __repr__(self) -> str:
        return f"ReportFile({str(self._name)!r})"

    def _is_free(self) -> bool:
        """There is no file, or an empty one, or an earlier report."""
        try:
            found = self._path.stat()
        except FileNotFoundError:
            return True
        if not stat.S_ISREG(found.st_mode) or found.st_size > _LARGEST:
            return False
        with self._path.open("r+b") as file:
            text = file.read()
        return not text or is_report(text)

    def _open(self) -> int:
        return os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o666)

    def write(self, text: bytes) -> str | None:
        """Write the whole report or nothing; return the reason if that failed, None otherwise."""
        try:
            with os.fdopen(self._open(), "wb") as file:
                file.write(text)
            self._part.replace(self._path)
        except OSError as error:
            with contextlib.suppress(OSError):
                self._part.unlink()
            return error.strerror
        return None
