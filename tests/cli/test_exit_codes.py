"""Exit codes, and what is said about errors."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

import pytest

from alphapo_async.cli.exit_codes import Exit, code_of, explain, nothing_sent, worst_of
from alphapo_async.cli.messages import AN_EARLIER_CALL, CHECK_THE_KEY, advice
from alphapo_async.core.errors import (
    AlphapoError,
    AlphapoUnavailable,
    AuthenticationError,
    ConfigurationError,
    Existing,
    ForeignIdConflict,
    InvalidRequest,
    JournalError,
    WithdrawalFailed,
    WithdrawalNotSent,
    WithdrawalRejected,
    WithdrawalUnknown,
)
from alphapo_async.journal.postgres.connection import PostgresConnection
from alphapo_async.journal.sqlite.faults import journal_error


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ([], 0),
        (["accepted", "accepted"], 0),
        (["accepted", "failed"], 1),
        (["rejected"], 1),
        (["conflict"], 1),
        (["invalid"], 1),
        (["not_sent"], 3),
        (["unknown", "rejected"], 3),
        (["rejected", "unknown", "accepted"], 3),
        (["something new"], 3),
        (["key_refused", "unknown"], 4),
    ],
)
def test_the_worst_outcome_is_the_exit_code(outcomes: list[str], code: int) -> None:
    """Unknown and not sent win over refused, and a refused key over everything."""
    assert code_of(outcomes) == code


def test_what_is_wrong_wins_over_what_does_not_answer() -> None:
    """Of several checks: to run again does not help there. A refused key wins over both."""
    assert worst_of([Exit.REFUSED, Exit.UNKNOWN, Exit.ALL_ACCEPTED]) is Exit.UNKNOWN
    assert worst_of([Exit.UNKNOWN, Exit.WRONG]) is Exit.WRONG
    assert worst_of([Exit.WRONG, Exit.KEY_REFUSED, Exit.UNKNOWN]) is Exit.KEY_REFUSED


ERRORS = [
    (InvalidRequest({"amount_to": "is negative."}), 2),
    (ConfigurationError("no"), 2),
    (WithdrawalRejected("no", errors={}), 1),
    (WithdrawalFailed("no"), 1),
    (ForeignIdConflict("no", existing=Existing(state="open")), 1),
    (WithdrawalNotSent("no", reason="queue"), 3),
    (WithdrawalUnknown("no", reason="no answer"), 3),
    (WithdrawalUnknown("no", reason="key refused"), 4),
    (JournalError("no", recorded=None, foreign_id="f"), 3),
    (JournalError("no", recorded=None), 2),
    (AuthenticationError("no", code="bad_header_key"), 4),
    (AlphapoUnavailable("no", http_status=502), 3),
    (AlphapoUnavailable("no", http_status=403, code="bad_header_key"), 4),
    (AlphapoError("no"), 3),
    (RuntimeError("no"), 3),
]


@pytest.mark.parametrize(("error", "code"), ERRORS, ids=lambda value: type(value).__name__)
def test_every_error_has_its_exit_code(error: Exception, code: int) -> None:
    """The table of the exit codes, error by error, each with something to read."""
    lines, result = explain(error)
    assert result == code
    assert all(lines)


@pytest.mark.parametrize(("code", "lines"), [("bad_header_key", ["no", f"{CHECK_THE_KEY}."]), (None, ["no"])])
def test_a_question_under_a_refused_key_comes_with_what_to_check(code: str | None, lines: list[str]) -> None:
    """A wrong secret is what a first user meets first, with a command that only asks."""
    assert explain(AlphapoUnavailable("no", http_status=403, code=code))[0] == lines


@pytest.mark.parametrize(
    ("error", "may_release"),
    [
        (WithdrawalRejected("no", errors={}), "yes"),
        (WithdrawalUnknown("no", reason="no answer"), "no"),
        (JournalError("no", recorded=None, foreign_id="f"), "no"),
        (JournalError("no", recorded=False, foreign_id="f"), "yes"),
    ],
)
def test_the_end_of_a_withdrawal_says_whether_funds_may_be_released(
    error: WithdrawalUnknown | WithdrawalRejected | JournalError, may_release: str
) -> None:
    """Three lines: what happened, whether the balance may be given back, what to do now."""
    lines, _ = explain(error)
    assert lines == ["no", f"may release funds: {may_release}", f"next step: {advice(error)}"]


def test_a_journal_that_cannot_be_used_says_nothing_of_a_withdrawal_that_there_is_not() -> None:
    """Only the reason."""
    assert explain(JournalError("It is none.", recorded=None))[0] == ["It is none."]


@pytest.mark.parametrize(
    ("result", "code"),
    [
        ("file is not a database", 2),
        ("attempt to write a readonly database", 2),
        ("database disk image is malformed", 2),
        ("unable to open database file", 2),
        ("database or disk is full", 3),
        ("database is locked", 3),
    ],
)
def test_a_journal_that_is_only_busy_or_full_is_no_wrong_input(result: str, code: int) -> None:
    """Another time the same command may do; a wrong name stays wrong."""
    assert explain(journal_error(Path("payouts.db"), sqlite3.OperationalError(result)))[1] == code


@pytest.mark.parametrize("error", [OSError(errno.ECONNREFUSED, "refused"), TimeoutError(), ConnectionResetError()])
def test_a_database_that_is_not_there_now_is_no_wrong_input(error: Exception) -> None:
    """It may be back the next time."""
    server = PostgresConnection("postgresql://payer@db/payouts", "alphapo", None)
    assert explain(server.journal_error(error))[1] == Exit.UNKNOWN


def test_whatever_fails_before_anything_can_leave_says_so() -> None:
    """With the name of the withdrawal, where there is one; an error about a withdrawal says itself what it means."""
    detail = "It has moved. Nothing was sent."
    named = "Withdrawal 'f': nothing was sent by this call. It has moved."
    for foreign_id, recorded, result in (
        (None, None, detail),
        ("f", None, f"{named} {AN_EARLIER_CALL}"),
        ("f", False, named),
    ):
        with pytest.raises(JournalError) as caught, nothing_sent(foreign_id):
            raise JournalError(detail, recorded=recorded)
        assert (caught.value.detail, caught.value.recorded) == (result, recorded)
    about = JournalError("no", foreign_id="g")
    with pytest.raises(JournalError) as caught, nothing_sent("f"):
        raise about
    assert caught.value is about


def test_an_invalid_request_names_the_options() -> None:
    """Every problem at once, under the name that was typed."""
    lines, _ = explain(InvalidRequest({"amount_to": "is negative.", "address": "is required."}))
    assert lines[1:] == ["  --amount-to is negative.", "  --address is required."]


def test_an_unexpected_error_keeps_its_text_to_itself() -> None:
    """Nobody knows what an unexpected text holds."""
    lines, code = explain(ValueError("a-made-up-secret"))
    assert code is Exit.UNKNOWN
    assert "internal error (ValueError" in lines[0]
    assert "secret" not in lines[0]


def test_a_full_disk_behind_the_output_is_no_internal_error(tmp_path: Path) -> None:
    """An export that is cut off says nothing about withdrawals; another file's error names the file."""
    lines, code = explain(OSError(errno.ENOSPC, "No space left on device"))
    assert (lines, code) == (
        ["The output cannot be written (No space left on device): run the same command again."],
        Exit.UNKNOWN,
    )
    other = OSError(errno.ENOSPC, "No space left on device", str(tmp_path / "other"))
    assert "internal error (OSError" in explain(other)[0][0]
