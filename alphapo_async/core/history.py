"""The history: the audit trail of one withdrawal, line by line. Lines are only added, and counted up where an equal one follows.

`noted(row, lines)` numbers the lines. The row knows how many there are, and which of them an equal line counts up, so that every kind of
journal stores the same history: it writes each line under its number, and a count over the line that stands there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from hashlib import blake2b
from typing import Final, TypeAlias

import msgspec
from msgspec.structs import replace

from alphapo_async.core.evidence import (
    NO_EXCERPT,
    Attempt,
    CalledBack,
    Claimed,
    ControlFound,
    Evidence,
    LeaseExpired,
    LookedUp,
    OperatorDecision,
    Redated,
    Released,
    Remembered,
    ReplyExcerpt,
    Reported,
    Requested,
    Returned,
    Unfrozen,
)
from alphapo_async.core.models import Transaction
from alphapo_async.core.replies import Answer, NoReply, Proof, Reply, name_of, reason_of
from alphapo_async.core.row import CountedLine, Row

__all__ = [
    "DOES_NOT_FIT",
    "EXCERPT",
    "KEPT_CALLBACK",
    "Change",
    "Entry",
    "entries_of",
    "entry_of",
    "excerpt_of",
    "is_stored",
    "merged",
    "named",
    "noted",
    "recorded",
    "requested",
]

EXCERPT: Final = 1_024
"""Bytes of a reply that are kept."""
KEPT_CALLBACK: Final = 64 * 1_024
"""Bytes of a callback that are kept: one that is not longer can be replayed."""
DOES_NOT_FIT: Final = "does not fit"
"""How the line of a callback begins that contradicts its row."""
_COUNTED: Final = frozenset({"request", "look-up", "callback", "released", "replayed"})
"""What comes again and again: an equal line is counted. Any other line begins anew."""
_MOST_COUNTED: Final = 8
"""Lines that a row remembers in order to count them."""
_LONGEST_MARK: Final = 80


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One line. `at` is seconds since the epoch; `worker` and `release` say who wrote it."""

    at: float
    kind: str
    """`request`, `attempt`, `look-up`, `callback`, `control`, `released`, `lease_expired`, `replayed`, `remembered`, `unfrozen`,
    `operator`, `redacted` or `pruned`."""
    what: str
    worker: str | None = None
    http_status: int | None = None
    """HTTP status of the reply, None if none came."""
    reply: bytes = b""
    """The first KiB of the reply; the first 64 KiB of a callback."""
    release: str = ""
    number: int = 0
    """Its place in the history, from 1 on; `noted` gives it."""
    count: int = 1
    """How often it came; `at` is the first time."""
    last_at: float | None = None
    """The last time, where it came more than once."""

    def __repr__(self) -> str:
        return f"Entry({self.at}, {self.kind!r}, {self.what!r}, http_status={self.http_status}, reply=<{len(self.reply)} bytes>)"


Change: TypeAlias = Callable[[Row | None], tuple[Row, Sequence[Entry]]]
"""Returns the new row, made from the one on record (None if there is none), and the lines that this adds to its history.

A journal may call it more than once, each time with the row on record: it stores the row and the lines of the last call. The time, and
whether a caller still waits, are read at each call.
"""


def excerpt_of(reply: Reply | NoReply) -> ReplyExcerpt:
    """Return what is kept of a reply."""
    return ReplyExcerpt(reply.status, reply.body[:EXCERPT]) if isinstance(reply, Reply) else NO_EXCERPT


def entry_of(evidence: Evidence, now: float, release: str) -> Entry | None:
    """Return the line for this evidence; None for evidence that is not about the withdrawal itself."""
    match evidence:
        case Attempt(worker, proof, _, _, seen):
            return Entry(now, "attempt", named(proof), worker, seen.status, seen.reply, release)
        case LookedUp(worker, answer, seen):
            return Entry(now, "look-up", named(answer), worker, seen.status, seen.reply, release)
        case CalledBack(transaction, seen, doubt):
            what = f"{DOES_NOT_FIT}: {doubt}" if doubt else _shown(transaction)
            return Entry(now, "callback", what, None, seen.status, seen.reply, release)
        case _:
            described = _described(evidence)
            return None if described is None else Entry(now, *described, release=release)


def entries_of(evidence: Iterable[Evidence], now: float, release: str) -> tuple[Entry, ...]:
    """Return the lines for these pieces of evidence, in their order."""
    lines: list[Entry] = []  # a loop, since it runs for every withdrawal and a generator costs more than the lines
    for one in evidence:
        line = entry_of(one, now, release)
        if line is not None:
            lines.append(line)
    return tuple(lines)


def recorded(asked: Requested, now: float, release: str) -> Entry:
    """Return the line for a request that made a new row: the first one of its history, which no equal line counts up."""
    what = "enqueued" if asked.worker is None else "recorded"
    return Entry(now, "request", what, asked.worker, release=release, number=1)


