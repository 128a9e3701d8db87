"""Warnings about a withdrawal before it is sent."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from alphapo_async.core.models import WithdrawalRequest
from alphapo_async.core.preflight import preflight
from alphapo_async.core.reference_data import Currency

BITCOIN = "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa"
TRON = "TR7NHqjeKQxGTCi8q8ZY4pL8otSzgjLj6t"
LISTED = {
    "BTC": Currency(
        code="BTC", type="crypto", precision=8, minimum_withdrawal=Decimal("0.0002"), minimum_exchange=Decimal("0.01")
    ),
    "USDTE": Currency(code="USDTE", type="crypto", precision=6),
    "USDTT": Currency(code="USDTT", type="crypto", precision=6),
    "USDTB": Currency(code="USDTB", type="crypto", precision=6),
    "EUR": Currency(code="EUR", type="fiat", precision=2, minimum_withdrawal=Decimal(1), minimum_exchange=Decimal(10)),
    "ADA": Currency(code="ADA"),
}


def request(**changes: Any) -> WithdrawalRequest:
    """Return a request without a problem, changed."""
    usual = {"currency": "BTC", "address": BITCOIN, "amount": "0.01", "foreign_id": "f", "end_user_reference": "u"}
    return WithdrawalRequest(**{**usual, **changes})


@pytest.mark.parametrize(
    ("changes", "warnings"),
    [
        ({"currency": "usdtt"}, {"currency": "'usdtt' is not in AlphaPo's list: is it USDTT?"}),
        ({"currency": "USDT"}, {"currency": "'USDT' is not in AlphaPo's list: is it USDTE, USDTT, USDTB?"}),
        ({"currency": "QQQ"}, {"currency": "'QQQ' is not in AlphaPo's list."}),
        (
            {"currency": "EUR", "amount": 10, "convert_to": "BTX"},
            {"convert_to": "'BTX' is not in AlphaPo's list: is it BTC?"},
        ),
        ({"amount": "0.010000001"}, {"amount": "0.010000001 has 9 decimals, and BTC has 8."}),
        (
            {"currency": "EUR", "convert_to": "USDTT", "amount": None, "amount_to": "0.1234567", "address": TRON},
            {"amount_to": "0.1234567 has 7 decimals, and USDTT has 6."},
        ),
        ({"amount": "0.00019"}, {"amount": "0.00019 is below the minimum of BTC, 0.0002."}),
        (
            {"amount": "0.005", "convert_to": "USDTT", "address": TRON},
            {"amount": "0.005 is below the minimum of a conversion from BTC, 0.01."},
        ),
        (
            {"currency": "EUR", "amount": 10},
            {"convert_to": "is missing: EUR is fiat, and a withdrawal pays out a cryptocurrency."},
        ),
        (
            {"address": TRON},
            {"address": f"'{TRON}' is an address for Tron, and BTC needs one for Bitcoin."},
        ),
        (
            {"address": f"{BITCOIN[:-1]}b"},
            {"address": f"'{BITCOIN[:-1]}b' is mistyped or cut: its checksum does not fit."},
        ),
    ],
)
def test_each_warning(changes: dict[str, Any], warnings: dict[str, str]) -> None:
    """One field, one text, with the value and what it should be."""
    assert preflight(request(**changes), LISTED).warnings == warnings


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"amount": "0.0002"},
        {"amount": "0.0100000000000"},
        {"amount": "0.01", "convert_to": "BTC"},
        {"currency": "EUR", "amount": 10, "convert_to": "BTC"},
        {"currency": "EUR", "amount": None, "amount_to": "0.00000001", "convert_to": "BTC"},
        {"currency": "USDTT", "amount": "0.000001", "address": TRON},
        {"currency": "ADA", "amount": "0.0000000000001", "address": "anything"},
    ],
)
def test_what_is_right_or_not_given_makes_no_warning(changes: dict[str, Any]) -> None:
    """A minimum itself is enough, zeros are no decimals, and what AlphaPo does not give is not compared."""
    assert preflight(request(**changes), LISTED).warnings == {}


def test_without_a_list_only_the_address_is_checked() -> None:
    """Nothing is known about codes then."""
    assert preflight(request(currency="USDT", amount="0.00000000001"), {}).warnings == {}
    assert list(preflight(request(address=TRON), {}).warnings) == ["address"]


def test_an_address_that_is_not_checked_says_why() -> None:
    """It is no warning."""
    found = preflight(request(currency="ADA"), LISTED)
    assert (found.warnings, found.unchecked) == ({}, "no documented network for 'ADA'")
    assert preflight(request(), LISTED).unchecked == ""
