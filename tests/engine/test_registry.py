"""At most one flight for each foreign_id, and what its callers hear."""

import asyncio
import contextlib
import random
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest
from msgspec.structs import replace

from alphapo_async.client import AlphapoClient
from alphapo_async.core.claims import Claim
from alphapo_async.core.errors import (
    ConfigurationError,
    ForeignIdConflict,
    InvalidRequest,
    JournalError,
    WithdrawalError,
    WithdrawalNotSent,
    WithdrawalRejected,
    WithdrawalUnknown,
)
from alphapo_async.core.events import Event
from alphapo_async.core.evidence import Revision
from alphapo_async.core.models import Withdrawal
from alphapo_async.core.replies import NoReply, Reply
from alphapo_async.core.retry_policy import RetryPolicy
from alphapo_async.core.row import Row
from alphapo_async.engine.context import Runtime
from alphapo_async.engine.work_loop import WorkLoop
from alphapo_async.journal.memory import MemoryJournal
from tests.support.clocks import WallClock
from tests.support.logs import raising_at
from tests.support.virtual import run
from tests.support.wire import (
    EPOCH,
    HTML_502,
    INSUFFICIENT,
    LOST,
    NO_CONNECTION,
    TAKEN,
    Durable,
    Failing,
    SlowToOpen,
    Wire,
    client,
    reply,
    request,
)


def test_an_amount_that_a_json_number_would_round_is_refused_before_the_journal() -> None:
    """In "number" format such an amount is refused with advice, and goes out exactly in "string" format."""
    exact = request(amount="0.123456789012345678")

    async def story() -> list[Any]:
        journal, wire = MemoryJournal(), Wire()
        async with client(wire, journal=journal) as alphapo:
            with pytest.raises(InvalidRequest, match="string"):
                await alphapo.withdraw(exact)
            assert await journal.find("default", exact.foreign_id) is None
        async with client(wire, amount_format="string") as alphapo:
            await alphapo.withdraw(exact)
        return wire.bodies[exact.foreign_id]

    (body,) = run(story())
    assert b'"amount":"0.123456789012345678"' in body


def test_something_else_than_a_request_is_refused() -> None:
    """A mapping is no WithdrawalRequest, and nothing is sent."""

    async def story() -> int:
        wire = Wire()
        async with client(wire) as alphapo:
            with pytest.raises(ConfigurationError):
                await alphapo.withdraw({"currency": "BTC"})  # type: ignore[arg-type]
            with pytest.raises(ConfigurationError):
                await alphapo.withdraw(request(), deadline=-1)
        return wire.posts

    assert run(story()) == 0


def test_callers_of_one_foreign_id_share_a_flight() -> None:
    """Fifty callers, one POST, and each has a result of its own."""

    async def story() -> tuple[list[Withdrawal], int]:
        wire = Wire()
        async with client(wire) as alphapo:
            outcomes = await asyncio.gather(*(alphapo.withdraw(request()) for _ in range(50)))
        return outcomes, wire.posts

    outcomes, posts = run(story())

    assert posts == 1
    assert {withdrawal.foreign_id for withdrawal in outcomes} == {"payout-17"}


def test_each_caller_has_an_exception_of_his_own() -> None:
    """A shared outcome is no shared exception object, whose traceback would grow with every caller."""

    async def story() -> list[Any]:
        wire = Wire([reply(403, {"error": "Bad key header", "code": "bad_header_key"})])
        async with client(wire) as alphapo:
            return await asyncio.gather(*(alphapo.withdraw(request()) for _ in range(3)), return_exceptions=True)

    outcome = run(story())

    assert len({id(error) for error in outcome}) == 3
    assert all(error.__cause__ is None and error.__context__ is None for error in outcome)


def test_another_payment_under_the_same_id_at_the_same_time_is_a_conflict() -> None:
    """The second payload is turned away while the first is under way; nothing of it leaves, and its funds stay where they are."""

    async def story() -> tuple[Any, int]:
        wire = Wire(seconds=1)
        async with client(wire) as alphapo:
            first = asyncio.ensure_future(alphapo.withdraw(request()))
            await asyncio.sleep(0.1)
            with pytest.raises(ForeignIdConflict) as caught:
                await alphapo.withdraw(request(amount="7"))
            await first
        return caught.value, wire.posts

    result, posts = run(story())

    assert not result.may_release_funds
    assert (result.existing.state, result.existing.payment) == ("open", request())
    assert "wait for its outcome" in result.next_step
    assert posts == 1


