"""The report's file: what it may take the place of, and what happens if it cannot be written."""

from __future__ import annotations

import resource
from collections import Counter
from pathlib import Path

import pytest

from alphapo_async.cli.batch.report import BatchReport, report_json
from alphapo_async.cli.batch.report_file import ReportFile
from alphapo_async.cli.batch.survey import Survey
from alphapo_async.core.errors import ConfigurationError

REPORT = report_json(BatchReport("f.csv", Survey(rows=1), Counter(accepted=1), 0, {}, {}, 1.0))


@pytest.mark.parametrize("before", [None, b"", REPORT])
def test_a_report_takes_the_place_of_nothing_but_an_earlier_one(tmp_path: Path, before: bytes | None) -> None:
    """Until it is written, all stays as it is; and nothing is left beside it."""
    path = tmp_path / "report.json"
    if before is not None:
        path.write_bytes(before)
    file = ReportFile(path)
    assert (path.read_bytes() if path.exists() else None) == before
    assert file.write(REPORT) is None
    assert path.read_bytes() == REPORT
    assert list(tmp_path.iterdir()) == [path]
    assert repr(file) == f"ReportFile({str(path)!r})"


def test_a_link_stays_one(tmp_path: Path) -> None:
    """What it leads to is written."""
    path = tmp_path / "latest.json"
    path.symlink_to(tmp_path / "report.json")
    assert ReportFile(path).write(REPORT) is None
    assert path.is_symlink()
    assert path.read_bytes() == REPORT


@pytest.mark.parametrize("text", [b"foreign_id,currency\n", b'{"name": "package"}', b"\0" * 10_000_001])
def test_what_is_no_report_is_not_overwritten(tmp_path: Path, text: bytes) -> None:
    """Whatever it is, somebody may need it."""
    path = tmp_path / "report.json"
    path.write_bytes(text)
    with pytest.raises(
        ConfigurationError, match=r"is not a report .* name another file with --report\. Nothing was sent"
    ):
        ReportFile(path)
    assert path.read_bytes() == text
    assert list(tmp_path.iterdir()) == [path]


def test_where_no_file_can_be_made_is_found_out_before_anything_is_sent(tmp_path: Path) -> None:
    """No folder, or a folder in its place."""
    with pytest.raises(ConfigurationError, match=r"cannot be written: No such file or directory\. Nothing was sent"):
        ReportFile(tmp_path / "folder" / "report.json")
    with pytest.raises(ConfigurationError, match="is not a report"):
        ReportFile(tmp_path)


def test_a_report_that_cannot_be_written_says_why_and_leaves_what_was_there(tmp_path: Path) -> None:
    """No half of it is left for a program to stumble over."""
    path = tmp_path / "report.json"
    path.write_bytes(REPORT)
    file = ReportFile(path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        assert file.write(REPORT * 2) == "File too large"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert path.read_bytes() == REPORT
    assert list(tmp_path.iterdir()) == [path]
