"""The bench itself: every mistake can still be planted, none is seen where none is, and the quickest are found."""

from __future__ import annotations

from statistics import median

import pytest

from tests.proof.simulation.bugs.__main__ import TABLE, hunted, main
from tests.proof.simulation.bugs.catalogue import BUGS, Bug, Edit
from tests.proof.simulation.bugs.hunt import by_test
from tests.proof.simulation.bugs.planting import NotPlantable, applied, planted
from tests.support.long import LONG


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_mistake_can_be_planted(bug: Bug) -> None:
    """What it replaces stands in the package exactly once, and what it puts there is Python."""
    for file, text in applied(bug).items():
        compile(text, file, "exec")


def test_every_mistake_has_a_name_and_a_reason() -> None:
    """No two have the same, and each says what it costs."""
    assert len({bug.name for bug in BUGS}) == len(BUGS) > 30
    assert all(bug.why.endswith(".") for bug in BUGS)


def test_all_were_found_when_all_were_last_hunted_for() -> None:
    """The table has every mistake, each of them found, and half of them in fewer than a hundred seeds."""
    if not TABLE.exists():
        pytest.skip("nobody has hunted for all of them yet: python -m tests.proof.simulation.bugs")
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in TABLE.read_text("utf-8").splitlines()[6:]]

    assert [row[0] for row in rows] == [bug.name for bug in BUGS]
    assert not [row for row in rows if row[4] == "NOT FOUND"]
    assert median(int(row[2]) for row in rows if row[2] != "-") < 100


@pytest.mark.parametrize("old", ["nobody wrote this", "import"], ids=["missing", "ambiguous"])
def test_a_mistake_that_has_no_place_any_more_is_told(old: str) -> None:
    """By its name, the file and the text that was looked for."""
    bug = Bug("a mistake", "Somebody made it.", (Edit("engine/flight.py", old, ""),))

    with (
        pytest.raises(NotPlantable, match=rf"a mistake: engine/flight.py has \d+ times, not once: '{old}'"),
        planted(bug),
    ):
        pass


def test_nothing_is_found_where_nothing_is_planted() -> None:
    """The copy without a mistake keeps every promise."""
    found = hunted(None, 2, 8)

    assert (found.violation, found.tries) == (None, 2)


@LONG
def test_a_test_that_finds_a_mistake_finds_none_where_none_is_planted() -> None:
    """And finds the mistake in a copy that has it."""
    [bug] = [bug for bug in BUGS if bug.name == "missing lock means dead"]

    assert by_test(bug.test).violation is None
    assert hunted(bug, 1, 1).violation == "test_a_missing_lock_file_proves_nothing fails"


def test_the_quickest_are_found(capsys: pytest.CaptureFixture[str]) -> None:
    """Three of them, each in the first seeds, and the command says so."""
    words = ["not found", "journal written after", "another's withdrawal"]

    assert main([*words, "--most", "10", "--each", "12"]) == 0

    told = capsys.readouterr().out
    assert "a body leaves that no journal holds (P3)" in told
    assert "stranger's payment" in told
    assert "3 of 3 found, median" in told


def test_what_is_not_found_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """With a line and with the exit code."""
    assert main(["a 502", "--most", "1", "--each", "2"]) == 1

    assert "NOT FOUND in 1" in capsys.readouterr().out


def test_a_name_that_no_mistake_has_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing is hunted for."""
    with pytest.raises(SystemExit):
        main(["no such mistake"])

    assert "no mistake has such a name" in capsys.readouterr().err
