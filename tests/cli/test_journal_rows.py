"""What the journal knows, as people read it."""

from __future__ import annotations

from decimal import Decimal

import pytest
from msgspec.structs import replace

from alphapo_async.cli.journal_rows import OPEN_HEADS, history_rows, moment, money, open_rows, row_pairs, why
from alphapo_async.cli.row_fields import fields_of
from alphapo_async.core.codec import encode_body
from alphapo_async.core.comparison import Difference
from alphapo_async.core.evidence import Attempt, ControlFound, LeaseExpired, LookedUp, Revision
from alphapo_async.core.history import Entry, entry_of
from alphapo_async.core.models import Transaction, TransactionPart, Withdrawal, WithdrawalRequest
from alphapo_async.core.replies import (
    Accepted,
    Answer,
    Duplicate,
    Found,
    InDoubt,
    KeyRefused,
    Mismatched,
    NoAnswer,
    NoneFound,
    NotSent,
    Proof,
    Rejected,
)
from alphapo_async.core.row import Epoch, Row, seen_in
from tests.support.rows import (
    ACCEPTED_ROW,
    CONFLICT_ROW,
    DOUBTED,
    FAILED_ROW,
    LOST,
    NOT_SENT_ROW,
    REFUSED_ROW,
    REJECTED_ROW,
    asked_about,
    found,
    row,
    sent,
)


def test_a_row_says_all_it_knows() -> None:
    """And leaves out what it does not."""
    result = dict(
        row_pairs(
            replace(
                ACCEPTED_ROW,
                withdrawal=Withdrawal(id=7, status="processing"),
                transaction=Transaction(id=7, transactions=(TransactionPart(txid="abc", amount=Decimal(1)),)),
                differences=(Difference("amount", "1", "2"),),
                decision="accepted by anna: seen",
                contradiction="accepted after rejected",
            )
        )
    )
    assert (result["AlphaPo's id"], result["AlphaPo's status"], result["txid"]) == ("7", "processing", "abc")
    assert result["created"] == "1970-01-01 00:00:00.000 UTC"
    assert "in doubt since" not in result
    assert dict(row_pairs(REJECTED_ROW))["refusal"] == "amount: Not enough amount"
    assert dict(row_pairs(DOUBTED))["state"] == "open, in doubt"
    assert "asked" not in dict(row_pairs(row(revision=replace(row().revision, payment=None))))


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"amount": "30", "convert_to": "BTC"}, "30 USDTT, paid out in BTC"),
        ({"amount_to": "0.1", "convert_to": "BTC"}, "0.1 BTC, debited in USDTT"),
        ({"amount": "30", "convert_to": "USDTT"}, "30 USDTT"),
    ],
)
def test_a_row_names_both_currencies_of_a_conversion(fields: dict[str, str], text: str) -> None:
    """In `journal show` and in `journal list`; the first also shows tag and end_user_reference."""
    payment = WithdrawalRequest(
        currency="USDTT",
        address="a",
        foreign_id="f",
        end_user_reference="user-42",
        tag="7",
        **fields,  # type: ignore[arg-type]
    )
    one = row(revision=Revision(encode_body(payment), payment))
    shown = dict(row_pairs(one))
    assert (shown["asked"], shown["tag"], shown["end_user_reference"]) == (text, "7", "user-42")
    assert shown["digest"] != shown["sha256"] == fields_of(one)["sha256"]
    assert open_rows([one])[0][OPEN_HEADS.index("asked")] == text


def test_a_row_that_is_worked_on_may_have_been_sent() -> None:
    """What is under way is written down only once it has ended: "attempts: 0" would say too much."""
    result = dict(row_pairs(row(now=1.5)))
    assert result["attempts"] == "0 known; being worked on since 1970-01-01 00:00:01.500 UTC, may have been sent"
    assert dict(row_pairs(row(holder=None)))["attempts"] == "0"


@pytest.mark.parametrize("one", [row(holder=None, doubt_since=1.0), row(state="accepted"), row(state="failed")])
def test_what_was_sent_by_a_worker_that_died_was_not_sent_with_no_attempt(one: Row) -> None:
    """The worker took the number with it: "attempts: 0" of money that moved would be read as a contradiction."""
    assert dict(row_pairs(one))["attempts"] == "none known"
    assert dict(row_pairs(replace(one, attempts=1, holder=None)))["attempts"] == "1"


