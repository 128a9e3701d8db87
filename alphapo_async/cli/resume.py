"""`alphapo resume`: one pass over the open rows."""

from __future__ import annotations

import os
import sys
from collections import Counter

import click

from alphapo_async.cli.exit_codes import Exit, code_of, code_of_error
from alphapo_async.cli.loop import run
from alphapo_async.cli.messages import advice, happened
from alphapo_async.cli.options import Access, access_options, existing
from alphapo_async.cli.output import echo
from alphapo_async.cli.progress import progress_line
from alphapo_async.cli.streams import survive_lost_output
from alphapo_async.core.errors import ConfigurationError, JournalError, WithdrawalError
from alphapo_async.core.results import BatchResult
from alphapo_async.journal import Journal, is_shared

__all__ = ["result_line", "resume"]

_RESUME_EPILOG = """\b
Examples:
  alphapo resume --journal payouts.db
  alphapo resume --journal payouts.db --no-resend
  alphapo resume --journal restored.db --restored
"""


@click.command(epilog=_RESUME_EPILOG)
@click.option("--resend/--no-resend", default=True, help="Send again what look-ups do not find.  [default: resend]")
@click.option(
    "--restored", is_flag=True, help="The journal was restored from a backup: every open row may have been sent."
)
@access_options
def resume(*, resend: bool, restored: bool, journal: str | None, base_url: str | None, account: str | None) -> None:
    """Make one pass over the open rows, oldest first, and report every outcome that was not reported yet."""
    survive_lost_output()
    access = Access(os.environ, journal=journal, base_url=base_url, account=account)
    opened = existing(access.open_journal())
    if not is_shared(opened):
        raise ConfigurationError(
            "Name the journal with --journal or ALPHAPO_JOURNAL: a journal in memory ends with its process, and leaves nothing open."
        )
    outcomes, ends, failure = run(_resume(access, opened, resend=resend, restored=restored))
    if failure is not None:
        echo(f"{failure.detail} The pass was cut short: run the same command again.", err=True)
    if outcomes or failure is None:
        echo(progress_line(outcomes, outcomes.total()) if outcomes else "Nothing is open.")
    sys.exit(max(ends, default=Exit.ALL_ACCEPTED) if failure is None else max(Exit.UNKNOWN, *ends))


async def _resume(
    access: Access, journal: Journal, *, resend: bool, restored: bool
) -> tuple[Counter[str], set[Exit], JournalError | None]:
    """Return the outcomes, their exit codes, and the error that ended the pass early."""
    outcomes: Counter[str] = Counter()
    ends: set[Exit] = set()
    try:
        async with access.open_client(journal) as client:
            try:
                async for result in client.resume(resend=resend, restored=restored):
                    outcomes[result.outcome] += 1
                    ends.add(_code(result))
                    echo(result_line(result))
            except JournalError as error:
                return outcomes, ends, error
    finally:
        await journal.aclose()
    return outcomes, ends, None


def _code(result: BatchResult) -> Exit:
    error = result.error
    return code_of_error(error) if isinstance(error, WithdrawalError | JournalError) else code_of([result.outcome])


def result_line(result: BatchResult) -> str:
    """Return the line for one withdrawal's outcome."""
    error = result.error
    if isinstance(error, WithdrawalError | JournalError):
        told = f"{happened(error)} {advice(error, 'resume')}"
        return f"{result.request.foreign_id}  {result.outcome}  {told}"
    known = result.withdrawal
    return f"{result.request.foreign_id}  {result.outcome}  {known.id if known else ''}".rstrip()
