"""The mapping: what happened to one withdrawal in a simulated world, as steps of the specification (`Withdrawal.tla`). Pure.

`steps_of(events)` names the action of the specification behind each event, with its arguments, and gives the row that the journal held
after each write. TLC checks that each action was enabled, and that it makes exactly this row. What the specification does not describe
raises `OutOfScope`, which says what that is.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final, NamedTuple

from alphapo_async.core.history import Entry
from alphapo_async.core.models import ENDED
from alphapo_async.core.replies import Found, NoneFound, judge_look_up
from alphapo_async.core.row import MANY, NEGATIVE_STATES, Assumptions, Row, is_ended, is_refused_after, quiet_ends_at
from alphapo_async.core.transitions import TOO_LITTLE
from tests.proof.simulation.scenario import EPOCH, QUIET
from tests.proof.spec.recording import Event

__all__ = ["MOST_WORKERS", "NO_ROW", "NO_WORKER", "OutOfScope", "SpecRow", "Step", "row_of", "steps_of", "ticks"]

NO_WORKER: Final = "none"
MOST_WORKERS: Final = 4
"""Workers that TLC tells apart in a trace: each makes every state larger."""
_ASSUMED: Final = Assumptions(quiet=QUIET)
_PROOFS: Final = {
    "accepted": "accepted",
    "in_doubt": "nothing",
    "not_sent": "unsent",
    "rejected": "refused",
    "duplicate": "taken",
    "key_refused": "key",
}
_COULD_SEND_UNTIL: Final = re.compile(r"could send until ([\d.]+)")
_ID: Final = re.compile(rb'"id"\s*:\s*"?(\d+)')


class OutOfScope(Exception):
    """The trace has something that the specification does not describe."""


class SpecRow(NamedTuple):
    """The row as the specification has it, field for field."""

    state: str = "none"
    rev: int = 0
    holder: str = NO_WORKER
    since: int = 0
    made: int = 0
    doubt: int = 0
    until: int = 0
    arrivals: int = 0
    refused: str = "never"
    control: bool = False
    owes: bool = False
    taken: bool = False
    stays: bool = False
    ended: bool = False
    knows: int = 0
    epoch: int = 0
    forget: bool = False


NO_ROW: Final = SpecRow()


class Step(NamedTuple):
    """One action of the specification, with its arguments."""

    at: int
    action: str
    worker: str = NO_WORKER
    what: str = ""
    number: int = 0
    """A time, or which of AlphaPo's withdrawals."""
    row: SpecRow | None = None
    """The row that the journal holds after it; None where no write ended here."""


def ticks(seconds: float | None) -> int:
    """Return a time in milliseconds since the world began, from 1 on; 0 for never."""
    return 0 if seconds is None else round((seconds - EPOCH) * 1000) + 1


def row_of(row: Row | None, workers: _Names, numbers: dict[str, int]) -> SpecRow:
    """Return a row of the journal as the specification has it."""
    if row is None:
        return NO_ROW
    state = "no" if row.state in NEGATIVE_STATES else row.state
    refused = "never"
    if row.state == "open" and row.refusal is not None:
        refused = "late" if is_refused_after(row, quiet_ends_at(row, _ASSUMED)) else "early"
    known = row.withdrawal
    is_known = known is not None and known.source != "journal" and known.id is not None
    return SpecRow(
        state=state,
        rev=row.revision.number,
        holder=workers.of(row.holder),
        since=ticks(row.held_since) if row.holder else 0,
        made=ticks(row.created_at),
        doubt=ticks(row.doubt_since),
        until=ticks(row.could_leave_until),
        arrivals=min(MANY, row.arrivals),
        refused=refused,
        control=row.state == "open" and row.control_seen_at is not None,
        owes=row.needs_look_up,
        taken=row.look_ups_only,
        stays=row.stays_open,
        ended=is_ended(row),
        knows=numbers.get(str(known.id), 0) if is_known and known is not None else 0,
        epoch=max(row.epoch, row.reaffirmed_in) if state == "no" else row.epoch,
        forget=row.earlier_request_possible,
    )


class _Names:
    """Short names for workers, in the order in which they come."""

    def __init__(self) -> None:
        self._names: dict[str, str] = {}

    def __len__(self) -> int:
        return len(self._names)

    def of(self, worker: str | None) -> str:
        return NO_WORKER if not worker else self._names.setdefault(worker, f"w{len(self._names) + 1}")


def steps_of(events: Sequence[Event]) -> list[Step]:
    """Return the steps of one withdrawal's trace.

    Raises:
        OutOfScope: something happened that the specification does not describe.
    """
    return _Mapping(events).steps()


class _Pending(NamedTuple):
    """A reply that has come, and the place among the steps where it came: whether it counts is known when its worker records it."""

    place: int
    event: Event


