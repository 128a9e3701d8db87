"""The group: help, version, and errors that become sentences."""

from __future__ import annotations

import contextlib
import errno
import io

import click
import pytest
from click.testing import CliRunner

from alphapo_async.cli import alphapo
from alphapo_async.core.errors import ConfigurationError
from tests.cli.conftest import Local, invoke

COMMANDS = (
    "demo",
    "withdraw",
    "batch",
    "status",
    "resume",
    "reconcile",
    "worker",
    "journal",
    "verify-callback",
    "check",
    "balances",
    "currencies",
    "quote",
    "sandbox",
    "runbook",
)


def group_with(error: BaseException) -> click.Group:
    """Return a group of the same kind whose only command fails so."""
    group = type(alphapo)("alphapo")

    @group.command()
    def fail() -> None:
        raise error

    return group


def test_the_group_has_the_commands_of_this_release() -> None:
    """Exactly the commands that work are offered: nothing is announced that does not exist."""
    assert set(alphapo.commands) == set(COMMANDS)


def _commands(group: click.Group, *names: str) -> list[tuple[str, ...]]:
    found = []
    for name, command in group.commands.items():
        found += _commands(command, *names, name) if isinstance(command, click.Group) else [(*names, name)]
    return found


@pytest.mark.parametrize("names", _commands(alphapo), ids=" ".join)
def test_every_command_explains_itself_with_an_example(names: tuple[str, ...]) -> None:
    """One line of what it does, its options, and how it is typed."""
    result = invoke(*names, "--help")
    assert result.exit_code == 0
    assert f"alphapo {' '.join(names)}" in result.output.split("Example", 1)[1]


def test_the_version_is_told() -> None:
    """`--version` tells the installed release."""
    result = invoke("--version")
    assert result.exit_code == 0
    assert result.stdout.startswith("alphapo, version 0.")


def test_an_error_on_purpose_becomes_its_sentence() -> None:
    """What the library raises is said on standard error, without a traceback, with its exit code."""
    result = CliRunner().invoke(group_with(ConfigurationError("No.\x1b[2J")), ["fail"])
    assert (result.exit_code, result.stdout, result.stderr) == (2, "", "No.\\x1b[2J\n")


def test_a_fault_of_its_own_becomes_a_sentence_that_asks_to_keep_it_pending() -> None:
    """An unexpected error may hold anything: its kind is told, its text is not, and the exit code says unknown."""
    result = CliRunner().invoke(group_with(RuntimeError("a-made-up-secret")), ["fail"])
    assert result.exit_code == 3
    assert "RuntimeError in test_cli.py" in result.stderr
    assert "keep it pending" in result.stderr
    assert "a-made-up-secret" not in result.output


def test_ctrl_c_asks_to_run_the_command_again() -> None:
    """Exit code 3: click's own is 1, which says that something was refused."""
    result = CliRunner().invoke(group_with(KeyboardInterrupt()), ["fail"])
    assert (result.exit_code, result.stderr) == (3, "Interrupted: run the same command again.\n")


def test_a_usage_error_stays_clicks() -> None:
    """A wrong option is explained by click, exit code 2."""
    result = invoke("withdraw", "--currency")
    assert result.exit_code == 2
    assert "--currency" in result.stderr


def test_a_reader_who_leaves_early_hears_nothing() -> None:
    """A closed pipe ends the command quietly, as `| head` expects."""
    result, complaints = io.StringIO(), io.StringIO()
    group = group_with(BrokenPipeError(errno.EPIPE, "Broken pipe"))
    with contextlib.redirect_stdout(result), contextlib.redirect_stderr(complaints), pytest.raises(SystemExit) as end:
        group(["fail"])
    assert (end.value.code, result.getvalue(), complaints.getvalue()) == (1, "", "")


def test_another_fault_of_the_system_is_told() -> None:
    """Only the closed pipe is silent."""
    result = CliRunner().invoke(group_with(OSError(errno.EIO, "Input/output error")), ["fail"])
    assert result.exit_code == 3
    assert "OSError" in result.stderr


def test_no_secret_and_no_signature_is_ever_shown(local: Local) -> None:
    """Whatever ends well or badly, the secret and the key stay out of the output."""
    commands = (["check"], ["status", "cli-secret"], ["withdraw", "--currency", "BTC"])
    shown = "".join(result.output for result in [local.invoke(*command) for command in commands])
    assert "host" in shown
    assert local.environment["ALPHAPO_SECRET"] not in shown
    assert local.environment["ALPHAPO_KEY"] not in shown


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_shells_complete_commands_and_options(shell: str) -> None:
    """As click does it: the script, and what it completes."""
    script = invoke(_ALPHAPO_COMPLETE=f"{shell}_source")
    assert script.exit_code == 0
    assert "_ALPHAPO_COMPLETE" in script.output
    words = {"COMP_WORDS": "alphapo ba", "COMP_CWORD": "ba" if shell == "fish" else "1"}
    assert "batch" in invoke(_ALPHAPO_COMPLETE=f"{shell}_complete", **words).output


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("names", [(), ("journal",), *_commands(alphapo)], ids=" ".join)
def test_no_line_of_a_help_is_wider_than_the_terminal(names: tuple[str, ...], width: int) -> None:
    """A terminal would break it within a word."""
    shown = invoke(*names, "--help", COLUMNS=str(width)).output
    assert [line for line in shown.splitlines() if len(line) > width] == []


@pytest.mark.parametrize("group", [(), ("journal",)])
def test_short_helps_end_at_the_end_of_the_line(group: tuple[str, ...]) -> None:
    """A whole sentence for each command, at 80 columns."""
    ended = invoke(*group, "--help", COLUMNS="80").output
    lines = ended.partition("Commands:\n")[2].partition("\n\n")[0].splitlines()
    assert len(lines) > 10
    assert [line for line in lines if not line.endswith(".") or line.endswith("...") or len(line) > 80] == []
