"""What is written of rows and their history, late writes included, and what is true when it is reported."""

import asyncio
import contextlib
import sqlite3
from collections.abc import AsyncIterator
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

import pytest
from msgspec.structs import replace

from alphapo_async.core.codec import encode_body
from alphapo_async.core.errors import JournalError, WithdrawalRejected
from alphapo_async.core.evidence import (
    Attempt,
    Claimed,
    LeaseExpired,
    LookedUp,
    Released,
    ReplyExcerpt,
    Reported,
    Requested,
    Revision,
)
from alphapo_async.core.history import Change
from alphapo_async.core.models import CryptoAddress, Money, Transaction, Withdrawal, WithdrawalRequest
from alphapo_async.core.replies import Accepted, Found, InDoubt, NoneFound, Rejected
from alphapo_async.core.results import BatchResult
from alphapo_async.core.retry_policy import RetryPolicy
from alphapo_async.core.row import Row, is_frozen
from alphapo_async.core.transitions import apply
from alphapo_async.engine.engine import Engine
from alphapo_async.engine.flight import Flight
from alphapo_async.engine.recorder import Offer, Reporting
from alphapo_async.journal import open_journal
from alphapo_async.journal.memory import MemoryJournal
from tests.support import postgres
from tests.support.engines import engine_of
from tests.support.virtual import run
from tests.support.wire import NO_CONNECTION, SlowToAnswer, Standby, Wire, client, real_world, request

# ── what is written down ─────────────────────────────────────────────────────────────────────────────────────────────

PAYMENT = WithdrawalRequest(currency="BTC", address="a", amount="1", foreign_id="f", end_user_reference="u")
ASKED = Requested("one", Revision(encode_body(PAYMENT), PAYMENT), "key")
ACCEPTED = Attempt("one", Accepted(Withdrawal(id=7, foreign_id="f")), 0.0, 0.0)


def test_a_withdrawal_is_recorded_once_and_lapses_with_its_worker() -> None:
    """Known again, and taken over with a line in its history."""

    async def story() -> None:
        engine = engine_of(Wire())
        row = await engine.recorder.record("f", ASKED)
        assert (row.holder, row.earlier_request_possible) == ("one", True)
        other = replace(ASKED, worker="two")
        assert (await engine.recorder.record("f", other)).holder == "one"
        taken = await engine.recorder.record("f", other, LeaseExpired("one", 0.0))
        assert (taken.holder, taken.doubt_since) == ("two", 0.0)
        lines = [(line.kind, line.what) for line in await engine.journal.history("shop", "f") if line.kind == "request"]
        assert lines == [("request", how) for how in ("recorded", "open already", "taken on")]

    run(story())


@pytest.mark.parametrize("kind", ["memory", "file", "database"])
async def test_the_history_is_written_with_the_row_in_every_kind_of_journal(kind: str, tmp_path: Path) -> None:
    """Evidence, an acceptance that is stored late, and a callback: each with the row that it changes."""
    url = {"memory": "memory", "file": str(tmp_path / "payouts.db"), "database": postgres.url()}[kind]
    engine = engine_of(Wire(), journal=open_journal(url, schema=postgres.schema()))
    row = await engine.recorder.record("f", ASKED)
    row = await engine.recorder.record("f", replace(ASKED, worker="two"), LeaseExpired("one", 0.0))
    row = await engine.recorder.apply(row, Attempt("two", InDoubt("lost"), 0.0, 0.0))
    engine.recorder.apply_later(row, apply(row, ACCEPTED, 7.0), ACCEPTED)
    await engine.recorder.flush()
    await engine.recorder.apply_callback(
        row, Transaction(id=7, foreign_id="f", status="confirmed", **_FIGURES), ReplyExcerpt()
    )
    lines = [(line.kind, line.what) for line in await engine.journal.history("shop", "f")]
    await engine.journal.aclose()
    assert [kind for kind, _ in lines] == ["request", "lease_expired", "request", "attempt", "attempt", "callback"]
    results = ["recorded", "taken on", "in_doubt: lost", "accepted", "confirmed"]
    assert [what for kind, what in lines if kind != "lease_expired"] == results


def test_a_request_counts_only_if_a_caller_still_waits_when_it_is_written() -> None:
    """A journal that went back may retry the statement of a call that has ended: that ends no freeze."""

    async def story() -> list[bool]:
        engine = engine_of(Wire())
        row = await engine.recorder.record("f", ASKED)
        await engine.recorder.apply(row, Released("one", "closed", stays_open=True))
        await engine.journal.raise_epoch(7.0)
        return [is_frozen(await engine.recorder.record("f", ASKED, is_wanted=lambda: waits)) for waits in (False, True)]  # noqa: B023 - awaited at once

    assert run(story()) == [True, False]


