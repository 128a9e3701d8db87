"""`alphapo journal redact` and `prune`, over real files."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from alphapo_async.__main__ import main
from alphapo_async.cli.prune import closing_words
from alphapo_async.core.codec import encode_body
from alphapo_async.core.evidence import Attempt, CalledBack, Released, ReplyExcerpt, Reported, Requested, Revision
from alphapo_async.core.models import CryptoAddress, Totals, Transaction, WithdrawalRequest
from alphapo_async.core.replies import Rejected
from alphapo_async.core.row import Row
from alphapo_async.journal.sqlite.journal import SqliteJournal
from tests.cli.conftest import invoke
from tests.support.journal_suite import ACCOUNT, LOST, asked, learn, pay

ADDRESS = "bc1q-made-up-address"
PERSON = "made-up-person"


async def pay_person(journal: SqliteJournal, foreign_id: str, person: str, now: float) -> None:
    """Write down a withdrawal that is over."""
    fields: dict[str, Any] = {"currency": "BTC", "address": f"{ADDRESS}-of-{person}", "foreign_id": foreign_id}
    payment = WithdrawalRequest(amount=1, end_user_reference=person, **fields)
    place = CryptoAddress(address=payment.address)
    result = Transaction(id=f"id of {foreign_id}", foreign_id=foreign_id, status="confirmed", crypto_address=place)
    wanted = Requested("worker", Revision(encode_body(payment, "string"), payment), "key")
    events = CalledBack(result, ReplyExcerpt(None, f"paid to {ADDRESS}-of-{person}".encode()))
    await learn(journal, foreign_id, wanted, LOST, LOST, events, now=now)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give a journal: two are over for one person, and one for another; one is processing, one in doubt, one of another account."""
    place = tmp_path / "payouts.db"

    async def fill() -> None:
        journal = SqliteJournal(place)
        await pay_person(journal, "one", PERSON, 1.0)
        await pay_person(journal, "two", PERSON, 2_000_000_000.0)
        await pay_person(journal, "three", "somebody-else", 1.0)
        await pay(journal, "processing")
        await learn(journal, "doubt", asked("doubt"), LOST, Released("worker", "queue"), now=1.0)
        await learn(journal, "other", asked("other"), account="another")
        await journal.aclose()

    asyncio.run(fill())
    return place


def forgotten(path: Path) -> set[str]:
    """Return the foreign_ids whose bytes are gone."""
    with sqlite3.connect(path) as connection:
        found = connection.execute("select foreign_id from withdrawals where body = x''").fetchall()
    connection.close()
    return {name for (name,) in found}


def words(path: Path) -> bytes:
    """Return all bytes of the file, and of its log where there is one."""
    return b"".join(each.read_bytes() for each in path.parent.glob(f"{path.name}*") if each.is_file())


def row_of(path: Path, foreign_id: str) -> Row | None:
    """Return what the journal knows of a withdrawal."""

    async def read() -> tuple[Row | None, dict[str, Totals]]:
        journal = SqliteJournal(path)
        try:
            return await journal.find(ACCOUNT, foreign_id), await journal.totals(ACCOUNT)
        finally:
            await journal.aclose()

    row, totals = asyncio.run(read())
    assert totals["BTC"].requested == 5
    return row


def test_one_withdrawal_is_redacted(path: Path) -> None:
    """Its id stays known; whom it was for is found nowhere in the file any more."""
    assert words(path).count(PERSON.encode()) > 0
    result = invoke("journal", "redact", "one", "--yes", "--journal", str(path))
    assert (result.exit_code, result.output) == (
        0,
        "Redacted 1 withdrawal. Backups, exports and AlphaPo keep what they have.\n",
    )
    assert forgotten(path) == {"one"}
    shown = invoke("journal", "show", "one", "--journal", str(path)).output
    assert "removed" in shown
    assert "redacted: bodies, address, reference and replies" in shown
    assert "id of one" in shown


def test_everything_of_a_person_is_redacted(path: Path) -> None:
    """And nothing of anybody else; neither the file nor its log holds a word of it."""
    result = invoke("journal", "redact", "--end-user-reference", PERSON, "--journal", str(path), stdin="y\n")
    assert result.exit_code == 0
    assert "Redact 2 withdrawals for good? [y/N]" in result.stderr
    assert forgotten(path) == {"one", "two"}
    assert PERSON.encode() not in words(path)
    assert b"somebody-else" in words(path)


