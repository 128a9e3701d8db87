"""The crew: what all flights of one client share, and how it puts a question to AlphaPo."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import msgspec

from alphapo_async.callers import Callers
from alphapo_async.core.codec import encode_look_up
from alphapo_async.core.outcome import Answer, NoneFound, NoReply, Reply, judge_look_up
from alphapo_async.core.pacing import Kind, RetryPolicy, Ticket
from alphapo_async.core.row import Assumed
from alphapo_async.core.signer import Signer
from alphapo_async.gate import Gate
from alphapo_async.journal import Journal
from alphapo_async.noticing import Noticing
from alphapo_async.session import SessionManager

__all__ = ["Crew", "World"]

_OK: Final = 200


class World(msgspec.Struct, frozen=True):
    """Time, chance and sleep, handed in."""

    clock: Callable[[], float]
    """Seconds since the epoch."""
    chance: Callable[[], float]
    """A draw from 0 to 1."""
    sleep: Callable[[float], Awaitable[None]]


class Crew:
    """What all flights of one client share."""

    def __init__(
        self,
        *,
        account: str,
        worker: str,
        signers: Mapping[str, Signer],
        journal: Journal,
        session: SessionManager,
        policy: RetryPolicy,
        max_rate: float | None,
        base_url: str,
        world: World,
        noticing: Noticing,
    ) -> None:
        self.account = account
        self.worker = worker
        self.signers = signers
        self.journal = journal
        self.session = session
        self.policy = policy
        self.assumed = Assumed(policy.resend_within, policy.quiet, policy.attempt_timeout)
        self._base_url = base_url
        self.withdrawal_url = f"{base_url}/api/v2/withdrawal/crypto"
        self.look_up_url = f"{base_url}/api/v2/transactions/info"
        self.world = world
        self.noticing = noticing
        self.gate = Gate(session.slots, policy, max_rate, self._on_outage)
        self.queueing: set[Callers] = set()
        """The callers of flights that have not had a slot yet."""

    def _on_outage(self, has_begun: bool) -> None:  # noqa: FBT001 - called by the gate with a bare fact
        self.noticing.outage(has_begun)
        for callers in self.queueing:
            callers.on_outage(has_begun)

    async def ask(
        self, foreign_id: str, signer: Signer, kind: Kind, place: Callable[[Kind], Awaitable[Ticket | None]]
    ) -> Answer | None:
        """Make one look-up; None if it could not leave in time."""
        ticket = await place(kind)
        if ticket is None:
            return None
        body = encode_look_up(foreign_id)
        answer: Answer | None = None
        try:
            reply = await self.exchange("GET", self.look_up_url, body, signer)
            answer = judge_look_up(reply, self.world.clock())
        finally:
            self.gate.leave(ticket, answer)
        return answer

    async def exchange(self, method: str, url: str, body: bytes, signer: Signer) -> Reply | NoReply:
        """Send one signed request."""
        headers = signer.headers(body)
        return await self.session.exchange(method, url, body=body, headers=headers, timeout=self.policy.attempt_timeout)

    async def put(
        self, loop: asyncio.AbstractEventLoop, method: str, path: str, body: bytes | None, headers: Mapping[str, str]
    ) -> Reply | NoReply:
        """Put one question that is about no withdrawal."""
        ticket = await self.wait_for_slot(loop, Kind.QUESTION)
        if ticket is None:
            return NoReply("no slot in time", may_have_left=False)
        answer: Answer | None = None
        try:
            reply = await self.session.exchange(
                method, self._base_url + path, body=body, headers=headers, timeout=self.policy.attempt_timeout
            )
            is_answer = isinstance(reply, Reply) and reply.status == _OK
            answer = NoneFound() if is_answer else judge_look_up(reply, self.world.clock())
        finally:
            self.gate.leave(ticket, answer)
        return reply

    async def wait_for_slot(self, loop: asyncio.AbstractEventLoop, kind: Kind) -> Ticket | None:
        """Wait for a slot as long as the policy's deadline allows."""
        return self.gate.try_enter(kind, loop) or await self.gate.wait(kind, loop, self.policy.deadline)
