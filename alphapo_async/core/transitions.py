"""What a row learns: the first of its two judges.

`learn(row, evidence, now) -> row` adds whatever happened; `steps.next_step(row, now)` says what would help next. Every path to
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
5. When the journal went back in time, an open row of before is frozen (looked up, and not sent until a caller asks again), a "no" of
   before counts again only after AlphaPo confirmed it, and an id that is new to the journal is looked up first.
6. `cancelled` and `declined` settle the row only where no other attempt may still arrive: AlphaPo may have freed the foreign_id.
   Otherwise nothing is sent, and a look-up that begins `quiet` seconds after the last byte has to show that withdrawal ended.
7. A holder that lets go without a word may have sent until its lease ended, or until it was seen to be dead: that is a doubt.
"""

from __future__ import annotations

from typing import assert_never

from msgspec.structs import replace

from alphapo_async.core.apply_attempt import apply_attempt
from alphapo_async.core.apply_callback import apply_callback
from alphapo_async.core.apply_look_up import apply_control, apply_look_up
from alphapo_async.core.apply_request import apply_decision, apply_lease_expiry, apply_release, apply_request, new_row
from alphapo_async.core.epochs import apply_remembered, apply_unfrozen
from alphapo_async.core.evidence import (
    Attempt,
    CalledBack,
    ControlFound,
    Evidence,
    LeaseExpired,
    LookedUp,
    OperatorDecision,
    Reaffirmed,
    Released,
    Remembered,
    Reported,
    Requested,
    Unfrozen,
)
from alphapo_async.core.row import NEGATIVE_STATES, Assumptions, Row

__all__ = ["apply", "new_row"]

_ASSUMPTIONS = Assumptions()


def apply(row: Row, evidence: Evidence, now: float, assumptions: Assumptions = _ASSUMPTIONS) -> Row:  # noqa: C901, PLR0911, PLR0912 - a table
    """Return the row with this evidence added; the same row where it adds nothing."""
    match evidence:
        case Attempt():
            return apply_attempt(row, evidence, now, assumptions)
        case LookedUp():
            return apply_look_up(row, evidence, now, assumptions)
        case CalledBack():
            return apply_callback(row, evidence, now, assumptions)
        case Requested():
            return apply_request(row, evidence, now)
        case Released():
            return apply_release(row, evidence, now)
        case LeaseExpired():
            return apply_lease_expiry(row, evidence)
        case ControlFound():
            return apply_control(row, evidence, now, assumptions)
        case OperatorDecision():
            return apply_decision(row, evidence, now, assumptions)
        case Remembered():
            return apply_remembered(row, evidence, now, assumptions)
        case Unfrozen():
            return apply_unfrozen(row, now)
        case Reaffirmed():
            return replace(row, settled_at=now, settled_by=evidence.worker) if row.state in NEGATIVE_STATES else row
        case Reported():
            return replace(row, reported=True) if not row.reported and _is_about(evidence, row) else row
        case _:
            assert_never(evidence)


def _is_about(reported: Reported, row: Row) -> bool:
    """It is still this outcome: nobody has asked for the payment anew while it was handed out."""
    told = (reported.state, reported.revision, reported.expires_at)
    return reported.state is None or told == (row.state, row.revision.number, row.expires_at)
