"""`alphapo currencies`: what can be paid, and the least amounts."""

from __future__ import annotations

import os

import click

from alphapo_async.cli.loop import run
from alphapo_async.cli.options import Access, question_options
from alphapo_async.cli.output import amount, json_text, make_console, show_table
from alphapo_async.client import AlphapoClient
from alphapo_async.core.errors import ConfigurationError
from alphapo_async.core.reference_data import Currency, nearest_codes
from alphapo_async.core.texts import shown

__all__ = ["currencies"]

_EPILOG = """\b
Examples:
  alphapo currencies
  alphapo currencies USDTT BTC --json
"""
_HEADS = ("code", "type", "decimals", "minimum", "minimum exchange", "fee")


@click.command(epilog=_EPILOG)
@click.argument("codes", nargs=-1, metavar="[CODE]...")
@question_options
def currencies(*, codes: tuple[str, ...], as_json: bool, base_url: str | None) -> None:
    """Show AlphaPo's list of currencies, or only those named. Sends no withdrawal, and needs no journal.

    "minimum" is the least amount of a withdrawal, "minimum exchange" the least amount of a conversion from the currency: a single pair may
    need more. AlphaPo does not document the unit of the fee. A dash means: not given by AlphaPo.
    """
    listed = run(Access(os.environ, base_url=base_url).answer(AlphapoClient.currencies))
    for code in codes:
        if code not in listed:
            near = ", ".join(nearest_codes(code, listed))
            raise ConfigurationError(f"AlphaPo lists no currency {shown(code)}{f': is it {near}?' if near else '.'}")
    chosen = {code: listed[code] for code in codes or listed}
    if as_json:
        click.echo(json_text({"currencies": chosen}))
    else:
        show_table(make_console(), "Currencies", _HEADS, map(_cells, chosen.values()), right=True)


def _cells(currency: Currency) -> list[str]:
    figures = (currency.minimum_withdrawal, currency.minimum_exchange, currency.withdrawal_fee_percent)
    precision = "-" if currency.precision is None else str(currency.precision)
    result = ("-" if figure is None else amount(figure) for figure in figures)
    return [currency.code, currency.type or "-", precision, *result]
