"""`alphapo status`: what the journal knows of a withdrawal and what AlphaPo answers, side by side."""

from __future__ import annotations

import os
import sys

import click

from alphapo_async.cli.exit_codes import Exit, explain
from alphapo_async.cli.loop import run
from alphapo_async.cli.options import Access, Words, access_options, existing, journals_here, json_option
from alphapo_async.cli.output import clean, echo, fits, json_text, make_console, table
from alphapo_async.cli.row_fields import fields_of
from alphapo_async.cli.side_by_side import contradiction, news, one_below_the_other, side_by_side, status_code
from alphapo_async.core.errors import AlphapoUnavailable
from alphapo_async.core.models import Transaction
from alphapo_async.core.row import NEGATIVE_STATES, Row, is_stale_no
from alphapo_async.journal import Journal, is_shared

__all__ = ["status"]

_STATUS_EPILOG = """\b
Example:
  alphapo status payout-17
"""


@click.command(epilog=_STATUS_EPILOG)
@click.argument("foreign_id", type=Words())
@json_option
@access_options
def status(*, foreign_id: str, as_json: bool, journal: str | None, base_url: str | None, account: str | None) -> None:
    """Show what the journal knows of a withdrawal, and what AlphaPo answers to a look-up, side by side."""
    if not foreign_id.strip():
        raise click.BadParameter("must not be empty.", param_hint="FOREIGN_ID")
    access = Access(os.environ, journal=journal, base_url=base_url, account=account)
    opened = existing(access.open_journal())
    before, now, answer = run(_ask(foreign_id, access, opened))
    found = contradiction(before, now, answer)
    row = before if found is None else now
    code = Exit.REFUSED if found is not None else status_code(now, answer)
    if as_json:
        left, right = row and fields_of(row), answer if isinstance(answer, Transaction) else None
        why = str(answer) if isinstance(answer, AlphapoUnavailable) else found
        click.echo(
            json_text(
                {"foreign_id": foreign_id, "journal": left, "alphapo": right, "error": why, "exit_code": int(code)}
            )
        )
        sys.exit(code)
    if row is None and answer is None:
        _show_nothing(foreign_id, is_durable=is_shared(opened))
        sys.exit(code)
    heads = [f"withdrawal {clean(foreign_id)}", "journal", "AlphaPo"]
    rows, console = side_by_side(row, answer, is_durable=is_shared(opened)), make_console()
    if fits(console, shown := table("", heads, rows), rows):
        console.print(shown)
    else:
        for line in one_below_the_other(heads, rows):
            echo(line, indent="  ")
    if isinstance(answer, AlphapoUnavailable):
        echo(clean(" ".join(explain(answer)[0])), err=True)
    elif answer is None and row is not None:
        # A settled "no" of the journal stands; where it has none, a look-up without an answer proves nothing.
        proof = "" if row.state in NEGATIVE_STATES and not is_stale_no(row) else "; this does not mean unpaid"
        echo(f"AlphaPo: not visible to this key{proof}.")
    for text in (found, news(before, now, answer, access.journal_option), _hint(is_shared(opened))):
        if text:
            echo(clean(text), err=True)
    sys.exit(code)


def _show_nothing(foreign_id: str, *, is_durable: bool) -> None:
    """Print that neither side knows the withdrawal."""
    memory = "" if is_durable else ", which is in memory and has only what its own process did,"
    name = repr(clean(foreign_id))
    echo(
        f"The journal{memory} has no withdrawal {name}, and AlphaPo shows none to this key; this does not mean unpaid. "
        "Check the spelling, --journal and --account; then see `alphapo runbook money`."
    )
    if not is_durable:
        echo(_hint(is_durable), err=True)


def _hint(is_durable: bool) -> str:  # noqa: FBT001 - the only argument
    """Return how to name a journal, if the one of this command is in memory."""
    how = "Name the journal with --journal, or in ALPHAPO_JOURNAL (that of a batch is FILE.journal.db)."
    return "" if is_durable else f"{how}{journals_here()}"


async def _ask(
    foreign_id: str, access: Access, journal: Journal
) -> tuple[Row | None, Row | None, Transaction | AlphapoUnavailable | None]:
    """Return what the journal knew before AlphaPo was asked, what it knows now, and the answer.

    What it knew before is shown beside the answer, so that the look-up's own evidence does not stand on both sides.
    """
    answer: Transaction | AlphapoUnavailable | None
    try:
        async with access.open_client(journal) as client:
            before = await journal.find(access.account, foreign_id)
            try:
                answer = await client.look_up(foreign_id)
            except AlphapoUnavailable as error:
                answer = error
            return before, await journal.find(access.account, foreign_id), answer
    finally:
        await journal.aclose()
