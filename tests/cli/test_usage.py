"""Errors of usage: folded at blanks, with what was probably meant."""

from __future__ import annotations

import contextlib
import io
import os

import click
import pytest

from alphapo_async.cli import alphapo
from alphapo_async.cli.usage import SuggestingGroup, did_you_mean, folded_errors
from tests.cli.conftest import invoke


class _Terminal(io.StringIO):
    """Standard error that is a terminal."""

    def isatty(self) -> bool:
        return True


def _typed(*arguments: str, columns: int = 80) -> str:
    """Return what a terminal of this width shows of a command that is typed wrongly."""
    shown = _Terminal()
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stderr(shown):
        patch.setitem(os.environ, "COLUMNS", str(columns))
        with pytest.raises(SystemExit) as ended:
            alphapo(arguments, prog_name="alphapo")
    assert ended.value.code == 2
    return shown.getvalue()


@pytest.mark.parametrize(
    "arguments",
    [
        ("runbook", "weather"),
        (
            "runbook",
            "outages",
            "and",
            "others",
            "that",
            "are",
            "too",
            "many",
            "for",
            "the",
            "only",
            "argument",
            "of",
            "it",
        ),
        ("batch", "there-is-no-file-of-this-name-in-this-folder-nor-in-another-one-that-is-near.csv", "--dry-run"),
        ("--there-is-no-option-of-this-name-that-is-as-long-as-a-whole-line-of-eighty-columns", "batch"),
        ("batch", "README.md", "--amount-format", "a word that is long enough for more than one line of a terminal"),
    ],
)
@pytest.mark.parametrize("columns", [60, 80])
def test_no_error_is_wider_than_the_terminal(arguments: tuple[str, ...], columns: int) -> None:
    """But for a single word that is; and no word is broken."""
    lines = _typed(*arguments, columns=columns).splitlines()
    assert [line for line in lines if len(line) > columns and len(line.split()) > 1 and " " in line.strip()] == []
    assert lines[0].startswith("Usage: alphapo")
    assert any(line.startswith("Error: ") for line in lines)


def test_a_pipe_gets_an_error_in_one_line() -> None:
    """As programs read it."""
    assert "Error: There is no topic 'weather'. Topics: production," in invoke("runbook", "weather").output
    assert invoke("runbook", "weather").output.splitlines()[-1].endswith("glossary.")


def test_the_closest_word_is_meant() -> None:
    """And none where none is close."""
    assert did_you_mean("outages", ["money", "outage"]) == " Did you mean 'outage'?"
    assert did_you_mean("weather", ["money", "outage"]) == ""


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (("bacth",), "No such command 'bacth'. Did you mean 'batch'?"),
        (("journal", "lst"), "No such command 'lst'. Did you mean 'list'?"),
        (("journal", "\x1b[2J"), "No such command '\\\\x1b[2J'."),
    ],
)
def test_the_closest_command_is_named(arguments: tuple[str, ...], error: str) -> None:
    """Of both groups."""
    assert invoke(*arguments).stderr.splitlines()[-1] == f"Error: {error}"


def test_a_shell_that_completes_gets_no_error() -> None:
    """While a command is typed it may not exist yet."""
    group = SuggestingGroup("g")
    context = click.Context(group, resilient_parsing=True)
    assert group.resolve_command(context, ["not-yet"]) == (None, None, [])


def test_a_help_that_is_shown_as_an_error_stays_what_it_is() -> None:
    """A group without a command shows its help."""
    with pytest.raises(click.exceptions.NoArgsIsHelpError), folded_errors():
        raise click.exceptions.NoArgsIsHelpError(click.Context(alphapo))
