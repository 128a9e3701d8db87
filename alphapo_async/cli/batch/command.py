"""`alphapo batch`: many withdrawals from a file; the same command again continues where the last one ended."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Final

import click
from rich.console import Console

from alphapo_async.cli.batch.confirmation import (
    Notices,
    PriorKnowledge,
    Wanted,
    dry_run_fields,
    dry_run_lines,
    elsewhere_lines,
    find_out,
    left_out_lines,
    notices,
    question,
    strict_problems,
)
from alphapo_async.cli.batch.files import InputFile, read_lines
from alphapo_async.cli.batch.index import Index
from alphapo_async.cli.batch.paths import check_places
from alphapo_async.cli.batch.report import BatchReport, outcome_rows, paid_before_lines, report_json, report_lines
from alphapo_async.cli.batch.report_file import ReportFile
from alphapo_async.cli.batch.results import ResultsFile
from alphapo_async.cli.batch.run import Job, Orders, pay_file
from alphapo_async.cli.batch.survey import Sifter, Survey
from alphapo_async.cli.exit_codes import Exit, explain, nothing_sent
from alphapo_async.cli.loop import interruptible, run
from alphapo_async.cli.messages import row_message, warning_text
from alphapo_async.cli.options import Access, Duration, access_options, json_option, look_up_rate_option
from alphapo_async.cli.output import clean, echo, fitting_totals, json_text, make_console, say, table
from alphapo_async.cli.streams import survive_lost_output
from alphapo_async.core.codec import AMOUNT_FORMATS, AmountFormat
from alphapo_async.core.errors import AlphapoError, ConfigurationError
from alphapo_async.core.frames import hides_arguments
from alphapo_async.core.models import WithdrawalRequest
from alphapo_async.engine.context import host_of
from alphapo_async.journal import Journal
from alphapo_async.journal.host_binding import check_host
from alphapo_async.journal.sqlite.journal import SqliteJournal

__all__ = ["batch"]

_EPILOG = """\b
Examples:
  alphapo batch payouts.csv --dry-run
  alphapo batch payouts.csv
  alphapo batch payouts.csv --follow --give-up-after 3h
  alphapo batch payouts.jsonl --max-rate 20 --report report.json

FILE is CSV (comma or semicolon) or JSON Lines, in UTF-8. Its columns, or names, are the fields of a withdrawal: foreign_id, currency,
address, amount, end_user_reference, and where needed amount_to, convert_to, tag and others. An empty cell, and null in JSON, is an absent
field. XRP and CSC need a tag: if none is wanted, write true in a column without_tag, or leave the column tag empty and pass --no-tag.
One decimal comma, such as 0,5, refuses the whole FILE: 1.234 in another row could then mean 1234. So does 1.234 between semicolons,
unless another amount shows that a point is a decimal point.
FILE may be a whole `alphapo journal export`: its columns that are no fields of a withdrawal are not read.

The same command again, with the same journal, continues where this one ended and pays nothing twice. After Ctrl-C nothing more is sent,
and requests under way get one minute. Ctrl-C twice ends it at once.

The columns of the results are foreign_id, outcome, id, status, error, line, txids and fees; one line per row, in the order in which rows
finish. With --follow a row finishes when it is final, and look-ups leave at --max-look-up-rate.

The journal keeps a row from being paid twice. It is FILE.journal.db unless --journal or ALPHAPO_JOURNAL names another. A copy of FILE
under another name therefore has a journal of its own, which does not know what was paid from FILE: name the first one with --journal. Rows
that another *.journal.db in the same folder has as paid or open are named before anything is paid.

\b
Exit codes:
  0  all accepted
  1  something refused, failed, invalid or conflicting; or you did not confirm
  2  wrong usage, input or configuration, or FILE changed meanwhile
  3  something unknown, not sent, not tried, missing in the results or, with
     --follow, not final: run again (wins over 1)
  4  key refused (wins over 3)

Every run checks the addresses offline. Before it pays, it shows the warnings and the rows that are not paid: the first ten and the count.
--strict is all or nothing: while any row has an error or a warning, nothing is paid, and the exit code is 1.

