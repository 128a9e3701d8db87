"""A journal that goes back in time under its clients: reported, frozen, settled again, and no reported "no" is paid."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from msgspec.structs import replace

from alphapo_async.core.errors import WithdrawalNotSent, WithdrawalRejected, WithdrawalUnknown
from alphapo_async.core.events import Event
from alphapo_async.core.replies import NoReply
from alphapo_async.core.retry_policy import RetryPolicy
from alphapo_async.core.row import Assumptions, Row
from alphapo_async.engine.epoch_watch import EpochWatch
from alphapo_async.engine.observer import Observer
from tests.support.virtual import run
from tests.support.wire import EPOCH, INSUFFICIENT, LOST, NO_CONNECTION, Durable, Standby, Wire, client, request

DAY = 86_400.0
POLICY = RetryPolicy(quiet=30.0, wait_initial=0.1, wait_max=1.0, attempts=3, deadline=5.0)


def named(events: list[Event], name: str) -> list[Event]:
    """Return the events of this name."""
    return [event for event in events if event.name == name]


async def worked(alphapo: Any, seconds: float) -> None:
    """Let a worker work for so long."""
    working = asyncio.ensure_future(alphapo.work())
    await asyncio.sleep(seconds)
    working.cancel()
    await asyncio.wait({working})


def test_a_no_that_was_lost_is_not_paid_by_a_worker() -> None:
    """The row is open again, and frozen: looked up, reported daily, and sent only once a caller asks again."""
    wire, journal, events = Wire([INSUFFICIENT]), Standby(), []  # type: ignore[var-annotated]

    async def story() -> tuple[int, int]:
        async with client(wire, journal=journal, policy=POLICY, on_event=events.append) as alphapo:
            await alphapo.enqueue(request("a"))
            journal.lag()
            with pytest.raises(WithdrawalRejected):
                await alphapo.withdraw(request("a"))
            await journal.fail_over()
            # A worker looks at the journal every second: it works for a while before and after each daily report is due.
            for working, resting in ((600.0, DAY - 660.0), (120.0, DAY - 120.0), (120.0, 0.0)):
                await worked(alphapo, working)
                await asyncio.sleep(resting)
            frozen, posts = (await alphapo.health()).frozen, wire.posts
            assert [(result.outcome, getattr(result.error, "reason", "")) async for result in alphapo.resume()] == [
                ("unknown", "journal went back")
            ]
            assert (await alphapo.totals())["BTC"].unknown > 0
            return frozen, posts

    assert run(story()) == (1, 1)
    assert len(named(events, "journal went back")) == 3
    assert "1 rows are frozen. Your own tables" in (
        events[0].reason or named(events, "journal went back")[0].reason or ""
    )


def test_a_caller_that_asks_again_is_paid() -> None:
    """A look-up, and the same bytes."""
    wire, journal = Wire(), Standby()

    async def story() -> str:
        async with client(wire, journal=journal, policy=POLICY) as alphapo:
            await alphapo.enqueue(request("a"))
            journal.lag()
            await journal.fail_over()
            return (await alphapo.withdraw(request("a"))).source

    assert run(story()) == "reply"
    assert (wire.look_ups, wire.posts) == (1, 1)


def test_a_flight_whose_caller_waits_goes_on_after_the_journal_went_back() -> None:
    """Its row is recorded anew, looked up, and sent again with the same bytes."""
    wire, journal = Wire([LOST]), Standby()

    async def story() -> str:
        async with client(wire, journal=journal, policy=RetryPolicy(wait_initial=2.0, wait_max=4.0)) as alphapo:
            await alphapo.enqueue(request("a"))
            journal.lag()
            paying = asyncio.ensure_future(alphapo.withdraw(request("a")))
            await asyncio.sleep(0.1)
            await journal.fail_over()
            await paying
            await asyncio.sleep(0.1)
            row = await journal.find("default", "a")
            assert row is not None
            return f"{row.state} {row.epoch}"

    assert run(story()) == "accepted 1"
    assert len(set(wire.bodies["a"])) == 1


def test_a_row_that_was_recorded_before_the_journal_went_back_and_answered_after_it_is_frozen() -> None:
    """The journal that is there now has nothing of it: it is recorded anew and looked up before a body leaves."""

    class Late(Standby):
        """A journal that goes back while its first answer is on its way."""

        async def update(self, account: str, foreign_id: str, change: Any, **how: Any) -> Row:
            """Write it, and lose it before that is known."""
            row = await super().update(account, foreign_id, change, **how)
            if self.epoch.number == 0:
                await self.fail_over()
            return row

    wire, journal = Wire(), Late()

    async def story() -> tuple[str, int]:
        async with client(wire, journal=journal, policy=POLICY) as alphapo:
            await alphapo.withdraw(request("a"))
            row = await journal.find("default", "a")
            assert row is not None
            return row.state, row.epoch

    assert run(story()) == ("accepted", 1)
    assert [method for _, method in wire.times] == ["GET", "POST"]


def test_an_acceptance_that_a_worker_remembers_is_recorded_again() -> None:
    """Also where the journal has nothing of the withdrawal any more."""
    wire, journal = Wire(), Standby()

    async def story() -> list[str]:
        async with client(wire, journal=journal, policy=POLICY) as alphapo:
            await alphapo.enqueue(request("a"))
            journal.lag()
            for name in ("a", "b"):
                await alphapo.withdraw(request(name))
            await asyncio.sleep(1)
            await journal.fail_over()
            await worked(alphapo, 2)
            assert (await alphapo.health()).frozen == 0
            rows = [await journal.find("default", name) for name in ("a", "b")]
            lines = await journal.history("default", "b")
            return [*(row.state for row in rows if row is not None), lines[-1].kind]

    assert run(story()) == ["accepted", "accepted", "remembered"]
    assert wire.posts == 2


@pytest.mark.parametrize("is_paid_since", [False, True])
def test_a_recorded_no_is_repeated_only_after_a_look_up(is_paid_since: bool) -> None:  # noqa: FBT001 - both ways
    """It may have been paid in what was lost; then the look-up shows that."""
    wire, journal = Wire([INSUFFICIENT]), Standby()

    async def story() -> str:
        async with client(wire, journal=journal, policy=POLICY) as alphapo:
            with pytest.raises(WithdrawalRejected):
                await alphapo.withdraw(request("a"))
            journal.lag()
            if is_paid_since:
                wire._accept("a", {"currency": "BTC", "amount": "0.0015", "address": "bc1qmadeup"})
            await journal.fail_over()
            try:
                return (await alphapo.withdraw(request("a"))).source
            except WithdrawalRejected as error:
                return error.outcome

    assert run(story()) == ("journal" if is_paid_since else "rejected")
    assert (wire.posts, wire.look_ups) == (1, 1)


def test_a_no_that_alphapo_does_not_confirm_is_unknown() -> None:
    """To a caller, to an enqueuer, and to whoever takes what nobody heard of; that comes with a later pass."""
    wire, journal = Wire([INSUFFICIENT]), Standby()

    async def story() -> list[list[tuple[str, str]]]:
        async with client(wire, journal=journal, policy=POLICY) as alphapo:
            await alphapo.enqueue(request("a"))
            await worked(alphapo, 2)
            row = await journal.find("default", "a")
            assert row is not None
            await journal.update("default", "a", lambda _: (unreported(row), ()))
            journal.lag()
            await journal.fail_over()
            wire.scripts["GET"] = [NoReply("no answer in time", may_have_left=True)] * 3
            for call in (alphapo.withdraw, alphapo.enqueue):
                with pytest.raises(WithdrawalUnknown) as caught:
                    await call(request("a"))
                assert caught.value.reason == "journal went back"
            return [
                [(result.request.foreign_id, result.outcome) async for result in alphapo.resume()] for _ in range(2)
            ]

    assert run(story()) == [[], [("a", "rejected")]]
    assert wire.posts == 1


def unreported(row: Row) -> Row:
    """Return the row whose outcome was not handed out."""
    return replace(row, reported=False)


@pytest.mark.parametrize("is_known_to_alphapo", [False, True])
def test_an_id_that_the_journal_forgot_is_looked_up_first(is_known_to_alphapo: bool) -> None:  # noqa: FBT001 - both ways
    """Found, it is ours; not found, it is sent; both requests are free."""
    wire, journal = Wire(), Standby()

    async def story() -> str:
        async with client(wire, journal=journal, policy=RetryPolicy.none()) as alphapo:
            await journal.fail_over()
            if is_known_to_alphapo:
                wire._accept("a", {"currency": "BTC", "amount": "0.0015", "address": "bc1qmadeup"})
            paid = await alphapo.withdraw(request("a"))
            assert (await alphapo.health()).retry_budget_left == 100.0
            return paid.source

    assert run(story()) == ("look-up" if is_known_to_alphapo else "reply")
    assert (wire.look_ups, wire.posts) == (1, 0 if is_known_to_alphapo else 1)


def test_an_id_that_earlier_request_possible_is_not_told_as_not_sent_without_a_look_up() -> None:
    """It may have been paid before the journal went back."""
    wire, journal = Wire(), Standby()

    async def story(*, answers: bool) -> str:
        async with client(wire, journal=journal, policy=POLICY) as alphapo:
            await journal.fail_over()
            wire.always = NO_CONNECTION
            wire.scripts["GET"] = [] if answers else [NO_CONNECTION] * 9
            with pytest.raises((WithdrawalUnknown, WithdrawalNotSent)) as caught:
                await alphapo.withdraw(request("b" if answers else "a"))
            return caught.value.outcome

    assert run(story(answers=False)) == "unknown"
    assert run(story(answers=True)) == "not_sent"


def test_a_restored_journal_is_frozen() -> None:
    """`resume --restored` begins an epoch, looks everything up and sends nothing; neither does a worker afterwards."""
    wire, journal = Wire(), Standby()

    async def story() -> int:
        async with client(wire, journal=journal, policy=POLICY) as alphapo:
            await alphapo.enqueue(request("a"), expires_in=60.0)
            assert [result.outcome async for result in alphapo.resume(restored=True)] == ["unknown"]
            await worked(alphapo, 3_600)
            return journal.epoch.number

    assert run(story()) == 1
    assert wire.posts == 0
    assert wire.look_ups > 3


def test_a_lease_that_was_lost_is_taken_anew_before_anything_is_sent() -> None:
    """Calls that record something in the new epoch at the same time all wait for the lease, and the epoch is reported once."""
    wire, journal, events = Wire(), Standby(), []  # type: ignore[var-annotated]

    async def story() -> list[Any]:
        async with client(wire, journal=journal, policy=POLICY, on_event=events.append) as alphapo:
            await alphapo.withdraw(request("payout-1"))
            journal.lag()
            await journal.fail_over()
            journal._workers.clear()
            calls = (alphapo.withdraw(request(name)) for name in ("payout-2", "payout-3"))
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            posts = wire.posts
            await asyncio.sleep(1.0)
            await alphapo.withdraw(request("payout-2"))
            return [posts, *map(type, outcomes)]

    assert run(story()) == [1, WithdrawalNotSent, WithdrawalNotSent]
    assert wire.posts == 2
    assert len(named(events, "journal went back")) == 1


# ── the watch by itself ──────────────────────────────────────────────────────────────────────────────────────────────


class Watched:
    """A watch over a journal in memory; counts what it does."""

    def __init__(self, frozen: int = 0) -> None:
        self.events: list[Event] = []
        self.leases = self.recordings = 0
        self.now = EPOCH
        self.journal = Frozen(frozen)
        self.watch = EpochWatch(
            journal=self.journal,
            account="shop",
            observer=Observer("shop", self.events.append, lambda: self.now),
            clock=lambda: self.now,
            assumptions=Assumptions(resend_within=100.0),
            confirm_lease=self._confirm_lease,
            record_again=self._record_again,
        )

    async def _confirm_lease(self) -> None:
        self.leases += 1

    async def _record_again(self) -> None:
        self.recordings += 1
        await asyncio.sleep(1.0)


class Frozen(Durable):
    """A journal with so many frozen rows."""

    def __init__(self, frozen: int) -> None:
        super().__init__()
        self._frozen = frozen

    async def count_frozen(self, account: str) -> int:
        """Return the number that was handed in."""
        return self._frozen


def test_looks_at_the_same_time_report_an_epoch_once() -> None:
    """One records the acceptances again and reports; the others wait for the lease alone, which is confirmed once."""
    watched = Watched(frozen=3)

    async def story() -> None:
        await watched.journal.raise_epoch(EPOCH)
        await asyncio.gather(*(watched.watch.look() for _ in range(3)))
        await watched.watch.look()

    run(story())

    assert (watched.leases, watched.recordings) == (1, 1)
    assert [event.name for event in watched.events] == ["journal went back"]


@pytest.mark.parametrize(("after", "events"), [(99.0, 1), (100.0, 0)])
def test_an_epoch_without_frozen_rows_is_reported_while_ids_earlier_request_possible(after: float, events: int) -> None:
    """From `resend_within` after its first sight on it changes nothing, and is no event."""
    watched = Watched()

    async def story() -> None:
        await watched.journal.raise_epoch(EPOCH)
        watched.now = EPOCH + after
        await watched.watch.look()

    run(story())

    assert len(watched.events) == events
    assert watched.watch.number == 1
