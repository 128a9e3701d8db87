"""How often one client asks AlphaPo: budget, throttling, outages and rate of all its requests together.

Pure: a `LimiterState` is what the limiter knows, and every function takes one and the time and returns the next one. A failing AlphaPo
gets few requests.
"""

from __future__ import annotations

from enum import IntEnum
from math import inf
from typing import Final

import msgspec
from msgspec.structs import replace

from alphapo_async.core.replies import INTERNAL_ERROR, Accepted, Answer, InDoubt, NoAnswer, NotSent, Proof
from alphapo_async.core.retry_policy import RetryPolicy, backoff

__all__ = [
    "LimiterState",
    "Permit",
    "Priority",
    "ReplyClass",
    "classify",
    "is_outage",
    "may_leave_at",
    "on_reply",
    "on_sent",
    "retry_budget_left",
    "still_permits",
]

BUDGET: Final = 100.0
"""Tokens in a full bucket."""
REFILL: Final = 0.5
"""Tokens that a second gives, and that a definite reply to a first request gives."""
STREAK: Final = 20
"""Attempts in a row without a readable answer that make an outage."""
REFRESHES: Final = 10.0
"""Accepted withdrawals that one client looks up again in a second at most."""
LONGEST_HOLD: Final = 60.0
"""Seconds that one throttled withdrawal, or refresh, holds the others back at most."""
_RAMP: Final = 2.0
"""Bodies under way at once when sending opens again."""


class Priority(IntEnum):
    """What wants to leave, in the order in which it is let through."""

    LOOK_UP = 0
    QUESTION = 1
    """A look-up, or another question, that is the first request of its call."""
    RETRY = 2
    FIRST = 3
    REFRESH = 4
    """A look-up of a withdrawal that was accepted and is not final: it has a bucket of its own."""

    is_body: bool
    """Carries a withdrawal."""
    is_first: bool
    """The first request of its call, which is free."""

    def __init__(self, number: int) -> None:
        self.is_body = number in (2, 3)
        self.is_first = number in (1, 3, 4)


class ReplyClass(IntEnum):
    """What a request brought home, as far as the pace is concerned."""

    DEFINITE = 0
    """A definite reply: a look-up's "none" is one."""
    THROTTLED = 1
    NOTHING = 2
    """Nothing readable."""
    IGNORED = 3
    """A programming error of ours: it proves nothing about AlphaPo."""


class Permit(msgspec.Struct, frozen=True, gc=False):
    """The right to send one request now."""

    priority: Priority
    took_token: bool = False
    """A token was taken for it."""


