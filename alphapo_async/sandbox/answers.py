"""How AlphaPo puts its answers into bytes, in each dialect.

The object of an accepted withdrawal: https://docs.alphapo.net/api-reference/endpoints/withdrawal-crypto. The object of a look-up and
of a callback: https://docs.alphapo.net/api-reference/transactions/fetch-transaction-metadata. The two shapes of an error:
https://docs.cryptoprocessing.com/api-reference/errors.
"""

from __future__ import annotations

from collections.abc import Mapping
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from typing import Any

import msgspec

from alphapo_async.sandbox import catalogue
from alphapo_async.sandbox.catalogue import EXACT, PRECISION
from alphapo_async.sandbox.checks import AuthenticationProblem, ExchangeFields, WithdrawalFields
from alphapo_async.sandbox.dialects import Dialect
from alphapo_async.sandbox.records import FEE_SHARE, SandboxWithdrawal, shown_id, txid
from alphapo_async.sandbox.rules import Refusal

__all__ = [
    "WITH_SIDES",
    "HttpAnswer",
    "accepted",
    "accounts",
    "bad_format",
    "currencies",
    "encode",
    "figure",
    "not_let_in",
    "out_of_scope",
    "quote",
    "rates",
    "refused",
    "shown",
    "textual",
    "transaction",
    "unknown",
]

_encode = msgspec.json.Encoder().encode
_LAST_PLACE = Decimal(1).scaleb(-PRECISION)
_MAPPED = {"processing": "not_confirmed"}
"""Statuses are mapped before a look-up shows them (https://docs.cryptoprocessing.com, transactions-info)."""


class HttpAnswer(msgspec.Struct, frozen=True):
    """A whole answer: what goes back over the wire."""

    status: int
    body: bytes
    content_type: str = "application/json"
    headers: Mapping[str, str] = msgspec.field(default_factory=dict)

    def __repr__(self) -> str:
        return f"Answer(status={self.status}, body=<{len(self.body)} bytes>)"


def encode(value: Any, dialect: Dialect | None = None) -> bytes:
    """Return the JSON of a value, as the dialect writes it."""
    mark = b"\xef\xbb\xbf" if dialect is not None and dialect.byte_order_mark else b""
    return mark + _encode(value)


def _json(status: int, value: Any, dialect: Dialect | None = None) -> HttpAnswer:
    return HttpAnswer(status, encode(value, dialect))


def figure(value: Decimal, dialect: Dialect) -> str | msgspec.Raw:
    """Return a figure as the dialect gives it: a string or a JSON number, plain decimals or a double, all places or 8."""
    if dialect.places != "exact":
        value = value.quantize(_LAST_PLACE, ROUND_DOWN if dialect.places == "cut" else ROUND_HALF_UP, EXACT)
    elif int(value.as_tuple().exponent) > -PRECISION:
        # Every sample pads with zeros to 8 places.
        value = value.quantize(_LAST_PLACE, context=EXACT)
    if dialect.figures == "doubles":
        return msgspec.Raw(f"{float(value):.17g}".encode())
    text = f"{value:f}"
    return text if dialect.figures == "strings" else msgspec.Raw(text.encode())


def _address(asked: WithdrawalFields, dialect: Dialect) -> str:
    address = asked.address
    if dialect.address_form == "other case":
        lower = address.lower()
        return lower if lower != address else address.upper()
    if dialect.address_form == "with scheme":
        return f"{asked.receiver_currency.lower()}:{address}"
    # A made-up form, since a true one depends on the chain.
    return address[::-1] if dialect.address_form == "other form" else address


def _tag(asked: WithdrawalFields, dialect: Dialect) -> dict[str, Any]:
    tag = asked.tag
    if dialect.tag == "missing":
        return {}
    if dialect.tag == "null":
        return {"tag": None}
    if dialect.tag == "0" and tag is None:
        return {"tag": 0}
    is_number = dialect.tag in ("number", "0") and tag is not None and tag.isdecimal()
    return {"tag": int(tag) if is_number and tag is not None else tag}


def _type(record: SandboxWithdrawal) -> str:
    return "withdrawal" if record.asked.convert_to is None else "withdrawal_exchange"


def _foreign_id(record: SandboxWithdrawal, dialect: Dialect) -> str | int:
    shown = record.asked.foreign_id
    return shown.strip() if dialect.foreign_id_form == "trimmed" and isinstance(shown, str) else shown


# ── answers to a withdrawal ──────────────────────────────────────────────────────────────────────────────────────────


def accepted(record: SandboxWithdrawal, dialect: Dialect, now: float) -> HttpAnswer:
    """Return the answer to an accepted withdrawal, with its status at a moment."""
    status = record.status(now)
    data: dict[str, Any] = {
        "id": record.id,
        "foreign_id": _foreign_id(record, dialect),
        "end_user_reference": record.asked.end_user_reference,
        "type": _type(record),
        "status": dialect.over_limit_status if status == "pending" else status,
        "amount": figure(record.sent, dialect),
        "sender_amount": figure(record.sent, dialect),
        "sender_currency": record.asked.currency,
        "receiver_currency": record.asked.receiver_currency,
    }
    if dialect.receiver_amount == "given":
        data["receiver_amount"] = figure(record.received, dialect)
    return _json(dialect.success_status, {"data": data}, dialect)


