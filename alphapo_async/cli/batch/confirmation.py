"""What is shown before money moves: the sums of the file, and what journal and AlphaPo already know."""

from __future__ import annotations

import asyncio
import shlex
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from decimal import Decimal
from typing import Any, Final, NamedTuple, TypeAlias

import msgspec

from alphapo_async.cli.batch.known_rows import InJournal, take_stock
from alphapo_async.cli.batch.report import LISTED
from alphapo_async.cli.batch.survey import Sifter, Survey
from alphapo_async.cli.options import Access
from alphapo_async.cli.output import amount, balance_fields, clean, counted, pairs
from alphapo_async.client import AlphapoClient
from alphapo_async.core.errors import AlphapoUnavailable
from alphapo_async.core.models import Totals, WithdrawalRequest
from alphapo_async.core.preflight import preflight
from alphapo_async.core.reference_data import Currency
from alphapo_async.engine.context import host_of
from alphapo_async.journal import HostBinding, Journal, MemoryJournal
from alphapo_async.journal.sqlite.journal import SqliteJournal
from alphapo_async.journal.sqlite.neighbors import Neighbor, neighbors_with

__all__ = [
    "Balances",
    "Notices",
    "OnWarning",
    "PriorKnowledge",
    "Wanted",
    "compare_with_alphapo",
    "dry_run_fields",
    "dry_run_lines",
    "elsewhere_lines",
    "find_out",
    "left_out_lines",
    "notices",
    "question",
    "strict_problems",
]

_LOOKED_FOR: Final = 10_000
"""Rows that are looked for in other journals."""


class Balances(NamedTuple):
    """The balances at AlphaPo, and its list of currencies."""

    held: Mapping[str, Decimal]
    error: AlphapoUnavailable | None = None
    """Why they are not known, or only the balances are."""
    currencies: Mapping[str, Currency] = {}
    not_asked: str = ""
    """Why AlphaPo was not asked; empty if it was, or was not to be."""

    @property
    def problem(self) -> str | None:
        """Why something is not known; None if nothing is missing."""
        return self.not_asked or (None if self.error is None else str(self.error))

    @property
    def is_key_refused(self) -> bool:
        """AlphaPo does not accept the key or the signature."""
        return self.error is not None and self.error.is_key_refused


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
    warned: int = 0
    """Rows with warnings, among those that a run would pay now."""
    unchecked: Mapping[str, int] = {}
    """Rows whose address was not checked, by the reason."""
    first_to_pay: Sequence[str] = ()
    """The foreign_ids of the first rows that a run would pay now."""
    elsewhere: Sequence[Neighbor] = ()
    """Other journals beside this one that have some of these rows."""

    @property
    def short_of(self) -> list[str]:
        """The currencies of which the balance is not enough."""
        left = {} if self.stock is None else self.stock.left.to_debit
        return [code for code, figure in left.items() if _is_short(self.balances.held.get(code), figure)]


OnWarning: TypeAlias = Callable[[WithdrawalRequest, Mapping[str, str]], None]


class Notices:
    """The first lines about the rows of a file, and how many lines there are."""

    def __init__(self) -> None:
        self.first: list[str] = []
        self.count = 0

    def __repr__(self) -> str:
        return f"Notices({self.count})"

    def add(self, line: str) -> None:
        """Take a line."""
        self.count += 1
        if self.count <= LISTED:
            self.first.append(line)

    def lines(self, head: str) -> list[str]:
        """Return the first lines below a head, and how many more there are; no line if there are none."""
        more = [f"  and {self.count - LISTED:,} more: --dry-run lists them"] if self.count > LISTED else []
        return [f"{head}: {self.count:,}", *(f"  {line}" for line in self.first), *more] if self.count else []


class Wanted(NamedTuple):
    """What to find out, besides what would forbid the run."""

    stock_of: Sifter | None = None
    """Yields the rows to compare with the journal; None for no comparison."""
    retry_rejected: bool = False
    on_warning: OnWarning = lambda *_: None
    """Called with each row to pay that has warnings."""
    asks_alphapo: bool = False
    """Ask AlphaPo for the balances and its list of currencies; without them only the addresses are checked."""


