"""Batches: bounded, streamed, in constant memory, and ended in order whatever goes wrong."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import Any

import pytest

from alphapo_async.batch import Batch, LetGo, Rest
from alphapo_async.client import AlphapoClient
from alphapo_async.core.errors import (
    AlphapoError,
    AuthenticationError,
    ConfigurationError,
    InvalidRequest,
    JournalError,
    WithdrawalNotSent,
    WithdrawalUnknown,
)
from alphapo_async.core.models import Withdrawal, WithdrawalRequest
from alphapo_async.core.replies import NoReply, Reply
from alphapo_async.core.results import BatchResult
from alphapo_async.core.retry_policy import RetryPolicy
from alphapo_async.core.row import Row
from alphapo_async.engine.context import Runtime
from tests.proof.outage import KINDS, through
from tests.support.long import long_after
from tests.support.virtual import run
from tests.support.wire import EPOCH, INSUFFICIENT, LOST, NO_CONNECTION, Durable, Wire, client, reply, request

KEY_REFUSED = reply(403, {"error": "Bad key", "code": "bad_header_key"})


def requests(number: int) -> list[WithdrawalRequest]:
    """Return so many requests."""
    return [request(f"payout-{one}") for one in range(number)]


async def output(results: AsyncIterator[BatchResult]) -> Counter[str]:
    """Return how many rows had which outcome."""
    return Counter([result.outcome async for result in results])


async def told_until(error: type[Exception], match: str, results: AsyncIterator[BatchResult]) -> Counter[str]:
    """Return how many rows had which outcome before this error was raised."""
    outcomes: Counter[str] = Counter()

    async def read() -> None:
        async for result in results:
            outcomes[result.outcome] += 1

    with pytest.raises(error, match=match):
        await read()
    return outcomes


def paid(wire: Wire, rows: Any, concurrency: int = 64, **how: Any) -> list[BatchResult]:
    """Pay rows in one batch of a client, and return the results in the order in which they came."""

    async def story() -> list[BatchResult]:
        async with client(wire, journal=Durable()) as alphapo:
            return [result async for result in alphapo.batch(rows, concurrency=concurrency, **how)]

    return run(story())


# ── what comes in and what comes out ─────────────────────────────────────────────────────────────────────────────────


def test_every_row_has_one_result_with_its_place_and_its_request() -> None:
    """Whatever the order in which they finish."""
    rows = requests(200)
    results = paid(Wire(), rows, 16)
    assert sorted(result.index for result in results) == list(range(200))
    assert all(result.request is rows[result.index] and result.outcome == "accepted" for result in results)


def test_mappings_are_rows_and_wrong_ones_are_invalid_with_every_problem() -> None:
    """A wrong row raises nothing and stops nobody."""
    good = {
        "currency": "BTC",
        "address": "bc1qmadeup",
        "amount": "0.1",
        "foreign_id": 5,
        "end_user_reference": "user-1",
    }
    rows: list[Any] = [
        good,
        {**good, "amount": -1, "ammount": "7", "address": " x"},
        17,
        {**good, "foreign_id": 6, 9: 1},
    ]
    results = {result.index: result for result in paid(Wire(), rows)}
    assert [results[index].outcome for index in range(4)] == ["accepted", "invalid", "invalid", "invalid"]
    assert results[0].request.foreign_id == "5"
    assert results[1].request is rows[1]
    problems = [results[index].error.problems for index in (1, 2, 3)]  # type: ignore[union-attr]
    assert [sorted(each) for each in problems] == [["address", "ammount", "amount"], ["request"], ["9"]]


def test_an_amount_that_json_cannot_carry_is_invalid() -> None:
    """What `withdraw` refuses before the journal is a row's result here."""
    [result] = paid(Wire(), [request(amount="0.12345678901234567890")])
    assert result.outcome == "invalid"
    assert isinstance(result.error, InvalidRequest)


def test_an_async_iterable_that_comes_slowly_holds_nobody_up() -> None:
    """Results come as they finish, while the next row is still being waited for."""

    async def slowly() -> AsyncIterator[WithdrawalRequest]:
        for one in requests(3):
            yield one
            await asyncio.sleep(100)

    async def story() -> list[float]:
        loop = asyncio.get_running_loop()
        async with client(Wire(), journal=Durable()) as alphapo:
            return [loop.time() async for _ in alphapo.batch(slowly())]

    assert [round(at) for at in run(story())] == [0, 100, 200]


@pytest.mark.parametrize("wrong", [5, "payout", b"x", {"currency": "BTC"}, request()])
def test_what_is_no_series_of_rows_is_refused_at_once(wrong: Any) -> None:
    """One request, a text or a number is a mistake of the caller's."""
    with pytest.raises(ConfigurationError, match="batch takes an iterable"):
        paid(Wire(), wrong)


@pytest.mark.parametrize("concurrency", [0, -1, True, 1.5])
def test_concurrency_is_a_whole_number_from_one(concurrency: Any) -> None:
    """Anything else is refused before a row is taken."""
    with pytest.raises(ConfigurationError, match="concurrency"):
        paid(Wire(), requests(1), concurrency)


