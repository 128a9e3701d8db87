"""An event loop of several processes in virtual time: nothing waits, nothing is by chance, and a process can die at any moment.

Every handle belongs to the process in whose context it was made. A process that is stopped keeps what is to be done for later; one that
dies never runs again, not even its `finally`.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import heapq
import itertools
import sys
import warnings
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar
from weakref import WeakSet

from tests.proof.simulation.schedules import Arrange

__all__ = ["Owner", "SimulatedLoop", "Stuck"]

T = TypeVar("T")


class Owner:
    """Whose work it is: one process, or the world around all of them."""

    __slots__ = ("is_cut_off", "is_dead", "is_stopped", "name", "ready", "tasks")

    def __init__(self, name: str) -> None:
        self.name = name
        self.ready: deque[Any] = deque()
        self.tasks: WeakSet[NumberedTask[Any]] = WeakSet()
        self.is_dead = False
        self.is_stopped = False
        self.is_cut_off = False
        """It died in the midst of something, so that nobody is left to hear how that ended."""

    def __repr__(self) -> str:
        return f"Owner({self.name!r}, {len(self.ready)} ready)"


_OWNER: ContextVar[Owner] = ContextVar("owner")


class Stuck(RuntimeError):
    """Nothing is left to happen, or the same moment never ends."""


class NumberedTask(asyncio.Task[T]):
    """A task that sets know by a number instead of an address, so that they always stand in the same order."""

    def __init__(self, coro: Coroutine[Any, Any, T], number: int, owner: Owner, **named: Any) -> None:
        self.number = number
        self.owner = owner
        super().__init__(coro, **named)

    def __hash__(self) -> int:
        return self.number

    def __eq__(self, other: object) -> bool:
        return self is other


class _Handle(asyncio.Handle):
    """A handle that is made often: without what a loop in debug mode asks for."""

    __slots__ = ()
    _callback: Any
    _args: Any
    _context: Context

    def __init__(
        self, callback: Callable[..., object], args: tuple[Any, ...], loop: Any, context: Context | None
    ) -> None:
        self._context = copy_context() if context is None else context
        self._loop = loop
        self._callback = callback
        self._args = args
        self._cancelled = False
        self._repr = self._source_traceback = None


class _Timer(_Handle, asyncio.TimerHandle):
    """Likewise."""

    __slots__ = ()

    def __init__(
        self, when: float, callback: Callable[..., object], args: tuple[Any, ...], loop: Any, context: Context | None
    ) -> None:
        _Handle.__init__(self, callback, args, loop, context)
        self._when = when
        self._scheduled = False

    def cancel(self) -> None:
        """Pass it over when its time comes."""
        self._cancelled = True
        self._callback = self._args = None


def _wake(waker: asyncio.Future[None]) -> None:
    if not waker.done():
        waker.set_result(None)


@contextlib.contextmanager
def _unheard() -> Iterator[None]:
    """What a dead process would still say is heard by nobody."""
    hook, sys.unraisablehook = sys.unraisablehook, lambda _: None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        sys.unraisablehook = hook


def _take_apart(task: NumberedTask[Any]) -> None:
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    coroutine = task.get_coro()
    for _ in range(50):  # a `finally` that awaits asks to be closed once more
        with contextlib.suppress(BaseException):
            coroutine.close()
            break


class SimulatedLoop(asyncio.BaseEventLoop):
    """A loop for programs without sockets and threads.

    Args:
        arrange: puts the handles that are ready at the same time into the order in which they run; None: as they came.
    """

    MOST_IN_A_MOMENT = 1_000_000
    """Handles that may run before the clock moves: more of them would be a program that runs in circles."""

    def __init__(self, arrange: Arrange | None = None) -> None:
        super().__init__()
        self._arrange = arrange
        self.set_debug(
            False
        )  # a stack for every callback would make hours of virtual days, and nothing here blocks for real
        self.world = Owner("world")
        self._owners: list[Owner] = [self.world]
        self._instant = 0.0
        self._timers: list[tuple[float, int, _Timer]] = []
        self._numbers = itertools.count()
        self._in_this_moment = 0
        self._dead: list[NumberedTask[Any]] = []
        self.complaints: list[str] = []
        """What nobody listened to: exceptions of tasks that were not awaited, and the like."""
        self.set_exception_handler(self._complain)

    # ── owners ───────────────────────────────────────────────────────────────────────────────────────────────────────

    def add_owner(self, name: str) -> Owner:
        """Begin a process."""
        owner = Owner(name)
        self._owners.append(owner)
        return owner

    def context_of(self, owner: Owner) -> Context:
        """Return a context in which everything belongs to this process."""
        context = copy_context()
        context.run(_OWNER.set, owner)
        return context

    def kill(self, owner: Owner) -> None:
        """End a process in this very moment: no handler, no `finally` runs any more."""
        left = self.tasks_of(owner)
        self._dead += left
        owner.is_dead, owner.is_cut_off = True, bool(left)
        owner.ready.clear()
        self._owners.remove(owner)

    def tasks_of(self, owner: Owner) -> list[NumberedTask[Any]]:
        """Return what a process still works on, oldest first."""
        return sorted((task for task in owner.tasks if not task.done()), key=lambda task: task.number)

    def recover_dead_workers(self) -> None:
        """After the end: take apart what dead processes left, quietly."""
        buried: set[int] = set()
        has_died = bool(self._dead)
        with _unheard():
            while left := [task for task in (*self._dead, *self._living_tasks()) if task.number not in buried]:
                for task in left:  # some begin others in their last moment
                    buried.add(task.number)
                    _take_apart(task)
                left.clear()
            self._dead.clear()
            if has_died:
                gc.collect()

    def _living_tasks(self) -> list[NumberedTask[Any]]:
        tasks = (task for task in asyncio.all_tasks(self) if isinstance(task, NumberedTask))
        return sorted(tasks, key=lambda task: task.number)

    def _complain(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        task = context.get("future") or context.get("task")
        if isinstance(task, NumberedTask) and task.owner.is_cut_off:
            return
        error = context.get("exception")
        self.complaints.append(f"{context['message']}: {error!r}" if error else context["message"])

    # ── what asyncio asks of a loop ──────────────────────────────────────────────────────────────────────────────────

    def time(self) -> float:
        """Return virtual seconds."""
        return self._instant

    def call_soon(self, callback: Callable[..., object], *args: Any, context: Context | None = None) -> asyncio.Handle:  # type: ignore[override]
        """Have it called in the process to which the context belongs."""
        handle = _Handle(callback, args, self, context)
        owner = handle._context.get(_OWNER, self.world)
        if not owner.is_dead:
            owner.ready.append(handle)
        return handle

    call_soon_threadsafe = call_soon  # type: ignore[assignment]

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Have it called at a virtual moment; what is due at the same moment comes in the order in which it was asked for."""
        timer = _Timer(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        """Have it called so many virtual seconds from now."""
        when = self._instant + delay
        timer = _Timer(when, callback, args, self, context)
        heapq.heappush(self._timers, (when, next(self._numbers), timer))
        return timer

    async def pause(self, seconds: float) -> None:
        """Sleep, for less than `asyncio.sleep` asks: nothing else waits as often as this world."""
        waker = self.create_future()
        timer = self.call_later(seconds, _wake, waker)
        try:
            await waker
        finally:
            timer.cancel()

    def create_task(  # type: ignore[override]
        self, coro: Coroutine[Any, Any, T], *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[T]:
        """Begin a task in the process to which the context belongs."""
        owner = _OWNER.get(self.world) if context is None else context.get(_OWNER, self.world)
        task = NumberedTask(coro, next(self._numbers), owner, loop=self, name=name, context=context)
        owner.tasks.add(task)
        if owner.is_dead:  # its last step began this; it never runs, and is buried with the rest
            self._dead.append(task)
        return task

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """Nothing is to be done: a cancelled timer is passed over when its time comes."""

    def _asyncgen_finalizer_hook(self, agen: Any) -> None:
        """A generator that is forgotten belonged to a process that died: nothing of it runs any more."""
        self._asyncgens.discard(agen)  # type: ignore[attr-defined]

    def _write_to_self(self) -> None:
        """Nobody sleeps who would have to be woken."""

    def _process_events(self, event_list: list[Any]) -> None:
        """There are no sockets."""

    def _run_once(self) -> None:
        if not self._run_what_is_ready():
            self._move_on()
            self._run_what_is_ready()

    def _run_what_is_ready(self) -> bool:
        ran, owners = False, list(self._owners)
        if self._arrange is not None:
            self._arrange(owners)
        for owner in owners:
            if owner.ready and not owner.is_stopped:
                ran = True
                self._run_those_of(owner)
        return ran

    def _run_those_of(self, owner: Owner) -> None:
        ready, ran = owner.ready, 0
        if self._arrange is not None:
            now = list(ready)
            self._arrange(now)
            ready.clear()
            ready.extend(now)
        for _ in range(len(ready)):
            if not ready or owner.is_stopped:  # it died, or was stopped, in the midst of it
                break
            handle = ready.popleft()
            if not handle._cancelled:
                ran += 1
                try:
                    handle._context.run(handle._callback, *handle._args)
                except Exception as error:  # noqa: BLE001 - as every loop does
                    self._complain(self, {"message": f"Exception in callback {handle!r}", "exception": error})
        self._in_this_moment += ran
        if self._in_this_moment > self.MOST_IN_A_MOMENT:
            raise Stuck("The same moment never ends: something runs in circles.")

    def _move_on(self) -> None:
        """Go to the next moment at which something is due."""
        timers = self._timers
        while timers and timers[0][2]._cancelled:
            heapq.heappop(timers)
        if not timers:
            raise Stuck("Nothing is left to happen: somebody waits for ever.")
        when = timers[0][0]
        self._instant, self._in_this_moment = max(self._instant, when), 0
        while timers and timers[0][0] <= when:
            timer = heapq.heappop(timers)[2]
            owner = timer._context.get(_OWNER, self.world)
            if not timer._cancelled and not owner.is_dead:
                owner.ready.append(timer)
