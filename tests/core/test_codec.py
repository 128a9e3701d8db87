import json
import unicodedata
from decimal import Decimal
from typing import Any, get_args

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphapo_async.core.codec import (
    AMOUNT_FORMATS,
    UNREADABLE,
    AmountFormat,
    decode_body,
    differing,
    digest,
    encode_body,
    encode_look_up,
    is_same_payment,
    plain,
    read_balances,
    read_json,
    read_reply,
    read_transaction,
    read_withdrawal,
    write_amount,
)
from alphapo_async.core.errors import InvalidRequest
from alphapo_async.core.models import (
    CryptoAddress,
    Fee,
    Money,
    Transaction,
    TransactionPart,
    Withdrawal,
    WithdrawalRequest,
    requested_figure,
)
from alphapo_async.core.texts import problem_of_id

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


# ── writing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("amount_format", "amount"),
    [("number", b"0.0015"), ("string", b'"0.0015"')],
)
def test_a_body_holds_alphapos_fields_in_the_order_of_its_page(amount_format: AmountFormat, amount: bytes) -> None:
    """The wire form is this, to the byte, in either amount format."""
    assert encode_body(make(), amount_format) == (
        b'{"currency":"BTC","amount":%b,"address":"bc1q9x","foreign_id":"payout-17","end_user_reference":"user-42"}'
        % amount
    )


def test_every_field_given_is_written() -> None:
    """Optional fields follow where they are given."""
    request = make(
        amount=None,
        amount_to=20,
        convert_to="USDTT",
        tag=7,
        sender_type="legal",
        sender_data={"legal_name": "ACMÉ", "country_of_registration": "FRA"},
        receiver_type="self",
        receiver_data={"first_name": "Ann"},
        allow_personal_reference=True,
    )
    assert encode_body(request).decode() == (
        '{"currency":"BTC","address":"bc1q9x","foreign_id":"payout-17","end_user_reference":"user-42",'
        '"convert_to":"USDTT","tag":"7","amount_to":20,"sender_type":"legal","sender_data":{"legal_name":"ACMÉ","country_of_registration":"FRA"},'
        '"receiver_type":"self","receiver_data":{"first_name":"Ann"}}'
    )


def test_numbers_are_the_default_and_both_formats_are_listed() -> None:
    """AlphaPo's schema says number, and nothing else is a format."""
    assert encode_body(make()) == encode_body(make(), "number")
    assert get_args(AmountFormat) == AMOUNT_FORMATS == ("number", "string")


def test_the_word_that_no_tag_is_wanted_is_not_sent() -> None:
    """`without_tag` says that none is wanted, and nothing of it reaches the wire."""
    assert encode_body(make(currency="XRP", without_tag=True)) == encode_body(make()).replace(b"BTC", b"XRP")


def test_a_look_up_asks_by_foreign_id_alone() -> None:
    """The question is one field, escaped as JSON wants it."""
    assert encode_look_up('payout-"17"') == b'{"foreign_id":"payout-\\"17\\""}'


@pytest.mark.parametrize(
    ("amount", "written"),
    [
        ("0.0015", "0.0015"),
        ("1E-8", "0.00000001"),
        ("0.00000001", "0.00000001"),
        ("1.50", "1.50"),
        ("1e3", "1000"),
        ("1.5e1", "15"),
        ("0", "0"),
        ("0e3", "0"),
        ("0e-9", "0.000000000"),
        ("123456789012345", "123456789012345"),
        ("100000000000000000000000", "100000000000000000000000"),
        ("0.1234567890123", "0.1234567890123"),
    ],
)
def test_amounts_are_written_plainly(amount: str, written: str) -> None:
    """No exponent and no lost digit, in either format."""
    assert plain(requested_figure(make(amount=amount))[0]) == written
    assert f'"amount":{written},' in encode_body(make(amount=amount)).decode()
    assert f'"amount":"{written}",' in encode_body(make(amount=amount), "string").decode()


