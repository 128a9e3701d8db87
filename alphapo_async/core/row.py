"""The row: what the journal knows of one withdrawal, and the only two judges of it.

`learn(row, evidence, now) -> row` adds whatever happened; `next_step(row, now)` says what would help next. Every path to
AlphaPo's truth goes through them: the flight of a caller, and whoever resumes, receives a callback or speaks for the operator.

The theory, in the order in which it binds:

1. Evidence that AlphaPo has the withdrawal is taken from anybody, at any time, and beats any earlier "no"; that is then a
   contradiction.
2. A "no" is taken from the row's holder only, and settles the row only while no attempt is in doubt: after an attempt that may
   have arrived, a later refusal proves nothing about it.
3. Out of doubt lead an acceptance, or the quiet exit: no reply ever blamed foreign_id; nothing could leave for `quiet` seconds;
   then the same bytes are refused; then a control shows that look-ups with this key see what was accepted after all that; and
   then, with eyes known to be good, a look-up is answered "none", before AlphaPo may have freed the id.
4. "Not found" alone proves nothing.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, assert_never

import msgspec
from msgspec.structs import replace

from alphapo_async.core.comparison import Difference, compare
from alphapo_async.core.evidence import Asked, Attempt, Control, Evidence, GivenUp, LookedUp, Revision
from alphapo_async.core.models import ENDED, Money, Source, Transaction, Withdrawal
from alphapo_async.core.outcome import (
    Accepted,
    Duplicate,
    Found,
    InDoubt,
    Mismatched,
    NoAnswer,
    NoneFound,
    NotSent,
    Refused,
    Rejected,
)

__all__ = [
    "Assumed",
    "Done",
    "LookUp",
    "Row",
    "Send",
    "State",
    "Step",
    "Wait",
    "bucket",
    "is_in_doubt",
    "learn",
    "new_row",
    "next_step",
    "withdrawal_of",
]

State = Literal["open", "accepted", "failed", "rejected", "not_sent", "conflict", "authentication"]
"""`open` until settled. A row in doubt is open."""

NO: Final = frozenset({"rejected", "not_sent", "conflict", "authentication"})
"""Settled, and AlphaPo does not have it: a later acceptance contradicts these."""
STICKY: Final = frozenset({"rejected", "conflict"})
"""Asked again with the same payment, these are told again without a request."""


class Row(msgspec.Struct, frozen=True, kw_only=True):
    """What the journal knows of one withdrawal. Times are seconds since the epoch."""

    account: str
    foreign_id: str
    revision: Revision
    key: str
    """Fingerprint of the key that this revision is signed with."""
    created_at: float
    earlier: tuple[Revision, ...] = ()
    state: State = "open"
    settled_at: float | None = None
    holder: str | None = None
    """The worker that may send, and whose "no" counts."""

    unvouched: bool = False
    """The journal does not outlive its process and the id was new to it: an earlier life may have sent it."""
    doubt_since: float | None = None
    """When the first attempt began that may have arrived without proof."""
    may_send_until: float | None = None
    """The last moment at which a byte of a doubtful attempt could leave."""
    blamed: bool = False
    """A reply blamed foreign_id, or AlphaPo showed a withdrawal under it that is not proved to be ours."""
    owes_look_up: bool = False
    """A look-up comes before the next body."""

    refusal: dict[str, list[str]] | None = None
    """AlphaPo's latest "no" that could not settle the row by itself."""
    refused_at: float | None = None
    """When the body of that "no" left."""
    control_at: float | None = None
    """When a look-up was seen to show another withdrawal, accepted after the quiet time and that "no": a "none" now counts."""

    attempts: int = 0
    """Bodies that left or may have left."""
    look_ups: int = 0
    not_before: float = 0.0
    """AlphaPo asked to wait until then."""
    reason: str = ""
    """The last word that did not settle the row."""
    code: str | None = None
    """The authentication code of the last refusal of the key."""
    withdrawal: Withdrawal | None = None
    transaction: Transaction | None = None
    differences: tuple[Difference, ...] = ()
    contradiction: str | None = None
    """What was told before and is now known to be wrong."""


