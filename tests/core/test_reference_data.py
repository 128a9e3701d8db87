"""Currencies and quotes: what AlphaPo's replies say, and what a question needs."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphapo_async.core.errors import ConfigurationError, InvalidRequest
from alphapo_async.core.models import Money
from alphapo_async.core.reference_data import (
    Currency,
    Quote,
    QuoteRequest,
    nearest_codes,
    quote_request,
    read_currencies,
    read_minimum_exchanges,
    read_quote,
    refusal_of,
)

ASKED = QuoteRequest("EUR", "BTC", Decimal(381), None)
CODES = ["BTC", "ETH", "USDTE", "USDTT", "USDTB", "USDTBASE"]
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["data", "currency", "currency_from", "precision", "min_amount", "errors"]), inner
        )
    ),
    max_leaves=8,
)


def encoded(value: Any) -> bytes:
    """Return the JSON of a value."""
    return msgspec.json.encode(value)


def test_a_currency_has_what_alphapo_gives_and_none_for_the_rest() -> None:
    """Both names of the minimum are read; the minimum of a deposit is not one of a withdrawal."""
    rows = [
        {
            "id": 1,
            "type": "crypto",
            "currency": "BTC",
            "minimum_amount": "0.0001",
            "minimum_withdrawal_amount": "0.0002",
            "withdrawal_fee_percent": "0.010000",
            "precision": 8,
        },
        {"currency": "ETH", "minimum_withdraw_amount": 0.01, "precision": "8"},
        {"currency": "EUR", "type": "fiat", "minimum_amount": "5"},
    ]
    assert read_currencies(encoded({"data": rows}), {"EUR": Decimal(10)}) == {
        "BTC": Currency(
            code="BTC",
            type="crypto",
            precision=8,
            minimum_withdrawal=Decimal("0.0002"),
            withdrawal_fee_percent=Decimal("0.010000"),
        ),
        "ETH": Currency(code="ETH", precision=8, minimum_withdrawal=Decimal("0.01")),
        "EUR": Currency(code="EUR", type="fiat", minimum_exchange=Decimal(10)),
    }


@pytest.mark.parametrize("strange", ["much", -1, None, "NaN", [], 8.5, 256, "1e9999"])
def test_a_figure_in_another_form_is_not_given(strange: Any) -> None:
    """Nothing is made of what cannot be read."""
    row = {"currency": "BTC", "precision": strange, "minimum_withdrawal_amount": "much" if strange == 8.5 else strange}
    [currency] = (read_currencies(encoded({"data": [row, {"currency": None}, 5]})) or {}).values()
    assert currency.precision is None
    assert currency.minimum_withdrawal in (None, 256, Decimal("1e9999"))


@pytest.mark.parametrize("body", [b"", b"[]", b"null", b'{"data": {}}', b"<html>", b'{"data": null}'])
def test_what_has_no_list_is_none(body: bytes) -> None:
    """It is no empty list."""
    assert read_currencies(body) is None
    assert read_minimum_exchanges(body) is None


def test_the_minimum_of_conversions_is_the_lowest_of_all_pairs() -> None:
    """A field that is not given leaves no trace."""
    pairs = [
        {"currency_from": {"currency": "EUR", "min_amount": "20"}, "currency_to": {"currency": "BTC"}},
        {"currency_from": {"currency": "EUR", "min_amount": "10"}, "currency_to": {"currency": "ETH"}},
        {"currency_from": {"currency": "EUR", "min_amount": "30"}, "currency_to": {"currency": "TRX"}},
        {"currency_from": {"currency": "USD"}},
        {"currency_from": {"min_amount": "1"}},
        {"currency_from": "BTC"},
    ]
    assert read_minimum_exchanges(encoded({"data": pairs})) == {"EUR": Decimal(10)}


@pytest.mark.parametrize("is_wrapped", [True, False])
def test_a_quote_is_read(*, is_wrapped: bool) -> None:
    """Wrapped in `data` or not: AlphaPo's pages do not say."""
    data = {
        "sender_currency": "EUR",
        "sender_amount": "381",
        "receiver_currency": "BTC",
        "receiver_amount": 0.108823,
        "fee_currency": "EUR",
        "fee_amount": "1.5",
        "price": "0.00028562",
    }
    assert read_quote(encoded({"data": data} if is_wrapped else data), ASKED) == Quote(
        currency="EUR",
        convert_to="BTC",
        amount=Decimal(381),
        amount_to=Decimal("0.108823"),
        rate=Decimal("0.00028562"),
        fee=Money(currency="EUR", amount=Decimal("1.5")),
    )