def test_a_withdrawal_can_be_recorded_within_a_transaction() -> None:
    """Of a journal that has them: the caller's connection is handed on."""
    asked_of: list[object] = []

    class InDatabase(MemoryJournal):
        """A journal that writes in transactions of others."""

        async def update_within(self, connection: object, account: str, foreign_id: str, change: Any) -> Row:
            """Write at once."""
            asked_of.append(connection)
            return await self.update(account, foreign_id, change)

        def enqueue_statement(self, account: str, asked: Requested, host: str, expires_in: float) -> str:
            """Return nothing that could be run."""
            return ""

    async def story() -> None:
        engine = engine_of(Wire())
        engine.recorder._journal = InDatabase()
        connection = object()
        assert (await engine.recorder.record_within(connection, "f", ASKED)).holder == "one"
        assert asked_of == [connection]

    run(story())


def test_evidence_is_added_to_row_and_history_in_order() -> None:
    """Several pieces at once, too; a row that the journal has lost is learned from what was known."""

    async def story() -> None:
        engine = engine_of(Wire())
        row = await engine.recorder.record("f", ASKED)
        engine.journal._open.clear()  # type: ignore[attr-defined]
        lost = Attempt("one", InDoubt("lost"), 0.0, 0.0)
        after = await engine.recorder.apply(row, lost, Reported(), ACCEPTED)
        assert (after.state, after.attempts) == ("accepted", 2)
        lines = [line.what for line in await engine.journal.history("shop", "f")]
        assert lines == ["recorded", "in_doubt: lost", "accepted"]

    run(story())


def test_a_look_up_that_proves_nothing_is_in_the_history_alone() -> None:
    """Equal ones as a count; the row is as it was but for its lines."""

    async def story() -> None:
        engine = engine_of(Wire())
        row = await engine.recorder.record("f", ASKED)
        for _ in range(2):
            await engine.recorder.note(row, LookedUp("", NoneFound(), ReplyExcerpt(404, b"{}")))
        found = await engine.journal.find("shop", "f")
        assert found is not None
        assert replace(found, lines=row.lines, counted=row.counted) == row
        [_, line] = await engine.journal.history("shop", "f")
        assert (line.kind, line.what, line.count) == ("look-up", "none", 2)

    run(story())


def test_whether_a_callback_fits_is_judged_on_the_row_as_it_stands_at_the_end() -> None:
    """A look-up was a moment faster: "cancelled" comes after "confirmed", and the history says so; a repeat is counted."""

    async def story() -> tuple[list[str | None], list[tuple[str, int]]]:
        engine = engine_of(Wire())
        stale = await engine.recorder.record("f", ASKED)
        confirmed = Transaction(id=7, foreign_id="f", status="confirmed", **_FIGURES)
        await engine.recorder.apply(stale, LookedUp("worker", Found(confirmed)))
        cancelled = replace(confirmed, status="cancelled")
        doubts = []
        for result in (cancelled, cancelled, confirmed):
            _, _, evidence, _ = await engine.recorder.apply_callback(stale, result, ReplyExcerpt())
            doubts.append(evidence.doubt)
        history = await engine.journal.history("shop", "f")
        return doubts, [(line.what, line.count) for line in history if line.kind == "callback"]

    doubts, lines = run(story())
    assert doubts == ["cancelled after confirmed", "cancelled after confirmed", None]
    assert lines == [("does not fit: cancelled after confirmed", 2), ("confirmed", 1)]


class _SlowJournal(MemoryJournal):
    """Takes 40 seconds until it writes."""

    async def update(self, account: str, foreign_id: str, change: Change, *, may_lag: bool = False) -> Row:
        """Write late."""
        await asyncio.sleep(40.0)
        return await super().update(account, foreign_id, change, may_lag=may_lag)


def test_a_callback_is_dated_when_it_is_written() -> None:
    """The attempt that another worker may have under way can leave until then, and not only until the callback came."""

    async def story() -> None:
        engine = engine_of(Wire(), journal=_SlowJournal(), clock=lambda: asyncio.get_running_loop().time())
        row = await engine.recorder.record("f", ASKED)
        processing = Transaction(id=7, foreign_id="f", status="processing", **_FIGURES)
        _, after, _, _ = await engine.recorder.apply_callback(row, processing, ReplyExcerpt())
        assert (after.state, after.settled_at, after.could_leave_until) == ("accepted", 80.0, 95.0)

    run(story())


_FIGURES: dict[str, Any] = {
    "crypto_address": CryptoAddress(address="a"),
    "currency_sent": Money(currency="BTC", amount=Decimal(1)),
}