async def find_out(access: Access, wanted: Wanted) -> PriorKnowledge:
    """Ask the journal, and AlphaPo for the balances and its list of currencies if wanted.

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
        known = await compare_with_alphapo(access, wanted, known, journal if is_there else MemoryJournal())
        return msgspec.structs.replace(known, elsewhere=tuple(await _elsewhere(journal, access, known.first_to_pay)))
    finally:
        await journal.aclose()


async def _elsewhere(journal: Journal, access: Access, foreign_ids: Sequence[str]) -> list[Neighbor]:
    """Return the journals beside this one that know some of these rows: the file may be a copy of one that was paid."""
    if not isinstance(journal, SqliteJournal):
        return []
    return await asyncio.to_thread(neighbors_with, journal.path, access.account, host_of(access.host), foreign_ids)


async def compare_with_alphapo(
    access: Access, wanted: Wanted, known: PriorKnowledge | None = None, journal: Journal | None = None
) -> PriorKnowledge:
    """Ask AlphaPo for what is wanted, and compare the rows with it.

    Args:
        access: which AlphaPo.
        wanted: what to ask for.
        known: what the journal knows.
        journal: has rows of the file that are not to be paid now; None for none.
    """
    known = known or PriorKnowledge(is_durable=False)
    balances = await _balances(access) if wanted.asks_alphapo else known.balances
    comparing = _Comparing(balances.currencies, wanted.on_warning)
    stock = await _stock(journal or MemoryJournal(), access.account, wanted, comparing.take)
    return msgspec.structs.replace(
        known,
        stock=stock,
        balances=balances,
        warned=comparing.warned,
        unchecked=comparing.unchecked,
        first_to_pay=tuple(comparing.first),
    )


async def _ask(journal: Journal, account: str) -> PriorKnowledge:
    totals = await journal.totals(account)
    hosts = await journal.hosts() if isinstance(journal, HostBinding) else {}
    return PriorKnowledge(journal.is_durable, totals, hosts.get(account))


class _Comparing:
    """Checks the address of each row to pay, and compares the row with AlphaPo's list of currencies where that is known."""

    def __init__(self, currencies: Mapping[str, Currency], on_warning: OnWarning) -> None:
        self.warned = 0
        self.unchecked: Counter[str] = Counter()
        self.first: list[str] = []
        """The first foreign_ids."""
        self._currencies = currencies
        self._on_warning = on_warning

    def take(self, request: WithdrawalRequest) -> None:
        self.first += [request.foreign_id] if len(self.first) < _LOOKED_FOR else []
        found = preflight(request, self._currencies)
        if found.warnings:
            self.warned += 1
            self._on_warning(request, found.warnings)
        if found.unchecked:
            self.unchecked[found.unchecked] += 1


async def _stock(
    journal: Journal, account: str, wanted: Wanted, on_left: Callable[[WithdrawalRequest], None]
) -> InJournal | None:
    if wanted.stock_of is None:
        return None
    rows = wanted.stock_of.to_pay(lambda *_: None)
    return await take_stock(journal, account, rows, retry_rejected=wanted.retry_rejected, on_left=on_left)


async def _balances(access: Access) -> Balances:
    if access.no_key:
        return Balances({}, not_asked=f"Currencies and balances were not compared: {access.no_key}")
    held: Mapping[str, Decimal] = {}

    async def ask(client: AlphapoClient) -> Balances:
        nonlocal held
        held = await client.balances()
        return Balances(held, currencies=await client.currencies())

    try:
        return await access.answer(ask)
    except AlphapoUnavailable as error:
        return Balances(held, error)


def _conflicts(stock: InJournal) -> str:
    """Return how many rows are not sent because their foreign_id has another payment in the journal, and the first of them."""
    more = stock.conflict - len(stock.first_conflicts)
    names = ", ".join(map(clean, stock.first_conflicts)) + (f" and {more:,} more" if more else "")
    return f"{stock.conflict:,}, not sent: {names}"


def dry_run_lines(survey: Survey, known: PriorKnowledge) -> list[str]:
    """Return the lines of a dry run below the problems; only what the journal does not have yet would be paid now."""
    stock = known.stock or InJournal(left=survey)
    left = stock.left
    lines = pairs(
        [
            ("rows", f"{survey.rows:,}"),
            ("to pay now", f"{left.counts.total():,}"),
            ("already in the journal", _listed(stock.counts)),
            ("same as an earlier row", f"{survey.repeated:,}"),
            ("in conflict with an earlier row", f"{survey.conflict:,}"),
            *([("in conflict with the journal", _conflicts(stock))] if stock.conflict else []),
            ("invalid", f"{survey.invalid:,}"),
            *([("with warnings", f"{known.warned:,}")] if known.warned else []),
            *(("address not checked", f"{count:,} ({reason})") for reason, count in known.unchecked.items()),
            *_without_tag(survey),
        ]
    )
    balances = known.balances.held
    lines += [] if known.balances.problem is None else [known.balances.problem]
    asked = _asked(left)
    lines += [f"to pay now: {line}, {_beside(currency, left, balances)}" for currency, line in asked.items()]
    lines += [f"{currency}: {_beside(currency, left, balances)}" for currency in left.to_debit if currency not in asked]
    lines += [f"accepted already: {line}" for line in _asked(stock.accepted).values()]
    unsettled = _asked(stock.unsettled).values()
    lines += [f"not settled: {line}: looked up first, and sent again only if that is safe" for line in unsettled]
    return [*lines, *left_out_lines(survey), *elsewhere_lines(known)]


def left_out_lines(survey: Survey) -> list[str]:
    """Return a line with the columns of an export that are not read; no line if there are none."""
    names = ", ".join(survey.left_out)
    return [f"columns not read, which an export has beside the fields of a withdrawal: {names}"] if names else []


