"""The console, and tables and lines made from values. Everything but the console is pure."""

from __future__ import annotations

import io
import json
import shutil
import sys
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal, localcontext
from typing import IO, Any, Final

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from alphapo_async.core.codec import plain
from alphapo_async.core.models import (
    CryptoAddress,
    Totals,
    Transaction,
    Withdrawal,
    WithdrawalRequest,
    has_conversion,
    requested_figure,
)

__all__ = [
    "amount",
    "balance_fields",
    "clean",
    "counted",
    "echo",
    "fees_text",
    "fits",
    "fitting_totals",
    "folded",
    "json_text",
    "make_console",
    "pairs",
    "requested_text",
    "say",
    "show_table",
    "table",
    "totals_reconcile",
    "totals_table",
    "txids_text",
    "withdrawal_pairs",
]

_WIDTH_OF_A_PIPE = 160
_ANY_WIDTH = 10_000
_FRAME = 6  # lines of a table besides its rows
_LINES_OF_A_ROW = 3
_TOTALS = "Totals by currency"
_BUCKETS = ("open", "accepted", "failed", "rejected", "not_sent", "unknown", "conflict")


def make_console(file: IO[str] | None = None) -> Console:
    """Return the console of standard output, or of another file; it honors NO_COLOR and reads no text as markup."""
    console = Console(file=file, markup=False, highlight=False, emoji=False)
    if console.is_terminal:
        return console
    # Programs read and search what is piped: values must not be broken at 80 columns.
    return Console(file=file, width=_WIDTH_OF_A_PIPE, markup=False, highlight=False, emoji=False)


def say(console: Console, text: str, indent: str = "") -> None:
    """Print a sentence: broken at blanks on a terminal, and not at all in a pipe. No word, path or id is ever broken."""
    console.print(_wrapped(clean(text), console.width if console.is_terminal else None, indent), soft_wrap=True)


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun, in the singular for 1: `1 row`, `1,200 rows`."""
    return f"{number:,} {noun if number == 1 else plural or f'{noun}s'}"


def echo(text: str, *, err: bool = False, indent: str = "") -> None:
    """Print a line on standard output or standard error: broken at blanks on a terminal, and as it is in a pipe.

    Args:
        text: the line.
        err: on standard error.
        indent: what a broken line continues with.
    """
    click.echo(folded(clean(text), err=err, indent=indent), err=err)


def folded(text: str, *, err: bool = False, indent: str = "") -> str:
    """Return a line as `echo` prints it, with the same arguments."""
    stream = sys.stderr if err else sys.stdout
    return _wrapped(text, shutil.get_terminal_size().columns if stream.isatty() else None, indent)


def _wrapped(text: str, width: int | None, indent: str = "") -> str:
    """Return the text in lines of this width; a word that is wider has a line of its own."""
    if width is None or len(text) <= width:
        return text
    return textwrap.fill(text, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def clean(text: str) -> str:
    """Return the text with every character that could steer a terminal shown as its escape."""
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def balance_fields(held: Mapping[str, Decimal]) -> dict[str, dict[str, Decimal]]:
    """Return balances as named values, with room for more names beside `amount`."""
    return {currency: {"amount": figure} for currency, figure in held.items()}


def json_text(value: Any) -> str:
    """Return values and structs as JSON: figures as plain decimals in strings, everything else than ASCII as escapes."""
    return json.dumps(value, default=_json_value, indent=2)


def _json_value(value: Any) -> Any:
    if isinstance(value, Decimal):
        return plain(value)
    return {name: getattr(value, name) for name in _SHOWN.get(type(value), value.__struct_fields__)}


_SHOWN: Final[Mapping[type, Sequence[str]]] = {
    Withdrawal: (
        *("id", "foreign_id", "end_user_reference", "type", "status", "amount", "sender_amount", "sender_currency"),
        *("receiver_currency", "receiver_amount", "source"),
    ),
    Transaction: (
        *("id", "foreign_id", "end_user_reference", "type", "status", "crypto_address", "currency_sent"),
        *("currency_received", "transactions", "txids", "fees", "error"),
    ),
    CryptoAddress: ("address", "tag"),
}
"""What JSON shows of AlphaPo's objects, under AlphaPo's names; their other fields are notes of this library."""


def amount(figure: Decimal | None, currency: str | None = None) -> str:
    """Return a figure as a plain decimal, with its currency if one is given."""
    if figure is None:
        return "not known"
    return plain(figure) if currency is None else f"{plain(figure)} {currency}"


def requested_text(request: WithdrawalRequest) -> str:
    """Return what was asked for, with the other currency of a conversion: `30 USDTT, paid out in BTC`."""
    text = amount(*requested_figure(request))
    if not has_conversion(request):
        return text
    return (
        f"{text}, paid out in {request.convert_to}"
        if request.amount is not None
        else f"{text}, debited in {request.currency}"
    )


def pairs(named: Iterable[tuple[str, str]]) -> list[str]:
    """Return names and values as aligned lines."""
    rows = list(named)
    width = max((len(name) for name, _ in rows), default=0) + 2
    return [f"{name + ':':<{width}}{clean(value)}" for name, value in rows]


def withdrawal_pairs(withdrawal: Withdrawal) -> list[tuple[str, str]]:
    """Return the fields of an accepted withdrawal, under AlphaPo's names."""
    return [
        ("outcome", "accepted"),
        ("foreign_id", _told(withdrawal.foreign_id)),
        ("id", _told(withdrawal.id)),
        ("status", _told(withdrawal.status)),
        ("type", _told(withdrawal.type)),
        ("end_user_reference", _told(withdrawal.end_user_reference)),
        ("sender_amount", amount(withdrawal.sender_amount, withdrawal.sender_currency)),
        ("receiver_amount", amount(withdrawal.receiver_amount, withdrawal.receiver_currency)),
        ("source", withdrawal.source),
    ]


