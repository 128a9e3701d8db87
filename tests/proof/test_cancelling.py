"""A cancelled caller loses nothing: `withdraw` is cancelled after every possible number of turns of the event loop, in five styles.

Afterwards the client closes cleanly, no task and no socket is left, and a second call with the same request returns the truth.
"""

import asyncio
import contextlib
import gc
import signal
import stat
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from alphapo_async.client import AlphapoClient
from alphapo_async.core.models import Withdrawal, WithdrawalRequest
from alphapo_async.core.retry_policy import RetryPolicy
from alphapo_async.journal.memory import MemoryJournal
from alphapo_async.sandbox import Fault, Sandbox, Script
from tests.proof.background import running_sandbox
from tests.support.long import long_after
from tests.support.wire import request

TURNS = (*range(40), *range(40, 400, 24))
"""Turns of the loop after which the call is cancelled: one by one at first, then spread over the waits for the network and the retry."""
POLICY = RetryPolicy(attempts=4, deadline=10.0, attempt_timeout=2.0, wait_initial=0.01, wait_max=0.05)


class Stop(Exception):
    """What the other task of a group raises."""


async def _turns(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


async def by_task_cancel(call: Callable[[], Awaitable[Any]], turns: int) -> None:
    """Cancel the task."""
    task = asyncio.ensure_future(call())
    await _turns(turns)
    task.cancel()
    await asyncio.wait([task])


async def by_timeout(call: Callable[[], Awaitable[Any]], turns: int) -> None:
    """Let a time-out of the caller's own strike."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(None) as limit:
            loop = asyncio.get_running_loop()

            async def strike() -> None:
                await _turns(turns)
                with contextlib.suppress(RuntimeError):  # the call was quicker
                    limit.reschedule(loop.time())

            striking = asyncio.ensure_future(strike())
            await call()
    await striking


async def by_task_group(call: Callable[[], Awaitable[Any]], turns: int) -> None:
    """Let another task of the group fail."""

    async def fail() -> None:
        await _turns(turns)
        raise Stop

    async def run() -> None:
        await call()

    with contextlib.suppress(ExceptionGroup):
        async with asyncio.TaskGroup() as group:
            group.create_task(run())
            group.create_task(fail())


def _client(sandbox: Sandbox, journal: MemoryJournal) -> AlphapoClient:
    return AlphapoClient(
        "proof-key", "proof-secret", base_url=sandbox.url, journal=journal, policy=POLICY, close_grace=5
    )


def _open_sockets() -> int:
    count = 0
    for name in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            count += stat.S_ISSOCK(name.stat().st_mode)
    return count


@contextlib.contextmanager
def _no_socket_left() -> Iterator[None]:
    before = _open_sockets()
    yield
    gc.collect()
    until = time.monotonic() + 3
    while _open_sockets() > before and time.monotonic() < until:
        time.sleep(0.01)
    assert _open_sockets() <= before


@pytest.fixture(scope="module", params=[None, Fault.RESET_AFTER], ids=["happy path", "lost reply"])
def sandbox(request: pytest.FixtureRequest) -> Iterator[Sandbox]:
    """A local AlphaPo in a thread of its own, which loses the first reply or does not."""
    with running_sandbox(faults=Script({"*": {"withdrawal": [request.param]}})) as running:
        yield running


def _is_paid_once(sandbox: Sandbox, asked: WithdrawalRequest, content: Withdrawal) -> None:
    assert content.foreign_id == asked.foreign_id
    assert len(sandbox.ledger.accepted(asked.foreign_id)) == 1
    assert len({seen.body for seen in sandbox.ledger.requests(asked.foreign_id)}) == 1


@pytest.mark.parametrize("style", long_after(1, [by_task_cancel, by_timeout, by_task_group]))
def test_a_cancelled_call_can_be_repeated(sandbox: Sandbox, style: Callable[..., Awaitable[None]]) -> None:
    """Cancelled after any number of turns: the same client, asked again at once, returns the truth, and nothing is left behind."""

    async def story(turns: int) -> None:
        asked = request(f"{style.__name__}-{turns}-{id(sandbox)}")
        async with _client(sandbox, MemoryJournal()) as client:
            await style(lambda: client.withdraw(asked), turns)
            outcome = await client.withdraw(asked)
        assert len(asyncio.all_tasks()) == 1
        _is_paid_once(sandbox, asked, outcome)

    with _no_socket_left():
        for turns in TURNS:
            asyncio.run(story(turns), debug=turns % 20 == 0)


@pytest.mark.parametrize("style", long_after(1, [by_task_cancel, by_timeout, by_task_group]))
def test_a_cancelled_call_then_a_closed_client(sandbox: Sandbox, style: Callable[..., Awaitable[None]]) -> None:
    """Cancelled, and the client closed without grace: a new client on the same journal returns the truth."""

    async def story(turns: int) -> None:
        journal = MemoryJournal()
        asked = request(f"closed-{style.__name__}-{turns}-{id(sandbox)}")
        client = _client(sandbox, journal)
        await style(lambda: client.withdraw(asked), turns)
        await client.aclose(grace=0)
        assert len(asyncio.all_tasks()) == 1
        async with _client(sandbox, journal) as another:
            outcome = await another.withdraw(asked)
        _is_paid_once(sandbox, asked, outcome)

    with _no_socket_left():
        for turns in TURNS:
            asyncio.run(story(turns))


def _told_by_another(sandbox: Sandbox, journal: MemoryJournal, asked: WithdrawalRequest) -> Withdrawal:
    async def again() -> Withdrawal:
        async with _client(sandbox, journal) as client:
            return await client.withdraw(asked)

    return asyncio.run(again())


async def _last(client: AlphapoClient) -> AsyncIterator[None]:
    """Close the session, and the session only, after everything else has been cancelled: loops close their generators last."""
    try:
        yield
    finally:
        await client._engine.session.aclose()


@pytest.mark.parametrize("is_closed", [True, False], ids=["closing", "not closing"])
def test_the_loop_shuts_down(sandbox: Sandbox, is_closed: bool) -> None:  # noqa: FBT001 - a parameter of the test
    """The program ends while a withdrawal is under way, with or without closing the client: the journal can resolve it."""
    last: list[AsyncIterator[None]] = []

    async def story(turns: int, journal: MemoryJournal, asked: WithdrawalRequest) -> None:
        client = _client(sandbox, journal)
        call = asyncio.ensure_future(client.withdraw(asked))
        await _turns(turns)
        if is_closed:
            await client.aclose(grace=0)
            await asyncio.wait([call])
            call.exception()  # whatever it is, it is not lost unseen
        else:
            last.append(_last(client))
            await anext(last[-1])

    with _no_socket_left():
        for turns in TURNS:
            journal, asked = MemoryJournal(), request(f"shutdown-{is_closed}-{turns}-{id(sandbox)}")
            asyncio.run(story(turns, journal, asked))
            _is_paid_once(sandbox, asked, _told_by_another(sandbox, journal, asked))


@contextlib.contextmanager
def _heard_interrupts() -> Iterator[None]:
    """Python's own handler of Ctrl-C, also where the tests run in the background of a shell, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def test_ctrl_c(sandbox: Sandbox) -> None:
    """An interrupt from the keyboard: the client closes with its grace, and the journal can resolve what was under way."""

    async def story(turns: int, journal: MemoryJournal, asked: WithdrawalRequest) -> None:
        async with _client(sandbox, journal) as client:
            call = asyncio.ensure_future(client.withdraw(asked))
            await _turns(turns)
            signal.raise_signal(signal.SIGINT)
            await asyncio.sleep(5)
            await call

    with _no_socket_left(), _heard_interrupts():
        for turns in TURNS:
            journal, asked = MemoryJournal(), request(f"interrupt-{turns}-{id(sandbox)}")
            with pytest.raises(KeyboardInterrupt):
                asyncio.run(story(turns, journal, asked))
            _is_paid_once(sandbox, asked, _told_by_another(sandbox, journal, asked))
