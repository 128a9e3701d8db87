"""Questions: every request to AlphaPo that carries no withdrawal, and what the answers add to rows."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Final, NamedTuple

from alphapo_async.core.codec import encode_look_up
from alphapo_async.core.errors import AUTHENTICATION_CODES, AlphapoUnavailable, JournalError
from alphapo_async.core.evidence import LookedUp, ReplyExcerpt
from alphapo_async.core.history import excerpt_of
from alphapo_async.core.models import Transaction
from alphapo_async.core.next_step import is_no_longer_refreshed
from alphapo_async.core.rate_limit import Permit, Priority
from alphapo_async.core.replies import Answer, Found, NoAnswer, NoneFound, NoReply, Reply, judge_look_up
from alphapo_async.core.row import Row, is_stale_no
from alphapo_async.core.signer import Signer
from alphapo_async.engine.context import ACCOUNTS, ClientContext
from alphapo_async.engine.lease import Lease
from alphapo_async.engine.limiter import RequestLimiter
from alphapo_async.engine.observer import Observer
from alphapo_async.engine.recorder import Recorder
from alphapo_async.engine.refused_keys import RefusedKeys
from alphapo_async.journal import Journal
from alphapo_async.session import SessionManager

__all__ = ["Answered", "Questions", "unavailable"]

_OK: Final = 200
_REFRESH_WAIT: Final = 2.0  # seconds that a refresh waits for its turn


class Answered(NamedTuple):
    """A look-up's answer, what is kept of the reply, and when the look-up began and ended."""

    answer: Answer
    seen: ReplyExcerpt
    began: float
    until: float


