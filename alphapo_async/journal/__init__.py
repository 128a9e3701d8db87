"""The journal: what was promised and what came of it.

A journal stores rows and answers a few questions about them; it decides nothing. A pure function, which the caller
hands in, computes what a row becomes: every kind of storage follows the same rules.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal, Protocol, runtime_checkable

from alphapo_async.core.claims import Claim, ClaimedRows
from alphapo_async.core.errors import ConfigurationError
from alphapo_async.core.evidence import Requested
from alphapo_async.core.frames import hides_arguments
from alphapo_async.core.history import Change, Entry
from alphapo_async.core.models import Totals
from alphapo_async.core.row import Epoch, Row
from alphapo_async.journal.memory import MemoryJournal
from alphapo_async.journal.urls import read_name
from alphapo_async.supervisor import Supervisor

__all__ = [
    "Cautious",
    "Change",
    "HostBinding",
    "Journal",
    "KeyValueStore",
    "MemoryJournal",
    "Migratable",
    "Outbox",
    "Redactable",
    "Supervised",
    "open_journal",
]


@runtime_checkable
class Migratable(Protocol):
    """A journal whose tables are brought to a new release by a command."""

    async def migrate(self) -> tuple[int, int]:
        """Bring an older release's tables to this one's; return the versions before and after."""
        ...


@runtime_checkable
class Cautious(Protocol):
    """A journal in a database that may lose what it acknowledged."""

    async def cautions(self) -> list[str]:
        """Return what an operator should know of the database, a sentence each."""
        ...


@runtime_checkable
class HostBinding(Protocol):
    """A journal that outlives its process, and returns the hosts to which `join` holds accounts."""

    async def hosts(self) -> dict[str, str]:
        """Return the host of each account."""
        ...


@runtime_checkable
class KeyValueStore(Protocol):
    """A journal that keeps texts for its users."""

    async def remember(self, account: str, name: str, text: str) -> None:
        """Keep this text under this name, instead of what was kept there before."""
        ...

    async def recall(self, account: str, name: str) -> str | None:
        """Return the text kept under this name; None if there is none."""
        ...

    async def swap(self, account: str, name: str, before: str | None, after: str) -> bool:
        """Keep `after` if `before` was kept until now (None: no text); return whether it was.

        After a lost answer that is not known, and the result is False.
        """
        ...


@runtime_checkable
class Outbox(Protocol):
    """A journal in the database in which its users keep their own books."""

    async def update_within(self, connection: Any, account: str, foreign_id: str, change: Change) -> Row:
        """Write the row and the history lines inside the transaction of the caller's connection: they count only if that commits.

        Raises:
            ConfigurationError: the connection is in no transaction.
        """
        ...

    def enqueue_statement(
        self, account: str, asked: Requested, host: str, expires_in: float, resend_within: float
    ) -> str:
        """Return a statement that records what is asked for, for the workers, inside the transaction in which it runs."""
        ...


@runtime_checkable
class Redactable(Protocol):
    """A journal that outlives its process, and removes what it knows of people."""

    async def forget(
        self,
        account: str,
        foreign_id: str,
        change: Callable[[Row], tuple[Row, Sequence[Entry]]],
        *,
        keeps_history: bool,
    ) -> bool:
        """Remove a withdrawal's bytes, and keep the row that `change` returns; return whether there was anything to remove.

        AlphaPo's words are removed from its history, or the whole history; then the lines that `change` returns are added. A row that
        `change` returns unchanged stays as it is.
        """
        ...


@runtime_checkable
class Supervised(Protocol):
    """A journal with background tasks or a thread."""

    def supervise(self, supervisor: Supervisor) -> None:
        """Let this supervisor report and restart them from now on."""
        ...


class Journal(Protocol):
    """What `open_journal` returns: storage of a few verbs. Each may raise `JournalError`, and another exception only where it says so.

    It is a type to name, not one to implement: a release may add verbs.
    """

    @property
    def is_durable(self) -> bool:
        """What is written survives this process."""
        ...

    @property
    def epoch(self) -> Epoch:
        """The journal's epoch, which rises when the journal went back in time; within a change, the epoch that its transaction reads."""
        ...

    async def raise_epoch(self, now: float) -> Epoch:
        """Begin another epoch, for a journal that went back in time, and return it: open rows are frozen from now on."""
        ...

    async def equate_epochs(self, line: Entry) -> int:
        """Declare that nothing was lost when the present epoch began: count the rows of the epoch before to it; return how many.

        Args:
            line: is added to the history of each of them, under its next number.
        """
        ...

    async def count_frozen(self, account: str) -> int:
        """Return how many open rows are of an earlier epoch."""
        ...

    async def time(self) -> float | None:
        """Return the storage's own time, in seconds since the epoch; None where it goes by this machine's clock."""
        ...

    async def join(self, account: str, host: str, worker: str, until: float) -> None:
        """Open the storage, bind the account to its host, and give the worker a lease until then.

        Raises:
            ConfigurationError: the account belongs to another host.
        """
        ...

    async def renew(self, worker: str, until: float, now: float) -> bool:
        """Prolong the worker's lease, unless it is over: a lease that has ended never runs again."""
        ...

    async def leave(self, worker: str, now: float) -> None:
        """End the worker's lease; other workers may take the rows that it still holds."""
        ...

    async def ended(self, worker: str, now: float) -> float | None:
        """Return until when the worker can send at the latest, if other workers may take its rows; None while they may not.

        Once this has returned a time, the worker's lease cannot be prolonged any more. The time may be later than now: where only the
        worker's connection is seen to be gone, its rows may be looked up at once, and no other worker sends them before that time.
        """
        ...

    async def find_dead(self, now: float) -> list[tuple[str, float]]:
        """Return the workers that ended and still hold something, each with the time until when it can send at the latest, as `ended` does.

        Their leases cannot be prolonged any more. A worker that holds a row and is on no list has left, and its last change was recorded
        late: it could send until now.
        """
        ...

    async def find_held(self, worker: str, limit: int) -> list[Row]:
        """Return rows that this worker holds."""
        ...

    def update(self, account: str, foreign_id: str, change: Change, *, may_lag: bool = False) -> Awaitable[Row]:
        """Write the row and the history lines that `change` returns, in one transaction; return the row once both are stored.

        Args:
            account: of the withdrawal.
            foreign_id: of the withdrawal.
            change: called once or more; the row and the lines of one and the same call are stored.
            may_lag: the row may be stored a moment later, together with other rows.
        """
        ...

    async def find(self, account: str, foreign_id: str) -> Row | None:
        """Return the row, None if the journal has none."""
        ...

    async def find_control(self, account: str, key: str, after: float) -> Row | None:
        """Return a row of this key that AlphaPo accepted, and that did not exist yet at `after`; None if there is none."""
        ...

    async def find_open(self, account: str, after: tuple[float, str] | None, limit: int) -> list[Row]:
        """Return open rows, oldest first, behind the row with this (created_at, foreign_id)."""
        ...

    async def claim(self, account: str, claim: Claim) -> ClaimedRows | None:
        """Have a worker take fresh rows that are due, the longest overdue first; None where its lease does not run.

        A claim whose number was used before takes nothing: what it took is returned. `core.claims` says why.
        """
        ...

    async def begun(self, worker: str) -> int | None:
        """Return the last claim of a worker whose rows may have begun, 0 for none; None of a worker that is not known."""
        ...

    async def find_due(
        self, account: str, now: float, limit: int, refused: Collection[str] = (), *, expired: bool = False
    ) -> list[Row]:
        """Return rows that are due and not fresh: open rows first, and the longest overdue first.

        Args:
            account: of the rows.
            now: seconds since the epoch.
            limit: rows at most.
            refused: rows under these keys are left out.
            expired: also fresh rows that have expired, which come first.
        """
        ...

    async def find_unreported(self, account: str, limit: int) -> list[Row]:
        """Return settled rows whose outcome was not handed out."""
        ...

    async def history(self, account: str, foreign_id: str) -> list[Entry]:
        """Return the lines of a withdrawal's history, in order."""
        ...

    async def totals(self, account: str) -> dict[str, Totals]:
        """Return the sums of everything requested, by currency, exact to the last decimal."""
        ...

    async def aclose(self) -> None:
        """Record what is left and release the storage."""
        ...


