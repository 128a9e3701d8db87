"""What a client reports while it works: plain frozen values for logs, metrics and alarms."""

from __future__ import annotations

from typing import Literal

import msgspec

from alphapo_async.core.field_docs import with_field_docs
from alphapo_async.core.replies import AnswerName, ProofName

__all__ = ["Event", "EventName", "EventOutcome"]

EventName = Literal[
    "begun",
    "recorded",
    "attempt",
    "look-up",
    "callback",
    "settled",
    "unknown",
    "waiting",
    "ended",
    "contradiction",
    "figures differ",
    "not final",
    "outage began",
    "outage ended",
    "journal failed",
    "key refused",
    "key accepted",
    "journal went back",
    "task failed",
]
"""What happened. More names may come in a minor release.

- `begun`: this client begins to work on a withdrawal, in the context of the caller who asked for it.
- `recorded`: the journal has it; that took it from `begun` until now.
- `attempt`: a body was sent, or could not be; `proof` is what the reply proves: `accepted`, `mismatch`, `in_doubt`, `rejected`,
  `duplicate`, `key_refused` (with AlphaPo's `code`) or `not_sent`. `reason` says why, such as `HTTP 502` or `throttled`.
- `look-up`: AlphaPo was asked by foreign_id; `proof` is its answer: `found`, `none` or `no_answer`, with `reason` and `code` as above.
- `callback`: AlphaPo sent a signed callback, with `alphapo_status`.
- `settled`: the withdrawal's outcome is known and recorded: `accepted`, `failed`, `rejected`, `not_sent`, `conflict` or
  `key_refused`. A later witness may settle it otherwise.
- `unknown`: a flight ended without knowing, and an attempt may have arrived; the row stays open. `reason` is the last answer that did not
  settle it, such as `HTTP 502` or `key refused`, None if there was none.
- `waiting`: a flight ended before anything of the row arrived; the row stays open, and a worker sends it later. `outcome` is `open`, and
  `reason` says why, such as `no connection`. It comes once for each row until an outage has ended. A row whose key is refused has none:
  `key refused` reports it once for all of them.
- `ended`: this client's work on it has ended; `outcome` is what its caller gets: the outcome of `settled`, or `unknown`; or it is `open`
  after `waiting`, which a caller gets as `WithdrawalUnknown`. `reason` is
  None, or why the flight knows less than its row: `in flight`, `closing`, `journal`, `held`, `other payment`, `unrecorded` or
  `internal error`. Each `begun` is followed by one.
- `contradiction`: AlphaPo now shows the opposite of what it showed before; `reason` says what, such as `accepted after rejected`. An
  operator should look.
- `figures differ`: AlphaPo shows a withdrawal under the id that it gave for this one, and not as it was requested: the amount, the address
  or the tag; `reason` names them. Its status counts all the same. The event comes once for each new difference.
- `not final`: an accepted withdrawal has been looked up for 30 days, and AlphaPo still shows it under way, with `alphapo_status`.
  No worker looks it up any more: a callback, or a look-up by a caller or the operator, settles it.
- `outage began`, `outage ended`: AlphaPo stopped giving readable answers, or gives them again.
- `journal failed`: the journal cannot be used; `reason` is its error. With a `foreign_id` a call for this withdrawal could not
  be recorded, or its reply could not; without one a worker in its loop, which sends nothing and tries again.
- `key refused`: AlphaPo answered a body with one of its four codes, in `code`; `key_fingerprint` says which key. It comes once, until
  `key accepted`: a body under that key was answered otherwise. In between a worker claims nothing under that key.
- `journal went back`: the journal's database lost commits that it had acknowledged (a failover to a lagging standby, a restored backup).
  Without a `foreign_id` the reason gives the number of frozen rows; it is repeated daily while there are any. With one, a callback shows
  a withdrawal that the journal does not know.
- `task failed`: a background task of this client (`work`, `heartbeat`, `late write`, `release of a callback`, `limiter`, `timers`, or one
  of the journal's), in `task`, met an unexpected error; `reason` adds its type, and the log has the traceback. The task restarts
  after 1 to 30 s. The event comes at most once a minute for each task.

Where they are not described here, `outcome`, `proof`, `code`, `task` and `alphapo_status` are None. `reason` is for people, and may
change, but for the ones that stand here.
"""

EventOutcome = Literal["accepted", "failed", "rejected", "not_sent", "conflict", "key_refused", "unknown", "open"]
"""What `Event.outcome` can be."""


@with_field_docs
class Event(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One thing that happened. It never holds a key, a signature or a body. New fields may come in a minor release."""

    name: EventName
    """What happened."""
    at: float
    """When it was reported, in seconds since the epoch."""
    account: str
    """The client's account."""
    foreign_id: str | None = None
    """Which withdrawal it is about; None for what is about none."""
    outcome: EventOutcome | None = None
    """Of `settled`, `unknown`, `waiting` and `ended`."""
    proof: ProofName | AnswerName | None = None
    """Of `attempt`, what the reply proves; of `look-up`, what AlphaPo's answer says."""
    code: str | None = None
    """AlphaPo's code of an error, of `attempt`, `look-up` and `key refused`."""
    alphapo_status: str | None = None
    """AlphaPo's status of the withdrawal, of `callback`, `not final`, and `journal went back` with a `foreign_id`."""
    task: str | None = None
    """Which background task, of `task failed`."""
    reason: str | None = None
    """Why, in a few words for people."""
    attempts: int = 0
    """Bodies that left or may have left, all that the row has seen."""
    look_ups: int = 0
    """Look-ups, all that the row has seen."""
    began: float | None = None
    """When an attempt or a look-up began, in seconds since the epoch."""
    until: float | None = None
    """When its reply was there, or the attempt ended without one, in seconds since the epoch."""
    http_status: int | None = None
    """HTTP status of the reply to an attempt or a look-up, None if none came."""
    base_url: str = ""
    """Where AlphaPo is asked."""
    key_fingerprint: str | None = None
    """Fingerprint of the key, of `key refused` and `key accepted`."""