def test_no_rows_no_results() -> None:
    """An empty batch ends at once."""
    assert paid(Wire(), []) == []


def test_another_payment_under_a_foreign_id_is_a_conflict_and_the_same_one_is_paid_once() -> None:
    """As with `withdraw`."""
    wire = Wire()
    results = paid(wire, [request("a"), request("a"), request("a", amount="7")])
    assert Counter(result.outcome for result in results) == {"accepted": 2, "conflict": 1}
    assert wire.posts == 1


def test_what_was_rejected_is_sent_again_only_if_that_is_asked_for() -> None:
    """`resend_rejected` is the batch's, too."""
    wire = Wire([INSUFFICIENT])

    async def story() -> list[str]:
        async with client(wire, journal=Durable()) as alphapo:
            outcomes = []
            for again in (False, False, True):
                outcomes += [one.outcome async for one in alphapo.batch([request()], resend_rejected=again)]
            return [*outcomes]

    assert run(story()) == ["rejected", "rejected", "accepted"]
    assert wire.posts == 2


# ── bounds ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def counting(number: int, taken: list[int]) -> Iterator[WithdrawalRequest]:
    """Yield rows and count those that were asked for."""
    for one in range(number):
        taken.append(one)
        yield request(f"payout-{one}")


def test_no_more_are_worked_on_at_once_than_asked_for() -> None:
    """And as many as that are."""
    wire = Wire()
    paid(wire, requests(100), 7)
    assert wire.most_under_way == 7


def test_whoever_reads_slowly_has_no_pile_of_results_growing() -> None:
    """No more rows are taken than find room, results included."""
    taken: list[int] = []

    async def story() -> int:
        async with client(Wire(), journal=Durable()) as alphapo:
            results = alphapo.batch(counting(1_000, taken), concurrency=10)
            await anext(results)
            await asyncio.sleep(1_000)
            return len(taken)

    assert run(story()) <= 11


def test_a_row_in_backoff_lends_its_place() -> None:
    """With one place and a first row that fails for a while, the others go on; never two at once."""
    wire = Wire([NO_CONNECTION, NO_CONNECTION, NO_CONNECTION], seconds=0.1)
    normal = wire.exchange

    async def only_the_first_fails(*args: Any, body: bytes, **how: Any) -> Any:
        if b"payout-0" not in body:
            wire.seen["POST", body.split(b'"foreign_id":"')[1].split(b'"')[0].decode()] = 3
        return await normal(*args, body=body, **how)

    wire.exchange = only_the_first_fails  # type: ignore[method-assign, assignment]
    policy = RetryPolicy(wait_initial=5.0, wait_max=20.0)

    async def story() -> list[int]:
        async with client(wire, journal=Durable(), policy=policy) as alphapo:
            return [result.index async for result in alphapo.batch(requests(5), concurrency=1)]

    assert run(story()) == [1, 2, 3, 4, 0]
    assert wire.most_under_way == 1


class Paying:
    """A hand-made way to pay, and a batch of it."""

    def __init__(self, pay: Callable[[str, Rest, bool], Any], concurrency: int = 2) -> None:
        self.pay = pay
        self.outage_until = -1.0
        self.seen: list[tuple[str, bool]] = []
        self.at_end: dict[str, Callable[[LetGo], None]] = {}
        self.batch = Batch(
            self,
            concurrency=concurrency,
            outage_until=lambda: self.outage_until,
            now=lambda: asyncio.get_running_loop().time(),
            sleep=asyncio.sleep,
            between_probes=10.0,
        )

    async def __call__(
        self,
        request: WithdrawalRequest,
        *,
        report: Callable[[Withdrawal | AlphapoError], None],
        rest: Rest,
        is_probe: bool,
        at_end: Callable[[LetGo], None],
    ) -> None:
        self.at_end[request.foreign_id] = at_end
        self.seen.append((request.foreign_id, is_probe))
        report(await self.pay(request.foreign_id, rest, is_probe))


OK = Withdrawal(id=7)
UNKNOWN = WithdrawalUnknown("?", foreign_id="x", reason="no answer")
NOT_SENT = WithdrawalNotSent("!", foreign_id="x", reason="outage")


def test_who_comes_back_from_a_backoff_goes_before_new_rows_and_waits_for_a_place() -> None:
    """Three rows share two places: the one in backoff gets the first that comes free."""
    order: list[str] = []

    async def pay(name: str, rest: Rest, is_probe: bool) -> Withdrawal:  # noqa: FBT001
        if name == "payout-0":
            await rest(1.0)
        order.append(name)
        await asyncio.sleep(5.0)
        return OK

    paying = Paying(pay)
    assert run(output(paying.batch.results(requests(5)))) == {"accepted": 5}
    assert order == ["payout-1", "payout-2", "payout-0", "payout-3", "payout-4"]
    assert repr(paying.batch) == "Batch(0 under way, 0 in backoff, 0 parked)"