@pytest.mark.parametrize(
    "amount",
    ["9007199254740993", "0.12345678901234567", "1234567890.12345678", "12345678901234567890.5", "9" * 255],
)
@pytest.mark.parametrize("name", ["amount", "amount_to"])
def test_what_a_double_would_round_is_refused_as_a_number(name: str, amount: str) -> None:
    """In number format such an amount is refused with advice; as a string it goes out exactly."""
    request = make(**({"amount": None, "convert_to": "ETH"} | {name: amount}))
    with pytest.raises(InvalidRequest) as caught:
        encode_body(request, "number")
    advice = f"""'{amount}' would be rounded as a JSON number; make the client with amount_format="string"."""
    assert caught.value.problems == {name: advice}
    assert f'"{name}":"{amount}"' in encode_body(request, "string").decode()


@settings(derandomize=True, deadline=None)
@given(
    figure=st.one_of(
        st.decimals(min_value=0, max_value=10**20, allow_nan=False, allow_infinity=False),
        st.decimals(min_value=0, max_value=10, allow_nan=False, places=8),
        st.integers(0, 10**18),
        st.integers(10**14, 10**17),
    )
)
def test_number_format_is_exact_for_any_reader_or_refuses(figure: Decimal | int) -> None:
    """It refuses exactly those amounts that a reader of doubles would read as another."""
    survives = Decimal(repr(float(figure))) == figure
    try:
        body = encode_body(make(amount=figure))
    except InvalidRequest:
        assert not survives
    else:
        assert survives
        assert Decimal(repr(float(json.loads(body)["amount"]))) == figure


# ── there and back ───────────────────────────────────────────────────────────────────────────────────────────────────

NAMES = (
    st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=20)
    .map(lambda text: unicodedata.normalize("NFC", text))
    .filter(lambda text: problem_of_id(text) is None)
)
ADDRESSES = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=20)
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False), NAMES
)
PARTIES = st.none() | st.dictionaries(
    NAMES,
    st.recursive(
        SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(NAMES, inner, max_size=2), max_leaves=4
    ),
    max_size=3,
)
COMPANY = {"legal_name": "ACME", "country_of_registration": "FRA"}
AMOUNTS = st.one_of(
    st.decimals(min_value=0, max_value=10**20, allow_nan=False, allow_infinity=False),
    st.decimals(min_value=0, max_value=10, allow_nan=False, places=8),
    st.integers(0, 10**30),
    st.builds(lambda digits, exponent: Decimal(f"{digits}E{exponent}"), st.integers(0, 10**6), st.integers(-200, 200)),
)


@st.composite
def any_request(draw: st.DrawFn) -> WithdrawalRequest:
    """Any request that can be made."""
    is_sent = draw(st.booleans())
    amount, data = draw(AMOUNTS), draw(PARTIES)
    sender_type = draw(st.none() | st.just("legal"))
    return WithdrawalRequest(
        currency=draw(NAMES),
        address=draw(ADDRESSES),
        foreign_id=draw(st.one_of(NAMES, st.integers(), st.uuids())),
        end_user_reference=draw(NAMES),
        amount=amount if is_sent else None,
        amount_to=None if is_sent else amount,
        convert_to=draw(st.none() | NAMES) if is_sent else draw(NAMES),
        tag=draw(st.none() | NAMES | st.integers(0, 2**32)),
        sender_type=sender_type,
        sender_data=data if sender_type is None else {**(data or {}), **COMPANY},
        receiver_type=draw(st.none() | st.just("self")),
        receiver_data=draw(PARTIES),
        allow_personal_reference=True,
    )


@settings(derandomize=True, deadline=None, max_examples=150)
@given(request=any_request(), amount_format=st.sampled_from(AMOUNT_FORMATS))
def test_a_body_read_back_asks_for_the_same_payment(request: WithdrawalRequest, amount_format: AmountFormat) -> None:
    """What a journal keeps as bytes is the same payment, the same digest and the same bytes again."""
    try:
        body = encode_body(request, amount_format)
    except InvalidRequest:
        assert amount_format == "number"
        return
    again = decode_body(body)
    assert is_same_payment(request, again)
    assert is_same_payment(again, request)
    assert digest(again) == digest(request)
    assert encode_body(again, amount_format) == body


