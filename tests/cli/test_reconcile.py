"""`alphapo reconcile` as it is typed, at a real sandbox."""

from __future__ import annotations

import csv
import io
import json
import os
from pathlib import Path

import pytest
from click.testing import Result

from tests.cli.conftest import Local, invoke

NAMES = [f"reconcile-{os.getpid()}-{number}" for number in range(1, 6)]


class Books:
    """A journal with five paid withdrawals, and an export that agrees with it."""

    def __init__(self, local: Local, journal: str, export: Path) -> None:
        self.local = local
        self.journal = journal
        self.export = export

    def against(self, *more: str) -> Result:
        """Compare with the export, without a key."""
        return invoke("reconcile", "--journal", self.journal, "--against", str(self.export), *more, COLUMNS="80")

    def change(self, before: str, after: str) -> None:
        """Change the export."""
        text = self.export.read_text(encoding="utf-8")
        assert before in text
        self.export.write_text(text.replace(before, after), encoding="utf-8")


@pytest.fixture(scope="module")
def paid(local: Local, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Pay five withdrawals, and return the journal."""
    source = tmp_path_factory.mktemp("paid") / "payouts.csv"
    rows = [f"{name},BTC,made-up-{name},0.5000000{number},user" for number, name in enumerate(NAMES, 1)]
    header = "foreign_id,currency,address,amount,end_user_reference"
    source.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    assert local.invoke("batch", str(source), "--follow", "--max-look-up-rate", "200").exit_code == 0
    return f"{source}.journal.db"


@pytest.fixture
def books(local: Local, paid: str, tmp_path: Path) -> Books:
    """Give the journal, and an export of this test's own."""
    export = tmp_path / "export.csv"
    export.write_text(invoke("journal", "export", "--journal", paid).stdout, encoding="utf-8")
    return Books(local, paid, export)


def test_an_export_that_agrees_ends_with_code_0_and_needs_no_key(books: Books) -> None:
    """The columns are shown before they are used, and the sums to the last decimal."""
    result = books.against()
    assert (result.exit_code, result.stdout) == (0, "finding,foreign_id,field,journal,alphapo,line,source\n")
    assert result.stderr.startswith("Columns of export.csv: foreign_id=foreign_id, amount=amount, currency=currency,")
    assert "2.50000015" in result.stderr
    assert "matched" in result.stderr


def test_differences_are_lines_and_theft_comes_first(books: Books) -> None:
    """Exit code 1; as JSON the last line is the summary."""
    books.change("0.50000002", "0.50000003")
    books.change(f"made-up-{NAMES[4]}", "another")
    text = books.export.read_text(encoding="utf-8")
    stolen = {"foreign_id": "stolen", "currency": "BTC", "amount": "3", "outcome": "accepted"}
    line = ",".join(stolen.get(column, "") for column in text.splitlines()[0].split(","))
    books.export.write_text(f"{text}{line}\n", encoding="utf-8")
    result = books.against()
    lines = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [(line["finding"], line["field"]) for line in lines] == [
        ("missing_here", ""),
        ("different", "amount"),
        ("different", "address"),
    ]
    assert (result.exit_code, lines[0]["foreign_id"]) == (1, "stolen")
    assert "Look into what is missing here first" in result.stderr
    assert "unless its status is cancelled, declined or failed" in result.stderr
    *findings, summary = map(json.loads, books.against("--json").stdout.splitlines())
    assert [one["finding"] for one in findings] == ["missing_here", "different", "different"]
    assert (summary["summary"]["missing_here"], summary["summary"]["exit_code"]) == (1, 1)
    assert summary["summary"]["sums"]["BTC"]["difference"] == "3.00000001"


def test_look_ups_say_that_what_is_missing_here_was_not_checked(books: Books) -> None:
    """Only an export shows what the journal does not know."""
    result = books.local.invoke("reconcile", "--journal", books.journal, "--max-look-up-rate", "500", COLUMNS="80")
    assert (result.exit_code, result.stdout.count("\n")) == (0, 1)
    assert "NOT looked for" in result.stderr
    assert result.stderr.count("not checked") == 2
    last = books.local.invoke("reconcile", "--journal", books.journal, "--json").stdout
    assert json.loads(last)["summary"]["missing_here"] is None
    both = books.local.invoke(
        "reconcile", "--journal", books.journal, "--against", str(books.export), "--look-up", "--json"
    )
    assert (both.exit_code, json.loads(both.stdout)["summary"]["matched"]) == (0, 5)


def test_lines_of_another_type_are_counted_and_left_out(books: Books) -> None:
    """Deposits, say."""
    text = books.export.read_text(encoding="utf-8").splitlines()
    lines = [f"{text[0]},type", *(f"{line},withdrawal" for line in text[1:]), f"{text[1]},deposit"]
    books.export.write_text("\n".join(lines) + "\n", encoding="utf-8")
    result = books.against()
    assert result.exit_code == 0
    assert "1 line of another type was left out." in result.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["--since", "2026-11-30", "--until", "2026-11-01"],
            "The period is empty: --until must be later than --since.",
        ),
        (["--since", "2026-11-01T00:00:00", "--until", "2026-11-01T00:00:00"], "The period is empty"),
        (["--columns", "foreign_id=Ref"], "--columns goes with --against"),
        (
            ["--since", "2001-01-01", "--until", "2001-01-02"],
            "no accepted withdrawal of account 'default' in this period",
        ),
        (["--account", "other"], "no accepted withdrawal of account 'other'"),
    ],
)
def test_what_cannot_be_meant_is_a_sentence(books: Books, arguments: list[str], words: str) -> None:
    """Exit code 2, and nothing is looked up."""
    result = books.local.invoke("reconcile", "--journal", books.journal, *arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in " ".join(result.stderr.split())


def test_an_export_that_cannot_be_read_is_a_sentence(books: Books) -> None:
    """A missing column, and an unreadable amount."""
    books.change("0.50000002", '"0,50000002"')
    result = books.against()
    assert (result.exit_code, result.stdout) == (2, "")
    assert "line 3: amount '0,50000002' is not a plain number" in " ".join(result.stderr.split())
    books.change("txids", "something")
    result = books.against()
    assert result.exit_code == 2
    assert "can be guessed for txid" in " ".join(result.stderr.split())
    empty = books.export.read_text(encoding="utf-8").splitlines()[0]
    books.export.write_text(empty + "\n", encoding="utf-8")
    result = books.against("--columns", "txid=", "--until", "2001-01-01")
    assert result.exit_code == 2
    assert "and the export no line: nothing was compared" in result.stderr


@pytest.mark.parametrize("command", [("reconcile",), ("resume",), ("journal", "callbacks")])
def test_the_help_fits_80_columns(command: tuple[str, ...]) -> None:
    """Prose and tables alike."""
    result = invoke(*command, "--help", COLUMNS="80")
    assert max(map(len, result.output.splitlines())) <= 80
