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
6. A holder that lets go without a word may have sent until its lease ended, or until it was seen to be dead: that is a doubt.
"""

from __future__ import annotations

from typing import assert_never

from msgspec.structs import replace

from alphapo_async.core.asking import learn_control, learn_look_up
from alphapo_async.core.epochs import apply_remembered, apply_unfrozen
from alphapo_async.core.evidence import (
    Asked,
    Attempt,
    CalledBack,
    Control,
    Evidence,
    GivenUp,
    Lapsed,
    LookedUp,
    Remembered,
    Reported,
    Stands,
    Unfrozen,
    Word,
)
from alphapo_async.core.hearing import learn_callback
from alphapo_async.core.holding import learn_asked, learn_given_up, learn_lapsed, learn_word, new_row
from alphapo_async.core.row import NO, Assumed, Row
from alphapo_async.core.sending import learn_attempt

__all__ = ["learn", "new_row"]

_ASSUMED = Assumed()


def learn(row: Row, evidence: Evidence, now: float, assumed: Assumed = _ASSUMED) -> Row:  # noqa: C901, PLR0911, PLR0912 - a table
    """Return the row with this evidence added; the same row where it adds nothing."""
    match evidence:
        case Attempt():
            return learn_attempt(row, evidence, now)
        case LookedUp():
            return learn_look_up(row, evidence, now, assumed)
        case CalledBack():
            return learn_callback(row, evidence, now)
        case Asked():
            return learn_asked(row, evidence, now)
        case GivenUp():
            return learn_given_up(row, evidence, now)
        case Lapsed():
            return learn_lapsed(row, evidence)
        case Control():
            return learn_control(row, evidence, now, assumed)
        case Word():
            return learn_word(row, evidence, now)
        case Remembered():
            return apply_remembered(row, evidence, now)
        case Unfrozen():
            return apply_unfrozen(row, now)
        case Stands():
            return replace(row, settled_at=now, settled_by=evidence.worker) if row.state in NO else row
        case Reported():
            return replace(row, reported=True) if not row.reported and _is_about(evidence, row) else row
        case _:
            assert_never(evidence)


def _is_about(reported: Reported, row: Row) -> bool:
    """It is still this outcome: nobody has asked for the payment anew while it was handed out."""
    told = (reported.state, reported.revision, reported.expires_at)
    return reported.state is None or told == (row.state, row.revision.number, row.expires_at)
