"""Exit codes, and what is said about errors."""

from __future__ import annotations

import pytest

from alphapo_async.cli.ending import Exit, code_of, explain
from alphapo_async.core.errors import (
    AlphapoError,
    AlphapoUnavailable,
    AuthenticationError,
    ConfigurationError,
    ForeignIdConflict,
    InvalidRequest,
    JournalError,
    WithdrawalFailed,
    WithdrawalNotSent,
    WithdrawalRejected,
    WithdrawalUnknown,
)


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
        (["authentication", "unknown"], 4),
    ],
)
def test_the_worst_outcome_is_the_exit_code(outcomes: list[str], code: int) -> None:
    """Unknown and not sent win over refused, and a refused key over everything."""
    assert code_of(outcomes) == code


ERRORS = [
    (InvalidRequest({"amount_to": "is negative."}), 2),
    (ConfigurationError("no"), 2),
    (WithdrawalRejected("no", errors={}), 1),
    (WithdrawalFailed("no"), 1),
    (ForeignIdConflict("no"), 1),
    (WithdrawalNotSent("no", reason="queue"), 3),
    (WithdrawalUnknown("no", reason="no answer"), 3),
    (JournalError("no", recorded=None), 3),
    (AuthenticationError("no", code="bad_header_key"), 4),
    (AlphapoUnavailable("no", status=502), 3),
    (AlphapoUnavailable("no", status=403, code="bad_header_key"), 4),
    (AlphapoError("no"), 3),
    (RuntimeError("no"), 3),
]


@pytest.mark.parametrize(("error", "code"), ERRORS, ids=lambda value: type(value).__name__)
def test_every_error_has_its_exit_code(error: Exception, code: int) -> None:
    """The table of the exit codes, error by error, each with something to read."""
    lines, told = explain(error)
    assert told == code
    assert all(lines)


@pytest.mark.parametrize(
    ("error", "may_release"),
    [
        (WithdrawalRejected("no", errors={}), "yes"),
        (WithdrawalUnknown("no", reason="no answer"), "no"),
        (JournalError("no", recorded=None), "no"),
        (JournalError("no", recorded=False), "yes"),
    ],
)
def test_the_end_of_a_withdrawal_says_whether_funds_may_be_released(
    error: WithdrawalUnknown | WithdrawalRejected | JournalError, may_release: str
) -> None:
    """Three lines: what happened, whether the balance may be given back, what to do now."""
    lines, _ = explain(error)
    assert lines == ["no", f"may release funds: {may_release}", f"next step: {error.next_step}"]


def test_an_invalid_request_names_the_options() -> None:
    """Every problem at once, under the name that was typed."""
    lines, _ = explain(InvalidRequest({"amount_to": "is negative.", "address": "is required."}))
    assert lines[1:] == ["  --amount-to: is negative.", "  --address: is required."]


def test_an_unexpected_error_keeps_its_text_to_itself() -> None:
    """Nobody knows what an unexpected text holds."""
    lines, code = explain(ValueError("a-made-up-secret"))
    assert code is Exit.UNKNOWN
    assert "ValueError: a fault of its own" in lines[0]
    assert "secret" not in lines[0]
