"""Results: what a flight found out, and what callers get from it: a withdrawal, an error, or a row of a batch."""

from __future__ import annotations

from typing import Any, Literal, assert_never, cast

import msgspec
from msgspec.structs import replace

from alphapo_async.core.codec import differing
from alphapo_async.core.errors import (
    AlphapoError,
    AuthenticationError,
    Existing,
    ForeignIdConflict,
    JournalError,
    Outcome,
    WithdrawalError,
    WithdrawalFailed,
    WithdrawalNotSent,
    WithdrawalRejected,
    WithdrawalUnknown,
)
from alphapo_async.core.field_docs import with_field_docs
from alphapo_async.core.models import ENDED, Withdrawal, WithdrawalRequest
from alphapo_async.core.replies import INTERNAL_ERROR
from alphapo_async.core.row import WENT_BACK, Row, is_ended, is_frozen, is_in_doubt, is_stale_no

__all__ = [
    "BatchResult",
    "FlightResult",
    "Why",
    "conflict_with",
    "existing_of",
    "key_refused",
    "result_of",
    "to_outcome",
]

Why = Literal["", "in flight", "closing", "journal", "held", "other payment", "unrecorded", "internal error"]
"""Why the flight has less to say than its row: still under way, closing, journal failed, held by another worker,
another payment's id, not recorded, or a programming error."""


class FlightResult(msgspec.Struct, frozen=True, gc=False):
    """What a flight hands to its callers: a plain value, from which each of them makes its own result or exception."""

    foreign_id: str
    row: Row | None = None
    why: Why = ""
    detail: str = ""
    retry_after: float | None = None
    is_from_journal: bool = False
    """Nothing was asked of AlphaPo: the row was settled before."""
    recorded: bool | None = False
    """With `unrecorded`: whether the row stands in the journal."""
    existing: Existing | None = None
    """With `other payment`: what has the foreign_id."""

    @property
    def attempts(self) -> int:
        """Bodies that left or may have left."""
        return 0 if self.row is None else self.row.attempts


def existing_of(row: Row) -> Existing:
    """Return what has the foreign_id of a row: what AlphaPo shows where the row is in conflict with it, otherwise the row's own payment."""
    is_shown = row.state == "conflict"
    witness = row.transaction if is_shown else row.withdrawal
    id_, status = (None, None) if witness is None else (witness.id, witness.status)
    if is_shown:
        return Existing(
            state="failed" if status in ENDED else "accepted", id=id_, status=status, transaction=row.transaction
        )
    return Existing(
        state="in doubt" if is_in_doubt(row) else row.state, payment=row.revision.payment, id=id_, status=status
    )


def conflict_with(row: Row, request: WithdrawalRequest) -> FlightResult:
    """Return what a call gets whose foreign_id the journal knows for another payment: in which fields, and how that one stands."""
    known, existing = row.revision.payment, existing_of(row)
    differs = "" if known is None or row.state == "conflict" else f"another {', '.join(differing(known, request))}; "
    detail = f"{differs}that one is {existing.state.replace('_', ' ')}"
    return FlightResult(request.foreign_id, None, "other payment", detail, existing=existing)


def to_outcome(result: FlightResult) -> Withdrawal | WithdrawalError | JournalError:
    """Return the withdrawal that AlphaPo has accepted, or the error to raise."""
    if result.why and not (result.why == "journal" and _is_accepted(result.row)):
        return _error_of_flight(result)
    assert result.row is not None  # noqa: S101 - a flight with nothing to hold back has its row
    return _outcome_of_row(result, result.row)


def _is_accepted(row: Row | None) -> bool:
    return row is not None and row.state == "accepted"


def _about(result: FlightResult) -> dict[str, Any]:
    return {"foreign_id": result.foreign_id, "attempts": result.attempts, "retry_after": result.retry_after}


_LESS = {
    "in flight": "is still under way, and its deadline is over",
    "closing": "was under way when the client was closed",
    "journal": "was tried, and the journal could not record what came of it",
    "held": "is being worked on by another worker",
    INTERNAL_ERROR: "failed with an internal error; see the log",
}


