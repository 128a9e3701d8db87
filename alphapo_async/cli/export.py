"""`alphapo journal export`: the journal as a table for books, auditors and other programs."""

from __future__ import annotations

import contextlib
import csv
import io
import json
import os
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final

import click
import msgspec

from alphapo_async.cli.batch.cells import FORMULAS
from alphapo_async.cli.journal import account_of, account_rows, journal, journal_named, journal_options, with_journal
from alphapo_async.cli.output import counted, echo
from alphapo_async.cli.row_fields import FIELDS, fields_of
from alphapo_async.journal import Journal

__all__ = ["NEVER_LATER", "Bound", "export", "line_writer"]

NEVER_LATER: Final = 9_999_999_999.0


def line_writer(
    kind: str, write: Callable[[str], object], *, for_spreadsheet: bool = False
) -> Callable[[dict[str, Any]], object]:
    """Return what writes one row in this format; a CSV's head is written at once.

    Args:
        kind: "csv" or "jsonl".
        write: takes the text.
        for_spreadsheet: in CSV, a text that a spreadsheet would take for a formula gets an apostrophe before it. Without this every value
            is exact: an id that gained an apostrophe would be another withdrawal.
    """
    if kind == "jsonl":
        encode = msgspec.json.Encoder().encode
        return lambda fields: write(encode(fields).decode() + "\n")
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\r\n")

    def line(cells: list[Any]) -> None:
        table.writerow(cells)
        write(text.getvalue())
        text.seek(0)
        text.truncate()

    line(list(FIELDS))
    guard = _guarded if for_spreadsheet else _exact
    return lambda fields: line([guard(fields[name]) for name in FIELDS])


def _exact(value: object) -> object:
    """Return the cell of a value; a batch reads the JSON of `true`, `false` and objects, and no cell has a list."""
    if isinstance(value, bool | Mapping):
        return json.dumps(value)
    if isinstance(value, list):
        return " ".join(value)
    return "" if value is None else value


def _guarded(value: object) -> object:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULAS) else _exact(value)


class Bound(click.ParamType):  # type: ignore[type-arg]  # it is generic in the newest releases only
    """A day, or a moment of one (UTC), as seconds since the epoch; a day that is an end is included whole."""

    name = "day|moment"

    def __init__(self, *, is_end: bool = False) -> None:
        self._is_end = is_end

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Return the seconds."""
        if isinstance(value, float):
            return value
        seconds = self._seconds(str(value))
        if seconds is None:
            self.fail(f"{value!r} is not a day or moment: write 2026-11-30 or 2026-11-30T12:00:00.", param, ctx)
        return seconds

    def _seconds(self, text: str) -> float | None:
        for form, more in (("%Y-%m-%d", int(self._is_end)), ("%Y-%m-%dT%H:%M:%S", 0)):
            with contextlib.suppress(ValueError, OverflowError):
                return (datetime.strptime(text, form).replace(tzinfo=UTC) + timedelta(days=more)).timestamp()
        return None


@journal.command(
    epilog="\b\nExamples:\n  alphapo journal export --journal payouts.db > all.csv\n"
    "  alphapo journal export --since 2026-11-01 --until 2026-11-30 \\\n      --format jsonl --journal payouts.db",
)
@click.option(
    "--since", "begin", type=Bound(), default=0.0, help="Only withdrawals requested from this day, or moment, on (UTC)."
)
@click.option(
    "--until",
    "end",
    type=Bound(is_end=True),
    default=NEVER_LATER,
    help="Only withdrawals requested up to and including this day, or before this moment (UTC).",
)
@click.option("--format", "kind", type=click.Choice(["csv", "jsonl"]), default="csv", show_default=True)
@click.option(
    "--spreadsheet",
    is_flag=True,
    help="For a spreadsheet: put an apostrophe before each text that it would read as a formula. `alphapo batch` refuses such ids.",
)
@journal_options
def export(*, begin: float, end: float, kind: str, spreadsheet: bool, name: str | None, account: str | None) -> None:
    """Write withdrawals to standard output, oldest first: request, outcome, and its evidence. Every value is exact.

    `alphapo batch` reads the request's fields, which are as they were requested, and no other column of an export. sender_data and
    receiver_data are personal data.
    """
    if spreadsheet and kind != "csv":
        raise click.UsageError("--spreadsheet goes with --format csv.")
    owner = account_of(account, os.environ)

    async def use(opened: Journal) -> int:
        count = 0
        write = line_writer(kind, lambda text: click.echo(text, nl=False), for_spreadsheet=spreadsheet)
        async for row in account_rows(opened, owner):
            if begin <= row.created_at < end:
                write(fields_of(row))
                count += 1
        return count

    began = time.monotonic()
    count = with_journal(journal_named(name, os.environ, reads_only=True), use)
    echo(f"{counted(count, 'withdrawal')} in {time.monotonic() - began:.1f} s.", err=True)
