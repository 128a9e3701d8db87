"""A local sandbox in a process of its own, and two ways to run a command against it: in this process, and as a user does."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator

import pytest
from click.testing import CliRunner, Result

from alphapo_async.cli import alphapo
from tests.support.processes import started

SECRET = "a-made-up-secret"


class Terminal(io.BytesIO):
    """Standard input that says it is a terminal, and what is typed there."""

    def isatty(self) -> bool:
        return True


class Local:
    """A local sandbox that runs as `alphapo sandbox`, and commands that are told of it by their environment alone."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.environment = {"ALPHAPO_KEY": "made-up-key", "ALPHAPO_SECRET": SECRET, "ALPHAPO_BASE_URL": url}

    def invoke(self, *arguments: str, **environment: str) -> Result:
        """Run a command in this process."""
        return invoke(*arguments, **{**self.environment, **environment})


def invoke(*arguments: str, stdin: object = None, **environment: str) -> Result:
    """Run a command in this process, with nothing of AlphaPo in the environment but what is given."""
    known = {name: None for name in os.environ if name.startswith("ALPHAPO_")}
    return CliRunner(env={**known, **environment}).invoke(alphapo, list(arguments), input=stdin)  # type: ignore[arg-type]


def clean_environment(**environment: str) -> dict[str, str]:
    """Return an environment with the path, and what is given."""
    return {"PATH": os.environ["PATH"], "PYTHONUNBUFFERED": "", **environment}


def command_line(*arguments: str) -> list[str]:
    """Return how a user starts a command."""
    return [sys.executable, "-m", "alphapo_async", *arguments]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command in a process of its own, in a clean environment, without a terminal."""
    return subprocess.run(
        command_line(*arguments),
        env=clean_environment(**environment),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def withdrawing(foreign_id: str, **changed: str | None) -> list[str]:
    """Return the arguments of a valid `withdraw`, some of them changed, or left out if None."""
    fields = {
        "currency": "BTC",
        "address": "1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
        "amount": "0.5",
        "end-user-reference": "made-up-user",
        "foreign-id": foreign_id,
        **{name.replace("_", "-"): value for name, value in changed.items()},
    }
    return ["withdraw", *(part for name, value in fields.items() if value is not None for part in (f"--{name}", value))]


@pytest.fixture(scope="session")
def local() -> Iterator[Local]:
    """A local sandbox without faults, shared: every test uses foreign_ids of its own."""
    command = command_line("sandbox", "--key", "made-up-key", "--secret", SECRET)
    with started(command, env=clean_environment(), stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield Local(process.stdout.readline().strip())
        process.terminate()
