"""What a client tells its owner while it works: plain frozen values for logs, metrics and alarms."""

from __future__ import annotations

from typing import Literal

import msgspec

__all__ = ["Event", "EventName"]

EventName = Literal[
    "attempt",
    "look-up",
    "callback",
    "settled",
    "unknown",
    "contradiction",
    "outage began",
    "outage ended",
    "journal failed",
]
"""What happened. More names may come in a minor release.

- `attempt`: a body was sent, or could not be; `reason` says what the reply proves.
- `look-up`: AlphaPo was asked by foreign_id; `reason` says what it answered.
- `callback`: AlphaPo told of it by itself; `reason` says the status.
- `settled`: the withdrawal's outcome is known and written down.
- `unknown`: a flight ended without knowing; the row stays open.
- `contradiction`: AlphaPo now says otherwise than it did; `reason` says what. Somebody should look.
- `outage began`, `outage ended`: AlphaPo stopped giving readable answers, or gives them again.
- `journal failed`: a worker on its rounds cannot use the journal; it sends nothing and tries again; `reason` says what is wrong.
"""


class Event(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One thing that happened. It never holds a key, a signature or a body.

    `at` is seconds since the epoch; `attempts` and `look_ups` count all that the row has seen.
    """

    name: EventName
    at: float
    account: str
    foreign_id: str | None = None
    outcome: str | None = None
    reason: str | None = None
    attempts: int = 0
    look_ups: int = 0
