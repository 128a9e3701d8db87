"""`alphapo batch`: many withdrawals from a file; the same command again goes on where the last one ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
import msgspec
from rich.console import Console

from alphapo_async.cli.batch.asking import Known, dry_run_lines, find_out, question
from alphapo_async.cli.batch.files import InputFile, read_lines
from alphapo_async.cli.batch.index import Index
from alphapo_async.cli.batch.paying import Job, Orders, pay_file
from alphapo_async.cli.batch.report import Report, outcome_rows, report_json
from alphapo_async.cli.batch.results import ResultsFile
from alphapo_async.cli.batch.sheets import SheetRow, check_prefix, difference_lines, differences, read_sheet
from alphapo_async.cli.batch.sifting import Sifter, Survey
from alphapo_async.cli.ending import Exit, explain
from alphapo_async.cli.options import Access, access_options
from alphapo_async.cli.progress import duration
from alphapo_async.cli.showing import clean, fitting_totals, make_console, say, table
from alphapo_async.core.codec import AMOUNT_FORMATS, AmountFormat
from alphapo_async.core.errors import AlphapoError, ConfigurationError
from alphapo_async.journal import Journal, Remembering

__all__ = ["batch", "report_lines", "seconds_of"]

_EPILOG = """\b
Examples:
  alphapo batch payouts.csv --dry-run
  alphapo batch payouts.csv
  alphapo batch payouts.jsonl --max-rate 20 --give-up-after 2h --report report.json
  alphapo batch sheet.csv --sheet --foreign-id-prefix payroll-2026-11- --end-user-reference-from Note

\b
FILE is CSV (comma or semicolon) or JSON Lines, in UTF-8. Its columns, or names, are the fields of a withdrawal:
  foreign_id, currency, address, amount, end_user_reference, and where needed amount_to, convert_to, tag, ...

\b
The same command again goes on where this one ended, and pays nothing twice. Ctrl-C ends it in order, twice at once.
Results: foreign_id,outcome,id,status,error; one line a row, in the order in which rows end.
"""

_UNITS: Final = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


def seconds_of(text: str) -> float:
    """Return the seconds of a time such as `90s`, `15m`, `2h`, `1d`, or `90`.

    Raises:
        click.BadParameter: it is none.
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)([smhd]?)", text.strip())
    if found is None or float(found[1]) <= 0:
        raise click.BadParameter("must be a time such as 90s, 15m, 2h or 1d.")
    return float(found[1]) * _UNITS[found[2] or "s"]


def _give_up_after(_context: click.Context, _parameter: click.Parameter, text: str | None) -> float | None:
    return None if text is None else seconds_of(text)


_FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False)
_OUT: Final = click.Path(path_type=Path, dir_okay=False)


