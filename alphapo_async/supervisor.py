"""Keeps background tasks running: one place decides what happens when one of them meets an unexpected error.

The error is logged with its traceback, but without its text, which may hold anything. The task is reported as failed at most once a
minute, and restarts after a pause that doubles with every failure in a row.
"""

from __future__ import annotations

import asyncio
import logging
import traceback
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from math import inf
from typing import Final, TypeVar

from alphapo_async.core.errors import ConfigurationError
from alphapo_async.core.retry_policy import backoff

__all__ = ["Supervisor", "log_error"]

logger = logging.getLogger("alphapo_async")

T = TypeVar("T")

_FIRST_PAUSE: Final = 1.0
_LONGEST_PAUSE: Final = 30.0
"""Seconds between a failure and the restart."""
_BETWEEN_REPORTS: Final = 60.0
"""Seconds between two reports of one task."""
_TOO_MANY: Final = 10
"""Failures in a row after which a task counts as failing."""


def log_error(where: str, error: BaseException) -> None:
    """Log an unexpected error with its traceback, and without its text, which may hold anything."""
    frames = "".join(traceback.format_tb(error.__traceback__))
    with suppress(Exception):  # a filter of the log may raise, and must not end what logs an error in order to continue
        logger.error("%s: %s\n%s", where, type(error).__name__, frames, extra={"foreign_id": None})


def _not_reported(task: str, error: BaseException) -> None:
    """Report nothing: the log has it."""


class Supervisor:
    """Restarts background tasks that fail.

    Args:
        on_failed: called with a task's name and its error, at most once a minute for each task.
        sleep: waits.
    """

    def __init__(
        self,
        on_failed: Callable[[str, BaseException], None] = _not_reported,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._on_failed = on_failed
        self._sleep = sleep
        self._failures: dict[str, int] = {}
        """How often each task has failed in a row."""
        self._reported: dict[str, float] = {}
        """When each task was reported last, on the loop's clock."""

    @property
    def failing(self) -> tuple[str, ...]:
        """The tasks that have failed 10 times in a row or more."""
        return tuple(sorted(task for task, count in self._failures.items() if count >= _TOO_MANY))

    async def until_done(self, task: str, job: Callable[[], Awaitable[T]]) -> T:
        """Await the job, and await it anew after each unexpected error; return what it returns.

        Raises:
            ConfigurationError: the job cannot be done at all, as after closing; a restart would not help.
        """
        try:
            while True:
                try:
                    return await job()
                except ConfigurationError:
                    raise
                except Exception as error:  # noqa: BLE001 - it is reported, and the task restarts
                    pause = self.failed(task, error)
                await self._sleep(pause)
        finally:
            self.succeeded(task)  # also one that was cancelled fails no more

    @contextmanager
    def attempt(self, task: str) -> Iterator[None]:
        """Run the block; an unexpected error ends the block only."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - it is reported
            self.failed(task, error)
        else:
            self.succeeded(task)

    def succeeded(self, task: str) -> None:
        """Count the task's failures from zero again."""
        self._failures.pop(task, None)

    def failed(self, task: str, error: BaseException) -> float:
        """Log the error, report the task if it is due, and return the seconds after which the task should restart."""
        count = self._failures[task] = self._failures.get(task, 0) + 1
        log_error(f"{task}, failure {count} in a row", error)
        now = asyncio.get_running_loop().time()
        if now - self._reported.get(task, -inf) >= _BETWEEN_REPORTS:
            self._reported[task] = now
            with suppress(Exception):  # likewise: the event is logged, too
                self._on_failed(task, error)
        return backoff(count, _FIRST_PAUSE, _LONGEST_PAUSE)
