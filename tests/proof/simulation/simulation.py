"""One world from its beginning to its end: processes that live and die, people who want to be paid, AlphaPo, and the oracles over all."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import itertools
import traceback
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from math import inf
from typing import Any, ClassVar, Final, cast

import msgspec

from alphapo_async.core.errors import (
    AlphapoUnavailable,
    AuthenticationError,
    CallbackBusy,
    CallbackError,
    ConfigurationError,
    JournalError,
    WithdrawalError,
    WithdrawalNotSent,
)
from alphapo_async.core.events import Event
from alphapo_async.core.evidence import OperatorDecision, Unfrozen
from alphapo_async.core.history import Entry, entries_of, noted
from alphapo_async.core.models import Withdrawal, WithdrawalRequest
from alphapo_async.core.row import NEGATIVE_STATES, Row, State, counted_as, is_ended, is_frozen, is_in_doubt
from alphapo_async.core.transitions import apply
from alphapo_async.core.version import __version__
from alphapo_async.sandbox.callbacks import REPEATED_AFTER, Delivery, Round, plan
from alphapo_async.sandbox.records import SandboxWithdrawal
from tests.proof.simulation.chance import Chance
from tests.proof.simulation.loop import SimulatedLoop, Stuck
from tests.proof.simulation.network import Alphapo, Network
from tests.proof.simulation.oracles import Message, Oracles
from tests.proof.simulation.people import Order, decided
from tests.proof.simulation.process import Process
from tests.proof.simulation.scenario import EPOCH, QUIET, Failover, Scenario, fresh
from tests.proof.simulation.schedules import arrangement
from tests.proof.simulation.storage import Disk, Replica

__all__ = ["Simulation", "Verdict", "simulated"]

_SWEEP: Final = 20.0
"""Seconds between two looks at the books for payments that nobody waits for."""
_ROUNDS: Final = 6
"""How often, at most, the quiet time is waited for at the end."""
_DEADLINE: Final = 60.0
_CLOCKS: Final = 300.0
"""Seconds by which the clocks of processes may be wrong."""
_SHIFT: Final = 300.0
"""Seconds after which work is cancelled at the latest, where it is."""
_SUMS_EVERY: Final = 30
"""Changes of rows between two comparisons of the journal's sums with its rows."""
_OF_CALLERS: Final = (
    "Simulation.",
    "Process.",
    "Batch._",
    "WorkLoop._",
    "Storage.",
)
"""Tasks of whoever still iterates or works when his client is closed, which end at their next step, and the disk's own."""
_TURN: Final = 0.5
"""Seconds within which what had its turn has left."""
_SECOND: Final = 0.001
"""Seconds after a payment in which the other payment under its foreign_id comes, where the first must be the first."""
_URGENT: Final = 3.0
"""Seconds that somebody in a hurry waits."""


class Verdict(msgspec.Struct, frozen=True):
    """What came of a seed."""

    seed: int
    failure: str | None
    withdrawals: int
    accepted: int
    told: dict[str, int]
    troubles: dict[str, int]
    seconds: float
    """Simulated."""
    open_at_the_end: int
    ledger: str
    """A digest of all that AlphaPo has seen and done."""
    trace: tuple[str, ...] = ()
    happened: tuple[str, ...] = ()
    """What happened by chance, each as `Simulation` takes it in `allowed`."""


class _HandlerError(Exception):
    """What a user's own handler raises."""


