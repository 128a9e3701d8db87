"""A simulated journal: what the disk holds, and the way there, on which a commit is slow, fails, or happens unheard.

The disk is shared by all processes and survives them. What it becomes is worked out by the client's own judges, as in every journal; each
change is shown to whoever watches, with the row before and after it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from contextvars import copy_context
from copy import copy
from typing import Any, Final, Protocol, TypeAlias, TypeVar

from alphapo_async.core.claims import Claim, ClaimedRows
from alphapo_async.core.errors import JournalError
from alphapo_async.core.history import Change, Entry
from alphapo_async.core.models import Totals
from alphapo_async.core.row import Epoch, Row, seen_in
from alphapo_async.journal.memory import MemoryJournal
from tests.proof.simulation.chance import Chance
from tests.proof.simulation.loop import SimulatedLoop
from tests.proof.simulation.scenario import EPOCH, Scenario

__all__ = ["Disk", "Storage", "Watch"]

T = TypeVar("T")
Late: TypeAlias = Callable[[float], Awaitable[T]]
Watch = Callable[[Row | None, Row], None]
_GOLDEN, _USUAL = 0.006180339887, 0.01
"""Seconds that the disk takes, by turns, up to so many: no trouble, and not worth a draw."""
_VISIBLE_LATER = "commit worked out, and visible later"
_TOLD_LATER = "commit visible, and acknowledged later"
_READ_LATER = "read, and told later"
_LOST = "commit happened, answer lost"
_LATE = {"claim": _TOLD_LATER, "request": "slow commit", "renew": "failed commit"}
"""What happens more often where claims are late, so that calls and the ends of leases come between a claim and its answer."""
_REQUESTS = 2
"""Changes by which a process takes a row on: it leaves it to the workers, and a call asks for it."""
_MOST_IN_VAIN, _SOON = 10, 1.0
"""Claims without a lease in so many seconds: a worker in its rounds makes one in a second."""
_UNDONE_WITHIN = 5.0
"""Seconds of acknowledged writes that a disk forgets which breaks its word."""


_REPLICATED: Final = (*vars(MemoryJournal()), "_known_identity")
"""What a standby holds of the disk: everything in it, as of a moment."""
Replica: TypeAlias = dict[str, Any]


class Door(Protocol):
    """What a process is asked at everything that leaves it or comes back."""

    def __call__(self, what: str, about: str = "", how: str = "", /) -> asyncio.Future[None] | None:
        """Pass; or die here, and wait for what is never done."""
        ...


class Disk(MemoryJournal):
    """What is written down.

    Args:
        is_durable: it outlives the process that writes it.
        is_file: a process that sees in it that a lease has ended writes nothing of that down.
        watch: hears of every change of a row, as it is written.
        clock: virtual seconds.
    """

    def __init__(self, *, is_durable: bool, is_file: bool, watch: Watch, clock: Callable[[], float]) -> None:
        super().__init__(whole_rows=10**9)
        self.is_durable = is_durable
        self._is_file = is_file
        self._cut_off: set[str] = set()
        self._watch = watch
        self._clock = clock
        self._undo: list[tuple[float, tuple[str, str], Row | None]] = []
        self.world = copy_context()
        """What outlives all processes."""
        self._held: dict[tuple[str, str], asyncio.Task[None]] = {}
        self.keeps_its_word = True
        self.forgot: Callable[[Row | None, Row | None], None] = lambda _gone, _before: None
        """Hears of what it forgets, and of what it knows instead."""
        self.is_down = False
        """The database is lost, and the other one does not answer yet."""
        self.went_back = 0
        """How often: its identity."""
        self._known_identity = 0
        """The identity that stands in it."""
        self.is_lossless = False
        """The operator has said that failovers lose nothing."""

    def row(self, account: str, foreign_id: str) -> Row | None:
        """Return a row as it stands."""
        return self._known((account, foreign_id))

    def is_leased(self, foreign_id: str, now: float) -> bool:
        """Tell whether the row is held under a lease that runs."""
        row = self.row("default", foreign_id)
        return row is not None and row.holder is not None and self._workers.get(row.holder, 0.0) >= now

    def may_begin(self, foreign_id: str) -> bool:
        """Return whether the row was taken by itself, or a claim after its own is recorded."""
        row = self.row("default", foreign_id)
        return row is None or row.claim == 0 or row.claim < self._claims.get(row.holder or "", 0)

    def rows(self) -> list[Row]:
        """Return all rows."""
        return [*self._open.values(), *self._settled.values()]

    async def update(self, account: str, foreign_id: str, change: Change, *, may_lag: bool = False) -> Row:
        """Write, and show it to whoever watches; a row that a commit holds is waited for."""
        while (held := self._held.get((account, foreign_id))) is not None:
            await asyncio.wait({held})
        return await self._write(account, foreign_id, change, may_lag=may_lag)

    def _fresh(self, account: str, claim: Claim) -> Iterator[Row]:
        """Leave out the rows that a commit holds: a claim does not wait for them."""
        return (row for row in super()._fresh(account, claim) if (account, row.foreign_id) not in self._held)

    async def ended(self, worker: str, now: float) -> float | None:
        """Return until when a lease ran that is over; in a file a renewal that was asked for before its end succeeds all the same."""
        with self._unmarked():
            return await super().ended(worker, now)

    async def find_dead(self, now: float) -> list[tuple[str, float]]:
        """Return workers whose lease is over, with the same exception."""
        with self._unmarked():
            return await super().find_dead(now)

    def cut_off(self, worker: str) -> None:
        """Have others see it as gone, though it lives: its lease runs to its end, and it claims and renews nothing any more."""
        self._cut_off.add(worker)

    async def claim(self, account: str, claim: Claim) -> ClaimedRows | None:
        """Have a worker take fresh rows, unless it is cut off."""
        return None if claim.worker in self._cut_off else await super().claim(account, claim)

    async def renew(self, worker: str, until: float, now: float) -> bool:
        """Prolong a lease, unless its worker is cut off."""
        return worker not in self._cut_off and await super().renew(worker, until, now)

    @contextmanager
    def _unmarked(self) -> Iterator[None]:
        over = set(self._over)
        yield
        if self._is_file:
            self._over = over

    async def update_late(self, account: str, foreign_id: str, change: Change, seconds: float) -> Row:
        """Work the change out now, hold the row, and show it later: a commit that takes its time, and ends whoever dies meanwhile."""
        name = (account, foreign_id)
        while (held := self._held.get(name)) is not None:
            await asyncio.wait({held})
        made = change(self.row(*name))
        committing = asyncio.get_running_loop().create_task(self._commit(name, made, seconds), context=self.world)
        self._held[name] = committing
        await asyncio.wait({committing})
        if committing.cancelled():
            raise JournalError("The database was lost before it committed.", recorded=None)
        return made[0]

    async def _commit(self, name: tuple[str, str], made: tuple[Row, Sequence[Entry]], seconds: float) -> None:
        await asyncio.sleep(seconds)
        self._held.pop(name, None)
        row, lines = made
        await self._write(*name, lambda _: (seen_in(row, self.epoch), lines), may_lag=False)

    async def _write(self, account: str, foreign_id: str, change: Change, *, may_lag: bool) -> Row:
        before = self.row(account, foreign_id)
        after = await super().update(account, foreign_id, change, may_lag=may_lag)
        if not self.keeps_its_word:
            self._undo.append((self._clock(), (account, foreign_id), before))
        if after is not before:
            self._watch(before, after)
        return after

    # ── a database that goes back ────────────────────────────────────────────────────────────────────────────────────

    def replica(self) -> Replica:
        """Return what a standby holds that lags from this moment on."""
        return {name: copy(getattr(self, name)) for name in _REPLICATED}

    def go_back(self, replica: Replica) -> set[str]:
        """Become what the standby holds, under another identity; return the foreign_ids of rows that have changed by it."""
        for committing in self._held.values():
            committing.cancel()
        self._held.clear()
        self.went_back += 1
        before: dict[tuple[str, str], Row] = {**self._open, **self._settled}
        for name, value in replica.items():
            setattr(self, name, copy(value))
        after: dict[tuple[str, str], Row] = {**self._open, **self._settled}
        gone = [one for one in before if before[one] is not after.get(one)]
        for one in gone:
            self.forgot(before[one], after.get(one))
        return {foreign_id for _, foreign_id in gone}

    async def recognize(self) -> None:
        """See whether the identity that stands in it is its own; if not, it went back, and another epoch begins."""
        if self._known_identity == self.went_back:
            return
        self._known_identity = self.went_back
        if not self.is_lossless:
            before: dict[tuple[str, str], Row] = {**self._open, **self._settled}
            await self.raise_epoch(EPOCH + self._clock())
            for one, row in before.items():
                self.forgot(row, self.row(*one))

    def forget_the_last(self) -> None:
        """Break its word: what was acknowledged a moment ago is gone."""
        while self._undo and self._undo[-1][0] >= self._clock() - _UNDONE_WITHIN:
            _, name, before = self._undo.pop()
            gone = self._open.pop(name, None) or self._settled.pop(name, None)
            self.forgot(gone, before)
            if before is not None:
                self._keep(name, before)


class Storage:
    """The way of one process to the disk.

    Args:
        disk: what is written down.
        name: of the process.
        loop: in which it is asked.
        scenario: how often what goes wrong.
        chance: when.
        door: passed before and after everything.
        note: counts what went wrong, by kind.
        clock: by which the journal's leases go.
        fail: called with what is wrong.
        on_lag: hears by name who wrote what is visible now, and in how many seconds that process knows so.
    """

    def __init__(
        self,
        disk: Disk,
        name: str,
        *,
        loop: SimulatedLoop,
        scenario: Scenario,
        chance: Chance,
        door: Door,
        note: Callable[[str], None],
        clock: Callable[[], float],
        fail: Callable[[str], None],
        on_lag: Callable[[str, object, float], None],
    ) -> None:
        self.disk = disk
        self._name = name
        self._scenario = scenario
        self._chance = chance
        self._door = door
        self._note = note
        self._clock = clock
        self._fail = fail
        self._on_lag = on_lag
        self._loop = loop
        self._ends = scenario.ends
        rates = scenario.rates
        self._fates = {
            "slow commit": rates.slow_commit,
            "failed commit": rates.failed_commit,
            _LOST: rates.lost_commit,
            _VISIBLE_LATER: rates.slow_commit,
            _TOLD_LATER: rates.slow_commit,
        }
        self._fates_of = {
            verb: {**self._fates, fate: max(self._fates[fate], rates.late_claim)} for verb, fate in _LATE.items()
        }
        self._unread = {"failed read": rates.failed_read, _READ_LATER: rates.slow_commit}
        self._is_troubled = scenario.has("storage")
        self._numbers: dict[tuple[str, str], int] = {}
        self._asked = 0
        self.under_way = 0
        """How much is being asked of the disk just now."""
        self._seen = disk.went_back
        self._leases: dict[str, float] = {}
        """Until when this process knows that its workers have their leases."""
        self.outlived: set[str] = set()
        """Workers whose lease had ended when the answer came that it was renewed."""
        self._in_vain: list[float] = []
        """When claims were last answered that no lease ran."""

    @property
    def is_durable(self) -> bool:
        """As the disk is."""
        return self.disk.is_durable

    @property
    def epoch(self) -> Epoch:
        """The disk's epoch."""
        return self.disk.epoch

    @property
    def is_unaware(self) -> bool:
        """The database has gone back, and this process has written nothing since."""
        return self._seen != self.disk.went_back

    def _recognizing(self, action: Callable[..., Awaitable[T]], seen: list[int]) -> Callable[..., Awaitable[T]]:
        """Have the disk recognize itself, as everything does that writes; what it then is, is noted."""

        async def act(*about: float) -> T:
            await self.disk.recognize()
            seen.append(self.disk.went_back)
            return await action(*about)

        return act

    # ── what may go wrong ────────────────────────────────────────────────────────────────────────────────────────────

    async def _do(
        self,
        verb: str,
        about: str,
        action: Callable[[], Awaitable[T]],
        *,
        writes: bool = False,
        late: Late[T] | None = None,
    ) -> T:
        """Go to the disk and back."""
        self._asked += 1
        self.under_way += 1
        seen: list[int] = []
        if writes:
            action, late = self._recognizing(action, seen), late and self._recognizing(late, seen)
        try:
            if (death := self._door(verb, about)) is not None:
                await death
            if not self.disk.is_durable:
                return await action()
            self._fail_while_down()
            if self._loop.time() >= self._ends or not self._is_troubled:
                await self._loop.pause(self._asked * _GOLDEN % _USUAL)
                done = await action()
                if (death := self._door(verb, about, " is back")) is not None:
                    await death
                self._seen = max(self._seen, *seen, 0)
                return done
            done = await self._go(verb, about, action, writes=writes, late=late)
            self._seen = max(self._seen, *seen, 0)
            return done
        finally:
            self.under_way -= 1

    async def _poll(self, verb: str, action: Callable[[], Awaitable[T]]) -> T:
        """Ask what is asked every second, and is mostly answered with nothing."""
        if self._loop.time() < self._ends and self._is_troubled:
            return await self._do(verb, "", action)
        if (death := self._door(verb, "")) is not None:
            await death
        self._fail_while_down()
        return await action()

    def _fail_while_down(self) -> None:
        if self.disk.is_down:
            raise JournalError("The database is lost.", recorded=None)

    async def _go(
        self, verb: str, about: str, action: Callable[[], Awaitable[T]], *, writes: bool, late: Late[T] | None
    ) -> T:
        """Go there and back, where something may go wrong."""
        key = (self._name, verb, about, self._next((verb, about)))
        is_request = verb == "update" and key[-1] <= _REQUESTS
        fates = self._fates_of.get("request" if is_request else verb, self._fates)
        fate = self._chance.which(fates if writes else self._unread, "fate", *key)
        slow = self._chance.between(0.1, 40.0, "slowness", *key) if fate == "slow commit" else 0.0
        if slow:
            self._note(fate)
        await self._loop.pause(slow or self._asked * _GOLDEN % _USUAL)
        now = self._loop.time()
        is_over = now >= self._ends
        self._fail_while_down()
        if not is_over:
            self._fail_before(now, fate, about, writes=writes)
        if fate in (_VISIBLE_LATER, _TOLD_LATER, _READ_LATER) and not is_over:
            slow = self._chance.between(0.1, 40.0, "slowness", *key)
        if late is not None and fate == _VISIBLE_LATER and not is_over:
            self._note(fate)
            done = await late(slow)
        else:
            done = await action()
        is_in_vain = verb == "claim" and done is None  # that is answered as soon as it is seen
        if fate in (_TOLD_LATER, _READ_LATER) and not (is_over or is_in_vain):
            self._note(fate)
            self._on_lag(self._name, done, slow)
            await asyncio.sleep(slow)
        if (death := self._door(verb, about, " is back")) is not None:
            await death
        if fate == _LOST and not is_over:
            self._note(_LOST)
            raise JournalError("The answer of the journal was lost.", recorded=None)
        return done

    def _next(self, what: tuple[str, str]) -> int:
        number = self._numbers[what] = self._numbers.get(what, 0) + 1
        return number

    def _fail_before(self, now: float, fate: str, about: str, *, writes: bool) -> None:
        full = self._scenario.full
        if writes and full is not None and full[0] <= now < full[1]:
            self._note("disk full")
            raise JournalError("The disk is full.", recorded=self.disk.row("default", about) is not None)
        if fate == "failed commit":
            self._note(fate)
            raise JournalError("The commit failed.", recorded=self.disk.row("default", about) is not None)
        if fate == "failed read":
            self._note(fate)
            raise JournalError("The journal cannot be read.", recorded=None)

    # ── the verbs ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def time(self) -> float | None:
        """Return the storage's own time, where there is one."""
        if self._scenario.is_one_machine or not self._scenario.has("clocks"):
            return None
        return await self._do("time", "", self._own_time)

    async def _own_time(self) -> float:
        return EPOCH + self._loop.time()

    async def join(self, account: str, host: str, worker: str, until: float) -> None:
        """Open."""
        await self._do("join", "", lambda: self.disk.join(account, host, worker, until), writes=True)
        self._leases[worker] = until

    async def renew(self, worker: str, until: float, now: float) -> bool:
        """Prolong a lease."""
        is_renewed = await self._do("renew", "", lambda: self.disk.renew(worker, until, now), writes=True)
        if is_renewed and self._clock() > self._leases[worker]:
            self.outlived.add(worker)
        elif is_renewed:
            self._leases[worker] = until
        return is_renewed

    async def leave(self, worker: str, now: float) -> None:
        """End a lease."""
        await self._do("leave", "", lambda: self.disk.leave(worker, now), writes=True)

    async def ended(self, worker: str, now: float) -> float | None:
        """Tell whether a lease is over."""
        return await self._do("ended", "", lambda: self.disk.ended(worker, now))

    async def find_dead(self, now: float) -> list[tuple[str, float]]:
        """Return workers whose lease is over."""
        return await self._poll("find dead", lambda: self.disk.find_dead(now))

    async def find_held(self, worker: str, limit: int) -> list[Row]:
        """Return what a worker holds."""
        return await self._do("find held", "", lambda: self.disk.find_held(worker, limit))

    async def update(self, account: str, foreign_id: str, change: Change, *, may_lag: bool = False) -> Row:
        """Write a row."""
        return await self._do(
            "update",
            foreign_id,
            lambda: self.disk.update(account, foreign_id, change, may_lag=may_lag),
            writes=True,
            late=lambda seconds: self.disk.update_late(account, foreign_id, change, seconds),
        )

    async def raise_epoch(self, now: float) -> Epoch:
        """Begin another epoch."""
        return await self._do("raise epoch", "", lambda: self.disk.raise_epoch(now), writes=True)

    async def equate_epochs(self, line: Entry) -> int:
        """Declare two epochs equal."""
        return await self._do("equate epochs", "", lambda: self.disk.equate_epochs(line), writes=True)

    async def count_frozen(self, account: str) -> int:
        """Count what is frozen."""
        return await self._do("count frozen", "", lambda: self.disk.count_frozen(account))

    async def find(self, account: str, foreign_id: str) -> Row | None:
        """Read a row."""
        return await self._do("find", foreign_id, lambda: self.disk.find(account, foreign_id))

    async def find_control(self, account: str, key: str, after: float) -> Row | None:
        """Find another withdrawal that AlphaPo accepted."""
        return await self._do("find control", "", lambda: self.disk.find_control(account, key, after))

    async def find_open(self, account: str, after: tuple[float, str] | None, limit: int) -> list[Row]:
        """Return open rows."""
        return await self._do("find open", "", lambda: self.disk.find_open(account, after, limit))

    async def claim(self, account: str, claim: Claim) -> ClaimedRows | None:
        """Take fresh rows: slowly, in vain, or without an answer."""
        claimed = await self._do("claim", "", lambda: self.disk.claim(account, claim), writes=True)
        if claimed is None:
            self._in_vain = [*self._in_vain[-_MOST_IN_VAIN:], self._loop.time()]
            if len(self._in_vain) > _MOST_IN_VAIN and self._in_vain[-1] - self._in_vain[0] < _SOON:
                self._fail(f"{self._name} claims {_MOST_IN_VAIN} times in {_SOON:g} s, and no lease runs")
        return claimed

    async def begun(self, worker: str) -> int | None:
        """Return which rows of a worker may have begun."""
        return await self._do("begun", "", lambda: self.disk.begun(worker))

    async def find_due(
        self, account: str, now: float, limit: int, refused: Collection[str] = (), *, expired: bool = False
    ) -> list[Row]:
        """Return rows that a worker should come to."""
        return await self._poll("find due", lambda: self.disk.find_due(account, now, limit, refused, expired=expired))

    async def find_unreported(self, account: str, limit: int) -> list[Row]:
        """Return outcomes that nobody heard."""
        return await self._do("find unreported", "", lambda: self.disk.find_unreported(account, limit))

    async def history(self, account: str, foreign_id: str) -> list[Entry]:
        """Return all that was heard."""
        return await self._do("history", foreign_id, lambda: self.disk.history(account, foreign_id))

    async def totals(self, account: str) -> dict[str, Totals]:
        """Return the sums."""
        return await self._do("totals", "", lambda: self.disk.totals(account))

    async def remember(self, account: str, name: str, text: str) -> None:
        """Keep a text."""
        await self._do("remember", name, lambda: self.disk.remember(account, name, text), writes=True)

    async def recall(self, account: str, name: str) -> str | None:
        """Return a text."""
        return await self._do("recall", name, lambda: self.disk.recall(account, name))

    async def swap(self, account: str, name: str, before: str | None, after: str) -> bool:
        """Replace a text by another."""
        return await self._do("swap", name, lambda: self.disk.swap(account, name, before, after), writes=True)

    async def aclose(self) -> None:
        """Let go."""