def test_a_retry_with_another_amount_is_not_advised_to_pay_again() -> None:
    """payout-17 is paid with 25.00; its retry says 24.90: the first stands, and the funds are not to be released."""

    async def story() -> tuple[Any, int]:
        wire = Wire()
        async with client(wire) as alphapo:
            await alphapo.withdraw(request(amount="25.00"))
            with pytest.raises(ForeignIdConflict) as caught:
                await alphapo.withdraw(request(amount="24.90"))
        return caught.value, wire.posts

    result, posts = run(story())

    assert (result.may_release_funds, result.is_retry_safe, result.attempts, posts) == (False, False, 0, 1)
    assert (result.existing.state, result.existing.payment.amount) == ("accepted", Decimal("25.00"))
    assert result.existing.id is not None
    assert "If you meant the same payout, do nothing: the existing one stands." in result.next_step


def test_a_conflict_is_followed_until_what_alphapo_shows_has_ended() -> None:
    """A worker looks the existing withdrawal up again, and a later call learns that no money moved under this foreign_id."""

    def shown(status: str) -> Reply:
        place, sent = {"address": "bc1qother"}, {"currency": "BTC", "amount": "9"}
        result = {"id": 9, "foreign_id": "payout-17", "status": status, "crypto_address": place, "currency_sent": sent}
        return reply(200, result)

    async def story() -> list[Any]:
        wire, result = Wire([TAKEN], [shown("not_confirmed"), shown("cancelled")]), []
        async with client(wire, journal=Durable()) as alphapo:
            for _ in range(2):
                with pytest.raises(ForeignIdConflict) as caught:
                    await alphapo.withdraw(request())
                result.append((caught.value.may_release_funds, caught.value.existing.status, wire.posts))
                working = asyncio.ensure_future(alphapo.work())
                await asyncio.sleep(2 * 3_600)
                working.cancel()
        return result

    assert run(story()) == [(False, "not_confirmed", 1), (True, "cancelled", 1)]


class _Slow(MemoryJournal):
    """A journal that takes a second for everything."""

    async def update(self, account: str, foreign_id: str, change: Any, **how: Any) -> Row:
        await asyncio.sleep(1)
        return await super().update(account, foreign_id, change, **how)


def test_a_wrong_payload_that_came_first_does_not_turn_the_right_one_away() -> None:
    """The journal knows the right payment in doubt; a wrong payload is being checked just when the right one is asked for again."""

    async def story() -> tuple[Any, Any]:
        journal = _Slow()
        wire = Wire(["accept, lost"], [HTML_502])
        async with client(wire, journal=journal, policy=RetryPolicy.none()) as first:
            with pytest.raises(WithdrawalUnknown):
                await first.withdraw(request())
        async with client(wire, journal=journal) as alphapo:
            wrong = asyncio.ensure_future(alphapo.withdraw(request(amount="7")))
            await asyncio.sleep(0.5)
            right = asyncio.ensure_future(alphapo.withdraw(request()))
            return await asyncio.gather(wrong, right, return_exceptions=True)

    wrong, right = run(story())

    assert isinstance(wrong, ForeignIdConflict)
    assert isinstance(right, Withdrawal)


def test_three_payloads_under_one_id_are_sorted_out() -> None:
    """Three payloads arrive together: one is paid, the two others are conflicts, and none waits for ever."""

    async def story() -> tuple[list[Any], int, Any]:
        wire = Wire()
        journal = _Slow()
        async with client(wire, journal=journal) as alphapo:
            await alphapo.withdraw(request(amount="1"))
            outcomes = await asyncio.gather(
                *(alphapo.withdraw(request(amount=str(amount))) for amount in (2, 3, 1, 4)), return_exceptions=True
            )
            return outcomes, wire.posts, await alphapo.totals()

    outcomes, posts, totals = run(story())

    assert [type(one) for one in outcomes] == [ForeignIdConflict, ForeignIdConflict, Withdrawal, ForeignIdConflict]
    assert posts == 1
    assert totals["BTC"].requested == totals["BTC"].accepted == 1


def test_closing_without_grace_cancels_what_is_under_way() -> None:
    """A caller who still waits hears that the client was closed."""

    async def story() -> Any:
        alphapo = client(Wire(["silent"]))
        paying = asyncio.ensure_future(alphapo.withdraw(request()))
        await asyncio.sleep(0.1)
        await alphapo.aclose(grace=0)
        with pytest.raises(WithdrawalUnknown) as caught:
            await paying
        return caught.value.reason

    assert run(story()) == "closing"


