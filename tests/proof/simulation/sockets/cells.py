"""One cell of the matrix: a fault strikes one attempt of one withdrawal over one transport, and what came of it is written down."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from typing import Any, Literal, TypeAlias

import aiohttp
import msgspec

from alphapo_async.client import AlphapoClient
from alphapo_async.core.errors import WithdrawalError
from alphapo_async.core.models import WithdrawalRequest
from alphapo_async.core.replies import NoReply, NotSent, Proof, Reply, judge_reply, name_of
from alphapo_async.core.retry_policy import RetryPolicy
from alphapo_async.engine.context import Runtime
from alphapo_async.journal import Journal
from alphapo_async.journal.memory import MemoryJournal
from alphapo_async.session import SessionManager
from alphapo_async.wire import probe
from tests.proof.simulation.sockets.certificates import client_side
from tests.proof.simulation.sockets.far_end import KEY, SECRET, FarEnd, Fault
from tests.proof.simulation.sockets.faults import FAULTS, Phase
from tests.proof.truth import FlightResult, lies, outcome_of

__all__ = [
    "ATTEMPTS",
    "ENDINGS",
    "PATHS",
    "TRANSPORTS",
    "Attempt",
    "Cell",
    "Ending",
    "Kept",
    "Path",
    "Seen",
    "Transport",
    "play",
]

Attempt: TypeAlias = Literal["first", "later, fresh", "later, reused", "next, reused"]
"""Which attempt is struck: the client's first; a later one of the withdrawal after a 503, on a fresh connection or on the same; the first
one of the next withdrawal, on the connection of the one before."""
Transport: TypeAlias = Literal["plain", "TLS"]
Path: TypeAlias = Literal["pool", "public"]
"""How requests leave: on connections of aiohttp's pool, or through aiohttp's public interface."""
Ending: TypeAlias = Literal["all is well again", "nobody is there"]
"""What follows the strike."""

ATTEMPTS: tuple[Attempt, ...] = ("first", "later, fresh", "later, reused", "next, reused")
TRANSPORTS: tuple[Transport, ...] = ("plain", "TLS")
PATHS: tuple[Path, ...] = ("pool", "public")
ENDINGS: tuple[Ending, ...] = ("all is well again", "nobody is there")

POLICY = RetryPolicy(attempts=4, deadline=8.0, attempt_timeout=0.3, wait_initial=0.02, wait_max=0.1)
_PROBES: Mapping[Path, Callable[[aiohttp.ClientSession], str | None]] = {"pool": probe, "public": lambda _: "asked for"}
_EPOCH = 1_800_000_000.0
_SEED = 7
_LARGE = "x" * 400_000
_NAME = "struck"


class Cell(msgspec.Struct, frozen=True):
    """What is struck by what."""

    phase: Phase
    name: str
    attempt: Attempt
    transport: Transport
    path: Path = "pool"

    def __str__(self) -> str:
        return f"{self.phase}: {self.name} | {self.attempt} | {self.transport} | {self.path}"

    @property
    def fault(self) -> Fault:
        """What strikes."""
        return FAULTS[self.phase][self.name]

    @property
    def is_reused(self) -> bool:
        """The connection has served before."""
        return self.attempt in ("later, reused", "next, reused")

    @property
    def is_doubted(self) -> bool:
        """An attempt before the struck one may have arrived."""
        return self.attempt in ("later, fresh", "later, reused") and self.phase != "name"


class Seen(msgspec.Struct, frozen=True):
    """What came of a cell."""

    proof: str
    """What the reply to the struck attempt proves."""
    truth: str
    """What AlphaPo had made of the withdrawal when that attempt was over: `accepted`, `later` or `no`."""
    told: str
    """The outcome told to the caller."""
    wrong: tuple[str, ...]
    """Whatever must never be, in any cell."""


class _Witness(SessionManager):
    """A session manager that announces the struck attempt to the far end, and remembers what came of it."""

    def __init__(self, far: FarEnd, strikes_at: int, *, is_gone: bool, **settings: Any) -> None:
        super().__init__(**settings)
        self._far = far
        self._strikes_at = strikes_at
        self._is_gone = is_gone
        self._posts = 0
        self.struck: Reply | NoReply | None = None
        self.truth = ""

    async def exchange(
        self, method: str, url: str, *, body: bytes | None, headers: Mapping[str, str], timeout: float
    ) -> Reply | NoReply:
        """Send one request, struck or not."""
        self._posts += method == "POST"
        if method != "POST" or self._posts != self._strikes_at:
            return await super().exchange(method, url, body=body, headers=headers, timeout=timeout)
        await self._far.begin_strike()
        self.struck = await super().exchange(method, url, body=body, headers=headers, timeout=timeout)
        self.truth = self._far.truth(_NAME)
        await self._far.end_strike(is_gone=self._is_gone)
        return self.struck


class Kept(MemoryJournal):
    """A journal that outlives its process, as it says: a file has a thread, which does not keep the time of a loop of this kind."""

    is_durable = True


async def play(cell: Cell, ending: Ending, *, is_durable: bool = False) -> Seen:
    """Play a cell, with a journal that outlives its process or with one that does not."""
    fault, is_tls = cell.fault, cell.transport == "TLS"
    far = FarEnd(fault, is_tls=is_tls, closes=cell.attempt == "later, fresh", is_named=cell.phase == "name")
    async with far:
        session = _Witness(
            far,
            strikes_at=1 if cell.attempt == "first" else 2,
            is_gone=ending == "nobody is there",
            ssl=client_side() if is_tls else None,
            _probe=_PROBES[cell.path],
        )
        told = await _paid(far, session, cell, Kept() if is_durable else MemoryJournal())
        await far.settle()
        await session.aclose()
        assert session.struck is not None, cell
        proof = judge_reply(session.struck, _request(_NAME, fault), 0.0)
        wrong = lies(_NAME, told, far.ledger)
        wrong += [f"paid more than once: {twice}" for twice in far.ledger.paid_more_than_once()]
        wrong += ["an error that should not be"] if getattr(told, "reason", "") == "internal error" else []
        wrong += [] if far.has_struck_as_meant() else [f"struck {len(far.strikes)} times"]
        wrong += [f"struck after {served}" for served in far.strikes if (served > 0) is not cell.is_reused]
    return Seen(_word(proof), session.truth, outcome_of(told), tuple(wrong))


async def _paid(far: FarEnd, session: SessionManager, cell: Cell, journal: Journal) -> FlightResult:
    """Pay the withdrawal that is struck, after whatever goes before it."""
    loop = asyncio.get_running_loop()
    runtime = Runtime(lambda: _EPOCH + loop.time(), random.Random(_SEED).random, asyncio.sleep)
    client = AlphapoClient(
        KEY,
        SECRET,
        journal=journal,
        base_url=far.url,
        session=session,
        policy=POLICY,
        amount_format="string",
        _runtime=runtime,
    )
    async with client:
        if cell.attempt == "next, reused":
            await client.withdraw(_request("before", Fault()))
        elif cell.attempt != "first" and cell.phase == "name":
            far.hide()
        elif cell.attempt != "first":
            far.turns_away = 1
        try:
            return await client.withdraw(_request(_NAME, cell.fault))
        except WithdrawalError as error:
            return error


def _request(foreign_id: str, fault: Fault) -> WithdrawalRequest:
    return WithdrawalRequest(
        currency="BTC",
        address=f"bc1q{foreign_id}",
        amount="0.123456789",
        foreign_id=foreign_id,
        end_user_reference=f"user-{foreign_id}",
        sender_data={"note": _LARGE} if fault.is_large else None,
    )


def _word(proof: Proof) -> str:
    return "throttled" if isinstance(proof, NotSent) and proof.is_throttled else name_of(proof).replace("_", " ")