@settings(derandomize=True, deadline=None, max_examples=150)
@given(amount=AMOUNTS, amount_format=st.sampled_from(AMOUNT_FORMATS))
def test_amounts_on_the_wire_are_plain_and_exact(amount: Decimal | int, amount_format: AmountFormat) -> None:
    """Another reader of JSON finds exactly the asked amount, and no exponent."""
    try:
        body = encode_body(make(amount=amount), amount_format)
    except InvalidRequest:
        assert amount_format == "number"
        return
    result = json.loads(body, parse_float=Decimal)["amount"]
    assert Decimal(result) == amount
    assert isinstance(result, str) is (amount_format == "string")
    written = body.decode().partition('"amount":')[2].partition(',"address"')[0].strip('"')
    assert set(written) <= set("0123456789.")


@pytest.mark.parametrize("amount_format", AMOUNT_FORMATS)
def test_floats_among_the_senders_data_do_not_make_it_another_payment(amount_format: AmountFormat) -> None:
    """A restarted worker must know its own request again, or it would call it a conflict and release the funds."""
    request = make(sender_data={"share": 1.5, "list": [0.1]}, receiver_data={"n": 1e22})
    again = decode_body(encode_body(request, amount_format))
    assert (again.sender_data, again.receiver_data) == (request.sender_data, request.receiver_data)
    assert is_same_payment(request, again)


def test_a_body_is_read_back_whatever_was_let_through() -> None:
    """Whoever allowed an e-mail address as reference when it was asked is not asked again when it is resumed."""
    request = make(end_user_reference="ann@example.com", allow_personal_reference=True)
    assert decode_body(encode_body(request)).end_user_reference == "ann@example.com"


def test_one_party_alone_is_read_back_alone() -> None:
    """What was not in the body is not in the request."""
    again = decode_body(encode_body(make(receiver_data={"a": 1})))
    assert (again.sender_data, again.receiver_data) == (None, {"a": 1})


# ── the same payment or another ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ({"amount": "1.0"}, {"amount": "1.00"}),
        ({"amount": "1"}, {"amount": Decimal("1.000")}),
        ({"amount": 1000}, {"amount": "1e3"}),
        ({"amount": "0.00000001"}, {"amount": "1E-8"}),
        ({"amount": 0}, {"amount": "0.00"}),
        ({"amount": "0"}, {"amount": "-0"}),
        ({"foreign_id": 5}, {"foreign_id": "5"}),
        ({"tag": 5}, {"tag": "5"}),
        ({"tag": None}, {"without_tag": True}),
        (
            {"amount": None, "amount_to": "2.50", "convert_to": "ETH"},
            {"amount": None, "amount_to": Decimal("2.5"), "convert_to": "ETH"},
        ),
        ({"sender_data": {"a": 1, "b": 2}}, {"sender_data": {"b": 2, "a": 1}}),
        ({"allow_personal_reference": True}, {"allow_personal_reference": False}),
    ],
)
def test_equal_payments_are_equal_however_written(one: dict[str, Any], other: dict[str, Any]) -> None:
    """Amounts compare as decimals, ids as text, objects without order; the digest agrees."""
    assert is_same_payment(make(**one), make(**other))
    assert digest(make(**one)) == digest(make(**other))


@pytest.mark.parametrize(
    "change",
    [
        {"currency": "LTC"},
        {"address": "bc1q9X"},
        {"amount": "0.00150001"},
        {"amount": "0.015"},
        {"amount": "15"},
        {"amount": "150"},
        {"foreign_id": "payout-18"},
        {"end_user_reference": "user-43"},
        {"convert_to": "ETH"},
        {"tag": "1"},
        {"tag": "01"},
        {"amount": None, "amount_to": "0.0015", "convert_to": "BTC"},
        {"sender_type": "legal", "sender_data": COMPANY},
        {"sender_data": {}},
        {"sender_data": {"a": 1}},
        {"receiver_type": "legal"},
        {"receiver_data": {"a": 1}},
        {"receiver_data": {"a": "1"}},
    ],
)
def test_every_difference_makes_another_payment(change: dict[str, Any]) -> None:
    """No field can change without the payment being known as another one."""
    assert not is_same_payment(make(), make(**change))
    assert digest(make()) != digest(make(**change))


