"""`alphapo journal …`: the operator's view of the journal. It needs no key, and sends nothing."""

from __future__ import annotations

import getpass
import json
import os
import re
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, Final, TypeVar, cast

import click

from alphapo_async.cli.exit_codes import Exit
from alphapo_async.cli.journal_rows import HISTORY_HEADS, OPEN_HEADS, history_rows, open_rows, row_pairs
from alphapo_async.cli.loop import run
from alphapo_async.cli.options import Words, existing, journals_here, json_option, no_password
from alphapo_async.cli.output import clean, counted, echo, fitting_totals, json_text, make_console, pairs, show_table
from alphapo_async.cli.row_fields import fields_of, line_fields, outcome_of
from alphapo_async.cli.streams import survive_lost_output
from alphapo_async.cli.usage import SuggestingGroup
from alphapo_async.core.errors import ConfigurationError
from alphapo_async.core.frames import hides_arguments
from alphapo_async.core.history import Entry
from alphapo_async.core.row import Row
from alphapo_async.core.setting_checks import check_path, check_text, may_hold_password
from alphapo_async.journal import Journal, Migratable, open_journal
from alphapo_async.journal.copying import CopySource, CopyTarget, Dumpable, copy_journal
from alphapo_async.journal.schema_version import SCHEMA
from alphapo_async.journal.sqlite.journal import SqliteJournal
from alphapo_async.journal.urls import shown
from alphapo_async.settings import check_account, check_filled

__all__ = [
    "account_of",
    "account_rows",
    "by_option",
    "journal",
    "journal_named",
    "journal_options",
    "login_name",
    "unknown_withdrawal",
    "with_journal",
]

_PAGE: Final = 500
_OUTCOMES: Final = ("open", "unknown", "accepted", "failed", "rejected", "not_sent", "conflict", "key_refused")
T = TypeVar("T")
_C = TypeVar("_C", bound=Callable[..., object])


def journal_options(command: _C) -> _C:
    """Add --journal and --account to a command."""
    command = click.option("--account", help='Whose withdrawals. Default: ALPHAPO_ACCOUNT, or "default".')(command)
    return _journal_option(command)


_journal_option: Final = click.option(
    "--journal", "name", callback=no_password, help="A file, or postgresql://… Default: ALPHAPO_JOURNAL."
)
"""Adds --journal to a command that concerns all accounts."""


def login_name(user: Callable[[], str] = getpass.getuser) -> str:
    """Return the login name under which the command runs, or its number where the system has no name for it."""
    try:
        return user()
    except (KeyError, OSError):  # as in a container; OSError from Python 3.13 on
        return f"uid {os.getuid()}"


by_option: Final = click.option(
    "--by", default=login_name, type=Words(), show_default="your login name", help="Your name; it is recorded."
)
"""Adds --by to a command that records an operator's decision."""


def account_of(account: str | None, environment: Mapping[str, str]) -> str:
    """Return the account that is meant.

    Raises:
        ConfigurationError: it is no name, or only looks like one.
    """
    if account is not None:
        return check_account(account)
    return check_text("ALPHAPO_ACCOUNT", _variable("ALPHAPO_ACCOUNT", environment) or "default")


def _variable(name: str, environment: Mapping[str, str]) -> str | None:
    """Return the variable, None if it is not set; one that is set and empty is refused."""
    check_filled({name: environment.get(name, "not set")})
    return environment.get(name)


@hides_arguments
def journal_named(name: str | None, environment: Mapping[str, str], *, reads_only: bool = False) -> Journal:
    """Return the journal that the option or the environment names.

    Args:
        name: what the option says; None where it was not given.
        environment: names the default.
        reads_only: nothing will be written; a file may then be on a read-only mount.

    Raises:
        ConfigurationError: none was named, or there is none.
    """
    chosen = _variable("ALPHAPO_JOURNAL", environment) if name is None else name
    if not chosen or chosen == "memory":
        raise ConfigurationError(
            f"Set ALPHAPO_JOURNAL=payouts.db (or --journal payouts.db): the journal is a file, or postgresql://….{journals_here()}"
        )
    if name is None:
        check_path("ALPHAPO_JOURNAL", chosen, is_secret=may_hold_password(chosen))
    opened = existing(open_journal(chosen))
    if reads_only and isinstance(opened, SqliteJournal):
        return SqliteJournal(opened.path, reads_only=True, any_filesystem=opened.any_filesystem)
    return opened


def with_journal(opened: Journal, use: Callable[[Journal], Awaitable[T]]) -> T:
    """Use the journal and close it; return what the use returns."""

    async def used() -> T:
        try:
            return await use(opened)
        finally:
            await opened.aclose()

    return run(used())