class Assumed(msgspec.Struct, frozen=True):
    """What is assumed of AlphaPo (A2 and A3), and known of ourselves, in seconds."""

    resend_within: float = 86_400.0
    """How long AlphaPo does not free an id."""
    quiet: float = 1_800.0
    """How late a body may still be accepted."""
    attempt_timeout: float = 15.0
    """How long the bytes of one body may take to leave."""


# ── steps: what would help next ──────────────────────────────────────────────────────────────────────────────────────


class Send(msgspec.Struct, frozen=True):
    """Send the body."""


class LookUp(msgspec.Struct, frozen=True):
    """Ask by foreign_id; as a control, ask for another withdrawal accepted after `accepted_after`."""

    accepted_after: float | None = None


class Wait(msgspec.Struct, frozen=True):
    """Nothing helps before this time."""

    until: float


class Done(msgspec.Struct, frozen=True):
    """The row is settled."""


Step: TypeAlias = Send | LookUp | Wait | Done

SEND, LOOK_UP, DONE = Send(), LookUp(), Done()
_ASSUMED = Assumed()


# ── the judges ───────────────────────────────────────────────────────────────────────────────────────────────────────


def new_row(account: str, foreign_id: str, asked: Asked, now: float, *, is_durable: bool) -> Row:
    """Return the row of a withdrawal that the journal hears of for the first time."""
    row = Row(
        account=account,
        foreign_id=foreign_id,
        revision=asked.revision,
        key=asked.key,
        created_at=now,
        holder=asked.worker,
        unvouched=not is_durable,
    )
    if asked.attempted_before:
        return replace(row, doubt_since=now, may_send_until=now, owes_look_up=True, reason="attempted before")
    return row


def learn(row: Row, evidence: Evidence, now: float, assumed: Assumed = _ASSUMED) -> Row:
    """Return the row with this evidence added; the same row where it adds nothing."""
    match evidence:
        case Attempt():
            return _learn_attempt(row, evidence, now)
        case LookedUp():
            return _learn_look_up(row, evidence, now, assumed)
        case Asked():
            return _learn_asked(row, evidence)
        case GivenUp():
            return _learn_given_up(row, evidence, now)
        case Control():
            return _learn_control(row, evidence, now, assumed)
        case _:
            assert_never(evidence)


def next_step(row: Row, now: float, assumed: Assumed = _ASSUMED) -> Step:
    """Return what would help next."""
    if row.state != "open":
        return DONE
    if now < row.not_before:
        return Wait(row.not_before)
    if row.owes_look_up or row.blamed:
        return LOOK_UP
    if row.doubt_since is None:
        return SEND
    return _next_step_in_doubt(row, now, row.doubt_since, assumed)


def _next_step_in_doubt(row: Row, now: float, doubt_since: float, assumed: Assumed) -> Step:
    quiet_from = _quiet_from(row, assumed)
    if row.refusal is not None and now < quiet_from:
        # Refused once while in doubt: the same bytes prove nothing more before the quiet time is over.
        return Wait(quiet_from)
    # Once AlphaPo may have freed the id that the first body took, neither a body nor a "none" proves anything about it.
    freed_from = doubt_since + assumed.resend_within
    if _is_refused_after(row, quiet_from):
        return LOOK_UP if row.control_at is not None or now > freed_from else LookUp(accepted_after=quiet_from)
    arrives_by = now + assumed.attempt_timeout + assumed.quiet
    return SEND if arrives_by <= freed_from else LOOK_UP


def is_in_doubt(row: Row) -> bool:
    """AlphaPo may have it: an attempt may have arrived, or AlphaPo knows the id."""
    return row.state == "open" and (row.doubt_since is not None or row.blamed or row.refusal is not None)


