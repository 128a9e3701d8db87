"""The operations guide: printed whole or in parts, and true as far as a test can tell."""

from __future__ import annotations

import re

import pytest

import alphapo_async
from alphapo_async.cli.ending import Exit
from alphapo_async.cli.guiding import guide, topics
from alphapo_async.core import errors
from tests.cli.conftest import invoke

TOPICS = (
    "production",
    "unknown",
    "money",
    "outage",
    "many",
    "transaction",
    "callbacks",
    "rotation",
    "merchants",
    "kubernetes",
    "postgres",
    "backup",
    "audit",
    "privacy",
    "watching",
    "upgrade",
    "engines",
    "new-id",
)


def test_it_has_a_part_for_each_need() -> None:
    """In the order in which one needs them."""
    assert tuple(topics(guide())) == TOPICS


def test_it_is_printed_whole() -> None:
    """Without a topic."""
    told = invoke("runbook")
    assert (told.exit_code, told.output.rstrip()) == (0, guide().rstrip())


@pytest.mark.parametrize("topic", TOPICS)
def test_one_part_is_printed_alone(topic: str) -> None:
    """With its heading, and nothing of the next."""
    told = invoke("runbook", topic)
    assert told.exit_code == 0
    assert told.output.startswith(f"## {topic}: ")
    assert told.output.count("\n## ") == 0


def test_an_unknown_topic_is_answered_with_those_there_are() -> None:
    """Wrong usage, without a traceback."""
    told = invoke("runbook", "weather")
    assert told.exit_code == Exit.WRONG
    assert "production, unknown, money" in told.output.replace("\n", " ")


def test_every_outcome_has_its_answer_to_the_new_id() -> None:
    """May I pay under a new foreign_id? One line for each."""
    told = topics(guide())["new-id"].replace("`", "")
    outcomes = {kind.outcome.replace("_", " ") for kind in errors.WithdrawalError.__subclasses__()}
    assert len(outcomes) == 6
    assert sorted(outcome for outcome in outcomes if f"| {outcome}" not in told and f"({outcome})" not in told) == []


def test_every_public_name_it_uses_exists() -> None:
    """Classes and functions of the package."""
    named = {*re.findall(r"`([A-Z][a-z]\w+)[(`]", guide()), *re.findall(r"from alphapo_async import (\w+)", guide())}
    assert len(named) > 5
    assert sorted(name for name in named if name not in ("True", "False") and not hasattr(alphapo_async, name)) == []