def test_no_two_of_the_changed_payments_share_a_digest() -> None:
    """The digest tells which field holds what, so that values cannot swap places."""
    made = [
        make(tag="1"),
        make(sender_type="legal", sender_data=COMPANY),
        make(receiver_type="legal"),
        make(convert_to="1"),
        make(sender_data={"a": 1}),
        make(receiver_data={"a": 1}),
        make(amount=100),
        make(amount=10),
        make(amount=1),
    ]
    assert len({digest(request) for request in made}) == len(made)


@settings(derandomize=True, deadline=None)
@given(one=any_request(), other=any_request())
def test_digests_agree_exactly_where_payments_do(one: WithdrawalRequest, other: WithdrawalRequest) -> None:
    """Comparing by digest, as for an old row, says what comparing by fields says."""
    assert (digest(one) == digest(other)) is is_same_payment(one, other)
    assert is_same_payment(one, one)


def test_a_digest_tells_its_version_and_does_not_change_between_releases() -> None:
    """Journals keep digests for years: this one is written down here for good."""
    assert digest(make()) == "1:434d619659d20c8ef7c2dfb7d8763fe9a335369aee0ccf480e3f2ca2e22345ee"


# ── reading: never raises ────────────────────────────────────────────────────────────────────────────────────────────

JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.decimals(), st.text(max_size=8)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
WORDS = st.sampled_from(
    [*Transaction.__struct_fields__, *Withdrawal.__struct_fields__, *TransactionPart.__struct_fields__]
)
OBJECTS = st.recursive(
    st.one_of(JSON, st.sampled_from(["1e999999999", "NaN", "1_0", " 1", Decimal("1e999999999")])),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=6),
    max_leaves=12,
)


NO_DECIMALS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=8)),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["currency", "balance", "type"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(derandomize=True, deadline=None)
@given(body=st.binary(max_size=60))
def test_reading_json_never_raises(body: bytes) -> None:
    """Any bytes are a value or `UNREADABLE`, and they are a value only where Python's own reader agrees."""
    result = read_json(body)
    if result is not UNREADABLE:
        assert json.loads(body, parse_float=Decimal) == result


@pytest.mark.parametrize("read", [read_reply, read_json, read_balances])
def test_a_byte_order_mark_changes_nothing(read: Any) -> None:
    """Some servers write one before JSON."""
    body = b'{"data":{"id":7,"foreign_id":"f","sender_amount":"0.0015"}}'
    assert read(b"\xef\xbb\xbf" + body) == read(body)


@pytest.mark.parametrize(
    ("part", "has_numbers"),
    [
        ({"currency_sent": {"amount": "0.0015"}, "id": 9}, False),
        ({"currency_sent": {"amount": Decimal("0.0015")}}, True),
        ({"currency_received": {"amount_minus_fee": 1}}, True),
        ({"currency_received": {"amount": True}}, False),
        ({"transactions": [{"amount": "1"}, {"amount_to": 1}]}, True),
        ({"transactions": [{"id": 1, "confirmations": 3}, None]}, False),
        ({"fees": [{"amount": Decimal("0.1")}]}, True),
        ({"transactions": {"amount": 1}, "fees": 5}, False),
    ],
)
def test_figures_written_as_json_numbers_are_known(part: dict[str, Any], has_numbers: bool) -> None:  # noqa: FBT001 - a column
    """They may have the noise of a double, and a text has not."""
    transaction = read_transaction({"id": 1, **part})
    assert transaction is not None
    assert transaction.has_numbers is has_numbers


@pytest.mark.parametrize(("figure", "has_numbers"), [('"0.0015"', False), ("0.0015000000000000001", True), ("1", True)])
def test_a_reply_with_json_numbers_is_known(figure: str, has_numbers: bool) -> None:  # noqa: FBT001 - a column
    """Its figure is kept as AlphaPo wrote it."""
    withdrawal = read_reply(f'{{"data":{{"id":7,"sender_amount":{figure}}}}}'.encode())
    assert withdrawal is not None
    assert (withdrawal.sender_amount, withdrawal.has_numbers) == (Decimal(figure.strip('"')), has_numbers)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"OK",
        b"<html></html>",
        b'{"errors": {"error code: 1015"}}',  # AlphaPo's sample of a throttled reply
        b'{"data":{"id":1}',
        b'{"data":1} trailing',
        b"NaN",
        b"Infinity",
        b"1e99999999999999999999",
        b"1" * 5000,
        b'"\xff"',
        b'\xef\xbb\xbf\xef\xbb\xbf{"id":1}',
        b"\xef\xbb\xbf",
        b'"\\ud800"',
        b"[" * 100_000,
        b'{"a":' * 100_000,
    ],
    ids=range(17),
)
def test_what_is_no_json_is_unreadable(body: bytes) -> None:
    """Cut, foreign, endless and hostile bytes say nothing, and are not mistaken for JSON's null."""
    assert read_json(body) is UNREADABLE


