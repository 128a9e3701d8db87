import pickle
from decimal import Decimal
from typing import Any, get_args

import pytest
from msgspec.structs import replace

from alphapo_async.core.codec import encode_body
from alphapo_async.core.comparison import Difference
from alphapo_async.core.errors import (
    AuthenticationError,
    Existing,
    ForeignIdConflict,
    InvalidRequest,
    JournalError,
    WithdrawalError,
    WithdrawalFailed,
    WithdrawalNotSent,
    WithdrawalRejected,
    WithdrawalUnknown,
)
from alphapo_async.core.evidence import Revision
from alphapo_async.core.models import Transaction, Withdrawal, WithdrawalRequest
from alphapo_async.core.results import FlightResult, Why, conflict_with, existing_of, result_of, to_outcome
from alphapo_async.core.row import WENT_BACK, Epoch, Row, State

REQUEST = WithdrawalRequest(
    currency="BTC",
    address="bc1q-private-address",
    amount="0.0015",
    foreign_id="payout-17",
    end_user_reference="private-user",
    sender_data={"first_name": "Private-Ann"},
)
BODY = encode_body(REQUEST)
HAS = Withdrawal(id=5, foreign_id="payout-17", status="processing", sender_amount=Decimal("0.0015"))
ENDED = Withdrawal(id=5, foreign_id="payout-17", status="declined")
TRANSACTION = Transaction(id=5, foreign_id="payout-17", status="declined", error="A person said no.")
DIFFERENCES = (Difference("amount", "0.0015", "7"), Difference("currency", "BTC", "ETH"))


def row_with(state: State = "open", **changes: Any) -> Row:
    """Return a row in this state."""
    fields: dict[str, Any] = {
        "account": "default",
        "foreign_id": "payout-17",
        "revision": Revision(BODY, REQUEST),
        "key_fingerprint": "fingerprint",
        "created_at": 0.0,
        "attempts": 3,
    }
    return Row(**(fields | {"state": state} | changes))


def error_of(row: Row | None, **output: Any) -> WithdrawalError | JournalError:
    """Return the error that is told of this row."""
    error = to_outcome(FlightResult("payout-17", row, **output))
    assert isinstance(error, Exception)
    return error


# ── the row has the last word ────────────────────────────────────────────────────────────────────────────────────────

BY_STATE: list[tuple[Row, type[Exception], str]] = [
    (
        row_with("failed", withdrawal=ENDED),
        WithdrawalFailed,
        "Withdrawal 'payout-17' is declined: AlphaPo had it and ended it. No money moved.",
    ),
    (
        row_with("failed"),
        WithdrawalFailed,
        "Withdrawal 'payout-17' is ended: AlphaPo had it and ended it. No money moved.",
    ),
    (
        row_with("rejected", refusal={"amount": ["too small", "not enough"], "tag": ["bad"]}),
        WithdrawalRejected,
        "Withdrawal 'payout-17': AlphaPo refused it (amount: too small not enough; tag: bad). No money moved.",
    ),
    (
        row_with("rejected"),
        WithdrawalRejected,
        "Withdrawal 'payout-17': AlphaPo refused it (its words are no longer kept). No money moved.",
    ),
    (
        row_with("conflict", differences=DIFFERENCES),
        ForeignIdConflict,
        (
            "Withdrawal 'payout-17': this foreign_id was already used for another payment (AlphaPo shows it: amount: asked '0.0015', "
            "AlphaPo shows '7'; currency: asked 'BTC', AlphaPo shows 'ETH'). This payment was not sent, and no worker will send it."
        ),
    ),
    (
        row_with("conflict"),
        ForeignIdConflict,
        (
            "Withdrawal 'payout-17': this foreign_id was already used for another payment (AlphaPo shows it: its figures are no longer "
            "kept). This payment was not sent, and no worker will send it."
        ),
    ),
    (
        row_with("key_refused", code="bad_header_key"),
        AuthenticationError,
        "Withdrawal 'payout-17': key refused: AlphaPo does not accept the key or the signature (bad_header_key). This call moved no money.",
    ),
    (
        row_with("key_refused"),
        AuthenticationError,
        "Withdrawal 'payout-17': key refused: AlphaPo does not accept the key or the signature. This call moved no money.",
    ),
    (
        row_with("not_sent", reason="no connection: refused"),
        WithdrawalNotSent,
        "Withdrawal 'payout-17' never arrived (no connection: refused). No money moved.",
    ),
    (
        row_with("open", doubt_since=1.0, reason="HTTP 502"),
        WithdrawalUnknown,
        "Withdrawal 'payout-17': it is not known yet whether AlphaPo has it (HTTP 502).",
    ),
]


