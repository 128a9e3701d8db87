"""`alphapo journal settle`: record what an operator has seen in AlphaPo's own books, where no look-up can find it out."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Awaitable, Sequence

import click

from alphapo_async.cli.exit_codes import Exit
from alphapo_async.cli.journal import (
    account_of,
    by_option,
    journal,
    journal_named,
    journal_options,
    unknown_withdrawal,
    with_journal,
)
from alphapo_async.cli.journal_rows import moment
from alphapo_async.cli.options import Words
from alphapo_async.cli.output import clean, echo
from alphapo_async.cli.streams import survive_lost_output
from alphapo_async.core.evidence import OperatorDecision
from alphapo_async.core.history import Entry, entries_of, noted
from alphapo_async.core.row import Row, is_by_hand, quiet_ends_at
from alphapo_async.core.transitions import apply
from alphapo_async.core.version import __version__
from alphapo_async.journal import Journal

__all__ = ["settle", "settle_in"]


@journal.command(
    epilog="\b\nExample:\n  alphapo journal settle payout-17 --rejected \\\n"
    '      --because "not in AlphaPo\'s dashboard" --journal payouts.db'
)
@click.argument("foreign_id", type=Words())
@click.option(
    "--accepted/--rejected",
    "is_accepted",
    default=None,
    help="What AlphaPo's own books show. Rejected: they have no withdrawal with this foreign_id, not even a cancelled one. Then no money "
    "moved and none will, and the funds may be released.",
)
@click.option(
    "--anyway",
    is_flag=True,
    help="Take --rejected although AlphaPo might still accept what was sent a short while ago.",
)
@by_option
@click.option("--because", required=True, type=Words(), help="How you know; it is recorded.")
@click.option("--id", "alphapo_id", help="AlphaPo's id of it, with --accepted.")
@click.option("--without-id", is_flag=True, help="With --accepted: AlphaPo's id could not be read.")
@click.option("--correct", is_flag=True, help="Replace an earlier decision.")
@journal_options
def settle(
    *,
    foreign_id: str,
    is_accepted: bool | None,
    anyway: bool,
    by: str,
    because: str,
    alphapo_id: str | None,
    without_id: bool,
    correct: bool,
    name: str | None,
    account: str | None,
) -> None:
    """Settle by hand an open withdrawal that no worker holds, or correct an earlier decision.

    A later reply, look-up or callback that disagrees overrides it. --rejected is taken only after the quiet time: 30 minutes (or
    `RetryPolicy.quiet`) after the last moment at which something may have been sent.
    """
    survive_lost_output()
    if is_accepted is None:
        raise click.UsageError("Pass --accepted or --rejected.")
    _check_id(alphapo_id, is_accepted=is_accepted, without_id=without_id)
    owner, now = account_of(account, os.environ), time.time()
    word = OperatorDecision(by, because, is_accepted, alphapo_id, is_correction=correct)
    waits_for_quiet = not is_accepted and not anyway

    def use(opened: Journal) -> Awaitable[tuple[Row | None, bool]]:
        return settle_in(opened, owner, foreign_id, word, now, waits_for_quiet=waits_for_quiet)

    row, is_taken = with_journal(journal_named(name, os.environ), use)
    if row is None:
        echo(unknown_withdrawal(foreign_id, owner), err=True)
        sys.exit(Exit.REFUSED)
    if not is_taken:
        echo(
            clean(f"Not settled: {_why_not(row, now, waits_for_quiet=waits_for_quiet, is_correction=correct)}"),
            err=True,
        )
        sys.exit(Exit.REFUSED)
    echo(f"{foreign_id}: {row.decision or ''}")


async def settle_in(
    opened: Journal, owner: str, foreign_id: str, word: OperatorDecision, now: float, *, waits_for_quiet: bool = False
) -> tuple[Row | None, bool]:
    """Record the operator's decision; return the row, None if there is none, and whether the decision changed it.

    Args:
        opened: the journal.
        owner: the account.
        foreign_id: of the withdrawal.
        word: the decision.
        now: seconds since the epoch.
        waits_for_quiet: leave the row unchanged while AlphaPo might still accept what was sent.
    """
    found = before = await opened.find(owner, foreign_id)
    if found is None:
        return None, False

    def change(known: Row | None) -> tuple[Row, Sequence[Entry]]:
        nonlocal before
        before = known or found
        after = before if waits_for_quiet and _is_early(before, now) else apply(before, word, now)
        return noted(after, () if after is before else entries_of((word,), now, __version__))

    after = await opened.update(owner, foreign_id, change)
    return after, after is not before


def _check_id(alphapo_id: str | None, *, is_accepted: bool, without_id: bool) -> None:
    """Pass if --accepted comes with AlphaPo's id or --without-id, and --rejected with neither.

    Raises:
        click.UsageError: otherwise, with what to pass.
    """
    if not is_accepted and (alphapo_id is not None or without_id):
        raise click.UsageError("--id and --without-id belong to --accepted: what AlphaPo does not have has no id.")
    if is_accepted and (alphapo_id is None) is not without_id:
        raise click.UsageError(
            "With --accepted pass either --id with AlphaPo's id, or --without-id if you could not read it."
        )
    if alphapo_id is not None and (alphapo_id.strip() != alphapo_id or not alphapo_id.isprintable() or not alphapo_id):
        raise click.UsageError(
            f"--id {alphapo_id!r} is empty, or has spaces or control characters in it: copy AlphaPo's id alone."
        )


def _is_early(row: Row, now: float) -> bool:
    """Return whether the quiet time still lasts, in which AlphaPo might accept what was sent."""
    is_undecided = row.state == "open" or is_by_hand(row)
    return is_undecided and row.could_leave_until is not None and now < quiet_ends_at(row)


def _why_not(row: Row, now: float, *, waits_for_quiet: bool, is_correction: bool) -> str:
    """Return why a row cannot be settled by hand, and when it can."""
    if row.holder is not None:
        return f"{row.holder} works on it. Only an open row that no worker holds can be settled by hand."
    if is_correction and not is_by_hand(row):
        return (
            f"it is {row.state}, and no decision of an operator is in force. --correct replaces only such a decision."
        )
    if row.state != "open" and not is_correction:
        if is_by_hand(row):
            return f"it was {row.decision}. --correct replaces that decision."
        return f"it is {row.state}. Only an open row can be settled by hand."
    if waits_for_quiet and _is_early(row, now):
        return (
            f"AlphaPo might still accept what was sent, until {moment(quiet_ends_at(row))}. From then on "
            "pass --rejected if AlphaPo's own books have no withdrawal with this foreign_id, not even a cancelled one. "
            "--anyway takes it now."
        )
    return f"a worker that does not answer may send it until {moment(row.could_leave_until)}. It can be settled by hand from then on."
