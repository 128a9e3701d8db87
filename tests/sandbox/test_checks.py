"""What is checked before AlphaPo looks at its books."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphapo_async.sandbox.checks import (
    AuthenticationProblem,
    ExchangeFields,
    NotJson,
    WithdrawalFields,
    authentication_problem,
    check_exchange,
    check_withdrawal,
    read_object,
    spell,
    text_of,
)
from tests.support.questions import SIGNER, fields

ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
FIGURES = st.from_regex(r"\A[+-]?[0-9]{0,40}\.?[0-9]{0,40}([eE][+-]?[0-9]{1,4})?\Z")


@pytest.mark.parametrize(
    ("key", "signature", "code"),
    [
        (None, "x", "required_header_key"),
        ("", "x", "required_header_key"),
        ("sandbox-key", None, "required_header_signature"),
        ("another", "x", "bad_header_key"),
        ("sandbox-key", "x", "bad_header_signature"),
        ("sandbox-key", "é", "bad_header_signature"),
    ],
)
def test_the_four_documented_codes(key: str | None, signature: str | None, code: str) -> None:
    """Missing and wrong headers are told apart."""
    problem = authentication_problem({SIGNER.key: SIGNER}, key, signature, b"{}")
    assert isinstance(problem, AuthenticationProblem)
    assert problem.code == code


def test_a_genuine_signature_lets_in() -> None:
    """The signature belongs to exactly these bytes."""
    signers = {SIGNER.key: SIGNER}
    assert authentication_problem(signers, SIGNER.key, SIGNER.sign(b"{}"), b"{}") is None
    assert authentication_problem(signers, SIGNER.key, SIGNER.sign(b"{}"), b"{ }") is not None


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b'"\xff"', b"NaN", b"[" * 100_000, b'"\\ud800"', b"9" * 10_000])
def test_what_is_no_json_is_unreadable(body: bytes) -> None:
    """Broken text, broken encodings and bottomless nesting are one thing."""
    with pytest.raises(NotJson):
        read_object(body)


def test_figures_are_read_exactly() -> None:
    """No figure passes through a float; an array is an object without fields; an endless exponent is no number."""
    assert read_object(b'{"amount": 0.10000000000000000000000001}') == {
        "amount": Decimal("0.10000000000000000000000001")
    }
    assert read_object(b"[]") == {}
    assert read_object(b'{"amount": 1e99999999999999999999}')["amount"].is_nan()


@pytest.mark.parametrize(
    ("value", "text"), [("a", "a"), (5, "5"), (True, None), (None, None), (Decimal("1.5"), None), ([], None)]
)
def test_a_foreign_id_as_text(value: Any, text: str | None) -> None:
    """5 and "5" are the same; what can name nothing has no text."""
    assert text_of(value) == text
    assert spell(value) == (text or "")


def test_a_valid_withdrawal_passes() -> None:
    """What was asked comes out field by field."""
    result = check_withdrawal(fields(tag=7, convert_to="", foreign_id=164))
    assert result == WithdrawalFields(
        foreign_id=164,
        currency="BTC",
        address="bc1qSomebody",
        end_user_reference="user-42",
        amount=Decimal("0.0015"),
        amount_to=None,
        convert_to=None,
        tag="7",
    )
    assert isinstance(result, WithdrawalFields)
    assert result.receiver_currency == "BTC"


def test_a_conversion_passes() -> None:
    """A balance in euro pays in Bitcoin, whichever side is given."""
    result = check_withdrawal(fields(currency="EUR", convert_to="BTC", amount=None, amount_to=2))
    assert isinstance(result, WithdrawalFields)
    assert (result.amount, result.amount_to, result.receiver_currency) == (None, Decimal(2), "BTC")


@pytest.mark.parametrize(
    "amount", ["1", "1.5", ".5", "5.", "1e-3", 1, 10**20, Decimal("0.00000001"), Decimal("1E+2"), "0." + "1" * 30]
)
def test_amounts_that_pass(amount: Any) -> None:
    """A figure may be a string or a number, in any usual form."""
    result = check_withdrawal(fields(amount=amount))
    assert isinstance(result, WithdrawalFields)
    assert result.amount == Decimal(amount)


@pytest.mark.parametrize(
    "amount",
    [
        *(True, [], {}, "x", "", "1,5", "\N{ARABIC-INDIC DIGIT ONE}", "NaN", Decimal("NaN"), "1e50", Decimal("1E+50")),
        *("0." + "1" * 40, "9" * 200, Decimal("1E-999999"), Decimal("0E+999999"), "1" * 31 + "." + "1" * 30),
    ],
)
def test_amounts_that_are_none(amount: Any) -> None:
    """What is no figure, or has more digits than any currency, is blamed."""
    assert check_withdrawal(fields(amount=amount)) == {"amount": "The amount must be a number."}


@pytest.mark.parametrize(
    ("changes", "errors"),
    [
        ({"foreign_id": None}, {"foreign_id": "The foreign id field is required."}),
        ({"foreign_id": " "}, {"foreign_id": "The foreign id field is required."}),
        ({"foreign_id": [1]}, {"foreign_id": "The foreign id must be a string."}),
        ({"foreign_id": True}, {"foreign_id": "The foreign id must be a string."}),
        ({"currency": None}, {"currency": "The currency field is required."}),
        ({"currency": "btc"}, {"currency": "The selected currency is invalid."}),
        ({"currency": 5}, {"currency": "The currency must be a string."}),
        ({"address": ""}, {"address": "The address field is required."}),
        ({"address": "unsupported"}, {"address": "Not supported address format."}),
        ({"end_user_reference": None}, {"end_user_reference": "The end user reference field is required."}),
        (
            {"end_user_reference": "u" * 256},
            {"end_user_reference": "The end user reference may not be greater than 255 characters."},
        ),
        ({"tag": {}}, {"tag": "The tag must be a string."}),
        ({"amount": None}, {"amount": "The amount field is required."}),
        ({"amount": 0}, {"amount": "The amount must be at least 0.00000001."}),
        ({"amount": "-1"}, {"amount": "The amount must be at least 0.00000001."}),
        ({"currency": "XRP", "amount": "0.0001"}, {"amount": "The amount must be at least 0.001."}),
        (
            {"amount_to": 1, "convert_to": "ETH"},
            {"amount": "Only one of amount and amount to may be present."},
        ),
        (
            {"amount": None, "amount_to": 1},
            {"convert_to": "The convert to field is required."},
        ),
        ({"currency": "EUR"}, {"convert_to": "The convert to field is required."}),
        ({"convert_to": "EUR"}, {"convert_to": "The selected convert to is invalid."}),
        ({"convert_to": "what"}, {"convert_to": "The selected convert to is invalid."}),
        (
            {"currency": "BTC", "convert_to": "XRP", "amount": None, "amount_to": "0.0001"},
            {"amount_to": "The amount to must be at least 0.001."},
        ),
    ],
)
def test_what_is_wrong_is_blamed(changes: dict[str, Any], errors: dict[str, str]) -> None:
    """Each mistake is told in the words of the engine, and only the mistake."""
    assert check_withdrawal(fields(**changes)) == errors


def test_an_empty_body_lacks_everything() -> None:
    """All missing fields are named at once."""
    result = check_withdrawal({})
    assert isinstance(result, dict)
    assert set(result) == {"foreign_id", "currency", "address", "end_user_reference", "amount"}


def test_a_foreign_id_may_have_to_be_a_string() -> None:
    """In one dialect a number is no foreign_id."""
    assert check_withdrawal(fields(foreign_id=5), strings_only=True) == {
        "foreign_id": "The foreign id must be a string."
    }
    assert isinstance(check_withdrawal(fields(foreign_id="5"), strings_only=True), WithdrawalFields)


def test_an_end_user_reference_may_be_optional() -> None:
    """Then it may be missing, and is checked where it is given."""
    result = check_withdrawal(fields(end_user_reference=None), needs_reference=False)
    assert isinstance(result, WithdrawalFields)
    assert result.end_user_reference == ""
    assert "end_user_reference" in check_withdrawal(fields(end_user_reference=5), needs_reference=False)  # type: ignore[operator]
    assert "end_user_reference" in check_withdrawal(fields(end_user_reference=None))  # type: ignore[operator]


@given(st.fixed_dictionaries({}, optional=dict.fromkeys((*fields(), "amount_to", "convert_to"), ANY_JSON | FIGURES)))
def test_any_json_is_answered(body: dict[str, Any]) -> None:
    """Whatever is sent, it passes or is blamed, and nothing is raised."""
    result = check_withdrawal(read_object(msgspec.json.encode(body)))
    assert isinstance(result, WithdrawalFields) or result


@given(st.binary(max_size=60))
def test_any_bytes_are_read_or_not(body: bytes) -> None:
    """Whatever arrives is JSON or unreadable."""
    try:
        read = read_object(body)
    except NotJson:
        return
    assert isinstance(read, dict)


@pytest.mark.parametrize(
    ("changes", "blamed"),
    [
        ({}, "sender_amount"),
        ({"sender_amount": 1, "receiver_amount": 1}, "sender_amount"),
        ({"sender_amount": "much"}, "sender_amount"),
        ({"sender_amount": "0.9"}, "sender_amount"),
        ({"sender_amount": 1, "receiver_currency": "EUR"}, "sender_currency"),
        ({"sender_amount": 1, "receiver_currency": "BTX"}, "sender_currency"),
        ({"sender_amount": 1, "sender_currency": "BTX"}, "sender_currency"),
        ({"sender_amount": 1, "sender_currency": None}, "sender_currency"),
    ],
)
def test_a_question_for_a_quote_is_checked(changes: dict[str, Any], blamed: str) -> None:
    """Exactly one amount, not below the minimum, and two currencies that exist."""
    errors = check_exchange({"sender_currency": "EUR", "receiver_currency": "BTC", **changes}, {"EUR": Decimal(1)})
    assert isinstance(errors, dict)
    assert list(errors) == [blamed]


def test_a_right_question_for_a_quote_passes() -> None:
    """By either amount."""
    for name in ("sender_amount", "receiver_amount"):
        asked = check_exchange({"sender_currency": "EUR", "receiver_currency": "BTC", name: 1}, {"EUR": Decimal(1)})
        assert isinstance(asked, ExchangeFields)
        assert getattr(asked, name) == 1
