"""The currencies of the local sandbox: codes, minimums and a fixed exchange rate.

The codes are those of https://docs.cryptoprocessing.com/api-reference/currency-codes and, for Tether, of the older table in
https://github.com/coinspaid/docs. AlphaPo's own table is not known, nor are its minimums and rates: these figures are made up, except
that the minimum of XRP is the one of the older documents, whose wording ("The amount must be at least 0.001.") it lets one see.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_DOWN, ROUND_UP, Context, Decimal
from types import MappingProxyType

__all__ = ["EXACT", "FIAT", "MINIMUMS", "PRECISION", "VALUES", "convert", "is_known", "units_needed"]

EXACT = Context(prec=200)
"""Arithmetic that never rounds the figures the sandbox lets in."""

PRECISION = 8
"""Decimals of every currency: the `precision` of every sample (https://docs.cryptoprocessing.com/api-reference/endpoints/currencies-list)."""

FIAT = frozenset({"EUR", "USD"})
"""Currencies a balance may be held in, but nothing can be sent in."""

_ONE = (
    "BTC 50000 WBTC 50000 ETH 2500 ETHA 2500 ETHBASE 2500 BCH 400 LTC 80 BNB 500 BNB-BSC 500 SOL 150 XRP 0.5 TRX 0.25"
)
_TWO = "DOGE 0.125 ADA 0.4 POL 0.2 CSC 0.001 SNACK 0.001 XED 0.01 VERSE 0.0001 EUR 1 USD 0.8"
_THREE = "EURCE EURCBASE EURCS EURS"
_FOUR = "USDC USDCE USDCA USDCBASE USDCS USDGE USDGS USDTE USDTT USDTB USDTA USDTBASE DAI"


def _values() -> dict[str, Decimal]:
    words = f"{_ONE} {_TWO}".split()
    values = {code: Decimal(value) for code, value in zip(words[::2], words[1::2], strict=True)}
    values |= dict.fromkeys(_THREE.split(), Decimal(1))
    return values | dict.fromkeys(_FOUR.split(), Decimal("0.8"))


VALUES: Mapping[str, Decimal] = MappingProxyType(_values())
"""What one unit of each currency is worth in euro, here and for ever."""

_TINY = Decimal("0.00000001")

MINIMUMS: Mapping[str, Decimal] = MappingProxyType({**dict.fromkeys(VALUES, _TINY), "XRP": Decimal("0.001")})
"""The least amount of each currency, unless the sandbox is given others."""


def is_known(currency: str) -> bool:
    """Tell whether the sandbox has this currency."""
    return currency in VALUES


def convert(amount: Decimal, currency: str, into: str) -> Decimal:
    """Return what the receiver gets for an amount, rounded down."""
    return _exchange(amount, currency, into, ROUND_DOWN)


def units_needed(amount: Decimal, into: str, currency: str) -> Decimal:
    """Return what the sender pays so that the receiver gets an amount, rounded up."""
    return _exchange(amount, into, currency, ROUND_UP)


def _exchange(amount: Decimal, currency: str, into: str, rounding: str) -> Decimal:
    worth = EXACT.multiply(amount, VALUES[currency])
    return EXACT.divide(worth, VALUES[into]).quantize(_TINY, rounding, EXACT)
