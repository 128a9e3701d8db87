"""`alphapo journal callbacks`: the callbacks that the journal keeps of one withdrawal."""

from __future__ import annotations

import os
import sys
from typing import Any

import click
import msgspec

from alphapo_async.cli.exit_codes import Exit
from alphapo_async.cli.journal import account_of, journal, journal_named, journal_options, with_journal
from alphapo_async.cli.journal_rows import moment
from alphapo_async.cli.options import Words
from alphapo_async.cli.output import echo, make_console, show_table
from alphapo_async.cli.row_fields import iso_moment
from alphapo_async.core.replays import StoredCallback, stored_callbacks

__all__ = ["callbacks"]

_EPILOG = """\b
Examples:
  alphapo journal callbacks payout-17 --journal payouts.db
  alphapo journal callbacks payout-17 --json --journal payouts.db

In Python, `async with client.replay_callback("payout-17") as callback:` hands one of them out again.
"""


@journal.command(epilog=_EPILOG)
@click.argument("foreign_id", type=Words())
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with the body as AlphaPo sent it.")
@journal_options
def callbacks(*, foreign_id: str, as_json: bool, name: str | None, account: str | None) -> None:
    """List the callbacks of one withdrawal, in the order in which each was first delivered."""
    owner = account_of(account, os.environ)
    opened = journal_named(name, os.environ, reads_only=True)
    kept = stored_callbacks(with_journal(opened, lambda opened: opened.history(owner, foreign_id)))
    if not kept:
        echo(
            f"The journal has no callback of withdrawal {foreign_id!r} of account {owner!r}. Check the spelling, --journal and "
            "--account; AlphaPo may have sent none. `alphapo status FOREIGN_ID` asks it.",
            err=True,
        )
        sys.exit(Exit.UNKNOWN)
    if as_json:
        for one in kept:
            click.echo(msgspec.json.encode(_fields(one)).decode())
        return
    show_table(make_console(), "Callbacks", ["last delivered", "times", "what", "body"], map(_cells, kept))


def _cells(kept: StoredCallback) -> tuple[str, ...]:
    size = "not kept" if kept.transaction is None else f"{len(kept.entry.reply)} bytes"
    return moment(kept.last_at), str(kept.entry.count), kept.entry.what, size


def _fields(kept: StoredCallback) -> dict[str, Any]:
    entry, shown = kept.entry, kept.transaction
    return {
        "first_at": iso_moment(entry.at),
        "last_at": None if kept.last_at is None else iso_moment(kept.last_at),
        "count": entry.count,
        "alphapo_id": None if shown is None else str(shown.id),
        "status": None if shown is None else shown.status,
        "txids": [] if shown is None else shown.txids,
        "what": entry.what,
        "can_be_replayed": shown is not None,
        "body": entry.reply.decode(errors="replace"),
    }
