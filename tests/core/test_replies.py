import asyncio
import json
from email.utils import formatdate
from typing import Any, get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from alphapo_async.core.codec import UNREADABLE, read_json
from alphapo_async.core.comparison import Difference, compare
from alphapo_async.core.models import Transaction, Withdrawal, WithdrawalRequest
from alphapo_async.core.replies import (
    Accepted,
    Answer,
    AnswerName,
    Duplicate,
    Found,
    InDoubt,
    KeyRefused,
    Mismatched,
    NoAnswer,
    NoneFound,
    NoReply,
    NotSent,
    Proof,
    ProofName,
    Rejected,
    Reply,
    has_never_left,
    judge_look_up,
    judge_reply,
    lets_in,
    mark_never_left,
    name_of,
    reason_of,
    retry_after_seconds,
    why_unanswered,
)

JSON = "application/json"
NOW = 1_700_000_000.0
ASKED = WithdrawalRequest(
    currency="BTC", address="bc1q9x", amount="0.0002", foreign_id="f-17", end_user_reference="user-42"
)


def success(**changes: Any) -> bytes:
    """Return AlphaPo's documented success for `ASKED`, with these changes to `data`; `...` leaves a field out."""
    data = {
        "id": 134702815,
        "foreign_id": "f-17",
        "end_user_reference": "user-42",
        "type": "withdrawal",
        "status": "processing",
        "amount": "0.00020000",
        "sender_amount": "0.00020000",
        "sender_currency": "BTC",
        "receiver_currency": "BTC",
        "receiver_amount": "0.00020000",
    } | changes
    return json.dumps({"data": {name: value for name, value in data.items() if value is not ...}}).encode()


def errors(**fields: Any) -> bytes:
    """Return a validation error, AlphaPo's second shape."""
    return json.dumps({"errors": fields}).encode()


def code(value: Any, **more: Any) -> bytes:
    """Return an error with a code, AlphaPo's first shape."""
    return json.dumps({"error": "Text", "code": value} | more).encode()


def proof_of(status: int, body: bytes, content_type: str = JSON, asked: WithdrawalRequest = ASKED) -> Proof:
    """Return what such a reply proves."""
    return judge_reply(Reply(status, body, content_type), asked, NOW)


TAKEN = "The foreign id has already been taken."
TOO_SMALL = "The amount must be at least 0.001."
HTML = b"<html><body>502 Bad Gateway</body></html>"
NO_JSON = b'{"errors": {"error code: 1015"}}'  # AlphaPo's own sample of a throttled reply


