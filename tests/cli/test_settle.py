"""`alphapo journal settle`: said by a person, once, and not too early."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from alphapo_async.cli.journal import login_name
from alphapo_async.core.evidence import Attempt, Evidence, LeaseExpired, Released
from alphapo_async.core.replies import InDoubt, Rejected
from alphapo_async.core.row import Assumptions
from alphapo_async.core.transitions import apply, new_row
from alphapo_async.journal.sqlite.journal import SqliteJournal
from tests.cli.conftest import invoke
from tests.support.journal_suite import ACCOUNT, LOST, asked, learn

REJECTED = ("--rejected", "--by", "anna", "--because", "not in the dashboard")
ACCEPTED = ("--accepted", "--without-id", "--by", "anna", "--because", "seen")
SEEN = ("--accepted", "--id", "55", "--by", "anna", "--because", "seen")
QUIET = 1_800.0


def journal_with(folder: Path, *evidence: Evidence, foreign_id: str = "f") -> str:
    """Return the path of a journal with one row that has heard this."""
    path = folder / "payouts.db"

    async def fill() -> None:
        journal = SqliteJournal(path)
        await learn(journal, foreign_id, asked(foreign_id, "0.5"), *evidence, now=1.0)
        await journal.aclose()

    asyncio.run(fill())
    return str(path)


def lost(ago: float) -> Attempt:
    """Return an attempt in doubt that ended so many seconds ago."""
    began = time.time() - ago
    return Attempt("worker", InDoubt("no answer in time"), began - 1.0, began)


@pytest.fixture
def path(tmp_path: Path) -> str:
    """Give a journal with a row that has long been in doubt, and is free."""
    return journal_with(tmp_path, LOST, Released("worker", "queue"))


def test_a_free_open_row_is_settled_by_hand_once(path: str) -> None:
    """With name and reason, in the history too, where only what was taken stands."""
    by_hand = ("journal", "settle", "f", *REJECTED, "--journal", path)
    result = invoke(*by_hand)
    assert (result.exit_code, result.stdout) == (0, "f: rejected by anna: not in the dashboard\n")
    again = invoke(*by_hand)
    assert again.exit_code == 1
    assert (
        "Not settled: it was rejected by anna: not in the dashboard. --correct replaces that decision." in again.stderr
    )
    shown = invoke("journal", "show", "f", "--journal", path).stdout
    assert shown.count("operator: rejected by anna") == 1


def test_accepted_by_hand_keeps_alphapos_id(path: str) -> None:
    """In the row, and in the history with the decision."""
    assert invoke("journal", "settle", "f", *SEEN, "--journal", path).exit_code == 0
    shown = invoke("journal", "show", "f", "--journal", path).stdout
    assert "AlphaPo's id:" in shown
    assert "operator: accepted with id 55 by anna: seen" in shown


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (ACCEPTED[:1] + ACCEPTED[2:], "pass either --id with AlphaPo's id, or --without-id if you could not read it"),
        ((*SEEN, "--without-id"), "pass either --id with AlphaPo's id, or --without-id"),
        ((*REJECTED, "--id", "55"), "--id and --without-id belong to --accepted"),
        ((*REJECTED, "--without-id"), "--id and --without-id belong to --accepted"),
        ((*ACCEPTED[:1], *ACCEPTED[2:], "--id", ""), "is empty, or has spaces"),
        ((*ACCEPTED[:1], *ACCEPTED[2:], "--id", "55 "), "is empty, or has spaces"),
        ((*ACCEPTED[:1], *ACCEPTED[2:], "--id", "5\x075"), "is empty, or has spaces"),
    ],
)
def test_accepted_asks_for_alphapos_id(path: str, words: tuple[str, ...], why: str) -> None:
    """A decision without an id names no withdrawal: nothing is settled until the id is given, or left out on purpose."""
    result = invoke("journal", "settle", "f", *words, "--journal", path)
    assert result.exit_code == 2
    assert why in " ".join(result.stderr.replace("│", " ").split())
    assert "operator" not in invoke("journal", "show", "f", "--journal", path).stdout


def test_a_decision_is_corrected_and_both_stay_in_the_history(path: str) -> None:
    """A typing error in the id, then the outcome itself; each once."""
    assert invoke("journal", "settle", "f", *SEEN, "--journal", path).exit_code == 0
    right = ("--accepted", "--id", "56", "--by", "bo", "--because", "the id was mistyped", "--correct")
    result = invoke("journal", "settle", "f", *right, "--journal", path)
    said = "accepted with id 56 by bo, who corrects an earlier decision: the id was mistyped"
    assert (result.exit_code, result.stdout) == (0, f"f: {said}\n")
    assert invoke("journal", "settle", "f", *REJECTED, "--correct", "--journal", path).exit_code == 0
    shown = " ".join(invoke("journal", "show", "f", "--journal", path).stdout.split())
    assert "contradiction: rejected after accepted" in shown
    assert shown.count("accepted with id 55 by anna: seen") == 1
    assert "AlphaPo's id" not in shown
    assert "rejected by anna, who corrects an earlier decision: not in the dashboard" in shown


def test_only_a_persons_decision_is_corrected(path: str) -> None:
    """What is open has none yet, and what AlphaPo itself has said stands."""
    result = invoke("journal", "settle", "f", *SEEN, "--correct", "--journal", path)
    assert result.exit_code == 1
    assert "Not settled: it is open, and no decision of an operator is in force." in result.stderr


def test_a_correction_to_rejected_waits_for_the_quiet_time_too(tmp_path: Path) -> None:
    """What was said to be accepted may still be accepted."""
    path = journal_with(tmp_path, lost(5.0), Released("worker", "queue"))
    assert invoke("journal", "settle", "f", *SEEN, "--journal", path).exit_code == 0
    result = invoke("journal", "settle", "f", *REJECTED, "--correct", "--journal", path)
    assert result.exit_code == 1
    assert "AlphaPo might still accept what was sent" in result.stderr
    assert invoke("journal", "settle", "f", *REJECTED, "--correct", "--anyway", "--journal", path).exit_code == 0


def test_what_alphapo_refused_is_not_settled_by_hand(tmp_path: Path) -> None:
    """There is nothing to decide."""
    path = journal_with(tmp_path, Attempt("worker", Rejected({"amount": ["too small"]}), 1.0, 1.0))
    result = invoke("journal", "settle", "f", *SEEN, "--journal", path)
    assert result.exit_code == 1
    assert "Not settled: it is rejected. Only an open row can be settled by hand." in result.stderr


def test_a_held_row_is_not_settled_by_hand(tmp_path: Path) -> None:
    """Somebody works on it."""
    result = invoke("journal", "settle", "f", *ACCEPTED, "--journal", journal_with(tmp_path))
    assert result.exit_code == 1
    assert "worker works on it" in result.stderr


def test_what_may_still_be_accepted_is_not_called_rejected(tmp_path: Path) -> None:
    """Before the quiet time is over: it is said when, what the word means, and how to say it all the same."""
    path = journal_with(tmp_path, lost(5.0), Released("worker", "queue"))
    until = time.gmtime(time.time() - 5.0 + QUIET)
    result = invoke("journal", "settle", "f", *REJECTED, "--journal", path)
    assert result.exit_code == 1
    assert "AlphaPo might still accept what was sent" in result.stderr
    assert time.strftime("until %Y-%m-%d %H:", until) in result.stderr
    assert "not even a cancelled one. --anyway takes it now." in result.stderr
    assert "operator" not in invoke("journal", "show", "f", "--journal", path).stdout
    result = invoke("journal", "settle", "f", *REJECTED, "--anyway", "--journal", path)
    assert (result.exit_code, result.stdout) == (0, "f: rejected by anna: not in the dashboard\n")


def test_accepted_may_be_said_at_any_time(tmp_path: Path) -> None:
    """What AlphaPo has, it has."""
    path = journal_with(tmp_path, lost(5.0), Released("worker", "queue"))
    assert invoke("journal", "settle", "f", *ACCEPTED, "--journal", path).exit_code == 0


def test_once_the_quiet_time_is_over_rejected_may_be_said(tmp_path: Path) -> None:
    """Nothing that was sent can be accepted any more."""
    path = journal_with(tmp_path, lost(QUIET + 1.0), Released("worker", "queue"))
    assert invoke("journal", "settle", "f", *REJECTED, "--journal", path).exit_code == 0


def test_rejected_waits_for_the_quiet_time_that_the_row_was_recorded_under(tmp_path: Path) -> None:
    """Its caller assumed that AlphaPo may accept a body for an hour."""
    path, an_hour = tmp_path / "payouts.db", Assumptions(quiet=3_600.0)

    async def fill() -> None:
        journal = SqliteJournal(path)
        recorded = new_row(ACCOUNT, "f", asked("f", "0.5"), 1.0, is_durable=True, assumptions=an_hour)
        for one in (lost(QUIET + 600.0), Released("worker", "queue")):
            recorded = apply(recorded, one, 1.0, an_hour)
        await journal.update(ACCOUNT, "f", lambda _: (recorded, ()))
        await journal.aclose()

    asyncio.run(fill())
    refused = invoke("journal", "settle", "f", *REJECTED, "--journal", str(path))
    assert refused.exit_code == 1
    assert "AlphaPo might still accept what was sent, until" in " ".join(refused.stderr.split())


def test_a_row_of_a_worker_that_nobody_hears_from_waits_for_its_lease(tmp_path: Path) -> None:
    """It may send until then, so that nobody can say anything, however much he means it."""
    path = journal_with(tmp_path, LeaseExpired("worker", time.time() + 60.0))
    for words in (ACCEPTED, (*REJECTED, "--anyway")):
        result = invoke("journal", "settle", "f", *words, "--journal", path)
        assert result.exit_code == 1
        assert "Not settled: a worker that does not answer may send it until " in result.stderr


def test_what_is_not_known_is_said(path: str) -> None:
    """Exit code 1."""
    result = invoke("journal", "settle", "never", *ACCEPTED, "--journal", path)
    assert result.exit_code == 1
    assert result.stderr == (
        f"The journal has no withdrawal 'never' of account {ACCOUNT!r}. Check the spelling, --journal and --account.\n"
    )


def test_the_word_must_be_said(path: str) -> None:
    """Neither --accepted nor --rejected is wrong usage."""
    result = invoke("journal", "settle", "f", "--by", "a", "--because", "b", "--journal", path)
    assert result.exit_code == 2
    assert "Pass --accepted or --rejected." in result.stderr


def test_a_decision_without_by_is_recorded_under_the_login_name(path: str) -> None:
    """The history says under whose login the command ran."""
    result = invoke("journal", "settle", "f", "--accepted", "--without-id", "--because", "seen", "--journal", path)
    assert result.exit_code == 0
    assert login_name() in result.stdout
