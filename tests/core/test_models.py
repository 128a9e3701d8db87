import csv
import dataclasses
import io
from collections.abc import Mapping
from decimal import Decimal
from enum import Enum, IntEnum
from types import MappingProxyType
from typing import Any
from uuid import UUID

import attrs
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphapo_async.core.errors import InvalidRequest
from alphapo_async.core.models import (
    KNOWN,
    CryptoAddress,
    Health,
    Totals,
    Transaction,
    TransactionPart,
    Withdrawal,
    WithdrawalRequest,
    foreign_id_text,
    has_conversion,
    recorded_request,
    request_of,
    requested_figure,
)
from alphapo_async.core.texts import shown

GOOD: dict[str, Any] = {
    "currency": "BTC",
    "address": "bc1q9x",
    "amount": "0.0015",
    "foreign_id": "payout-17",
    "end_user_reference": "user-42",
}


def make(**changes: Any) -> WithdrawalRequest:
    """Return a good request with these changes."""
    return WithdrawalRequest(**(GOOD | changes))


def problems(**changes: Any) -> dict[str, str]:
    """Return what is wrong with a good request after these changes."""
    with pytest.raises(InvalidRequest) as caught:
        make(**changes)
    return caught.value.problems


# ── what is taken, and what it becomes ───────────────────────────────────────────────────────────────────────────────


def test_a_good_request_is_kept_as_asked() -> None:
    """What is given is kept letter for letter, and what is not given is absent."""
    request = make()
    assert (request.currency, request.address) == ("BTC", "bc1q9x")
    assert (request.foreign_id, request.end_user_reference) == ("payout-17", "user-42")
    assert (request.amount, request.amount_to, request.convert_to, request.tag) == (Decimal("0.0015"), None, None, None)
    assert (request.sender_type, request.sender_data) == (None, None)
    assert (request.receiver_type, request.receiver_data) == (None, None)


def test_a_request_cannot_be_changed() -> None:
    """What was checked is what will be sent."""
    with pytest.raises(AttributeError):
        make().amount = Decimal(2)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("given_amount", "kept"),
    [
        ("0.0015", "0.0015"),
        ("1.500", "1.500"),
        (Decimal("1.50"), "1.50"),
        (7, "7"),
        ("+2", "2"),
        ("2.", "2"),
        (".5", "0.5"),
        ("007", "7"),
        ("1E-8", "1E-8"),
        ("1e3", "1E+3"),
        (0, "0"),
        ("0.00", "0.00"),
        ("-0", "0"),
        (Decimal("-0.0"), "0.0"),
        (10**254, "1" + "0" * 254),
        (Decimal("1e254"), "1E+254"),
        ("0." + "1" * 254, "0." + "1" * 254),
    ],
)
def test_amounts_are_kept_as_exact_decimals(given_amount: Decimal | str | int, kept: str) -> None:
    """Text, int and Decimal become the same Decimal, every digit kept, zero allowed and without a sign."""
    amount = make(amount=given_amount).amount
    assert type(amount) is Decimal
    assert str(amount) == kept


@settings(derandomize=True, deadline=None)
@given(figure=st.decimals(min_value=0, max_value=10**15, allow_nan=False, allow_infinity=False, places=12))
def test_any_plain_decimal_is_taken_in_any_writing(figure: Decimal) -> None:
    """Decimal, its text and its plain text ask for exactly the same amount."""
    assert make(amount=figure).amount == make(amount=str(figure)).amount == make(amount=f"{figure:f}").amount == figure


@pytest.mark.parametrize(
    ("identity", "text"),
    [
        ("payout-17", "payout-17"),
        (5, "5"),
        ("5", "5"),
        (0, "0"),
        (-5, "-5"),
        (10**254, "1" + "0" * 254),
        (UUID("12345678-1234-5678-1234-567812345678"), "12345678-1234-5678-1234-567812345678"),
        ("with blank inside", "with blank inside"),
        ("ünïcödé-№", "ünïcödé-№"),
        ("x" * 255, "x" * 255),
    ],
)
def test_a_foreign_id_is_kept_as_text(identity: str | int | UUID, text: str) -> None:
    """Text, int and UUID name the withdrawal as the text they are written as."""
    foreign_id = make(foreign_id=identity).foreign_id
    assert type(foreign_id) is str
    assert foreign_id == text


def test_a_numeric_tag_is_kept_as_text() -> None:
    """XRP tags are numbers in most systems; on the wire they are text."""
    assert make(tag=123456).tag == "123456"


class Coin(str, Enum):  # noqa: UP042 - the older kind, whose str() is "Coin.BITCOIN"
    BITCOIN = "BTC"