# ── the table: what one reply proves ────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("status", "body", "content_type", "proof"),
    [
        # 2xx with `data`, this foreign_id, this payment
        (200, success(), JSON, Accepted),
        (201, success(), JSON, Accepted),
        (202, success(), JSON, Accepted),
        (299, success(), JSON, Accepted),
        (201, success(), "", Accepted),
        (201, success(), "text/html", Accepted),  # mislabelled, but nobody else could write this body
        (201, success(id="134702815"), JSON, Accepted),
        (201, success(sender_amount=0.0002, receiver_amount=5), JSON, Accepted),
        (201, success(sender_amount=..., sender_currency=...), JSON, Accepted),
        (201, success(sender_amount=None, sender_currency=None), JSON, Accepted),
        (201, success(receiver_amount="9", receiver_currency="ETH"), JSON, Accepted),  # never the other side
        (201, success(status="brand new", surprise={"a": [1]}), JSON, Accepted),
        # 2xx with `data.id` but another or no foreign_id, or another amount or currency
        (201, success(foreign_id="f-18"), JSON, Mismatched),
        (201, success(foreign_id="F-17"), JSON, Mismatched),
        (201, success(foreign_id=" f-17"), JSON, Mismatched),
        (201, success(foreign_id=...), JSON, Mismatched),
        (201, success(foreign_id=None), JSON, Mismatched),
        (201, success(foreign_id=["f-17"]), JSON, Mismatched),
        (201, success(sender_amount="0.0003"), JSON, Mismatched),
        (201, success(sender_amount="0.002"), JSON, Mismatched),
        (201, success(sender_amount="-0.0002"), JSON, Mismatched),
        (201, success(sender_amount="0"), JSON, Mismatched),
        (201, success(sender_amount="0.00"), JSON, Mismatched),  # cut to two places it would agree: never fewer than 8
        (201, success(sender_amount="NaN"), JSON, Mismatched),
        (201, success(sender_amount="junk"), JSON, Mismatched),
        (201, success(sender_amount="1e999999999"), JSON, Mismatched),
        (201, success(sender_currency="ETH"), JSON, Mismatched),
        (201, success(sender_currency="btc"), JSON, Mismatched),
        # any other 2xx
        (200, b"", JSON, InDoubt),
        (200, success()[:-1], JSON, InDoubt),
        (200, success()[1:], JSON, InDoubt),
        (200, HTML, "text/html", InDoubt),
        (200, b"OK", "text/html", InDoubt),
        (200, b"null", JSON, InDoubt),
        (200, b"{}", JSON, InDoubt),
        (200, b"[]", JSON, InDoubt),
        (200, b'{"data":null}', JSON, InDoubt),
        (200, b'{"data":[]}', JSON, InDoubt),
        (200, b'{"data":"x"}', JSON, InDoubt),
        (200, b'[{"data":{"id":1}}]', JSON, InDoubt),
        (200, success(id=...), JSON, InDoubt),
        (200, success(id=None), JSON, InDoubt),
        (200, success(id=""), JSON, InDoubt),
        (200, success(id=True), JSON, InDoubt),
        (200, success(id=1.5), JSON, InDoubt),
        (200, b'{"id":1,"foreign_id":"f-17"}', JSON, InDoubt),
        (200, errors(amount=TOO_SMALL), JSON, InDoubt),
        (200, code("bad_header_key"), JSON, InDoubt),
        (204, b"", "", InDoubt),
        # any 3xx, 1xx and nonsense
        (199, success(), JSON, InDoubt),
        (300, success(), JSON, InDoubt),
        (399, errors(amount=TOO_SMALL), JSON, InDoubt),
        (301, b"", "", InDoubt),
        (302, success(), JSON, InDoubt),
        (307, errors(amount=TOO_SMALL), JSON, InDoubt),
        (100, errors(amount=TOO_SMALL), JSON, InDoubt),
        (0, errors(amount=TOO_SMALL), JSON, InDoubt),
        (600, errors(amount=TOO_SMALL), JSON, InDoubt),
        (-1, success(), JSON, InDoubt),
        # 401, 404, 408, 5xx, whatever they say
        (401, errors(amount=TOO_SMALL), JSON, InDoubt),
        (401, code("bad_header_key"), JSON, InDoubt),
        (404, errors(amount=TOO_SMALL), JSON, InDoubt),
        (404, errors(foreign_id=TAKEN), JSON, InDoubt),
        (404, success(), JSON, InDoubt),
        (408, errors(amount=TOO_SMALL), JSON, InDoubt),
        (500, errors(amount=TOO_SMALL), JSON, InDoubt),
        (502, HTML, "text/html", InDoubt),
        (503, code("bad_content_format"), JSON, InDoubt),
        (520, b"", "text/html", InDoubt),
        (599, errors(foreign_id=TAKEN), JSON, InDoubt),
        # all HTML, in any case
        (400, HTML, "text/html", InDoubt),
        (403, HTML, "text/html; charset=UTF-8", InDoubt),
        (400, errors(amount=TOO_SMALL), "text/html", InDoubt),
        (422, errors(amount=TOO_SMALL), "Text/HTML; charset=utf-8", InDoubt),
        (400, errors(amount=TOO_SMALL), "application/xhtml+xml", InDoubt),
        (403, code("bad_header_key"), "TEXT/HTML", InDoubt),
        # 4xx with errors
        (400, errors(amount=TOO_SMALL), JSON, Rejected),
        (422, errors(amount=[TOO_SMALL, "Not enough amount"]), JSON, Rejected),
        (409, errors(currency="The selected currency is invalid."), JSON, Rejected),
        (499, errors(amount=TOO_SMALL), JSON, Rejected),
        (403, errors(currency="Currency BTC is not enabled for your merchant"), JSON, Rejected),
        (400, errors(amount=TOO_SMALL), "", Rejected),
        (400, errors(amount=TOO_SMALL), "text/plain", Rejected),
        (400, json.dumps({"errors": {"amount": "x"}, "error_code": "not_enough_balance"}).encode(), JSON, Rejected),
        (400, json.dumps({"errors": {"amount": "x"}, "data": None}).encode(), JSON, Rejected),
        (400, json.dumps({"errors": {"amount": "x"}, "data": []}).encode(), JSON, Rejected),
        (400, errors(foreign_id="The foreign id field is required."), JSON, Rejected),
        (400, errors(foreign_id="The foreign id must be a string."), JSON, Rejected),
        (400, errors(foreign_id="The foreign id format is invalid."), JSON, Rejected),
        (400, errors(foreign_id=["The foreign id must be a string."], amount=TOO_SMALL), JSON, Rejected),
        # foreign_id blamed for anything but its form
        (400, errors(foreign_id=TAKEN), JSON, Duplicate),
        (409, errors(foreign_id=[TAKEN]), JSON, Duplicate),
        (422, errors(foreign_id="The Foreign ID has already been taken."), JSON, Duplicate),
        (400, errors(foreign_id=TAKEN, amount=TOO_SMALL), JSON, Duplicate),
        (400, errors(foreign_id=["The foreign id must be a string.", TAKEN]), JSON, Duplicate),
        (400, errors(foreign_id="must be unique"), JSON, Duplicate),
        (400, errors(foreign_id="MUST BE UNIQUE"), JSON, Duplicate),
        (400, errors(foreign_id="must be different from earlier ones"), JSON, Duplicate),
        (400, errors(foreign_id="The foreign id must be distinct."), JSON, Duplicate),
        (400, errors(foreign_id="Another foreign id is required."), JSON, Duplicate),
        (400, errors(foreign_id="A foreign id of this format already exists"), JSON, Duplicate),
        (400, errors(foreign_id="must be an id that is not in use"), JSON, Duplicate),
        (400, errors(foreign_id="The selected foreign id is invalid."), JSON, Duplicate),
        (400, errors(foreign_id="wird schon verwendet"), JSON, Duplicate),
        (400, errors(foreign_id=""), JSON, Duplicate),
        (400, errors(foreignId=TAKEN), JSON, Duplicate),  # under another spelling of its name
        (400, errors(**{"foreign_id.0": "taken"}), JSON, Duplicate),
        (400, errors(**{"Foreign ID": "taken"}), JSON, Duplicate),
        (409, errors(general=TAKEN), JSON, Duplicate),  # in the words of another field
        (409, errors(transaction="exists with this foreign_id"), JSON, Duplicate),
        (409, json.dumps({"errors": {"foreign_id": TAKEN}, **json.loads(success())}).encode(), JSON, Duplicate),
        # a "no" that shows a withdrawal is no "no"
        (400, json.dumps({"errors": {"amount": "x"}, **json.loads(success())}).encode(), JSON, InDoubt),
        (403, code("bad_header_key", data={"id": 1}), JSON, InDoubt),
        # errors of another shape
        (400, b'{"errors":{}}', JSON, InDoubt),
        (400, b'{"errors":[]}', JSON, InDoubt),
        (400, b'{"errors":null}', JSON, InDoubt),
        (400, b'{"errors":"amount"}', JSON, InDoubt),
        (400, b'{"errors":["amount"]}', JSON, InDoubt),
        (400, errors(amount=None), JSON, InDoubt),
        (400, errors(amount=[]), JSON, InDoubt),
        (400, errors(amount=[1]), JSON, InDoubt),
        (400, errors(amount=[TOO_SMALL, 1]), JSON, InDoubt),
        (400, errors(amount=True), JSON, InDoubt),
        (400, errors(amount={"min": "x"}), JSON, InDoubt),
        (400, errors(amount=TOO_SMALL, foreign_id=None), JSON, InDoubt),
        (400, b'[{"errors":{"amount":"x"}}]', JSON, InDoubt),
        (400, errors(amount=TOO_SMALL)[:-1], JSON, InDoubt),
        (400, b"", JSON, InDoubt),
        (400, b"null", JSON, InDoubt),
        (400, NO_JSON, JSON, InDoubt),
        # 400 bad_content_format
        (400, code("bad_content_format"), JSON, Rejected),
        (400, b'{"code":"bad_content_format"}', JSON, Rejected),
        (422, code("bad_content_format"), JSON, InDoubt),
        (403, code("bad_content_format"), JSON, InDoubt),
        # 403 with one of the four documented codes
        (403, code("bad_header_signature"), JSON, KeyRefused),
        (403, code("required_header_signature"), JSON, KeyRefused),
        (403, code("bad_header_key"), JSON, KeyRefused),
        (403, code("required_header_key"), JSON, KeyRefused),
        (400, code("bad_header_key"), JSON, InDoubt),
        # unknown codes
        (403, code("ip_not_allowed"), JSON, InDoubt),
        (403, code(None), JSON, InDoubt),
        (403, code(["bad_header_key"]), JSON, InDoubt),
        (403, code({"bad_header_key": 1}), JSON, InDoubt),
        (403, b"{}", JSON, InDoubt),
        (403, b"", JSON, InDoubt),
        (400, code("maintenance"), JSON, InDoubt),
        # 429, any body
        (429, b"", "", NotSent),
        (429, NO_JSON, JSON, NotSent),
        (429, HTML, "text/html", NotSent),
        (429, errors(foreign_id=TAKEN), JSON, NotSent),
        (429, success(), JSON, NotSent),
    ],
)
def test_what_one_reply_proves(status: int, body: bytes, content_type: str, proof: type[Proof]) -> None:
    """Each reply proves what the table says, and whatever is not in the table proves nothing."""
    assert type(proof_of(status, body, content_type)) is proof


