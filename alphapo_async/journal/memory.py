"""The journal in memory: exact and quick, and gone with the process.

A service may run for months: open rows are kept, the newest 10,000 settled rows are kept whole, and of a million older ones the journal
keeps what prevents a second payment under their ids: the digest of the payment, the outcome and AlphaPo's id.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Iterator
from decimal import Decimal
from itertools import chain, islice
from math import inf
from typing import Final, NamedTuple, TypeAlias

from msgspec.structs import replace

from alphapo_async.core.claims import Claim, ClaimedRows
from alphapo_async.core.evidence import Claimed, Revision
from alphapo_async.core.history import Change, Entry, merged, noted
from alphapo_async.core.models import Totals, Withdrawal
from alphapo_async.core.next_step import due_at
from alphapo_async.core.row import Epoch, Row, State, counted_as, has_expired, is_fresh, is_frozen, seen_in
from alphapo_async.core.transitions import apply
from alphapo_async.journal.host_binding import check_host
from alphapo_async.journal.stored_rows import EXACT, sums

__all__ = ["MemoryJournal"]

WHOLE_ROWS: Final = 10_000
REMEMBERED: Final = 1_000_000

_Name: TypeAlias = tuple[str, str]  # account and foreign_id


class _Essence(NamedTuple):
    """What is remembered of an old settled row."""

    state: State
    counted_as: str
    digest: str
    number: int
    figure: Decimal
    currency: str
    created_at: float
    id: int | str | None
    status: str | None


_MOST_NOTES: Final = 100_000
"""Texts kept for the journal's users; the oldest go first."""


