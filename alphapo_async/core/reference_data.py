"""Values that AlphaPo publishes for an account: its currencies, and quotes for a conversion. Pure.

Sources: `/currencies/list` (https://docs.cryptoprocessing.com/api-reference/endpoints/currencies-list), `/currencies/rates`
(https://docs.cryptoprocessing.com/api-reference/endpoints/currencies-rates) and `/exchange/calculate`
(https://docs.alphapo.net/api-reference/exchange/calculate-the-exchange-rate).
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator
from decimal import Decimal
from typing import Any

import msgspec

from alphapo_async.core.codec import AmountFormat, amount_of, read_json, text_of, write_amount
from alphapo_async.core.errors import ConfigurationError
from alphapo_async.core.field_docs import with_field_docs
from alphapo_async.core.models import Money, figure_of
from alphapo_async.core.texts import problem_of_text

__all__ = [
    "Currency",
    "Quote",
    "QuoteRequest",
    "nearest_codes",
    "quote_request",
    "read_currencies",
    "read_minimum_exchanges",
    "read_quote",
    "refusal_of",
]


@with_field_docs
class Currency(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One currency of your account, as AlphaPo lists it. A field that AlphaPo does not give, or gives in another form, is `None`."""

    code: str
    """AlphaPo's code, one for each token on each network, such as `USDTT`."""
    type: str | None = None
    """`crypto` or `fiat`. A withdrawal from a fiat balance needs `convert_to`."""
    precision: int | None = None
    """Decimals of an amount. What AlphaPo does with more decimals is not documented."""
    minimum_withdrawal: Decimal | None = None
    """The least amount of a withdrawal without conversion, in this currency. AlphaPo's documents do not name this field: clients read it as
    `minimum_withdrawal_amount` or `minimum_withdraw_amount`. (`minimum_amount` is the minimum of a deposit.)"""
    withdrawal_fee_percent: Decimal | None = None
    """AlphaPo's figure as it is. Its unit is not documented: samples have `0.99` and `0.010000`, percent or fraction."""
    minimum_exchange: Decimal | None = None
    """The least amount of a conversion from this currency, in this currency: the lowest of all pairs in `/currencies/rates`; a single pair
    may need more. AlphaPo changes it at any time."""


