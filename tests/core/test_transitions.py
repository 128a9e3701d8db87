"""Learning: anything, in any order."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

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
from alphapo_async.core.next_step import next_step
from alphapo_async.core.outcome import (
    Accepted,
    Found,
    KeyRefused,
    NoneFound,
    NotSent,
)
from alphapo_async.core.row import NEGATIVE_STATES, is_ended
from alphapo_async.core.transitions import apply
from tests.support.rows import (
    ACCEPTED_ROW,
    CORRECTED,
    DAY,
    LOST,
    MISMATCHED,
    OURS,
    QUIET,
    REJECTED,
    REJECTED_ROW,
    TAKEN,
    TOLD,
    found,
    row,
)

workers = st.sampled_from(["worker", "another"])
times = st.sampled_from([0.0, 1.0, QUIET, QUIET + 1, DAY, DAY + QUIET])
proofs = st.sampled_from(
    [Accepted(TOLD), LOST, MISMATCHED, REJECTED, TAKEN, KeyRefused("bad_header_key"), NotSent("no connection")]
)
looked = st.sampled_from(
    [
        *(found(status) for status in ("processing", "confirmed", "cancelled")),
        found(amount="9", address="z"),
        NoneFound(),
    ]
)
anything: st.SearchStrategy[Evidence] = st.one_of(
    st.builds(Requested, workers, st.sampled_from([OURS, CORRECTED]), st.just("key"), st.booleans()),
    st.builds(Attempt, workers, proofs, times, times),
    st.builds(LookedUp, workers, looked),
    st.builds(lambda answer: CalledBack(answer.transaction), looked.filter(lambda answer: isinstance(answer, Found))),
    st.builds(ControlFound, workers, times),
    st.builds(Released, workers, st.just("queue")),
    st.builds(LeaseExpired, workers, times),
    st.builds(OperatorDecision, st.just("anna"), st.just("because"), st.booleans()),
    st.builds(Remembered, workers, st.sampled_from([OURS, CORRECTED]), st.just(TOLD)),
    st.builds(Unfrozen, st.just("anna"), st.just("because")),
    st.builds(Reported),
)


@given(st.lists(st.tuples(anything, times), max_size=12), st.booleans())
def test_whatever_is_heard_in_whatever_order_the_row_stays_sound(
    story: list[tuple[Evidence, float]],
    is_durable: bool,  # noqa: FBT001 - drawn
) -> None:
    """Even evidence that no honest AlphaPo gives: what is proved is never lost, and no "no" comes out of doubt by itself."""
    known = row(is_durable=is_durable)
    for evidence, now in story:
        before, known = known, apply(known, evidence, now)
        next_step(known, now)
        assert known.holder is None or known.state == "open"
        if before.state in ("accepted", "failed"):
            assert known.state in ("accepted", "failed") or (before.state == "accepted" and is_ended(known))
        if before.withdrawal is not None and before.withdrawal.status == "confirmed":
            assert known.withdrawal is not None
            # Who told it last may change, and nothing else.
            assert replace(known.withdrawal, source="reply") == replace(before.withdrawal, source="reply")
        if before.doubt_since is not None and before.state == "open" and known.state in NEGATIVE_STATES:
            assert isinstance(evidence, OperatorDecision) or (
                isinstance(evidence, LookedUp) and before.control_seen_at is not None
            )
        if known.revision is not before.revision:
            assert before.state in NEGATIVE_STATES
            assert known.revision.number > before.revision.number


def test_what_was_reported_is_not_reported_again() -> None:
    """Once is enough."""
    settled = replace(ACCEPTED_ROW, reported=False)
    assert apply(settled, Reported(), 9.0).reported
    assert apply(ACCEPTED_ROW, Reported(), 9.0) is ACCEPTED_ROW


def test_a_no_that_stands_counts_from_now() -> None:
    """Whatever else a row is stays as old as it was."""
    assert apply(REJECTED_ROW, Reaffirmed("w"), 9.0) == replace(REJECTED_ROW, settled_at=9.0, settled_by="w")
    assert apply(ACCEPTED_ROW, Reaffirmed("w"), 9.0) is ACCEPTED_ROW
    open_row = row()
    assert apply(open_row, Reaffirmed("w"), 9.0) is open_row


@pytest.mark.parametrize(
    ("about", "counts"),
    [
        (Reported("rejected", 1), True),
        (Reported("not_sent", 1), False),
        (Reported("rejected", 2), False),
        (Reported("rejected", 1, 60.0), False),
    ],
)
def test_only_the_outcome_that_was_handed_out_counts_as_reported(about: Reported, *, counts: bool) -> None:
    """Whoever heard it may have asked for the payment anew, and nobody has heard what came of that."""
    unheard = replace(REJECTED_ROW, reported=False)
    assert apply(unheard, about, 9.0).reported is counts