def _learn_later(engine: Engine, row: Row) -> Row:
    """Have an acceptance written down in the background, as a flight does, and return what it makes of the row."""
    learned = apply(row, ACCEPTED, 7.0)
    engine.recorder.apply_later(row, learned, ACCEPTED)
    return learned


def test_the_line_of_an_acceptance_has_the_time_at_which_it_settled_the_row() -> None:
    """Also where it is written later; evidence that settles nothing has the time of its writing."""

    async def story() -> list[float]:
        engine = engine_of(Wire())
        row = await engine.recorder.record("f", ASKED)
        learned = _learn_later(engine, row)
        await engine.recorder.flush()
        engine.recorder.apply_later(learned, learned, ACCEPTED)
        await engine.recorder.flush()
        return [line.at for line in await engine.journal.history("shop", "f") if line.kind == "attempt"]

    settled_at, later = run(story())
    assert settled_at == 7.0
    assert later != 7.0


def test_what_lags_is_written_down_before_closing() -> None:
    """In the background; a failure is logged and told to nobody."""

    async def story() -> list[str]:
        engine = engine_of(Wire())
        row = await engine.recorder.record("f", ASKED)
        _learn_later(engine, row)
        await engine.recorder.flush()
        found = await engine.journal.find("shop", "f")
        assert found is not None
        assert found.state == "accepted"
        results: list[str] = []
        engine.observer.on_not_written = lambda foreign_id, detail: results.append(f"{foreign_id}: {detail}")  # type: ignore[method-assign]
        engine.recorder._journal = _Full()
        _learn_later(engine, row)
        await engine.recorder.flush()
        return results

    assert run(story()) == ["f: The disk is full."]


def test_closing_leaves_what_a_journal_that_hangs_does_not_take() -> None:
    """No task is left, and the only report is that the acceptance is not recorded."""

    async def story() -> int:
        engine = engine_of(Wire())
        row = await engine.recorder.record("f", ASKED)
        engine.recorder._journal = _Hanging()
        _learn_later(engine, row)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await engine.recorder.flush()
        await asyncio.sleep(0)
        return len(asyncio.all_tasks())

    assert run(story()) == 1


def test_what_lagged_in_a_loop_that_is_closed_is_not_waited_for() -> None:
    """It comes back in that loop, or never."""
    made: list[Engine] = []

    async def begin() -> None:
        made.append(engine_of(Wire()))
        row = await made[0].recorder.record("f", ASKED)
        made[0].recorder._journal = _Hanging()
        _learn_later(made[0], row)

    async def end() -> float:
        made[0].recorder.leave_loop()
        await made[0].recorder.flush()
        return asyncio.get_running_loop().time()

    run(begin())
    assert run(end()) == 0.0


def test_what_lags_is_worked_out_anew_of_a_row_that_has_become_another() -> None:
    """What was told is written down as it was told; what somebody else has added meanwhile is not lost."""

    async def story() -> tuple[Row, Row, Row]:
        engine = engine_of(Wire())
        same, another = await engine.recorder.record("same", ASKED), await engine.recorder.record("another", ASKED)
        result = _learn_later(engine, same)
        doubted = await engine.recorder.apply(another, Attempt("one", InDoubt("HTTP 502"), 1.0, 2.0))
        _learn_later(engine, another)
        await engine.recorder.flush()
        found, written = await engine.journal.find("shop", "same"), await engine.journal.find("shop", "another")
        assert found is not None
        assert written is not None
        assert doubted.attempts == 1
        return result, found, written

    result, found, written = run(story())
    assert replace(found, lines=result.lines, counted=result.counted) == result
    assert (found.settled_at, found.attempts, found.lines) == (7.0, 1, 2)
    assert (written.state, written.attempts) == ("accepted", 2)


def test_what_lags_is_offered_again_until_it_is_taken() -> None:
    """An acceptance that the journal would not take at first settles its row later on."""

    async def story() -> tuple[str, list[str]]:
        errors: list[str] = []
        engine = engine_of(Wire())
        row = await engine.recorder.record("f", ASKED)
        whole, engine.recorder._journal = engine.journal, _Full()
        engine.observer.on_not_written = lambda foreign_id, detail: errors.append(foreign_id)  # type: ignore[method-assign]
        _learn_later(engine, row)
        await asyncio.sleep(0.5)
        engine.recorder._journal = whole
        await asyncio.sleep(1)
        found = await whole.find("shop", "f")
        assert found is not None
        return found.state, errors

    assert run(story()) == ("accepted", ["f"])


