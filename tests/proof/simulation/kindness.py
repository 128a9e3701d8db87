"""What a process may ask of a failing AlphaPo, counted beside the client: a budget of its own, and the bodies that leave in an outage.

Both are a little more generous than the promise, so that they say nothing against whoever keeps it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from alphapo_async.core.rate_limit import BUDGET, REFILL, STREAK
from alphapo_async.core.replies import NoReply, Reply
from alphapo_async.core.retry_policy import RetryPolicy

__all__ = ["Kindness"]

_TURN: Final = 0.5
"""Seconds within which what had its turn has left."""
_THROTTLED, _FAILED = 429, 500


class Kindness:
    """Counts what one process sends.

    Args:
        name: of the process.
        clock: virtual seconds.
        fail: called with what is wrong.
    """

    def __init__(self, name: str, clock: Callable[[], float], fail: Callable[[str], None]) -> None:
        self._name = name
        self._clock = clock
        self._fail = fail
        self._tokens = BUDGET
        self._counted_at = 0.0
        self._streak = 0
        self._away_since: float | None = None
        self._bodies = 0

    def leaves(self, *, is_body: bool, is_paid: bool) -> None:
        """A request leaves, which costs a token if it is neither its call's first nor a probe."""
        now = self._clock()
        self._tokens = min(BUDGET, self._tokens + (now - self._counted_at) * REFILL)
        self._counted_at = now
        if is_paid:
            self._tokens -= 1
            if self._tokens < -1:
                self._fail(f"{self._name} asks more often than its budget allows (P9)")
        if is_body and self._away_since is not None and now > self._away_since + _TURN:
            self._bodies += 1
            if self._bodies > _most_probes(now - self._away_since):
                self._fail(
                    f"{self._name} sends {self._bodies} bodies in an outage of {now - self._away_since:.1f} s (P9)"
                )

    def is_back(self, came: Reply | NoReply, *, is_body: bool) -> None:
        """A request is back."""
        if isinstance(came, Reply) and came.status == _THROTTLED:
            return
        if isinstance(came, Reply) and came.status < _FAILED and "html" not in came.content_type:
            self._tokens += 1
            if is_body:
                self._streak, self._away_since = 0, None
        elif is_body:
            self._streak += 1
            if self._streak == STREAK:
                self._away_since, self._bodies = self._clock(), 0


def _most_probes(seconds: float) -> float:
    """Return how many bodies leave at most: each waits twice as long as the one before, up to the longest wait."""
    policy, wait, passed, probes = RetryPolicy(), RetryPolicy().wait_initial, 0.0, 2
    while passed + wait <= seconds:
        passed, wait, probes = passed + wait, min(2 * wait, policy.wait_max), probes + 1
    return probes
