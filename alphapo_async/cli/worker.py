"""`alphapo worker`: send enqueued rows and settle open ones, until stopped."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys

import click

from alphapo_async.cli.exit_codes import Exit
from alphapo_async.cli.loop import run
from alphapo_async.cli.messages import CHECK_THE_KEY
from alphapo_async.cli.options import Access, access_options
from alphapo_async.cli.output import clean, echo
from alphapo_async.cli.streams import survive_lost_output
from alphapo_async.core.events import Event
from alphapo_async.journal import Journal

__all__ = ["event_line", "worker"]


_WORKER_EPILOG = """\b
Example:
  alphapo worker --journal payouts.db

\b
Any number of workers may share a journal. SIGTERM and Ctrl-C end a worker: requests under way get --grace seconds.
"""


@click.command(epilog=_WORKER_EPILOG)
@click.option("--grace", type=float, default=10.0, show_default=True, help="Seconds for what is under way at the end.")
@click.option(
    "--concurrency", type=click.IntRange(min=1), default=64, show_default=True, help="Rows worked on at once."
)
@access_options
def worker(*, grace: float, concurrency: int, journal: str | None, base_url: str | None, account: str | None) -> None:
    """Send enqueued rows, settle open ones, refresh accepted ones that are not final, until stopped."""
    survive_lost_output()
    access = Access(os.environ, journal=journal, base_url=base_url, account=account)
    opened = access.open_journal()
    click.echo(f"Working on account {clean(access.account)} at {access.host}. SIGTERM or Ctrl-C ends it.")
    run(_work(access, opened, grace, concurrency))
    echo("Stopped. Open rows stay in the journal.")
    sys.exit(Exit.ALL_ACCEPTED)


async def _work(access: Access, journal: Journal, grace: float, concurrency: int) -> None:
    loop = asyncio.get_running_loop()
    try:
        async with access.open_client(journal, close_grace=grace, on_event=_tell) as client:
            working = loop.create_task(client.work(concurrency=concurrency))
            for number in (signal.SIGTERM, signal.SIGINT):
                loop.add_signal_handler(number, working.cancel)
            try:
                with contextlib.suppress(asyncio.CancelledError):  # stopped by a signal
                    await working
            finally:
                for number in (signal.SIGTERM, signal.SIGINT):
                    loop.remove_signal_handler(number)
    finally:
        await journal.aclose()


def _tell(event: Event) -> None:
    line = event_line(event)
    if line:
        echo(line)


def event_line(event: Event) -> str | None:
    """Return the line for an event; None for frequent events."""
    if event.name in ("begun", "recorded", "attempt", "look-up", "ended"):
        return None
    if event.name == "unknown" and event.reason == "key refused":
        return None  # the event `key refused` reports it once for all rows
    if event.name == "key refused":
        about = f"key refused  key of fingerprint {event.key}  {event.reason}"
        return (
            f"{about}  Nothing is sent under it, and what is open stays open. {CHECK_THE_KEY}, then restart the worker."
        )
    words = (event.name, event.foreign_id, event.outcome, event.reason)
    return "  ".join(word for word in words if word)