def test_what_lags_is_offered_less_and_less_often() -> None:
    """After a second, then each time after twice as long, and every half minute in the end."""

    async def story() -> list[float]:
        offered: list[float] = []
        engine = engine_of(Wire())
        row = await engine.recorder.record("f", ASKED)
        engine.recorder._journal = _Full()
        engine.observer.on_not_written = lambda foreign_id, detail: offered.append(asyncio.get_running_loop().time())  # type: ignore[method-assign]
        _learn_later(engine, row)
        await asyncio.sleep(100)
        return offered

    assert run(story()) == pytest.approx([0, 1, 3, 7, 15, 31, 61, 91])


def test_what_lags_is_offered_for_the_last_time_at_closing() -> None:
    """Closing waits for no pause."""

    async def story() -> tuple[str, float]:
        engine = engine_of(Wire())
        row = await engine.recorder.record("f", ASKED)
        whole, engine.recorder._journal = engine.journal, _Full()
        _learn_later(engine, row)
        await asyncio.sleep(0.5)
        engine.recorder._journal = whole
        await engine.recorder.flush()
        found = await whole.find("shop", "f")
        assert found is not None
        return found.state, asyncio.get_running_loop().time()

    assert run(story()) == ("accepted", 0.5)


class _Hanging(MemoryJournal):
    async def update(self, *what: Any, **how: Any) -> Row:
        await asyncio.sleep(1_000_000.0)
        return await super().update(*what, **how)


class _Full(MemoryJournal):
    async def update(self, *what: Any, **how: Any) -> Row:
        raise JournalError("The disk is full.")


def test_what_is_recorded_is_as_old_as_its_writing() -> None:
    """A journal may take its time: a row that is expired by then is settled then, and requests until then get that outcome."""

    class Slow(MemoryJournal):
        async def update(self, *args: Any, **how: Any) -> Row:
            await asyncio.sleep(2.0)
            return await super().update(*args, **how)

    async def story() -> tuple[float, str, float | None]:
        engine = engine_of(Wire(), journal=Slow(), clock=asyncio.get_running_loop().time)
        row = await engine.recorder.record("f", replace(ASKED, worker=None, expires_at=3.0))
        expired = await engine.recorder.record("f", replace(ASKED, requested_at=2.0))
        return row.created_at, expired.state, expired.settled_at

    assert run(story()) == (2.0, "not_sent", 4.0)


class _Slow(MemoryJournal):
    """A journal whose answers take so many seconds, one after the other."""

    is_durable = True

    def __init__(self, *seconds: float) -> None:
        super().__init__()
        self.seconds = list(seconds)
        self.asked = 0

    async def update(self, *args: Any, **how: Any) -> Row:
        row = await super().update(*args, **how)
        await self._take_long()
        return row

    async def find(self, *args: Any) -> Row | None:
        row = await super().find(*args)
        await self._take_long()
        return row

    async def _take_long(self) -> None:
        self.asked += 1
        await asyncio.sleep(self.seconds.pop(0) if self.seconds else 0.0)


REFUSED = Attempt("one", Rejected({"amount": ["too little"]}), 0.0, 0.0)


def _read_late(*seconds: float, evidence: Attempt = REFUSED) -> tuple[list[str], list[int]]:
    """Record and find a withdrawal of which the journal knows so much, and takes so long to say so."""

    async def story() -> tuple[list[str], list[int]]:
        journal = _Slow()
        engine = engine_of(Wire(), journal=journal, clock=asyncio.get_running_loop().time)
        await engine.recorder.apply(await engine.recorder.record("f", ASKED), evidence)
        result, asked = list[str](), list[int]()
        for how in (engine.recorder.record("f", ASKED), engine.recorder.find("f")):
            journal.seconds, journal.asked = list(seconds), 0
            try:
                row = await how
                result.append(str(row and row.state))
            except JournalError as error:
                result.append(f"{error.detail} {error.recorded} {error.foreign_id}")
            asked.append(journal.asked)
        return result, asked

    return run(story())


def test_what_was_long_on_its_way_is_asked_for_again() -> None:
    """Another call may have paid meanwhile, after a "no" above all; half a second is not long."""
    assert _read_late(0.5) == (["rejected"] * 2, [1, 1])
    assert _read_late(0.6) == (["rejected"] * 2, [2, 2])
    assert _read_late(9.0, 9.0, 0.1) == (["rejected"] * 2, [3, 3])


def test_an_acceptance_stays_true_however_long_it_is_on_its_way() -> None:
    """A request to record the withdrawal gets it at once."""
    assert _read_late(9.0, evidence=ACCEPTED) == (["accepted"] * 2, [1, 2])


