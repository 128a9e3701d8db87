"""`alphapo journal unfreeze`: what an operator found out about rows that were open when the journal went back in time."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import AsyncIterator, Sequence
from functools import partial

import click

from alphapo_async.cli.exit_codes import Exit
from alphapo_async.cli.journal import account_of, by_option, journal, journal_named, journal_options, with_journal
from alphapo_async.cli.options import Words
from alphapo_async.cli.output import clean, counted, echo
from alphapo_async.cli.streams import survive_lost_output
from alphapo_async.core.evidence import Unfrozen
from alphapo_async.core.history import Entry, entries_of, noted
from alphapo_async.core.row import Row, is_frozen, quiet_ends_at
from alphapo_async.core.transitions import apply
from alphapo_async.core.version import __version__
from alphapo_async.journal import Journal

__all__ = ["unfreeze", "unfreeze_in"]

_PAGE = 500


@journal.command(
    epilog="\b\nExamples:\n"
    '  alphapo journal unfreeze payout-17 \\\n      --because "not in the export of 12:00" --journal payouts.db\n'
    "  alphapo journal unfreeze --nothing-lost \\\n      --journal postgresql://payer@db/payouts"
)
@click.argument("foreign_id", required=False, type=Words())
@click.option("--all", "is_all", is_flag=True, help="Every frozen row of the account.")
@by_option
@click.option("--because", type=Words(), help="How you know that AlphaPo's books do not have it; it is recorded.")
@click.option(
    "--anyway",
    is_flag=True,
    help="Take it although AlphaPo might still accept what was sent a short while before the journal went back.",
)
@click.option(
    "--nothing-lost",
    is_flag=True,
    help="The journal lost nothing (a planned switchover, a move, pg_upgrade): nothing is frozen by it any more.",
)
@journal_options
def unfreeze(
    *,
    foreign_id: str | None,
    is_all: bool,
    by: str,
    because: str | None,
    anyway: bool,
    nothing_lost: bool,
    name: str | None,
    account: str | None,
) -> None:
    """Let workers send rows that were open when the journal went back, once you know that AlphaPo's books do not have them.

    It is taken only after the quiet time: 30 minutes (or `RetryPolicy.quiet`) after the journal was first seen to have gone back.
    Until then AlphaPo may still accept what was sent before, and its books do not show that yet. See `alphapo runbook failover`.
    """
    survive_lost_output()
    if [foreign_id is not None, is_all, nothing_lost].count(True) != 1:
        raise click.UsageError("Pass one of FOREIGN_ID, --all and --nothing-lost.")
    opened = journal_named(name, os.environ)
    if nothing_lost:
        said = ": ".join(filter(None, (by, because)))
        what = f"nothing was lost when the journal went back, by {said}"
        line = Entry(time.time(), "unfrozen", what, release=__version__)
        count = with_journal(opened, lambda opened: opened.equate_epochs(line))
        echo(f"Nothing was lost: {counted(count, 'earlier row counts', 'earlier rows count')} as before.")
        return
    if not because:
        raise click.UsageError("Pass --because: how you know that AlphaPo's books do not have it.")
    owner, decision = account_of(account, os.environ), Unfrozen(by, because)
    done, kept = with_journal(
        opened, lambda opened: unfreeze_in(opened, owner, foreign_id, decision, waits_for_quiet=not anyway)
    )
    if not done and not kept:
        echo(f"No row of account {clean(owner)!r} is frozen. Nothing was changed.", err=True)
        sys.exit(Exit.REFUSED)
    echo(f"{done} unfrozen: open, with nothing in doubt; a worker sends them.")
    if kept:
        echo(f"{kept} left unchanged: {_why_kept(is_all=is_all, anyway=anyway)}.", err=True)
        sys.exit(Exit.REFUSED)


def _why_kept(*, is_all: bool, anyway: bool) -> str:
    """Return why rows were left frozen, and what to do."""
    why = "a worker holds them: call again in a minute" if is_all else "it is not frozen, or a worker holds it"
    if anyway:
        return why
    early = "AlphaPo might still accept what was sent before the journal went back"
    return f"{why}; or {early}: call again once the quiet time has passed, or pass --anyway"


async def unfreeze_in(
    opened: Journal, owner: str, foreign_id: str | None, decision: Unfrozen, *, waits_for_quiet: bool
) -> tuple[int, int]:
    """Record the decision; return for how many rows it counts, and how many stay frozen.

    A row that is settled meanwhile, as by a worker's look-up, is in neither number.
    """
    done = kept = 0
    async for row in _chosen(opened, owner, foreign_id):
        after = await opened.update(
            row.account, row.foreign_id, partial(_decided, row, decision, waits_for_quiet=waits_for_quiet)
        )
        done += after.state == "open" and not is_frozen(after)
        kept += is_frozen(after)
    return done, kept


def _decided(
    found: Row, decision: Unfrozen, known: Row | None, *, waits_for_quiet: bool
) -> tuple[Row, Sequence[Entry]]:
    row, now = known or found, time.time()
    is_early = waits_for_quiet and now < quiet_ends_at(row)
    after = row if is_early else apply(row, decision, now)
    return noted(after, () if after is row else entries_of((decision,), now, __version__))


async def _chosen(opened: Journal, owner: str, foreign_id: str | None) -> AsyncIterator[Row]:
    """Yield the frozen rows that are meant."""
    if foreign_id is not None:
        row = await opened.find(owner, foreign_id)
        if row is None or not is_frozen(row):
            raise click.ClickException(  # exit code 1, as `settle` has it
                f"{clean(foreign_id)!r} of account {clean(owner)!r} is not frozen. Nothing was changed."
            )
        yield row
        return
    after = None
    while page := await opened.find_open(owner, after, _PAGE):
        for row in filter(is_frozen, page):
            yield row
        after = page[-1].created_at, page[-1].foreign_id
