"""`alphapo journal …`: the operator's view of what was promised and what came of it. It needs no key, and sends nothing."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import TypeVar

import click

from alphapo_async.cli.ending import Exit
from alphapo_async.cli.looping import run
from alphapo_async.cli.options import existing, no_password
from alphapo_async.cli.showing import clean, make_console, pairs, table, totals_table
from alphapo_async.core.errors import ConfigurationError
from alphapo_async.core.evidence import Word
from alphapo_async.core.history import Entry, entry_of
from alphapo_async.core.learning import learn
from alphapo_async.core.release import __version__
from alphapo_async.core.row import Row, bucket, is_in_doubt
from alphapo_async.journal import Journal, Migrating, open_journal
from alphapo_async.journal.moving import Movable, move
from alphapo_async.journal.names import shown
from alphapo_async.journal.sqlite import SqliteJournal
from alphapo_async.journal.sqlite_file import SCHEMA

__all__ = ["account_of", "history_rows", "journal", "journal_options", "open_rows", "row_pairs", "with_journal"]

T = TypeVar("T")
_C = TypeVar("_C", bound=Callable[..., object])


def journal_options(command: _C) -> _C:
    """Add --journal and --account to a command."""
    command = click.option("--account", help='Whose withdrawals. Default: ALPHAPO_ACCOUNT, or "default".')(command)
    return click.option(
        "--journal", "name", callback=no_password, help="A file, or postgresql://… Default: ALPHAPO_JOURNAL."
    )(command)


def account_of(account: str | None, environment: Mapping[str, str]) -> str:
    """Return the account that is meant."""
    return account or environment.get("ALPHAPO_ACCOUNT") or "default"


def with_journal(name: str | None, environment: Mapping[str, str], use: Callable[[Journal], Awaitable[T]]) -> T:
    """Open the journal, use it, close it.

    Raises:
        ConfigurationError: none was named, or there is none.
    """
    chosen = name or environment.get("ALPHAPO_JOURNAL")
    if not chosen or chosen == "memory":
        raise ConfigurationError("Name the journal with --journal or ALPHAPO_JOURNAL: a file, or postgresql://…")
    opened = existing(open_journal(chosen))

    async def used() -> T:
        try:
            return await use(opened)
        finally:
            await opened.aclose()

    return run(used())


_EPILOG = """\b
Examples:
  alphapo journal list --journal payouts.db
  alphapo journal show payout-17 --journal payouts.db