def test_what_is_always_long_on_its_way_is_not_relied_on() -> None:
    """Whether it still holds is not known."""
    result, asked = _read_late(0.6, 0.6, 0.6)
    slow = "The journal takes more than 0.5 s to answer, and what it says may not be so any more."
    assert (result, asked) == ([f"{slow} True f", f"{slow} None f"], [3, 3])


def _stands(
    *seconds: float, evidence: Attempt = REFUSED, age: float = 60.0, teller: str = "one"
) -> tuple[str, float | None, int]:
    """Ask so long after worker "one" settled it how a withdrawal stands, of a journal that takes so long each time."""

    async def story() -> tuple[str, float | None, int]:
        journal = _Slow()
        engine = engine_of(Wire(), journal=journal, clock=asyncio.get_running_loop().time)
        await engine.recorder.apply(await engine.recorder.record("f", ASKED), evidence)
        engine.lease.worker = teller
        await asyncio.sleep(age)
        journal.seconds, journal.asked = list(seconds), 0
        try:
            row = await engine.recorder.find_to_report("f")
        except JournalError as error:
            return error.detail, None, journal.asked
        return str(row and row.state), None if row is None else row.settled_at, journal.asked

    return run(story())


def test_a_no_that_is_told_late_is_written_once_more() -> None:
    """It counts from then on, so that no call that was made before can undo it; a young one of its own worker stands as it is."""
    assert _stands() == ("rejected", 60.0, 2)
    assert _stands(age=0.5) == ("rejected", 0.0, 1)
    assert _stands(age=0.6) == ("rejected", 0.6, 2)
    assert _stands(age=0.5, teller="another") == ("rejected", 0.5, 2)
    assert _stands(0.4, 0.6, 0.1) == ("rejected", 61.0, 3)


@pytest.mark.parametrize("seconds", [0.1, 0.4])
def test_a_no_that_is_handed_out_answers_what_this_client_asks_meanwhile(seconds: float) -> None:
    """Its caller may release the funds: a call that came between its date and its delivery paid all the same."""
    wire, journal = Wire([NO_CONNECTION]), SlowToAnswer()

    async def story() -> tuple[list[str], int]:
        async with client(wire, journal=journal, policy=RetryPolicy.none()) as alphapo:
            await alphapo.enqueue(request(), expires_in=1.0)
            await asyncio.sleep(2.0)
            await alphapo._registry.settle(cast("Row", await journal.find("default", "payout-17")), may_resend=True)
            journal.seconds = seconds
            handed_out = asyncio.ensure_future(alphapo.resume().__anext__())
            await asyncio.sleep(0.05)
            call = asyncio.ensure_future(alphapo.withdraw(request()))
            outcomes = [(await handed_out).outcome]
            await asyncio.gather(call, return_exceptions=True)
            row = await journal.find("default", "payout-17")
            return [*outcomes, str(row and row.state)], wire.posts

    assert run(story()) == (["not_sent", "not_sent"], 0)


def test_a_no_is_on_its_way_until_the_last_caller_has_it() -> None:
    """Two callers may ask for one withdrawal at one time."""
    counts: dict[str, int] = {}
    with Reporting(counts, "f"):
        with Reporting(counts, "f"):
            pass
        assert counts == {"f": 1}
    assert counts == {}


def test_an_acceptance_needs_no_stamp() -> None:
    """Nothing undoes it."""
    assert _stands(9.0, evidence=ACCEPTED) == ("accepted", 0.0, 1)


def test_a_no_that_cannot_be_written_in_time_is_not_told() -> None:
    """However often it is tried."""
    slow = "The journal takes more than 0.5 s to answer, and what it says may not be so any more."
    assert _stands(0.0, 0.6, 0.6, 0.6) == (slow, None, 4)


def test_a_withdrawal_that_the_journal_does_not_know_does_not_stand_in_it() -> None:
    """And is not written down by the question."""

    async def story() -> tuple[Row | None, Row | None]:
        engine = engine_of(Wire(), journal=_Slow())
        return await engine.recorder.find_to_report("f"), await engine.recorder.find("f")

    assert run(story()) == (None, None)


def test_a_conflict_that_was_long_on_its_way_is_asked_for_again() -> None:
    """Another payment's row may have been settled, and corrected to this one, meanwhile."""

    async def story() -> int:
        journal = _Slow()
        engine = engine_of(Wire(), journal=journal, clock=asyncio.get_running_loop().time)
        await engine.recorder.record("f", ASKED)
        other = WithdrawalRequest(currency="BTC", address="a", amount="2", foreign_id="f", end_user_reference="u")
        journal.seconds, journal.asked = [0.6, 0.1], 0
        await engine.recorder.record("f", replace(ASKED, revision=Revision(encode_body(other), other)))
        return journal.asked

    assert run(story()) == 2