@pytest.mark.parametrize(
    "word",
    ["taken", "already", "unique", "exist", "duplicate", "used", "in use", "differ", "distinct", "another"],
)
@pytest.mark.parametrize("form", ["is required", "must be", "format"])
def test_a_word_about_a_duplicate_wins_over_one_about_form(word: str, form: str) -> None:
    """Each of them alone; without it the same text is about form, and a "no"."""
    assert type(proof_of(400, errors(foreign_id=f"It {form} {word}."))) is Duplicate
    assert type(proof_of(400, errors(foreign_id=f"It {form} text."))) is Rejected


def test_a_reply_of_which_only_the_status_is_told_says_nothing() -> None:
    """No body, no type, no time to wait."""
    assert Reply(204) == Reply(204, body=b"", content_type="", retry_after=None, date=None)


@pytest.mark.parametrize(
    ("reply", "proof"),
    [
        (NoReply("no connection", may_have_left=False), NotSent("no connection")),
        (NoReply("connection lost", may_have_left=True), InDoubt("connection lost")),
    ],
)
def test_no_reply_proves_something_only_where_nothing_left(reply: NoReply, proof: Proof) -> None:
    """Without a connection it was not sent; with one, a reused one included, nobody knows."""
    assert judge_reply(reply, ASKED, NOW) == proof


