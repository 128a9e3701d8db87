"""Which database this is: the identity by which a journal in PostgreSQL is seen to have gone back in time.

A promoted standby writes another timeline, and a dump restored elsewhere another system; either may lack the last commits. The timeline is
that of the WAL being written: the control file shows the old one until the next checkpoint. Nothing here compares times.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from alphapo_async.core.errors import JournalError
from alphapo_async.core.row import Epoch

__all__ = ["FUNCTION", "Identity", "IdentityStatements", "epoch_of", "here", "stamp_of"]

FUNCTION: Final = """
create function {s}.identity() returns text language plpgsql stable as $identity$
begin
  return (select system_identifier from pg_control_system()) || '/' || left(pg_walfile_name(pg_current_wal_insert_lsn()), 8);
exception when others then
  return '';
end
$identity$;
comment on function {s}.identity() is 'System identifier and timeline of the WAL being written; empty where the database hides them';
"""
"""The database tells its identity by itself, so that a statement can compare it in the moment in which it writes."""


def here(schema: str, stamp: str) -> str:
    """Return a query for the journal's row: it finds it only where the journal has not gone back since the worker saw it so.

    Args:
        schema: a checked name.
        stamp: the parameter that holds what `stamp_of` returned.
    """
    return (
        f"select from {schema}.journal j, (select {schema}.identity() as seen) now "
        f"where j.identity = now.seen and now.seen || ' ' || j.epoch_number = {stamp}::text"
    )


class Identity(NamedTuple):
    """What a database tells of itself."""

    system: str = ""
    timeline: int = 0

    @classmethod
    def read(cls, text: str) -> Identity:
        """Return the identity that the database wrote so; one that hides its own has none."""
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
            raise JournalError(
                f"The journal at {where} is an old primary: it writes timeline {self.timeline}, and this worker saw timeline "
                f"{seen.timeline}. Nothing is recorded or sent there: stop that server, and point the journal at the new primary.",
                recorded=None,
            )


def stamp_of(identity: str, number: int) -> str:
    """Return what a statement compares with the journal's row."""
    return f"{identity} {number}"


class IdentityStatements:
    """The statements, for the tables of one schema.

    Args:
        schema: a checked name.
        durable: what makes a statement reported only when it is on disk.
    """

    def __init__(self, schema: str, durable: str) -> None:
        journal = f"{schema}.journal"
        self.look = f"select {schema}.identity() as seen, identity, epoch_number, epoch_since from {journal}"
        """The identity now and the one that the journal last saw, and its epoch."""
        self.see = (
            f"update {journal} set identity = $1, epoch_number = epoch_number + $3::int4, "
            "epoch_since = case $3::int4 when 0 then epoch_since else extract(epoch from clock_timestamp()) end "
            f"where identity = $2 and {schema}.identity() = $1 returning {durable}"
        )
        """The first sight of another identity, which begins another epoch unless failovers lose nothing."""
        self.raise_epoch = (
            f"update {journal} set epoch_number = epoch_number + 1, epoch_since = extract(epoch from clock_timestamp()) "
            f"where epoch_number = $1 returning {durable}"
        )
        """Another epoch, for what the identity does not show; once, however many workers ask."""
        self.equate = (
            f"with equal as (update {journal} set epoch_since = null returning epoch_number), counted as ("
            f"update {schema}.withdrawals w set epoch = w.epoch + 1, turn = turn + 1 from equal "
            "where w.epoch + 1 = equal.epoch_number and state not in ('accepted', 'failed') returning w.id) "
            f"select count(*) as count, {durable} from counted"
        )
        """The rows of the epoch before count to the present one: nothing was lost between them."""
        self.frozen = (
            f"select count(*) from {schema}.withdrawals w cross join {journal} "
            "where account = $1 and state = 'open' and epoch < epoch_number"
        )
        """How many rows were open when the journal went back."""
        self.set_epoch = f"update {journal} set epoch_number = $1, epoch_since = $2"
        """The epoch of a journal that was copied here."""


def epoch_of(found: Any) -> Epoch:
    """Return the epoch that a statement found."""
    return Epoch(found["epoch_number"], found["epoch_since"])
