"""Pacing: budget, backoff, throttling, outages, and the limits of a retry policy."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import asdict, replace

from alphapo_async.core.models import Transaction, Withdrawal
from alphapo_async.core.rate_limit import (
    BUDGET,
    LONGEST_HOLD,
    STREAK,
    LimiterState,
    Permit,
    Priority,
    ReplyClass,
    classify,
    is_outage,
    may_leave_at,
    on_reply,
    on_sent,
    retry_budget_left,
    still_permits,
)
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
from alphapo_async.core.retry_policy import RetryPolicy

POLICY = RetryPolicy()
FIRST, RETRY, LOOK_UP = (
    Permit(Priority.FIRST),
    Permit(Priority.RETRY, took_token=True),
    Permit(Priority.LOOK_UP, took_token=True),
)


def silent(state: LimiterState, times: int, now: float = 0.0) -> LimiterState:
    """Return the pace after so many bodies without a readable answer."""
    for _ in range(times):
        state = on_reply(state, FIRST, ReplyClass.NOTHING, now, POLICY)
    return state


OUTAGE = silent(LimiterState(), STREAK)


# ── what is known at the start ───────────────────────────────────────────────────────────────────────────────────────


def test_a_new_pace_holds_nothing_back() -> None:
    """A full bucket, no silence, no outage, no pause and no window."""
    fresh = {"tokens": 100.0, "counted_at": 0.0, "streak": 0, "probe_at": 0.0, "probes": 0}
    assert asdict(LimiterState()) == fresh | {
        "outage_since": None,
        "held_until": 0.0,
        "window": inf,
        "start_at": 0.0,
        "refresh_at": 0.0,
    }


def test_refreshes_have_a_bucket_of_their_own() -> None:
    """Ten a second, free of the budget; none leaves in an outage."""
    state, permit = on_sent(LimiterState(tokens=0), Priority.REFRESH, 5.0, POLICY)
    assert (state.tokens, permit.took_token) == (0, False)
    assert may_leave_at(state, Priority.REFRESH, 0, 5.0) == 5.1
    assert may_leave_at(state, Priority.FIRST, 0, 5.0) == 5.0
    assert may_leave_at(LimiterState(outage_since=0.0), Priority.REFRESH, 0, 5.0) == inf


@pytest.mark.parametrize(("asked", "until"), [(7.0, 12.0), (None, 5.0 + POLICY.wait_initial)])
def test_a_refresh_that_is_throttled_holds_back_refreshes_alone(asked: float | None, until: float) -> None:
    """Payments go on; and a refresh that gets an answer, or none, changes nothing."""
    permit, state = Permit(Priority.REFRESH), LimiterState()
    throttled = on_reply(state, permit, ReplyClass.THROTTLED, 5.0, POLICY, retry_after=asked)
    assert may_leave_at(throttled, Priority.REFRESH, 0, 5.0) == until
    assert may_leave_at(throttled, Priority.FIRST, 0, 5.0) == 5.0
    for what in (ReplyClass.DEFINITE, ReplyClass.NOTHING):
        assert on_reply(state, permit, what, 5.0, POLICY) is state


def test_the_first_request_of_a_call_is_free() -> None:
    """A body or a question, also with an empty bucket; whatever follows waits for its token."""
    empty = LimiterState(tokens=0)
    assert may_leave_at(empty, Priority.FIRST, 0, 0.0) == 0.0
    assert may_leave_at(empty, Priority.QUESTION, 0, 0.0) == 0.0
    assert may_leave_at(empty, Priority.RETRY, 0, 0.0) == 2.0
    assert may_leave_at(empty, Priority.LOOK_UP, 0, 0.0) == 2.0
    for priority in (Priority.FIRST, Priority.QUESTION):
        assert on_sent(LimiterState(), priority, 0.0, POLICY) == (LimiterState(), Permit(priority))


@pytest.mark.parametrize("priority", [Priority.RETRY, Priority.LOOK_UP])
def test_every_further_request_takes_a_token(priority: Priority) -> None:
    """When it leaves, and its ticket says so."""
    state, permit = on_sent(LimiterState(), priority, 0.0, POLICY)
    assert (state.tokens, permit) == (BUDGET - 1, Permit(priority, took_token=True))


def test_time_gives_half_a_token_a_second() -> None:
    """Up to a full bucket."""
    state = LimiterState(tokens=0.0)
    assert on_sent(state, Priority.RETRY, 10.0, POLICY)[0].tokens == 4.0
    assert on_sent(state, Priority.RETRY, 10_000.0, POLICY)[0].tokens == BUDGET - 1


def test_what_is_left_of_the_budget_is_told() -> None:
    """Between nothing and all of it, refilled by time."""
    assert retry_budget_left(LimiterState(tokens=100.0, counted_at=5.0), 5.0) == 100.0
    assert retry_budget_left(LimiterState(tokens=100.0, counted_at=5.0), 9.0) == 100.0
    assert retry_budget_left(LimiterState(tokens=10.0, counted_at=5.0), 9.0) == 12.0
    assert retry_budget_left(LimiterState(tokens=-1.0, counted_at=5.0), 6.0) == 0.0


def test_time_is_counted_from_the_last_token() -> None:
    """No second gives twice, and what is missing but for rounding is not waited for."""
    once, _ticket = on_sent(LimiterState(tokens=0.0, counted_at=10.0), Priority.RETRY, 20.0, POLICY)
    assert (once.tokens, once.counted_at) == (4.0, 20.0)
    assert on_sent(once, Priority.RETRY, 22.0, POLICY)[0].tokens == 4.0
    assert may_leave_at(LimiterState(tokens=0.0, counted_at=10.0), Priority.RETRY, 0, 11.0) == 12.0
    assert may_leave_at(LimiterState(tokens=1 - 1e-10), Priority.RETRY, 0, 0.0) == 0.0


def test_a_definite_reply_gives_the_token_back() -> None:
    """To a first request a half; a bucket is never more than full."""
    state = LimiterState(tokens=10.0)
    assert on_reply(state, RETRY, ReplyClass.DEFINITE, 0.0, POLICY).tokens == 11.0
    assert on_reply(state, LOOK_UP, ReplyClass.DEFINITE, 0.0, POLICY).tokens == 11.0
    assert on_reply(state, FIRST, ReplyClass.DEFINITE, 0.0, POLICY).tokens == 10.5
    assert on_reply(LimiterState(tokens=99.5), RETRY, ReplyClass.DEFINITE, 0.0, POLICY).tokens == BUDGET
    later = on_reply(state, RETRY, ReplyClass.DEFINITE, 10.0, POLICY)
    assert (later.tokens, later.counted_at) == (16.0, 10.0)


def test_a_full_bucket_costs_nothing() -> None:
    """The usual case makes no new value."""
    state = LimiterState()
    assert on_reply(state, FIRST, ReplyClass.DEFINITE, 5.0, POLICY) is state
    refilled = on_reply(LimiterState(tokens=99.0), FIRST, ReplyClass.DEFINITE, 5.0, POLICY)
    assert (refilled.tokens, refilled.counted_at) == (BUDGET, 5.0)


@pytest.mark.parametrize("what", [ReplyClass.NOTHING, ReplyClass.THROTTLED])
def test_silence_and_throttling_give_nothing_back(what: ReplyClass) -> None:
    """The token is gone."""
    assert on_reply(LimiterState(tokens=10.0), RETRY, what, 0.0, POLICY).tokens == 10.0


@given(
    st.lists(
        st.tuples(
            st.sampled_from(Priority), st.sampled_from(ReplyClass), st.floats(0, 30), st.none() | st.floats(0, 1e6)
        ),
        max_size=200,
    )
)
def test_the_bucket_is_never_overdrawn_nor_overfull(
    story: list[tuple[Priority, ReplyClass, float, float | None]],
) -> None:
    """Whatever leaves when it may, and whatever it hears: and paid requests stay within 100, the gifts and the time."""
    state, now, paid, gifts = LimiterState(), 0.0, 0, 0.0
    for priority, what, pause, retry_after in story:
        now += pause
        when = may_leave_at(state, priority, 0, now)
        assert when < inf
        now = max(now, when)
        state, permit = on_sent(state, priority, now, POLICY)
        assert state.tokens >= -1e-6
        state = on_reply(state, permit, what, now, POLICY, retry_after=retry_after)
        assert state.tokens <= BUDGET
        paid += permit.took_token
        gifts += 0 if what is not ReplyClass.DEFINITE else 1.0 if permit.took_token else 0.5
    assert paid <= BUDGET + gifts + now / 2 + 1e-6


# ── throttling ───────────────────────────────────────────────────────────────────────────────────────────────────────


def test_throttling_holds_everything_back() -> None:
    """Bodies and look-ups alike, for as long as AlphaPo asks."""
    state = on_reply(LimiterState(), FIRST, ReplyClass.THROTTLED, 10.0, POLICY, retry_after=30.0)
    assert {may_leave_at(state, priority, 0, 10.0) for priority in Priority} == {40.0}


def test_nobody_is_held_back_for_more_than_a_minute_by_another() -> None:
    """A day asked of one withdrawal is not asked of all."""
    state = on_reply(LimiterState(), FIRST, ReplyClass.THROTTLED, 0.0, POLICY, retry_after=86_400.0)
    assert state.held_until == LONGEST_HOLD == 60.0


def test_a_throttled_refresh_holds_others_back_as_long_as_any_answer_asks_and_a_minute_at_most() -> None:
    """Ten leave in a second: a shorter pause that another one is asked for ends no longer one, and a year is not asked of all."""
    permit, state = Permit(Priority.REFRESH), LimiterState()
    state = on_reply(state, permit, ReplyClass.THROTTLED, 0.0, POLICY, retry_after=30.0)
    assert on_reply(state, permit, ReplyClass.THROTTLED, 1.0, POLICY).refresh_at == 30.0
    assert on_reply(state, permit, ReplyClass.THROTTLED, 1.0, POLICY, retry_after=3e7).refresh_at == 1.0 + LONGEST_HOLD


def test_without_retry_after_the_first_wait_stands_in() -> None:
    """`wait_initial`; zero asked for is zero."""
    assert on_reply(LimiterState(), FIRST, ReplyClass.THROTTLED, 0.0, POLICY).held_until == POLICY.wait_initial
    assert on_reply(LimiterState(), FIRST, ReplyClass.THROTTLED, 0.0, POLICY, retry_after=0.0).held_until == 0.0


def test_a_shorter_pause_does_not_shorten_a_longer_one() -> None:
    """The latest end holds."""
    state = on_reply(LimiterState(), FIRST, ReplyClass.THROTTLED, 0.0, POLICY, retry_after=30.0)
    assert on_reply(state, FIRST, ReplyClass.THROTTLED, 1.0, POLICY, retry_after=1.0).held_until == 30.0


def test_after_throttling_sending_opens_gradually() -> None:
    """Two bodies at once, then one more for each answer, until it is no limit; look-ups are not counted."""
    state = on_reply(LimiterState(), FIRST, ReplyClass.THROTTLED, 0.0, POLICY, retry_after=0.0)
    assert (may_leave_at(state, Priority.FIRST, 1, 0.0), may_leave_at(state, Priority.FIRST, 2, 0.0)) == (0.0, inf)
    assert may_leave_at(state, Priority.LOOK_UP, 2, 0.0) == 0.0
    windows = []
    while state.window < inf:
        windows.append(state.window)
        state = on_reply(state, FIRST, ReplyClass.DEFINITE, 0.0, POLICY)
    assert windows == [float(number) for number in range(2, 513)]


def test_silence_while_opening_halves_what_may_be_under_way() -> None:
    """Down to one."""
    state = LimiterState(window=8.0)
    windows = []
    for _ in range(5):
        state = silent(state, 1)
        windows.append(state.window)
    assert windows == [4, 2, 1, 1, 1]


# ── outages ──────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_twenty_silences_in_a_row_are_an_outage() -> None:
    """Nineteen are not, and an answer between starts the count anew."""
    assert STREAK == 20
    assert not is_outage(silent(LimiterState(), STREAK - 1))
    assert is_outage(OUTAGE)
    interrupted = on_reply(silent(LimiterState(), STREAK - 1), FIRST, ReplyClass.DEFINITE, 0.0, POLICY)
    assert not is_outage(silent(interrupted, STREAK - 1))


def test_an_outage_counts_on_and_closes_the_window() -> None:
    """When it began, and the first probe after the first wait: probes alone leave, so that the window says nothing any more."""
    began = replace(LimiterState(window=8.0, tokens=3.0), streak=STREAK - 1)
    expected = {"streak": STREAK, "outage_since": 7.0, "probe_at": 7.5, "probes": 1, "window": inf}
    assert on_reply(began, FIRST, ReplyClass.NOTHING, 7.0, POLICY) == replace(began, **expected)


@pytest.mark.parametrize("window", [8.0, inf])
def test_an_answer_ends_the_streak(window: float) -> None:
    """Whether sending is opening again or open."""
    assert on_reply(LimiterState(window=window, streak=STREAK - 1), FIRST, ReplyClass.DEFINITE, 0.0, POLICY).streak == 0


def test_look_ups_say_nothing_about_an_outage() -> None:
    """Neither their silence nor their answers, and they leave all the same."""
    state = LimiterState()
    for _ in range(STREAK * 2):
        state = on_reply(state, LOOK_UP, ReplyClass.NOTHING, 0.0, POLICY)
    assert not is_outage(state)
    assert is_outage(on_reply(OUTAGE, LOOK_UP, ReplyClass.DEFINITE, 0.0, POLICY))
    assert may_leave_at(OUTAGE, Priority.LOOK_UP, 0, 0.0) == 0.0


def test_in_an_outage_bodies_leave_as_probes_at_doubling_waits() -> None:
    """The first after wait_initial, the next after twice as long each, up to wait_max; none takes a token, not even a retry."""
    state, now, times = replace(OUTAGE, tokens=0.0), 0.0, []
    for priority in (Priority.RETRY, Priority.FIRST) * 4:
        now = may_leave_at(state, priority, 0, now)
        times.append(now)
        state, permit = on_sent(state, priority, now, POLICY)
        assert not permit.took_token
        state = on_reply(state, permit, ReplyClass.NOTHING, now, POLICY)
    assert times == [0.5, 1.5, 3.5, 7.5, 15.5, 31.5, 51.5, 71.5]
    assert is_outage(state)


def test_a_probe_waits_for_a_pause_that_alphapo_asked_for() -> None:
    """Throttled in an outage: both hold."""
    assert may_leave_at(replace(OUTAGE, held_until=30.0), Priority.FIRST, 0, 1.0) == 30.0


@pytest.mark.parametrize(
    ("state", "permit", "may_leave"),
    [
        (LimiterState(), RETRY, True),
        (LimiterState(held_until=10.0), RETRY, True),
        (LimiterState(held_until=10.5), RETRY, False),
        (LimiterState(held_until=10.5), FIRST, False),
        (LimiterState(outage_since=9.0), RETRY, False),
        (LimiterState(outage_since=9.0), Permit(Priority.RETRY), True),
    ],
)
def test_what_was_let_through_a_while_ago_leaves_only_if_nothing_has_come_between(
    state: LimiterState, permit: Permit, *, may_leave: bool
) -> None:
    """AlphaPo asked to wait, or went away: then a probe still leaves, since it is one a time."""
    assert still_permits(state, permit, 10.0) is may_leave


def test_a_readable_answer_ends_the_outage() -> None:
    """And sending ramps up from two at once."""
    over = on_reply(OUTAGE, FIRST, ReplyClass.DEFINITE, 5.0, POLICY)
    assert (is_outage(over), over.streak, over.window) == (False, 0, 2.0)


# ── a rate of one's own ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_rate_spreads_bodies() -> None:
    """Smoothly: one every so often, none saved up; look-ups are not counted."""
    state, times = LimiterState(), []
    for priority in (Priority.FIRST, Priority.RETRY, Priority.FIRST):
        now = may_leave_at(state, priority, 0, 0.0)
        times.append(now)
        state, _ticket = on_sent(state, priority, now, POLICY, max_rate=4.0)
    assert times == [0.0, 0.25, 0.5]
    assert may_leave_at(state, Priority.LOOK_UP, 0, 0.0) == 0.0
    assert on_sent(state, Priority.QUESTION, 0.0, POLICY, max_rate=4.0)[0] is state
    late, _ticket = on_sent(state, Priority.FIRST, 100.0, POLICY, max_rate=4.0)
    assert late.start_at == 100.25


def test_a_programming_error_changes_nothing() -> None:
    """It is not AlphaPo that failed."""
    state = LimiterState()
    for priority in Priority:
        assert on_reply(state, Permit(priority), ReplyClass.IGNORED, 1.0, POLICY) is state


# ── what a judgement means for the pace ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("judged", "means"),
    [
        (Accepted(Withdrawal(id=1)), (ReplyClass.DEFINITE, None)),
        (Mismatched(Withdrawal(id=1), ()), (ReplyClass.DEFINITE, None)),
        (Rejected({"amount": ["no"]}), (ReplyClass.DEFINITE, None)),
        (Duplicate({"foreign_id": ["taken"]}), (ReplyClass.DEFINITE, None)),
        (KeyRefused("bad_header_key"), (ReplyClass.DEFINITE, None)),
        (InDoubt("HTTP 502"), (ReplyClass.NOTHING, None)),
        (NotSent("no connection"), (ReplyClass.NOTHING, None)),
        (NotSent("throttled", retry_after=7.0), (ReplyClass.THROTTLED, 7.0)),
        (NotSent("throttled"), (ReplyClass.THROTTLED, None)),
        (Found(Transaction(id=1)), (ReplyClass.DEFINITE, None)),
        (NoneFound(), (ReplyClass.DEFINITE, None)),
        (NoAnswer("HTTP 403", 403, "bad_header_signature"), (ReplyClass.DEFINITE, None)),
        (NoAnswer("HTTP 502", 502), (ReplyClass.NOTHING, None)),
        (NoAnswer("HTTP 499", 499, "bad_header_signature"), (ReplyClass.DEFINITE, None)),
        (NoAnswer("HTTP 500", 500, "internal_error"), (ReplyClass.NOTHING, None)),
        (NoAnswer("throttled", 429, retry_after=3.0), (ReplyClass.THROTTLED, 3.0)),
        (InDoubt("internal error"), (ReplyClass.IGNORED, None)),
        (NotSent("internal error"), (ReplyClass.IGNORED, None)),
        (NoAnswer("internal error"), (ReplyClass.IGNORED, None)),
    ],
)
def test_every_judgement_has_a_meaning(judged: Proof | Answer, means: tuple[ReplyClass, float | None]) -> None:
    """A look-up's "none" is definite, a 429 is not, and silence is silence."""
    assert classify(judged) == means


@pytest.mark.parametrize("priority", Priority)
def test_kinds_know_what_they_are(priority: Priority) -> None:
    """Look-ups go before retries, retries before first attempts, and refreshes last."""
    assert priority.is_body == (priority in (Priority.RETRY, Priority.FIRST))
    assert priority.is_first == (priority in (Priority.QUESTION, Priority.FIRST, Priority.REFRESH))
    assert sorted(Priority) == [
        Priority.LOOK_UP,
        Priority.QUESTION,
        Priority.RETRY,
        Priority.FIRST,
        Priority.REFRESH,
    ]