def refused(refusal: Refusal, dialect: Dialect) -> HttpAnswer:
    """Return the answer that blames fields: `{"errors": {field: text}}`, or lists of texts."""
    if dialect.reused_shape == "list":
        return _json(refusal.status, {"errors": {name: [text] for name, text in refusal.errors.items()}}, dialect)
    return _json(refusal.status, {"errors": dict(refusal.errors)}, dialect)


def not_let_in(problem: AuthenticationProblem) -> HttpAnswer:
    """Return one of the four documented answers with status 403."""
    return textual(403, problem.error, problem.code)


def bad_format() -> HttpAnswer:
    """Return the documented answer to a body that is no JSON, or is not called JSON by its Content-Type."""
    return textual(400, "Bad content format", "bad_content_format")


def textual(status: int, error: str, code: str | None = None) -> HttpAnswer:
    """Return an error of the other shape: `{"error": text, "code": code}`."""
    return _json(status, {"error": error} if code is None else {"error": error, "code": code})


# ── answers to a look-up ─────────────────────────────────────────────────────────────────────────────────────────────


def shown(record: SandboxWithdrawal, dialect: Dialect, now: float) -> HttpAnswer:
    """Return the answer to a look-up that finds a withdrawal; it is not wrapped in `data`."""
    return _json(200, transaction(record, dialect, record.status(now)), dialect)


def unknown(asked_by: str, dialect: Dialect) -> HttpAnswer:
    """Return the answer to a look-up that finds nothing; which one AlphaPo gives is not documented."""
    if dialect.look_up_unknown == "404":
        return textual(404, "Transaction not found", "not_found")
    if dialect.look_up_unknown == "400":
        return _json(400, {"errors": {asked_by: f"The selected {asked_by.replace('_', ' ')} is invalid."}}, dialect)
    if dialect.look_up_unknown == "403":
        return textual(403, "Access denied", "access_denied")
    return HttpAnswer(200, dialect.look_up_unknown.removeprefix("200 ").encode())


def transaction(record: SandboxWithdrawal, dialect: Dialect, status: str) -> dict[str, Any]:
    """Return the object with which look-ups and callbacks show a withdrawal.

    Args:
        record: the withdrawal.
        dialect: how to show it.
        status: AlphaPo's own status; `processing` is shown as `not_confirmed`.
    """
    asked = record.asked
    place = {"address": _address(asked, dialect), **_tag(asked, dialect)}
    shown: dict[str, Any] = {
        "id": shown_id(record, dialect),
        "foreign_id": _foreign_id(record, dialect),
        "end_user_reference": asked.end_user_reference,
        "type": _type(record),
        "crypto_address": {"id": record.id, "currency": asked.receiver_currency, **place},
    }
    if dialect.end_user_reference == "optional":
        del shown["end_user_reference"]
    if asked.convert_to is not None:
        shown["crypto_address"]["convert_to"] = asked.convert_to
    fee_currency, fee = _fee(record, dialect)
    if status in WITH_SIDES[dialect.sides]:
        shown |= _sides(record, dialect, fee)
    has_fees = bool(fee) and dialect.fees != "unnamed" and status in {"processing", "confirmed"}
    return shown | {
        "transactions": _parts(record, dialect, place, confirmed=status == "confirmed"),
        "fees": [{"type": "mining", "currency": fee_currency, "amount": figure(fee, dialect)}] if has_fees else [],
        "error": record.ending.error if status == record.ending.last else "",
        "status": _MAPPED.get(status, status),
    }


WITH_SIDES = {
    "unless ended": {"processing", "confirmed"},
    "always": {"pending", "processing", "confirmed", "cancelled", "declined"},
    "unless final": {"processing"},
}
"""The statuses for which both sides are given."""


def _fee(record: SandboxWithdrawal, dialect: Dialect) -> tuple[str, Decimal]:
    if dialect.fees in ("outside", "unnamed"):
        return record.asked.currency, EXACT.multiply(record.sent, FEE_SHARE)
    if dialect.fees == "inside":
        return record.asked.receiver_currency, EXACT.multiply(record.received, FEE_SHARE)
    return record.asked.currency, Decimal(0)


def _sides(record: SandboxWithdrawal, dialect: Dialect, fee: Decimal) -> dict[str, Any]:
    sent, received = record.sent, record.received
    if dialect.fees == "outside":
        sent = EXACT.add(sent, fee)
    elif dialect.fees == "unnamed":
        sent = EXACT.subtract(sent, fee)
    elif dialect.fees == "inside":
        received = EXACT.subtract(received, fee)
    return {
        "currency_sent": {"currency": record.asked.currency, "amount": figure(sent, dialect)},
        "currency_received": {"currency": record.asked.receiver_currency, "amount": figure(received, dialect)},
    }


