"""`alphapo check`: journal, clock, connection and key, and the rows of a file; one line for each question."""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any, Final

import click
import msgspec

from alphapo_async.cli.batch.confirmation import Wanted, compare_with_alphapo
from alphapo_async.cli.batch.files import InputFile, read_lines
from alphapo_async.cli.batch.index import Index
from alphapo_async.cli.batch.survey import Sifter
from alphapo_async.cli.exit_codes import Exit, explain, worst_of
from alphapo_async.cli.loop import run
from alphapo_async.cli.messages import warning_text
from alphapo_async.cli.options import Access, access_options, json_option
from alphapo_async.cli.output import counted, echo, json_text
from alphapo_async.client import AlphapoClient
from alphapo_async.core.errors import AlphapoError
from alphapo_async.core.replies import NoReply, Reply
from alphapo_async.journal import Cautious, MemoryJournal
from alphapo_async.journal.messages import file_error
from alphapo_async.journal.sqlite.journal import SqliteJournal
from alphapo_async.session import SessionManager

__all__ = ["CheckLine", "check", "check_everything", "check_file", "compare_clocks", "journal_line", "line_of"]

_SECONDS = 10.0  # for the request that asks for the time
_INDENT: Final = 17
"""Width of the columns before the text of a line."""
_APART = 60.0  # seconds; a `Date` is whole seconds old at best, and journals shared by machines compare their times


class CheckLine(msgspec.Struct, frozen=True):
    """The result of one check."""

    name: str
    text: str
    code: Exit = Exit.ALL_ACCEPTED
    is_warning: bool = False


def line_of(found: CheckLine) -> str:
    """Return the line as it is shown."""
    return f"{_result(found):<8}{found.name:<9}{found.text}"


def line_fields(found: CheckLine) -> dict[str, Any]:
    """Return the line as named values."""
    return {"check": found.name, "result": _result(found), "text": found.text, "exit_code": int(found.code)}


def _result(found: CheckLine) -> str:
    return "failed" if found.code is not Exit.ALL_ACCEPTED else "warning" if found.is_warning else "ok"


async def check_everything(access: Access) -> AsyncIterator[CheckLine]:
    """Yield one line for each check, also after another has failed."""
    yield await _check_journal(access)
    session = SessionManager(max_connections=2)
    try:
        yield compare_clocks(await _ask_for_the_time(session, access.host), time.time())
        async with access.open_client(MemoryJournal(), session=session) as client:
            yield await _check_ping(client)
            yield await _check_key(client)
    finally:
        await session.aclose()


async def _check_journal(access: Access) -> CheckLine:
    try:
        journal = access.open_journal()
        try:
            if isinstance(journal, SqliteJournal) and not journal.path.exists():
                return _missing(journal, await journal.cautions())
            async with access.open_client(journal):  # what a worker does first: it takes a lease and gives it back
                is_empty = not await journal.totals(access.account)
            cautions = await journal.cautions() if isinstance(journal, Cautious) else []
            frozen = await journal.count_frozen(access.account)
        finally:
            await journal.aclose()
    except AlphapoError as error:
        return CheckLine("journal", str(error), explain(error)[1])
    opens = journal_line(is_durable=journal.is_durable, is_empty=is_empty)
    if frozen:
        cautions.append(
            f"{counted(frozen, 'row is', 'rows are')} frozen since it went back in time: see `alphapo runbook failover`"
        )
    if journal.is_durable and not is_empty:
        cautions.append(NOT_DETECTED)
    return msgspec.structs.replace(opens, text="; ".join((opens.text, *cautions)))


NOT_DETECTED: Final = (
    "if it is a restored backup, a copied file or an old primary, run `alphapo resume --restored` before any worker starts: a journal "
    "cannot always detect that"
)
"""What no journal detects by itself."""
_NEW: Final = "new and empty; it knows nothing of earlier payments"


def _missing(journal: SqliteJournal, cautions: list[str]) -> CheckLine:
    """Return the line of a file that does not exist: a wrong name looks like that, too, so that the check does not create it.

    Raises:
        JournalError: no file can be created there.
    """
    try:
        with tempfile.TemporaryFile(dir=journal.path.parent):
            pass
    except OSError:
        raise file_error(journal.path, "not to be opened") from None
    text = f"{_NEW}: {str(journal.path)!r} does not exist, and the first payment creates it"
    return CheckLine("journal", "; ".join((text, *cautions)), is_warning=True)


def journal_line(*, is_durable: bool, is_empty: bool = False) -> CheckLine:
    """Return the line of a journal that opens."""
    if is_durable and is_empty:
        return CheckLine("journal", f"{_NEW} of this account; it opens and is durable", is_warning=True)
    if is_durable:
        return CheckLine("journal", "it opens and is durable")
    return CheckLine("journal", "it opens and is not durable: it is in memory and is lost when the process ends")


async def _ask_for_the_time(session: SessionManager, host: str) -> Reply | NoReply:
    return await session.exchange("GET", f"{host}/api/v2/ping", body=None, headers={}, timeout=_SECONDS)


