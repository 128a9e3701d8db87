import copy
import pickle
from collections.abc import Callable
from typing import Any, cast

import pytest

from alphapo_async.core import errors
from alphapo_async.core.errors import (
    AlphapoError,
    AlphapoUnavailable,
    AuthenticationError,
    CallbackBusy,
    CallbackError,
    CallbackReason,
    ConfigurationError,
    Existing,
    ExistingState,
    ForeignIdConflict,
    InvalidRequest,
    JournalError,
    WithdrawalError,
    WithdrawalFailed,
    WithdrawalNotSent,
    WithdrawalRejected,
    WithdrawalUnknown,
)
from alphapo_async.core.models import Transaction, WithdrawalRequest

ABOUT: dict[str, Any] = {"foreign_id": "payout-17", "attempts": 3, "retry_after": 2.5}

EXISTING = Existing(
    state="accepted",
    payment=WithdrawalRequest(currency="BTC", address="a", foreign_id="payout-17", end_user_reference="u", amount="25"),
    id=4711,
    status="processing",
)

ABOUT_ONE: list[WithdrawalError | JournalError] = [
    WithdrawalRejected("Said no.", errors={"amount": ["too small"]}, **ABOUT),
    WithdrawalFailed("Ended.", transaction=Transaction(id=7, status="cancelled"), **ABOUT),
    WithdrawalNotSent("Never left.", reason="outage", **ABOUT),
    WithdrawalUnknown("Who knows.", reason="in flight", **ABOUT),
    ForeignIdConflict("Another's.", existing=EXISTING, **ABOUT),
    AuthenticationError("Wrong key.", code="bad_header_key", **ABOUT),
    JournalError("Disk full.", recorded=None, **ABOUT),
]
ALL: list[AlphapoError] = [
    *ABOUT_ONE,
    InvalidRequest({"amount": "is negative.", "tag": "is missing."}),
    ConfigurationError("No key."),
    AlphapoUnavailable("No answer.", http_status=503, code="maintenance", retry_after=9.0),
    CallbackError("Forged.", reason="signature"),
    CallbackBusy("Later."),
]


def name_of(value: object) -> str:
    """Return the name of its class, for the list of cases."""
    return type(value).__name__


@pytest.mark.parametrize(
    ("error", "outcome", "may_release_funds", "is_retry_safe"),
    [
        # row by row: what each error says
        (WithdrawalRejected("", errors={}), "rejected", True, False),
        (WithdrawalFailed(""), "failed", True, False),
        (WithdrawalNotSent("", reason="queue"), "not_sent", True, True),
        (WithdrawalUnknown("", reason="no answer"), "unknown", False, True),
        *(
            (ForeignIdConflict("", existing=Existing(state=state)), "conflict", state == "failed", False)
            for state in ("open", "in doubt", "accepted", "failed", "rejected", "not_sent", "key_refused")
        ),
        (AuthenticationError("", code="bad_header_key", foreign_id="f"), "key_refused", True, True),
        (AuthenticationError("", code="bad_header_key"), "key_refused", False, True),  # of a whole batch
        (JournalError("", recorded=False), "not_sent", True, True),
        (JournalError("", recorded=True), "unknown", False, True),
        (JournalError("", recorded=None), "unknown", False, True),
        (JournalError(""), "not_sent", True, True),
    ],
)
def test_each_error_says_whether_money_moved_and_whether_to_try_again(
    error: WithdrawalError | JournalError,
    outcome: str,
    may_release_funds: bool,  # noqa: FBT001 - a column of the table
    is_retry_safe: bool,  # noqa: FBT001 - likewise
) -> None:
    """Outcome, the word on funds and the word on retries are those of the table."""
    assert (error.outcome, error.may_release_funds, error.is_retry_safe) == (outcome, may_release_funds, is_retry_safe)


