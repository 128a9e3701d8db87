"""Journals beside one another: what another file knows, without a change to it."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from alphapo_async.contrib.pytest_plugin import RunningSandbox
from alphapo_async.core.models import WithdrawalRequest
from alphapo_async.engine.context import host_of
from alphapo_async.journal.sqlite.neighbors import journals_in, neighbors_with


def paying(foreign_id: str, address: str = "bc1q") -> WithdrawalRequest:
    """Return a request."""
    return WithdrawalRequest(
        foreign_id=foreign_id, currency="BTC", address=address, amount="0.1", end_user_reference="u"
    )


async def test_what_another_journal_has_paid_is_found(tmp_path: Path) -> None:
    """For this account and host only, and not what was refused."""
    paid, own = tmp_path / "payouts.csv.journal.db", tmp_path / "renamed.csv.journal.db"
    names = ["paid-1", "paid-2", "refused", "new"]
    with RunningSandbox() as running:
        async with running.client(journal=str(paid)) as client:
            results = [
                one
                async for one in client.batch([paying("paid-1"), paying("paid-2"), paying("refused", "unsupported")])
            ]
        host = host_of(running.url)
    assert len(results) == 3
    kept = paid.read_bytes()
    (found,) = neighbors_with(own, "default", host, names)
    assert found.path == paid
    assert (found.rows, found.first in names[:2]) == (2, True)
    assert neighbors_with(own, "default", "https://another.host", names) == []
    assert neighbors_with(own, "another account", host, names) == []
    assert neighbors_with(own, "default", host, ["new"]) == neighbors_with(own, "default", host, []) == []
    assert neighbors_with(paid, "default", host, names) == []
    assert paid.read_bytes() == kept
    assert not own.exists()


async def test_a_journal_whose_name_is_not_in_utf_8_is_looked_into_like_any_other(tmp_path: Path) -> None:
    """Such as one from an old share: its name must not stop the payments of every other file in the folder."""
    paid = tmp_path / os.fsdecode(b"M\xe4rz.csv.journal.db")
    with RunningSandbox() as running:
        async with running.client(journal=str(paid)) as client:
            await client.withdraw(paying("paid-1"))
        found = neighbors_with(tmp_path / "own.journal.db", "default", host_of(running.url), ["paid-1"])
    assert [(one.path, one.rows) for one in found] == [(paid, 1)]


def test_what_is_no_journal_is_passed_over(tmp_path: Path) -> None:
    """Another database, a text, a folder, and a file that another process has locked."""
    (tmp_path / "text.journal.db").write_text("no database")
    (tmp_path / "folder.journal.db").mkdir()
    sqlite3.connect(tmp_path / "empty.journal.db").close()
    assert neighbors_with(tmp_path / "own.journal.db", "default", "host", ["f"]) == []


def test_the_newest_are_looked_into(tmp_path: Path) -> None:
    """And no more than twenty."""
    for number in range(22):
        path = tmp_path / f"{number}.journal.db"
        path.touch()
        os.utime(path, (number, number))
    assert [path.name for path in journals_in(tmp_path)] == [f"{number}.journal.db" for number in range(21, 1, -1)]


@pytest.mark.parametrize("name", ["payouts.db", "journal.db.csv"])
def test_other_files_are_not_looked_into(tmp_path: Path, name: str) -> None:
    """Only those of a batch are known by their names."""
    (tmp_path / name).touch()
    assert journals_in(tmp_path) == []