def test_an_unexpected_error_of_one_row_is_its_result_and_the_batch_ends() -> None:
    """The row is unknown, the log has the error, and the other rows are paid."""

    async def pay(name: str, rest: Rest, is_probe: bool) -> Withdrawal:  # noqa: FBT001
        await asyncio.sleep(1.0)
        if name == "payout-1":
            raise RuntimeError("made-up")
        return OK

    async def story() -> list[tuple[int, str, str | None]]:
        async with asyncio.timeout(100.0):
            return [
                (result.index, result.outcome, getattr(result.error, "reason", None))
                async for result in Paying(pay).batch.results(requests(3))
            ]

    found = run(story())
    assert sorted(found) == [(0, "accepted", None), (1, "unknown", "internal error"), (2, "accepted", None)]


def test_an_unexpected_error_after_a_row_was_reported_changes_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """It is logged, and the row keeps the one result that it has."""

    class Raising(Paying):
        async def __call__(self, *args: Any, **how: Any) -> None:
            await super().__call__(*args, **how)
            raise RuntimeError("made-up")

    async def pay(name: str, rest: Rest, is_probe: bool) -> Withdrawal:  # noqa: FBT001
        return OK

    assert run(output(Raising(pay).batch.results(requests(2)))) == {"accepted": 2}
    assert [record.levelname for record in caplog.records] == ["ERROR", "ERROR"]


def test_another_payment_in_a_batch_ends_where_the_journal_breaks_its_promise() -> None:
    """It waits for what the journal has of the first one, which raises what no journal should."""

    class Odd(Durable):
        async def find(self, *args: Any) -> Row | None:
            raise RuntimeError("made-up")

    async def story() -> Counter[str]:
        async with client(Wire(seconds=1.0), journal=Odd()) as alphapo, asyncio.timeout(1_000.0):
            return await output(alphapo.batch([request("a"), request("a", amount="2"), request("b")]))

    assert run(story()) == {"accepted": 2, "unknown": 1}


def test_whoever_waits_for_a_place_keeps_his_turn_while_none_is_free() -> None:
    """A result that is fetched while all places are taken sends nobody to the end of the queue."""
    order: list[str] = []
    rests = {"payout-0": 1.0, "payout-1": 2.0, "payout-2": 3.0}

    async def pay(name: str, rest: Rest, is_probe: bool) -> Withdrawal:  # noqa: FBT001
        if name in rests:
            await rest(rests[name])
            order.append(name)
        await asyncio.sleep(0.5 if name == "payout-3" else 10.0)
        return OK

    async def story() -> None:
        async for result in Paying(pay).batch.results(requests(5)):
            if result.index == 3:
                await asyncio.sleep(5.0)

    run(story())
    assert order == ["payout-0", "payout-1", "payout-2"]


def test_a_row_that_comes_after_its_place_was_taken_waits_for_another() -> None:
    """A slow source is asked while one is in backoff, which is back first: never two at once; what waits is let go of at the end."""
    at_work: set[str] = set()
    most = 0

    async def pay(name: str, rest: Rest, is_probe: bool) -> Withdrawal | AlphapoError:  # noqa: FBT001
        nonlocal most
        if name == "payout-0":
            await rest(1.0)
        let_go: list[str] = []
        paying.at_end[name](lambda: let_go.append(name))
        at_work.add(name)
        most = max(most, len(at_work))
        await asyncio.sleep(5.0)
        at_work.remove(name)
        return NOT_SENT if let_go else OK

    async def slowly() -> AsyncIterator[WithdrawalRequest]:
        for one in requests(9):
            yield one
            await asyncio.sleep(2.0)

    async def story(seconds: float) -> Counter[str]:
        return await output(paying.batch.results(slowly(), later(seconds)))

    paying = Paying(pay, concurrency=1)
    assert run(story(12.0)) == {"accepted": 2, "not_sent": 1}
    paying = Paying(pay, concurrency=1)
    assert run(story(3.0)) == {"not_sent": 2}
    assert most == 1


def test_a_row_cancelled_while_it_waits_for_its_place_hands_the_turn_on() -> None:
    """Two wait for one place; the first of them is gone."""

    async def pay(name: str, rest: Rest, is_probe: bool) -> Withdrawal | AlphapoError:  # noqa: FBT001
        if name in ("payout-0", "payout-1"):
            resting = asyncio.ensure_future(rest(1.0))
            if name == "payout-0":
                asyncio.get_running_loop().call_later(2.0, resting.cancel)
            try:
                await resting
            except asyncio.CancelledError:
                return NOT_SENT
        await asyncio.sleep(5.0)
        return OK

    paying = Paying(pay, concurrency=1)
    assert run(output(paying.batch.results(requests(3)))) == {"accepted": 2, "not_sent": 1}


def test_rows_in_backoff_are_bounded_too() -> None:
    """However many fail at once, no more are taken than `concurrency` and 256 besides."""
    taken: list[int] = []

    async def pay(name: str, rest: Rest, is_probe: bool) -> Withdrawal:  # noqa: FBT001
        await rest(1_000.0)
        return OK

    async def story() -> int:
        results = Paying(pay, 4).batch.results(counting(1_000, taken))
        first = asyncio.ensure_future(anext(results))
        await asyncio.sleep(500)
        number = len(taken)
        await first
        await results.aclose()
        return number

    assert run(story()) == 260