def test_only_doubt_a_conflict_and_an_uncertain_journal_hold_funds_back() -> None:
    """An unknown outcome, an existing withdrawal, and one that may be in the journal forbid giving the funds back; nothing else does."""
    assert [name_of(error) for error in ABOUT_ONE if not error.may_release_funds] == [
        "WithdrawalUnknown",
        "ForeignIdConflict",
        "JournalError",
    ]


@pytest.mark.parametrize(
    ("state", "status", "words"),
    [
        ("open", None, "is open: wait for its outcome. If you meant the same payout, do nothing"),
        ("in doubt", None, "is in doubt: wait for its outcome. If you meant the same payout, do nothing"),
        ("accepted", "processing", "is accepted: it is being paid. If you meant the same payout, do nothing"),
        ("accepted", "confirmed", "is confirmed: it is paid. If you meant the same payout, do nothing"),
        (
            "failed",
            "declined",
            "is declined: no money moved under this foreign_id. Give the funds back, or pay under a new",
        ),
        ("failed", None, "is cancelled or declined: no money moved under this foreign_id."),
        ("not_sent", None, "has just ended without moving money: ask again. If you meant the same payout"),
    ],
)
def test_a_conflict_names_the_state_of_the_existing_withdrawal(state: str, status: str | None, words: str) -> None:
    """A second payment of the same payout is not recommended, whatever the state."""
    error = ForeignIdConflict("Another's.", existing=Existing(state=cast("ExistingState", state), status=status))
    assert error.next_step.startswith(f"The existing withdrawal {words}")
    assert str(error) == f"Another's. {error.next_step}"
    assert ("Only a different payout gets a foreign_id of its own." in error.next_step) is (state != "failed")


def test_the_existing_withdrawal_shows_no_address() -> None:
    """What error reporters and rich write down of it."""
    assert repr(EXISTING) == "Existing(state='accepted', id=4711, status='processing')"
    assert EXISTING.__rich_repr__() == [("state", "accepted"), ("id", 4711), ("status", "processing")]


@pytest.mark.parametrize("error", ABOUT_ONE, ids=name_of)
def test_an_error_about_one_withdrawal_names_it_and_the_next_step(error: WithdrawalError | JournalError) -> None:
    """Each carries foreign_id, attempts and retry_after, and its text ends with what to do now."""
    assert (error.foreign_id, error.attempts, error.retry_after) == ("payout-17", 3, 2.5)
    assert error.next_step.endswith(".")
    assert str(error).endswith(f". {error.next_step}")


def test_what_is_not_told_of_an_error_is_empty() -> None:
    """Without details an error names no withdrawal, no attempt and no waiting time."""
    error = JournalError("Disk full.")
    assert (error.foreign_id, error.attempts, error.retry_after) == (None, 0, None)
    assert str(error) == "Disk full. Try again once the journal works."  # there is no request to repeat
    assert error.detail == "Disk full."


@pytest.mark.parametrize("recorded", [True, None])
def test_a_journal_error_keeps_a_withdrawal_pending_that_an_earlier_call_may_have_sent(
    recorded: bool | None,  # noqa: FBT001 - a column
) -> None:
    """This call sent nothing; only where the journal surely has no row, no earlier call has sent it either."""
    error = JournalError("Disk full.", recorded=recorded, **ABOUT)
    assert error.next_step == (
        "An earlier call may have sent it: keep it pending, do not refund it and do not pay it under a new foreign_id. "
        "Call again with the same request once the journal works."
    )
    assert error.detail == "Disk full."
    surely_new = JournalError("Disk full.", recorded=False, **ABOUT)
    assert surely_new.next_step == "Call again with the same request once the journal works, or give the funds back."