@click.command(epilog=_EPILOG)
@click.argument("file", type=_FILE)
@click.option("--results", type=_OUT, help="Where the outcomes go.  [default: FILE.results.csv]")
@click.option("--report", "report_to", type=_OUT, help="Where the final report goes as JSON, for machines.")
@click.option(
    "--dry-run", is_flag=True, help="Read everything, say what would be paid and what is wrong, send nothing."
)
@click.option(
    "--concurrency", type=click.IntRange(min=1), default=64, show_default=True, help="Rows worked on at once."
)
@click.option("--max-rate", type=click.FloatRange(min=0, min_open=True), help="Withdrawals a second, evenly.")
@click.option("--retry-rejected", is_flag=True, help="Send again what AlphaPo has rejected before.")
@click.option("--give-up-after", callback=_give_up_after, help="End once AlphaPo was silent for so long, such as 2h.")
@click.option("--sheet", is_flag=True, help="FILE is a mass-payout sheet of AlphaPo's dashboard, without foreign_ids.")
@click.option(
    "--foreign-id-prefix", help="With --sheet: what its foreign_ids begin with; another one for every payout."
)
@click.option("--end-user-reference-from", help='With --sheet: "Note", or one end_user_reference for all rows.')
@click.option("--allow-changed", is_flag=True, help="With --sheet: pay a sheet that is not what it was the last time.")
@click.option(
    "--amount-format",
    type=click.Choice(AMOUNT_FORMATS),
    default="number",
    show_default=True,
    help="How amounts are written.",
)
@click.option(
    "--yes", is_flag=True, help="Do not ask. Needed where there is no terminal, unless the host is this machine."
)
@access_options
def batch(
    *,
    file: Path,
    results: Path | None,
    report_to: Path | None,
    dry_run: bool,
    concurrency: int,
    max_rate: float | None,
    retry_rejected: bool,
    give_up_after: float | None,
    sheet: bool,
    foreign_id_prefix: str | None,
    end_user_reference_from: str | None,
    allow_changed: bool,
    amount_format: AmountFormat,
    yes: bool,
    journal: str | None,
    base_url: str | None,
    account: str | None,
) -> None:
    """Pay the withdrawals of FILE, each of them once, and write down what became of each."""
    named = journal or os.environ.get("ALPHAPO_JOURNAL") or f"{file}.journal.db"
    access = Access(os.environ, journal=named, base_url=base_url, account=account)
    prefix = _prefix(foreign_id_prefix, end_user_reference_from, is_sheet=sheet, is_changed=allow_changed)
    lines = read_lines if prefix is None else read_sheet(prefix, end_user_reference_from or "")
    settings = {"max_rate": max_rate, "amount_format": amount_format}
    orders = Orders(concurrency, retry_rejected, give_up_after, settings)
    console = make_console()
    source = InputFile(file, lines)
    with contextlib.closing(Index()) as index:
        sifter = Sifter(source, index, amount_format)
        work = _Work(source, index=index, sifter=sifter, access=access, console=console, prefix=prefix)
        with _interruptible("Interrupted before anything was sent."):
            if dry_run:
                sys.exit(work.show())
            _refuse_memory(named, access)
            if not work.may_pay(yes=yes, allow_changed=allow_changed):
                click.echo("Not confirmed: this call sent nothing.", err=True)
                sys.exit(Exit.UNKNOWN)
        with _interruptible("Interrupted. What was sent is in the journal: the same command goes on from there."):
            sys.exit(work.pay(results or file.with_name(f"{file.name}.results.csv"), report_to, orders))


@contextlib.contextmanager
def _interruptible(sentence: str) -> Iterator[None]:
    """End with this sentence if Ctrl-C comes where nobody else hears it."""
    try:
        yield
    except KeyboardInterrupt:
        click.echo(sentence, err=True)
        sys.exit(Exit.UNKNOWN)


def _prefix(prefix: str | None, reference: str | None, *, is_sheet: bool, is_changed: bool) -> str | None:
    """Return the prefix of a sheet's foreign_ids; None if it is no sheet."""
    if is_sheet:
        if prefix is None or not reference:
            raise click.UsageError("--sheet needs --foreign-id-prefix and --end-user-reference-from. Nothing was sent.")
        return check_prefix(prefix)
    if prefix is not None or reference is not None or is_changed:
        raise click.UsageError(
            "--foreign-id-prefix, --end-user-reference-from and --allow-changed go with --sheet. Nothing was sent."
        )
    return None


def _refuse_memory(named: str, access: Access) -> None:
    if named == "memory" and not access.is_local:
        raise ConfigurationError(
            "A batch needs a journal that outlives it: without one, the same command could not go on from there. Name a file or PostgreSQL "
            "with --journal, or none: then it is FILE.journal.db. Nothing was sent."
        )