# ── an outage ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", long_after(1, KINDS))
def test_six_hours_without_an_answer_are_waited_through(kind: str) -> None:
    """Nobody but those under way when it began gets into doubt, and all are paid once it is over.

    `python -m tests.proof.outage` shows it with 30,000 rows.
    """
    outcome = run(through(kind, 2_000, 6.0, 16))
    assert outcome.outcomes == {"accepted": 2_000}
    assert outcome.in_doubt <= 20 + 16
    assert 16 < outcome.attempts < 6 * 3_600 / 15
    assert outcome.look_ups < 2 * outcome.attempts
    assert (outcome.paid_twice, outcome.changed_bytes) == (0, 0)


def test_a_batch_that_begins_in_an_outage_probes_with_one_row() -> None:
    """Of the rows one is taken, and the others once it is over."""
    wire = Wire()
    wire.always = NO_CONNECTION
    policy = RetryPolicy(wait_max=1.0)

    async def story() -> tuple[int, Counter[str]]:
        taken: list[int] = []
        loop = asyncio.get_running_loop()
        async with client(wire, journal=Durable(), policy=policy) as alphapo:
            await output(alphapo.batch(requests(30), stop=later(50.0)))
            counts: list[int] = []
            loop.call_later(300.0, lambda: counts.append(len(taken)))
            loop.call_later(301.0, lambda: setattr(wire, "always", None))
            outcomes = await output(alphapo.batch(counting(50, taken)))
        return counts[0], outcomes

    assert run(story()) == (1, {"accepted": 50})


def later(seconds: float) -> asyncio.Event:
    """Return an event that is set so many seconds from now."""
    stop = asyncio.Event()
    asyncio.get_running_loop().call_later(seconds, stop.set)
    return stop


def test_while_it_lasts_one_row_probes_at_a_time_one_in_doubt_before_all_others() -> None:
    """So no other row gets into doubt; and however soon a probing row ends, the next one waits."""
    ends = 95.0

    async def pay(name: str, rest: Rest, is_probe: bool) -> Withdrawal | AlphapoError:  # noqa: FBT001
        now = asyncio.get_running_loop().time()
        await asyncio.sleep(1.0)
        if now < ends:
            paying.outage_until = float("inf")
            return UNKNOWN if name == "payout-1" else NOT_SENT
        paying.outage_until = min(paying.outage_until, now)
        return OK

    paying = Paying(pay, 3)
    assert run(output(paying.batch.results(requests(6)))) == {"accepted": 6}
    assert paying.batch._timer is None
    probes = [name for name, is_probe in paying.seen if is_probe]
    assert probes == ["payout-1"] * 11
    assert len(paying.seen) == 6 + 11 + 2


def test_a_batch_that_is_left_between_two_probes_leaves_no_timer() -> None:
    """Nothing happens any more once it has ended."""

    async def pay(name: str, rest: Rest, is_probe: bool) -> AlphapoError:  # noqa: FBT001
        paying.outage_until = float("inf")
        return NOT_SENT

    async def story() -> tuple[Counter[str], int]:
        outcomes = await output(paying.batch.results(requests(9), later(35.0)))
        sent = len(paying.seen)
        await asyncio.sleep(100)
        assert len(paying.seen) == sent
        return outcomes, sent

    paying = Paying(pay)
    assert run(story()) == ({"not_sent": 2}, 6)


def test_what_another_try_does_not_mend_is_told_though_there_is_an_outage() -> None:
    """A journal that fails, or a client that closes, is no outage's doing."""

    async def pay(name: str, rest: Rest, is_probe: bool) -> AlphapoError:  # noqa: FBT001
        paying.outage_until = float("inf")
        return WithdrawalUnknown("?", foreign_id=name, reason="journal")

    paying = Paying(pay)
    assert run(output(paying.batch.results(requests(1)))) == {"unknown": 1}


# ── ending ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_refused_key_takes_no_more_tells_all_and_raises() -> None:
    """What was taken has its result, the rest was never taken."""
    wire = Wire()
    wire.always = KEY_REFUSED
    taken: list[int] = []

    async def story() -> Counter[str]:
        async with client(wire, journal=Durable()) as alphapo:
            return await told_until(
                AuthenticationError, "bad_header_key", alphapo.batch(counting(1_000, taken), concurrency=8)
            )

    assert run(story()) == {"key_refused": len(taken)}
    assert len(taken) < 17


def test_a_row_that_stays_open_ends_the_batch_for_a_refused_key() -> None:
    """It was enqueued before, so that a worker may still send it; the error is about no single row, and releases nothing."""
    wire, journal = Wire(), Durable()
    wire.always = KEY_REFUSED

    async def story() -> tuple[Counter[str], AuthenticationError]:
        async with client(wire, journal=journal) as alphapo:
            rows = requests(40)
            await alphapo.enqueue(rows[0])
            outcomes: Counter[str] = Counter()

            async def pay() -> None:
                async for result in alphapo.batch(rows, concurrency=1):
                    outcomes[result.outcome] += 1
                    row = await journal.find("default", result.request.foreign_id)
                    assert row is not None
                    assert (row.state == "open") is (result.outcome == "unknown")

            with pytest.raises(AuthenticationError) as raised:
                await pay()
            return outcomes, raised.value

    outcomes, error = run(story())
    assert outcomes["unknown"] == 1
    assert outcomes.total() <= 2
    assert (error.code, error.may_release_funds) == ("bad_header_key", False)