@pytest.mark.parametrize("error", ALL, ids=name_of)
def test_help_shows_what_a_class_says_and_no_value_of_another_class(error: AlphapoError) -> None:
    """The docstring names the one outcome of the class, and whether funds may be released."""
    text = " ".join((type(error).__doc__ or "").split())
    if isinstance(error, WithdrawalError | JournalError):
        assert " may_release_funds: " in text
        assert "One of `failed`, `rejected`" not in text
    if isinstance(error, WithdrawalError):
        assert f" outcome: `{error.outcome}`" in text


@pytest.mark.parametrize("kind", [WithdrawalUnknown, JournalError])
def test_help_says_what_to_do_while_it_is_unknown(kind: type[AlphapoError]) -> None:
    """A reader of the class alone neither refunds nor pays again."""
    text = " ".join((kind.__doc__ or "").split())
    for words in ("pending", "refund", "new foreign_id"):
        assert words in text
    unavailable = AlphapoUnavailable("No answer.")
    assert (unavailable.http_status, unavailable.code, unavailable.retry_after) == (None, None, None)


def test_a_message_may_be_named() -> None:
    """It is the text of the error all the same."""
    assert str(AlphapoUnavailable(message="No answer.")) == "No answer."
    assert str(CallbackError(message="Forged.", reason="signature")) == "Forged."


@pytest.mark.parametrize(
    ("reason", "is_forged"),
    [
        ("missing header", True),
        ("unknown key", True),
        ("signature", True),
        ("too large", False),
        ("not JSON", False),
        ("not an object", False),
        ("no id or status", False),
    ],
)
def test_what_carries_no_signature_of_ours_is_forged(reason: str, is_forged: bool) -> None:  # noqa: FBT001 - a column
    """What is signed and cannot be read is not."""
    assert CallbackError("No.", reason=cast("CallbackReason", reason)).is_forged is is_forged


@pytest.mark.parametrize(
    ("error", "attribute", "value"),
    [
        (ABOUT_ONE[0], "errors", {"amount": ["too small"]}),
        (ABOUT_ONE[1], "transaction", Transaction(id=7, status="cancelled")),
        (ABOUT_ONE[2], "reason", "outage"),
        (ABOUT_ONE[3], "reason", "in flight"),
        (ABOUT_ONE[5], "code", "bad_header_key"),
        (ABOUT_ONE[6], "recorded", None),
        (ALL[7], "problems", {"amount": "is negative.", "tag": "is missing."}),
        (ALL[9], "http_status", 503),
        (ALL[9], "code", "maintenance"),
        (ALL[9], "retry_after", 9.0),
        (ALL[-2], "reason", "signature"),
        (ALL[-2], "is_forged", True),
    ],
)
def test_each_error_carries_its_own_detail(error: AlphapoError, attribute: str, value: object) -> None:
    """What is particular to one class is an attribute of it."""
    assert getattr(error, attribute) == value


def through_pickle(error: AlphapoError, protocol: int) -> AlphapoError:
    """Return what is left of the error after it was pickled."""
    again = pickle.loads(pickle.dumps(error, protocol))  # noqa: S301 - our own bytes
    assert isinstance(again, AlphapoError)
    return again


@pytest.mark.parametrize("error", ALL, ids=name_of)
@pytest.mark.parametrize(
    "again",
    [
        copy.copy,
        copy.deepcopy,
        *(lambda error, protocol=protocol: through_pickle(error, protocol) for protocol in range(2, 6)),
    ],
    ids=["copy", "deepcopy", *(f"pickle {protocol}" for protocol in range(2, 6))],
)
def test_errors_survive_pickle_and_copy(error: AlphapoError, again: Callable[[AlphapoError], AlphapoError]) -> None:
    """The class, the text, the arguments and every attribute are the same afterwards."""
    twin = again(error)
    assert twin is not error
    assert type(twin) is type(error)
    assert (str(twin), twin.args, vars(twin)) == (str(error), error.args, vars(error))


def test_notes_survive_too() -> None:
    """What a caller noted on an error is still on its copy."""
    error = WithdrawalUnknown("Who knows.", reason="no answer")
    error.add_note("batch 7")
    assert through_pickle(error, 5).__notes__ == ["batch 7"]


