"""How long and how often one withdrawal is tried, and the one doubling back-off of the package. Pure."""

from __future__ import annotations

import msgspec

from alphapo_async.core.errors import ConfigurationError
from alphapo_async.core.field_docs import with_field_docs
from alphapo_async.core.row import QUIET, REFRESH_AFTER, Row
from alphapo_async.core.setting_checks import check_count, check_seconds

__all__ = [
    "FlightCounts",
    "RetryPolicy",
    "backoff",
    "is_worth_another_round",
    "may_look_up",
]


@with_field_docs
class RetryPolicy(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """How long and how often one withdrawal is tried; every try carries the same bytes and the same foreign_id.

    Raises:
        ConfigurationError: a figure is out of range.
    """

    attempts: int = 5
    """Bodies sent at most in one call, the first included; 1 or more."""
    deadline: float = 60.0
    """Seconds for one call, from the moment the withdrawal gets its slot or an outage keeps it from one."""
    attempt_timeout: float = 15.0
    """Seconds for one request, from a free slot to the last byte of its reply."""
    wait_initial: float = 0.5
    """Seconds; the first backoff is drawn between 0 and this, every next one up to twice as much."""
    wait_max: float = 20.0
    """Seconds; no backoff is drawn above it. `Retry-After` may ask for more, up to a day."""
    quiet: float = QUIET
    """Assumed of AlphaPo: it accepts nothing later than this many seconds after the last byte could have left."""
    resend_within: float = 86_400.0
    """Assumed of AlphaPo: it frees no foreign_id within this many seconds. A row in doubt is only looked up once a body sent now might
    arrive later than that: `quiet` and `attempt_timeout` before its end."""
    refresh_after: float = REFRESH_AFTER
    """Seconds after which `work` looks up an accepted withdrawal that is not final; then each time after twice as long, up to once a day,
    for 30 days. Rows keep the figure that they were recorded with."""

    def __post_init__(self) -> None:
        check_count("attempts", self.attempts)
        for name in ("deadline", "attempt_timeout", "refresh_after"):
            check_seconds(name, getattr(self, name), may_be_zero=False)
        for name in ("wait_initial", "wait_max", "quiet", "resend_within"):
            check_seconds(name, getattr(self, name))
        if self.wait_initial > self.wait_max:
            raise ConfigurationError(
                f"wait_initial ({self.wait_initial}) must not be above wait_max ({self.wait_max})."
            )

    @classmethod
    def none(cls) -> RetryPolicy:
        """Return the policy of at most one POST and one look-up, for durable engines that retry by themselves.

        They pass `attempted_before=True` on their own retries.
        """
        return cls(attempts=1)


def backoff(number: int, first: float, longest: float) -> float:
    """Return the seconds to wait after so many failures in a row: `first` after one, then twice as long each time, up to `longest`.

    Args:
        number: failures or rounds so far, from 1.
        first: seconds.
        longest: seconds.
    """
    return min(first * 2.0 ** min(number - 1, 60), longest)


class FlightCounts(msgspec.Struct, frozen=True, gc=False):
    """What one flight has done so far: bodies sent, look-ups made, and look-ups made since AlphaPo was known to have the id."""

    sent: int = 0
    look_ups: int = 0
    look_ups_since_taken: int = 0


def is_worth_another_round(row: Row, counts: FlightCounts, policy: RetryPolicy) -> bool:
    """Tell whether another round of look-up and body can still help this flight."""
    if row.state != "open" or row.code is not None:
        return False
    if row.look_ups_only:
        return may_look_up(counts, policy) and counts.look_ups_since_taken < policy.attempts
    if row.refusal is not None and row.needs_look_up:
        return may_look_up(counts, policy)
    return counts.sent < policy.attempts or (row.needs_look_up and may_look_up(counts, policy))


def may_look_up(counts: FlightCounts, policy: RetryPolicy) -> bool:
    """Tell whether the flight has look-ups left: one between any two bodies, and as many as bodies at the end.

    With a single attempt that makes a single look-up.
    """
    return counts.look_ups < 2 * policy.attempts - 1