def test_a_refused_retired_key_does_not_end_a_batch() -> None:
    """A row in doubt keeps its key, whose refusal says nothing about new rows."""
    wire, journal = Wire([LOST]), Durable()

    async def story() -> Counter[str]:
        async with client(wire, journal=journal, policy=RetryPolicy.none()) as old:
            with pytest.raises(WithdrawalUnknown):
                await old.withdraw(requests(1)[0])
        wire.scripts["POST"] = [None, KEY_REFUSED]
        loop = asyncio.get_running_loop()
        settings: dict[str, Any] = {"journal": journal, "session": wire, "base_url": "http://127.0.0.1:9"}
        settings["_runtime"] = Runtime(lambda: EPOCH + loop.time(), lambda: 0.5, asyncio.sleep)
        settings["retired_keys"] = [("made-up-key", "made-up-secret")]
        async with AlphapoClient("new-key", "new-secret", **settings) as alphapo:
            return await output(alphapo.batch(requests(5), concurrency=1))

    assert run(story()) == {"unknown": 1, "accepted": 4}


@pytest.mark.parametrize("is_async", [False, True])
def test_an_iterable_that_raises_is_raised_after_all_results(is_async: bool) -> None:  # noqa: FBT001
    """What was taken before is paid and told."""

    def rows() -> Iterator[WithdrawalRequest]:
        yield from requests(20)
        raise OSError("the cursor is gone")

    async def rows_later() -> AsyncIterator[WithdrawalRequest]:
        for one in rows():
            yield one

    async def story() -> Counter[str]:
        async with client(Wire(), journal=Durable()) as alphapo:
            results = alphapo.batch(rows_later() if is_async else rows(), concurrency=8)
            return await told_until(OSError, "the cursor is gone", results)

    assert run(story()) == {"accepted": 20}


def test_a_source_that_is_cancelled_does_not_look_like_its_end() -> None:
    """Rows may be missing, and whoever reads hears of it."""

    async def cut_short() -> AsyncIterator[WithdrawalRequest]:
        yield request()
        raise asyncio.CancelledError

    async def story() -> list[str]:
        outcomes: list[str] = []
        async with client(Wire(), journal=Durable()) as alphapo:
            results = alphapo.batch(cut_short())
            outcomes.append((await anext(results)).outcome)
            try:
                await anext(results)
            except asyncio.CancelledError:
                outcomes.append("cancelled")
        return outcomes

    assert run(story()) == ["accepted", "cancelled"]


class Failing(Durable):
    """A journal that takes so many rows, and then no more."""

    room = 5

    async def update(self, account: str, foreign_id: str, change: Any, **how: Any) -> Row:
        """Fail once it is full, but for rows that it has."""
        if self.room <= 0 and await self.find(account, foreign_id) is None:
            raise JournalError("it is full.")
        self.room -= await self.find(account, foreign_id) is None
        return await super().update(account, foreign_id, change, **how)


def test_a_journal_that_fails_takes_no_more_tells_all_and_raises() -> None:
    """Rows it could not take say so, those it took are paid."""
    wire, taken = Wire(), list[int]()

    async def story() -> Counter[str]:
        async with client(wire, journal=Failing()) as alphapo:
            return await told_until(JournalError, "it is full", alphapo.batch(counting(1_000, taken), concurrency=4))

    outcomes = run(story())
    assert outcomes["accepted"] == 5
    assert outcomes.total() == len(taken) < 17


def test_leaving_early_waits_for_what_is_under_way() -> None:
    """Nothing that was taken is left half done, and nothing more is taken."""
    wire, taken = Wire(seconds=1.0), list[int]()

    async def story() -> tuple[int, float]:
        async with client(wire, journal=Durable()) as alphapo:
            async with contextlib.aclosing(alphapo.batch(counting(1_000, taken), concurrency=8)) as results:
                async for _ in results:
                    break
            return len(wire.accepted), asyncio.get_running_loop().time()

    number, seconds = run(story())
    assert number == len(taken) == 8
    assert seconds == pytest.approx(1.0, abs=0.1)


def test_leaving_when_nothing_is_under_way_waits_for_nothing() -> None:
    """Rows that were parked stay where they are: not sent, in the journal."""

    async def pay(name: str, rest: Rest, is_probe: bool) -> AlphapoError:  # noqa: FBT001
        return NOT_SENT

    async def story() -> str:
        paying = Paying(pay, 1)
        results = paying.batch.results([7, *requests(3)])  # type: ignore[list-item]
        first = await anext(results)
        paying.outage_until = float("inf")
        await asyncio.sleep(1.0)
        await results.aclose()
        return first.outcome

    assert run(story()) == "invalid"


