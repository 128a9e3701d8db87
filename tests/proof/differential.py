"""The differential test: one seeded story is played over a journal in memory, in a file and in PostgreSQL, and must come to the same.

The client is unmodified. AlphaPo is the local sandbox's rules behind a scripted session; what goes wrong on the way is drawn from the seed
for each request. Clock, randomness and sleep are handed in: time is virtual, and stands still while a journal is at work.

`python -m tests.proof.differential --seeds 200` plays any number of stories.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import selectors
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from decimal import Decimal
from typing import Any, Final, TypeVar

import msgspec

from alphapo_async.cli.settle import settle_in
from alphapo_async.client import AlphapoClient
from alphapo_async.core.errors import AlphapoError
from alphapo_async.core.evidence import OperatorDecision, Requested, Revision
from alphapo_async.core.models import WithdrawalRequest
from alphapo_async.core.replies import NoReply, Reply
from alphapo_async.core.retry_policy import RetryPolicy
from alphapo_async.core.row import Epoch
from alphapo_async.core.row_format import to_record
from alphapo_async.core.signer import Signer
from alphapo_async.engine.context import Runtime
from alphapo_async.journal import VERBS, Journal, open_journal
from alphapo_async.journal.sqlite.journal import SqliteJournal
from alphapo_async.sandbox.answers import transaction
from alphapo_async.sandbox.catalogue import VALUES
from alphapo_async.sandbox.desk import Desk, Question
from alphapo_async.sandbox.faults import Faults
from alphapo_async.sandbox.ledger import Ledger
from alphapo_async.sandbox.rules import RICH
from alphapo_async.sandbox.rules import MerchantState as Merchant
from alphapo_async.session import SessionManager
from tests.support import postgres
from tests.support.wire import Durable

__all__ = ["KINDS", "Observed", "concurrent", "difference", "main", "sequential"]

T = TypeVar("T")

KINDS: Final = ("memory", "file", "PostgreSQL")
_EPOCH: Final = 1_700_000_000.0
"""Past, since in PostgreSQL a lease ends by the clocks of both."""
_SIGNER: Final = Signer("made-up-key", "made-up-secret")
_POLICY: Final = RetryPolicy(attempts=3, deadline=20.0, attempt_timeout=2.0, wait_initial=0.5, wait_max=4.0, quiet=40.0)
_ANSWERED_WITHIN: Final = 5.0
"""Real seconds that a journal may take before virtual time goes on all the same."""


class Observed(msgspec.Struct, frozen=True):
    """What a story came to. Workers are named in the order in which they appear."""

    returned: list[Any]
    rows: list[Any]
    history: list[Any]
    events: list[Any]
    totals: Any


# ── time, and the way to the journal ─────────────────────────────────────────────────────────────────────────────────


class _Standing(selectors.SelectSelector):
    """A selector that moves a virtual clock on instead of waiting, but for what a journal is at work on."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.at_work = 0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return what is ready; where nothing is, wait for the journal, or move the clock to the next timer."""
        if ready := super().select(0):
            return ready
        if self.at_work and timeout != 0 and (ready := super().select(_ANSWERED_WITHIN)):
            return ready
        if timeout is None:
            return super().select(_ANSWERED_WITHIN)
        self.now += timeout
        return []


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.standing = _Standing()
        super().__init__(self.standing)
        self.set_debug(False)

    def time(self) -> float:
        return self.standing.now


class _Watched:
    """A journal that says when it is at work, and whose clock is the client's, as that of a journal on the same machine."""

    def __init__(self, journal: Journal, standing: _Standing) -> None:
        self._journal = journal
        self._standing = standing
        self.is_durable = journal.is_durable

    @property
    def epoch(self) -> Epoch:
        """As the journal has it."""
        return self._journal.epoch

    async def _do(self, asked: Awaitable[T]) -> T:
        self._standing.at_work += 1
        try:
            return await asked
        finally:
            self._standing.at_work -= 1

    async def time(self) -> None:
        """Return no time of its own."""

    async def update(self, account: str, foreign_id: str, change: Any, *, may_lag: bool = False) -> Any:
        """Write; at once, since a lag is of real time in one kind of journal, and virtual in another."""
        return await self._do(self._journal.update(account, foreign_id, change))


def _verb(name: str) -> Callable[..., Coroutine[Any, Any, Any]]:
    async def verb(self: _Watched, *values: Any, **named: Any) -> Any:
        return await self._do(getattr(self._journal, name)(*values, **named))

    return verb


