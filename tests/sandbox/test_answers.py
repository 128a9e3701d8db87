"""How answers are put into bytes."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from alphapo_async.sandbox import answers
from alphapo_async.sandbox.answers import HttpAnswer
from alphapo_async.sandbox.catalogue import MINIMUMS
from alphapo_async.sandbox.checks import AuthenticationProblem, ExchangeFields
from alphapo_async.sandbox.dialects import Dialect
from alphapo_async.sandbox.records import shown_id
from alphapo_async.sandbox.rules import MerchantState, Refusal
from tests.support.questions import SIGNER, accepted


def read(answer: HttpAnswer) -> Any:
    """Return the JSON of an answer, its figures exact."""
    return json.loads(answer.body, parse_float=Decimal)


@pytest.mark.parametrize(
    ("dialect", "value", "expected"),
    [
        (Dialect(), "0.0015", "0.00150000"),
        (Dialect(), "1E-9", "0.000000001"),
        (Dialect(), "1E+2", "100.00000000"),
        (Dialect(places="cut"), "0.123456789", "0.12345678"),
        (Dialect(places="rounded"), "0.123456789", "0.12345679"),
        (Dialect(figures="numbers"), "1E-9", b"0.000000001"),
        (Dialect(figures="doubles"), "0.0015", b"0.0015"),
        (Dialect(figures="doubles"), "0.1", b"0.10000000000000001"),
    ],
)
def test_a_figure_is_told_in_plain_decimals(dialect: Dialect, value: str, expected: str | bytes) -> None:
    """As a string or a number, whole or with 8 places, never with an exponent."""
    figure = answers.figure(Decimal(value), dialect)
    assert (bytes(figure) if isinstance(figure, msgspec.Raw) else figure) == expected


def test_an_accepted_withdrawal_looks_like_the_sample() -> None:
    """The fields of the documented reply, wrapped in `data`."""
    record = accepted(MerchantState())
    answer = answers.accepted(record, Dialect(), 0.0)
    assert (answer.status, answer.content_type) == (201, "application/json")
    assert read(answer) == {
        "data": {
            "id": record.id,
            "foreign_id": "payout-17",
            "end_user_reference": "user-42",
            "type": "withdrawal",
            "status": "processing",
            "amount": "0.00150000",
            "sender_amount": "0.00150000",
            "sender_currency": "BTC",
            "receiver_currency": "BTC",
            "receiver_amount": "0.00150000",
        }
    }
    assert "payout" not in repr(answer)


def test_a_number_comes_back_as_a_number() -> None:
    """A foreign_id keeps its type, and loses its blanks in one dialect."""
    state = MerchantState()
    assert read(answers.accepted(accepted(state, foreign_id=164), Dialect(), 0.0))["data"]["foreign_id"] == 164
    record = accepted(state, foreign_id=" a ")
    trimmed = Dialect(foreign_id_form="trimmed", success_status=200, figures="numbers")
    answer = answers.accepted(record, trimmed, 0.0)
    assert answer.status == 200
    assert read(answer)["data"]["foreign_id"] == "a"
    assert read(answer)["data"]["amount"] == Decimal("0.0015")


def test_a_withdrawal_over_the_limit() -> None:
    """What its reply says is one of the open questions; a look-up says "pending", without the two sides."""
    record = accepted(MerchantState(), address="decline-1")
    for status in ("pending", "processing"):
        dialect = Dialect(over_limit_status=status)
        assert read(answers.accepted(record, dialect, 0.0))["data"]["status"] == status
    text = read(answers.shown(record, Dialect(fees="inside"), 0.0))
    assert (text["status"], text["error"], text["fees"]) == ("pending", "", [])
    assert "currency_sent" not in text
    assert read(answers.shown(record, Dialect(), 1.0))["status"] == "declined"


def test_refusals_blame_fields() -> None:
    """One text for each field, or a list of texts."""
    refusal = Refusal({"amount": "Not enough amount"}, 422)
    assert read(answers.refused(refusal, Dialect())) == {"errors": {"amount": "Not enough amount"}}
    assert read(answers.refused(refusal, Dialect(reused_shape="list"))) == {"errors": {"amount": ["Not enough amount"]}}


def test_errors_of_the_other_shape() -> None:
    """A text and a code."""
    problem = AuthenticationProblem("bad_header_key", "Bad key header")
    assert answers.not_let_in(problem).status == 403
    assert read(answers.not_let_in(problem)) == {"error": "Bad key header", "code": "bad_header_key"}
    assert read(answers.bad_format()) == {"error": "Bad content format", "code": "bad_content_format"}
    assert read(answers.textual(400, "No parameters present")) == {"error": "No parameters present"}


def test_a_look_up_shows_the_callbacks_object() -> None:
    """Not wrapped in `data`; processing is told as not_confirmed; confirmed has a txid."""
    record = accepted(MerchantState(), tag="7")
    text = read(answers.shown(record, Dialect(), 0.0))
    assert text == {
        "id": record.id,
        "foreign_id": "payout-17",
        "end_user_reference": "user-42",
        "type": "withdrawal",
        "crypto_address": {"id": record.id, "currency": "BTC", "address": "bc1qSomebody", "tag": "7"},
        "currency_sent": {"currency": "BTC", "amount": "0.00150000"},
        "currency_received": {"currency": "BTC", "amount": "0.00150000"},
        "transactions": [
            {
                "id": record.id * 4,
                "currency": "BTC",
                "transaction_type": "blockchain",
                "type": "withdrawal",
                "address": "bc1qSomebody",
                "tag": "7",
                "amount": "0.00150000",
                "txid": None,
                "confirmations": "0",
            }
        ],
        "fees": [],
        "error": "",
        "status": "not_confirmed",
    }
    later = read(answers.shown(record, Dialect(), 1.0))
    assert later["status"] == "confirmed"
    assert later["transactions"][0]["txid"] == f"{record.id:064x}"


def test_a_conversion_has_two_transactions() -> None:
    """The blockchain one in the target, the exchange in both currencies."""
    record = accepted(MerchantState(), currency="EUR", convert_to="BTC", amount=500)
    text = read(answers.shown(record, Dialect(), 1.0))
    assert text["type"] == "withdrawal_exchange"
    assert text["crypto_address"]["convert_to"] == "BTC"
    assert [part["transaction_type"] for part in text["transactions"]] == ["blockchain", "exchange"]
    assert text["currency_received"] == {"currency": "BTC", "amount": "0.01000000"}
    assert text["transactions"][1]["amount_to"] == "0.01000000"


@pytest.mark.parametrize(
    ("fees", "sent", "received", "fee"),
    [("outside", "1.00100000", "1.00000000", "0.00100000"), ("inside", "1.00000000", "0.99900000", "0.00100000")],
)
def test_fees_are_named(fees: str, sent: str, received: str, fee: str) -> None:
    """On top of what is sent, or out of what is received, and told beside."""
    record = accepted(MerchantState(), amount=1)
    dialect = Dialect(fees=fees)  # type: ignore[arg-type]
    text = read(answers.shown(record, dialect, 0.0))
    assert (text["currency_sent"]["amount"], text["currency_received"]["amount"]) == (sent, received)
    assert text["fees"] == [{"type": "mining", "currency": "BTC", "amount": fee}]


@pytest.mark.parametrize(("address", "expected"), [("bc1qSomebody", "bc1qsomebody"), ("bc1q", "BC1Q")])
def test_an_address_may_come_back_in_another_case(address: str, expected: str) -> None:
    """Some spelling that is not the one sent."""
    record = accepted(MerchantState(), address=address)
    assert read(answers.shown(record, Dialect(address_form="other case"), 0.0))["crypto_address"]["address"] == expected


def test_a_fee_may_go_unnamed() -> None:
    """What was sent is less, and no entry of `fees` says why."""
    text = read(answers.shown(accepted(MerchantState(), amount=1), Dialect(fees="unnamed"), 0.0))
    assert (text["currency_sent"]["amount"], text["currency_received"]["amount"]) == ("0.99900000", "1.00000000")
    assert (text["transactions"][0]["amount"], text["fees"]) == ("1.00000000", [])


@pytest.mark.parametrize(
    ("sides", "given"),
    [
        ("unless ended", {"processing", "confirmed"}),
        ("always", {"pending", "processing", "confirmed", "cancelled", "declined"}),
        ("unless final", {"processing"}),
    ],
)
def test_the_sides_depend_on_the_status(sides: str, given: set[str]) -> None:
    """The pages disagree."""
    record, dialect = accepted(MerchantState()), msgspec.convert({"sides": sides}, Dialect)
    statuses = ("pending", "processing", "confirmed", "cancelled", "declined")
    result = {status for status in statuses if "currency_sent" in answers.transaction(record, dialect, status)}
    assert result == given


@pytest.mark.parametrize(
    ("parts", "entries", "kinds"),
    [
        ("blockchain", "one", ["blockchain", "exchange"]),
        ("internal", "one", ["internal", "exchange"]),
        ("blockchain", "several", ["blockchain", "blockchain", "exchange"]),
        ("exchange", "several", ["exchange"]),
        ("none", "one", []),
    ],
)
def test_the_entries_of_a_conversion(parts: str, entries: str, kinds: list[str]) -> None:
    """What is paid out adds up, however many entries it has."""
    record = accepted(MerchantState(), currency="EUR", convert_to="BTC", amount=500)
    dialect = msgspec.convert({"parts": parts, "entries": entries}, Dialect)
    result = answers.transaction(record, dialect, "confirmed")["transactions"]
    assert [part["transaction_type"] for part in result] == kinds
    paid = [Decimal(part["amount"]) for part in result if part["transaction_type"] != "exchange"]
    assert sum(paid) == (record.received if paid else 0)


@pytest.mark.parametrize(
    ("form", "tag", "expected"),
    [
        ("text", "77", {"tag": "77"}),
        ("text", None, {"tag": None}),
        ("number", "77", {"tag": 77}),
        ("number", "memo", {"tag": "memo"}),
        ("0", None, {"tag": 0}),
        ("0", "77", {"tag": 77}),
        ("null", "77", {"tag": None}),
        ("missing", "77", {}),
    ],
)
def test_a_tag_is_written_in_five_ways(form: str, tag: str | None, expected: dict[str, Any]) -> None:
    """In `crypto_address` and in the entry of the payment alike."""
    record = accepted(MerchantState(), tag=tag)
    shown = answers.transaction(record, msgspec.convert({"tag": form}, Dialect), "confirmed")
    for place in (shown["crypto_address"], shown["transactions"][0]):
        assert {name: value for name, value in place.items() if name == "tag"} == expected


@pytest.mark.parametrize(
    ("form", "expected"),
    [("kept", "bc1qSomebody"), ("with scheme", "btc:bc1qSomebody"), ("other form", "ydobemoSq1cb")],
)
def test_an_address_has_four_forms(form: str, expected: str) -> None:
    """The fourth, another case, has a test of its own."""
    shown = answers.transaction(
        accepted(MerchantState()), msgspec.convert({"address_form": form}, Dialect), "confirmed"
    )
    assert shown["crypto_address"]["address"] == expected


def test_look_ups_may_count_their_ids_apart_and_leave_fields_out() -> None:
    """A look-up by that id finds the withdrawal; a reply may lack what the receiver gets."""
    dialect = Dialect(ids="apart", end_user_reference="optional", receiver_amount="missing")
    state = MerchantState(dialect)
    record = accepted(state)
    result = answers.transaction(record, dialect, "confirmed")
    assert result["id"] == shown_id(record, dialect) != record.id
    assert state.look_up({"id": result["id"]}, SIGNER.key, 0.0) is record
    assert "end_user_reference" not in result
    data = read(answers.accepted(record, dialect, 0.0))["data"]
    assert (data["id"], "receiver_amount" in data) == (record.id, False)


def test_a_byte_order_mark_stands_before_the_json() -> None:
    """Of replies, look-ups and refusals."""
    dialect, record = Dialect(byte_order_mark=True), accepted(MerchantState())
    marked = answers.accepted(record, dialect, 0.0).body, answers.shown(record, dialect, 0.0).body
    assert all(body.startswith(b"\xef\xbb\xbf{") for body in marked)
    assert answers.encode({}, dialect) == b"\xef\xbb\xbf{}"


def test_cancelled_says_why() -> None:
    """The text of the documented sample, no txid, no sides."""
    text = read(answers.shown(accepted(MerchantState(), address="12345"), Dialect(fees="outside"), 1.0))
    assert text["status"] == "cancelled"
    assert text["error"] == "Invalid params: expected a hex-encoded hash with 0x prefix."
    assert text["transactions"][0]["txid"] is None
    assert not text["fees"]
    assert "currency_sent" not in text


@pytest.mark.parametrize(
    ("dialect", "status", "body"),
    [
        ("404", 404, {"error": "Transaction not found", "code": "not_found"}),
        ("400", 400, {"errors": {"foreign_id": "The selected foreign id is invalid."}}),
        ("403", 403, {"error": "Access denied", "code": "access_denied"}),
        ("200 null", 200, None),
        ("200 {}", 200, {}),
    ],
)
def test_the_unknown_is_told_in_five_ways(dialect: str, status: int, body: Any) -> None:
    """No document says which."""
    answer = answers.unknown("foreign_id", Dialect(look_up_unknown=dialect))  # type: ignore[arg-type]
    assert (answer.status, read(answer)) == (status, body)


def test_accounts_and_currencies() -> None:
    """Every balance and every currency, crypto and fiat."""
    rows = read(answers.accounts({"BTC": Decimal(0), "EUR": Decimal(5)}, Dialect()))["data"]
    assert rows == [
        {"currency": "BTC", "type": "crypto", "balance": "0.00000000"},
        {"currency": "EUR", "type": "fiat", "balance": "5.00000000"},
    ]
    currencies = {row["currency"]: row for row in read(answers.currencies(MINIMUMS, Dialect()))["data"]}
    assert currencies["XRP"]["minimum_withdrawal_amount"] == "0.00100000"
    assert (currencies["BTC"]["type"], currencies["USD"]["type"]) == ("crypto", "fiat")


def test_rates_name_both_currencies_of_each_pair() -> None:
    """All pairs, or those from or to one currency."""
    pairs = read(answers.rates({}, MINIMUMS, Dialect()))["data"]
    assert len(pairs) == len(MINIMUMS) * (len(MINIMUMS) - 1)
    [pair] = read(answers.rates({"currency_from": "EUR", "currency_to": "BTC"}, MINIMUMS, Dialect()))["data"]
    assert pair == {
        "currency_from": {"currency": "EUR", "type": "fiat", "min_amount": "0.00000001"},
        "currency_to": {"currency": "BTC", "type": "crypto"},
        "rate_from": "1.00000000",
        "rate_to": "0.00002000",
    }


def test_a_quote_and_an_endpoint_that_is_not_there() -> None:
    """A quote has the documented names; what is out of scope says so in a sentence."""
    asked = ExchangeFields("EUR", "BTC", Decimal(100), None)
    quote = read(answers.quote(asked, Decimal(100), Decimal("0.002"), Dialect(), 7.5))["data"]
    assert (quote["sender_amount"], quote["receiver_amount"], quote["price"]) == (
        "100.00000000",
        "0.00200000",
        "0.00002000",
    )
    assert (quote["ts_fixed"], quote["ts_release"]) == (7, 67)
    result = answers.out_of_scope("/api/v2/invoices/create")
    assert (result.status, read(result)["code"]) == (404, "not_in_the_sandbox")
    assert "/api/v2/invoices/create" in read(result)["error"]