def test_null_is_readable() -> None:
    """JSON's null is an answer, not an unreadable one."""
    assert read_json(b"null") is None


def test_figures_are_read_exactly() -> None:
    """Numbers with a point are decimals, so that no digit is lost."""
    assert read_json(b"[0.1, 0.30000000000000000001, 12345678901234567890, 1e-8]") == [
        Decimal("0.1"),
        Decimal("0.30000000000000000001"),
        12345678901234567890,
        Decimal("1e-8"),
    ]


@settings(derandomize=True, deadline=None, max_examples=80)
@given(data=OBJECTS)
def test_reading_any_json_never_raises(data: Any) -> None:
    """Whatever JSON says, it is read as a withdrawal or transaction with an id, or as none."""
    transaction = read_transaction(data)
    assert transaction is None or type(transaction.id) in {int, str}
    if isinstance(data, dict):
        withdrawal = read_withdrawal(data)
        assert (withdrawal is None) is (transaction is None)


@settings(derandomize=True, deadline=None)
@given(body=st.binary(max_size=20) | st.builds(lambda data: json.dumps({"data": data}).encode(), NO_DECIMALS))
def test_reading_balances_never_raises(body: bytes) -> None:
    """Any bytes are a list of accounts, with figures by currency, or none."""
    balances = read_balances(body)
    assert balances is None or all(name and type(figure) is Decimal for name, figure in balances.items())


def test_balances_are_read_by_currency() -> None:
    """The sample of the accounts' page is read, zero included; what is no account is left out."""
    body = (
        b'{"data":[{"currency":"BTC","type":"crypto","balance":"0.10000000"},{"currency":"EUR","balance":0},'
        b'{"currency":"","balance":"1"},{"currency":"ETH"},{"balance":"1"},"junk",null]}'
    )
    assert read_balances(body) == {"BTC": Decimal("0.1"), "EUR": Decimal(0)}


@pytest.mark.parametrize("body", [b"", b"null", b"[]", b"{}", b'{"data":{}}', b'{"data":null}'])
def test_what_is_no_list_of_accounts_has_no_balances(body: bytes) -> None:
    """An answer of another shape is no answer, and not an account without money."""
    assert read_balances(body) is None


@pytest.mark.parametrize("identity", [None, "", True, False, Decimal("1.5"), [], {}, [1], {"id": 1}])
def test_without_an_id_nothing_is_named(identity: object) -> None:
    """A reply that names no id names no withdrawal."""
    assert read_withdrawal({"id": identity, "foreign_id": "f"}) is None
    assert read_transaction({"id": identity, "foreign_id": "f"}) is None


@pytest.mark.parametrize("data", [None, [], "text", 5, True, Decimal("1.5"), [{"id": 1}], {}, {"foreign_id": "f"}])
def test_what_is_no_object_with_an_id_is_no_transaction(data: object) -> None:
    """Anything but an object with an id is no transaction."""
    assert read_transaction(data) is None


@pytest.mark.parametrize("identity", [134702815, "134702815", 0])
def test_an_id_is_kept_as_it_is_told(identity: int | str) -> None:
    """Ids may be numbers or texts."""
    withdrawal, transaction = read_withdrawal({"id": identity}), read_transaction({"id": identity})
    assert withdrawal == Withdrawal(id=identity)
    assert transaction == Transaction(id=identity)