class Number(IntEnum):
    SEVEN = 7


class Text(str):
    __slots__ = ()

    def __str__(self) -> str:
        return "something else"


def test_enumerations_and_other_texts_become_mere_text() -> None:
    """A subclass of str or int is kept as the plain text it holds, so that it can be written down and compared."""
    request = make(currency=Coin.BITCOIN, address=Text("bc1q9x"), foreign_id=Number.SEVEN, convert_to=Text("ETH"))
    kept = request.currency, request.address, request.foreign_id, request.convert_to
    assert kept == ("BTC", "bc1q9x", "7", "ETH")
    assert {type(text) for text in kept} == {str}


def test_what_was_asked_is_the_amount_in_its_currency() -> None:
    """Without `amount_to` the asked figure is counted in `currency`, conversion or not."""
    assert requested_figure(make()) == (Decimal("0.0015"), "BTC")
    assert requested_figure(make(convert_to="ETH")) == (Decimal("0.0015"), "BTC")


def test_what_was_asked_to_arrive_is_counted_in_convert_to() -> None:
    """With `amount_to` the asked figure is counted in `convert_to`."""
    assert requested_figure(make(amount=None, amount_to="20", convert_to="USDTT")) == (Decimal(20), "USDTT")


# ── what is refused ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("amount", "problem"),
    [
        (0.1, "is a float, which cannot hold most decimals exactly; write Decimal('0.1')."),
        (1.0, "is a float"),
        (float("nan"), "is a float"),
        (float("inf"), "is a float"),
        (True, "must be a Decimal, str or int, not bool."),
        (False, "must be a Decimal, str or int, not bool."),
        (b"1", "must be a Decimal, str or int, not bytes."),
        ([1], "must be a Decimal, str or int, not list."),
        (1 + 0j, "must be a Decimal, str or int, not complex."),
        (Decimal("NaN"), "is not a finite number."),
        (Decimal("sNaN"), "is not a finite number."),
        (Decimal("Infinity"), "is not a finite number."),
        (Decimal("-Infinity"), "is not a finite number."),
        ("NaN", "is not a decimal number."),
        ("Infinity", "is not a decimal number."),
        ("inf", "is not a decimal number."),
        ("1_000", "is not a decimal number."),
        ("1,000", "is not a decimal number."),
        ("1,5", "is not a decimal number."),
        (" 1", "is not a decimal number."),
        ("1 ", "is not a decimal number."),
        ("1\n", "is not a decimal number."),
        ("\uff11\uff12", "is not a decimal number."),
        ("\u0663", "is not a decimal number."),
        ("0x10", "is not a decimal number."),
        ("", "is not a decimal number."),
        (".", "is not a decimal number."),
        ("+", "is not a decimal number."),
        ("1e", "is not a decimal number."),
        ("--1", "is not a decimal number."),
        ("1e99999", "is not a decimal number."),
        ("1e999999999999999999999", "is not a decimal number."),
        ("-1", "is negative."),
        (-1, "is negative."),
        (Decimal("-0.00000001"), "is negative."),
        ("1e9999", "has more than 255 digits when written out."),
        ("1e-9999", "has more than 255 digits when written out."),
        (Decimal("1e999999"), "has more than 255 digits when written out."),
        (Decimal("0e-999"), "has more than 255 digits when written out."),
        (Decimal("0e999"), "has more than 255 digits when written out."),
        (Decimal("1e255"), "has more than 255 digits when written out."),
        (10**255, "has more than 255 digits when written out."),
        pytest.param(10**5000, "has more than 255 digits when written out.", id="10**5000"),
        ("0." + "1" * 255, "has more than 255 digits when written out."),
    ],
)
@pytest.mark.parametrize("name", ["amount", "amount_to"])
def test_what_is_no_amount_is_refused(name: str, amount: object, problem: str) -> None:
    """Floats, bools, signs, scripts, blanks and figures without end are refused under the field's own name."""
    other = {"amount": None, "amount_to": None, "convert_to": "ETH"}
    result = problems(**(other | {name: amount}))
    assert set(result) == {name}
    assert result[name].endswith(problem) or result[name].startswith("is a float")
    if isinstance(amount, str):
        assert result[name].startswith(shown(amount))


def test_a_hostile_amount_is_refused_at_once() -> None:
    """A long text that is almost a number costs no more than reading it once (the quadratic way took minutes)."""
    assert problems(amount="1" * 300_000 + "x") == {"amount": f"'{'1' * 60}…' is not a decimal number."}