def test_a_journal_that_breaks_its_promise_leaves_nobody_waiting(caplog: pytest.LogCaptureFixture) -> None:
    """A journal that raises something else than JournalError: the caller hears unknown, and the log says where, not what."""

    class Broken(MemoryJournal):
        url = "postgresql://user:hush@host"

        async def update(self, account: str, foreign_id: str, change: Any, **how: Any) -> Row:
            raise KeyError(self.url)

    class BrokenLater(Broken):
        has_worked = False

        async def update(self, account: str, foreign_id: str, change: Any, **how: Any) -> Row:
            if self.has_worked:
                raise KeyError(self.url)
            self.has_worked = True
            return await MemoryJournal.update(self, account, foreign_id, change, **how)

    async def story(journal: MemoryJournal) -> WithdrawalError:
        async with client(Wire([NO_CONNECTION]), journal=journal) as alphapo:
            with pytest.raises(WithdrawalUnknown) as caught:
                await alphapo.withdraw(request())
            return caught.value

    for journal in (Broken(), BrokenLater()):
        outcome = run(story(journal))
        assert isinstance(outcome, WithdrawalUnknown)
        assert outcome.reason == "internal error"
    assert "KeyError" in caplog.text
    assert "hush" not in caplog.text


def test_a_filter_of_the_log_that_raises_leaves_no_caller_waiting(caplog: pytest.LogCaptureFixture) -> None:
    """The caller gets its outcome at once, and the foreign_id is free for the next call."""

    async def story() -> tuple[float, str, str]:
        loop = asyncio.get_running_loop()
        async with client(Wire(), journal=Durable(), on_event=lambda _: None) as alphapo:
            began = loop.time()
            first = await alphapo.withdraw(request())
            waited = loop.time() - began
            return waited, first.source, (await alphapo.withdraw(request())).source

    with raising_at(caplog, "ended"):
        waited, *sources = run(story())
    assert waited < 1.0
    assert sources == ["reply", "journal"]
    assert "withdrawal 'payout-17': its end could not be logged: KeyError" in caplog.text


class _Stuck(Durable):
    """A journal that takes nothing."""

    async def update(self, *args: Any, **how: Any) -> Row:
        await asyncio.sleep(1e6)
        return await super().update(*args, **how)


@pytest.mark.parametrize(
    ("journal", "grace", "second"),
    [
        (_Stuck(), 0.0, lambda alphapo: alphapo.withdraw(request(amount="2"))),
        (Durable(), 5.0, lambda alphapo: alphapo.withdraw(request(), attempted_before=True)),
    ],
)
def test_a_call_that_waits_for_another_flight_at_closing_is_unknown(
    journal: Durable, grace: float, second: Callable[[AlphapoClient], Any]
) -> None:
    """Money may have moved under its foreign_id: a ConfigurationError would read as if nothing had."""

    async def story() -> list[Any]:
        async with client(Wire([INSUFFICIENT], seconds=1.0), journal=journal, close_grace=grace) as alphapo:
            calls = [asyncio.ensure_future(alphapo.withdraw(request()))]
            await asyncio.sleep(0.1)
            calls.append(asyncio.ensure_future(second(alphapo)))
            await asyncio.sleep(0.1)
        return await asyncio.gather(*calls, return_exceptions=True)

    _, ended = run(story())
    assert isinstance(ended, WithdrawalUnknown)
    assert (ended.reason, ended.may_release_funds) == ("closing", False)


@pytest.mark.parametrize("fails", [False, True])
def test_a_filter_of_the_log_that_always_raises_leaves_no_row_held(
    caplog: pytest.LogCaptureFixture, *, fails: bool
) -> None:
    """Also where the journal takes nothing for a while, an attempt is recorded, and other workers may continue with the row."""
    journal = Failing()

    class Falling(Wire):
        """The journal fails while a body is under way."""

        async def _play(self, *what: Any) -> Reply | NoReply:
            journal.fails_with = JournalError("The journal is lost.") if fails else None
            return await super()._play(*what)

    async def story() -> list[tuple[str, str | None, bool]]:
        found: list[tuple[str, str | None, bool]] = []
        async with client(Falling(), journal=journal, policy=RetryPolicy.none()) as alphapo:
            for name, script in (("lost", [LOST]), ("paid", [])):
                alphapo._engine.session.scripts["POST"] = script  # type: ignore[attr-defined]
                with contextlib.suppress(WithdrawalUnknown):
                    await alphapo.withdraw(request(name))
                await asyncio.sleep(5)
                journal.fails_with = None
                await asyncio.sleep(60)
                row = await journal.find("default", name)
                assert row is not None
                found.append((row.state, row.holder, row.doubt_since is not None))
            assert alphapo._registry.flights == {}
        return found

    with raising_at(caplog):
        assert run(story()) == [("open", None, True), ("accepted", None, False)]


