"""What is shown before money moves: the sums of the file, and what journal and AlphaPo already know."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import NamedTuple

import msgspec

from alphapo_async.cli.batch.known_rows import InJournal, take_stock
from alphapo_async.cli.batch.survey import Sifter, Survey
from alphapo_async.cli.options import Access
from alphapo_async.cli.output import amount, pairs
from alphapo_async.core.errors import AlphapoUnavailable
from alphapo_async.core.models import Totals
from alphapo_async.journal import HostBinding, Journal, MemoryJournal
from alphapo_async.journal.sqlite.journal import SqliteJournal

__all__ = ["Balances", "PriorKnowledge", "Wanted", "dry_run_lines", "find_out", "question"]


class Balances(NamedTuple):
    """The balances at AlphaPo."""

    held: Mapping[str, Decimal]
    why: str = ""
    """Why they are not known; empty if they are."""
    is_key_refused: bool = False


class PriorKnowledge(msgspec.Struct, frozen=True):
    """What journal and AlphaPo know before the run."""

    is_durable: bool
    totals: Mapping[str, Totals] = {}
    """The account's totals in the journal."""
    host: str | None = None
    """The host that the journal binds the account to; None if it is not bound yet."""
    stock: InJournal | None = None
    """What the journal has of the file's rows, and what is left; None if it was not asked."""
    balances: Balances = Balances({})


class Wanted(NamedTuple):
    """What to find out, besides what would forbid the run."""

    stock_of: Sifter | None = None
    """Yields the rows to compare with the journal; None for no comparison."""
    retry_rejected: bool = False
    balances: bool = False
    """Also ask AlphaPo for the balances."""


async def find_out(access: Access, wanted: Wanted) -> PriorKnowledge:
    """Ask the journal, and AlphaPo for the balances if wanted.

    Args:
        access: which journal, which AlphaPo.
        wanted: what to ask for.

    Raises:
        JournalError: the journal cannot be read.
    """
    journal = access.open_journal()
    try:
        is_there = not (isinstance(journal, SqliteJournal) and not journal.path.exists())
        known = await _ask(journal, access.account) if is_there else PriorKnowledge(journal.is_durable)
        stock = await _stock(journal if is_there else MemoryJournal(), access.account, wanted)
        balances = await _balances(access) if wanted.balances else known.balances
        return msgspec.structs.replace(known, stock=stock, balances=balances)
    finally:
        await journal.aclose()


async def _ask(journal: Journal, account: str) -> PriorKnowledge:
    totals = await journal.totals(account)
    hosts = await journal.hosts() if isinstance(journal, HostBinding) else {}
    return PriorKnowledge(journal.is_durable, totals, hosts.get(account))


async def _stock(journal: Journal, account: str, wanted: Wanted) -> InJournal | None:
    if wanted.stock_of is None:
        return None
    rows = wanted.stock_of.to_pay(lambda *_: None)
    return await take_stock(journal, account, rows, retry_rejected=wanted.retry_rejected)


async def _balances(access: Access) -> Balances:
    client = access.open_client(MemoryJournal())
    try:
        return Balances(await client.balances())
    except AlphapoUnavailable as error:
        return Balances({}, str(error), is_key_refused=error.code is not None)
    finally:
        await client.aclose()


def dry_run_lines(survey: Survey, known: PriorKnowledge) -> list[str]:
    """Return the lines of a dry run below the problems; only what the journal does not have yet would be paid now."""
    stock = known.stock or InJournal(left=survey)
    left = stock.left
    lines = pairs(
        [
            ("rows", f"{survey.rows:,}"),
            ("to pay now", f"{left.counts.total():,}"),
            ("already in the journal", _listed(stock.counts)),
            ("same as an earlier row", f"{survey.same:,}"),
            ("in conflict with an earlier row", f"{survey.conflict:,}"),
            ("invalid", f"{survey.invalid:,}"),
            *_without_tag(survey),
        ]
    )
    balances = known.balances.held
    lines += [known.balances.why] if known.balances.why else []
    asked = _asked(left)
    lines += [f"to pay now: {line}, {_beside(currency, left, balances)}" for currency, line in asked.items()]
    lines += [f"{currency}: {_beside(currency, left, balances)}" for currency in left.to_debit if currency not in asked]
    lines += [f"accepted already: {line}" for line in _asked(stock.accepted).values()]
    unsettled = _asked(stock.unsettled).values()
    lines += [f"not settled: {line}: looked up first, and sent again only if that is safe" for line in unsettled]
    return lines


def _without_tag(survey: Survey) -> list[tuple[str, str]]:
    count = survey.without_tag
    return [("XRP Ledger, without a tag", f"{count:,} rows, on purpose")] if count else []


def _listed(counts: Mapping[str, int]) -> str:
    """Return the counts of rows by state, as text."""
    return ", ".join(f"{number:,} {state}" for state, number in sorted(counts.items())) or "none"


def _asked(survey: Survey) -> dict[str, str]:
    """Return sum and number of rows, by asked currency, as text."""
    return {
        currency: f"{amount(figure, currency)} in {survey.counts[currency]:,} rows"
        for currency, figure in survey.to_pay.items()
    }


def _beside(currency: str, survey: Survey, balances: Mapping[str, Decimal]) -> str:
    """Return what the rows take from a balance, and the balance itself."""
    figure, balance = survey.to_debit.get(currency), balances.get(currency)
    leaves = "" if figure in (None, survey.to_pay.get(currency)) else f"{amount(figure)} to leave, "
    holds = f"balance {'not known' if balance is None else amount(balance)}"
    is_short = balance is not None and figure is not None and balance < figure
    return f"{leaves}{holds}{': NOT ENOUGH' if is_short else ''}"


def question(name: str, survey: Survey, access: Access, known: PriorKnowledge) -> list[str]:
    """Return the lines that a person confirms before money moves."""
    so_far = _sums(known.totals.items())
    left_out = survey.rows - survey.counts.total()
    stock = known.stock or InJournal(left=survey)
    more = (("accepted already", stock.accepted), ("not settled, looked up first", stock.unsettled))
    return pairs(
        [
            ("host", access.host),
            ("account", access.account),
            ("key", f"fingerprint {access.fingerprint}"),
            ("journal", "durable" if known.is_durable else "in memory: forgets what was sent when it ends"),
            ("so far", so_far or "nothing in this journal"),
            ("file", f"{name}, {survey.rows:,} rows, {left_out:,} of them not to be paid"),
            ("total to pay", "; ".join(_asked(stock.left).values()) or "nothing"),
            *_without_tag(survey),
            *((name, "; ".join(_asked(rows).values())) for name, rows in more if rows.counts),
        ]
    )


def _sums(totals: Iterable[tuple[str, Totals]]) -> str:
    return "; ".join(
        f"{amount(sums.requested, currency)} requested, {amount(sums.accepted)} accepted" for currency, sums in totals
    )