def bucket(row: Row) -> str:
    """Return which of the sums of `Totals` the row counts in."""
    if row.state == "open":
        return "unknown" if is_in_doubt(row) else "open"
    return "not_sent" if row.state == "authentication" else row.state


def _is_refused_after(row: Row, quiet_from: float) -> bool:
    """The last word to the body was a "no", and nothing sent before it can be accepted any more."""
    return row.refusal is not None and row.refused_at is not None and row.refused_at >= quiet_from


def _quiet_from(row: Row, assumed: Assumed) -> float:
    return (row.may_send_until or 0.0) + assumed.quiet


# ── a caller asks ────────────────────────────────────────────────────────────────────────────────────────────────────


def _learn_asked(row: Row, asked: Asked) -> Row:
    """Take the row on, reopened or corrected where that is allowed; unchanged where it is held, settled or another payment's."""
    if row.holder not in (None, asked.worker):
        return row
    is_same = row.revision.is_same_payment(asked.revision)
    if row.state == "open":
        return _taken_on(row, asked) if is_same else row
    if row.state not in NO:
        return row
    if not is_same:
        return _corrected(row, asked)
    if row.state in STICKY and not asked.resend_rejected:
        return row
    return _reopened(row, asked)


def _taken_on(row: Row, asked: Asked) -> Row:
    in_doubt = row.doubt_since is not None
    return replace(
        row,
        holder=asked.worker,
        key=row.key if in_doubt else asked.key,
        owes_look_up=row.owes_look_up or is_in_doubt(row),
        not_before=0.0,
    )


def _reopened(row: Row, asked: Asked) -> Row:
    """Open again, as a row without doubt: that is what its "no" has proved."""
    revision = row.revision
    if revision.payment is None:
        # Its bytes are forgotten. They were definitely refused, so that new bytes of the same payment may follow.
        revision = replace(asked.revision, number=revision.number + 1)
    return replace(
        row,
        revision=revision,
        state="open",
        settled_at=None,
        holder=asked.worker,
        key=asked.key,
        doubt_since=None,
        may_send_until=None,
        blamed=False,
        owes_look_up=False,
        refusal=None,
        refused_at=None,
        control_at=None,
        not_before=0.0,
        reason="",
        code=None,
        differences=(),
    )


def _corrected(row: Row, asked: Asked) -> Row:
    """Another payload after a definite "no": the next revision, with the earlier one kept."""
    revision = replace(asked.revision, number=row.revision.number + 1)
    return replace(_reopened(row, asked), revision=revision, earlier=(*row.earlier, row.revision))


# ── a body was sent ──────────────────────────────────────────────────────────────────────────────────────────────────


def _learn_attempt(row: Row, attempt: Attempt, now: float) -> Row:
    proof = attempt.proof
    match proof:
        case Accepted():
            return _witnessed(_counted(row), proof.withdrawal, None, now)
        case InDoubt():
            return _doubted(_counted(row), attempt, proof.reason)
        case Mismatched():
            return _mismatched(_doubted(_counted(row), attempt, "AlphaPo shows another withdrawal"), proof)
        case NotSent():
            return _not_sent(row, proof, now)
        case Rejected() | Duplicate() | Refused():
            return _refused(_counted(row), attempt, proof, now)
        case _:
            assert_never(proof)


def _counted(row: Row) -> Row:
    return replace(row, attempts=row.attempts + 1)


def _doubted(row: Row, attempt: Attempt, reason: str) -> Row:
    """An attempt that may have arrived: the doubt is as old as the first, the quiet time as young as the last.

    A settled "no" that somebody's late attempt puts in doubt again is open again: its holder was not alone.
    """
    if row.state in ("accepted", "failed"):
        return row
    reopened = (
        {}
        if row.state == "open"
        else {"state": "open", "settled_at": None, "contradiction": f"in doubt after {row.state}"}
    )
    return replace(
        row,
        **reopened,
        doubt_since=attempt.began if row.doubt_since is None else min(row.doubt_since, attempt.began),
        may_send_until=attempt.until if row.may_send_until is None else max(row.may_send_until, attempt.until),
        owes_look_up=True,
        refusal=None,
        refused_at=None,
        control_at=None,
        reason=reason,
    )


