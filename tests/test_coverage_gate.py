"""The coverage gate itself: what was not measured does not count as covered."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest

from tests import coverage_gate

_HEAD = "\nName Stmts Miss Branch BrPart Cover Missing\n-----\n"


@pytest.mark.parametrize(
    ("report", "output"),
    [
        (_HEAD + "alphapo_async/engine/streaming.py 10 1 2 0 92% 7\n-----\nTOTAL 10 1 2 0 92%\n", (92.0, "7")),
        (_HEAD + "-----\nTOTAL 10 0 2 0 100%\n\n1 file skipped due to complete coverage.\n", (100.0, "")),
        ("No data to report.\n", (0.0, "nothing was measured")),
        ("", (0.0, "nothing was measured")),
    ],
    ids=["a part", "whole", "no data", "no report"],
)
def test_a_report_is_read(report: str, output: tuple[float, str]) -> None:
    """A module that is covered whole is left out of the report, and the sum says so."""
    assert coverage_gate._read(report) == output


@pytest.mark.parametrize(("code", "share"), [(0, 100.0), (1, 0.0)])
def test_tests_that_fail_are_no_coverage(code: int, share: float) -> None:
    """The module is not covered, also if its report says so, and what the tests printed is shown."""

    def measure() -> int:
        print("a test that prints\nalphapo_async/mine.py 7 %")  # noqa: T201 - a test may print
        sys.stderr.write(_HEAD + "TOTAL 1 0 0 0 100%")
        return code

    run = coverage_gate.Running(measure)
    _, status = os.waitpid(run.process, 0)

    output, missing = run.result(status)

    assert output == share
    assert ("a test that prints" in missing) is bool(code)


def test_tests_that_break_off_are_no_coverage() -> None:
    """The process says why it ended."""

    def measure() -> int:
        raise ZeroDivisionError

    run = coverage_gate.Running(measure)
    _, status = os.waitpid(run.process, 0)

    share, missing = run.result(status)

    assert share == 0.0
    assert "ZeroDivisionError" in missing


def test_a_module_without_tests_is_not_covered() -> None:
    """It is named, with the file that should be there."""
    nothing = Path(coverage_gate.PACKAGE / "nothing.py")
    assert list(coverage_gate.covered([nothing], 1)) == [(nothing, 0.0, "no tests/test_nothing.py")]


class Measured:
    """Covers a further part of the module with each test."""

    def __init__(self, *shares: float) -> None:
        self.shares = list(shares)

    def report(self, *, morfs: list[str], file: io.StringIO) -> float:
        share = self.shares.pop(0)
        file.write(f"{morfs[0]} {share:.0f}%")
        return share


_TESTS = "import pytest\n@pytest.mark.parametrize('number', range(4))\ndef test_one(number): assert number != {fails}\n"


@pytest.mark.parametrize(
    ("shares", "fails", "ran", "has_failures"),
    [((60.0, 100.0), 9, 2, False), ((60.0, 70.0, 80.0, 90.0), 9, 4, False), ((60.0, 100.0), 0, 2, True)],
    ids=["covered by the second test", "never covered", "a test before it fails"],
)
def test_the_tests_run_until_they_have_covered_the_module(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    shares: tuple[float, ...],
    fails: int,
    ran: int,
    has_failures: bool,
) -> None:
    """And no further; a failure on the way is seen."""
    monkeypatch.setattr(coverage_gate, "_LOOK_SHARE", float("inf"))  # after every test
    (tmp_path / f"test_{tmp_path.name}.py").write_text(_TESTS.format(fails=fails), encoding="utf-8")
    (tmp_path / "pytest.ini").write_text("[pytest]\nasyncio_default_fixture_loop_scope = function\n", encoding="utf-8")
    seen: list[str] = []

    class Counting:
        def pytest_runtest_logfinish(self, nodeid: str) -> None:
            seen.append(nodeid)

    plugin = coverage_gate.UntilCovered(Measured(*shares), Path("module.py"))
    arguments = [
        "-q",
        "-p",
        "no:cacheprovider",
        "-p",
        "no:xdist",
        "--import-mode=importlib",
        "--rootdir",
        str(tmp_path),
        str(tmp_path),
    ]

    pytest.main([*arguments, "-c", str(tmp_path / "pytest.ini")], plugins=[plugin, Counting()])

    assert len(seen) == ran
    assert plugin.share == shares[-1]
    assert plugin.report == f"module.py {shares[-1]:.0f}%"
    assert plugin.has_failures is has_failures


class Item:
    """As much of a collected test as its rank needs."""

    def __init__(self, name: str, *, is_long: bool = False, is_played: bool = False) -> None:
        self.nodeid = f"test_module.py::{name}"
        self.obj = type("Function", (), {"is_hypothesis_test": is_played})
        self._marker = "long" if is_long else None

    def get_closest_marker(self, name: str) -> str | None:
        return self._marker if name == self._marker else None


def test_first_cases_come_first_and_what_takes_long_comes_last() -> None:
    """Further cases rarely cover more; what hypothesis plays takes longer than all of them, and a proof longest."""
    names = ["one[a]", "one[b]", "one[c]", "two"]
    items = [Item("proof", is_long=True), Item("played", is_played=True), *map(Item, names)]

    coverage_gate.UntilCovered(Measured(), Path("module.py")).pytest_collection_modifyitems(items)  # type: ignore[arg-type]

    order = [item.nodeid.partition("::")[2] for item in items]
    assert order == ["one[a]", "two", "one[b]", "one[c]", "played", "proof"]
