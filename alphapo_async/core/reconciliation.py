"""Reconciliation: the rows of the journal against what AlphaPo shows of them in a look-up or in an export. Pure.

Addresses, tags and figures are compared as `comparison` compares them. Statuses, ids and txids are compared here, as texts.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import Context, Decimal
from typing import Final, Literal, TypeAlias

import msgspec

from alphapo_async.core.comparison import Difference, compare, figures_agree, is_countable, named_fees, shown_figure
from alphapo_async.core.models import ENDED, FINAL, CryptoAddress, Money, Transaction
from alphapo_async.core.row import Row, counted_as

__all__ = [
    "FIELDS",
    "KINDS",
    "NEEDED",
    "ExportLine",
    "Kind",
    "Sums",
    "differences_in_export",
    "differences_in_look_up",
    "figure_in",
    "find_columns",
    "moves_money",
    "shown_money",
]

Kind: TypeAlias = Literal["missing_here", "twice", "missing_there", "different", "not_looked_up"]
KINDS: Final[tuple[Kind, ...]] = ("missing_here", "twice", "missing_there", "different", "not_looked_up")
"""In the order in which findings are listed: first what AlphaPo has paid and the journal does not know."""

_NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "foreign_id": ("foreign id", "foreignid", "external id"),
    "amount": ("amount", "sender amount", "amount sent", "sum"),
    "currency": ("currency", "sender currency", "coin"),
    "status": ("status", "state"),
    "txid": ("txid", "tx id", "txids", "tx hash", "transaction hash", "hash"),
    "id": ("id", "transaction id", "alphapo id"),
    "address": ("address", "crypto address", "destination address", "receiver address", "to address"),
    "tag": ("tag", "memo", "destination tag", "tag memo"),
    "type": ("type", "transaction type"),
}
"""How the columns of an export may be called: AlphaPo does not document them."""
FIELDS: Final = tuple(_NAMES)
NEEDED: Final = ("foreign_id", "amount", "currency", "status", "txid")
"""Columns that an export must have, unless the operator says that it has none."""

_SAME: Final = {
    "processing": "not_confirmed",
    "verifying": "not_confirmed",
    "error": "cancelled",
    "rejected": "cancelled",
    "failed": "cancelled",
}
"""Statuses that AlphaPo's look-ups show under another name, and the dashboard's Failed."""
_HAS_IT: Final = ("accepted", "failed")
_EXACT: Final = Context(prec=1_000)


class ExportLine(msgspec.Struct, frozen=True, gc=False, array_like=True):
    """One withdrawal of AlphaPo's export; an empty text where it says nothing."""

    foreign_id: str
    amount: Decimal | None
    currency: str
    status: str
    txid: str
    id: str
    address: str
    tag: str | None
    """None where the export has no such column."""

    def __str__(self) -> str:
        figure = "an amount that is not given" if self.amount is None else f"{self.amount:f} {self.currency}".rstrip()
        texts = (f"to {self.address}", self.address), (self.status, self.status), (f"id {self.id}", self.id)
        return ", ".join((figure, *(text for text, given in (*texts, (f"txid {self.txid}", self.txid)) if given)))


def find_columns(header: Sequence[str]) -> dict[str, str]:
    """Return the column of each field that can be guessed from the header, by field."""
    plain = {re.sub(r"[^a-z0-9]+", " ", column.lower()).strip(): column for column in reversed(header)}
    found = {field: next((plain[name] for name in names if name in plain), None) for field, names in _NAMES.items()}
    return {field: column for field, column in found.items() if column is not None}


# ── field by field ───────────────────────────────────────────────────────────────────────────────────────────────────


def differences_in_export(row: Row, line: ExportLine) -> list[Difference]:
    """Return the fields in which a line of the export is not the withdrawal of this row."""
    payment = row.revision.payment
    place = CryptoAddress(address=line.address or None, tag=line.tag, tag_is_given=line.tag is not None)
    shown = Transaction(id=line.id, status=line.status or None, crypto_address=place)
    found = [] if payment is None else list(compare(payment, shown).differences)
    found += _of_money(row, Money(currency=line.currency or row.revision.asked[1], amount=line.amount))
    txids = frozenset(line.txid.split())
    return [*found, *_of_names(row, shown, txids), *_of_status(row, shown.status, may_lag=False)]


def differences_in_look_up(row: Row, shown: Transaction) -> list[Difference]:
    """Return the fields in which a look-up does not show the withdrawal of this row as it was before the look-up.

    A status that was not final is news, and no difference.
    """
    payment = row.revision.payment
    if payment is not None:
        found = list(compare(payment, shown).differences)
    else:
        found = [
            one for money in (shown.currency_sent, shown.currency_received) if money for one in _of_money(row, money)
        ]
    return [*found, *_of_names(row, shown, frozenset(shown.txids)), *_of_status(row, shown.status, may_lag=True)]


