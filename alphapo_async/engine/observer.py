"""What happens is reported: as events to `on_event`, and to the logger `alphapo_async`. Never a key, a signature or a body."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable
from typing import Any, Final

from alphapo_async.core.events import Event, EventName
from alphapo_async.core.evidence import Attempt, CalledBack, Evidence, LookedUp, Released
from alphapo_async.core.models import Transaction
from alphapo_async.core.replies import name_of, reason_of
from alphapo_async.core.results import FlightResult, result_of, to_outcome
from alphapo_async.core.row import Row, counted_as

__all__ = ["Observer"]

logger = logging.getLogger("alphapo_async")

_LEVELS: dict[EventName, int] = {
    "begun": logging.DEBUG,
    "recorded": logging.DEBUG,
    "ended": logging.DEBUG,
    "attempt": logging.DEBUG,
    "look-up": logging.DEBUG,
    "callback": logging.INFO,
    "settled": logging.INFO,
    "unknown": logging.WARNING,
    "waiting": logging.INFO,
    "contradiction": logging.ERROR,
    "figures differ": logging.WARNING,
    "not final": logging.WARNING,
    "outage began": logging.WARNING,
    "outage ended": logging.INFO,
    "journal failed": logging.ERROR,
    "key refused": logging.ERROR,
    "key accepted": logging.INFO,
    "journal went back": logging.ERROR,
    "task failed": logging.ERROR,
}


_ABOUT: Final = {
    "waiting": "(nothing was sent yet; a worker sends it later)",
    "contradiction": "(alphapo runbook unknown)",
}
"""What the log adds to an event."""
_FIELDS: tuple[str, ...] = tuple(field for field in Event.__struct_fields__ if field not in ("name", "foreign_id"))
"""What a log record has as attributes besides `foreign_id` and `event`, the event's name: a record has a `name` of its own."""


_WAITING: Final = 10_000
"""Rows that are remembered as reported `waiting`."""


