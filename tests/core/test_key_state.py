"""The state of a key: refused by a body, asked about, and found accepted again by a body."""

from __future__ import annotations

from math import inf

import pytest

from alphapo_async.core.key_state import (
    ACCEPTED,
    KeyState,
    after_body,
    after_question,
    key_for,
)
from alphapo_async.core.replies import Accepted, KeyRefused, NoReply, NotSent, Proof, Reply
from alphapo_async.core.row import Row
from tests.support.rows import ACCEPTED_ROW, DOUBTED, LOST, MISMATCHED, REJECTED, TAKEN, TOLD, row

REFUSED = KeyRefused("bad_header_signature")
WAITING = KeyState("bad_header_signature", 120.0)
READY = KeyState("bad_header_signature", inf, may_send_one=True)
DEFINITE = [Accepted(TOLD), MISMATCHED, REJECTED, TAKEN]
NOTHING = [LOST, NotSent("no connection"), NotSent("throttled", 5.0)]


def test_a_refused_body_shows_a_refused_key() -> None:
    """It is asked about after the longest wait."""
    assert after_body(ACCEPTED, REFUSED, 100.0, 20.0) == WAITING


def test_more_refused_bodies_do_not_put_the_question_off() -> None:
    """Direct calls go on sending, and each is refused."""
    assert after_body(WAITING, KeyRefused("bad_header_key"), 110.0, 20.0) == KeyState("bad_header_key", 120.0)


def test_the_one_body_that_is_refused_waits_for_the_next_question() -> None:
    """The answer to the question has not shown enough."""
    assert after_body(READY, REFUSED, 200.0, 20.0) == KeyState("bad_header_signature", 220.0)


@pytest.mark.parametrize("proof", DEFINITE)
@pytest.mark.parametrize("state", [ACCEPTED, WAITING, READY])
def test_any_other_answer_of_alphapo_to_a_body_shows_an_accepted_key(state: KeyState, proof: Proof) -> None:
    """Also a rejection: AlphaPo read the body."""
    assert after_body(state, proof, 110.0, 20.0) is ACCEPTED


@pytest.mark.parametrize("proof", NOTHING)
def test_a_body_without_an_answer_shows_nothing(proof: Proof) -> None:
    """Where it was the one that was to find out, the question comes first again."""
    assert after_body(ACCEPTED, proof, 110.0, 20.0) is ACCEPTED
    assert after_body(WAITING, proof, 110.0, 20.0) is WAITING
    assert after_body(READY, proof, 200.0, 20.0) == KeyState("bad_header_signature", 220.0)


def test_a_question_that_is_let_in_allows_one_body() -> None:
    """The answer itself does not show that a body is accepted."""
    assert after_question(WAITING, Reply(200, b'{"data": []}'), 120.0, 20.0) == READY


@pytest.mark.parametrize(
    "reply",
    [
        NoReply("no answer in time", may_have_left=True),
        Reply(403, b'{"error": "x", "code": "bad_header_key"}'),
        Reply(502),
    ],
)
def test_a_question_that_is_not_let_in_is_asked_again(reply: Reply | NoReply) -> None:
    """After the longest wait."""
    assert after_question(WAITING, reply, 125.0, 20.0) == KeyState("bad_header_signature", 145.0)


def test_an_answer_that_comes_after_an_accepted_body_changes_nothing() -> None:
    """A direct call has found out meanwhile."""
    assert after_question(ACCEPTED, NoReply("x", may_have_left=False), 120.0, 20.0) is ACCEPTED


@pytest.mark.parametrize(("known", "key"), [(row(), "new"), (DOUBTED, "key"), (ACCEPTED_ROW, "key")])
def test_a_row_is_sent_under_the_current_key_unless_it_is_in_doubt(known: Row, key: str) -> None:
    """Look-ups show only what was sent with the same key."""
    assert key_for(known, "new") == key
