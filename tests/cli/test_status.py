"""`alphapo status` and `alphapo check` against a local sandbox."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path

import pytest
from msgspec import structs

from alphapo_async.core.evidence import OperatorDecision
from alphapo_async.core.transitions import apply
from alphapo_async.journal.sqlite.journal import SqliteJournal
from tests.cli.conftest import Local, invoke, withdrawing

NOBODY = "http://127.0.0.1:9"

NO_PROOF = "this does not mean unpaid. Check the spelling, --journal and --account; then see `alphapo runbook money`.\n"


def test_status_shows_what_a_look_up_finds(local: Local) -> None:
    """A withdrawal of another client is seen through AlphaPo, and the fresh journal says why it knows nothing."""
    assert local.invoke(*withdrawing("asking-1")).exit_code == 0
    answer = local.invoke("status", "asking-1")
    assert answer.exit_code == 0
    assert "0.50000000 BTC" in answer.stdout
    assert "a journal in memory has only what its own process did" in answer.stdout


def test_status_as_json_has_both_sides(local: Local) -> None:
    """With the exit code that the command ends with; AlphaPo's side is null where there is no answer."""
    assert local.invoke(*withdrawing("asking-json")).exit_code == 0
    ended = local.invoke("status", "asking-json", "--json")
    shown = json.loads(ended.stdout)
    assert (shown["foreign_id"], shown["journal"], shown["exit_code"]) == ("asking-json", None, ended.exit_code)
    assert shown["alphapo"]["foreign_id"] == "asking-json"
    assert list(shown["alphapo"]["crypto_address"]) == ["address", "tag"]
    assert "has_numbers" not in shown["alphapo"]
    assert shown["alphapo"]["txids"] == []
    nothing = json.loads(local.invoke("status", "asking-json", "--json", ALPHAPO_BASE_URL="http://127.0.0.1:9").stdout)
    assert nothing["alphapo"] is None
    assert "no connection" in nothing["error"]


def test_a_withdrawal_that_is_too_wide_is_shown_line_by_line(tmp_path: Path, local: Local) -> None:
    """No value is broken."""
    long = "asking-" + "x" * 120
    path = str(tmp_path / "payouts.db")
    wide = withdrawing(long, end_user_reference="user-" + "y" * 90)
    assert local.invoke(*wide, "--journal", path).exit_code == 0
    ended = local.invoke("status", long, "--journal", path)
    assert ended.stdout.splitlines()[0] == f"withdrawal {long}"
    assert ended.stdout.count(f"end_user_reference: user-{'y' * 90}") == 2


def test_status_of_nothing_says_that_this_proves_nothing(local: Local) -> None:
    """An answer "none" is no proof that nothing was paid, and the exit code says unknown."""
    answer = local.invoke("status", "asking-never")
    assert answer.exit_code == 3
    about = "The journal, which is in memory and has only what its own process did, has no withdrawal 'asking-never'"
    assert answer.stdout == f"{about}, and AlphaPo shows none to this key; {NO_PROOF}"
    assert "Name the journal with --journal" in answer.stderr


def test_status_of_what_a_file_does_not_have_is_a_sentence(local: Local, tmp_path: Path) -> None:
    """Without a table that is empty on both sides, and without the advice to name a journal."""
    path = tmp_path / "payouts.db"
    assert local.invoke(*withdrawing("asking-other"), "--journal", str(path)).exit_code == 0
    answer = local.invoke("status", "nope", "--journal", str(path))
    words = f"The journal has no withdrawal 'nope', and AlphaPo shows none to this key; {NO_PROOF}"
    assert (answer.exit_code, answer.stdout, answer.stderr) == (3, words, "")


def test_status_of_a_recorded_no_does_not_put_it_in_question(local: Local, tmp_path: Path) -> None:
    """The journal says that the funds may be released; a look-up that shows nothing agrees."""
    path = str(tmp_path / "payouts.db")
    assert local.invoke(*withdrawing("asking-too-much", amount="2000000000"), "--journal", path).exit_code == 1
    result = local.invoke("status", "asking-too-much", "--journal", path)
    assert "the funds may be released" in result.stdout
    assert result.stdout.splitlines()[-1] == "AlphaPo: not visible to this key."


