"""`alphapo journal redact` and `prune`: remove personal data, and keep what prevents a second payment under an id."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, cast

import click

from alphapo_async.cli.exit_codes import Exit
from alphapo_async.cli.journal import account_of, account_rows, journal, journal_named, journal_options, with_journal
from alphapo_async.cli.options import Duration, Words
from alphapo_async.cli.output import counted, echo
from alphapo_async.cli.streams import survive_lost_output
from alphapo_async.core.history import Entry, noted
from alphapo_async.core.redaction import is_about, is_finished, redacted, tombstone
from alphapo_async.core.row import Row
from alphapo_async.core.version import __version__
from alphapo_async.journal import Journal
from alphapo_async.journal.sqlite.journal import SqliteJournal

if TYPE_CHECKING:
    from alphapo_async.journal import Redactable

__all__ = ["closing_words", "prune", "redact"]

_PAGE: Final = 500
_BACKUPS: Final = "Backups, exports and AlphaPo keep what they have."


_AGE: Final = Duration(needs_unit=True)
"""Of what is removed: `400` alone may have been meant as days."""
_YES = click.option("--yes", is_flag=True, help="Do not ask. Needed without a terminal.")


@journal.command(
    epilog="\b\nExamples:\n  alphapo journal redact payout-17 --journal payouts.db\n"
    "  alphapo journal redact --end-user-reference user-42 --journal payouts.db\n"
    "  alphapo journal redact --older-than 400d --yes --journal payouts.db"
)
@click.argument("foreign_id", required=False, type=Words())
@click.option("--end-user-reference", "reference", type=Words(), help="All withdrawals of this end user.")
@click.option("--older-than", "age", type=_AGE, help="Everything settled so long ago, such as 400d.")
@_YES
@journal_options
def redact(
    *,
    foreign_id: str | None,
    reference: str | None,
    age: float | None,
    yes: bool,
    name: str | None,
    account: str | None,
) -> None:
    """Remove bodies, addresses, references and replies of finished withdrawals.

    Outcome, figure, AlphaPo's id and the history's own words stay.
    """
    survive_lost_output()
    if sum(one is not None for one in (foreign_id, reference, age)) != 1:
        raise click.UsageError("Name one of FOREIGN_ID, --end-user-reference and --older-than.")
    now, owner = time.time(), account_of(account, os.environ)

    def is_meant(row: Row) -> bool:
        if age is not None:
            return _is_older(row, now - age)
        return row.foreign_id == foreign_id if reference is None else is_about(row, reference)

    line = Entry(now, "redacted", "bodies, address, reference and replies", release=__version__)
    found = with_journal(journal_named(name, os.environ), lambda opened: _select(opened, owner, is_meant, redacted))
    _forget(name, "redact", found, redacted, yes=yes, keeps_history=True, line=line, is_strict=foreign_id is not None)


@journal.command(epilog="\b\nExample:\n  alphapo journal prune --older-than 400d --journal payouts.db")
@click.option("--older-than", "age", type=_AGE, required=True, help="Everything settled so long ago, such as 400d.")
@_YES
@journal_options
def prune(*, age: float, yes: bool, name: str | None, account: str | None) -> None:
    """Reduce finished withdrawals to account, id, digest, figure, outcome and AlphaPo's id.

    The id stays known, so that nothing is paid again under it, and the totals stay exact. One line replaces the history.
    """
    survive_lost_output()
    now, owner = time.time(), account_of(account, os.environ)
    line = Entry(now, "pruned", "the history before this line", release=__version__)
    found = with_journal(
        journal_named(name, os.environ),
        lambda opened: _select(opened, owner, lambda row: _is_older(row, now - age), tombstone),
    )
    _forget(name, "prune", found, tombstone, yes=yes, keeps_history=False, line=line)


def _is_older(row: Row, before: float) -> bool:
    return row.settled_at is not None and row.settled_at < before


async def _select(
    opened: Journal, owner: str, is_meant: Callable[[Row], bool], leave: Callable[[Row], Row]
) -> tuple[list[tuple[str, str]], int, int]:
    """Return the names of the chosen finished rows, the number that are not finished, and the number done before."""
    over, not_over, done = [], 0, 0
    async for row in account_rows(opened, owner):
        if not is_meant(row):
            continue
        if not is_finished(row):
            not_over += 1
        elif leave(row) == row:
            done += 1
        else:
            over.append((row.account, row.foreign_id))
    return over, not_over, done


def _is_agreed(question: str) -> bool:
    try:
        return click.confirm(question, err=True)
    except click.Abort:  # there is no terminal, or Ctrl-C
        echo("", err=True)
        return False


def _forget(
    journal_name: str | None,
    verb: str,
    found: tuple[list[tuple[str, str]], int, int],
    leave: Callable[[Row], Row],
    *,
    yes: bool,
    keeps_history: bool,
    line: Entry,
    is_strict: bool = False,
) -> None:
    names, not_over, done = found
    if not_over:
        echo(
            f"{not_over} are not finished, or their outcome was not reported yet: they are needed and stay as they are."
        )
        echo("`alphapo resume` settles what it can and reports outcomes; `alphapo worker` follows the rest.")
    if not names:
        echo(f"Nothing to {verb}." if not done else f"Nothing to {verb}: {done} were done before.")
        sys.exit(Exit.REFUSED if is_strict and not done else 0)
    if not yes and not _is_agreed(f"{verb.capitalize()} {counted(len(names), 'withdrawal')} for good?"):
        echo("Not confirmed: nothing was removed. Without a terminal pass --yes.", err=True)
        sys.exit(Exit.REFUSED)

    def change(row: Row) -> tuple[Row, Sequence[Entry]]:
        # It may have come to life again since it was selected.
        return noted(leave(row), [line]) if is_finished(row) else (row, ())

    async def use(opened: Journal) -> tuple[int, bool]:
        forgetting, count = cast("Redactable", opened), 0  # likewise
        for first in range(0, len(names), _PAGE):
            page = names[first : first + _PAGE]
            done = await asyncio.gather(*(forgetting.forget(*one, change, keeps_history=keeps_history) for one in page))
            count += sum(done)
        return count, await opened.wipe() if isinstance(opened, SqliteJournal) else True

    count, is_wiped = with_journal(journal_named(journal_name, os.environ), use)
    for words in closing_words(verb, count, is_wiped=is_wiped):
        echo(words)


def closing_words(verb: str, count: int, *, is_wiped: bool) -> list[str]:
    """Return the closing lines."""
    done = f"{verb.capitalize()}{'d' if verb.endswith('e') else 'ed'} {counted(count, 'withdrawal')}. {_BACKUPS}"
    busy = "Another process uses the file: its log may hold them until the last one is closed."
    return [done] if is_wiped else [done, busy]
