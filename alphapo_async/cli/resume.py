"""`alphapo resume`: one pass over the open rows."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import click
import msgspec

from alphapo_async.cli.exit_codes import Exit, code_of, code_of_error, explain
from alphapo_async.cli.following import GIVE_UP_AFTER, Following, is_followed
from alphapo_async.cli.journal import account_rows
from alphapo_async.cli.journal_rows import why
from alphapo_async.cli.loop import interruptible, run
from alphapo_async.cli.messages import advice, happened
from alphapo_async.cli.options import Access, Duration, access_options, existing, journals_here, look_up_rate_option
from alphapo_async.cli.output import counted, echo, fees_text, txids_text
from alphapo_async.cli.progress import duration, progress_line
from alphapo_async.cli.row_fields import fields_of
from alphapo_async.cli.streams import survive_lost_output
from alphapo_async.client import AlphapoClient
from alphapo_async.core.errors import (
    AlphapoError,
    AlphapoUnavailable,
    ConfigurationError,
    JournalError,
    WithdrawalError,
)
from alphapo_async.core.results import BatchResult
from alphapo_async.core.row import Row, counted_as, own_transaction
from alphapo_async.journal import Journal, is_shared

__all__ = ["result_fields", "result_line", "resume", "row_fields", "row_line", "stopping"]

_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM)

_RESUME_EPILOG = """\b
Examples:
  alphapo resume --journal payouts.db
  alphapo resume --refresh --give-up-after 3h
  alphapo resume --no-resend --journal payouts.db
  alphapo resume --restored --journal restored.db

