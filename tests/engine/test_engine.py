"""The parts of one client: what they share, and how they are closed."""

import asyncio
import gc
from pathlib import Path
from typing import Any

import pytest

from alphapo_async.client import AlphapoClient
from alphapo_async.core.errors import (
    AlphapoUnavailable,
    ConfigurationError,
    WithdrawalNotSent,
)
from alphapo_async.core.models import Withdrawal
from alphapo_async.core.retry_policy import RetryPolicy
from alphapo_async.core.row import Row
from alphapo_async.journal import MemoryJournal
from alphapo_async.session import SessionManager
from tests.support.virtual import VirtualLoop, run
from tests.support.wire import (
    Durable,
    Wire,
    client,
    request,
)


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # tasks of the closed loop are collected here
def test_a_client_is_closed_in_its_own_loop_or_after_that_has_ended() -> None:
    """Closing from another one would end nothing while its own still runs."""
    made: list[AlphapoClient] = []
    under_way: list[asyncio.Future[Any]] = []

    async def begin() -> None:
        made.append(client(Wire(["silent"]), journal=Durable()))
        under_way.append(asyncio.ensure_future(made[0].withdraw(request())))
        await asyncio.sleep(0.1)

    async def close() -> str:
        await made[0].aclose()
        return repr(made[0])

    loop = VirtualLoop()
    loop.run_until_complete(begin())
    with pytest.raises(ConfigurationError, match="close it there"):
        run(close())
    for task in asyncio.all_tasks(loop):
        task._log_destroy_pending = False  # type: ignore[attr-defined]
    loop.close()
    assert "closed, 0 in flight" in run(close())
    del task
    made.clear()
    under_way.clear()
    gc.collect()


def test_closing_gives_what_is_under_way_its_grace() -> None:
    """A flight that ends within the grace ends well."""

    async def story() -> Withdrawal:
        alphapo = client(Wire(seconds=2.0))
        paying = asyncio.ensure_future(alphapo.withdraw(request()))
        await asyncio.sleep(0.1)
        await alphapo.aclose(grace=5)
        return await paying

    assert isinstance(run(story()), Withdrawal)


def test_a_session_handed_in_stays_its_owners() -> None:
    """Closing the client does not close a session that it was given."""

    class Watched(Wire):
        closed = False

        async def aclose(self) -> None:
            self.closed = True

    async def story() -> bool:
        wire = Watched()
        async with client(wire) as alphapo:
            await alphapo.withdraw(request())
        return wire.closed

    assert run(story()) is False


async def test_a_client_with_its_own_session_over_a_real_socket() -> None:
    """Nothing listens there: the withdrawal was not sent, and closing leaves nothing open."""
    alphapo = AlphapoClient(
        "made-up-key", "made-up-secret", base_url="http://127.0.0.1:1", policy=RetryPolicy(attempts=2, wait_initial=0)
    )
    assert isinstance(alphapo._engine.session, SessionManager)

    async with alphapo:
        with pytest.raises(WithdrawalNotSent) as caught:
            await alphapo.withdraw(request())

    assert caught.value.reason == "no connection"
    assert len(asyncio.all_tasks()) == 1


async def test_a_client_closes_the_journal_and_the_session_that_it_opened(tmp_path: Path) -> None:
    """The file's thread ends with the client, and so do the connections."""
    async with AlphapoClient("key", "secret", base_url="http://127.0.0.1:9", journal=tmp_path / "p.db") as alphapo:
        assert (await alphapo.health()).in_flight == 0
    assert alphapo._engine.owns_journal
    assert alphapo._engine.owns_session


async def test_a_question_that_waits_for_the_journal_at_closing_does_not_open_the_session_again() -> None:
    """It would leave after closing, and its connection would stay open."""

    class Held(MemoryJournal):
        is_free = asyncio.Event()

        async def find(self, account: str, foreign_id: str) -> Row | None:
            await self.is_free.wait()
            return await super().find(account, foreign_id)

    journal = Held()
    async with AlphapoClient("key", "secret", base_url="http://127.0.0.1:1", journal=journal) as alphapo:
        asking = asyncio.ensure_future(alphapo.look_up("payout-17"))
        await asyncio.sleep(0)
        await alphapo.aclose(grace=0.0)
        journal.is_free.set()
        with pytest.raises(AlphapoUnavailable, match="no slot in time"):
            await asking
    assert "closed" in repr(alphapo._engine.session)