@settings(derandomize=True, deadline=None)
@given(text=st.text(st.sampled_from("0123456789.eE+-_ xNaInf\uff11\u0663"), max_size=12))
def test_any_text_is_an_amount_or_a_problem(text: str) -> None:
    """Construction ends in a finite Decimal that is not negative, or in InvalidRequest, and never in anything else."""
    try:
        amount = make(amount=text).amount
    except InvalidRequest as error:
        assert set(error.problems) == {"amount"}  # noqa: PT017 - either end is right
    else:
        assert amount is not None
        assert amount.is_finite()
        assert amount == Decimal(text)
        assert not amount.is_signed()


REQUIRED = "is required and must not be empty."
BAD_TEXTS = [
    (" x", "' x' has leading or trailing spaces."),
    ("a\u200bb", r"'a\u200bb' has the control or invisible character U+200B."),
    ("x" * 256, f"'{'x' * 60}…' has 256 characters, at most 255 are allowed."),
    (b"x", "must be text, not bytes."),
    (True, "must be text, not bool."),
    (1.5, "must be text, not float."),
    (["x"], "must be text, not list."),
]


@pytest.mark.parametrize(("text", "problem"), BAD_TEXTS)
@pytest.mark.parametrize(
    "name",
    ["currency", "address", "foreign_id", "end_user_reference", "convert_to", "tag", "sender_type", "receiver_type"],
)
def test_what_is_no_clean_text_is_refused(name: str, text: object, problem: str) -> None:
    """Untrimmed, over-long and invisible texts are refused in every field, with the text."""
    assert problems(**{name: text}) == {name: problem}


@pytest.mark.parametrize("name", ["currency", "address", "foreign_id", "end_user_reference"])
def test_an_empty_text_is_a_missing_one(name: str) -> None:
    """A required field must say something."""
    assert problems(**{name: ""}) == {name: REQUIRED}


@pytest.mark.parametrize("name", ["foreign_id", "end_user_reference"])
def test_an_id_that_is_not_composed_is_refused_and_its_composed_form_is_shown(name: str) -> None:
    """Two ids that are drawn alike would be two withdrawals; the caller decides, and nothing is changed on the way."""
    result = problems(**{name: "Jose\u0301"})[name]
    assert result == r"'José' ('Jose\u0301') is not in Unicode's form NFC, which is 'José' ('Jos\xe9')."
    assert getattr(make(**{name: "Jos\u00e9"}), name) == "Jos\u00e9"


@pytest.mark.parametrize("address", ["bc1q\u0430", "bc1q 9x", "b\u00fc", "\u5730"])
def test_an_address_is_printable_ascii(address: str) -> None:
    """A letter of another script that is drawn alike is another address."""
    assert list(problems(address=address)) == ["address"]


@pytest.mark.parametrize("name", ["currency", "address", "foreign_id", "end_user_reference"])
@pytest.mark.parametrize("is_none", [True, False])
def test_a_missing_field_is_a_problem_and_no_type_error(name: str, is_none: bool) -> None:  # noqa: FBT001 - a column
    """A required field that is left out, or None, is named like any other problem."""
    fields = GOOD | {name: None} if is_none else {key: value for key, value in GOOD.items() if key != name}
    with pytest.raises(InvalidRequest) as caught:
        WithdrawalRequest(**fields)
    assert caught.value.problems == {name: REQUIRED}


@pytest.mark.parametrize("name", ["currency", "address", "end_user_reference", "convert_to"])
def test_only_names_may_be_numbers(name: str) -> None:
    """An int stands for text in foreign_id and tag alone."""
    assert problems(**{name: 5}) == {name: "must be text, not int."}


def test_a_number_too_long_to_be_a_name_is_refused() -> None:
    """An int that Python itself refuses to write out is a problem of the field like any other; a smaller one is a long text."""
    text = f"'{str(2**1000)[:60]}…' has 302 characters, at most 255 are allowed."
    assert problems(foreign_id=2**1000 - 1) == {"foreign_id": text}
    assert problems(foreign_id=2**1000) == {"foreign_id": "must be text, not int."}
    assert problems(foreign_id=10**5000) == {"foreign_id": "must be text, not int."}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"amount": None}, {"amount": "is required: give exactly one of amount and amount_to."}),
        (
            {"amount_to": "1", "convert_to": "ETH"},
            {"amount_to": "cannot be given together with amount: give exactly one of the two."},
        ),
        (
            {"amount_to": "1"},
            {
                "amount_to": "cannot be given together with amount: give exactly one of the two.",
                "convert_to": "is required with amount_to, which is counted in it.",
            },
        ),
        (
            {"amount": None, "amount_to": "1"},
            {"convert_to": "is required with amount_to, which is counted in it."},
        ),
        (
            {"amount": None, "amount_to": 0.5},
            {
                "amount_to": "is a float, which cannot hold most decimals exactly; write Decimal('0.5').",
                "convert_to": "is required with amount_to, which is counted in it.",
            },
        ),
    ],
)
def test_exactly_one_amount_is_asked(changes: dict[str, Any], expected: dict[str, str]) -> None:
    """No amount, both amounts, and `amount_to` without the currency it counts are refused."""
    assert problems(**changes) == expected