def test_a_proof_tells_alphapos_words() -> None:
    """Errors come as lists of texts, a code as it is, a throttled reply with the time to wait."""
    assert proof_of(400, errors(amount=TOO_SMALL, tag=["a", "b"])) == Rejected(
        {"amount": [TOO_SMALL], "tag": ["a", "b"]}
    )
    assert proof_of(400, errors(foreign_id=TAKEN)) == Duplicate({"foreign_id": [TAKEN]})
    assert proof_of(403, code("bad_header_key")) == KeyRefused("bad_header_key")
    assert proof_of(400, code("bad_content_format")) == Rejected({"body": ["Text"]})
    assert proof_of(400, b'{"code":"bad_content_format"}') == Rejected({"body": ["Bad content format"]})
    throttled = judge_reply(Reply(429, retry_after="7"), ASKED, NOW)
    assert throttled == NotSent("throttled", 7.0)
    assert throttled.is_throttled
    assert not NotSent("no connection").is_throttled
    assert proof_of(502, HTML) == InDoubt("HTTP 502")
    assert proof_of(200, HTML) == InDoubt("HTTP 200 without a withdrawal")


def test_an_acceptance_holds_the_withdrawal() -> None:
    """What AlphaPo has is handed on as it tells it."""
    proof = proof_of(201, success())
    assert isinstance(proof, Accepted)
    assert (proof.withdrawal.id, proof.withdrawal.status, proof.withdrawal.source) == (134702815, "processing", "reply")


def test_a_mismatch_shows_every_difference() -> None:
    """The figures are shown side by side."""
    proof = proof_of(201, success(foreign_id="f-18", sender_currency="ETH", sender_amount="7"))
    assert isinstance(proof, Mismatched)
    assert proof.withdrawal.id == 134702815
    assert proof.differences == (
        Difference("foreign_id", "f-17", "f-18"),
        Difference("currency", "BTC", "ETH"),
        Difference("amount", "0.0002", "7"),
    )
    assert str(proof.differences[2]) == "amount: asked '0.0002', AlphaPo shows '7'"


@pytest.mark.parametrize("expected", [5, "5"])
@pytest.mark.parametrize("ours", [5, "5"])
def test_numbers_and_texts_are_the_same_foreign_id(expected: int | str, ours: int | str) -> None:
    """5 and "5" are the same, on either side."""
    asked = WithdrawalRequest(currency="BTC", address="a", amount="0.0002", foreign_id=ours, end_user_reference="u")
    assert isinstance(proof_of(201, success(foreign_id=expected), asked=asked), Accepted)