for _name in (*VERBS, "remember", "recall", "swap"):
    if not hasattr(_Watched, _name):
        setattr(_Watched, _name, _verb(_name))


# ── the far end ──────────────────────────────────────────────────────────────────────────────────────────────────────

_FATES: Final = {
    "POST": (("lost before", 0.12), ("lost after", 0.12), ("html", 0.08), ("throttled", 0.06), ("no connection", 0.06)),
    "GET": (("lost before", 0.08), ("html", 0.08)),
}


class FarEnd(SessionManager):
    """AlphaPo by the sandbox's rules; the fate of each request depends on the seed, its foreign_id and its number alone."""

    def __init__(self, seed: int) -> None:
        super().__init__(max_connections=100)
        loop = asyncio.get_running_loop()
        owned = dict.fromkeys(VALUES, RICH) | {"LTC": Decimal(1)}
        self.merchant = Merchant(balances=owned, settle_after=30.0)
        self._clock = loop.time
        self._desk = Desk(self.merchant, Ledger(self.merchant, loop.time), {"made-up-key": _SIGNER}, Faults({}))
        self._seed = seed
        self._numbers: dict[tuple[str, str], int] = {}

    async def exchange(
        self, method: str, url: str, *, body: bytes | None, headers: Mapping[str, str], timeout: float
    ) -> Reply | NoReply:
        """Return what the desk answers, or what comes back instead."""
        foreign_id = str(msgspec.json.decode(body or b"{}").get("foreign_id"))
        number = self._numbers[method, foreign_id] = self._numbers.get((method, foreign_id), 0) + 1
        fate = self._fate(method, foreign_id, number)
        if fate == "no connection":
            return NoReply("no connection", may_have_left=False)
        await asyncio.sleep(0.05)
        if fate == "lost before":
            await asyncio.sleep(timeout)
            return NoReply("no answer in time", may_have_left=True)
        if fate == "html":
            return Reply(502, b"<html>Bad gateway</html>", "text/html")
        if fate == "throttled":
            return Reply(429, b"{}", "application/json", retry_after="2")
        path, now = url.partition("9")[2], self._clock()
        question = Question(
            body or b"", headers["X-Processing-Key"], headers["X-Processing-Signature"], "application/json"
        )
        answer = self._desk.react(method, path, question, now, _EPOCH + now).answer
        if fate == "lost after":
            return NoReply("connection lost", may_have_left=True)
        return Reply(answer.status, answer.body, answer.content_type)

    def _fate(self, method: str, foreign_id: str, number: int) -> str:
        draw = random.Random(f"{self._seed} {method} {foreign_id} {number}").random()
        for fate, rate in _FATES[method]:
            if draw < rate:
                return fate
            draw -= rate
        return ""

    def told(self, foreign_id: str, status: str) -> dict[str, Any] | None:
        """Return what AlphaPo tells of a withdrawal; None if it has none."""
        found = self.merchant.named(foreign_id)
        return transaction(found[0], self.merchant.dialect, status) if found else None


# ── the steps of a story ─────────────────────────────────────────────────────────────────────────────────────────────


def _payment(foreign_id: str, **fields: Any) -> WithdrawalRequest:
    usual: dict[str, Any] = {"currency": "BTC", "address": "bc1qmadeup", "amount": "0.5", "end_user_reference": "u"}
    return WithdrawalRequest(foreign_id=foreign_id, **(usual | fields))


async def _outcome(asked: Awaitable[Any]) -> Any:
    """Return what a call returns, or says in its exception."""
    try:
        return repr(await asked)
    except AlphapoError as error:
        result = (getattr(error, name, None) for name in ("outcome", "attempts", "may_release_funds", "retry_after"))
        return type(error).__name__, str(error), *result


async def _receive(client: AlphapoClient, content: dict[str, Any]) -> Any:
    body = msgspec.json.encode(content)
    async with client.receive_callback(_SIGNER.headers(body), body) as callback:
        return callback


async def _passed(client: AlphapoClient) -> list[Any]:
    # One row after the other: what is worked on at once may come back in any order.
    return [
        (each.request.foreign_id, each.outcome, str(each.error))
        async for each in client.resume(concurrency=1)
        if each.request is not None
    ]