def test_a_pass_shares_the_flight_of_a_caller() -> None:
    """One flight for each foreign_id, for all its callers."""
    wire, journal = Wire(["silent"]), Durable()

    async def story() -> list[str]:
        async with client(wire, journal=journal) as alphapo:
            flight = asyncio.ensure_future(alphapo.withdraw(request()))
            await asyncio.sleep(1)
            results = [result.outcome async for result in alphapo.resume()]
            await flight
            return [*results]

    assert run(story()) == ["accepted"]
    assert wire.posts == 2


@pytest.mark.parametrize("outcome", ["accepted", "rejected"])
def test_a_pass_does_not_tell_one_payment_as_another(outcome: str) -> None:
    """A row found open may be refused and corrected before its turn comes: it waits for the correction, and tells of that."""
    wire, journal = Wire([INSUFFICIENT, *([INSUFFICIENT] if outcome == "rejected" else ["silent"])]), Durable()

    async def story() -> tuple[Any, str]:
        async with client(wire, journal=journal) as alphapo:
            await alphapo.enqueue(request())
            found = await journal.find("default", "payout-17")
            assert found is not None
            with pytest.raises(WithdrawalRejected):
                await alphapo.withdraw(request())
            correcting = asyncio.ensure_future(alphapo.withdraw(request(amount="2")))
            await asyncio.sleep(0.005)  # it is on the wire
            result = await WorkLoop(alphapo._engine, 1)._settle(found)
            await asyncio.gather(correcting, return_exceptions=True)
            answer = await journal.find("default", "payout-17")
            assert answer is not None
            assert answer.settled_by is not None  # what was settled meanwhile is reported, and not worked on again
            return result.request.amount, result.outcome

    assert run(story()) == (Decimal(2), outcome)


class _Shy(Durable):
    """A journal that does not open."""

    def __init__(self, seconds: float) -> None:
        super().__init__()
        self.seconds = seconds

    async def join(self, account: str, host: str, worker: str, until: float) -> None:
        await asyncio.sleep(self.seconds)
        raise JournalError("It is on fire.")


@pytest.mark.parametrize(
    ("seconds", "deadline", "says", "recorded"),
    [
        (0.0, None, "It is on fire.", False),
        (90.0, None, "The journal could not be opened in time.", None),
        (9.0, 1.0, "The journal could not be opened in time.", None),
    ],
)
def test_a_journal_that_does_not_open_is_told_in_time(
    seconds: float, deadline: float | None, says: str, recorded: object
) -> None:
    """Nothing was sent by this call; what stands in the journal only the journal can say."""
    wire = Wire()

    async def story() -> float:
        alphapo = client(wire, journal=_Shy(seconds))
        with pytest.raises(JournalError) as caught:
            await alphapo.withdraw(request(), deadline=deadline)
        assert str(caught.value).startswith(f"Withdrawal 'payout-17' was not sent by this call. {says}")
        assert (caught.value.recorded, caught.value.foreign_id) == (recorded, "payout-17")
        await alphapo.aclose()
        return asyncio.get_running_loop().time()

    assert run(story()) <= 60
    assert wire.times == []


def test_an_earlier_attempt_counts_for_whoever_says_it_although_a_flight_is_shared() -> None:
    """The flight of a caller who knew nothing says "not sent"; the one who knows gets the truth."""
    wire = Wire([reply(429, {})])
    wire._accept("payout-17", {"currency": "BTC", "amount": "0.0015", "address": "bc1qmadeup"})

    async def story() -> list[Any]:
        async with client(wire, policy=RetryPolicy(attempts=1)) as alphapo:
            calls = [alphapo.withdraw(request()), alphapo.withdraw(request(), attempted_before=True)]
            return list(await asyncio.gather(*calls, return_exceptions=True))

    unaware, aware = run(story())
    assert isinstance(unaware, WithdrawalNotSent)
    assert isinstance(aware, Withdrawal)


