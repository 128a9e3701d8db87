"""What errors say to somebody who types a command."""

from __future__ import annotations

import pytest

from alphapo_async.cli.batch.row_messages import spoken, spoken_problem
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

_PYTHON = ("=True", "=False", '="', "Decimal", "mapping", "same request", "base_url", "Call again", "Calling again")
ERRORS: list[WithdrawalError | JournalError] = [
    WithdrawalRejected("No.", errors={}, foreign_id="f"),
    WithdrawalFailed("No.", foreign_id="f"),
    WithdrawalNotSent("No.", reason="queue", foreign_id="f"),
    WithdrawalUnknown("No.", reason="no answer", foreign_id="f"),
    ForeignIdConflict("No.", existing=Existing(state="open"), foreign_id="f"),
    AuthenticationError("No.", code="bad_header_key", foreign_id="f"),
    JournalError("No."),
]


@pytest.mark.parametrize("error", ERRORS)
def test_what_to_do_is_said_without_python(error: AlphapoError) -> None:
    """Of every outcome, in one sentence or two after what happened."""
    told = spoken(error)
    assert told.startswith("No. ")
    assert len(told) > len("No. ")
    assert not [word for word in _PYTHON if word in told]


def test_an_error_without_advice_says_what_it_says() -> None:
    """Nothing is added."""
    assert spoken(AlphapoError("Why?")) == "Why?"


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
def test_what_is_wrong_with_a_field_is_said_without_python(fields: dict[str, object], name: str, words: str) -> None:
    """What is meant for a program's author becomes what is meant for a file's."""
    usual = {"foreign_id": "f", "currency": "BTC", "address": "x", "amount": "1", "end_user_reference": "u"}
    with pytest.raises(InvalidRequest) as caught:
        request_of({**usual, **fields})
    told = spoken_problem(caught.value.problems[name])
    assert told.endswith(words)
    assert not [word for word in _PYTHON if word in told]
