"""How often one withdrawal is tried: the limits of a policy, the back-off, and whether another round helps."""

from __future__ import annotations

from math import inf, nan
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from alphapo_async.core.codec import encode_body
from alphapo_async.core.errors import ConfigurationError
from alphapo_async.core.evidence import Requested, Revision
from alphapo_async.core.models import WithdrawalRequest
from alphapo_async.core.retry_policy import (
    FlightCounts,
    RetryPolicy,
    backoff,
    is_worth_another_round,
    may_look_up,
)
from alphapo_async.core.row import Row
from alphapo_async.core.transitions import new_row

POLICY = RetryPolicy()


# ── the policy ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("figures", "says"),
    [
        ({"attempts": 0}, "attempts must be a whole number from 1, not 0."),
        ({"attempts": -1}, "attempts"),
        ({"attempts": 2.0}, "attempts"),
        ({"attempts": True}, "attempts"),
        ({"deadline": 0}, "deadline must be seconds, more than 0, not 0."),
        ({"deadline": inf}, "deadline"),
        ({"attempt_timeout": -1.0}, "attempt_timeout"),
        ({"attempt_timeout": None}, "attempt_timeout"),
        ({"wait_initial": -0.1}, "wait_initial must be seconds, 0 or more, not -0.1."),
        ({"wait_max": nan}, "wait_max"),
        ({"quiet": "1800"}, "quiet"),
        ({"resend_within": True}, "resend_within"),
        ({"wait_initial": 21.0}, "wait_initial (21.0) must not be above wait_max (20.0)."),
    ],
)
def test_a_figure_out_of_range_is_refused(figures: dict[str, Any], says: str) -> None:
    """With its name and what it may be, when the policy is made."""
    with pytest.raises(ConfigurationError) as caught:
        RetryPolicy(**figures)
    assert str(caught.value).startswith(says)


def test_the_policy_that_nobody_changed() -> None:
    """Five bodies within a minute, fifteen seconds each; half an hour of quiet, and a day in which no id is freed."""
    assert (POLICY.attempts, POLICY.deadline, POLICY.attempt_timeout) == (5, 60.0, 15.0)
    assert (POLICY.wait_initial, POLICY.wait_max, POLICY.quiet, POLICY.resend_within) == (0.5, 20.0, 1_800.0, 86_400.0)


def test_zero_waits_are_allowed() -> None:
    """0 means no pause, no quiet time or no resending."""
    assert RetryPolicy(wait_initial=0, wait_max=0, quiet=0, resend_within=0).quiet == 0


def test_the_policy_for_durable_engines_is_one_body_and_one_look_up() -> None:
    """They retry by themselves."""
    policy = RetryPolicy.none()
    assert policy.attempts == 1
    assert may_look_up(FlightCounts(sent=1), policy)
    assert not may_look_up(FlightCounts(sent=1, look_ups=1), policy)


# ── backoff ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_backoff_doubles_up_to_its_limit() -> None:
    """The first wait, then each time twice as long."""
    assert [backoff(number, 0.5, 20.0) for number in range(1, 9)] == [0.5, 1, 2, 4, 8, 16, 20, 20]


@given(st.integers(1, 10_000), st.floats(0, 1e6), st.floats(0, 1e6))
def test_backoff_stays_within_its_limit_however_many_failures_there_were(
    number: int, first: float, longest: float
) -> None:
    """It never shrinks from one failure to the next."""
    assert 0 <= backoff(number, first, longest) <= backoff(number + 1, first, longest) <= longest


def test_a_new_flight_has_done_nothing() -> None:
    """No body and no look-up."""
    assert FlightCounts() == FlightCounts(sent=0, look_ups=0, look_ups_since_taken=0)


# ── the budget ───────────────────────────────────────────────────────────────────────────────────────────────────────


# ── how long one withdrawal goes on ──────────────────────────────────────────────────────────────────────────────────


def row(**changes: Any) -> Row:
    """Return an open row with these changes."""
    payment = WithdrawalRequest(currency="BTC", address="a", amount="1", foreign_id="f", end_user_reference="u")
    asked = Requested("worker", Revision(encode_body(payment), payment), "key")
    return replace(new_row("default", "f", asked, 0.0, is_durable=True), **changes)


ERRORS = {"amount": ["no"]}


@pytest.mark.parametrize(
    ("known", "counts", "is_worth"),
    [
        (row(), FlightCounts(sent=4, look_ups=4), True),
        (row(), FlightCounts(sent=5, look_ups=4), False),
        (row(state="accepted"), FlightCounts(sent=1), False),
        (row(code="bad_header_key", doubt_since=0.0), FlightCounts(sent=1), False),
        # after the last body, one more look-up
        (row(doubt_since=0.0, needs_look_up=True), FlightCounts(sent=5, look_ups=4), True),
        (row(doubt_since=0.0, needs_look_up=True), FlightCounts(sent=5, look_ups=9), False),
        (row(doubt_since=0.0), FlightCounts(sent=5, look_ups=5), False),
        # AlphaPo has the id: at most `attempts` look-ups from there
        (row(look_ups_only=True), FlightCounts(sent=1, look_ups=4, look_ups_since_taken=4), True),
        (row(look_ups_only=True), FlightCounts(sent=1, look_ups=5, look_ups_since_taken=5), False),
        (row(look_ups_only=True), FlightCounts(sent=1, look_ups=9, look_ups_since_taken=3), False),
        # a refusal that waits for its look-up
        (row(refusal=ERRORS, needs_look_up=True), FlightCounts(sent=5, look_ups=3), True),
        (row(refusal=ERRORS, needs_look_up=True), FlightCounts(sent=1, look_ups=9), False),
        # one that has had its look-up, and a look-up owed by a row that was not refused
        (row(refusal=ERRORS), FlightCounts(sent=5, look_ups=3), False),
        (row(doubt_since=0.0, needs_look_up=True), FlightCounts(sent=4, look_ups=9), True),
    ],
)
def test_another_round_has_to_be_worth_it(
    known: Row,
    counts: FlightCounts,
    is_worth: bool,  # noqa: FBT001 - a column of the table
) -> None:
    """Bodies and look-ups are both limited, and what is settled needs neither."""
    assert is_worth_another_round(known, counts, POLICY) is is_worth
