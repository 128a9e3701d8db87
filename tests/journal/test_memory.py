"""The journal in memory: what it keeps, what it condenses, and that its sums are exact."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from fractions import Fraction
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from alphapo_async.core.evidence import Attempt, Evidence, LookedUp, Released, Revision
from alphapo_async.core.models import Totals, Withdrawal
from alphapo_async.core.replies import Accepted, Duplicate, InDoubt, KeyRefused, NoneFound, NotSent, Proof, Rejected
from alphapo_async.core.row import Row
from alphapo_async.journal.memory import MemoryJournal
from tests.support.journal_suite import (
    ACCOUNT,
    LOST,
    JournalSuite,
    RememberingSuite,
    accepted,
    asked,
    learn,
    left_alone,
    pay,
)

SUMS = tuple(name for name in Totals.__struct_fields__ if name != "requested")


class TestMemory(JournalSuite, RememberingSuite):
    """The journal in memory is a journal."""

    @pytest.fixture
    def journal(self) -> MemoryJournal:
        """Give an empty one."""
        return MemoryJournal()


def run(story: Any) -> Any:
    """Run a story to its end."""
    return asyncio.run(story)


# ── rows ─────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_what_changes_nothing_writes_nothing() -> None:
    """The row stays where it is among the settled ones, and the same object comes back."""

    async def story() -> None:
        journal = MemoryJournal(whole_rows=2)
        await pay(journal, "a", "b")
        row = await journal.find(ACCOUNT, "a")
        assert await journal.update(ACCOUNT, "a", left_alone) is row
        await pay(journal, "c")
        oldest = await journal.find(ACCOUNT, "a")
        assert oldest is not None
        assert oldest.revision.payment is None

    run(story())


def test_an_old_row_that_something_is_heard_of_keeps_its_figure() -> None:
    """Its payment is forgotten, and the sums stay what they are."""

    async def story() -> None:
        journal = MemoryJournal(whole_rows=0)
        await pay(journal, "a")
        before = await journal.totals(ACCOUNT)
        await learn(journal, "a", LookedUp("worker", NoneFound()))
        assert await journal.totals(ACCOUNT) == before
        assert before["BTC"].accepted == Decimal(1)

    run(story())


def test_it_says_what_it_is() -> None:
    """Not durable, and its repr counts rows and shows none."""

    async def story() -> None:
        journal = MemoryJournal(whole_rows=1)
        await pay(journal, "a", "b")
        await learn(journal, "c", asked("c"))
        assert journal.is_durable is False
        assert repr(journal) == "MemoryJournal(1 open, 1 settled, 1 older)"
        await journal.aclose()
        assert await journal.find(ACCOUNT, "c") is not None

    run(story())


# ── bounds ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_open_rows_are_never_forgotten() -> None:
    """However many there are, and however many settled ones follow."""

    async def story() -> None:
        journal = MemoryJournal(whole_rows=1, remembered=1)
        for number in range(50):
            await learn(journal, f"open-{number}", asked(f"open-{number}"))
        await pay(journal, *(f"paid-{number}" for number in range(50)))
        for number in range(50):
            row = await journal.find(ACCOUNT, f"open-{number}")
            assert row is not None
            assert row.revision.payment is not None

    run(story())


def test_of_an_old_row_the_essence_is_kept() -> None:
    """What keeps the id from being paid twice: outcome, digest, AlphaPo's id and its last status."""

    async def story() -> None:
        journal = MemoryJournal(whole_rows=1)
        await pay(journal, "old", "new", now=7.0)
        old = await journal.find(ACCOUNT, "old")
        assert old is not None
        assert (old.state, old.holder, old.created_at) == ("accepted", None, 7.0)
        assert old.withdrawal == Withdrawal(id="id of old", foreign_id="old", status="processing", source="journal")
        assert old.revision.is_same_payment(asked("old").revision)
        assert not old.revision.is_same_payment(asked("old", "2").revision)
        assert (old.revision.body, old.revision.payment) == (b"", None)

    run(story())


def test_an_old_row_is_not_paid_again() -> None:
    """Asked again it stays settled; asked for another payment too."""

    async def story() -> None:
        journal = MemoryJournal(whole_rows=0)
        await pay(journal, "old")
        for amount in ("1", "2"):
            assert (await learn(journal, "old", asked("old", amount))).state == "accepted"

    run(story())


def test_an_old_row_that_never_arrived_is_opened_again_with_new_bytes() -> None:
    """Its bytes are forgotten, and it was proved that nothing moved: the next revision."""

    async def story() -> None:
        journal = MemoryJournal(whole_rows=0)
        await learn(journal, "old", asked("old"), Released("worker", "queue"))
        again = await learn(journal, "old", asked("old"))
        assert (again.state, again.revision.number, again.revision.payment is not None) == ("open", 2, True)
        await learn(journal, "old", accepted("old"))
        assert (await journal.totals(ACCOUNT))["BTC"] == Totals(requested=Decimal(1), accepted=Decimal(1))

    run(story())


def test_beyond_a_million_the_oldest_are_forgotten_but_counted() -> None:
    """The bound is on ids, not on sums."""

    async def story() -> None:
        journal = MemoryJournal(whole_rows=1, remembered=2)
        await pay(journal, "a", "b", "c", "d")
        assert [await journal.find(ACCOUNT, name) is None for name in "abcd"] == [True, False, False, False]
        assert (await journal.totals(ACCOUNT))["BTC"] == Totals(requested=Decimal(4), accepted=Decimal(4))

    run(story())


