"""Servers of others that scenarios start on 127.0.0.1: each is a child of ours in the foreground, and ends with its block."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from tests.proof.replication import FOLDERS, PREFIX, Server, installed

__all__ = ["SYSTEM_USER", "Daemon", "debian_programs", "postgres", "program"]

SYSTEM_USER: Final = "postgres" if os.geteuid() == 0 else None
"""Who runs what root must not run; None: the present user."""
_PATIENCE: Final = 20.0
"""Seconds within which a server listens, and ends."""
_POLL: Final = 0.02


def program(name: str) -> str | None:
    """Return where a program is; servers are where an ordinary user does not look, or came with a package of Python."""
    own = Path(sys.executable).parent
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin:{own}")


def debian_programs() -> Path | None:
    """Return the folder of the newest PostgreSQL that Debian's packages brought."""
    return max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: float(path.parent.name), default=None)


class Daemon:
    """A server of others, which can be ended and started again.

    Args:
        command: that runs it in the foreground.
        port: on which it listens.
        folder: of its log.
        user: that runs it; None for the present one.
        environment: besides the present one.
    """

    def __init__(
        self,
        command: Sequence[str],
        port: int,
        folder: Path,
        *,
        user: str | None = None,
        environment: dict[str, str] | None = None,
    ) -> None:
        self.port = port
        self.log = folder / f"{Path(command[0]).name}.log"
        self._command = command
        self._folder = folder
        self._user = user
        self._environment = {**os.environ, **(environment or {})}

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.end()

    async def start(self) -> None:
        """Start it and wait until it listens.

        Raises:
            RuntimeError: it ended at once, or does not listen in time; its log is in the text.
        """
        with self.log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                stdout=log,
                stderr=log,
                cwd=self._folder,
                env=self._environment,
                user=self._user,
                start_new_session=True,
            )
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_PATIENCE):
                while self._process.returncode is None:
                    with contextlib.suppress(OSError):
                        (await asyncio.open_connection("127.0.0.1", self.port))[1].close()
                        return
                    await asyncio.sleep(_POLL)
        await self.end()
        raise RuntimeError(f"{self._command[0]} does not listen: {self.log.read_text(errors='replace')[-1_000:]}")

    async def end(self, how: signal.Signals = signal.SIGTERM) -> None:
        """Signal it and wait for its end; whatever is left of it is killed."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(how)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._process.wait(), _PATIENCE)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        await self._process.wait()

    async def restart(self, how: signal.Signals = signal.SIGTERM, pause: float = 0.3) -> None:
        """End it, and start it again so many seconds later."""
        await self.end(how)
        await asyncio.sleep(pause)
        await self.start()

    def signal(self, how: signal.Signals) -> None:
        """Send a signal."""
        self._process.send_signal(how)

    def children(self) -> list[int]:
        """Return the processes that it has started and that still run."""
        shown = Path(f"/proc/{self._process.pid}/task/{self._process.pid}/children").read_text(encoding="ascii")
        return [int(one) for one in shown.split()]


@contextlib.asynccontextmanager
async def postgres(programs: Path | None = None) -> AsyncIterator[Server]:
    """Run a PostgreSQL of these programs; None: of those that the tests' package brings."""
    user = SYSTEM_USER
    if programs is None:
        programs, user = installed()
    folder = Path(tempfile.mkdtemp(prefix=PREFIX, suffix=f"-{os.getpid()}", dir=FOLDERS))
    if user is not None:
        shutil.chown(folder, user)
    server = Server(folder / "server", programs, user)
    try:
        await server.initialize()
        await server.start()
        yield server
    finally:
        await server.stop("immediate")
        shutil.rmtree(folder)
