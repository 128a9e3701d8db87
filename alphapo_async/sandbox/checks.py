"""What AlphaPo checks in a request before it looks at its books: key, signature, JSON and the fields of a withdrawal.

Texts and codes: https://docs.cryptoprocessing.com/api-reference/errors (the four 403 codes and `bad_content_format`) and
https://github.com/coinspaid/docs, api-documentation (the texts for fields). AlphaPo's own texts for V2 withdrawals are not published.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, TypeAlias

import msgspec

from alphapo_async.core.signer import Signer
from alphapo_async.sandbox import catalogue

__all__ = [
    "AuthenticationProblem",
    "Errors",
    "ExchangeFields",
    "NotJson",
    "WithdrawalFields",
    "authentication_problem",
    "check_exchange",
    "check_withdrawal",
    "read_object",
    "spell",
    "text_of",
]

Errors: TypeAlias = dict[str, str]
"""What is wrong with each field."""

MAGIC_UNSUPPORTED = "unsupported"
"""An address that is refused at once. The text is the one of V1 (https://github.com/coinspaid/docs)."""

_LONGEST = 255
_MOST_DIGITS = 30
_FIGURE = re.compile(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d{1,3})?", re.ASCII)


class NotJson(Exception):
    """The bytes are no JSON."""


class AuthenticationProblem(msgspec.Struct, frozen=True):
    """Why a request is not let in, as documented."""

    code: str
    error: str


NO_KEY = AuthenticationProblem("required_header_key", "No key header")
BAD_KEY = AuthenticationProblem("bad_header_key", "Bad key header")
NO_SIGNATURE = AuthenticationProblem("required_header_signature", "No signature header")
BAD_SIGNATURE = AuthenticationProblem("bad_header_signature", "Bad signature header")


class WithdrawalFields(msgspec.Struct, frozen=True, kw_only=True):
    """A withdrawal that passed the checks of its fields."""

    foreign_id: str | int
    """As sent: AlphaPo documents its type as "any"."""
    currency: str
    address: str
    end_user_reference: str
    amount: Decimal | None
    amount_to: Decimal | None
    convert_to: str | None
    tag: str | None

    @property
    def receiver_currency(self) -> str:
        """What the receiver gets."""
        return self.convert_to or self.currency


def authentication_problem(
    signers: Mapping[str, Signer], key: str | None, signature: str | None, body: bytes
) -> AuthenticationProblem | None:
    """Return why these headers do not let this body in, or None.

    Source: https://docs.alphapo.net/api-reference/authentication and the four codes of
    https://docs.cryptoprocessing.com/api-reference/errors. In which order they are checked is not documented.
    """
    if not key:
        return NO_KEY
    if not signature:
        return NO_SIGNATURE
    signer = signers.get(key)
    if signer is None:
        return BAD_KEY
    return None if signer.is_genuine(body, signature) else BAD_SIGNATURE


def _figure(text: str) -> Decimal:
    try:
        return Decimal(text)
    except ArithmeticError:
        return Decimal("NaN")


_decoder = msgspec.json.Decoder(float_hook=_figure)


def read_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in these bytes, figures exact; an array counts as an object without fields.

    Raises:
        Unreadable: the bytes are no JSON.
    """
    try:
        value = _decoder.decode(body)
    except (msgspec.MsgspecError, ValueError, RecursionError) as problem:
        raise NotJson from problem
    return value if isinstance(value, dict) else {}


def spell(foreign_id: Any) -> str:
    """Return a foreign_id as text: 5 and "5" are the same; what can be no foreign_id is ""."""
    return foreign_id if isinstance(foreign_id, str) else text_of(foreign_id) or ""


def text_of(value: Any) -> str | None:
    """Return a scalar that names something (a text or a whole number) as text, anything else as None."""
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else None


def check_withdrawal(
    fields: Mapping[str, Any],
    *,
    strings_only: bool = False,
    needs_reference: bool = True,
    minimums: Mapping[str, Decimal] = catalogue.MINIMUMS,
) -> WithdrawalFields | Errors:
    """Return the withdrawal that was asked for, or what is wrong with every field.

    Args:
        fields: the JSON object that was sent.
        strings_only: the dialect in which a foreign_id must be a string.
        needs_reference: the dialect in which an end_user_reference must be given.
        minimums: the least amount of each currency.
    """
    errors: Errors = {}
    foreign_id = _check_foreign_id(fields.get("foreign_id"), errors, strings_only=strings_only)
    currency = _check_text(fields, "currency", errors)
    address = _check_text(fields, "address", errors)
    has_reference = needs_reference or fields.get("end_user_reference") is not None
    reference = _check_text(fields, "end_user_reference", errors, longest=_LONGEST) if has_reference else ""
    convert_to = _check_optional(fields, "convert_to", errors)
    tag = _check_optional(fields, "tag", errors)
    amount, amount_to = _check_amounts(fields, errors)
    _check_currencies(currency, convert_to, errors, needs_target=amount_to is not None)
    _check_least("amount", amount, minimums.get(currency), errors)
    _check_least("amount_to", amount_to, minimums.get(convert_to or ""), errors)
    if address == MAGIC_UNSUPPORTED:
        errors["address"] = "Not supported address format."
    if errors:
        return errors
    return WithdrawalFields(
        foreign_id=foreign_id,
        currency=currency,
        address=address,
        end_user_reference=reference,
        amount=amount,
        amount_to=amount_to,
        convert_to=convert_to,
        tag=tag,
    )


def _words(name: str) -> str:
    return name.replace("_", " ")


def _required(name: str) -> str:
    return f"The {_words(name)} field is required."


def _check_foreign_id(value: Any, errors: Errors, *, strings_only: bool) -> str | int:
    if value is None or (isinstance(value, str) and not value.strip()):
        errors["foreign_id"] = _required("foreign_id")
        return ""
    if text_of(value) is None or (strings_only and not isinstance(value, str)):
        errors["foreign_id"] = "The foreign id must be a string."
        return ""
    named: str | int = value
    return named


def _check_text(fields: Mapping[str, Any], name: str, errors: Errors, longest: int | None = None) -> str:
    value = fields.get(name)
    if value is None or (isinstance(value, str) and not value.strip()):
        errors[name] = _required(name)
    elif not isinstance(value, str):
        errors[name] = f"The {_words(name)} must be a string."
    elif longest is not None and len(value) > longest:
        errors[name] = f"The {_words(name)} may not be greater than {longest} characters."
    else:
        return value
    return ""


def _check_optional(fields: Mapping[str, Any], name: str, errors: Errors) -> str | None:
    value = fields.get(name)
    if value is None or value == "":
        return None
    text = text_of(value)
    if text is None:
        errors[name] = f"The {_words(name)} must be a string."
    return text


def _check_amounts(fields: Mapping[str, Any], errors: Errors) -> tuple[Decimal | None, Decimal | None]:
    """Exactly one of the two may be given: https://docs.alphapo.net/api-reference/endpoints/withdrawal-crypto."""
    amount, amount_to = fields.get("amount"), fields.get("amount_to")
    if amount is None and amount_to is None:
        errors["amount"] = _required("amount")
    elif amount is not None and amount_to is not None:
        # That only one may be given is documented, the words for it are not.
        errors["amount"] = "Only one of amount and amount to may be present."
    return _check_figure("amount", amount, errors), _check_figure("amount_to", amount_to, errors)


def _check_figure(name: str, value: Any, errors: Errors) -> Decimal | None:
    if value is None:
        return None
    figure = _read_figure(value)
    if figure is None:
        errors[name] = f"The {_words(name)} must be a number."
    return figure


def _read_figure(value: Any) -> Decimal | None:
    """Read a figure from a JSON number or string: the schema says number, every current sample sends a string."""
    if isinstance(value, str):
        if len(value) > 4 * _MOST_DIGITS or not _FIGURE.fullmatch(value):
            return None
        value = Decimal(value)
    if isinstance(value, bool) or not isinstance(value, (int, Decimal)):
        return None
    figure = Decimal(value)
    if not figure.is_finite() or abs(figure.adjusted()) > _MOST_DIGITS:
        return None
    _sign, digits, exponent = figure.as_tuple()
    # More digits than any currency has: a limit of the sandbox, so that its arithmetic stays exact.
    return None if len(digits) > 2 * _MOST_DIGITS or -int(exponent) > _MOST_DIGITS else figure


def _check_currencies(currency: str, convert_to: str | None, errors: Errors, *, needs_target: bool) -> None:
    if currency and not catalogue.is_known(currency):
        errors["currency"] = "The selected currency is invalid."
    if convert_to is None and (needs_target or currency in catalogue.FIAT):
        errors.setdefault("convert_to", _required("convert_to"))
    if convert_to is not None and (not catalogue.is_known(convert_to) or convert_to in catalogue.FIAT):
        errors["convert_to"] = "The selected convert to is invalid."


def _check_least(name: str, figure: Decimal | None, least: Decimal | None, errors: Errors) -> None:
    if figure is not None and least is not None and figure < least:
        errors[name] = f"The {_words(name)} must be at least {least:f}."


class ExchangeFields(msgspec.Struct, frozen=True):
    """A question for a quote that passed the checks of its fields."""

    sender_currency: str
    receiver_currency: str
    sender_amount: Decimal | None
    receiver_amount: Decimal | None


def check_exchange(fields: Mapping[str, Any], minimums: Mapping[str, Decimal]) -> ExchangeFields | Errors:
    """Return the conversion that was asked for, or what is wrong with every field.

    Source: https://docs.alphapo.net/api-reference/exchange/calculate-the-exchange-rate; the text for an unknown pair is the one of
    https://github.com/coinspaid/docs.
    """
    errors: Errors = {}
    sender = _check_text(fields, "sender_currency", errors)
    receiver = _check_text(fields, "receiver_currency", errors)
    given = [name for name in ("sender_amount", "receiver_amount") if fields.get(name) is not None]
    if len(given) != 1:
        errors["sender_amount"] = "Exactly one of sender amount and receiver amount must be present."
    if not errors and (sender == receiver or not (catalogue.is_known(sender) and catalogue.is_known(receiver))):
        errors["sender_currency"] = "Exchange is unavailable for given currencies"
    sent, received = (_check_figure(name, fields.get(name), errors) for name in ("sender_amount", "receiver_amount"))
    _check_least("sender_amount", sent, minimums.get(sender), errors)
    return errors or ExchangeFields(sender, receiver, sent, received)