@pytest.mark.parametrize(
    ("changes", "proof"),
    [
        ({"receiver_amount": "20", "receiver_currency": "ETH"}, Accepted),
        ({"receiver_amount": "21", "receiver_currency": "ETH"}, Mismatched),
        ({"receiver_amount": "20", "receiver_currency": "BTC"}, Mismatched),
        ({"receiver_amount": "20", "receiver_currency": "ETH", "sender_amount": "999"}, Accepted),
        ({"receiver_amount": "7", "receiver_currency": "ETH", "sender_amount": "20"}, Mismatched),
    ],
)
def test_what_shall_arrive_is_compared_with_what_arrives(changes: dict[str, Any], proof: type[Proof]) -> None:
    """With `amount_to` the receiver's side is compared, and the sender's never."""
    asked = WithdrawalRequest(
        currency="BTC", convert_to="ETH", address="a", amount_to="20", foreign_id="f-17", end_user_reference="u"
    )
    assert type(proof_of(201, success(**changes), asked=asked)) is proof


def test_no_repr_of_a_reply_shows_its_body() -> None:
    """Bodies never reach a log, neither by Python's repr nor by rich's."""
    reply = Reply(200, success())
    assert repr(reply) == f"Reply(status=200, body=<{len(success())} bytes>)"
    assert reply.__rich_repr__() == [("status", 200), ("body", f"<{len(success())} bytes>")]


