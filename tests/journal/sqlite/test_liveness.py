"""Who is alive: told by a lock that the system takes back when its owner dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from alphapo_async.journal.sqlite import liveness as module
from alphapo_async.journal.sqlite.liveness import LivenessLocks
from tests.support.processes import started


@contextlib.contextmanager
def opened() -> Iterator[Callable[[], int]]:
    """Yield a function that returns how many descriptors were opened in the block and are still open."""
    before = len(list(Path("/dev/fd").iterdir()))
    yield lambda: len(list(Path("/dev/fd").iterdir())) - before


@contextlib.contextmanager
def broken(name: str, instead: Callable[[int, int], None] | None = None) -> Iterator[None]:
    """Have the system refuse locks in the block, or do something else."""

    def refuse(_place: int, _how: int) -> None:
        raise OSError(37, "no locks available")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fcntl, name, instead or refuse)
        yield


HOLDER = """
import sys, time
from pathlib import Path
from alphapo_async.journal.sqlite.liveness import LivenessLocks
workers = LivenessLocks(Path(sys.argv[1]))
print(workers.join("other"), flush=True)
time.sleep(60)
"""


def test_a_worker_is_alive_until_it_leaves(tmp_path: Path) -> None:
    """Seen from itself and from another in the same process."""
    one, other = LivenessLocks(tmp_path / "workers"), LivenessLocks(tmp_path / "workers")
    inode = one.join("worker")
    assert not one.is_gone("worker", inode)
    assert not other.is_gone("worker", inode)
    one.leave("worker")
    one.leave("worker")
    assert not (tmp_path / "workers" / "worker").exists()


def test_a_missing_lock_file_proves_nothing(tmp_path: Path) -> None:
    """A live worker's file may be cleaned away, or stand in a folder that this process does not see."""
    workers = LivenessLocks(tmp_path)
    inode = workers.join("worker")
    (tmp_path / "worker").unlink()
    assert not LivenessLocks(tmp_path).is_gone("worker", inode)
    assert not LivenessLocks(tmp_path).is_gone("stranger", 1)


def test_a_free_lock_in_another_file_proves_nothing(tmp_path: Path) -> None:
    """A file of that name with another inode is not the one that the worker locked."""
    workers = LivenessLocks(tmp_path)
    inode = workers.join("worker")
    (tmp_path / "worker").rename(tmp_path / "the one it locked")
    (tmp_path / "worker").touch()
    assert not LivenessLocks(tmp_path).is_gone("worker", inode)
    assert not LivenessLocks(tmp_path).is_gone("worker", None)
    (tmp_path / "the one it locked").rename(tmp_path / "worker")
    workers.forget()
    assert LivenessLocks(tmp_path).is_gone("worker", inode)


@pytest.mark.parametrize("pause", [False, True])
def test_a_killed_process_is_gone_and_a_paused_one_is_not(
    tmp_path: Path,
    pause: bool,  # noqa: FBT001 - both ways
) -> None:
    """At once, for every process that looks; its file stays until it has left the journal."""
    workers = LivenessLocks(tmp_path)
    with started([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        inode = int(holder.stdout.readline())
        if pause:
            os.kill(holder.pid, signal.SIGSTOP)
        assert not workers.is_gone("other", inode)
        holder.kill()
    assert [workers.is_gone("other", inode) for _ in range(2)] == [True, True]
    workers.leave("other")
    assert not (tmp_path / "other").exists()


FORKER = """
import os, sys
from pathlib import Path
from alphapo_async.journal.sqlite.liveness import LivenessLocks
workers = LivenessLocks(Path(sys.argv[1]))
print(workers.join("parent"), flush=True)
if os.fork() == 0:
    sys.stdin.read()  # the child lives on
    os._exit(0)
os._exit(0)
"""


def test_a_lock_does_not_live_on_in_a_forked_child(tmp_path: Path) -> None:
    """Whoever forks and dies is gone, although the child lives."""
    with started(
        [sys.executable, "-c", FORKER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as forker:
        assert forker.stdin is not None
        assert forker.stdout is not None
        inode = int(forker.stdout.readline())
        forker.wait(10)
        until = time.monotonic() + 10  # the child lets go of what it inherited at its first step
        while not LivenessLocks(tmp_path).is_gone("parent", inode):
            assert time.monotonic() < until
            time.sleep(0.01)
        forker.stdin.close()


def test_what_cannot_be_looked_at_counts_as_alive(tmp_path: Path) -> None:
    """Nobody's rows are taken on a guess."""
    (tmp_path / "odd").mkdir()
    assert not LivenessLocks(tmp_path).is_gone("odd", (tmp_path / "odd").stat().st_ino)


def test_forgetting_lets_go_of_every_lock(tmp_path: Path) -> None:
    """What a forked child does with what it inherited."""
    workers = LivenessLocks(tmp_path)
    inode = workers.join("worker")
    module._after_fork()
    assert workers.is_gone("worker", inode)


def test_what_is_not_locked_in_the_end_is_let_go_of(tmp_path: Path) -> None:
    """A file that cannot be opened or locked leaves neither a descriptor nor a file."""
    workers = LivenessLocks(tmp_path / "workers")
    (tmp_path / "workers").touch()
    with opened() as count, pytest.raises(OSError):  # noqa: PT011 - whichever
        workers.join("worker")
    assert count() == 0
    (tmp_path / "workers").unlink()
    with opened() as count, broken("flock"), pytest.raises(OSError, match="no locks"):
        workers.join("worker")
    assert count() == 0
    assert list((tmp_path / "workers").iterdir()) == []


def test_a_file_that_is_removed_before_it_is_locked_is_made_again(tmp_path: Path) -> None:
    """Another process took it for one that a dead process left."""
    workers, tries = LivenessLocks(tmp_path), []

    def remove_first(place: int, how: int) -> None:
        tries.append(how)
        if len(tries) == 1:
            (tmp_path / "worker").unlink()

    with broken("flock", remove_first), opened() as count:
        inode = workers.join("worker")
    assert (tmp_path / "worker").stat().st_ino == inode
    assert count() == 1
    workers.leave("worker")


def test_files_that_no_worker_locks_and_no_journal_lists_are_removed(tmp_path: Path) -> None:
    """Left by processes that died before they were listed; those of others stay, and what cannot be removed is no trouble."""
    one, other = LivenessLocks(tmp_path), LivenessLocks(tmp_path)
    for worker in ("mine", "left"):
        one.join(worker)
    other.join("another's")
    one.unlock("left")
    (tmp_path / "listed").touch()
    (tmp_path / "odd").mkdir()
    with opened() as count:
        one.remove_stale(["listed"])
    assert count() == 0
    assert {file.name for file in tmp_path.iterdir()} == {"mine", "another's", "listed", "odd"}
    LivenessLocks(tmp_path / "nowhere").remove_stale([])
    for workers in (one, other):
        workers.forget()


def test_a_worker_whose_leaving_is_not_recorded_is_seen_to_be_gone(tmp_path: Path) -> None:
    """It is unlocked, and its file stays."""
    workers = LivenessLocks(tmp_path)
    inode = workers.join("worker")
    workers.unlock("worker")
    workers.unlock("worker")
    assert LivenessLocks(tmp_path).is_gone("worker", inode)
