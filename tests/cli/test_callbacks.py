"""`alphapo journal callbacks`: what AlphaPo called back about one withdrawal."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from alphapo_async.core.evidence import CalledBack, ReplyExcerpt
from alphapo_async.core.models import Transaction
from alphapo_async.journal.sqlite.journal import SqliteJournal
from tests.cli.conftest import invoke
from tests.support.journal_suite import learn, pay

BODY = b'{"id":"id of f","foreign_id":"f","status":"confirmed","transactions":[{"txid":"bb04"}]}'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give a journal with a paid withdrawal and two callbacks, the first one twice; the body of the second is not kept."""
    place = tmp_path / "payouts.db"

    async def fill() -> None:
        journal = SqliteJournal(place)
        await pay(journal, "f", "g")
        result = Transaction(id="id of f", foreign_id="f", status="confirmed")
        for now in (1.0, 2.0):
            await learn(journal, "f", CalledBack(result, ReplyExcerpt(None, BODY)), now=now)
        await learn(journal, "f", CalledBack(result, ReplyExcerpt()), now=3.0)
        await journal.aclose()

    asyncio.run(fill())
    return place


def test_callbacks_are_a_table_that_fits_80_columns(path: Path) -> None:
    """With the last delivery, how often, what it said, and whether it can be replayed."""
    result = invoke("journal", "callbacks", "f", "--journal", str(path), COLUMNS="80")
    assert result.exit_code == 0, result.output
    [first, second] = [line for line in result.stdout.splitlines() if "UTC" in line]
    assert "1970-01-01 00:00:02.000 UTC" in first
    assert (f"{len(BODY)} bytes" in first, "not kept" in second) == (True, True)
    assert max(map(len, result.stdout.splitlines())) <= 80


def test_as_json_each_is_a_line_with_its_body(path: Path) -> None:
    """Letter for letter as AlphaPo sent it."""
    result = invoke("journal", "callbacks", "f", "--json", "--journal", str(path))
    first, second = map(json.loads, result.stdout.splitlines())
    assert (first["body"], first["count"], first["txids"]) == (BODY.decode(), 2, ["bb04"])
    assert (first["can_be_replayed"], second["can_be_replayed"], second["status"]) == (True, False, None)


def test_a_withdrawal_without_callbacks_is_a_sentence(path: Path) -> None:
    """Exit code 3, as for a withdrawal that the journal does not know."""
    for name in ("g", "unknown"):
        result = invoke("journal", "callbacks", name, "--journal", str(path))
        assert (result.exit_code, result.stdout) == (3, "")
        assert "no callback of withdrawal" in result.stderr
        assert "Check the spelling, --journal and --account; AlphaPo may have sent none" in result.stderr