class _Mapping:
    def __init__(self, events: Sequence[Event]) -> None:
        self._events = [event for event in events if event.kind != "written" or event.row is not None]
        self._goes_back = any(event.kind == "went back" for event in events)
        self._workers = _Names()
        self._numbers: dict[str, int] = {}
        """AlphaPo's ids, counted."""
        self._row = NO_ROW
        self._holder = NO_WORKER
        self._visible_at = 0.0
        """When everything that was worked out can be read."""
        self._places: list[list[Step]] = []
        self._sent: dict[str, float] = {}
        """By worker, when the body left whose outcome it has not recorded yet."""
        self._replies: dict[str, _Pending] = {}
        self._asked: dict[str, _Pending] = {}
        self._answers: dict[str, _Pending] = {}
        self._bodies: dict[float, str] = {}
        """Bodies that may still arrive, by when they left."""
        self._ends: list[int] = []
        """When AlphaPo ends withdrawals that it accepted."""

    def steps(self) -> list[Step]:
        for event in self._events:
            at = ticks(event.at)
            while self._ends and self._ends[0] <= at:
                self._add(self._ends.pop(0), "cancel")
            self._map(at, event)
        if len(self._workers) > MOST_WORKERS:
            raise OutOfScope(f"more than {MOST_WORKERS} workers")
        return [step for place in self._places for step in place]

    def _add(self, at: int, action: str, worker: str = NO_WORKER, what: str = "", number: int = 0) -> None:
        self._places.append([Step(at, action, worker, what, number)])

    def _check(self, row: Row | None) -> None:
        """Give the row that the journal holds after the last step."""
        self._row = row_of(row, self._workers, self._numbers)
        self._places[-1][-1] = self._places[-1][-1]._replace(row=self._row)

    def _map(self, at: int, event: Event) -> None:
        match event.kind:
            case "left":
                self._leaves(at, event)
            case "accepted":
                self._accepts(at, event)
            case "asks":
                self._asked[event.worker] = _Pending(len(self._places), event)
                self._places.append([])
            case "back":
                waiting = self._replies if event.is_body else self._answers
                waiting[event.worker] = _Pending(len(self._places), event)
                self._places.append([])
            case "lags":
                self._lags(at, event)
            case "went back":
                self._add(at, "go back")
                self._check(event.row)
            case _:
                self._writes(at, event)

    # ── AlphaPo ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _leaves(self, at: int, event: Event) -> None:
        if event.at < self._visible_at:
            raise OutOfScope("a worker sends before it can read what another has written")
        if event.worker in self._sent:
            raise OutOfScope("a worker sends again before its attempt is recorded")
        worker = self._workers.of(event.worker)
        self._add(at, "decide", worker)
        self._add(at, "send", worker)
        self._sent[event.worker] = event.at
        self._bodies[event.at] = worker

    def _accepts(self, at: int, event: Event) -> None:
        record, worker = event.record, self._bodies.pop(event.sent_at, None)
        if record is None or worker is None:
            raise OutOfScope("AlphaPo accepts a second copy of a body")
        self._numbers[str(record.id)] = len(self._numbers) + 1
        self._add(at, "deliver", worker, "accepted", ticks(event.sent_at))
        if not record.ending.moves_money:
            self._ends.append(ticks(EPOCH + record.settles_at))

    def _lags(self, at: int, event: Event) -> None:
        if not self._goes_back:
            return
        if row_of(event.row, self._workers, self._numbers) != self._row:
            raise OutOfScope("a commit is under way when the standby falls behind")
        self._add(at, "lag")

    # ── what is written ──────────────────────────────────────────────────────────────────────────────────────────────

    def _writes(self, at: int, event: Event) -> None:
        after = event.row
        assert after is not None
        _check_scope(event, after)
        became = row_of(after, self._workers, self._numbers)
        count = len(self._places)
        self._holder, self._visible_at = self._row.holder, max(self._visible_at, event.visible_at)
        for line in event.lines:
            self._records(at, line, event, has_changed=became != self._row)
        if became.holder not in (NO_WORKER, self._holder):
            self._add(self._taken_at(at, after), "take", became.holder)
        if len(self._places) == count and became != self._row:
            is_returned = became == self._row._replace(holder=NO_WORKER, since=0)  # claimed, and not begun
            self._add(at, *(("release", self._holder) if is_returned else ("unexplained",)))
        if len(self._places) > count:
            self._check(after)

    def _taken_at(self, at: int, after: Row) -> int:
        """Return when a row was taken: a claim counts from when it was made, which is before it is written."""
        if not after.claim:
            return at
        last = max((step.at for place in self._places for step in place), default=0)
        if ticks(after.held_since) < last:
            raise OutOfScope("a claim takes a row that was written after the claim was made")
        return ticks(after.held_since)

    def _records(self, at: int, line: Entry, event: Event, *, has_changed: bool) -> None:
        """Add the steps that a line of the history stands for."""
        worker = self._workers.of(line.worker)
        match line.kind:
            case "attempt" if has_changed or line.worker in self._sent:
                self._records_attempt(at, line, worker, None if event.row is None else event.row.could_leave_until)
            case _ if not has_changed:
                return  # the specification allows what changes nothing
            case "request":
                self._asks(at, line, worker, event)
            case "lease_expired":
                self._lapses(at, line, worker)
            case "look-up":
                self._records_look_up(at, line, worker)
            case "control":
                self._add(at, "control", worker)
                self._add(at, "record", worker)
            case "released":
                self._gives_up(at, worker)
            case "callback" | "remembered":
                self._shows(at, line, event)
            case "operator" | "unfrozen":
                self._add(at, line.kind)
            case _:
                raise OutOfScope(f"a line {line.kind!r} of the history")

    def _lapses(self, at: int, line: Entry, worker: str) -> None:
        found = _COULD_SEND_UNTIL.search(line.what)
        if self._holder == worker and found is not None:
            self._add(at, "lapse", worker, number=ticks(float(found[1])))
            self._holder = NO_WORKER

    def _asks(self, at: int, line: Entry, worker: str, event: Event) -> None:
        if line.what.startswith("another payment"):
            raise OutOfScope("another payment under the same foreign_id")
        before = event.before
        if before is not None and before.holder is not None and before.holder == line.worker:
            if event.row is not None and event.row.doubt_since is None:
                self._add(at, "release", worker)  # it has claimed the row, and not begun it
            else:
                self._add(at, "lapse", worker, number=at)  # an earlier flight of this worker could not record its end
        self._holder = worker
        self._add(at, "call")
        self._add(at, "ask", worker, "other" if line.what.startswith("revision") else "same")
        if before is not None and before.state == "open" and event.row is not None and event.row.state == "not_sent":
            self._add(at, "release", worker)  # its time is over

    def _records_attempt(self, at: int, line: Entry, worker: str, until: float | None) -> None:
        name = line.worker or ""
        sent_at, pending = self._sent.pop(name, None), self._replies.pop(name, None)
        reply = _PROOFS.get(line.what.partition(":")[0])
        if reply is None:
            raise OutOfScope("AlphaPo shows another withdrawal")
        if sent_at is None and reply == "unsent":
            return  # nothing left
        if sent_at is None:
            raise OutOfScope("the journal's answer was lost, and the same is recorded again")
        if pending is None:  # broken off: the worker is closed
            place, back = len(self._places), ticks(until)
            self._places.append([])
        else:
            self._check_at_rest(pending, worker)
            place, back = pending.place, ticks(pending.event.at)
        if sent_at in self._bodies and reply != "nothing":
            del self._bodies[sent_at]
            self._places[place].append(Step(back, "deliver", worker, reply, ticks(sent_at)))
        self._places[place].append(Step(back, "return", worker, reply))
        self._add(at, "record", worker)

    def _check_at_rest(self, pending: _Pending, worker: str) -> None:
        """Leave out a worker that acts on what it has seen before the journal takes that."""
        since = self._places[pending.place :]
        if any(step.worker == worker and step.row is None for place in since for step in place):
            raise OutOfScope("a worker acts on what the journal has not taken yet")

    def _records_look_up(self, at: int, line: Entry, worker: str) -> None:
        pending = self._answers.pop(line.worker or "", None)
        if pending is None or pending.event.reply is None:
            raise OutOfScope("the journal's answer was lost, and the same is recorded again")
        self._check_at_rest(pending, worker)
        answer, number = judge_look_up(pending.event.reply, pending.event.at), 0
        what = "none" if isinstance(answer, NoneFound) else "no answer"
        if isinstance(answer, Found):
            what = "ended" if answer.transaction.status in ENDED else "live"
            number = self._number(answer.transaction.id)
        asked = self._asked.get(line.worker or "", pending)
        seen = asked if what == "none" else pending  # what AlphaPo accepts while its answer is on the way is not in it
        self._places[seen.place].append(Step(ticks(seen.event.at), "look up", worker, what, number))
        self._add(at, "record", worker)

    def _gives_up(self, at: int, worker: str) -> None:
        if (
            self._row.holder == NO_WORKER
            and self._places
            and self._places[-1][-1:]
            and self._places[-1][-1].row is not None
        ):
            self._add(at, "take", worker)  # a worker comes to a row whose time is over
        self._add(at, "release", worker)

    def _shows(self, at: int, line: Entry, event: Event) -> None:
        """Add what a callback shows, or what a worker remembers of an acceptance."""
        row = event.row
        assert row is not None
        found = _ID.search(line.reply)
        known = row.withdrawal
        number = self._number(found[1].decode()) if found else self._number(known and known.id)
        status = line.what.partition(";")[0] if line.kind == "callback" else (known and known.status)
        self._add(at, "callback", what="ended" if status in ENDED else "live", number=number)

    def _number(self, id_: object) -> int:
        number = self._numbers.get(str(id_))
        if number is None:
            raise OutOfScope("AlphaPo shows what it has not accepted")
        return number


def _check_scope(event: Event, after: Row) -> None:
    """Leave out what the specification does not describe: a row whose witness is not clear."""
    if after.state == "conflict":
        raise OutOfScope("AlphaPo shows another withdrawal")
    if after.state == "open" and (after.differences or after.reason == TOO_LITTLE):
        raise OutOfScope("AlphaPo shows too little, or another withdrawal")
    if after.revision.payment is None:
        raise OutOfScope("a pruned row")
    if event.before is None and event.lines and event.lines[0].kind != "request":
        raise OutOfScope("a worker records again what the journal has forgotten")
