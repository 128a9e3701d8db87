"""Is it ours? Whether a withdrawal that AlphaPo shows is the one that was requested, field by field.

A field that AlphaPo does not give neither agrees nor disagrees. Figures are compared on our side only, as decimals: they agree but for
rounding, the noise of a double, or a fee that AlphaPo names.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from decimal import ROUND_DOWN, ROUND_HALF_UP, Context, Decimal
from typing import Final, TypeAlias

import msgspec

from alphapo_async.core.models import (
    Money,
    Transaction,
    Withdrawal,
    WithdrawalRequest,
    has_conversion,
    requested_figure,
)

__all__ = [
    "Comparison",
    "Difference",
    "compare",
    "compare_reply",
    "figures_agree",
    "is_countable",
    "named_fees",
    "shown_figure",
]


class Difference(msgspec.Struct, frozen=True, gc=False):
    """One field in which AlphaPo's withdrawal is not the one asked for."""

    field: str
    asked: str | None
    shown: str | None

    def __str__(self) -> str:
        return f"{self.field}: asked {self.asked!r}, AlphaPo shows {self.shown!r}"


class Comparison(msgspec.Struct, frozen=True, gc=False):
    """The fields that agree with the request, and those that disagree; a field that AlphaPo does not give is in neither."""

    agreeing: frozenset[str]
    differences: tuple[Difference, ...]

    @property
    def is_other(self) -> bool:
        """The withdrawal is another payment: two fields disagree."""
        return len(self.differences) >= 2  # noqa: PLR2004 - the sentence above

    def is_ours(self, request: WithdrawalRequest | None, *, was_in_doubt: bool) -> bool:
        """Return whether nothing disagrees and enough agrees; of a body of ours that may have arrived less is needed."""
        if self.differences or "foreign_id" not in self.agreeing:
            return False
        if was_in_doubt:
            return not self.agreeing.isdisjoint({"address", "amount"})
        has_tag = request is not None and bool(request.tag)
        return self.agreeing.issuperset({"amount", "currency", "address", *(("tag",) if has_tag else ())})


_Verdict: TypeAlias = tuple[str, str | None, str | None, bool]
"""A field, the requested value, AlphaPo's value, and whether they agree."""


def compare(request: WithdrawalRequest, transaction: Transaction) -> Comparison:
    """Compare a request with what a look-up or a callback shows."""
    return _comparison(_of_transaction(request, transaction))


def compare_reply(request: WithdrawalRequest, withdrawal: Withdrawal) -> Comparison:
    """Compare a request with the reply to its own body, which must name its foreign_id."""
    is_usual = (
        _side_of_reply(request, withdrawal) == requested_figure(request) and withdrawal.foreign_id == request.foreign_id
    )
    return _USUAL if is_usual else _comparison(_of_reply(request, withdrawal))


_USUAL: Final = Comparison(frozenset({"foreign_id", "currency", "amount"}), ())
"""Of a reply that repeats what was requested, as nearly every one does: worked out once."""


def _comparison(verdicts: Iterable[_Verdict]) -> Comparison:
    known = list(verdicts)
    return Comparison(
        frozenset(field for field, _, _, agrees in known if agrees),
        tuple(Difference(field, ours, theirs) for field, ours, theirs, agrees in known if not agrees),
    )


def _of_transaction(request: WithdrawalRequest, transaction: Transaction) -> Iterator[_Verdict]:
    if transaction.foreign_id is not None:
        yield (
            "foreign_id",
            request.foreign_id,
            transaction.foreign_id,
            request.foreign_id == transaction.foreign_id,
        )
    place = transaction.crypto_address
    if place is not None and place.address is not None:
        yield "address", request.address, place.address, not _forms(request.address).isdisjoint(_forms(place.address))
    if place is not None and place.tag_is_given:
        yield "tag", request.tag, place.tag, _is_same_tag(request.tag or None, place.tag or None)
    figures = [money or Money() for money in _our_side(request, transaction)]
    yield from _of_figures(
        request, figures, named_fees(requested_figure(request)[1], transaction), has_numbers=transaction.has_numbers
    )


