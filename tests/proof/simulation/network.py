"""The simulated network and AlphaPo behind it: what happens to every request on its way there and back.

A request may be lost on either side of its being processed, come twice, be overtaken, or arrive when its sender has long left, but never
later than the quiet time after its last byte could have left (A3).
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Final
from urllib.parse import urlsplit

import msgspec

from alphapo_async.core.replies import NoReply, Reply
from alphapo_async.core.signer import Signer
from alphapo_async.sandbox.answers import HttpAnswer, not_let_in
from alphapo_async.sandbox.catalogue import VALUES
from alphapo_async.sandbox.checks import BAD_SIGNATURE, NotJson, WithdrawalFields, read_object, spell
from alphapo_async.sandbox.desk import Desk, Late, Question, Reaction
from alphapo_async.sandbox.edge import Way, throttled
from alphapo_async.sandbox.faults import Call, Fault, FaultPlan, Faults
from alphapo_async.sandbox.ledger import Ledger
from alphapo_async.sandbox.records import CANCELLED, SandboxWithdrawal
from alphapo_async.sandbox.rules import RICH, MerchantState
from alphapo_async.session import SessionManager
from tests.proof.simulation.chance import Chance
from tests.proof.simulation.loop import SimulatedLoop
from tests.proof.simulation.oracles import Message
from tests.proof.simulation.scenario import EPOCH, KEY_NAMES, QUIET, Scenario
from tests.proof.simulation.storage import Door

__all__ = ["KEYS", "Alphapo", "Network", "SimulatedSession"]

_FORGETS_AFTER: Final = 240.0
KEYS: Final = tuple((name, f"made-up secret of {name}") for name in KEY_NAMES)
"""The merchant's keys; the second is what the first is rotated to."""

_BEFORE: Final = {
    "refuse": ("refused connection", "no connection"),
    "connect_timeout": ("connect time-out", "no connection: connect time-out"),
    "tls": ("TLS failure", "no connection: TLS failed"),
    "name": ("name not found", "no connection: name not found"),
}
_FATES: Final = ("lost_before", "lost_after", "stall", "cut")
_LOST: Final = NoReply("connection lost", may_have_left=True)
_SILENT: Final = NoReply("no answer in time", may_have_left=True)

Leaves = Callable[[str, bytes, str], Message]
"""Told of every body that leaves: its foreign_id, its bytes, and the process."""
Accepted = Callable[[SandboxWithdrawal, Message], None]


class _Noted:
    """Counts what strikes."""

    def __init__(self, plan: FaultPlan, note: Callable[[str], None]) -> None:
        self._plan = plan
        self._note = note

    def next(self, call: Call, /) -> Fault | None:
        fault = self._plan.next(call)
        if fault is not None:
            self._note(f"edge: {fault.value}")
        return fault


class _Forgetful(MerchantState):
    """It frees an id a while after it was used: that of A2, or breaking it, a few minutes."""

    frees_after = _FORGETS_AFTER

    def __init__(self, scenario: Scenario, chance: Chance, balances: Mapping[str, Decimal | str | int] | None) -> None:
        super().__init__(scenario.dialect, settle_after=scenario.settle_after, balances=balances)
        self._chance, self._rate = chance, scenario.rates.cancelled

    def cancels(self, foreign_id: str, number: int) -> bool:
        """Return whether this withdrawal under a foreign_id, counted from 0, is one that ends cancelled."""
        return self._chance.happens(self._rate, "cancelled", foreign_id, number)

    def _holder(self, foreign_id: str, now: float) -> SandboxWithdrawal | None:
        record = super()._holder(foreign_id, now)
        return None if record is not None and now > record.at + self.frees_after else record

    def is_free(self, foreign_id: str, now: float) -> bool:
        """Return whether a body under this foreign_id would be another withdrawal."""
        return self._holder(foreign_id, now) is None

    def _book(self, asked: WithdrawalFields, key: str, now: float) -> SandboxWithdrawal | None:
        """Some withdrawals end cancelled, whatever their address: another one of the same request need not."""
        record = super()._book(asked, key, now)
        number = len(self.named(spell(asked.foreign_id)))
        if record is None or not self.cancels(spell(asked.foreign_id), number):
            return record
        return msgspec.structs.replace(record, ending=CANCELLED)