def _mismatched(row: Row, proof: Mismatched) -> Row:
    return replace(row, blamed=True, differences=proof.differences) if row.state == "open" else row


def _not_sent(row: Row, proof: NotSent, now: float) -> Row:
    if row.state != "open":
        return row
    wait = proof.retry_after or 0.0
    attempts = row.attempts + proof.is_throttled
    reason = proof.reason if row.doubt_since is None else row.reason
    return replace(row, attempts=attempts, not_before=max(row.not_before, now + wait), reason=reason)


def _refused(row: Row, attempt: Attempt, proof: Rejected | Duplicate | Refused, now: float) -> Row:
    """A "no": heard from the holder only, and only about what was sent before it."""
    if row.state != "open" or row.holder != attempt.worker:
        return row
    match proof:
        case Duplicate():
            return replace(
                row, blamed=True, owes_look_up=True, refusal=None, control_at=None, reason="foreign_id is taken"
            )
        case Refused():
            if row.doubt_since is not None or row.blamed:
                return replace(row, code=proof.code, reason="key refused")
            return _settled(replace(row, code=proof.code), "authentication", now)
        case Rejected():
            return _rejected(row, attempt, proof, now)
        case _:
            assert_never(proof)


def _rejected(row: Row, attempt: Attempt, proof: Rejected, now: float) -> Row:
    told = replace(row, refusal=proof.errors, refused_at=attempt.began, control_at=None, reason="refused")
    if row.doubt_since is None and not row.blamed and not row.unvouched:
        return _settled(told, "rejected", now)
    return replace(told, owes_look_up=True)


# ── AlphaPo was asked ────────────────────────────────────────────────────────────────────────────────────────────────


def _learn_look_up(row: Row, looked_up: LookedUp, now: float, assumed: Assumed) -> Row:
    answer = looked_up.answer
    counted = replace(row, look_ups=row.look_ups + 1)
    match answer:
        case Found():
            return _learn_found(counted, looked_up.worker, answer.transaction, now)
        case NoneFound():
            return _learn_none(counted, looked_up.worker, now, assumed)
        case NoAnswer():
            return _learn_no_answer(counted, answer, now)
        case _:
            assert_never(answer)


def _learn_found(row: Row, worker: str, found: Transaction, now: float) -> Row:
    if row.revision.payment is None:
        return row  # settled long ago; only its digest is remembered
    comparison = compare(row.revision.payment, found)
    if comparison.is_ours(*_needed(row)):
        return _witnessed(row, _withdrawal_from(found, "look-up"), found, now)
    if row.state != "open":
        return row
    if comparison.is_other and row.doubt_since is None and row.holder == worker:
        settled = replace(row, transaction=found, differences=comparison.differences)
        return _settled(settled, "conflict", now)
    return replace(
        row,
        transaction=found,
        blamed=True,
        owes_look_up=True,
        differences=comparison.differences,
        reason="AlphaPo shows another withdrawal" if comparison.differences else "AlphaPo shows too little",
    )


def _needed(row: Row) -> tuple[str, ...]:
    """What must be told, not merely uncontradicted, before a withdrawal is taken for ours."""
    if row.doubt_since is not None:
        return ()
    return ("amount", "currency", "address") if row.blamed else ("amount", "currency")


def _learn_none(row: Row, worker: str, now: float, assumed: Assumed) -> Row:
    """Proves nothing by itself: the last word only where a refusal waits for it, and in doubt only after a control, in time."""
    if row.state != "open":
        return row
    answered = replace(row, owes_look_up=False, reason=row.reason or "not found")
    if row.refusal is None or row.blamed or row.holder != worker:
        return answered
    if row.doubt_since is None:
        return _settled(replace(answered, unvouched=False), "rejected", now)
    is_last_word = row.control_at is not None and now <= row.doubt_since + assumed.resend_within
    return _settled(answered, "rejected", now) if is_last_word else answered


