"""`alphapo worker`: send enqueued rows and settle open ones, until stopped."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import sys
from typing import Final

import click

from alphapo_async.cli.exit_codes import Exit
from alphapo_async.cli.loop import run
from alphapo_async.cli.options import Access, access_options
from alphapo_async.cli.streams import survive_lost_output
from alphapo_async.cli.worker_log import LogFormat, worker_log
from alphapo_async.journal import Journal

__all__ = ["worker"]

logger = logging.getLogger("alphapo_async.worker")

_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

_WORKER_EPILOG = """\b
Examples:
  alphapo worker --journal payouts.db
  alphapo worker --log-format json

\b
Any number of workers may share a journal. SIGTERM and Ctrl-C end a worker:
requests under way get --grace seconds, and the process ends within 3 s more.
"""


@click.command(epilog=_WORKER_EPILOG)
@click.option("--grace", type=float, default=5.0, show_default=True, help="Seconds for what is under way at the end.")
@click.option(
    "--concurrency", type=click.IntRange(min=1), default=64, show_default=True, help="Rows worked on at once."
)
@click.option(
    "--log-format",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="One line for each event.",
)
@access_options
def worker(
    *,
    grace: float,
    concurrency: int,
    log_format: LogFormat,
    journal: str | None,
    base_url: str | None,
    account: str | None,
) -> None:
    """Send enqueued rows, settle open ones, refresh accepted ones that are not final, until stopped."""
    survive_lost_output()
    access = Access(os.environ, journal=journal, base_url=base_url, account=account)
    opened = access.open_journal()
    with worker_log(log_format):
        about = {"account": access.account, "base_url": access.host}
        logger.info("working on account %s at %s; SIGTERM or Ctrl-C ends it", access.account, access.host, extra=about)
        run(_work(access, opened, grace, concurrency))
        logger.info("stopped; open rows stay in the journal", extra=about)
    sys.exit(Exit.ALL_ACCEPTED)


async def _work(access: Access, journal: Journal, grace: float, concurrency: int) -> None:
    """Work until a signal comes, also one that comes while the journal is opened."""
    loop = asyncio.get_running_loop()
    working = loop.create_task(_work_on(access, journal, grace, concurrency))
    for number in _SIGNALS:
        loop.add_signal_handler(number, working.cancel)
    try:
        with contextlib.suppress(asyncio.CancelledError):  # stopped by a signal
            await working
    finally:
        for number in _SIGNALS:
            loop.remove_signal_handler(number)
        await journal.aclose()


async def _work_on(access: Access, journal: Journal, grace: float, concurrency: int) -> None:
    async with access.open_client(journal, close_grace=grace) as client:
        await client.work(concurrency=concurrency)
