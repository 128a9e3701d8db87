"""`alphapo resume` and `alphapo worker` against a local sandbox, with a journal in a file."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path

import pytest

from alphapo_async import AlphapoClient, WithdrawalRequest
from alphapo_async.journal.sqlite.journal import SqliteJournal
from tests.cli.conftest import SECRET, Local, clean_environment, command_line, invoke
from tests.support import postgres
from tests.support.processes import started


def request(foreign_id: str) -> WithdrawalRequest:
    """Return a well-formed request."""
    return WithdrawalRequest(
        currency="BTC", address="made-up", amount="0.001", foreign_id=foreign_id, end_user_reference="made-up-user"
    )


def enqueue(local: Local, path: Path | str, *foreign_ids: str) -> None:
    """Leave withdrawals to the workers."""

    async def story() -> None:
        async with AlphapoClient("made-up-key", SECRET, base_url=local.url, journal=path) as client:
            for foreign_id in foreign_ids:
                await client.enqueue(request(foreign_id))

    asyncio.run(story())


def stopping_once_paid(path: Path, foreign_id: str) -> threading.Thread:
    """Interrupt this process once the journal has the withdrawal as accepted."""

    async def is_paid() -> bool:
        journal = SqliteJournal(path, reads_only=True)
        try:
            row = await journal.find("default", foreign_id)
        finally:
            await journal.aclose()
        return row is not None and row.state == "accepted"

    def stop() -> None:
        until = time.monotonic() + 30
        while time.monotonic() < until and not asyncio.run(is_paid()):
            time.sleep(0.05)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=stop)
    thread.start()
    return thread


def test_a_worker_works_until_it_is_told_to_stop(local: Local, tmp_path: Path) -> None:
    """SIGTERM ends it with exit code 0, after what it paid was told."""
    path = tmp_path / "payouts.db"
    enqueue(local, path, "worker-1")
    command = command_line("worker", "--journal", str(path), "--grace", "2")
    with started(command, env=clean_environment(**local.environment), stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        assert " INFO working on account default at http://127.0.0.1" in worker.stdout.readline()
        assert " INFO SQLite " in worker.stdout.readline()
        assert worker.stdout.readline().endswith(" INFO settled worker-1 accepted\n")
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(10) == 0
        assert worker.stdout.read().endswith(" INFO stopped; open rows stay in the journal\n")


def test_a_worker_in_this_process_stops_too(local: Local, tmp_path: Path) -> None:
    """The same, where it can be measured."""
    path = tmp_path / "payouts.db"
    enqueue(local, path, "worker-2")
    thread = stopping_once_paid(path, "worker-2")
    result = local.invoke("worker", "--journal", str(path), "--health-port", "0")
    thread.join()
    assert result.exit_code == 0, result.output
    assert "settled worker-2 accepted" in result.stdout


def test_a_journal_in_a_schema_of_its_own_is_used_by_every_command(local: Local) -> None:
    """The URL names it: an enqueued row is paid by a worker, listed, and granted to a reader; the usual schema has nothing of it."""
    schema, url = postgres.schema(), postgres.url()
    place = f"{url}{'&' if '?' in url else '?'}schema={schema}"
    enqueue(local, place, "schema-1")
    environment = {**local.environment, "ALPHAPO_JOURNAL": place}
    command = command_line("worker")
    with started(command, env=clean_environment(**environment), stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        assert any(line.endswith(" INFO settled schema-1 accepted\n") for line in worker.stdout)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(10) == 0
    listed = local.invoke("journal", "list", "--outcome", "accepted", "--json", ALPHAPO_JOURNAL=place)
    assert json.loads(listed.stdout)["foreign_id"] == "schema-1"
    reader = f"{schema}_reader"
    granted = invoke("journal", "grants", "--role", "reader", "--to", reader, "--schema", schema).stdout
    asyncio.run(postgres.execute(f"create role {reader} login; {granted}"))
    as_reader = re.sub("//[^/]*@", f"//{reader}@", place)
    shown = invoke("journal", "show", "schema-1", ALPHAPO_JOURNAL=as_reader)
    assert (shown.exit_code, "schema-1" in shown.stdout) == (0, True), shown.output


def test_a_worker_whose_journal_breaks_says_so(local: Local, tmp_path: Path) -> None:
    """It ends with a sentence and an exit code, not with a traceback."""
    path = tmp_path / "payouts.db"
    path.write_text("no journal " * 100)
    result = local.invoke("worker", "--journal", str(path))
    assert result.exit_code == 2
    assert "not a SQLite database" in result.stderr
    assert "release funds" not in result.output


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
    result = local.invoke("worker", "--journal", str(path))
    thread.join()
    assert result.exit_code == 0, result.output
    assert "ERROR journal failed" in result.stdout
    assert result.stderr == ""
    assert "it cannot be used" in result.stdout


def test_a_worker_serves_probes(local: Local, tmp_path: Path) -> None:
    """On loopback, while it works; the log names the port."""
    path = tmp_path / "payouts.db"
    command = command_line("worker", "--journal", str(path), "--health-port", "0", "--log-format", "json")
    with started(command, env=clean_environment(**local.environment), stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        lines = (json.loads(line)["message"] for line in worker.stdout)
        url = next(line for line in lines if line.startswith("probes at")).split()[2].rstrip(",")
        next(line for line in lines if line.startswith("SQLite"))
        assert url.startswith("http://127.0.0.1:")
        assert wait_for(url) == "ok"
        assert wait_for(url.replace("livez", "readyz")) == "ok"
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(10) == 0


@pytest.mark.parametrize("more", [(), ("--otel",)])
def test_a_worker_shows_its_metrics(local: Local, tmp_path: Path, more: tuple[str, ...]) -> None:
    """Beside the probes, also where they are sent to a collector."""
    pytest.importorskip("opentelemetry.exporter.prometheus", reason="needs the extra prometheus")
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs the extra otlp")
    path = tmp_path / "payouts.db"
    command = command_line("worker", "--journal", str(path), "--health-port", "0", *more)
    environment = clean_environment(**local.environment, OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    with started(command, env=environment, stdout=subprocess.PIPE, text=True) as worker:
        assert worker.stdout is not None
        line = next(line for line in worker.stdout if "probes at" in line)
        page = wait_for(line.split("probes at ")[1].split()[0].replace("livez,", "metrics"))
        assert "process_start_time_seconds" in page
        next(line for line in worker.stdout if "SQLite" in line)
        worker.send_signal(signal.SIGTERM)
        assert worker.wait(10) == 0


def test_without_the_extra_there_are_no_metrics(local: Local, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The line about the probes says so, and the worker works all the same."""
    monkeypatch.setitem(sys.modules, "alphapo_async.contrib.prometheus", None)
    path = tmp_path / "payouts.db"
    enqueue(local, path, "worker-5")
    thread = stopping_once_paid(path, "worker-5")
    ended = local.invoke("worker", "--journal", str(path), "--health-port", "0")
    thread.join()
    assert ended.exit_code == 0, ended.output
    assert "/livez, /readyz; /metrics needs the extra prometheus" in ended.output