@pytest.mark.parametrize(
    "data",
    [
        [],
        {"data": []},
        {"sender_currency": "EUR", "receiver_currency": "BTC"},
        {"sender_currency": "USD", "receiver_currency": "BTC", "sender_amount": "381"},
    ],
)
def test_what_is_no_quote_or_one_for_other_currencies_is_none(data: Any) -> None:
    """A figure for another pair would be worse than none."""
    assert read_quote(encoded(data), ASKED) is None


def test_a_quote_without_a_fee_has_none() -> None:
    """And without a price no rate."""
    data = {"sender_currency": "EUR", "receiver_currency": "BTC", "receiver_amount": "1"}
    assert read_quote(encoded(data), ASKED) == Quote(currency="EUR", convert_to="BTC", amount_to=Decimal(1))


@given(JSON)
def test_any_reply_is_read_without_an_error(value: Any) -> None:
    """For any reply of AlphaPo's edge."""
    body = encoded(value)
    for read in (read_currencies, read_minimum_exchanges, refusal_of, lambda body: read_quote(body, ASKED)):
        read(body)


def test_a_question_has_exactly_one_amount() -> None:
    """In the form that the client writes amounts in."""
    by_amount = quote_request("EUR", "BTC", "1e3", None)
    assert by_amount.encode("number") == b'{"sender_currency":"EUR","receiver_currency":"BTC","sender_amount":1000}'
    by_amount_to = quote_request("EUR", "BTC", None, Decimal("0.5"))
    assert (
        by_amount_to.encode("string") == b'{"sender_currency":"EUR","receiver_currency":"BTC","receiver_amount":"0.5"}'
    )
    with pytest.raises(InvalidRequest, match=r"amount_to '0\.12345678901234567890' would be rounded"):
        quote_request("EUR", "BTC", None, "0.12345678901234567890").encode("number")


@pytest.mark.parametrize(
    ("currency", "convert_to", "amount", "amount_to", "words"),
    [
        ("EUR", "BTC", None, None, "exactly one of amount and amount_to: none is given"),
        ("EUR", "BTC", 1, 1, "exactly one of amount and amount_to: both are given"),
        ("", "BTC", 1, None, "currency is required"),
        ("EUR", " BTC", 1, None, "convert_to ' BTC' has leading"),
        ("EUR", "EUR", 1, None, "both 'EUR'"),
        ("EUR", "BTC", 1.5, None, "amount is a float"),
        ("EUR", "BTC", None, "much", "amount_to 'much' is not a decimal number"),
        ("EUR", "BTC", -1, None, "amount '-1' is negative"),
    ],
)
def test_a_wrong_question_is_refused_with_a_sentence(
    currency: str, convert_to: str, amount: Any, amount_to: Any, words: str
) -> None:
    """Before anything is asked."""
    with pytest.raises(ConfigurationError) as caught:
        quote_request(currency, convert_to, amount, amount_to)
    assert words in str(caught.value)
    assert str(caught.value).endswith("Nothing was asked.")


@pytest.mark.parametrize(
    ("data", "words"),
    [
        ({"errors": {"sender_currency": "Exchange is unavailable"}}, "Exchange is unavailable"),
        ({"errors": {"a": ["One.", "Two."], "b": "Three."}}, "One. Two. Three."),
        ({"errors": {}}, None),
        ({"errors": "no"}, None),
        ([], None),
    ],
)
def test_a_refusal_has_alphapos_words(data: Any, words: str | None) -> None:
    """Of every field, texts or lists of texts."""
    assert refusal_of(encoded(data)) == words


@pytest.mark.parametrize(
    ("code", "near"),
    [
        ("usdtt", ["USDTT"]),
        ("USDT", ["USDTE", "USDTT", "USDTB"]),
        ("BTX", ["BTC"]),
        ("QQQ", []),
        ("", []),
    ],
)
def test_the_nearest_codes(code: str, near: list[str]) -> None:
    """Codes that begin with it, the shortest first; else codes that look like it."""
    assert nearest_codes(code, CODES) == near