NO_TAG = (
    "is missing: money sent on the XRP Ledger to an exchange without a tag can be lost; "
    "without_tag=True says that none is wanted."
)


@pytest.mark.parametrize(
    ("changes", "is_refused"),
    [
        ({"currency": "XRP"}, True),
        ({"currency": "xrp"}, True),
        ({"currency": "CSC"}, True),
        ({"currency": "EUR", "convert_to": "XRP"}, True),
        ({"currency": "EUR", "convert_to": "csc"}, True),
        ({"currency": "XRP", "convert_to": "XRP"}, True),
        ({"currency": "XRP", "convert_to": "BTC"}, False),
        ({"currency": "XRP", "tag": "77"}, False),
        ({"currency": "CSC", "tag": 0}, False),
        ({"currency": "XRP", "without_tag": True}, False),
        ({"currency": "EUR", "convert_to": "XRP", "without_tag": True}, False),
        ({"currency": "BTC", "without_tag": True}, False),
        ({"currency": "BTC"}, False),
        ({"currency": "XRPX"}, False),
    ],
)
def test_the_xrp_ledger_needs_a_tag_or_a_word_that_none_is_wanted(
    changes: dict[str, Any],
    is_refused: bool,  # noqa: FBT001 - a column
) -> None:
    """What arrives as XRP or CSC needs `tag` or `without_tag`; what leaves as XRP and arrives as another currency does not."""
    if is_refused:
        assert problems(**changes) == {"tag": NO_TAG}
    else:
        assert make(**changes).currency == changes["currency"]


NO_XRP_TAG = (
    "is no tag of the XRP Ledger: write a whole number from 0 to 4294967295 in plain digits, without leading zeros."
)


@pytest.mark.parametrize(
    "tag",
    [
        "12345.0",
        "1.23457E+09",
        "nan",
        "0012345",
        "00",
        "-1",
        "+1",
        "1_000",
        "1,000",
        "4294967296",
        "12345678901",
        "\u0661",
        "memo",
    ],
)
@pytest.mark.parametrize("currency", ["XRP", "CSC"])
def test_a_tag_of_the_xrp_ledger_is_a_plain_whole_number(currency: str, tag: str) -> None:
    """What pandas and spreadsheets make of a number would send the money to another user of the exchange."""
    assert problems(currency=currency, tag=tag) == {"tag": f"'{tag}' {NO_XRP_TAG}"}
    assert make(tag=tag).tag == tag


@given(tag=st.integers(-(2**40), 2**40) | st.integers(-2, 2) | st.integers(2**32 - 2, 2**32 + 2))
def test_a_whole_number_is_a_tag_if_32_bits_hold_it(tag: int) -> None:
    """From 0 to 4294967295, both included, kept as text."""
    if 0 <= tag < 2**32:
        assert make(currency="XRP", tag=tag).tag == make(currency="XRP", tag=str(tag)).tag == str(tag)
    else:
        assert problems(currency="XRP", tag=tag) == {"tag": f"'{tag}' {NO_XRP_TAG}"}


@given(tag=st.text("0123456789.eE+- \u0661", max_size=11))
def test_a_text_is_a_tag_of_the_xrp_ledger_if_its_number_is_written_so(tag: str) -> None:
    """One number has one text."""
    try:
        request = make(currency="XRP", tag=tag)
    except InvalidRequest as error:
        assert list(error.problems) == ["tag"]  # noqa: PT017 - either end is right
    else:
        assert request.tag == tag == str(int(tag))


@pytest.mark.parametrize("currency", ["BTC", "XRP"])
def test_an_empty_tag_is_refused_and_the_message_names_without_tag(currency: str) -> None:
    """An empty text is as easily an accident as a purpose."""
    text = "is empty: leave it out, and where none is wanted, without_tag=True says that."
    assert problems(currency=currency, tag="") == {"tag": text}


@pytest.mark.parametrize("currency", ["BTC", "XRP"])
def test_a_tag_and_the_word_that_none_is_wanted_exclude_each_other(currency: str) -> None:
    """One of the two is wrong, and the library cannot know which."""
    result = {"tag": "is given together with without_tag: give one of the two."}
    assert problems(currency=currency, tag="7", without_tag=True) == result


