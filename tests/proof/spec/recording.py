"""A simulated world that keeps what happens to each withdrawal: what is written, what leaves, what comes back, and what AlphaPo accepts.

Nothing of the world changes: a seed has the same trace and the same ledger here as in `tests.proof.simulation`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import msgspec

from alphapo_async.core.history import Change, Entry
from alphapo_async.core.replies import NoReply, Reply
from alphapo_async.core.row import Epoch, Row
from alphapo_async.sandbox.records import SandboxWithdrawal
from tests.proof.simulation.network import Network, _foreign_id, _is_body
from tests.proof.simulation.oracles import Message
from tests.proof.simulation.scenario import EPOCH, Failover, Scenario
from tests.proof.simulation.simulation import Simulation
from tests.proof.simulation.storage import Disk

__all__ = ["Event", "RecordedSimulation"]

_ACCOUNT: Final = "default"


class Event(msgspec.Struct, kw_only=True):
    """What happened to one withdrawal, at seconds since the epoch as every clock of the world shows them."""

    at: float
    kind: str
    """`written`, `asks`, `left`, `back`, `accepted`, `lags` or `went back`."""
    worker: str = ""
    row: Row | None = None
    """The row after it."""
    before: Row | None = None
    lines: Sequence[Entry] = ()
    """What the write adds to the history."""
    reply: Reply | NoReply | None = None
    is_body: bool = False
    sent_at: float = 0.0
    """When the body left of which AlphaPo accepts a copy, or to which this is the reply."""
    record: SandboxWithdrawal | None = None
    visible_at: float = 0.0
    """When others can read what was written; it was worked out at `at`."""


class _Disk(Disk):
    """A disk that shows each write with its history lines, in the order in which the writes are worked out."""

    recorder: RecordedSimulation

    async def update(self, account: str, foreign_id: str, change: Change, *, may_lag: bool = False) -> Row:
        """Write a row; see `Disk`."""
        return await super().update(account, foreign_id, self._shown(foreign_id, change), may_lag=may_lag)

    async def update_late(self, account: str, foreign_id: str, change: Change, seconds: float) -> Row:
        """Write a row late; see `Disk`."""
        return await super().update_late(account, foreign_id, self._shown(foreign_id, change), seconds)

    def _shown(self, foreign_id: str, change: Change) -> Change:
        def shown(known: Row | None) -> tuple[Row, Sequence[Entry]]:
            row, lines = change(known)
            self.recorder.works_out(foreign_id, known, lines)
            return row, lines

        return shown

    async def _write(self, account: str, foreign_id: str, change: Change, *, may_lag: bool) -> Row:
        row = await super()._write(account, foreign_id, change, may_lag=may_lag)
        self.recorder.writes(foreign_id, row)
        return row

    async def raise_epoch(self, now: float) -> Epoch:
        """Begin another epoch; see `MemoryJournal`."""
        epoch = await super().raise_epoch(now)
        self.recorder.goes_back()
        return epoch


class _Network(Network):
    """A network that shows every reply as the worker gets it."""

    recorder: RecordedSimulation

    async def carry(
        self, process: str, method: str, url: str, *, body: bytes, headers: Mapping[str, str], timeout: float
    ) -> Reply | NoReply:
        """Take a request to AlphaPo; see `Network`."""
        sent_at = self.recorder.now
        if not _is_body(url):
            self.recorder.asks(_foreign_id(body), process)
        came = await super().carry(process, method, url, body=body, headers=headers, timeout=timeout)
        has_left = not isinstance(came, NoReply) or came.may_have_left
        if has_left or not _is_body(url):
            self.recorder.gets_back(process, _foreign_id(body), came, sent_at, is_body=_is_body(url))
        return came


class RecordedSimulation(Simulation):
    """A world, and the events of each of its withdrawals."""

    disk_type = _Disk
    network_type = _Network

    def __init__(self, scenario: Scenario) -> None:
        self.events: dict[str, list[Event]] = {}
        self._since: list[Event] = []
        """What the journal did, for withdrawals that are recorded after it."""
        self._worked_out: dict[str, Event] = {}
        super().__init__(scenario)
        assert isinstance(self.network, _Network)
        self.network.recorder = self

    @property
    def now(self) -> float:
        """Seconds since the epoch, as every clock shows them that nothing has set."""
        return EPOCH + self.loop.time()

    def _add(self, foreign_id: str, **what: Any) -> Event:
        event = Event(at=self.now, **what)
        self.events.setdefault(foreign_id, list(self._since)).append(event)
        return event

    # ── what the disk, the network and the world show ────────────────────────────────────────────────────────────────

    def works_out(self, foreign_id: str, before: Row | None, lines: Sequence[Entry]) -> None:
        """Record that a change is worked out: it counts from now, and only if it is written."""
        self._worked_out[foreign_id] = self._add(foreign_id, kind="written", before=before, lines=lines)

    def writes(self, foreign_id: str, row: Row) -> None:
        """Record what the change has made of the row."""
        event = self._worked_out.pop(foreign_id)
        event.row, event.visible_at = row, self.now

    def goes_back(self) -> None:
        """Record that the journal is seen to have gone back, for every withdrawal."""
        for foreign_id in self.events:
            self._add(foreign_id, kind="went back", row=self.disk.row(_ACCOUNT, foreign_id))
        self._since.append(Event(at=self.now, kind="went back"))

    def asks(self, foreign_id: str, process: str) -> None:
        """Record that a look-up leaves."""
        self._add(foreign_id, kind="asks", worker=self._worker_of(process))

    def _worker_of(self, process: str) -> str:
        return next((one.worker for one in self.processes.values() if one.name == process), "")

    def gets_back(self, process: str, foreign_id: str, came: Reply | NoReply, sent_at: float, *, is_body: bool) -> None:
        """Record a reply."""
        worker = self._worker_of(process)
        self._add(foreign_id, kind="back", worker=worker, reply=came, sent_at=sent_at, is_body=is_body)

    def _new_disk(self) -> Disk:
        disk = super()._new_disk()
        assert isinstance(disk, _Disk)
        disk.recorder = self
        return disk

    def _leaves(self, foreign_id: str, body: bytes, name: str) -> Message:
        self._add(foreign_id, kind="left", worker=self._worker_of(name))
        return super()._leaves(foreign_id, body, name)

    def _accepted(self, record: SandboxWithdrawal, message: Message) -> None:
        self._add(message.foreign_id, kind="accepted", record=record, sent_at=EPOCH + message.sent_at)
        super()._accepted(record, message)

    def _lag_behind(self, failover: Failover) -> None:
        for foreign_id in self.events:
            self._add(foreign_id, kind="lags", row=self.disk.row(_ACCOUNT, foreign_id))
        self._since.append(Event(at=self.now, kind="lags"))
        super()._lag_behind(failover)