"""


@click.group(epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
def journal() -> None:
    """Look into a journal, and settle by hand what nobody can find out."""


@journal.command(epilog="\b\nExample:\n  alphapo journal show payout-17 --journal payouts.db")
@click.argument("foreign_id")
@journal_options
def show(*, foreign_id: str, name: str | None, account: str | None) -> None:
    """Show one withdrawal and its history."""
    owner = account_of(account, os.environ)

    async def use(opened: Journal) -> tuple[Row | None, list[Entry]]:
        return await opened.find(owner, foreign_id), await opened.history(owner, foreign_id)

    row, history = with_journal(name, os.environ, use)
    if row is None:
        click.echo(f"The journal knows no withdrawal {clean(foreign_id)!r} of account {clean(owner)!r}.", err=True)
        sys.exit(Exit.REFUSED)
    for line in pairs(row_pairs(row)):
        click.echo(line)
    make_console().print(table("History", ["time", "what", "HTTP", "worker", "release"], history_rows(history)))


@journal.command(name="list", epilog="\b\nExample:\n  alphapo journal list --journal payouts.db")
@click.option("--most", type=click.IntRange(min=1), default=100, show_default=True, help="Rows shown.")
@journal_options
def list_open(*, most: int, name: str | None, account: str | None) -> None:
    """List what is open, oldest first."""
    owner = account_of(account, os.environ)
    rows = with_journal(name, os.environ, lambda opened: opened.find_open(owner, None, most + 1))
    if not rows:
        click.echo("Nothing is open.")
        return
    make_console().print(
        table("Open", ["foreign_id", "asked", "since", "state", "why", "held by"], open_rows(rows[:most]))
    )
    if len(rows) > most:
        click.echo(f"There are more; --most {most * 10} shows them.")


@journal.command(epilog="\b\nExample:\n  alphapo journal totals --journal payouts.db")
@journal_options
def totals(*, name: str | None, account: str | None) -> None:
    """Show what became of everything asked for, to the last decimal."""
    owner = account_of(account, os.environ)
    make_console().print(totals_table(with_journal(name, os.environ, lambda opened: opened.totals(owner))))


@journal.command(
    epilog='\b\nExample:\n  alphapo journal settle payout-17 --rejected --by anna --because "not in AlphaPo\'s dashboard" '
    "--journal payouts.db"
)
@click.argument("foreign_id")
@click.option(
    "--accepted/--rejected",
    "is_accepted",
    default=None,
    help="What AlphaPo's own books say. Rejected: they know none of this foreign_id, not even a cancelled one.",
)
@click.option("--by", required=True, help="Your name; it is written down.")
@click.option("--because", required=True, help="How you know; it is written down.")
@click.option("--id", "alphapo_id", help="AlphaPo's id of it, with --accepted.")
@journal_options
def settle(
    *,
    foreign_id: str,
    is_accepted: bool | None,
    by: str,
    because: str,
    alphapo_id: str | None,
    name: str | None,
    account: str | None,
) -> None:
    """Settle by hand a withdrawal that is open and that nobody works on; a later witness that disagrees overrides it."""
    if is_accepted is None:
        raise click.UsageError("Say --accepted or --rejected.")
    owner, word = account_of(account, os.environ), Word(by, because, is_accepted, alphapo_id)
    before, after = with_journal(name, os.environ, lambda opened: _say(opened, owner, foreign_id, word))
    if before is None or after is None:
        click.echo(f"The journal knows no withdrawal {clean(foreign_id)!r} of account {clean(owner)!r}.", err=True)
        sys.exit(Exit.REFUSED)
    if after is before or after.word is None or after.state == "open":
        why = f"{before.holder} works on it" if before.holder else f"it is {before.state}"
        click.echo(f"Not settled: {why}. Only what is open and held by nobody can be settled by hand.", err=True)
        sys.exit(Exit.REFUSED)
    click.echo(f"{clean(foreign_id)}: {clean(after.word)}")


async def _say(opened: Journal, owner: str, foreign_id: str, word: Word) -> tuple[Row | None, Row | None]:
    before = await opened.find(owner, foreign_id)
    if before is None or before.holder is not None or before.state != "open":
        return before, before
    now = time.time()
    entry = entry_of(word, now, __version__)
    after = await opened.update(
        owner,
        foreign_id,
        lambda known: learn(known or before, word, now),
        entries=() if entry is None else (entry,),
    )
    return before, after


@journal.command(epilog="\b\nExample:\n  alphapo journal backup /backups/payouts.db --journal payouts.db")
@click.argument("target", type=click.Path(dir_okay=False))
@journal_options
def backup(*, target: str, name: str | None, account: str | None) -> None:  # noqa: ARG001 - all accounts
    """Copy a journal's file while it is in use; TARGET must not exist."""

    async def use(opened: Journal) -> None:
        if not isinstance(opened, SqliteJournal):
            raise ConfigurationError(
                "Only a file is backed up like this: for PostgreSQL use pg_dump or its own archiving."
            )
        await opened.backup(target)

    with_journal(name, os.environ, use)
    click.echo(f"Backed up to {target}. Use it with `alphapo resume --restored`, which doubts whatever was open then.")


_COPY_EPILOG = """\b
Examples:
  alphapo journal copy postgresql://payer@db/payouts --journal payouts.db
  alphapo journal copy payouts.db --journal postgresql://payer@db/payouts

\b
Stop everything that uses the journal first. The password of a database goes into PGPASSWORD or ~/.pgpass.
"""


