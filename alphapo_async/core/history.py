"""The history: what was heard of a withdrawal, line by line, for whoever has to explain it later. It is only ever added to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, TypeAlias

import msgspec

from alphapo_async.core.evidence import (
    UNSEEN,
    Asked,
    Attempt,
    CalledBack,
    Control,
    Evidence,
    GivenUp,
    Lapsed,
    LookedUp,
    Reported,
    Restored,
    Seen,
    Stands,
    Word,
)
from alphapo_async.core.models import Transaction
from alphapo_async.core.outcome import NoReply, Reply
from alphapo_async.core.row import Row

__all__ = ["EXCERPT", "Change", "Entry", "entries_of", "entry_of", "named", "seen_of"]

EXCERPT: Final = 1_024
"""Bytes of a reply that are kept."""


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One line. `at` is seconds since the epoch; `worker` and `release` say who wrote it."""

    at: float
    kind: str
    """`attempt`, `look-up`, `callback`, `control`, `given up`, `lapsed`, `restored` or `operator`."""
    what: str
    worker: str | None = None
    status: int | None = None
    """HTTP status of the reply, None if none came."""
    reply: bytes = b""
    """The first KiB of the reply."""
    release: str = ""

    def __repr__(self) -> str:
        return f"Entry({self.at}, {self.kind!r}, {self.what!r}, status={self.status}, reply=<{len(self.reply)} bytes>)"


Change: TypeAlias = Callable[[Row | None], tuple[Row, Sequence[Entry]]]
"""Returns the new row, made from the one on record (None if there is none), and the lines that this adds to its history.

It depends on nothing but the row, so that a journal may call it again: the lines that count are those returned with the row that counts.
"""


def seen_of(reply: Reply | NoReply) -> Seen:
    """Return what is kept of a reply."""
    return Seen(reply.status, reply.body[:EXCERPT]) if isinstance(reply, Reply) else UNSEEN


def entry_of(evidence: Evidence, now: float, release: str) -> Entry | None:
    """Return the line for this evidence; None for what says nothing about the withdrawal itself."""
    match evidence:
        case Attempt(worker, proof, _, _, seen):
            return Entry(now, "attempt", named(proof), worker, seen.status, seen.reply, release)
        case LookedUp(worker, answer, seen):
            return Entry(now, "look-up", named(answer), worker, seen.status, seen.reply, release)
        case CalledBack(transaction, seen, doubt):
            what = f"does not fit: {doubt}" if doubt else _says(transaction)
            return Entry(now, "callback", what, None, seen.status, seen.reply, release)
        case _:
            told = _told(evidence)
            return None if told is None else Entry(now, *told, release=release)


def entries_of(evidence: Iterable[Evidence], now: float, release: str) -> tuple[Entry, ...]:
    """Return the lines for these pieces of evidence, in their order."""
    return tuple(line for one in evidence if (line := entry_of(one, now, release)) is not None)


def _says(told: Transaction) -> str:
    """Return status, txids, fees and error text of a transaction, where they are told."""
    fees = ", ".join(f"{fee.amount} {fee.currency} {fee.type}" for fee in told.fees)
    parts = (("", told.status), ("txid ", ", ".join(told.txids)), ("fees ", fees), ("error ", told.error))
    return "; ".join(f"{name}{text}" for name, text in parts if text)


def _told(evidence: Evidence) -> tuple[str, str, str | None] | None:
    match evidence:
        case Control(worker, accepted_at):
            return "control", f"another withdrawal, accepted at {accepted_at:.3f}, is shown", worker
        case GivenUp(worker, reason):
            return "given up", reason, worker
        case Lapsed(worker, until):
            return "lapsed", f"its worker let go of it without a word, and could send until {until:.3f}", worker
        case Restored():
            return "restored", "from a backup", None
        case Word():
            return "operator", evidence.text, None
        case Asked() | Stands() | Reported() | _:
            return None


def named(judged: object) -> str:
    """Return a judgement's name and its reason: `InDoubt: HTTP 502`."""
    reason = getattr(judged, "reason", None) or getattr(judged, "code", None)
    return f"{type(judged).__name__}: {reason}" if reason else type(judged).__name__