class Alphapo:
    """AlphaPo, in one dialect, with what goes wrong at its edge."""

    def __init__(
        self, scenario: Scenario, chance: Chance, clock: Callable[[], float], note: Callable[[str], None]
    ) -> None:
        owned = None if scenario.balance is None else {**dict.fromkeys(VALUES, RICH), "BTC": scenario.balance}
        self.world = _Forgetful(scenario, chance, owned)
        if scenario.broken != "A2":
            self.world.frees_after = scenario.resend_within
        self.signers = {key: Signer(key, secret) for key, secret in KEYS}
        self.ledger = Ledger(self.world, clock)
        faults = _Noted(Faults(scenario.edge, scenario.seed, ("withdrawal", "look-up")), note)
        self.desk = Desk(self.world, self.ledger, self.signers, faults)
        self.desk.throttle_seconds = 5.0

    def calm_down(self) -> None:
        """Make no mistake any more."""
        self.desk.faults = Faults({})


class _Trip(msgspec.Struct, eq=False):
    """One request on its way, and where its answer goes."""

    key: tuple[object, ...]
    method: str
    path: str
    question: Question
    message: Message
    back: asyncio.Future[Reply | NoReply]
    is_body: bool
    fate: str = ""
    has_arrived: bool = False
    """A copy of it was dealt with."""