def test_another_payment_of_the_same_moment_does_not_wait_for_the_first() -> None:
    """It gets the conflict as soon as the journal has answered, and keeps no other flight alive."""
    wire = Wire(["silent"])

    async def story() -> float:
        async with client(wire, close_grace=0.0) as alphapo:
            first = asyncio.ensure_future(alphapo.withdraw(request()))
            await asyncio.sleep(0)
            with pytest.raises(ForeignIdConflict):
                await alphapo.withdraw(request(amount="0.02"), deadline=0.5)
            result = asyncio.get_running_loop().time()
            first.cancel()
            return result

    assert run(story()) < 0.1


def test_another_payment_is_told_in_time_if_the_journal_does_not_answer() -> None:
    """Unknown: the journal may know this very payment."""

    class Slow(MemoryJournal):
        async def update(self, account: str, foreign_id: str, change: Any, **how: Any) -> Row:
            await asyncio.sleep(30)
            return await super().update(account, foreign_id, change, **how)

    async def story() -> float:
        async with client(Wire(), journal=Slow(), close_grace=0.0) as alphapo:
            first = asyncio.ensure_future(alphapo.withdraw(request()))
            await asyncio.sleep(0)
            with pytest.raises(WithdrawalUnknown):
                await alphapo.withdraw(request(amount="0.02"), deadline=0.5)
            result = asyncio.get_running_loop().time()
            first.cancel()
            return result

    assert run(story()) == pytest.approx(0.5)


def test_a_row_that_was_taken_on_unheard_is_free_for_others_in_a_moment() -> None:
    """The journal took it and its answer was lost: the caller hears so at once, and the flight lets go of the row by itself."""

    class Silent(Durable):
        calls = 0

        async def update(self, account: str, foreign_id: str, change: Any, **how: Any) -> Row:
            self.calls += 1
            written = await super().update(account, foreign_id, change, **how)
            if self.calls == 1:
                raise JournalError("The answer was lost.", recorded=None)
            return written

    journal = Silent()

    async def story() -> tuple[float, str | None]:
        async with client(Wire(), journal=journal) as alphapo:
            with pytest.raises(JournalError):
                await alphapo.withdraw(request())
            seen = asyncio.get_running_loop().time()
            await asyncio.sleep(1.5)
            row = await journal.find("default", "payout-17")
            assert row is not None
            return seen, row.holder

    assert run(story()) == (0.0, None)


@pytest.mark.parametrize(("amount", "expected"), [("0.0015", "not_sent"), ("7", None)])
@pytest.mark.parametrize("how", [AlphapoClient.withdraw, AlphapoClient.enqueue])
def test_a_call_is_as_old_as_its_beginning_however_long_the_journal_takes_to_open(
    how: Any, amount: str, expected: str | None
) -> None:
    """A "no" that others were told meanwhile answers the same payment, and another payment becomes the next revision: no conflict."""
    journal = SlowToOpen()

    async def story() -> list[Any]:
        first = client(Wire([NO_CONNECTION]), journal=journal, policy=RetryPolicy.none())
        second = client(Wire(), journal=journal)
        async with first:
            early = asyncio.ensure_future(how(second, request(amount=amount)))
            await asyncio.sleep(1)
            outcomes = await asyncio.gather(first.withdraw(request()), early, return_exceptions=True)
        await second.aclose()
        return [getattr(one, "outcome", None) for one in outcomes]

    assert run(story()) == ["not_sent", expected]


class Lapsing(SlowToOpen):
    """A journal that prolongs no lease."""

    async def renew(self, worker: str, until: float, now: float) -> bool:
        """Fail."""
        raise JournalError("It is on fire.")


def test_a_client_that_is_closed_while_its_journal_opens_begins_nothing() -> None:
    """Not even where it waits for an earlier withdrawal: the call that opened the journal anew hears that the client is closed."""
    wire, journal = Wire([reply(429, {}, retry_after="3600")]), Lapsing()

    async def story() -> Row | None:
        alphapo = client(wire, journal=journal)
        waiting = asyncio.ensure_future(alphapo.withdraw(request("first"), deadline=7_200))
        await asyncio.sleep(1_800)
        assert not alphapo._engine.lease.is_running
        late = asyncio.ensure_future(alphapo.withdraw(request()))
        await asyncio.sleep(1)
        closing = asyncio.ensure_future(alphapo.aclose(grace=60))
        with pytest.raises(ConfigurationError, match="closed"):
            await late
        await closing
        await asyncio.gather(waiting, return_exceptions=True)
        return await journal.find("default", "payout-17")

    assert run(story()) is None
    assert wire.posts == 1