def _error_of_flight(result: FlightResult) -> WithdrawalError | JournalError:
    about = _about(result)
    if result.why == "other payment":
        assert result.existing is not None  # noqa: S101 - a clash is one with something
        return _conflict(result.detail, existing=result.existing, **about)
    if result.why == "unrecorded":
        whose = "" if result.recorded is False else " by this call"
        return JournalError(
            f"Withdrawal {result.foreign_id!r} was not sent{whose}. {result.detail}", recorded=result.recorded, **about
        )
    what = _LESS[result.why]
    if result.why == "journal" and not result.attempts:
        what = "was not sent by this call, but the journal could not record that, so that a worker may still send it"
    return WithdrawalUnknown(f"Withdrawal {result.foreign_id!r} {what}.", reason=result.why, **about)


def _conflict(detail: str, **about: Any) -> ForeignIdConflict:
    text = f"Withdrawal {about['foreign_id']!r}: this foreign_id was already used for another payment ({detail})."
    return ForeignIdConflict(f"{text} This payment was not sent, and no worker will send it.", **about)


def _outcome_of_row(result: FlightResult, row: Row) -> Withdrawal | WithdrawalError:
    about, name = _about(result), f"Withdrawal {result.foreign_id!r}"
    if row.state != "accepted" and is_stale_no(row):
        text = f"{name} is recorded as {row.state.replace('_', ' ')} from before the journal went back in time"
        return WithdrawalUnknown(f"{text}, and AlphaPo has not confirmed that yet.", reason=WENT_BACK, **about)
    match row.state:
        case "accepted":
            assert row.withdrawal is not None  # noqa: S101 - accepted on a witness, which is kept
            return replace(row.withdrawal, source="journal") if result.is_from_journal else row.withdrawal
        case "failed":
            status = row.withdrawal.status if row.withdrawal else "ended"
            return WithdrawalFailed(
                f"{name} is {status}: AlphaPo had it and ended it. No money moved.",
                transaction=row.transaction or row.withdrawal,
                **about,
            )
        case "rejected" | "conflict" | "key_refused":
            return _negative_outcome(name, row, about)
        case "not_sent":
            return WithdrawalNotSent(
                f"{name} never arrived ({_in_words(result.detail or row.reason)}). No money moved.",
                reason=_not_sent(result, row),
                **about,
            )
        case "open":
            return _unknown_outcome(name, row, result, about)
        case _:
            assert_never(row.state)


def _negative_outcome(name: str, row: Row, about: dict[str, Any]) -> WithdrawalError:
    if row.state == "rejected" and row.decision is not None:
        text = f"{name} was settled by hand, as {row.decision}. AlphaPo itself has not reported it."
        return WithdrawalRejected(text, errors=row.refusal or {}, **about)
    if row.state == "rejected":
        errors = row.refusal or {}
        return WithdrawalRejected(
            f"{name}: AlphaPo refused it ({_errors_text(errors)}). No money moved.", errors=errors, **about
        )
    if row.state == "conflict":
        return _conflict(f"AlphaPo shows it: {_figures(row)}", existing=existing_of(row), **about)
    return AuthenticationError(
        f"{name}: {key_refused(row.code)}. This call moved no money.", code=row.code or "unknown", **about
    )


def key_refused(code: str | None) -> str:
    """Return what is wrong with a refused key, in words; a row that was not sent for it has no code."""
    return f"key refused: AlphaPo does not accept the key or the signature{f' ({code})' if code else ''}"


def _unknown_outcome(name: str, row: Row, result: FlightResult, about: dict[str, Any]) -> WithdrawalUnknown:
    reason, _, detail = result.detail.partition(": ")
    if reason != "key" and not is_in_doubt(row):
        reason = _not_sent(result, row)
        why = _in_words(result.detail or row.reason or reason) if reason != "key refused" else key_refused(row.code)
        return WithdrawalUnknown(
            f"{name} was not sent by this call: {why}. It stays open, and a worker may still send it.",
            reason=reason,
            **about,
        )
    if reason != "key" and is_ended(row):
        return _ended_outcome(name, row, about)
    if reason != "key":
        reason = _unknown(result, row)
        detail = _figures(row) if row.differences else _in_words(row.reason or result.detail)
    text = f"{name}: it is not known yet whether AlphaPo has it{f' ({detail})' if detail else ''}."
    return WithdrawalUnknown(text, reason=reason, **about)


