"""`alphapo runbook`: the operations guide, whole or one part of it."""

from __future__ import annotations

import re
from importlib.resources import files

import click

from alphapo_async.cli.showing import clean

__all__ = ["guide", "runbook", "topics"]

_PART = re.compile(r"^## (?P<topic>[\w-]+): ", re.MULTILINE)


def guide() -> str:
    """Return the whole guide, as it stands in the package."""
    return (files("alphapo_async") / "OPERATIONS.md").read_text(encoding="utf-8")


def topics(text: str) -> dict[str, str]:
    """Return the parts of the guide by their topics, in order."""
    starts = list(_PART.finditer(text))
    ends = [start.start() for start in starts[1:]] + [len(text)]
    return {start["topic"]: text[start.start() : end].rstrip() for start, end in zip(starts, ends, strict=True)}


@click.command(
    epilog="\b\nExample:\n  alphapo runbook unknown",
)
@click.argument("topic", required=False)
def runbook(topic: str | None) -> None:
    """Print the operations guide, or the part of it on TOPIC.

    From going to production to "my money has not come".
    """
    text = guide()
    parts = topics(text)
    if topic is not None and topic not in parts:
        raise click.UsageError(f"There is no part on {clean(topic)!r}. There are: {', '.join(parts)}.")
    click.echo(text.rstrip() if topic is None else parts[topic])