class _Work:
    """One run of the command."""

    def __init__(
        self,
        source: InputFile,
        *,
        index: Index,
        sifter: Sifter,
        access: Access,
        console: Console,
        prefix: str | None,
    ) -> None:
        self._source = source
        self._index = index
        self._sifter = sifter
        self._access = access
        self._console = console
        self._prefix = prefix
        self._survey = Survey()

    def show(self) -> Exit:
        """Say what would be paid and what is wrong."""
        self._survey = self._sifter.survey(lambda problem: say(self._console, problem))
        known = asyncio.run(find_out(self._access, self._sifter, self._prefix))
        for line in (*dry_run_lines(self._survey, known), *difference_lines(self._differences(known))):
            say(self._console, line)
        return Exit.REFUSED if self._survey.invalid or self._survey.conflict else Exit.ALL_ACCEPTED

    def may_pay(self, *, yes: bool, allow_changed: bool) -> bool:
        """Read the file, show what is about to happen, and ask where money would move."""
        with self._console.status(f"Reading {clean(self._source.name)} ..."):
            self._survey = self._sifter.survey(lambda _problem: None)
        survey, access = self._survey, self._access
        if not yes and not access.is_local and not sys.stdin.isatty():
            raise ConfigurationError(
                f"{access.host} moves real money, and there is no terminal to ask: pass --yes. Nothing was sent."
            )
        known = asyncio.run(find_out(access, None, self._prefix))
        if (found := self._differences(known)) is not None:
            for line in difference_lines(found):
                click.echo(clean(line), err=True)
            if not allow_changed:
                raise ConfigurationError(
                    f"{self._source.name} is not what it was when it was last paid under this prefix (see above). If that is meant, pass "
                    "--allow-changed; if it is another payout, give it a prefix of its own. Nothing was sent."
                )
        if access.is_local:
            return True
        for line in question(self._source.name, survey, access, known):
            click.echo(clean(line), err=True)
        if yes:
            return True
        try:
            return click.confirm("Pay this?", err=True)
        except click.Abort:
            return False

    def _rows(self) -> list[SheetRow]:
        return [SheetRow.of(line.fields) for line in self._source.read()]

    def _differences(self, known: Known) -> Any:
        return None if self._prefix is None else differences(known.sheet, self._rows())

    def pay(self, results: Path, report_to: Path | None, orders: Orders) -> Exit:
        """Pay, and say what became of it."""
        with ResultsFile(results, self._is_ours) as opened:
            report, failure = asyncio.run(self._pay(opened, orders))
        if report_to is not None:
            report_to.write_bytes(report_json(report))
        self._console.print(table("Rows", ["outcome", "rows"], outcome_rows(report), right=True))
        self._console.print(fitting_totals(self._console, report.totals))
        for line in report_lines(report, str(results)):
            say(self._console, line)
        if failure is None:
            return report.code
        sentences, code = explain(failure)
        for sentence in sentences:
            click.echo(clean(sentence), err=True)
        return code if code is Exit.WRONG else max(code, report.code)

    def _is_ours(self, foreign_id: str) -> bool:
        """Of a sheet, every foreign_id with its prefix is: it may have held other rows before."""
        is_of_sheet = self._prefix is not None and foreign_id.startswith(self._prefix)
        return is_of_sheet or self._index.knows(foreign_id)

    async def _pay(self, results: ResultsFile, orders: Orders) -> tuple[Report, AlphapoError | None]:
        access = self._access
        journal = access.open_journal()
        try:
            if self._prefix is not None:
                await self._remember(journal, self._prefix)
            job = Job(self._source.name, self._sifter, self._survey, self._index)
            return await pay_file(
                job, results=results, access=access, journal=journal, console=self._console, orders=orders
            )
        finally:
            await journal.aclose()

    async def _remember(self, journal: Journal, prefix: str) -> None:
        assert isinstance(journal, Remembering)  # noqa: S101 - whatever has a name keeps texts
        text = msgspec.json.encode(self._rows()).decode()
        await journal.remember(self._access.account, prefix, text)


def report_lines(report: Report, results: str) -> list[str]:
    """Return what is said below the tables."""
    lines = [
        f"Every figure adds up: {'yes' if report.adds_up else 'NO'} (requested is the sum of what became of it, in file and journal).",
        f"Took {duration(report.seconds)}. Results: {results}",
    ]
    if report.cut_short:
        lines.append(f"{report.not_taken:,} rows were not tried: {report.cut_short}")
    if report.code is Exit.UNKNOWN:
        lines.append(
            "Not everything is settled. Run the same command again: it goes on from here and pays nothing twice."
        )
    return lines
