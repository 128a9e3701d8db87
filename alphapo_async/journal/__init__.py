"""The journal: what was promised and what came of it.

A journal stores rows and answers a few questions about them; it decides nothing. What a row becomes is worked out by the
pure function that it is handed, so that every kind of storage follows the same rules.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeAlias

from alphapo_async.core.errors import ConfigurationError
from alphapo_async.core.models import Totals
from alphapo_async.core.row import Row
from alphapo_async.journal.memory import MemoryJournal

__all__ = ["Change", "Journal", "MemoryJournal", "open_journal"]

Change: TypeAlias = Callable[[Row | None], Row]
"""Makes the new row from the one on record, None if there is none; pure, so that a journal may call it again."""


class Journal(Protocol):
    """Storage of a few verbs. Every one may raise `JournalError`, and no other exception."""

    @property
    def is_durable(self) -> bool:
        """What is written survives this process."""
        ...

    async def update(self, account: str, foreign_id: str, change: Change) -> Row:
        """Replace the row by what `change` makes of it, atomically, and return the new one once it is written down."""
        ...

    async def find(self, account: str, foreign_id: str) -> Row | None:
        """Return the row, None if the journal has none."""
        ...

    async def find_control(self, account: str, key: str, after: float) -> Row | None:
        """Return a row of this key that AlphaPo accepted, and that did not exist yet at `after`; None if there is none."""
        ...

    async def totals(self, account: str) -> dict[str, Totals]:
        """Return what became of everything asked for, by currency, exact to the last decimal."""
        ...

    async def aclose(self) -> None:
        """Write down what is left and let go of the storage."""
        ...


def open_journal(url: str) -> Journal:
    """Return the journal that `url` names.

    Args:
        url: `"memory"` keeps rows in this process only: they end with it.

    Raises:
        ConfigurationError: the name is not known.
    """
    if url == "memory":
        return MemoryJournal()
    raise ConfigurationError(
        'This release keeps its journal in memory only: pass journal="memory", or an object with the verbs of '
        "alphapo_async.journal.Journal. The name given is not shown, since it may hold a password."
    )
