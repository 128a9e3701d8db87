"""Opening a journal by its name."""

from __future__ import annotations

from pathlib import Path

import pytest

from alphapo_async.core.errors import ConfigurationError
from alphapo_async.journal import Journal, MemoryJournal, open_journal
from alphapo_async.journal.sqlite import SqliteJournal


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


@pytest.mark.parametrize("url", ["", " ", "redis://payer:hunter2@db/payouts", "sqlite://", "sqlite:///"])
def test_an_unknown_name_is_refused_and_not_shown(url: str) -> None:
    """It may hold a password; the message says what there is."""
    with pytest.raises(ConfigurationError) as caught:
        open_journal(url)
    assert '"memory"' in str(caught.value)
    assert "hunter2" not in str(caught.value)
