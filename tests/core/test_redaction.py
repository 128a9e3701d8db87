"""Forgetting: who may be forgotten, what goes, and what stays."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest
from msgspec.structs import replace

from alphapo_async.core.comparison import Difference
from alphapo_async.core.evidence import Released, Requested, Revision
from alphapo_async.core.models import Transaction, Withdrawal
from alphapo_async.core.redaction import is_about, is_finished, redacted, tombstone
from alphapo_async.core.row import Row
from alphapo_async.core.transitions import apply
from tests.support.rows import (
    ACCEPTED_ROW,
    ASKED,
    CONFLICT_ROW,
    CORRECTED,
    DOUBTED,
    FAILED_ROW,
    NOT_SENT_ROW,
    OURS,
    REFUSED_ROW,
    REJECTED_ROW,
    asked_about,
    found,
    revision,
    row,
)


def accepted(status: str | None) -> Row:
    """Return a row that AlphaPo accepted and that stands so."""
    result = Withdrawal(id=7, foreign_id="f", end_user_reference="user-42", status=status, source="look-up")
    return replace(ACCEPTED_ROW, withdrawal=result)


@pytest.mark.parametrize(
    ("known", "expected"),
    [
        (accepted("confirmed"), True),
        (FAILED_ROW, True),
        (REJECTED_ROW, True),
        (NOT_SENT_ROW, True),
        (CONFLICT_ROW, False),
        (asked_about(CONFLICT_ROW, found("confirmed", amount="9", address="z")), True),
        (replace(CONFLICT_ROW, transaction=None), True),
        (REFUSED_ROW, True),
        (accepted("processing"), False),
        (accepted(None), False),
        (replace(ACCEPTED_ROW, withdrawal=None), False),
        (row(), False),
        (DOUBTED, False),
        (row(holder=None, reported=True), False),
        (replace(accepted("confirmed"), reported=False), False),
        (replace(accepted("confirmed"), holder="worker"), False),
    ],
)
def test_only_what_is_finished_earlier_request_possible(known: Row, expected: bool) -> None:  # noqa: FBT001 - a table
    """Final, told, and nobody works on it."""
    assert is_finished(known) is expected


def test_a_row_is_about_whoever_it_was_for_in_any_revision() -> None:
    """And about nobody once that is forgotten."""
    corrected = apply(NOT_SENT_ROW, replace(ASKED, revision=revision(end_user_reference="other")), 6.0)
    assert corrected.earlier == (OURS,)
    assert is_about(corrected, "other")
    assert is_about(corrected, "u")
    assert not is_about(corrected, "nobody")
    assert not is_about(redacted(corrected), "other")


def test_what_says_whom_it_was_for_goes() -> None:
    """Bodies, address, reference and AlphaPo's words, of every revision."""
    known = replace(
        asked_about(accepted("confirmed"), found("confirmed")),
        earlier=(CORRECTED,),
        refusal={"a": ["bc1q"]},
        differences=(Difference("address", "bc1q", "bc1p"),),
    )
    left = redacted(known)
    assert (left.transaction, left.differences, left.refusal) == (None, (), None)
    assert left.withdrawal is not None
    assert (left.withdrawal.id, left.withdrawal.status, left.withdrawal.end_user_reference) == (7, "confirmed", None)
    for before, after in zip((known.revision, *known.earlier), (left.revision, *left.earlier), strict=True):
        assert (after.body, after.payment, after.number) == (b"", None, before.number)
        assert (after.digest, after.asked) == (before.digest, before.asked)
    assert (left.attempts, left.settled_at, left.reason) == (known.attempts, known.settled_at, known.reason)


def test_a_row_that_knows_of_no_withdrawal_is_redacted_too() -> None:
    """A "no" has an address, as well."""
    assert redacted(NOT_SENT_ROW).withdrawal is None
    assert redacted(NOT_SENT_ROW).revision.payment is None
    assert tombstone(NOT_SENT_ROW).withdrawal is None


def test_a_tombstone_keeps_the_id_known() -> None:
    """Account, id, digest, figure, outcome, AlphaPo's id, and that somebody should look."""
    known = replace(accepted("confirmed"), earlier=(CORRECTED,), contradiction="look", attempts=3, reason="x")
    assert tombstone(known) == Row(
        account="default",
        foreign_id="f",
        revision=Revision(b"", None, 1, OURS.digest, (Decimal(1), "BTC")),
        key_fingerprint="key",
        created_at=known.created_at,
        state="accepted",
        settled_at=known.settled_at,
        withdrawal=Withdrawal(id=7, foreign_id="f", status="confirmed", source="look-up"),
        contradiction="look",
    )


@pytest.mark.parametrize("leave", [redacted, tombstone])
def test_what_is_forgotten_is_forgotten_once(leave: object) -> None:
    """Doing it again changes nothing, also of a row whose figure nobody knows."""
    assert callable(leave)
    bare = replace(accepted("confirmed"), revision=Revision(b"", None, 1, "1:d"))
    for known in (accepted("confirmed"), REJECTED_ROW, bare):
        assert leave(leave(known)) == leave(known)


@pytest.mark.parametrize("leave", [redacted, tombstone])
def test_nobody_is_paid_again_under_a_forgotten_id(leave: object) -> None:
    """The same payment is answered by what is left, another one is a conflict, and a rejection stays one."""
    assert callable(leave)
    paid, refused = leave(accepted("confirmed")), leave(REJECTED_ROW)
    assert apply(paid, ASKED, 9.0).state == "accepted"
    assert paid.revision.is_same_payment(OURS)
    assert not paid.revision.is_same_payment(CORRECTED)
    assert apply(refused, ASKED, 9.0).state == "rejected"
    again = apply(refused, Requested("worker", OURS, "key", resend_rejected=True, requested_at=9.0), 9.0)
    assert (again.state, again.revision.body, again.revision.number) == ("open", OURS.body, 2)
    assert apply(again, Released("worker", "queue"), 9.0).state == "not_sent"


@pytest.mark.parametrize("forget", [redacted, tombstone])
def test_what_a_row_is_in_conflict_with_stays_known(forget: Callable[[Row], Row]) -> None:
    """AlphaPo's id and status: they say whether the funds may be released."""
    kept = forget(asked_about(CONFLICT_ROW, found("declined", amount="9", address="z")))
    assert kept.transaction == Transaction(id=7, foreign_id="f", status="declined")
    assert forget(FAILED_ROW).transaction is None
