"""`alphapo resume` and `alphapo worker`: what is done without a caller."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
from collections import Counter

import click

from alphapo_async.cli.exit_codes import Exit, code_of, code_of_error
from alphapo_async.cli.loop import run
from alphapo_async.cli.messages import CHECK_THE_KEY, advice, happened
from alphapo_async.cli.options import Access, access_options, existing
from alphapo_async.cli.output import clean
from alphapo_async.cli.progress import progress_line
from alphapo_async.core.errors import ConfigurationError, JournalError, WithdrawalError
from alphapo_async.core.events import Event
from alphapo_async.core.results import BatchResult
from alphapo_async.journal import Journal

__all__ = ["event_line", "result_line", "resume", "worker"]

_RESUME_EPILOG = """\b
Examples:
  alphapo resume --journal payouts.db
  alphapo resume --journal payouts.db --no-resend
  alphapo resume --journal restored.db --restored
"""

_WORKER_EPILOG = """\b
Example:
  alphapo worker --journal payouts.db

\b
Any number of workers may share a journal. SIGTERM and Ctrl-C end it: what is under way gets --grace seconds.
"""


@click.command(epilog=_RESUME_EPILOG)
@click.option("--resend/--no-resend", default=True, help="Send again what look-ups do not find.  [default: resend]")
@click.option(
    "--restored", is_flag=True, help="The journal came back from a backup: whatever is open may have been sent."
)
@access_options
def resume(*, resend: bool, restored: bool, journal: str | None, base_url: str | None, account: str | None) -> None:
    """Make one pass over what is open, oldest first, and tell every outcome that nobody heard of yet."""
    access = Access(os.environ, journal=journal, base_url=base_url, account=account)
    opened = existing(access.open_journal())
    if not opened.is_durable:
        raise ConfigurationError(
            "Name the journal with --journal or ALPHAPO_JOURNAL: one in memory ends with its process, and leaves nothing open."
        )
    outcomes, ends, failure = run(_resume(access, opened, resend=resend, restored=restored))
    if failure is not None:
        click.echo(clean(f"{failure.detail} The pass was cut short: run the same command again."), err=True)
    if outcomes or failure is None:
        click.echo(progress_line(outcomes, outcomes.total()) if outcomes else "Nothing is open.")
    sys.exit(max(ends, default=Exit.ALL_ACCEPTED) if failure is None else max(Exit.UNKNOWN, *ends))


async def _resume(
    access: Access, journal: Journal, *, resend: bool, restored: bool
) -> tuple[Counter[str], set[Exit], JournalError | None]:
    """Return the outcomes and their exit codes, and what cut the pass short once it had begun."""
    outcomes: Counter[str] = Counter()
    ends: set[Exit] = set()
    try:
        async with access.open_client(journal) as client:
            try:
                async for result in client.resume(resend=resend, restored=restored):
                    outcomes[result.outcome] += 1
                    ends.add(_code(result))
                    click.echo(clean(result_line(result)))
            except JournalError as error:
                return outcomes, ends, error
    finally:
        await journal.aclose()
    return outcomes, ends, None


def _code(result: BatchResult) -> Exit:
    error = result.error
    return code_of_error(error) if isinstance(error, WithdrawalError | JournalError) else code_of([result.outcome])


def result_line(result: BatchResult) -> str:
    """Return what became of one withdrawal, in a line."""
    error = result.error
    if isinstance(error, WithdrawalError | JournalError):
        told = f"{happened(error)} {advice(error, of_resume=True)}"
        return f"{result.request.foreign_id}  {result.outcome}  {told}"
    known = result.withdrawal
    return f"{result.request.foreign_id}  {result.outcome}  {known.id if known else ''}".rstrip()


@click.command(epilog=_WORKER_EPILOG)
@click.option("--grace", type=float, default=10.0, show_default=True, help="Seconds for what is under way at the end.")
@click.option(
    "--concurrency", type=click.IntRange(min=1), default=64, show_default=True, help="Rows worked on at once."
)
@access_options
def worker(*, grace: float, concurrency: int, journal: str | None, base_url: str | None, account: str | None) -> None:
    """Until told to stop: send what was enqueued, settle what is open, refresh what is accepted and not final."""
    access = Access(os.environ, journal=journal, base_url=base_url, account=account)
    opened = access.open_journal()
    click.echo(f"Working on account {clean(access.account)} at {access.host}. SIGTERM or Ctrl-C ends it.")
    run(_work(access, opened, grace, concurrency))
    click.echo("Stopped; what is still open stays in the journal.")
    sys.exit(Exit.ALL_ACCEPTED)


async def _work(access: Access, journal: Journal, grace: float, concurrency: int) -> None:
    loop = asyncio.get_running_loop()
    try:
        async with access.open_client(journal, close_grace=grace, on_event=_tell) as client:
            working = loop.create_task(client.work(concurrency=concurrency))
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, working.cancel)
            try:
                with contextlib.suppress(asyncio.CancelledError):  # told to stop
                    await working
            finally:
                for number in (signal.SIGTERM, signal.SIGINT):
                    loop.remove_signal_handler(number)
    finally:
        await journal.aclose()


def _tell(event: Event) -> None:
    line = event_line(event)
    if line:
        click.echo(clean(line))


def event_line(event: Event) -> str | None:
    """Return what a worker says of an event; None for what happens too often to be said."""
    if event.name in ("begun", "recorded", "attempt", "look-up", "ended"):
        return None
    if event.name == "unknown" and event.reason == "key refused":
        return None  # `key refused` said so once for all rows
    if event.name == "key refused":
        about = f"key refused  key of fingerprint {event.key}  {event.reason}"
        return (
            f"{about}  Nothing is sent under it, and what is open stays open. {CHECK_THE_KEY}, then restart the worker."
        )
    told = (event.name, event.foreign_id, event.outcome, event.reason)
    return "  ".join(word for word in told if word)