def test_what_lags_may_be_cancelled_with_its_loop() -> None:
    """Nothing is owed then, and nothing complains."""

    class Slow(MemoryJournal):
        async def update(self, *args: Any, **how: Any) -> Row:
            await asyncio.sleep(9.0)
            return await super().update(*args, **how)

    async def story() -> int:
        engine = engine_of(Wire())
        row = await engine.recorder.record("f", ASKED)
        engine.recorder._journal = Slow()
        _learn_later(engine, row)
        for writing in list(engine.recorder._lagging):
            writing.cancel()
        await asyncio.sleep(1)
        return len(engine.recorder._lagging) + len(engine.recorder._owed)

    assert run(story()) == 0


class _Lasting(MemoryJournal):
    """A journal that counts as outliving its process."""

    is_durable = True


@contextlib.asynccontextmanager
async def _set_back(by: float) -> AsyncIterator[Engine]:
    """Give a crew that has its lease, ten seconds later, its clock just having been set back."""
    step, loop = [0.0], asyncio.get_running_loop()
    engine = engine_of(Wire(), journal=_Lasting(), clock=lambda: loop.time() + step[0])
    await engine.lease.acquire()
    await asyncio.sleep(10.0)
    step[0] = -by
    yield engine
    await engine.lease.release()


def test_a_no_is_as_young_as_the_later_clock_says() -> None:
    """A clock that was set back makes none older than a call that it answers; what was taken on is as old as it may be."""

    async def story() -> None:
        async with _set_back(5.0) as engine:
            refused = await engine.recorder.apply(await engine.recorder.record("refused", ASKED), REFUSED)
            assert (refused.created_at, refused.state, refused.settled_at) == (5.0, "rejected", 10.0)
            await engine.recorder.record("expired", replace(ASKED, worker=None, expires_at=5.0))
            expired = await engine.recorder.record("expired", ASKED)
            assert (expired.state, expired.settled_at) == ("not_sent", 10.0)

    run(story())


def test_what_may_have_left_by_now_has_left_by_the_later_clock() -> None:
    """Before this call, under another flight of the worker, of that worker: the quiet time begins no sooner than that."""

    async def story() -> None:
        async with _set_back(5.0) as engine:
            before = await engine.recorder.record("before", replace(ASKED, attempted_before=True))
            assert (before.doubt_since, before.could_leave_until) == (5.0, 10.0)
            held = await engine.recorder.record("held", ASKED)
            again = await engine.recorder.record("held", ASKED)
            assert (again.doubt_since, again.could_leave_until) == (5.0, 10.0)
            assert (await engine.recorder.apply(held, Reported())).could_leave_until == 10.0

    run(story())


@pytest.mark.parametrize("by", [0.0, 5.0])
def test_a_none_is_the_last_word_only_before_alphapo_may_have_freed_the_id(by: float) -> None:
    """By the later clock, with any setting of the other one."""

    async def story() -> list[str]:
        async with _set_back(by) as engine:
            result = list[str]()
            for name, since in (("freed", 9.0), ("kept", 11.0)):
                row = await engine.recorder.record(name, ASKED)
                doubt = {
                    "doubt_since": since - 86_400.0,
                    "could_leave_until": 0.0,
                    "refusal": {},
                    "control_seen_at": 9.0,
                }
                doubtful = replace(row, **doubt)
                await engine.journal.update("shop", name, lambda _, doubtful=doubtful: (doubtful, ()))  # type: ignore[misc]
                result.append((await engine.recorder.apply(row, LookedUp("one", NoneFound()))).state)
            return result

    assert run(story()) == ["open", "rejected"]


def test_it_is_told_when_what_was_learned_was_worked_out() -> None:
    """By the clock that is never set, however long the journal takes to answer."""

    async def story() -> tuple[float, float]:
        engine = engine_of(Wire(), journal=_Slow(0.0, 3.0))
        row = await engine.recorder.record("f", ASKED)
        await asyncio.sleep(2.0)
        _, _, worked_out_at = await engine.recorder.apply_and_compare(row, REFUSED)
        return worked_out_at, asyncio.get_running_loop().time()

    assert run(story()) == (2.0, 5.0)


