"""Journals of earlier releases are read and finished."""

from __future__ import annotations

import shutil
from decimal import Decimal
from pathlib import Path

import pytest

from alphapo_async import AlphapoClient, Totals, WithdrawalRejected
from alphapo_async.core.row import Row
from alphapo_async.journal.sqlite.journal import SqliteJournal
from alphapo_async.sandbox import Sandbox
from tests.journal.releasing import CORRECTED, DOUBTED, KEY, LEFT, PAID, REFUSED, RELEASES, SECRET, request, write


@pytest.fixture(params=sorted(RELEASES.glob("*.db")), ids=lambda path: str(path.stem))
def path(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Give a copy of the journal of a release."""
    return Path(shutil.copy(request.param, tmp_path / "payouts.db"))


async def rows_of(path: Path) -> dict[str, Row]:
    """Return all rows by foreign_id."""
    journal = SqliteJournal(path)
    found = {name: await journal.find("default", name) for name in (PAID, REFUSED, CORRECTED, DOUBTED, LEFT)}
    await journal.aclose()
    return {name: row for name, row in found.items() if row is not None}


async def test_every_row_is_read(path: Path) -> None:
    """Its state, its bytes, its revisions and its history."""
    rows = await rows_of(path)
    assert {name: row.state for name, row in rows.items()} == {
        PAID: "accepted",
        REFUSED: "rejected",
        CORRECTED: "accepted",
        DOUBTED: "open",
        LEFT: "open",
    }
    assert rows[DOUBTED].doubt_since is not None
    assert [one.number for one in (*rows[CORRECTED].earlier, rows[CORRECTED].revision)] == [1, 2]
    journal = SqliteJournal(path)
    lines = [line.what for line in await journal.history("default", PAID)]
    assert lines == ["recorded", "accepted"]
    await journal.aclose()


async def test_every_row_is_finished(path: Path) -> None:
    """What was left is paid, what was in doubt is found, what was settled is told without a request."""
    async with Sandbox(KEY, SECRET) as sandbox:
        async with AlphapoClient(KEY, SECRET, base_url=sandbox.url) as earlier:
            await earlier.withdraw(request(DOUBTED))  # what arrived when the reply was lost
        async with AlphapoClient(KEY, SECRET, base_url=sandbox.url, journal=path) as client:
            outcomes = {result.request.foreign_id: result.outcome async for result in client.resume()}
            assert (await client.withdraw(request(PAID))).source == "journal"
            with pytest.raises(WithdrawalRejected):
                await client.withdraw(request(REFUSED, currency="NOCOIN"))
            totals = await client.totals()
        bodies = {seen.body for seen in sandbox.ledger.requests(LEFT)}
    assert outcomes == {DOUBTED: "accepted", LEFT: "accepted"}
    assert bodies == {(await rows_of(path))[LEFT].revision.body}
    assert totals["BTC"] == Totals(requested=Decimal("0.0065"), accepted=Decimal("0.0065"))


async def test_this_release_writes_such_a_journal(tmp_path: Path) -> None:
    """With the same rows in the same states: what is kept is what is written."""
    path = tmp_path / "payouts.db"
    await write(path)
    newest = max(RELEASES.glob("*.db"))
    kept = await rows_of(Path(shutil.copy(newest, tmp_path / "kept.db")))
    assert {name: row.state for name, row in (await rows_of(path)).items()} == {
        name: row.state for name, row in kept.items()
    }