class MemoryJournal:
    """Rows in this process.

    Args:
        whole_rows: settled rows kept whole, the newest ones.
        remembered: older settled rows of which only the essence is kept.
    """

    is_durable = False

    def __init__(self, *, whole_rows: int = WHOLE_ROWS, remembered: int = REMEMBERED) -> None:
        self._whole_rows = whole_rows
        self._remembered = remembered
        self._open: dict[_Name, Row] = {}
        self._places: dict[_Name, int] = {}
        """In which order the rows came first: rows are read in it."""
        self._came = 0
        self._settled: OrderedDict[_Name, Row] = OrderedDict()
        self._old: OrderedDict[_Name, _Essence] = OrderedDict()
        self._old_sums: dict[tuple[str, str, str], Decimal] = {}
        """By account, currency and what they count in, the figures of the old rows."""
        self._history: dict[_Name, tuple[Entry, ...]] = {}
        self._hosts: dict[str, str] = {}
        self._workers: dict[str, float] = {}
        self._claims: dict[str, int] = {}
        """The number of each worker's last claim."""
        self._over: set[str] = set()
        """Workers whose leases were reported as ended: such a lease never runs again."""
        self.epoch = Epoch()
        """How often these rows went back in time, as tests have them do."""
        self._unseen: dict[_Name, tuple[Row, Row]] = {}
        """Rows as the present epoch shows them, each with the row before: other journals do not store that change either."""
        self._notes: dict[tuple[str, str], str] = {}
        self._dates: dict[_Name, float] = {}
        """When each row is due, for the rows that are."""
        self._soonest = inf
        """Before this time no row is due."""

    def __repr__(self) -> str:
        return f"MemoryJournal({len(self._open)} open, {len(self._settled)} settled, {len(self._old)} older)"

    async def time(self) -> None:
        """It goes by this machine's clock."""

    async def join(self, account: str, host: str, worker: str, until: float) -> None:
        """Bind the account to its host, and give the worker a lease until then.

        Raises:
            ConfigurationError: the account belongs to another host.
        """
        check_host(account, self._hosts.setdefault(account, host), host)
        self._workers[worker] = until

    async def renew(self, worker: str, until: float, now: float) -> bool:
        """Prolong the worker's lease, unless it is over."""
        if worker in self._over or self._workers.get(worker, now) <= now:
            return False
        self._workers[worker] = until
        return True

    async def leave(self, worker: str, now: float) -> None:
        """End the worker's lease; other workers may take the rows that it still holds."""
        if await self.find_held(worker, 1):
            self._workers[worker] = min(now, self._workers.get(worker, now))
            self._over.add(worker)
        else:
            self._workers.pop(worker, None)
            self._claims.pop(worker, None)
            self._over.discard(worker)

    async def ended(self, worker: str, now: float) -> float | None:
        """Return until when the worker could send, if its lease is over; None while it is not."""
        until = self._workers.get(worker, now)
        if until <= now and worker in self._workers:
            self._over.add(worker)
        return until if until <= now or worker in self._over else None

    async def find_dead(self, now: float) -> list[tuple[str, float]]:
        """Return the workers whose lease is over and that have not left, and those on no list that hold something."""
        self._over.update(worker for worker, until in self._workers.items() if until <= now)
        dead = [(worker, until) for worker, until in self._workers.items() if worker in self._over]
        unlisted = {row.holder for row in self._open.values()} - self._workers.keys()
        return dead + [(worker, now) for worker in sorted(filter(None, unlisted))]

    async def find_held(self, worker: str, limit: int) -> list[Row]:
        """Return rows that this worker holds."""
        return self._in_order(row for row in self._open.values() if row.holder == worker)[:limit]

    async def update(
        self,
        account: str,
        foreign_id: str,
        change: Change,
        *,
        may_lag: bool = False,  # noqa: ARG002 - nothing is late here
    ) -> Row:
        """Write the row and the history lines that `change` returns, and return the row."""
        name = (account, foreign_id)
        known = self._known(name)
        row, entries = change(known)
        if entries:
            before = self._history.get(name, ())
            is_new = len(entries) == 1 and entries[0].count == 1
            self._history[name] = (*before, entries[0]) if is_new else merged((*before, *entries))
        if row is not known:
            self._keep(name, row)
        return row

    async def find(self, account: str, foreign_id: str) -> Row | None:
        """Return the row, None if the journal has none."""
        return self._known((account, foreign_id))

    async def find_control(self, account: str, key: str, after: float) -> Row | None:
        """Return a row of this key that AlphaPo accepted, and that did not exist yet at `after`; None if there is none."""
        rows = self._in_order(row for row in self._settled.values() if _is_control(row, account, key, after))
        return rows[-1] if rows else None

    async def find_open(self, account: str, after: tuple[float, str] | None, limit: int) -> list[Row]:
        """Return open rows, oldest first, from behind (created_at, foreign_id) on."""
        rows = (row for row in self._open.values() if row.account == account)
        ordered = sorted((row.created_at, self._places[account, row.foreign_id], row) for row in rows)
        begin = (-inf, 0) if after is None else (after[0], self._places.get((account, after[1]), 0))
        return [row for created_at, place, row in ordered if (created_at, place) > begin][:limit]

    async def claim(self, account: str, claim: Claim) -> ClaimedRows | None:
        """Have a worker take fresh rows that are due; None where its lease does not run."""
        if claim.worker in self._over or self._workers.get(claim.worker, claim.now) <= claim.now:
            return None
        if claim.number <= self._claims.get(claim.worker, 0):
            made = (row for row in self._open.values() if row.holder == claim.worker and row.claim == claim.number)
            return ClaimedRows(self._in_order(made), claim.after)
        self._claims[claim.worker] = claim.number
        found = list(islice(self._fresh(account, claim), claim.limit))
        claimed = Claimed(claim.worker, claim.number, claim.key)
        rows = [await self.update(account, row.foreign_id, _taking(claimed, claim.now)) for row in found]
        return ClaimedRows(rows, max(map(_due, found), default=claim.after))

    def _fresh(self, account: str, claim: Claim) -> Iterator[Row]:
        """Return the rows that a claim may take."""
        return (row for when, row in self._due(account, claim.now) if is_fresh(row) and when >= claim.after)

    async def begun(self, worker: str) -> int | None:
        """Return the last claim of a worker whose rows may have begun; None of a worker that is not known."""
        return max(0, self._claims.get(worker, 0) - 1) if worker in self._workers else None

    async def find_due(
        self, account: str, now: float, limit: int, refused: Collection[str] = (), *, expired: bool = False
    ) -> list[Row]:
        """Return rows that are due and not fresh: open rows first, and the longest overdue first."""
        due = [row for _, row in self._due(account, now)]
        found = [row for row in due if is_fresh(row) and has_expired(row, now)] if expired else []
        others = [row for row in due if not is_fresh(row) and row.key_fingerprint not in refused]
        return [*found, *sorted(others, key=lambda row: row.state != "open")][:limit]

    def _due(self, account: str, now: float) -> list[tuple[float, Row]]:
        """Return the rows that are due, in order, each with the time since when."""
        if now < self._soonest:
            return []
        self._soonest = min(self._dates.values(), default=inf)
        due = [(when, name) for name, when in self._dates.items() if when <= now and name[0] == account]
        return [(when, row) for when, name in sorted(due) if (row := self._known(name)) is not None]

    async def find_unreported(self, account: str, limit: int) -> list[Row]:
        """Return settled rows whose outcome was not handed out."""
        rows = (row for row in self._settled.values() if row.account == account and not row.reported)
        return self._in_order(rows)[:limit]

    async def history(self, account: str, foreign_id: str) -> list[Entry]:
        """Return the lines of a withdrawal's history, in order; none where only the essence of the row is kept."""
        return list(self._history.get((account, foreign_id), ()))

    async def remember(self, account: str, name: str, text: str) -> None:
        """Keep this text under this name, instead of what was kept there before."""
        self._notes.pop((account, name), None)  # the last one written is the last to go
        self._notes[account, name] = text
        while len(self._notes) > _MOST_NOTES:
            del self._notes[next(iter(self._notes))]

    async def recall(self, account: str, name: str) -> str | None:
        """Return the text kept under this name; None if there is none."""
        return self._notes.get((account, name))

    async def swap(self, account: str, name: str, before: str | None, after: str) -> bool:
        """Keep `after` if `before` was kept until now; return whether it was."""
        if self._notes.get((account, name)) != before:
            return False
        await self.remember(account, name, after)
        return True

    async def totals(self, account: str) -> dict[str, Totals]:
        """Return the sums of everything requested, by currency, exact to the last decimal."""
        old = (
            (currency, counted, figure) for (of, currency, counted), figure in self._old_sums.items() if of == account
        )
        kept = (row for row in chain(self._open.values(), self._settled.values()) if row.account == account)
        rows = ((row.revision.asked[1], counted_as(row), row.revision.asked[0]) for row in kept)
        return sums(chain(old, rows))

    async def raise_epoch(self, now: float) -> Epoch:
        """Begin another epoch: the rows went back in time, or were restored."""
        self.epoch = Epoch(self.epoch.number + 1, now)
        self._unseen.clear()
        for rows in (self._open, self._settled):
            for name, row in rows.items():
                rows[name] = seen_in(row, self.epoch)
                self._unseen[name] = rows[name], row
        return self.epoch

    async def equate_epochs(self, line: Entry) -> int:
        """Declare that nothing was lost when the present epoch began; return how many rows that concerns, each with this line."""
        number, counted = self.epoch.number, 0
        self.epoch = Epoch(number)
        for rows in (self._open, self._settled):
            for name, row in rows.items():
                seen, before = self._unseen.get(name, (row, row))
                known = before if row is seen else row
                if known.epoch == number - 1 and known.state not in ("accepted", "failed"):
                    known, lines = noted(replace(known, epoch=number), (line,))
                    self._history[name] = (*self._history.get(name, ()), *lines)
                    counted += 1
                rows[name] = seen_in(known, self.epoch)
        return counted

    async def count_frozen(self, account: str) -> int:
        """Return how many open rows are of an earlier epoch."""
        return sum(row.account == account and is_frozen(row) for row in self._open.values())

    async def aclose(self) -> None:
        """Do nothing: the rows stay as long as this object does."""

    def _in_order(self, rows: Iterable[Row]) -> list[Row]:
        """Return the rows in the order in which they came, as the other kinds of journal do."""
        return sorted(rows, key=lambda row: self._places[row.account, row.foreign_id])

    def _known(self, name: _Name) -> Row | None:
        if (row := self._open.get(name)) is not None or (row := self._settled.get(name)) is not None:
            return row
        essence = self._old.get(name)
        return None if essence is None else _row_of(name, essence)

    def _keep(self, name: _Name, row: Row) -> None:
        if (when := _due(row)) < inf:
            self._dates[name] = when
            self._soonest = min(self._soonest, when)
        else:
            self._dates.pop(name, None)
        if self._old:
            self._forget_essence(name)
        if name not in self._places:
            self._came = self._places[name] = self._came + 1
        if row.state == "open":
            self._settled.pop(name, None)
            self._open[name] = row
            return
        self._open.pop(name, None)
        self._settled[name] = row
        if len(self._settled) > self._whole_rows:
            self._condense(*self._settled.popitem(last=False))

    def _condense(self, name: _Name, row: Row) -> None:
        self._dates.pop(name, None)
        self._old[name] = essence = _essence(row)
        self._history.pop(name, None)
        self._count_old(row.account, essence, EXACT.add)
        if len(self._old) > self._remembered:
            gone, _ = self._old.popitem(last=False)
            del self._places[gone]

    def _forget_essence(self, name: _Name) -> None:
        essence = self._old.pop(name, None)
        if essence is not None:
            self._count_old(name[0], essence, EXACT.subtract)

    def _count_old(self, account: str, essence: _Essence, change: Callable[[Decimal, Decimal], Decimal]) -> None:
        """Count an old row in the sums, or no longer."""
        counted = account, essence.currency, essence.counted_as
        self._old_sums[counted] = change(self._old_sums.get(counted, Decimal(0)), essence.figure)