def requested(asked: Requested, before: Row, after: Row, now: float, release: str) -> Entry | None:
    """Return the line for a request that made this of a row; None for a worker's round that only takes the row on.

    Args:
        asked: the request.
        before: the row before it.
        after: the row after it.
        now: seconds since the epoch.
        release: of this library.
    """
    if asked.is_awaited or asked.worker is None:
        return Entry(now, "request", _became(asked, before, after), asked.worker, release=release)
    if before.state == "open" and after.state != "open":
        return Entry(now, "released", after.reason, asked.worker, release=release)
    return None


def _became(asked: Requested, before: Row, after: Row) -> str:
    figure, currency = asked.revision.asked
    if not after.revision.is_same_payment(asked.revision):
        return f"another payment, {figure:f} {currency}, not taken"
    if after.revision.number != before.revision.number:
        return f"revision {after.revision.number}, {figure:f} {currency}"
    if after.state != "open":
        return f"answered, {after.state}"
    if before.state != "open":
        return "to be sent again"
    return "taken on" if before.holder != after.holder == asked.worker else "open already"


def noted(row: Row, lines: Sequence[Entry]) -> tuple[Row, Sequence[Entry]]:
    """Return the row after these lines, and the lines as they are stored: each with its number, a repeated one with its count."""
    if len(lines) == 1 and lines[0].kind not in _COUNTED:
        number = row.lines + 1  # nearly always
        return replace(row, lines=number, counted=()), (replace(lines[0], number=number),)
    number, counted = row.lines, row.counted
    stored: list[Entry] = []
    for line in lines:
        if line.kind not in _COUNTED:
            number, counted = number + 1, ()
            stored.append(replace(line, number=number))
            continue
        mark = _mark(line)
        known = _counted(counted, line.kind, mark) if counted else None
        if known is None:
            number += 1
            # Only what came last is counted; a callback may be repeated after others.
            others = [one for one in counted if one.kind != line.kind or line.kind == "callback"] if counted else ()
            counted = (*others, CountedLine(number, line.kind, mark))[-_MOST_COUNTED:]
            stored.append(replace(line, number=number))
        else:
            again = replace(known, count=known.count + 1)
            counted = tuple(again if one is known else one for one in counted)
            stored.append(replace(line, number=known.number, count=again.count, last_at=line.at))
    return (replace(row, lines=number, counted=counted), stored) if stored else (row, stored)


def _counted(counted: Iterable[CountedLine], kind: str, mark: str) -> CountedLine | None:
    return next((one for one in counted if one.kind == kind and one.mark == mark), None)


def _mark(line: Entry) -> str:
    """Return what an equal line has in common with this one: not when, nor which worker and release wrote it."""
    if line.http_status is None and not line.reply and len(line.what) <= _LONGEST_MARK:
        return line.what
    return blake2b(repr((line.what, line.http_status)).encode() + line.reply, digest_size=8).hexdigest()


def is_stored(line: Entry, found: Entry | None) -> bool:
    """Return whether the line found under this number is this one, or counts it, also if more was counted since."""
    if found is None:
        return False
    if line.count > 1:
        return found.count >= line.count
    return replace(found, count=1, last_at=None) == line


def merged(lines: Iterable[Entry]) -> tuple[Entry, ...]:
    """Return a history in order, with the counts of lines that are given more than once under one number."""
    found: dict[int, Entry] = {}
    for line in lines:
        first = found.get(line.number)
        found[line.number] = line if first is None else replace(first, count=line.count, last_at=line.last_at)
    return tuple(found.values())


def _shown(described: Transaction) -> str:
    """Return status, txids, fees and error text of a transaction, where they are given."""
    fees = ", ".join(f"{fee.amount} {fee.currency} {fee.type}" for fee in described.fees)
    parts = (
        ("", described.status),
        ("txid ", ", ".join(described.txids)),
        ("fees ", fees),
        ("error ", described.error),
    )
    return "; ".join(f"{name}{text}" for name, text in parts if text)


def _described(evidence: Evidence) -> tuple[str, str, str | None] | None:  # noqa: PLR0911 - a table
    match evidence:
        case ControlFound(worker, accepted_at):
            return "control", f"another withdrawal, accepted at {accepted_at:.3f}, is shown", worker
        case Released(worker, reason):
            return "released", reason, worker
        case LeaseExpired(worker, until):
            return "lease_expired", f"its worker let go of it without a word, and could send until {until:.3f}", worker
        case Remembered(worker):
            return "remembered", "accepted before the journal went back, as this worker saw it", worker
        case Unfrozen(by, because):
            return "unfrozen", f"AlphaPo's books do not have it, by {by}: {because}", None
        case OperatorDecision():
            return "operator", evidence.text, None
        case Requested() | Claimed() | Returned() | Redated() | Reported() | _:
            return None


def named(judged: Proof | Answer) -> str:
    """Return a judgement's word and its reason: `in_doubt: HTTP 502`."""
    reason = reason_of(judged)
    return f"{name_of(judged)}: {reason}" if reason else name_of(judged)