@pytest.mark.parametrize(("row", "kind", "text"), BY_STATE, ids=[f"{row.state}-{kind}" for row, kind, _ in BY_STATE])
def test_each_state_is_told_as_its_own_error(row: Row, kind: type[Exception], text: str) -> None:
    """A settled or open row becomes this class with these words, and then the next step."""
    error = error_of(row, retry_after=2.5)
    assert type(error) is kind
    assert str(error) == f"{text} {error.next_step}"
    assert (error.foreign_id, error.attempts, error.retry_after) == ("payout-17", 3, 2.5)


def test_every_state_but_accepted_is_in_the_table() -> None:
    """The table above is whole: a new state needs its words."""
    assert {row.state for row, _, _ in BY_STATE} | {"accepted"} == set(get_args(State))


@pytest.mark.parametrize("row", [row for row, _, _ in BY_STATE], ids=[row.state for row, _, _ in BY_STATE])
def test_funds_are_held_back_exactly_while_the_row_is_open_or_in_conflict(row: Row) -> None:
    """An open row never releases funds, nor does a conflict with a withdrawal that is being paid; every other settled "no" does."""
    assert error_of(row).may_release_funds is (row.state not in ("open", "conflict"))


@pytest.mark.parametrize(("is_from_journal", "source"), [(False, "reply"), (True, "journal")])
def test_an_acceptance_is_told_as_the_withdrawal(is_from_journal: bool, source: str) -> None:  # noqa: FBT001 - a column
    """What AlphaPo has is returned; the witness is the journal where AlphaPo was not asked again."""
    outcome = to_outcome(
        FlightResult("payout-17", row_with("accepted", withdrawal=HAS), is_from_journal=is_from_journal)
    )
    assert isinstance(outcome, Withdrawal)
    assert (outcome.id, outcome.status, outcome.sender_amount, outcome.source) == (
        5,
        "processing",
        Decimal("0.0015"),
        source,
    )


def test_a_rejection_carries_alphapos_words() -> None:
    """The errors are an attribute, whole, and empty where they are no longer kept."""
    words = {"amount": ["x" * 1000]}
    rejected = error_of(row_with("rejected", refusal=words))
    assert isinstance(rejected, WithdrawalRejected)
    assert rejected.errors == words
    forgotten = error_of(row_with("rejected"))
    assert isinstance(forgotten, WithdrawalRejected)
    assert forgotten.errors == {}


def test_a_rejection_without_end_is_cut_in_the_text() -> None:
    """A hostile reply does not fill the log."""
    text = str(error_of(row_with("rejected", refusal={"amount": ["x" * 100_000]})))
    assert f"(amount: {'x' * 292}…)" in text
    whole = str(error_of(row_with("rejected", refusal={"amount": ["x" * 292]})))
    assert f"(amount: {'x' * 292})" in whole
    assert len(text) < 600


@pytest.mark.parametrize("state", ["conflict", "open"])
def test_a_figure_without_end_is_cut_in_the_text(state: State) -> None:
    """Neither do its figures."""
    differences = (Difference("amount", "1", "9" * 100_000),)
    text = str(error_of(row_with(state, look_ups_only=True, differences=differences)))
    assert "amount: asked '1', AlphaPo shows '999" in text
    assert len(text) < 800


@pytest.mark.parametrize(
    ("known", "transaction"),
    [
        ({"withdrawal": ENDED, "transaction": TRANSACTION}, TRANSACTION),
        ({"withdrawal": ENDED}, ENDED),
        ({}, None),
    ],
)
def test_a_failure_carries_what_alphapo_last_said(known: dict[str, Any], transaction: object) -> None:
    """The transaction where there is one, else the withdrawal, else nothing."""
    failed = error_of(row_with("failed", **known))
    assert isinstance(failed, WithdrawalFailed)
    assert failed.transaction is transaction


