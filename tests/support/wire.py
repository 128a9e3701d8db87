"""The far end behind the session's door: a scripted AlphaPo that answers in virtual time, without sockets.

It stands where a `SessionManager` stands. Each POST plays the next entry of its script and then accepts; what it accepts
it remembers, so that a reused foreign_id is refused and a look-up tells the truth.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import msgspec

from alphapo_async.client import AlphapoClient
from alphapo_async.core.models import WithdrawalRequest
from alphapo_async.core.replies import NoReply, Reply
from alphapo_async.core.row import Row
from alphapo_async.engine.context import Runtime
from alphapo_async.journal.memory import MemoryJournal
from alphapo_async.session import SessionManager

EPOCH = 1_800_000_000.0
"""What the wall clock shows when the virtual clock shows zero."""


def reply(status: int, body: Any, **headers: str) -> Reply:
    """Return a JSON reply."""
    return Reply(status, msgspec.json.encode(body), "application/json", **headers)


NOT_FOUND = reply(404, {"error": "Not found", "code": "not_found"})
TAKEN = reply(400, {"errors": {"foreign_id": "The foreign id has already been taken."}})
INSUFFICIENT = reply(400, {"errors": {"amount": "Not enough amount", "currency": "Invalid balance."}})
BAD_KEY = reply(403, {"error": "Bad signature header", "code": "bad_header_signature"})
LOST = NoReply("connection lost", may_have_left=True)
NO_CONNECTION = NoReply("no connection", may_have_left=False)
HTML_502 = Reply(502, b"<html>Bad gateway</html>", "text/html")


class Wire(SessionManager):
    """A scripted AlphaPo.

    Args:
        posts: what the first POSTs of every foreign_id meet: a reply, a `NoReply`, or `"accept, lost"` (accepted, and the reply is lost),
            `"silent"` (no answer until the attempt's time-out), `"late SECONDS"` (silent, and accepted so much later).
        look_ups: what the first look-ups meet; after that they tell the truth.
        seconds: how long every answer takes.
        max_connections: slots.
    """

    def __init__(
        self,
        posts: list[Any] | None = None,
        look_ups: list[Any] | None = None,
        *,
        seconds: float = 0.01,
        max_connections: int = 100,
    ) -> None:
        super().__init__(max_connections=max_connections)
        self.scripts: dict[str, list[Any]] = {"POST": posts or [], "GET": look_ups or []}
        self.always: Any = None
        self.accounts: Any = None
        """What `accounts/list` is answered; None for the balances."""
        self.questions = 0
        """How often `accounts/list` was asked."""
        self.seconds = seconds
        self.accepted: dict[str, list[dict[str, Any]]] = defaultdict(list)
        self.bodies: dict[str, list[bytes]] = defaultdict(list)
        self.times: list[tuple[float, str]] = []
        self.seen: dict[tuple[str, str], int] = defaultdict(int)
        self.headers: list[Mapping[str, str]] = []
        self.under_way = 0
        self.most_under_way = 0

    @property
    def posts(self) -> int:
        """How many bodies arrived or may have."""
        return sum(len(bodies) for bodies in self.bodies.values())

    @property
    def look_ups(self) -> int:
        """How many look-ups were made."""
        return sum(1 for _, method in self.times if method == "GET")

    def bind(self, loop: asyncio.AbstractEventLoop) -> None:
        """Serve any loop."""

    async def exchange(
        self, method: str, url: str, *, body: bytes | None, headers: Mapping[str, str], timeout: float
    ) -> Reply | NoReply:
        """Play the next answer."""
        self.times.append((asyncio.get_running_loop().time(), method))
        self.headers.append(headers)
        self.under_way += 1
        self.most_under_way = max(self.most_under_way, self.under_way)
        try:
            if url.endswith("/ping"):
                return Reply(200, b"OK", "text/html")
            if url.endswith("/accounts/list"):
                self.questions += 1
                return self.accounts or reply(200, {"data": [{"currency": "BTC", "type": "crypto", "balance": "1.5"}]})
            return await self._play(method, msgspec.json.decode(body or b"{}"), body or b"", timeout)
        finally:
            self.under_way -= 1

    async def _play(self, method: str, fields: dict[str, Any], body: bytes, timeout: float) -> Reply | NoReply:
        name = str(fields["foreign_id"])
        number = self.seen[method, name]
        self.seen[method, name] += 1
        if method == "POST":
            self.bodies[name].append(body)
        script = self.scripts[method]
        entry = script[number] if number < len(script) else self.always if method == "POST" else None
        if entry == "silent":
            await asyncio.sleep(timeout)
            return NoReply("no answer in time", may_have_left=True)
        if isinstance(entry, str) and entry.startswith("late "):
            asyncio.get_running_loop().call_later(float(entry[5:]), self._accept, name, fields)
            await asyncio.sleep(timeout)
            return NoReply("no answer in time", may_have_left=True)
        await asyncio.sleep(self.seconds)
        if entry == "accept, lost":
            self._accept(name, fields)
            return LOST
        if entry is not None:
            return entry  # type: ignore[no-any-return]
        return self._posted(name, fields) if method == "POST" else self._found(name)

    def _accept(self, name: str, fields: dict[str, Any]) -> None:
        if not self.accepted[name]:
            self.accepted[name].append(fields)

    def _posted(self, name: str, fields: dict[str, Any]) -> Reply:
        if self.accepted[name]:
            return TAKEN
        self._accept(name, fields)
        amount = str(fields.get("amount"))
        result = {"sender_amount": amount, "sender_currency": fields["currency"]}
        return reply(
            201, {"data": {"id": 7, "foreign_id": name, "status": "processing", "type": "withdrawal", **result}}
        )

    def _found(self, name: str) -> Reply:
        if not self.accepted[name]:
            return NOT_FOUND
        fields = self.accepted[name][0]
        return reply(
            200,
            {
                "id": 7,
                "foreign_id": name,
                "type": "withdrawal",
                "status": "not_confirmed",
                "crypto_address": {
                    "address": fields["address"],
                    "tag": fields.get("tag"),
                    "currency": fields["currency"],
                },
                "currency_sent": {"currency": fields["currency"], "amount": str(fields["amount"])},
            },
        )


class Durable(MemoryJournal):
    """A journal that counts as outliving its process, and takes no real time: it is handed from one client to the next."""

    is_durable = True


class Standby(Durable):
    """A journal that can fail over to what it was a while ago."""

    def __init__(self) -> None:
        super().__init__()
        self._behind: tuple[dict[Any, Row], dict[Any, Row]] = ({}, {})

    def lag(self) -> None:
        """Let the standby hold what there is now, and nothing that comes."""
        self._behind = dict(self._open), dict(self._settled)

    async def fail_over(self) -> None:
        """Lose what came since."""
        self._open, settled = dict(self._behind[0]), self._behind[1]
        self._settled.clear()
        self._settled.update(settled)
        self._soonest = 0.0
        for name, row in self._open.items():
            self._keep(name, row)
        await self.raise_epoch(asyncio.get_running_loop().time() + 1_800_000_000.0)


class Failing(Durable):
    """Takes no change while `fails_with` is an error."""

    fails_with: Exception | None = None

    async def update(self, *what: Any, **how: Any) -> Row:
        if self.fails_with is not None:
            raise self.fails_with
        return await super().update(*what, **how)


class SlowToAnswer(Durable):
    """Stores each change at once, and answers so many seconds later."""

    seconds = 0.0

    async def update(self, *what: Any, **how: Any) -> Row:
        row = await super().update(*what, **how)
        await asyncio.sleep(self.seconds)
        return row


class SlowToOpen(Durable):
    """A journal that the second one to come waits for."""

    async def join(self, account: str, host: str, worker: str, until: float) -> None:
        """Let the first one in at once."""
        if self._workers:
            await asyncio.sleep(20)
        await super().join(account, host, worker, until)


def request(foreign_id: str = "payout-17", **fields: Any) -> WithdrawalRequest:
    """Return a well-formed request."""
    usual: dict[str, Any] = {
        "currency": "BTC",
        "address": "bc1qmadeup",
        "amount": "0.0015",
        "end_user_reference": "user-42",
    }
    return WithdrawalRequest(foreign_id=foreign_id, **{**usual, **fields})


def client(wire: SessionManager, *, seed: int = 1, **settings: Any) -> AlphapoClient:
    """Return a client of this far end, in virtual time."""
    loop = asyncio.get_running_loop()
    runtime = Runtime(lambda: EPOCH + loop.time(), random.Random(seed).random, asyncio.sleep)
    usual: dict[str, Any] = {"base_url": "http://127.0.0.1:9", "_runtime": runtime, "session": wire}
    return AlphapoClient("made-up-key", "made-up-secret", **{**usual, **settings})


def real_world(seed: int = 1) -> Runtime:
    """Return real time with written-down chance."""
    return Runtime(time.time, random.Random(seed).random, asyncio.sleep)