def _due(row: Row) -> float:
    when = None if row.holder is not None else due_at(row)
    return inf if when is None else when


def _taking(claimed: Claimed, now: float) -> Change:
    """Return the change by which a claim takes a row."""

    def change(known: Row | None) -> tuple[Row, tuple[Entry, ...]]:
        assert known is not None  # noqa: S101 - it was just found
        return apply(known, claimed, now), ()

    return change


def _is_control(row: Row, account: str, key: str, after: float) -> bool:
    """Accepted by a reply to its own body, and begun after that time: so AlphaPo accepted it after that time."""
    is_accepted = row.state == "accepted" and row.withdrawal is not None and row.withdrawal.source == "reply"
    return is_accepted and row.account == account and row.key_fingerprint == key and row.created_at > after


def _essence(row: Row) -> _Essence:
    revision, known = row.revision, row.withdrawal
    figure, currency = revision.asked
    return _Essence(
        row.state,
        counted_as(row),
        revision.digest,
        revision.number,
        figure,
        currency,
        row.created_at,
        None if known is None else known.id,
        None if known is None else known.status,
    )


def _row_of(name: _Name, essence: _Essence) -> Row:
    account, foreign_id = name
    known = None
    if essence.id is not None:
        known = Withdrawal(id=essence.id, foreign_id=foreign_id, status=essence.status, source="journal")
    return Row(
        account=account,
        foreign_id=foreign_id,
        revision=Revision(b"", None, essence.number, essence.digest, (essence.figure, essence.currency)),
        key_fingerprint="",
        created_at=essence.created_at,
        state=essence.state,
        withdrawal=known,
    )
