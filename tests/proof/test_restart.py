"""PostgreSQL dies and comes back while hundreds of withdrawals are under way."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from alphapo_async import AlphapoClient, WithdrawalError, open_journal
from alphapo_async.core.errors import JournalError
from alphapo_async.core.models import Withdrawal
from alphapo_async.sandbox import Sandbox
from tests.proof.killed import KEY, POLICY, SECRET, control_of, request_of
from tests.support import postgres
from tests.support.long import long_after

MANY = 400


@pytest.fixture
def server() -> Iterator[Any]:
    """Give a server of its own: this one dies."""
    with tempfile.TemporaryDirectory(prefix="alphapo-postgres-", dir=postgres.quick_folder()) as folder:
        started = postgres.start(Path(folder) / "data")
        yield started
        postgres.stop(started)


@pytest.mark.parametrize("seconds", long_after(1, [0.0, 2.0]))
async def test_nothing_is_lost_when_the_database_dies(server: Any, seconds: float) -> None:
    """It drops everything without a word, in the midst of hundreds; afterwards every one is accepted once or definitely refused."""
    journal = open_journal(server.get_uri())
    async with (
        Sandbox(KEY, SECRET, latency=0.2) as sandbox,
        AlphapoClient(KEY, SECRET, journal=journal, base_url=sandbox.url, policy=POLICY) as client,
    ):
        paying = asyncio.gather(*(_pay(client, number) for number in range(MANY)))
        while len(sandbox.ledger.all_accepted()) < MANY // 4:  # noqa: ASYNC110 - what is waited for happens elsewhere
            await asyncio.sleep(0.01)
        await asyncio.to_thread(postgres.crash, server)
        await asyncio.sleep(seconds)
        await asyncio.to_thread(postgres.restart, server)
        answer = dict(await paying)
        assert set(answer.values()) <= {"accepted", "rejected", "unknown", "not_sent"}

        controls = itertools.count()
        async with asyncio.timeout(60):
            while await journal.find_open("default", None, 1):
                async for result in client.resume():
                    answer[result.request.foreign_id] = result.outcome
                with contextlib.suppress(WithdrawalError):  # shows that look-ups see, which some rows have to wait for
                    await client.withdraw(control_of(next(controls)))
                await asyncio.sleep(0.2)
        ledger = sandbox.ledger
        assert ledger.paid_more_than_once("foreign_id") == []  # controls differ in nothing else
        for number in range(MANY):
            name = request_of(number).foreign_id
            row = await journal.find("default", name)
            moved = [one for one in ledger.accepted(name) if one.moved_money]
            if row is None:
                assert answer[name] == "not_sent"
                assert not moved
                continue
            assert row.state == ("rejected" if number % 20 == 7 else "accepted")
            assert answer[name] in (row.state, "unknown")
            assert len(moved) == (row.state == "accepted")
    await journal.aclose()


async def _pay(client: AlphapoClient, number: int) -> tuple[str, str]:
    request = request_of(number)
    try:
        withdrawal = await client.withdraw(request)
    except JournalError as error:
        # Not sent; whether it was written down is not always known.
        return request.foreign_id, "not_sent" if error.recorded is False else "unknown"
    except WithdrawalError as error:
        return request.foreign_id, error.outcome
    assert isinstance(withdrawal, Withdrawal)
    return request.foreign_id, "accepted"
