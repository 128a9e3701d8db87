"""The currencies of the local sandbox."""

from __future__ import annotations

from decimal import Decimal

import pytest

from alphapo_async.sandbox import catalogue


@pytest.mark.parametrize("currency", ["BTC", "ETHBASE", "USDTT", "USDC", "XRP", "SOL", "EUR", "USD"])
def test_the_usual_currencies_are_there(currency: str) -> None:
    """The codes of the documented tables are known."""
    assert catalogue.is_known(currency)
    assert not catalogue.is_known(currency.lower())


def test_minimums() -> None:
    """Minimums are tiny, but for the one that shows the documented text."""
    assert catalogue.MINIMUMS["BTC"] == Decimal("0.00000001")
    assert catalogue.MINIMUMS["XRP"] == Decimal("0.001")


def test_what_the_sender_pays_always_reaches() -> None:
    """What is paid for a wanted amount converts to at least that amount, and never to much more."""
    wanted = Decimal("0.12345678")
    pays = catalogue.units_needed(wanted, "BTC", "EUR")
    assert pays == Decimal("6172.83900000")
    assert catalogue.convert(pays, "EUR", "BTC") == wanted
    assert catalogue.convert(Decimal("0.01"), "EUR", "BTC") == Decimal("0.00000020")
    assert catalogue.units_needed(Decimal(1), "EUR", "ADA") == Decimal("2.50000000")
    assert catalogue.units_needed(Decimal(1), "EUR", "LTC") == Decimal("0.01250000")
    assert catalogue.units_needed(Decimal("0.00000001"), "DOGE", "BTC") == Decimal("0.00000001")
