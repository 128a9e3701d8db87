"""`alphapo reconcile`: the journal against AlphaPo's look-ups, or against AlphaPo's export, line by line and to the last decimal."""

from __future__ import annotations

import asyncio
import contextlib
import csv
import os
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from alphapo_async.cli.alphapo_export import AlphapoExport, columns_of, columns_text
from alphapo_async.cli.comparison import HEADS, Comparison
from alphapo_async.cli.export import NEVER_LATER, Bound
from alphapo_async.cli.journal import account_of, account_rows, journal_named, with_journal
from alphapo_async.cli.loop import interruptible
from alphapo_async.cli.options import Access, access_options, look_up_rate_option
from alphapo_async.cli.output import clean, counted, make_console, say, show_table
from alphapo_async.core.codec import plain
from alphapo_async.core.errors import ConfigurationError
from alphapo_async.core.rate_limit import REFRESHES
from alphapo_async.core.reconciliation import KINDS
from alphapo_async.core.row import Row
from alphapo_async.journal import Journal

__all__ = ["reconcile"]

_EPILOG = """\b
Examples:
  alphapo reconcile --since 2026-11-01 --against export.csv
  alphapo reconcile --against x.csv --columns foreign_id=Ref,amount=Sum,txid=
  alphapo reconcile --since 2026-11-30 --max-look-up-rate 20

With --against the export alone is compared, AlphaPo is not asked, and no key is needed; --look-up asks, too. Only with
--against are withdrawals found that AlphaPo has and the journal does not: they are listed first.

AlphaPo does not document the columns of its export: they are guessed from the header and shown before use. Fields:
foreign_id, amount, currency, status, txid, and where there are such columns id, address, tag, type. Lines whose type is
no withdrawal are left out. Without a currency column amounts are compared in the requested currency.

Findings go to standard output as CSV, with the columns finding, foreign_id, field, journal, alphapo, line, source; the
summary goes to standard error. With --json each finding is a JSON object, and the last line has the summary.

\b
Findings:
  missing_here   AlphaPo has a withdrawal that the journal does not have
  twice          the export has a foreign_id once more
  missing_there  the journal has it as accepted, AlphaPo does not show it
  different      one line for each field
  not_looked_up  AlphaPo gave no answer: run again

\b
Exit codes:
  0  all match
  1  differences
  2  wrong usage or input; nothing was compared
  3  not all could be looked up: run again (wins over 1)
  4  key refused (wins over 3)
"""

_NOT_CHECKED: Final = (
    "Withdrawals that AlphaPo has and the journal does not have were NOT looked for: only --against EXPORT.csv finds "
    "them."
)


@click.command(epilog=_EPILOG)
@click.option(
    "--since", "begin", type=Bound(), default=0.0, help="Withdrawals requested from this day, or moment, on (UTC)."
)
@click.option(
    "--until",
    "end",
    type=Bound(is_end=True),
    default=NEVER_LATER,
    help="Withdrawals requested up to and including this day, or before this moment (UTC).",
)
@click.option(
    "--against", type=click.Path(path_type=Path, exists=True, dir_okay=False), help="AlphaPo's export, a CSV."
)
@click.option(
    "--columns", callback=columns_of, help="Columns of the export: FIELD=COLUMN,…; an empty name: it has none."
)
@click.option("--look-up", "asks", is_flag=True, help="With --against: look every accepted withdrawal up, too.")
@look_up_rate_option
@click.option("--json", "as_json", is_flag=True, help="JSON objects, one a line, instead of CSV.")
@access_options
def reconcile(
    *,
    begin: float,
    end: float,
    against: Path | None,
    columns: dict[str, str],
    asks: bool,
    max_look_up_rate: float | None,
    as_json: bool,
    journal: str | None,
    base_url: str | None,
    account: str | None,
) -> None:
    """Compare the accepted withdrawals of a period with AlphaPo's look-ups, or with AlphaPo's export."""
    if end <= begin:
        raise click.UsageError("The period is empty: --until must be later than --since.")
    if columns and against is None:
        raise click.UsageError("--columns goes with --against.")
    owner = account_of(account, os.environ)
    export = None if against is None else AlphapoExport(against, columns)
    if export is not None:
        say(make_console(sys.stderr), f"Columns of {export.name}: {columns_text(export.columns)}")
    access = None
    if export is None or asks:
        access = Access(os.environ, journal=journal, base_url=base_url, account=account)
    opened = journal_named(journal, os.environ, reads_only=access is None)
    interrupted = interruptible("Interrupted: not all was compared. Run the same command again.")
    with interrupted, contextlib.closing(Comparison(begin, end)) as comparison:
        if export is not None:
            comparison.load(export)
        with_journal(
            opened,
            partial(
                _compare, comparison, owner=owner, export=export, access=access, rate=max_look_up_rate or REFRESHES
            ),
        )
        if not comparison.rows and not comparison.lines:
            raise ConfigurationError(
                f"The journal has no accepted withdrawal of account {owner!r} in this period{' and the export no line' if export else ''}: "
                "nothing was compared. Check --since, --until, --account and --journal."
            )
        _write(comparison, as_json=as_json)
        summary = _summary(comparison, owner, export)
        _show(summary, as_json=as_json)
        sys.exit(comparison.code)


