"""The demo's payments: its rows, its worker, and the killing."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from alphapo_async.cli.demo_payments import (
    Happened,
    News,
    OutcomeReported,
    main,
    news_of,
    open_client,
    pay_all,
    pay_until_killed,
    read_rows,
    work,
)
from alphapo_async.cli.sandbox import KEY, SECRET
from alphapo_async.core.models import WithdrawalRequest
from alphapo_async.journal.sqlite.journal import SqliteJournal
from alphapo_async.sandbox import Sandbox
from tests.cli.conftest import clean_environment, command_line
from tests.proof.background import running_sandbox
from tests.support.processes import started


def request(foreign_id: str, amount: str = "0.001", currency: str = "BTC") -> WithdrawalRequest:
    """Return a well-formed request."""
    return WithdrawalRequest(
        currency=currency, address="made-up", amount=amount, foreign_id=foreign_id, end_user_reference="u"
    )


async def test_rows_are_paid_and_told(tmp_path: Path) -> None:
    """An amount that a JSON number would round is invalid, a currency that AlphaPo does not know is rejected."""
    rows = [request("good"), request("refused", currency="NOCOIN"), request("long", "1234.123456789012345678")]
    result: list[tuple[str, str]] = []
    async with (
        Sandbox(KEY, SECRET) as sandbox,
        open_client(sandbox.url, str(tmp_path / "payouts.db"), lambda _: None) as client,
    ):
        outcomes = await pay_all(client, rows, lambda *what: result.append(what))
    assert outcomes == {"good": "accepted", "refused": "rejected", "long": "invalid"}
    assert sorted(result) == sorted(outcomes.items())


async def test_the_worker_says_what_happened_and_what_it_told(tmp_path: Path) -> None:
    """A line each, which can be read again."""
    lines: list[bytes] = []
    async with Sandbox(KEY, SECRET) as sandbox:
        await work(sandbox.url, str(tmp_path / "payouts.db"), 3, lines.append)
    news = [news_of(line) for line in lines]
    assert sorted(one.foreign_id for one in news if isinstance(one, OutcomeReported)) == [
        "demo-0001",
        "demo-0002",
        "demo-0003",
    ]
    assert {one.event.name for one in news if isinstance(one, Happened)} >= {"attempt", "settled"}


async def test_the_worker_is_killed_when_enough_were_told(tmp_path: Path) -> None:
    """What it had under way is held by a dead worker."""
    events: list[News] = []
    path = tmp_path / "payouts.db"
    async with Sandbox(KEY, SECRET, latency=0.02) as sandbox:
        await pay_until_killed(sandbox.url, str(path), 300, events.append, kill_after=20)
    result = [one for one in events if isinstance(one, OutcomeReported)]
    assert len(result) == 20
    journal = SqliteJournal(path)
    assert len(await journal.find_dead(0.0)) == 1
    assert await journal.find_open("default", None, 1)
    await journal.aclose()


async def test_an_interrupted_demo_takes_its_worker_along(tmp_path: Path) -> None:
    """It would continue to pay, and end with tracebacks once the folder of its journal and its pipe are gone."""
    has_begun = asyncio.Event()
    async with Sandbox(KEY, SECRET, latency=0.02) as sandbox:
        journal = str(tmp_path / "payouts.db")
        paying = asyncio.create_task(
            pay_until_killed(sandbox.url, journal, 500, lambda _: has_begun.set(), kill_after=500)
        )
        await has_begun.wait()
        paying.cancel()
        with pytest.raises(asyncio.CancelledError):
            await paying
        await asyncio.sleep(0.05)  # what had left arrives
        posts = sandbox.ledger.posts
        await asyncio.sleep(0.1)
        assert sandbox.ledger.posts == posts


def test_a_terminal_s_ctrl_c_does_not_reach_the_worker() -> None:
    """It goes to every process of the session: the worker has one of its own, and ends without a traceback."""
    command = command_line("demo")
    pipe = subprocess.PIPE
    with started(
        command, env=clean_environment(), stdout=pipe, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        while not process.stdout.readline().startswith("0 of "):
            pass
        time.sleep(0.2)  # the worker has begun
        os.killpg(process.pid, signal.SIGINT)
        shown, _ = process.communicate(timeout=10)
    assert (process.returncode, shown) == (3, "Interrupted: run the same command again.\n")


async def test_a_worker_that_ends_by_itself_is_not_killed(tmp_path: Path) -> None:
    """It had fewer rows than that."""
    events: list[News] = []
    async with Sandbox(KEY, SECRET) as sandbox:
        await pay_until_killed(sandbox.url, str(tmp_path / "payouts.db"), 2, events.append, kill_after=20)
    assert len([one for one in events if isinstance(one, OutcomeReported)]) == 2


def test_the_worker_s_words_go_to_its_standard_output(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """As a process of its own would say them."""
    with running_sandbox() as sandbox:
        sandbox_url = sandbox.url
        main(sandbox_url, str(tmp_path / "payouts.db"), "1")
    sys.stdout.flush()
    lines = capfdbinary.readouterr().out.splitlines()
    assert any(isinstance(news_of(line), OutcomeReported) for line in lines)


def test_the_rows_are_those_of_the_csv() -> None:
    """In its order."""
    assert [row.foreign_id for row in read_rows()[:2]] == ["demo-0001", "demo-0002"]