class Simulation:
    """One world.

    Args:
        scenario: what happens in it.
        is_traced: keep a line for everything that happens at a door.
        allowed: of what happens by chance, only this; None for all of it.
        until: simulated seconds after which no more is looked at; None for the whole story.
    """

    disk_type: ClassVar[type[Disk]] = Disk
    network_type: ClassVar[type[Network]] = Network

    def __init__(
        self,
        scenario: Scenario,
        *,
        is_traced: bool = False,
        allowed: frozenset[str] | None = None,
        until: float | None = None,
    ) -> None:
        self.scenario = scenario
        self._until = until
        self.loop = SimulatedLoop(arrangement(scenario.schedule, scenario.seed))
        self.chance = Chance(scenario.seed, allowed)
        self.troubles: Counter[str] = Counter()
        self.trace: list[str] | None = [] if is_traced else None
        self.failure: str | None = None
        self.alphapo = Alphapo(scenario, self.chance, self.loop.time, self._note)
        self.oracles = Oracles(self.alphapo.world, self.loop.time, self._fail, resend_within=scenario.resend_within)
        self.network = self.network_type(
            self.loop,
            self.alphapo,
            scenario,
            self.chance,
            leaves=self._leaves,
            accepted=self._accepted,
            note=self._note,
        )
        self.orders = [Order(intent) for intent in scenario.intents]
        for intent in scenario.intents:
            for request in (intent.request, intent.correction):
                if request is not None:
                    self.oracles.intends(request)
            if intent.confused is not None:
                self.oracles.intends(intent.confused, f"confused-{intent.number}")
        self.disk = self._new_disk()
        self.disks = [self.disk]
        self.processes: dict[str, Process] = {}
        self._lives: Counter[str] = Counter()
        self._over: asyncio.Future[None] | None = None
        self._is_alone = False
        self._is_ending = False
        self._written = 0
        self._sums_due = _SUMS_EVERY
        self._ahead = 0.0
        """Seconds by which the clock of the one machine is wrong."""
        self._is_over = False
        """What is taken apart afterwards does nothing that counts."""
        self._couriers: set[asyncio.Task[None]] = set()
        self._waiting: Counter[tuple[str, str]] = Counter()
        """Callers that wait in a life of a process for a foreign_id; those of one that died have left."""

    def run(self) -> Verdict:
        """Let it happen."""
        asyncio.set_event_loop(self.loop)
        try:
            self.loop.run_until_complete(self._story())
            gc.collect()  # only what is collected is complained of
            self._check_complaints()
        except Stuck as stuck:
            self._fail(str(stuck))
        except Exception as error:  # noqa: BLE001 - a world that breaks is a seed that failed, and is told as one
            self._fail("the world itself broke: " + "".join(traceback.format_exception(error)).strip())
        verdict = self._verdict()
        self._is_over = True
        try:
            self.loop.recover_dead_workers()
            self.loop.close()
        finally:
            asyncio.set_event_loop(None)
        return verdict

    def _verdict(self) -> Verdict:
        return Verdict(
            seed=self.scenario.seed,
            failure=self.failure,
            withdrawals=len(self.orders),
            accepted=self.oracles.accepted,
            told=self.oracles.told,
            troubles=dict(sorted(self.troubles.items())),
            seconds=self.loop.time(),
            open_at_the_end=sum(row.state == "open" for row in self.disk.rows()),
            ledger=hashlib.sha256(self.alphapo.ledger.to_json().encode()).hexdigest(),
            trace=tuple(self.trace or ()),
            happened=tuple(self.chance.happened),
        )

    # ── what everything is told to ───────────────────────────────────────────────────────────────────────────────────

    def _fail(self, what: str) -> None:
        if self.failure is None and not self._is_over:
            self.failure = f"at {self.loop.time():.3f} s: {what}"
            self._trace(f"VIOLATION: {what}")
            if self._over is not None and not self._over.done():
                self._over.set_result(None)

    def _note(self, kind: str) -> None:
        if not self._is_over:
            self.troubles[kind] += 1
            self._trace(f"trouble: {kind}")

    def _trace(self, what: str) -> None:
        if self.trace is not None and not self._is_over:
            self.trace.append(f"{self.loop.time():12.3f} {what}")

    def _check_complaints(self) -> None:
        for complaint in self.loop.complaints:
            self._fail(f"nobody listened to: {complaint}")

    # ── the story ────────────────────────────────────────────────────────────────────────────────────────────────────

    async def _story(self) -> None:
        self._over = self.loop.create_future()
        living = self.loop.create_task(self._life())
        await asyncio.wait({living, self._over}, timeout=self._until, return_when=asyncio.FIRST_COMPLETED)
        if living.done() and not self._over.done():
            living.result()
            self._check_the_end()

    async def _life(self) -> None:
        for number in range(self.scenario.processes):
            self._begin(f"process-{number}")
        self._schedule_orders()
        self._schedule_troubles()
        sweeping = self.loop.create_task(self._sweep())
        await asyncio.sleep(self.scenario.ends)
        self._trace("from here on nothing goes wrong any more")
        self.alphapo.calm_down()
        await self._leave_one()
        await self._settle_down()
        sweeping.cancel()
        self._is_ending = True
        for process in tuple(self.processes.values()):
            await self._close(process, 20.0)

    async def _leave_one(self) -> None:
        """One process is enough to settle what is open: one that knows all keys; one with a wrong secret is corrected and starts again."""
        self._is_alone = True
        alive = sorted(self.processes.values(), key=lambda process: (not process.has_wrong_secret, len(process.keys)))
        for process in alive:
            if process is not alive[-1] or process.has_wrong_secret:
                await self._close(process, 20.0)

    async def _settle_down(self) -> None:
        """Faults have stopped: after the quiet time and a deadline every row is settled, or stays open for a reason."""
        for number in range(_ROUNDS):
            until = max(
                [self.loop.time(), *(row.could_leave_until - EPOCH for row in self._open() if row.could_leave_until)]
            )
            await asyncio.sleep(until + QUIET + 2 * _DEADLINE - self.loop.time())
            if any(_is_awake(process) and not process.has_full_budget for process in self.processes.values()):
                self._fail("the budget is not full although all has been quiet for long (P9)")
            process = self._somebody("resume")
            if process is not None:
                await self._pay_afresh(process, number)
                patience = 600.0 + _DEADLINE * len(self._open())  # a look-up that is never answered costs a deadline
                await asyncio.wait({process.start(self._resume(process))}, timeout=patience)
            await self._check_sums()
            if all(self._stays_open(row) for row in self._open()):
                break
        await self._ask_how_it_ended()

    async def _pay_afresh(self, process: Process, number: int) -> None:
        """Business goes on: without it nothing would show that look-ups see what is accepted."""
        if any(is_in_doubt(row) for row in self._open()):
            request = fresh(number)
            self.oracles.intends(request)
            await asyncio.wait({process.start(self._pay_once(process, request))}, timeout=2 * _DEADLINE)

    def _open(self) -> list[Row]:
        return [row for row in self.disk.rows() if row.state == "open"]

    def _check_the_end(self) -> None:
        for row in self._open():
            if self.scenario.is_durable and not self._stays_open(row) and not self._may_still_arrive(row):
                self._fail(
                    f"{row.foreign_id}: still open long after faults stopped: in doubt since {row.doubt_since}, {row.reason}"
                )
        if (self._is_everything_shown() and self._is_readable()) or self._is_all_written():
            self.oracles.stays_true(self.disk.rows())
        for order in self.orders:
            if order.state == "released":
                self.oracles.released(order.intent.request.end_user_reference)

    def _stays_open(self, row: Row) -> bool:
        """Nothing that AlphaPo shows can settle it, so that it waits for a callback, a caller or the operator."""
        is_hidden = not self._is_everything_shown()
        oldest = self.scenario.resend_within - QUIET - _DEADLINE
        is_old = row.doubt_since is not None and self._now() > row.doubt_since + oldest
        # A blamed name waits for whoever has it: if that is this payment, a look-up shows it, unless AlphaPo shows it in a way that
        # nobody could know it by.
        # Nor is an end without figures, or that of another withdrawal under a freed foreign_id, known as this row's.
        is_plain_end = self.scenario.dialect.sides == "always" and self.oracles.has_ended(row)
        is_given = self._is_readable() and (is_plain_end or not self.oracles.has_ended_all(row))
        is_anothers = row.look_ups_only and not (self.oracles.shows(row) and is_given)
        return is_frozen(row) or (is_in_doubt(row) and (is_anothers or is_hidden or is_old))

    def _is_readable(self) -> bool:
        """Whatever AlphaPo shows of a withdrawal is as it was requested, and enough to know it by."""
        dialect = self.scenario.dialect
        is_named = dialect.fees == "none" or (dialect.fees != "unnamed" and dialect.sides != "always")
        has_figures = dialect.parts in ("blockchain", "internal") and dialect.tag == "text"
        return is_named and has_figures and dialect.address_form != "other form"

    async def _ask_how_it_ended(self) -> None:
        """Whatever AlphaPo has ended is failed once a look-up has shown that, also where it gives no figures."""
        if not self._is_everything_shown() or self.scenario.dialect.ids == "apart":
            return
        for row in self.disk.rows():
            process, known = self._somebody("end", row.foreign_id), row.withdrawal
            if process is None or row.state != "accepted" or known is None or known.source == "journal":
                continue
            if self.oracles.has_ended(row):
                await asyncio.wait({process.start(self._look_up(process, row.foreign_id))}, timeout=_DEADLINE)

    async def _look_up(self, process: Process, foreign_id: str) -> None:
        with contextlib.suppress(AlphapoUnavailable, ConfigurationError):
            if await process.client.look_up(foreign_id) is not None:
                row = self.disk.row("default", foreign_id)
                if row is not None and row.state != "failed" and not self._may_still_arrive(row):
                    self._fail(f"{foreign_id}: {row.state} after a look-up showed that AlphaPo has ended it")

    def _may_still_arrive(self, row: Row) -> bool:
        """Return whether the quiet time of an ended row is not over yet, by any process's clock."""
        return is_ended(row) and self._now() <= (row.could_leave_until or 0.0) + QUIET + _CLOCKS

    def _is_everything_shown(self) -> bool:
        """Look-ups show all that AlphaPo has, to every key that is left."""
        dialect, scenario = self.scenario.dialect, self.scenario
        is_hidden = (
            dialect.visibility != "at once" or dialect.look_up_transport == "dropped" or scenario.has("rotation")
        )
        return scenario.is_durable and not is_hidden

    def _is_all_written(self) -> bool:
        """No process died with an acceptance that it had told and not yet written down."""
        return self.scenario.is_durable and not self.scenario.has("crashes") and not self.scenario.has("storage")

    def _now(self) -> float:
        return EPOCH + self.loop.time()

    async def _check_sums(self) -> None:
        if self.scenario.is_durable:
            self.oracles.adds_up(await self.disk.totals("default"))

    # ── processes ────────────────────────────────────────────────────────────────────────────────────────────────────

    def _new_disk(self) -> Disk:
        disk = self.disk_type(
            is_durable=self.scenario.is_durable,
            is_file=self.scenario.is_one_machine,
            watch=self._wrote,
            clock=self.loop.time,
        )
        disk.world = self.loop.context_of(self.loop.world)
        disk.forgot = self.oracles.forgot
        disk.is_lossless = self.scenario.is_lossless
        disk.keeps_its_word = self.scenario.broken != "A5"
        return disk

    def _wrote(self, before: Row | None, after: Row) -> None:
        if before is not None and before.state == "open" != after.state:
            if after.control_seen_at is not None:
                self._note("quiet exit")
            elif after.reason == "expired":
                self._note("expired in the queue")
        self.oracles.wrote(before, after)
        self._written += 1
        if self._written >= self._sums_due and not self._is_ending:
            self._sums_due = self._written + max(_SUMS_EVERY, len(self.orders) // 2)  # each looks at every row
            self.loop.create_task(self._check_sums(), context=self.loop.context_of(self.loop.world))

    def _begin(self, name: str) -> None:
        """Start a process, or start it again."""
        if self._is_ending or (self._is_alone and self.processes):
            return
        life = self._lives[name] = self._lives[name] + 1
        if not self.scenario.is_durable and life > 1:
            self.disk = self._new_disk()
            self.disks.append(self.disk)
        is_rotated = self.scenario.has("rotation") and (life > 1 or self.chance.happens(0.3, "rotated", name))
        if is_rotated:
            self._note("key rotated")
        process = Process(
            f"{name}.{life}",
            loop=self.loop,
            scenario=self.scenario,
            chance=self.chance,
            network=self.network,
            disk=self.disk,
            on_death=lambda died: self._died(name, died),
            on_event=lambda event: self._happened(process, event),
            on_lag=self._lags,
            note=self._note,
            trace=self._trace,
            is_rotated=is_rotated,
            is_traced=self.trace is not None,
            fail=self._fail,
            ahead=self._ahead,
        )
        self.processes[name] = process
        self._trace(f"{process.name}: begins")
        process.start(self._lead(process))
        self._schedule_fate(name, process)

    def _happened(self, process: Process, event: Event) -> None:
        self._trace(f"event: {event.name} {event.foreign_id or ''} {event.outcome or ''} {event.reason or ''}")
        if event.name == "begun":
            process.begins(event.foreign_id or "")
        if event.name == "task failed":
            self._fail(f"{process.name}: task failed: {event.reason}")
        if event.name == "contradiction" and self.scenario.broken is None:
            self.troubles["contradiction told"] += 1

    def _lags(self, name: str, written: object, seconds: float) -> None:
        """A "no" stands in the journal, and who wrote it does not know so yet: somebody asks once more just now, elsewhere."""
        if not isinstance(written, Row) or written.state not in NEGATIVE_STATES or not self.scenario.has("people"):
            return
        for order in self.orders:
            if order.request.foreign_id == written.foreign_id:
                self._note("asked again before a no is told")
                order.is_doubled = True
                later = self.chance.between(0.0, seconds / 2, "asks", written.foreign_id)
                self._at(later, self._ask_twice, order, name, written.state)

    async def _lead(self, process: Process) -> None:
        """What a process does by itself."""
        if self._lives[process.name.partition(".")[0]] > 1 and self.chance.happens(0.5, "resumes", process.name):
            await self._resume(process)
        if self.scenario.is_durable and (self.scenario.has("workers") or process.name.startswith("process-0")):
            await self._work(process)

    async def _work(self, process: Process) -> None:
        concurrency = self.chance.pick((1, 8, 8, 8), "slots", process.name)
        for shift in itertools.count():
            seconds = self._shift(process, shift)
            try:
                with process.works():
                    async with asyncio.timeout(seconds):
                        await process.client.work(concurrency=concurrency)
            except TimeoutError:
                self._note("work cancelled")
                process.rest()
                await asyncio.sleep(self.chance.between(0.0, 60.0, "rests", process.name, shift))
            except JournalError:
                await asyncio.sleep(5.0)
            except ConfigurationError:
                return  # it is being closed

    def _shift(self, process: Process, shift: int) -> float | None:
        """Return after how many seconds work is cancelled, to begin again a while later; None for never."""
        about = ("shift", process.name, shift)
        is_ending = self.loop.time() >= self.scenario.ends
        if is_ending or not self.scenario.has("leaving") or not self.chance.happens(0.5, *about):
            return None
        return self.chance.between(0.0, _SHIFT, *about, "seconds")

    async def _resume(self, process: Process) -> None:
        stood = process.stood_still
        with contextlib.suppress(JournalError, ConfigurationError), process.works():
            async for result in process.client.resume(concurrency=8):
                self._heard(result.request, result.withdrawal or result.error, is_late=process.stood_still > stood)
                await self._take_time(process, "resume", result.request.foreign_id)

    async def _take_time(self, process: Process, *about: object) -> None:
        """Whoever goes through results does something with some of them, and asks for the next one late."""
        key = ("takes time", process.name, *about, round(self.loop.time(), 6))
        if self.loop.time() < self.scenario.ends and self.chance.happens(0.15, *key):
            self._note("slow reader of results")
            await asyncio.sleep(self.chance.between(0.1, 30.0, "how long", *key))

    def _died(self, name: str, process: Process) -> None:
        self._note("process died")
        self.processes.pop(name, None)
        if self.scenario.broken == "A5":
            self.disk.forget_the_last()
        seconds = self.chance.between(0.5, 90.0, "dead", process.name)
        self._at(seconds, self._begin, name)

    async def _close(self, process: Process, grace: float) -> None:
        """End a process in order, from outside."""
        if not process.is_alive:
            return
        self._trace(f"{process.name}: is closed")
        done = process.start(self._closing(process, grace))
        await asyncio.wait({done}, timeout=300.0)
        if not process.owner.is_dead:
            process.die()

    async def _closing(self, process: Process, grace: float) -> None:
        left = await process.close(grace)
        leaked = [
            _name_of(task) for task in left if process.flies_in(task) or not _name_of(task).startswith(_OF_CALLERS)
        ]
        # Closing is bounded: it does not wait longer for a journal that takes its time than for a flight.
        if len(leaked) > process.storage.under_way:
            self._fail(f"{process.name}: closed, and still at work on {', '.join(leaked)}")

    def _somebody(self, *about: object, busy: str = "") -> Process | None:
        """Return a process that is awake, and is not the one of this name."""
        alive = [process for process in self.processes.values() if _is_awake(process) and process.name != busy]
        return self.chance.pick(alive, "somebody", *about, round(self.loop.time(), 6)) if alive else None

    # ── troubles ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def _at(self, seconds: float, callback: Any, *args: object) -> None:
        self.loop.call_later(seconds, callback, *args, context=self.loop.context_of(self.loop.world))

    def _schedule_fate(self, name: str, process: Process) -> None:
        """Say what will happen to this life of a process."""
        chance, scenario, life = self.chance, self.scenario, process.name
        for family, share, longest, callback in (
            ("crashes", 0.6, 600.0, self._crash),
            ("stops", 0.7, 300.0, self._stop),
            ("clocks", 0.7, 300.0, self._step_clock),
            ("closing", 0.7, 600.0, self._close_early),
        ):
            if scenario.has(family) and chance.happens(share, family, life):
                at = chance.between(0.0, longest, family, life, "at")
                if family == "closing" and chance.happens(0.7, family, life, "at work"):
                    at = self._busy_moment(life) - self.loop.time()
                if self.loop.time() + at < scenario.ends:
                    self._at(at, callback, name, process)

        if scenario.has("claims"):
            for one in range(3):
                self._at(self._busy_moment(life, one) - self.loop.time(), self._cut_off, process)

    def _busy_moment(self, *about: object) -> float:
        """Return a moment soon after somebody asks for something."""
        now = self.loop.time()
        coming = [order.intent.at for order in self.orders if order.intent.at >= now] or [now]
        return self.chance.pick(coming, "busy", *about) + self.chance.between(0.0, 3.0, "busy", *about, "at")

    def _cut_off(self, process: Process) -> None:
        if process.is_alive and self.loop.time() < self.scenario.ends:
            self._note("cut off from the journal")
            self.disk.cut_off(process.worker)

    def _crash(self, _name: str, process: Process) -> None:
        if process.is_alive:
            self._note("crash at a moment")
            process.die()

    def _stop(self, _name: str, process: Process) -> None:
        is_long = self.chance.happens(0.5, "stop", process.name)
        seconds = self.chance.between(61.0, 240.0, "stop", process.name, "long") if is_long else 3.0
        self._note("stopped past its lease" if is_long else "stopped for a moment")
        process.stop(seconds)
        may_lag = self.scenario.has("clocks") and not self.scenario.is_one_machine
        if may_lag and self.chance.happens(0.5, "stop", process.name, "clock"):
            self._note("clock stood still, too")
            process.step_clock(-seconds)

    def _step_clock(self, _name: str, process: Process) -> None:
        seconds = self.chance.between(-45.0, 45.0, "step", process.name)
        self._note("clock stepped forward" if seconds > 0 else "clock stepped back")
        if not self.scenario.is_one_machine:
            process.step_clock(seconds)
            return
        self._note("clock of all stepped")
        self._ahead += seconds
        for one in self.processes.values():
            one.step_clock(seconds)

    def _close_early(self, name: str, process: Process) -> None:
        if process.is_alive:
            self._note("closed with work under way")
            grace = self.chance.pick((0.0, 1.0, 10.0), "grace", process.name)
            self.loop.create_task(self._close(process, grace), context=self.loop.context_of(self.loop.world))

    def _schedule_troubles(self) -> None:
        for failover in self.scenario.failovers:
            self._at(failover.at - failover.lag, self._lag_behind, failover)
        if self.scenario.has("operator"):
            for one in range(3):
                self._at(self.scenario.ends + QUIET * (1 + one / 2) + 60.0, self._operate)

    def _lag_behind(self, failover: Failover) -> None:
        """From now on the standby receives nothing; then the primary is lost."""
        self._at(failover.lag, self._fail_over, failover, self.disk.replica(), self.loop.time())

    def _fail_over(self, failover: Failover, replica: Replica, since: float) -> None:
        self._note("failover that loses commits" if failover.lag else "failover that loses nothing")
        if failover.kills:
            self._note("failover with the loss of all processes")
            for process in tuple(self.processes.values()):
                process.die()
        changed = self.disk.go_back(replica)
        waited_for = {name for (process, name), callers in self._waiting.items() if callers and self._is_here(process)}
        still_open = {row.foreign_id for row in self._open()}
        self._trace(f"the journal goes back to {since:.3f} s: {', '.join(sorted(changed)) or 'nothing is lost'}")
        self.oracles.goes_back(
            changed,
            since,
            self.disk.rows(),
            set() if self.scenario.is_lossless else still_open - waited_for,
            is_shown=self._is_everything_shown(),
        )
        self.disk.is_down = True
        self._at(failover.down, self._come_up)
        if self.scenario.has("operator"):
            self._at(failover.down + self.chance.between(60.0, 600.0, "unfreezes", since), self._unfreeze)

    def _is_here(self, life: str) -> bool:
        return any(process.name == life for process in self.processes.values())

    @contextlib.contextmanager
    def _waits(self, process: Process, *foreign_ids: str) -> Iterator[Callable[[str], None]]:
        """A caller waits for these in this process; for each until the block ends, or it says that it has its answer."""
        names = set(foreign_ids)
        self._waiting.update((process.name, name) for name in names)
        process.asked |= names
        for name in names:
            self.oracles.thaws(name)

        def answer(name: str) -> None:
            if name in names:
                names.remove(name)
                self._waiting[process.name, name] -= 1

        try:
            yield answer
        finally:
            for name in tuple(names):
                answer(name)

    def _come_up(self) -> None:
        self.disk.is_down = False

    def _unfreeze(self) -> None:
        """The operator unfreezes what AlphaPo's books do not have, and what is still wanted."""
        wanted = {order.request.foreign_id for order in self.orders if order.state == "wanted"}
        for row in self._open():
            is_at_alphapo = self.alphapo.world.named(row.foreign_id) or self.oracles.may_still_come(row.foreign_id)
            if is_frozen(row) and row.foreign_id in wanted and not is_at_alphapo:
                self.loop.create_task(self._unfreeze_one(row))

    async def _unfreeze_one(self, row: Row) -> None:
        after = await self._say(row, Unfrozen("operator", "AlphaPo's books do not have it"))
        if not is_frozen(after):
            self._note("unfrozen by the operator")
            self.oracles.thaws(row.foreign_id)

    def _operate(self) -> None:
        """Somebody looks at AlphaPo's own books, and says what is true."""
        for row in self._open():
            payment = row.revision.payment
            is_quiet = row.could_leave_until is not None and self._now() > row.could_leave_until + QUIET
            if not is_in_doubt(row) or row.holder is not None or payment is None or not is_quiet:
                continue
            records = [
                one
                for one in self.alphapo.world.named(row.foreign_id)
                if one.asked.end_user_reference == payment.end_user_reference
            ]
            if not records and self.oracles.may_still_come(row.foreign_id):
                continue
            if records and not any(one.ending.moves_money for one in records):
                continue
            self._note("the operator's word")
            word = OperatorDecision(
                "operator", "AlphaPo's books", bool(records), str(records[0].id) if records else None
            )
            self.loop.create_task(self._say(row, word))

    async def _say(self, row: Row, word: OperatorDecision | Unfrozen) -> Row:
        def change(known: Row | None) -> tuple[Row, Sequence[Entry]]:
            now = self._now()
            return noted(apply(known or row, word, now), entries_of((word,), now, __version__))

        return await self.disk.update(row.account, row.foreign_id, change)

    # ── people ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def _schedule_orders(self) -> None:
        batches: dict[float, list[Order]] = {}
        for order in self.orders:
            if order.intent.how == "batch":
                batches.setdefault(order.intent.at, []).append(order)
            else:
                self._at(order.intent.at, self._want, order)
        for at, orders in batches.items():
            self._at(at, self._want_all, orders)

    def _want(self, order: Order) -> None:
        order.state = "wanted"
        self._ask(order)
        if order.intent.is_doubled:
            self._note("asked for twice")
            first, last = (0.0, 10.0) if order.intent.how == "enqueue" else (-30.0, 60.0)
            later = self.chance.between(first, last, "twice", order.request.foreign_id)
            self._at(max(0.0, later), self._ask_twice, order)
        if order.intent.confused is not None:
            self._note("another payment under the same foreign_id")
            # A journal that ends with its process forgets which payment was first, and a reply need not show it: it comes second there.
            self._at(0.0 if self.scenario.is_durable else _SECOND, self._start_elsewhere, order.intent.confused)

    def _want_all(self, orders: list[Order]) -> None:
        process = self._somebody("batch")
        for order in orders:
            order.state, order.process = "wanted", process
        if process is not None:
            process.start(self._batch(process, orders))

    def _ask(self, order: Order) -> None:
        """Have somebody ask for it, in whatever process there is."""
        process = self._somebody(order.request.foreign_id)
        if process is None:
            return
        order.process = process
        order.tries += 1
        asking = process.start(self._pay(process, order))
        key = ("leaves", order.request.foreign_id, order.tries)
        if self.loop.time() < self.scenario.ends and self.chance.happens(self.scenario.rates.leave, *key):
            self._at(self.chance.between(0.0, 30.0, "when", *key), self._leave, asking)

    def _leave(self, asking: asyncio.Task[None]) -> None:
        if not asking.done():
            self._note("caller left")
            asking.cancel()

    async def _sweep(self) -> None:
        """Whatever is wanted and nobody waits for is asked for again, as long as the world stands."""
        while True:
            await asyncio.sleep(_SWEEP)
            self._check_idle()
            self._check_unsent()
            for order in self.orders:
                if order.state == "wanted" and order.is_free and order.not_before <= self.loop.time():
                    self._ask(order)

    def _check_idle(self) -> None:
        """Whatever a living worker holds, it works on."""
        workers = {process.worker: process for process in self.processes.values() if _is_awake(process)}
        held = ((row.foreign_id, row.holder) for row in self._open() if row.holder)
        self.oracles.keeps_idle([one for one in held if one[1] in workers and not workers[one[1]].works_on(one[0])])

    def _check_unsent(self) -> None:
        """Once nothing goes wrong any more, workers with a free slot send what was left to them, without a caller."""
        is_calm, now = self.loop.time() >= self.scenario.ends, self._now()
        workers = (process for process in self.processes.values() if _is_awake(process) and process.at_work)
        could_send = is_calm and any(
            process.has_lease and not process.has_wrong_secret and process.session.slots.free for process in workers
        )
        unsent = (
            row for row in self._open() if counted_as(row) == "open" and not (row.needs_look_up or is_frozen(row))
        )
        self.oracles.keeps_waiting([row.foreign_id for row in unsent if row.not_before <= now] if could_send else [])

    async def _pay(self, process: Process, order: Order) -> None:
        request, stood = order.request, process.stood_still
        try:
            with self._waits(process, request.foreign_id):
                told = await self._call(process, order)
            if told is not None:
                self._decide(order, request, told, is_late=process.stood_still > stood)
        finally:
            order.process = None
            order.not_before = self.loop.time() + self._patience(order)

    def _patience(self, order: Order) -> float:
        """How long people wait before they ask again; in the end they leave the one process that is left time to come to all."""
        patience = self.chance.between(5.0, 400.0, "again", order.request.foreign_id, order.tries)
        return patience + (QUIET if self._is_alone or self.scenario.is_left_alone else 0.0)

    async def _call(self, process: Process, order: Order) -> Withdrawal | WithdrawalError | JournalError | None:
        """Ask the client, as this order is asked for."""
        began, stood, is_open = self.loop.time(), process.stood_still, process.has_lease
        is_first = order.tries == 1
        is_left_to_workers = order.intent.how == "enqueue" and is_first
        self._asks(order.request)
        deadline = _URGENT if order.intent.is_urgent and is_first and order.intent.how == "withdraw" else None
        try:
            if is_left_to_workers:
                lasts = order.intent.expires_in
                await process.client.enqueue(order.request, **({} if lasts is None else {"expires_in": lasts}))
                return None
            return await process.client.withdraw(
                order.request,
                deadline=deadline,
                attempted_before=not self.scenario.is_durable and order.tries > 1,
            )
        except (WithdrawalError, JournalError) as error:
            if is_first and deadline is None and not order.is_shared:
                self._check_patience(process, error, self.loop.time() - began)
            return error
        except ConfigurationError:
            return None
        finally:
            # The policy's deadline runs from the first request on; or from when the journal was open, for whoever comes later. Who leaves
            # it to workers has none: he waits for the journal alone.
            first = process.first_left.get(order.request.foreign_id, -inf)
            is_awake = process.stood_still == stood and not process.owner.is_dead
            has_policys = deadline is None and not is_left_to_workers
            if has_policys and is_awake and is_open and first >= began and self.scenario.is_durable:
                self.oracles.hears_in_time(order.request.foreign_id, _DEADLINE, self.loop.time() - first)
            if deadline is not None and process.stood_still == stood and not process.owner.is_dead:
                self.oracles.hears_in_time(order.request.foreign_id, deadline, self.loop.time() - began)

    def _check_patience(self, process: Process, error: WithdrawalError | JournalError, took: float) -> None:
        is_barred = isinstance(error, WithdrawalNotSent) and error.reason == "no connection"
        name = error.foreign_id or ""
        # Whoever stood still, or whose clock was set, may have lost his lease, and with it what he held.
        may_have_lost = process.stood_still or self.scenario.has("clocks")
        if is_barred and process.is_alive and not may_have_lost and not self.scenario.has("storage"):
            self.oracles.gives_up(name, process.session.tried[name], took)

    def _asks(self, request: WithdrawalRequest, *, is_lasting: bool = False) -> None:
        # Where clocks are set, nobody can say for sure what came first.
        if self.scenario.is_durable and not self.scenario.has("clocks"):
            self.oracles.asks(request.foreign_id, is_lasting=is_lasting)

    def _decide(
        self,
        order: Order,
        request: WithdrawalRequest,
        told: Withdrawal | WithdrawalError | JournalError,
        *,
        is_late: bool,
    ) -> None:
        self._heard(request, told, is_late=is_late)
        if request is order.request and order.state == "wanted":  # nobody else has decided meanwhile
            decided(order, told, self.chance)
        self._trace(f"{order.request.foreign_id}: the order is {order.state}")

    def _heard(self, request: WithdrawalRequest, told: Any, *, is_late: bool) -> None:
        outcome = "accepted" if isinstance(told, Withdrawal) else told.outcome
        self._trace(f"outcome: {request.foreign_id} {outcome}")
        waiting = (
            process for (process, name), callers in self._waiting.items() if callers and name == request.foreign_id
        )
        self.oracles.hears(
            request, told, is_late=is_late, is_last=not any(self._is_here(process) for process in waiting)
        )

    def _ask_twice(self, order: Order, busy: str = "", known: State = "open") -> None:
        if order.state == "wanted":  # whoever has given the funds back does not pay
            self._start_elsewhere(order.request, busy, resend_rejected=known == "rejected")

    def _start_elsewhere(self, request: WithdrawalRequest, busy: str = "", *, resend_rejected: bool = False) -> None:
        process = self._somebody("elsewhere", request.foreign_id, request.end_user_reference, busy=busy)
        if process is not None:
            process.start(self._pay_once(process, request, resend_rejected=resend_rejected))

    async def _pay_once(self, process: Process, request: WithdrawalRequest, *, resend_rejected: bool = False) -> None:
        self._asks(request)
        stood = process.stood_still
        with contextlib.suppress(ConfigurationError):
            try:
                with self._waits(process, request.foreign_id):
                    told: Any = await process.client.withdraw(
                        request, resend_rejected=resend_rejected, attempted_before=not self.scenario.is_durable
                    )
            except (WithdrawalError, JournalError) as error:
                told = error
            self._heard(request, told, is_late=process.stood_still > stood)

    async def _batch(self, process: Process, orders: list[Order]) -> None:
        for order in orders:
            order.tries += 1
            self._asks(order.request, is_lasting=True)
        requests, stood = [order.request for order in orders], process.stood_still
        with self._waits(process, *(request.foreign_id for request in requests)) as answer:
            await self._take_batch(process, orders, requests, stood, answer)

    async def _take_batch(
        self,
        process: Process,
        orders: list[Order],
        requests: list[WithdrawalRequest],
        stood: int,
        answer: Callable[[str], None],
    ) -> None:
        try:
            async for result in process.client.batch(requests, concurrency=self.chance.whole(1, 64, "concurrency")):
                order, request = orders[result.index], requests[result.index]
                told = result.withdrawal or cast("WithdrawalError | JournalError", result.error)
                answer(request.foreign_id)
                self._decide(order, request, told, is_late=process.stood_still > stood)
                order.process = None
                await self._take_time(process, "batch", request.foreign_id)
        except (AuthenticationError, JournalError, ConfigurationError):
            self.troubles["batch ended early"] += 1
        finally:
            for order in orders:
                order.process = None if order.process is process else order.process

    # ── AlphaPo's side ───────────────────────────────────────────────────────────────────────────────────────────────

    def _leaves(self, foreign_id: str, body: bytes, name: str) -> Message:
        process = next(one for one in self.processes.values() if one.name == name)
        self._trace(f"{name}: a body of {foreign_id} leaves")
        # What had its turn already may leave a moment later.
        if process.session.throttled_at + _TURN < self.loop.time() < process.session.held_until - 1e-6:
            self._fail(f"{foreign_id}: a body leaves {name} although AlphaPo asked to wait (P9)")
        if process.worker in process.storage.outlived:
            self._fail(
                f"{foreign_id}: a body leaves {name} under a lease that had ended when its renewal was answered (P3)"
            )
        message = self.oracles.leaves(
            process.disk.row("default", foreign_id),
            foreign_id,
            body,
            worker=process.worker,
            journal=self.disks.index(process.disk),
            is_unaware=process.storage.is_unaware,
        )
        if (
            process.disk.is_durable
            and not process.storage.is_unaware
            and not process.disk.is_leased(foreign_id, self._now() + self._ahead)
        ):
            self._fail(f"{foreign_id}: a body leaves {name} after the lease under which its row is held")
        if not process.storage.is_unaware and not process.disk.may_begin(foreign_id):
            self._fail(f"{foreign_id}: a body leaves {name} before a later claim has recorded that its row may begin")
        return message

    def _accepted(self, record: SandboxWithdrawal, message: Message) -> None:
        self._trace(f"AlphaPo accepts {message.foreign_id}")
        self.oracles.accepted_one(record, message)
        if self.scenario.has("callbacks") and self.chance.happens(self.scenario.told_share, "told of", record.id):
            signer = self.alphapo.signers[record.key]
            for row in plan(record, self.scenario.dialect, signer, self.scenario.mischief):
                self._start_courier(self._tell(row))

    def _start_courier(self, story: Coroutine[Any, Any, None]) -> None:
        task = self.loop.create_task(story, context=self.loop.context_of(self.loop.world))
        self._couriers.add(task)
        task.add_done_callback(self._couriers.discard)

    async def _tell(self, row: tuple[Round, ...]) -> None:
        for one in row:
            await asyncio.sleep(max(0.0, one.due - self.loop.time()))
            await asyncio.gather(*(self._deliver(delivery) for delivery in one.deliveries))

    async def _deliver(self, delivery: Delivery) -> None:
        self.troubles[f"callback: {delivery.what}"] += 1
        waits = () if delivery.what == "forgery" else REPEATED_AFTER
        for minutes in (0, *waits):
            await asyncio.sleep(minutes * 60.0)
            if await self._post(delivery):
                return
            self.troubles["callback not heard"] += 1

    async def _post(self, delivery: Delivery) -> bool:
        process = self._somebody("callback", delivery.id, delivery.status)
        if process is None:
            return False
        hearing = process.start(self._receive(process, delivery))
        done, _ = await asyncio.wait({hearing}, timeout=30.0)
        return bool(done) and not hearing.cancelled() and hearing.result() is True

    def _raise_as_a_handler(self) -> None:
        self._note("a handler raised")
        raise _HandlerError

    async def _receive(self, process: Process, delivery: Delivery) -> Any:
        rates, is_calm = self.scenario.rates, self.loop.time() >= self.scenario.ends
        key = ("handler", delivery.id, delivery.status, round(self.loop.time(), 6))
        try:
            async with process.client.receive_callback(delivery.headers, delivery.body) as callback:
                told = callback.transaction
                self._trace(f"callback {told.id} {told.status} {callback.kind} new={callback.is_new}")
                name = (self.disks.index(process.disk), told.id)
                self.oracles.handling(delivery.what, name, str(told.status), is_new=callback.is_new)
                if not is_calm and self.chance.happens(rates.handler_slow, "slow", *key):
                    await asyncio.sleep(self.chance.between(0.0, 20.0, "slowness", *key))
                if not is_calm and self.chance.happens(rates.handler_raises, "raises", *key):
                    self._raise_as_a_handler()
                self.oracles.ended(name, str(told.status))
                ended_at = self.loop.time()
            self.oracles.handled(name, str(told.status), since=ended_at)
        except CallbackError:
            if delivery.what != "forgery" and delivery.headers["X-Processing-Key"] in process.keys:
                self._fail(f"callback {delivery.id}: a true one was refused")
            return False
        except (CallbackBusy, JournalError, ConfigurationError, _HandlerError):
            return False
        return True


def _is_awake(process: Process) -> bool:
    return process.is_alive and not process.owner.is_stopped


def _name_of(task: asyncio.Task[Any]) -> str:
    return str(getattr(task.get_coro(), "__qualname__", ""))


def simulated(
    scenario: Scenario,
    *,
    is_traced: bool = False,
    allowed: frozenset[str] | None = None,
    until: float | None = None,
) -> Verdict:
    """Let a scenario happen (`Simulation`), and return what came of it; what it leaves behind is collected at its end."""
    gc.freeze()  # what was there before is not gone through when the world is taken apart
    try:
        return Simulation(scenario, is_traced=is_traced, allowed=allowed, until=until).run()
    finally:
        gc.collect()
        gc.unfreeze()