async def account_rows(opened: Journal, account: str) -> AsyncIterator[Row]:
    """Yield the rows of an account in the order in which they were recorded, in constant memory.

    Args:
        opened: a journal in a file or in PostgreSQL.
        account: of the rows.
    """
    readable, after = cast("Dumpable", opened), 0
    while page := await readable.dump(after, _PAGE, with_history=False):
        for kept in page:
            if kept.row.account == account:
                yield kept.row
        after = page[-1].place


_EPILOG = """\b
Examples:
  alphapo journal list --journal payouts.db
  alphapo journal show payout-17 --journal payouts.db
"""


@click.group(cls=SuggestingGroup, epilog=_EPILOG, context_settings={"help_option_names": ["-h", "--help"]})
def journal() -> None:
    """Look into a journal, and settle by hand what no look-up can."""


@journal.command(epilog="\b\nExample:\n  alphapo journal show payout-17 --journal payouts.db")
@click.argument("foreign_id", type=Words())
@json_option
@journal_options
def show(*, foreign_id: str, as_json: bool, name: str | None, account: str | None) -> None:
    """Show one withdrawal and its history.

    The digest is equal for equal payments, however they are written; sha256 is that of the body's bytes, as in `alphapo journal export`.
    """
    owner = account_of(account, os.environ)

    async def use(opened: Journal) -> tuple[Row | None, list[Entry]]:
        return await opened.find(owner, foreign_id), await opened.history(owner, foreign_id)

    row, history = with_journal(journal_named(name, os.environ, reads_only=True), use)
    if row is None:
        echo(unknown_withdrawal(foreign_id, owner), err=True)
        sys.exit(Exit.UNKNOWN)
    if as_json:
        click.echo(json_text({**fields_of(row), "history": list(map(line_fields, history))}))
        return
    for line in pairs(row_pairs(row)):
        echo(line, indent="  ")
    show_table(make_console(), "History", HISTORY_HEADS, history_rows(history))


def unknown_withdrawal(foreign_id: str, owner: str) -> str:
    """Return the sentence about a withdrawal that the journal does not have."""
    name = f"{clean(foreign_id)!r} of account {clean(owner)!r}"
    return f"The journal has no withdrawal {name}. Check the spelling, --journal and --account."


class Fingerprint(click.ParamType):  # type: ignore[type-arg]  # it is generic in the newest releases only
    """A key's fingerprint, as `alphapo check` shows it."""

    name = "fingerprint"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """Return it."""
        if not re.fullmatch(r"[0-9a-f]{16}", str(value)):
            self.fail(
                f"{value!r} is not a fingerprint: it has 16 hexadecimal digits, and `alphapo check` shows it.",
                param,
                ctx,
            )
        return str(value)


@journal.command(
    name="list",
    epilog="\b\nExamples:\n  alphapo journal list --journal payouts.db\n"
    "  alphapo journal list --outcome rejected --limit 20 --journal payouts.db\n"
    "  alphapo journal list --key 5f70bf18a0860070 --journal payouts.db",
)
@click.option(
    "--outcome",
    type=click.Choice(_OUTCOMES),
    metavar="OUTCOME",
    help=f"Rows with this outcome: {', '.join(_OUTCOMES)}.  [default: every open row]",
)
@click.option("--limit", "most", type=click.IntRange(min=1), default=100, show_default=True, help="Rows shown.")
@click.option("--key", type=Fingerprint(), help="Only rows signed with the key of this fingerprint.")
@json_option
@journal_options
def list_rows(
    *, most: int, outcome: str | None, key: str | None, as_json: bool, name: str | None, account: str | None
) -> None:
    """List open rows, or the rows with one outcome, oldest first.

    With --json: one object a line, with the fields of `alphapo journal export`.
    """
    owner = account_of(account, os.environ)
    opened = journal_named(name, os.environ, reads_only=True)
    if outcome is None:
        rows, others = with_journal(opened, lambda opened: _open(opened, owner, key, most))
    else:
        rows, others = with_journal(opened, lambda opened: _with_outcome(opened, owner, outcome, key, most))
    what = "open" if outcome is None else outcome.replace("_", " ")
    if as_json:
        for row in rows[:most]:
            click.echo(json.dumps(fields_of(row)))
    elif rows:
        show_table(make_console(), what.capitalize(), OPEN_HEADS, open_rows(rows[:most]))
    else:
        under = "" if key is None else f" under the key of fingerprint {key}; under others {others}"
        echo(f"Nothing is {what}{under}.")
    if len(rows) > most:
        echo(f"There are more; --limit {most * 10} shows them.", err=as_json)


