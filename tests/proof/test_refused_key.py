"""A wrong secret, over real sockets and in real journals: the outbox is kept, and paid once the secret is right."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from alphapo_async import AlphapoClient, AuthenticationError, RetryPolicy, WithdrawalUnknown, open_journal
from alphapo_async.core.events import Event
from alphapo_async.core.history import Entry
from alphapo_async.core.row import Row
from alphapo_async.journal import Journal
from alphapo_async.sandbox import Sandbox
from tests.proof.killed import KEY, SECRET, request_of
from tests.support import postgres

POLICY = RetryPolicy(attempts=2, deadline=5.0, attempt_timeout=2.0, wait_initial=0.05, wait_max=0.2)
WRONG = "not-the-secret"
ROWS = range(5)


@pytest.fixture(params=["file", "PostgreSQL"])
def name(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Name a journal."""
    return str(tmp_path / "payouts.db") if request.param == "file" else postgres.url()


def _journal(name: str, schema: str) -> Journal:
    return open_journal(name, schema=schema) if name.startswith("postgres") else open_journal(name)


async def _states(journal: Journal) -> set[str]:
    rows = [await journal.find("default", request_of(number).foreign_id) for number in ROWS]
    return {row.state for row in rows if row is not None}


async def _let_pass(journal: Journal, seconds: float) -> None:
    """Let all rows be checked so much earlier than they were: a worker comes back to a row only after 10 s."""

    def earlier(row: Row | None) -> tuple[Row, Sequence[Entry]]:
        assert row is not None
        return (row if row.checked_at is None else replace(row, checked_at=row.checked_at - seconds)), ()

    for number in ROWS:
        await journal.update("default", request_of(number).foreign_id, earlier)


async def test_workers_with_a_wrong_secret_keep_the_outbox(name: str) -> None:
    """Two of them: each reports it once and sends a body or a few; with the right secret all rows are paid, each once."""
    schema = postgres.schema()
    heard: list[Event] = []
    async with Sandbox(KEY, SECRET) as sandbox, contextlib.AsyncExitStack() as stack:

        async def opened(secret: str) -> tuple[AlphapoClient, Journal]:
            journal = _journal(name, schema)
            stack.push_async_callback(journal.aclose)
            client = AlphapoClient(
                KEY,
                secret,
                journal=journal,
                base_url=sandbox.url,
                policy=POLICY,
                on_event=heard.append,
                close_grace=1.0,
            )
            return await stack.enter_async_context(client), journal

        right, journal = await opened(SECRET)
        for number in ROWS:
            await right.enqueue(request_of(number))
        wrong = [(await opened(WRONG))[0] for _ in range(2)]
        working = [asyncio.ensure_future(client.work()) for client in wrong]
        async with asyncio.timeout(20):
            while [event.name for event in heard].count("key refused") < 2:
                await _let_pass(journal, 10.0)
                await asyncio.sleep(0.05)
        await _let_pass(journal, 10.0)
        await asyncio.sleep(1.5)
        assert await _states(journal) == {"open"}
        with pytest.raises(WithdrawalUnknown) as result:
            await wrong[0].withdraw(request_of(0))
        assert (result.value.reason, result.value.may_release_funds) == ("key refused", False)
        with pytest.raises(AuthenticationError):
            await wrong[0].withdraw(request_of(99))
        refused = [event for event in heard if event.name == "key refused"]
        assert [event.reason for event in refused] == ["bad_header_signature"] * 2
        assert not sandbox.ledger.all_accepted()
        assert await _states(journal) == {"open"}

        working.append(asyncio.ensure_future(right.work()))
        async with asyncio.timeout(40):
            while await _states(journal) != {"accepted"}:
                await _let_pass(journal, 10.0)
                await asyncio.sleep(0.1)
        assert len(sandbox.ledger.all_accepted()) == len(ROWS)
        for task in working:
            task.cancel()
        await asyncio.gather(*working, return_exceptions=True)


async def test_a_batch_with_a_wrong_secret_reports_each_row_as_the_journal_holds_it(name: str) -> None:
    """Enqueued rows stay open; the rows that the batch recorded are settled, and the rest is not taken."""
    schema = postgres.schema()
    journal = _journal(name, schema)
    async with Sandbox(KEY, SECRET) as sandbox:
        settings: dict[str, Any] = {"base_url": sandbox.url, "policy": POLICY, "journal": journal}
        async with AlphapoClient(KEY, WRONG, **settings) as wrong:
            for number in ROWS:
                await wrong.enqueue(request_of(number))
            outcomes = {}

            async def pay() -> None:
                async for result in wrong.batch(map(request_of, range(500)), concurrency=8):
                    outcomes[result.request.foreign_id] = result.outcome

            with pytest.raises(AuthenticationError) as raised:
                await pay()
            assert not raised.value.may_release_funds  # it is about no single row
            for foreign_id, outcome in outcomes.items():
                row = await journal.find("default", foreign_id)
                assert row is not None
                assert outcome == ("unknown" if row.state == "open" else row.state)
            assert {outcomes[request_of(number).foreign_id] for number in ROWS} == {"unknown"}
            assert len(outcomes) < 50
            results = [result async for result in wrong.resume()]
            left = [result for result in results if isinstance(result.error, WithdrawalUnknown)]
            assert len(left) == len(ROWS)
            assert {result.error.reason for result in left if isinstance(result.error, WithdrawalUnknown)} == {
                "key refused"
            }
        async with AlphapoClient(KEY, SECRET, **settings) as right:
            async for _ in right.resume():
                pass
        assert await _states(journal) == {"accepted"}
        assert len(sandbox.ledger.all_accepted()) == len(ROWS)
    await journal.aclose()