def test_a_caller_who_is_cancelled_leaves_at_once_and_loses_nothing() -> None:
    """What is under way goes on in the background until the client is closed."""
    wire = Wire(seconds=5.0)

    async def story() -> tuple[float, int]:
        loop = asyncio.get_running_loop()
        async with client(wire, journal=Durable()) as alphapo:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    await output(alphapo.batch(requests(20), concurrency=8))
            left = loop.time()
        return left, len(wire.accepted)

    seconds, number = run(story())
    assert seconds == pytest.approx(1.0, abs=0.1)
    assert number == 8


def test_stop_ends_it_with_the_results_of_what_is_under_way() -> None:
    """Nothing more is taken, also where the next row is being waited for."""
    wire = Wire(seconds=1.0)

    async def slowly() -> AsyncIterator[WithdrawalRequest]:
        for one in requests(100):
            yield one
            await asyncio.sleep(0.3)

    async def story() -> tuple[Counter[str], float]:
        async with client(wire, journal=Durable()) as alphapo:
            outcomes = await output(alphapo.batch(slowly(), concurrency=8, stop=later(2.0)))
            return outcomes, asyncio.get_running_loop().time()

    outcomes, seconds = run(story())
    assert outcomes == {"accepted": 7}
    assert seconds < 3.1


def test_stop_ends_what_has_not_left_as_not_sent_and_writes_that_down() -> None:
    """Rows that wait for their turn at a slow rate, or for the journal, are not begun any more, and the next batch pays them."""
    wire, journal = Wire(seconds=1.0), Durable()

    async def story() -> tuple[Counter[str], float, int, Counter[str], Counter[str]]:
        async with client(wire, journal=journal, max_rate=0.5) as alphapo:
            outcomes = await output(alphapo.batch(requests(100), concurrency=40, stop=later(5.0)))
            ended, posts = asyncio.get_running_loop().time(), wire.posts
            rows = [await journal.find("default", f"payout-{one}") for one in range(42)]
        await asyncio.sleep(1.0)  # whoever calls sooner is answered by the "no" of the other worker
        async with client(wire, journal=journal) as alphapo:
            again = await output(alphapo.batch(requests(100), concurrency=40))
        return outcomes, ended, posts, Counter(row.state if row else "none" for row in rows), again

    outcomes, ended, posts, states, again = run(story())
    assert outcomes == states == {"accepted": posts, "not_sent": 42 - posts}
    assert 0 < posts < 5
    assert ended < 5.0 + 1.1
    assert again == {"accepted": 100}
    assert wire.posts == 100


def test_leaving_early_lets_go_of_what_has_not_left() -> None:
    """What waits for its turn at a slow rate is not begun any more, and nobody waits for it."""

    async def story() -> tuple[float, int]:
        wire = Wire()
        async with client(wire, journal=Durable(), max_rate=0.1) as alphapo:
            async with contextlib.aclosing(alphapo.batch(requests(100), concurrency=8)) as results:
                await anext(results)
            return asyncio.get_running_loop().time(), wire.posts

    seconds, posts = run(story())
    assert seconds < 1
    assert posts == 1


def test_a_flight_that_others_wait_for_too_is_not_let_go_of() -> None:
    """Whoever called `withdraw` for the same payment hears of it as if there were no batch."""
    wire = Wire()

    async def story() -> tuple[Counter[str], Withdrawal]:
        async with client(wire, journal=Durable(), max_rate=0.1) as alphapo:
            await alphapo.withdraw(request("first"))
            withdrawing = asyncio.ensure_future(alphapo.withdraw(request("payout-0")))
            outcomes = await output(alphapo.batch(requests(2), stop=later(1.0)))
            return outcomes, await withdrawing

    outcomes, withdrawal = run(story())
    assert outcomes == {"accepted": 1, "not_sent": 1}
    assert withdrawal.foreign_id == "payout-0"


def test_a_row_that_begins_as_the_end_comes_is_let_go_of_at_once() -> None:
    """Whatever it had to wait for before it could say how."""
    let_go: list[str] = []

    async def pay(name: str, rest: Rest, is_probe: bool) -> AlphapoError:  # noqa: FBT001
        if name == "payout-1":
            await asyncio.sleep(2.0)
        paying.at_end[name](lambda: let_go.append(name))
        await asyncio.sleep(2.0)
        return NOT_SENT

    paying = Paying(pay, 2)
    assert run(ended_after(paying, 1.0)) == {"not_sent": 2}
    assert let_go == ["payout-0", "payout-1"]


async def ended_after(paying: Paying, seconds: float) -> Counter[str]:
    """Return the outcomes of a batch of ten that is stopped so many seconds from now."""
    return await output(paying.batch.results(requests(10), later(seconds)))


def test_a_source_that_fails_lets_go_of_nothing_that_was_taken() -> None:
    """The rows before it are as good as any."""

    def rows() -> Iterator[WithdrawalRequest]:
        yield from requests(5)
        raise OSError("the cursor is gone")

    async def story() -> Counter[str]:
        async with client(Wire(), journal=Durable(), max_rate=0.5) as alphapo:
            return await told_until(OSError, "the cursor is gone", alphapo.batch(rows(), concurrency=8))

    assert run(story()) == {"accepted": 5}