@pytest.mark.parametrize("flag", ["true", "", 0, 1, None])
def test_whether_no_tag_is_wanted_is_true_or_false(flag: object) -> None:
    """A text that says "false" would otherwise mean the opposite."""
    assert problems(without_tag=flag) == {"without_tag": "must be true or false."}


X_ADDRESS = "XVLhHMPHU98es4dbozjVtdWzVrDjtV5AqEL4xcZj5whKbmc"
"""Made of the ledger's own sample address and tag 1."""


@pytest.mark.parametrize("address", [X_ADDRESS, f"T{X_ADDRESS[1:]}"])
@pytest.mark.parametrize("changes", [{"tag": 1}, {"without_tag": True}])
def test_an_x_address_is_refused_on_the_xrp_ledger(address: str, changes: dict[str, Any]) -> None:
    """It has a tag inside, which could differ from the tag that is given."""
    text = f"'{address}' is an X-address: give the classic address (r…), and its tag."
    assert problems(currency="XRP", address=address, **changes) == {"address": text}
    assert make(address=address).address == address


@pytest.mark.parametrize(
    ("reference", "is_refused"),
    [
        ("ann@example.com", True),
        ("a.b+c@mail.example.co.uk", True),
        ("user-42", False),
        ("@ann", False),
        ("ann@home", False),
        ("a@b@c.d", False),
        ("ann @ example.com", False),
    ],
)
def test_an_e_mail_address_is_no_reference(reference: str, is_refused: bool) -> None:  # noqa: FBT001 - a column
    """Personal data stays at home, unless it is let through by name."""
    if is_refused:
        text = "looks like an e-mail address; send an internal id, or set allow_personal_reference=True."
        assert problems(end_user_reference=reference) == {"end_user_reference": text}
    else:
        assert make(end_user_reference=reference).end_user_reference == reference
    assert make(end_user_reference=reference, allow_personal_reference=True).end_user_reference == reference


@pytest.mark.parametrize("flag", ["false", "true", 0, 1, None])
def test_whether_a_personal_reference_is_allowed_is_true_or_false(flag: object) -> None:
    """A text that says "false" would otherwise mean the opposite."""
    assert problems(allow_personal_reference=flag) == {"allow_personal_reference": "must be true or false."}


def test_equal_requests_have_equal_hashes() -> None:
    """They can be kept in sets and as keys, also with data on sender and receiver, which are mappings."""
    one, other = (make(amount=text, sender_data={"a": [1]}, receiver_data={"b": {}}) for text in ("1.0", "1.00"))
    assert len({one, other, make()}) == 2


def test_every_problem_is_told_at_once() -> None:
    """One look at the error shows all that is to be mended."""
    with pytest.raises(InvalidRequest) as caught:
        WithdrawalRequest(  # type: ignore[call-arg]
            currency="XRP",
            address=" x",
            end_user_reference="ann@example.com",
            amount=-1,
            amount_to=0.5,  # type: ignore[arg-type]
            sender_type="",
            sender_data=5,  # type: ignore[arg-type]
            receiver_data={"x": object()},
        )
    assert list(caught.value.problems) == [
        "address",
        "foreign_id",
        "sender_type",
        "end_user_reference",
        "tag",
        "amount",
        "amount_to",
        "convert_to",
        "sender_data",
        "receiver_data",
    ]


def test_nothing_given_names_all_that_is_required() -> None:
    """An empty request is told every field it needs."""
    with pytest.raises(InvalidRequest) as caught:
        WithdrawalRequest()  # type: ignore[call-arg]
    assert set(caught.value.problems) == {"currency", "address", "foreign_id", "end_user_reference", "amount"}


# ── sender and receiver ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", ["sender_data", "receiver_data"])
def test_the_callers_objects_are_copied(name: str) -> None:
    """What the caller changes afterwards, however deep, changes nothing in the request."""
    inner = ["Ann"]
    data: dict[str, Any] = {"first_name": inner}
    request = make(**{name: data})
    inner.append("Bea")
    data["last_name"] = "Cole"
    assert getattr(request, name) == {"first_name": ["Ann"]}


@pytest.mark.parametrize(
    "data",
    [
        {"legal_name": "ACME", "country_of_registration": "DEU"},
        MappingProxyType(
            {"legal_name": "A", "country_of_registration": "FRA", "n": 1.5, "none": None, "deep": {"a": []}}
        ),
    ],
)
def test_any_mapping_that_json_can_say_is_taken(data: Mapping[str, Any]) -> None:
    """A mapping is kept as a plain dict of what JSON says."""
    kept = make(sender_type="legal", sender_data=data).sender_data
    assert type(kept) is dict
    assert kept == data


