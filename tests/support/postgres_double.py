"""A pool of PostgreSQL connections that answers just enough for a journal to open, and then fails as it is told."""

from __future__ import annotations

from types import TracebackType
from typing import Any, Self

from alphapo_async.journal.schema_version import THIS, SchemaVersion

PLACES = ("acquire", "begin", "fetch", "lock", "release")
"""Where a driver is called once the journal is open."""


class FailingConnection:
    """A connection to a database in which nothing stands."""

    def __init__(self, pool: FailingPool) -> None:
        self._pool = pool
        self._is_closed = False

    def transaction(self) -> Self:
        """Begin a transaction."""
        return self

    async def __aenter__(self) -> Self:
        self._pool.fail("begin")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass

    async def fetch(self, _statement: str, *_values: object) -> list[Any]:
        """Answer what is asked at opening."""
        self._pool.fail("fetch")
        standbys = {"standbys": 0, "names": "", "identity": "known"}
        return [{"pid": 7, "fsync": "on", "version": "18", **standbys}]

    async def fetchval(self, statement: str, *_values: object) -> Any:
        """Answer that the tables are there, or take a lock."""
        if "lock" in statement:
            self._pool.fail("lock")
        return True

    async def fetchrow(self, _statement: str) -> SchemaVersion:
        """Answer of which version the tables are."""
        return THIS

    def get_server_pid(self) -> int:
        """Return the number that the server tells: nothing stands between."""
        return 7

    def is_in_transaction(self) -> bool:
        """Answer that it is."""
        self._pool.fail("fetch")
        return True

    def is_closed(self) -> bool:
        """Tell whether it was terminated."""
        return self._is_closed

    def terminate(self) -> None:
        """End it; one that was lost complains."""
        self._is_closed = True
        self._pool.terminated += 1
        self._pool.fail("terminate")

    def add_termination_listener(self, listener: Any) -> None:
        """Call nobody."""

    def remove_termination_listener(self, listener: Any) -> None:
        """Call nobody."""


class FailingPool:
    """A pool that raises `error` at the places in `failing`, for the next `times` times."""

    def __init__(self) -> None:
        self.error: Exception = OSError()
        self.failing: tuple[str, ...] = ()
        self.times = 1_000_000
        self.terminated = 0

    def fail(self, place: str) -> None:
        """Raise the error, if it is to be raised here."""
        if place in self.failing and self.times > 0:
            self.times -= 1
            raise self.error

    def acquire(self, *, timeout: float) -> _Acquiring:
        """Hand out a connection."""
        return _Acquiring(self)

    async def release(self, _connection: FailingConnection) -> None:
        """Take one back."""
        self.fail("release")

    def get_max_size(self) -> int:
        """Return that there is one to spare for locks."""
        return 2


class _Acquiring:
    """As asyncpg has it: to be awaited, or entered."""

    def __init__(self, pool: FailingPool) -> None:
        self._pool = pool

    def __await__(self) -> Any:
        return self._acquire().__await__()

    async def _acquire(self) -> FailingConnection:
        self._pool.fail("acquire")
        return FailingConnection(self._pool)

    async def __aenter__(self) -> FailingConnection:
        return await self._acquire()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        pass