class Questions:
    """Puts questions to AlphaPo for one client.

    Args:
        context: keys, URLs, limits and clock.
        session: sends the requests.
        limiter: lets them leave.
        keys: what AlphaPo says about a refused key.
        lease: the worker that refreshes rows.
        journal: where rows are read.
        recorder: adds answers to rows.
        observer: reports what a row has learned.
    """

    def __init__(
        self,
        context: ClientContext,
        *,
        session: SessionManager,
        limiter: RequestLimiter,
        keys: RefusedKeys,
        lease: Lease,
        journal: Journal,
        recorder: Recorder,
        observer: Observer,
    ) -> None:
        self._context = context
        self._session = session
        self._limiter = limiter
        self._keys = keys
        self._lease = lease
        self._journal = journal
        self._recorder = recorder
        self._observer = observer

    # ── withdrawals ──────────────────────────────────────────────────────────────────────────────────────────────────

    async def look_up(
        self, foreign_id: str, signer: Signer, priority: Priority, wait: Callable[[Priority], Awaitable[Permit | None]]
    ) -> Answered | None:
        """Make one look-up; None if it could not leave in time.

        Args:
            foreign_id: whose withdrawal is looked up.
            signer: signs the request; AlphaPo shows what was sent with this key.
            priority: of the request.
            wait: waits for the permit; None if that takes too long.
        """
        body = encode_look_up(foreign_id)
        permit = await wait(priority)
        if permit is None:
            return None
        clock = self._context.now
        began, answer = clock(), None
        try:
            reply = await self._send("GET", self._context.look_up_url, body, signer.headers(body))
            answer = judged = judge_look_up(reply, clock())
        finally:
            self._limiter.release(permit, answer)
        return Answered(judged, excerpt_of(reply), began, clock())

    async def look_up_with_all_keys(
        self, row: Row, priority: Priority, wait: Callable[[Priority], Awaitable[Permit | None]]
    ) -> Answered | None:
        """Look up what the journal may have lost; None if that could not leave in time, or the row's key is not among the client's.

        AlphaPo shows a withdrawal to the key alone that sent it, and what is lost may have been sent with any key: each of them must
        answer "none".
        """
        own, signers = self._context.signers.get(row.key_fingerprint), self._context.signers.values()
        if own is None:
            return None
        answered = await self.look_up(row.foreign_id, own, priority, wait)
        for other in [signer for signer in signers if signer is not own]:
            if answered is None or not isinstance(answered.answer, NoneFound):
                break
            with contextlib.suppress(JournalError):
                await self._recorder.note(row, LookedUp(self._lease.worker, *answered))
            answered = await self.look_up(row.foreign_id, other, priority, wait)
        return answered

    async def transaction(self, foreign_id: str) -> Transaction | None:
        """Return what AlphaPo shows under this foreign_id, with the key that its row was sent with; None for "none".

        Raises:
            AlphapoUnavailable: AlphaPo gave no usable answer.
        """
        context, row = self._context, None
        with contextlib.suppress(JournalError):
            row = await self._journal.find(context.account, foreign_id)
        signer = context.signers.get(row.key_fingerprint, context.signer) if row else context.signer
        answered = await self.look_up(foreign_id, signer, Priority.QUESTION, self._permit)
        if row is not None and answered is not None:
            # Without a worker's name this answer can never settle the row: its holder may be sending it now.
            await self._add(row, LookedUp("", *answered))
        answer = None if answered is None else answered.answer
        if isinstance(answer, Found):
            return answer.transaction
        if isinstance(answer, NoneFound):
            return None
        raise unavailable("the look-up", answer)

    async def _add(self, row: Row, evidence: LookedUp) -> None:
        """Add to a row what shows that AlphaPo has its withdrawal; any other answer proves nothing, and is noted only."""
        with contextlib.suppress(JournalError):
            if isinstance(evidence.answer, Found):
                await self._learn(row, evidence)
            else:
                await self._recorder.note(row, evidence)

    async def _learn(self, row: Row, evidence: LookedUp) -> Row:
        """Add an answer to a row, and report what it changed of the row on record, which others may have changed meanwhile."""
        before, learned, _ = await self._recorder.apply_and_compare(row, evidence)
        self._observer.on_evidence(before, learned, evidence)
        return learned

    async def refresh(self, row: Row, priority: Priority = Priority.REFRESH) -> None:
        """Look up how a settled row stands now; a refresh that no caller waits for is left out where it cannot leave soon.

        Raises:
            JournalError: the answer could not be recorded.
        """
        context = self._context
        seconds = _REFRESH_WAIT if priority is Priority.REFRESH else context.policy.deadline

        async def wait(priority: Priority) -> Permit | None:
            return await self._limiter.wait(priority, asyncio.get_running_loop(), seconds)

        signer = context.signers.get(row.key_fingerprint, context.signer)
        answered = await (
            self.look_up_with_all_keys(row, priority, wait)
            if is_stale_no(row)
            else self.look_up(row.foreign_id, signer, priority, wait)
        )
        if answered is not None:
            learned = await self._learn(row, LookedUp(self._lease.worker, *answered))
            if is_no_longer_refreshed(learned):
                self._observer.on_not_final(learned)

    # ── what is about no withdrawal ──────────────────────────────────────────────────────────────────────────────────

    async def ask_about_key(self, key: str) -> None:
        """Ask `accounts/list` with a refused key, which moves no money and shows whether AlphaPo lets it in."""
        body = b"{}"
        reply = await self.send_plain("POST", ACCOUNTS, body, self._context.signers[key].headers(body))
        self._keys.answered(key, reply, asyncio.get_running_loop().time())

    async def send_plain(
        self,
        method: str,
        path: str,
        body: bytes | None,
        headers: Mapping[str, str],
        *,
        is_throttled_apart: bool = False,
    ) -> Reply | NoReply:
        """Send one question that is about no withdrawal; a 429 to one that has a limit of its own holds back nothing else."""
        permit = await self._permit(Priority.QUESTION)
        if permit is None:
            return NoReply("no slot in time", may_have_left=False)
        answer: Answer | None = None
        try:
            reply = await self._send(method, self._context.base_url + path, body, headers)
            is_answer = isinstance(reply, Reply) and reply.status == _OK
            answer = NoneFound() if is_answer else judge_look_up(reply, self._context.now())
            if is_throttled_apart and isinstance(answer, NoAnswer) and answer.is_throttled:
                answer = None
        finally:
            self._limiter.release(permit, answer)
        return reply

    async def _permit(self, priority: Priority) -> Permit | None:
        """Wait for a slot as long as the policy's deadline allows."""
        loop = asyncio.get_running_loop()
        return self._limiter.try_acquire(priority, loop) or await self._limiter.wait(
            priority, loop, self._context.policy.deadline
        )

    def _send(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str]
    ) -> Awaitable[Reply | NoReply]:
        timeout = self._context.policy.attempt_timeout
        return self._session.exchange(method, url, body=body, headers=headers, timeout=timeout)


def unavailable(what: str, answer: NoAnswer | None) -> AlphapoUnavailable:
    """Return the error of a question without a usable answer; None: it could not leave."""
    if answer is None:
        return AlphapoUnavailable(f"AlphaPo did not answer {what}: no slot in time.")
    refused = (
        f"; key refused: it does not accept the key or the signature ({answer.code})"
        if answer.code in AUTHENTICATION_CODES
        else ""
    )
    return AlphapoUnavailable(
        f"AlphaPo did not answer {what}: {answer.reason}{refused}.",
        http_status=answer.status,
        code=answer.code,
        retry_after=answer.retry_after,
    )