--refresh looks up every withdrawal that AlphaPo has and that is not final: at once, after 1 s, 2 s, 4 s and so on, up to
every 10 min. It ends when all are final, at --give-up-after, or at Ctrl-C. Exit code 3 while some are not final.
"""


class _Pass(msgspec.Struct):
    """What one pass came to."""

    outcomes: Counter[str] = msgspec.field(default_factory=Counter)
    ends: set[Exit] = msgspec.field(default_factory=set)
    """The exit codes of the outcomes."""
    final: Counter[str] = msgspec.field(default_factory=Counter)
    """With --refresh: the statuses of the rows that became final."""
    not_final: int = 0
    failure: AlphapoError | None = None
    """What ended the pass early."""
    as_json: bool = False
    """Show objects instead of lines."""

    def tell(self, result: BatchResult) -> None:
        """Count an outcome and show its line."""
        self.outcomes[result.outcome] += 1
        self.ends.add(_code(result))
        self.show(json.dumps(result_fields(result)) if self.as_json else result_line(result))

    def tell_row(self, row: Row, *, is_done: bool) -> None:
        """Count a row that has changed at AlphaPo, and show its line."""
        if is_done:
            self.final[(row.withdrawal and row.withdrawal.status) or row.state] += 1
            self.ends.add(code_of([counted_as(row)]))
        self.show(json.dumps(row_fields(row)) if self.as_json else row_line(row))

    def show(self, text: str) -> None:
        """Print a line; one of JSON is never broken."""
        if self.as_json:
            click.echo(text)
        else:
            echo(text, indent="  ")

    @property
    def code(self) -> Exit:
        """The exit code."""
        is_unfinished = self.not_final or self.failure is not None
        ends = {*self.ends, Exit.UNKNOWN if is_unfinished else Exit.ALL_ACCEPTED}
        return max(ends if self.failure is None else {*ends, explain(self.failure)[1]})

    def summary(self, *, has_refreshed: bool) -> list[str]:
        """Return the lines about the whole pass, or one object."""
        counts = {"outcomes": dict(self.outcomes), "became_final": dict(self.final), "not_final": self.not_final}
        if self.as_json:
            error = None if self.failure is None else str(self.failure)
            return [json.dumps({"summary": {**counts, "error": error, "exit_code": int(self.code)}})]
        lines = []
        if self.outcomes or self.failure is None:
            lines.append(progress_line(self.outcomes, self.outcomes.total()) if self.outcomes else "Nothing is open.")
        if has_refreshed:
            statuses = ", ".join(f"{count:,} {status}" for status, count in sorted(self.final.items()))
            about = f": {statuses}" if statuses else ""
            lines.append(
                f"{self.final.total():,} became final{about}. {counted(self.not_final, 'is', 'are')} not final."
            )
        return lines


@click.command(epilog=_RESUME_EPILOG)
@click.option("--resend/--no-resend", default=True, help="Send again what look-ups do not find.  [default: resend]")
@click.option(
    "--restored", is_flag=True, help="The journal was restored from a backup: every open row may have been sent."
)
@click.option("--refresh", is_flag=True, help="Then look up what is accepted until it is final.")
@look_up_rate_option
@click.option("--give-up-after", type=Duration(), help="End --refresh after so long, such as 2h.  [default: 1h]")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line; the last one is about the whole pass.")
@access_options
def resume(
    *,
    resend: bool,
    restored: bool,
    refresh: bool,
    max_look_up_rate: float | None,
    give_up_after: float | None,
    as_json: bool,
    journal: str | None,
    base_url: str | None,
    account: str | None,
) -> None:
    """Make one pass over the open rows, oldest first, and report every outcome that was not reported yet; --refresh follows the rest."""
    survive_lost_output()
    access = Access(os.environ, journal=journal, base_url=base_url, account=account)
    opened = existing(access.open_journal())
    if not is_shared(opened):
        raise ConfigurationError(
            "Set ALPHAPO_JOURNAL=payouts.db (or --journal payouts.db): a journal in memory ends with its process, and leaves nothing open."
            f"{journals_here()}"
        )
    how = {"rate": max_look_up_rate, "give_up_after": give_up_after} if refresh else None
    passed = _Pass(as_json=as_json)
    with interruptible("Interrupted. What was sent is in the journal: the same command continues from there."):
        run(_resume(access, opened, passed, resend=resend, restored=restored, refresh=how))
    failure = passed.failure
    if failure is not None:
        detail = failure.detail if isinstance(failure, JournalError) else str(failure)
        echo(f"{detail} The pass was cut short: run the same command again.", err=True)
    for line in passed.summary(has_refreshed=refresh):
        passed.show(line)
    sys.exit(passed.code)


async def _resume(
    access: Access,
    journal: Journal,
    passed: _Pass,
    *,
    resend: bool,
    restored: bool,
    refresh: dict[str, float | None] | None,
) -> None:
    """Make the pass, and note what it came to."""
    try:
        async with access.open_client(journal) as client:
            try:
                async for result in client.resume(resend=resend, restored=restored):
                    passed.tell(result)
                if refresh is not None:
                    await _refresh(client, journal, access.account, passed, refresh)
            except (JournalError, AlphapoUnavailable) as error:
                passed.failure = error
    finally:
        await journal.aclose()


async def _refresh(
    client: AlphapoClient, journal: Journal, account: str, passed: _Pass, how: dict[str, float | None]
) -> None:
    """Follow every row that is not final, until it is, and show each change."""
    with stopping() as stop, contextlib.closing(Following(client, journal, account, stop, **how)) as following:
        async for row in account_rows(journal, account):
            if is_followed(row):
                following.add(row.foreign_id)
        if left := len(following):
            lasts = duration(how["give_up_after"] or GIVE_UP_AFTER)
            echo(
                f"Looking up {counted(left, 'withdrawal')} until final, for at most {lasts}. Ctrl-C ends it.", err=True
            )
        try:
            async with contextlib.aclosing(following.rows()) as found:
                async for news in found:
                    passed.tell_row(news.row, is_done=news.is_done)
        finally:
            passed.not_final = len(following)


@contextlib.contextmanager
def stopping() -> Iterator[asyncio.Event]:
    """Yield an event that Ctrl-C and SIGTERM set while the block runs."""
    stop, loop = asyncio.Event(), asyncio.get_running_loop()
    for number in _SIGNALS:
        loop.add_signal_handler(number, stop.set)
    try:
        yield stop
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)


def row_line(row: Row) -> str:
    """Return the line for a withdrawal that has changed at AlphaPo: its status, id, txids and fees."""
    known, own = row.withdrawal, own_transaction(row)
    shown = (known.status, known.id) if known is not None else (None, None)
    parts = (row.foreign_id, counted_as(row), *shown, txids_text(own), fees_text(own))
    return "  ".join(str(part) for part in parts if part not in (None, ""))


def _code(result: BatchResult) -> Exit:
    error = result.error
    return code_of_error(error) if isinstance(error, WithdrawalError | JournalError) else code_of([result.outcome])


def result_fields(result: BatchResult) -> dict[str, Any]:
    """Return one withdrawal's outcome as named values, with the same names as `row_fields`."""
    error, known = result.error, result.withdrawal
    text = f"{happened(error)} {advice(error, 'resume')}" if isinstance(error, WithdrawalError | JournalError) else None
    return {
        "foreign_id": result.request.foreign_id,
        "outcome": result.outcome,
        "alphapo_id": None if known is None or known.id is None else str(known.id),
        "status": None if known is None else known.status,
        "txids": [],
        "fees": None,
        "error": text,
    }


def row_fields(row: Row) -> dict[str, Any]:
    """Return a withdrawal that has changed at AlphaPo as named values."""
    fields = fields_of(row)
    error = "" if row.state == "accepted" else why(row)
    return {**{name: fields[name] for name in _ROW_NAMES}, "error": error or None}


_ROW_NAMES: Final = ("foreign_id", "outcome", "alphapo_id", "status", "txids", "fees")


def result_line(result: BatchResult) -> str:
    """Return the line for one withdrawal's outcome."""
    error = result.error
    if isinstance(error, WithdrawalError | JournalError):
        text = f"{happened(error)} {advice(error, 'resume')}"
        return f"{result.request.foreign_id}  {result.outcome}  {text}"
    known = result.withdrawal
    return f"{result.request.foreign_id}  {result.outcome}  {known.id if known else ''}".rstrip()