@pytest.mark.parametrize(
    ("detail", "kept", "reason"),
    [
        ("", "no connection", "no connection"),
        ("", "no connection: refused by 127.0.0.1:443", "no connection"),
        ("", "throttled", "throttled"),
        ("outage", "no connection", "outage"),
        ("queue: no slot in time", "", "queue"),
        ("closed", "throttled", "closed"),
    ],
)
def test_the_reason_why_nothing_was_sent_is_one_word(detail: str, kept: str, reason: str) -> None:
    """The flight's own reason comes before the row's, and what follows a colon is for people only."""
    error = error_of(row_with("not_sent", reason=kept), detail=detail)
    assert isinstance(error, WithdrawalNotSent)
    assert error.reason == reason


@pytest.mark.parametrize(
    ("state", "reason", "words"),
    [
        ("not_sent", "closed", "the client was closed before its turn"),
        ("not_sent", "expired", "its time was over before its turn"),
        ("not_sent", "outage", "AlphaPo gives no readable answers, and only probes are sent meanwhile"),
        ("not_sent", "queue", "its time was over before its turn"),
        ("not_sent", "queue: no slot in time", "queue: no slot in time"),
        ("not_sent", "throttled", "AlphaPo asked to wait"),
        ("not_sent", "no connection: refused by 127.0.0.1:443", "no connection: refused by 127.0.0.1:443"),
        ("open", "refused", "AlphaPo refuses it now, which says nothing about an earlier attempt"),
        (
            "open",
            "key refused",
            "key refused: AlphaPo does not accept the key now, which says nothing about an earlier attempt",
        ),
        ("open", "HTTP 502", "HTTP 502"),
    ],
)
def test_a_reason_of_one_word_is_told_in_a_sentence(state: State, reason: str, words: str) -> None:
    """A person reads what it means; a program has the word in `reason`."""
    assert f"({words})" in str(error_of(row_with(state, doubt_since=1.0, reason=reason)))


@pytest.mark.parametrize(
    ("detail", "known", "reason", "words"),
    [
        ("outage", {}, "outage", "AlphaPo gives no readable answers, and only probes are sent meanwhile"),
        ("queue", {}, "queue", "its time was over before its turn"),
        ("throttled", {}, "throttled", "AlphaPo asked to wait"),
        ("", {"reason": "no connection: refused"}, "no connection", "no connection: refused"),
        (
            "key refused",
            {"code": "bad_header_key"},
            "key refused",
            "key refused: AlphaPo does not accept the key or the signature (bad_header_key)",
        ),
        ("key refused", {}, "key refused", "key refused: AlphaPo does not accept the key or the signature"),
        ("", {}, "held", "another call has asked for it again meanwhile"),
    ],
)
def test_a_row_that_stays_open_without_doubt_says_why_it_was_not_sent(
    detail: str, known: dict[str, Any], reason: str, words: str
) -> None:
    """A worker may still send it, so that no funds may be released."""
    error = error_of(row_with("open", stays_open=True, **known), detail=detail)
    assert isinstance(error, WithdrawalUnknown)
    assert (error.reason, error.may_release_funds) == (reason, False)
    text = f"Withdrawal 'payout-17' was not sent by this call: {words}. It stays open, and a worker may still send it. "
    assert str(error) == text + error.next_step


def test_a_row_in_doubt_that_was_not_sent_for_its_key_says_so() -> None:
    """Its key was refused to another body, so that this one was held back."""
    error = error_of(row_with("open", doubt_since=1.0, reason="HTTP 502"), detail="key refused")
    assert isinstance(error, WithdrawalUnknown)
    assert error.reason == "key refused"


def test_a_row_in_doubt_without_any_answer_says_why_it_was_not_sent() -> None:
    """Its id is new to a journal that went back, and the outage let no look-up leave."""
    error = error_of(row_with("open", earlier_request_possible=True, epoch=1), detail="outage")
    assert "whether AlphaPo has it (AlphaPo gives no readable answers," in str(error)


