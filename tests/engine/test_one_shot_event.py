"""Moments: they come once, and whoever waits for them goes on."""

import asyncio

from alphapo_async.engine.one_shot_event import OneShotEvent
from tests.support.virtual import run


def test_whoever_waits_goes_on_when_it_comes() -> None:
    """Several may wait, and it may come again without harm."""

    async def story() -> list[float]:
        moment, times = OneShotEvent(), list[float]()

        async def waits() -> None:
            await moment.wait()
            times.append(asyncio.get_running_loop().time())

        waiting = [asyncio.ensure_future(waits()) for _ in range(2)]
        await asyncio.sleep(3)
        moment.set()
        moment.set()
        await asyncio.gather(*waiting)
        return times

    assert run(story()) == [3.0, 3.0]


def test_nobody_waits_for_what_has_come() -> None:
    """It is past for good."""

    async def story() -> float:
        moment = OneShotEvent()
        moment.set()
        await moment.wait()
        return asyncio.get_running_loop().time()

    assert run(story()) == 0.0


def test_it_says_whether_it_is_past() -> None:
    """For whoever debugs."""
    moment = OneShotEvent()
    assert repr(moment) == "OneShotEvent(to come)"
    moment.set()
    assert repr(moment) == "OneShotEvent(past)"