def test_status_releases_no_funds_after_a_no_from_before_the_journal_went_back(local: Local, tmp_path: Path) -> None:
    """What the journal lost may have paid it: only the same payment again, which is looked up first, confirms the "no"."""
    path = str(tmp_path / "payouts.db")
    payment = (*withdrawing("asking-stale", amount="2000000000"), "--journal", path)
    assert local.invoke(*payment).exit_code == 1
    local.invoke("resume", "--restored", "--journal", path)
    for url, last in (("http://127.0.0.1:9", "no connection"), (local.url, "this does not mean unpaid")):
        stale = local.invoke("status", "asking-stale", "--journal", path, ALPHAPO_BASE_URL=url)
        assert (stale.exit_code, "may be released" in stale.stdout) == (3, False)
        assert "keep it pending" in stale.stdout
        assert last in stale.output.splitlines()[-1]
    assert local.invoke(*payment).exit_code == 1
    confirmed = local.invoke("status", "asking-stale", "--journal", path)
    assert (confirmed.exit_code, "the funds may be released" in confirmed.stdout) == (1, True)


def test_status_says_who_ended_it(local: Local) -> None:
    """A cancelled withdrawal ends with exit code 1 once AlphaPo says so."""
    assert local.invoke(*withdrawing("asking-cancelled", address="12345")).exit_code == 0
    until = time.monotonic() + 10
    while not (answer := local.invoke("status", "asking-cancelled")).exit_code and time.monotonic() < until:
        time.sleep(0.1)
    assert answer.exit_code == 1
    assert "cancelled" in answer.stdout


@pytest.mark.parametrize(
    ("environment", "code", "words"),
    [
        ({"ALPHAPO_KEY": "another-key"}, 4, "(bad_header_key). Check ALPHAPO_KEY, ALPHAPO_SECRET, "),
        ({"ALPHAPO_BASE_URL": NOBODY}, 3, "no connection"),
        ({"ALPHAPO_JOURNAL": "carrier://pigeon"}, 2, "journal"),
        ({"ALPHAPO_SECRET": ""}, 2, "ALPHAPO_SECRET"),
    ],
)
@pytest.mark.parametrize("command", [("status", "asking-2"), ("check",)])
def test_exit_codes_of_questions(
    local: Local, command: tuple[str, ...], environment: dict[str, str], code: int, words: str
) -> None:
    """Refused key 4, no answer 3, wrong configuration 2, each with a reason in words."""
    answer = local.invoke(*command, **environment)
    assert answer.exit_code == code
    assert words in answer.output


def test_status_says_what_contradicts_a_persons_word(local: Local, tmp_path: Path) -> None:
    """Rejected by hand, and AlphaPo has it: exit code 1, a sentence, and what is known now in the table."""
    path = str(tmp_path / "payouts.db")
    arguments = withdrawing("asking-by-hand")
    answer = local.invoke(*arguments, "--deadline", "0.2", "--journal", path, ALPHAPO_BASE_URL=NOBODY)
    assert answer.exit_code == 3
    assert local.invoke(*arguments).exit_code == 0

    async def fill() -> None:
        journal = SqliteJournal(path)
        row = await journal.find("default", "asking-by-hand")
        assert row is not None
        word = OperatorDecision("anna", "not in the dashboard", is_accepted=False)
        opened = structs.replace(row, state="open", settled_at=None, holder=None)
        await journal.update("default", "asking-by-hand", lambda _: (apply(opened, word, time.time()), ()))
        await journal.aclose()

    asyncio.run(fill())
    for _ in range(2):
        answer = local.invoke("status", "asking-by-hand", "--journal", path)
        assert answer.exit_code == 1
        assert "AlphaPo contradicts what was reported before: accepted after rejected." in answer.stderr
        assert "known" in answer.stdout
        assert "accepted" in answer.stdout


def test_status_names_the_command_that_records_what_is_final(local: Local, tmp_path: Path) -> None:
    """Once AlphaPo has confirmed what the journal knows as under way."""
    path, until = str(tmp_path / "payouts.db"), time.monotonic() + 10
    assert local.invoke(*withdrawing("asking-news"), "--journal", path).exit_code == 0
    while not (shown := local.invoke("status", "asking-news", "--journal", path)).stderr:
        assert time.monotonic() < until
        time.sleep(0.1)
    assert f"`alphapo resume --refresh --journal {path}` records" in shown.stderr
    again = local.invoke("status", "asking-news", "--journal", path)
    assert "resume" not in again.stderr


def test_status_wants_a_foreign_id() -> None:
    """An empty foreign_id is wrong usage."""
    assert invoke("status", " ").exit_code == 2


def test_status_wants_a_journal_that_is_there(local: Local, tmp_path: Path) -> None:
    """A mistyped path is no journal that knows nothing: exit code 2, and none is made."""
    answer = local.invoke("status", "asking-1", "--journal", str(tmp_path / "mistyped.db"))
    check = "Check --journal, or ALPHAPO_JOURNAL. Nothing was sent."
    assert (answer.exit_code, answer.output) == (2, f"no such journal: {tmp_path}/mistyped.db. {check}\n")
    assert list(tmp_path.iterdir()) == []
