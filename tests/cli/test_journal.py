"""`alphapo journal …`: looked into, backed up and copied without a key."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
from pathlib import Path
from typing import get_args

import click
import pytest

from alphapo_async.__main__ import main
from alphapo_async.cli.journal import account_of, account_rows, journal_named, list_rows, login_name
from alphapo_async.cli.row_fields import outcome_of
from alphapo_async.core.errors import ConfigurationError
from alphapo_async.core.evidence import Attempt, Released
from alphapo_async.core.replies import KeyRefused
from alphapo_async.core.row import Row, State
from alphapo_async.journal.sqlite.journal import SqliteJournal
from tests.cli.conftest import invoke
from tests.support import postgres
from tests.support.journal_suite import ACCOUNT, LOST, asked, learn, pay
from tests.support.mounts import make_read_only, mounted
from tests.support.rows import (
    ACCEPTED_ROW,
    CONFLICT_ROW,
    DOUBTED,
    FAILED_ROW,
    NOT_SENT_ROW,
    REFUSED_ROW,
    REJECTED_ROW,
    row,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give a journal with a row that is in doubt and free, one that is held, and one that is paid."""
    place = tmp_path / "payouts.db"

    async def fill() -> None:
        journal = SqliteJournal(place)
        await learn(journal, "free", asked("free", "0.5"), LOST, Released("worker", "queue"), now=1.0)
        await learn(journal, "held", asked("held"), now=2.0)
        await pay(journal, "paid", now=3.0)
        await journal.aclose()

    asyncio.run(fill())
    return place


def test_one_withdrawal_is_shown_with_its_history(path: Path) -> None:
    """What was asked, what is known, and line by line what was recorded."""
    result = invoke("journal", "show", "free", "--journal", str(path))
    assert result.exit_code == 0, result.output
    for words in (
        "open, in doubt",
        "0.5 BTC\n",
        "address:                  a\n",
        "fingerprint key",
        "in doubt: connection lost",
        "released: queue",
    ):
        assert words in result.stdout
    assert '"foreign_id"' not in result.stdout


def test_what_is_not_known_is_said(path: Path) -> None:
    """Exit code 3, as `status` has it: it proves nothing about AlphaPo."""
    result = invoke("journal", "show", "never", "--journal", str(path))
    assert result.exit_code == 3
    assert result.stderr == (
        f"The journal has no withdrawal 'never' of account {ACCOUNT!r}. Check the spelling, --journal and --account.\n"
    )


def test_what_is_open_is_listed_oldest_first(path: Path) -> None:
    """With a word where there is more; nothing where nothing is open."""
    result = invoke("journal", "list", ALPHAPO_JOURNAL=str(path))
    assert result.stdout.index("│ free") < result.stdout.index("│ held ")
    assert "paid" not in result.stdout
    result = invoke("journal", "list", "--limit", "1", "--journal", str(path))
    assert "There are more; --limit 10 shows them." in result.stdout
    result = invoke("journal", "list", "--account", "another", "--journal", str(path))
    assert result.stdout == "Nothing is open.\n"


def test_what_is_open_under_a_key_is_listed_alone(tmp_path: Path) -> None:
    """For whoever changes keys; a fingerprint that is none does not read as all-clear, and one that nothing has says what others have."""
    path, old, new = tmp_path / "payouts.db", "0" * 16, "1" * 16

    async def fill() -> None:
        journal = SqliteJournal(path)
        for number in range(503):
            await learn(
                journal, f"row-{number}", asked(f"row-{number}", key=old if number == 501 else new), now=float(number)
            )
        await journal.aclose()

    asyncio.run(fill())
    result = invoke("journal", "list", "--key", old, "--journal", str(path))
    assert result.exit_code == 0
    assert [line for line in result.stdout.splitlines() if "row-" in line] == [result.stdout.splitlines()[4]]
    assert "row-501" in result.stdout
    assert old in result.stdout
    result = invoke("journal", "list", "--key", "2" * 16, "--journal", str(path))
    assert result.stdout == f"Nothing is open under the key of fingerprint {'2' * 16}; under others 503.\n"
    result = invoke("journal", "list", "--key", "old", "--journal", str(path))
    assert result.exit_code == 2
    assert "is not a fingerprint" in result.stderr