# ── Retry-After ──────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("retry_after", "date", "seconds"),
    [
        (None, None, None),
        ("0", None, 0.0),
        ("120", None, 120.0),
        (" 120 ", None, 120.0),
        ("Tue, 14 Nov 2023 23:14:20 +0100", None, 60.0),  # NOW is 22:13:20
        ("999999999", None, 999999999.0),
        ("9999999999", None, None),
        ("-1", None, None),
        ("1.5", None, None),
        ("1_0", None, None),
        ("\uff11", None, None),
        ("", None, None),
        ("soon", None, None),
        (formatdate(NOW + 90, usegmt=True), None, 90.0),
        (formatdate(NOW - 90, usegmt=True), None, 0.0),
        # against the reply's own Date, whatever our clock says
        (formatdate(5000 + 30, usegmt=True), formatdate(5000, usegmt=True), 30.0),
        (formatdate(5000 - 30, usegmt=True), formatdate(5000, usegmt=True), 0.0),
        (formatdate(NOW + 90, usegmt=True), "no date", 90.0),
        (formatdate(NOW + 90, usegmt=True), "", 90.0),
        ("7", formatdate(5000, usegmt=True), 7.0),
        # the two older forms that HTTP allows; neither may be taken for local time
        ("Tue Nov 14 22:14:50 2023", None, 90.0),
        ("Tuesday, 14-Nov-23 22:14:50 GMT", None, 90.0),
        ("Tue, 14 Nov 2023 22:14:50 -0000", None, 90.0),
        # dates out of this world
        ("Sun, 06 Nov 99999 08:49:37 GMT", None, None),
        ("Mon, 99 Foo 9999 99:99:99 GMT", None, None),
        ("Sun, 06 Nov 1994 08:49:37 +9999999999", None, None),
        ("Sun, 06 Nov " + "9" * 5000 + " 08:49:37 GMT", None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(retry_after: str | None, date: str | None, seconds: float | None) -> None:
    """Both forms of RFC 9110 are read; anything else asks for nothing."""
    reply = Reply(429, retry_after=retry_after, date=date)
    assert retry_after_seconds(reply, NOW) == seconds
    assert judge_reply(reply, ASKED, NOW) == NotSent("throttled", seconds)
    assert judge_look_up(reply, NOW) == NoAnswer("throttled", 429, retry_after=seconds)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(
    words=st.lists(
        st.one_of(
            st.sampled_from(
                ["Sun,", "Nov", "GMT", "+0000", "-9999", "08:49:37", "1994", "6", "6-Nov-94", ":", ",", "-"]
            ),
            st.text(max_size=4),
        ),
        max_size=8,
    ),
    date=st.none() | st.text(max_size=20),
)
def test_retry_after_never_raises(words: list[str], date: str | None) -> None:
    """Whatever the headers hold, the answer is a time to wait that is not negative, or none."""
    seconds = retry_after_seconds(Reply(429, retry_after=" ".join(words), date=date), NOW)
    assert seconds is None or seconds >= 0


# ── what an answer to a look-up says ─────────────────────────────────────────────────────────────────────────────────

BARE = json.dumps({"id": 5, "foreign_id": "f-17", "status": "confirmed"}).encode()


@pytest.mark.parametrize(
    ("status", "body", "content_type", "answer"),
    [
        # a withdrawal, bare as documented or wrapped as in a POST's reply
        (200, BARE, JSON, Found),
        (201, BARE, JSON, Found),
        (200, BARE, "text/html", Found),
        (200, success(), JSON, Found),
        (200, b'{"id":5,"data":{"id":6}}', JSON, Found),
        # "none"
        (404, b"{}", JSON, NoneFound),
        (404, b'{"error":"Not found"}', JSON, NoneFound),
        (404, errors(foreign_id="x"), JSON, NoneFound),
        (400, errors(foreign_id="The selected foreign id is invalid."), JSON, NoneFound),
        (400, errors(foreign_id=["not found"], id="x"), JSON, NoneFound),
        (400, errors(foreign_id="The foreign id must exist."), JSON, NoneFound),
        (403, code("transaction_not_found"), JSON, NoneFound),
        (200, b"null", JSON, NoneFound),
        (200, b"{}", JSON, NoneFound),
        (200, b" { } ", JSON, NoneFound),
        # no answer: another shape of success
        (200, b"", JSON, NoAnswer),
        (200, b"[]", JSON, NoAnswer),
        (200, b"false", JSON, NoAnswer),
        (200, b"0", JSON, NoAnswer),
        (200, b'""', JSON, NoAnswer),
        (200, b'{"data":null}', JSON, NoAnswer),
        (200, b'{"data":{}}', JSON, NoAnswer),
        (200, b'{"foreign_id":"f-17"}', JSON, NoAnswer),
        (200, BARE[:-1], JSON, NoAnswer),
        (200, HTML, "text/html", NoAnswer),
        (201, b"{}", JSON, NoAnswer),
        (204, b"", "", NoAnswer),
        (204, b"null", JSON, NoAnswer),
        # no answer: a 404 that is not AlphaPo's word
        (404, HTML, "text/html", NoAnswer),
        (404, b"", JSON, NoAnswer),
        (404, b"null", JSON, NoAnswer),
        (404, b"[]", JSON, NoAnswer),
        (404, b'"Not found"', JSON, NoAnswer),
        (404, b'{"error":"Not found"}', "Text/HTML", NoAnswer),
        (404, success(), JSON, NoAnswer),
        # no answer: a 400 about something else, or about a question that lost its body on the way
        (400, errors(id="x"), JSON, NoAnswer),
        (400, errors(foreign_id="The foreign id field is required."), JSON, NoAnswer),
        (400, errors(foreign_id="The foreign id must be a string."), JSON, NoAnswer),
        (400, errors(foreign_id=None), JSON, NoAnswer),
        (400, b'{"error":"No parameters present"}', JSON, NoAnswer),
        (400, code("bad_content_format"), JSON, NoAnswer),
        (400, HTML, "text/html", NoAnswer),
        (422, errors(foreign_id="not found"), JSON, NoAnswer),
        # no answer: the four authentication codes, and a 403 without a code
        (403, code("bad_header_signature"), JSON, NoAnswer),
        (403, code("required_header_signature"), JSON, NoAnswer),
        (403, code("bad_header_key"), JSON, NoAnswer),
        (403, code("required_header_key"), JSON, NoAnswer),
        (403, b"{}", JSON, NoAnswer),
        (403, code(None), JSON, NoAnswer),
        (403, code(1020), JSON, NoAnswer),
        (403, HTML, "text/html", NoAnswer),
        # no answer: everything else
        (301, BARE, JSON, NoAnswer),
        (401, b"{}", JSON, NoAnswer),
        (408, b"{}", JSON, NoAnswer),
        (409, b"{}", JSON, NoAnswer),
        (429, BARE, JSON, NoAnswer),
        (500, b"{}", JSON, NoAnswer),
        (502, HTML, "text/html", NoAnswer),
        (503, BARE, JSON, NoAnswer),
    ],
)
def test_what_an_answer_to_a_look_up_says(status: int, body: bytes, content_type: str, answer: type) -> None:
    """A withdrawal, one of four ways to say "none", or no answer."""
    assert type(judge_look_up(Reply(status, body, content_type), NOW)) is answer


def test_a_look_up_tells_what_it_heard() -> None:
    """A withdrawal is handed on; no answer says why, with status, code and the time to wait."""
    found = judge_look_up(Reply(200, BARE), NOW)
    assert found == Found(Transaction(id=5, foreign_id="f-17", status="confirmed"))
    assert judge_look_up(Reply(200, b'{"data":{"id":6}}'), NOW) == Found(Transaction(id=6))
    assert judge_look_up(Reply(200, b'{"id":5,"data":{"id":6}}'), NOW) == Found(Transaction(id=5))
    assert judge_look_up(Reply(403, code("bad_header_key")), NOW) == NoAnswer("HTTP 403", 403, "bad_header_key")
    assert judge_look_up(Reply(502, HTML), NOW) == NoAnswer("HTTP 502", 502)
    assert judge_look_up(Reply(200, HTML), NOW) == NoAnswer("HTTP 200 without a withdrawal", 200)
    assert judge_look_up(NoReply("timeout", may_have_left=True), NOW) == NoAnswer("timeout")
    assert NoAnswer("throttled").is_throttled
    assert not NoAnswer("timeout").is_throttled


def test_a_question_about_no_withdrawal_has_status_and_code_of_what_did_not_answer_it() -> None:
    """What would be "none" to a look-up is no answer to it, and neither is another body at 200."""
    refused = Reply(403, b'{"code":"ip_not_allowed"}', JSON)
    assert judge_look_up(refused, NOW) == NoneFound()
    assert why_unanswered(refused, NOW) == NoAnswer("HTTP 403", 403, "ip_not_allowed")
    assert why_unanswered(Reply(200, b"{}"), NOW) == NoAnswer("unexpected reply", 200)


# ── nothing raises, and nothing is said that was not told ────────────────────────────────────────────────────────────

STATUSES = st.sampled_from([200, 201, 204, 301, 400, 401, 403, 404, 408, 409, 422, 429, 500, 503]) | st.integers(
    -5, 1000
)
TYPES = st.sampled_from([JSON, "", "text/html"]) | st.text(max_size=5)
SAID = [
    success(),
    errors(amount=TOO_SMALL),
    errors(foreign_id=TAKEN),
    code("bad_header_key"),
    code("bad_content_format"),
]
HEADERS = st.none() | st.text(max_size=10)
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from(
        [10**400, "1e999999999", "NaN", "2." + "0" * 5000, "bad_header_key", TAKEN, "f-17", "BTC", "0.0002"]
    ),
    st.text(max_size=5),
)
WORDS = st.sampled_from(
    [
        *("data", "id", "foreign_id", "errors", "code", "error", "amount", "sender_amount", "sender_currency"),
        *("crypto_address", "address", "tag", "fees", "currency", "currency_sent", "currency_received"),
        *("transactions", "transaction_type", "amount_minus_fee"),
    ]
)
OBJECTS = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=2) | st.dictionaries(WORDS, inner, max_size=5), max_leaves=12
)


