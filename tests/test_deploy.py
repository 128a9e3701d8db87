"""What the runbook's topic `deploy` shows: commands that exist, processes that end within Docker's 10 s, a unit that systemd accepts."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import aiohttp
import pytest

from alphapo_async import AlphapoClient, WithdrawalRequest
from alphapo_async.cli import alphapo
from alphapo_async.cli.runbook import guide, topics
from alphapo_async.sandbox import Fault, Sandbox, Script
from tests.support.programs import programs

TOPIC: Final = topics(guide())["deploy"]
COMMANDS: Final = [json.loads(found) for found in re.findall(r"^ *(?:CMD|args:) (\[.*\])$", TOPIC, re.MULTILINE)]
DOCKERS_SECONDS: Final = 10.0
PAYOUT: Final[dict[str, Any]] = {"foreign_id": "payout-17", "address": "bc1qmadeup", "amount": "0.0015"}


@pytest.fixture
async def silent() -> AsyncIterator[Sandbox]:
    """An AlphaPo that answers no request for a withdrawal."""
    stalled = Script({"*": {"withdrawal": [Fault.STALL_BEFORE], "look-up": [Fault.STALL_BEFORE]}}, then="repeat last")
    async with Sandbox("made-up-key", "made-up-secret", faults=stalled) as running:
        yield running


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@contextlib.asynccontextmanager
async def _started(command: list[str], sandbox: Sandbox, folder: Path) -> AsyncIterator[asyncio.subprocess.Process]:
    """Start a command of the topic as Docker does, without a shell, on loopback."""
    usual = {name: value for name, value in os.environ.items() if not name.startswith(("ALPHAPO_", "COV"))}
    settings = {"ALPHAPO_KEY": sandbox.key, "ALPHAPO_SECRET": sandbox.secret, "ALPHAPO_BASE_URL": sandbox.url}
    module = {"alphapo": "alphapo_async"}.get(command[0], command[0])
    arguments = [word.replace("0.0.0.0", "127.0.0.1") for word in command[1:]]  # noqa: S104 - replaced
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", module, *arguments),
        env={
            **usual,
            **settings,
            "ALPHAPO_JOURNAL": str(folder / "payouts.db"),
            "PYTHONPATH": f"{Path.cwd()}:{folder}",
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def _seconds_to_end(process: asyncio.subprocess.Process) -> float:
    began = time.monotonic()
    process.send_signal(signal.SIGTERM)
    await asyncio.wait_for(process.communicate(), 30)
    return time.monotonic() - began


async def _until_one_is_sent(sandbox: Sandbox) -> None:
    async with asyncio.timeout(20):
        while not sandbox.ledger.requests("payout-17"):  # noqa: ASYNC110 - the sandbox only records them
            await asyncio.sleep(0.02)


async def test_a_worker_ends_within_ten_seconds_of_sigterm(silent: Sandbox, tmp_path: Path) -> None:
    """With the command of the image, while AlphaPo does not answer: the row stays in the journal, in doubt."""
    path = tmp_path / "payouts.db"
    client = AlphapoClient(silent.key, silent.secret, base_url=silent.url, journal=path)
    async with client:
        await client.enqueue(WithdrawalRequest(**PAYOUT, currency="BTC", end_user_reference="user-42"))
    port = _free_port()
    command = [str(port) if word == "8080" else word for word in COMMANDS[0]]
    async with _started(command, silent, tmp_path) as process:
        await _until_one_is_sent(silent)
        assert await _seconds_to_end(process) < DOCKERS_SECONDS
        assert process.returncode == 0


async def test_the_readme_s_backend_ends_within_ten_seconds_of_sigterm(silent: Sandbox, tmp_path: Path) -> None:
    """While a request waits for an AlphaPo that does not answer."""
    (tmp_path / "app.py").write_text(programs("README.md")[1], encoding="utf-8")
    port = _free_port()
    command = [str(port) if word == "8000" else word for word in COMMANDS[1]]
    async with _started(command, silent, tmp_path) as process, aiohttp.ClientSession() as http:
        asking = asyncio.create_task(_ask(http, f"http://127.0.0.1:{port}/payouts"))
        await _until_one_is_sent(silent)
        assert await _seconds_to_end(process) < DOCKERS_SECONDS
        asking.cancel()
        await asyncio.gather(asking, return_exceptions=True)


async def _ask(http: aiohttp.ClientSession, url: str) -> None:
    while True:
        with contextlib.suppress(aiohttp.ClientConnectorError):
            async with http.post(url, json=PAYOUT):
                return
        await asyncio.sleep(0.05)


def test_the_manifest_starts_the_command_of_the_image() -> None:
    """Its probes are paths of the worker, and its options are those of the command line."""
    image, backend, _, manifest = COMMANDS
    assert manifest == image
    known = {option for parameter in alphapo.commands["worker"].params for option in parameter.opts}
    assert {word for word in image if word.startswith("--")} <= known
    assert backend[0] == "uvicorn"
    assert re.findall(r"path: (/\w+z),", TOPIC) == ["/livez", "/readyz"]


@pytest.mark.parametrize(("secret", "port", "code"), [("made-up-secret", None, 0), ("another", None, 1), ("any", 9, 0)])
async def test_the_manifest_s_check_ends_a_pod_only_for_what_no_waiting_corrects(
    tmp_path: Path, secret: str, port: int | None, code: int
) -> None:
    """A refused key does; an AlphaPo that does not answer holds no pod back."""
    shell, option, line = COMMANDS[2]
    async with Sandbox("made-up-key", "made-up-secret") as sandbox:
        process = await asyncio.create_subprocess_exec(
            shell,
            option,
            line.replace("alphapo check", f"{sys.executable} -m alphapo_async check"),
            env={
                "ALPHAPO_KEY": sandbox.key,
                "ALPHAPO_SECRET": secret,
                "ALPHAPO_BASE_URL": sandbox.url if port is None else f"http://127.0.0.1:{port}",
                "ALPHAPO_JOURNAL": str(tmp_path / "payouts.db"),
                "PYTHONPATH": str(Path.cwd()),
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        output, _ = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode == code, output.decode()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="needs systemd-analyze")
def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    """With a command that exists on this machine in the place of the worker's."""
    (unit,) = re.findall(r"```ini\n(.*?)```", TOPIC, re.DOTALL)
    path = tmp_path / "alphapo-worker.service"
    path.write_text(unit.replace("/opt/payouts/bin/alphapo", sys.executable), encoding="utf-8")
    checked = subprocess.run(
        [str(shutil.which("systemd-analyze")), "verify", "--man=no", str(path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    complaints = [line for line in checked.stderr.splitlines() if "alphapo-worker" in line]
    assert (checked.returncode, complaints) == (0, [])