@pytest.mark.parametrize(
    ("kind", "bases"),
    [
        (AlphapoError, (Exception,)),
        (InvalidRequest, (AlphapoError, ValueError)),
        (ConfigurationError, (AlphapoError, ValueError)),
        (WithdrawalError, (AlphapoError,)),
        (WithdrawalRejected, (WithdrawalError,)),
        (WithdrawalFailed, (WithdrawalError,)),
        (WithdrawalNotSent, (WithdrawalError,)),
        (WithdrawalUnknown, (WithdrawalError,)),
        (ForeignIdConflict, (WithdrawalError,)),
        (AuthenticationError, (WithdrawalError,)),
        (JournalError, (AlphapoError,)),
        (CallbackError, (AlphapoError, ValueError)),
        (CallbackBusy, (AlphapoError,)),
        (AlphapoUnavailable, (AlphapoError,)),
    ],
)
def test_the_class_tree_is_the_documented_one(kind: type[Exception], bases: tuple[type[Exception], ...]) -> None:
    """Each class can be caught as what the tree in the module's docstring says it is."""
    assert all(issubclass(kind, base) for base in bases)
    assert kind.__name__ in (errors.__doc__ or "")


@pytest.mark.parametrize("kind", [JournalError, AlphapoUnavailable, InvalidRequest, ConfigurationError])
def test_what_is_no_word_on_one_withdrawal_is_not_caught_as_one(kind: type[Exception]) -> None:
    """`except WithdrawalError` catches outcomes only, never wrong input, a journal or an unanswered question."""
    assert not issubclass(kind, WithdrawalError)


def test_every_public_error_is_listed() -> None:
    """`__all__` holds exactly the error classes of the module that have a public name, and what a conflict carries."""
    classes = {name: value for name, value in vars(errors).items() if isinstance(value, type)}
    public = {name for name, kind in classes.items() if issubclass(kind, AlphapoError) and not name.startswith("_")}
    assert set(errors.__all__) == public | {"Existing"}


def test_an_invalid_request_tells_every_problem_in_its_text() -> None:
    """The text says that nothing was sent, and then each field with its problem."""
    text = str(InvalidRequest({"amount": "is negative.", "tag": "is missing."}))
    assert text == "The withdrawal request is not valid, nothing was sent. amount is negative. tag is missing."


def test_an_invalid_request_names_its_withdrawal_where_it_can() -> None:
    """In a batch nothing else tells which row it was."""
    error = InvalidRequest({"amount": "is negative."}, "payout-17")
    assert (str(error), error.foreign_id) == (
        "Withdrawal 'payout-17' is not valid, nothing was sent. amount is negative.",
        "payout-17",
    )


def test_a_journal_error_tells_its_detail_without_the_advice() -> None:
    """So that it can stand in another sentence."""
    error = JournalError("The disk is full.")
    assert error.detail == "The disk is full."
    assert str(error) != error.detail


@pytest.mark.parametrize(
    ("reason", "words"), [("key", "add the key"), ("ended", "after the quiet time"), ("held", "is safe")]
)
def test_an_unknown_outcome_says_what_settles_it(reason: str, words: str) -> None:
    """Whatever the reason, the payment stays pending."""
    result = WithdrawalUnknown("Unknown.", reason=reason, foreign_id="f").next_step
    assert result.startswith("Keep it pending: do not refund it")
    assert words in result


@pytest.mark.parametrize(
    ("code", "is_key_refused"), [("bad_header_key", True), ("internal_error", False), (None, False)]
)
def test_only_the_four_documented_codes_refuse_a_key(code: str | None, *, is_key_refused: bool) -> None:
    """Any other code says nothing about it."""
    assert AlphapoUnavailable("No.", code=code).is_key_refused is is_key_refused