def test_rows_with_one_outcome_are_listed(path: Path) -> None:
    """As many as wanted; under a key alone; nothing where there is none."""
    ended = invoke("journal", "list", "--outcome", "accepted", "--journal", str(path))
    assert ended.exit_code == 0, ended.output
    assert "paid" in ended.stdout
    assert "│ held " not in ended.stdout
    assert "free" in invoke("journal", "list", "--outcome", "unknown", "--journal", str(path)).stdout
    ended = invoke("journal", "list", "--outcome", "not_sent", "--journal", str(path))
    assert ended.stdout == "Nothing is not sent.\n"
    ended = invoke("journal", "list", "--outcome", "accepted", "--key", "2" * 16, "--journal", str(path))
    assert ended.stdout == f"Nothing is accepted under the key of fingerprint {'2' * 16}; under others 1.\n"


def test_rows_whose_key_was_refused_are_listed_under_that_outcome(tmp_path: Path) -> None:
    """And under no other, as a table and as JSON, although the totals count them as not sent."""
    path = tmp_path / "payouts.db"

    async def fill() -> None:
        journal = SqliteJournal(path)
        await learn(
            journal, "refused", asked("refused"), Attempt("worker", KeyRefused("bad_header_key"), 1.0, 2.0), now=1.0
        )
        await journal.aclose()

    asyncio.run(fill())
    ended = invoke("journal", "list", "--outcome", "key_refused", "--journal", str(path))
    assert "refused" in ended.stdout
    assert "bad_header_key" in ended.stdout
    as_json = invoke("journal", "list", "--outcome", "key_refused", "--json", "--journal", str(path))
    assert json.loads(as_json.stdout)["outcome"] == "key_refused"
    assert invoke("journal", "list", "--outcome", "not_sent", "--journal", str(path)).stdout == "Nothing is not sent.\n"


@pytest.mark.parametrize(
    "ended", [row(), DOUBTED, ACCEPTED_ROW, FAILED_ROW, REJECTED_ROW, NOT_SENT_ROW, CONFLICT_ROW, REFUSED_ROW]
)
def test_every_outcome_of_a_row_can_be_listed(ended: Row) -> None:
    """The option has exactly the outcomes of rows."""
    [listed] = [option.type for option in list_rows.params if option.name == "outcome"]
    assert isinstance(listed, click.Choice)
    assert outcome_of(ended) in listed.choices
    assert set(listed.choices) == {*get_args(State), "unknown"}


def test_there_may_be_more_rows_with_one_outcome(path: Path) -> None:
    """The sentence goes to standard error where the rows are JSON."""

    async def fill() -> None:
        journal = SqliteJournal(path)
        await pay(journal, "paid-2", now=4.0)
        await journal.aclose()

    asyncio.run(fill())
    ended = invoke("journal", "list", "--outcome", "accepted", "--limit", "1", "--json", "--journal", str(path))
    assert [json.loads(line)["foreign_id"] for line in ended.stdout.splitlines()] == ["paid"]
    assert ended.stderr == "There are more; --limit 10 shows them.\n"


def test_json_has_the_fields_of_the_export(path: Path) -> None:
    """One row with its history; the totals as plain decimals in strings."""
    shown = json.loads(invoke("journal", "show", "free", "--json", "--journal", str(path)).stdout)
    assert (shown["foreign_id"], shown["outcome"], shown["amount"]) == ("free", "unknown", "0.5")
    assert [line["kind"] for line in shown["history"]] == ["attempt", "released"]
    totals = json.loads(invoke("journal", "totals", "--json", "--journal", str(path)).stdout)
    assert (totals["account"], totals["totals"]["BTC"]["requested"]) == ("default", "2.5")


def test_the_totals_of_a_journal_without_withdrawals_are_a_sentence(path: Path) -> None:
    """With the account, whose name may be wrong."""
    result = invoke("journal", "totals", "--account", "payroll", "--journal", str(path))
    assert (result.exit_code, result.stdout) == (0, "The journal has no withdrawals of account 'payroll'.\n")


def test_totals_are_shown(path: Path) -> None:
    """To the last decimal."""
    result = invoke("journal", "totals", "--journal", str(path))
    assert "2.5" in result.stdout
    assert "0.5" in result.stdout


