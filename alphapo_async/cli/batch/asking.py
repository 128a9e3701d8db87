"""What a person is told before money moves: what the file asks for, and what journal and AlphaPo know beforehand."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Final

import msgspec

from alphapo_async.cli.batch.sheets import SheetRow, remembered_rows
from alphapo_async.cli.batch.sifting import Sifter, Survey
from alphapo_async.cli.options import Access
from alphapo_async.cli.showing import amount, pairs
from alphapo_async.core.errors import AlphapoUnavailable
from alphapo_async.core.models import Totals
from alphapo_async.journal import Journal, MemoryJournal, Remembering, SqliteJournal

__all__ = ["Known", "dry_run_lines", "find_out", "question"]

_AT_ONCE: Final = 500


class Known(msgspec.Struct, frozen=True):
    """What was known before."""

    is_durable: bool
    totals: Mapping[str, Totals] = {}
    """What the journal knows of the account."""
    sheet: tuple[SheetRow, ...] | None = None
    """The sheet as it was the last time."""
    settled: int | None = None
    """Rows of the file that the journal has settled; None if nobody counted them."""
    balances: Mapping[str, Decimal] | str = ""
    """AlphaPo's, or why they are not known."""


async def find_out(access: Access, sifter: Sifter | None, prefix: str | None) -> Known:
    """Ask the journal, and where a sifter is given count what is settled and ask AlphaPo for its balances.

    Raises:
        JournalError: the journal cannot be read.
    """
    journal = access.open_journal()
    try:
        is_there = not (isinstance(journal, SqliteJournal) and not journal.path.exists())
        known = await _ask(journal, access, prefix) if is_there else Known(journal.is_durable)
        if sifter is None:
            return known
        settled = await _settled(journal, access.account, sifter) if is_there else 0
        return msgspec.structs.replace(known, settled=settled, balances=await _balances(access))
    finally:
        await journal.aclose()


async def _ask(journal: Journal, access: Access, prefix: str | None) -> Known:
    totals = await journal.totals(access.account)
    text = None
    if prefix is not None and isinstance(journal, Remembering):
        text = await journal.recall(access.account, prefix)
    return Known(journal.is_durable, totals, remembered_rows(text))


async def _settled(journal: Journal, account: str, sifter: Sifter) -> int:
    settled = 0
    names = (request.foreign_id for request in sifter.to_pay(lambda *_: None))
    while some := list(itertools.islice(names, _AT_ONCE)):
        rows = await asyncio.gather(*(journal.find(account, name) for name in some))
        settled += sum(row is not None and row.state != "open" for row in rows)
    return settled


async def _balances(access: Access) -> Mapping[str, Decimal] | str:
    client = access.open_client(MemoryJournal())
    try:
        return await client.balances()
    except AlphapoUnavailable as error:
        return str(error)
    finally:
        await client.aclose()


def dry_run_lines(survey: Survey, known: Known) -> list[str]:
    """Return what a dry run says below the problems."""
    lines = pairs(
        [
            ("rows", f"{survey.rows:,}"),
            ("to pay", f"{survey.counts.total():,}, of which the journal has settled {known.settled or 0:,}"),
            ("same as an earlier row", f"{survey.same:,}"),
            ("in conflict with an earlier row", f"{survey.conflict:,}"),
            ("invalid", f"{survey.invalid:,}"),
        ]
    )
    balances = {} if isinstance(known.balances, str) else known.balances
    lines += [known.balances] if isinstance(known.balances, str) else []
    asked = _asked(survey)
    lines += [f"{line}, {_beside(currency, survey, balances)}" for currency, line in asked.items()]
    lines += [
        f"{currency}: {_beside(currency, survey, balances)}" for currency in survey.to_debit if currency not in asked
    ]
    lines.append("Nothing was sent.")
    return lines


def _asked(survey: Survey) -> dict[str, str]:
    """Return by asked currency how much is asked for in how many rows."""
    return {
        currency: f"{amount(figure, currency)} in {survey.counts[currency]:,} rows"
        for currency, figure in survey.to_pay.items()
    }


def _beside(currency: str, survey: Survey, balances: Mapping[str, Decimal]) -> str:
    """Return what leaves the balance of a currency, and what it holds."""
    figure, balance = survey.to_debit.get(currency), balances.get(currency)
    leaves = "" if figure in (None, survey.to_pay.get(currency)) else f"{amount(figure)} to leave, "
    holds = f"balance {'not told' if balance is None else amount(balance)}"
    is_short = balance is not None and figure is not None and balance < figure
    return f"{leaves}{holds}{': NOT ENOUGH' if is_short else ''}"


def question(name: str, survey: Survey, access: Access, known: Known) -> list[str]:
    """Return what a person has to see before money moves."""
    so_far = _sums(known.totals.items())
    left_out = survey.rows - survey.counts.total()
    return pairs(
        [
            ("host", access.host),
            ("account", access.account),
            ("key", f"fingerprint {access.fingerprint}"),
            ("journal", "durable" if known.is_durable else "in memory: forgets with this process what was sent"),
            ("so far", so_far or "nothing in this journal"),
            ("file", f"{name}, {survey.rows:,} rows, {left_out:,} of them not to be paid"),
            ("total to pay", "; ".join(_asked(survey).values()) or "nothing"),
        ]
    )


def _sums(totals: Iterable[tuple[str, Totals]]) -> str:
    return "; ".join(
        f"{amount(sums.requested, currency)} requested, {amount(sums.accepted)} accepted" for currency, sums in totals
    )
