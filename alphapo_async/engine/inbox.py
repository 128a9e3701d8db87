"""The inbox: callbacks for one id are handled one at a time, each of them until a block has ended cleanly.

What was handled stands in the journal, so that every process that shares it knows; the claim of a process that died is void.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from typing import Final, cast

from alphapo_async.core.callbacks import Callback, Handled, read_handled
from alphapo_async.core.errors import CallbackBusy, JournalError
from alphapo_async.core.history import Entry, noted
from alphapo_async.core.models import Transaction
from alphapo_async.core.replays import callback_to_replay
from alphapo_async.core.retry_policy import backoff
from alphapo_async.core.row import Row
from alphapo_async.core.version import __version__
from alphapo_async.engine.clock import COMMIT_GRACE
from alphapo_async.journal import Journal, KeyValueStore, MemoryJournal
from alphapo_async.supervisor import Supervisor

__all__ = ["CallbackClaim", "Inbox"]

_PATIENCE: Final = 10.0
"""Seconds that a delivery waits for another one of the same id, or for a journal that answers too late."""
_POLL: Final = 0.05  # seconds between two looks at the claim of another process
_RELEASE: Final = "release of a callback"
_PAUSE: Final = 1.0  # seconds before a claim that could not be let go of is tried again
_LONGEST_PAUSE: Final = 30.0


class CallbackClaim:
    """The right to handle one callback, and what was handled before."""

    def __init__(self, name: str, status: str | None, handled: Handled, claimed_at: float) -> None:
        self.name = name
        self.status = status
        self.handled = handled
        self.claimed_at = claimed_at
        """On the loop's clock; it stood then."""

    @property
    def is_new(self) -> bool:
        """No block has ended cleanly for this one, nor for a later one of this id."""
        return self.handled.is_new(self.status)

    @property
    def is_repeated(self) -> bool:
        """A block has ended cleanly for exactly this one."""
        return self.status in self.handled.statuses