def _learn_no_answer(row: Row, answer: NoAnswer, now: float) -> Row:
    """Unanswered: a body may follow all the same, since it is the same bytes; a "no" still waits for its answer."""
    if row.state != "open":
        return row
    is_needed = row.refusal is not None or row.blamed
    not_before = max(row.not_before, now + (answer.retry_after or 0.0))
    return replace(row, owes_look_up=is_needed, not_before=not_before)


def _learn_control(row: Row, control: Control, now: float, assumed: Assumed) -> Row:
    """Look-ups with this key see what was accepted later than anything of ours could be: the next "none" is the last word."""
    quiet_from = _quiet_from(row, assumed)
    is_due = row.state == "open" and not row.blamed and row.holder == control.worker
    if not is_due or not _is_refused_after(row, quiet_from) or control.accepted_at <= quiet_from:
        return row
    return replace(row, control_at=now, owes_look_up=True)


# ── the ends ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def _learn_given_up(row: Row, given_up: GivenUp, now: float) -> Row:
    """Let go: never arrived if nothing is in doubt, open otherwise."""
    if row.holder != given_up.worker:
        return row
    if row.state != "open" or is_in_doubt(row):
        return replace(row, holder=None)
    return _settled(replace(row, reason=given_up.reason), "not_sent", now)


def _settled(row: Row, state: State, now: float) -> Row:
    since = row.settled_at if row.state == state else now
    return replace(row, state=state, settled_at=since, holder=None, owes_look_up=False)


def _witnessed(row: Row, told: Withdrawal, transaction: Transaction | None, now: float) -> Row:
    """AlphaPo has it. `confirmed` beats everything; a final status is never moved back; a "no" is contradicted."""
    known = row.withdrawal
    if known is not None and _is_older(told.status, known.status):
        if told.status in ENDED and known.status == "confirmed":
            return replace(row, contradiction=f"{told.status} after confirmed")
        return row
    state: State = "failed" if told.status in ENDED else "accepted"
    witnessed = replace(
        row,
        withdrawal=_merged(known, told),
        transaction=transaction or row.transaction,
        contradiction=_contradicted(row, state) or row.contradiction,
        differences=(),
    )
    return _settled(witnessed, state, now)


def _is_older(told: str | None, known: str | None) -> bool:
    """`confirmed` is never older than anything else; `cancelled` and `declined` are older only than `confirmed`."""
    return _rank(told) < _rank(known)


def _rank(status: str | None) -> int:
    if status == "confirmed":
        return 2
    return 1 if status in ENDED else 0


def _contradicted(row: Row, state: State) -> str | None:
    if row.state in NO or (row.state == "failed" and state == "accepted"):
        return f"{state} after {row.state}"
    return None


def _merged(known: Withdrawal | None, told: Withdrawal) -> Withdrawal:
    """The newer witness, with what it leaves untold taken from the earlier one."""
    if known is None:
        return told
    untold = {name: getattr(known, name) for name in told.__struct_fields__ if getattr(told, name) is None}
    return replace(told, **untold)


def _withdrawal_from(found: Transaction, source: Source) -> Withdrawal:
    sent, received = found.currency_sent or Money(), found.currency_received or Money()
    return Withdrawal(
        id=found.id,
        foreign_id=found.foreign_id,
        end_user_reference=found.end_user_reference,
        type=found.type,
        status=found.status,
        sender_amount=sent.amount,
        sender_currency=sent.currency,
        receiver_amount=received.amount,
        receiver_currency=received.currency,
        source=source,
    )


def withdrawal_of(row: Row, source: Source) -> Withdrawal | None:
    """Return the withdrawal that the row knows, as told by this witness."""
    return row.withdrawal and replace(row.withdrawal, source=source)
