"""Which workers are alive: the statements about workers, and the lock that shows that a worker is.

A worker's lock belongs to a connection that does nothing else. When its process dies the connection ends, and the database frees the
lock; a paused process keeps both. A free lock proves only that the connection is gone, which a failover does to every worker: the lease is
not renewed any more, its rows may be looked up at once, and are sent by no worker before the lease has ended. Through a pooler no lock can
be held, and leases are judged by time alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Awaitable, Callable
from typing import Any, Final

from alphapo_async.core.retry_policy import backoff
from alphapo_async.journal.copying import Register
from alphapo_async.journal.postgres.connection import DRIVER_ERRORS, driver, terminate
from alphapo_async.journal.postgres.identity import epoch_of
from alphapo_async.journal.postgres.rows import Fetch
from alphapo_async.journal.postgres.schema import queries
from alphapo_async.supervisor import Supervisor

__all__ = ["LivenessLock", "PostgresWorkers"]

_BITS: Final = 63
_FIRST_WAIT: Final = 0.05
_LONGEST_WAIT: Final = 5.0


class PostgresWorkers:
    """The statements, for the tables of one schema.

    Args:
        schema: a checked name.
    """

    def __init__(self, schema: str) -> None:
        self._sql = queries(schema)

    async def register(self, fetch: Fetch) -> Register:
        """Return accounts and workers."""
        hosts, leases, texts = (
            await fetch(self._sql["hosts"]),
            await fetch(self._sql["leases"]),
            await fetch(self._sql["named_texts"]),
        )
        [epoch] = await fetch(self._sql["look"])
        return Register(
            {each[0]: each[1] for each in hosts},
            {each[0]: each[1] for each in leases},
            {(each[0], each[1]): each[2] for each in texts},
            epoch_of(epoch),
        )

    async def load(self, fetch: Fetch, register: Register) -> None:
        """Write down accounts, workers and the epoch that another journal kept."""
        await fetch(self._sql["set_epoch"], register.epoch.number, register.epoch.since)
        await fetch(self._sql["load_hosts"], list(register.hosts), list(register.hosts.values()))
        await fetch(self._sql["load_leases"], list(register.leases), list(register.leases.values()))
        accounts, names = [key[0] for key in register.texts], [key[1] for key in register.texts]
        await fetch(self._sql["load_named_texts"], accounts, names, list(register.texts.values()))

    async def find_dead(self, fetch: Fetch, now: float, own: list[str]) -> list[tuple[str, float]]:
        """Return workers that ended, and holders of rows that are on no list: these have left, and could send until now at the latest."""
        ended = [(each["worker"], each["lease_until"]) for each in await fetch(self._sql["end_all"], now, own)]
        return ended + [(each["holder"], now) for each in await fetch(self._sql["unlisted"])]

    async def ended(self, fetch: Fetch, worker: str, now: float, own: list[str]) -> float | None:
        """Return until when a worker could send, if it ended."""
        [found] = await fetch(self._sql["end_one"], now, own, worker)
        until: float | None = found["lease_until"]
        return until if found["is_listed"] else now


class LivenessLock:
    """Shows the other workers that this process is alive.

    Args:
        connect: opens a connection that does nothing else; None where none can hold a lock.
        disconnect: ends it.
    """

    def __init__(
        self, connect: Callable[[], Awaitable[Any | None]], disconnect: Callable[[Any], Awaitable[None]]
    ) -> None:
        self._connect = connect
        self._disconnect = disconnect
        self._connection: Any = None
        self._locks: dict[str, int] = {}
        self._held: set[int] = set()
        self._turn = asyncio.Lock()
        self.supervisor = Supervisor()
        """Restarts the task that takes the locks again, should it fail."""
        self._returning: asyncio.Task[None] | None = None

    @property
    def workers(self) -> list[str]:
        """The workers that it shows."""
        return list(self._locks)

    async def show(self, worker: str) -> int | None:
        """Hold a lock for this worker, anew if the connection was lost; return its number, None where none can be held."""
        number = self._locks.setdefault(worker, secrets.randbits(_BITS))
        async with self._turn:
            if self._connection is None or self._connection.is_closed():
                self._held.clear()
                self._connection = await self._connect()
                if self._connection is None:
                    return None
                self._connection.add_termination_listener(self._on_loss)
            await self._update()
        return number

    async def _update(self) -> None:
        """Take the locks that are missing, and free the locks of workers that are not shown any more."""
        wanted = set(self._locks.values())
        for each in wanted - self._held:
            # The database may not have noticed that an earlier connection is gone, whose lock shows as much until then.
            if await self._ask(f"select pg_try_advisory_lock({each})"):
                self._held.add(each)
        for each in self._held - wanted:
            await self._ask(f"select pg_advisory_unlock({each})")
            self._held.discard(each)

    async def _ask(self, statement: str) -> bool:
        """Run a statement on the connection; end a connection that fails: a new one takes the locks again."""
        try:
            with driver():
                return bool(await self._connection.fetchval(statement))
        except BaseException:
            terminate(self._connection)
            raise

    async def hide(self, worker: str) -> None:
        """Free this worker's lock."""
        self.forget(worker)
        async with self._turn:
            if self._connection is not None and not self._connection.is_closed():
                with contextlib.suppress(*DRIVER_ERRORS):  # then the lock is gone with its connection
                    await self._update()

    def forget(self, worker: str) -> None:
        """Show this worker no more; the next statement about a lock frees its lock."""
        self._locks.pop(worker, None)

    async def aclose(self) -> None:
        """Free all locks."""
        self._locks.clear()
        if self._returning is not None:
            self._returning.cancel()
            await asyncio.gather(self._returning, return_exceptions=True)
        if self._connection is not None and not self._connection.is_closed():
            self._connection.remove_termination_listener(self._on_loss)
            await self._disconnect(self._connection)
        self._connection = None

    def terminate(self) -> None:
        """Free all locks at once, without a message to the database."""
        self._locks.clear()
        if self._returning is not None:
            self._returning.cancel()
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    def _on_loss(self, _connection: object) -> None:
        """Connect again at once: until then other workers take this process for dead."""
        if self._locks and (self._returning is None or self._returning.done()):
            returning = self.supervisor.until_done("liveness lock", self._return)
            self._returning = asyncio.get_running_loop().create_task(returning)

    async def _return(self) -> None:
        failures = 0
        while self._locks:
            with contextlib.suppress(*DRIVER_ERRORS):  # the lease is renewed elsewhere, which reports it
                if await self.show(next(iter(self._locks))) is None or self._held >= set(self._locks.values()):
                    return
            failures += 1
            await asyncio.sleep(backoff(failures, _FIRST_WAIT, _LONGEST_WAIT))