class Network:
    """Carries requests.

    Args:
        loop: virtual time.
        alphapo: where they go.
        scenario: what goes wrong.
        chance: when.
        leaves: told of every body that leaves.
        accepted: told of every acceptance.
        note: counts what went wrong, by kind.
    """

    def __init__(
        self,
        loop: SimulatedLoop,
        alphapo: Alphapo,
        scenario: Scenario,
        chance: Chance,
        *,
        leaves: Leaves,
        accepted: Accepted,
        note: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._alphapo = alphapo
        self._scenario = scenario
        self._chance = chance
        self._leaves = leaves
        self._accepted = accepted
        self._note = note
        self._bars = {name: getattr(scenario.rates, name) for name in _BEFORE}
        self._fates = {name: getattr(scenario.rates, name) for name in _FATES}
        self._numbers: dict[tuple[str, str], int] = {}
        self._world = loop.context_of(loop.world)

    async def carry(
        self, process: str, method: str, url: str, *, body: bytes, headers: Mapping[str, str], timeout: float
    ) -> Reply | NoReply:
        """Take one request to AlphaPo, and back what comes of it."""
        foreign_id = _foreign_id(body)
        number = self._numbers[method, foreign_id] = self._numbers.get((method, foreign_id), 0) + 1
        key = (method, foreign_id, number)
        barred = self._barred(*key)
        if barred is not None:
            seconds, reason = barred
            await asyncio.sleep(seconds)
            return NoReply(reason, may_have_left=False)
        is_body = _is_body(url)
        message = self._leaves(foreign_id, body, process) if is_body else Message(foreign_id, body, 0.0)
        question = Question(
            body, headers.get("X-Processing-Key"), headers.get("X-Processing-Signature"), "application/json"
        )
        trip = _Trip(key, method, urlsplit(url).path, question, message, self._loop.create_future(), is_body=is_body)
        timer = self._at(timeout, _resolve, trip.back, _SILENT)
        self._send(trip)
        try:
            return await trip.back
        finally:
            timer.cancel()

    # ── on the way ───────────────────────────────────────────────────────────────────────────────────────────────────

    def _barred(self, *key: object) -> tuple[float, str] | None:
        """Return after how many seconds a request fails without having left, and why; None if it leaves."""
        now = self._loop.time()
        if now >= self._scenario.ends:
            return None
        for outage in self._scenario.outages:
            if outage.start <= now < outage.end and outage.how in ("refuse", "name not found"):
                self._note(f"outage: {outage.how}")
                return 0.01, f"no connection: {outage.how}"
        name = self._chance.which(self._bars, "barred", *key)
        if not name:
            return None
        kind, reason = _BEFORE[name]
        self._note(kind)
        return (9.0 if name == "connect_timeout" else 0.01), reason

    def _send(self, trip: _Trip) -> None:
        """Put a request on its way: once, or twice, soon, or late."""
        rates, chance, key = self._scenario.rates, self._chance, trip.key
        there = chance.between(0.0, self._scenario.latency, "there", *key)
        if self._loop.time() >= self._scenario.ends:
            self._let_arrive(there, trip)
            return
        trip.fate = chance.which(self._fates, "fate", *key)
        if trip.fate == "lost_before":
            self._note("reset before processing")
            self._at(there, _resolve, trip.back, _LOST)
            return
        if chance.happens(rates.overtaken, "overtaken", *key):
            self._note("overtaken by later requests")
            there = chance.between(1.0, 14.0, "overtaking", *key)
        if chance.happens(rates.late, "late", *key):
            self._note("arrived late")
            there = self._lateness("late", *key)
        self._let_arrive(there, trip)
        if chance.happens(rates.twice, "twice", *key):
            self._note("delivered twice")
            self._let_arrive(there + chance.between(0.0, 30.0, "second", *key), trip)

    def _let_arrive(self, seconds: float, trip: _Trip) -> None:
        trip.message.on_its_way += 1
        self._at(seconds, self._arrives, trip)

    def _lateness(self, *key: object) -> float:
        longest = 5 * 3_600.0 if self._scenario.broken in ("A2", "A3") else QUIET
        return self._chance.between(15.0, longest, "lateness", *key)

    def _arrives(self, trip: _Trip) -> None:
        """AlphaPo gets the request, if it is not out just now."""
        now, message = self._loop.time(), trip.message
        message.on_its_way -= 1
        if message.is_refused:
            return  # a "no" speaks for every copy of the request that it answers
        if self._is_spent(message):
            return
        outage = self._outage(now)
        if outage is not None:
            self._note(f"outage: {outage}")
            message.is_refused = outage == "throttle"
            if outage in _PAGES and trip.is_body and self._chance.happens(0.3, "gets through", *trip.key):
                self._note("edge: away, and AlphaPo has it")
                self._process_all_the_same(trip.question, message, now)
            self._refuse_in_outage(outage, trip.back)
            return
        if self._is_key_refused(trip.question.key, now):
            if not trip.has_arrived:  # a "no" speaks for every copy, and what AlphaPo has done with the first is done
                self._note("key refused")
                message.is_refused = True
                self._answer(trip, Reaction(Way.ANSWER, not_let_in(BAD_SIGNATURE)))
            return
        trip.has_arrived = True
        reaction = self._alphapo.desk.react(trip.method, trip.path, trip.question, now, EPOCH + now)
        message.is_refused = reaction.record is None and _refuses(reaction.answer)
        if trip.is_body and self._is_lying(reaction.answer, *trip.key):
            self._process_all_the_same(trip.question, message, now)
        if reaction.record is not None:
            self._accepted(reaction.record, message)
        if reaction.late is not None:
            self._note("processed late")
            message.on_its_way += 1
            self._at(self._lateness("desk", *trip.key), self._process_late, reaction.late, message)
        self._answer(trip, reaction)

    def _is_spent(self, message: Message) -> bool:
        """Return whether AlphaPo would accept one attempt twice: the network delivered it twice, and its withdrawal freed the id meanwhile.

        An attempt is one request, so that its copies are none of the earlier attempts that may still arrive.
        """
        return message.is_accepted and self._alphapo.world.is_free(message.foreign_id, self._loop.time())

    def _is_key_refused(self, key: str | None, now: float) -> bool:
        return any(one.key == key and one.start <= now < one.end for one in self._scenario.refusals)

    def _outage(self, now: float) -> str | None:
        return next((outage.how for outage in self._scenario.outages if outage.start <= now < outage.end), None)

    def _refuse_in_outage(self, how: str, back: asyncio.Future[Reply | NoReply]) -> None:
        if how == "503":
            _resolve(back, Reply(503, b"<html>Service unavailable</html>", "text/html"))
        elif how in _PAGES:
            _resolve(back, _PAGES[how])
        elif how == "throttle":
            _resolve(back, _reply(throttled(self._scenario.dialect, 20.0, EPOCH + self._loop.time())))
        elif how in ("reset", "refuse", "name not found"):
            _resolve(back, _LOST)

    def _process_late(self, late: Late, message: Message) -> None:
        message.on_its_way -= 1
        if message.is_refused:
            return  # another copy of it was answered with a "no" meanwhile
        if self._is_spent(message):
            return
        record = self._alphapo.desk.process_late(late, self._loop.time())
        if record is not None:
            self._accepted(record, message)

    def _is_lying(self, answer: HttpAnswer, *key: object) -> bool:
        """The edge turns away what AlphaPo has got all the same; a throttled request only where A4 is broken."""
        if answer.status == _THROTTLED:
            return self._scenario.broken == "A4"
        if answer.status not in _UNHEARD or _refuses(answer) or self._loop.time() >= self._scenario.ends:
            return False
        if not self._chance.happens(0.4, "lies", *key):
            return False
        self._note(f"edge: {answer.status} after processing")
        return True

    def _process_all_the_same(self, question: Question, message: Message, now: float) -> None:
        verdict = self._alphapo.world.withdraw(read_object(question.body), question.key or "", now)
        if isinstance(verdict, SandboxWithdrawal):
            self._accepted(verdict, message)

    # ── on the way back ──────────────────────────────────────────────────────────────────────────────────────────────

    def _answer(self, trip: _Trip, reaction: Reaction) -> None:
        key, fate, back = trip.key, trip.fate, trip.back
        seconds = self._chance.between(0.0, self._scenario.latency, "back", *key)
        if fate == "lost_after":
            self._note("reset after processing")
            self._at(seconds, _resolve, back, _LOST)
        elif fate == "cut" or reaction.way is Way.CUT:
            self._note("reply cut short")
            self._at(seconds, _resolve, back, NoReply("answer cut short", may_have_left=True))
        elif fate == "stall" or reaction.way is Way.STALL:
            self._note("no answer")
        elif reaction.way is Way.RESET:
            self._note("reset at the edge")
            self._at(seconds, _resolve, back, _LOST)
        else:
            slow = self._chance.between(0.3, 20.0, "slow", *key) if reaction.way is Way.SLOW else 0.0
            self._at(seconds + slow, _resolve, back, _reply(reaction.answer))

    def _at(self, seconds: float, callback: Callable[..., object], *args: object) -> asyncio.TimerHandle:
        return self._loop.call_at(self._loop.time() + seconds, callback, *args, context=self._world)


_THROTTLED = 429
_FORBIDDEN = 403
_PAGES = {
    "401": Reply(401, b'{"error": "Unauthorized", "code": "unauthorized"}', "application/json"),
    "404": Reply(404, b"<html>Not found</html>", "text/html"),
    "502": Reply(502, b"<html>Bad gateway</html>", "text/html"),
    "408": Reply(408, b"<html>Request time-out</html>", "text/html"),
}
"""What an edge says that has lost what stands behind it, whether that has got the request or not."""
_UNHEARD = (401, _FORBIDDEN, 404, 408)
_LONGEST_HOLD = 60.0


def _refuses(answer: HttpAnswer) -> bool:
    """It is AlphaPo's own "no" to a request, and so to all its copies: not a page of whatever stands before it."""
    is_own = answer.status in (400, 409, 422, _THROTTLED)
    return is_own or (answer.status == _FORBIDDEN and b"bad_header" in answer.body)


def _resolve(back: asyncio.Future[Reply | NoReply], came: Reply | NoReply) -> None:
    if not back.done():
        back.set_result(came)


def _reply(answer: HttpAnswer) -> Reply:
    return Reply(answer.status, answer.body, answer.content_type.lower(), answer.headers.get("Retry-After"))


def _is_body(url: str) -> bool:
    """Return whether a request carries a withdrawal; a question about balances is a POST as well."""
    return url.endswith("/withdrawal/crypto")


def _foreign_id(body: bytes) -> str:
    try:
        return spell(read_object(body).get("foreign_id"))
    except NotJson:
        return ""


class SimulatedSession(SessionManager):
    """Stands where a session stands: the door of one process to the network."""

    def __init__(
        self,
        network: Network,
        process: str,
        door: Door,
        max_connections: int,
        *,
        leaves: Callable[[bool, str], None],
        is_back: Callable[[bool, Reply | NoReply], None],
    ) -> None:
        super().__init__(max_connections=max_connections)
        self._leaves = leaves
        self._is_back = is_back
        self._network = network
        self._process = process
        self._door = door
        self.tried: Counter[str] = Counter()
        """How often this process has sent a body, or has tried to, by foreign_id."""
        self.throttled_at = self.held_until = 0.0
        """When AlphaPo asked this process to send no body, and until when."""

    async def exchange(
        self, method: str, url: str, *, body: bytes | None, headers: Mapping[str, str], timeout: float
    ) -> Reply | NoReply:
        """Send one request, unless the process dies at it."""
        if (death := self._door(f"{method} leaves")) is not None:
            await death
        name = _foreign_id(body or b"")
        is_body = _is_body(url)
        if is_body:
            self.tried[name] += 1
        self._leaves(is_body, name)
        came = await self._network.carry(self._process, method, url, body=body or b"", headers=headers, timeout=timeout)
        if (death := self._door(f"{method} is back")) is not None:
            await death
        self._is_back(is_body, came)
        if isinstance(came, Reply) and came.status == _THROTTLED and is_body and (came.retry_after or "").isdigit():
            self.throttled_at = asyncio.get_running_loop().time()
            self.held_until = self.throttled_at + min(float(came.retry_after or 0), _LONGEST_HOLD)
        return came
