"""The files of a batch: no two of them may be the same file, or one would overwrite the other."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from alphapo_async.core.errors import ConfigurationError

__all__ = ["check_places"]

_BESIDE: Final = ("", "-wal", "-shm", "-journal", ".workers")
"""Suffixes of the files that SQLite and the workers keep beside the journal."""


def check_places(file: Path, results: Path, report: Path | None, journal: Path | None) -> None:
    """Pass if results and report overwrite no file that is needed.

    Args:
        file: the input.
        results: the results file.
        report: the report's file; None if there is none.
        journal: the journal's file; None if it is in PostgreSQL or in memory.

    Raises:
        ConfigurationError: one of them would.
    """
    beside = [] if journal is None else [journal.with_name(f"{journal.name}{end}") for end in _BESIDE]
    needed = {"the input": [file], "the journal, or a file of the journal": beside}
    _check("--results", results, needed)
    if report is not None:
        _check("--report", report, {**needed, "the results file": [results]})


def _check(option: str, path: Path, needed: Mapping[str, Iterable[Path]]) -> None:
    for what, places in needed.items():
        if any(_is_at(path, place) for place in places):
            raise ConfigurationError(
                f"{option} {path} is {what}, which would be overwritten: name another file. Nothing was sent."
            )


def _is_at(path: Path, place: Path) -> bool:
    """The path is this place under whatever name, or lies within it."""
    try:
        is_one = path.samefile(place)
    except OSError:
        is_one = False
    return is_one or Path(os.path.realpath(path)).is_relative_to(os.path.realpath(place))
