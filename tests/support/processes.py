"""Processes that tests start: none outlives its test, whatever happens in it."""

import contextlib
import os
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

LONGEST: Final = 30.0
"""Seconds that a process may take to end when its test is over."""


@contextlib.contextmanager
def started(command: list[str], **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """Start a process; it is waited for at the end of the test, and killed if the test fails or it does not end.

    `Popen` itself as a context manager waits for ever: a test that gives up would hang with the process that it gave up.
    """
    process: subprocess.Popen[Any] = subprocess.Popen(command, **options)
    try:
        yield process
        _close_pipes(process)
        process.wait(LONGEST)
    finally:
        process.kill()
        _close_pipes(process)
        process.wait()


def _close_pipes(process: subprocess.Popen[Any]) -> None:
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            with contextlib.suppress(BrokenPipeError):  # what was not yet written is read by nobody
                pipe.close()


def as_nobody(content: Callable[[], str]) -> str:
    """Return what is told in a process without root's rights."""
    reads, writes = os.pipe()
    child = os.fork()
    if child == 0:  # pragma: no cover - another process
        try:
            if os.geteuid() == 0:
                os.setuid(65_534)
            os.write(writes, content().encode())
        finally:
            os._exit(0)
    os.close(writes)
    os.waitpid(child, 0)
    with os.fdopen(reads, "rb") as answers:
        return answers.read().decode()


def die_in_a_commit(path: Path) -> None:
    """Leave a journal's file as a process does that dies while it writes, with a rollback journal beside it."""
    child = os.fork()
    if child == 0:  # pragma: no cover - another process
        dying = sqlite3.connect(path, isolation_level=None)
        dying.execute("pragma journal_mode = delete")
        dying.execute("pragma cache_size = 1")
        dying.execute("begin")
        for number in range(2_000):
            dying.execute("insert into accounts values (?, 'h')", (f"account {number}",))
        os._exit(0)
    os.waitpid(child, 0)
