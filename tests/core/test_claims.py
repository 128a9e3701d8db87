"""How many rows are claimed, what begins next, and which claimed rows are free when their worker is gone."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from alphapo_async.core.claims import ending_of, is_jobs_turn, rows_to_claim
from alphapo_async.core.evidence import Claimed, LeaseExpired, Returned
from alphapo_async.core.transitions import apply
from tests.support.rows import row

CLAIMED = apply(row(holder=None), Claimed("worker", 3, "key"), 5.0)
few = st.integers(0, 200)


def test_rows_of_the_last_claim_of_a_dead_worker_were_not_begun() -> None:
    """Those of earlier claims may have been, and so may a row that was taken by itself, or whose worker is not known."""
    assert ending_of(CLAIMED, "worker", 9.0, 2) == Returned("worker", 3)
    assert ending_of(CLAIMED, "worker", 9.0, 3) == LeaseExpired("worker", 9.0)
    assert ending_of(CLAIMED, "worker", 9.0, None) == LeaseExpired("worker", 9.0)
    assert ending_of(row(), "worker", 9.0, 0) == LeaseExpired("worker", 9.0)


@given(few, few, few, st.integers(1, 200))
def test_a_claim_asks_for_free_slots_and_a_few_rows_more(
    slots: int, ready: int, waiting: int, concurrency: int
) -> None:
    """None while more than half of these are ready; at least one row, since it lets those of the claim before begin."""
    count = rows_to_claim(slots, ready, waiting, concurrency)
    ahead = max(1, concurrency // 4)
    if ready > ahead // 2:
        assert count == 0
    else:
        assert count >= 1
        assert count == 1 or ready + waiting + count == slots + ahead


@given(few, st.integers(1, 200), st.booleans())
def test_rows_taken_one_by_one_have_up_to_a_quarter_of_the_slots_first(
    running: int,
    concurrency: int,
    was_job: bool,  # noqa: FBT001 - drawn
) -> None:
    """With fewer than four slots, by turns: neither kind starves the other."""
    is_first = is_jobs_turn(running, concurrency, was_job=was_job)
    assert not is_first or running < max(1, concurrency // 4)
    assert is_first or running > 0 or (concurrency < 4 and was_job)