def compare_clocks(reply: Reply | NoReply, now: float) -> CheckLine:
    """Return the line about the difference between this machine's clock and AlphaPo's."""
    if isinstance(reply, NoReply):
        return CheckLine("clock", f"nothing to compare it with: {reply.reason}", Exit.UNKNOWN)
    try:
        apart = now - parsedate_to_datetime(reply.date or "").timestamp()
    except (ValueError, TypeError, OverflowError):
        return CheckLine("clock", "not compared: AlphaPo's reply has no date")
    difference = f"{abs(apart):.0f} s {'after' if apart > 0 else 'before'} AlphaPo's"
    return CheckLine("clock", difference, Exit.REFUSED if abs(apart) > _APART else Exit.ALL_ACCEPTED)


def _failed(check: str, error: AlphapoError) -> CheckLine:
    lines, code = explain(error)
    return CheckLine(check, " ".join(lines), code)


async def _check_ping(client: AlphapoClient) -> CheckLine:
    try:
        await client.ping()
    except AlphapoError as error:
        return _failed("ping", error)
    return CheckLine("ping", "AlphaPo is reachable")


async def _check_key(client: AlphapoClient) -> CheckLine:
    try:
        balances = await client.balances()
    except AlphapoError as error:
        return _failed("key", error)
    return CheckLine("key", f"AlphaPo accepts it and shows {counted(len(balances), 'balance')}")


async def check_file(file: Path, access: Access, *, strict: bool) -> list[CheckLine]:
    """Return one line for each row of a file with a problem or a warning, and one for the whole file.

    Args:
        file: as `alphapo batch` takes it.
        access: whose balances and list of currencies.
        strict: a warning is an error.
    """
    severity = Exit.REFUSED if strict else Exit.ALL_ACCEPTED
    lines: list[CheckLine] = []

    def warn(number: int, text: str) -> None:
        lines.append(CheckLine("file", f"line {number}: {text}", severity, is_warning=True))

    with contextlib.closing(Index()) as index:
        try:
            sifter = Sifter(InputFile(file, read_lines), index, "number")
            survey = sifter.survey(
                lambda problem: lines.append(CheckLine("file", problem, Exit.REFUSED)),
                lambda repeated: lines.append(CheckLine("file", repeated, severity, is_warning=True)),
            )
        except AlphapoError as error:
            return [CheckLine("file", str(error), explain(error)[1])]
        wanted = Wanted(
            sifter,
            on_warning=lambda row, found: warn(index.line_of(row.foreign_id), warning_text(found)),
            asks_alphapo=True,
        )
        known = await compare_with_alphapo(access, wanted)
    lines += [
        CheckLine("file", f"warning: the balance is not enough for {currency}", severity, is_warning=True)
        for currency in known.short_of
    ]
    if (why := known.balances.error) is not None:
        return [*lines, CheckLine("file", f"not compared: {why}", explain(why)[1])]
    unchecked = sum(known.unchecked.values())
    about = f", {counted(unchecked, 'address', 'addresses')} not checked" if unchecked else ""
    left_out = survey.rows - survey.counts.total()
    text = f"{counted(survey.rows, 'row')}, {left_out:,} of them not to be paid, {known.warned:,} with warnings{about}"
    return [*lines, CheckLine("file", text, worst_of([Exit.ALL_ACCEPTED, *(line.code for line in lines)]), bool(lines))]


_CHECK_EPILOG = """\b
Examples:
  alphapo check --journal payouts.db
  alphapo check payouts.csv --strict

\b
Exit codes:
  0  all is well
  1  a wrong clock, a row that cannot be paid, or with --strict a warning
  2  wrong usage, input or configuration (wins over 1 and 3)
  3  the journal or AlphaPo does not answer: run again (wins over 1)
  4  key refused (wins over all others)
"""


@click.command(epilog=_CHECK_EPILOG)
@click.argument("file", required=False, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--strict", is_flag=True, help="A warning about FILE is an error: exit code 1.")
@json_option
@access_options
def check(
    *,
    file: Path | None,
    strict: bool,
    as_json: bool,
    journal: str | None,
    base_url: str | None,
    account: str | None,
) -> None:
    """Check journal, clock, connection and key. Nothing is paid.

    With FILE, as `alphapo batch` takes it, every row of it is also compared with AlphaPo's list of currencies and the balances, and its
    address is checked. The journal is not compared: `alphapo batch FILE --dry-run` does that.
    """
    access = Access(os.environ, journal=journal, base_url=base_url, account=account)
    about = {"host": access.host, "account": access.account, "key_fingerprint": access.fingerprint}
    if not as_json:
        echo("host {host}, account {account}, key fingerprint {key_fingerprint}".format(**about))
    lines = run(_check(access, file, (lambda _: None) if as_json else _show, strict=strict))
    worst = worst_of(line.code for line in lines)
    if as_json:
        click.echo(json_text({**about, "checks": list(map(line_fields, lines)), "exit_code": int(worst)}))
    sys.exit(worst)


async def _check(
    access: Access, file: Path | None, show: Callable[[CheckLine], None], *, strict: bool
) -> list[CheckLine]:
    lines = []
    async for found in check_everything(access):
        show(found)
        lines.append(found)
    for found in [] if file is None else await check_file(file, access, strict=strict):
        show(found)
        lines.append(found)
    return lines


def _show(found: CheckLine) -> None:
    echo(line_of(found), indent=" " * _INDENT)