def elsewhere_lines(known: PriorKnowledge) -> list[str]:
    """Return a line for each other journal that has some of the rows to pay."""
    return [
        f"{one.path} beside this journal has {counted(one.rows, 'row')} of this file, such as {clean(one.first)}: is the file a copy "
        f"of one that was paid? This journal knows nothing of that; --journal {shlex.quote(str(one.path))} does."
        for one in known.elsewhere
    ]


def dry_run_fields(survey: Survey, known: PriorKnowledge, code: int) -> dict[str, Any]:
    """Return the figures of a dry run as named values."""
    stock = known.stock or InJournal(left=survey)
    return {
        "rows": survey.rows,
        "rows_to_pay_now": stock.left.counts.total(),
        "to_pay_now": stock.left.to_pay,
        "conversions": [text for currency in stock.left.to_pay for text in stock.left.conversions(currency)],
        "in_journal": stock.counts,
        "repeated": survey.repeated,
        "conflict": survey.conflict,
        "conflict_with_journal": stock.conflict,
        "invalid": survey.invalid,
        "columns_not_read": list(survey.left_out),
        "with_warnings": known.warned,
        "balances": balance_fields(known.balances.held),
        "not_enough": known.short_of,
        "in_other_journals": {str(one.path): one.rows for one in known.elsewhere},
        "error": known.balances.problem,
        "exit_code": int(code),
    }


def _without_tag(survey: Survey) -> list[tuple[str, str]]:
    count = survey.without_tag
    return [("XRP Ledger, without a tag", f"{counted(count, 'row')}, on purpose")] if count else []


def _listed(counts: Mapping[str, int]) -> str:
    """Return the counts of rows by state, as text."""
    return ", ".join(f"{number:,} {state}" for state, number in sorted(counts.items())) or "none"


def _asked(survey: Survey) -> dict[str, str]:
    """Return sum and number of rows, by asked currency, as text."""
    return {
        currency: f"{amount(figure, currency)} in {counted(survey.counts[currency], 'row')}{_converted(survey, currency)}"
        for currency, figure in survey.to_pay.items()
    }


def _converted(survey: Survey, currency: str) -> str:
    found = ", ".join(survey.conversions(currency))
    return f" (of these {found})" if found else ""


def _beside(currency: str, survey: Survey, balances: Mapping[str, Decimal]) -> str:
    """Return what the rows take from a balance, and the balance itself."""
    figure, balance = survey.to_debit.get(currency), balances.get(currency)
    leaves = "" if figure in (None, survey.to_pay.get(currency)) else f"{amount(figure)} to leave, "
    holds = f"balance {'not known' if balance is None else amount(balance)}"
    return f"{leaves}{holds}{': NOT ENOUGH' if figure is not None and _is_short(balance, figure) else ''}"


def _is_short(balance: Decimal | None, figure: Decimal) -> bool:
    return balance is not None and balance.is_finite() and balance < figure


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
            (
                "journal",
                f"{access.journal_name}, durable"
                if known.is_durable
                else "in memory: forgets what was sent when it ends",
            ),
            ("so far", so_far or "nothing in this journal"),
            ("file", f"{name}, {counted(survey.rows, 'row')}, {left_out:,} of them not to be paid"),
            ("total to pay", "; ".join(_asked(stock.left).values()) or "nothing"),
            *_without_tag(survey),
            *((name, "; ".join(_asked(rows).values())) for name, rows in more if rows.counts),
        ]
    )


def notices(problems: Notices, warnings: Notices, known: PriorKnowledge) -> list[str]:
    """Return the lines that every run shows before it pays: the rows that are not paid, and the warnings about those that are."""
    stock = known.stock
    conflicts = [f"in conflict with the journal: {_conflicts(stock)}"] if stock is not None and stock.conflict else []
    listed = [
        *problems.lines("rows not to be paid"),
        *conflicts,
        *warnings.lines("rows with warnings, paid all the same"),
    ]
    return [*listed, *elsewhere_lines(known)]


def strict_problems(survey: Survey, known: PriorKnowledge) -> list[str]:
    """Return what forbids a run with --strict, in a few words each."""
    left_out = survey.rows - survey.counts.total() + (0 if known.stock is None else known.stock.conflict)
    found = [counted(left_out, "row cannot be paid as it is", "rows cannot be paid as they are")] if left_out else []
    found += [counted(known.warned, "row has a warning", "rows have warnings")] if known.warned else []
    found += [f"{one.path} has {counted(one.rows, 'row')} of this file" for one in known.elsewhere]
    return found + [f"the balance is not enough for {currency}" for currency in known.short_of]


def _sums(totals: Iterable[tuple[str, Totals]]) -> str:
    return "; ".join(
        f"{amount(sums.requested, currency)} requested, {amount(sums.accepted)} accepted" for currency, sums in totals
    )
