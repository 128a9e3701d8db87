"""`alphapo runbook`: the operations guide, or one topic of it."""

from __future__ import annotations

import re
import shutil
import textwrap
from collections.abc import Callable
from importlib.resources import files

import click
from click.shell_completion import CompletionItem
from rich.console import Console
from rich.markdown import Markdown

from alphapo_async.cli.output import clean, make_console
from alphapo_async.cli.usage import did_you_mean

__all__ = ["guide", "refilled", "runbook", "show", "titles", "topics"]

_PART = re.compile(r"^## (?P<topic>[\w-]+): ", re.MULTILINE)
_KEPT = re.compile(r"#|\||    |$")
"""A heading, a table, code or an empty line."""
_ITEM = re.compile(r"- |\d+\. ")
"""The mark of a list item."""
_MARK = re.compile(r" ([-+*>#]+ |\d+\. )")
"""What would begin a list, a quotation or a heading at the beginning of a line."""
_GLUE = "\0"
"""Keeps a mark behind the word before it."""
_WIDTH_OF_A_PIPE = 100


def guide() -> str:
    """Return the whole guide."""
    return (files("alphapo_async") / "OPERATIONS.md").read_text(encoding="utf-8")


def topics(text: str) -> dict[str, str]:
    """Return the parts of the guide by topic, in order."""
    starts = list(_PART.finditer(text))
    ends = [start.start() for start in starts[1:]] + [len(text)]
    return {start["topic"]: text[start.start() : end].rstrip() for start, end in zip(starts, ends, strict=True)}


class _Topic(click.ParamType):  # type: ignore[type-arg]  # it is generic in the newest releases only
    """A topic of the guide; a shell completes it."""

    name = "topic"

    def shell_complete(
        self,
        ctx: click.Context,  # noqa: ARG002 - click's signature
        param: click.Parameter,  # noqa: ARG002 - likewise
        incomplete: str,
    ) -> list[CompletionItem]:
        """Return the topics that begin so, each with its title."""
        return [CompletionItem(topic, help=title) for topic, title in titles() if topic.startswith(incomplete)]


class _Runbook(click.Command):
    """A command whose help lists the topics; the guide is read only then."""

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Topics"):
            formatter.write_dl(list(titles()))
        super().format_epilog(ctx, formatter)


def titles() -> list[tuple[str, str]]:
    """Return the topics with their titles, in order."""
    parts = topics(guide())
    return [(topic, text.split("\n", 1)[0].partition(": ")[2]) for topic, text in parts.items()]


@click.command(cls=_Runbook, epilog="\b\nExample:\n  alphapo runbook unknown")
@click.argument("topic", required=False, type=_Topic())
def runbook(topic: str | None) -> None:
    """Print the operations guide, or one TOPIC of it.

    From going to production to "my money has not come". A terminal shows it formatted and paged; a pipe gets the Markdown, in lines
    of 100 characters, or of COLUMNS.
    """
    text = guide()
    parts = topics(text)
    if topic is not None and topic not in parts:
        meant = did_you_mean(topic, parts)
        raise click.UsageError(f"There is no topic {clean(topic)!r}.{meant} Topics: {', '.join(parts)}.")
    show(_whole(text) if topic is None else parts[topic], make_console())


def _whole(text: str) -> str:
    """Return the guide with the list of its topics before the first of them."""
    start = next(_PART.finditer(text)).start()
    listed = "\n".join(f"- `{topic}`: {title}" for topic, title in titles())
    return f"{text[:start]}Topics:\n\n{listed}\n\n{text[start:].rstrip()}"


def refilled(text: str, width: int) -> str:
    """Return Markdown whose paragraphs and list items are filled to this width; headings, tables and code are not broken."""
    lines: list[str] = []
    paragraph: list[str] = []
    is_code = False

    def end_paragraph() -> None:
        if paragraph:
            filled = " ".join(line.strip() for line in paragraph)
            mark = _ITEM.match(filled)
            indent = " " * (mark.end() if mark else 0)
            glued = _MARK.sub(f"{_GLUE}\\1", filled)
            wrapped = textwrap.wrap(
                glued, width, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False
            )
            lines.extend(line.replace(_GLUE, " ") for line in wrapped)
            paragraph.clear()

    for line in text.split("\n"):
        is_fence = line.startswith("```")
        is_kept = is_code or is_fence or _KEPT.match(line) is not None
        if is_kept or _ITEM.match(line):
            end_paragraph()
        (lines if is_kept else paragraph).append(line)
        is_code ^= is_fence
    end_paragraph()
    return "\n".join(lines)


def show(text: str, console: Console, page: Callable[[str], object] = click.echo_via_pager) -> None:
    """Print Markdown: as Markdown into a pipe, formatted on a terminal, through a pager if it is longer than the terminal.

    Args:
        text: the Markdown.
        console: of standard output.
        page: shows a text that is longer than the terminal.
    """
    if not console.is_terminal:
        click.echo(refilled(text, shutil.get_terminal_size((_WIDTH_OF_A_PIPE, 0)).columns), file=console.file)
        return
    with console.capture() as captured:
        console.print(Markdown(text))
    text = captured.get()
    if text.count("\n") < console.height:
        click.echo(text, file=console.file, nl=False)
    else:
        page(text)