def test_a_key_that_json_writes_as_text_is_taken() -> None:
    """As the text it is written as."""
    assert make(sender_data={UUID(int=1): 1}).sender_data == {str(UUID(int=1)): 1}


NO_ORDER = "holds a set, which has no order in JSON: make it a list."


@dataclasses.dataclass
class Person:
    """What msgspec writes as an object, with a set in it."""

    names: set[str] = dataclasses.field(default_factory=lambda: {"Ann", "Bea"})


class Company(msgspec.Struct):
    """Likewise."""

    owner: Person


@attrs.define
class Attributes:
    """Likewise."""

    names: frozenset[str] = frozenset(("Ann", "Bea"))


def endless() -> dict[str, Any]:
    """Return an object that holds itself."""
    data: dict[str, Any] = {}
    data["self"] = data
    return data


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        ("text", "must be a mapping, not str."),
        ([("a", 1)], "must be a mapping, not list."),
        ({"x": object()}, "holds something that JSON cannot say."),
        ({"x": {1, 2}}, NO_ORDER),
        ({"x": [({"y": frozenset("ab")},)]}, NO_ORDER),
        ({"x": Person()}, NO_ORDER),
        ({"x": [Company(Person())]}, NO_ORDER),
        ({"x": Attributes()}, NO_ORDER),
        ({"x": float("nan")}, "holds something that JSON cannot say."),
        ({"x": [float("inf")]}, "holds something that JSON cannot say."),
        ({"x": "\ud800"}, "holds something that JSON cannot say."),
        ({("a", "b"): 1}, "holds something that JSON cannot say."),
        (endless(), "holds something that JSON cannot say."),
    ],
)
@pytest.mark.parametrize("name", ["sender_data", "receiver_data"])
def test_what_json_cannot_say_is_refused(name: str, data: object, problem: str) -> None:
    """Objects, figures and keys that would be lost or changed on the wire are refused beforehand."""
    assert problems(**{name: data}) == {name: problem}


def test_no_text_of_a_request_shows_whose_money_it_is() -> None:
    """Names, birthdays and references stay out of logs, Python's and rich's; what finds a payment is shown."""
    request = make(tag="9", sender_data={"first_name": "Ann"}, receiver_data={"date_of_birth": "1990-01-02"})
    assert repr(request) == (
        "WithdrawalRequest(foreign_id='payout-17', currency='BTC', amount='0.0015', address='bc1q9x', tag='9')"
    )
    assert dict(request.__rich_repr__()).keys() == {"foreign_id", "currency", "amount", "address", "tag"}


# ── what AlphaPo has ─────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "is_final"),
    [
        ("confirmed", True),
        ("cancelled", True),
        ("declined", True),
        ("processing", False),
        ("not_confirmed", False),
        ("pending", False),
        ("Confirmed", False),
        ("brand new", False),
        (None, False),
    ],
)
def test_three_statuses_are_final(status: str | None, is_final: bool) -> None:  # noqa: FBT001 - a column
    """Only `confirmed`, `cancelled` and `declined` end a withdrawal; whatever is not known does not."""
    assert Transaction(id=1, status=status).is_final is is_final
    assert Withdrawal(id=1, status=status).is_final is is_final


def test_the_statuses_that_alphapo_documents() -> None:
    """Six, of which three end a withdrawal and two of these without money."""
    assert frozenset({"processing", "not_confirmed", "pending", "confirmed", "cancelled", "declined"}) == KNOWN


EXCHANGE = TransactionPart(id=2, transaction_type="exchange")
ON_CHAIN = TransactionPart(id=1, transaction_type="blockchain", txid="bb04")


@pytest.mark.parametrize(
    ("parts", "blockchain", "txids"),
    [
        ((), None, ()),
        ((EXCHANGE,), None, ()),
        ((ON_CHAIN, EXCHANGE), ON_CHAIN, ("bb04",)),
        ((EXCHANGE, ON_CHAIN), ON_CHAIN, ("bb04",)),
    ],
)
def test_the_blockchain_entry_is_found_by_its_type(
    parts: tuple[TransactionPart, ...], blockchain: TransactionPart | None, txids: tuple[str, ...]
) -> None:
    """Entries come in any order, so that the type alone selects; untold txids are left out."""
    transaction = Transaction(id=1, transactions=parts)
    assert (transaction.blockchain, transaction.txids) == (blockchain, txids)


def test_a_witness_that_tells_nothing_is_all_none() -> None:
    """What AlphaPo does not tell is None, and a withdrawal comes from a reply unless said otherwise."""
    withdrawal = Withdrawal(id=1)
    result = {getattr(withdrawal, name) for name in Withdrawal.__struct_fields__} - {withdrawal.id, "reply", False}
    assert result == {None}
    assert (withdrawal.source, withdrawal.has_numbers) == ("reply", False)


