"""Bytes and values: a request becomes the exact bytes to sign, and a reply becomes the values that it gives.

Writing: AlphaPo's field names letter for letter, absent fields left out, amounts as plain decimals (msgspec alone would
write `1E-8`).
Reading: figures exact from JSON numbers and strings alike; a reply never raises here, whatever it holds.
"""

from __future__ import annotations

import hashlib
import itertools
import re
from decimal import Decimal, InvalidOperation
from typing import Any, Literal, TypeVar

import msgspec

from alphapo_async.core.errors import InvalidRequest
from alphapo_async.core.models import (
    FIGURE,
    CryptoAddress,
    Fee,
    Money,
    Source,
    Transaction,
    TransactionPart,
    Withdrawal,
    WithdrawalRequest,
    recorded_request,
)

__all__ = [
    "AMOUNT_FORMATS",
    "UNREADABLE",
    "AmountFormat",
    "Unreadable",
    "amount_of",
    "decode_body",
    "differing",
    "digest",
    "encode_body",
    "encode_look_up",
    "is_same_payment",
    "normal",
    "plain",
    "read_balances",
    "read_json",
    "read_reply",
    "read_transaction",
    "read_withdrawal",
    "text_of",
    "write_amount",
]

AmountFormat = Literal["number", "string"]
"""How amounts are written: AlphaPo's schema says number, its samples show strings (both on the endpoint's page)."""
AMOUNT_FORMATS: tuple[AmountFormat, ...] = ("number", "string")

_DOUBLE_IS_EXACT = 15  # characters: up to 15 significant digits survive any reader that takes JSON numbers for doubles


class Unreadable:
    """Stands for a reply that is no JSON at all; `None` would be JSON's own null."""

    __slots__ = ()


UNREADABLE = Unreadable()


class _Body(msgspec.Struct, omit_defaults=True):
    """The wire form, in the order of AlphaPo's page."""

    currency: str
    amount: msgspec.Raw | str | None = None
    address: str = ""
    foreign_id: str = ""
    end_user_reference: str = ""
    convert_to: str | None = None
    tag: str | None = None
    amount_to: msgspec.Raw | str | None = None
    sender_type: str | None = None
    sender_data: Any = None
    receiver_type: str | None = None
    receiver_data: Any = None


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(float_hook=Decimal).decode


def encode_body(request: WithdrawalRequest, amount_format: AmountFormat = "number") -> bytes:
    """Return the bytes to sign, journal and send.

    Raises:
        InvalidRequest: in `"number"` format, an amount that readers of JSON numbers would round.
    """
    write = _as_string if amount_format == "string" else _as_number
    return _encode(
        _Body(
            request.currency,
            None if request.amount is None else write("amount", request.amount),
            request.address,
            request.foreign_id,
            request.end_user_reference,
            request.convert_to,
            request.tag,
            None if request.amount_to is None else write("amount_to", request.amount_to),
            request.sender_type,
            request.sender_data,
            request.receiver_type,
            request.receiver_data,
        )
    )


def encode_look_up(foreign_id: str) -> bytes:
    """Return the body of a look-up (https://docs.alphapo.net/api-reference/transactions/fetch-transaction-metadata)."""
    return _encode({"foreign_id": foreign_id})


def decode_body(body: bytes) -> WithdrawalRequest:
    """Return the request that these recorded bytes ask for; the inverse of `encode_body`. Without a tag it has `without_tag`."""
    fields: dict[str, Any] = _decode(body)
    if "sender_data" in fields or "receiver_data" in fields:
        # Figures in these are floats, as they were in the request: as decimals they would make it another payment.
        as_given: dict[str, Any] = msgspec.json.decode(body)
        fields |= {name: as_given[name] for name in ("sender_data", "receiver_data") if name in as_given}
    return recorded_request(fields)


def plain(amount: Decimal) -> str:
    """Return the amount without an exponent, every digit kept."""
    text = str(amount)
    return format(amount, "f") if "E" in text else text


def _as_string(_field: str, amount: Decimal) -> str:
    return plain(amount)


def _as_number(field: str, amount: Decimal) -> msgspec.Raw:
    text = plain(amount)
    if len(text) > _DOUBLE_IS_EXACT and Decimal(repr(float(text))) != amount:
        raise InvalidRequest(
            {field: f"'{text}' would be rounded as a JSON number; make the client with amount_format=\"string\"."}
        )
    return msgspec.Raw(text.encode())


def write_amount(field: str, amount: Decimal, amount_format: AmountFormat) -> msgspec.Raw | str:
    """Return the amount as it is put into a body.

    Raises:
        InvalidRequest: in `"number"` format, an amount that readers of JSON numbers would round; it names the field.
    """
    return _as_string(field, amount) if amount_format == "string" else _as_number(field, amount)