async def _dies(client: AlphapoClient, payment: WithdrawalRequest) -> Any:
    """Have another worker take a payment on, and never be heard of again."""
    engine, context = client._engine, client._engine.context
    await engine.lease.acquire()
    ghost = f"ghost {context.runtime.chance()}"
    await engine.journal.join(context.account, "loopback", ghost, context.now() + 15.0)
    body = client._registry.encode(payment, resend_rejected=False, attempted_before=False).revision
    asked = Requested(ghost, Revision(body.body, payment), _SIGNER.fingerprint)
    return (await engine.recorder.record(payment.foreign_id, asked)).holder


async def _one_after_the_other(client: AlphapoClient, far_end: FarEnd, chance: random.Random) -> list[Any]:
    results: list[Any] = []
    for _ in range(chance.randint(12, 18)):
        name = f"payout-{chance.randint(1, 4)}"
        results.append([name, *await _step(client, far_end, chance, name)])
        if chance.random() < 0.2:
            await asyncio.sleep(chance.choice((1.0, 12.0, 45.0)))
    results.append(await _passed(client))
    return results


async def _step(client: AlphapoClient, far_end: FarEnd, chance: random.Random, name: str) -> list[Any]:
    """Take one step, and return what it was and what came of it."""
    kind = chance.choice(_STEPS)
    if kind in ("callback", "repeated callback"):
        return [kind, await _called_back(client, far_end, chance, name, times=1 if kind == "callback" else 3)]
    if kind == "resume":
        return [kind, await _passed(client)]
    if kind == "die":
        return [kind, await _dies(client, _payment(f"{name}-lost"))]
    journal, now = client._engine.journal, client._engine.context.now()
    still_open = [row.foreign_id for row in await journal.find_open("default", None, 9)]
    doubtful = chance.choice(still_open or [name])
    too_much = _payment(f"{name}-ltc", currency="LTC", amount="5")
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "pay": lambda: client.withdraw(_payment(name)),
        "pay another": lambda: client.withdraw(_payment(name, amount="0.75")),
        "pay too much": lambda: client.withdraw(too_much),
        "correct": lambda: client.withdraw(_payment(f"{name}-ltc", currency="LTC", amount="0.2")),
        "again": lambda: client.withdraw(too_much, resend_rejected=True),
        "enqueue": lambda: client.enqueue(_payment(name), expires_in=600.0),
        "enqueue for a moment": lambda: client.enqueue(_payment(name), expires_in=5.0),
        "look up": lambda: client.look_up(name),
        "operator": lambda: settle_in(
            journal,
            "default",
            doubtful,
            OperatorDecision("anna", "seen there", bool(far_end.merchant.named(doubtful))),
            now,
        ),
    }
    return [kind, await _outcome(calls[kind]())]


_STEPS: Final = (
    *("pay", "pay", "pay", "pay another", "pay too much", "correct", "again", "enqueue", "enqueue for a moment"),
    *("look up", "callback", "callback", "repeated callback", "resume", "operator", "die"),
)
"""`resume(restored=True)` is left out: PostgreSQL dates the new epoch by its own clock, which is not virtual."""


async def _called_back(client: AlphapoClient, far_end: FarEnd, chance: random.Random, name: str, *, times: int) -> Any:
    result = far_end.told(name, chance.choice(("processing", "confirmed", "cancelled")))
    if result is None:
        return None
    if chance.random() < 0.2:
        result |= chance.choice(({"id": 9}, {"currency_sent": {"currency": "BTC", "amount": "9"}}))
    return [await _outcome(_receive(client, result)) for _ in range(times)]


async def _at_once(client: AlphapoClient, _far_end: FarEnd, chance: random.Random) -> list[Any]:
    payments = [_payment(f"payout-{number}") for number in range(8)] * 2
    chance.shuffle(payments)
    answer = await asyncio.gather(*(client.withdraw(payment) for payment in payments), return_exceptions=True)
    outcomes = {
        (each.foreign_id, getattr(one, "outcome", "accepted")) for each, one in zip(payments, answer, strict=True)
    }
    return sorted(outcomes)


# ── playing ──────────────────────────────────────────────────────────────────────────────────────────────────────────


@contextlib.contextmanager
def _opened(kind: str) -> Iterator[Journal]:
    if kind == "memory":
        yield Durable()
    elif kind == "file":
        with tempfile.TemporaryDirectory(dir=postgres.quick_folder()) as folder:
            # In memory it would not be durable, and is judged as if it were.
            journal = SqliteJournal(f"{folder}/payouts.db", any_filesystem=True)
            journal._linger = 0.0  # a wait of real time, which virtual time stands still for
            yield journal
    else:
        yield open_journal(postgres.url(), schema=postgres.schema())


