"""What must be true after every step, whatever went wrong: the promise, compared with what AlphaPo really has.

The oracles hear of every body that leaves, of every acceptance, of every change of a row as it is written, and of all that callers are
told. They know the truth, which no client does.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from math import inf
from typing import Final

import msgspec

from alphapo_async.core.errors import JournalError, WithdrawalError
from alphapo_async.core.models import Totals, Withdrawal, WithdrawalRequest, requested_figure
from alphapo_async.core.replies import INTERNAL_ERROR
from alphapo_async.core.retry_policy import RetryPolicy
from alphapo_async.core.row import NEGATIVE_STATES, Row, counted_as, is_ended
from alphapo_async.engine.clock import COMMIT_GRACE
from alphapo_async.sandbox.checks import WithdrawalFields, spell
from alphapo_async.sandbox.records import SandboxWithdrawal
from alphapo_async.sandbox.rules import MerchantState
from tests.proof.simulation.scenario import EPOCH, QUIET

__all__ = ["Message", "Oracles"]

_ENDED: Final = ("cancelled", "declined")
_FINAL: Final = ("confirmed", *_ENDED)
_SET: Final = 300.0
"""Seconds by which the clocks of those who write down may be wrong."""
_LONGEST_IDLE: Final = 300.0
"""Seconds within which a worker has written down how its work on a row ended, whatever the journal does."""
Name = tuple[str, str]


class Message(msgspec.Struct, eq=False):
    """A body on its way: it may still be accepted, unless that was ruled out."""

    foreign_id: str
    body: bytes
    sent_at: float
    on_its_way: int = 0
    """How often it may still arrive, or be processed."""
    is_refused: bool = False
    """A copy of it was refused."""
    is_accepted: bool = False
    """A copy of it was accepted."""
    ruled_out: str = ""
    """What was written down that cannot be true if this is accepted."""


class Oracles:
    """Compares what the client says with what is true.

    Args:
        world: what AlphaPo has.
        clock: virtual seconds.
        fail: called with the first thing that is wrong.
        resend_within: how old a doubt may be when its bytes are sent again.
    """

    def __init__(
        self, world: MerchantState, clock: Callable[[], float], fail: Callable[[str], None], *, resend_within: float
    ) -> None:
        self._world = world
        self._clock = clock
        self._fail = fail
        self._resend_within = resend_within
        self._messages: dict[str, list[Message]] = {}
        self._bodies: dict[tuple[int, str, int], bytes] = {}
        self._paid: dict[str, SandboxWithdrawal] = {}
        self._sums: dict[str, dict[str, Decimal]] = {}
        self._noes: dict[str, set[str]] = {}
        self._told_accepted: set[str] = set()
        self._left_open: set[str] = set()
        """Rows that were enqueued, or open before the call that took them on: only AlphaPo's answer, or their time, settles them."""
        self._asked: dict[str, float] = {}
        self._idle: dict[tuple[str, str], float] = {}
        self._unsent: dict[str, float] = {}
        self._settled: dict[str, float] = {}
        self._released: dict[str, tuple[str, tuple[object, ...]]] = {}
        """The "no" that was told, and of which payment, where nobody has asked since."""
        self._frozen: set[str] = set()
        """Rows that were open when the journal went back, and that nobody has asked for since."""
        self._excused: set[str] = set()
        """Names of which the journal has forgotten something that no look-up shows."""
        self._forgotten: set[str] = set()
        """Names of which the journal has forgotten something."""
        self._intended: dict[str, list[WithdrawalRequest]] = {}
        self._purposes: dict[tuple[object, ...], str] = {}
        self._handled: dict[tuple[str, str], float] = {}
        self._went_back_at = -inf
        self._final_handled: set[str] = set()
        self._ended: set[tuple[str, str]] = set()
        self._final_ended: set[str] = set()
        self.accepted = 0
        self.told: dict[str, int] = {}

    def intends(self, request: WithdrawalRequest, purpose: str | None = None) -> None:
        """Somebody wants this paid, or what else is said of the same person; for one purpose one payment is made."""
        if purpose is not None:
            self._purposes[_payment(request)] = purpose
        self._intended.setdefault(request.end_user_reference, []).append(request)

    def asks(self, foreign_id: str, *, is_lasting: bool = False) -> None:
        """Somebody asks for this now; or, with a batch, from now on."""
        self._asked[foreign_id] = inf if is_lasting else max(self._clock(), self._asked.get(foreign_id, 0.0))

    # ── a journal that goes back ─────────────────────────────────────────────────────────────────────────────────────

    def goes_back(self, changed: set[str], since: float, rows: list[Row], frozen: set[str], *, is_shown: bool) -> None:
        """The journal has forgotten what was written since then.

        Args:
            changed: foreign_ids of rows that are other rows now, or gone.
            since: when the commits that are lost began.
            rows: all rows as they are now.
            frozen: foreign_ids of open rows that no worker sends any more.
            is_shown: look-ups show all that AlphaPo has.
        """
        self._forgotten |= changed
        if not is_shown:
            self._excused |= changed
        for name in changed:
            self._settled.pop(name, None)
        self._left_open -= changed
        for one in [one for one in self._bodies if one[1] in changed]:
            del self._bodies[one]
        for row in rows:
            if row.state != "open":
                self._settled.setdefault(row.foreign_id, (row.settled_at or 0.0) - EPOCH)
            elif row.holder is None:
                self._left_open.add(row.foreign_id)
        self._went_back_at = self._clock()
        self._handled = {one: at for one, at in self._handled.items() if at < since}
        self._final_handled = {id_ for id_, status in self._handled if status in _FINAL}
        self._idle.clear()
        self._frozen |= frozen

    def thaws(self, foreign_id: str) -> None:
        """A caller asks for a row again, or the operator unfreezes it."""
        self._frozen.discard(foreign_id)
        self._released.pop(foreign_id, None)

    # ── what leaves ──────────────────────────────────────────────────────────────────────────────────────────────────

    def leaves(
        self, row: Row | None, foreign_id: str, body: bytes, *, worker: str, journal: int, is_unaware: bool
    ) -> Message:
        """A body is about to leave, of which this journal should hold this row, unless it went back unnoticed."""
        if not is_unaware:
            self._check_leaving(row, foreign_id, body, worker, journal)
        message = Message(foreign_id, body, self._clock())
        self._messages.setdefault(foreign_id, []).append(message)
        return message

    def _check_leaving(self, row: Row | None, foreign_id: str, body: bytes, worker: str, journal: int) -> None:
        if foreign_id in self._frozen:
            self._fail(f"{foreign_id}: a body of a frozen row leaves, and nobody has asked for it again")
        elif row is None:
            self._fail(f"{foreign_id}: a body leaves that no journal holds (P3)")
        elif row.revision.body != body:
            self._fail(f"{foreign_id}: a body leaves that is not the journal's (P2, P3)")
        elif self._bodies.setdefault((journal, foreign_id, row.revision.number), body) != body:
            self._fail(f"{foreign_id}: the bytes of one revision have changed (P2)")
        elif row.state != "open" and self._clock() - self._settled[foreign_id] > COMMIT_GRACE:
            self._fail(f"{foreign_id}: a body leaves although the journal says {row.state}")
        elif row.holder != worker:
            self._fail(f"{foreign_id}: a body leaves a worker that does not hold the row")
        elif (
            row.doubt_since is not None and EPOCH + self._clock() + QUIET > row.doubt_since + self._resend_within + _SET
        ):
            self._fail(f"{foreign_id}: sent again when AlphaPo may have freed the id before it arrives (A2)")

    def accepted_one(self, record: SandboxWithdrawal, message: Message) -> None:
        """AlphaPo has accepted a body."""
        message.is_accepted = True
        self.accepted += 1
        self._check_payment(record)
        is_false = message.ruled_out != "failed" or record.ending.moves_money
        if message.ruled_out and is_false and message.foreign_id not in self._excused:
            self._fail(f"{message.foreign_id}: accepted after {message.ruled_out} was written down (P4)")
        if record.ending.moves_money:
            told, payment = self._released.get(message.foreign_id, ("", ()))
            if told and payment == _payment(record.asked):
                self._fail(f"{message.foreign_id}: accepted after {told} was told, and nobody has asked since (P4)")
            self._check_paid_once(record)
        if not self._world.dialect.cancelled_frees and len(self._world.named(message.foreign_id)) > 1:
            self._fail(f"{message.foreign_id}: accepted more than once (P1)")

    def _check_paid_once(self, record: SandboxWithdrawal) -> None:
        reference = self._purposes.get(_payment(record.asked), record.asked.end_user_reference)
        other = self._paid.setdefault(reference, record)
        if other is not record:
            self._fail(
                f"{reference}: paid twice, as {spell(other.asked.foreign_id)} and {spell(record.asked.foreign_id)} (P1)"
            )

    def keeps_idle(self, held: list[tuple[str, str]]) -> None:
        """These foreign_ids are held by workers that live, and these workers do nothing for them."""
        now = self._clock()
        self._idle = {one: self._idle.get(one, now) for one in held}
        for (foreign_id, _), since in self._idle.items():
            if now - since > _LONGEST_IDLE:
                self._fail(f"{foreign_id}: held for {now - since:.0f} s by a worker that does nothing for it")

    def keeps_waiting(self, unsent: list[str]) -> None:
        """Nothing of these has left, all are due, and a worker could send them."""
        now = self._clock()
        self._unsent = {name: self._unsent.get(name, now) for name in unsent}
        for name, since in self._unsent.items():
            if now - since > _LONGEST_IDLE:
                self._fail(f"{name}: not sent for {now - since:.0f} s by a worker that could, and AlphaPo answers")

    def shows(self, row: Row) -> bool:
        """Tell whether what AlphaPo shows under this name, if it shows anything, is this payment."""
        named, payment = self._world.named(row.foreign_id), row.revision.payment
        return bool(named) and payment is not None and _is_of(named[-1], payment)

    def has_ended(self, row: Row) -> bool:
        """Tell whether AlphaPo has ended what it has under this name, and has nothing else of it."""
        records, now = self._world.named(row.foreign_id), self._clock()
        return len(records) == 1 and records[0].status(now) in _ENDED and self.shows(row)

    def has_ended_all(self, row: Row) -> bool:
        """Return whether AlphaPo has ended every withdrawal that it has under this name."""
        return all(record.status(self._clock()) in _ENDED for record in self._world.named(row.foreign_id))

    def forgot(self, gone: Row | None, before: Row | None) -> None:
        """The disk has broken its word, and knows this again in place of that."""
        self._count(gone, -1)
        self._count(before, 1)

    def may_still_come(self, foreign_id: str) -> bool:
        """Tell whether a body of this foreign_id is still on its way."""
        return any(message.on_its_way for message in self._messages.get(foreign_id, ()))

    def _check_payment(self, record: SandboxWithdrawal) -> None:
        intended = self._intended.get(record.asked.end_user_reference, ())
        if not any(_is_of(record, request) for request in intended):
            self._fail(f"{spell(record.asked.foreign_id)}: AlphaPo has accepted what nobody asked for")

    # ── what is written ──────────────────────────────────────────────────────────────────────────────────────────────

    def wrote(self, before: Row | None, after: Row) -> None:
        """A row has changed."""
        self._count(before, -1)
        self._count(after, 1)
        if before is not None:
            self._check_change(before, after)
        self._check_left_open(before, after)
        if before is None or (before.state, before.settled_at) != (after.state, after.settled_at):
            self._check_state(after)

    def _count(self, row: Row | None, sign: int) -> None:
        if row is None or row.revision.payment is None:
            return
        figure, currency = requested_figure(row.revision.payment)
        sums = self._sums.setdefault(currency, {})
        for name in ("requested", counted_as(row)):
            sums[name] = sums.get(name, Decimal(0)) + sign * figure

    def _check_change(self, before: Row, after: Row) -> None:
        name, was, now = after.foreign_id, before.state, after.state
        if after.revision.number == before.revision.number and after.revision.body != before.revision.body:
            self._fail(f"{name}: another body under the same revision (P2)")
        if after.revision.number != before.revision.number and was not in NEGATIVE_STATES:
            self._fail(f"{name}: a new revision of a row that was {was} (P2)")
        if (
            was in NEGATIVE_STATES
            and now == "open"
            and after.doubt_since is None
            and before.revision.is_same_payment(after.revision)
        ):
            self._check_reopened(before)
        if was == "accepted" and now not in ("accepted", "failed") and not is_ended(after):
            self._fail(f"{name}: was accepted and is {now}")
        if was == "failed" and now not in ("failed", "accepted"):
            self._fail(f"{name}: was failed and is {now}")
        status = before.withdrawal.status if before.withdrawal else None
        after_status = after.withdrawal.status if after.withdrawal else None
        if status == "confirmed" and after_status != "confirmed":
            self._fail(f"{name}: confirmed has become {after_status} (final states never change)")
        if status in _ENDED and after_status not in (*_ENDED, "confirmed") and _id_of(before) == _id_of(after):
            self._fail(f"{name}: {status} has become {after_status} (final states never change)")

    def _check_left_open(self, before: Row | None, after: Row) -> None:
        """A row without a holder is there for any worker: nobody else may say that it is not sent before its time is over."""
        name, was_open = after.foreign_id, before is not None and before.state == "open"
        has_expired = after.expires_at is not None and (after.settled_at or 0.0) >= after.expires_at
        if was_open and name in self._left_open and after.state in ("not_sent", "key_refused") and not has_expired:
            self._fail(f"{name}: {after.state} is written down, and it was left to the workers (P4)")
        if after.state != "open":
            self._left_open.discard(name)
        elif (after if before is None or not was_open else before).holder is None:
            self._left_open.add(name)

    def _check_reopened(self, before: Row) -> None:
        """A "no" may be undone by who asks after it, and not by who asked before: somebody else may rely on it."""
        settled_at = self._settled.get(before.foreign_id)
        requested_at = self._asked.get(before.foreign_id)
        if settled_at is not None and requested_at is not None and requested_at < settled_at:
            self._fail(f"{before.foreign_id}: {before.state} is undone, and nobody has asked since (P4)")

    def _check_state(self, row: Row) -> None:
        # One that took long to be seen is written down once more before it is told: until then a call could not know of it.
        now, worked_out = self._clock(), (row.settled_at or 0.0) - EPOCH
        self._settled[row.foreign_id] = now if now - worked_out <= COMMIT_GRACE else worked_out
        if row.state in NEGATIVE_STATES:
            self._check_no(row)
        elif row.state in ("accepted", "failed"):
            self._check_witnessed(row)

    def _check_no(self, row: Row) -> None:
        """A "no" is written down: nothing of this payment is at AlphaPo, and nothing on its way will be accepted."""
        self._noes.setdefault(row.foreign_id, set()).add(row.state)
        payment = row.revision.payment
        if payment is None:
            return
        if row.foreign_id in self._excused:
            return
        if any(record.ending.moves_money for record in self._records(row.foreign_id, payment)):
            self._fail(f"{row.foreign_id}: {row.state} is written down, and money has moved (P4, P5)")
        self._rule_out(row)

    def _rule_out(self, row: Row) -> None:
        """Record that what is on its way of this row must not be accepted any more; or, of a failed one, must not move money."""
        for message in self._messages.get(row.foreign_id, ()):
            if message.on_its_way and message.body == row.revision.body:
                message.ruled_out = row.state

    def _check_witnessed(self, row: Row) -> None:
        payment = row.revision.payment
        records = [] if payment is None else self._records(row.foreign_id, payment)
        if row.state == "accepted" and not records:
            self._fail(f"{row.foreign_id}: accepted is written down, and AlphaPo has nothing of it")
        if row.state == "failed" and (not records or any(record.ending.moves_money for record in records)):
            self._fail(f"{row.foreign_id}: failed is written down, and that is not so (P4)")
        if row.state == "failed":
            self._rule_out(row)

    def _records(self, foreign_id: str, payment: WithdrawalRequest) -> list[SandboxWithdrawal]:
        """Return AlphaPo's records of this payment. Only the journal tells payments apart that differ in end_user_reference alone.

        An AlphaPo that answers a name again with what it accepted first does not show the address there, either.
        """
        is_same = _is_paid_by if foreign_id in self._forgotten else _is_of
        if foreign_id in self._forgotten and self._world.dialect.reused_answer == "original":
            is_same = _is_figure_of
        return [record for record in self._world.named(foreign_id) if is_same(record, payment)]

    # ── what is told ─────────────────────────────────────────────────────────────────────────────────────────────────

    def hears(
        self,
        request: WithdrawalRequest,
        told: Withdrawal | WithdrawalError | JournalError,
        *,
        is_late: bool = False,
        is_last: bool = False,
    ) -> None:
        """A caller hears an outcome: what is true now, unless he hears it late, for his process stood still meanwhile.

        Where this is the last caller that waits, a "no" stays true until somebody asks again.
        """
        name = request.foreign_id
        outcome = "accepted" if isinstance(told, Withdrawal) else told.outcome
        self.told[outcome] = self.told.get(outcome, 0) + 1
        if told.foreign_id not in (None, name):
            self._fail(f"{name}: told of {told.foreign_id}")
        if getattr(told, "reason", "") == INTERNAL_ERROR:
            self._fail(f"{name}: told of an error that should not be")
        if isinstance(told, Withdrawal):
            self._told_accepted.add(name)
            if not self._records(name, request):
                self._fail(f"{name}: told as accepted, and AlphaPo has nothing of it")
            return
        is_no = isinstance(told, WithdrawalError) and told.may_release_funds and name not in self._excused
        if is_no and not is_late and any(one.ending.moves_money for one in self._records(name, request)):
            self._fail(f"{name}: told as {outcome}, and money has moved (P4)")
        moves_money = any(one.ending.moves_money for one in self._world.named(name))
        if is_no and outcome == "conflict" and not is_late and moves_money:
            self._fail(f"{name}: a conflict releases funds, and the existing withdrawal moves money (P4)")
        if is_no and outcome in ("not_sent", "key_refused") and not is_late and name in self._left_open:
            self._fail(f"{name}: told as {outcome}, and a worker may still send it (P4)")
        is_of_its_own = is_no and outcome in ("rejected", "not_sent", "key_refused")
        if is_of_its_own and is_last and not is_late:
            self._released[name] = (outcome, _payment(request))
        if is_of_its_own and outcome not in self._noes.get(name, ()):
            self._fail(f"{name}: {outcome} was told before it was written down (P4)")

    def hears_in_time(self, name: str, deadline: float, took: float) -> None:
        """A caller with a deadline of his own has been told."""
        if took > deadline + 0.1:
            self._fail(f"{name}: told after {took:.3f} s, with a deadline of {deadline:g} s (P7)")

    def gives_up(self, name: str, tried: int, took: float) -> None:
        """A caller who had time hears that nothing ever left, for want of a connection."""
        policy = RetryPolicy()
        if tried < policy.attempts and took < policy.deadline - policy.wait_max - policy.attempt_timeout:
            self._fail(f"{name}: given up after {took:.3f} s and {tried} of {policy.attempts} attempts (P6)")

    def stays_true(self, rows: list[Row]) -> None:
        """At the end: what was told as accepted is so in the journal, too."""
        for row in rows:
            is_kept = row.state in ("accepted", "failed") or is_ended(row) or row.foreign_id in self._forgotten
            if row.foreign_id in self._told_accepted and not is_kept:
                self._fail(f"{row.foreign_id}: told as accepted, and {row.state} in the end")

    def released(self, reference: str) -> None:
        """Somebody has given the funds back for good."""
        if reference in self._paid:
            self._fail(f"{reference}: the funds were given back, and money has moved (P4)")

    # ── callbacks ────────────────────────────────────────────────────────────────────────────────────────────────────

    def handling(self, what: str, id_: object, status: str, *, is_new: bool) -> None:
        """A callback is handed over."""
        if what == "forgery":
            self._fail(f"callback {id_}: a forged one was handed over")
        if is_new and (str(id_), status) in self._handled:
            self._fail(f"callback {id_} {status}: new again, although it was handled")
        if is_new and status not in _FINAL and str(id_) in self._final_handled:
            self._fail(f"callback {id_} {status}: a final status has moved back")
        if not is_new and (str(id_), status) not in self._ended and str(id_) not in self._final_ended:
            self._fail(f"callback {id_} {status}: taken for handled, and nobody handled it")

    def ended(self, id_: object, status: str) -> None:
        """A block has ended cleanly; whether the client could write that down is not known yet."""
        self._ended.add((str(id_), status))
        if status in _FINAL:
            self._final_ended.add(str(id_))

    def handled(self, id_: object, status: str, *, since: float) -> None:
        """A block has ended cleanly, and the client knows it: recorded since then, which a journal that went back may have lost."""
        if since <= self._went_back_at:
            return
        self._handled[str(id_), status] = self._clock()
        if status in _FINAL:
            self._final_handled.add(str(id_))

    # ── sums ─────────────────────────────────────────────────────────────────────────────────────────────────────────

    def adds_up(self, totals: dict[str, Totals]) -> None:
        """The journal's own sums are those of its rows, and its buckets add up to what was requested (P11)."""
        for currency, sums in self._sums.items():
            told = totals.get(currency) or Totals()
            parts = {name: getattr(told, name) for name in _BUCKETS}
            if sum(parts.values()) != told.requested:
                self._fail(f"{currency}: the sums do not add up (P11)")
            elif any(parts[name] != sums.get(name, 0) for name in _BUCKETS) or told.requested != sums["requested"]:
                self._fail(f"{currency}: the sums are not those of the rows (P11)")


def _is_of(record: SandboxWithdrawal, payment: WithdrawalRequest) -> bool:
    """AlphaPo's record is of exactly this payment."""
    return _payment(payment) == _payment(record.asked)


def _is_paid_by(record: SandboxWithdrawal, payment: WithdrawalRequest) -> bool:
    """AlphaPo's record moves this money to this address, whatever its end_user_reference is."""
    return _payment(payment)[1:] == _payment(record.asked)[1:]


def _is_figure_of(record: SandboxWithdrawal, payment: WithdrawalRequest) -> bool:
    """AlphaPo's record moves this money, to any address."""
    asked = record.asked
    figures = ((one.amount, one.amount_to, one.currency, one.convert_to) for one in (asked, payment))
    return len(set(figures)) == 1


def _payment(asked: WithdrawalRequest | WithdrawalFields) -> tuple[object, ...]:
    fields = (asked.end_user_reference, asked.amount, asked.amount_to, asked.currency, asked.address)
    return *fields, asked.tag or None, asked.convert_to


def _id_of(row: Row) -> object:
    return row.withdrawal and row.withdrawal.id


_BUCKETS: Final = ("open", "accepted", "failed", "rejected", "not_sent", "unknown", "conflict")