def _of_reply(request: WithdrawalRequest, withdrawal: Withdrawal) -> Iterator[_Verdict]:
    yield "foreign_id", request.foreign_id, withdrawal.foreign_id, request.foreign_id == withdrawal.foreign_id
    amount, currency = _side_of_reply(request, withdrawal)
    yield from _of_figures(request, [Money(currency=currency, amount=amount)], (), has_numbers=withdrawal.has_numbers)


def _side_of_reply(request: WithdrawalRequest, withdrawal: Withdrawal) -> tuple[Decimal | None, str | None]:
    """Return figure and currency of the side that was requested."""
    if request.amount is None:
        return withdrawal.receiver_amount, withdrawal.receiver_currency
    return withdrawal.sender_amount, withdrawal.sender_currency


def shown_figure(request: WithdrawalRequest, transaction: Transaction) -> Money | None:
    """Return the figure of the requested side that says most; None if the transaction gives none."""
    return next((money for money in _our_side(request, transaction) if money and money.amount is not None), None)


def figures_agree(ours: Decimal, theirs: Decimal, fees: tuple[Decimal, ...] = ()) -> bool:
    """Return whether two figures are equal, or equal but for rounding (never to fewer than eight places) or one of these fees."""
    return _agrees(ours, theirs, fees, has_numbers=False)


# ── address and tag ──────────────────────────────────────────────────────────────────────────────────────────────────

_SCHEME: Final = re.compile(r"[a-z]+:", re.ASCII | re.IGNORECASE)
_WHOLE: Final = re.compile(r"\d+(\.0*)?", re.ASCII)


def _forms(address: str) -> set[str]:
    """Return an address without case, with and without the scheme that some wallets write before it."""
    scheme = _SCHEME.match(address)
    return {address.lower(), address[scheme.end() if scheme else 0 :].lower()}


def _is_same_tag(ours: str | None, theirs: str | None) -> bool:
    if ours == theirs:
        return True
    if ours is None or theirs is None or not (_WHOLE.fullmatch(ours) and _WHOLE.fullmatch(theirs)):
        return False
    return Decimal(ours) == Decimal(theirs)


# ── which figures are on our side ────────────────────────────────────────────────────────────────────────────────────


def _our_side(request: WithdrawalRequest, transaction: Transaction) -> Iterator[Money | None]:
    """Yield the figures of the side that was requested, the one that says most first.

    What goes over a blockchain, or stays inside AlphaPo, is the receiver's side; without a conversion it is the sender's as well.
    """
    exchanges = [part for part in transaction.transactions if part.transaction_type == "exchange"]
    if request.amount is not None:
        yield transaction.currency_sent
        yield _sum_of([(part.currency, part.amount) for part in exchanges], has_numbers=transaction.has_numbers)
    else:
        yield transaction.currency_received
        yield _sum_of([(part.currency_to, part.amount_to) for part in exchanges], has_numbers=transaction.has_numbers)
    if request.amount is None or not has_conversion(request):
        paid = [part for part in transaction.transactions if part.transaction_type in ("blockchain", "internal")]
        yield _sum_of([(part.currency, part.amount) for part in paid], has_numbers=transaction.has_numbers)


def _sum_of(parts: list[tuple[str | None, Decimal | None]], *, has_numbers: bool) -> Money | None:
    """Return the sum of some entries; None where they name more than one currency, or where there are none."""
    currencies = {currency for currency, _ in parts}
    if len(currencies) != 1:
        return None
    return Money(currency=currencies.pop(), amount=_added([amount for _, amount in parts], has_numbers=has_numbers))


def _added(amounts: list[Decimal | None], *, has_numbers: bool) -> Decimal | None:
    """Return the sum: None if one is not given, and no number if one is none; of doubles, the sum of what they stand for."""
    given = [amount for amount in amounts if amount is not None]
    if len(given) < len(amounts):
        return None
    if len(given) == 1:
        return given[0]
    if not all(map(is_countable, given)):
        return Decimal("NaN")
    return _total([_shortest(amount) for amount in given] if has_numbers else given)


