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
from tests.support.journal_suite import hear, pay

BODY = b'{"id":"id of f","foreign_id":"f","status":"confirmed","transactions":[{"txid":"bb04"}]}'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give a journal with a paid withdrawal and two callbacks, the first one twice; the body of the second is not kept."""
    place = tmp_path / "payouts.db"

    async def fill() -> None:
        journal = SqliteJournal(place)
        await pay(journal, "f", "g")
        told = Transaction(id="id of f", foreign_id="f", status="confirmed")
        for now in (1.0, 2.0):
            await hear(journal, "f", CalledBack(told, ReplyExcerpt(None, BODY)), now=now)
        await hear(journal, "f", CalledBack(told, ReplyExcerpt()), now=3.0)
        await journal.aclose()

    asyncio.run(fill())
    return place


def test_callbacks_are_a_table_that_fits_80_columns(path: Path) -> None:
    """With the last delivery, how often, what it said, and whether it can be replayed."""
    told = invoke("journal", "callbacks", "f", "--journal", str(path), COLUMNS="80")
    assert told.exit_code == 0, told.output
    [first, second] = [line for line in told.stdout.splitlines() if "UTC" in line]
    assert "1970-01-01 00:00:02.000 UTC" in first
    assert (f"{len(BODY)} bytes" in first, "not kept" in second) == (True, True)
    assert max(map(len, told.stdout.splitlines())) <= 80


def test_as_json_each_is_a_line_with_its_body(path: Path) -> None:
    """Letter for letter as AlphaPo sent it."""
    told = invoke("journal", "callbacks", "f", "--json", "--journal", str(path))
    first, second = map(json.loads, told.stdout.splitlines())
    assert (first["body"], first["count"], first["txids"]) == (BODY.decode(), 2, ["bb04"])
    assert (first["can_be_replayed"], second["can_be_replayed"], second["status"]) == (True, False, None)


def test_a_withdrawal_without_callbacks_is_a_sentence(path: Path) -> None:
    """Exit code 3, as for a withdrawal that the journal does not know."""
    for name in ("g", "unknown"):
        told = invoke("journal", "callbacks", name, "--journal", str(path))
        assert (told.exit_code, told.stdout) == (3, "")
        assert "no callback of withdrawal" in told.stderr