def txids_text(shown: Transaction | None) -> str:
    """Return the txids of a withdrawal, with blanks between them; empty where AlphaPo gives none."""
    return "" if shown is None else " ".join(shown.txids)


def fees_text(shown: Transaction | None) -> str:
    """Return the fees of a withdrawal, each as figure, currency and type; empty where AlphaPo gives none."""
    fees = () if shown is None else shown.fees
    return "; ".join(f"{amount(fee.amount, fee.currency)} {fee.type or ''}".rstrip() for fee in fees)


def _told(value: object) -> str:
    return "not known" if value is None else str(value)


def table(title: str, heads: Sequence[str], rows: Iterable[Sequence[str]], *, right: bool = False) -> Table:
    """Return a table of texts; every column but the first to the right if `right`."""
    shown = Table(title=title, title_justify="left", title_style="bold")
    kept = list(rows)
    for place, head in enumerate(heads):
        is_one_word = not any(" " in row[place] for row in kept)  # an id or a figure, which must not be broken
        shown.add_column(head, justify="right" if right and place else "left", overflow="fold", no_wrap=is_one_word)
    for row in kept:
        shown.add_row(*(Text(clean(cell)) for cell in row))
    return shown


def show_table(
    console: Console, title: str, heads: Sequence[str], rows: Iterable[Sequence[str]], *, right: bool = False
) -> None:
    """Print a table; if it is wider than the console, print each row as lines of names and values, so that no value is broken."""
    kept = list(rows)
    if fits(console, shown := table(title, heads, kept, right=right), kept):
        console.print(shown)
        return
    say(console, title)
    for row in kept:
        say(console, "")
        for line in pairs((head, value) for head, value in zip(heads, row, strict=True) if value):
            say(console, line, indent="  ")


def totals_table(totals: Mapping[str, Totals]) -> Table:
    """Return the totals by currency: requested is the sum of the columns behind it; empty columns are left out."""
    shown = [name for name in _BUCKETS if name == "accepted" or any(getattr(sums, name) for sums in totals.values())]
    heads = [name.replace("_", " ") for name in shown]
    rows = [
        [currency, plain(sums.requested), *(plain(getattr(sums, name)) for name in shown)]
        for currency, sums in totals.items()
    ]
    return table(_TOTALS, ["currency", "requested", *heads], rows, right=True)


def fits(console: Console, shown: Table, rows: Iterable[Sequence[str]]) -> bool:
    """Return whether the console shows the table without breaking a word of its rows, and with few lines for each row."""
    kept, file = list(rows), io.StringIO()
    Console(file=file, width=console.width).print(shown)
    words = {word for row in kept for cell in row for word in clean(cell).split()}
    text = file.getvalue()
    return all(word in text for word in words) and text.count("\n") <= _FRAME + _LINES_OF_A_ROW * len(kept)


def fitting_totals(console: Console, totals: Mapping[str, Totals]) -> Table:
    """Return the table of totals, as a list if it would be wider than the console: a number must not be broken."""
    wide = totals_table(totals)
    room = console.options.update(max_width=_ANY_WIDTH)
    if console.measure(wide, options=room).maximum <= console.width:
        return wide
    rows = [
        [currency, name.replace("_", " "), plain(figure)]
        for currency, sums in totals.items()
        for name in ("requested", *_BUCKETS)
        if (figure := getattr(sums, name)) or name == "requested"
    ]
    return table(_TOTALS, ["currency", "", "total"], rows, right=True)


def totals_reconcile(sums: Totals) -> bool:
    """Return whether requested is the sum of the other columns, to the last decimal."""
    with localcontext(prec=1_000):  # so that no digit is rounded away
        return sums.requested == sum((getattr(sums, name) for name in _BUCKETS), Decimal(0))
