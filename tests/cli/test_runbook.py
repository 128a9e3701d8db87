"""The operations guide: printed whole or in parts, and true as far as a test can tell."""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
from importlib.resources import files

import click
import pytest
from markdown_it import MarkdownIt
from rich.console import Console

import alphapo_async
from alphapo_async import sandbox
from alphapo_async.cli.exit_codes import Exit
from alphapo_async.cli.runbook import guide, refilled, runbook, show, titles, topics
from alphapo_async.contrib import engines
from alphapo_async.core import errors
from tests.cli.conftest import clean_environment, command_line, invoke
from tests.support.documents import text_of

TOPICS = (
    "production",
    "unknown",
    "money",
    "outage",
    "many",
    "scale",
    "transaction",
    "callbacks",
    "testing",
    "key-refused",
    "rotation",
    "merchants",
    "deploy",
    "kubernetes",
    "postgres",
    "journal",
    "backup",
    "failover",
    "audit",
    "reconcile",
    "privacy",
    "watching",
    "upgrade",
    "loops",
    "engines",
    "assumptions",
    "new-id",
    "glossary",
)


def test_it_has_a_part_for_each_need() -> None:
    """In the order in which one needs them."""
    assert tuple(topics(guide())) == TOPICS


def test_it_is_printed_whole() -> None:
    """Without a topic, after the list of its topics."""
    shown = invoke("runbook")
    assert shown.exit_code == 0
    before, listed, after = re.split(r"Topics:\n\n((?:- `.*\n)+)\n", shown.output.rstrip())
    assert (before + after).split() == guide().split()
    assert tuple(re.findall(r"- `([\w-]+)`: ", listed)) == TOPICS


@pytest.mark.parametrize("topic", TOPICS)
def test_one_part_is_printed_alone(topic: str) -> None:
    """With its heading, and nothing of the next."""
    result = invoke("runbook", topic)
    assert result.exit_code == 0
    assert result.output.startswith(f"## {topic}: ")
    assert result.output.count("\n## ") == 0


def terminal(height: int) -> Console:
    """Return a terminal of this height."""
    return Console(file=io.StringIO(), force_terminal=True, width=100, height=height)


def _parts(text: str) -> list[tuple[str, list[str]]]:
    """Return what Markdown means: the kinds of its parts, with the words of each; code with its lines."""
    return [
        (token.type, token.content.split("\n" if token.type in ("fence", "code_block") else None))
        for token in MarkdownIt().enable("table").parse(text)
    ]


@pytest.mark.parametrize("width", [60, 100])
def test_a_pipe_gets_lines_that_can_be_read(width: int) -> None:
    """No line but one of a table, of code, or of a single word is longer, and the text means the same."""
    shown = refilled(guide(), width)
    assert _parts(shown) == _parts(guide())
    without_code = re.sub(r"^```.*?^```", "", shown, flags=re.MULTILINE | re.DOTALL)
    long = [line for line in without_code.splitlines() if len(line) > width and not line.startswith(("|", "    ", "#"))]
    assert [line for line in long if " " in line.strip()] == []


@pytest.mark.parametrize(("columns", "width"), [("", 100), ("70", 70)])
def test_the_lines_of_a_pipe_follow_the_environment(columns: str, width: int) -> None:
    """COLUMNS wins over a hundred."""
    shown = invoke("runbook", "outage", COLUMNS=columns).output
    assert width - 15 < max(map(len, shown.splitlines())) <= width


def test_code_and_lists_are_kept() -> None:
    """An item continues below its text; a block of code, and a table, stay as they are."""
    text = "1. one two three\n   four\n- five six seven eight nine\n\n```\n- code  is\nkept as it is here\n```\n| a | b c d e f g h i |"
    assert refilled(text, 16).split("\n") == [
        *("1. one two three", "   four", "- five six seven", "  eight nine", ""),
        *("```", "- code  is", "kept as it is here", "```", "| a | b c d e f g h i |"),
    ]