@pytest.mark.parametrize("name", [None, "memory"])
def test_a_journal_must_be_named(name: str | None) -> None:
    """One in memory has nothing to show."""
    result = invoke("journal", "list", *(() if name is None else ("--journal", name)))
    assert result.exit_code == 2
    assert "Set ALPHAPO_JOURNAL=payouts.db" in result.stderr


@pytest.mark.parametrize(
    "command",
    [
        ("list",),
        ("totals",),
        ("show", "f"),
        ("export",),
        ("backup", "backup.db"),
        ("settle", "f", "--rejected", "--by", "anna", "--because", "seen"),
        ("redact", "f"),
        ("prune", "--older-than", "1d"),
        ("copy", "new.db"),
        ("migrate",),
    ],
    ids=lambda command: command[0],
)
def test_a_mistyped_path_does_not_read_as_all_clear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    """Exit code 2, the path as it was understood, and nothing is made."""
    monkeypatch.chdir(tmp_path)
    result = invoke("journal", *command, "--journal", "mistyped.db")
    check = "Check --journal, or ALPHAPO_JOURNAL. Nothing was sent."
    assert (result.exit_code, result.output) == (2, f"no such journal: {tmp_path}/mistyped.db. {check}\n")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", ["backup", "copy"])
def test_a_full_disk_at_the_report_does_not_ask_for_it_again(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    """It is done, and would be refused when called again."""
    target = str(tmp_path / "backup.db")
    if command == "copy":
        asyncio.run(postgres.execute("create database copied_without_report"))
        target = postgres.database("copied_without_report").replace(":@", "@")
    with open("/dev/full", "w", encoding="utf-8") as full:  # noqa: PTH123 - a device
        monkeypatch.setattr("sys.stdout", full)
        with pytest.raises(SystemExit) as ended:
            main(["journal", command, target, "--journal", str(path)])
    assert ended.value.code == 0


def test_a_backup_is_made_once(path: Path, tmp_path: Path) -> None:
    """Never over another file."""
    target = tmp_path / "backup.db"
    result = invoke("journal", "backup", str(target), "--journal", str(path))
    assert result.exit_code == 0, result.output
    assert invoke("journal", "show", "paid", "--journal", str(target)).exit_code == 0
    again = invoke("journal", "backup", str(target), "--journal", str(path))
    assert (again.exit_code, again.output) == (
        2,
        f"'{target}' exists: name a file that does not. Nothing in it was changed.\n",
    )


def test_a_file_that_is_no_journal_is_wrong_input(tmp_path: Path) -> None:
    """Only the reason: there is no withdrawal of which to say whether funds may be released."""
    path = tmp_path / "notes.txt"
    path.write_text("mine " * 100, encoding="utf-8")
    result = invoke("journal", "list", "--journal", str(path))
    assert result.exit_code == 2
    assert result.output == (
        f"The journal '{path}': it is not a SQLite database. Name another file; nothing in it was changed.\n"
    )


# ── copied and brought up to date ─────────────────────────────────────────────────────────────────────────────────────


def test_a_file_is_copied_to_postgresql_and_closed_for_good(path: Path, tmp_path: Path) -> None:
    """The copy is named, and the file can be used no more."""
    before = invoke("journal", "totals", "--journal", str(path)).stdout
    asyncio.run(postgres.execute("create database copied"))
    target = postgres.database("copied").replace(":@", "@")
    result = invoke("journal", "copy", target, "--journal", str(path))
    assert result.exit_code == 0, result.output
    assert "Copied and compared 3 withdrawals" in result.stdout
    assert "From now on use postgresql://" in result.stdout
    assert invoke("journal", "totals", ALPHAPO_JOURNAL=target).stdout == before
    again = invoke("journal", "totals", "--journal", str(path))
    assert again.exit_code == 2
    assert "closed for good. Use the journal in PostgreSQL" in again.stderr
    for elsewhere in (str(tmp_path / "new.db"), "memory"):
        result = invoke("journal", "copy", elsewhere, "--journal", str(path))
        assert result.exit_code == 2
        assert "from a file to PostgreSQL only" in result.stderr


def test_a_password_in_an_argument_is_refused(path: Path) -> None:
    """Everybody on the machine can read it there; in the environment it is taken, and never shown."""
    url = "postgresql://payer:hunter2@127.0.0.1:9/payouts?sslmode=disable"
    for command in (("list", "--journal", url), ("copy", url, "--journal", str(path))):
        result = invoke("journal", *command)
        assert result.exit_code == 2
        assert "PGPASSWORD" in result.stderr
        assert "hunter2" not in result.output
    result = invoke("resume", "--journal", url, ALPHAPO_KEY="k", ALPHAPO_SECRET="s")
    assert result.exit_code == 2
    assert "hunter2" not in result.output


def test_the_tables_of_a_database_are_made_by_migrating(path: Path) -> None:
    """By one who may; a file needs nothing."""
    result = invoke("journal", "migrate", ALPHAPO_JOURNAL=postgres.url())
    assert result.exit_code == 0, result.output
    assert "at schema 1" in result.stdout
    assert "and was before" in invoke("journal", "migrate", ALPHAPO_JOURNAL=postgres.url()).stdout
    assert "and was before" in invoke("journal", "migrate", "--journal", str(path)).stdout
    result = invoke("journal", "backup", "anywhere", ALPHAPO_JOURNAL=postgres.url())
    assert result.exit_code == 2
    assert "pg_dump" in result.stderr


def test_an_empty_option_is_not_taken_for_absent() -> None:
    """A script's empty variable must not lead to the journal or the account that the environment names."""
    environment = {"ALPHAPO_JOURNAL": "payouts.db", "ALPHAPO_ACCOUNT": "ops"}
    assert (account_of(None, environment), account_of("north", environment)) == ("ops", "north")
    assert account_of(None, {}) == "default"
    with pytest.raises(ConfigurationError, match="ALPHAPO_ACCOUNT: set, but empty"):
        account_of(None, {"ALPHAPO_ACCOUNT": ""})
    with pytest.raises(ConfigurationError, match="ALPHAPO_JOURNAL: set, but empty"):
        journal_named(None, {"ALPHAPO_JOURNAL": ""})
    with pytest.raises(ConfigurationError, match=r"^account is empty\."):
        account_of("", environment)
    with pytest.raises(ConfigurationError, match=r"^Set ALPHAPO_JOURNAL=payouts\.db \(or --journal"):
        journal_named("", environment)
    with pytest.raises(ConfigurationError, match=r"^ALPHAPO_ACCOUNT 'ops ' has leading or trailing spaces"):
        account_of(None, {"ALPHAPO_ACCOUNT": "ops "})


def _without_seconds(output: str) -> str:
    return re.sub(r"in [0-9.]+ s", "in a while", output)


def test_a_journal_on_a_read_only_mount_can_be_looked_into(path: Path, tmp_path: Path) -> None:
    """By the commands that only look; the others say why they cannot."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    with mounted(folder):
        place = str(shutil.copy(path, folder / "payouts.db"))
        make_read_only(folder)
        for command in (("list",), ("show", "free"), ("totals",), ("export",)):
            result = invoke("journal", *command, "--journal", place)
            assert result.exit_code == 0, result.output
            writable = invoke("journal", *command, "--journal", str(path))
            assert _without_seconds(result.output) == _without_seconds(writable.output)
        result = invoke("journal", "unfreeze", "--nothing-lost", "--journal", place)
        assert result.exit_code == 2
        assert "its file system is mounted read-only" in " ".join(result.output.split())


async def test_the_rows_of_one_account_are_read_in_order(tmp_path: Path) -> None:
    """Without their histories, and without the rows of other accounts."""
    journal = SqliteJournal(tmp_path / "payouts.db")
    await pay(journal, "a", "b")
    await learn(journal, "c", asked("c"), account="other")
    assert [row.foreign_id async for row in account_rows(journal, "default")] == ["a", "b"]
    assert [row.foreign_id async for row in account_rows(journal, "other")] == ["c"]
    await journal.aclose()


@pytest.mark.parametrize("error", [KeyError("uid"), OSError("uid")])
def test_a_decision_bears_the_login_name_or_the_number_of_a_user_without_one(error: Exception) -> None:
    """A container may run under a number that the system has no name for."""

    def nameless() -> str:
        raise error

    assert login_name(lambda: "anna") == "anna"
    assert login_name(nameless) == f"uid {os.getuid()}"