class LimiterState(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """What the limiter knows. Times are seconds of one monotonic clock."""

    tokens: float = BUDGET
    counted_at: float = 0.0
    streak: int = 0
    """Attempts in a row without a readable answer."""
    outage_since: float | None = None
    probe_at: float = 0.0
    probes: int = 0
    """Probes that this outage has waited for so far."""
    held_until: float = 0.0
    """Throttled until then."""
    refresh_at: float = 0.0
    """When the next refresh may leave: after the one before, or throttled until then."""
    window: float = inf
    """Bodies that may be under way at once while sending opens again."""
    start_at: float = 0.0
    """When the next body may leave, with `max_rate`."""


def is_outage(state: LimiterState) -> bool:
    """AlphaPo gave no readable answer for a while: bodies leave only as probes."""
    return state.outage_since is not None


def retry_budget_left(state: LimiterState, now: float) -> float:
    """Return how many tokens the bucket holds at this time, from 0 to 100."""
    return max(0.0, _tokens(state, now))


def may_leave_at(state: LimiterState, priority: Priority, bodies: int, now: float) -> float:
    """Return when a request of this priority may leave. A time up to `now`: at once. Infinity: not before the next reply.

    Args:
        state: what is known.
        priority: what wants to leave.
        bodies: bodies under way.
        now: the time.
    """
    is_probe = priority.is_body and is_outage(state)
    when = max(state.held_until, now if priority.is_first or is_probe else _token_at(state, now))
    if priority is Priority.REFRESH:
        return inf if is_outage(state) else max(when, state.refresh_at)
    if not priority.is_body:
        return when
    if is_probe:
        return max(when, state.probe_at)
    if bodies >= state.window:
        return inf
    return max(when, state.start_at)


def on_sent(
    state: LimiterState,
    priority: Priority,
    now: float,
    policy: RetryPolicy,
    max_rate: float | None = None,
    *,
    due: float | None = None,
) -> tuple[LimiterState, Permit]:
    """Return the state after a request of this priority has left, and its permit.

    Args:
        state: what is known.
        priority: what left.
        now: the time.
        policy: the limits.
        max_rate: bodies per second.
        due: when it was to leave, where a timer was late; so the next one is not late, too.
    """
    if priority.is_body and is_outage(state):
        # A probe takes no token; the next one waits twice as long.
        probes = state.probes + 1
        wait = backoff(probes, policy.wait_initial, policy.wait_max)
        return replace(state, probe_at=now + wait, probes=probes), _PERMITS[priority]
    if priority.is_body and max_rate is not None:
        state = replace(state, start_at=max(state.start_at, now if due is None else due) + 1 / max_rate)
    if priority is Priority.REFRESH:
        return replace(state, refresh_at=max(state.refresh_at, now) + 1 / REFRESHES), _PERMITS[priority]
    if priority.is_first:
        return state, _PERMITS[priority]
    return replace(state, tokens=_tokens(state, now) - 1, counted_at=now), _PAID[priority]


def still_permits(state: LimiterState, permit: Permit, now: float) -> bool:
    """Tell whether what was let through a while ago may leave now: AlphaPo has neither asked to wait nor gone away since."""
    is_probe = not permit.took_token
    return state.held_until <= now and (is_probe or not is_outage(state))


_PERMITS: Final = {priority: Permit(priority) for priority in Priority}
_PAID: Final = {priority: Permit(priority, took_token=True) for priority in Priority}


def _tokens(state: LimiterState, now: float) -> float:
    return min(BUDGET, state.tokens + (now - state.counted_at) * REFILL)


_ROUNDING = 1e-9  # of adding up seconds in floating point


def _token_at(state: LimiterState, now: float) -> float:
    missing = 1 - _tokens(state, now)
    return now if missing <= _ROUNDING else now + missing / REFILL


def classify(judged: Proof | Answer) -> tuple[ReplyClass, float | None]:
    """Return what the judgement means for the pace, and the seconds that `Retry-After` asks for."""
    match judged:
        case Accepted():
            return _DEFINITE
        case NotSent() | NoAnswer() if judged.is_throttled:
            return ReplyClass.THROTTLED, judged.retry_after
        case NoAnswer(status=int(status), code=str()) if status < _FAILING:
            return _DEFINITE  # a refused key is an answer from AlphaPo itself
        case InDoubt() | NotSent() | NoAnswer():
            return _IGNORED if judged.reason == INTERNAL_ERROR else _NOTHING
        case _:
            return _DEFINITE


_FAILING: Final = 500
"""From this HTTP status on AlphaPo itself fails, with any code."""
_DEFINITE: Final = (ReplyClass.DEFINITE, None)
_NOTHING: Final = (ReplyClass.NOTHING, None)
_IGNORED: Final = (ReplyClass.IGNORED, None)


def on_reply(
    state: LimiterState,
    permit: Permit,
    what: ReplyClass,
    now: float,
    policy: RetryPolicy,
    *,
    retry_after: float | None = None,
) -> LimiterState:
    """Return the state after the reply to a request, or its end without one."""
    if permit.priority is Priority.REFRESH:
        until = now + min(policy.wait_initial if retry_after is None else retry_after, LONGEST_HOLD)
        return replace(state, refresh_at=max(state.refresh_at, until)) if what is ReplyClass.THROTTLED else state
    if what is ReplyClass.DEFINITE:
        return _with_token_back(_answered(state, permit), permit, now)
    if what is ReplyClass.THROTTLED:
        return _throttled(state, now, policy.wait_initial if retry_after is None else retry_after)
    is_counted = what is ReplyClass.NOTHING and permit.priority.is_body
    return _unanswered(state, now, policy) if is_counted else state


def _with_token_back(state: LimiterState, permit: Permit, now: float) -> LimiterState:
    gift = 1.0 if permit.took_token else REFILL
    tokens = _tokens(state, now)
    if tokens >= BUDGET:
        return state if state.tokens >= BUDGET else replace(state, tokens=BUDGET, counted_at=now)
    return replace(state, tokens=min(BUDGET, tokens + gift), counted_at=now)


def _answered(state: LimiterState, permit: Permit) -> LimiterState:
    """A readable answer to a body ends an outage, and opens the window wider: twice as wide each round trip."""
    if not permit.priority.is_body:
        return state
    if is_outage(state):
        return replace(state, outage_since=None, streak=0, window=_RAMP)
    if state.window == inf:
        return replace(state, streak=0) if state.streak else state
    return replace(state, streak=0, window=state.window + 1 if state.window < _OPEN else inf)


_OPEN: Final = 512.0
"""A window this wide limits nothing."""


def _unanswered(state: LimiterState, now: float, policy: RetryPolicy) -> LimiterState:
    streak = state.streak + 1
    if is_outage(state) or streak < STREAK:
        window = state.window if state.window == inf else max(1.0, state.window / 2)
        return replace(state, streak=streak, window=window)
    return replace(
        state,
        streak=streak,
        outage_since=now,
        probe_at=now + policy.wait_initial,
        probes=1,
        window=inf,
    )


def _throttled(state: LimiterState, now: float, seconds: float) -> LimiterState:
    until = now + min(seconds, LONGEST_HOLD)
    return replace(state, held_until=max(state.held_until, until), window=_RAMP)