@pytest.mark.parametrize(
    ("expected", "text"),
    [
        ("5", "5"),
        (5, "5"),
        (Decimal("5.50"), "5.50"),
        ("", ""),
        (None, None),
        (True, None),
        (["5"], None),
        ({"5": 5}, None),
    ],
)
def test_texts_are_taken_from_texts_and_numbers(expected: object, text: str | None) -> None:
    """5 and "5" are the same foreign_id; anything that is neither text nor number is not told."""
    withdrawal = read_withdrawal({"id": 1, "foreign_id": expected})
    assert withdrawal is not None
    assert withdrawal.foreign_id == text


@pytest.mark.parametrize(
    ("expected", "figure"),
    [
        ("0.00020000", "0.00020000"),
        (Decimal("0.1"), "0.1"),
        (123, "123"),
        ("-1", "-1"),
        ("1e-8", "1E-8"),
        (10**400, "1" + "0" * 400),
        ("", "NaN"),
        ("NaN", "NaN"),
        ("sNaN", "NaN"),
        ("Infinity", "NaN"),
        (Decimal("Infinity"), "NaN"),
        (Decimal("sNaN"), "NaN"),
        ("1_000", "NaN"),
        ("1,000", "NaN"),
        (" 1 ", "NaN"),
        ("\uff11", "NaN"),
        ("1e99999999999999999999", "NaN"),
        ("many", "NaN"),
        (True, "NaN"),
        ([1], "NaN"),
        ({"amount": 1}, "NaN"),
    ],
)
def test_figures_are_exact_or_not_a_number(expected: object, figure: str) -> None:
    """A figure is read exactly from text or number; anything else that is told is NaN, which equals nothing."""
    withdrawal = read_withdrawal({"id": 1, "sender_amount": expected})
    assert withdrawal is not None
    assert str(withdrawal.sender_amount) == figure


def test_an_untold_figure_is_none() -> None:
    """Null and absent say nothing, and are not the same as nonsense."""
    withdrawal = read_withdrawal({"id": 1, "sender_amount": None})
    assert withdrawal is not None
    assert (withdrawal.sender_amount, withdrawal.receiver_amount) == (None, None)


# ── reading: AlphaPo's samples ───────────────────────────────────────────────────────────────────────────────────────


def test_the_sample_of_a_success_is_read() -> None:
    """https://docs.alphapo.net/api-reference/endpoints/withdrawal-crypto."""
    result = read_json(
        b'{"data":{"id":134702815,"foreign_id":"test_foreign_id_0148","end_user_reference":"test_end_user_reference",'
        b'"type":"withdrawal","status":"processing","amount":"0.00020000","sender_amount":"0.00020000",'
        b'"sender_currency":"BTC","receiver_currency":"BTC","receiver_amount":"0.00020000"}}'
    )
    assert read_withdrawal(result["data"], "look-up") == Withdrawal(
        id=134702815,
        foreign_id="test_foreign_id_0148",
        end_user_reference="test_end_user_reference",
        type="withdrawal",
        status="processing",
        amount=Decimal("0.0002"),
        sender_amount=Decimal("0.0002"),
        sender_currency="BTC",
        receiver_currency="BTC",
        receiver_amount=Decimal("0.0002"),
        source="look-up",
    )


def test_the_sample_of_a_confirmed_withdrawal_is_read() -> None:
    """The sibling's callback page, 2026-05-29 (ALPHAPO.md section 4)."""
    result = read_json(
        b'{"id":123,"foreign_id":"operation_987","end_user_reference":"user_12345","type":"withdrawal",'
        b'"crypto_address":{"id":123,"currency":"BTC","address":"tb1q...","tag":null},'
        b'"transactions":[{"id":999,"currency":"BTC","transaction_type":"blockchain","type":"withdrawal",'
        b'"address":"tb1q...","tag":null,"amount":"0.01000000","txid":"bb04...","confirmations":"0","riskscore":0.1}],'
        b'"fees":[],"error":"","status":"confirmed"}'
    )
    part = TransactionPart(
        id=999,
        currency="BTC",
        transaction_type="blockchain",
        type="withdrawal",
        address="tb1q...",
        amount=Decimal("0.01"),
        txid="bb04...",
        confirmations="0",
        riskscore="0.1",
    )
    assert read_transaction(result) == Transaction(
        id=123,
        foreign_id="operation_987",
        end_user_reference="user_12345",
        type="withdrawal",
        status="confirmed",
        crypto_address=CryptoAddress(id=123, currency="BTC", address="tb1q...", tag_is_given=True),
        transactions=(part,),
    )


