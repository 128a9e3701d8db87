"""Opening a journal by its name."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from alphapo_async.core.errors import ConfigurationError
from alphapo_async.journal import Journal, MemoryJournal, is_shared, open_journal
from alphapo_async.journal.postgres.journal import PostgresJournal
from alphapo_async.journal.sqlite.journal import SqliteJournal
from tests.support.mounts import mounted


def test_memory_is_opened_by_name() -> None:
    """Each opening is a journal of its own."""
    journal: Journal = open_journal("memory")
    assert isinstance(journal, MemoryJournal)
    assert open_journal("memory") is not journal


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("payouts.db", Path("payouts.db").absolute()),
        ("/var/lib/payouts.db", Path("/var/lib/payouts.db")),
        ("sqlite:///payouts.db", Path("payouts.db").absolute()),
        ("sqlite:////var/lib/payouts.db", Path("/var/lib/payouts.db")),
    ],
)
def test_a_path_is_a_file(url: str, path: Path) -> None:
    """Made absolute, and not touched before it is used."""
    journal = open_journal(url)
    assert isinstance(journal, SqliteJournal)
    assert journal.path == path
    assert not path.exists()


async def test_a_database_is_opened_by_its_url_or_its_pool() -> None:
    """Nothing is asked of it before it is used."""
    journal = open_journal("postgresql://payer:hunter2@db/payouts", schema="payments")
    assert isinstance(journal, PostgresJournal)
    assert repr(journal) == "PostgresJournal('postgresql://db/payouts, schema payments')"
    named = open_journal("postgresql://payer:hunter2@db/payouts?schema=payments")
    assert repr(named) == repr(journal)
    assert isinstance(open_journal(pool=object(), failover="lossless"), PostgresJournal)
    with pytest.raises(ConfigurationError, match="Name the journal"):
        open_journal()


def test_a_database_needs_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever has not installed it is told how; what else is missing is not taken for it."""
    for module in [name for name in sys.modules if name.startswith("alphapo_async.journal.postgres")]:
        monkeypatch.delitem(sys.modules, module)
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "asyncpg", None)
        with pytest.raises(ConfigurationError, match=r"pip install 'alphapo-async\[postgres\]'"):
            open_journal("postgresql://db/payouts")
    for module in [name for name in sys.modules if name.startswith("alphapo_async.journal.postgres")]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "alphapo_async.journal.group_commit", None)
    with pytest.raises(ModuleNotFoundError, match="group_commit"):
        open_journal("postgresql://db/payouts")


def test_a_file_needs_locks_that_not_every_system_has(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the module for them is missing the message says what to use instead."""
    for module in [
        name
        for name in sys.modules
        if name.startswith(("alphapo_async.journal.sqlite.journal", "alphapo_async.journal.sqlite.liveness"))
    ]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "fcntl", None)
    with pytest.raises(ConfigurationError, match=r"needs Linux or macOS; elsewhere it can be in PostgreSQL"):
        open_journal("payouts.db")


@pytest.mark.parametrize(
    "url", ["", "redis://payer:hunter2@db/payouts", "payouts.db\n", ":memory:", "sqlite:payouts.db"]
)
def test_a_name_that_is_none_is_refused(url: str) -> None:
    """Nothing is opened in its place."""
    with pytest.raises(ConfigurationError, match=r"^journal .* Nothing was sent\.$") as caught:
        open_journal(url)
    assert "hunter2" not in str(caught.value)


def test_a_path_object_is_always_a_file(tmp_path: Path) -> None:
    """Whatever its name would mean as text."""
    for name in ("memory", ":memory:", "sqlite:payouts.db", "payouts.db"):
        journal = open_journal(tmp_path / name)
        assert isinstance(journal, SqliteJournal)
        assert journal.path == tmp_path / name
    relative = open_journal(Path("memory"))
    assert isinstance(relative, SqliteJournal)
    assert relative.path == Path("memory").absolute()


def test_a_journal_is_shared_where_other_processes_may_use_it(tmp_path: Path) -> None:
    """A durable one always; a file also on a file system in memory, which is not durable."""
    with mounted(tmp_path):
        in_memory = open_journal(tmp_path / "payouts.db")
        assert (in_memory.is_durable, is_shared(in_memory)) == (False, True)
    assert not is_shared(MemoryJournal())
    assert is_shared(open_journal("postgresql://db/payouts"))
    vouched = open_journal("payouts.db?filesystem=any")
    assert isinstance(vouched, SqliteJournal)
    assert vouched.any_filesystem
    assert vouched.path.name == "payouts.db"
