"""Connections to the database: retries when one is lost, and errors that say what to do. No other module imports asyncpg."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable, Iterator, Mapping
from typing import Any, Final, TypeVar
from weakref import WeakSet

import asyncpg

from alphapo_async.core.errors import ConfigurationError, JournalError
from alphapo_async.core.retry_policy import backoff
from alphapo_async.journal.messages import database_error
from alphapo_async.journal.postgres.faults import (
    check_files,
    is_lasting,
    journal_error,
    lacking_privileges,
)
from alphapo_async.journal.postgres.rows import Fetch
from alphapo_async.journal.postgres.schema import MIGRATIONS, queries, tables
from alphapo_async.journal.schema_version import SCHEMA, THIS, SchemaVersion, newer_caution, problem_of
from alphapo_async.journal.urls import shown
from alphapo_async.supervisor import log_error

__all__ = ["DRIVER_ERRORS", "EVERY_ROW", "PostgresConnection", "driver", "is_transient", "terminate"]

logger = logging.getLogger("alphapo_async")

T = TypeVar("T")
Work = Callable[[Fetch], Awaitable[T]]

PATIENCE: Final = 10.0
TIMEOUT: Final = 5.0
EVERY_ROW: Final = 120.0
"""Seconds for a statement that reads or changes every row, of which a journal may have millions."""
CONNECTIONS: Final = 4
_FIRST_WAIT: Final = 0.05
_LONGEST_WAIT: Final = 1.0

DRIVER_ERRORS: Final = (
    OSError,
    TimeoutError,
    UnicodeEncodeError,
    asyncpg.PostgresError,
    asyncpg.InterfaceError,
    asyncpg.InternalClientError,
)
"""All that a call of the driver raises, once `driver` has translated the rest."""

_PASSING: Final = (
    OSError,
    TimeoutError,
    asyncpg.PostgresConnectionError,
    asyncpg.InterfaceError,
    # The server has ended the connection and not closed it yet, no host is the primary yet, or asyncpg has lost its way.
    asyncpg.InternalClientError,
    asyncpg.OperatorInterventionError,  # shut down, restarted, starting up
    asyncpg.TransactionRollbackError,  # deadlock, serialization
    asyncpg.LockNotAvailableError,  # the role's lock_timeout
    asyncpg.TooManyConnectionsError,
    asyncpg.ReadOnlySQLTransactionError,  # a standby that takes over
)
"""Errors that may be over in a moment."""


def is_transient(error: Exception) -> bool:
    """Return whether the cause may be over in a moment; a value that no statement takes is not."""
    return isinstance(error, _PASSING) and not isinstance(error, ValueError) and not is_lasting(error)


@contextlib.contextmanager
def driver() -> Iterator[None]:
    """Turn an unexpected error of the driver into its internal error: what it did is as unknown, and a retry may help."""
    try:
        yield
    except (JournalError, ConfigurationError, *DRIVER_ERRORS):
        raise
    except Exception as error:  # noqa: BLE001 - any other error
        log_error("PostgreSQL's driver", error)
        raise asyncpg.InternalClientError(type(error).__name__) from None


class PostgresConnection:
    """The database that holds a journal.

    Args:
        url: where it is; None with a pool.
        schema: a checked name.
        pool: an asyncpg pool of the caller's own.
        retry_for: seconds for which something is tried again after a connection was lost.
        timeout: seconds that a connection may take to come about, and a statement to be answered.
        migrations: by the version that they start from, the statements that lead to the next one.
    """

    def __init__(
        self,
        url: str | None,
        schema: str,
        pool: Any = None,
        *,
        retry_for: float = PATIENCE,
        timeout: float = TIMEOUT,
        migrations: Mapping[int, str] = MIGRATIONS,
    ) -> None:
        self._retry_for = retry_for
        self._timeout = timeout
        self._migrations = migrations
        self.schema = schema
        self._sql = queries(schema)
        self.where = f"{shown(url) if url else 'a pool of the caller'}, schema {schema}"
        self._url = url
        self._pool = pool
        self._owns_pool = pool is None
        self._is_direct = False
        self._is_open = False
        self.is_known_down = False
        self._opening = asyncio.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._process = os.getpid()
        self._connections: WeakSet[Any] = WeakSet()
        """All open connections. A forked child closes its copies: a lock would outlive the parent that holds it."""
        _ALL.add(self)

    # ── work ────────────────────────────────────────────────────────────────────────────────────────────────────────

    async def run(self, work: Work[T], *, within: float | None = None) -> T:
        """Do the work; start again from its beginning if the connection is lost meanwhile.

        Args:
            work: is handed a function that runs one statement in a transaction of its own.
            within: seconds in which each statement must be answered; None for the usual ones.

        Raises:
            JournalError: the work failed; whether part of it was done is not known.
        """
        loop = self._of_loop()
        # While the database is known to be down no call waits for it: each tries once.
        until = loop.time() + (0.0 if self.is_known_down else self._retry_for)
        failures = 0
        while True:
            connection = None
            try:
                with driver():
                    await self._open()
                    connection = await self._pool.acquire(timeout=self._timeout)
                result = await work(self._fetch_on(connection, within))
            except DRIVER_ERRORS as error:
                if not is_transient(error):
                    raise await self._explained(error, connection) from None
                if connection is not None:
                    terminate(connection)
                failures += 1
                wait = backoff(failures, _FIRST_WAIT, _LONGEST_WAIT)
                if loop.time() + wait > until:
                    self.is_known_down = True
                    raise self.journal_error(error) from None
                await asyncio.sleep(wait)
            else:
                self.is_known_down = False
                return result
            finally:
                if connection is not None:
                    await self._release(connection)

    async def run_within(self, connection: Any, work: Work[T]) -> T:
        """Do the work once, inside the transaction of the caller's connection.

        Raises:
            JournalError: the database refused it.
        """
        try:
            return await work(_fetch_on(connection))
        except DRIVER_ERRORS as error:
            raise self.journal_error(error) from None

    async def connect_for_lock(self) -> Any | None:
        """Return a connection that nothing else uses; None where a pooler stands between, which holds no lock."""
        if not self._is_direct:
            return None
        with driver():
            if self._owns_pool:
                return await self._connect()
            if self._pool.get_max_size() <= 1:
                return None
            connection = await self._pool.acquire(timeout=self._timeout)
            self._connections.add(getattr(connection, "_con", connection))
            return connection

    async def cautions(self, fetch: Fetch) -> list[str]:
        """Return what an operator should know of the database, a sentence each: what it may lose, and what it hides."""
        [found] = await fetch(self._sql["cautions"])
        cautions = []
        if found["standbys"] and not found["names"]:
            cautions.append(
                f"{found['standbys']} standbys follow, and commits wait for none of them (synchronous_standby_names is empty): a failover "
                "may lose the last commits; see `alphapo runbook failover`"
            )
        if not found["identity"]:
            cautions.append(
                "it hides its timeline, and a failover is not detected: run `alphapo resume --restored` after each one, before a "
                "worker starts"
            )
        return cautions

    async def disconnect(self, connection: Any) -> None:
        """End a connection that held locks."""
        if self._owns_pool:
            await _close(connection)
        else:
            await self._release(connection)

    async def _release(self, connection: Any) -> None:
        """Give a connection back to the pool, which ends one that cannot be used again."""
        with contextlib.suppress(*DRIVER_ERRORS), driver():
            await self._pool.release(connection)

    async def migrate(self) -> tuple[int, int]:
        """Bring an older journal to this release's tables, making them where there are none; return the versions before and after.

        Raises:
            JournalError: it is of a newer release, or the user may not.
        """
        self._of_loop()
        check_files(self.where, self._url)
        try:
            with driver():
                return await self._migrated()
        except DRIVER_ERRORS as error:
            raise self.journal_error(error) from None

    async def aclose(self) -> None:
        """Close our own connections."""
        pool, self._is_open = self._pool, False
        if pool is None or not self._owns_pool:
            return
        try:
            with driver():
                await asyncio.wait_for(pool.close(), _LONGEST_WAIT)
        except DRIVER_ERRORS:
            pool.terminate()

    def terminate(self) -> None:
        """End our own connections at once, without a message to the database."""
        if self._pool is not None and self._owns_pool:
            self._pool.terminate()

    def journal_error(self, error: Exception) -> JournalError:
        """Return the error that says which database, and what to do."""
        return journal_error(self.where, error)

    async def _explained(self, error: Exception, connection: Any) -> JournalError:
        """Return the error; of a missing privilege it says which, on what."""
        lacking = ""
        if isinstance(error, asyncpg.InsufficientPrivilegeError) and connection is not None:
            with contextlib.suppress(*DRIVER_ERRORS), driver():
                lacking = lacking_privileges(str(error), await connection.fetch(self._sql["privileges"], self.schema))
        return journal_error(self.where, error, lacking)

    # ── opening ──────────────────────────────────────────────────────────────────────────────────────────────────────

    def _of_loop(self) -> asyncio.AbstractEventLoop:
        loop = asyncio.get_running_loop()
        if self._process != os.getpid() and self._loop is not None:
            raise ConfigurationError(
                "The journal was opened before this process was forked, and its connections belong to the parent. Open one in each process."
            )
        if self._loop not in (None, loop):
            raise ConfigurationError(
                "The journal belongs to another event loop, in which it was first used. Open one for each loop: they share the database."
            )
        self._loop, self._process = loop, os.getpid()
        return loop

    async def _open(self) -> None:
        async with self._opening:
            if self._is_open:
                return
            if self._owns_pool:
                check_files(self.where, self._url)
                connection = await self._connect()
                try:
                    await self._learn_about(connection)
                except asyncpg.InsufficientPrivilegeError as error:
                    raise await self._explained(error, connection) from None
                finally:
                    await _close(connection)
                self._pool = await self._make_pool()
            else:
                async with self._pool.acquire(timeout=self._timeout) as connection:
                    await self._learn_about(connection)
            self._is_open = True

    async def _connect(self) -> Any:
        """Open a connection without named statements: a pooler may stand between."""
        retry_for: Any = self._timeout  # a type checker infers whole seconds from a default
        connection = await asyncpg.connect(
            self._url, statement_cache_size=0, timeout=retry_for, command_timeout=retry_for
        )
        self._connections.add(connection)
        return connection

    async def _make_pool(self) -> Any:
        # Through a pooler a named statement may be gone when it is used; directly, naming it saves both sides work.
        named: dict[str, Any] = {} if self._is_direct else {"statement_cache_size": 0}
        return await asyncpg.create_pool(
            self._url,
            min_size=0,
            max_size=CONNECTIONS,
            timeout=self._timeout,
            command_timeout=self._timeout,
            reset=_leave_as_it_is,
            init=self._note,
            **named,
        )

    async def _note(self, connection: Any) -> None:
        self._connections.add(connection)

    def leave_to_parent(self) -> None:
        """In a forked child: give up the sockets without a message to the database."""
        for connection in list(self._connections):
            _replace_socket(connection)

    async def _learn_about(self, connection: Any) -> None:
        """Find out whether a pooler stands between, and whether the journal is there; make it where it is not."""
        async with connection.transaction():
            [server] = await connection.fetch(self._sql["server"])
            self._is_direct = server["pid"] == connection.get_server_pid()
            version = await self._version(connection)
            if version is None:
                await self._make(connection)
        if server["fsync"] != "on":
            words = "PostgreSQL runs with fsync off: what it acknowledges may be lost with its machine"
            logger.warning(words, extra={"foreign_id": None})
        way = "direct" if self._is_direct else "through a pooler"
        logger.info("PostgreSQL %s: %s", server["version"], way, extra={"foreign_id": None})
        if version is not None:
            self._check(version)
        for caution in await self.cautions(_fetch_on(connection)):
            logger.warning("PostgreSQL: %s", caution, extra={"foreign_id": None})

    async def _version(self, connection: Any) -> SchemaVersion | None:
        if not await connection.fetchval(self._sql["has_tables"], self.schema):
            return None
        return SchemaVersion(*await connection.fetchrow(self._sql["version"]))

    def _check(self, version: SchemaVersion) -> None:
        problem = problem_of(version)
        if problem is not None:
            raise database_error(self.where, *problem)
        if caution := newer_caution(f"at {self.where}", version):
            logger.warning(caution, extra={"foreign_id": None})

    async def _make(self, connection: Any) -> None:
        """Make the tables; wait for another process that makes them at this moment."""
        await connection.execute("select pg_advisory_xact_lock(4702958)")
        if await self._version(connection) is not None:
            return
        if not await connection.fetchval(self._sql["has_schema"], self.schema):
            await connection.execute(f"create schema {self.schema}")
        await connection.execute(tables(self.schema))

    async def _migrated(self) -> tuple[int, int]:
        connection = await self._connect() if self._owns_pool else await self._pool.acquire(timeout=self._timeout)
        try:
            async with connection.transaction():
                before = await self._version(connection)
                if before is None:
                    await self._make(connection)
                    return 0, SCHEMA
                if before.version >= SCHEMA:
                    self._check(before)
                    return before.version, before.version
                await connection.execute(f"lock table {self.schema}.journal in access exclusive mode")
                for version in range(before.version, SCHEMA):
                    await connection.execute(self._migrations[version].format(s=self.schema))
                await connection.execute(self._sql["set_version"], *THIS)
                return before.version, SCHEMA
        finally:
            await self.disconnect(connection)

    def _fetch_on(self, connection: Any, within: float | None) -> Fetch:
        fetch = _fetch_on(connection, within)
        if self._is_direct and self._owns_pool:
            return fetch

        async def fetch_alone(statement: str, *values: object) -> list[Any]:
            # Through a pooler the two halves of a statement meet on one connection only inside a transaction.
            with driver():
                async with connection.transaction():
                    return await fetch(statement, *values)

        return fetch_alone


def _fetch_on(connection: Any, within: float | None = None) -> Fetch:
    limits = {} if within is None else {"timeout": within}

    async def fetch(statement: str, *values: object) -> list[Any]:
        with driver():
            found: list[Any] = await connection.fetch(statement, *values, **limits)
        return found

    return fetch


async def _leave_as_it_is(_connection: object) -> None:
    """Reset nothing: no work leaves anything behind on a connection."""


async def _close(connection: Any) -> None:
    with contextlib.suppress(*DRIVER_ERRORS), driver():  # it is given up in any case
        await connection.close(timeout=_LONGEST_WAIT)


def _replace_socket(connection: Any) -> None:
    """Put an empty device in the socket's place: the objects that know its number may still close it."""
    transport = getattr(connection, "_transport", None)
    socket = None if transport is None else transport.get_extra_info("socket")
    if socket is not None and socket.fileno() >= 0:
        nothing = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
        os.dup2(nothing, socket.fileno(), inheritable=False)
        os.close(nothing)


def _after_fork() -> None:
    for one in list(_ALL):
        one.leave_to_parent()


_ALL: WeakSet[PostgresConnection] = WeakSet()
if hasattr(os, "register_at_fork"):  # pragma: no branch - Windows has no forks
    os.register_at_fork(after_in_child=_after_fork)


def terminate(connection: Any) -> None:
    """End a connection at once, in any state."""
    with contextlib.suppress(*DRIVER_ERRORS), driver():  # it may have noticed by itself
        connection.terminate()
