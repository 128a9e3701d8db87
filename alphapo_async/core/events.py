"""What a client tells its owner while it works: plain frozen values for logs, metrics and alarms."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Event", "EventName"]

EventName = Literal[
    "begun",
    "recorded",
    "attempt",
    "look-up",
    "callback",
    "settled",
    "unknown",
    "ended",
    "contradiction",
    "outage began",
    "outage ended",
    "journal failed",
]
"""What happened. More names may come in a minor release.

- `begun`: this client begins to work on a withdrawal; whoever asked for it is the current context.
- `recorded`: the journal has it; that took it from `begun` until now.
- `attempt`: a body was sent, or could not be; `reason` says what the reply proves.
- `look-up`: AlphaPo was asked by foreign_id; `reason` says what it answered.
- `callback`: AlphaPo told of it by itself; `reason` says the status.
- `settled`: the withdrawal's outcome is known and written down.
- `unknown`: a flight ended without knowing; the row stays open.
- `ended`: this client's work on it is over; `outcome` says what whoever asked is told. Each `begun` is followed by one.
- `contradiction`: AlphaPo now says otherwise than it did; `reason` says what. Somebody should look.
- `outage began`, `outage ended`: AlphaPo stopped giving readable answers, or gives them again.
- `journal failed`: a worker on its rounds cannot use the journal; it sends nothing and tries again; `reason` says what is wrong.
"""


class Event(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One thing that happened. It never holds a key, a signature or a body.

    `at` is seconds since the epoch; `attempts` and `look_ups` count all that the row has seen. New fields may come in a minor release.
    """

    name: EventName
    at: float
    account: str
    foreign_id: str | None = None
    outcome: str | None = None
    reason: str | None = None
    attempts: int = 0
    look_ups: int = 0
    began: float | None = None
    """When an attempt or a look-up began, in seconds since the epoch."""
    until: float | None = None
    """When its reply was there, or none came any more."""
    status: int | None = None
    """HTTP status of the reply to an attempt or a look-up, None if none came."""
    base_url: str = ""
    """Where AlphaPo is asked."""