def test_a_terminal_gets_it_set() -> None:
    """Without the marks of Markdown, and paged where it would run off the screen."""
    paged: list[str] = []
    high, low = terminal(40), terminal(5)
    for console in (high, low):
        show("## unknown: rows\n\nKeep it **pending**.\n\n- one\n- two\n", console, paged.append)
    assert isinstance(high.file, io.StringIO)
    assert isinstance(low.file, io.StringIO)
    assert low.file.getvalue() == ""
    for result in (high.file.getvalue(), *paged):
        assert "pending" in result
        assert "**" not in result
        assert "##" not in result
    assert len(paged) == 1


def test_the_command_sets_and_pages_in_a_terminal() -> None:
    """With the user's pager."""
    ours, theirs = pty.openpty()
    environment = clean_environment(TERM="xterm", PAGER="cat", COLUMNS="100", LINES="10")
    command = command_line("runbook", "money")
    with subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=environment) as process:
        os.close(theirs)
        result = b""
        try:
            while read := os.read(ours, 65_536):
                result += read
        except OSError:  # the other end is closed
            pass
        assert process.wait(20) == 0
    os.close(ours)
    assert b"my money has not come" in result
    assert b"##" not in result
    assert b"`" not in result


def test_an_unknown_topic_is_answered_with_those_there_are() -> None:
    """Wrong usage, without a traceback."""
    result = invoke("runbook", "weather")
    assert result.exit_code == Exit.WRONG
    assert "production, unknown, money" in result.output.replace("\n", " ")
    assert "Did you mean" not in result.output
    assert "'outages'. Did you mean 'outage'? Topics:" in invoke("runbook", "outages").output


def test_the_help_lists_the_topics_with_their_titles() -> None:
    """One a line."""
    ended = invoke("runbook", "--help").output
    assert all(re.search(rf"^  {topic} +{re.escape(title)}$", ended, re.MULTILINE) for topic, title in titles())


def test_a_shell_completes_the_topics() -> None:
    """With their titles."""
    (topic,) = [param for param in runbook.params if param.name == "topic"]
    items = topic.type.shell_complete(click.Context(runbook), topic, "wat")
    assert [(item.value, item.help) for item in items] == [("watching", "logs, events, metrics and traces")]


def test_every_outcome_has_its_answer_to_the_new_id() -> None:
    """May I pay under a new foreign_id? One line for each."""
    result = topics(guide())["new-id"].replace("`", "")
    outcomes = {kind.outcome.replace("_", " ") for kind in errors.WithdrawalError.__subclasses__()}
    assert len(outcomes) == 6
    assert (
        sorted(outcome for outcome in outcomes if f"| {outcome}" not in result and f"({outcome})" not in result) == []
    )


def test_each_assumption_has_what_goes_wrong_without_it() -> None:
    """As many as the simulation breaks."""
    rows = re.findall(r"^\| (\w.+) \| (.+) \|$", topics(guide())["assumptions"], re.MULTILINE)[1:]
    broken = re.findall(r"^\| A\d \|", text_of("tests/proof/simulation/README.md"), re.MULTILINE)
    assert len(rows) == len(broken) == 5


def test_every_public_name_it_uses_exists() -> None:
    """Classes and functions of the package and of the local sandbox, and alerts."""
    named = {*re.findall(r"`([A-Z][a-z]\w+)[(`]", guide()), *re.findall(r"from alphapo_async import (\w+)", guide())}
    assert len(named) > 5
    rules = (files("alphapo_async") / "contrib" / "monitoring" / "alerts.yml").read_text(encoding="utf-8")
    alerts = re.findall(r"alert: (\w+)", rules)
    public = {"True", "False", *alerts, *alphapo_async.__all__, *sandbox.__all__, *engines.__all__}
    assert sorted(named - public) == []


def test_the_glossary_explains_the_words_that_errors_and_events_use() -> None:
    """Each word once, in an entry of its own, and every outcome."""
    words = re.findall(r"^\| (\w[\w -]*) \| .+ \|$", topics(guide())["glossary"], re.MULTILINE)[1:]
    assert len(words) == len(set(words)) == topics(guide())["glossary"].count("\n|") - 2 > 30
    assert {kind.outcome.replace("_", " ") for kind in errors.WithdrawalError.__subclasses__()} < set(words)
    for word in (
        "foreign_id",
        "accepted",
        "open",
        "in doubt",
        "final",
        "frozen",
        "look-up",
        "lease",
        "quiet time",
        "outage",
        "contradiction",
    ):
        assert word in words