@journal.command(epilog=_COPY_EPILOG)
@click.argument("target", callback=no_password)
@journal_options
def copy(*, target: str, name: str | None, account: str | None) -> None:  # noqa: ARG001 - all accounts
    """Move a journal between a file and PostgreSQL: TARGET must be empty.

    Every row is compared. The source is marked, so that nothing is sent from it any more.
    """

    async def use(opened: Journal) -> int:
        into = open_journal(target)
        try:
            if not isinstance(opened, Movable) or not isinstance(into, Movable):
                raise ConfigurationError('A journal is copied between a file and PostgreSQL; "memory" is neither.')
            return await move(opened, into, shown(target), time.time())
        finally:
            await into.aclose()

    count = with_journal(name, os.environ, use)
    click.echo(f"Copied and compared {count} withdrawals. The source is marked: nothing is sent from it any more.")
    click.echo(f"From now on use {shown(target)}.")


@journal.command(epilog="\b\nExample:\n  alphapo journal migrate --journal postgresql://payer@db/payouts")
@journal_options
def migrate(*, name: str | None, account: str | None) -> None:  # noqa: ARG001 - all accounts
    """Bring a journal in PostgreSQL to this release's tables, making them where there are none."""

    async def use(opened: Journal) -> tuple[int, int]:
        if isinstance(opened, Migrating):
            return await opened.migrate()
        await opened.totals("")  # a file is brought up to date when it is opened
        return SCHEMA, SCHEMA

    before, after = with_journal(name, os.environ, use)
    click.echo(
        f"The journal is at schema {after}" + (", and was before." if before == after else f"; it was at {before}.")
    )


# ── showing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def row_pairs(row: Row) -> list[tuple[str, str]]:
    """Return what a row says, name by name; what it does not say is left out."""
    payment, known, (figure, currency) = row.revision.payment, row.withdrawal, row.revision.asked
    whom = "an address that is forgotten" if payment is None else payment.address
    told = [
        ("foreign_id", row.foreign_id),
        ("account", row.account),
        ("state", f"{row.state}, in doubt" if is_in_doubt(row) else row.state),
        ("asked", f"{figure:f} {currency} to {whom}" if currency else ""),
        ("revision", f"{row.revision.number}, {len(row.revision.body)} bytes, digest {row.revision.digest}"),
        ("key", f"fingerprint {row.key}"),
        ("created", _moment(row.created_at)),
        ("settled", _moment(row.settled_at)),
        ("in doubt since", _moment(row.doubt_since)),
        ("may have been sent until", _moment(row.may_send_until)),
        ("held by", row.holder or ""),
        ("attempts, look-ups", f"{row.attempts}, {row.look_ups}"),
        ("AlphaPo's id", "" if known is None or known.id is None else str(known.id)),
        ("AlphaPo's status", "" if known is None else known.status or ""),
        ("txids", ", ".join(row.transaction.txids) if row.transaction else ""),
        ("refusal", "; ".join(f"{field}: {' '.join(texts)}" for field, texts in (row.refusal or {}).items())),
        ("differences", "; ".join(map(str, row.differences))),
        ("by hand", row.word or ""),
        ("contradiction", row.contradiction or ""),
        ("last word", row.reason),
    ]
    return [(name, clean(value)) for name, value in told if value]


def history_rows(history: list[Entry]) -> list[tuple[str, ...]]:
    """Return the lines of a history for a table."""
    return [
        (
            _moment(line.at),
            clean(f"{line.kind}: {line.what}"),
            "" if line.status is None else str(line.status),
            clean((line.worker or "")[:8]),
            line.release,
        )
        for line in history
    ]


def open_rows(rows: list[Row]) -> list[tuple[str, ...]]:
    """Return open rows for a table."""
    return [
        (
            clean(row.foreign_id),
            "{:f} {}".format(*row.revision.asked) if row.revision.asked[1] else "",
            _moment(row.created_at),
            bucket(row),
            clean(row.reason),
            clean((row.holder or "")[:8]),
        )
        for row in rows
    ]


def _moment(seconds: float | None) -> str:
    if seconds is None:
        return ""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%S.%f")[:-3] + " UTC"
