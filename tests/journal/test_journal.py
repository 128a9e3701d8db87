"""Opening a journal by its name."""

from __future__ import annotations

import pytest

from alphapo_async.core.errors import ConfigurationError
from alphapo_async.journal import Journal, MemoryJournal, open_journal


def test_memory_is_opened_by_name() -> None:
    """Each opening is a journal of its own."""
    journal: Journal = open_journal("memory")
    assert isinstance(journal, MemoryJournal)
    assert open_journal("memory") is not journal


@pytest.mark.parametrize("url", ["", "Memory", "postgresql://payer:hunter2@db/payouts", "payouts.db"])
def test_an_unknown_name_is_refused_and_not_shown(url: str) -> None:
    """It may hold a password; the message says what there is."""
    with pytest.raises(ConfigurationError) as caught:
        open_journal(url)
    assert 'journal="memory"' in str(caught.value)
    assert "hunter2" not in str(caught.value)