class _Payment(msgspec.Struct, omit_defaults=True):
    """What makes a payment this payment, in the order of the alphabet: absent fields left out, amounts without zeros at their end."""

    address: str | None = None
    amount: str | None = None
    amount_to: str | None = None
    convert_to: str | None = None
    currency: str | None = None
    end_user_reference: str | None = None
    foreign_id: str | None = None
    receiver_data: Any = None
    receiver_type: str | None = None
    sender_data: Any = None
    sender_type: str | None = None
    tag: str | None = None


_encode_payment = msgspec.json.Encoder(order="deterministic").encode


def _payment(request: WithdrawalRequest) -> _Payment:
    return _Payment(
        request.address,
        None if request.amount is None else normal(request.amount),
        None if request.amount_to is None else normal(request.amount_to),
        request.convert_to,
        request.currency,
        request.end_user_reference,
        request.foreign_id,
        request.receiver_data,
        request.receiver_type,
        request.sender_data,
        request.sender_type,
        request.tag,
    )


def is_same_payment(one: WithdrawalRequest, other: WithdrawalRequest) -> bool:
    """Compare field by field: amounts as decimals, ids as text, never byte by byte."""
    return one is other or _payment(one) == _payment(other)


def differing(one: WithdrawalRequest, other: WithdrawalRequest) -> tuple[str, ...]:
    """Return the names of the fields that make them two payments, in the order of the alphabet."""
    first, second = _payment(one), _payment(other)
    return tuple(name for name in _Payment.__struct_fields__ if getattr(first, name) != getattr(second, name))


def digest(request: WithdrawalRequest) -> str:
    """Return a digest, equal for equal payments however they were written.

    It is `1:` (its version) and 64 hexadecimal digits.
    """
    return f"1:{hashlib.sha256(_encode_payment(_payment(request))).hexdigest()}"


def normal(amount: Decimal) -> str:
    """Return the amount as a plain decimal without zeros at its end, equal for equal amounts."""
    text = plain(amount)
    return text.rstrip("0").rstrip(".") if "." in text else text


_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
"""Some servers write it before JSON, which has no use for it; a signature covers it all the same."""


def read_json(body: bytes) -> Any:
    """Return what the bytes say in JSON, decimals exact; `UNREADABLE` where they say nothing."""
    try:
        return _decode(body.removeprefix(_BYTE_ORDER_MARK))
    except (ValueError, RecursionError, InvalidOperation):
        return UNREADABLE


class _Shown(msgspec.Struct, forbid_unknown_fields=True):
    """A withdrawal in a reply just as AlphaPo's page shows it."""

    id: msgspec.Raw
    foreign_id: str | None = None
    end_user_reference: str | None = None
    type: str | None = None
    status: str | None = None
    amount: str | None = None
    sender_amount: str | None = None
    sender_currency: str | None = None
    receiver_currency: str | None = None
    receiver_amount: str | None = None


class _Reply(msgspec.Struct, forbid_unknown_fields=True):
    data: _Shown


_decode_reply = msgspec.json.Decoder(_Reply).decode
_USUAL_ID = re.compile(rb"[1-9]\d{0,17}").fullmatch


def read_reply(body: bytes) -> Withdrawal | None:
    """Return the withdrawal that a reply to a body names in its `data`; None if it names none.

    Source: https://docs.alphapo.net/api-reference/endpoints/withdrawal-crypto
    """
    try:
        shown = _decode_reply(body).data
    except (ValueError, RecursionError):
        shown = None
    if shown is not None and _USUAL_ID(shown.id):
        return _read_usual(shown)
    content = read_json(body)
    data = content.get("data") if isinstance(content, dict) else None
    return read_withdrawal(data) if isinstance(data, dict) else None


def _read_usual(shown: _Shown) -> Withdrawal:
    """Read what looks as it usually does: of equal figures only one has to be read."""
    amount = amount_of(shown.amount)
    return Withdrawal(
        id=int(bytes(shown.id)),
        foreign_id=shown.foreign_id,
        end_user_reference=shown.end_user_reference,
        type=shown.type,
        status=shown.status,
        amount=amount,
        sender_amount=amount if shown.sender_amount == shown.amount else amount_of(shown.sender_amount),
        sender_currency=shown.sender_currency,
        receiver_currency=shown.receiver_currency,
        receiver_amount=amount if shown.receiver_amount == shown.amount else amount_of(shown.receiver_amount),
    )


