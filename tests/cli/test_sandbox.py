"""`alphapo sandbox`, from its first line to its end."""

from __future__ import annotations

import asyncio
import signal
import socket
import subprocess
from contextlib import closing

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from alphapo_async.cli.sandbox import _run, stop_at_signals
from alphapo_async.sandbox import Sandbox
from tests.cli.conftest import clean_environment, command_line, invoke, run, withdrawing
from tests.support.processes import started


@pytest.mark.parametrize(
    ("number", "given"),
    [
        (signal.SIGTERM, []),
        (signal.SIGINT, ["--secret", "given-secret", "--key", "given-key", "--faults", "slow"]),
    ],
)
def test_it_tells_its_url_first_serves_and_ends_cleanly(number: signal.Signals, given: list[str]) -> None:
    """The first line is a URL that answers, a given secret is not repeated, and a signal ends it with 0."""
    command = command_line("sandbox", "--seed", "3", *given)
    pipe = subprocess.PIPE
    with started(command, env=clean_environment(), stdout=pipe, stderr=pipe, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        answer = process.stdout.readline()
        key = answer.partition("ALPHAPO_KEY=")[2].split()[0]
        secret = "given-secret" if given else "sandbox-secret"
        paid = invoke(*withdrawing("sandbox-1"), ALPHAPO_KEY=key, ALPHAPO_SECRET=secret, ALPHAPO_BASE_URL=url)
        process.send_signal(number)
        rest, complaints = process.communicate(timeout=10)
    assert paid.exit_code == 0
    assert key == ("given-key" if given else "sandbox-key")
    assert f"ALPHAPO_BASE_URL={url} " in answer
    assert "given-secret" not in answer + rest
    assert (process.returncode, complaints) == (0, "")


def test_its_help_names_the_line_that_sets_the_environment() -> None:
    """As the README does: the port is another one in each run, and an example with one port would be wrong."""
    shown = invoke("sandbox", "--help").stdout
    assert "Its first line is its URL; its second one sets the environment" in " ".join(shown.split())
    assert "8080" not in shown.partition("Then, in another terminal")[2]


def test_minimums_are_settable() -> None:
    """An amount below is refused as AlphaPo does it; a wrong currency or amount is wrong usage."""
    command = command_line("sandbox", "--minimum", "BTC=0.7", "--minimum", "ETH=5")
    with started(command, env=clean_environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        keys = {"ALPHAPO_KEY": "sandbox-key", "ALPHAPO_SECRET": "sandbox-secret"}
        result = invoke(*withdrawing("small"), ALPHAPO_BASE_URL=url, **keys)
        process.terminate()
    assert result.exit_code == 1
    assert "must be at least 0.7" in result.output
    for wrong in ("BTX=1", "BTC", "BTC=much"):
        assert invoke("sandbox", "--minimum", "BTC=1", "--minimum", wrong).exit_code == 2


def test_a_taken_port_is_told() -> None:
    """A port in use is a wrong setting: a sentence, exit code 2."""
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        port = taken.getsockname()[1]
        answer = invoke("sandbox", "--port", str(port))
    assert answer.exit_code == 2
    assert f"Port {port} cannot be used" in answer.stderr


async def test_it_calls_back_and_never_begins_with_an_id_again() -> None:
    """What is accepted is told where callbacks are to go, signed, once it has settled; the next sandbox has other ids."""
    events: asyncio.Queue[tuple[str | None, int, str]] = asyncio.Queue()

    async def learn(request: web.Request) -> web.Response:
        answer = await request.json()
        await events.put((request.headers.get("X-Processing-Key"), answer["id"], answer["status"]))
        return web.Response()

    app = web.Application()
    app.router.add_post("/alphapo/", learn)
    async with TestServer(app) as server:
        given = ("--callback-url", str(server.make_url("/alphapo/")), "--settle-after", "0.1")
        answer = [await _told_by(events, *given) for _ in range(2)]
    assert [(key, status) for key, _, status in answer] == [("sandbox-key", "confirmed")] * 2
    assert answer[0][1] < answer[1][1]


async def _told_by(events: asyncio.Queue[tuple[str | None, int, str]], *given: str) -> tuple[str | None, int, str]:
    """Return what a sandbox of its own calls back, once it has been paid."""
    with started(
        command_line("sandbox", *given), env=clean_environment(), stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        environment = {"ALPHAPO_KEY": "sandbox-key", "ALPHAPO_SECRET": "sandbox-secret", "ALPHAPO_BASE_URL": url}
        paid = await asyncio.to_thread(run, *withdrawing("sandbox-2"), **environment)
        assert paid.returncode == 0
        answer = await asyncio.wait_for(events.get(), 10)
        process.terminate()
        process.wait(10)
    return answer


@pytest.mark.parametrize(
    "arguments",
    [
        ["--faults", "unheard-of"],
        ["--port", "65536"],
        ["--secret", ""],
        ["--seed", "x"],
        ["--settle-after", "-1"],
        ["--settle-after", "nan"],
        ["--callback-url", "nowhere"],
        ["--callback-url", "http://"],
    ],
)
def test_wrong_settings_are_wrong_usage(arguments: list[str]) -> None:
    """Nothing starts with a setting that is wrong: exit code 2."""
    answer = invoke("sandbox", *arguments)
    assert answer.exit_code == 2
    assert "http://" not in answer.stdout


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_sets_the_event(number: signal.Signals) -> None:
    """Both signals ask to stop, and neither kills."""
    stopped = stop_at_signals()
    assert not stopped.is_set()
    signal.raise_signal(number)
    await asyncio.wait_for(stopped.wait(), 5)


async def test_it_serves_until_the_signal_comes(capsys: pytest.CaptureFixture[str]) -> None:
    """The lines are told once it listens, the URL first, and then nothing happens before the signal."""
    sandbox = Sandbox(key="given-key", secret="given-secret")
    running = asyncio.create_task(_run(sandbox, 0))
    for _ in range(500):
        await asyncio.sleep(0.01)
        if answer := capsys.readouterr().out:
            break
    assert answer == (
        f"{sandbox.url}\nexport ALPHAPO_BASE_URL={sandbox.url} ALPHAPO_KEY=given-key  # and ALPHAPO_SECRET, the one that was given\n"
    )
    assert not running.done()
    signal.raise_signal(signal.SIGTERM)
    await asyncio.wait_for(running, 5)
