"""`alphapo currencies`, against a real sandbox."""

from __future__ import annotations

import json

import pytest

from alphapo_async.cli.currencies import _cells
from alphapo_async.core.reference_data import Currency
from tests.cli.conftest import Local


def test_the_list_is_shown_within_80_columns(local: Local) -> None:
    """Every currency, or only the named ones."""
    result = local.invoke("currencies", COLUMNS="80")
    assert result.exit_code == 0
    assert "│ USDTBASE │" in result.output
    assert max(map(len, result.output.splitlines())) <= 80
    named = local.invoke("currencies", "XRP", "--json")
    assert json.loads(named.output)["currencies"]["XRP"] == {
        "code": "XRP",
        "type": "crypto",
        "precision": 8,
        "minimum_withdrawal": "0.00100000",
        "withdrawal_fee_percent": "0.00000000",
        "minimum_exchange": "0.00100000",
    }


@pytest.mark.parametrize(
    ("code", "words"),
    [("usdtt", "is it USDTT?"), ("USDT", "is it USDTE, USDTT, USDTB?"), ("QQQ", "no currency 'QQQ'.")],
)
def test_an_unknown_code_is_wrong_input_with_the_nearest_ones(local: Local, code: str, words: str) -> None:
    """Exit code 2."""
    result = local.invoke("currencies", code)
    assert (result.exit_code, result.stdout) == (2, "")
    assert words in result.stderr


def test_what_alphapo_does_not_give_is_a_dash() -> None:
    """No figure is made up."""
    assert _cells(Currency(code="X")) == ["X", "-", "-", "-", "-", "-"]