def _ended_outcome(name: str, row: Row, about: dict[str, Any]) -> WithdrawalUnknown:
    status, wait = row.withdrawal and row.withdrawal.status, about["retry_after"]
    until = "the quiet time is over" if wait is None else f"the quiet time is over, in {wait:.0f} s,"
    why = f"AlphaPo shows it {status}, and an earlier attempt may still arrive"
    then = f"It stays pending until {until} and a look-up then still shows it {status}"
    return WithdrawalUnknown(f"{name}: {why}. {then}.", reason="ended", **about)


def _unknown(result: FlightResult, row: Row) -> str:
    """One of `internal error`, `mismatch`, `journal went back`, `taken`, `key refused`, `refused`, `no answer`."""
    if result.detail == INTERNAL_ERROR:
        return INTERNAL_ERROR
    if row.differences:
        return "mismatch"
    if is_frozen(row):
        return WENT_BACK
    if row.look_ups_only:
        return "taken"
    if row.code is not None or result.detail == "key refused":
        return "key refused"
    return "refused" if row.refusal is not None else "no answer"


def _not_sent(result: FlightResult, row: Row) -> str:
    """One of `no connection`, `throttled`, `outage`, `queue`, `closed`, `key refused`, `internal error`.

    An open row without a reason was "not sent" before another call opened it again: `held`.
    """
    return (result.detail or row.reason or "held").partition(":")[0]


_WORDS = {
    "closed": "the client was closed before its turn",
    "expired": "its time was over before its turn",
    "held": "another call has asked for it again meanwhile",
    WENT_BACK: "the journal went back in time, and what happened since is not in it",
    INTERNAL_ERROR: "an internal error; see the log",
    "key refused": "key refused: AlphaPo does not accept the key now, which says nothing about an earlier attempt",
    "outage": "AlphaPo gives no readable answers, and only probes are sent meanwhile",
    "queue": "its time was over before its turn",
    "refused": "AlphaPo refuses it now, which says nothing about an earlier attempt",
    "throttled": "AlphaPo asked to wait",
}


def _in_words(reason: str) -> str:
    """Return what a person reads where the journal and the attribute `reason` have one word."""
    return _WORDS.get(reason, reason)


_LONGEST = 300


def _errors_text(errors: dict[str, list[str]]) -> str:
    result = "; ".join(f"{field}: {' '.join(texts)}" for field, texts in errors.items())
    return (result[:_LONGEST] + "…" if len(result) > _LONGEST else result) or "its words are no longer kept"


def _figures(row: Row) -> str:
    return "; ".join(str(difference)[:_LONGEST] for difference in row.differences) or "its figures are no longer kept"


@with_field_docs
class BatchResult(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """One row: what was asked, and either what AlphaPo has or the error that says what to do."""

    index: int
    """Its place among those handed in, from 0."""
    request: WithdrawalRequest | Any
    """What was asked: as it was handed in, where it is no request."""
    withdrawal: Withdrawal | None
    """What AlphaPo has; None if there is an error."""
    error: AlphapoError | None
    """What `withdraw` would have raised, not raised here; None if AlphaPo has it."""

    @property
    def outcome(self) -> Outcome:
        """One of `accepted`, `failed`, `rejected`, `not_sent`, `unknown`, `conflict`, `invalid`, `key_refused`."""
        if self.error is None:
            return "accepted"
        return cast("Outcome", getattr(self.error, "outcome", "invalid"))


def result_of(index: int, request: WithdrawalRequest | Any, result: Withdrawal | AlphapoError) -> BatchResult:
    """Return the result that this outcome makes."""
    if isinstance(result, Withdrawal):
        return BatchResult(index=index, request=request, withdrawal=result, error=None)
    return BatchResult(index=index, request=request, withdrawal=None, error=result)
