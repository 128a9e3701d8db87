"""What errors of one withdrawal say to somebody who types a command."""

from __future__ import annotations

import pytest

from alphapo_async.cli.messages import advice, happened, spoken_problem
from alphapo_async.core.codec import encode_body
from alphapo_async.core.errors import (
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

_PYTHON = ("=True", "=False", '="', "same request again", "base_url", "Call again", "Calling again")
ERRORS: list[WithdrawalError | JournalError] = [
    WithdrawalRejected("No.", errors={}, foreign_id="f"),
    WithdrawalFailed("No.", foreign_id="f"),
    WithdrawalNotSent("No.", reason="queue", foreign_id="f"),
    WithdrawalUnknown("No.", reason="no answer", foreign_id="f"),
    WithdrawalUnknown("No.", reason="key refused", foreign_id="f"),
    ForeignIdConflict("No.", existing=Existing(state="open"), foreign_id="f"),
    AuthenticationError("No.", code="bad_header_key", foreign_id="f"),
    JournalError("No."),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("of_resume", [False, True])
def test_what_to_do_is_said_without_python(error: WithdrawalError, *, of_resume: bool) -> None:
    """Of every outcome, apart from what happened."""
    assert happened(error) == "No."
    told = advice(error, of_resume=of_resume).replace("--retry-rejected sends the same request again", "")
    assert told
    assert not [word for word in _PYTHON if word in told]


def test_only_who_made_the_request_can_send_it_again() -> None:
    """`resume` has no such option."""
    rejected = ERRORS[0]
    assert "--retry-rejected" in advice(rejected)
    assert "--retry-rejected" not in advice(rejected, of_resume=True)


@pytest.mark.parametrize("of_resume", [False, True])
def test_a_row_whose_key_is_missing_stays_pending_until_the_key_is_added(*, of_resume: bool) -> None:
    """Another pass does not help, so that the advice does not name one."""
    missing = WithdrawalUnknown("No.", reason="key", foreign_id="f")
    assert advice(missing, of_resume=of_resume) == (
        "Keep it pending: do not refund it and do not pay it under a new foreign_id. No pass settles it without its key: "
        "add the key to that file, then run the same command again."
    )
    other = WithdrawalUnknown("No.", reason="no answer", foreign_id="f")
    assert "add the key" not in advice(other, of_resume=of_resume)


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
    told = spoken_problem(caught.value.problems[name])
    assert told.endswith(words)
    assert not [word for word in _PYTHON if word in told]