def test_the_latest_acceptances_are_recorded_again_in_a_journal_that_went_back() -> None:
    """Ten thousand are kept in memory, each once; of an older one, and of what is open, nothing is known any more."""

    async def story() -> tuple[bool, bool, str]:
        journal = Standby()
        engine = engine_of(Wire(), journal=journal)
        await engine.lease.acquire()
        payment = Revision(b"{}", PAYMENT)
        paid = Withdrawal(id="7", status="processing", source="reply")
        row = Row(
            account="shop",
            foreign_id="",
            revision=payment,
            key_fingerprint="k",
            created_at=0.0,
            withdrawal=paid,
            state="accepted",
        )
        for number in range(10_002):
            engine.recorder._keep_acceptance(replace(row, foreign_id=f"payout-{number}"))
        engine.recorder._keep_acceptance(replace(row, foreign_id="open", state="open"))
        journal.lag()
        await journal.fail_over()
        await engine.recorder.epochs.look()
        names = ("payout-1", "open", "payout-2")
        older, unpaid, latest = [await journal.find("shop", name) for name in names]
        assert latest is not None
        return older is None, unpaid is None, latest.state

    assert run(story()) == (True, True, "accepted")


def test_an_acceptance_that_the_journal_refuses_unexpectedly_is_offered_again() -> None:
    """Whether it raises at once or when it is awaited; that is reported, with the row and the kind of error."""

    async def story() -> tuple[list[str], str]:
        events: list[str] = []
        journal = MemoryJournal()
        engine = engine_of(Wire(), events, journal)
        row = await engine.recorder.record("f", ASKED)
        errors = [ZeroDivisionError(), ZeroDivisionError()]

        def update(*values: Any, **more: Any) -> Any:
            if len(errors) == 2:
                raise errors.pop()
            return MemoryJournal.update(journal, *values, **more) if not errors else awaited()

        async def awaited() -> Row:
            raise errors.pop()

        journal.update = update  # type: ignore[method-assign]
        _learn_later(engine, row)
        await asyncio.sleep(10)
        found = await journal.find("shop", "f")
        assert found is not None
        return events, found.state

    assert run(story()) == (["task failed"], "accepted")


def test_what_a_worker_does_nothing_for_is_freed_when_the_journal_went_back() -> None:
    """Its release was lost with the journal's last commits; a row that a flight works on is kept."""

    async def story() -> list[str | None]:
        journal = Standby()
        engine = engine_of(Wire(), journal=journal)
        await engine.lease.acquire()
        worker = engine.lease.worker
        for name in ("released", "at work"):
            await engine.recorder.record(name, replace(ASKED, worker=worker))
        journal.lag()
        released = await journal.find("shop", "released")
        assert released is not None
        await engine.recorder.apply(released, Released(worker, "queue", stays_open=True))
        engine.registry.flights["at work"] = cast("Flight", object())
        await journal.fail_over()
        await engine.recorder.epochs.look()
        rows = [await journal.find("shop", name) for name in ("released", "at work")]
        return [None if row is None or row.holder is None else "held" for row in rows]

    assert run(story()) == [None, "held"]


def test_a_withdrawal_that_alphapo_ended_is_recorded_again_in_a_journal_that_went_back() -> None:
    """A caller has received the outcome; a forgotten foreign_id would be new to the journal."""

    async def story() -> str | None:
        journal = Standby()
        engine = engine_of(Wire(), journal=journal)
        await engine.lease.acquire()
        row = await engine.recorder.record("f", ASKED)
        declined = Attempt("one", Accepted(Withdrawal(id=7, foreign_id="f", status="declined")), 0.0, 0.0)
        assert (await engine.recorder.apply(row, declined)).state == "failed"
        await journal.fail_over()
        await engine.recorder.epochs.look()
        known = await journal.find("shop", "f")
        return None if known is None else known.state

    assert run(story()) == "failed"


@pytest.mark.parametrize(("is_at_work", "lines"), [(False, ["request", "lease_expired"]), (True, ["request"])])
def test_the_history_says_when_a_worker_freed_a_row_of_its_own(*, is_at_work: bool, lines: list[str]) -> None:
    """The line shows the operator why the row is in doubt; a row that a flight works on is left as it is, and gets none."""

    async def story() -> list[str]:
        engine = engine_of(Wire())
        await engine.lease.acquire()
        row = await engine.recorder.record("f", replace(ASKED, worker=engine.lease.worker))
        if is_at_work:
            engine.registry.flights["f"] = cast("Flight", object())
        await engine.recorder.free(row)
        return [line.kind for line in await engine.journal.history("shop", "f")]

    assert run(story()) == lines