@st.composite
def telling_bodies(draw: st.DrawFn) -> bytes:
    """Bodies close enough to AlphaPo's that each of them could be mistaken for one."""
    result = draw(st.dictionaries(st.sampled_from(["data", "errors", "code", "error", "id"]), OBJECTS, max_size=4))
    if draw(st.booleans()):
        result["data"] = draw(st.dictionaries(WORDS, SCALARS, max_size=6)) | {"id": draw(SCALARS)}
    if draw(st.booleans()):
        result["errors"] = draw(st.dictionaries(WORDS, st.text(max_size=5) | st.just(TAKEN), max_size=2))
    return json.dumps(result).encode()


@settings(derandomize=True, deadline=None, max_examples=150)
@given(
    status=STATUSES,
    body=st.binary(max_size=30) | telling_bodies(),
    content_type=TYPES,
    retry_after=HEADERS,
    date=HEADERS,
)
def test_the_judges_never_raise(
    status: int, body: bytes, content_type: str, retry_after: str | None, date: str | None
) -> None:
    """Every reply has a proof and every answer a meaning, and what a look-up shows can be compared."""
    reply = Reply(status, body, content_type, retry_after, date)
    judge_reply(reply, ASKED, NOW)
    answer = judge_look_up(reply, NOW)
    if isinstance(answer, Found):
        compare(ASKED, answer.transaction)