async def _play(loop: _Loop, journal: Journal, seed: int, *, is_at_once: bool) -> Observed:
    watched, events = _Watched(journal, loop.standing), list[Any]()
    far_end, chance = FarEnd(seed), random.Random(seed)
    runtime = Runtime(lambda: _EPOCH + loop.time(), random.Random(seed).random, asyncio.sleep)
    async with AlphapoClient(
        *("made-up-key", "made-up-secret"),
        journal=watched,  # type: ignore[arg-type]  # its verbs are made from their names
        base_url="http://127.0.0.1:9",
        session=far_end,
        policy=_POLICY,
        on_event=events.append,
        _runtime=runtime,
    ) as client:
        returned = await (_at_once if is_at_once else _one_after_the_other)(client, far_end, chance)
        await client._engine.recorder.flush()
        names = sorted({event.foreign_id for event in events if event.foreign_id})
        rows = [row for name in names if (row := await client._engine.journal.find("default", name)) is not None]
        history = [await client._engine.journal.history("default", name) for name in names]
        workers = {client._engine.lease.worker: "worker"}
        totals = await client.totals()
    await journal.aclose()
    if is_at_once:
        # Ids and times depend on which body came first.
        kept = [(row.foreign_id, row.state, row.revision.number, row.revision.body) for row in rows]
        lines = [[(line.kind, line.what, line.number, line.count) for line in each] for each in history]
        return _plain(Observed(returned, kept, lines, [], totals), workers)
    whole = [(*to_record(row), [one.body for one in (*row.earlier, row.revision)]) for row in rows]
    results = [[msgspec.structs.astuple(line) for line in each] for each in history]
    return _plain(Observed(returned, whole, results, events, totals), workers)


def _plain(observed: Observed, workers: dict[str, str]) -> Observed:
    """Return it as plain values that can be compared and shown, with names of workers that do not depend on chance."""
    text = msgspec.json.encode([repr(each) for each in msgspec.structs.astuple(observed)]).decode()
    for worker, name in workers.items():
        text = text.replace(worker, name)
    return Observed(*msgspec.json.decode(text))


def _played(kind: str, seed: int, *, is_at_once: bool) -> Observed:
    with _opened(kind) as journal, asyncio.Runner(loop_factory=_Loop) as runner:
        loop = runner.get_loop()
        assert isinstance(loop, _Loop)
        return runner.run(_play(loop, journal, seed, is_at_once=is_at_once))


def sequential(kind: str, seed: int) -> Observed:
    """Play the story of this seed, one step after the other, over this kind of journal."""
    return _played(kind, seed, is_at_once=False)


def concurrent(kind: str, seed: int) -> Observed:
    """Play a story whose payments are made at once; only what does not depend on their order is observed."""
    return _played(kind, seed, is_at_once=True)


def difference(seed: int, play: Callable[[str, int], Observed] = sequential) -> str | None:
    """Return in what the kinds of journals differ in the story of this seed; None if in nothing."""
    first, *others = [(kind, play(kind, seed)) for kind in KINDS]
    for kind, observed in others:
        for name in Observed.__struct_fields__:
            ours, theirs = getattr(first[1], name), getattr(observed, name)
            if ours != theirs:
                return f"seed {seed}: {name} in {first[0]} and in {kind} differ:\n{_around(ours, theirs)}"
    return None


def _around(ours: str, theirs: str) -> str:
    """Return the texts around their first difference."""
    place = next((at for at, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), 0)
    begin = max(place - 300, 0)
    return f"  {ours[begin : place + 200]}\n  {theirs[begin : place + 200]}"


def main(words: list[str] | None = None) -> int:
    """Play so many stories of both kinds; 1 if there is a difference."""
    parser = argparse.ArgumentParser(prog="python -m tests.proof.differential")
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--first", type=int, default=0)
    wanted = parser.parse_args(words)
    began, found = time.perf_counter(), list[str]()
    for seed in range(wanted.first, wanted.first + wanted.seeds):
        for play in (sequential, concurrent):
            if (result := difference(seed, play)) is not None:
                found.append(result)
                print(f"{play.__name__}, {result}", flush=True)
    print(f"{wanted.seeds} seeds, {len(found)} differences, {time.perf_counter() - began:.1f} s")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