def test_the_default_bounds_are_the_promised_ones() -> None:
    """The newest 10,000 settled rows whole; read from what is still known after one more."""

    async def story() -> None:
        journal = MemoryJournal()
        await pay(journal, *(str(number) for number in range(10_001)))
        first, second = await journal.find(ACCOUNT, "0"), await journal.find(ACCOUNT, "1")
        assert first is not None
        assert second is not None
        assert (first.revision.payment, second.revision.payment is not None) == (None, True)

    run(story())


# ── totals ───────────────────────────────────────────────────────────────────────────────────────────────────────────

proofs: st.SearchStrategy[Proof] = st.sampled_from(
    [
        InDoubt("lost"),
        Rejected({"amount": ["no"]}),
        Duplicate({"foreign_id": ["taken"]}),
        KeyRefused("bad_header_key"),
        NotSent("no connection"),
    ]
)
amounts = st.decimals(min_value=0, max_value=10**20, places=8, allow_nan=False, allow_infinity=False)


@given(
    st.lists(
        st.tuples(
            st.sampled_from("abcdefgh"),
            amounts,
            st.sampled_from(["BTC", "EUR"]),
            proofs | st.just("accept") | st.just("end"),
            st.booleans(),
        ),
        max_size=30,
    ),
    st.integers(0, 3),
    st.integers(1, 3),
)
def test_requested_is_the_sum_of_what_became_of_it(
    story: list[tuple[str, Decimal, str, Proof | str, bool]], whole_rows: int, remembered: int
) -> None:
    """After every step, in every currency, to the last decimal, whatever is condensed, reopened, corrected or forgotten."""

    async def result() -> None:
        journal = MemoryJournal(whole_rows=whole_rows, remembered=remembered)
        for foreign_id, amount, currency, proof, is_given_up in story:
            await learn(journal, foreign_id, asked(foreign_id, f"{amount:f}", currency, resend_rejected=True))
            await learn(journal, foreign_id, *_heard(foreign_id, proof))
            if is_given_up:
                await learn(journal, foreign_id, Released("worker", "queue"))
            for sums in (await journal.totals(ACCOUNT)).values():
                assert sums.requested == sum(Fraction(getattr(sums, name)) for name in SUMS)
                assert all(getattr(sums, name) >= 0 for name in SUMS)

    run(result())


def _heard(foreign_id: str, proof: Proof | str) -> list[Evidence]:
    if proof == "accept":
        return [accepted(foreign_id)]
    if isinstance(proof, str):
        cancelled = Withdrawal(id=7, foreign_id=foreign_id, status="cancelled", source="reply")
        return [Attempt("worker", Accepted(cancelled), 0.0, 0.0)]
    return [Attempt("worker", proof, 0.0, 0.0)]


def test_a_row_of_which_not_even_the_payment_is_known_counts_nothing() -> None:
    """It has no figure; nothing fails over it."""

    async def story() -> None:
        journal = MemoryJournal()
        row = await learn(journal, "f", asked("f"))
        await journal.update(ACCOUNT, "f", lambda _known: (replace(row, revision=Revision(b"", None)), ()))
        assert (await journal.totals(ACCOUNT))[""].requested == 0

    run(story())


def test_texts_are_bounded_in_memory() -> None:
    """A hundred thousand; the oldest go first."""

    async def story() -> list[str | None]:
        journal = MemoryJournal()
        for number in range(100_001):
            await journal.remember("default", str(number), "text")
        return [await journal.recall("default", str(number)) for number in (0, 1, 100_000)]

    assert run(story()) == [None, "text", "text"]


async def test_a_lease_that_was_told_as_over_is_not_prolonged_any_more() -> None:
    """Not even by a renewal that was asked for while it ran, and came late."""
    journal = MemoryJournal()
    await journal.join("shop", "h", "one", 50.0)
    await journal.join("shop", "h", "two", 50.0)

    assert await journal.ended("one", 60.0) == 50.0
    assert not await journal.renew("one", 110.0, 40.0)
    assert [worker for worker, _ in await journal.find_dead(70.0)] == ["one", "two"]
    assert not await journal.renew("two", 110.0, 40.0)
    assert await journal.ended("stranger", 1.0) == 1.0


async def test_a_worker_that_left_and_joins_again_prolongs_its_new_lease() -> None:
    """What was told of its old one is forgotten with it."""
    journal = MemoryJournal()
    await journal.join("shop", "h", "one", 50.0)
    assert await journal.ended("one", 60.0) == 50.0
    await journal.leave("one", 60.0)
    await journal.join("shop", "h", "one", 120.0)

    assert await journal.renew("one", 180.0, 70.0)


async def test_nothing_is_gone_through_before_something_is_due() -> None:
    """A worker looks every second; the journal knows when the next row is due."""
    journal = MemoryJournal()
    await learn(journal, "f", asked("f"), LOST, Released("worker", ""), now=90.0)

    assert await journal.find_due(ACCOUNT, 178.0, 10) == []
    assert [row.foreign_id for row in await journal.find_due(ACCOUNT, 179.0, 10)] == ["f"]
    await journal.update(ACCOUNT, "f", lambda known: (replace(cast("Row", known), holder="worker"), ()))
    assert await journal.find_due(ACCOUNT, 181.0, 10) == []
    assert await journal.find_due(ACCOUNT, 182.0, 10) == []