@pytest.mark.parametrize(
    ("state", "last"), [("open", True), ("not_sent", True), ("accepted", False), ("rejected", False)]
)
def test_the_last_word_that_settled_nothing_stands_only_where_nothing_came_after_it(state: str, *, last: bool) -> None:
    """Of an accepted row it is old news that its worker was gone."""
    result = dict(row_pairs(row(state=state, reason="its worker is gone")))
    assert ("last word" in result) is last


def test_tables_are_plain_text() -> None:
    """Times in UTC, workers shortened."""
    line = Entry(1.5, "attempt", "accepted", "0123456789abcdef", 201, b"{}", "1.0")
    assert history_rows([line]) == [("1970-01-01 00:00:01.500", "attempt: accepted", "201", "01234567", "1.0")]
    assert history_rows([Entry(0.0, "operator", "x")])[0][2:] == ("", "", "")
    assert open_rows([row()])[0][:3] == ("f", "open", "1 BTC")
    assert open_rows([row()])[0][-1] == "key"
    assert len(open_rows([row()])[0]) == len(OPEN_HEADS)
    assert open_rows([row(holder=None, revision=replace(row().revision, payment=None))])[0][2] == ""
    assert moment(None) == ""


@pytest.mark.parametrize(
    ("proof", "words"),
    [
        (Accepted(Withdrawal(id=7)), "accepted"),
        (Mismatched(Withdrawal(id=7), ()), "mismatch, in doubt: the reply shows another withdrawal"),
        (InDoubt("HTTP 502"), "in doubt: HTTP 502"),
        (InDoubt("interrupted"), "in doubt: interrupted"),
        (Rejected({}), "rejected"),
        (Duplicate({}), "duplicate: AlphaPo knows this foreign_id already"),
        (KeyRefused("bad_header_key"), "key refused: bad_header_key"),
        (NotSent("no connection: TLS failed"), "not sent: no connection: TLS failed"),
    ],
)
def test_what_a_reply_proved_is_said_in_words(proof: Proof, words: str) -> None:
    """Whatever the journal calls it."""
    line = entry_of(Attempt("worker", proof, 0.0, 0.0), 0.0, "1.0")
    assert line is not None
    assert history_rows([line])[0][1] == f"attempt: {words}"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (Found(Transaction(id=7)), "found"),
        (NoneFound(), "none, which proves nothing"),
        (NoAnswer("HTTP 502"), "no answer: HTTP 502"),
    ],
)
def test_what_a_look_up_answered_is_said_in_words(answer: Answer, words: str) -> None:
    """Likewise."""
    line = entry_of(LookedUp("worker", answer), 0.0, "1.0")
    assert line is not None
    assert history_rows([line])[0][1] == f"look-up: {words}"


def test_times_in_a_line_are_what_people_call_them() -> None:
    """UTC, where the journal has seconds since the epoch; what a person wrote stays as it was written."""
    result = [
        entry_of(evidence, 0.0, "1.0")
        for evidence in (LeaseExpired("w", 1_795_825_774.898), ControlFound("w", 1_795_825_774.898))
    ]
    for line in result:
        assert line is not None
        assert "2026-11-28 00:29:34.898 UTC" in history_rows([line])[0][1]
    assert (
        history_rows([Entry(0.0, "operator", "accepted: 1795825774.898")])[0][1] == "operator: accepted: 1795825774.898"
    )