def test_a_place_tells_nothing_of_a_tag_unless_it_says_so() -> None:
    """No tag and nothing said of one are not the same."""
    assert not CryptoAddress(address="bc1q9x").tag_is_given


def test_totals_begin_at_nothing() -> None:
    """Every sum is an exact zero until something is asked."""
    totals = Totals()
    assert [getattr(totals, name) for name in Totals.__struct_fields__] == [Decimal(0)] * 8


@pytest.mark.parametrize(("foreign_id", "text"), [("f", "f"), (5, "5"), (UUID(int=1), str(UUID(int=1)))])
def test_a_foreign_id_is_a_text(foreign_id: object, text: str) -> None:
    """However it is given."""
    assert foreign_id_text(foreign_id) == text


class _Number(int, Enum):
    A = 17


class _Text(str, Enum):  # noqa: UP042 - a StrEnum is written as its value
    A = "17"


@pytest.mark.parametrize("member", [_Number.A, _Text.A])
def test_a_member_of_an_enumeration_is_one_foreign_id_for_paying_and_for_looking_up(member: Any) -> None:
    """Its value: a look-up under the member's name would find nothing."""
    assert foreign_id_text(member) == make(foreign_id=member).foreign_id == "17"


def test_a_number_too_long_to_be_written_is_refused_like_any_other() -> None:
    """As the same error, for paying and for looking up."""
    for look_at in (foreign_id_text, lambda number: make(foreign_id=number)):
        with pytest.raises(InvalidRequest):
            look_at(10**5_000)


@pytest.mark.parametrize("foreign_id", ["", None, True, 1.5, b"f", " f", "f\n", "\ud800", "x" * 256])
def test_what_cannot_be_a_foreign_id_is_refused(foreign_id: object) -> None:
    """With the reason."""
    with pytest.raises(InvalidRequest) as caught:
        foreign_id_text(foreign_id)
    assert list(caught.value.problems) == ["foreign_id"]


FIELDS: dict[Any, Any] = {
    "currency": "BTC",
    "address": "bc1q",
    "amount": "1",
    "foreign_id": "p",
    "end_user_reference": "u",
}


def test_a_mapping_of_fields_makes_a_request_and_a_request_is_one() -> None:
    """Both are taken where rows are."""
    made = request_of(FIELDS)
    assert made == WithdrawalRequest(**FIELDS)
    assert request_of(made) is made


@pytest.mark.parametrize(
    ("item", "fields"),
    [
        (5, ["request"]),
        (None, ["request"]),
        ({**FIELDS, "ammount": 1}, ["ammount"]),
        ({**FIELDS, 7: 1, "amount": 1.5}, ["amount", "7"]),
        ({}, ["currency", "address", "foreign_id", "end_user_reference", "amount"]),
    ],
)
def test_what_makes_no_request_is_refused_with_every_problem(item: object, fields: list[str]) -> None:
    """Fields that do not exist beside those that are wrong."""
    with pytest.raises(InvalidRequest) as caught:
        request_of(item)
    assert list(caught.value.problems) == fields


@pytest.mark.parametrize("empty", ["", None])
@pytest.mark.parametrize("name", sorted(WithdrawalRequest.__struct_fields__))
def test_an_empty_text_in_a_mapping_is_an_absent_field(name: str, empty: object) -> None:
    """Of every field, as CSV readers and web forms mean it."""
    fields = {key: value for key, value in FIELDS.items() if key != name}

    def read(row: dict[object, object]) -> object:
        try:
            return request_of(row)
        except InvalidRequest as error:
            return error.problems

    assert read({**fields, name: empty}) == read(fields)


def test_an_empty_cell_of_a_csv_is_no_word_that_no_tag_is_wanted() -> None:
    """As `csv.DictReader` reads it; a column `without_tag` is one."""
    text = "currency,address,amount,foreign_id,end_user_reference,tag,without_tag\nXRP,x,1,a,u,,\nXRP,x,1,b,u,,true\n"
    empty, chosen = csv.DictReader(io.StringIO(text))
    with pytest.raises(InvalidRequest, match="tag is missing"):
        request_of(empty)
    assert request_of(chosen).without_tag


@pytest.mark.parametrize("name", ["without_tag", "allow_personal_reference"])
@pytest.mark.parametrize(
    ("text", "value"), [("true", True), ("True", True), ("TRUE", True), ("false", False), (True, True), (False, False)]
)
def test_true_and_false_may_be_texts_in_a_mapping(name: str, text: object, *, value: bool) -> None:
    """A CSV has nothing else; Python and spreadsheets write them with capitals."""
    assert getattr(request_of({**FIELDS, name: text}), name) is value