def test_another_payment_s_flight_that_is_over_elsewhere_is_no_conflict() -> None:
    """It was refused, and has not heard so yet; another worker has gone on with the row, and paid this payment."""
    wire = Wire()

    class Late(Durable):
        """A journal whose rejections are seen at once, and told three seconds later."""

        async def update(self, *args: Any, **how: Any) -> Row:
            row = await super().update(*args, **how)
            if row.state == "rejected":
                await asyncio.sleep(3.0)
            return row

    async def story() -> list[Any]:
        journal = Late()
        async with client(Wire([INSUFFICIENT]), journal=journal) as first, client(wire, journal=journal) as second:
            refused = asyncio.ensure_future(first.withdraw(request(amount="7")))
            await asyncio.sleep(1)
            elsewhere = await second.withdraw(request())
            here = await first.withdraw(request())
            return [elsewhere.status, here.status, type((await asyncio.gather(refused, return_exceptions=True))[0])]

    assert run(story()) == ["processing", "processing", ForeignIdConflict]
    assert wire.posts == 1


@pytest.mark.parametrize(
    ("seconds", "expected"), [(0.1, ForeignIdConflict), (9.0, JournalError), (100.0, WithdrawalUnknown)]
)
def test_a_conflict_is_told_on_what_the_journal_says_now(seconds: float, expected: type) -> None:
    """A journal that does not say it in time leaves it open."""

    class Slow(Durable):
        """A journal that takes so long to be read."""

        async def find(self, *args: Any) -> Row | None:
            await asyncio.sleep(seconds)
            return await super().find(*args)

    async def story() -> BaseException:
        async with client(Wire(["silent"]), journal=Slow()) as alphapo:
            paying = asyncio.ensure_future(alphapo.withdraw(request()))
            await asyncio.sleep(1)
            with pytest.raises((WithdrawalError, JournalError)) as error:
                await alphapo.withdraw(request(amount="7"))
            paying.cancel()
            return error.value

    error = run(story())
    assert type(error) is expected
    if expected is ForeignIdConflict:
        assert "another amount; that one is open" in str(error)


def test_what_was_attempted_before_counts_where_a_call_is_shared_that_did_not_know_it() -> None:
    """It was paid by an earlier system, and the call that came first gets "not sent"; a call that knew of it does not."""
    wire = Wire([NO_CONNECTION])
    wire._accept("payout-17", {"currency": "BTC", "amount": "0.0015", "address": "bc1qmadeup"})

    async def story() -> list[Any]:
        async with client(wire, journal=Durable(), policy=RetryPolicy(attempts=1)) as alphapo:
            unaware = asyncio.ensure_future(alphapo.withdraw(request()))
            await asyncio.sleep(0.001)
            aware = await alphapo.withdraw(request(), attempted_before=True)
            return [aware.status, type((await asyncio.gather(unaware, return_exceptions=True))[0])]

    assert run(story()) == ["not_confirmed", WithdrawalNotSent]


def test_closing_leaves_nothing_at_work_where_the_journal_takes_nothing() -> None:
    """What a flight owes a journal that is down is left as it stands: closing is bounded, and each caller hears something."""

    class Down(Durable):
        is_down = False

        async def update(self, *args: Any, **how: Any) -> Row:
            if self.is_down:
                raise JournalError("down", recorded=None)
            return await super().update(*args, **how)

    class Hanging(Durable):
        is_down = False

        async def update(self, *args: Any, **how: Any) -> Row:
            await asyncio.sleep(1e6 if self.is_down else 0.0)
            return await super().update(*args, **how)

    async def story(journal: Down | Hanging) -> tuple[str, float, int]:
        async with client(Wire(["silent"]), journal=journal) as alphapo:
            calling = asyncio.ensure_future(alphapo.withdraw(request()))
            await asyncio.sleep(1)
            journal.is_down = True
            await alphapo.aclose(grace=2.0)
            with pytest.raises(WithdrawalUnknown) as caught:
                await calling
        return caught.value.reason, asyncio.get_running_loop().time(), len(asyncio.all_tasks())

    assert run(story(Down())) == ("journal", 3.8, 1)
    assert run(story(Hanging())) == ("closing", 3.9, 1)


