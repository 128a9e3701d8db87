"""`alphapo quote`: AlphaPo's present figures for a conversion."""

from __future__ import annotations

import os

import click

from alphapo_async.cli.loop import run
from alphapo_async.cli.options import Access, question_options
from alphapo_async.cli.output import amount, echo, json_text, pairs
from alphapo_async.core.codec import AMOUNT_FORMATS
from alphapo_async.core.reference_data import Quote, quote_request

__all__ = ["quote", "quote_pairs"]

_EPILOG = """\b
Examples:
  alphapo quote --currency EUR --convert-to BTC --amount 381
  alphapo quote --currency EUR --convert-to USDTT --amount-to 25 --json
"""


@click.command(epilog=_EPILOG)
@click.option("--currency", required=True, help="The balance that would be debited.")
@click.option("--convert-to", required=True, help="The currency that would be paid out.")
@click.option("--amount", "sent", help="In --currency. Exactly one of --amount and --amount-to.")
@click.option("--amount-to", "received", help="In --convert-to.")
@click.option(
    "--amount-format",
    type=click.Choice(AMOUNT_FORMATS),
    default="number",
    show_default=True,
    help="How amounts are written.",
)
@question_options
def quote(
    *,
    currency: str,
    convert_to: str,
    sent: str | None,
    received: str | None,
    amount_format: str,
    as_json: bool,
    base_url: str | None,
) -> None:
    """Ask AlphaPo what a conversion would give now: informative only, a withdrawal has the rate of its own moment.

    AlphaPo answers 30 of these questions a minute. Nothing is exchanged and nothing is paid.
    """
    asked = {"amount": sent, "amount_to": received}
    quote_request(currency, convert_to, sent, received)  # wrong input is reported before a setting that is missing
    access = Access(os.environ, base_url=base_url)
    answer = run(access.answer(lambda client: client.quote(currency, convert_to, **asked), amount_format=amount_format))
    if as_json:
        click.echo(json_text(answer))
        return
    for line in pairs(quote_pairs(answer)):
        echo(line, indent="  ")


def quote_pairs(answer: Quote) -> list[tuple[str, str]]:
    """Return the figures of a quote, name by name."""
    fee = answer.fee
    return [
        ("amount", amount(answer.amount, answer.currency)),
        ("amount_to", amount(answer.amount_to, answer.convert_to)),
        ("rate", amount(answer.rate)),
        ("fee", "not known" if fee is None else amount(fee.amount, fee.currency)),
        ("note", "informative only: a withdrawal has the rate of its own moment"),
    ]
