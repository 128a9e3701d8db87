"""Which file of a batch may stand where."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from alphapo_async.cli.batch.paths import check_places
from alphapo_async.core.errors import ConfigurationError


def check(folder: Path, results: str = "r.csv", report: str | None = None, journal: str | None = "j.db") -> None:
    """Check places in a folder, where the input is `f.csv`."""
    (folder / "f.csv").touch()
    check_places(
        folder / "f.csv",
        folder / results,
        None if report is None else folder / report,
        None if journal is None else folder / journal,
    )


@pytest.mark.parametrize("report", [None, "report.json", "f.csv.json"])
@pytest.mark.parametrize("journal", [None, "j.db"])
def test_files_of_their_own_are_what_they_should_be(tmp_path: Path, report: str | None, journal: str | None) -> None:
    """With a report or without, whether the journal is a file or not."""
    check(tmp_path, report=report, journal=journal)


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("f.csv", "the input"),
        ("folder/../f.csv", "the input"),
        ("link.csv", "the input"),
        ("other-name.csv", "the input"),
        ("j.db", "the journal"),
        ("j.db-wal", "a file of the journal"),
        ("j.db-shm", "a file of the journal"),
        ("j.db-journal", "a file of the journal"),
        ("j.db.workers", "a file of the journal"),
        ("j.db.workers/1234", "a file of the journal"),
    ],
)
@pytest.mark.parametrize("option", ["results", "report"])
def test_nothing_that_is_needed_is_overwritten(tmp_path: Path, name: str, what: str, option: str) -> None:
    """By whatever name it is called."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "link.csv").symlink_to(tmp_path / "f.csv")
    (tmp_path / "f.csv").touch()
    os.link(tmp_path / "f.csv", tmp_path / "other-name.csv")
    with pytest.raises(ConfigurationError, match=f"--{option} .*{what}.* name another file. Nothing was sent"):
        check(tmp_path, **{option: name})


def test_the_report_does_not_overwrite_the_results(tmp_path: Path) -> None:
    """Both would be lost."""
    with pytest.raises(ConfigurationError, match=r"--report .* is the results file"):
        check(tmp_path, results="r.csv", report="r.csv")