@pytest.mark.parametrize(
    ("known", "reason", "words"),
    [
        ({"doubt_since": 1.0, "reason": "HTTP 502"}, "no answer", "(HTTP 502)"),
        ({"refusal": {"amount": ["x"]}, "reason": "refused"}, "refused", "(AlphaPo refuses it now,"),
        (
            {"doubt_since": 1.0, "code": "bad_header_key", "reason": "key refused"},
            "key refused",
            "(key refused: AlphaPo does not accept the key now,",
        ),
        ({"code": "bad_header_key", "refusal": {"a": ["x"]}}, "key refused", "whether AlphaPo has it. Keep"),
        (
            {"look_ups_only": True, "code": "bad_header_key", "reason": "foreign_id is taken"},
            "taken",
            "(foreign_id is taken)",
        ),
        (
            {"withdrawal": ENDED, "look_ups_only": True},
            "ended",
            "It stays pending until the quiet time is over and a look-up then still shows it declined.",
        ),
        ({"differences": DIFFERENCES, "look_ups_only": True}, "mismatch", "AlphaPo shows '7'; currency: asked 'BTC'"),
    ],
)
def test_the_reason_of_doubt_is_the_gravest_on_record(known: dict[str, Any], reason: str, words: str) -> None:
    """Another's figures, then a taken id, then a refused key, then a refusal, then silence."""
    error = error_of(row_with("open", **known))
    assert isinstance(error, WithdrawalUnknown)
    assert error.reason == reason
    assert words in str(error)


def test_a_withdrawal_that_alphapo_ended_says_what_settles_it() -> None:
    """And when: funds stay held back, since an earlier attempt may still arrive."""
    error = error_of(row_with("open", withdrawal=ENDED, look_ups_only=True), retry_after=1_790.4)
    assert isinstance(error, WithdrawalUnknown)
    assert "pending until the quiet time is over, in 1790 s, and a look-up then" in str(error)
    assert not error.may_release_funds
    assert "the same call after the quiet time looks it up again and settles it." in error.next_step
    assert error_of(row_with("open", withdrawal=ENDED), detail="key: gone").next_step.startswith("Keep it pending")


def test_a_programming_error_is_named_as_such() -> None:
    """Whether the row was settled as not sent, or stays open, in doubt or not."""
    not_sent = error_of(row_with("not_sent", reason="internal error"), detail="internal error")
    in_doubt = error_of(row_with("open", doubt_since=1.0, reason="no answer in time"), detail="internal error")
    enqueued = error_of(row_with("open"), detail="internal error")

    assert [type(error) for error in (not_sent, in_doubt, enqueued)] == [
        WithdrawalNotSent,
        WithdrawalUnknown,
        WithdrawalUnknown,
    ]
    assert {error.reason for error in (not_sent, in_doubt, enqueued)} == {"internal error"}  # type: ignore[union-attr]


# ── the flight has less to say than its row ──────────────────────────────────────────────────────────────────────────

LESS: list[tuple[Why, str]] = [
    ("in flight", "Withdrawal 'payout-17' is still under way, and its deadline is over."),
    ("closing", "Withdrawal 'payout-17' was under way when the client was closed."),
    ("journal", "Withdrawal 'payout-17' was tried, and the journal could not record what came of it."),
    ("held", "Withdrawal 'payout-17' is being worked on by another worker."),
    ("internal error", "Withdrawal 'payout-17' failed with an internal error; see the log."),
]


@pytest.mark.parametrize(("why", "text"), LESS)
@pytest.mark.parametrize("state", ["open", "rejected", "not_sent", "key_refused", "conflict", "failed"])
def test_a_flight_that_has_not_ended_leaves_it_unknown(why: Why, text: str, state: State) -> None:
    """Whatever the row says meanwhile, funds are not released on a word that is not final or not written down."""
    error = error_of(row_with(state), why=why, retry_after=2.5)
    assert isinstance(error, WithdrawalUnknown)
    assert error.reason == why
    assert str(error) == f"{text} {error.next_step}"
    assert not error.may_release_funds
    assert (error.foreign_id, error.attempts, error.retry_after) == ("payout-17", 3, 2.5)


@pytest.mark.parametrize(("why", "_text"), LESS)
def test_a_flight_without_a_row_leaves_it_unknown_too(why: Why, _text: str) -> None:
    """Where there is no row to look at, no attempt is counted and nothing is released."""
    error = error_of(None, why=why)
    assert isinstance(error, WithdrawalUnknown)
    assert (error.reason, error.attempts) == (why, 0)