@pytest.mark.parametrize("command", ["redact", "prune"])
def test_what_is_old_and_over_is_forgotten(path: Path, command: str) -> None:
    """What is not over stays as it is, and is told; a second time there is nothing to do."""
    arguments = ("journal", command, "--older-than", "36h", "--yes", "--journal", str(path))
    result = invoke(*arguments)
    assert result.exit_code == 0
    assert result.output.startswith(
        "1 are not finished, or their outcome was not reported yet: they are needed and stay as they are.\n"
        "`alphapo resume` settles what it can and reports outcomes; `alphapo worker` follows the rest.\n"
    )
    assert f"{command.capitalize()}{'ed' if command == 'redact' else 'd'} 2 withdrawals." in result.output
    assert forgotten(path) == {"one", "three"}
    row = row_of(path, "one")
    assert row is not None
    assert row.withdrawal is not None
    assert (row.state, row.withdrawal.id, row.attempts) == ("accepted", "id of one", 2 if command == "redact" else 0)
    again = invoke(*arguments)
    assert (again.exit_code, again.output.splitlines()[-1]) == (0, f"Nothing to {command}: 2 were done before.")


@pytest.mark.parametrize("arguments", [("redact", "--end-user-reference", PERSON), ("prune", "--older-than", "1d")])
def test_a_full_disk_at_the_report_changes_no_exit_code(
    path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    """What was removed is removed."""
    with open("/dev/full", "w", encoding="utf-8") as full:  # noqa: PTH123 - a device
        monkeypatch.setattr("sys.stdout", full)
        with pytest.raises(SystemExit) as ended:
            main(["journal", *arguments, "--yes", "--journal", str(path)])
    assert ended.value.code == 0


def test_nothing_happens_without_a_yes(path: Path) -> None:
    """Asked where there is a terminal; nobody there is a no."""
    for answer in ("n\n", ""):
        result = invoke("journal", "prune", "--older-than", "1d", "--journal", str(path), stdin=answer)
        assert result.exit_code == 1
        assert result.stderr.endswith("Not confirmed: nothing was removed. Without a terminal pass --yes.\n")
    assert forgotten(path) == set()


@pytest.mark.parametrize(
    ("foreign_id", "words"),
    [("processing", "1 are not finished"), ("doubt", "1 are not finished"), ("nobody", "Nothing to redact.")],
)
def test_what_is_needed_or_not_known_is_refused(path: Path, foreign_id: str, words: str) -> None:
    """Whoever named it learns that it was not done."""
    result = invoke("journal", "redact", foreign_id, "--yes", "--journal", str(path))
    assert result.exit_code == 1
    assert words in result.output
    assert forgotten(path) == set()


def test_what_nobody_heard_of_is_kept_until_somebody_has(path: Path) -> None:
    """Enqueued, then refused: whoever asked for it must learn so first, and the message says how."""

    async def happen(*evidence: Any) -> None:
        journal = SqliteJournal(path)
        await learn(journal, "unheard", *evidence, now=1.0)
        await journal.aclose()

    refused = Attempt("worker", Rejected({"address": ["Not supported address format."]}), 1.0, 2.0)
    asyncio.run(happen(asked("unheard", "0", is_awaited=False), refused))
    command = ("journal", "redact", "unheard", "--yes", "--journal", str(path))
    result = invoke(*command)
    assert result.exit_code == 1
    assert "`alphapo resume` settles what it can and reports outcomes" in result.output
    asyncio.run(happen(Reported()))
    assert invoke(*command).exit_code == 0
    assert forgotten(path) == {"unheard"}


def test_another_process_that_reads_is_told_of() -> None:
    """Its view of the file keeps the log from being emptied."""
    done = "Pruned 2 withdrawals. Backups, exports and AlphaPo keep what they have."
    assert closing_words("prune", 2, is_wiped=True) == [done]
    (first, second) = closing_words("prune", 2, is_wiped=False)
    assert (first, "until the last one is closed" in second) == (done, True)


@pytest.mark.parametrize(
    "arguments", [(), ("one", "--older-than", "1d"), ("--end-user-reference", "u", "--older-than", "1d")]
)
def test_one_thing_is_named(path: Path, arguments: tuple[str, ...]) -> None:
    """Neither none nor two."""
    result = invoke("journal", "redact", *arguments, "--journal", str(path))
    assert result.exit_code == 2
    assert "Name one of FOREIGN_ID, --end-user-reference and --older-than." in result.output


def test_a_journal_in_memory_has_nothing_to_forget() -> None:
    """It needs a file or a database."""
    result = invoke("journal", "prune", "--older-than", "1d", "--journal", "memory")
    assert result.exit_code == 2


def test_an_age_has_a_unit(path: Path) -> None:
    """400 alone would be seconds, and may have been meant as days: nothing is removed."""
    for command in ("redact", "prune"):
        result = invoke("journal", command, "--older-than", "400", "--yes", "--journal", str(path))
        assert result.exit_code == 2
        assert "'400' is not a duration" in result.stderr
    assert forgotten(path) == set()