async def _no_rest(_seconds: float) -> None:
    """Rest for no time."""


def row_of_batch(report: Callable[[Any], None], at_end: Callable[[Any], None] = lambda _: None) -> dict[str, Any]:
    """Return how a batch calls `pay_row`."""
    return {"resend_rejected": False, "report": report, "rest": _no_rest, "is_probe": True, "at_end": at_end}


def test_a_row_of_a_batch_reports_what_withdraw_raises() -> None:
    """And hands out how to give it up; a listener is called as the flight begins."""

    async def story() -> list[Any]:
        events: list[Event] = []
        async with client(Wire(), on_event=events.append) as alphapo:
            let_go: list[Any] = []
            reported: list[Any] = []
            how = row_of_batch(reported.append, let_go.append)
            await alphapo._registry.pay_row(request(), **how)
            await alphapo._registry.pay_row(request("b", amount="0.12345678901234567"), **how)
            return [*map(type, reported), len(let_go), events[0].name]

    assert run(story()) == [Withdrawal, InvalidRequest, 1, "begun"]


def test_a_row_of_a_batch_shares_the_flight_of_its_payment() -> None:
    """Whether the row came first or second: one body, and each has the outcome."""

    async def story() -> tuple[list[type], int]:
        wire, reported = Wire(seconds=1), list[Any]()
        async with client(wire) as alphapo:
            how, pay = row_of_batch(reported.append), alphapo._registry.pay_row
            first = [
                asyncio.ensure_future(alphapo.withdraw(request())),
                asyncio.ensure_future(pay(request("b"), **how)),
            ]
            await asyncio.sleep(0.1)
            await asyncio.gather(pay(request(), **how), alphapo.withdraw(request("b")), *first)
        return [type(one) for one in reported], wire.posts

    assert run(story()) == ([Withdrawal, Withdrawal], 2)


def test_a_row_of_a_batch_is_reported_at_its_deadline_though_its_body_is_under_way() -> None:
    """Once, as unknown; the payment continues, and the journal learns how it ends."""

    async def story() -> tuple[list[Any], float, str]:
        wire, reported = Wire(seconds=8), list[Any]()
        loop, journal = asyncio.get_running_loop(), MemoryJournal()
        async with client(wire, journal=journal, policy=RetryPolicy(deadline=5, attempt_timeout=10)) as alphapo:
            how = row_of_batch(lambda outcome: reported.append((type(outcome), outcome.reason, round(loop.time()))))
            await alphapo._registry.pay_row(request(), **how)
            row = await journal.find("default", "payout-17")
        return reported, round(loop.time()), "" if row is None else row.state

    assert run(story()) == ([(WithdrawalUnknown, "in flight", 5)], 8, "accepted")


def test_an_open_row_is_settled_by_one_flight() -> None:
    """Without a caller; what is settled already is only reported."""

    async def story() -> list[str]:
        journal = Durable()
        async with client(Wire(), journal=journal) as alphapo:
            await alphapo.enqueue(request())
            sources: list[str] = []
            for _ in range(2):
                row = await journal.find("default", "payout-17")
                assert row is not None
                _, outcome = await alphapo._registry.settle(row, may_resend=True)
                assert isinstance(outcome, Withdrawal)
                sources.append(outcome.source)
            return sources

    assert run(story()) == ["reply", "journal"]


def test_an_open_row_is_settled_in_one_round_where_alphapo_does_not_answer() -> None:
    """A worker leaves the row for a later round, instead of keeping a slot for it until a caller's deadline."""

    async def story() -> float:
        journal, wire = Durable(), Wire([LOST] * 9, [HTML_502] * 99)
        async with client(wire, journal=journal, policy=RetryPolicy(deadline=100.0)) as alphapo:
            await alphapo.enqueue(request())
            row = await journal.find("default", "payout-17")
            assert row is not None
            _, outcome = await alphapo._registry.settle(row, may_resend=True)
            assert isinstance(outcome, WithdrawalUnknown)
            return asyncio.get_running_loop().time()

    assert run(story()) < 1.0


async def _claimed(journal: Durable, alphapo: AlphapoClient, foreign_id: str) -> Row:
    """Enqueue a withdrawal and claim its row."""
    await alphapo.enqueue(request(foreign_id))
    claim = Claim(alphapo._engine.lease.worker, 1, alphapo._engine.context.signer.fingerprint, EPOCH + 9, 9)
    claimed = await journal.claim("default", claim)
    assert claimed is not None
    return claimed.rows[0]