# ── the source of the rows ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("goes_on", [False, True])
def test_a_source_that_does_not_hear_of_the_end_is_waited_for_no_longer_than_it_takes(
    goes_on: bool,  # noqa: FBT001 - a parameter
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Nor is a row taken that it still comes up with; and nothing is left of it that anybody would hear of."""

    async def deaf() -> AsyncIterator[WithdrawalRequest]:
        yield request("payout-0")
        for pause in (100.0, 1.0 if goes_on else 50.0):
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(pause)
        yield request("payout-1")

    async def story() -> tuple[Counter[str], float]:
        async with client(Wire(), journal=Durable()) as alphapo:
            outcomes = await output(alphapo.batch(deaf(), stop=later(2.0)))
            ended = asyncio.get_running_loop().time()
            await asyncio.sleep(100)
        return outcomes, ended

    outcomes, ended = run(story())
    gc.collect()
    assert outcomes == {"accepted": 1}
    assert ended == pytest.approx(3.0 if goes_on else 7.0)
    assert [record.getMessage() for record in caplog.records if record.levelname != "INFO"] == []


@pytest.mark.parametrize("leaves_early", [False, True])
def test_an_async_generator_is_closed_when_the_batch_is(leaves_early: bool) -> None:  # noqa: FBT001 - a parameter
    """What it holds open is closed while it can still be, and not when somebody collects it."""
    closed: list[float] = []

    async def cursor() -> AsyncIterator[WithdrawalRequest]:
        try:
            for one in requests(100):
                yield one
        finally:
            await asyncio.sleep(3.0)
            closed.append(asyncio.get_running_loop().time())

    async def story() -> bool:
        async with client(Wire(), journal=Durable()) as alphapo:
            async with contextlib.aclosing(alphapo.batch(cursor(), concurrency=4)) as results:
                async for _ in results:
                    if leaves_early:
                        break
            return bool(closed)

    assert run(story())


def test_an_async_iterable_that_is_no_generator_is_its_owners_to_close() -> None:
    """It has rows, and nothing else is asked of it."""

    class Rows:
        def __aiter__(self) -> AsyncIterator[WithdrawalRequest]:
            return self

        async def __anext__(self) -> WithdrawalRequest:
            if not left:
                raise StopAsyncIteration
            return left.pop()

    left = requests(3)
    assert [result.outcome for result in paid(Wire(), Rows())] == ["accepted"] * 3


def test_a_source_that_never_waits_does_not_keep_the_loop_to_itself() -> None:
    """However many rows it has ready, everybody else has a turn in between."""
    taken: list[int] = []

    async def pay(name: str, rest: Rest, is_probe: bool) -> Withdrawal:  # noqa: FBT001
        return OK

    async def story() -> int:
        most, before = 0, 0
        counted = asyncio.ensure_future(output(Paying(pay, 100_000).batch.results(counting(2_000, taken))))
        while not counted.done():
            await asyncio.sleep(0)
            most, before = max(most, len(taken) - before), len(taken)
        return most

    assert run(story()) == 64
    assert len(taken) == 2_000


def test_stop_in_an_outage_tells_the_parked_rows_as_they_are() -> None:
    """Nobody has to wait for the end of an outage."""
    wire = Wire()
    wire.always = NO_CONNECTION

    async def story() -> tuple[Counter[str], float]:
        async with client(wire, journal=Durable()) as alphapo:
            outcomes = await output(alphapo.batch(requests(100), concurrency=8, stop=later(600.0)))
            return outcomes, asyncio.get_running_loop().time()

    outcomes, seconds = run(story())
    assert set(outcomes) == {"not_sent"}
    assert outcomes.total() < 100
    assert seconds < 600 + 61


def test_a_client_that_is_closed_ends_its_batches() -> None:
    """Rows that it no longer took up say that nobody knows; the error says why."""
    wire = Wire(seconds=1.0)

    async def story() -> Counter[str]:
        alphapo = client(wire, journal=Durable())
        asyncio.get_running_loop().call_later(2.5, lambda: closing.append(asyncio.ensure_future(alphapo.aclose())))
        closing: list[asyncio.Future[None]] = []
        outcomes = await told_until(ConfigurationError, "closed", alphapo.batch(requests(100), concurrency=4))
        await closing[0]
        return outcomes

    outcomes = run(story())
    assert outcomes["accepted"] == 12
    assert 1 <= outcomes["unknown"] <= 4


def test_a_journal_that_does_not_open_takes_no_row() -> None:
    """The error comes before anything is asked for."""
    taken: list[int] = []

    class Shut(Durable):
        async def join(self, *args: Any) -> None:
            raise JournalError("it cannot be opened.")

    async def story() -> None:
        alphapo: AlphapoClient = client(Wire(), journal=Shut())
        try:
            with pytest.raises(JournalError):
                await output(alphapo.batch(counting(3, taken)))
        finally:
            await alphapo.aclose()

    run(story())
    assert taken == []


def test_a_reply_that_is_lost_is_looked_up_and_paid_once() -> None:
    """As everywhere."""
    wire = Wire(["accept, lost"])
    assert {result.outcome for result in paid(wire, requests(50))} == {"accepted"}
    assert wire.posts == 50
    wire = Wire([LOST])
    assert {result.outcome for result in paid(wire, requests(10))} == {"accepted"}
    assert wire.posts == 20


async def test_a_batch_is_stopped_by_an_event_alone() -> None:
    """Anything else would fail in the background, and the batch would never stop."""
    async with client(Wire()) as alphapo:
        with pytest.raises(ConfigurationError, match=r"stop must be an asyncio.Event, not bool; nothing was sent\."):
            await anext(alphapo.batch([request()], stop=True))  # type: ignore[arg-type]


def test_a_batch_pays_every_row_as_withdraw_does() -> None:
    """What `withdraw` raises is a row's result: a rejection, a conflict, an amount that JSON cannot carry."""
    wire = Wire()
    rows = [request("a"), request("b"), request("a", amount="9"), request("c", amount="0.12345678901234567890")]

    async def story() -> dict[int, str]:
        async with client(wire) as alphapo:
            return {result.index: result.outcome async for result in alphapo.batch(rows, concurrency=2)}

    assert run(story()) == {0: "accepted", 1: "accepted", 2: "conflict", 3: "invalid"}


def test_a_batch_checks_its_arguments_before_it_takes_a_row() -> None:
    """What is no series of rows, and a concurrency that is none."""

    async def story() -> None:
        async with client(Wire()) as alphapo:
            for requests, concurrency in ((request(), 1), ([request()], 0)):
                with pytest.raises(ConfigurationError):
                    await anext(alphapo.batch(requests, concurrency=concurrency))  # type: ignore[arg-type]

    run(story())


class Unreachable(Wire):
    """Nothing ever gets through."""

    async def exchange(self, *what: object, **output: object) -> Reply | NoReply:
        """Say so."""
        await asyncio.sleep(0.01)
        return NO_CONNECTION


def slow_to_take(journal: Durable, between: Callable[[], Awaitable[Any]]) -> list[tuple[str, str]]:
    """Take the results of a batch that reached no server, with this between the first and the second."""

    async def story() -> list[tuple[str, str]]:
        results = []
        async with client(Unreachable(), journal=journal, policy=RetryPolicy(attempts=1)) as alphapo:
            async for result in alphapo.batch([request("a"), request("b")]):
                results.append((result.request.foreign_id, result.outcome))
                if len(results) == 1:
                    await asyncio.sleep(5)
                    await between()
        return sorted(results)

    return run(story())


def test_a_result_of_a_batch_that_waited_is_told_as_it_stands() -> None:
    """Another call has paid the second one before its "not sent" was taken."""
    wire, journal = Wire(), Durable()

    async def pay_both() -> None:
        async with client(wire, journal=journal) as other:
            for name in "ab":
                await other.withdraw(request(name))

    result = slow_to_take(journal, pay_both)

    assert sorted(outcome for _, outcome in result) == ["accepted", "not_sent"]  # the first had been taken
    assert wire.posts == 2


def test_a_no_that_waited_is_not_told_where_the_journal_cannot_be_read() -> None:
    """Another call may have paid it meanwhile: that is not known."""

    class Unreadable(Durable):
        is_down = False

        async def find(self, *args: Any) -> Row | None:
            if self.is_down:
                raise JournalError("down", recorded=None)
            return await super().find(*args)

    journal = Unreadable()

    async def go_down() -> None:
        journal.is_down = True

    assert sorted(outcome for _, outcome in slow_to_take(journal, go_down)) == ["not_sent", "unknown"]


def test_a_conflict_of_a_batch_stays_one() -> None:
    """The row that the journal has is the other payment's."""

    async def story() -> list[str]:
        async with client(Wire(), journal="memory") as alphapo:
            await alphapo.withdraw(request("a"))
            rows: list[WithdrawalRequest | dict[str, str]] = [request("a", amount="7"), {"foreign_id": "a"}]
            return [result.outcome async for result in alphapo.batch(rows)]

    assert sorted(run(story())) == ["conflict", "invalid"]


def test_a_caller_of_a_batch_who_is_cancelled_while_the_journal_is_read_leaves_at_once() -> None:
    """A result that is negative is compared with the journal before it is returned; rows at work are not waited for then, either."""

    class Silent(Durable):
        is_silent = False

        async def find(self, account: str, foreign_id: str) -> Row | None:
            await asyncio.sleep(60.0 if self.is_silent else 0.0)
            return await super().find(account, foreign_id)

    wire, journal = Wire([INSUFFICIENT]), Silent()

    async def source() -> AsyncIterator[WithdrawalRequest]:
        yield request("payout-0")
        await asyncio.sleep(0.001)
        wire.seconds, journal.is_silent = 10.0, True
        yield request("payout-1")

    async def story() -> float:
        loop = asyncio.get_running_loop()
        async with client(wire, journal=journal) as alphapo:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(1.0):
                    _ = [result async for result in alphapo.batch(source(), concurrency=8)]
            return loop.time()

    assert run(story()) == pytest.approx(1.0, abs=0.1)
