"""The table of what the errors of journals say; that each condition is reported by it is tested beside what finds it out."""

from __future__ import annotations

from pathlib import Path

import pytest

from alphapo_async.cli.runbook import guide, topics
from alphapo_async.journal.messages import DATABASE, FILE, Message, database_error, file_error, sentence


def rows_of(messages: dict[str, Message]) -> list[str]:
    """Return the rows of a table in the runbook."""
    return [f"| {one} | {shown(message.text)} | {shown(message.advice)} |" for one, message in messages.items()]


def shown(text: str) -> str:
    """Return a text as the runbook has it: what is found out stands as three dots."""
    return text.replace("{detail!r}", "…").replace("{detail}", "…")


def test_the_runbook_has_the_whole_table() -> None:
    """Row by row, in the same words."""
    lines = topics(guide())["journal"].splitlines()
    assert [line for line in lines if line.startswith("| ")] == [
        "| file | the error says | what to do |",
        *rows_of(FILE),
        "| PostgreSQL | the error says | what to do |",
        *rows_of(DATABASE),
    ]


@pytest.mark.parametrize("message", [*FILE.values(), *DATABASE.values()])
def test_a_message_is_what_is_the_matter_and_what_to_do(message: Message) -> None:
    """In one sentence, which goes on from the journal's name; only an error that nobody thought of has no advice."""
    said = sentence(message, "x")
    assert "{" not in said
    assert said.startswith(message.text.partition("{")[0])
    assert said == said.strip(" .")


def test_an_error_names_its_journal() -> None:
    """With the value that was found, and whether the call was recorded."""
    error = file_error(Path("payouts.db"), "several links", "2", recorded=False)
    assert error.detail.startswith("The journal 'payouts.db': it has 2 hard links, and")
    assert error.recorded is False
    error = database_error("postgresql://db/payouts", "privilege", "USAGE on schema s")
    assert error.detail.startswith("The journal at postgresql://db/payouts: the user lacks USAGE on schema s. Grant it")
    assert error.recorded is None
