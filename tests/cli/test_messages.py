"""The messages of errors on the command line."""

from __future__ import annotations

from typing import Literal, TypeAlias

import pytest

from alphapo_async.cli.messages import (
    advice,
    happened,
    option_problem,
    row_fact,
    row_message,
    row_problem,
    warning_text,
)
from alphapo_async.core.codec import encode_body
from alphapo_async.core.errors import (
    AlphapoError,
    AuthenticationError,
    Existing,
    ForeignIdConflict,
    InvalidRequest,
    JournalError,
    WithdrawalError,
    WithdrawalFailed,
    WithdrawalNotSent,
    WithdrawalRejected,
    WithdrawalUnknown,
)
from alphapo_async.core.models import request_of

Command: TypeAlias = Literal["withdraw", "resume", "batch"]
COMMANDS: tuple[Command, ...] = ("withdraw", "resume", "batch")
_PYTHON = (
    "=True",
    "=False",
    '="',
    "Decimal",
    "mapping",
    "same request again",
    "base_url",
    "Call again",
    "Calling again",
)
ERRORS: list[WithdrawalError | JournalError] = [
    WithdrawalRejected("No.", errors={}, foreign_id="f"),
    WithdrawalFailed("No.", foreign_id="f"),
    WithdrawalNotSent("No.", reason="queue", foreign_id="f"),
    WithdrawalUnknown("No.", reason="no answer", foreign_id="f"),
    WithdrawalUnknown("No.", reason="key refused", foreign_id="f"),
    ForeignIdConflict("No.", existing=Existing(state="open"), foreign_id="f"),
    AuthenticationError("No.", code="bad_header_key", foreign_id="f"),
    JournalError("No."),
    JournalError("No.", recorded=None, foreign_id="f"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("command", COMMANDS)
def test_the_advice_names_no_python(error: WithdrawalError, command: Command) -> None:
    """For every outcome, apart from what happened."""
    assert happened(error) == "No."
    result = advice(error, command).replace("--retry-rejected sends the same request again", "")
    assert result
    assert not [word for word in _PYTHON if word in result]


def test_only_who_made_the_request_can_send_it_again() -> None:
    """`resume` has no such option."""
    rejected = ERRORS[0]
    assert "--retry-rejected" in advice(rejected)
    assert "--retry-rejected" not in advice(rejected, "resume")


@pytest.mark.parametrize("command", COMMANDS)
def test_a_row_whose_key_is_missing_stays_pending_until_the_key_is_added(command: Command) -> None:
    """Another pass does not help, so that the advice does not name one."""
    missing = WithdrawalUnknown("No.", reason="key", foreign_id="f")
    assert advice(missing, command) == (
        "Keep it pending: do not refund it and do not pay it under a new foreign_id. No pass settles it without its key: "
        "add the key to that file, then run the same command again."
    )
    other = WithdrawalUnknown("No.", reason="no answer", foreign_id="f")
    assert "add the key" not in advice(other, command)


@pytest.mark.parametrize(
    ("fields", "name", "words"),
    [
        ({"end_user_reference": "a@b.cd"}, "end_user_reference", "; give an internal id."),
        ({"currency": "XRP"}, "tag", "; --no-tag says that none is wanted."),
        ({"tag": "7", "without_tag": True}, "tag", "is given together with --no-tag: give one of the two."),
        ({"amount": "0.12345678901234567890"}, "amount", ": pass --amount-format string."),
    ],
)
def test_what_is_wrong_with_a_field_names_the_options(fields: dict[str, object], name: str, words: str) -> None:
    """As the request says it, and what the command can do about it."""
    usual = {"foreign_id": "f", "currency": "BTC", "address": "a", "amount": "1", "end_user_reference": "u"}
    with pytest.raises(InvalidRequest) as caught:
        encode_body(request_of({**usual, **fields}), "number")
    result = option_problem(caught.value.problems[name])
    assert result.endswith(words)
    assert not [word for word in _PYTHON if word in result]


def test_a_row_has_what_happened_and_what_to_do() -> None:
    """With what the file's owner can change; an error without advice stays as it is."""
    assert row_message(ERRORS[0]).startswith("No. Correct the row, or release the funds; --retry-rejected")
    assert row_message(ERRORS[3]).startswith("No. Keep it pending")
    assert "Check ALPHAPO_KEY" in row_message(ERRORS[4])
    assert row_message(AlphapoError("Why?")) == "Why?"


@pytest.mark.parametrize(
    ("fields", "name", "words"),
    [
        ({"end_user_reference": "a@b.cd"}, "end_user_reference", "or a column allow_personal_reference with true."),
        ({"currency": "XRP"}, "tag", "or leave a column tag empty and pass --no-tag."),
        ({"address": 5}, "address", "must be text in quotes."),
        ({"amount": []}, "amount", "must be a number, or one in quotes."),
        ({"sender_data": "x"}, "sender_data", "must be a JSON object."),
        ({"amount": "x"}, "amount", "is not a decimal number."),
    ],
)
def test_the_problem_of_a_field_names_cells_and_columns(fields: dict[str, object], name: str, words: str) -> None:
    """What is meant for a program's author becomes what is meant for a file's."""
    usual = {"foreign_id": "f", "currency": "BTC", "address": "x", "amount": "1", "end_user_reference": "u"}
    with pytest.raises(InvalidRequest) as caught:
        request_of({**usual, **fields})
    result = row_problem(caught.value.problems[name])
    assert result.endswith(words)
    assert not [word for word in _PYTHON if word in result]


def test_warnings_are_one_sentence_for_each_field() -> None:
    """In the order of the fields."""
    assert (
        warning_text({"amount": "is small.", "address": "is wrong."}) == "warning: amount is small. address is wrong."
    )


def test_the_fact_of_a_row_has_no_advice() -> None:
    """And an error without advice has no fact of its own: its text is one."""
    assert row_fact(ERRORS[0]) == "No."
    assert row_fact(AlphapoError("Why?")) is row_fact(None) is None