def _of_figures(
    request: WithdrawalRequest, figures: list[Money], fees: tuple[Decimal, ...], *, has_numbers: bool
) -> Iterator[_Verdict]:
    """Compare the first figure that is given, in the order of the list, whose first one is AlphaPo's own word for our side."""
    ours, currency = requested_figure(request)
    given = [money for money in figures if money.amount is not None] or [
        one for one in figures if one.currency is not None
    ]
    if not given:
        return
    first = given[0]
    if first.currency is not None:
        yield "currency", currency, first.currency, first.currency == currency
    if first.amount is None:
        return
    agrees = any(_agrees(ours, theirs, fees, has_numbers=has_numbers) for theirs in _with_and_without_fee(first))
    if not agrees and first is figures[0] and request.amount is not None and _is_less(first.amount, ours):
        # AlphaPo's pages call what was sent "minus the network fee", and a fee need not be named anywhere.
        agrees = any(_is_ours(ours, currency, money, has_numbers=has_numbers) for money in figures[1:])
    yield "amount", str(ours), str(first.amount), agrees


def _with_and_without_fee(money: Money) -> tuple[Decimal | None, ...]:
    """Return both forms of the receiver's figure; a figure that is no number is not excused by its other form."""
    return (money.amount, money.amount_minus_fee) if money.amount is not None and money.amount.is_finite() else ()


def _is_less(theirs: Decimal, ours: Decimal) -> bool:
    return theirs.is_finite() and 0 < theirs < ours


def _is_ours(ours: Decimal, currency: str, money: Money, *, has_numbers: bool) -> bool:
    return money.currency in (None, currency) and _agrees(ours, money.amount, (), has_numbers=has_numbers)


# ── when two figures agree ───────────────────────────────────────────────────────────────────────────────────────────

# Enough digits that sums of figures of 255 digits are exact.
_EXACT = Context(prec=1_000)
_MOST = 300
"""Places before or after the point of a figure worth counting with: the 255 of an amount, and room."""
_PLACES = 8
"""AlphaPo's samples show eight places, fiat included, so a figure may come back cut or rounded to eight,
never to fewer."""


def named_fees(currency: str, transaction: Transaction) -> tuple[Decimal, ...]:
    """Return each fee in this currency, and their sum."""
    fees = [
        fee.amount
        for fee in transaction.fees
        if fee.currency == currency and fee.amount is not None and is_countable(fee.amount)
    ]
    if not fees:
        return ()
    clean = [_shortest(fee) for fee in fees] if transaction.has_numbers else []
    return (*fees, _total(fees), *clean, _total(clean))


def _total(figures: list[Decimal]) -> Decimal:
    total = Decimal(0)
    for figure in figures:
        total = _EXACT.add(total, figure)
    return total


def is_countable(figure: Decimal) -> bool:
    """Finite, and small enough to count with: a hostile reply may give `1e999999999`."""
    return figure.is_finite() and abs(figure.adjusted()) <= _MOST


def _shortest(figure: Decimal) -> Decimal:
    """Return the shortest decimal that is the same double: 0.0015 for 0.0015000000000000001."""
    return Decimal(repr(float(figure)))


def _agrees(ours: Decimal, theirs: Decimal | None, fees: tuple[Decimal, ...], *, has_numbers: bool) -> bool:
    """Equal, or equal but for rounding, for the noise of a double, or for a fee that AlphaPo names."""
    if theirs is None or ours == theirs:
        return theirs is not None
    if not is_countable(theirs):
        return False
    meant = (theirs, _shortest(theirs)) if has_numbers else (theirs,)
    if any(_is_rounded(ours, figure) or (has_numbers and float(ours) == float(figure)) for figure in meant):
        return True
    with_fees = [one for fee in fees for one in (_EXACT.add(ours, fee), _EXACT.subtract(ours, fee))]
    # The fee is cut or rounded as well, and so one unit of the last place goes astray.
    return any(
        _EXACT.subtract(one, figure).copy_abs() <= _last_place(figure) or (has_numbers and float(one) == float(figure))
        for one in with_fees
        for figure in meant
    )


def _last_place(figure: Decimal) -> Decimal:
    """Return one unit of the last place of a figure, which is the eighth at least."""
    return Decimal(1).scaleb(max(min(int(figure.as_tuple().exponent), -_PLACES), -_MOST), _EXACT)


def _is_rounded(ours: Decimal, theirs: Decimal) -> bool:
    """Return whether they become equal when ours is cut or rounded to the places of theirs."""
    return any(ours.quantize(_last_place(theirs), way, _EXACT) == theirs for way in (ROUND_DOWN, ROUND_HALF_UP))
