"""`alphapo balances`: what is on each balance at AlphaPo."""

from __future__ import annotations

import os

import click

from alphapo_async.cli.loop import run
from alphapo_async.cli.options import Access, question_options
from alphapo_async.cli.output import amount, balance_fields, echo, json_text, make_console, show_table
from alphapo_async.client import AlphapoClient

__all__ = ["balances"]

_EPILOG = """\b
Examples:
  alphapo balances
  alphapo balances --all --json
"""


@click.command(epilog=_EPILOG)
@click.option("--all", "with_zero", is_flag=True, help="Also show the balances at zero.")
@question_options
def balances(*, with_zero: bool, as_json: bool, base_url: str | None) -> None:
    """Show the balances at AlphaPo. Sends no withdrawal, and needs no journal."""
    held = run(Access(os.environ, base_url=base_url).answer(AlphapoClient.balances))
    shown = {currency: figure for currency, figure in held.items() if figure or with_zero}
    if as_json:
        click.echo(json_text({"balances": balance_fields(shown)}))
        return
    rows = [[currency, amount(figure)] for currency, figure in shown.items()]
    show_table(make_console(), "Balances", ["currency", "balance"], rows, right=True)
    if len(held) > len(shown):
        echo(f"{len(held) - len(shown)} more at zero: --all shows them.")