def test_the_sample_of_a_converted_withdrawal_is_read() -> None:
    """Money on both sides, an exchange before the blockchain, numbers among texts, and fees (ALPHAPO.md section 4)."""
    transaction = read_transaction(
        read_json(
            b'{"id":5,"type":"withdrawal_exchange","crypto_address":{"id":1,"address":"x","convert_to":"BTC"},'
            b'"currency_sent":{"currency":"EUR","amount":"804.25693204"},'
            b'"currency_received":{"currency":"BTC","amount":0.01000000,"amount_minus_fee":"0.0099"},'
            b'"transactions":[{"id":1000,"currency":"EUR","currency_to":"BTC","transaction_type":"exchange",'
            b'"type":"exchange","amount":381,"amount_to":0.10882300},'
            b'{"id":"t","transaction_type":"blockchain","txid":7.854431205445763e+76,"confirmations":3}],'
            b'"fees":[{"type":"mining","currency":"BTC","amount":0.0001}],"status":"confirmed"}'
        )
    )
    assert transaction is not None
    assert transaction.crypto_address == CryptoAddress(id=1, address="x", convert_to="BTC", tag_is_given=False)
    assert transaction.currency_sent == Money(currency="EUR", amount=Decimal("804.25693204"))
    assert transaction.currency_received == Money(
        currency="BTC", amount=Decimal("0.01"), amount_minus_fee=Decimal("0.0099")
    )
    assert transaction.transactions[0].amount == Decimal(381)
    assert transaction.transactions[0].amount_to == Decimal("0.108823")
    assert (transaction.transactions[1].txid, transaction.transactions[1].confirmations) == (
        "7.854431205445763E+76",
        "3",
    )
    assert transaction.blockchain is transaction.transactions[1]
    assert transaction.fees == (Fee(type="mining", currency="BTC", amount=Decimal("0.0001")),)


def test_the_sample_of_a_cancelled_withdrawal_is_read() -> None:
    """Neither side's money is told, and AlphaPo's words are kept (ALPHAPO.md section 4)."""
    transaction = read_transaction(
        read_json(
            b'{"id":2686580,"foreign_id":"123","type":"withdrawal","crypto_address":{"id":382362,"currency":"ETH",'
            b'"address":"12345","tag":null},"transactions":[{"id":714681,"currency":"ETH",'
            b'"transaction_type":"blockchain","type":"withdrawal","address":"12345","tag":null,"amount":"1.00000000",'
            b'"txid":null,"confirmations":"0"}],"fees":[],'
            b'"error":"Invalid params: expected a hex-encoded hash with 0x prefix.","status":"cancelled"}'
        )
    )
    assert transaction is not None
    assert (transaction.status, transaction.is_final, transaction.txids) == ("cancelled", True, ())
    assert transaction.error == "Invalid params: expected a hex-encoded hash with 0x prefix."
    assert (transaction.currency_sent, transaction.currency_received) == (None, None)


@pytest.mark.parametrize("shape", [None, [], "text", 5, [5], ["x"], {"0": {}}])
def test_parts_of_another_shape_are_left_out(shape: object) -> None:
    """A transaction is read as far as it makes sense, and never refused for its parts."""
    transaction = read_transaction({"id": 1, "transactions": shape, "fees": shape, "currency_sent": [shape]})
    assert transaction == Transaction(id=1)


@pytest.mark.parametrize(("data", "is_told"), [({}, False), ({"tag": None}, True), ({"tag": "5"}, True)])
def test_no_tag_and_nothing_said_of_a_tag_are_kept_apart(data: dict[str, Any], is_told: bool) -> None:  # noqa: FBT001
    """Only a witness that mentions the tag can contradict ours."""
    transaction = read_transaction({"id": 1, "crypto_address": data | {"tag_is_given": "hostile"}})
    assert transaction is not None
    assert transaction.crypto_address is not None
    assert transaction.crypto_address.tag_is_given is is_told