@settings(derandomize=True, deadline=None, max_examples=150)
@given(status=STATUSES, content_type=TYPES, body=telling_bodies())
def test_nothing_definite_is_said_without_its_words(status: int, content_type: str, body: bytes) -> None:
    """Each definite proof, however the reply was made up, rests on the very words the table asks for."""
    proof, result = proof_of(status, body, content_type), json.loads(body)
    match proof:
        case Accepted():
            assert 200 <= status < 300
            assert result["data"]["id"] == proof.withdrawal.id
            assert result["data"]["foreign_id"] == "f-17"
            assert result["data"].get("sender_amount") in {None, "0.0002"}
            assert result["data"].get("sender_currency") in {None, "BTC"}
        case Rejected() | Duplicate():
            assert 400 <= status < 500
            assert status not in {401, 404, 408, 429}
            assert "html" not in content_type
            assert result.get("errors") or (status, result["code"]) == (400, "bad_content_format")
            assert isinstance(proof, Duplicate) is ("foreign" in json.dumps(result.get("errors")))
        case KeyRefused():
            assert (status, result["code"]) == (403, "bad_header_key")
        case NotSent():
            assert status == 429


@st.composite
def bodies_that_are_no_json(draw: st.DrawFn) -> bytes:
    """Noise, and definite words of AlphaPo that were cut, joined or dressed on the way."""
    said = draw(st.sampled_from(SAID))
    kind = draw(st.sampled_from(["noise", "cut", "joined", "dressed"]))
    if kind == "noise":
        return draw(st.binary(max_size=60).filter(lambda body: read_json(body) is UNREADABLE))
    if kind == "cut":
        return said[: draw(st.integers(0, len(said) - 1))]
    if kind == "joined":
        return said + draw(st.sampled_from(SAID))
    return b"<pre>" + said + b"</pre>"


@settings(derandomize=True, deadline=None, max_examples=200)
@given(status=STATUSES, body=bodies_that_are_no_json(), content_type=TYPES)
def test_what_is_no_json_never_proves_anything(status: int, body: bytes, content_type: str) -> None:
    """The dangerous direction: no reply that is not whole JSON is a yes or a no, whatever status it comes with."""
    proof = proof_of(status, body, content_type)
    assert isinstance(proof, NotSent if status == 429 else InDoubt)
    assert isinstance(judge_look_up(Reply(status, body, content_type), NOW), NoAnswer)


@pytest.mark.parametrize(
    ("reply", "is_let_in"),
    [
        (Reply(200, b'{"data": []}', "application/json"), True),
        (Reply(400, b'{"errors": {"x": "y"}}', "application/json"), True),
        (Reply(403, b'{"error": "x", "code": "another"}', "application/json"), True),
        (Reply(403, b'{"error": "x", "code": "bad_header_signature"}', "application/json"), False),
        (Reply(403, b'{"error": "x", "code": "required_header_key"}', "application/json"), False),
        (Reply(200, b"OK", "text/html"), False),
        (Reply(200, b"[]", "application/json"), False),
        (Reply(408, b"{}", "application/json"), False),
        (Reply(429, b"{}", "application/json"), False),
        (Reply(302, b"{}", "application/json"), False),
        (Reply(502, b"{}", "application/json"), False),
        (NoReply("no connection", may_have_left=False), False),
    ],
)
def test_a_key_is_let_in_where_alphapo_itself_answers_a_question(reply: Reply | NoReply, is_let_in: bool) -> None:  # noqa: FBT001 - a column
    """Not with one of the four codes, and not by its edge, a throttle or a failing server."""
    assert lets_in(reply) is is_let_in


def test_a_cancellation_may_say_that_nothing_has_left() -> None:
    """Otherwise bytes may have left."""
    cancellation = asyncio.CancelledError()
    assert not has_never_left(cancellation)
    mark_never_left(cancellation)
    assert has_never_left(cancellation)


def test_every_judgement_has_a_word_and_no_two_share_one() -> None:
    """The words that the history, events, metrics and the command line use."""
    judged: list[Proof | Answer] = [
        Accepted(Withdrawal(id=1, source="reply")),
        Mismatched(Withdrawal(id=1, source="reply"), ()),
        InDoubt("HTTP 502"),
        Rejected({}),
        Duplicate({}),
        KeyRefused("bad_header_key"),
        NotSent("throttled"),
        Found(Transaction(id=1)),
        NoneFound(),
        NoAnswer("HTTP 502"),
    ]
    assert tuple(map(name_of, judged)) == (*get_args(ProofName), *get_args(AnswerName))
    assert {type(one) for one in judged} == {*get_args(Proof), *get_args(Answer)}


def test_a_judgement_has_a_reason_where_its_word_does_not_say_it_all() -> None:
    """AlphaPo's code, where nothing else is known."""
    assert reason_of(InDoubt("HTTP 502")) == "HTTP 502"
    assert reason_of(KeyRefused("bad_header_key")) == reason_of(NoAnswer("", code="bad_header_key")) == "bad_header_key"
    assert reason_of(NoneFound()) is None
