"""The inbox: callbacks for one id are handled one at a time, each of them until a block has ended cleanly.

What was handled stands in the journal, so that every process that shares it knows; the claim of a process that died is void.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Final

from alphapo_async.core.callbacks import Handled, read_handled
from alphapo_async.core.errors import CallbackBusy, JournalError
from alphapo_async.core.models import Transaction
from alphapo_async.crew import World
from alphapo_async.journal import Journal, MemoryJournal, Remembering

__all__ = ["Inbox", "Turn"]

_PATIENCE: Final = 10.0
"""Seconds that a delivery waits for another one of the same id."""
_POLL: Final = 0.05  # seconds between two looks at the claim of another process


class Turn:
    """The right to handle one callback, and what was handled before."""

    def __init__(self, name: str, status: str | None, handled: Handled) -> None:
        self.name = name
        self.status = status
        self.handled = handled

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
        world: time and sleep.
    """

    def __init__(self, account: str, journal: Journal, worker: Callable[[], str], world: World) -> None:
        self._account = account
        self._journal = journal
        self._notes: Remembering = journal if isinstance(journal, Remembering) else MemoryJournal()
        self._worker = worker
        self._world = world
        self._locks: dict[str, asyncio.Lock] = {}
        self._waiting: dict[str, int] = {}

    def __repr__(self) -> str:
        return f"Inbox({len(self._locks)} under way)"

    @contextlib.asynccontextmanager
    async def turn(self, told: Transaction) -> AsyncIterator[Turn]:
        """Wait for the turn of this callback; it counts as handled once the block has ended cleanly, and only then.

        Raises:
            CallbackBusy: another delivery of this id took longer than 10 s.
            JournalError: the journal cannot be used.
        """
        name = f"callback {told.id}"
        until = asyncio.get_running_loop().time() + _PATIENCE
        async with self._alone(name, until):
            handled = await self._claim(name, until)
            turn = Turn(name, told.status, handled)
            try:
                yield turn
            except BaseException:
                # Whatever cannot be let go of now is void with this worker, and free to it.
                with contextlib.suppress(JournalError):
                    await self._keep(name, handled, handled.let_go())
                raise
            await self._keep(name, handled, handled.done(told.status) if turn.is_new else handled.let_go())

    @contextlib.asynccontextmanager
    async def _alone(self, name: str, until: float) -> AsyncIterator[None]:
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
            known = read_handled(text)
            if await self._is_free(known):
                taken = known.taken(self._worker())
                if await self._notes.swap(self._account, name, text, taken.text()):
                    return taken
            elif asyncio.get_running_loop().time() >= until:
                raise _busy()
            else:
                await self._world.sleep(_POLL)

    async def _is_free(self, known: Handled) -> bool:
        if known.by in (None, self._worker()):
            return True
        return await self._journal.ended(known.by or "", self._world.clock()) is not None

    async def _keep(self, name: str, taken: Handled, after: Handled) -> None:
        await self._notes.swap(self._account, name, taken.text(), after.text())


async def _acquired(lock: asyncio.Lock, until: float) -> None:
    try:
        async with asyncio.timeout_at(until):
            await lock.acquire()
    except TimeoutError:
        raise _busy() from None


def _busy() -> CallbackBusy:
    return CallbackBusy(
        "Another delivery of this callback is still being handled; nothing was handled by this one. Answer 503, and AlphaPo sends it again."
    )
