"""Which database this is: the identity by which a journal in PostgreSQL is seen to have gone back in time.

A promoted standby writes another timeline, and a dump restored elsewhere another system; either may lack the last commits. The timeline is
that of the WAL being written: the control file shows the old one until the next checkpoint. Nothing here compares times.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from alphapo_async.core.row import Epoch
from alphapo_async.journal.messages import database_error

__all__ = ["Identity", "epoch_of", "stamp_of"]


class Identity(NamedTuple):
    """What a database shows of itself."""

    system: str = ""
    timeline: int = 0

    @classmethod
    def read(cls, text: str) -> Identity:
        """Return the identity from its text; a database that hides it has an empty one."""
        system, _, timeline = text.partition("/")
        return cls(system, int(timeline, 16) if timeline else 0)

    def is_before(self, seen: Identity) -> bool:
        """Return whether this is an old primary: the same system, on a lower timeline than was seen before."""
        return self.system == seen.system and self.timeline < seen.timeline

    def check(self, seen: Identity, where: str) -> None:
        """Pass unless this is an old primary.

        Raises:
            JournalError: it is; nothing is recorded and sent there.
        """
        if self.is_before(seen):
            raise database_error(where, "old primary", f"{self.timeline} (this worker saw timeline {seen.timeline})")


def stamp_of(identity: str, number: int) -> str:
    """Return what a statement compares with the journal's row."""
    return f"{identity} {number}"


def epoch_of(found: Any) -> Epoch:
    """Return the epoch that a statement found."""
    return Epoch(found["epoch_number"], found["epoch_since"])
