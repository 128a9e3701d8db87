"""The demo's payments, in this process or in a worker that is killed half way.

The worker is a process of its own: it pays the first rows of the bundled CSV and says on its standard output, a JSON line each, what
happened and what its callers got.
"""

from __future__ import annotations

import asyncio
import contextlib
import csv
import sys
from collections.abc import Callable, Iterable, Mapping
from importlib.resources import files
from typing import Any, Final, TypeAlias

import msgspec

from alphapo_async.cli.loop import run
from alphapo_async.cli.sandbox import KEY, SECRET
from alphapo_async.client import AlphapoClient
from alphapo_async.core.errors import InvalidRequest, JournalError, WithdrawalError
from alphapo_async.core.events import Event
from alphapo_async.core.models import WithdrawalRequest
from alphapo_async.core.retry_policy import RetryPolicy

__all__ = ["POLICY", "News", "OutcomeReported", "news_of", "open_client", "pay_all", "pay_until_killed", "read_rows"]

# Short waits, since the sandbox is near: it answers within a second or not at all, and accepts nothing later than half a second after it
# arrived. As with the usual figures, a caller gets its outcome before the quiet time has passed: until then a refusal after a lost reply
# leaves it unknown.
POLICY: Final = RetryPolicy(attempts=6, deadline=5.0, attempt_timeout=1.0, wait_initial=0.05, wait_max=1.0, quiet=6.0)
_AT_ONCE: Final = 64  # withdrawals


class OutcomeReported(msgspec.Struct, frozen=True, tag=True):
    """What the caller of one row got."""

    foreign_id: str
    outcome: str


class Happened(msgspec.Struct, frozen=True, tag=True):
    """An event of the client."""

    event: Event


News: TypeAlias = OutcomeReported | Happened
_WORKER: Final = "import sys; from alphapo_async.cli.demo_payments import main; main(*sys.argv[1:])"
_decode = msgspec.json.Decoder(News).decode


def read_rows() -> list[WithdrawalRequest]:
    """Return the rows of the bundled CSV; an empty cell is a field that was not given."""
    lines = files("alphapo_async.cli").joinpath("demo.csv").read_text(encoding="utf-8").splitlines()
    return [_request(row) for row in csv.DictReader(lines)]


def _request(row: Mapping[str, Any]) -> WithdrawalRequest:
    return WithdrawalRequest(**{name: cell for name, cell in row.items() if cell})


def open_client(url: str, journal: str, on_event: Callable[[Event], None]) -> AlphapoClient:
    """Return a client of the demo's sandbox."""
    return AlphapoClient(KEY, SECRET, base_url=url, journal=journal, policy=POLICY, on_event=on_event)


async def pay_all(
    client: AlphapoClient, requests: Iterable[WithdrawalRequest], report: Callable[[str, str], None]
) -> dict[str, str]:
    """Pay many at once, each in a task of its own, and return what each caller got."""
    reported: dict[str, str] = {}
    places = asyncio.Semaphore(_AT_ONCE)

    async def pay(request: WithdrawalRequest) -> None:
        async with places:
            reported[request.foreign_id] = outcome = await _pay(client, request)
        report(request.foreign_id, outcome)

    async with asyncio.TaskGroup() as group:
        for request in requests:
            group.create_task(pay(request))
    return reported


async def _pay(client: AlphapoClient, request: WithdrawalRequest) -> str:
    try:
        await client.withdraw(request)
    except (WithdrawalError, JournalError) as error:
        return error.outcome
    except InvalidRequest:
        return "invalid"
    return "accepted"


# ── the worker that is killed ────────────────────────────────────────────────────────────────────────────────────────


def news_of(line: bytes) -> News:
    """Return what a line of the worker says."""
    news: News = _decode(line)
    return news


async def pay_until_killed(
    url: str, journal: str, rows: int, on_news: Callable[[News], None], *, kill_after: int
) -> None:
    """Have a worker pay the first rows, and kill it as soon as so many callers have their outcome, or the demo is interrupted.

    A Ctrl-C in the terminal goes to the demo alone: the worker has a session of its own.
    """
    command = (sys.executable, "-c", _WORKER, url, journal, str(rows))
    worker = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, start_new_session=True)
    assert worker.stdout is not None  # noqa: S101 - a pipe was asked for
    reported = 0
    try:
        async for line in worker.stdout:
            news = news_of(line)
            on_news(news)
            reported += isinstance(news, OutcomeReported)
            if reported >= kill_after:
                break
    finally:
        with contextlib.suppress(ProcessLookupError):  # it has ended by itself
            worker.kill()
        await worker.wait()


async def work(url: str, journal: str, rows: int, say: Callable[[bytes], object]) -> None:
    """Be that worker."""

    def report(news: News) -> None:
        say(msgspec.json.encode(news) + b"\n")

    async with open_client(url, journal, lambda event: report(Happened(event))) as client:
        await pay_all(
            client, read_rows()[:rows], lambda foreign_id, outcome: report(OutcomeReported(foreign_id, outcome))
        )


def main(url: str, journal: str, rows: str) -> None:
    """Be that worker, and say all at once what is said."""
    out = sys.stdout.buffer

    def say(line: bytes) -> None:
        out.write(line)
        out.flush()

    run(work(url, journal, int(rows), say))
