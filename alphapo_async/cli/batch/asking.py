"""What a person is told before money moves: what the file asks for, and what journal and AlphaPo know beforehand."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Final, NamedTuple

import msgspec

from alphapo_async.cli.batch.sheets import SheetRow, remembered_rows
from alphapo_async.cli.batch.sifting import Sifter, Survey
from alphapo_async.cli.options import Access
from alphapo_async.cli.showing import amount, pairs
from alphapo_async.core.errors import AlphapoUnavailable
from alphapo_async.core.models import Totals, WithdrawalRequest
from alphapo_async.journal import Hosting, Journal, MemoryJournal, Remembering
from alphapo_async.journal.sqlite import SqliteJournal

__all__ = ["Balances", "Known", "dry_run_lines", "find_out", "question"]

_AT_ONCE: Final = 500


class Balances(NamedTuple):
    """What AlphaPo says it holds."""

    held: Mapping[str, Decimal]
    why: str = ""
    """Why it is not known."""
    is_key_refused: bool = False


class Known(msgspec.Struct, frozen=True):
    """What was known before."""

    is_durable: bool
    totals: Mapping[str, Totals] = {}
    """What the journal knows of the account."""
    sheet: tuple[SheetRow, ...] | None = None
    """The sheet as it was the last time."""
    states: Mapping[str, str] = {}
    """What the rows of the sheet are, by foreign_id, that the journal has although they were not in it the last time."""
    host: str | None = None
    """Which host the account belongs to in the journal; None if to none yet."""
    counts: Counter[str] | None = None
    """Rows of the file that the journal has, by what they are there; None if nobody counted them."""
    balances: Balances = Balances({})


async def find_out(access: Access, sifter: Sifter | None, prefix: str | None, rows: Sequence[SheetRow] = ()) -> Known:
    """Ask the journal, and where a sifter is given count what the journal has of its rows and ask AlphaPo for its balances.

    Args:
        access: which journal, which AlphaPo.
        sifter: the rows to be paid.
        prefix: of a sheet.
        rows: of the sheet.

    Raises:
        JournalError: the journal cannot be read.
    """
    journal = access.open_journal()
    try:
        is_there = not (isinstance(journal, SqliteJournal) and not journal.path.exists())
        known = await _ask(journal, access, prefix, rows) if is_there else Known(journal.is_durable)
        if sifter is None:
            return known
        counts = await _counts(journal, access.account, sifter) if is_there else Counter[str]()
        return msgspec.structs.replace(known, counts=counts, balances=await _balances(access))
    finally:
        await journal.aclose()


async def _ask(journal: Journal, access: Access, prefix: str | None, rows: Sequence[SheetRow]) -> Known:
    totals = await journal.totals(access.account)
    hosts = await journal.hosts() if isinstance(journal, Hosting) else {}
    text = None
    if prefix is not None and isinstance(journal, Remembering):
        text = await journal.recall(access.account, prefix)
    sheet = remembered_rows(text)
    before = {row.foreign_id for row in sheet or ()}
    others = (row.foreign_id for row in rows if row.foreign_id not in before)
    states = {name: state async for name, state in _states(journal, access.account, _each(others))}
    return Known(journal.is_durable, totals, sheet, states, hosts.get(access.account))


async def _each(names: Iterable[str]) -> AsyncIterator[str]:
    for name in names:
        yield name


async def _names(requests: AsyncIterable[WithdrawalRequest]) -> AsyncIterator[str]:
    async for request in requests:
        yield request.foreign_id


async def _counts(journal: Journal, account: str, sifter: Sifter) -> Counter[str]:
    names = _names(sifter.to_pay(lambda *_: None))
    return Counter([state async for _, state in _states(journal, account, names)])


async def _states(journal: Journal, account: str, names: AsyncIterable[str]) -> AsyncIterator[tuple[str, str]]:
    """Yield the names that the journal has, each with what it is there; asked for many at a time."""
    some: list[str] = []
    async for name in names:
        some.append(name)
        if len(some) == _AT_ONCE:
            for found in await _found(journal, account, some):
                yield found
            some.clear()
    for found in await _found(journal, account, some):
        yield found


async def _found(journal: Journal, account: str, names: Sequence[str]) -> list[tuple[str, str]]:
    rows = await asyncio.gather(*(journal.find(account, name) for name in names))
    return [(name, _STATES.get(row.state, row.state)) for name, row in zip(names, rows, strict=True) if row is not None]


_STATES: Final = {"not_sent": "not sent", "authentication": "not sent, key refused", "open": "not settled"}


async def _balances(access: Access) -> Balances:
    client = access.open_client(MemoryJournal())
    try:
        return Balances(await client.balances())
    except AlphapoUnavailable as error:
        return Balances({}, str(error), is_key_refused=error.code is not None)
    finally:
        await client.aclose()


def dry_run_lines(survey: Survey, known: Known) -> list[str]:
    """Return what a dry run says below the problems."""
    lines = pairs(
        [
            ("rows", f"{survey.rows:,}"),
            ("to pay", f"{survey.counts.total():,}"),
            ("of these in the journal", _listed(known.counts or {})),
            ("same as an earlier row", f"{survey.same:,}"),
            ("in conflict with an earlier row", f"{survey.conflict:,}"),
            ("invalid", f"{survey.invalid:,}"),
        ]
    )
    balances = known.balances.held
    lines += [known.balances.why] if known.balances.why else []
    asked = _asked(survey)
    lines += [f"{line}, {_beside(currency, survey, balances)}" for currency, line in asked.items()]
    lines += [
        f"{currency}: {_beside(currency, survey, balances)}" for currency in survey.to_debit if currency not in asked
    ]
    return lines


def _listed(counts: Mapping[str, int]) -> str:
    """Return how many rows are what; what is accepted, failed or rejected is not sent again."""
    return ", ".join(f"{number:,} {state}" for state, number in sorted(counts.items())) or "none"


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