@pytest.mark.parametrize(
    ("one", "moved", "because"),
    [
        (row(holder=None, reason="outage"), "none moved yet; a worker may send it", "outage"),
        (row(), "unknown: keep it pending, do not refund it", ""),
        (replace(DOUBTED, holder=None), "unknown: keep it pending, do not refund it", "connection lost"),
        (ACCEPTED_ROW, "moves: AlphaPo has it, not final yet", ""),
        (asked_about(ACCEPTED_ROW, found("confirmed")), "moved: it is paid", ""),
        (replace(ACCEPTED_ROW, withdrawal=None), "moves: AlphaPo has it, not final yet", ""),
        (FAILED_ROW, "none moved, and none will; the funds may be released", ""),
        (
            replace(FAILED_ROW, transaction=Transaction(id=7, error="Invalid params")),
            "none moved, and none will; the funds may be released",
            "Invalid params",
        ),
        (replace(FAILED_ROW, transaction=None), "none moved, and none will; the funds may be released", ""),
        (REJECTED_ROW, "none moved, and none will; the funds may be released", "amount: Not enough amount"),
        (
            replace(REJECTED_ROW, refusal=None),
            "none moved, and none will; the funds may be released",
            "AlphaPo refused it; its reason is no longer kept",
        ),
        (
            replace(REJECTED_ROW, refusal=None, decision="rejected by anna: not there"),
            "none moved, by the operator's decision; the funds may be released",
            "settled by hand: rejected by anna: not there",
        ),
        (NOT_SENT_ROW, "none moved, and none will; the funds may be released", "queue"),
        (
            REFUSED_ROW,
            "none moved, and none will; the funds may be released",
            "key refused: AlphaPo does not accept the key or the signature (bad_header_key)",
        ),
        (
            CONFLICT_ROW,
            "none moved for this payment; the existing withdrawal has its own outcome",
            "the foreign_id was already used for another payment: id 7, processing",
        ),
        (
            replace(CONFLICT_ROW, transaction=None),
            "none moved for this payment; the existing withdrawal has its own outcome",
            "the foreign_id was already used for another payment: it is no longer kept",
        ),
    ],
)
def test_every_state_says_whether_money_moved_and_why(one: Row, moved: str, because: str) -> None:
    """The two questions of every caller and operator, answered before all else."""
    assert (money(one), why(one)) == (moved, because)
    assert dict(row_pairs(one))["money"] == moved


@pytest.mark.parametrize("one", [REJECTED_ROW, NOT_SENT_ROW, REFUSED_ROW, CONFLICT_ROW])
def test_a_no_from_before_the_journal_went_back_releases_no_funds(one: Row) -> None:
    """The withdrawal may have been paid in what the journal lost; a look-up that shows none confirms the "no" again."""
    stale = seen_in(one, Epoch(1, 50.0))
    assert money(stale).startswith("unknown: the journal went back in time after it recorded this; keep it pending")
    assert money(replace(stale, reaffirmed_in=1)) == money(one)


def test_an_open_row_says_until_when_it_is_tried_and_from_when_on() -> None:
    """A settled one has no use for either."""
    one = row(holder=None, expires_at=60.0, not_before=30.0)
    result = dict(row_pairs(one))
    assert result["tried until"] == "1970-01-01 00:01:00.000 UTC"
    assert result["not sent before"] == "1970-01-01 00:00:30.000 UTC"
    settled = dict(row_pairs(replace(one, state="not_sent")))
    assert not {"tried until", "not sent before"} & settled.keys()


def test_a_row_says_what_its_state_alone_does_not() -> None:
    """The code of a refused key, AlphaPo's error, and the withdrawal that a row is in conflict with."""
    assert dict(row_pairs(REFUSED_ROW))["key refused"] == "bad_header_key"
    assert dict(row_pairs(CONFLICT_ROW))["existing withdrawal"] == "id 7, processing"
    unnamed = replace(CONFLICT_ROW, transaction=Transaction(id=7))
    assert dict(row_pairs(unnamed))["existing withdrawal"] == "id 7, status not known"
    ended = replace(FAILED_ROW, transaction=Transaction(id=7, error="Invalid params"))
    assert dict(row_pairs(ended))["error"] == "Invalid params"


@pytest.mark.parametrize(
    ("not_before", "until"), [(1810.0, "1970-01-01 00:30:10.000 UTC"), (0.0, "the quiet time is over")]
)
def test_a_withdrawal_that_alphapo_ended_stays_pending_for_a_reason(not_before: float, until: str) -> None:
    """In `status` and in `journal show` alike: money is unknown, and why and until when."""
    twice = asked_about(sent(DOUBTED, LOST, 10.0), found("cancelled"), 20.0)
    result = dict(row_pairs(replace(twice, holder=None, not_before=not_before)))
    assert (result["state"], result["money"]) == ("open, in doubt", "unknown: keep it pending, do not refund it")
    assert result["last word"] == why(replace(twice, not_before=not_before))
    assert result["last word"] == (
        f"AlphaPo shows it cancelled; it stays pending until {until} and until a look-up after that still shows it cancelled, "
        "because an earlier attempt may still arrive"
    )
    assert "not sent before" not in result