def _parts(
    record: SandboxWithdrawal, dialect: Dialect, place: Mapping[str, Any], *, confirmed: bool
) -> list[dict[str, Any]]:
    asked = record.asked
    parts: list[dict[str, Any]] = []
    if dialect.parts in ("blockchain", "internal"):
        payment = {
            "currency": asked.receiver_currency,
            "transaction_type": dialect.parts,
            "type": "withdrawal",
            **place,
            "txid": txid(record) if confirmed else None,
            "confirmations": "0",
        }
        amounts = _split(record.received) if dialect.entries == "several" else (record.received,)
        parts += [
            {"id": record.id * 4 + number, **payment, "amount": figure(amount, dialect)}
            for number, amount in enumerate(amounts)
        ]
    if asked.convert_to is not None and dialect.parts != "none":
        exchange = {
            "id": record.id * 4 + 2,
            "currency": asked.currency,
            "currency_to": asked.convert_to,
            "transaction_type": "exchange",
            "type": "exchange",
            "amount": figure(record.sent, dialect),
            "amount_to": figure(record.received, dialect),
        }
        parts.append(exchange)
    return parts


def _split(figure: Decimal) -> tuple[Decimal, Decimal]:
    half = EXACT.divide(figure, Decimal(2)).quantize(_LAST_PLACE, ROUND_DOWN, EXACT)
    return half, EXACT.subtract(figure, half)


# ── the other answers ────────────────────────────────────────────────────────────────────────────────────────────────


def accounts(balances: Mapping[str, Decimal], dialect: Dialect) -> HttpAnswer:
    """Return every balance (https://docs.cryptoprocessing.com/api-reference/openapi.yaml, accounts/list)."""
    rows = [{**_named(currency), "balance": figure(balance, dialect)} for currency, balance in balances.items()]
    return _json(200, {"data": rows}, dialect)


def currencies(minimums: Mapping[str, Decimal], dialect: Dialect) -> HttpAnswer:
    """Return every currency (https://docs.cryptoprocessing.com/api-reference/endpoints/currencies-list).

    `minimum_withdrawal_amount` is known from clients only; `minimum_amount` is the minimum of a deposit.
    """
    rows = [
        {
            "id": number,
            **_named(code),
            "minimum_amount": figure(minimums[code], dialect),
            "minimum_withdrawal_amount": figure(minimums[code], dialect),
            "deposit_fee_percent": figure(Decimal(0), dialect),
            "withdrawal_fee_percent": figure(Decimal(0), dialect),
            "precision": PRECISION,
        }
        for number, code in enumerate(catalogue.VALUES, start=1)
    ]
    return _json(200, {"data": rows}, dialect)


def rates(fields: Mapping[str, Any], minimums: Mapping[str, Decimal], dialect: Dialect) -> HttpAnswer:
    """Return the pairs of currencies, or the ones with `currency_from` and `currency_to` (currencies-rates)."""
    one = Decimal(1)
    rows = [
        {
            "currency_from": {**_named(source), "min_amount": figure(minimums[source], dialect)},
            "currency_to": _named(target),
            "rate_from": figure(one, dialect),
            "rate_to": figure(catalogue.convert(one, source, target), dialect),
        }
        for source in catalogue.VALUES
        for target in catalogue.VALUES
        if source != target
        and fields.get("currency_from") in (None, source)
        and fields.get("currency_to") in (None, target)
    ]
    return _json(200, {"data": rows}, dialect)


def _named(code: str) -> dict[str, str]:
    return {"currency": code, "type": "fiat" if code in catalogue.FIAT else "crypto"}


def quote(asked: ExchangeFields, sent: Decimal, received: Decimal, dialect: Dialect, today: float) -> HttpAnswer:
    """Return a quote (https://docs.alphapo.net/api-reference/exchange/calculate-the-exchange-rate)."""
    data = {
        "sender_amount": figure(sent, dialect),
        "sender_currency": asked.sender_currency,
        "receiver_amount": figure(received, dialect),
        "receiver_currency": asked.receiver_currency,
        "fee_amount": figure(Decimal(0), dialect),
        "fee_currency": asked.sender_currency,
        "price": figure(catalogue.convert(Decimal(1), asked.sender_currency, asked.receiver_currency), dialect),
        "ts_fixed": int(today),
        "ts_release": int(today) + _FIX_PERIOD,
        "fix_period": _FIX_PERIOD,
    }
    return _json(200, {"data": data}, dialect)


_FIX_PERIOD = 60


def out_of_scope(path: str) -> HttpAnswer:
    """Return the answer of an endpoint that AlphaPo documents and the local sandbox does not have; AlphaPo itself never answers this."""
    return textual(404, f"The local sandbox does not have {path}: it is for withdrawals only.", "not_in_the_sandbox")
