"""Who is alive: told by a lock that the system takes back when its owner dies."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from alphapo_async.journal import workers as module
from alphapo_async.journal.workers import Workers
from tests.processes import started

HOLDER = """
import sys, time
from pathlib import Path
from alphapo_async.journal.workers import Workers
workers = Workers(Path(sys.argv[1]))
workers.join("other")
print("joined", flush=True)
time.sleep(60)
"""


def test_a_worker_is_alive_until_it_leaves(tmp_path: Path) -> None:
    """Seen from itself and from another in the same process."""
    one, other = Workers(tmp_path / "workers"), Workers(tmp_path / "workers")
    one.join("worker")
    assert not one.is_gone("worker")
    assert not other.is_gone("worker")
    one.leave("worker")
    assert one.is_gone("worker")
    assert other.is_gone("worker")
    one.leave("worker")


def test_a_worker_that_nobody_knows_is_gone(tmp_path: Path) -> None:
    """It has left, or was never there."""
    assert Workers(tmp_path).is_gone("stranger")


@pytest.mark.parametrize("pause", [False, True])
def test_a_killed_process_is_gone_and_a_paused_one_is_not(
    tmp_path: Path,
    pause: bool,  # noqa: FBT001 - both ways
) -> None:
    """At once, and its file is cleared away."""
    workers = Workers(tmp_path)
    with started([sys.executable, "-c", HOLDER, str(tmp_path)], stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == b"joined\n"
        if pause:
            os.kill(holder.pid, signal.SIGSTOP)
        assert not workers.is_gone("other")
        holder.kill()
    assert workers.is_gone("other")
    assert not (tmp_path / "other").exists()


FORKER = """
import os, sys
from pathlib import Path
from alphapo_async.journal.workers import Workers
workers = Workers(Path(sys.argv[1]))
workers.join("parent")
if os.fork() == 0:
    sys.stdin.read()  # the child lives on
    os._exit(0)
os._exit(0)
"""


def test_a_lock_does_not_live_on_in_a_forked_child(tmp_path: Path) -> None:
    """Whoever forks and dies is gone, although the child lives."""
    with started([sys.executable, "-c", FORKER, str(tmp_path)], stdin=subprocess.PIPE) as forker:
        assert forker.stdin is not None
        forker.wait(10)
        assert Workers(tmp_path).is_gone("parent")
        forker.stdin.close()


def test_what_cannot_be_looked_at_counts_as_alive(tmp_path: Path) -> None:
    """Nobody's rows are taken on a guess."""
    (tmp_path / "odd").mkdir()
    assert not Workers(tmp_path).is_gone("odd")


class Raced(type(Path())):  # type: ignore[misc]
    """A file that somebody else clears away first."""

    def unlink(self, missing_ok: bool = False) -> None:  # noqa: FBT001, FBT002 - as a path has it
        """Come second."""
        Path(self).unlink()
        super().unlink(missing_ok)


def test_two_that_find_a_worker_gone_at_once_both_say_so(tmp_path: Path) -> None:
    """One of them clears its file away, the other finds that done."""
    (tmp_path / "dead").touch()
    assert Workers(Raced(tmp_path)).is_gone("dead")


def test_forgetting_lets_go_of_every_lock(tmp_path: Path) -> None:
    """What a forked child does with what it inherited."""
    workers = Workers(tmp_path)
    workers.join("worker")
    module._after_fork()
    assert workers.is_gone("worker")
