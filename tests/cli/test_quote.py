"""`alphapo quote`, against a real sandbox."""

from __future__ import annotations

import json

import pytest

from alphapo_async.cli.quote import quote_pairs
from alphapo_async.core.reference_data import Quote
from tests.cli.conftest import Local

ASKED = ("quote", "--currency", "EUR", "--convert-to", "BTC")


def test_a_quote_is_shown_as_informative(local: Local) -> None:
    """Both amounts, rate, fee, and a note that it is not binding."""
    result = local.invoke(*ASKED, "--amount", "381")
    assert result.exit_code == 0
    assert result.output.splitlines() == [
        "amount:    381.00000000 EUR",
        "amount_to: 0.00762000 BTC",
        "rate:      0.00002000",
        "fee:       0.00000000 EUR",
        "note:      informative only: a withdrawal has the rate of its own moment",
    ]
    as_json = json.loads(local.invoke(*ASKED, "--amount-to", "0.5", "--json").output)
    assert (as_json["amount"], as_json["amount_to"], as_json["rate"]) == ("25000.00000000", "0.50000000", "0.00002000")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((*ASKED,), "exactly one of amount and amount_to: none is given"),
        ((*ASKED, "--amount", "1", "--amount-to", "1"), "both are given"),
        ((*ASKED, "--amount", "much"), "amount 'much' is not a decimal number"),
        (("quote", "--currency", "EUR", "--convert-to", "BTX", "--amount", "1"), "Exchange is unavailable"),
    ],
)
def test_wrong_input_has_exit_code_2_and_a_sentence(local: Local, arguments: tuple[str, ...], words: str) -> None:
    """Without a traceback, on standard error."""
    result = local.invoke(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr


def test_what_alphapo_does_not_give_is_not_known() -> None:
    """No figure is made up."""
    assert dict(quote_pairs(Quote(currency="EUR", convert_to="BTC")))["fee"] == "not known"
