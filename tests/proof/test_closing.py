"""The client closed in many ways: within its bound each time, with threads, tasks, descriptors and locks counted before and after."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import gc
import os
import signal
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

import anyio
import pytest

from alphapo_async.client import AlphapoClient
from alphapo_async.contrib.pytest_plugin import RunningSandbox
from alphapo_async.core.errors import AlphapoError, ConfigurationError, JournalError
from alphapo_async.engine.lifecycle import BOUND
from alphapo_async.journal import open_journal
from alphapo_async.sandbox import Fault, Script
from alphapo_async.session import SessionManager
from tests.support import postgres
from tests.support.pooler import Pooler
from tests.support.wire import request

GRACE: Final = 0.1
SETTLING: Final = 2.0
"""Seconds that the other side may take to notice that a connection has ended."""
STALLS: Final = Script({"stalls": {"withdrawal": [Fault.STALL_AFTER]}}, then="repeat last")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[RunningSandbox]:
    """Give one AlphaPo for all ways; a withdrawal named `stalls` has no answer.

    The database is started, too, before anything is counted.
    """
    postgres.url()
    with RunningSandbox(faults=STALLS) as running:
        yield running


class Place(NamedTuple):
    """Where a client is opened and closed."""

    sandbox: RunningSandbox
    path: Path

    def client(self, **settings: Any) -> AlphapoClient:
        """Return a client with a journal in a file."""
        return self.sandbox.client(**{"journal": self.path, "close_grace": GRACE, **settings})

    @contextlib.asynccontextmanager
    async def opened(self, **settings: Any) -> AsyncIterator[AlphapoClient]:
        """Give a client that has paid; how it is closed is for the test."""
        client = self.client(**settings)
        await client.withdraw(request("paid"))
        yield client
        assert len(asyncio.all_tasks()) == 1, "no task is left"


async def closed_in_time(client: AlphapoClient) -> None:
    """Close a client whose journal hangs."""
    began = time.monotonic()
    await client.aclose()
    assert time.monotonic() - began < GRACE + BOUND


async def by_its_block(place: Place) -> None:
    """As the README has it."""
    async with place.client() as client:
        await client.withdraw(request("paid"))


async def twice_at_once(place: Place) -> None:
    """The second call waits for the end of the first; so does the third, which has nothing to do."""
    async with place.opened() as client:
        await asyncio.gather(client.aclose(), client.aclose())
        await client.aclose()


async def while_a_body_is_on_the_wire(place: Place) -> None:
    """The caller hears that nobody can say, the row is in doubt."""
    async with place.opened() as client:
        calling = asyncio.ensure_future(client.withdraw(request("stalls")))
        await asyncio.sleep(0.05)
        await client.aclose()
        with pytest.raises(AlphapoError):
            await calling


async def from_another_task_while_it_works(place: Place) -> None:
    """`work` ends with the client."""
    async with place.opened() as client:
        working = asyncio.ensure_future(client.work())
        await asyncio.sleep(0.02)
        await client.aclose()
        working.cancel()
        await asyncio.gather(working, return_exceptions=True)


async def by_a_caller_that_does_not_wait(place: Place) -> None:
    """It is cancelled, and leaves at once; closing goes on, and the next call waits for its end."""
    async with place.opened() as client:
        calling = asyncio.ensure_future(client.withdraw(request("stalls")))
        await asyncio.sleep(0.05)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(client.aclose(), 0.01)
        await client.aclose()
        await asyncio.gather(calling, return_exceptions=True)


async def in_a_scope_of_anyio_that_is_over(place: Place) -> None:
    """Every wait in such a scope is cancelled again and again: the block is left at once, and closing goes on."""
    made = place.client()
    with anyio.move_on_after(0.1) as scope:
        async with made as client:
            await client.withdraw(request("stalls"))
    assert scope.cancelled_caught
    await made.aclose()
    assert len(asyncio.all_tasks()) == 1


async def in_a_task_group_of_anyio_that_failed(place: Place) -> None:
    """As in a backend whose request has failed beside it."""
    made = place.client()

    async def pay() -> None:
        async with made as client:
            await client.withdraw(request("stalls"))

    async def fail_beside_it() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(pay)
            await anyio.sleep(0.1)
            raise LookupError

    with pytest.raises(ExceptionGroup):
        await fail_beside_it()
    await made.aclose()
    assert len(asyncio.all_tasks()) == 1


async def with_a_locked_file(place: Place) -> None:
    """Another process does not end its transaction: 20 calls wait for it, and the lease cannot be given back."""
    async with place.opened() as client:
        with contextlib.closing(sqlite3.connect(place.path, isolation_level=None)) as other:
            other.execute("begin exclusive")
            calls = [asyncio.ensure_future(client.withdraw(request(f"waits-{number}"))) for number in range(20)]
            await asyncio.sleep(0.02)
            await closed_in_time(client)
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(each, AlphapoError) for each in outcomes)


async def with_a_silent_database(place: Place) -> None:
    """It takes everything and answers nothing."""
    async with Pooler(postgres.url(), is_pooling=False) as between:
        client = place.client(journal=open_journal(between.url, schema=postgres.schema()))
        client._engine.owns_journal = True  # as with a URL, which cannot name a schema of its own
        await client.withdraw(request("paid"))
        between.is_silent = True
        calling = asyncio.ensure_future(client.withdraw(request("waits")))
        await asyncio.sleep(0.02)
        await closed_in_time(client)
        await asyncio.gather(calling, return_exceptions=True)


async def with_a_journal_that_does_not_open(place: Place) -> None:
    """The block is never entered."""
    place.path.write_text("a text, and no journal")
    with pytest.raises(JournalError):
        async with place.client():
            raise AssertionError
    assert len(asyncio.all_tasks()) == 1


async def with_a_session_of_the_callers(place: Place) -> None:
    """Which stays open, and is the caller's to close."""
    session = SessionManager()
    async with place.opened(session=session) as client:
        await client.aclose()
        await session.aclose()


