"""Waiting for a locked file: in slices, for a bounded time, and no longer once closing has begun."""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from alphapo_async.journal.sqlite.busy import BUSY, SLICE, BusyWait, is_busy


@pytest.fixture
def files(tmp_path: Path) -> Iterator[tuple[sqlite3.Connection, sqlite3.Connection]]:
    """Give a connection that holds the file's lock, and another one that waits for it."""
    path = tmp_path / "payouts.db"
    with (
        contextlib.closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as holder,
        contextlib.closing(sqlite3.connect(path, isolation_level=None, timeout=0.01)) as waiting,
    ):
        holder.execute("create table t (a)")
        holder.execute("begin exclusive")
        yield holder, waiting


def test_a_slice_is_short() -> None:
    """Nothing can interrupt SQLite while it waits."""
    assert SLICE <= 1.0 < BUSY


def test_a_statement_is_run_again_until_the_lock_is_free(
    files: tuple[sqlite3.Connection, sqlite3.Connection],
) -> None:
    """As if SQLite had waited itself."""
    holder, waiting = files
    threading.Timer(0.05, holder.execute, ["commit"]).start()
    assert BusyWait().run(lambda: waiting.execute("select count(*) from t").fetchone()) == (0,)


def test_a_lock_that_stays_is_reported_after_a_while(files: tuple[sqlite3.Connection, sqlite3.Connection]) -> None:
    """And the error says that it was a lock."""
    began = time.monotonic()
    with pytest.raises(sqlite3.OperationalError, match="locked") as caught:
        BusyWait(0.05).run(lambda: files[1].execute("begin immediate"))
    assert is_busy(caught.value)
    assert 0.05 <= time.monotonic() - began < 0.5


def test_closing_ends_a_wait_that_has_begun(files: tuple[sqlite3.Connection, sqlite3.Connection]) -> None:
    """Whatever time it would have had; a later closing does not prolong it."""
    wait, began = BusyWait(), time.monotonic()
    threading.Timer(0.05, wait.end_within, [0.0]).start()
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        wait.run(lambda: files[1].execute("begin immediate"))
    assert (wait.has_ended, BusyWait().has_ended) == (True, False)
    wait.end_within(60.0)
    with pytest.raises(sqlite3.OperationalError, match="locked"):
        wait.run(lambda: files[1].execute("begin immediate"))
    assert time.monotonic() - began < 0.5


def test_another_error_is_not_waited_for() -> None:
    """It would not pass."""
    tries: list[int] = []

    def fail() -> None:
        tries.append(1)
        raise sqlite3.OperationalError("disk I/O error")

    with pytest.raises(sqlite3.OperationalError, match="disk"):
        BusyWait().run(fail)
    assert tries == [1]


def test_a_copy_of_a_locked_file_ends_too(files: tuple[sqlite3.Connection, sqlite3.Connection]) -> None:
    """By itself, sqlite3 waits for ever; where the lock goes, the copy is made."""
    holder, waiting = files
    with contextlib.closing(sqlite3.connect(":memory:")) as copy:
        with pytest.raises(sqlite3.OperationalError, match="locked"):
            BusyWait(0.0).copy(waiting, copy)
        threading.Timer(0.05, holder.execute, ["commit"]).start()
        BusyWait().copy(waiting, copy)
        assert copy.execute("select count(*) from t").fetchone() == (0,)
