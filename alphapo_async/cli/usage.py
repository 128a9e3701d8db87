"""Errors of usage: folded at blanks on a terminal, and with what was probably meant."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Final

import click

from alphapo_async.cli.output import clean, folded

__all__ = ["SuggestingGroup", "did_you_mean", "folded_errors"]

_PREFIX: Final = "Error: "
"""What click puts before the message."""


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return a question with the known word that is closest, after a blank; empty where none is close."""
    close = get_close_matches(word, known, n=1)
    return f" Did you mean {close[0]!r}?" if close else ""


@contextlib.contextmanager
def folded_errors() -> Iterator[None]:
    """Fold click's errors of usage: click breaks them at the edge of the terminal, within words.

    Raises:
        click.UsageError: with the same text.
    """
    try:
        yield
    except click.UsageError as error:
        if type(error).show is not click.UsageError.show:
            raise  # it shows a help, whose lines fit
        lines = f"{_PREFIX}{error.format_message()}".split("\n")
        text = "\n".join(folded(line, err=True, indent="  ") for line in lines)
        raise click.UsageError(text.removeprefix(_PREFIX), error.ctx) from None


class SuggestingGroup(click.Group):
    """A group that names the closest command where there is none of this name."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command and what follows it.

        Raises:
            click.UsageError: there is no such command.
        """
        name = args[0]
        if self.get_command(ctx, name) is None and not name.startswith("-") and not ctx.resilient_parsing:
            raise click.UsageError(f"No such command {clean(name)!r}.{did_you_mean(name, self.commands)}", ctx)
        return super().resolve_command(ctx, args)