def _of_money(row: Row, shown: Money) -> list[Difference]:
    """Compare a figure with the journal's figure in the same currency; an unknown one neither agrees nor disagrees."""
    ours = figure_in(row, shown.currency)
    if ours is None:
        is_known = row.revision.payment is not None
        return [Difference("currency", row.revision.asked[1], shown.currency)] if is_known else []
    if ours.amount is None or shown.amount is None:
        return []
    fees = () if row.transaction is None or shown.currency is None else named_fees(shown.currency, row.transaction)
    agrees = figures_agree(ours.amount, shown.amount, fees)
    # What is no figure to count with is shown as it came: written out, `1e999999999` is a gigabyte.
    theirs = f"{shown.amount:f}" if is_countable(shown.amount) else str(shown.amount)
    return [] if agrees else [Difference("amount", f"{ours.amount:f}", theirs)]


def figure_in(row: Row, currency: str | None) -> Money | None:
    """Return the row's figure in this currency: what was asked, or AlphaPo's figure of the other side of a conversion.

    Its amount is None where AlphaPo has not given that figure; the result is None where the row has nothing to do with the currency.
    """
    (figure, asked), known, payment = row.revision.asked, row.withdrawal, row.revision.payment
    if asked and currency == asked:
        return Money(currency=asked, amount=figure)
    sides = (
        []
        if known is None
        else [
            Money(currency=known.sender_currency, amount=known.sender_amount),
            Money(currency=known.receiver_currency, amount=known.receiver_amount),
        ]
    )
    sides += [] if payment is None else [Money(currency=payment.currency), Money(currency=payment.convert_to)]
    return next((side for side in sides if side.currency == currency), None)


def _of_names(row: Row, shown: Transaction, txids: frozenset[str]) -> list[Difference]:
    known, found = row.withdrawal, []
    if known is not None and known.id is not None and shown.id != "" and str(known.id) != str(shown.id):
        found.append(Difference("id", str(known.id), str(shown.id)))
    ours = frozenset(() if row.transaction is None else row.transaction.txids)
    if ours and txids and ours.isdisjoint(txids):
        found.append(Difference("txid", " ".join(sorted(ours)), " ".join(sorted(txids))))
    return found


def _of_status(row: Row, shown: str | None, *, may_lag: bool) -> list[Difference]:
    if row.state not in _HAS_IT:
        return [Difference("outcome", counted_as(row).replace("_", " "), shown or "has it")]
    ours = None if row.withdrawal is None else row.withdrawal.status
    if ours is None or shown is None or _meant(ours) == _meant(shown) or (may_lag and ours not in FINAL):
        return []
    return [Difference("status", ours, shown)]


def _meant(status: str) -> str:
    name = re.sub(r"[\s-]+", "_", status.strip().lower())
    return _SAME.get(name, name)


# ── sums ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def moves_money(status: str | None) -> bool:
    """Return whether a withdrawal with this status counts in the sums: AlphaPo has not ended it."""
    return status is None or _meant(status) not in ENDED


def shown_money(row: Row, shown: Transaction) -> Money:
    """Return what a look-up shows on the requested side; what was requested where it shows no figure to count with."""
    payment, (figure, currency) = row.revision.payment, row.revision.asked
    given = None if payment is None else shown_figure(payment, shown)
    amount = figure if given is None or given.amount is None or not is_countable(given.amount) else given.amount
    return Money(currency=currency if given is None or given.currency is None else given.currency, amount=amount)


class Sums:
    """Sums of both sides by currency, exact to the last decimal."""

    def __init__(self) -> None:
        self._sums: dict[str, list[Decimal]] = {}

    def __repr__(self) -> str:
        return f"Sums({', '.join(self._sums)})"

    def add(self, journal: Money | None, alphapo: Money | None) -> None:
        """Add what each side has."""
        for place, money in enumerate((journal, alphapo)):
            if money is not None and money.amount is not None:
                both = self._sums.setdefault(money.currency or "", [Decimal(0), Decimal(0)])
                both[place] = _EXACT.add(both[place], money.amount)

    def rows(self) -> Iterable[tuple[str, Decimal, Decimal, Decimal]]:
        """Yield currency, the journal's sum, AlphaPo's, and AlphaPo's minus the journal's."""
        for currency, (journal, alphapo) in sorted(self._sums.items()):
            yield currency, journal, alphapo, _EXACT.subtract(alphapo, journal)
