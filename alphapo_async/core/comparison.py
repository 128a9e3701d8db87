"""Is it ours? Whether a withdrawal that AlphaPo shows is the one we asked for, field by field.

What is not told neither agrees nor disagrees. Figures are compared as decimals, and agree but for rounding or a fee that AlphaPo names.
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_DOWN, ROUND_HALF_UP, Context, Decimal
from typing import TypeAlias

import msgspec

from alphapo_async.core.models import Money, Transaction, Withdrawal, WithdrawalRequest

__all__ = ["Comparison", "Difference", "compare", "differences_of_reply"]


class Difference(msgspec.Struct, frozen=True, gc=False):
    """One field in which AlphaPo's withdrawal is not the one asked for."""

    field: str
    asked: str | None
    told: str | None

    def __str__(self) -> str:
        return f"{self.field}: asked {self.asked!r}, AlphaPo tells {self.told!r}"


class Comparison(msgspec.Struct, frozen=True, gc=False):
    """Which fields that AlphaPo told agree with what was asked, and which do not; what is not told is in neither."""

    agreeing: frozenset[str]
    differences: tuple[Difference, ...]

    @property
    def is_other(self) -> bool:
        """So different that it is another's payment: two fields disagree."""
        return len(self.differences) >= 2  # noqa: PLR2004 - the sentence above

    def is_ours(self, *needed: str) -> bool:
        """Nothing disagrees, foreign_id is told, and so are the fields named."""
        return not self.differences and self.agreeing.issuperset({"foreign_id", *needed})


_Verdict: TypeAlias = tuple[str, str | None, str | None, bool]  # field, asked, told, agrees


def differences_of_reply(asked: WithdrawalRequest, told: Withdrawal) -> tuple[Difference, ...]:
    """A reply to our own body: it must name our foreign_id, and contradict neither amount nor currency."""
    figure, currency = asked.asked
    is_sent = asked.amount is not None
    told_figure = told.sender_amount if is_sent else told.receiver_amount
    told_currency = told.sender_currency if is_sent else told.receiver_currency
    found = []
    if told.foreign_id != asked.foreign_id:
        found.append(Difference("foreign_id", asked.foreign_id, told.foreign_id))
    if told_currency is not None and told_currency != currency:
        found.append(Difference("currency", currency, told_currency))
    if told_figure is not None and not _same_figure(figure, told_figure, ()):
        found.append(Difference("amount", str(figure), str(told_figure)))
    return tuple(found)


def compare(asked: WithdrawalRequest, told: Transaction) -> Comparison:
    """Compare what was asked with a transaction from a look-up or a callback, field by field."""
    verdicts = list(_verdicts(asked, told))
    return Comparison(
        frozenset(field for field, _, _, agrees in verdicts if agrees),
        tuple(Difference(field, ours, theirs) for field, ours, theirs, agrees in verdicts if not agrees),
    )


def _verdicts(asked: WithdrawalRequest, told: Transaction) -> Iterable[_Verdict]:
    if told.foreign_id is not None:
        yield "foreign_id", asked.foreign_id, told.foreign_id, asked.foreign_id == told.foreign_id
    place = told.crypto_address
    if place is not None and place.address is not None:
        yield "address", asked.address, place.address, _bare(asked.address) == _bare(place.address)
    if place is not None and place.tag_is_told:
        yield "tag", asked.tag, place.tag, (asked.tag or None) == (place.tag or None)
    figure, currency = asked.asked
    money = _money_told(asked, told)
    if money.currency is not None:
        yield "currency", currency, money.currency, currency == money.currency
    if money.amount is not None:
        fees = _fees_in(told, currency)
        told_figures = (money.amount, money.amount_minus_fee) if money.amount.is_finite() else ()
        agrees = any(_same_figure(figure, told_figure, fees) for told_figure in told_figures)
        yield "amount", str(figure), str(money.amount), agrees


def _bare(address: str) -> str:
    """An address without the scheme some wallets write before it, and without case."""
    return address.rpartition(":")[2].lower()


def _money_told(asked: WithdrawalRequest, told: Transaction) -> Money:
    """The side that was asked for, never the other; the blockchain's entry stands in where it shows the same side."""
    money = told.currency_sent if asked.amount is not None else told.currency_received
    money = money or Money()
    is_on_chain = asked.amount is None or asked.convert_to in (None, asked.currency)
    entry = told.blockchain
    if entry is None or not is_on_chain:
        return money
    if money.amount is None and money.currency is None:
        return Money(entry.currency, entry.amount)
    return money


# Enough digits that sums of figures of 255 digits are exact.
_EXACT = Context(prec=1_000)
_MOST = 300
"""Places before or after the point of a figure worth counting with: the 255 of an amount, and room."""
_PLACES = 8
"""AlphaPo's samples show eight places, fiat included, so a figure may come back cut or rounded to eight,
never to fewer."""


def _fees_in(told: Transaction, currency: str) -> tuple[Decimal, ...]:
    fees = [fee.amount for fee in told.fees if fee.currency == currency and _is_figure(fee.amount)]
    total = Decimal(0)
    for fee in fees:
        total = _EXACT.add(total, fee or Decimal(0))
    return (*(fee for fee in fees if fee is not None), total) if fees else ()


def _is_figure(figure: Decimal | None) -> bool:
    """Finite, and small enough to count with: a hostile reply may tell `1e999999999`."""
    return figure is not None and figure.is_finite() and abs(figure.adjusted()) <= _MOST


def _same_figure(asked: Decimal, told: Decimal | None, fees: tuple[Decimal, ...]) -> bool:
    """Equal, or equal but for rounding, or but for a fee that AlphaPo names."""
    if told is None or asked == told:
        return told is not None
    if not _is_figure(told):
        return False
    if _is_rounded(asked, told):
        return True
    return any(
        asked_with_fee == told or _is_rounded(asked_with_fee, told)
        for fee in fees
        for asked_with_fee in (_EXACT.add(asked, fee), _EXACT.subtract(asked, fee))
    )


def _is_rounded(asked: Decimal, told: Decimal) -> bool:
    exponent = max(min(int(told.as_tuple().exponent), -_PLACES), -_MOST)
    places = Decimal(1).scaleb(exponent, _EXACT)
    return any(asked.quantize(places, way, _EXACT) == told for way in (ROUND_DOWN, ROUND_HALF_UP))
