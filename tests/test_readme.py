"""What the README and the operations guide say is true: their programs run, and the README's commands are those that are checked."""

import asyncio
import os
import re
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from alphapo_async.core import errors
from alphapo_async.sandbox import Mischief, Sandbox
from tests import postgres

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "alphapo_async" / "OPERATIONS.md").read_text(encoding="utf-8")


def _programs(text: str) -> list[str]:
    return re.findall(r"```python\n(.*?)```", text, re.DOTALL)


BACKEND, GATHERED, WORKER = _programs(README)
BATCH, OUTBOX, *_OF_ENGINES = _programs(GUIDE)  # those are run where the engines are, by tests/engines


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """A local AlphaPo."""
    async with Sandbox("readme-key", "readme-secret") as running:
        yield running


def _environment(sandbox: Sandbox) -> dict[str, str]:
    usual = {name: value for name, value in os.environ.items() if not name.startswith(("ALPHAPO_", "COV"))}
    told = {"ALPHAPO_BASE_URL": sandbox.url, "ALPHAPO_KEY": sandbox.key, "ALPHAPO_SECRET": sandbox.secret}
    return {**usual, **told, "PYTHONPATH": str(ROOT)}


async def _ran(program: str, sandbox: Sandbox, **more: str) -> str:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-W",
        "error",
        "-c",
        program,
        env={**_environment(sandbox), **more},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    out, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, out.decode()
    return out.decode()


async def test_the_gathered_example_pays_a_hundred(sandbox: Sandbox) -> None:
    """The second way of use runs as it stands, and its totals are true."""
    said = await _ran(GATHERED, sandbox)

    assert "USDTT requested 2500.00 accepted 2500.00 unknown 0" in said
    assert len(sandbox.ledger.all_accepted()) == 100


async def test_the_batch_example_pays_a_thousand(sandbox: Sandbox) -> None:
    """From an async generator of mappings."""
    said = await _ran(BATCH, sandbox)

    assert said == "25000.00 accepted\n"
    assert len(sandbox.ledger.all_accepted()) == 1_000


async def test_the_worker_example_pays_its_queue(sandbox: Sandbox) -> None:
    """The third way of use runs as it stands."""
    said = await _ran(WORKER, sandbox)

    assert said.count("accepted as") == 10
    assert sandbox.ledger.paid_more_than_once() == []


async def test_the_example_in_a_transaction_pays_what_was_committed(sandbox: Sandbox) -> None:
    """With SQLAlchemy, in a database that holds both books."""
    name = postgres.schema()
    await postgres.execute(f"create database {name}")

    said = await _ran(OUTBOX, sandbox, ALPHAPO_JOURNAL=postgres.database(name))

    assert said == "invoice-17 accepted\n"
    assert len(sandbox.ledger.all_accepted()) == 1


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def test_the_backend_example_pays_and_hears_what_became_of_it() -> None:
    """The first way of use runs as it stands, with callbacks that come twice, late, forged and among deposits.

    A payout asked for twice is paid once, another under its name says what to do, and the handler hears of the end once.
    """
    port = _free_port()
    serve = f"{BACKEND}\nimport sys, uvicorn\nuvicorn.run(app, host='127.0.0.1', port={port}, log_level='error')\n"
    mischief = Mischief(duplicates=True, reordering=True, forgeries=True, deposits=True)
    callback_url = f"http://127.0.0.1:{port}/alphapo/"
    async with Sandbox(
        "readme-key", "readme-secret", callback_url=callback_url, mischief=mischief, settle_after=0.3
    ) as sandbox:
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-u", "-c", serve),
            env=_environment(sandbox),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            async with aiohttp.ClientSession() as session:
                asked = {"id": "payout-1", "address": "bc1qmadeup", "amount": "0.5"}
                first = await _posted(session, port, asked)
                again = await _posted(session, port, asked)
                other = await _posted(session, port, {**asked, "amount": "7"})
                await _all_delivered(sandbox)
        finally:
            process.terminate()
            said, _ = await process.communicate()

    assert [status for status, _ in (first, again, other)] == [201, 201, 409]
    assert first[1] == again[1]
    assert other[1]["outcome"] == "conflict"
    assert len(sandbox.ledger.accepted("payout-1")) == 1
    assert {(each.what, each.answer) for each in sandbox.deliveries} == {
        ("withdrawal", 200),
        ("deposit", 200),
        ("forgery", 403),
    }
    assert said.decode() == "payout-1 confirmed\n"


async def _all_delivered(sandbox: Sandbox) -> None:
    """Wait until every status of withdrawal and deposit has come three times."""
    async with asyncio.timeout(30):
        while sum(each.what != "forgery" for each in sandbox.deliveries) < 2 * 2 * 3:  # noqa: ASYNC110 - the sandbox only writes them down
            await asyncio.sleep(0.05)


async def _posted(session: aiohttp.ClientSession, port: int, asked: dict[str, str]) -> tuple[int, Any]:
    for _ in range(200):
        try:
            async with session.post(f"http://127.0.0.1:{port}/payouts", json=asked) as reply:
                return reply.status, await reply.json()
        except aiohttp.ClientConnectorError:
            await asyncio.sleep(0.05)  # it is still starting
    raise AssertionError("the backend did not start")


def test_ci_runs_the_readmes_test_command() -> None:
    """The command that CI runs is the command that the README shows."""
    shown = [line.strip() for line in README.splitlines() if line.startswith("    python3 -m venv")]
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
    ran = script.split("# README: begin\n")[1].split("\n# README: end")[0]

    assert len(shown) == 2
    assert ran == shown[1]


def test_the_outcome_table_names_every_error_of_a_withdrawal() -> None:
    """No error that `withdraw` can raise is missing from the table."""
    told = errors.WithdrawalError.__subclasses__()

    assert len(told) == 6
    for kind in [*told, errors.JournalError, errors.InvalidRequest, errors.ConfigurationError]:
        assert f"`{kind.__name__}`" in README


def test_the_readme_is_short() -> None:
    """Whoever wants more finds it in the guide."""
    assert len(README.splitlines()) < 200


def test_every_file_that_the_readme_names_exists() -> None:
    """Pictures and pages, by their links and by their names."""
    named = {*re.findall(r"\]\(([^)#]+)\)", README), *re.findall(r"`((?:[\w.-]+/)+[\w.-]+)`", README)}
    named -= {name for name in named if name.startswith(("http", "alphapo.", "/"))}
    assert len(named) > 5
    assert sorted(name for name in named if not (ROOT / name).exists()) == []
