"""`alphapo resume` and `alphapo worker` against a local sandbox, with a journal in a file."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import threading
import time
from pathlib import Path

from alphapo_async import AlphapoClient, WithdrawalRequest
from alphapo_async.cli.worker import event_line
from alphapo_async.core.events import Event
from tests.cli.conftest import SECRET, Local, clean_environment, command_line
from tests.support.processes import started


def request(foreign_id: str) -> WithdrawalRequest:
    """Return a well-formed request."""
    return WithdrawalRequest(
        currency="BTC", address="made-up", amount="0.001", foreign_id=foreign_id, end_user_reference="made-up-user"
    )


def enqueue(local: Local, path: Path, *foreign_ids: str) -> None:
    """Leave withdrawals to the workers."""

    async def story() -> None:
        async with AlphapoClient("made-up-key", SECRET, base_url=local.url, journal=path) as client:
            for foreign_id in foreign_ids:
                await client.enqueue(request(foreign_id))

    asyncio.run(story())


def test_a_worker_says_once_that_its_key_is_refused() -> None:
    """Not row by row, and with what to do."""
    refused = Event(name="key refused", at=0.0, account="default", reason="bad_header_key", key="1f0991ebdd753c9e")
    line = event_line(refused)
    assert line is not None
    assert line.startswith("key refused  key of fingerprint 1f0991ebdd753c9e  bad_header_key  Nothing is sent under it")
    assert "Check ALPHAPO_KEY" in line
    row = Event(name="unknown", at=0.0, account="default", foreign_id="f", outcome="unknown", reason="key refused")
    assert event_line(row) is None


def test_a_worker_works_until_it_is_told_to_stop(local: Local, tmp_path: Path) -> None:
    """SIGTERM ends it with exit code 0, after what it paid was told."""
    path = tmp_path / "payouts.db"
    enqueue(local, path, "worker-1")
    command = command_line("worker", "--journal", str(path), "--grace", "2")
    with started(command, env=clean_environment(**local.environment), stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        assert worker.stdout.readline().startswith("Working on account default at http://127.0.0.1")
        assert worker.stdout.readline() == "settled  worker-1  accepted\n"
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(10) == 0
        assert worker.stdout.read() == "Stopped. Open rows stay in the journal.\n"


def test_a_worker_in_this_process_stops_too(local: Local, tmp_path: Path) -> None:
    """The same, where it can be measured."""
    path = tmp_path / "payouts.db"
    enqueue(local, path, "worker-2")

    def stop() -> None:
        time.sleep(1.0)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=stop)
    thread.start()
    told = local.invoke("worker", "--journal", str(path))
    thread.join()
    assert told.exit_code == 0, told.output
    assert "settled  worker-2  accepted" in told.stdout


def test_a_worker_whose_journal_breaks_says_so(local: Local, tmp_path: Path) -> None:
    """It ends with a sentence and an exit code, not with a traceback."""
    path = tmp_path / "payouts.db"
    path.write_text("no journal " * 100)
    told = local.invoke("worker", "--journal", str(path))
    assert told.exit_code == 2
    assert "not a SQLite database" in told.stderr
    assert "release funds" not in told.output


def test_a_journal_that_breaks_while_a_worker_works_is_told_and_tried_again(local: Local, tmp_path: Path) -> None:
    """Nothing is sent without it; the worker goes on until it is told to stop."""
    path = tmp_path / "payouts.db"
    enqueue(local, path, "worker-3")

    def damage() -> None:
        time.sleep(0.7)
        path.write_bytes(b"")
        time.sleep(2.5)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=damage)
    thread.start()
    told = local.invoke("worker", "--journal", str(path))
    thread.join()
    assert told.exit_code == 0, told.output
    assert "journal failed" in told.stdout
    assert "it cannot be used" in told.stdout


def test_what_happens_too_often_is_not_said() -> None:
    """Attempts and look-ups; the rest is a line each."""
    assert event_line(Event(name="attempt", at=0.0, account="a", foreign_id="f")) is None
    settled = Event(name="settled", at=0.0, account="a", foreign_id="f", outcome="accepted")
    assert event_line(settled) == "settled  f  accepted"