--dry-run: 2 and 4 if the run would end with that code before it pays a row, 1 if a row cannot be paid or a balance is not enough, else 0.
It also compares each row with AlphaPo's list of currencies: the warnings change no exit code without --strict. Without ALPHAPO_KEY and
ALPHAPO_SECRET it checks what can be checked offline.
"""

_FILE: Final = click.Path(path_type=Path, exists=True, dir_okay=False)
_OUT: Final = click.Path(path_type=Path, dir_okay=False)


@click.command(epilog=_EPILOG)
@click.argument("file", type=_FILE)
@click.option("--results", type=_OUT, help="File for the outcomes.  [default: FILE.results.csv]")
@click.option(
    "--report",
    "report_to",
    type=_OUT,
    help="File for the final report as JSON, for programs. Only an earlier report is overwritten.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Read the whole file, show what would be paid and every problem, send nothing. A decimal comma ends it at once: it refuses the "
    "whole file.",
)
@click.option(
    "--strict",
    is_flag=True,
    help="All or nothing: compare the file with AlphaPo's list of currencies and the balances first, and pay nothing if a row has an error "
    "or a warning, or a balance is not enough (exit code 1).",
)
@click.option(
    "--concurrency", type=click.IntRange(min=1), default=64, show_default=True, help="Rows worked on at once."
)
@click.option("--max-rate", type=click.FloatRange(min=0, min_open=True), help="Withdrawals a second, evenly.")
@look_up_rate_option
@click.option("--retry-rejected", is_flag=True, help="Send again what AlphaPo rejected before.")
@click.option(
    "--give-up-after",
    type=Duration(),
    help="End after AlphaPo gave no readable answer for so long, such as 2h. With --follow also: follow for so long.  "
    "[default with --follow: 1h]",
)
@click.option(
    "--follow",
    is_flag=True,
    help="Then look up what is accepted until it is final: status, txids and fees go to the results.",
)
@click.option("--no-tag", is_flag=True, help="An empty tag means that no tag is wanted.")
@click.option(
    "--amount-format",
    type=click.Choice(AMOUNT_FORMATS),
    default="number",
    show_default=True,
    help="How amounts are written.",
)
@json_option
@click.option("--yes", is_flag=True, help="Do not ask. Needed without a terminal, unless the host is this machine.")
@access_options
def batch(
    *,
    file: Path,
    results: Path | None,
    report_to: Path | None,
    dry_run: bool,
    strict: bool,
    concurrency: int,
    max_rate: float | None,
    max_look_up_rate: float | None,
    retry_rejected: bool,
    give_up_after: float | None,
    follow: bool,
    no_tag: bool,
    amount_format: AmountFormat,
    as_json: bool,
    yes: bool,
    journal: str | None,
    base_url: str | None,
    account: str | None,
) -> None:
    """Pay the withdrawals of FILE, each of them once, and record the outcome of each."""
    survive_lost_output()
    needs_key = strict or not dry_run
    access = _access(os.environ, file, journal, needs_key=needs_key, base_url=base_url, account=account)
    results_to = results or file.with_name(f"{file.name}.results.csv")
    check_places(file, results_to, report_to, _path_of(access.open_journal()))
    reporting = None if report_to is None else ReportFile(report_to)
    settings = {"max_rate": max_rate, "amount_format": amount_format}
    orders = Orders(concurrency, retry_rejected, give_up_after, follow, max_look_up_rate, settings)
    source = InputFile(file, partial(read_lines, no_tag=no_tag))
    with contextlib.closing(Index()) as index:
        sifter = Sifter(source, index, amount_format)
        console = make_console(sys.stderr if as_json else None)
        work = _Work(source, index=index, sifter=sifter, access=access, console=console, as_json=as_json)
        with interruptible("Interrupted before anything was sent."), nothing_sent():
            if dry_run:
                sys.exit(work.show(results_to, orders, strict=strict))
            if not work.may_pay(orders, yes=yes, strict=strict):
                echo("Not confirmed: this call sent nothing.", err=True)
                sys.exit(Exit.REFUSED)
        with interruptible("Interrupted. What was sent is in the journal: the same command continues from there."):
            sys.exit(work.pay(results_to, reporting, orders))


@hides_arguments
def _access(
    environment: Mapping[str, str], file: Path, journal: str | None, *, needs_key: bool, **given: str | None
) -> Access:
    """Return the access to AlphaPo and the journal of this run.

    Raises:
        ConfigurationError: something is missing or wrong, or the journal would forget what was sent.
    """
    default = environment.get("ALPHAPO_JOURNAL")
    named = journal if journal is not None else default if default is not None else f"{file}.journal.db"
    # A name that the environment gives may hold a password, and is not repeated as an option.
    access = Access(
        environment, needs_key=needs_key, journal=None if journal is None and default is not None else named, **given
    )
    _refuse_memory(named, access)
    return access


def _path_of(journal: Journal) -> Path | None:
    return journal.path if isinstance(journal, SqliteJournal) else None


def _refuse_memory(named: str, access: Access) -> None:
    if named == "memory" and not access.is_local:
        raise ConfigurationError(
            "Leave --journal and ALPHAPO_JOURNAL out (the journal is then FILE.journal.db), or set them to a file or a postgresql:// URL: "
            "a journal in memory ends with this command, so that the same command could not continue after an interruption. "
            "Nothing was sent."
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
        as_json: bool = False,
    ) -> None:
        self._source = source
        self._index = index
        self._sifter = sifter
        self._access = access
        self._console = console
        self._as_json = as_json
        self._survey = Survey()
        self._elsewhere: list[str] = []
        self._problems = Notices()
        self._warnings = Notices()

    def show(self, results: Path, orders: Orders, *, strict: bool) -> Exit:
        """Show what would be paid, every problem, and what would forbid the run; return the exit code."""
        self._survey = self._sifter.survey(lambda problem: say(self._console, problem))
        wanted = Wanted(self._sifter, orders.retry_rejected, self._show_warning, asks_alphapo=True)
        known = run(find_out(self._access, wanted))
        say(
            self._console,
            f"host {self._access.host}, account {self._access.account}, journal {self._access.journal_name}",
        )
        for line in dry_run_lines(self._survey, known):
            say(self._console, line)
        checks = [partial(self._check_host, known), partial(self._check_results, results)]
        refusals = [refusal for check in checks for refusal in _refused(check)]
        lines = [str(refusal).removesuffix(_NOTHING).rstrip() for refusal in refusals]
        for line in (*lines, *(self._strict_refusal(known) if strict else []), _NOTHING):
            say(self._console, line)
        code = self._code_of_dry_run(known, is_refused=bool(refusals), strict=strict)
        if self._as_json:
            click.echo(json_text(dry_run_fields(self._survey, known, code)))
        return code

    def _code_of_dry_run(self, known: PriorKnowledge, *, is_refused: bool, strict: bool) -> Exit:
        if is_refused:
            return Exit.WRONG
        if known.balances.is_key_refused:
            return Exit.KEY_REFUSED
        if strict and known.balances.error is not None:
            return Exit.UNKNOWN
        in_journal = known.stock.conflict if known.stock is not None else 0
        cannot_be_paid = self._survey.invalid or self._survey.conflict or in_journal or known.short_of
        is_forbidden = strict and strict_problems(self._survey, known)
        return Exit.REFUSED if cannot_be_paid or is_forbidden else Exit.ALL_ACCEPTED

    def _strict_refusal(self, known: PriorKnowledge) -> list[str]:
        """Return the sentence that refuses a run with --strict; none if all is right."""
        found = strict_problems(self._survey, known)
        return [f"With --strict nothing is paid while anything is wrong: {'; '.join(found)}."] if found else []

    def _warning(self, request: WithdrawalRequest, warnings: Mapping[str, str]) -> str:
        return f"line {self._index.line_of(request.foreign_id)}: {warning_text(warnings)}"

    def _show_warning(self, request: WithdrawalRequest, warnings: Mapping[str, str]) -> None:
        say(self._console, self._warning(request, warnings))

    def _keep_warning(self, request: WithdrawalRequest, warnings: Mapping[str, str]) -> None:
        self._warnings.add(self._warning(request, warnings))

    def _check_host(self, known: PriorKnowledge) -> None:
        if known.host is not None:
            check_host(self._access.account, known.host, host_of(self._access.host))

    def _check_results(self, results: Path) -> None:
        with ResultsFile(results, self._index.knows):
            pass

    def may_pay(self, orders: Orders, *, yes: bool, strict: bool) -> bool:
        """Read the file, show what is about to happen, and ask if money would move; return whether to pay."""
        with self._console.status(f"Reading {clean(self._source.name)} ..."):
            self._survey = self._sifter.survey(self._problems.add)
        access = self._access
        if not yes and not access.is_local and not sys.stdin.isatty():
            raise ConfigurationError(
                f"{access.host} moves real money, and there is no terminal to confirm on: pass --yes. {_NOTHING}"
            )
        wanted = Wanted(self._sifter, orders.retry_rejected, self._keep_warning, asks_alphapo=strict)
        known = run(find_out(access, wanted))
        self._check_host(known)
        self._elsewhere = elsewhere_lines(known)
        shown = [] if access.is_local else question(self._source.name, self._survey, access, known)
        listed = notices(self._problems, self._warnings, known)
        for line in (*shown, *left_out_lines(self._survey), *listed):
            echo(line, err=True, indent="  ")
        if strict:
            self._check_strictly(known)
        return access.is_local or yes or self._is_agreed()

    def _check_strictly(self, known: PriorKnowledge) -> None:
        """End the command unless AlphaPo answered and nothing is wrong.

        Raises:
            SystemExit: something is wrong (exit code 1), or AlphaPo did not answer (3), or does not accept the key (4).
        """
        if (error := known.balances.error) is not None:
            echo(f"{error} With --strict nothing is paid without that answer. {_NOTHING}", err=True)
            sys.exit(explain(error)[1])
        for line in self._strict_refusal(known):
            echo(f"{line} {_NOTHING}", err=True)
            sys.exit(Exit.REFUSED)

    def _is_agreed(self) -> bool:
        try:
            return click.confirm("Pay this?", err=True)
        except click.Abort:
            return False

    def pay(self, results: Path, reporting: ReportFile | None, orders: Orders) -> Exit:
        """Pay, show the report, and return the exit code."""
        access = self._access
        say(
            self._console,
            f"Paying {self._source.name} at {access.host}, account {access.account}, journal {access.journal_name}.",
        )
        with ResultsFile(results, self._index.knows) as opened:
            report, failure = run(self._pay(opened, orders))
        shows = self._print_json if self._as_json else self._show_report
        for step in (shows, partial(self._write_report, reporting=reporting)):
            try:
                step(report, failure, results)
            except Exception as error:  # noqa: BLE001 - the money has moved: what fails now must not change how the command ends
                problem = f"Something could not be shown or written ({type(error).__name__})."
                echo(f"{problem} Everything else is done: the results are in {results}.", err=True)
        return report.code

    def _show_report(self, report: BatchReport, failure: AlphapoError | None, results: Path) -> None:
        for line in paid_before_lines(report):
            say(self._console, line)
        self._console.print(table("Rows", ["outcome", "rows"], outcome_rows(report), right=True))
        for line in self._elsewhere:
            say(self._console, f"warning: {line}")
        self._console.print(fitting_totals(self._console, report.totals))
        for line in report_lines(report, str(results), self._access.journal_option):
            say(self._console, line)
        if not self._access.is_in_memory:
            say(
                self._console,
                f"Keep {self._source.name}, {results} and the journal {self._access.journal_name}: they prove what was paid, "
                "and the journal keeps a row from being paid twice.",
            )
        if failure is not None:
            echo(row_message(failure), err=True)

    def _print_json(self, report: BatchReport, failure: AlphapoError | None, _results: Path) -> None:
        click.echo(report_json(report), nl=False)
        if failure is not None:
            echo(row_message(failure), err=True)

    def _write_report(
        self, report: BatchReport, _failure: AlphapoError | None, results: Path, reporting: ReportFile | None
    ) -> None:
        if reporting is not None and (why := reporting.write(report_json(report))) is not None:
            echo(
                f"The report could not be written ({why}). Everything else is done: the results are in {results}.",
                err=True,
            )

    async def _pay(self, results: ResultsFile, orders: Orders) -> tuple[BatchReport, AlphapoError | None]:
        access = self._access
        journal = access.open_journal()
        job = Job(self._source.name, self._sifter, self._survey, self._index)
        try:
            return await pay_file(
                job,
                results=results,
                access=access,
                journal=journal,
                console=self._console,
                orders=orders,
            )
        finally:
            await journal.aclose()


def _refused(check: Callable[[], None]) -> Iterator[ConfigurationError]:
    """Yield the error that the check raises, if it raises one."""
    try:
        check()
    except ConfigurationError as error:
        yield error


_NOTHING: Final = "Nothing was sent."
