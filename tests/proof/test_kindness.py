"""A failing AlphaPo is not stormed, and a recovering one is used again at once: thousands of withdrawals in virtual time.

Everything is the unmodified client but the session, which is a scripted far end; chance is seeded with 1.
"""

import asyncio
import random
from collections.abc import Mapping
from typing import Any

import pytest

from alphapo_async.client import AlphapoClient
from alphapo_async.core.errors import WithdrawalError, WithdrawalNotSent
from alphapo_async.core.models import Withdrawal
from alphapo_async.core.replies import NoReply, Reply
from alphapo_async.core.retry_policy import RetryPolicy
from tests.support.long import LONG, long_after
from tests.support.virtual import run
from tests.support.wire import HTML_502, NO_CONNECTION, Wire, client, request

SEED = 1


async def _gathered(alphapo: AlphapoClient, number: int) -> list[Withdrawal | BaseException]:
    return await asyncio.gather(
        *(alphapo.withdraw(request(f"payout-{one}")) for one in range(number)), return_exceptions=True
    )


class Down(Wire):
    """An AlphaPo that is down for a while, and counts what reaches it meanwhile."""

    def __init__(self, until: float, answer: Reply | NoReply, **settings: Any) -> None:
        super().__init__(**settings)
        self.until = until
        self.answer = answer

    async def exchange(
        self, method: str, url: str, *, body: bytes | None, headers: Mapping[str, str], timeout: float
    ) -> Reply | NoReply:
        now = asyncio.get_running_loop().time()
        if now < self.until:
            self.times.append((now, method))
            await asyncio.sleep(self.seconds)
            return self.answer
        return await super().exchange(method, url, body=body, headers=headers, timeout=timeout)


@LONG
def test_ten_thousand_over_fifty_connections_are_all_accepted() -> None:
    """Each answer takes a second, so that the last one leaves after 200 s: queueing spends no deadline."""

    async def story() -> tuple[list[Any], float, int]:
        wire = Wire(seconds=1.0, max_connections=50)
        async with client(wire) as alphapo:
            result = await _gathered(alphapo, 10_000)
        return result, asyncio.get_running_loop().time(), wire.most_under_way

    result, now, most = run(story())

    assert all(isinstance(one, Withdrawal) for one in result)
    assert now == pytest.approx(200, abs=5)
    assert most == 50


@pytest.mark.parametrize("answer", long_after(1, [NO_CONNECTION, HTML_502]), ids=["refused", "502"])
def test_two_thousand_callers_survive_an_outage_of_three_seconds(answer: Reply | NoReply) -> None:
    """Under the default policy all are served within 5 s of the outage's end."""

    async def story() -> tuple[list[Any], float]:
        async with client(Down(3.0, answer)) as alphapo:
            result = await _gathered(alphapo, 2_000)
            return result, asyncio.get_running_loop().time()

    result, now = run(story())

    assert all(isinstance(one, Withdrawal) for one in result)
    assert now < 3.0 + 5.0


@pytest.mark.parametrize(
    ("answer", "number"),
    [(NO_CONNECTION, 2_000), pytest.param(HTML_502, 10_000, marks=LONG)],
    ids=["2000 refused", "10000 502"],
)
def test_thousands_against_a_dead_server_make_few_requests(answer: Reply | NoReply, number: int) -> None:
    """With every request failing, outage mode keeps it to 0.15 requests a withdrawal; what never left is told so at the deadline."""

    async def story() -> tuple[list[Any], int, float]:
        wire = Down(1e9, answer)
        async with client(wire) as alphapo:
            result = await _gathered(alphapo, number)
        return result, len(wire.times), asyncio.get_running_loop().time()

    result, requests, now = run(story())

    assert requests <= 0.15 * number
    assert not any(isinstance(one, Withdrawal) for one in result)
    assert sum(isinstance(one, WithdrawalNotSent) and one.reason == "outage" for one in result) >= 0.98 * number
    assert now < 62


@LONG
def test_after_recovery_everything_is_normal_again_within_two_seconds_without_a_storm() -> None:
    """Sending opens gradually: after the first answer at most twice as many bodies leave per round trip, and soon all do."""

    async def story() -> tuple[Down, list[Any]]:
        wire = Down(20.0, HTML_502, seconds=0.05)
        async with client(wire, policy=RetryPolicy(wait_max=1.0)) as alphapo:
            result = await _gathered(alphapo, 10_000)
        return wire, result

    wire, result = run(story())
    recovered = [when for when, method in wire.times if when >= 20.0 and method == "POST"]
    rate_at = [sum(20 + second <= when < 21 + second for when in recovered) for second in range(4)]

    assert all(isinstance(one, Withdrawal) for one in result)
    assert recovered[0] - 20 <= 1.0
    trips = [
        sum(recovered[0] + trip * 0.05 <= when < recovered[0] + (trip + 1) * 0.05 for when in recovered)
        for trip in range(4)
    ]
    assert trips[0] == 1
    assert all(later <= 2 * max(trips[: at + 1]) + 2 for at, later in enumerate(trips[1:]))
    assert rate_at[2] == pytest.approx(2_000, rel=0.1)  # 100 connections, 0.05 s each: full speed in the third second


class Flaky(Wire):
    """Loses 60 % of the bodies, and answers no look-up; counts first bodies, first answers and the rest."""

    def __init__(self) -> None:
        super().__init__(max_connections=100)
        self.chance = random.Random(SEED)
        self.first_answers = 0
        self.later_answers = 0

    async def exchange(
        self, method: str, url: str, *, body: bytes | None, headers: Mapping[str, str], timeout: float
    ) -> Reply | NoReply:
        if method == "GET" or self.chance.random() < 0.6:
            self.times.append((asyncio.get_running_loop().time(), method))
            if method == "POST":
                self.seen["bodies", str(body)] += 1
            await asyncio.sleep(0.02)
            return HTML_502
        self.seen["bodies", str(body)] += 1
        if self.seen["bodies", str(body)] == 1:
            self.first_answers += 1
        else:
            self.later_answers += 1
        return await super().exchange(method, url, body=body, headers=headers, timeout=timeout)


def test_retries_and_look_ups_live_on_their_budget() -> None:
    """60 % of the bodies and every look-up fail: beyond the first requests there is 100, a half per first answer and a half per second.

    A further request that gets a definite answer gives its token back, and so does not count.
    """

    async def story() -> tuple[Flaky, int, float]:
        wire = Flaky()
        async with client(wire) as alphapo:
            result = await _gathered(alphapo, 1_000)
        assert all(isinstance(one, Withdrawal | WithdrawalError) for one in result)
        return wire, len({name for (kind, name) in wire.seen if kind == "bodies"}), asyncio.get_running_loop().time()

    wire, withdrawals, seconds = run(story())

    beyond = len(wire.times) - withdrawals - wire.later_answers
    assert beyond <= 100 + wire.first_answers / 2 + seconds / 2 + 1
    assert beyond > 100
