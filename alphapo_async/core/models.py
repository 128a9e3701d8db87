"""What is requested from AlphaPo, and what AlphaPo shows: plain frozen values in AlphaPo's own words.

A `WithdrawalRequest` checks itself when it is made and names every problem at once, so that every request that reaches the wire
is well formed. What comes back is taken as it comes: any field may be missing (`None`), and a figure that is no finite
number is kept as `Decimal("NaN")`.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from decimal import Decimal
from typing import TYPE_CHECKING, Any, Literal, cast
from uuid import UUID

import msgspec
from msgspec.structs import force_setattr

from alphapo_async.core.errors import InvalidRequest, Status
from alphapo_async.core.field_docs import with_field_docs
from alphapo_async.core.parties import ROLES, problems_of_party
from alphapo_async.core.texts import problem_of_address, problem_of_id, problem_of_text, shown

__all__ = [
    "CryptoAddress",
    "Fee",
    "Health",
    "Money",
    "Source",
    "Totals",
    "Transaction",
    "TransactionPart",
    "Withdrawal",
    "WithdrawalRequest",
    "figure_of",
    "foreign_id_text",
    "has_conversion",
    "is_on_xrp_ledger",
    "recorded_request",
    "request_of",
    "requested_figure",
]

Source = Literal["reply", "look-up", "callback", "journal"]
"""Where a withdrawal was seen last."""

ENDED = frozenset({"cancelled", "declined"})
"""AlphaPo ended it and no money moved (https://docs.alphapo.net/withdrawals/statuses)."""
FINAL = ENDED | {"confirmed"}
"""Nothing more will happen to it (https://docs.alphapo.net/api-reference/about-transaction-statuses)."""

KNOWN = FINAL | {"processing", "not_confirmed", "pending"}
"""All statuses that AlphaPo documents for its API (https://docs.alphapo.net/withdrawals/statuses); it may add others."""

_LONGEST = 255  # digits of a figure when it is written out
_E_MAIL = re.compile(r"[^@\s]+@[^@\s]+\.[^@\s]+")
_BITS = 1_000  # an int with more of them has too many digits for any field, and so many that writing it may be refused
FIGURE = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d{1,4})?", re.ASCII)
"""A decimal number in text; `Decimal` itself would take `1_000`, ` 1` and digits of any script."""
_XRP_LEDGER = frozenset({"XRP", "CSC"})
"""Currencies of the XRP Ledger, where exchanges distinguish their users by a destination tag."""
_HIGHEST_TAG = 4_294_967_295
"""A destination tag is an unsigned integer of 32 bits (https://xrpl.org/docs/references/protocol/transactions/types/payment)."""
_is_plain_integer = re.compile(r"0|[1-9]\d{0,9}", re.ASCII).fullmatch
_is_x_address = re.compile(r"[XT][1-9A-HJ-NP-Za-km-z]{46}").fullmatch
"""Address and tag packed into one text (https://github.com/XRPLF/XRPL-Standards/discussions/6)."""