def is_shared(journal: Journal) -> bool:
    """Return whether other processes may use the same journal: a durable journal, and one with a true `is_shared`."""
    return getattr(journal, "is_shared", False) or journal.is_durable


VERBS: Final = tuple(name for name in vars(Journal) if not name.startswith("_") and name not in ("is_durable", "epoch"))
"""What every journal of this release has."""


@hides_arguments
def open_journal(
    url: str | Path | None = None,
    *,
    schema: str | None = None,
    pool: Any = None,
    failover: Literal["lossless"] | None = None,
) -> Journal:
    """Return the journal that `url` names. It is opened at first use.

    Args:
        url: a path or `sqlite:///PATH`: a file on this machine, shared by any number of processes on it. `postgresql://…`: a database,
            shared by any number of machines (extra `postgres`). `"memory"`: rows in this process only, which end with it. A name that could
            be meant otherwise (`:memory:`, `sqlite:payouts.db`, a blank or a line end at its end) is refused. `?filesystem=any` behind a
            path says that the file system, which is not one of those known to, locks and flushes like a local disk. `?schema=NAME` and
            `?failover=lossless` in the URL of a database say what the arguments of these names say, for commands and `from_env`.
        schema: in PostgreSQL, where the tables are; they are made at first use. None for the schema in the URL, or `alphapo`.
        pool: an asyncpg pool to use instead of a URL; it stays yours to close.
        failover: in PostgreSQL, `"lossless"` says that commits of the cluster always wait for a standby: no failover freezes a row.

    Raises:
        ConfigurationError: the name is none of these, the schema is named twice and differently, or the extra is not installed.
    """
    if pool is not None:
        return _postgres()(url, schema=schema, pool=pool, failover=failover)
    if url is None:
        raise ConfigurationError("Name the journal, or hand in an asyncpg pool. Nothing was sent.")
    kind, place, any_filesystem = read_name(url)
    if kind == "memory":
        return MemoryJournal()
    if kind == "file":
        return _sqlite(place, any_filesystem=any_filesystem)
    return _postgres()(place, schema=schema, failover=failover)


def _sqlite(path: str, *, any_filesystem: bool) -> Journal:
    """Return the journal in a file; only here is its library loaded."""
    with _instead_of("fcntl", "A journal in a file needs Linux or macOS; elsewhere it can be in PostgreSQL."):
        from alphapo_async.journal.sqlite.journal import SqliteJournal  # noqa: PLC0415 - most programs use one journal
    return SqliteJournal(path, any_filesystem=any_filesystem)


def _postgres() -> Callable[..., Journal]:
    """Return the journal in PostgreSQL; only here is its library loaded."""
    with _instead_of("asyncpg", "A journal in PostgreSQL needs an extra: pip install 'alphapo-async[postgres]'."):
        from alphapo_async.journal.postgres.journal import PostgresJournal  # noqa: PLC0415 - an extra
    return PostgresJournal


@contextmanager
def _instead_of(module: str, advice: str) -> Iterator[None]:
    """Raise the advice where this module is missing."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != module:
            raise
        raise ConfigurationError(f"{advice} Nothing was sent.") from None