@with_field_docs
class Quote(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """AlphaPo's answer to `/exchange/calculate`: informative only. A withdrawal is converted at the rate of its own moment.

    A field that AlphaPo does not give is `None`.
    """

    currency: str
    """The balance that is debited."""
    convert_to: str
    """The currency that is paid out."""
    amount: Decimal | None = None
    """In `currency`."""
    amount_to: Decimal | None = None
    """In `convert_to`."""
    rate: Decimal | None = None
    """AlphaPo's `price`. In which direction it counts is not documented: compare it with the two amounts."""
    fee: Money | None = None
    """Amount and currency of AlphaPo's fee."""


class QuoteRequest(msgspec.Struct, frozen=True, gc=False):
    """A checked question for a quote."""

    currency: str
    convert_to: str
    amount: Decimal | None
    amount_to: Decimal | None

    def encode(self, amount_format: AmountFormat) -> bytes:
        """Return the body of `/exchange/calculate`.

        Raises:
            InvalidRequest: in `"number"` format, an amount that readers of JSON numbers would round.
        """
        name, wire_name, figure = ("amount", "sender_amount", self.amount)
        if figure is None:
            name, wire_name, figure = ("amount_to", "receiver_amount", self.amount_to)
        assert figure is not None  # noqa: S101 - exactly one of the two: checked when it is made
        asked = {"sender_currency": self.currency, "receiver_currency": self.convert_to}
        return msgspec.json.encode({**asked, wire_name: write_amount(name, figure, amount_format)})


def quote_request(currency: object, convert_to: object, amount: object, amount_to: object) -> QuoteRequest:
    """Return the checked question.

    Raises:
        ConfigurationError: a code or an amount is missing or wrong, or both amounts are given.
    """
    given = {"amount": amount, "amount_to": amount_to}
    named = [name for name, value in given.items() if value is not None]
    if len(named) != 1:
        found = "both are given" if named else "none is given"
        raise ConfigurationError(f"A quote needs exactly one of amount and amount_to: {found}. {_NOTHING_ASKED}")
    for name, code in (("currency", currency), ("convert_to", convert_to)):
        if problem := problem_of_text(code):
            raise ConfigurationError(f"A quote: {name} {problem} {_NOTHING_ASKED}")
    if currency == convert_to:
        raise ConfigurationError(
            f"A quote is for a conversion: currency and convert_to are both {currency!r}. {_NOTHING_ASKED}"
        )
    figure = figure_of(given[named[0]])
    if isinstance(figure, str):
        raise ConfigurationError(f"A quote: {named[0]} {figure} {_NOTHING_ASKED}")
    is_amount = named[0] == "amount"
    return QuoteRequest(str(currency), str(convert_to), figure if is_amount else None, None if is_amount else figure)


_NOTHING_ASKED = "Nothing was asked."


def read_currencies(body: bytes, minimum_exchanges: dict[str, Decimal] | None = None) -> dict[str, Currency] | None:
    """Return the currencies by code, or None where the bytes have no list of currencies.

    Args:
        body: AlphaPo's reply to `/currencies/list`.
        minimum_exchanges: the minimums of conversions by code.
    """
    rows = _rows(body)
    if rows is None:
        return None
    minimums = minimum_exchanges or {}
    found = (_currency(row, code, minimums.get(code)) for row in rows if (code := text_of(row.get("currency"))))
    return {currency.code: currency for currency in found}


_PRECISIONS = frozenset(range(256))


def _currency(row: dict[str, Any], code: str, minimum_exchange: Decimal | None) -> Currency:
    minimums = (_figure(row.get(name)) for name in ("minimum_withdrawal_amount", "minimum_withdraw_amount"))
    precision = _figure(row.get("precision"))
    return Currency(
        code=code,
        type=text_of(row.get("type")),
        precision=int(precision) if precision in _PRECISIONS and precision is not None else None,
        minimum_withdrawal=next((figure for figure in minimums if figure is not None), None),
        withdrawal_fee_percent=_figure(row.get("withdrawal_fee_percent")),
        minimum_exchange=minimum_exchange,
    )


def read_minimum_exchanges(body: bytes) -> dict[str, Decimal] | None:
    """Return the lowest minimum of all conversions from each currency, or None where the bytes have no list of pairs.

    Args:
        body: AlphaPo's reply to `/currencies/rates`.
    """
    rows = _rows(body)
    if rows is None:
        return None
    minimums: dict[str, Decimal] = {}
    for row in rows:
        source = row.get("currency_from")
        code, figure = (
            (text_of(source.get("currency")), _figure(source.get("min_amount")))
            if isinstance(source, dict)
            else (None, None)
        )
        if code and figure is not None:
            minimums[code] = min(figure, minimums.get(code, figure))
    return minimums


def read_quote(body: bytes, asked: QuoteRequest) -> Quote | None:
    """Return the quote, or None where the bytes have none, or one for other currencies."""
    reply = read_json(body)
    data = reply.get("data", reply) if isinstance(reply, dict) else None
    if not isinstance(data, dict):
        return None
    names = text_of(data.get("sender_currency")), text_of(data.get("receiver_currency"))
    quote = Quote(
        currency=asked.currency,
        convert_to=asked.convert_to,
        amount=_figure(data.get("sender_amount")),
        amount_to=_figure(data.get("receiver_amount")),
        rate=_figure(data.get("price")),
        fee=_fee(data),
    )
    is_given = quote.amount is not None or quote.amount_to is not None
    return quote if is_given and names == (asked.currency, asked.convert_to) else None


def _fee(data: dict[str, Any]) -> Money | None:
    figure = _figure(data.get("fee_amount"))
    return None if figure is None else Money(currency=text_of(data.get("fee_currency")), amount=figure)


def refusal_of(body: bytes) -> str | None:
    """Return AlphaPo's words where the bytes refuse a question field by field; None where they do not."""
    reply = read_json(body)
    errors = reply.get("errors") if isinstance(reply, dict) else None
    if not isinstance(errors, dict):
        return None
    texts = [text for found in errors.values() for text in (found if isinstance(found, list) else [found]) if text]
    return " ".join(map(str, texts)) or None


def nearest_codes(code: str, codes: Iterable[str]) -> list[str]:
    """Return up to three codes that the writer of an unknown code may have meant, the nearest first."""
    known, wanted = list(codes), code.upper()
    begin_alike = sorted((each for each in known if each.startswith(wanted)), key=len)
    close = begin_alike if wanted and begin_alike else difflib.get_close_matches(wanted, known)
    return close[:3]


def _rows(body: bytes) -> Iterator[dict[str, Any]] | None:
    reply = read_json(body)
    rows = reply.get("data") if isinstance(reply, dict) else None
    return (row for row in rows if isinstance(row, dict)) if isinstance(rows, list) else None


def _figure(value: Any) -> Decimal | None:
    """Return a figure that is finite and not negative; None for anything else."""
    figure = amount_of(value)
    return figure if figure is not None and figure.is_finite() and figure >= 0 else None