class WithdrawalRequest(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One payment out, as you ask for it.

    Fields and their meaning: https://docs.alphapo.net/api-reference/withdrawal/withdraw-crypto

    Args:
        currency: the balance to debit, an AlphaPo currency code such as `"BTC"` or `"USDTT"`.
        address: where the money goes.
        foreign_id: your unique name for this withdrawal and AlphaPo's idempotency key; str, int or UUID, kept as text.
        end_user_reference: your lasting internal id of the user; no personal data.
        amount: in `currency`; Decimal, str or int, never a float. Exactly one of `amount` and `amount_to`.
        amount_to: in `convert_to`, what shall arrive.
        convert_to: the currency to pay out in; left out, nothing is converted.
        tag: destination tag or memo. For a currency of the XRP Ledger (XRP, CSC) a whole number from 0 to 4294967295.
        without_tag: no tag is wanted, on purpose; a currency of the XRP Ledger needs `tag` or this. It is not sent.
        sender_type: `natural` or `legal`; sent only when given, like the next three, which AlphaPo's sibling alone documents
            (https://docs.cryptoprocessing.com/api-reference/endpoints/withdrawal-crypto).
        sender_data: who sends; required with `sender_type`. `natural`: `first_name`, `last_name`, `date_of_birth` (`1990-12-31`);
            `legal`: `legal_name`, `country_of_registration` (three letters, `DEU`).
        receiver_type: `natural`, `legal` or `self` (a transfer within a company).
        receiver_data: who receives, with the same parts.
        allow_personal_reference: lets an e-mail address pass as `end_user_reference`.

    Raises:
        InvalidRequest: with every problem at once; nothing was sent.
    """

    currency: str = ""
    address: str = ""
    foreign_id: str = ""
    end_user_reference: str = ""
    amount: Decimal | None = None
    amount_to: Decimal | None = None
    convert_to: str | None = None
    tag: str | None = None
    without_tag: bool = False
    sender_type: str | None = None
    sender_data: Mapping[str, Any] | None = None
    receiver_type: str | None = None
    receiver_data: Mapping[str, Any] | None = None
    allow_personal_reference: bool = False

    if TYPE_CHECKING:
        # What the constructor takes is wider than what the attributes hold.
        def __init__(
            self,
            *,
            currency: str,
            address: str,
            foreign_id: str | int | UUID,
            end_user_reference: str,
            amount: Decimal | str | int | None = None,
            amount_to: Decimal | str | int | None = None,
            convert_to: str | None = None,
            tag: str | int | None = None,
            without_tag: bool = False,
            sender_type: str | None = None,
            sender_data: Mapping[str, Any] | None = None,
            receiver_type: str | None = None,
            receiver_data: Mapping[str, Any] | None = None,
            allow_personal_reference: bool = False,
        ) -> None: ...

    def __post_init__(self) -> None:
        if _is_plain(self):
            return
        problems: dict[str, str] = {}
        _take_texts(self)
        _check_texts(self, problems)
        _take_amounts(self, problems)
        _take_parties(self, problems)
        _check_parties(self, problems)
        if problems:
            raise InvalidRequest(problems, None if "foreign_id" in problems else str(self.foreign_id))

    def __hash__(self) -> int:
        # Equal requests have equal hashes; sender_data and receiver_data are mappings, which have none.
        return hash((self.foreign_id, self.currency, self.address, self.amount, self.amount_to, self.convert_to))

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self.__rich_repr__())
        return f"WithdrawalRequest({fields})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        # Names and birthdays of sender and receiver stay out of logs.
        shown = ("foreign_id", "currency", "amount", "amount_to", "convert_to", "address", "tag")
        return [(name, str(value)) for name in shown if (value := getattr(self, name)) is not None]


def requested_figure(request: WithdrawalRequest) -> tuple[Decimal, str]:
    """Return the figure asked for and its currency: `amount` in `currency`, or `amount_to` in `convert_to`."""
    if request.amount is not None:
        return request.amount, request.currency
    assert request.amount_to is not None  # noqa: S101 - exactly one of the two is given: checked at construction
    assert request.convert_to is not None  # noqa: S101 - likewise
    return request.amount_to, request.convert_to


def has_conversion(request: WithdrawalRequest) -> bool:
    """Return whether another currency is paid out than the one that is debited."""
    return request.convert_to not in (None, request.currency)


def is_on_xrp_ledger(request: WithdrawalRequest) -> bool:
    """Return whether what arrives is a currency of the XRP Ledger."""
    return str(request.convert_to or request.currency).upper() in _XRP_LEDGER


def request_of(item: object) -> WithdrawalRequest:
    """Return the request that this is, or that a mapping of its fields makes.

    In a mapping an empty text or None is an absent field, as every CSV reader and web form means it, and `true` and `false` may be texts.

    Raises:
        InvalidRequest: with every problem at once, fields that do not exist included.
    """
    if isinstance(item, WithdrawalRequest):
        return item
    if not isinstance(item, Mapping):
        raise InvalidRequest({"request": f"must be a WithdrawalRequest or a mapping, not {type(item).__name__}."})
    fields = {name: _read(name, value) for name, value in item.items() if name in _FIELDS and not _is_absent(value)}
    problems = {str(name): "is no field of a withdrawal request." for name in item if name not in _FIELDS}
    try:
        request = WithdrawalRequest(**fields)
    except InvalidRequest as error:
        raise InvalidRequest({**error.problems, **problems}, error.foreign_id) from None
    if problems:
        raise InvalidRequest(problems, request.foreign_id)
    return request


def recorded_request(fields: Mapping[str, Any]) -> WithdrawalRequest:
    """Return the request of a recorded body, given its fields.

    It was checked when it was made. It is not checked again: rules that have become stricter since, or an older table of Unicode, must not
    keep a row from being read.
    """
    request = copy.copy(_BLANK)
    for name, value in fields.items():
        force_setattr(request, name, Decimal(value) if name in _AMOUNTS else value)
    force_setattr(request, "without_tag", "tag" not in fields)
    return request


def _is_absent(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value)


def _read(name: str, value: Any) -> Any:
    is_flag = name in _FLAGS and isinstance(value, str)
    return _BOOLEANS.get(str(value).lower(), value) if is_flag else value


_FIELDS = frozenset(WithdrawalRequest.__struct_fields__)
_AMOUNTS = frozenset({"amount", "amount_to"})
_FLAGS = ("without_tag", "allow_personal_reference")
_BOOLEANS = {"true": True, "false": False}
_REQUIRED_TEXTS = ("currency", "address", "foreign_id", "end_user_reference")
_OPTIONAL_TEXTS = ("convert_to", "sender_type", "receiver_type")


_PLAIN_TEXT = re.compile(r"[!-?A-~]{1,255}").fullmatch  # no blanks, and no @
_PLAIN_FIGURE = re.compile(r"\d{1,40}(\.\d{1,40})?", re.ASCII).fullmatch


def _is_plain(request: WithdrawalRequest) -> bool:
    """Tell whether it is what most are, with nothing in it that needs a closer look; then its amount is kept as a decimal."""
    amount: object = request.amount
    if not (
        (type(amount) is str or type(amount) is Decimal)
        and _PLAIN_FIGURE(str(amount))
        and request.amount_to is None
        and request.convert_to is None
        and request.tag is None
        and request.without_tag is False
        and request.sender_type is None
        and request.sender_data is None
        and request.receiver_type is None
        and request.receiver_data is None
        and request.allow_personal_reference is False
    ):
        return False
    for text in (request.currency, request.address, request.foreign_id, request.end_user_reference):
        if type(text) is not str or not _PLAIN_TEXT(text):
            return False
    if is_on_xrp_ledger(request):
        return False
    if type(amount) is str:
        force_setattr(request, "amount", Decimal(amount))
    return True


def _take_texts(request: WithdrawalRequest) -> None:
    """Keep an int or UUID as the text it is written as, and an enumeration's text as mere text."""
    for name in ("foreign_id", "tag"):
        force_setattr(request, name, _text_of_number(getattr(request, name)))
    for name in (*_REQUIRED_TEXTS, *_OPTIONAL_TEXTS, "tag"):
        value = getattr(request, name)
        if isinstance(value, str) and type(value) is not str:
            force_setattr(request, name, str.__str__(value))


def _text_of_number(value: object) -> object:
    """Return an int or UUID as the text it is written as; anything else as it is."""
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() <= _BITS:
        return str(int(value))  # of a member of an enumeration the number, and not the name
    return str(value) if isinstance(value, UUID) else value


def foreign_id_text(foreign_id: object) -> str:
    """Return a foreign_id as the text that AlphaPo knows it by.

    Raises:
        InvalidRequest: no withdrawal can have it.
    """
    text = _text_of_number(foreign_id)
    if problem := problem_of_id(text):
        raise InvalidRequest({"foreign_id": problem})
    return str.__str__(cast("str", text))


_IDS = ("foreign_id", "end_user_reference")


def _check_texts(request: WithdrawalRequest, problems: dict[str, str]) -> None:
    for name in _REQUIRED_TEXTS + _OPTIONAL_TEXTS:
        value = getattr(request, name)
        if value is None and name in _OPTIONAL_TEXTS:
            continue
        check = problem_of_id if name in _IDS else problem_of_address if name == "address" else problem_of_text
        if problem := check(value):
            problems[name] = problem
    _check_reference(request, problems)
    for name in _FLAGS:
        if not isinstance(getattr(request, name), bool):
            problems[name] = "must be true or false."
    if problem := _problem_of_tag(request):
        problems["tag"] = problem
    if is_on_xrp_ledger(request) and "address" not in problems and _is_x_address(request.address):
        problems["address"] = f"{shown(request.address)} is an X-address: give the classic address (r…), and its tag."


def _check_reference(request: WithdrawalRequest, problems: dict[str, str]) -> None:
    reference = request.end_user_reference
    if (
        "end_user_reference" not in problems
        and "@" in reference
        and not request.allow_personal_reference
        and _E_MAIL.fullmatch(reference)
    ):
        problems["end_user_reference"] = (
            "looks like an e-mail address; send an internal id, or set allow_personal_reference=True."
        )


def _problem_of_tag(request: WithdrawalRequest) -> str | None:
    tag: object = request.tag
    if tag is None:
        is_missing = is_on_xrp_ledger(request) and not request.without_tag
        return _TAG_IS_MISSING if is_missing else None
    if tag == "":
        return "is empty: leave it out, and where none is wanted, without_tag=True says that."
    if request.without_tag:
        return "is given together with without_tag: give one of the two."
    is_number = isinstance(tag, str) and _is_plain_integer(tag) and int(tag) <= _HIGHEST_TAG
    if is_number or not isinstance(tag, str) or not is_on_xrp_ledger(request):
        return problem_of_text(tag)
    return (
        f"{shown(tag)} is no tag of the XRP Ledger: write a whole number from 0 to {_HIGHEST_TAG} in plain digits, "
        "without leading zeros."
    )


_TAG_IS_MISSING = (
    "is missing: money sent on the XRP Ledger to an exchange without a tag can be lost; "
    "without_tag=True says that none is wanted."
)


def _take_amounts(request: WithdrawalRequest, problems: dict[str, str]) -> None:
    """Keep figures as plain decimals; exactly one of the two, and `amount_to` only together with `convert_to`."""
    given = [name for name in ("amount", "amount_to") if getattr(request, name) is not None]
    for name in given:
        figure = figure_of(getattr(request, name))
        if isinstance(figure, str):
            problems[name] = figure
        else:
            force_setattr(request, name, figure)
    if not given:
        problems["amount"] = "is required: give exactly one of amount and amount_to."
    elif len(given) > 1:
        problems["amount_to"] = "cannot be given together with amount: give exactly one of the two."
    if request.amount_to is not None and request.convert_to is None:
        problems["convert_to"] = "is required with amount_to, which is counted in it."


def figure_of(value: object) -> Decimal | str:
    """Return the figure as a decimal that can be written plainly, or the problem."""
    if isinstance(value, float):
        return f"is a float, which cannot hold most decimals exactly; write Decimal({str(value)!r})."
    if isinstance(value, bool) or not isinstance(value, Decimal | str | int):
        return f"must be a Decimal, str or int, not {type(value).__name__}."
    if isinstance(value, str) and not FIGURE.fullmatch(value):
        return f"{shown(value)} is not a decimal number."
    figure = Decimal(value)
    if problem := _problem_of_figure(figure):
        return f"{shown(value if isinstance(value, str) else str(figure))} {problem}"
    return figure.copy_abs()


def _problem_of_figure(figure: Decimal) -> str | None:
    if not figure.is_finite():
        return "is not a finite number."
    if figure < 0:
        return "is negative."
    exponent = figure.as_tuple().exponent
    if max(figure.adjusted(), 0) + 1 - min(int(exponent), 0) > _LONGEST:
        return f"has more than {_LONGEST} digits when written out."
    return None


def _take_parties(request: WithdrawalRequest, problems: dict[str, str]) -> None:
    """Copy sender_data and receiver_data, so that a later change of the caller's objects has no effect here."""
    for name in ("sender_data", "receiver_data"):
        value = getattr(request, name)
        if value is None:
            continue
        if not isinstance(value, Mapping):
            problems[name] = f"must be a mapping, not {type(value).__name__}."
            continue
        try:
            if _has_no_order(value):
                problems[name] = "holds a set, which has no order in JSON: make it a list."
                continue
            json.dumps(msgspec.to_builtins(dict(value), str_keys=True), allow_nan=False)  # msgspec writes NaN as null
            force_setattr(request, name, msgspec.json.decode(msgspec.json.encode(dict(value))))
        except (TypeError, ValueError, RecursionError):
            problems[name] = "holds something that JSON cannot say."


def _check_parties(request: WithdrawalRequest, problems: dict[str, str]) -> None:
    for role in ROLES:
        names = (f"{role}_type", f"{role}_data")
        if problems.keys().isdisjoint(names):
            problems |= problems_of_party(role, *(getattr(request, name) for name in names))


def _has_no_order(value: object) -> bool:
    """Return whether a set is in it: its order, and so the bytes to sign, would change from process to process."""
    if isinstance(value, AbstractSet):
        return True
    if isinstance(value, Mapping):
        return any(map(_has_no_order, value.values()))
    if isinstance(value, list | tuple):
        return any(map(_has_no_order, value))
    # What msgspec writes as an object: its own structs, data classes and classes of attrs.
    kind: Any = type(value)
    names = getattr(kind, "__struct_fields__", None) or getattr(kind, "__dataclass_fields__", ())
    names = names or [each.name for each in getattr(kind, "__attrs_attrs__", ())]
    return any(_has_no_order(getattr(value, name, None)) for name in names)


_BLANK = WithdrawalRequest(
    currency="BTC", address="x", foreign_id="x", end_user_reference="x", amount="1", allow_personal_reference=True
)
force_setattr(_BLANK, "amount", None)


@with_field_docs
class Money(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """A figure and its currency."""

    currency: str | None = None
    """An AlphaPo currency code."""
    amount: Decimal | None = None
    """In `currency`, in whole units: BTC, not satoshi."""
    amount_minus_fee: Decimal | None = None
    """What is left of `amount` without a fee, in `currency`; given for `currency_received` alone, and not always."""


@with_field_docs
class CryptoAddress(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """Where a transaction went. `tag_is_given` distinguishes "no tag" from "no word about a tag"."""

    id: int | str | None = None
    """AlphaPo's number of the address."""
    currency: str | None = None
    """What the address takes."""
    address: str | None = None
    """Of the receiver."""
    tag: str | None = None
    """Destination tag or memo."""
    tag_is_given: bool = False
    """AlphaPo gave a tag, or null: a `tag` of None then means that there is none."""
    convert_to: str | None = None
    """The currency converted to, where AlphaPo gives one."""


@with_field_docs
class TransactionPart(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One entry of `transactions`; select by `transaction_type`, for their order differs between AlphaPo's pages."""

    id: int | str | None = None
    """AlphaPo's number of the entry, not of the transaction."""
    currency: str | None = None
    """Of `amount`."""
    transaction_type: str | None = None
    """`blockchain`, `internal` or `exchange`."""
    type: str | None = None
    """Such as `withdrawal` or `exchange`."""
    address: str | None = None
    """Of the receiver; not with `exchange`."""
    tag: str | None = None
    """Destination tag or memo; not with `exchange`."""
    amount: Decimal | None = None
    """In `currency`."""
    txid: str | None = None
    """Its name on the blockchain, None until it has one."""
    confirmations: str | None = None
    """On the blockchain, as AlphaPo writes the number; `confirmed` does not wait for any."""
    currency_to: str | None = None
    """With `exchange`: what was bought."""
    amount_to: Decimal | None = None
    """With `exchange`: in `currency_to`."""
    riskscore: str | None = None
    """AlphaPo's rating of the address, as AlphaPo writes it; only with `blockchain`, and its scale is not documented."""


@with_field_docs
class Fee(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One entry of `fees`."""

    type: str | None = None
    """What it was taken for, such as `mining` or `withdrawal`."""
    currency: str | None = None
    """Of `amount`; the chain's own coin for the mining fee of a token."""
    amount: Decimal | None = None
    """In `currency`."""


@with_field_docs
class Transaction(msgspec.Struct, frozen=True, gc=False, kw_only=True, repr_omit_defaults=True):
    """What AlphaPo answers to a look-up, and sends in a callback. What it does not give is `None`.

    Source: https://docs.alphapo.net/api-reference/transactions/fetch-transaction-metadata
    """

    id: int | str
    """AlphaPo's number of the transaction, the same as `Withdrawal.id`."""
    foreign_id: str | None = None
    """Yours, as text."""
    end_user_reference: str | None = None
    """Yours; given only where AlphaPo was given data on the user."""
    type: str | None = None
    """`withdrawal`, `withdrawal_exchange`, `exchange` or `deposit`; others may come."""
    status: Status | None = None
    """`processing`, `not_confirmed`, `pending`, `confirmed`, `cancelled` or `declined`; others may come. `processing` is reported as
    `not_confirmed` in a look-up."""
    crypto_address: CryptoAddress | None = None
    """Where it goes."""
    currency_sent: Money | None = None
    """What the merchant's balance gave, in its own currency."""
    currency_received: Money | None = None
    """What the receiver gets, in the currency that is paid out."""
    transactions: tuple[TransactionPart, ...] = ()
    """Its parts: the one on the blockchain, and the exchange where there was one."""
    fees: tuple[Fee, ...] = ()
    """Known only once it was sent."""
    error: str | None = None
    """Why it was cancelled or declined, in AlphaPo's words; empty where all is well."""
    has_numbers: bool = False
    """AlphaPo wrote a figure as a JSON number, which may have the noise of a double: 0.0015000000000000001 for 0.0015."""

    @property
    def is_final(self) -> bool:
        """Nothing more will happen: `confirmed`, `cancelled` or `declined`."""
        return self.status in FINAL

    @property
    def blockchain(self) -> TransactionPart | None:
        """The entry that went, or will go, to a blockchain."""
        return next((part for part in self.transactions if part.transaction_type == "blockchain"), None)

    @property
    def txids(self) -> tuple[str, ...]:
        """The names of the blockchain transactions, where AlphaPo gives them."""
        return tuple(part.txid for part in self.transactions if part.txid)


@with_field_docs
class Withdrawal(msgspec.Struct, frozen=True, gc=False, kw_only=True, repr_omit_defaults=True):
    """A withdrawal that AlphaPo has. What its source does not give is `None`.

    Source: https://docs.alphapo.net/api-reference/endpoints/withdrawal-crypto
    """

    id: int | str | None
    """AlphaPo's number of the transaction; None where an operator settled it without."""
    foreign_id: str | None = None
    """Yours, as text."""
    end_user_reference: str | None = None
    """Yours."""
    type: str | None = None
    """`withdrawal`, or `withdrawal_exchange` with a conversion; others may come."""
    status: Status | None = None
    """`processing`, `not_confirmed`, `pending`, `confirmed`, `cancelled` or `declined`; others may come."""
    amount: Decimal | None = None
    """As AlphaPo's reply repeats it. With a conversion AlphaPo does not document in which currency: look at the two below."""
    sender_amount: Decimal | None = None
    """What the balance gives, in `sender_currency`."""
    sender_currency: str | None = None
    """The balance's."""
    receiver_currency: str | None = None
    """What is paid out; another than `sender_currency` with a conversion."""
    receiver_amount: Decimal | None = None
    """What the receiver gets, in `receiver_currency`."""
    has_numbers: bool = False
    """AlphaPo wrote a figure as a JSON number, which may have the noise of a double: 0.0015000000000000001 for 0.0015."""
    source: Source = "reply"
    """Where it was seen last; `journal`: it was known before, and AlphaPo was not asked."""

    @property
    def is_final(self) -> bool:
        """Nothing more will happen: AlphaPo shows `confirmed`, `cancelled` or `declined`."""
        return self.status in FINAL


@with_field_docs
class Totals(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What became of all that was asked in one currency, to the last decimal.

    `requested == open + accepted + failed + rejected + not_sent + unknown + conflict`, at every moment.
    `open` is under way; `unknown` is open too, but an attempt may have arrived; a refused key counts as `not_sent`.
    """

    requested: Decimal = Decimal(0)
    """All that was asked for, in the currency of the request (`convert_to` with `amount_to`), like the rest."""
    open: Decimal = Decimal(0)
    """Under way, or waiting to be sent; nothing that may have arrived."""
    accepted: Decimal = Decimal(0)
    """AlphaPo has it, final or not."""
    failed: Decimal = Decimal(0)
    """AlphaPo had it and ended it."""
    rejected: Decimal = Decimal(0)
    """AlphaPo refused it."""
    not_sent: Decimal = Decimal(0)
    """It never arrived, or the key was refused."""
    unknown: Decimal = Decimal(0)
    """An attempt may have arrived, and nothing proves it yet."""
    conflict: Decimal = Decimal(0)
    """The foreign_id is another payment's."""


@with_field_docs
class Health(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """How a client is doing: for alarms and dashboards. Times are seconds since the epoch."""

    account: str
    """The client's account."""
    at: float
    """When it was asked."""
    in_flight: int
    """Withdrawals that this client is working on now."""
    retry_budget_left: float
    """Retries and look-ups that may leave at once, from 0 to 100; it refills by itself and with every readable answer."""
    is_outage: bool
    """AlphaPo gives no readable answers: withdrawals leave only as probes, one at a time."""
    oldest_open_at: float | None
    """When the oldest withdrawal was asked for that is not settled; None if all are. Over all clients of the account."""
    oldest_doubt_at: float | None
    """Since when the oldest doubt lasts, among the 1,000 oldest open withdrawals; None if there is none."""
    frozen: int
    """Open withdrawals that no worker sends since the journal went back in time; see `alphapo runbook failover`."""
    has_lease: bool = True
    """The client may send: its lease runs. A worker without one sends nothing, and tries to get one."""
    failing: tuple[str, ...] = ()
    """Background tasks that have failed 10 times in a row or more; the log has their tracebacks."""

    @property
    def is_ready(self) -> bool:
        """What `/readyz` answers, without asking the journal: the lease runs, and no background task fails again and again."""
        return self.has_lease and not self.failing