async def as_its_loop_ends(place: Place) -> None:
    """`asyncio.run` cancels every task, the one that closes included: it goes on without grace."""
    client = place.client()
    await client.withdraw(request("paid"))
    _UNDER_WAY.append(asyncio.ensure_future(client.withdraw(request("stalls"))))
    await asyncio.sleep(0.05)
    _UNDER_WAY.append(asyncio.ensure_future(client.aclose(grace=60.0)))
    await asyncio.sleep(0.01)


def after_its_loop_has_ended(place: Place) -> None:
    """The program had forgotten to close it, and does so in another loop."""
    made: list[AlphapoClient] = []

    async def leave() -> None:
        made.append(place.client())
        await made[0].withdraw(request("paid"))

    asyncio.run(leave())
    asyncio.run(made[0].aclose())
    made.clear()


def by_a_signal(place: Place) -> None:
    """Ctrl-C in `asyncio.run`: the block ends in good order."""

    async def pay() -> None:
        async with place.client() as client:
            asyncio.get_running_loop().call_later(0.05, signal.raise_signal, signal.SIGINT)
            await client.withdraw(request("stalls"))

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(pay())


async def in_a_fork(place: Place) -> None:
    """The child hears at once that the client is not its own, and ends nothing of the parent's."""
    async with place.opened() as client:
        child = os.fork()
        if not child:
            try:
                os._exit(_closed_in_the_child(client))
            finally:
                os._exit(9)
        _, status = await asyncio.to_thread(os.waitpid, child, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        await client.withdraw(request("paid"))
        await client.aclose()
    await asyncio.get_running_loop().shutdown_default_executor()


def _closed_in_the_child(client: AlphapoClient) -> int:
    began = time.monotonic()
    try:
        asyncio.run(client.aclose())
    except ConfigurationError:
        return 0 if time.monotonic() - began < 1.0 else 2
    return 1


_UNDER_WAY: Final[list[asyncio.Future[Any]]] = []
WAYS: Final[list[Callable[[Place], Any]]] = [
    by_its_block,
    twice_at_once,
    while_a_body_is_on_the_wire,
    from_another_task_while_it_works,
    by_a_caller_that_does_not_wait,
    in_a_scope_of_anyio_that_is_over,
    in_a_task_group_of_anyio_that_failed,
    with_a_locked_file,
    with_a_silent_database,
    with_a_journal_that_does_not_open,
    with_a_session_of_the_callers,
    as_its_loop_ends,
    after_its_loop_has_ended,
    by_a_signal,
    in_a_fork,
]


class Counted(NamedTuple):
    """What a process may leak."""

    threads: int
    descriptors: int
    locks: int


def counted(path: Path) -> Counted:
    """Count threads, descriptors, and files of the journal's workers that are locked."""
    folder = path.with_name(f"{path.name}.workers")
    locked = sum(_is_locked(file) for file in folder.iterdir()) if folder.is_dir() else 0
    return Counted(threading.active_count(), len(list(Path("/proc/self/fd").iterdir())), locked)


def _is_locked(file: Path) -> bool:
    with file.open("rb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def _more_than(before: Counted, now: Counted) -> dict[str, tuple[int, int]]:
    """Return what there is more of than before, by its name; what an earlier test had left may be gone."""
    pairs = zip(Counted._fields, before, now, strict=True)
    return {name: (was, there_are) for name, was, there_are in pairs if there_are > was}


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")  # the loop that had ended took connections with it
@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_closing_ends_within_its_bound_and_leaves_nothing(
    sandbox: RunningSandbox, tmp_path: Path, way: Callable[[Place], Any]
) -> None:
    """Whatever hangs, whoever cancels; the lock of a worker that could not leave the journal is free all the same."""
    place = Place(sandbox, tmp_path / "payouts.db")
    before, began = counted(place.path), time.monotonic()
    result = way(place)
    if asyncio.iscoroutine(result):
        asyncio.run(result)
    _UNDER_WAY.clear()
    assert time.monotonic() - began < GRACE + BOUND + 1.0  # and what the way itself takes
    until = time.monotonic() + SETTLING
    while _more_than(before, counted(place.path)) and time.monotonic() < until:
        gc.collect()  # the sockets of a loop that had ended
        time.sleep(0.01)
    assert not _more_than(before, counted(place.path))