def test_a_withdrawal_that_never_left_is_not_said_to_have_had_an_answer() -> None:
    """Where the journal could not record that it was not sent, the row may still be open."""
    error = error_of(row_with("open", attempts=0), why="journal")
    assert isinstance(error, WithdrawalUnknown)
    assert error.reason == "journal"
    said = "Withdrawal 'payout-17' was not sent by this call, but the journal could not record that, so that a worker may still send it."
    assert str(error).startswith(said)


def test_an_acceptance_that_could_not_be_written_down_is_told_all_the_same() -> None:
    """AlphaPo has it, whatever the journal says."""
    assert to_outcome(FlightResult("payout-17", row_with("accepted", withdrawal=HAS), why="journal")) == HAS


@pytest.mark.parametrize("why", ["in flight", "closing", "held", "internal error"])
def test_other_reasons_hold_even_an_acceptance_back(why: Why) -> None:
    """A caller who left early hears what was true for him: nobody could say."""
    assert isinstance(error_of(row_with("accepted", withdrawal=HAS), why=why), WithdrawalUnknown)


OTHER = replace(REQUEST, amount=Decimal("0.0014"))
SHOWN = Transaction(id=9, foreign_id="payout-17", status="processing")


@pytest.mark.parametrize(
    ("row", "existing"),
    [
        (row_with("open"), Existing(state="open", payment=REQUEST)),
        (row_with("open", doubt_since=1.0), Existing(state="in doubt", payment=REQUEST)),
        (row_with("open", look_ups_only=True), Existing(state="in doubt", payment=REQUEST)),
        (row_with("accepted", withdrawal=HAS), Existing(state="accepted", payment=REQUEST, id=5, status="processing")),
        (row_with("failed", withdrawal=ENDED), Existing(state="failed", payment=REQUEST, id=5, status="declined")),
        (row_with("failed", revision=Revision(b"", None, 1, "1:a")), Existing(state="failed")),
        (
            row_with("conflict", transaction=SHOWN),
            Existing(state="accepted", id=9, status="processing", transaction=SHOWN),
        ),
        (
            row_with("conflict", transaction=replace(SHOWN, status="cancelled")),
            Existing(state="failed", id=9, status="cancelled", transaction=replace(SHOWN, status="cancelled")),
        ),
        (row_with("conflict"), Existing(state="accepted")),
    ],
)
def test_a_conflict_carries_what_has_the_foreign_id(row: Row, existing: Existing) -> None:
    """The journal's row as far as it is kept, or what AlphaPo shows; funds may be released only if that one failed."""
    assert existing_of(row) == existing
    error = to_outcome(conflict_with(row, OTHER))
    assert isinstance(error, ForeignIdConflict)
    assert (error.existing, error.attempts, error.may_release_funds) == (existing, 0, existing.state == "failed")
    assert "This payment was not sent, and no worker will send it." in str(error)


@pytest.mark.parametrize("row", [row_with("conflict", transaction=SHOWN), row_with("accepted", withdrawal=HAS)])
def test_a_conflict_survives_pickle_and_holds_no_body_and_no_key(row: Row) -> None:
    """What goes from a worker process to its parent is the same there; the signed bytes stay in the journal."""
    error = to_outcome(conflict_with(row, OTHER))
    assert isinstance(error, ForeignIdConflict)
    again = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes
    assert (str(again), again.existing) == (str(error), error.existing)
    shown = repr(vars(error)) + str(error)
    assert not [secret for secret in ("fingerprint", "Private-Ann", BODY.decode()) if secret in shown]


def test_a_conflict_says_what_differs() -> None:
    """Where the journal keeps the payment; otherwise it says only how it stands."""
    error = to_outcome(conflict_with(row_with("accepted"), OTHER))
    assert "already used for another payment (another amount; that one is accepted). This payment" in str(error)
    forgotten = row_with("accepted", revision=Revision(b"", None, 1, "1:a"))
    assert "already used for another payment (that one is accepted). This payment" in str(
        to_outcome(conflict_with(forgotten, OTHER))
    )


def test_a_word_of_the_operator_is_told_as_his() -> None:
    """AlphaPo has refused nothing."""
    error = error_of(row_with("rejected", decision="rejected by anna: it is not in the back office"))
    assert isinstance(error, WithdrawalRejected)
    assert str(error).startswith(
        "Withdrawal 'payout-17' was settled by hand, as rejected by anna: it is not in the back office. AlphaPo itself"
    )
    assert error.errors == {}