class Observer:
    """Turns what a row has learned into events and log lines.

    Args:
        account: whose withdrawals they are.
        on_event: called with every event; what it raises is logged and goes no further.
        clock: seconds since the epoch.
        base_url: where AlphaPo is asked.
    """

    def __init__(
        self, account: str, on_event: Callable[[Event], None] | None, clock: Callable[[], float], base_url: str = ""
    ) -> None:
        self._account = account
        self._on_event = on_event
        self.is_listening = on_event is not None
        """Whether events are delivered; the log is written in any case."""
        self._clock = clock
        self._base_url = base_url
        self._ahead: set[str] = set()
        """The withdrawals whose acceptance was reported and is not recorded yet: it is not reported again when it is recorded."""
        self._waiting: set[str] = set()
        """The withdrawals that were reported as `waiting` since the last outage ended."""
        self._is_failure_logged: bool | None = None
        """Whether the log of this worker's round has a failure of the journal; None without rounds."""

    def on_begun(self, foreign_id: str) -> None:
        """A flight begins."""
        if self.is_listening:
            self._emit(self._event("begun", foreign_id=foreign_id))

    def on_recorded(self, row: Row) -> None:
        """The journal took the row on."""
        if self.is_listening:
            self._report("recorded", row)

    def on_ended(self, result: FlightResult) -> None:
        """A flight has ended with this result."""
        if result.why in ("unrecorded", "journal"):
            left = f"what came of it could not be recorded{f' ({result.detail})' if result.detail else ''}"
            self.on_journal_failed(result.detail if result.why == "unrecorded" else left, result.foreign_id)
        if self._on_event is None:
            return
        outcome = "open" if _waits(result) else result_of(0, None, to_outcome(result)).outcome
        look_ups = 0 if result.row is None else result.row.look_ups
        about = {"reason": result.why or None, "attempts": result.attempts, "look_ups": look_ups}
        self._emit(self._event("ended", foreign_id=result.foreign_id, outcome=outcome, **about))

    def on_evidence(self, before: Row, after: Row, evidence: Evidence, *, is_written: bool = True) -> None:
        """Evidence has changed a row; what settles it is reported once it is recorded, an acceptance at once."""
        if isinstance(evidence, Attempt) and self._is_unremarkable(after):
            return
        if isinstance(evidence, Attempt | LookedUp):
            self._report_exchange(after, evidence)
        elif isinstance(evidence, CalledBack):
            self._report("callback", after, alphapo_status=evidence.transaction.status)
        self._report_differences(before, after, evidence)
        if self._settles(before, after, is_written=is_written):
            self._report("settled", after, outcome=after.state)
        elif isinstance(evidence, Released) and after.state == "open":
            self._report_release(after, evidence.reason)

    def _report_release(self, row: Row, why: str) -> None:
        """Report a row that stays open: as unknown if an attempt may have arrived; otherwise once, as one that waits.

        A row of a refused key waits like all of that key, which one event reports.
        """
        if counted_as(row) == "unknown":
            self._report("unknown", row, outcome="unknown", reason=row.reason or None)
        elif why != "key refused" and row.foreign_id not in self._waiting:
            if len(self._waiting) == _WAITING:
                self._waiting.clear()
            self._waiting.add(row.foreign_id)
            self._report("waiting", row, outcome="open", reason=row.reason or why or None)

    def _is_unremarkable(self, after: Row) -> bool:
        """Return whether nothing is reported of an attempt that left the row like this: nearly always, without a listener."""
        is_plain = after.state == "accepted" and after.contradiction is None and not after.differences
        return is_plain and not self.is_listening and not logger.isEnabledFor(logging.INFO)

    def _report_differences(self, before: Row, after: Row, evidence: Evidence) -> None:
        """Emit a contradiction of what was reported; and of a withdrawal that is known by its id, figures that were not requested.

        Of an open row nothing was reported that a callback could contradict: it is looked up from now on.
        """
        if after.contradiction is not None and after.contradiction != before.contradiction:
            self._report("contradiction", after, reason=after.contradiction)
        elif isinstance(evidence, CalledBack) and evidence.doubt is not None and before.state != "open":
            self._report("contradiction", after, reason="a callback does not fit; the history says why")
        if after.state in ("accepted", "failed") and after.differences not in ((), before.differences):
            self._report("figures differ", after, reason="; ".join(map(str, after.differences)))

    def _report_exchange(self, after: Row, evidence: Attempt | LookedUp) -> None:
        if not self._is_wanted("attempt"):
            return
        is_attempt = isinstance(evidence, Attempt)
        judged = evidence.proof if isinstance(evidence, Attempt) else evidence.answer
        self._report(
            "attempt" if is_attempt else "look-up",
            after,
            proof=name_of(judged),
            code=getattr(judged, "code", None),
            reason=reason_of(judged),
            began=evidence.began,
            until=evidence.until,
            http_status=evidence.seen.status,
        )

    def _settles(self, before: Row, after: Row, *, is_written: bool) -> bool:
        if after.state in ("open", before.state):
            return False
        if after.state == "accepted":
            return after.foreign_id not in self._ahead
        return is_written

    def on_reported_early(self, foreign_id: str) -> None:
        """Its acceptance is reported before it is recorded."""
        self._ahead.add(foreign_id)

    def on_written(self, foreign_id: str) -> None:
        """Its acceptance is recorded now."""
        self._ahead.discard(foreign_id)

    def on_outage(self, has_begun: bool) -> None:  # noqa: FBT001 - a bare fact
        """AlphaPo stopped giving readable answers, or gives them again."""
        if not has_begun:
            self._waiting.clear()
        what = "gives no readable answer: sending nothing new, and probing" if has_begun else "answers again"
        self._emit(
            self._event("outage began" if has_begun else "outage ended"), f"{self._base_url or 'AlphaPo'} {what}"
        )

    def key_changed(self, key: str, code: str | None) -> None:
        """AlphaPo does not accept a key, and why; or, without a code, accepts it again."""
        if code is None:
            self._emit(
                self._event("key accepted", key_fingerprint=key),
                f"key of fingerprint {key}: workers continue with its rows",
            )
            return
        about = (
            f"AlphaPo does not accept the key of fingerprint {key}, or its signature: check key, secret, base_url and the key's IP "
            "allowlist. No money moved; workers send nothing under it, and what is open stays open (alphapo runbook key-refused)"
        )
        self._emit(self._event("key refused", code=code, reason=code, key_fingerprint=key), about)

    def on_not_final(self, row: Row) -> None:
        """An accepted withdrawal is looked up no more, and is not final."""
        status = None if row.withdrawal is None else row.withdrawal.status
        self._emit(self._event("not final", alphapo_status=status, foreign_id=row.foreign_id))

    def on_round(self) -> None:
        """A worker's round begins: the log gets the journal's first failure in it at ERROR, and the others at DEBUG."""
        self._is_failure_logged = False

    def on_journal_failed(self, detail: str, foreign_id: str | None = None) -> None:
        """The journal cannot be used: by a worker on its rounds, or for a withdrawal."""
        self._emit(self._event("journal failed", reason=detail, foreign_id=foreign_id))

    def journal_went_back(self, frozen: int) -> None:
        """The journal lost what it had acknowledged; so many open rows are frozen."""
        reason = (
            f"{frozen} rows are frozen. Your own tables in this database went back too: stop payouts under new ids, compare with "
            "AlphaPo's export, then go on (alphapo runbook failover)"
        )
        self._emit(self._event("journal went back", reason=reason))

    def callback_not_in_journal(self, transaction: Transaction) -> None:
        """AlphaPo shows a withdrawal that the journal may have lost."""
        reason = f"a callback shows a withdrawal that is not in the journal (AlphaPo's id {transaction.id}, {transaction.status})"
        about = {"foreign_id": transaction.foreign_id, "alphapo_status": transaction.status, "reason": reason}
        self._emit(self._event("journal went back", **about))

    def on_task_failed(self, task: str, error: BaseException) -> None:
        """A background task met an unexpected error, and restarts; the log has the traceback."""
        reason = f"{task}: {type(error).__name__}"
        self._emit(self._event("task failed", task=task, reason=reason), "the log has its traceback")

    def on_internal_error(self, foreign_id: str, error: Exception) -> None:
        """A flight met an error that should not be. Its text is left out, since it may hold anything."""
        where = "".join(traceback.format_tb(error.__traceback__))
        logger.error(
            "internal error %s %s\n%s", foreign_id, type(error).__name__, where, extra={"foreign_id": foreign_id}
        )

    def on_not_written(self, foreign_id: str, detail: str) -> None:
        """An acceptance was reported and could not be recorded: the row stays open, and is looked up later."""
        level = self._level_of_journal_failure()
        logger.log(level, "not recorded: acceptance of %s: %s", foreign_id, detail, extra={"foreign_id": foreign_id})

    def _level_of_journal_failure(self) -> int:
        level = logging.DEBUG if self._is_failure_logged else logging.ERROR
        if self._is_failure_logged is not None:
            self._is_failure_logged = True
        return level

    def _is_wanted(self, name: EventName) -> bool:
        return self._on_event is not None or logger.isEnabledFor(_LEVELS[name])

    def _report(self, name: EventName, row: Row, **figures: Any) -> None:
        if not self._is_wanted(name):
            return
        about = {"foreign_id": row.foreign_id, "attempts": row.attempts, "look_ups": row.look_ups}
        self._emit(self._event(name, **about, **figures))

    def _event(self, name: EventName, **figures: Any) -> Event:
        return Event(name=name, at=self._clock(), account=self._account, base_url=self._base_url, **figures)

    def _emit(self, event: Event, about: str = "") -> None:
        is_journal = event.name == "journal failed"
        level = self._level_of_journal_failure() if is_journal else _LEVELS[event.name]
        if logger.isEnabledFor(level):
            about = about or _ABOUT.get(event.name, "")
            judged = ": ".join(word for word in (event.proof, event.reason or event.alphapo_status) if word)
            words = [word for word in (event.foreign_id, event.outcome, judged, about) if word]
            fields = {"event": event.name, **{field: getattr(event, field) for field in _FIELDS}}
            logger.log(level, "%s %s", event.name, " ".join(words), extra={"foreign_id": event.foreign_id, **fields})
        if self._on_event is None:
            return
        try:
            self._on_event(event)
        except Exception:
            logger.exception("on_event raised at %s", event.name, extra={"foreign_id": event.foreign_id})


def _waits(result: FlightResult) -> bool:
    """Return whether nothing of the row arrived, and a worker sends it later."""
    return result.why in ("", "closing") and result.row is not None and counted_as(result.row) == "open"