async def _compare(
    comparison: Comparison,
    journal: Journal,
    *,
    owner: str,
    export: AlphapoExport | None,
    access: Access | None,
    rate: float,
) -> None:
    """Compare the rows of an account with the export, and with look-ups, where these are wanted."""
    if export is not None:
        async for row in account_rows(journal, owner):
            comparison.meet(row)
        comparison.finish()
    if access is not None:
        async with access.open_client(journal) as client:
            rows = _paced((row async for row in account_rows(journal, owner) if comparison.is_expected(row)), rate)
            await comparison.look_up(client, journal, rows, has_export=export is not None)


async def _paced(rows: AsyncIterator[Row], rate: float) -> AsyncIterator[Row]:
    """Yield the rows evenly, at most so many a second."""
    loop, next_at = asyncio.get_running_loop(), 0.0
    async for row in rows:
        await asyncio.sleep(next_at - loop.time())
        next_at = max(next_at, loop.time()) + 1.0 / rate
        yield row


def _write(comparison: Comparison, *, as_json: bool) -> None:
    """Write the findings to standard output."""
    write: Callable[[Mapping[str, Any]], None] = partial(_write_json) if as_json else _csv_writer()
    for finding in comparison.findings():
        write(finding)


def _write_json(content: Mapping[str, Any]) -> None:
    click.echo(msgspec.json.encode(content).decode())


def _csv_writer() -> Callable[[Mapping[str, Any]], None]:
    lines: csv.DictWriter[str] = csv.DictWriter(_Output(), HEADS, lineterminator="\n")
    lines.writeheader()
    return lambda finding: lines.writerow(
        {name: clean(str(value)) for name, value in finding.items() if value is not None}
    )


class _Output:
    """Standard output, as a file that csv writes to."""

    def write(self, text: str) -> None:
        """Write the text."""
        click.echo(text, nl=False)


def _summary(comparison: Comparison, owner: str, export: AlphapoExport | None) -> dict[str, Any]:
    """Return counts and sums; `missing_here` is None where it was not checked."""
    counts: dict[str, int | None] = {kind: comparison.counts[kind] for kind in KINDS}
    if export is None:
        counts |= {"missing_here": None, "twice": None}
    return {
        "account": owner,
        "rows": comparison.rows,
        "lines": None if export is None else comparison.lines,
        "other_lines": None if export is None else export.left_out,
        "matched": comparison.matched,
        **counts,
        "sums": {
            currency: {"journal": plain(journal), "alphapo": plain(alphapo), "difference": plain(difference)}
            for currency, journal, alphapo, difference in comparison.sums.rows()
        },
        "exit_code": int(comparison.code),
    }


def _show(summary: dict[str, Any], *, as_json: bool) -> None:
    """Show the summary: as the last line of JSON, or as tables on standard error; and what follows from it."""
    console = make_console(sys.stderr)
    if as_json:
        _write_json({"summary": summary})
    else:
        rows = [("matched", summary["matched"]), *((kind.replace("_", " "), summary[kind]) for kind in KINDS)]
        counts = [(name, _count(number)) for name, number in rows]
        show_table(console, "Withdrawals", ["", "count"], counts, right=True)
        sums = [(currency, *figures.values()) for currency, figures in summary["sums"].items()]
        show_table(console, "Sums", ["currency", "journal", "AlphaPo", "AlphaPo - journal"], sums, right=True)
    if summary["other_lines"]:
        say(
            console,
            f"{counted(summary['other_lines'], 'line of another type was', 'lines of another type were')} left out.",
        )
    if summary["missing_here"] is None:
        say(console, _NOT_CHECKED)
    elif summary["missing_here"]:
        say(
            console,
            "Look into what is missing here first: this journal did not request it, and AlphaPo has paid it, or will, unless its status "
            "is cancelled, declined or failed.",
        )


def _count(number: int | None) -> str:
    return "not checked" if number is None else f"{number:,}"