@pytest.mark.parametrize("name", ["without_tag", "allow_personal_reference"])
@pytest.mark.parametrize("text", ["yes", "1", " true", "wahr", 1, 0.0])
def test_any_other_word_is_neither_true_nor_false(name: str, text: object) -> None:
    """And none of them is guessed at."""
    with pytest.raises(InvalidRequest) as caught:
        request_of({**FIELDS, name: text})
    assert caught.value.problems == {name: "must be true or false."}


def test_a_recorded_request_is_read_whatever_the_rules_are_now() -> None:
    """It was checked when it was made; without a tag it reads back as one for which none was wanted."""
    recorded = {**FIELDS, "currency": "XRP", "tag": "0012345", "foreign_id": "Jose\u0301"}
    request = recorded_request(recorded)
    assert (request.tag, request.without_tag, request.foreign_id) == ("0012345", False, "Jose\u0301")
    assert request.amount == 1
    assert type(request.amount) is Decimal
    assert recorded_request({**FIELDS, "currency": "XRP"}) == WithdrawalRequest(
        **{**FIELDS, "currency": "XRP", "without_tag": True, "allow_personal_reference": True}
    )


def test_what_makes_no_request_is_told_in_words() -> None:
    """What it is instead, and that a field does not exist."""
    with pytest.raises(InvalidRequest) as caught:
        request_of(5)
    assert caught.value.problems == {"request": "must be a WithdrawalRequest or a mapping, not int."}
    with pytest.raises(InvalidRequest) as caught:
        request_of({**FIELDS, "ammount": 1})
    assert caught.value.problems == {"ammount": "is no field of a withdrawal request."}


_TEXTS = st.sampled_from(
    ["BTC", "bc1q", "user-42", "a@b.c", "é", "xrp", " x", "x\n", "", "y" * 255, "y" * 256]
) | st.text(max_size=5)
_AMOUNTS = (
    st.sampled_from(["1", "0.0015", "-0", "+1", ".5", "5.", "1e3", "0" * 41, "1." + "0" * 41, "٣", "1\n", ""])
    | st.decimals(places=3, allow_nan=True, allow_infinity=True)
    | st.text(alphabet="0123456789.eE+-", max_size=8)
    | st.integers()
)


@given(currency=_TEXTS, address=_TEXTS, foreign_id=_TEXTS, end_user_reference=_TEXTS, amount=_AMOUNTS)
def test_what_is_usual_is_checked_as_what_is_not(amount: object, **texts: str) -> None:
    """The short way through the checks comes to what the long one does, which `sender_data` leads through."""

    def checked(**more: Any) -> object:
        try:
            request = WithdrawalRequest(**texts, amount=amount, **more)  # type: ignore[arg-type]
        except InvalidRequest as error:
            return {name: problem for name, problem in error.problems.items() if name != "tag"}
        assert type(request.amount) is Decimal
        return (requested_figure(request), str(request.amount), *(getattr(request, name) for name in texts))

    short, long = checked(), checked(sender_data={})
    assert short == long


@pytest.mark.parametrize(("convert_to", "is_conversion"), [(None, False), ("BTC", False), ("ETH", True)])
def test_a_conversion_pays_out_another_currency(convert_to: str | None, *, is_conversion: bool) -> None:
    """The same currency in both places is none."""
    assert has_conversion(make(convert_to=convert_to)) is is_conversion


def test_a_client_of_which_a_task_keeps_failing_is_not_ready() -> None:
    """Which one, `failing` names."""
    usual: dict[str, Any] = {"account": "a", "at": 0.0, "in_flight": 0, "retry_budget_left": 1.0, "is_outage": False}
    healthy = Health(**usual, oldest_open_at=None, oldest_doubt_at=None, frozen=0)
    assert healthy.is_ready
    assert not msgspec.structs.replace(healthy, failing=("work",)).is_ready
    assert not msgspec.structs.replace(healthy, has_lease=False).is_ready


def test_sender_and_receiver_follow_the_documented_rules() -> None:
    """All problems at once; what is no mapping has that one problem alone."""
    with pytest.raises(InvalidRequest) as caught:
        make(sender_type="natural", receiver_type="person")
    assert list(caught.value.problems) == ["sender_data", "receiver_type"]
    with pytest.raises(InvalidRequest) as caught:
        make(sender_type="legal", sender_data=5)
    assert caught.value.problems == {"sender_data": "must be a mapping, not int."}
    assert make(receiver_type="self").receiver_type == "self"
