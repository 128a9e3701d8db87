"""A simulated process: one client with its own session and its own way to the journal, which may die at every door."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

from alphapo_async.client import AlphapoClient
from alphapo_async.core.events import Event
from alphapo_async.core.rate_limit import BUDGET, Priority, is_outage, on_sent
from alphapo_async.core.replies import NoReply, Reply
from alphapo_async.core.retry_policy import RetryPolicy
from alphapo_async.engine.context import Runtime
from tests.proof.simulation.chance import Chance
from tests.proof.simulation.kindness import Kindness
from tests.proof.simulation.loop import NumberedTask, Owner, SimulatedLoop
from tests.proof.simulation.network import KEYS, Network, SimulatedSession
from tests.proof.simulation.scenario import EPOCH, Scenario
from tests.proof.simulation.storage import Disk, Storage

__all__ = ["Process"]

_ROUNDING = 1e-6
_JUST_NOW = 10.0
"""Tokens that may be missing in a quiet time."""


class Process:
    """One life of one process.

    Args:
        name: of the process, with the number of its life.
        loop: virtual time.
        scenario: what goes wrong.
        chance: when.
        network: the way to AlphaPo.
        disk: the journal's.
        on_death: called when it dies.
        on_event: hears the client's events.
        on_lag: hears of what the journal holds before this process is told so, and for how long.
        note: counts what went wrong, by kind.
        trace: told what happens at the doors.
        is_rotated: it has the new key, and knows the old one.
        is_traced: somebody reads the trace.
        fail: called with what is wrong.
        ahead: seconds by which its clock is wrong.
    """

    def __init__(
        self,
        name: str,
        *,
        loop: SimulatedLoop,
        scenario: Scenario,
        chance: Chance,
        network: Network,
        disk: Disk,
        on_death: Callable[[Process], None],
        on_event: Callable[[Event], None],
        on_lag: Callable[[str, object, float], None],
        note: Callable[[str], None],
        trace: Callable[[str], None],
        is_rotated: bool,
        is_traced: bool,
        fail: Callable[[str], None],
        ahead: float,
    ) -> None:
        self.name = name
        self.disk = disk
        self.is_closing = False
        self._loop = loop
        self._scenario = scenario
        self._chance = chance
        self._on_death = on_death
        self._note = note
        self._trace = trace
        self._is_traced = is_traced
        self._doors = 0
        self._ahead = ahead
        """Seconds by which its machine's clock is wrong."""
        self.stood_still = 0
        """How often."""
        self.owner: Owner = loop.add_owner(name)
        self._last_door = chance.first(scenario.rates.crash_at_door, "door", name)
        self.storage = Storage(
            disk,
            name,
            loop=loop,
            scenario=scenario,
            chance=chance,
            door=self.door,
            note=note,
            clock=self.clock if scenario.is_one_machine else self._storages_clock,
            fail=fail,
            on_lag=on_lag,
        )
        self.session = SimulatedSession(
            network, name, self.door, scenario.max_connections, leaves=self._leaves, is_back=self._is_back
        )
        self._kindness = Kindness(name, loop.time, fail)
        self._fail = fail
        self.asked: set[str] = set()
        """What callers have asked for here."""
        self.at_work = 0
        """How many work in it without callers."""
        self._rests_since: tuple[float, int] | None = None
        """When its work was last cancelled, and how often it had stood still."""
        self.first_left: dict[str, float] = {}
        """When the first request of the latest flight of a foreign_id left."""
        key, secret = KEYS[1] if is_rotated else KEYS[0]
        self.keys = {KEYS[0][0], key}
        self.has_wrong_secret = (
            scenario.has("refused") and loop.time() < scenario.ends and chance.happens(0.2, "wrong secret", name)
        )
        if self.has_wrong_secret:
            note("wrong secret")
            secret = f"not the {secret}"
            self.keys.discard(key)
        # Another release writes other bytes for the same payment.
        is_other_release = scenario.has("releases") and chance.happens(0.5, "release", name)
        self.client = AlphapoClient(
            key,
            secret,
            journal=self.storage,
            base_url="http://127.0.0.1:9",
            retired_keys=[KEYS[0]] if is_rotated else [],
            session=self.session,
            policy=RetryPolicy(resend_within=scenario.resend_within),
            amount_format="string" if is_other_release else "number",
            max_rate=chance.pick(scenario.rates_of_clients, "rate", name),
            on_event=on_event,
            _runtime=Runtime(self.clock, chance.stream("jitter", name), loop.pause),
        )

    def __repr__(self) -> str:
        return f"Process({self.name!r})"

    @property
    def is_alive(self) -> bool:
        """It has not died, and is not about to end."""
        return not self.owner.is_dead and not self.is_closing

    def clock(self) -> float:
        """Return this machine's idea of the time."""
        return EPOCH + self._loop.time() + self._ahead

    def _storages_clock(self) -> float:
        return EPOCH + self._loop.time()

    @property
    def has_full_budget(self) -> bool:
        """Nothing of the budget is missing, but for what has left just now."""
        state = self.client._engine.limiter.state
        after, _ = on_sent(state, Priority.LOOK_UP, self._loop.time(), RetryPolicy())
        return after.tokens > BUDGET - _JUST_NOW

    @property
    def has_lease(self) -> bool:
        """Its journal is open, and nobody has to wait for that."""
        return self.client._engine.lease.is_running

    @property
    def worker(self) -> str:
        """The name under which it holds rows now."""
        return self.client._engine.lease.worker

    def _leaves(self, is_body: bool, foreign_id: str) -> None:  # noqa: FBT001 - called with a bare fact
        """A request leaves, of whatever kind."""
        state = self.client._engine.limiter.state
        if state.tokens < -_ROUNDING:
            self._fail(f"the budget is negative: {state.tokens} (P9)")
        flight = self.client._registry.flights.get(foreign_id)
        has_flown = flight is not None and flight._has_asked
        if not has_flown:
            self.first_left[foreign_id] = self._loop.time()
        # The look-up of an id that a journal may have forgotten is free, and so is the first body after it.
        flown = None if flight is None else flight._counts
        is_first_body = is_body and flown is not None and flown.sent == 0 and flown.look_ups <= 1
        is_free = (is_first_body and self.disk.went_back > 0) or (is_body and is_outage(state))
        self._kindness.leaves(is_body=is_body, is_paid=has_flown and not is_free)

    def _is_back(self, is_body: bool, came: Reply | NoReply) -> None:  # noqa: FBT001 - called with a bare fact
        self._kindness.is_back(came, is_body=is_body)

    def works_on(self, foreign_id: str) -> bool:
        """Tell whether something is under way for this foreign_id."""
        return foreign_id in self.client._registry.flights

    def flies_in(self, task: asyncio.Task[Any]) -> bool:
        """Return whether a flight runs in this task, which may be a batch's own."""
        return any(flight.task is task for flight in self.client._registry.flights.values())

    @contextlib.contextmanager
    def works(self) -> Iterator[None]:
        """It works without callers until the block ends; a cancelled one ends with an exception."""
        self.at_work += 1
        self._rests_since = None
        try:
            yield
        finally:
            self.at_work -= 1

    def rest(self) -> None:
        """Its work was cancelled."""
        self._rests_since = self._loop.time(), self.stood_still

    def begins(self, foreign_id: str) -> None:
        """Work on a withdrawal begins: not without a caller after the work was cancelled."""
        if self.at_work or self._rests_since is None or foreign_id in self.asked:
            return
        since, stood = self._rests_since
        if stood == self.stood_still and self._loop.time() > since:
            self._fail(f"{foreign_id}: {self.name} begins to work on it, and its work was cancelled")

    def start(self, story: Coroutine[Any, Any, None]) -> asyncio.Task[None]:
        """Begin something in this process."""
        return self._loop.create_task(story, context=self._loop.context_of(self.owner))

    # ── what happens to it ───────────────────────────────────────────────────────────────────────────────────────────

    def door(self, what: str, about: str = "", how: str = "") -> asyncio.Future[None] | None:
        """Pass a door, or die at it: then this returns what is never done, and nothing of the process runs any more."""
        if self._is_traced:
            self._trace(f"{self.name}: {what} {about}{how}")
        self._doors += 1
        if self._doors < self._last_door or self._loop.time() >= self._scenario.ends:
            return None
        self._note("crash at a door")
        self.die()
        return self._loop.create_future()

    def die(self) -> None:
        """Die, now."""
        if not self.owner.is_dead:
            self._trace(f"{self.name}: dies")
            self._loop.kill(self.owner)
            self._on_death(self)

    def stop(self, seconds: float) -> None:
        """Stand still for a while, and go on as if nothing had happened."""
        if self.owner.is_dead:
            return
        self._trace(f"{self.name}: stands still for {seconds:.3f} s")
        self.owner.is_stopped = True
        self.stood_still += 1
        self._loop.call_later(seconds, self._go_on)

    def _go_on(self) -> None:
        self._trace(f"{self.name}: goes on")
        self.owner.is_stopped = False

    def step_clock(self, seconds: float) -> None:
        """Have its clock set."""
        self._trace(f"{self.name}: its clock steps by {seconds:.3f} s")
        self._ahead += seconds

    async def close(self, grace: float) -> list[NumberedTask[Any]]:
        """End in order; return what was left running, which should be nothing."""
        self.is_closing = True
        await self.client.aclose(grace=grace)
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.sleep(0.1)
        me = asyncio.current_task()
        return [task for task in self._loop.tasks_of(self.owner) if task is not me and not task.done()]