class Inbox:
    """Gives turns.

    Args:
        account: whose callbacks they are.
        journal: keeps what was handled; one that cannot is stood in for by memory.
        worker: the name under which this process works now.
        now: seconds since the epoch, as all workers of the journal count them.
        sleep: waits.
        supervisor: restarts what frees a claim in the background.
    """

    def __init__(
        self,
        account: str,
        journal: Journal,
        worker: Callable[[], str],
        supervisor: Supervisor,
        *,
        now: Callable[[], float],
        sleep: Callable[[float], Awaitable[None]],
    ) -> None:
        self._account = account
        self._journal = journal
        self._notes: KeyValueStore = journal if isinstance(journal, KeyValueStore) else MemoryJournal()
        self._worker = worker
        self._now = now
        self._sleep = sleep
        self._supervisor = supervisor
        self._locks: dict[str, asyncio.Lock] = {}
        self._waiting: dict[str, int] = {}
        self._is_closed = False
        self._freeing: set[asyncio.Task[None]] = set()
        self.under_way: set[asyncio.Future[None]] = set()
        """The blocks that handle callbacks now."""

    def __repr__(self) -> str:
        return f"Inbox({len(self._locks)} under way)"

    @contextlib.contextmanager
    def block(self) -> Iterator[None]:
        """Count the block as under way until it has ended."""
        block: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.under_way.add(block)
        try:
            yield
        finally:
            self.under_way.discard(block)
            block.set_result(None)

    @contextlib.asynccontextmanager
    async def claim(self, transaction: Transaction, *, is_replay: bool = False) -> AsyncIterator[CallbackClaim]:
        """Wait for the turn of this callback; it counts as handled once the block has ended cleanly, and only then.

        A replay changes nothing of what counts as handled.

        Raises:
            CallbackBusy: another delivery of this id took longer than 10 s.
            JournalError: the journal cannot be used.
        """
        name = f"callback {transaction.id}"
        until = asyncio.get_running_loop().time() + _PATIENCE
        async with self._exclusive(name, until):
            taken = await self._claim(name, until)
            claim = CallbackClaim(name, transaction.status, taken, asyncio.get_running_loop().time())
            try:
                yield claim
            except BaseException:
                await self._let_go(name, taken)
                raise
            if is_replay:
                await self._let_go(name, taken)
            else:  # also where it was handled before: the journal may have gone back, and have lost that
                await self._finish(name, taken, transaction.status)

    @contextlib.asynccontextmanager
    async def replay(self, foreign_id: str, status: str | None) -> AsyncIterator[Callback]:
        """Wait for the turn of a callback that the journal keeps, add a line to the history, and yield the callback.

        Raises:
            CallbackError: the journal keeps no such callback.
            CallbackBusy: a delivery of this id took longer than 10 s.
            JournalError: the journal cannot be used.
        """
        callback = callback_to_replay(await self._journal.history(self._account, foreign_id), foreign_id, status)
        line = Entry(self._now(), "replayed", callback.transaction.status or "", release=__version__)
        async with self.claim(callback.transaction, is_replay=True) as claim:
            await self._journal.update(self._account, foreign_id, lambda row: noted(cast("Row", row), [line]))
            await self.confirm(claim)
            yield callback

    @contextlib.asynccontextmanager
    async def _exclusive(self, name: str, until: float | None) -> AsyncIterator[None]:
        """Be the only one in this process."""
        lock = self._locks.setdefault(name, asyncio.Lock())
        self._waiting[name] = self._waiting.get(name, 0) + 1
        try:
            await _acquired(lock, until)
            try:
                yield
            finally:
                lock.release()
        finally:
            self._waiting[name] -= 1
            if not self._waiting[name]:
                del self._waiting[name], self._locks[name]

    async def _claim(self, name: str, until: float) -> Handled:
        """Be the only one among all processes; return what was handled before, claimed by this worker."""
        while True:
            text = await self._notes.recall(self._account, name)
            known, now = read_handled(text), asyncio.get_running_loop().time()
            if await self._is_free(known):
                taken = known.taken(self._worker())
                if await self._take(name, text, taken) and await self._has_kept(name, taken, now):
                    return taken
            elif now >= until:
                raise _busy()
            else:
                await self._sleep(_POLL)

    async def _is_free(self, known: Handled) -> bool:
        if known.by is None or known.by == self._worker():
            return True
        now = self._now()
        until = await self._journal.ended(known.by, now)
        return until is not None and until <= now

    async def _take(self, name: str, text: str | None, taken: Handled) -> bool:
        """Claim it. A delivery that is cancelled, or gets no answer, may have the claim all the same, and releases it."""
        taking = asyncio.ensure_future(self._notes.swap(self._account, name, text, taken.text()))
        try:
            return await asyncio.shield(taking)
        except BaseException:
            self._in_background(partial(self._let_go_after, taking, name, taken))
            raise

    async def _has_kept(self, name: str, taken: Handled, since: float) -> bool:
        """Do as `_still_stands` for a claim that has just been taken; where that fails, other processes need not wait for this one."""
        try:
            return await self._still_stands(name, taken, since)
        except BaseException:
            self._in_background(partial(self._let_go_later, name, taken))
            raise

    async def _still_stands(self, name: str, taken: Handled, since: float) -> bool:
        """Tell whether the claim is what the journal holds, and has just been so.

        While the word of it was long on its way, or this process stood still, others may have taken this worker for dead, and have handled
        the callback.

        Raises:
            JournalError: the journal cannot be read, or is too slow for what it says to be relied on.
        """
        loop = asyncio.get_running_loop()
        until = loop.time() + _PATIENCE
        while loop.time() - since > COMMIT_GRACE:
            if (since := loop.time()) > until:
                raise JournalError(
                    f"The journal takes more than {COMMIT_GRACE:g} s to answer; this delivery of a callback was not handled.",
                    recorded=None,
                )
            if await self._notes.recall(self._account, name) != taken.text():
                return False
        return True

    async def confirm(self, claim: CallbackClaim) -> None:
        """Pass if the turn still is this delivery's, for what is to be done now took a while to prepare.

        Raises:
            CallbackBusy: others have taken this worker for dead, and may be handling the callback.
            JournalError: the journal cannot be used.
        """
        if not await self._still_stands(claim.name, claim.handled, claim.claimed_at):
            raise _busy()

    async def _finish(self, name: str, taken: Handled, status: str | None) -> None:
        """Write down that it was handled. Where the journal cannot take that, another delivery may have its turn, here or elsewhere."""
        try:
            await self._write_down(name, taken, status)
        except BaseException:
            self._in_background(partial(self._let_go_later, name, taken))
            raise

    async def _write_down(self, name: str, taken: Handled, status: str | None) -> None:
        """Add it to what was handled, also where the claim was lost meanwhile."""
        if await self._notes.swap(self._account, name, taken.text(), taken.done(status).text()):
            return
        text = await self._notes.recall(self._account, name)
        while not await self._notes.swap(self._account, name, text, read_handled(text).added(status).text()):
            text = await self._notes.recall(self._account, name)

    async def _let_go(self, name: str, taken: Handled) -> None:
        """Free the claim; in the background, if the journal cannot take that now."""
        try:
            await self._notes.swap(self._account, name, taken.text(), taken.let_go().text())
        except BaseException as error:
            self._in_background(partial(self._let_go_later, name, taken))
            if not isinstance(error, Exception):
                raise
            if not isinstance(error, JournalError):
                self._supervisor.failed(_RELEASE, error)

    async def _let_go_after(self, taking: asyncio.Future[bool], name: str, taken: Handled) -> None:
        await asyncio.wait({taking})  # its outcome was returned, or no caller waits for it
        await self._let_go_later(name, taken)

    async def _let_go_later(self, name: str, taken: Handled) -> None:
        """Free the claim as soon as the journal can; not while a later delivery has its turn here, under the same claim."""
        number = 0
        while True:
            async with self._exclusive(name, None):
                with contextlib.suppress(JournalError):
                    await self._notes.swap(self._account, name, taken.text(), taken.let_go().text())
                    return
            number += 1
            await self._sleep(backoff(number, _PAUSE, _LONGEST_PAUSE))

    def _in_background(self, job: Callable[[], Awaitable[None]]) -> None:
        if self._is_closed:
            return
        task = asyncio.get_running_loop().create_task(self._supervisor.until_done(_RELEASE, job))
        self._freeing.add(task)
        task.add_done_callback(self._freeing.discard)

    async def aclose(self) -> None:
        """Free nothing any more: with the worker, all its claims end."""
        self._is_closed = True  # a block that ends later leaves its claim as it stands
        for task in self._freeing:
            task.cancel()
        await asyncio.gather(*self._freeing, return_exceptions=True)


async def _acquired(lock: asyncio.Lock, until: float | None) -> None:
    try:
        async with asyncio.timeout_at(until):
            await lock.acquire()
    except TimeoutError:
        raise _busy() from None


def _busy() -> CallbackBusy:
    return CallbackBusy(
        "Another delivery of this callback is still being handled; nothing was handled by this one. Answer 503, and AlphaPo sends it again."
    )