def wait_for(url: str) -> str:
    """Return the answer once it is 200."""
    for _ in range(200):
        with contextlib.suppress(OSError), urllib.request.urlopen(url) as answer:  # noqa: S310 - loopback
            return str(answer.read().decode())
        time.sleep(0.02)
    raise AssertionError(url)


def test_a_worker_sends_metrics(local: Local, tmp_path: Path) -> None:
    """To the endpoint that the environment names; a collector that is away changes nothing else."""
    pytest.importorskip("opentelemetry.exporter.otlp.proto.http", reason="needs the extra otlp")
    path = tmp_path / "payouts.db"
    enqueue(local, path, "worker-4")
    thread = stopping_once_paid(path, "worker-4")
    ended = local.invoke("worker", "--journal", str(path), "--otel", OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9")
    thread.join()
    assert ended.exit_code == 0, ended.output
    assert "settled worker-4 accepted" in ended.stdout


def test_a_missing_extra_is_named(local: Local, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the command that installs it; nothing was sent."""
    monkeypatch.setitem(sys.modules, "alphapo_async.contrib.otlp", None)
    ended = local.invoke("worker", "--journal", str(tmp_path / "payouts.db"), "--otel")
    assert ended.exit_code == 2
    assert "--otel needs the extra otlp: pip install 'alphapo-async[otlp]'" in ended.stderr