def test_what_was_read_can_be_written_down() -> None:
    """A journal can keep any transaction as JSON, NaN and huge figures included."""
    transaction = read_transaction({"id": 1, "fees": [{"amount": "junk"}, {"amount": Decimal("1e999999999")}]})
    again = msgspec.json.decode(msgspec.json.encode(transaction), type=Transaction)
    assert [str(fee.amount) for fee in again.fees] == ["NaN", "1E+999999999"]


# ── the usual reply ──────────────────────────────────────────────────────────────────────────────────────────────────

_USUAL = {
    "id": 134702815,
    "foreign_id": "payout-17",
    "end_user_reference": "user-42",
    "type": "withdrawal",
    "status": "processing",
    "amount": "0.0015",
    "sender_amount": "0.0015",
    "sender_currency": "BTC",
    "receiver_currency": "BTC",
    "receiver_amount": "0.00150",
}
_ANY_VALUE = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-5, 10**25),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=5),
    st.sampled_from(["NaN", "1e5", " 1", "1_0", "-3", "", ".5", "9" * 30, "é", "\ud800"]),
    st.just([]),
    st.just({"id": 1}),
)
_CHANGED = st.dictionaries(st.sampled_from([*_USUAL, "more"]), _ANY_VALUE, max_size=3)


def _the_long_way(body: bytes) -> Withdrawal | None:
    result = read_json(body)
    data = result.get("data") if isinstance(result, dict) else None
    return read_withdrawal(data) if isinstance(data, dict) else None


@settings(derandomize=True, max_examples=200)
@given(_CHANGED, st.sets(st.sampled_from(sorted(_USUAL)), max_size=2), st.sampled_from(["data", "Data", "more"]))
def test_a_usual_reply_is_read_as_any_other(changed: dict[str, Any], left_out: set[str], key: str) -> None:
    """Whatever it holds, the quick way and the long way tell the same."""
    data = {name: value for name, value in (_USUAL | changed).items() if name not in left_out}
    body = json.dumps({"data": _USUAL, key: data} if key == "more" else {key: data}).encode()

    assert repr(read_reply(body)) == repr(_the_long_way(body))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"[]",
        b'{"data":null}',
        b'{"data":[]}',
        b'{"data":{"id":7.0}}',
        b'{"data":{"id":007}}',
        b'{"data":{"id":7}} ',
        b'{"data":{"id":7}}}',
        b'{"data":{"id":7,"id":8}}',
        b'{"data":{"id":"x"},"data":{"id":7}}',
        b'{"data":{"id":"7"}}',
        b'{"data":{"id":9999999999999999999999}}',
        b'{"data":{"id":-7}}',
        b'{"data":{"id":0}}',
        b'{"data":{"id":7,"foreign_id":"\xff"}}',
        b'{"data":{"id":7,"more":"\xff"}}',
        b'{"data":{"id":7,"more":1e999999999999}}',
        b'{"data":{"id":7},"more":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"data":{"id":7,"foreign_id":' + b"[" * 100_000,
    ],
)
def test_an_odd_reply_is_read_as_any_other(body: bytes) -> None:
    """Bytes that are no JSON, or hardly."""
    assert repr(read_reply(body)) == repr(_the_long_way(body))


def test_what_makes_two_payments_is_named() -> None:
    """However the amounts are written."""
    assert differing(make(), make(amount="0.00150")) == ()
    assert differing(make(), make(amount="7", address="other", tag="x")) == ("address", "amount", "tag")


@pytest.mark.parametrize(("amount_format", "written"), [("number", "0.5"), ("string", '"0.5"')])
def test_an_amount_of_any_body_is_written_in_the_same_forms(amount_format: AmountFormat, written: str) -> None:
    """An amount that would be rounded as a number is refused under the name of its field."""
    assert msgspec.json.encode(write_amount("amount", Decimal("0.5"), amount_format)).decode() == written
    with pytest.raises(InvalidRequest, match="amount_to "):
        write_amount("amount_to", Decimal("0.12345678901234567890"), "number")
