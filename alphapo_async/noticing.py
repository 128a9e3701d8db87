"""What happens is told: as events to whoever asked for them, and to the logger `alphapo_async`. Never a key, a signature or a body."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from typing import Any

from alphapo_async.core.events import Event, EventName
from alphapo_async.core.evidence import Attempt, CalledBack, Evidence, GivenUp, LookedUp
from alphapo_async.core.history import named
from alphapo_async.core.row import Row, bucket

__all__ = ["Noticing"]

logger = logging.getLogger("alphapo_async")
logger.addHandler(logging.NullHandler())

_LEVELS: dict[EventName, int] = {
    "attempt": logging.DEBUG,
    "look-up": logging.DEBUG,
    "callback": logging.INFO,
    "settled": logging.INFO,
    "unknown": logging.WARNING,
    "contradiction": logging.ERROR,
    "outage began": logging.WARNING,
    "outage ended": logging.INFO,
    "journal failed": logging.ERROR,
}


class Noticing:
    """Turns what a row has learned into events and log lines.

    Args:
        account: whose withdrawals they are.
        on_event: called with every event; what it raises is logged and goes no further.
        clock: seconds since the epoch.
    """

    def __init__(self, account: str, on_event: Callable[[Event], None] | None, clock: Callable[[], float]) -> None:
        self._account = account
        self._on_event = on_event
        self._clock = clock
        self._ahead: set[str] = set()
        """Whose acceptance was told and is not written down yet: whoever writes it down first does not tell it again."""

    def learned(self, before: Row, after: Row, evidence: Evidence, *, is_written: bool = True) -> None:
        """A row has learned something; what settles it is told once it is written down, an acceptance at once."""
        if isinstance(evidence, Attempt):
            self._tell("attempt", after, reason=named(evidence.proof))
        elif isinstance(evidence, LookedUp):
            self._tell("look-up", after, reason=named(evidence.answer))
        elif isinstance(evidence, CalledBack):
            self._tell("callback", after, reason=evidence.transaction.status)
            if evidence.doubt is not None:
                self._tell("contradiction", after, reason="a callback does not fit; the history says why")
        if after.contradiction is not None and after.contradiction != before.contradiction:
            self._tell("contradiction", after, reason=after.contradiction)
        if self._settles(before, after, is_written=is_written):
            self._tell("settled", after, outcome=after.state)
        elif isinstance(evidence, GivenUp) and after.state == "open":
            self._tell("unknown", after, outcome=bucket(after), reason=after.reason)

    def _settles(self, before: Row, after: Row, *, is_written: bool) -> bool:
        if after.state in ("open", before.state):
            return False
        if after.state == "accepted":
            return after.foreign_id not in self._ahead
        return is_written

    def told_ahead(self, foreign_id: str) -> None:
        """Its acceptance was told before it is written down."""
        self._ahead.add(foreign_id)

    def written(self, foreign_id: str) -> None:
        """Now it is."""
        self._ahead.discard(foreign_id)

    def outage(self, has_begun: bool) -> None:  # noqa: FBT001 - a bare fact
        """AlphaPo stopped giving readable answers, or gives them again."""
        self._emit(Event(name="outage began" if has_begun else "outage ended", at=self._clock(), account=self._account))

    def journal_failed(self, detail: str) -> None:
        """A worker on its rounds cannot use the journal."""
        self._emit(Event(name="journal failed", at=self._clock(), account=self._account, reason=detail))

    def failed(self, foreign_id: str, error: Exception) -> None:
        """A flight met an error that should not be. Its text is left out, since nobody knows what it holds."""
        where = "".join(traceback.format_tb(error.__traceback__))
        logger.error("error %s %s\n%s", foreign_id, type(error).__name__, where, extra={"foreign_id": foreign_id})

    def unwritten(self, foreign_id: str, detail: str) -> None:
        """An acceptance was told and could not be written down: the row stays open, and is looked up when it comes up again."""
        logger.error("not written down: acceptance of %s: %s", foreign_id, detail, extra={"foreign_id": foreign_id})

    def _tell(self, name: EventName, row: Row, **told: Any) -> None:
        if self._on_event is None and not logger.isEnabledFor(_LEVELS[name]):
            return
        self._emit(
            Event(
                name=name,
                at=self._clock(),
                account=self._account,
                foreign_id=row.foreign_id,
                attempts=row.attempts,
                look_ups=row.look_ups,
                **told,
            )
        )

    def _emit(self, event: Event) -> None:
        words = [word for word in (event.foreign_id, event.outcome, event.reason) if word]
        logger.log(_LEVELS[event.name], "%s %s", event.name, " ".join(words), extra={"foreign_id": event.foreign_id})
        if self._on_event is None:
            return
        try:
            self._on_event(event)
        except Exception:
            logger.exception("on_event raised at %s", event.name, extra={"foreign_id": event.foreign_id})