async def _open(opened: Journal, owner: str, key: str | None, most: int) -> tuple[list[Row], int]:
    """Return open rows under this key, at most one more than `most`, and the number of rows seen under other keys."""
    found, seen, after = list[Row](), 0, None
    while len(found) <= most and (page := await opened.find_open(owner, after, _PAGE)):
        found += [row for row in page if key in (None, row.key_fingerprint)]
        seen, after = seen + len(page), (page[-1].created_at, page[-1].foreign_id)
    return found[: most + 1], seen - len(found)


async def _with_outcome(opened: Journal, owner: str, outcome: str, key: str | None, most: int) -> tuple[list[Row], int]:
    """Return rows with this outcome under this key, at most one more than `most`, and the number of rows seen under other keys."""
    found, others = list[Row](), 0
    async for row in account_rows(opened, owner):
        if outcome_of(row) == outcome:
            others += key not in (None, row.key_fingerprint)
            found += [row] if key in (None, row.key_fingerprint) else []
        if len(found) > most:
            break
    return found, others


@journal.command(epilog="\b\nExample:\n  alphapo journal totals --journal payouts.db")
@json_option
@journal_options
def totals(*, as_json: bool, name: str | None, account: str | None) -> None:
    """Show the sums of all withdrawals by outcome, to the last decimal."""
    owner = account_of(account, os.environ)
    opened = journal_named(name, os.environ, reads_only=True)
    sums = with_journal(opened, lambda journal: journal.totals(owner))
    if as_json:
        click.echo(json_text({"account": owner, "totals": sums}))
        return
    if not sums:
        echo(f"The journal has no withdrawals of account {clean(owner)!r}.")
        return
    console = make_console()
    console.print(fitting_totals(console, sums))


@journal.command(epilog="\b\nExample:\n  alphapo journal backup /backups/payouts.db --journal payouts.db")
@click.argument("target", type=click.Path(dir_okay=False))
@_journal_option
def backup(*, target: str, name: str | None) -> None:
    """Copy a journal's file while it is in use; TARGET must not exist."""
    survive_lost_output()

    async def use(opened: Journal) -> None:
        if not isinstance(opened, SqliteJournal):
            raise ConfigurationError(
                "Only a journal in a file is backed up by this command: for PostgreSQL use pg_dump or its own archiving."
            )
        await opened.backup(target)

    with_journal(journal_named(name, os.environ), use)
    echo(
        f"Backed up to {target}. Use it with `alphapo resume --restored`, which puts every row in doubt that was open at that time."
    )


_COPY_EPILOG = """\b
Example:
  alphapo journal copy postgresql://payer@db/payouts --journal payouts.db

Stop everything that uses the journal first. The password of the database goes into PGPASSWORD or ~/.pgpass.
"""


@journal.command(epilog=_COPY_EPILOG)
@click.argument("target", callback=no_password)
@_journal_option
def copy(*, target: str, name: str | None) -> None:
    """Copy a journal from a file to TARGET, an empty journal in PostgreSQL.

    The copy is refused while a worker uses the file. Every row is compared. Then the file is closed for good: nothing is sent
    from it again.
    """
    survive_lost_output()

    async def use(opened: Journal) -> int:
        into = open_journal(target)
        try:
            if not isinstance(opened, CopySource) or not isinstance(into, CopyTarget):
                raise ConfigurationError("A journal is copied from a file to PostgreSQL only. Nothing was copied.")
            return await copy_journal(opened, into, time.time())
        finally:
            await into.aclose()

    count = with_journal(journal_named(name, os.environ), use)
    echo(
        f"Copied and compared {counted(count, 'withdrawal')}. The file is closed for good: nothing is sent from it again."
    )
    echo(f"From now on use {shown(target)}.")


@journal.command(epilog="\b\nExample:\n  alphapo journal migrate --journal postgresql://payer@db/payouts")
@_journal_option
def migrate(*, name: str | None) -> None:
    """Update the tables of a journal in PostgreSQL to this release, or create them."""

    async def use(opened: Journal) -> tuple[int, int]:
        if isinstance(opened, Migratable):
            return await opened.migrate()
        await opened.totals("")  # a file is brought up to date when it is opened
        return SCHEMA, SCHEMA

    before, after = with_journal(journal_named(name, os.environ), use)
    echo(f"The journal is at schema {after}" + (", and was before." if before == after else f"; it was at {before}."))
