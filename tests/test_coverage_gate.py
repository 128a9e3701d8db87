"""The coverage gate itself: what was not measured does not count as covered."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests import coverage_gate

_HEAD = "Name Stmts Miss Branch BrPart Cover Missing\n-----\n"


@pytest.mark.parametrize(
    ("report", "told"),
    [
        (_HEAD + "alphapo_async/moment.py 10 1 2 0 92% 7\n-----\nTOTAL 10 1 2 0 92%\n", (92.0, "7")),
        (_HEAD + "-----\nTOTAL 10 0 2 0 100%\n\n1 file skipped due to complete coverage.\n", (100.0, "")),
        ("No data to report.\n", (0.0, "nothing was measured")),
        ("", (0.0, "nothing was measured")),
    ],
    ids=["a part", "whole", "no data", "no report"],
)
def test_a_report_is_read(report: str, told: tuple[float, str]) -> None:
    """A module that is covered whole is left out of the report, and the sum says so."""
    assert coverage_gate._read(report) == told


@pytest.mark.parametrize("fails", ["pytest", "combine", "report"])
def test_a_step_that_fails_is_no_coverage(monkeypatch: pytest.MonkeyPatch, fails: str) -> None:
    """Tests that fail, or data that are not there: the module is not covered, whatever else is printed."""

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        return subprocess.CompletedProcess(command, int(fails in command), _HEAD + "TOTAL 1 0 0 0 100%", "no data")

    monkeypatch.setattr(subprocess, "run", run)

    share, missing = coverage_gate.covered(coverage_gate.PACKAGE / "moment.py")

    assert share == 0.0
    assert missing


def test_a_module_without_tests_is_not_covered() -> None:
    """It is named, with the file that should be there."""
    assert coverage_gate.covered(Path(coverage_gate.PACKAGE / "nothing.py")) == (0.0, "no tests/test_nothing.py")