def read_withdrawal(data: dict[str, Any], source: Source = "reply") -> Withdrawal | None:
    """Return the withdrawal that `data` names, or None if it names none (no `id`)."""
    name = _id(data.get("id"))
    if name is None:
        return None
    return Withdrawal(
        id=name,
        foreign_id=text_of(data.get("foreign_id")),
        end_user_reference=text_of(data.get("end_user_reference")),
        type=text_of(data.get("type")),
        status=text_of(data.get("status")),
        amount=amount_of(data.get("amount")),
        sender_amount=amount_of(data.get("sender_amount")),
        sender_currency=text_of(data.get("sender_currency")),
        receiver_currency=text_of(data.get("receiver_currency")),
        receiver_amount=amount_of(data.get("receiver_amount")),
        has_numbers=_has_numbers(data),
        source=source,
    )


def read_transaction(data: Any) -> Transaction | None:
    """Return the transaction that `data` names, or None if it names none (no object, or no `id`)."""
    name = _id(data.get("id")) if isinstance(data, dict) else None
    if name is None:
        return None
    return Transaction(
        id=name,
        foreign_id=text_of(data.get("foreign_id")),
        end_user_reference=text_of(data.get("end_user_reference")),
        type=text_of(data.get("type")),
        status=text_of(data.get("status")),
        crypto_address=_address(data.get("crypto_address")),
        currency_sent=_some(Money, data.get("currency_sent")),
        currency_received=_some(Money, data.get("currency_received")),
        transactions=_all(TransactionPart, data.get("transactions")),
        fees=_all(Fee, data.get("fees")),
        error=text_of(data.get("error")) or None,
        has_numbers=any(map(_has_numbers, _with_figures(data))),
    )


def read_balances(body: bytes) -> dict[str, Decimal] | None:
    """Return the balance of every currency, or None where the bytes hold no list of accounts.

    Source: https://docs.cryptoprocessing.com/api-reference/openapi.yaml (`/accounts/list`)
    """
    content = read_json(body)
    accounts = content.get("data") if isinstance(content, dict) else None
    if not isinstance(accounts, list):
        return None
    balances = {
        text_of(one.get("currency")): amount_of(one.get("balance")) for one in accounts if isinstance(one, dict)
    }
    return {currency: balance for currency, balance in balances.items() if currency and balance is not None}


def _address(data: Any) -> CryptoAddress | None:
    address = _some(CryptoAddress, data)
    return address and msgspec.structs.replace(address, tag_is_given="tag" in data)


_Value = TypeVar("_Value", Money, CryptoAddress, TransactionPart, Fee)
_FIGURES = frozenset({"amount", "amount_to", "amount_minus_fee"})
_ALL_FIGURES = _FIGURES | {"sender_amount", "receiver_amount"}


def _has_numbers(data: Any) -> bool:
    """A figure of this object is a JSON number."""
    return isinstance(data, dict) and any(
        isinstance(data.get(name), int | Decimal) and not isinstance(data[name], bool) for name in _ALL_FIGURES
    )


def _with_figures(data: dict[str, Any]) -> list[Any]:
    """Return the parts of a transaction that have figures."""
    listed = [one for name in ("transactions", "fees") if isinstance(one := data.get(name), list)]
    return [data.get("currency_sent"), data.get("currency_received"), *itertools.chain(*listed)]


def _some(kind: type[_Value], data: Any) -> _Value | None:
    if not isinstance(data, dict):
        return None
    names = (name for name in kind.__struct_fields__ if name in data and name != "tag_is_given")
    return kind(**{name: _field(name, data[name]) for name in names})


def _all(kind: type[_Value], data: Any) -> tuple[_Value, ...]:
    values = data if isinstance(data, list) else []
    return tuple(value for item in values if (value := _some(kind, item)) is not None)


def _field(name: str, value: Any) -> Any:
    if name in _FIGURES:
        return amount_of(value)
    return _id(value) if name == "id" else text_of(value)


def _id(value: Any) -> int | str | None:
    if isinstance(value, bool) or not isinstance(value, int | str):
        return None
    return None if value == "" else value


def text_of(value: Any) -> str | None:
    """Return a text or a number as text; None for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, int | Decimal) and not isinstance(value, bool):
        return str(value)
    return None


def amount_of(value: Any) -> Decimal | None:
    """Return the figure; NaN for anything that is given but is no finite number; None for what is not given."""
    if value is None:
        return None
    if isinstance(value, str):
        return Decimal(value) if FIGURE.fullmatch(value) else Decimal("NaN")
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        return Decimal("NaN")
    figure = Decimal(value)
    return figure if figure.is_finite() else Decimal("NaN")
