"""`alphapo journal unfreeze`: frozen rows, one, all, or none that was lost."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from alphapo_async.__main__ import main
from alphapo_async.cli.unfreeze import unfreeze_in
from alphapo_async.core.evidence import Unfrozen
from alphapo_async.core.row import Row
from alphapo_async.journal.sqlite.journal import SqliteJournal
from tests.cli.conftest import invoke
from tests.support.journal_suite import ACCOUNT, accepted, asked, learn

WHY = ("--by", "anna", "--because", "not in the export")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give a journal that was restored, with two rows that were open then, and one that a worker holds."""
    path = tmp_path / "payouts.db"

    async def fill() -> None:
        journal = SqliteJournal(path)
        for name in ("a", "b"):
            await learn(journal, name, asked(name, worker=None), now=1.0)
        await learn(journal, "held", asked("held"), now=2.0)
        await journal.raise_epoch(50.0)
        await journal.aclose()

    asyncio.run(fill())
    return path


def row(path: Path, name: str) -> Row:
    """Return a row as it stands."""

    async def find() -> Row | None:
        journal = SqliteJournal(path)
        found = await journal.find(ACCOUNT, name)
        await journal.aclose()
        return found

    found = asyncio.run(find())
    assert found is not None
    return found


def test_one_row_is_unfrozen_with_a_reason(path: Path) -> None:
    """It is open with nothing in doubt, and its history says who said so and why."""
    result = invoke("journal", "unfreeze", "a", *WHY, "--journal", str(path))
    assert (result.exit_code, result.stdout) == (0, "1 unfrozen: open, with nothing in doubt; a worker sends them.\n")
    assert (row(path, "a").epoch, row(path, "a").doubt_since, row(path, "b").epoch) == (1, None, 0)
    assert "anna: not in the export" in invoke("journal", "show", "a", "--journal", str(path)).stdout
    again = invoke("journal", "unfreeze", "a", *WHY, "--journal", str(path))
    unknown = invoke("journal", "unfreeze", "unknown", *WHY, "--journal", str(path))
    for refused in (again, unknown):
        assert refused.exit_code == 1
        assert "is not frozen. Nothing was changed." in refused.stderr


def test_a_row_stays_frozen_until_the_quiet_time_is_over(tmp_path: Path) -> None:
    """A body that left before the journal went back may still be accepted, and AlphaPo's books do not show that yet."""
    path = tmp_path / "payouts.db"

    async def fill() -> None:
        journal = SqliteJournal(path)
        await learn(journal, "a", asked("a", worker=None), now=1.0)
        await journal.raise_epoch(time.time() - 60.0)
        await journal.aclose()

    asyncio.run(fill())
    for chosen in ("a", "--all"):
        refused = invoke("journal", "unfreeze", chosen, *WHY, "--journal", str(path))
        assert (refused.exit_code, row(path, "a").epoch) == (1, 0)
        assert "AlphaPo might still accept what was sent before the journal went back" in refused.stderr
    taken = invoke("journal", "unfreeze", "a", *WHY, "--anyway", "--journal", str(path))
    assert (taken.exit_code, row(path, "a").epoch) == (0, 1)


def test_all_rows_are_unfrozen_but_those_that_a_worker_holds(path: Path) -> None:
    """Which is told, with what to do."""
    result = invoke("journal", "unfreeze", "--all", *WHY, "--journal", str(path))
    assert result.exit_code == 1
    assert result.stdout.startswith("2 unfrozen")
    assert "1 left unchanged: a worker holds them: call again in a minute" in result.stderr
    one = invoke("journal", "unfreeze", "held", *WHY, "--journal", str(path))
    assert "1 left unchanged: it is not frozen, or a worker holds it; or AlphaPo might" in one.stderr
    one = invoke("journal", "unfreeze", "held", *WHY, "--anyway", "--journal", str(path))
    assert "1 left unchanged: it is not frozen, or a worker holds it." in one.stderr


def test_a_journal_in_which_nothing_is_frozen_says_so(tmp_path: Path) -> None:
    """It names no worker that holds a row, and no quiet time to wait for."""
    path = tmp_path / "payouts.db"

    async def fill() -> None:
        journal = SqliteJournal(path)
        await learn(journal, "a", asked("a"), now=1.0)
        await journal.aclose()

    asyncio.run(fill())
    result = invoke("journal", "unfreeze", "--all", *WHY, "--journal", str(path))
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr == f"No row of account {ACCOUNT!r} is frozen. Nothing was changed.\n"


class Overtaken(SqliteJournal):
    """A file in which a worker finds a withdrawal at AlphaPo while the operator's command reads the open rows."""

    async def find_open(self, account: str, after: tuple[float, str] | None, limit: int) -> list[Row]:
        """Return the rows as they were before."""
        found = await super().find_open(account, after, limit)
        await learn(self, "a", accepted("a"))
        return found


def test_a_row_that_is_settled_meanwhile_is_not_reported_as_unfrozen(path: Path) -> None:
    """The operator read that a worker sends it, and AlphaPo has it already."""

    async def use() -> tuple[int, int]:
        journal = Overtaken(path)
        found = await unfreeze_in(journal, ACCOUNT, None, Unfrozen("anna", "not in the export"), waits_for_quiet=False)
        await journal.aclose()
        return found

    assert asyncio.run(use()) == (1, 1)
    assert row(path, "a").state == "accepted"


def test_nothing_was_lost(path: Path) -> None:
    """Every row counts as before, and its history says who said so."""
    result = invoke("journal", "unfreeze", "--nothing-lost", *WHY, "--journal", str(path))
    assert result.stdout.startswith("Nothing was lost: 3 earlier rows count as before.")
    assert row(path, "a").epoch == 1
    said = "nothing was lost when the journal went back, by anna: not in the export"
    assert said in invoke("journal", "show", "a", "--journal", str(path)).stdout


def test_a_full_disk_at_the_report_does_not_ask_for_it_again(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is recorded, and the exit code says so; called again, it would be refused."""
    with open("/dev/full", "w", encoding="utf-8") as full:  # noqa: PTH123 - a device
        monkeypatch.setattr("sys.stdout", full)
        with pytest.raises(SystemExit) as ended:
            main(["journal", "unfreeze", "a", *WHY, "--anyway", "--journal", str(path)])
    assert row(path, "a").epoch == 1
    assert ended.value.code == 0


@pytest.mark.parametrize(
    ("words", "result"),
    [
        (("a", "--all", *WHY), "Pass one of FOREIGN_ID, --all and --nothing-lost"),
        ((), "Pass one of FOREIGN_ID"),
        (("a", "--by", "anna"), "Pass --because: how you know"),
    ],
)
def test_what_is_not_said_is_asked_for(path: Path, words: tuple[str, ...], result: str) -> None:
    """Nothing is changed."""
    refused = invoke("journal", "unfreeze", *words, "--journal", str(path))
    assert refused.exit_code == 2
    assert result in refused.stderr
