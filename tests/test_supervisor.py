"""The supervisor: a task that fails is reported, restarts after growing pauses, and counts as failing after ten times in a row."""

from __future__ import annotations

import asyncio

import pytest

from alphapo_async.core.errors import ConfigurationError
from alphapo_async.supervisor import Supervisor
from tests.support.logs import raising_at
from tests.support.virtual import run


class Failing:
    """A job that fails some times, and what is reported of it, each with the time."""

    def __init__(self, times: int, error: type[BaseException] = ValueError) -> None:
        self.left = times
        self.error = error
        self.began: list[float] = []
        self.reported: list[tuple[float, str, str]] = []
        self.supervisor = Supervisor(self.report)

    def report(self, task: str, error: BaseException) -> None:
        """Keep a report."""
        self.reported.append((asyncio.get_running_loop().time(), task, type(error).__name__))

    async def job(self) -> str:
        """Fail, or return."""
        self.began.append(asyncio.get_running_loop().time())
        self.left -= 1
        if self.left >= 0:
            raise self.error("hunter2")
        return "done"


def test_a_task_that_fails_restarts_after_pauses_that_double() -> None:
    """From 1 s up to 30 s; it is reported once a minute."""
    failing = Failing(8)
    assert run(failing.supervisor.until_done("work", failing.job)) == "done"
    assert failing.began == [0.0, 1.0, 3.0, 7.0, 15.0, 31.0, 61.0, 91.0, 121.0]
    assert failing.reported == [(0.0, "work", "ValueError"), (61.0, "work", "ValueError")]


def test_every_failure_is_logged_with_its_traceback_and_without_its_text(caplog: pytest.LogCaptureFixture) -> None:
    """The text may hold anything. Without anyone to report to, the log is all."""
    failing = Failing(3)
    failing.supervisor = Supervisor()
    run(failing.supervisor.until_done("work", failing.job))
    assert [record.levelname for record in caplog.records] == ["ERROR"] * 3
    assert "work, failure 3 in a row: ValueError\n" in caplog.text
    assert "in job" in caplog.text
    assert "hunter2" not in caplog.text.replace('self.error("hunter2")', "")


def test_a_task_restarts_although_its_failure_cannot_be_reported(caplog: pytest.LogCaptureFixture) -> None:
    """A filter of the log raises, or what is called does: the failure counts, and the task does not end for that."""

    def raising(_task: str, _error: BaseException) -> None:
        raise OSError

    failing = Failing(3)
    with raising_at(caplog):
        assert run(failing.supervisor.until_done("work", failing.job)) == "done"
    deaf = Failing(3)
    deaf.supervisor = Supervisor(raising)
    assert run(deaf.supervisor.until_done("work", deaf.job)) == "done"
    assert failing.began == deaf.began == [0.0, 1.0, 3.0, 7.0]
    assert failing.reported == [(0.0, "work", "ValueError")]


def test_ten_failures_in_a_row_count_as_failing_until_one_success() -> None:
    """Nine do not."""

    async def story() -> list[tuple[str, ...]]:
        failing, seen = Failing(10), list[tuple[str, ...]]()
        task = asyncio.create_task(failing.supervisor.until_done("work", failing.job))
        for second in (150.5, 15.0, 30.0):
            await asyncio.sleep(second)
            seen.append(failing.supervisor.failing)
        assert await task == "done"
        return seen

    assert run(story()) == [(), ("work",), ()]


@pytest.mark.parametrize("error", [asyncio.CancelledError, ConfigurationError, KeyboardInterrupt])
def test_what_no_restart_helps_against_passes(error: type[BaseException]) -> None:
    """A cancelled task, a closed client and the end of the program; it does not count as failing."""

    async def story() -> None:
        failing = Failing(1, error)
        try:
            await failing.supervisor.until_done("work", failing.job)
        except (asyncio.CancelledError, ConfigurationError, KeyboardInterrupt) as raised:
            assert isinstance(raised, error)  # noqa: PT017 - a KeyboardInterrupt ends a task's loop, too
        assert (failing.reported, failing.supervisor.failing) == ([], ())

    run(story())


def test_a_task_that_is_cancelled_fails_no_more() -> None:
    """Also in its pause."""

    async def story() -> tuple[str, ...]:
        failing = Failing(100)
        task = asyncio.create_task(failing.supervisor.until_done("work", failing.job))
        await asyncio.sleep(500)
        assert failing.supervisor.failing == ("work",)
        task.cancel()
        await asyncio.wait({task})
        return failing.supervisor.failing

    assert run(story()) == ()


def test_an_attempt_ends_with_its_error() -> None:
    """It is reported and not raised."""

    async def story() -> tuple[int, int]:
        failing = Failing(0)
        for _ in range(12):
            with failing.supervisor.attempt("watch"):
                raise OSError
        before = len(failing.supervisor.failing)
        with failing.supervisor.attempt("watch"):
            pass
        return before, len(failing.supervisor.failing)

    assert run(story()) == (1, 0)