@pytest.mark.parametrize(("recorded", "may_release_funds"), [(False, True), (True, False), (None, False)])
def test_a_journal_that_failed_first_releases_funds_only_if_nothing_was_recorded(
    recorded: bool | None,  # noqa: FBT001 - a column
    may_release_funds: bool,  # noqa: FBT001 - likewise
) -> None:
    """What may have been written down may be sent later by `resume`."""
    error = error_of(None, why="unrecorded", detail="The disk is full.", recorded=recorded, retry_after=2.5)
    assert isinstance(error, JournalError)
    assert (error.recorded, error.may_release_funds) == (recorded, may_release_funds)
    whose = "" if recorded is False else " by this call"
    assert str(error) == f"Withdrawal 'payout-17' was not sent{whose}. The disk is full. {error.next_step}"
    assert (error.foreign_id, error.attempts, error.retry_after) == ("payout-17", 0, 2.5)


def test_nothing_counts_as_recorded_unless_it_is_said() -> None:
    """A flight that says nothing of it has written nothing down."""
    error = error_of(None, why="unrecorded", detail="The disk is full.")
    assert isinstance(error, JournalError)
    assert error.recorded is False


def test_every_why_is_told() -> None:
    """The cases above are all there are: a new one needs its words."""
    assert {why for why, _ in LESS} | {"", "other payment", "unrecorded"} == set(get_args(Why))


def test_each_caller_gets_an_exception_of_its_own() -> None:
    """Told twice, it is raised twice, so that tracebacks do not grow into each other."""
    result = FlightResult("payout-17", row_with("open"))
    assert to_outcome(result) is not to_outcome(result)


ALL_TOLD = [
    *(FlightResult("payout-17", row) for row, _, _ in BY_STATE),
    *(
        FlightResult("payout-17", row_with("open"), why=why, detail="detail")
        for why in get_args(Why)
        if why != "other payment"
    ),
    conflict_with(row_with("open"), OTHER),
    conflict_with(row_with("conflict", transaction=SHOWN), OTHER),
]


@pytest.mark.parametrize(
    "expected", ALL_TOLD, ids=[f"{expected.why}-{expected.row and expected.row.state}" for expected in ALL_TOLD]
)
def test_no_text_shows_the_body_or_the_people(expected: FlightResult) -> None:
    """The signed body, its address and whoever sends or receives reach neither text nor repr nor attributes."""
    error = to_outcome(expected)
    shown = f"{error!s} {error!r} {vars(error) if isinstance(error, Exception) else ''} {expected!r}"
    assert not [private for private in ("private", "Private", BODY.decode()) if private in shown]


def test_a_row_whose_key_is_missing_names_its_fingerprint() -> None:
    """So that somebody can find the key."""
    detail = "key: it was signed with the key of fingerprint ab12, which is not among this client's keys"
    error = error_of(row_with(doubt_since=0.0), detail=detail)
    assert isinstance(error, WithdrawalUnknown)
    assert error.reason == "key"
    assert "fingerprint ab12" in str(error)


def test_a_row_from_before_the_journal_went_back_is_unknown() -> None:
    """A "no" until AlphaPo has confirmed it, and an open row until a look-up or a caller settles it."""
    back = Epoch(1, 9.0)
    stale = error_of(row_with("not_sent", reason="queue", journal_epoch=back))
    assert isinstance(stale, WithdrawalUnknown)
    assert (stale.reason, "recorded as not sent from before the journal went back" in str(stale)) == (WENT_BACK, True)
    frozen = error_of(row_with("open", doubt_since=1.0, journal_epoch=back))
    assert isinstance(frozen, WithdrawalUnknown)
    assert frozen.reason == WENT_BACK


def test_a_withdrawal_is_accepted() -> None:
    """With its place and its request."""
    result = result_of(3, REQUEST, Withdrawal(id=7))
    assert (result.index, result.request, result.outcome, result.error) == (3, REQUEST, "accepted", None)
    assert result.withdrawal == Withdrawal(id=7)


def test_an_error_tells_its_outcome() -> None:
    """And a request that is none is invalid."""
    assert result_of(0, REQUEST, WithdrawalNotSent("no", reason="queue")).outcome == "not_sent"
    assert result_of(0, {"foreign_id": ""}, InvalidRequest({"foreign_id": "is empty."})).outcome == "invalid"