def test_a_no_that_waited_is_told_as_it_stands() -> None:
    """What is no "no", is another payment's or is unknown to the journal comes back as it is; a "no" that was undone does not."""

    async def story() -> list[tuple[str, str | None]]:
        engine = engine_of(Wire(), journal=_Lasting(), clock=asyncio.get_running_loop().time)
        refused = WithdrawalRejected("No.", foreign_id="f", errors={})
        no = BatchResult(index=0, request=PAYMENT, withdrawal=None, error=refused)
        same = [
            BatchResult(index=0, request=PAYMENT, withdrawal=Withdrawal(id=7, foreign_id="f"), error=None),
            BatchResult(index=0, request="text", withdrawal=None, error=refused),
            no,
        ]
        for result in same:
            assert await engine.recorder.recheck(result) is result
        row = await engine.recorder.record("f", ASKED)
        await engine.recorder.apply(row, REFUSED)
        results = [await engine.recorder.recheck(no)]
        await engine.recorder.apply(row, ACCEPTED)
        results.append(await engine.recorder.recheck(no))
        return [(result.outcome, getattr(result.withdrawal, "source", None)) for result in results]

    assert run(story()) == [("rejected", None), ("accepted", "journal")]


def test_the_rows_of_a_worker_that_is_gone_are_in_doubt_unless_they_were_not_begun() -> None:
    """A claim after theirs would have recorded that they may have begun. Where two workers find it, the end has one line."""

    async def story() -> list[tuple[str | None, float | None, int]]:
        engine = engine_of(Wire())
        await engine.recorder.record("f", replace(ASKED, worker=None))
        found = []
        for begun in (0, 1):
            row = await engine.recorder.apply(
                await engine.recorder.record("f", replace(ASKED, worker=None)), Claimed("one", 1, "key")
            )
            for _ in range(2):
                await engine.recorder.end_holding(row, "one", 9.0, begun)
            row = await engine.recorder.find("f") or row
            lines = [line for line in await engine.journal.history("shop", "f") if line.kind == "lease_expired"]
            found.append((row.holder, row.could_leave_until, len(lines)))
        return found

    assert run(story()) == [(None, None, 0), (None, 9.0, 1)]


async def test_an_acceptance_that_only_a_newer_release_can_read_stops_no_round(tmp_path: Path) -> None:
    """After the journal went back each round recorded it again, and failed: the worker never sent again."""
    path = tmp_path / "journal.db"
    async with client(Wire(), journal=path, _runtime=real_world()) as alphapo:
        await alphapo.withdraw(request("a"))
        await alphapo.withdraw(request("b"))
        await alphapo._engine.journal.find("default", "a")
        with contextlib.closing(sqlite3.connect(path)) as newer:
            newer.execute(
                "update withdrawals set rest = json_set(cast(rest as text), '$.hold_until', 1.0) where foreign_id = 'a'"
            )
            newer.execute("update withdrawals set state = 'open', counted_as = 'open' where foreign_id = 'b'")
            newer.commit()
        await alphapo._engine.journal.raise_epoch(1.0)
        await alphapo._engine.recorder.epochs.look()
        row = await alphapo._engine.journal.find("default", "b")
        assert row is not None
        assert row.state == "accepted"


class _Unanswered(MemoryJournal):
    """Stores what it is handed, and loses its first answers."""

    is_shared = True
    lost = 1

    async def update(self, *what: Any, **how: Any) -> Row:
        row = await super().update(*what, **how)
        self.lost -= 1
        if self.lost >= 0:
            raise JournalError("The answer was lost.", recorded=None)
        return row


def test_what_is_offered_again_is_added_once() -> None:
    """Though its first answer was lost; what was learned since is added, and counts from then."""

    async def story() -> tuple[list[str], list[float], tuple[str, str]]:
        journal = _Unanswered()
        journal.lost = 0
        engine, offer, times = engine_of(Wire(), journal=journal), Offer(), list[float]()
        row = await engine.recorder.record("f", ASKED)
        doubtful = Attempt("one", InDoubt("connection lost"), 0.0, 0.0)
        for lost, evidence in ((1, (doubtful,)), (0, (doubtful,)), (0, (doubtful, Released("one", "closed")))):
            journal.lost = lost
            await asyncio.sleep(1.0)
            with contextlib.suppress(JournalError):
                before, after, when = await engine.recorder.apply_and_compare(row, *evidence, offer=offer)
                times.append(when)
        kinds = [line.kind for line in await journal.history("shop", "f")]
        return kinds, times, (before.holder or "", after.holder or "")

    assert run(story()) == (["request", "attempt", "released"], [1.0, 3.0], ("one", ""))


def test_an_acceptance_that_is_written_late_is_added_once() -> None:
    """Though its first answer was lost."""

    async def story() -> tuple[list[str], int]:
        journal = _Unanswered()
        journal.lost = 0
        engine = engine_of(Wire(), journal=journal)
        row = await engine.recorder.record("f", ASKED)
        journal.lost = 2
        _learn_later(engine, row)
        await asyncio.sleep(30)
        await engine.recorder.flush()
        found = await journal.find("shop", "f")
        assert found is not None
        return [line.kind for line in await journal.history("shop", "f")], found.attempts

    assert run(story()) == (["request", "attempt"], 1)
