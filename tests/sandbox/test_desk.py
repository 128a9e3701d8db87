"""The desk: one request in, one reaction out, and the ledger written."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from alphapo_async.core.signer import Signer
from alphapo_async.sandbox.desk import OUT_OF_SCOPE, Question, Reaction
from alphapo_async.sandbox.dialects import Dialect
from alphapo_async.sandbox.edge import Way
from alphapo_async.sandbox.faults import AllFail, Fault, Script
from tests.support.questions import OTHER, Counter, fields, question

NAME = {"foreign_id": "payout-17"}


def read(reaction: Reaction) -> Any:
    """Return the JSON of a reaction."""
    return json.loads(reaction.answer.body, parse_float=Decimal)


def post(counter: Counter, **changes: Any) -> Reaction:
    """Post a withdrawal."""
    path = "/api/v2/withdrawal/crypto"
    return counter.desk.react("POST", path, question(fields(**changes)), counter.time, 0.0)


def look_up(counter: Counter, body: Any = NAME, **how: Any) -> Reaction:
    """Ask for a withdrawal."""
    return counter.desk.react("GET", "/api/v2/transactions/info", question(body, **how), counter.time, 0.0)


def always(fault: Fault, *kinds: str) -> Script:
    """Return a plan that strikes always."""
    return Script({"*": {kind: [fault] for kind in kinds or ("withdrawal",)}}, then="repeat last")


def test_accepted_and_written_down() -> None:
    """The reply names the withdrawal, and the ledger holds body and acceptance."""
    counter = Counter()
    reaction = post(counter)
    assert reaction.way is Way.ANSWER
    assert reaction.record is counter.state.records[0]
    (seen,) = counter.ledger.requests("payout-17")
    assert (seen.outcome, seen.accepted_id, seen.key) == ("accepted", read(reaction)["data"]["id"], "sandbox-key")
    assert json.loads(seen.body)["address"] == "bc1qSomebody"


def test_where_all_fail_what_is_accepted_is_cancelled_at_once() -> None:
    """The reply says so, and the balance is what it was."""
    counter = Counter()
    counter.desk.faults = AllFail()
    before = counter.state.balances(counter.time)
    assert read(post(counter))["data"]["status"] == "cancelled"
    assert counter.ledger.all_accepted()[0].moved_money is False
    assert counter.state.balances(counter.time) == before
    assert post(counter, currency="what").answer.status == 400


def test_refused_reused_original() -> None:
    """Each verdict has its outcome, and none of these is a new acceptance."""
    counter = Counter()
    assert post(counter, currency="what").answer.status == 400
    post(counter)
    assert post(counter).answer.status == 400
    counter.state.dialect = Dialect(reused_answer="original")
    assert read(post(counter, amount=5))["data"]["amount"] == "0.00150000"
    seen = counter.ledger.requests("payout-17")
    assert [one.outcome for one in seen] == ["refused", "accepted", "reused", "original"]
    assert [one.accepted_id is None for one in seen] == [True, False, True, True]


@pytest.mark.parametrize(
    ("asked", "status", "code"),
    [
        (Question(b"{}", None, None, "application/json"), 403, "required_header_key"),
        (Question(b"{}", "sandbox-key", None, "application/json"), 403, "required_header_signature"),
        (question(b"{}", Signer("nobody", "x")), 403, "bad_header_key"),
        (question(b"{}", Signer("sandbox-key", "x")), 403, "bad_header_signature"),
        (question(b"{", content_type="application/json"), 400, "bad_content_format"),
        (question(b"{}", content_type="text/plain"), 400, "bad_content_format"),
    ],
)
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "withdrawal/crypto"),
        ("GET", "transactions/info"),
        ("POST", "accounts/list"),
        ("POST", "currencies/list"),
        ("POST", "currencies/rates"),
        ("POST", "exchange/calculate"),
    ],
)
def test_who_is_not_let_in(asked: Question, status: int, code: str, method: str, path: str) -> None:
    """Every signed endpoint asks for key, signature and JSON, in the documented words."""
    counter = Counter()
    reaction = counter.desk.react(method, f"/api/v2/{path}", asked, 0.0, 0.0)
    assert (reaction.answer.status, read(reaction)["code"]) == (status, code)
    if path == "withdrawal/crypto":
        assert [seen.outcome for seen in counter.ledger.requests("")] == [code]


def test_a_content_type_may_name_its_charset() -> None:
    """JSON is JSON, with or without a charset."""
    assert read(look_up(Counter(), content_type="Application/JSON; charset=utf-8"))["code"] == "not_found"


def test_a_wrong_path_gives_403() -> None:
    """Documented: the code of a missing key."""
    counter = Counter()
    for method, path in (("GET", "/api/v2/withdrawal/crypto"), ("POST", "/api/v3/ping"), ("GET", "/")):
        reaction = counter.desk.react(method, path, question({}), 0.0, 0.0)
        assert (reaction.answer.status, read(reaction)["code"]) == (403, "required_header_key")


@pytest.mark.parametrize("path", sorted(OUT_OF_SCOPE))
def test_a_documented_endpoint_that_is_not_there_says_so(path: str) -> None:
    """404 with a sentence that names it; by GET it is a wrong path."""
    counter = Counter()
    result = counter.desk.react("POST", f"/api/v2/{path}", question({}), 0.0, 0.0)
    assert result.answer.status == 404
    assert path in read(result)["error"]
    assert counter.desk.react("GET", f"/api/v2/{path}", question({}), 0.0, 0.0).answer.status == 403


def test_rates_and_quotes() -> None:
    """Pairs, a quote, a refusal, and 429 beyond 30 questions a minute with a body that is not JSON."""
    counter = Counter()
    pairs = counter.desk.react("POST", "/api/v2/currencies/rates", question({"currency_from": "EUR"}), 0.0, 0.0)
    assert {pair["currency_from"]["currency"] for pair in read(pairs)["data"]} == {"EUR"}
    asked = {"sender_currency": "EUR", "receiver_currency": "BTC"}
    for changes, status in (({"sender_amount": 100}, 200), ({}, 400), *(({"sender_amount": 1}, 200),) * 28):
        result = counter.desk.react("POST", "/api/v2/exchange/calculate", question({**asked, **changes}), 0.0, 0.0)
        assert result.answer.status == status
    result = counter.desk.react("POST", "/api/v2/exchange/calculate", question({**asked, "sender_amount": 1}), 0.0, 0.0)
    assert result.answer.status == 429
    assert b'{"errors": {"error code' in result.answer.body


def test_look_up_by_each_name() -> None:
    """One name finds it; none and several are mistakes; an unknown one is told in the dialect."""
    counter = Counter()
    post(counter)
    found = read(look_up(counter))
    assert found["status"] == "not_confirmed"
    assert read(look_up(counter, {"id": found["id"]})) == found
    assert look_up(counter, {"foreign_id": "payout-17", "id": 1}).answer.status == 404
    assert look_up(counter, {}).answer.status == 400
    assert look_up(counter, {"id": 1}).answer.status == 404
    assert look_up(counter, signer=OTHER).answer.status == 404
    assert counter.ledger.look_ups == 6


def test_the_edge_may_drop_the_body_of_a_get() -> None:
    """Then no signature of it can match."""
    counter = Counter(Dialect(look_up_transport="dropped"))
    assert read(look_up(counter))["code"] == "bad_header_signature"


def test_ping_accounts_currencies_and_books() -> None:
    """The other pages."""
    counter = Counter(balances={"BTC": 2})
    post(counter, amount=1)
    assert counter.desk.react("GET", "/api/v2/ping", Question(b"", None, None, ""), 0.0, 0.0).answer.body == b"OK"
    accounts = counter.desk.react("POST", "/api/v2/accounts/list", question({}), 0.0, 0.0)
    assert read(accounts)["data"] == [{"currency": "BTC", "type": "crypto", "balance": "1.00000000"}]
    currencies = counter.desk.react("POST", "/api/v2/currencies/list", question(b"[]"), 0.0, 0.0)
    assert "BTC" in {row["currency"] for row in read(currencies)["data"]}
    books = counter.desk.react("GET", "/sandbox/ledger", Question(b"", None, None, ""), 0.0, 0.0)
    assert (read(books)["posts"], read(books)["pings"]) == (1, 1)


@pytest.mark.parametrize("fault", list(Fault))
def test_a_fault_processes_what_it_says(fault: Fault) -> None:
    """The books agree with `accepts`, and the ledger names the fault."""
    counter = Counter(faults=always(fault))
    reaction = post(counter)
    if fault is not Fault.LATE:
        assert len(counter.state.records) == (fault.accepts is not False)
    (seen,) = counter.ledger.requests("payout-17")
    assert seen.fault == fault.value
    assert (seen.accepted_id is not None) is bool(fault.accepts is not False and fault is not Fault.LATE)
    assert (reaction.late is not None) is (fault is Fault.LATE)


def test_a_late_body_is_processed_by_the_rules_of_its_moment() -> None:
    """Accepted later, even after another attempt was refused; refused, if it is not valid then."""
    counter = Counter(faults=Script({"*": {"withdrawal": [Fault.LATE, Fault.INSUFFICIENT, None]}}))
    late = post(counter).late
    assert late is not None
    assert post(counter).answer.status == 422
    assert not counter.state.records
    assert counter.desk.process_late(late, 5.0) is counter.state.records[0]
    assert post(counter).answer.status == 400
    assert counter.desk.process_late(late, 6.0) is None
    assert [seen.outcome for seen in counter.ledger.requests("payout-17")] == ["reused", "not processed", "reused"]


def test_another_foreign_id_is_a_lie() -> None:
    """A success that names another withdrawal; nothing happened; what is wrong is refused all the same."""
    counter = Counter(faults=always(Fault.OTHER_FOREIGN_ID))
    assert read(post(counter))["data"]["foreign_id"] == "not-payout-17"
    assert not counter.state.records
    assert post(counter, currency="what").answer.status == 400
    path = "/api/v2/withdrawal/crypto"
    assert counter.desk.react("POST", path, question(b"{"), 0.0, 0.0).answer.status == 400
    counter.desk.faults = Script({})
    counter.state.dialect = Dialect(reused_answer="original")
    post(counter)
    counter.desk.faults = always(Fault.OTHER_FOREIGN_ID, "withdrawal", "look-up")
    assert read(post(counter))["data"]["foreign_id"] == "not-payout-17"
    assert read(look_up(counter))["foreign_id"] == "not-payout-17"


def test_another_amount_is_a_lie_about_a_real_payment() -> None:
    """The books hold what was asked, the reply and the look-up tell more."""
    counter = Counter(faults=always(Fault.OTHER_AMOUNT, "withdrawal", "look-up"))
    assert read(post(counter))["data"]["amount"] == "1.00150000"
    assert counter.ledger.accepted("payout-17")[0].amount == Decimal("0.0015")
    assert read(look_up(counter))["currency_sent"]["amount"] == "1.00150000"
    assert post(counter).answer.status == 400


def test_faults_strike_questions_too() -> None:
    """Look-ups, pings and lists; but nobody is short of money for a question."""
    kinds = ("look-up", "ping", "accounts", "currencies")
    counter = Counter(faults=always(Fault.HTML_503_BEFORE, *kinds))
    post(counter)
    pages = [("GET", "transactions/info"), ("GET", "ping"), ("POST", "accounts/list"), ("POST", "currencies/list")]
    for method, path in pages:
        assert counter.desk.react(method, f"/api/v2/{path}", question(NAME), 0.0, 0.0).answer.status == 503
    nobody = Question(b"", None, None, "")
    assert counter.desk.react("POST", "/api/v2/accounts/list", nobody, 0.0, 0.0).answer.status == 503
    counter.desk.faults = always(Fault.INSUFFICIENT, *kinds)
    assert look_up(counter).answer.status == 200


def test_nothing_shows_a_body_by_accident() -> None:
    """A question prints its size only."""
    assert repr(question(b"secret")) == "Question(body=<6 bytes>)"


@given(st.binary(max_size=80) | st.dictionaries(st.sampled_from([*fields(), "id"]), st.integers() | st.text()))
def test_any_body_is_answered(body: Any) -> None:
    """Whatever is signed and sent, there is an answer."""
    counter = Counter()
    raw = body if isinstance(body, bytes) else msgspec.json.encode(body)
    for method, path in (("POST", "withdrawal/crypto"), ("GET", "transactions/info")):
        assert counter.desk.react(method, f"/api/v2/{path}", question(raw), 0.0, 0.0).answer.status in {
            200,
            201,
            400,
            404,
        }
