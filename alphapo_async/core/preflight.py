"""Compare a withdrawal with AlphaPo's list of currencies, and check its address, before it is sent. Pure.

The result is a set of warnings: the list may be old, and AlphaPo alone decides. The client does not use it, the command line does.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from decimal import Decimal

import msgspec

from alphapo_async.core.addresses import check_address
from alphapo_async.core.codec import normal
from alphapo_async.core.models import WithdrawalRequest, has_conversion
from alphapo_async.core.reference_data import Currency, nearest_codes
from alphapo_async.core.texts import shown

__all__ = ["Preflight", "preflight"]


class Preflight(msgspec.Struct, frozen=True, gc=False):
    """What a withdrawal shows before it is sent."""

    warnings: Mapping[str, str]
    """By field."""
    unchecked: str = ""
    """Why the address was not checked; empty if it was."""


def preflight(request: WithdrawalRequest, currencies: Mapping[str, Currency]) -> Preflight:
    """Return the warnings about a withdrawal.

    Args:
        request: the withdrawal.
        currencies: AlphaPo's list; if it is empty, only the address is checked.
    """
    address = check_address(request.convert_to or request.currency, request.address)
    warnings = dict(_warnings(request, currencies)) if currencies else {}
    if address.verdict == "not checked":
        return Preflight(warnings, address.text)
    return Preflight(warnings if address.verdict == "fine" else {**warnings, "address": address.text})


def _warnings(request: WithdrawalRequest, currencies: Mapping[str, Currency]) -> Iterator[tuple[str, str]]:
    source, target = currencies.get(request.currency), currencies.get(request.convert_to or "")
    if source is None:
        yield "currency", _unknown(request.currency, currencies)
    if request.convert_to is not None and target is None:
        yield "convert_to", _unknown(request.convert_to, currencies)
    if source is not None and source.type == "fiat" and request.convert_to is None:
        yield "convert_to", f"is missing: {source.code} is fiat, and a withdrawal pays out a cryptocurrency."
    if request.amount is not None and source is not None:
        yield from _figure_warnings("amount", request.amount, source, has_conversion=has_conversion(request))
    if request.amount_to is not None and target is not None:
        # AlphaPo gives the minimum of a conversion in the currency that is debited: `amount_to` has none to compare with.
        yield from _figure_warnings("amount_to", request.amount_to, target, has_conversion=None)


def _unknown(code: str, currencies: Mapping[str, Currency]) -> str:
    near = ", ".join(nearest_codes(code, currencies))
    return f"{shown(code)} is not in AlphaPo's list{f': is it {near}?' if near else '.'}"


def _figure_warnings(
    field: str, figure: Decimal, currency: Currency, *, has_conversion: bool | None
) -> Iterator[tuple[str, str]]:
    text = normal(figure)
    decimals = len(text.partition(".")[2])
    if currency.precision is not None and decimals > currency.precision:
        yield field, f"{text} has {decimals} decimals, and {currency.code} has {currency.precision}."
        return
    least = {True: currency.minimum_exchange, False: currency.minimum_withdrawal, None: None}[has_conversion]
    if least is not None and figure < least:
        of = f"of a conversion from {currency.code}" if has_conversion else f"of {currency.code}"
        yield field, f"{text} is below the minimum {of}, {normal(least)}."