def test_the_flight_of_a_claimed_row_begins_when_it_may() -> None:
    """Until then calls join it; one that is forgotten answers them."""
    wire, journal = Wire(), Durable()

    async def story() -> list[str]:
        async with client(wire, journal=journal) as alphapo:
            registry = alphapo._registry
            row = await _claimed(journal, alphapo, "a")
            flight = registry.register(row)
            assert flight is not None
            assert registry.register(row) is None
            calls = [asyncio.ensure_future(alphapo.withdraw(request("a"))) for _ in range(2)]
            await asyncio.sleep(1)
            assert (flight.task, wire.posts) == (None, 0)
            flight.may_begin = True
            assert (await alphapo.withdraw(request("a"))).foreign_id == "a"
            states = [call.result().status for call in calls]
            row = replace(row, foreign_id="b", revision=Revision(b"", request("b")))
            flight = registry.register(row)
            assert flight is not None
            call = asyncio.ensure_future(alphapo.withdraw(request("b")))
            await asyncio.sleep(1)
            registry.forget(flight)
            with pytest.raises(WithdrawalUnknown) as raised:
                await call
            return [*map(str, states), raised.value.reason]

    assert run(story()) == ["processing", "processing", "closing"]


def test_flights_that_end_while_a_claim_is_under_way_are_noted() -> None:
    """Also one that began before: by the claim's answer its row may be settled, or another's. Nothing is noted otherwise."""

    async def story() -> set[str] | None:
        async with client(Wire()) as alphapo:
            registry = alphapo._registry
            await alphapo.withdraw(request("before"))
            assert registry.ended_since is None
            early = asyncio.ensure_future(alphapo.withdraw(request("early")))
            await asyncio.sleep(0)
            registry.ended_since = set()
            await alphapo.withdraw(request("meanwhile"))
            await early
            late = asyncio.ensure_future(alphapo.withdraw(request("late")))
            await asyncio.sleep(0)
            ended = set(registry.ended_since)
            await late
            return ended

    assert run(story()) == {"early", "meanwhile"}


def test_a_request_names_the_last_claim_whose_rows_may_have_begun() -> None:
    """A row of a later claim was not sent; of another worker's claims this client knows nothing."""

    async def story() -> tuple[list[float], float]:
        async with client(Wire(), journal=Durable()) as alphapo:
            claims, registry, named = alphapo._engine.claims, alphapo._engine.registry, []
            for name in "abc":
                await alphapo.enqueue(request(name))
                await claims.refill(1)
                named.append(registry.encode(request("another"), resend_rejected=False).begun)
            row = registry.flights["a"].row
            await claims.give_back()
            return named, registry._worked_on(row, "another worker").begun

    assert run(story()) == ([0, 1, 2], 0)


def test_a_row_of_a_batch_takes_a_new_lease_where_the_last_one_has_ended() -> None:
    """As a call does: after a wall clock set forward all rows until the next heartbeat ended as not sent."""
    wall = WallClock()

    async def story() -> list[str]:
        runtime = Runtime(wall, random.Random(1).random, asyncio.sleep)
        async with client(Wire(), journal=Durable(), _runtime=runtime) as alphapo:
            outcomes: list[str] = []
            async for result in alphapo.batch(map(request, "abcd"), concurrency=1):
                wall.set_by = 3_600.0
                outcomes.append(result.outcome)
            return outcomes

    assert run(story()) == ["accepted"] * 4


def test_a_no_whose_caller_has_not_run_yet_answers_what_this_client_asks_in_that_turn() -> None:
    """The flight was over, its caller was yet to be resumed with the "no", and another call paid the same payment."""
    wire = Wire([NO_CONNECTION])

    async def story() -> None:
        async with client(wire, journal=Durable(), policy=RetryPolicy.none()) as alphapo:
            first = asyncio.ensure_future(alphapo.withdraw(request()))
            await asyncio.sleep(0.005)
            await alphapo._registry.flights["payout-17"].is_finished.wait()
            assert not first.done()
            with pytest.raises(WithdrawalNotSent):
                await alphapo.withdraw(request())
            with pytest.raises(WithdrawalNotSent):
                await first

    run(story())
    assert wire.posts == 1
